//! Satisfiability of Boolean formulas with BatSat.
//!
//! [`solve`] reads a formula in DIMACS CNF and decides whether an assignment
//! satisfies it, by conflict-driven clause learning. An assignment is checked
//! against the formula before it is returned; that a formula is unsatisfiable
//! rests on the solver.

mod cnf;
mod solver;

use optwasm_model::{OptionError, Options, ReadError, Solution};

pub use cnf::{Formula, read};
pub use solver::{Settings, solve_formula};

/// Why there is no solution at all; "unsatisfiable" is a [`Solution`], too.
#[derive(Debug, thiserror::Error)]
pub enum SolveError {
    /// The input is not a valid file; mend it at the line named.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An option is unknown or has a value that it does not take; the plugin's
    /// manifest lists them.
    #[error(transparent)]
    Option(#[from] OptionError),
}

/// Reads and solves a formula. The options are those of the manifest.
///
/// # Errors
///
/// A [`SolveError`] if `input` is not DIMACS CNF, or an option is wrong.
pub fn solve(input: &[u8], options: Options) -> Result<Solution, SolveError> {
    let settings = Settings::take(options)?;
    Ok(solve_formula(&read(input)?, &settings))
}
