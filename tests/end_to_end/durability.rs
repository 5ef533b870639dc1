//! What was acknowledged stays, whoever dies; and what is done once is not done again.

use std::time::Duration;

use optwasm_tests::cluster::{Place, Process, wait_for};
use rustix::process::Signal;
use serde_json::Value;

use crate::{guest, place};

/// Different jobs of some tens of milliseconds in any build.
fn spins(count: u32) -> String {
    (0..count).map(|i| format!("{}\n", 20 + i)).collect()
}

fn submit(place: &Place, guest: &str, input: &str, args: &[&str]) -> String {
    let fixed = ["submit", guest, "--jsonl", "--output", "json"];
    let ran = place.run_on(fixed.iter().chain(args), input.as_bytes());
    ran.json()["batch"].to_string()
}

fn results(place: &Place, batch: &str) -> Vec<Value> {
    let text = place.run(["results", batch, "--output", "jsonl"]).stdout();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn done(place: &Place, batch: &str) -> u64 {
    let listed = place.run(["jobs", "--output", "jsonl"]).stdout();
    let batches = listed
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let number: u64 = batch.parse().unwrap();
    let mut found = batches.filter(|status| status["batch"] == number);
    found
        .next()
        .map_or(0, |status| status["done"].as_u64().unwrap())
}

/// Kills the coordinator as a power cut does, and starts it again in its place.
fn restart(place: &Place, coordinator: Process, args: &[&str]) -> Process {
    let address = place.address();
    coordinator.kill();
    place.coordinator_at(&address, args)
}

#[test]
fn case_20_a_killed_coordinator_goes_on_where_it_was() {
    let place = place();
    let spin = guest("spin");
    let coordinator = place.coordinator(&[]);
    let first = place.worker("first", &[]);
    let _second = place.worker("second", &[]);
    let batch = submit(&place, &spin, &spins(60), &["--name", "long"]);
    let mut watcher = place.start(["watch", &batch]);
    let follower = place.start([
        "results",
        &batch,
        "--follow",
        "--as-completed",
        "--output",
        "jsonl",
    ]);
    wait_for("some results", || done(&place, &batch) > 5);
    let before = results(&place, &batch);
    let coordinator = restart(&place, coordinator, &[]);
    wait_for("the worker", || {
        first.log().matches("connected to").count() == 2
    });
    place.run(["wait", &batch]).ok();

    let after = results(&place, &batch);
    assert_eq!(after.len(), 60);
    // What had been acknowledged has not changed.
    assert_eq!(after[..before.len()], before[..]);
    // Nothing ran twice: workers kept what they ran, and delivered it. What had not begun may have
    // been handed out again, since it never arrived or another worker was idle.
    for result in &after {
        assert_eq!(result["outcome"], "ok");
        if result["attempt"] != 1 {
            let job = format!("{batch}.{}", result["index"]);
            let explained = place.run(["explain", &job, "--output", "json"]).ok();
            let explained: Value = serde_json::from_str(&explained).unwrap();
            assert_eq!(explained["history"], Value::Array(Vec::new()), "{result}");
        }
    }
    assert!(watcher.wait().success(), "{}", watcher.log());
    // Read through the restart without gap or repeat.
    wait_for("the follower", || follower.log().lines().count() >= 60);
    let log = follower.log();
    let mut indices: Vec<u64> = log
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["index"]
                .as_u64()
                .unwrap()
        })
        .collect();
    indices.sort_unstable();
    assert_eq!(indices, (0..60).collect::<Vec<u64>>());

    // A new batch gets a new number, also after another start.
    let coordinator = restart(&place, coordinator, &[]);
    let next = submit(&place, &spin, "1\n", &[]);
    assert_eq!(
        next.parse::<u64>().unwrap(),
        batch.parse::<u64>().unwrap() + 1
    );
    assert_eq!(results(&place, &batch), after);
    drop(coordinator);
}

#[test]
fn case_08_a_stopped_worker_loses_its_lease_and_changes_nothing_when_it_is_back() {
    let place = place();
    let spin = guest("spin");
    let _coordinator = place.coordinator(&["--lease", "1s"]);
    let sleeper = place.worker("sleeper", &[]);
    // Compiled before it counts.
    place.run_on(["run", &spin, "--json"], b"1").ok();
    let batch = submit(&place, &spin, "400\n", &["--memo", "off"]);
    wait_for("the job", || {
        place.run(["jobs"]).stdout().contains("running")
    });
    sleeper.signal(Signal::STOP);
    let _other = place.worker("other", &[]);
    place.run(["wait", &batch]).ok();
    let before = results(&place, &batch);
    assert_eq!(before[0]["worker"], "other");
    sleeper.signal(Signal::CONT);
    wait_for("the sleeper", || {
        sleeper.log().matches("connected to").count() == 2
    });
    wait_for("its late result, or its end", || {
        let explained = place.run(["explain", &format!("{batch}.0")]).stdout();
        let workers = place.run(["workers", "--output", "jsonl"]).stdout();
        explained.contains("came late") || workers.matches(r#""held":0"#).count() == 2
    });
    assert_eq!(results(&place, &batch), before);
    let explained = place.run(["explain", &format!("{batch}.0")]).ok();
    assert!(
        explained.contains("sleeper: its worker was lost"),
        "{explained}"
    );
    assert!(explained.contains("on other: ok"), "{explained}");
}

#[test]
fn a_submission_with_a_key_is_one_batch() {
    let place = place();
    let echo = guest("echo");
    let coordinator = place.coordinator(&[]);
    let key = ["--id", "nightly"];
    let first = submit(&place, &echo, "1\n2\n", &key);
    assert_eq!(submit(&place, &echo, "1\n2\n", &key), first);
    let _coordinator = restart(&place, coordinator, &[]);
    assert_eq!(submit(&place, &echo, "1\n2\n", &key), first);
    let fixed = ["submit", &echo, "--jsonl", "--id", "nightly"];
    place.run_on(fixed, b"1\n").fails(2, "belongs to batch");
    assert_eq!(
        place
            .run(["jobs", "--output", "jsonl"])
            .ok()
            .lines()
            .count(),
        1
    );
}

#[test]
fn identical_jobs_are_answered_from_memory() {
    let place = place();
    let spin = guest("spin");
    let coordinator = place.coordinator(&[]);
    let worker = place.worker("w", &[]);
    // Three jobs, of which two are the same.
    let first = submit(&place, &spin, "21\n22\n21\n", &[]);
    place.run(["wait", &first]).ok();
    let ran = results(&place, &first);
    assert_eq!(ran[0]["output"], ran[2]["output"]);
    assert_eq!(ran[2]["memo"], true);
    assert_eq!(ran[0].get("memo"), None);
    worker.kill();
    let coordinator = restart(&place, coordinator, &[]);
    // Nobody is there to run anything.
    let second = submit(&place, &spin, "22\n21\n", &[]);
    place.run(["wait", &second, "--timeout", "30s"]).ok();
    let answered = results(&place, &second);
    for (result, original) in answered.iter().zip([&ran[1], &ran[0]]) {
        assert_eq!(result["memo"], true);
        assert_eq!(result["fuel"], original["fuel"]);
        assert_eq!(result["output"], original["output"]);
    }
    let third = submit(&place, &spin, "22\n", &["--memo", "off"]);
    place
        .run(["wait", &third, "--timeout", "300ms"])
        .fails(6, "not done");
    drop(coordinator);
}

#[test]
fn workers_confirm_each_other() {
    let place = place();
    let spin = guest("spin");
    let _coordinator = place.coordinator(&[]);
    let _first = place.worker("first", &[]);
    let batch = submit(&place, &spin, "20\n21\n", &["--verify", "2"]);
    // One worker alone cannot.
    wait_for("the first result", || {
        place
            .run(["explain", &format!("{batch}.0")])
            .stdout()
            .contains("another worker")
    });
    let _second = place.worker("second", &[]);
    place.run(["wait", &batch]).ok();
    for result in results(&place, &batch) {
        let mut witnesses: Vec<&str> = result["witnesses"]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap())
            .collect();
        witnesses.sort_unstable();
        assert_eq!(witnesses, ["first", "second"]);
    }
    // Nobody can confirm what depends on the time.
    let timed = ["submit", &spin, "--verify", "2", "--profile", "timed"];
    place
        .run_on(timed, b"1")
        .fails(2, "cannot be confirmed by another");
}

#[test]
fn failed_jobs_run_again_in_their_places() {
    let place = place();
    let spin = guest("spin");
    let coordinator = place.coordinator(&[]);
    let _worker = place.worker("w", &[]);
    let batch = submit(&place, &spin, "1\n40\n1\n", &["--fuel", "50M"]);
    assert_eq!(place.run(["wait", &batch]).code(), 1);
    let before = results(&place, &batch);
    assert_eq!(before[1]["outcome"], "out-of-fuel");
    let retried = place
        .run(["retry", &batch, "--failed", "--fuel", "x1000"])
        .ok();
    assert!(retried.contains("1 jobs run again"), "{retried}");
    place.run(["wait", &batch]).ok();
    let after = results(&place, &batch);
    assert_eq!(after.len(), 3);
    assert_eq!((&after[0], &after[2]), (&before[0], &before[2]));
    assert_eq!(after[1]["outcome"], "ok");
    assert_eq!(after[1]["attempt"], 2);
    let explained = place.run(["explain", &format!("{batch}.1")]).ok();
    assert!(explained.contains("run again by a user"), "{explained}");
    let _coordinator = restart(&place, coordinator, &[]);
    assert_eq!(results(&place, &batch), after);
    // The same limits as then: same bytes, same fuel.
    let replayed = place.run(["replay", &format!("{batch}.1")]).ok();
    assert!(replayed.contains("bytes:   the same"), "{replayed}");
    assert!(!replayed.contains("different"), "{replayed}");
}

#[test]
fn case_19_a_coordinator_ends_in_good_order() {
    let place = place();
    let spin = guest("spin");
    let mut coordinator = place.coordinator(&[]);
    place
        .run(["coordinator", "--listen", "127.0.0.1:0"])
        .fails(10, "another coordinator is running");
    let mut drained = place.worker("drained", &[]);
    let workers = place.run(["workers", "--output", "json"]).json();
    let number = workers["workers"][0]["worker"].to_string();
    place.run(["drain", &number]).ok();
    assert!(drained.wait().success(), "{}", drained.log());
    place.run(["drain", "999"]).fails(3, "no worker 999");

    let mut last = place.worker("last", &[]);
    let batch = submit(&place, &spin, &spins(30), &[]);
    wait_for("some results", || done(&place, &batch) > 0);
    let status = place
        .run(["coordinator", "status", "--output", "json"])
        .json();
    assert_eq!(status["workers"], 1);
    place.run(["shutdown", "--with-workers"]).ok();
    assert!(coordinator.wait().success(), "{}", coordinator.log());
    assert!(last.wait().success(), "{}", last.log());
    assert!(last.log().contains("its workers with it"), "{}", last.log());

    let mut coordinator = place.coordinator(&[]);
    let address = place.address();
    assert!(done(&place, &batch) > 0);
    let _worker = place.worker("again", &[]);
    // Takes nothing new, finishes what runs, and ends; the rest is there at the next start.
    place.run(["coordinator", "drain"]).ok();
    assert!(coordinator.wait().success(), "{}", coordinator.log());
    let _coordinator = place.coordinator_at(&address, &[]);
    place.run(["wait", &batch]).ok();
    assert_eq!(results(&place, &batch).len(), 30);
}

#[test]
fn case_16_a_full_queue_holds_submissions_back() {
    let place = place();
    let echo = guest("echo");
    let _coordinator = place.coordinator(&["--max-queued", "2"]);
    submit(&place, &echo, "1\n2\n", &[]);
    let fixed = ["submit", &echo, "--jsonl", "--no-wait"];
    place
        .run_on(fixed, b"3\n")
        .fails(4, "jobs are queued already");
    let input = place.file("later", "3\n");
    let waiting = place.start(["submit", &echo, "--jsonl", &input.to_string_lossy()]);
    std::thread::sleep(Duration::from_millis(300));
    assert!(!waiting.log().contains("batch 2"));
    let _worker = place.worker("w", &[]);
    wait_for("room", || waiting.log().contains("batch 2"));
}

#[test]
fn a_directory_is_checked_copied_repaired_and_compacted() {
    let place = place();
    let spin = guest("spin");
    let coordinator = place.coordinator(&[]);
    let worker = place.worker("w", &[]);
    let batch = submit(&place, &spin, "1\n2\n3\n", &[]);
    place.run(["wait", &batch]).ok();
    let before = results(&place, &batch);
    let copy = place.path().join("copy");
    let copy = copy.to_string_lossy();
    // While it runs.
    place.run(["coordinator", "backup", &copy]).ok();
    place
        .run(["coordinator", "check"])
        .fails(10, "another coordinator is running");
    coordinator.kill();
    worker.kill();
    let checked = place.run(["coordinator", "check"]).ok();
    assert!(checked.contains("all is well"), "{checked}");
    place.run(["coordinator", "compact"]).ok();

    // The module is damaged on the disk.
    let blobs = place.state().join("blobs");
    let module = std::fs::read_dir(&blobs)
        .unwrap()
        .flatten()
        .next()
        .unwrap()
        .path();
    let module = match module.is_dir() {
        true => std::fs::read_dir(module)
            .unwrap()
            .flatten()
            .next()
            .unwrap()
            .path(),
        false => module,
    };
    let mut bytes = std::fs::read(&module).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    // The copy may share the file.
    std::fs::remove_file(&module).unwrap();
    std::fs::write(&module, bytes).unwrap();
    let found = place.run(["coordinator", "check"]);
    found.fails(10, "damaged");
    assert!(found.stdout().contains("blob"), "{}", found.stdout());
    place.run(["coordinator", "check", "--repair"]).ok();
    place.run(["coordinator", "check", "--repair"]).ok();
    let coordinator = place.coordinator(&[]);
    // Only what outputs look like stood in the module.
    let served = results(&place, &batch);
    assert_eq!(served.len(), before.len());
    for (now, then) in served.iter().zip(&before) {
        assert_eq!(
            (&now["outcome"], &now["fuel"]),
            (&then["outcome"], &then["fuel"])
        );
    }
    coordinator.kill();

    // The copy has everything, credentials included.
    std::fs::remove_dir_all(place.state()).unwrap();
    std::fs::rename(&*copy, place.state()).unwrap();
    let _coordinator = place.coordinator(&[]);
    let _worker = place.worker("w", &[]);
    assert_eq!(results(&place, &batch), before, "of the copy");
    place.run(["replay", &format!("{batch}.2")]).ok();
}

#[test]
fn what_another_life_of_a_coordinator_gave_out_answers_nothing() {
    let place = place();
    let spin = guest("spin");
    let args = ["--in-memory"];
    let coordinator = place.coordinator(&args);
    let worker = place.worker("w", &[]);
    let old = submit(&place, &spin, "1000\n", &[]);
    wait_for("the job", || {
        place.run(["jobs"]).stdout().contains("running")
    });
    worker.signal(Signal::STOP);
    let _coordinator = restart(&place, coordinator, &args);
    // It knows nothing of the first batch, and gives its number to another.
    let new = submit(&place, &spin, "3\n", &[]);
    assert_eq!(old, new);
    worker.signal(Signal::CONT);
    place.run(["wait", &new]).ok();
    let expected = place.run_on(["run", &spin, "--json", "--local"], b"3").ok();
    assert_eq!(place.run(["results", &new]).ok(), expected);
}
