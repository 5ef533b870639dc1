//! A coordinator and two workers of one slot as real processes, and this process as their client,
//! over QUIC on the loopback interface: jobs end to end, and a large blob.
//!
//! Floors, measured against an echo process over the same kind of connection: a round trip of one
//! byte, and the blob sent once.
//!
//! Criterion is not used here: it computes for seconds between measurements, while nobody drives
//! this process's connections, and they would be lost.

use std::time::{Duration, Instant};

use bytes::Bytes;
use optwasm_benches::processes::{self, ECHO, Process, SINK, Service};
use optwasm_benches::report::{Report, Value};
use optwasm_benches::samples::Samples;
use optwasm_client::{BatchSpec, Client, ContentId, Memo, Order, Template};
use optwasm_protocol::endpoint;
use optwasm_tests::guests;
use tokio::runtime::Runtime;

/// Jobs of one batch, where throughput is measured.
const JOBS: usize = 100_000;
/// Batches, and transfers of a blob, of which the median counts.
const ROUNDS: usize = 5;
/// Round trips, and jobs one at a time, enough for a 99th percentile.
const SINGLES: usize = 5000;
/// Bytes of the blob.
const BLOB: usize = 64 << 20;

/// Submits `jobs` jobs and reads all their results. Returns how long that took, and the names of the
/// workers that ran them.
async fn batch(client: &Client, template: &Template, jobs: usize) -> (Duration, Vec<String>) {
    let begun = Instant::now();
    let inputs = std::iter::repeat_n(Bytes::new(), jobs);
    let mut spec = BatchSpec::new(template.clone());
    // They are all the same, and all run.
    spec.memo = Memo::Off;
    let batch = client.submit(spec, inputs).await.expect("there is room");
    let results = batch.results(Order::Completion).await;
    let mut results = results.expect("there are results");
    let mut seen = 0;
    let mut workers: Vec<String> = Vec::new();
    while let Some((_, report)) = results.next().await.expect("the coordinator is there") {
        assert!(report.outcome.is_ok(), "{}", report.outcome);
        seen += 1;
        if !workers.contains(&report.worker) {
            workers.push(report.worker);
        }
    }
    let elapsed = begun.elapsed();
    assert_eq!(seen, jobs);
    batch.remove().await.expect("the batch is done");
    (elapsed, workers)
}

/// A blob that nobody has seen: the generator of Knuth's MMIX, eight bytes a step.
fn new_blob(seed: &mut u64) -> Bytes {
    let mut bytes = Vec::with_capacity(BLOB);
    while bytes.len() < BLOB {
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&seed.to_le_bytes());
    }
    bytes.into()
}

/// Floors: the round trip of a byte, and the transfer of a blob; and the size that datagrams have
/// then reached.
fn echo(runtime: &Runtime, seed: &mut u64) -> (Samples, Samples, u16) {
    let process = Process::echo();
    let Service {
        address, client, ..
    } = process.service();
    let connecting = endpoint::connect(address, client.fingerprint);
    let (_endpoint, connection) = runtime.block_on(connecting).expect("the echo listens");
    let (mut send, mut recv) = runtime.block_on(async {
        let (mut send, recv) = connection.open_bi().await.expect("a stream opens");
        send.write_all(&[ECHO]).await.expect("the echo reads");
        (send, recv)
    });
    let mut round_trips = Samples::default();
    for _ in 0..SINGLES {
        let begun = Instant::now();
        runtime.block_on(async {
            send.write_all(&[1]).await.expect("the echo reads");
            recv.read_exact(&mut [0]).await.expect("the echo answers");
        });
        round_trips.add(begun.elapsed());
    }
    let mut transfers = Samples::default();
    for _ in 0..ROUNDS {
        let blob = new_blob(seed);
        let begun = Instant::now();
        runtime.block_on(async {
            let (mut send, mut recv) = connection.open_bi().await.expect("a stream opens");
            send.write_all(&[SINK]).await.expect("the echo reads");
            send.write_all(&blob).await.expect("the echo reads");
            send.finish().expect("the stream is open");
            recv.read_exact(&mut [0]).await.expect("the echo answers");
        });
        transfers.add(begun.elapsed());
    }
    (round_trips, transfers, connection.stats().path.current_mtu)
}

/// Processor time of this process, the coordinator and the workers.
fn cpu(coordinator: &Process, workers: &[Process]) -> [Duration; 3] {
    let workers = workers.iter().map(Process::cpu).sum();
    [processes::own_cpu(), coordinator.cpu(), workers]
}

fn main() {
    processes::role();
    let runtime = processes::runtime();
    let mut seed = u64::from(std::process::id());
    let (round_trips, transfers, mtu) = echo(&runtime, &mut seed);
    let round_trip = Value::Seconds(round_trips.median());
    let transfer = Value::Seconds(transfers.median());
    let mut report = Report::new();
    report.line("QUIC echo of 1 byte, p50", round_trip, None, None);
    let p99 = Value::Seconds(round_trips.quantile(0.99));
    report.line("QUIC echo of 1 byte, p99", p99, None, None);
    report.line("64 MiB over one QUIC stream", transfer, None, None);

    report.line(
        "bytes in a datagram by then",
        Value::Bytes(f64::from(mtu)),
        None,
        None,
    );

    let coordinator = Process::coordinator();
    let service = coordinator.service();
    let workers = ["first", "second"].map(|name| Process::worker(&service, name));
    let client = runtime.block_on(Client::connect(service.address, &service.client));
    let client = client.expect("the coordinator listens");
    let module = runtime.block_on(client.put_blob(guests::bytes("noop").into()));
    let template = Template::new(module.expect("there is room"));
    // Compiles the module on both.
    let (_, both) = runtime.block_on(batch(&client, &template, 1000));
    assert_eq!(both.len(), 2, "both workers work");

    let mut single = Samples::default();
    for _ in 0..SINGLES {
        single.add(runtime.block_on(batch(&client, &template, 1)).0);
    }
    let reach = Some(Value::Seconds(400e-6));
    let p50 = Value::Seconds(single.median());
    report.line(
        "one job, submit to result, p50",
        p50,
        Some(round_trip),
        reach,
    );
    let p99 = Value::Seconds(single.quantile(0.99));
    report.line(
        "one job, submit to result, p99",
        p99,
        Some(round_trip),
        None,
    );

    let mut rounds = Samples::default();
    let before = cpu(&coordinator, &workers);
    for _ in 0..ROUNDS {
        rounds.add(runtime.block_on(batch(&client, &template, JOBS)).0);
    }
    let after = cpu(&coordinator, &workers);
    let rate = Value::PerSecond(JOBS as f64 / rounds.median());
    let reach = Some(Value::PerSecond(60_000.0));
    report.line("no-op jobs", rate, None, reach);
    for ((who, after), before) in ["client", "coordinator", "workers"]
        .iter()
        .zip(after)
        .zip(before)
    {
        let per_job = (after - before).as_secs_f64() / (ROUNDS * JOBS) as f64;
        let what = format!("no-op jobs: processor time of {who}");
        report.line(&what, Value::Seconds(per_job), None, None);
    }

    let mut distributed = Samples::default();
    for _ in 0..ROUNDS {
        let blob = new_blob(&mut seed);
        let mut template = template.clone();
        template.blobs = vec![("data".to_owned(), ContentId::of(&blob))];
        let begun = Instant::now();
        runtime
            .block_on(client.put_blob(blob))
            .expect("there is room");
        let sent = begun.elapsed();
        let (elapsed, both) = runtime.block_on(batch(&client, &template, 2));
        distributed.add(sent + elapsed);
        assert_eq!(both.len(), 2, "both workers have the blob");
    }
    let time = Value::Seconds(distributed.median());
    let reach = Some(Value::Seconds(0.5));
    report.line("64 MiB to two workers", time, Some(transfer), reach);

    // Workers would try to connect again.
    drop(workers);
    runtime.block_on(client.close());
    report.print("End to end, as processes (floors: QUIC echo, 64 MiB over one stream)");
}
