//! The forms in which inputs come and results go.

use std::fs;

use serde_json::Value as Json;

use crate::{guest, place};

#[test]
fn files_directories_lines_and_stdin() {
    let place = place();
    let echo = guest("echo");
    let folder = place.path().join("folder");
    fs::create_dir(&folder).unwrap();
    for (name, text) in [("b.txt", "beta"), ("a.txt", "alpha"), (".hidden", "no")] {
        fs::write(folder.join(name), text).unwrap();
    }
    let folder = folder.display().to_string();
    let single = place.file("single", "one\r\n\ntwo\n");
    let single = single.display().to_string();
    let run = |args: &[&str], input: &[u8]| {
        let fixed = ["run", "--local", &echo];
        place.run_on(fixed.iter().chain(args), input).ok()
    };
    assert_eq!(run(&[], b"from stdin"), "from stdin");
    assert_eq!(run(&[&folder], b""), "alpha\nbeta\n");
    assert_eq!(run(&[&single, "--each-line"], b""), "one\ntwo\n");
    assert_eq!(run(&["-", &folder], b"first"), "first\nalpha\nbeta\n");
    assert_eq!(run(&[&single], b""), "one\r\n\ntwo\n");

    let out = place.path().join("out");
    let out_dir = out.display().to_string();
    assert_eq!(run(&[&folder, "--out-dir", &out_dir], b""), "");
    assert_eq!(fs::read_to_string(out.join("a.txt.out")).unwrap(), "alpha");
    assert_eq!(
        run(&[&single, "--each-line", "--out-dir", &out_dir], b""),
        ""
    );
    assert_eq!(fs::read_to_string(out.join("1.out")).unwrap(), "two");
}

#[test]
fn formats_for_programs_and_people() {
    let place = place();
    let sum = guest("sum");
    let run = |format: &str| {
        let args = ["run", "--local", &sum, "--jsonl", "--output", format];
        place.run_on(args, b"[1, 2]\n[0.5]\n").ok()
    };
    let lines: Vec<Json> = run("jsonl")
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(lines[0]["schema"], "optwasm.result/1");
    assert_eq!(lines[0]["output"]["sum"], 3.0);
    assert_eq!(
        (&lines[1]["index"], &lines[1]["outcome"]),
        (&1.into(), &"ok".into())
    );
    let document: Json = serde_json::from_str(&run("json")).unwrap();
    assert_eq!(document["results"][1]["output"]["sum"], 0.5);
    assert!(run("table").starts_with(" JOB"));
    assert_eq!(run("quiet"), "");
    let plain = place
        .run_on(["run", "--local", &sum, "--jsonl"], b"[1, 2]\n[0.5]\n")
        .ok();
    assert_eq!(
        serde_json::from_str::<Json>(plain.lines().next().unwrap()).unwrap()["sum"],
        3.0
    );
}

#[test]
fn results_here_and_on_a_coordinator_are_the_same_bytes() {
    let place = place();
    let echo = guest("echo");
    let lines: String = (0..3000).map(|i| format!("line {i}\n")).collect();
    let large = place.file("large", vec![b'z'; 5 << 20]);
    let large = large.display().to_string();
    let local = place.run_on(["run", "--local", &echo, "--each-line"], lines.as_bytes());
    let local_large = place.run(["run", "--local", &echo, &large]);
    let _coordinator = place.coordinator(&[]);
    let _workers = [place.worker("a", &[]), place.worker("b", &[])];
    let remote = place.run_on(["run", &echo, "--each-line"], lines.as_bytes());
    assert_eq!(local.ok(), lines);
    assert_eq!(remote.ok(), lines);
    let remote_large = place.run(["run", &echo, &large]);
    remote_large.ok();
    assert!(remote_large.bytes() == local_large.bytes());

    // The same through submit, watch, wait and results.
    let args = [
        "submit",
        &echo,
        "--each-line",
        "--name",
        "again",
        "--output",
        "json",
    ];
    let batch = place.run_on(args, lines.as_bytes()).json()["batch"].to_string();
    place.run(["wait", &batch]).ok();
    assert!(
        place
            .run(["watch", &batch])
            .ok()
            .contains("3000/3000 done: 3000 ok")
    );
    assert_eq!(place.run(["results", &batch]).ok(), lines);
    let completed = place
        .run(["results", &batch, "--as-completed", "--follow"])
        .ok();
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&completed), sorted(&lines));
    let listed = place.run(["jobs", "--output", "json"]).json();
    let listed = listed["batches"].as_array().unwrap();
    assert!(
        listed
            .iter()
            .any(|b| b["name"] == "again" && b["state"] == "done")
    );
    place.run(["rm", &batch]).ok();
    place.run(["results", &batch]).fails(3, "no batch");
}

#[test]
fn completions_manual_and_check() {
    let place = place();
    assert!(place.run(["completions", "bash"]).ok().contains("optwasm"));
    let manual = place.run(["man"]).ok();
    assert!(manual.contains(".TH optwasm 1"), "{manual}");
    let checked = place
        .run(["check", &guest("sum"), "--output", "json"])
        .json();
    assert_eq!(checked["kind"], "SDK guest");
    assert_eq!(checked["abi"]["abi"], 1);
    let plain = place.run(["check", &guest("plain")]).ok();
    assert!(
        plain.contains("plain command") && plain.contains("empty run: ok"),
        "{plain}"
    );
}
