//! Workers that come, go, die and come back.

use std::time::Instant;

use optwasm_tests::cluster::wait_for;
use rustix::process::Signal;

use crate::{guest, place};

/// Work that takes tens of milliseconds a job in any build.
fn spins(count: usize) -> String {
    "20\n".repeat(count)
}

#[test]
fn case_06_a_killed_workers_jobs_go_to_others() {
    let place = place();
    let spin = guest("spin");
    let _coordinator = place.coordinator(&["--lease", "2s"]);
    let victim = place.worker("victim", &[]);
    let _survivor = place.worker("survivor", &[]);
    let args = [
        "submit", &spin, "--jsonl", "--memo", "off", "--output", "json",
    ];
    let batch = place.run_on(args, spins(100).as_bytes()).json()["batch"].to_string();
    wait_for("both to work", || {
        let workers = place.run(["workers", "--output", "json"]).json();
        let workers = workers["workers"].as_array().unwrap();
        workers.iter().all(|w| w["done"].as_u64() > Some(0))
    });
    victim.kill();
    place.run(["wait", &batch]).ok();
    let results = place.run(["results", &batch, "--output", "jsonl"]).ok();
    assert_eq!(results.lines().count(), 100);
    assert!(results.contains(r#""worker":"victim""#));
    assert!(results.contains(r#""worker":"survivor""#));
}

#[test]
fn case_09_a_job_that_takes_three_workers_with_it_is_failed_with_the_evidence() {
    let place = place();
    let spin = guest("spin");
    let _coordinator = place.coordinator(&["--lease", "2s"]);
    let args = ["submit", &spin, "--json", "--output", "json"];
    let batch = place.run_on(args, b"1000000000").json()["batch"].to_string();
    for attempt in 1..=3 {
        let worker = place.worker(&format!("w{attempt}"), &[]);
        wait_for("the job", || {
            place.run(["jobs"]).stdout().contains("running")
        });
        worker.kill();
        wait_for("the loss", || {
            !place.run(["jobs"]).stdout().contains("running")
        });
    }
    assert_eq!(place.run(["wait", &batch]).code(), 1);
    let results = place.run(["results", &batch, "--output", "json"]).json();
    let result = &results["results"][0];
    assert_eq!(result["outcome"], "worker-lost");
    let error = result["error"].as_str().unwrap();
    for name in ["w1", "w2", "w3"] {
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn a_worker_finds_its_coordinator_again() {
    let place = place();
    let echo = guest("echo");
    let coordinator = place.coordinator(&[]);
    let address = place.address();
    let worker = place.worker("faithful", &[]);
    coordinator.kill();
    wait_for("the loss", || worker.log().contains("connection lost"));
    std::fs::remove_file(place.state().join("access.json")).unwrap();
    let again = place.start(["coordinator", "--listen", &address]);
    wait_for("the coordinator", || {
        place.state().join("access.json").exists()
    });
    let ran = place.run_on(["run", &echo], b"hello");
    assert_eq!(ran.ok(), "hello");
    assert_eq!(
        worker.log().matches("connected to").count(),
        2,
        "{}",
        worker.log()
    );
    drop(again);
}

#[test]
fn sigterm_drains_and_a_second_one_stops() {
    let place = place();
    let spin = guest("spin");
    let _coordinator = place.coordinator(&[]);
    let mut first = place.worker("first", &[]);
    // Compiled before it counts.
    place.run_on(["run", &spin, "--json"], b"1").ok();
    let args = ["submit", &spin, "--jsonl", "--output", "json"];
    let batch = place.run_on(args, b"300\n20\n20\n").json()["batch"].to_string();
    wait_for("the job", || {
        place.run(["jobs"]).stdout().contains("running")
    });
    first.signal(Signal::TERM);
    assert!(first.wait().success(), "{}", first.log());
    // What ran was finished, what waited is still there.
    let results = place.run(["results", &batch, "--output", "jsonl", "--as-completed"]);
    assert!(
        results.stdout().contains(r#""outcome":"ok""#),
        "{}",
        results.stdout()
    );
    assert!(!place.run(["jobs"]).stdout().contains("3/3"));
    let mut second = place.worker("second", &[]);
    place.run(["wait", &batch]).ok();

    let batch = place.run_on(args, b"1000000000\n").json()["batch"].to_string();
    wait_for("the job", || {
        place.run(["jobs"]).stdout().contains("running")
    });
    second.signal(Signal::TERM);
    wait_for("the drain", || second.log().contains("once more"));
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(second.is_running());
    second.signal(Signal::TERM);
    assert_eq!(second.wait().code(), Some(143));
    place.run(["cancel", &batch]).ok();
}

#[test]
fn cancelling_frees_the_worker_at_once() {
    let place = place();
    let spin = guest("spin");
    let _coordinator = place.coordinator(&[]);
    let _worker = place.worker("w", &[]);
    let args = ["submit", &spin, "--json", "--output", "json"];
    let batch = place.run_on(args, b"1000000000").json()["batch"].to_string();
    wait_for("the job", || {
        place.run(["jobs"]).stdout().contains("running")
    });
    place.run(["cancel", &batch]).ok();
    let begun = Instant::now();
    place.run_on(["run", &spin, "--json"], b"1").ok();
    // The slot was freed within 100 ms; the rest is starting processes on a busy machine.
    assert!(begun.elapsed().as_secs() < 10);
    assert!(place.run(["jobs"]).stdout().contains("cancelled"));
}

#[test]
fn labels_memory_and_idleness() {
    let place = place();
    let echo = guest("echo");
    let _coordinator = place.coordinator(&[]);
    let _cpu = place.worker("cpu", &["--memory", "512MiB", "--label", "kind=cpu"]);
    // Jobs may use a gibibyte unless told otherwise, which this worker does not have.
    let args = ["run", &echo, "--wait-timeout", "1s"];
    place
        .run_on(args, b"x")
        .fails(6, "the largest offers 512 MiB");
    let args = [
        "run",
        &echo,
        "--memory",
        "64MiB",
        "--require",
        "kind=gpu",
        "--wait-timeout",
        "1s",
    ];
    place.run_on(args, b"x").fails(6, "has the required labels");
    let args = ["run", &echo, "--memory", "64MiB", "--require", "kind=cpu"];
    assert_eq!(place.run_on(args, b"x").ok(), "x");

    let mut idle = place.worker("idle", &["--idle-timeout", "300ms"]);
    assert!(idle.wait().success());
    assert!(idle.log().contains("nothing to do"));
}

#[test]
fn a_checkpoint_reaches_the_next_attempt() {
    let place = place();
    let resume = guest("resume");
    let _coordinator = place.coordinator(&["--lease", "1s"]);
    let first = place.worker("first", &[]);
    // Compiled before it counts.
    place
        .run_on(
            ["run", &resume, "--json"],
            br#"{"total": 1, "work_millions": 1}"#,
        )
        .ok();
    let steps = br#"{"total": 12, "work_millions": 100}"#;
    let args = ["submit", &resume, "--json", "--output", "json"];
    let batch = place.run_on(args, steps).json()["batch"].to_string();
    // Checkpoints are sent every 100 ms.
    wait_for("the job", || {
        place.run(["jobs"]).stdout().contains("running")
    });
    std::thread::sleep(std::time::Duration::from_millis(1000));
    first.kill();
    let _second = place.worker("second", &[]);
    place.run(["wait", &batch]).ok();
    let resumed = place.run(["results", &batch, "--output", "json"]).json();
    let local = place
        .run_on(
            ["run", "--local", &resume, "--json", "--output", "json"],
            steps,
        )
        .json();
    let (resumed, local) = (&resumed["results"][0], &local["results"][0]);
    assert_eq!(resumed["output"]["checksum"], local["output"]["checksum"]);
    assert_eq!(local["output"]["own_steps"], 12);
    if resumed["attempt"] == 2 {
        assert!(
            resumed["output"]["own_steps"].as_u64() < Some(12),
            "{resumed}"
        );
    }
}
