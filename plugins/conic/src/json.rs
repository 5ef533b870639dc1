//! Reader of Clarabel's JSON form of a conic program:
//!
//! ```text
//! minimize ½ xᵀPx + qᵀx  subject to  Ax + s = b, s in the product of the cones
//! ```
//!
//! ```json
//! {
//!   "P": {"m": 2, "n": 2, "colptr": [0, 1, 2], "rowval": [0, 1], "nzval": [1.0, 1.0]},
//!   "q": [0.0, -1.0],
//!   "A": {"m": 1, "n": 2, "colptr": [0, 1, 2], "rowval": [0, 0], "nzval": [1.0, 1.0]},
//!   "b": [1.0],
//!   "cones": [{"ZeroConeT": 1}]
//! }
//! ```
//!
//! Matrices are compressed by columns; of P only the upper triangle counts. Cones are
//! `ZeroConeT`, `NonnegativeConeT`, `SecondOrderConeT` and `PSDTriangleConeT` with a size,
//! `ExponentialConeT` with an empty list, `PowerConeT` with an exponent, and `GenPowerConeT` with
//! `[exponents, size of the rest]`. `settings` are ignored: options are the job's.
//!
//! It is what tools write that already have a program in this form, such as CVXPY. Duals are the
//! rates at which the objective changes with `b`, which is minus Clarabel's `z`.

use optwasm_model::{ReadError, Sense};
use serde::Deserialize;

use crate::SolveError;
use crate::program::{Affine, Cone, MAX_SIZE, Program, Role, triangle_size};

#[derive(Deserialize)]
struct File {
    #[serde(rename = "P")]
    p: Matrix,
    q: Vec<f64>,
    #[serde(rename = "A")]
    a: Matrix,
    b: Vec<f64>,
    cones: Vec<FileCone>,
}

#[derive(Deserialize)]
struct Matrix {
    m: usize,
    n: usize,
    colptr: Vec<usize>,
    rowval: Vec<usize>,
    nzval: Vec<f64>,
}

#[derive(Deserialize)]
enum FileCone {
    #[serde(rename = "ZeroConeT")]
    Zero(usize),
    #[serde(rename = "NonnegativeConeT")]
    Nonnegative(usize),
    #[serde(rename = "SecondOrderConeT")]
    SecondOrder(usize),
    #[serde(rename = "ExponentialConeT")]
    Exponential([(); 0]),
    #[serde(rename = "PowerConeT")]
    Power(f64),
    #[serde(rename = "GenPowerConeT")]
    GeneralPower(Vec<f64>, usize),
    #[serde(rename = "PSDTriangleConeT")]
    Semidefinite(usize),
}

/// Reads a program.
///
/// # Errors
///
/// [`SolveError::Read`] with the line, and [`SolveError::Json`] where sizes do not fit together.
pub fn read(input: &[u8]) -> Result<Program, SolveError> {
    let file: File = serde_json::from_slice(input).map_err(|error| {
        ReadError::expected(error.line(), "a conic program in JSON", &error.to_string())
    })?;
    let wrong = |what: &str| SolveError::Json(what.to_owned());
    let (n, m) = (file.q.len(), file.b.len());
    if n > MAX_SIZE || m > MAX_SIZE {
        return Err(wrong("more rows or variables than are allowed"));
    }
    if file.q.iter().chain(&file.b).any(|value| !value.is_finite()) {
        return Err(wrong("a number that is not finite"));
    }
    let quadratic = file
        .p
        .entries(n, n)
        .map_err(|why| wrong(&format!("P: {why}")))?;
    let entries = file
        .a
        .entries(m, n)
        .map_err(|why| wrong(&format!("A: {why}")))?;

    let mut rows: Vec<Affine> = file
        .b
        .iter()
        .enumerate()
        .map(|(index, &constant)| Affine {
            terms: Vec::new(),
            constant,
            role: Role::Constraint(index, -1.0),
        })
        .collect();
    for (i, j, value) in entries {
        rows[i].terms.push((j, -value));
    }
    let mut blocks = Vec::new();
    let mut left = rows.into_iter();
    for cone in file.cones {
        let (cone, size) = match cone {
            FileCone::Zero(size) => (Cone::Zero, size),
            FileCone::Nonnegative(size) => (Cone::Nonnegative, size),
            FileCone::SecondOrder(size) => (Cone::SecondOrder, size),
            FileCone::Exponential([]) => (Cone::Exponential, 3),
            FileCone::Power(alpha) => (power(vec![alpha, 1.0 - alpha])?, 3),
            FileCone::GeneralPower(alpha, rest) => {
                let size = alpha.len().checked_add(rest);
                (
                    power(alpha)?,
                    size.ok_or_else(|| wrong("a cone that is too large"))?,
                )
            }
            FileCone::Semidefinite(order) => {
                let size = triangle_size(order);
                let size = size.ok_or_else(|| wrong("a cone that is too large"))?;
                (Cone::Semidefinite(order), size)
            }
        };
        let block: Vec<Affine> = left.by_ref().take(size).collect();
        if block.len() != size {
            return Err(wrong("cones with more rows than b has"));
        }
        blocks.push((cone, block));
    }
    if left.next().is_some() {
        return Err(wrong("cones with fewer rows than b has"));
    }
    Ok(Program {
        sense: Sense::Minimize,
        constant: 0.0,
        cost: file.q,
        quadratic: quadratic.into_iter().filter(|(i, j, _)| i <= j).collect(),
        variables: (0..n).map(|j| format!("x{j}")).collect(),
        constraints: (0..m).map(|i| format!("c{i}")).collect(),
        blocks,
    })
}

/// A power cone, whose exponents are positive and sum to 1.
fn power(alpha: Vec<f64>) -> Result<Cone, SolveError> {
    // Clarabel's own tolerance on the sum.
    const SUM_TOLERANCE: f64 = 1e-8;
    let sum: f64 = alpha.iter().sum();
    if alpha.iter().all(|exponent| *exponent > 0.0) && (sum - 1.0).abs() < SUM_TOLERANCE {
        Ok(Cone::Power(alpha))
    } else {
        let what = "exponents of a power cone that are not positive or do not sum to 1";
        Err(SolveError::Json(what.to_owned()))
    }
}

impl Matrix {
    /// Its entries as (row, column, value).
    fn entries(&self, rows: usize, columns: usize) -> Result<Vec<(usize, usize, f64)>, String> {
        let Matrix {
            m,
            n,
            colptr,
            rowval,
            nzval,
        } = self;
        if (*m, *n) != (rows, columns) {
            return Err(format!(
                "a matrix of {m} by {n} where {rows} by {columns} is needed"
            ));
        }
        let ascending = colptr.windows(2).all(|pair| pair[0] <= pair[1]);
        if colptr.len() != n + 1
            || colptr[0] != 0
            || colptr[*n] != rowval.len()
            || rowval.len() != nzval.len()
            || !ascending
        {
            return Err("colptr, rowval and nzval do not fit together".to_owned());
        }
        if nzval.iter().any(|value| !value.is_finite()) {
            return Err("a number that is not finite".to_owned());
        }
        let mut entries = Vec::with_capacity(nzval.len());
        for (column, range) in colptr.windows(2).enumerate() {
            for place in range[0]..range[1] {
                if rowval[place] >= rows {
                    return Err(format!("there is no row {}", rowval[place]));
                }
                entries.push((rowval[place], column, nzval[place]));
            }
        }
        Ok(entries)
    }
}
