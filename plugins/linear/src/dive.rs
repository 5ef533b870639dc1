//! A first feasible point of a mixed-integer program.
//!
//! microlp's branch and bound looks at the most promising node first and may
//! be long without any feasible point. A dive finds one quickly for many
//! models: solve the relaxation, fix the variable that is nearest to an integer
//! without being one, and so on until all are integers. Each step is a few
//! dual simplex iterations.

use microlp::{Problem, Solution, SolveOutcome, Variable};

/// Most variables fixed in a dive. Each costs a copy of the basis, and what
/// has not become integer after that many rarely does.
const MAX_STEPS: usize = 1000;

/// How far from an integer a value may be that counts as one; microlp's own
/// default.
const INTEGER_TOLERANCE: f64 = 1e-6;

/// Values of the `integers` that make a feasible point of `relaxation`, or
/// `None` if the dive ends in an infeasible place. A point found is not yet
/// checked against the model's tolerances: it is a hint.
pub(crate) fn dive(relaxation: &Problem, integers: &[Variable]) -> Option<Vec<(Variable, f64)>> {
    let mut point = optimal(relaxation.solve())?;
    for _ in 0..MAX_STEPS {
        let distance = |variable: Variable| {
            let value = point.var_value(variable);
            (value - value.round()).abs()
        };
        let nearest = integers
            .iter()
            .copied()
            .filter(|&variable| distance(variable) > INTEGER_TOLERANCE)
            .min_by(|&a, &b| distance(a).total_cmp(&distance(b)));
        let Some(variable) = nearest else {
            let rounded = |&variable| (variable, point.var_value(variable).round());
            return Some(integers.iter().map(rounded).collect());
        };
        let value = point.var_value(variable);
        let near = value.round();
        let far = if near > value { near - 1.0 } else { near + 1.0 };
        let before = point.clone();
        point = match optimal(point.fix_var(variable, near)) {
            Some(next) => next,
            None => optimal(before.fix_var(variable, far))?,
        };
    }
    None
}

fn optimal(outcome: Result<SolveOutcome, microlp::Error>) -> Option<Solution> {
    outcome.ok()?.into_solution().ok()
}

#[cfg(test)]
mod tests {
    use microlp::{ComparisonOp, OptimizationDirection};

    use super::*;

    /// max Σ cᵢxᵢ with Σ wᵢxᵢ ≤ 10 over 0 ≤ x ≤ 1, and the variables.
    fn knapsack(items: &[(f64, f64)]) -> (Problem, Vec<Variable>) {
        let mut problem = Problem::new(OptimizationDirection::Maximize);
        let variables: Vec<Variable> = items
            .iter()
            .map(|&(value, _)| problem.add_var(value, (0.0, 1.0)))
            .collect();
        let weights = variables.iter().zip(items).map(|(&v, &(_, w))| (v, w));
        problem.add_constraint(weights, ComparisonOp::Le, 10.0);
        (problem, variables)
    }

    #[test]
    fn a_dive_ends_in_a_feasible_integer_point() {
        let items = [(5.0, 4.0), (4.0, 3.0), (7.0, 6.0), (1.0, 2.0), (3.0, 5.0)];
        let (problem, variables) = knapsack(&items);
        let relaxed = optimal(problem.solve()).unwrap();
        assert!(
            variables
                .iter()
                .any(|&v| relaxed.var_value(v).fract() != 0.0)
        );
        let point = dive(&problem, &variables).unwrap();
        assert_eq!(point.len(), items.len());
        let weight: f64 = point.iter().zip(items).map(|((_, x), (_, w))| x * w).sum();
        assert!(weight <= 10.0);
        assert!(point.iter().all(|(_, x)| *x == 0.0 || *x == 1.0));
    }

    #[test]
    fn no_point_is_made_up() {
        let (mut problem, variables) = knapsack(&[(1.0, 4.0), (1.0, 4.0)]);
        // Exactly three halves of the two variables: no integers do.
        let terms = [(variables[0], 2.0), (variables[1], 2.0)];
        problem.add_constraint(&terms[..], ComparisonOp::Eq, 3.0);
        assert!(problem.solve().is_ok());
        assert!(dive(&problem, &variables).is_none());
    }
}
