//! Multi-fidelity search with real workers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
    // Its clock goes on where it was.
    let finished = |result: &Json| result["finished"].as_f64().unwrap();
    let told = cut[..before].iter().map(finished).fold(0.0, f64::max);
    assert!(cut[before..].iter().all(|result| finished(result) > told));
    // Another search cannot go on from it.
    let other = timed("cut")
        .into_iter()
        .map(|a| if a == "7" { "8".to_owned() } else { a });
    let other: Vec<String> = other.collect();
    place.run(with(&other, &["--resume"])).fails(2, "seed");
    let mut other = timed("cut");
    other[2] = guest("noop");
    let other = place.run(with(&other, &["--resume"]));
    other.fails(2, "another search: objective is");
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
    // There will never be two.
    let other = hyperband(&place, PARABOLA, "other");
    place
        .run(with(&other, &["--local", "--min-workers", "2"]))
        .fails(2, "there are no workers but this process");
    let results = results(&place, "found");
    assert!(
        results.iter().all(|r| r["config"]["x"] == 0.25),
        "{results:?}"
    );
}

/// The arguments of a search without small budgets, which is the default.
fn plain(place: &Place, space: &str, dir: &str) -> Vec<String> {
    let space = place.file("space.toml", space).display().to_string();
    let objective = guest("objective");
    ["tune", &space, &objective, "--dir", dir, "--memo", "off"]
        .map(str::to_owned)
        .to_vec()
}

/// Each slot is freed by itself, so that more batches are open than a connection has streams.
#[test]
fn many_slots_with_evaluations_of_different_length_are_all_kept_busy() {
    let place = place();
    let space = format!("{PARABOLA}[parameters.sleep]\ntype = 'int'\nlow = 5\nhigh = 800\n");
    let _coordinator = place.coordinator(&[]);
    let mut worker = place.start(["worker", "--slots", "60", "--name", "wide"]);
    wait_for("the worker", || {
        assert!(worker.is_running(), "it ended: {}", worker.log());
        worker.log().contains("connected to")
    });
    let args = plain(&place, &space, "found");
    let args = with(
        &args,
        &[
            "--profile",
            "timed",
            "--sampler",
            "random",
            "--memory",
            "16MiB",
        ],
    );
    let table = place.run(with(&args, &["--evaluations", "400"])).ok();
    assert!(table.contains("400 evaluations, 0 of them"), "{table}");
    assert_eq!(keys(&results(&place, "found")).len(), 400);
    let jobs = place.run(["jobs", "--output", "json"]).json();
    assert_eq!(jobs["batches"].as_array().map(Vec::len), Some(0), "{jobs}");
}

#[test]
fn thousands_of_short_evaluations_end() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let _workers = [place.worker("a", &[]), place.worker("b", &[])];
    let args = hyperband(&place, PARABOLA, "found");
    let args: Vec<String> = args
        .into_iter()
        .map(|arg| if arg == "3" { "2000".to_owned() } else { arg })
        .collect();
    let args = with(
        &args,
        &[
            "--evaluations",
            "6000",
            "--sampler",
            "random",
            "--output",
            "quiet",
        ],
    );
    place.run(args).ok();
    assert_eq!(keys(&results(&place, "found")).len(), 6000);
}

#[test]
fn a_search_with_one_budget_is_reported_too() {
    let place = place();
    let args = plain(&place, PARABOLA, "found");
    place
        .run(with(&args, &["--local", "--evaluations", "5"]))
        .ok();
    let table = place.run(["tune", "report", "found"]).ok();
    assert!(table.contains("x="), "{table}");
    assert!(table.contains("convergence.svg"), "{table}");
    assert!(!table.contains("ranking.svg"), "{table}");

    // One in which everything crashes.
    let space = format!("{PARABOLA}[parameters.crash]\ntype = 'constant'\nvalue = 2.0\n");
    let args = plain(&place, &space, "crashed");
    let ran = place.run(with(&args, &["--local", "--evaluations", "3"]));
    assert_eq!(ran.code(), 1, "{}", ran.stderr());
    let report = place.run(["tune", "report", "crashed", "--output", "json"]);
    let report = report.json();
    assert_eq!(report["evaluations"], 3);
    assert_eq!(
        (&report["best"], &report["pictures"]),
        (&serde_json::json!([]), &serde_json::json!([]))
    );
}

#[test]
fn a_program_that_proposes_nothing_is_not_waited_for() {
    let place = place();
    let args = plain(&place, PARABOLA, "found");
    let args = with(&args, &["--local", "--optimizer", "sleep 1000; true"]);
    let ran = place.run(with(&args, &["--time", "1s"]));
    assert_eq!(ran.code(), 1, "{}", ran.stderr());
    // It is asked once it has been started.
    let program = place.file("ask.sh", "read start; read ask; touch asked; sleep 1000\n");
    let program = format!("sh {}", program.display());
    let args = with(
        &plain(&place, PARABOLA, "other"),
        &["--local", "--optimizer", &program],
    );
    let mut search = place.start(with(&args, &["--evaluations", "5"]));
    wait_for("a question", || place.path().join("asked").exists());
    search.signal(Signal::TERM);
    wait_for("its end", || !search.is_running());
    assert!(
        search.log().contains("stopped. Go on with"),
        "{}",
        search.log()
    );
}

#[test]
fn another_program_hears_every_result_and_ends_by_itself() {
    let place = place();
    let program = place.file(
        "propose.sh",
        "while read line; do echo \"$line\" >> heard; case \"$line\" in *ask*) echo \
         '{\"config\":{\"x\":0.25}}';; esac; done; sleep 1; echo '{\"type\":\"end\"}' >> heard\n",
    );
    let program = format!("sh {}; true", program.display());
    let args = plain(&place, PARABOLA, "found");
    let args = with(
        &args,
        &["--local", "--optimizer", &program, "--evaluations", "7"],
    );
    place.run(args).ok();
    let heard = lines(&place.path().join("heard"));
    let kinds = |kind: &str| heard.iter().filter(|line| line["type"] == kind).count();
    assert_eq!(
        [kinds("start"), kinds("ask"), kinds("tell"), kinds("end")],
        [1, 7, 7, 1]
    );
    assert_eq!(heard.last().unwrap()["type"], "end");
}

#[test]
fn two_processes_do_not_write_one_journal() {
    let place = place();
    let space = format!("{PARABOLA}[parameters.sleep]\ntype = 'constant'\nvalue = 100\n");
    let args = plain(&place, &space, "found");
    let args = with(
        &args,
        &[
            "--local",
            "--profile",
            "timed",
            "--time",
            "300000000000years",
        ],
    );
    let search = place.start(&args);
    wait_for("a result", || !results(&place, "found").is_empty());
    place
        .run(with(&args, &["--resume"]))
        .fails(2, "another process is searching in found");
    search.signal(Signal::TERM);
    let mut search = search;
    wait_for("its end", || !search.is_running());
    place
        .run(with(
            &args[..7],
            &[
                "--local",
                "--profile",
                "timed",
                "--resume",
                "--evaluations",
                "1",
            ],
        ))
        .ok();
}

#[test]
fn searches_that_follow_one_another_learn_from_all_before() {
    let place = place();
    let run = |dir: &str, more: &[&str]| {
        let args = plain(&place, PARABOLA, dir);
        place
            .run(with(&with(&args, &["--local", "--evaluations", "3"]), more))
            .ok();
        let journal = lines(&place.path().join(dir).join("journal.jsonl"));
        journal
            .iter()
            .filter(|line| line["event"] == "known")
            .count()
    };
    assert_eq!(run("first", &[]), 0);
    assert_eq!(run("second", &["--warm-start", "first"]), 3);
    assert_eq!(run("third", &["--warm-start", "second/journal.jsonl"]), 6);
    assert_eq!(results(&place, "third").len(), 3);
}

/// A batch that is evaluated while a program thinks is followed all the while: for longer than a link
/// may be silent and an attached batch be alone.
#[test]
fn evaluations_go_on_while_another_program_thinks() {
    let place = place();
    let space = format!("{PARABOLA}[parameters.sleep]\ntype = 'constant'\nvalue = 22000\n");
    let program = place.file(
        "think.sh",
        "while read line; do case \"$line\" in *ask*) test -e first && sleep 1000; touch first; echo \
         '{\"config\":{\"x\":0.25,\"sleep\":22000}}';; esac; done\n",
    );
    let _coordinator = place.coordinator(&[]);
    let _worker = place.worker("a", &[]);
    let program = format!("sh {}", program.display());
    let args = with(
        &plain(&place, &space, "found"),
        &["--profile", "timed", "--optimizer", &program],
    );
    let mut search = place.start(with(&args, &["--parallel", "2", "--evaluations", "2"]));
    let batches = || {
        std::thread::sleep(Duration::from_millis(500));
        let jobs = place.run(["jobs", "--output", "json"]).json();
        jobs["batches"].as_array().unwrap().clone()
    };
    wait_for("the evaluation", || !batches().is_empty());
    wait_for("its end", || {
        let batches = batches();
        for batch in &batches {
            assert!(batch["outcomes"]["cancelled"].is_null(), "{batch}");
        }
        batches.is_empty()
    });
    search.signal(Signal::TERM);
    wait_for("the search", || !search.is_running());
}
