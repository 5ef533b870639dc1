//! Rules that random histories touch too seldom.

use optwasm_coordinator::hub::{Hub, Now, Out, RetryError, Session};
use optwasm_protocol::message::{Change, LimitsChange, Which};
use optwasm_protocol::{ATTACHED_GRACE, BatchId, JobId, Namespace, Outcome, Report};
use optwasm_store::Store;

use crate::Broken;
use crate::disk::{Disk, Model, ModelStore};
use crate::small::{JOB, NOW, given, join, open, settle, spec};
use crate::worker::Worker;

fn ok(output: &[u8]) -> Report {
    Report::not_run(Outcome::Ok(output.to_vec().into()))
}

#[test]
fn a_submission_sent_again_is_known_also_while_draining() {
    let mut disk = Model::new(Broken::Nothing);
    let mut hub = open(&mut disk);
    let inputs = || vec![vec![0].into()];
    let (first, _) = hub
        .submit(NOW, &Namespace::default(), spec(), inputs())
        .unwrap();
    assert!(hub.knows(&Namespace::default(), &spec()));
    settle(&mut hub, &mut disk);
    assert!(hub.knows(&Namespace::default(), &spec()));
    hub.drain(NOW);
    let (second, _) = hub
        .submit(NOW, &Namespace::default(), spec(), inputs())
        .unwrap();
    assert_eq!(first, second);
    let mut other = spec();
    other.id = Some("other".to_owned());
    assert!(!hub.knows(&Namespace::default(), &other));
    assert!(
        hub.submit(NOW, &Namespace::default(), other, inputs())
            .is_err()
    );
}

#[test]
fn jobs_get_more_memory_only_when_their_batch_is_done() {
    let mut disk = Model::new(Broken::Nothing);
    let mut hub = open(&mut disk);
    let worker = join(&mut hub, &mut disk, 0);
    let inputs = vec![vec![0].into(), vec![1].into()];
    let (batch, _) = hub
        .submit(NOW, &Namespace::default(), spec(), inputs)
        .unwrap();
    settle(&mut hub, &mut disk);
    assert_eq!(given(&mut hub, worker), [(JOB, 1)]);
    hub.finished(NOW, worker, vec![(JOB, 1, ok(b"a"))]);
    settle(&mut hub, &mut disk);
    let more = LimitsChange {
        memory: Some(Change::Times(4.0)),
        ..LimitsChange::default()
    };
    let refused = hub.retry(NOW, batch, &Which::All, more);
    assert!(matches!(refused, Err(RetryError::Running)));
    drop(hub.cancel(NOW, batch).unwrap());
    settle(&mut hub, &mut disk);
    assert_eq!(hub.retry(NOW, batch, &Which::All, more).unwrap().0, 2);
    settle(&mut hub, &mut disk);
    let store = disk.open().unwrap();
    assert_eq!(store.memory(batch), 4 * spec().template.limits.memory);
    // No worker has as much as four times what is usual, but this one.
    assert!(!given(&mut hub, worker).is_empty());
}

#[test]
fn a_worker_that_reads_nothing_does_not_make_its_outbox_grow() {
    let mut disk = Model::new(Broken::Nothing);
    let mut hub = open(&mut disk);
    let worker = join(&mut hub, &mut disk, 0);
    let unknown = JobId(BatchId(7), 0);
    for _ in 0..100 {
        hub.finished(NOW, worker, vec![(unknown, 1, ok(b"x"))]);
        hub.finished(NOW, worker, Vec::new());
        settle(&mut hub, &mut disk);
    }
    assert_eq!(hub.take_outbox(worker).unwrap(), [Out::Stored(100)]);
}

#[test]
fn a_late_report_counts_once() {
    let mut disk = Model::new(Broken::Nothing);
    let mut hub = open(&mut disk);
    let first = join(&mut hub, &mut disk, 0);
    let (batch, _) = hub
        .submit(NOW, &Namespace::default(), spec(), vec![vec![0].into()])
        .unwrap();
    settle(&mut hub, &mut disk);
    assert_eq!(given(&mut hub, first), [(JOB, 1)]);
    hub.give_back(NOW, first, vec![(JOB, 1)]);
    settle(&mut hub, &mut disk);
    let (holder, attempt) = (first, 2);
    assert_eq!(given(&mut hub, holder), [(JOB, attempt)]);
    // Before the job is decided, and after it is.
    hub.finished(NOW, first, vec![(JOB, 1, ok(b"a")), (JOB, 1, ok(b"a"))]);
    hub.finished(NOW, holder, vec![(JOB, attempt, ok(b"a"))]);
    settle(&mut hub, &mut disk);
    hub.finished(NOW, first, vec![(JOB, 1, ok(b"a"))]);
    settle(&mut hub, &mut disk);
    let status = hub.status(batch).unwrap();
    assert_eq!((status.confirmed, status.contradicted), (1, 0));
}

fn join_as(hub: &mut Hub<ModelStore>, disk: &mut Model, place: usize, engine: &str) -> Session {
    let worker = Worker::new(place, 1, false);
    let mut info = worker.info();
    info.engine = engine.to_owned();
    let known = hub.greet(worker.instance());
    let (session, _) = hub.join(NOW, known, info, String::new(), Vec::new(), None);
    settle(hub, disk);
    session
}

/// A worker gives this output for all that it is given; how many jobs are done then.
fn answer(hub: &mut Hub<ModelStore>, disk: &mut Model, session: Session, output: &[u8]) -> u32 {
    for (job, attempt) in given(hub, session) {
        hub.finished(NOW, session, vec![(job, attempt, ok(output))]);
    }
    settle(hub, disk);
    hub.status(JOB.0).unwrap().done
}

#[test]
fn workers_of_different_groups_neither_confirm_nor_outvote_each_other() {
    let mut disk = Model::new(Broken::Nothing);
    let mut hub = open(&mut disk);
    let mut verified = spec();
    verified.verify = 2;
    let (batch, _) = hub
        .submit(NOW, &Namespace::default(), verified, vec![vec![0].into()])
        .unwrap();
    settle(&mut hub, &mut disk);
    let one = join_as(&mut hub, &mut disk, 0, "x86-64");
    assert_eq!(answer(&mut hub, &mut disk, one, b"fast"), 0);
    let two = join_as(&mut hub, &mut disk, 1, "aarch64");
    assert_eq!(answer(&mut hub, &mut disk, two, b"exact"), 0);

    // Also of those that voted before a restart.
    drop(hub);
    let mut hub = open(&mut disk);
    let three = join_as(&mut hub, &mut disk, 2, "x86-64");
    assert_eq!(answer(&mut hub, &mut disk, three, b"fast"), 1);
    let explained = hub.explain(NOW, JOB).unwrap();
    let report = explained.report.unwrap();
    assert_eq!(report.witnesses, ["w0", "w2"]);
    assert_eq!(hub.status(batch).unwrap().contradicted, 0);
}

/// `NOW` and some seconds.
fn later(seconds: u64) -> Now {
    Now {
        us: NOW.us + seconds * 1_000_000,
        ms: NOW.ms + seconds * 1000,
    }
}

#[test]
fn an_attached_batch_ends_when_nobody_follows_it() {
    let mut disk = Model::new(Broken::Nothing);
    let mut hub = open(&mut disk);
    let attached = || {
        let mut spec = spec();
        spec.id = None;
        spec.attached = true;
        spec
    };
    let submit = |hub: &mut Hub<ModelStore>, disk: &mut Model, spec| {
        let (batch, _) = hub
            .submit(NOW, &Namespace::default(), spec, vec![vec![0].into()])
            .unwrap();
        settle(hub, disk);
        batch
    };
    let free = submit(&mut hub, &mut disk, spec());
    let [forsaken, left, followed] = [(); 3].map(|()| submit(&mut hub, &mut disk, attached()));
    let grace = ATTACHED_GRACE.as_secs();
    let is_done = |hub: &Hub<ModelStore>, batch| hub.status(batch).unwrap().is_done();
    let tick = |hub: &mut Hub<ModelStore>, disk: &mut Model, seconds| {
        hub.tick(later(seconds));
        settle(hub, disk);
    };
    for batch in [left, followed, followed] {
        hub.followed(batch);
    }
    tick(&mut hub, &mut disk, grace - 1);
    assert!(!is_done(&hub, forsaken));
    hub.left(later(grace - 1), left);
    // One of two streams is enough.
    hub.left(later(grace - 1), followed);
    tick(&mut hub, &mut disk, grace);
    assert!(is_done(&hub, forsaken) && !is_done(&hub, left));
    // A caller that comes back in time is as good as one that never left.
    hub.followed(left);
    tick(&mut hub, &mut disk, 2 * grace);
    assert!(!is_done(&hub, left));
    hub.left(later(2 * grace), left);
    tick(&mut hub, &mut disk, 3 * grace);
    assert!(is_done(&hub, left) && !is_done(&hub, followed) && !is_done(&hub, free));
    drop(hub);

    // After a restart its caller has the same time to come back.
    let mut hub = open(&mut disk);
    assert!(!is_done(&hub, followed));
    hub.tick(later(grace));
    settle(&mut hub, &mut disk);
    assert!(is_done(&hub, followed) && !is_done(&hub, free));
}
