//! Many scenarios, and runs that end before their end.

use std::fs::{self, File};

use optwasm_tests::cluster::wait_for;

use super::{assert_near, farmer, rows};
use crate::place_with_solvers;

/// More than a batch names blobs, and more jobs at a time than batches are open.
#[test]
fn a_thousand_scenarios_and_more() {
    let place = place_with_solvers();
    let mut tree = "[[node]]\nname = 'root'\nvariables = ['x']\n".to_owned();
    for demand in 0..1100 {
        let model = format!(
            "min\n x + 3 y\nst\n c: x + y >= {demand}\nbounds\n x <= 2000\n y <= 2000\nend\n"
        );
        place.file(&format!("{demand}.lp"), model);
        tree.push_str(&format!(
            "[[scenario]]\nname = 's{demand}'\nmodel = '{demand}.lp'\n"
        ));
    }
    let tree = place.file("many.toml", tree).display().to_string();
    let args = ["ph", "run", "--local", "--solver", "linear"];
    let args = args
        .into_iter()
        .chain(["--max-iterations", "0", "--output", "json", &tree]);
    let result = place.run(args).json();
    assert_eq!(result["status"], "iteration_limit", "{result}");
    // Each by itself orders its demand now, at 1 each. An order for all is best at two thirds of the
    // largest demand: then one more is needed with probability 1/3, for 3. That costs 916.67.
    assert_near(result["outer"].as_f64().unwrap(), 549.5, 1e-6);
    assert_near(result["first_stage"]["x"].as_f64().unwrap(), 549.5, 0.6);
    let objective = result["objective"].as_f64().unwrap();
    assert!((916.0..963.0).contains(&objective), "{result}");
}

#[test]
fn a_run_that_cannot_print_ends_and_leaves_its_weights() {
    let place = place_with_solvers();
    let tree = farmer(&place);
    let args = [
        "ph",
        "run",
        "--local",
        "--log",
        "log.csv",
        "--write-w",
        "w.csv",
        "--write-x",
        "x.csv",
        &tree,
    ];
    let full = File::options().write(true).open("/dev/full").unwrap();
    let status = place.command(args).stdout(full).status().unwrap();
    assert_eq!(status.code(), Some(10));
    // The first step could not be printed, and no other was made.
    assert!(rows(&place, "log.csv").len() <= 1);
    for (file, lines) in [("w.csv", 1 + 3 * 3), ("x.csv", 1 + 3)] {
        let text = fs::read_to_string(place.path().join(file)).unwrap();
        assert_eq!(text.lines().count(), lines, "{file}: {text}");
    }
}

#[test]
fn a_run_that_loses_its_coordinator_leaves_its_weights() {
    let place = place_with_solvers();
    let tree = farmer(&place);
    let coordinator = place.coordinator(&[]);
    let _worker = place.worker("w", &[]);
    let args = [
        "ph",
        "run",
        "--patience",
        "1s",
        "--stop",
        "never",
        "--max-iterations",
        "1000000",
        "--log",
        "log.csv",
        "--write-w",
        "w.csv",
        "--write-x",
        "x.csv",
        &tree,
    ];
    let mut run = place.start(args);
    wait_for("some iterations", || {
        assert!(run.is_running(), "{}", run.log());
        rows(&place, "log.csv").len() >= 3
    });
    coordinator.kill();
    assert_eq!(run.wait().code(), Some(4), "{}", run.log());
    // What it leaves is that of the last step, from which another run goes on.
    let last = rows(&place, "log.csv").pop().unwrap();
    let args = [
        "ph",
        "run",
        "--local",
        "--warm-start-w",
        "w.csv",
        "--warm-start-x",
        "x.csv",
        "--log",
        "rest.csv",
        "--max-iterations",
        "1",
        &tree,
    ];
    place.run(args).ok();
    let rest = rows(&place, "rest.csv");
    assert!(rest[0]["dual"].is_finite(), "{rest:?}");
    assert!(last["iteration"] >= 2.0, "{last:?}");
}

#[test]
fn a_run_waits_for_the_workers_that_it_is_to_have() {
    let place = place_with_solvers();
    let tree = farmer(&place);
    let two = ["ph", "run", "--min-workers", "2", "--max-iterations", "1"];
    let with = |more: &[&'static str]| {
        let args: Vec<String> = two.iter().chain(more).map(|&arg| arg.to_owned()).collect();
        args.into_iter().chain([tree.clone()])
    };
    place
        .run(with(&["--local"]))
        .fails(2, "--min-workers: there are no workers but this process");
    let _coordinator = place.coordinator(&[]);
    let _first = place.worker("first", &[]);
    place
        .run(with(&["--wait-timeout", "2s"]))
        .fails(6, "workers are connected; 2 are needed");
    let mut run = place.start(with(&[]));
    wait_for("a word about workers", || {
        run.log().contains("waiting for 2 workers")
    });
    assert!(run.is_running(), "{}", run.log());
    let _second = place.worker("second", &[]);
    assert!(run.wait().success(), "{}", run.log());
}

/// Which of 60 things to take, by nearly equal values and weights: branch and bound finds good
/// choices at once, and does not prove the best one with this fuel.
#[test]
fn what_is_found_before_a_limit_is_gone_on_with() {
    let place = place_with_solvers();
    let mut tree = "[[node]]\nname = 'root'\nvariables = ['x0', 'x1', 'x2']\n".to_owned();
    for (name, shift) in [("a", 0_u64), ("b", 17)] {
        let mut model = "max\n".to_owned();
        let mut rows = vec![String::new(); 6];
        let mut state = 1 + shift;
        let mut random = |range: u64| {
            // Knuth's generator; any would do.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            100 + (state >> 33) % range
        };
        for column in 0..60 {
            model.push_str(&format!(" + {} x{column}", random(40)));
            for row in &mut rows {
                row.push_str(&format!(" + {} x{column}", random(900)));
            }
        }
        model.push_str("\nst\n");
        for (index, row) in rows.iter().enumerate() {
            model.push_str(&format!(" r{index}:{row} <= 15000\n"));
        }
        model.push_str("binaries\n");
        for column in 0..60 {
            model.push_str(&format!(" x{column}"));
        }
        place.file(&format!("{name}.lp"), model + "\nend\n");
        tree.push_str(&format!(
            "[[scenario]]\nname = '{name}'\nmodel = '{name}.lp'\n"
        ));
    }
    let tree = place.file("things.toml", tree).display().to_string();
    let run = |more: &[&str]| {
        let args = [
            "ph", "run", "--local", "--fuel", "1G", "--output", "json", &tree,
        ];
        place.run(args.iter().chain(more)).json()
    };
    let hedged = run(&["--max-iterations", "1"]);
    let objective = hedged["objective"].as_f64().unwrap();
    let outer = hedged["outer"].as_f64().unwrap();
    assert!(0.0 < objective && objective < outer, "{hedged}");
    assert!(outer < 1.2 * objective, "{hedged}");
    let whole = run(&["--extensive"]);
    assert_eq!(whole["status"], "fuel_limit", "{whole}");
    assert!(whole["objective"].as_f64().unwrap() <= outer, "{whole}");
}
