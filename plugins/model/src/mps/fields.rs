//! The fields of a line of an MPS file.

use super::Section;
use crate::{ReadError, Sense};

/// How fields are told apart.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Layout {
    Free,
    Fixed,
}

/// Splits a data line, so that both layouts give the same fields.
pub(super) fn split(raw: &str, layout: Layout, section: Section) -> Vec<&str> {
    match layout {
        Layout::Free => {
            let mut fields: Vec<&str> = raw.split_whitespace().collect();
            // A comment may follow where a name or the line's end is due.
            let names = if section == Section::Rows { 2 } else { 3 };
            if let Some(comment) = fields
                .iter()
                .skip(names)
                .position(|field| field.starts_with(['$', '*']))
            {
                fields.truncate(names + comment);
            }
            // The name of an RHS, RANGES or BOUNDS set may be left out.
            let nameless = match section {
                Section::Rhs | Section::Ranges => fields.len().is_multiple_of(2),
                _ => false,
            };
            if nameless {
                fields.insert(0, "");
            }
            fields
        }
        Layout::Fixed => {
            // Columns 2-3, 5-12, 15-22, 25-36, 40-47 and 50-61, from 1.
            const COLUMNS: [(usize, usize); 6] =
                [(1, 4), (4, 14), (14, 24), (24, 39), (39, 49), (49, 61)];
            let mut fields: Vec<&str> = COLUMNS
                .iter()
                .map(|&(from, to)| raw.get(from..to.min(raw.len())).unwrap_or("").trim())
                .collect();
            if !matches!(section, Section::Rows | Section::Bounds) {
                fields.remove(0);
            }
            while fields.last().is_some_and(|field| field.is_empty()) {
                fields.pop();
            }
            fields
        }
    }
}

/// The direction that an `OBJSENSE` section names.
pub(super) fn sense(line: usize, word: &str) -> Result<Sense, ReadError> {
    match word.to_ascii_uppercase().as_str() {
        "MIN" | "MINIMIZE" | "MINIMISE" => Ok(Sense::Minimize),
        "MAX" | "MAXIMIZE" | "MAXIMISE" => Ok(Sense::Maximize),
        _ => Err(ReadError::expected(line, "MIN or MAX", word)),
    }
}

/// A number, perhaps infinite, perhaps with Fortran's exponent letter `D`.
pub(super) fn number(line: usize, text: &str) -> Result<f64, ReadError> {
    let parsed = match text.parse::<f64>() {
        Err(_) => text.replace(['d', 'D'], "e").parse(),
        parsed => parsed,
    };
    match parsed {
        Ok(value) if !value.is_nan() => Ok(value),
        _ => Err(ReadError::expected(line, "a number", text)),
    }
}

/// A number that is not infinite.
pub(super) fn finite(line: usize, text: &str) -> Result<f64, ReadError> {
    match number(line, text)? {
        value if value.is_finite() => Ok(value),
        _ => Err(ReadError::expected(line, "a finite number", text)),
    }
}
