//! The compiler in its child process: what it makes, and how it ends when a module, or the child
//! itself, is bad. This program is the child, too: it has a `main` of its own.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashSet;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use common::{job, job_of, output, program, wasm};
use optwasm_protocol::{ContentId, Profile};
use optwasm_sandbox::{
    CompileLimits, Compiler, Control, PrepareError, Prepared, Sandbox, SandboxConfig,
    compile_child, gate,
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    match args.first().map(String::as_str) {
        Some("__compile") => return compile_child(rest),
        Some("__sleep") => std::thread::sleep(Duration::from_secs(60)),
        Some("__garbage") => std::io::stdout().write_all(&[0x7f; 100_000]).unwrap(),
        Some("__silent") => {}
        Some("__exit") => return ExitCode::from(9),
        Some("__panic") => panic!("compiler fault"),
        Some("__abort") => std::process::abort(),
        Some("__killed") => {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
                .unwrap();
        }
        Some("__environment") => {
            let names: Vec<String> = std::env::vars().map(|(name, _)| name).collect();
            eprintln!("environment {names:?}");
            return ExitCode::from(9);
        }
        _ => return tests(args.first()),
    }
    ExitCode::SUCCESS
}

type Test = (&'static str, fn());

/// Runs the tests whose name contains `filter`; an option of the usual harness is no filter.
fn tests(filter: Option<&String>) -> ExitCode {
    let all: [Test; 8] = [
        (
            "native_code_of_the_child_is_that_of_this_process",
            same_code,
        ),
        (
            "ordinary_modules_compile_within_the_limits",
            ordinary_modules,
        ),
        ("bombs_are_refused_by_their_shape", bombs_at_the_gate),
        ("bombs_run_into_processor_time", bombs_by_time),
        ("bombs_run_into_memory", bombs_by_memory),
        ("a_slow_child_is_killed", slow_child),
        ("a_broken_child_is_this_machines_fault", broken_children),
        ("trusted_modules_need_no_child", trusted),
    ];
    let wanted = |name: &str| {
        filter.is_none_or(|filter| filter.starts_with('-') || name.contains(filter.as_str()))
    };
    for (name, test) in all.into_iter().filter(|(name, _)| wanted(name)) {
        let start = Instant::now();
        test();
        println!("test {name} ... ok, {:?}", start.elapsed());
    }
    ExitCode::SUCCESS
}

fn child(mode: &str) -> Compiler {
    Compiler::Child {
        program: std::env::current_exe().unwrap(),
        args: vec![mode.to_owned()],
    }
}

fn jailed(mode: &str, limits: CompileLimits) -> Sandbox {
    Sandbox::new(SandboxConfig {
        compiler: child(mode),
        compile_limits: limits,
        ..SandboxConfig::new(1)
    })
    .unwrap()
}

fn prepare(sandbox: &Sandbox, module: &[u8], profile: Profile) -> Result<Prepared, PrepareError> {
    sandbox.prepare(ContentId::of(module), module, profile)
}

#[track_caller]
fn refused(sandbox: &Sandbox, module: &[u8]) -> String {
    match prepare(sandbox, module, Profile::Strict) {
        Ok(_) => panic!("compiles"),
        Err(PrepareError::Rejected(why)) => why,
        Err(PrepareError::Host(why)) => panic!("this machine's fault: {why}"),
    }
}

#[track_caller]
fn works(sandbox: &Sandbox) {
    let module = wasm(&program("", ""));
    let prepared = prepare(sandbox, &module, Profile::Strict).unwrap();
    let report = sandbox.run(&prepared, job(), &Control::new());
    assert!(report.outcome.is_ok(), "{}", report.outcome);
}

fn small(fields: &str) -> Vec<u8> {
    wasm(&format!(
        r#"(module {fields} (memory (export "memory") 1) (func (export "_start")))"#
    ))
}

fn same_code() {
    let module = wasm(
        r#"(module
        (import "optwasm_v1" "output_write" (func $output (param i32 i32)))
        (memory (export "memory") 1)
        (func $fib (param i32) (result i64)
            (if (result i64) (i32.lt_u (local.get 0) (i32.const 2))
                (then (i64.extend_i32_u (local.get 0)))
                (else (i64.add
                    (call $fib (i32.sub (local.get 0) (i32.const 1)))
                    (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
        (func (export "_start")
            (i64.store (i32.const 0) (call $fib (i32.const 20)))
            (f64.store (i32.const 8) (f64.sqrt (f64.const 2)))
            (call $output (i32.const 0) (i32.const 16))))"#,
    );
    let jailed = jailed("__compile", CompileLimits::default());
    let here = common::sandbox(1);
    for profile in Profile::ALL {
        let reports = [&jailed, &here].map(|sandbox| {
            let prepared = prepare(sandbox, &module, profile).unwrap();
            sandbox.run(&prepared, job_of(profile), &Control::new())
        });
        assert_eq!(output(&reports[0])[..8], 6765_u64.to_le_bytes());
        assert_eq!(output(&reports[0]), output(&reports[1]));
        assert_eq!(reports[0].fuel, reports[1].fuel);
    }
}

/// The default limits are made for what people compile: here two thousand functions, 0.5 MB.
fn ordinary_modules() {
    let function = "(func (param i32 f64) (result f64) (local i32)
        (loop $l
            (local.set 1 (f64.add (local.get 1) (f64.load (local.get 0))))
            (f64.store (local.get 0) (f64.mul (local.get 1) (local.get 1)))
            (if (i32.and (local.get 0) (i32.const 3))
                (then (local.set 2 (i32.add (local.get 2) (i32.const 1))))
                (else (local.set 1 (f64.sqrt (f64.abs (local.get 1))))))
            (local.set 0 (i32.add (local.get 0) (i32.const 8)))
            (br_if $l (i32.lt_u (local.get 0) (i32.const 4096))))
        (f64.convert_i32_u (local.get 2)))";
    let module = small(&function.repeat(5000));
    let sandbox = jailed("__compile", CompileLimits::default());
    let start = Instant::now();
    prepare(&sandbox, &module, Profile::Strict).unwrap();
    println!("{} KB in {:?}", module.len() >> 10, start.elapsed());
    works(&sandbox);
}

fn add_chain(length: usize) -> String {
    let step = "local.get 0 i32.add ";
    format!(
        "(func (param i32) (result i32) local.get 0 {})",
        step.repeat(length)
    )
}

fn indirect_calls(count: usize) -> String {
    format!("(func {})", "i32.const 0 call_indirect ".repeat(count))
}

fn bombs_at_the_gate() {
    let sandbox = jailed("__compile", CompileLimits::default());
    let start = Instant::now();
    for (bomb, why) in [
        (small(&add_chain(400_000)), "a function has"),
        (small(&"(func)".repeat(100_000)), "functions"),
        (
            small(&format!("(table 1 funcref) {}", indirect_calls(50_000))),
            "calls in one function",
        ),
        (
            small(&format!("(func (local {}))", "i64 ".repeat(50_000))),
            "locals in one function",
        ),
    ] {
        let message = refused(&sandbox, &bomb);
        assert!(message.contains(why), "{message}");
    }
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    works(&sandbox);
}

/// What the gate lets through and takes longest.
fn slow_to_compile() -> Vec<u8> {
    let body = indirect_calls(gate::CALLS_MAX as usize);
    small(&format!("(table 1 funcref) {}", body.repeat(20)))
}

fn bombs_by_time() {
    let limits = CompileLimits {
        cpu: Duration::from_secs(1),
        ..CompileLimits::default()
    };
    let sandbox = jailed("__compile", limits);
    let start = Instant::now();
    let why = refused(&sandbox, &slow_to_compile());
    assert!(why.contains("longer than 1 s of processor time"), "{why}");
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    // It is remembered: a batch on such a module is not compiled job by job.
    let again = Instant::now();
    refused(&sandbox, &slow_to_compile());
    assert!(
        again.elapsed() < Duration::from_millis(500),
        "{:?}",
        again.elapsed()
    );
    works(&sandbox);
}

fn bombs_by_memory() {
    let limits = CompileLimits {
        memory: 400 << 20,
        ..CompileLimits::default()
    };
    let sandbox = jailed("__compile", limits);
    let why = refused(&sandbox, &slow_to_compile());
    assert!(why.contains("more than 400 MiB of memory"), "{why}");
    works(&sandbox);
}

fn slow_child() {
    let limits = CompileLimits {
        wall: Duration::from_millis(300),
        ..CompileLimits::default()
    };
    let sandbox = jailed("__sleep", limits);
    let start = Instant::now();
    // Larger than a pipe holds, so that the child that reads nothing also blocks the writer.
    let why = refused(&sandbox, &small(&"(func)".repeat(50_000)));
    assert!(why.contains("longer than 300ms"), "{why}");
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
}

fn broken_children() {
    let module = small("");
    let host_error = |compiler: Compiler| {
        let directory = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::new(SandboxConfig {
            compiler,
            cache_dir: Some(directory.path().to_owned()),
            ..SandboxConfig::new(1)
        })
        .unwrap();
        // Both times: nothing wrong is remembered, in memory or on disk.
        let errors = [(); 2].map(|()| match prepare(&sandbox, &module, Profile::Strict) {
            Err(PrepareError::Host(why)) => why,
            Err(PrepareError::Rejected(why)) => panic!("blames the module: {why}"),
            Ok(_) => panic!("compiles"),
        });
        assert_eq!(errors[0], errors[1]);
        let cached = std::fs::read_dir(directory.path()).unwrap();
        assert_eq!(cached.count(), 1, "only the key");
        errors[0].clone()
    };
    for mode in ["__garbage", "__silent"] {
        let why = host_error(child(mode));
        assert!(why.contains("does not load"), "{mode}: {why}");
    }
    for mode in ["__exit", "__killed"] {
        let why = host_error(child(mode));
        assert!(why.contains("cannot run the compiler"), "{mode}: {why}");
    }
    let why = host_error(child("__environment"));
    assert!(
        why.ends_with(r#"environment ["RAYON_NUM_THREADS"]"#),
        "{why}"
    );
    let why = host_error(Compiler::Child {
        program: "/nonexistent/optwasm".into(),
        args: Vec::new(),
    });
    assert!(why.contains("No such file"), "{why}");
    // A compiler that a module brings down would be brought down by it everywhere.
    for mode in ["__panic", "__abort"] {
        let sandbox = jailed(mode, CompileLimits::default());
        let why = refused(&sandbox, &module);
        assert!(why.contains("crashes the compiler"), "{mode}: {why}");
    }
}

fn trusted() {
    let ours = wasm(&program("", ""));
    let theirs = small("(func)");
    let sandbox = Sandbox::new(SandboxConfig {
        compiler: Compiler::Child {
            program: "/nonexistent/optwasm".into(),
            args: Vec::new(),
        },
        trusted: HashSet::from([ContentId::of(&ours)]),
        ..SandboxConfig::new(1)
    })
    .unwrap();
    assert!(prepare(&sandbox, &ours, Profile::Strict).is_ok());
    assert!(prepare(&sandbox, &theirs, Profile::Strict).is_err());
}
