//! QUIC endpoints, and the certificate by which a coordinator is known.
//!
//! A coordinator makes its own certificate once. Nobody signs it: whoever connects holds a token
//! with its [`Fingerprint`] and accepts that certificate and no other.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

use crate::PROTOCOL_VERSION;

/// The BLAKE3 hash of a coordinator's certificate.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint with this hash.
    pub const fn from_bytes(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(*blake3::hash(certificate).as_bytes())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A coordinator's certificate and its private key.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.fingerprint())
    }
}

impl Identity {
    /// Makes a new one.
    ///
    /// # Errors
    ///
    /// Where the operating system has no randomness.
    pub fn generate() -> Result<Self, EndpointError> {
        let made = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()])
            .map_err(|error| EndpointError::Identity(error.to_string()))?;
        Ok(Self {
            certificate: made.cert.der().clone(),
            key: PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()),
        })
    }

    /// The identity with this certificate and PKCS #8 key, both DER.
    pub fn from_der(certificate: Vec<u8>, key: Vec<u8>) -> Self {
        Self {
            certificate: certificate.into(),
            key: key.into(),
        }
    }

    /// The certificate, DER.
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate
    }

    /// The private key, PKCS #8 DER. It is secret.
    pub fn key_der(&self) -> &[u8] {
        self.key.secret_pkcs8_der()
    }

    /// What tokens carry of it.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }
}

/// Why there is no endpoint or no connection.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The address cannot be used; most often another process has it. Choose another port.
    #[error("cannot listen on {0}: {1}")]
    Bind(SocketAddr, io::Error),
    /// The certificate or key is unusable. Remove the identity file; tokens must be issued anew.
    #[error("certificate: {0}")]
    Identity(String),
    /// Nobody answered at the address. Check address, port and firewall, then try again.
    #[error("no coordinator answers at {0}: {1}")]
    Unreachable(SocketAddr, String),
    /// Another coordinator answered than the one that issued the token.
    #[error("the coordinator at {0} is not the one that this token is for")]
    Impostor(SocketAddr),
    /// Something answered that does not speak this protocol.
    #[error("what answers at {0} does not speak optwasm protocol {PROTOCOL_VERSION}")]
    Version(SocketAddr),
}

/// The name in every coordinator's certificate; what counts is the fingerprint.
const SERVER_NAME: &str = "optwasm";

/// How long a silent peer counts as alive. A killed process sends no farewell, so this is how
/// fast its loss is noticed; four keep-alives fit into it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// How long a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// Upper bound of path MTU discovery. quinn hands ten datagrams to the kernel at once, which
/// silently drops a batch above 64 KiB; 6 500 stays below and halves the cost per byte against
/// the usual 1 452 where the path allows it (loopback, jumbo frames).
const MTU_UPPER_BOUND: u16 = 6500;

/// Socket buffers. The usual 212 KB lose packets in bursts; 4 MiB lost none in a 64 MiB transfer.
const SOCKET_BUFFER: usize = 4 << 20;

/// Streams that a peer may have open at once: far above what workers and clients need. quinn
/// allocates for every allowed stream when the connection is made.
const PEER_STREAMS: u32 = 32;

/// Unacknowledged bytes per stream and per connection.
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;

fn transport() -> Arc<quinn::TransportConfig> {
    let mut transport = quinn::TransportConfig::default();
    let mut mtu = quinn::MtuDiscoveryConfig::default();
    mtu.upper_bound(MTU_UPPER_BOUND);
    transport
        .max_idle_timeout(IDLE_TIMEOUT.try_into().ok())
        .keep_alive_interval(Some(KEEP_ALIVE))
        .mtu_discovery_config(Some(mtu))
        .max_concurrent_bidi_streams(PEER_STREAMS.into())
        .max_concurrent_uni_streams(0u32.into())
        .datagram_receive_buffer_size(None)
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(CONNECTION_WINDOW.into())
        .send_window(CONNECTION_WINDOW.into());
    Arc::new(transport)
}

fn alpn() -> Vec<Vec<u8>> {
    vec![format!("optwasm/{PROTOCOL_VERSION}").into_bytes()]
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    let tuned = socket2::SockRef::from(&socket);
    // The kernel caps these; a smaller buffer only costs speed.
    let _ = tuned.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = tuned.set_send_buffer_size(SOCKET_BUFFER);
    Ok(socket)
}

/// An endpoint that a restarted coordinator shares with its former self: peers of the old process
/// then hear at once (RFC 9000, 10.3) that their connection is gone, and need not wait for
/// [`IDLE_TIMEOUT`]. That takes the same key for reset tokens, and connection ids that the new
/// process recognizes.
fn same_endpoint(identity: &Identity) -> quinn::EndpointConfig {
    let secret = identity.key.secret_pkcs8_der();
    let reset = blake3::derive_key("optwasm 2026-11 quic stateless reset", secret);
    let ids = blake3::derive_key("optwasm 2026-11 quic connection ids", secret);
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &reset);
    let mut config = quinn::EndpointConfig::new(Arc::new(key));
    let ids = u64::from_le_bytes(*ids.first_chunk().unwrap_or(&[0; 8]));
    config.cid_generator(move || Box::new(quinn_proto::HashedConnectionIdGenerator::from_key(ids)));
    config
}

fn endpoint(
    config: quinn::EndpointConfig,
    socket: UdpSocket,
    server: Option<quinn::ServerConfig>,
) -> io::Result<quinn::Endpoint> {
    quinn::Endpoint::new(config, server, socket, Arc::new(quinn::TokioRuntime))
}

/// Listens on `address` as the coordinator `identity`. Needs a tokio runtime.
///
/// # Errors
///
/// [`EndpointError::Bind`] and [`EndpointError::Identity`].
pub fn listen(address: SocketAddr, identity: &Identity) -> Result<quinn::Endpoint, EndpointError> {
    let bad_identity = |error: rustls::Error| EndpointError::Identity(error.to_string());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(bad_identity)?
        .with_no_client_auth()
        .with_single_cert(
            vec![identity.certificate.clone()],
            PrivateKeyDer::Pkcs8(identity.key.clone_key()),
        )
        .map_err(bad_identity)?;
    tls.alpn_protocols = alpn();
    let crypto = QuicServerConfig::try_from(tls)
        .map_err(|error| EndpointError::Identity(error.to_string()))?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport());
    bind(address)
        .and_then(|socket| endpoint(same_endpoint(identity), socket, Some(config)))
        .map_err(|error| EndpointError::Bind(address, error))
}

/// Connects to the coordinator with certificate `fingerprint`. Needs a tokio runtime.
///
/// The endpoint must live as long as the connection.
///
/// # Errors
///
/// Every variant of [`EndpointError`].
pub async fn connect(
    address: SocketAddr,
    fingerprint: Fingerprint,
) -> Result<(quinn::Endpoint, quinn::Connection), EndpointError> {
    let verifier = Arc::new(Pinned {
        fingerprint,
        provider: provider(),
    });
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| EndpointError::Identity(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    tls.alpn_protocols = alpn();
    let crypto = QuicClientConfig::try_from(tls)
        .map_err(|error| EndpointError::Identity(error.to_string()))?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport());

    let local = if address.ip().is_loopback() && address.is_ipv4() {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
    } else if address.is_ipv4() {
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
    } else {
        SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0))
    };
    let unreachable = |why: String| EndpointError::Unreachable(address, why);
    let endpoint = bind(local)
        .and_then(|socket| endpoint(quinn::EndpointConfig::default(), socket, None))
        .map_err(|error| EndpointError::Bind(local, error))?;
    let connecting = endpoint
        .connect_with(config, address, SERVER_NAME)
        .map_err(|error| unreachable(error.to_string()))?;
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Err(_) => Err(unreachable("timed out".to_owned())),
        Ok(Ok(connection)) => Ok((endpoint, connection)),
        Ok(Err(error)) => Err(classify(address, &error)),
    }
}

/// TLS alerts travel as QUIC transport errors 0x100 + alert.
const ALERT_NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;

fn classify(address: SocketAddr, error: &quinn::ConnectionError) -> EndpointError {
    let code = match error {
        quinn::ConnectionError::TransportError(error) => Some(u64::from(error.code)),
        quinn::ConnectionError::ConnectionClosed(close) => Some(u64::from(close.error_code)),
        quinn::ConnectionError::VersionMismatch => Some(ALERT_NO_APPLICATION_PROTOCOL),
        _ => None,
    };
    match code {
        Some(ALERT_NO_APPLICATION_PROTOCOL) => EndpointError::Version(address),
        // The only other TLS failure on our side is a certificate that is not the pinned one.
        Some(0x100..=0x1ff) => EndpointError::Impostor(address),
        _ => EndpointError::Unreachable(address, error.to_string()),
    }
}

/// Accepts exactly one certificate.
#[derive(Debug)]
struct Pinned {
    fingerprint: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if Fingerprint::of(end_entity) == self.fingerprint {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::InvalidCertificate(
                rustls::CertificateError::ApplicationVerificationFailure,
            ))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("QUIC is TLS 1.3".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
