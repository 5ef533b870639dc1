//! Optimization models, the files they are read from, and the solutions that
//! plugins return.
//!
//! This crate is the vocabulary that the solver plugins and their callers
//! share, and it contains no solver:
//!
//! - [`Model`]: a linear, mixed-integer or quadratic program;
//! - [`mps`] and [`lp`]: readers of the MPS and CPLEX LP formats, and
//!   [`read`], which tells the two apart;
//! - [`Format`]: which file format some bytes are in;
//! - [`Options`]: the options of a solve, as the arguments of its job;
//! - [`Solution`]: what every plugin returns, and its CBOR encoding.
//!
//! The readers accept arbitrary bytes. They never panic, and the memory they
//! use is proportional to the length of the input.

mod error;
mod format;
pub mod lp;
mod model;
pub mod mps;
mod options;
mod solution;

pub use error::ReadError;
pub use format::Format;
pub use model::{Column, Entry, Model, Row, Sense};
pub use options::{OptionError, Options};
pub use solution::{Basis, FitStatistics, Solution, SolutionError, Status};

/// Reads a model in MPS or LP format, whichever [`Format::detect`] finds.
///
/// # Errors
///
/// [`ReadError::UnknownFormat`] if `bytes` are in neither format, and
/// otherwise the errors of [`mps::read`] and [`lp::read`].
pub fn read(bytes: &[u8]) -> Result<Model, ReadError> {
    match Format::detect(bytes) {
        Some(Format::Mps) => mps::read(bytes),
        Some(Format::Lp) => lp::read(bytes),
        _ => Err(ReadError::UnknownFormat {
            expected: "MPS or CPLEX LP",
        }),
    }
}
