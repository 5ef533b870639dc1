//! One test per rule about connections that are lost and callers that start again.

// A failed unwrap is a failed test.
#![allow(clippy::unwrap_used)]
// Ranges of jobs are meant, not their indices.
#![allow(clippy::single_range_in_vec_init)]

mod common;

use common::{
    assign, assigned, claim, finished, job, jobs, joined, joined_with, reported, revoke, slots,
    step, submit, why,
};
use optwasm_scheduler::{
    BatchId, BatchSpec, Claim, Config, Effect, Event, Ignored, JobState, Known, OutcomeClass,
    RetryReason, Scheduler, Then, Time, Verdict, WaitReason, WorkerId,
};

const LEASE_US: u64 = 30_000_000;

fn away(worker: u64) -> Event {
    let worker = WorkerId(worker);
    Event::WorkerAway { worker }
}

fn restored(worker: u64, holds: &[Claim]) -> Event {
    Event::WorkerRestored {
        worker: WorkerId(worker),
        spec: slots(2),
        holds: holds.to_vec(),
    }
}

fn lost(worker: u64, index: u32, attempt: u32, blamed: bool) -> Effect {
    Effect::Retried {
        job: job(0, index),
        attempt,
        worker: WorkerId(worker),
        reason: RetryReason::WorkerLost { blamed },
    }
}

/// Jobs 0 and 1 of batch 0 with worker 0, which has gone away at time 100; the others wait.
fn one_away(count: u32) -> Scheduler {
    let mut s = Scheduler::new(Config::default());
    step(&mut s, 0, submit(0, jobs(count)));
    step(&mut s, 0, joined(0, 2));
    assert_eq!(step(&mut s, 100, away(0)), []);
    s
}

#[test]
fn a_worker_that_is_away_keeps_its_jobs_and_gets_none() {
    let mut s = one_away(3);
    let claims = [claim(job(0, 0), 1), claim(job(0, 1), 1)];
    assert!(s.claims_of(WorkerId(0)).eq(claims));
    let status = s.worker(WorkerId(0)).unwrap();
    assert_eq!(status.away_since, Some(Time(100)));
    assert_eq!((s.held(), s.waiting()), (2, 1));
    // Its report counts, and the slot that is free by it stays so.
    let effects = step(&mut s, 200, finished(0, job(0, 0), 1, 1_000_000));
    assert!(matches!(effects[..], [Effect::Done { attempt: 1, .. }]));
    let given_back = Event::GivenBack {
        worker: WorkerId(0),
        jobs: vec![claims[1]],
    };
    assert_eq!(step(&mut s, 300, given_back), []);
    assert_eq!(why(&s, job(0, 1)), WaitReason::OnlyAway);
    let got = assigned(&step(&mut s, 400, joined(1, 1)));
    assert_eq!(got, [(WorkerId(1), job(0, 1), 2)]);
}

#[test]
fn a_lease_ends_after_its_time_and_not_before() {
    let mut s = one_away(2);
    // Going away again does not begin a new lease.
    assert_eq!(step(&mut s, 5_000, away(0)), []);
    assert_eq!(step(&mut s, 100 + LEASE_US - 1, Event::Tick), []);
    let worker = WorkerId(0);
    assert_eq!(
        step(&mut s, 100 + LEASE_US, Event::Tick),
        [
            Effect::LeaseEnded { worker },
            lost(0, 0, 1, true),
            lost(0, 1, 1, true)
        ]
    );
    assert_eq!(s.worker(worker), None);
    assert_eq!(why(&s, job(0, 0)), WaitReason::NoWorker);
}

#[test]
fn any_step_ends_leases_and_hands_out_what_they_held() {
    let mut s = one_away(2);
    let effects = step(&mut s, 100 + LEASE_US, joined(1, 2));
    let worker = WorkerId(0);
    let expected = [
        Effect::LeaseEnded { worker },
        lost(0, 0, 1, true),
        lost(0, 1, 1, true),
        assign(1, job(0, 0), 2),
        assign(1, job(0, 1), 2),
    ];
    assert_eq!(effects, expected);
}

#[test]
fn the_lease_of_a_connected_worker_does_not_end() {
    let mut s = Scheduler::new(Config::default());
    step(&mut s, 0, submit(0, jobs(1)));
    step(&mut s, 0, joined(0, 1));
    assert_eq!(step(&mut s, 100 * LEASE_US, Event::Tick), []);
    // Nor that of one that came back in time.
    step(&mut s, 100 * LEASE_US, away(0));
    let back = joined_with(0, 1, &[claim(job(0, 0), 1)]);
    assert_eq!(step(&mut s, 101 * LEASE_US - 1, back), []);
    assert_eq!(step(&mut s, 200 * LEASE_US, Event::Tick), []);
    assert_eq!(s.held(), 1);
}

#[test]
fn a_report_that_comes_with_the_end_of_the_lease_counts() {
    let mut s = one_away(2);
    let effects = step(&mut s, 100 + LEASE_US, finished(0, job(0, 0), 1, 10));
    assert!(matches!(effects[0], Effect::Done { .. }));
    let worker = WorkerId(0);
    assert_eq!(
        effects[1..],
        [Effect::LeaseEnded { worker }, lost(0, 1, 1, true)]
    );
}

#[test]
fn what_an_absent_worker_must_drop_it_is_told_when_it_joins() {
    let mut s = one_away(4);
    step(
        &mut s,
        200,
        Event::Answered {
            batch: BatchId(0),
            jobs: vec![0],
        },
    );
    assert_eq!(s.job(job(0, 0)), Some(JobState::Finished));
    let back = joined_with(0, 2, &[claim(job(0, 0), 1), claim(job(0, 1), 1)]);
    let expected = [revoke(0, job(0, 0), 1), assign(0, job(0, 2), 1)];
    assert_eq!(step(&mut s, 300, back), expected);
    step(&mut s, 400, away(0));
    let batch = BatchId(0);
    assert_eq!(
        step(&mut s, 500, Event::Cancel { batch }),
        [
            Effect::Cancelled { batch, jobs: 1..4 },
            Effect::BatchDone { batch }
        ]
    );
}

#[test]
fn what_never_reached_an_absent_worker_waits_without_blame() {
    let mut s = one_away(2);
    let effects = step(&mut s, 200, joined_with(0, 1, &[claim(job(0, 1), 1)]));
    assert_eq!(effects, [], "its one slot is taken");
    assert_eq!(s.worker(WorkerId(0)).unwrap().away_since, None);
    assert_eq!(s.last_attempt(job(0, 0)), Some(1));
    assert!(matches!(why(&s, job(0, 0)), WaitReason::Behind { .. }));
    let effects = step(&mut s, 300, finished(0, job(0, 1), 1, 10));
    assert_eq!(effects[1..], [assign(0, job(0, 0), 2)]);
}

#[test]
fn nothing_is_recalled_from_a_worker_that_is_away() {
    let mut s = Scheduler::new(Config::default());
    step(&mut s, 0, submit(0, jobs(5)));
    step(&mut s, 0, joined(0, 1));
    step(&mut s, 0, finished(0, job(0, 0), 1, 100));
    assert!(s.claims_of(WorkerId(0)).count() > 1);
    step(&mut s, 0, away(0));
    step(&mut s, 0, joined(1, 4));
    assert_eq!(step(&mut s, 50_000, Event::Tick), []);
    // Once it is back they are, again if they were before.
    let claims: Vec<Claim> = s.claims_of(WorkerId(0)).collect();
    for now in [60_000, 70_000] {
        step(&mut s, now, joined_with(0, 1, &claims));
        let effects = step(&mut s, now, Event::Tick);
        assert!(
            matches!(effects[..], [Effect::Recall { .. }, ..]),
            "{effects:?}"
        );
    }
}

#[test]
fn a_draining_worker_that_was_away_still_drains() {
    let mut s = Scheduler::new(Config::default());
    step(&mut s, 0, joined(0, 1));
    let worker = WorkerId(0);
    step(&mut s, 0, Event::WorkerDraining { worker });
    step(&mut s, 0, away(0));
    step(&mut s, 0, submit(0, jobs(1)));
    assert_eq!(why(&s, job(0, 0)), WaitReason::NoWorker);
    assert_eq!(step(&mut s, 0, joined(0, 1)), []);
    assert!(s.worker(worker).unwrap().draining);
    // The other way round as well.
    let mut s = one_away(3);
    step(&mut s, 200, Event::WorkerDraining { worker });
    let claims: Vec<Claim> = s.claims_of(worker).collect();
    assert_eq!(step(&mut s, 300, joined_with(0, 5, &claims)), []);
}

#[test]
fn a_restored_worker_holds_what_it_held() {
    let mut s = Scheduler::new(Config::default());
    let known = Known {
        index: 1,
        last_attempt: 4,
        failures: 2,
        ..Known::default()
    };
    let event = Event::Submit {
        batch: BatchId(0),
        spec: jobs(5),
        finished: vec![0..1],
        parked: vec![3..4],
        known: vec![known],
    };
    step(&mut s, 0, event);
    let holds = [
        // Finished, parked, and outdated ones are not adopted, and nothing is said about them.
        claim(job(0, 0), 1),
        claim(job(0, 3), 1),
        claim(job(0, 1), 3),
        claim(job(0, 4), 7),
    ];
    assert_eq!(step(&mut s, 50, restored(0, &holds)), []);
    assert!(s.claims_of(WorkerId(0)).eq([claim(job(0, 4), 7)]));
    assert_eq!(s.worker(WorkerId(0)).unwrap().away_since, Some(Time(50)));
    assert_eq!(s.last_attempt(job(0, 4)), Some(7));
    let reason = Ignored::KnownWorker(WorkerId(0));
    let ignored = Effect::Ignored { reason };
    assert_eq!(step(&mut s, 60, restored(0, &holds)), [ignored]);
    // Others get what waits, under numbers that were not used.
    let got = assigned(&step(&mut s, 70, joined(1, 2)));
    let expected = [(WorkerId(1), job(0, 1), 5), (WorkerId(1), job(0, 2), 1)];
    assert_eq!(got, expected);
    let late = finished(0, job(0, 4), 7, 10);
    assert!(matches!(step(&mut s, 80, late)[0], Effect::Done { .. }));
    // Its lease runs from the restart.
    let worker = WorkerId(0);
    assert_eq!(step(&mut s, 50 + LEASE_US - 1, Event::Tick), []);
    assert_eq!(
        step(&mut s, 50 + LEASE_US, Event::Tick),
        [Effect::LeaseEnded { worker }]
    );
}

#[test]
fn a_restored_worker_is_lost_like_any_other() {
    let mut s = Scheduler::new(Config::default());
    step(&mut s, 0, submit(0, jobs(4)));
    let holds = [1, 2, 0].map(|index| claim(job(0, index), 3));
    step(&mut s, 0, restored(0, &holds));
    // It has two slots, so the third job it got did not run.
    assert_eq!(
        step(&mut s, LEASE_US, Event::Tick)[1..],
        [
            lost(0, 1, 3, true),
            lost(0, 2, 3, true),
            lost(0, 0, 3, false)
        ]
    );
    let got = assigned(&step(&mut s, LEASE_US, joined(1, 9)));
    assert_eq!(got[0], (WorkerId(1), job(0, 0), 4));
}

#[test]
fn failures_and_losses_before_a_restart_count() {
    let mut s = Scheduler::new(Config::default());
    let known = [
        Known {
            index: 0,
            last_attempt: 2,
            failures: 1,
            ..Known::default()
        },
        Known {
            index: 1,
            last_attempt: 2,
            losses: vec![(WorkerId(7), 1), (WorkerId(8), 2)],
            ..Known::default()
        },
        // Of two records the first counts; one about a job that does not exist is nonsense.
        Known {
            index: 0,
            last_attempt: 50,
            ..Known::default()
        },
        Known {
            index: 2,
            last_attempt: 50,
            ..Known::default()
        },
    ];
    let event = Event::Submit {
        batch: BatchId(0),
        spec: BatchSpec {
            retries: 1,
            ..jobs(2)
        },
        finished: vec![],
        parked: vec![],
        known: known.to_vec(),
    };
    step(&mut s, 0, event);
    // A job with one loss left runs alone.
    let got = assigned(&step(&mut s, 0, joined(0, 2)));
    assert_eq!(got, [(WorkerId(0), job(0, 1), 3)]);
    let worker = WorkerId(0);
    let effects = step(&mut s, 0, Event::WorkerLost { worker });
    let losses = vec![(WorkerId(7), 1), (WorkerId(8), 2), (worker, 3)];
    let verdict = Verdict::LostTooOften { losses };
    assert!(
        matches!(&effects[..], [Effect::Done { verdict: v, .. }] if *v == verdict),
        "{effects:?}"
    );
    step(&mut s, 0, joined(1, 2));
    let class = OutcomeClass::Deadline;
    let effects = step(&mut s, 0, reported(1, job(0, 0), 3, class, Then::Retry));
    let verdict = Verdict::Reported(class);
    assert!(
        matches!(&effects[0], Effect::Done { verdict: v, .. } if *v == verdict),
        "{effects:?}"
    );
}

#[test]
fn a_worker_lost_with_a_job_before_a_restart_leaves_it_to_others() {
    let mut s = Scheduler::new(Config::default());
    step(&mut s, 0, submit(1, jobs(1)));
    step(&mut s, 0, joined(0, 1));
    let known = Known {
        index: 0,
        last_attempt: 1,
        losses: vec![(WorkerId(7), 1)],
        ..Known::default()
    };
    let event = Event::Submit {
        batch: BatchId(0),
        spec: jobs(1),
        finished: vec![],
        parked: vec![],
        known: vec![known],
    };
    step(&mut s, 0, event);
    assert_eq!(step(&mut s, 0, joined(7, 1)), []);
    let effects = step(&mut s, 0, finished(0, job(1, 0), 1, 10));
    assert_eq!(assigned(&effects), [(WorkerId(0), job(0, 0), 2)]);
}

#[test]
fn a_parked_job_keeps_its_history() {
    let mut s = Scheduler::new(Config::default());
    let known = Known {
        index: 0,
        last_attempt: 4,
        avoid: vec![WorkerId(0)],
        ..Known::default()
    };
    let event = Event::Submit {
        batch: BatchId(0),
        spec: jobs(1),
        finished: vec![],
        parked: vec![0..1],
        known: vec![known],
    };
    step(&mut s, 0, event);
    assert_eq!(s.last_attempt(job(0, 0)), Some(4));
    step(&mut s, 0, joined(0, 1));
    let release = Event::Released {
        batch: BatchId(0),
        jobs: vec![0],
    };
    assert_eq!(step(&mut s, 0, release), []);
    assert_eq!(why(&s, job(0, 0)), WaitReason::NeedsAnotherWorker);
    let got = assigned(&step(&mut s, 0, joined(1, 1)));
    assert_eq!(got, [(WorkerId(1), job(0, 0), 5)]);
}

#[test]
fn absent_workers_that_do_not_exist_are_ignored() {
    let mut s = Scheduler::new(Config::default());
    let reason = Ignored::UnknownWorker(WorkerId(3));
    assert_eq!(step(&mut s, 0, away(3)), [Effect::Ignored { reason }]);
}
