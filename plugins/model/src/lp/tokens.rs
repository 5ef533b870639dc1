//! Splits an LP file into tokens.

use crate::{ReadError, Sense};

/// The direction of a comparison. The format does not distinguish `<` and `<=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    LessEqual,
    GreaterEqual,
    Equal,
}

impl Relation {
    /// The relation seen from the other side.
    pub(super) fn flipped(self) -> Self {
        match self {
            Relation::LessEqual => Relation::GreaterEqual,
            Relation::GreaterEqual => Relation::LessEqual,
            Relation::Equal => Relation::Equal,
        }
    }

    /// The lower and upper side of `expression relation value`.
    pub(super) fn bounds(self, value: f64) -> (f64, f64) {
        match self {
            Relation::LessEqual => (f64::NEG_INFINITY, value),
            Relation::GreaterEqual => (value, f64::INFINITY),
            Relation::Equal => (value, value),
        }
    }
}

/// The start of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    Objective(Sense),
    SubjectTo,
    Bounds,
    General,
    Binary,
    /// Of variables that are 0 or within their bounds.
    SemiContinuous,
    /// A section of something no plugin solves: the thing, with its verb.
    Unsupported(&'static str),
    End,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum TokenKind<'a> {
    Keyword(Keyword),
    Name(&'a str),
    /// Never negative; may be infinite if too large for a double.
    Number(f64),
    Relation(Relation),
    Plus,
    Minus,
    Star,
    Caret,
    Slash,
    Open,
    Close,
    Colon,
    /// `->` of an indicator constraint.
    Arrow,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    pub(super) kind: TokenKind<'a>,
    /// As it stands in the file.
    pub(super) text: &'a str,
    /// From 1.
    pub(super) line: usize,
}

/// The tokens of a file and a position among them.
pub(super) struct Tokens<'a> {
    tokens: Vec<Token<'a>>,
    next: usize,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(text: &'a str) -> Result<Self, ReadError> {
        let mut tokens = Vec::new();
        for (index, raw) in text.lines().enumerate() {
            line_tokens(raw, index + 1, &mut tokens)?;
        }
        Ok(Tokens { tokens, next: 0 })
    }

    pub(super) fn next(&mut self) -> Option<Token<'a>> {
        let token = self.tokens.get(self.next).copied();
        self.next += usize::from(token.is_some());
        token
    }

    pub(super) fn peek(&self) -> Option<TokenKind<'a>> {
        self.tokens.get(self.next).map(|token| token.kind)
    }

    pub(super) fn peek_second(&self) -> Option<TokenKind<'a>> {
        self.tokens.get(self.next + 1).map(|token| token.kind)
    }

    /// The line of the next token, or the last one there is.
    pub(super) fn line(&self) -> usize {
        let token = self.tokens.get(self.next).or(self.tokens.last());
        token.map_or(1, |token| token.line)
    }
}

/// The section that a line beginning with `first` and then `second` starts, and
/// how many of the two words name it.
pub(super) fn keyword(first: &str, second: &str) -> Option<(Keyword, usize)> {
    let one = |keyword| Some((keyword, 1));
    match first.to_ascii_lowercase().as_str() {
        "min" | "minimize" | "minimise" | "minimum" => one(Keyword::Objective(Sense::Minimize)),
        "max" | "maximize" | "maximise" | "maximum" => one(Keyword::Objective(Sense::Maximize)),
        "st" | "st." | "s.t." => one(Keyword::SubjectTo),
        "subject" if second.eq_ignore_ascii_case("to") => Some((Keyword::SubjectTo, 2)),
        "such" if second.eq_ignore_ascii_case("that") => Some((Keyword::SubjectTo, 2)),
        "bound" | "bounds" => one(Keyword::Bounds),
        "gen" | "general" | "generals" | "int" | "integer" | "integers" => one(Keyword::General),
        "bin" | "binary" | "binaries" => one(Keyword::Binary),
        "semi" | "semis" | "semi-continuous" => one(Keyword::SemiContinuous),
        "sos" | "sos1" | "sos2" => one(Keyword::Unsupported("special ordered sets are")),
        "pwlobj" => one(Keyword::Unsupported("piecewise linear objectives are")),
        "end" => one(Keyword::End),
        _ => None,
    }
}

/// Appends the tokens of one line.
fn line_tokens<'a>(
    raw: &'a str,
    line: usize,
    tokens: &mut Vec<Token<'a>>,
) -> Result<(), ReadError> {
    let mut rest = raw.split('\\').next().unwrap_or("").trim();
    let mut words = rest.split_whitespace();
    let (first, second) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    if let Some((keyword, count)) = keyword(first, second)
        && second != ":"
    {
        let skip = |text: &'a str, word: &str| text[word.len()..].trim_start();
        let after = if count == 2 {
            skip(skip(rest, first), second)
        } else {
            skip(rest, first)
        };
        tokens.push(Token {
            kind: TokenKind::Keyword(keyword),
            text: &rest[..rest.len() - after.len()],
            line,
        });
        rest = after;
    }
    while let Some(first) = rest.chars().next() {
        let (kind, length) = if first.is_ascii_digit() || first == '.' {
            let length = number_length(rest);
            let value = rest[..length]
                .parse()
                .map_err(|_| ReadError::expected(line, "a number", &rest[..length]))?;
            (TokenKind::Number(value), length)
        } else if let Some(found) = operator(rest) {
            found
        } else {
            let length = name_length(rest);
            (TokenKind::Name(&rest[..length]), length)
        };
        tokens.push(Token {
            kind,
            text: &rest[..length],
            line,
        });
        rest = rest[length..].trim_start();
    }
    Ok(())
}

fn operator(text: &str) -> Option<(TokenKind<'_>, usize)> {
    use Relation::{Equal, GreaterEqual, LessEqual};
    const OPERATORS: [(&str, TokenKind<'_>); 16] = [
        ("->", TokenKind::Arrow),
        ("<=", TokenKind::Relation(LessEqual)),
        ("=<", TokenKind::Relation(LessEqual)),
        (">=", TokenKind::Relation(GreaterEqual)),
        ("=>", TokenKind::Relation(GreaterEqual)),
        ("<", TokenKind::Relation(LessEqual)),
        (">", TokenKind::Relation(GreaterEqual)),
        ("=", TokenKind::Relation(Equal)),
        ("+", TokenKind::Plus),
        ("-", TokenKind::Minus),
        ("*", TokenKind::Star),
        ("^", TokenKind::Caret),
        ("/", TokenKind::Slash),
        ("[", TokenKind::Open),
        ("]", TokenKind::Close),
        (":", TokenKind::Colon),
    ];
    OPERATORS
        .into_iter()
        .find(|(symbol, _)| text.starts_with(symbol))
        .map(|(symbol, kind)| (kind, symbol.len()))
}

/// Length of the number at the start of `text`: digits, a point, digits, and an
/// exponent if digits follow its letter.
fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digits = |from: usize| {
        from + bytes[from..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count()
    };
    let mut end = digits(0);
    if bytes.get(end) == Some(&b'.') {
        end = digits(end + 1);
    }
    if let Some(b'e' | b'E') = bytes.get(end) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = end + 1 + sign;
        if exponent <= bytes.len() && digits(exponent) > exponent {
            end = digits(exponent);
        }
    }
    end
}

/// Length of the name at the start of `text`; at least one character.
fn name_length(text: &str) -> usize {
    text.char_indices()
        .skip(1)
        .find(|&(_, c)| c.is_whitespace() || "+-*^<>=:[]".contains(c))
        .map_or(text.len(), |(index, _)| index)
}
