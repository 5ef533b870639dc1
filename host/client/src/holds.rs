//! Blobs that a client has pushed and holds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use optwasm_protocol::message::{ErrorCode, HoldChange, Request};
use optwasm_protocol::{ContentId, Link, Stream};
use tokio::sync::Mutex as AsyncMutex;

use crate::{Client, ClientError, Response, response};

/// How often a blob is put again that was dropped between being put and being held: each time
/// somebody else has to release it just then.
const PUTS: usize = 3;

/// Blobs on a coordinator that stay until they are removed, or this is dropped.
///
/// When the connection is made again, they are held on the new one. What is not held for longer than
/// [`ATTACHED_GRACE`](optwasm_protocol::ATTACHED_GRACE), because nothing was asked of a client whose
/// connection was lost, is gone.
pub struct Holds<'a> {
    client: &'a Client,
    held: Arc<Held>,
    dropped: Arc<Mutex<Vec<ContentId>>>,
}

/// What is held on the coordinator.
pub(crate) struct Held {
    stream: AsyncMutex<Option<Stream>>,
    /// What the coordinator is to hold, and how often; what handles that were dropped leave behind
    /// is in `dropped`.
    counts: Mutex<BTreeMap<ContentId, u32>>,
}

/// A blob that was pushed: its content, once on the coordinator, and once on each worker that runs
/// a job with it, those that come later too.
///
/// Pushing the same bytes twice gives two handles to one blob, which stays until both are removed
/// or dropped. Batches that name it keep it as well, until they are removed.
#[derive(Debug)]
pub struct Pushed {
    id: ContentId,
    len: u64,
    removed: bool,
    dropped: Arc<Mutex<Vec<ContentId>>>,
}

impl Pushed {
    /// Its name, for [`Template::blobs`](crate::Template::blobs).
    ///
    /// # Errors
    ///
    /// [`ClientError::Removed`] after it was removed.
    pub fn id(&self) -> Result<ContentId, ClientError> {
        if self.removed {
            return Err(ClientError::Removed(self.id));
        }
        Ok(self.id)
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Drop for Pushed {
    fn drop(&mut self) {
        if !self.removed {
            let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
            dropped.push(self.id);
        }
    }
}

impl<'a> Holds<'a> {
    pub(crate) fn new(client: &'a Client) -> Self {
        let held = Arc::new(Held {
            stream: AsyncMutex::new(None),
            counts: Mutex::default(),
        });
        client.connection.hold_again(Arc::downgrade(&held));
        Self {
            client,
            held,
            dropped: Arc::default(),
        }
    }

    /// Pushes a blob.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn push(&self, bytes: Bytes) -> Result<Pushed, ClientError> {
        self.sweep().await?;
        let len = bytes.len() as u64;
        let mut puts = 0;
        loop {
            puts += 1;
            let id = self.client.put_blob(bytes.clone()).await?;
            match self.change(HoldChange::Add(id)).await {
                Ok(()) => {
                    *self.held.counts().entry(id).or_default() += 1;
                    return Ok(Pushed {
                        id,
                        len,
                        removed: false,
                        dropped: self.dropped.clone(),
                    });
                }
                Err(ClientError::Request(error))
                    if error.code == ErrorCode::NotFound && puts < PUTS => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes a blob: it stays only for others who pushed the same, and for batches that name it.
    /// Doing so twice does no harm.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn remove(&self, pushed: &mut Pushed) -> Result<(), ClientError> {
        if std::mem::replace(&mut pushed.removed, true) {
            return Ok(());
        }
        self.sweep().await?;
        self.release(pushed.id).await
    }

    /// Removes what dropped handles have left behind; the next push or removal does it too.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn sweep(&self) -> Result<(), ClientError> {
        loop {
            let next = {
                let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
                dropped.pop()
            };
            match next {
                Some(id) => self.release(id).await?,
                None => return Ok(()),
            }
        }
    }

    /// Removes all.
    ///
    /// # Errors
    ///
    /// [`ClientError`] where the coordinator does not hear of it; it notices then that this client
    /// has gone.
    pub async fn close(self) -> Result<(), ClientError> {
        let Some(mut stream) = self.held.stream.lock().await.take() else {
            return Ok(());
        };
        stream.writer.finish().await?;
        // Its end says that all is done.
        while stream.reader.next::<Response>().await?.is_some() {}
        Ok(())
    }

    async fn release(&self, id: ContentId) -> Result<(), ClientError> {
        {
            let mut held = self.held.counts();
            if let Some(count) = held.get_mut(&id) {
                *count -= 1;
                if *count == 0 {
                    held.remove(&id);
                }
            }
        }
        self.change(HoldChange::Drop(id)).await
    }

    /// Asks for a change. On a new connection all that was held before is asked for first.
    async fn change(&self, change: HoldChange) -> Result<(), ClientError> {
        let mut stream = self.held.stream.lock().await;
        let before = self.held.counts().clone();
        let ask = async |link: Link| {
            let mut is_new = false;
            let mut open = match stream.take() {
                Some(open) => open,
                None => {
                    is_new = true;
                    open(&link, &before).await?
                }
            };
            // A new stream holds what is wanted after a removal already.
            let mut done = Ok(());
            if !(is_new && matches!(change, HoldChange::Drop(_))) {
                done = exchange(&mut open, change).await;
            }
            if !matches!(done, Err(ClientError::Lost(_))) {
                *stream = Some(open);
            }
            done
        };
        self.client.connection.patiently(ask).await
    }
}

impl Held {
    fn counts(&self) -> std::sync::MutexGuard<'_, BTreeMap<ContentId, u32>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds on a new connection what was held on the one before.
    pub(crate) async fn again(&self, link: &Link) {
        // Whoever has the stream finds that it is lost, and does this.
        let Ok(mut stream) = self.stream.try_lock() else {
            return;
        };
        if stream.is_some() {
            let held = self.counts().clone();
            // Where this connection is lost too, the next one is asked.
            *stream = open(link, &held).await.ok();
        }
    }
}

/// A stream on which these are held, but for those that are gone: whoever uses one hears of it.
async fn open(link: &Link, held: &BTreeMap<ContentId, u32>) -> Result<Stream, ClientError> {
    let mut stream = link.open().await?;
    stream.writer.send(&Request::Hold).await?;
    response(&mut stream).await?;
    for (id, count) in held {
        for _ in 0..*count {
            match exchange(&mut stream, HoldChange::Add(*id)).await {
                Err(ClientError::Request(error)) if error.code == ErrorCode::NotFound => break,
                held => held?,
            }
        }
    }
    Ok(stream)
}

async fn exchange(stream: &mut Stream, change: HoldChange) -> Result<(), ClientError> {
    stream.writer.send(&change).await?;
    match response(stream).await? {
        Response::Done => Ok(()),
        _ => Err(ClientError::Unexpected),
    }
}
