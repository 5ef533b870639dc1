//! The state, and what reports do to it. What callers ask of batches is in `batches`, workers come
//! and go in `membership`, and who gets which job then is in `dispatch`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use crate::batch::{Batch, Held};
use crate::batches::Submission;
use crate::class::{Class, ClassId, Pass, Requirements};
use crate::config::Config;
use crate::estimate;
use crate::returned::{Returned, Trouble};
use crate::share::Shares;
use crate::worker::Worker;
use crate::{
    BatchId, Claim, Effect, Event, Ignored, JobId, OutcomeClass, RetryReason, Then, Time, Verdict,
    WorkerId,
};

/// The state machine; see the crate's documentation.
#[derive(Clone, Debug, Default)]
pub struct Scheduler {
    pub(crate) config: Config,
    /// Boxed, because a map leaves about half of its room empty when keys ascend.
    pub(crate) batches: BTreeMap<BatchId, Box<Batch>>,
    pub(crate) workers: BTreeMap<WorkerId, Worker>,
    pub(crate) classes: BTreeMap<ClassId, Class>,
    pub(crate) class_ids: BTreeMap<Requirements, ClassId>,
    pub(crate) next_class: ClassId,
    pub(crate) shares: Shares,
    /// When running jobs were last charged for running longer than expected.
    pub(crate) topped_up: Time,
    /// Workers that are away, the longest first.
    pub(crate) leases: BTreeSet<(Time, WorkerId)>,
    /// Parked jobs of all batches.
    pub(crate) parked: u64,
    /// Counts hand-outs, so that each worker's jobs are known in their order.
    next_order: u64,
    pub(crate) superseded: u64,
    /// Workers that may be able to take a job now.
    pub(crate) wake: Vec<WorkerId>,
    /// Workers being filled, least loaded first. Empty between steps.
    pub(crate) filling: BinaryHeap<Reverse<(u64, WorkerId)>>,
}

/// How a held job comes back to the waiting ones.
pub(crate) enum Return {
    /// Nothing happened to it.
    Unharmed,
    /// It is tried again after a report.
    Failed(OutcomeClass),
    /// Another worker is to come to the same result.
    Unconfirmed,
    /// Its worker was lost.
    Lost { blamed: bool },
}

impl Scheduler {
    /// A scheduler without batches and workers.
    pub fn new(config: Config) -> Self {
        Scheduler {
            config,
            ..Scheduler::default()
        }
    }

    /// Takes one event in and appends what follows from it to `effects`.
    pub fn step(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        let is_tick = matches!(event, Event::Tick);
        self.take_in(now, event, effects);
        self.end_leases(now, effects);
        if is_tick {
            self.top_up(now);
        }
        self.dispatch(now, effects);
        if is_tick {
            self.recall(now, effects);
        }
    }

    fn take_in(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Submit {
                batch,
                spec,
                finished,
                parked,
                known,
            } => {
                let submission = Submission {
                    spec: &spec,
                    finished: &finished,
                    parked: &parked,
                    known,
                };
                self.submit(batch, submission, effects);
            }
            Event::Weigh { namespace, weight } => self.shares.set_weight(namespace, weight),
            Event::Extend { batch, count } => self.extend(batch, count, effects),
            Event::Answered { batch, jobs } => self.answer(now, batch, &jobs, effects),
            Event::Released { batch, jobs } => self.release(batch, &jobs, effects),
            Event::Reopen {
                batch,
                jobs,
                first_attempt,
            } => self.reopen(batch, &jobs, first_attempt, effects),
            Event::Cancel { batch } => self.cancel(now, batch, effects),
            Event::Forget { batch } => self.forget(now, batch, effects),
            Event::WorkerJoined {
                worker,
                spec,
                holds,
            } => {
                self.join(now, worker, spec, &holds, effects);
            }
            Event::WorkerRestored {
                worker,
                spec,
                holds,
            } => {
                self.restore(now, worker, spec, &holds, effects);
            }
            Event::WorkerAway { worker } => self.go_away(now, worker, effects),
            Event::WorkerLost { worker } => self.lose(worker, effects),
            Event::WorkerDraining { worker } => self.drain(worker, effects),
            Event::Distrust { worker, why } => self.distrust(worker, why, effects),
            Event::Finished {
                worker,
                job,
                attempt,
                class,
                then,
                service_time_us,
            } => {
                let claim = Claim { job, attempt };
                self.finish(worker, claim, (class, then), service_time_us, effects);
            }
            Event::GivenBack { worker, jobs } => self.given_back(now, worker, &jobs, effects),
            Event::Tick => {
                self.shorten_stays(now);
                self.wake_all();
            }
        }
    }

    fn finish(
        &mut self,
        id: WorkerId,
        claim: Claim,
        (class, then): (OutcomeClass, Then),
        service_us: u64,
        effects: &mut Vec<Effect>,
    ) {
        let Claim { job, attempt } = claim;
        let Some(held) = self.take_held(id, job, |held| held.attempt == attempt) else {
            self.supersede(id, claim, effects);
            return;
        };
        let service_us = estimate::clamp(service_us);
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.done += 1;
            worker.service.record(service_us);
        }
        self.wake.push(id);
        let expected_us = held.expected_us;
        self.settle_share(job.batch, &held, service_us);
        self.shares.record(held.kind, service_us);
        self.change(job.batch, |batch| {
            batch.settle(expected_us, Some(service_us));
            if class.measures_work() {
                batch.service.record(service_us);
            }
        });
        let failures = held.trouble.as_ref().map_or(0, |trouble| trouble.failures);
        let batch = self.batches.get(&job.batch);
        let may_retry = batch.is_some_and(|batch| failures < batch.retries);
        match then {
            Then::Retry if may_retry => {
                self.put_back(id, job, held, &Return::Failed(class), effects);
            }
            Then::Confirm => self.put_back(id, job, held, &Return::Unconfirmed, effects),
            Then::Retry | Then::Decide => {
                self.conclude(id, job, attempt, Verdict::Reported(class), effects);
            }
        }
        self.note_outcome(id, job, class, effects);
    }

    fn given_back(&mut self, now: Time, id: WorkerId, jobs: &[Claim], effects: &mut Vec<Effect>) {
        if !self.workers.contains_key(&id) {
            effects.push(ignored(Ignored::UnknownWorker(id)));
        }
        for &claim in jobs {
            match self.take_held(id, claim.job, |held| held.attempt == claim.attempt) {
                Some(held) => self.put_back(id, claim.job, held, &Return::Unharmed, effects),
                None => self.supersede(id, claim, effects),
            }
        }
        // The others choose first, and the giver gets nothing ahead, or the jobs would come and go.
        self.wake.retain(|&worker| worker != id);
        self.dispatch(now, effects);
        while self.workers.get(&id).is_some_and(Worker::has_free_slot)
            && self.assign_one(now, id, effects)
        {}
    }

    /// Changes a batch and keeps its class in step. A batch that becomes ready by it starts no
    /// earlier than its neighbours are.
    pub(crate) fn change<R>(
        &mut self,
        id: BatchId,
        change: impl FnOnce(&mut Batch) -> R,
    ) -> Option<R> {
        let batch = self.batches.get_mut(&id)?;
        let (turn, waiting, parked) = (batch.turn(), batch.waiting(), batch.parked.len());
        let result = change(batch);
        if waiting == 0 && batch.waiting() > 0 {
            batch.pass = batch.pass.max(served(&self.classes, &self.workers, batch));
        }
        self.parked = self.parked + u64::from(batch.parked.len()) - u64::from(parked);
        let (namespace, now) = (batch.namespace, (batch.waiting(), batch.parked.len()));
        self.shares
            .recount(namespace, (waiting, now.0), (parked, now.1));
        if let Some(class) = self.classes.get_mut(&batch.class) {
            class.waiting = class.waiting + u64::from(batch.waiting()) - u64::from(waiting);
            class.move_turn(turn, batch.turn());
        }
        Some(result)
    }

    /// Takes a job off the worker that holds it, if it does and `which` agrees. The job is then in
    /// none of its states: the caller puts it back or concludes it.
    pub(crate) fn take_held(
        &mut self,
        id: WorkerId,
        job: JobId,
        which: impl FnOnce(&Held) -> bool,
    ) -> Option<Held> {
        let batch = self.batches.get_mut(&job.batch)?;
        let held = batch.held.get(&job.index)?;
        if held.worker != id || !which(held) {
            return None;
        }
        let class = batch.class;
        let held = batch.held.remove(&job.index)?;
        let memory = self.memory_of(class);
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.remove(held.order, memory, held.expected_us, &self.config.window);
        }
        Some(held)
    }

    /// Corrects what a namespace was charged for a job that was held.
    fn settle_share(&mut self, batch: BatchId, held: &Held, cost_us: u64) {
        if let Some(batch) = self.batches.get(&batch) {
            let namespace = batch.namespace;
            self.shares
                .settle(held.kind, namespace, held.charged_us, cost_us);
        }
    }

    pub(crate) fn put_back(
        &mut self,
        id: WorkerId,
        job: JobId,
        held: Held,
        how: &Return,
        effects: &mut Vec<Effect>,
    ) {
        if let Return::Unharmed | Return::Lost { blamed: false } = how {
            self.settle_share(job.batch, &held, 0);
        }
        let Held {
            attempt,
            mut trouble,
            expected_us,
            ..
        } = held;
        match how {
            Return::Unharmed => {}
            Return::Failed(class) => {
                let trouble = trouble.get_or_insert_with(Box::<Trouble>::default);
                trouble.failures += 1;
                trouble.avoid(id);
                let reason = RetryReason::Outcome(*class);
                effects.push(Effect::Retried {
                    job,
                    attempt,
                    worker: id,
                    reason,
                });
            }
            Return::Unconfirmed => {
                let trouble = trouble.get_or_insert_with(Box::<Trouble>::default);
                trouble.forbid(id);
                effects.push(Effect::Unconfirmed {
                    job,
                    attempt,
                    worker: id,
                });
            }
            &Return::Lost { blamed } => {
                let trouble = trouble.get_or_insert_with(Box::<Trouble>::default);
                trouble.careful = true;
                if blamed {
                    trouble.losses.push((id, attempt));
                    trouble.avoid(id);
                }
                let reason = RetryReason::WorkerLost { blamed };
                effects.push(Effect::Retried {
                    job,
                    attempt,
                    worker: id,
                    reason,
                });
            }
        }
        let class = self.change(job.batch, |batch| {
            match how {
                Return::Unharmed | Return::Lost { blamed: false } => {
                    batch.settle(expected_us, None)
                }
                Return::Failed(_) | Return::Unconfirmed | Return::Lost { blamed: true } => {}
            }
            if matches!(how, Return::Failed(_) | Return::Lost { .. }) {
                batch.retried += 1;
            }
            let returned = Returned {
                last_attempt: attempt,
                reported: matches!(how, Return::Failed(_) | Return::Unconfirmed),
                trouble,
            };
            batch.put_back(job.index, returned);
            batch.class
        });
        if let Some(class) = class {
            self.wake_class(class);
        }
    }

    pub(crate) fn conclude(
        &mut self,
        worker: WorkerId,
        job: JobId,
        attempt: u32,
        verdict: Verdict,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(batch) = self.batches.get_mut(&job.batch) {
            batch.done.count(&verdict);
        }
        effects.push(Effect::Done {
            job,
            attempt,
            worker,
            verdict,
        });
        self.announce_if_done(job.batch, effects);
    }

    pub(crate) fn announce_if_done(&self, id: BatchId, effects: &mut Vec<Effect>) {
        if self.batches.get(&id).is_some_and(|batch| batch.is_done()) {
            effects.push(Effect::BatchDone { batch: id });
        }
    }

    fn supersede(&mut self, worker: WorkerId, claim: Claim, effects: &mut Vec<Effect>) {
        self.superseded += 1;
        if let Some(batch) = self.batches.get_mut(&claim.job.batch) {
            batch.superseded += 1;
        }
        effects.push(Effect::Superseded {
            worker,
            job: claim.job,
            attempt: claim.attempt,
        });
    }

    pub(crate) fn memory_of(&self, class: ClassId) -> u64 {
        self.classes
            .get(&class)
            .map_or(0, |class| class.requirements.memory)
    }

    pub(crate) fn next_order(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order
    }

    pub(crate) fn wake_class(&mut self, class: ClassId) {
        if let Some(class) = self.classes.get(&class) {
            self.wake.extend(&class.workers);
        }
    }

    pub(crate) fn wake_all(&mut self) {
        self.wake.clear();
        self.wake.extend(self.workers.keys());
    }
}

/// The highest pass that batches of the same namespace and priority were served at in the class of `batch` and in
/// those it shares a worker with.
pub(crate) fn served(
    classes: &BTreeMap<ClassId, Class>,
    workers: &BTreeMap<WorkerId, Worker>,
    batch: &Batch,
) -> Pass {
    let served = |class: &ClassId| classes.get(class).map_or(0, |c| c.served(batch.priority));
    let neighbours = classes
        .get(&batch.class)
        .into_iter()
        .flat_map(|class| &class.workers)
        .filter_map(|worker| workers.get(worker))
        .flat_map(|worker| worker.classes_of(batch.namespace));
    neighbours
        .chain([&batch.class])
        .map(served)
        .max()
        .unwrap_or(0)
}

pub(crate) fn ignored(reason: Ignored) -> Effect {
    Effect::Ignored { reason }
}
