//! Several users of one coordinator: each sees, uses and pays for what is its own.

use std::path::PathBuf;
use std::time::Duration;

use optwasm_tests::cluster::{Place, Process, Ran, wait_for};
use serde_json::Value as Json;

use crate::{guest, place};

/// The holder of a token.
struct User<'a> {
    place: &'a Place,
    token: PathBuf,
}

impl<'a> User<'a> {
    fn new(place: &'a Place, role: &str, namespace: &str) -> Self {
        let token = place.run(["token", "create", role, "--namespace", namespace]);
        let file = place.file(&format!("{role}-{namespace}"), token.ok());
        Self { place, token: file }
    }

    fn args<'b>(&'b self, args: &[&'b str]) -> Vec<String> {
        let mut all: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        all.extend(["--connect".to_owned(), self.place.address()]);
        all.extend(["--token-file".to_owned(), self.token.display().to_string()]);
        all
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.place.run(self.args(args))
    }

    /// Submits jobs of the guest `spin`, of so many million rounds each; returns the batch.
    fn submit(&self, count: usize, millions: u64, more: &[&str]) -> String {
        let spin = guest("spin");
        let mut args = vec![
            "submit", &spin, "--jsonl", "--memo", "off", "--output", "json",
        ];
        args.extend(more);
        let input = format!("{millions}\n").repeat(count);
        let ran = self.place.run_on(self.args(&args), input.as_bytes());
        ran.json()["batch"].to_string()
    }

    fn jobs(&self) -> Vec<Json> {
        let all = self.run(&["jobs", "--output", "json"]).json();
        all["batches"].as_array().unwrap().clone()
    }

    /// Its one line of `usage`.
    fn usage(&self) -> Json {
        let all = self.run(&["usage", "--json"]).json();
        let all = all["namespaces"].as_array().unwrap();
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].clone()
    }
}

fn workers(place: &Place) -> [Process; 2] {
    ["one", "two"].map(|name| place.worker(name, &[]))
}

#[test]
fn nothing_of_another_namespace_is_there() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let _worker = place.worker("worker", &[]);
    let (a, b) = (
        User::new(&place, "client", "a"),
        User::new(&place, "client", "b"),
    );
    let reader = User::new(&place, "read", "b");
    let echo = guest("echo");
    let large = place.file("large", vec![b'x'; 1 << 20]);
    let large = large.display().to_string();
    let args = a.args(&["submit", &echo, &large, "--id", "same", "--output", "json"]);
    let batch = place.run(args).json()["batch"].to_string();
    a.run(&["wait", &batch]).ok();
    let job = format!("{batch}.0");

    // Every verb says of it what it says of one that does not exist.
    for user in [&b, &reader] {
        assert!(user.jobs().is_empty());
        let verbs: [&[&str]; 5] = [
            &["results", &batch],
            &["watch", &batch],
            &["wait", &batch],
            &["explain", &job],
            &["replay", &job],
        ];
        for verb in verbs {
            let hidden = user.run(verb);
            let absent = match verb[1].contains('.') {
                true => user.run(&[verb[0], "999.0"]),
                false => user.run(&[verb[0], "999"]),
            };
            assert_eq!(hidden.code(), 3, "{verb:?}: {}", hidden.stderr());
            let absent = absent.stderr().replace("999", &batch);
            assert_eq!(hidden.stderr(), absent, "{verb:?}");
        }
    }
    for verb in ["cancel", "rm", "retry"] {
        let hidden = b.run(&[verb, &batch]);
        hidden.fails(3, &format!("there is no batch {batch}"));
    }
    // Neither is it disturbed.
    let results = a.run(&["results", &batch]);
    assert_eq!(results.bytes().len(), 1 << 20);
    assert_eq!(a.jobs().len(), 1);
    assert_eq!(a.jobs()[0]["namespace"], "a");

    // The same id is another batch's, and the same job runs again: an answer from memory would tell
    // that somebody has run it.
    let args = b.args(&["submit", &echo, &large, "--id", "same", "--output", "json"]);
    let other = place.run(args).json()["batch"].to_string();
    assert_ne!(other, batch);
    b.run(&["wait", &other]).ok();
    assert_eq!(b.jobs()[0]["memo"], 0);
    let again = b.args(&["submit", &echo, &large, "--output", "json"]);
    let again = place.run(again).json()["batch"].to_string();
    b.run(&["wait", &again]).ok();
    assert_eq!(b.jobs()[1]["memo"], 1, "its own result answers it");

    // What an administrator may, they may not.
    for user in [&a, &reader] {
        for command in [
            &["namespace", "set", "b", "--weight", "9"][..],
            &["token", "create", "client", "--namespace", "b"],
            &["token", "create", "admin"],
            &["jobs", "--namespace", "a"],
        ] {
            assert_eq!(user.run(command).code(), 5, "{command:?}");
        }
    }
    // It sees all, and may name one.
    let all = place.run(["jobs", "--output", "json"]).json();
    assert_eq!(all["batches"].as_array().unwrap().len(), 3);
    let of_a = place
        .run(["jobs", "--namespace", "a", "--output", "json"])
        .json();
    assert_eq!(of_a["batches"].as_array().unwrap().len(), 1);
    let names = place.run(["usage", "--json"]).json();
    let names = names["namespaces"].as_array().unwrap().clone();
    let names: Vec<&str> = names
        .iter()
        .map(|n| n["namespace"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"a") && names.contains(&"b"), "{names:?}");
    assert_eq!(a.usage()["namespace"], "a");
    assert_eq!(reader.usage()["namespace"], "b");
}

#[test]
fn case_21_two_users_do_not_disturb_each_other() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let (a, b) = (
        User::new(&place, "client", "a"),
        User::new(&place, "client", "b"),
    );
    let ten = a.submit(10, 1, &[]);
    let few = b.submit(3, 1, &[]);
    let _workers = workers(&place);
    b.run(&["wait", &few]).ok();
    let cancelled = b.submit(3, 1_000_000_000, &[]);
    b.run(&["cancel", &cancelled]).ok();
    b.run(&["results", &ten]).fails(3, "no batch");
    b.run(&["cancel", &ten]).fails(3, "no batch");
    a.run(&["wait", &ten]).ok();
    let results = a.run(&["results", &ten, "--output", "jsonl"]).stdout();
    let ok = |line: &str| serde_json::from_str::<Json>(line).unwrap()["outcome"] == "ok";
    assert_eq!(results.lines().filter(|line| ok(line)).count(), 10);
}

#[test]
fn others_are_not_seen_at_work() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let _workers = workers(&place);
    let (a, b) = (
        User::new(&place, "client", "a"),
        User::new(&place, "client", "b"),
    );
    a.submit(4, 1_000_000_000, &[]);
    wait_for("both to work", || {
        let workers = place.run(["workers", "--output", "json"]).json();
        let workers = workers["workers"].as_array().unwrap();
        workers.iter().all(|worker| worker["state"] == "working")
    });
    let workers = b.run(&["workers", "--output", "json"]).json();
    for worker in workers["workers"].as_array().unwrap() {
        assert_eq!(worker["state"], "idle");
        assert_eq!((&worker["held"], &worker["done"]), (&0.into(), &0.into()));
        assert_eq!(worker["address"], "");
    }
    let status = b.run(&["coordinator", "status", "--output", "json"]).json();
    for number in ["live_batches", "waiting", "held", "used"] {
        assert_eq!(status[number], 0, "{number}: {status}");
    }
    let status = a.run(&["coordinator", "status", "--output", "json"]).json();
    assert_eq!(
        (&status["held"], &status["waiting"]),
        (&2.into(), &2.into())
    );
    // Why a job waits names one's own jobs only.
    let own = b.submit(1, 1, &[]);
    let why = b.run(&["explain", &format!("{own}.0")]).ok();
    assert!(why.contains("0 jobs go before"), "{why}");
}

#[test]
fn a_flood_does_not_keep_others_waiting() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let _workers = workers(&place);
    let (a, b) = (
        User::new(&place, "client", "a"),
        User::new(&place, "client", "b"),
    );
    // Compiled before it counts.
    for user in [&a, &b] {
        let batch = user.submit(2, 1, &[]);
        user.run(&["wait", &batch]).ok();
    }
    let flood = a.submit(5000, 5, &["--priority", "1000", "--weight", "1000"]);
    let done = || {
        let jobs = a.jobs();
        let number: u64 = flood.parse().unwrap();
        let flood = jobs.iter().find(|job| job["batch"] == number);
        flood.unwrap()["done"].as_u64().unwrap()
    };
    wait_for("the flood to run", || done() > 20);
    let before = done();
    let few = b.submit(10, 5, &[]);
    b.run(&["wait", &few]).ok();
    let meanwhile = done() - before;
    // Half of what ran, what ran already, and what ran while processes were started to ask.
    assert!(meanwhile < 2500, "{meanwhile}");
    assert!(done() < 5000, "the flood was over");
    a.run(&["cancel", &flood]).ok();
}

#[test]
fn shares_follow_weights() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let _workers = workers(&place);
    let (a, b) = (
        User::new(&place, "client", "a"),
        User::new(&place, "client", "b"),
    );
    place.run(["namespace", "set", "a", "--weight", "3"]).ok();
    let listed = place.run(["namespace", "list", "--output", "json"]).json();
    assert_eq!(listed["namespaces"][0]["weight"], 3);
    let first = a.submit(20_000, 5, &[]);
    let second = b.submit(20_000, 5, &[]);
    // Both read at one moment: processes that ask take as long as many jobs.
    let used = || {
        let usage = place.run(["usage", "--json"]).json();
        let of = |name: &str, what: &str| {
            let all = usage["namespaces"].as_array().unwrap();
            let own = all.iter().find(|usage| usage["namespace"] == name);
            own.map_or(0.0, |usage| usage[what].as_f64().unwrap())
        };
        ["fuel", "slot_us"].map(|what| [of("a", what), of("b", what)])
    };
    wait_for("both to run", || used()[0].iter().all(|fuel| *fuel > 0.0));
    let before = used();
    let mut after = before;
    wait_for("many jobs", || {
        std::thread::sleep(Duration::from_millis(200));
        after = used();
        let fuel = |of: [[f64; 2]; 2]| of[0][0] + of[0][1];
        // Several hundred jobs of five million rounds, of several fuel each.
        fuel(after) - fuel(before) > 1e10
    });
    a.run(&["cancel", &first]).ok();
    b.run(&["cancel", &second]).ok();
    for (what, (after, before)) in ["fuel", "time"].iter().zip(after.iter().zip(before)) {
        let ratio = (after[0] - before[0]) / (after[1] - before[1]);
        assert!((2.2..4.0).contains(&ratio), "{what}: {ratio}");
    }
}

/// Whoever takes an answer from a job's progress and cancels it pays for it all the same.
#[test]
fn what_is_cancelled_is_paid_for() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let _worker = place.worker("w", &[]);
    let user = User::new(&place, "client", "a");
    // Compiled before it counts.
    let first = user.submit(1, 1, &[]);
    user.run(&["wait", &first]).ok();
    let used = |what: &str| user.usage()[what].as_f64().unwrap();
    let before = (used("fuel"), used("slot_us"));
    let batch = user.submit(1, 1_000_000_000, &[]);
    wait_for("the job to run", || {
        user.run(&["jobs"]).stdout().contains("running")
    });
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(used("fuel"), before.0);
    user.run(&["cancel", &batch]).ok();
    wait_for("its report", || used("fuel") > before.0 + 1e6);
    assert!(used("slot_us") > before.1 + 100_000.0);
}

#[test]
fn quotas_are_kept_and_named() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let (a, b) = (
        User::new(&place, "client", "a"),
        User::new(&place, "client", "b"),
    );
    let spin = guest("spin");
    let set = |args: &[&str]| {
        let all = ["namespace", "set", "a"].iter().chain(args);
        place.run(all.copied().collect::<Vec<_>>()).ok();
    };
    let try_submit = |user: &User<'_>, count: usize| {
        let args = user.args(&[
            "submit", &spin, "--jsonl", "--memo", "off", "--output", "json",
        ]);
        place.run_on(args, "1\n".repeat(count).as_bytes())
    };
    set(&["--max-queued", "5"]);
    try_submit(&a, 6).fails(
        10,
        "namespace a is 5 queued jobs: 0 are queued, and this is 6 more",
    );
    try_submit(&a, 4).ok();
    try_submit(&a, 2).fails(10, "4 are queued, and this is 2 more");
    try_submit(&a, 1).ok();
    try_submit(&b, 100).ok();
    // Running jobs are not queued.
    let worker = place.worker("worker", &[]);
    wait_for("room in the queue", || a.usage()["queued"] == 0);
    let last = try_submit(&a, 5).json()["batch"].to_string();
    a.run(&["wait", &last]).ok();
    assert_eq!(a.usage()["ok"], 10);

    set(&["--max-queued", "none", "--max-fuel", "1000"]);
    let fuel = a.usage()["fuel"].as_u64().unwrap();
    assert!(fuel > 1000);
    let message = format!("namespace a is 1000 of fuel, and {fuel} have been used");
    try_submit(&a, 1).fails(10, &message);
    a.run(&["retry", &last, "--all"]).fails(10, &message);
    set(&["--max-fuel", "none"]);
    let last = try_submit(&a, 1).json()["batch"].to_string();
    a.run(&["wait", &last]).ok();
    drop(worker);

    // Bytes of inputs, of results and of blobs, until the batches are removed.
    let bytes = a.usage()["bytes"].as_u64().unwrap();
    set(&["--max-bytes", &(bytes + 500_000).to_string()]);
    let large = place.file("large", vec![7; 600_000]);
    let large = large.display().to_string();
    let args = ["submit", &guest("echo"), &large];
    a.run(&args).fails(10, "bytes of inputs, results and blobs");
    b.run(&args).ok();
    set(&["--max-bytes", &(bytes + 5_000_000).to_string()]);
    a.run(&args).ok();
    assert!(a.usage()["bytes"].as_u64().unwrap() > bytes + 600_000);
}

#[test]
fn usage_outlives_a_killed_coordinator_and_counts_once() {
    let place = place();
    let address = optwasm_tests::cluster::own_address();
    let coordinator = place.coordinator_at(&address, &[]);
    let _workers = workers(&place);
    let a = User::new(&place, "client", "a");
    place
        .run([
            "namespace",
            "set",
            "a",
            "--weight",
            "7",
            "--max-queued",
            "1M",
        ])
        .ok();
    let batch = a.submit(300, 5, &[]);
    wait_for("some to end", || a.usage()["ok"].as_u64() > Some(30));
    let before = a.usage();
    coordinator.kill();
    std::fs::remove_file(place.state().join("access.json")).unwrap();
    let _coordinator = place.coordinator_at(&address, &[]);
    let after = a.usage();
    for what in ["ok", "fuel", "slot_us", "bytes"] {
        let (before, after) = (before[what].as_u64(), after[what].as_u64());
        assert!(after >= before, "{what}: {before:?}, {after:?}");
    }
    assert_eq!(
        (&after["weight"], &after["max_queued"]),
        (&7.into(), &1_000_000.into())
    );
    a.run(&["wait", &batch]).ok();
    let usage = a.usage();
    assert_eq!((&usage["ok"], &usage["failed"]), (&300.into(), &0.into()));
    // Every job is the same, and is paid for once.
    let results = a.run(&["results", &batch, "--output", "json"]).json();
    let results = results["results"].as_array().unwrap();
    let fuel: u64 = results
        .iter()
        .map(|result| result["fuel"].as_u64().unwrap())
        .sum();
    assert_eq!(usage["fuel"], fuel);
    assert_eq!(usage["queued"], 0);
    a.run(&["rm", &batch]).ok();
    assert_eq!(a.usage()["fuel"], fuel, "what was used was used");
    assert!(a.usage()["bytes"].as_u64() < usage["bytes"].as_u64());
}

#[test]
fn a_token_of_no_namespace_is_of_the_default_one() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let old = place.run(["token", "create", "client"]).ok();
    let old = User {
        place: &place,
        token: place.file("old", old),
    };
    let named = User::new(&place, "client", "default");
    let other = User::new(&place, "client", "other");
    let batch = old.submit(1, 1, &[]);
    assert_eq!(named.jobs().len(), 1);
    assert_eq!(other.jobs().len(), 0);
    assert_eq!(old.usage()["namespace"], "default");
    named.run(&["cancel", &batch]).ok();
    let said = other.run(&["token", "inspect"]).ok();
    assert!(said.contains("namespace:   other"), "{said}");
    let wrong = place.run(["token", "create", "worker", "--namespace", "other"]);
    wrong.fails(2, "tokens for the role `worker` are of no namespace");
    let wrong = place.run(["token", "create", "client", "--namespace", "No/Name"]);
    wrong.fails(2, "a namespace has a name of 1 to 64 characters");
}
