//! The penalty factor of each variable.

use crate::table::{Table, TableError};
use crate::{PhError, Problem, glob};

/// How rho is found for variables that no override names.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RhoRule {
    /// The same for all.
    Fixed(f64),
    /// Proportional to the variable's cost: factor · |c|, c being its expected objective
    /// coefficient; `otherwise` where that is zero.
    Cost {
        /// The factor.
        factor: f64,
        /// For variables without cost.
        otherwise: f64,
    },
    /// The rule SEP of Watson and Woodruff, "Progressive hedging innovations for a class of
    /// stochastic mixed-integer resource allocation problems", Computational Management Science 8
    /// (2011): factor · |c| / (max x − min x + 1) of an integer variable, and
    /// factor · |c| / max(Σ p |x − x̄|, 1) of a continuous one, with the values of the first iteration.
    Spread {
        /// The factor; 1 in the article.
        factor: f64,
        /// For variables without cost.
        otherwise: f64,
    },
}

/// rho of all variables.
#[derive(Debug, Clone, PartialEq)]
pub struct Rho {
    /// The rule.
    pub rule: RhoRule,
    /// Exceptions: names of variables or patterns with `*` and `?`, and their rho. `NODE/VARIABLE`
    /// stands for the variable at that node alone. The last that matches counts.
    pub overrides: Vec<(String, f64)>,
}

impl Rho {
    /// The same for all variables.
    pub fn fixed(rho: f64) -> Self {
        Rho {
            rule: RhoRule::Fixed(rho),
            overrides: Vec::new(),
        }
    }

    /// Reads overrides from a CSV file with the columns `variable` and `rho`.
    ///
    /// # Errors
    ///
    /// [`TableError::Line`].
    pub fn read_overrides(csv: &[u8]) -> Result<Vec<(String, f64)>, TableError> {
        let mut table = Table::read(csv, ["variable", "rho"])?;
        let mut overrides = Vec::new();
        while let Some(([variable, _], rho)) = table.next_row()? {
            overrides.push((variable, rho));
        }
        Ok(overrides)
    }

    /// rho of each variable; `spread` is (max − min, Σ p |x − x̄|) of each, which the rule
    /// [`RhoRule::Spread`] takes and which is not known before the first iteration.
    pub(crate) fn values(
        &self,
        problem: &Problem,
        spread: Option<&[(f64, f64)]>,
    ) -> Result<Vec<f64>, PhError> {
        let costs = expected_costs(problem);
        let mut values = Vec::with_capacity(problem.variables.len());
        let mut used = vec![false; self.overrides.len()];
        for (index, variable) in problem.variables.iter().enumerate() {
            let by_cost = |factor: f64, otherwise: f64| match costs[index].abs() {
                0.0 => otherwise,
                cost => factor * cost,
            };
            let mut rho = match self.rule {
                RhoRule::Fixed(rho) => rho,
                RhoRule::Cost { factor, otherwise } => by_cost(factor, otherwise),
                RhoRule::Spread { factor, otherwise } => {
                    let (range, deviation) = spread.map_or((0.0, 0.0), |spread| spread[index]);
                    let divisor = match (variable.integer, costs[index] == 0.0) {
                        (_, true) => 1.0,
                        (true, _) => range + 1.0,
                        (false, _) => deviation.max(1.0),
                    };
                    by_cost(factor, otherwise) / divisor
                }
            };
            let at_node = format!("{}/{}", problem.nodes[variable.node].name, variable.name);
            let matches = |pattern: &String| {
                [&variable.name, &at_node]
                    .into_iter()
                    .any(|name| pattern == name || glob::matches(pattern, name))
            };
            for (used, (pattern, value)) in used.iter_mut().zip(&self.overrides) {
                if matches(pattern) {
                    *used = true;
                    rho = *value;
                }
            }
            if !rho.is_finite() || rho <= 0.0 {
                return Err(PhError::Rho {
                    variable: problem.variable_name(index),
                    value: rho,
                });
            }
            values.push(rho);
        }
        match used.iter().position(|used| !used) {
            None => Ok(values),
            Some(index) => Err(PhError::RhoPattern(self.overrides[index].0.clone())),
        }
    }
}

/// The expected objective coefficient of each variable.
fn expected_costs(problem: &Problem) -> Vec<f64> {
    let mut costs = vec![0.0; problem.variables.len()];
    let mut weights = vec![0.0; problem.variables.len()];
    for scenario in &problem.scenarios {
        for &(variable, column) in &scenario.columns {
            costs[variable] += scenario.probability * scenario.model.columns[column].cost;
            weights[variable] += scenario.probability;
        }
    }
    costs
        .iter()
        .zip(&weights)
        .map(|(cost, weight)| cost / weight)
        .collect()
}
