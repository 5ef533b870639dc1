//! What the gate takes and refuses, and in which words; and what the engines behind it run.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/imports.rs"]
mod imports;

use std::time::{Duration, Instant};

use common::{job_of, output, program, run_bytes, wasm};
use optwasm_protocol::{Profile, TrapKind};
use optwasm_sandbox::{Control, EngineKind, gate};

/// Why the gate refuses `module`.
#[track_caller]
fn refused(module: &[u8], kind: EngineKind) -> String {
    match gate::inspect(module, kind) {
        Ok(_) => panic!("accepted"),
        Err(gate::Unacceptable(why)) => why,
    }
}

#[track_caller]
fn check_refused(text: &str, reason: &str) {
    let why = refused(&wasm(text), EngineKind::Strict);
    assert!(why.contains(reason), "{why:?} does not say {reason:?}");
}

/// Accepted with `limit` of something, refused with one more.
#[track_caller]
fn check_cap(limit: usize, what: &str, module: impl Fn(usize) -> String) {
    let good = wasm(&module(limit));
    if let Err(error) = gate::inspect(&good, EngineKind::Strict) {
        panic!("{what}: {error}");
    }
    check_refused(&module(limit + 1), what);
}

fn with(fields: &str) -> String {
    format!(r#"(module {fields} (memory (export "memory") 1) (func (export "_start")))"#)
}

#[test]
fn each_cap_holds_exactly() {
    let functions = gate::FUNCTIONS_MAX as usize;
    check_cap(functions, "functions", |n| with(&"(func)".repeat(n - 1)));
    check_cap(gate::LOCALS_MAX as usize, "locals in one function", |n| {
        with(&format!("(func (local {}))", "i32 ".repeat(n)))
    });
    check_cap(gate::GLOBALS_MAX as usize, "globals", |n| {
        with(&"(global i32 (i32.const 0))".repeat(n))
    });
    check_cap(gate::SEGMENTS_MAX as usize, "data segments", |n| {
        with(&r#"(data "")"#.repeat(n))
    });
    check_cap(gate::SEGMENTS_MAX as usize, "element segments", |n| {
        with(&"(elem func)".repeat(n))
    });
    // `_start` has a type, too.
    check_cap(gate::TYPES_MAX as usize, "types", |n| {
        with(&"(type (func (param i32)))".repeat(n - 1))
    });
    check_cap(gate::ARITY_MAX, "parameters or results", |n| {
        with(&format!("(type (func (param {})))", "i32 ".repeat(n)))
    });
    check_cap(gate::ARITY_MAX, "parameters or results", |n| {
        with(&format!("(type (func (result {})))", "i32 ".repeat(n)))
    });
    check_cap(gate::IMPORTS_MAX, "imports", |n| {
        with(&r#"(import "optwasm_v1" "seed" (func (param i32)))"#.repeat(n))
    });
    check_cap(gate::CALLS_MAX as usize, "calls in one function", |n| {
        with(&format!("(func {})", "call 0 ".repeat(n)))
    });
    check_cap(4, "tables", |n| with(&"(table 1 funcref)".repeat(n)));
    check_cap(200_000, "elements", |n| {
        with(&format!("(table {n} funcref)"))
    });
    // A body holds besides its operators a count of locals and an `end`.
    check_cap(gate::BODY_MAX - 2, "a function has", |n| {
        with(&format!("(func {})", "nop ".repeat(n)))
    });
}

#[test]
fn a_module_that_is_too_large_is_not_even_read() {
    let mut module = wasm(&with(""));
    // A custom section of zeroes that fills what is left.
    module.push(0);
    let rest = gate::MODULE_MAX - module.len() - 5 + 1;
    let mut length = rest as u32;
    for more in [1, 1, 1, 1, 0] {
        module.push((length & 0x7f) as u8 | more << 7);
        length >>= 7;
    }
    module.resize(gate::MODULE_MAX + 1, 0);
    let start = Instant::now();
    let why = refused(&module, EngineKind::Strict);
    assert!(why.contains("bytes; the limit is"), "{why}");
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn several_memories_are_bounded() {
    let memories = |n: usize| {
        let more = "(memory 1)".repeat(n - 1);
        wasm(&format!(
            r#"(module (memory (export "memory") 1) {more} (func (export "_start")))"#
        ))
    };
    let inspection = gate::inspect(&memories(8), EngineKind::Extended).unwrap();
    assert_eq!(inspection.minimum_memory, 8 << 16);
    let report = run_bytes(&memories(8), job_of(Profile::Extended), &Control::new());
    assert!(report.outcome.is_ok(), "{}", report.outcome);
    let why = refused(&memories(9), EngineKind::Extended);
    assert!(why.contains("9 memories"), "{why}");
    let why = refused(&memories(2), EngineKind::Strict);
    assert!(why.contains("`extended`"), "{why}");
}

#[test]
fn unknown_imports_are_refused_with_advice() {
    let import =
        |module: &str, name: &str| with(&format!(r#"(import "{module}" "{name}" (func))"#));
    for (module, name, advice) in [
        ("env", "dgemm_", "a C symbol was not linked"),
        ("env", "emscripten_memcpy_big", "Emscripten"),
        ("wasi_unstable", "fd_write", "preview 0"),
        ("wasi:cli/environment@0.2.0", "get-environment", "preview 2"),
        (
            "__wbindgen_placeholder__",
            "__wbindgen_throw",
            "wasm-bindgen",
        ),
        ("wbg", "x", "wasm-bindgen"),
        ("wasi_snapshot_preview1", "thread_spawn", "no such function"),
        ("optwasm_v1", "teleport", "newer SDK"),
        ("optwasm_v2", "seed", "optwasm_v1"),
        ("", "", "optwasm_v1"),
    ] {
        check_refused(&import(module, name), advice);
        check_refused(&import(module, name), &format!("`{module}.{name}`"));
    }
    check_refused(&import("env", "\\1b[2J"), "\\u{1b}");
    check_refused(&import("env", &"x".repeat(5000)), "longer than");
    check_refused(
        r#"(module (import "optwasm_v1" "seed" (global i32)) (func (export "_start")))"#,
        "imports it as something else",
    );
}

#[test]
fn everything_that_is_offered_links() {
    for import in imports::all() {
        let module = wasm(&with(&import.text()));
        for profile in Profile::ALL {
            let report = run_bytes(&module, job_of(profile), &Control::new());
            assert!(
                report.outcome.is_ok(),
                "{}: {}",
                import.name,
                report.outcome
            );
        }
    }
}

#[test]
fn what_is_no_core_module_is_refused_by_its_name() {
    let component = b"\0asm\x0d\0\x01\0";
    assert!(refused(component, EngineKind::Strict).contains("component"));
    assert!(refused(b"\x7fELF", EngineKind::Strict).contains("not a WebAssembly module"));
    assert!(refused(b"", EngineKind::Strict).contains("not a WebAssembly module"));
    assert!(refused(b"(module)", EngineKind::Strict).contains("not a WebAssembly module"));
    let future = b"\0asm\x02\0\0\0";
    assert!(refused(future, EngineKind::Strict).contains("version"));
}

#[test]
fn a_module_without_entry_or_memory_is_refused() {
    check_refused("(module)", "`_start`");
    check_refused(r#"(module (func (export "main")))"#, "`_start`");
    check_refused(
        r#"(module (func (export "_start") (result i32) (i32.const 0)))"#,
        "`_start`",
    );
    check_refused(
        r#"(module (import "optwasm_v1" "seed" (func (param i32))) (func (export "_start")))"#,
        "`memory`",
    );
}

#[test]
fn another_version_of_the_abi_is_refused() {
    let section = |abi: u8| {
        with(&format!(
            r#"(@custom "optwasm:abi" "\a2\63abi{}\63sdk\61x")"#,
            format_args!("\\{abi:02x}")
        ))
    };
    let inspection = gate::inspect(&wasm(&section(1)), EngineKind::Strict).unwrap();
    assert_eq!(inspection.abi.unwrap().sdk, "x");
    check_refused(&section(2), "guest ABI 2");
    let huge = with(&format!(
        r#"(@custom "optwasm:abi" "{}")"#,
        "x".repeat(70_000)
    ));
    check_refused(&huge, "larger than");
}

/// A module that has a bit of everything.
fn small_module() -> Vec<u8> {
    wasm(
        r#"(module $name
        (import "optwasm_v1" "output_write" (func $output (param i32 i32)))
        (memory (export "memory") 1) (table 2 funcref) (global $g (mut i32) (i32.const 3))
        (elem (i32.const 0) $f) (data (i32.const 0) "data") (data $passive "passive")
        (func $f (param i32) (result i32) (i32.add (local.get 0) (global.get $g)))
        (func $main (export "_start")
            (block (br_table 0 0 (call $f (i32.const 1))))
            (memory.init $passive (i32.const 4) (i32.const 0) (i32.const 2))
            (call $output (i32.const 0) (i32.const 6))))"#,
    )
}

#[test]
fn a_truncated_module_is_refused_at_every_length() {
    let module = small_module();
    let report = run_bytes(&module, job_of(Profile::Strict), &Control::new());
    assert_eq!(output(&report), b"datapa");
    // The names come last and may be missing whole.
    let names = module
        .windows(5)
        .position(|bytes| bytes == b"\x04name")
        .unwrap()
        - 2;
    for length in (0..module.len()).filter(|length| *length != names) {
        refused(&module[..length], EngineKind::Strict);
    }
    assert!(gate::inspect(&module[..names], EngineKind::Strict).is_ok());
}

#[test]
fn a_module_with_any_byte_changed_is_refused_or_runs() {
    let module = small_module();
    for place in 8..module.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut changed = module.clone();
            changed[place] ^= change;
            if gate::inspect(&changed, EngineKind::Strict).is_err() {
                continue;
            }
            let mut job = job_of(Profile::Strict);
            job.limits.fuel = 1_000_000;
            job.limits.memory = 64 << 20;
            // Whatever it ends in: it ends, and not in a fault of the host.
            let outcome = run_bytes(&changed, job, &Control::new()).outcome;
            assert!(
                outcome.is_deterministic() || outcome.name() == "stack-overflow",
                "{outcome}"
            );
        }
    }
}

#[test]
fn features_beyond_the_profile_are_refused_and_the_right_one_is_named() {
    let extended = [
        (r#"(tag $e) (func (throw $e))"#, "exceptions"),
        (r#"(func $f (return_call $f))"#, "tail calls"),
        (r#"(memory 1)"#, "memories"),
    ];
    for (fields, what) in extended {
        let module = wasm(&with(fields));
        assert!(
            gate::inspect(&module, EngineKind::Extended).is_ok(),
            "{what}"
        );
        for kind in [EngineKind::Strict, EngineKind::Portable] {
            let why = refused(&module, kind);
            assert!(
                why.ends_with("the profile `extended` takes it"),
                "{what}: {why}"
            );
        }
    }
    let nowhere = [
        r#"(memory i64 1)"#,
        r#"(memory 1 1 shared)"#,
        r#"(type (struct (field i32)))"#,
        r#"(func (param (ref 0)))"#,
        r#"(func (drop (i32x4.relaxed_trunc_f32x4_s (v128.const i64x2 0 0))))"#,
        r#"(func (drop (i32.atomic.load (i32.const 0))))"#,
        r#"(func (drop (i64.add128 (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0))) drop)"#,
    ];
    for fields in nowhere {
        for kind in EngineKind::ALL {
            let why = refused(&wasm(&with(fields)), kind);
            assert!(why.contains("that no profile takes"), "{fields}: {why}");
        }
    }
}

#[test]
fn the_extended_engine_runs_what_the_others_refuse() {
    let module = wasm(
        r#"(module
        (import "optwasm_v1" "output_write" (func $output (param i32 i32)))
        (memory (export "memory") 1) (memory $second 1)
        (tag $e (param i32))
        (func $count (param i32) (result i32)
            (if (i32.eqz (local.get 0)) (then (throw $e (i32.const 42))))
            (return_call $count (i32.sub (local.get 0) (i32.const 1))))
        (func (export "_start")
            (i32.store8 $second (i32.const 0)
                (block $caught (result i32)
                    (try_table (result i32) (catch $e $caught) (call $count (i32.const 1000000)))))
            (i32.store8 (i32.const 0) (i32.load8_u $second (i32.const 0)))
            (call $output (i32.const 0) (i32.const 1))))"#,
    );
    let report = run_bytes(&module, job_of(Profile::Extended), &Control::new());
    assert_eq!(output(&report), [42]);
    let again = run_bytes(&module, job_of(Profile::Extended), &Control::new());
    assert_eq!((again.outcome, again.fuel), (report.outcome, report.fuel));
    let uncaught = wasm(
        r#"(module (memory (export "memory") 1) (tag $e) (func (export "_start") (throw $e)))"#,
    );
    let report = run_bytes(&uncaught, job_of(Profile::Extended), &Control::new());
    assert!(
        matches!(
            report.outcome,
            optwasm_protocol::Outcome::Trap {
                kind: TrapKind::Exception,
                ..
            }
        ),
        "{}",
        report.outcome
    );
}

#[test]
fn portable_has_canonical_nans_and_strict_always_the_same() {
    let module = program(
        r#"(import "optwasm_v1" "output_write" (func $output (param i32 i32)))"#,
        "(f64.store (i32.const 0) (f64.div (f64.load (i32.const 64)) (f64.load (i32.const 64))))
         (f64.store (i32.const 8) (f64.add
            (f64.reinterpret_i64 (i64.or (i64.load (i32.const 64)) (i64.const 0x7ff8000000000001)))
            (f64.reinterpret_i64 (i64.or (i64.load (i32.const 64)) (i64.const 0x7ff8000000000002)))))
         (f32.store (i32.const 16) (f32.sqrt (f32.sub (f32.load (i32.const 64)) (f32.const 1))))
         (call $output (i32.const 0) (i32.const 20))",
    );
    let bits = |profile| {
        let report = run_bytes(&wasm(&module), job_of(profile), &Control::new());
        output(&report).to_vec()
    };
    let canonical = [
        &0x7ff8_0000_0000_0000_u64.to_le_bytes()[..],
        &0x7ff8_0000_0000_0000_u64.to_le_bytes(),
        &0x7fc0_0000_u32.to_le_bytes(),
    ];
    assert_eq!(bits(Profile::Portable), canonical.concat());
    assert_eq!(bits(Profile::Strict), bits(Profile::Strict));
    #[cfg(target_arch = "x86_64")]
    assert_ne!(
        bits(Profile::Strict),
        canonical.concat(),
        "strict costs nothing for NaNs"
    );
}

/// Validating is the one thing that happens to a stranger's module without a limit of time.
#[test]
fn no_shape_makes_the_gate_slow() {
    let types = |n: usize| format!("(type $t (func (param {})))", "i32 ".repeat(n));
    let values = "i32.const 0 ".repeat(gate::ARITY_MAX);
    let branches = |targets: usize| {
        wasm(&with(&format!(
            "{} (func {values} (loop (type $t) i32.const 0 br_table {}))",
            types(gate::ARITY_MAX),
            "0 ".repeat(targets)
        )))
    };
    // Each target is checked against as many values as a type has: here as many as are allowed in
    // one body, of which the limit allows a few.
    let module = branches(gate::BODY_MAX - 1000);
    let start = Instant::now();
    gate::inspect(&module, EngineKind::Strict).unwrap();
    println!("br_table: {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(20));
    let body = "(loop (type $t) i32.const 0 br_table {}) ".replace("{}", &"0 ".repeat(400_000));
    let module = wasm(&with(&format!(
        "{} {}",
        types(gate::ARITY_MAX),
        format!("(func {values} {body})").repeat(3)
    )));
    assert!(refused(&module, EngineKind::Strict).contains("branch targets"));

    // Calls and branches of many values, which carry them all each time.
    let results = "i32 ".repeat(gate::ARITY_MAX);
    let module = wasm(&with(&format!(
        "(func $f (param {results}) (result {results}) {values})
         (func (result {results}) {values} {})",
        "call $f i32.const 0 br_if 0 ".repeat(gate::CALLS_MAX as usize)
    )));
    let start = Instant::now();
    gate::inspect(&module, EngineKind::Strict).unwrap();
    println!("calls: {:?} for {} bytes", start.elapsed(), module.len());
    assert!(start.elapsed() < Duration::from_secs(5));
}
