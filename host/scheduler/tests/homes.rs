//! Jobs that belong to one worker while it is there.

// In a test, to panic is to fail.
#![allow(clippy::unwrap_used)]
mod common;

use std::collections::BTreeMap;

use common::{assigned, finished, job, jobs, joined, step, submit, why};
use optwasm_scheduler::{BatchSpec, Config, Event, Scheduler, WaitReason, WorkerId, WorkerSpec};

fn scheduler() -> Scheduler {
    Scheduler::new(Config::default())
}

fn homed(count: u32, home: u64) -> BatchSpec {
    BatchSpec {
        home: Some(WorkerId(home)),
        ..jobs(count)
    }
}

fn draining(worker: u64) -> Event {
    Event::WorkerDraining {
        worker: WorkerId(worker),
    }
}

fn away(worker: u64) -> Event {
    Event::WorkerAway {
        worker: WorkerId(worker),
    }
}

fn lost(worker: u64) -> Event {
    Event::WorkerLost {
        worker: WorkerId(worker),
    }
}

#[test]
fn jobs_wait_for_their_home_although_others_are_idle() {
    let mut s = scheduler();
    step(&mut s, 0, joined(0, 1));
    step(&mut s, 0, joined(1, 4));
    let got = assigned(&step(&mut s, 0, submit(0, homed(2, 0))));
    assert_eq!(got.iter().map(|a| a.0).collect::<Vec<_>>(), [WorkerId(0)]);
    let got = assigned(&step(&mut s, 1, finished(0, job(0, 0), 1, 1_000_000)));
    assert_eq!(got, [(WorkerId(0), job(0, 1), 1)]);
    // Nobody else is kept from anything by that.
    let got = assigned(&step(&mut s, 1, submit(1, jobs(1))));
    assert_eq!(got[0].0, WorkerId(1));
}

#[test]
fn they_move_when_their_home_is_lost_or_drains() {
    for end in [lost(0), draining(0)] {
        let mut s = scheduler();
        step(&mut s, 0, joined(0, 1));
        step(&mut s, 0, joined(1, 1));
        step(&mut s, 0, submit(0, homed(3, 0)));
        let is_lost = end == lost(0);
        let got = assigned(&step(&mut s, 0, end));
        assert_eq!(got[0].0, WorkerId(1));
        // The one that the lost worker may have been running comes back too.
        assert_eq!(s.waiting(), if is_lost { 2 } else { 1 });
    }
}

#[test]
fn they_wait_for_a_home_that_may_come_back_until_its_lease_ends() {
    let mut s = scheduler();
    step(&mut s, 0, joined(0, 1));
    step(&mut s, 0, joined(1, 1));
    step(&mut s, 0, away(0));
    assert!(assigned(&step(&mut s, 0, submit(0, homed(1, 0)))).is_empty());
    assert_eq!(why(&s, job(0, 0)), WaitReason::OnlyAway);
    let lease = Config::default().lease_us;
    assert!(assigned(&step(&mut s, lease - 1, Event::Tick)).is_empty());
    let got = assigned(&step(&mut s, lease, Event::Tick));
    assert_eq!(got, [(WorkerId(1), job(0, 0), 1)]);
}

#[test]
fn a_home_that_is_unknown_or_unable_is_none() {
    let mut s = scheduler();
    step(&mut s, 0, joined(1, 1));
    let got = assigned(&step(&mut s, 0, submit(0, homed(1, 7))));
    assert_eq!(got[0].0, WorkerId(1));
    let gpu = BTreeMap::from([("gpu".to_string(), "yes".to_string())]);
    let spec = WorkerSpec {
        slots: 1,
        memory: 1 << 40,
        labels: gpu.clone(),
        stay: None,
    };
    let worker = WorkerId(2);
    step(
        &mut s,
        0,
        Event::WorkerJoined {
            worker,
            spec,
            holds: vec![],
        },
    );
    // Worker 1 has no such label, so it cannot be where they belong.
    let labels = gpu;
    let spec = BatchSpec {
        labels,
        ..homed(1, 1)
    };
    let got = assigned(&step(&mut s, 0, submit(1, spec)));
    assert_eq!(got[0].0, worker);
}
