//! The job: a formula in, a [`Solution`] out.

use optwasm_model::{Options, Solution};
use optwasm_plugin_sat::SolveError;

/// Solves the formula.
#[optwasm_guest::job]
fn solve(input: &[u8]) -> Result<Solution, SolveError> {
    optwasm_plugin_sat::solve(input, Options::of_job()?)
}
