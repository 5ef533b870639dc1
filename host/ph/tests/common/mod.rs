//! The farmer's problem, and native solvers in the place of workers.

// Each test program uses a part of it.
#![allow(dead_code, clippy::unwrap_used)]

use optwasm_model::{Model, Solution, lp, patch};
use optwasm_ph::{Class, NodeSpec, Ph, Problem, ScenarioSpec, Solved, Step, Subproblem};
use optwasm_plugin_conic::{Settings as Conic, program::Program, solve_program};
use optwasm_plugin_linear::solve_model;

/// Yields of wheat, corn and beets, in tons per acre, in the three scenarios (Birge and Louveaux,
/// "Introduction to Stochastic Programming", section 1.1).
pub const YIELDS: [(&str, [f64; 3]); 3] = [
    ("below", [2.0, 2.4, 16.0]),
    ("average", [2.5, 3.0, 20.0]),
    ("above", [3.0, 3.6, 24.0]),
];

/// The farmer's optimum.
pub const OPTIMUM: f64 = -108_390.0;

/// The farmer's model with these yields, as an LP file.
pub fn farmer_lp(yields: [f64; 3], maximize: bool, integer: bool) -> String {
    let [wheat, corn, beets] = yields;
    let (word, s) = if maximize {
        ("max", -1.0)
    } else {
        ("min", 1.0)
    };
    let costs = [
        150.0, 230.0, 260.0, 238.0, 210.0, -170.0, -150.0, -36.0, -10.0,
    ];
    let names = [
        "acres(wheat)",
        "acres(corn)",
        "acres(beets)",
        "buy(wheat)",
        "buy(corn)",
        "sell(wheat)",
        "sell(corn)",
        "sell(beets)",
        "oversell(beets)",
    ];
    let objective: Vec<String> = costs
        .iter()
        .zip(names)
        .map(|(cost, name)| format!("{:+} {name}", s * cost))
        .collect();
    let general = if integer {
        "generals\n acres(wheat) acres(corn) acres(beets)\n"
    } else {
        ""
    };
    format!(
        "{word}\n cost: {}\nst
 land: acres(wheat) + acres(corn) + acres(beets) <= 500
 wheat: {wheat} acres(wheat) + buy(wheat) - sell(wheat) >= 200
 corn: {corn} acres(corn) + buy(corn) - sell(corn) >= 240
 beets: {beets} acres(beets) - sell(beets) - oversell(beets) >= 0
bounds
 acres(wheat) <= 500
 acres(corn) <= 500
 acres(beets) <= 500
 sell(beets) <= 6000
{general}end\n",
        objective.join(" ")
    )
}

/// A scenario whose model is an LP file.
pub fn scenario(name: &str, node: &str, probability: Option<f64>, text: String) -> ScenarioSpec {
    ScenarioSpec {
        name: name.into(),
        node: node.into(),
        probability,
        model: lp::read(text.as_bytes()).unwrap(),
        file: text.into_bytes(),
        line: 0,
    }
}

/// A root with these variables.
pub fn root(variables: &[&str]) -> NodeSpec {
    NodeSpec {
        name: "root".into(),
        variables: variables.iter().map(|&name| name.to_owned()).collect(),
        ..NodeSpec::default()
    }
}

pub fn farmer_as(maximize: bool, integer: bool) -> Problem {
    let scenarios = YIELDS
        .map(|(name, yields)| scenario(name, "root", None, farmer_lp(yields, maximize, integer)));
    Problem::new(vec![root(&["acres(*)"])], scenarios.into()).unwrap()
}

pub fn farmer() -> Problem {
    farmer_as(false, false)
}

/// Solves by an interior-point method, to more digits than the plugin does by default.
pub fn interior_point(model: &Model) -> Solution {
    let settings = Conic {
        tol: 1e-11,
        ..Conic::default()
    };
    solve_program(&Program::from_model(model), &settings).unwrap()
}

/// Solves by the simplex method and branch and bound.
pub fn simplex(model: &Model) -> Solution {
    solve_model(model, 1e-9, |_| ()).unwrap()
}

/// What a worker does with a subproblem: all it gets is the patch, as bytes, and the base.
pub fn work(ph: &Ph<'_>, subproblem: &Subproblem, simplex_for_linear: bool) -> Solved {
    let bytes = subproblem.patch.to_cbor();
    let base = |name: &str| {
        let base = ph.bases().into_iter().find(|base| base.name == name)?;
        Some(base.bytes.to_vec())
    };
    let model = patch::resolve(&bytes, base).unwrap();
    let solution = match subproblem.class {
        Class::MixedInteger => simplex(&model),
        Class::Linear if simplex_for_linear => simplex(&model),
        Class::Linear | Class::Quadratic => interior_point(&model),
    };
    Solved {
        id: subproblem.id,
        solution,
    }
}

/// Runs to the end; everything that is handed out comes back together.
pub fn run_with(ph: &mut Ph<'_>, simplex_for_linear: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    while !ph.is_done() {
        let subproblems = ph.subproblems();
        assert!(!subproblems.is_empty(), "it waits for nothing");
        let answers: Vec<Solved> = subproblems
            .iter()
            .map(|subproblem| work(ph, subproblem, simplex_for_linear))
            .collect();
        steps.extend(ph.solved(answers).unwrap());
    }
    steps
}

pub fn run(ph: &mut Ph<'_>) -> Vec<Step> {
    run_with(ph, false)
}

#[track_caller]
pub fn assert_near(found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found - expected).abs() <= tolerance,
        "found {found}, expected {expected}"
    );
}
