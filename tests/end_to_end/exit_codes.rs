//! Every exit code that the help text lists.

use rustix::process::Signal;

use crate::{data, guest, place};

#[test]
fn a_single_job_tells_by_its_code_how_it_ended() {
    let place = place();
    let run = |name: &str, input: &str, extra: &[&str]| {
        let guest = guest(name);
        let args = ["run", "--local", &guest, "--json"];
        place.run_on(args.iter().chain(extra), input.as_bytes())
    };
    assert_eq!(run("sum", "[1, 2, 3.5]", &[]).code(), 0);
    run("errors", r#""abc""#, &[]).fails(20, "cannot solve the model: cannot read the bounds");
    run("panics", r#""ouch""#, &[]).fails(21, "told to panic: ouch");
    run("deep_trap", "3", &[]).fails(21, "unreachable");
    run("spin", "1000000", &["--fuel", "1M"]).fails(22, "out of fuel");
    run("grow", "200", &["--memory", "64MiB"]).fails(23, "denied memory");
    run(
        "spin",
        "100000000",
        &["--deadline", "200ms", "--retries", "0"],
    )
    .fails(24, "deadline");
    let chatty =
        r#"{"logs":0,"progress":0,"incumbents":0,"checkpoints":0,"print":0,"panic":false}"#;
    assert_eq!(run("chatty", chatty, &[]).code(), 0);
    let plain = guest("plain");
    place
        .run_on(
            ["run", "--local", &plain, "--max-output", "10"],
            &[b'x'; 100],
        )
        .fails(25, "output too large");
    let broken = place.file("broken.wasm", b"\0asm\x01\0\0\0\xff");
    place
        .run(["run", "--local", &broken.display().to_string()])
        .fails(26, "not a valid WebAssembly module");
}

#[test]
fn many_jobs_usage_and_things_that_do_not_exist() {
    let place = place();
    let sum = guest("sum");
    let mixed = place.run_on(["run", "--local", &sum, "--jsonl"], b"[1]\n\"text\"\n[2]\n");
    assert_eq!(mixed.code(), 1);
    assert_eq!(mixed.stdout().lines().count(), 2);
    assert!(mixed.stderr().contains("job 1 failed"));
    place.run(["run"]).fails(2, "MODULE");
    place.run(["run", &sum, "--fuel", "lots"]).fails(2, "5e9");
    place
        .run(["run", "no-such-module"])
        .fails(3, "no file and no plugin");
    place
        .run(["solve", "no-such-file.mps"])
        .fails(3, "no-such-file.mps");
    place.run(["jobs"]).fails(4, "no coordinator is running");
}

#[test]
fn coordinator_codes() {
    let place = place();
    let mut coordinator = place.coordinator(&[]);
    place
        .run(["results", "99"])
        .fails(3, "there is no batch 99");
    place.run(["wait", "99"]).fails(3, "there is no batch 99");

    // Nobody works: the submitter is told, and gives up when it said so.
    let sum = guest("sum");
    let waited = place.run_on(["run", &sum, "--json", "--wait-timeout", "500ms"], b"[1]");
    waited.fails(6, "waits: no worker is connected");
    assert!(waited.stderr().contains("no worker took a job"));
    let submitted = place.run_on(["submit", &sum, "--json", "--output", "json"], b"[1]");
    let batch = submitted.json()["batch"].to_string();
    place
        .run(["wait", &batch, "--timeout", "300ms"])
        .fails(6, "is not done");
    place.run(["cancel", &batch]).ok();
    assert_eq!(place.run(["wait", &batch]).code(), 7);

    // A role that may only read.
    let reader = place.file("reader", place.run(["token", "create", "read"]).ok());
    let reader = reader.display().to_string();
    place.run(["jobs", "--token-file", &reader]).ok();
    let refused = place.run([
        "submit",
        "linear",
        &data("afiro.mps"),
        "--token-file",
        &reader,
    ]);
    refused.fails(5, "role `read`");

    // Room for nothing.
    drop(place.run(["shutdown"]).ok());
    assert!(coordinator.wait().success());
    let mut tiny = place.coordinator(&["--max-store", "1KiB"]);
    place
        .run(["submit", "linear", &data("afiro.mps")])
        .fails(10, "does not fit");
    tiny.signal(Signal::TERM);
    assert!(tiny.wait().success());
    assert!(!place.state().join("access.json").exists());
}

#[test]
fn signals_stop_a_local_run_and_detach_from_a_remote_one() {
    let place = place();
    let spin = guest("spin");
    let input = place.file("long", b"1000000000");
    let input = input.display().to_string();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut local = place.start(["run", "--local", &spin, "--json", &input]);
        std::thread::sleep(std::time::Duration::from_millis(700));
        local.signal(signal);
        assert_eq!(local.wait().code(), Some(code), "{}", local.log());
    }

    let _coordinator = place.coordinator(&[]);
    let _worker = place.worker("w", &[]);
    let mut remote = place.start(["run", &spin, "--json", &input]);
    optwasm_tests::cluster::wait_for("the job", || {
        place.run(["jobs"]).stdout().contains("running")
    });
    remote.signal(Signal::INT);
    assert_eq!(remote.wait().code(), Some(130));
    assert!(remote.log().contains("optwasm watch 1"), "{}", remote.log());
    assert!(place.run(["jobs"]).stdout().contains("running"));
    place.run(["cancel", "1"]).ok();
}
