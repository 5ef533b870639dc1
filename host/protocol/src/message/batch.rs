//! What a batch asks for, and what became of the attempts at its jobs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Template, WorkerId};

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
