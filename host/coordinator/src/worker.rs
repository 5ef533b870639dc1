//! One worker's connection: its control stream, and the streams it opens for blobs.

use std::collections::HashSet;
use std::rc::Rc;

use optwasm_protocol::frame::{FrameError, SOFT_FRAME};
use optwasm_protocol::handshake;
use optwasm_protocol::link::{CloseCode, Reader, Writer};
use optwasm_protocol::message::{Assignment, FromWorker, ToWorker, WorkerInfo};
use optwasm_protocol::{BatchId, JobId, Link, Payload, Stream};
use optwasm_store::Store;
use tokio::sync::Notify;

use crate::hub::{Out, Session};
use crate::{Coordinator, SOFTWARE, client};

/// Longest name and label that a worker may have.
const TEXT_MAX: usize = 64;
/// Most labels; with them a thousand workers are listed in one message.
const LABELS_MAX: usize = 16;
/// What a worker may hold per slot: what it may be handed ahead, and as much again in reports that
/// are not stored yet.
const HOLDS_PER_SLOT: usize = 4096;
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
        && info.probe.len() <= TEXT_MAX
        && (1..=SLOTS_MAX).contains(&info.slots)
        && labels.len() <= LABELS_MAX
        && labels
            .iter()
            .all(|(k, v)| k.len() <= TEXT_MAX && v.len() <= TEXT_MAX && !k.contains('\0'));
    if !sensible {
        return link.close(CloseCode::Protocol, "unreasonable name, slots or labels");
    }
    let inner = &coordinator.0;
    let worker = inner.hub.borrow_mut().greet(info.instance);
    let begun = async {
        handshake::welcome(&mut stream, SOFTWARE, Some(worker)).await?;
        holds(&mut stream.reader, info.slots).await
    };
    let holds = match tokio::time::timeout(crate::HELLO_TIMEOUT, begun).await {
        Ok(Ok(holds)) => holds,
        Ok(Err(error)) => return link.close(CloseCode::Protocol, &error.to_string()),
        Err(_) => return link.close(CloseCode::Protocol, "not ready in time"),
    };
    let (session, wake) = {
        let mut hub = inner.hub.borrow_mut();
        hub.join(inner.now(), worker, info, link.peer(), holds)
    };
    let Stream { reader, writer } = stream;
    let ended = tokio::select! {
        ended = receive(coordinator, session, reader) => ended,
        error = send(coordinator, session, wake, writer) => Err(error),
        error = client::serve_blobs(coordinator, link) => Err(error),
        ended = link.closed() => Err(ended.to_string()),
    };
    let mut hub = inner.hub.borrow_mut();
    match &ended {
        Ok(()) => hub.leave(inner.now(), session),
        Err(why) => hub.lost(inner.now(), session, why),
    }
    drop(hub);
    link.close(CloseCode::Protocol, &ended.err().unwrap_or_default());
}

/// What a worker holds from earlier: the first that it says.
async fn holds(reader: &mut Reader, slots: u32) -> Result<Vec<(JobId, u32)>, FrameError> {
    let most = slots as usize * HOLDS_PER_SLOT;
    let mut all = Vec::new();
    loop {
        match reader.expect::<FromWorker>().await? {
            FromWorker::Holds(some) if all.len() + some.len() <= most => all.extend(some),
            FromWorker::Ready => return Ok(all),
            _ => return Err(FrameError::Malformed("holds".to_owned())),
        }
    }
}

/// Reads what the worker says, until it leaves in good order, or its connection is lost.
async fn receive<S: Store>(
    coordinator: &Coordinator<S>,
    session: Session,
    mut reader: Reader,
) -> Result<(), String> {
    loop {
        let message = match reader.next::<FromWorker>().await {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        let inner = &coordinator.0;
        let mut hub = inner.hub.borrow_mut();
        match message {
            FromWorker::Finished(reports) => hub.finished(inner.now(), session, reports),
            FromWorker::GiveBack(jobs) => hub.give_back(inner.now(), session, jobs),
            FromWorker::Events(events) => hub.events(session, events),
            FromWorker::Draining => hub.draining(inner.now(), session),
            FromWorker::Holds(_) | FromWorker::Ready => {
                return Err("it says again what it holds".to_owned());
            }
        }
    }
}

async fn send<S: Store>(
    coordinator: &Coordinator<S>,
    session: Session,
    wake: Rc<Notify>,
    mut writer: Writer,
) -> String {
    let mut templates = HashSet::new();
    loop {
        let outbox = coordinator.0.hub.borrow_mut().take_outbox(session);
        let Some(outbox) = outbox else {
            return "it has connected again".to_owned();
        };
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
            let inner = &coordinator.0;
            let data = inner.hub.borrow().assignment(job);
            let data = match data {
                Ok(Some(data)) => data,
                Ok(None) => continue,
                Err(error) => {
                    inner.hub.borrow_mut().damaged(inner.now(), job, &error);
                    continue;
                }
            };
            if templates.insert(job.0)
                && let Some(summary) = coordinator.0.store.batch(job.0)
            {
                assignments.close(writer)?;
                writer.push(&ToWorker::Template(job.0, summary.spec.template))?;
            }
            let assignment = Assignment(job, attempt, data.input, data.checkpoint, data.limits);
            assignments.push(writer, assignment)?;
        } else {
            assignments.close(writer)?;
            writer.push(&match out {
                Out::Revoke(job, attempt) => ToWorker::Revoke(vec![(job, attempt)]),
                Out::Recall(job, attempt) => ToWorker::Recall(vec![(job, attempt)]),
                Out::Forget(batch) => {
                    templates.remove(&batch);
                    ToWorker::Forget(batch)
                }
                Out::Stored(reports) => ToWorker::Stored(reports),
                Out::Drain => ToWorker::Drain,
                Out::Leave => ToWorker::Leave,
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
        let Assignment(_, _, input, checkpoint, _) = &assignment;
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
