//! The same calls in this process and over QUIC give the same results.

use bytes::Bytes;
use optwasm_client::{
    BatchSpec, Client, ClientError, Limits, LocalConfig, Order, Outcome, Report, Role, Template,
    Token,
};
use optwasm_coordinator::dir::Credentials;
use optwasm_protocol::endpoint;
use optwasm_protocol::handshake::{Intent, introduce};
use optwasm_protocol::link::{Link, LinkError};
use optwasm_worker::Drain;
use tokio::task::LocalSet;

use crate::service::{Service, module};

fn inputs() -> Vec<Bytes> {
    let mut inputs: Vec<Bytes> = (0..500)
        .map(|i| Bytes::from(format!("input {i}")))
        .collect();
    inputs.push(vec![b'x'; 1 << 20].into());
    inputs.push(Bytes::new());
    inputs
}

/// Outcomes with their outputs fetched, and fuel.
async fn run(client: &Client) -> Vec<(Outcome, u64)> {
    let module = client.put_blob(module()).await.unwrap();
    let spec = BatchSpec::new(Template::new(module));
    let batch = client.submit(spec, inputs()).await.unwrap();
    let mut results = batch.results(Order::Input).await.unwrap();
    let mut all = Vec::new();
    while let Some((index, report)) = results.next().await.unwrap() {
        assert_eq!(index as usize, all.len());
        let Report { outcome, fuel, .. } = report;
        let outcome = match outcome {
            Outcome::Ok(payload) => Outcome::Ok(client.fetch(&payload).await.unwrap().into()),
            other => other,
        };
        all.push((outcome, fuel));
    }
    let status = batch.status().await.unwrap();
    assert!(status.is_done());
    assert_eq!(status.failed(), 0);
    all
}

#[tokio::test]
async fn local_and_remote_results_are_the_same() {
    let local = Client::local(LocalConfig::new(2)).await.unwrap();
    let expected = run(&local).await;
    for ((outcome, _), input) in expected.iter().zip(inputs()) {
        assert_eq!(*outcome, Outcome::Ok(input.into()));
    }
    LocalSet::new()
        .run_until(async {
            let service = Service::start(1 << 30);
            let _first = service.add_worker("first");
            let _second = service.add_worker("second");
            let client = service.client(Role::Client).await;
            assert_eq!(run(&client).await, expected);
            assert_eq!(client.workers().await.unwrap().len(), 2);
            client.close().await;
        })
        .await;
}

#[tokio::test]
async fn a_batch_waits_for_workers_and_can_be_cancelled() {
    LocalSet::new()
        .run_until(async {
            let service = Service::start(1 << 30);
            let client = service.client(Role::Client).await;
            let module = client.put_blob(module()).await.unwrap();
            let mut spec = BatchSpec::new(Template::new(module));
            spec.require = [("kind".to_owned(), "test".to_owned())].into();
            let batch = client
                .submit(spec, ["quick", "spin", "spin"])
                .await
                .unwrap();
            let status = batch.status().await.unwrap();
            assert_eq!(
                status.waiting_for.as_deref(),
                Some("no worker is connected")
            );

            let drain = service.add_worker("only");
            let mut results = batch.results(Order::Completion).await.unwrap();
            let (index, report) = results.next().await.unwrap().unwrap();
            assert_eq!((index, report.attempt), (0, 1));
            assert_eq!(report.worker, "only");
            batch.cancel().await.unwrap();
            let rest = [results.next().await.unwrap(), results.next().await.unwrap()];
            for (_, report) in rest.into_iter().flatten() {
                assert_eq!(report.outcome, Outcome::Cancelled);
            }
            assert!(results.next().await.unwrap().is_none());
            assert!(batch.wait().await.unwrap().cancelled);

            // The slot that span is free again.
            let limits = Limits::default();
            let mut template = Template::new(module);
            template.limits = limits;
            let again = client
                .submit(BatchSpec::new(template), ["more"])
                .await
                .unwrap();
            assert!(again.wait().await.unwrap().is_done());
            batch.remove().await.unwrap();
            assert!(matches!(batch.status().await, Err(ClientError::Request(_))));

            drain.send(Drain::Gently).unwrap();
            while !client.workers().await.unwrap().is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
}

#[tokio::test]
async fn nobody_does_more_than_the_token_allows() {
    LocalSet::new()
        .run_until(async {
            let service = Service::start(1 << 20);
            let stranger = Credentials::generate().unwrap();
            // A token for another coordinator, one that nobody issued, one that has expired.
            let fingerprint = service.credentials.identity.fingerprint();
            let foreign = stranger
                .authority
                .issue(stranger.identity.fingerprint(), Role::Admin, 0);
            let forged = stranger.authority.issue(fingerprint, Role::Admin, 0);
            let expired = service
                .credentials
                .authority
                .issue(fingerprint, Role::Admin, 1);
            for (token, expected) in [
                (foreign, "is not the one"),
                (forged, "did not issue"),
                (expired, "expired"),
            ] {
                let refused = Client::connect(service.address, &token.unwrap()).await;
                let message = refused.err().unwrap().to_string();
                assert!(message.contains(expected), "{message}");
            }

            let reader = service.client(Role::Read).await;
            assert!(reader.batches().await.unwrap().is_empty());
            assert!(reader.put_blob(module()).await.is_err());
            let submitter = service.client(Role::Client).await;
            assert!(submitter.issue_token(Role::Admin, 0).await.is_err());
            let full = submitter
                .put_blob(vec![0; 2 << 20].into())
                .await
                .unwrap_err();
            assert!(full.to_string().contains("does not fit"), "{full}");

            let admin = service.client(Role::Admin).await;
            let text = admin.issue_token(Role::Client, 60).await.unwrap();
            let token: Token = text.parse().unwrap();
            Client::connect(service.address, &token).await.unwrap();
            admin.revoke_token(&token.claims.name()).await.unwrap();
            assert!(Client::connect(service.address, &token).await.is_err());
            admin.shutdown(false).await.unwrap();
            service.coordinator.stopped().await.unwrap();
        })
        .await;
}

#[tokio::test]
async fn a_peer_that_talks_nonsense_is_cut_off_and_nobody_else_notices() {
    LocalSet::new()
        .run_until(async {
            let service = Service::start(1 << 20);
            let client = service.client(Role::Client).await;
            let token = service.token(Role::Admin);
            let connected = endpoint::connect(service.address, token.fingerprint).await;
            let (_endpoint, connection) = connected.unwrap();
            let link = Link::Quic(connection);
            introduce(&link, Some(&token), "nonsense", Intent::Client)
                .await
                .unwrap();
            let mut stream = link.open().await.unwrap();
            // A frame of ten bytes that are no request.
            let frame = [&10u32.to_le_bytes()[..], &[0xff; 10]].concat();
            stream.writer.send_body(&frame).await.unwrap();
            let ended = link.closed().await;
            assert!(
                matches!(ended, LinkError::Closed { code: 1, .. }),
                "{ended:?}"
            );
            assert!(client.batches().await.unwrap().is_empty());
        })
        .await;
}
