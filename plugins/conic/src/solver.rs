//! Gives a [`Program`] to Clarabel and translates its answer.

use std::f64::consts::FRAC_1_SQRT_2;

use clarabel::algebra::CscMatrix;
use clarabel::qdldl::{QDLDLFactorisation, QDLDLSettings};
use clarabel::solver::{DefaultSettings, DefaultSolver, IPSolver, SolverStatus, SupportedConeT};
use optwasm_model::{Sense, Solution, Status};

use crate::SolveError;
use crate::program::{Affine, Cone, Program, Role};

/// As the solution names the solver.
const SOLVER: &str = "Clarabel 0.11.1";

/// Relative tolerance of [`solve`]: Clarabel's default.
const TOLERANCE: f64 = 1e-8;

/// Solves a program to a relative accuracy of 1e-8.
///
/// # Errors
///
/// [`SolveError::NotConvex`] if the quadratic objective is not convex (for
/// maximization: not concave), and [`SolveError::Solver`] if Clarabel refuses
/// the problem.
pub fn solve(program: &Program) -> Result<Solution, SolveError> {
    solve_to(program, TOLERANCE)
}

/// Solves a program to that tolerance on the duality gap and on the residuals
/// of the constraints, relative and absolute.
///
/// # Errors
///
/// As [`solve`].
pub fn solve_to(program: &Program, tolerance: f64) -> Result<Solution, SolveError> {
    let sign = match program.sense {
        Sense::Minimize => 1.0,
        Sense::Maximize => -1.0,
    };
    check_convex(program, sign)?;
    let run = run(program, sign, tolerance)?;
    let mut solution = Solution::without_values(Status::NumericalFailure, SOLVER);
    solution.iterations = Some(u64::from(run.iterations));
    solution.status = match run.status {
        SolverStatus::Solved => Status::Optimal,
        SolverStatus::AlmostSolved => Status::OptimalInaccurate,
        SolverStatus::PrimalInfeasible | SolverStatus::AlmostPrimalInfeasible => Status::Infeasible,
        SolverStatus::DualInfeasible | SolverStatus::AlmostDualInfeasible => {
            // The certificate is a direction in which the objective improves
            // for ever. That means unbounded only if there is any point to
            // start from.
            let mut feasibility = program.clone();
            feasibility.cost.fill(0.0);
            feasibility.quadratic.clear();
            match self::run(&feasibility, sign, tolerance)?.status {
                SolverStatus::Solved => Status::Unbounded,
                SolverStatus::PrimalInfeasible => Status::Infeasible,
                _ => Status::InfeasibleOrUnbounded,
            }
        }
        SolverStatus::MaxIterations => Status::IterationLimit,
        _ => Status::NumericalFailure,
    };
    if run.status != SolverStatus::Solved {
        solution.message = Some(format!("Clarabel ended with {}", run.status));
    }
    if matches!(
        solution.status,
        Status::Optimal | Status::OptimalInaccurate | Status::IterationLimit
    ) {
        solution.objective = Some(program.objective_at(&run.x));
        solution.variables = program.variables.clone();
        solution.constraints = program.constraints.clone();
        solution.duals = vec![0.0; program.constraints.len()];
        solution.reduced_costs = vec![0.0; program.variables.len()];
        let rows = program.blocks.iter().flat_map(|(_, rows)| rows);
        for (row, z) in rows.zip(&run.z) {
            match row.role {
                Role::Constraint(index, factor) => solution.duals[index] += sign * factor * z,
                Role::Variable(index, factor) => solution.reduced_costs[index] += sign * factor * z,
            }
        }
        solution.values = run.x;
    }
    Ok(solution)
}

/// Clarabel's answer to the minimization problem.
struct Run {
    status: SolverStatus,
    iterations: u32,
    x: Vec<f64>,
    z: Vec<f64>,
}

fn run(program: &Program, sign: f64, tolerance: f64) -> Result<Run, SolveError> {
    let n = program.cost.len();
    let cost: Vec<f64> = program.cost.iter().map(|c| sign * c).collect();
    let mut cones = Vec::new();
    let mut b: Vec<f64> = Vec::new();
    // Where the rotated cones start. Their first two rows (x₁, x₂) become
    // (x₁ + x₂, x₁ − x₂)/√2 of a second-order cone.
    let mut rotated = Vec::new();
    let mut triplets = (Vec::new(), Vec::new(), Vec::new());
    for (cone, rows) in &program.blocks {
        if rows.is_empty() {
            continue;
        }
        let start = b.len();
        b.resize(start + rows.len(), 0.0);
        cones.push(match cone {
            Cone::Zero => SupportedConeT::ZeroConeT(rows.len()),
            Cone::Nonnegative => SupportedConeT::NonnegativeConeT(rows.len()),
            Cone::SecondOrder | Cone::RotatedSecondOrder => {
                SupportedConeT::SecondOrderConeT(rows.len())
            }
            Cone::Exponential => SupportedConeT::ExponentialConeT(),
            Cone::Power(alpha) => {
                SupportedConeT::GenPowerConeT(alpha.clone(), rows.len() - alpha.len())
            }
            Cone::Semidefinite(order) => SupportedConeT::PSDTriangleConeT(*order),
        });
        let mut add = |row: usize, from: &Affine, factor: f64| {
            // Clarabel's rows are Ax + s = b with s in the cone.
            for &(j, a) in &from.terms {
                triplets.0.push(row);
                triplets.1.push(j);
                triplets.2.push(-factor * a);
            }
            b[row] += factor * from.constant;
        };
        if *cone == Cone::RotatedSecondOrder {
            rotated.push(start);
            add(start, &rows[0], FRAC_1_SQRT_2);
            add(start, &rows[1], FRAC_1_SQRT_2);
            add(start + 1, &rows[0], FRAC_1_SQRT_2);
            add(start + 1, &rows[1], -FRAC_1_SQRT_2);
            for (row, from) in rows.iter().enumerate().skip(2) {
                add(start + row, from, 1.0);
            }
        } else {
            for (row, from) in rows.iter().enumerate() {
                add(start + row, from, 1.0);
            }
        }
    }
    let a = CscMatrix::new_from_triplets(b.len(), n, triplets.0, triplets.1, triplets.2);
    let p = quadratic_matrix(program, sign, 0.0);
    let settings = DefaultSettings {
        verbose: false,
        tol_gap_abs: tolerance,
        tol_gap_rel: tolerance,
        tol_feas: tolerance,
        ..DefaultSettings::default()
    };
    let mut solver = DefaultSolver::new(&p, &cost, &a, &b, &cones, settings)
        .map_err(|error| SolveError::Solver(error.to_string()))?;
    solver.solve();
    let mut solution = solver.solution;
    for start in rotated {
        // The rotation is its own inverse, for multipliers as for rows.
        let (first, second) = (solution.z[start], solution.z[start + 1]);
        solution.z[start] = FRAC_1_SQRT_2 * (first + second);
        solution.z[start + 1] = FRAC_1_SQRT_2 * (first - second);
    }
    Ok(Run {
        status: solution.status,
        iterations: solution.iterations,
        x: solution.x,
        z: solution.z,
    })
}

/// The upper triangle of sign·Q + shift·I.
fn quadratic_matrix(program: &Program, sign: f64, shift: f64) -> CscMatrix<f64> {
    let n = program.cost.len();
    let mut triplets = (Vec::new(), Vec::new(), Vec::new());
    let diagonal = (0..n).filter(|_| shift != 0.0).map(|i| (i, i, shift));
    let entries = program.quadratic.iter().map(|&(i, j, q)| (i, j, sign * q));
    for (i, j, value) in entries.chain(diagonal) {
        triplets.0.push(i);
        triplets.1.push(j);
        triplets.2.push(value);
    }
    CscMatrix::new_from_triplets(n, n, triplets.0, triplets.1, triplets.2)
}

/// An interior-point method returns nonsense, without noticing, if the
/// objective is not convex. The signs of the pivots of LDLᵀ tell (Sylvester's
/// law of inertia).
fn check_convex(program: &Program, sign: f64) -> Result<(), SolveError> {
    // Semidefinite matrices have zero eigenvalues, which rounding may make
    // slightly negative; so does the input's own rounding to some ten digits.
    const RELATIVE_SHIFT: f64 = 1e-9;
    let largest = program
        .quadratic
        .iter()
        .fold(0.0_f64, |largest, &(_, _, q)| largest.max(q.abs()));
    if largest == 0.0 {
        return Ok(());
    }
    let n = program.cost.len();
    let matrix = quadratic_matrix(program, sign, RELATIVE_SHIFT * largest);
    let settings = QDLDLSettings {
        regularize_enable: false,
        ..QDLDLSettings::default()
    };
    match QDLDLFactorisation::<f64>::new(&matrix, Some(settings)) {
        Ok(factors) if factors.positive_inertia() == n => Ok(()),
        _ => Err(SolveError::NotConvex),
    }
}
