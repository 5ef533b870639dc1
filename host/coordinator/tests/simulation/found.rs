//! What the simulation has found, each as the shortest history that shows it.

use optwasm_coordinator::hub::Out;
use optwasm_protocol::Namespace;
use optwasm_protocol::message::{LimitsChange, Which};

use crate::Broken;
use crate::disk::Model;
use crate::small::{JOB, NOW, given, join, open, settle, spec};
use crate::worker::Worker;

/// A submission that was sent twice was acknowledged to whoever sent it second, although its commit
/// failed.
#[test]
fn a_submission_that_is_refused_is_refused_to_all_that_sent_it() {
    let mut disk = Model::new(Broken::Nothing);
    let mut hub = open(&mut disk);
    let inputs = || vec![vec![0].into()];
    let (_, mut first) = hub
        .submit(NOW, &Namespace::default(), spec(), inputs())
        .unwrap();
    let (_, mut second) = hub
        .submit(NOW, &Namespace::default(), spec(), inputs())
        .unwrap();
    let full = optwasm_store::StoreError::Full { used: 1, limit: 1 };
    assert!(hub.next_commit().is_some());
    hub.committed(NOW, Err(full.clone()));
    assert_eq!(first.try_recv(), Ok(Err(full.clone())));
    assert_eq!(second.try_recv(), Ok(Err(full)));
}

/// A job that was given back and handed out again was, after a restart, taken for that of its first
/// worker.
#[test]
fn a_job_that_was_given_back_belongs_to_its_next_worker_after_a_restart() {
    let mut disk = Model::new(Broken::Nothing);
    let mut hub = open(&mut disk);
    let first = join(&mut hub, &mut disk, 0);
    let _ = hub
        .submit(NOW, &Namespace::default(), spec(), vec![vec![0].into()])
        .unwrap();
    settle(&mut hub, &mut disk);
    assert_eq!(given(&mut hub, first), [(JOB, 1)]);
    hub.draining(NOW, first);
    hub.give_back(NOW, first, vec![(JOB, 1)]);
    let second = join(&mut hub, &mut disk, 1);
    assert_eq!(given(&mut hub, second), [(JOB, 2)]);

    drop(hub);
    let mut hub = open(&mut disk);
    let worker = Worker::new(1, 1, false);
    let known = hub.greet(worker.instance());
    assert_eq!(known, second.worker);
    let (session, _) = hub.join(
        NOW,
        known,
        worker.info(),
        String::new(),
        vec![(JOB, 2)],
        None,
    );
    settle(&mut hub, &mut disk);
    let out = hub.take_outbox(session).unwrap();
    assert!(!out.contains(&Out::Revoke(JOB, 2)), "{out:?}");
}

/// The attempts at a job that was cancelled while it ran, and then run again, began at 1 once more,
/// so that a report of the first life could be taken for one of the second.
#[test]
fn attempts_are_numbered_on_when_a_cancelled_job_runs_again() {
    let mut disk = Model::new(Broken::Nothing);
    let mut hub = open(&mut disk);
    let worker = join(&mut hub, &mut disk, 0);
    let (batch, _) = hub
        .submit(NOW, &Namespace::default(), spec(), vec![vec![0].into()])
        .unwrap();
    settle(&mut hub, &mut disk);
    assert_eq!(given(&mut hub, worker), [(JOB, 1)]);
    drop(hub.cancel(NOW, batch).unwrap());
    settle(&mut hub, &mut disk);
    let (jobs, _) = hub
        .retry(NOW, batch, &Which::All, LimitsChange::default())
        .unwrap();
    assert_eq!(jobs, 1);
    settle(&mut hub, &mut disk);
    assert_eq!(given(&mut hub, worker), [(JOB, 2)]);
}

/// A worker that was told to drain by a message that its connection lost was never told again.
#[test]
fn a_worker_that_is_back_hears_that_it_is_to_drain() {
    let mut disk = Model::new(Broken::Nothing);
    let mut hub = open(&mut disk);
    let lost = join(&mut hub, &mut disk, 0);
    assert!(hub.drain_worker(NOW, lost.worker));
    hub.lost(NOW, lost, "lost");
    let back = join(&mut hub, &mut disk, 0);
    assert_eq!(back.worker, lost.worker);
    let out = hub.take_outbox(back).unwrap();
    assert!(out.contains(&Out::Drain), "{out:?}");
}
