//! The messages of workers, clients and coordinator.
//!
//! A worker and the coordinator exchange [`FromWorker`] and [`ToWorker`] on the worker's control
//! stream; many jobs or results travel in one message. A client opens a stream for each
//! [`Request`] and reads [`Response`]s from it. Blobs travel on streams of their own: a worker
//! opens those with [`Request::GetBlob`] and [`Request::PutBlob`], as a client does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::outcome::{Incumbent, Report};
use crate::token::Role;
use crate::{BatchId, ContentId, JobId, Payload, Template, WorkerId};

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
    /// Architecture and fingerprint of its strict engine, for people and comparison.
    pub engine: String,
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
}

/// From a worker to the coordinator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum FromWorker {
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

/// What jobs a client submits together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchSpec {
    /// What they have in common.
    pub template: Template,
    /// A name for people.
    #[serde(default)]
    pub name: String,
    /// Batches of a higher priority go first.
    #[serde(default)]
    pub priority: i32,
    /// Share among batches of one priority; at least 1.
    #[serde(default = "one")]
    pub weight: u32,
    /// Labels that a worker must have.
    #[serde(default)]
    pub require: BTreeMap<String, String>,
    /// How often a job is tried again after an outcome that another run may change.
    #[serde(default = "default_retries")]
    pub retries: u32,
}

fn one() -> u32 {
    1
}

/// Two retries: a deadline or a full machine that happens three times is no accident.
fn default_retries() -> u32 {
    2
}

impl BatchSpec {
    /// A batch of jobs on `template`, with defaults for the rest.
    pub fn new(template: Template) -> Self {
        Self {
            template,
            name: String::new(),
            priority: 0,
            weight: one(),
            require: BTreeMap::new(),
            retries: default_retries(),
        }
    }
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
    /// Run these jobs: inputs follow in [`SubmitPart`]s. Answered by [`Response::Submitted`].
    Submit(Box<BatchSpec>),
    /// What is known of a batch? Answered by [`Response::Batch`].
    Batch(BatchId),
    /// All batches. Answered by [`Response::Batches`].
    Batches,
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
    /// Forget a batch that is done, and its results. Answered by [`Response::Done`].
    Remove(BatchId),
    /// All workers. Answered by [`Response::Workers`].
    Workers,
    /// Issue a token that is valid for so many seconds (0: for ever).
    /// Answered by [`Response::Token`].
    IssueToken(Role, u64),
    /// Revoke the token with this name. Answered by [`Response::Done`].
    RevokeToken(String),
    /// Stop the coordinator. Answered by [`Response::Done`].
    Shutdown,
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
    /// The coordinator is shutting down.
    Shutdown,
}

/// What is known of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchStatus {
    /// Its number.
    pub batch: BatchId,
    /// Its name.
    pub name: String,
    /// Its module.
    pub module: ContentId,
    /// Number of jobs.
    pub jobs: u32,
    /// Jobs with a worker.
    pub running: u32,
    /// Jobs that have ended.
    pub done: u32,
    /// How many ended how, by the name of the outcome.
    pub outcomes: BTreeMap<String, u32>,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Whether it was cancelled.
    pub cancelled: bool,
    /// Fuel used by the jobs that have ended.
    pub fuel: u64,
    /// When it was submitted, in milliseconds since 1970.
    pub submitted_ms: u64,
    /// When it ended, in milliseconds since 1970; 0 while it has not.
    pub ended_ms: u64,
    /// Why nothing runs, where that is so.
    pub waiting_for: Option<String>,
    /// Last word of running jobs that report progress: index, done, total. At most 16.
    pub progress: Vec<(u32, f64, f64)>,
    /// Best incumbents of running jobs: index, objective, bound. At most 16.
    pub incumbents: Vec<(u32, f64, Option<f64>)>,
}

impl BatchStatus {
    /// Whether every job has ended.
    pub fn is_done(&self) -> bool {
        self.done == self.jobs
    }

    /// Jobs that have ended otherwise than `ok`.
    pub fn failed(&self) -> u32 {
        self.done - self.outcomes.get("ok").copied().unwrap_or(0)
    }
}

/// What is known of a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its number.
    pub worker: WorkerId,
    /// What it said when it joined.
    pub info: WorkerInfo,
    /// Where it is.
    pub peer: String,
    /// Jobs that it holds.
    pub held: u32,
    /// Jobs that it has finished.
    pub done: u64,
    /// Whether it takes no more.
    pub draining: bool,
}
