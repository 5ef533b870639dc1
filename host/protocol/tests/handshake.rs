//! Peers that do not fit are refused, and learn why.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;

use optwasm_protocol::endpoint::{self, EndpointError};
use optwasm_protocol::handshake::{
    Answer, HandshakeError, Intent, Refusal, RefusalCode, introduce, receive, welcome,
};
use optwasm_protocol::token::Authority;
use optwasm_protocol::{Identity, Link, PROTOCOL_VERSION, Role, Token};

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Opens a link and says `preamble`; returns the coordinator's answer.
async fn answer_to(preamble: Vec<u8>) -> Result<Answer, HandshakeError> {
    let (ours, theirs) = Link::memory();
    let authority = Authority::from_key([1; 32]);
    let receiving = receive(&theirs, &authority, 0, |_| false);
    let asking = async {
        let mut stream = ours.open().await?;
        stream.writer.send_body(&preamble).await?;
        Ok(stream.reader.expect::<Answer>().await?)
    };
    tokio::select! {
        answer = asking => answer,
        received = receiving => match received {
            Err(error) => Err(error),
            Ok(_) => panic!("nobody should have been admitted"),
        },
    }
}

#[tokio::test]
async fn another_version_is_refused_in_words_that_every_version_reads() {
    let mut preamble = b"OPTW".to_vec();
    preamble.extend_from_slice(&(PROTOCOL_VERSION + 1).to_le_bytes());
    match answer_to(preamble).await.unwrap() {
        Answer::Refused(Refusal { code, message }) => {
            assert_eq!(code, RefusalCode::Version);
            assert!(message.contains("protocol 1"), "{message}");
        }
        Answer::Welcome(_) => panic!("version {} was welcomed", PROTOCOL_VERSION + 1),
    }
    let foreign = answer_to(b"GET / ".to_vec()).await;
    assert!(matches!(foreign, Err(HandshakeError::Foreign)));
}

#[tokio::test]
async fn a_peer_of_another_protocol_is_told_apart_from_an_absent_one() {
    let identity = Identity::generate().unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![identity.certificate_der().to_vec().into()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(identity.key_der().to_vec()).into(),
        )
        .unwrap();
    tls.alpn_protocols = vec![b"optwasm/99".to_vec()];
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let server = quinn::Endpoint::server(config, loopback()).unwrap();
    let address = server.local_addr().unwrap();
    tokio::spawn(async move { while server.accept().await.is_some_and(|i| i.accept().is_ok()) {} });
    let other = endpoint::connect(address, identity.fingerprint()).await;
    assert!(matches!(other, Err(EndpointError::Version(_))), "{other:?}");

    let closed = std::net::UdpSocket::bind(loopback())
        .unwrap()
        .local_addr()
        .unwrap();
    let absent = endpoint::connect(closed, identity.fingerprint()).await;
    assert!(
        matches!(absent, Err(EndpointError::Unreachable(..))),
        "{absent:?}"
    );
}

/// A proof that was overheard in one session is worth nothing in another.
#[tokio::test]
async fn a_proof_is_bound_to_its_session() {
    let identity = Identity::generate().unwrap();
    let authority = Authority::from_key([1; 32]);
    let server = endpoint::listen(loopback(), &identity).unwrap();
    let address = server.local_addr().unwrap();
    let token = authority
        .issue(identity.fingerprint(), Role::Client, 0)
        .unwrap();
    let serving = tokio::spawn(async move {
        let mut admitted = 0;
        for _ in 0..2 {
            let connection = server.accept().await.unwrap().await.unwrap();
            let link = Link::Quic(connection);
            if let Ok((_, mut stream)) = receive(&link, &authority, 0, |_| false).await {
                admitted += 1;
                welcome(&mut stream, "test", None, 1).await.unwrap();
                link.closed().await;
            }
        }
        admitted
    });
    let (_endpoint, connection) = endpoint::connect(address, token.fingerprint).await.unwrap();
    let link = Link::Quic(connection);
    introduce(&link, Some(&token), "test", Intent::Client)
        .await
        .unwrap();
    link.close(optwasm_protocol::link::CloseCode::Done, "");

    // The same claims with a proof for other keying material.
    let (_endpoint, connection) = endpoint::connect(address, token.fingerprint).await.unwrap();
    let link = Link::Quic(connection);
    let mut stream = link.open().await.unwrap();
    let mut preamble = b"OPTW".to_vec();
    preamble.extend_from_slice(&PROTOCOL_VERSION.to_le_bytes());
    stream.writer.send_body(&preamble).await.unwrap();
    let Token { claims, secret, .. } = token;
    let hello = optwasm_protocol::handshake::Hello {
        software: String::new(),
        claims,
        proof: secret.prove(&[0; 32]),
        intent: Intent::Client,
    };
    stream.writer.send(&hello).await.unwrap();
    let answer = stream.reader.expect::<Answer>().await.unwrap();
    assert!(matches!(
        answer,
        Answer::Refused(Refusal {
            code: RefusalCode::Token,
            ..
        })
    ));
    link.close(optwasm_protocol::link::CloseCode::Done, "");
    assert_eq!(serving.await.unwrap(), 1);
}
