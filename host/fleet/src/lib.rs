//! Starts workers elsewhere: over ssh, on batch systems, on this machine, under systemd and Kubernetes.
//!
//! A worker dials in to its coordinator, so all that is needed elsewhere is the one program, an address
//! and a token. This crate brings them there and looks after them:
//!
//! - [`ssh`]: on hosts of a [host file](hosts), with the user's own ssh; also on this machine, detached
//!   by the same scripts or as [`Children`].
//! - [`batch`]: as many as the queue needs, on Slurm, PBS, Grid Engine and LSF.
//! - [`systemd`] and [`kubernetes`]: texts that others start workers from.
//!
//! Decisions are pure state machines, which are told what happened and when, and say what to do: the
//! [scaler](batch::scaler) of a batch system, and the conversation with a host. Around them there is a
//! thin layer that runs programs, each with a time limit.
//!
//! # Secrets and names
//!
//! A token is a [`Secret`]. It travels on the standard input of ssh, or in a file of mode 0600; it is
//! never in arguments, an environment, a log, or a script. Names end up in shells, file names and
//! directives; each is quoted for what reads it, or refused with a [`WordError`].

pub mod batch;
mod command;
pub mod hosts;
pub mod kubernetes;
mod local;
mod program;
mod remote;
mod secret;
pub mod ssh;
pub mod systemd;
mod words;
mod worker;

pub use command::CallError;
pub use local::Children;
pub use program::Program;
pub use remote::{HostError, Running, Ssh};
pub use secret::{NotASecret, Secret};
pub use words::WordError;
pub use worker::{LABEL_FLEET, LABEL_JOB, WorkerSpec};
