//! The two sides of a greedy reduced-basis method for a parameterized linear problem: what a basis
//! gets wrong at each of a set of parameters, and the solution by which it is extended.
//!
//! The operator is `A(mu) = A[0] + mu[0] A[1] + … `, symmetric and positive definite. The error of
//! a solution in the span of the basis is estimated by the norm of its residual in the dual of the
//! product, over the coercivity constant, which here is the smallest parameter.

use optwasm_guest::blob;
use optwasm_test_guests::{BasisTask, BasisValues, Sparse, ThermalBlock};

/// What does not depend on the task: the problem, its parameters, the factor of its product.
struct State {
    problem: ThermalBlock,
    parameters: Vec<Vec<f64>>,
    product: Factor,
}

fn load() -> Result<State, String> {
    let problem = blob("problem").ok_or("there is no problem")?;
    let mut problem: ThermalBlock =
        ciborium::from_reader(&problem.to_vec()[..]).map_err(|error| error.to_string())?;
    let parameters = match blob("parameters") {
        Some(part) => {
            ciborium::from_reader(&part.to_vec()[..]).map_err(|error| error.to_string())?
        }
        None => Vec::new(),
    };
    eliminate_boundary(&mut problem);
    let product = Factor::new(
        dense([(1.0, &problem.h1_0_semi)], problem.dofs),
        problem.dofs,
    );
    Ok(State {
        problem,
        parameters,
        product,
    })
}

#[optwasm_guest::job(init = load)]
fn compute(state: &State, task: BasisTask) -> BasisValues {
    let values = match task {
        BasisTask::Errors { basis } => errors(state, &basis),
        BasisTask::Extend { parameter, basis } => extend(state, &parameter, &basis),
    };
    BasisValues { values }
}

/// The estimated error at each parameter.
fn errors(
    State {
        problem,
        parameters,
        product,
    }: &State,
    basis: &[Vec<f64>],
) -> Vec<f64> {
    let images: Vec<Vec<Vec<f64>>> = problem
        .operators
        .iter()
        .map(|operator| basis.iter().map(|v| times(operator, v)).collect())
        .collect();
    let rhs: Vec<f64> = basis.iter().map(|v| dot(v, &problem.rhs)).collect();
    let error = |parameter: &Vec<f64>| {
        let terms: Vec<f64> = [1.0].iter().chain(parameter).copied().collect();
        let mut reduced = vec![0.0; basis.len() * basis.len()];
        for (term, images) in terms.iter().zip(&images) {
            for (i, v) in basis.iter().enumerate() {
                for (j, image) in images.iter().enumerate() {
                    reduced[i * basis.len() + j] += term * dot(v, image);
                }
            }
        }
        let solution = Factor::new(reduced, basis.len()).solve(rhs.clone());
        let mut residual = problem.rhs.clone();
        for (term, images) in terms.iter().zip(&images) {
            for (coefficient, image) in solution.iter().zip(images) {
                subtract(&mut residual, term * coefficient, image);
            }
        }
        let norm = dot(&residual, &product.solve(residual.clone())).sqrt();
        norm / parameter.iter().copied().fold(f64::INFINITY, f64::min)
    };
    parameters.iter().map(error).collect()
}

/// The solution at a parameter, orthonormal to the basis in the product.
fn extend(State { problem, .. }: &State, parameter: &[f64], basis: &[Vec<f64>]) -> Vec<f64> {
    let terms = [1.0].iter().chain(parameter).copied();
    let operator = dense(terms.zip(&problem.operators), problem.dofs);
    let mut solution = Factor::new(operator, problem.dofs).solve(problem.rhs.clone());
    // Twice is enough to be orthogonal to working precision.
    for _ in 0..2 {
        let image = times(&problem.h1_0_semi, &solution);
        for v in basis {
            let share = dot(v, &image);
            subtract(&mut solution, share, v);
        }
    }
    let norm = dot(&solution, &times(&problem.h1_0_semi, &solution)).sqrt();
    solution.iter().map(|value| value / norm).collect()
}

/// Solutions are zero on the boundary, whose rows the first operator holds. Without its columns, as
/// without its rows, the operators are symmetric.
fn eliminate_boundary(problem: &mut ThermalBlock) {
    let mut is_boundary = vec![false; problem.dofs];
    for row in &problem.operators[0].rows {
        is_boundary[*row] = true;
    }
    for operator in &mut problem.operators[1..] {
        for (value, col) in operator.vals.iter_mut().zip(&operator.cols) {
            if is_boundary[*col] {
                *value = 0.0;
            }
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn subtract(from: &mut [f64], factor: f64, vector: &[f64]) {
    for (from, value) in from.iter_mut().zip(vector) {
        *from -= factor * value;
    }
}

fn times(matrix: &Sparse, vector: &[f64]) -> Vec<f64> {
    let mut image = vec![0.0; vector.len()];
    for ((&row, &col), value) in matrix.rows.iter().zip(&matrix.cols).zip(&matrix.vals) {
        image[row] += value * vector[col];
    }
    image
}

/// A sum of matrices, row by row.
fn dense<'a>(terms: impl IntoIterator<Item = (f64, &'a Sparse)>, n: usize) -> Vec<f64> {
    let mut sum = vec![0.0; n * n];
    for (term, matrix) in terms {
        for ((&row, &col), value) in matrix.rows.iter().zip(&matrix.cols).zip(&matrix.vals) {
            sum[row * n + col] += term * value;
        }
    }
    sum
}

/// A Cholesky factor: lower triangle, row by row.
struct Factor {
    lower: Vec<f64>,
    n: usize,
}

impl Factor {
    /// Of a symmetric positive definite matrix, row by row.
    fn new(mut a: Vec<f64>, n: usize) -> Self {
        for i in 0..n {
            let (done, rest) = a.split_at_mut(i * n);
            let row = &mut rest[..n];
            for j in 0..i {
                let above = &done[j * n..j * n + n];
                row[j] = (row[j] - dot(&row[..j], &above[..j])) / above[j];
            }
            row[i] = (row[i] - dot(&row[..i], &row[..i])).sqrt();
        }
        Self { lower: a, n }
    }

    fn solve(&self, mut x: Vec<f64>) -> Vec<f64> {
        let n = self.n;
        for i in 0..n {
            let row = &self.lower[i * n..i * n + i + 1];
            x[i] = (x[i] - dot(&row[..i], &x[..i])) / row[i];
        }
        for i in (0..n).rev() {
            let row = &self.lower[i * n..i * n + i + 1];
            x[i] /= row[i];
            let value = x[i];
            subtract(&mut x[..i], value, &row[..i]);
        }
        x
    }
}
