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

use optwasm_model::{Model, OptionError, Options, PatchError, ReadError, Solution};

/// Whether HiGHS is part of this build.
pub const LINKED: bool = cfg!(highs);

/// What happens while HiGHS runs.
pub trait Observer {
    /// A better solution of a mixed-integer program, or a better bound for the last one. Variables
    /// that are zero are left out.
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
    /// The input is a patch, and it or its base is at fault.
    #[error(transparent)]
    Patch(#[from] PatchError),
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
    /// The solution to start from names no variable of the model; it is of another model, or in a
    /// form that is not read.
    #[error("the solution to start from names no variable of the model")]
    Start,
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

/// As [`solve_model`], from a point that is known: a file that `optwasm solve --solution` or HiGHS wrote,
/// or lines with the name of a variable and its value.
///
/// # Errors
///
/// As [`solve`].
pub fn solve_from(
    model: &Model,
    start: &str,
    options: Options,
    observer: &mut dyn Observer,
) -> Result<Solution, SolveError> {
    let start = values(model, start).ok_or(SolveError::Start)?;
    solve_model(model, Some(&start), options, observer)
}

/// The values of the columns that `text` names; zero, or the bound nearest to it, of the others.
/// `None` if it names none at all.
fn values(model: &Model, text: &str) -> Option<Vec<f64>> {
    // HiGHS's files have a heading before the columns and rows after them; ours begins with status
    // and objective.
    let is_columns = |line: &&str| line.starts_with("# Columns");
    let columns: Vec<&str> = match text.lines().skip_while(|line| !is_columns(line)).nth(1) {
        Some(_) => {
            let lines = text.lines().skip_while(|line| !is_columns(line)).skip(1);
            lines.take_while(|line| !line.starts_with('#')).collect()
        }
        None if text.starts_with("status ") => text.lines().skip(2).collect(),
        None => text.lines().collect(),
    };
    let mut given = HashMap::new();
    for line in columns {
        // In HiGHS's sparse form the column's number follows.
        let mut words = line.split_whitespace();
        if let (Some(name), Some(value)) = (words.next(), words.next())
            && let Ok(value) = value.parse::<f64>()
        {
            given.insert(name, value);
        }
    }
    let is_named = |column: &optwasm_model::Column| given.contains_key(column.name.as_str());
    if !model.columns.iter().any(is_named) {
        return None;
    }
    let columns = model.columns.iter();
    let values = columns
        .map(|column| {
            let value = given.get(column.name.as_str()).copied().unwrap_or(0.0);
            value.max(column.lower).min(column.upper)
        })
        .collect();
    Some(values)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_start_is_read_in_every_form_that_is_written() {
        let text = b"min\n x + y + objective\nst\n c: x + y >= 1\nbounds\n x <= 3\nend\n";
        let model = optwasm_model::read(text).unwrap();
        let highs = "Model status\nOptimal\n\n# Primal solution values\nFeasible\nObjective 9\n";
        for (start, expected) in [
            ("x 2\ny 1\n", Some([2.0, 1.0, 0.0])),
            ("status optimal\nobjective 7\ny 1\n", Some([0.0, 1.0, 0.0])),
            (
                &format!("{highs}# Columns 2\nx 5\ny 1\n# Rows 1\ny 8\n"),
                Some([3.0, 1.0, 0.0]),
            ),
            (
                &format!("{highs}# Columns -1\ny 1 1\n"),
                Some([0.0, 1.0, 0.0]),
            ),
            ("a 1\nb 2\n", None),
            ("", None),
            ("{\"x\": 1}", None),
        ] {
            let found = values(&model, start);
            assert_eq!(
                found.as_deref(),
                expected.as_ref().map(|e| &e[..]),
                "{start}"
            );
        }
    }

    #[test]
    #[cfg(not(highs))]
    fn without_highs_that_is_said() {
        let text = b"min\n x\nst\n c: x >= 1\nend\n";
        let answer = solve(text, Options::default(), &mut ());
        assert!(matches!(answer, Err(SolveError::Missing)));
    }
}
