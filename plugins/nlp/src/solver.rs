//! Gives a problem to pounce and translates its answer.

use std::cell::RefCell;
use std::rc::Rc;

use optwasm_model::nl::{NlModel, Node};
use optwasm_model::{OptionError, Options, Sense, Solution, Status};
use pounce_algorithm::application::{
    IpoptApplication, Ma57Config, default_backend_factory, feral_config_from_options,
};
use pounce_common::reg_options::{OptionType, RegisteredOption};
use pounce_nl::nl_reader::NlTnlp;
use pounce_nlp::return_codes::ApplicationReturnStatus as Outcome;
use pounce_nlp::tnlp::TNLP;
use pounce_restoration::resto_alg_builder::RestoAlgorithmBuilder;
use pounce_restoration::resto_inner_solver::{
    InnerBackendFactoryFactory, make_default_restoration_factory_provider,
};
use pounce_restoration::second_opinion_driver::run_second_opinion_ladder;

use crate::convert;
use crate::problem::Watched;
use crate::{Event, SolveError};

/// As the solution names the solver.
pub(crate) const SOLVER: &str = "pounce 0.14.0";

/// Options of pounce that a job cannot have: it has no files and no clock
/// that tells real time, so limits of time are the host's.
const NOT_OF_JOBS: [&str; 6] = [
    "max_cpu_time",
    "max_wall_time",
    "option_file_name",
    "output_file",
    "file_print_level",
    "file_append",
];

/// Violation of a constraint that is called none: as pounce's default of
/// `constr_viol_tol`, which takes its place where it is set.
const FEASIBILITY_TOLERANCE: f64 = 1e-4;

/// Solves a program. Calls `report` while it goes.
///
/// Options are `relax_integrality` (default false), `fuel_for_best` (when so
/// much fuel is used, the solve ends with the current point; without it,
/// never), and all of pounce's, which are Ipopt's.
///
/// # Errors
///
/// All of [`SolveError`] but [`SolveError::Read`].
pub fn solve_model(
    model: &NlModel,
    mut options: Options,
    report: impl FnMut(Event<'_>) + 'static,
) -> Result<Solution, SolveError> {
    let relax_integrality = options.switch("relax_integrality", false)?;
    let fuel_for_best = options.number("fuel_for_best", 1..=u64::MAX, u64::MAX)?;
    let mut application = IpoptApplication::new();
    set_options(&mut application, options)?;
    if model.has_integers() && !relax_integrality {
        return Err(SolveError::Integers {
            class: model.class(),
        });
    }
    let problem = convert::problem(model)?;
    if let Some(solution) = without_solver(model) {
        return Ok(solution);
    }
    let mut inner = NlTnlp::try_new(problem).map_err(SolveError::Solver)?;
    if text(&application, "nlp_scaling_method") == "curvature-based" {
        inner.enable_curvature_scaling();
    }
    let integer = |name: &str| application.options().get_integer_value(name, "");
    let number = |name: &str| application.options().get_numeric_value(name, "");
    let watched = Watched {
        inner,
        report: Box::new(report),
        sense: model.sense(),
        names: model.variable_names(),
        tolerance: number("constr_viol_tol").map_or(FEASIBILITY_TOLERANCE, |v| v.0),
        iteration_limit: integer("max_iter").map_or(0, |v| u64::try_from(v.0).unwrap_or(0)),
        fuel_floor: optwasm_guest::fuel_left().saturating_sub(fuel_for_best),
        best: None,
        out_of_fuel: false,
    };
    let watched = Rc::new(RefCell::new(watched));
    let (outcome, iterations) = run(&mut application, Rc::clone(&watched) as _);
    let watched = watched.borrow();
    solution(model, &watched, outcome, iterations)
}

/// What needs no solver, or what pounce calls an invalid definition: a model
/// without variables, and contradictory bounds.
fn without_solver(model: &NlModel) -> Option<Solution> {
    let crossed = |(lower, upper): (f64, f64)| {
        lower > upper || lower == f64::INFINITY || upper == f64::NEG_INFINITY
    };
    let variables = model.variables.iter().map(|v| (v.lower, v.upper));
    let rows = model.constraints.iter().map(|c| (c.lower, c.upper));
    if variables.chain(rows).any(crossed) {
        let mut infeasible = Solution::without_values(Status::Infeasible, SOLVER);
        infeasible.message = Some("a lower bound exceeds the upper bound".into());
        return Some(infeasible);
    }
    if !model.variables.is_empty() {
        return None;
    }
    let values = model.constraints_at(&[]);
    let broken = model.constraints.iter().zip(values).any(|(row, value)| {
        !(value >= row.lower - FEASIBILITY_TOLERANCE && value <= row.upper + FEASIBILITY_TOLERANCE)
    });
    let status = if broken {
        Status::Infeasible
    } else {
        Status::Optimal
    };
    let mut solution = Solution::without_values(status, SOLVER);
    if !broken {
        solution.objective = Some(model.objective_at(&[]));
        solution.constraints = model.constraint_names();
        solution.duals = vec![0.0; model.constraints.len()];
    }
    solution.iterations = Some(0);
    Some(solution)
}

/// Hands the options on, each as of its type.
fn set_options(application: &mut IpoptApplication, options: Options) -> Result<(), SolveError> {
    let registered = Rc::clone(application.registered_options());
    let list = application.options_mut();
    // What it prints goes to the job's log.
    list.set_integer_value("print_level", 0, true, false)
        .map_err(|error| SolveError::Solver(error.message))?;
    for (name, value) in options.rest() {
        let option = registered
            .get_option(&name)
            .filter(|_| !NOT_OF_JOBS.contains(&name.as_str()))
            .ok_or_else(|| OptionError::Unknown(name.clone()))?;
        let wrong = || OptionError::value(&name, &value, expectation(&option));
        let set = match option.option_type {
            OptionType::OT_Number => {
                let number: f64 = value.parse().map_err(|_| wrong())?;
                if number.is_nan() {
                    return Err(wrong().into());
                }
                list.set_numeric_value(&name, number, true, false)
            }
            OptionType::OT_Integer => {
                let integer = value.parse().map_err(|_| wrong())?;
                list.set_integer_value(&name, integer, true, false)
            }
            _ => list.set_string_value(&name, &value, true, false),
        };
        set.map_err(|_| wrong())?;
    }
    // Options of Ipopt that pounce knows and has not implemented.
    let solver = application.unimplemented_linear_solver();
    let refusal = solver
        .map(|name| IpoptApplication::unimplemented_linear_solver_message(&name))
        .or_else(|| application.unimplemented_option_refusal())
        .or_else(|| application.unimplemented_option_value_refusal())
        .or_else(|| application.unhonored_convex_option());
    match refusal {
        Some(refusal) => Err(SolveError::Solver(refusal)),
        None => Ok(()),
    }
}

/// What an option takes.
fn expectation(option: &RegisteredOption) -> String {
    let kind = match option.option_type {
        OptionType::OT_Number => "a number",
        OptionType::OT_Integer => "an integer",
        _ => {
            let words = option
                .valid_strings
                .iter()
                .map(|entry| entry.value.as_str());
            return format!("one of {}", words.collect::<Vec<_>>().join(", "));
        }
    };
    let mut text = kind.to_owned();
    if option.has_lower {
        let relation = if option.lower_strict { "above" } else { "from" };
        text.push_str(&format!(" {relation} {}", option.lower));
    }
    if option.has_upper {
        let relation = if option.upper_strict {
            "below"
        } else {
            "up to"
        };
        text.push_str(&format!(" {relation} {}", option.upper));
    }
    text
}

fn text(application: &IpoptApplication, name: &str) -> String {
    let value = application.options().get_string_value(name, "");
    value.map(|value| value.0).unwrap_or_default()
}

/// Runs pounce as its own programs do: with a restoration phase, and again
/// along other trajectories where it fails. Returns the number of iterations,
/// too.
fn run(application: &mut IpoptApplication, problem: Rc<RefCell<dyn TNLP>>) -> (Outcome, u64) {
    let linear_algebra = feral_config_from_options(application.options());
    let backends = move || -> InnerBackendFactoryFactory {
        let linear_algebra = linear_algebra.clone();
        Box::new(move || default_backend_factory(linear_algebra.clone(), Ma57Config::default()))
    };
    let restoration = make_default_restoration_factory_provider(
        RestoAlgorithmBuilder::new(),
        application.algorithm_builder_from_options(),
        backends,
    );
    application.set_restoration_factory_provider(restoration);
    application.defer_end_verdict();
    let outcome = application.optimize_tnlp(Rc::clone(&problem));
    let statistics = application.statistics();
    let ladder = run_second_opinion_ladder(application, problem, outcome, statistics, &mut |_| ());
    (ladder.status, ladder.total_iteration_count() as u64)
}

/// pounce's answer in terms of the model.
fn solution(
    model: &NlModel,
    watched: &Watched,
    outcome: Outcome,
    iterations: u64,
) -> Result<Solution, SolveError> {
    let (mut status, message) = translate(outcome, watched.out_of_fuel)?;
    if status == Status::Feasible && has_constant_objective(model) {
        status = Status::Optimal;
    }
    let mut solution = Solution::without_values(status, SOLVER);
    solution.iterations = Some(iterations);
    solution.message = message.map(str::to_owned);
    if matches!(status, Status::Infeasible | Status::Unbounded) {
        return Ok(solution);
    }
    let Some(values) = watched.inner.final_x() else {
        return Ok(solution);
    };
    if matches!(status, Status::FuelLimit | Status::IterationLimit) {
        // The current point need not meet the constraints, where an earlier one did.
        if let Some(best) = &watched.best {
            solution.objective = best.objective;
            solution.variables = best.variables.clone();
            solution.values = best.values.clone();
            return Ok(solution);
        }
        solution.message = Some("no point was found that meets the constraints".to_owned());
    }
    solution.objective = Some(model.objective_at(values)).filter(|f| f.is_finite());
    solution.variables = model.variable_names();
    solution.values = values.to_vec();
    solution.constraints = model.constraint_names();
    // pounce's multipliers are those of L = ±f + λᵀg − zₗᵀx + zᵤᵀx, of which
    // ±f is to become small; so ∂(±f)/∂b is −λ, zₗ and −zᵤ.
    let sign = match model.sense() {
        Sense::Minimize => 1.0,
        Sense::Maximize => -1.0,
    };
    if let Some(lambda) = watched.inner.final_lambda() {
        solution.duals = lambda.iter().map(|lambda| -sign * lambda).collect();
    }
    if let Some((lower, upper)) = watched.inner.final_bound_multipliers() {
        let both = lower.iter().zip(upper);
        solution.reduced_costs = both.map(|(lower, upper)| sign * (lower - upper)).collect();
    }
    Ok(solution)
}

/// Whether every feasible point is optimal.
fn has_constant_objective(model: &NlModel) -> bool {
    model.objectives.first().is_none_or(|objective| {
        let constant = |node: &Node| !matches!(node, Node::Variable(_) | Node::Defined(_));
        objective.linear.iter().all(|term| term.1 == 0.0)
            && objective.expression.nodes().iter().all(constant)
    })
}

/// pounce's return code as a status, and what there is to say of it.
fn translate(
    outcome: Outcome,
    out_of_fuel: bool,
) -> Result<(Status, Option<&'static str>), SolveError> {
    Ok(match outcome {
        Outcome::SolveSucceeded => (Status::Optimal, None),
        Outcome::SolvedToAcceptableLevel => (
            Status::OptimalInaccurate,
            Some("solved to the acceptable tolerances only"),
        ),
        Outcome::FeasiblePointFound => (
            Status::Feasible,
            Some("a point that solves the square system of constraints was found"),
        ),
        Outcome::InfeasibleProblemDetected => (
            Status::Infeasible,
            Some(
                "the constraint violation has a local minimum above 0; \
                 only of a convex problem does that prove infeasibility",
            ),
        ),
        Outcome::DivergingIterates => (
            Status::Unbounded,
            Some("the iterates diverge; the problem may be unbounded"),
        ),
        Outcome::UserRequestedStop if out_of_fuel => (Status::FuelLimit, None),
        Outcome::UserRequestedStop => (Status::Unknown, Some("the solve was stopped")),
        Outcome::MaximumIterationsExceeded => (Status::IterationLimit, None),
        Outcome::MaximumCpuTimeExceeded | Outcome::MaximumWallTimeExceeded => {
            (Status::TimeLimit, None)
        }
        Outcome::SearchDirectionBecomesTooSmall => (
            Status::NumericalFailure,
            Some("the search direction becomes too small"),
        ),
        Outcome::RestorationFailed => (
            Status::NumericalFailure,
            Some("the restoration phase failed"),
        ),
        Outcome::ErrorInStepComputation => (
            Status::NumericalFailure,
            Some("no search direction can be computed"),
        ),
        Outcome::InvalidNumberDetected => (
            Status::NumericalFailure,
            Some("a function or derivative has no finite value at an iterate"),
        ),
        Outcome::NotEnoughDegreesOfFreedom => (
            Status::Unknown,
            Some("there are more equations than free variables"),
        ),
        Outcome::InsufficientMemory => (Status::NumericalFailure, Some("out of memory")),
        Outcome::InvalidOption => {
            return Err(SolveError::Solver(
                "an option has a value that this build does not implement; the log says which"
                    .into(),
            ));
        }
        Outcome::InvalidProblemDefinition => {
            return Err(SolveError::Solver("its definition is invalid".into()));
        }
        Outcome::UnrecoverableException
        | Outcome::NonIpoptExceptionThrown
        | Outcome::InternalError => (Status::NumericalFailure, Some("internal error of pounce")),
    })
}
