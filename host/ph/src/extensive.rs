//! The extensive form: a stochastic program as one program.
//!
//! Its objective is the expectation. Nonanticipativity is a matter of columns: all scenarios below a node
//! share those of its variables, so no constraint is needed for it. A shared column has the bounds
//! that all its scenarios allow and the sum of their costs times their probabilities.

use std::collections::HashMap;

use optwasm_model::{Column, Entry, Model, Row};

use crate::{Problem, table};

/// An extensive form, and where in it everything is.
#[derive(Debug, Clone, PartialEq)]
pub struct Extensive {
    /// The program. A column is named after its node or scenario, a dot, and its variable; a row
    /// after its scenario, a dot, and itself.
    pub model: Model,
    /// The scenarios in it, as indices into [`Problem::scenarios`].
    pub scenarios: Vec<usize>,
    /// For each of these, the column of `model` for each column of its own.
    pub columns: Vec<Vec<usize>>,
    /// For each variable of the tree that is in it: its index and column.
    pub variables: Vec<(usize, usize)>,
}

/// A solution of an extensive form, taken apart.
#[derive(Debug, Clone, PartialEq)]
pub struct TreeSolution {
    /// Of each variable of the tree, as in [`Problem::variables`]; NaN if it is not part of the
    /// extensive form.
    pub variables: Vec<f64>,
    /// For each scenario of the extensive form the values of its columns.
    pub scenarios: Vec<Vec<f64>>,
    /// And its objective.
    pub objectives: Vec<f64>,
}

impl Extensive {
    /// The extensive form of all scenarios.
    pub fn new(problem: &Problem) -> Self {
        let all: Vec<usize> = (0..problem.scenarios.len()).collect();
        Self::of(problem, &all)
    }

    /// The extensive form of some scenarios, under the condition that one of them happens.
    ///
    /// # Panics
    ///
    /// If one of them does not exist.
    pub fn of(problem: &Problem, scenarios: &[usize]) -> Self {
        let total: f64 = scenarios
            .iter()
            .map(|&scenario| problem.scenarios[scenario].probability)
            .sum();
        let mut form = Extensive {
            model: Model {
                sense: problem.sense,
                ..Model::default()
            },
            scenarios: scenarios.to_vec(),
            columns: Vec::new(),
            variables: Vec::new(),
        };
        let mut shared: HashMap<usize, usize> = HashMap::new();
        let mut quadratic: HashMap<(usize, usize), f64> = HashMap::new();
        for &scenario in scenarios {
            form.add(problem, scenario, total, &mut shared, &mut quadratic);
        }
        let mut quadratic: Vec<_> = quadratic
            .into_iter()
            .filter(|&(_, value)| value != 0.0)
            .map(|((i, j), value)| (i, j, value))
            .collect();
        quadratic.sort_by_key(|&(i, j, _)| (j, i));
        form.model.quadratic = quadratic;
        make_unique(form.model.columns.iter_mut().map(|column| &mut column.name));
        make_unique(form.model.rows.iter_mut().map(|row| &mut row.name));
        form
    }

    fn add(
        &mut self,
        problem: &Problem,
        scenario: usize,
        total: f64,
        shared: &mut HashMap<usize, usize>,
        quadratic: &mut HashMap<(usize, usize), f64>,
    ) {
        let scenario = &problem.scenarios[scenario];
        let probability = scenario.probability / total;
        let variables: HashMap<usize, usize> =
            scenario.columns.iter().map(|&(v, c)| (c, v)).collect();
        let mut places = Vec::with_capacity(scenario.model.columns.len());
        for (index, column) in scenario.model.columns.iter().enumerate() {
            let variable = variables.get(&index);
            let known = variable.and_then(|variable| shared.get(variable)).copied();
            let place = known.unwrap_or(self.model.columns.len());
            if known.is_none() {
                let owner = match variable {
                    Some(&variable) => {
                        shared.insert(variable, place);
                        self.variables.push((variable, place));
                        &problem.nodes[problem.variables[variable].node].name
                    }
                    None => &scenario.name,
                };
                self.model.columns.push(Column {
                    name: format!("{owner}.{}", column.name),
                    cost: 0.0,
                    ..column.clone()
                });
            }
            let into = &mut self.model.columns[place];
            into.cost += probability * column.cost;
            into.lower = into.lower.max(column.lower);
            into.upper = into.upper.min(column.upper);
            into.integer |= column.integer;
            places.push(place);
        }
        let first_row = self.model.rows.len();
        self.model
            .rows
            .extend(scenario.model.rows.iter().map(|row| Row {
                name: format!("{}.{}", scenario.name, row.name),
                ..row.clone()
            }));
        let entries = scenario.model.entries.iter().map(|entry| Entry {
            row: first_row + entry.row,
            column: places[entry.column],
            value: entry.value,
        });
        self.model.entries.extend(entries);
        self.model.constant += probability * scenario.model.constant;
        for &(i, j, value) in &scenario.model.quadratic {
            let (i, j) = (places[i], places[j]);
            *quadratic.entry((i.min(j), i.max(j))).or_insert(0.0) += probability * value;
        }
        self.columns.push(places);
    }

    /// Takes a solution apart by nodes and scenarios. `None` if `values` has not one value for each
    /// column.
    pub fn read_back(&self, problem: &Problem, values: &[f64]) -> Option<TreeSolution> {
        if values.len() != self.model.columns.len() {
            return None;
        }
        let mut variables = vec![f64::NAN; problem.variables.len()];
        for &(variable, column) in &self.variables {
            variables[variable] = values[column];
        }
        let scenarios: Vec<Vec<f64>> = self
            .columns
            .iter()
            .map(|columns| columns.iter().map(|&column| values[column]).collect())
            .collect();
        let objectives = self
            .scenarios
            .iter()
            .zip(&scenarios)
            .map(|(&scenario, values)| problem.scenarios[scenario].model.objective_at(values))
            .collect();
        Some(TreeSolution {
            variables,
            scenarios,
            objectives,
        })
    }
}

impl TreeSolution {
    /// The values of all columns as a CSV file: `scenario,variable,value`. `form` is the extensive
    /// form that it was made by.
    pub fn values_csv(&self, problem: &Problem, form: &Extensive) -> String {
        let scenarios = form.scenarios.iter().zip(&self.scenarios);
        table::write_values(scenarios.map(|(&index, values)| {
            let scenario = &problem.scenarios[index];
            (&*scenario.name, &scenario.model, values)
        }))
    }
}

/// Names can meet by accident: `a.b` of scenario `c`, and `b` of scenario `c.a`.
fn make_unique<'a>(names: impl Iterator<Item = &'a mut String>) {
    let mut used = std::collections::HashSet::new();
    for name in names {
        while !used.insert(name.clone()) {
            name.push('_');
        }
    }
}
