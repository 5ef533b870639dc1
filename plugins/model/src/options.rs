//! Options of a solve, as the arguments of the job: `name=value`, one each.
//!
//! A plugin *takes* each option it knows, with its default, and then
//! [finishes](Options::finish): what nobody took is an error, so that a
//! misspelt option never passes unnoticed. The manifest of a plugin
//! (`plugin.toml`) tells callers the same names, types and defaults, so that
//! they find mistakes before they send anything.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

/// What is wrong with an option.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// An argument is not of the form `name=value`.
    #[error("`{0}` is not an option of the form name=value")]
    Form(String),
    /// The plugin has no such option; its manifest lists those it has.
    #[error("there is no option `{0}`")]
    Unknown(String),
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

impl OptionError {
    /// Shorthand for [`OptionError::Value`].
    pub fn value(name: &str, value: impl Display, expected: impl Into<String>) -> Self {
        OptionError::Value {
            name: name.to_owned(),
            value: value.to_string(),
            expected: expected.into(),
        }
    }
}

/// The options that a job was given and that have not been taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    given: BTreeMap<String, String>,
}

impl Options {
    /// Reads arguments of the form `name=value`. Of a name that appears twice
    /// the last value counts.
    ///
    /// # Errors
    ///
    /// [`OptionError::Form`].
    pub fn parse(
        arguments: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, OptionError> {
        let mut given = BTreeMap::new();
        for argument in arguments {
            let argument = argument.as_ref();
            match argument.split_once('=') {
                Some((name, value)) if !name.is_empty() => {
                    given.insert(name.to_owned(), value.to_owned());
                }
                _ => return Err(OptionError::Form(argument.to_owned())),
            }
        }
        Ok(Self { given })
    }

    /// The options that this process was started with: `argv[1..]`.
    ///
    /// # Errors
    ///
    /// [`OptionError::Form`].
    pub fn of_job() -> Result<Self, OptionError> {
        Self::parse(std::env::args().skip(1))
    }

    /// Adds arguments, which count more than those given before.
    ///
    /// # Errors
    ///
    /// [`OptionError::Form`].
    pub fn extend(
        &mut self,
        arguments: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<(), OptionError> {
        self.given.extend(Self::parse(arguments)?.given);
        Ok(())
    }

    /// Takes the text of the option `name`, if it was given.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.given.remove(name)
    }

    /// Takes the option `name`, or `default` where it was not given. A value
    /// must parse as a `T` and lie in `range`; of numbers that shuts out NaN.
    ///
    /// # Errors
    ///
    /// [`OptionError::Value`].
    pub fn number<T>(
        &mut self,
        name: &str,
        range: std::ops::RangeInclusive<T>,
        default: T,
    ) -> Result<T, OptionError>
    where
        T: FromStr + PartialOrd + Display,
    {
        let Some(text) = self.text(name) else {
            return Ok(default);
        };
        text.parse()
            .ok()
            .filter(|value| range.contains(value))
            .ok_or_else(|| {
                let expected = format!("a number from {} to {}", range.start(), range.end());
                OptionError::value(name, &text, expected)
            })
    }

    /// Takes a switch: `true`, `on`, `yes` or `1`, or their opposites.
    ///
    /// # Errors
    ///
    /// [`OptionError::Value`].
    pub fn switch(&mut self, name: &str, default: bool) -> Result<bool, OptionError> {
        match self.text(name).as_deref() {
            None => Ok(default),
            Some("true" | "on" | "yes" | "1") => Ok(true),
            Some("false" | "off" | "no" | "0") => Ok(false),
            Some(other) => Err(OptionError::value(name, other, "true or false")),
        }
    }

    /// Takes one of several words, or `default` where the option was not given.
    ///
    /// # Errors
    ///
    /// [`OptionError::Value`].
    pub fn choice<T: Copy>(
        &mut self,
        name: &str,
        choices: &[(&str, T)],
        default: T,
    ) -> Result<T, OptionError> {
        let Some(text) = self.text(name) else {
            return Ok(default);
        };
        let found = choices.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            OptionError::value(name, &text, format!("one of {}", words.join(", ")))
        })
    }

    /// Takes all that are left, for a solver that knows its options itself.
    pub fn rest(self) -> impl Iterator<Item = (String, String)> {
        self.given.into_iter()
    }

    /// Ends the taking.
    ///
    /// # Errors
    ///
    /// [`OptionError::Unknown`] if an option is left that was not taken.
    pub fn finish(self) -> Result<(), OptionError> {
        match self.given.into_keys().next() {
            None => Ok(()),
            Some(name) => Err(OptionError::Unknown(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_taken_once_and_checked() {
        let arguments = ["tol=1e-6", "log=yes", "method=ipm", "n=3", "n=4"];
        let mut options = Options::parse(arguments).unwrap();
        assert_eq!(options.number("tol", 0.0..=1.0, 0.5), Ok(1e-6));
        assert_eq!(options.number("tol", 0.0..=1.0, 0.5), Ok(0.5));
        assert_eq!(options.switch("log", false), Ok(true));
        assert_eq!(options.switch("quiet", true), Ok(true));
        let methods = [("simplex", 1), ("ipm", 2)];
        assert_eq!(options.choice("method", &methods, 1), Ok(2));
        assert_eq!(
            options.clone().finish(),
            Err(OptionError::Unknown("n".into()))
        );
        assert_eq!(options.number("n", 1..=9, 1), Ok(4));
        assert_eq!(options.finish(), Ok(()));
    }

    #[test]
    fn wrong_values_say_what_is_right() {
        assert_eq!(
            Options::parse(["nonsense"]).unwrap_err().to_string(),
            "`nonsense` is not an option of the form name=value"
        );
        assert!(Options::parse(["=1"]).is_err());
        let mut options = Options::parse(["a=1", "b=1"]).unwrap();
        options.extend(["b=2"]).unwrap();
        assert_eq!(options.text("b").as_deref(), Some("2"));
        assert!(options.extend(["c"]).is_err());
        let mut options = Options::parse(["tol=NaN", "n=-1", "m=x", "s=perhaps"]).unwrap();
        let error = options.number("tol", 0.0..=1.0, 0.5).unwrap_err();
        assert_eq!(
            error.to_string(),
            "option tol=NaN: expected a number from 0 to 1"
        );
        assert!(options.number("n", 0..=9, 1).is_err());
        let error = options.choice("m", &[("a", 1), ("b", 2)], 1).unwrap_err();
        assert_eq!(error.to_string(), "option m=x: expected one of a, b");
        assert!(options.switch("s", true).is_err());
    }
}
