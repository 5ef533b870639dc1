//! Snapshots: what a module's own initialization leaves in memory, once for many jobs.
//!
//! A module that exports `optwasm_init` does there what does not depend on the job: it reads blobs,
//! factors matrices. A fresh instance calls it before every job. A snapshot calls it once, and
//! becomes a module whose instances have that memory from the start, shared by all of them until
//! they write to it.
//!
//! Nobody can tell by a result whether its job ran on a snapshot. The fuel that initializing took is
//! part of each job's. A job with other limits of fuel or memory, which initializing could have
//! noticed, gets a fresh instance; so do all jobs where initializing fails, and fail as they should,
//! and all where it leaves more in memory than a module may hold.

use std::sync::{Arc, PoisonError};

use optwasm_protocol::{ContentId, Limits};
use wasmtime::{Export, Instance, Memory, Store, Val};
use wasmtime_wizer::{InstanceState, SnapshotVal, ValType, Wizer};

use crate::compile::compile;
use crate::control::Control;
use crate::engine::EngineKind;
use crate::gate::MODULE_MAX;
use crate::job::Job;
use crate::prepare::{INIT, PREPARED_MAX, Prepared, Sandbox, load, lock};
use crate::run::{drive, initialize, instantiate};
use crate::state::{JobState, Watch};

/// Memory of all snapshots together that are kept for later batches: as much as a worker keeps of
/// blobs unless told otherwise.
const SNAPSHOTS_MAX: u64 = 1 << 30;
/// How many snapshots are kept, whatever their memory: as many as modules.
const KEPT_MAX: usize = PREPARED_MAX;

/// Separate pieces of memory, each without a zero byte in it, that a snapshot is made of: one for
/// each of the numbers in 64 MiB. The library that takes snapshots lists them, in 48 bytes each.
const PIECES_MAX: usize = 8 << 20;
/// Bytes that are looked at between two looks at whether the job is cancelled.
const LOOKED_AT_ONCE: usize = 16 << 20;

/// What is known of a snapshot.
pub(crate) struct Snapshot {
    /// Fuel that initializing took.
    fuel: u64,
    /// Under which it was initialized.
    limits: Limits,
    /// Bytes of memory and of native code.
    size: u64,
    /// What it was made of.
    fresh: Prepared,
}

impl Prepared {
    /// Fuel that was burnt for its instances before they were made.
    pub(crate) fn spent(&self) -> u64 {
        self.snapshot.as_ref().map_or(0, |snapshot| snapshot.fuel)
    }

    /// What a job with these limits runs on.
    pub(crate) fn for_limits(&self, limits: &Limits) -> &Prepared {
        match &self.snapshot {
            Some(of) if (of.limits.fuel, of.limits.memory) != (limits.fuel, limits.memory) => {
                &of.fresh
            }
            _ => self,
        }
    }
}

impl Sandbox {
    /// Takes a snapshot of `fresh`, which was prepared from `module` with the content id `id`, for
    /// jobs of one setup and limits, which `key` names. Where there can be none, the answer is
    /// `fresh`. Takes as long as the module's initialization, and compiling it twice.
    pub fn prepare_resident(
        &self,
        fresh: &Prepared,
        (id, module): (ContentId, &[u8]),
        key: ContentId,
        job: Job,
        control: &Control,
    ) -> Prepared {
        // Whoever wants the same snapshot waits for it.
        let turn = lock(&self.snapshotting).entry(key).or_default().clone();
        let taken = {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            match self.kept_snapshot(&key) {
                Some(found) => Ok(found),
                None => self.snapshot(fresh, id, module, job, control),
            }
            .inspect(|snapshot| self.keep_snapshot(key, snapshot.clone()))
        };
        lock(&self.snapshotting).remove(&key);
        taken.unwrap_or_else(|error| {
            tracing::info!("jobs run in fresh instances, as there is no snapshot: {error:#}");
            fresh.clone()
        })
    }

    fn kept_snapshot(&self, key: &ContentId) -> Option<Prepared> {
        let mut kept = lock(&self.snapshots);
        let place = kept.iter().position(|(candidate, _)| candidate == key)?;
        let entry = kept.remove(place);
        let found = entry.1.clone();
        kept.push(entry);
        Some(found)
    }

    fn keep_snapshot(&self, key: ContentId, snapshot: Prepared) {
        let size = |prepared: &Prepared| prepared.snapshot.as_ref().map_or(0, |of| of.size);
        let mut kept = lock(&self.snapshots);
        kept.retain(|(other, _)| *other != key);
        kept.push((key, snapshot));
        let mut total: u64 = kept.iter().map(|(_, prepared)| size(prepared)).sum();
        while kept.len() > KEPT_MAX || (total > SNAPSHOTS_MAX && kept.len() > 1) {
            total -= size(&kept.remove(0).1);
        }
    }

    fn snapshot(
        &self,
        fresh: &Prepared,
        id: ContentId,
        module: &[u8],
        job: Job,
        control: &Control,
    ) -> wasmtime::Result<Prepared> {
        let kind = EngineKind::of(job.setup.profile);
        let engine = fresh.pre.module().engine();
        let ready = |module: &[u8]| -> wasmtime::Result<(Prepared, u64)> {
            let limits = &self.config.compile_limits;
            let code = compile(module, kind, self.compiler(&id), limits)?;
            let native = load(engine, &code)?;
            let prepared = self.link(kind, engine, &native, fresh.inspection.clone())?;
            Ok((prepared, code.len() as u64))
        };
        let mut wizer = Wizer::new();
        wizer.init_func(INIT);
        // The same code, which also shows its globals and memories.
        let (context, open) = wizer.instrument(module)?;
        let (open, _) = ready(&open)?;

        let limits = job.limits;
        let state = JobState::new(job, control.clone(), !fresh.inspection.is_sdk);
        let mut store = Store::new(engine, state);
        store.limiter(|state| &mut state.limiter);
        let watch = store.data().watch.clone();
        let (instance, fuel) = drive(
            async {
                let instance = instantiate(&open, &mut store, limits.fuel)?;
                if let Some(init) = &open.entry.init {
                    initialize(&mut store, &instance, init).await?;
                }
                let fuel = limits.fuel - store.get_fuel()?;
                Ok((instance, fuel))
            },
            &watch,
        )?;
        let memory = store.data().limiter.peak;
        let mut seen = Seen { store, instance };
        seen.check_size(&watch)?;
        let closed = drive(wizer.snapshot(&context, &mut seen), &watch)?;
        drop(seen);
        let (ready, code) = ready(&closed)?;
        Ok(Prepared {
            snapshot: Some(Arc::new(Snapshot {
                fuel,
                limits,
                size: memory + code,
                fresh: fresh.clone(),
            })),
            ..ready
        })
    }
}

/// An instance that is looked at.
struct Seen {
    store: Store<JobState>,
    instance: Instance,
}

impl Seen {
    /// Whether a snapshot of it is small enough to be made: what is not zero becomes part of a
    /// module.
    fn check_size(&mut self, watch: &Watch) -> wasmtime::Result<()> {
        let exports = self.instance.exports(&mut self.store);
        let memories: Vec<Memory> = exports.filter_map(Export::into_memory).collect();
        let (mut bytes, mut pieces) = (0, 0);
        for memory in memories {
            let mut before = 0;
            for part in memory.data(&self.store).chunks(LOOKED_AT_ONCE) {
                watch.check()?;
                for &byte in part {
                    bytes += usize::from(byte != 0);
                    pieces += usize::from(byte != 0 && before == 0);
                    before = byte;
                }
                if bytes > MODULE_MAX || pieces > PIECES_MAX {
                    wasmtime::bail!("it leaves more in memory than a module may hold");
                }
            }
        }
        Ok(())
    }
}

impl InstanceState for Seen {
    async fn global_get(&mut self, name: &str, _: ValType) -> SnapshotVal {
        let global = self.instance.get_global(&mut self.store, name);
        match global.map(|global| global.get(&mut self.store)) {
            Some(Val::I32(value)) => SnapshotVal::I32(value),
            Some(Val::I64(value)) => SnapshotVal::I64(value),
            Some(Val::F32(bits)) => SnapshotVal::F32(bits),
            Some(Val::F64(bits)) => SnapshotVal::F64(bits),
            Some(Val::V128(value)) => SnapshotVal::V128(value.as_u128()),
            // Instrumenting exports the globals under these names, and refuses modules that have
            // others; a panic here ends in a fresh instance.
            other => panic!("the global {name} is {other:?}"),
        }
    }

    async fn memory_contents(&mut self, name: &str, contents: impl FnOnce(&[u8]) + Send) {
        let memory = self.instance.get_memory(&mut self.store, name);
        let memory = memory.expect("instrumenting exports the memories under these names");
        contents(memory.data(&self.store));
    }
}
