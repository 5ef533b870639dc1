//! Blobs on their way in and out.
//!
//! A blob passes through memory, whose size they share: who finds none waits, and who is so slow that
//! others would wait for ever is given up.

use std::cell::Cell;
use std::time::Duration;

use bytes::BytesMut;
use optwasm_protocol::message::{ErrorCode, Response};
use optwasm_protocol::{BLOB_MAX, ContentId, Stream};
use optwasm_store::Store;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::lanes::Lane;
use super::{Caller, Failure, fail};
use crate::Coordinator;

/// Bytes of blobs that are in memory at once, on their way in or out; what comes beyond waits.
const MEMORY: u64 = 4 << 30;
/// How slowly a blob or a batch's inputs may travel before they are given up, so that nobody keeps
/// that memory: in bytes a second, and a time that any may take.
const RATE: u64 = 64 << 10;
const TIME: Duration = Duration::from_secs(60);
/// Gives a blob out.
pub(super) async fn get<S: Store>(
    coordinator: &Coordinator<S>,
    caller: &Caller,
    id: ContentId,
    stream: &mut Stream,
) -> Result<(), Failure> {
    let inner = &coordinator.0;
    let missing = || fail(ErrorCode::NotFound, format!("there is no blob {id}"));
    // Who only knows its name has never had it.
    if let Some(namespace) = caller.scope()
        && !inner.store.owns_blob(namespace, &id)
    {
        return Err(missing());
    }
    let lane = caller.scope().map(|namespace| inner.lanes.of(namespace));
    let lane = lane.as_deref();
    // Of those of a namespace that wait for memory, one has been read.
    let reading = lane.map_or(&inner.reading, |lane| &lane.reading);
    let turn = reading.acquire().await;
    let Some(bytes) = inner.store.get_blob(id).await? else {
        return Err(missing());
    };
    let len = bytes.len() as u64;
    let _own = take_turn(lane, len).await;
    let _memory = inner.blobs.acquire_many(permits(len)).await;
    drop(turn);
    stream.writer.push(&Response::Blob(len))?;
    let sent = stream.writer.send_body(&bytes);
    match tokio::time::timeout(time_for(len), sent).await {
        Ok(sent) => Ok(sent?),
        Err(_) => Err(fail(ErrorCode::Invalid, "it was read too slowly")),
    }
}

/// Takes a blob in.
pub(super) async fn put<S: Store>(
    coordinator: &Coordinator<S>,
    caller: &Caller,
    id: ContentId,
    len: u64,
    stream: &mut Stream,
) -> Result<(), Failure> {
    if len > BLOB_MAX {
        let message = format!("a blob of {len} bytes is too large; the limit is {BLOB_MAX}");
        return Err(fail(ErrorCode::Invalid, message));
    }
    let inner = &coordinator.0;
    if caller.has_blob(&*inner.store, &id) {
        return Ok(stream.writer.send(&Response::Done).await?);
    }
    // Before anything of it is taken in.
    let incoming = &coordinator.0.incoming;
    let room = coordinator.0.store.room().saturating_sub(incoming.get());
    if len > room {
        let message = format!("a blob of {len} bytes does not fit: there is room for {room}");
        return Err(fail(ErrorCode::Storage, message));
    }
    let owner = caller.owner();
    let lane = owner.map(|namespace| inner.lanes.of(namespace));
    if let (Some(namespace), Some(lane)) = (owner, &lane) {
        let bytes = len.saturating_add(lane.uploading.get());
        inner.hub.borrow().check_quota(namespace, 0, bytes)?;
    }
    let lane = lane.as_deref();
    let _uploading = lane.map(|lane| Reserved::new(&lane.uploading, len));
    let _own = take_turn(lane, len).await;
    let _reserved = Reserved::new(incoming, len);
    let _memory = coordinator.0.blobs.acquire_many(permits(len)).await;
    stream.writer.send(&Response::Go).await?;
    // Grows with what arrives, not with what was announced.
    let mut bytes = BytesMut::new();
    let read = stream
        .reader
        .read_body(len, |piece| bytes.extend_from_slice(piece));
    match tokio::time::timeout(time_for(len), read).await {
        Ok(read) => read?,
        Err(_) => return Err(fail(ErrorCode::Invalid, "it was sent too slowly")),
    }
    let (store, bytes) = (&coordinator.0.store, bytes.freeze());
    match owner {
        Some(namespace) => store.upload_blob(namespace, id, bytes).await?,
        None => store.put_blob(id, bytes).await?,
    }
    Ok(stream.writer.send(&Response::Done).await?)
}

/// Memory for blobs, in pieces of which a semaphore can count enough.
const PIECE: u64 = 64 << 10;

/// A semaphore of the memory for blobs on their way.
pub(crate) fn memory() -> Semaphore {
    Semaphore::new((MEMORY / PIECE) as usize)
}

/// A semaphore of the part of it that one namespace may have: half, and room for the largest blob.
pub(super) fn half_of_memory() -> Semaphore {
    Semaphore::new((MEMORY / 2 / PIECE) as usize + 1)
}

/// Waits until a namespace may have so many bytes in memory.
async fn take_turn(lane: Option<&Lane>, len: u64) -> Option<SemaphorePermit<'_>> {
    // Nobody closes it.
    lane?.blobs.acquire_many(permits(len)).await.ok()
}

fn permits(len: u64) -> u32 {
    // A blob has at most 2 GiB, which is half of what there is.
    (len.min(BLOB_MAX) / PIECE + 1) as u32
}

pub(super) fn time_for(len: u64) -> Duration {
    TIME + Duration::from_secs(len / RATE)
}

/// Bytes that are counted as long as this lives.
pub(super) struct Reserved<'a> {
    incoming: &'a Cell<u64>,
    pub(super) bytes: u64,
}

impl<'a> Reserved<'a> {
    pub(super) fn new(incoming: &'a Cell<u64>, bytes: u64) -> Self {
        incoming.set(incoming.get() + bytes);
        Self { incoming, bytes }
    }

    pub(super) fn grow(&mut self, bytes: u64) {
        self.incoming.set(self.incoming.get() + bytes);
        self.bytes += bytes;
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.incoming.set(self.incoming.get() - self.bytes);
    }
}
