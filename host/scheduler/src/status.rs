//! Questions about the state.

use crate::batch::{Batch, Blocked};
use crate::class::Class;
use crate::returned::{Demand, Place};
use crate::scheduler::Scheduler;
use crate::{
    BatchId, Claim, Distrust, JobId, NamespaceId, OutcomeClass, Time, Verdict, WorkerId, WorkerSpec,
};

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
    /// Answered in another way ([`Event::Answered`](crate::Event::Answered)).
    pub answered: u64,
    /// Finished before the batch was submitted here.
    pub restored: u64,
    /// How many of all these were followed by waiting again
    /// ([`Event::Reopen`](crate::Event::Reopen)): such a job is counted once for each time that it
    /// finished.
    pub reopened: u64,
}

impl DoneCounts {
    /// All jobs that are finished now.
    pub fn total(&self) -> u64 {
        self.ok
            + self.failed
            + self.deadline
            + self.host_out_of_memory
            + self.host_panic
            + self.stack_overflow
            + self.lost_too_often
            + self.cancelled
            + self.answered
            + self.restored
            - self.reopened
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

/// A batch in numbers. `waiting + parked + held + done.total() == count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchStatus {
    /// Jobs known so far.
    pub count: u32,
    /// Jobs that wait for a worker.
    pub waiting: u32,
    /// Jobs that are kept apart and wait for no worker.
    pub parked: u32,
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
    /// Whether it wants no more jobs.
    pub draining: bool,
    /// Since when its connection is lost; its lease goes on.
    pub away_since: Option<Time>,
    /// Whether it gets no more jobs because it failed too often by its own fault.
    pub aside: bool,
    /// Why it was last distrusted.
    pub distrusted: Option<Distrust>,
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
    /// None of those with the labels and the memory stays as long as it may run.
    NotEnoughTime,
    /// Workers could take it, but they are all away.
    OnlyAway,
    /// All that could take it have had it, and others are to come to the same result.
    NeedsAnotherWorker,
    /// It was lost with workers before and waits to run alone on an empty one.
    NeedsEmptyWorker,
    /// About so many jobs of the same namespace that ask the same of a worker go first.
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
    /// Kept apart until it is released or answered.
    Parked,
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

    /// All workers, those that are away included.
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

    /// Jobs of a namespace that wait for a worker, and that are kept apart.
    pub fn queued(&self, namespace: NamespaceId) -> (u64, u64) {
        self.shares.queued(namespace)
    }

    /// Jobs that wait and that a worker with this offer could take, if it had come just now; those of
    /// one namespace where `of` says so.
    pub fn waiting_for(&self, offer: &WorkerSpec, of: Option<NamespaceId>) -> u64 {
        let classes = self.classes.values();
        let classes = classes
            .filter(|class| of.is_none_or(|namespace| namespace == class.requirements.namespace));
        let takeable = classes.filter(|class| class.requirements.match_spec(offer));
        takeable.map(|class| class.waiting).sum()
    }

    /// Jobs that workers hold, running or not started.
    pub fn held(&self) -> u64 {
        self.workers.values().map(|w| w.held.len() as u64).sum()
    }

    /// Jobs that are kept apart, of all batches.
    pub fn parked(&self) -> u64 {
        self.parked
    }

    /// A batch in numbers.
    pub fn batch(&self, id: BatchId) -> Option<BatchStatus> {
        let batch = self.batches.get(&id)?;
        Some(BatchStatus {
            count: batch.count,
            waiting: batch.waiting(),
            parked: batch.parked.len(),
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
        let is_kept = |blocked: Blocked| blocked.reserved == Some(id);
        Some(WorkerStatus {
            slots: worker.spec.slots,
            held: worker.held.len() as u32,
            done: worker.done,
            service_us: worker.service.expected_us(),
            draining: worker.draining,
            away_since: worker.away_since,
            aside: worker.aside,
            distrusted: worker.distrusted,
            reserved_for: self
                .batches
                .values()
                .find(|batch| batch.blocked.is_some_and(is_kept))
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

    /// What a worker holds with the numbers of the attempts, in the order it was handed out.
    pub fn claims_of(&self, id: WorkerId) -> impl Iterator<Item = Claim> + '_ {
        self.held_by(id).filter_map(|job| {
            let held = self.batches.get(&job.batch)?.held.get(&job.index)?;
            let attempt = held.attempt;
            Some(Claim { job, attempt })
        })
    }

    /// The number that an unfinished job was last handed out under, 0 if it never was; for one that
    /// was reopened and not handed out since, the highest number before. `None` for other jobs.
    pub fn last_attempt(&self, job: JobId) -> Option<u32> {
        self.batches.get(&job.batch)?.last_attempt(job.index)
    }

    /// The unfinished jobs of a batch that were handed out at least once, and under which number
    /// last; for those that were reopened and not handed out since, the highest number before.
    pub fn attempted(&self, batch: BatchId) -> Vec<(u32, u32)> {
        let Some(batch) = self.batches.get(&batch) else {
            return Vec::new();
        };
        let held = batch.held.keys().copied();
        let returned = batch.returned.indices();
        let parked = batch.parked_history.keys().copied();
        let reopened = batch.fresh.iter();
        let reopened = reopened.filter(|range| batch.fresh.get(range.start) != Some(0));
        let all = held.chain(returned).chain(parked).chain(reopened.flatten());
        all.filter_map(|index| Some((index, batch.last_attempt(index)?)))
            .collect()
    }

    /// The last of a batch's jobs that are with no worker and have not finished.
    pub fn last_waiting(&self, batch: BatchId) -> Option<JobId> {
        let found = self.batches.get(&batch)?;
        let lasts = [
            found.fresh.last(),
            found.returned.indices().max(),
            found.parked.last(),
        ];
        let index = lasts.into_iter().flatten().max()?;
        Some(JobId { batch, index })
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
        if batch.parked.contains(job.index) {
            return Some(JobState::Parked);
        }
        let demand = match batch.returned.get(job.index) {
            Some((demand, _)) => demand.clone(),
            None if batch.fresh.contains(job.index) => Demand::default(),
            None => return Some(JobState::Finished),
        };
        let class = self.classes.get(&batch.class)?;
        Some(JobState::Waiting(
            self.why_waiting(batch, job.index, &demand, class),
        ))
    }

    fn why_waiting(&self, batch: &Batch, index: u32, demand: &Demand, class: &Class) -> WaitReason {
        let is_takeable = |id: &WorkerId| !demand.forbids(*id);
        if class.workers.iter().any(is_takeable) {
            return if demand.place == Place::Alone {
                WaitReason::NeedsEmptyWorker
            } else {
                self.behind(batch, index, class)
            };
        }
        let away = self.workers.iter().filter(|&(&id, worker)| {
            worker.away_since.is_some()
                && !worker.draining
                && !worker.aside
                && self.admits(&class.requirements, id, worker)
        });
        let mut away = away.map(|(id, _)| id).peekable();
        let has_had_it = !class.workers.is_empty() || away.peek().is_some();
        if away.any(is_takeable) {
            return WaitReason::OnlyAway;
        }
        if has_had_it {
            return WaitReason::NeedsAnotherWorker;
        }
        let takers = || {
            self.workers
                .values()
                .filter(|worker| worker.takes_jobs() && worker.spec.slots > 0)
        };
        if takers().next().is_none() {
            return WaitReason::NoWorker;
        }
        let requirements = &class.requirements;
        let largest = takers()
            .filter(|worker| requirements.labels_match(&worker.spec))
            .map(|worker| worker.spec.memory)
            .max();
        match largest {
            None => WaitReason::NoMatchingLabels,
            Some(largest) if largest >= requirements.memory => WaitReason::NotEnoughTime,
            Some(largest) => WaitReason::NotEnoughMemory { largest },
        }
    }

    fn behind(&self, batch: &Batch, index: u32, class: &Class) -> WaitReason {
        let returned = batch.returned.indices().filter(|&other| other < index);
        let own = u64::from(batch.fresh.count_below(index)) + returned.count() as u64;
        let earlier = class.ready.iter().take_while(|turn| turn.batch != batch.id);
        let others = earlier.filter_map(|turn| self.batches.get(&turn.batch));
        let others: u64 = others.map(|batch| u64::from(batch.waiting())).sum();
        WaitReason::Behind { jobs: own + others }
    }
}
