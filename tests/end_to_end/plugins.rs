//! The built-in plugins on real problems, here and through a coordinator.

use serde_json::Value as Json;

use crate::{data, place_with_solvers};

fn problems() -> Vec<Json> {
    let manifest = std::fs::read(data("manifest.json")).unwrap();
    serde_json::from_slice(&manifest).unwrap()
}

fn check(answers: &str) {
    let problems = problems();
    let answers: Vec<Json> = answers
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(answers.len(), problems.len());
    for problem in &problems {
        // Answers come as the solves end.
        let file = data(problem["file"].as_str().unwrap());
        let answer = answers
            .iter()
            .find(|answer| answer["file"] == file)
            .unwrap();
        let status = answer["status"].as_str().unwrap();
        assert_eq!(answer["plugin"], problem["plugin"], "{answer}");
        assert_eq!(status, problem["status"], "{answer}");
        match problem["objective"].as_f64() {
            Some(published) => {
                let tolerance = problem["rtol"].as_f64().unwrap() * published.abs().max(1.0);
                let objective = answer["objective"].as_f64().unwrap_or(f64::NAN);
                assert!((objective - published).abs() <= tolerance, "{answer}");
            }
            None => assert!(answer["objective"].is_null(), "{answer}"),
        }
    }
}

#[test]
fn published_answers_here_and_elsewhere() {
    let place = place_with_solvers();
    let files: Vec<String> = problems()
        .iter()
        .map(|problem| data(problem["file"].as_str().unwrap()))
        .collect();
    let solve = |extra: &[&str]| {
        let mut args = vec!["solve", "--output", "jsonl"];
        args.extend(extra);
        args.extend(files.iter().map(String::as_str));
        place.run(args).ok()
    };
    let local = solve(&["--local"]);
    check(&local);
    let _coordinator = place.coordinator(&[]);
    let _workers = [place.worker("a", &[]), place.worker("b", &[])];
    let remote = solve(&[]);
    check(&remote);
    // Same job, same fuel, wherever it ran.
    let fuels = |answers: &str| -> Vec<u64> {
        let rows = answers
            .lines()
            .map(|l| serde_json::from_str::<Json>(l).unwrap());
        let mut fuels: Vec<u64> = rows.map(|row| row["fuel"].as_u64().unwrap()).collect();
        fuels.sort_unstable();
        fuels
    };
    assert_eq!(fuels(&local), fuels(&remote));
}

#[test]
fn semicontinuous_variables_are_solved() {
    let place = place_with_solvers();
    let file = place.path().join("semi.lp");
    // x is 0 or at least 2, so that y has to do it; a relaxation would say 1.
    let model = "minimize\n c: x + 1.5 y\nsubject to\n r: x + y >= 1\nbounds\n 2 <= x <= 10\n\
                 semi-continuous\n x\nend\n";
    std::fs::write(&file, model).unwrap();
    let file = file.display().to_string();
    let answer = place
        .run(["solve", "--local", "--output", "json", &file])
        .ok();
    let answer: Json = serde_json::from_str(&answer).unwrap();
    // HiGHS may use its feasibility tolerance.
    let objective = answer["objective"].as_f64().unwrap();
    assert!((objective - 1.5).abs() < 1e-5, "{answer}");
    let refused = place.run(["solve", "--local", "--plugin", "linear", &file]);
    let why = refused.stderr();
    assert!(why.contains("semi-continuous variables"), "{why}");
}

#[test]
fn solutions_are_written_where_asked() {
    let place = place_with_solvers();
    let solution = place.path().join("solution.json");
    let text = place.path().join("solution.txt");
    let afiro = data("afiro.mps");
    for path in [&solution, &text] {
        let path = path.display().to_string();
        let table = place
            .run(["solve", "--local", &afiro, "--solution", &path])
            .ok();
        assert!(
            table.contains("optimal") && table.contains("-464.75314"),
            "{table}"
        );
    }
    let written: Json = serde_json::from_slice(&std::fs::read(solution).unwrap()).unwrap();
    assert_eq!(written["status"], "optimal");
    assert!(written["values"].as_array().unwrap().len() >= 32);
    assert!(
        std::fs::read_to_string(text)
            .unwrap()
            .starts_with("status optimal\nobjective -464.7531")
    );
}

#[test]
fn highs_relaxes_and_starts_from_what_is_known() {
    let place = place_with_solvers();
    let lseu = data("lseu.mps");
    let relaxed = [
        "solve",
        "--local",
        &lseu,
        "-o",
        "solve_relaxation=on",
        "--output",
        "json",
    ];
    let relaxed = place.run(relaxed).json();
    assert_eq!(relaxed["status"], "optimal");
    // The optimum of the relaxation, from the MIPLIB 3 catalogue.
    assert!(
        (relaxed["objective"].as_f64().unwrap() - 834.68).abs() < 0.01,
        "{relaxed}"
    );
    assert!(
        relaxed["bound"].is_null() && relaxed["gap"].is_null(),
        "{relaxed}"
    );
    place
        .run(["solve", "--local", &lseu, "--solution", "best.txt"])
        .ok();
    let log = |args: &[&str]| {
        let mut all = vec![
            "run",
            "--local",
            "highs",
            &lseu,
            "--arg",
            "log_to_console=true",
        ];
        all.extend(args);
        let row = place
            .run(all.into_iter().chain(["--output", "jsonl"]))
            .json();
        assert_eq!(row["output"]["objective"].as_f64().unwrap().round(), 1120.0);
        row["log"].to_string()
    };
    assert!(!log(&[]).contains("MIP start solution is feasible"));
    assert!(log(&["--blob", "start=best.txt"]).contains("MIP start solution is feasible"));
    place.file("other.txt", "nonsense 1\n");
    let args = ["solve", "--local", &lseu, "--blob", "start=other.txt"];
    place.run(args).fails(20, "names no variable of the model");
}

/// A day of an IEEE network: 24 hours as one batch on three workers, the network sent once.
#[test]
fn case_33_hours_of_a_day_are_one_batch() {
    /// Loads of a winter weekday in per cent of the peak: IEEE Reliability Test System 1996.
    const LOADS: [u32; 24] = [
        67, 63, 60, 59, 59, 60, 74, 86, 95, 96, 96, 95, 95, 95, 93, 94, 99, 100, 100, 96, 91, 83,
        73, 63,
    ];
    // Optima that Ipopt found, in $/h.
    const AC: [f64; 24] = [
        1429.074, 1340.509, 1274.390, 1252.413, 1252.413, 1274.390, 1585.174, 1856.163, 2062.333,
        2085.411, 2085.411, 2062.333, 2062.333, 2062.333, 2016.286, 2039.292, 2154.861, 2178.080,
        2178.080, 2085.411, 1970.379, 1788.007, 1562.786, 1340.509,
    ];
    const DC_SUM: f64 = 40866.404;
    let place = place_with_solvers();
    let _coordinator = place.coordinator(&[]);
    let _workers = ["a", "b", "c"].map(|name| place.worker(name, &[]));
    let case = data("../../plugins/opf/tests/data/pglib_opf_case14_ieee.m");
    let solve = |formulation: &str| -> Vec<f64> {
        let lines = LOADS.map(|load| {
            format!(
                "load_scale={} formulation={formulation}\n",
                f64::from(load) / 100.0
            )
        });
        let inputs = place
            .file("hours.txt", lines.concat())
            .display()
            .to_string();
        let blob = format!("case={case}");
        let args = [
            "run",
            "opf",
            "--blob",
            &blob,
            "--each-line",
            &inputs,
            "--output",
            "jsonl",
        ];
        let rows = place.run(args).ok();
        let rows = rows
            .lines()
            .map(|row| serde_json::from_str::<Json>(row).unwrap());
        rows.map(|row| {
            assert_eq!(row["output"]["status"], "optimal", "{row}");
            row["output"]["objective"].as_f64().unwrap()
        })
        .collect()
    };
    let hours = solve("ac");
    assert_eq!(hours.len(), 24);
    for (hour, (found, expected)) in hours.iter().zip(AC).enumerate() {
        assert!(
            (found - expected).abs() <= 1e-5 * expected,
            "hour {hour}: {found}"
        );
    }
    let sum: f64 = solve("dc").iter().sum();
    assert!((sum - DC_SUM).abs() <= 1e-5 * DC_SUM, "{sum}");
}

#[test]
fn plugins_tell_about_themselves() {
    let place = place_with_solvers();
    let plugins = place.run(["plugins", "--output", "json"]).json();
    let plugins = plugins["plugins"].as_array().unwrap();
    for name in ["highs", "conic", "nlp", "least-squares"] {
        let plugin = plugins
            .iter()
            .find(|plugin| plugin["name"] == name)
            .unwrap();
        assert!(!plugin["options"].as_array().unwrap().is_empty(), "{name}");
        assert!(plugin["linked"].as_array().unwrap().len() > 3, "{name}");
        let alone = place.run(["plugins", name, "--output", "json"]).json();
        assert_eq!(&alone, plugin);
    }
    let text = place.run(["plugins", "highs"]).ok();
    for word in [
        "mip_rel_gap",
        "a number from 0",
        "0.0001",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    place
        .run(["plugins", "nonsense"])
        .fails(3, "no plugin `nonsense`");
}
