//! What a module must be before anything is compiled.
//!
//! The gate reads bytes only. It bounds size and shape, since compile time is no function of size:
//! without these bounds 244 KB of WebAssembly took 7 s and 0.9 GB to compile. It validates under
//! the exact features of the engine, and it checks imports, so that whoever submits a module
//! learns at once and in words what is wrong with it.

use serde::{Deserialize, Serialize};
use wasmparser::{
    CompositeInnerType, ExternalKind, Operator, Parser, Payload, TypeRef, TypeSectionReader,
    ValidPayload, Validator, WasmFeatures,
};

use crate::engine::EngineKind;
use crate::limiter::{MEMORIES_MAX, TABLE_ELEMENT, TABLE_ELEMENTS_MAX, TABLES_MAX};
use crate::{host_v1, host_wasi};

/// Largest module: a whole Python with its libraries has 99 MB.
pub const MODULE_MAX: usize = 128 << 20;
/// Most functions: HiGHS has 12 000; 100 000 take 13 s to compile.
pub const FUNCTIONS_MAX: u32 = 60_000;
/// Largest function body in bytes: HiGHS's largest has 100 KB; one of 1.4 MB took 13 s and 1.9 GB.
pub const BODY_MAX: usize = 512 << 10;
/// Most calls in one function: 50 000 indirect calls took 7 s and 0.9 GB.
pub const CALLS_MAX: u32 = 10_000;
/// Most locals in one function; they multiply with its blocks.
pub const LOCALS_MAX: u32 = 5_000;
/// Most globals: toolchains make a handful.
pub const GLOBALS_MAX: u32 = 10_000;
/// Most data and element segments.
pub const SEGMENTS_MAX: u32 = 50_000;
/// Most types: HiGHS has a few hundred.
pub const TYPES_MAX: u32 = 10_000;
/// Most parameters, and most results, of one type, since each call and branch is validated against
/// all of them: LAPACK's functions have up to 30; compilers pass what is larger in memory.
pub const ARITY_MAX: usize = 64;
/// Most targets of all `br_table`s together, times the largest arity: each target is one byte and
/// is validated against as many values. 2^26 take 2.5 s.
pub const BRANCHES_MAX: u64 = 1 << 26;
/// Most imports: 62 functions are offered, and toolchains import each once.
pub const IMPORTS_MAX: usize = 1000;
/// Longest name of an import or export.
const NAME_MAX: usize = 1 << 12;
/// Largest `optwasm:abi` section.
const ABI_SECTION_MAX: usize = 64 << 10;

/// What the gate learned of an acceptable module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// Whether its output goes through `optwasm_v1.output_write`; else stdout is the output.
    pub is_sdk: bool,
    /// Imports, as `module.name`.
    pub imports: Vec<String>,
    /// Bytes that its memories and tables have from the start.
    pub minimum_memory: u64,
    /// Functions that it defines.
    pub functions: u32,
    /// What its `optwasm:abi` section says, where it has one.
    pub abi: Option<AbiSection>,
}

/// The custom section `optwasm:abi`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbiSection {
    /// Version of the ABI.
    pub abi: u32,
    /// Name and version of the SDK.
    #[serde(default)]
    pub sdk: String,
    /// Type of the input.
    #[serde(default)]
    pub input: String,
    /// Type of the output.
    #[serde(default)]
    pub output: String,
}

/// Why a module is not acceptable, in words for whoever built it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unacceptable(pub String);

macro_rules! refuse {
    ($($message:tt)*) => { return Err(Unacceptable(format!($($message)*))) };
}

/// Checks a module for the engine `kind`.
///
/// # Errors
///
/// [`Unacceptable`], in words for whoever built the module.
pub fn inspect(module: &[u8], kind: EngineKind) -> Result<Inspection, Unacceptable> {
    if module.len() > MODULE_MAX {
        refuse!(
            "the module has {} bytes; the limit is {MODULE_MAX}",
            module.len()
        );
    }
    if !module.starts_with(b"\0asm") {
        refuse!("this is not a WebAssembly module: it does not begin with `\\0asm`");
    }
    if Parser::is_component(module) {
        refuse!(
            "this is a WebAssembly component; optwasm runs core modules (target wasm32-wasip1)"
        );
    }
    let mut validator = Validator::new_with_features(kind.features());
    let mut functions_to_validate = Vec::new();
    let mut found = Inspection {
        is_sdk: false,
        imports: Vec::new(),
        minimum_memory: 0,
        functions: 0,
        abi: None,
    };
    let mut tables = 0;
    let mut start_export = None;
    let mut has_memory_export = false;
    let mut types = None;
    let mut arity = 0;
    let mut branches = 0;

    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.map_err(|error| malformed(&error))?;
        // Shape first, so that nothing is validated that is refused anyway.
        match &payload {
            Payload::TypeSection(section) => arity = check_types(section.clone())?,
            Payload::ImportSection(section) => {
                for import in section.clone().into_imports() {
                    let import = import.map_err(|error| malformed(&error))?;
                    check_import(import.module, import.name, import.ty)?;
                    found.is_sdk |=
                        (import.module, import.name) == (host_v1::MODULE, "output_write");
                    found
                        .imports
                        .push(format!("{}.{}", import.module, import.name));
                    if found.imports.len() > IMPORTS_MAX {
                        refuse!("the module has more than {IMPORTS_MAX} imports");
                    }
                }
            }
            Payload::FunctionSection(section) => {
                found.functions = section.count();
                at_most("functions", section.count(), FUNCTIONS_MAX)?;
            }
            Payload::TableSection(section) => {
                tables += section.count();
                at_most("tables", tables, TABLES_MAX)?;
                for table in section.clone() {
                    let table = table.map_err(|error| malformed(&error))?;
                    if table.ty.initial > TABLE_ELEMENTS_MAX as u64 {
                        refuse!(
                            "a table has {} elements; the limit is {TABLE_ELEMENTS_MAX}",
                            table.ty.initial
                        );
                    }
                    found.minimum_memory += table.ty.initial * TABLE_ELEMENT;
                }
            }
            Payload::MemorySection(section) => {
                at_most("memories", section.count(), MEMORIES_MAX)?;
                for memory in section.clone() {
                    let memory = memory.map_err(|error| malformed(&error))?;
                    let bytes = memory.initial.saturating_mul(64 << 10);
                    found.minimum_memory = found.minimum_memory.saturating_add(bytes);
                }
            }
            Payload::GlobalSection(section) => at_most("globals", section.count(), GLOBALS_MAX)?,
            Payload::DataSection(section) => {
                at_most("data segments", section.count(), SEGMENTS_MAX)?
            }
            Payload::ElementSection(section) => {
                at_most("element segments", section.count(), SEGMENTS_MAX)?;
            }
            Payload::ExportSection(section) => {
                for export in section.clone() {
                    let export = export.map_err(|error| malformed(&error))?;
                    if export.name.len() > NAME_MAX {
                        refuse!("the name of an export is longer than {NAME_MAX} bytes");
                    }
                    match (export.name, export.kind) {
                        ("_start", ExternalKind::Func) => start_export = Some(export.index),
                        ("memory", ExternalKind::Memory) => has_memory_export = true,
                        _ => {}
                    }
                }
            }
            // Its work would escape the fuel budget, which begins at `_start`.
            Payload::StartSection { .. } => refuse!(
                "the module has a start section: let `_start` do its work (AssemblyScript: build \
                 with `--exportStart _start`)"
            ),
            Payload::CodeSectionEntry(body) => {
                branches += check_body(body)?;
                if branches * arity > BRANCHES_MAX {
                    refuse!(
                        "the module has too many branch targets for functions of {arity} values"
                    );
                }
            }
            Payload::CustomSection(section) if section.name() == "optwasm:abi" => {
                found.abi = Some(abi_section(section.data())?);
            }
            _ => {}
        }
        match validator.payload(&payload) {
            Ok(ValidPayload::Func(function, body)) => functions_to_validate.push((function, body)),
            Ok(ValidPayload::End(all)) => types = Some(all),
            Ok(_) => {}
            Err(error) => return Err(invalid(&error, module, kind)),
        }
    }

    let mut allocations = wasmparser::FuncValidatorAllocations::default();
    for (function, body) in functions_to_validate {
        let mut function = function.into_validator(allocations);
        function
            .validate(&body)
            .map_err(|error| invalid(&error, module, kind))?;
        allocations = function.into_allocations();
    }
    let (Some(start), Some(types)) = (start_export, types) else {
        refuse!(
            "the module does not export the function `_start`: build a program (a crate with \
             `main`, not a library) for wasm32-wasip1"
        );
    };
    let start = types[types.as_ref().core_function_at(start)].unwrap_func();
    if !start.params().is_empty() || !start.results().is_empty() {
        refuse!("the function `_start` must have neither parameters nor results");
    }
    if !has_memory_export && !found.imports.is_empty() {
        refuse!("the module does not export its memory as `memory`");
    }
    Ok(found)
}

fn malformed(error: &wasmparser::BinaryReaderError) -> Unacceptable {
    Unacceptable(format!(
        "not a valid WebAssembly module: {} (at byte {})",
        error.message(),
        error.offset()
    ))
}

/// An error of validation, and which profile would take the module, where one would.
fn invalid(error: &wasmparser::BinaryReaderError, module: &[u8], kind: EngineKind) -> Unacceptable {
    let Unacceptable(mut message) = malformed(error);
    let valid_in = |features| {
        Validator::new_with_features(features)
            .validate_all(module)
            .is_ok()
    };
    if kind != EngineKind::Extended && valid_in(EngineKind::Extended.features()) {
        message.push_str("; the profile `extended` takes it");
    } else if valid_in(WasmFeatures::all()) {
        message.push_str("; it uses a WebAssembly feature that no profile takes");
    }
    Unacceptable(message)
}

fn at_most(what: &str, count: u32, limit: u32) -> Result<(), Unacceptable> {
    if count > limit {
        refuse!("the module has {count} {what}; the limit is {limit}");
    }
    Ok(())
}

/// Returns the largest number of parameters or results.
fn check_types(section: TypeSectionReader<'_>) -> Result<u64, Unacceptable> {
    let mut count = 0;
    let mut largest = 0;
    for group in section {
        for ty in group.map_err(|error| malformed(&error))?.types() {
            count += 1;
            at_most("types", count, TYPES_MAX)?;
            if let CompositeInnerType::Func(function) = &ty.composite_type.inner {
                let arity = function.params().len().max(function.results().len());
                if arity > ARITY_MAX {
                    refuse!(
                        "a function type has {arity} parameters or results; the limit is {ARITY_MAX}"
                    );
                }
                largest = largest.max(arity as u64);
            }
        }
    }
    Ok(largest)
}

/// Returns the number of branch targets in tables.
fn check_body(body: &wasmparser::FunctionBody<'_>) -> Result<u64, Unacceptable> {
    let size = body.range().len();
    if size > BODY_MAX {
        refuse!(
            "a function has {size} bytes; the limit is {BODY_MAX}: build it with less inlining"
        );
    }
    let mut locals = 0u32;
    for local in body
        .get_locals_reader()
        .map_err(|error| malformed(&error))?
    {
        let (count, _) = local.map_err(|error| malformed(&error))?;
        locals = locals.saturating_add(count);
    }
    at_most("locals in one function", locals, LOCALS_MAX)?;
    let mut calls = 0;
    let mut targets = 0;
    for operator in body
        .get_operators_reader()
        .map_err(|error| malformed(&error))?
    {
        match operator.map_err(|error| malformed(&error))? {
            Operator::Call { .. }
            | Operator::CallIndirect { .. }
            | Operator::ReturnCall { .. }
            | Operator::ReturnCallIndirect { .. } => calls += 1,
            Operator::BrTable { targets: table } => targets += u64::from(table.len()) + 1,
            _ => {}
        }
    }
    at_most("calls in one function", calls, CALLS_MAX)?;
    Ok(targets)
}

fn abi_section(data: &[u8]) -> Result<AbiSection, Unacceptable> {
    if data.len() > ABI_SECTION_MAX {
        refuse!("the section `optwasm:abi` is larger than {ABI_SECTION_MAX} bytes");
    }
    let section: AbiSection = ciborium::from_reader(data).map_err(|error| {
        Unacceptable(format!("the section `optwasm:abi` is malformed: {error}"))
    })?;
    if section.abi != 1 {
        refuse!(
            "the module was built for guest ABI {}; this optwasm runs ABI 1",
            section.abi
        );
    }
    Ok(section)
}

/// Functions of WASI preview 1, from its witx description.
pub(crate) const WASI_FUNCTIONS: &[&str] = &[
    "args_get",
    "args_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_pwrite",
    "fd_read",
    "fd_readdir",
    "fd_renumber",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "fd_write",
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_open",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
    "poll_oneoff",
    "proc_exit",
    "proc_raise",
    "random_get",
    "sched_yield",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
];

fn check_import(module: &str, name: &str, ty: TypeRef) -> Result<(), Unacceptable> {
    if module.len() > NAME_MAX || name.len() > NAME_MAX {
        refuse!("the name of an import is longer than {NAME_MAX} bytes");
    }
    let known: &[&str] = match module {
        host_wasi::MODULE => WASI_FUNCTIONS,
        host_v1::MODULE => host_v1::FUNCTIONS,
        _ => &[],
    };
    if known.contains(&name) {
        return match ty {
            TypeRef::Func(_) => Ok(()),
            _ => refuse!(
                "`{module}.{name}` is a function, and the module imports it as something else"
            ),
        };
    }
    let hint = match module {
        host_v1::MODULE => {
            "it was built with a newer SDK: update optwasm here, or build it with this version's SDK"
        }
        host_wasi::MODULE => "WASI preview 1 has no such function",
        "wasi_unstable" => "it was built for WASI preview 0: build it for wasm32-wasip1",
        "env" if name == "memory" => {
            "it imports its memory, as threaded modules do: build it without threads"
        }
        "env" => {
            "a C symbol was not linked, or it was built by Emscripten: link what is missing and \
             build it for wasm32-wasip1"
        }
        _ if module.starts_with("wasi:") => {
            "it was built for WASI preview 2: build it for wasm32-wasip1"
        }
        _ if module.starts_with("__wbindgen") || module == "wbg" => {
            "it was built for JavaScript by wasm-bindgen: turn that feature of the crate off, and \
             build it for wasm32-wasip1"
        }
        _ => "jobs may import from `wasi_snapshot_preview1` and `optwasm_v1` only",
    };
    let (module, name) = (module.escape_debug(), name.escape_debug());
    refuse!("the module imports `{module}.{name}`, which is not offered: {hint}")
}
