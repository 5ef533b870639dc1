//! Searches from their beginning to their end, by objectives in this process.
#![allow(clippy::unwrap_used)]

mod deterministic;
mod journal;
mod report;
mod run;
mod samplers;
mod spaces;
mod support;
