//! A simulated cluster with its own clock: workers start jobs in the order they got them, report
//! in bundles and may be killed by a job. Each test file uses a part of it.
// A failed unwrap is a failed test.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::{BTreeMap, VecDeque};

use optwasm_scheduler::{
    BatchId, BatchSpec, Claim, Config, Effect, Event, JobId, JobState, OutcomeClass, Scheduler,
    Then, Time, Verdict, WaitReason, WorkerId, WorkerSpec,
};

pub const TICK_US: u64 = 10_000;

pub fn job(batch: u64, index: u32) -> JobId {
    JobId {
        batch: BatchId(batch),
        index,
    }
}

/// The assignments among effects.
pub fn assigned(effects: &[Effect]) -> Vec<(WorkerId, JobId, u32)> {
    let assigned = effects.iter().filter_map(|effect| match *effect {
        Effect::Assign {
            worker,
            job,
            attempt,
        } => Some((worker, job, attempt)),
        _ => None,
    });
    assigned.collect()
}

/// One step with fresh effects.
pub fn step(scheduler: &mut Scheduler, now: u64, event: Event) -> Vec<Effect> {
    let mut effects = Vec::new();
    scheduler.step(Time(now), event, &mut effects);
    scheduler.sanity_check().unwrap();
    effects
}

pub fn submit(batch: u64, spec: BatchSpec) -> Event {
    Event::Submit {
        batch: BatchId(batch),
        spec,
        finished: vec![],
        parked: vec![],
        known: vec![],
    }
}

pub fn slots(slots: u32) -> WorkerSpec {
    WorkerSpec {
        slots,
        memory: 1 << 40,
        ..Default::default()
    }
}

pub fn joined(worker: u64, slots: u32) -> Event {
    joined_with(worker, slots, &[])
}

/// A worker joins and claims these attempts.
pub fn joined_with(worker: u64, slots: u32, holds: &[Claim]) -> Event {
    Event::WorkerJoined {
        worker: WorkerId(worker),
        spec: self::slots(slots),
        holds: holds.to_vec(),
    }
}

pub fn claim(job: JobId, attempt: u32) -> Claim {
    Claim { job, attempt }
}

pub fn assign(worker: u64, job: JobId, attempt: u32) -> Effect {
    Effect::Assign {
        worker: WorkerId(worker),
        job,
        attempt,
    }
}

pub fn revoke(worker: u64, job: JobId, attempt: u32) -> Effect {
    Effect::Revoke {
        worker: WorkerId(worker),
        job,
        attempt,
    }
}

/// A report with any outcome and wish.
pub fn reported(worker: u64, job: JobId, attempt: u32, class: OutcomeClass, then: Then) -> Event {
    Event::Finished {
        worker: WorkerId(worker),
        job,
        attempt,
        class,
        then,
        service_time_us: 1_000_000,
    }
}

pub fn why(scheduler: &Scheduler, job: JobId) -> WaitReason {
    match scheduler.job(job) {
        Some(JobState::Waiting(reason)) => reason,
        other => panic!("{job}: {other:?}"),
    }
}

pub fn finished(worker: u64, job: JobId, attempt: u32, service_time_us: u64) -> Event {
    let class = OutcomeClass::Ok;
    Event::Finished {
        worker: WorkerId(worker),
        job,
        attempt,
        class,
        then: Then::Decide,
        service_time_us,
    }
}

pub fn jobs(count: u32) -> BatchSpec {
    BatchSpec {
        count,
        ..Default::default()
    }
}

struct Running {
    claim: Claim,
    started: u64,
    ends: u64,
}

struct Node {
    spec: WorkerSpec,
    queue: VecDeque<Claim>,
    running: Vec<Running>,
    outbox: Vec<Event>,
}

pub struct Cluster {
    pub scheduler: Scheduler,
    pub now: u64,
    nodes: BTreeMap<WorkerId, Node>,
    /// Service time of a job in microseconds.
    pub service: Box<dyn Fn(JobId) -> u64>,
    /// Whether a job kills its worker when it ends.
    pub kills: Box<dyn Fn(JobId) -> bool>,
    /// Reports leave a worker at multiples of this; what has not left dies with it.
    pub report_every: u64,
    /// Whether a supervisor starts killed workers again, as new ones.
    pub restart: bool,
    next_tick: u64,
    /// Microseconds of service by batch.
    pub served: BTreeMap<BatchId, u64>,
    pub verdicts: BTreeMap<JobId, Verdict>,
    pub deaths: u64,
    /// The most jobs a worker ever held.
    pub held_most: usize,
    pub recalls: u64,
}

impl Cluster {
    pub fn new(service: impl Fn(JobId) -> u64 + 'static) -> Self {
        Cluster {
            scheduler: Scheduler::new(Config::default()),
            now: 0,
            nodes: BTreeMap::new(),
            service: Box::new(service),
            kills: Box::new(|_| false),
            report_every: 0,
            restart: true,
            next_tick: TICK_US,
            served: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            deaths: 0,
            held_most: 0,
            recalls: 0,
        }
    }

    pub fn join(&mut self, worker: u64, spec: WorkerSpec) {
        let id = WorkerId(worker);
        let node = Node {
            spec: spec.clone(),
            queue: VecDeque::new(),
            running: Vec::new(),
            outbox: Vec::new(),
        };
        self.nodes.insert(id, node);
        self.event(Event::WorkerJoined {
            worker: id,
            spec,
            holds: vec![],
        });
    }

    pub fn event(&mut self, event: Event) {
        let mut effects = Vec::new();
        self.scheduler.step(Time(self.now), event, &mut effects);
        for effect in effects {
            match effect {
                Effect::Assign {
                    worker,
                    job,
                    attempt,
                } => {
                    let node = self
                        .nodes
                        .get_mut(&worker)
                        .expect("assigned to a live worker");
                    node.queue.push_back(Claim { job, attempt });
                    self.held_most = self.held_most.max(node.queue.len() + node.running.len());
                }
                Effect::Revoke {
                    worker,
                    job,
                    attempt,
                } => {
                    let node = self
                        .nodes
                        .get_mut(&worker)
                        .expect("revoked from a live worker");
                    let claim = Claim { job, attempt };
                    node.queue.retain(|&queued| queued != claim);
                    node.running.retain(|running| running.claim != claim);
                }
                Effect::Recall {
                    worker,
                    job,
                    attempt,
                } => {
                    self.recalls += 1;
                    let node = self
                        .nodes
                        .get_mut(&worker)
                        .expect("recalled from a live worker");
                    let claim = Claim { job, attempt };
                    let before = node.queue.len();
                    node.queue.retain(|&queued| queued != claim);
                    if node.queue.len() < before {
                        node.outbox.push(Event::GivenBack {
                            worker,
                            jobs: vec![claim],
                        });
                    }
                }
                Effect::Done { job, verdict, .. } => {
                    assert!(
                        self.verdicts.insert(job, verdict).is_none(),
                        "{job} is done twice"
                    );
                }
                _ => {}
            }
        }
        self.start();
    }

    fn start(&mut self) {
        for node in self.nodes.values_mut() {
            while node.running.len() < node.spec.slots as usize {
                let Some(claim) = node.queue.pop_front() else {
                    break;
                };
                let ends = self.now + (self.service)(claim.job);
                node.running.push(Running {
                    claim,
                    started: self.now,
                    ends,
                });
            }
        }
    }

    fn report(&mut self) {
        let ids: Vec<WorkerId> = self.nodes.keys().copied().collect();
        for id in ids {
            let outbox = std::mem::take(&mut self.nodes.get_mut(&id).unwrap().outbox);
            for event in outbox {
                self.event(event);
            }
        }
    }

    /// Lets time pass until `end`.
    pub fn run_until(&mut self, end: u64) {
        loop {
            let reports = self
                .nodes
                .values()
                .any(|node| !node.outbox.is_empty())
                .then(|| {
                    let passed = self.now.checked_div(self.report_every);
                    passed.map_or(self.now, |n| (n + 1) * self.report_every)
                });
            let ends = self
                .nodes
                .values()
                .flat_map(|node| &node.running)
                .map(|r| r.ends)
                .min();
            let next = [Some(self.next_tick), reports, ends]
                .into_iter()
                .flatten()
                .min()
                .unwrap();
            if next > end {
                self.now = end;
                return;
            }
            self.now = next;
            if reports == Some(next) {
                self.report();
            } else if self.next_tick == next {
                self.next_tick += TICK_US;
                self.event(Event::Tick);
            } else {
                self.end_one();
            }
        }
    }

    pub fn run_until_done(&mut self, limit: u64) {
        while self.scheduler.batch_ids().any(|id| {
            let status = self.scheduler.batch(id).unwrap();
            status.waiting + status.held > 0
        }) {
            assert!(self.now < limit, "not done after {limit} us");
            self.run_until(self.now + TICK_US);
            self.scheduler.sanity_check().unwrap();
        }
    }

    fn end_one(&mut self) {
        let (&id, node) = self
            .nodes
            .iter_mut()
            .find(|(_, node)| node.running.iter().any(|r| r.ends == self.now))
            .unwrap();
        let position = node
            .running
            .iter()
            .position(|r| r.ends == self.now)
            .unwrap();
        let Running { claim, started, .. } = node.running.remove(position);
        *self.served.entry(claim.job.batch).or_default() += self.now - started;
        if (self.kills)(claim.job) {
            self.deaths += 1;
            let spec = node.spec.clone();
            self.nodes.remove(&id);
            self.event(Event::WorkerLost { worker: id });
            if self.restart {
                self.join(id.0 + 1000, spec);
            }
            return;
        }
        node.outbox
            .push(finished(id.0, claim.job, claim.attempt, self.now - started));
        self.start();
    }
}
