//! What the world does with each action, and a calm end in which all jobs must finish.

use std::collections::BTreeMap;

use optwasm_scheduler::{
    BatchId, BatchSpec, Claim, Distrust, Event, JobId, Known, NamespaceId, OutcomeClass, Scheduler,
    Then, WorkerId, WorkerSpec,
};
use proptest::sample::Index;

use crate::Action;
use crate::world::{Job, State, Worker, World};

fn pick<T: Copy>(index: &Index, from: impl Iterator<Item = T>) -> Option<T> {
    let all: Vec<T> = from.collect();
    (!all.is_empty()).then(|| *index.get(&all))
}

/// The items whose bits are set.
fn masked<T>(mask: u64, items: impl IntoIterator<Item = T>) -> Vec<T> {
    let items = items.into_iter().enumerate();
    let chosen = items.filter(|(position, _)| mask >> (position % 64) & 1 == 1);
    chosen.map(|(_, item)| item).collect()
}

impl World {
    pub fn act(&mut self, action: &Action) {
        self.now += 100;
        match action {
            Action::Submit(spec, finished, parked) => {
                let batch = BatchId(self.next_batch);
                self.next_batch += 1;
                let ranges = |pairs: &[(u32, u32)]| pairs.iter().map(|&(a, b)| a..b).collect();
                self.step(Event::Submit {
                    batch,
                    spec: spec.clone(),
                    finished: ranges(finished),
                    parked: ranges(parked),
                    known: vec![],
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
            Action::Weigh(namespace, weight) => {
                self.step(Event::Weigh {
                    namespace: NamespaceId(*namespace),
                    weight: *weight,
                });
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
            Action::Away(index) => {
                if let Some(worker) = pick(index, self.workers.keys().copied()) {
                    self.step(Event::WorkerAway { worker });
                }
            }
            Action::Distrust(index) => {
                if let Some(worker) = pick(index, self.workers.keys().copied()) {
                    self.distrust(worker);
                }
            }
            Action::Restart(workers, claims) => self.restart(*workers, *claims),
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
            Action::Work(worker, which, class, then, service) => {
                if let Some(id) = pick(worker, self.workers.keys().copied()) {
                    let slots = self.workers[&id].spec.slots as usize;
                    let running = self.workers[&id].queue.iter().copied().take(slots);
                    if let Some(claim) = pick(which, running) {
                        self.work(id, claim, (*class, *then), *service);
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
                        let then = Then::Decide;
                        let service_time_us = 1;
                        self.step(Event::Finished {
                            worker,
                            job,
                            attempt,
                            class,
                            then,
                            service_time_us,
                        });
                    }
                }
            }
            Action::Answer(index, mask) => {
                if let Some(batch) = pick(index, self.batches.keys().copied()) {
                    let jobs = masked(*mask & mask >> 32, 0..self.batches[&batch].0.count + 1);
                    self.step(Event::Answered { batch, jobs });
                }
            }
            Action::Release(index, mask) => {
                if let Some(batch) = pick(index, self.batches.keys().copied()) {
                    let jobs = masked(*mask, 0..self.batches[&batch].0.count + 1);
                    self.step(Event::Released { batch, jobs });
                }
            }
            Action::Reopen(index, ranges, above) => {
                if let Some(batch) = pick(index, self.batches.keys().copied()) {
                    let last = self.jobs_of(batch).map(|(_, job)| job.last_attempt).max();
                    self.step(Event::Reopen {
                        batch,
                        jobs: ranges.iter().map(|&(a, b)| a..b).collect(),
                        first_attempt: last.unwrap_or(0) + above,
                    });
                }
            }
            Action::Cancel(index) => {
                if let Some(batch) = pick(index, self.batches.keys().copied()) {
                    self.step(Event::Cancel { batch });
                    let status = self.scheduler.batch(batch).unwrap();
                    let unfinished = status.waiting + status.parked + status.held;
                    assert_eq!(unfinished, 0, "cancel ends everything");
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

    fn work(
        &mut self,
        worker: WorkerId,
        claim: Claim,
        (class, then): (OutcomeClass, Then),
        service_time_us: u64,
    ) {
        let queue = &mut self.workers.get_mut(&worker).unwrap().queue;
        queue.retain(|&queued| queued != claim);
        let Claim { job, attempt } = claim;
        let has_home = |(spec, _): &(BatchSpec, bool)| spec.home.is_some();
        let then = match then {
            // There is nobody else to confirm it.
            Then::Confirm if self.batches.get(&job.batch).is_some_and(has_home) => Then::Decide,
            then => then,
        };
        self.wire.push(Event::Finished {
            worker,
            job,
            attempt,
            class,
            then,
            service_time_us,
        });
    }

    fn distrust(&mut self, worker: WorkerId) {
        let why = if worker.0.is_multiple_of(2) {
            Distrust::Outvoted
        } else {
            Distrust::Contradicted
        };
        self.step(Event::Distrust { worker, why });
        assert_eq!(self.scheduler.worker(worker).unwrap().distrusted, Some(why));
    }

    /// The caller starts again with what it wrote down: of the workers those in `workers`, and of
    /// what they hold the `claims`.
    fn restart(&mut self, workers: u64, claims: u64) {
        let before: Vec<(WorkerId, Worker)> = masked(workers, std::mem::take(&mut self.workers));
        let jobs = std::mem::take(&mut self.jobs);
        self.scheduler = Scheduler::new(self.config);
        self.superseded = 0;
        for (batch, (spec, _)) in std::mem::take(&mut self.batches) {
            let of_batch = |state: State| {
                let jobs = jobs
                    .iter()
                    .filter(move |(id, job)| id.batch == batch && job.state == state);
                jobs.map(|(id, _)| id.index..id.index + 1).collect()
            };
            let known = |(id, job): (&JobId, &Job)| {
                let is_known =
                    id.batch == batch && job.state != State::Done && job.last_attempt > 0;
                is_known.then(|| Known {
                    index: id.index,
                    last_attempt: job.last_attempt,
                    reported: job.reported,
                    failures: job.failures,
                    losses: job.losses.clone(),
                    avoid: job.never.iter().copied().collect(),
                })
            };
            self.step(Event::Submit {
                batch,
                spec,
                finished: of_batch(State::Done),
                parked: of_batch(State::Parked),
                known: jobs.iter().filter_map(known).collect(),
            });
        }
        // Finished ones are of no more interest to the scheduler, but their numbers are to us.
        for (id, job) in jobs {
            if job.state == State::Done {
                self.jobs.get_mut(&id).unwrap().last_attempt = job.last_attempt;
            }
        }
        for (id, worker) in before {
            let attempts = worker.held.iter().map(|&job| Claim {
                job,
                attempt: self.jobs[&job].last_attempt,
            });
            let holds = masked(claims | claims >> 32, attempts);
            self.step(Event::WorkerRestored {
                worker: id,
                spec: worker.spec,
                holds,
            });
            self.workers.get_mut(&id).unwrap().queue = worker.queue;
        }
    }

    /// From here on everybody behaves: all jobs must end.
    pub fn finish(&mut self) {
        let everything = WorkerSpec {
            slots: 2,
            memory: 8,
            labels: BTreeMap::from([("gpu".to_string(), "yes".to_string())]),
            stay: None,
        };
        for _ in 0..2 {
            self.act(&Action::Join(everything.clone()));
        }
        // Who is away has gone for good.
        self.act(&Action::Tick(self.config.lease_us));
        let batches: Vec<(BatchId, u32)> = self
            .batches
            .iter()
            .map(|(&id, (spec, _))| (id, spec.count))
            .collect();
        for (batch, count) in batches {
            let jobs = (0..count).collect();
            self.step(Event::Released { batch, jobs });
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
                self.work(id, claim, (OutcomeClass::Ok, Then::Decide), 1_000);
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
