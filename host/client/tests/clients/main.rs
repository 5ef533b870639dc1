//! Clients of coordinators and workers in this process.
#![cfg(feature = "local")]
// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

mod local_and_remote;
mod pool;
mod service;
