//! Linear and mixed-integer programs with microlp.
//!
//! [`solve`] reads a model in MPS or CPLEX LP format and solves it by the
//! simplex method and branch and bound. A mixed-integer solution is called
//! optimal if it is proved to be within a relative gap of the optimum, [`MIP_GAP`]
//! unless the option `mip_rel_gap` says otherwise.

mod dive;
mod solver;

use optwasm_model::{OptionError, Options, PatchError, ReadError, Solution};

pub use solver::{MIP_GAP, solve_model};

/// Why there is no solution at all; "infeasible" is a [`Solution`], too.
#[derive(Debug, thiserror::Error)]
pub enum SolveError {
    /// The input is not a valid file; mend it at the line named.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The input is a patch, and it or its base is at fault.
    #[error(transparent)]
    Patch(#[from] PatchError),
    /// An option is unknown or has a wrong value; mend it.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The objective is quadratic; solve the model with the plugin `conic`.
    #[error("the objective is quadratic, which the simplex method cannot handle")]
    Quadratic,
    /// The model has semi-continuous variables; solve it with the plugin `highs`.
    #[error("the model has semi-continuous variables, which microlp does not know")]
    SemiContinuous,
    /// microlp refuses the model's data.
    #[error("microlp refuses the model: {0}")]
    Solver(String),
}

/// Reads and solves a model.
///
/// # Errors
///
/// A [`SolveError`] if `input` is not a model that this plugin can solve.
pub fn solve(input: &[u8]) -> Result<Solution, SolveError> {
    solve_reporting(input, Options::default(), |_| ())
}

/// Reads and solves a model. Calls `report` with every better solution of a
/// mixed-integer program that is found on the way.
///
/// # Errors
///
/// A [`SolveError`] if `input` is not a model that this plugin can solve.
pub fn solve_reporting(
    input: &[u8],
    options: Options,
    report: impl FnMut(&Solution),
) -> Result<Solution, SolveError> {
    let gap = gap(options)?;
    solve_model(&optwasm_model::read(input)?, gap, report)
}

/// The relative gap that the options ask for; there are no others.
///
/// # Errors
///
/// An [`OptionError`].
pub fn gap(mut options: Options) -> Result<f64, OptionError> {
    let gap = options.number("mip_rel_gap", 0.0..=f64::INFINITY, MIP_GAP)?;
    options.finish()?;
    Ok(gap)
}
