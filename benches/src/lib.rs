//! What the benchmarks share: [`samples`] of times and the table of [`report`] lines that each
//! benchmark ends with, and the [`processes`] that some of them measure.
//!
//! Absolute figures do not carry from one machine to another. Each benchmark therefore measures,
//! in the same run, the floor below which its figure cannot fall (an empty call, an echo, an empty
//! process), and its table shows the ratio.
//!
//! `cargo bench -p optwasm-benches` runs all of them, `--bench NAME` one.

pub mod processes;
pub mod report;
pub mod samples;
