//! The job: a regression problem in, a [`Solution`] out.

use optwasm_model::Solution;
use optwasm_plugin_least_squares::{problem::ProblemError, solve_reporting};

/// Fits the model and tells after every starting point how far it is.
#[optwasm_guest::job]
fn solve(input: &[u8]) -> Result<Solution, ProblemError> {
    solve_reporting(input, |done, starts| {
        optwasm_guest::progress(done as f64, starts as f64);
    })
}
