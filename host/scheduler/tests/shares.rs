//! Namespaces: none can be slowed by what another one submits.

// A failed unwrap is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::{Cluster, jobs, slots, submit};
use optwasm_scheduler::{BatchId, BatchSpec, Event, NamespaceId, WorkerSpec};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000;

fn of(namespace: u64, count: u32) -> BatchSpec {
    BatchSpec {
        namespace: NamespaceId(namespace),
        ..jobs(count)
    }
}

fn labelled(spec: BatchSpec, label: &str) -> BatchSpec {
    BatchSpec {
        labels: BTreeMap::from([(label.to_owned(), "yes".to_owned())]),
        ..spec
    }
}

fn weigh(namespace: u64, weight: u32) -> Event {
    Event::Weigh {
        namespace: NamespaceId(namespace),
        weight,
    }
}

fn served(cluster: &Cluster, batch: u64) -> u64 {
    cluster.served.get(&BatchId(batch)).copied().unwrap_or(0)
}

fn is_done(cluster: &Cluster, batch: u64) -> bool {
    let status = cluster.scheduler.batch(BatchId(batch)).unwrap();
    status.waiting + status.held == 0
}

/// Seconds until a batch is done.
fn seconds_for(cluster: &mut Cluster, batch: u64, limit: u64) -> f64 {
    let begin = cluster.now;
    while !is_done(cluster, batch) {
        assert!(cluster.now < begin + limit * SECOND, "{batch} is not done");
        cluster.run_until(cluster.now + SECOND / 100);
    }
    cluster.scheduler.sanity_check().unwrap();
    (cluster.now - begin) as f64 / SECOND as f64
}

#[test]
fn a_flood_delays_a_few_jobs_by_no_more_than_what_runs_already() {
    let mut cluster = Cluster::new(|_| SECOND / 10);
    for worker in 0..2 {
        cluster.join(worker, slots(1));
    }
    cluster.event(submit(1, of(1, 1_000_000)));
    cluster.run_until(5 * SECOND);
    cluster.event(submit(2, of(2, 10)));
    // What runs ends within a tenth of a second, and then one of two slots is theirs.
    let seconds = seconds_for(&mut cluster, 2, 10);
    assert!(seconds <= 1.2, "{seconds}");
}

#[test]
fn shares_follow_weights_whatever_batches_and_priorities_there_are() {
    let mut cluster = Cluster::new(|_| 7_000);
    for worker in 0..2 {
        cluster.join(worker, slots(2));
    }
    cluster.event(weigh(1, 3));
    cluster.event(submit(1, of(1, 1_000_000)));
    for batch in 10..60 {
        let spec = BatchSpec {
            priority: 1000,
            weight: 1000,
            memory: batch,
            ..of(2, 1_000_000)
        };
        cluster.event(submit(batch, spec));
    }
    cluster.run_until(60 * SECOND);
    let one = served(&cluster, 1);
    let other: u64 = (10..60).map(|batch| served(&cluster, batch)).sum();
    let ratio = one as f64 / other as f64;
    assert!((2.9..3.1).contains(&ratio), "{ratio}");
}

#[test]
fn a_new_weight_holds_from_then_on() {
    let mut cluster = Cluster::new(|_| 10_000);
    cluster.join(0, slots(1));
    cluster.event(submit(1, of(1, 1_000_000)));
    cluster.event(submit(2, of(2, 1_000_000)));
    cluster.run_until(20 * SECOND);
    let before = (served(&cluster, 1), served(&cluster, 2));
    cluster.event(weigh(2, 4));
    cluster.run_until(40 * SECOND);
    let one = served(&cluster, 1) - before.0;
    let other = served(&cluster, 2) - before.1;
    let ratio = other as f64 / one as f64;
    assert!((3.8..4.2).contains(&ratio), "{ratio}");
}

#[test]
fn who_was_idle_has_saved_nothing() {
    let mut cluster = Cluster::new(|_| 10_000);
    cluster.join(0, slots(2));
    cluster.event(submit(1, of(1, 1_000_000)));
    cluster.event(submit(2, of(2, 1)));
    // One that no worker can run does not make its namespace seem served too little.
    cluster.event(submit(3, labelled(of(2, 1), "nowhere")));
    cluster.run_until(100 * SECOND);
    let before = served(&cluster, 1);
    cluster.event(submit(4, of(2, 1_000_000)));
    cluster.run_until(110 * SECOND);
    let share = (served(&cluster, 1) - before) as f64 / (20 * SECOND) as f64;
    assert!((0.48..0.52).contains(&share), "{share}");
}

#[test]
fn long_jobs_of_unknown_length_pay_while_they_run() {
    // Jobs of the second namespace take ten minutes, and none of them has reported.
    let service = |job: optwasm_scheduler::JobId| match job.batch.0 {
        1 => SECOND,
        _ => 600 * SECOND,
    };
    let mut cluster = Cluster::new(service);
    for worker in 0..10 {
        cluster.join(worker, slots(1));
    }
    cluster.event(submit(1, of(1, 1_000_000)));
    cluster.run_until(20 * SECOND);
    for batch in 2..102 {
        cluster.event(submit(batch, of(2, 1)));
    }
    cluster.run_until(60 * SECOND);
    let before = served(&cluster, 1);
    cluster.run_until(160 * SECOND);
    let share = (served(&cluster, 1) - before) as f64 / (1000 * SECOND) as f64;
    // Half of the slots fall to the other at once, and no job is interrupted; but not all of them.
    assert!(share > 0.15, "{share}");
}

#[test]
fn who_had_all_workers_to_itself_owes_nothing_for_it() {
    let mut cluster = Cluster::new(|job| match job.batch.0 {
        1 => 100 * SECOND,
        _ => SECOND,
    });
    for worker in 0..10 {
        cluster.join(worker, slots(1));
    }
    cluster.event(submit(1, of(1, 10)));
    cluster.event(submit(2, of(1, 1_000_000)));
    cluster.run_until(99 * SECOND);
    cluster.event(submit(3, of(2, 1_000_000)));
    cluster.run_until(105 * SECOND);
    let before = (served(&cluster, 2), served(&cluster, 3));
    cluster.run_until(125 * SECOND);
    let one = served(&cluster, 2) - before.0;
    let other = served(&cluster, 3) - before.1;
    let share = one as f64 / (one + other) as f64;
    assert!((0.4..0.6).contains(&share), "{share}");
}

#[test]
fn workers_that_others_cannot_use_are_not_held_against_their_user() {
    let mut cluster = Cluster::new(|_| SECOND / 10);
    let big = WorkerSpec {
        labels: BTreeMap::from([("big".to_owned(), "yes".to_owned())]),
        ..slots(20)
    };
    let small = WorkerSpec {
        labels: BTreeMap::from([("small".to_owned(), "yes".to_owned())]),
        ..slots(1)
    };
    cluster.join(0, big);
    cluster.join(1, small);
    cluster.event(submit(1, labelled(of(1, 1_000_000), "big")));
    cluster.event(submit(2, labelled(of(2, 1_000_000), "small")));
    cluster.run_until(60 * SECOND);
    cluster.event(submit(3, labelled(of(1, 10), "small")));
    let seconds = seconds_for(&mut cluster, 3, 60);
    assert!(seconds < 2.5, "{seconds}");
}

#[test]
fn wrong_expectations_starve_nobody() {
    // Jobs of the first namespace were long, and from the hundredth on are short.
    let mut cluster = Cluster::new(|job| match (job.batch.0, job.index) {
        (1, 0..100) => 2 * SECOND,
        (1, _) => 1_000,
        _ => SECOND / 10,
    });
    cluster.join(0, slots(10));
    cluster.event(submit(1, of(1, 1_000_000)));
    cluster.run_until(19 * SECOND);
    cluster.event(submit(2, of(2, 50)));
    let seconds = seconds_for(&mut cluster, 2, 30);
    assert!(seconds < 4.0, "{seconds}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    /// Namespaces that always have jobs waiting get time by their weights: they differ by no more
    /// than a job for each slot, and what is expected of one differs from what it takes.
    #[test]
    fn who_always_waits_gets_its_share(
        weights in prop::collection::vec(1..6u32, 2..5),
        service in prop::collection::vec(1_000..60_000u64, 5),
        batches in 1..4u64,
        workers in 1..4u64,
        per_worker in 1..4u32,
        late in 0..10u64,
    ) {
        let times = service.clone();
        let mut cluster = Cluster::new(move |job| {
            // Half as long to half as long again.
            let time = times[(job.batch.0 / 100) as usize];
            time / 2 + u64::from(job.index).wrapping_mul(2_654_435_761) % time
        });
        for worker in 0..workers {
            cluster.join(worker, slots(per_worker));
        }
        for (namespace, &weight) in (0..).zip(&weights) {
            cluster.event(weigh(namespace, weight));
            // The last one comes late.
            if namespace + 1 == weights.len() as u64 {
                cluster.run_until(late * SECOND);
            }
            for batch in 0..batches {
                cluster.event(submit(namespace * 100 + batch, of(namespace, 1_000_000)));
            }
        }
        let sums = |cluster: &Cluster| -> Vec<f64> {
            let of = |namespace: u64| (0..batches).map(move |batch| namespace * 100 + batch);
            let all = (0..weights.len() as u64).zip(&weights);
            all.map(|(namespace, &weight)| {
                let sum: u64 = of(namespace).map(|batch| served(cluster, batch)).sum();
                sum as f64 / f64::from(weight)
            }).collect()
        };
        cluster.run_until((late + 1) * SECOND);
        let before = sums(&cluster);
        cluster.run_until((late + 21) * SECOND);
        let got: Vec<f64> = sums(&cluster).iter().zip(before).map(|(now, then)| now - then).collect();
        let most = got.iter().copied().fold(0.0, f64::max);
        let least = got.iter().copied().fold(f64::INFINITY, f64::min);
        // Each may have a job of 90 ms and the look-ahead in each slot, and is charged for them when
        // they have ended.
        let bound = (workers * u64::from(per_worker)) as f64 * 2.0 * 100_000.0;
        prop_assert!(most - least <= bound, "{got:?}, {bound}");
    }
}

#[test]
fn who_cancels_what_runs_has_saved_nothing() {
    let service = |job: optwasm_scheduler::JobId| match job.batch.0 {
        1 => SECOND / 100,
        _ => 600 * SECOND,
    };
    let mut cluster = Cluster::new(service);
    cluster.join(0, slots(1));
    cluster.event(submit(1, of(1, 1_000_000)));
    for batch in 2..102 {
        cluster.event(submit(batch, of(2, 1)));
        // Before running jobs are charged for the time they take.
        cluster.run_until(cluster.now + SECOND * 9 / 10);
        let batch = BatchId(batch);
        cluster.event(Event::Cancel { batch });
    }
    let share = served(&cluster, 1) as f64 / cluster.now as f64;
    assert!(share > 0.45, "{share}");
    cluster.scheduler.sanity_check().unwrap();
}

/// What is charged beforehand is corrected afterwards, in both directions.
#[test]
fn jobs_of_varying_length_get_no_less_than_short_ones() {
    let mut cluster = Cluster::new(|job| {
        let time = [1_000, 20_000][(job.batch.0 / 100) as usize];
        // Half as long to half as long again.
        time / 2 + u64::from(job.index).wrapping_mul(2_654_435_761) % time
    });
    cluster.join(0, slots(3));
    cluster.event(weigh(1, 2));
    for batch in [1, 2, 101, 102] {
        cluster.event(submit(batch, of(batch / 100, 1_000_000)));
    }
    cluster.run_until(100 * SECOND);
    let of = |first| (served(&cluster, first) + served(&cluster, first + 1)) as f64;
    let ratio = of(101) / of(1);
    assert!((1.99..2.01).contains(&ratio), "{ratio}");
}
