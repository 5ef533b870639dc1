//! The eleven BLAS and LAPACK routines that Clarabel calls, in Rust.
//!
//! Clarabel needs dense linear algebra for semidefinite cones and calls it by
//! the routines' C names. Linked into a program, this crate provides those
//! names, so that no library of the system is needed and the solver runs in
//! WebAssembly. The computations are nalgebra's ([`dense`]); this file only
//! translates between pointers and matrices.
//!
//! What Clarabel never asks for is left out: increments other than 1, singular
//! vectors other than the leading ones (`S`), parts of a spectrum, and outputs
//! that it never reads (`ISUPPZ`, the contents of workspaces).
//!
//! # Safety of all routines
//!
//! The contract is that of BLAS and LAPACK: every pointer is valid for the
//! extent that the dimensions and the leading dimension imply, and what is
//! written does not overlap anything else. The names, argument orders and
//! meanings are those of the reference implementation at netlib.org.

pub mod dense;

use std::ffi::{c_char, c_int};

use dense::Triangle;
use nalgebra::DMatrix;

/// LAPACK's way to ask only for the size of the workspace.
const QUERY: c_int = -1;

/// Copies a column-major matrix with leading dimension `ld`.
///
/// # Safety
///
/// `data` must be valid for reads of `(cols − 1)·ld + rows` doubles.
unsafe fn read(data: *const f64, rows: c_int, cols: c_int, ld: c_int) -> DMatrix<f64> {
    let (rows, cols, ld) = (size(rows), size(cols), size(ld));
    DMatrix::from_fn(rows, cols, |i, j| {
        // SAFETY: i < rows and j < cols, so the index is within what the
        // caller vouches for.
        unsafe { *data.add(j * ld + i) }
    })
}

/// Writes those elements of a matrix for which `wanted(row, column)` holds.
///
/// # Safety
///
/// `data` must be valid for writes of `(columns − 1)·ld + rows` doubles.
unsafe fn write(
    data: *mut f64,
    ld: c_int,
    matrix: &DMatrix<f64>,
    wanted: impl Fn(usize, usize) -> bool,
) {
    let ld = size(ld);
    for j in 0..matrix.ncols() {
        for i in (0..matrix.nrows()).filter(|&i| wanted(i, j)) {
            // SAFETY: i and j are within the matrix, so the index is within
            // what the caller vouches for.
            unsafe { *data.add(j * ld + i) = matrix[(i, j)] };
        }
    }
}

fn everywhere(_: usize, _: usize) -> bool {
    true
}

/// A dimension; BLAS forbids negative ones, which are taken for zero.
fn size(n: c_int) -> usize {
    usize::try_from(n).unwrap_or(0)
}

fn is(option: c_char, letter: u8) -> bool {
    // Options are ASCII letters, for which the cast is exact on every platform.
    (option as u8).eq_ignore_ascii_case(&letter)
}

/// Whether the option asks for the transpose; the conjugate one is the same.
fn transposed(option: c_char) -> bool {
    !is(option, b'N')
}

fn triangle(uplo: c_char) -> Triangle {
    if is(uplo, b'U') {
        Triangle::Upper
    } else {
        Triangle::Lower
    }
}

/// C ← α·op(A)·op(B) + β·C.
///
/// # Safety
///
/// See the crate's documentation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemm_(
    transa: *const c_char,
    transb: *const c_char,
    m: *const c_int,
    n: *const c_int,
    k: *const c_int,
    alpha: *const f64,
    a: *const f64,
    lda: *const c_int,
    b: *const f64,
    ldb: *const c_int,
    beta: *const f64,
    c: *mut f64,
    ldc: *const c_int,
) {
    // SAFETY: the contract of BLAS.
    unsafe {
        let (ta, tb) = (transposed(*transa), transposed(*transb));
        let a = if ta {
            read(a, *k, *m, *lda)
        } else {
            read(a, *m, *k, *lda)
        };
        let b = if tb {
            read(b, *n, *k, *ldb)
        } else {
            read(b, *k, *n, *ldb)
        };
        let mut result = read(c, *m, *n, *ldc);
        dense::multiply(*alpha, &a, ta, &b, tb, *beta, &mut result);
        write(c, *ldc, &result, everywhere);
    }
}

/// y ← α·op(A)·x + β·y, for increments of 1.
///
/// # Safety
///
/// See the crate's documentation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgemv_(
    trans: *const c_char,
    m: *const c_int,
    n: *const c_int,
    alpha: *const f64,
    a: *const f64,
    lda: *const c_int,
    x: *const f64,
    _incx: *const c_int,
    beta: *const f64,
    y: *mut f64,
    _incy: *const c_int,
) {
    // SAFETY: the contract of BLAS.
    unsafe {
        let t = transposed(*trans);
        let (from, to) = if t { (*m, *n) } else { (*n, *m) };
        let a = read(a, *m, *n, *lda);
        let x = read(x, from, 1, from);
        let mut result = read(y, to, 1, to);
        dense::multiply(*alpha, &a, t, &x, false, *beta, &mut result);
        write(y, to, &result, everywhere);
    }
}

/// y ← α·A·x + β·y for symmetric A, for increments of 1.
///
/// # Safety
///
/// See the crate's documentation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dsymv_(
    uplo: *const c_char,
    n: *const c_int,
    alpha: *const f64,
    a: *const f64,
    lda: *const c_int,
    x: *const f64,
    _incx: *const c_int,
    beta: *const f64,
    y: *mut f64,
    _incy: *const c_int,
) {
    // SAFETY: the contract of BLAS.
    unsafe {
        let a = dense::symmetric(&read(a, *n, *n, *lda), triangle(*uplo));
        let x = read(x, *n, 1, *n);
        let mut result = read(y, *n, 1, *n);
        dense::multiply(*alpha, &a, false, &x, false, *beta, &mut result);
        write(y, *n, &result, everywhere);
    }
}

/// C ← α·op(A)·op(A)ᵀ + β·C in one triangle of C.
///
/// # Safety
///
/// See the crate's documentation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dsyrk_(
    uplo: *const c_char,
    trans: *const c_char,
    n: *const c_int,
    k: *const c_int,
    alpha: *const f64,
    a: *const f64,
    lda: *const c_int,
    beta: *const f64,
    c: *mut f64,
    ldc: *const c_int,
) {
    // SAFETY: the contract of BLAS.
    unsafe {
        let t = transposed(*trans);
        let a = if t {
            read(a, *k, *n, *lda)
        } else {
            read(a, *n, *k, *lda)
        };
        let mut result = read(c, *n, *n, *ldc);
        dense::multiply(*alpha, &a, t, &a, !t, *beta, &mut result);
        let triangle = triangle(*uplo);
        write(c, *ldc, &result, |i, j| triangle.contains(i, j));
    }
}

/// C ← α·(op(A)·op(B)ᵀ + op(B)·op(A)ᵀ) + β·C in one triangle of C.
///
/// # Safety
///
/// See the crate's documentation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dsyr2k_(
    uplo: *const c_char,
    trans: *const c_char,
    n: *const c_int,
    k: *const c_int,
    alpha: *const f64,
    a: *const f64,
    lda: *const c_int,
    b: *const f64,
    ldb: *const c_int,
    beta: *const f64,
    c: *mut f64,
    ldc: *const c_int,
) {
    // SAFETY: the contract of BLAS.
    unsafe {
        let t = transposed(*trans);
        let (rows, cols) = if t { (*k, *n) } else { (*n, *k) };
        let a = read(a, rows, cols, *lda);
        let b = read(b, rows, cols, *ldb);
        let mut result = read(c, *n, *n, *ldc);
        dense::multiply(*alpha, &a, t, &b, !t, *beta, &mut result);
        dense::multiply(*alpha, &b, t, &a, !t, 1.0, &mut result);
        let triangle = triangle(*uplo);
        write(c, *ldc, &result, |i, j| triangle.contains(i, j));
    }
}

/// Cholesky factor of a symmetric matrix, in its place.
///
/// # Safety
///
/// See the crate's documentation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dpotrf_(
    uplo: *const c_char,
    n: *const c_int,
    a: *mut f64,
    lda: *const c_int,
    info: *mut c_int,
) {
    // SAFETY: the contract of LAPACK.
    unsafe {
        let triangle = triangle(*uplo);
        *info = match dense::cholesky(&read(a, *n, *n, *lda), triangle) {
            Some(factor) => {
                write(a, *lda, &factor, |i, j| triangle.contains(i, j));
                0
            }
            // LAPACK gives the order of the minor that is not positive;
            // nalgebra does not tell it.
            None => 1,
        };
    }
}

/// Solves A·X = B by the Cholesky factor of A.
///
/// # Safety
///
/// See the crate's documentation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dpotrs_(
    uplo: *const c_char,
    n: *const c_int,
    nrhs: *const c_int,
    a: *const f64,
    lda: *const c_int,
    b: *mut f64,
    ldb: *const c_int,
    info: *mut c_int,
) {
    // SAFETY: the contract of LAPACK.
    unsafe {
        let factor = read(a, *n, *n, *lda);
        let mut x = read(b, *n, *nrhs, *ldb);
        dense::cholesky_solve(&factor, triangle(*uplo), &mut x);
        write(b, *ldb, &x, everywhere);
        *info = 0;
    }
}

/// Solves A·X = B for a general square A. The factors of A and the pivots,
/// which LAPACK returns too, are not.
///
/// # Safety
///
/// See the crate's documentation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgesv_(
    n: *const c_int,
    nrhs: *const c_int,
    a: *mut f64,
    lda: *const c_int,
    _ipiv: *mut c_int,
    b: *mut f64,
    ldb: *const c_int,
    info: *mut c_int,
) {
    // SAFETY: the contract of LAPACK.
    unsafe {
        let mut x = read(b, *n, *nrhs, *ldb);
        *info = if read(a, *n, *n, *lda).lu().solve_mut(&mut x) {
            write(b, *ldb, &x, everywhere);
            0
        } else {
            // U is singular; LAPACK would say at which row.
            *n
        };
    }
}

/// Singular value decomposition with the leading singular vectors.
///
/// # Safety
///
/// See the crate's documentation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgesdd_(
    jobz: *const c_char,
    m: *const c_int,
    n: *const c_int,
    a: *mut f64,
    lda: *const c_int,
    s: *mut f64,
    u: *mut f64,
    ldu: *const c_int,
    vt: *mut f64,
    ldvt: *const c_int,
    work: *mut f64,
    lwork: *const c_int,
    _iwork: *mut c_int,
    info: *mut c_int,
) {
    // SAFETY: the contract of LAPACK, and dgesvd has the same.
    unsafe {
        dgesvd_(
            jobz, jobz, m, n, a, lda, s, u, ldu, vt, ldvt, work, lwork, info,
        );
    }
}

/// Singular value decomposition with the leading singular vectors.
///
/// # Safety
///
/// See the crate's documentation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dgesvd_(
    jobu: *const c_char,
    jobvt: *const c_char,
    m: *const c_int,
    n: *const c_int,
    a: *mut f64,
    lda: *const c_int,
    s: *mut f64,
    u: *mut f64,
    ldu: *const c_int,
    vt: *mut f64,
    ldvt: *const c_int,
    work: *mut f64,
    lwork: *const c_int,
    info: *mut c_int,
) {
    // SAFETY: the contract of LAPACK.
    unsafe {
        if !is(*jobu, b'S') || !is(*jobvt, b'S') {
            *info = -1;
            return;
        }
        if *lwork == QUERY {
            *work = 1.0;
            *info = 0;
            return;
        }
        *info = match dense::svd(read(a, *m, *n, *lda)) {
            Some((left, values, right)) => {
                write(s, *m.min(n), &values, everywhere);
                write(u, *ldu, &left, everywhere);
                write(vt, *ldvt, &right, everywhere);
                0
            }
            // Not converged.
            None => 1,
        };
    }
}

/// Eigenvalues, ascending, and on demand eigenvectors of a symmetric matrix.
///
/// # Safety
///
/// See the crate's documentation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dsyevr_(
    jobz: *const c_char,
    range: *const c_char,
    uplo: *const c_char,
    n: *const c_int,
    a: *mut f64,
    lda: *const c_int,
    _vl: *const f64,
    _vu: *const f64,
    _il: *const c_int,
    _iu: *const c_int,
    _abstol: *const f64,
    m: *mut c_int,
    w: *mut f64,
    z: *mut f64,
    ldz: *const c_int,
    _isuppz: *mut c_int,
    work: *mut f64,
    lwork: *const c_int,
    iwork: *mut c_int,
    liwork: *const c_int,
    info: *mut c_int,
) {
    // SAFETY: the contract of LAPACK.
    unsafe {
        if !is(*range, b'A') {
            *info = -2;
            return;
        }
        if *lwork == QUERY || *liwork == QUERY {
            *work = 1.0;
            *iwork = 1;
            *info = 0;
            return;
        }
        let vectors_wanted = is(*jobz, b'V');
        let matrix = dense::symmetric(&read(a, *n, *n, *lda), triangle(*uplo));
        *info = match dense::eigen(matrix, vectors_wanted) {
            Some((values, vectors)) => {
                write(w, *n, &values, everywhere);
                if let Some(vectors) = vectors {
                    write(z, *ldz, &vectors, everywhere);
                }
                *m = *n;
                0
            }
            // Not converged.
            None => 1,
        };
    }
}
