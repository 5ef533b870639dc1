//! The job: a case file in, a [`Solution`] out. Where the job has a blob `case`, that is the case
//! file, and the input is options, such as `load_scale=0.67 formulation=dc`: so a network that many
//! jobs study is sent once.

use optwasm_model::{Options, Solution};
use optwasm_plugin_opf::SolveError;

/// Solves the optimal power flow.
#[optwasm_guest::job]
fn solve(input: &[u8]) -> Result<Solution, SolveError> {
    let mut options = Options::of_job()?;
    let Some(case) = optwasm_guest::blob("case") else {
        return optwasm_plugin_opf::solve(input, options);
    };
    options.extend(String::from_utf8_lossy(input).split_whitespace())?;
    optwasm_plugin_opf::solve(&case.to_vec(), options)
}
