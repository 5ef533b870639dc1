//! Jobs, from an instance to a report.
//!
//! | instances | what a job begins with | what becomes of it |
//! |---|---|---|
//! | fresh | a new instance, in which `optwasm_init` is called first where the module has it | dropped |
//! | resident | a new instance of the snapshot that `optwasm_init` left | dropped |
//! | kept | the instance of the job before | kept for the next one, unless the job failed |

use std::any::Any;
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;

use optwasm_protocol::{Outcome, Report};
use wasmtime::{AsContextMut, Extern, Instance, ModuleExport, Store, TypedFunc};

use crate::classify::{classify, output};
use crate::control::Control;
use crate::job::{Job, Setup};
use crate::prepare::{Prepared, Sandbox};
use crate::state::{JobState, Watch};

/// How much fuel a guest burns between two looks for cancel and deadline. That is 0.1 ms of usual
/// code, and 100 ms where every second operator misses all caches, which is as late as a cancel may
/// come; looking takes 0.2 µs.
const SLICE: u64 = 1_000_000;

/// An instance that waits for another job.
pub struct Kept {
    store: Store<JobState>,
    run: TypedFunc<(), ()>,
    setup: Arc<Setup>,
    jobs: u32,
}

impl Sandbox {
    /// Runs one job on the calling thread, in an instance of its own.
    ///
    /// `prepared` must have been prepared by this sandbox for the profile of the job, and a
    /// snapshot for its setup.
    pub fn run(&self, prepared: &Prepared, job: Job, control: &Control) -> Report {
        reported(|| run(prepared, job, control, false).0)
    }

    /// Runs one job in the instance of `kept` where that is of the same setup and has run fewer than
    /// `most` jobs, else in a new one; leaves there the instance for the next job.
    pub fn run_kept(
        &self,
        kept: &mut Option<Kept>,
        most: NonZeroU32,
        prepared: &Prepared,
        job: Job,
        control: &Control,
    ) -> Report {
        let setup = job.setup.clone();
        let before = kept.take();
        reported(|| {
            let fits = |before: &Kept| Arc::ptr_eq(&before.setup, &setup);
            let (report, instance) = match before.filter(fits) {
                Some(before) => again(before, job, control),
                None => {
                    let (report, instance) = run(prepared, job, control, true);
                    let instance = instance.map(|(store, run)| Kept {
                        store,
                        run,
                        setup,
                        jobs: 1,
                    });
                    (report, instance)
                }
            };
            *kept = instance.filter(|instance| instance.jobs < most.get());
            report
        })
    }
}

fn reported(run: impl FnOnce() -> Report) -> Report {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(report) => report,
        Err(panic) => Report::not_run(Outcome::HostPanic(panic_message(&*panic))),
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|message| (*message).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic".to_owned())
}

/// An instance that ended a job in good order, and what to call for the next one.
type Usable = Option<(Store<JobState>, TypedFunc<(), ()>)>;

fn run(prepared: &Prepared, job: Job, control: &Control, is_kept: bool) -> (Report, Usable) {
    let inspection = prepared.inspection();
    if inspection.minimum_memory > job.limits.memory {
        let why = format!(
            "the module needs {} KiB of memory to start; the job allows {} KiB",
            inspection.minimum_memory >> 10,
            job.limits.memory >> 10
        );
        return (Report::not_run(Outcome::Rejected(why)), None);
    }
    let prepared = prepared.for_limits(&job.limits);
    let fuel = job.limits.fuel;
    let state = JobState::new(job, control.clone(), !inspection.is_sdk);
    let mut store = Store::new(prepared.pre.module().engine(), state);
    store.limiter(|state| &mut state.limiter);
    let watch = store.data().watch.clone();
    // Caught here so that what the job used until then is reported; the store is not used again.
    let result = catch_unwind(AssertUnwindSafe(|| {
        drive(start(prepared, &mut store, fuel, is_kept), &watch)
    }));
    let (report, run) = report(&mut store, result, fuel);
    (report, run.map(|run| (store, run)))
}

/// Runs a job in the instance of one before.
fn again(mut kept: Kept, job: Job, control: &Control) -> (Report, Option<Kept>) {
    let fuel = job.limits.fuel;
    kept.store.data_mut().next(job, control.clone());
    let watch = kept.store.data().watch.clone();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let go = async {
            watch.check()?;
            kept.store.set_fuel(fuel)?;
            kept.run.call_async(&mut kept.store, ()).await?;
            Ok(kept.run.clone())
        };
        drive(go, &watch)
    }));
    let (report, run) = report(&mut kept.store, result, fuel);
    kept.jobs += 1;
    (report, run.map(|_| kept))
}

/// What came of a job in `store`, and the function that ran it where the instance is as sound as
/// before.
fn report<T>(
    store: &mut Store<JobState>,
    result: thread::Result<wasmtime::Result<T>>,
    fuel: u64,
) -> (Report, Option<T>) {
    let left = store.get_fuel().unwrap_or(0);
    let state = store.data_mut();
    state.log.finish();
    let mut usable = None;
    let outcome = match result {
        Ok(Ok(run)) => {
            usable = Some(run);
            output(state)
        }
        Ok(Err(error)) => classify(&error, state),
        Err(panic) => Outcome::HostPanic(panic_message(&*panic)),
    };
    let report = Report {
        fuel: if matches!(outcome, Outcome::OutOfFuel) {
            fuel
        } else {
            fuel - left.min(fuel)
        },
        outcome,
        peak_memory: state.limiter.peak,
        wall_us: state.watch.started.elapsed().as_micros() as u64,
        worker: String::new(),
        attempt: 0,
        log: std::mem::take(&mut state.log.records),
        log_dropped: state.log.dropped,
        incumbent: state.incumbent.take(),
        memo: false,
        witnesses: Vec::new(),
    };
    (report, usable)
}

/// Runs a guest to its end, and looks for cancel and deadline whenever it pauses.
///
/// Guests pause because they have burnt a slice of their fuel. The engine's other means, epochs,
/// would cost them a second check in every loop: some ten percent in solvers.
pub(crate) fn drive<T>(
    guest: impl Future<Output = wasmtime::Result<T>>,
    watch: &Watch,
) -> wasmtime::Result<T> {
    let mut guest = pin!(guest);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match guest.as_mut().poll(&mut context) {
            Poll::Ready(result) => return result,
            Poll::Pending => watch.check()?,
        }
    }
}

/// A new instance in which the job has run, by the function that it returns.
async fn start(
    prepared: &Prepared,
    store: &mut Store<JobState>,
    fuel: u64,
    is_kept: bool,
) -> wasmtime::Result<TypedFunc<(), ()>> {
    let instance = instantiate(prepared, store, fuel)?;
    if let Some(init) = &prepared.entry.init {
        initialize(store, &instance, init).await?;
    }
    let run = function(&mut *store, &instance, prepared.main(is_kept))?;
    run.call_async(&mut *store, ()).await?;
    Ok(run)
}

/// A new instance, which may burn `fuel` less what is paid for already.
pub(crate) fn instantiate(
    prepared: &Prepared,
    store: &mut Store<JobState>,
    fuel: u64,
) -> wasmtime::Result<Instance> {
    store.data().watch.check()?;
    // Instantiating is free, since what it costs differs by operating system. The gate bounds it:
    // no module has a start section.
    store.set_fuel(u64::MAX)?;
    let instance = prepared.pre.instantiate(&mut *store)?;
    store.set_fuel(fuel.saturating_sub(prepared.spent()))?;
    store.fuel_async_yield_interval(Some(SLICE))?;
    store.data_mut().memory = prepared
        .memory
        .and_then(|memory| instance.get_module_export(&mut *store, &memory))
        .and_then(Extern::into_memory);
    Ok(instance)
}

/// Calls the module's own initialization, which sees nothing of the job.
pub(crate) async fn initialize(
    store: &mut Store<JobState>,
    instance: &Instance,
    init: &ModuleExport,
) -> wasmtime::Result<()> {
    let init = function(&mut *store, instance, init)?;
    let state = store.data_mut();
    let job = state.hide_job();
    state.watch.control.mute(true);
    init.call_async(&mut *store, ()).await?;
    let state = store.data_mut();
    state.watch.control.mute(false);
    state.show_job(job);
    Ok(())
}

fn function(
    mut store: impl AsContextMut,
    instance: &Instance,
    export: &ModuleExport,
) -> wasmtime::Result<TypedFunc<(), ()>> {
    instance
        .get_module_export(&mut store, export)
        .and_then(Extern::into_func)
        .ok_or_else(|| wasmtime::format_err!("the instance lost a function"))?
        .typed::<(), ()>(&store)
}
