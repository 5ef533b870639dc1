//! The messages of workers, clients and coordinator.
//!
//! A worker and the coordinator exchange [`FromWorker`] and [`ToWorker`] on the worker's control
//! stream; many jobs or results travel in one message. A client opens a stream for each
//! [`Request`] and reads [`Response`]s from it. Blobs travel on streams of their own: a worker
//! opens those with [`Request::GetBlob`] and [`Request::PutBlob`], as a client does.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::namespace::{Namespace, NamespaceStatus, QuotaChange};
use crate::outcome::{Incumbent, Report};
use crate::token::Role;
use crate::{BatchId, ContentId, JobId, Limits, Payload, Template, WorkerId};

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

/// What jobs a client submits together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchSpec {
    /// What they have in common.
    pub template: Template,
    /// A name for people.
    #[serde(default)]
    pub name: String,
    /// Batches of a higher priority go first within their namespace.
    #[serde(default)]
    pub priority: i32,
    /// Share among its namespace's batches of one priority; at least 1.
    #[serde(default = "one")]
    pub weight: u32,
    /// Labels that a worker must have.
    #[serde(default)]
    pub require: BTreeMap<String, String>,
    /// How often a job is tried again after an outcome of `retry_on`.
    #[serde(default = "default_retries")]
    pub retries: u32,
    /// Names of the outcomes after which a job is tried again; empty for those that another run may
    /// change: `deadline`, `host-out-of-memory`, `host-panic`, `stack-overflow`.
    #[serde(default)]
    pub retry_on: Vec<String>,
    /// A key of the submitter's choice: sent twice by one namespace with the same key, it is one
    /// batch.
    #[serde(default)]
    pub id: Option<String>,
    /// Whether jobs may be answered by results of identical ones.
    #[serde(default)]
    pub memo: Memo,
    /// How many workers must come to the same result; at least 1.
    #[serde(default = "one")]
    pub verify: u32,
    /// Whether it is cancelled when nobody follows it any longer: see
    /// [`ATTACHED_GRACE`](crate::ATTACHED_GRACE).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub attached: bool,
    /// The worker that its jobs go to for as long as that one is there: connected or within its
    /// lease, with the labels and memory that they need, not draining and not put aside. After that
    /// they go to any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<WorkerId>,
}

/// Whether a job may be answered by the result of an identical one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Memo {
    /// Yes. The default.
    #[default]
    On,
    /// No, and its result answers no other.
    Off,
    /// No, but its result answers later ones.
    Refresh,
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
            retry_on: Vec::new(),
            id: None,
            memo: Memo::default(),
            verify: one(),
            attached: false,
            home: None,
        }
    }
}

/// An attempt that ended without deciding its job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptEnd {
    /// Its number.
    pub attempt: u32,
    /// The worker that had it.
    pub worker: WorkerId,
    /// The worker's name.
    pub worker_name: String,
    /// When it ended, in milliseconds since 1970.
    pub ended_ms: u64,
    /// How.
    pub ending: Ending,
}

impl AttemptEnd {
    /// About how many bytes it takes to keep.
    pub fn size(&self) -> u64 {
        // Numbers and names of fields.
        const FIXED: usize = 96;
        let text = match &self.ending {
            Ending::Retried(text) | Ending::Reopened(text) => text.len(),
            Ending::Lost { .. } | Ending::Witness | Ending::Differs | Ending::Confirms => 0,
        };
        (FIXED + self.worker_name.len() + text) as u64
    }
}

/// How an attempt ended without deciding its job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// With this outcome, and the job was tried again.
    Retried(String),
    /// Its worker was lost; `blamed` where the job may have done it.
    Lost {
        /// Whether it counts among the workers that the job took with it.
        blamed: bool,
    },
    /// With a result that other workers were asked to confirm.
    Witness,
    /// With a result that differs from the one that was accepted.
    Differs,
    /// With the result that had been accepted before.
    Confirms,
    /// By a user, who had the job run again; this was its outcome until then.
    Reopened(String),
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

/// What is known of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchStatus {
    /// Its number.
    pub batch: BatchId,
    /// Whose it is.
    #[serde(default)]
    pub namespace: Namespace,
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
    /// Jobs that were answered by results of identical ones.
    #[serde(default)]
    pub memo: u32,
    /// Results that came after their job was decided and were the same.
    #[serde(default)]
    pub confirmed: u64,
    /// Results that came after their job was decided, or were outvoted, and differed.
    #[serde(default)]
    pub contradicted: u64,
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
    /// For how many milliseconds it has been away, where its connection is lost and its lease has
    /// not ended.
    #[serde(default)]
    pub away_ms: Option<u64>,
    /// Why it was put aside: it gets no more jobs until it is started again.
    #[serde(default)]
    pub aside: Option<String>,
}

/// Where a job is, what it runs under, and what happened to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The job.
    pub job: JobId,
    /// Where it is.
    pub phase: Phase,
    /// What its batch runs under.
    pub template: Template,
    /// What it may use.
    pub limits: Limits,
    /// Its input.
    pub input: Option<Payload>,
    /// Attempts that did not decide it, in order.
    pub history: Vec<AttemptEnd>,
    /// How it ended.
    pub report: Option<Report>,
    /// Engine of the worker that ran it, or of those that would.
    pub engine: String,
}

/// Where a job is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It waits, for this reason.
    Waiting(String),
    /// It is in the hands of a worker.
    Held {
        /// The worker.
        worker: WorkerId,
        /// Its name.
        worker_name: String,
        /// The attempt.
        attempt: u32,
        /// For how many milliseconds.
        for_ms: u64,
        /// For how many milliseconds its worker has been away, where it is.
        away_ms: Option<u64>,
    },
    /// It has ended.
    Ended,
}

/// How a coordinator is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CoordinatorStatus {
    /// Name and version of its software.
    pub software: String,
    /// When it was started, in milliseconds since 1970.
    pub started_ms: u64,
    /// Connected workers.
    pub workers: u32,
    /// Workers that are away and whose lease has not ended.
    pub away: u32,
    /// Batches that are not done.
    pub live_batches: u32,
    /// Jobs that wait for a worker.
    pub waiting: u64,
    /// Jobs in the hands of workers.
    pub held: u64,
    /// Bytes in use by batches, results and blobs.
    pub used: u64,
    /// Bytes of new work for which there is room.
    pub room: u64,
    /// Why new work is refused, where it is.
    pub refusing: Option<String>,
    /// Whether it is draining.
    pub draining: bool,
    /// What the store is.
    pub store: String,
}
