//! Conic programs in the one form that all readers produce and the solver takes.

use optwasm_model::{Model, Sense};

/// Most scalar rows and variables that a program may have. A file of a few
/// bytes can declare a huge matrix; at this size its rows alone take some
/// 200 MB, and factoring them far more.
pub(crate) const MAX_SIZE: usize = 1 << 20;

/// A cone. Elements of vectors are in the order in which Clarabel wants them.
#[derive(Debug, Clone, PartialEq)]
pub enum Cone {
    /// All zero: the rows are equations.
    Zero,
    /// All nonnegative.
    Nonnegative,
    /// First ≥ Euclidean norm of the others.
    SecondOrder,
    /// 2·x₁·x₂ ≥ ‖(x₃, …)‖² and x₁, x₂ ≥ 0.
    RotatedSecondOrder,
    /// (x, y, z) with y·exp(x/y) ≤ z and y > 0, and limits thereof.
    Exponential,
    /// ∏ uᵢ^αᵢ ≥ ‖w‖ for (u, w) with u ≥ 0; the αᵢ are positive and sum to 1.
    Power(Vec<f64>),
    /// The upper triangle, column by column, of a positive semidefinite
    /// matrix of this order, with elements off the diagonal times √2.
    Semidefinite(usize),
}

/// What the multiplier of a row means to the user.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Role {
    /// Counts, times the factor, as dual of the constraint with that index.
    Constraint(usize, f64),
    /// Counts, times the factor, as reduced cost of the variable with that index.
    Variable(usize, f64),
}

/// A row `terms·x + constant` of a cone.
#[derive(Debug, Clone, PartialEq)]
pub struct Affine {
    /// (variable, coefficient); a variable may occur more than once.
    pub terms: Vec<(usize, f64)>,
    /// Constant term.
    pub constant: f64,
    /// What its multiplier means.
    pub role: Role,
}

/// A program
///
/// ```text
/// min or max   constant + c·x + ½ xᵀQx
/// subject to   each block of affine rows lies in its cone
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Program {
    /// Direction of the objective.
    pub sense: Sense,
    /// Constant term of the objective.
    pub constant: f64,
    /// Linear coefficients, one for each variable.
    pub cost: Vec<f64>,
    /// Upper triangle of Q as (i, j, value) with i ≤ j, none twice.
    pub quadratic: Vec<(usize, usize, f64)>,
    /// Names of the variables.
    pub variables: Vec<String>,
    /// Names of the constraints.
    pub constraints: Vec<String>,
    /// The cones and what must lie in them.
    pub blocks: Vec<(Cone, Vec<Affine>)>,
}

impl Program {
    /// The conic form of a linear or quadratic model. Integrality is not
    /// carried over.
    pub fn from_model(model: &Model) -> Program {
        let mut zero = Vec::new();
        let mut nonnegative = Vec::new();
        // A row or bound becomes `a·x − lower ≥ 0` and `upper − a·x ≥ 0`.
        let mut between = |terms: &[(usize, f64)],
                           lower: f64,
                           upper: f64,
                           role: fn(usize, f64) -> Role,
                           index| {
            let form = |sign: f64, constant: f64| Affine {
                terms: terms.iter().map(|&(j, a)| (j, sign * a)).collect(),
                constant,
                role: role(index, sign),
            };
            if lower == upper {
                zero.push(form(1.0, -lower));
                return;
            }
            if lower > f64::NEG_INFINITY {
                nonnegative.push(form(1.0, -lower));
            }
            if upper < f64::INFINITY {
                nonnegative.push(form(-1.0, upper));
            }
        };
        for (i, (row, terms)) in model.rows.iter().zip(model.row_coefficients()).enumerate() {
            between(&terms, row.lower, row.upper, Role::Constraint, i);
        }
        for (j, column) in model.columns.iter().enumerate() {
            between(&[(j, 1.0)], column.lower, column.upper, Role::Variable, j);
        }
        Program {
            sense: model.sense,
            constant: model.constant,
            cost: model.columns.iter().map(|column| column.cost).collect(),
            quadratic: model.quadratic.clone(),
            variables: model
                .columns
                .iter()
                .map(|column| column.name.clone())
                .collect(),
            constraints: model.rows.iter().map(|row| row.name.clone()).collect(),
            blocks: vec![(Cone::Zero, zero), (Cone::Nonnegative, nonnegative)],
        }
    }

    /// The objective at `x`, in the direction that the program states.
    ///
    /// # Panics
    ///
    /// If `x` has not one value for every variable.
    pub fn objective_at(&self, x: &[f64]) -> f64 {
        assert_eq!(x.len(), self.cost.len(), "one value for every variable");
        let linear: f64 = self.cost.iter().zip(x).map(|(c, x)| c * x).sum();
        let quadratic: f64 = self
            .quadratic
            .iter()
            .map(|&(i, j, q)| if i == j { 0.5 } else { 1.0 } * q * x[i] * x[j])
            .sum();
        self.constant + linear + quadratic
    }
}

/// Where element (i, j), i ≤ j, of a semidefinite block stands in it.
pub(crate) fn triangle_index(i: usize, j: usize) -> usize {
    j * (j + 1) / 2 + i
}

/// How many elements a semidefinite block of order `n` has; `None` if more
/// than any program may have.
pub(crate) fn triangle_size(n: usize) -> Option<usize> {
    let size = n.checked_add(1)?.checked_mul(n)? / 2;
    (size <= MAX_SIZE).then_some(size)
}

/// The scaling of element (i, j) of a semidefinite block.
pub(crate) fn triangle_scale(i: usize, j: usize) -> f64 {
    if i == j {
        1.0
    } else {
        std::f64::consts::SQRT_2
    }
}
