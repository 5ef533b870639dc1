//! The part of the MATLAB language that MATPOWER's case files are written in.
//!
//! A case file is a function whose statements assign constants to fields of
//! the struct it returns:
//!
//! ```text
//! function mpc = case3          % comment
//! mpc.baseMVA = 100;
//! mpc.bus = [ 1  3  0, 0 ...    rows end with `;` or with the line,
//!             0  1;             unless `...` continues it
//! ];
//! ```
//!
//! [`read`] finds the fields and [`Field::table`] reads numbers from one, so
//! that fields which nobody asks for may hold anything: strings, cells,
//! expressions. Statements other than such assignments compute data, and are
//! errors: to skip them would be to solve another problem.

use std::collections::BTreeMap;

use optwasm_model::ReadError;

/// The value of a field, as text: the lines it stands on, without comments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field<'a> {
    /// Where the assignment begins.
    pub line: usize,
    /// (number, text) of the lines that the value is on.
    text: Vec<(usize, &'a str)>,
}

/// A row of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Where it begins.
    pub line: usize,
    /// Its numbers, as many as in every row of the table.
    pub numbers: Vec<f64>,
}

/// Reads a file: the fields by their names.
///
/// # Errors
///
/// A [`ReadError`] that names the line.
pub fn read(text: &str) -> Result<BTreeMap<&str, Field<'_>>, ReadError> {
    let mut lines = code_lines(text)?.into_iter();
    let Some((line, header)) = lines.next() else {
        return Err(end(1, "`function NAME = …`"));
    };
    let name = header
        .strip_prefix("function")
        .filter(|rest| rest.starts_with([' ', '\t']))
        .and_then(|rest| rest.split_once('='))
        .map(|(name, _)| name.trim())
        .ok_or_else(|| ReadError::expected(line, "`function NAME = …`", header))?;
    if name.starts_with('[') {
        return Err(unsupported(line, "case files of format version 1 are"));
    }

    let mut fields = BTreeMap::new();
    let mut rest = Rest { lines, text: None };
    while let Some((line, statement)) = rest.next_statement() {
        // These have no effect on the data.
        let first = statement.split([';', ' ', '\t']).next().unwrap_or_default();
        if ["define_constants", "end", "endfunction", "return"].contains(&first) {
            continue;
        }
        let (field, value) = statement
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('.'))
            .and_then(|rest| rest.split_once('='))
            .map(|(field, value)| (field.trim_end(), value))
            .filter(|(field, value)| is_identifier(field) && !value.starts_with('='))
            .ok_or_else(|| {
                let feature = format!("statements other than `{name}.FIELD = VALUE` are");
                unsupported(line, &feature)
            })?;
        let text = rest.value(line, value)?;
        if fields.insert(field, Field { line, text }).is_some() {
            return Err(ReadError::Duplicate {
                line,
                kind: "field",
                name: field.chars().take(60).collect(),
            });
        }
    }
    Ok(fields)
}

impl Field<'_> {
    /// The value as one number.
    ///
    /// # Errors
    ///
    /// [`ReadError::Expected`] if it is anything else.
    pub fn number(&self) -> Result<f64, ReadError> {
        let text = self.scalar();
        number(text).ok_or_else(|| ReadError::expected(self.line, "a number", text))
    }

    /// The value as it is written, without quotes and `;`, if it is on one line.
    pub fn scalar(&self) -> &str {
        let text = match self.text.as_slice() {
            [(_, text)] => text.trim().trim_end_matches([';', ',']).trim(),
            _ => "",
        };
        text.trim_matches(['\'', '"'])
    }

    /// The value as a matrix of numbers.
    ///
    /// # Errors
    ///
    /// [`ReadError::Expected`] if it is anything else, or the rows are not
    /// equally long.
    pub fn table(&self) -> Result<Vec<Row>, ReadError> {
        let mut rows: Vec<Row> = Vec::new();
        let mut row = Row {
            line: self.line,
            numbers: Vec::new(),
        };
        let mut opened = false;
        for &(line, text) in &self.text {
            let mut text = text.trim();
            if !opened {
                text = text
                    .strip_prefix('[')
                    .ok_or_else(|| ReadError::expected(line, "`[`", text))?;
                opened = true;
            }
            let (text, continued) = match text.find("...") {
                Some(dots) => (&text[..dots], true),
                None => (text, false),
            };
            // What follows the bracket is an end of statement, or nothing.
            let (text, tail) = text.split_once(']').unwrap_or((text, ""));
            let tail = tail.trim_matches([';', ',', ' ', '\t']);
            if !tail.is_empty() {
                return Err(ReadError::expected(line, "`;`", tail));
            }
            let mut parts = text.split(';').peekable();
            while let Some(part) = parts.next() {
                let words = part.split([' ', '\t', ',']).filter(|w| !w.is_empty());
                for word in words {
                    if row.numbers.is_empty() {
                        row.line = line;
                    }
                    let value =
                        number(word).ok_or_else(|| ReadError::expected(line, "a number", word))?;
                    row.numbers.push(value);
                }
                let row_ends = parts.peek().is_some() || !continued;
                if row_ends && !row.numbers.is_empty() {
                    let numbers = std::mem::take(&mut row.numbers);
                    let length = rows.first().map_or(numbers.len(), |r| r.numbers.len());
                    if numbers.len() != length {
                        let found = format!("{} numbers", numbers.len());
                        let expected = format!("{length} numbers, as in the rows before");
                        return Err(ReadError::expected(row.line, expected, &found));
                    }
                    rows.push(Row {
                        line: row.line,
                        numbers,
                    });
                }
            }
        }
        Ok(rows)
    }
}

/// The statements that have not been read yet.
struct Rest<'a, I> {
    lines: I,
    /// What is left of the current line.
    text: Option<(usize, &'a str)>,
}

impl<'a, I: Iterator<Item = (usize, &'a str)>> Rest<'a, I> {
    /// The line on which the next statement begins, from its beginning.
    fn next_statement(&mut self) -> Option<(usize, &'a str)> {
        loop {
            let (line, text) = self.text.take().or_else(|| self.lines.next())?;
            let text = text.trim_start_matches([';', ',', ' ', '\t']);
            if !text.is_empty() {
                return Some((line, text));
            }
        }
    }

    /// The lines of the value that begins with `text`: up to the end of the
    /// statement outside of brackets and strings.
    fn value(
        &mut self,
        mut line: usize,
        mut text: &'a str,
    ) -> Result<Vec<(usize, &'a str)>, ReadError> {
        let begin = line;
        let mut depth = 0_usize;
        let mut lines = Vec::new();
        loop {
            let mut quote = None;
            let mut continued = false;
            let mut after_value = false;
            for (at, c) in text.char_indices() {
                match (quote, c) {
                    (Some(q), c) if c == q => quote = None,
                    (Some(_), _) => continue,
                    // After a value `'` transposes it.
                    (None, '\'') if after_value => {}
                    (None, '\'' | '"') => quote = Some(c),
                    (None, '[' | '{' | '(') => depth += 1,
                    (None, ']' | '}' | ')') => {
                        depth = depth
                            .checked_sub(1)
                            .ok_or_else(|| ReadError::expected(line, "`;`", &text[at..]))?;
                    }
                    (None, ';' | ',') if depth == 0 => {
                        lines.push((line, &text[..at]));
                        self.text = Some((line, &text[at + 1..]));
                        return Ok(lines);
                    }
                    (None, '.') if text[at..].starts_with("...") => {
                        continued = true;
                        break;
                    }
                    _ => {}
                }
                after_value = is_value_end(c);
            }
            lines.push((line, text));
            if depth == 0 && !continued {
                return Ok(lines);
            }
            (line, text) = self
                .lines
                .next()
                .ok_or_else(|| end(line, &format!("the end of the value of line {begin}")))?;
        }
    }
}

/// The lines with anything but comments on them, trimmed; blank lines count
/// for nothing, not even within a matrix.
fn code_lines(text: &str) -> Result<Vec<(usize, &str)>, ReadError> {
    let mut lines = Vec::new();
    // Where the block comments begin that are open.
    let mut open: Vec<usize> = Vec::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        match line.trim() {
            "%{" | "#{" => open.push(index + 1),
            "%}" | "#}" if !open.is_empty() => {
                open.pop();
            }
            _ if !open.is_empty() => {}
            _ => {
                let code = without_comment(line).trim();
                if !code.is_empty() {
                    lines.push((index + 1, code));
                }
            }
        }
    }
    match open.pop() {
        Some(line) => Err(end(line, "the end of the block comment")),
        None => Ok(lines),
    }
}

/// What is before `%` or `#`, unless that is within a string.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut after_value = false;
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '%' | '#') => return &line[..at],
            (None, '\'') if after_value => {}
            (None, '\'' | '"') => quote = Some(c),
            (Some(q), c) if c == q => quote = None,
            _ => {}
        }
        after_value = is_value_end(c);
    }
    line
}

/// Whether a `'` after this character transposes; otherwise it is a quote.
fn is_value_end(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, ']' | '}' | ')' | '.')
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A number as MATLAB writes it; `NaN` is none.
fn number(word: &str) -> Option<f64> {
    match word {
        "Inf" | "inf" | "+Inf" | "+inf" => return Some(f64::INFINITY),
        "-Inf" | "-inf" => return Some(f64::NEG_INFINITY),
        _ => {}
    }
    let plain = word.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    let value: f64 = word.parse().ok().filter(|_| plain)?;
    value.is_finite().then_some(value)
}

fn unsupported(line: usize, feature: &str) -> ReadError {
    ReadError::Unsupported {
        line,
        feature: feature.chars().take(120).collect(),
    }
}

fn end(line: usize, expected: &str) -> ReadError {
    ReadError::UnexpectedEnd {
        line,
        expected: expected.to_owned(),
    }
}
