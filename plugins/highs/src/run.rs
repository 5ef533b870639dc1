//! One solve: options in, HiGHS's answer translated.

use optwasm_model::{Model, Options, Solution, Status};

use crate::solver::{Event, Highs, ModelStatus, Next};
use crate::{Observer, SolveError};

/// Options of HiGHS that a sandbox has no use for: there are no files, no threads, and the clock
/// is the caller's.
const NOT_HERE: [&str; 10] = [
    "time_limit",
    "threads",
    "parallel",
    "log_file",
    "solution_file",
    "write_solution_to_file",
    "write_model_file",
    "write_model_to_file",
    "read_solution_file",
    "read_basis_file",
];

/// Fuel between two reports of a better bound, so that they cost next to nothing: some 50 ms.
const FUEL_PER_REPORT: u64 = 1_000_000_000;

/// Solves `model`, from `start` if it is mixed-integer.
pub(crate) fn run(
    model: &Model,
    start: Option<&[f64]>,
    mut options: Options,
    observer: &mut dyn Observer,
) -> Result<Solution, SolveError> {
    let solver = format!("HiGHS {}", Highs::version());
    let mut highs = Highs::new();
    let fuel_for_best = options.number("fuel_for_best", 1..=u64::MAX, u64::MAX)?;
    let log = options.switch("log_to_console", false)?;
    let relaxed = options.switch("solve_relaxation", false)?;
    let set = |highs: &mut Highs, name: &str, value: &str| highs.set(name, value);
    set(&mut highs, "log_to_console", "false")?;
    set(
        &mut highs,
        "output_flag",
        if log { "true" } else { "false" },
    )?;
    set(
        &mut highs,
        "solve_relaxation",
        if relaxed { "true" } else { "false" },
    )?;
    set(&mut highs, "threads", "1")?;
    set(&mut highs, "parallel", "off")?;
    for (name, value) in options.rest() {
        if NOT_HERE.contains(&name.as_str()) {
            return Err(optwasm_model::OptionError::Unknown(name).into());
        }
        set(&mut highs, &name, &value)?;
    }
    let is_integer = model.is_mixed_integer() && !relaxed;
    if is_integer && !model.quadratic.is_empty() {
        return Err(SolveError::IntegerQuadratic);
    }
    highs
        .pass(model)
        .map_err(|_| SolveError::Refused("its size or its numbers".to_owned()))?;
    if let Some(start) = start {
        highs.start_from(start);
    }

    let names = || model.columns.iter().map(|c| c.name.clone()).collect();
    let mut best: Option<Solution> = None;
    let mut reported_at = 0;
    let mut listen = |event: Event<'_>| {
        match event {
            Event::Log(line) => {
                if log {
                    observer.log(line);
                }
                return Next::GoOn;
            }
            Event::Solution {
                objective,
                bound,
                values,
            } => {
                if values.len() == model.columns.len() {
                    let mut found = Solution::without_values(Status::Feasible, solver.clone());
                    found.objective = Some(objective);
                    // Of many variables few differ from zero, and messages are bounded.
                    let nonzero = || model.columns.iter().zip(values).filter(|(_, v)| **v != 0.0);
                    found.variables = nonzero().map(|(column, _)| column.name.clone()).collect();
                    found.values = nonzero().map(|(_, value)| *value).collect();
                    found.bound = bound.is_finite().then_some(bound);
                    found.gap = gap(&found);
                    observer.incumbent(&found);
                    best = Some(found);
                }
            }
            Event::Pause {
                iterations,
                nodes,
                bound,
            } => {
                let fuel = observer.fuel_used();
                if fuel >= fuel_for_best {
                    return Next::Stop;
                }
                if fuel.saturating_sub(reported_at) < FUEL_PER_REPORT {
                    return Next::GoOn;
                }
                reported_at = fuel;
                observer.progress(iterations.unsigned_abs());
                if let Some(best) = &mut best
                    && bound.is_finite()
                    && best.bound != Some(bound)
                {
                    best.bound = Some(bound);
                    best.gap = gap(best);
                    best.nodes = Some(nodes.unsigned_abs());
                    observer.incumbent(best);
                }
            }
        }
        Next::GoOn
    };
    let ended = highs.run(&mut listen);

    let (status, message) = match ended {
        ModelStatus::Optimal | ModelStatus::Empty => (Status::Optimal, None),
        ModelStatus::Infeasible => (Status::Infeasible, None),
        ModelStatus::Unbounded => (Status::Unbounded, None),
        ModelStatus::UnboundedOrInfeasible => (Status::InfeasibleOrUnbounded, None),
        ModelStatus::Interrupt => (Status::FuelLimit, None),
        ModelStatus::IterationLimit => (Status::IterationLimit, None),
        ModelStatus::SolutionLimit => (
            Status::IterationLimit,
            Some("the limit on solutions, leaves or nodes was reached"),
        ),
        ModelStatus::ObjectiveBound => (
            Status::Feasible,
            Some("the bound on the objective was reached"),
        ),
        ModelStatus::ObjectiveTarget => (
            Status::Feasible,
            Some("the target for the objective was reached"),
        ),
        ModelStatus::TimeLimit => (Status::TimeLimit, None),
        ModelStatus::Unknown => (
            Status::Unknown,
            Some("HiGHS could not tell whether its point is optimal"),
        ),
        ModelStatus::NotSet => (Status::Unknown, Some("HiGHS did not say how it ended")),
        ModelStatus::LoadError | ModelStatus::ModelError => {
            return Err(SolveError::Refused(format!("{ended:?}")));
        }
        ModelStatus::PresolveError => (Status::NumericalFailure, Some("presolve failed")),
        ModelStatus::SolveError => (Status::NumericalFailure, Some("the solver failed")),
        ModelStatus::PostsolveError => (Status::NumericalFailure, Some("postsolve failed")),
        ModelStatus::Other(_) => (
            Status::Unknown,
            Some("HiGHS ended in a way that is not known here"),
        ),
    };
    let mut solution = Solution::without_values(status, solver);
    solution.message = message.map(str::to_owned);
    let iterations = [
        c"simplex_iteration_count",
        c"ipm_iteration_count",
        c"crossover_iteration_count",
        c"pdlp_iteration_count",
        c"qp_iteration_count",
    ];
    // A method that did not run reports -1.
    let total = |count: &&std::ffi::CStr| highs.integer(count).unwrap_or(0).max(0);
    solution.iterations = Some(iterations.iter().map(total).sum::<i64>().unsigned_abs());
    if is_integer {
        solution.nodes = highs.nodes();
        solution.bound = highs.number(c"mip_dual_bound");
    }
    let has_point = match status {
        Status::Infeasible | Status::Unbounded | Status::InfeasibleOrUnbounded => false,
        // A point that is called optimal is feasible, even one without variables.
        Status::Optimal => true,
        _ => highs.has_feasible_point(),
    };
    if has_point {
        let vectors = highs.vectors();
        solution.objective = Some(highs.objective());
        solution.variables = names();
        solution.values = vectors.values;
        solution.gap = gap(&solution);
        if !is_integer && highs.has_duals() {
            solution.constraints = model.rows.iter().map(|row| row.name.clone()).collect();
            solution.duals = vectors.duals;
            solution.reduced_costs = vectors.reduced_costs;
            solution.basis = highs.basis();
        }
    }
    Ok(solution)
}

/// |objective − bound| / |objective|, as HiGHS and others define it; of an objective of zero it is
/// zero or infinite.
fn gap(solution: &Solution) -> Option<f64> {
    let (objective, bound) = (solution.objective?, solution.bound?);
    let difference = (objective - bound).abs();
    Some(if difference == 0.0 {
        0.0
    } else {
        difference / objective.abs()
    })
}
