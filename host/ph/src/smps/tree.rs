//! From random data to a scenario tree.

use std::collections::HashMap;

use optwasm_model::{Model, mps};

use super::core::Core;
use super::lines::Source;
use super::stoch::{Branch, Change, Element, Random, Stoch, add_entries};
use super::time::Periods;
use super::{MAX_NUMBERS, MAX_SCENARIOS};
use crate::{NodeSpec, Problem, ProblemError, ScenarioSpec};

/// A way through the tree.
struct Leaf {
    name: String,
    probability: f64,
    /// For each period but the last, the node.
    nodes: Vec<usize>,
    model: Model,
}

/// The leaves, and the parent of each node.
type Tree = (Vec<Leaf>, Vec<Option<usize>>);

/// Builds the program.
pub(super) fn problem(
    file: &str,
    core: &Core,
    periods: &Periods,
    stoch: Stoch,
) -> Result<Problem, ProblemError> {
    let mut base = core.model.clone();
    add_entries(&mut base, &stoch.new_entries);
    let (leaves, parents) = match &stoch.random {
        Random::Independent(elements) => {
            check_size(file, core, combinations(elements))?;
            independent(elements, &base, periods.len(), Source(file))?
        }
        Random::Scenarios(branches) => {
            check_size(file, core, branches.len() as u64)?;
            scenarios(branches, &base, periods.len(), Source(file))?
        }
    };
    // Of each node, the probability of coming there.
    let mut reached = vec![0.0; parents.len()];
    for leaf in &leaves {
        for &node in &leaf.nodes {
            reached[node] += leaf.probability;
        }
    }
    let mut stages: Vec<usize> = Vec::new();
    let mut nodes = Vec::new();
    let name = |node: usize, stage: usize| match node {
        0 => periods.names[0].clone(),
        _ => format!("{}:{node}", periods.names[stage]),
    };
    for (node, parent) in parents.iter().enumerate() {
        let stage = parent.map_or(0, |parent| stages[parent] + 1);
        stages.push(stage);
        let columns = core.model.columns.iter().zip(&periods.of_column);
        nodes.push(NodeSpec {
            name: name(node, stage),
            parent: parent.map(|parent| name(parent, stages[parent])),
            probability: parent.map(|parent| reached[node] / reached[parent]),
            variables: columns
                .filter(|(_, period)| **period == stage)
                .map(|(column, _)| column.name.clone())
                .collect(),
            line: 0,
        });
    }
    let mut specs = Vec::new();
    for leaf in leaves {
        let mut model = leaf.model;
        model.entries.retain(|entry| entry.value != 0.0);
        let node = leaf.nodes[leaf.nodes.len() - 1];
        specs.push(ScenarioSpec {
            node: nodes[node].name.clone(),
            probability: Some(leaf.probability / reached[node]),
            file: written(&leaf.name, &model)?,
            name: leaf.name,
            model,
            line: 0,
        });
    }
    Problem::new(nodes, specs).map_err(|error| ProblemError::Tree {
        file: file.to_owned(),
        error,
    })
}

fn written(scenario: &str, model: &Model) -> Result<Vec<u8>, ProblemError> {
    match mps::write(model) {
        Ok(text) => Ok(text.into_bytes()),
        Err(error) => Err(ProblemError::Write {
            scenario: scenario.to_owned(),
            error,
        }),
    }
}

fn check_size(file: &str, core: &Core, count: u64) -> Result<(), ProblemError> {
    let model = &core.model;
    let numbers = model.entries.len() + model.columns.len() + model.rows.len();
    let limit = MAX_SCENARIOS.min(MAX_NUMBERS / numbers.max(1));
    if count <= limit as u64 {
        return Ok(());
    }
    Err(ProblemError::TooMany {
        file: file.to_owned(),
        count,
        limit,
    })
}

/// How many scenarios independent elements make; the largest number if they are more.
fn combinations(elements: &[Element]) -> u64 {
    elements.iter().fold(1, |product: u64, element| {
        product.saturating_mul(element.outcomes.len() as u64)
    })
}

/// The model with some numbers changed.
fn changed(
    mut model: Model,
    changes: &[Change],
    source: Source<'_>,
) -> Result<Model, ProblemError> {
    for change in changes {
        change.apply(&mut model, source)?;
    }
    Ok(model)
}

/// All combinations of all outcomes, period by period.
fn independent(
    elements: &[Element],
    base: &Model,
    periods: usize,
    source: Source<'_>,
) -> Result<Tree, ProblemError> {
    let mut parents = vec![None];
    let mut leaves = vec![Leaf {
        name: String::new(),
        probability: 1.0,
        nodes: vec![0],
        model: base.clone(),
    }];
    for period in 1..periods {
        for element in elements.iter().filter(|element| element.period == period) {
            let mut next = Vec::with_capacity(leaves.len() * element.outcomes.len());
            for leaf in leaves {
                for outcome in &element.outcomes {
                    next.push(Leaf {
                        name: String::new(),
                        probability: leaf.probability * outcome.probability,
                        nodes: leaf.nodes.clone(),
                        model: changed(leaf.model.clone(), &outcome.changes, source)?,
                    });
                }
            }
            leaves = next;
        }
        if period + 1 < periods {
            for leaf in &mut leaves {
                parents.push(leaf.nodes.last().copied());
                leaf.nodes.push(parents.len() - 1);
            }
        }
    }
    for (index, leaf) in leaves.iter_mut().enumerate() {
        leaf.name = format!("s{}", index + 1);
    }
    Ok((leaves, parents))
}

/// Whole scenarios: a scenario shares the nodes of its parent up to the period in which it branches.
fn scenarios(
    branches: &[Branch],
    base: &Model,
    periods: usize,
    source: Source<'_>,
) -> Result<Tree, ProblemError> {
    let mut parents = vec![None];
    // Nodes of the core, from which several scenarios may branch.
    let mut core_nodes: HashMap<usize, usize> = HashMap::from([(0, 0)]);
    let mut leaves: Vec<Leaf> = Vec::new();
    for branch in branches {
        let mut nodes = Vec::new();
        let from = match branch.parent {
            Some(parent) => {
                let shared = leaves[parent].nodes.len().min(branch.period);
                nodes.extend(&leaves[parent].nodes[..shared]);
                &leaves[parent].model
            }
            None => {
                for stage in 0..branch.period.min(periods - 1) {
                    let node = *core_nodes.entry(stage).or_insert_with(|| {
                        parents.push(nodes.last().copied());
                        parents.len() - 1
                    });
                    nodes.push(node);
                }
                base
            }
        };
        while nodes.len() < periods - 1 {
            parents.push(nodes.last().copied());
            nodes.push(parents.len() - 1);
        }
        let leaf = Leaf {
            name: branch.name.clone(),
            probability: branch.probability,
            nodes,
            model: changed(from.clone(), &branch.changes, source)?,
        };
        leaves.push(leaf);
    }
    Ok((leaves, parents))
}
