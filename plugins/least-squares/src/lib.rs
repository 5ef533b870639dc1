//! Nonlinear least squares with the Levenberg-Marquardt method.
//!
//! A problem is a model such as `y = a*exp(b*x)`, data, and one or more
//! starting points. It comes as
//!
//! - a file of NIST's Statistical Reference Datasets ([`strd`]), or
//! - JSON or CBOR:
//!
//! ```json
//! {
//!   "model": "y = a*exp(b*x)",
//!   "data": {"x": [0, 1, 2], "y": [1.0, 2.7, 7.4]},
//!   "start": [{"a": 1, "b": 0.5}, {"a": 2, "b": 2}]
//! }
//! ```
//!
//! The parameters are the names in `start`, which may also be a single
//! starting point. In CBOR the columns may be typed arrays. The left side of
//! the model may be a formula of data columns, too, such as `log(y)`.
//!
//! The result is the best fit that any start leads to, with the residual sum
//! of squares as objective, and the statistics of a linearized model. It is a
//! local minimum: nothing tells whether another start would find a better one.

pub mod expression;
mod fit;
pub mod problem;
pub mod strd;

use optwasm_model::{Format, ReadError, Solution};

pub use fit::{Settings, fit};
use problem::{Problem, ProblemError};

/// Reads and fits a problem. Calls `report(starting points done, starting
/// points)` after every one of them.
///
/// # Errors
///
/// A [`ProblemError`] if `input` is not a regression problem.
pub fn solve_reporting(
    input: &[u8],
    settings: &Settings,
    mut report: impl FnMut(usize, usize),
) -> Result<Solution, ProblemError> {
    let problem = read(input)?;
    let starts = problem.starts.len();
    Ok(fit(&problem, settings, |done| report(done, starts)))
}

/// Reads and fits a problem.
///
/// # Errors
///
/// A [`ProblemError`] if `input` is not a regression problem.
pub fn solve(input: &[u8]) -> Result<Solution, ProblemError> {
    solve_reporting(input, &Settings::default(), |_, _| ())
}

/// Reads a problem in any of the formats.
///
/// # Errors
///
/// A [`ProblemError`] if `input` is not a regression problem.
pub fn read(input: &[u8]) -> Result<Problem, ProblemError> {
    /// First bytes of CBOR maps (RFC 8949, appendix B).
    const CBOR_MAPS: std::ops::RangeInclusive<u8> = 0xa0..=0xbf;
    match Format::detect(input) {
        Some(Format::Strd) => strd::read(input),
        Some(Format::Json) => Problem::from_json(input),
        _ if input.first().is_some_and(|byte| CBOR_MAPS.contains(byte)) => {
            Problem::from_cbor(input)
        }
        _ => Err(ReadError::UnknownFormat {
            expected: "a NIST StRD data set, or a problem in JSON or CBOR",
        }
        .into()),
    }
}
