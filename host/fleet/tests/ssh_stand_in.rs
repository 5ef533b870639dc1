//! Against a stand-in for ssh that notes its arguments and runs the command with the shell of this
//! machine, in a home directory for each host: acceptance case 37.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{TOKEN, WORKER, alive, files_with, joined, seen_in_proc, write_program};
use optwasm_fleet::hosts::{Host, parse_lines};
use optwasm_fleet::ssh::{Fleet, Stopped};
use optwasm_fleet::{HostError, Program, Secret, Ssh, WorkerSpec};

/// Notes its arguments, and is a host: `bad` fails, `hang` never answers, `chatty` greets.
const SSH: &str = r#"#!/bin/sh
line=$(for arg; do printf '<%s>' "$arg"; done)
# In one piece, as others write there too.
printf '%s\n' "$line" >> "$0.calls"
for arg; do target=$command command=$arg; done
HOME=${0%/*}/home/$target
export HOME
mkdir -p "$HOME"
unset XDG_CACHE_HOME XDG_STATE_HOME
case $target in
*bad*) echo "ssh: connect to host $target port 22: Connection refused" >&2; exit 255 ;;
*hang*) sleep 600 ;;
*master*) sleep 15 >/dev/null </dev/null & ;;
*chatty*) echo "Welcome!"; printf 'no line break' ;;
*lost*) head -c 300 >/dev/null; exit 255 ;;
esac
case $target in *linger*) PATH=${0%/*}/systemd:$PATH ;; esac
exec sh -c "$command"
"#;

/// A service manager that outlives sessions, or not: it notes what it is given, and becomes that.
const SYSTEMD_RUN: &str = r#"#!/bin/sh
echo "$*" >> "${0%/*}/calls"
for arg; do
  case $arg in --*) shift ;; *) break ;; esac
done
exec "$@"
"#;

struct Stage {
    dir: tempfile::TempDir,
    fleet: Fleet,
    program: Program,
    secret: Secret,
}

impl Stage {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ssh = dir.path().join("ssh");
        write_program(&ssh, SSH);
        let worker = dir.path().join("worker");
        write_program(&worker, WORKER);
        let mut fleet = Fleet::new("test").unwrap();
        fleet.ssh = Ssh {
            program: ssh,
            ..Ssh::default()
        };
        fleet.settle = Duration::ZERO;
        fleet.limit = Duration::from_secs(20);
        let secret = Secret::new(TOKEN).unwrap();
        Self {
            fleet,
            program: Program::open(&worker).unwrap(),
            secret,
            dir,
        }
    }

    fn calls(&self) -> Vec<String> {
        let calls = std::fs::read_to_string(self.dir.path().join("ssh.calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    fn home(&self, host: &str) -> PathBuf {
        self.dir.path().join("home").join(host)
    }

    fn folder(&self, host: &str) -> PathBuf {
        self.home(host)
            .join(".local/state/optwasm/fleet/test")
            .join(host)
    }

    async fn start(
        &self,
        hosts: &[Host],
        worker: &WorkerSpec,
    ) -> Vec<Result<optwasm_fleet::ssh::Started, HostError>> {
        let programs = std::slice::from_ref(&self.program);
        let reports = self
            .fleet
            .start(hosts, worker, programs, &self.secret)
            .await;
        let ids: Vec<_> = reports.iter().map(|report| report.host.id()).collect();
        assert_eq!(
            ids,
            hosts.iter().map(Host::id).collect::<Vec<_>>(),
            "the hosts' order"
        );
        reports.into_iter().map(|report| report.result).collect()
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call_a_host_no_token_in_it_and_no_host_stops_another() {
    let stage = Stage::new();
    let hosts = parse_lines("one\nbad\nchatty\nlost\ntwo\n").unwrap();
    let results = stage.start(&hosts, &WorkerSpec::new("head:4710")).await;

    assert!(results[0].as_ref().unwrap().copied);
    let error = results[1].as_ref().unwrap_err();
    assert!(error.to_string().contains("ended with 255"), "{error}");
    assert!(error.to_string().contains("Connection refused"), "{error}");
    assert!(results[2].is_ok(), "{:?}", results[2]);
    assert!(
        matches!(results[3], Err(HostError::Ssh { .. })),
        "{:?}",
        results[3]
    );
    assert!(results[4].is_ok());

    let calls = stage.calls();
    assert_eq!(calls.len(), hosts.len(), "one call a host: {calls:#?}");
    for (host, call) in ["one", "bad"].iter().zip(&calls) {
        assert!(call.contains("<BatchMode=yes>"), "{host}: {call}");
        assert!(call.contains("<ConnectTimeout=10>"), "{call}");
    }
    assert!(!calls.concat().contains(TOKEN));
    assert!(!seen_in_proc(TOKEN), "the token is in a list of processes");
    for host in ["one", "chatty", "two"] {
        let tokens = files_with(&stage.home(host), TOKEN);
        assert_eq!(
            tokens,
            [stage.folder(host).join("token")],
            "nowhere but in its file"
        );
        let log = std::fs::read_to_string(stage.folder(host).join("log")).unwrap();
        assert!(log.contains(&joined()), "{log}");
    }

    let stopped = stage.fleet.stop(&hosts, Duration::from_secs(5)).await;
    let stopped: Vec<_> = stopped
        .into_iter()
        .map(|report| report.result.ok())
        .collect();
    let ended = Some(Stopped::Ended);
    assert_eq!(stopped, [ended, None, ended, None, ended]);
    assert!(
        files_with(stage.dir.path(), TOKEN).is_empty(),
        "stopping removes the token"
    );
}

#[tokio::test]
async fn what_runs_is_left_alone_and_what_is_there_is_not_copied() {
    let stage = Stage::new();
    let hosts = [Host::new("one")];
    let worker = WorkerSpec::new("head:4710");
    let status = |reports: Vec<optwasm_fleet::ssh::Report<_>>| reports.into_iter().next().unwrap();
    assert_eq!(
        status(stage.fleet.status(&hosts).await).result.unwrap(),
        None
    );

    let first = stage.start(&hosts, &worker).await.remove(0).unwrap();
    assert!(first.copied && !first.already && alive(first.running.pid));
    assert_eq!(first.running.version, "stand-in 1.0");
    let second = stage.start(&hosts, &worker).await.remove(0).unwrap();
    assert!(second.already && !second.copied);
    assert_eq!(second.running.pid, first.running.pid);

    let running = status(stage.fleet.status(&hosts).await)
        .result
        .unwrap()
        .unwrap();
    assert_eq!(running.pid, first.running.pid);
    assert!(running.age < Duration::from_secs(60));
    assert_eq!(running.via, "setsid");

    stage.fleet.stop(&hosts, Duration::from_secs(5)).await;
    assert!(!alive(first.running.pid));
    let third = stage.start(&hosts, &worker).await.remove(0).unwrap();
    assert!(!third.copied, "the program is there");

    // One that is there but damaged is copied again.
    stage.fleet.stop(&hosts, Duration::from_secs(5)).await;
    let bin = stage.home("one").join(".cache/optwasm/bin");
    let program = bin.join(format!("optwasm-{}", stage.program.sha256));
    std::fs::write(&program, "damaged").unwrap();
    let fourth = stage.start(&hosts, &worker).await.remove(0).unwrap();
    assert!(fourth.copied);
    assert_eq!(std::fs::read_to_string(&program).unwrap(), WORKER);
    assert_eq!(
        std::fs::read_dir(&bin).unwrap().count(),
        1,
        "no drafts are left"
    );
    stage.fleet.stop(&hosts, Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_worker_of_another_coordinator_is_no_success() {
    let mut stage = Stage::new();
    let hosts = [Host::new("one")];
    let worker = |connect: &str, coordinator: &str| WorkerSpec {
        coordinator: Some(coordinator.into()),
        ..WorkerSpec::new(connect)
    };
    let first = worker("head:4710", "aa");
    let pid = stage
        .start(&hosts, &first)
        .await
        .remove(0)
        .unwrap()
        .running
        .pid;
    for other in [worker("head:4711", "aa"), worker("head:4710", "bb")] {
        let error = stage.start(&hosts, &other).await.remove(0).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("another coordinator, at head:4710"), "{text}");
        assert!(matches!(error, HostError::Refused(_)));
    }
    assert!(alive(pid));
    let again = stage.start(&hosts, &first).await.remove(0).unwrap();
    assert!(again.already);
    // Once it is stopped, its place is free.
    stage.fleet.stop(&hosts, Duration::from_secs(5)).await;
    let other = worker("head:4711", "bb");
    let next = stage.start(&hosts, &other).await.remove(0).unwrap();
    assert!(!next.already);
    stage.fleet.stop(&hosts, Duration::from_secs(5)).await;

    stage.fleet.root = Some("here".into());
    let error = stage.start(&hosts, &first).await.remove(0).unwrap_err();
    assert!(
        error.to_string().contains("not an absolute path"),
        "{error}"
    );
}

#[tokio::test]
async fn who_keeps_ssh_s_standard_error_open_is_not_waited_for() {
    let stage = Stage::new();
    let begin = Instant::now();
    let hosts = [Host::new("master")];
    let started = stage.start(&hosts, &WorkerSpec::new("head:4710")).await;
    started.into_iter().for_each(|one| drop(one.unwrap()));
    let stopped = stage.fleet.stop(&hosts, Duration::from_secs(5)).await;
    assert_eq!(*stopped[0].result.as_ref().unwrap(), Stopped::Ended);
    // The master lives for 15 s, and the time limit is 20 s.
    assert!(
        begin.elapsed() < Duration::from_secs(15),
        "{:?}",
        begin.elapsed()
    );
}

#[tokio::test]
async fn hostile_names_reach_the_worker_as_they_are() {
    let mut stage = Stage::new();
    let root = stage
        .dir
        .path()
        .join("it's a \"folder\" $(touch x) `touch y`;!&*");
    stage.fleet.root = Some(root.to_str().unwrap().to_owned());
    let hostile = "'; touch \"$HOME/owned\" #$(touch owned)`touch owned`\\ !x ~ * ";
    let mut host = Host {
        slots: Some(3),
        memory: Some("1GiB".into()),
        ..Host::new("one")
    };
    host.labels.insert("rack".into(), hostile.into());
    let worker = WorkerSpec {
        slots: Some(9),
        name: Some(hostile.into()),
        labels: [
            ("rack".into(), "overridden".into()),
            ("site".into(), "n".into()),
        ]
        .into(),
        extra: vec![".".into(), String::new()],
        ..WorkerSpec::new("head:4710")
    };
    stage
        .start(&[host.clone()], &worker)
        .await
        .remove(0)
        .unwrap();
    let folder = root.join("fleet/test/one");
    let args = std::fs::read_dir(&folder)
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    let args = args
        .into_iter()
        .find(|path| name(path).starts_with("args."))
        .unwrap();
    let token = folder.join("token");
    assert_eq!(
        std::fs::read_to_string(args).unwrap(),
        format!(
            "<worker>\n<--connect=head:4710>\n<--slots=3>\n<--memory=1GiB>\n<--name={hostile}>\n\
             <--label=fleet=test>\n<--label=rack={hostile}>\n<--label=site=n>\n<.>\n<>\n\
             <--token-file={}>\n",
            token.display()
        )
    );
    stage.fleet.stop(&[host], Duration::from_secs(5)).await;
    assert!(!stage.home("one").join("owned").exists());
    assert!(!Path::new("owned").exists());

    let broken = WorkerSpec {
        name: Some("a\nb".into()),
        ..worker
    };
    let refused = stage.start(&[Host::new("one")], &broken).await.remove(0);
    assert!(matches!(refused, Err(HostError::Word(_))));
    let refused = stage
        .start(&[Host::new("-oProxyCommand=x")], &WorkerSpec::new("h:1"))
        .await;
    assert!(matches!(refused[0], Err(HostError::Refused(_))));
    assert!(
        !stage.calls().concat().contains("Proxy"),
        "ssh is not even called"
    );
    assert!(Fleet::new("../x").is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_host_has_a_time_limit_and_few_are_worked_at_at_once() {
    let mut stage = Stage::new();
    stage.fleet.limit = Duration::from_millis(700);
    stage.fleet.parallel = 3;
    let begin = Instant::now();
    let hosts = parse_lines("hang[1-6]").unwrap();
    let results = stage.start(&hosts, &WorkerSpec::new("head:4710")).await;
    for result in &results {
        assert!(matches!(result, Err(HostError::TimedOut(_))), "{result:?}");
    }
    let took = begin.elapsed();
    assert!(
        took >= Duration::from_millis(1400),
        "three at a time take two rounds: {took:?}"
    );
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn a_worker_that_ends_at_once_is_no_success_and_its_words_are_told() {
    let mut stage = Stage::new();
    stage.secret = Secret::new("please-refuse").unwrap();
    stage.fleet.settle = Duration::from_secs(1);
    let hosts = [Host::new("one")];
    let error = stage
        .start(&hosts, &WorkerSpec::new("h:1"))
        .await
        .remove(0)
        .unwrap_err();
    assert!(
        error.to_string().contains("the token is refused"),
        "{error}"
    );
    assert!(!stage.folder("one").join("token").exists());
    let logs = stage
        .fleet
        .logs(&hosts, 1)
        .await
        .remove(0)
        .result
        .unwrap()
        .unwrap();
    assert_eq!(logs, "the token is refused\n");

    // A program that cannot run there.
    let broken = stage.dir.path().join("broken");
    write_program(&broken, "#!/no/such/interpreter\n");
    stage.program = Program::open(&broken).unwrap();
    let error = stage
        .start(&hosts, &WorkerSpec::new("h:1"))
        .await
        .remove(0)
        .unwrap_err();
    assert!(error.to_string().contains("does not run here"), "{error}");
    stage.program.machine = Some("m68k");
    let error = stage
        .start(&hosts, &WorkerSpec::new("h:1"))
        .await
        .remove(0)
        .unwrap_err();
    assert!(matches!(error, HostError::NoProgram(_)), "{error}");
}

#[tokio::test]
async fn a_stubborn_worker_is_killed_and_no_other_process_ever() {
    let stage = Stage::new();
    let hosts = [Host::new("one")];
    let mut worker = WorkerSpec::new("head:4710");
    worker.labels.insert("stubborn".into(), "1".into());
    let pid = stage
        .start(&hosts, &worker)
        .await
        .remove(0)
        .unwrap()
        .running
        .pid;
    let reports = stage.fleet.stop(&hosts, Duration::from_secs(1)).await;
    assert_eq!(*reports[0].result.as_ref().unwrap(), Stopped::Killed);
    assert!(!alive(pid));

    // The pid now belongs to somebody else: this process.
    let file = stage.folder("one").join("pid");
    let own = std::process::id();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    for text in [
        format!("{own} 1 {} 1 setsid\n", boot.trim()),
        format!("{own} 1 another-boot 1 setsid\n"),
        format!("{own}\n"),
        "1 0 x 1 y\n".to_owned(),
        "-1\n".to_owned(),
        "$(touch owned)\n".to_owned(),
        String::new(),
    ] {
        std::fs::write(&file, &text).unwrap();
        let status = stage.fleet.status(&hosts).await.remove(0).result.unwrap();
        assert_eq!(status, None, "{text}");
        std::fs::write(&file, &text).unwrap();
        let reports = stage.fleet.stop(&hosts, Duration::from_secs(1)).await;
        assert_eq!(
            *reports[0].result.as_ref().unwrap(),
            Stopped::NotRunning,
            "{text}"
        );
    }
}

#[tokio::test]
async fn workers_here_are_started_with_the_same_scripts() {
    let mut stage = Stage::new();
    let root = stage.dir.path().join("here");
    stage.fleet.root = Some(root.to_str().unwrap().to_owned());
    let worker = WorkerSpec::new("head:4710");
    let program = &stage.program.path;
    let fleet = &stage.fleet;
    let started = fleet.start_here(2, &worker, program, &stage.secret).await;
    let pids: Vec<u32> = started
        .into_iter()
        .map(|one| one.unwrap().running.pid)
        .collect();
    assert!(alive(pids[0]) && alive(pids[1]));
    assert!(!seen_in_proc(TOKEN));
    let logs = fleet.logs_here(2, 5).await.unwrap().unwrap();
    assert!(logs.contains(&joined()), "{logs}");
    assert_eq!(fleet.logs_here(3, 5).await.unwrap(), None);
    let status = fleet.status_here(3).await;
    let running: Vec<bool> = status
        .iter()
        .map(|one| one.as_ref().unwrap().is_some())
        .collect();
    assert_eq!(running, [true, true, false]);
    assert!(
        !root.join("bin").exists(),
        "the program is used where it is"
    );
    let stopped = fleet.stop_here(3, Duration::from_secs(5)).await;
    let stopped: Vec<_> = stopped.into_iter().map(Result::unwrap).collect();
    assert_eq!(
        stopped,
        [Stopped::Ended, Stopped::Ended, Stopped::NotRunning]
    );
    assert!(!alive(pids[0]) && !alive(pids[1]));
}

#[tokio::test]
async fn the_user_s_service_manager_keeps_the_worker_where_it_outlives_sessions() {
    let stage = Stage::new();
    let systemd = stage.dir.path().join("systemd");
    std::fs::create_dir(&systemd).unwrap();
    write_program(&systemd.join("systemd-run"), SYSTEMD_RUN);
    for (lingers, via) in [("yes", "systemd"), ("no", "setsid")] {
        write_program(
            &systemd.join("loginctl"),
            &format!("#!/bin/sh\necho {lingers}\n"),
        );
        let host = Host::new(format!("linger-{lingers}"));
        let hosts = [host.clone()];
        let started = stage
            .start(&hosts, &WorkerSpec::new("head:4710"))
            .await
            .remove(0)
            .unwrap();
        assert_eq!(started.running.via, via);
        assert!(alive(started.running.pid));
        let stopped = stage
            .fleet
            .stop(&hosts, Duration::from_secs(5))
            .await
            .remove(0);
        assert_eq!(stopped.result.unwrap(), Stopped::Ended);
        assert!(!alive(started.running.pid));
    }
    let calls = std::fs::read_to_string(systemd.join("calls")).unwrap();
    let scopes: Vec<_> = calls
        .lines()
        .filter(|line| line.contains("worker"))
        .collect();
    assert_eq!(scopes.len(), 1, "{calls}");
    assert!(
        scopes[0].starts_with("--user --scope --quiet --collect -- "),
        "{calls}"
    );
    assert!(!calls.contains(TOKEN));
}

#[tokio::test]
async fn children_end_with_their_parent() {
    let stage = Stage::new();
    let dir = stage.dir.path().join("children");
    let program = &stage.program.path;
    let mut worker = WorkerSpec::new("head:4710");
    let start = |worker: &WorkerSpec, count| {
        let fleet = &stage.fleet;
        optwasm_fleet::Children::start(fleet, count, worker, program, &stage.secret, &dir).unwrap()
    };
    let pid = |n| -> u32 {
        let text = std::fs::read_to_string(dir.join(format!("local-{n}.pid"))).unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    };
    let logged = |n, text: &str| {
        let begin = Instant::now();
        while !std::fs::read_to_string(dir.join(format!("local-{n}.log")))
            .unwrap()
            .contains(text)
        {
            assert!(
                begin.elapsed() < Duration::from_secs(20),
                "{n} never said {text}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    };

    let children = start(&worker, 2);
    let pids = [pid(1), pid(2)];
    logged(1, &joined());
    logged(2, &joined());
    let ended = children.stop(Duration::from_secs(10)).await;
    assert!(
        ended
            .iter()
            .all(|status| status.as_ref().unwrap().success()),
        "{ended:?}"
    );
    assert!(!alive(pids[0]) && !alive(pids[1]));
    assert!(!dir.join("token").exists() && !dir.join("local-1.pid").exists());

    worker.labels.insert("stubborn".into(), "1".into());
    let children = start(&worker, 1);
    logged(1, &joined());
    let stubborn = pid(1);
    let ended = children.stop(Duration::from_millis(200)).await;
    assert!(!ended[0].as_ref().unwrap().success());
    assert!(!alive(stubborn));

    let children = start(&worker, 1);
    let dropped = pid(1);
    drop(children);
    let begin = Instant::now();
    while alive(dropped) {
        assert!(begin.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
