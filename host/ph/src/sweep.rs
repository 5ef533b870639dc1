//! Sums over all units: an outer bound or the objective of a candidate, which are worth something only
//! when every unit has answered.

use crate::candidate::CandidateRule;
use crate::unit::Unit;

/// What is summed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Purpose {
    Bound,
    Candidate(CandidateRule, Vec<f64>),
}

/// Answers to the same question from all units.
#[derive(Debug, Clone)]
pub(crate) struct Sweep {
    pub purpose: Purpose,
    /// Units that have not answered.
    left: usize,
    /// Of each unit, the number to be summed.
    pub objectives: Vec<f64>,
    /// Of each unit, the values; of candidates only.
    pub values: Vec<Vec<f64>>,
    /// Why there will be no sum.
    lost: Option<String>,
}

impl Sweep {
    pub fn new(purpose: Purpose, units: usize) -> Self {
        Sweep {
            purpose,
            left: units,
            objectives: vec![f64::NAN; units],
            values: vec![Vec::new(); units],
            lost: None,
        }
    }

    /// Takes the answer of one unit: its number and values, or why there are none.
    pub fn take(&mut self, unit: usize, answer: Result<(f64, Vec<f64>), String>) {
        self.left -= 1;
        match answer {
            Ok((objective, values)) => {
                self.objectives[unit] = objective;
                self.values[unit] = values;
            }
            Err(why) => {
                self.lost.get_or_insert(why);
            }
        }
    }

    pub fn is_complete(&self) -> bool {
        self.left == 0
    }

    /// The expectation, or why there is none.
    pub fn total(&self, units: &[Unit<'_>]) -> Result<f64, &str> {
        match &self.lost {
            Some(why) => Err(why),
            None => Ok(units
                .iter()
                .zip(&self.objectives)
                .map(|(unit, objective)| unit.probability * objective)
                .sum()),
        }
    }
}
