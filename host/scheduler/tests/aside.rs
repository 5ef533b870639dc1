//! One test per rule about workers that are put aside.

// A failed unwrap is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::{
    assigned, claim, finished, job, jobs, joined, joined_with, reported, step, submit, why,
};
use optwasm_scheduler::{
    BatchId, BatchSpec, Claim, Config, Distrust, Effect, Event, Ignored, OutcomeClass, Scheduler,
    Then, WaitReason, WorkerId, WorkerSpec,
};

fn aside(worker: u64) -> Effect {
    let worker = WorkerId(worker);
    Effect::PutAside { worker }
}

fn distrust(worker: u64) -> Event {
    Event::Distrust {
        worker: WorkerId(worker),
        why: Distrust::Outvoted,
    }
}

fn is_aside(scheduler: &Scheduler, worker: u64) -> bool {
    scheduler.worker(WorkerId(worker)).unwrap().aside
}

/// Two workers of one slot, and a batch that is never tried again.
fn two() -> Scheduler {
    let mut s = Scheduler::new(Config::default());
    step(&mut s, 0, joined(0, 1));
    step(&mut s, 0, joined(1, 1));
    step(&mut s, 0, submit(0, jobs(1000)));
    s
}

/// The first job that a worker holds ends like this.
fn end(s: &mut Scheduler, worker: u64, class: OutcomeClass, then: Then) -> Vec<Effect> {
    let Claim { job, attempt } = s.claims_of(WorkerId(worker)).next().unwrap();
    step(s, 0, reported(worker, job, attempt, class, then))
}

fn panic(s: &mut Scheduler, worker: u64) -> Vec<Effect> {
    end(s, worker, OutcomeClass::HostPanic, Then::Decide)
}

#[test]
fn five_host_faults_in_a_row_put_a_worker_aside() {
    for class in [OutcomeClass::HostPanic, OutcomeClass::HostOutOfMemory] {
        let mut s = two();
        for _ in 0..4 {
            let effects = end(&mut s, 0, class, Then::Decide);
            assert!(!effects.contains(&aside(0)));
        }
        let effects = end(&mut s, 0, class, Then::Decide);
        assert!(matches!(effects[0], Effect::Done { .. }));
        assert_eq!(effects[1..], [aside(0)], "and nothing is handed to it");
        assert!(is_aside(&s, 0) && !is_aside(&s, 1));
        assert_eq!(step(&mut s, 0, Event::Tick), []);
        // A worker that is no longer needed is told once.
        assert_eq!(step(&mut s, 0, distrust(0)), []);
        assert_eq!(step(&mut s, 0, distrust(0)), []);
    }
}

#[test]
fn a_success_in_between_clears_a_worker() {
    let mut s = two();
    for round in 0..12 {
        if round % 4 == 3 {
            end(&mut s, 0, OutcomeClass::Ok, Then::Decide);
        }
        panic(&mut s, 0);
    }
    assert!(!is_aside(&s, 0));
    // Faults of the jobs are neither.
    let mut s = two();
    for class in [
        OutcomeClass::Failed,
        OutcomeClass::Deadline,
        OutcomeClass::StackOverflow,
    ] {
        for _ in 0..9 {
            end(&mut s, 0, class, Then::Decide);
        }
    }
    assert!(!is_aside(&s, 0));
    for _ in 0..5 {
        end(&mut s, 0, OutcomeClass::Failed, Then::Decide);
        panic(&mut s, 0);
    }
    assert!(is_aside(&s, 0));
}

#[test]
fn one_bad_job_puts_nobody_aside() {
    let mut s = Scheduler::new(Config::default());
    step(&mut s, 0, joined(0, 1));
    let retries = 100;
    step(&mut s, 0, submit(0, BatchSpec { retries, ..jobs(1) }));
    let other = WorkerSpec {
        slots: 1,
        ..Default::default()
    };
    step(
        &mut s,
        0,
        submit(
            1,
            BatchSpec {
                memory: 1 << 39,
                ..jobs(1)
            },
        ),
    );
    // The other worker is always busy, or takes the job and fails as well.
    let worker = WorkerId(1);
    let event = Event::WorkerJoined {
        worker,
        spec: other,
        holds: vec![],
    };
    step(&mut s, 0, event);
    for _ in 0..40 {
        for worker in [0, 1] {
            let held = s.claims_of(WorkerId(worker)).next();
            if held.is_some_and(|claim| claim.job == job(0, 0)) {
                let effects = end(&mut s, worker, OutcomeClass::HostPanic, Then::Retry);
                assert!(!effects.contains(&aside(worker)));
            }
        }
    }
    assert!(!is_aside(&s, 0) && !is_aside(&s, 1));
    assert!(s.last_attempt(job(0, 0)).unwrap() > 10);
}

#[test]
fn distrust_twice_puts_a_worker_aside() {
    let mut s = two();
    assert_eq!(step(&mut s, 0, distrust(0)), []);
    let status = s.worker(WorkerId(0)).unwrap();
    assert_eq!(status.distrusted, Some(Distrust::Outvoted));
    // Successes do not make up for it.
    end(&mut s, 0, OutcomeClass::Ok, Then::Decide);
    assert_eq!(step(&mut s, 0, distrust(0)), [aside(0)]);
    let effects = end(&mut s, 0, OutcomeClass::Ok, Then::Decide);
    assert!(matches!(effects[..], [Effect::Done { .. }]));
    assert!(is_aside(&s, 0));
    let reason = Ignored::UnknownWorker(WorkerId(9));
    assert_eq!(step(&mut s, 0, distrust(9)), [Effect::Ignored { reason }]);
}

#[test]
fn unstarted_jobs_of_a_worker_put_aside_are_called_back() {
    let mut s = two();
    step(&mut s, 0, finished(0, job(0, 0), 1, 100));
    let held: Vec<Claim> = s.claims_of(WorkerId(0)).collect();
    assert!(held.len() > 3);
    step(&mut s, 0, distrust(0));
    let effects = step(&mut s, 0, distrust(0));
    let recalls = held[1..].iter().map(|&Claim { job, attempt }| {
        let worker = WorkerId(0);
        Effect::Recall {
            worker,
            job,
            attempt,
        }
    });
    let expected: Vec<Effect> = [aside(0)].into_iter().chain(recalls).collect();
    assert_eq!(effects[..expected.len()], expected);
    assert!(
        s.claims_of(WorkerId(0)).eq(held),
        "it holds them until then"
    );
}

#[test]
fn the_last_worker_is_kept_and_judged_at_its_next_failure() {
    let mut s = Scheduler::new(Config::default());
    step(&mut s, 0, joined(0, 1));
    step(&mut s, 0, submit(0, jobs(1000)));
    for _ in 0..9 {
        assert!(!panic(&mut s, 0).contains(&aside(0)));
    }
    // Workers that take no jobs are no replacement: none with slots, draining, away, aside.
    step(&mut s, 0, joined(1, 0));
    step(&mut s, 0, joined(2, 1));
    let worker = WorkerId(2);
    step(&mut s, 0, Event::WorkerDraining { worker });
    step(&mut s, 0, joined(3, 1));
    let worker = WorkerId(3);
    step(&mut s, 0, Event::WorkerAway { worker });
    step(&mut s, 0, joined(4, 1));
    step(&mut s, 0, distrust(4));
    assert_eq!(step(&mut s, 0, distrust(4))[0], aside(4));
    assert!(!panic(&mut s, 0).contains(&aside(0)));
    // Another one comes: nothing happens until the next failure.
    let effects = step(&mut s, 0, joined(5, 1));
    assert_eq!(assigned(&effects).len(), 1);
    assert!(!is_aside(&s, 0));
    assert!(panic(&mut s, 0).contains(&aside(0)));
}

#[test]
fn only_a_worker_for_all_its_classes_replaces_one() {
    let mut s = two();
    let gpu = BTreeMap::from([("gpu".to_string(), "yes".to_string())]);
    let spec = WorkerSpec {
        slots: 1,
        memory: 1,
        labels: gpu.clone(),
        stay: None,
    };
    let worker = WorkerId(7);
    let join = |worker| Event::WorkerJoined {
        worker,
        spec: spec.clone(),
        holds: vec![],
    };
    step(&mut s, 0, join(worker));
    let labels = gpu.clone();
    step(&mut s, 0, submit(1, BatchSpec { labels, ..jobs(1) }));
    step(&mut s, 0, distrust(7));
    assert_eq!(
        step(&mut s, 0, distrust(7)),
        [],
        "nobody else has the label"
    );
    step(&mut s, 0, join(WorkerId(8)));
    assert_eq!(step(&mut s, 0, distrust(7)), [aside(7)]);
}

#[test]
fn a_reconnect_does_not_clear_a_worker_and_a_new_start_does() {
    let mut s = two();
    step(&mut s, 0, distrust(0));
    step(&mut s, 0, distrust(0));
    let held: Vec<Claim> = s.claims_of(WorkerId(0)).collect();
    let worker = WorkerId(0);
    assert_eq!(step(&mut s, 0, joined_with(0, 3, &held)), []);
    step(&mut s, 0, Event::WorkerAway { worker });
    assert_eq!(step(&mut s, 0, joined_with(0, 3, &held)), []);
    assert!(is_aside(&s, 0));
    step(&mut s, 0, Event::WorkerLost { worker });
    assert!(!assigned(&step(&mut s, 0, joined(0, 1))).is_empty());
    assert!(!is_aside(&s, 0));
    // What it did before is forgotten as well.
    assert_eq!(step(&mut s, 0, distrust(0)), []);
}

#[test]
fn a_worker_put_aside_is_taken_back_when_nobody_else_is_left() {
    let leave: [fn(WorkerId) -> Event; 3] = [
        |worker| Event::WorkerLost { worker },
        |worker| Event::WorkerAway { worker },
        |worker| Event::WorkerDraining { worker },
    ];
    for leave in leave {
        let mut s = two();
        step(&mut s, 0, distrust(0));
        step(&mut s, 0, distrust(0));
        end(&mut s, 0, OutcomeClass::Ok, Then::Decide);
        let effects = step(&mut s, 0, leave(WorkerId(1)));
        assert_eq!(assigned(&effects)[0].0, WorkerId(0));
        assert!(!is_aside(&s, 0));
        // With a replacement, its next failure is enough.
        step(&mut s, 0, joined(2, 1));
        assert!(panic(&mut s, 0).contains(&aside(0)));
    }
    // Also for a batch that comes later.
    let mut s = Scheduler::new(Config::default());
    step(&mut s, 0, joined(0, 1));
    let spec = WorkerSpec {
        slots: 1,
        ..Default::default()
    };
    let event = Event::WorkerJoined {
        worker: WorkerId(1),
        spec,
        holds: vec![],
    };
    step(&mut s, 0, event);
    step(&mut s, 0, distrust(0));
    assert_eq!(step(&mut s, 0, distrust(0)), [aside(0)]);
    let memory = 1 << 30;
    let effects = step(&mut s, 0, submit(0, BatchSpec { memory, ..jobs(1) }));
    assert_eq!(assigned(&effects), [(WorkerId(0), job(0, 0), 1)]);
}

#[test]
fn a_worker_that_is_away_may_be_put_aside() {
    let mut s = two();
    let worker = WorkerId(0);
    step(&mut s, 0, finished(0, job(0, 0), 1, 100));
    assert!(s.claims_of(worker).count() > 1);
    step(&mut s, 0, Event::WorkerAway { worker });
    step(&mut s, 0, distrust(0));
    assert_eq!(
        step(&mut s, 0, distrust(0)),
        [aside(0)],
        "nothing is recalled"
    );
    // It is then no hope for jobs that wait.
    let worker = WorkerId(1);
    step(&mut s, 0, Event::WorkerLost { worker });
    assert_eq!(why(&s, job(0, 999)), WaitReason::NoWorker);
    let back = joined_with(0, 1, &[claim(job(0, 2), 1)]);
    step(&mut s, 0, back);
    assert!(!is_aside(&s, 0), "until it joins, and nobody else is there");
    assert_eq!(
        s.batch(BatchId(0)).unwrap().held,
        s.claims_of(WorkerId(0)).count() as u32
    );
}
