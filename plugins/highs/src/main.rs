//! The job: a model file in, a [`Solution`] out.

use optwasm_model::{Options, Solution};
use optwasm_plugin_highs::{Observer, SolveError, solve, solve_from};

/// Tells the host.
struct Host {
    fuel_at_start: u64,
}

impl Observer for Host {
    fn incumbent(&mut self, found: &Solution) {
        if let Some(objective) = found.objective {
            optwasm_guest::incumbent(objective, found.bound, found);
        }
    }

    fn progress(&mut self, iterations: u64) {
        // Nobody knows how many it takes.
        optwasm_guest::progress(iterations as f64, f64::INFINITY);
    }

    fn log(&mut self, line: &str) {
        println!("{line}");
    }

    fn fuel_used(&mut self) -> u64 {
        self.fuel_at_start
            .saturating_sub(optwasm_guest::fuel_left())
    }
}

/// Solves the model, from the point in the blob `start` if there is one, and publishes better
/// solutions while it goes.
#[optwasm_guest::job]
fn run(input: &[u8]) -> Result<Solution, SolveError> {
    let mut host = Host {
        fuel_at_start: optwasm_guest::fuel_left(),
    };
    let options = Options::of_job()?;
    match optwasm_guest::blob("start") {
        Some(start) => {
            let start = start.to_vec();
            solve_from(input, &String::from_utf8_lossy(&start), options, &mut host)
        }
        None => solve(input, options, &mut host),
    }
}
