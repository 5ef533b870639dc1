//! The hello that opens every connection.
//!
//! Whoever connects opens one stream and writes a preamble (`OPTW` and the protocol version in two
//! bytes, little-endian) and a [`Hello`]; the coordinator answers with [`Answer`]. The preamble and
//! [`Refusal`] never change, so that any two versions understand at least why they do not fit.
//! After [`Welcome`], a worker's stream goes on as its control stream; a client's is finished.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::frame::FrameError;
use crate::link::{Link, LinkError, Stream};
use crate::message::WorkerInfo;
use crate::namespace::Namespace;
use crate::token::{Authority, Claims, Role, Token};
use crate::{PROTOCOL_VERSION, WorkerId};

const MAGIC: [u8; 4] = *b"OPTW";
const PREAMBLE: u64 = 6;
/// Label of the TLS exporter (RFC 8446, 7.5) whose output a token's secret proves.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-optwasm-token-1";

/// What a peer says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// Name and version of its software, for people.
    pub software: String,
    /// What its token allows.
    pub claims: Claims,
    /// Proof that it holds the token's secret.
    #[serde(with = "serde_bytes")]
    pub proof: [u8; 32],
    /// What it is here for.
    pub intent: Intent,
}

/// What a peer is here for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Intent {
    /// To send requests.
    Client,
    /// To run jobs.
    Worker(WorkerInfo),
}

/// The coordinator's answer to a hello.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// Come in.
    Welcome(Welcome),
    /// Stay out.
    Refused(Refusal),
}

/// The coordinator accepts the peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Welcome {
    /// Name and version of the coordinator's software, for people.
    pub software: String,
    /// The number of this connection, where the peer is a worker.
    pub worker: Option<WorkerId>,
    /// Of which life of the coordinator's store its numbers are. What a worker holds of another life
    /// is of no use to it.
    #[serde(default)]
    pub life: u64,
}

/// Why the coordinator does not accept the peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Why, for programs.
    pub code: RefusalCode,
    /// Why, for people.
    pub message: String,
}

/// Why, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCode {
    /// The token was not issued by this coordinator, was revoked, or has expired.
    Token,
    /// The token's role does not allow what the peer is here for.
    Role,
    /// The peer speaks another version.
    Version,
    /// The coordinator takes no more peers for now.
    Busy,
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The coordinator refused, and says why. Trying again gives the same answer, but for `Busy`.
    #[error("refused by the coordinator: {0}")]
    Refused(#[from] Refusal),
    /// The connection ended. Connect again.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The peer broke the protocol, or the connection broke.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The peer does not begin as optwasm does.
    #[error("the other side does not speak the optwasm protocol")]
    Foreign,
    /// TLS gave no keying material.
    #[error("TLS exporter failed")]
    Exporter,
}

fn exported(link: &Link) -> Result<[u8; 32], HandshakeError> {
    let mut material = [0; 32];
    if let Link::Quic(connection) = link {
        connection
            .export_keying_material(&mut material, EXPORTER_LABEL, b"")
            .map_err(|_| HandshakeError::Exporter)?;
    }
    Ok(material)
}

/// Introduces this process on a new `link` to a coordinator. `token` is `None` only in memory,
/// where there is nobody to convince.
///
/// # Errors
///
/// Every variant of [`HandshakeError`].
pub async fn introduce(
    link: &Link,
    token: Option<&Token>,
    software: &str,
    intent: Intent,
) -> Result<(Welcome, Stream), HandshakeError> {
    let (claims, proof) = match token {
        Some(token) => (token.claims.clone(), token.secret.prove(&exported(link)?)),
        None => (in_process(), [0; 32]),
    };
    let hello = Hello {
        software: software.to_owned(),
        claims,
        proof,
        intent,
    };
    let mut stream = link.open().await?;
    let mut preamble = MAGIC.to_vec();
    preamble.extend_from_slice(&PROTOCOL_VERSION.to_le_bytes());
    stream.writer.send_body(&preamble).await?;
    stream.writer.send(&hello).await?;
    match stream.reader.expect::<Answer>().await? {
        Answer::Welcome(welcome) => Ok((welcome, stream)),
        Answer::Refused(refusal) => Err(refusal.into()),
    }
}

/// What a peer within the coordinator's own process may do: everything.
fn in_process() -> Claims {
    Claims {
        id: [0; 8],
        role: Role::Admin,
        expires: 0,
        namespace: Namespace::default(),
    }
}

/// Reads and checks the hello of whoever opened `link`, and refuses it where it must be refused.
/// `now` is in seconds since 1970; `revoked` tells the names of revoked tokens.
///
/// The caller answers the hello that is returned with [`welcome`].
///
/// # Errors
///
/// Every variant of [`HandshakeError`]; a refusal has been sent to the peer.
pub async fn receive(
    link: &Link,
    authority: &Authority,
    now: u64,
    revoked: impl Fn(&[u8; 8]) -> bool,
) -> Result<(Hello, Stream), HandshakeError> {
    let mut stream = link.accept().await?;
    let mut preamble = Vec::with_capacity(PREAMBLE as usize);
    stream
        .reader
        .read_body(PREAMBLE, |piece| preamble.extend_from_slice(piece))
        .await?;
    let (magic, version) = preamble.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(HandshakeError::Foreign);
    }
    if version != PROTOCOL_VERSION.to_le_bytes() {
        let message = format!("this coordinator speaks protocol {PROTOCOL_VERSION} only");
        return Err(refuse(stream, RefusalCode::Version, message).await);
    }
    let hello: Hello = stream.reader.expect().await?;
    if let Link::Memory(_) = link {
        return Ok((hello, stream));
    }
    let claims = &hello.claims;
    let genuine = authority
        .secret(claims)
        .verify(&exported(link)?, &hello.proof);
    let refusal = if !genuine {
        Some("this coordinator did not issue that token".to_owned())
    } else if claims.is_expired(now) {
        Some("the token has expired".to_owned())
    } else if revoked(&claims.id) {
        Some("the token was revoked".to_owned())
    } else {
        None
    };
    if let Some(message) = refusal {
        return Err(refuse(stream, RefusalCode::Token, message).await);
    }
    let allowed = match hello.intent {
        Intent::Worker(_) => matches!(claims.role, Role::Worker | Role::Admin),
        Intent::Client => claims.role != Role::Worker,
    };
    if !allowed {
        let message = format!("a token for the role `{}` does not allow this", claims.role);
        return Err(refuse(stream, RefusalCode::Role, message).await);
    }
    Ok((hello, stream))
}

/// Refuses the peer behind `stream`.
pub async fn refuse(mut stream: Stream, code: RefusalCode, message: String) -> HandshakeError {
    let refusal = Refusal { code, message };
    // Whether the peer still hears it changes nothing.
    if stream
        .writer
        .send(&Answer::Refused(refusal.clone()))
        .await
        .is_ok()
    {
        let _ = stream.writer.finish().await;
        // The peer closes once it has read the answer; closing before could overtake it.
        let _ = stream.reader.next::<Bytes>().await;
    }
    refusal.into()
}

/// Welcomes the peer behind `stream`.
///
/// # Errors
///
/// Where the connection broke.
pub async fn welcome(
    stream: &mut Stream,
    software: &str,
    worker: Option<WorkerId>,
    life: u64,
) -> Result<(), FrameError> {
    let welcome = Welcome {
        software: software.to_owned(),
        worker,
        life,
    };
    stream.writer.send(&Answer::Welcome(welcome)).await
}
