//! The segments after the header, in any order.

use std::sync::Arc;

use super::expression::{Arity, Expression, Node, Operator, PiecewiseLinear};
use super::header::Header;
use super::input::Input;
use super::{
    DefinedVariable, NlConstraint, NlModel, NlObjective, NlVariable, Suffix, SuffixTarget, Terms,
};
use crate::{ReadError, Sense};

/// Bits of a suffix's kind: what it belongs to, and whether it is real.
const SUFFIX_TARGET: i64 = 3;
const SUFFIX_REAL: i64 = 4;

/// What was read so far; `None` where nothing was.
struct Reader<'a> {
    input: Input<'a>,
    header: Header,
    /// Where the current segment begins.
    segment_line: usize,
    constraints: Vec<Option<Expression>>,
    constraint_terms: Vec<Option<Terms>>,
    objectives: Vec<Option<(Sense, Expression)>>,
    objective_terms: Vec<Option<Terms>>,
    logical: Vec<Option<Expression>>,
    defined: Vec<Option<DefinedVariable>>,
    variable_bounds: Option<Vec<(f64, f64)>>,
    constraint_bounds: Option<Vec<(f64, f64)>>,
    start: Vec<f64>,
    dual_start: Vec<f64>,
    suffixes: Vec<Suffix>,
}

/// Reads a `.nl` file, text or binary.
///
/// # Errors
///
/// A [`ReadError`], with the line in text and the offset in binary files, if
/// `bytes` are no `.nl` file or one with imported functions, strings or
/// complementarity constraints.
pub fn read(bytes: &[u8]) -> Result<NlModel, ReadError> {
    let mut input = Input::new(bytes);
    let header = Header::read(&mut input)?;
    let mut reader = Reader {
        constraints: vec![None; header.constraints],
        constraint_terms: vec![None; header.constraints],
        objectives: vec![None; header.objectives],
        objective_terms: vec![None; header.objectives],
        logical: vec![None; header.logical],
        defined: vec![None; header.defined],
        variable_bounds: None,
        constraint_bounds: None,
        start: vec![0.0; header.variables],
        dual_start: vec![0.0; header.constraints],
        suffixes: Vec::new(),
        segment_line: input.line(),
        input,
        header,
    };
    while let Some(tag) = reader.input.segment() {
        reader.segment_line = reader.input.line();
        reader.segment(tag)?;
    }
    reader.finish()
}

impl Reader<'_> {
    fn segment(&mut self, tag: u8) -> Result<(), ReadError> {
        match tag {
            b'C' => {
                let index = self.numbered(self.constraints.len(), "constraint")?;
                let expression = self.expression()?;
                self.once("C segment", index, |r| &mut r.constraints, expression)
            }
            b'L' => {
                let index = self.numbered(self.logical.len(), "logical constraint")?;
                let expression = self.expression()?;
                self.once("L segment", index, |r| &mut r.logical, expression)
            }
            b'O' => {
                let index = self.input.index(self.objectives.len(), "an objective")?;
                let sense = match self.input.integer("0 or 1")? {
                    0 => Sense::Minimize,
                    _ => Sense::Maximize,
                };
                self.input.end_line();
                let expression = self.expression()?;
                self.once(
                    "O segment",
                    index,
                    |r| &mut r.objectives,
                    (sense, expression),
                )
            }
            b'V' => self.defined_variable(),
            b'J' => {
                let index = self.input.index(self.constraints.len(), "a constraint")?;
                let terms = self.terms()?;
                self.once("J segment", index, |r| &mut r.constraint_terms, terms)
            }
            b'G' => {
                let index = self.input.index(self.objectives.len(), "an objective")?;
                let terms = self.terms()?;
                self.once("G segment", index, |r| &mut r.objective_terms, terms)
            }
            b'b' => {
                let bounds = self.bounds(self.header.variables)?;
                match self.variable_bounds.replace(bounds) {
                    None => Ok(()),
                    Some(_) => Err(self.twice("b")),
                }
            }
            b'r' => {
                let bounds = self.bounds(self.header.constraints)?;
                match self.constraint_bounds.replace(bounds) {
                    None => Ok(()),
                    Some(_) => Err(self.twice("r")),
                }
            }
            b'x' => {
                let values = self.values(self.header.variables, true)?;
                for (index, value) in values {
                    self.start[index] = value;
                }
                Ok(())
            }
            b'd' => {
                let values = self.values(self.header.constraints, true)?;
                for (index, value) in values {
                    self.dual_start[index] = value;
                }
                Ok(())
            }
            b'k' | b'K' => self.column_sizes(),
            b'S' => self.suffix(),
            b'F' => Err(self.input.unsupported("imported functions are")),
            other => Err(self.input.expected(
                "a segment (one of C L O V J G b r x d k K S)",
                &char::from(other).to_string(),
            )),
        }
    }

    /// The index of a segment that has nothing else on its line.
    fn numbered(&mut self, end: usize, what: &str) -> Result<usize, ReadError> {
        let index = self.input.index(end, &format!("a {what}"))?;
        self.input.end_line();
        Ok(index)
    }

    /// Keeps what a segment says, unless another one said it before.
    fn once<T>(
        &mut self,
        kind: &'static str,
        index: usize,
        place: fn(&mut Self) -> &mut Vec<Option<T>>,
        value: T,
    ) -> Result<(), ReadError> {
        let slot = &mut place(self)[index];
        if slot.is_some() {
            let name = index.to_string();
            return Err(self.input.duplicate(self.segment_line, kind, name));
        }
        *slot = Some(value);
        Ok(())
    }

    /// The error that a segment without a number appears twice.
    fn twice(&self, name: &str) -> ReadError {
        let name = name.to_owned();
        self.input.duplicate(self.segment_line, "segment", name)
    }

    /// An expression, node by node. `missing` counts the arguments that
    /// operations still lack.
    fn expression(&mut self) -> Result<Expression, ReadError> {
        const EXPECTED: &str = "an expression (n, v or o)";
        let mut nodes = Vec::new();
        let mut missing = 1;
        while missing > 0 {
            missing -= 1;
            let node = match self.input.tag(EXPECTED)? {
                b'n' => Node::Number(self.input.number("a number")?),
                b's' => Node::Number(self.input.short("an integer")? as f64),
                b'l' => Node::Number(self.input.integer("an integer")? as f64),
                b'v' => self.reference()?,
                b'o' => self.operation()?,
                b'f' => return Err(self.input.unsupported("imported functions are")),
                b'h' => return Err(self.input.unsupported("strings are")),
                other => {
                    let found = char::from(other).to_string();
                    return Err(self.input.expected(EXPECTED, &found));
                }
            };
            match node {
                Node::Operation(_, arguments) => missing += arguments as usize,
                Node::PiecewiseLinear(_) => missing += 1,
                _ => {}
            }
            nodes.push(node);
            self.input.end_line();
        }
        nodes.shrink_to_fit();
        Ok(Expression::of_read_nodes(nodes))
    }

    /// A variable or a defined variable; the latter must be known already,
    /// so that none depends on itself.
    fn reference(&mut self) -> Result<Node, ReadError> {
        let variables = self.header.variables;
        let end = variables + self.defined.len();
        let index = self.input.index(end, "a variable")?;
        if index < variables {
            return Ok(Node::Variable(index));
        }
        if self.defined[index - variables].is_none() {
            let expected = "a defined variable whose V segment comes before";
            return Err(self.input.expected(expected, &format!("v{index}")));
        }
        Ok(Node::Defined(index - variables))
    }

    fn operation(&mut self) -> Result<Node, ReadError> {
        /// Opcodes that are no operators of numbers.
        const PIECEWISE_LINEAR: i64 = 64;
        const OF_STRINGS: [i64; 2] = [61, 65];

        let code = self.input.integer("an opcode")?;
        if code == PIECEWISE_LINEAR {
            return self.piecewise_linear();
        }
        if OF_STRINGS.contains(&code) {
            return Err(self.input.unsupported("strings are"));
        }
        let operator = u64::try_from(code).ok().and_then(Operator::from_opcode);
        let Some(operator) = operator else {
            return Err(self.input.expected("an opcode", &code.to_string()));
        };
        let arguments = match operator.arity() {
            Arity::Exactly(arguments) => arguments,
            Arity::AtLeast(least) => {
                self.input.end_line();
                let count = self.input.count("a number of arguments")?;
                u32::try_from(count)
                    .ok()
                    .filter(|&count| count >= least)
                    .ok_or_else(|| {
                        let expected = format!("at least {least} arguments");
                        self.input.expected(expected, &count.to_string())
                    })?
            }
        };
        Ok(Node::Operation(operator, arguments))
    }

    fn piecewise_linear(&mut self) -> Result<Node, ReadError> {
        self.input.end_line();
        let slopes = self.input.count("a number of slopes")?;
        if slopes == 0 {
            return Err(self.input.expected("at least 1 slope", "0"));
        }
        let mut function = PiecewiseLinear {
            slopes: Vec::new(),
            breakpoints: Vec::new(),
        };
        for piece in 0..slopes {
            self.input.end_line();
            function.slopes.push(self.constant("a slope")?);
            if piece + 1 < slopes {
                self.input.end_line();
                let at = self.constant("a breakpoint")?;
                if function.breakpoints.last().is_some_and(|&last| at < last) {
                    let expected = "breakpoints in ascending order";
                    return Err(self.input.expected(expected, &at.to_string()));
                }
                function.breakpoints.push(at);
            }
        }
        Ok(Node::PiecewiseLinear(Arc::new(function)))
    }

    fn constant(&mut self, expected: &str) -> Result<f64, ReadError> {
        match self.input.tag(expected)? {
            b'n' => self.input.number(expected),
            b's' => Ok(self.input.short(expected)? as f64),
            b'l' => Ok(self.input.integer(expected)? as f64),
            other => {
                let found = char::from(other).to_string();
                Err(self.input.expected(expected, &found))
            }
        }
    }

    fn defined_variable(&mut self) -> Result<(), ReadError> {
        let variables = self.header.variables;
        let end = variables + self.defined.len();
        let index = self.input.index(end, "a defined variable")?;
        if index < variables {
            let expected = format!("a defined variable from {variables} on");
            return Err(self.input.expected(expected, &index.to_string()));
        }
        let count = self.input.count("a number of terms")?;
        // Which constraint or objective it is used in; of no use here.
        self.input.integer("where it is used")?;
        self.input.end_line();
        let linear = self.linear(count)?;
        let expression = self.expression()?;
        let defined = DefinedVariable { linear, expression };
        self.once("V segment", index - variables, |r| &mut r.defined, defined)
    }

    /// The number of terms, the end of the line, and the terms.
    fn terms(&mut self) -> Result<Terms, ReadError> {
        let count = self.input.count("a number of terms")?;
        self.input.end_line();
        self.linear(count)
    }

    /// Terms in the order of their variables, none twice.
    fn linear(&mut self, count: usize) -> Result<Terms, ReadError> {
        let mut terms = self.pairs(count, self.header.variables, true)?;
        if !terms.is_sorted_by(|a, b| a.0 < b.0) {
            terms.sort_by_key(|&(index, _)| index);
            terms.dedup_by(|next, kept| {
                let same = next.0 == kept.0;
                if same {
                    kept.1 += next.1;
                }
                same
            });
        }
        Ok(terms)
    }

    /// The number of values, the end of the line, and the values.
    fn values(&mut self, end: usize, real: bool) -> Result<Terms, ReadError> {
        let count = self.input.count("a number of values")?;
        self.input.end_line();
        self.pairs(count, end, real)
    }

    fn pairs(&mut self, count: usize, end: usize, real: bool) -> Result<Terms, ReadError> {
        let mut pairs = Vec::new();
        for _ in 0..count {
            let index = self.input.index(end, "an index")?;
            let value = if real {
                self.input.number("a number")?
            } else {
                self.input.integer("an integer")? as f64
            };
            pairs.push((index, value));
            self.input.end_line();
        }
        Ok(pairs)
    }

    fn bounds(&mut self, count: usize) -> Result<Vec<(f64, f64)>, ReadError> {
        const EXPECTED: &str = "a kind of bound (0 to 5)";
        self.input.end_line();
        let mut bounds = Vec::new();
        for _ in 0..count {
            let (lower, upper) = match self.input.tag(EXPECTED)? {
                b'0' => (self.input.bound("a bound")?, self.input.bound("a bound")?),
                b'1' => (f64::NEG_INFINITY, self.input.bound("a bound")?),
                b'2' => (self.input.bound("a bound")?, f64::INFINITY),
                b'3' => (f64::NEG_INFINITY, f64::INFINITY),
                b'4' => {
                    let value = self.input.number("a number")?;
                    (value, value)
                }
                b'5' => {
                    let feature =
                        "complementarity constraints (this is a complementarity problem) are";
                    return Err(self.input.unsupported(feature));
                }
                other => {
                    let found = char::from(other).to_string();
                    return Err(self.input.expected(EXPECTED, &found));
                }
            };
            bounds.push((lower, upper));
            self.input.end_line();
        }
        Ok(bounds)
    }

    /// Sizes of the Jacobian's columns, which the J segments tell again.
    fn column_sizes(&mut self) -> Result<(), ReadError> {
        let count = self.input.count("a number of columns")?;
        self.input.end_line();
        for _ in 0..count {
            self.input.integer("a size of a column")?;
            self.input.end_line();
        }
        Ok(())
    }

    fn suffix(&mut self) -> Result<(), ReadError> {
        let kind = self.input.integer("a kind of suffix")?;
        let (target, end) = match kind & SUFFIX_TARGET {
            0 => (SuffixTarget::Variables, self.header.variables),
            1 => {
                let end = self.header.constraints + self.header.logical;
                (SuffixTarget::Constraints, end)
            }
            2 => (SuffixTarget::Objectives, self.header.objectives),
            _ => (SuffixTarget::Problem, 1),
        };
        let real = kind & SUFFIX_REAL != 0;
        let count = self.input.count("a number of values")?;
        let name = self.input.name("the name of a suffix")?;
        self.input.end_line();
        let values = self.pairs(count, end, real)?;
        self.suffixes.push(Suffix {
            name,
            target,
            real,
            values,
        });
        Ok(())
    }

    /// Puts the parts together. Files end without a mark, so what is missing
    /// by the header's counts is how a truncated one is known.
    fn finish(self) -> Result<NlModel, ReadError> {
        let header = &self.header;
        let terms = |all: &[Option<Terms>]| all.iter().flatten().map(Vec::len).sum::<usize>();
        if terms(&self.constraint_terms) < header.nonzeros[0] {
            return Err(self.input.end("another J segment"));
        }
        if terms(&self.objective_terms) < header.nonzeros[1] {
            return Err(self.input.end("another G segment"));
        }
        let variable_bounds = self
            .variable_bounds
            .or((header.variables == 0).then(Vec::new));
        let variable_bounds = variable_bounds.ok_or_else(|| self.input.end("segment b"))?;
        let row_bounds = self
            .constraint_bounds
            .or((header.constraints == 0).then(Vec::new));
        let row_bounds = row_bounds.ok_or_else(|| self.input.end("segment r"))?;
        let bodies: Option<Vec<_>> = self.constraints.into_iter().collect();
        let bodies = bodies.ok_or_else(|| self.input.end("another C segment"))?;
        let objectives: Option<Vec<_>> = self.objectives.into_iter().collect();
        let objectives = objectives.ok_or_else(|| self.input.end("another O segment"))?;
        let logical: Option<Vec<_>> = self.logical.into_iter().collect();
        let logical = logical.ok_or_else(|| self.input.end("another L segment"))?;

        let mut variables: Vec<NlVariable> = variable_bounds
            .into_iter()
            .zip(self.start)
            .map(|((lower, upper), start)| NlVariable {
                lower,
                upper,
                integer: false,
                start,
            })
            .collect();
        for range in &header.integers {
            for variable in &mut variables[range.clone()] {
                variable.integer = true;
            }
        }
        let constraints = row_bounds
            .into_iter()
            .zip(bodies)
            .zip(self.constraint_terms)
            .zip(self.dual_start)
            .map(
                |((((lower, upper), expression), linear), dual_start)| NlConstraint {
                    linear: linear.unwrap_or_default(),
                    expression,
                    lower,
                    upper,
                    dual_start,
                },
            )
            .collect();
        let objectives = objectives
            .into_iter()
            .zip(self.objective_terms)
            .map(|((sense, expression), linear)| NlObjective {
                sense,
                linear: linear.unwrap_or_default(),
                expression,
            })
            .collect();
        // What has no V segment is not used either.
        let defined = self.defined.into_iter().map(Option::unwrap_or_default);
        Ok(NlModel {
            options: self.header.options,
            tolerance: self.header.tolerance,
            variables,
            constraints,
            objectives,
            logical,
            defined: defined.collect(),
            suffixes: self.suffixes,
            classes: self.header.classes,
        })
    }
}
