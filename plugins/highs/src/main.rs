//! The job: a model file in, or a patch of one that is a blob; a [`Solution`] out.

use optwasm_model::{Options, Solution, patch};
use optwasm_plugin_highs::{Observer, SolveError, solve_from, solve_model};

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
    let blob = |name: &str| Some(optwasm_guest::blob(name)?.to_vec());
    let model = patch::read::<SolveError>(input, blob)?;
    match optwasm_guest::blob("start") {
        Some(start) => {
            let start = start.to_vec();
            solve_from(&model, &String::from_utf8_lossy(&start), options, &mut host)
        }
        None => solve_model(&model, None, options, &mut host),
    }
}
