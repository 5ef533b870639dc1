//! The job: a problem file in, or a patch of one that is a blob; a [`Solution`] out.

use optwasm_model::{Options, Solution};
use optwasm_plugin_conic::{Settings, SolveError, read_with_blobs as read, solve_program};

/// Solves the problem.
#[optwasm_guest::job]
fn solve(input: &[u8]) -> Result<Solution, SolveError> {
    let settings = Settings::from_options(Options::of_job()?)?;
    let blob = |name: &str| Some(optwasm_guest::blob(name)?.to_vec());
    solve_program(&read(input, blob)?, &settings)
}
