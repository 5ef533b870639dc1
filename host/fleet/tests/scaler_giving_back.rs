//! The scaler, step by step: workers that are given back, of no use, or lost.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::bench::{Bench, config, list, seen, strings, submitted};
use optwasm_fleet::batch::scaler::{Config, Effect, Event, Failure, State};

fn not_drained(ids: &[&str], refused: bool) -> Event {
    let ids = strings(ids);
    Event::NotDrained { ids, refused }
}

#[test]
fn what_could_not_be_drained_is_tried_again_after_the_coordinator_was_asked() {
    let mut bench = Bench::surveyed(config(0, 2), 2);
    bench.step(list(&[]));
    bench.step(submitted(&["1", "2"]));
    let idle = || seen(0, &[("1", true), ("2", true)]);
    bench.at(10, idle());
    let both = || Effect::Drain(strings(&["1", "2"]));
    assert_eq!(bench.at(310, idle()), [both()]);
    assert_eq!(bench.step(not_drained(&["1", "2"], false)), []);
    assert_eq!(bench.until(400), [], "not before the coordinator was asked");
    assert_eq!(bench.at(401, idle()), [both()]);
}

#[test]
fn where_draining_is_refused_idle_jobs_are_cancelled() {
    let mut bench = Bench::surveyed(config(0, 3), 3);
    bench.step(list(&[]));
    bench.step(submitted(&["1", "2", "3"]));
    let two_idle = || seen(0, &[("1", true), ("2", true), ("3", false)]);
    bench.at(10, two_idle());
    let drain = bench.at(310, two_idle());
    assert_eq!(drain, [Effect::Drain(strings(&["1", "2"]))]);
    assert_eq!(bench.step(not_drained(&["1", "2"], true)), []);
    assert!(bench.said.last().unwrap().contains("administrator"));
    // One of them has got work meanwhile.
    assert_eq!(
        bench.at(315, seen(0, &[("1", false), ("2", true), ("3", false)])),
        [Effect::Cancel(strings(&["2"]))]
    );
    bench.step(Event::Cancelled(Ok(())));
    bench.at(320, seen(0, &[("1", true), ("3", false)]));
    bench.step(list(&[("1", State::Running), ("3", State::Running)]));
    let later = bench.at(620, seen(0, &[("1", true), ("3", false)]));
    assert!(
        !later
            .iter()
            .any(|effect| matches!(effect, Effect::Drain(_))),
        "it is not asked again: {later:?}"
    );
}

#[test]
fn workers_that_idle_while_jobs_wait_are_no_supply() {
    let mut bench = Bench::surveyed(config(0, 3), 1);
    bench.step(list(&[]));
    bench.step(submitted(&["1"]));
    // What has just begun to wait is about to be handed out.
    assert_eq!(bench.at(10, seen(1, &[("1", true)])), []);
    assert_eq!(bench.at(15, seen(1, &[("1", true)])), []);
    assert_eq!(
        bench.at(20, seen(1, &[("1", true)])),
        [Effect::Submit(1)],
        "it does not take it"
    );
    bench.step(submitted(&["2"]));
    // The next one does.
    assert_eq!(bench.at(40, seen(0, &[("1", true), ("2", false)])), []);
    assert_eq!(
        bench.at(340, seen(0, &[("1", true), ("2", false)])),
        [Effect::Drain(strings(&["1"]))]
    );
    // More than the maximum there never are.
    let mut bench = Bench::surveyed(config(0, 1), 1);
    bench.step(list(&[]));
    bench.step(submitted(&["1"]));
    for time in 1..100 {
        assert_eq!(bench.at(time, seen(1, &[("1", true)])), []);
    }
}

#[test]
fn workers_that_are_lost_early_end_the_fleet_in_the_end() {
    let mut bench = Bench::surveyed(
        Config {
            stay: Some(Duration::from_secs(400)),
            ..config(0, 1)
        },
        1,
    );
    bench.step(list(&[]));
    // Joins, works for a while, and is gone.
    let mut live = |n: u64, work: u64| {
        let id = n.to_string();
        bench.step(submitted(&[&id]));
        let end = bench.now + work;
        while bench.now < end {
            bench.at(bench.now + 5, seen(1, &[(&id, false)]));
        }
        let mut next = bench.at(bench.now + 5, seen(1, &[]));
        loop {
            match next.pop() {
                Some(Effect::List) => next = bench.step(list(&[])),
                Some(Effect::Submit(1)) => return None,
                Some(Effect::Ended(result)) => return Some(result),
                None => {
                    next = bench
                        .until(bench.now + 1)
                        .into_iter()
                        .map(|(_, e)| e)
                        .collect()
                }
                other => panic!("{other:?}"),
            }
            assert!(bench.now < 20_000, "it goes on for ever");
        }
    };
    for n in 1..5 {
        assert_eq!(live(n, 50), None);
    }
    // One that stays for half of its time forgives them.
    assert_eq!(live(5, 250), None);
    for n in 6..10 {
        assert_eq!(live(n, 50), None);
    }
    let Some(Err(Failure::Broken { failures: 5, why })) = live(10, 50) else {
        panic!("not after the fifth")
    };
    assert!(why.contains("ended early"), "{why}");
}

#[test]
fn who_leaves_idle_or_was_asked_to_is_no_loss() {
    let mut bench = Bench::surveyed(config(0, 2), 2);
    bench.step(list(&[]));
    bench.step(submitted(&["1", "2"]));
    bench.at(5, seen(0, &[("1", true), ("2", false)]));
    let drain = bench.at(305, seen(0, &[("1", true), ("2", true)]));
    assert_eq!(drain, [Effect::Drain(strings(&["1"]))]);
    let gone = bench.at(306, seen(0, &[]));
    assert_eq!(gone, [Effect::List]);
    bench.step(list(&[]));
    for time in [336, 366] {
        assert_eq!(bench.until(time), [(time, Effect::List)]);
        bench.step(list(&[]));
    }
    assert_eq!(bench.scaler.outstanding(), 0);
    assert!(
        !bench.said.iter().any(|text| text.contains("ended early")),
        "{:?}",
        bench.said
    );
}
