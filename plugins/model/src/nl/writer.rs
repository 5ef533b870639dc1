//! Writes a model as a `.nl` file, text or binary.
//!
//! A model that was read keeps the classes of variables that its file
//! declared. Of one that was built in memory all variables up to the last
//! that is in an expression are declared nonlinear in constraints and
//! objectives, which solvers may take as more than is true, never less.

use super::expression::{Arity, Expression, Node};
use super::header::Classes;
use super::{NlModel, SuffixTarget, Terms};
use crate::Sense;

impl NlModel {
    /// The model as a text `.nl` file; `None` if its integer variables do not
    /// stand where the format wants them: behind the continuous ones of
    /// their class. Of a model that [`read`](super::read) returned they do.
    pub fn write_text(&self) -> Option<Vec<u8>> {
        self.write(false)
    }

    /// As [`write_text`](Self::write_text), in the binary form.
    pub fn write_binary(&self) -> Option<Vec<u8>> {
        self.write(true)
    }

    fn write(&self, binary: bool) -> Option<Vec<u8>> {
        let jacobian = self.jacobian();
        let mut output = Output {
            bytes: self.header(binary, &jacobian)?.into_bytes(),
            binary,
            after_tag: false,
        };
        output.suffixes(self);
        for (index, defined) in self.defined.iter().enumerate() {
            let number = (self.variables.len() + index) as i64;
            // The 0 says that it may be used anywhere.
            output.item(b'V', &[number, defined.linear.len() as i64, 0]);
            output.terms(&defined.linear);
            output.expression(&defined.expression, self.variables.len());
        }
        let variables = self.variables.len();
        for (index, constraint) in self.constraints.iter().enumerate() {
            output.item(b'C', &[index as i64]);
            output.expression(&constraint.expression, variables);
        }
        for (index, condition) in self.logical.iter().enumerate() {
            output.item(b'L', &[index as i64]);
            output.expression(condition, variables);
        }
        for (index, objective) in self.objectives.iter().enumerate() {
            let sense = i64::from(objective.sense == Sense::Maximize);
            output.item(b'O', &[index as i64, sense]);
            output.expression(&objective.expression, variables);
        }
        let duals = self.constraints.iter().map(|c| c.dual_start);
        output.values(b'd', duals);
        output.values(b'x', self.variables.iter().map(|v| v.start));
        if !self.constraints.is_empty() {
            output.item(b'r', &[]);
            for constraint in &self.constraints {
                output.bounds(constraint.lower, constraint.upper);
            }
        }
        if !self.variables.is_empty() {
            output.item(b'b', &[]);
            for variable in &self.variables {
                output.bounds(variable.lower, variable.upper);
            }
        }
        output.column_sizes(variables, &jacobian);
        for (index, terms) in jacobian.iter().enumerate() {
            if !terms.is_empty() {
                output.item(b'J', &[index as i64, terms.len() as i64]);
                output.terms(terms);
            }
        }
        for (index, objective) in self.objectives.iter().enumerate() {
            if !objective.linear.is_empty() {
                output.item(b'G', &[index as i64, objective.linear.len() as i64]);
                output.terms(&objective.linear);
            }
        }
        Some(output.bytes)
    }

    fn header(&self, binary: bool, jacobian: &[Terms]) -> Option<String> {
        let [n, m] = [self.variables.len(), self.constraints.len()];
        let [objectives, logical] = [self.objectives.len(), self.logical.len()];
        let form = if binary { 'b' } else { 'g' };
        let mut first = format!("{form}{}", self.options.len());
        for option in &self.options {
            first.push_str(&format!(" {option}"));
        }
        if let Some(tolerance) = self.tolerance {
            first.push_str(&format!(" {tolerance:e}"));
        }
        let constraints = || self.constraints.iter();
        let equations = constraints().filter(|c| c.lower == c.upper).count();
        let ranges = constraints()
            .filter(|c| c.lower.is_finite() && c.upper.is_finite() && c.lower != c.upper)
            .count();
        let nonlinear = constraints().filter(|c| !c.expression.is_zero()).count();
        let objective_bodies = self.objectives.iter().filter(|o| !o.expression.is_zero());
        let objective_bodies = objective_bodies.count();
        let classes = self.classes_to_declare();
        let [both, only_constraints, only_objectives, linear] = self.integers(classes)?;
        let nonzeros: usize = jacobian.iter().map(Vec::len).sum();
        let gradients: usize = self.objectives.iter().map(|o| o.linear.len()).sum();
        let arithmetic = u8::from(binary);
        Some(format!(
            "{first}\n\
             {n} {m} {objectives} {ranges} {equations} {logical}\n\
             {nonlinear} {objective_bodies} 0 0 0 0\n\
             0 0\n\
             {} {} {}\n\
             0 0 {arithmetic} 1\n\
             0 {linear} {both} {only_constraints} {only_objectives}\n\
             {nonzeros} {gradients}\n\
             0 0\n\
             {} 0 0 0 0\n",
            classes.constraints,
            classes.objectives,
            classes.both,
            self.defined.len(),
        ))
    }

    /// The declared classes if they hold all variables of expressions.
    fn classes_to_declare(&self) -> Classes {
        let bodies = self.constraints.iter().map(|c| &c.expression);
        let bodies = bodies.chain(self.objectives.iter().map(|o| &o.expression));
        let bodies = bodies.chain(self.defined.iter().map(|d| &d.expression));
        let in_expressions = bodies.chain(&self.logical).flat_map(Expression::variables);
        // The linear part of a defined variable is nonlinear where it is used.
        let in_terms = self.defined.iter().flat_map(|d| &d.linear).map(|t| t.0);
        let end = in_expressions
            .chain(in_terms)
            .max()
            .map_or(0, |last| last + 1);
        let declared = self.classes.constraints.max(self.classes.objectives);
        if declared >= end && declared <= self.variables.len() {
            return self.classes;
        }
        Classes {
            constraints: end,
            objectives: end,
            both: end,
        }
    }

    /// How many integer variables each class has at its end.
    fn integers(&self, classes: Classes) -> Option<[usize; 4]> {
        let mut counts = [0; 4];
        for (count, range) in counts.iter_mut().zip(classes.ranges(self.variables.len())) {
            let class = self.variables.get(range)?;
            let integer = class.iter().rev().take_while(|v| v.integer).count();
            let (rest, _) = class.split_at(class.len() - integer);
            if rest.iter().any(|v| v.integer) {
                return None;
            }
            *count = integer;
        }
        Some(counts)
    }

    /// The linear terms of each constraint, and all variables of its
    /// expression with coefficient 0 where they have no term.
    fn jacobian(&self) -> Vec<Terms> {
        // For each variable and defined variable the last row that it was
        // seen in.
        let mut seen = vec![usize::MAX; self.variables.len()];
        let mut seen_defined = vec![usize::MAX; self.defined.len()];
        let mut jacobian = Vec::with_capacity(self.constraints.len());
        for (row, constraint) in self.constraints.iter().enumerate() {
            let mut terms = constraint.linear.clone();
            for &(variable, _) in &terms {
                seen[variable] = row;
            }
            let mut expressions = vec![&constraint.expression];
            while let Some(expression) = expressions.pop() {
                for node in expression.nodes() {
                    match node {
                        Node::Variable(index) if seen[*index] != row => {
                            seen[*index] = row;
                            terms.push((*index, 0.0));
                        }
                        Node::Defined(index) if seen_defined[*index] != row => {
                            seen_defined[*index] = row;
                            let defined = &self.defined[*index];
                            for &(variable, _) in &defined.linear {
                                if seen[variable] != row {
                                    seen[variable] = row;
                                    terms.push((variable, 0.0));
                                }
                            }
                            expressions.push(&defined.expression);
                        }
                        _ => {}
                    }
                }
            }
            terms.sort_by_key(|term| term.0);
            jacobian.push(terms);
        }
        jacobian
    }
}

/// The file so far, and how it goes on.
struct Output {
    bytes: Vec<u8>,
    binary: bool,
    /// Whether a tag was written last, which the first word follows directly.
    after_tag: bool,
}

impl Output {
    fn tag(&mut self, tag: u8) {
        self.bytes.push(tag);
        self.after_tag = tag.is_ascii_alphabetic();
    }

    fn integer(&mut self, integer: i64) {
        if self.binary {
            // The format has no more; a model of two thousand million parts
            // does not fit into the memory of its readers.
            let integer = i32::try_from(integer).unwrap_or(i32::MAX);
            self.bytes.extend(integer.to_le_bytes());
        } else {
            self.word(&integer.to_string());
        }
    }

    fn number(&mut self, number: f64) {
        if self.binary {
            self.bytes.extend(number.to_le_bytes());
        } else {
            self.word(&number_text(number));
        }
    }

    /// A word of text, with a blank before it unless it begins a line or
    /// follows a letter that does.
    fn word(&mut self, word: &str) {
        if !self.after_tag && self.bytes.last() != Some(&b'\n') {
            self.bytes.push(b' ');
        }
        self.after_tag = false;
        self.bytes.extend(word.as_bytes());
    }

    fn end_line(&mut self) {
        if !self.binary {
            self.bytes.push(b'\n');
        }
    }

    /// A tag, integers and the end of the line.
    fn item(&mut self, tag: u8, integers: &[i64]) {
        self.tag(tag);
        for &integer in integers {
            self.integer(integer);
        }
        self.end_line();
    }

    fn expression(&mut self, expression: &Expression, variables: usize) {
        if expression.is_zero() {
            self.constant(0.0);
        }
        for node in expression.nodes() {
            match node {
                Node::Number(number) => self.constant(*number),
                Node::Variable(index) => self.item(b'v', &[*index as i64]),
                Node::Defined(index) => self.item(b'v', &[(variables + index) as i64]),
                Node::Operation(operator, arguments) => {
                    self.item(b'o', &[*operator as i64]);
                    if let Arity::AtLeast(_) = operator.arity() {
                        self.integer((*arguments).into());
                        self.end_line();
                    }
                }
                Node::PiecewiseLinear(function) => {
                    self.item(b'o', &[64]);
                    self.integer(function.slopes.len() as i64);
                    self.end_line();
                    self.constant(function.slopes[0]);
                    for (&at, &slope) in function.breakpoints.iter().zip(&function.slopes[1..]) {
                        self.constant(at);
                        self.constant(slope);
                    }
                }
            }
        }
    }

    fn constant(&mut self, number: f64) {
        self.tag(b'n');
        self.number(number);
        self.end_line();
    }

    fn terms(&mut self, terms: &[(usize, f64)]) {
        for &(index, factor) in terms {
            self.integer(index as i64);
            self.number(factor);
            self.end_line();
        }
    }

    /// The values that are not 0, if there are any.
    fn values(&mut self, tag: u8, values: impl Iterator<Item = f64>) {
        let given: Terms = values
            .enumerate()
            .filter(|&(_, value)| value != 0.0)
            .collect();
        if !given.is_empty() {
            self.item(tag, &[given.len() as i64]);
            self.terms(&given);
        }
    }

    fn bounds(&mut self, lower: f64, upper: f64) {
        let (tag, numbers): (u8, &[f64]) = if lower == upper && lower.is_finite() {
            (b'4', &[lower])
        } else {
            match (lower == f64::NEG_INFINITY, upper == f64::INFINITY) {
                (false, false) => (b'0', &[lower, upper]),
                (true, false) => (b'1', &[upper]),
                (false, true) => (b'2', &[lower]),
                (true, true) => (b'3', &[]),
            }
        };
        self.tag(tag);
        for &number in numbers {
            self.number(number);
        }
        self.end_line();
    }

    /// How many entries the columns of the Jacobian but the last have, each
    /// with those before it.
    fn column_sizes(&mut self, variables: usize, jacobian: &[Terms]) {
        let Some(but_last) = variables.checked_sub(1) else {
            return;
        };
        let mut sizes = vec![0; variables];
        for &(variable, _) in jacobian.iter().flatten() {
            sizes[variable] += 1;
        }
        self.item(b'k', &[but_last as i64]);
        let mut total = 0;
        for size in &sizes[..but_last] {
            total += size;
            self.integer(total);
            self.end_line();
        }
    }

    fn suffixes(&mut self, model: &NlModel) {
        for suffix in &model.suffixes {
            let target = match suffix.target {
                SuffixTarget::Variables => 0,
                SuffixTarget::Constraints => 1,
                SuffixTarget::Objectives => 2,
                SuffixTarget::Problem => 3,
            };
            self.tag(b'S');
            self.integer(target | if suffix.real { 4 } else { 0 });
            self.integer(suffix.values.len() as i64);
            if self.binary {
                self.integer(suffix.name.len() as i64);
                self.bytes.extend(suffix.name.as_bytes());
            } else {
                self.word(&suffix.name);
            }
            self.end_line();
            for &(index, value) in &suffix.values {
                self.integer(index as i64);
                if suffix.real {
                    self.number(value);
                } else {
                    self.integer(value as i64);
                }
                self.end_line();
            }
        }
    }
}

/// The shortest text that reads as the same number.
pub(super) fn number_text(number: f64) -> String {
    // Where plain notation is no longer than the other.
    if number == 0.0 || (1e-5..1e15).contains(&number.abs()) {
        format!("{number}")
    } else {
        format!("{number:e}")
    }
}
