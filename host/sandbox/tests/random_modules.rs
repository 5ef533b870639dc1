//! Modules that nobody would write: whatever they are, the gate answers, and what it takes runs
//! twice alike and leaves the host whole.

#![allow(clippy::unwrap_used)]

mod common;

use std::cell::Cell;

use common::{SANDBOX, job_of, wasm};
use optwasm_protocol::{ContentId, Profile, Report};
use optwasm_sandbox::{Control, EngineKind, PrepareError, gate};
use proptest::prelude::*;
use wasm_smith::{Config, Module};

/// What every job exports, so that the generator makes it.
const SHAPE: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

fn config(extended: bool) -> Config {
    Config {
        exports: Some(wasm(SHAPE)),
        allow_start_export: false,
        max_imports: 0,
        max_memory32_bytes: 1 << 20,
        max_table_elements: 1000,
        max_memories: if extended { 3 } else { 1 },
        max_tables: 4,
        max_instructions: 400,
        memory64_enabled: false,
        gc_enabled: false,
        relaxed_simd_enabled: false,
        threads_enabled: false,
        exceptions_enabled: extended,
        // With them come references to host objects, which only the extended engine has.
        reference_types_enabled: extended,
        tail_call_enabled: extended,
        ..Config::default()
    }
}

fn generate(bytes: &[u8], extended: bool) -> Option<Vec<u8>> {
    let mut source = arbitrary::Unstructured::new(bytes);
    Some(Module::new(config(extended), &mut source).ok()?.to_bytes())
}

fn run(module: &[u8], profile: Profile) -> Result<Report, PrepareError> {
    let prepared = SANDBOX.prepare(ContentId::of(module), module, profile)?;
    let mut job = job_of(profile);
    job.limits.fuel = 300_000;
    job.limits.memory = 4 << 20;
    job.limits.deadline_ms = 20_000;
    Ok(SANDBOX.run(&prepared, job, &Control::new()))
}

fn same(one: &Report, other: &Report) -> bool {
    // How deep a stack is differs even between two runs' engines, and NaNs between engines.
    if one.outcome.name() == "stack-overflow" {
        return other.outcome.name() == "stack-overflow";
    }
    one.outcome == other.outcome && one.fuel == other.fuel && one.peak_memory == other.peak_memory
}

fn check(cases: u32, profiles: [Profile; 2], extended: bool) {
    let (accepted, finished) = (Cell::new(0), Cell::new(0));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases,
        max_shrink_iters: 20,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let bytes = proptest::collection::vec(any::<u8>(), 200..3000);
    runner
        .run(&bytes, |bytes| {
            let Some(module) = generate(&bytes, extended) else {
                return Ok(());
            };
            let reports = match run(&module, profiles[0]) {
                Err(PrepareError::Rejected(_)) => return Ok(()),
                first => [first, run(&module, profiles[0]), run(&module, profiles[1])],
            };
            let reports = reports.map(Result::unwrap);
            accepted.set(accepted.get() + 1);
            for report in &reports {
                let name = report.outcome.name();
                prop_assert!(
                    report.outcome.is_deterministic() || name == "stack-overflow",
                    "{}",
                    name
                );
                prop_assert!(report.fuel <= 300_000 && report.peak_memory <= 4 << 20);
            }
            prop_assert!(
                same(&reports[0], &reports[1]),
                "{:?} {:?}",
                &reports[0],
                &reports[1]
            );
            prop_assert!(
                same(&reports[0], &reports[2]),
                "{:?} {:?}",
                &reports[0],
                &reports[2]
            );
            finished.set(finished.get() + u32::from(reports[0].outcome.is_ok()));
            Ok(())
        })
        .unwrap();
    println!(
        "{cases} cases, {} accepted, {} of them ok",
        accepted.get(),
        finished.get()
    );
    assert!(accepted.get() * 3 > cases, "too few modules are any good");
}

#[test]
fn strict_modules_run_alike_twice_and_on_another_allocator() {
    check(500, [Profile::Strict, Profile::Extended], false);
}

#[test]
fn extended_modules_run_alike_twice() {
    check(300, [Profile::Extended, Profile::Extended], true);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_gate_answers_to_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for kind in EngineKind::ALL {
            let _ = gate::inspect(&[b"\0asm\x01\0\0\0", &bytes[..]].concat(), kind);
            let _ = gate::inspect(&bytes, kind);
        }
    }

    #[test]
    fn the_gate_answers_to_damaged_modules(
        bytes in proptest::collection::vec(any::<u8>(), 200..1000),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        if let Some(mut module) = generate(&bytes, true) {
            for (place, byte) in damage {
                let place = place.index(module.len());
                module[place] = byte;
            }
            for kind in EngineKind::ALL {
                let _ = gate::inspect(&module, kind);
            }
        }
    }
}
