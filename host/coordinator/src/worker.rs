//! One worker's connection: its control stream, and the streams it opens for blobs.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use optwasm_protocol::frame::{FrameError, SOFT_FRAME};
use optwasm_protocol::handshake;
use optwasm_protocol::link::{CloseCode, LinkError, Reader, Writer};
use optwasm_protocol::message::{Assignment, FromWorker, Stay, ToWorker, WorkerInfo};
use optwasm_protocol::token::Claims;
use optwasm_protocol::{BatchId, JobId, Link, Payload, Stream};
use optwasm_store::{Store, StoreError};
use tokio::sync::Notify;

use crate::hub::{Out, Session};
use crate::{Coordinator, SOFTWARE, client};

/// Longest name and label that a worker may have.
const TEXT_MAX: usize = 64;
/// Longest value of a label: as long as identities of batch jobs may be, which have host names in them.
const VALUE_MAX: usize = 255;
/// Most labels.
const LABELS_MAX: usize = 16;
/// Most bytes of all labels; with them a thousand workers are listed in one message.
const LABEL_BYTES_MAX: usize = 2048;
/// What a worker may hold per slot: what it may be handed ahead, and as much again in reports that
/// are not stored yet.
const HOLDS_PER_SLOT: usize = 4096;
/// And at most, whatever its slots: 16 MB.
const HOLDS_MAX: usize = 1 << 20;
/// No job is tried as often as this; larger numbers are made up.
const ATTEMPT_MAX: u32 = 1 << 30;
/// How long the reason of a link's end may come after the end of its streams.
const LAST_WORD: Duration = Duration::from_millis(20);
/// How often a worker's token is looked up among those that were revoked.
const REVOCATION_CHECK: Duration = Duration::from_secs(1);
/// Most slots: far beyond any machine.
const SLOTS_MAX: u32 = 4096;

pub(crate) async fn serve<S: Store>(
    coordinator: &Coordinator<S>,
    link: &Link,
    mut stream: Stream,
    info: WorkerInfo,
    claims: Claims,
) {
    let labels = &info.labels;
    let sensible = info.name.len() <= TEXT_MAX
        && info.engine.len() <= TEXT_MAX
        && info.probe.len() <= TEXT_MAX
        && (1..=SLOTS_MAX).contains(&info.slots)
        && labels.len() <= LABELS_MAX
        && labels
            .iter()
            .all(|(k, v)| k.len() <= TEXT_MAX && v.len() <= VALUE_MAX && !k.contains('\0'))
        && labels.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>() <= LABEL_BYTES_MAX;
    if !sensible {
        return link.close(CloseCode::Protocol, "unreasonable name, slots or labels");
    }
    let inner = &coordinator.0;
    let worker = inner.hub.borrow_mut().greet(info.instance);
    let life = inner.hub.borrow().life();
    let begun = async {
        handshake::welcome(&mut stream, SOFTWARE, Some(worker), life).await?;
        holds(&mut stream.reader, info.slots).await
    };
    let (holds, stay) = match tokio::time::timeout(crate::HELLO_TIMEOUT, begun).await {
        Ok(Ok(holds)) => holds,
        Ok(Err(error)) => return link.close(CloseCode::Protocol, &error.to_string()),
        Err(_) => return link.close(CloseCode::Protocol, "not ready in time"),
    };
    let (session, wake) = {
        let mut hub = inner.hub.borrow_mut();
        hub.join(inner.now(), worker, info, link.peer(), holds, stay)
    };
    let Stream { reader, writer } = stream;
    let ended = tokio::select! {
        ended = receive(coordinator, session, reader) => ended,
        error = send(coordinator, session, wake, writer) => Err(error),
        error = revoked(coordinator, claims) => {
            link.close(CloseCode::Refused, &error);
            Err(error)
        }
        error = client::serve_blobs(coordinator, link) => Err(error),
        ended = link.closed() => Err(ended.to_string()),
    };
    let ended = match ended {
        // The link knows better than the stream why both ended.
        Err(_) if has_left(link).await => Ok(()),
        ended => ended,
    };
    let mut hub = inner.hub.borrow_mut();
    match &ended {
        Ok(()) => hub.leave(inner.now(), session),
        Err(why) => hub.lost(inner.now(), session, why),
    }
    drop(hub);
    link.close(CloseCode::Protocol, &ended.err().unwrap_or_default());
}

/// Waits until the worker's token is revoked. One that has expired does for as long as its connection
/// lasts.
async fn revoked<S: Store>(coordinator: &Coordinator<S>, claims: Claims) -> String {
    loop {
        tokio::time::sleep(REVOCATION_CHECK).await;
        if coordinator.0.revocations.borrow().contains(&claims.id) {
            return "its token was revoked".to_owned();
        }
    }
}

/// Whether the worker has closed the link in good order.
async fn has_left(link: &Link) -> bool {
    let closed = tokio::time::timeout(LAST_WORD, link.closed()).await;
    matches!(closed, Ok(LinkError::Closed { code, .. }) if code == CloseCode::Done as u64)
}

/// What a worker holds from earlier, and how long it stays: the first that it says.
async fn holds(
    reader: &mut Reader,
    slots: u32,
) -> Result<(Vec<(JobId, u32)>, Option<Stay>), FrameError> {
    let most = (slots as usize * HOLDS_PER_SLOT).min(HOLDS_MAX);
    let mut all = Vec::new();
    let mut stays = None;
    loop {
        match reader.expect::<FromWorker>().await? {
            FromWorker::Holds(some)
                if all.len() + some.len() <= most
                    && some.iter().all(|(_, attempt)| *attempt <= ATTEMPT_MAX) =>
            {
                all.extend(some);
            }
            FromWorker::Stays(stay) => stays = Some(stay),
            FromWorker::Ready => return Ok((all, stays)),
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
            FromWorker::Holds(_) | FromWorker::Stays(_) | FromWorker::Ready => {
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
    let mut outbox = outbox.into_iter().peekable();
    while let Some(out) = outbox.next() {
        if let Out::Assign(job, attempt) = out {
            let inner = &coordinator.0;
            let data = inner.hub.borrow().assignment(job);
            let data = match data {
                Ok(Some(data)) => data,
                // It was removed meanwhile.
                Ok(None) => continue,
                Err(error @ StoreError::Damaged(_)) => {
                    inner.hub.borrow_mut().damaged(inner.now(), job, &error);
                    continue;
                }
                // What was not sent waits again when the worker is back, and the disk works.
                Err(error) => return Err(FrameError::Io(std::io::Error::other(error))),
            };
            if !templates.contains(&job.0) {
                let Some(summary) = coordinator.0.store.batch(job.0) else {
                    let why = format!("batch {} cannot be read", job.0);
                    return Err(FrameError::Io(std::io::Error::other(why)));
                };
                templates.insert(job.0);
                assignments.close(writer)?;
                writer.push(&ToWorker::Template(job.0, summary.spec.template))?;
            }
            let assignment = Assignment(job, attempt, data.input, data.checkpoint, data.limits);
            assignments.push(writer, assignment)?;
        } else {
            assignments.close(writer)?;
            writer.push(&match out {
                Out::Revoke(job, attempt) => {
                    let mut all = vec![(job, attempt)];
                    while let Some(Out::Revoke(job, attempt)) =
                        outbox.next_if(|next| matches!(next, Out::Revoke(..)))
                    {
                        all.push((job, attempt));
                    }
                    ToWorker::Revoke(all)
                }
                Out::Recall(job, attempt) => {
                    let mut all = vec![(job, attempt)];
                    while let Some(Out::Recall(job, attempt)) =
                        outbox.next_if(|next| matches!(next, Out::Recall(..)))
                    {
                        all.push((job, attempt));
                    }
                    ToWorker::Recall(all)
                }
                Out::Forget(batch) => {
                    templates.remove(&batch);
                    ToWorker::Forget(batch)
                }
                Out::Discard(id) => {
                    let mut all = vec![id];
                    while let Some(Out::Discard(id)) =
                        outbox.next_if(|next| matches!(next, Out::Discard(_)))
                    {
                        all.push(id);
                    }
                    ToWorker::Discard(all)
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
