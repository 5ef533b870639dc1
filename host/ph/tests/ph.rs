//! Progressive hedging on problems other than the farmer's, and in other modes.

// In a test, to panic is to fail.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::VecDeque;

use common::*;
use optwasm_model::{Sense, Solution, Status};
use optwasm_ph::*;
use proptest::prelude::*;

/// Ordering in three stages. A unit costs 2 now, 1 or 4 later, and 5 once demand, which is 1 or 3, is
/// known. By hand: the first unit is needed for sure and would cost 2.5 later on average, so it is
/// ordered now. Two more are needed with probability ½. If later is cheap, they cost 1 then, which is
/// less than ½·5; if not, 4 is more. Ordered now they would cost 2 and save ½·1 + ½·2.5 = 1.75. So
/// x = 1, y = 2 or 0, and the cost is 2 + ½·2 + ½·½·(2·5) = 5.5.
fn three_stages() -> Problem {
    let node = |name: &str, parent: Option<&str>, variable: &str| NodeSpec {
        name: name.into(),
        parent: parent.map(str::to_owned),
        probability: parent.map(|_| 0.5),
        variables: vec![variable.into()],
        line: 0,
    };
    let mut scenarios = Vec::new();
    for (later, cost) in [("cheap", 1), ("dear", 4)] {
        for demand in [1, 3] {
            let text = format!(
                "min\n 2 x + {cost} y + 5 z\nst\n d: x + y + z >= {demand}\nbounds\n x <= 10\n y <= 10\nend\n"
            );
            scenarios.push(scenario(
                &format!("{later}{demand}"),
                later,
                Some(0.5),
                text,
            ));
        }
    }
    let nodes = vec![
        node("dear", Some("root"), "y"),
        node("cheap", Some("root"), "y"),
        node("root", None, "x"),
    ];
    Problem::new(nodes, scenarios).unwrap()
}

#[test]
fn three_stages_have_the_optimum_computed_by_hand() {
    let mut problem = three_stages();
    let form = Extensive::new(&problem);
    let solution = simplex(&form.model);
    assert_near(solution.objective.unwrap(), 5.5, 1e-9);
    let tree = form.read_back(&problem, &solution.values).unwrap();
    let by_name = |name: &str| {
        let mut variables = (0..3).filter(|&v| problem.variable_name(v) == name);
        variables.next().unwrap()
    };
    let places = ["root/x", "cheap/y", "dear/y"].map(by_name);
    for (place, expected) in places.into_iter().zip([1.0, 2.0, 0.0]) {
        assert_near(tree.variables[place], expected, 1e-9);
    }

    // Each scenario by itself; bundles that are subtrees; a bundle across two nodes.
    let names = |names: &[&str]| {
        names
            .iter()
            .map(|&name| name.to_owned())
            .collect::<Vec<_>>()
    };
    let bundles = [
        Vec::new(),
        vec![
            ("cheap".to_owned(), names(&["cheap1", "cheap3"])),
            ("dear".to_owned(), names(&["dear1", "dear3"])),
        ],
        vec![
            ("mixed".to_owned(), names(&["cheap1", "dear1", "dear3"])),
            ("rest".to_owned(), names(&["cheap3"])),
        ],
    ];
    for bundles in bundles {
        problem.set_bundles(&bundles).unwrap();
        let settings = Settings {
            stop: StopRule {
                max_iterations: 300,
                ..StopRule::default()
            },
            ..Settings::default()
        };
        let mut ph = Ph::new(&problem, settings).unwrap();
        let steps = run(&mut ph);
        let last = steps.last().unwrap();
        assert_eq!(last.stop, Some(Stop::Converged), "{bundles:?}");
        for (place, expected) in places.into_iter().zip([1.0, 2.0, 0.0]) {
            assert_near(ph.averages().unwrap()[place], expected, 1e-2);
        }
        assert!(last.bounds.outer.unwrap() <= 5.5 + 1e-6);
        assert_near(last.bounds.outer.unwrap(), 5.5, 0.01);
        assert!(last.bounds.incumbent.unwrap() >= 5.5 - 1e-6);
        assert_near(last.bounds.incumbent.unwrap(), 5.5, 0.05);
    }
}

#[test]
fn the_study_of_three_stages_decides_anew_after_the_first() {
    let problem = three_stages();
    let mut study = Study::new(&problem, true).unwrap();
    while !study.is_done() {
        for StudyModel { id, model, .. } in study.models() {
            study.solved([Solved {
                id,
                solution: simplex(&model),
            }]);
        }
    }
    let summary = study.summary();
    // The averages are a later cost of 2.5 and a demand of 2: order 2 now.
    assert_near(summary.ev.unwrap(), 4.0, 1e-9);
    // Demand 1 or 3 at the least cost: 1, 3, 2, 6.
    assert_near(summary.ws.unwrap(), 3.0, 1e-9);
    // 4, and for a third unit ½·½·1·… : cheap, order it for 1; dear, pay 5 with probability ½.
    assert_near(summary.eev.unwrap(), 4.0 + 0.5 * 1.0 + 0.5 * 2.5, 1e-9);
    assert_near(summary.vss.unwrap(), 0.25, 1e-9);
    assert_near(summary.evpi.unwrap(), 2.5, 1e-9);
}

/// Runs with one answer at a time, in the order in which `pick` takes them.
fn run_one_by_one(
    ph: &mut Ph<'_>,
    mut pick: impl FnMut(&mut VecDeque<Subproblem>) -> Subproblem,
) -> Vec<Step> {
    let (mut waiting, mut steps) = (VecDeque::new(), Vec::new());
    while !ph.is_done() {
        waiting.extend(ph.subproblems());
        waiting.retain(|subproblem| ph.is_wanted(subproblem.id));
        let next = pick(&mut waiting);
        let answer = work(ph, &next, false);
        steps.extend(ph.solved([answer]).unwrap());
    }
    steps
}

#[test]
fn the_order_of_answers_does_not_matter() {
    let problem = farmer();
    let run_in = |pick: fn(&mut VecDeque<Subproblem>) -> Subproblem| {
        let mut ph = Ph::new(&problem, Settings::default()).unwrap();
        run_one_by_one(&mut ph, pick)
    };
    let first = run_in(|waiting| waiting.pop_front().unwrap());
    assert_eq!(first, run_in(|waiting| waiting.pop_back().unwrap()));
    let together = run(&mut Ph::new(&problem, Settings::default()).unwrap());
    assert_eq!(first, together);
}

#[test]
fn an_asynchronous_run_that_waits_for_all_is_synchronous() {
    let problem = farmer();
    let run_as = |asynchronous| {
        let settings = Settings {
            asynchronous,
            ..Settings::default()
        };
        run(&mut Ph::new(&problem, settings).unwrap())
    };
    let (waiting, synchronous) = (run_as(Some(3)), run_as(None));
    assert_eq!(waiting.len(), synchronous.len());
    for (a, b) in waiting.iter().zip(&synchronous) {
        assert_near(a.metrics.term_diff, b.metrics.term_diff, 1e-5);
    }
}

#[test]
fn asynchronous_steps_need_only_some_units() {
    let problem = farmer();
    for seed in 1..4u64 {
        let settings = Settings {
            asynchronous: Some(2),
            stop: StopRule {
                max_iterations: 300,
                ..StopRule::default()
            },
            ..Settings::default()
        };
        let mut ph = Ph::new(&problem, settings).unwrap();
        let mut random = seed;
        let mut worked = 0;
        let steps = run_one_by_one(&mut ph, |waiting| {
            worked += 1;
            // Knuth's generator; any would do.
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let place = (random >> 33) as usize % waiting.len();
            waiting.remove(place).unwrap()
        });
        let last = steps.last().unwrap();
        assert_eq!(last.stop, Some(Stop::Converged), "{last:?}");
        // A synchronous step takes three answers and those of bounds and candidates.
        assert!(
            worked < steps.len() * 9,
            "{worked} answers for {} steps",
            steps.len()
        );
        for step in &steps {
            let Bounds { outer, incumbent } = step.bounds;
            assert!(outer.is_none_or(|outer| outer <= OPTIMUM + 1e-4));
            assert!(incumbent.is_none_or(|incumbent| incumbent >= OPTIMUM - 1e-4));
        }
        for (found, expected) in ph.averages().unwrap().iter().zip([170.0, 80.0, 250.0]) {
            assert_near(*found, expected, 0.2);
        }
        assert_near(last.bounds.outer.unwrap(), OPTIMUM, 10.0);
    }
    let none = Settings {
        asynchronous: Some(0),
        ..Settings::default()
    };
    assert!(matches!(
        Ph::new(&problem, none).unwrap_err(),
        PhError::Setting(_)
    ));
}

/// Two plants that are built or not, of capacities 4 and 6 at costs 10 and 14; what is missing of the
/// demand costs 5. By hand: only the larger plant, 14 + ½·15 = 21.5; the smaller 22.5, both 24, none 30.
fn plants() -> Problem {
    let scenarios = [3, 9].map(|demand| {
        let text = format!(
            "min\n 10 a + 14 b + 5 u\nst\n d: 4 a + 6 b + u >= {demand}\nbinaries\n a b\nend\n"
        );
        scenario(&format!("demand{demand}"), "root", None, text)
    });
    Problem::new(vec![root(&["a", "b"])], scenarios.into()).unwrap()
}

#[test]
fn binaries_get_exact_linear_terms() {
    let problem = plants();
    assert_near(
        simplex(&Extensive::new(&problem).model).objective.unwrap(),
        21.5,
        1e-9,
    );
    let settings = Settings {
        // Not refused, because no term is quadratic in the end.
        proximal: Proximal::Quadratic,
        candidates: vec![
            CandidateRule::ClosestScenario,
            CandidateRule::Rounding,
            CandidateRule::Voting,
        ],
        ..Settings::default()
    };
    let mut ph = Ph::new(&problem, settings).unwrap();
    let mut classes = Vec::new();
    let mut steps = Vec::new();
    while !ph.is_done() {
        let subproblems = ph.subproblems();
        classes.extend(subproblems.iter().map(|s| s.class));
        assert!(subproblems.iter().all(|s| s.patch.new_rows.is_empty()));
        let answers: Vec<Solved> = subproblems.iter().map(|s| work(&ph, s, true)).collect();
        steps.extend(ph.solved(answers).unwrap());
    }
    assert!(classes.iter().all(|class| *class == Class::MixedInteger));
    let last = steps.last().unwrap();
    // Each for itself: 10 with demand 3, 24 with demand 9.
    assert_near(steps[0].bounds.outer.unwrap(), 17.0, 1e-4);
    assert!(last.bounds.outer.unwrap() <= 21.5 + 1e-6);
    assert_near(last.bounds.incumbent.unwrap(), 21.5, 1e-6);
    assert_near(ph.incumbent().unwrap().variables[1], 1.0, 0.0);
}

#[test]
fn what_a_solver_published_before_its_limit_is_gone_on_with() {
    let problem = plants();
    let mut ph = Ph::new(&problem, Settings::default()).unwrap();
    let mut steps = Vec::new();
    while !ph.is_done() {
        let subproblems = ph.subproblems();
        let answers = subproblems.iter().map(|subproblem| {
            let mut answer = work(&ph, subproblem, true);
            let solution = &mut answer.solution;
            solution.status = Status::TimeLimit;
            solution.bound = solution.objective.map(|objective| objective - 0.5);
            // Zeros are left out, as in what is published.
            let columns = &ph.units()[subproblem.unit].model.columns;
            let named = columns.iter().zip(std::mem::take(&mut solution.values));
            let (names, values) = named
                .filter(|(_, value)| *value != 0.0)
                .map(|(column, value)| (column.name.clone(), value))
                .unzip();
            (solution.variables, solution.values) = (names, values);
            answer
        });
        let answers: Vec<Solved> = answers.collect();
        steps.extend(ph.solved(answers).unwrap());
    }
    let bounds = steps.last().unwrap().bounds;
    assert_near(steps[0].bounds.outer.unwrap(), 17.0 - 0.5, 1e-4);
    assert_near(bounds.incumbent.unwrap(), 21.5, 1e-6);
}

/// All scenarios want 100 and creep there: each solve moves a scenario by 1/rho, and the gradient
/// that is left is 1, whoever is back.
#[test]
fn steps_with_few_scenarios_do_not_pass_for_rest() {
    let scenarios = (0..40).map(|index| {
        let text = "min\n -1 x\nst\n c: x <= 100\nbounds\n x <= 100\nend\n";
        scenario(&format!("s{index}"), "root", None, text.into())
    });
    let problem = Problem::new(vec![root(&["x"])], scenarios.collect()).unwrap();
    let settings = Settings {
        rho: Rho::fixed(50.0),
        asynchronous: Some(1),
        stop: StopRule {
            // More than 1/40: what the averages move by in a step.
            criteria: vec![Criterion::Residuals {
                absolute: 0.05,
                relative: 0.0,
            }],
            max_iterations: 120,
            ..StopRule::default()
        },
        outer_bound: false,
        candidates: Vec::new(),
        warm_start: WarmStart {
            weights: None,
            averages: Some(vec![0.0]),
        },
        ..Settings::default()
    };
    let mut ph = Ph::new(&problem, settings).unwrap();
    let (mut waiting, mut steps) = (VecDeque::new(), Vec::new());
    while !ph.is_done() {
        waiting.extend(ph.subproblems());
        let Subproblem { id, patch, .. } = waiting.pop_front().unwrap();
        // By hand: where the derivative is zero.
        let model = patch.apply(problem.scenarios[0].model.clone()).unwrap();
        let x = -model.columns[0].cost / model.quadratic[0].2;
        let mut solution = Solution::without_values(Status::Optimal, "hand");
        solution.values = vec![x.clamp(0.0, 100.0)];
        steps.extend(ph.solved([Solved { id, solution }]).unwrap());
    }
    for step in &steps {
        assert!(step.metrics.primal < 0.05, "{step:?}");
        assert!(step.metrics.dual > 0.3, "{step:?}");
    }
    assert_eq!(steps.last().unwrap().stop, Some(Stop::IterationLimit));
}

#[test]
fn rho_can_be_given_for_a_variable_at_one_node() {
    let problem = three_stages();
    let overrides = |csv: &[u8]| {
        let rho = Rho {
            overrides: Rho::read_overrides(csv).unwrap(),
            ..Rho::fixed(1.0)
        };
        let settings = Settings {
            rho,
            ..Settings::default()
        };
        Ph::new(&problem, settings)
    };
    let ph = overrides(b"variable,rho\ny,3\ndear/y,7\n").unwrap();
    let rho = |name: &str| {
        let place = (0..3).find(|&v| problem.variable_name(v) == name);
        ph.rho()[place.unwrap()]
    };
    assert_eq!(["root/x", "cheap/y", "dear/y"].map(rho), [1.0, 3.0, 7.0]);
    assert_eq!(
        overrides(b"variable,rho\ndear/x,7\n").unwrap_err(),
        PhError::RhoPattern("dear/x".into())
    );
}

/// A solver that says what it is told to.
fn answer(subproblem: &Subproblem, status: Status) -> Solved {
    Solved {
        id: subproblem.id,
        solution: Solution::without_values(status, "none"),
    }
}

#[test]
fn what_cannot_be_solved_names_its_scenario() {
    let problem = farmer();
    for (status, expected) in [
        (Status::Infeasible, "scenario `average` is infeasible"),
        (Status::Unbounded, "scenario `average` is unbounded"),
        (
            Status::NumericalFailure,
            "scenario `average` ended as numerical_failure",
        ),
        (Status::TimeLimit, "scenario `average` ended as time_limit"),
        (
            Status::Optimal,
            "the solution of scenario `average` has 0 usable values where 9 are needed",
        ),
    ] {
        let mut ph = Ph::new(&problem, Settings::default()).unwrap();
        let subproblems = ph.subproblems();
        let error = ph.solved([answer(&subproblems[1], status)]).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    // A point that a solver returns although it failed to make it feasible is not gone on with.
    let mut ph = Ph::new(&problem, Settings::default()).unwrap();
    let subproblems = ph.subproblems();
    let mut wrong = answer(&subproblems[0], Status::IterationLimit);
    wrong.solution.values = vec![500.0; 9];
    assert!(matches!(ph.solved([wrong]), Err(PhError::Failed { .. })));
}

#[test]
fn bounds_that_cannot_be_computed_are_remarks() {
    let problem = farmer();
    let settings = Settings {
        stop: StopRule {
            max_iterations: 2,
            ..StopRule::default()
        },
        ..Settings::default()
    };
    let mut ph = Ph::new(&problem, settings).unwrap();
    let mut steps = Vec::new();
    while !ph.is_done() {
        let subproblems = ph.subproblems();
        let answers = subproblems.iter().map(|subproblem| match subproblem.kind {
            Kind::Iterate => work(&ph, subproblem, false),
            Kind::Bound => answer(subproblem, Status::Unbounded),
            Kind::Candidate => answer(subproblem, Status::Infeasible),
        });
        let answers: Vec<Solved> = answers.collect();
        steps.extend(ph.solved(answers).unwrap());
    }
    let last = steps.last().unwrap();
    assert_eq!(last.stop, Some(Stop::IterationLimit));
    // Only what iteration 0 proved.
    assert_near(last.bounds.outer.unwrap(), -115405.5556, 1e-3);
    assert_eq!((last.bounds.incumbent, last.gap), (None, None));
    let remarks = steps[1].remarks.join("; ");
    assert!(
        remarks.contains("no outer bound: scenario `below` ended as unbounded"),
        "{remarks}"
    );
    assert!(remarks.contains("no incumbent by ClosestScenario: scenario `below` is infeasible"));
}

#[test]
fn a_point_that_is_not_the_candidate_is_no_incumbent() {
    let problem = farmer();
    let settings = Settings {
        stop: StopRule {
            max_iterations: 1,
            ..StopRule::default()
        },
        ..Settings::default()
    };
    let mut ph = Ph::new(&problem, settings).unwrap();
    let mut remarks = Vec::new();
    while !ph.is_done() {
        let subproblems = ph.subproblems();
        let answers = subproblems.iter().map(|subproblem| {
            let mut answer = work(&ph, subproblem, false);
            if subproblem.kind == Kind::Candidate {
                answer.solution.values[0] += 1.0;
            }
            answer
        });
        let answers: Vec<Solved> = answers.collect();
        remarks.extend(ph.solved(answers).unwrap().map(|step| step.remarks));
    }
    assert_eq!(ph.bounds().incumbent, None);
    let remarks = remarks.concat().join("; ");
    assert!(
        remarks.contains("2 usable values where 3 are needed"),
        "{remarks}"
    );
}

#[test]
fn late_and_unknown_answers_are_ignored() {
    let problem = farmer();
    let mut ph = Ph::new(&problem, Settings::default()).unwrap();
    let subproblems = ph.subproblems();
    assert!(ph.subproblems().is_empty(), "each is handed out once");
    let answers: Vec<Solved> = subproblems.iter().map(|s| work(&ph, s, false)).collect();
    let mut unknown = answers[0].clone();
    unknown.id = u64::MAX;
    assert_eq!(
        ph.solved([answers[0].clone(), answers[0].clone(), unknown]),
        Ok(None)
    );
    assert_eq!(ph.solved([]), Ok(None));
    assert!(!ph.is_wanted(answers[0].id) && ph.is_wanted(answers[1].id));
    let step = ph.solved(answers).unwrap().unwrap();
    assert_near(step.metrics.normalized_term_diff, 0.2540, 1e-4);
}

#[test]
fn settings_that_do_not_fit_are_refused() {
    let unbounded = ["a", "b"]
        .map(|name| scenario(name, "root", None, "min\n x\nst\n c: x >= 1\nend\n".into()));
    let problem = Problem::new(vec![root(&["x"])], unbounded.into()).unwrap();
    let linearized = |pieces| Settings {
        proximal: Proximal::Linearized {
            pieces,
            breakpoints: Breakpoints::Near,
        },
        ..Settings::default()
    };
    let error = |problem: &Problem, settings| Ph::new(problem, settings).unwrap_err();
    assert_eq!(error(&problem, linearized(3)), PhError::Bounds("x".into()));
    assert!(matches!(
        error(&farmer(), linearized(0)),
        PhError::Setting(_)
    ));
    for (weights, averages) in [
        (Some(vec![vec![0.0; 3]; 2]), None),
        (Some(vec![vec![0.0; 2]; 3]), None),
        (None, Some(vec![1.0, f64::NAN, 1.0])),
        (None, Some(vec![1.0; 4])),
    ] {
        let settings = Settings {
            warm_start: WarmStart { weights, averages },
            ..Settings::default()
        };
        assert!(matches!(error(&farmer(), settings), PhError::Setting(_)));
    }
    let integer_quadratic = ["a", "b"].map(|name| {
        let text = "min\n [ x^2 ] / 2\nst\n c: x >= 1\ngenerals\n x\nend\n";
        scenario(name, "root", None, text.into())
    });
    let problem = Problem::new(vec![root(&["x"])], integer_quadratic.into()).unwrap();
    assert_eq!(
        error(&problem, Settings::default()),
        PhError::Class("scenario `a`".into())
    );
}

/// Coefficients and right-hand side.
type RandomRow = (Vec<i32>, i32);

/// A program with recourse at a penalty, so that every first stage is feasible.
fn random_problem(maximize: bool, costs: &[i32], scenarios: &[(u32, Vec<RandomRow>)]) -> Problem {
    let total: u32 = scenarios.iter().map(|(weight, _)| weight).sum();
    let sign = if maximize { -1 } else { 1 };
    let specs = scenarios.iter().enumerate().map(|(index, (weight, rows))| {
        let mut text = String::from(if maximize { "max\n" } else { "min\n" });
        for (j, cost) in costs.iter().enumerate() {
            text += &format!(" {:+} x{j}", sign * cost);
        }
        for i in 0..rows.len() {
            text += &format!(" {:+} s{i}", sign * (20 + i as i32));
        }
        text += "\nst\n";
        for (i, (coefficients, side)) in rows.iter().enumerate() {
            text += &format!(" r{i}:");
            for (j, a) in coefficients.iter().enumerate() {
                text += &format!(" {a:+} x{j}");
            }
            text += &format!(" + s{i} >= {side}\n");
        }
        text += "bounds\n";
        for j in 0..costs.len() {
            text += &format!(" x{j} <= 10\n");
        }
        let probability = f64::from(*weight) / f64::from(total);
        scenario(
            &format!("s{index}"),
            "root",
            Some(probability),
            text + "end\n",
        )
    });
    Problem::new(vec![root(&["x*"])], specs.collect()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_bounds_bracket_the_optimum(
        maximize: bool,
        costs in prop::collection::vec(1..15i32, 3),
        scenarios in prop::collection::vec(
            (1..5u32, prop::collection::vec((prop::collection::vec(0..6i32, 3), 1..40i32), 2)),
            2..5,
        ),
        bundles in 0..3usize,
    ) {
        let mut problem = random_problem(maximize, &costs, &scenarios);
        let optimum = simplex(&Extensive::new(&problem).model).objective.unwrap();
        problem.bundle_evenly(bundles);
        let settings = Settings {
            stop: StopRule { max_iterations: 12, ..StopRule::default() },
            ..Settings::default()
        };
        let mut ph = Ph::new(&problem, settings).unwrap();
        let steps = run(&mut ph);
        let sign = if problem.sense == Sense::Minimize { 1.0 } else { -1.0 };
        let tolerance = 1e-5 * (1.0 + optimum.abs());
        for step in &steps {
            if let Some(outer) = step.bounds.outer {
                prop_assert!(sign * outer <= sign * optimum + tolerance, "{outer} {optimum}");
            }
            if let Some(incumbent) = step.bounds.incumbent {
                prop_assert!(sign * incumbent >= sign * optimum - tolerance, "{incumbent} {optimum}");
            }
        }
        let bounds = steps.last().unwrap().bounds;
        prop_assert!(bounds.outer.is_some() && bounds.incumbent.is_some());
    }
}
