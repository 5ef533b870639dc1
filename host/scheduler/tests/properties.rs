//! Random interleavings of all events, checked step by step against a model that knows only the
//! public events and effects.

// A failed unwrap is a failed test.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use optwasm_scheduler::{
    BatchId, BatchSpec, Claim, Config, Effect, Event, JobId, OutcomeClass, RetryReason, Scheduler,
    Time, Verdict, WorkerId, WorkerSpec,
};
use proptest::prelude::*;
use proptest::sample::Index;

#[derive(Clone, Debug)]
enum Action {
    Submit(BatchSpec, Vec<(u32, u32)>),
    Extend(Index, u32),
    Join(WorkerSpec),
    /// A known worker connects again, having received only some of what it was handed.
    Rejoin(Index, WorkerSpec, u64),
    Lose(Index),
    Drain(Index),
    /// A worker ends one of the jobs it may be running; the report goes on the wire.
    Work(Index, Index, OutcomeClass, u64),
    /// One message of the wire arrives; it may stay there to arrive again.
    Deliver(Index, bool),
    GiveBack(Index, Index),
    /// A report that nobody should believe.
    Lie(Index, Index, u32),
    Cancel(Index),
    Forget(Index),
    Tick(u64),
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop_oneof![
        3 => Just(BTreeMap::new()),
        1 => Just(BTreeMap::from([("gpu".to_string(), "yes".to_string())])),
    ]
}

fn batch_spec() -> impl Strategy<Value = BatchSpec> {
    (
        0..12u32,
        1..4u32,
        0..2i32,
        0..4u64,
        labels(),
        0..3u32,
        1..4u32,
    )
        .prop_map(
            |(count, weight, priority, memory, labels, retries, loss_limit)| BatchSpec {
                count,
                weight,
                priority,
                memory,
                labels,
                retries,
                loss_limit,
            },
        )
}

fn worker_spec() -> impl Strategy<Value = WorkerSpec> {
    (0..4u32, 2..8u64, labels()).prop_map(|(slots, memory, labels)| WorkerSpec {
        slots,
        memory,
        labels,
    })
}

fn outcome() -> impl Strategy<Value = OutcomeClass> {
    prop_oneof![
        6 => Just(OutcomeClass::Ok),
        1 => Just(OutcomeClass::Failed),
        1 => Just(OutcomeClass::Deadline),
        1 => Just(OutcomeClass::HostOutOfMemory),
        1 => Just(OutcomeClass::HostPanic),
        1 => Just(OutcomeClass::StackOverflow),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let any = any::<Index>;
    let service = prop_oneof![3 => 0..3_000u64, 1 => 20_000..100_000u64, 1 => Just(u64::MAX)];
    prop_oneof![
        3 => (batch_spec(), prop::collection::vec((0..12u32, 0..14u32), 0..2))
            .prop_map(|(spec, finished)| Action::Submit(spec, finished)),
        2 => (any(), 0..6u32).prop_map(|(b, n)| Action::Extend(b, n)),
        3 => worker_spec().prop_map(Action::Join),
        1 => (any(), worker_spec(), 0..=u64::MAX).prop_map(|(w, s, mask)| Action::Rejoin(w, s, mask)),
        2 => any().prop_map(Action::Lose),
        1 => any().prop_map(Action::Drain),
        16 => (any(), any(), outcome(), service).prop_map(|(w, j, o, t)| Action::Work(w, j, o, t)),
        16 => (any(), prop::bool::weighted(0.15)).prop_map(|(m, again)| Action::Deliver(m, again)),
        2 => (any(), any()).prop_map(|(w, j)| Action::GiveBack(w, j)),
        2 => (any(), any(), 0..4u32).prop_map(|(w, j, a)| Action::Lie(w, j, a)),
        1 => any().prop_map(Action::Cancel),
        1 => any().prop_map(Action::Forget),
        2 => (0..700_000u64).prop_map(Action::Tick),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Held(WorkerId, u32),
    Done,
}

#[derive(Clone, Debug)]
struct Job {
    state: State,
    last_attempt: u32,
    failures: u32,
    losses: Vec<(WorkerId, u32)>,
    careful: bool,
    avoid: BTreeSet<WorkerId>,
}

#[derive(Clone, Debug)]
struct Worker {
    spec: WorkerSpec,
    draining: bool,
    /// What the scheduler believes it holds, in order.
    held: Vec<JobId>,
    /// The job that was handed to it to run alone.
    lone: Option<JobId>,
    /// What it really has, in order.
    queue: Vec<Claim>,
}

struct World {
    scheduler: Scheduler,
    now: u64,
    next_batch: u64,
    next_worker: u64,
    batches: BTreeMap<BatchId, (BatchSpec, bool)>,
    jobs: BTreeMap<JobId, Job>,
    workers: BTreeMap<WorkerId, Worker>,
    wire: Vec<Event>,
    superseded: u64,
}

fn pick<T: Copy>(index: &Index, from: impl Iterator<Item = T>) -> Option<T> {
    let all: Vec<T> = from.collect();
    (!all.is_empty()).then(|| *index.get(&all))
}

impl World {
    fn new() -> Self {
        World {
            scheduler: Scheduler::new(Config::default()),
            now: 0,
            next_batch: 0,
            next_worker: 0,
            batches: BTreeMap::new(),
            jobs: BTreeMap::new(),
            workers: BTreeMap::new(),
            wire: Vec::new(),
            superseded: 0,
        }
    }

    fn matches(&self, worker: &Worker, job: JobId) -> bool {
        let spec = &self.batches[&job.batch].0;
        !worker.draining
            && worker.spec.slots > 0
            && worker.spec.memory >= spec.memory
            && spec
                .labels
                .iter()
                .all(|(key, value)| worker.spec.labels.get(key) == Some(value))
    }

    fn is_alone(&self, job: JobId) -> bool {
        let limit = self.batches[&job.batch].0.loss_limit as usize;
        let losses = self.jobs[&job].losses.len();
        losses > 0 && losses + 1 >= limit
    }

    /// Whether a worker with a free slot should take the waiting job now.
    fn is_eligible(&self, id: WorkerId, job: JobId) -> bool {
        let worker = &self.workers[&id];
        let avoid = &self.jobs[&job].avoid;
        let others = || {
            self.workers
                .iter()
                .filter(|(_, other)| self.matches(other, job))
        };
        self.matches(worker, job)
            && (!avoid.contains(&id) || others().all(|(other, _)| avoid.contains(other)))
            && (worker.held.is_empty() || !self.is_alone(job))
            && self.fits(worker, self.batches[&job.batch].0.memory)
    }

    fn fits(&self, worker: &Worker, more: u64) -> bool {
        let mut sizes: Vec<u64> = worker
            .held
            .iter()
            .map(|job| self.batches[&job.batch].0.memory)
            .collect();
        sizes.push(more);
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        sizes.iter().take(worker.spec.slots as usize).sum::<u64>() <= worker.spec.memory
    }

    fn waiting(&self) -> impl Iterator<Item = JobId> + '_ {
        self.jobs
            .iter()
            .filter(|(_, job)| job.state == State::Waiting)
            .map(|(&id, _)| id)
    }

    /// Takes a job from its holder, in the model.
    fn unhold(&mut self, job: JobId, state: State) -> (WorkerId, u32) {
        let entry = self.jobs.get_mut(&job).unwrap();
        let State::Held(worker, attempt) = entry.state else {
            panic!("{job} is not held")
        };
        entry.state = state;
        let worker_entry = self.workers.get_mut(&worker).unwrap();
        worker_entry.held.retain(|&held| held != job);
        worker_entry.lone = None;
        (worker, attempt)
    }

    fn is_held(&self, worker: WorkerId, claim: Claim) -> bool {
        self.jobs
            .get(&claim.job)
            .is_some_and(|job| job.state == State::Held(worker, claim.attempt))
    }

    /// What the event itself means for the model, before its effects.
    fn apply_event(&mut self, event: &Event) {
        match event {
            Event::Submit {
                batch,
                spec,
                finished,
            } => {
                self.batches.insert(*batch, (spec.clone(), false));
                for index in 0..spec.count {
                    let done = finished.iter().any(|range| range.contains(&index));
                    self.add_job(
                        JobId {
                            batch: *batch,
                            index,
                        },
                        done,
                    );
                }
            }
            Event::Extend { batch, count } => {
                let (spec, cancelled) = self.batches.get_mut(batch).unwrap();
                if !*cancelled {
                    let first = spec.count;
                    spec.count += count;
                    for index in first..first + count {
                        self.add_job(
                            JobId {
                                batch: *batch,
                                index,
                            },
                            false,
                        );
                    }
                }
            }
            Event::WorkerJoined {
                worker,
                spec,
                holds,
            } => {
                let entry = self.workers.entry(*worker).or_insert_with(|| Worker {
                    spec: spec.clone(),
                    draining: false,
                    held: vec![],
                    lone: None,
                    queue: vec![],
                });
                entry.spec = spec.clone();
                entry.draining = false;
                for job in entry.held.clone() {
                    let State::Held(_, attempt) = self.jobs[&job].state else {
                        unreachable!()
                    };
                    if !holds.contains(&Claim { job, attempt }) {
                        self.unhold(job, State::Waiting);
                    }
                }
                for &claim in holds {
                    let Some(job) = self.jobs.get_mut(&claim.job) else {
                        continue;
                    };
                    if job.state == State::Waiting && claim.attempt >= job.last_attempt.max(1) {
                        job.state = State::Held(*worker, claim.attempt);
                        job.last_attempt = claim.attempt;
                        job.losses.retain(|&loss| loss != (*worker, claim.attempt));
                        let entry = self.workers.get_mut(worker).unwrap();
                        entry.held.push(claim.job);
                        entry.lone = None;
                    }
                }
            }
            Event::WorkerDraining { worker } | Event::WorkerLost { worker } => {
                self.workers.get_mut(worker).unwrap().draining = true;
            }
            Event::GivenBack { worker, jobs } => {
                for &claim in jobs {
                    if self.is_held(*worker, claim) {
                        self.unhold(claim.job, State::Waiting);
                    }
                }
            }
            Event::Cancel { batch } | Event::Forget { batch } => {
                self.batches.get_mut(batch).unwrap().1 = true;
            }
            _ => {}
        }
    }

    fn add_job(&mut self, id: JobId, done: bool) {
        let job = Job {
            state: if done { State::Done } else { State::Waiting },
            last_attempt: 0,
            failures: 0,
            losses: vec![],
            careful: false,
            avoid: BTreeSet::new(),
        };
        self.jobs.insert(id, job);
    }

    fn step(&mut self, event: Event) {
        // What the model expects of a report.
        let report = match &event {
            Event::Finished {
                worker,
                job,
                attempt,
                class,
                ..
            } => {
                let claim = Claim {
                    job: *job,
                    attempt: *attempt,
                };
                Some((self.is_held(*worker, claim), *class))
            }
            _ => None,
        };
        let lost = match &event {
            Event::WorkerLost { worker } => {
                self.workers.get(worker).map(|w| (*worker, w.held.clone()))
            }
            _ => None,
        };
        self.apply_event(&event);
        let mut effects = Vec::new();
        self.scheduler
            .step(Time(self.now), event.clone(), &mut effects);
        let mut answered = false;
        let mut revoked = BTreeSet::new();
        for effect in effects {
            match effect {
                Effect::Assign {
                    worker,
                    job,
                    attempt,
                } => self.check_assign(worker, job, attempt),
                Effect::Revoke {
                    worker,
                    job,
                    attempt,
                } => {
                    let held = self.is_held(worker, Claim { job, attempt });
                    let joined = matches!(&event, Event::WorkerJoined { holds, .. }
                        if holds.contains(&Claim { job, attempt }));
                    assert!(held != joined, "revoked without a reason");
                    if held {
                        revoked.insert(job);
                    }
                    // Some revocations come too late: every third worker never hears of them.
                    if worker.0 % 3 != 0 {
                        let queue = &mut self.workers.get_mut(&worker).unwrap().queue;
                        queue.retain(|&claim| claim != Claim { job, attempt });
                    }
                }
                Effect::Recall {
                    worker,
                    job,
                    attempt,
                } => {
                    assert!(
                        self.is_held(worker, Claim { job, attempt }),
                        "recalled, not held"
                    );
                    let position = self.workers[&worker].held.iter().position(|&j| j == job);
                    let slots = self.workers[&worker].spec.slots as usize;
                    assert!(
                        position >= Some(slots),
                        "recalled a job that may be running"
                    );
                }
                Effect::Done {
                    job,
                    attempt,
                    worker,
                    verdict,
                } => {
                    answered = true;
                    assert!(
                        self.is_held(worker, Claim { job, attempt }),
                        "done, not held"
                    );
                    let was_alone = self.workers[&worker].lone == Some(job);
                    self.unhold(job, State::Done);
                    let spec = &self.batches[&job.batch].0;
                    let entry = &self.jobs[&job];
                    match verdict {
                        Verdict::Reported(class) => {
                            assert_eq!(report, Some((true, class)), "a made-up outcome");
                            assert!(
                                !class.is_retryable() || entry.failures == spec.retries,
                                "given up too early or too late"
                            );
                        }
                        Verdict::LostTooOften { losses } => {
                            let mut expected = entry.losses.clone();
                            expected.push((worker, attempt));
                            assert_eq!(losses, expected, "wrong evidence");
                            assert_eq!(losses.len(), spec.loss_limit as usize);
                            assert!(lost.as_ref().is_some_and(|(id, _)| *id == worker));
                            assert!(
                                spec.loss_limit == 1 || was_alone,
                                "blamed for good beside others"
                            );
                        }
                    }
                }
                Effect::Cancelled { batch, jobs } => {
                    assert!(self.batches[&batch].1, "cancelled without a request");
                    assert!(!jobs.is_empty());
                    for index in jobs {
                        let id = JobId { batch, index };
                        match self.jobs[&id].state {
                            State::Waiting => self.jobs.get_mut(&id).unwrap().state = State::Done,
                            State::Held(..) => {
                                assert!(revoked.contains(&id), "cancelled without telling");
                                self.unhold(id, State::Done);
                            }
                            State::Done => panic!("{id} is done twice"),
                        }
                    }
                }
                Effect::Superseded {
                    worker,
                    job,
                    attempt,
                } => {
                    answered = true;
                    self.superseded += 1;
                    assert!(
                        !self.is_held(worker, Claim { job, attempt }),
                        "a report is wasted"
                    );
                }
                Effect::Retried {
                    job,
                    attempt,
                    worker,
                    reason,
                } => {
                    answered = true;
                    assert_eq!(self.unhold(job, State::Waiting), (worker, attempt));
                    let retries = self.batches[&job.batch].0.retries;
                    let entry = self.jobs.get_mut(&job).unwrap();
                    match reason {
                        RetryReason::Outcome(class) => {
                            assert_eq!(report, Some((true, class)));
                            assert!(class.is_retryable() && entry.failures < retries);
                            entry.failures += 1;
                            entry.avoid.insert(worker);
                        }
                        RetryReason::WorkerLost { blamed } => {
                            let (id, held) = lost.as_ref().expect("no worker was lost");
                            assert_eq!(*id, worker);
                            entry.careful = true;
                            let slots = self.workers[&worker].spec.slots as usize;
                            let position = held.iter().position(|&j| j == job).unwrap();
                            assert!(!blamed || position < slots, "blamed though not running");
                            let limit = self.batches[&job.batch].0.loss_limit as usize;
                            let certain = position < slots && entry.losses.len() + 1 < limit;
                            assert!(blamed || !certain, "not blamed though running");
                            if blamed {
                                entry.losses.push((worker, attempt));
                                entry.avoid.insert(worker);
                            }
                        }
                    }
                }
                Effect::BatchDone { batch } => {
                    let mut all = self.jobs.range(
                        JobId { batch, index: 0 }..=JobId {
                            batch,
                            index: u32::MAX,
                        },
                    );
                    assert!(all.all(|(_, job)| job.state == State::Done), "not all done");
                }
                Effect::Ignored { .. } => {
                    let known = match &event {
                        Event::Extend { batch, .. } => !self.batches[batch].1,
                        Event::GivenBack { worker, .. } => self.workers.contains_key(worker),
                        _ => true,
                    };
                    assert!(!known, "ignored: {event:?}");
                }
            }
        }
        assert!(report.is_none() || answered, "a report without an answer");
        if let Some((id, _)) = lost {
            let worker = self.workers.remove(&id).unwrap();
            assert!(worker.held.is_empty(), "jobs stay with a lost worker");
        }
        if let Event::Forget { batch } = event {
            self.batches.remove(&batch);
            let gone = self.jobs.keys().filter(|job| job.batch == batch);
            for job in gone.copied().collect::<Vec<_>>() {
                assert_eq!(
                    self.jobs.remove(&job).unwrap().state,
                    State::Done,
                    "forgotten undone"
                );
            }
        }
        self.check_state();
    }

    fn check_assign(&mut self, id: WorkerId, job: JobId, attempt: u32) {
        let worker = &self.workers[&id];
        assert_eq!(self.jobs[&job].state, State::Waiting, "a second holder");
        assert!(attempt > self.jobs[&job].last_attempt, "attempts must rise");
        assert!(self.is_eligible(id, job), "{job} should not go to {id}");
        let slots = worker.spec.slots as usize;
        let has_free_slot = worker.held.len() < slots;
        assert!(
            has_free_slot || !self.jobs[&job].careful,
            "a careful job is handed ahead"
        );
        assert!(
            worker.lone.is_none(),
            "company for a job that has to be alone"
        );
        assert!(worker.held.len() < slots * 1025);
        let priority = |job: JobId| self.batches[&job.batch].0.priority;
        let better = self
            .waiting()
            .find(|&other| priority(other) > priority(job) && self.is_eligible(id, other));
        assert_eq!(better, None, "a higher priority waits");
        let is_alone = self.is_alone(job);
        let entry = self.jobs.get_mut(&job).unwrap();
        entry.state = State::Held(id, attempt);
        entry.last_attempt = attempt;
        let worker = self.workers.get_mut(&id).unwrap();
        worker.held.push(job);
        worker.lone = is_alone.then_some(job);
        worker.queue.push(Claim { job, attempt });
    }

    fn check_state(&self) {
        self.scheduler.sanity_check().unwrap();
        assert_eq!(self.scheduler.superseded(), self.superseded);
        for (&id, worker) in &self.workers {
            assert!(self.scheduler.held_by(id).eq(worker.held.iter().copied()));
            let status = self.scheduler.worker(id).unwrap();
            if worker.held.len() < worker.spec.slots as usize
                && worker.lone.is_none()
                && status.reserved_for.is_none()
            {
                let ready = self.waiting().find(|&job| self.is_eligible(id, job));
                assert_eq!(ready, None, "{id} has a free slot");
            }
        }
        for &batch in self.batches.keys() {
            let range = JobId { batch, index: 0 }..=JobId {
                batch,
                index: u32::MAX,
            };
            let count = |which: fn(&State) -> bool| {
                self.jobs
                    .range(range.clone())
                    .filter(|(_, job)| which(&job.state))
                    .count() as u64
            };
            let status = self.scheduler.batch(batch).unwrap();
            assert_eq!(u64::from(status.waiting), count(|s| *s == State::Waiting));
            assert_eq!(
                u64::from(status.held),
                count(|s| matches!(s, State::Held(..)))
            );
            assert_eq!(status.done.total(), count(|s| *s == State::Done));
        }
    }

    fn act(&mut self, action: &Action) {
        self.now += 100;
        match action {
            Action::Submit(spec, finished) => {
                let batch = BatchId(self.next_batch);
                self.next_batch += 1;
                let finished = finished.iter().map(|&(a, b)| a..b).collect();
                self.step(Event::Submit {
                    batch,
                    spec: spec.clone(),
                    finished,
                });
            }
            Action::Extend(index, count) => {
                if let Some(batch) = pick(index, self.batches.keys().copied()) {
                    self.step(Event::Extend {
                        batch,
                        count: *count,
                    });
                }
            }
            Action::Join(spec) => {
                let worker = WorkerId(self.next_worker);
                self.next_worker += 1;
                self.step(Event::WorkerJoined {
                    worker,
                    spec: spec.clone(),
                    holds: vec![],
                });
            }
            Action::Rejoin(index, spec, mask) => {
                // Also workers that were lost: they come back with what they had.
                let Some(worker) = pick(index, (0..self.next_worker).map(WorkerId)) else {
                    return;
                };
                let mut holds = match self.workers.get(&worker) {
                    Some(known) => known.queue.clone(),
                    // Sometimes it says what it had one attempt before.
                    None => {
                        let claim = |(&job, entry): (&JobId, &Job)| Claim {
                            job,
                            attempt: entry.last_attempt.saturating_sub(job.index & 1).max(1),
                        };
                        self.jobs.iter().map(claim).collect()
                    }
                };
                let mut bits = *mask;
                holds.retain(|_| {
                    bits = bits.rotate_left(1);
                    bits & 3 != 0
                });
                let claims = holds.clone();
                if let Some(known) = self.workers.get_mut(&worker) {
                    known.queue = claims.clone();
                }
                self.step(Event::WorkerJoined {
                    worker,
                    spec: spec.clone(),
                    holds,
                });
                let still: Vec<Claim> = claims
                    .into_iter()
                    .filter(|&claim| self.is_held(worker, claim))
                    .collect();
                let known = self.workers.get_mut(&worker).unwrap();
                for claim in still {
                    if !known.queue.contains(&claim) {
                        known.queue.push(claim);
                    }
                }
            }
            Action::Lose(index) => {
                if let Some(worker) = pick(index, self.workers.keys().copied()) {
                    self.step(Event::WorkerLost { worker });
                }
            }
            Action::Drain(index) => {
                if let Some(worker) = pick(index, self.workers.keys().copied()) {
                    self.step(Event::WorkerDraining { worker });
                }
            }
            Action::Work(worker, which, class, service) => {
                if let Some(id) = pick(worker, self.workers.keys().copied()) {
                    let slots = self.workers[&id].spec.slots as usize;
                    let running = self.workers[&id].queue.iter().copied().take(slots);
                    if let Some(claim) = pick(which, running) {
                        self.work(id, claim, *class, *service);
                    }
                }
            }
            Action::Deliver(index, again) => {
                if let Some(position) = pick(index, 0..self.wire.len()) {
                    let event = self.wire[position].clone();
                    if !again {
                        self.wire.remove(position);
                    }
                    self.step(event);
                }
            }
            Action::GiveBack(worker, which) => {
                if let Some(id) = pick(worker, self.workers.keys().copied()) {
                    let queue = self.workers[&id].queue.iter().copied();
                    if let Some(claim) = pick(which, queue) {
                        let queue = &mut self.workers.get_mut(&id).unwrap().queue;
                        queue.retain(|&queued| queued != claim);
                        self.wire.push(Event::GivenBack {
                            worker: id,
                            jobs: vec![claim],
                        });
                    }
                }
            }
            Action::Lie(worker, which, attempt) => {
                let worker = pick(worker, (0..self.next_worker + 1).map(WorkerId));
                let job = pick(which, self.jobs.keys().copied());
                if let (Some(worker), Some(job)) = (worker, job) {
                    let attempt = *attempt;
                    // Only if it is a lie; the truth would be the model's business.
                    if !self.is_held(worker, Claim { job, attempt }) {
                        let class = OutcomeClass::Ok;
                        let service_time_us = 1;
                        self.step(Event::Finished {
                            worker,
                            job,
                            attempt,
                            class,
                            service_time_us,
                        });
                    }
                }
            }
            Action::Cancel(index) => {
                if let Some(batch) = pick(index, self.batches.keys().copied()) {
                    self.step(Event::Cancel { batch });
                    let status = self.scheduler.batch(batch).unwrap();
                    assert_eq!(status.waiting + status.held, 0, "cancel ends everything");
                }
            }
            Action::Forget(index) => {
                if let Some(batch) = pick(index, self.batches.keys().copied()) {
                    self.step(Event::Forget { batch });
                    assert_eq!(self.scheduler.batch(batch), None);
                }
            }
            Action::Tick(us) => {
                self.now += us;
                self.step(Event::Tick);
            }
        }
    }

    fn work(&mut self, worker: WorkerId, claim: Claim, class: OutcomeClass, service_time_us: u64) {
        let queue = &mut self.workers.get_mut(&worker).unwrap().queue;
        queue.retain(|&queued| queued != claim);
        let Claim { job, attempt } = claim;
        self.wire.push(Event::Finished {
            worker,
            job,
            attempt,
            class,
            service_time_us,
        });
    }

    /// From here on everybody behaves: all jobs must end.
    fn finish(&mut self) {
        let everything = WorkerSpec {
            slots: 2,
            memory: 8,
            labels: BTreeMap::from([("gpu".to_string(), "yes".to_string())]),
        };
        for _ in 0..2 {
            self.act(&Action::Join(everything.clone()));
        }
        for _ in 0..2_000 {
            for event in std::mem::take(&mut self.wire) {
                self.step(event);
            }
            let running: Vec<(WorkerId, Claim)> = self
                .workers
                .iter()
                .filter(|(_, worker)| worker.spec.slots > 0)
                .filter_map(|(&id, worker)| Some((id, *worker.queue.first()?)))
                .collect();
            // Workers that came back without slots cannot end what they hold: they give it back.
            let stuck: Vec<WorkerId> = self
                .workers
                .iter()
                .filter(|(_, worker)| worker.spec.slots == 0 && !worker.queue.is_empty())
                .map(|(&id, _)| id)
                .collect();
            for worker in stuck {
                let jobs = std::mem::take(&mut self.workers.get_mut(&worker).unwrap().queue);
                self.wire.push(Event::GivenBack { worker, jobs });
            }
            if running.is_empty() && self.wire.is_empty() {
                break;
            }
            for (id, claim) in running {
                self.work(id, claim, OutcomeClass::Ok, 1_000);
            }
            self.act(&Action::Tick(100_000));
        }
        let undone: Vec<_> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.state != State::Done)
            .collect();
        assert!(undone.is_empty(), "never done: {undone:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_interleaving_keeps_every_promise(
        actions in prop::collection::vec(action(), 1..150),
    ) {
        let mut world = World::new();
        for action in &actions {
            world.act(action);
        }
        world.finish();
    }
}
