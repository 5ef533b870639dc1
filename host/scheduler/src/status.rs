//! Questions about the state, and a check of all its invariants.

use std::collections::BTreeSet;

use crate::batch::Batch;
use crate::returned::Place;
use crate::scheduler::Scheduler;
use crate::{BatchId, JobId, OutcomeClass, Time, Verdict, WorkerId};

/// Finished jobs by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DoneCounts {
    /// With an output.
    pub ok: u64,
    /// With a failure that would repeat itself.
    pub failed: u64,
    /// Deadline passed, retries used up.
    pub deadline: u64,
    /// No memory on the host, retries used up.
    pub host_out_of_memory: u64,
    /// The worker's code panicked, retries used up.
    pub host_panic: u64,
    /// Stack overflow, retries used up.
    pub stack_overflow: u64,
    /// Took too many workers down.
    pub lost_too_often: u64,
    /// Cancelled.
    pub cancelled: u64,
    /// Finished before the batch was submitted here.
    pub restored: u64,
}

impl DoneCounts {
    /// All finished jobs.
    pub fn total(&self) -> u64 {
        self.ok
            + self.failed
            + self.deadline
            + self.host_out_of_memory
            + self.host_panic
            + self.stack_overflow
            + self.lost_too_often
            + self.cancelled
            + self.restored
    }

    pub(crate) fn count(&mut self, verdict: &Verdict) {
        let counter = match verdict {
            Verdict::Reported(OutcomeClass::Ok) => &mut self.ok,
            Verdict::Reported(OutcomeClass::Failed) => &mut self.failed,
            Verdict::Reported(OutcomeClass::Deadline) => &mut self.deadline,
            Verdict::Reported(OutcomeClass::HostOutOfMemory) => &mut self.host_out_of_memory,
            Verdict::Reported(OutcomeClass::HostPanic) => &mut self.host_panic,
            Verdict::Reported(OutcomeClass::StackOverflow) => &mut self.stack_overflow,
            Verdict::LostTooOften { .. } => &mut self.lost_too_often,
        };
        *counter += 1;
    }
}

/// A batch in numbers. `waiting + held + done.total() == count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchStatus {
    /// Jobs known so far.
    pub count: u32,
    /// Jobs that wait for a worker.
    pub waiting: u32,
    /// Jobs held by workers, running or not started.
    pub held: u32,
    /// Finished jobs.
    pub done: DoneCounts,
    /// Attempts that failed and were followed by waiting again.
    pub retried: u64,
    /// Reports that did not count.
    pub superseded: u64,
    /// Expected service time of a job, in microseconds, once one has been reported.
    pub expected_us: Option<u64>,
    /// Whether it was cancelled.
    pub cancelled: bool,
}

/// A worker in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerStatus {
    /// Jobs it runs at the same time.
    pub slots: u32,
    /// Jobs it holds, running or not started.
    pub held: u32,
    /// Reports of it that counted.
    pub done: u64,
    /// Mean service time of its latest jobs, in microseconds.
    pub service_us: Option<u64>,
    /// Whether it takes no more jobs.
    pub draining: bool,
    /// The batch that it is kept for because it needs room.
    pub reserved_for: Option<BatchId>,
}

/// Why a job waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// No worker that takes jobs is connected.
    NoWorker,
    /// None of them has the labels it asks for.
    NoMatchingLabels,
    /// None of those with the labels has the memory; the largest has `largest` bytes.
    NotEnoughMemory {
        /// Bytes.
        largest: u64,
    },
    /// It was lost with workers before and waits to run alone on an empty one.
    NeedsEmptyWorker,
    /// About so many jobs that ask the same of a worker go first.
    Behind {
        /// Waiting jobs of batches that are served before, and earlier ones of its own.
        jobs: u64,
    },
}

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// With no worker.
    Waiting(WaitReason),
    /// With a worker.
    Held {
        /// The worker.
        worker: WorkerId,
        /// The number of this hand-out.
        attempt: u32,
        /// When it was handed out.
        since: Time,
    },
    /// It has its final outcome.
    Finished,
}

impl Scheduler {
    /// All batches that are not forgotten.
    pub fn batch_ids(&self) -> impl Iterator<Item = BatchId> + '_ {
        self.batches.keys().copied()
    }

    /// All connected workers.
    pub fn worker_ids(&self) -> impl Iterator<Item = WorkerId> + '_ {
        self.workers.keys().copied()
    }

    /// Reports that did not count, those for unknown batches included.
    pub fn superseded(&self) -> u64 {
        self.superseded
    }

    /// Jobs that wait for a worker, of all batches.
    pub fn waiting(&self) -> u64 {
        self.classes.values().map(|class| class.waiting).sum()
    }

    /// A batch in numbers.
    pub fn batch(&self, id: BatchId) -> Option<BatchStatus> {
        let batch = self.batches.get(&id)?;
        Some(BatchStatus {
            count: batch.count,
            waiting: batch.waiting(),
            held: batch.held.len() as u32,
            done: batch.done,
            retried: batch.retried,
            superseded: batch.superseded,
            expected_us: batch.service.expected_us(),
            cancelled: batch.cancelled,
        })
    }

    /// A worker in numbers.
    pub fn worker(&self, id: WorkerId) -> Option<WorkerStatus> {
        let worker = self.workers.get(&id)?;
        let reserved_for = |batch: &&Batch| {
            batch
                .blocked
                .is_some_and(|blocked| blocked.reserved == Some(id))
        };
        Some(WorkerStatus {
            slots: worker.spec.slots,
            held: worker.held.len() as u32,
            done: worker.done,
            service_us: worker.service.expected_us(),
            draining: worker.draining,
            reserved_for: self
                .batches
                .values()
                .find(reserved_for)
                .map(|batch| batch.id),
        })
    }

    /// What a worker holds, in the order it was handed out.
    pub fn held_by(&self, id: WorkerId) -> impl Iterator<Item = JobId> + '_ {
        self.workers
            .get(&id)
            .into_iter()
            .flat_map(|worker| worker.held.values().copied())
    }

    /// Where a job is and, if it waits, why; `None` if there is no such job.
    pub fn job(&self, job: JobId) -> Option<JobState> {
        let batch = self
            .batches
            .get(&job.batch)
            .filter(|batch| job.index < batch.count)?;
        if let Some(held) = batch.held.get(&job.index) {
            let (worker, attempt, since) = (held.worker, held.attempt, held.since);
            return Some(JobState::Held {
                worker,
                attempt,
                since,
            });
        }
        let place = match batch.returned.get(job.index) {
            Some((demand, _)) => demand.place,
            None if batch.fresh.contains(job.index) => Place::Anywhere,
            None => return Some(JobState::Finished),
        };
        let class = self.classes.get(&batch.class)?;
        let takers = || {
            self.workers
                .values()
                .filter(|w| !w.draining && w.spec.slots > 0)
        };
        let reason = if !class.workers.is_empty() {
            if place == Place::Alone {
                WaitReason::NeedsEmptyWorker
            } else {
                let own = batch.fresh.count_below(job.index) as usize
                    + batch
                        .returned
                        .indices()
                        .filter(|&index| index < job.index)
                        .count();
                let earlier = class
                    .ready
                    .iter()
                    .take_while(|turn| turn.batch != job.batch);
                let others = earlier.filter_map(|turn| self.batches.get(&turn.batch));
                let others: u64 = others.map(|batch| u64::from(batch.waiting())).sum();
                WaitReason::Behind {
                    jobs: own as u64 + others,
                }
            }
        } else if takers().next().is_none() {
            WaitReason::NoWorker
        } else {
            takers()
                .filter(|worker| class.requirements.labels_match(&worker.spec))
                .map(|worker| worker.spec.memory)
                .max()
                .map_or(WaitReason::NoMatchingLabels, |largest| {
                    WaitReason::NotEnoughMemory { largest }
                })
        };
        Some(JobState::Waiting(reason))
    }

    /// Checks every invariant by counting everything; for tests, its cost is that of the whole
    /// state.
    ///
    /// # Errors
    /// Says which invariant does not hold: a bug of this crate.
    pub fn sanity_check(&self) -> Result<(), String> {
        let ensure = |holds: bool, what: String| if holds { Ok(()) } else { Err(what) };
        ensure(
            self.wake.is_empty() && self.filling.is_empty(),
            "a worker is left to fill".into(),
        )?;
        for (&id, batch) in &self.batches {
            let mut waiting: BTreeSet<u32> = batch.fresh.iter().flatten().collect();
            let fresh = waiting.len();
            waiting.extend(batch.returned.indices());
            let total = fresh as u64 + u64::from(batch.returned.len());
            ensure(
                waiting.len() as u64 == total && total == u64::from(batch.waiting()),
                format!("{id}: a job waits twice or is miscounted"),
            )?;
            ensure(
                batch.held.keys().all(|index| !waiting.contains(index)),
                format!("{id}: a held job waits"),
            )?;
            ensure(
                waiting
                    .iter()
                    .chain(batch.held.keys())
                    .all(|&index| index < batch.count),
                format!("{id}: a job beyond its count"),
            )?;
            let known = total + batch.held.len() as u64 + batch.done.total();
            ensure(
                known == u64::from(batch.count),
                format!("{id}: jobs do not add up"),
            )?;
            for (&index, held) in &batch.held {
                let job = JobId { batch: id, index };
                let holder = self.workers.get(&held.worker);
                ensure(
                    holder.is_some_and(|worker| worker.held.get(&held.order) == Some(&job)),
                    format!("{job}: held by {} that does not know it", held.worker),
                )?;
            }
            let class = self
                .classes
                .get(&batch.class)
                .ok_or(format!("{id}: no class"))?;
            let turns: Vec<_> = class.ready.iter().filter(|turn| turn.batch == id).collect();
            ensure(
                turns == batch.turn().iter().collect::<Vec<_>>(),
                format!("{id}: wrong place in the order"),
            )?;
        }
        for (&class_id, class) in &self.classes {
            let members = || {
                self.batches
                    .values()
                    .filter(|batch| batch.class == class_id)
            };
            let waiting: u64 = members().map(|batch| u64::from(batch.waiting())).sum();
            ensure(
                waiting == class.waiting,
                format!("class {class_id}: waiting jobs miscounted"),
            )?;
            ensure(
                members().next().is_some(),
                format!("class {class_id}: has no batch"),
            )?;
            for (&id, worker) in &self.workers {
                let matches = !worker.draining && class.requirements.match_worker(&worker.spec);
                ensure(
                    class.workers.contains(&id) == matches
                        && worker.classes.iter().filter(|&&c| c == class_id).count()
                            == usize::from(matches),
                    format!("class {class_id}: wrong about {id}"),
                )?;
            }
        }
        for (&id, worker) in &self.workers {
            let (mut long, mut short_us) = (0, 0);
            for &job in worker.held.values() {
                let held = self
                    .batches
                    .get(&job.batch)
                    .and_then(|b| b.held.get(&job.index));
                let held = held.ok_or(format!("{id}: holds {job} that is not held"))?;
                ensure(held.worker == id, format!("{job}: held twice"))?;
                match held
                    .expected_us
                    .filter(|&us| us <= self.config.window.long_job_us)
                {
                    Some(us) => short_us += us,
                    None => long += 1,
                }
            }
            ensure(
                worker.tallies() == (worker.held.len(), long, short_us),
                format!("{id}: load miscounted"),
            )?;
            ensure(
                worker.lone.is_none() || worker.held.len() == 1,
                format!("{id}: a job that has to be alone is not"),
            )?;
            self.check_not_idle(id).map_or(Ok(()), |job| {
                Err(format!("{id}: has a free slot although {job} is ready"))
            })?;
        }
        Ok(())
    }

    /// A ready job that the worker should have been given.
    fn check_not_idle(&self, id: WorkerId) -> Option<JobId> {
        let worker = self.workers.get(&id)?;
        if worker.lone.is_some() || !worker.has_free_slot() {
            return None;
        }
        // While a worker is kept for a batch, others may come before that batch when their passes
        // are corrected; only a higher priority has to be served at once.
        let kept_for = |batch: &&Batch| batch.blocked.is_some_and(|b| b.reserved == Some(id));
        let kept_at = self
            .batches
            .values()
            .filter(kept_for)
            .map(|batch| batch.priority)
            .max();
        let mut after = None;
        while let Some((class, turn)) = self.next_turn(worker, after) {
            let (batch, class) = (self.batches.get(&turn.batch)?, self.classes.get(&class)?);
            if kept_at.is_some_and(|priority| priority >= batch.priority) {
                return None;
            }
            if let Some(index) = batch.choose(id, worker, class).index
                && worker.fits(class.requirements.memory)
            {
                return Some(JobId {
                    batch: turn.batch,
                    index,
                });
            }
            after = Some(turn);
        }
        None
    }
}
