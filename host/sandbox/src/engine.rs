//! The engines: what a guest may contain, what an operator costs, how instances are allocated.
//!
//! Everything that can change a result or a fuel count is set here, by [`EngineKind`], and goes
//! into the engine's [`fingerprint`](EngineKind::fingerprint). Settings that only change speed (the allocator) do not.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use optwasm_protocol::Profile;
use wasmparser::WasmFeatures;
use wasmtime::{
    Collector, Config, Enabled, Engine, InstanceAllocationStrategy, ModuleVersionStrategy,
    OperatorCost, OptLevel, PoolingAllocationConfig, Strategy, VariableOperatorCost,
    WasmBacktraceDetails,
};

use crate::limiter::{TABLE_ELEMENTS_MAX, TABLES_MAX};

/// The exact release of wasmtime: fuel counts differ between releases.
pub const WASMTIME_VERSION: &str = "48.0.8";

/// Version of the cost table in this module and of the host calls' costs.
/// It must change whenever the fuel of any guest changes.
const FUEL_SCHEDULE: u32 = 1;

/// Version of the guest ABI.
const ABI: u32 = 1;

/// Wasm stack of a guest: enough for the recursion of solvers and interpreters.
const WASM_STACK: usize = 1 << 20;

/// Frames that a trap names: the first ones tell where it happened.
const FRAMES_MAX: NonZeroUsize = NonZeroUsize::new(32).expect("not zero");

/// Memory of a finished job that the allocator keeps, zeroed, for the next one. With it and
/// PAGEMAP_SCAN a fresh sandbox costs 4 to 9 µs instead of 20: no page faults, no madvise.
const KEEP_RESIDENT: usize = 16 << 20;

/// The engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EngineKind {
    /// For the profiles `strict` and `timed`.
    Strict,
    /// As `Strict`, with canonical NaNs.
    Portable,
    /// As `Strict`, and takes exceptions, tail calls and several memories.
    Extended,
}

impl EngineKind {
    /// All engines.
    pub const ALL: [EngineKind; 3] = [
        EngineKind::Strict,
        EngineKind::Portable,
        EngineKind::Extended,
    ];

    /// The engine that runs `profile`.
    pub fn of(profile: Profile) -> Self {
        match profile {
            Profile::Strict | Profile::Timed => EngineKind::Strict,
            Profile::Portable => EngineKind::Portable,
            Profile::Extended => EngineKind::Extended,
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            EngineKind::Strict => "strict",
            EngineKind::Portable => "portable",
            EngineKind::Extended => "extended",
        }
    }

    fn canonical_nans(self) -> bool {
        self == EngineKind::Portable
    }

    /// What modules may use. Threads are out because they are not deterministic and tier 2 in
    /// wasmtime; relaxed SIMD because it may differ by machine; garbage collection and typed
    /// references because their fuel still changed within wasmtime's patch releases; 64-bit
    /// memories because every access would be bounds-checked.
    pub fn features(self) -> WasmFeatures {
        let strict = WasmFeatures::MUTABLE_GLOBAL
            | WasmFeatures::SATURATING_FLOAT_TO_INT
            | WasmFeatures::SIGN_EXTENSION
            | WasmFeatures::REFERENCE_TYPES
            | WasmFeatures::MULTI_VALUE
            | WasmFeatures::BULK_MEMORY
            | WasmFeatures::SIMD
            | WasmFeatures::FLOATS
            | WasmFeatures::EXTENDED_CONST;
        match self {
            EngineKind::Strict | EngineKind::Portable => strict,
            EngineKind::Extended => {
                strict
                    | WasmFeatures::EXCEPTIONS
                    | WasmFeatures::TAIL_CALL
                    | WasmFeatures::MULTI_MEMORY
                    // Exception references are typed references underneath.
                    | WasmFeatures::GC_TYPES
            }
        }
    }

    /// The name of everything that decides what a guest computes and burns: two workers with the
    /// same fingerprint agree on bytes and fuel.
    pub fn fingerprint(self) -> [u8; 32] {
        let machine = if self.canonical_nans() {
            "any"
        } else {
            std::env::consts::ARCH
        };
        let description = format!(
            "wasmtime {WASMTIME_VERSION} abi {ABI} fuel {FUEL_SCHEDULE} {} features {:x} \
             nans {} stack {WASM_STACK} machine {machine}",
            self.name(),
            self.features().bits(),
            self.canonical_nans(),
        );
        *blake3::hash(description.as_bytes()).as_bytes()
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What operators cost: one each, nothing for those that generate no work, and bulk operations by
/// what they move.
pub fn operator_cost() -> OperatorCost {
    let mut cost = OperatorCost::new();
    cost.variable = VariableOperatorCost {
        memory_copy_per_byte: 1,
        memory_fill_per_byte: 1,
        memory_init_per_byte: 1,
        // Zeroing 64 KiB takes about as long as a few thousand operators; 200 is what fits the
        // u8 and still makes a loop of growing run out of fuel.
        memory_grow_per_page: 200,
        table_copy_per_element: 1,
        table_fill_per_element: 1,
        table_init_per_element: 1,
        table_grow_per_element: 1,
        array_copy_per_element: 1,
        array_fill_per_element: 1,
        array_new_data_per_element: 1,
        array_init_data_per_element: 1,
        array_new_elem_per_element: 1,
        array_init_elem_per_element: 1,
        array_new_default_per_element: 1,
        array_new_per_element: 1,
    };
    cost
}

/// The configuration of an engine, but for how instances are allocated.
///
/// # Errors
///
/// Where wasmtime does not take it, which is a bug.
pub fn config(kind: EngineKind) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_nan_canonicalization(kind.canonical_nans())
        .consume_fuel(true)
        .operator_cost(operator_cost())
        .wasm_features(WasmFeatures::all(), false)
        .wasm_features(kind.features(), true)
        // Exceptions live on a heap of their own. Nothing is collected from it: it is bounded by
        // the job's memory limit and gone with the job. Which collector there is must not depend
        // on the features that wasmtime was built with.
        .gc_support(kind == EngineKind::Extended)
        .collector(Collector::Null)
        .max_wasm_stack(WASM_STACK)
        // As much again for the host functions that the guest calls.
        .async_stack_size(WASM_STACK * 2)
        // Reserving all that a 32-bit memory can reach, and a guard behind it, lets compiled code
        // do without bounds checks.
        .memory_reservation(4 << 30)
        .memory_guard_size(32 << 20)
        .memory_init_cow(true)
        .table_lazy_init(true)
        .wasm_backtrace_max_frames(Some(FRAMES_MAX))
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .native_unwind_info(false);
    config.module_version(ModuleVersionStrategy::Custom(format!(
        "{WASMTIME_VERSION}+{FUEL_SCHEDULE}"
    )))?;
    Ok(config)
}

/// An engine for compiling only: it reserves nothing for instances.
///
/// # Errors
///
/// Where wasmtime does not take the configuration, which is a bug.
pub fn compiling_engine(kind: EngineKind) -> wasmtime::Result<Engine> {
    Engine::new(&config(kind)?)
}

/// An engine that runs up to `slots` jobs at once.
///
/// # Errors
///
/// Where the operating system does not give the address space even for one instance.
pub fn running_engine(kind: EngineKind, slots: u32) -> wasmtime::Result<Engine> {
    match kind {
        // Several memories for each slot would reserve more address space than it is worth.
        EngineKind::Extended => compiling_engine(kind),
        _ => pooling_engine(kind, slots).or_else(|error| {
            tracing::warn!("no address space for instance pools, jobs start slower: {error:#}");
            compiling_engine(kind)
        }),
    }
}

fn pooling_engine(kind: EngineKind, slots: u32) -> wasmtime::Result<Engine> {
    // One instance being dropped while the next starts, and one to spare.
    let instances = slots + 2;
    let pagemap_scan = PoolingAllocationConfig::is_pagemap_scan_available();
    if !pagemap_scan {
        tracing::info!("the kernel has no PAGEMAP_SCAN (Linux 6.7): jobs start slower");
    }
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(instances)
        .total_memories(instances)
        .total_tables(instances * TABLES_MAX)
        .total_stacks(instances)
        .max_memories_per_module(1)
        .max_tables_per_module(TABLES_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_memory_size(4 << 30)
        .max_core_instance_size(16 << 20)
        .max_unused_warm_slots(instances)
        .pagemap_scan(Enabled::Auto)
        // Without PAGEMAP_SCAN, keeping memory means clearing all of it after every job.
        .linear_memory_keep_resident(if pagemap_scan { KEEP_RESIDENT } else { 0 })
        .table_keep_resident(if pagemap_scan { 1 << 20 } else { 0 });
    let mut config = config(kind)?;
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

/// Engines, made when they are first needed.
#[derive(Debug)]
pub(crate) struct Engines {
    slots: u32,
    made: [std::sync::OnceLock<Arc<Engine>>; 3],
}

impl Engines {
    pub(crate) fn new(slots: u32) -> Self {
        Self {
            slots,
            made: Default::default(),
        }
    }

    pub(crate) fn get(&self, kind: EngineKind) -> wasmtime::Result<Arc<Engine>> {
        let cell = &self.made[kind as usize];
        if let Some(engine) = cell.get() {
            return Ok(engine.clone());
        }
        let engine = Arc::new(running_engine(kind, self.slots)?);
        Ok(cell.get_or_init(|| engine).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_that_is_linked() {
        let lock = include_str!("../../../Cargo.lock");
        let entry = format!("name = \"wasmtime\"\nversion = \"{WASMTIME_VERSION}\"");
        assert!(lock.contains(&entry), "WASMTIME_VERSION is out of date");
    }

    #[test]
    fn the_cost_table_is_the_one_that_the_schedule_names() {
        let table = format!("{:?}", operator_cost());
        let hash = blake3::hash(table.as_bytes()).to_hex();
        assert_eq!(
            &hash[..16],
            "227d03aeb20cce39",
            "costs changed: raise FUEL_SCHEDULE, then this hash"
        );
    }

    #[test]
    fn fingerprints_differ() {
        let mut all = EngineKind::ALL.map(EngineKind::fingerprint).to_vec();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), EngineKind::ALL.len());
    }
}
