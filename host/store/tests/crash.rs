//! What was acknowledged survives a crash at any moment, a full disk, and a disk that fails.
//!
//! A fixed course of events runs on a simulated disk (see `disk`), once without faults, when the
//! answers after each step are noted, and then once for each place where something can go wrong.
//! Afterwards the store is opened on what has survived, and must answer as it did after some step
//! that is no earlier than the last acknowledged one.

// A failed unwrap is a failed test.
#![allow(clippy::unwrap_used)]

mod common;
mod disk;

use std::path::Path;

use common::{Random, job, ok, result, spec, wait};
use disk::{Disk, Fault};
use optwasm_protocol::message::{AttemptEnd, BatchSpec, Ending, Instance, Memo, Order, WorkerInfo};
use optwasm_protocol::{BatchId, Limits, Namespace, Outcome, Report, WorkerId};
use optwasm_store::{Record, SqliteOptions, SqliteStore, Store, StoreError, Witness};

const ENGINE: &str = "engine";

/// What is appended at once: one commit each, of which none waits for another.
type Burst = Vec<Vec<Record>>;

/// One thing after the other.
enum Step {
    Append(Burst),
    /// The store is closed and opened again.
    Reopen,
}

fn keyed(number: u64, memo: Memo) -> BatchSpec {
    let mut spec = spec();
    spec.id = Some(format!("key {number}"));
    spec.memo = memo;
    spec
}

fn course() -> Vec<Step> {
    let batch = |number, memo, count: u8, size: usize| {
        let inputs: Vec<Vec<u8>> = (0..count).map(|index| vec![index % 20; size]).collect();
        let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        vec![common::batch(number, keyed(number, memo), &inputs, ENGINE)]
    };
    let end = |number, index| result(job(number, index), ok(&[number as u8; 60]), ENGINE);
    let worker = Record::Worker(
        WorkerId(1),
        Box::new(WorkerInfo {
            name: "w".to_owned(),
            slots: 1,
            memory: 1,
            labels: Default::default(),
            engine: ENGINE.to_owned(),
            instance: Instance([1; 16]),
            probe: String::new(),
        }),
    );
    let attempt = Record::Attempt(
        job(1, 19),
        AttemptEnd {
            attempt: 1,
            worker: WorkerId(1),
            worker_name: "w".to_owned(),
            ended_ms: 5,
            ending: Ending::Witness,
        },
    );
    let witness = Witness {
        worker: WorkerId(1),
        report: ok(b"w"),
    };
    let deadline = || Report::not_run(Outcome::Deadline);
    vec![
        Step::Append(vec![vec![worker]]),
        Step::Append(vec![batch(1, Memo::On, 30, 100)]),
        Step::Append(vec![
            vec![end(1, 0), end(1, 1)],
            vec![Record::Holds(WorkerId(1), vec![(job(1, 2), 1)])],
            vec![
                end(1, 3),
                attempt,
                Record::Witness(job(1, 19), Box::new(witness)),
            ],
        ]),
        Step::Append(vec![batch(2, Memo::On, 25, 100)]),
        Step::Reopen,
        Step::Append(vec![
            vec![result(job(1, 4), deadline(), ENGINE)],
            vec![
                result(job(1, 5), ok(b"5"), ENGINE),
                Record::Compared(BatchId(1), true),
            ],
        ]),
        Step::Append(vec![batch(3, Memo::Off, 40, 2000)]),
        Step::Append((0..6).map(|index| vec![end(3, index)]).collect()),
        Step::Append(vec![vec![
            Record::Cancelled(BatchId(2)),
            result(job(2, 21), Report::not_run(Outcome::Cancelled), ""),
        ]]),
        Step::Append(vec![vec![Record::Reopened(
            BatchId(3),
            vec![1..3, 5..6],
            Some(Limits::default()),
        )]]),
        Step::Reopen,
        Step::Append(vec![vec![Record::Removed(BatchId(1))], vec![end(3, 1)]]),
        Step::Append(vec![(6..40).map(|index| end(3, index)).collect()]),
        Step::Append(vec![vec![
            end(3, 2),
            end(3, 5),
            Record::Ended(BatchId(3), 9),
        ]]),
        Step::Append(vec![batch(4, Memo::On, 25, 100)]),
        Step::Reopen,
    ]
}

fn open(dir: &Path, vfs: &str) -> Result<SqliteStore, StoreError> {
    let options = SqliteOptions {
        reserve: 0,
        vfs: Some(vfs.to_owned()),
        ..SqliteOptions::default()
    };
    SqliteStore::open(dir, options)
}

/// All that a store answers.
fn ask(store: &SqliteStore) -> String {
    let mut restored = store.restore().unwrap();
    // Random.
    restored.life = 0;
    let mut text = format!("{restored:?}\n");
    for batch in (1..=4).map(BatchId) {
        text += &format!("{:?}\n", store.batch(batch));
        text += &format!(
            "{:?}\n",
            store.batch_by_key(&Namespace::default(), &format!("key {batch}"))
        );
        for order in [Order::Input, Order::Completion] {
            text += &format!("{:?}\n", store.results(batch, order, 0, usize::MAX));
        }
        text += &format!("{:?}\n", store.ended_jobs(batch, None));
        for index in 0..41 {
            let job = job(batch.0, index);
            text += &format!("{:?} ", store.input(job));
            text += &format!("{:?} ", store.limits(job));
            text += &format!("{:?} ", store.attempts(job));
            text += &format!("{:?}\n", store.witnesses(job));
        }
    }
    text
}

/// How far a run came.
struct Run {
    /// Commits that were appended, and those that were acknowledged.
    sent: usize,
    done: usize,
    /// Answers after each commit, and before the first.
    answers: Vec<String>,
}

/// Runs the course until the end, or until the store fails.
fn run(dir: &Path, vfs: &str, note: bool) -> Run {
    let mut run = Run {
        sent: 0,
        done: 0,
        answers: Vec::new(),
    };
    let Ok(mut store) = open(dir, vfs) else {
        return run;
    };
    if note {
        run.answers.push(ask(&store));
    }
    for step in course() {
        let burst = match step {
            Step::Reopen => {
                drop(store);
                match open(dir, vfs) {
                    Ok(opened) => store = opened,
                    Err(_) => return run,
                }
                continue;
            }
            Step::Append(burst) if note => burst.into_iter().map(|commit| vec![commit]).collect(),
            Step::Append(burst) => vec![burst],
        };
        for commits in burst {
            if append(&store, commits, &mut run).is_err() {
                return run;
            }
            if note {
                run.answers.push(ask(&store));
            }
        }
    }
    run
}

/// Appends commits at once. New work that finds no room is sent again until it does, as a client
/// would.
fn append(store: &SqliteStore, commits: Burst, run: &mut Run) -> Result<(), StoreError> {
    if let [alone] = commits.as_slice()
        && let [Record::Submitted(_)] = alone.as_slice()
    {
        run.sent += 1;
        loop {
            let appended = store.append(alone.clone());
            match appended.and_then(|commit| wait(commit.wait())) {
                Err(StoreError::Full { .. } | StoreError::Disk(_)) => {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                Err(error) => return Err(error),
                Ok(_) => break,
            }
        }
        run.done += 1;
        return Ok(());
    }
    let mut pending = Vec::new();
    for commit in commits {
        run.sent += 1;
        pending.push(store.append(commit)?);
    }
    for commit in pending {
        wait(commit.wait())?;
        run.done += 1;
    }
    Ok(())
}

/// Runs the course without faults; gives the answers after each commit.
fn truth(dir: &Path, disk: &Disk, vfs: &str) -> Vec<String> {
    let known = run(dir, vfs, true);
    assert_eq!(known.sent + 1, known.answers.len());
    assert_eq!(known.sent, known.done);
    disk.clear();
    known.answers
}

/// Opens the store on what has survived, and compares.
fn verify(dir: &Path, vfs: &str, run: &Run, truth: &[String], place: &str) {
    let store = open(dir, vfs).unwrap_or_else(|error| panic!("{place}: {error}"));
    let answers = ask(&store);
    let possible = &truth[run.done..=run.sent];
    assert!(
        possible.contains(&answers),
        "{place}: {} of {} commits acknowledged, but the answers are those after {:?}",
        run.done,
        run.sent,
        truth.iter().position(|known| *known == answers)
    );
    drop(store);
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE;
    let path = dir.join("store.sqlite");
    let conn = rusqlite::Connection::open_with_flags_and_vfs(path, flags, vfs).unwrap();
    let found: String = conn
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(found, "ok", "{place}");
}

#[test]
fn a_crash_at_any_moment_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::register("crashes");
    let truth = truth(dir.path(), &disk, "crashes");
    disk.set_fault(Fault::None);
    run(dir.path(), "crashes", false);
    let (changes, ..) = disk.counts();
    disk.clear();
    println!("{changes} places to crash");
    assert!(changes > 300, "{changes}");
    let mut random = Random(1);
    let mut at = 0;
    loop {
        disk.set_fault(Fault::Crash(at));
        let run = run(dir.path(), "crashes", false);
        let crashed = disk.has_crashed();
        disk.power_cycle(&mut random);
        verify(
            dir.path(),
            "crashes",
            &run,
            &truth,
            &format!("crash at {at}"),
        );
        disk.clear();
        if !crashed {
            break;
        }
        at += 1;
    }
    assert!(at > 300, "{at}");
}

/// Disks that are full at once: a store tries again only every half a second, and sleeps meanwhile.
const FULL_DISKS: usize = 12;

#[test]
fn a_disk_that_is_full_for_a_while_loses_nothing() {
    std::thread::scope(|scope| {
        for first in 0..FULL_DISKS {
            scope.spawn(move || full_for_a_while(first));
        }
    });
}

/// Every so many writes, from the first on, find no space.
fn full_for_a_while(first: usize) {
    let name = format!("full-{first}");
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::register(&name);
    let truth = truth(dir.path(), &disk, &name);
    disk.set_fault(Fault::None);
    run(dir.path(), &name, false);
    let (_, writes, _) = disk.counts();
    disk.clear();
    assert!(writes > 100, "{writes}");
    for at in (first as u64..writes).step_by(FULL_DISKS) {
        disk.set_fault(Fault::Full(at, 1 + at % 3));
        let mut run = run(dir.path(), &name, false);
        // A disk that is full when the store is opened keeps it from opening, and no more.
        if run.sent == run.done && run.done + 1 < truth.len() {
            disk.set_fault(Fault::None);
        } else {
            assert_eq!(run.done + 1, truth.len(), "write {at} finds no space");
        }
        run.sent = run.done;
        verify(
            dir.path(),
            &name,
            &run,
            &truth,
            &format!("write {at} finds no space"),
        );
        disk.power_cycle(&mut Random(at));
        verify(
            dir.path(),
            &name,
            &run,
            &truth,
            &format!("then a crash, {at}"),
        );
        disk.clear();
    }
}

#[test]
fn a_write_that_fails_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::register("writes");
    let truth = truth(dir.path(), &disk, "writes");
    disk.set_fault(Fault::None);
    run(dir.path(), "writes", false);
    let (_, writes, _) = disk.counts();
    disk.clear();
    for at in (0..writes).step_by(3) {
        disk.set_fault(Fault::Write(at));
        let run = run(dir.path(), "writes", false);
        disk.power_cycle(&mut Random(at));
        verify(
            dir.path(),
            "writes",
            &run,
            &truth,
            &format!("write {at} fails"),
        );
        disk.clear();
    }
}

#[test]
fn a_sync_that_fails_ends_the_store_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::register("syncs");
    let truth = truth(dir.path(), &disk, "syncs");
    let (mut at, mut fatal) = (0, 0);
    loop {
        disk.set_fault(Fault::Sync(at));
        let mut run = Run {
            sent: 0,
            done: 0,
            answers: Vec::new(),
        };
        if let Ok(store) = open(dir.path(), "syncs") {
            for step in course() {
                let Step::Append(burst) = step else { continue };
                if append(&store, burst, &mut run).is_err() {
                    // Once and for all, for everybody.
                    let again = store.append(vec![Record::Compared(BatchId(1), true)]);
                    assert!(matches!(again, Err(StoreError::Fatal(_))), "sync {at}");
                    assert!(store.health().refusing.is_some());
                    assert_eq!(store.room(), 0);
                    fatal += 1;
                    break;
                }
            }
        }
        let (_, _, syncs) = disk.counts();
        disk.power_cycle(&mut Random(at));
        verify(
            dir.path(),
            "syncs",
            &run,
            &truth,
            &format!("sync {at} fails"),
        );
        disk.clear();
        if syncs <= at {
            break;
        }
        at += 1;
    }
    println!("{at} syncs, {fatal} of them of commits");
    assert!(fatal > 10, "{fatal}");
}
