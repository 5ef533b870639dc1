//! One client's connection: a stream for each request. [`submit`] takes batches in, [`blobs`] takes
//! and gives what is large.

pub(crate) mod blobs;
mod holds;
pub(crate) mod lanes;
mod submit;

use std::time::Duration;

use optwasm_protocol::frame::{FrameError, SOFT_FRAME};
use optwasm_protocol::link::{CloseCode, Reader};
use optwasm_protocol::message::{ErrorCode, Order, Request, RequestError, Response, Which};
use optwasm_protocol::token::{Claims, Role};
use optwasm_protocol::{BatchId, ContentId, JobId, Link, Namespace, Stream};
use optwasm_store::{Store, StoreError};
use tokio::task::spawn_local;

use crate::hub::{NotDone, QuotaError, RetryError, SubmitError, Waiter};
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
            SubmitError::Quota(error) => error.into(),
        }
    }
}

impl From<QuotaError> for Failure {
    fn from(error: QuotaError) -> Self {
        fail(ErrorCode::Quota, error.to_string())
    }
}

/// Who asks.
#[derive(Clone)]
struct Caller {
    role: Role,
    /// Whose batches and blobs are its own.
    namespace: Namespace,
}

impl Caller {
    /// The namespace beyond which it sees nothing; `None` for those who see all.
    fn scope(&self) -> Option<&Namespace> {
        match self.role {
            Role::Admin | Role::Worker => None,
            Role::Client | Role::Read => Some(&self.namespace),
        }
    }

    /// Whose the blobs are that it sends: those of workers are their jobs', which is known when these
    /// have ended.
    fn owner(&self) -> Option<&Namespace> {
        (self.role != Role::Worker).then_some(&self.namespace)
    }

    /// Whether a blob is there, as far as it may know.
    fn has_blob<S: Store>(&self, store: &S, id: &ContentId) -> bool {
        match self.owner() {
            Some(namespace) => store.owns_blob(namespace, id),
            None => store.has_blob(id),
        }
    }
}

/// The batch that a request is about, where it is about one.
fn batch_of(request: &Request) -> Option<BatchId> {
    match request {
        Request::Batch(batch)
        | Request::Watch(batch)
        | Request::Results { batch, .. }
        | Request::Cancel(batch)
        | Request::Retry { batch, .. }
        | Request::Remove(batch) => Some(*batch),
        Request::Explain(job) => Some(job.0),
        Request::Missing(_)
        | Request::PutBlob(..)
        | Request::GetBlob(_)
        | Request::Hold
        | Request::Submit { .. }
        | Request::Batches
        | Request::BatchesOf(_)
        | Request::Workers
        | Request::IssueToken(..)
        | Request::IssueTokenOf(..)
        | Request::Namespaces
        | Request::SetQuota(..)
        | Request::RevokeToken(_)
        | Request::Status
        | Request::Demand(_)
        | Request::DrainWorker(_)
        | Request::Drain
        | Request::Shutdown { .. } => None,
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

fn no_job(job: JobId) -> Failure {
    fail(ErrorCode::NotFound, format!("there is no job {job}"))
}

fn no_batch(batch: BatchId) -> Failure {
    fail(ErrorCode::NotFound, format!("there is no batch {batch}"))
}

/// Serves a client until it leaves.
pub(crate) async fn serve<S: Store>(coordinator: &Coordinator<S>, link: &Link, claims: Claims) {
    let caller = Caller {
        role: claims.role,
        namespace: match claims.role {
            Role::Client | Role::Read => claims.namespace.clone(),
            Role::Admin | Role::Worker => Namespace::default(),
        },
    };
    serve_streams(coordinator, link, caller, Some(claims)).await;
}

/// Serves the streams that a worker opens for blobs, until the link ends.
pub(crate) async fn serve_blobs<S: Store>(coordinator: &Coordinator<S>, link: &Link) -> String {
    let caller = Caller {
        role: Role::Worker,
        namespace: Namespace::default(),
    };
    serve_streams(coordinator, link, caller, None).await
}

async fn serve_streams<S: Store>(
    coordinator: &Coordinator<S>,
    link: &Link,
    caller: Caller,
    claims: Option<Claims>,
) -> String {
    loop {
        let stream = match link.accept().await {
            Ok(stream) => stream,
            Err(ended) => return ended.to_string(),
        };
        if claims
            .as_ref()
            .is_some_and(|claims| coordinator.is_void(claims))
        {
            link.close(CloseCode::Refused, "the token has expired or was revoked");
            return "its token is void".to_owned();
        }
        let coordinator = coordinator.clone();
        let link = link.clone();
        let caller = caller.clone();
        // As many at once as the transport lets a peer open.
        spawn_local(async move {
            let served = tokio::select! {
                served = serve_stream(&coordinator, &caller, stream) => served,
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
        // Large outputs are blobs; clients and readers get those that their namespace has.
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
        | Request::Namespaces
        | Request::Status
        | Request::Demand(_)
        | Request::Workers => role != Role::Worker,
        Request::IssueToken(..)
        | Request::IssueTokenOf(..)
        | Request::BatchesOf(_)
        | Request::SetQuota(..)
        | Request::RevokeToken(_)
        | Request::DrainWorker(_)
        | Request::Drain
        | Request::Shutdown { .. } => role == Role::Admin,
    }
}

async fn serve_stream<S: Store>(
    coordinator: &Coordinator<S>,
    caller: &Caller,
    mut stream: Stream,
) -> Result<(), FrameError> {
    let Some(request) = stream.reader.next::<Request>().await? else {
        return Ok(());
    };
    let role = caller.role;
    let hidden = batch_of(&request).filter(|batch| {
        let hub = coordinator.0.hub.borrow();
        !hub.sees(caller.scope(), *batch)
    });
    let result = if !allows(role, &request) {
        let message = format!("a token for the role `{role}` does not allow this");
        Err(fail(ErrorCode::Unauthorized, message))
    } else if let Some(batch) = hidden {
        // As if it did not exist.
        Err(match &request {
            Request::Explain(job) => no_job(*job),
            _ => no_batch(batch),
        })
    } else {
        answer(coordinator, caller, request, &mut stream).await
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
    caller: &Caller,
    request: Request,
    stream: &mut Stream,
) -> Result<(), Failure> {
    let inner = &coordinator.0;
    let response = match request {
        Request::Missing(ids) => {
            if ids.len() > IDS_MAX {
                return Err(fail(ErrorCode::Invalid, "too many ids"));
            }
            let missing = ids.into_iter();
            let missing = missing.filter(|id| !caller.has_blob(&*inner.store, id));
            Response::Missing(missing.collect())
        }
        Request::PutBlob(id, len) => return blobs::put(coordinator, caller, id, len, stream).await,
        Request::GetBlob(id) => return blobs::get(coordinator, caller, id, stream).await,
        Request::Hold => return holds::serve(coordinator, &caller.namespace, stream).await,
        Request::Submit { spec, wait } => {
            submit::submit(coordinator, &caller.namespace, *spec, wait, stream).await?
        }
        Request::Batch(batch) => {
            let status = inner.hub.borrow().status(batch);
            Response::Batch(Box::new(status.ok_or_else(|| no_batch(batch))?))
        }
        Request::Batches => {
            let batches = match caller.scope() {
                Some(namespace) => inner.store.batches_of(namespace, ENTRIES_MAX),
                None => inner.store.batches(ENTRIES_MAX),
            };
            let hub = inner.hub.borrow();
            let batches = batches.into_iter();
            Response::Batches(batches.filter_map(|batch| hub.status(batch)).collect())
        }
        Request::BatchesOf(namespace) => {
            let batches = inner.store.batches_of(&namespace, ENTRIES_MAX).into_iter();
            let hub = inner.hub.borrow();
            Response::Batches(batches.filter_map(|batch| hub.status(batch)).collect())
        }
        Request::Namespaces => {
            let hub = inner.hub.borrow();
            Response::Namespaces(match caller.scope() {
                Some(namespace) => vec![hub.namespace(namespace)],
                None => hub.namespaces(),
            })
        }
        Request::SetQuota(namespace, change) => {
            let waiter = inner
                .hub
                .borrow_mut()
                .set_quota(inner.now(), &namespace, change);
            safe(waiter).await?;
            Response::Done
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
                Err(RetryError::Quota(error)) => return Err(error.into()),
            };
            safe(waiter).await?;
            Response::Reopened(jobs)
        }
        Request::Remove(batch) => {
            remove(coordinator, batch).await?;
            Response::Done
        }
        Request::Explain(job) => {
            let explanation = inner.hub.borrow().explain(inner.now(), job);
            Response::Explained(Box::new(explanation.ok_or_else(|| no_job(job))?))
        }
        Request::Status => Response::Status(Box::new(coordinator.status(caller.scope()))),
        Request::Demand(offer) => {
            Response::Demand(inner.hub.borrow().demand(&offer, caller.scope()))
        }
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
            let mut workers = inner
                .hub
                .borrow()
                .worker_statuses(inner.now(), caller.scope());
            // One message holds as many as a person can read.
            workers.truncate(ENTRIES_MAX);
            Response::Workers(workers)
        }
        Request::IssueToken(role, seconds) => {
            issue(coordinator, Namespace::default(), role, seconds)?
        }
        Request::IssueTokenOf(namespace, role, seconds) => {
            if !matches!(role, Role::Client | Role::Read) {
                let message = format!("tokens for the role `{role}` are of no namespace");
                return Err(fail(ErrorCode::Invalid, message));
            }
            issue(coordinator, namespace, role, seconds)?
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

/// Issues a token that is valid for so many seconds, or for ever where that is 0.
fn issue<S: Store>(
    coordinator: &Coordinator<S>,
    namespace: Namespace,
    role: Role,
    seconds: u64,
) -> Result<Response, Failure> {
    let expires = match seconds {
        0 => 0,
        seconds => (now_ms() / 1000).saturating_add(seconds),
    };
    let inner = &coordinator.0;
    let token = inner
        .authority
        .issue_in(inner.fingerprint, role, expires, namespace);
    let token = token.map_err(|e| fail(ErrorCode::Storage, e.to_string()))?;
    Ok(Response::Token(token.expose()))
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

/// Forgets a batch. One whose last result can be read may not be closed yet: that is waited for.
async fn remove<S: Store>(coordinator: &Coordinator<S>, batch: BatchId) -> Result<(), Failure> {
    let inner = &coordinator.0;
    loop {
        let bell = inner.hub.borrow().bell(batch);
        let rung = bell.as_ref().map(|bell| bell.notified());
        let removed = inner.hub.borrow_mut().remove(inner.now(), batch);
        match removed.ok_or_else(|| no_batch(batch))? {
            Ok(waiter) => return safe(waiter).await,
            Err(NotDone) => {
                let status = inner.hub.borrow().status(batch);
                match rung {
                    Some(rung) if status.is_some_and(|status| status.is_done()) => rung.await,
                    _ => {
                        let message = format!("batch {batch} is not done: cancel it first");
                        return Err(fail(ErrorCode::Invalid, message));
                    }
                }
            }
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
