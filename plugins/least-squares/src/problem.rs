//! A regression problem: a model, data and starting points.

use std::collections::{BTreeMap, HashMap};

use optwasm_model::ReadError;
use serde::Deserialize;

use crate::expression::{Expression, ExpressionError, Symbol};

/// Most elements that the Jacobian may have; at this size it takes 128 MB.
const MAX_ELEMENTS: usize = 1 << 24;

/// Why an input is not a regression problem.
#[derive(Debug, thiserror::Error)]
pub enum ProblemError {
    /// The input is not a valid file; mend it at the line named.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An option is unknown or has a wrong value; mend it.
    #[error(transparent)]
    Option(#[from] optwasm_model::OptionError),
    /// The input is JSON or CBOR, but not a problem.
    #[error("not a regression problem: {0}")]
    Decode(String),
    /// The model's formula is at fault; mend it.
    #[error(transparent)]
    Formula(#[from] ExpressionError),
    /// The model has no equals sign, or several.
    #[error("expected a model such as `y = a*exp(b*x)`, found `{0}`")]
    NotAnEquation(String),
    /// There is no parameter, no starting point or no observation, or fewer
    /// observations than parameters.
    #[error(
        "expected at least as many observations as parameters, and one parameter, found {observations} and {parameters}"
    )]
    TooFew {
        /// Rows of data.
        observations: usize,
        /// Parameters.
        parameters: usize,
    },
    /// Columns or starting points differ in what they contain.
    #[error("{0}")]
    Inconsistent(String),
    /// Observations times parameters exceed what one job should fit.
    #[error("the problem is too large: {rows} observations of {columns} numbers")]
    TooLarge {
        /// Rows of data.
        rows: usize,
        /// Parameters or columns.
        columns: usize,
    },
}

/// A model `response = prediction` with data and starting points, all of
/// consistent sizes and finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// The left side of the model, which depends on the data only.
    pub response: Expression,
    /// The right side.
    pub prediction: Expression,
    /// Names of the parameters.
    pub parameters: Vec<String>,
    /// The data by rows; each as long as the model needs.
    pub rows: Vec<Vec<f64>>,
    /// Starting points, each with a value for every parameter.
    pub starts: Vec<Vec<f64>>,
}

/// The input in JSON or CBOR.
#[derive(Deserialize)]
struct Input {
    model: String,
    data: BTreeMap<String, Array>,
    start: Starts,
}

/// Numbers, in CBOR also as a typed array.
#[derive(Deserialize)]
struct Array(#[serde(with = "optwasm_guest::array")] Vec<f64>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Starts {
    One(BTreeMap<String, f64>),
    Several(Vec<BTreeMap<String, f64>>),
}

impl Problem {
    /// A problem with the model `formula` (such as `y = a*exp(b*x)`), data by
    /// columns, and starting points in the order of `parameters`.
    ///
    /// # Errors
    ///
    /// A [`ProblemError`] that says what does not fit together.
    pub fn new(
        formula: &str,
        parameters: Vec<String>,
        data: HashMap<String, Vec<f64>>,
        starts: Vec<Vec<f64>>,
    ) -> Result<Problem, ProblemError> {
        let sides: Vec<&str> = formula.split('=').collect();
        let &[left, right] = sides.as_slice() else {
            return Err(ProblemError::NotAnEquation(formula.trim().into()));
        };
        let mut names: Vec<&String> = data.keys().collect();
        names.sort();
        if let Some(name) = parameters.iter().find(|name| data.contains_key(*name)) {
            let message = format!("`{name}` is both a parameter and a column of the data");
            return Err(ProblemError::Inconsistent(message));
        }
        let observations = names.first().map_or(0, |name| data[*name].len());
        for name in &names {
            if data[*name].len() != observations {
                let message = format!(
                    "column `{name}` has {} numbers, column `{}` has {observations}",
                    data[*name].len(),
                    names[0]
                );
                return Err(ProblemError::Inconsistent(message));
            }
        }
        if parameters.is_empty() || observations < parameters.len() || starts.is_empty() {
            return Err(ProblemError::TooFew {
                observations,
                parameters: parameters.len(),
            });
        }
        check_size(observations, parameters.len().max(names.len()))?;
        let numbers = data.values().chain(&starts).flatten();
        if numbers.into_iter().any(|value| !value.is_finite()) {
            let message = "data and starting points must be finite".into();
            return Err(ProblemError::Inconsistent(message));
        }
        let variable = |name: &str| {
            let index = names.iter().position(|n| *n == name)?;
            Some(Symbol::Variable(index))
        };
        let either = |name: &str| {
            let parameter = parameters.iter().position(|p| p == name);
            parameter.map(Symbol::Parameter).or_else(|| variable(name))
        };
        Ok(Problem {
            response: Expression::parse(left, variable)?,
            prediction: Expression::parse(right, either)?,
            rows: (0..observations)
                .map(|row| names.iter().map(|name| data[*name][row]).collect())
                .collect(),
            parameters,
            starts,
        })
    }

    /// Reads the problem from JSON.
    ///
    /// # Errors
    ///
    /// [`ProblemError::Decode`], and the errors of [`Problem::new`].
    pub fn from_json(input: &[u8]) -> Result<Problem, ProblemError> {
        let input = serde_json::from_slice(input);
        Problem::from_input(input.map_err(|error| ProblemError::Decode(error.to_string()))?)
    }

    /// Reads the problem from CBOR.
    ///
    /// # Errors
    ///
    /// [`ProblemError::Decode`], and the errors of [`Problem::new`].
    pub fn from_cbor(input: &[u8]) -> Result<Problem, ProblemError> {
        let input = ciborium::from_reader(input);
        Problem::from_input(
            input
                .map_err(|error: ciborium::de::Error<_>| ProblemError::Decode(error.to_string()))?,
        )
    }

    fn from_input(input: Input) -> Result<Problem, ProblemError> {
        let starts = match input.start {
            Starts::One(start) => vec![start],
            Starts::Several(starts) => starts,
        };
        let parameters: Vec<String> = starts
            .first()
            .map(|start| start.keys().cloned().collect())
            .unwrap_or_default();
        if starts
            .iter()
            .any(|start| !start.keys().eq(parameters.iter()))
        {
            let message = "the starting points name different parameters".into();
            return Err(ProblemError::Inconsistent(message));
        }
        Problem::new(
            &input.model,
            parameters,
            input
                .data
                .into_iter()
                .map(|(name, array)| (name, array.0))
                .collect(),
            starts
                .into_iter()
                .map(|start| start.into_values().collect())
                .collect(),
        )
    }
}

/// Refuses what would take too much memory.
pub(crate) fn check_size(rows: usize, columns: usize) -> Result<(), ProblemError> {
    match rows.checked_mul(columns) {
        Some(elements) if elements <= MAX_ELEMENTS => Ok(()),
        _ => Err(ProblemError::TooLarge { rows, columns }),
    }
}
