//! What is solved as one: a scenario, or a bundle of them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use optwasm_model::{Model, mps};

use crate::{Extensive, PhError, Problem};

/// A variable of the tree in a unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slot {
    /// The variable, as in [`Problem::variables`].
    pub variable: usize,
    /// Its column in the unit's model.
    pub column: usize,
    /// Probability of the unit's scenarios that share it. It is the unit's own unless the unit is a bundle
    /// that spreads over several nodes.
    pub weight: f64,
}

/// A scenario, or a bundle in extensive form.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit<'p> {
    /// Name of the scenario or bundle.
    pub name: String,
    /// Whether it is a bundle.
    pub is_bundle: bool,
    /// Probability of its scenarios together.
    pub probability: f64,
    /// Its model; the objective is the expectation under the condition that one of its scenarios
    /// happens.
    pub model: Cow<'p, Model>,
    /// The file with the model: of a bundle, an MPS file.
    pub file: Cow<'p, [u8]>,
    /// The variables of the tree in it.
    pub slots: Vec<Slot>,
}

impl Unit<'_> {
    /// As errors name it.
    pub fn title(&self) -> String {
        let kind = if self.is_bundle { "bundle" } else { "scenario" };
        format!("{kind} `{}`", self.name)
    }

    /// How much a variable's terms count in the unit's objective, which is under the condition that
    /// the unit happens.
    pub(crate) fn share(&self, slot: &Slot) -> f64 {
        slot.weight / self.probability
    }
}

/// The bundles of a problem, or its scenarios if it has none.
pub(crate) fn units(problem: &Problem) -> Result<Vec<Unit<'_>>, PhError> {
    if problem.bundles().is_empty() {
        let scenarios = problem.scenarios.iter().map(|scenario| Unit {
            name: scenario.name.clone(),
            is_bundle: false,
            probability: scenario.probability,
            model: Cow::Borrowed(&scenario.model),
            file: Cow::Borrowed(&scenario.file),
            slots: scenario
                .columns
                .iter()
                .map(|&(variable, column)| Slot {
                    variable,
                    column,
                    weight: scenario.probability,
                })
                .collect(),
        });
        return Ok(scenarios.collect());
    }
    let bundles = problem.bundles().iter().map(|bundle| {
        let form = Extensive::of(problem, &bundle.scenarios);
        let mut weights: BTreeMap<usize, f64> = BTreeMap::new();
        let mut probability = 0.0;
        for &scenario in &bundle.scenarios {
            let scenario = &problem.scenarios[scenario];
            probability += scenario.probability;
            for (variable, _) in &scenario.columns {
                *weights.entry(*variable).or_insert(0.0) += scenario.probability;
            }
        }
        let file = mps::write(&form.model).map_err(|error| PhError::Write {
            unit: format!("bundle `{}`", bundle.name),
            error,
        })?;
        let slots = form.variables.iter();
        Ok(Unit {
            name: bundle.name.clone(),
            is_bundle: true,
            probability,
            slots: slots
                .map(|&(variable, column)| Slot {
                    variable,
                    column,
                    weight: weights[&variable],
                })
                .collect(),
            model: Cow::Owned(form.model),
            file: Cow::Owned(file.into_bytes()),
        })
    });
    bundles.collect()
}
