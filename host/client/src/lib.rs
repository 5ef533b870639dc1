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
mod connection;
mod holds;
#[cfg(feature = "local")]
mod local;
mod map;
mod pool;

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use connection::Connection;
use optwasm_protocol::endpoint::EndpointError;
use optwasm_protocol::frame::{FrameError, SOFT_FRAME};
use optwasm_protocol::handshake::HandshakeError;
#[cfg(feature = "local")]
use optwasm_protocol::handshake::{self, Intent};
use optwasm_protocol::link::LinkError;
use optwasm_protocol::locate::LocateError;
use optwasm_protocol::message::{Request, RequestError, Response, SubmitPart};
use optwasm_protocol::transfer::{self, TransferError};
use optwasm_protocol::{BLOB_MAX, INLINE_MAX, Link, Stream};

pub use batch::{Batch, Results, Watch};
pub use holds::{Holds, Pushed};
#[cfg(feature = "local")]
pub use local::LocalConfig;
pub use map::{JobFailed, Mapped, zip};
pub use optwasm_protocol::message::{
    AttemptEnd, BatchSpec, BatchStatus, Change, CoordinatorStatus, Ending, ErrorCode, Explanation,
    Instance, LimitsChange, Memo, Offer, Order, Phase, Stay, Which, WorkerInfo, WorkerStatus,
};
pub use optwasm_protocol::namespace::Limit;
pub use optwasm_protocol::{
    BatchId, ContentId, Incumbent, Instances, JobId, Limits, Locator, LogRecord, Namespace,
    NamespaceStatus, Outcome, Payload, Profile, Quota, QuotaChange, Report, Role, Seed, Template,
    Token, Usage, WorkerId,
};
pub use pool::{Pool, Scattered, Seat};

/// Name and version of this software, as the coordinator sees it.
const SOFTWARE: &str = concat!("optwasm-client/", env!("CARGO_PKG_VERSION"));

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The coordinator was not found: its name stands for nothing, or its access file is of no use.
    #[error(transparent)]
    Locate(#[from] LocateError),
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
    /// A blob was removed and is used afterwards. Push it again.
    #[error("the blob {0} was removed")]
    Removed(ContentId),
    /// There is no worker with this number.
    #[error("there is no worker {worker}; there are {numbers:?}")]
    NoSuchWorker {
        /// The number asked for.
        worker: usize,
        /// Those that there are.
        numbers: Vec<usize>,
    },
    /// Fewer workers are connected than are needed. Start more, or wait for longer.
    #[error("{there} workers are connected; {workers} are needed")]
    TooFewWorkers {
        /// How many are needed.
        workers: usize,
        /// How many there are.
        there: usize,
    },
    /// There are not as many of one argument as of the other. Nothing was sent.
    #[error("{0} of one argument and {1} of the other")]
    Lengths(usize, usize),
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
///
/// A connection that is lost is made again, and what was going on goes on: see
/// [`patience`](Self::patience).
pub struct Client {
    connection: Connection,
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
        Self::find(Locator::Address(address, token.clone())).await
    }

    /// Connects to a coordinator that may move: each time that the connection has to be made again, it
    /// is looked for anew.
    ///
    /// # Errors
    ///
    /// [`ClientError::Locate`], [`ClientError::Connect`] and [`ClientError::Handshake`].
    pub async fn find(locator: Locator) -> Result<Self, ClientError> {
        Ok(Self {
            connection: Connection::remote(locator).await?,
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
            connection: Connection::in_process(link),
            _local: Some(local),
        })
    }

    /// How long to try to connect again when the connection is lost, before a call fails with
    /// [`ClientError::Lost`]. Two minutes at first: a coordinator that is started again, or a
    /// network that comes back, is found within that.
    pub fn patience(&mut self, patience: Duration) {
        self.connection.patience = patience;
    }

    /// Closes the connection in good order.
    pub async fn close(self) {
        self.connection.close().await;
    }

    /// Sends a request and reads the first response; again where the connection is lost between.
    async fn request(&self, request: &Request) -> Result<(Response, Stream), ClientError> {
        let ask = async |link: Link| {
            let mut stream = link.open().await?;
            stream.writer.send(request).await?;
            let response = response(&mut stream).await?;
            Ok((response, stream))
        };
        self.connection.patiently(ask).await
    }

    /// As [`request`](Self::request) for what must not be done twice: where the connection is lost
    /// before the answer, that is the error.
    async fn request_once(&self, request: &Request) -> Result<Response, ClientError> {
        let ask = async |link: Link, sent: &Cell<bool>| {
            let mut stream = link.open().await?;
            sent.set(true);
            stream.writer.send(request).await?;
            response(&mut stream).await
        };
        self.connection.once(ask).await
    }

    async fn done(&self, request: &Request) -> Result<(), ClientError> {
        match self.request(request).await?.0 {
            Response::Done => Ok(()),
            _ => Err(ClientError::Unexpected),
        }
    }

    async fn done_once(&self, request: &Request) -> Result<(), ClientError> {
        match self.request_once(request).await? {
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
        let upload = async |link: Link| Ok(transfer::upload(&link, id, &bytes).await?);
        self.connection.patiently(upload).await?;
        Ok(id)
    }

    /// Reads a blob.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; `Request` with [`ErrorCode::NotFound`] where there is none.
    pub async fn get_blob(&self, id: ContentId) -> Result<Bytes, ClientError> {
        let fetch = async |link: Link| Ok(transfer::fetch(&link, id).await?);
        self.connection.patiently(fetch).await
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
    /// are put as blobs. When this returns, the coordinator has acknowledged the batch, once,
    /// however often the connection was lost on the way.
    ///
    /// Where too many jobs are queued, it waits until there is room.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; nothing runs then.
    pub async fn submit<I>(&self, spec: BatchSpec, inputs: I) -> Result<Batch<'_>, ClientError>
    where
        I: IntoIterator,
        I::Item: Into<Bytes>,
    {
        self.submit_as(spec, inputs, true).await
    }

    /// As [`submit`](Self::submit), but fails with [`ErrorCode::Busy`] where too many jobs are
    /// queued.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; nothing runs then.
    pub async fn try_submit<I>(&self, spec: BatchSpec, inputs: I) -> Result<Batch<'_>, ClientError>
    where
        I: IntoIterator,
        I::Item: Into<Bytes>,
    {
        self.submit_as(spec, inputs, false).await
    }

    /// An input as it travels: what is large is put as a blob.
    pub(crate) async fn payload(&self, input: Bytes) -> Result<Payload, ClientError> {
        if input.len() <= INLINE_MAX {
            return Ok(Payload::Inline(input));
        }
        let len = input.len() as u64;
        Ok(Payload::Blob(len, self.put_blob(input).await?))
    }

    async fn submit_as<I>(
        &self,
        spec: BatchSpec,
        inputs: I,
        wait: bool,
    ) -> Result<Batch<'_>, ClientError>
    where
        I: IntoIterator,
        I::Item: Into<Bytes>,
    {
        let mut payloads = Vec::new();
        for input in inputs {
            payloads.push(self.payload(input.into()).await?);
        }
        self.submit_these(spec, payloads, wait).await
    }

    /// As [`submit`](Self::submit), of inputs some of which have been put as blobs.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; nothing runs then.
    pub async fn submit_payloads(
        &self,
        spec: BatchSpec,
        inputs: Vec<Payload>,
    ) -> Result<Batch<'_>, ClientError> {
        self.submit_these(spec, inputs, true).await
    }

    async fn submit_these(
        &self,
        mut spec: BatchSpec,
        payloads: Vec<Payload>,
        wait: bool,
    ) -> Result<Batch<'_>, ClientError> {
        if spec.id.is_none() {
            spec.id = self.connection.unique_key()?;
        }
        let spec = Box::new(spec);
        let submit = async |link: Link| {
            let spec = spec.clone();
            send_submission(&link, Request::Submit { spec, wait }, &payloads).await
        };
        Ok(self.batch(self.connection.patiently(submit).await?))
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

    /// The latest batches of a namespace.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; only administrators may.
    pub async fn batches_of(&self, namespace: &Namespace) -> Result<Vec<BatchStatus>, ClientError> {
        match self
            .request(&Request::BatchesOf(namespace.clone()))
            .await?
            .0
        {
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

    /// Issues a token of a namespace that is valid for `seconds` (0: for ever); returns its text.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; only administrators may, and only for clients and readers.
    pub async fn issue_token_of(
        &self,
        namespace: &Namespace,
        role: Role,
        seconds: u64,
    ) -> Result<String, ClientError> {
        let request = Request::IssueTokenOf(namespace.clone(), role, seconds);
        match self.request(&request).await?.0 {
            Response::Token(text) => Ok(text),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Namespaces in numbers: all for administrators, else the token's own.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn namespaces(&self) -> Result<Vec<NamespaceStatus>, ClientError> {
        match self.request(&Request::Namespaces).await?.0 {
            Response::Namespaces(all) => Ok(all),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Changes what a namespace may have; it need not be known yet.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; only administrators may.
    pub async fn set_quota(
        &self,
        namespace: &Namespace,
        change: QuotaChange,
    ) -> Result<(), ClientError> {
        self.done(&Request::SetQuota(namespace.clone(), change))
            .await
    }

    /// Revokes the token with this name.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; only administrators may.
    pub async fn revoke_token(&self, name: &str) -> Result<(), ClientError> {
        self.done(&Request::RevokeToken(name.to_owned())).await
    }

    /// Where a job is, what it runs under, and what happened to it.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn explain(&self, job: JobId) -> Result<Explanation, ClientError> {
        match self.request(&Request::Explain(job)).await?.0 {
            Response::Explained(explanation) => Ok(*explanation),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// How the coordinator is.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn status(&self) -> Result<CoordinatorStatus, ClientError> {
        match self.request(&Request::Status).await?.0 {
            Response::Status(status) => Ok(*status),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// How many jobs wait that a worker with this offer could take.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn demand(&self, offer: Offer) -> Result<u64, ClientError> {
        let offer = Box::new(offer);
        match self.request(&Request::Demand(offer)).await?.0 {
            Response::Demand(jobs) => Ok(jobs),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Has a worker finish what it runs, and leave.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; only administrators may.
    pub async fn drain_worker(&self, worker: WorkerId) -> Result<(), ClientError> {
        self.done(&Request::DrainWorker(worker)).await
    }

    /// Has the coordinator take no new jobs, hand out none, and stop when none is running.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; only administrators may.
    pub async fn drain(&self) -> Result<(), ClientError> {
        self.done_once(&Request::Drain).await
    }

    /// Stops the coordinator, and its workers too where `with_workers`.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; only administrators may.
    pub async fn shutdown(&self, with_workers: bool) -> Result<(), ClientError> {
        self.done_once(&Request::Shutdown { with_workers }).await
    }
}

/// Submits all of `payloads` on a stream of its own.
async fn send_submission(
    link: &Link,
    request: Request,
    payloads: &[Payload],
) -> Result<BatchId, ClientError> {
    let mut stream = link.open().await?;
    stream.writer.push(&request)?;
    let mut rest = payloads;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take_while(|payload| {
            let before = bytes;
            bytes += payload_size(payload);
            before < SOFT_FRAME
        });
        let (part, others) = rest.split_at(fits.count());
        rest = others;
        if let Err(error) = stream.writer.send(&SubmitPart::Inputs(part.to_vec())).await {
            // The coordinator may have said why before it stopped reading.
            response(&mut stream).await?;
            return Err(error.into());
        }
    }
    stream.writer.send(&SubmitPart::End).await?;
    match response(&mut stream).await? {
        Response::Submitted(id) => Ok(id),
        _ => Err(ClientError::Unexpected),
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
