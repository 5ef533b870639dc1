//! One job, from a fresh store to a report.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use optwasm_protocol::{Outcome, Report, TrapKind};
use wasmtime::{Extern, Store, Trap, UpdateDeadline, WasmBacktrace};

use crate::control::Control;
use crate::ended::Ended;
use crate::guest_log::harmless;
use crate::job::Job;
use crate::prepare::{Prepared, Sandbox};
use crate::state::JobState;

/// Longest function name in a report.
const FRAME_MAX: usize = 200;

impl Sandbox {
    /// Runs one job on the calling thread, which needs [`crate::STACK_SIZE`] of stack.
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
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|context| {
        context.data().check()?;
        Ok(UpdateDeadline::Continue(1))
    });
    // Caught here so that what the job used until then is reported; the store is not used again.
    let result = catch_unwind(AssertUnwindSafe(|| start(prepared, &mut store, fuel)));
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
        wall_us: state.started.elapsed().as_micros() as u64,
        worker: String::new(),
        attempt: 0,
        log: state.log.records,
        log_dropped: state.log.dropped,
        incumbent: state.incumbent,
        memo: false,
        witnesses: Vec::new(),
    }
}

fn start(prepared: &Prepared, store: &mut Store<JobState>, fuel: u64) -> wasmtime::Result<()> {
    store.data().check()?;
    // Instantiating is free, since what it costs differs by operating system. The gate bounds it:
    // no module has a start section.
    store.set_fuel(u64::MAX)?;
    let instance = prepared.pre.instantiate(&mut *store)?;
    store.set_fuel(fuel)?;
    store.data_mut().memory = prepared
        .memory
        .and_then(|memory| instance.get_module_export(&mut *store, &memory))
        .and_then(Extern::into_memory);
    let main = instance
        .get_module_export(&mut *store, &prepared.start)
        .and_then(Extern::into_func)
        .ok_or_else(|| wasmtime::format_err!("the instance has no `_start`"))?;
    main.typed::<(), ()>(&mut *store)?.call(&mut *store, ())
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
