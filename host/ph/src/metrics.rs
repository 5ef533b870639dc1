//! How far the scenarios are from agreeing.
//!
//! With p the probability of a scenario, x its values, x̄ the averages of its nodes, w its weights,
//! and sums over all scenarios s and variables v:
//!
//! | metric | formula | origin |
//! |---|---|---|
//! | term difference | Σ p·abs(x − x̄) | PySP (`termdiff`) |
//! | normalized term difference | Σ p·abs((x − x̄)/x̄) over those with abs(x̄) > 1e-4, divided by the number of variables | PySP's default |
//! | primal residual | √ Σ p (x − x̄)² | Boyd et al., section 3.3 |
//! | dual residual | √ Σ p ρ² (x̄ − x̄ before)² | the same |
//!
//! x̄ before are the averages with which the scenario was last solved. Where every step waits for all
//! scenarios, they are those of the step before. Where it does not, averages move less in a step, by
//! the share of those that are back; but every scenario has been solved since its x̄ before, so that
//! this residual is as large as if all had moved together.
//!
//! Boyd, Parikh, Chu, Peleato and Eckstein, "Distributed optimization and statistical learning via
//! the alternating direction method of multipliers", Foundations and Trends in Machine Learning 3
//! (2011). The first three are zero as soon as all scenarios agree, at whatever point; only together
//! with the dual residual do they say that the point is right.

use std::sync::Arc;

use serde::Serialize;

use crate::unit::Unit;

/// PySP leaves out variables whose average is nearer to zero.
const NEAR_ZERO: f64 = 1e-4;

/// The metrics of one iteration; the module's documentation has the formulas.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Metrics {
    /// Term difference.
    pub term_diff: f64,
    /// Normalized term difference.
    pub normalized_term_diff: f64,
    /// Primal residual.
    pub primal: f64,
    /// Dual residual; infinite until every unit has been solved with averages.
    pub dual: f64,
    /// √ Σ p x² or √ Σ p x̄², whichever is larger: what the primal residual is small against.
    pub primal_scale: f64,
    /// √ Σ p w²: what the dual residual is small against.
    pub dual_scale: f64,
    /// √ Σ p, the number of variables in the same norm.
    pub size: f64,
}

/// Values of all units and what follows from them.
pub(crate) struct State<'a> {
    pub units: &'a [Unit<'a>],
    pub values: &'a [Vec<f64>],
    pub weights: &'a [Vec<f64>],
    pub averages: &'a [f64],
    /// Of each unit, the averages with which it was solved, if there were any.
    pub solved_with: &'a [Option<Arc<[f64]>>],
    pub rho: &'a [f64],
}

impl Metrics {
    pub(crate) fn of(state: &State<'_>) -> Self {
        let (mut term_diff, mut normalized) = (0.0, 0.0);
        let (mut primal, mut dual, mut size) = (0.0, 0.0, 0.0);
        let (mut x2, mut average2, mut w2) = (0.0, 0.0, 0.0);
        let units = state.units.iter().zip(state.values).zip(state.weights);
        for (((unit, values), weights), before) in units.zip(state.solved_with) {
            for ((slot, x), w) in unit.slots.iter().zip(values).zip(weights) {
                let (p, average) = (slot.weight, state.averages[slot.variable]);
                let difference = x - average;
                term_diff += p * difference.abs();
                if average.abs() > NEAR_ZERO {
                    normalized += p * (difference / average).abs();
                }
                primal += p * difference * difference;
                dual += before.as_ref().map_or(f64::INFINITY, |before| {
                    let step = state.rho[slot.variable] * (average - before[slot.variable]);
                    p * step * step
                });
                x2 += p * x * x;
                average2 += p * average * average;
                w2 += p * w * w;
                size += p;
            }
        }
        Metrics {
            term_diff,
            normalized_term_diff: normalized / state.averages.len().max(1) as f64,
            primal: primal.sqrt(),
            dual: dual.sqrt(),
            primal_scale: x2.max(average2).sqrt(),
            dual_scale: w2.sqrt(),
            size: size.sqrt(),
        }
    }
}
