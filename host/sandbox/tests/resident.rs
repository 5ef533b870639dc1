//! Jobs on what a module's initialization left behind, and jobs that follow one another.

#![allow(clippy::unwrap_used)]

mod common;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use common::{SANDBOX, output, prepare_bytes, wasm};
use optwasm_protocol::message::JobEvent;
use optwasm_protocol::{ContentId, Instances, Limits, Outcome, Profile, Report};
use optwasm_sandbox::{Control, Job, Kept, Prepared, Setup};

/// Initializing takes a few hundred units of fuel for each of its loops, grows the memory, fills
/// the new page with sevens, counts to 40 in a global and asks for the input's length. A job outputs
/// the global, which it raises, a byte of that page, which it raises too, the input's length that
/// initializing saw, and that which it sees itself. Where a blob is there, initializing waits for
/// nothing but spins; where the input is long, the job traps.
const COUNTER: &str = r#"(module
    (import "optwasm_v1" "input_len" (func $len (result i64)))
    (import "optwasm_v1" "output_write" (func $output (param i32 i32)))
    (import "optwasm_v1" "fuel_left" (func $fuel (result i64)))
    (import "optwasm_v1" "blob_open" (func $blob (param i32 i32) (result i32)))
    (memory (export "memory") 1)
    (global $count (mut i32) (i32.const 0))
    (func (export "optwasm_init")
        (if (i32.ge_s (call $blob (i32.const 0) (i32.const 0)) (i32.const 0))
            (then (loop $for_ever (br $for_ever))))
        (drop (memory.grow (i32.const 1)))
        (memory.fill (i32.const 65536) (i32.const 7) (i32.const 65536))
        (loop $again
            (global.set $count (i32.add (global.get $count) (i32.const 1)))
            (br_if $again (i32.lt_u (global.get $count) (i32.const 40))))
        (i64.store (i32.const 16) (call $len))
        (i64.store (i32.const 24) (call $fuel))
        (call $output (i32.const 0) (i32.const 100)))
    (func (export "optwasm_run")
        (if (i64.gt_u (call $len) (i64.const 5)) (then unreachable))
        (global.set $count (i32.add (global.get $count) (i32.const 1)))
        (i32.store8 (i32.const 70000) (i32.add (i32.load8_u (i32.const 70000)) (i32.const 1)))
        (i32.store8 (i32.const 0) (global.get $count))
        (i32.store8 (i32.const 1) (i32.load8_u (i32.const 70000)))
        (i32.store8 (i32.const 2) (i32.load8_u (i32.const 16)))
        (i64.store8 (i32.const 3) (call $len))
        (i64.store (i32.const 4) (i64.load (i32.const 24)))
        (call $output (i32.const 0) (i32.const 12)))
    (func (export "_start") unreachable))"#;

fn job(setup: &Arc<Setup>, input: &'static str) -> Job {
    Job {
        setup: setup.clone(),
        ..Job::new(input)
    }
}

fn resident(module: &[u8], setup: &Arc<Setup>) -> (Prepared, Prepared) {
    let fresh = prepare_bytes(module, Profile::Strict).unwrap();
    assert_eq!(fresh.offers(Instances::Resident), Ok(()));
    let id = ContentId::of(module);
    let key = ContentId::of(format!("{id} {}", setup.blobs.len()).as_bytes());
    let job = job(setup, "");
    let resident = SANDBOX.prepare_resident(&fresh, (id, module), key, job, &Control::new());
    (fresh, resident)
}

/// What must be the same wherever a job ran.
fn told(report: &Report) -> (Outcome, u64, u64, usize) {
    let Report {
        outcome,
        fuel,
        peak_memory,
        log,
        ..
    } = report.clone();
    (outcome, fuel, peak_memory, log.len())
}

#[test]
fn jobs_on_a_snapshot_and_on_fresh_instances_are_alike() {
    let setup = Arc::new(Setup::default());
    let (fresh, resident) = resident(&wasm(COUNTER), &setup);
    for input in ["", "four", "too long"] {
        let fresh = SANDBOX.run(&fresh, job(&setup, input), &Control::new());
        for _ in 0..3 {
            let report = SANDBOX.run(&resident, job(&setup, input), &Control::new());
            assert_eq!(told(&report), told(&fresh));
        }
        match input.len() {
            len @ ..=5 => assert_eq!(output(&fresh)[..4], [41, 8, 0, len as u8]),
            _ => assert!(matches!(fresh.outcome, Outcome::Trap { .. })),
        }
        assert!(fresh.fuel > 65_536 + 40 * 5, "initializing is paid for");
    }
}

#[test]
fn what_initializing_could_have_noticed_gives_fresh_instances() {
    let setup = Arc::new(Setup::default());
    let (fresh, resident) = resident(&wasm(COUNTER), &setup);
    for limits in [
        // Not enough to initialize; enough; other memory, which can grow or not.
        (1000, 1 << 30),
        (1_000_000, 1 << 30),
        (1_000_000, 3 << 16),
        (1_000_000, 1 << 16),
    ] {
        let (fuel, memory) = limits;
        let limits = Limits {
            fuel,
            memory,
            ..Limits::default()
        };
        let run = |on: &Prepared| {
            let job = Job {
                limits,
                ..job(&setup, "")
            };
            told(&SANDBOX.run(on, job, &Control::new()))
        };
        assert_eq!(run(&resident), run(&fresh));
    }
}

#[test]
fn jobs_fail_as_they_would_where_initializing_fails() {
    let setup = Arc::new(Setup {
        blobs: vec![(String::new(), "x".into())],
        ..Setup::default()
    });
    let module = wasm(COUNTER);
    let fresh = prepare_bytes(&module, Profile::Strict).unwrap();
    let limits = Limits {
        fuel: 10_000_000,
        ..Limits::default()
    };
    let job = Job {
        limits,
        ..job(&setup, "")
    };
    let id = ContentId::of(&module);
    let key = ContentId::of(b"endless");
    let control = Control::new();
    let on = SANDBOX.prepare_resident(&fresh, (id, &module), key, job.clone(), &control);
    let report = SANDBOX.run(&on, job.clone(), &control);
    assert_eq!(report.outcome, Outcome::OutOfFuel);
    assert_eq!(report.fuel, limits.fuel);
    // One that nobody waits for any longer ends at once.
    control.cancel();
    let endless = Job {
        limits: Limits::default(),
        ..job
    };
    SANDBOX.prepare_resident(&fresh, (id, &module), key, endless, &control);
}

#[test]
fn jobs_follow_one_another_in_an_instance() {
    let setup = Arc::new(Setup::default());
    let fresh = prepare_bytes(&wasm(COUNTER), Profile::Strict).unwrap();
    let mut kept: Option<Kept> = None;
    let mut run = |setup: &Arc<Setup>, most: u32, input| {
        let most = NonZeroU32::new(most).unwrap();
        SANDBOX.run_kept(&mut kept, most, &fresh, job(setup, input), &Control::new())
    };
    let counts = |report: Report| output(&report)[..4].to_vec();
    // A new one after two.
    assert_eq!(counts(run(&setup, 2, "a")), [41, 8, 0, 1]);
    assert_eq!(counts(run(&setup, 2, "bcd")), [42, 9, 0, 3]);
    assert_eq!(counts(run(&setup, 2, "")), [41, 8, 0, 0]);
    // Not for jobs of another setup.
    let other = Arc::new(Setup::default());
    assert_eq!(counts(run(&other, 3, "")), [41, 8, 0, 0]);
    let second = run(&other, 3, "");
    // Only the first one pays for initializing, each for itself.
    assert!(second.fuel < 1000, "{}", second.fuel);
    assert_eq!(counts(second), [42, 9, 0, 0]);
    // Nor after one that failed.
    assert!(matches!(
        run(&other, 3, "too long").outcome,
        Outcome::Trap { .. }
    ));
    assert_eq!(counts(run(&other, 3, "")), [41, 8, 0, 0]);
}

#[test]
fn modules_without_the_exports_are_told_so() {
    let plain = wasm(r#"(module (memory (export "memory") 1) (func (export "_start")))"#);
    let plain = prepare_bytes(&plain, Profile::Strict).unwrap();
    assert_eq!(plain.offers(Instances::Fresh), Ok(()));
    let why = plain.offers(Instances::Resident).unwrap_err();
    assert!(why.contains("`optwasm_init`"), "{why}");
    let twice = Instances::Kept(NonZeroU32::new(2).unwrap());
    let why = plain.offers(twice).unwrap_err();
    assert!(why.contains("`optwasm_run`"), "{why}");
    for wrong in [
        r#"(module (func (export "_start")) (func (export "optwasm_init")))"#,
        r#"(module (func (export "_start")) (func (export "optwasm_run") (param i32)))"#,
        r#"(module (func (export "_start")) (memory (export "optwasm_run") 1))"#,
    ] {
        let error = prepare_bytes(&wasm(wrong), Profile::Strict).err().unwrap();
        assert!(error.to_string().contains("optwasm_run"), "{error}");
    }
}

/// A table that changes cannot be in a snapshot.
#[test]
fn what_no_snapshot_can_hold_runs_in_fresh_instances() {
    let module = wasm(
        r#"(module
        (import "optwasm_v1" "output_write" (func $output (param i32 i32)))
        (memory (export "memory") 1)
        (table 2 funcref)
        (func $seven (result i32) (i32.const 7))
        (elem declare func $seven)
        (func (export "optwasm_init") (table.set (i32.const 1) (ref.func $seven)))
        (func (export "optwasm_run")
            (i32.store (i32.const 0) (call_indirect (result i32) (i32.const 1)))
            (call $output (i32.const 0) (i32.const 1)))
        (func (export "_start") unreachable))"#,
    );
    let setup = Arc::new(Setup::default());
    let (_, resident) = resident(&module, &setup);
    let report = SANDBOX.run(&resident, job(&setup, ""), &Control::new());
    assert_eq!(output(&report), [7]);
}

#[test]
fn what_initializing_reports_nobody_hears() {
    let module = wasm(
        r#"(module
        (import "optwasm_v1" "checkpoint" (func $checkpoint (param i32 i32)))
        (import "optwasm_v1" "progress" (func $progress (param f64 f64) (result i32)))
        (memory (export "memory") 1)
        (func (export "optwasm_init") (call $checkpoint (i32.const 0) (i32.const 4)))
        (func (export "optwasm_run") (drop (call $progress (f64.const 1) (f64.const 2))))
        (func (export "_start") unreachable))"#,
    );
    let setup = Arc::new(Setup::default());
    let (fresh, resident) = resident(&module, &setup);
    for prepared in [fresh, resident] {
        let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
        let hears = heard.clone();
        let control = Control::observed(move |event| hears.lock().unwrap().push(event));
        let report = SANDBOX.run(&prepared, job(&setup, ""), &control);
        assert!(report.outcome.is_ok(), "{}", report.outcome);
        assert_eq!(*heard.lock().unwrap(), [JobEvent::Progress(1.0, 2.0)]);
    }
}

/// Growing beyond the limit fails while initializing, which copes; later the job traps, which is a
/// trap and no want of memory.
#[test]
fn what_initializing_was_denied_is_forgotten() {
    let module = wasm(
        r#"(module
        (memory (export "memory") 1)
        (func (export "optwasm_init") (drop (memory.grow (i32.const 60000))))
        (func (export "optwasm_run") unreachable)
        (func (export "_start") unreachable))"#,
    );
    let setup = Arc::new(Setup::default());
    let (fresh, resident) = resident(&module, &setup);
    for prepared in [fresh, resident] {
        let report = SANDBOX.run(&prepared, job(&setup, ""), &Control::new());
        assert!(
            matches!(report.outcome, Outcome::Trap { .. }),
            "{}",
            report.outcome
        );
    }
}

/// Every other byte of 32 MiB is a piece of its own.
#[test]
fn what_is_too_much_for_a_snapshot_runs_in_fresh_instances() {
    let module = wasm(
        r#"(module
        (import "optwasm_v1" "output_write" (func $output (param i32 i32)))
        (memory (export "memory") 512)
        (func (export "optwasm_init") (local $at i32)
            (loop $again
                (i64.store (local.get $at) (i64.const 0x0001000100010001))
                (local.set $at (i32.add (local.get $at) (i32.const 8)))
                (br_if $again (i32.lt_u (local.get $at) (i32.const 33554432)))))
        (func (export "optwasm_run") (call $output (i32.const 1000000) (i32.const 4)))
        (func (export "_start") unreachable))"#,
    );
    let setup = Arc::new(Setup::default());
    let before = peak_memory();
    let (_, resident) = resident(&module, &setup);
    // A snapshot would have taken 48 bytes for each of 16 million pieces.
    let taken = peak_memory() - before;
    assert!(taken < 300 << 20, "{taken}");
    let report = SANDBOX.run(&resident, job(&setup, ""), &Control::new());
    assert_eq!(output(&report), [1, 0, 1, 0]);
}

/// The most memory that this process has had, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib << 10
}

#[test]
fn initializing_that_sleeps_can_be_cancelled() {
    let module = wasm(
        r#"(module
        (import "wasi_snapshot_preview1" "poll_oneoff"
            (func $poll (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        ;; A subscription to the monotonic clock, in an hour.
        (func (export "optwasm_init")
            (i32.store (i32.const 16) (i32.const 1))
            (i64.store (i32.const 24) (i64.const 3600000000000))
            (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128))))
        (func (export "optwasm_run"))
        (func (export "_start") unreachable))"#,
    );
    let prepared = prepare_bytes(&module, Profile::Timed).unwrap();
    let setup = Arc::new(Setup {
        profile: Profile::Timed,
        ..Setup::default()
    });
    let limits = Limits {
        deadline_ms: 60_000,
        ..Limits::default()
    };
    let job = Job {
        limits,
        ..job(&setup, "")
    };
    let control = Control::new();
    let canceller = {
        let control = control.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            control.cancel();
        })
    };
    let report = SANDBOX.run(&prepared, job, &control);
    canceller.join().unwrap();
    assert_eq!(report.outcome, Outcome::Cancelled);
}
