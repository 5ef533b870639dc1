//! One client's connection: a stream for each request.

use std::cell::Cell;
use std::time::Duration;

use bytes::BytesMut;
use optwasm_protocol::frame::{FrameError, SOFT_FRAME};
use optwasm_protocol::job::Template;
use optwasm_protocol::link::{CloseCode, Reader};
use optwasm_protocol::message::{
    BatchSpec, ErrorCode, Order, Request, RequestError, Response, SubmitPart, Which,
};
use optwasm_protocol::token::{Claims, Role};
use optwasm_protocol::{
    BLOB_MAX, BatchId, ContentId, INLINE_MAX, JOBS_MAX, Link, Outcome, Payload, Stream,
};
use optwasm_store::{Store, StoreError};
use tokio::sync::Semaphore;
use tokio::task::spawn_local;

use crate::hub::{NotDone, RetryError, SubmitError, Waiter};
use crate::{Coordinator, now_ms};

/// How often a watcher hears of changes, at most.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// How often a watcher hears when nothing changes.
const WATCH_IDLE: Duration = Duration::from_secs(1);
/// How long the last words of a coordinator may take to arrive.
const FAREWELL: Duration = Duration::from_millis(50);
/// Inputs of all submissions together that are in memory and not stored yet; a submission beyond it
/// is read no further until others are stored.
const SUBMITTING_MAX: u64 = 1 << 30;
/// How long a submission may send nothing before it is given up.
const SUBMIT_SILENCE: Duration = Duration::from_secs(60);
/// Bytes of blobs that are in memory at once, on their way in or out; what comes beyond waits.
const BLOBS_MAX: u64 = 4 << 30;
/// How slowly a blob may travel before it is given up, so that nobody keeps that memory: in bytes a
/// second, and a time that any may take.
const BLOB_RATE: u64 = 64 << 10;
const BLOB_TIME: Duration = Duration::from_secs(60);
/// Most retries: each leaves a line in the job's history, which fits a message.
const RETRIES_MAX: u32 = 1000;
/// Ids in one request.
const IDS_MAX: usize = 10_000;
/// What an input occupies beside its bytes, generously: as the store counts it.
const INPUT_OVERHEAD: u64 = 256;
/// Most workers that can be asked to agree: beyond it, cost grows and certainty does not.
const VERIFY_MAX: u32 = 5;
/// Longest name of a batch: a thousand of them travel in one message.
const NAME_MAX: usize = 256;
/// Longest text anywhere in a batch's description, and most entries of any list in it.
const TEXT_MAX: usize = 64 * 1024;
const ENTRIES_MAX: usize = 1024;
/// Largest log that a job may keep: it travels inside one message with the rest of its report.
const LOG_MAX: u64 = 1 << 20;

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
        Request::Submit { .. }
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
        Request::PutBlob(id, len) => return put_blob(coordinator, id, len, stream).await,
        Request::GetBlob(id) => {
            // Of those that wait for memory, one has been read.
            let turn = inner.reading.acquire().await;
            let Some(bytes) = inner.store.get_blob(id).await? else {
                return Err(fail(ErrorCode::NotFound, format!("there is no blob {id}")));
            };
            let _memory = inner
                .blobs
                .acquire_many(blob_permits(bytes.len() as u64))
                .await;
            drop(turn);
            stream.writer.push(&Response::Blob(bytes.len() as u64))?;
            let sent = stream.writer.send_body(&bytes);
            return match tokio::time::timeout(blob_time(bytes.len() as u64), sent).await {
                Ok(sent) => Ok(sent?),
                Err(_) => Err(fail(ErrorCode::Invalid, "it was read too slowly")),
            };
        }
        Request::Submit { spec, wait } => submit(coordinator, *spec, wait, stream).await?,
        Request::Batch(batch) => {
            let status = inner.hub.borrow().status(batch);
            Response::Batch(Box::new(status.ok_or_else(|| no_batch(batch))?))
        }
        Request::Batches => {
            let hub = inner.hub.borrow();
            let batches = inner.store.batches(ENTRIES_MAX).into_iter();
            Response::Batches(batches.filter_map(|batch| hub.status(batch)).collect())
        }
        Request::Watch(batch) => return watch(coordinator, batch, stream).await,
        Request::Results {
            batch,
            order,
            cursor,
            follow,
        } => {
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

async fn put_blob<S: Store>(
    coordinator: &Coordinator<S>,
    id: ContentId,
    len: u64,
    stream: &mut Stream,
) -> Result<(), Failure> {
    if len > BLOB_MAX {
        let message = format!("a blob of {len} bytes is too large; the limit is {BLOB_MAX}");
        return Err(fail(ErrorCode::Invalid, message));
    }
    if coordinator.0.store.has_blob(&id) {
        return Ok(stream.writer.send(&Response::Done).await?);
    }
    // Before anything of it is taken in.
    let incoming = &coordinator.0.incoming;
    let room = coordinator.0.store.room().saturating_sub(incoming.get());
    if len > room {
        let message = format!("a blob of {len} bytes does not fit: there is room for {room}");
        return Err(fail(ErrorCode::Storage, message));
    }
    let _reserved = Reserved::new(incoming, len);
    let _memory = coordinator.0.blobs.acquire_many(blob_permits(len)).await;
    stream.writer.send(&Response::Go).await?;
    // Grows with what arrives, not with what was announced.
    let mut bytes = BytesMut::new();
    let read = stream
        .reader
        .read_body(len, |piece| bytes.extend_from_slice(piece));
    match tokio::time::timeout(blob_time(len), read).await {
        Ok(read) => read?,
        Err(_) => return Err(fail(ErrorCode::Invalid, "it was sent too slowly")),
    }
    coordinator.0.store.put_blob(id, bytes.freeze()).await?;
    Ok(stream.writer.send(&Response::Done).await?)
}

/// Memory for blobs, in pieces of which a semaphore can count enough.
const BLOB_PIECE: u64 = 64 << 10;

/// A semaphore of the memory for blobs on their way.
pub(crate) fn blob_memory() -> Semaphore {
    Semaphore::new((BLOBS_MAX / BLOB_PIECE) as usize)
}

fn blob_permits(len: u64) -> u32 {
    // A blob has at most 2 GiB, which is half of what there is.
    (len.min(BLOB_MAX) / BLOB_PIECE + 1) as u32
}

fn blob_time(len: u64) -> Duration {
    BLOB_TIME + Duration::from_secs(len / BLOB_RATE)
}

/// Room that a blob on its way will take.
struct Reserved<'a> {
    incoming: &'a Cell<u64>,
    bytes: u64,
}

impl<'a> Reserved<'a> {
    fn new(incoming: &'a Cell<u64>, bytes: u64) -> Self {
        incoming.set(incoming.get() + bytes);
        Self { incoming, bytes }
    }

    fn grow(&mut self, bytes: u64) {
        self.incoming.set(self.incoming.get() + bytes);
        self.bytes += bytes;
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.incoming.set(self.incoming.get() - self.bytes);
    }
}

/// Whether a batch's description is within reason, in words where it is not.
fn check(spec: &BatchSpec) -> Result<(), String> {
    let Template {
        args,
        env,
        blobs,
        limits,
        ..
    } = &spec.template;
    let entries = args.len() + env.len() + blobs.len() + spec.require.len();
    if entries > ENTRIES_MAX {
        return Err(format!(
            "more than {ENTRIES_MAX} arguments, variables, blobs and labels"
        ));
    }
    let pairs = env.iter().map(|(k, v)| k.len() + v.len());
    let labels = spec.require.iter().map(|(k, v)| k.len() + v.len());
    let text: usize = pairs.chain(labels).sum::<usize>()
        + args.iter().map(String::len).sum::<usize>()
        + blobs.iter().map(|(name, _)| name.len()).sum::<usize>()
        + spec.name.len();
    if spec.name.len() > NAME_MAX {
        return Err(format!("a name of more than {NAME_MAX} bytes"));
    }
    if text > TEXT_MAX {
        return Err(format!(
            "more than {TEXT_MAX} bytes of arguments and variables"
        ));
    }
    let nul = args.iter().chain(env.iter().flat_map(|(k, v)| [k, v]));
    if nul.into_iter().any(|text| text.contains('\0')) {
        return Err("an argument or variable holds a NUL character".to_owned());
    }
    if env
        .iter()
        .any(|(key, _)| key.is_empty() || key.contains('='))
    {
        return Err("a variable's name is empty or holds `=`".to_owned());
    }
    if limits.log > LOG_MAX {
        return Err(format!(
            "a log of {} bytes; the limit is {LOG_MAX}",
            limits.log
        ));
    }
    if limits.output > BLOB_MAX {
        return Err(format!(
            "an output of {} bytes; the limit is {BLOB_MAX}",
            limits.output
        ));
    }
    if spec
        .id
        .as_ref()
        .is_some_and(|id| id.is_empty() || id.len() > NAME_MAX)
    {
        return Err(format!("an id has 1 to {NAME_MAX} bytes"));
    }
    if !(1..=VERIFY_MAX).contains(&spec.verify) {
        return Err(format!("1 to {VERIFY_MAX} workers can be asked to agree"));
    }
    if let Some(name) = spec
        .retry_on
        .iter()
        .find(|name| !Outcome::NAMES.contains(&name.as_str()))
    {
        return Err(format!("no outcome is called `{name}`"));
    }
    if spec.retry_on.iter().any(|name| name == "ok") {
        return Err("what has succeeded is not tried again".to_owned());
    }
    if spec.retries > RETRIES_MAX {
        return Err(format!("more than {RETRIES_MAX} retries"));
    }
    if limits.fuel == 0 || limits.deadline_ms == 0 {
        return Err("a limit of 0 fuel or 0 ms lets nothing run".to_owned());
    }
    Ok(())
}

/// Waits until so many more jobs may be queued, where the client wants to wait.
async fn queue_room<S: Store>(
    coordinator: &Coordinator<S>,
    jobs: u64,
    wait: bool,
) -> Result<(), Failure> {
    let inner = &coordinator.0;
    loop {
        let room = inner.room.notified();
        if inner.hub.borrow().has_room_for(jobs) {
            return Ok(());
        }
        if !wait {
            let waiting = inner.hub.borrow().coordinator_status().waiting;
            let message = format!("{waiting} jobs are queued already; try again later");
            return Err(fail(ErrorCode::Busy, message));
        }
        room.await;
    }
}

async fn submit<S: Store>(
    coordinator: &Coordinator<S>,
    spec: BatchSpec,
    wait: bool,
    stream: &mut Stream,
) -> Result<Response, Failure> {
    check(&spec).map_err(|why| fail(ErrorCode::Invalid, why))?;
    let inner = &coordinator.0;
    let store = &inner.store;
    // What is known already takes no room.
    let known = inner.hub.borrow().knows(&spec);
    // Nothing is read of what would have to wait.
    if !known {
        queue_room(coordinator, 1, wait).await?;
    }
    let mut inputs: Vec<Payload> = Vec::new();
    let mut held = Reserved::new(&inner.submitting, 0);
    loop {
        while inner.submitting.get() > SUBMITTING_MAX && held.bytes < inner.submitting.get() / 2 {
            inner.room.notified().await;
        }
        let part = tokio::time::timeout(SUBMIT_SILENCE, stream.reader.expect()).await;
        let Ok(part) = part else {
            return Err(fail(ErrorCode::Invalid, "nothing more of it came"));
        };
        let SubmitPart::Inputs(more) = part? else {
            break;
        };
        let mut bytes = 0;
        for input in &more {
            match input {
                Payload::Inline(bytes) if bytes.len() > INLINE_MAX => {
                    return Err(fail(ErrorCode::Invalid, "an inline input is too large"));
                }
                Payload::Blob(_, id) if !store.has_blob(id) => {
                    let message = format!("the input {id} was not uploaded");
                    return Err(fail(ErrorCode::NotFound, message));
                }
                Payload::Inline(inline) => bytes += inline.len() as u64,
                Payload::Blob(..) => {}
            }
            bytes += INPUT_OVERHEAD;
        }
        held.grow(bytes);
        if held.bytes > SUBMITTING_MAX {
            let message = format!(
                "the inputs of one batch take more than {} MiB: submit several, or put large ones \
                 as blobs",
                SUBMITTING_MAX >> 20
            );
            return Err(fail(ErrorCode::Invalid, message));
        }
        if !known && held.bytes > store.room() {
            let why = store.health().refusing;
            let message = why.unwrap_or_else(|| {
                let room = store.room();
                format!("the inputs do not fit: there is room for {room} bytes")
            });
            return Err(fail(ErrorCode::Storage, message));
        }
        inputs.extend(more);
        if inputs.len() > JOBS_MAX as usize {
            let message = format!("more than {JOBS_MAX} jobs");
            return Err(fail(ErrorCode::Invalid, message));
        }
    }
    if inputs.is_empty() {
        return Err(fail(ErrorCode::Invalid, "a batch without jobs"));
    }
    if !known {
        queue_room(coordinator, inputs.len() as u64, wait).await?;
    }
    let template = &spec.template;
    let shared = template.blobs.iter().map(|(_, id)| id);
    for id in shared.chain([&template.module]) {
        if !store.has_blob(id) {
            return Err(fail(
                ErrorCode::NotFound,
                format!("the blob {id} was not uploaded"),
            ));
        }
    }
    // While this submission was on its way, others may have taken the place of one that was here.
    for input in &inputs {
        if let Payload::Blob(_, id) = input
            && !store.has_blob(id)
        {
            let message = format!("the input {id} was dropped for want of room");
            return Err(fail(ErrorCode::Storage, message));
        }
    }
    inputs.shrink_to_fit();
    let submitted = inner.hub.borrow_mut().submit(inner.now(), spec, inputs);
    let (batch, waiter) = submitted?;
    safe(waiter).await?;
    Ok(Response::Submitted(batch))
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

/// Resolves when the client has dropped its end of a stream on which it has nothing more to say.
async fn abandoned(reader: &mut Reader) {
    // A message where none belongs ends the stream too.
    let _ = reader.next::<Request>().await;
}
