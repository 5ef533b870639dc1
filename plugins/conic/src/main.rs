//! The job: a problem file in, a [`Solution`] out.

use optwasm_model::{Options, Solution};
use optwasm_plugin_conic::{Settings, SolveError};

/// Solves the problem.
#[optwasm_guest::job]
fn solve(input: &[u8]) -> Result<Solution, SolveError> {
    let settings = Settings::from_options(Options::of_job()?)?;
    optwasm_plugin_conic::solve(input, &settings)
}
