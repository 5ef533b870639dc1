//! The time file: which columns and rows belong to which period.

use std::collections::HashMap;

use super::core::Core;
use super::lines::{Line, Source, lines};
use crate::ProblemError;

/// The periods of a program.
pub(super) struct Periods {
    /// Their names, in their order.
    pub names: Vec<String>,
    pub index: HashMap<String, usize>,
    /// The period of each column.
    pub of_column: Vec<usize>,
    /// The period of each row.
    pub of_row: Vec<usize>,
}

enum Section {
    None,
    Implicit,
    /// The names of explicit periods.
    Names,
    Rows,
    Columns,
    End,
}

struct Reader<'a> {
    core: &'a Core,
    source: Source<'a>,
    names: Vec<String>,
    index: HashMap<String, usize>,
    /// Whether the section PERIODS has named them, so that there are no others.
    are_listed: bool,
    of_column: Vec<Option<usize>>,
    of_row: Vec<Option<usize>>,
    /// Where implicit periods begin: column, place among all rows of the file, and period.
    begins: Vec<(usize, usize, usize)>,
}

impl Periods {
    pub fn read(file: &str, text: &str, core: &Core) -> Result<Self, ProblemError> {
        let source = Source(file);
        let mut reader = Reader {
            core,
            source,
            names: Vec::new(),
            index: HashMap::new(),
            are_listed: false,
            of_column: vec![None; core.model.columns.len()],
            of_row: vec![None; core.model.rows.len()],
            begins: Vec::new(),
        };
        let mut section = Section::None;
        let mut last = 1;
        for line in lines(text) {
            last = line.number;
            if line.is_header {
                section = reader.header(&line)?;
                if let Section::End = section {
                    break;
                }
                continue;
            }
            match section {
                Section::Implicit => reader.implicit(&line)?,
                Section::Names => match line.words[..] {
                    [name] => {
                        reader.are_listed = true;
                        reader.name(name);
                    }
                    _ => return Err(source.expected(line.number, "a period", &line.words)),
                },
                Section::Rows => reader.explicit(&line, true)?,
                Section::Columns => reader.explicit(&line, false)?,
                Section::None | Section::End => {
                    return Err(source.expected(
                        line.number,
                        "a section of a time file",
                        &line.words,
                    ));
                }
            }
        }
        if !matches!(section, Section::End) {
            return Err(source.wrong(last, "the file ends where ENDATA was expected"));
        }
        reader.finish(last)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }
}

impl Reader<'_> {
    fn header(&mut self, line: &Line<'_>) -> Result<Section, ProblemError> {
        let words: Vec<String> = line.words.iter().map(|w| w.to_ascii_uppercase()).collect();
        Ok(match words[0].as_str() {
            "TIME" => Section::None,
            "PERIODS" => match words.get(1).map(String::as_str) {
                Some("EXPLICIT") => Section::Names,
                None | Some("IMPLICIT" | "LP") => Section::Implicit,
                Some(other) => {
                    return Err(self
                        .source
                        .unsupported(line.number, format!("periods {other} are")));
                }
            },
            "ROWS" => Section::Rows,
            "COLUMNS" => Section::Columns,
            "ENDATA" => Section::End,
            _ => {
                return Err(self.source.expected(
                    line.number,
                    "TIME, PERIODS, ROWS, COLUMNS or ENDATA",
                    &line.words,
                ));
            }
        })
    }

    /// The index of the period of that name, which may be new.
    fn name(&mut self, name: &str) -> usize {
        if let Some(&period) = self.index.get(name) {
            return period;
        }
        self.names.push(name.to_owned());
        self.index.insert(name.to_owned(), self.names.len() - 1);
        self.names.len() - 1
    }

    /// `column row period`: where a period begins.
    fn implicit(&mut self, line: &Line<'_>) -> Result<(), ProblemError> {
        let &[column, row, name] = &line.words[..] else {
            let what = "a column, a row and a period";
            return Err(self.source.expected(line.number, what, &line.words));
        };
        let first_column = self.column(line.number, column)?;
        let first_row = self.core.places.get(row).copied();
        let first_row = first_row.ok_or_else(|| {
            let problem = format!("the core has no row `{row}`");
            self.source.wrong(line.number, problem)
        })?;
        if self.index.contains_key(name) {
            let problem = format!("period `{name}` begins twice");
            return Err(self.source.wrong(line.number, problem));
        }
        let is_ascending = match self.begins.last() {
            None => first_column == 0,
            Some(&(column, row, _)) => first_column > column && first_row > row,
        };
        if !is_ascending {
            let problem = format!(
                "period `{name}` does not begin after the one before it; the core's rows and columns must be ordered by period, and the first period must begin with its first column"
            );
            return Err(self.source.wrong(line.number, problem));
        }
        self.are_listed = true;
        let period = self.name(name);
        // Rows before those of the first period are the objective's and its like.
        let first_row = if self.begins.is_empty() { 0 } else { first_row };
        self.begins.push((first_column, first_row, period));
        Ok(())
    }

    /// Gives all rows and columns to the implicit periods, if there are any.
    fn spread(&mut self) {
        for (index, &(first_column, first_row, period)) in self.begins.iter().enumerate() {
            let end = (self.of_column.len(), self.core.rows.len(), 0);
            let &(last_column, last_row, _) = self.begins.get(index + 1).unwrap_or(&end);
            self.of_column[first_column..last_column].fill(Some(period));
            for (_, row) in &self.core.rows[first_row..last_row] {
                if let Some(row) = *row {
                    self.of_row[row] = Some(period);
                }
            }
        }
    }

    /// `name period` of a row or column.
    fn explicit(&mut self, line: &Line<'_>, is_row: bool) -> Result<(), ProblemError> {
        let &[name, period] = &line.words[..] else {
            let what = "a name and a period";
            return Err(self.source.expected(line.number, what, &line.words));
        };
        if self.are_listed && !self.index.contains_key(period) {
            let problem = format!("there is no period `{period}`");
            return Err(self.source.wrong(line.number, problem));
        }
        let period = self.name(period);
        if !is_row {
            let column = self.column(line.number, name)?;
            self.of_column[column] = Some(period);
        } else if let Some(&row) = self.core.row_index.get(name) {
            self.of_row[row] = Some(period);
        } else if !self.core.places.contains_key(name) {
            let problem = format!("the core has no row `{name}`");
            return Err(self.source.wrong(line.number, problem));
        }
        Ok(())
    }

    fn column(&self, line: usize, name: &str) -> Result<usize, ProblemError> {
        let column = self.core.column_index.get(name).copied();
        column.ok_or_else(|| {
            let problem = format!("the core has no column `{name}`");
            self.source.wrong(line, problem)
        })
    }

    fn finish(mut self, last: usize) -> Result<Periods, ProblemError> {
        self.spread();
        let missing = |kind: &str, name: &str| {
            let problem = format!("{kind} `{name}` belongs to no period");
            self.source.wrong(last, problem)
        };
        let mut of_column = Vec::new();
        for (period, column) in self.of_column.iter().zip(&self.core.model.columns) {
            of_column.push(period.ok_or_else(|| missing("column", &column.name))?);
        }
        let mut of_row = Vec::new();
        for (period, row) in self.of_row.iter().zip(&self.core.model.rows) {
            of_row.push(period.ok_or_else(|| missing("row", &row.name))?);
        }
        if self.names.len() < 2 {
            let problem = "a stochastic program has at least two periods";
            return Err(self.source.wrong(last, problem));
        }
        Ok(Periods {
            names: self.names,
            index: self.index,
            of_column,
            of_row,
        })
    }
}
