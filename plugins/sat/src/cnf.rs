//! Formulas in conjunctive normal form, and the reader of DIMACS CNF.
//!
//! The format, as in the SAT competitions: comment lines begin with `c` and
//! may stand anywhere; `p cnf VARIABLES CLAUSES` comes first; then the clauses
//! as literals, each ended by `0`, over as many lines as they like. A literal
//! is the number of a variable, negative if negated. The files of SATLIB end
//! with a line `%`; what follows it is not read.
//!
//! The numbers in the header are held against what follows: a formula that
//! lacks clauses is another formula. They reserve no memory.

use optwasm_model::ReadError;

/// Variables that a header may declare beyond one for each byte of the file:
/// their names and values take some 50 MB of a solution.
const MAX_UNUSED: u64 = 1 << 20;

/// Variables that BatSat can number: a literal is an `i32` of variable and sign.
const MAX_VARIABLES: u64 = (i32::MAX / 2) as u64;

/// A formula: all clauses must hold, each by one of its literals at least.
///
/// Literals are as in the file: from 1 to the number of variables, or the
/// negative of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Formula {
    variables: usize,
    literals: Vec<i32>,
    /// Where in `literals` each clause ends.
    ends: Vec<usize>,
}

impl Formula {
    /// How many variables the formula has; some may be in no clause.
    pub fn variables(&self) -> usize {
        self.variables
    }

    /// The clauses, in the order of the file.
    pub fn clauses(&self) -> impl Iterator<Item = &[i32]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, &end)| &self.literals[start..end])
    }

    /// Whether an assignment satisfies the formula; `values[i]` is that of
    /// variable i + 1.
    ///
    /// # Panics
    ///
    /// If there is not one value for every variable.
    pub fn is_satisfied_by(&self, values: &[bool]) -> bool {
        assert_eq!(values.len(), self.variables, "one value for every variable");
        let holds = |literal: &i32| values[literal.unsigned_abs() as usize - 1] == (*literal > 0);
        self.clauses().all(|clause| clause.iter().any(holds))
    }
}

/// Reads DIMACS CNF.
///
/// # Errors
///
/// A [`ReadError`] that names the line, if `bytes` are no formula of this
/// format or have another number of clauses than they declare.
pub fn read(bytes: &[u8]) -> Result<Formula, ReadError> {
    let mut lines = bytes
        .split(|&byte| byte == b'\n')
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim_ascii()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with(b"c"));

    let Some((mut last, header)) = lines.next() else {
        return Err(ReadError::UnexpectedEnd {
            line: 1,
            expected: "`p cnf VARIABLES CLAUSES`".into(),
        });
    };
    let (variables, clauses) = read_header(last, header, bytes.len() as u64)?;

    let mut formula = Formula {
        variables,
        ..Formula::default()
    };
    for (line, text) in lines.take_while(|(_, text)| !text.starts_with(b"%")) {
        last = line;
        for word in text
            .split(u8::is_ascii_whitespace)
            .filter(|w| !w.is_empty())
        {
            if formula.ends.len() as u64 == clauses {
                let expected = format!("no more than the {clauses} clauses declared");
                return Err(expected_at(line, expected, word));
            }
            match number::<i32>(word) {
                Some(0) => formula.ends.push(formula.literals.len()),
                Some(literal) if literal.unsigned_abs() as usize <= variables => {
                    formula.literals.push(literal);
                }
                _ => {
                    let expected = format!("a literal from -{variables} to {variables}");
                    return Err(expected_at(line, expected, word));
                }
            }
        }
    }

    let missing = if formula.ends.last().copied().unwrap_or(0) < formula.literals.len() {
        "the `0` that ends a clause".to_owned()
    } else if (formula.ends.len() as u64) < clauses {
        format!("clause {} of {clauses}", formula.ends.len() + 1)
    } else {
        return Ok(formula);
    };
    Err(ReadError::UnexpectedEnd {
        line: last,
        expected: missing,
    })
}

/// The numbers of variables and of clauses.
fn read_header(line: usize, header: &[u8], file_size: u64) -> Result<(usize, u64), ReadError> {
    let mut words = header
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    let counts = match [words.next(), words.next(), words.next(), words.next()] {
        [Some(b"p"), Some(b"cnf"), Some(variables), Some(clauses)] if words.next().is_none() => {
            number::<u64>(variables).zip(number::<u64>(clauses))
        }
        _ => None,
    };
    let Some((variables, clauses)) = counts else {
        return Err(expected_at(line, "`p cnf VARIABLES CLAUSES`", header));
    };
    if variables > MAX_VARIABLES.min(file_size + MAX_UNUSED) {
        return Err(ReadError::Unsupported {
            line,
            feature: format!("{variables} variables in a file of {file_size} bytes are"),
        });
    }
    // Fits: at most MAX_VARIABLES.
    Ok((variables as usize, clauses))
}

fn number<T: std::str::FromStr>(word: &[u8]) -> Option<T> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn expected_at(line: usize, expected: impl Into<String>, found: &[u8]) -> ReadError {
    ReadError::expected(line, expected, &String::from_utf8_lossy(found))
}
