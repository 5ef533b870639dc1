//! What tests of single rules need: a hub on a disk, and workers that do as they are told.

use optwasm_coordinator::hub::{Hub, HubConfig, Now, Out, Session};
use optwasm_protocol::message::{BatchSpec, Memo};
use optwasm_protocol::{BatchId, ContentId, JobId, Template};
use optwasm_store::Commit;

use crate::disk::{Disk, Model, ModelStore};
use crate::random::Random;
use crate::worker::Worker;

pub const NOW: Now = Now { us: 1, ms: 1 };

pub fn open(disk: &mut Model) -> Hub<ModelStore> {
    Hub::new(disk.open().unwrap(), HubConfig::default(), NOW).unwrap()
}

pub fn spec() -> BatchSpec {
    let mut spec = BatchSpec::new(Template::new(ContentId::of(b"module")));
    spec.id = Some("key".to_owned());
    spec.memo = Memo::Off;
    spec
}

/// Commits everything, and has done what follows.
pub fn settle(hub: &mut Hub<ModelStore>, disk: &mut Model) {
    let mut random = Random::new(0);
    while let Some(commit) = hub.next_commit() {
        let committed = match commit {
            Commit::Done(committed) => Ok(committed),
            Commit::Pending(mut receiver) => loop {
                disk.sync(&mut random);
                if let Some(outcome) = disk.poll(&mut receiver) {
                    break outcome;
                }
            },
        };
        hub.committed(NOW, committed);
    }
}

pub fn join(hub: &mut Hub<ModelStore>, disk: &mut Model, place: usize) -> Session {
    let worker = Worker::new(place, 1, false);
    let known = hub.greet(worker.instance());
    let (session, _) = hub.join(NOW, known, worker.info(), String::new(), Vec::new(), None);
    settle(hub, disk);
    session
}

pub fn given(hub: &mut Hub<ModelStore>, session: Session) -> Vec<(JobId, u32)> {
    let out = hub.take_outbox(session).unwrap_or_default();
    let given = out.into_iter().filter_map(|out| match out {
        Out::Assign(job, attempt) => Some((job, attempt)),
        _ => None,
    });
    given.collect()
}

pub const JOB: JobId = JobId(BatchId(1), 0);
