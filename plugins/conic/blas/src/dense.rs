//! The computations, on matrices instead of pointers.

use nalgebra::{DMatrix, DVector, SVD, SymmetricEigen};

/// Which half of a symmetric matrix holds its elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Triangle {
    /// On and above the diagonal.
    Upper,
    /// On and below the diagonal.
    Lower,
}

impl Triangle {
    /// Whether element (i, j) is in this half.
    pub fn contains(self, i: usize, j: usize) -> bool {
        match self {
            Triangle::Upper => i <= j,
            Triangle::Lower => i >= j,
        }
    }
}

/// The whole of the symmetric matrix of which `matrix` holds one half.
pub fn symmetric(matrix: &DMatrix<f64>, half: Triangle) -> DMatrix<f64> {
    DMatrix::from_fn(matrix.nrows(), matrix.ncols(), |i, j| {
        if half.contains(i, j) {
            matrix[(i, j)]
        } else {
            matrix[(j, i)]
        }
    })
}

/// C ← α·op(A)·op(B) + β·C, where op transposes if the flag is set. β = 0
/// overwrites C even where it is NaN.
///
/// # Panics
///
/// If the shapes do not fit.
pub fn multiply(
    alpha: f64,
    a: &DMatrix<f64>,
    transpose_a: bool,
    b: &DMatrix<f64>,
    transpose_b: bool,
    beta: f64,
    c: &mut DMatrix<f64>,
) {
    if beta == 0.0 {
        c.fill(0.0);
    }
    match (transpose_a, transpose_b) {
        (false, false) => c.gemm(alpha, a, b, beta),
        (false, true) => c.gemm(alpha, a, &b.transpose(), beta),
        (true, false) => c.gemm(alpha, &a.transpose(), b, beta),
        (true, true) => c.gemm(alpha, &a.transpose(), &b.transpose(), beta),
    }
}

/// The factor L of A = LLᵀ, or U of A = UᵀU, whichever half A is given by;
/// `None` if A is not positive definite.
pub fn cholesky(matrix: &DMatrix<f64>, half: Triangle) -> Option<DMatrix<f64>> {
    let lower = symmetric(matrix, half).cholesky()?.unpack();
    Some(match half {
        Triangle::Lower => lower,
        Triangle::Upper => lower.transpose(),
    })
}

/// Overwrites B with the X of AX = B, given the factor that [`cholesky`] found.
///
/// # Panics
///
/// If the shapes do not fit.
pub fn cholesky_solve(factor: &DMatrix<f64>, half: Triangle, b: &mut DMatrix<f64>) {
    match half {
        Triangle::Lower => {
            factor.solve_lower_triangular_mut(b);
            factor.tr_solve_lower_triangular_mut(b);
        }
        Triangle::Upper => {
            factor.tr_solve_upper_triangular_mut(b);
            factor.solve_upper_triangular_mut(b);
        }
    }
}

/// Left singular vectors, singular values (descending, as a column) and
/// transposed right singular vectors; `None` if a number is not finite or the
/// iteration does not converge.
pub fn svd(matrix: DMatrix<f64>) -> Option<(DMatrix<f64>, DMatrix<f64>, DMatrix<f64>)> {
    // Implicit QR takes about two steps for a value; LAPACK allows 30.
    const STEPS_PER_VALUE: usize = 60;
    if matrix.iter().any(|v| !v.is_finite()) {
        return None;
    }
    let steps = STEPS_PER_VALUE * matrix.nrows().max(matrix.ncols()).max(1);
    let svd = SVD::try_new(matrix, true, true, f64::EPSILON, steps)?;
    let values = column(&svd.singular_values);
    Some((svd.u?, values, svd.v_t?))
}

/// Eigenvalues (ascending, as a column) and on demand eigenvectors of a
/// symmetric matrix; `None` if a number is not finite or the iteration does
/// not converge.
pub fn eigen(matrix: DMatrix<f64>, vectors: bool) -> Option<(DMatrix<f64>, Option<DMatrix<f64>>)> {
    // As in `svd`.
    const STEPS_PER_VALUE: usize = 60;
    if matrix.iter().any(|v| !v.is_finite()) {
        return None;
    }
    if !vectors {
        let mut values = matrix.symmetric_eigenvalues();
        values.as_mut_slice().sort_by(f64::total_cmp);
        return Some((column(&values), None));
    }
    let steps = STEPS_PER_VALUE * matrix.nrows().max(1);
    let eigen = SymmetricEigen::try_new(matrix, f64::EPSILON, steps)?;
    let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
    order.sort_by(|&i, &j| eigen.eigenvalues[i].total_cmp(&eigen.eigenvalues[j]));
    let values = DMatrix::from_fn(order.len(), 1, |i, _| eigen.eigenvalues[order[i]]);
    Some((values, Some(eigen.eigenvectors.select_columns(&order))))
}

fn column(vector: &DVector<f64>) -> DMatrix<f64> {
    DMatrix::from_column_slice(vector.len(), 1, vector.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A matrix of full rank without any symmetry.
    fn sample(rows: usize, cols: usize) -> DMatrix<f64> {
        DMatrix::from_fn(rows, cols, |i, j| {
            ((3 * i + 7 * j + 1) as f64).sin() + f64::from(u8::from(i == j))
        })
    }

    fn close(a: &DMatrix<f64>, b: &DMatrix<f64>) -> bool {
        (a - b).amax() < 1e-11
    }

    #[test]
    fn products_obey_their_flags() {
        let (a, b) = (sample(4, 3), sample(3, 5));
        let expected = (&a * &b) * 2.0 + sample(4, 5) * 3.0;
        for (ta, tb) in [(false, false), (false, true), (true, false), (true, true)] {
            let left = if ta { a.transpose() } else { a.clone() };
            let right = if tb { b.transpose() } else { b.clone() };
            let mut c = sample(4, 5);
            multiply(2.0, &left, ta, &right, tb, 3.0, &mut c);
            assert!(close(&c, &expected));
        }
        let mut c = DMatrix::from_element(4, 5, f64::NAN);
        multiply(1.0, &a, false, &b, false, 0.0, &mut c);
        assert!(close(&c, &(&a * &b)));
    }

    #[test]
    fn cholesky_factors_and_solves_from_either_half() {
        let root = sample(6, 6);
        let a = &root * root.transpose();
        let x = sample(6, 2);
        for half in [Triangle::Upper, Triangle::Lower] {
            // The other half must not matter.
            let given = DMatrix::from_fn(6, 6, |i, j| {
                if half.contains(i, j) {
                    a[(i, j)]
                } else {
                    f64::NAN
                }
            });
            let factor = cholesky(&given, half).unwrap();
            let product = match half {
                Triangle::Lower => &factor * factor.transpose(),
                Triangle::Upper => factor.transpose() * &factor,
            };
            assert!(close(&product, &a));
            let mut b = &a * &x;
            cholesky_solve(&factor, half, &mut b);
            assert!((b - &x).amax() < 1e-8);
        }
        assert!(cholesky(&-a, Triangle::Upper).is_none());
    }

    #[test]
    fn svd_and_eigen_reconstruct() {
        for (rows, cols) in [(5, 5), (6, 3), (3, 6), (1, 1)] {
            let a = sample(rows, cols);
            let (u, s, vt) = svd(a.clone()).unwrap();
            assert_eq!((u.ncols(), vt.nrows()), (rows.min(cols), rows.min(cols)));
            assert!(close(
                &(u * DMatrix::from_diagonal(&s.column(0).into_owned()) * vt),
                &a
            ));
            assert!(s.as_slice().is_sorted_by(|a, b| a >= b));
        }
        let a = symmetric(&sample(7, 7), Triangle::Upper);
        let (values, vectors) = eigen(a.clone(), true).unwrap();
        let v = vectors.unwrap();
        let diagonal = DMatrix::from_diagonal(&values.column(0).into_owned());
        assert!(close(&(&v * diagonal * v.transpose()), &a));
        assert!(values.as_slice().is_sorted());
        assert!(close(&eigen(a, false).unwrap().0, &values));
    }

    #[test]
    fn numbers_that_are_not_finite_end_in_an_error() {
        let nan = DMatrix::from_element(4, 4, f64::NAN);
        assert!(svd(nan.clone()).is_none());
        assert!(eigen(nan.clone(), true).is_none());
        assert!(eigen(nan.clone(), false).is_none());
        assert!(cholesky(&nan, Triangle::Lower).is_none());
    }
}
