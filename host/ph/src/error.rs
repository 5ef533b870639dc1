//! What can be wrong with a stochastic program and with its solution.

use optwasm_model::mps::WriteError;
use optwasm_model::{ReadError, Status};

/// Why a scenario tree is none. Lines are those of the file that describes the tree, from 1; an
/// error of a tree that was not read from a file has line 0.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TreeError {
    /// There is no scenario, or a node without anything below it; add one or drop the node.
    #[error("{}{what} has no scenario", at(*line))]
    Empty {
        /// Where the node is declared.
        line: usize,
        /// "the tree" or the node.
        what: String,
    },
    /// Two nodes, scenarios or bundles have one name.
    #[error("{}{kind} `{name}` is there twice", at(*line))]
    Duplicate {
        /// Where the second one is.
        line: usize,
        /// What it is.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A name stands for nothing that is there.
    #[error("{}{subject} names {kind} `{name}`, which does not exist", at(*line))]
    Unknown {
        /// Where it is named.
        line: usize,
        /// Who names it.
        subject: String,
        /// What it should be.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// The nodes have no root or more than one, or one is its own ancestor.
    #[error("{}the nodes are not a tree: {why}", at(*line))]
    NotATree {
        /// A node that is at fault.
        line: usize,
        /// In which way.
        why: String,
    },
    /// A probability is not positive, or above 1; leave out what cannot happen.
    #[error("{}the probability of `{name}` is {value}", at(*line))]
    Probability {
        /// Where.
        line: usize,
        /// The node or scenario.
        name: String,
        /// The number.
        value: f64,
    },
    /// Some of the children of a node have a probability and some have none; give all or none.
    #[error("{}`{name}` has no probability, but others below node `{node}` have", at(*line))]
    MissingProbability {
        /// Where the child is declared.
        line: usize,
        /// The child.
        name: String,
        /// The node.
        node: String,
    },
    /// The conditional probabilities below a node do not sum to 1.
    #[error("{}the probabilities below node `{node}` sum to {sum}, not to 1", at(*line))]
    Sum {
        /// Where the node is declared.
        line: usize,
        /// The node.
        node: String,
        /// What they sum to.
        sum: f64,
    },
    /// A variable of a node is not in the model of a scenario below it.
    #[error("{}scenario `{scenario}` has no variable `{variable}`, which belongs to node `{node}`", at(*line))]
    MissingVariable {
        /// Where the node is declared.
        line: usize,
        /// The node.
        node: String,
        /// The variable.
        variable: String,
        /// The scenario.
        scenario: String,
    },
    /// A pattern matches no variable.
    #[error("{}no variable matches `{pattern}` of node `{node}`", at(*line))]
    NoMatch {
        /// Where the node is declared.
        line: usize,
        /// The node.
        node: String,
        /// The pattern.
        pattern: String,
    },
    /// A variable belongs to a node and to an ancestor of it.
    #[error("{}variable `{variable}` of node `{node}` belongs to node `{ancestor}` above it already", at(*line))]
    SharedTwice {
        /// Where the node is declared.
        line: usize,
        /// The variable.
        variable: String,
        /// The node.
        node: String,
        /// The ancestor.
        ancestor: String,
    },
    /// A variable is integer in one scenario and not in another.
    #[error("{}variable `{variable}` is integer in some scenarios and continuous in `{scenario}`", at(*line))]
    Integrality {
        /// Where the node is declared.
        line: usize,
        /// The variable.
        variable: String,
        /// A scenario in which it is continuous.
        scenario: String,
    },
    /// No value of a variable is within its bounds in all scenarios below its node, so that the whole
    /// program is infeasible; mend the bounds.
    #[error(
        "{}variable `{variable}` of node `{node}` must be at least {lower} in one scenario and at most {upper} in another: the whole program is infeasible",
        at(*line)
    )]
    Bounds {
        /// Where the node is declared.
        line: usize,
        /// The variable.
        variable: String,
        /// The node.
        node: String,
        /// The greatest of its lower bounds; of an integer variable, rounded up.
        lower: f64,
        /// The least of its upper bounds; of an integer variable, rounded down.
        upper: f64,
    },
    /// One scenario is minimized and another maximized.
    #[error("{}scenario `{scenario}` is to be {} and those before it {}", at(*line), way(*maximize), way(!*maximize))]
    Sense {
        /// Where the scenario is declared.
        line: usize,
        /// The scenario.
        scenario: String,
        /// Whether it is to be maximized.
        maximize: bool,
    },
    /// A scenario is in no bundle or in two; each must be in one, if there are bundles.
    #[error("{}scenario `{scenario}` is in {count} bundles", at(*line))]
    Bundled {
        /// Where the scenario is declared.
        line: usize,
        /// The scenario.
        scenario: String,
        /// In how many.
        count: usize,
    },
}

fn at(line: usize) -> String {
    match line {
        0 => String::new(),
        line => format!("line {line}: "),
    }
}

fn way(maximize: bool) -> &'static str {
    if maximize { "maximized" } else { "minimized" }
}

/// Why a stochastic program could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ProblemError {
    /// A file cannot be opened or read.
    #[error("{file}: {error}")]
    File {
        /// The file.
        file: String,
        /// Why.
        error: std::io::Error,
    },
    /// The file breaks its grammar, or names something that is not there; mend it at that line.
    #[error("{file}, line {line}: {problem}")]
    Line {
        /// The file.
        file: String,
        /// Where.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// A valid file of the SMPS format uses a feature that is not supported.
    #[error("{file}, line {line}: {feature} not supported")]
    Unsupported {
        /// The file.
        file: String,
        /// Where it is first used.
        line: usize,
        /// The feature, with its verb.
        feature: String,
    },
    /// A model file is at fault.
    #[error("{file}: {error}")]
    Model {
        /// The file.
        file: String,
        /// What is wrong.
        error: ReadError,
    },
    /// The files are fine one by one, but do not make a scenario tree.
    #[error("{file}: {error}")]
    Tree {
        /// The file that describes the tree.
        file: String,
        /// What is wrong.
        error: TreeError,
    },
    /// The combinations of all random data are more than [`MAX_SCENARIOS`](crate::MAX_SCENARIOS);
    /// take a sample of them.
    #[error("{file}: {count} scenarios; at most {limit} are possible")]
    TooMany {
        /// The file.
        file: String,
        /// How many they are, or at least are.
        count: u64,
        /// How many are possible.
        limit: usize,
    },
    /// The model of a scenario has no MPS form.
    #[error("scenario `{scenario}`: {error}")]
    Write {
        /// The scenario.
        scenario: String,
        /// Why.
        error: WriteError,
    },
}

/// Why a file of numbers (weights, averages, rho) could not be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TableError {
    /// The text is no CSV file with the columns that are needed, or a number is none; mend that line.
    #[error("line {line}: {problem}")]
    Line {
        /// Where.
        line: u64,
        /// What is wrong.
        problem: String,
    },
    /// A value is missing; the file is of another problem or cut off.
    #[error("there is no value for {0}")]
    Missing(String),
}

/// Why progressive hedging cannot start or go on.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PhError {
    /// rho of a variable is not a positive number.
    #[error("rho of variable `{variable}` is {value}; it must be positive")]
    Rho {
        /// The variable.
        variable: String,
        /// The number.
        value: f64,
    },
    /// A pattern for rho matches no variable.
    #[error("rho is given for `{0}`, which matches no variable of the tree")]
    RhoPattern(String),
    /// A setting has a value that makes no sense.
    #[error("{0}")]
    Setting(String),
    /// The proximal terms are quadratic and the model has integer variables; ask for linearized
    /// ones.
    #[error(
        "the proximal term of `{variable}` is quadratic and the model of {unit} has integer variables, which no solver here takes together; linearize the proximal terms"
    )]
    IntegerQuadratic {
        /// The variable.
        variable: String,
        /// The scenario or bundle.
        unit: String,
    },
    /// The objective of a scenario itself is quadratic and it has integer variables.
    #[error("the model of {0} is a mixed-integer quadratic program, which no solver here takes")]
    Class(String),
    /// Linearized proximal terms need finite bounds on the variable; add them to the models.
    #[error("variable `{0}` has no finite bounds, which linearized proximal terms need")]
    Bounds(String),
    /// The model of a bundle has no MPS form.
    #[error("{unit}: {error}")]
    Write {
        /// The bundle.
        unit: String,
        /// Why.
        error: WriteError,
    },
    /// No point meets all constraints of a scenario: the whole program is infeasible.
    #[error("{0} is infeasible")]
    Infeasible(String),
    /// The objective of a scenario improves for ever; progressive hedging needs bounded scenarios.
    #[error("{0} is unbounded")]
    Unbounded(String),
    /// The solver failed, or found no point that can be used.
    #[error("{unit} ended as {status}{}", message.as_ref().map_or(String::new(), |m| format!(": {m}")))]
    Failed {
        /// The scenario or bundle.
        unit: String,
        /// What the solver said.
        status: Status,
        /// What it said in words.
        message: Option<String>,
    },
    /// A solution has not one value for every variable, or not a number: it is of another model.
    #[error("the solution of {unit} has {found} usable values where {expected} are needed")]
    Values {
        /// The scenario or bundle.
        unit: String,
        /// Columns of the model.
        expected: usize,
        /// Values of the solution.
        found: usize,
    },
}
