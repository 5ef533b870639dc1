//! Whole programs, from file to solution.

// In a test, to panic is to fail.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::rc::Rc;

use optwasm_guest::mock::Host;
use optwasm_model::nl::{self, NlModel};
use optwasm_model::{Options, Solution, Status};
use optwasm_plugin_nlp::{Event, SolveError, solve, solve_model};

// Written by Pyomo's writer.
const HS71: &str = include_str!("data/hs71.nl");
const HS35: &str = include_str!("data/hs35.nl");
const INFEASIBLE: &str = include_str!("data/infeasible.nl");
const UNBOUNDED: &str = include_str!("data/unbounded.nl");
const MAXIMIZE: &str = include_str!("data/maximize.nl");
const MINLP: &str = include_str!("../../model/tests/data/minlp.nl");
const DEFINED: &str = include_str!("../../model/tests/data/defined.nl");

fn options(given: &[&str]) -> Options {
    Options::parse(given).unwrap()
}

fn run(input: &str, given: &[&str]) -> Solution {
    solve(input.as_bytes(), options(given), |_| ())
        .unwrap_or_else(|error| panic!("{error}: {input}"))
}

fn error(input: &str, given: &[&str]) -> String {
    solve(input.as_bytes(), options(given), |_| ())
        .unwrap_err()
        .to_string()
}

fn model(text: &str) -> NlModel {
    nl::read(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A file of n variables, m constraints and one objective.
fn file(n: usize, m: usize, segments: &str) -> String {
    format!(
        "g3 1 1 0\n{n} {m} 1 0 0 0\n{m} 1\n0 0\n{n} {n} {n}\n0 0 0 1\n0 0 0 0 0\n\
         0 0\n0 0\n0 0 0 0 0\n{segments}\n"
    )
}

#[track_caller]
fn near(found: f64, expected: f64) {
    let scale = expected.abs().max(1.0);
    assert!(
        (found - expected).abs() < 1e-6 * scale,
        "{found}, expected {expected}"
    );
}

#[test]
fn hs71() {
    let solution = run(HS71, &[]);
    assert_eq!(solution.status, Status::Optimal);
    assert_eq!(solution.solver, "pounce 0.14.0");
    assert_eq!(solution.message, None);
    // Hock and Schittkowski, 1981, problem 71.
    near(solution.objective.unwrap(), 17.0140173);
    for (found, expected) in solution
        .values
        .iter()
        .zip([1.0, 4.7429994, 3.8211503, 1.3794082])
    {
        near(*found, expected);
    }
    assert_eq!(solution.variables, ["x0", "x1", "x2", "x3"]);
    assert_eq!(solution.constraints, ["c0", "c1"]);
    assert!(solution.iterations.unwrap() > 0);
}

/// The duals are what the objective changes by if a side or bound does.
#[test]
fn duals_are_rates_of_change() {
    const STEP: f64 = 1e-3;
    for text in [HS71, MAXIMIZE, HS35] {
        let base = model(text);
        let solved = |model: &NlModel| {
            let solution = solve_model(model, options(&["tol=1e-10"]), |_| ()).unwrap();
            assert_eq!(solution.status, Status::Optimal);
            solution
        };
        let solution = solved(&base);
        // By the difference of both sides of the optimum.
        let rate = |change: &dyn Fn(&mut NlModel, f64)| {
            let objective = |by: f64| {
                let mut changed = base.clone();
                change(&mut changed, by);
                solved(&changed).objective.unwrap()
            };
            (objective(STEP) - objective(-STEP)) / (2.0 * STEP)
        };
        for (row, dual) in solution.duals.iter().enumerate() {
            let found = rate(&|model, by| {
                model.constraints[row].lower += by;
                model.constraints[row].upper += by;
            });
            assert!((found - dual).abs() < 1e-4, "row {row}: {found}, {dual}");
        }
        for (column, cost) in solution.reduced_costs.iter().enumerate() {
            let found = rate(&|model, by| {
                model.variables[column].lower += by;
                model.variables[column].upper += by;
            });
            assert!(
                (found - cost).abs() < 1e-3,
                "column {column}: {found}, {cost}"
            );
        }
    }
    let dual = run(MAXIMIZE, &[]).duals[0];
    near(dual, 1.0);
    near(run(HS71, &[]).reduced_costs[0], 1.0878713);
}

#[test]
fn quadratic_and_linear_programs() {
    near(run(HS35, &[]).objective.unwrap(), 1.0 / 9.0);
    // Dantzig's furniture problem: max 3x + 5y, optimum 36 at (2, 6).
    let linear = file(
        2,
        3,
        "C0\nn0\nC1\nn0\nC2\nn0\nO0 1\nn0\nr\n1 4\n1 12\n1 18\nb\n2 0\n2 0\n\
         J0 1\n0 1\nJ1 1\n1 2\nJ2 2\n0 3\n1 2\nG0 2\n0 3\n1 5",
    );
    let solution = run(&linear, &[]);
    near(solution.objective.unwrap(), 36.0);
    for (dual, expected) in solution.duals.iter().zip([0.0, 1.5, 1.0]) {
        near(*dual, expected);
    }
}

#[test]
fn maximization_has_the_objective_of_the_model() {
    let solution = run(MAXIMIZE, &[]);
    assert_eq!(solution.status, Status::Optimal);
    near(solution.objective.unwrap(), 18.0);
    near(solution.values[0], 1.0);
    near(solution.values[1], 5.0);
}

#[test]
fn defined_variables_and_conditions() {
    let solution = run(DEFINED, &[]);
    assert_eq!(solution.status, Status::Optimal);
    let at = model(DEFINED).objective_at(&solution.values);
    assert_eq!(solution.objective, Some(at));
    near(at, -1.30507277);
}

#[test]
fn infeasible_and_unbounded() {
    for (text, status) in [
        (INFEASIBLE.to_owned(), Status::Infeasible),
        (UNBOUNDED.to_owned(), Status::Unbounded),
        // Contradictory bounds, of a variable and of a row.
        (file(1, 0, "O0 0\nv0\nb\n0 2 1"), Status::Infeasible),
        (
            file(1, 1, "O0 0\nv0\nC0\nv0\nb\n3\nr\n0 2 1"),
            Status::Infeasible,
        ),
        (file(1, 0, "O0 0\nv0\nb\n2 inf"), Status::Infeasible),
        // Two linear rows.
        (
            file(
                1,
                2,
                "O0 0\nv0\nC0\nn0\nC1\nn0\nr\n2 2\n1 1\nb\n3\nJ0 1\n0 1\nJ1 1\n0 1",
            ),
            Status::Infeasible,
        ),
    ] {
        let solution = run(&text, &[]);
        assert_eq!(solution.status, status, "{text}");
        assert!(solution.message.is_some());
        assert_eq!(solution.objective, None);
        assert!(solution.values.is_empty() && solution.duals.is_empty());
    }
}

#[test]
fn fixed_variables_are_parameters() {
    // min (x₀ − 3)² + x₁² with x₀ + x₁ ≥ 1 and x₀ fixed to ½.
    let some = file(
        2,
        1,
        "O0 0\no0\no5\no1\nv0\nn3\nn2\no5\nv1\nn2\nC0\nn0\nr\n2 1\nb\n4 0.5\n3\nJ0 2\n0 1\n1 1",
    );
    let solution = run(&some, &[]);
    assert_eq!(solution.status, Status::Optimal);
    near(solution.objective.unwrap(), 6.5);
    assert_eq!(solution.values[0], 0.5);
    near(solution.values[1], 0.5);
    near(solution.duals[0], 1.0);
    // Moving the fixed variable helps by 2·(½ − 3), and by 1 as the row's part.
    near(solution.reduced_costs[0], -6.0);

    let all = file(2, 1, "O0 0\no2\nv0\nv1\nC0\nv0\nr\n1 7\nb\n4 3\n4 5");
    let solution = run(&all, &[]);
    assert_eq!(solution.status, Status::Optimal, "{:?}", solution.message);
    assert_eq!(
        (solution.objective, &solution.values[..]),
        (Some(15.0), &[3.0, 5.0][..])
    );
    let broken = all.replace("r\n1 7", "r\n1 2");
    assert_eq!(run(&broken, &[]).status, Status::Infeasible);
}

#[test]
fn models_without_constraints_variables_or_objectives() {
    let free = file(1, 0, "O0 0\no5\no1\nv0\nn3\nn4\nb\n3");
    let solution = run(&free, &[]);
    assert!((solution.values[0] - 3.0).abs() < 1e-2);
    assert!(solution.duals.is_empty() && solution.constraints.is_empty());

    let constant = file(1, 1, "O0 1\nn7\nC0\no5\nv0\nn2\nr\n4 4\nb\n2 0\nx1\n0 1");
    let solution = run(&constant, &[]);
    assert!(matches!(
        solution.status,
        Status::Optimal | Status::Feasible
    ));
    assert_eq!(solution.objective, Some(7.0));
    near(solution.values[0], 2.0);

    // Without an objective.
    let mut none = model(&constant);
    none.objectives.clear();
    let solution = solve_model(&none, options(&[]), |_| ()).unwrap();
    assert!(matches!(
        solution.status,
        Status::Optimal | Status::Feasible
    ));
    assert_eq!(solution.objective, Some(0.0));
    near(solution.values[0], 2.0);

    // A row without sides.
    let row = file(1, 1, "O0 0\no5\nv0\nn2\nC0\no44\nv0\nr\n3\nb\n2 1");
    let solution = run(&row, &[]);
    near(solution.objective.unwrap(), 1.0);
    near(solution.duals[0], 0.0);

    let empty = "g3 1 1 0\n0 0 0\n0 0\n0 0\n0 0 0\n0 0\n0 0\n0 0\n0 0\n0 0 0 0 0\n";
    let solution = run(empty, &[]);
    assert_eq!(
        (solution.status, solution.objective),
        (Status::Optimal, Some(0.0))
    );
    let rows = |side: &str| file(0, 1, &format!("O0 0\nn3\nC0\nn5\nr\n{side}"));
    let solution = run(&rows("1 6"), &[]);
    assert_eq!(
        (solution.status, solution.objective),
        (Status::Optimal, Some(3.0))
    );
    assert_eq!(run(&rows("1 4"), &[]).status, Status::Infeasible);
    assert_eq!(run(&rows("2 6"), &[]).status, Status::Infeasible);
}

#[test]
fn more_equations_than_variables() {
    let rows = |b: &str| {
        file(
            1,
            2,
            &format!("O0 0\nv0\nC0\nn0\nC1\no5\nv0\nn3\nr\n4 2\n4 {b}\nb\n3\nJ0 1\n0 1\nJ1 1\n0 0"),
        )
    };
    // What the method cannot do is not called infeasible.
    let solution = run(&rows("8"), &[]);
    assert!(
        matches!(
            solution.status,
            Status::Unknown | Status::Optimal | Status::Feasible
        ),
        "{solution:?}"
    );
}

#[test]
fn integers_are_refused_unless_relaxed() {
    let refusal = solve(MINLP.as_bytes(), options(&[]), |_| ()).unwrap_err();
    assert!(matches!(refusal, SolveError::Integers { .. }));
    assert!(
        refusal
            .to_string()
            .starts_with("this is a mixed-integer nonlinear program")
    );
    let solution = run(MINLP, &["relax_integrality=true"]);
    assert_eq!(solution.status, Status::Optimal);
}

#[test]
fn options_of_ipopt_are_taken() {
    let limited = run(HS71, &["max_iter=2", "mu_strategy_fallback=no"]);
    assert_eq!(
        (limited.status, limited.iterations),
        (Status::IterationLimit, Some(2))
    );
    assert_eq!(limited.values.len(), 4);
    for given in [
        "mu_strategy=adaptive",
        "hessian_approximation=limited-memory",
        "nlp_scaling_method=none",
        "linear_solver=feral",
        "presolve=yes",
    ] {
        near(run(HS71, &[given]).objective.unwrap(), 17.0140173);
    }
    // A loose tolerance takes fewer iterations.
    assert!(run(HS71, &["tol=1e-2"]).iterations < run(HS71, &[]).iterations);
}

#[test]
fn wrong_options_are_errors() {
    for (given, message) in [
        ("toll=1", "there is no option `toll`"),
        ("max_wall_time=1", "there is no option `max_wall_time`"),
        ("output_file=x", "there is no option `output_file`"),
        ("tol=small", "option tol=small: expected a number above 0"),
        ("tol=nan", "option tol=nan: expected a number above 0"),
        ("tol=0", "option tol=0: expected a number above 0"),
        (
            "max_iter=-1",
            "option max_iter=-1: expected an integer from 0",
        ),
        (
            "fuel_for_best=-1",
            "option fuel_for_best=-1: expected a number from 0 to 18446744073709551615",
        ),
    ] {
        assert_eq!(error(HS71, &[given]), message);
    }
    let message = error(HS71, &["mu_strategy=x"]);
    assert_eq!(
        message,
        "option mu_strategy=x: expected one of monotone, adaptive"
    );
}

#[test]
fn bad_files_are_errors_with_their_line() {
    assert_eq!(
        error(&HS71.replacen("o5\n", "o99\n", 1), &[]),
        "line 22: expected an opcode, found `99`"
    );
    assert_eq!(
        error("hello", &[]),
        "unknown file format: expected AMPL .nl"
    );
    let message = error(&file(1, 0, "O0 0\no13\nv0\nb\n3"), &[]);
    assert_eq!(
        message,
        "the discontinuous operator Floor is not supported by the interior-point method"
    );
    let logical =
        file(1, 0, "O0 0\nv0\nL0\no28\nv0\nn1\nb\n3").replace("1 0 1 0 0 0", "1 0 1 0 0 1");
    assert_eq!(
        error(&logical, &[]),
        "logical constraints are not supported by the interior-point method"
    );
}

#[test]
fn the_binary_form_is_the_same_problem() {
    for text in [HS71, HS35, DEFINED, MAXIMIZE] {
        let binary = model(text).write_binary().unwrap();
        let from_binary = solve(&binary, options(&[]), |_| ()).unwrap();
        assert_eq!(from_binary, run(text, &[]));
    }
}

#[test]
fn events_tell_iterations_and_better_and_better_points() {
    let events = Rc::new(RefCell::new((Vec::new(), Vec::new())));
    let seen = Rc::clone(&events);
    let last = solve(HS71.as_bytes(), options(&[]), move |event| match event {
        Event::Iteration { number, limit } => seen.borrow_mut().0.push((number, limit)),
        Event::Incumbent(found) => seen.borrow_mut().1.push(found.clone()),
    })
    .unwrap();
    let (iterations, incumbents) = &*events.borrow();
    let count = last.iterations.unwrap();
    let expected: Vec<_> = (0..=count).map(|number| (number, 3000)).collect();
    assert_eq!(*iterations, expected);
    assert!(!incumbents.is_empty());
    let model = model(HS71);
    for (index, found) in incumbents.iter().enumerate() {
        assert_eq!(found.status, Status::Feasible);
        near(found.objective.unwrap(), model.objective_at(&found.values));
        let rows = model.constraints_at(&found.values);
        assert!(rows[0] >= 25.0 - 1e-4 && (rows[1] - 40.0).abs() <= 1e-4);
        assert!(index == 0 || found.objective < incumbents[index - 1].objective);
    }
    near(incumbents.last().unwrap().objective.unwrap(), 17.0140173);
}

#[test]
fn the_solve_stops_when_fuel_runs_short() {
    let with_fuel = |fuel: u64, given: &'static [&'static str]| {
        let solution = Rc::new(RefCell::new(None));
        let result = Rc::clone(&solution);
        Host::new().fuel(fuel).run_in(move || {
            *result.borrow_mut() = Some(run(HS71, given));
        });
        solution.take().unwrap()
    };
    let stopped = with_fuel(999, &["fuel_for_best=1000"]);
    assert_eq!(stopped.status, Status::FuelLimit);
    assert_eq!(stopped.iterations, Some(0));
    assert_eq!(stopped.values.len(), 4);
    assert_eq!(
        stopped.objective,
        Some(model(HS71).objective_at(&stopped.values))
    );
    assert_eq!(
        with_fuel(1000, &["fuel_for_best=1000"]).status,
        Status::Optimal
    );
    assert_eq!(with_fuel(0, &[]).status, Status::Optimal);
}

#[test]
fn the_initial_point_and_duals_are_used() {
    let cold = model(HS71);
    let solution = solve_model(&cold, options(&[]), |_| ()).unwrap();
    let mut warm = cold.clone();
    for (variable, value) in warm.variables.iter_mut().zip(&solution.values) {
        variable.start = *value;
    }
    let given = [
        "warm_start_init_point=yes",
        "mu_init=1e-9",
        "warm_start_bound_push=1e-9",
        "warm_start_mult_bound_push=1e-9",
    ];
    let without_duals = solve_model(&warm, options(&given), |_| ()).unwrap();
    for (constraint, dual) in warm.constraints.iter_mut().zip(&solution.duals) {
        constraint.dual_start = *dual;
    }
    let with_duals = solve_model(&warm, options(&given), |_| ()).unwrap();
    near(with_duals.objective.unwrap(), 17.0140173);
    assert!(without_duals.iterations < solution.iterations);
    assert!(with_duals.iterations < without_duals.iterations);
}

#[test]
fn expressions_nested_too_deeply_are_errors_not_overflows() {
    let nested = |depth: usize| {
        file(
            1,
            0,
            &format!("O0 0\n{}v0\nb\n0 0.5 1", "o44\n".repeat(depth)),
        )
    };
    assert_eq!(
        error(&nested(100_000), &[]),
        "expressions are nested 801 deep, more than the 800 that fit the stack"
    );
    // sin(sin(… x)): a deep one that is allowed and has finite values.
    let sines = file(
        1,
        0,
        &format!("O0 0\n{}v0\nb\n0 0.5 1", "o41\n".repeat(798)),
    );
    let solution = run(&sines, &["max_iter=5"]);
    assert_eq!(solution.values.len(), 1);
    // A chain of additions is flattened.
    let chain: String = "o0\nv0\n".repeat(5000);
    let solution = run(&file(1, 0, &format!("O0 0\n{chain}v0\nb\n0 0.5 1")), &[]);
    near(solution.objective.unwrap(), 2500.5);
    // Defined variables that refer to each other are as deep as they are many.
    let segments: String = (1..2000)
        .map(|i| format!("V{i} 0 0\no41\nv{}\n", i - 1))
        .collect();
    let many = file(1, 0, &format!("{segments}O0 0\nv1999\nb\n0 0.5 1"));
    let many = many.replace("\n0 0 0 0 0\nV1", "\n1999 0 0 0 0\nV1");
    assert!(matches!(
        solve(many.as_bytes(), options(&[]), |_| ()),
        Err(SolveError::TooDeep { .. })
    ));
}

#[test]
fn doubling_defined_variables_cost_no_time() {
    // vᵢ₊₁ = vᵢ + vᵢ and vᵢ₊₁ = ½vᵢ·(1 + vᵢ), sixty times: 2⁶⁰ paths.
    for double in ["o0\nv{}\nv{}", "o2\no2\nn0.5\nv{}\no0\nn1\nv{}"] {
        let line = |i: usize| format!("V{} 0 0\n{}\n", i + 1, double.replace("{}", &i.to_string()));
        let segments: String = (0..60).map(line).collect();
        let text = file(
            1,
            1,
            &format!("{segments}O0 0\nv60\nC0\nv60\nr\n3\nb\n0 0.5 1\nx1\n0 1"),
        );
        let text = text.replace("\n0 0 0 0 0\nV1", "\n60 0 0 0 0\nV1");
        let solution = run(&text, &["max_iter=20"]);
        assert_eq!(solution.values.len(), 1);
    }
}

#[test]
fn a_failing_evaluation_is_no_optimum() {
    // min log(x₀ − 2) with x₀ ≤ 1: no value anywhere.
    let text = file(1, 0, "O0 0\no43\no1\nv0\nn2\nb\n0 0 1\nx1\n0 0.5");
    let solution = run(&text, &[]);
    assert_eq!(solution.status, Status::NumericalFailure);
    assert!(solution.message.is_some());
}
