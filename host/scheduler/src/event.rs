//! What the scheduler is told and what it answers.
//!
//! Events may be late, doubled, out of order or about things unknown: none of that is an error of
//! the scheduler. Reports that do not count give [`Effect::Superseded`], requests that make no
//! sense give [`Effect::Ignored`], and nothing else changes.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::{BatchId, JobId, WorkerId};

/// What a batch asks for. Numbers outside their range are taken as the nearest one inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchSpec {
    /// Jobs known now; [`Event::Extend`] adds more. Default 0.
    pub count: u32,
    /// Share among the batches of the same priority, at least 1. Default 1.
    pub weight: u32,
    /// Higher goes first; a lower priority gets only what higher ones leave. Default 0.
    pub priority: i32,
    /// Bytes of memory one job may use. Default 0.
    pub memory: u64,
    /// Labels a worker must have, with these values. Default none.
    pub labels: BTreeMap<String, String>,
    /// How often one job is tried again after outcomes that are the host's fault
    /// ([`OutcomeClass::is_retryable`]). Default 2.
    pub retries: u32,
    /// A job that takes this many workers down with it is given up, at least 1. With 1 nobody can
    /// tell the culprit from jobs that ran beside it. Default 3.
    pub loss_limit: u32,
}

impl Default for BatchSpec {
    fn default() -> Self {
        BatchSpec {
            count: 0,
            weight: 1,
            priority: 0,
            memory: 0,
            labels: BTreeMap::new(),
            retries: 2,
            loss_limit: 3,
        }
    }
}

/// What a worker offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerSpec {
    /// Jobs it runs at the same time. With 0 it gets none.
    pub slots: u32,
    /// Bytes of memory its jobs may use together.
    pub memory: u64,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// One attempt at a job, as a worker names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    /// The job.
    pub job: JobId,
    /// The number it was handed out under.
    pub attempt: u32,
}

/// How an attempt ended, as far as scheduling cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OutcomeClass {
    /// The job returned its output.
    Ok,
    /// The job failed in a way that would repeat itself: guest error, panic, trap, out of fuel,
    /// memory limit, output too large, rejected.
    Failed,
    /// Its wall-clock deadline passed.
    Deadline,
    /// The worker could not give it the memory it was allowed.
    HostOutOfMemory,
    /// The worker's own code panicked.
    HostPanic,
    /// The guest's call stack overflowed; how deep it may go differs by machine.
    StackOverflow,
}

impl OutcomeClass {
    /// Whether another attempt, best on another worker, may end differently.
    pub fn is_retryable(self) -> bool {
        !matches!(self, OutcomeClass::Ok | OutcomeClass::Failed)
    }

    /// Whether its service time says how long jobs of its batch run. A host that fails fast does
    /// not make jobs short.
    pub(crate) fn measures_work(self) -> bool {
        matches!(
            self,
            OutcomeClass::Ok | OutcomeClass::Failed | OutcomeClass::Deadline
        )
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A new batch. `finished` are jobs that already have their outcome, for a batch that is restored
    /// after a restart; they are never handed out.
    Submit {
        /// Its name, not in use.
        batch: BatchId,
        /// What it asks for.
        spec: BatchSpec,
        /// Ranges of finished jobs, in any order.
        finished: Vec<Range<u32>>,
    },
    /// `count` more jobs at the end of a batch.
    Extend {
        /// The batch.
        batch: BatchId,
        /// How many more jobs.
        count: u32,
    },
    /// A worker connected, for the first time or again, and holds exactly `holds`. Of what it
    /// claims, waiting jobs are adopted and the rest is revoked. Jobs handed to it before that it
    /// does not claim never reached it and wait again without blame; if the worker is a new
    /// process, send [`Event::WorkerLost`] first.
    WorkerJoined {
        /// The worker.
        worker: WorkerId,
        /// What it offers from now on.
        spec: WorkerSpec,
        /// All attempts it holds, finished ones it has not delivered included.
        holds: Vec<Claim>,
    },
    /// A worker is gone and its leases are over.
    WorkerLost {
        /// The worker.
        worker: WorkerId,
    },
    /// A worker wants no more jobs. It still reports those it holds, until it is lost.
    WorkerDraining {
        /// The worker.
        worker: WorkerId,
    },
    /// A worker reports how an attempt ended.
    Finished {
        /// The worker.
        worker: WorkerId,
        /// The job.
        job: JobId,
        /// The number it was handed out under.
        attempt: u32,
        /// How it ended.
        class: OutcomeClass,
        /// How long it occupied its slot, in microseconds.
        service_time_us: u64,
    },
    /// A worker hands jobs back that it has not started, or stopped by its own will. No blame. A
    /// worker that keeps doing so should say that it is draining: a free slot is filled again.
    GivenBack {
        /// The worker.
        worker: WorkerId,
        /// The attempts.
        jobs: Vec<Claim>,
    },
    /// End all jobs of a batch that have not finished. It cannot be extended any more.
    Cancel {
        /// The batch.
        batch: BatchId,
    },
    /// Drop all memory of a batch; cancels it first if it has unfinished jobs.
    Forget {
        /// The batch.
        batch: BatchId,
    },
    /// Time passed. Needed only to call jobs back from workers that are stuck; every 20 to 100 ms
    /// is a good rate.
    Tick,
}

/// Why a held job waits again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryReason {
    /// It ended by a fault of its host.
    Outcome(OutcomeClass),
    /// Its worker was lost; `blamed` if it may have been running and this counts as a loss.
    WorkerLost {
        /// Whether it counts towards the batch's `loss_limit`.
        blamed: bool,
    },
}

/// The final outcome of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The one its worker reported.
    Reported(OutcomeClass),
    /// It took too many workers down with it.
    LostTooOften {
        /// Worker and attempt number of each loss, in order.
        losses: Vec<(WorkerId, u32)>,
    },
}

/// Why an event, or a part of it, changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// No such worker is connected.
    UnknownWorker(WorkerId),
    /// No such batch, or it was forgotten.
    UnknownBatch(BatchId),
    /// A batch of this name exists.
    DuplicateBatch(BatchId),
    /// The batch was cancelled and cannot be extended.
    CancelledBatch(BatchId),
    /// A batch has at most `u32::MAX` jobs.
    TooManyJobs(BatchId),
}

/// What the caller has to do or may want to know, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send the job to the worker. Workers start jobs in the order of these effects.
    Assign {
        /// The worker.
        worker: WorkerId,
        /// The job.
        job: JobId,
        /// The number of this hand-out: the first is 1.
        attempt: u32,
    },
    /// Tell the worker to stop or drop this attempt; its report will not count.
    Revoke {
        /// The worker.
        worker: WorkerId,
        /// The job.
        job: JobId,
        /// The attempt.
        attempt: u32,
    },
    /// Ask the worker to give this attempt back if it has not started it; another worker is idle.
    /// It stays held until [`Event::GivenBack`] or [`Event::Finished`].
    Recall {
        /// The worker.
        worker: WorkerId,
        /// The job.
        job: JobId,
        /// The attempt.
        attempt: u32,
    },
    /// The job has its final outcome.
    Done {
        /// The job.
        job: JobId,
        /// The attempt that decided.
        attempt: u32,
        /// The worker that held it.
        worker: WorkerId,
        /// The outcome.
        verdict: Verdict,
    },
    /// These jobs are cancelled: their final outcome.
    Cancelled {
        /// The batch.
        batch: BatchId,
        /// Their indices.
        jobs: Range<u32>,
    },
    /// A report that does not count: late, doubled, or from a worker that does not hold the job.
    Superseded {
        /// Who reported.
        worker: WorkerId,
        /// The job.
        job: JobId,
        /// The attempt reported.
        attempt: u32,
    },
    /// The job waits again after a failed attempt. For information.
    Retried {
        /// The job.
        job: JobId,
        /// The attempt that failed.
        attempt: u32,
        /// The worker that held it.
        worker: WorkerId,
        /// Why.
        reason: RetryReason,
    },
    /// All jobs of the batch that are known so far have their outcome. Comes again if the batch is
    /// extended and finishes again, and at once for a batch submitted without unfinished jobs.
    BatchDone {
        /// The batch.
        batch: BatchId,
    },
    /// The event, or the part that names this thing, changed nothing.
    Ignored {
        /// Why.
        reason: Ignored,
    },
}
