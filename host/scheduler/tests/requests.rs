//! One test per rule about jobs that are parked, answered, reopened or to be confirmed.

// A failed unwrap is a failed test.
#![allow(clippy::unwrap_used)]
// Ranges of jobs are meant, not their indices.
#![allow(clippy::single_range_in_vec_init)]

mod common;

use common::{
    assign, assigned, claim, finished, job, jobs, joined, joined_with, reported, revoke, step,
    submit, why,
};
use optwasm_scheduler::{
    BatchId, BatchSpec, Claim, Config, Effect, Event, Ignored, JobState, Known, OutcomeClass,
    Scheduler, Then, WaitReason, WorkerId,
};
use std::ops::Range;

const BATCH: BatchId = BatchId(0);
const DONE: Effect = Effect::BatchDone { batch: BATCH };

fn scheduler() -> Scheduler {
    Scheduler::new(Config::default())
}

fn parked(count: u32, parked: Vec<Range<u32>>) -> Event {
    Event::Submit {
        batch: BATCH,
        spec: jobs(count),
        finished: vec![],
        parked,
        known: vec![],
    }
}

fn answered(jobs: &[u32]) -> Event {
    Event::Answered {
        batch: BATCH,
        jobs: jobs.to_vec(),
    }
}

fn released(jobs: &[u32]) -> Event {
    Event::Released {
        batch: BATCH,
        jobs: jobs.to_vec(),
    }
}

fn reopen(jobs: Vec<Range<u32>>, first_attempt: u32) -> Event {
    Event::Reopen {
        batch: BATCH,
        jobs,
        first_attempt,
    }
}

fn confirm(worker: u64, index: u32, attempt: u32) -> Event {
    let class = OutcomeClass::Ok;
    reported(worker, job(0, index), attempt, class, Then::Confirm)
}

fn unconfirmed(worker: u64, index: u32, attempt: u32) -> Effect {
    Effect::Unconfirmed {
        job: job(0, index),
        attempt,
        worker: WorkerId(worker),
    }
}

#[test]
fn parked_jobs_are_not_handed_out_until_they_are_released() {
    let mut s = scheduler();
    let event = Event::Submit {
        batch: BATCH,
        spec: jobs(10),
        finished: vec![4..6],
        parked: vec![7..99, 0..3, 2..5],
        known: vec![],
    };
    step(&mut s, 0, event);
    let status = s.batch(BATCH).unwrap();
    assert_eq!((status.waiting, status.parked), (1, 7));
    assert_eq!((s.waiting(), s.parked()), (1, 7));
    assert_eq!(s.job(job(0, 8)), Some(JobState::Parked));
    assert_eq!(s.last_attempt(job(0, 8)), Some(0));
    let got = assigned(&step(&mut s, 0, joined(0, 4)));
    assert_eq!(got, [(WorkerId(0), job(0, 6), 1)]);
    // The batch is not done while there are parked ones.
    let effects = step(&mut s, 0, finished(0, job(0, 6), 1, 10));
    assert!(matches!(effects[..], [Effect::Done { .. }]));
    // Those that are not parked are left alone.
    let effects = step(&mut s, 0, released(&[6, 8, 2, 5, 10, 8]));
    assert_eq!(assigned(&effects).len(), 2);
    assert_eq!(effects[0], assign(0, job(0, 2), 1));
    let status = s.batch(BATCH).unwrap();
    assert_eq!((status.held, status.waiting, status.parked), (2, 0, 5));
    assert!(!step(&mut s, 0, Event::Cancel { batch: BATCH }).is_empty());
    assert_eq!((s.batch(BATCH).unwrap().done.cancelled, s.parked()), (7, 0));
}

#[test]
fn a_million_parked_jobs_are_a_few_effects() {
    let mut s = scheduler();
    let mut effects = Vec::new();
    let now = optwasm_scheduler::Time(0);
    s.step(now, parked(u32::MAX, vec![0..1 << 31]), &mut effects);
    s.step(now, Event::Cancel { batch: BATCH }, &mut effects);
    let jobs = 0..u32::MAX;
    assert_eq!(effects, [Effect::Cancelled { batch: BATCH, jobs }, DONE]);
}

#[test]
fn answered_jobs_finish_wherever_they_are() {
    let mut s = scheduler();
    step(&mut s, 0, parked(5, vec![3..4]));
    step(&mut s, 0, joined(0, 1));
    step(&mut s, 0, joined(1, 1));
    let effects = step(&mut s, 0, answered(&[0, 3, 4, 0, 17]));
    assert_eq!(effects, [revoke(0, job(0, 0), 1), assign(0, job(0, 2), 1)]);
    for index in [0, 3, 4] {
        assert_eq!(s.job(job(0, index)), Some(JobState::Finished));
        assert_eq!(s.last_attempt(job(0, index)), None);
    }
    let status = s.batch(BATCH).unwrap();
    assert_eq!(
        (status.done.answered, status.parked, status.held),
        (3, 0, 2)
    );
    // The report of the revoked attempt comes too late.
    let effects = step(&mut s, 0, finished(0, job(0, 0), 1, 10));
    assert!(matches!(effects[..], [Effect::Superseded { .. }]));
    step(&mut s, 0, finished(0, job(0, 2), 1, 10));
    assert_eq!(
        step(&mut s, 0, answered(&[1])),
        [revoke(1, job(0, 1), 1), DONE]
    );
    assert_eq!(step(&mut s, 0, answered(&[1])), [], "it was done before");
    assert_eq!(s.batch(BATCH).unwrap().done.total(), 5);
}

#[test]
fn a_worker_kept_for_an_answered_job_is_free_again() {
    let mut s = scheduler();
    step(&mut s, 0, submit(1, jobs(100)));
    step(&mut s, 0, joined(0, 2));
    let known = Known {
        index: 0,
        last_attempt: 2,
        losses: vec![(WorkerId(8), 1), (WorkerId(9), 2)],
        ..Known::default()
    };
    let spec = BatchSpec {
        priority: 1,
        ..jobs(1)
    };
    let event = Event::Submit {
        batch: BATCH,
        spec,
        finished: vec![],
        parked: vec![],
        known: vec![known],
    };
    step(&mut s, 0, event);
    step(&mut s, 0, Event::Tick);
    // After its patience the suspect has the worker kept for it.
    let effects = step(&mut s, 2_000_000, finished(0, job(1, 0), 1, 50_000));
    assert_eq!(assigned(&effects), []);
    assert_eq!(s.worker(WorkerId(0)).unwrap().reserved_for, Some(BATCH));
    let effects = step(&mut s, 2_000_000, answered(&[0]));
    assert_eq!(effects, [DONE, assign(0, job(1, 2), 1)]);
    assert_eq!(s.worker(WorkerId(0)).unwrap().reserved_for, None);
}

#[test]
fn reopened_jobs_run_again_under_new_numbers() {
    let mut s = scheduler();
    step(&mut s, 0, submit(0, jobs(4)));
    step(&mut s, 0, joined(0, 2));
    step(&mut s, 0, finished(0, job(0, 0), 1, 1_000_000));
    step(&mut s, 0, answered(&[3]));
    // 0 and 3 are finished; 1 and 2 are held and stay so.
    assert_eq!(step(&mut s, 0, reopen(vec![0..2, 1..9], 5)), []);
    let status = s.batch(BATCH).unwrap();
    assert_eq!((status.waiting, status.held), (2, 2));
    let done = status.done;
    assert_eq!(
        (done.ok, done.answered, done.reopened, done.total()),
        (1, 1, 2, 0)
    );
    assert_eq!(s.last_attempt(job(0, 0)), Some(5));
    assert_eq!(s.last_attempt(job(0, 1)), Some(1));
    for attempt in [1, 5] {
        let late = step(&mut s, 0, finished(0, job(0, 0), attempt, 10));
        assert!(matches!(late[..], [Effect::Superseded { .. }]));
    }
    // Nor is a claim of the last life believed.
    let claims = [1, 2].map(|index| claim(job(0, index), 1));
    let claims = [claims[0], claims[1], claim(job(0, 0), 5)];
    let effects = step(&mut s, 0, joined_with(0, 2, &claims));
    assert_eq!(effects, [revoke(0, job(0, 0), 5)]);
    let effects = step(&mut s, 0, finished(0, job(0, 2), 1, 1_000_000));
    assert_eq!(effects[1..], [assign(0, job(0, 0), 6)]);
    let effects = step(&mut s, 0, finished(0, job(0, 1), 1, 1_000_000));
    assert_eq!(effects[1..], [assign(0, job(0, 3), 6)]);
    step(&mut s, 0, finished(0, job(0, 3), 6, 10));
    let effects = step(&mut s, 0, finished(0, job(0, 0), 6, 10));
    assert_eq!(effects[1..], [DONE], "it is done once more");
    assert_eq!(s.batch(BATCH).unwrap().done.total(), 4);
}

#[test]
fn a_reopened_job_has_no_history() {
    let mut s = scheduler();
    step(&mut s, 0, joined(0, 1));
    let spec = BatchSpec {
        retries: 1,
        ..jobs(1)
    };
    step(&mut s, 0, submit(0, spec));
    let fail = |attempt| {
        let class = OutcomeClass::Deadline;
        reported(0, job(0, 0), attempt, class, Then::Retry)
    };
    step(&mut s, 0, confirm(0, 0, 1));
    step(&mut s, 0, joined(1, 1));
    step(&mut s, 0, answered(&[0]));
    let worker = WorkerId(1);
    step(&mut s, 0, Event::WorkerLost { worker });
    let effects = step(&mut s, 0, reopen(vec![0..1], 2));
    assert_eq!(effects, [assign(0, job(0, 0), 3)]);
    let effects = step(&mut s, 0, fail(3));
    assert!(matches!(effects[0], Effect::Retried { .. }));
    let effects = step(&mut s, 0, fail(4));
    assert!(matches!(effects[0], Effect::Done { .. }));
    let effects = step(&mut s, 0, reopen(vec![0..1], 4));
    assert_eq!(effects, [assign(0, job(0, 0), 5)]);
    let effects = step(&mut s, 0, fail(5));
    assert!(matches!(effects[0], Effect::Retried { .. }));
}

#[test]
fn a_reopened_batch_is_no_longer_cancelled() {
    let mut s = scheduler();
    step(&mut s, 0, submit(0, jobs(3)));
    step(&mut s, 0, Event::Cancel { batch: BATCH });
    assert!(s.batch(BATCH).unwrap().cancelled);
    let backwards = Range { start: 5, end: 3 };
    step(&mut s, 0, reopen(vec![1..2, backwards, 2..3], 0));
    let status = s.batch(BATCH).unwrap();
    assert_eq!((status.cancelled, status.waiting), (false, 2));
    assert_eq!((status.done.cancelled, status.done.total()), (3, 1));
    let batch = BATCH;
    assert_eq!(step(&mut s, 0, Event::Extend { batch, count: 1 }), []);
    let got = assigned(&step(&mut s, 0, joined(0, 9)));
    assert_eq!(got.iter().map(|a| a.1.index).collect::<Vec<_>>(), [1, 2, 3]);
    // It can be cancelled again, and is as done as before if nothing is reopened.
    step(&mut s, 0, Event::Cancel { batch });
    assert_eq!(s.batch(BATCH).unwrap().done.total(), 4);
    assert_eq!(step(&mut s, 0, reopen(vec![], 0)), [DONE]);
}

#[test]
fn requests_for_unknown_batches_are_ignored() {
    let mut s = scheduler();
    for event in [answered(&[0]), released(&[0]), reopen(vec![0..1], 1)] {
        let reason = Ignored::UnknownBatch(BATCH);
        assert_eq!(step(&mut s, 0, event), [Effect::Ignored { reason }]);
    }
}

#[test]
fn the_caller_decides_what_is_tried_again() {
    use OutcomeClass::{Deadline, Failed, Ok};
    let mut s = scheduler();
    step(&mut s, 0, joined(0, 1));
    for class in [Ok, Failed, Deadline] {
        step(&mut s, 0, Event::Forget { batch: BATCH });
        let spec = BatchSpec {
            retries: 1,
            ..jobs(2)
        };
        step(&mut s, 0, submit(0, spec));
        let report = |index, attempt, then| reported(0, job(0, index), attempt, class, then);
        let effects = step(&mut s, 0, report(0, 1, Then::Retry));
        assert!(matches!(effects[0], Effect::Retried { .. }), "{effects:?}");
        // The same worker gets it again, as there is no other; then its tries are used up.
        assert_eq!(effects[1], assign(0, job(0, 0), 2));
        let effects = step(&mut s, 0, report(0, 2, Then::Retry));
        assert!(matches!(effects[0], Effect::Done { .. }), "{effects:?}");
        let effects = step(&mut s, 0, report(1, 1, Then::Decide));
        assert!(matches!(effects[0], Effect::Done { .. }), "{effects:?}");
    }
}

#[test]
fn an_unconfirmed_job_goes_to_another_worker_before_fresh_ones() {
    let mut s = scheduler();
    step(&mut s, 0, submit(0, jobs(9)));
    step(&mut s, 0, joined(0, 1));
    step(&mut s, 0, joined(1, 1));
    let effects = step(&mut s, 0, confirm(0, 0, 1));
    // Worker 0 goes on with the next one, although job 0 is the first.
    let expected = [unconfirmed(0, 0, 1), assign(0, job(0, 2), 1)];
    assert_eq!(effects, expected);
    let effects = step(&mut s, 0, finished(1, job(0, 1), 1, 1_000_000));
    assert_eq!(effects[1..], [assign(1, job(0, 0), 2)]);
    // A second request for another opinion, with nobody left.
    let effects = step(&mut s, 0, confirm(1, 0, 2));
    let expected = [unconfirmed(1, 0, 2), assign(1, job(0, 3), 1)];
    assert_eq!(effects, expected);
    let status = s.batch(BATCH).unwrap();
    assert_eq!(status.retried, 0, "nothing failed");
    assert_eq!(why(&s, job(0, 0)), WaitReason::NeedsAnotherWorker);
    assert!(matches!(why(&s, job(0, 4)), WaitReason::Behind { .. }));
    let effects = step(&mut s, 0, joined(2, 2));
    let expected = [assign(2, job(0, 0), 3), assign(2, job(0, 4), 1)];
    assert_eq!(effects, expected);
    let effects = step(&mut s, 0, finished(2, job(0, 0), 3, 10));
    assert!(matches!(effects[0], Effect::Done { attempt: 3, .. }));
}

#[test]
fn an_unconfirmed_job_may_be_handed_ahead() {
    let mut s = scheduler();
    step(&mut s, 0, submit(0, jobs(400)));
    step(&mut s, 0, joined(0, 1));
    step(&mut s, 0, joined(1, 1));
    step(&mut s, 0, finished(0, job(0, 0), 1, 100));
    step(&mut s, 0, finished(1, job(0, 1), 1, 100));
    let short = |worker, claim: Claim, then| Event::Finished {
        worker: WorkerId(worker),
        job: claim.job,
        attempt: claim.attempt,
        class: OutcomeClass::Ok,
        then,
        service_time_us: 100,
    };
    let first = s.claims_of(WorkerId(0)).next().unwrap();
    let effects = step(&mut s, 0, short(0, first, Then::Confirm));
    assert_eq!(effects[0], unconfirmed(0, first.job.index, 1));
    let other = s.claims_of(WorkerId(1)).next().unwrap();
    let effects = step(&mut s, 0, short(1, other, Then::Decide));
    assert_eq!(effects[1..], [assign(1, first.job, 2)]);
    assert!(s.claims_of(WorkerId(1)).count() > 10, "a slot was free");
}

#[test]
fn witnesses_are_avoided_through_failures_and_losses() {
    let mut s = scheduler();
    step(&mut s, 0, submit(0, jobs(1)));
    step(&mut s, 0, joined(0, 1));
    assert_eq!(step(&mut s, 0, confirm(0, 0, 1)), [unconfirmed(0, 0, 1)]);
    let got = assigned(&step(&mut s, 0, joined(1, 1)));
    assert_eq!(got, [(WorkerId(1), job(0, 0), 2)]);
    // After a failure the same worker has to do, since the witness must not.
    let class = OutcomeClass::HostPanic;
    let effects = step(&mut s, 0, reported(1, job(0, 0), 2, class, Then::Retry));
    assert_eq!(effects[1..], [assign(1, job(0, 0), 3)]);
    let worker = WorkerId(1);
    let effects = step(&mut s, 0, Event::WorkerLost { worker });
    assert!(matches!(effects[..], [Effect::Retried { .. }]));
    assert_eq!(why(&s, job(0, 0)), WaitReason::NeedsAnotherWorker);
    // What it says it holds does not change that.
    let effects = step(&mut s, 0, joined_with(0, 1, &[claim(job(0, 0), 9)]));
    assert_eq!(effects, [revoke(0, job(0, 0), 9)]);
    // Only one that is away could take it.
    step(&mut s, 0, joined(2, 0));
    assert_eq!(why(&s, job(0, 0)), WaitReason::NeedsAnotherWorker);
    step(&mut s, 0, submit(1, jobs(1)));
    step(&mut s, 0, joined(2, 0));
    let worker = WorkerId(3);
    let event = Event::WorkerRestored {
        worker,
        spec: common::slots(1),
        holds: vec![],
    };
    step(&mut s, 0, event);
    assert_eq!(why(&s, job(0, 0)), WaitReason::OnlyAway);
    let got = assigned(&step(&mut s, 0, joined(3, 1)));
    assert_eq!(got, [(worker, job(0, 0), 4)]);
}

#[test]
fn a_worker_that_joins_anew_under_its_old_name_is_still_a_witness() {
    let mut s = scheduler();
    step(&mut s, 0, submit(0, jobs(1)));
    step(&mut s, 0, joined(0, 1));
    step(&mut s, 0, confirm(0, 0, 1));
    let worker = WorkerId(0);
    step(&mut s, 0, Event::WorkerLost { worker });
    assert_eq!(why(&s, job(0, 0)), WaitReason::NoWorker);
    assert_eq!(step(&mut s, 0, joined(0, 1)), []);
    assert_eq!(why(&s, job(0, 0)), WaitReason::NeedsAnotherWorker);
}

#[test]
fn nothing_is_recalled_for_a_witness() {
    let mut s = scheduler();
    step(&mut s, 0, submit(0, jobs(1)));
    step(&mut s, 0, joined(0, 1));
    step(&mut s, 0, confirm(0, 0, 1));
    let worker = WorkerId(0);
    step(&mut s, 0, Event::WorkerAway { worker });
    step(&mut s, 0, submit(1, jobs(1)));
    // Worker 1 holds the job behind another one, which is all that worker 0 could take.
    let claims = [claim(job(1, 0), 1), claim(job(0, 0), 2)];
    assert_eq!(step(&mut s, 0, joined_with(1, 1, &claims)), []);
    assert_eq!(step(&mut s, 0, joined(0, 1)), []);
    assert_eq!(step(&mut s, 50_000, Event::Tick), []);
    step(&mut s, 50_000, joined(2, 1));
    let recall = Effect::Recall {
        worker: WorkerId(1),
        job: job(0, 0),
        attempt: 2,
    };
    assert_eq!(step(&mut s, 50_000, Event::Tick), [recall]);
}
