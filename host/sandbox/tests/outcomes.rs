//! Every way in which a job ends, each produced by a real module, and what is reported beside it.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{SANDBOX, job, job_of, output, prepare_bytes, program, run, run_controlled, wasm};
use optwasm_protocol::message::JobEvent;
use optwasm_protocol::{Outcome, Profile, Report, TrapKind};
use optwasm_sandbox::{Control, Job, Setup};

/// What holds for every job that ran at all: `_start` cost something, its page of memory counts,
/// and time passed.
#[track_caller]
fn check_figures(report: &Report) {
    assert!(report.peak_memory >= 65_536, "peak {}", report.peak_memory);
    assert!(report.wall_us > 0);
    // What a loop burns is counted in a register, and lost where the loop is interrupted.
    let interrupted = matches!(
        report.outcome,
        Outcome::Deadline | Outcome::Cancelled | Outcome::HostOutOfMemory(_)
    );
    assert!(report.fuel > 0 || interrupted, "fuel");
}

#[test]
fn a_plain_command_turns_stdin_into_stdout() {
    let cat = r#"(module
        (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "_start")
            (loop $again
                (i32.store (i32.const 0) (i32.const 64))
                (i32.store (i32.const 4) (i32.const 1000))
                (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
                (i32.store (i32.const 4) (i32.load (i32.const 8)))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
                (br_if $again (i32.load (i32.const 8))))))"#;
    let input: Vec<u8> = (0..10_000).map(|i| (i % 251) as u8).collect();
    let report = run(cat, Job::new(input.clone()));
    assert_eq!(output(&report), input);
    assert!(report.log.is_empty(), "stdout is no log: {:?}", report.log);
    check_figures(&report);
    let inspection = prepare_bytes(&wasm(cat), Profile::Strict).unwrap();
    assert!(!inspection.inspection().is_sdk);
}

#[test]
fn an_sdk_command_turns_input_into_output_and_stdout_into_log() {
    let echo = r#"(module
        (import "optwasm_v1" "input_len" (func $len (result i64)))
        (import "optwasm_v1" "input_read" (func $read (param i64 i32 i32) (result i32)))
        (import "optwasm_v1" "output_write" (func $output (param i32 i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\10\00\00\00\03\00\00\00") (data (i32.const 16) "hi\n")
        (func (export "_start")
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
            (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 12)))
            (call $output (i32.const 64)
                (call $read (i64.const 2) (i32.const 64) (i32.wrap_i64 (call $len))))))"#;
    let report = run(echo, Job::new(&b"0123456789"[..]));
    assert_eq!(output(&report), b"23456789");
    let log: Vec<_> = report
        .log
        .iter()
        .map(|r| (r.target.as_str(), r.message.as_str()))
        .collect();
    assert_eq!(log, [("stdout", "hi"), ("stderr", "hi")]);
    let inspection = prepare_bytes(&wasm(echo), Profile::Strict).unwrap();
    assert!(inspection.inspection().is_sdk);
}

#[test]
fn arguments_and_environment_are_those_of_the_job() {
    // Prints the buffers that `args_get` and `environ_get` fill.
    let show = r#"(module
        (import "wasi_snapshot_preview1" "args_sizes_get" (func $as (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "args_get" (func $a (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_sizes_get" (func $es (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_get" (func $e (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "_start")
            (drop (call $as (i32.const 100) (i32.const 4)))
            (drop (call $es (i32.const 104) (i32.const 12)))
            (i32.store (i32.const 0) (i32.const 2000))
            (i32.store (i32.const 8) (i32.const 3000))
            (drop (call $a (i32.const 1000) (i32.const 2000)))
            (drop (call $e (i32.const 1500) (i32.const 3000)))
            ;; Also the counts, and through the second pointer the second argument's first byte.
            (i32.store (i32.const 16) (i32.const 100)) (i32.store (i32.const 20) (i32.const 9))
            (i32.store8 (i32.const 108) (i32.load8_u (i32.load (i32.const 1004))))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 3) (i32.const 40)))))"#;
    let mut job = job();
    job.setup = Arc::new(Setup {
        args: vec!["--fast".into(), "x".into()],
        env: vec![("A".into(), "1".into()), ("B".into(), "zwei".into())],
        ..Setup::default()
    });
    let report = run(show, job);
    assert_eq!(
        output(&report),
        b"job\0--fast\0x\0A=1\0B=zwei\0\x03\0\0\0\x02\0\0\0-"
    );
}

#[test]
fn leaving_early_with_zero_is_ok() {
    let exit = program(
        r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
           (import "optwasm_v1" "output_write" (func $output (param i32 i32)))"#,
        "(call $output (i32.const 0) (i32.const 3)) (call $exit (i32.const 0)) unreachable",
    );
    let report = run(&exit, job());
    assert_eq!(output(&report), [0; 3]);
    check_figures(&report);
}

#[test]
fn fail_carries_code_message_and_causes() {
    let module = |length: usize, data: &str| {
        format!(
            r#"(module (import "optwasm_v1" "fail" (func $fail (param i32 i32 i32)))
                (memory (export "memory") 1) (data (i32.const 8) "{data}")
                (func (export "_start")
                    (call $fail (i32.const 7) (i32.const 8) (i32.const {length})) unreachable))"#
        )
    };
    // {"message": "no", "chain": ["a\e", "b"]}
    let cbor = r"\a2\67message\62no\65chain\82\62a\1b\61b";
    let report = run(&module(8 + 3 + 6 + 1 + 3 + 2 + 1, cbor), job());
    assert_eq!(
        report.outcome,
        Outcome::GuestError {
            code: 7,
            message: "no".into(),
            chain: vec!["a\u{fffd}".into(), "b".into()],
        }
    );
    check_figures(&report);

    let report = run(&module(5, "plain"), job());
    assert_eq!(
        report.outcome,
        Outcome::GuestError {
            code: 7,
            message: "plain".into(),
            chain: Vec::new(),
        }
    );
}

#[test]
fn a_plain_exit_code_comes_with_the_end_of_stderr() {
    let exit = |lines: &str| {
        format!(
            r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\10\00\00\00\06\00\00\00") (data (i32.const 16) "wrong\n")
            (func (export "_start") {lines} (call $exit (i32.const 3))))"#
        )
    };
    let write = "(drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 12)))";
    let report = run(&exit(write), job());
    assert_eq!(
        report.outcome,
        Outcome::GuestError {
            code: 3,
            message: "wrong".into(),
            chain: Vec::new(),
        }
    );
    check_figures(&report);
    let Outcome::GuestError { message, .. } = run(&exit(""), job()).outcome else {
        panic!("not an error");
    };
    assert_eq!(message, "exit code 3");
}

#[test]
fn a_panic_carries_place_and_frames() {
    let module = r#"(module
        (import "optwasm_v1" "panic" (func $panic (param i32 i32 i32 i32 i32 i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "index out of bounds") (data (i32.const 32) "src/main.rs")
        (func $solver::pivot
            (call $panic (i32.const 0) (i32.const 19) (i32.const 32) (i32.const 11)
                (i32.const 42) (i32.const 7)))
        (func $main (export "_start") (call $solver::pivot)))"#;
    let report = run(module, job());
    let Outcome::Panic {
        message,
        file,
        line,
        column,
        frames,
    } = &report.outcome
    else {
        panic!("{}", report.outcome);
    };
    assert_eq!(message, "index out of bounds");
    assert_eq!((file.as_str(), *line, *column), ("src/main.rs", 42, 7));
    assert_eq!(frames, &["solver::pivot", "main"]);
    check_figures(&report);
}

#[test]
fn traps_are_told_apart_and_name_their_frames() {
    let cases = [
        (TrapKind::Unreachable, "unreachable"),
        (
            TrapKind::MemoryOutOfBounds,
            "(drop (i32.load (i32.const 65536)))",
        ),
        (
            TrapKind::MemoryOutOfBounds,
            "(drop (i32.load offset=4294967295 (i32.const -1)))",
        ),
        (
            TrapKind::MemoryOutOfBounds,
            "(memory.fill (i32.const 1) (i32.const 0) (i32.const 65536))",
        ),
        (TrapKind::TableOutOfBounds, "(call_indirect (i32.const 3))"),
        (
            TrapKind::TableOutOfBounds,
            "(drop (table.get (i32.const 3)))",
        ),
        (TrapKind::NullReference, "(call_indirect (i32.const 2))"),
        (
            TrapKind::BadSignature,
            "(drop (call_indirect (result i32) (i32.const 0)))",
        ),
        (
            TrapKind::IntegerOverflow,
            "(drop (i32.div_s (i32.const -2147483648) (i32.const -1)))",
        ),
        (
            TrapKind::DivisionByZero,
            "(drop (i64.rem_u (i64.const 1) (i64.const 0)))",
        ),
        (
            TrapKind::BadConversion,
            "(drop (i32.trunc_f64_s (f64.const nan)))",
        ),
        (
            TrapKind::IntegerOverflow,
            "(drop (i32.trunc_f32_u (f32.const 1e20)))",
        ),
        (
            TrapKind::BadPointer,
            "(call $output (i32.const 65535) (i32.const 2))",
        ),
        (
            TrapKind::BadPointer,
            "(call $output (i32.const -1) (i32.const -1))",
        ),
        (TrapKind::BadHandle, "(drop (call $blob_len (i32.const 0)))"),
        (
            TrapKind::BadHandle,
            "(drop (call $blob_len (i32.const -1)))",
        ),
    ];
    for (kind, body) in cases {
        let module = format!(
            r#"(module
            (import "optwasm_v1" "output_write" (func $output (param i32 i32)))
            (import "optwasm_v1" "blob_len" (func $blob_len (param i32) (result i64)))
            (memory (export "memory") 1)
            (table 3 funcref) (elem (i32.const 0) $main)
            (func $_ZN6solver4step17h0123456789abcdefE {body})
            (func (local i32)
                (loop $l
                    (local.set 0 (i32.add (local.get 0) (i32.const 1)))
                    (br_if $l (i32.lt_u (local.get 0) (i32.const 100))))
                (call $_ZN6solver4step17h0123456789abcdefE))
            (func $main (export "_start") (call 3)))"#
        );
        let report = run(&module, job());
        let Outcome::Trap {
            kind: found,
            frames,
        } = &report.outcome
        else {
            panic!("{body}: {}", report.outcome);
        };
        assert_eq!(*found, kind, "{body}");
        assert_eq!(frames, &["solver::step", "function 3", "main"], "{body}");
        check_figures(&report);
    }
}

#[test]
fn fuel_runs_out_at_exactly_the_budget() {
    let mut job = job();
    job.limits.fuel = 12_345;
    let report = run(&program("", "(loop $l (br $l))"), job);
    assert_eq!(report.outcome, Outcome::OutOfFuel);
    assert_eq!(report.fuel, 12_345);

    // In a host call, too.
    let imports = r#"(import "optwasm_v1" "output_write" (func $output (param i32 i32)))"#;
    let mut job = common::job();
    job.limits.fuel = 5_000;
    let body = "(call $output (i32.const 0) (i32.const 65536))";
    let report = run(&program(imports, body), job);
    assert_eq!(report.outcome, Outcome::OutOfFuel);
    assert_eq!(report.fuel, 5_000);
}

#[test]
fn a_failure_after_denied_memory_is_the_memory_limit() {
    let exit = r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (import "optwasm_v1" "panic" (func $panic (param i32 i32 i32 i32 i32 i32)))
        (import "optwasm_v1" "fail" (func $fail (param i32 i32 i32)))"#;
    let run = |body: &str| {
        let mut job = job();
        job.limits.memory = 1 << 20;
        run(&program(exit, body), job)
    };
    let grow = "(drop (memory.grow (i32.const 15))) (drop (memory.grow (i32.const 1)))";
    let panic = "(call $panic (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))";
    for end in ["unreachable", "(call $exit (i32.const 1))", panic] {
        let report = run(&format!("{grow} {end}"));
        assert_eq!(report.outcome, Outcome::MemoryLimit, "{end}");
        assert_eq!(report.peak_memory, 1 << 20);
        check_figures(&report);
    }
    // A guest that copes, one that gives its own reason, and one that was denied nothing.
    assert!(run(grow).outcome.is_ok());
    let own = run(&format!(
        "{grow} (call $fail (i32.const 1) (i32.const 0) (i32.const 0))"
    ));
    assert_eq!(own.outcome.name(), "guest-error");
    let enough = run("(drop (memory.grow (i32.const 15))) unreachable");
    assert_eq!(enough.outcome.name(), "trap");
    assert_eq!(enough.peak_memory, 1 << 20);
}

#[test]
fn tables_count_as_memory() {
    let module = r#"(module (memory (export "memory") 1) (table $t 0 funcref)
        (func (export "_start")
            (if (i32.eq (table.grow $t (ref.null func) (i32.const 100000)) (i32.const -1))
                (then unreachable))))"#;
    let mut job = job();
    job.limits.memory = 65_536 + 800_000;
    let enough = run(module, job.clone());
    assert!(enough.outcome.is_ok(), "{}", enough.outcome);
    assert_eq!(enough.peak_memory, 65_536 + 800_000);
    job.limits.memory -= 1;
    assert_eq!(run(module, job).outcome, Outcome::MemoryLimit);
}

#[test]
fn what_the_module_itself_forbids_is_not_the_memory_limit() {
    let module = r#"(module (memory (export "memory") 1 2) (func (export "_start")
        (drop (memory.grow (i32.const 2))) (drop (memory.grow (i32.const 65536))) unreachable))"#;
    assert_eq!(run(module, job()).outcome.name(), "trap");
}

#[test]
fn output_is_limited_at_the_write_that_passes_it() {
    let module = program(
        r#"(import "optwasm_v1" "output_write" (func $output (param i32 i32)))"#,
        "(call $output (i32.const 0) (i32.const 1000)) (call $output (i32.const 0) (i32.const 1))",
    );
    let mut job = job();
    job.limits.output = 1001;
    assert_eq!(output(&run(&module, job.clone())).len(), 1001);
    job.limits.output = 1000;
    let report = run(&module, job);
    assert_eq!(report.outcome, Outcome::OutputTooLarge);
    check_figures(&report);
}

#[test]
fn a_module_that_starts_larger_than_the_limit_is_rejected() {
    let mut job = job();
    job.limits.memory = 65_535;
    let Outcome::Rejected(why) = run(&program("", ""), job).outcome else {
        panic!("not rejected");
    };
    assert!(why.contains("64 KiB"), "{why}");
}

#[test]
fn endless_recursion_overflows_the_stack() {
    let module = r#"(module (memory (export "memory") 1)
        (func $f (export "_start") (call $f) (i32.store (i32.const 0) (i32.const 1))))"#;
    let report = run(module, job());
    assert_eq!(report.outcome, Outcome::StackOverflow);
    check_figures(&report);
}

#[test]
fn a_deadline_ends_a_loop() {
    let mut job = job();
    job.limits.deadline_ms = 100;
    let start = Instant::now();
    let report = run(&program("", "(loop $l (br $l))"), job.clone());
    assert_eq!(report.outcome, Outcome::Deadline);
    assert!(report.wall_us >= 100_000, "{}", report.wall_us);
    assert!(start.elapsed() < Duration::from_secs(3));
    check_figures(&report);
    // One that has passed already leaves no time at all.
    job.limits.deadline_ms = 0;
    assert_eq!(run(&program("", ""), job).outcome, Outcome::Deadline);
}

#[test]
fn cancelling_ends_a_loop_soon() {
    let module = wasm(&program("", "(loop $l (br $l))"));
    let prepared = prepare_bytes(&module, Profile::Strict).unwrap();
    let control = Control::new();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| SANDBOX.run(&prepared, job(), &control));
        std::thread::sleep(Duration::from_millis(100));
        let cancelled = Instant::now();
        control.cancel();
        let report = running.join().unwrap();
        let took = cancelled.elapsed();
        assert_eq!(report.outcome, Outcome::Cancelled);
        assert!(took < Duration::from_secs(1), "{took:?}");
        check_figures(&report);
    });
}

#[test]
fn a_panicking_observer_is_a_fault_of_the_host() {
    let module = program(
        r#"(import "optwasm_v1" "progress" (func $progress (param f64 f64) (result i32)))"#,
        "(drop (call $progress (f64.const 1) (f64.const 2)))",
    );
    let control = Control::observed(|_| panic!("observer fault"));
    let report = run_controlled(&module, job(), &control);
    assert_eq!(report.outcome, Outcome::HostPanic("observer fault".into()));
    check_figures(&report);
    // The sandbox is as good as before.
    assert!(run(&module, job()).outcome.is_ok());
}

/// The machine has no memory for a guest that is within its limits. Run in a process of its own,
/// whose memory is limited once everything is set up.
#[test]
#[cfg(target_os = "linux")]
fn memory_that_the_machine_lacks_is_not_the_guests_fault() {
    const CHILD: &str = "OPTWASM_TEST_STARVE";
    // The guest goes on whatever `memory.grow` answers: it must not get to see a failure.
    let module = wasm(&program(
        "",
        "(loop $l
            (drop (memory.grow (i32.const 256)))
            (br_if $l (i32.lt_u (memory.size) (i32.const 8192))))",
    ));
    let run = |profile| {
        let prepared = prepare_bytes(&module, profile).unwrap();
        SANDBOX.run(&prepared, job_of(profile), &Control::new())
    };
    if std::env::var_os(CHILD).is_none() {
        for profile in [Profile::Strict, Profile::Extended] {
            assert!(run(profile).outcome.is_ok());
        }
        let own_name = std::thread::current().name().unwrap().to_owned();
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &own_name, "--nocapture"])
            .env(CHILD, "1")
            .env("RUST_BACKTRACE", "0")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(
            child.status.success() && said.contains("was starved"),
            "{said}"
        );
        return;
    }
    for profile in [Profile::Strict, Profile::Extended] {
        prepare_bytes(&module, profile).unwrap();
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmData:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    let limit = rustix::process::Rlimit {
        current: Some((kib << 10) + (64 << 20)),
        maximum: None,
    };
    rustix::process::setrlimit(rustix::process::Resource::Data, limit).unwrap();
    for profile in [Profile::Strict, Profile::Extended] {
        let report = run(profile);
        assert_eq!(
            report.outcome.name(),
            "host-out-of-memory",
            "{}",
            report.outcome
        );
        check_figures(&report);
    }
    println!("was starved");
}

#[test]
fn a_job_too_many_finds_no_slot_and_may_try_again() {
    let sandbox = common::sandbox(1);
    let module = wasm(&program("", "(loop $l (br $l))"));
    let id = optwasm_protocol::ContentId::of(&module);
    let prepared = sandbox.prepare(id, &module, Profile::Strict).unwrap();
    let control = Control::new();
    let reports: Vec<Report> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..5)
            .map(|_| scope.spawn(|| sandbox.run(&prepared, job(), &control)))
            .collect();
        std::thread::sleep(Duration::from_millis(300));
        control.cancel();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let count = |name: &str| reports.iter().filter(|r| r.outcome.name() == name).count();
    // One slot and two to spare.
    assert_eq!(count("cancelled"), 3);
    assert_eq!(count("host-out-of-memory"), 2);
}

#[test]
fn what_a_job_reports_on_the_way_arrives() {
    let module = r#"(module
        (import "optwasm_v1" "progress" (func $progress (param f64 f64) (result i32)))
        (import "optwasm_v1" "incumbent" (func $incumbent (param f64 f64 i32 i32)))
        (import "optwasm_v1" "checkpoint" (func $checkpoint (param i32 i32)))
        (import "optwasm_v1" "log" (func $log (param i32 i32 i32 i32 i32)))
        (memory (export "memory") 1) (data (i32.const 0) "abcdef\1b")
        (func (export "_start")
            (if (call $progress (f64.const 1) (f64.const 4)) (then unreachable))
            (call $incumbent (f64.const 5) (f64.const nan) (i32.const 0) (i32.const 1))
            (call $incumbent (f64.const 4) (f64.const 3) (i32.const 1) (i32.const 2))
            (call $checkpoint (i32.const 3) (i32.const 3))
            (call $log (i32.const 99) (i32.const 0) (i32.const 2) (i32.const 4) (i32.const 3))
            unreachable))"#;
    let events = Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = events.clone();
    let control = Control::observed(move |event| sink.lock().unwrap().push(event));
    let report = run_controlled(module, job(), &control);
    assert_eq!(report.outcome.name(), "trap");
    let last = report.incumbent.clone().unwrap();
    assert_eq!((last.objective, last.bound), (4.0, Some(3.0)));
    assert_eq!(last.solution, b"bc");
    assert_eq!(report.log[0].level, 5);
    assert_eq!(report.log[0].target, "ab");
    assert_eq!(report.log[0].message, "ef\u{fffd}");
    let events = events.lock().unwrap();
    assert_eq!(events.len(), 4);
    assert!(matches!(events[0], JobEvent::Progress(done, total) if (done, total) == (1.0, 4.0)));
    assert!(matches!(&events[1], JobEvent::Incumbent(first) if first.bound.is_none()));
    assert!(matches!(&events[3], JobEvent::Checkpoint(bytes) if bytes[..] == *b"def"));
}

#[test]
fn blobs_seed_and_resume_reach_the_guest() {
    let module = r#"(module
        (import "optwasm_v1" "blob_open" (func $open (param i32 i32) (result i32)))
        (import "optwasm_v1" "blob_len" (func $len (param i32) (result i64)))
        (import "optwasm_v1" "blob_read" (func $read (param i32 i64 i32 i32) (result i32)))
        (import "optwasm_v1" "resume_len" (func $resume_len (result i64)))
        (import "optwasm_v1" "resume_read" (func $resume (param i64 i32 i32) (result i32)))
        (import "optwasm_v1" "seed" (func $seed (param i32)))
        (import "optwasm_v1" "output_write" (func $output (param i32 i32)))
        (memory (export "memory") 1) (data (i32.const 0) "second")
        (func (export "_start") (local $h i32)
            (if (i32.ne (call $open (i32.const 0) (i32.const 5)) (i32.const -1)) (then unreachable))
            (local.set $h (call $open (i32.const 0) (i32.const 6)))
            (if (i32.ne (local.get $h) (i32.const 1)) (then unreachable))
            (if (i64.ne (call $len (local.get $h)) (i64.const 5)) (then unreachable))
            (call $output (i32.const 100)
                (call $read (local.get $h) (i64.const 1) (i32.const 100) (i32.const 1000)))
            ;; Beyond the end there is nothing, however far.
            (if (call $read (local.get $h) (i64.const -1) (i32.const 100) (i32.const 1))
                (then unreachable))
            (if (i64.eq (call $resume_len) (i64.const -1))
                (then (call $output (i32.const 0) (i32.const 1)))
                (else (call $output (i32.const 200)
                    (call $resume (i64.const 0) (i32.const 200) (i32.const 100)))))
            (call $seed (i32.const 300))
            (call $output (i32.const 300) (i32.const 32))))"#;
    let mut job = job();
    job.setup = Arc::new(Setup {
        blobs: vec![
            ("first".into(), Vec::new().into()),
            ("second".into(), b"01234"[..].into()),
        ],
        seed: 9.into(),
        ..Setup::default()
    });
    let seed = job.setup.seed.0;
    let plain = run(module, job.clone());
    // "first" is not what the guest asked for: it asked for "secon".
    assert_eq!(output(&plain), [b"1234s", &seed[..]].concat());
    job.resume = Some(b"state"[..].into());
    assert_eq!(
        output(&run(module, job)),
        [b"1234state", &seed[..]].concat()
    );
}
