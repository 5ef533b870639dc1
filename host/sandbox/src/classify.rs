//! How a job ended, from what the engine says of it.

use optwasm_protocol::{Outcome, TrapKind};
use wasmtime::{Trap, WasmBacktrace};

use crate::ended::Ended;
use crate::guest_log::harmless;
use crate::state::JobState;

/// Longest function name in a report.
const FRAME_MAX: usize = 200;

/// The outcome of a guest that came to its end.
pub(crate) fn output(state: &mut JobState) -> Outcome {
    Outcome::Ok(std::mem::take(&mut state.output).into())
}

/// The outcome of a guest that was ended.
pub(crate) fn classify(error: &wasmtime::Error, state: &mut JobState) -> Outcome {
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
