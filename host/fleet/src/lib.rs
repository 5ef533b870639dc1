//! Starts workers elsewhere.

pub mod batch;
mod command;
pub mod hosts;
mod local;
mod program;
mod remote;
mod secret;
pub mod ssh;
mod words;
mod worker;

pub use command::CallError;
pub use local::Children;
pub use program::Program;
pub use remote::{HostError, Running, Ssh};
pub use secret::{NotASecret, Secret};
pub use words::WordError;
pub use worker::{LABEL_FLEET, LABEL_JOB, WorkerSpec};
