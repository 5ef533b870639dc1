//! The job: a case file in, a [`Solution`] out.

use optwasm_model::{Options, Solution};
use optwasm_plugin_opf::SolveError;

/// Solves the optimal power flow.
#[optwasm_guest::job]
fn solve(input: &[u8]) -> Result<Solution, SolveError> {
    optwasm_plugin_opf::solve(input, Options::of_job()?)
}
