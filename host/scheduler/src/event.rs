//! What the scheduler is told and what it answers.
//!
//! Events may be late, doubled, out of order or about things unknown: none of that is an error of
//! the scheduler. Reports that do not count give [`Effect::Superseded`], requests that make no
//! sense give [`Effect::Ignored`], and nothing else changes.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::{BatchId, JobId, NamespaceId, WorkerId};

/// What a batch asks for. Numbers outside their range are taken as the nearest one inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchSpec {
    /// Whose it is. Default 0.
    pub namespace: NamespaceId,
    /// Jobs known now; [`Event::Extend`] adds more. Default 0.
    pub count: u32,
    /// Share among the batches of the same namespace and priority, at least 1. Default 1.
    pub weight: u32,
    /// Higher goes first within the namespace; a lower priority gets only what higher ones leave.
    /// Default 0.
    pub priority: i32,
    /// Bytes of memory one job may use. Default 0.
    pub memory: u64,
    /// Microseconds that one job may run; workers that leave before get none. Default: not said.
    pub time_us: Option<u64>,
    /// Labels a worker must have, with these values. Default none.
    pub labels: BTreeMap<String, String>,
    /// The one worker that its jobs go to, for as long as that worker takes jobs or may come back to
    /// take some: it is known, has what they ask for, is not draining and not put aside. Else they go
    /// to any. Default none.
    pub home: Option<WorkerId>,
    /// How often one job is tried again after reports that ask for it ([`Then::Retry`]). Default 2.
    pub retries: u32,
    /// A job that takes this many workers down with it is given up, at least 1. With 1 nobody can
    /// tell the culprit from jobs that ran beside it. Default 3.
    pub loss_limit: u32,
}

impl Default for BatchSpec {
    fn default() -> Self {
        BatchSpec {
            namespace: NamespaceId::default(),
            count: 0,
            weight: 1,
            priority: 0,
            memory: 0,
            time_us: None,
            labels: BTreeMap::new(),
            home: None,
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
    /// How long it stays, counted from joining. Default: for ever.
    pub stay: Option<Stay>,
}

/// How long a worker that leaves at a set time stays, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stay {
    /// Until then all that it runs has to end.
    pub left_us: u64,
    /// What has to be left for it to take a job of which nobody said how long it may run.
    pub reserve_us: u64,
}

impl Stay {
    /// Whether a job that may run for `time_us` may begin: it must be able to end in time.
    pub fn admits(&self, time_us: Option<u64>) -> bool {
        time_us.unwrap_or(self.reserve_us) <= self.left_us
    }
}

/// One attempt at a job, as a worker names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    /// The job.
    pub job: JobId,
    /// The number it was handed out under.
    pub attempt: u32,
}

/// What an unfinished job went through before a restart of the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Its position in the batch.
    pub index: u32,
    /// The highest number it was handed out under; a worker that says it holds a later attempt keeps
    /// it, and one that says it holds this very attempt too, unless that is `reported`.
    pub last_attempt: u32,
    /// Whether the report of the last attempt has been taken in, or the job was reopened after it.
    pub reported: bool,
    /// How often it was tried again after [`Then::Retry`].
    pub failures: u32,
    /// Worker and attempt of each loss it is blamed for, in order.
    pub losses: Vec<(WorkerId, u32)>,
    /// Workers it must never go to again, because they had it under [`Then::Confirm`].
    pub avoid: Vec<WorkerId>,
}

/// What becomes of a job after a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Then {
    /// It is final.
    Decide,
    /// The job is tried again, best on another worker, unless it was as often as its batch allows:
    /// then it is final.
    Retry,
    /// The job waits for a worker that has not had it under `Confirm`, and for as long as it takes:
    /// several workers are to come to the same result, and the caller compares. Not for batches that
    /// have a home: they have no other worker.
    Confirm,
}

/// Why a worker is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Distrust {
    /// Other workers agreed on another result than its own.
    Outvoted,
    /// A late result of it is not the one that was accepted.
    Contradicted,
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
    /// Whether another attempt, best on another worker, may end differently: where callers have no
    /// rule of their own, after these [`Then::Retry`].
    pub fn is_retryable(self) -> bool {
        !matches!(self, OutcomeClass::Ok | OutcomeClass::Failed)
    }

    /// Whether it speaks against the host and not against the job.
    pub(crate) fn is_host_fault(self) -> bool {
        matches!(
            self,
            OutcomeClass::HostOutOfMemory | OutcomeClass::HostPanic
        )
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
    /// A new batch, or one that is restored after a restart of the caller.
    Submit {
        /// Its name, not in use.
        batch: BatchId,
        /// What it asks for.
        spec: BatchSpec,
        /// Ranges of jobs that have their outcome already, in any order. They are never handed out.
        finished: Vec<Range<u32>>,
        /// Ranges of jobs that are kept apart, in any order: neither finished nor waiting, until
        /// [`Event::Released`] or [`Event::Answered`].
        parked: Vec<Range<u32>>,
        /// What unfinished jobs went through; of several about one job the first counts.
        known: Vec<Known>,
    },
    /// The share of a namespace among all, at least 1; 1 until this says otherwise.
    Weigh {
        /// The namespace.
        namespace: NamespaceId,
        /// Its share.
        weight: u32,
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
    ///
    /// A worker that was away is so no more; if it was draining when it went, it still is.
    WorkerJoined {
        /// The worker.
        worker: WorkerId,
        /// What it offers from now on.
        spec: WorkerSpec,
        /// All attempts it holds, finished ones it has not delivered included.
        holds: Vec<Claim>,
    },
    /// The connection of a worker is lost and its lease goes on: it keeps what it holds, its reports
    /// count, and it takes no jobs. After [`Config::lease_us`](crate::Config::lease_us) it is lost.
    WorkerAway {
        /// The worker.
        worker: WorkerId,
    },
    /// After a restart of the caller, once its batches are submitted: this worker was known before,
    /// held these attempts, and is away from now on. Waiting jobs are adopted; of the rest nothing
    /// is said, since there is no connection to say it on.
    WorkerRestored {
        /// The worker, not known.
        worker: WorkerId,
        /// What it offers.
        spec: WorkerSpec,
        /// All attempts it held, in the order it got them.
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
        /// What becomes of the job.
        then: Then,
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
    /// These jobs got their outcome in another way. They finish without any further effect of their
    /// own; held ones are revoked. Finished ones are left alone.
    Answered {
        /// The batch.
        batch: BatchId,
        /// Indices of the jobs.
        jobs: Vec<u32>,
    },
    /// These parked jobs are to run after all. Others are left alone.
    Released {
        /// The batch.
        batch: BatchId,
        /// Indices of the jobs.
        jobs: Vec<u32>,
    },
    /// Finished jobs wait again, without their history; those that have not finished are left
    /// alone. If the batch was cancelled, it no longer is.
    Reopen {
        /// The batch.
        batch: BatchId,
        /// Ranges of indices, in any order.
        jobs: Vec<Range<u32>>,
        /// Their attempts are numbered from the next number on, so that no report of an attempt up
        /// to this one counts.
        first_attempt: u32,
    },
    /// A worker was found wrong. The second time ([`Config::distrust_limit`]) it is put aside.
    ///
    /// [`Config::distrust_limit`]: crate::Config::distrust_limit
    Distrust {
        /// The worker.
        worker: WorkerId,
        /// How.
        why: Distrust,
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
    /// Time passed. Needed to call jobs back from workers that are stuck and to end leases; every 20
    /// to 100 ms is a good rate.
    Tick,
}

/// Why a held job waits again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryReason {
    /// It ended so, and the report asked for another attempt.
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
    /// No such worker.
    UnknownWorker(WorkerId),
    /// A worker of this name exists and cannot be restored.
    KnownWorker(WorkerId),
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
        /// The number of this hand-out, higher than those before: the first is 1.
        attempt: u32,
    },
    /// Tell the worker to stop or drop this attempt; its report will not count. A worker that is away
    /// is told when it joins again.
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
    /// The job waits for another worker to come to the same result.
    Unconfirmed {
        /// The job.
        job: JobId,
        /// The attempt that ended.
        attempt: u32,
        /// The worker that held it, and will not get it again.
        worker: WorkerId,
    },
    /// The lease of a worker that was away has ended: it is lost, and what follows from that comes
    /// next.
    LeaseEnded {
        /// The worker.
        worker: WorkerId,
    },
    /// The worker takes no more jobs, because it failed too often by its own fault. If one day nobody
    /// else is left for what it can run, it is taken back.
    PutAside {
        /// The worker.
        worker: WorkerId,
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
    /// extended or reopened and finishes again, and at once for a batch submitted or reopened without
    /// unfinished jobs.
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
