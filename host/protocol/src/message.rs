//! The messages of workers, clients and coordinator.
//!
//! A worker and the coordinator exchange [`FromWorker`] and [`ToWorker`] on the worker's control
//! stream; many jobs or results travel in one message. A client opens a stream for each
//! [`Request`] and reads [`Response`]s from it. Blobs travel on streams of their own: a worker
//! opens those with [`Request::GetBlob`] and [`Request::PutBlob`], as a client does.

mod batch;
mod status;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::namespace::{Namespace, NamespaceStatus, QuotaChange};
use crate::outcome::{Incumbent, Report};
use crate::token::Role;
use crate::{BatchId, ContentId, JobId, Limits, Payload, Template, WorkerId};

pub use batch::{AttemptEnd, BatchSpec, Ending, Memo};
pub use status::{BatchStatus, CoordinatorStatus, Explanation, Phase, WorkerStatus};

/// What a worker says of itself when it joins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// Its name, for people; need not be unique.
    pub name: String,
    /// Jobs that it runs at once.
    pub slots: u32,
    /// Bytes of memory for all slots together.
    pub memory: u64,
    /// Labels that batches may require.
    pub labels: BTreeMap<String, String>,
    /// Architecture and fingerprint of its strict engine: workers of one engine agree on bytes and
    /// fuel.
    pub engine: String,
    /// What this process is known by when it connects again: random, and known to nobody else.
    pub instance: Instance,
    /// Hash of what the determinism probe gave on this machine; empty where it was not run.
    #[serde(default)]
    pub probe: String,
}

/// How long a worker that leaves at a set time stays, counted from saying so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stay {
    /// Until it stops what it runs, in milliseconds.
    pub left_ms: u64,
    /// What has to be left for it to take a job of which nobody said how long it may run, in
    /// milliseconds.
    pub reserve_ms: u64,
}

impl Stay {
    /// Whether a job under these limits may begin: it must be able to end in time, where its time is
    /// limited; else the reserve must be left.
    pub fn admits(&self, limits: &Limits) -> bool {
        limits.own_deadline_ms().unwrap_or(self.reserve_ms) <= self.left_ms
    }
}

/// What a worker that is not there yet would offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Bytes of memory for all its slots together.
    pub memory: u64,
    /// Labels that batches may require.
    pub labels: BTreeMap<String, String>,
    /// How long it stays. Default: for ever.
    pub stay: Option<Stay>,
}

/// What a worker's process is known by across its connections.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Instance(#[serde(with = "serde_bytes")] pub [u8; 16]);

impl fmt::Debug for Instance {
    /// Whoever knows it can pass for the worker, so it is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Instance(..)")
    }
}

/// One job handed to a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Assignment(
    /// Which job.
    pub JobId,
    /// Which attempt.
    pub u32,
    /// Its input.
    pub Payload,
    /// The last checkpoint of an earlier attempt.
    pub Option<bytes::Bytes>,
    /// Its limits, where they are not those of its batch.
    pub Option<Limits>,
);

/// From the coordinator to a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToWorker {
    /// What the jobs of a batch have in common; precedes its first assignment.
    #[serde(rename = "t")]
    Template(BatchId, Template),
    /// Jobs to run, in this order.
    #[serde(rename = "a")]
    Assign(Vec<Assignment>),
    /// Stop these attempts, or drop them where they have not begun.
    #[serde(rename = "r")]
    Revoke(Vec<(JobId, u32)>),
    /// Give these attempts back where they have not begun: another worker is idle.
    #[serde(rename = "c")]
    Recall(Vec<(JobId, u32)>),
    /// No job of this batch will follow.
    #[serde(rename = "f")]
    Forget(BatchId),
    /// Nobody needs these blobs any more: drop them.
    #[serde(rename = "b")]
    Discard(Vec<ContentId>),
    /// The first so many reports of this connection are stored, or of no more use: the worker may
    /// forget them.
    #[serde(rename = "s")]
    Stored(u64),
    /// Finish what runs, give back the rest, and leave.
    #[serde(rename = "d")]
    Drain,
    /// Leave at once.
    #[serde(rename = "l")]
    Leave,
}

/// From a worker to the coordinator. Every connection begins with [`Holds`](Self::Holds) as often as
/// needed, [`Stays`](Self::Stays) where it leaves at a set time, and [`Ready`](Self::Ready).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum FromWorker {
    /// Attempts that the worker holds from an earlier connection, finished ones that are not known
    /// to be stored included.
    #[serde(rename = "h")]
    Holds(Vec<(JobId, u32)>),
    /// It leaves by itself, after so long.
    #[serde(rename = "s")]
    Stays(Stay),
    /// That was all it holds: it takes jobs.
    #[serde(rename = "r")]
    Ready,
    /// Attempts that ended.
    #[serde(rename = "f")]
    Finished(Vec<(JobId, u32, Report)>),
    /// Attempts that the worker has not begun and does not want.
    #[serde(rename = "g")]
    GiveBack(Vec<(JobId, u32)>),
    /// What running jobs have reported since the last such message.
    #[serde(rename = "e")]
    Events(Vec<(JobId, u32, JobEvent)>),
    /// Send no more jobs; the worker leaves when it has finished.
    #[serde(rename = "d")]
    Draining,
}

/// Something that a running job reports. A later event of one kind replaces an earlier one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum JobEvent {
    /// How much is done, of how much.
    Progress(f64, f64),
    /// The best solution so far.
    Incumbent(Incumbent),
    /// What the next attempt would start from.
    Checkpoint(bytes::Bytes),
}

/// The order in which results are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// That of the inputs.
    #[default]
    Input,
    /// That in which jobs ended.
    Completion,
}

/// From a client to the coordinator; the first message on a stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Which of these blobs are missing? Answered by [`Response::Missing`].
    Missing(Vec<ContentId>),
    /// Here is a blob of so many bytes: they follow, unframed, after [`Response::Go`].
    /// Answered by [`Response::Done`] when it is stored.
    PutBlob(ContentId, u64),
    /// Send this blob. Answered by [`Response::Blob`], then the bytes, unframed.
    GetBlob(ContentId),
    /// Keep blobs for as long as this stream lives, which [`HoldChange`]s name; each is answered by
    /// [`Response::Done`].
    Hold,
    /// Run these jobs: inputs follow in [`SubmitPart`]s. Answered by [`Response::Submitted`]. Where
    /// too many jobs are queued, `wait` tells whether to wait for room or to fail.
    Submit {
        /// What is submitted.
        spec: Box<BatchSpec>,
        /// Whether to wait for room.
        wait: bool,
    },
    /// What is known of a batch? Answered by [`Response::Batch`].
    Batch(BatchId),
    /// The latest batches that the token may see. Answered by [`Response::Batches`].
    Batches,
    /// Those of this namespace; for admins. Answered by [`Response::Batches`].
    BatchesOf(Namespace),
    /// Follow a batch. Answered by [`Response::Batch`]es until it is done.
    Watch(BatchId),
    /// Read results from a cursor on, until the batch is done. Answered by [`Response::Results`].
    Results {
        /// The batch.
        batch: BatchId,
        /// The order.
        order: Order,
        /// 0, or the cursor of a [`ResultPage`].
        cursor: u32,
        /// Whether to wait for results that do not exist yet.
        follow: bool,
    },
    /// End all unfinished jobs of a batch. Answered by [`Response::Done`].
    Cancel(BatchId),
    /// Run jobs of a batch again that have ended. Answered by [`Response::Reopened`].
    Retry {
        /// The batch.
        batch: BatchId,
        /// Which of its jobs.
        which: Which,
        /// How what they may use changes: factors, or new values.
        change: LimitsChange,
    },
    /// Forget a batch that is done, and its results. Answered by [`Response::Done`].
    Remove(BatchId),
    /// What is known of a job? Answered by [`Response::Explained`].
    Explain(JobId),
    /// All workers. Answered by [`Response::Workers`].
    Workers,
    /// Issue a token that is valid for so many seconds (0: for ever).
    /// Answered by [`Response::Token`].
    IssueToken(Role, u64),
    /// Issue a token of a namespace. Answered by [`Response::Token`].
    IssueTokenOf(Namespace, Role, u64),
    /// Namespaces in numbers: all for admins, and else the token's own. Answered by
    /// [`Response::Namespaces`].
    Namespaces,
    /// Change what a namespace may have. Answered by [`Response::Done`].
    SetQuota(Namespace, QuotaChange),
    /// Revoke the token with this name. Answered by [`Response::Done`].
    RevokeToken(String),
    /// How is the coordinator? Answered by [`Response::Status`].
    Status,
    /// How many jobs wait that a worker with this offer could take? Answered by
    /// [`Response::Demand`].
    Demand(Box<Offer>),
    /// Have a worker finish what it runs and leave. Answered by [`Response::Done`].
    DrainWorker(WorkerId),
    /// Take no new jobs and hand out none, and stop when none is running. Answered by
    /// [`Response::Done`].
    Drain,
    /// Stop the coordinator, and its workers with it where so asked. Answered by
    /// [`Response::Done`].
    Shutdown {
        /// Whether its workers are to leave at once.
        with_workers: bool,
    },
}

/// What a client that holds blobs changes. The same blob may be held several times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HoldChange {
    /// Keep this one, which is there.
    Add(ContentId),
    /// Keep it once less. One that nobody holds and no batch names is dropped, here and at workers.
    Drop(ContentId),
}

/// How the limits of jobs change when they run again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LimitsChange {
    /// Fuel.
    pub fuel: Option<Change>,
    /// Memory, in bytes.
    pub memory: Option<Change>,
    /// Wall-clock time, in milliseconds.
    pub deadline_ms: Option<Change>,
}

/// How a number changes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// To so many times what it was.
    Times(f64),
    /// To this.
    To(u64),
}

impl Change {
    fn apply(change: Option<Self>, number: u64) -> u64 {
        match change {
            None => number,
            Some(Change::To(new)) => new,
            // Saturates at what a u64 holds, and makes nothing of what is not a number.
            Some(Change::Times(factor)) => (number as f64 * factor) as u64,
        }
    }
}

impl LimitsChange {
    /// `limits`, changed; at least 1 fuel and 1 ms.
    pub fn apply(&self, limits: Limits) -> Limits {
        Limits {
            fuel: Change::apply(self.fuel, limits.fuel).max(1),
            memory: Change::apply(self.memory, limits.memory),
            deadline_ms: Change::apply(self.deadline_ms, limits.deadline_ms).max(1),
            ..limits
        }
    }
}

/// Jobs of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Which {
    /// All that have ended.
    All,
    /// Those that ended otherwise than `ok`.
    Failed,
    /// Those that ended with one of these outcomes.
    Outcomes(Vec<String>),
    /// These.
    Jobs(Vec<Range<u32>>),
}

/// Inputs of a submission.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum SubmitPart {
    /// More inputs, in order.
    Inputs(Vec<Payload>),
    /// That was all: run them.
    End,
}

/// From the coordinator to a client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Response {
    /// Done.
    Done,
    /// Send the body.
    Go,
    /// These are missing.
    Missing(Vec<ContentId>),
    /// A blob of so many bytes follows.
    Blob(u64),
    /// The jobs are accepted.
    Submitted(BatchId),
    /// A batch.
    Batch(Box<BatchStatus>),
    /// All batches.
    Batches(Vec<BatchStatus>),
    /// Some results.
    Results(ResultPage),
    /// All workers.
    Workers(Vec<WorkerStatus>),
    /// A token, as text.
    Token(String),
    /// Namespaces in numbers.
    Namespaces(Vec<NamespaceStatus>),
    /// So many jobs run again.
    Reopened(u32),
    /// All about a job.
    Explained(Box<Explanation>),
    /// So many jobs wait.
    Demand(u64),
    /// All about the coordinator.
    Status(Box<CoordinatorStatus>),
    /// It cannot be done.
    Error(RequestError),
}

/// Some results of a batch.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ResultPage {
    /// Index and report of each.
    pub results: Vec<(u32, Report)>,
    /// Where the next page begins.
    pub cursor: u32,
    /// Whether there will be none after these.
    pub last: bool,
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct RequestError {
    /// Why, for programs.
    pub code: ErrorCode,
    /// Why, for people.
    pub message: String,
}

/// Why a request was not carried out, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// There is no such batch, blob or token.
    NotFound,
    /// The token's role does not allow it.
    Unauthorized,
    /// The request makes no sense: correct it.
    Invalid,
    /// There is no room. Nothing that was acknowledged is lost; try again when there is.
    Storage,
    /// Too many jobs are queued, or the coordinator is draining: try again later.
    Busy,
    /// The namespace has what it may have: wait for its jobs, remove batches, or ask for more.
    Quota,
    /// The coordinator is shutting down.
    Shutdown,
}
