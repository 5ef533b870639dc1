//! Search spaces: which parameters there are, what values they may have, and when they exist.
//!
//! A [`Space`] is built once, by [`Space::new`] or from TOML ([`Space::from_toml`]), and is valid
//! from then on: bounds are in order, values are finite and distinct, every condition names another
//! parameter and values that it can have, and conditions do not run in a circle.
//!
//! A parameter is *active* in a configuration if all its conditions hold; a condition on a
//! parameter that is itself inactive does not hold. A configuration has a value for every active
//! parameter and for no other: [`Space::accept`] is the one place that says so.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use thiserror::Error;

use crate::value::exact_int;
use crate::{Config, Value};

/// What values a parameter may have.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Domain {
    /// A real number from `low` to `high`, both included.
    Float {
        /// The least value.
        low: f64,
        /// The greatest value, above `low`.
        high: f64,
        /// Whether the logarithm is what is spread evenly; `low` is above 0 then.
        log: bool,
    },
    /// A whole number from `low` to `high`, both included.
    Int {
        /// The least value.
        low: i64,
        /// The greatest value, above `low`.
        high: i64,
        /// Whether the logarithm is what is spread evenly; `low` is above 0 then.
        log: bool,
    },
    /// One of several values without an order.
    Categorical {
        /// The values, at least one, no two the same.
        values: Vec<Value>,
    },
    /// One of several values in an order that means something: neighbours are alike.
    Ordinal {
        /// The values in their order, at least one, no two the same.
        values: Vec<Value>,
    },
    /// Always the same value.
    Constant {
        /// It.
        value: Value,
    },
}

/// One parameter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Parameter {
    /// What values it may have.
    #[serde(flatten)]
    pub domain: Domain,
    /// When it exists: each of these parameters is active and has one of these values. Empty means
    /// always.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub when: BTreeMap<String, Vec<Value>>,
}

impl Parameter {
    /// A parameter without conditions.
    pub fn new(domain: Domain) -> Self {
        Parameter {
            domain,
            when: BTreeMap::new(),
        }
    }

    /// The parameter under one more condition: `other` is active and has one of `values`.
    pub fn when<V: Into<Value>>(
        mut self,
        other: impl Into<String>,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        let values = values.into_iter().map(Into::into).collect();
        self.when.insert(other.into(), values);
        self
    }
}

/// The parameters of a search; see the module's documentation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Space {
    parameters: BTreeMap<String, Parameter>,
    /// The names in an order in which conditions only look back.
    #[serde(skip)]
    order: Vec<String>,
}

/// Why a space is not one. The text names the parameter.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum SpaceError {
    /// The text is not TOML at all; the message says where.
    #[error("not valid TOML: {0}")]
    Syntax(String),
    /// There is no parameter to search over.
    #[error("a space needs at least one parameter, as a table [parameters.NAME]")]
    Empty,
    /// A key outside the parameters, or one that parameters of this type do not have.
    #[error("{place}: unknown key `{key}`{hint}")]
    UnknownKey {
        /// The parameter, or the top of the file.
        place: String,
        /// The key.
        key: String,
        /// The nearest correct key, or all of them, as a text to append.
        hint: String,
    },
    /// A type that does not exist.
    #[error("parameter `{parameter}`: unknown type `{found}`{hint}")]
    UnknownType {
        /// The parameter.
        parameter: String,
        /// What stood there.
        found: String,
        /// The nearest correct type, or all of them, as a text to append.
        hint: String,
    },
    /// A key that parameters of this type must have.
    #[error("parameter `{parameter}`: key `{key}` is missing")]
    MissingKey {
        /// The parameter.
        parameter: String,
        /// The key.
        key: &'static str,
    },
    /// The value of a key is of the wrong kind.
    #[error("{place}: `{key}` must be {expected}, not {found}")]
    WrongKind {
        /// The parameter, or the top of the file.
        place: String,
        /// The key.
        key: String,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// Bounds that are not finite or not in order, or not above 0 on a logarithmic scale.
    #[error("parameter `{parameter}`: {why}")]
    Bounds {
        /// The parameter.
        parameter: String,
        /// What is wrong with them.
        why: &'static str,
    },
    /// No values, one that is not finite, or one that stands there twice.
    #[error("parameter `{parameter}`: {why}")]
    Values {
        /// The parameter.
        parameter: String,
        /// What is wrong with them.
        why: String,
    },
    /// A condition that can never hold or names what is not there.
    #[error("parameter `{parameter}`: condition on `{other}`: {why}")]
    Condition {
        /// The parameter that has the condition.
        parameter: String,
        /// The parameter that the condition is on.
        other: String,
        /// What is wrong with it.
        why: String,
    },
    /// Parameters whose conditions wait for each other.
    #[error("conditions run in a circle: {}", .0.join(" -> "))]
    Circle(Vec<String>),
}

/// Why a configuration is not one of a space. The text names the parameter.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ConfigError {
    /// The space has no such parameter.
    #[error("unknown parameter `{name}`{hint}")]
    Unknown {
        /// The name.
        name: String,
        /// The nearest parameter, or all of them, as a text to append.
        hint: String,
    },
    /// An active parameter has no value.
    #[error("parameter `{0}` is missing")]
    Missing(String),
    /// A parameter has a value although its conditions do not hold.
    #[error("parameter `{0}` has a value, but its conditions do not hold")]
    Inactive(String),
    /// A value that the parameter may not have.
    #[error("parameter `{name}` cannot be {value}: {why}")]
    Outside {
        /// The parameter.
        name: String,
        /// The value.
        value: Value,
        /// What it may be.
        why: String,
    },
}

impl Space {
    /// A space of these parameters.
    ///
    /// # Errors
    /// Whatever is wrong with the first wrong parameter by name; circles come last.
    pub fn new(parameters: BTreeMap<String, Parameter>) -> Result<Self, SpaceError> {
        if parameters.is_empty() {
            return Err(SpaceError::Empty);
        }
        for (name, parameter) in &parameters {
            check_domain(name, &parameter.domain)?;
            for (other, values) in &parameter.when {
                check_condition(name, other, values, &parameters)?;
            }
        }
        let order = in_order(&parameters)?;
        Ok(Space { parameters, order })
    }

    /// All parameters by name.
    pub fn parameters(&self) -> &BTreeMap<String, Parameter> {
        &self.parameters
    }

    /// Name and parameter, each after those that its conditions are on.
    pub fn in_order(&self) -> impl Iterator<Item = (&str, &Parameter)> {
        self.order.iter().filter_map(|name| {
            let parameter = self.parameters.get(name)?;
            Some((name.as_str(), parameter))
        })
    }

    /// Whether a parameter is active beside these values, which hold all active parameters that its
    /// conditions are on.
    pub fn is_active(&self, parameter: &Parameter, config: &Config) -> bool {
        parameter.when.iter().all(|(other, values)| {
            let found = config.get(other);
            found.is_some_and(|found| values.iter().any(|value| value.means(found)))
        })
    }

    /// A configuration of this space with each value as the kind that its parameter has: `1`
    /// becomes `1.0` for a float, `3.0` becomes `3` for an int.
    ///
    /// # Errors
    /// A parameter that is unknown, missing, inactive or outside of its domain.
    pub fn accept(&self, config: &Config) -> Result<Config, ConfigError> {
        let unknown = config
            .keys()
            .find(|name| !self.parameters.contains_key(*name));
        if let Some(name) = unknown {
            return Err(ConfigError::Unknown {
                name: name.clone(),
                hint: hint(name, self.parameters.keys().map(String::as_str)),
            });
        }
        let mut accepted = Config::new();
        for (name, parameter) in self.in_order() {
            match (config.get(name), self.is_active(parameter, &accepted)) {
                (Some(value), true) => {
                    let value = parameter.domain.accept(value).map_err(|why| {
                        let (name, value) = (name.to_owned(), value.clone());
                        ConfigError::Outside { name, value, why }
                    })?;
                    accepted.insert(name.to_owned(), value);
                }
                (None, true) => return Err(ConfigError::Missing(name.to_owned())),
                (Some(_), false) => return Err(ConfigError::Inactive(name.to_owned())),
                (None, false) => {}
            }
        }
        Ok(accepted)
    }
}

impl Domain {
    /// The value as the kind that it has here, or what it may be.
    pub(crate) fn accept(&self, value: &Value) -> Result<Value, String> {
        match self {
            Domain::Float { low, high, .. } => {
                let float = match value {
                    Value::Float(float) => Some(*float),
                    Value::Int(int) => Some(*int as f64),
                    Value::Bool(_) | Value::Text(_) => None,
                };
                float
                    .filter(|float| (low..=high).contains(&float))
                    .map(Value::Float)
                    .ok_or_else(|| format!("it is a number from {low:?} to {high:?}"))
            }
            Domain::Int { low, high, .. } => {
                let int = match value {
                    Value::Int(int) => Some(*int),
                    Value::Float(float) => exact_int(*float),
                    Value::Bool(_) | Value::Text(_) => None,
                };
                int.filter(|int| (low..=high).contains(&int))
                    .map(Value::Int)
                    .ok_or_else(|| format!("it is a whole number from {low} to {high}"))
            }
            Domain::Categorical { values } | Domain::Ordinal { values } => values
                .iter()
                .find(|one| one.means(value))
                .cloned()
                .ok_or_else(|| format!("it is one of {}", list(values))),
            Domain::Constant { value: only } => {
                let same = only.means(value).then(|| only.clone());
                same.ok_or_else(|| format!("it is always {only}"))
            }
        }
    }
}

fn check_domain(parameter: &str, domain: &Domain) -> Result<(), SpaceError> {
    let bounds = |why| {
        let parameter = parameter.to_owned();
        Err(SpaceError::Bounds { parameter, why })
    };
    match domain {
        Domain::Float { low, high, log } => {
            if !(low.is_finite() && high.is_finite() && (high - low).is_finite()) {
                return bounds("`low`, `high` and their difference must be finite");
            }
            check_order(low < high, *log && *low <= 0.0).or_else(bounds)
        }
        Domain::Int { low, high, log } => {
            check_order(low < high, *log && *low <= 0).or_else(bounds)
        }
        Domain::Categorical { values } | Domain::Ordinal { values } => {
            check_values(parameter, values)
        }
        Domain::Constant { value } => check_values(parameter, std::slice::from_ref(value)),
    }
}

fn check_order(in_order: bool, log_of_nothing: bool) -> Result<(), &'static str> {
    if !in_order {
        return Err("`low` must be below `high` (for a single value use type = \"constant\")");
    }
    if log_of_nothing {
        return Err("`low` must be above 0 with `log = true`");
    }
    Ok(())
}

fn check_values(parameter: &str, values: &[Value]) -> Result<(), SpaceError> {
    let wrong = |why| {
        let parameter = parameter.to_owned();
        Err(SpaceError::Values { parameter, why })
    };
    if values.is_empty() {
        return wrong("`values` must not be empty".to_owned());
    }
    for (index, value) in values.iter().enumerate() {
        if matches!(value, Value::Float(float) if !float.is_finite()) {
            return wrong(format!("{value} is not a finite number"));
        }
        if values.iter().take(index).any(|other| other.means(value)) {
            return wrong(format!("{value} stands in `values` twice"));
        }
    }
    Ok(())
}

fn check_condition(
    parameter: &str,
    other: &str,
    values: &[Value],
    parameters: &BTreeMap<String, Parameter>,
) -> Result<(), SpaceError> {
    let wrong = |why| {
        let (parameter, other) = (parameter.to_owned(), other.to_owned());
        Err(SpaceError::Condition {
            parameter,
            other,
            why,
        })
    };
    let Some(on) = parameters.get(other) else {
        let names = parameters.keys().map(String::as_str);
        let hint = hint(other, names.filter(|name| *name != parameter));
        return wrong(format!("there is no such parameter{hint}"));
    };
    if matches!(on.domain, Domain::Float { .. }) {
        return wrong("a float has no values to name".to_owned());
    }
    if values.is_empty() {
        return wrong("it names no values".to_owned());
    }
    for value in values {
        if let Err(why) = on.domain.accept(value) {
            return wrong(format!("it cannot be {value}: {why}"));
        }
    }
    Ok(())
}

/// The names such that each stands after those that its conditions are on; among equals by name.
fn in_order(parameters: &BTreeMap<String, Parameter>) -> Result<Vec<String>, SpaceError> {
    let mut order = Vec::with_capacity(parameters.len());
    let mut placed = BTreeSet::new();
    while order.len() < parameters.len() {
        let before = order.len();
        for (name, parameter) in parameters {
            let ready = parameter.when.keys().all(|other| placed.contains(other));
            if ready && placed.insert(name) {
                order.push(name.clone());
            }
        }
        if order.len() == before {
            return Err(SpaceError::Circle(circle(parameters, &placed)));
        }
    }
    Ok(order)
}

/// One circle among the parameters that could not be placed, its first name again at the end.
fn circle(parameters: &BTreeMap<String, Parameter>, placed: &BTreeSet<&String>) -> Vec<String> {
    let waits_for = |name: &String| {
        let when = parameters.get(name).map(|parameter| &parameter.when);
        when.and_then(|when| when.keys().find(|other| !placed.contains(other)))
    };
    let mut walk: Vec<&String> = Vec::new();
    let mut next = parameters.keys().find(|name| !placed.contains(name));
    while let Some(name) = next {
        if let Some(start) = walk.iter().position(|seen| *seen == name) {
            let mut names: Vec<String> = walk.split_off(start).into_iter().cloned().collect();
            names.push(name.clone());
            return names;
        }
        walk.push(name);
        next = waits_for(name);
    }
    walk.into_iter().cloned().collect()
}

/// "; did you mean X?" if a name is near, or else all of them.
pub(crate) fn hint<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let nearest = names
        .iter()
        .map(|name| (strsim::damerau_levenshtein(wrong, name), *name))
        .min();
    match nearest {
        // A third of the letters wrong, and at least two, is what typing errors come to.
        Some((distance, name)) if distance <= 2.max(wrong.chars().count() / 3) => {
            format!("; did you mean `{name}`?")
        }
        Some(_) => format!("; there is {}", names.join(", ")),
        None => String::new(),
    }
}

fn list(values: &[Value]) -> String {
    let texts: Vec<String> = values.iter().map(Value::to_string).collect();
    texts.join(", ")
}
