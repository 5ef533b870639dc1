//! Asks for everything that differs between two runs of an ordinary program.

use std::time::{Instant, SystemTime};

use optwasm_test_guests::Randomness;

/// Random bytes, the seed and the clocks.
#[optwasm_guest::job]
fn compute() -> Result<Randomness, Box<dyn std::error::Error>> {
    let start = Instant::now();
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(Randomness {
        bytes,
        seed: optwasm_guest::seed(),
        wall_ns: u64::try_from(wall.as_nanos())?,
        elapsed_ns: u64::try_from(start.elapsed().as_nanos())?,
    })
}
