//! The same job gives the same bytes and the same fuel: on every engine, thread and allocator, and
//! tomorrow. A number here changes only together with `FUEL_SCHEDULE` in `engine.rs`.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::{SANDBOX, job_of, output, prepare_bytes, program, run_bytes, wasm};
use optwasm_protocol::{ContentId, Profile, Report};
use optwasm_sandbox::{Control, EngineKind, Sandbox, SandboxConfig, Setup};

const IMPORTS: &str = r#"
    (import "optwasm_v1" "input_len" (func $input_len (result i64)))
    (import "optwasm_v1" "input_read" (func $input_read (param i64 i32 i32) (result i32)))
    (import "optwasm_v1" "output_write" (func $output (param i32 i32)))
    (import "optwasm_v1" "fuel_left" (func $fuel_left (result i64)))
    (import "optwasm_v1" "log" (func $log (param i32 i32 i32 i32 i32)))
    (import "optwasm_v1" "seed" (func $seed (param i32)))
    (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_sync" (func $fd_sync (param i32) (result i32)))
    (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (func $empty) (table $t 10 funcref) (elem declare func $empty)"#;

fn run(body: &str, profile: Profile) -> Report {
    let mut job = job_of(profile);
    job.input = vec![1; 80].into();
    run_bytes(&wasm(&program(IMPORTS, body)), job, &Control::new())
}

/// Bodies of `_start` and what they burn. Entering a function costs 1, each operator 1, structural
/// ones nothing.
const GOLDEN: &[(&str, u64)] = &[
    ("", 1),
    ("nop (block (loop)) (drop (i32.const 0))", 1 + 1),
    ("(call $empty)", 1 + 1 + 1),
    ("(if (i32.const 0) (then (call $empty)) (else nop))", 1 + 2),
    // 4 operators before the branch, and the branch, each time.
    (
        "(local i32) (loop $l (br_if $l (i32.lt_u
            (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 1000))))",
        1 + 1000 * 7,
    ),
    ("(drop (memory.grow (i32.const 0)))", 1 + 2),
    ("(drop (memory.grow (i32.const 10)))", 1 + 2 + 2000),
    // Denied growth costs the same.
    (
        "(drop (memory.grow (i32.const 65535)))",
        1 + 2 + 200 * 65_535,
    ),
    (
        "(memory.fill (i32.const 0) (i32.const 1) (i32.const 5000))",
        1 + 4 + 5000,
    ),
    (
        "(memory.copy (i32.const 0) (i32.const 9) (i32.const 3000))",
        1 + 4 + 3000,
    ),
    (
        "(drop (table.grow $t (ref.null func) (i32.const 1000)))",
        1 + 3 + 1000,
    ),
    (
        "(table.fill $t (i32.const 0) (ref.func $empty) (i32.const 10))",
        1 + 4 + 10,
    ),
    (
        "(table.copy $t $t (i32.const 0) (i32.const 1) (i32.const 9))",
        1 + 4 + 9,
    ),
    ("(drop (call $input_len))", 1 + 1 + 100),
    ("(drop (call $fuel_left))", 1 + 1 + 100),
    (
        "(drop (call $input_read (i64.const 0) (i32.const 0) (i32.const 80)))",
        1 + 4 + 100 + 10,
    ),
    // What is charged is what is copied: 16 of the 1000 bytes that are asked for.
    (
        "(drop (call $input_read (i64.const 64) (i32.const 0) (i32.const 1000)))",
        1 + 4 + 100 + 2,
    ),
    (
        "(call $output (i32.const 0) (i32.const 8000))",
        1 + 3 + 100 + 1000,
    ),
    ("(call $output (i32.const 0) (i32.const 7))", 1 + 3 + 100),
    ("(call $seed (i32.const 0))", 1 + 2 + 100 + 4),
    (
        "(call $log (i32.const 1) (i32.const 0) (i32.const 8) (i32.const 0) (i32.const 8))",
        1 + 6 + 100 + 2,
    ),
    (
        "(drop (call $clock (i32.const 0) (i64.const 0) (i32.const 0)))",
        1 + 4 + 100 + 1,
    ),
    (
        "(drop (call $random (i32.const 0) (i32.const 64)))",
        1 + 3 + 100 + 64,
    ),
    ("(drop (call $fd_sync (i32.const 1)))", 1 + 2 + 100),
    (
        "(drop (call $args_sizes (i32.const 0) (i32.const 4)))",
        1 + 3 + 100 + 1,
    ),
    // One pointer and "job\0".
    (
        "(drop (call $args (i32.const 0) (i32.const 8)))",
        1 + 3 + 100 + 1,
    ),
    (
        "(i32.store (i32.const 4) (i32.const 800))
         (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))",
        1 + 3 + 5 + 100 + 100,
    ),
    (
        "(i32.store (i32.const 4) (i32.const 800))
         (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))",
        1 + 3 + 5 + 100 + 10,
    ),
    (
        "(drop (call $poll (i32.const 0) (i32.const 100) (i32.const 2) (i32.const 0)))",
        1 + 5 + 100 + 20,
    ),
    ("(call $exit (i32.const 0))", 1 + 2 + 100),
    ("(call $exit (i32.const 1))", 1 + 2 + 100),
];

#[test]
fn fuel_is_what_the_abi_says_on_every_engine() {
    for (body, fuel) in GOLDEN {
        // The extended engine allocates on demand, the others from a pool.
        for profile in Profile::ALL {
            let report = run(body, profile);
            assert!(
                report.outcome.has_exact_fuel(),
                "{body}: {}",
                report.outcome
            );
            assert_eq!(report.fuel, *fuel, "{profile}: {body}");
        }
    }
}

/// A job that mixes everything whose bytes could differ.
const MIXED: &str = "(local i32)
    (drop (call $random (i32.const 0) (i32.const 64)))
    (drop (call $clock (i32.const 0) (i64.const 0) (i32.const 64)))
    (loop $l
        (local.set 0 (i32.add (local.get 0) (i32.const 1)))
        (f64.store (i32.const 80) (f64.add (f64.load (i32.const 80)) (f64.sqrt (f64.convert_i32_u (local.get 0)))))
        (br_if $l (i32.lt_u (local.get 0) (i32.const 20000))))
    (memory.fill (i32.const 1000) (i32.const 1) (i32.const 1000))
    (drop (memory.grow (i32.const 20)))
    (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 72)))
    (i64.store (i32.const 88) (call $fuel_left))
    (call $output (i32.const 0) (i32.const 2000))";

#[test]
fn threads_that_run_the_same_job_agree() {
    let module = wasm(&program(IMPORTS, MIXED));
    let first = run(MIXED, Profile::Strict);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let prepared = prepare_bytes(&module, Profile::Strict).unwrap();
                for _ in 0..50 {
                    let report = SANDBOX.run(&prepared, job_of(Profile::Strict), &Control::new());
                    assert_eq!(report.outcome, first.outcome);
                    assert_eq!(report.fuel, first.fuel);
                }
            });
        }
    });
    // The same bytes on an engine that allocates otherwise.
    let extended = run(MIXED, Profile::Extended);
    assert_eq!(
        (extended.outcome, extended.fuel),
        (first.outcome, first.fuel)
    );
}

/// Where there is no address space for a pool, the strict engine allocates on demand, and nobody
/// can tell. In a process of its own, whose address space is limited.
#[test]
#[cfg(target_os = "linux")]
fn a_machine_without_address_space_agrees() {
    const CHILD: &str = "OPTWASM_TEST_NARROW";
    let module = wasm(&program(IMPORTS, MIXED));
    let run = || {
        let sandbox = Sandbox::new(SandboxConfig::new(16)).unwrap();
        let prepared = sandbox
            .prepare(ContentId::of(&module), &module, Profile::Strict)
            .unwrap();
        let report = sandbox.run(&prepared, job_of(Profile::Strict), &Control::new());
        let tables = wasm(&program(
            "(table $t 0 funcref)",
            "(if (i32.ne (table.grow $t (ref.null func) (i32.const 300000)) (i32.const -1))
                (then (loop $l (br $l)))) unreachable",
        ));
        let denied = sandbox
            .prepare(ContentId::of(&tables), &tables, Profile::Strict)
            .unwrap();
        let denied = sandbox.run(&denied, job_of(Profile::Strict), &Control::new());
        let output = blake3::hash(output(&report)).to_hex();
        format!("<{output} {} {}>", report.fuel, denied.outcome)
    };
    if std::env::var_os(CHILD).is_some() {
        let limit = rustix::process::Rlimit {
            current: Some(12 << 30),
            maximum: None,
        };
        rustix::process::setrlimit(rustix::process::Resource::As, limit).unwrap();
        println!("{}", run());
        return;
    }
    let own_name = std::thread::current().name().unwrap().to_owned();
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &own_name, "--nocapture"])
        .env(CHILD, "1")
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    let expected = run();
    assert!(
        child.status.success() && said.contains(&expected),
        "{said} without {expected}"
    );
}

#[test]
fn the_clock_shows_fuel_and_sleep() {
    const START: u64 = 1_704_067_200_000_000_000;
    let body = "(local i32)
        (drop (call $clock (i32.const 0) (i64.const 0) (i32.const 0)))
        (loop $l (br_if $l (i32.lt_u
            (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 1000))))
        (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 8)))
        (i32.store (i32.const 1016) (i32.const 1))
        (i64.store (i32.const 1024) (i64.const 3155760000000000000))
        (drop (call $poll (i32.const 1000) (i32.const 1100) (i32.const 1) (i32.const 1200)))
        (drop (call $clock (i32.const 0) (i64.const 0) (i32.const 16)))
        (call $output (i32.const 0) (i32.const 24))";
    let started = std::time::Instant::now();
    let report = run(body, Profile::Strict);
    // A hundred years of sleep.
    assert!(started.elapsed() < std::time::Duration::from_secs(20));
    let times: Vec<u64> = output(&report)
        .chunks(8)
        .map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    // Fuel until the clock is read, with what the call itself costs.
    let first = 1 + 4 + 101;
    let second = first + 7000 + 4 + 101;
    let third = second + 3 + 3 + 5 + 110 + 4 + 101;
    assert_eq!(times[0], START + first / 10);
    assert_eq!(times[1], START + second / 10);
    assert_eq!(times[2], START + third / 10 + 3_155_760_000_000_000_000);
}

#[test]
fn the_timed_profile_has_a_real_clock_and_real_randomness() {
    let body = "(drop (call $clock (i32.const 0) (i64.const 0) (i32.const 0)))
        (drop (call $random (i32.const 8) (i32.const 32)))
        (i32.store (i32.const 1016) (i32.const 1))
        (i64.store (i32.const 1024) (i64.const 50000000))
        (drop (call $poll (i32.const 1000) (i32.const 1100) (i32.const 1) (i32.const 1200)))
        (call $output (i32.const 0) (i32.const 40))";
    let reports = [run(body, Profile::Timed), run(body, Profile::Timed)];
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    for report in &reports {
        let time = u64::from_le_bytes(output(report)[..8].try_into().unwrap());
        assert!(now.abs_diff(time) < 60_000_000_000);
        assert!(report.wall_us >= 50_000, "slept");
    }
    assert_ne!(output(&reports[0])[8..], output(&reports[1])[8..]);

    let sleeper = "(i32.store (i32.const 1016) (i32.const 1))
        (i64.store (i32.const 1024) (i64.const 3600000000000))
        (drop (call $poll (i32.const 1000) (i32.const 1100) (i32.const 1) (i32.const 1200)))";
    let mut job = job_of(Profile::Timed);
    job.limits.deadline_ms = 100;
    let report = run_bytes(&wasm(&program(IMPORTS, sleeper)), job, &Control::new());
    assert_eq!(report.outcome.name(), "deadline");
    assert!(report.wall_us < 5_000_000);
}

#[test]
fn randomness_is_the_stream_of_the_seed() {
    let seeded = |body: &str, seed: u64| {
        let mut job = job_of(Profile::Strict);
        job.setup = Arc::new(Setup {
            seed: seed.into(),
            ..Setup::default()
        });
        let report = run_bytes(&wasm(&program(IMPORTS, body)), job, &Control::new());
        output(&report).to_vec()
    };
    let whole = "(drop (call $random (i32.const 0) (i32.const 48)))
        (call $output (i32.const 0) (i32.const 48))";
    let pieces = "(drop (call $random (i32.const 0) (i32.const 1)))
        (drop (call $random (i32.const 1) (i32.const 0)))
        (drop (call $random (i32.const 1) (i32.const 47)))
        (call $output (i32.const 0) (i32.const 48))";
    let zero = seeded(whole, 0);
    assert_eq!(zero, seeded(pieces, 0));
    assert_ne!(zero, seeded(whole, 1));
    let hex: String = zero.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "a7f91ced0533c12cd59706f2dc38c2a8c39c007ae89ab6492698778c8684c483\
         91dd91c9a9e458303b11be9646da40b5"
    );
}

#[test]
fn fingerprints_change_only_on_purpose() {
    let hex = |kind: EngineKind| {
        blake3::Hash::from_bytes(kind.fingerprint())
            .to_hex()
            .to_string()
    };
    // Portable results do not depend on the machine.
    assert_eq!(&hex(EngineKind::Portable)[..16], "b691bb24b1580df9");
    #[cfg(target_arch = "x86_64")]
    {
        assert_eq!(&hex(EngineKind::Strict)[..16], "081f4e27e16a0d09");
        assert_eq!(&hex(EngineKind::Extended)[..16], "1eb0a2588219f433");
    }
}
