//! What an embedder decides about its sandbox.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use optwasm_protocol::ContentId;

/// How a [`crate::Sandbox`] is set up.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// Jobs that run at once, at most.
    pub slots: u32,
    /// Where compiled modules are kept; `None` keeps them in memory only.
    pub cache_dir: Option<PathBuf>,
    /// How modules are compiled that are not in `trusted`.
    pub compiler: Compiler,
    /// Limits of one compilation.
    pub compile_limits: CompileLimits,
    /// Modules that may be compiled in this process because they came with it.
    pub trusted: HashSet<ContentId>,
}

impl SandboxConfig {
    /// Runs `slots` jobs at once; compiles in this process; keeps nothing on disk.
    pub fn new(slots: u32) -> Self {
        Self {
            slots,
            cache_dir: None,
            compiler: Compiler::InProcess,
            compile_limits: CompileLimits::default(),
            trusted: HashSet::new(),
        }
    }
}

/// How modules are compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// In this process. A module made to be slow to compile then slows or exhausts this process:
    /// only for modules that are trusted not to be.
    InProcess,
    /// In a child process that runs this program with these arguments and calls
    /// [`crate::compile_child`].
    Child {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        args: Vec<String>,
    },
}

/// What compiling one module in a child process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Processor time of all its threads together.
    pub cpu: Duration,
    /// Wall-clock time.
    pub wall: Duration,
    /// Address space in bytes.
    pub memory: u64,
}

impl Default for CompileLimits {
    /// A minute of processor time and 2 GiB: a 5 MB solver takes 5 s and 0.5 GB, and what the
    /// gate lets through never took more than 15 s.
    fn default() -> Self {
        Self {
            cpu: Duration::from_secs(60),
            wall: Duration::from_secs(120),
            memory: 2 << 30,
        }
    }
}
