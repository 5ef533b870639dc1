//! Counts steps, saving a checkpoint after each, and goes on from an earlier attempt's.

use optwasm_test_guests::{Steps, StepsDone, burn};

/// Returns the result and how much of it this attempt computed.
#[optwasm_guest::job]
fn compute(steps: Steps) -> StepsDone {
    let (first, mut checksum) = optwasm_guest::resume::<(u64, u64)>().unwrap_or((0, 1));
    for step in first..steps.total {
        checksum = burn(steps.work_millions, checksum ^ step);
        optwasm_guest::checkpoint(&(step + 1, checksum));
        optwasm_guest::progress((step + 1) as f64, steps.total as f64);
    }
    StepsDone {
        checksum,
        own_steps: steps.total.saturating_sub(first),
    }
}
