//! Keeps what a coordinator has acknowledged: batches, results and blobs.
//!
//! [`Store`] is written for a durable log with group commit: changes are appended as [`Record`]s,
//! many at once, and a [`Commit`] says when they are safe; nothing is acknowledged before. Reads
//! are paged, so that no answer grows with a batch. [`MemoryStore`] keeps everything in memory,
//! where a record is as safe as it will ever be when it is appended.

mod memory;

use std::collections::BTreeMap;

use bytes::Bytes;
use optwasm_protocol::message::{BatchSpec, Order, ResultPage};
use optwasm_protocol::{BatchId, ContentId, JobId, Payload, Report};
use tokio::sync::oneshot;

pub use memory::MemoryStore;

/// A batch as it was submitted.
#[derive(Clone, Debug)]
pub struct NewBatch {
    /// Its number.
    pub batch: BatchId,
    /// What was submitted.
    pub spec: BatchSpec,
    /// The input of each job.
    pub inputs: Vec<Payload>,
    /// When, in milliseconds since 1970.
    pub submitted_ms: u64,
}

/// One change.
#[derive(Clone, Debug)]
pub enum Record {
    /// A batch was submitted.
    Submitted(Box<NewBatch>),
    /// A job ended. The first result of a job counts; a later one changes nothing.
    Result(JobId, Box<Report>),
    /// A batch was cancelled.
    Cancelled(BatchId),
    /// The last job of a batch ended, at so many milliseconds since 1970.
    Ended(BatchId, u64),
    /// A batch and its results are of no more use.
    Removed(BatchId),
}

/// Resolves when appended records are safe.
#[derive(Debug)]
#[must_use = "nothing may be acknowledged before its records are safe"]
pub enum Commit {
    /// They are.
    Done,
    /// They will be when this says so.
    Pending(oneshot::Receiver<Result<(), StoreError>>),
}

impl Commit {
    /// Waits until the records are safe.
    ///
    /// # Errors
    ///
    /// Where they could not be made safe.
    pub async fn wait(self) -> Result<(), StoreError> {
        match self {
            Commit::Done => Ok(()),
            Commit::Pending(receiver) => receiver.await.unwrap_or(Err(StoreError::Closed)),
        }
    }
}

/// Why something could not be kept or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no room. What was acknowledged before is safe; new work must wait until batches
    /// are removed.
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
    /// The store has been closed. The coordinator is shutting down.
    #[error("the store is closed")]
    Closed,
}

/// What is kept of a batch, in numbers.
#[derive(Clone, Debug)]
pub struct BatchSummary {
    /// What was submitted.
    pub spec: BatchSpec,
    /// Number of jobs.
    pub jobs: u32,
    /// Jobs that have ended.
    pub done: u32,
    /// How many ended how, by the name of the outcome.
    pub outcomes: BTreeMap<String, u32>,
    /// Fuel that the ended jobs used.
    pub fuel: u64,
    /// Whether it was cancelled.
    pub cancelled: bool,
    /// When it was submitted, in milliseconds since 1970.
    pub submitted_ms: u64,
    /// When its last job ended, in milliseconds since 1970; 0 before.
    pub ended_ms: u64,
}

/// Where a coordinator keeps what it has acknowledged.
///
/// Methods take `&self`: a coordinator is one thread, and an implementation that writes on another
/// has its own channel to it.
pub trait Store: 'static {
    /// Appends records, in this order and all or none.
    ///
    /// # Errors
    ///
    /// Where there is no room; nothing has changed then. Results always find room.
    fn append(&self, records: Vec<Record>) -> Result<Commit, StoreError>;

    /// About how many bytes of new work there is room for.
    fn room(&self) -> u64;

    /// The numbers of all batches, ascending.
    fn batches(&self) -> Vec<BatchId>;

    /// What is kept of a batch.
    fn batch(&self, batch: BatchId) -> Option<BatchSummary>;

    /// A job's input.
    fn input(&self, job: JobId) -> Option<Payload>;

    /// Results from `cursor` on, about `max_bytes` of them and at least one where there is one.
    /// `None` where there is no such batch.
    fn results(
        &self,
        batch: BatchId,
        order: Order,
        cursor: u32,
        max_bytes: usize,
    ) -> Option<ResultPage>;

    /// Keeps a blob, whose hash is checked. It stays at least as long as a batch refers to it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Full`] and [`StoreError::Hash`].
    fn put_blob(&self, id: ContentId, bytes: Bytes)
    -> impl Future<Output = Result<(), StoreError>>;

    /// A blob's bytes.
    fn get_blob(&self, id: ContentId) -> impl Future<Output = Result<Option<Bytes>, StoreError>>;

    /// Whether a blob is there. Asking counts as using it, so that it stays for what follows.
    fn has_blob(&self, id: &ContentId) -> bool;
}
