//! Runs one job in a fresh WebAssembly sandbox.
//!
//! A module passes three stations, each once per worker, and then any number of jobs run on it:
//!
//! 1. [`gate`] looks at the bytes without compiling them: size and shape, validity under the exact
//!    features of the profile, imports, declared minima.
//! 2. [`compile`] turns them into native code, in a child process with limits of its own unless
//!    the module is trusted; [`cache`] keeps that code, for this machine only.
//! 3. [`Sandbox::prepare`] links the code with the host functions ([`host_v1`], [`host_wasi`]).
//!
//! [`Sandbox::run`] then runs one job in a new store and a new instance, under fuel, memory,
//! wall-clock and output limits, and reports how it ended. Whatever a guest does is a value of
//! [`optwasm_protocol::Outcome`]; it is never an error of this crate, a panic or a crash.
//!
//! A module may initialize itself once for many jobs: [`Sandbox::prepare_resident`] takes a snapshot
//! of its memory, and [`Sandbox::run_kept`] lets one job follow another in the same instance.
//!
//! Runs are synchronous and belong on threads of their own. Guests have stacks of their own, from
//! the engine.

pub mod cache;
mod classify;
pub mod compile;
pub mod config;
mod control;
mod ended;
pub mod engine;
pub mod gate;
mod guest_log;
mod host_v1;
mod host_wasi;
mod job;
mod limiter;
mod prepare;
mod resident;
mod run;
mod state;

pub use compile::compile_child;
pub use config::{CompileLimits, Compiler, SandboxConfig};
pub use control::Control;
pub use engine::{EngineKind, WASMTIME_VERSION};
pub use gate::Inspection;
pub use job::{Job, Setup};
pub use prepare::{PrepareError, Prepared, Sandbox, SandboxError};
pub use run::Kept;
