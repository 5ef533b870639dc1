//! What programs do with a pool of two workers of one slot, as real processes, over QUIC on the
//! loopback interface: a map of tiny jobs, large data that is pushed once and read by many jobs, a
//! search that evaluates what takes no time, and progressive hedging.

use std::io::sink;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use bytes::Bytes;
use optwasm_benches::processes::{self, Process};
use optwasm_benches::report::{Report, Value};
use optwasm_benches::samples::Samples;
use optwasm_client::{BatchSpec, Client, Instances, Memo, Template};
use optwasm_ph::{Class, Driver, Ph, Solver};
use optwasm_tests::guests;
use optwasm_tune::{Budgets, Drive, Method, Order, RandomSampler, Search, Settings, Space};

/// Rounds of which the median counts.
const ROUNDS: usize = 5;
/// Jobs of a map, and jobs that read the data.
const JOBS: u64 = 1000;
/// Bytes of the data, and of the range that each job reads.
const DATA: usize = 64 << 20;
const RANGE: u32 = 4096;
/// Evaluations of the search.
const EVALUATIONS: u64 = 10_000;

async fn spec(client: &Client, guest: &str) -> BatchSpec {
    let module = client.put_blob(guests::bytes(guest).into()).await;
    let mut spec = BatchSpec::new(Template::new(module.expect("there is room")));
    // They all run.
    spec.memo = Memo::Off;
    spec
}

/// A map of tiny jobs, from the call to the last output.
async fn map(client: &Client) -> Duration {
    let spec = spec(client, "sum").await;
    let begun = Instant::now();
    let inputs = (0..JOBS).map(|n| vec![n as f64, 1.0]);
    let sums = client
        .map_with::<_, optwasm_test_guests::Sum>(spec, inputs)
        .await;
    let elapsed = begun.elapsed();
    for (n, sum) in (0..JOBS).zip(sums.expect("the coordinator is there")) {
        assert_eq!(sum.expect("it is a sum").sum, n as f64 + 1.0);
    }
    elapsed
}

/// Data that nobody has seen is pushed, and as many jobs each read a range of it. The time from the
/// push to the last output, and the same again while the workers have the data.
async fn ranges(client: &Client, guest: &str, instances: Instances, seed: u8) -> [Duration; 2] {
    let mut spec = spec(client, guest).await;
    spec.template.instances = instances;
    let bytes: Vec<u8> = (0..DATA).map(|i| (i / 4096) as u8 ^ seed).collect();
    let expected = |n: u64| -> u64 {
        let range = &bytes[(n * 65_521) as usize..][..RANGE as usize];
        range.iter().map(|byte| u64::from(*byte)).sum()
    };
    let expected: Vec<u64> = (0..JOBS).map(expected).collect();
    let pool = client.pool().await.expect("the coordinator is there");
    let bytes = Bytes::from(bytes);
    let begun = Instant::now();
    let pushed = pool.data().push(bytes).await.expect("there is room");
    let id = pushed.id().expect("it was just pushed");
    spec.template.blobs = vec![("data".to_owned(), id)];
    let mut times = Vec::new();
    let mut begun = begun;
    for _ in 0..2 {
        let inputs = (0..JOBS).map(|n| (n * 65_521, RANGE));
        let mapped = client
            .map_as_completed::<_, u64>(spec.clone(), inputs)
            .await;
        let mut mapped = mapped
            .expect("the coordinator is there")
            .expect("there are inputs");
        let mut sums = vec![0; JOBS as usize];
        while let Some((index, sum)) = mapped.next().await.expect("the coordinator is there") {
            sums[index as usize] = sum.expect("it is a sum");
        }
        times.push(begun.elapsed());
        assert_eq!(sums, expected);
        // A batch keeps its data for as long as it is known.
        let removed = mapped.batch().remove().await;
        removed.expect("it is done");
        begun = Instant::now();
    }
    drop(pushed);
    pool.close().await.expect("the coordinator is there");
    [times[0], times[1]]
}

/// Hyperband over an objective that takes no time.
async fn search(client: &Client) -> Duration {
    let space = Space::from_toml(
        r#"
        [parameters]
        x = { type = "float", low = 0.0, high = 1.0 }
        "#,
    );
    let hyperband = Method::Hyperband(Budgets {
        min: 1.0,
        max: 81.0,
        eta: 3,
    });
    let space = space.expect("it is a space");
    let mut settings = Settings::new(space, hyperband, u32::MAX);
    settings.order = Order::Asynchronous;
    settings.evaluations = Some(EVALUATIONS);
    let search = Search::new(settings, Box::new(RandomSampler)).expect("they fit");
    let drive = Drive {
        spec: spec(client, "objective").await,
        parallel: None,
        until: None,
    };
    let begun = Instant::now();
    let mut heard = 0;
    let mut journal = sink();
    let driven = drive.run(client, search, &mut journal, |_| heard += 1);
    driven.await.expect("the coordinator is there");
    assert_eq!(heard, EVALUATIONS);
    begun.elapsed()
}

/// The farmer's problem by progressive hedging, until it has converged: how long an iteration of three
/// jobs takes beyond the solves, which one worker does one after another.
async fn hedging(client: &Client) -> Duration {
    let problem = optwasm_ph::read_smps("cor", "tim", "sto", |file| {
        Ok(match file {
            "cor" => include_bytes!("../../host/ph/tests/data/farmer.cor").to_vec(),
            "tim" => include_bytes!("../../host/ph/tests/data/farmer.tim").to_vec(),
            _ => include_bytes!("../../host/ph/tests/data/farmer-scenarios.sto").to_vec(),
        })
    });
    let problem = problem.expect("they are SMPS files");
    let settings = optwasm_ph::Settings {
        outer_bound: false,
        candidates: Vec::new(),
        ..optwasm_ph::Settings::default()
    };
    let mut ph = Ph::new(&problem, settings).expect("it can be hedged");
    let highs = optwasm_bundle::find("highs").expect("it is built in");
    let module = client.put_blob(Bytes::from_static(highs.wasm)).await;
    let mut spec = BatchSpec::new(Template::new(module.expect("there is room")));
    spec.memo = Memo::Off;
    let takes = vec![Class::Linear, Class::Quadratic];
    let mut driver = Driver::new(client, vec![Solver { takes, spec }]);
    let used = async || {
        let all = client.namespaces().await.expect("the coordinator is there");
        all.iter().map(|one| one.usage.slot_us).sum::<u64>()
    };
    let before = used().await;
    let begun = Instant::now();
    let mut steps = 0;
    let hedged = driver.hedge(&mut ph, |_, _| {
        steps += 1;
        ControlFlow::Continue(())
    });
    hedged.await.expect("it converges");
    let elapsed = begun.elapsed();
    let solving = Duration::from_micros(used().await - before);
    elapsed.saturating_sub(solving) / steps
}

fn main() {
    processes::role();
    let runtime = processes::runtime();
    let coordinator = Process::coordinator();
    let service = coordinator.service();
    let workers = ["first", "second"].map(|name| Process::worker(&service, name));
    let client = runtime.block_on(Client::connect(service.address, &service.client));
    let client = client.expect("the coordinator listens");
    let mut report = Report::new();

    // Compiles the module.
    runtime.block_on(map(&client));
    let mut maps = Samples::default();
    for _ in 0..ROUNDS {
        maps.add(runtime.block_on(map(&client)));
    }
    report.line(
        "map of 1000 tiny jobs",
        Value::Seconds(maps.median()),
        None,
        None,
    );

    let mut seed = 0;
    for (what, guest, instances) in [
        ("read by range", "range", Instances::Fresh),
        ("in memory, resident", "resident_range", Instances::Resident),
    ] {
        let mut first = Samples::default();
        let mut later = Samples::default();
        for _ in 0..ROUNDS {
            seed += 1;
            let [pushed, again] = runtime.block_on(ranges(&client, guest, instances, seed));
            first.add(pushed);
            later.add(again);
        }
        // Taking a snapshot compiles a module that holds the data.
        let is_fresh = instances == Instances::Fresh;
        let reach = is_fresh.then_some(Value::Seconds(0.5));
        let line = format!("64 MiB pushed and 1000 jobs, {what}");
        report.line(&line, Value::Seconds(first.median()), None, reach);
        let line = format!("1000 more jobs, {what}");
        report.line(&line, Value::Seconds(later.median()), None, None);
    }

    runtime.block_on(search(&client));
    let mut searches = Samples::default();
    for _ in 0..ROUNDS {
        searches.add(runtime.block_on(search(&client)));
    }
    let rate = Value::PerSecond(EVALUATIONS as f64 / searches.median());
    let reach = Some(Value::PerSecond(20_000.0));
    report.line("Hyperband, evaluations of no work", rate, None, reach);

    drop(workers);
    runtime.block_on(client.close());

    let dir = tempfile::tempdir().expect("there is room for a folder");
    for (what, coordinator) in [
        ("in memory", Process::coordinator()),
        ("on disk", Process::durable_coordinator(dir.path())),
    ] {
        let service = coordinator.service();
        let worker = Process::worker(&service, "alone");
        let client = runtime.block_on(Client::connect(service.address, &service.client));
        let client = client.expect("the coordinator listens");
        runtime.block_on(hedging(&client));
        let mut overheads = Samples::default();
        for _ in 0..ROUNDS {
            overheads.add(runtime.block_on(hedging(&client)));
        }
        report.line(
            &format!("progressive hedging, beside 3 solves, {what}"),
            Value::Seconds(overheads.median()),
            None,
            Some(Value::Seconds(0.005)),
        );
        drop(worker);
        runtime.block_on(client.close());
    }
    report.print("Pools, as processes");
}
