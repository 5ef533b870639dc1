//! What is appended to a store, and what it gives back to a coordinator that starts.

use std::ops::Range;

use optwasm_protocol::message::{AttemptEnd, BatchSpec, WorkerInfo};
use optwasm_protocol::{
    BatchId, JobId, Limits, Namespace, Outcome, Payload, Quota, Report, Usage, WorkerId,
};

/// A batch as it was submitted.
#[derive(Clone, Debug)]
pub struct NewBatch {
    /// Its number.
    pub batch: BatchId,
    /// Whose it is.
    pub namespace: Namespace,
    /// What was submitted.
    pub spec: BatchSpec,
    /// The input of each job.
    pub inputs: Vec<Payload>,
    /// Tells whether a second submission with the same key is the same.
    pub digest: [u8; 32],
    /// Engine whose results may answer these jobs.
    pub engine: String,
    /// When, in milliseconds since 1970.
    pub submitted_ms: u64,
}

/// What a job counts for beside its input: rows for it and for a small result.
const JOB_OVERHEAD: u64 = 256;

/// What a batch counts for beside its jobs: a page in each table that it gets rows in.
const BATCH_OVERHEAD: u64 = 16 << 10;

impl NewBatch {
    /// About how many bytes it takes in a store.
    pub fn bytes(&self) -> u64 {
        let jobs = self.inputs.len() as u64;
        self.input_bytes() + jobs * JOB_OVERHEAD + BATCH_OVERHEAD
    }

    /// About how many of them are its inputs.
    pub fn input_bytes(&self) -> u64 {
        let inputs = self.inputs.iter().map(|input| match input {
            Payload::Inline(bytes) => bytes.len() as u64,
            // A length and a name.
            Payload::Blob(..) => 40,
        });
        inputs.sum()
    }
}

/// One attempt in the hands of a worker.
pub type Held = (JobId, u32);

/// A result that waits for other workers to come to the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Witness {
    /// Whose it is.
    pub worker: WorkerId,
    /// What was reported; names worker and attempt.
    pub report: Report,
}

impl Witness {
    /// About how many bytes it takes to keep.
    pub(crate) fn size(&self) -> u64 {
        self.report.size() as u64
    }
}

/// One change.
#[derive(Clone, Debug)]
pub enum Record {
    /// A batch was submitted. Comes alone.
    Submitted(Box<NewBatch>),
    /// A job ended; the engine is that of the worker that ran it, empty where none did. The first
    /// result of a job counts; a later one changes nothing. Its witnesses are of no more use.
    Result(JobId, Box<Report>, String),
    /// A worker came to this result, and others are asked to confirm it.
    Witness(JobId, Box<Witness>),
    /// An attempt ended without deciding its job.
    Attempt(JobId, AttemptEnd),
    /// An attempt at a job of this batch used so much fuel, and a slot for so many microseconds, and
    /// has neither a result nor a witness.
    Spent(BatchId, u64, u64),
    /// What a namespace may have from now on.
    Quota(Namespace, Quota),
    /// A late or outvoted result was the same as the accepted one, or not.
    Compared(BatchId, bool),
    /// A batch was cancelled.
    Cancelled(BatchId),
    /// The last job of a batch ended, at so many milliseconds since 1970.
    Ended(BatchId, u64),
    /// Jobs of a batch that had ended run again, under these limits where they are given. Their
    /// results so far are dropped, a cancelled batch is no longer cancelled, and a batch that had
    /// ended has not.
    Reopened(BatchId, Vec<Range<u32>>, Option<Limits>),
    /// A batch and its results are of no more use.
    Removed(BatchId),
    /// A worker joined, or joined again.
    Worker(WorkerId, Box<WorkerInfo>),
    /// All that a worker holds now. Later such records replace earlier ones.
    Holds(WorkerId, Vec<Held>),
    /// A worker is gone for good.
    WorkerGone(WorkerId),
}

/// What a coordinator that starts has to know.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// Of which life of this store the numbers of batches and workers are: random, and another one
    /// in a copy, which gives the same numbers to other batches. What a worker holds of
    /// another life means nothing here.
    pub life: u64,
    /// The next batch's number.
    pub next_batch: u64,
    /// The next worker's number.
    pub next_worker: u64,
    /// Batches that have not ended, ascending.
    pub batches: Vec<RestoredBatch>,
    /// Workers that were connected or within their lease.
    pub workers: Vec<RestoredWorker>,
    /// What was found damaged and left out, for people.
    pub damaged: Vec<String>,
}

/// A batch that has not ended.
#[derive(Clone, Debug)]
pub struct RestoredBatch {
    /// Its number.
    pub batch: BatchId,
    /// Whose it is.
    pub namespace: Namespace,
    /// What was submitted.
    pub spec: BatchSpec,
    /// Number of jobs.
    pub jobs: u32,
    /// Jobs that have ended, as ascending disjoint ranges.
    pub finished: Vec<Range<u32>>,
    /// Jobs that wait for an identical one.
    pub parked: Vec<Range<u32>>,
    /// Attempts that did not decide their job, of jobs that have not ended, in order.
    pub attempts: Vec<(u32, AttemptEnd)>,
}

/// A worker that was connected or within its lease.
#[derive(Clone, Debug)]
pub struct RestoredWorker {
    /// Its number.
    pub worker: WorkerId,
    /// What it said when it joined.
    pub info: WorkerInfo,
    /// What it held when that was last written; jobs that have ended since are not left out.
    pub holds: Vec<Held>,
}

/// What a namespace may have, has and has used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Which.
    pub namespace: Namespace,
    /// What it may have.
    pub quota: Quota,
    /// What it has used, and has.
    pub usage: Usage,
}

impl Account {
    /// That of a namespace which has used nothing and may have all.
    pub fn new(namespace: Namespace) -> Self {
        Self {
            namespace,
            quota: Quota::default(),
            usage: Usage::default(),
        }
    }

    /// Counts a job that has ended, and what its deciding attempt took.
    pub(crate) fn count(&mut self, report: &Report) {
        let usage = &mut self.usage;
        let counter = match report.outcome {
            Outcome::Ok(_) => &mut usage.ok,
            Outcome::Cancelled => &mut usage.cancelled,
            _ => &mut usage.failed,
        };
        *counter += 1;
        if report.memo {
            usage.memo += 1;
        } else {
            usage.bill(report.fuel, report.wall_us);
        }
    }
}
