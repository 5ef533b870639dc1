//! The job: a regression problem in, a [`Solution`] out.

use optwasm_model::{Options, Solution};
use optwasm_plugin_least_squares::{Settings, problem::ProblemError, solve_reporting};

/// Fits the model and tells after every starting point how far it is.
#[optwasm_guest::job]
fn solve(input: &[u8]) -> Result<Solution, ProblemError> {
    let settings = Settings::from_options(Options::of_job()?)?;
    solve_reporting(input, &settings, |done, starts| {
        optwasm_guest::progress(done as f64, starts as f64);
    })
}
