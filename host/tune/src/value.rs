//! Values of parameters and the configurations made of them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The value of one parameter. As JSON it is just the value: `true`, `3`, `0.5`, `"adam"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A real number; finite in every valid configuration.
    Float(f64),
    /// A text.
    Text(String),
}

impl Value {
    /// The same value as another kind where nothing is lost: programs that have one kind of number
    /// write `1` for `1.0` and the other way round.
    pub(crate) fn means(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Int(int), Value::Float(float)) | (Value::Float(float), Value::Int(int)) => {
                exact_int(*float) == Some(*int)
            }
            (one, other) => one == other,
        }
    }
}

/// The whole number that this is, if it is one and every whole number near it has its own float.
pub(crate) fn exact_int(float: f64) -> Option<i64> {
    // 2^53: beyond it a float does not say which whole number was meant.
    let exact = float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0;
    exact.then_some(float as i64)
}

/// As it is written in JSON, texts with their quotes.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bool(value) => write!(f, "{value}"),
            Value::Int(value) => write!(f, "{value}"),
            Value::Float(value) => write!(f, "{value:?}"),
            Value::Text(value) => write!(f, "{value:?}"),
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::Int(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Value::Float(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Value::Text(value)
    }
}

/// The active parameters of one evaluation with their values, ordered by name.
pub type Config = BTreeMap<String, Value>;
