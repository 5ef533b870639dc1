//! When progressive hedging stops.

use optwasm_model::Sense;
use serde::Serialize;

use crate::Metrics;

/// Something that must be small.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Criterion {
    /// Primal and dual residual, as in Boyd et al., section 3.3.1:
    /// primal ≤ absolute·√n + relative·scale of x, dual ≤ absolute·√n + relative·scale of w.
    Residuals {
        /// In units of the variables and of cost per unit.
        absolute: f64,
        /// Of the scales.
        relative: f64,
    },
    /// Normalized term difference below this: PySP's default, with 1e-4. Says nothing of whether the
    /// point on which the scenarios agree is an optimum.
    NormalizedTermDiff(f64),
    /// Term difference below this; as above.
    TermDiff(f64),
    /// Relative gap between the incumbent and the outer bound at most this.
    Gap(f64),
}

/// How several criteria go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Combine {
    /// All of them must hold.
    #[default]
    All,
    /// One is enough.
    Any,
}

/// When to stop.
#[derive(Debug, Clone, PartialEq)]
pub struct StopRule {
    /// The criteria; with none, only the number of iterations counts.
    pub criteria: Vec<Criterion>,
    /// How they go together.
    pub combine: Combine,
    /// Most iterations after the first, which has the number 0. Default 100, as in PySP.
    pub max_iterations: u32,
}

impl Default for StopRule {
    /// Residuals of 1e-4, absolute and relative: the order that Boyd et al. recommend is 1e-3 or
    /// 1e-4.
    fn default() -> Self {
        StopRule {
            criteria: vec![Criterion::Residuals {
                absolute: 1e-4,
                relative: 1e-4,
            }],
            combine: Combine::All,
            max_iterations: 100,
        }
    }
}

/// Why it stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// The criteria hold. If a model has integer variables or the proximal terms are not quadratic,
    /// that need not be an optimum; the last step remarks it.
    Converged,
    /// They do not, but the iterations are used up.
    IterationLimit,
}

/// Bounds on the optimum of the whole program.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Bounds {
    /// The best outer bound so far: the optimum is not better.
    pub outer: Option<f64>,
    /// Objective of the best feasible point so far: the optimum is not worse.
    pub incumbent: Option<f64>,
}

impl Bounds {
    /// |incumbent − outer| / |incumbent|, as solvers define it; 0 where the two have met or, by
    /// tolerances, crossed. `None` while one of them is missing.
    pub fn gap(&self, sense: Sense) -> Option<f64> {
        let (outer, incumbent) = (self.outer?, self.incumbent?);
        let difference = match sense {
            Sense::Minimize => incumbent - outer,
            Sense::Maximize => outer - incumbent,
        };
        Some(if difference <= 0.0 {
            0.0
        } else {
            difference / incumbent.abs()
        })
    }
}

impl StopRule {
    /// Whether to stop after this iteration.
    pub(crate) fn check(
        &self,
        iteration: u32,
        metrics: &Metrics,
        gap: Option<f64>,
    ) -> Option<Stop> {
        let holds = |criterion: &Criterion| match *criterion {
            Criterion::Residuals { absolute, relative } => {
                let small = |residual: f64, scale: f64| {
                    residual <= absolute * metrics.size + relative * scale
                };
                small(metrics.primal, metrics.primal_scale)
                    && small(metrics.dual, metrics.dual_scale)
            }
            Criterion::NormalizedTermDiff(threshold) => metrics.normalized_term_diff < threshold,
            Criterion::TermDiff(threshold) => metrics.term_diff < threshold,
            Criterion::Gap(threshold) => gap.is_some_and(|gap| gap <= threshold),
        };
        let mut criteria = self.criteria.iter();
        let converged = !self.criteria.is_empty()
            && match self.combine {
                Combine::All => criteria.all(holds),
                Combine::Any => criteria.any(holds),
            };
        match (converged, iteration >= self.max_iterations) {
            (true, _) => Some(Stop::Converged),
            (false, true) => Some(Stop::IterationLimit),
            (false, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(term_diff: f64, dual: f64) -> Metrics {
        Metrics {
            term_diff,
            normalized_term_diff: term_diff / 100.0,
            primal: term_diff,
            dual,
            primal_scale: 100.0,
            dual_scale: 100.0,
            size: 1.0,
        }
    }

    #[test]
    fn criteria_are_combined_as_asked() {
        let term_diff = Criterion::TermDiff(0.1);
        let gap = Criterion::Gap(0.01);
        let check = |combine, metrics, gap_now| {
            let rule = StopRule {
                criteria: vec![term_diff, gap],
                combine,
                max_iterations: 9,
            };
            rule.check(3, &metrics, gap_now)
        };
        let small = metrics(0.05, 1.0);
        assert_eq!(check(Combine::All, small, None), None);
        assert_eq!(
            check(Combine::All, small, Some(0.005)),
            Some(Stop::Converged)
        );
        assert_eq!(check(Combine::Any, small, None), Some(Stop::Converged));
        assert_eq!(
            check(Combine::Any, metrics(0.2, 0.0), Some(0.005)),
            Some(Stop::Converged)
        );
        assert_eq!(check(Combine::Any, metrics(0.2, 0.0), Some(0.02)), None);
    }

    #[test]
    fn agreement_without_a_dual_residual_is_not_convergence() {
        let rule = StopRule::default();
        assert_eq!(rule.check(5, &metrics(0.0, 16.7), None), None);
        assert_eq!(
            rule.check(5, &metrics(0.0, 0.005), None),
            Some(Stop::Converged)
        );
        assert_eq!(rule.check(5, &metrics(0.02, 0.005), None), None);
        assert_eq!(
            rule.check(100, &metrics(0.0, 16.7), None),
            Some(Stop::IterationLimit)
        );
        let none = StopRule {
            criteria: Vec::new(),
            ..StopRule::default()
        };
        assert_eq!(none.check(5, &metrics(0.0, 0.0), Some(0.0)), None);
    }

    #[test]
    fn gaps_follow_the_sense() {
        let bounds = Bounds {
            outer: Some(-110.0),
            incumbent: Some(-100.0),
        };
        assert_eq!(bounds.gap(Sense::Minimize), Some(0.1));
        assert_eq!(bounds.gap(Sense::Maximize), Some(0.0));
        assert_eq!(Bounds::default().gap(Sense::Minimize), None);
    }
}
