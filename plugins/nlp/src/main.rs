//! The job: a `.nl` file in, a [`Solution`] out.

use std::error::Error;

use optwasm_model::{Options, Solution};
use optwasm_plugin_nlp::Event;

/// Solves the program, and tells its progress and feasible points.
#[optwasm_guest::job]
fn solve(input: &[u8]) -> Result<Solution, Box<dyn Error>> {
    let options = Options::of_job()?;
    let solution = optwasm_plugin_nlp::solve(input, options, |event| match event {
        Event::Iteration { number, limit } => optwasm_guest::progress(number as f64, limit as f64),
        Event::Incumbent(found) => {
            if let Some(objective) = found.objective {
                optwasm_guest::incumbent(objective, None, found);
            }
        }
    })?;
    Ok(solution)
}
