//! What a plugin says about itself: the file `plugin.toml` in its folder.

use serde::Deserialize;

/// The manifest of a plugin.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Its name, as in `linear`.
    pub name: String,
    /// One line about it.
    pub summary: String,
    /// The problems that it solves, and the method.
    pub solves: String,
    /// The file formats that it reads.
    pub formats: Vec<String>,
    /// What the solution contains besides status, objective and values.
    pub returns: String,
    /// The software that does the work, with its upstream version.
    pub solver: String,
    /// Licence of that software, as an SPDX expression.
    pub licence: String,
    /// How its solves may end: values of the solution's `status`.
    pub statuses: Vec<String>,
    /// What it cannot do.
    #[serde(default)]
    pub limits: String,
    /// Whether the solver has options beyond those listed, of which it says itself whether it takes
    /// them.
    #[serde(default)]
    pub other_options: bool,
    /// What is linked into the module and is no crate.
    #[serde(default)]
    pub linked: Vec<Linked>,
    /// Its options.
    #[serde(default, rename = "option")]
    pub options: Vec<OptionSpec>,
}

/// Software that is linked into a plugin's module.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linked {
    /// Its name; of a crate that on crates.io.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its licence, as an SPDX expression.
    pub licence: String,
}

/// An option of a plugin.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptionSpec {
    /// Its name.
    pub name: String,
    /// What it takes.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Its value where it is not given; absent where that means "off" or "no limit".
    #[serde(default)]
    pub default: Option<toml::Value>,
    /// Least value of a number or integer.
    #[serde(default)]
    pub min: Option<f64>,
    /// Greatest value of a number or integer.
    #[serde(default)]
    pub max: Option<f64>,
    /// The words of a choice.
    #[serde(default)]
    pub choices: Vec<String>,
    /// One line about it.
    pub about: String,
}

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A real number.
    Number,
    /// A whole number.
    Integer,
    /// `true`, `on`, `yes` or `1`, or their opposites.
    Switch,
    /// Any text.
    Text,
    /// One of some words.
    Choice,
}

impl Kind {
    /// The name in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Number => "number",
            Kind::Integer => "integer",
            Kind::Switch => "switch",
            Kind::Text => "text",
            Kind::Choice => "choice",
        }
    }
}

/// Why an option cannot be sent to a plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The plugin has no such option; `nearest` may be what was meant.
    #[error("plugin {plugin} has no option `{name}`{}", did_you_mean(.nearest))]
    UnknownOption {
        /// The plugin.
        plugin: String,
        /// What was asked for.
        name: String,
        /// The option whose name is most alike, if one is alike at all.
        nearest: Option<String>,
    },
    /// The value is not one that the option takes.
    #[error("option {name}={value}: expected {expected}")]
    Value {
        /// The option.
        name: String,
        /// Its value.
        value: String,
        /// What it takes.
        expected: String,
    },
}

fn did_you_mean(nearest: &Option<String>) -> String {
    match nearest {
        Some(nearest) => format!(": did you mean `{nearest}`?"),
        None => String::new(),
    }
}

/// Names less alike than this are not offered; the similarity is Jaro and Winkler's, and the value
/// that of clap for misspelt arguments.
const ALIKE: f64 = 0.7;
/// A name so much like one that is listed is a misspelling of it, even where others are taken, as
/// `max_itr` is (0.975). No option of Ipopt that is not listed is as much like one that is (0.967).
const MISSPELT: f64 = 0.97;

impl Manifest {
    /// The option of that name.
    pub fn option(&self, name: &str) -> Option<&OptionSpec> {
        self.options.iter().find(|option| option.name == name)
    }

    /// Checks that the plugin takes the option, and the option the value. Of a plugin with other
    /// options only misspelt names are refused here.
    ///
    /// # Errors
    ///
    /// [`ManifestError`].
    pub fn check(&self, name: &str, value: &str) -> Result<(), ManifestError> {
        let Some(option) = self.option(name) else {
            let likeness = |option: &OptionSpec| strsim::jaro_winkler(&option.name, name);
            let nearest = self
                .options
                .iter()
                .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
            if self.other_options && nearest.is_none_or(|option| likeness(option) < MISSPELT) {
                return Ok(());
            }
            let nearest = nearest.filter(|option| likeness(option) > ALIKE);
            return Err(ManifestError::UnknownOption {
                plugin: self.name.clone(),
                name: name.to_owned(),
                nearest: nearest.map(|option| option.name.clone()),
            });
        };
        if option.takes(value) {
            return Ok(());
        }
        Err(ManifestError::Value {
            name: name.to_owned(),
            value: value.to_owned(),
            expected: option.expected(),
        })
    }
}

impl OptionSpec {
    /// Whether `value` is one that it takes.
    pub fn takes(&self, value: &str) -> bool {
        let within = |number: f64| {
            self.min.is_none_or(|min| number >= min) && self.max.is_none_or(|max| number <= max)
        };
        match self.kind {
            Kind::Number => value
                .parse()
                .is_ok_and(|number: f64| !number.is_nan() && within(number)),
            Kind::Integer => value
                .parse()
                .is_ok_and(|number: i128| within(number as f64)),
            Kind::Switch => ["true", "on", "yes", "1", "false", "off", "no", "0"].contains(&value),
            Kind::Text => true,
            Kind::Choice => self.choices.iter().any(|choice| choice == value),
        }
    }

    /// What it takes, in words.
    pub fn expected(&self) -> String {
        let what = match self.kind {
            Kind::Number => "a number",
            Kind::Integer => "an integer",
            Kind::Switch => return "true or false".to_owned(),
            Kind::Text => return "text".to_owned(),
            Kind::Choice => return format!("one of {}", self.choices.join(", ")),
        };
        match (self.min, self.max) {
            (Some(min), Some(max)) => format!("{what} from {min} to {max}"),
            (Some(min), None) => format!("{what} from {min}"),
            (None, Some(max)) => format!("{what} up to {max}"),
            (None, None) => what.to_owned(),
        }
    }

    /// Its default as text; empty where there is none.
    pub fn default_text(&self) -> String {
        match &self.default {
            Some(toml::Value::String(text)) => text.clone(),
            Some(toml::Value::Float(number)) => number.to_string(),
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = r#"
        name = "example"
        summary = "An example"
        solves = "nothing"
        formats = ["none"]
        returns = "nothing"
        solver = "none 1.0"
        licence = "MIT"
        statuses = ["optimal"]
        [[option]]
        name = "mip_rel_gap"
        type = "number"
        default = 1e-4
        min = 0.0
        about = "Gap"
        [[option]]
        name = "method"
        type = "choice"
        default = "a"
        choices = ["a", "b"]
        about = "Method"
        [[option]]
        name = "nodes"
        type = "integer"
        min = 0
        max = 9
        about = "Nodes"
    "#;

    #[test]
    fn options_are_checked_and_the_nearest_is_offered() {
        let manifest: Manifest = toml::from_str(EXAMPLE).unwrap();
        assert_eq!(manifest.check("mip_rel_gap", "0.01"), Ok(()));
        assert_eq!(manifest.check("method", "b"), Ok(()));
        assert_eq!(manifest.check("nodes", "9"), Ok(()));
        for (name, value, message) in [
            (
                "mip_gap",
                "1",
                "plugin example has no option `mip_gap`: did you mean `mip_rel_gap`?",
            ),
            ("qqq", "1", "plugin example has no option `qqq`"),
            (
                "mip_rel_gap",
                "-1",
                "option mip_rel_gap=-1: expected a number from 0",
            ),
            (
                "mip_rel_gap",
                "NaN",
                "option mip_rel_gap=NaN: expected a number from 0",
            ),
            ("method", "c", "option method=c: expected one of a, b"),
            (
                "nodes",
                "10",
                "option nodes=10: expected an integer from 0 to 9",
            ),
            (
                "nodes",
                "1.5",
                "option nodes=1.5: expected an integer from 0 to 9",
            ),
        ] {
            let error = manifest.check(name, value).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }
}
