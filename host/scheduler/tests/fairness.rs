//! Weights, newcomers and heterogeneous classes, measured in a simulated cluster.

mod common;

use std::collections::BTreeMap;

use common::{Cluster, submit};
use optwasm_scheduler::{BatchId, BatchSpec, Event, WorkerId, WorkerSpec};
use proptest::prelude::*;

const MILLION: u32 = 1_000_000;

fn worker(slots: u32) -> WorkerSpec {
    WorkerSpec {
        slots,
        memory: 1 << 40,
        ..Default::default()
    }
}

fn weighted(weight: u32) -> BatchSpec {
    BatchSpec {
        count: MILLION,
        weight,
        ..Default::default()
    }
}

fn served(cluster: &Cluster, batch: u64) -> u64 {
    cluster.served.get(&BatchId(batch)).copied().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    /// Service follows weights, however long the jobs of each batch are.
    #[test]
    fn long_run_shares_follow_weights(
        batches in prop::collection::vec((1..8u32, 50..8_000u64), 2..5),
        slots in 1..4u32,
    ) {
        let lengths: Vec<u64> = batches.iter().map(|&(_, length)| length).collect();
        // Jobs of a batch differ by up to a factor of 3.
        let mut cluster = Cluster::new(move |job| {
            let length = lengths[job.batch.0 as usize];
            length / 2 + length * u64::from(job.index % 7) / 6
        });
        for (batch, &(weight, _)) in batches.iter().enumerate() {
            cluster.event(submit(batch as u64, weighted(weight)));
        }
        cluster.join(0, worker(slots));
        cluster.join(1, worker(slots));
        let end = 3_000_000;
        cluster.run_until(end);
        let all: u32 = batches.iter().map(|&(weight, _)| weight).sum();
        for (batch, &(weight, _)) in batches.iter().enumerate() {
            let share = served(&cluster, batch as u64) as f64 / (end * u64::from(slots) * 2) as f64;
            let due = f64::from(weight) / f64::from(all);
            prop_assert!((share / due - 1.0).abs() < 0.1, "batch {batch}: {share} instead of {due}");
        }
    }
}

/// A batch that comes later gets its share from then on: not more, to make up for the past, and
/// not less.
#[test]
fn a_newcomer_has_no_arrears() {
    // In the same class, and in a class that is as new.
    for memory in [0, 1] {
        let mut cluster = Cluster::new(|_| 1_000);
        cluster.join(0, worker(2));
        cluster.event(submit(0, weighted(1)));
        cluster.run_until(2_000_000);
        let before = served(&cluster, 0);
        cluster.event(submit(
            1,
            BatchSpec {
                memory,
                ..weighted(1)
            },
        ));
        cluster.run_until(2_400_000);
        let (old, new) = (served(&cluster, 0) - before, served(&cluster, 1));
        assert!(old.abs_diff(new) < 40_000, "old {old}, new {new}");
    }
}

/// A batch that was idle for long does not come back with a claim on that time.
#[test]
fn idle_time_earns_nothing() {
    let mut cluster = Cluster::new(|_| 1_000);
    cluster.join(0, worker(2));
    cluster.event(submit(
        1,
        BatchSpec {
            count: 1,
            ..Default::default()
        },
    ));
    cluster.run_until(10_000);
    cluster.event(submit(0, weighted(1)));
    cluster.run_until(2_000_000);
    let before = (served(&cluster, 0), served(&cluster, 1));
    let batch = BatchId(1);
    cluster.event(Event::Extend {
        batch,
        count: MILLION,
    });
    cluster.run_until(2_400_000);
    let (old, back) = (
        served(&cluster, 0) - before.0,
        served(&cluster, 1) - before.1,
    );
    assert!(old.abs_diff(back) < 40_000, "old {old}, back {back}");
}

/// A batch that had no worker until now shares with those that had one.
#[test]
fn waiting_without_a_worker_earns_nothing() {
    let gpu = BTreeMap::from([("gpu".to_string(), "yes".to_string())]);
    let mut cluster = Cluster::new(|_| 1_000);
    cluster.join(0, worker(1));
    cluster.event(submit(0, weighted(1)));
    cluster.event(submit(
        1,
        BatchSpec {
            labels: gpu.clone(),
            ..weighted(1)
        },
    ));
    cluster.run_until(2_000_000);
    cluster.join(
        1,
        WorkerSpec {
            labels: gpu,
            ..worker(1)
        },
    );
    let worker = WorkerId(0);
    cluster.event(Event::WorkerDraining { worker });
    let before = served(&cluster, 0);
    cluster.run_until(2_400_000);
    let (any, gpu) = (served(&cluster, 0) - before, served(&cluster, 1));
    assert!(any.abs_diff(gpu) < 40_000, "any {any}, gpu {gpu}");
}

/// Newcomers beside a class that was hardly served do not inherit its low pass.
#[test]
fn a_slow_neighbour_class_gives_no_advantage() {
    let gpu = BTreeMap::from([("gpu".to_string(), "yes".to_string())]);
    let mut cluster = Cluster::new(|job| if job.batch.0 == 1 { 500_000 } else { 1_000 });
    cluster.join(0, worker(4));
    cluster.join(
        1,
        WorkerSpec {
            labels: gpu.clone(),
            ..worker(1)
        },
    );
    cluster.event(submit(
        1,
        BatchSpec {
            labels: gpu,
            ..weighted(8)
        },
    ));
    cluster.event(submit(0, weighted(1)));
    cluster.run_until(4_000_000);
    let before = served(&cluster, 0);
    cluster.event(submit(2, weighted(1)));
    cluster.run_until(4_400_000);
    let (old, new) = (served(&cluster, 0) - before, served(&cluster, 2));
    assert!(old.abs_diff(new) < 60_000, "old {old}, new {new}");
}

/// A job that took longer than anybody could know is paid for before its batch goes on.
#[test]
fn unexpected_service_is_settled() {
    let mut cluster = Cluster::new(|job| if job.batch.0 == 0 { 100_000 } else { 1_000 });
    cluster.event(submit(0, weighted(1)));
    cluster.event(submit(1, weighted(1)));
    cluster.join(0, worker(1));
    cluster.run_until(190_000);
    assert!(served(&cluster, 1) > 80_000, "{}", served(&cluster, 1));
}

/// While a higher priority has work, lower ones get nothing.
#[test]
fn priority_goes_first() {
    let mut cluster = Cluster::new(|_| 1_000);
    cluster.join(0, worker(2));
    cluster.event(submit(0, weighted(100)));
    cluster.event(submit(
        1,
        BatchSpec {
            count: 1_000,
            priority: 1,
            ..Default::default()
        },
    ));
    cluster.run_until(100_000);
    let before = served(&cluster, 0);
    cluster.run_until(400_000);
    assert_eq!(served(&cluster, 0), before);
    cluster.run_until(600_000);
    assert!(served(&cluster, 0) > before);
}

/// A job that needs a whole worker gets one although small jobs never end.
#[test]
fn a_large_job_is_not_starved() {
    let mut cluster = Cluster::new(|_| 7_000);
    cluster.join(
        0,
        WorkerSpec {
            slots: 4,
            memory: 4,
            ..Default::default()
        },
    );
    cluster.event(submit(
        0,
        BatchSpec {
            memory: 1,
            ..weighted(1)
        },
    ));
    cluster.run_until(50_000);
    cluster.event(submit(
        1,
        BatchSpec {
            count: 5,
            memory: 4,
            ..Default::default()
        },
    ));
    cluster.run_until(200_000);
    assert_eq!(
        served(&cluster, 1),
        0,
        "room appears by chance: the test tests nothing"
    );
    cluster.run_until(9_000_000);
    assert_eq!(served(&cluster, 1), 5 * 7_000);
    assert!(
        served(&cluster, 0) > 20_000_000,
        "the small jobs are hardly disturbed"
    );
}
