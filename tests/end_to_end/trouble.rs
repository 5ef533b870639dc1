//! Hosts that are short of something, workers that fail what others do, and states of another time.

use std::os::unix::fs::FileExt;
use std::time::Instant;

use optwasm_tests::cluster::{Place, Process, Ran, wait_for};
use serde_json::Value;

use crate::{guest, place};

/// Runs a command that may have 64 files open.
const FEW_FILES: [&str; 3] = ["sh", "-c", "ulimit -n 64; exec \"$0\" \"$@\""];

fn submit(place: &Place, guest: &str, input: &str, args: &[&str]) -> String {
    let fixed = ["submit", guest, "--output", "json"];
    let ran = place.run_on(fixed.iter().chain(args), input.as_bytes());
    ran.json()["batch"].to_string()
}

fn results(place: &Place, batch: &str) -> Vec<Value> {
    let ran = place.run(["results", batch, "--output", "json"]).json();
    ran["results"].as_array().unwrap().clone()
}

#[test]
fn few_files_are_enough() {
    let place = place();
    let (sum, echo) = (guest("sum"), guest("echo"));
    let mut coordinator = place.coordinator_under(&FEW_FILES, &[]);
    let mut worker = place.worker_under(&FEW_FILES, "w", &[]);
    let numbers: String = (0..300).map(|i| format!("[{i}, 1]\n")).collect();
    let sums = submit(&place, &sum, &numbers, &["--jsonl", "--memo", "off"]);
    // Large enough to be files of their own.
    let lines: Vec<String> = (0..100)
        .map(|i| format!("{i}{}", "x".repeat(100_000)))
        .collect();
    let args = ["--each-line", "--memo", "off"];
    let echoes = submit(&place, &echo, &lines.join("\n"), &args);
    for number in 0..100 {
        let ran = place.run(["jobs"]);
        assert_eq!(ran.code(), 0, "client {number}: {}", ran.stderr());
    }
    let clients: Vec<Process> = (0..30).map(|_| place.start(["workers"])).collect();
    for mut client in clients {
        let status = client.wait();
        // An answer, or a clear refusal.
        let log = client.log();
        match status.code() {
            Some(0) => assert!(log.contains("ENGINE"), "{log}"),
            _ => assert!(log.starts_with("optwasm: "), "{log}"),
        }
    }
    for batch in [&sums, &echoes] {
        place.run(["wait", batch]).ok();
    }
    for (index, result) in results(&place, &sums).iter().enumerate() {
        assert_eq!(result["output"]["sum"], index as f64 + 1.0, "{result}");
    }
    let echoed = results(&place, &echoes);
    assert_eq!(echoed.len(), lines.len());
    for (result, line) in echoed.iter().zip(&lines) {
        assert_eq!(result["output"].as_str(), Some(line.as_str()));
    }
    assert!(coordinator.is_running(), "{}", coordinator.log());
    assert!(worker.is_running(), "{}", worker.log());
}

#[test]
fn a_second_coordinator_leaves_the_first_alone() {
    let place = place();
    let spin = guest("spin");
    let mut first = place.coordinator(&[]);
    let worker = place.worker("w", &[]);
    let address = place.address();
    let batch = submit(
        &place,
        &spin,
        &"30\n".repeat(40),
        &["--jsonl", "--memo", "off"],
    );
    for command in [
        &["coordinator", "--listen", "127.0.0.1:0"][..],
        &["coordinator", "check", "--repair"],
        &["coordinator", "compact"],
    ] {
        let second = place.run(command);
        second.fails(10, "another coordinator is running in");
        assert_eq!(second.stderr().lines().count(), 2, "{}", second.stderr());
    }
    assert_eq!(place.address(), address);
    place.run(["wait", &batch]).ok();
    for result in results(&place, &batch) {
        assert_eq!(
            (&result["outcome"], &result["attempt"]),
            (&"ok".into(), &1.into())
        );
    }
    assert!(first.is_running(), "{}", first.log());
    assert_eq!(worker.log().matches("connected to").count(), 1);
}

#[test]
fn cancelling_stops_a_running_guest() {
    let place = place();
    let spin = guest("spin");
    let _coordinator = place.coordinator(&[]);
    let _worker = place.worker("w", &[]);
    // Compiled before it counts.
    place.run_on(["run", &spin, "--json"], b"2").ok();
    let endless = submit(&place, &spin, "1000000000", &["--json"]);
    wait_for("the job", || {
        place.run(["jobs"]).stdout().contains("running")
    });
    let next = submit(&place, &spin, "1", &["--json"]);
    place.run(["cancel", &endless]).ok();
    let begun = Instant::now();
    place.run(["wait", &next]).ok();
    let took = begun.elapsed();
    println!("the next job was done {took:?} after the cancellation");
    assert!(took.as_secs() < 2, "{took:?}");
    assert_eq!(results(&place, &endless)[0]["outcome"], "cancelled");
}

#[test]
fn every_lost_worker_is_named() {
    let place = place();
    let spin = guest("spin");
    let _coordinator = place.coordinator(&["--lease", "200ms"]);
    let batch = submit(&place, &spin, "1000000000\n", &["--jsonl"]);
    let names = ["anna", "berta", "clara"];
    for name in names {
        let worker = place.worker(name, &[]);
        wait_for("the job", || {
            place.run(["jobs"]).stdout().contains("running")
        });
        worker.kill();
        wait_for("the loss", || {
            !place.run(["jobs"]).stdout().contains("running")
        });
    }
    assert_eq!(place.run(["wait", &batch]).code(), 1);
    let result = &results(&place, &batch)[0];
    assert_eq!(result["outcome"], "worker-lost");
    let explained = place.run(["explain", &format!("{batch}.0")]).ok();
    assert!(explained.contains("lost 3 workers"), "{explained}");
    for name in names {
        assert!(explained.contains(name), "no `{name}` in: {explained}");
    }
    for (attempt, name) in [(1, "anna"), (2, "berta")] {
        let line = format!("attempt {attempt} on {name}: its worker was lost while it may");
        assert!(explained.contains(&line), "no `{line}` in: {explained}");
    }
    // It harms nobody any more.
    let _survivor = place.worker("dora", &[]);
    let after = place.run_on(["run", &spin, "--json"], b"1");
    after.ok();
}

#[test]
fn a_worker_that_fails_what_others_can_do_is_put_aside() {
    let place = place();
    let spin = guest("spin");
    let _coordinator = place.coordinator(&[]);
    // Enough address space for a sandbox and not for a pool of them; and when it has joined, for
    // its own needs alone.
    let cramped = ["sh", "-c", "ulimit -v 10000000; exec \"$0\" \"$@\""];
    let cramped = place.worker_under(&cramped, "cramped", &[]);
    cramped.limit_growth(1 << 30);
    let _healthy = place.worker("healthy", &[]);
    let input: String = (0..40).map(|i| format!("{}\n", 20 + i)).collect();
    let args = ["--jsonl", "--retries", "5"];
    let batch = submit(&place, &spin, &input, &args);
    place.run(["wait", &batch]).ok();
    for result in results(&place, &batch) {
        assert_eq!(result["outcome"], "ok", "{result}");
        assert_eq!(result["worker"], "healthy", "{result}");
    }
    let workers = place.run(["workers", "--output", "json"]).json();
    let workers = workers["workers"].as_array().unwrap();
    let find = |name: &str| {
        workers
            .iter()
            .find(|worker| worker["name"] == name)
            .unwrap()
    };
    assert!(find("healthy")["aside"].is_null(), "{workers:#?}");
    let why = find("cramped")["aside"].as_str().unwrap();
    assert!(why.contains("failed"), "{why}");
    let table = place.run(["workers"]).ok();
    assert!(table.contains(&format!("put aside: {why}")), "{table}");
    // It gets no more.
    let before = find("cramped")["done"].clone();
    let batch = submit(&place, &spin, "100\n101\n102\n103\n", &args);
    place.run(["wait", &batch]).ok();
    let workers = place.run(["workers", "--output", "json"]).json();
    let after = workers["workers"].as_array().unwrap().iter();
    let mut after = after.filter(|worker| worker["name"] == "cramped");
    assert_eq!(after.next().unwrap()["done"], before);
}

/// Offsets in an SQLite file's header (<https://www.sqlite.org/fileformat.html>, section 1.3).
const USER_VERSION: u64 = 60;
const APPLICATION_ID: u64 = 68;

#[test]
fn a_directory_of_a_newer_version_is_left_alone() {
    let place = place();
    let mut coordinator = place.coordinator(&[]);
    submit(&place, &guest("echo"), "x", &[]);
    place.run(["shutdown"]).ok();
    assert!(coordinator.wait().success());
    let path = place.state().join("store.sqlite");
    let file = std::fs::File::options().read(true).write(true).open(&path);
    let file = file.unwrap();
    let write = |version: u32| {
        file.write_all_at(&version.to_be_bytes(), USER_VERSION)
            .unwrap();
        // The last byte of our mark repeats it.
        let mark = &version.to_be_bytes()[3..];
        file.write_all_at(mark, APPLICATION_ID + 3).unwrap();
    };
    let mut header = [0; 72];
    file.read_exact_at(&mut header, 0).unwrap();
    assert_eq!((header[63], header[71]), (2, 2), "the format of today");
    write(99);
    let kept = std::fs::read(&path).unwrap();
    let refused = |ran: Ran| {
        ran.fails(9, "99");
        assert!(ran.stderr().contains("newer"), "{}", ran.stderr());
    };
    refused(place.run(["coordinator", "--listen", "127.0.0.1:0"]));
    refused(place.run(["coordinator", "check"]));
    refused(place.run(["coordinator", "check", "--repair"]));
    refused(place.run(["coordinator", "compact"]));
    assert!(std::fs::read(&path).unwrap() == kept, "it was changed");
    write(2);
    let _coordinator = place.coordinator(&[]);
    assert_eq!(
        place
            .run(["jobs", "--output", "jsonl"])
            .ok()
            .lines()
            .count(),
        1
    );
}
