//! Reader and writer of MPS files: linear, mixed-integer and quadratic programs.
//!
//! Both layouts are read: *free* (fields separated by blanks) and *fixed*
//! (fields in set columns, where names may contain blanks). A file is taken as
//! free first, because nearly every fixed file is a valid free one too, and as
//! fixed if that fails.
//!
//! The format has no standard. Where dialects differ, this reader follows what
//! CPLEX, Gurobi and HiGHS agree upon:
//!
//! - the first `N` row is the objective, further ones are dropped;
//! - a right-hand side of the objective row is the *negative* of the
//!   objective's constant term;
//! - an integer variable declared by markers for which no bound is given is
//!   binary;
//! - a negative `UP` bound of a variable without another bound makes the lower
//!   bound −∞; `MI` leaves the upper bound at +∞;
//! - `R` of a `RANGES` entry means [rhs, rhs+|R|] for a `G` row,
//!   [rhs−|R|, rhs] for an `L` row, and for an `E` row the one of the two to
//!   which the sign of `R` points;
//! - bounds and right-hand sides of magnitude 1e20 and more are infinite;
//! - `QUADOBJ` and `QSECTION` hold one triangle of the matrix Q of ½xᵀQx,
//!   `QMATRIX` all of it.
//!
//! `SC` and `SI` bounds give the upper bound of a semi-continuous variable, which for `SI` is integer
//! too; without a number, or with 0, there is none.
//!
//! Special ordered sets, indicator, quadratic and conic constraints are refused with
//! [`ReadError::Unsupported`].

mod fields;
mod write;

use std::collections::HashMap;

use self::fields::{Layout, finite, number, sense};
pub use self::write::{WriteError, write};
use crate::{Column, Entry, Model, ReadError, Row};

/// CPLEX, Gurobi and HiGHS take a bound of this magnitude for infinite.
pub(crate) const INFINITE_BOUND: f64 = 1e20;

/// Reads a model from the bytes of an MPS file. Bytes that are not UTF-8 are
/// replaced in names.
///
/// # Errors
///
/// A [`ReadError`] with the line at which the file is at fault.
pub fn read(bytes: &[u8]) -> Result<Model, ReadError> {
    let text = String::from_utf8_lossy(bytes);
    match Reader::read(&text, Layout::Free) {
        Ok(model) => Ok(model),
        Err(free) => Reader::read(&text, Layout::Fixed).map_err(|_| free),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Section {
    /// Before the first section.
    Start,
    ObjSense,
    ObjName,
    Rows,
    Columns,
    Rhs,
    Ranges,
    Bounds,
    /// One triangle of Q.
    Triangle,
    /// All of Q.
    Square,
    End,
}

/// What a row name stands for.
#[derive(Clone, Copy)]
enum RowRef {
    Objective,
    /// A further `N` row.
    Dropped,
    /// Index of a constraint.
    Constraint(usize),
}

struct Constraint {
    kind: u8,
    rhs: f64,
    range: Option<f64>,
}

/// What the bounds of a column were given by; decides the defaults.
#[derive(Clone, Copy, Default)]
struct Bounded {
    lower: bool,
    any: bool,
}

struct Reader {
    model: Model,
    objective: Option<String>,
    row_refs: HashMap<String, RowRef>,
    constraints: Vec<Constraint>,
    column_refs: HashMap<String, usize>,
    bounded: Vec<Bounded>,
    in_marker: bool,
    /// (row, column) to index of the entry; finds duplicates.
    positions: HashMap<(usize, usize), usize>,
    quadratic: HashMap<(usize, usize), f64>,
    has_square: bool,
}

impl Reader {
    fn read(text: &str, layout: Layout) -> Result<Model, ReadError> {
        let mut reader = Reader {
            model: Model::default(),
            objective: None,
            row_refs: HashMap::new(),
            constraints: Vec::new(),
            column_refs: HashMap::new(),
            bounded: Vec::new(),
            in_marker: false,
            positions: HashMap::new(),
            quadratic: HashMap::new(),
            has_square: false,
        };
        let mut section = Section::Start;
        let mut last = 0;
        let mut saw_rows = false;
        for (index, raw) in text.lines().enumerate() {
            let line = index + 1;
            last = line;
            let raw = raw.trim_end();
            if raw.is_empty() || raw.starts_with('*') {
                continue;
            }
            if !raw.starts_with([' ', '\t']) {
                let words: Vec<&str> = raw.split_whitespace().collect();
                section = reader.header(line, &words)?;
                saw_rows |= section == Section::Rows;
                if section == Section::End {
                    break;
                }
                continue;
            }
            let fields = fields::split(raw, layout, section);
            if fields.is_empty() {
                continue;
            }
            reader.data(line, section, &fields)?;
        }
        if section != Section::End || !saw_rows {
            return Err(ReadError::UnexpectedEnd {
                line: last,
                expected: if saw_rows { "ENDATA" } else { "ROWS" }.into(),
            });
        }
        Ok(reader.finish())
    }

    /// Starts the section that a header line names.
    fn header(&mut self, line: usize, words: &[&str]) -> Result<Section, ReadError> {
        let keyword = words[0].to_ascii_uppercase();
        let unsupported = |feature: &str| {
            Err(ReadError::Unsupported {
                line,
                feature: feature.into(),
            })
        };
        Ok(match keyword.as_str() {
            "NAME" => {
                self.model.name = words[1..].join(" ");
                Section::Start
            }
            "OBJSENSE" => {
                if let Some(word) = words.get(1) {
                    self.model.sense = sense(line, word)?;
                }
                Section::ObjSense
            }
            "OBJNAME" => Section::ObjName,
            "ROWS" => Section::Rows,
            "COLUMNS" => Section::Columns,
            "RHS" => Section::Rhs,
            "RANGES" => Section::Ranges,
            "BOUNDS" => Section::Bounds,
            "QUADOBJ" => Section::Triangle,
            "QSECTION" => {
                let Some(&row) = words.get(1) else {
                    return Err(ReadError::expected(
                        line,
                        "QSECTION and a row name",
                        "QSECTION",
                    ));
                };
                if self.objective.as_deref() != Some(row) {
                    return unsupported("quadratic constraints are");
                }
                Section::Triangle
            }
            "QMATRIX" => {
                // A file with both says the same twice.
                self.quadratic.clear();
                self.has_square = true;
                Section::Square
            }
            "ENDATA" => Section::End,
            "QCMATRIX" => return unsupported("quadratic constraints are"),
            "CSECTION" => return unsupported("conic constraints are"),
            "SOS" | "SOS1" | "SOS2" | "SETS" => return unsupported("special ordered sets are"),
            "INDICATORS" => return unsupported("indicator constraints are"),
            "LAZYCONS" | "USERCUTS" | "GENCONS" | "PWLOBJ" | "SCENARIOS" => {
                return unsupported(&format!("section {keyword} is"));
            }
            _ => return Err(ReadError::expected(line, "an MPS section", words[0])),
        })
    }

    fn data(&mut self, line: usize, section: Section, fields: &[&str]) -> Result<(), ReadError> {
        match section {
            Section::Start | Section::End => {
                Err(ReadError::expected(line, "an MPS section", fields[0]))
            }
            Section::ObjSense => {
                self.model.sense = sense(line, fields[0])?;
                Ok(())
            }
            Section::ObjName => {
                self.objective = Some(fields[0].to_string());
                Ok(())
            }
            Section::Rows => self.row(line, fields),
            Section::Columns => self.column(line, fields),
            Section::Rhs => self.pairs(line, fields, Self::rhs),
            Section::Ranges => self.pairs(line, fields, Self::range),
            Section::Bounds => self.bound(line, fields),
            Section::Triangle | Section::Square => self.quadratic(line, section, fields),
        }
    }

    fn row(&mut self, line: usize, fields: &[&str]) -> Result<(), ReadError> {
        let &[kind, name] = fields else {
            return Err(ReadError::expected(
                line,
                "a row type and a name",
                &fields.join(" "),
            ));
        };
        if self.row_refs.contains_key(name) {
            return Err(ReadError::Duplicate {
                line,
                kind: "row",
                name: name.into(),
            });
        }
        let row = match kind {
            "N" | "n" => match &self.objective {
                None => {
                    self.objective = Some(name.into());
                    RowRef::Objective
                }
                // Named before by OBJNAME.
                Some(objective) if objective == name => RowRef::Objective,
                Some(_) => RowRef::Dropped,
            },
            "L" | "l" | "G" | "g" | "E" | "e" => {
                self.constraints.push(Constraint {
                    kind: kind.as_bytes()[0].to_ascii_uppercase(),
                    rhs: 0.0,
                    range: None,
                });
                self.model.rows.push(Row {
                    name: name.into(),
                    lower: f64::NEG_INFINITY,
                    upper: f64::INFINITY,
                });
                RowRef::Constraint(self.model.rows.len() - 1)
            }
            _ => return Err(ReadError::expected(line, "a row type N, L, G or E", kind)),
        };
        self.row_refs.insert(name.into(), row);
        Ok(())
    }

    fn column(&mut self, line: usize, fields: &[&str]) -> Result<(), ReadError> {
        if let Some(marker) = fields.get(1)
            && marker.trim_matches('\'') == "MARKER"
            && fields.len() > 2
        {
            match fields[fields.len() - 1].trim_matches('\'') {
                "INTORG" => self.in_marker = true,
                "INTEND" => self.in_marker = false,
                "SOSORG" | "SOSEND" => {
                    return Err(ReadError::Unsupported {
                        line,
                        feature: "special ordered sets are".into(),
                    });
                }
                other => {
                    return Err(ReadError::expected(line, "'INTORG' or 'INTEND'", other));
                }
            }
            return Ok(());
        }
        if fields.len() != 1 && fields.len().is_multiple_of(2) {
            return Err(ReadError::expected(
                line,
                "a column and pairs of row and value",
                &fields.join(" "),
            ));
        }
        let name = fields[0];
        let column = match self.column_refs.get(name) {
            Some(&column) => column,
            None => {
                let mut column = Column::new(name);
                column.integer = self.in_marker;
                self.model.columns.push(column);
                self.bounded.push(Bounded::default());
                let index = self.model.columns.len() - 1;
                self.column_refs.insert(name.into(), index);
                index
            }
        };
        for pair in fields[1..].chunks_exact(2) {
            let value = finite(line, pair[1])?;
            match self.row_ref(line, pair[0])? {
                RowRef::Objective => self.model.columns[column].cost += value,
                RowRef::Dropped => {}
                RowRef::Constraint(row) => {
                    let next = self.model.entries.len();
                    if self.positions.insert((row, column), next).is_some() {
                        return Err(ReadError::Duplicate {
                            line,
                            kind: "coefficient of row",
                            name: pair[0].into(),
                        });
                    }
                    self.model.entries.push(Entry { row, column, value });
                }
            }
        }
        Ok(())
    }

    /// Gives the pairs of an RHS or RANGES line to `take`.
    fn pairs(
        &mut self,
        line: usize,
        fields: &[&str],
        take: fn(&mut Self, usize, RowRef, f64) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        if fields.len().is_multiple_of(2) || fields.len() < 3 {
            return Err(ReadError::expected(
                line,
                "pairs of row and value",
                &fields.join(" "),
            ));
        }
        for pair in fields[1..].chunks_exact(2) {
            let row = self.row_ref(line, pair[0])?;
            take(self, line, row, number(line, pair[1])?)?;
        }
        Ok(())
    }

    fn rhs(&mut self, line: usize, row: RowRef, value: f64) -> Result<(), ReadError> {
        match row {
            RowRef::Objective if value.is_finite() => self.model.constant = -value,
            RowRef::Objective => {
                return Err(ReadError::expected(line, "a finite constant", "infinity"));
            }
            RowRef::Dropped => {}
            RowRef::Constraint(row) => {
                let constraint = &mut self.constraints[row];
                if constraint.kind == b'E' && !value.is_finite() {
                    return Err(ReadError::expected(
                        line,
                        "a finite right-hand side of an E row",
                        "infinity",
                    ));
                }
                constraint.rhs = if value.abs() >= INFINITE_BOUND {
                    value.signum() * f64::INFINITY
                } else {
                    value
                };
            }
        }
        Ok(())
    }

    fn range(&mut self, line: usize, row: RowRef, value: f64) -> Result<(), ReadError> {
        if let RowRef::Constraint(row) = row {
            if !value.is_finite() {
                return Err(ReadError::expected(line, "a finite range", "infinity"));
            }
            self.constraints[row].range = Some(value);
        }
        Ok(())
    }

    fn bound(&mut self, line: usize, fields: &[&str]) -> Result<(), ReadError> {
        let malformed = || {
            ReadError::expected(
                line,
                "a bound type, a set, a column and a value",
                &fields.join(" "),
            )
        };
        let kind = fields[0].to_ascii_uppercase();
        let valueless = matches!(kind.as_str(), "FR" | "MI" | "PL" | "BV");
        let is_semicontinuous = matches!(kind.as_str(), "SC" | "SI");
        // The set's name may be missing, and so may the value of some types.
        let (name, value) = match (&fields[1..], valueless) {
            (&[name], true) | (&[name, _], true) if self.column_refs.contains_key(name) => {
                (name, None)
            }
            (&[_, name], true) => (name, None),
            (&[_, name], false) if is_semicontinuous && self.column_refs.contains_key(name) => {
                (name, None)
            }
            (&[name, value], false) => (name, Some(value)),
            (&[_, name, value], _) => (name, Some(value)),
            _ => return Err(malformed()),
        };
        let &index = self
            .column_refs
            .get(name)
            .ok_or_else(|| ReadError::Unknown {
                line,
                kind: "column",
                name: name.into(),
            })?;
        let value = match value {
            Some(text) if !valueless => {
                let value = number(line, text)?;
                if value.abs() >= INFINITE_BOUND {
                    value.signum() * f64::INFINITY
                } else {
                    value
                }
            }
            _ => 0.0,
        };
        let column = &mut self.model.columns[index];
        let bounded = &mut self.bounded[index];
        match kind.as_str() {
            "LO" | "LI" => {
                column.lower = value;
                bounded.lower = true;
            }
            "UP" | "UI" => {
                column.upper = value;
                if value < 0.0 && !bounded.lower {
                    column.lower = f64::NEG_INFINITY;
                }
            }
            "FX" => {
                (column.lower, column.upper) = (value, value);
                bounded.lower = true;
            }
            "FR" => {
                (column.lower, column.upper) = (f64::NEG_INFINITY, f64::INFINITY);
                bounded.lower = true;
            }
            "MI" => {
                column.lower = f64::NEG_INFINITY;
                bounded.lower = true;
            }
            "PL" => column.upper = f64::INFINITY,
            "BV" => {
                (column.lower, column.upper) = (0.0, 1.0);
                bounded.lower = true;
            }
            "SC" | "SI" => {
                column.upper = if value == 0.0 { f64::INFINITY } else { value };
                column.semicontinuous = true;
            }
            _ => {
                return Err(ReadError::expected(
                    line,
                    "a bound type (LO, UP, FX, FR, MI, PL, BV, LI, UI, SC, SI)",
                    fields[0],
                ));
            }
        }
        column.integer |= matches!(kind.as_str(), "LI" | "UI" | "BV" | "SI");
        bounded.any = true;
        Ok(())
    }

    fn quadratic(
        &mut self,
        line: usize,
        section: Section,
        fields: &[&str],
    ) -> Result<(), ReadError> {
        if section == Section::Triangle && self.has_square {
            return Ok(());
        }
        let (&[first, second, value] | &[first, second, value, "", ""]) = fields else {
            return Err(ReadError::expected(
                line,
                "two columns and a value",
                &fields.join(" "),
            ));
        };
        let find = |name: &str| {
            self.column_refs
                .get(name)
                .copied()
                .ok_or_else(|| ReadError::Unknown {
                    line,
                    kind: "column",
                    name: name.into(),
                })
        };
        let (i, j) = (find(first)?, find(second)?);
        let mut value = finite(line, value)?;
        if section == Section::Square && i != j {
            // Both triangles are there, so each gives half of the entry. An
            // asymmetric matrix means its symmetric part.
            value /= 2.0;
        }
        *self.quadratic.entry((i.min(j), i.max(j))).or_insert(0.0) += value;
        Ok(())
    }

    fn row_ref(&self, line: usize, name: &str) -> Result<RowRef, ReadError> {
        self.row_refs
            .get(name)
            .copied()
            .ok_or_else(|| ReadError::Unknown {
                line,
                kind: "row",
                name: name.into(),
            })
    }

    fn finish(mut self) -> Model {
        for (row, constraint) in self.model.rows.iter_mut().zip(&self.constraints) {
            let rhs = constraint.rhs;
            let (lower, upper) = match (constraint.kind, constraint.range) {
                (b'L', None) => (f64::NEG_INFINITY, rhs),
                (b'L', Some(range)) => (rhs - range.abs(), rhs),
                (b'G', None) => (rhs, f64::INFINITY),
                (b'G', Some(range)) => (rhs, rhs + range.abs()),
                (_, None) => (rhs, rhs),
                (_, Some(range)) if range < 0.0 => (rhs + range, rhs),
                (_, Some(range)) => (rhs, rhs + range),
            };
            (row.lower, row.upper) = (lower, upper);
        }
        for (column, bounded) in self.model.columns.iter_mut().zip(&self.bounded) {
            if column.integer && !bounded.any {
                column.upper = 1.0;
            }
        }
        self.model.entries.retain(|entry| entry.value != 0.0);
        self.model.quadratic = self
            .quadratic
            .into_iter()
            .filter(|&(_, value)| value != 0.0)
            .map(|((i, j), value)| (i, j, value))
            .collect();
        self.model.quadratic.sort_by_key(|&(i, j, _)| (j, i));
        self.model
    }
}
