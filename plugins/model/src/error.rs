//! What can be wrong with a model file.

use crate::nl::NlClass;

/// Why a model file could not be read. Lines are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The text breaks the format's grammar; mend the file at that line.
    #[error("line {line}: expected {expected}, found {found}")]
    Expected {
        /// Where.
        line: usize,
        /// What the format allows there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// A row, column or section is named that the file has not declared.
    #[error("line {line}: unknown {kind} `{name}`")]
    Unknown {
        /// Where.
        line: usize,
        /// What the name should stand for, such as "row".
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// Something is declared twice, and the two could contradict each other.
    #[error("line {line}: {kind} `{name}` appears twice")]
    Duplicate {
        /// Where the second one is.
        line: usize,
        /// What appears twice, such as "row".
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The file is valid, but uses a feature that no plugin solves; reformulate
    /// the model without it.
    #[error("line {line}: {feature} not supported")]
    Unsupported {
        /// Where the feature is first used.
        line: usize,
        /// The feature, with its verb, such as "semi-continuous variables are".
        feature: String,
    },
    /// The file ends before the model is complete; it may have been truncated.
    #[error("line {line}: the file ends where {expected} was expected")]
    UnexpectedEnd {
        /// The last line.
        line: usize,
        /// What is missing.
        expected: String,
    },
    /// What any of the above says of a line, of a binary file. Offsets are
    /// counted in bytes from 0.
    #[error("byte {offset}: {problem}")]
    AtByte {
        /// Where the reader stood when it saw the problem.
        offset: usize,
        /// What is expected there, and what is found.
        problem: String,
    },
    /// The file is a valid model, but of a class that a [`Model`](crate::Model)
    /// cannot hold; solve it with a plugin for that class.
    #[error("this is a {class}")]
    Class {
        /// What kind of program it is.
        class: NlClass,
    },
    /// The bytes are in none of the formats that the reader knows.
    #[error("unknown file format: expected {expected}")]
    UnknownFormat {
        /// The formats that would be accepted.
        expected: &'static str,
    },
}

impl ReadError {
    /// Shorthand for [`ReadError::Expected`]; long findings are cut, so that
    /// a binary file does not fill the screen.
    pub fn expected(line: usize, expected: impl Into<String>, found: &str) -> Self {
        // Long enough for any sensible name, short enough for one line of text.
        const SHOWN: usize = 60;
        let mut shown: String = found.chars().take(SHOWN).collect();
        if found.chars().nth(SHOWN).is_some() {
            shown.push('…');
        }
        ReadError::Expected {
            line,
            expected: expected.into(),
            found: if shown.is_empty() {
                "nothing".into()
            } else {
                format!("`{shown}`")
            },
        }
    }
}
