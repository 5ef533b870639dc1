//! A stochastic program: a tree of decisions, and a model for every way through it.
//!
//! # The tree
//!
//! The inner nodes of the tree are [`Node`]s. At a node something is decided: the variables that
//! belong to it have one value in all scenarios below it, because nobody can tell these apart yet
//! (*nonanticipativity*). The leaves are [`Scenario`]s. Each hangs on a node, and what belongs to no node
//! on its path is decided for it alone. A two-stage program has one node, the root.
//!
//! # Invariants
//!
//! - Node 0 is the root, and every parent comes before its children.
//! - [`Variable`]s are numbered through all nodes; those of one node are consecutive.
//! - Every scenario has a column for every variable of every node on its path, and one column belongs
//!   to one variable. All scenarios have one sense.
//! - For every variable there is a value that is within its bounds in all scenarios below its node.
//! - Probabilities sum to 1 below each node, up to rounding: those given need to within
//!   1e-6 only, and are scaled.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use optwasm_model::{Model, Sense};

use crate::tree::{leaves, one_sense, probabilities, tree_order};
use crate::{TreeError, glob};

/// How far an integer variable may be from a whole number: what solvers tolerate by default.
const INTEGRALITY: f64 = 1e-6;

/// A node as a file describes it.
#[derive(Debug, Clone, Default)]
pub struct NodeSpec {
    /// Its name.
    pub name: String,
    /// The node above; none of the root.
    pub parent: Option<String>,
    /// Probability under the condition that its parent is reached. If no child of a node has one,
    /// they are equal.
    pub probability: Option<f64>,
    /// Names of its variables, or patterns with `*` and `?`.
    pub variables: Vec<String>,
    /// Where it is declared, for errors; 0 if nowhere.
    pub line: usize,
}

/// A scenario as a file describes it.
#[derive(Debug, Clone, Default)]
pub struct ScenarioSpec {
    /// Its name.
    pub name: String,
    /// The node it hangs on.
    pub node: String,
    /// Probability under the condition that the node is reached, as of [`NodeSpec`].
    pub probability: Option<f64>,
    /// Its model.
    pub model: Model,
    /// The file that `model` was read from, in MPS, LP or linear `.nl` format.
    pub file: Vec<u8>,
    /// Where it is declared, for errors; 0 if nowhere.
    pub line: usize,
}

/// A node of the tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// The node above.
    pub parent: Option<usize>,
    /// Nodes above it: 0 for the root.
    pub stage: usize,
    /// Probability of coming here.
    pub probability: f64,
    /// Its variables, as indices into [`Problem::variables`].
    pub variables: Range<usize>,
    line: usize,
}

/// A variable that has one value in all scenarios below its node.
#[derive(Debug, Clone, PartialEq)]
pub struct Variable {
    /// Its node.
    pub node: usize,
    /// Its name in every scenario below.
    pub name: String,
    /// Whether it must be integer.
    pub integer: bool,
    /// The greatest of its lower bounds in the scenarios; of an integer variable, rounded up.
    pub lower: f64,
    /// The least of its upper bounds in the scenarios; of an integer variable, rounded down.
    pub upper: f64,
}

impl Variable {
    /// Whether it can be 0 and 1 only, so that its square is itself.
    pub fn is_binary(&self) -> bool {
        self.integer && self.lower >= 0.0 && self.upper <= 1.0
    }
}

/// A scenario: a leaf of the tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// The node it hangs on.
    pub node: usize,
    /// Its probability.
    pub probability: f64,
    /// Its model, with an objective of its own: not times the probability.
    pub model: Model,
    /// The file that the model was read from.
    pub file: Vec<u8>,
    /// For each variable of each node on its path, from the root: the variable and its column.
    pub columns: Vec<(usize, usize)>,
    line: usize,
}

/// Scenarios that are solved together, as one program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Its name.
    pub name: String,
    /// Its scenarios, by index.
    pub scenarios: Vec<usize>,
}

/// A stochastic program: minimize or maximize the expected objective of the scenarios.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Direction of all objectives.
    pub sense: Sense,
    /// The nodes; the root is the first.
    pub nodes: Vec<Node>,
    /// The variables of all nodes.
    pub variables: Vec<Variable>,
    /// The scenarios.
    pub scenarios: Vec<Scenario>,
    bundles: Vec<Bundle>,
}

impl Problem {
    /// Puts a tree together and checks it.
    ///
    /// # Errors
    ///
    /// A [`TreeError`].
    pub fn new(nodes: Vec<NodeSpec>, scenarios: Vec<ScenarioSpec>) -> Result<Self, TreeError> {
        let order = tree_order(&nodes)?;
        let nodes: Vec<NodeSpec> = order.iter().map(|&node| nodes[node].clone()).collect();
        let by_name: HashMap<&str, usize> = index(nodes.iter().map(|node| node.name.as_str()));
        let parents: Vec<Option<usize>> = nodes
            .iter()
            .map(|node| Some(by_name[node.parent.as_deref()?]))
            .collect();
        let leaves = leaves(&by_name, &scenarios)?;
        let sense = one_sense(&scenarios)?;
        let (node_probabilities, probabilities) =
            probabilities(&nodes, &parents, &scenarios, &leaves)?;

        let mut stages: Vec<usize> = Vec::new();
        for parent in &parents {
            stages.push(parent.map_or(0, |parent| stages[parent] + 1));
        }
        let mut problem = Problem {
            sense,
            nodes: Vec::new(),
            variables: Vec::new(),
            scenarios: Vec::new(),
            bundles: Vec::new(),
        };
        for (((spec, parent), stage), probability) in nodes
            .iter()
            .zip(&parents)
            .zip(stages)
            .zip(node_probabilities)
        {
            problem.nodes.push(Node {
                name: spec.name.clone(),
                parent: *parent,
                stage,
                probability,
                variables: 0..0,
                line: spec.line,
            });
        }
        for ((spec, node), probability) in scenarios.into_iter().zip(leaves).zip(probabilities) {
            problem.scenarios.push(Scenario {
                name: spec.name,
                node,
                probability,
                model: spec.model,
                file: spec.file,
                columns: Vec::new(),
                line: spec.line,
            });
        }
        problem.find_variables(&nodes)?;
        Ok(problem)
    }

    /// The nodes from the root to `node`, inclusive.
    pub fn path(&self, node: usize) -> Vec<usize> {
        let mut path = vec![node];
        while let Some(parent) = self.nodes[path[path.len() - 1]].parent {
            path.push(parent);
        }
        path.reverse();
        path
    }

    /// The name of a variable for people: with its node, if there is more than one.
    pub fn variable_name(&self, variable: usize) -> String {
        let Variable { node, name, .. } = &self.variables[variable];
        if self.nodes.len() == 1 {
            name.clone()
        } else {
            format!("{}/{name}", self.nodes[*node].name)
        }
    }

    /// The scenarios that are solved together; empty if each is on its own.
    pub fn bundles(&self) -> &[Bundle] {
        &self.bundles
    }

    /// Sets the bundles, by names of scenarios; none to solve each scenario on its own.
    ///
    /// # Errors
    ///
    /// [`TreeError::Unknown`], [`TreeError::Duplicate`] and [`TreeError::Bundled`].
    pub fn set_bundles(&mut self, bundles: &[(String, Vec<String>)]) -> Result<(), TreeError> {
        let by_name = index(self.scenarios.iter().map(|scenario| scenario.name.as_str()));
        let mut names = BTreeSet::new();
        let mut count = vec![0; self.scenarios.len()];
        let mut found = Vec::new();
        for (name, scenarios) in bundles {
            if !names.insert(name) {
                return Err(TreeError::Duplicate {
                    line: 0,
                    kind: "bundle",
                    name: name.clone(),
                });
            }
            let mut indices = Vec::new();
            for scenario in scenarios {
                let &index = by_name
                    .get(scenario.as_str())
                    .ok_or_else(|| TreeError::Unknown {
                        line: 0,
                        subject: format!("bundle `{name}`"),
                        kind: "scenario",
                        name: scenario.clone(),
                    })?;
                count[index] += 1;
                indices.push(index);
            }
            if !indices.is_empty() {
                found.push(Bundle {
                    name: name.clone(),
                    scenarios: indices,
                });
            }
        }
        if !found.is_empty()
            && let Some(index) = count.iter().position(|&count| count != 1)
        {
            return Err(TreeError::Bundled {
                line: self.scenarios[index].line,
                scenario: self.scenarios[index].name.clone(),
                count: count[index],
            });
        }
        self.bundles = found;
        Ok(())
    }

    /// Puts the scenarios, in their order, into `count` bundles of about the same size; fewer where
    /// there are not so many scenarios. 0 stands for no bundles.
    pub fn bundle_evenly(&mut self, count: usize) {
        let scenarios = self.scenarios.len();
        let count = count.min(scenarios);
        self.bundles = (0..count)
            .map(|bundle| Bundle {
                name: format!("bundle{}", bundle + 1),
                scenarios: (bundle * scenarios / count..(bundle + 1) * scenarios / count).collect(),
            })
            .collect();
    }

    /// Finds the variables of all nodes and their columns in all scenarios.
    fn find_variables(&mut self, specs: &[NodeSpec]) -> Result<(), TreeError> {
        let columns: Vec<HashMap<String, usize>> = self
            .scenarios
            .iter()
            .map(|scenario| {
                let names = scenario.model.columns.iter().map(|c| c.name.clone());
                names
                    .enumerate()
                    .map(|(index, name)| (name, index))
                    .collect()
            })
            .collect();
        let mut below = vec![Vec::new(); self.nodes.len()];
        for (index, scenario) in self.scenarios.iter().enumerate() {
            for node in self.path(scenario.node) {
                below[node].push(index);
            }
        }
        // Of each scenario, the columns that belong to a variable, and to which.
        let mut taken = vec![HashMap::new(); self.scenarios.len()];
        for ((node, spec), below) in specs.iter().enumerate().zip(below) {
            let Some(&first) = below.first() else {
                return Err(TreeError::Empty {
                    line: spec.line,
                    what: format!("node `{}`", spec.name),
                });
            };
            let start = self.variables.len();
            for name in self.names_of(spec, first, &below)? {
                self.add_variable((node, spec), &name, &below, &columns, &mut taken)?;
            }
            self.nodes[node].variables = start..self.variables.len();
        }
        Ok(())
    }

    /// The names that the patterns of a node stand for, in the order of the patterns and of the
    /// columns of its first scenario. A pattern that matches more in another scenario is an error.
    fn names_of(
        &self,
        spec: &NodeSpec,
        first: usize,
        below: &[usize],
    ) -> Result<Vec<String>, TreeError> {
        let mut names: Vec<String> = Vec::new();
        let mut seen = BTreeSet::new();
        for pattern in &spec.variables {
            let mut columns = self.scenarios[first].model.columns.iter();
            // A name may contain a star itself.
            if !glob::is_pattern(pattern) || columns.any(|column| column.name == *pattern) {
                if seen.insert(pattern.clone()) {
                    names.push(pattern.clone());
                }
                continue;
            }
            let matching = |scenario: usize| {
                let columns = self.scenarios[scenario].model.columns.iter();
                columns.filter(|column| glob::matches(pattern, &column.name))
            };
            let mut any = false;
            for column in matching(first) {
                any = true;
                if seen.insert(column.name.clone()) {
                    names.push(column.name.clone());
                }
            }
            if !any {
                return Err(TreeError::NoMatch {
                    line: spec.line,
                    node: spec.name.clone(),
                    pattern: pattern.clone(),
                });
            }
            for &scenario in below {
                if let Some(column) = matching(scenario).find(|column| !seen.contains(&column.name))
                {
                    return Err(TreeError::MissingVariable {
                        line: spec.line,
                        node: spec.name.clone(),
                        variable: column.name.clone(),
                        scenario: self.scenarios[first].name.clone(),
                    });
                }
            }
        }
        Ok(names)
    }

    fn add_variable(
        &mut self,
        (node, spec): (usize, &NodeSpec),
        name: &str,
        below: &[usize],
        columns: &[HashMap<String, usize>],
        taken: &mut [HashMap<usize, usize>],
    ) -> Result<(), TreeError> {
        let variable = self.variables.len();
        let mut added = Variable {
            node,
            name: name.to_owned(),
            integer: false,
            lower: f64::NEG_INFINITY,
            upper: f64::INFINITY,
        };
        let mut continuous = None;
        for &index in below {
            let scenario = &mut self.scenarios[index];
            let &column = columns[index]
                .get(name)
                .ok_or_else(|| TreeError::MissingVariable {
                    line: spec.line,
                    node: spec.name.clone(),
                    variable: name.to_owned(),
                    scenario: scenario.name.clone(),
                })?;
            if let Some(other) = taken[index].insert(column, variable) {
                let ancestor = self.variables[other].node;
                return Err(TreeError::SharedTwice {
                    line: spec.line,
                    variable: name.to_owned(),
                    node: spec.name.clone(),
                    ancestor: self.nodes[ancestor].name.clone(),
                });
            }
            scenario.columns.push((variable, column));
            let column = &scenario.model.columns[column];
            added.lower = added.lower.max(column.lower);
            added.upper = added.upper.min(column.upper);
            added.integer |= column.integer;
            if !column.integer {
                continuous = Some(index);
            }
        }
        if let (true, Some(index)) = (added.integer, continuous) {
            return Err(TreeError::Integrality {
                line: spec.line,
                variable: name.to_owned(),
                scenario: self.scenarios[index].name.clone(),
            });
        }
        if added.integer {
            added.lower = (added.lower - INTEGRALITY).ceil();
            added.upper = (added.upper + INTEGRALITY).floor();
        }
        if added.lower > added.upper {
            return Err(TreeError::Bounds {
                line: spec.line,
                variable: name.to_owned(),
                node: spec.name.clone(),
                lower: added.lower,
                upper: added.upper,
            });
        }
        self.variables.push(added);
        Ok(())
    }
}

fn index<'a>(names: impl Iterator<Item = &'a str>) -> HashMap<&'a str, usize> {
    names
        .enumerate()
        .map(|(index, name)| (name, index))
        .collect()
}
