//! Nonlinear programs with pounce.
//!
//! [`solve`] reads a program in AMPL's `.nl` format, and [`solve_model`]
//! takes one that was built in memory. pounce is a port of Ipopt: a
//! primal-dual interior-point method with a filter line search, exact first
//! and second derivatives by automatic differentiation, and a restoration
//! phase. It finds a *local* optimum of a program whose functions are twice
//! continuously differentiable. Where it fails it tries again along other
//! trajectories, as pounce's own programs do (options `*_retry`).

mod convert;
mod problem;
mod solver;

use optwasm_model::nl::{self, NlClass};
use optwasm_model::{Format, OptionError, Options, ReadError, Solution};

pub use solver::solve_model;

/// Why there is no solution at all; "infeasible" is a [`Solution`], too.
#[derive(Debug, thiserror::Error)]
pub enum SolveError {
    /// The input is not a valid file; mend it at the line named.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An option is unknown or has a value that it does not take.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The model has integer variables; set `relax_integrality=true` to solve
    /// its relaxation.
    #[error(
        "this is a {class}, and the interior-point method cannot keep variables integer \
         (relax_integrality=true lets it ignore that)"
    )]
    Integers {
        /// What kind of program it is.
        class: NlClass,
    },
    /// The model has something that has no derivatives or is no function of
    /// numbers; reformulate it.
    #[error("{what} not supported by the interior-point method")]
    Unsupported {
        /// What it has, with its verb, such as "logical constraints are".
        what: String,
    },
    /// An expression, with the defined variables in it, is nested too deeply
    /// for pounce's recursive functions; replace parts of it by variables
    /// with equality constraints.
    #[error("expressions are nested {depth} deep, more than the {limit} that fit the stack")]
    TooDeep {
        /// Of the deepest expression.
        depth: usize,
        /// What is allowed.
        limit: usize,
    },
    /// pounce refuses the model's data or the options together.
    #[error("refused by pounce: {0}")]
    Solver(String),
}

/// What happens during a solve.
#[derive(Debug)]
pub enum Event<'a> {
    /// An iteration is over.
    Iteration {
        /// Its number; those of later trajectories start anew.
        number: u64,
        /// The most that there will be.
        limit: u64,
    },
    /// A point was found that meets the constraints, better than those before.
    Incumbent(&'a Solution),
}

/// Reads and solves a program. Calls `report` while it goes.
///
/// # Errors
///
/// A [`SolveError`] if `input` is not a program that this plugin can solve, or
/// the options are wrong.
pub fn solve(
    input: &[u8],
    options: Options,
    report: impl FnMut(Event<'_>) + 'static,
) -> Result<Solution, SolveError> {
    if Format::detect(input) != Some(Format::Nl) {
        return Err(ReadError::UnknownFormat {
            expected: "AMPL .nl",
        }
        .into());
    }
    solve_model(&nl::read(input)?, options, report)
}
