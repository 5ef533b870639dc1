//! A connection between two processes, or between two parts of one.
//!
//! Everything above this module is written against [`Link`]: something that opens and accepts
//! bidirectional byte streams. Over QUIC those are QUIC streams; in memory they are pipes, which is
//! how jobs run in the submitting process itself through the same coordinator and worker code.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::sync::{Mutex, mpsc, watch};

use crate::frame::{FrameReader, FrameWriter};

/// The reading half of a stream.
pub type Reader = FrameReader<Box<dyn AsyncRead + Send + Unpin>>;
/// The writing half of a stream.
pub type Writer = FrameWriter<Box<dyn AsyncWrite + Send + Unpin>>;

/// A bidirectional byte stream.
pub struct Stream {
    /// What the peer writes.
    pub reader: Reader,
    /// What the peer reads.
    pub writer: Writer,
}

impl Stream {
    fn new(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        Self {
            reader: FrameReader::new(Box::new(reader)),
            writer: FrameWriter::new(Box::new(writer)),
        }
    }
}

/// Why a link ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The peer closed it and said why. `code` is a [`CloseCode`] as a number.
    #[error("closed by the other side: {reason}")]
    Closed {
        /// Why, for programs.
        code: u64,
        /// Why, for people.
        reason: String,
    },
    /// Nothing was heard from the peer for too long, or the network refused. Connect again.
    #[error("connection lost: {0}")]
    Lost(String),
}

/// Why a side closes a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// All is done.
    Done = 0,
    /// The peer broke the protocol.
    Protocol = 1,
    /// The peer is not welcome; it was told why on the first stream.
    Refused = 2,
    /// This side is shutting down.
    Shutdown = 3,
}

/// A connection.
#[derive(Clone)]
pub enum Link {
    /// Over QUIC.
    Quic(quinn::Connection),
    /// Within this process.
    Memory(MemoryLink),
}

impl Link {
    /// Opens a stream. The peer hears of it with the first bytes that are written.
    ///
    /// # Errors
    ///
    /// Where the link has ended.
    pub async fn open(&self) -> Result<Stream, LinkError> {
        match self {
            Link::Quic(connection) => {
                let (send, recv) = connection.open_bi().await?;
                Ok(Stream::new(recv, send))
            }
            Link::Memory(link) => link.open().await,
        }
    }

    /// The next stream that the peer opens.
    ///
    /// # Errors
    ///
    /// Where the link has ended.
    pub async fn accept(&self) -> Result<Stream, LinkError> {
        match self {
            Link::Quic(connection) => {
                let (send, recv) = connection.accept_bi().await?;
                Ok(Stream::new(recv, send))
            }
            Link::Memory(link) => link.accept().await,
        }
    }

    /// Ends the link; streams of both sides break.
    pub fn close(&self, code: CloseCode, reason: &str) {
        match self {
            Link::Quic(connection) => {
                connection.close((code as u32).into(), reason.as_bytes());
            }
            Link::Memory(link) => link.shared.close(code, reason),
        }
    }

    /// Resolves when the link has ended.
    pub async fn closed(&self) -> LinkError {
        match self {
            Link::Quic(connection) => connection.closed().await.into(),
            Link::Memory(link) => link.shared.closed().await,
        }
    }

    /// Where the peer is, for people.
    pub fn peer(&self) -> String {
        match self {
            Link::Quic(connection) => connection.remote_address().to_string(),
            Link::Memory(_) => "in process".to_owned(),
        }
    }

    /// A pair of linked ends within this process.
    pub fn memory() -> (Link, Link) {
        let shared = Arc::new(Shared {
            ended: watch::channel(None).0,
        });
        let (to_b, from_a) = mpsc::channel(MEMORY_STREAMS);
        let (to_a, from_b) = mpsc::channel(MEMORY_STREAMS);
        let end = |opened: mpsc::Sender<DuplexStream>, incoming| {
            Link::Memory(MemoryLink {
                shared: shared.clone(),
                opened,
                incoming: Arc::new(Mutex::new(incoming)),
            })
        };
        (end(to_b, from_b), end(to_a, from_a))
    }
}

impl From<quinn::ConnectionError> for LinkError {
    fn from(error: quinn::ConnectionError) -> Self {
        match error {
            quinn::ConnectionError::ApplicationClosed(close) => LinkError::Closed {
                code: close.error_code.into_inner(),
                reason: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            quinn::ConnectionError::LocallyClosed => LinkError::Lost("closed here".to_owned()),
            other => LinkError::Lost(other.to_string()),
        }
    }
}

/// Streams opened but not yet accepted; as bounded as a QUIC connection's.
const MEMORY_STREAMS: usize = 32;
/// Bytes in flight on one stream in memory.
const MEMORY_WINDOW: usize = 1 << 20;

/// One end of a connection within this process.
#[derive(Clone)]
pub struct MemoryLink {
    shared: Arc<Shared>,
    opened: mpsc::Sender<DuplexStream>,
    incoming: Arc<Mutex<mpsc::Receiver<DuplexStream>>>,
}

struct Shared {
    ended: watch::Sender<Option<LinkError>>,
}

impl Shared {
    fn close(&self, code: CloseCode, reason: &str) {
        self.ended.send_if_modified(|ended| {
            if ended.is_some() {
                return false;
            }
            *ended = Some(LinkError::Closed {
                code: code as u64,
                reason: reason.to_owned(),
            });
            true
        });
    }

    async fn closed(&self) -> LinkError {
        let mut ended = self.ended.subscribe();
        match ended.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(error)) => error.clone(),
            _ => LinkError::Lost("closed here".to_owned()),
        }
    }
}

impl MemoryLink {
    async fn open(&self) -> Result<Stream, LinkError> {
        let (ours, theirs) = tokio::io::duplex(MEMORY_WINDOW);
        tokio::select! {
            // A link that has ended opens and accepts nothing more.
            biased;
            error = self.shared.closed() => Err(error),
            sent = self.opened.send(theirs) => match sent {
                Ok(()) => Ok(split(ours)),
                Err(_) => Err(LinkError::Lost("the other side is gone".to_owned())),
            },
        }
    }

    async fn accept(&self) -> Result<Stream, LinkError> {
        let mut incoming = self.incoming.lock().await;
        tokio::select! {
            // A link that has ended opens and accepts nothing more.
            biased;
            error = self.shared.closed() => Err(error),
            stream = incoming.recv() => match stream {
                Some(stream) => Ok(split(stream)),
                None => Err(LinkError::Lost("the other side is gone".to_owned())),
            },
        }
    }
}

fn split(stream: DuplexStream) -> Stream {
    let (reader, writer) = tokio::io::split(stream);
    Stream::new(reader, writer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_streams_carry_both_ways_and_close_reaches_the_peer() {
        let (a, b) = Link::memory();
        let mut ours = a.open().await.unwrap();
        ours.writer.send(&"ping").await.unwrap();
        let mut theirs = b.accept().await.unwrap();
        assert_eq!(theirs.reader.expect::<String>().await.unwrap(), "ping");
        theirs.writer.send(&"pong").await.unwrap();
        assert_eq!(ours.reader.expect::<String>().await.unwrap(), "pong");
        b.close(CloseCode::Shutdown, "bye");
        assert_eq!(
            a.closed().await,
            LinkError::Closed {
                code: 3,
                reason: "bye".to_owned()
            }
        );
        assert!(a.open().await.is_err());
    }
}
