//! Lines of the time and stoch files.

use crate::ProblemError;

/// A line with something in it.
pub(super) struct Line<'a> {
    /// Its number, from 1.
    pub number: usize,
    /// Whether it starts a section: it begins in the first column.
    pub is_header: bool,
    /// Its words.
    pub words: Vec<&'a str>,
}

/// The lines that are neither empty nor comments.
pub(super) fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    text.lines().enumerate().filter_map(|(index, raw)| {
        let words: Vec<&str> = raw.split_whitespace().collect();
        let is_comment = words.first().is_none_or(|word| word.starts_with('*'));
        (!is_comment).then(|| Line {
            number: index + 1,
            is_header: !raw.starts_with([' ', '\t']),
            words,
        })
    })
}

/// A file of which errors are made.
#[derive(Clone, Copy)]
pub(super) struct Source<'a>(pub &'a str);

impl Source<'_> {
    pub fn wrong(self, line: usize, problem: impl Into<String>) -> ProblemError {
        ProblemError::Line {
            file: self.0.to_owned(),
            line,
            problem: problem.into(),
        }
    }

    pub fn expected(self, line: usize, what: &str, found: &[&str]) -> ProblemError {
        // Enough to find it, and no more of a file that is something else.
        let found: String = found.join(" ").chars().take(60).collect();
        self.wrong(line, format!("expected {what}, found `{found}`"))
    }

    pub fn unsupported(self, line: usize, feature: impl Into<String>) -> ProblemError {
        ProblemError::Unsupported {
            file: self.0.to_owned(),
            line,
            feature: feature.into(),
        }
    }

    /// A finite number, perhaps with Fortran's exponent letter.
    pub fn number(self, line: usize, text: &str) -> Result<f64, ProblemError> {
        let parsed = text.replace(['d', 'D'], "e").parse::<f64>();
        match parsed {
            Ok(value) if value.is_finite() => Ok(value),
            _ => Err(self.expected(line, "a finite number", &[text])),
        }
    }

    /// A probability.
    pub fn probability(self, line: usize, text: &str) -> Result<f64, ProblemError> {
        match self.number(line, text)? {
            p if p > 0.0 && p <= 1.0 => Ok(p),
            _ => Err(self.expected(line, "a probability above 0 and at most 1", &[text])),
        }
    }
}
