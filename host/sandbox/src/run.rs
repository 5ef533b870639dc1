//! One job, from a fresh store to a report.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use optwasm_protocol::{Outcome, Report, TrapKind};
use wasmtime::{Extern, Store, Trap, WasmBacktrace};

use crate::control::Control;
use crate::ended::Ended;
use crate::guest_log::harmless;
use crate::job::Job;
use crate::prepare::{Prepared, Sandbox};
use crate::state::{JobState, Watch};

/// Longest function name in a report.
const FRAME_MAX: usize = 200;

/// How much fuel a guest burns between two looks for cancel and deadline. That is 0.1 ms of usual
/// code, and 100 ms where every second operator misses all caches, which is as late as a cancel may
/// come; looking takes 0.2 µs.
const SLICE: u64 = 1_000_000;

impl Sandbox {
    /// Runs one job on the calling thread.
    ///
    /// `prepared` must have been prepared by this sandbox for the profile of the job.
    pub fn run(&self, prepared: &Prepared, job: Job, control: &Control) -> Report {
        match catch_unwind(AssertUnwindSafe(|| run(prepared, job, control))) {
            Ok(report) => report,
            Err(panic) => Report::not_run(Outcome::HostPanic(panic_message(&*panic))),
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|message| (*message).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic".to_owned())
}

fn run(prepared: &Prepared, job: Job, control: &Control) -> Report {
    let inspection = prepared.inspection();
    if inspection.minimum_memory > job.limits.memory {
        return Report::not_run(Outcome::Rejected(format!(
            "the module needs {} KiB of memory to start; the job allows {} KiB",
            inspection.minimum_memory >> 10,
            job.limits.memory >> 10
        )));
    }
    let fuel = job.limits.fuel;
    let state = JobState::new(job, control.clone(), !inspection.is_sdk);
    let mut store = Store::new(prepared.pre.module().engine(), state);
    store.limiter(|state| &mut state.limiter);
    let watch = store.data().watch.clone();
    // Caught here so that what the job used until then is reported; the store is not used again.
    let result = catch_unwind(AssertUnwindSafe(|| {
        drive(start(prepared, &mut store, fuel), &watch)
    }));
    let left = store.get_fuel().unwrap_or(0);

    let mut state = store.into_data();
    state.log.finish();
    let outcome = match result {
        Ok(Ok(())) => output(&mut state),
        Ok(Err(error)) => classify(&error, &mut state),
        Err(panic) => Outcome::HostPanic(panic_message(&*panic)),
    };
    Report {
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
        log: state.log.records,
        log_dropped: state.log.dropped,
        incumbent: state.incumbent,
        memo: false,
        witnesses: Vec::new(),
    }
}

/// Runs a guest to its end, and looks for cancel and deadline whenever it pauses.
///
/// Guests pause because they have burnt a slice of their fuel. The engine's other means, epochs,
/// would cost them a second check in every loop: some ten percent in solvers.
fn drive(guest: impl Future<Output = wasmtime::Result<()>>, watch: &Watch) -> wasmtime::Result<()> {
    let mut guest = pin!(guest);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match guest.as_mut().poll(&mut context) {
            Poll::Ready(result) => return result,
            Poll::Pending => watch.check()?,
        }
    }
}

async fn start(
    prepared: &Prepared,
    store: &mut Store<JobState>,
    fuel: u64,
) -> wasmtime::Result<()> {
    store.data().watch.check()?;
    // Instantiating is free, since what it costs differs by operating system. The gate bounds it:
    // no module has a start section.
    store.set_fuel(u64::MAX)?;
    let instance = prepared.pre.instantiate(&mut *store)?;
    store.set_fuel(fuel)?;
    store.fuel_async_yield_interval(Some(SLICE))?;
    store.data_mut().memory = prepared
        .memory
        .and_then(|memory| instance.get_module_export(&mut *store, &memory))
        .and_then(Extern::into_memory);
    let main = instance
        .get_module_export(&mut *store, &prepared.start)
        .and_then(Extern::into_func)
        .ok_or_else(|| wasmtime::format_err!("the instance has no `_start`"))?;
    let main = main.typed::<(), ()>(&mut *store)?;
    main.call_async(&mut *store, ()).await
}

fn output(state: &mut JobState) -> Outcome {
    Outcome::Ok(std::mem::take(&mut state.output).into())
}

fn classify(error: &wasmtime::Error, state: &mut JobState) -> Outcome {
    let outcome = if let Some(ended) = error.downcast_ref::<Ended>() {
        from_ended(ended, error, state)
    } else if let Some(trap) = error.downcast_ref::<Trap>() {
        from_trap(*trap, error)
    } else if error.is::<wasmtime::ThrownException>() {
        trap(TrapKind::Exception, error)
    } else if state.limiter.denied {
        // No room for what the engine itself keeps for the guest, such as its exceptions.
        Outcome::MemoryLimit
    } else {
        // Neither the guest's doing nor a trap: the machine did not give what an instance needs.
        Outcome::HostOutOfMemory(format!("{error:#}"))
    };
    let failed = matches!(outcome, Outcome::Panic { .. } | Outcome::Trap { .. })
        || matches!(error.downcast_ref::<Ended>(), Some(Ended::Exit(_))) && !outcome.is_ok();
    if failed && state.limiter.denied {
        return Outcome::MemoryLimit;
    }
    outcome
}

fn from_ended(ended: &Ended, error: &wasmtime::Error, state: &mut JobState) -> Outcome {
    match ended {
        Ended::Exit(0) => output(state),
        Ended::Exit(code) => {
            let tail = state.log.stderr_tail();
            Outcome::GuestError {
                code: *code,
                message: if tail.is_empty() {
                    format!("exit code {code}")
                } else {
                    tail
                },
                chain: Vec::new(),
            }
        }
        Ended::Fail {
            code,
            message,
            chain,
        } => Outcome::GuestError {
            code: *code,
            message: message.clone(),
            chain: chain.clone(),
        },
        Ended::Panic {
            message,
            file,
            line,
            column,
        } => Outcome::Panic {
            message: message.clone(),
            file: file.clone(),
            line: *line,
            column: *column,
            frames: frames(error),
        },
        Ended::BadPointer => trap(TrapKind::BadPointer, error),
        Ended::BadHandle => trap(TrapKind::BadHandle, error),
        Ended::OutOfFuel => Outcome::OutOfFuel,
        Ended::OutputTooLarge => Outcome::OutputTooLarge,
        Ended::Deadline => Outcome::Deadline,
        Ended::Cancelled => Outcome::Cancelled,
        Ended::HostOutOfMemory(why) => Outcome::HostOutOfMemory(why.clone()),
    }
}

fn from_trap(kind: Trap, error: &wasmtime::Error) -> Outcome {
    let kind = match kind {
        Trap::OutOfFuel => return Outcome::OutOfFuel,
        Trap::StackOverflow => return Outcome::StackOverflow,
        Trap::UnreachableCodeReached => TrapKind::Unreachable,
        Trap::MemoryOutOfBounds => TrapKind::MemoryOutOfBounds,
        Trap::TableOutOfBounds => TrapKind::TableOutOfBounds,
        Trap::IndirectCallToNull | Trap::NullReference => TrapKind::NullReference,
        Trap::BadSignature => TrapKind::BadSignature,
        Trap::IntegerOverflow => TrapKind::IntegerOverflow,
        Trap::IntegerDivisionByZero => TrapKind::DivisionByZero,
        Trap::BadConversionToInteger => TrapKind::BadConversion,
        _ => TrapKind::Other,
    };
    trap(kind, error)
}

fn trap(kind: TrapKind, error: &wasmtime::Error) -> Outcome {
    Outcome::Trap {
        kind,
        frames: frames(error),
    }
}

/// The guest's functions at the end, innermost first, by the names that their author gave them.
fn frames(error: &wasmtime::Error) -> Vec<String> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return Vec::new();
    };
    let name = |frame: &wasmtime::FrameInfo| match frame.func_name() {
        Some(name) => {
            let name = format!("{:#}", rustc_demangle::demangle(name));
            harmless(&name.chars().take(FRAME_MAX).collect::<String>())
        }
        None => format!("function {}", frame.func_index()),
    };
    backtrace.frames().iter().map(name).collect()
}
