//! One small job in a fresh sandbox, with a module that is ready.
//!
//! Floors: an empty call on an instance that is already there, and a new store with a bare
//! instance (one memory, no imports) on an engine set up alike.

use std::time::Instant;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode};
use optwasm_benches::report::{Report, Value};
use optwasm_benches::samples::{self, Samples};
use optwasm_protocol::{ContentId, Outcome, Profile};
use optwasm_sandbox::engine::{EngineKind, running_engine};
use optwasm_sandbox::{Control, Job, Prepared, Sandbox, SandboxConfig};
use optwasm_tests::guests;
use wasmtime::{Linker, Module, Store};

/// As many pages as the smallest SDK guest has, so that the floor maps as much.
const BARE: &str = r#"(module (memory (export "memory") 17) (func (export "_start")))"#;

fn run(sandbox: &Sandbox, prepared: &Prepared, input: &bytes::Bytes) {
    let report = sandbox.run(prepared, Job::new(input.clone()), &Control::new());
    assert!(
        matches!(report.outcome, Outcome::Ok(_)),
        "{}",
        report.outcome
    );
}

/// Two threads at once; returns the times of single jobs, and how long a job takes both together.
fn two_threads(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    job: impl Fn() + Sync,
) -> (Samples, Samples) {
    let (mut single, mut together) = (Samples::default(), Samples::default());
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|count| {
            let begun = Instant::now();
            let work = || {
                let mut times = Samples::default();
                for _ in 0..count {
                    let one = Instant::now();
                    job();
                    times.add(one.elapsed());
                }
                times
            };
            std::thread::scope(|scope| {
                let threads = [(); 2].map(|()| scope.spawn(work));
                for thread in threads {
                    single.extend(thread.join().expect("jobs do not panic"));
                }
            });
            let elapsed = begun.elapsed();
            // Starting the threads must not count for much.
            if count >= 1000 {
                together.add(elapsed.div_f64(count as f64 * 2.0));
            }
            elapsed
        });
    });
    (single, together)
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(500))
        .measurement_time(std::time::Duration::from_secs(3))
        .sample_size(20)
        .configure_from_args();
    let mut group = criterion.benchmark_group("sandbox");
    group.sampling_mode(SamplingMode::Flat);

    let engine = running_engine(EngineKind::Strict, 2).expect("the engine starts");
    let bare = wat::parse_str(BARE).expect("the text is a module");
    let bare = Module::new(&engine, bare).expect("the module compiles");
    let bare = Linker::<()>::new(&engine).instantiate_pre(&bare);
    let bare = bare.expect("nothing is imported");
    let store = || {
        let mut store = Store::new(&engine, ());
        store.set_fuel(1 << 40).expect("the engine has fuel");
        store
    };
    let start = |store: &mut Store<()>| {
        let instance = bare.instantiate(&mut *store).expect("it fits");
        let start = instance.get_typed_func::<(), ()>(&mut *store, "_start");
        start.expect("it is exported")
    };
    let mut reused = store();
    let function = start(&mut reused);
    let call = samples::means(&mut group, "floor: call on an instance", || {
        function.call(&mut reused, ()).expect("it returns");
    });
    let fresh = samples::each(&mut group, "floor: fresh bare instance", || {
        let mut store = store();
        let function = start(&mut store);
        function.call(&mut store, ()).expect("it returns");
    });

    let sandbox = Sandbox::new(SandboxConfig::new(2)).expect("the sandbox starts");
    let prepare = |name: &str| {
        let module = guests::bytes(name);
        let prepared = sandbox.prepare(ContentId::of(&module), &module, Profile::Strict);
        prepared.expect("the guest is acceptable")
    };
    let mut numbers = Vec::new();
    let eight = [1.0_f64, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
    ciborium::into_writer(&optwasm_guest::array::of(&eight), &mut numbers)
        .expect("numbers can be encoded");
    let (nothing, numbers) = (bytes::Bytes::new(), bytes::Bytes::from(numbers));
    let (noop, sum) = (prepare("noop"), prepare("sum"));

    let reach = Some(Value::Seconds(10e-6));
    let floor = Some(Value::Seconds(fresh.median()));
    let mut report = Report::new();
    report.line(
        "call on an instance",
        Value::Seconds(call.median()),
        None,
        None,
    );
    report.line(
        "fresh bare instance",
        Value::Seconds(fresh.median()),
        None,
        None,
    );
    for (name, prepared, input) in [("noop", &noop, &nothing), ("sum", &sum, &numbers)] {
        let job = || run(&sandbox, prepared, input);
        let one = samples::each(&mut group, &format!("{name}, 1 thread"), job);
        let (single, together) = two_threads(&mut group, &format!("{name}, 2 threads"), job);
        let p50 = one.median();
        report.line(
            &format!("{name}, 1 thread, p50"),
            Value::Seconds(p50),
            floor,
            reach,
        );
        let p99 = Value::Seconds(one.quantile(0.99));
        report.line(&format!("{name}, 1 thread, p99"), p99, floor, None);
        let p50 = Value::Seconds(single.median());
        report.line(&format!("{name}, 2 threads, p50"), p50, floor, None);
        let rate = Value::PerSecond(1.0 / together.median());
        let alone = Some(Value::PerSecond(1.0 / one.median()));
        report.line(&format!("{name}, 2 threads, together"), rate, alone, None);
    }
    group.finish();
    report
        .print("One job in a fresh sandbox (floor: fresh bare instance; of `together`: 1 thread)");
}
