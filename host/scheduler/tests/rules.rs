//! One test per rule: windows, classes, memory, returns, restarts, answers to nonsense.

// A failed unwrap is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::{assigned, finished, job, jobs, joined, step, submit};
use optwasm_scheduler::{
    BatchId, BatchSpec, Claim, Config, Effect, Event, Ignored, JobId, JobState, OutcomeClass,
    Scheduler, Then, Verdict, WaitReason, WorkerId, WorkerSpec,
};

fn scheduler() -> Scheduler {
    Scheduler::new(Config::default())
}

fn held(scheduler: &Scheduler, worker: u64) -> u32 {
    scheduler.worker(WorkerId(worker)).unwrap().held
}

/// A scheduler with one worker and one endless batch whose jobs take `service_us`.
fn warm(slots: u32, count: u32, service_us: u64) -> Scheduler {
    let mut s = scheduler();
    step(&mut s, 0, submit(0, jobs(count)));
    let first = assigned(&step(&mut s, 0, joined(0, slots)));
    assert_eq!(
        first.len(),
        slots as usize,
        "nothing ahead while the service time is unknown"
    );
    for (_, job, attempt) in first {
        step(&mut s, 0, finished(0, job, attempt, service_us));
    }
    s
}

#[test]
fn the_window_holds_four_milliseconds() {
    assert_eq!(held(&warm(1, 10_000, 100), 0), 1 + 40);
    assert_eq!(held(&warm(4, 10_000, 100), 0), 4 * (1 + 40));
    assert_eq!(held(&warm(2, 10_000, 1_000), 0), 2 * (1 + 4));
}

#[test]
fn the_window_is_one_job_for_longer_ones_and_none_for_long_ones() {
    assert_eq!(held(&warm(2, 10_000, 6_000), 0), 2 * 2);
    assert_eq!(held(&warm(2, 10_000, 20_000), 0), 2 * 2);
    assert_eq!(held(&warm(2, 10_000, 20_001), 0), 2);
}

#[test]
fn the_window_is_bounded_for_empty_jobs() {
    assert_eq!(held(&warm(2, 10_000, 0), 0), 2 * (1 + 1024));
}

#[test]
fn the_last_jobs_are_shared_and_not_hoarded() {
    // Of 28 that do not run, one worker holds as many as it leaves.
    assert_eq!(held(&warm(1, 30, 10), 0), 1 + 14);
    let mut s = scheduler();
    step(&mut s, 0, submit(0, jobs(13)));
    for worker in 0..4 {
        step(&mut s, 0, joined(worker, 1));
    }
    step(&mut s, 0, finished(0, job(0, 0), 1, 10));
    // 9 waited and 1 goes into the slot; 8 / 4 allows one ahead, and then 7 / 4 no second one.
    assert_eq!(held(&s, 0), 2);
}

#[test]
fn nothing_is_queued_behind_a_long_job() {
    let mut s = warm(1, 1_000, 100);
    step(
        &mut s,
        0,
        submit(
            1,
            BatchSpec {
                count: 1,
                priority: 1,
                ..Default::default()
            },
        ),
    );
    let ahead: Vec<_> = s.held_by(WorkerId(0)).collect();
    for id in ahead {
        step(&mut s, 1, finished(0, id, 1, 100));
    }
    // The job of unknown length got the slot as soon as it was free, and nothing came after it.
    assert_eq!(s.held_by(WorkerId(0)).collect::<Vec<_>>(), [job(1, 0)]);
}

#[test]
fn free_slots_are_filled_evenly_before_anything_is_held_ahead() {
    let mut s = warm(2, 2, 100);
    step(&mut s, 0, joined(1, 4));
    let count = |got: &[(WorkerId, JobId, u32)], worker| {
        got.iter()
            .filter(|(id, ..)| *id == WorkerId(worker))
            .count()
    };
    let extend = |count| Event::Extend {
        batch: BatchId(0),
        count,
    };
    let three = assigned(&step(&mut s, 0, extend(3)));
    assert_eq!((count(&three, 0), count(&three, 1)), (1, 2));
    let nine = assigned(&step(&mut s, 0, extend(9)));
    assert_eq!(
        (count(&nine[..3], 0), count(&nine[..3], 1)),
        (1, 2),
        "{nine:?}"
    );
    assert!(nine.len() > 3);
}

#[test]
fn an_unmatched_batch_blocks_nobody() {
    let gpu = BTreeMap::from([("gpu".to_string(), "a100".to_string())]);
    let mut s = scheduler();
    let labels = gpu.clone();
    step(
        &mut s,
        0,
        submit(
            0,
            BatchSpec {
                priority: 9,
                labels,
                ..jobs(10)
            },
        ),
    );
    step(
        &mut s,
        0,
        submit(
            1,
            BatchSpec {
                priority: 8,
                memory: 1 << 50,
                ..jobs(10)
            },
        ),
    );
    step(&mut s, 0, submit(2, jobs(10)));
    let got = assigned(&step(&mut s, 0, joined(0, 3)));
    assert_eq!(
        got.iter().map(|a| a.1).collect::<Vec<_>>(),
        [job(2, 0), job(2, 1), job(2, 2)]
    );
    let wrong = BTreeMap::from([("gpu".to_string(), "h100".to_string())]);
    let spec = WorkerSpec {
        slots: 1,
        memory: 1,
        labels: wrong,
        stay: None,
    };
    let got = assigned(&step(
        &mut s,
        0,
        Event::WorkerJoined {
            worker: WorkerId(1),
            spec,
            holds: vec![],
        },
    ));
    assert_eq!(got[0].1.batch, BatchId(2));
    let spec = WorkerSpec {
        slots: 1,
        memory: 1,
        labels: gpu,
        stay: None,
    };
    let got = assigned(&step(
        &mut s,
        0,
        Event::WorkerJoined {
            worker: WorkerId(2),
            spec,
            holds: vec![],
        },
    ));
    assert_eq!(got[0].1.batch, BatchId(0));
}

#[test]
fn memory_bounds_what_may_run_together() {
    let mut s = scheduler();
    step(
        &mut s,
        0,
        submit(
            0,
            BatchSpec {
                memory: 3,
                ..jobs(10)
            },
        ),
    );
    let spec = WorkerSpec {
        slots: 4,
        memory: 10,
        ..Default::default()
    };
    step(
        &mut s,
        0,
        Event::WorkerJoined {
            worker: WorkerId(0),
            spec,
            holds: vec![],
        },
    );
    assert_eq!(held(&s, 0), 3);
    // Beside 9 of 10 there is room for a job of 1 in the fourth slot.
    step(
        &mut s,
        0,
        submit(
            1,
            BatchSpec {
                memory: 1,
                ..jobs(10)
            },
        ),
    );
    assert_eq!(held(&s, 0), 4);
    assert_eq!(s.batch(BatchId(1)).unwrap().held, 1);
    // With fast jobs, more may be held than run, as long as any four fit.
    for id in s.held_by(WorkerId(0)).collect::<Vec<_>>() {
        step(&mut s, 1, finished(0, id, 1, 10));
    }
    let mut sizes: Vec<u64> = s
        .held_by(WorkerId(0))
        .map(|id| if id.batch == BatchId(0) { 3 } else { 1 })
        .collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    assert!(
        sizes.len() > 4 && sizes[..4].iter().sum::<u64>() <= 10,
        "{sizes:?}"
    );
}

#[test]
fn a_retry_goes_elsewhere_and_is_reported_in_the_end() {
    let mut s = scheduler();
    step(&mut s, 0, joined(0, 1));
    step(&mut s, 0, joined(1, 1));
    step(
        &mut s,
        0,
        submit(
            0,
            BatchSpec {
                retries: 1,
                ..jobs(1)
            },
        ),
    );
    let fail = |worker, attempt| Event::Finished {
        worker: WorkerId(worker),
        job: job(0, 0),
        attempt,
        class: OutcomeClass::StackOverflow,
        then: Then::Retry,
        service_time_us: 5,
    };
    let got = assigned(&step(&mut s, 1, fail(0, 1)));
    assert_eq!(got, [(WorkerId(1), job(0, 0), 2)]);
    let effects = step(&mut s, 2, fail(1, 2));
    let verdict = Verdict::Reported(OutcomeClass::StackOverflow);
    let done = Effect::Done {
        job: job(0, 0),
        attempt: 2,
        worker: WorkerId(1),
        verdict,
    };
    assert_eq!(effects, [done, Effect::BatchDone { batch: BatchId(0) }]);
    let status = s.batch(BatchId(0)).unwrap();
    assert_eq!((status.retried, status.done.stack_overflow), (1, 1));
}

#[test]
fn a_retry_waits_for_a_busy_other_worker_but_not_for_one_that_is_gone() {
    let mut s = scheduler();
    step(&mut s, 0, joined(0, 1));
    step(&mut s, 0, joined(1, 1));
    step(&mut s, 0, submit(0, jobs(2)));
    let class = OutcomeClass::HostPanic;
    let fail = Event::Finished {
        worker: WorkerId(0),
        job: job(0, 0),
        attempt: 1,
        class,
        then: Then::Retry,
        service_time_us: 5,
    };
    assert_eq!(assigned(&step(&mut s, 1, fail)), []);
    let got = assigned(&step(
        &mut s,
        2,
        Event::WorkerDraining {
            worker: WorkerId(1),
        },
    ));
    assert_eq!(got, [(WorkerId(0), job(0, 0), 2)]);
}

#[test]
fn what_was_given_back_goes_to_others_first() {
    let mut s = warm(1, 41, 100);
    step(&mut s, 0, joined(1, 1));
    let claims: Vec<Claim> = s
        .held_by(WorkerId(0))
        .skip(1)
        .map(|job| Claim { job, attempt: 1 })
        .collect();
    assert_eq!(claims.len(), 20);
    let effects = step(
        &mut s,
        1,
        Event::GivenBack {
            worker: WorkerId(0),
            jobs: claims.clone(),
        },
    );
    let got = assigned(&effects);
    assert_eq!(
        got[0],
        (WorkerId(1), claims[0].job, 2),
        "lowest index first, next attempt"
    );
    assert!(got.iter().all(|(worker, ..)| *worker == WorkerId(1)));
    assert!(
        !effects.iter().any(|e| matches!(e, Effect::Retried { .. })),
        "no blame"
    );
}

#[test]
fn a_stuck_worker_is_relieved() {
    let mut s = warm(1, 5, 100);
    assert_eq!(held(&s, 0), 3);
    step(&mut s, 0, joined(1, 3));
    assert_eq!(held(&s, 1), 1);
    assert_eq!(step(&mut s, 10_000, Event::Tick), [], "not late yet");
    let effects = step(&mut s, 30_000, Event::Tick);
    let recall = |index| Effect::Recall {
        worker: WorkerId(0),
        job: job(0, index),
        attempt: 1,
    };
    assert_eq!(
        effects,
        [recall(3), recall(2)],
        "the last ones, as many as are free elsewhere"
    );
}

#[test]
fn nothing_is_recalled_for_a_worker_that_cannot_run_it() {
    let mut s = scheduler();
    step(
        &mut s,
        0,
        submit(
            0,
            BatchSpec {
                memory: 10,
                ..jobs(5)
            },
        ),
    );
    step(&mut s, 0, joined(0, 1));
    step(&mut s, 0, finished(0, job(0, 0), 1, 100));
    assert!(held(&s, 0) > 1);
    let spec = WorkerSpec {
        slots: 4,
        memory: 9,
        ..Default::default()
    };
    step(
        &mut s,
        0,
        Event::WorkerJoined {
            worker: WorkerId(1),
            spec,
            holds: vec![],
        },
    );
    assert_eq!(step(&mut s, 30_000, Event::Tick), []);
}

#[test]
fn a_restarted_caller_gets_its_state_back() {
    let mut s = scheduler();
    let finished_jobs = vec![0..3, 5..6, 2..4, 90..1000];
    let event = Event::Submit {
        batch: BatchId(0),
        spec: jobs(10),
        finished: finished_jobs,
        parked: vec![],
        known: vec![],
    };
    step(&mut s, 0, event);
    let status = s.batch(BatchId(0)).unwrap();
    assert_eq!((status.waiting, status.done.restored), (5, 5));
    // A worker comes with what it held before: one job that waits, one that has finished.
    let holds = vec![
        Claim {
            job: job(0, 8),
            attempt: 7,
        },
        Claim {
            job: job(0, 5),
            attempt: 1,
        },
    ];
    let spec = WorkerSpec {
        slots: 2,
        ..Default::default()
    };
    let effects = step(
        &mut s,
        0,
        Event::WorkerJoined {
            worker: WorkerId(0),
            spec,
            holds,
        },
    );
    let revoke = Effect::Revoke {
        worker: WorkerId(0),
        job: job(0, 5),
        attempt: 1,
    };
    let assign = Effect::Assign {
        worker: WorkerId(0),
        job: job(0, 4),
        attempt: 1,
    };
    assert_eq!(effects, [revoke, assign]);
    let done = step(&mut s, 1, finished(0, job(0, 8), 7, 10));
    assert!(
        matches!(done[0], Effect::Done { attempt: 7, .. }),
        "{done:?}"
    );
}

#[test]
fn a_worker_that_comes_back_keeps_its_lease_and_is_not_blamed() {
    let mut s = scheduler();
    step(&mut s, 0, submit(0, jobs(2)));
    step(&mut s, 0, joined(0, 1));
    step(
        &mut s,
        1,
        Event::WorkerLost {
            worker: WorkerId(0),
        },
    );
    let spec = WorkerSpec {
        slots: 1,
        ..Default::default()
    };
    let holds = vec![Claim {
        job: job(0, 0),
        attempt: 1,
    }];
    let effects = step(
        &mut s,
        2,
        Event::WorkerJoined {
            worker: WorkerId(0),
            spec,
            holds,
        },
    );
    assert_eq!(effects, []);
    assert!(matches!(
        s.job(job(0, 0)),
        Some(JobState::Held { attempt: 1, .. })
    ));
    // Its loss did not happen, so three more are needed.
    for attempt in 1..=2 {
        step(
            &mut s,
            3,
            Event::WorkerLost {
                worker: WorkerId(0),
            },
        );
        let got = assigned(&step(&mut s, 3, joined(0, 1)));
        assert_eq!(got[0], (WorkerId(0), job(0, 0), attempt + 1));
    }
    let effects = step(
        &mut s,
        4,
        Event::WorkerLost {
            worker: WorkerId(0),
        },
    );
    let losses = vec![(WorkerId(0), 1), (WorkerId(0), 2), (WorkerId(0), 3)];
    assert!(
        matches!(&effects[0], Effect::Done { verdict: Verdict::LostTooOften { losses: l }, .. } if *l == losses)
    );
}

#[test]
fn cancel_is_a_few_ranges_however_many_jobs_wait() {
    let mut s = scheduler();
    step(&mut s, 0, joined(0, 2));
    let mut effects = Vec::new();
    let now = optwasm_scheduler::Time(0);
    s.step(now, submit(0, jobs(u32::MAX)), &mut effects);
    effects.clear();
    s.step(now, Event::Cancel { batch: BatchId(0) }, &mut effects);
    let batch = BatchId(0);
    let revoke = |index| Effect::Revoke {
        worker: WorkerId(0),
        job: job(0, index),
        attempt: 1,
    };
    let cancelled = Effect::Cancelled {
        batch,
        jobs: 0..u32::MAX,
    };
    assert_eq!(
        effects,
        [revoke(0), revoke(1), cancelled, Effect::BatchDone { batch }]
    );
    assert_eq!(s.waiting(), 0);
}

#[test]
fn nonsense_is_answered_and_changes_nothing() {
    let mut s = scheduler();
    step(&mut s, 0, submit(0, jobs(1)));
    step(
        &mut s,
        0,
        submit(
            1,
            BatchSpec {
                count: 0,
                weight: 0,
                loss_limit: 0,
                ..Default::default()
            },
        ),
    );
    step(&mut s, 0, Event::Cancel { batch: BatchId(1) });
    let (batch, worker) = (BatchId(7), WorkerId(7));
    let cases = [
        (submit(0, jobs(1)), Ignored::DuplicateBatch(BatchId(0))),
        (
            Event::Extend { batch, count: 1 },
            Ignored::UnknownBatch(batch),
        ),
        (
            Event::Extend {
                batch: BatchId(1),
                count: 1,
            },
            Ignored::CancelledBatch(BatchId(1)),
        ),
        (
            Event::Extend {
                batch: BatchId(0),
                count: u32::MAX,
            },
            Ignored::TooManyJobs(BatchId(0)),
        ),
        (Event::Cancel { batch }, Ignored::UnknownBatch(batch)),
        (Event::Forget { batch }, Ignored::UnknownBatch(batch)),
        (Event::WorkerLost { worker }, Ignored::UnknownWorker(worker)),
        (
            Event::WorkerDraining { worker },
            Ignored::UnknownWorker(worker),
        ),
        (
            Event::GivenBack {
                worker,
                jobs: vec![],
            },
            Ignored::UnknownWorker(worker),
        ),
    ];
    for (event, reason) in cases {
        assert_eq!(step(&mut s, 0, event), [Effect::Ignored { reason }]);
    }
    let effects = step(&mut s, 0, finished(7, job(7, 7), 1, 1));
    assert_eq!(
        effects,
        [Effect::Superseded {
            worker,
            job: job(7, 7),
            attempt: 1
        }]
    );
    assert_eq!(s.superseded(), 1);
}

#[test]
fn waiting_is_explained() {
    let gpu = BTreeMap::from([("gpu".to_string(), "yes".to_string())]);
    let mut s = scheduler();
    step(
        &mut s,
        0,
        submit(
            0,
            BatchSpec {
                memory: 5,
                ..jobs(3)
            },
        ),
    );
    step(
        &mut s,
        0,
        submit(
            1,
            BatchSpec {
                labels: gpu,
                ..jobs(1)
            },
        ),
    );
    let why = |s: &Scheduler, batch, index| match s.job(job(batch, index)) {
        Some(JobState::Waiting(reason)) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(why(&s, 0, 0), WaitReason::NoWorker);
    let small = WorkerSpec {
        slots: 1,
        memory: 4,
        ..Default::default()
    };
    step(
        &mut s,
        0,
        Event::WorkerJoined {
            worker: WorkerId(0),
            spec: small,
            holds: vec![],
        },
    );
    assert_eq!(why(&s, 0, 0), WaitReason::NotEnoughMemory { largest: 4 });
    assert_eq!(why(&s, 1, 0), WaitReason::NoMatchingLabels);
    step(&mut s, 0, joined(1, 1));
    assert_eq!(why(&s, 0, 2), WaitReason::Behind { jobs: 1 });
    assert!(matches!(
        s.job(job(0, 0)),
        Some(JobState::Held {
            worker: WorkerId(1),
            ..
        })
    ));
    step(&mut s, 0, finished(1, job(0, 0), 1, 1_000_000));
    assert_eq!(s.job(job(0, 0)), Some(JobState::Finished));
    assert_eq!(s.job(job(0, 3)), None);
    assert_eq!(s.job(job(9, 0)), None);
}

#[test]
fn memory_is_bounded_by_live_work() {
    let mut s = scheduler();
    step(&mut s, 0, joined(0, 1));
    for batch in 0..100 {
        let labels = BTreeMap::from([("l".to_string(), batch.to_string())]);
        step(&mut s, 0, submit(batch, BatchSpec { labels, ..jobs(1) }));
        step(
            &mut s,
            0,
            Event::Forget {
                batch: BatchId(batch),
            },
        );
    }
    assert_eq!(s.batch_ids().count(), 0);
    assert_eq!(s.waiting(), 0);
}
