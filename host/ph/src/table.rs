//! Small CSV files whose last column is a number (RFC 4180: names may be quoted, and those with
//! commas must be).

use csv::{ReaderBuilder, StringRecord, Trim};
use optwasm_model::Model;

pub use crate::error::TableError;

/// A CSV file with N columns, the last of which is a number.
pub(crate) struct Table<'a, const N: usize> {
    reader: csv::Reader<&'a [u8]>,
    /// Where in the file each column is.
    places: [usize; N],
}

impl<'a, const N: usize> Table<'a, N> {
    /// Reads the heading, in which the columns may stand in any order, and others among them.
    pub fn read(bytes: &'a [u8], columns: [&str; N]) -> Result<Self, TableError> {
        let mut reader = ReaderBuilder::new().trim(Trim::All).from_reader(bytes);
        let heading = reader.headers().map_err(wrong)?;
        let mut places = [0; N];
        for (place, column) in places.iter_mut().zip(columns) {
            let found = heading.iter().position(|name| name == column);
            *place = found.ok_or_else(|| TableError::Line {
                line: 1,
                problem: format!("there is no column `{column}`"),
            })?;
        }
        Ok(Table { reader, places })
    }

    /// The next row: its texts and its number, which must be finite.
    pub fn next_row(&mut self) -> Result<Option<([String; N], f64)>, TableError> {
        let mut record = StringRecord::new();
        if !self.reader.read_record(&mut record).map_err(wrong)? {
            return Ok(None);
        }
        let texts = self
            .places
            .map(|place| record.get(place).unwrap_or_default().to_owned());
        let number = &texts[N - 1];
        match number.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Some((texts, value))),
            _ => Err(TableError::Line {
                line: self.line(&record),
                problem: format!("`{number}` is not a finite number"),
            }),
        }
    }

    /// Where the last row ended.
    pub fn last_line(&self) -> u64 {
        self.reader.position().line().saturating_sub(1)
    }

    fn line(&self, record: &StringRecord) -> u64 {
        record.position().map_or(0, csv::Position::line)
    }
}

fn wrong(error: csv::Error) -> TableError {
    let line = error.position().map_or(1, csv::Position::line);
    let problem = match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "it is not UTF-8".to_owned(),
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => format!("{len} fields where the heading has {expected_len}"),
        _ => error.to_string(),
    };
    TableError::Line { line, problem }
}

/// Writes a CSV file from rows of texts.
pub(crate) fn write<const N: usize>(
    heading: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer
        .write_record(heading)
        .expect("writing to a Vec cannot fail");
    for row in rows {
        // The reader trims, so that what people write with blanks after commas is read.
        writer
            .write_record(&row)
            .expect("all rows have one length, and a Vec takes any");
    }
    let bytes = writer.into_inner().expect("writing to a Vec cannot fail");
    String::from_utf8(bytes).expect("only strings were written")
}

/// Writes the values of all columns of some models: `scenario,variable,value`.
pub(crate) fn write_values<'a>(
    models: impl Iterator<Item = (&'a str, &'a Model, &'a Vec<f64>)>,
) -> String {
    let rows = models.flat_map(|(name, model, values)| {
        let columns = model.columns.iter().zip(values);
        columns.map(move |(column, value)| {
            [name.to_owned(), column.name.clone(), format!("{value:?}")]
        })
    });
    write(["scenario", "variable", "value"], rows)
}
