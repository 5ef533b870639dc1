//! Keeps what a coordinator has acknowledged: batches, results and blobs.
//!
//! Changes are appended as [`Record`]s, many at once, and a [`Commit`] says when they are safe:
//! nothing is acknowledged before, and nothing that must not happen twice is begun before. Commits
//! resolve in the order of their appends. Reads see what is safe, and are paged, so that no answer
//! grows with a batch.
//!
//! [`SqliteStore`] keeps it on disk; [`MemoryStore`] in memory, where a record is as safe as it
//! will ever be when it is appended.
//!
//! What a batch occupies in memory does not depend on its jobs, and a batch that has ended occupies
//! nothing; what a restarted coordinator has to know is [`Restored`].

mod memory;
mod record;
pub mod sqlite;

use std::collections::BTreeMap;

use bytes::Bytes;
use optwasm_protocol::message::{AttemptEnd, BatchSpec, Order, ResultPage};
use optwasm_protocol::{BatchId, ContentId, JobId, Limits, Namespace, Payload, Report};
use tokio::sync::oneshot;

pub use memory::MemoryStore;
pub use record::{
    Account, Held, NewBatch, Record, Restored, RestoredBatch, RestoredWorker, Witness,
};
pub use sqlite::{BlobPlace, SqliteOptions, SqliteStore};

/// Resolves when appended records are safe.
#[derive(Debug)]
#[must_use = "nothing may be acknowledged before its records are safe"]
pub enum Commit {
    /// They are.
    Done(Committed),
    /// They will be when this says so.
    Pending(oneshot::Receiver<Result<Committed, StoreError>>),
}

/// What became of appended records, beside that they are safe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Jobs of a submitted batch that were answered by results of identical ones: they have ended.
    pub answered: Vec<std::ops::Range<u32>>,
    /// Jobs of a submitted batch that wait for an identical one: they are not to be handed out
    /// until they are in `released` or `followed` of a later commit.
    pub parked: Vec<std::ops::Range<u32>>,
    /// Parked jobs that ended with the one they waited for.
    pub followed: Vec<JobId>,
    /// Parked jobs that must run after all: the one they waited for has no result to share.
    pub released: Vec<JobId>,
}

impl Commit {
    /// Waits until the records are safe.
    ///
    /// # Errors
    ///
    /// Where they could not be made safe.
    pub async fn wait(self) -> Result<Committed, StoreError> {
        match self {
            Commit::Done(committed) => Ok(committed),
            Commit::Pending(receiver) => receiver.await.unwrap_or(Err(StoreError::Closed)),
        }
    }
}

/// Why something could not be kept or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no room. What was acknowledged before is safe; new work must wait until batches
    /// are removed, or the disk has room again.
    #[error("the store is full: {used} of {limit} bytes are in use; remove finished batches")]
    Full {
        /// Bytes in use.
        used: u64,
        /// Bytes that may be.
        limit: u64,
    },
    /// A blob's bytes are not those that its name says. The sender is broken: send it again.
    #[error("the bytes do not have the hash {0}")]
    Hash(ContentId),
    /// A record or blob was changed on the disk. What it belonged to is lost; the rest is not.
    /// `optwasm coordinator check` names it all.
    #[error("damaged on disk: {0}")]
    Damaged(String),
    /// The disk fails or cannot be written. Nothing that was acknowledged is lost by that; try
    /// again when it works.
    #[error("the disk: {0}")]
    Disk(String),
    /// The store cannot go on: whether its last records are safe is not known. End the process;
    /// opening the store again finds all that was acknowledged.
    #[error("the store cannot go on: {0}")]
    Fatal(String),
    /// The store was written by a newer version, whose format is this number. Use that version.
    #[error("the store has format {found}, which is newer than {known}")]
    Newer {
        /// The format found.
        found: u32,
        /// The newest known here.
        known: u32,
    },
    /// The store has been closed. The coordinator is shutting down.
    #[error("the store is closed")]
    Closed,
}

/// What is kept of a batch, in numbers.
#[derive(Clone, Debug)]
pub struct BatchSummary {
    /// Whose it is.
    pub namespace: Namespace,
    /// What was submitted.
    pub spec: BatchSpec,
    /// Number of jobs.
    pub jobs: u32,
    /// Jobs that have ended.
    pub done: u32,
    /// How many ended how, by the name of the outcome.
    pub outcomes: BTreeMap<String, u32>,
    /// Fuel that the ended jobs used; those answered from memory used none.
    pub fuel: u64,
    /// Jobs that were answered by results of identical ones.
    pub memo: u32,
    /// Late results that were the same as the accepted one.
    pub confirmed: u64,
    /// Late or outvoted results that were not.
    pub contradicted: u64,
    /// Whether it was cancelled.
    pub cancelled: bool,
    /// When it was submitted, in milliseconds since 1970.
    pub submitted_ms: u64,
    /// When its last job ended, in milliseconds since 1970; 0 before.
    pub ended_ms: u64,
}

/// How the store is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Bytes in use.
    pub used: u64,
    /// About how many bytes of new work there is room for.
    pub room: u64,
    /// Why new work is refused, where it is.
    pub refusing: Option<String>,
    /// What it is and where, for people.
    pub description: String,
}

/// Where a coordinator keeps what it has acknowledged.
///
/// Methods take `&self`: a coordinator is one thread, and an implementation that writes on another
/// has its own channel to it.
pub trait Store: 'static {
    /// Whether what is appended outlives the process. Where it does not, records that only a restart
    /// needs are not appended: workers and what they hold.
    fn is_durable(&self) -> bool {
        true
    }

    /// What a coordinator that starts has to know.
    ///
    /// # Errors
    ///
    /// [`StoreError::Disk`]. What is damaged is left out, and named in [`Restored::damaged`].
    fn restore(&self) -> Result<Restored, StoreError>;

    /// Appends records, in this order and all or none.
    ///
    /// # Errors
    ///
    /// Where there is no room for a submission, or the store has failed; nothing has changed then.
    /// Other records than submissions always find room: where the disk has none, their commit
    /// waits until it has.
    fn append(&self, records: Vec<Record>) -> Result<Commit, StoreError>;

    /// How the store is.
    fn health(&self) -> Health;

    /// About how many bytes of new work there is room for: [`Health::room`], asked often.
    fn room(&self) -> u64;

    /// The latest batches, at most `limit` of them, ascending.
    fn batches(&self, limit: usize) -> Vec<BatchId>;

    /// What is kept of a batch.
    fn batch(&self, batch: BatchId) -> Option<BatchSummary>;

    /// The latest batches of a namespace, at most `limit` of them, ascending.
    fn batches_of(&self, namespace: &Namespace, limit: usize) -> Vec<BatchId>;

    /// The batch that a namespace has submitted with this key, and the digest of that submission.
    fn batch_by_key(&self, namespace: &Namespace, key: &str) -> Option<(BatchId, [u8; 32])>;

    /// The accounts of all namespaces that have ever submitted or uploaded something, or have a
    /// quota.
    fn accounts(&self) -> Vec<Account>;

    /// The account of one namespace, an empty one where there is none.
    fn account(&self, namespace: &Namespace) -> Account;

    /// Batches that ended before `ms` (milliseconds since 1970), at most `limit` of them.
    fn ended_before(&self, ms: u64, limit: usize) -> Vec<BatchId>;

    /// A job's input. `None` where there is no such job.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`].
    fn input(&self, job: JobId) -> Result<Option<Payload>, StoreError>;

    /// What a job may use, where that is not what its batch says.
    fn limits(&self, job: JobId) -> Option<Limits>;

    /// The most memory in bytes that a job of this batch may use; 0 where there is no such batch.
    fn memory(&self, batch: BatchId) -> u64;

    /// A job's result, `Outcome::Damaged` where that was damaged.
    fn result(&self, job: JobId) -> Option<Report>;

    /// Attempts at a job that did not decide it, in order.
    fn attempts(&self, job: JobId) -> Vec<AttemptEnd>;

    /// Results that wait for another worker to come to the same, in order.
    fn witnesses(&self, job: JobId) -> Vec<Witness>;

    /// Results from `cursor` on, about `max_bytes` of them and at least one where there is one.
    /// In input order the cursor is an index; in order of completion it counts results from the
    /// batch's first, those that were replaced by a later run included. `None` where there is no
    /// such batch.
    fn results(
        &self,
        batch: BatchId,
        order: Order,
        cursor: u32,
        max_bytes: usize,
    ) -> Option<ResultPage>;

    /// Indices of a batch's jobs that have ended with one of these outcomes, or with any where none
    /// is named, as ascending disjoint ranges.
    fn ended_jobs(&self, batch: BatchId, outcomes: Option<&[String]>) -> Vec<std::ops::Range<u32>>;

    /// Keeps a blob, whose hash is checked, and which no namespace has yet. It is safe when this returns, and stays at least as
    /// long as a batch refers to it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Full`], [`StoreError::Hash`], [`StoreError::Disk`].
    fn put_blob(&self, id: ContentId, bytes: Bytes)
    -> impl Future<Output = Result<(), StoreError>>;

    /// As [`put_blob`](Self::put_blob), for a namespace, which has it from then on.
    ///
    /// # Errors
    ///
    /// As there.
    fn upload_blob(
        &self,
        namespace: &Namespace,
        id: ContentId,
        bytes: Bytes,
    ) -> impl Future<Output = Result<(), StoreError>>;

    /// Whether a blob is there and a namespace has it: it has uploaded it, or one of its batches
    /// names it. Asking counts as using it, so that it stays for what follows.
    fn owns_blob(&self, namespace: &Namespace, id: &ContentId) -> bool;

    /// A blob's bytes, which have been checked against its name.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`], [`StoreError::Disk`].
    fn get_blob(&self, id: ContentId) -> impl Future<Output = Result<Option<Bytes>, StoreError>>;

    /// Whether a blob is there. Asking counts as using it, so that it stays for what follows.
    fn has_blob(&self, id: &ContentId) -> bool;

    /// Removes blobs that no batch refers to and that nobody has used for a while; returns how
    /// many bytes that freed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Disk`].
    fn collect(&self) -> impl Future<Output = Result<u64, StoreError>>;

    /// Keeps a blob that a namespace has until it is released as often as it was held, or the process
    /// ends; whether the namespace has it.
    fn hold_blob(&self, namespace: &Namespace, id: ContentId) -> bool;

    /// Releases a blob that was held. When the namespace does not hold it any more, it has it only as
    /// long as one of its batches refers to it; when no namespace has it, it is removed. Returns
    /// whether it was.
    ///
    /// # Errors
    ///
    /// [`StoreError::Disk`].
    fn release_blob(
        &self,
        namespace: &Namespace,
        id: ContentId,
    ) -> impl Future<Output = Result<bool, StoreError>>;
}
