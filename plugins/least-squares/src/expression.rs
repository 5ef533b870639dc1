//! Formulas such as `b1*(1-exp(-b2*x))`, their values and exact derivatives.
//!
//! | | |
//! |---|---|
//! | operators | `+ - * /`, and `**` or `^` for powers, from the right and before a sign: `-x^2` is −(x²) |
//! | grouping | `( )` and, as NIST's formulas have it, `[ ]` |
//! | functions | `exp log ln log10 sqrt abs sin cos tan asin acos atan arcsin arccos arctan sinh cosh tanh`; `log` is the natural one |
//! | constant | `pi` |
//!
//! An [`Expression`] is a list of instructions for a stack machine. Its
//! derivatives are computed forwards: every number on the stack carries its
//! derivatives by all parameters, so they are exact up to rounding.

use std::f64::consts::{LN_10, PI};

/// Nesting deeper than this is refused, so that reading cannot overflow the
/// stack. No formula written by people comes near.
const MAX_DEPTH: usize = 100;

/// What a name in a formula stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Symbol {
    /// A number that is sought: its index.
    Parameter(usize),
    /// A column of the data: its index.
    Variable(usize),
}

/// Why a text is not a formula.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// The formula's grammar is broken; mend it at that place.
    #[error("formula, character {position}: expected {expected}, found {found}")]
    Expected {
        /// Character of the formula, from 1.
        position: usize,
        /// What may stand there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// A name is neither a parameter, nor a column of the data, nor known.
    #[error("formula, character {position}: unknown {kind} `{name}`")]
    Unknown {
        /// Character of the formula, from 1.
        position: usize,
        /// "name" or "function".
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// Parentheses are nested too deeply; simplify the formula.
    #[error("the formula is nested more than {MAX_DEPTH} levels deep")]
    TooDeep,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Function {
    Negate,
    Exp,
    Log,
    Log10,
    Sqrt,
    Abs,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Tanh,
}

impl Function {
    fn by_name(name: &str) -> Option<Function> {
        Some(match name.to_ascii_lowercase().as_str() {
            "exp" => Function::Exp,
            "log" | "ln" => Function::Log,
            "log10" => Function::Log10,
            "sqrt" => Function::Sqrt,
            "abs" => Function::Abs,
            "sin" => Function::Sin,
            "cos" => Function::Cos,
            "tan" => Function::Tan,
            "asin" | "arcsin" => Function::Asin,
            "acos" | "arccos" => Function::Acos,
            "atan" | "arctan" => Function::Atan,
            "sinh" => Function::Sinh,
            "cosh" => Function::Cosh,
            "tanh" => Function::Tanh,
            _ => return None,
        })
    }

    /// Value and derivative at `u`.
    fn at(self, u: f64) -> (f64, f64) {
        match self {
            Function::Negate => (-u, -1.0),
            Function::Exp => (u.exp(), u.exp()),
            Function::Log => (u.ln(), 1.0 / u),
            Function::Log10 => (u.log10(), 1.0 / (u * LN_10)),
            Function::Sqrt => (u.sqrt(), 0.5 / u.sqrt()),
            Function::Abs => (u.abs(), u.signum()),
            Function::Sin => (u.sin(), u.cos()),
            Function::Cos => (u.cos(), -u.sin()),
            Function::Tan => (u.tan(), 1.0 / u.cos().powi(2)),
            Function::Asin => (u.asin(), 1.0 / (1.0 - u * u).sqrt()),
            Function::Acos => (u.acos(), -1.0 / (1.0 - u * u).sqrt()),
            Function::Atan => (u.atan(), 1.0 / (1.0 + u * u)),
            Function::Sinh => (u.sinh(), u.cosh()),
            Function::Cosh => (u.cosh(), u.sinh()),
            Function::Tanh => (u.tanh(), 1.0 - u.tanh().powi(2)),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Instruction {
    Push(f64),
    Load(Symbol),
    Apply(Function),
    Add,
    Subtract,
    Multiply,
    Divide,
    Power,
}

/// A formula. It never evaluates out of bounds: its instructions leave exactly
/// one number on the stack.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    instructions: Vec<Instruction>,
}

impl Expression {
    /// Reads a formula in which `resolve` says what the names stand for.
    ///
    /// # Errors
    ///
    /// An [`ExpressionError`] with the place at which the text is at fault.
    pub fn parse(
        text: &str,
        resolve: impl Fn(&str) -> Option<Symbol>,
    ) -> Result<Expression, ExpressionError> {
        let mut parser = Parser {
            text: text.chars().collect(),
            next: 0,
            depth: 0,
            resolve,
            instructions: Vec::new(),
        };
        parser.sum()?;
        match parser.peek() {
            None => Ok(Expression {
                instructions: parser.instructions,
            }),
            Some(_) => Err(parser.unexpected("an operator or the end")),
        }
    }

    /// The value for one row of data. NaN where the formula is not defined.
    ///
    /// # Panics
    ///
    /// If there are fewer parameters or variables than the formula names.
    pub fn value(&self, parameters: &[f64], row: &[f64]) -> f64 {
        let mut evaluator = Evaluator::new(0);
        evaluator.evaluate(self, parameters, row)[0]
    }
}

/// The stack on which formulas are evaluated; keep it between evaluations.
#[derive(Debug)]
pub struct Evaluator {
    /// Numbers, each followed by its derivatives.
    stack: Vec<f64>,
    derivatives: usize,
}

impl Evaluator {
    /// A stack whose numbers carry the derivatives by the first `derivatives`
    /// parameters.
    pub fn new(derivatives: usize) -> Self {
        Evaluator {
            stack: Vec::new(),
            derivatives,
        }
    }

    /// The value of a formula and then its derivatives.
    ///
    /// # Panics
    ///
    /// If there are fewer parameters or variables than the formula names.
    pub fn evaluate(&mut self, expression: &Expression, parameters: &[f64], row: &[f64]) -> &[f64] {
        self.stack.clear();
        for &instruction in &expression.instructions {
            match instruction {
                Instruction::Push(value) => self.push(value, None),
                Instruction::Load(Symbol::Variable(index)) => self.push(row[index], None),
                Instruction::Load(Symbol::Parameter(index)) => {
                    self.push(parameters[index], Some(index));
                }
                Instruction::Apply(function) => {
                    let top = self.stack.len() - self.derivatives - 1;
                    let (value, slope) = function.at(self.stack[top]);
                    self.stack[top] = value;
                    for derivative in &mut self.stack[top + 1..] {
                        // A constant stays one even where the slope is infinite.
                        if *derivative != 0.0 {
                            *derivative *= slope;
                        }
                    }
                }
                binary => self.binary(binary),
            }
        }
        &self.stack
    }

    fn push(&mut self, value: f64, parameter: Option<usize>) {
        self.stack.push(value);
        let start = self.stack.len();
        self.stack.resize(start + self.derivatives, 0.0);
        if let Some(index) = parameter.filter(|&index| index < self.derivatives) {
            self.stack[start + index] = 1.0;
        }
    }

    /// Replaces the two uppermost numbers by what the instruction makes of them.
    fn binary(&mut self, instruction: Instruction) {
        let width = self.derivatives + 1;
        let middle = self.stack.len() - width;
        let (rest, second) = self.stack.split_at_mut(middle);
        let first = &mut rest[middle - width..];
        let (u, v) = (first[0], second[0]);
        // Value, and derivatives by u and by v.
        let (value, by_u, by_v) = match instruction {
            Instruction::Add => (u + v, 1.0, 1.0),
            Instruction::Subtract => (u - v, 1.0, -1.0),
            Instruction::Multiply => (u * v, v, u),
            Instruction::Divide => (u / v, 1.0 / v, -u / (v * v)),
            _ => {
                let power = u.powf(v);
                (power, v * u.powf(v - 1.0), power * u.ln())
            }
        };
        first[0] = value;
        for (du, dv) in first[1..].iter_mut().zip(&second[1..]) {
            // What does not depend on a parameter must not bring in the NaN
            // of, say, the logarithm of a negative base.
            let part = |slope: f64, d: f64| if d == 0.0 { 0.0 } else { slope * d };
            *du = part(by_u, *du) + part(by_v, *dv);
        }
        self.stack.truncate(middle);
    }
}

struct Parser<R> {
    text: Vec<char>,
    next: usize,
    depth: usize,
    resolve: R,
    instructions: Vec<Instruction>,
}

impl<R: Fn(&str) -> Option<Symbol>> Parser<R> {
    fn sum(&mut self) -> Result<(), ExpressionError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ExpressionError::TooDeep);
        }
        self.product()?;
        loop {
            let instruction = match self.peek() {
                Some('+') => Instruction::Add,
                Some('-') => Instruction::Subtract,
                _ => break,
            };
            self.next += 1;
            self.product()?;
            self.instructions.push(instruction);
        }
        self.depth -= 1;
        Ok(())
    }

    fn product(&mut self) -> Result<(), ExpressionError> {
        self.signed()?;
        loop {
            let instruction = match self.peek() {
                Some('*') => Instruction::Multiply,
                Some('/') => Instruction::Divide,
                _ => return Ok(()),
            };
            self.next += 1;
            self.signed()?;
            self.instructions.push(instruction);
        }
    }

    /// A power with signs before it.
    fn signed(&mut self) -> Result<(), ExpressionError> {
        let mut negative = false;
        while let Some(sign @ ('+' | '-')) = self.peek() {
            self.next += 1;
            negative ^= sign == '-';
        }
        self.power()?;
        if negative {
            self.instructions.push(Instruction::Apply(Function::Negate));
        }
        Ok(())
    }

    fn power(&mut self) -> Result<(), ExpressionError> {
        self.primary()?;
        if !self.take_power() {
            return Ok(());
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ExpressionError::TooDeep);
        }
        self.signed()?;
        self.depth -= 1;
        self.instructions.push(Instruction::Power);
        Ok(())
    }

    fn take_power(&mut self) -> bool {
        if self.peek() == Some('^') {
            self.next += 1;
            return true;
        }
        // `peek` has skipped the blanks before the first star.
        if self.peek() == Some('*') && self.text.get(self.next + 1) == Some(&'*') {
            self.next += 2;
            return true;
        }
        false
    }

    fn primary(&mut self) -> Result<(), ExpressionError> {
        match self.peek() {
            Some('(' | '[') => self.group(),
            Some(c) if c.is_ascii_digit() || c == '.' => self.number(),
            Some(c) if c.is_alphabetic() || c == '_' => self.name(),
            _ => Err(self.unexpected("a number, a name or a parenthesis")),
        }
    }

    fn group(&mut self) -> Result<(), ExpressionError> {
        let close = if self.peek() == Some('(') { ')' } else { ']' };
        self.next += 1;
        self.sum()?;
        if self.peek() != Some(close) {
            return Err(self.unexpected("an operator or the closing parenthesis"));
        }
        self.next += 1;
        Ok(())
    }

    fn number(&mut self) -> Result<(), ExpressionError> {
        let start = self.next;
        let digits = |parser: &mut Self| {
            let from = parser.next;
            while parser
                .text
                .get(parser.next)
                .is_some_and(char::is_ascii_digit)
            {
                parser.next += 1;
            }
            parser.next > from
        };
        digits(self);
        if self.text.get(self.next) == Some(&'.') {
            self.next += 1;
            digits(self);
        }
        if let Some('e' | 'E') = self.text.get(self.next) {
            let before = self.next;
            self.next += 1;
            if let Some('+' | '-') = self.text.get(self.next) {
                self.next += 1;
            }
            if !digits(self) {
                // Not an exponent.
                self.next = before;
            }
        }
        let text: String = self.text[start..self.next].iter().collect();
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => {
                self.instructions.push(Instruction::Push(value));
                Ok(())
            }
            _ => {
                self.next = start;
                Err(self.unexpected("a number"))
            }
        }
    }

    fn name(&mut self) -> Result<(), ExpressionError> {
        let start = self.next;
        while self
            .text
            .get(self.next)
            .is_some_and(|&c| c.is_alphanumeric() || c == '_')
        {
            self.next += 1;
        }
        let name: String = self.text[start..self.next].iter().collect();
        let unknown = |kind| ExpressionError::Unknown {
            position: start + 1,
            kind,
            name: name.clone(),
        };
        if let Some(symbol) = (self.resolve)(&name) {
            self.instructions.push(Instruction::Load(symbol));
            return Ok(());
        }
        if let Some('(' | '[') = self.peek() {
            let function = Function::by_name(&name).ok_or_else(|| unknown("function"))?;
            self.group()?;
            self.instructions.push(Instruction::Apply(function));
            return Ok(());
        }
        if name.eq_ignore_ascii_case("pi") {
            self.instructions.push(Instruction::Push(PI));
            return Ok(());
        }
        Err(unknown("name"))
    }

    /// The next character that is not blank; skips those that are.
    fn peek(&mut self) -> Option<char> {
        while self.text.get(self.next).is_some_and(|c| c.is_whitespace()) {
            self.next += 1;
        }
        self.text.get(self.next).copied()
    }

    fn unexpected(&self, expected: &'static str) -> ExpressionError {
        ExpressionError::Expected {
            position: self.next + 1,
            expected,
            found: match self.text.get(self.next) {
                Some(c) => format!("`{c}`"),
                None => "the end".into(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Expression, ExpressionError> {
        Expression::parse(text, |name| match name {
            "a" => Some(Symbol::Parameter(0)),
            "b" => Some(Symbol::Parameter(1)),
            "x" => Some(Symbol::Variable(0)),
            _ => None,
        })
    }

    fn value(text: &str) -> f64 {
        parse(text).unwrap().value(&[2.0, -3.0], &[0.5])
    }

    #[test]
    fn precedence_is_that_of_mathematics() {
        for (text, expected) in [
            ("1 + 2*3 - 4/8", 6.5),
            ("2 - 3 - 4", -5.0),
            ("-2**2", -4.0),
            ("2^3^2", 512.0),
            ("2**-1", 0.5),
            ("-x**2 / a", -0.125),
            ("(1+a)*[b]", -9.0),
            ("--a", 2.0),
            (".5E1 + 1.e-1", 5.1),
            ("exp[0] + cos( 2*pi*x/1 )", 0.0),
            ("arctan[1]*4 - pi", 0.0),
        ] {
            assert!((value(text) - expected).abs() < 1e-15, "{text}");
        }
    }

    #[test]
    fn derivatives_agree_with_differences() {
        for text in [
            "a*b",
            "a/b",
            "a-b/a",
            "a**b",
            "a**3",
            "b**2",
            "b**3 * a",
            "x**a",
            "exp(a*b)",
            "log(a)",
            "log10(a)",
            "sqrt(a)",
            "abs(b)",
            "sin(a)",
            "cos(b)",
            "tan(a)",
            "asin(a/4)",
            "acos(b/4)",
            "atan(a*b)",
            "sinh(a)",
            "cosh(b)",
            "tanh(a/b)",
            "-a",
            "a*(1-exp[-b*x])",
        ] {
            let expression = parse(text).unwrap();
            let at = |a: f64, b: f64| expression.value(&[a, b], &[0.5]);
            let (a, b, h) = (2.0, -3.0, 1e-6);
            let numeric = [
                (at(a + h, b) - at(a - h, b)) / (2.0 * h),
                (at(a, b + h) - at(a, b - h)) / (2.0 * h),
            ];
            let mut evaluator = Evaluator::new(2);
            let exact = evaluator.evaluate(&expression, &[a, b], &[0.5]);
            assert_eq!(exact[0], at(a, b), "{text}");
            for (exact, numeric) in exact[1..].iter().zip(numeric) {
                let error = (exact - numeric).abs() / (1.0 + exact.abs());
                assert!(error < 1e-8, "{text}: {exact} {numeric}");
            }
        }
    }

    #[test]
    fn faults_are_located() {
        for (text, message) in [
            (
                "",
                "formula, character 1: expected a number, a name or a parenthesis, found the end",
            ),
            (
                "1 +",
                "formula, character 4: expected a number, a name or a parenthesis, found the end",
            ),
            (
                "(1",
                "formula, character 3: expected an operator or the closing parenthesis, found the end",
            ),
            (
                "(1]",
                "formula, character 3: expected an operator or the closing parenthesis, found `]`",
            ),
            (
                "1 2",
                "formula, character 3: expected an operator or the end, found `2`",
            ),
            ("a + c", "formula, character 5: unknown name `c`"),
            ("f(a)", "formula, character 1: unknown function `f`"),
            (
                "2 * * 3",
                "formula, character 5: expected a number, a name or a parenthesis, found `*`",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), message, "{text:?}");
        }
        assert_eq!(parse(&"(".repeat(100_000)), Err(ExpressionError::TooDeep));
        assert_eq!(parse(&"2^".repeat(100_000)), Err(ExpressionError::TooDeep));
    }

    #[test]
    fn long_formulas_are_no_deep_ones() {
        let text = format!("1{}", "+1".repeat(100_000));
        assert_eq!(value(&text), 100_001.0);
    }
}
