//! What clients are told: how batches, workers, jobs and the coordinator are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{AttemptEnd, WorkerInfo};
use crate::namespace::Namespace;
use crate::outcome::Report;
use crate::{BatchId, ContentId, JobId, Limits, Payload, Template, WorkerId};

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
