//! Sleeps.

use std::time::{Duration, Instant};

/// Sleeps so many milliseconds and returns how many the clock says have passed.
#[optwasm_guest::job]
fn compute(milliseconds: u64) -> u64 {
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(milliseconds));
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}
