//! What guests and their submitters see of each other.

use serde_json::{Value as Json, json};

use crate::{guest, place};

fn run_json(name: &str, input: &Json, extra: &[&str]) -> Json {
    let place = place();
    let guest = guest(name);
    let args = ["run", "--local", &guest, "--json", "--output", "json"];
    let ran = place.run_on(args.iter().chain(extra), input.to_string().as_bytes());
    ran.json()["results"][0].clone()
}

#[test]
fn failures_arrive_with_all_that_is_known() {
    let panic = run_json("panics", &json!("ouch"), &[]);
    let error = panic["error"].as_str().unwrap();
    assert!(
        error.contains("panics.rs:") && error.contains("ouch"),
        "{error}"
    );
    let frames = panic["frames"].to_string();
    assert!(frames.contains("fail_deeply"), "{frames}");

    let error = run_json("errors", &json!("x"), &[]);
    assert_eq!(error["code"], 1);
    let chain = error["chain"].to_string();
    assert!(
        chain.contains("cannot read the bounds") && chain.contains("is no number"),
        "{chain}"
    );
    assert_eq!(run_json("errors", &json!("code:77"), &[])["code"], 77);

    let trap = run_json("deep_trap", &json!(3), &[]);
    assert_eq!(trap["outcome"], "trap");
    assert!(trap["frames"].as_array().unwrap().len() >= 3, "{trap}");
}

#[test]
fn logs_incumbents_and_progress_come_back() {
    let say = json!({"logs": 3, "progress": 2, "incumbents": 4, "checkpoints": 1, "print": 5, "panic": false});
    let result = run_json("chatty", &say, &[]);
    assert_eq!(result["output"], 10);
    let log = result["log"].to_string();
    assert!(log.contains("message 2") && log.contains("xxxxx"), "{log}");
    assert_eq!(result["incumbent"]["objective"], 1.0);
    assert_eq!(result["incumbent"]["bound"], 0.0);
    // The incumbent outlives a failure.
    let mut failing = say.clone();
    failing["panic"] = true.into();
    let result = run_json("chatty", &failing, &[]);
    assert_eq!(result["outcome"], "panic");
    assert_eq!(result["incumbent"]["objective"], 1.0);
    // A flood is cut and counted.
    let flood = json!({"logs": 10000, "progress": 0, "incumbents": 0, "checkpoints": 0, "print": 0, "panic": false});
    let result = run_json("chatty", &flood, &["--max-log", "1KiB"]);
    assert!(result["log_dropped"].as_u64().unwrap() > 9000, "{result}");
}

#[test]
fn time_and_randomness_are_the_jobs_own() {
    let once = run_json("random", &json!(null), &[]);
    let again = run_json("random", &json!(null), &[]);
    assert_eq!(once["outcome"], "ok", "{once}");
    assert_eq!(once["output"], again["output"]);
    assert_eq!(once["fuel"], again["fuel"]);
    let other = run_json("random", &json!(null), &["--seed", "7"]);
    assert_ne!(once["output"]["bytes"], other["output"]["bytes"]);
    let timed = run_json("random", &json!(null), &["--profile", "timed"]);
    assert_ne!(once["output"]["wall_ns"], timed["output"]["wall_ns"]);
    // A month passes at once.
    let slept = run_json("sleeper", &json!(2_592_000_000u64), &["--deadline", "20s"]);
    assert!(
        slept["output"].as_u64().unwrap() >= 2_592_000_000,
        "{slept}"
    );
}

#[test]
fn shared_data_is_read_by_name() {
    let place = place();
    let data = place.file("data", vec![b'a'; 3 << 20]);
    let blobs = guest("blobs");
    let shared = format!("table={}", data.display());
    let args = ["run", "--local", &blobs, "--jsonl", "--blob", &shared];
    let ran = place.run_on(args, b"\"table\"\n\"table\"\n");
    let lines = ran.ok();
    let lines: Vec<Json> = lines
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["len"], 3 << 20);
    assert_eq!(lines[0], lines[1]);
    place
        .run_on(["run", "--local", &blobs, "--json"], b"\"nothing\"")
        .fails(20, "no blob named nothing");
}

#[test]
fn plain_programs_and_c_programs_are_guests_too() {
    let place = place();
    let plain = guest("plain");
    let args = [
        "run",
        "--local",
        &plain,
        "--arg",
        "-x",
        "--env",
        "KEY=value",
    ];
    let ran = place.run_on(args, b"some input");
    assert_eq!(
        ran.ok(),
        "arg job\narg -x\nenv KEY=value\nstdin 10\nsome input"
    );
    let failing = place.run(["run", "--local", &plain, "--env", "EXIT=3"]);
    failing.fails(20, "error 3: leaving with code 3");

    let Some(c) = optwasm_tests::guests::c_path() else {
        eprintln!("skipped: there is no C compiler for wasm32-wasi");
        return;
    };
    let c = c.display().to_string();
    let ran = place.run_on(["run", "--local", &c], b"shout this");
    assert!(ran.ok().contains("SHOUT THIS"), "{}", ran.stdout());
}
