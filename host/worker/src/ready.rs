//! Making a batch ready: its module and blobs are fetched, checked and compiled, and where its jobs begin
//! from a snapshot, that is taken.

use std::sync::Arc;

use bytes::Bytes;
use optwasm_protocol::transfer::TransferError;
use optwasm_protocol::{ContentId, Instances, Limits, Link, Outcome, Template};
use optwasm_sandbox::{Control, Job, PrepareError, Prepared, Setup};

use crate::worker::Worker;

/// All that the jobs of a batch have in common.
pub(crate) struct Ready {
    pub(crate) prepared: Prepared,
    pub(crate) setup: Arc<Setup>,
    pub(crate) limits: Limits,
    pub(crate) instances: Instances,
}

/// Cancels what nobody waits for any longer.
pub(crate) struct CancelOnDrop(pub(crate) Control);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Fetches and prepares all that the jobs of a batch need.
pub(crate) async fn make_ready(
    worker: &Worker,
    link: &Link,
    template: Template,
    control: Control,
) -> Result<Ready, Outcome> {
    let unavailable = |error: TransferError| Outcome::HostOutOfMemory(error.to_string());
    let blobs = &worker.blobs;
    let module = blobs
        .get(link, template.module)
        .await
        .map_err(unavailable)?;
    let sandbox = worker.executor.sandbox();
    // Compiling takes seconds; the thread that drives the network must not wait for it.
    let preparing = tokio::task::spawn_blocking({
        let (sandbox, module) = (sandbox.clone(), module.clone());
        let (id, profile) = (template.module, template.profile);
        move || sandbox.prepare(id, &module, profile)
    });
    let mut shared = Vec::with_capacity(template.blobs.len());
    for (name, id) in &template.blobs {
        let bytes = blobs.get(link, *id).await.map_err(unavailable)?;
        shared.push((name.clone(), bytes));
    }
    let panicked = |error: tokio::task::JoinError| Outcome::HostPanic(error.to_string());
    let mut prepared = match preparing.await.map_err(panicked)? {
        Ok(prepared) => prepared,
        Err(PrepareError::Rejected(why)) => return Err(Outcome::Rejected(why)),
        Err(PrepareError::Host(why)) => return Err(Outcome::HostOutOfMemory(why)),
    };
    let (instances, limits) = (template.instances, template.limits);
    prepared.offers(instances).map_err(Outcome::Rejected)?;
    let (id, key) = (template.module, name_of(&template));
    let setup = Arc::new(Setup {
        profile: template.profile,
        args: template.args,
        env: template.env,
        blobs: shared,
        seed: template.seed,
    });
    if instances == Instances::Resident {
        let sandbox = sandbox.clone();
        let job = Job {
            setup: setup.clone(),
            limits,
            input: Bytes::new(),
            resume: None,
        };
        let snapshot =
            move || sandbox.prepare_resident(&prepared, (id, &module), key, job, &control);
        prepared = tokio::task::spawn_blocking(snapshot)
            .await
            .map_err(panicked)?;
    }
    Ok(Ready {
        prepared,
        setup,
        limits,
        instances,
    })
}

/// The name of all that a template says.
fn name_of(template: &Template) -> ContentId {
    let mut bytes = Vec::new();
    ciborium::into_writer(template, &mut bytes)
        .expect("writing to a Vec cannot fail, and every field has a CBOR form");
    ContentId::of(&bytes)
}
