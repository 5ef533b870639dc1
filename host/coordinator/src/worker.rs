//! One worker's connection: its control stream, and the streams it opens for blobs.

use std::collections::HashSet;
use std::rc::Rc;

use optwasm_protocol::frame::{FrameError, SOFT_FRAME};
use optwasm_protocol::handshake;
use optwasm_protocol::link::{CloseCode, Reader, Writer};
use optwasm_protocol::message::{Assignment, FromWorker, ToWorker, WorkerInfo};
use optwasm_protocol::{BatchId, JobId, Link, Payload, Stream, WorkerId};
use optwasm_store::Store;
use tokio::sync::Notify;

use crate::hub::Out;
use crate::{Coordinator, SOFTWARE, client};

/// Longest name and label that a worker may have.
const TEXT_MAX: usize = 64;
/// Most labels; with them a thousand workers are listed in one message.
const LABELS_MAX: usize = 16;
/// Most slots: far beyond any machine.
const SLOTS_MAX: u32 = 4096;

pub(crate) async fn serve<S: Store>(
    coordinator: &Coordinator<S>,
    link: &Link,
    mut stream: Stream,
    info: WorkerInfo,
) {
    let labels = &info.labels;
    let sensible = info.name.len() <= TEXT_MAX
        && info.engine.len() <= TEXT_MAX
        && (1..=SLOTS_MAX).contains(&info.slots)
        && labels.len() <= LABELS_MAX
        && labels
            .iter()
            .all(|(k, v)| k.len() <= TEXT_MAX && v.len() <= TEXT_MAX);
    if !sensible {
        return link.close(CloseCode::Protocol, "unreasonable name, slots or labels");
    }
    let hub = &coordinator.0.hub;
    let (worker, wake) = hub.borrow_mut().join(info, link.peer());
    let why = match handshake::welcome(&mut stream, SOFTWARE, Some(worker)).await {
        Ok(()) => {
            let Stream { reader, writer } = stream;
            tokio::select! {
                error = receive(coordinator, worker, reader) => error,
                error = send(coordinator, worker, wake, writer) => error,
                error = client::serve_blobs(coordinator, link) => error,
                ended = link.closed() => ended.to_string(),
            }
        }
        Err(error) => error.to_string(),
    };
    hub.borrow_mut().leave(worker, &why);
    link.close(CloseCode::Protocol, &why);
}

async fn receive<S: Store>(
    coordinator: &Coordinator<S>,
    worker: WorkerId,
    mut reader: Reader,
) -> String {
    loop {
        let message = match reader.next::<FromWorker>().await {
            Ok(Some(message)) => message,
            Ok(None) => return "finished".to_owned(),
            Err(error) => return error.to_string(),
        };
        let mut hub = coordinator.0.hub.borrow_mut();
        match message {
            FromWorker::Finished(reports) => hub.finished(worker, reports),
            FromWorker::GiveBack(jobs) => hub.give_back(worker, jobs),
            FromWorker::Events(events) => hub.events(worker, events),
            FromWorker::Draining => hub.draining(worker),
        }
    }
}

async fn send<S: Store>(
    coordinator: &Coordinator<S>,
    worker: WorkerId,
    wake: Rc<Notify>,
    mut writer: Writer,
) -> String {
    let mut templates = HashSet::new();
    loop {
        let outbox = coordinator.0.hub.borrow_mut().take_outbox(worker);
        if outbox.is_empty() {
            wake.notified().await;
            continue;
        }
        if let Err(error) = write(coordinator, &mut writer, &mut templates, outbox).await {
            return error.to_string();
        }
    }
}

/// Sends what the hub decided, in that order, many assignments in one message.
async fn write<S: Store>(
    coordinator: &Coordinator<S>,
    writer: &mut Writer,
    templates: &mut HashSet<BatchId>,
    outbox: Vec<Out>,
) -> Result<(), FrameError> {
    let mut assignments = Assignments::default();
    for out in outbox {
        if let Out::Assign(job, attempt) = out {
            let Some((input, checkpoint)) = coordinator.0.hub.borrow().assignment(job) else {
                continue;
            };
            if templates.insert(job.0)
                && let Some(summary) = coordinator.0.store.batch(job.0)
            {
                assignments.close(writer)?;
                writer.push(&ToWorker::Template(job.0, summary.spec.template))?;
            }
            assignments.push(writer, Assignment(job, attempt, input, checkpoint))?;
        } else {
            assignments.close(writer)?;
            writer.push(&match out {
                Out::Revoke(job, attempt) => ToWorker::Revoke(vec![(job, attempt)]),
                Out::Recall(job, attempt) => ToWorker::Recall(vec![(job, attempt)]),
                Out::Forget(batch) => {
                    templates.remove(&batch);
                    ToWorker::Forget(batch)
                }
                Out::Assign(..) => continue,
            })?;
        }
        if writer.pending() >= SOFT_FRAME {
            writer.flush().await?;
        }
    }
    assignments.close(writer)?;
    writer.flush().await
}

/// Assignments on their way into one message.
#[derive(Default)]
struct Assignments {
    jobs: Vec<Assignment>,
    bytes: usize,
}

impl Assignments {
    fn push(&mut self, writer: &mut Writer, assignment: Assignment) -> Result<(), FrameError> {
        let Assignment(_, _, input, checkpoint) = &assignment;
        let inline = match input {
            Payload::Inline(bytes) => bytes.len(),
            Payload::Blob(..) => 0,
        };
        self.bytes += inline + checkpoint.as_ref().map_or(0, |c| c.len()) + size_of::<JobId>();
        self.jobs.push(assignment);
        if self.bytes >= SOFT_FRAME {
            self.close(writer)?;
        }
        Ok(())
    }

    fn close(&mut self, writer: &mut Writer) -> Result<(), FrameError> {
        self.bytes = 0;
        if self.jobs.is_empty() {
            return Ok(());
        }
        writer.push(&ToWorker::Assign(std::mem::take(&mut self.jobs)))
    }
}
