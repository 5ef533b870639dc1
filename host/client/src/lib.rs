//! Submit batches of jobs and read their results.
//!
//! A [`Client`] talks to a coordinator ([`Client::connect`]) or runs jobs in this process
//! ([`Client::local`], with the feature `local`); everything else is the same for both, and so are
//! the results, byte for byte.
//!
//! ```no_run
//! # async fn example(address: std::net::SocketAddr, token: optwasm_client::Token)
//! #     -> Result<(), optwasm_client::ClientError> {
//! use optwasm_client::{BatchSpec, Client, Order, Template};
//!
//! let client = Client::connect(address, &token).await?;
//! let module = client.put_blob(std::fs::read("job.wasm")?.into()).await?;
//! let spec = BatchSpec::new(Template::new(module));
//! let batch = client.submit(spec, ["first input", "second input"]).await?;
//! let mut results = batch.results(Order::Input).await?;
//! while let Some((index, report)) = results.next().await? {
//!     println!("{index}: {}", report.outcome);
//! }
//! # Ok(())
//! # }
//! ```

mod batch;
#[cfg(feature = "local")]
mod local;
mod map;

use std::net::SocketAddr;

use bytes::Bytes;
use optwasm_protocol::endpoint::{self, EndpointError};
use optwasm_protocol::frame::{FrameError, SOFT_FRAME};
use optwasm_protocol::handshake::{self, HandshakeError, Intent};
use optwasm_protocol::link::{CloseCode, LinkError};
use optwasm_protocol::message::{Request, RequestError, Response, SubmitPart};
use optwasm_protocol::transfer::{self, TransferError};
use optwasm_protocol::{BLOB_MAX, INLINE_MAX, Link, Stream};

pub use batch::{Batch, Results, Watch};
#[cfg(feature = "local")]
pub use local::LocalConfig;
pub use map::JobFailed;
pub use optwasm_protocol::message::{
    BatchSpec, BatchStatus, ErrorCode, Order, WorkerInfo, WorkerStatus,
};
pub use optwasm_protocol::{
    BatchId, ContentId, Incumbent, Limits, LogRecord, Outcome, Payload, Profile, Report, Role,
    Seed, Template, Token,
};

/// Name and version of this software, as the coordinator sees it.
const SOFTWARE: &str = concat!("optwasm-client/", env!("CARGO_PKG_VERSION"));

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no connection: nobody answers, it is another coordinator or another version.
    #[error(transparent)]
    Connect(#[from] EndpointError),
    /// The coordinator does not admit this client: wrong, expired or revoked token.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The connection was lost. Batches that were acknowledged go on without it.
    #[error("the connection to the coordinator was lost: {0}")]
    Lost(String),
    /// The coordinator says no, and why.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The coordinator answered with something else than what was asked for.
    #[error("the coordinator gave an unexpected answer")]
    Unexpected,
    /// An input or blob exceeds what can be sent.
    #[error("{0} bytes are too many; the limit is {BLOB_MAX}")]
    TooLarge(u64),
    /// A blob arrived damaged.
    #[error("the blob {0} arrived damaged")]
    Damaged(ContentId),
    /// Input could not be encoded, or output not decoded.
    #[error("{0}")]
    Codec(String),
    /// A job of a typed call failed.
    #[error(transparent)]
    Job(#[from] JobFailed),
    /// A file or this machine failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl From<FrameError> for ClientError {
    fn from(error: FrameError) -> Self {
        ClientError::Lost(error.to_string())
    }
}

impl From<TransferError> for ClientError {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Link(error) => error.into(),
            TransferError::Frame(error) => error.into(),
            TransferError::Request(error) => error.into(),
            TransferError::Damaged(id) => ClientError::Damaged(id),
            TransferError::TooLarge(len) => ClientError::TooLarge(len),
            TransferError::Unexpected => ClientError::Unexpected,
        }
    }
}

impl From<LinkError> for ClientError {
    fn from(error: LinkError) -> Self {
        ClientError::Lost(error.to_string())
    }
}

/// A connection to a coordinator, or to this process's own. Dropping it leaves batches running on
/// a coordinator, and ends those in this process.
pub struct Client {
    link: Link,
    _endpoint: Option<quinn::Endpoint>,
    #[cfg(feature = "local")]
    _local: Option<local::Local>,
}

impl Client {
    /// Connects to the coordinator at `address`.
    ///
    /// # Errors
    ///
    /// [`ClientError::Connect`] and [`ClientError::Handshake`].
    pub async fn connect(address: SocketAddr, token: &Token) -> Result<Self, ClientError> {
        let (endpoint, connection) = endpoint::connect(address, token.fingerprint).await?;
        let link = Link::Quic(connection);
        handshake::introduce(&link, Some(token), SOFTWARE, Intent::Client).await?;
        Ok(Self {
            link,
            _endpoint: Some(endpoint),
            #[cfg(feature = "local")]
            _local: None,
        })
    }

    /// Runs jobs in this process.
    ///
    /// # Errors
    ///
    /// Where the sandbox or its threads cannot be started.
    #[cfg(feature = "local")]
    pub async fn local(config: LocalConfig) -> Result<Self, ClientError> {
        let (link, local) = local::start(config)?;
        handshake::introduce(&link, None, SOFTWARE, Intent::Client).await?;
        Ok(Self {
            link,
            _endpoint: None,
            _local: Some(local),
        })
    }

    /// Closes the connection in good order.
    pub async fn close(self) {
        self.link.close(CloseCode::Done, "done");
        if let Some(endpoint) = &self._endpoint {
            endpoint.wait_idle().await;
        }
    }

    async fn request(&self, request: &Request) -> Result<(Response, Stream), ClientError> {
        let mut stream = self.link.open().await?;
        stream.writer.send(request).await?;
        let response = response(&mut stream).await?;
        Ok((response, stream))
    }

    async fn done(&self, request: &Request) -> Result<(), ClientError> {
        match self.request(request).await?.0 {
            Response::Done => Ok(()),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Which of these blobs the coordinator does not have.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn missing(&self, ids: Vec<ContentId>) -> Result<Vec<ContentId>, ClientError> {
        match self.request(&Request::Missing(ids)).await?.0 {
            Response::Missing(missing) => Ok(missing),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Gives the coordinator a blob (a module, shared data), unless it has it.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; `Request` with [`ErrorCode::Storage`] where there is no room.
    pub async fn put_blob(&self, bytes: Bytes) -> Result<ContentId, ClientError> {
        let id = ContentId::of(&bytes);
        transfer::upload(&self.link, id, &bytes).await?;
        Ok(id)
    }

    /// Reads a blob.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; `Request` with [`ErrorCode::NotFound`] where there is none.
    pub async fn get_blob(&self, id: ContentId) -> Result<Bytes, ClientError> {
        Ok(transfer::fetch(&self.link, id).await?)
    }

    /// The bytes of a payload, wherever they are.
    ///
    /// # Errors
    ///
    /// As [`get_blob`](Self::get_blob).
    pub async fn fetch(&self, payload: &Payload) -> Result<Bytes, ClientError> {
        match payload {
            Payload::Inline(bytes) => Ok(bytes.clone()),
            Payload::Blob(_, id) => self.get_blob(*id).await,
        }
    }

    /// Submits one job for each input; module and blobs must have been put before. Large inputs
    /// are put as blobs. When this returns, the coordinator has acknowledged the batch.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; nothing runs then.
    pub async fn submit<I>(&self, spec: BatchSpec, inputs: I) -> Result<Batch<'_>, ClientError>
    where
        I: IntoIterator,
        I::Item: Into<Bytes>,
    {
        let mut stream = self.link.open().await?;
        stream.writer.push(&Request::Submit(Box::new(spec)))?;
        let mut part = Vec::new();
        let mut bytes = 0;
        for input in inputs {
            let input: Bytes = input.into();
            let payload = if input.len() > INLINE_MAX {
                let len = input.len() as u64;
                Payload::Blob(len, self.put_blob(input).await?)
            } else {
                Payload::Inline(input)
            };
            bytes += payload_size(&payload);
            part.push(payload);
            if bytes >= SOFT_FRAME {
                let full = std::mem::take(&mut part);
                if let Err(error) = stream.writer.send(&SubmitPart::Inputs(full)).await {
                    // The coordinator may have said why before it stopped reading.
                    response(&mut stream).await?;
                    return Err(error.into());
                }
                bytes = 0;
            }
        }
        stream.writer.push(&SubmitPart::Inputs(part))?;
        stream.writer.send(&SubmitPart::End).await?;
        match response(&mut stream).await? {
            Response::Submitted(id) => Ok(self.batch(id)),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// A batch by its number; whether it exists shows when it is used.
    pub fn batch(&self, id: BatchId) -> Batch<'_> {
        Batch { client: self, id }
    }

    /// The latest batches, up to 1024 of them.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn batches(&self) -> Result<Vec<BatchStatus>, ClientError> {
        match self.request(&Request::Batches).await?.0 {
            Response::Batches(all) => Ok(all),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// All connected workers.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn workers(&self) -> Result<Vec<WorkerStatus>, ClientError> {
        match self.request(&Request::Workers).await?.0 {
            Response::Workers(all) => Ok(all),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Issues a token that is valid for `seconds` (0: for ever); returns its text.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; only administrators may.
    pub async fn issue_token(&self, role: Role, seconds: u64) -> Result<String, ClientError> {
        match self.request(&Request::IssueToken(role, seconds)).await?.0 {
            Response::Token(text) => Ok(text),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Revokes the token with this name.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; only administrators may.
    pub async fn revoke_token(&self, name: &str) -> Result<(), ClientError> {
        self.done(&Request::RevokeToken(name.to_owned())).await
    }

    /// Stops the coordinator.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; only administrators may.
    pub async fn shutdown(&self) -> Result<(), ClientError> {
        self.done(&Request::Shutdown).await
    }
}

fn payload_size(payload: &Payload) -> usize {
    match payload {
        Payload::Inline(bytes) => bytes.len() + 8,
        Payload::Blob(..) => 64,
    }
}

/// The next response, with errors that the coordinator tells as errors.
async fn response(stream: &mut Stream) -> Result<Response, ClientError> {
    match stream.reader.expect::<Response>().await? {
        Response::Error(error) => Err(error.into()),
        response => Ok(response),
    }
}
