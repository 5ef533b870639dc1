//! What a solver is asked, and how its answer is judged.

use optwasm_model::{Model, Patch, Solution, Status};

use crate::PhError;
use crate::problem::Problem;
use crate::proximal::{self, Point, Proximal};
use crate::unit::{Slot, Unit};

/// What a subproblem is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The step of progressive hedging: weights and proximal terms.
    Iterate,
    /// Weights alone: its part of the Lagrangian outer bound.
    Bound,
    /// The variables of the tree fixed at a candidate: its part of an incumbent's objective.
    Candidate,
}

/// What a solver must be able to solve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// A linear program.
    Linear,
    /// A mixed-integer linear program.
    MixedInteger,
    /// A convex quadratic program.
    Quadratic,
}

impl Class {
    /// The class of a model whose objective is convex.
    pub fn of(model: &Model) -> Self {
        if !model.quadratic.is_empty() {
            Class::Quadratic
        } else if model.is_mixed_integer() {
            Class::MixedInteger
        } else {
            Class::Linear
        }
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Class::Linear => "linear",
            Class::MixedInteger => "mixed-integer",
            Class::Quadratic => "quadratic",
        })
    }
}

/// A model to be solved.
#[derive(Debug, Clone, PartialEq)]
pub struct Subproblem {
    /// Its answer comes under this number; none is given twice.
    pub id: u64,
    /// What it is for.
    pub kind: Kind,
    /// Whose it is, as an index into [`Ph::units`](crate::Ph::units).
    pub unit: usize,
    /// What kind of program it is.
    pub class: Class,
    /// What differs from the unit's model; its base is the unit's [`Base`](crate::Base).
    pub patch: Patch,
}

/// The answer to a [`Subproblem`]. Of a job that failed outright it is a solution without values, of
/// status [`Status::Unknown`] and with a message: where the method cannot go on without it, that
/// becomes an error that names the scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Solved {
    /// The subproblem's number.
    pub id: u64,
    /// What the solver found.
    pub solution: Solution,
}

/// All that subproblems of one moment have in common.
pub(crate) struct Terms<'a> {
    pub problem: &'a Problem,
    pub proximal: Proximal,
    pub rho: &'a [f64],
    pub averages: &'a [f64],
    pub least: &'a [f64],
    pub greatest: &'a [f64],
    /// 1 where the objective is minimized, −1 where it is maximized.
    pub sign: f64,
}

impl Terms<'_> {
    /// Adds the weights' terms w·x.
    pub fn add_weights(&self, patch: &mut Patch, unit: &Unit<'_>, weights: &[f64]) {
        for (slot, weight) in unit.slots.iter().zip(weights) {
            let cost = self.sign * unit.share(slot) * weight;
            if cost != 0.0 {
                patch.add_costs.push((slot.column as u32, cost));
            }
        }
    }

    /// Adds the proximal terms.
    pub fn add_proximal(&self, patch: &mut Patch, unit: &Unit<'_>) -> Result<(), PhError> {
        for slot in &unit.slots {
            let column = &unit.model.columns[slot.column];
            let point = Point {
                rho: self.rho[slot.variable],
                average: self.averages[slot.variable],
                least: self.least[slot.variable],
                greatest: self.greatest[slot.variable],
            };
            proximal::add(
                patch,
                self.proximal,
                slot.column,
                &self.problem.variables[slot.variable],
                (column.lower, column.upper),
                point,
                self.sign * unit.share(slot),
            )?;
        }
        Ok(())
    }
}

/// Fixes the variables of the tree.
pub(crate) fn fix(patch: &mut Patch, unit: &Unit<'_>, candidate: &[f64]) {
    for slot in &unit.slots {
        let value = candidate[slot.variable];
        patch.bounds.push((slot.column as u32, value, value));
    }
}

pub(crate) fn class(unit: &Unit<'_>, patch: &Patch) -> Class {
    if patch.add_quadratic.is_empty() {
        Class::of(&unit.model)
    } else {
        Class::Quadratic
    }
}

/// What points may miss bounds and rows by, relative to their largest value: ten times what solvers
/// tolerate by default.
const TOLERANCE: f64 = 1e-5;

/// The point of an answer, if it is one to go on with: an optimum, or one that is feasible although the
/// solver stopped early.
pub(crate) fn point(unit: &Unit<'_>, solution: &Solution) -> Result<Vec<f64>, PhError> {
    let failed = || PhError::Failed {
        unit: unit.title(),
        status: solution.status,
        message: solution.message.clone(),
    };
    let expected = unit.model.columns.len();
    // Columns that the patch has added come after the unit's own.
    let own = |values: &[f64]| {
        let values = values.get(..expected).unwrap_or(values);
        let found = values.iter().filter(|x| x.is_finite()).count();
        if found == expected {
            return Ok(values.to_vec());
        }
        Err(PhError::Values {
            unit: unit.title(),
            expected,
            found,
        })
    };
    match solution.status {
        Status::Optimal | Status::OptimalInaccurate => own(&solution.values),
        Status::Infeasible => Err(PhError::Infeasible(unit.title())),
        Status::Unbounded => Err(PhError::Unbounded(unit.title())),
        Status::Feasible | Status::IterationLimit | Status::TimeLimit | Status::FuelLimit => {
            let mut solution = solution.clone();
            // What a solver publishes while it runs may leave out zeros.
            if solution.variables.len() == solution.values.len() {
                solution.expand(unit.model.columns.iter().map(|column| &*column.name));
            }
            if solution.values.is_empty() {
                return Err(failed());
            }
            let values = own(&solution.values)?;
            let largest = values.iter().fold(1.0, |m: f64, x| m.max(x.abs()));
            if unit.model.violation(&values) <= TOLERANCE * largest {
                Ok(values)
            } else {
                Err(failed())
            }
        }
        _ => Err(failed()),
    }
}

/// The objective and the point of an answer to a candidate, if it keeps the variables where they were
/// fixed.
pub(crate) fn completion(
    unit: &Unit<'_>,
    solution: &Solution,
    candidate: &[f64],
) -> Result<(f64, Vec<f64>), PhError> {
    let values = point(unit, solution)?;
    let is_kept = |slot: &&Slot| {
        let expected = candidate[slot.variable];
        (values[slot.column] - expected).abs() <= TOLERANCE * expected.abs().max(1.0)
    };
    let kept = unit.slots.iter().filter(is_kept).count();
    if kept == unit.slots.len() {
        return Ok((unit.model.objective_at(&values), values));
    }
    Err(PhError::Values {
        unit: unit.title(),
        expected: unit.slots.len(),
        found: kept,
    })
}

/// What an answer proves of the optimum of its subproblem.
pub(crate) fn proved(unit: &Unit<'_>, solution: &Solution) -> Option<f64> {
    let is_exact = solution.status == Status::Optimal && !unit.model.is_mixed_integer();
    let bound = match solution.bound {
        Some(bound) => Some(bound),
        // Of a linear program, by duality; of a mixed-integer one only what the solver says.
        None if is_exact => solution.objective,
        None => None,
    };
    bound.filter(|bound| bound.is_finite())
}
