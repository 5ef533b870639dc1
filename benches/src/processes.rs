//! Real processes: a benchmark runs itself again as a coordinator, a worker or an echo.
//!
//! A benchmark's `main` begins with [`role`], which takes over where the process was started as
//! one of those. A child says on its stdout when it is ready, and ends when its stdin does, so that
//! none survives the benchmark, however that ends. Everything listens on the loopback interface.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use optwasm_coordinator::dir::{Credentials, Revocations};
use optwasm_coordinator::{Config, Coordinator};
use optwasm_protocol::message::{Instance, WorkerInfo};
use optwasm_protocol::{ContentId, Locator, Role, Token, endpoint};
use optwasm_sandbox::{Sandbox, SandboxConfig};
use optwasm_store::{MemoryStore, SqliteOptions, SqliteStore, Store};
use optwasm_worker::{BlobCache, Drain, Executor, Target, Worker};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio::task::{LocalSet, spawn_local};

/// The hidden first argument of a child.
const CHILD: &str = "__child";

/// Bytes that a coordinator stores and a worker caches: three of the largest blob. With more, blobs
/// would always go to memory that the machine has never used, which measures the machine.
const ROOM: u64 = 192 << 20;

/// What the workers say they compute like, without which no result answers identical jobs.
const ENGINE: &str = "benchmark";

/// What an echo does with a stream, by the stream's first byte: send back what comes, or read all
/// and then send one byte.
pub const ECHO: u8 = 0;
/// See [`ECHO`].
pub const SINK: u8 = 1;

/// A child process; ended with its handle.
pub struct Process {
    child: Child,
    /// What it said when it was ready.
    greeting: String,
}

/// Where a listening child is, and the tokens for it.
#[derive(Clone, Debug)]
pub struct Service {
    /// Where it listens.
    pub address: SocketAddr,
    /// Admits a client.
    pub client: Token,
    /// Admits a worker.
    pub worker: Token,
}

impl Process {
    fn start(args: &[&str]) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut child = Command::new(program)
            .arg(CHILD)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be run");
        let mut greeting = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        BufReader::new(stdout)
            .read_line(&mut greeting)
            .expect("a child speaks");
        let greeting = greeting.trim_end().to_owned();
        Self { child, greeting }
    }

    /// A coordinator that keeps its work in memory.
    pub fn coordinator() -> Self {
        Self::start(&["coordinator"])
    }

    /// A coordinator that keeps its work in a folder of a disk, with the options that
    /// `optwasm coordinator` has by default.
    ///
    /// # Panics
    ///
    /// Where the folder's name is not Unicode.
    pub fn durable_coordinator(dir: &Path) -> Self {
        let dir = dir.to_str().expect("names of folders here are Unicode");
        Self::start(&["durable-coordinator", dir])
    }

    /// A worker with one slot, connected to `service`.
    pub fn worker(service: &Service, name: &str) -> Self {
        let address = service.address.to_string();
        Self::start(&["worker", &address, &service.worker.expose(), name])
    }

    /// Answers as [`ECHO`] and [`SINK`] say.
    pub fn echo() -> Self {
        Self::start(&["echo"])
    }

    /// How to reach it.
    ///
    /// # Panics
    ///
    /// Where it does not listen.
    pub fn service(&self) -> Service {
        let mut words = self.greeting.split(' ');
        let mut word = || words.next().expect("it says address and tokens");
        Service {
            address: word().parse().expect("it is an address"),
            client: word().parse().expect("it is a token"),
            worker: word().parse().expect("it is a token"),
        }
    }

    /// Bytes of memory that it has resident: `VmRSS` of `/proc/PID/status` (proc_pid_status(5)).
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib.and_then(|kib| kib.parse().ok()).unwrap_or(0) * 1024
    }

    /// Processor time that it has used.
    pub fn cpu(&self) -> Duration {
        cpu(&self.child.id().to_string())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time that this process has used.
pub fn own_cpu() -> Duration {
    cpu("self")
}

/// User and system time of all threads: fields 14 and 15 of `/proc/PID/stat` (proc_pid_stat(5)), in
/// hundredths of a second on every Linux.
fn cpu(pid: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field is a name in parentheses, which may hold anything.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = |n: usize| -> u64 {
        let field = rest.split_whitespace().nth(n - 3);
        field.and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    Duration::from_millis((field(14) + field(15)) * 10)
}

/// A runtime as those of the `optwasm` command: one thread.
///
/// # Panics
///
/// Where the operating system does not give what it needs.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made")
}

/// Becomes the child that this process was started as; returns where it was started otherwise.
///
/// # Panics
///
/// In a child that cannot do its work.
pub fn role() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).map(String::as_str) != Some(CHILD) {
        return;
    }
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    LocalSet::new().block_on(&runtime(), async {
        match &args[2..] {
            [role] if role == "coordinator" => coordinator(MemoryStore::new(ROOM)).await,
            [role, dir] if role == "durable-coordinator" => {
                let store = SqliteStore::open(Path::new(dir), SqliteOptions::default());
                coordinator(store.expect("the disk works")).await;
            }
            [role] if role == "echo" => echo().await,
            [role, address, token, name] if role == "worker" => worker(address, token, name).await,
            _ => panic!("no such role"),
        }
    });
    std::process::exit(0);
}

fn greet(text: &str) {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{text}").expect("the parent listens");
    stdout.flush().expect("the parent listens");
}

fn greet_as_service(address: SocketAddr, credentials: &Credentials) {
    let token = |role| {
        let fingerprint = credentials.identity.fingerprint();
        let token = credentials.authority.issue(fingerprint, role, 0);
        token.expect("there is randomness").expose()
    };
    greet(&format!(
        "{address} {} {}",
        token(Role::Client),
        token(Role::Worker)
    ));
}

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

async fn coordinator(store: impl Store) {
    let credentials = Credentials::generate().expect("there is randomness");
    let config = Config {
        engine: ENGINE.to_owned(),
        ..Config::default()
    };
    let coordinator = Coordinator::new(
        store,
        config,
        credentials.authority.clone(),
        credentials.identity.fingerprint(),
        Revocations::default(),
    )
    .expect("the store is readable");
    let address = coordinator.listen(any_port(), &credentials.identity);
    greet_as_service(address.expect("a port is free"), &credentials);
    coordinator
        .stopped()
        .await
        .expect("the store does not fail");
}

/// What a worker of that name is known by.
fn instance(name: &str) -> Instance {
    let hash = *ContentId::of(name.as_bytes()).as_bytes();
    Instance(*hash.first_chunk().expect("a hash has 32 bytes"))
}

async fn worker(address: &str, token: &str, name: &str) {
    let sandbox = Sandbox::new(SandboxConfig::new(1)).expect("the sandbox starts");
    let executor = Executor::new(Arc::new(sandbox), 1).expect("threads start");
    let info = WorkerInfo {
        name: name.to_owned(),
        slots: 1,
        memory: 4 << 30,
        labels: BTreeMap::new(),
        engine: ENGINE.to_owned(),
        instance: instance(name),
        probe: String::new(),
    };
    let target = Target::Remote(Locator::Address(
        address.parse().expect("the parent passes an address"),
        token.parse().expect("the parent passes a token"),
    ));
    let worker = Rc::new(Worker::new(info, executor, BlobCache::new(ROOM)));
    let (_drain, drained) = tokio::sync::watch::channel(Drain::No);
    let mut greeted = false;
    let said = |text: &str| {
        if !std::mem::replace(&mut greeted, true) {
            greet(text);
        }
    };
    let ended = optwasm_worker::run(worker, target, drained, None, said).await;
    ended.expect("the coordinator admits its worker");
}

async fn echo() {
    let credentials = Credentials::generate().expect("there is randomness");
    let endpoint = endpoint::listen(any_port(), &credentials.identity).expect("a port is free");
    let address = endpoint.local_addr().expect("it has an address");
    greet_as_service(address, &credentials);
    while let Some(incoming) = endpoint.accept().await {
        let connection = incoming.await.expect("the parent connects");
        spawn_local(async move {
            while let Ok((send, recv)) = connection.accept_bi().await {
                spawn_local(answer(send, recv));
            }
        });
    }
}

/// Serves one stream of an echo, as [`ECHO`] and [`SINK`] say.
async fn answer(
    mut send: impl AsyncWrite + Unpin,
    mut recv: impl AsyncRead + Unpin,
) -> std::io::Result<()> {
    let what = recv.read_u8().await?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = recv.read(&mut buffer).await?;
        if count == 0 {
            break;
        }
        if what == ECHO {
            send.write_all(&buffer[..count]).await?;
        }
    }
    if what == SINK {
        send.write_u8(1).await?;
    }
    send.shutdown().await
}
