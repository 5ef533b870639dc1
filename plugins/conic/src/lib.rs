//! Convex quadratic and conic programs with Clarabel.
//!
//! [`solve`] reads a problem, tells its format by its content, and solves it:
//!
//! | format | what it brings | reader |
//! |---|---|---|
//! | MPS, QPS | linear and convex quadratic programs | [`optwasm_model::mps`] |
//! | CPLEX LP | linear and convex quadratic programs | [`optwasm_model::lp`] |
//! | CBF | linear, second-order, semidefinite, exponential and power cones | [`cbf`] |
//! | SDPA sparse | semidefinite programs | [`sdpa`] |
//! | Clarabel's JSON | all of these | [`json`] |
//!
//! All of them become a [`program::Program`]. Clarabel is a primal-dual
//! interior-point method: it works to a relative accuracy of 1e-8, proves
//! infeasibility by certificates, and does not know integer variables.

pub mod cbf;
pub mod json;
pub mod program;
pub mod sdpa;
mod solver;

use optwasm_model::{Format, Model, OptionError, PatchError, ReadError, Solution, patch};

use program::Program;
pub use solver::{Settings, solve as solve_program};

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
    /// The JSON document is no conic program; mend what it names.
    #[error("not a conic program: {0}")]
    Json(String),
    /// The model has integer or semi-continuous variables; solve it with the plugin `highs`, or
    /// drop the integrality.
    #[error(
        "the model has integer or semi-continuous variables, which an interior-point method cannot handle"
    )]
    Integers,
    /// The quadratic objective is not convex (for maximization: not concave),
    /// so that a local optimum need not be the optimum.
    #[error("the quadratic objective is not convex")]
    NotConvex,
    /// Clarabel refuses the problem's data.
    #[error("Clarabel refuses the problem: {0}")]
    Solver(String),
}

/// Reads and solves a problem.
///
/// # Errors
///
/// A [`SolveError`] if `input` is not a problem that this plugin can solve.
pub fn solve(input: &[u8], settings: &Settings) -> Result<Solution, SolveError> {
    solve_program(&read(input)?, settings)
}

/// Reads a problem in any of the formats.
///
/// # Errors
///
/// [`SolveError::Read`] and [`SolveError::Integers`].
pub fn read(input: &[u8]) -> Result<Program, SolveError> {
    match Format::detect(input) {
        Some(Format::Mps | Format::Lp | Format::Nl) => of_model(&optwasm_model::read(input)?),
        Some(Format::Cbf) => cbf::read(input),
        Some(Format::Sdpa) => Ok(sdpa::read(input)?),
        Some(Format::Json) => json::read(input),
        _ => Err(ReadError::UnknownFormat {
            expected: "MPS, CPLEX LP, AMPL .nl, CBF, SDPA sparse or Clarabel's JSON",
        }
        .into()),
    }
}

/// As [`read`]; but the input may also be a patch of a model in MPS, LP or `.nl` format, whose file
/// `blob` gives for its name.
///
/// # Errors
///
/// As [`read`], and [`SolveError::Patch`].
pub fn read_with_blobs(
    input: &[u8],
    blob: impl FnOnce(&str) -> Option<Vec<u8>>,
) -> Result<Program, SolveError> {
    if patch::is_patch(input) {
        of_model(&patch::resolve(input, blob)?)
    } else {
        read(input)
    }
}

fn of_model(model: &Model) -> Result<Program, SolveError> {
    if model.is_mixed_integer() {
        return Err(SolveError::Integers);
    }
    Ok(Program::from_model(model))
}
