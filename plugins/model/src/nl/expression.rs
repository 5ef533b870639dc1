//! Expressions of `.nl` files.
//!
//! An [`Expression`] is kept as the file has it: a flat list of nodes in
//! prefix order, each operation before its arguments. Nothing here recurses,
//! so expressions may be nested as deeply as the memory allows: read from
//! right to left, with a stack of finished arguments, such a list evaluates
//! in one pass. [`Expression::fold`] is that pass, and every use of an
//! expression (values, polynomials, a solver's own trees) goes through it.
//! The one invariant is that the list is a single complete expression.

use std::sync::Arc;

/// A node of an [`Expression`].
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// A constant; finite.
    Number(f64),
    /// A variable: index into [`NlModel::variables`](super::NlModel::variables).
    Variable(usize),
    /// A defined variable: index into [`NlModel::defined`](super::NlModel::defined).
    Defined(usize),
    /// An operation and the number of its arguments, which follow.
    Operation(Operator, u32),
    /// A piecewise-linear function of the one argument that follows.
    PiecewiseLinear(Arc<PiecewiseLinear>),
}

/// A continuous piecewise-linear function with value 0 at 0.
#[derive(Debug, Clone, PartialEq)]
pub struct PiecewiseLinear {
    /// Slopes of the pieces from left to right: one more than breakpoints.
    pub slopes: Vec<f64>,
    /// Where the slope changes, in ascending order.
    pub breakpoints: Vec<f64>,
}

impl PiecewiseLinear {
    /// The pieces from left to right as (slope, value at 0 of the piece's
    /// line).
    pub fn lines(&self) -> Vec<(f64, f64)> {
        // Value at the breakpoint, were the first line to pass through 0.
        let mut lines = vec![(self.slopes[0], 0.0)];
        for (&at, &slope) in self.breakpoints.iter().zip(&self.slopes[1..]) {
            let (before, offset) = lines[lines.len() - 1];
            lines.push((slope, offset + (before - slope) * at));
        }
        let shift = lines[self.piece(0.0)].1;
        for line in &mut lines {
            line.1 -= shift;
        }
        lines
    }

    /// The piece that `x` lies on.
    fn piece(&self, x: f64) -> usize {
        self.breakpoints.partition_point(|&at| at < x)
    }

    fn value(&self, x: f64) -> f64 {
        let (slope, offset) = self.lines()[self.piece(x)];
        slope * x + offset
    }
}

/// How many arguments an operator takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    /// Always so many.
    Exactly(u32),
    /// Any number from this on, which the file gives with each operation.
    AtLeast(u32),
}

/// Defines [`Operator`] from one table: name, opcode, arity, meaning.
macro_rules! operators {
    ($($(#[$about:meta])* $name:ident = $code:literal, $arity:ident($arguments:literal);)*) => {
        /// An operator; the number is its opcode. Truth is 1 or, as an
        /// argument, anything but 0; falsehood is 0. The opcodes are those of
        /// Gay, "Writing .nl Files" (2005), table 9, and, from 55 on, of the
        /// AMPL Solver Library's `opcode.hd`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Operator {
            $($(#[$about])* $name = $code,)*
        }

        impl Operator {
            /// The operator with an opcode, if there is one.
            pub fn from_opcode(code: u64) -> Option<Self> {
                match code {
                    $($code => Some(Operator::$name),)*
                    _ => None,
                }
            }

            /// How many arguments it takes.
            pub fn arity(self) -> Arity {
                match self {
                    $(Operator::$name => Arity::$arity($arguments),)*
                }
            }
        }
    };
}

operators! {
    /// a + b
    Add = 0, Exactly(2);
    /// a − b
    Subtract = 1, Exactly(2);
    /// a · b
    Multiply = 2, Exactly(2);
    /// a / b
    Divide = 3, Exactly(2);
    /// Remainder of a / b, with the sign of a.
    Remainder = 4, Exactly(2);
    /// a to the power of b
    Power = 5, Exactly(2);
    /// max(a − b, 0)
    Less = 6, Exactly(2);
    /// The least of the arguments.
    Minimum = 11, AtLeast(1);
    /// The greatest of the arguments.
    Maximum = 12, AtLeast(1);
    /// The greatest integer not above a.
    Floor = 13, Exactly(1);
    /// The least integer not below a.
    Ceiling = 14, Exactly(1);
    /// |a|
    Absolute = 15, Exactly(1);
    /// −a
    Negate = 16, Exactly(1);
    /// a or b
    Or = 20, Exactly(2);
    /// a and b
    And = 21, Exactly(2);
    /// a < b
    LessThan = 22, Exactly(2);
    /// a ≤ b
    LessOrEqual = 23, Exactly(2);
    /// a = b
    Equal = 24, Exactly(2);
    /// a ≥ b
    GreaterOrEqual = 28, Exactly(2);
    /// a > b
    GreaterThan = 29, Exactly(2);
    /// a ≠ b
    NotEqual = 30, Exactly(2);
    /// not a
    Not = 34, Exactly(1);
    /// if a then b else c
    If = 35, Exactly(3);
    /// Hyperbolic tangent.
    Tanh = 37, Exactly(1);
    /// Tangent.
    Tan = 38, Exactly(1);
    /// Square root.
    SquareRoot = 39, Exactly(1);
    /// Hyperbolic sine.
    Sinh = 40, Exactly(1);
    /// Sine.
    Sin = 41, Exactly(1);
    /// Decimal logarithm.
    Log10 = 42, Exactly(1);
    /// Natural logarithm.
    Log = 43, Exactly(1);
    /// e to the power of a
    Exp = 44, Exactly(1);
    /// Hyperbolic cosine.
    Cosh = 45, Exactly(1);
    /// Cosine.
    Cos = 46, Exactly(1);
    /// Inverse hyperbolic tangent.
    Atanh = 47, Exactly(1);
    /// The angle of the point (b, a).
    Atan2 = 48, Exactly(2);
    /// Inverse tangent.
    Atan = 49, Exactly(1);
    /// Inverse hyperbolic sine.
    Asinh = 50, Exactly(1);
    /// Inverse sine.
    Asin = 51, Exactly(1);
    /// Inverse hyperbolic cosine.
    Acosh = 52, Exactly(1);
    /// Inverse cosine.
    Acos = 53, Exactly(1);
    /// The sum of the arguments.
    Sum = 54, AtLeast(0);
    /// a / b, cut to an integer.
    IntegerDivide = 55, Exactly(2);
    /// a, rounded to b significant digits.
    Precision = 56, Exactly(2);
    /// a, rounded to b digits after the point.
    Round = 57, Exactly(2);
    /// a, cut to b digits after the point.
    Truncate = 58, Exactly(2);
    /// How many arguments are true.
    Count = 59, AtLeast(0);
    /// How many of the other arguments equal the first.
    NumberOf = 60, AtLeast(1);
    /// b ≥ a, b being a count.
    AtLeast = 62, Exactly(2);
    /// b ≤ a
    AtMost = 63, Exactly(2);
    /// b = a
    Exactly = 66, Exactly(2);
    /// b < a
    NotAtLeast = 67, Exactly(2);
    /// b > a
    NotAtMost = 68, Exactly(2);
    /// b ≠ a
    NotExactly = 69, Exactly(2);
    /// Whether all arguments are true.
    ForAll = 70, AtLeast(0);
    /// Whether any argument is true.
    Exists = 71, AtLeast(0);
    /// if a then b else c, of conditions
    Implication = 72, Exactly(3);
    /// a and b, or neither
    IfAndOnlyIf = 73, Exactly(2);
    /// Whether no two arguments are equal.
    AllDifferent = 74, AtLeast(0);
    /// Whether some two arguments are equal.
    SomeSame = 75, AtLeast(0);
    /// a to the power of a constant b
    PowerOfConstant = 76, Exactly(2);
    /// a²
    Square = 77, Exactly(1);
    /// A constant a to the power of b.
    ConstantToPower = 78, Exactly(2);
}

impl Operator {
    /// The operation's value.
    ///
    /// # Panics
    ///
    /// If there are fewer arguments than its [`arity`](Operator::arity).
    pub fn apply(self, arguments: &[f64]) -> f64 {
        let a = || arguments[0];
        let b = || arguments[1];
        let truth = |holds: bool| f64::from(u8::from(holds));
        let count = |holds: &dyn Fn(f64) -> bool, of: &[f64]| {
            of.iter().filter(|&&x| holds(x)).count() as f64
        };
        match self {
            Operator::Add => a() + b(),
            Operator::Subtract => a() - b(),
            Operator::Multiply => a() * b(),
            Operator::Divide => a() / b(),
            Operator::Remainder => a() % b(),
            Operator::Power | Operator::PowerOfConstant | Operator::ConstantToPower => {
                a().powf(b())
            }
            Operator::Less => (a() - b()).max(0.0),
            Operator::Minimum => arguments.iter().copied().fold(f64::INFINITY, f64::min),
            Operator::Maximum => arguments.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Operator::Floor => a().floor(),
            Operator::Ceiling => a().ceil(),
            Operator::Absolute => a().abs(),
            Operator::Negate => -a(),
            Operator::Or => truth(a() != 0.0 || b() != 0.0),
            Operator::And => truth(a() != 0.0 && b() != 0.0),
            Operator::LessThan | Operator::NotAtMost => truth(a() < b()),
            Operator::LessOrEqual | Operator::AtLeast => truth(a() <= b()),
            Operator::Equal | Operator::Exactly => truth(a() == b()),
            Operator::GreaterOrEqual | Operator::AtMost => truth(a() >= b()),
            Operator::GreaterThan | Operator::NotAtLeast => truth(a() > b()),
            Operator::NotEqual | Operator::NotExactly => truth(a() != b()),
            Operator::Not => truth(a() == 0.0),
            Operator::If | Operator::Implication => arguments[if a() != 0.0 { 1 } else { 2 }],
            Operator::Tanh => a().tanh(),
            Operator::Tan => a().tan(),
            Operator::SquareRoot => a().sqrt(),
            Operator::Sinh => a().sinh(),
            Operator::Sin => a().sin(),
            Operator::Log10 => a().log10(),
            Operator::Log => a().ln(),
            Operator::Exp => a().exp(),
            Operator::Cosh => a().cosh(),
            Operator::Cos => a().cos(),
            Operator::Atanh => a().atanh(),
            Operator::Atan2 => a().atan2(b()),
            Operator::Atan => a().atan(),
            Operator::Asinh => a().asinh(),
            Operator::Asin => a().asin(),
            Operator::Acosh => a().acosh(),
            Operator::Acos => a().acos(),
            Operator::Sum => arguments.iter().sum(),
            Operator::IntegerDivide => (a() / b()).trunc(),
            Operator::Precision => {
                let digits = b() - 1.0 - a().abs().log10().floor();
                if a() == 0.0 {
                    0.0
                } else {
                    to_digits(a(), digits, f64::round)
                }
            }
            Operator::Round => to_digits(a(), b(), f64::round),
            Operator::Truncate => to_digits(a(), b(), f64::trunc),
            Operator::Count => count(&|x| x != 0.0, arguments),
            Operator::NumberOf => count(&|x| x == a(), &arguments[1..]),
            Operator::ForAll => truth(arguments.iter().all(|&x| x != 0.0)),
            Operator::Exists => truth(arguments.iter().any(|&x| x != 0.0)),
            Operator::IfAndOnlyIf => truth((a() != 0.0) == (b() != 0.0)),
            Operator::AllDifferent => truth(!some_same(arguments)),
            Operator::SomeSame => truth(some_same(arguments)),
            Operator::Square => a() * a(),
        }
    }
}

/// `x` with so many digits after the point, the rest dealt with by `cut`.
fn to_digits(x: f64, digits: f64, cut: fn(f64) -> f64) -> f64 {
    let scale = 10f64.powf(digits);
    cut(x * scale) / scale
}

fn some_same(values: &[f64]) -> bool {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.windows(2).any(|pair| pair[0] == pair[1])
}

/// An expression; by default the constant 0.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Expression {
    /// In prefix order; empty for the constant 0.
    nodes: Vec<Node>,
}

impl Expression {
    /// A constant.
    pub fn number(value: f64) -> Self {
        Self::of_read_nodes(vec![Node::Number(value)])
    }

    /// The variable with an index.
    pub fn variable(index: usize) -> Self {
        Self::of_read_nodes(vec![Node::Variable(index)])
    }

    /// The defined variable with an index.
    pub fn defined(index: usize) -> Self {
        Self::of_read_nodes(vec![Node::Defined(index)])
    }

    /// An operation on arguments. To add many terms use [`Operator::Sum`].
    ///
    /// # Panics
    ///
    /// If the operator does not take so many arguments.
    pub fn operation(operator: Operator, arguments: impl IntoIterator<Item = Expression>) -> Self {
        let mut nodes = vec![Node::Operation(operator, 0)];
        let mut count = 0;
        for argument in arguments {
            count += 1;
            if argument.nodes.is_empty() {
                nodes.push(Node::Number(0.0));
            }
            nodes.extend(argument.nodes);
        }
        let fits = match operator.arity() {
            Arity::Exactly(arity) => count == arity,
            Arity::AtLeast(arity) => count >= arity,
        };
        assert!(fits, "{operator:?} does not take {count} arguments");
        nodes[0] = Node::Operation(operator, count);
        Expression { nodes }
    }

    /// A list that is known to be one complete expression.
    pub(super) fn of_read_nodes(nodes: Vec<Node>) -> Self {
        match nodes[..] {
            [Node::Number(0.0)] => Expression::default(),
            _ => Expression { nodes },
        }
    }

    /// The nodes in prefix order; empty for the constant 0.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Whether it is the constant 0 as such, not by calculation.
    pub fn is_zero(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The variables in it, as often as they occur.
    pub fn variables(&self) -> impl Iterator<Item = usize> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Variable(index) => Some(*index),
            _ => None,
        })
    }

    /// Computes something of an expression from the same of its arguments.
    /// `combine` gets a node and what was computed for the node's arguments,
    /// first to last. The constant 0 is asked for as [`Node::Number`].
    ///
    /// # Errors
    ///
    /// The first that `combine` returns.
    pub fn fold<T, E>(
        &self,
        mut combine: impl FnMut(&Node, std::vec::Drain<'_, T>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut done: Vec<T> = Vec::new();
        if self.nodes.is_empty() {
            return combine(&Node::Number(0.0), done.drain(..));
        }
        for node in self.nodes.iter().rev() {
            let arguments = match node {
                Node::Operation(_, arguments) => *arguments as usize,
                Node::PiecewiseLinear(_) => 1,
                _ => 0,
            };
            let from = done.len() - arguments;
            // They were finished from right to left.
            done[from..].reverse();
            let value = combine(node, done.drain(from..))?;
            done.push(value);
        }
        Ok(done.pop().expect("the list is one complete expression"))
    }

    /// The value at variables `x` and defined variables `defined`.
    ///
    /// # Panics
    ///
    /// If the expression has variables that `x` or `defined` has not.
    pub fn value(&self, x: &[f64], defined: &[f64]) -> f64 {
        let value: Result<f64, std::convert::Infallible> = self.fold(|node, arguments| {
            Ok(match node {
                Node::Number(number) => *number,
                Node::Variable(index) => x[*index],
                Node::Defined(index) => defined[*index],
                Node::Operation(operator, _) => operator.apply(arguments.as_slice()),
                Node::PiecewiseLinear(function) => function.value(arguments.as_slice()[0]),
            })
        });
        let Ok(value) = value;
        value
    }
}
