//! Gives a [`Model`] to microlp and translates its answer.

use microlp::{
    ComparisonOp, Error, OptimizationDirection, Problem, ResumeOptions, SolveOptions, SolveOutcome,
    TerminationReason, Variable,
};
use optwasm_model::{Model, Sense, Solution, Status};

use crate::SolveError;
use crate::dive::dive;

/// As the solution names the solver.
const SOLVER: &str = "microlp 0.7.0";

/// Relative gap between solution and bound at which branch and bound stops;
/// the default of CPLEX, Gurobi and HiGHS.
pub const MIP_GAP: f64 = 1e-4;

/// Nodes of branch and bound between two looks at whether there is a better
/// solution to report. A count of nodes, not a time, keeps runs reproducible.
const NODES_PER_REPORT: u64 = 500;

/// microlp keeps bounds of integer variables as 32-bit numbers.
const INTEGER_LIMITS: (f64, f64) = (i32::MIN as f64, i32::MAX as f64);

/// Solves a model, to the relative gap `gap` if it is mixed-integer. Calls `report` with every better solution of a
/// mixed-integer program that is found on the way.
///
/// # Errors
///
/// [`SolveError::Quadratic`], [`SolveError::SemiContinuous`] and [`SolveError::Solver`].
pub fn solve_model(
    model: &Model,
    gap: f64,
    mut report: impl FnMut(&Solution),
) -> Result<Solution, SolveError> {
    if !model.quadratic.is_empty() {
        return Err(SolveError::Quadratic);
    }
    if model.has_semicontinuous() {
        return Err(SolveError::SemiContinuous);
    }
    let (problem, variables) = problem(model, true);
    let hint = if model.has_integers() {
        let (relaxation, variables) = self::problem(model, false);
        let columns = model.columns.iter().zip(variables);
        let integers: Vec<Variable> = columns
            .filter(|(column, _)| column.integer)
            .map(|(_, variable)| variable)
            .collect();
        dive(&relaxation, &integers)
    } else {
        None
    };
    let answer = run(&problem, hint, gap, |outcome| {
        let found = solution(model, &variables, outcome, Status::Feasible);
        report(&found);
    });
    let mut result = match answer {
        Ok(outcome) => {
            let status = match outcome.termination_reason() {
                TerminationReason::ProvenOptimal | TerminationReason::MipGap => Status::Optimal,
                _ => Status::IterationLimit,
            };
            solution(model, &variables, &outcome, status)
        }
        Err(Error::Infeasible) => Solution::without_values(Status::Infeasible, SOLVER),
        Err(Error::Unbounded) => Solution::without_values(Status::Unbounded, SOLVER),
        Err(Error::InternalError(message)) => {
            let mut failed = Solution::without_values(Status::NumericalFailure, SOLVER);
            failed.message = Some(message);
            failed
        }
        Err(other) => return Err(SolveError::Solver(other.to_string())),
    };
    mind_integer_limits(model, &mut result);
    Ok(result)
}

/// The model as microlp takes it, with or without integrality.
fn problem(model: &Model, integers: bool) -> (Problem, Vec<Variable>) {
    let mut problem = Problem::new(match model.sense {
        Sense::Minimize => OptimizationDirection::Minimize,
        Sense::Maximize => OptimizationDirection::Maximize,
    });
    let variables: Vec<Variable> = model
        .columns
        .iter()
        .map(|column| {
            if column.integer && integers {
                let clamp = |bound: f64| bound.clamp(INTEGER_LIMITS.0, INTEGER_LIMITS.1) as i32;
                let bounds = (clamp(column.lower.ceil()), clamp(column.upper.floor()));
                problem.add_integer_var(column.cost, bounds)
            } else if column.integer {
                problem.add_var(column.cost, (column.lower.ceil(), column.upper.floor()))
            } else {
                problem.add_var(column.cost, (column.lower, column.upper))
            }
        })
        .collect();
    for (row, coefficients) in model.rows.iter().zip(model.row_coefficients()) {
        let terms: Vec<(Variable, f64)> = coefficients
            .into_iter()
            .map(|(column, value)| (variables[column], value))
            .collect();
        if row.lower == row.upper {
            problem.add_constraint(&terms[..], ComparisonOp::Eq, row.lower);
            continue;
        }
        if row.lower > f64::NEG_INFINITY {
            problem.add_constraint(&terms[..], ComparisonOp::Ge, row.lower);
        }
        if row.upper < f64::INFINITY {
            problem.add_constraint(&terms[..], ComparisonOp::Le, row.upper);
        }
    }
    (problem, variables)
}

/// Solves the problem, starting from `hint`, and calls `found` with every better solution. Where
/// microlp gives up for numerical reasons, it gets a second try without its
/// presolve, whose reductions can be what it stumbles over.
fn run(
    problem: &Problem,
    hint: Option<Vec<(Variable, f64)>>,
    gap: f64,
    mut found: impl FnMut(&SolveOutcome),
) -> Result<SolveOutcome, Error> {
    let mut options = SolveOptions::default();
    options.warm_start = hint;
    options.mip_gap = gap;
    options.node_limit = Some(NODES_PER_REPORT);
    match search(problem, options.clone(), &mut found) {
        Err(Error::InternalError(_)) => {
            options.presolve = false;
            search(problem, options, &mut found)
        }
        other => other,
    }
}

fn search(
    problem: &Problem,
    options: SolveOptions,
    found: &mut impl FnMut(&SolveOutcome),
) -> Result<SolveOutcome, Error> {
    let mut resume = ResumeOptions::default();
    resume.node_limit = options.node_limit;
    resume.mip_gap = Some(options.mip_gap);
    let mut outcome = problem.solve_with(options)?;
    let mut best = None;
    while outcome.termination_reason() == TerminationReason::NodeLimit {
        let objective = outcome.solution().map(|solution| solution.objective());
        if objective.is_some() && objective != best {
            best = objective;
            found(&outcome);
        }
        outcome = outcome.resume_with(resume.clone())?;
    }
    Ok(outcome)
}

/// What microlp found, with the values of integer variables made whole where
/// that breaks no constraint.
fn solution(
    model: &Model,
    variables: &[Variable],
    outcome: &SolveOutcome,
    status: Status,
) -> Solution {
    // What rounding may add to the violation that microlp tolerates anyway.
    const ROUNDING_SLACK: f64 = 1e-9;
    let mut solution = Solution::without_values(status, SOLVER);
    let stats = outcome.stats();
    solution.iterations = Some(stats.lp_iterations);
    if model.has_integers() {
        solution.nodes = Some(stats.nodes_solved);
        solution.bound = stats.best_bound.map(|bound| bound + model.constant);
    }
    if let Some(point) = outcome.solution() {
        let exact: Vec<f64> = variables.iter().map(|&v| point.var_value(v)).collect();
        let rounded: Vec<f64> = model
            .columns
            .iter()
            .zip(&exact)
            .map(|(column, &x)| if column.integer { x.round() } else { x })
            .collect();
        let values = if model.violation(&rounded) <= model.violation(&exact) + ROUNDING_SLACK {
            rounded
        } else {
            exact
        };
        solution.objective = Some(model.objective_at(&values));
        solution.variables = model
            .columns
            .iter()
            .map(|column| column.name.clone())
            .collect();
        solution.values = values;
    }
    solution
}

/// Corrects a result that depends on the limits that microlp puts on integer
/// variables, where the model has none.
fn mind_integer_limits(model: &Model, result: &mut Solution) {
    let limited = |lower: f64, upper: f64| lower < INTEGER_LIMITS.0 || upper > INTEGER_LIMITS.1;
    let mut columns = model.columns.iter().enumerate();
    if !columns.any(|(_, c)| c.integer && limited(c.lower, c.upper)) {
        return;
    }
    match result.status {
        Status::Infeasible => {
            result.message = Some("integer variables were searched in ±2147483647 only".into());
        }
        Status::Optimal | Status::IterationLimit => {
            let at_limit = model
                .columns
                .iter()
                .zip(&result.values)
                .any(|(column, &x)| {
                    column.integer
                        && (x <= INTEGER_LIMITS.0 && column.lower < x
                            || x >= INTEGER_LIMITS.1 && column.upper > x)
                });
            if !at_limit {
                return;
            }
            // There is a feasible point, so with rational data the program is
            // unbounded if and only if its relaxation is (Meyer 1974).
            let relaxation = problem(model, false).0.solve();
            *result = match relaxation {
                Err(Error::Unbounded) => Solution::without_values(Status::Unbounded, SOLVER),
                _ => Solution::without_values(Status::NumericalFailure, SOLVER),
            };
            result.message = Some("an integer variable exceeds ±2147483647".into());
        }
        _ => {}
    }
}
