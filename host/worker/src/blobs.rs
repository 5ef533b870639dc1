//! Blobs that a worker has fetched: each is asked for once and kept while there is room.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use optwasm_protocol::message::{Request, Response};
use optwasm_protocol::{BLOB_MAX, ContentId, Link};
use tokio::sync::OnceCell;

/// Why a blob could not be had.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum BlobError {
    /// The coordinator does not have it, or did not send it whole.
    #[error("blob {0:?}: {1}")]
    Unavailable(ContentId, String),
}

/// Blobs that were fetched or made here.
#[derive(Clone)]
pub struct BlobCache(Rc<RefCell<State>>);

struct State {
    limit: u64,
    used: u64,
    clock: u64,
    entries: HashMap<ContentId, Entry>,
}

struct Entry {
    /// Empty while the blob is on its way, for all who want it together.
    bytes: Rc<OnceCell<Bytes>>,
    touched: u64,
}

impl BlobCache {
    /// A cache that keeps up to `limit` bytes, and what is in use beyond.
    pub fn new(limit: u64) -> Self {
        Self(Rc::new(RefCell::new(State {
            limit,
            used: 0,
            clock: 0,
            entries: HashMap::new(),
        })))
    }

    /// The blob `id`, from here or from the coordinator.
    pub(crate) async fn get(&self, link: &Link, id: ContentId) -> Result<Bytes, BlobError> {
        let cell = {
            let mut state = self.0.borrow_mut();
            state.clock += 1;
            let clock = state.clock;
            let entry = state.entries.entry(id).or_insert_with(|| Entry {
                bytes: Rc::default(),
                touched: clock,
            });
            entry.touched = clock;
            entry.bytes.clone()
        };
        let fetched = !cell.initialized();
        let bytes = cell.get_or_try_init(|| fetch(link, id)).await?.clone();
        if fetched {
            self.0.borrow_mut().keep(id);
        }
        Ok(bytes)
    }
}

impl State {
    /// Counts a blob that has arrived, and drops the longest unused ones beyond the limit.
    fn keep(&mut self, id: ContentId) {
        let size = |entry: &Entry| entry.bytes.get().map_or(0, |bytes| bytes.len() as u64);
        self.used = self.entries.values().map(size).sum();
        while self.used > self.limit {
            let others = self
                .entries
                .iter()
                .filter(|(other, entry)| **other != id && entry.bytes.initialized());
            let Some((&oldest, _)) = others.min_by_key(|(_, entry)| entry.touched) else {
                break;
            };
            if let Some(entry) = self.entries.remove(&oldest) {
                self.used -= size(&entry);
            }
        }
    }
}

async fn fetch(link: &Link, id: ContentId) -> Result<Bytes, BlobError> {
    let unavailable = |why: String| BlobError::Unavailable(id, why);
    let mut stream = link.open().await.map_err(|e| unavailable(e.to_string()))?;
    let exchange = async {
        stream.writer.send(&Request::GetBlob(id)).await?;
        stream.reader.expect::<Response>().await
    };
    let len = match exchange.await.map_err(|e| unavailable(e.to_string()))? {
        Response::Blob(len) if len <= BLOB_MAX => len,
        Response::Error(error) => return Err(unavailable(error.message)),
        _ => return Err(unavailable("an unexpected answer".to_owned())),
    };
    let mut bytes = BytesMut::new();
    let mut hasher = blake3::Hasher::new();
    stream
        .reader
        .read_body(len, |piece| {
            hasher.update(piece);
            bytes.extend_from_slice(piece);
        })
        .await
        .map_err(|error| unavailable(error.to_string()))?;
    if hasher.finalize() != blake3::Hash::from_bytes(*id.as_bytes()) {
        return Err(unavailable("the bytes do not have that hash".to_owned()));
    }
    Ok(bytes.freeze())
}

/// Gives a blob to the coordinator.
pub(crate) async fn upload(link: &Link, id: ContentId, bytes: &Bytes) -> Result<(), BlobError> {
    let unavailable = |why: String| BlobError::Unavailable(id, why);
    let broken = |error: optwasm_protocol::frame::FrameError| unavailable(error.to_string());
    let mut stream = link.open().await.map_err(|e| unavailable(e.to_string()))?;
    let put = Request::PutBlob(id, bytes.len() as u64);
    stream.writer.send(&put).await.map_err(broken)?;
    let mut response = stream.reader.expect::<Response>().await.map_err(broken)?;
    if matches!(response, Response::Go) {
        stream.writer.send_body(bytes).await.map_err(broken)?;
        response = stream.reader.expect::<Response>().await.map_err(broken)?;
    }
    match response {
        Response::Done => Ok(()),
        Response::Error(error) => Err(unavailable(error.message)),
        _ => Err(unavailable("an unexpected answer".to_owned())),
    }
}
