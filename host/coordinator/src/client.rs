//! One client's connection: a stream for each request. [`submit`] takes batches in, [`blobs`] takes
//! and gives what is large.

pub(crate) mod blobs;
mod holds;
mod submit;

use std::time::Duration;

use optwasm_protocol::frame::{FrameError, SOFT_FRAME};
use optwasm_protocol::link::{CloseCode, Reader};
use optwasm_protocol::message::{ErrorCode, Order, Request, RequestError, Response, Which};
use optwasm_protocol::token::{Claims, Role};
use optwasm_protocol::{BatchId, Link, Stream};
use optwasm_store::{Store, StoreError};
use tokio::task::spawn_local;

use crate::hub::{NotDone, RetryError, SubmitError, Waiter};
use crate::{Coordinator, now_ms};

/// How often a watcher hears of changes, at most.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// How often a watcher hears when nothing changes.
const WATCH_IDLE: Duration = Duration::from_secs(1);
/// How long the last words of a coordinator may take to arrive.
const FAREWELL: Duration = Duration::from_millis(50);
/// Ids in one request.
const IDS_MAX: usize = 10_000;
/// Longest text anywhere in a batch's description, and most entries of any list in it.
const TEXT_MAX: usize = 64 * 1024;
const ENTRIES_MAX: usize = 1024;

/// Why a request ended early.
enum Failure {
    /// The client is told.
    Request(RequestError),
    /// The stream broke, or what came on it is nonsense.
    Frame(FrameError),
}

impl From<FrameError> for Failure {
    fn from(error: FrameError) -> Self {
        Failure::Frame(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::Full { .. }
            | StoreError::Damaged(_)
            | StoreError::Disk(_)
            | StoreError::Fatal(_)
            | StoreError::Newer { .. } => ErrorCode::Storage,
            StoreError::Hash(_) => ErrorCode::Invalid,
            StoreError::Closed => ErrorCode::Shutdown,
        };
        fail(code, error.to_string())
    }
}

impl From<SubmitError> for Failure {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Store(error) => error.into(),
            SubmitError::KeyTaken(..) => fail(ErrorCode::Invalid, error.to_string()),
            SubmitError::Draining => fail(ErrorCode::Busy, error.to_string()),
        }
    }
}

/// Waits until what a request changed is safe.
async fn safe(waiter: Waiter) -> Result<(), Failure> {
    Ok(waiter.await.unwrap_or(Err(StoreError::Closed))?)
}

fn fail(code: ErrorCode, message: impl Into<String>) -> Failure {
    let message = message.into();
    Failure::Request(RequestError { code, message })
}

fn no_batch(batch: BatchId) -> Failure {
    fail(ErrorCode::NotFound, format!("there is no batch {batch}"))
}

/// Serves a client until it leaves.
pub(crate) async fn serve<S: Store>(coordinator: &Coordinator<S>, link: &Link, claims: Claims) {
    serve_streams(coordinator, link, claims.role, Some(claims)).await;
}

/// Serves the streams that a worker opens for blobs, until the link ends.
pub(crate) async fn serve_blobs<S: Store>(coordinator: &Coordinator<S>, link: &Link) -> String {
    serve_streams(coordinator, link, Role::Worker, None).await
}

async fn serve_streams<S: Store>(
    coordinator: &Coordinator<S>,
    link: &Link,
    role: Role,
    claims: Option<Claims>,
) -> String {
    loop {
        let stream = match link.accept().await {
            Ok(stream) => stream,
            Err(ended) => return ended.to_string(),
        };
        if claims.is_some_and(|claims| coordinator.is_void(&claims)) {
            link.close(CloseCode::Refused, "the token has expired or was revoked");
            return "its token is void".to_owned();
        }
        let coordinator = coordinator.clone();
        let link = link.clone();
        // As many at once as the transport lets a peer open.
        spawn_local(async move {
            let served = tokio::select! {
                served = serve_stream(&coordinator, role, stream) => served,
                _ = link.closed() => Ok(()),
            };
            match served {
                Err(error @ (FrameError::Malformed(_) | FrameError::TooLarge(_))) => {
                    tracing::info!("{} was cut off: {error}", link.peer());
                    link.close(CloseCode::Protocol, &error.to_string());
                }
                // A client may drop a request at any time.
                Err(FrameError::Io(_) | FrameError::Ended) | Ok(()) => {}
            }
        });
    }
}

/// What a role may ask for.
fn allows(role: Role, request: &Request) -> bool {
    match request {
        // Large outputs are blobs, and who knows a blob's name may read it.
        Request::GetBlob(_) => true,
        Request::PutBlob(..) | Request::Missing(_) => role != Role::Read,
        Request::Hold
        | Request::Submit { .. }
        | Request::Cancel(_)
        | Request::Retry { .. }
        | Request::Remove(_) => {
            matches!(role, Role::Admin | Role::Client)
        }
        Request::Batch(_)
        | Request::Batches
        | Request::Watch(_)
        | Request::Results { .. }
        | Request::Explain(_)
        | Request::Status
        | Request::Demand(_)
        | Request::Workers => role != Role::Worker,
        Request::IssueToken(..)
        | Request::RevokeToken(_)
        | Request::DrainWorker(_)
        | Request::Drain
        | Request::Shutdown { .. } => role == Role::Admin,
    }
}

async fn serve_stream<S: Store>(
    coordinator: &Coordinator<S>,
    role: Role,
    mut stream: Stream,
) -> Result<(), FrameError> {
    let Some(request) = stream.reader.next::<Request>().await? else {
        return Ok(());
    };
    let result = if allows(role, &request) {
        answer(coordinator, request, &mut stream).await
    } else {
        let message = format!("a token for the role `{role}` does not allow this");
        Err(fail(ErrorCode::Unauthorized, message))
    };
    match result {
        Ok(()) => {}
        Err(Failure::Request(error)) => stream.writer.send(&Response::Error(error)).await?,
        Err(Failure::Frame(error)) => return Err(error),
    }
    stream.writer.finish().await
}

async fn answer<S: Store>(
    coordinator: &Coordinator<S>,
    request: Request,
    stream: &mut Stream,
) -> Result<(), Failure> {
    let inner = &coordinator.0;
    let response = match request {
        Request::Missing(ids) => {
            if ids.len() > IDS_MAX {
                return Err(fail(ErrorCode::Invalid, "too many ids"));
            }
            let missing = ids.into_iter().filter(|id| !inner.store.has_blob(id));
            Response::Missing(missing.collect())
        }
        Request::PutBlob(id, len) => return blobs::put(coordinator, id, len, stream).await,
        Request::GetBlob(id) => return blobs::get(coordinator, id, stream).await,
        Request::Hold => return holds::serve(coordinator, stream).await,
        Request::Submit { spec, wait } => submit::submit(coordinator, *spec, wait, stream).await?,
        Request::Batch(batch) => {
            let status = inner.hub.borrow().status(batch);
            Response::Batch(Box::new(status.ok_or_else(|| no_batch(batch))?))
        }
        Request::Batches => {
            let hub = inner.hub.borrow();
            let batches = inner.store.batches(ENTRIES_MAX).into_iter();
            Response::Batches(batches.filter_map(|batch| hub.status(batch)).collect())
        }
        Request::Watch(batch) => {
            let _following = Following::new(coordinator, batch);
            return watch(coordinator, batch, stream).await;
        }
        Request::Results {
            batch,
            order,
            cursor,
            follow,
        } => {
            let _following = follow.then(|| Following::new(coordinator, batch));
            return results(coordinator, batch, order, cursor, follow, stream).await;
        }
        Request::Cancel(batch) => {
            let waiter = inner.hub.borrow_mut().cancel(inner.now(), batch);
            safe(waiter.ok_or_else(|| no_batch(batch))?).await?;
            Response::Done
        }
        Request::Retry {
            batch,
            which,
            change,
        } => {
            let named = match &which {
                Which::Jobs(ranges) => ranges.len(),
                Which::Outcomes(names) => names.len(),
                Which::All | Which::Failed => 0,
            };
            if named > IDS_MAX {
                let message = format!("more than {IDS_MAX} ranges or outcomes");
                return Err(fail(ErrorCode::Invalid, message));
            }
            let retried = inner
                .hub
                .borrow_mut()
                .retry(inner.now(), batch, &which, change);
            let (jobs, waiter) = match retried {
                Ok(retried) => retried,
                Err(RetryError::Unknown) => return Err(no_batch(batch)),
                Err(error @ RetryError::Running) => {
                    return Err(fail(ErrorCode::Invalid, error.to_string()));
                }
            };
            safe(waiter).await?;
            Response::Reopened(jobs)
        }
        Request::Remove(batch) => {
            let removed = inner.hub.borrow_mut().remove(inner.now(), batch);
            match removed.ok_or_else(|| no_batch(batch))? {
                Ok(waiter) => safe(waiter).await?,
                Err(NotDone) => {
                    let message = format!("batch {batch} is not done: cancel it first");
                    return Err(fail(ErrorCode::Invalid, message));
                }
            }
            Response::Done
        }
        Request::Explain(job) => {
            let explanation = inner.hub.borrow().explain(inner.now(), job);
            let missing = || fail(ErrorCode::NotFound, format!("there is no job {job}"));
            Response::Explained(Box::new(explanation.ok_or_else(missing)?))
        }
        Request::Status => Response::Status(Box::new(coordinator.status())),
        Request::Demand(offer) => Response::Demand(inner.hub.borrow().demand(&offer)),
        Request::DrainWorker(worker) => {
            if !inner.hub.borrow_mut().drain_worker(inner.now(), worker) {
                let message = format!("there is no worker {worker}");
                return Err(fail(ErrorCode::NotFound, message));
            }
            Response::Done
        }
        Request::Drain => {
            inner.hub.borrow_mut().drain(inner.now());
            Response::Done
        }
        Request::Workers => {
            let mut workers = inner.hub.borrow().worker_statuses(inner.now());
            // One message holds as many as a person can read.
            workers.truncate(ENTRIES_MAX);
            Response::Workers(workers)
        }
        Request::IssueToken(role, seconds) => {
            let expires = match seconds {
                0 => 0,
                seconds => (now_ms() / 1000).saturating_add(seconds),
            };
            let token = inner.authority.issue(inner.fingerprint, role, expires);
            let token = token.map_err(|e| fail(ErrorCode::Storage, e.to_string()))?;
            Response::Token(token.expose())
        }
        Request::RevokeToken(name) => {
            if name.len() != 16 || !name.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(fail(ErrorCode::Invalid, "a token's name has 16 digits"));
            }
            let revoked = inner.revocations.borrow_mut().revoke(&name.to_lowercase());
            revoked.map_err(|error| fail(ErrorCode::Storage, error.to_string()))?;
            Response::Done
        }
        Request::Shutdown { with_workers } => {
            if with_workers {
                inner.hub.borrow_mut().dismiss(inner.now());
            }
            stream.writer.send(&Response::Done).await?;
            // The answer, and what workers are told, should arrive before links are closed.
            tokio::time::sleep(FAREWELL).await;
            coordinator.stop();
            return Ok(());
        }
    };
    Ok(stream.writer.send(&response).await?)
}

async fn watch<S: Store>(
    coordinator: &Coordinator<S>,
    batch: BatchId,
    stream: &mut Stream,
) -> Result<(), Failure> {
    loop {
        let bell = coordinator.0.hub.borrow().bell(batch);
        let news = coordinator.0.hub.borrow().news(batch);
        // Listening begins here, before the state is read, so that no change falls in between.
        let rung = bell.as_ref().map(|bell| bell.notified());
        let told = news.as_ref().map(|news| news.notified());
        let status = coordinator.0.hub.borrow().status(batch);
        let status = status.ok_or_else(|| no_batch(batch))?;
        let done = status.is_done();
        stream
            .writer
            .send(&Response::Batch(Box::new(status)))
            .await?;
        match (rung, told) {
            (Some(rung), Some(told)) if !done => {
                let either = async {
                    tokio::select! {
                        () = rung => {}
                        () = told => {}
                    }
                };
                let pause = async {
                    let _ = tokio::time::timeout(WATCH_IDLE, either).await;
                    tokio::time::sleep(WATCH_INTERVAL).await;
                };
                tokio::select! {
                    () = pause => {}
                    () = abandoned(&mut stream.reader) => return Ok(()),
                }
            }
            _ => return Ok(()),
        }
    }
}

async fn results<S: Store>(
    coordinator: &Coordinator<S>,
    batch: BatchId,
    order: Order,
    mut cursor: u32,
    follow: bool,
    stream: &mut Stream,
) -> Result<(), Failure> {
    loop {
        let bell = coordinator.0.hub.borrow().bell(batch);
        let rung = bell.as_ref().map(|bell| bell.notified());
        let page = coordinator
            .0
            .store
            .results(batch, order, cursor, SOFT_FRAME);
        let page = page.ok_or_else(|| no_batch(batch))?;
        cursor = page.cursor;
        let empty = page.results.is_empty();
        let end = page.last || (empty && (!follow || rung.is_none()));
        if !empty || end {
            stream.writer.send(&Response::Results(page)).await?;
        }
        if end {
            return Ok(());
        }
        if empty && let Some(rung) = rung {
            tokio::select! {
                () = rung => {}
                () = abandoned(&mut stream.reader) => return Ok(()),
            }
        }
    }
}

/// Lets the hub know, while it lives, that a stream follows a batch.
struct Following<'a, S: Store> {
    coordinator: &'a Coordinator<S>,
    batch: BatchId,
}

impl<'a, S: Store> Following<'a, S> {
    fn new(coordinator: &'a Coordinator<S>, batch: BatchId) -> Self {
        coordinator.0.hub.borrow_mut().followed(batch);
        Self { coordinator, batch }
    }
}

impl<S: Store> Drop for Following<'_, S> {
    fn drop(&mut self) {
        let inner = &self.coordinator.0;
        inner.hub.borrow_mut().left(inner.now(), self.batch);
    }
}

/// Resolves when the client has dropped its end of a stream on which it has nothing more to say.
async fn abandoned(reader: &mut Reader) {
    // A message where none belongs ends the stream too.
    let _ = reader.next::<Request>().await;
}
