//! Reader of the files in which NIST publishes the Statistical Reference
//! Datasets for nonlinear regression
//! (<https://www.itl.nist.gov/div898/strd/nls/nls_main.shtml>).
//!
//! Read are the model's formula, the starting values and the data. The
//! certified results, which stand beside the starting values, are not.

use std::collections::HashMap;

use optwasm_model::ReadError;

use crate::problem::{Problem, ProblemError, check_size};

/// Reads a data set.
///
/// # Errors
///
/// [`ProblemError::Read`] with the line at which the file is at fault, and
/// the other errors of a [`Problem`].
pub fn read(input: &[u8]) -> Result<Problem, ProblemError> {
    let text = String::from_utf8_lossy(input);
    let lines: Vec<&str> = text.lines().collect();
    let missing = |expected: &str| ReadError::UnexpectedEnd {
        line: lines.len(),
        expected: expected.into(),
    };
    let find = |wanted: fn(&str) -> bool, expected| {
        let found = lines.iter().position(|line| wanted(line.trim_start()));
        found.ok_or_else(|| missing(expected))
    };

    let model = find(|line| line.starts_with("Model:"), "`Model:`")?;
    let starting = |line: &str| line.to_ascii_lowercase().starts_with("starting values");
    let starts = (model..lines.len())
        .find(|&line| starting(lines[line].trim_start()))
        .ok_or_else(|| missing("`Starting values`"))?;
    // The header has a line `Data:` too, about the kind of data; the last one
    // names the columns.
    let data = (starts..lines.len())
        .rfind(|&line| lines[line].starts_with("Data:"))
        .ok_or_else(|| missing("`Data:` and the names of the columns"))?;

    let formula = formula(&lines[model..starts]).ok_or_else(|| {
        ReadError::expected(model + 1, "a model with a formula", lines[model].trim())
    })?;
    let (parameters, starts) = starting_values(&lines, starts, data)?;
    let columns: Vec<String> = lines[data]
        .split_whitespace()
        .skip(1)
        .map(str::to_owned)
        .collect();
    check_size(lines.len() - data, columns.len())?;
    let mut values = vec![Vec::new(); columns.len()];
    for (index, line) in lines.iter().enumerate().skip(data + 1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.is_empty() {
            continue;
        }
        if words.len() != columns.len() {
            let expected = format!("{} numbers", columns.len());
            return Err(ReadError::expected(index + 1, expected, line.trim()).into());
        }
        for (column, word) in values.iter_mut().zip(words) {
            column.push(number(index + 1, word)?);
        }
    }
    if let Some((line, count)) = stated_observations(&lines[..data])
        && values.first().map_or(0, Vec::len) != count
    {
        let expected = format!("{count} observations, as line {line} says");
        let found = values.first().map_or(0, Vec::len).to_string();
        return Err(ReadError::expected(lines.len(), expected, &found).into());
    }
    Problem::new(
        &formula,
        parameters,
        columns.into_iter().zip(values).collect::<HashMap<_, _>>(),
        starts,
    )
}

/// The formula of the model, without its error term: from the first equation
/// that is not the definition of π on.
fn formula(lines: &[&str]) -> Option<String> {
    let first = lines.iter().position(|line| {
        let left = line.split('=').next().unwrap_or("").trim();
        line.contains('=') && left != "pi"
    })?;
    let text = lines[first..].join(" ");
    let text = text.trim_end();
    let without_error = text
        .strip_suffix('e')
        .map(str::trim_end)
        .and_then(|text| text.strip_suffix('+'));
    Some(without_error.unwrap_or(text).trim().to_owned())
}

/// Names of the parameters, and for each start a value of each: from lines
/// such as `b1 = 500 250 2.3894212918E+02 2.7070075241E+00`, whose last two
/// numbers are results.
fn starting_values(
    lines: &[&str],
    from: usize,
    to: usize,
) -> Result<(Vec<String>, Vec<Vec<f64>>), ReadError> {
    let count = lines[from..to]
        .iter()
        .map(|line| line.matches("Start ").count())
        .find(|&count| count > 0)
        .unwrap_or(1);
    let mut names = Vec::new();
    let mut starts = vec![Vec::new(); count];
    for (index, line) in lines.iter().enumerate().take(to).skip(from) {
        let Some((name, numbers)) = line.split_once('=') else {
            continue;
        };
        names.push(name.trim().to_owned());
        let mut words = numbers.split_whitespace();
        for start in &mut starts {
            let word = words.next().unwrap_or("");
            start.push(number(index + 1, word)?);
        }
    }
    Ok((names, starts))
}

/// Line and number of `Number of Observations: 14`.
fn stated_observations(lines: &[&str]) -> Option<(usize, usize)> {
    lines.iter().enumerate().find_map(|(index, line)| {
        let count = line.trim().strip_prefix("Number of Observations:")?;
        Some((index + 1, count.trim().parse().ok()?))
    })
}

fn number(line: usize, word: &str) -> Result<f64, ReadError> {
    match word.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err(ReadError::expected(line, "a number", word)),
    }
}
