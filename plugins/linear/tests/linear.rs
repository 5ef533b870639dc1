//! Whole models, from file to solution.

// In a test, to panic is to fail.
#![allow(clippy::unwrap_used)]

use optwasm_model::{Options, Solution, Status};
use optwasm_plugin_linear::{SolveError, solve, solve_reporting};

fn lp(text: &str) -> Solution {
    solve(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_textbook_program() {
    // Dantzig's furniture problem: 3x + 5y, optimum 36 at (2, 6).
    let solution = lp("max\n 3 x + 5 y\nst\n x <= 4\n 2 y <= 12\n 3 x + 2 y <= 18\nend\n");
    assert_eq!(solution.status, Status::Optimal);
    assert_eq!(solution.objective, Some(36.0));
    assert_eq!(solution.variables, ["x", "y"]);
    assert_eq!(solution.values, [2.0, 6.0]);
    assert_eq!(solution.nodes, None);
}

#[test]
fn constants_ranges_and_free_variables_count() {
    let solution = lp(
        "min\n x + y + 10\nst\n -3 <= x + 2 y <= 4\n y >= -5\nbounds\n x free\n y free\n x >= -100\nend\n",
    );
    // x as small as possible: x + y = (x + 2y) − y, so y large.
    let (x, y) = (solution.values[0], solution.values[1]);
    assert!((x + 2.0 * y + 3.0).abs() < 1e-9);
    assert_eq!((x, y), (-100.0, 48.5));
    assert_eq!(solution.objective, Some(-41.5));
}

#[test]
fn integers_are_integers_and_the_bound_is_reported() {
    let solution =
        lp("max\n 5 x + 4 y + 1\nst\n 6 x + 4 y <= 24\n x + 2 y <= 6\ngen\n x\n y\nend\n");
    assert_eq!(solution.objective, Some(21.0));
    assert_eq!(solution.values, [4.0, 0.0]);
    assert!((solution.bound.unwrap() - 21.0).abs() < 1e-3);
    assert!(solution.nodes.is_some());
}

#[test]
fn statuses_other_than_optimal() {
    for (text, status) in [
        ("min\n x\nst\n x >= 2\n x <= 1\nend\n", Status::Infeasible),
        ("min\n x\nst\n 2 x = 1\ngen\n x\nend\n", Status::Infeasible),
        ("max\n x + y\nst\n x - y <= 1\nend\n", Status::Unbounded),
        (
            "min\n x\nst\n y >= 1\nbounds\n x <= -1\nend\n",
            Status::Infeasible,
        ),
        // microlp bounds integers to 32 bits; the answer must not show it.
        (
            "max\n x\nst\n x - y <= 1\ngen\n x\n y\nend\n",
            Status::Unbounded,
        ),
        (
            "max\n x\nst\n x <= 3000000000\ngen\n x\nend\n",
            Status::NumericalFailure,
        ),
    ] {
        let solution = lp(text);
        assert_eq!(solution.status, status, "{text}");
        assert_eq!(solution.objective, None, "{text}");
        assert!(solution.values.is_empty(), "{text}");
    }
}

#[test]
fn better_solutions_are_reported_in_order() {
    let file = include_bytes!("../../../tests/data/lseu.mps");
    let mut found: Vec<Solution> = Vec::new();
    let last = solve_reporting(file, Options::default(), |solution| {
        found.push(solution.clone())
    })
    .unwrap();
    assert_eq!(last.objective, Some(1120.0));
    assert!(!found.is_empty());
    for pair in found.windows(2) {
        assert!(pair[1].objective < pair[0].objective);
    }
    for solution in &found {
        assert_eq!(solution.status, Status::Feasible);
        assert!(solution.objective >= last.objective);
        assert!(solution.bound <= last.objective);
    }
}

#[test]
fn what_the_plugin_cannot_solve_is_an_error() {
    let quadratic = b"min\n [ x^2 ] / 2\nst\n x >= 1\nend\n";
    assert!(matches!(solve(quadratic), Err(SolveError::Quadratic)));
    assert!(matches!(solve(b"hello"), Err(SolveError::Read(_))));
}

#[test]
fn truncated_files_are_errors() {
    let file = include_bytes!("../../../tests/data/flugpl.mps");
    for end in (0..file.len() - 20).step_by(97) {
        assert!(matches!(solve(&file[..end]), Err(SolveError::Read(_))));
    }
}
