//! Snapshots: what a module's own initialization leaves in memory, once for many jobs.
//!
//! A module that exports `optwasm_init` does there what does not depend on the job: it reads blobs,
//! factors matrices. A fresh instance calls it before every job. A snapshot calls it once, and
//! becomes a module whose instances have that memory from the start, shared by all of them until
//! they write to it.
//!
//! Nobody can tell by a result whether its job ran on a snapshot. The fuel that initializing took is
//! part of each job's. A job with other limits of fuel or memory, which initializing could have
//! noticed, gets a fresh instance; so do all jobs where initializing fails, and fail as they should.

use std::sync::{Arc, PoisonError};

use optwasm_protocol::{ContentId, Limits};
use wasmtime::{Instance, Store, Val};
use wasmtime_wizer::{InstanceState, SnapshotVal, ValType, Wizer};

use crate::compile::compile;
use crate::control::Control;
use crate::engine::EngineKind;
use crate::job::Job;
use crate::prepare::{INIT, Prepared, Sandbox, load, lock};
use crate::run::{drive, initialize, instantiate};
use crate::state::JobState;

/// Memory of all snapshots together that are kept for later batches: as much as a worker keeps of
/// blobs unless told otherwise.
const SNAPSHOTS_MAX: u64 = 1 << 30;

/// What is known of a snapshot.
pub(crate) struct Snapshot {
    /// Fuel that initializing took.
    fuel: u64,
    /// Under which it was initialized.
    limits: Limits,
    /// Bytes of memory.
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
        let _one_at_a_time = self
            .snapshotting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = self.kept_snapshot(&key) {
            return found;
        }
        match self.snapshot(fresh, id, module, job, control) {
            Ok(snapshot) => {
                self.keep_snapshot(key, snapshot.clone());
                snapshot
            }
            Err(error) => {
                tracing::info!("jobs run in fresh instances, as there is no snapshot: {error:#}");
                fresh.clone()
            }
        }
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
        kept.push((key, snapshot));
        let mut total: u64 = kept.iter().map(|(_, prepared)| size(prepared)).sum();
        while total > SNAPSHOTS_MAX && kept.len() > 1 {
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
        let ready = |module: &[u8]| -> wasmtime::Result<Prepared> {
            let limits = &self.config.compile_limits;
            let code = compile(module, kind, self.compiler(&id), limits)?;
            let native = load(engine, &code)?;
            Ok(self.link(kind, engine, &native, fresh.inspection.clone())?)
        };
        let mut wizer = Wizer::new();
        wizer.init_func(INIT);
        // The same code, which also shows its globals and memories.
        let (context, open) = wizer.instrument(module)?;
        let open = ready(&open)?;

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
        let size = store.data().limiter.peak;
        let mut seen = Seen { store, instance };
        let closed = drive(wizer.snapshot(&context, &mut seen), &watch)?;
        drop(seen);
        Ok(Prepared {
            snapshot: Some(Arc::new(Snapshot {
                fuel,
                limits,
                size,
                fresh: fresh.clone(),
            })),
            ..ready(&closed)?
        })
    }
}

/// An instance that is looked at.
struct Seen {
    store: Store<JobState>,
    instance: Instance,
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
