//! What progressive hedging returns.

use serde::Serialize;

use crate::candidate::CandidateRule;
use crate::stop::{Bounds, Stop};
use crate::{Metrics, Unit, table};

/// The file of a unit's model: a blob that all its patches name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base<'a> {
    /// Name of the blob.
    pub name: String,
    /// The file.
    pub bytes: &'a [u8],
}

/// One iteration.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// Its number, from 0.
    pub iteration: u32,
    /// How far the scenarios are from agreeing.
    pub metrics: Metrics,
    /// The best bounds so far.
    pub bounds: Bounds,
    /// The outer bound of the weights that this iteration was solved with, which are those before
    /// this step: what PySP and mpi-sppy take for the weights at the stop. In asynchronous mode, the
    /// one that was found last. Not always the best one.
    pub outer: Option<f64>,
    /// The relative gap of the best bounds.
    pub gap: Option<f64>,
    /// Why this is the last one, if it is.
    pub stop: Option<Stop>,
    /// Why an outer bound or a candidate came to nothing.
    pub remarks: Vec<String>,
}

impl Step {
    /// The columns of [`Step::row`].
    pub const COLUMNS: [&'static str; 9] = [
        "iteration",
        "term_diff",
        "normalized_term_diff",
        "primal",
        "dual",
        "outer",
        "best_outer",
        "incumbent",
        "gap",
    ];

    /// It as a row of a CSV file: numbers with all their digits, nothing where there is none.
    pub fn row(&self) -> [String; 9] {
        let number = |number: Option<f64>| number.map_or_else(String::new, |x| format!("{x:?}"));
        let Metrics {
            term_diff,
            normalized_term_diff,
            primal,
            dual,
            ..
        } = self.metrics;
        [
            self.iteration.to_string(),
            number(Some(term_diff)),
            number(Some(normalized_term_diff)),
            number(Some(primal)),
            number(Some(dual)),
            number(self.outer),
            number(self.bounds.outer),
            number(self.bounds.incumbent),
            number(self.gap),
        ]
    }
}

/// The best feasible point of the whole program.
#[derive(Debug, Clone, PartialEq)]
pub struct Incumbent {
    /// How it was found.
    pub rule: CandidateRule,
    /// Its expected objective.
    pub objective: f64,
    /// Values of the variables of the tree.
    pub variables: Vec<f64>,
    /// Of each unit, the objective.
    pub objectives: Vec<f64>,
    /// Of each unit, the values of all columns.
    pub values: Vec<Vec<f64>>,
}

impl Incumbent {
    /// The values of all columns as a CSV file: `scenario,variable,value`. In the place of a
    /// scenario stands a bundle where there are bundles.
    pub fn values_csv(&self, units: &[Unit<'_>]) -> String {
        let scenarios = units.iter().zip(&self.values);
        table::write_values(scenarios.map(|(unit, values)| (&*unit.name, &*unit.model, values)))
    }
}
