//! The one error type of this crate.

use std::path::PathBuf;

/// Why a toolchain could not be found or installed, a guest not built, or a project not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToolchainError {
    /// No Rust compiler for guests is on this machine; run one of the commands in the message.
    #[error(
        "no Rust compiler for {target} was found; run `cargo xtask setup` in a checkout of optwasm, \
         or `rustup target add {target}`, or let OPTWASM_GUEST_RUSTC name a rustc that has it",
        target = crate::TARGET
    )]
    NotFound,

    /// `OPTWASM_GUEST_RUSTC` names a compiler that cannot build guests; correct or unset it.
    #[error("OPTWASM_GUEST_RUSTC is {0:?}, which is no rustc with a standard library for {target}", target = crate::TARGET)]
    BadOverride(PathBuf),

    /// Neither rustup nor Debian packages gave a toolchain; the message says what each way answered.
    #[error(
        "no toolchain for {target} could be installed. Install Rust from https://rustup.rs and run \
         `rustup target add {target}`. What was tried: {tried}",
        target = crate::TARGET
    )]
    CannotInstall {
        /// What each way of installing answered.
        tried: String,
    },

    /// Neither a cache directory nor a home is known; set `OPTWASM_CACHE_DIR`.
    #[error("no cache directory: set OPTWASM_CACHE_DIR, XDG_CACHE_HOME or HOME")]
    NoCacheDir,

    /// A program could not be started; install it or put it on the PATH.
    #[error("cannot run {program}: {source}")]
    Spawn {
        /// The program.
        program: String,
        /// What the operating system answered.
        source: std::io::Error,
    },

    /// A program ended unsuccessfully; its last lines of output say why.
    #[error("{program} failed ({status}):\n{output}")]
    Failed {
        /// The program and its first arguments.
        program: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// The end of what it wrote.
        output: String,
    },

    /// A file or directory could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system answered.
        source: std::io::Error,
    },

    /// The build succeeded but made no `.wasm` file: the package has no binary, or none of that name.
    #[error("package {0} has no such binary to build for {target}", target = crate::TARGET)]
    NoBinary(String),

    /// A project cannot have this name; the message says what a name looks like.
    #[error("{name:?} cannot be the name of a project: {why}")]
    BadName {
        /// The name that was asked for.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },

    /// There is something at this place already; choose another name or remove it.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
}

impl ToolchainError {
    /// Attaches the path to an I/O error, for use with `map_err`.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
