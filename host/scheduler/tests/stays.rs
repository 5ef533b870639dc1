//! Workers that leave at a set time.

// A failed unwrap is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::{assigned, job, jobs, slots, step, submit};
use optwasm_scheduler::{
    BatchSpec, Config, Event, JobState, OutcomeClass, Scheduler, Stay, Then, WaitReason, WorkerId,
    WorkerSpec,
};

#[test]
fn a_worker_gets_no_job_that_may_outlast_its_stay() {
    let mut s = Scheduler::new(Config::default());
    let timed = |time_us| BatchSpec {
        time_us,
        ..jobs(100)
    };
    step(&mut s, 0, submit(0, timed(Some(5_000_000))));
    step(&mut s, 0, submit(1, timed(None)));
    step(&mut s, 0, submit(2, timed(Some(1_000_000))));
    let stay = Stay {
        left_us: 10_000_000,
        reserve_us: 2_000_000,
    };
    let spec = WorkerSpec {
        stay: Some(stay),
        ..slots(1)
    };
    assert_eq!(s.waiting_for(&spec, None), 300);
    let soon = Stay {
        left_us: 1_500_000,
        ..stay
    };
    let hurried = WorkerSpec {
        stay: Some(soon),
        ..slots(1)
    };
    assert_eq!(s.waiting_for(&hurried, None), 100);

    // Half a second for each job: which batches are served, second by second?
    let worker = WorkerId(0);
    let event = Event::WorkerJoined {
        worker,
        spec,
        holds: vec![],
    };
    let mut held = assigned(&step(&mut s, 0, event));
    let mut served: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for half in 1..=24 {
        let now = half * 500_000;
        step(&mut s, now, Event::Tick);
        let Some((_, job, attempt)) = held.pop() else {
            break;
        };
        let event = Event::Finished {
            worker,
            job,
            attempt,
            class: OutcomeClass::Ok,
            then: Then::Decide,
            service_time_us: 500_000,
        };
        for next in assigned(&step(&mut s, now, event)) {
            served.entry(next.1.batch.0).or_default().push(now);
            held.push(next);
        }
    }
    // The last begin when what they may take, or the reserve, is just left.
    let last = |batch: u64| *served[&batch].last().unwrap();
    assert!((3_500_000..=5_000_000).contains(&last(0)), "{served:?}");
    assert!((6_500_000..=8_000_000).contains(&last(1)), "{served:?}");
    assert_eq!(last(2), 9_000_000, "{served:?}");
    let waits = s.job(job(2, 99));
    assert_eq!(waits, Some(JobState::Waiting(WaitReason::NotEnoughTime)));
}
