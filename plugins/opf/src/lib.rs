//! Optimal power flow of MATPOWER case files.
//!
//! [`solve`] finds the cheapest dispatch of a network's generators that
//! serves all loads within the limits of voltages, generators and branches, in
//! one of three [`Formulation`]s:
//!
//! | formulation | what | solver |
//! |---|---|---|
//! | `ac` | the AC power flow equations in polar coordinates; a local optimum | pounce |
//! | `soc` | their second-order cone relaxation; a lower bound | Clarabel |
//! | `dc` | the linear DC approximation | Clarabel |
//!
//! The formulations are those of PowerModels (Coffrin et al., *PowerModels.jl:
//! An Open-Source Framework for Exploring Power Flow Formulations*, PSCC
//! 2018), with which the published results of the PGLib-OPF cases were found.
//!
//! A case file is read by [`matpower`] into a [`Network`], of which each
//! formulation makes its program.

mod ac;
mod dc;
mod matfile;
pub mod matpower;
mod network;
mod point;
mod program;
mod soc;

use optwasm_model::{Format, OptionError, Options, ReadError, Solution, Status};

pub use network::{Bounds, Branch, Bus, Cost, Flow, Flows, Generator, Network};

/// Why there is no solution at all; "infeasible" is a [`Solution`], too.
#[derive(Debug, thiserror::Error)]
pub enum SolveError {
    /// The input is not a valid file; mend it at the line named.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An option is unknown or has a value that it does not take; the plugin's
    /// manifest lists them.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// A cost is not convex, so that the program would not be either; give the
    /// generator another cost, or solve polynomial costs with formulation `ac`.
    #[error("line {line}: the cost of generator {generator} is not convex")]
    NotConvex {
        /// Where the cost is.
        line: usize,
        /// The generator's row, from 1.
        generator: usize,
    },
    /// The solver of conic programs refuses the problem's data.
    #[error(transparent)]
    Conic(#[from] optwasm_plugin_conic::SolveError),
    /// The solver of nonlinear programs refuses the problem's data.
    #[error(transparent)]
    Nonlinear(#[from] optwasm_plugin_nlp::SolveError),
}

/// The relaxation's optimum lies on the border of most of its cones, where
/// the solver's steps come to nothing at gaps of some 1e-8.
const SOC_FACTOR: f64 = 10.0;

/// How the power flow is described.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Formulation {
    /// The AC power flow equations.
    Ac,
    /// Their second-order cone relaxation.
    Soc,
    /// The DC approximation.
    Dc,
}

/// What a caller may choose.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// The formulation; by default AC.
    pub formulation: Formulation,
    /// All loads are multiplied by this; default 1.
    pub load_scale: f64,
    /// Relative tolerance, of SOC ten times as large; default 1e-8.
    pub tolerance: f64,
}

impl Settings {
    /// Takes the options of the manifest.
    ///
    /// # Errors
    ///
    /// An [`OptionError`] if there is any other option, or a wrong value.
    pub fn take(mut options: Options) -> Result<Self, OptionError> {
        // Far beyond any use; it keeps the program's numbers finite.
        const LARGEST_SCALE: f64 = 1e6;
        // Rounding keeps the solver from meeting less.
        const SMALLEST_TOLERANCE: f64 = 1e-12;
        let formulations = [
            ("ac", Formulation::Ac),
            ("soc", Formulation::Soc),
            ("dc", Formulation::Dc),
        ];
        let settings = Settings {
            formulation: options.choice("formulation", &formulations, Formulation::Ac)?,
            load_scale: options.number("load_scale", 0.0..=LARGEST_SCALE, 1.0)?,
            tolerance: options.number("tol", SMALLEST_TOLERANCE..=1e-4, 1e-8)?,
        };
        options.finish()?;
        Ok(settings)
    }
}

/// Reads and solves a case. The options are those of the manifest.
///
/// # Errors
///
/// A [`SolveError`] if `input` is not a case that this plugin can solve, or an
/// option is wrong.
pub fn solve(input: &[u8], options: Options) -> Result<Solution, SolveError> {
    let settings = Settings::take(options)?;
    if Format::detect(input) != Some(Format::Matpower) {
        return Err(ReadError::UnknownFormat {
            expected: "a MATPOWER case file",
        }
        .into());
    }
    solve_network(matpower::read(input)?, &settings)
}

/// Solves the optimal power flow of a network.
///
/// # Errors
///
/// A [`SolveError`] other than [`SolveError::Read`].
pub fn solve_network(mut network: Network, settings: &Settings) -> Result<Solution, SolveError> {
    network.scale_loads(settings.load_scale);
    if let Some(message) = network.contradiction() {
        let mut solution = Solution::without_values(Status::Infeasible, "comparison of bounds");
        solution.message = Some(message);
        return Ok(solution);
    }
    match settings.formulation {
        Formulation::Dc => dc::solve(&network, settings.tolerance),
        Formulation::Soc => soc::solve(&network, SOC_FACTOR * settings.tolerance),
        Formulation::Ac => solve_ac(&network, settings.tolerance),
    }
}

/// The AC formulation. That its solver finds no feasible point is no proof,
/// unless the relaxation has none either.
fn solve_ac(network: &Network, tolerance: f64) -> Result<Solution, SolveError> {
    let mut solution = ac::solve(network, tolerance)?;
    if solution.status == Status::Infeasible {
        let relaxed = soc::solve(network, SOC_FACTOR * tolerance);
        if relaxed.is_ok_and(|relaxed| relaxed.status == Status::Infeasible) {
            let proof = "proved: the second-order cone relaxation is infeasible, too";
            solution.message = Some(proof.into());
        }
    }
    Ok(solution)
}
