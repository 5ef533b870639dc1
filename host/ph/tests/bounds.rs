//! Bounds of shared variables that differ between scenarios, or are not whole.

// In a test, to panic is to fail.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use optwasm_ph::*;

#[test]
fn a_variable_without_a_value_for_all_scenarios_is_an_error() {
    let problem = |bounds: [&str; 2], section: &str| {
        let mut names = ["a", "b"].into_iter();
        let scenarios = bounds.map(|bounds| {
            let text = format!("min\n x\nst\n c: x >= -9\nbounds\n {bounds}\n{section}end\n");
            scenario(names.next().unwrap(), "root", None, text)
        });
        Problem::new(vec![root(&["x"])], scenarios.into())
    };
    for (bounds, section, expected) in [
        (["0 <= x <= 1", "2 <= x <= 3"], "", [2, 1]),
        (
            ["0.2 <= x <= 9", "-3 <= x <= 0.8"],
            "generals\n x\n",
            [1, 0],
        ),
    ] {
        let [lower, upper] = expected;
        assert_eq!(
            problem(bounds, section).unwrap_err().to_string(),
            format!(
                "variable `x` of node `root` must be at least {lower} in one scenario and at most \
                 {upper} in another: the whole program is infeasible"
            )
        );
    }
    let joined = problem(["0 <= x <= 2", "2 <= x <= 3"], "").unwrap();
    assert_eq!(
        (joined.variables[0].lower, joined.variables[0].upper),
        (2.0, 2.0)
    );
}

#[test]
fn candidates_of_integers_are_whole_where_bounds_are_not() {
    let scenarios = ["a", "b"].map(|name| {
        let text = "max\n x\nst\n c: x <= 9\nbounds\n 0.5 <= x <= 2.5\ngenerals\n x\nend\n";
        scenario(name, "root", None, text.into())
    });
    let problem = Problem::new(vec![root(&["x"])], scenarios.into()).unwrap();
    let warm_start = WarmStart {
        weights: None,
        averages: Some(vec![2.5]),
    };
    let settings = Settings {
        warm_start,
        ..Settings::default()
    };
    let mut ph = Ph::new(&problem, settings).unwrap();
    run_with(&mut ph, true);
    assert_eq!(ph.incumbent().unwrap().variables, [2.0]);
    assert_near(ph.bounds().incumbent.unwrap(), 2.0, 1e-9);
}

#[test]
fn the_first_stage_of_the_expected_value_problem_is_one_for_all_scenarios() {
    let mut names = ["a", "b"].into_iter();
    let scenarios = [1, 3].map(|upper| {
        let text = format!("max\n x\nst\n c: x <= 9\nbounds\n x <= {upper}\nend\n");
        scenario(names.next().unwrap(), "root", None, text)
    });
    let problem = Problem::new(vec![root(&["x"])], scenarios.into()).unwrap();
    let mut study = Study::new(&problem, true).unwrap();
    while !study.is_done() {
        for StudyModel { id, model, .. } in study.models() {
            let solution = simplex(&model);
            study.solved([Solved { id, solution }]);
        }
    }
    let summary = study.summary();
    // With averages of the bounds it is 2, which is too much for one of the scenarios.
    assert_near(summary.ev.unwrap(), 2.0, 1e-9);
    assert_near(summary.eev.unwrap(), 1.0, 1e-9);
    assert_near(summary.vss.unwrap(), 0.0, 1e-9);
}
