//! A store on disk answers as one in memory does, whatever is appended and whenever it is opened
//! again.

// A failed unwrap is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::fmt::Debug;

use common::{Random, append, new_batch, open, spec, wait};
use optwasm_protocol::message::{AttemptEnd, BatchSpec, Ending, Instance, Memo, Order, WorkerInfo};
use optwasm_protocol::{
    BatchId, ContentId, JobId, Limits, Loss, Namespace, Outcome, Payload, Report, TrapKind,
    WorkerId,
};
use optwasm_store::sqlite::{Damage, check};
use optwasm_store::{MemoryStore, Record, SqliteStore, Store, Witness};

const BATCHES: u64 = 6;

/// What has been appended, as far as records must make sense together.
struct World {
    random: Random,
    next: u64,
    jobs: Vec<(u64, u32)>,
}

impl World {
    fn spec(&mut self) -> BatchSpec {
        let mut spec = spec();
        spec.memo = Memo::Off;
        spec.name = format!("batch {}", self.next);
        spec.id = (self.random.below(2) == 0).then(|| format!("key {}", self.next));
        spec.template.args = vec!["x".repeat(self.random.below(2000) as usize)];
        spec
    }

    fn bytes(&mut self) -> Vec<u8> {
        let len = match self.random.below(20) {
            0 => 40_000,
            1 => 0,
            _ => self.random.below(50),
        };
        (0..len).map(|_| self.random.next() as u8).collect()
    }

    fn payload(&mut self) -> Payload {
        match self.random.below(5) {
            0 => Payload::Blob(self.random.next(), ContentId::of(&self.bytes())),
            _ => self.bytes().into(),
        }
    }

    fn report(&mut self) -> Report {
        let outcome = match self.random.below(6) {
            0 => Outcome::OutOfFuel,
            1 => Outcome::Cancelled,
            2 => Outcome::Trap {
                kind: TrapKind::NullReference,
                frames: vec!["f".to_owned()],
            },
            3 => Outcome::WorkerLost(vec![Loss {
                worker: WorkerId(3),
                worker_name: "w".to_owned(),
                attempt: 1,
            }]),
            _ => Outcome::Ok(self.payload()),
        };
        Report {
            fuel: self.random.below(1 << 40),
            peak_memory: self.random.next(),
            wall_us: self.random.below(1 << 40),
            attempt: self.random.below(5) as u32,
            memo: self.random.below(4) == 0,
            witnesses: vec!["v".to_owned(); self.random.below(3) as usize],
            worker: "w".repeat(self.random.below(4) as usize),
            ..Report::not_run(outcome)
        }
    }

    fn job(&mut self) -> JobId {
        // Now and then one of a batch that does not exist.
        match self.jobs.len() {
            0 => JobId(BatchId(77), 0),
            count => {
                let (batch, jobs) = self.jobs[self.random.below(count as u64) as usize];
                JobId(BatchId(batch), self.random.below(u64::from(jobs)) as u32)
            }
        }
    }

    fn record(&mut self) -> Record {
        let job = self.job();
        match self.random.below(100) {
            0..5 if self.jobs.len() < BATCHES as usize => {
                let number = self.next;
                self.next += 1 + self.random.below(3);
                let count = match self.random.below(4) {
                    0 => 5000,
                    _ => 1 + self.random.below(40),
                };
                let inputs = (0..count).map(|_| self.payload()).collect();
                self.jobs.push((number, count as u32));
                let spec = self.spec();
                new_batch(number, spec, inputs, "engine")
            }
            0..80 => Record::Result(job, Box::new(self.report()), String::new()),
            80..84 => Record::Attempt(
                job,
                AttemptEnd {
                    attempt: self.random.below(9) as u32,
                    worker: WorkerId(1),
                    worker_name: "w".to_owned(),
                    ended_ms: self.random.below(1 << 40),
                    ending: Ending::Lost { blamed: true },
                },
            ),
            84..88 => {
                let worker = WorkerId(self.random.below(9));
                let report = self.report();
                Record::Witness(job, Box::new(Witness { worker, report }))
            }
            88..90 => Record::Compared(job.0, self.random.below(2) == 0),
            90 => Record::Cancelled(job.0),
            91 => Record::Ended(job.0, 1 + self.random.below(1000)),
            92..98 => {
                let first = job.1;
                let jobs = vec![first..first + 1, first + 3..first + 6];
                let limits = (self.random.below(2) == 0).then(|| Limits {
                    fuel: self.random.below(1000),
                    ..Limits::default()
                });
                Record::Reopened(job.0, jobs, limits)
            }
            98 if self.jobs.len() == BATCHES as usize => {
                self.jobs.retain(|(batch, _)| *batch != job.0.0);
                Record::Removed(job.0)
            }
            _ => Record::Worker(
                WorkerId(self.random.below(100)),
                Box::new(WorkerInfo {
                    name: "w".to_owned(),
                    slots: 1,
                    memory: 1,
                    labels: Default::default(),
                    engine: "e".to_owned(),
                    instance: Instance([1; 16]),
                    probe: String::new(),
                }),
            ),
        }
    }
}

fn same<T: PartialEq + Debug>(disk: T, memory: T) {
    assert_eq!(disk, memory);
}

fn compare(disk: &SqliteStore, memory: &MemoryStore, world: &mut World) {
    same(disk.batches(3), memory.batches(3));
    let mut early = disk.ended_before(500, 100);
    early.sort();
    same(early, memory.ended_before(500, 100));
    for batch in (1..world.next + 1).map(BatchId) {
        let (found, known) = (disk.batch(batch), memory.batch(batch));
        same(format!("{found:?}"), format!("{known:?}"));
        let key = format!("key {batch}");
        same(
            disk.batch_by_key(&Namespace::default(), &key),
            memory.batch_by_key(&Namespace::default(), &key),
        );
        same(disk.ended_jobs(batch, None), memory.ended_jobs(batch, None));
        let names = ["ok".to_owned(), "cancelled".to_owned()];
        same(
            disk.ended_jobs(batch, Some(&names)),
            memory.ended_jobs(batch, Some(&names)),
        );
        let max_bytes = 1 + world.random.below(20_000) as usize;
        for order in [Order::Input, Order::Completion] {
            let mut cursor = 0;
            loop {
                let page = disk.results(batch, order, cursor, max_bytes);
                let known = memory.results(batch, order, cursor, max_bytes);
                same(format!("{page:?}"), format!("{known:?}"));
                match page {
                    Some(page) if !page.results.is_empty() => cursor = page.cursor,
                    _ => break,
                }
            }
        }
    }
    for _ in 0..30 {
        let job = world.job();
        same(disk.input(job), memory.input(job));
        same(disk.limits(job), memory.limits(job));
        same(disk.result(job), memory.result(job));
        same(disk.attempts(job), memory.attempts(job));
        same(disk.witnesses(job), memory.witnesses(job));
    }
}

fn restores(disk: &SqliteStore, memory: &MemoryStore, world: &World) {
    let restored = disk.restore().unwrap();
    assert!(restored.damaged.is_empty(), "{:?}", restored.damaged);
    let expected: Vec<BatchId> = world
        .jobs
        .iter()
        .map(|(batch, _)| BatchId(*batch))
        .filter(|batch| memory.batch(*batch).unwrap().ended_ms == 0)
        .collect();
    let found: Vec<BatchId> = restored.batches.iter().map(|batch| batch.batch).collect();
    assert_eq!(found, expected);
    assert!(
        restored.next_batch
            > world
                .jobs
                .iter()
                .map(|(batch, _)| *batch)
                .max()
                .unwrap_or(0)
    );
    for batch in restored.batches {
        let finished = memory.ended_jobs(batch.batch, None);
        assert_eq!(batch.finished, finished);
        assert!(batch.parked.is_empty());
        let expected: Vec<(u32, AttemptEnd)> = (0..batch.jobs)
            .filter(|index| !finished.iter().any(|range| range.contains(index)))
            .flat_map(|index| {
                let ends = memory.attempts(JobId(batch.batch, index));
                ends.into_iter().map(move |end| (index, end))
            })
            .collect();
        assert_eq!(batch.attempts, expected);
    }
}

#[test]
fn a_store_on_disk_answers_as_one_in_memory() {
    for seed in 0..8 {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = open(dir.path());
        let memory = MemoryStore::new(u64::MAX);
        let mut world = World {
            random: Random(seed),
            next: 1,
            jobs: Vec::new(),
        };
        for round in 0..60 {
            let records: Vec<Record> = (0..1 + world.random.below(60))
                .map(|_| world.record())
                .collect();
            // Some of them at once, some in commits of their own.
            let (mut commits, mut rest) = (Vec::new(), records.as_slice());
            while !rest.is_empty() {
                let count = 1 + world.random.below(rest.len() as u64) as usize;
                let (now, later) = rest.split_at(count);
                commits.push(disk.append(now.to_vec()).unwrap());
                drop(memory.append(now.to_vec()).unwrap());
                rest = later;
            }
            wait(async {
                for commit in commits {
                    commit.wait().await.unwrap();
                }
            });
            if round % 6 == 0 {
                compare(&disk, &memory, &mut world);
            }
            if world.random.below(10) == 0 {
                drop(disk);
                disk = open(dir.path());
                restores(&disk, &memory, &world);
            }
        }
        compare(&disk, &memory, &mut world);
        drop(disk);
        let found = check(dir.path(), false).unwrap();
        // Blobs were named and never sent.
        let damage = found.damage.into_iter();
        let damage: Vec<Damage> = damage.filter(|d| !d.what.starts_with("blob ")).collect();
        assert_eq!(damage, []);
    }
}

#[test]
fn numbers_are_never_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert_eq!(store.restore().unwrap().next_batch, 1);
    append(&store, vec![common::batch(41, spec(), &[b"a"], "")]).unwrap();
    append(&store, vec![Record::Removed(BatchId(41))]).unwrap();
    let info = WorkerInfo {
        name: "w".to_owned(),
        slots: 2,
        memory: 1 << 30,
        labels: [("gpu".to_owned(), "no".to_owned())].into(),
        engine: "e".to_owned(),
        instance: Instance([7; 16]),
        probe: "p".to_owned(),
    };
    let holds = vec![(JobId(BatchId(41), 3), 1), (JobId(BatchId(40), 9), 2)];
    let worker = |number| Record::Worker(WorkerId(number), Box::new(info.clone()));
    append(&store, vec![worker(7), worker(8), worker(9)]).unwrap();
    append(
        &store,
        vec![
            Record::Holds(WorkerId(7), holds[..1].to_vec()),
            Record::Holds(WorkerId(7), holds.clone()),
            Record::Holds(WorkerId(8), holds.clone()),
            Record::WorkerGone(WorkerId(9)),
            Record::WorkerGone(WorkerId(8)),
            Record::Holds(WorkerId(8), holds.clone()),
        ],
    )
    .unwrap();
    drop(store);
    let store = open(dir.path());
    let restored = store.restore().unwrap();
    assert_eq!((restored.next_batch, restored.next_worker), (42, 10));
    assert_eq!(restored.workers.len(), 1);
    assert_eq!(restored.workers[0].worker, WorkerId(7));
    assert_eq!(restored.workers[0].info, info);
    assert_eq!(restored.workers[0].holds, holds);
}

#[test]
fn a_second_batch_with_a_key_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let with_key = |number| {
        let mut spec = spec();
        spec.id = Some("key".to_owned());
        common::batch(number, spec, &[b"a"], "")
    };
    // All in one transaction, if they arrive while the first is written.
    let commits: Vec<_> = [
        with_key(1),
        with_key(2),
        common::batch(3, spec(), &[b"a"], ""),
    ]
    .into_iter()
    .map(|record| store.append(vec![record]).unwrap())
    .collect();
    let ends: Vec<bool> = wait(async {
        let mut ends = Vec::new();
        for commit in commits {
            ends.push(commit.wait().await.is_ok());
        }
        ends
    });
    assert_eq!(ends, [true, false, true]);
    assert_eq!(store.batches(9), [BatchId(1), BatchId(3)]);
    assert_eq!(
        store.batch_by_key(&Namespace::default(), "key").unwrap().0,
        BatchId(1)
    );
}
