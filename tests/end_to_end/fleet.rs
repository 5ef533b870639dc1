//! `optwasm fleet` on hosts and on this machine, and workers that leave at a set time.

use std::path::Path;
use std::time::{Duration, Instant};

use optwasm_tests::cluster::{Place, wait_for};
use rustix::process::Signal;

use crate::real::debian::unpack;
use crate::real::sshd::{PACKAGES, serve};
use crate::real::{announce, is_root, write_program};
use crate::{guest, place};

/// The workers that the coordinator of `place` lists.
pub fn workers(place: &Place) -> Vec<serde_json::Value> {
    let all = place.run(["workers", "--output", "json"]).json();
    all["workers"].as_array().unwrap().clone()
}

/// Whether some process has this in its arguments or in its environment.
pub fn seen_in_proc(needle: &str) -> bool {
    let own = std::process::id().to_string();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let mut others = entries.filter(|entry| *entry.file_name() != *own);
    others.any(|entry| {
        ["cmdline", "environ"].iter().any(|file| {
            let bytes = std::fs::read(entry.path().join(file));
            bytes.is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(needle))
        })
    })
}

/// What a token file allows.
pub fn role_of(place: &Place, file: &Path) -> String {
    let file = file.display().to_string();
    let said = place.run(["token", "inspect", "--token-file", &file]).ok();
    let role = said.lines().find_map(|line| line.strip_prefix("role:"));
    role.unwrap().trim().to_owned()
}

#[test]
fn case_37_workers_are_started_by_a_real_ssh_and_one_host_stops_no_other() {
    let debian = match unpack("ssh", &PACKAGES) {
        Ok(debian) => debian,
        Err(why) => return announce(&format!("not tested: optwasm fleet ssh: {why}")),
    };
    let shells = (debian.path("bin/bash"), debian.path("bin/dash"));
    let server = serve(&debian, is_root().then_some((&shells.0, &shells.1)));
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let id = format!("127.0.0.1:{}", server.port);
    let hosts = place.file(
        "hosts",
        format!("{id} slots=2 label.rack=a\n127.0.0.1:1 # nobody listens\n"),
    );
    let hosts = hosts.display().to_string();
    let fleet = |verb: &str, more: &[&str]| {
        let ssh_args = server.ssh_args();
        let reach = ssh_args.iter().flat_map(|arg| ["--ssh-arg", arg.as_str()]);
        let args = ["fleet", verb, &hosts, "--fleet", "lab"].into_iter();
        place.run(args.chain(reach).chain(more.iter().copied()))
    };

    let begin = Instant::now();
    let started = fleet("ssh", &["--output", "json"]);
    assert_eq!(started.code(), 1, "one host fails: {}", started.stderr());
    let report = started.json();
    assert_eq!(report["workers"][0]["host"], id.as_str());
    assert_eq!(report["workers"][0]["state"], "started, program copied");
    assert_eq!(report["workers"][1]["state"], "failed");
    let error = report["workers"][1]["error"].as_str().unwrap();
    assert!(error.contains("Connection refused"), "{error}");
    wait_for("the worker", || !workers(&place).is_empty());
    announce(&format!(
        "fleet ssh: this program copied, started and joined in {} ms",
        begin.elapsed().as_millis()
    ));
    let worker = workers(&place).remove(0);
    assert_eq!(worker["slots"], 2);
    assert_eq!(worker["labels"]["fleet"], "lab");
    assert_eq!(worker["labels"]["rack"], "a");
    assert_eq!(place.run_on(["run", &guest("echo")], b"far").ok(), "far");

    let folder = server
        .home()
        .join(".local/state/optwasm/fleet/lab")
        .join(&id);
    let token = folder.join("token");
    assert_eq!(role_of(&place, &token), "worker");
    let secret = std::fs::read_to_string(&token).unwrap();
    assert!(
        !seen_in_proc(secret.trim()),
        "the token is in a list of processes"
    );

    let again = fleet("ssh", &["--output", "json"]).json();
    assert_eq!(again["workers"][0]["state"], "was running");
    let status = fleet("status", &["--output", "jsonl"]);
    let first: serde_json::Value =
        serde_json::from_str(status.stdout().lines().next().unwrap()).unwrap();
    assert_eq!(first["state"], "running");
    let version = place.run(["--version"]).ok();
    assert_eq!(first["version"], version.trim());
    assert!(fleet("logs", &[]).stdout().contains("connected to"));
    let stopped = fleet("stop", &[]);
    assert!(stopped.stdout().contains("stopped"), "{}", stopped.stdout());
    wait_for("it to leave", || workers(&place).is_empty());
    assert!(!token.exists());
    assert!(fleet("status", &[]).stdout().contains("not running"));
}

#[test]
fn case_37_each_host_is_one_call_of_ssh_without_the_token() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let ssh = place.path().join("ssh");
    write_program(
        &ssh,
        "#!/bin/sh\nprintf '%s|' \"$@\" >> \"$0.calls\"; echo >> \"$0.calls\"\n\
         tr '\\0' '\\n' < /proc/$$/environ >> \"$0.env\"\nexit 255\n",
    );
    let hosts = place
        .file("hosts", "one\ntwo\nthree\n")
        .display()
        .to_string();
    let ssh_path = ssh.display().to_string();
    let ran = place.run(["fleet", "ssh", &hosts, "--ssh", &ssh_path]);
    assert_eq!(ran.code(), 1);
    assert_eq!(
        ran.stdout().matches("failed").count(),
        3,
        "{}",
        ran.stdout()
    );
    let calls = std::fs::read_to_string(place.path().join("ssh.calls")).unwrap();
    assert_eq!(calls.lines().count(), 3);
    let env = std::fs::read_to_string(place.path().join("ssh.env")).unwrap();
    let token = std::fs::read_to_string(place.state().join("worker.token")).unwrap();
    assert!(!calls.contains("optwasm1_") && !env.contains("optwasm1_"));
    assert!(
        token.starts_with("optwasm1_"),
        "what was looked for is what tokens begin with"
    );
}

#[test]
fn workers_here_end_with_their_fleet_and_finish_what_they_run() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let mut fleet = place.start(["fleet", "local", "2", "--slots", "1"]);
    wait_for("the workers", || workers(&place).len() == 2);
    let again = place.run(["fleet", "local", "1"]);
    again.fails(2, "a fleet runs in");
    let token = place.state().join("fleet/workers/token");
    assert_eq!(role_of(&place, &token), "worker");

    let spin = guest("spin");
    place.run_on(["run", &spin, "--json"], b"1").ok();
    let args = [
        "submit", &spin, "--jsonl", "--memo", "off", "--output", "json",
    ];
    let batch = place.run_on(args, b"2000\n2000\n20\n20\n").json()["batch"].to_string();
    wait_for("the jobs", || {
        workers(&place)
            .iter()
            .all(|worker| worker["held"].as_u64() > Some(0))
    });
    fleet.signal(Signal::INT);
    assert!(fleet.wait().success(), "{}", fleet.log());
    assert!(workers(&place).is_empty());
    assert!(!token.exists());
    let results = place.run(["results", &batch, "--output", "jsonl", "--as-completed"]);
    let ok = results.stdout().matches(r#""outcome":"ok""#).count();
    assert!(ok >= 2, "what ran was finished: {}", results.stdout());
    assert!(!results.stdout().contains("worker-lost"));
}

#[test]
fn detached_workers_outlive_the_command_that_started_them() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let started = place.run([
        "fleet", "local", "2", "--detach", "--slots", "1", "--output", "json",
    ]);
    started.ok();
    assert_eq!(started.json()["workers"][1]["state"], "started");
    wait_for("the workers", || workers(&place).len() == 2);
    let names: Vec<_> = workers(&place)
        .iter()
        .map(|w| w["name"].to_string())
        .collect();
    assert!(names.contains(&"\"local-2\"".to_owned()), "{names:?}");
    let status = place
        .run(["fleet", "status", "--local", "3", "--output", "json"])
        .json();
    assert_eq!(status["workers"][0]["state"], "running");
    assert_eq!(status["workers"][2]["state"], "not running");
    assert!(
        place
            .run(["fleet", "logs", "--local", "1"])
            .ok()
            .contains("connected to")
    );
    assert!(
        place
            .run(["fleet", "stop", "--local", "2"])
            .ok()
            .contains("stopped")
    );
    wait_for("them to leave", || workers(&place).is_empty());
}

#[test]
fn workers_are_given_a_token_for_workers_and_no_other() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    for role in ["admin", "client", "read"] {
        let token = place.run(["token", "create", role]).ok();
        let file = place.file("token", token).display().to_string();
        let ran = place.run(["fleet", "local", "1", "--worker-token-file", &file]);
        ran.fails(5, &format!("this token is for the role {role}"));
        assert!(ran.stderr().contains("optwasm token create worker"));
    }
    // From elsewhere, an administrator has one issued.
    let admin = place.run(["token", "create", "admin"]).ok();
    let far = self::place();
    let admin = far.file("admin", admin).display().to_string();
    let address = place.address();
    let connect = ["--connect", &address, "--token-file", &admin];
    let args = ["fleet", "local", "1", "--detach"];
    far.run(args.iter().chain(&connect)).ok();
    wait_for("the worker", || workers(&place).len() == 1);
    let token = far
        .path()
        .join(".local/state/optwasm/fleet/workers/local-1/token");
    assert_eq!(role_of(&place, &token), "worker");
    far.run(["fleet", "stop", "--local", "1"]).ok();
    // A client cannot.
    let client = place.run(["token", "create", "client"]).ok();
    let client = far.file("client", client).display().to_string();
    let connect = ["--connect", &address, "--token-file", &client];
    let ran = far.run(args.iter().chain(&connect));
    ran.fails(5, "does not allow this");
    assert!(ran.stderr().contains("--worker-token-file"));
}

#[test]
fn unit_and_manifest_name_the_coordinator_and_hold_no_secret() {
    let place = place();
    let _coordinator = place.coordinator(&["--advertise", "head.example.org"]);
    let port = place.address().split_once(':').unwrap().1.to_owned();
    let unit = place.run(["fleet", "systemd", "--slots", "4"]).ok();
    let connect = format!("\"--connect=head.example.org:{port}\"");
    assert!(
        unit.contains(&connect) && unit.contains("LoadCredential=token:/etc/optwasm/worker.token")
    );
    let args = [
        "fleet",
        "k8s",
        "--image",
        "registry/optwasm:1",
        "--replicas",
        "3",
        "--kind",
        "job",
    ];
    let ran = place.run(args);
    let manifest = ran.ok();
    assert!(
        manifest.contains(&connect)
            && manifest.contains("kind: Job")
            && manifest.contains("parallelism: 3")
    );
    assert!(
        ran.stderr()
            .contains("kubectl create secret generic optwasm-worker")
    );
    assert!(!unit.contains("optwasm1_") && !manifest.contains("optwasm1_"));
    place
        .run(["fleet", "systemd", "--program", "optwasm"])
        .fails(2, "not an absolute path");
    place
        .run(["fleet", "systemd", "--advertise", "head"])
        .fails(2, "not of the form HOST:PORT");
}

#[test]
fn the_version_is_told_whatever_the_configuration() {
    let place = place();
    let config = place.path().join(".config/optwasm");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("config.toml"), "nonsense").unwrap();
    let mut command = place.command(["--version"]);
    command.env("OPTWASM_PROFILE", "none").env_remove("HOME");
    let output = command.output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("optwasm "));
}

#[test]
fn a_worker_takes_no_job_that_cannot_end_before_it_leaves() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let spin = guest("spin");
    let submit = |deadline: &str, input: &[u8]| {
        let args = [
            "submit", &spin, "--jsonl", "--output", "json", "--memo", "off",
        ];
        let deadline = [["--deadline", deadline]];
        let deadline = deadline.iter().filter(|pair| !pair[1].is_empty()).flatten();
        place.run_on(args.iter().chain(deadline), input).json()["batch"].to_string()
    };
    // Compiled before it counts.
    place.run_on(["run", &spin, "--json", "--local"], b"1").ok();
    let stay = Duration::from_secs(30);
    let begin = Instant::now();
    let mut worker = place.worker("brief", &["--leave-after", "30s"]);
    let long = submit("1m", b"20\n");
    let short = submit("3s", b"20\n");
    place.run(["wait", &short]).ok();
    let why = place.run(["explain", &format!("{long}.0")]).ok();
    assert!(
        why.contains("no connected worker stays for as long"),
        "{why}"
    );
    // Of this one nobody knows how long it takes: it begins, and does not end in time.
    let endless = submit("", b"1000000000\n");
    wait_for("the endless job", || {
        place
            .run(["explain", &format!("{endless}.0")])
            .ok()
            .contains("brief")
    });

    assert!(worker.wait().success(), "{}", worker.log());
    let stayed = begin.elapsed();
    assert!(stayed < stay, "it left after {stayed:?}");
    assert!(stayed > stay * 3 / 4, "it left after {stayed:?}");
    assert!(worker.log().contains("the time is up"), "{}", worker.log());
    assert!(workers(&place).is_empty(), "it has said good-bye");

    // What it did not end waits without blame, and what it did not take is done by one that stays.
    let why = place
        .run(["explain", &format!("{endless}.0"), "--output", "json"])
        .json();
    assert_eq!(why["history"].as_array().map(Vec::len), Some(0), "{why}");
    place.run(["cancel", &endless]).ok();
    let _stays = place.worker("stays", &[]);
    place.run(["wait", &long]).ok();
}

#[test]
fn workers_here_end_with_a_fleet_that_was_killed() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    for signal in [Signal::KILL, Signal::HUP] {
        let mut fleet = place.start(["fleet", "local", "2", "--slots", "1"]);
        wait_for("the workers", || workers(&place).len() == 2);
        fleet.signal(signal);
        fleet.wait();
        wait_for("them to leave", || workers(&place).is_empty());
    }
}

#[test]
fn a_worker_that_has_lost_its_coordinator_leaves_after_its_idle_timeout() {
    let place = place();
    let mut coordinator = place.coordinator(&[]);
    let mut worker = place.worker("alone", &["--idle-timeout", "5s"]);
    coordinator.signal(Signal::TERM);
    coordinator.wait();
    assert!(worker.wait().success(), "{}", worker.log());
    assert!(worker.log().contains("nothing to do"), "{}", worker.log());
}

#[test]
fn a_detached_worker_of_another_coordinator_is_no_success() {
    let (one, two) = (place(), place());
    let _coordinators = [one.coordinator(&[]), two.coordinator(&[])];
    // The same user, whose two coordinators have a directory each.
    let state = two.state().display().to_string();
    let detach = ["fleet", "local", "1", "--detach", "--slots", "1"];
    one.run(detach).ok();
    wait_for("the worker", || workers(&one).len() == 1);
    let again = one.run(detach.iter().chain(&["--dir", &state]));
    assert_eq!(again.code(), 1, "{}", again.stdout());
    let said = again.stdout();
    assert!(said.contains("another coordinator"), "{said}");
    let other = ["--dir", &state, "--fleet", "second"];
    one.run(detach.iter().chain(&other)).ok();
    wait_for("the other's worker", || workers(&two).len() == 1);
    one.run(["fleet", "stop", "--local", "1"]).ok();
    one.run(["fleet", "stop", "--local", "1", "--fleet", "second"])
        .ok();
    wait_for("them to leave", || {
        workers(&one).is_empty() && workers(&two).is_empty()
    });
}

#[test]
fn at_a_signal_ssh_is_ended_too() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let ssh = place.path().join("ssh");
    write_program(
        &ssh,
        "#!/bin/sh\ntrap '' INT\necho $$ > \"$0.pid\"\nsleep 600 &\nwait\n",
    );
    let hosts = place.file("hosts", "one\n").display().to_string();
    let ssh_path = ssh.display().to_string();
    for verb in ["ssh", "status", "stop", "logs"] {
        let pid = place.path().join("ssh.pid");
        let _ = std::fs::remove_file(&pid);
        let mut fleet = place.start(["fleet", verb, &hosts, "--ssh", &ssh_path]);
        let read = || std::fs::read_to_string(&pid).unwrap_or_default();
        wait_for("ssh", || read().ends_with('\n'));
        fleet.signal(Signal::INT);
        assert_eq!(fleet.wait().code(), Some(130), "{verb}: {}", fleet.log());
        let stat = format!("/proc/{}/stat", read().trim());
        wait_for("its end", || {
            // Gone, or a zombie that nobody has collected.
            !std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "))
        });
    }
}

#[test]
fn what_no_host_and_no_clock_takes_is_refused() {
    let place = place();
    let hosts = place.file("hosts", "one\n").display().to_string();
    let slurm = ["fleet", "slurm", "--max", "1", "--dry-run"];
    for args in [
        &["fleet", "status", &hosts, "--root", "here"][..],
        &["fleet", "stop", "--local", "4097"],
        &[&slurm[..], &["--observe-every", "0s"]].concat(),
        &[&slurm[..], &["--poll", "0s"]].concat(),
    ] {
        place.run(args).fails(2, "invalid value");
    }
}
