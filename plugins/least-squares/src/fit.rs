//! The Levenberg-Marquardt method on a [`Problem`].
//!
//! The method is MINPACK's `LMDER` in the Rust crate of that name. It is run
//! from every starting point, and the fit with the least residual sum of
//! squares is the result: from a bad start the method may well end in a worse
//! local minimum, or where the model overflows.

use levenberg_marquardt::{LeastSquaresProblem, LevenbergMarquardt, TerminationReason};
use nalgebra::{DMatrix, DVector, Dyn, Owned};
use optwasm_model::{FitStatistics, OptionError, Options, Solution, Status};

use crate::expression::Evaluator;
use crate::problem::Problem;

/// As the solution names the solver.
const SOLVER: &str = "levenberg-marquardt 0.15.0";

/// How a fit is made; the plugin's options.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Relative tolerance on residuals, parameters and gradient.
    pub tol: f64,
    /// Model evaluations allowed for each start, times the number of parameters
    /// plus one.
    pub patience: usize,
}

impl Default for Settings {
    /// The crate's own tolerance, and ten times its patience, which is too little
    /// for NIST's `MGH17` and the like.
    fn default() -> Self {
        Self {
            tol: 30.0 * f64::EPSILON,
            patience: 1000,
        }
    }
}

impl Settings {
    /// Takes the options that `plugin.toml` lists.
    ///
    /// # Errors
    ///
    /// An [`OptionError`] if there are others, or one has a wrong value.
    pub fn from_options(mut options: Options) -> Result<Self, OptionError> {
        let default = Self::default();
        let settings = Self {
            tol: options.number("tol", f64::EPSILON..=0.1, default.tol)?,
            patience: options.number("patience", 1..=1_000_000, default.patience)?,
        };
        options.finish()?;
        Ok(settings)
    }
}

/// Residual that stands for "the model is not defined here". It makes the
/// method take a shorter step. Its square, summed over all observations, must
/// be finite.
const UNDEFINED: f64 = 1e100;

/// A column of the Jacobian, scaled to unit length, counts as dependent on
/// those before it if this little of it is left after projection. Rounding
/// leaves some 1e-16 of a column that is really dependent.
const DEPENDENT: f64 = 1e-14;

/// Fits the model. Calls `report` with the number of starting points done
/// after every one of them.
pub fn fit(problem: &Problem, settings: &Settings, mut report: impl FnMut(usize)) -> Solution {
    let mut best: Option<Fit> = None;
    let mut evaluations = 0;
    for (index, start) in problem.starts.iter().enumerate() {
        let fit = run(problem, settings, index, start);
        evaluations += fit.evaluations;
        let better = match &best {
            None => true,
            Some(best) => match (best.converged(), fit.converged()) {
                (true, false) => false,
                (false, true) => true,
                _ => fit.sum_of_squares < best.sum_of_squares,
            },
        };
        if better {
            best = Some(fit);
        }
        report(index + 1);
    }
    let mut solution = Solution::without_values(Status::NumericalFailure, SOLVER);
    solution.iterations = Some(evaluations as u64);
    let Some(best) = best else {
        return solution;
    };
    solution.status = match best.reason {
        TerminationReason::LostPatience => Status::IterationLimit,
        _ if best.converged() => Status::Optimal,
        _ => Status::NumericalFailure,
    };
    if solution.status != Status::Optimal {
        solution.message = Some(format!("Levenberg-Marquardt ended with {:?}", best.reason));
    }
    if best.sum_of_squares.is_finite() {
        solution.objective = Some(best.sum_of_squares);
        solution.variables = problem.parameters.clone();
        solution.fit = Some(statistics(problem, &best));
        solution.values = best.parameters;
    }
    solution
}

/// Where one run ended.
struct Fit {
    start: usize,
    parameters: Vec<f64>,
    sum_of_squares: f64,
    evaluations: usize,
    reason: TerminationReason,
}

impl Fit {
    fn converged(&self) -> bool {
        self.reason.was_successful() && self.sum_of_squares.is_finite()
    }
}

fn run(problem: &Problem, settings: &Settings, start: usize, from: &[f64]) -> Fit {
    let target = Target {
        problem,
        parameters: DVector::from_column_slice(from),
    };
    let (target, report) = LevenbergMarquardt::new()
        .with_patience(settings.patience)
        .with_ftol(settings.tol)
        .with_xtol(settings.tol)
        .with_gtol(settings.tol)
        .minimize(target);
    let residuals = target.values();
    let sum_of_squares = if residuals.iter().all(|r| r.is_finite()) {
        residuals.norm_squared()
    } else {
        f64::INFINITY
    };
    Fit {
        start,
        parameters: target.parameters.as_slice().to_vec(),
        sum_of_squares,
        evaluations: report.number_of_evaluations,
        reason: report.termination,
    }
}

/// The problem as the method sees it.
struct Target<'a> {
    problem: &'a Problem,
    parameters: DVector<f64>,
}

impl Target<'_> {
    /// Prediction less response of every observation.
    fn values(&self) -> DVector<f64> {
        let parameters = self.parameters.as_slice();
        let rows = self.problem.rows.iter().map(|row| {
            let prediction = self.problem.prediction.value(parameters, row);
            prediction - self.problem.response.value(parameters, row)
        });
        DVector::from_iterator(self.problem.rows.len(), rows)
    }

    fn derivatives(&self) -> DMatrix<f64> {
        let count = self.parameters.len();
        let mut evaluator = Evaluator::new(count);
        let mut jacobian = DMatrix::zeros(self.problem.rows.len(), count);
        for (index, row) in self.problem.rows.iter().enumerate() {
            let prediction = &self.problem.prediction;
            let values = evaluator.evaluate(prediction, self.parameters.as_slice(), row);
            for (column, derivative) in values[1..].iter().enumerate() {
                jacobian[(index, column)] = *derivative;
            }
        }
        jacobian
    }
}

impl LeastSquaresProblem<f64, Dyn, Dyn> for Target<'_> {
    type ResidualStorage = Owned<f64, Dyn>;
    type JacobianStorage = Owned<f64, Dyn, Dyn>;
    type ParameterStorage = Owned<f64, Dyn>;

    fn set_params(&mut self, parameters: &DVector<f64>) {
        self.parameters.copy_from(parameters);
    }

    fn params(&self) -> DVector<f64> {
        self.parameters.clone()
    }

    fn residuals(&self) -> Option<DVector<f64>> {
        let defined = |r: f64| if r.abs() < UNDEFINED { r } else { UNDEFINED };
        Some(self.values().map(defined))
    }

    fn jacobian(&self) -> Option<DMatrix<f64>> {
        let jacobian = self.derivatives();
        jacobian.iter().all(|d| d.is_finite()).then_some(jacobian)
    }
}

/// Standard deviations from the linearized model: the square roots of the
/// diagonal of s²(JᵀJ)⁻¹, where s² is the residual variance (Bates & Watts,
/// *Nonlinear Regression Analysis and Its Applications*, section 2.2).
fn statistics(problem: &Problem, fit: &Fit) -> FitStatistics {
    let count = fit.parameters.len();
    let freedom = problem.rows.len() - count;
    let deviation = (freedom > 0).then(|| (fit.sum_of_squares / freedom as f64).sqrt());
    let target = Target {
        problem,
        parameters: DVector::from_column_slice(&fit.parameters),
    };
    let deviations = deviation.and_then(|s| {
        let mut jacobian = target.derivatives();
        let scales: Vec<f64> = jacobian.column_iter().map(|column| column.norm()).collect();
        if scales
            .iter()
            .any(|&scale| !(scale.is_finite() && scale > 0.0))
        {
            return None;
        }
        for (mut column, scale) in jacobian.column_iter_mut().zip(&scales) {
            column /= *scale;
        }
        // With J = QR, (JᵀJ)⁻¹ = R⁻¹R⁻ᵀ.
        let r = jacobian.qr().r();
        if (0..count).any(|i| r[(i, i)].abs() < DEPENDENT) {
            return None;
        }
        let inverse = r.solve_upper_triangular(&DMatrix::identity(count, count))?;
        let rows = inverse.row_iter().zip(&scales);
        Some(rows.map(|(row, scale)| s * row.norm() / scale).collect())
    });
    FitStatistics {
        standard_deviations: deviations.unwrap_or_default(),
        residual_standard_deviation: deviation,
        degrees_of_freedom: freedom as u64,
        start: fit.start as u64,
    }
}
