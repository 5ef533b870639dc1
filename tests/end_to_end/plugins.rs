//! The built-in plugins on real problems, here and through a coordinator.

use serde_json::Value as Json;

use crate::{data, place};

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
        match problem["objective"].as_f64() {
            Some(published) => {
                let tolerance = problem["rtol"].as_f64().unwrap() * published.abs().max(1.0);
                let objective = answer["objective"].as_f64().unwrap_or(f64::NAN);
                assert_eq!(status, "optimal", "{answer}");
                assert!((objective - published).abs() <= tolerance, "{answer}");
            }
            None => assert!(status.starts_with("infeasible"), "{answer}"),
        }
    }
}

#[test]
fn published_answers_here_and_elsewhere() {
    let place = place();
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
fn solutions_are_written_where_asked() {
    let place = place();
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
fn plugins_tell_about_themselves() {
    let place = place();
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
