//! What a search is about.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{ConfigError, Method, PlanError, Record, Space};

/// In what order evaluations are asked for, and what a new configuration may depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Order {
    /// No worker waits while there is an iteration to begin, and a new configuration depends on
    /// everything told before. So what is asked for depends on the order in which results come.
    Asynchronous,
    /// What is asked for, and in what order, depends on the seed and the losses alone, not on the
    /// order in which results come nor on how many evaluations run at once.
    ///
    /// Iterations are worked on in groups: first the first stages of all brackets of the group, then
    /// their second stages, and so on; nothing is asked for before everything that stands earlier
    /// in this order. A new configuration depends on the results of the groups before its own, which
    /// are complete then. The price is that workers wait at the end of a stage.
    Deterministic {
        /// Iterations in a group, at least 1. More of them keep more workers busy, and the sampler
        /// learns later. All of a group are in memory and looked through at each question.
        group: u32,
    },
}

impl Order {
    /// The deterministic order with the usual group: 1 iteration where that is a bracket; 8 where it
    /// is a single evaluation, so that 8 evaluations run at once.
    pub fn deterministic(method: &Method) -> Self {
        let group = match method {
            Method::Plain { .. } => 8,
            Method::SuccessiveHalving(_) | Method::Hyperband(_) => 1,
        };
        Order::Deterministic { group }
    }
}

/// What a search is about. A journal can only be continued with the same space, objective, method, order,
/// seed and sampler; the limits may change.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The parameters.
    pub space: Space,
    /// How evaluations are spread over budgets.
    pub method: Method,
    /// In what order. Default [`Order::Asynchronous`].
    pub order: Order,
    /// What is evaluated, by whatever tells it from other objectives: the hash of its module. It is
    /// only written down and compared. Default `None`.
    pub objective: Option<String>,
    /// The seed of everything random. Default 0.
    pub seed: u64,
    /// How many iterations; for plain search, evaluations.
    pub iterations: u32,
    /// How many evaluations at most, if the iterations have more. Default `None`.
    pub evaluations: Option<u64>,
    /// Results of an earlier search of the same space, which samplers learn from as if they had been
    /// told. They count neither as evaluations nor as incumbents. Default none.
    ///
    /// They are written to the journal; when it is continued, those count and these do not.
    pub known: Vec<Record>,
}

impl Settings {
    /// Settings with the defaults named at the fields.
    pub fn new(space: Space, method: Method, iterations: u32) -> Self {
        Settings {
            space,
            method,
            order: Order::Asynchronous,
            objective: None,
            seed: 0,
            iterations,
            evaluations: None,
            known: Vec::new(),
        }
    }
}

/// Why a search cannot begin.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum SettingsError {
    /// There are no brackets of these budgets.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A group without iterations.
    #[error("a group of the deterministic order needs at least one iteration")]
    EmptyGroup,
    /// A known result is not of this space.
    #[error("result {number} of the earlier search, {why}")]
    Known {
        /// Its position, from 1.
        number: usize,
        /// What is wrong.
        why: ConfigError,
    },
    /// The budget or loss of a known result is not a number that can be one.
    #[error(
        "result {number} of the earlier search: budget {budget} must be finite and above 0, and the loss finite"
    )]
    KnownNumber {
        /// Its position, from 1.
        number: usize,
        /// The budget.
        budget: f64,
    },
}
