//! Stochastic programs, and progressive hedging as a pure state machine.
//!
//! A [`Problem`] is a tree of decisions with a model for every way through it. It is read from a TOML
//! file that names the model files ([`read_tree`]) or from SMPS files ([`read_smps`]). There are
//! three things to do with it:
//!
//! - [`Extensive`] makes one model of it, for problems that one solver can take;
//! - [`Ph`] solves it by progressive hedging: scenario by scenario, again and again, with terms that
//!   make the scenarios agree;
//! - [`Study`] compares it with what would be known and decided otherwise (EVPI, VSS).
//!
//! Nothing of that solves a model, and nothing reads a file, a clock or a socket: what is to be solved is
//! handed out, and answers are taken in. `Driver`, of the feature `client`, sends it to workers.
//!
//! # Driving progressive hedging
//!
//! ```
//! # use optwasm_ph::{Ph, PhError, Problem, Settings, Solved, Subproblem};
//! # fn send_blob(_name: &str, _bytes: &[u8]) {}
//! # fn solve(_subproblem: &Subproblem) -> Solved { panic!("a worker does it") }
//! fn drive(problem: &Problem) -> Result<(), PhError> {
//!     let mut ph = Ph::new(problem, Settings::default())?;
//!     for base in ph.bases() {
//!         send_blob(&base.name, base.bytes);
//!     }
//!     while !ph.is_done() {
//!         // A job for each: its input is `subproblem.patch.to_cbor()`, its plugin one that takes
//!         // programs of `subproblem.class`, and its blobs are the one that the patch names.
//!         let answers: Vec<Solved> = ph.subproblems().iter().map(solve).collect();
//!         if let Some(step) = ph.solved(answers)? {
//!             println!("{}: {:?}", step.iteration, step.bounds);
//!         }
//!     }
//!     Ok(())
//! }
//! ```
//!
//! The file of each scenario travels once, as a blob; an iteration sends [`Patch`](optwasm_model::Patch)es.
//!
//! # Where PySP is different
//!
//! Semantics are those of PySP's `runph` but where these were found to be wrong: its default stop
//! rule has no dual part and takes any point on which the scenarios agree for an optimum (see
//! [`Metrics`]), and its "closest scenario" is always the last one.

mod candidate;
#[cfg(feature = "client")]
mod drive;
mod error;
mod extensive;
mod glob;
mod metrics;
mod ph;
mod problem;
mod proximal;
mod rho;
mod settings;
mod smps;
mod step;
mod stop;
mod study;
mod subproblem;
mod sweep;
mod table;
mod tree;
mod tree_file;
mod unit;
mod warm;

pub use candidate::CandidateRule;
#[cfg(feature = "client")]
pub use drive::{DriveError, Driver, Solver};
pub use error::{PhError, ProblemError, TableError, TreeError};
pub use extensive::{Extensive, TreeSolution};
pub use metrics::Metrics;
pub use ph::Ph;
pub use problem::{Bundle, Node, NodeSpec, Problem, Scenario, ScenarioSpec, Variable};
pub use proximal::{Breakpoints, Proximal};
pub use rho::{Rho, RhoRule};
pub use settings::Settings;
pub use smps::{MAX_NUMBERS, MAX_SCENARIOS, read_smps};
pub use step::{Base, Incumbent, Step};
pub use stop::{Bounds, Combine, Criterion, Stop, StopRule};
pub use study::{Role, Study, StudyError, StudyModel, Summary};
pub use subproblem::{Class, Kind, Solved, Subproblem};
pub use tree_file::read_tree;
pub use unit::{Slot, Unit};
pub use warm::WarmStart;
