//! Jobs that kill their worker are found out; jobs that ran or waited beside them are not blamed.

mod common;

use std::collections::BTreeSet;

use common::{Cluster, job, submit};
use optwasm_scheduler::{BatchSpec, OutcomeClass, Verdict, WorkerSpec};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..Default::default() })]

    /// Whatever the shape of cluster and jobs, and although reports die with workers.
    #[test]
    fn only_the_poisonous_are_condemned(
        count in 1..120u32,
        poisonous in prop::collection::btree_set(0..120u32, 0..10),
        workers in 1..4u64,
        slots in 1..9u32,
        lengths in prop::collection::vec(20..40_000u64, 1..5),
        report_every in prop_oneof![Just(0u64), Just(500), Just(10_000)],
        loss_limit in 2..5u32,
    ) {
        let poisonous: BTreeSet<u32> = poisonous.into_iter().filter(|&i| i < count).collect();
        let mut cluster = Cluster::new(move |job| {
            lengths[(job.index as usize * 7 + 3) % lengths.len()]
        });
        let deadly = poisonous.clone();
        cluster.kills = Box::new(move |job| deadly.contains(&job.index));
        cluster.report_every = report_every;
        for worker in 0..workers {
            cluster.join(worker, WorkerSpec { slots, ..Default::default() });
        }
        cluster.event(submit(0, BatchSpec { count, loss_limit, ..Default::default() }));
        cluster.run_until_done(1_000_000_000);
        for index in 0..count {
            match &cluster.verdicts[&job(0, index)] {
                Verdict::Reported(class) => {
                    prop_assert_eq!(*class, OutcomeClass::Ok);
                    prop_assert!(!poisonous.contains(&index));
                }
                Verdict::LostTooOften { losses } => {
                    prop_assert!(poisonous.contains(&index), "job {} is innocent", index);
                    prop_assert_eq!(losses.len(), loss_limit as usize);
                }
            }
        }
        // An evasive one may take a worker more before it is suspected: once with reports that
        // were lost, and once per other culprit that it was held beside.
        let most = poisonous.len() as u64 * u64::from(loss_limit + 1);
        prop_assert!(cluster.deaths <= most, "{} deaths, at most {}", cluster.deaths, most);
    }
}

/// Prefetched neighbours of a poisonous job get no loss at all.
#[test]
fn prefetched_neighbours_are_not_blamed() {
    let mut cluster = Cluster::new(|_| 100);
    cluster.kills = Box::new(|job| job.index == 5);
    cluster.join(
        0,
        WorkerSpec {
            slots: 1,
            ..Default::default()
        },
    );
    cluster.event(submit(
        0,
        BatchSpec {
            count: 1_000,
            loss_limit: 1,
            ..Default::default()
        },
    ));
    cluster.run_until_done(10_000_000);
    assert!(
        cluster.held_most > 30,
        "nothing was held ahead: the test tests nothing"
    );
    assert_eq!(cluster.deaths, 1);
    let condemned = cluster
        .verdicts
        .values()
        .filter(|v| matches!(v, Verdict::LostTooOften { .. }));
    assert_eq!(condemned.count(), 1);
}

/// A suspect gets its worker to itself although other jobs never end.
#[test]
fn a_suspect_is_not_starved() {
    let mut cluster = Cluster::new(|job| 5_000 + u64::from(job.index % 13) * 700);
    cluster.kills = Box::new(|job| job.index == 5);
    cluster.restart = false;
    for worker in 0..2 {
        cluster.join(
            worker,
            WorkerSpec {
                slots: 3,
                ..Default::default()
            },
        );
    }
    let count = 1_000_000;
    cluster.event(submit(
        0,
        BatchSpec {
            count,
            loss_limit: 2,
            ..Default::default()
        },
    ));
    cluster.run_until(5_000_000);
    assert!(
        matches!(&cluster.verdicts[&job(0, 5)], Verdict::LostTooOften { losses } if losses.len() == 2)
    );
    assert_eq!(cluster.deaths, 2);
}

/// A job that runs far longer than its neighbours does not keep those queued behind it.
#[test]
fn jobs_behind_an_unexpectedly_long_one_are_moved() {
    let mut cluster = Cluster::new(|job| if job.index == 50 { 10_000_000 } else { 100 });
    cluster.join(
        0,
        WorkerSpec {
            slots: 1,
            ..Default::default()
        },
    );
    cluster.join(
        1,
        WorkerSpec {
            slots: 1,
            ..Default::default()
        },
    );
    cluster.event(submit(
        0,
        BatchSpec {
            count: 2_000,
            ..Default::default()
        },
    ));
    cluster.run_until(1_000_000);
    assert!(cluster.recalls > 0);
    assert_eq!(
        cluster.verdicts.len(),
        1_999,
        "all but the long one are done after a second"
    );
}
