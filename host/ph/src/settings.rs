//! How progressive hedging is done.

use crate::candidate::CandidateRule;
use crate::problem::Problem;
use crate::proximal::{Breakpoints, Proximal};
use crate::stop::StopRule;
use crate::unit::Unit;
use crate::{PhError, Rho, WarmStart};

/// Most pieces of a linearized term; more cost time and change nothing.
const MAX_PIECES: u32 = 10_000;

/// How it is done.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Penalty factors. Default 1 for all variables.
    pub rho: Rho,
    /// Form of the proximal terms.
    pub proximal: Proximal,
    /// When to stop.
    pub stop: StopRule,
    /// `Some(n)`: asynchronous, a step whenever n units are back. Default synchronous. With a small n
    /// the averages move less in a step; a unit that is much slower than the others holds up
    /// convergence.
    pub asynchronous: Option<usize>,
    /// Whether to compute Lagrangian outer bounds. Default yes.
    pub outer_bound: bool,
    /// How candidates are made; each is tried unless it is the last one of its rule again. Default
    /// closest scenario and rounding.
    pub candidates: Vec<CandidateRule>,
    /// Where to start from.
    pub warm_start: WarmStart,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            rho: Rho::fixed(1.0),
            proximal: Proximal::Auto,
            stop: StopRule::default(),
            asynchronous: None,
            outer_bound: true,
            candidates: vec![CandidateRule::ClosestScenario, CandidateRule::Rounding],
            warm_start: WarmStart::default(),
        }
    }
}

/// Checks settings against the problem, and returns the form of the proximal terms.
pub(crate) fn check(
    problem: &Problem,
    units: &[Unit<'_>],
    settings: &Settings,
) -> Result<Proximal, PhError> {
    if settings.asynchronous == Some(0) {
        return Err(PhError::Setting(
            "an asynchronous step needs at least one unit".into(),
        ));
    }
    check_warm_start(problem, units, &settings.warm_start)?;
    let integer = units.iter().find(|unit| unit.model.is_mixed_integer());
    for unit in units {
        if unit.model.is_mixed_integer() && !unit.model.quadratic.is_empty() {
            return Err(PhError::Class(unit.title()));
        }
        let is_too_large = |length: usize| u32::try_from(length).is_err();
        if is_too_large(unit.model.columns.len() + problem.variables.len()) {
            return Err(PhError::Setting(format!(
                "{} has too many columns",
                unit.title()
            )));
        }
    }
    let proximal = match (settings.proximal, integer) {
        (Proximal::Auto, None) => Proximal::Quadratic,
        (Proximal::Auto, Some(_)) => Proximal::Linearized {
            pieces: Proximal::DEFAULT_PIECES,
            breakpoints: Breakpoints::Uniform,
        },
        (other, _) => other,
    };
    let nonbinary = || {
        let slots = |unit: &'_ Unit<'_>| unit.slots.clone();
        let all = units
            .iter()
            .flat_map(move |unit| slots(unit).into_iter().map(move |s| (unit, s)));
        all.filter(|(_, slot)| !problem.variables[slot.variable].is_binary())
    };
    match proximal {
        Proximal::Quadratic => {
            if let Some((unit, slot)) = nonbinary().find(|(unit, _)| unit.model.is_mixed_integer())
            {
                return Err(PhError::IntegerQuadratic {
                    variable: problem.variable_name(slot.variable),
                    unit: unit.title(),
                });
            }
        }
        Proximal::Linearized { pieces, .. } => {
            if !(1..=MAX_PIECES).contains(&pieces) {
                let problem =
                    format!("a linearized term has 1 to {MAX_PIECES} pieces, not {pieces}");
                return Err(PhError::Setting(problem));
            }
            for (unit, slot) in nonbinary() {
                let column = &unit.model.columns[slot.column];
                if !column.lower.is_finite() || !column.upper.is_finite() {
                    return Err(PhError::Bounds(problem.variable_name(slot.variable)));
                }
            }
        }
        Proximal::Auto | Proximal::None => {}
    }
    Ok(proximal)
}

/// Those that were read from files always fit.
fn check_warm_start(
    problem: &Problem,
    units: &[Unit<'_>],
    warm: &WarmStart,
) -> Result<(), PhError> {
    let is_finite = |values: &[f64]| values.iter().all(|value| value.is_finite());
    let weights_fit = warm.weights.as_ref().is_none_or(|weights| {
        weights.len() == units.len()
            && weights
                .iter()
                .zip(units)
                .all(|(weights, unit)| weights.len() == unit.slots.len() && is_finite(weights))
    });
    let averages_fit = warm
        .averages
        .as_ref()
        .is_none_or(|averages| averages.len() == problem.variables.len() && is_finite(averages));
    if weights_fit && averages_fit {
        return Ok(());
    }
    let what = "a warm start needs one finite number for each variable of each unit";
    Err(PhError::Setting(what.into()))
}
