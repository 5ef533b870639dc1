//! From WebAssembly to native code.
//!
//! Compiling is where a hostile module hurts most, and no engine promises otherwise. So it happens
//! in a child process that limits its own processor time and memory before it reads a byte, and
//! that is killed when it takes too long. What it returns is trusted as far as this program is:
//! the child is this program.

use std::io::{Read, Write};
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

/// Why a module was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The module does not compile within its limits. Another try ends the same way.
    #[error("{0}")]
    Refused(String),
    /// The child process could not be run. Another try may succeed.
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
    compiling_engine(kind)
        .and_then(|engine| engine.precompile_module(module))
        .map_err(|error| CompileError::Refused(format!("{error:#}")))
}

fn compile_in(
    mut command: Command,
    module: &[u8],
    kind: EngineKind,
    limits: &CompileLimits,
) -> Result<Vec<u8>, CompileError> {
    let mut child = command
        .arg(kind.name())
        .arg(limits.cpu.as_secs().max(1).to_string())
        .arg(limits.memory.to_string())
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let result = converse(&mut child, module, limits.wall);
    // Whatever went wrong above, no child stays behind; killing one that has ended does nothing.
    let _ = child.kill();
    let status = child.wait()?;
    let (artifact, message) = result?;
    if status.success() {
        return Ok(artifact);
    }
    Err(CompileError::Refused(why(status, &message, limits)))
}

/// Feeds the child and reads what it says, until it ends or `wall` has passed; then it is killed.
fn converse(
    child: &mut Child,
    module: &[u8],
    wall: Duration,
) -> Result<(Vec<u8>, String), std::io::Error> {
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
        while child.try_wait()?.is_none() {
            if Instant::now() >= deadline {
                child.kill()?;
                break;
            }
            std::thread::sleep(POLL);
        }
        let broken = |_| std::io::Error::other("a reader panicked");
        Ok((
            output.join().map_err(broken)??,
            errors.join().map_err(broken)?,
        ))
    })
}

fn why(status: ExitStatus, message: &str, limits: &CompileLimits) -> String {
    use std::os::unix::process::ExitStatusExt;
    if status.code() == Some(REFUSED.into()) {
        return format!("the module does not compile: {message}");
    }
    let seconds = limits.cpu.as_secs().max(1);
    match status.signal() {
        Some(signal) if signal == Signal::XCPU.as_raw() || signal == Signal::KILL.as_raw() => {
            format!("compiling the module takes longer than {seconds} s of processor time")
        }
        _ => format!(
            "compiling the module takes more than {} MiB of memory",
            limits.memory >> 20
        ),
    }
}

/// The main function of the child process. `args` are those after the ones that
/// [`Compiler::Child`] names: engine, seconds of processor time, bytes of memory.
pub fn compile_child(args: &[String]) -> ExitCode {
    match compile_child_inner(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(REFUSED)
        }
    }
}

fn compile_child_inner(args: &[String]) -> Result<(), String> {
    let [kind, cpu, memory] = args else {
        return Err("usage: ENGINE SECONDS BYTES, module on stdin".to_owned());
    };
    let kind = EngineKind::ALL
        .into_iter()
        .find(|candidate| candidate.name() == kind)
        .ok_or("no such engine")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
    let (cpu, memory) = (number(cpu)?, number(memory)?);
    let limit = |resource, soft: u64, hard: u64| {
        let limit = Rlimit {
            current: Some(soft),
            maximum: Some(hard),
        };
        rustix::process::setrlimit(resource, limit).map_err(|error| error.to_string())
    };
    limit(Resource::Core, 0, 0)?;
    limit(Resource::Fsize, 0, 0)?;
    limit(Resource::Cpu, cpu, cpu + 1)?;
    limit(Resource::As, memory, memory)?;
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| error.to_string())?;

    let mut module = Vec::new();
    let mut stdin = std::io::stdin().lock().take(crate::gate::MODULE_MAX as u64 + 1);
    stdin.read_to_end(&mut module).map_err(|e| e.to_string())?;
    let artifact = compile_here(&module, kind).map_err(|error| error.to_string())?;
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&artifact).map_err(|e| e.to_string())?;
    stdout.flush().map_err(|e| e.to_string())
}
