//! Reader of SMPS, the format of stochastic linear programs in three files.
//!
//! - The *core* file is an MPS file of one scenario.
//! - The *time* file says which rows and columns belong to which period: implicitly, by the first
//!   ones of each period, which requires that the core file lists them by period, or explicitly, one by one.
//! - The *stoch* file says which numbers of the core are random, and how.
//!
//! The format is that of Birge, Dempster, Gassmann, Gunn, King and Wallace, "A standard input format for
//! multiperiod stochastic linear programs", COAL Newsletter 17 (1987), with the explicit periods of
//! Gassmann and Schweitzer, "A comprehensive input format for stochastic linear programs", Annals of
//! Operations Research 104 (2001). Of the stoch file's sections these are read, each alone or with others of
//! its kind:
//!
//! - `INDEP DISCRETE`: numbers that are independent, each with a list of values and probabilities;
//! - `BLOCKS DISCRETE`: blocks of numbers; blocks are independent. A further realization of a block
//!   lists only what differs from its first one;
//! - `SCENARIOS DISCRETE`: whole scenarios, each with the one it branches from and the period in
//!   which it does; it lists only what differs from that one. Probabilities are those of whole scenarios.
//!
//! Each may carry `REPLACE` (the default), `ADD` or `MULTIPLY`. Everything else is refused by its name:
//! continuous distributions, linear transformations, `NODES`, `CHANCE` and the like. Random numbers may be
//! coefficients, costs, right-hand sides of rows without ranges, and bounds.
//!
//! Names have no blanks, and fields are separated by blanks. The nonanticipative variables are all
//! columns of all periods but the last.

mod core;
mod lines;
mod stoch;
mod time;
mod tree;

use std::io;

use crate::{Problem, ProblemError};

/// Most scenarios that a stoch file may make: the combinations of a few lines can be more than fit
/// any memory, and a hundred thousand models is more than progressive hedging is good for.
pub const MAX_SCENARIOS: usize = 100_000;

/// Most numbers (nonzeros, columns and rows) in the models of all scenarios together: some gigabytes.
pub const MAX_NUMBERS: usize = 50_000_000;

/// Reads the three files; `read` gives the bytes of each for its name.
///
/// # Errors
///
/// A [`ProblemError`] with file and line.
pub fn read_smps(
    core: &str,
    time: &str,
    stoch: &str,
    mut read: impl FnMut(&str) -> io::Result<Vec<u8>>,
) -> Result<Problem, ProblemError> {
    let mut text = |file: &str| {
        let bytes = read(file).map_err(|error| ProblemError::File {
            file: file.to_owned(),
            error,
        })?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let core = core::Core::read(core, &text(core)?)?;
    let periods = time::Periods::read(time, &text(time)?, &core)?;
    let parsed = stoch::read(stoch, &text(stoch)?, &core, &periods)?;
    tree::problem(stoch, &core, &periods, parsed)
}
