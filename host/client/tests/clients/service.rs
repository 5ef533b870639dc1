//! A coordinator and workers in this process, joined over QUIC.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use optwasm_client::{Client, ContentId, Role, Token};
use optwasm_coordinator::dir::{Credentials, Revocations};
use optwasm_coordinator::{Config, Coordinator};
use optwasm_protocol::Locator;
use optwasm_protocol::message::{Instance, WorkerInfo};
use optwasm_sandbox::{Sandbox, SandboxConfig};
use optwasm_store::MemoryStore;
use optwasm_worker::{BlobCache, Drain, Executor, Target, Worker};
use tokio::sync::watch;

/// Copies its input to its output through stdin and stdout; spins where the input begins with `s`.
const ECHO: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (func (export "_start")
        (loop $again
            (i32.store (i32.const 0) (i32.const 64))
            (i32.store (i32.const 4) (i32.const 100000))
            (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
            (if (i32.load (i32.const 8)) (then
                (if (i32.eq (i32.load8_u (i32.const 64)) (i32.const 115)) (then
                    (loop $for_ever (br $for_ever))))
                (i32.store (i32.const 4) (i32.load (i32.const 8)))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
                (br $again))))))"#;

pub fn module() -> Bytes {
    wat::parse_str(ECHO).unwrap().into()
}

pub fn worker(name: &str) -> Rc<Worker> {
    let sandbox = Sandbox::new(SandboxConfig::new(1)).unwrap();
    let info = WorkerInfo {
        name: name.to_owned(),
        slots: 1,
        memory: 4 << 30,
        labels: [("kind".to_owned(), "test".to_owned())].into(),
        engine: String::new(),
        instance: Instance(
            *ContentId::of(name.as_bytes())
                .as_bytes()
                .first_chunk()
                .unwrap(),
        ),
        probe: String::new(),
    };
    let executor = Executor::new(Arc::new(sandbox), 1).unwrap();
    Rc::new(Worker::new(info, executor, BlobCache::new(1 << 30)))
}

pub struct Service {
    pub coordinator: Coordinator<MemoryStore>,
    pub address: SocketAddr,
    pub credentials: Credentials,
}

impl Service {
    pub fn start(limit: u64) -> Self {
        let credentials = Credentials::generate().unwrap();
        let coordinator = Coordinator::new(
            MemoryStore::new(limit),
            Config::default(),
            credentials.authority.clone(),
            credentials.identity.fingerprint(),
            Revocations::default(),
        )
        .unwrap();
        let address = "127.0.0.1:0".parse().unwrap();
        let address = coordinator.listen(address, &credentials.identity).unwrap();
        Self {
            coordinator,
            address,
            credentials,
        }
    }

    pub fn token(&self, role: Role) -> Token {
        let fingerprint = self.credentials.identity.fingerprint();
        let authority = &self.credentials.authority;
        authority.issue(fingerprint, role, 0).unwrap()
    }

    pub async fn client(&self, role: Role) -> Client {
        Client::connect(self.address, &self.token(role))
            .await
            .unwrap()
    }

    pub fn add_worker(&self, name: &str) -> watch::Sender<Drain> {
        let target = Target::Remote(Locator::Address(self.address, self.token(Role::Worker)));
        let (drain, drained) = watch::channel(Drain::No);
        let worker = worker(name);
        tokio::task::spawn_local(async move {
            let _ = optwasm_worker::run(worker, target, drained, None, |_| ()).await;
        });
        drain
    }
}
