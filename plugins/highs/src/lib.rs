//! Linear, mixed-integer and convex quadratic programs with HiGHS.
//!
//! [`solve`] reads a model in MPS, CPLEX LP or AMPL `.nl` format with the readers of
//! [`optwasm_model`] and gives it to HiGHS, whose own readers are not used: so what arrives is
//! checked in Rust, and errors name the line.
//!
//! HiGHS is C++, compiled by `build.rs`. Where that had no compiler, and in native builds other
//! than benchmarks, [`solve`] answers [`SolveError::Missing`].

#[cfg(any(highs, clippy))]
mod ffi;
#[cfg(any(highs, clippy))]
mod run;
#[cfg(any(highs, clippy))]
mod solver;

use std::collections::HashMap;

use optwasm_model::{Model, OptionError, Options, ReadError, Solution};

/// Whether HiGHS is part of this build.
pub const LINKED: bool = cfg!(highs);

/// What happens while HiGHS runs.
pub trait Observer {
    /// A better solution of a mixed-integer program, or a better bound for the last one.
    fn incumbent(&mut self, _found: &Solution) {}
    /// Iterations of the simplex or interior-point method so far.
    fn progress(&mut self, _iterations: u64) {}
    /// A line of HiGHS's log; only with the option `log_to_console`.
    fn log(&mut self, _line: &str) {}
    /// Fuel used so far; counts towards the option `fuel_for_best`.
    fn fuel_used(&mut self) -> u64 {
        0
    }
}

/// For those who do not care.
impl Observer for () {}

/// Why there is no solution at all; "infeasible" is a [`Solution`], too.
#[derive(Debug, thiserror::Error)]
pub enum SolveError {
    /// The input is not a valid file; mend it at the line named.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An option is unknown or has a wrong value; mend it.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The objective is quadratic and variables are integer; HiGHS cannot have both, and no other
    /// plugin can.
    #[error("the model is a mixed-integer quadratic program, which HiGHS cannot solve")]
    IntegerQuadratic,
    /// HiGHS refuses the model's data.
    #[error("HiGHS refuses the model: {0}")]
    Refused(String),
    /// This build has no HiGHS; build it where there is a C++ compiler for wasm32-wasi.
    #[error("this build has no HiGHS")]
    Missing,
}

/// Reads and solves a model under options by HiGHS's names, and `fuel_for_best`.
///
/// # Errors
///
/// A [`SolveError`] if `input` is not a model that this plugin can solve, or an option is wrong.
pub fn solve(
    input: &[u8],
    options: Options,
    observer: &mut dyn Observer,
) -> Result<Solution, SolveError> {
    solve_model(&optwasm_model::read(input)?, None, options, observer)
}

/// As [`solve`], from a point that is known: lines with the name of a variable and its value, as
/// `optwasm solve --solution` and HiGHS write them. What else there is in `start` does not matter.
///
/// # Errors
///
/// As [`solve`].
pub fn solve_from(
    input: &[u8],
    start: &str,
    options: Options,
    observer: &mut dyn Observer,
) -> Result<Solution, SolveError> {
    let model = optwasm_model::read(input)?;
    let start = values(&model, start);
    solve_model(&model, Some(&start), options, observer)
}

/// The values of the columns that `text` names; zero, or the bound nearest to it, of the others.
fn values(model: &Model, text: &str) -> Vec<f64> {
    // Of rows of the same name, which come later in files of HiGHS, the first counts.
    let mut given = HashMap::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(value), None) = (words.next(), words.next(), words.next())
            && let Ok(value) = value.parse::<f64>()
        {
            given.entry(name).or_insert(value);
        }
    }
    let columns = model.columns.iter();
    columns
        .map(|column| {
            let value = given.get(column.name.as_str()).copied().unwrap_or(0.0);
            value.max(column.lower).min(column.upper)
        })
        .collect()
}

/// As [`solve`], for a model that has been read, and from a point if one is given.
///
/// # Errors
///
/// A [`SolveError`].
#[cfg(any(highs, clippy))]
pub fn solve_model(
    model: &Model,
    start: Option<&[f64]>,
    options: Options,
    observer: &mut dyn Observer,
) -> Result<Solution, SolveError> {
    run::run(model, start, options, observer)
}

/// As [`solve`], for a model that has been read.
///
/// # Errors
///
/// [`SolveError::Missing`].
#[cfg(not(any(highs, clippy)))]
pub fn solve_model(
    _model: &Model,
    _start: Option<&[f64]>,
    _options: Options,
    _observer: &mut dyn Observer,
) -> Result<Solution, SolveError> {
    Err(SolveError::Missing)
}
