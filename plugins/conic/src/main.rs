//! The job: a problem file in, a [`Solution`] out.

use optwasm_model::Solution;
use optwasm_plugin_conic::SolveError;

/// Solves the problem.
#[optwasm_guest::job]
fn solve(input: &[u8]) -> Result<Solution, SolveError> {
    optwasm_plugin_conic::solve(input)
}
