//! Blobs that a worker has fetched: each is asked for once and kept while there is room.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use bytes::Bytes;
use optwasm_protocol::transfer::{TransferError, fetch};
use optwasm_protocol::{ContentId, Link};
use tokio::sync::OnceCell;

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

    /// Drops blobs that nobody needs any more; jobs that have them keep them.
    pub(crate) fn discard(&self, ids: &[ContentId]) {
        let mut state = self.0.borrow_mut();
        for id in ids {
            let gone = state.entries.remove(id);
            let size = gone.and_then(|entry| entry.bytes.get().map(|bytes| bytes.len() as u64));
            state.used -= size.unwrap_or(0).min(state.used);
        }
    }

    /// The blob `id`, from here or from the coordinator.
    pub(crate) async fn get(&self, link: &Link, id: ContentId) -> Result<Bytes, TransferError> {
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
        let fetching = || async {
            let bytes = fetch(link, id).await?;
            tracing::info!("fetched blob {id}: {} bytes", bytes.len());
            Ok::<_, TransferError>(bytes)
        };
        let bytes = cell.get_or_try_init(fetching).await?.clone();
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
