//! Decides which configuration is evaluated next, and with how much budget: multi-fidelity
//! hyperparameter search as a pure state machine.
//!
//! The caller has an objective, a function of a configuration and a budget that returns a loss, and
//! workers that evaluate it. [`Search::ask`] says what to evaluate, [`Search::tell`] takes the
//! result in, [`Search::lost`] says that the worker went. There is no thread, clock or file here,
//! and no randomness but what follows from the seed.
//!
//! ```
//! use optwasm_tune::{Ask, Budgets, Method, Outcome, RandomSampler, Report};
//! use optwasm_tune::{Search, Settings, Space, Value};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let space = Space::from_toml("parameters.x = { type = 'float', low = 0.0, high = 1.0 }")?;
//! let method = Method::Hyperband(Budgets { min: 25.0, max: 100.0, eta: 2 });
//! let mut search = Search::new(Settings::new(space, method, 3), Box::new(RandomSampler))?;
//! while let Ask::Evaluate(trial) = search.ask(0.0)? {
//!     let Some(Value::Float(x)) = trial.config.get("x") else { continue };
//!     let loss = (x - 0.3).powi(2) + 1.0 / trial.budget;
//!     search.tell(trial.id, trial.budget, Report::new(Outcome::Loss(loss)))?;
//! }
//! assert_eq!(search.progress().told, 13);
//! # Ok(())
//! # }
//! ```
//!
//! # Words
//!
//! A *configuration* ([`Config`]) has a value for each parameter that is active in it; the [`Space`]
//! says which are. A *budget* says how thorough an evaluation is, in whatever unit the objective
//! takes: epochs, samples, iterations. An *iteration* of the search is one *bracket*: stages that
//! evaluate fewer and fewer configurations with more and more budget ([`Plan`]). A configuration's
//! identity ([`TrialId`]) says where it first appeared.
//!
//! # Promotion
//!
//! When all evaluations of a stage are told, as many configurations as the next stage has places
//! go on: those with the lowest losses, of equal ones those with the first identities. One that
//! crashed, or whose loss was not finite, never goes on. Places that stay free are filled with new
//! configurations, as HpBandSter does: the number of evaluations is known beforehand, and a bracket
//! whose small budgets all crash still tries large ones. So a bracket always ends.
//!
//! A lost evaluation is no result: it is asked for again and nothing is learnt from it.
//!
//! # What depends on what
//!
//! Each configuration has its own randomness, derived from the search's seed and its identity. What
//! else it depends on is the [`Order`]: all results told before, or only those of earlier groups of
//! iterations, in which case the same seed gives the same evaluations in the same order whatever
//! the workers do. An evaluation's `seed` never depends on anything but the search's seed and the
//! identity. Logarithms and exponentials are those of the platform, so between platforms
//! configurations may differ in their last digits.
//!
//! # Evaluating
//!
//! With the feature `client`, `Drive` makes jobs of evaluations.
//!
//! # What is written down
//!
//! [`Search::take_entries`] gives out the lines of a journal: an evaluation asked for, a result.
//! Results are given out as soon as they are told and not held back for the sake of an order, so
//! what is lost in a crash is at most what was in flight; in the deterministic order it is the lines
//! `asked` whose order is always the same. [`Search::resume`] continues from the journal.

mod coordinate;
#[cfg(feature = "client")]
mod drive;
mod external;
mod iteration;
mod journal;
mod observations;
mod plan;
mod ranking;
mod report;
mod resume;
mod sampler;
mod search;
mod settings;
mod space;
mod space_toml;
mod tpe;
mod trial;
mod value;

pub use crate::tpe::{MODELLED_BEST, MODELLED_REST, TpeSampler, TpeSettings};
#[cfg(feature = "client")]
pub use drive::{Drive, DriveError};
pub use external::ExternalSampler;
pub use journal::{Entry, Header, JournalError, read_known, read_results};
pub use observations::{Observation, Observations};
pub use plan::{Bracket, Budgets, Method, Plan, PlanError, Stage};
pub use ranking::{Ranked, Ranking, rankings};
pub use report::{Against, Curve, ReportError, convergence, convergence_svg, ranking_svg};
pub use resume::{ResumeError, Resumed};
pub use sampler::{RandomSampler, Request, Sampler, SamplerError};
pub use search::{Ask, Incumbent, Progress, Search, TellError, Told};
pub use settings::{Order, Settings, SettingsError};
pub use space::{ConfigError, Domain, Parameter, Space, SpaceError};
pub use trial::{Outcome, Record, Report, Trial, TrialId};
pub use value::{Config, Value};
