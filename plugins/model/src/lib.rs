//! Optimization models, the files they are read from, and the solutions that
//! plugins return.
//!
//! This crate is the vocabulary that the solver plugins and their callers
//! share, and it contains no solver:
//!
//! - [`Model`]: a linear, mixed-integer or quadratic program;
//! - [`mps`] and [`lp`]: readers of the MPS and CPLEX LP formats, and a writer of the first;
//! - [`nl`]: AMPL's `.nl` format, whose nonlinear programs have a model of
//!   their own, and `.sol` files;
//! - [`read`]: a [`Model`] from any of the three;
//! - [`patch`]: changes to a model whose file the solver has already;
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
pub mod nl;
mod options;
pub mod patch;
mod solution;

pub use error::ReadError;
pub use format::Format;
pub use model::{Column, Entry, Model, Row, Sense};
pub use options::{OptionError, Options};
pub use patch::{Patch, PatchError};
pub use solution::{Basis, FitStatistics, Solution, SolutionError, Status};

/// Reads a linear or quadratic model in MPS, LP or `.nl` format, whichever
/// [`Format::detect`] finds.
///
/// # Errors
///
/// [`ReadError::UnknownFormat`] if `bytes` are in none of the formats,
/// [`ReadError::Class`] if they are a `.nl` file of another class, and
/// otherwise the errors of [`mps::read`], [`lp::read`] and [`nl::read`].
pub fn read(bytes: &[u8]) -> Result<Model, ReadError> {
    match Format::detect(bytes) {
        Some(Format::Mps) => mps::read(bytes),
        Some(Format::Lp) => lp::read(bytes),
        Some(Format::Nl) => {
            let model = nl::read(bytes)?;
            model.to_model().ok_or_else(|| ReadError::Class {
                class: model.class(),
            })
        }
        _ => Err(ReadError::UnknownFormat {
            expected: "MPS, CPLEX LP or AMPL .nl",
        }),
    }
}
