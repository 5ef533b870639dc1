//! Weights and averages on their way from one run to the next.
//!
//! Two CSV files hold all that progressive hedging needs to go on where it stopped:
//!
//! - weights: `unit,node,variable,weight`, one row for each variable of each scenario or bundle;
//! - averages: `node,variable,average`, one row for each variable of each node.
//!
//! Numbers have all their digits. Weights have the sign that they have where the objective is
//! minimized, whatever the sense of the program: positive where a scenario's value is too large.

use std::collections::HashMap;

use crate::table::{self, Table, TableError};
use crate::unit::{Slot, Unit};
use crate::{PhError, Problem};

/// What to start from; the default is nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WarmStart {
    /// For each unit, the weight of each of its variables.
    pub weights: Option<Vec<Vec<f64>>>,
    /// The average of each variable. Where it is given, the first iteration has proximal terms.
    pub averages: Option<Vec<f64>>,
}

impl WarmStart {
    /// Reads the two files, of which either may be missing.
    ///
    /// # Errors
    ///
    /// A [`TableError`], of the weights if both are wrong. A problem whose bundles have no MPS form has
    /// no weights, which is an error of the missing first value.
    pub fn read(
        problem: &Problem,
        weights: Option<&[u8]>,
        averages: Option<&[u8]>,
    ) -> Result<Self, TableError> {
        Ok(WarmStart {
            weights: match weights {
                Some(csv) => {
                    let units = crate::unit::units(problem)
                        .map_err(|error: PhError| TableError::Missing(error.to_string()))?;
                    Some(read_weights(problem, &units, csv)?)
                }
                None => None,
            },
            averages: match averages {
                Some(csv) => Some(read_averages(problem, csv)?),
                None => None,
            },
        })
    }
}

fn node_name(problem: &Problem, variable: usize) -> String {
    problem.nodes[problem.variables[variable].node].name.clone()
}

pub(crate) fn write_weights(problem: &Problem, units: &[Unit<'_>], weights: &[Vec<f64>]) -> String {
    let rows = units.iter().zip(weights).flat_map(|(unit, weights)| {
        unit.slots.iter().zip(weights).map(|(slot, weight)| {
            [
                unit.name.clone(),
                node_name(problem, slot.variable),
                problem.variables[slot.variable].name.clone(),
                format!("{weight:?}"),
            ]
        })
    });
    table::write(["unit", "node", "variable", "weight"], rows)
}

pub(crate) fn write_averages(problem: &Problem, averages: &[f64]) -> String {
    let rows = averages.iter().enumerate().map(|(variable, average)| {
        [
            node_name(problem, variable),
            problem.variables[variable].name.clone(),
            format!("{average:?}"),
        ]
    });
    table::write(["node", "variable", "average"], rows)
}

/// Places for all values by name; each is to be filled once.
struct Places<K> {
    places: HashMap<K, (usize, usize)>,
}

impl<K: std::hash::Hash + Eq> Places<K> {
    fn take(&mut self, line: u64, key: &K, name: &str) -> Result<(usize, usize), TableError> {
        self.places.remove(key).ok_or_else(|| TableError::Line {
            line,
            problem: format!("{name} is not part of the problem, or is there twice"),
        })
    }
}

fn read_weights(
    problem: &Problem,
    units: &[Unit<'_>],
    csv: &[u8],
) -> Result<Vec<Vec<f64>>, TableError> {
    let mut places = HashMap::new();
    let mut values: Vec<Vec<f64>> = Vec::new();
    for (index, unit) in units.iter().enumerate() {
        values.push(vec![0.0; unit.slots.len()]);
        for (slot, Slot { variable, .. }) in unit.slots.iter().enumerate() {
            let name = problem.variables[*variable].name.clone();
            places.insert(
                (unit.name.clone(), node_name(problem, *variable), name),
                (index, slot),
            );
        }
    }
    let mut places = Places { places };
    let mut table = Table::read(csv, ["unit", "node", "variable", "weight"])?;
    while let Some(([unit, node, variable, _], value)) = table.next_row()? {
        let name = format!("variable `{variable}` of node `{node}` in `{unit}`");
        let (unit, slot) = places.take(table.last_line(), &(unit, node, variable), &name)?;
        values[unit][slot] = value;
    }
    match places.places.keys().min() {
        None => Ok(values),
        Some((unit, node, variable)) => Err(TableError::Missing(format!(
            "variable `{variable}` of node `{node}` in `{unit}`"
        ))),
    }
}

fn read_averages(problem: &Problem, csv: &[u8]) -> Result<Vec<f64>, TableError> {
    let variables = problem.variables.iter().enumerate();
    let mut places = Places {
        places: variables
            .map(|(index, variable)| {
                (
                    (node_name(problem, index), variable.name.clone()),
                    (0, index),
                )
            })
            .collect(),
    };
    let mut values = vec![0.0; problem.variables.len()];
    let mut table = Table::read(csv, ["node", "variable", "average"])?;
    while let Some(([node, variable, _], value)) = table.next_row()? {
        let name = format!("variable `{variable}` of node `{node}`");
        let (_, index) = places.take(table.last_line(), &(node, variable), &name)?;
        values[index] = value;
    }
    match places.places.keys().min() {
        None => Ok(values),
        Some((node, variable)) => Err(TableError::Missing(format!(
            "variable `{variable}` of node `{node}`"
        ))),
    }
}
