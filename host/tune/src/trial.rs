//! The identity of a configuration, and what passes between the search and who evaluates.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Config;

/// The identity of a configuration: where in the search it first appeared. It keeps it when it is
/// promoted, so one identity is evaluated once at each of several budgets. As JSON it is
/// `[iteration, stage, index]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "[u32; 3]", into = "[u32; 3]")]
pub struct TrialId {
    /// The iteration, from 0.
    pub iteration: u32,
    /// The stage of its bracket, from 0; above 0 if it took the place of one that could not be
    /// promoted.
    pub stage: u32,
    /// The position in that stage, from 0.
    pub index: u32,
}

impl From<[u32; 3]> for TrialId {
    fn from([iteration, stage, index]: [u32; 3]) -> Self {
        TrialId {
            iteration,
            stage,
            index,
        }
    }
}

impl From<TrialId> for [u32; 3] {
    fn from(id: TrialId) -> Self {
        [id.iteration, id.stage, id.index]
    }
}

/// `iteration.stage.index`
impl fmt::Display for TrialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.iteration, self.stage, self.index)
    }
}

/// One evaluation to be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// What is evaluated.
    pub id: TrialId,
    /// Its parameters.
    pub config: Config,
    /// With how much of the budget's unit.
    pub budget: f64,
    /// For what is random in the objective: derived from the search's seed and the identity, so the
    /// same on every worker, at every budget and every time it is asked for. Below 2^53.
    pub seed: u64,
    /// When it was asked for, in the caller's seconds.
    pub submitted: f64,
}

/// How an evaluation ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It returned a loss: lower is better. One that is not finite counts as a crash.
    Loss(f64),
    /// The objective itself failed and would fail again. An evaluation whose worker was lost has not
    /// crashed: see [`Search::lost`](crate::Search::lost).
    Crashed(String),
}

/// What is told about an evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// Anything else that the objective returned; kept, not looked at. Default null.
    pub info: serde_json::Value,
    /// When, in the caller's seconds. Default 0.
    pub finished: f64,
    /// Who evaluated it. Default `None`.
    pub worker: Option<String>,
    /// What it cost. Default `None`.
    pub fuel: Option<u64>,
}

impl Report {
    /// A report of nothing but the outcome.
    pub fn new(outcome: Outcome) -> Self {
        Report {
            outcome,
            info: serde_json::Value::Null,
            finished: 0.0,
            worker: None,
            fuel: None,
        }
    }
}

/// A finished evaluation: one line of the results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What was evaluated.
    pub id: TrialId,
    /// Its parameters.
    pub config: Config,
    /// The budget it was given.
    pub budget: f64,
    /// Its loss, finite; `None` if it crashed.
    pub loss: Option<f64>,
    /// Anything else that the objective returned.
    #[serde(default)]
    pub info: serde_json::Value,
    /// Why it crashed, if it did.
    #[serde(default)]
    pub crashed: Option<String>,
    /// The seed it was given.
    #[serde(default)]
    pub seed: u64,
    /// When it was asked for, in the caller's seconds; the last time, if its worker was lost.
    #[serde(default)]
    pub submitted: f64,
    /// When it ended, in the caller's seconds.
    #[serde(default)]
    pub finished: f64,
    /// Who evaluated it.
    #[serde(default)]
    pub worker: Option<String>,
    /// What it cost.
    #[serde(default)]
    pub fuel: Option<u64>,
}
