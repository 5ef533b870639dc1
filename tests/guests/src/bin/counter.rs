//! Counts the jobs of an instance, from what a blob `start` says on, and how often it was read.

use std::sync::atomic::{AtomicU64, Ordering};

use optwasm_test_guests::Count;

static JOBS: AtomicU64 = AtomicU64::new(0);
static LOADS: AtomicU64 = AtomicU64::new(0);

/// All of the blob; nothing where there is none.
struct Start(Vec<u8>);

fn load() -> Start {
    LOADS.fetch_add(1, Ordering::Relaxed);
    Start(optwasm_guest::blob("start").map_or_else(Vec::new, |blob| blob.to_vec()))
}

#[optwasm_guest::job(init = load)]
fn compute(Start(start): &Start, add: u64) -> Count {
    let jobs = JOBS.fetch_add(1, Ordering::Relaxed) + 1;
    let sum: u64 = start.iter().map(|byte| u64::from(*byte)).sum();
    println!("job {jobs}");
    Count {
        jobs,
        loads: LOADS.load(Ordering::Relaxed),
        sum: sum + add,
    }
}
