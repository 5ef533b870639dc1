//! The job: a model file in, or a patch of one that is a blob; a [`Solution`] out.

use optwasm_model::{Options, Solution, patch};
use optwasm_plugin_linear::{SolveError, gap, solve_model};

/// Solves the model and publishes better solutions while it goes.
#[optwasm_guest::job]
fn solve(input: &[u8]) -> Result<Solution, SolveError> {
    let gap = gap(Options::of_job()?)?;
    let blob = |name: &str| Some(optwasm_guest::blob(name)?.to_vec());
    solve_model(&patch::read::<SolveError>(input, blob)?, gap, |found| {
        if let Some(objective) = found.objective {
            optwasm_guest::incumbent(objective, found.bound, found);
        }
    })
}
