//! A submitted batch.

use std::collections::VecDeque;

use optwasm_protocol::message::{BatchStatus, Order, Request, Response};
use optwasm_protocol::{BatchId, Report, Stream};

use crate::{Client, ClientError, response};

/// A batch on a coordinator.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    pub(crate) client: &'a Client,
    pub(crate) id: BatchId,
}

impl<'a> Batch<'a> {
    /// Its number, by which another client finds it again.
    pub fn id(&self) -> BatchId {
        self.id
    }

    /// What is known of it now.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn status(&self) -> Result<BatchStatus, ClientError> {
        match self.client.request(&Request::Batch(self.id)).await?.0 {
            Response::Batch(status) => Ok(*status),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Follows it: see [`Watch::next`].
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn watch(&self) -> Result<Watch, ClientError> {
        let mut stream = self.client.link.open().await?;
        stream.writer.send(&Request::Watch(self.id)).await?;
        Ok(Watch { stream })
    }

    /// Waits until every job has ended.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn wait(&self) -> Result<BatchStatus, ClientError> {
        let mut watch = self.watch().await?;
        loop {
            match watch.next().await? {
                Some(status) if status.is_done() => return Ok(status),
                Some(_) => {}
                None => return self.status().await,
            }
        }
    }

    /// Its results, as they come, in `order`.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn results(&self, order: Order) -> Result<Results, ClientError> {
        self.read(order, true).await
    }

    /// The results that exist now, in `order`; in that of the inputs, up to the first job that has
    /// not ended.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn results_so_far(&self, order: Order) -> Result<Results, ClientError> {
        self.read(order, false).await
    }

    async fn read(&self, order: Order, follow: bool) -> Result<Results, ClientError> {
        let request = Request::Results {
            batch: self.id,
            order,
            cursor: 0,
            follow,
        };
        let mut stream = self.client.link.open().await?;
        stream.writer.send(&request).await?;
        Ok(Results {
            stream,
            ready: VecDeque::new(),
            last: false,
        })
    }

    /// Ends all its unfinished jobs.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn cancel(&self) -> Result<(), ClientError> {
        self.client.done(&Request::Cancel(self.id)).await
    }

    /// Forgets it and its results; it must have ended.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn remove(&self) -> Result<(), ClientError> {
        self.client.done(&Request::Remove(self.id)).await
    }
}

/// Follows a batch.
pub struct Watch {
    stream: Stream,
}

impl Watch {
    /// The next state of the batch: at once, then about every 100 ms while it changes and every
    /// second while it does not, and last when it is done.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn next(&mut self) -> Result<Option<BatchStatus>, ClientError> {
        match self.stream.reader.next::<Response>().await? {
            Some(Response::Batch(status)) => Ok(Some(*status)),
            Some(Response::Error(error)) => Err(error.into()),
            Some(_) => Err(ClientError::Unexpected),
            None => Ok(None),
        }
    }
}

/// Results of a batch.
pub struct Results {
    stream: Stream,
    ready: VecDeque<(u32, Report)>,
    last: bool,
}

impl Results {
    /// The next result: its place among the inputs, and how it ended. `None` after the last.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn next(&mut self) -> Result<Option<(u32, Report)>, ClientError> {
        loop {
            if let Some(result) = self.ready.pop_front() {
                return Ok(Some(result));
            }
            if self.last {
                return Ok(None);
            }
            match response(&mut self.stream).await? {
                Response::Results(page) => {
                    self.last = page.last || page.results.is_empty();
                    self.ready = page.results.into();
                }
                _ => return Err(ClientError::Unexpected),
            }
        }
    }
}
