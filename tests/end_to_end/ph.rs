//! Stochastic programs with real workers.

mod limits;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use optwasm_tests::cluster::{Place, wait_for};
use rustix::process::Signal;
use serde_json::Value as Json;

use crate::{guest, place_with_solvers};

/// The normalized term differences that PySP prints for the farmer with rho = 1, iterations 0 to 33.
const TABLE: [f64; 34] = [
    0.2540, 0.1259, 0.0816, 0.0796, 0.0776, 0.0794, 0.0668, 0.0542, 0.0360, 0.0243, 0.0256, 0.0248,
    0.0163, 0.0081, 0.0168, 0.0163, 0.0098, 0.0032, 0.0026, 0.0039, 0.0043, 0.0044, 0.0040, 0.0032,
    0.0021, 0.0008, 0.0005, 0.0015, 0.0021, 0.0023, 0.0020, 0.0015, 0.0008, 0.0001,
];

/// The farmer's optimum (Birge and Louveaux, "Introduction to Stochastic Programming", section 1.1).
const OPTIMUM: f64 = -108_390.0;

/// A file of the tests of the library.
fn data(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../ph/tests/data");
    path.join(name).display().to_string()
}

/// The farmer's tree and its three models, each changed as asked: texts and what takes their place.
fn farmer_with(place: &Place, changes: &[(&str, &str, &str)]) -> String {
    let core = fs::read_to_string(data("farmer.cor")).unwrap();
    let mut tree = "[[node]]\nname = 'root'\nvariables = ['acre?']\n".to_owned();
    for (name, [wheat, corn, beets]) in [
        ("below", ["2.0", "2.4", "16.0"]),
        ("average", ["2.5", "3.0", "20.0"]),
        ("above", ["3.0", "3.6", "24.0"]),
    ] {
        let mut model = core
            .replace("wheat     2.5", &format!("wheat     {wheat}"))
            .replace("corn      3.0", &format!("corn      {corn}"))
            .replace("beets     20.0", &format!("beets     {beets}"));
        for (_, from, to) in changes.iter().filter(|(of, ..)| [name, "all"].contains(of)) {
            assert!(model.contains(from), "{from}");
            model = model.replace(from, to);
        }
        place.file(&format!("{name}.mps"), model);
        tree.push_str(&format!(
            "[[scenario]]\nname = '{name}'\nmodel = '{name}.mps'\n"
        ));
    }
    place.file("farmer.toml", tree).display().to_string()
}

fn farmer(place: &Place) -> String {
    farmer_with(place, &[])
}

/// The rows of a log.
fn rows(place: &Place, name: &str) -> Vec<BTreeMap<String, f64>> {
    let text = fs::read_to_string(place.path().join(name)).unwrap_or_default();
    // The last line may be on its way.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut lines = whole.lines();
    let heading: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let row = |line: &str| {
        let numbers = line
            .split(',')
            .map(|number| number.parse().unwrap_or(f64::NAN));
        heading
            .iter()
            .map(|name| (*name).to_owned())
            .zip(numbers)
            .collect()
    };
    lines.map(row).collect()
}

#[track_caller]
fn assert_table(rows: &[BTreeMap<String, f64>]) {
    assert_eq!(rows.len(), TABLE.len());
    for (row, expected) in rows.iter().zip(TABLE) {
        assert_near(row["normalized_term_diff"], expected, 1e-4);
    }
}

#[track_caller]
fn assert_near(found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found - expected).abs() <= tolerance,
        "found {found}, expected {expected}"
    );
}

#[track_caller]
fn assert_first_stage(result: &Json, expected: [f64; 3], tolerance: f64) {
    for (name, expected) in ["acreW", "acreC", "acreB"].into_iter().zip(expected) {
        assert_near(
            result["first_stage"][name].as_f64().unwrap(),
            expected,
            tolerance,
        );
    }
}

/// Case 30: the extensive form, from both kinds of files.
#[test]
fn case_30_the_extensive_form_has_the_known_optimum() {
    let place = place_with_solvers();
    let tree = farmer(&place);
    let smps = ["farmer.sto", "farmer.cor", "farmer.tim"].map(|name| match name {
        "farmer.sto" => data("farmer-scenarios.sto"),
        other => data(other),
    });
    for files in [vec![tree], smps.to_vec()] {
        let mut args = vec!["ph", "run", "--local", "--extensive", "--output", "json"];
        args.extend(["--solution", "found.csv"]);
        args.extend(files.iter().map(String::as_str));
        let result = place.run(args).json();
        assert_eq!(result["status"], "optimal", "{result}");
        assert_near(result["objective"].as_f64().unwrap(), OPTIMUM, 0.05);
        assert_first_stage(&result, [170.0, 80.0, 250.0], 1e-3);
        let found = fs::read_to_string(place.path().join("found.csv")).unwrap();
        assert_eq!(found.lines().count(), 1 + 3 * 9, "{found}");
        assert!(found.contains("below,acreW,170"), "{found}");
    }
}

/// Case 30: what uncertainty costs.
#[test]
fn case_30_the_report_has_the_published_numbers() {
    let place = place_with_solvers();
    let tree = farmer(&place);
    let report = place
        .run(["ph", "report", "--local", "--output", "json", &tree])
        .json();
    for (name, expected) in [
        ("ev", -118_600.0),
        ("ws", -115405.5556),
        ("rp", OPTIMUM),
        ("eev", -107_240.0),
        ("vss", 1150.0),
        ("evpi", 7015.5556),
    ] {
        assert_near(report[name].as_f64().unwrap(), expected, 1e-2);
    }
    let table = place.run(["ph", "report", "--local", &tree]).ok();
    assert!(
        table.contains("VSS") && table.contains("1150.0000"),
        "{table}"
    );
}

/// Case 31: the same table with any number of workers.
#[test]
fn case_31_the_published_table_with_one_two_and_three_workers() {
    let mut first = None;
    for count in 1..=3 {
        let place = place_with_solvers();
        let tree = farmer(&place);
        let _coordinator = place.coordinator(&[]);
        let workers = (0..count).map(|number| place.worker(&format!("w{number}"), &[]));
        let _workers: Vec<_> = workers.collect();
        let args = [
            "ph",
            "run",
            "--stop",
            "pysp",
            "--log",
            "log.csv",
            "--write-x",
            "x.csv",
        ];
        let result = place
            .run(args.into_iter().chain(["--output", "json", &tree]))
            .json();
        assert_eq!(result["status"], "converged");
        assert_eq!(result["iterations"], 33);
        let mut rows = rows(&place, "log.csv");
        assert_table(&rows);
        let last = rows.last().unwrap();
        // HiGHS finds this bound, because it regularizes quadratic programs; exactly it is
        // -108427.15.
        assert_near(last["outer"], -108_427.42, 0.1);
        assert!(last["best_outer"] <= OPTIMUM + 1e-3, "{last:?}");
        assert!(
            (OPTIMUM - 1e-3..=-108_385.0).contains(&last["incumbent"]),
            "{last:?}"
        );
        let averages = fs::read_to_string(place.path().join("x.csv")).unwrap();
        for (line, expected) in averages.lines().skip(1).zip([170.0254, 79.9872, 249.9874]) {
            let (_, value) = line.rsplit_once(',').unwrap();
            assert_near(value.parse().unwrap(), expected, 0.01);
        }
        // To the last digit, wherever it was solved.
        for row in &mut rows {
            row.remove("seconds");
        }
        let rows = format!("{rows:?}");
        assert_eq!(*first.get_or_insert(rows.clone()), rows);
        let batches = place.run(["jobs", "--output", "json"]).json();
        let left = batches["batches"].as_array().unwrap();
        assert!(left.is_empty(), "iterations are removed: {left:?}");
    }
}

/// Case 31: PySP's other rule.
#[test]
fn case_31_the_not_normalized_rule_takes_48_iterations() {
    let place = place_with_solvers();
    let tree = farmer(&place);
    let args = [
        "ph",
        "run",
        "--local",
        "--stop",
        "term-diff=0.01",
        "--log",
        "log.csv",
        "--no-bounds",
    ];
    place.run(args.into_iter().chain([&*tree])).ok();
    let rows = rows(&place, "log.csv");
    assert_eq!(rows.len(), 49);
    for (row, expected) in rows[45..].iter().zip([0.1933, 0.1388, 0.0702, 0.0014]) {
        assert_near(row["term_diff"], expected, 2e-4);
        assert!(row["incumbent"].is_nan());
    }
}

/// Case 32: the default rule does not take agreement for an optimum.
#[test]
fn case_32_large_penalties_do_not_pass_for_convergence() {
    let place = place_with_solvers();
    let tree = farmer(&place);
    let run = |more: &[&str]| {
        let args = [
            "ph", "run", "--local", "--rho", "10", "--log", "log.csv", "--output", "json",
        ];
        let args = args.into_iter().chain([&*tree]);
        place.run(args.chain(more.iter().copied())).json()
    };
    let pysp = run(&["--stop", "pysp"]);
    assert_eq!(
        (&pysp["iterations"], &pysp["status"]),
        (&7.into(), &"converged".into())
    );
    assert_near(pysp["objective"].as_f64().unwrap(), -107_696.0, 0.5);
    assert_near(rows(&place, "log.csv")[7]["dual"], 16.7, 0.05);

    let residuals = run(&[]);
    assert!(residuals["iterations"].as_u64().unwrap() > 7, "{residuals}");
    assert_near(residuals["objective"].as_f64().unwrap(), OPTIMUM, 0.5);
}

/// Case 32: a worker that is killed changes nothing.
#[test]
fn case_32_the_same_table_when_a_worker_is_killed() {
    let place = place_with_solvers();
    let tree = farmer(&place);
    let _coordinator = place.coordinator(&["--lease", "1s"]);
    let victim = place.worker("victim", &[]);
    let _other = place.worker("other", &[]);
    let args = ["ph", "run", "--stop", "pysp", "--log", "log.csv", &tree];
    let mut run = place.start(args);
    // What it has begun when it is stopped is not finished; the run waits for it.
    loop {
        if rows(&place, "log.csv").len() >= 5 {
            victim.signal(Signal::STOP);
            break;
        }
        assert!(run.is_running(), "{}", run.log());
        std::thread::sleep(Duration::from_micros(200));
    }
    let mut seen = 0;
    wait_for("an iteration that waits for the victim", || {
        std::thread::sleep(Duration::from_millis(300));
        std::mem::replace(&mut seen, rows(&place, "log.csv").len()) == seen
    });
    assert!((5..30).contains(&seen), "{seen}");
    victim.kill();
    let code = run.wait();
    assert!(code.success(), "{}", run.log());
    assert_table(&rows(&place, "log.csv"));
}

/// Three stages, ordered by hand: x = 1 now; two more later if that is cheap.
#[test]
fn three_stages_from_smps() {
    let place = place_with_solvers();
    let files = ["order.cor", "order.tim", "order.sto"].map(data);
    let run = |args: &[&str]| {
        let args = args.iter().copied().chain(["--local", "--output", "json"]);
        place
            .run(args.chain(files.iter().map(String::as_str)))
            .json()
    };
    let whole = run(&["ph", "run", "--extensive"]);
    assert_near(whole["objective"].as_f64().unwrap(), 5.5, 1e-6);
    assert_near(whole["first_stage"]["x"].as_f64().unwrap(), 1.0, 1e-6);
    let hedged = run(&["ph", "run", "--max-iterations", "300"]);
    assert_eq!(hedged["status"], "converged", "{hedged}");
    assert_near(hedged["first_stage"]["x"].as_f64().unwrap(), 1.0, 0.05);
    let objective = hedged["objective"].as_f64().unwrap();
    assert!((5.5 - 1e-6..5.55).contains(&objective), "{hedged}");
    assert!(hedged["outer"].as_f64().unwrap() <= 5.5 + 1e-6, "{hedged}");
    let report = run(&["ph", "report"]);
    for (name, expected) in [
        ("ev", 4.0),
        ("ws", 3.0),
        ("rp", 5.5),
        ("eev", 5.75),
        ("vss", 0.25),
    ] {
        assert_near(report[name].as_f64().unwrap(), expected, 1e-6);
    }
}

/// Case 31, asynchronously: another way to the same optimum.
#[test]
fn steps_need_not_wait_for_all() {
    let place = place_with_solvers();
    let tree = farmer(&place);
    let _coordinator = place.coordinator(&[]);
    let _workers = ["a", "b", "c"].map(|name| place.worker(name, &[]));
    for buffer in ["--async", "--async=2"] {
        let args = [
            "ph",
            "run",
            buffer,
            "--max-iterations",
            "1000",
            "--output",
            "json",
            &tree,
        ];
        let result = place.run(args).json();
        assert_eq!(result["status"], "converged", "{result}");
        assert_near(result["objective"].as_f64().unwrap(), OPTIMUM, 1.0);
        assert!(
            result["outer"].as_f64().unwrap() <= OPTIMUM + 1e-3,
            "{result}"
        );
    }
    let batches = place.run(["jobs", "--output", "json"]).json();
    for batch in batches["batches"].as_array().unwrap() {
        assert_eq!(batch["done"], batch["jobs"], "nothing is left under way");
    }
}

#[test]
fn a_run_goes_on_from_the_files_of_another() {
    let place = place_with_solvers();
    let tree = farmer(&place);
    let run = |more: &[&str]| {
        let args = ["ph", "run", "--local", "--output", "json", &tree];
        place.run(args.iter().chain(more)).json()
    };
    let whole = run(&[]);
    assert_eq!(whole["status"], "converged");
    let all = whole["iterations"].as_u64().unwrap();
    let cut = run(&[
        "--max-iterations",
        "20",
        "--write-w",
        "w.csv",
        "--write-x",
        "x.csv",
    ]);
    assert_eq!(cut["status"], "iteration_limit");
    let rest = run(&["--warm-start-w", "w.csv", "--warm-start-x", "x.csv"]);
    assert_eq!(rest["status"], "converged");
    // The first iteration of the second run is the 21st.
    assert_eq!(rest["iterations"].as_u64().unwrap(), all - 21);

    let averages = fs::read_to_string(place.path().join("x.csv")).unwrap();
    place.file("x.csv", averages.replace("acreW", "acreX"));
    place
        .run(["ph", "run", "--local", "--warm-start-x", "x.csv", &tree])
        .fails(
            2,
            "x.csv: line 2: variable `acreX` of node `root` is not part of the problem",
        );
}

/// PySP's numbers for linearized terms, and why they are not the optimum.
#[test]
fn linearized_terms_end_where_pysp_does_and_say_so() {
    let place = place_with_solvers();
    let tree = farmer(&place);
    let args = [
        "ph",
        "run",
        "--local",
        "--linearize",
        "10",
        "--stop",
        "pysp",
        "--output",
        "json",
    ];
    let result = place.run(args.into_iter().chain([&*tree])).json();
    assert_eq!(result["iterations"], 9, "{result}");
    assert_near(result["objective"].as_f64().unwrap(), -107958.8966, 0.01);
    assert!(
        result["remarks"][0]
            .as_str()
            .unwrap()
            .contains("the gap says"),
        "{result}"
    );
}

#[test]
fn integer_acres_come_out_integer() {
    let place = place_with_solvers();
    let marker = |word: &str| format!("    M         'MARKER'  '{word}'\n");
    let begin = format!("COLUMNS\n{}", marker("INTORG"));
    let end = format!("{}    buyW ", marker("INTEND"));
    let tree = farmer_with(
        &place,
        &[
            ("all", "COLUMNS\n", &begin),
            ("all", "    buyW      cost", &format!("{end}     cost")),
        ],
    );
    let result = place
        .run(["ph", "run", "--local", "--output", "json", &tree])
        .json();
    let objective = result["objective"].as_f64().unwrap();
    assert!(
        (OPTIMUM - 1e-3..-107_000.0).contains(&objective),
        "{result}"
    );
    assert!(
        result["outer"].as_f64().unwrap() <= OPTIMUM + 1e-3,
        "{result}"
    );
    for (_, acres) in result["first_stage"].as_object().unwrap() {
        assert_eq!(acres.as_f64().unwrap().fract(), 0.0, "{result}");
    }
}

#[test]
fn another_solver_and_bundles() {
    let place = place_with_solvers();
    let tree = farmer(&place);
    let run = |more: &[&str]| {
        let args = [
            "ph", "run", "--local", "--output", "json", "--log", "log.csv", &tree,
        ];
        place.run(args.iter().chain(more)).json()
    };
    run(&["--solver", "conic", "-o", "tol=1e-10", "--stop", "pysp"]);
    assert_table(&rows(&place, "log.csv"));
    // One bundle of all is the extensive form.
    let bundle = run(&["--bundles", "1"]);
    assert_eq!(bundle["iterations"], 1, "{bundle}");
    assert_near(bundle["objective"].as_f64().unwrap(), OPTIMUM, 0.05);

    let fails = |more: &[&str], code, message| {
        let args = ["ph", "run", "--local", &tree];
        place.run(args.iter().chain(more)).fails(code, message);
    };
    fails(
        &["--solver", "sat"],
        2,
        "`sat` is none of the solvers for this",
    );
    fails(&["-o", "no_such_option=1"], 2, "no option `no_such_option`");
    fails(
        &["--solver", "linear", "-o", "qp_iteration_limit=1"],
        2,
        "plugin linear has no option",
    );
    fails(&["--rho", "-1"], 2, "rho of variable `acreW` is -1");
    fails(&["--stop", "whenever"], 2, "there is no rule `whenever`");
    fails(
        &["x.cor"],
        2,
        "a program is one TOML file, or three SMPS files",
    );
    place
        .run(["ph", "run", "--local", "missing.toml"])
        .fails(3, "missing.toml: No such file");
}

#[test]
fn a_scenario_without_a_solution_is_named() {
    let place = place_with_solvers();
    let tree = farmer_with(&place, &[("average", "land      500.0", "land      -5.0")]);
    place
        .run(["ph", "run", "--local", &tree])
        .fails(1, "scenario `average` is infeasible");
    place
        .run(["ph", "run", "--local", "--extensive", &tree])
        .fails(1, "the extensive form ended as infeasible");
    let tree = farmer_with(
        &place,
        &[(
            "above",
            "buyW      cost      238.0",
            "buyW      cost      38.0",
        )],
    );
    place
        .run(["ph", "run", "--local", &tree])
        .fails(1, "scenario `above` is unbounded");
    // A job that does not end in time is no answer.
    let tree = farmer(&place);
    place
        .run(["ph", "run", "--local", "--fuel", "1000", &tree])
        .fails(1, "ended as unknown: ");
}

#[test]
fn what_is_queued_ends_with_the_run() {
    let place = place_with_solvers();
    let tree = farmer(&place);
    let _coordinator = place.coordinator(&[]);
    // What the worker is busy with for as long as the test looks.
    let long = place.file("long", "1000000000");
    let long = long.display().to_string();
    let submitted = place.run(["submit", &guest("spin"), &long, "--output", "json"]);
    let long = submitted.json()["batch"].clone();
    let mut run = place.start(["ph", "run", &tree]);
    wait_for("a word about workers", || {
        run.log().contains("waiting for a worker")
    });
    let _worker = place.worker("w", &[]);
    let batches = || {
        let batches = place.run(["jobs", "--output", "json"]).json();
        let batches = batches["batches"].as_array().unwrap().clone();
        let of_run = batches.into_iter().filter(|batch| batch["batch"] != long);
        of_run.collect::<Vec<_>>()
    };
    wait_for("an iteration", || !batches().is_empty());
    run.signal(Signal::INT);
    assert_eq!(run.wait().code(), Some(130), "{}", run.log());
    for batch in batches() {
        assert_eq!(batch["done"], batch["jobs"], "{batch}");
    }
}
