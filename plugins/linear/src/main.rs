//! The job: a model file in, a [`Solution`] out.

use optwasm_model::{Options, Solution};
use optwasm_plugin_linear::{SolveError, solve_reporting};

/// Solves the model and publishes better solutions while it goes.
#[optwasm_guest::job]
fn solve(input: &[u8]) -> Result<Solution, SolveError> {
    solve_reporting(input, Options::of_job()?, |found| {
        if let Some(objective) = found.objective {
            optwasm_guest::incumbent(objective, found.bound, found);
        }
    })
}
