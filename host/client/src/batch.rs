//! A submitted batch.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use optwasm_protocol::frame::FrameError;
use optwasm_protocol::message::{
    BatchStatus, ErrorCode, LimitsChange, Order, Request, Response, Which,
};
use optwasm_protocol::{BatchId, Link, Report, Stream};

use crate::{Client, ClientError, response};

/// How long to wait before a stream that broke is opened again, so that one that breaks for ever
/// costs little.
const REOPEN_PAUSE: Duration = Duration::from_millis(50);

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
    pub async fn watch(&self) -> Result<Watch<'a>, ClientError> {
        let mut watch = Watch {
            batch: *self,
            stream: None,
            lost: Lost::default(),
        };
        watch.open().await?;
        Ok(watch)
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
    pub async fn results(&self, order: Order) -> Result<Results<'a>, ClientError> {
        self.read(order, true).await
    }

    /// The results that exist now, in `order`; in that of the inputs, up to the first job that has
    /// not ended.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn results_so_far(&self, order: Order) -> Result<Results<'a>, ClientError> {
        self.read(order, false).await
    }

    async fn read(&self, order: Order, follow: bool) -> Result<Results<'a>, ClientError> {
        let mut results = Results {
            batch: *self,
            order,
            follow,
            cursor: 0,
            stream: None,
            ready: VecDeque::new(),
            last: false,
            lost: Lost::default(),
        };
        results.open().await?;
        Ok(results)
    }

    /// Opens a stream for a request whose responses are read later.
    async fn open(&self, request: &Request) -> Result<Stream, ClientError> {
        let ask = async |link: Link| {
            let mut stream = link.open().await?;
            stream.writer.send(request).await?;
            Ok(stream)
        };
        self.client.connection.patiently(ask).await
    }

    /// Runs jobs again that have ended, in their places, under limits that are changed as asked;
    /// returns how many.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn retry(&self, which: Which, change: LimitsChange) -> Result<u32, ClientError> {
        let request = Request::Retry {
            batch: self.id,
            which,
            change,
        };
        match self.client.request_once(&request).await? {
            Response::Reopened(jobs) => Ok(jobs),
            _ => Err(ClientError::Unexpected),
        }
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
        let mut sent = 0;
        let remove = async |link: Link| {
            sent += 1;
            let mut stream = link.open().await?;
            stream.writer.send(&Request::Remove(self.id)).await?;
            match response(&mut stream).await {
                Ok(Response::Done) => Ok(()),
                Ok(_) => Err(ClientError::Unexpected),
                // The answer to the first was lost.
                Err(ClientError::Request(error))
                    if error.code == ErrorCode::NotFound && sent > 1 =>
                {
                    Ok(())
                }
                Err(error) => Err(error),
            }
        };
        self.client.connection.patiently(remove).await
    }
}

/// Follows a batch. A connection that is lost is made again.
pub struct Watch<'a> {
    batch: Batch<'a>,
    stream: Option<Stream>,
    lost: Lost,
}

impl Watch<'_> {
    async fn open(&mut self) -> Result<(), ClientError> {
        self.stream = Some(self.batch.open(&Request::Watch(self.batch.id)).await?);
        Ok(())
    }

    /// The next state of the batch: at once, then about every 100 ms while it changes and every
    /// second while it does not, and last when it is done.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn next(&mut self) -> Result<Option<BatchStatus>, ClientError> {
        loop {
            let Some(stream) = &mut self.stream else {
                self.open().await?;
                continue;
            };
            match stream.reader.next::<Response>().await {
                Ok(Some(Response::Batch(status))) => {
                    self.lost = Lost::default();
                    return Ok(Some(*status));
                }
                Ok(Some(Response::Error(error))) => return Err(error.into()),
                Ok(Some(_)) => return Err(ClientError::Unexpected),
                Ok(None) => return Ok(None),
                Err(error) => {
                    self.lost.again(error, self.batch.client).await?;
                    self.stream = None;
                }
            }
        }
    }
}

/// Results of a batch. A connection that is lost is made again, and they go on where they were.
pub struct Results<'a> {
    batch: Batch<'a>,
    order: Order,
    follow: bool,
    cursor: u32,
    stream: Option<Stream>,
    ready: VecDeque<(u32, Report)>,
    last: bool,
    lost: Lost,
}

impl Results<'_> {
    async fn open(&mut self) -> Result<(), ClientError> {
        let request = Request::Results {
            batch: self.batch.id,
            order: self.order,
            cursor: self.cursor,
            follow: self.follow,
        };
        self.stream = Some(self.batch.open(&request).await?);
        Ok(())
    }

    /// Gives its stream back, of which a connection has few, until the next is asked for.
    pub fn pause(&mut self) {
        self.stream = None;
    }

    /// The next result: its place among the inputs, and how it ended. `None` after the last.
    ///
    /// It may be dropped before it resolves: no result is lost.
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
            let Some(stream) = &mut self.stream else {
                self.open().await?;
                continue;
            };
            match stream.reader.expect::<Response>().await {
                Ok(Response::Results(page)) => {
                    self.lost = Lost::default();
                    self.last = page.last || page.results.is_empty();
                    self.cursor = page.cursor;
                    self.ready = page.results.into();
                }
                Ok(Response::Error(error)) => return Err(error.into()),
                Ok(_) => return Err(ClientError::Unexpected),
                Err(error) => {
                    self.lost.again(error, self.batch.client).await?;
                    self.stream = None;
                }
            }
        }
    }
}

/// Since when a stream has brought nothing but its end.
#[derive(Default)]
struct Lost(Option<Instant>);

impl Lost {
    /// A stream that broke is opened again, until patience is at its end; one on which nonsense came
    /// is not.
    async fn again(&mut self, error: FrameError, client: &Client) -> Result<(), ClientError> {
        let since = *self.0.get_or_insert_with(Instant::now);
        match error {
            FrameError::Io(_) | FrameError::Ended
                if since.elapsed() <= client.connection.patience =>
            {
                tokio::time::sleep(REOPEN_PAUSE).await;
                Ok(())
            }
            error => Err(error.into()),
        }
    }
}
