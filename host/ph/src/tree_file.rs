//! Scenario trees in TOML.
//!
//! ```toml
//! [[node]]
//! name = "root"
//! variables = ["acres(*)"]        # names, or patterns with * and ?
//!
//! [[node]]                        # further nodes of multi-stage programs
//! name = "wet"
//! parent = "root"
//! probability = 0.4               # under the condition that the parent is reached
//! variables = ["stock"]
//!
//! [[scenario]]
//! name = "wet-cold"
//! node = "wet"                    # may be left out where there is one node only
//! probability = 0.5               # under the condition that the node is reached
//! model = "wet-cold.mps"          # MPS or LP; relative to this file
//!
//! [[bundle]]                      # optional: scenarios that are solved together
//! name = "wet"
//! scenarios = ["wet-cold", "wet-warm"]
//! ```
//!
//! What hangs on one node, nodes and scenarios, has probabilities that sum to 1 to within 1e-6; if all
//! of them are left out, they are equal. Nodes and scenarios may stand in any order.

use std::io;

use serde::Deserialize;
use toml::Spanned;

use crate::{NodeSpec, Problem, ProblemError, ScenarioSpec, TreeError};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    node: Vec<NodeEntry>,
    #[serde(default)]
    scenario: Vec<ScenarioEntry>,
    #[serde(default)]
    bundle: Vec<BundleEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeEntry {
    name: Spanned<String>,
    parent: Option<String>,
    probability: Option<f64>,
    #[serde(default)]
    variables: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScenarioEntry {
    name: Spanned<String>,
    node: Option<String>,
    probability: Option<f64>,
    model: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BundleEntry {
    name: Spanned<String>,
    scenarios: Vec<String>,
}

/// Reads the tree in the TOML file `name`, and its models. `read` gives the bytes of a file, whose
/// path is as the tree gives it; `name` is the first it is asked for.
///
/// # Errors
///
/// A [`ProblemError`] with file and line.
pub fn read_tree(
    name: &str,
    mut read: impl FnMut(&str) -> io::Result<Vec<u8>>,
) -> Result<Problem, ProblemError> {
    let mut bytes = |file: &str| {
        read(file).map_err(|error| ProblemError::File {
            file: file.to_owned(),
            error,
        })
    };
    let source = String::from_utf8_lossy(&bytes(name)?).into_owned();
    let line_of = |offset: usize| 1 + source.bytes().take(offset).filter(|b| *b == b'\n').count();
    let file: File = toml::from_str(&source).map_err(|error| ProblemError::Line {
        file: name.to_owned(),
        line: line_of(error.span().map_or(0, |span| span.start)),
        problem: error.message().to_owned(),
    })?;
    let line = |name: &Spanned<String>| line_of(name.span().start);
    let wrong = |error: TreeError| ProblemError::Tree {
        file: name.to_owned(),
        error,
    };

    let only_node = match &file.node[..] {
        [node] => Some(node.name.get_ref().clone()),
        _ => None,
    };
    let mut scenarios = Vec::new();
    for entry in file.scenario {
        let line = line(&entry.name);
        let scenario = entry.name.into_inner();
        let node = entry.node.or(only_node.clone());
        let node = node.ok_or_else(|| ProblemError::Line {
            file: name.to_owned(),
            line,
            problem: format!("scenario `{scenario}` does not say which node it hangs on"),
        })?;
        let file = bytes(&entry.model)?;
        let model = optwasm_model::read(&file).map_err(|error| ProblemError::Model {
            file: entry.model.clone(),
            error,
        })?;
        scenarios.push(ScenarioSpec {
            name: scenario,
            node,
            probability: entry.probability,
            model,
            file,
            line,
        });
    }
    let nodes = file.node.into_iter().map(|entry| NodeSpec {
        line: line(&entry.name),
        name: entry.name.into_inner(),
        parent: entry.parent,
        probability: entry.probability,
        variables: entry.variables,
    });
    let mut problem = Problem::new(nodes.collect(), scenarios).map_err(wrong)?;
    let bundles = file.bundle.into_iter();
    let bundles: Vec<(String, Vec<String>)> = bundles
        .map(|entry| (entry.name.into_inner(), entry.scenarios))
        .collect();
    problem.set_bundles(&bundles).map_err(wrong)?;
    Ok(problem)
}
