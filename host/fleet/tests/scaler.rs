//! The scaler, step by step: what it asks for, and how it ends.

#![allow(clippy::unwrap_used)]

mod common;

use common::bench::{Bench, config, failed, list, seen, strings, submitted};
use optwasm_fleet::batch::scaler::{Config, Effect, Event, Failure, State};

#[test]
fn it_asks_for_as_many_as_the_queue_needs_and_no_more_than_the_maximum() {
    for (min, max, per_worker, per_submit, waiting, expected) in [
        (0, 10, 1, 10, 3, 3),
        (0, 10, 1, 10, 99, 10),
        (0, 10, 4, 10, 9, 3),
        (2, 10, 1, 10, 0, 2),
        (2, 10, 1, 10, 1, 2),
        (0, 10, 1, 4, 99, 4),
        (5, 3, 1, 9, 0, 3),
    ] {
        let config = Config {
            min,
            max,
            jobs_per_worker: per_worker,
            per_submit,
            ..Config::default()
        };
        let mut bench = Bench::surveyed(config, waiting);
        assert_eq!(bench.step(list(&[])), [Effect::Submit(expected)]);
        assert_eq!(bench.until(20), [], "one command at a time");
    }
    let mut idle = Bench::new(config(0, 5));
    assert_eq!(idle.step(seen(0, &[])), []);
    assert_eq!(idle.until(10_000), [], "nothing wanted, nothing asked");
}

#[test]
fn nothing_is_listed_while_all_outstanding_jobs_are_connected() {
    let mut bench = Bench::surveyed(config(0, 2), 2);
    bench.step(list(&[]));
    assert_eq!(bench.step(submitted(&["1", "2"])), []);
    assert_eq!(bench.at(29, seen(2, &[])), []);
    assert_eq!(
        bench.at(30, seen(2, &[("1", false)])),
        [Effect::List],
        "2 is not there yet"
    );
    bench.step(list(&[("1", State::Running), ("2", State::Queued)]));
    assert_eq!(bench.at(31, seen(5, &[("1", false), ("2", false)])), []);
    assert_eq!(bench.until(100_000), []);
    // One leaves: it is looked for, and replaced only when it is gone.
    assert_eq!(bench.step(seen(5, &[("1", false)])), [Effect::List]);
    assert_eq!(bench.step(list(&[("1", State::Running)])), []);
    assert_eq!(bench.scaler.outstanding(), 2);
    assert_eq!(bench.until(100_030), [(100_030, Effect::List)]);
    assert_eq!(bench.step(list(&[("1", State::Running)])), []);
    assert_eq!(bench.until(100_060), [(100_060, Effect::List)]);
    let next = bench.step(list(&[("1", State::Running)]));
    assert_eq!(next, [Effect::Submit(1)], "a minute later");
    assert!(
        !bench
            .said
            .iter()
            .any(|text| text.contains("no worker had joined"))
    );
}

#[test]
fn idle_workers_are_given_back_after_a_grace_but_not_below_the_minimum() {
    let mut bench = Bench::surveyed(config(1, 3), 3);
    bench.step(list(&[]));
    bench.step(submitted(&["1", "2", "3"]));
    let all_idle = || seen(0, &[("1", true), ("2", true), ("3", true)]);
    assert_eq!(bench.at(10, all_idle()), []);
    bench.at(200, seen(0, &[("1", false), ("2", true), ("3", true)]));
    assert_eq!(
        bench.at(309, seen(0, &[("1", true), ("2", true), ("3", true)])),
        []
    );
    assert_eq!(
        bench.at(310, all_idle()),
        [Effect::Drain(strings(&["2", "3"]))]
    );
    assert_eq!(bench.at(609, all_idle()), [], "one is left");
    assert_eq!(
        bench.at(610, all_idle()),
        [Effect::Drain(strings(&["1", "2"]))],
        "once more"
    );
}

#[test]
fn jobs_that_wait_in_vain_are_taken_back() {
    let mut bench = Bench::surveyed(config(0, 3), 3);
    bench.step(list(&[]));
    bench.step(submitted(&["1", "2", "3"]));
    bench.at(30, seen(3, &[]));
    bench.step(list(&[
        ("1", State::Running),
        ("2", State::Queued),
        ("3", State::Queued),
    ]));
    bench.at(40, seen(0, &[("1", false)]));
    let commands = bench.until(400);
    let cancel = commands
        .iter()
        .find(|(_, effect)| matches!(effect, Effect::Cancel(_)));
    assert_eq!(cancel, None, "a list is under way");
    let commands = bench.step(list(&[("2", State::Queued), ("3", State::Running)]));
    assert_eq!(commands, [Effect::Cancel(strings(&["2"]))], "3 runs by now");
}

#[test]
fn vanished_jobs_are_failures_after_a_grace_and_in_the_end_it_gives_up() {
    let mut bench = Bench::surveyed(config(0, 1), 1);
    let mut submissions = Vec::new();
    let mut commands = vec![(0, Effect::List)];
    let mut ended = None;
    while ended.is_none() && bench.now < 10_000 {
        let mut next = Vec::new();
        for (at, command) in commands.drain(..) {
            next.extend(match command {
                Effect::List => bench.step(list(&[])),
                Effect::Submit(1) => {
                    submissions.push(at);
                    bench.step(submitted(&[&at.to_string()]))
                }
                Effect::Ended(result) => {
                    ended = Some(result);
                    Vec::new()
                }
                other => panic!("{other:?}"),
            });
        }
        commands.extend(next.into_iter().map(|effect| (bench.now, effect)));
        if commands.is_empty() {
            commands = bench.until(bench.now + 1);
        }
    }
    let Some(Err(Failure::Broken { failures: 5, why })) = ended else {
        panic!("{ended:?}")
    };
    assert!(why.contains("no worker had joined"), "{why}");
    assert_eq!(submissions.len(), 5);
    let gaps: Vec<_> = submissions
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .collect();
    assert!(gaps.is_sorted(), "pauses grow: {gaps:?}");
    assert_eq!(bench.step(seen(9, &[])), [], "nothing follows");
}

#[test]
fn failed_submissions_pause_and_then_end_with_the_last_words() {
    let mut bench = Bench::surveyed(config(0, 2), 2);
    bench.step(list(&[]));
    let mut times = Vec::new();
    for n in 1..5 {
        assert_eq!(
            bench.step(failed(&format!("invalid account {n}"), false)),
            []
        );
        let effects = bench.until(bench.now + 300);
        assert_eq!(effects.len(), 1, "{effects:?}");
        assert_eq!(effects[0].1, Effect::Submit(2));
        times.push(effects[0].0);
    }
    assert_eq!(
        times,
        [10, 320, 640, 980],
        "300 s of ticks after each, paused 10, 20, 40, 80 s"
    );
    let end = bench.step(failed("invalid account 5", false));
    let why = "submitting failed: invalid account 5".to_owned();
    assert_eq!(
        end,
        [Effect::Ended(Err(Failure::Broken { failures: 5, why }))]
    );
}

#[test]
fn a_worker_that_joins_forgives_failures() {
    let mut bench = Bench::surveyed(config(0, 2), 2);
    bench.step(list(&[]));
    for _ in 0..4 {
        bench.step(failed("no", false));
        bench.until(bench.now + 300);
    }
    bench.step(submitted(&["1"]));
    bench.step(seen(2, &[("1", false)]));
    let submit = bench.until(bench.now + 300);
    assert_eq!(submit[0].1, Effect::Submit(1));
    assert_eq!(bench.step(failed("no", false)), []);
    assert_eq!(bench.scaler.broken(), None);
}

#[test]
fn a_submission_without_an_answer_counts_until_a_list_tells() {
    let mut bench = Bench::surveyed(config(0, 2), 2);
    bench.step(list(&[]));
    assert_eq!(bench.step(failed("no answer within 60 s", true)), []);
    assert_eq!(bench.scaler.outstanding(), 2);
    assert_eq!(bench.until(30), [(30, Effect::List)]);
    assert_eq!(bench.step(list(&[])), [], "too early to tell");
    assert_eq!(bench.until(60), [(60, Effect::List)]);
    assert_eq!(
        bench.step(list(&[("7", State::Queued)])),
        [Effect::Submit(1)],
        "one was there"
    );

    // And it is found at the end, too.
    let mut bench = Bench::surveyed(config(0, 2), 2);
    bench.step(list(&[]));
    bench.step(failed("no answer within 60 s", true));
    assert_eq!(bench.step(Event::Stop), []);
    assert_eq!(bench.until(60), [(60, Effect::List)]);
    let cancel = bench.step(list(&[("7_0", State::Queued), ("7_1", State::Queued)]));
    assert_eq!(cancel, [Effect::Cancel(strings(&["7_0", "7_1"]))]);
    assert_eq!(
        bench.step(Event::Cancelled(Ok(()))),
        [Effect::Ended(Ok(()))]
    );
}

#[test]
fn a_batch_system_that_does_not_answer_is_asked_a_bounded_number_of_times() {
    let mut bench = Bench::surveyed(config(0, 1), 1);
    bench.step(list(&[]));
    bench.step(submitted(&["1"]));
    let mut lists = 0;
    loop {
        let effects = bench.until(bench.now + 1);
        match effects.into_iter().next() {
            None => {}
            Some((_, Effect::List)) => {
                lists += 1;
                let mut next = bench.step(Event::Listed(Err("cannot contact controller".into())));
                if let Some(Effect::Cancel(ids)) = next.pop() {
                    assert_eq!(ids, ["1"]);
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
        assert!(bench.now < 10_000, "it goes on for ever");
    }
    assert_eq!(lists, 12);
    assert!(bench.now >= 2110, "patient for {} s", bench.now);
    let end = bench.step(Event::Cancelled(Ok(())));
    let why = "cannot contact controller".to_owned();
    assert_eq!(end, [Effect::Ended(Err(Failure::Unanswered { why }))]);
}

#[test]
fn a_list_that_is_empty_for_once_changes_nothing() {
    let mut bench = Bench::surveyed(config(0, 1), 1);
    bench.step(list(&[]));
    bench.step(submitted(&["1"]));
    let mut time = 0;
    for answer in [
        &[][..],
        &[("1", State::Queued)],
        &[],
        &[("1", State::Queued)],
        &[],
    ] {
        time += 30;
        assert_eq!(bench.until(time), [(time, Effect::List)]);
        assert_eq!(bench.step(list(answer)), []);
    }
    assert_eq!(bench.scaler.outstanding(), 1);
    assert!(bench.said.iter().all(|text| text.starts_with("submitted")));
}

#[test]
fn a_worker_that_runs_but_never_joins_is_cancelled_and_counts() {
    let mut bench = Bench::surveyed(config(0, 1), 1);
    bench.step(list(&[]));
    bench.step(submitted(&["1"]));
    bench.until(30);
    bench.step(list(&[("1", State::Running)]));
    assert_eq!(bench.at(50, seen(1, &[])), []);
    bench.at(60, Event::Tick);
    bench.step(list(&[("1", State::Running)]));
    assert_eq!(
        bench.at(330, seen(1, &[])),
        [Effect::Cancel(strings(&["1"]))]
    );
    assert!(
        bench.said.last().unwrap().contains("no worker joined"),
        "{:?}",
        bench.said
    );
    // A cancellation that fails is tried again, and looked after.
    assert_eq!(bench.step(Event::Cancelled(Err("busy".into()))), []);
    let effects = bench.until(360);
    assert_eq!(effects, [(340, Effect::List)]);
    assert_eq!(
        bench.step(list(&[("1", State::Running)])),
        [Effect::Cancel(strings(&["1"]))]
    );
    bench.step(Event::Cancelled(Ok(())));
    bench.until(400);
    bench.step(list(&[]));
    bench.until(430);
    bench.step(list(&[]));
    bench.until(460);
    assert_eq!(
        bench.step(list(&[])),
        [Effect::Submit(1)],
        "its place is free"
    );
}

#[test]
fn stopping_cancels_everything_also_what_is_being_submitted() {
    let mut bench = Bench::surveyed(config(0, 3), 2);
    bench.step(list(&[]));
    bench.step(submitted(&["1", "2"]));
    assert_eq!(bench.at(10, seen(3, &[("1", false)])), [Effect::Submit(1)]);
    assert_eq!(bench.step(Event::Stop), [], "the answer comes first");
    assert_eq!(
        bench.step(submitted(&["3"])),
        [Effect::Cancel(strings(&["1", "2", "3"]))]
    );
    // It fails for what was gone before: a list tells.
    assert_eq!(
        bench.step(Event::Cancelled(Err("invalid job id 2".into()))),
        []
    );
    assert_eq!(bench.until(20), [(20, Effect::List)]);
    let again = bench.step(list(&[("1", State::Running), ("3", State::Queued)]));
    assert_eq!(again, [Effect::Cancel(strings(&["1", "3"]))]);
    // Whether 2 is gone, or was not shown, is known after the grace.
    assert_eq!(bench.step(Event::Cancelled(Ok(()))), []);
    for time in (30..80).step_by(10) {
        assert_eq!(bench.until(time), [(time, Effect::List)]);
        assert_eq!(bench.step(list(&[])), []);
    }
    bench.until(80);
    assert_eq!(bench.step(list(&[])), [Effect::Ended(Ok(()))]);

    // A list that was under way when it was stopped says nothing about what was not cancelled.
    let mut bench = Bench::surveyed(config(0, 1), 1);
    bench.step(list(&[]));
    bench.step(submitted(&["1"]));
    bench.until(30);
    assert_eq!(bench.step(Event::Stop), []);
    assert_eq!(bench.step(list(&[])), [Effect::Cancel(strings(&["1"]))]);
}

#[test]
fn what_cannot_be_cancelled_is_named() {
    let mut bench = Bench::surveyed(config(0, 1), 1);
    bench.step(list(&[]));
    bench.step(submitted(&["1"]));
    let mut effects = bench.step(Event::Stop);
    let mut commands = 0;
    while bench.now < 1000 {
        match effects.pop() {
            None => {
                effects = bench
                    .until(bench.now + 1)
                    .into_iter()
                    .map(|(_, e)| e)
                    .collect()
            }
            Some(Effect::Ended(result)) => {
                let why = "down".to_owned();
                assert_eq!(
                    result,
                    Err(Failure::Left {
                        ids: strings(&["1"]),
                        why
                    })
                );
                assert!((2..=5).contains(&commands), "{commands} commands");
                return;
            }
            Some(Effect::List) => {
                commands += 1;
                effects = bench.step(Event::Listed(Err("down".into())));
            }
            Some(Effect::Cancel(_)) => {
                commands += 1;
                effects = bench.step(Event::Cancelled(Err("down".into())));
            }
            other => panic!("{other:?}"),
        }
    }
    panic!("it never ends");
}

#[test]
fn jobs_of_an_earlier_run_are_taken_over() {
    let mut bench = Bench::surveyed(config(0, 3), 3);
    let next = bench.step(list(&[("5", State::Queued), ("6", State::Running)]));
    assert_eq!(next, [Effect::Submit(1)]);
    bench.step(submitted(&["9"]));
    assert_eq!(bench.at(5, seen(0, &[("6", false)])), []);
    assert_eq!(bench.scaler.outstanding(), 3);
    assert_eq!(bench.scaler.connected(), 1);
}

#[test]
fn workers_whose_jobs_no_list_shows_are_none_of_this_fleet_s() {
    let mut bench = Bench::new(config(0, 3));
    let workers = [("--all", true), ("4", true), ("5", true)];
    assert_eq!(
        bench.step(seen(0, &workers)),
        [Effect::List],
        "whose are they?"
    );
    assert_eq!(bench.step(list(&[("5", State::Running)])), []);
    assert_eq!(bench.scaler.outstanding(), 1);
    assert_eq!(bench.at(5, seen(0, &workers)), []);
    assert_eq!(bench.at(200, seen(0, &workers)), [], "it is asked once");
    let drain = bench.at(400, seen(0, &workers));
    assert_eq!(drain, [Effect::Drain(strings(&["5"]))]);
    assert_eq!(bench.step(Event::Stop), [Effect::Cancel(strings(&["5"]))]);
}

#[test]
fn without_the_coordinator_nothing_is_changed() {
    let mut bench = Bench::new(config(2, 3));
    assert_eq!(bench.step(Event::Unobserved), []);
    assert_eq!(bench.until(1000), []);
    assert_eq!(bench.step(seen(0, &[])), [Effect::List]);
    assert_eq!(bench.step(Event::Unobserved), []);
    assert_eq!(bench.step(list(&[])), []);
    assert_eq!(bench.at(1001, seen(0, &[])), [Effect::Submit(2)]);
}
