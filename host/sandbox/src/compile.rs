//! From WebAssembly to native code.
//!
//! Compiling is where a hostile module hurts most, and no engine promises otherwise. So it happens
//! in a child process that limits its own processor time and memory before it reads a byte, and
//! that is killed when it takes too long. What it returns is trusted as far as this program is:
//! the child is this program.
//!
//! How the child ends says whose fault it was: running into a limit, or crashing the compiler, is
//! the module's, and every worker would see it; anything else is this machine's.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal};

use crate::config::{CompileLimits, Compiler};
use crate::engine::{EngineKind, compiling_engine};

/// Largest native code of one module that is taken from the child: code is about three times the
/// WebAssembly.
const ARTIFACT_MAX: u64 = 1 << 30;
/// Longest error message that is taken from the child.
const MESSAGE_MAX: u64 = 4096;
/// How often the child is looked after.
const POLL: Duration = Duration::from_millis(2);
/// Exit code of a child whose module does not compile.
const REFUSED: u8 = 3;
/// Exit code of a process that panicked.
const PANICKED: i32 = 101;
/// Threads of the child: each takes address space, of which a machine with many processors must
/// not use up the limit.
const THREADS_MAX: usize = 8;

/// Why a module was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The module does not compile within its limits. Another try ends the same way.
    #[error("{0}")]
    Refused(String),
    /// The child process could not be run, or somebody ended it. Another try may succeed.
    #[error("cannot run the compiler: {0}")]
    Child(#[from] std::io::Error),
}

/// Compiles `module`, which has passed the gate, to native code of this machine.
///
/// # Errors
///
/// [`CompileError`].
pub fn compile(
    module: &[u8],
    kind: EngineKind,
    compiler: &Compiler,
    limits: &CompileLimits,
) -> Result<Vec<u8>, CompileError> {
    match compiler {
        Compiler::InProcess => compile_here(module, kind),
        Compiler::Child { program, args } => {
            let mut command = Command::new(program);
            command.args(args);
            compile_in(command, module, kind, limits)
        }
    }
}

fn compile_here(module: &[u8], kind: EngineKind) -> Result<Vec<u8>, CompileError> {
    let compile = || compiling_engine(kind).and_then(|engine| engine.precompile_module(module));
    match catch_unwind(AssertUnwindSafe(compile)) {
        Ok(Ok(artifact)) => Ok(artifact),
        Ok(Err(error)) => Err(CompileError::Refused(format!("{error:#}"))),
        Err(_) => Err(CompileError::Refused(CRASHED.to_owned())),
    }
}

const CRASHED: &str = "the module crashes the compiler";

/// What a child left behind.
struct Ending {
    artifact: Vec<u8>,
    message: String,
    status: ExitStatus,
    /// Whether it was killed because it took too long.
    late: bool,
}

fn compile_in(
    mut command: Command,
    module: &[u8],
    kind: EngineKind,
    limits: &CompileLimits,
) -> Result<Vec<u8>, CompileError> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(THREADS_MAX));
    let child = command
        .arg(kind.name())
        .arg(limits.cpu.as_secs().max(1).to_string())
        .arg(limits.memory.to_string())
        .env_clear()
        .env("RAYON_NUM_THREADS", threads.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let ending = converse(child, module, limits.wall)?;
    if ending.status.success() {
        return Ok(ending.artifact);
    }
    Err(ending.fault(limits))
}

/// Feeds the child and reads what it says, until it ends or `wall` has passed; then it is killed.
fn converse(mut child: Child, module: &[u8], wall: Duration) -> std::io::Result<Ending> {
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(std::io::Error::other("the child has no pipes"));
    };
    std::thread::scope(|scope| {
        // A child that dies early closes its end; its status says why.
        scope.spawn(move || drop(stdin.write_all(module)));
        let output = scope.spawn(move || {
            let mut artifact = Vec::new();
            let read = stdout.take(ARTIFACT_MAX).read_to_end(&mut artifact);
            read.map(|_| artifact)
        });
        let errors = scope.spawn(move || {
            let mut message = Vec::new();
            let _ = stderr.take(MESSAGE_MAX).read_to_end(&mut message);
            String::from_utf8_lossy(&message).trim().to_owned()
        });
        let deadline = Instant::now() + wall;
        let mut late = false;
        while !late && matches!(child.try_wait(), Ok(None)) {
            late = Instant::now() >= deadline;
            std::thread::sleep(POLL);
        }
        // Whatever happened, no child stays behind; killing one that has ended does nothing.
        let _ = child.kill();
        let status = child.wait()?;
        let broken = |_| std::io::Error::other("a reader panicked");
        Ok(Ending {
            artifact: output.join().map_err(broken)??,
            message: errors.join().map_err(broken)?,
            status,
            late,
        })
    })
}

impl Ending {
    /// What went wrong, and whose fault it was.
    fn fault(&self, limits: &CompileLimits) -> CompileError {
        let message = &self.message;
        let is = |signal: Signal| self.status.signal() == Some(signal.as_raw());
        CompileError::Refused(if self.late {
            format!("compiling the module takes longer than {:?}", limits.wall)
        } else if is(Signal::XCPU) {
            let seconds = limits.cpu.as_secs().max(1);
            format!("compiling the module takes longer than {seconds} s of processor time")
        } else if is(Signal::ABORT) && message.contains("memory allocation") {
            let size = limits.memory >> 20;
            format!("compiling the module takes more than {size} MiB of memory")
        } else if self.status.code() == Some(REFUSED.into()) {
            format!("the module does not compile: {message}")
        } else if is(Signal::ABORT)
            || is(Signal::SEGV)
            || is(Signal::BUS)
            || is(Signal::ILL)
            || is(Signal::FPE)
            || self.status.code() == Some(PANICKED)
        {
            CRASHED.to_owned()
        } else {
            let status = self.status;
            return std::io::Error::other(format!("it ended with {status}: {message}")).into();
        })
    }
}

/// The main function of the child process. `args` are those after the ones that
/// [`Compiler::Child`] names: engine, seconds of processor time, bytes of memory.
pub fn compile_child(args: &[String]) -> ExitCode {
    let compiled = prepare_child(args).and_then(|(module, kind)| {
        let compiled = compile_here(&module, kind);
        compiled.map_err(|error| (REFUSED, error.to_string()))
    });
    let written = compiled.and_then(|artifact| {
        let mut stdout = std::io::stdout().lock();
        let written = stdout.write_all(&artifact).and_then(|()| stdout.flush());
        written.map_err(|error| (1, error.to_string()))
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            eprintln!("{message}");
            ExitCode::from(code)
        }
    }
}

/// Limits this process and reads the module; else the exit code and why.
fn prepare_child(args: &[String]) -> Result<(Vec<u8>, EngineKind), (u8, String)> {
    let failed = |error: &dyn std::fmt::Display| (1, error.to_string());
    let [kind, cpu, memory] = args else {
        return Err(failed(&"usage: ENGINE SECONDS BYTES, module on stdin"));
    };
    let kind = EngineKind::ALL
        .into_iter()
        .find(|candidate| candidate.name() == kind)
        .ok_or_else(|| failed(&"no such engine"))?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| failed(&error));
    let (cpu, memory) = (number(cpu)?, number(memory)?);
    let limit = |resource, soft: u64, hard: u64| {
        let limit = Rlimit {
            current: Some(soft),
            maximum: Some(hard),
        };
        rustix::process::setrlimit(resource, limit).map_err(|error| failed(&error))
    };
    limit(Resource::Core, 0, 0)?;
    limit(Resource::Fsize, 0, 0)?;
    limit(Resource::Cpu, cpu, cpu + 1)?;
    limit(Resource::As, memory, memory)?;
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| failed(&error))?;

    let mut module = Vec::new();
    let stdin = std::io::stdin().lock();
    stdin
        .take(crate::gate::MODULE_MAX as u64 + 1)
        .read_to_end(&mut module)
        .map_err(|error| failed(&error))?;
    Ok((module, kind))
}
