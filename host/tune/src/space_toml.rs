//! Search spaces as TOML: a table for each parameter, see [`Space::from_toml`].
//!
//! The tables are taken apart by hand and not by serde, so that every error can name the parameter
//! and the key that was probably meant.

use std::collections::BTreeMap;

use toml::{Table, Value as Toml};

use crate::space::hint;
use crate::{Domain, Parameter, Space, SpaceError, Value};

const TYPES: [&str; 5] = ["float", "int", "categorical", "ordinal", "constant"];

impl Space {
    /// Reads a space from TOML that holds nothing else. A parameter is a table with a `type`.
    ///
    /// ```
    /// # use optwasm_tune::Space;
    /// let space = Space::from_toml(r#"
    /// [parameters.rate]
    /// type = "float"          # a real number, bounds included
    /// low = 1e-5
    /// high = 0.1
    /// log = true              # spread evenly on a logarithmic scale; default false
    ///
    /// [parameters.layers]
    /// type = "int"            # a whole number, bounds included; `log` as above
    /// low = 1
    /// high = 8
    ///
    /// [parameters.optimizer]
    /// type = "categorical"    # one of these, in no order: texts, numbers, truth values
    /// values = ["sgd", "adam"]
    ///
    /// [parameters.momentum]
    /// type = "float"
    /// low = 0.0
    /// high = 1.0
    /// when = { optimizer = ["sgd"] }   # exists only if all of these hold
    ///
    /// [parameters.batch]
    /// type = "ordinal"        # one of these, in their order
    /// values = [16, 32, 64]
    ///
    /// [parameters.epsilon]
    /// type = "constant"       # always this
    /// value = 1e-8
    /// "#)?;
    /// assert_eq!(space.parameters().len(), 6);
    /// # Ok::<(), optwasm_tune::SpaceError>(())
    /// ```
    ///
    /// # Errors
    /// The first thing that is wrong, with the parameter and the nearest correct key.
    pub fn from_toml(text: &str) -> Result<Self, SpaceError> {
        let table: Table = text
            .parse()
            .map_err(|error: toml::de::Error| SpaceError::Syntax(error.to_string()))?;
        if let Some(key) = table.keys().find(|key| *key != "parameters") {
            return Err(SpaceError::UnknownKey {
                place: "at the top".to_owned(),
                key: key.clone(),
                hint: hint(key, ["parameters"].into_iter()),
            });
        }
        match table.get("parameters") {
            Some(Toml::Table(parameters)) => Space::from_table(parameters),
            Some(other) => Err(wrong_kind(
                "at the top",
                "parameters",
                "tables of the form [parameters.NAME]",
                other,
            )),
            None => Err(SpaceError::Empty),
        }
    }

    /// Reads a space from the table `parameters` of a larger file.
    ///
    /// # Errors
    /// As [`Space::from_toml`].
    pub fn from_table(parameters: &Table) -> Result<Self, SpaceError> {
        let mut read = BTreeMap::new();
        for (name, value) in parameters {
            let Toml::Table(table) = value else {
                let expected = "a table with a `type`";
                return Err(wrong_kind("parameters", name, expected, value));
            };
            read.insert(name.clone(), parameter(name, table)?);
        }
        Space::new(read)
    }
}

fn parameter(name: &str, table: &Table) -> Result<Parameter, SpaceError> {
    let reader = Reader { name, table };
    let kind = reader.text("type")?;
    let (domain, keys): (_, &[&str]) = match kind {
        "float" => {
            let (low, high) = (reader.float("low")?, reader.float("high")?);
            let log = reader.flag("log")?;
            (Domain::Float { low, high, log }, &["low", "high", "log"])
        }
        "int" => {
            let (low, high) = (reader.int("low")?, reader.int("high")?);
            let log = reader.flag("log")?;
            (Domain::Int { low, high, log }, &["low", "high", "log"])
        }
        "categorical" => {
            let values = reader.values("values")?;
            (Domain::Categorical { values }, &["values"])
        }
        "ordinal" => {
            let values = reader.values("values")?;
            (Domain::Ordinal { values }, &["values"])
        }
        "constant" => {
            let value = reader.value("value", reader.get("value")?)?;
            (Domain::Constant { value }, &["value"])
        }
        other => {
            return Err(SpaceError::UnknownType {
                parameter: name.to_owned(),
                found: other.to_owned(),
                hint: hint(other, TYPES.into_iter()),
            });
        }
    };
    reader.check_keys(keys)?;
    let when = reader.when()?;
    Ok(Parameter { domain, when })
}

/// One parameter's table.
struct Reader<'a> {
    name: &'a str,
    table: &'a Table,
}

impl<'a> Reader<'a> {
    fn place(&self) -> String {
        format!("parameter `{}`", self.name)
    }

    /// The value of a key that must be there. If it is not, a key that nobody asked for is the
    /// better thing to complain about: it is the same one misspelt.
    fn get(&self, key: &'static str) -> Result<&'a Toml, SpaceError> {
        let known = ["type", "low", "high", "log", "values", "value", "when"];
        if let Some(value) = self.table.get(key) {
            return Ok(value);
        }
        self.check_keys(&known)?;
        Err(SpaceError::MissingKey {
            parameter: self.name.to_owned(),
            key,
        })
    }

    fn check_keys(&self, own: &[&str]) -> Result<(), SpaceError> {
        let is_known = |key: &str| own.contains(&key) || ["type", "when"].contains(&key);
        match self.table.keys().find(|key| !is_known(key)) {
            Some(key) => Err(SpaceError::UnknownKey {
                place: self.place(),
                key: key.clone(),
                hint: hint(key, own.iter().copied().chain(["type", "when"])),
            }),
            None => Ok(()),
        }
    }

    fn text(&self, key: &'static str) -> Result<&'a str, SpaceError> {
        let value = self.get(key)?;
        let text = value.as_str();
        text.ok_or_else(|| wrong_kind(&self.place(), key, "a text", value))
    }

    fn float(&self, key: &'static str) -> Result<f64, SpaceError> {
        match self.get(key)? {
            Toml::Float(float) => Ok(*float),
            Toml::Integer(int) => Ok(*int as f64),
            other => Err(wrong_kind(&self.place(), key, "a number", other)),
        }
    }

    fn int(&self, key: &'static str) -> Result<i64, SpaceError> {
        let value = self.get(key)?;
        let int = value.as_integer();
        int.ok_or_else(|| wrong_kind(&self.place(), key, "a whole number", value))
    }

    fn flag(&self, key: &'static str) -> Result<bool, SpaceError> {
        match self.table.get(key) {
            None => Ok(false),
            Some(Toml::Boolean(flag)) => Ok(*flag),
            Some(other) => Err(wrong_kind(&self.place(), key, "true or false", other)),
        }
    }

    fn values(&self, key: &'static str) -> Result<Vec<Value>, SpaceError> {
        let value = self.get(key)?;
        let list = value.as_array();
        let list = list.ok_or_else(|| wrong_kind(&self.place(), key, "a list", value))?;
        list.iter().map(|one| self.value(key, one)).collect()
    }

    fn value(&self, key: &str, value: &Toml) -> Result<Value, SpaceError> {
        match value {
            Toml::Boolean(value) => Ok(Value::Bool(*value)),
            Toml::Integer(value) => Ok(Value::Int(*value)),
            Toml::Float(value) => Ok(Value::Float(*value)),
            Toml::String(value) => Ok(Value::Text(value.clone())),
            other => Err(wrong_kind(
                &self.place(),
                key,
                "made of texts, numbers or truth values",
                other,
            )),
        }
    }

    fn when(&self) -> Result<BTreeMap<String, Vec<Value>>, SpaceError> {
        let Some(value) = self.table.get("when") else {
            return Ok(BTreeMap::new());
        };
        let wrong = |found| {
            let expected = "of the form { other = [\"value\"] }";
            wrong_kind(&self.place(), "when", expected, found)
        };
        let mut when = BTreeMap::new();
        for (other, values) in value.as_table().ok_or_else(|| wrong(value))? {
            let values = values.as_array().ok_or_else(|| wrong(values))?;
            let values: Result<_, _> = values.iter().map(|one| self.value("when", one)).collect();
            when.insert(other.clone(), values?);
        }
        Ok(when)
    }
}

fn wrong_kind(place: &str, key: &str, expected: &'static str, found: &Toml) -> SpaceError {
    SpaceError::WrongKind {
        place: place.to_owned(),
        key: key.to_owned(),
        expected,
        found: found.type_str().to_owned(),
    }
}
