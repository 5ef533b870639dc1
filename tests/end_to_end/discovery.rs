//! How workers and clients find their coordinator: flags, environment, profiles, access files, names. As the
//! acceptance cases have it: a late worker (3), a wrong key (4), a coordinator that restarts (20), two users
//! (21).

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use optwasm_tests::cluster::{Place, Process, own_address, wait_for};
use rustix::process::Signal;

use crate::fleet::{role_of, workers};
use crate::real::{announce, is_root};
use crate::{guest, place};

/// A coordinator with one worker, whose name tells it from others.
struct Site {
    place: Place,
    _processes: [Process; 2],
}

impl Site {
    fn new(name: &str) -> Self {
        let place = place();
        let coordinator = place.coordinator(&[]);
        let worker = place.worker(name, &[]);
        Self {
            place,
            _processes: [coordinator, worker],
        }
    }

    /// A token for clients, in a file.
    fn token(&self) -> String {
        let token = self.place.run(["token", "create", "client"]).ok();
        let file = self.place.file("client", token);
        file.display().to_string()
    }
}

/// The worker's name at the coordinator that this command talks to.
fn found(place: &Place, env: &[(&str, &str)], args: &[&str]) -> String {
    let mut command = place.command(["workers", "--output", "jsonl"].iter().chain(args));
    command.envs(env.iter().copied());
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let worker: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    worker["name"].as_str().unwrap().to_owned()
}

fn config(place: &Place, text: &str) -> PathBuf {
    let dir = place.path().join(".config/optwasm");
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("config.toml");
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn the_nearest_word_says_which_coordinator_is_meant() {
    let sites = ["flag", "env", "profile", "file", "here"].map(Site::new);
    let [flag, env, profile, file, here] = &sites;
    let [flag_at, env_at, profile_at, file_at] =
        [flag, env, profile, file].map(|site| site.place.address());
    let [flag_token, env_token, profile_token, file_token] =
        [flag, env, profile, file].map(Site::token);
    let here = &here.place;

    assert_eq!(found(here, &[], &[]), "here");
    config(
        here,
        &format!(
            "connect = '{file_at}'\ntoken_file = '{file_token}'\n\
             [profile.lab]\nconnect = '{profile_at}'\ntoken_file = '{profile_token}'\n"
        ),
    );
    assert_eq!(found(here, &[], &[]), "file");
    let lab = ("OPTWASM_PROFILE", "lab");
    assert_eq!(found(here, &[lab], &[]), "profile");
    let at = [
        ("OPTWASM_CONNECT", env_at.as_str()),
        ("OPTWASM_TOKEN_FILE", env_token.as_str()),
    ];
    assert_eq!(found(here, &[lab, at[0], at[1]], &[]), "env");
    // Set to nothing means not set.
    let nothing = [("OPTWASM_CONNECT", ""), ("OPTWASM_TOKEN_FILE", "")];
    assert_eq!(found(here, &[lab, nothing[0], nothing[1]], &[]), "profile");
    // A profile that is typed is nearer than a variable.
    assert_eq!(found(here, &at, &["--connect-profile", "lab"]), "profile");
    assert_eq!(found(here, &at, &["-P", ""]), "env");
    let flags = ["--connect", &flag_at, "--token-file", &flag_token];
    assert_eq!(found(here, &at, &flags), "flag");
    assert_eq!(
        found(here, &at, &[&flags[..], &["-P", "lab"]].concat()),
        "flag"
    );

    here.run(["workers", "-P", "nowhere"])
        .fails(2, "has no profile `nowhere`");
    assert!(
        here.run(["workers", "-P", "nowhere"])
            .stderr()
            .contains("There are: lab")
    );
    here.run(["workers", "--connect", "head"])
        .fails(2, "not of the form HOST:PORT");
    here.run(["workers", "--connect", "head:1", "--access-file", "f"])
        .fails(2, "cannot be used with");
}

#[test]
fn a_configuration_that_cannot_be_read_is_an_error_and_not_ignored() {
    let place = place();
    let path = config(&place, "connect = 'head:4710'\ncolour = 'red'\n");
    let ran = place.run(["workers"]);
    ran.fails(2, "unknown field `colour`");
    assert!(ran.stderr().contains(&path.display().to_string()) && ran.stderr().contains("line 2"));
    std::fs::write(&path, "connect = \n").unwrap();
    place.run(["workers"]).fails(2, "config.toml");
    std::fs::write(&path, b"\xff\xfe").unwrap();
    place.run(["workers"]).fails(2, "config.toml");
    // Not a file at all, which root cannot read either.
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let ran = place.run(["run", &guest("echo")]);
    ran.fails(2, "config.toml");
    assert!(ran.stderr().contains("XDG_CONFIG_HOME"));
    std::fs::remove_dir(&path).unwrap();
    place.run(["workers"]).fails(4, "no coordinator is running");
}

/// Runs a command as somebody who has no home directory: neither a variable nor a user's entry names one.
const HOMELESS: &str = "mount --bind /dev/null /etc/passwd; mount --bind /dev/null /etc/nsswitch.conf; \
                        unset HOME; exec \"$@\"";

#[test]
fn no_home_directory_is_needed_where_all_places_are_said() {
    let homeless = ["unshare", "-m", "sh", "-c", HOMELESS, "sh"];
    let mut name = Command::new(homeless[0]);
    let name = name.args(&homeless[1..]).args(["id", "-un"]).output();
    let unknown = name
        .is_ok_and(|output| String::from_utf8_lossy(&output.stderr).contains("cannot find name"));
    if !unknown {
        return announce("not tested: a user without a home directory: it takes root");
    }
    let site = Site::new("here");
    let place = &site.place;
    let run = |env: &[(&str, &str)], args: &[&str]| {
        let mut command = place.command_under(&homeless, args);
        command.env_remove("OPTWASM_DIR");
        command.env_remove("OPTWASM_CACHE_DIR");
        command.envs(env.iter().copied());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    let (state, cache) = (place.state(), place.path().join("cache"));
    let (state, cache) = (state.to_str().unwrap(), cache.to_str().unwrap());
    let both = [("OPTWASM_DIR", state), ("OPTWASM_CACHE_DIR", cache)];
    let (code, said) = run(&both, &["workers"]);
    assert_eq!(code, Some(0), "{said}");
    for (one, other) in [(both[0], "OPTWASM_CACHE_DIR"), (both[1], "OPTWASM_DIR")] {
        let (code, said) = run(&[one], &["workers"]);
        assert_eq!(code, Some(2), "{said}");
        assert!(
            said.contains("no home directory") && said.contains(other),
            "{said}"
        );
    }
    let (code, said) = run(&both, &["workers", "-P", "lab"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("no profile `lab`"), "{said}");
    // A worker's flag is as good as the variable.
    let worker = ["worker", "--dir", state, "--idle-timeout", "0s"];
    let (code, said) = run(&[], &[&worker[..], &["--cache-dir", cache]].concat());
    assert_eq!(code, Some(0), "{said}");
    assert!(Path::new(cache).join("modules").exists());
    let empty = [("OPTWASM_CACHE_DIR", "")];
    let (code, said) = run(&empty, &[&worker[..], &["--cache-dir", ""]].concat());
    assert_eq!(code, Some(2), "{said}");
}

#[test]
fn a_cache_directory_that_is_set_to_nothing_is_not_set() {
    let site = Site::new("here");
    let place = &site.place;
    let worker = ["worker", "--idle-timeout", "0s", "--cache-dir", ""];
    let mut command = place.command(worker);
    command.env("OPTWASM_CACHE_DIR", "");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(!place.path().join("modules").exists());
    assert!(place.path().join(".cache/optwasm/modules").exists());
}

#[test]
fn an_empty_token_is_no_token() {
    let site = Site::new("here");
    let place = &site.place;
    assert_eq!(
        found(place, &[("OPTWASM_TOKEN", "")], &["--token-file", ""]),
        "here"
    );
    let token = std::fs::read_to_string(site.token()).unwrap();
    let given = [("OPTWASM_TOKEN", token.trim())];
    assert_eq!(found(place, &given, &["--token-file", ""]), "here");
    let mut command = place.command(["drain", "1"]);
    command.env("OPTWASM_TOKEN", token.trim());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(5), "the client's token counts");
    place
        .run(["token", "inspect", "--token-file", ""])
        .fails(2, "name a token");
}

#[test]
fn workers_wait_for_an_access_file_and_follow_it_to_a_coordinator_elsewhere() {
    let shared = place();
    let path = shared.path().join("lab.access");
    let file = path.display().to_string();
    let far = place();
    let mut worker = far.start([
        "worker",
        "--slots",
        "1",
        "--name",
        "far",
        "--access-file",
        &file,
    ]);
    wait_for("a word", || {
        worker.log().contains("waiting: there is no access file")
    });

    let first = place();
    let coordinator = first.coordinator(&["--access-file", &file, "--advertise", "localhost"]);
    wait_for("the worker", || workers(&first).len() == 1);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let access: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(access["schema"], "optwasm.access/1");
    assert!(
        access["address"]
            .as_str()
            .unwrap()
            .starts_with("localhost:")
    );
    let worker_token = access["worker_token"].as_str().unwrap();
    let token = far.file("token", worker_token);
    assert_eq!(role_of(&far, &token), "worker");
    assert!(
        access["client_token"].is_null(),
        "clients were not asked for"
    );
    far.run(["workers", "--access-file", &file])
        .fails(5, "admits workers only");

    // It is killed, and another one starts elsewhere: another address, another key, other tokens.
    coordinator.kill();
    assert!(path.exists());
    wait_for("the loss", || worker.log().contains("connection lost"));
    let second = place();
    let mut coordinator = second.coordinator(&["--access-file", &file, "--access-clients"]);
    wait_for("the worker", || workers(&second).len() == 1);
    assert_eq!(
        worker.log().matches("connected to").count(),
        2,
        "{}",
        worker.log()
    );
    assert!(worker.is_running());
    let mut command = far.command(["run", &guest("echo")]);
    let input = far.file("input", "through the file");
    command
        .env("OPTWASM_ACCESS", &file)
        .stdin(std::fs::File::open(input).unwrap());
    let output = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "through the file");
    // Fleets take the workers' token out of it.
    let args = ["fleet", "local", "1", "--detach", "--access-file", &file];
    far.run(args).ok();
    wait_for("both", || workers(&second).len() == 2);
    far.run(["fleet", "stop", "--local", "1"]).ok();

    // A clean end removes it; a file that another one has written since stays.
    coordinator.signal(Signal::TERM);
    assert!(coordinator.wait().success());
    assert!(!path.exists());
    far.run(["workers", "--access-file", &file])
        .fails(4, "there is no access file");
    let mut one = first.coordinator(&["--access-file", &file]);
    let other = place();
    let _two = other.coordinator(&["--access-file", &file]);
    one.signal(Signal::TERM);
    assert!(one.wait().success());
    assert!(path.exists());
    wait_for("the worker", || workers(&other).len() == 1);
}

#[test]
fn an_access_file_that_leads_to_a_stranger_is_waited_out() {
    let shared = place();
    let path = shared.path().join("lab.access");
    let file = path.display().to_string();
    let address = own_address();
    let first = place();
    let coordinator = first.coordinator_at(&address, &["--access-file", &file]);
    let far = place();
    let mut worker = far.start(["worker", "--slots", "1", "--access-file", &file]);
    wait_for("the worker", || workers(&first).len() == 1);
    coordinator.kill();
    // Somebody else's coordinator listens there now.
    let stranger = place();
    let _stranger = stranger.coordinator_at(&address, &[]);
    wait_for("a word", || {
        worker.log().contains("waiting for another access file")
    });
    assert!(worker.is_running() && workers(&stranger).is_empty());
    let second = place();
    let _second = second.coordinator(&["--access-file", &file]);
    wait_for("the worker", || workers(&second).len() == 1);
    std::fs::write(&path, "{}").unwrap();
    far.run(["workers", "--access-file", &file])
        .fails(2, "is not an access file");
}

/// Runs a command where `/etc/hosts` is another file, which may be changed meanwhile.
fn with_hosts(place: &Place, hosts: &Path, args: &[&str]) -> Process {
    let script = r#"mount --bind "$0" /etc/hosts && exec "$@""#;
    let hosts = hosts.display().to_string();
    let wrapper = ["unshare", "-m", "sh", "-c", script, &hosts];
    place.start_command(place.command_under(&wrapper, args))
}

#[test]
fn a_name_is_resolved_again_at_each_connection() {
    if !is_root() {
        return announce(
            "not tested: names that come to stand for another address, which takes root",
        );
    }
    let site = place();
    let port = 10_000 + std::process::id() % 20_000;
    let hosts = site.file("hosts", "127.0.7.1 head.test\n");
    let first = site.coordinator_at(&format!("127.0.7.1:{port}"), &[]);
    let token = site.state().join("worker.token").display().to_string();
    let connect = format!("head.test:{port}");
    let far = place();
    let args = [
        "worker",
        "--slots",
        "1",
        "--connect",
        &connect,
        "--token-file",
        &token,
    ];
    let worker = with_hosts(&far, &hosts, &args);
    wait_for("the worker", || {
        worker.log().contains("connected to 127.0.7.1")
    });
    first.kill();
    wait_for("the loss", || worker.log().contains("connection lost"));
    let _second = site.coordinator_at(&format!("127.0.7.2:{port}"), &[]);
    std::fs::write(&hosts, "127.0.7.2 head.test\n").unwrap();
    wait_for("the worker", || {
        worker.log().contains("connected to 127.0.7.2")
    });
    assert_eq!(workers(&site).len(), 1);
}

#[test]
fn coordinators_and_users_on_one_machine_do_not_meet() {
    let [mine, yours] = [place(), place()];
    let mut my_coordinator = mine.coordinator(&[]);
    let _your_coordinator = yours.coordinator(&[]);
    assert_ne!(mine.address(), yours.address());
    // Fleets of the same name, and workers of the same name.
    for place in [&mine, &yours] {
        place
            .run(["fleet", "local", "1", "--detach", "--slots", "1"])
            .ok();
        wait_for("the worker", || workers(place).len() == 1);
    }
    let batch = mine
        .run_on(["submit", &guest("echo"), "--output", "json"], b"mine")
        .json();
    assert_eq!(batch["batch"], 1);
    mine.run(["wait", "1"]).ok();
    yours.run(["results", "1"]).fails(3, "there is no batch 1");
    // A token of one is nothing to the other.
    let token = mine.state().join("worker.token").display().to_string();
    let args = [
        "worker",
        "--connect",
        &yours.address(),
        "--token-file",
        &token,
    ];
    yours
        .run(args)
        .fails(5, "not the one that this token is for");
    // A second one in the same place, and a second one on the same port, are told what to do.
    mine.run(["coordinator", "--listen", "127.0.0.1:0"])
        .fails(10, "another coordinator is running");
    let taken = yours.address();
    let third = place();
    let ran = third.run(["coordinator", "--listen", &taken]);
    ran.fails(2, "cannot listen on");
    assert!(ran.stderr().contains("--listen"));

    mine.run(["fleet", "stop", "--local", "1"]).ok();
    wait_for("mine to leave", || workers(&mine).is_empty());
    assert_eq!(workers(&yours).len(), 1);
    my_coordinator.signal(Signal::TERM);
    assert!(my_coordinator.wait().success());
    assert_eq!(
        yours.run_on(["run", &guest("echo")], b"yours").ok(),
        "yours"
    );
    yours.run(["fleet", "stop", "--local", "1"]).ok();
    let mut quiet = yours.command(["fleet", "status", "--local", "1"]);
    assert!(quiet.stdout(Stdio::null()).status().unwrap().success());
}
