//! A coordinator that keeps its work on a disk: commits of the store alone, and jobs end to end with
//! a coordinator and two workers of one slot as real processes, and this process as their client.
//!
//! Rerun with `cargo bench -p optwasm-benches --bench durable`; `-- --finished 10000000` finishes so
//! many jobs before the coordinator's memory is measured for the last time (two million unless said),
//! and `-- --only WORD` measures only `store`, `jobs`, `memo`, `million` or `finished`. What is
//! written goes to the target folder: point `CARGO_TARGET_DIR` at the disk that is to be measured.
//!
//! Floors: appending a page to a file and syncing it, for a commit; the same coordinator with
//! its work in memory, for jobs.
//!
//! Criterion is not used here, for the reason that `cluster` gives.

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use bytes::Bytes;
use optwasm_benches::processes::{self, Process, Service};
use optwasm_benches::report::{Report as Table, Value};
use optwasm_benches::samples::Samples;
use optwasm_client::{BatchSpec, Client, Memo, Order, Template};
use optwasm_protocol::{BatchId, ContentId, JobId, Outcome, Payload, Report};
use optwasm_store::{NewBatch, Record, SqliteOptions, SqliteStore, Store};
use optwasm_tests::guests;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Jobs of one batch, where throughput is measured.
const JOBS: u32 = 100_000;
/// Batches of which the median counts.
const ROUNDS: u64 = 5;
/// Commits of the store alone, enough for a 99th percentile.
const COMMITS: u32 = 2000;
/// Records in one commit of the store under load: what a busy coordinator appends at once.
const GROUP: u32 = 64;
/// Commits of the store under load that are on their way at once.
const AHEAD: usize = 8;
/// Bytes of each input of the large batch, and its jobs.
const INPUT: usize = 100;
const MILLION: u32 = 1_000_000;
/// How long after that memory is measured: what the submission took is given back by then.
const SETTLE: Duration = Duration::from_secs(1);
/// Jobs of each batch of those that finish before memory is measured.
const PORTION: u32 = 250_000;

/// What the command line asks for.
struct Wanted {
    only: Option<String>,
    finished: u64,
}

impl Wanted {
    fn from_args() -> Self {
        let args: Vec<String> = std::env::args().collect();
        let after = |name: &str| {
            let place = args.iter().position(|arg| arg == name)?;
            args.get(place + 1).cloned()
        };
        let finished = after("--finished").map(|count| count.parse().expect("it is a number"));
        Self {
            only: after("--only"),
            finished: finished.unwrap_or(2_000_000),
        }
    }

    fn has(&self, part: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == part)
    }
}

/// A folder on the disk that is measured; deleted when it is dropped.
fn folder() -> TempDir {
    let made = TempDir::new_in(env!("CARGO_TARGET_TMPDIR"));
    made.expect("the target folder can be written")
}

/// Inputs of `len` bytes, each another, for every round others.
fn inputs(round: u64, jobs: u32, len: usize) -> impl Iterator<Item = Bytes> {
    (0..jobs).map(move |job| {
        let mut input = vec![0; len];
        input[..8].copy_from_slice(&round.to_le_bytes());
        input[8..12].copy_from_slice(&job.to_le_bytes());
        input.into()
    })
}

/// Reads all results of a batch.
async fn read(client: &Client, batch: BatchId, jobs: u32) {
    let results = client.batch(batch).results(Order::Completion).await;
    let mut results = results.expect("there are results");
    let mut seen = 0;
    while let Some((_, report)) = results.next().await.expect("the coordinator is there") {
        assert!(report.outcome.is_ok(), "{}", report.outcome);
        seen += 1;
    }
    assert_eq!(seen, jobs);
}

/// Submits a batch and reads all its results.
async fn run(client: &Client, spec: &BatchSpec, round: u64, jobs: u32) -> Duration {
    let begun = Instant::now();
    let batch = client.submit(spec.clone(), inputs(round, jobs, 16)).await;
    let batch = batch.expect("there is room");
    read(client, batch.id(), jobs).await;
    begun.elapsed()
}

/// A coordinator with two workers that have compiled the module, a client, and what it submits.
struct Cluster {
    coordinator: Process,
    _workers: [Process; 2],
    client: Client,
    spec: BatchSpec,
}

fn connect(runtime: &Runtime, service: &Service) -> Client {
    let client = runtime.block_on(Client::connect(service.address, &service.client));
    client.expect("the coordinator listens")
}

/// Batches of jobs that do nothing.
fn spec(runtime: &Runtime, client: &Client, memo: Memo) -> BatchSpec {
    let module = runtime.block_on(client.put_blob(guests::bytes("noop").into()));
    let mut spec = BatchSpec::new(Template::new(module.expect("there is room")));
    spec.memo = memo;
    spec
}

impl Cluster {
    fn start(runtime: &Runtime, coordinator: Process, memo: Memo) -> Self {
        let service = coordinator.service();
        let workers = ["first", "second"].map(|name| Process::worker(&service, name));
        let client = connect(runtime, &service);
        let spec = spec(runtime, &client, memo);
        runtime.block_on(run(&client, &spec, u64::MAX, 1000));
        Self {
            coordinator,
            _workers: workers,
            client,
            spec,
        }
    }

    /// Jobs per second, submit to last result.
    fn rate(&self, runtime: &Runtime) -> f64 {
        let mut rounds = Samples::default();
        for round in 0..ROUNDS {
            rounds.add(runtime.block_on(run(&self.client, &self.spec, round, JOBS)));
        }
        f64::from(JOBS) / rounds.median()
    }
}

/// Commits of the store alone.
fn store(runtime: &Runtime, table: &mut Table) {
    let dir = folder();
    let mut floor = Samples::default();
    let mut file = File::create(dir.path().join("floor")).expect("the disk works");
    for _ in 0..COMMITS {
        let begun = Instant::now();
        file.write_all(&[1; 4096]).expect("the disk works");
        file.sync_data().expect("the disk works");
        floor.add(begun.elapsed());
    }
    let store = SqliteStore::open(dir.path(), SqliteOptions::default()).expect("the disk works");
    let load = 200 * COMMITS;
    let batch = BatchId(1);
    let submitted = NewBatch {
        namespace: optwasm_protocol::Namespace::default(),
        batch,
        spec: BatchSpec::new(Template::new(ContentId::of(b"any"))),
        inputs: vec![Payload::Inline(Bytes::new()); (COMMITS + load) as usize],
        digest: [0; 32],
        engine: String::new(),
        submitted_ms: 1,
    };
    let result = |index| {
        let report = Report::not_run(Outcome::Ok(Payload::Inline(Bytes::new())));
        Record::Result(JobId(batch, index), Box::new(report), String::new())
    };
    let (mut single, mut loaded) = (Samples::default(), Samples::default());
    let mut elapsed = Duration::ZERO;
    runtime.block_on(async {
        let commit = store.append(vec![Record::Submitted(Box::new(submitted))]);
        let commit = commit.expect("there is room").wait().await;
        commit.expect("the disk works");
        for index in 0..COMMITS {
            let begun = Instant::now();
            let commit = store.append(vec![result(index)]).expect("there is room");
            commit.wait().await.expect("the disk works");
            single.add(begun.elapsed());
        }
        let begun = Instant::now();
        let mut ahead = std::collections::VecDeque::new();
        for first in (COMMITS..COMMITS + load).step_by(GROUP as usize) {
            let last = (first + GROUP).min(COMMITS + load);
            let appended = Instant::now();
            let commit = store.append((first..last).map(result).collect());
            ahead.push_back((appended, commit.expect("there is room")));
            if ahead.len() >= AHEAD
                && let Some((appended, commit)) = ahead.pop_front()
            {
                commit.wait().await.expect("the disk works");
                loaded.add(appended.elapsed());
            }
        }
        for (appended, commit) in ahead {
            commit.wait().await.expect("the disk works");
            loaded.add(appended.elapsed());
        }
        elapsed = begun.elapsed();
    });
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let floor = Value::Seconds(floor.quantile(share));
        let line = |what: &str, samples: &Samples| {
            (
                format!("{what}, {name}"),
                Value::Seconds(samples.quantile(share)),
            )
        };
        let (what, value) = line("commit of one result", &single);
        table.line(&what, value, Some(floor), None);
        let (what, value) = line("commit of 64 results, 8 on their way", &loaded);
        table.line(&what, value, Some(floor), None);
    }
    let rate = Value::PerSecond(f64::from(load) / elapsed.as_secs_f64());
    table.line("results into the store alone", rate, None, None);
}

/// Jobs end to end, on disk and in memory.
fn jobs(runtime: &Runtime, table: &mut Table) {
    let floor = Cluster::start(runtime, Process::coordinator(), Memo::Off).rate(runtime);
    let floor = Some(Value::PerSecond(floor));
    for (name, memo) in [("off", Memo::Off), ("on", Memo::On)] {
        let dir = folder();
        let coordinator = Process::durable_coordinator(dir.path());
        let cluster = Cluster::start(runtime, coordinator, memo);
        let before = cluster.coordinator.cpu();
        let rate = Value::PerSecond(cluster.rate(runtime));
        let used = (cluster.coordinator.cpu() - before).as_secs_f64();
        let what = format!("no-op jobs, durable, memo {name} (floor: in memory)");
        table.line(&what, rate, floor, Some(Value::PerSecond(40_000.0)));
        let per_job = Value::Seconds(used / (ROUNDS * u64::from(JOBS)) as f64);
        let what = format!("the same: processor time of the coordinator, memo {name}");
        table.line(&what, per_job, None, None);
    }
}

/// Jobs that have been answered before.
fn memo(runtime: &Runtime, table: &mut Table) {
    let dir = folder();
    let cluster = Cluster::start(runtime, Process::durable_coordinator(dir.path()), Memo::On);
    runtime.block_on(run(&cluster.client, &cluster.spec, 0, JOBS));
    let mut hits = Samples::default();
    let before = cluster.coordinator.cpu();
    for _ in 0..ROUNDS {
        hits.add(runtime.block_on(run(&cluster.client, &cluster.spec, 0, JOBS)));
    }
    let used = (cluster.coordinator.cpu() - before).as_secs_f64();
    let rate = Value::PerSecond(f64::from(JOBS) / hits.median());
    table.line(
        "jobs answered from memory, one batch at a time",
        rate,
        None,
        None,
    );
    let per_job = Value::Seconds(used / (ROUNDS * u64::from(JOBS)) as f64);
    let what = "the same: processor time of the coordinator";
    table.line(what, per_job, None, None);
    // While one batch is looked up, the next is on its way.
    let mut both = Samples::default();
    for _ in 0..ROUNDS {
        let batch = || run(&cluster.client, &cluster.spec, 0, JOBS);
        let begun = Instant::now();
        runtime.block_on(async { tokio::join!(batch(), batch(), batch()) });
        both.add(begun.elapsed());
    }
    let rate = Value::PerSecond(3.0 * f64::from(JOBS) / both.median());
    let reach = Some(Value::PerSecond(200_000.0));
    table.line(
        "jobs answered from memory, three batches at a time",
        rate,
        None,
        reach,
    );
}

/// A million waiting jobs: until they are acknowledged, what they occupy, and how long a coordinator
/// that starts with them takes.
fn million(runtime: &Runtime, table: &mut Table) {
    let dir = folder();
    let coordinator = Process::durable_coordinator(dir.path());
    let service = coordinator.service();
    let client = connect(runtime, &service);
    let spec = spec(runtime, &client, Memo::On);
    let empty = coordinator.resident();
    let begun = Instant::now();
    let submitted = client.submit(spec, inputs(1, MILLION, INPUT));
    let submitted = runtime.block_on(submitted).expect("there is room");
    let time = Value::Seconds(begun.elapsed().as_secs_f64());
    let batch = submitted.id();
    let what = "a million jobs of 100 B, until acknowledged";
    table.line(what, time, None, Some(Value::Seconds(5.0)));
    let reach = Some(Value::Bytes(f64::from(64 << 20)));
    table.line(
        "memory of an idle coordinator",
        Value::Bytes(empty as f64),
        None,
        None,
    );
    std::thread::sleep(SETTLE);
    let resident = Value::Bytes(coordinator.resident() as f64);
    table.line("memory with a million waiting jobs", resident, None, reach);
    // Killed, as in a power failure.
    drop(coordinator);
    runtime.block_on(client.close());

    let begun = Instant::now();
    let coordinator = Process::durable_coordinator(dir.path());
    let listening = begun.elapsed();
    let service = coordinator.service();
    let _worker = Process::worker(&service, "first");
    let client = connect(runtime, &service);
    let first = runtime.block_on(async {
        let results = client.batch(batch).results(Order::Completion).await;
        let mut results = results.expect("the batch is there");
        let first = results.next().await.expect("the coordinator is there");
        assert!(first.is_some(), "a job ends");
        begun.elapsed()
    });
    let what = "restart with a million jobs, until it listens";
    table.line(
        what,
        Value::Seconds(listening.as_secs_f64()),
        None,
        Some(Value::Seconds(2.0)),
    );
    let what = "the same, until the first result is read (with start of a worker)";
    table.line(
        what,
        Value::Seconds(first.as_secs_f64()),
        None,
        Some(Value::Seconds(2.0)),
    );
    let resident = Value::Bytes(coordinator.resident() as f64);
    table.line("memory after that restart", resident, None, reach);
    runtime.block_on(client.close());
}

/// What finished jobs occupy.
fn finished(runtime: &Runtime, table: &mut Table, jobs: u64) {
    let dir = folder();
    let coordinator = Process::durable_coordinator(dir.path());
    let cluster = Cluster::start(runtime, coordinator, Memo::On);
    let rounds = jobs.div_ceil(u64::from(PORTION));
    let begun = Instant::now();
    for round in 0..rounds {
        runtime.block_on(run(&cluster.client, &cluster.spec, round, PORTION));
        let done = (round + 1) * u64::from(PORTION);
        if round == 0 || round + 1 == rounds {
            let resident = Value::Bytes(cluster.coordinator.resident() as f64);
            let reach = Some(Value::Bytes(f64::from(64 << 20)));
            let what = format!("memory with {done} finished jobs");
            table.line(&what, resident, None, reach);
        }
    }
    let rate = (rounds * u64::from(PORTION)) as f64 / begun.elapsed().as_secs_f64();
    table.line("their rate", Value::PerSecond(rate), None, None);
    let on_disk = std::fs::metadata(dir.path().join("store.sqlite"));
    let bytes = on_disk.map_or(0, |file| file.len()) as f64;
    let per_job = bytes / (rounds * u64::from(PORTION)) as f64;
    table.line("disk for a finished job", Value::Bytes(per_job), None, None);
}

fn main() {
    processes::role();
    let wanted = Wanted::from_args();
    let runtime = processes::runtime();
    let mut table = Table::new();
    if wanted.has("store") {
        store(&runtime, &mut table);
    }
    if wanted.has("jobs") {
        jobs(&runtime, &mut table);
    }
    if wanted.has("memo") {
        memo(&runtime, &mut table);
    }
    if wanted.has("million") {
        million(&runtime, &mut table);
    }
    if wanted.has("finished") {
        finished(&runtime, &mut table, wanted.finished);
    }
    table.print("Durable (floors: append and sync of a page; work in memory)");
}
