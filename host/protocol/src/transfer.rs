//! Moving blobs over a link, as clients and workers do with a coordinator.

use bytes::{Bytes, BytesMut};

use crate::frame::FrameError;
use crate::link::{Link, LinkError};
use crate::message::{Request, RequestError, Response};
use crate::{BLOB_MAX, ContentId};

/// Why a blob was not moved.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The link ended. Connect again.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The stream broke. Try again.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The coordinator says no, and why: it has no such blob, or no room.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The bytes that arrived do not have the hash that the blob is named by. Try again.
    #[error("the blob {0} arrived damaged")]
    Damaged(ContentId),
    /// The blob exceeds [`BLOB_MAX`].
    #[error("a blob of {0} bytes is too large; the limit is {BLOB_MAX}")]
    TooLarge(u64),
    /// The coordinator answered with something else.
    #[error("an unexpected answer")]
    Unexpected,
}

/// Reads the blob `id` from the coordinator behind `link`, and checks it against its name.
///
/// # Errors
///
/// [`TransferError`].
pub async fn fetch(link: &Link, id: ContentId) -> Result<Bytes, TransferError> {
    let mut stream = link.open().await?;
    stream.writer.send(&Request::GetBlob(id)).await?;
    let len = match stream.reader.expect::<Response>().await? {
        Response::Blob(len) if len > BLOB_MAX => return Err(TransferError::TooLarge(len)),
        Response::Blob(len) => len,
        Response::Error(error) => return Err(error.into()),
        _ => return Err(TransferError::Unexpected),
    };
    // Grows with what arrives, not with what was announced.
    let mut bytes = BytesMut::new();
    let mut hasher = blake3::Hasher::new();
    let sink = |piece: &[u8]| {
        hasher.update(piece);
        bytes.extend_from_slice(piece);
    };
    stream.reader.read_body(len, sink).await?;
    if hasher.finalize().as_bytes() != id.as_bytes() {
        return Err(TransferError::Damaged(id));
    }
    Ok(bytes.freeze())
}

/// Gives `bytes`, whose name is `id`, to the coordinator behind `link`, unless it has them.
///
/// # Errors
///
/// [`TransferError`].
pub async fn upload(link: &Link, id: ContentId, bytes: &[u8]) -> Result<(), TransferError> {
    let len = bytes.len() as u64;
    if len > BLOB_MAX {
        return Err(TransferError::TooLarge(len));
    }
    let mut stream = link.open().await?;
    stream.writer.send(&Request::PutBlob(id, len)).await?;
    let mut response = stream.reader.expect::<Response>().await?;
    if matches!(response, Response::Go) {
        stream.writer.send_body(bytes).await?;
        response = stream.reader.expect::<Response>().await?;
    }
    match response {
        Response::Done => Ok(()),
        Response::Error(error) => Err(error.into()),
        _ => Err(TransferError::Unexpected),
    }
}
