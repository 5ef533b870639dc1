//! AMPL's `.nl` files: nonlinear programs, as modelling tools give them to
//! solvers, and the `.sol` files that solvers answer with.
//!
//! [`read`] takes both forms of the format, text and binary. The result, an
//! [`NlModel`], keeps expressions as they are written; [`NlModel::class`]
//! tells what kind of program it is, [`NlModel::to_model`] makes a linear or
//! quadratic one a [`Model`](crate::Model), and [`NlModel::write_text`] is
//! the reverse of [`read`]. [`write_sol`] writes the answer.
//!
//! The format numbers variables and constraints and has no names for them:
//! here they are `x0`, `x1`… and `c0`, `c1`…. The objective of a model with
//! several is the first one.
//!
//! Sources: Gay, "Hooking Your Solver to AMPL" (1997); Gay, "Writing .nl
//! Files", Sandia report 2005-7907P.

mod expression;
mod header;
mod input;
mod polynomial;
mod reader;
mod sol;
mod writer;

use header::Classes;

use crate::Sense;
pub use expression::{Arity, Expression, Node, Operator, PiecewiseLinear};
pub use polynomial::{Degree, NlClass};
pub use reader::read;
pub use sol::{solve_result_num, write_sol};

/// Linear terms: (variable, coefficient), in ascending order of the
/// variables, each at most once. Coefficients may be 0.
pub type Terms = Vec<(usize, f64)>;

/// A nonlinear program:
///
/// ```text
/// min or max   c·x + f(x)
/// subject to   lower ≤ Ax + g(x) ≤ upper,  x between its bounds,
///              logical conditions,  some x integer
/// ```
///
/// Indices in expressions and terms are within the model, a defined variable
/// refers only to ones before it, all numbers except bounds are finite, and
/// no bound is NaN. [`read`] guarantees that; who builds a model owes it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NlModel {
    /// Numbers from the file's first line, which a `.sol` file repeats.
    pub options: Vec<i64>,
    /// A number from the file's first line, which a `.sol` file repeats.
    pub tolerance: Option<f64>,
    /// The variables.
    pub variables: Vec<NlVariable>,
    /// The algebraic constraints.
    pub constraints: Vec<NlConstraint>,
    /// The objectives; none asks for any feasible point.
    pub objectives: Vec<NlObjective>,
    /// Conditions that must be true.
    pub logical: Vec<Expression>,
    /// Variables that stand for expressions.
    pub defined: Vec<DefinedVariable>,
    /// Further data by name.
    pub suffixes: Vec<Suffix>,
    /// Classes of the variables that the file declared.
    classes: Classes,
}

/// A variable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NlVariable {
    /// Lower bound; −∞ if there is none.
    pub lower: f64,
    /// Upper bound; +∞ if there is none.
    pub upper: f64,
    /// Whether only integers are allowed.
    pub integer: bool,
    /// Where a solver should start; 0 where the file does not say.
    pub start: f64,
}

/// A constraint `lower ≤ linear + expression ≤ upper`.
#[derive(Debug, Clone, PartialEq)]
pub struct NlConstraint {
    /// Linear terms. In a file the variables of the expression are here, too,
    /// with coefficient 0 if need be.
    pub linear: Terms,
    /// What is not in the linear terms.
    pub expression: Expression,
    /// Lower side; −∞ if there is none.
    pub lower: f64,
    /// Upper side; +∞ if there is none.
    pub upper: f64,
    /// Dual value that a solver should start with: the rate at which the
    /// objective changes with the constraint's right-hand side.
    pub dual_start: f64,
}

/// An objective.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NlObjective {
    /// Its direction.
    pub sense: Sense,
    /// Linear terms.
    pub linear: Terms,
    /// What is not in the linear terms.
    pub expression: Expression,
}

/// A variable that stands for `linear + expression`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DefinedVariable {
    /// Linear terms.
    pub linear: Terms,
    /// What is not in the linear terms; its defined variables come before
    /// this one.
    pub expression: Expression,
}

/// Named data of a model's parts, such as AMPL's basis statuses or a
/// scaling.
#[derive(Debug, Clone, PartialEq)]
pub struct Suffix {
    /// Its name, without blanks.
    pub name: String,
    /// What it belongs to.
    pub target: SuffixTarget,
    /// Whether the values are real numbers; otherwise they are integers.
    pub real: bool,
    /// (index, value); of the indices that are not listed it is 0.
    pub values: Vec<(usize, f64)>,
}

/// What a suffix belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SuffixTarget {
    /// The variables.
    Variables,
    /// The constraints, logical ones after the others.
    Constraints,
    /// The objectives.
    Objectives,
    /// The problem as a whole, whose index is 0.
    Problem,
}

impl NlModel {
    /// Whether any variable must be integer.
    pub fn has_integers(&self) -> bool {
        self.variables.iter().any(|variable| variable.integer)
    }

    /// Direction of the objective; minimization if there is none.
    pub fn sense(&self) -> Sense {
        self.objectives.first().map_or(Sense::Minimize, |o| o.sense)
    }

    /// The names of the variables: `x0`, `x1`…
    pub fn variable_names(&self) -> Vec<String> {
        (0..self.variables.len()).map(|i| format!("x{i}")).collect()
    }

    /// The names of the constraints: `c0`, `c1`…
    pub fn constraint_names(&self) -> Vec<String> {
        let count = self.constraints.len();
        (0..count).map(|i| format!("c{i}")).collect()
    }

    /// The suffix of that name and target.
    pub fn suffix(&self, name: &str, target: SuffixTarget) -> Option<&Suffix> {
        let mut suffixes = self.suffixes.iter();
        suffixes.find(|suffix| suffix.name == name && suffix.target == target)
    }

    /// The defined variables at `x`.
    ///
    /// # Panics
    ///
    /// If `x` has not one value for every variable.
    pub fn defined_at(&self, x: &[f64]) -> Vec<f64> {
        assert_eq!(
            x.len(),
            self.variables.len(),
            "one value for every variable"
        );
        let mut values = Vec::with_capacity(self.defined.len());
        for defined in &self.defined {
            values.push(linear_at(&defined.linear, x) + defined.expression.value(x, &values));
        }
        values
    }

    /// The objective at `x`; 0 if there is none.
    ///
    /// # Panics
    ///
    /// If `x` has not one value for every variable.
    pub fn objective_at(&self, x: &[f64]) -> f64 {
        let defined = self.defined_at(x);
        self.objectives.first().map_or(0.0, |objective| {
            linear_at(&objective.linear, x) + objective.expression.value(x, &defined)
        })
    }

    /// The constraints at `x`.
    ///
    /// # Panics
    ///
    /// If `x` has not one value for every variable.
    pub fn constraints_at(&self, x: &[f64]) -> Vec<f64> {
        let defined = self.defined_at(x);
        let constraints = self.constraints.iter();
        constraints
            .map(|c| linear_at(&c.linear, x) + c.expression.value(x, &defined))
            .collect()
    }
}

fn linear_at(terms: &[(usize, f64)], x: &[f64]) -> f64 {
    terms.iter().map(|&(index, factor)| factor * x[index]).sum()
}
