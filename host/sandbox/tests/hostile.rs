//! Guests that mean harm. Each ends in its outcome, within its limits, and the next job does not
//! notice.
//!
//! Small ones are files in `hostile/`, whose first lines say what is expected; those that need
//! many of something are generated here.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/imports.rs"]
mod imports;

use std::time::{Duration, Instant};

use common::{SANDBOX, job, output, prepare_bytes, program, rejection, run, run_bytes, wasm};
use optwasm_protocol::{ContentId, Outcome, Profile, Report};
use optwasm_sandbox::{Control, Job};

/// No case takes longer; most take milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Limits under which every case runs unless its file says otherwise.
fn hostile_job() -> Job {
    let mut job = job();
    job.limits.fuel = 50_000_000;
    job.limits.memory = 64 << 20;
    job.limits.output = 1 << 20;
    job.limits.log = 4 << 10;
    job.limits.deadline_ms = 60_000;
    job
}

#[track_caller]
fn check_limits(name: &str, report: &Report, job: &Job) {
    let limits = job.limits;
    assert!(report.fuel <= limits.fuel, "{name}: fuel {}", report.fuel);
    assert!(
        report.peak_memory <= limits.memory,
        "{name}: memory {}",
        report.peak_memory
    );
    let log: usize = report
        .log
        .iter()
        .map(|r| r.target.len() + r.message.len())
        .sum();
    assert!(log as u64 <= limits.log, "{name}: log {log}");
    let texts = report.log.iter().flat_map(|r| [&r.target, &r.message]);
    for text in texts.chain(report.outcome.frames()) {
        let bad = |c: char| c.is_control() && c != '\n' && c != '\t';
        assert!(!text.contains(bad), "{name}: {text:?}");
    }
    if report.outcome.is_ok() {
        assert!(output(report).len() as u64 <= limits.output);
    }
}

/// A job that computes something, remembers nothing and must always give the same.
#[track_caller]
fn check_the_next_job(name: &str) {
    let module = program(
        r#"(import "optwasm_v1" "output_write" (func $output (param i32 i32)))
           (import "optwasm_v1" "input_read" (func $read (param i64 i32 i32) (result i32)))"#,
        "(drop (call $read (i64.const 0) (i32.const 0) (i32.const 8)))
         (i64.store (i32.const 0) (i64.mul (i64.load (i32.const 0)) (i64.const 3)))
         (call $output (i32.const 0) (i32.const 16))",
    );
    let report = run(&module, Job::new(5u64.to_le_bytes().to_vec()));
    let expected = [15u64.to_le_bytes(), [0; 8]].concat();
    assert_eq!(output(&report), expected, "after {name}");
    assert_eq!(report.fuel, 217, "after {name}");
}

#[test]
fn hostile_modules_end_in_their_outcomes() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hostile");
    let mut count = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let header = |key: &str| {
            let prefix = format!(";; {key}: ");
            text.lines().find_map(|line| line.strip_prefix(&prefix))
        };
        let mut job = hostile_job();
        if let Some(fuel) = header("fuel") {
            job.limits.fuel = fuel.parse().unwrap();
        }
        if let Some(length) = header("input") {
            job.input = vec![0xaa; length.parse().unwrap()].into();
        }
        let start = Instant::now();
        let report = run(&text, job.clone());
        let took = start.elapsed();
        assert_eq!(
            report.outcome.name(),
            header("expect").unwrap(),
            "{name}: {}",
            report.outcome
        );
        if let Some(reason) = header("because") {
            let outcome = report.outcome.to_string();
            assert!(outcome.contains(reason), "{name}: {outcome}");
        }
        assert!(took < PATIENCE, "{name} took {took:?}");
        check_limits(&name, &report, &job);
        check_the_next_job(&name);
        if took > Duration::from_millis(500) {
            println!("{name}: {took:?}");
        }
        count += 1;
    }
    assert!(count >= 55, "{count} cases");
}

#[test]
fn floods_reach_an_observer_in_bounded_pieces() {
    let largest = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    for name in ["progress_flood", "checkpoint_flood", "incumbent_flood"] {
        let path = format!("{}/tests/hostile/{name}.wat", env!("CARGO_MANIFEST_DIR"));
        let module = wasm(&std::fs::read_to_string(path).unwrap());
        let seen = largest.clone();
        let control = Control::observed(move |event| {
            use optwasm_protocol::message::JobEvent;
            let size = match event {
                JobEvent::Checkpoint(bytes) => bytes.len(),
                JobEvent::Incumbent(incumbent) => incumbent.solution.len(),
                _ => 0,
            };
            seen.fetch_max(size, std::sync::atomic::Ordering::Relaxed);
        });
        let report = run_bytes(&module, hostile_job(), &control);
        assert_eq!(report.outcome, Outcome::OutOfFuel);
    }
    assert_eq!(largest.load(std::sync::atomic::Ordering::Relaxed), 1 << 20);
}

/// Every function, called with every combination of extreme arguments: none harms the host, and a
/// pointer at the end of the address space never reaches beyond the guest's memory.
#[test]
fn extreme_arguments_to_every_host_function() {
    let values = [-1, i64::from(i32::MIN), 65_535, 0, 1];
    let functions = imports::all();
    assert_eq!(functions.len(), 46 + 16);
    for function in functions {
        let count = function.params.len();
        // All arguments the same, and each one in turn different from the others.
        let mut combinations: Vec<Vec<i64>> = values.iter().map(|v| vec![*v; count]).collect();
        for place in 0..count {
            for usual in [0, 1, 64] {
                for extreme in values {
                    let mut arguments = vec![usual; count];
                    arguments[place] = extreme;
                    combinations.push(arguments);
                }
            }
        }
        // One module for them all: its input says which call to make.
        let calls: String = combinations
            .iter()
            .enumerate()
            .map(|(i, arguments)| {
                let call = function.call(arguments);
                format!("(if (i32.eq (local.get 0) (i32.const {i})) (then {call}))")
            })
            .collect();
        let module = wasm(&format!(
            r#"(module {} (import "optwasm_v1" "input_read" (func $read (param i64 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (func (export "_start") (local i32)
                (drop (call $read (i64.const 0) (i32.const 0) (i32.const 4)))
                (local.set 0 (i32.load (i32.const 0)))
                (i32.store (i32.const 0) (i32.const 0))
                {calls}))"#,
            function.text()
        ));
        for (i, arguments) in combinations.iter().enumerate() {
            let name = format!("{}{arguments:?}", function.name);
            let mut job = Job::new((i as u32).to_le_bytes().to_vec());
            job.limits = hostile_job().limits;
            job.limits.fuel = 100_000_000_000;
            job.resume = Some(vec![0x55; 100].into());
            let start = Instant::now();
            let report = run_bytes(&module, job.clone(), &Control::new());
            assert!(start.elapsed() < Duration::from_secs(10), "{name}");
            let expected = ["ok", "trap", "guest-error", "panic"];
            assert!(
                expected.contains(&report.outcome.name()),
                "{name}: {}",
                report.outcome
            );
            // Reading the input costs 100 and the call itself as much.
            let paid = report.fuel >= 200 || report.outcome.name() == "trap";
            assert!(paid, "{name} costs {}", report.fuel);
            check_limits(&name, &report, &job);
        }
    }
    check_the_next_job("extreme arguments");
}

/// Little fuel buys little of the host's time, whatever is called: each function in a loop with
/// arguments that make it do much.
#[test]
fn no_host_function_is_slow_for_its_fuel() {
    for function in imports::all() {
        if function.ends_the_job() {
            continue;
        }
        for (pointer, length) in [
            (0, 1),
            (0, 64),
            (1, 1024),
            (2, 1024),
            (0, 1 << 25),
            (1, 1 << 25),
        ] {
            // Pointers and lengths alternate in most functions, beginning with either.
            for first in [0, 1] {
                let count = function.params.len();
                let argument = |i: usize| if i % 2 == first { pointer } else { length };
                let arguments: Vec<i64> = (0..count).map(argument).collect();
                let module = format!(
                    r#"(module {} (memory (export "memory") 1024)
                    (func (export "_start") (loop $l {} (br $l))))"#,
                    function.text(),
                    function.call(&arguments)
                );
                let mut job = hostile_job();
                job.limits.fuel = 10_000_000;
                job.limits.memory = 128 << 20;
                job.limits.output = 1 << 30;
                let start = Instant::now();
                let report = run(&module, job);
                let took = start.elapsed();
                let name = format!("{}{arguments:?}", function.name);
                // That much fuel is a millisecond of plain work. A hundred thousand calls may take
                // longer, but not seconds.
                assert!(
                    took < Duration::from_secs(3),
                    "{name} took {took:?}: {}",
                    report.outcome
                );
                if took > Duration::from_millis(60) {
                    println!("{name}: {took:?}");
                }
            }
        }
    }
}

#[test]
fn names_are_cut_and_harmless() {
    let name = "\\1b[31m\\e2\\80\\ae".repeat(10_000);
    let module = format!(
        r#"(module (memory (export "memory") 1)
        (func $f (@name "{name}") unreachable) (func (@name "") (export "_start") (call $f)))"#
    );
    let report = run(&module, hostile_job());
    let frames = report.outcome.frames();
    assert_eq!(frames.len(), 2);
    assert!(frames[0].chars().count() <= 200 && frames[0].contains("[31m"));
    assert!(!frames[0].contains(['\u{1b}', '\u{202e}']));
    // A name that a demangler might unfold without end.
    let nested = format!("_RNv{}C1a1b", "MNtC1a1b".repeat(10_000));
    let module = format!(
        r#"(module (memory (export "memory") 1) (func (@name "{nested}") (export "_start") unreachable))"#
    );
    let start = Instant::now();
    let report = run(&module, hostile_job());
    assert!(report.outcome.frames()[0].chars().count() <= 200);
    assert!(start.elapsed() < PATIENCE);
}

#[test]
fn custom_sections_cost_nothing() {
    let sections: String = (0..20_000)
        .map(|i| format!(r#"(@custom "junk{i}" "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")"#))
        .collect();
    let module = wasm(&format!(
        r#"(module {sections} (memory (export "memory") 1) (func (export "_start")))"#
    ));
    let report = run_bytes(&module, hostile_job(), &Control::new());
    assert!(report.outcome.is_ok());
    // Sections that the runtime reads, full of nonsense.
    for section in [
        "name",
        "optwasm:other",
        "producers",
        ".debug_info",
        "target_features",
    ] {
        let module = wasm(&format!(
            r#"(module (@custom "{section}" "\ff\ff\ff\ff\0f\ff\ff") (memory (export "memory") 1)
            (func (export "_start")))"#
        ));
        let report = run_bytes(&module, hostile_job(), &Control::new());
        assert!(report.outcome.is_ok(), "{section}: {}", report.outcome);
    }
    let module = wasm(
        r#"(module (@custom "optwasm:abi" "\ff\ff\ff") (memory (export "memory") 1) (func (export "_start")))"#,
    );
    assert!(rejection(&module, Profile::Strict).contains("optwasm:abi"));
}

#[test]
fn exceptions_without_end_meet_the_memory_limit() {
    let module = wasm(
        r#"(module (memory (export "memory") 1) (tag $e (param i64))
        (func (export "_start") (loop $l
            (drop (block $h (result i64) (try_table (catch $e $h) (throw $e (i64.const 1))) unreachable))
            (br $l))))"#,
    );
    let mut job = common::job_of(Profile::Extended);
    job.limits.fuel = 1_000_000_000;
    job.limits.memory = 8 << 20;
    let report = run_bytes(&module, job.clone(), &Control::new());
    assert_eq!(report.outcome, Outcome::MemoryLimit, "{}", report.fuel);
    assert!(report.peak_memory <= job.limits.memory);

    let uncaught = wasm(
        r#"(module (memory (export "memory") 1) (tag $e) (func (export "_start") (throw $e)))"#,
    );
    let report = run_bytes(
        &uncaught,
        common::job_of(Profile::Extended),
        &Control::new(),
    );
    assert!(
        matches!(
            &report.outcome,
            Outcome::Trap {
                kind: optwasm_protocol::TrapKind::Exception,
                ..
            }
        ),
        "{}",
        report.outcome
    );
}

/// Two gigabytes of bulk work in one instruction: it cannot be interrupted, so it must be short.
#[test]
fn a_large_bulk_operation_delays_a_cancel_only_so_far() {
    let module = wasm(
        r#"(module (memory (export "memory") 16384) (func (export "_start") (loop $l
            (memory.fill (i32.const 0) (i32.const 1) (i32.const 1073741824)) (br $l))))"#,
    );
    let prepared = prepare_bytes(&module, Profile::Strict).unwrap();
    let control = Control::new();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| SANDBOX.run(&prepared, job(), &control));
        std::thread::sleep(Duration::from_millis(50));
        let cancelled = Instant::now();
        control.cancel();
        assert_eq!(running.join().unwrap().outcome, Outcome::Cancelled);
        println!("cancelled after {:?}", cancelled.elapsed());
        assert!(cancelled.elapsed() < Duration::from_secs(10));
    });
}

/// Nothing that one job leaves in memory, tables or globals is there for the next, whichever
/// module that runs, and however the first one ended.
#[test]
fn no_byte_passes_from_one_job_to_the_next() {
    let writer = |pages: u32, grow: u32, end: &str| {
        wasm(&format!(
            r#"(module (memory (export "memory") {pages}) (table $t 1000 funcref)
            (global $g (mut i64) (i64.const 0))
            (func $start (export "_start")
                (drop (memory.grow (i32.const {grow})))
                (drop (table.grow $t (ref.func $start) (i32.const 100000)))
                (table.fill $t (i32.const 0) (ref.func $start) (i32.const 101000))
                (memory.fill (i32.const 0) (i32.const 0xab)
                    (i32.mul (memory.size) (i32.const 65536)))
                (global.set $g (i64.const -1)) {end}))"#
        ))
    };
    let reader = |pages: u32, grow: u32, data: &str| {
        wasm(&format!(
            r#"(module (memory (export "memory") {pages}) {data} (table $t 900 funcref)
            (global $g (mut i64) (i64.const 0))
            (func (export "_start") (local $p i32) (local $sum i64) (local $end i32)
                (drop (memory.grow (i32.const {grow})))
                (drop (table.grow $t (ref.null func) (i32.const 100100)))
                (local.set $end (i32.mul (memory.size) (i32.const 65536)))
                (local.set $sum (global.get $g))
                (local.set $p (i32.const 64))
                (loop $l
                    (local.set $sum (i64.or (local.get $sum) (i64.load (local.get $p))))
                    (local.set $p (i32.add (local.get $p) (i32.const 8)))
                    (br_if $l (i32.lt_u (local.get $p) (local.get $end))))
                (if (i64.ne (local.get $sum) (i64.const 0)) (then unreachable))
                (local.set $p (i32.const 0))
                (loop $l
                    (if (i32.eqz (ref.is_null (table.get $t (local.get $p)))) (then unreachable))
                    (local.set $p (i32.add (local.get $p) (i32.const 1)))
                    (br_if $l (i32.lt_u (local.get $p) (i32.const 101000))))))"#
        ))
    };
    // Smaller and larger than what the allocator keeps resident (16 MiB), with and without an
    // image of data; one slot, so that each job gets the memory of one before.
    let image = r#"(data (i32.const 0) "left by the module itself")"#;
    let sandbox = common::sandbox(1);
    let prepare = |profile, module: &Vec<u8>| {
        sandbox
            .prepare(ContentId::of(module), module, profile)
            .unwrap()
    };
    for profile in [Profile::Strict, Profile::Portable, Profile::Extended] {
        let writers: Vec<_> = [
            writer(1, 0, ""),
            writer(10, 300, "unreachable"),
            writer(400, 100, "(drop (i32.load (i32.const -1)))"),
            writer(1, 600, "(loop $l (br $l))"),
        ]
        .iter()
        .map(|module| prepare(profile, module))
        .collect();
        let readers: Vec<_> = [
            reader(1, 0, ""),
            reader(1, 700, ""),
            reader(600, 0, image),
            reader(2, 500, image),
        ]
        .iter()
        .map(|module| prepare(profile, module))
        .collect();
        let mut job = common::job_of(profile);
        job.limits.fuel = 200_000_000;
        for round in 0..2 {
            for (i, writer) in writers.iter().enumerate() {
                for (j, reader) in readers.iter().enumerate() {
                    // All slots hold the pattern before somebody looks.
                    for _ in 0..3 {
                        sandbox.run(writer, job.clone(), &Control::new());
                    }
                    let report = sandbox.run(reader, job.clone(), &Control::new());
                    let case = format!("{profile} round {round} writer {i} reader {j}");
                    assert!(report.outcome.is_ok(), "{case}: {}", report.outcome);
                }
            }
        }
    }
}
