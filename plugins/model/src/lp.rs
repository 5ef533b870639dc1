//! Reader of CPLEX LP files: linear, mixed-integer and quadratic programs.
//!
//! The grammar is CPLEX's: an objective, `subject to`, and the sections
//! `bounds`, `generals`, `binaries` and `semi-continuous` in any order, with `\` comments. A
//! quadratic objective stands in brackets, `[ x^2 + 2 x*y ] / 2`. A section's
//! keyword counts only at the beginning of a line.
//!
//! Where dialects differ: variables are in [0, ∞) unless bounded; a bound of
//! magnitude 1e20 and more is infinite; a negative upper bound does not change
//! the lower one; a second term of one variable in a row is added to the first.
//! A semi-continuous variable is 0 or within its bounds. Special ordered sets and quadratic or
//! indicator constraints are refused with [`ReadError::Unsupported`].

mod tokens;

use std::collections::HashMap;

use self::tokens::{Keyword, Relation, Token, TokenKind, Tokens};
use crate::mps::INFINITE_BOUND;
use crate::{Column, Entry, Model, ReadError, Row};

/// Whether `word` starts the objective, and so an LP file.
pub(crate) fn is_objective_keyword(word: &str) -> bool {
    matches!(tokens::keyword(word, ""), Some((Keyword::Objective(_), _)))
}

/// Reads a model from the bytes of an LP file. Bytes that are not UTF-8 are
/// replaced in names.
///
/// # Errors
///
/// A [`ReadError`] with the line at which the file is at fault.
pub fn read(bytes: &[u8]) -> Result<Model, ReadError> {
    let text = String::from_utf8_lossy(bytes);
    let mut reader = Reader {
        tokens: Tokens::new(&text)?,
        model: Model::default(),
        column_refs: HashMap::new(),
        row_refs: HashMap::new(),
        quadratic: HashMap::new(),
    };
    reader.file()?;
    Ok(reader.finish())
}

/// A linear expression, with like terms not yet collected.
#[derive(Default)]
struct Expression {
    terms: Vec<(usize, f64)>,
    constant: f64,
}

struct Reader<'a> {
    tokens: Tokens<'a>,
    model: Model,
    column_refs: HashMap<String, usize>,
    row_refs: HashMap<String, usize>,
    quadratic: HashMap<(usize, usize), f64>,
}

impl<'a> Reader<'a> {
    fn file(&mut self) -> Result<(), ReadError> {
        match self.tokens.next() {
            Some(Token {
                kind: TokenKind::Keyword(Keyword::Objective(sense)),
                ..
            }) => self.model.sense = sense,
            other => return Err(self.unexpected("`minimize` or `maximize`", other)),
        }
        self.objective()?;
        loop {
            let token = self.tokens.next();
            let Some(Token {
                kind: TokenKind::Keyword(keyword),
                line,
                ..
            }) = token
            else {
                if token.is_none() {
                    // CPLEX writes `end`, but not every tool does.
                    return Ok(());
                }
                return Err(self.unexpected("a section keyword or `end`", token));
            };
            match keyword {
                Keyword::SubjectTo => self.constraints()?,
                Keyword::Bounds => self.bounds()?,
                Keyword::General => self.names(|column| column.integer = true)?,
                Keyword::Binary => self.names(|column| {
                    column.integer = true;
                    column.lower = column.lower.max(0.0);
                    column.upper = column.upper.min(1.0);
                })?,
                Keyword::SemiContinuous => self.names(|column| column.semicontinuous = true)?,
                Keyword::End => return Ok(()),
                Keyword::Objective(_) => {
                    return Err(ReadError::Duplicate {
                        line,
                        kind: "section",
                        name: "objective".into(),
                    });
                }
                // An empty section, as HiGHS writes it, does no harm.
                Keyword::Unsupported(_) if self.at_keyword_or_end() => {}
                Keyword::Unsupported(feature) => {
                    return Err(ReadError::Unsupported {
                        line,
                        feature: feature.into(),
                    });
                }
            }
        }
    }

    fn objective(&mut self) -> Result<(), ReadError> {
        self.label();
        let expression = self.expression(true)?;
        self.model.constant = expression.constant;
        for (column, value) in expression.terms {
            self.model.columns[column].cost += value;
        }
        Ok(())
    }

    fn constraints(&mut self) -> Result<(), ReadError> {
        while !self.at_keyword_or_end() {
            let label = self.label();
            let line = self.tokens.line();
            let blank = matches!(self.tokens.peek(), Some(TokenKind::Relation(_)));
            let left = self.expression(false)?;
            let relation = self.relation()?;
            let (body, mut lower, mut upper);
            // HiGHS writes a row without variables as `name: >= 1`.
            if left.terms.is_empty() && !blank {
                // `2 <= x + y` or `2 <= x + y <= 4`.
                body = self.expression(false)?;
                if body.terms.is_empty() {
                    let next = self.tokens.next();
                    return Err(self.unexpected("a term", next));
                }
                (lower, upper) = relation.flipped().bounds(left.constant);
                if let Some(TokenKind::Relation(second)) = self.tokens.peek() {
                    self.tokens.next();
                    let (l, u) = second.bounds(self.signed_number()?);
                    (lower, upper) = (lower.max(l), upper.min(u));
                }
            } else {
                body = left;
                if let (Some(TokenKind::Name(_)), Some(TokenKind::Relation(_))) =
                    (self.tokens.peek(), self.tokens.peek_second())
                {
                    let next = self.tokens.next();
                    return Err(self.unexpected("a number", next));
                }
                (lower, upper) = relation.bounds(self.signed_number()?);
            }
            lower -= body.constant;
            upper -= body.constant;
            if let Some(TokenKind::Arrow) = self.tokens.peek() {
                return Err(ReadError::Unsupported {
                    line,
                    feature: "indicator constraints are".into(),
                });
            }
            self.add_row(line, label, &body, lower, upper)?;
        }
        Ok(())
    }

    fn add_row(
        &mut self,
        line: usize,
        label: Option<&str>,
        body: &Expression,
        lower: f64,
        upper: f64,
    ) -> Result<(), ReadError> {
        let row = self.model.rows.len();
        // The name that CPLEX gives a row without one.
        let name = label.map_or_else(|| format!("c{}", row + 1), str::to_owned);
        if self.row_refs.insert(name.clone(), row).is_some() && label.is_some() {
            return Err(ReadError::Duplicate {
                line,
                kind: "row",
                name,
            });
        }
        self.model.rows.push(Row { name, lower, upper });
        let mut seen = HashMap::new();
        for &(column, value) in &body.terms {
            let index = *seen.entry(column).or_insert(self.model.entries.len());
            if index == self.model.entries.len() {
                self.model.entries.push(Entry { row, column, value });
            } else {
                self.model.entries[index].value += value;
            }
        }
        Ok(())
    }

    fn bounds(&mut self) -> Result<(), ReadError> {
        while !self.at_keyword_or_end() {
            if let Some(TokenKind::Name(name)) = self.tokens.peek()
                && !is_infinity(name)
            {
                self.tokens.next();
                let column = self.column(name);
                if let Some(TokenKind::Name(word)) = self.tokens.peek()
                    && word.eq_ignore_ascii_case("free")
                {
                    self.tokens.next();
                    let column = &mut self.model.columns[column];
                    (column.lower, column.upper) = (f64::NEG_INFINITY, f64::INFINITY);
                    continue;
                }
                let relation = self.relation()?;
                let value = self.signed_number()?;
                self.apply_bound(column, relation, value);
            } else {
                let value = self.signed_number()?;
                let relation = self.relation()?;
                let token = self.tokens.next();
                let Some(TokenKind::Name(name)) = token.map(|token| token.kind) else {
                    return Err(self.unexpected("a variable", token));
                };
                let column = self.column(name);
                self.apply_bound(column, relation.flipped(), value);
                if let Some(TokenKind::Relation(second)) = self.tokens.peek() {
                    self.tokens.next();
                    let value = self.signed_number()?;
                    self.apply_bound(column, second, value);
                }
            }
        }
        Ok(())
    }

    fn apply_bound(&mut self, column: usize, relation: Relation, value: f64) {
        let column = &mut self.model.columns[column];
        match relation {
            Relation::LessEqual => column.upper = value,
            Relation::GreaterEqual => column.lower = value,
            Relation::Equal => (column.lower, column.upper) = (value, value),
        }
    }

    /// A list of variables, each of which `change` is applied to.
    fn names(&mut self, change: fn(&mut Column)) -> Result<(), ReadError> {
        while !self.at_keyword_or_end() {
            let token = self.tokens.next();
            let Some(TokenKind::Name(name)) = token.map(|token| token.kind) else {
                return Err(self.unexpected("a variable", token));
            };
            let column = self.column(name);
            change(&mut self.model.columns[column]);
        }
        Ok(())
    }

    /// Reads signed terms, up to a token that cannot continue them.
    fn expression(&mut self, quadratic_allowed: bool) -> Result<Expression, ReadError> {
        let mut expression = Expression::default();
        let mut first = true;
        while !self.at_keyword_or_end() {
            let (signed, sign) = self.sign();
            if !first && !signed {
                break;
            }
            first = false;
            match self.tokens.peek() {
                Some(TokenKind::Number(value)) => {
                    self.tokens.next();
                    let value = sign * self.finite(value)?;
                    if let Some(TokenKind::Star) = self.tokens.peek() {
                        self.tokens.next();
                    }
                    match self.tokens.peek() {
                        Some(TokenKind::Name(name)) if !self.is_label() => {
                            self.tokens.next();
                            let column = self.column(name);
                            expression.terms.push((column, value));
                        }
                        _ => expression.constant += value,
                    }
                }
                Some(TokenKind::Name(name)) if signed || !self.is_label() => {
                    self.tokens.next();
                    if is_infinity(name) {
                        // Only as the side of a range, `-inf <= x + y <= 3`.
                        expression.constant += sign * f64::INFINITY;
                    } else {
                        let column = self.column(name);
                        expression.terms.push((column, sign));
                    }
                }
                Some(TokenKind::Open) => {
                    let line = self.tokens.line();
                    if !quadratic_allowed {
                        return Err(ReadError::Unsupported {
                            line,
                            feature: "quadratic constraints are".into(),
                        });
                    }
                    self.tokens.next();
                    self.quadratic(sign)?;
                }
                _ if signed => {
                    let next = self.tokens.next();
                    return Err(self.unexpected("a term", next));
                }
                _ => break,
            }
        }
        Ok(expression)
    }

    /// Reads `terms ] / 2` after the opening bracket.
    fn quadratic(&mut self, outer_sign: f64) -> Result<(), ReadError> {
        let mut terms = Vec::new();
        loop {
            let (_, mut value) = self.sign();
            if let Some(TokenKind::Number(number)) = self.tokens.peek() {
                self.tokens.next();
                value *= self.finite(number)?;
                if let Some(TokenKind::Star) = self.tokens.peek() {
                    self.tokens.next();
                }
            }
            let token = self.tokens.next();
            let name = match token.map(|token| token.kind) {
                Some(TokenKind::Name(name)) => name,
                Some(TokenKind::Close) if terms.is_empty() => break,
                _ => return Err(self.unexpected("a variable", token)),
            };
            let i = self.column(name);
            let token = self.tokens.next();
            let j = match token.map(|token| token.kind) {
                Some(TokenKind::Caret) => match self.tokens.next() {
                    Some(Token {
                        kind: TokenKind::Number(2.0),
                        ..
                    }) => i,
                    other => return Err(self.unexpected("the exponent 2", other)),
                },
                Some(TokenKind::Star) => match self.tokens.next().map(|token| token.kind) {
                    Some(TokenKind::Name(second)) => self.column(second),
                    _ => return Err(self.unexpected("a variable", token)),
                },
                _ => return Err(self.unexpected("`^2` or `*`", token)),
            };
            terms.push((i.min(j), i.max(j), value));
            if let Some(TokenKind::Close) = self.tokens.peek() {
                self.tokens.next();
                break;
            }
        }
        let mut factor = outer_sign;
        if let Some(TokenKind::Slash) = self.tokens.peek() {
            self.tokens.next();
            match self.tokens.next() {
                Some(Token {
                    kind: TokenKind::Number(2.0),
                    ..
                }) => factor /= 2.0,
                other => return Err(self.unexpected("the divisor 2", other)),
            }
        }
        for (i, j, value) in terms {
            // ½xᵀQx counts a square half and a product, being there twice, once.
            let value = factor * value * if i == j { 2.0 } else { 1.0 };
            *self.quadratic.entry((i, j)).or_insert(0.0) += value;
        }
        Ok(())
    }

    /// Reads signs; whether there were any, and their product.
    fn sign(&mut self) -> (bool, f64) {
        let (mut any, mut sign) = (false, 1.0);
        while let Some(TokenKind::Plus | TokenKind::Minus) = self.tokens.peek() {
            if let Some(TokenKind::Minus) = self.tokens.next().map(|token| token.kind) {
                sign = -sign;
            }
            any = true;
        }
        (any, sign)
    }

    /// A number with signs, perhaps infinite.
    fn signed_number(&mut self) -> Result<f64, ReadError> {
        let (_, sign) = self.sign();
        let token = self.tokens.next();
        match token.map(|token| token.kind) {
            Some(TokenKind::Number(value)) if value < INFINITE_BOUND => Ok(sign * value),
            Some(TokenKind::Number(_)) => Ok(sign * f64::INFINITY),
            Some(TokenKind::Name(name)) if is_infinity(name) => Ok(sign * f64::INFINITY),
            _ => Err(self.unexpected("a number", token)),
        }
    }

    fn relation(&mut self) -> Result<Relation, ReadError> {
        let token = self.tokens.next();
        match token.map(|token| token.kind) {
            Some(TokenKind::Relation(relation)) => Ok(relation),
            _ => Err(self.unexpected("`<=`, `>=` or `=`", token)),
        }
    }

    /// Whether a `name:` comes next.
    fn is_label(&self) -> bool {
        matches!(
            (self.tokens.peek(), self.tokens.peek_second()),
            (Some(TokenKind::Name(_)), Some(TokenKind::Colon))
        )
    }

    /// Reads a `name:` if one comes next.
    fn label(&mut self) -> Option<&'a str> {
        if !self.is_label() {
            return None;
        }
        let Some(TokenKind::Name(name)) = self.tokens.next().map(|token| token.kind) else {
            return None;
        };
        self.tokens.next();
        Some(name)
    }

    fn at_keyword_or_end(&self) -> bool {
        matches!(self.tokens.peek(), None | Some(TokenKind::Keyword(_)))
    }

    fn column(&mut self, name: &str) -> usize {
        if let Some(&column) = self.column_refs.get(name) {
            return column;
        }
        self.model.columns.push(Column::new(name));
        let column = self.model.columns.len() - 1;
        self.column_refs.insert(name.into(), column);
        column
    }

    fn finite(&self, value: f64) -> Result<f64, ReadError> {
        if value.is_finite() {
            return Ok(value);
        }
        let line = self.tokens.line();
        Err(ReadError::expected(line, "a finite number", "infinity"))
    }

    fn unexpected(&self, expected: &str, found: Option<Token<'_>>) -> ReadError {
        match found {
            Some(token) => ReadError::expected(token.line, expected, token.text),
            None => ReadError::UnexpectedEnd {
                line: self.tokens.line(),
                expected: expected.into(),
            },
        }
    }

    fn finish(mut self) -> Model {
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

fn is_infinity(name: &str) -> bool {
    name.eq_ignore_ascii_case("inf") || name.eq_ignore_ascii_case("infinity")
}
