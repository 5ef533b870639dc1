//! Messages on a byte stream: a length in four bytes, little-endian, then that many bytes of CBOR.
//!
//! [`FrameWriter`] collects frames and writes them together, [`FrameReader`] reads as much as
//! there is and hands out frame by frame, so that under load one system call carries many
//! messages. Both bound a frame by [`MAX_FRAME`]; the CBOR inside is bounded by its frame.

use bytes::{Buf, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Largest frame, in bytes. Senders stop filling a frame at [`SOFT_FRAME`]; one message more,
/// whose payloads are at most [`crate::INLINE_MAX`] each, always fits between the two.
pub const MAX_FRAME: usize = 4 << 20;

/// Size at which senders close a frame: large enough to amortize a write, small enough not to
/// hold up what is behind it.
pub const SOFT_FRAME: usize = 256 * 1024;

const HEADER: usize = 4;

/// Why a frame could not be read or written. The stream is of no use afterwards.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The connection ended or broke. Connect again.
    #[error("the stream broke: {0}")]
    Io(#[from] std::io::Error),
    /// The peer announced a frame above [`MAX_FRAME`]. It is broken or hostile: disconnect.
    #[error("peer announced a frame of {0} bytes; the limit is {MAX_FRAME}")]
    TooLarge(usize),
    /// The bytes are not the message that belongs here. The peer is broken, hostile, or of
    /// another version: disconnect.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// The peer ended the stream in the middle of an exchange.
    #[error("the other side ended the exchange early")]
    Ended,
}

/// Encodes `message` as one frame at the end of `buffer`.
///
/// # Errors
///
/// [`FrameError::TooLarge`] where it exceeds [`MAX_FRAME`]; `buffer` is then as before.
pub fn encode<T: Serialize>(message: &T, buffer: &mut Vec<u8>) -> Result<(), FrameError> {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; HEADER]);
    if let Err(error) = ciborium::into_writer(message, &mut *buffer) {
        buffer.truncate(start);
        return Err(FrameError::Malformed(error.to_string()));
    }
    let len = buffer.len() - start - HEADER;
    if len > MAX_FRAME {
        buffer.truncate(start);
        return Err(FrameError::TooLarge(len));
    }
    buffer[start..start + HEADER].copy_from_slice(&(len as u32).to_le_bytes());
    Ok(())
}

/// Writes frames to a stream.
pub struct FrameWriter<W> {
    stream: W,
    buffer: Vec<u8>,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// A writer on `stream`.
    pub fn new(stream: W) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Adds a frame to those that the next [`flush`](Self::flush) writes.
    ///
    /// # Errors
    ///
    /// As [`encode`].
    pub fn push<T: Serialize>(&mut self, message: &T) -> Result<(), FrameError> {
        encode(message, &mut self.buffer)
    }

    /// Bytes that wait for the next flush.
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// Writes all frames that were pushed.
    ///
    /// # Errors
    ///
    /// [`FrameError::Io`] where the stream is broken.
    pub async fn flush(&mut self) -> Result<(), FrameError> {
        let result = self.stream.write_all(&self.buffer).await;
        self.buffer.clear();
        // One large burst should not keep its memory for the life of the connection.
        self.buffer.shrink_to(SOFT_FRAME * 2);
        result?;
        self.stream.flush().await?;
        Ok(())
    }

    /// Pushes one message and flushes.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push) and [`flush`](Self::flush).
    pub async fn send<T: Serialize>(&mut self, message: &T) -> Result<(), FrameError> {
        self.push(message)?;
        self.flush().await
    }

    /// Writes bytes that are not framed: the body of a blob.
    ///
    /// # Errors
    ///
    /// [`FrameError::Io`] where the stream is broken.
    pub async fn send_body(&mut self, body: &[u8]) -> Result<(), FrameError> {
        self.flush().await?;
        self.stream.write_all(body).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// Says that nothing follows.
    ///
    /// # Errors
    ///
    /// [`FrameError::Io`] where the stream is broken.
    pub async fn finish(mut self) -> Result<(), FrameError> {
        self.flush().await?;
        self.stream.shutdown().await?;
        Ok(())
    }
}

/// Reads frames from a stream.
pub struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// A reader on `stream`.
    pub fn new(stream: R) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// The next message; `None` where the stream ended between two messages.
    ///
    /// It may be dropped before it resolves: no byte is lost.
    ///
    /// # Errors
    ///
    /// Any [`FrameError`].
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        loop {
            if let Some(message) = self.try_next()? {
                return Ok(Some(message));
            }
            // Reserving what the announced frame still needs would let a peer reserve
            // MAX_FRAME with four bytes; growing with what arrives does not.
            self.buffer.reserve(16 * 1024);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(FrameError::Ended)
                };
            }
        }
    }

    /// The next message, where it has already been read whole.
    ///
    /// # Errors
    ///
    /// [`FrameError::TooLarge`] and [`FrameError::Malformed`].
    pub fn try_next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let Some(header) = self.buffer.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let len = u32::from_le_bytes(*header) as usize;
        if len > MAX_FRAME {
            return Err(FrameError::TooLarge(len));
        }
        let Some(body) = self.buffer.get(HEADER..HEADER + len) else {
            return Ok(None);
        };
        let message = ciborium::from_reader(body)
            .map_err(|error| FrameError::Malformed(error.to_string()))?;
        self.buffer.advance(HEADER + len);
        Ok(Some(message))
    }

    /// The next message, where one must follow.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next), and [`FrameError::Ended`] where the stream ended.
    pub async fn expect<T: DeserializeOwned>(&mut self) -> Result<T, FrameError> {
        self.next().await?.ok_or(FrameError::Ended)
    }

    /// Reads `len` unframed bytes, the body of a blob, handing each piece to `sink` as it comes.
    ///
    /// # Errors
    ///
    /// [`FrameError::Ended`] where the stream ends before.
    pub async fn read_body(
        &mut self,
        len: u64,
        mut sink: impl FnMut(&[u8]),
    ) -> Result<(), FrameError> {
        let mut left = len;
        loop {
            let piece = (self.buffer.len() as u64).min(left) as usize;
            sink(&self.buffer[..piece]);
            self.buffer.advance(piece);
            left -= piece as u64;
            if left == 0 {
                return Ok(());
            }
            self.buffer.reserve(SOFT_FRAME);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(FrameError::Ended);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_all(bytes: &[u8]) -> Result<Vec<String>, FrameError> {
        let mut reader = FrameReader::new(bytes);
        let mut messages = Vec::new();
        while let Some(message) = reader.next::<String>().await? {
            messages.push(message);
        }
        Ok(messages)
    }

    #[tokio::test]
    async fn frames_round_trip_and_every_truncation_is_an_error() {
        let mut bytes = Vec::new();
        encode(&"one", &mut bytes).unwrap();
        let boundary = bytes.len();
        encode(&"two", &mut bytes).unwrap();
        assert_eq!(read_all(&bytes).await.unwrap(), ["one", "two"]);
        for cut in 1..bytes.len() {
            let result = read_all(&bytes[..cut]).await;
            assert_eq!(result.is_ok(), cut == boundary, "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn hostile_lengths_are_refused_before_anything_is_reserved() {
        let error = read_all(&u32::MAX.to_le_bytes()).await.unwrap_err();
        assert!(matches!(error, FrameError::TooLarge(_)));
        // A CBOR byte string that claims 2^40 bytes inside a frame of ten.
        let mut bytes = 10u32.to_le_bytes().to_vec();
        bytes.extend_from_slice(&[0x5b, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert!(matches!(
            read_all(&bytes).await.unwrap_err(),
            FrameError::Malformed(_)
        ));
    }

    #[tokio::test]
    async fn a_body_follows_frames() {
        let mut bytes = Vec::new();
        encode(&"head", &mut bytes).unwrap();
        bytes.extend_from_slice(b"0123456789");
        let mut reader = FrameReader::new(&bytes[..]);
        assert_eq!(reader.expect::<String>().await.unwrap(), "head");
        let mut body = Vec::new();
        reader
            .read_body(10, |piece| body.extend_from_slice(piece))
            .await
            .unwrap();
        assert_eq!(body, b"0123456789");
        assert!(matches!(
            reader.read_body(1, |_| ()).await,
            Err(FrameError::Ended)
        ));
    }
}
