//! Workers on batch systems.
//!
//! A batch job is a worker that dials in, never one of the coordinator's jobs: it takes as many of those
//! as its time allows. [`scaler`] decides how many there are, [`script`] writes what a batch job runs,
//! [`system`] knows the commands, and [`run`] puts them together.

mod drive;
mod folder;
pub mod scaler;
pub mod script;
pub mod system;

pub use drive::{BatchError, Coordinator, DrainError, Settings, run};
