//! Checks of a tree's description: that it is a tree, and that its probabilities are some.

use std::collections::{BTreeSet, HashMap};

use optwasm_model::Sense;

use crate::{NodeSpec, ScenarioSpec, TreeError};

/// What the conditional probabilities below a node may miss 1 by, plus a rounding error, so that
/// three times 0.333333 passes.
pub(crate) const SUM_TOLERANCE: f64 = 1e-6 + 1e-12;

/// The nodes in an order in which parents come first.
pub(crate) fn tree_order(nodes: &[NodeSpec]) -> Result<Vec<usize>, TreeError> {
    let mut by_name = HashMap::new();
    for (index, node) in nodes.iter().enumerate() {
        if by_name.insert(node.name.as_str(), index).is_some() {
            return Err(TreeError::Duplicate {
                line: node.line,
                kind: "node",
                name: node.name.clone(),
            });
        }
    }
    let not_a_tree = |line, why: String| Err(TreeError::NotATree { line, why });
    let mut children = vec![Vec::new(); nodes.len()];
    let mut root = None;
    for (index, node) in nodes.iter().enumerate() {
        match (&node.parent, root) {
            (Some(parent), _) => {
                let &parent = by_name
                    .get(parent.as_str())
                    .ok_or_else(|| TreeError::Unknown {
                        line: node.line,
                        subject: format!("node `{}`", node.name),
                        kind: "node",
                        name: parent.clone(),
                    })?;
                children[parent].push(index);
            }
            (None, None) => root = Some(index),
            (None, Some(first)) => {
                let first: &NodeSpec = &nodes[first];
                let why = format!("neither `{}` nor `{}` has a parent", first.name, node.name);
                return not_a_tree(node.line, why);
            }
        }
    }
    let Some(root) = root else {
        return not_a_tree(0, "no node is without a parent".into());
    };
    let mut order = vec![root];
    let mut next = 0;
    while next < order.len() {
        order.extend(&children[order[next]]);
        next += 1;
    }
    let reached: BTreeSet<usize> = order.iter().copied().collect();
    match (0..nodes.len()).find(|index| !reached.contains(index)) {
        None => Ok(order),
        Some(index) => {
            let why = format!("node `{}` is below itself", nodes[index].name);
            not_a_tree(nodes[index].line, why)
        }
    }
}

/// The node of each scenario.
pub(crate) fn leaves(
    nodes: &HashMap<&str, usize>,
    scenarios: &[ScenarioSpec],
) -> Result<Vec<usize>, TreeError> {
    if scenarios.is_empty() {
        return Err(TreeError::Empty {
            line: 0,
            what: "the tree".into(),
        });
    }
    let mut names = BTreeSet::new();
    let mut leaves = Vec::new();
    for scenario in scenarios {
        if !names.insert(&scenario.name) {
            return Err(TreeError::Duplicate {
                line: scenario.line,
                kind: "scenario",
                name: scenario.name.clone(),
            });
        }
        let node = nodes.get(scenario.node.as_str());
        leaves.push(*node.ok_or_else(|| TreeError::Unknown {
            line: scenario.line,
            subject: format!("scenario `{}`", scenario.name),
            kind: "node",
            name: scenario.node.clone(),
        })?);
    }
    Ok(leaves)
}

pub(crate) fn one_sense(scenarios: &[ScenarioSpec]) -> Result<Sense, TreeError> {
    let sense = scenarios[0].model.sense;
    match scenarios.iter().find(|spec| spec.model.sense != sense) {
        None => Ok(sense),
        Some(spec) => Err(TreeError::Sense {
            line: spec.line,
            scenario: spec.name.clone(),
            maximize: spec.model.sense == Sense::Maximize,
        }),
    }
}

/// The probabilities of all nodes and scenarios, no longer under conditions.
pub(crate) fn probabilities(
    nodes: &[NodeSpec],
    parents: &[Option<usize>],
    scenarios: &[ScenarioSpec],
    leaves: &[usize],
) -> Result<(Vec<f64>, Vec<f64>), TreeError> {
    // Children of each node: first all nodes, then all scenarios.
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (child, parent) in parents.iter().enumerate() {
        if let Some(parent) = parent {
            children[*parent].push(child);
        }
    }
    for (scenario, &node) in leaves.iter().enumerate() {
        children[node].push(nodes.len() + scenario);
    }
    let of = |child: usize| match child.checked_sub(nodes.len()) {
        None => (
            &nodes[child].name,
            nodes[child].probability,
            nodes[child].line,
        ),
        Some(s) => (
            &scenarios[s].name,
            scenarios[s].probability,
            scenarios[s].line,
        ),
    };
    let mut all = vec![1.0; nodes.len() + scenarios.len()];
    for (node, children) in children.iter().enumerate() {
        let given: Vec<f64> = children.iter().filter_map(|&child| of(child).1).collect();
        for &child in children {
            let (name, probability, line) = of(child);
            match probability {
                Some(p) if p.is_nan() || p <= 0.0 || p > 1.0 => {
                    return Err(TreeError::Probability {
                        line,
                        name: name.clone(),
                        value: p,
                    });
                }
                None if !given.is_empty() => {
                    return Err(TreeError::MissingProbability {
                        line,
                        name: name.clone(),
                        node: nodes[node].name.clone(),
                    });
                }
                _ => {}
            }
        }
        let sum: f64 = given.iter().sum();
        if !given.is_empty() && (sum - 1.0).abs() > SUM_TOLERANCE {
            return Err(TreeError::Sum {
                line: nodes[node].line,
                node: nodes[node].name.clone(),
                sum,
            });
        }
        for &child in children {
            let conditional = match of(child).1 {
                Some(probability) => probability / sum,
                None => 1.0 / children.len() as f64,
            };
            all[child] = all[node] * conditional;
        }
    }
    let leaves = all.split_off(nodes.len());
    Ok((all, leaves))
}
