//! Finds or installs what builds guests, builds guests with it, and writes new guest projects.
//!
//! A guest is a WASI preview 1 command, so its compiler needs a standard library for the target
//! [`TARGET`]. On most machines that is `rustup target add wasm32-wasip1`; where rustup cannot,
//! [`GuestToolchain::install`] makes a private toolchain out of Debian packages, once per user.
//! [`GuestToolchain::find`] is quick, changes nothing and is what build scripts call;
//! [`GuestBuild`] runs cargo with the result.
//!
//! The host side of the project is always built by the ordinary toolchain.

mod build;
mod c;
mod cache;
mod debian;
mod error;
mod flags;
mod run;
pub mod template;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

pub use build::{GuestBuild, sources};
pub use c::CToolchain;
pub use error::ToolchainError;
pub use flags::{c_flags, flags_of_this_build, rust_flags};

/// The compiler target of guests.
pub const TARGET: &str = "wasm32-wasip1";

/// A Rust compiler that can build guests, and a C compiler where there is one.
#[derive(Debug, Clone)]
pub struct GuestToolchain {
    rustc: PathBuf,
    cargo: PathBuf,
    origin: Origin,
    c: OnceLock<Option<CToolchain>>,
}

/// Where a [`GuestToolchain`] comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Named by `OPTWASM_GUEST_RUSTC`.
    Environment,
    /// The ordinary compiler, which has the target installed.
    Ordinary,
    /// Made by [`GuestToolchain::install`] and kept in the per-user cache.
    Cache,
}

impl GuestToolchain {
    /// Finds a compiler: that which `OPTWASM_GUEST_RUSTC` names; else the ordinary `rustc`, if the
    /// target is installed there; else the newest in the per-user cache (`$OPTWASM_CACHE_DIR`,
    /// `$XDG_CACHE_HOME/optwasm` or `~/.cache/optwasm`).
    ///
    /// # Errors
    ///
    /// [`ToolchainError::NotFound`], whose text says what to run;
    /// [`ToolchainError::BadOverride`] if the compiler named cannot build guests.
    pub fn find() -> Result<Self, ToolchainError> {
        if let Some(rustc) = std::env::var_os("OPTWASM_GUEST_RUSTC").map(PathBuf::from) {
            return match has_target(&rustc) {
                true => Ok(Self::new(rustc, Origin::Environment)),
                false => Err(ToolchainError::BadOverride(rustc)),
            };
        }
        // Cargo tells build scripts which compiler it uses.
        let ordinary = std::env::var_os("RUSTC").map_or_else(|| "rustc".into(), PathBuf::from);
        if has_target(&ordinary) {
            return Ok(Self::new(ordinary, Origin::Ordinary));
        }
        let cached = cache::root()
            .ok()
            .and_then(|root| cache::newest(&root, debian::RUST_KIND));
        cached
            .map(|folder| Self::new(folder.join("bin/rustc"), Origin::Cache))
            .ok_or(ToolchainError::NotFound)
    }

    /// Finds a toolchain, or installs one: by `rustup target add`, else out of Debian packages into
    /// the per-user cache. Also gets a C compiler if it can. `progress` is told what happens in
    /// lines of text. Two processes that install at once do it once.
    ///
    /// # Errors
    ///
    /// [`ToolchainError::CannotInstall`], whose text says what to install and what was tried. That
    /// no C compiler can be had is no error: `progress` is told why, and [`GuestToolchain::c`] is
    /// `None`.
    pub fn install(progress: &mut dyn FnMut(&str)) -> Result<Self, ToolchainError> {
        let found = match Self::find() {
            Err(ToolchainError::NotFound) => Self::install_rust(progress)?,
            other => other?,
        };
        progress(&format!("guests are compiled by {}", found.rustc.display()));
        if CToolchain::find().is_none()
            && let Err(error) = cache::root().and_then(|root| debian::install_c(&root, progress))
        {
            progress(&format!(
                "no C compiler for guests, so guests in C are not built: {error}"
            ));
        }
        if let Some(c) = found.c() {
            progress(&format!(
                "guests in C are compiled by {}",
                c.clang().display()
            ));
        }
        Ok(found)
    }

    fn install_rust(progress: &mut dyn FnMut(&str)) -> Result<Self, ToolchainError> {
        progress("asking rustup for the target wasm32-wasip1");
        let by_rustup = run::output(Command::new("rustup").args(["target", "add", TARGET]))
            .and_then(|_| Self::find());
        let rustup_says = match by_rustup {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        progress("rustup cannot add it; making a toolchain out of Debian packages (once per user)");
        cache::root()
            .and_then(|root| debian::install_rust(&root, &ordinary_cargo(), progress))
            .map(|folder| Self::new(folder.join("bin/rustc"), Origin::Cache))
            .map_err(|debian_says| ToolchainError::CannotInstall {
                tried: format!("rustup: {rustup_says}; Debian packages: {debian_says}"),
            })
    }

    fn new(rustc: PathBuf, origin: Origin) -> Self {
        Self {
            rustc,
            cargo: ordinary_cargo(),
            origin,
            c: OnceLock::new(),
        }
    }

    /// The compiler. Cargo uses it where the environment variable `RUSTC` names it.
    #[must_use]
    pub fn rustc(&self) -> &Path {
        &self.rustc
    }

    /// The cargo that drives the compiler.
    #[must_use]
    pub fn cargo(&self) -> &Path {
        &self.cargo
    }

    /// Where the compiler comes from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// A C compiler for guests: from the per-user cache, `WASI_SDK_PATH`, or the PATH.
    #[must_use]
    pub fn c(&self) -> Option<&CToolchain> {
        self.c.get_or_init(CToolchain::find).as_ref()
    }
}

/// The cargo that runs this (build script, test or xtask), or that on the PATH.
fn ordinary_cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}

/// Whether `rustc` has the target's standard library.
fn has_target(rustc: &Path) -> bool {
    let query = ["--print", "target-libdir", "--target", TARGET];
    let Ok(folder) = run::output(Command::new(rustc).args(query)) else {
        return false;
    };
    std::fs::read_dir(folder.trim()).is_ok_and(|mut files| {
        files.any(|file| {
            file.is_ok_and(|file| {
                let name = file.file_name();
                let name = name.to_string_lossy();
                name.starts_with("libstd-") && name.ends_with(".rlib")
            })
        })
    })
}
