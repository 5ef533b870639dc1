//! A worker: connects to a coordinator, pulls jobs, and runs them in the sandbox.
//!
//! [`executor`] owns the threads on which jobs run, one per slot. [`session`] is one connection: it
//! makes batches [`ready`] and fetches inputs, hands jobs to the executor, and reports what became of them.
//! [`worker`] is what outlives it.
//! [`leaving`] is when a worker that leaves at a set time takes no more of them.
//! [`connect`] keeps a session going across lost connections until the worker is drained. The
//! network is driven by one thread of its own, on which nothing computes.

mod blobs;
mod connect;
mod executor;
mod leaving;
mod ready;
mod session;
mod worker;

pub use blobs::BlobCache;
pub use connect::{Ended, Target, WorkerError, run};
pub use executor::Executor;
pub use leaving::whole_stay;
pub use session::Drain;
pub use worker::Worker;
