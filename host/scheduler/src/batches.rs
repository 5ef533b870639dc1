//! What callers ask of batches: submit, extend, answer, release, reopen, cancel and forget.

use std::ops::Range;

use crate::batch::Batch;
use crate::class::{Class, ClassId, Requirements};
use crate::scheduler::{Scheduler, ignored};
use crate::{BatchId, BatchSpec, Effect, Ignored, JobId, Known, Time};

/// The contents of [`Event::Submit`](crate::Event::Submit).
pub(crate) struct Submission<'a> {
    pub(crate) spec: &'a BatchSpec,
    pub(crate) finished: &'a [Range<u32>],
    pub(crate) parked: &'a [Range<u32>],
    pub(crate) known: Vec<Known>,
}

impl Scheduler {
    pub(crate) fn submit(
        &mut self,
        id: BatchId,
        submission: Submission<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let Submission {
            spec,
            finished,
            parked,
            known,
        } = submission;
        if self.batches.contains_key(&id) {
            effects.push(ignored(Ignored::DuplicateBatch(id)));
            return;
        }
        let class = self.class_for(spec);
        self.shares.add_batch(spec.namespace);
        self.batches
            .insert(id, Box::new(Batch::new(id, class, spec)));
        self.change(id, |batch| {
            batch.grow_to(spec.count);
            batch.restore(finished, parked, known);
        });
        self.take_back();
        self.wake_class(class);
        self.announce_if_done(id, effects);
    }

    /// The class of a new batch, which becomes its member.
    fn class_for(&mut self, spec: &BatchSpec) -> ClassId {
        let requirements = Requirements {
            namespace: spec.namespace,
            labels: spec.labels.clone(),
            memory: spec.memory,
            time_us: spec.time_us,
            home: spec.home,
        };
        let id = self
            .class_ids
            .get(&requirements)
            .copied()
            .unwrap_or_else(|| {
                let id = self.next_class;
                self.next_class += 1;
                self.classes.insert(id, Class::new(requirements.clone()));
                self.class_ids.insert(requirements, id);
                self.choose_members(id);
                id
            });
        if let Some(class) = self.classes.get_mut(&id) {
            class.add_batch(spec.priority);
        }
        id
    }

    pub(crate) fn extend(&mut self, id: BatchId, count: u32, effects: &mut Vec<Effect>) {
        let Some(batch) = self.batches.get(&id) else {
            effects.push(ignored(Ignored::UnknownBatch(id)));
            return;
        };
        if batch.cancelled {
            effects.push(ignored(Ignored::CancelledBatch(id)));
            return;
        }
        let Some(total) = batch.count.checked_add(count) else {
            effects.push(ignored(Ignored::TooManyJobs(id)));
            return;
        };
        let class = batch.class;
        self.change(id, |batch| batch.grow_to(total));
        self.wake_class(class);
    }

    pub(crate) fn answer(
        &mut self,
        now: Time,
        id: BatchId,
        jobs: &[u32],
        effects: &mut Vec<Effect>,
    ) {
        if !self.batches.contains_key(&id) {
            effects.push(ignored(Ignored::UnknownBatch(id)));
            return;
        }
        let mut answered = 0;
        for &index in jobs {
            let job = JobId { batch: id, index };
            let dropped = self.change(id, |batch| batch.drop_unheld(index)) == Some(true);
            answered += u64::from(dropped || self.revoke(now, job, effects));
        }
        let Some(batch) = self.batches.get_mut(&id).filter(|_| answered > 0) else {
            return;
        };
        batch.done.answered += answered;
        // The job that a worker is kept for may be among them: then the worker finds out.
        self.wake.extend(batch.blocked.and_then(|b| b.reserved));
        if batch.waiting() == 0 {
            batch.blocked = None;
        }
        self.announce_if_done(id, effects);
    }

    pub(crate) fn release(&mut self, id: BatchId, jobs: &[u32], effects: &mut Vec<Effect>) {
        let released = self.change(id, |batch| {
            for &index in jobs {
                batch.release(index);
            }
            batch.class
        });
        match released {
            Some(class) => self.wake_class(class),
            None => effects.push(ignored(Ignored::UnknownBatch(id))),
        }
    }

    pub(crate) fn reopen(
        &mut self,
        id: BatchId,
        jobs: &[Range<u32>],
        first_attempt: u32,
        effects: &mut Vec<Effect>,
    ) {
        let reopened = self.change(id, |batch| {
            batch.reopen(jobs, first_attempt);
            batch.class
        });
        let Some(class) = reopened else {
            effects.push(ignored(Ignored::UnknownBatch(id)));
            return;
        };
        self.wake_class(class);
        self.announce_if_done(id, effects);
    }

    /// Takes a held job off its worker for good; whether it was held.
    fn revoke(&mut self, now: Time, job: JobId, effects: &mut Vec<Effect>) -> bool {
        let batch = self.batches.get(&job.batch);
        let Some(held) = batch.and_then(|batch| batch.held.get(&job.index)) else {
            return false;
        };
        let (worker, attempt) = (held.worker, held.attempt);
        // Nothing else tells how long it ran.
        let runs = self.workers.get(&worker).is_some_and(|w| w.runs(job));
        if runs && let Some(batch) = self.batches.get_mut(&job.batch) {
            batch.charge_for_time(now, job.index, &mut self.shares);
        }
        self.take_held(worker, job, |_| true);
        // One that is away cannot be told; its claim is revoked when it joins.
        if self
            .workers
            .get(&worker)
            .is_some_and(|w| w.away_since.is_none())
        {
            effects.push(Effect::Revoke {
                worker,
                job,
                attempt,
            });
        }
        self.wake.push(worker);
        true
    }

    pub(crate) fn cancel(&mut self, now: Time, id: BatchId, effects: &mut Vec<Effect>) {
        let Some(batch) = self.batches.get_mut(&id) else {
            effects.push(ignored(Ignored::UnknownBatch(id)));
            return;
        };
        batch.cancelled = true;
        if batch.is_done() {
            return;
        }
        let unfinished = batch.unfinished();
        let held: Vec<u32> = batch.held.keys().copied().collect();
        self.wake
            .extend(batch.blocked.take().and_then(|blocked| blocked.reserved));
        for index in held {
            let job = JobId { batch: id, index };
            self.revoke(now, job, effects);
        }
        self.change(id, |batch| {
            batch.fresh.clear();
            batch.returned.clear();
            batch.parked.clear();
            batch.parked_history.clear();
            batch.done.cancelled += unfinished
                .iter()
                .map(|range| u64::from(range.end - range.start))
                .sum::<u64>();
        });
        effects.extend(
            unfinished
                .into_iter()
                .map(|jobs| Effect::Cancelled { batch: id, jobs }),
        );
        effects.push(Effect::BatchDone { batch: id });
    }

    pub(crate) fn forget(&mut self, now: Time, id: BatchId, effects: &mut Vec<Effect>) {
        self.cancel(now, id, effects);
        let Some(batch) = self.batches.remove(&id) else {
            return;
        };
        self.shares.remove_batch(batch.namespace);
        let Some(class) = self.classes.get_mut(&batch.class) else {
            return;
        };
        class.remove_batch(batch.priority);
        if class.is_unused() {
            self.class_ids.remove(&class.requirements);
            for worker in &class.workers {
                if let Some(worker) = self.workers.get_mut(worker) {
                    worker.leave(batch.namespace, batch.class);
                }
            }
            self.classes.remove(&batch.class);
        }
    }
}
