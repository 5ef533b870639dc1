//! AMPL's `.sol` files.

// In a test, to panic is to fail.
#![allow(clippy::unwrap_used)]

use optwasm_model::nl::{self, NlModel, Suffix, SuffixTarget, solve_result_num, write_sol};
use optwasm_model::{Solution, Status};

fn model(first_line: &str, sense: u8) -> NlModel {
    let text = format!(
        "{first_line}\n2 1 1 0 0 0\n0 0\n0 0\n0 0 0\n0 0 0 1\n0 0 0 0 0\n2 2\n0 0\n0 0 0 0 0\n\
         C0\nn0\nO0 {sense}\nn0\nr\n1 4\nb\n2 0\n2 0\nk1\n1\nJ0 2\n0 1\n1 1\nG0 2\n0 -1\n1 1\n"
    );
    nl::read(text.as_bytes()).unwrap()
}

fn solution() -> Solution {
    let mut solution = Solution::without_values(Status::Optimal, "tester 1.0");
    solution.values = vec![4.0, 0.0];
    solution.duals = vec![-1.0];
    solution.reduced_costs = vec![0.0, 2.0];
    solution
}

fn sol(model: &NlModel, solution: &Solution, suffixes: &[Suffix]) -> String {
    String::from_utf8(write_sol(model, solution, suffixes)).unwrap()
}

#[test]
fn a_whole_file() {
    let priority = Suffix {
        name: "prio".into(),
        target: SuffixTarget::Constraints,
        real: false,
        values: vec![(0, 7.0)],
    };
    assert_eq!(
        sol(&model("g3 0 1 0", 0), &solution(), &[priority]),
        "tester 1.0: optimal\n\nOptions\n3\n0\n1\n0\n1\n1\n2\n2\n-1\n4\n0\nobjno 0 0\n\
         suffix 4 2 3 0 0\nrc\n0 0\n1 2\n\
         suffix 4 2 13 0 0\nipopt_zL_out\n0 0\n1 2\n\
         suffix 4 2 13 0 0\nipopt_zU_out\n0 0\n1 0\n\
         suffix 1 1 5 0 0\nprio\n0 7\n"
    );
}

#[test]
fn the_message_has_no_empty_lines_and_no_point_is_no_values() {
    let mut infeasible = Solution::without_values(Status::Infeasible, "tester 1.0");
    infeasible.message = Some("first\n\n  \n  second  \n".into());
    assert_eq!(
        sol(&model("g3 1 1 0", 0), &infeasible, &[]),
        "tester 1.0: infeasible\nfirst\nsecond\n\nOptions\n3\n1\n1\n0\n1\n0\n2\n0\nobjno 0 200\n"
    );
}

#[test]
fn the_tolerance_counts_as_two_options_and_follows_the_counts() {
    let text = sol(&model("g3 1 3 0 1e-06", 0), &solution(), &[]);
    assert!(text.contains("Options\n5\n1\n3\n0\n1\n1\n2\n2\n1e-6\n-1\n4\n0\nobjno"));
    // Fewer options than readers want become the usual ones.
    let text = sol(&model("g2 7 8", 0), &solution(), &[]);
    assert!(text.contains("Options\n3\n1\n1\n0\n1\n1\n"));
}

#[test]
fn bound_multipliers_have_ipopts_signs() {
    let mut maximum = solution();
    maximum.reduced_costs = vec![-3.0, 2.0];
    let text = sol(&model("g3 1 1 0", 1), &maximum, &[]);
    // In a maximization a binding lower bound costs.
    assert!(text.contains("ipopt_zL_out\n0 -3\n1 0\n"), "{text}");
    assert!(text.contains("ipopt_zU_out\n0 0\n1 2\n"), "{text}");
}

#[test]
fn codes_are_in_the_hundreds_that_readers_go_by() {
    for (status, hundred) in [
        (Status::Optimal, 0),
        (Status::OptimalInaccurate, 1),
        (Status::Infeasible, 2),
        (Status::InfeasibleOrUnbounded, 2),
        (Status::Unbounded, 3),
        (Status::IterationLimit, 4),
        (Status::TimeLimit, 4),
        (Status::FuelLimit, 4),
        (Status::Feasible, 4),
        (Status::NumericalFailure, 5),
        (Status::Unknown, 5),
    ] {
        assert_eq!(solve_result_num(status) / 100, hundred, "{status}");
    }
}
