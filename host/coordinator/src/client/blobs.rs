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
use tokio::sync::Semaphore;

use super::{Failure, fail};
use crate::Coordinator;

/// Bytes of blobs that are in memory at once, on their way in or out; what comes beyond waits.
const MEMORY: u64 = 4 << 30;
/// How slowly a blob may travel before it is given up, so that nobody keeps that memory: in bytes a
/// second, and a time that any may take.
const RATE: u64 = 64 << 10;
const TIME: Duration = Duration::from_secs(60);
/// Gives a blob out.
pub(super) async fn get<S: Store>(
    coordinator: &Coordinator<S>,
    id: ContentId,
    stream: &mut Stream,
) -> Result<(), Failure> {
    let inner = &coordinator.0;
    // Of those that wait for memory, one has been read.
    let turn = inner.reading.acquire().await;
    let Some(bytes) = inner.store.get_blob(id).await? else {
        return Err(fail(ErrorCode::NotFound, format!("there is no blob {id}")));
    };
    let len = bytes.len() as u64;
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
    coordinator.0.store.put_blob(id, bytes.freeze()).await?;
    Ok(stream.writer.send(&Response::Done).await?)
}

/// Memory for blobs, in pieces of which a semaphore can count enough.
const PIECE: u64 = 64 << 10;

/// A semaphore of the memory for blobs on their way.
pub(crate) fn memory() -> Semaphore {
    Semaphore::new((MEMORY / PIECE) as usize)
}

fn permits(len: u64) -> u32 {
    // A blob has at most 2 GiB, which is half of what there is.
    (len.min(BLOB_MAX) / PIECE + 1) as u32
}

fn time_for(len: u64) -> Duration {
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
