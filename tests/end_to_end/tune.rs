//! Multi-fidelity search with real workers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use optwasm_tests::cluster::{Place, wait_for};
use rustix::process::Signal;
use serde_json::Value as Json;

use crate::{guest, place};

/// The arguments of a Hyperband run with budgets 25, 50, 100: 13 evaluations in three brackets.
fn hyperband(place: &Place, space: &str, dir: &str) -> Vec<String> {
    let space = place.file("space.toml", space).display().to_string();
    let objective = guest("objective");
    [
        "tune",
        &space,
        &objective,
        "--min-budget",
        "25",
        "--max-budget",
        "100",
        "--eta",
        "2",
        "--iterations",
        "3",
        "--seed",
        "7",
        "--dir",
        dir,
        "--memo",
        "off",
    ]
    .map(str::to_owned)
    .to_vec()
}

const PARABOLA: &str = "[parameters.x]\ntype = 'float'\nlow = 0.0\nhigh = 1.0\n";

fn with(args: &[String], more: &[&str]) -> Vec<String> {
    args.iter()
        .cloned()
        .chain(more.iter().map(|arg| (*arg).to_owned()))
        .collect()
}

fn results(place: &Place, dir: &str) -> Vec<Json> {
    let path: PathBuf = place.path().join(dir).join("results.jsonl");
    lines(&path)
}

fn lines(path: &Path) -> Vec<Json> {
    let text = fs::read_to_string(path).unwrap_or_default();
    // The last line may be on its way.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Number of evaluations at each budget.
fn budgets(results: &[Json]) -> BTreeMap<u64, usize> {
    let mut count = BTreeMap::new();
    for result in results {
        *count
            .entry(result["budget"].as_f64().unwrap() as u64)
            .or_default() += 1;
    }
    count
}

fn keys(results: &[Json]) -> BTreeSet<String> {
    let key = |result: &Json| format!("{} {}", result["id"], result["budget"]);
    results.iter().map(key).collect()
}

/// What was found, without when and where.
fn found(results: &[Json]) -> BTreeSet<String> {
    let found = |result: &Json| {
        format!(
            "{} {} {} {}",
            result["id"], result["budget"], result["config"], result["loss"]
        )
    };
    results.iter().map(found).collect()
}

/// Case 28.
#[test]
fn case_28_a_hyperband_run_promotes_the_best() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let _workers = [place.worker("a", &[]), place.worker("b", &[])];
    let table = place.run(hyperband(&place, PARABOLA, "found")).ok();
    assert!(
        table.contains("13 evaluations, 0 of them crashed"),
        "{table}"
    );
    let results = results(&place, "found");
    assert_eq!(budgets(&results), [(25, 4), (50, 4), (100, 5)].into());
    // Of the four of the first bracket the two with the lowest losses go on.
    let of_first = |budget: f64| {
        let mut of: Vec<(f64, String)> = results
            .iter()
            .filter(|r| r["id"][0] == 0 && r["budget"] == budget)
            .map(|r| (r["loss"].as_f64().unwrap(), r["id"].to_string()))
            .collect();
        of.sort_by(|a, b| a.partial_cmp(b).unwrap());
        of.into_iter().map(|(_, id)| id).collect::<Vec<_>>()
    };
    let promoted: BTreeSet<String> = of_first(50.0).into_iter().collect();
    assert_eq!(promoted, of_first(25.0).into_iter().take(2).collect());
    assert_eq!(of_first(100.0), of_first(50.0)[..1]);
    for result in &results {
        assert_eq!(result["info"], result["id"], "{result}");
        assert!(result["fuel"].as_u64().unwrap() > 0, "{result}");
    }

    let report = place
        .run(["tune", "report", "found", "--output", "json"])
        .ok();
    let report: Json = serde_json::from_str(&report).unwrap();
    assert_eq!(report["evaluations"], 13);
    assert_eq!(report["best"].as_array().unwrap().len(), 3);
    for picture in ["convergence.svg", "convergence-time.svg", "ranking.svg"] {
        let svg = fs::read_to_string(place.path().join("found").join(picture)).unwrap();
        assert!(svg.starts_with("<svg"), "{picture}");
    }
    // A search is not written over by accident.
    place
        .run(hyperband(&place, PARABOLA, "found"))
        .fails(2, "is there already");
}

/// Case 28: crashed evaluations.
#[test]
fn case_28_what_crashes_is_recorded_and_never_promoted() {
    let place = place();
    let space = format!("{PARABOLA}[parameters.crash]\ntype = 'constant'\nvalue = 0.5\n");
    let args = hyperband(&place, &space, "found");
    place
        .run(with(&args, &["--local", "--sampler", "random"]))
        .ok();
    let results = results(&place, "found");
    let crashed = results.iter().filter(|r| r["crashed"].is_string());
    let crashed: Vec<&Json> = crashed.collect();
    assert!(!crashed.is_empty(), "half of the range crashes");
    for result in crashed {
        assert!(
            result["crashed"].as_str().unwrap().contains("x is"),
            "{result}"
        );
        let again = results
            .iter()
            .filter(|other| other["id"] == result["id"])
            .count();
        assert_eq!(again, 1, "{result}");
    }
    assert_eq!(results.len(), 13, "every bracket ends");
}

/// Case 29, and the same trace whatever the workers do.
#[test]
fn case_29_a_search_that_was_killed_goes_on_with_the_same_evaluations() {
    let place = place();
    let space = format!("{PARABOLA}[parameters.sleep]\ntype = 'constant'\nvalue = 300\n");
    let timed = |dir| {
        with(
            &hyperband(&place, &space, dir),
            &["--profile", "timed", "--deterministic"],
        )
    };
    place
        .run(with(&timed("whole"), &["--local", "--slots", "4"]))
        .ok();
    let whole = results(&place, "whole");
    assert_eq!(whole.len(), 13);

    let _coordinator = place.coordinator(&[]);
    let _workers = [place.worker("a", &[]), place.worker("b", &[])];
    let search = place.start(timed("cut"));
    wait_for("some results", || results(&place, "cut").len() >= 4);
    search.kill();
    let before = results(&place, "cut").len();
    assert!(before < 13);
    place.run(with(&timed("cut"), &["--resume"])).ok();
    let cut = results(&place, "cut");
    assert_eq!(cut.len(), 13);
    assert_eq!(keys(&cut).len(), 13, "nothing is evaluated twice");
    assert_eq!(found(&cut), found(&whole));
    // Another search cannot go on from it.
    let other = timed("cut")
        .into_iter()
        .map(|a| if a == "7" { "8".to_owned() } else { a });
    let other: Vec<String> = other.collect();
    place.run(with(&other, &["--resume"])).fails(2, "seed");
}

/// Case 28: a worker that is killed costs an evaluation nothing.
#[test]
fn case_28_evaluations_of_a_killed_worker_are_run_again() {
    let place = place();
    let space = format!("{PARABOLA}[parameters.sleep]\ntype = 'constant'\nvalue = 500\n");
    let _coordinator = place.coordinator(&["--lease", "1s"]);
    let victim = place.worker("victim", &[]);
    let _other = place.worker("other", &[]);
    let args = hyperband(&place, &space, "found");
    let mut search = place.start(with(&args, &["--profile", "timed", "--min-workers", "2"]));
    wait_for("some results", || results(&place, "found").len() >= 2);
    victim.signal(Signal::KILL);
    wait_for("the search", || !search.is_running());
    let results = results(&place, "found");
    assert_eq!(results.len(), 13);
    assert!(
        results.iter().all(|r| r["crashed"].is_null()),
        "{results:?}"
    );
}

#[test]
fn another_program_may_propose_parameters() {
    let place = place();
    // Answers every question with the same x.
    let program = place.file(
        "propose.sh",
        "while read line; do case \"$line\" in *ask*) echo '{\"config\":{\"x\":0.25}}';; esac; done\n",
    );
    let program = format!("sh {}", program.display());
    let args = hyperband(&place, PARABOLA, "found");
    place
        .run(with(&args, &["--local", "--optimizer", &program]))
        .ok();
    let results = results(&place, "found");
    assert!(
        results.iter().all(|r| r["config"]["x"] == 0.25),
        "{results:?}"
    );
}
