//! The sandbox itself: from module bytes to something that runs jobs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use optwasm_protocol::{ContentId, Instances, Profile};
use wasmtime::{Engine, InstancePre, Linker, Module, ModuleExport};

use crate::cache::DiskCache;
use crate::compile::{CompileError, compile};
use crate::config::{Compiler, SandboxConfig};
use crate::engine::{EngineKind, Engines};
use crate::gate::{self, Inspection, Unacceptable};
use crate::resident::Snapshot;
use crate::state::JobState;
use crate::{host_v1, host_wasi};

/// Prepared modules kept in memory: batches of more modules than this at once are rare, and the
/// disk cache is near.
pub(crate) const PREPARED_MAX: usize = 64;

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The engine cannot be set up on this machine: too little address space, or an architecture
    /// that wasmtime does not compile for.
    #[error("the WebAssembly engine cannot start: {0}")]
    Engine(String),
}

/// Why a module cannot be run.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PrepareError {
    /// The module is not acceptable. Every worker says the same.
    #[error("{0}")]
    Rejected(String),
    /// This machine failed. Another try or another worker may succeed.
    #[error("{0}")]
    Host(String),
}

impl From<Unacceptable> for PrepareError {
    fn from(Unacceptable(why): Unacceptable) -> Self {
        PrepareError::Rejected(why)
    }
}

/// A module that is ready to run jobs.
#[derive(Clone)]
pub struct Prepared {
    pub(crate) pre: InstancePre<JobState>,
    pub(crate) entry: Entry,
    /// Where the memory is; a module without imports needs none.
    pub(crate) memory: Option<ModuleExport>,
    pub(crate) inspection: Arc<Inspection>,
    /// Where this is the snapshot of another.
    pub(crate) snapshot: Option<Arc<Snapshot>>,
}

/// What is called in an instance, so that no job looks names up.
#[derive(Clone)]
pub(crate) struct Entry {
    /// `_start`: all of a job.
    start: ModuleExport,
    /// `optwasm_init`: what comes before any job.
    pub(crate) init: Option<ModuleExport>,
    /// `optwasm_run`: a job, after `optwasm_init`, any number of times.
    run: Option<ModuleExport>,
}

impl Prepared {
    /// What the gate learned of it.
    pub fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// Why jobs cannot find in its instances what they ask for.
    ///
    /// # Errors
    ///
    /// What is missing, for whoever built the module.
    pub fn offers(&self, instances: Instances) -> Result<(), String> {
        match instances {
            Instances::Resident if self.entry.init.is_none() => Err(format!(
                "the module exports no `{INIT}`, so there is nothing that could stay resident"
            )),
            Instances::Kept(_) if self.entry.run.is_none() => Err(format!(
                "the module exports no `{RUN}`, so one instance runs one job"
            )),
            _ => Ok(()),
        }
    }

    /// What to call for a job; in an instance that others may follow in where it `is_kept`.
    pub(crate) fn main(&self, is_kept: bool) -> &ModuleExport {
        let is_initialized = self.entry.init.is_some() || self.snapshot.is_some();
        match &self.entry.run {
            Some(run) if is_kept || is_initialized => run,
            _ => &self.entry.start,
        }
    }
}

/// What a module does once, before it sees a job.
pub(crate) const INIT: &str = "optwasm_init";
/// What a module does for each job, after `optwasm_init` and any number of times.
const RUN: &str = "optwasm_run";

/// Prepares modules and runs jobs on them. Shared by the threads that run them.
pub struct Sandbox {
    pub(crate) config: SandboxConfig,
    engines: Engines,
    linkers: [std::sync::OnceLock<Arc<Linker<JobState>>>; 3],
    disk: Option<DiskCache>,
    /// Most recently used last.
    prepared: Mutex<Vec<((ContentId, EngineKind), Prepared)>>,
    /// One compilation at a time: it takes all cores by itself.
    compiling: Mutex<()>,
    rejected: Mutex<HashMap<(ContentId, EngineKind), PrepareError>>,
    /// One snapshot at a time: the allocator has one instance to spare for it.
    pub(crate) snapshotting: Mutex<HashMap<ContentId, Arc<Mutex<()>>>>,
    /// Most recently used last.
    pub(crate) snapshots: Mutex<Vec<(ContentId, Prepared)>>,
}

/// Rejections that are remembered, so that a batch on a bad module is not compiled job by job.
const REJECTED_MAX: usize = 1024;

impl Sandbox {
    /// Sets up a sandbox.
    ///
    /// A cache directory that cannot be used is reported through `tracing` and done without.
    ///
    /// # Errors
    ///
    /// [`SandboxError`].
    pub fn new(config: SandboxConfig) -> Result<Self, SandboxError> {
        let disk = config.cache_dir.as_deref().and_then(|dir| {
            DiskCache::open(dir)
                .inspect_err(|error| tracing::warn!("modules are not cached on disk: {error}"))
                .ok()
        });
        let sandbox = Self {
            engines: Engines::new(config.slots),
            linkers: Default::default(),
            disk,
            prepared: Mutex::default(),
            compiling: Mutex::default(),
            rejected: Mutex::default(),
            snapshotting: Mutex::default(),
            snapshots: Mutex::default(),
            config,
        };
        sandbox.engine(EngineKind::Strict)?;
        Ok(sandbox)
    }

    fn engine(&self, kind: EngineKind) -> Result<Arc<Engine>, SandboxError> {
        let engine = self.engines.get(kind);
        engine.map_err(|error| SandboxError::Engine(format!("{error:#}")))
    }

    fn linker(
        &self,
        kind: EngineKind,
        engine: &Engine,
    ) -> Result<Arc<Linker<JobState>>, PrepareError> {
        let cell = &self.linkers[kind as usize];
        if let Some(linker) = cell.get() {
            return Ok(linker.clone());
        }
        let mut linker = Linker::new(engine);
        host_wasi::define(&mut linker)
            .and_then(|()| host_v1::define(&mut linker))
            .map_err(|error| PrepareError::Host(format!("{error:#}")))?;
        Ok(cell.get_or_init(|| Arc::new(linker)).clone())
    }

    /// Makes a module ready for jobs of `profile`: checks, compiles and links it, or takes it from
    /// the cache. `id` must be the content id of `module`. May take seconds.
    ///
    /// # Errors
    ///
    /// [`PrepareError`].
    pub fn prepare(
        &self,
        id: ContentId,
        module: &[u8],
        profile: Profile,
    ) -> Result<Prepared, PrepareError> {
        let key = (id, EngineKind::of(profile));
        if let Some(prepared) = self.remembered(&key) {
            return Ok(prepared);
        }
        let _compiling = self
            .compiling
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(prepared) = self.remembered(&key) {
            return Ok(prepared);
        }
        if let Some(error) = lock(&self.rejected).get(&key) {
            return Err(error.clone());
        }
        let result = self.prepare_new(&key, module);
        match &result {
            Ok(prepared) => {
                let mut all = lock(&self.prepared);
                if all.len() >= PREPARED_MAX {
                    all.remove(0);
                }
                all.push((key, prepared.clone()));
            }
            Err(error @ PrepareError::Rejected(_)) => {
                let mut rejected = lock(&self.rejected);
                if rejected.len() >= REJECTED_MAX {
                    rejected.clear();
                }
                rejected.insert(key, error.clone());
            }
            Err(PrepareError::Host(_)) => {}
        }
        result
    }

    fn remembered(&self, key: &(ContentId, EngineKind)) -> Option<Prepared> {
        let mut all = lock(&self.prepared);
        let place = all.iter().position(|(candidate, _)| candidate == key)?;
        let entry = all.remove(place);
        let prepared = entry.1.clone();
        all.push(entry);
        Some(prepared)
    }

    fn prepare_new(
        &self,
        &(id, kind): &(ContentId, EngineKind),
        module: &[u8],
    ) -> Result<Prepared, PrepareError> {
        let engine = self
            .engine(kind)
            .map_err(|error| PrepareError::Host(error.to_string()))?;
        let (inspection, native) = match self.cached(id, kind, &engine) {
            Some(cached) => cached,
            None => {
                let inspection = gate::inspect(module, kind)?;
                let native = self.compiled(id, kind, module, &engine, &inspection)?;
                (inspection, native)
            }
        };
        self.link(kind, &engine, &native, inspection.into())
    }

    /// Makes compiled code ready for jobs.
    pub(crate) fn link(
        &self,
        kind: EngineKind,
        engine: &Engine,
        native: &Module,
        inspection: Arc<Inspection>,
    ) -> Result<Prepared, PrepareError> {
        // So that the first job does not pay for it. An optimization: without it jobs still run.
        let _ = native.initialize_copy_on_write_image();
        let pre = self
            .linker(kind, engine)?
            .instantiate_pre(native)
            // Names were checked at the gate; what is left are types.
            .map_err(|error| PrepareError::Rejected(format!("{error:#}")))?;
        Ok(Prepared {
            pre,
            entry: entry(native)?,
            memory: native.get_export_index("memory"),
            inspection,
            snapshot: None,
        })
    }

    /// What is on the disk for a module. It passed the gate when it was put there, so it is not
    /// looked at again: of a solver with a million operators that would take longer than all else.
    fn cached(
        &self,
        id: ContentId,
        kind: EngineKind,
        engine: &Engine,
    ) -> Option<(Inspection, Module)> {
        let (about, code) = self.disk.as_ref()?.get(&id, &compatibility(kind, engine))?;
        let inspection = ciborium::from_reader(&about[..]);
        match (inspection, load(engine, &code)) {
            (Ok(inspection), Ok(native)) => Some((inspection, native)),
            (Err(error), _) => {
                tracing::warn!("a cached module does not load: {error}");
                None
            }
            (_, Err(error)) => {
                tracing::warn!("a cached module does not load: {error:#}");
                None
            }
        }
    }

    /// Where a module is compiled.
    pub(crate) fn compiler(&self, id: &ContentId) -> &Compiler {
        if self.config.trusted.contains(id) {
            &Compiler::InProcess
        } else {
            &self.config.compiler
        }
    }

    /// Compiles a module that passed the gate, and keeps the code.
    fn compiled(
        &self,
        id: ContentId,
        kind: EngineKind,
        module: &[u8],
        engine: &Engine,
        inspection: &Inspection,
    ) -> Result<Module, PrepareError> {
        let limits = &self.config.compile_limits;
        let code =
            compile(module, kind, self.compiler(&id), limits).map_err(|error| match error {
                CompileError::Refused(why) => PrepareError::Rejected(why),
                CompileError::Child(_) => PrepareError::Host(error.to_string()),
            })?;
        let native = load(engine, &code).map_err(|error| {
            PrepareError::Host(format!("compiled code does not load: {error:#}"))
        })?;
        if let Some(disk) = &self.disk {
            let mut about = Vec::new();
            ciborium::into_writer(inspection, &mut about)
                .expect("writing to a Vec cannot fail, and every field has a CBOR form");
            if let Err(error) = disk.put(&id, &compatibility(kind, engine), &about, &code) {
                tracing::warn!("a compiled module was not cached on disk: {error}");
            }
        }
        Ok(native)
    }
}

/// What to call in a module's instances.
fn entry(native: &Module) -> Result<Entry, PrepareError> {
    let function = |name: &str| {
        let Some(found) = native.get_export(name) else {
            return Ok(None);
        };
        match found.func() {
            Some(found) if found.params().len() + found.results().len() == 0 => {
                Ok(native.get_export_index(name))
            }
            _ => Err(PrepareError::Rejected(format!(
                "the module's export `{name}` is no function without parameters and results"
            ))),
        }
    };
    let entry = Entry {
        start: function("_start")?
            .ok_or_else(|| PrepareError::Host("the compiler lost `_start`".to_owned()))?,
        init: function(INIT)?,
        run: function(RUN)?,
    };
    if entry.init.is_some() && entry.run.is_none() {
        return Err(PrepareError::Rejected(format!(
            "the module exports `{INIT}` and no `{RUN}`"
        )));
    }
    Ok(entry)
}

pub(crate) fn load(engine: &Engine, code: &[u8]) -> wasmtime::Result<Module> {
    // SAFETY: the code was made by this program, in this process, in its own child process, or
    // earlier under a MAC that only this user's cache key makes; wasmtime copies it.
    unsafe { Module::deserialize(engine, code) }
}

/// Changes with what the gate accepts and what it tells, so that modules are looked at again that
/// another version let pass.
const GATE: &str = concat!("gate 1 of ", env!("CARGO_PKG_VERSION"));

/// What is kept of a module depends on: the engine, the processor's own features, and the gate.
fn compatibility(kind: EngineKind, engine: &Engine) -> [u8; 32] {
    use std::hash::{Hash, Hasher};
    struct Collect(blake3::Hasher);
    impl Hasher for Collect {
        fn finish(&self) -> u64 {
            0
        }
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
    }
    let mut collect = Collect(blake3::Hasher::new());
    GATE.hash(&mut collect);
    kind.fingerprint().hash(&mut collect);
    engine.precompile_compatibility_hash().hash(&mut collect);
    *collect.0.finalize().as_bytes()
}

/// Nothing that holds these locks can leave their content half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// As after a change of the engine that its fingerprint missed.
    #[test]
    fn cached_code_that_does_not_load_is_compiled_again() {
        let dir = tempfile::tempdir().unwrap();
        let config = SandboxConfig {
            cache_dir: Some(dir.path().to_owned()),
            ..SandboxConfig::new(1)
        };
        let module = wat::parse_str(r#"(module (func (export "_start")))"#).unwrap();
        let id = ContentId::of(&module);
        let sandbox = Sandbox::new(config).unwrap();
        let engine = sandbox.engine(EngineKind::Strict).unwrap();
        let compatible = compatibility(EngineKind::Strict, &engine);
        let disk = DiskCache::open(dir.path()).unwrap();
        let mut about = Vec::new();
        let inspection = gate::inspect(&module, EngineKind::Strict).unwrap();
        ciborium::into_writer(&inspection, &mut about).unwrap();
        disk.put(&id, &compatible, &about, b"not native code")
            .unwrap();
        assert!(sandbox.prepare(id, &module, Profile::Strict).is_ok());
        let (kept, code) = disk.get(&id, &compatible).unwrap();
        assert!(code.len() > 1000, "replaced");
        // What is known of a module and cannot be read is found out again.
        disk.put(&id, &compatible, b"?", &code).unwrap();
        let again = Sandbox::new(SandboxConfig {
            cache_dir: Some(dir.path().to_owned()),
            ..SandboxConfig::new(1)
        });
        let prepared = again
            .unwrap()
            .prepare(id, &module, Profile::Strict)
            .unwrap();
        assert_eq!(prepared.inspection(), &inspection);
        assert_eq!(disk.get(&id, &compatible).unwrap().0, kept);
    }
}
