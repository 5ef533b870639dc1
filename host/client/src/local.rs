//! Jobs in this process: a coordinator and a worker on one thread, joined by pipes.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use optwasm_coordinator::dir::Revocations;
use optwasm_coordinator::{Config, Coordinator};
use optwasm_protocol::link::CloseCode;
use optwasm_protocol::message::{Instance, WorkerInfo};
use optwasm_protocol::token::Authority;
use optwasm_protocol::{Fingerprint, Link};
use optwasm_sandbox::{Sandbox, SandboxConfig};
use optwasm_store::MemoryStore;
use optwasm_worker::{BlobCache, Drain, Executor, Target, Worker};
use tokio::sync::watch;
use tokio::task::LocalSet;

use crate::ClientError;

/// How jobs run in this process.
#[derive(Clone, Debug)]
pub struct LocalConfig {
    /// The sandbox; its slots are how many jobs run at once.
    pub sandbox: SandboxConfig,
    /// Bytes of memory that all running jobs together may be allowed.
    pub memory: u64,
}

impl LocalConfig {
    /// `slots` jobs at once, compiled in this process, nothing kept on disk, any amount of memory.
    pub fn new(slots: u32) -> Self {
        Self {
            sandbox: SandboxConfig::new(slots),
            memory: u64::MAX,
        }
    }
}

/// The thread behind a local client; ends with it.
pub(crate) struct Local {
    link: Link,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Local {
    fn drop(&mut self) {
        self.link.close(CloseCode::Done, "done");
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has nothing left to end.
            let _ = thread.join();
        }
    }
}

pub(crate) fn start(config: LocalConfig) -> Result<(Link, Local), ClientError> {
    let slots = config.sandbox.slots;
    let sandbox = Sandbox::new(config.sandbox).map_err(std::io::Error::other)?;
    let executor = Executor::new(Arc::new(sandbox), slots)?;
    let authority = Authority::generate()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let info = WorkerInfo {
        name: "local".to_owned(),
        slots,
        memory: config.memory,
        labels: BTreeMap::new(),
        engine: String::new(),
        instance: Instance::default(),
        probe: String::new(),
    };
    let (ours, theirs) = Link::memory();
    let thread = std::thread::Builder::new()
        .name("optwasm-local".to_owned())
        .spawn(move || {
            LocalSet::new().block_on(&runtime, serve(theirs, authority, info, executor));
            // Compiling cannot be stopped, and need not be waited for.
            runtime.shutdown_background();
        })?;
    let local = Local {
        link: ours.clone(),
        thread: Some(thread),
    };
    Ok((ours, local))
}

/// Serves the client behind `link` until it leaves.
async fn serve(link: Link, authority: Authority, info: WorkerInfo, executor: Executor) {
    let coordinator = Coordinator::new(
        // Nobody but this process fills it.
        MemoryStore::new(u64::MAX),
        Config::default(),
        authority,
        Fingerprint::from_bytes([0; 32]),
        Revocations::default(),
    );
    // An empty store in memory holds nothing that could not be read.
    let Ok(coordinator) = coordinator else { return };
    let (worker_end, coordinator_end) = Link::memory();
    // Everything that a blob cache could drop is in the store beside it.
    let worker = Rc::new(Worker::new(info, executor, BlobCache::new(u64::MAX)));
    let (_drain, drained) = watch::channel(Drain::No);
    let target = Target::InProcess(worker_end);
    let working = optwasm_worker::run(worker, target, drained, None, |_| ());
    tokio::select! {
        () = coordinator.serve(link) => {}
        () = coordinator.serve(coordinator_end) => {}
        _ = working => {}
    }
}
