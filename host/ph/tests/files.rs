//! Trees in TOML and problems in SMPS.

// In a test, to panic is to fail.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::io;
use std::path::Path;

use common::*;
use optwasm_ph::*;
use proptest::prelude::*;

/// A file of the folder `data`.
fn data(name: &str) -> io::Result<Vec<u8>> {
    std::fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/data")
            .join(name),
    )
}

fn optimum(problem: &Problem) -> f64 {
    simplex(&Extensive::new(problem).model).objective.unwrap()
}

#[test]
fn the_farmer_is_read_from_smps() {
    for time in ["farmer.tim", "farmer-explicit.tim"] {
        for stoch in ["farmer-scenarios.sto", "farmer-blocks.sto"] {
            let problem = read_smps("farmer.cor", time, stoch, data).unwrap();
            assert_near(optimum(&problem), OPTIMUM, 0.05);
            assert_eq!(problem.nodes.len(), 1);
            let names: Vec<&str> = problem.variables.iter().map(|v| v.name.as_str()).collect();
            assert_eq!(names, ["acreW", "acreC", "acreB"]);
            // What workers get is the same model.
            for scenario in &problem.scenarios {
                let read = optwasm_model::read(&scenario.file).unwrap();
                assert_eq!(read.columns, scenario.model.columns);
                assert_eq!(read.rows, scenario.model.rows);
                assert_eq!(read.entries.len(), scenario.model.entries.len());
            }
            let mut ph = Ph::new(&problem, Settings::default()).unwrap();
            let steps = run(&mut ph);
            assert_near(steps[0].bounds.outer.unwrap(), -115_405.556, 0.05);
            assert_near(
                steps.last().unwrap().bounds.incumbent.unwrap(),
                OPTIMUM,
                0.5,
            );
        }
    }
}

#[test]
fn independent_data_of_several_periods_makes_a_tree() {
    let problem = read_smps("order.cor", "order.tim", "order.sto", data).unwrap();
    let stages: Vec<usize> = problem.nodes.iter().map(|node| node.stage).collect();
    assert_eq!(stages, [0, 1, 1]);
    assert_eq!(problem.scenarios.len(), 4);
    assert!(
        problem
            .scenarios
            .iter()
            .all(|s| (s.probability - 0.25).abs() < 1e-12)
    );
    // The same as the problem of `three_stages` in the tests of progressive hedging.
    assert_near(optimum(&problem), 5.5, 1e-9);
}

/// Reads the problem `order` with one of its files replaced.
fn with(replaced: &str, text: &str) -> Result<Problem, ProblemError> {
    read_smps("order.cor", "order.tim", "order.sto", |name| {
        if name == replaced {
            Ok(text.as_bytes().to_vec())
        } else {
            data(name)
        }
    })
}

fn stoch(text: &str) -> Result<Problem, ProblemError> {
    with("order.sto", &format!("STOCH order\n{text}ENDATA\n"))
}

#[test]
fn scenarios_branch_where_they_say() {
    let problem = stoch(
        "SCENARIOS DISCRETE
 SC cheap1 ROOT 0.25 one
    y cost 1.0
    RHS demand 1.0
 SC cheap3 cheap1 0.25 three
    RHS demand 3.0
 SC dear1 cheap1 0.25 two
    y cost 4.0
 SC dear3 dear1 0.25 three
    RHS demand 3.0
",
    )
    .unwrap();
    assert_near(optimum(&problem), 5.5, 1e-9);
    let nodes: Vec<usize> = problem.scenarios.iter().map(|s| s.node).collect();
    assert_eq!(nodes, [1, 1, 2, 2]);
    // From the core, in the second period: nothing is shared but the first.
    let problem = stoch(
        "SCENARIOS DISCRETE
 SC a ROOT 0.5 two
    RHS demand 1.0
 SC b 'ROOT' 0.5 two
    RHS demand 3.0
",
    )
    .unwrap();
    assert_eq!(problem.nodes.len(), 3);
    // One is ordered now for sure, and two more then, at 2.5 each instead of 2: two now is as good.
    assert_near(optimum(&problem), 2.0 + 0.5 * 5.0, 1e-9);
}

#[test]
fn random_numbers_of_every_kind_change_what_they_name() {
    let problem = stoch(
        "BLOCKS DISCRETE
 BL b three 0.5
    RHS demand 1.0
    z cost 7.0 demand 0.5
 UP BND z 9.0
 LO BND z 1.0
    RHS cost -3.0
 BL b three 0.5
    z cost 8.0
",
    )
    .unwrap();
    let [first, second] = &problem.scenarios[..] else {
        panic!("two scenarios")
    };
    let column = |scenario: &Scenario| scenario.model.columns[2].clone();
    assert_eq!(
        (column(first).cost, column(first).lower, column(first).upper),
        (7.0, 1.0, 9.0)
    );
    assert_eq!(first.model.rows[2].lower, 1.0);
    assert_eq!(first.model.constant, 3.0);
    let z = |scenario: &Scenario| {
        let rows = scenario.model.row_coefficients();
        rows[2].iter().find(|(column, _)| *column == 2).unwrap().1
    };
    assert_eq!(z(first), 0.5);
    // The second realization says what differs from the first.
    assert_eq!(
        (column(second).cost, column(second).upper, z(second)),
        (8.0, 9.0, 0.5)
    );
    let added =
        stoch("INDEP DISCRETE ADD\n RHS demand 1.5 three 0.5\n RHS demand -1 0.5\n").unwrap();
    let sides: Vec<f64> = added
        .scenarios
        .iter()
        .map(|s| s.model.rows[2].lower)
        .collect();
    assert_eq!(sides, [3.5, 1.0]);
}

#[test]
fn right_hand_sides_may_have_the_name_that_the_core_gives_them() {
    let problem = read_smps("order.cor", "order.tim", "order.sto", |name| {
        let text = String::from_utf8(data(name)?).unwrap();
        Ok(text.replace("    RHS  ", "    SIDES").into_bytes())
    });
    assert_near(optimum(&problem.unwrap()), 5.5, 1e-9);
}

#[test]
fn wrong_smps_files_say_where_and_why() {
    let error = |result: Result<Problem, ProblemError>| result.unwrap_err().to_string();
    for (text, expected) in [
        (
            "INDEP NORMAL\n",
            "order.sto, line 2: section INDEP NORMAL is not supported",
        ),
        (
            "BLOCKS LINTR\n",
            "order.sto, line 2: section BLOCKS LINTR is not supported",
        ),
        (
            "CHANCE\n",
            "order.sto, line 2: section CHANCE is not supported",
        ),
        (
            "NODES\n",
            "order.sto, line 2: section NODES is not supported",
        ),
        ("", "order.sto, line 2: nothing is random"),
        (
            "INDEP DISCRETE\n y cost 1 two 0.5\n y cost 2 two 0.4\n",
            "order.sto, line 3: the probabilities of `y cost` sum to 0.9, not to 1",
        ),
        (
            "INDEP DISCRETE\n y oats 1 two 0.5\n",
            "order.sto, line 3: the core has no row `oats`",
        ),
        (
            "INDEP DISCRETE\n oats demand 1 three 0.5\n",
            "order.sto, line 3: the core has no column `oats`, and no right-hand sides of that name",
        ),
        (
            "INDEP DISCRETE\n yy cost 1 two 0.5\n",
            "order.sto, line 3: the core has no column `yy`, and no right-hand sides of that name",
        ),
        (
            "INDEP DISCRETE\n y cost 1 four 1\n",
            "order.sto, line 3: there is no period `four`",
        ),
        (
            "INDEP DISCRETE\n x cost 1 one 1\n",
            "order.sto, line 3: `x cost` is random in the first period, in which all is known",
        ),
        (
            "INDEP DISCRETE\n y cost one two 1\n",
            "order.sto, line 3: expected a finite number, found `one`",
        ),
        (
            "INDEP DISCRETE\n y cost 1 two 1.5\n",
            "order.sto, line 3: expected a probability above 0 and at most 1, found `1.5`",
        ),
        (
            "BLOCKS DISCRETE\n y cost 1\n",
            "order.sto, line 3: expected a line BL, found `y cost 1`",
        ),
        (
            "SCENARIOS DISCRETE\n SC a b 1 two\n",
            "order.sto, line 3: scenario `b` does not come before",
        ),
        (
            "SCENARIOS DISCRETE\n SC a ROOT 0.5 two\n SC a ROOT 0.5 two\n",
            "order.sto, line 4: scenario `a` is there twice",
        ),
        (
            "INDEP DISCRETE\n y cost 1 two 1\nSCENARIOS DISCRETE\n",
            "order.sto, line 4: scenarios beside independent data are not supported",
        ),
    ] {
        assert_eq!(error(stoch(text)), expected);
    }
    assert_eq!(
        error(with("order.sto", "STOCH order\n")),
        "order.sto, line 1: the file ends where ENDATA was expected"
    );
    for (text, expected) in [
        (
            "PERIODS\n x capx one\n w capy two\n",
            "order.tim, line 3: the core has no column `w`",
        ),
        (
            "PERIODS\n x capx one\n y no two\n",
            "order.tim, line 3: the core has no row `no`",
        ),
        (
            "PERIODS\n x capx one\n",
            "order.tim, line 3: a stochastic program has at least two periods",
        ),
        (
            "PERIODS EXPLICIT\n a\n b\nCOLUMNS\n x a\n",
            "order.tim, line 6: column `y` belongs to no period",
        ),
        (
            "PERIODS EXPLICIT\n a\n b\nCOLUMNS\n x a\n y bb\n",
            "order.tim, line 6: there is no period `bb`",
        ),
        (
            "PERIODS\n x capx one\n y capy two\nROWS\n demand three\n",
            "order.tim, line 5: there is no period `three`",
        ),
        (
            "PERIODS SIMULTANEOUS\n",
            "order.tim, line 1: periods SIMULTANEOUS are not supported",
        ),
    ] {
        assert_eq!(
            error(with("order.tim", &format!("{text}ENDATA\n"))),
            expected
        );
    }
    let backwards = "PERIODS\n x capx one\n z demand two\n y capy three\nENDATA\n";
    assert!(
        error(with("order.tim", backwards)).contains("line 4: period `three` does not begin after")
    );
    assert!(error(with("order.cor", "NAME\n")).starts_with("order.cor: line 1: "));
    let missing = read_smps("no.cor", "order.tim", "order.sto", data);
    assert!(error(missing).starts_with("no.cor: "));
    // 3^20 scenarios of a few lines.
    let many: String = (0..20)
        .map(|i| format!(" BL b{i} three 0.5\n RHS demand {i}\n BL b{i} three 0.25\n RHS demand 1\n BL b{i} three 0.25\n RHS demand 2\n"))
        .collect();
    let error = error(stoch(&format!("BLOCKS DISCRETE\n{many}")));
    assert!(error.contains("3486784401 scenarios; at most "), "{error}");
}

/// The files of a tree.
fn tree(toml: &str) -> Result<Problem, ProblemError> {
    let model = |cost: u32| {
        format!("min\n {cost} x(1) + 3 x(2) + y + 9 z\nst\n c: x(1) + y + z >= 2\nend\n")
    };
    let files = HashMap::from([
        ("tree.toml", toml.to_owned()),
        ("a.lp", model(1)),
        ("b.lp", model(2)),
        ("max.lp", model(1).replace("min", "max")),
        ("less.lp", model(1).replace("3 x(2) +", "")),
        ("int.lp", model(1).replace("end", "generals\n x(1)\nend")),
        ("broken.lp", "min\n x\nst\n c: x >=\nend\n".to_owned()),
    ]);
    read_tree("tree.toml", |name| match files.get(name) {
        Some(text) => Ok(text.clone().into_bytes()),
        None => Err(io::Error::from(io::ErrorKind::NotFound)),
    })
}

const TREE: &str = r#"
[[node]]
name = "root"
variables = ["x?*"]

[[node]]
name = "left"
parent = "root"
probability = 0.4
variables = ["y"]

[[scenario]]
name = "l1"
node = "left"
probability = 0.25
model = "a.lp"

[[scenario]]
name = "l2"
node = "left"
probability = 0.75
model = "b.lp"

[[scenario]]
name = "r"
node = "root"
probability = 0.6
model = "b.lp"

[[bundle]]
name = "left"
scenarios = ["l1", "l2"]

[[bundle]]
name = "right"
scenarios = ["r"]
"#;

#[test]
fn a_tree_is_read_from_toml() {
    let problem = tree(TREE).unwrap();
    let names: Vec<String> = (0..3).map(|v| problem.variable_name(v)).collect();
    assert_eq!(names, ["root/x(1)", "root/x(2)", "left/y"]);
    let probabilities: Vec<f64> = problem.scenarios.iter().map(|s| s.probability).collect();
    for (found, expected) in probabilities.iter().zip([0.1, 0.3, 0.6]) {
        assert_near(*found, expected, 1e-12);
    }
    assert_near(problem.nodes[1].probability, 0.4, 1e-12);
    assert_eq!(problem.scenarios[1].columns, [(0, 0), (1, 1), (2, 2)]);
    assert_eq!(problem.scenarios[2].columns, [(0, 0), (1, 1)]);
    assert_eq!(problem.bundles()[0].scenarios, [0, 1]);
    // Without probabilities they are equal, and the only node need not be named.
    let problem = tree(
        "node = [{ name = 'n', variables = ['x(1)'] }]
scenario = [{ name = 'a', model = 'a.lp' }, { name = 'b', model = 'b.lp' }]",
    )
    .unwrap();
    assert_eq!(problem.scenarios[1].probability, 0.5);
}

#[test]
fn wrong_trees_say_where_and_why() {
    for (from, to, expected) in [
        (
            "0.25",
            "0.26",
            "tree.toml: line 7: the probabilities below node `left` sum to 1.01, not to 1",
        ),
        (
            "probability = 0.6",
            "",
            "tree.toml: line 25: `r` has no probability, but others below node `root` have",
        ),
        (
            "0.25",
            "-0.25",
            "tree.toml: line 13: the probability of `l1` is -0.25",
        ),
        (
            "\"y\"",
            "\"w\"",
            "tree.toml: line 7: scenario `l1` has no variable `w`, which belongs to node `left`",
        ),
        (
            "\"y\"",
            "\"w*\"",
            "tree.toml: line 7: no variable matches `w*` of node `left`",
        ),
        (
            "\"y\"",
            "\"x*\"",
            "tree.toml: line 7: variable `x(1)` of node `left` belongs to node `root` above it already",
        ),
        (
            "a.lp",
            "less.lp",
            "tree.toml: line 3: scenario `l1` has no variable `x(2)`, which belongs to node `root`",
        ),
        (
            "a.lp",
            "max.lp",
            "tree.toml: line 19: scenario `l2` is to be minimized and those before it maximized",
        ),
        (
            "a.lp",
            "int.lp",
            "tree.toml: line 3: variable `x(1)` is integer in some scenarios and continuous in `r`",
        ),
        (
            "a.lp",
            "broken.lp",
            "broken.lp: line 5: expected a number, found `end`",
        ),
        ("a.lp", "none.lp", "none.lp: entity not found"),
        (
            "\"l2\"\nnode",
            "\"l1\"\nnode",
            "tree.toml: line 19: scenario `l1` is there twice",
        ),
        (
            "parent = \"root\"",
            "",
            "tree.toml: line 7: the nodes are not a tree: neither `root` nor `left` has a parent",
        ),
        (
            "parent = \"root\"",
            "parent = \"left\"",
            "tree.toml: line 7: the nodes are not a tree: node `left` is below itself",
        ),
        (
            "parent = \"root\"",
            "parent = \"up\"",
            "tree.toml: line 7: node `left` names node `up`, which does not exist",
        ),
        (
            "node = \"root\"",
            "",
            "tree.toml, line 25: scenario `r` does not say which node it hangs on",
        ),
        (
            "node = \"root\"",
            "node = \"right\"",
            "tree.toml: line 25: scenario `r` names node `right`, which does not exist",
        ),
        (
            "[\"r\"]",
            "[]",
            "tree.toml: line 25: scenario `r` is in 0 bundles",
        ),
        (
            "[\"r\"]",
            "[\"q\"]",
            "tree.toml: bundle `right` names scenario `q`, which does not exist",
        ),
        (
            "variables = [\"y\"]",
            "variable = [\"y\"]",
            "tree.toml, line 10: unknown field `variable`, expected one of `name`, `parent`, `probability`, `variables`",
        ),
    ] {
        let text = TREE.replacen(from, to, 1);
        assert_ne!(text, TREE, "{from}");
        assert_eq!(tree(&text).unwrap_err().to_string(), expected);
    }
    assert_eq!(
        tree("").unwrap_err().to_string(),
        "tree.toml: the nodes are not a tree: no node is without a parent"
    );
    let lonely = "node = [{ name = 'n' }]";
    assert_eq!(
        tree(lonely).unwrap_err().to_string(),
        "tree.toml: the tree has no scenario"
    );
}

#[test]
fn thirds_with_six_digits_are_probabilities() {
    let third = |name: &str| ScenarioSpec {
        probability: Some(0.333_333),
        ..scenario(name, "root", None, "min\n x\nst\n c: x >= 1\nend\n".into())
    };
    let problem = Problem::new(vec![root(&["x"])], ["a", "b", "c"].map(third).into()).unwrap();
    assert_near(problem.scenarios[0].probability, 1.0 / 3.0, 1e-15);
}

proptest! {
    #[test]
    fn damaged_files_are_errors_or_problems(
        which in 0..3usize,
        cut in any::<prop::sample::Index>(),
        insert in "[A-Za-z0-9 .\\n'*-]{0,8}",
    ) {
        let names = ["order.cor", "order.tim", "order.sto"];
        let mut text = String::from_utf8(data(names[which]).unwrap()).unwrap();
        let at = cut.index(text.len());
        let end = (at + insert.len() / 2).min(text.len());
        text.replace_range(at..end, &insert);
        let _ = with(names[which], &text);
    }

    #[test]
    fn any_words_are_survived(words in prop::collection::vec(
        prop::sample::select(vec![
            "STOCH", "INDEP", "BLOCKS", "SCENARIOS", "DISCRETE", "ADD", "\n", "\n ", "\n BL b two 0.5",
            "\n SC s ROOT 1 two", "x", "y", "z", "cost", "demand", "RHS", "two", "three", "0.5", "1",
            "UP", "BND", "1e400", "nan", "ENDATA", "PERIODS", "ROWS", "COLUMNS", "EXPLICIT",
        ]),
        0..40,
    )) {
        let text = words.join(" ");
        let _ = with("order.sto", &text);
        let _ = with("order.tim", &text);
        let _ = tree(&text);
        let _ = Rho::read_overrides(text.as_bytes());
    }
}
