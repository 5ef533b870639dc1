//! Candidates: values for all variables of the tree that might be good, made from those of the scenarios.
//!
//! A candidate is tried by fixing the variables in every scenario; if all can be completed, their
//! expected objective is that of a feasible point of the whole program: an incumbent.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::problem::Problem;
use crate::unit::Unit;

/// How a candidate is made. All of them put values into the variable's bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CandidateRule {
    /// At each node the values of the scenario or bundle that is nearest to the averages: by
    /// Σ |x − x̄| / max(1, |x̄|) over the node's variables.
    ClosestScenario,
    /// The averages; those of integer variables are rounded.
    Rounding,
    /// The averages; integer variables get the value for which most probability votes, the smaller one
    /// if two get the same.
    Voting,
}

/// The candidate of one rule.
pub(crate) fn candidate(
    rule: CandidateRule,
    problem: &Problem,
    units: &[Unit<'_>],
    values: &[Vec<f64>],
    averages: &[f64],
) -> Vec<f64> {
    let mut candidate = match rule {
        CandidateRule::ClosestScenario => closest(problem, units, values, averages),
        CandidateRule::Rounding => averages.to_vec(),
        CandidateRule::Voting => vote(problem, units, values, averages),
    };
    for (value, variable) in candidate.iter_mut().zip(&problem.variables) {
        if variable.integer {
            *value = value.round();
        }
        *value = value.max(variable.lower).min(variable.upper);
    }
    candidate
}

fn closest(
    problem: &Problem,
    units: &[Unit<'_>],
    values: &[Vec<f64>],
    averages: &[f64],
) -> Vec<f64> {
    // The least distance for each node so far, and whose it is.
    let mut best = vec![(f64::INFINITY, 0); problem.nodes.len()];
    for (index, (unit, values)) in units.iter().zip(values).enumerate() {
        let mut distances: BTreeMap<usize, f64> = BTreeMap::new();
        for (slot, x) in unit.slots.iter().zip(values) {
            let average = averages[slot.variable];
            let distance = (x - average).abs() / average.abs().max(1.0);
            let node = problem.variables[slot.variable].node;
            *distances.entry(node).or_insert(0.0) += distance;
        }
        for (node, distance) in distances {
            if distance < best[node].0 {
                best[node] = (distance, index);
            }
        }
    }
    let mut candidate = averages.to_vec();
    for (index, (unit, values)) in units.iter().zip(values).enumerate() {
        for (slot, x) in unit.slots.iter().zip(values) {
            if best[problem.variables[slot.variable].node].1 == index {
                candidate[slot.variable] = *x;
            }
        }
    }
    candidate
}

fn vote(problem: &Problem, units: &[Unit<'_>], values: &[Vec<f64>], averages: &[f64]) -> Vec<f64> {
    let mut ballots: Vec<Vec<(f64, f64)>> = vec![Vec::new(); averages.len()];
    for (unit, values) in units.iter().zip(values) {
        for (slot, x) in unit.slots.iter().zip(values) {
            if problem.variables[slot.variable].integer {
                ballots[slot.variable].push((x.round(), slot.weight));
            }
        }
    }
    let mut candidate = averages.to_vec();
    for (value, mut ballots) in candidate.iter_mut().zip(ballots) {
        ballots.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut most = 0.0;
        for same in ballots.chunk_by(|a, b| a.0 == b.0) {
            let votes: f64 = same.iter().map(|(_, weight)| weight).sum();
            if votes > most {
                (most, *value) = (votes, same[0].0);
            }
        }
    }
    candidate
}
