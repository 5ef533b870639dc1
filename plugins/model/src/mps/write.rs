//! Writer of free MPS files.

use std::collections::HashSet;
use std::fmt::Write;

use super::INFINITE_BOUND;
use crate::{Model, Sense};

/// How the file says that there is no bound; beyond [`INFINITE_BOUND`], which every dialect knows.
const INFINITE: f64 = 1e30;

/// Why a model cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The lower side of a row lies above its upper one, or both are the same infinity: no point is
    /// feasible, and MPS has no way to say it.
    #[error("row `{0}` has sides that no MPS file can express")]
    Sides(String),
}

/// Writes a model as a free MPS file, which [`read`](super::read) turns into the same model: rows and
/// columns keep their order, and numbers all their digits, except that one side of a row with two
/// different finite ones may be off by a rounding error. Bounds of magnitude 1e20 and more become
/// infinite. A name that free MPS cannot hold, such as one with blanks, is changed; it stays unique.
///
/// # Errors
///
/// [`WriteError::Sides`].
pub fn write(model: &Model) -> Result<String, WriteError> {
    let rows = names(model.rows.iter().map(|row| row.name.as_str()));
    let columns = names(model.columns.iter().map(|column| column.name.as_str()));
    let mut objective = "OBJ".to_owned();
    while rows.contains(&objective) {
        objective.push('_');
    }
    let mut text = String::new();
    let name: Vec<&str> = model.name.split_whitespace().collect();
    line(&mut text, format_args!("NAME {}", name.join(" ")));
    if model.sense == Sense::Maximize {
        line(&mut text, format_args!("OBJSENSE\n    MAX"));
    }
    line(&mut text, format_args!("ROWS\n N {objective}"));
    let mut sides = Vec::with_capacity(rows.len());
    for (row, name) in model.rows.iter().zip(&rows) {
        let (kind, side, range) =
            kind(row.lower, row.upper).ok_or_else(|| WriteError::Sides(row.name.clone()))?;
        line(&mut text, format_args!(" {kind} {name}"));
        sides.push((side, range));
    }
    write_columns(&mut text, model, &rows, &columns, &objective);
    line(&mut text, format_args!("RHS"));
    if model.constant != 0.0 {
        line(
            &mut text,
            format_args!(" RHS {objective} {:?}", -model.constant),
        );
    }
    for (name, (side, _)) in rows.iter().zip(&sides) {
        if *side != 0.0 {
            line(&mut text, format_args!(" RHS {name} {side:?}"));
        }
    }
    line(&mut text, format_args!("RANGES"));
    for (name, (_, range)) in rows.iter().zip(&sides) {
        if let Some(range) = range {
            line(&mut text, format_args!(" RNG {name} {range:?}"));
        }
    }
    line(&mut text, format_args!("BOUNDS"));
    for (column, name) in model.columns.iter().zip(&columns) {
        // Integer variables without bounds would be binary.
        if column.integer
            || column.semicontinuous
            || (column.lower, column.upper) != (0.0, f64::INFINITY)
        {
            let (lower, upper) = (shown(column.lower), shown(column.upper));
            let kind = if column.semicontinuous { "SC" } else { "UP" };
            line(&mut text, format_args!(" LO BND {name} {lower:?}"));
            line(&mut text, format_args!(" {kind} BND {name} {upper:?}"));
        }
    }
    if !model.quadratic.is_empty() {
        line(&mut text, format_args!("QUADOBJ"));
        for &(i, j, value) in &model.quadratic {
            line(
                &mut text,
                format_args!(" {} {} {value:?}", columns[i], columns[j]),
            );
        }
    }
    line(&mut text, format_args!("ENDATA"));
    Ok(text)
}

fn write_columns(
    text: &mut String,
    model: &Model,
    rows: &[String],
    columns: &[String],
    objective: &str,
) {
    let mut coefficients = vec![Vec::new(); columns.len()];
    for entry in &model.entries {
        coefficients[entry.column].push((entry.row, entry.value));
    }
    line(text, format_args!("COLUMNS"));
    let mut in_integers = false;
    for ((column, name), coefficients) in model.columns.iter().zip(columns).zip(&coefficients) {
        if column.integer != in_integers {
            in_integers = column.integer;
            let word = if in_integers { "INTORG" } else { "INTEND" };
            line(text, format_args!(" MARKER 'MARKER' '{word}'"));
        }
        // At least one line, which declares the column.
        if column.cost != 0.0 || coefficients.is_empty() {
            line(text, format_args!(" {name} {objective} {:?}", column.cost));
        }
        for &(row, value) in coefficients {
            line(text, format_args!(" {name} {} {value:?}", rows[row]));
        }
    }
    if in_integers {
        line(text, format_args!(" MARKER 'MARKER' 'INTEND'"));
    }
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    writeln!(text, "{what}").expect("writing to a String cannot fail");
}

/// A bound as the file has it.
fn shown(bound: f64) -> f64 {
    if bound.abs() >= INFINITE_BOUND {
        INFINITE.copysign(bound)
    } else {
        bound
    }
}

/// Type, right-hand side and range of a row with these sides.
fn kind(lower: f64, upper: f64) -> Option<(char, f64, Option<f64>)> {
    let is_finite = |side: f64| side.abs() < INFINITE_BOUND;
    match (is_finite(lower), is_finite(upper)) {
        (true, true) if lower == upper => Some(('E', lower, None)),
        (true, true) if lower > upper => None,
        (true, true) => {
            let range = upper - lower;
            // The one of the two whose other side comes back as it was, if there is one.
            if lower + range == upper {
                Some(('G', lower, Some(range)))
            } else {
                Some(('L', upper, Some(range)))
            }
        }
        (true, false) if upper > 0.0 => Some(('G', lower, None)),
        (false, true) if lower < 0.0 => Some(('L', upper, None)),
        (false, false) if lower < 0.0 && upper > 0.0 => Some(('G', -INFINITE, None)),
        _ => None,
    }
}

/// Names that free MPS can hold, each only once.
fn names<'a>(given: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    let is_fine = |name: &str| {
        !name.is_empty()
            && !name.contains(|c: char| c.is_whitespace() || c.is_control())
            && !name.starts_with(['$', '*'])
            && name.trim_matches('\'') != "MARKER"
    };
    let mut used: HashSet<String> = given
        .clone()
        .filter(|name| is_fine(name))
        .map(str::to_owned)
        .collect();
    given
        .map(|name| {
            if is_fine(name) {
                return name.to_owned();
            }
            let clean: String = name
                .chars()
                .map(|c| {
                    if c.is_whitespace() || c.is_control() {
                        '_'
                    } else {
                        c
                    }
                })
                .collect();
            let mut candidate = format!("_{clean}");
            while !used.insert(candidate.clone()) {
                candidate.push('_');
            }
            candidate
        })
        .collect()
}
