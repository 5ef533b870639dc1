//! Acceptance cases that a user of older systems would try first, each as short as it can be told.
//! A name's number is the case's; cases that need more have tests in the other files.

use std::time::{Duration, Instant};

use optwasm_tests::cluster::{Place, wait_for};
use serde_json::Value as Json;

use crate::{guest, place};

/// The results of a run as JSON, whatever became of its jobs.
fn results(place: &Place, args: &[&str], input: &str) -> Vec<Json> {
    let fixed = ["run"].iter().chain(args).chain(&["--output", "json"]);
    let ran = place.run_on(fixed, input.as_bytes());
    match ran.json()["results"].as_array() {
        Some(results) => results.clone(),
        None => panic!("{}", ran.stderr()),
    }
}

fn outputs(results: &[Json]) -> Vec<u64> {
    let output = |result: &Json| result["output"].as_u64().unwrap();
    results.iter().map(output).collect()
}

/// Lines of numbers.
fn lines(numbers: impl IntoIterator<Item = u64>) -> String {
    numbers.into_iter().map(|n| format!("{n}\n")).collect()
}

#[test]
fn case_01_results_come_in_the_order_of_inputs_each_once() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let _worker = place.start(["worker", "--slots", "2", "--name", "two"]);
    let sleeper = guest("sleeper");
    let timed = ["--jsonl", "--profile", "timed"];
    let args = [&[sleeper.as_str()], &timed[..]].concat();
    // Those that sleep longest come first.
    let five = outputs(&results(&place, &args, "400\n300\n200\n100\n1\n"));
    let expected = [400, 300, 200, 100, 1];
    assert_eq!(five.len(), 5);
    for (slept, asked) in five.into_iter().zip(expected) {
        assert!(slept >= asked, "{slept} ms of {asked}");
    }
    let _more = ["three", "four"].map(|name| place.worker(name, &[]));
    // As if at random, from 1 to 13 ms.
    let thousand = |i: u64| 1 + i * i % 13;
    let all = results(&place, &args, &lines((0..1000).map(thousand)));
    assert_eq!(all.len(), 1000);
    for (i, result) in (0..).zip(&all) {
        assert_eq!(result["index"], i);
        assert_eq!(result["outcome"], "ok");
        assert!(result["output"].as_u64() >= Some(thousand(i)), "{result}");
    }
    // Nothing ran twice: every worker together finished as many as there were.
    let workers = place.run(["workers", "--output", "json"]).json();
    let done = workers["workers"].as_array().unwrap().iter();
    assert_eq!(done.map(|w| w["done"].as_u64().unwrap()).sum::<u64>(), 1005);
}

#[test]
fn case_03_a_batch_waits_for_its_first_worker_with_a_word() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let echo = guest("echo");
    let input = place.file("input", "hello").display().to_string();
    let run = place.start(["run", &echo, &input]);
    wait_for("a word", || run.log().contains("waits: no worker"));
    let _late = place.worker("late", &[]);
    wait_for("the result", || run.log().contains("hello"));
    drop(_late);
    wait_for("the end of the worker", || {
        !place.run(["workers"]).stdout().contains("late")
            || place.run(["workers"]).stdout().contains("away")
    });
    let other = self::place();
    let _coordinator = other.coordinator(&[]);
    let ran = other.run(["run", &echo, &input, "--wait-timeout", "1s"]);
    ran.fails(6, "no worker took a job");
    assert_eq!(ran.stdout(), "");
}

#[test]
fn case_04_a_worker_without_the_right_token_ends_and_disturbs_nobody() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let stranger = self::place();
    let _other_coordinator = stranger.coordinator(&[]);
    let foreign = stranger.state().join("worker.token").display().to_string();
    let client = place.run(["token", "create", "client"]).ok();
    let client = place.file("client", client).display().to_string();
    let address = place.address();
    let worker = |token: &str| {
        let begun = Instant::now();
        let ran = place.run(["worker", "--connect", &address, "--token-file", token]);
        assert!(begun.elapsed() < Duration::from_secs(30));
        ran
    };
    worker(&foreign).fails(5, "not the one");
    worker(&client).fails(5, "role `client`");
    // It goes on serving, and gave them nothing.
    let _worker = place.worker("w", &[]);
    let all = results(&place, &[&guest("echo"), "--jsonl"], "1\n2\n");
    assert!(all.iter().all(|result| result["worker"] == "w"), "{all:?}");
    // One that is at work when its token is revoked.
    let token = place.run(["token", "create", "worker"]).ok();
    let token = place.file("revoked", token).display().to_string();
    let args = [
        "worker",
        "--name",
        "x",
        "--connect",
        &address,
        "--token-file",
        &token,
    ];
    let mut other = place.start(args);
    wait_for("the other worker", || other.log().contains("connected to"));
    let inspected = place.run(["token", "inspect", "--token-file", &token]).ok();
    let mut lines = inspected.lines();
    let name = lines.find_map(|line| line.strip_prefix("name:")).unwrap();
    place.run(["token", "revoke", name.trim()]).ok();
    assert_eq!(other.wait().code(), Some(5), "{}", other.log());
    // Every coordinator makes its tokens itself: none serves without.
    let nothing = place.file("nothing", "").display().to_string();
    worker(&nothing).fails(5, "token");
}

#[test]
fn case_05_one_jobs_error_is_that_jobs_value() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let worker = place.worker("w", &[]);
    // Takes numbers only.
    let spin = guest("spin");
    let all = results(&place, &[&spin, "--jsonl"], "1\n\"two\"\n3\n");
    assert_eq!(all[0]["outcome"], "ok");
    assert_eq!(all[1]["outcome"], "guest-error");
    assert_eq!(all[1]["index"], 1);
    let error = all[1]["error"].to_string();
    assert!(error.contains("the input cannot be decoded"), "{error}");
    assert_eq!(all[2]["outcome"], "ok");
    // The same process ran them all, and runs the next.
    let again = results(&place, &[&spin, "--jsonl"], "4\n");
    assert_eq!(again[0]["worker"], "w");
    assert_eq!(worker.log().matches("connected to").count(), 1);
}

#[test]
fn case_07_a_worker_that_died_idle_costs_no_job() {
    let place = place();
    let _coordinator = place.coordinator(&["--lease", "2s"]);
    let idle = place.worker("idle", &[]);
    idle.kill();
    let _other = place.worker("other", &[]);
    let all = results(&place, &[&guest("spin"), "--jsonl"], "1\n2\n");
    assert!(
        all.iter()
            .all(|r| r["outcome"] == "ok" && r["worker"] == "other")
    );
}

#[test]
fn case_10_and_11_loops_and_bombs_end_within_their_limits() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let worker = place.worker("w", &[]);
    let spin = guest("spin");
    let endless = results(&place, &[&spin, "--jsonl", "--fuel", "1e8"], "1000000000\n");
    assert_eq!(endless[0]["outcome"], "out-of-fuel");
    let grow = guest("grow");
    let bomb = results(&place, &[&grow, "--jsonl", "--memory", "256MiB"], "4095\n");
    assert_eq!(bomb[0]["outcome"], "memory-limit");
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.unwrap().trim().trim_end_matches(" kB");
    let peak: u64 = peak.parse().unwrap();
    assert!(peak < 700 << 10, "the worker had {peak} KiB");
    assert_eq!(
        results(&place, &[&spin, "--jsonl"], "1\n")[0]["outcome"],
        "ok"
    );
}

#[test]
fn case_12_a_job_has_no_authority_over_its_host() {
    let place = place();
    let secret = place.file("secret", "s").display().to_string();
    let all = results(
        &place,
        &[&guest("authority"), "--local", "--jsonl"],
        &format!("\"/etc/passwd\"\n{secret:?}\n\"new\"\n"),
    );
    assert_eq!(all.len(), 3);
    for result in all {
        assert_eq!(result["outcome"], "ok", "{result}");
        let tried = result["output"].as_object().unwrap();
        assert_eq!(tried.len(), 5);
        for (what, error) in tried {
            assert!(
                error.as_str().is_some_and(|e| !e.is_empty()),
                "{what} was allowed"
            );
        }
    }
    assert!(!place.path().join("new").exists());
}

#[test]
fn case_13_an_output_that_is_too_large_is_an_error_and_no_wait() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let _worker = place.worker("w", &[]);
    let args = [&guest("echo"), "--each-line", "--max-output", "10B"];
    let all = results(
        &place,
        &args.map(|a| a as &str),
        "short\nmuch too long for it\n",
    );
    assert_eq!(all[0]["outcome"], "ok");
    assert_eq!(all[1]["outcome"], "output-too-large");
}

/// A worker in a directory with nothing but the program and the libraries that it is linked with.
#[test]
fn case_14_a_worker_needs_nothing_but_its_program() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let root = place.path().join("root");
    let program = env!("CARGO_BIN_EXE_optwasm");
    let linked = std::process::Command::new("ldd")
        .arg(program)
        .output()
        .unwrap();
    let linked = String::from_utf8(linked.stdout).unwrap();
    let libraries = linked
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    for library in libraries {
        let copy = root.join(library.trim_start_matches('/'));
        std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
        std::fs::copy(library, copy).unwrap();
    }
    std::fs::create_dir_all(root.join("tmp")).unwrap();
    std::fs::copy(program, root.join("optwasm")).unwrap();
    let token = std::fs::read_to_string(place.state().join("worker.token")).unwrap();
    let mut bare = std::process::Command::new("chroot");
    bare.arg(&root)
        .args(["/optwasm", "worker", "--slots", "1", "--name", "bare"])
        .args(["--connect", &place.address()])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("OPTWASM_TOKEN", token.trim())
        .env("HOME", "/tmp")
        .env("OPTWASM_CACHE_DIR", "/tmp")
        .env("OPTWASM_DIR", "/tmp");
    let bare = place.start_command(bare);
    wait_for("the worker", || bare.log().contains("connected to"));
    let case = crate::data("../../plugins/opf/tests/data/pglib_opf_case14_ieee.m");
    let solved = place.run(["solve", &case, "-o", "formulation=dc", "--output", "json"]);
    let solved = solved.ok();
    assert!(solved.contains("optimal"), "{solved}");
}

#[test]
fn case_15_a_module_is_sent_to_a_worker_once() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let worker = place.worker("w", &["-v"]);
    let fetched = || worker.log().matches("fetched blob").count();
    let echo = guest("echo");
    for _ in 0..2 {
        let args = [&echo, "--jsonl", "--memo", "off"];
        assert_eq!(results(&place, &args, &lines(0..100)).len(), 100);
        assert_eq!(fetched(), 1, "{}", worker.log());
    }
    // Another module is another blob.
    let spin = guest("spin");
    results(&place, &[&spin, "--jsonl", "--memo", "off"], "1\n");
    assert_eq!(fetched(), 2, "{}", worker.log());
}

#[test]
fn case_17_an_instance_is_new_or_recycled_after_so_many_jobs() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let _worker = place.worker("w", &[]);
    let counter = guest("counter");
    let counts = |args: &[&str]| -> Vec<(u64, u64, String)> {
        let all = [&[counter.as_str(), "--jsonl", "--memo", "off"], args].concat();
        let all = results(&place, &all, "10\n20\n30\n");
        let count = |r: &Json| {
            let number = |name: &str| r["output"][name].as_u64().unwrap();
            (number("jobs"), number("sum"), r["log"].to_string())
        };
        all.iter().map(count).collect()
    };
    let jobs =
        |counts: Vec<(u64, u64, String)>| counts.into_iter().map(|c| c.0).collect::<Vec<_>>();
    assert_eq!(jobs(counts(&[])), [1, 1, 1]);
    assert_eq!(jobs(counts(&["--resident"])), [1, 1, 1]);
    assert_eq!(jobs(counts(&["--max-tasks-per-instance", "1"])), [1, 1, 1]);
    let kept = counts(&["--max-tasks-per-instance", "2"]);
    // The log of each job is its own.
    assert!(
        kept[1].2.contains("job 2") && !kept[1].2.contains("job 1"),
        "{}",
        kept[1].2
    );
    assert_eq!(jobs(kept), [1, 2, 1]);
    assert_eq!(jobs(counts(&["--max-tasks-per-instance", "5"])), [1, 2, 3]);
    // What results depend on is what others left: nobody can confirm or remember them.
    let args = [
        "run",
        &counter,
        "--jsonl",
        "--max-tasks-per-instance",
        "2",
        "--verify",
        "2",
    ];
    place.run_on(args, b"1\n").fails(2, "confirmed by another");
    // A module that was not made for it.
    let plain = guest("plain");
    let all = results(
        &place,
        &[&plain, "--each-line", "--max-tasks-per-instance", "2"],
        "a\n",
    );
    assert_eq!(all[0]["outcome"], "rejected");
}

/// Resident instances give the results and the fuel of fresh ones, and load the data once.
#[test]
fn resident_instances_give_the_same_results() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let _workers = ["a", "b"].map(|name| place.worker(name, &[]));
    let counter = guest("counter");
    let data = place.file("data", vec![1; 1 << 20]);
    let blob = format!("start={}", data.display());
    let told = |args: &[&str]| -> Vec<Json> {
        let fixed = [
            counter.as_str(),
            "--jsonl",
            "--memo",
            "off",
            "--blob",
            &blob,
        ];
        let all = results(&place, &[&fixed, args].concat(), &lines(0..20));
        let part = |r: Json| serde_json::json!([r["output"], r["fuel"], r["outcome"], r["log"]]);
        all.into_iter().map(part).collect()
    };
    let fresh = told(&[]);
    assert_eq!(fresh[7][0]["sum"], (1 << 20) + 7);
    assert_eq!(fresh[7][0]["loads"], 1);
    assert_eq!(told(&["--resident"]), fresh);
    // Here as there.
    assert_eq!(told(&["--resident", "--local"]), fresh);
    // Identical jobs answer each other, whichever instances they had.
    let fixed = [counter.as_str(), "--jsonl", "--blob", &blob];
    let remembered = results(&place, &fixed, "3\n");
    let again = results(&place, &[&fixed[..], &["--resident"]].concat(), "3\n");
    assert_eq!(again[0]["output"], remembered[0]["output"]);
    let status = place.run(["jobs", "--output", "json"]).json().to_string();
    assert!(
        status.contains(r#""memo":1"#) || again[0]["memo"] == true,
        "{status}"
    );
}

#[test]
fn case_18_an_idle_worker_ends_and_a_busy_one_does_not() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let begun = Instant::now();
    let mut never = place.worker("never", &["--idle-timeout", "1s"]);
    assert!(never.wait().success());
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let mut busy = place.worker("busy", &["--idle-timeout", "5s"]);
    let args = ["run", &guest("sleeper"), "--json", "--profile", "timed"];
    let slept: u64 = place.run_on(args, b"7000").ok().trim().parse().unwrap();
    assert!(slept >= 7000);
    assert!(busy.wait().success());
    assert!(busy.log().contains("nothing to do"), "{}", busy.log());
}

#[test]
fn case_22_cancelling_one_run_leaves_the_others() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let _worker = place.worker("w", &[]);
    let spin = guest("spin");
    let submit = |input: &str| {
        let args = ["submit", &spin, "--jsonl", "--output", "json"];
        place.run_on(args, input.as_bytes()).json()["batch"].to_string()
    };
    let endless = submit("1000000000\n");
    wait_for("the job", || {
        place.run(["jobs"]).stdout().contains("running")
    });
    let other = submit("1\n2\n3\n");
    place.run(["cancel", &endless]).ok();
    place.run(["wait", &other]).ok();
    let ran = place.run(["results", &endless, "--output", "json"]).json();
    assert_eq!(ran["results"][0]["outcome"], "cancelled");
}

/// The verbs of a pool, from the command line; the client library's tests have the rest.
#[test]
fn case_23_jobs_run_on_every_worker_and_on_one() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let workers: Vec<_> = (0..4)
        .map(|n| place.worker(&format!("w{n}"), &[]))
        .collect();
    let echo = guest("echo");
    let fixed = ["run", &echo, "--output", "json"];
    let on = |args: &[&str]| -> Vec<String> {
        let ran = place.run_on(fixed.iter().chain(args), b"x").json();
        let all = ran["results"].as_array().unwrap().iter();
        all.map(|r| r["worker"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(on(&["--each-worker"]), ["w0", "w1", "w2", "w3"]);
    let all = place.run(["workers", "--output", "json"]).json();
    let number = |name: &str| {
        let all = all["workers"].as_array().unwrap();
        let worker = all.iter().find(|w| w["name"] == name).unwrap();
        worker["worker"].to_string()
    };
    for name in ["w2", "w0", "w2"] {
        assert_eq!(on(&["--home", &number(name)]), [name]);
    }
    let args = ["run", &echo, "--home", "77"];
    place.run_on(args, b"x").fails(3, "no worker 77");
    let args = ["run", &echo, "--each-worker", "--each-line"];
    place.run_on(args, b"x\ny\n").fails(2, "takes one input");
    drop(workers);
}

#[test]
fn case_26_randomness_is_the_batchs_own() {
    let place = place();
    let random = guest("random");
    let bytes = |seed: &str, args: &[&str]| -> Vec<Json> {
        let fixed = [
            random.as_str(),
            "--each-line",
            "--memo",
            "off",
            "--seed",
            seed,
        ];
        let all = results(&place, &[&fixed, args].concat(), "a\nb\nc\nd\ne\n");
        all.into_iter().map(|r| r["output"].clone()).collect()
    };
    let _coordinator = place.coordinator(&[]);
    let first = place.worker("first", &[]);
    let one = bytes("7", &[]);
    let _more: Vec<_> = (0..3)
        .map(|n| place.worker(&format!("w{n}"), &[]))
        .collect();
    assert_eq!(bytes("7", &[]), one);
    assert_eq!(bytes("7", &["--local"]), one);
    assert_ne!(bytes("8", &[]), one);
    drop(first);
}

#[test]
fn case_38_progress_counts_up_and_is_summed_up() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let _workers = ["a", "b"].map(|name| place.worker(name, &[]));
    let args = [
        "run",
        &guest("spin"),
        "--jsonl",
        "--memo",
        "off",
        "--progress",
        "json",
    ];
    let ran = place.run_on(args, "20\n".repeat(40).as_bytes());
    ran.ok();
    let stderr = ran.stderr();
    let parse = |line: &str| serde_json::from_str::<Json>(line).ok();
    let all: Vec<Json> = stderr.lines().filter_map(parse).collect();
    let (last, counts) = all.split_last().unwrap();
    let counts: Vec<u64> = counts.iter().map(|c| c["done"].as_u64().unwrap()).collect();
    assert!(counts.is_sorted_by(|a, b| a < b), "{counts:?}");
    assert_eq!(counts.last(), Some(&40));
    assert_eq!(last["outcomes"]["ok"], 40);
    assert_eq!(last["retries"], 0);
    assert!(last["wall_ms"].as_u64() > Some(0), "{last}");
    for worker in last["workers"].as_array().unwrap() {
        assert!(worker == "a" || worker == "b", "{last}");
    }
}
