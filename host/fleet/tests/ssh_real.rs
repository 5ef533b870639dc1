//! Against a real sshd on loopback, from Debian's packages, with its own keys and its own port, and
//! with several login shells and several `/bin/sh`.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::debian::unpack;
use common::sshd::{PACKAGES, Server, serve};
use common::{
    TOKEN, WORKER, alive, announce, files_with, is_root, joined, seen_in_proc, write_program,
};
use optwasm_fleet::hosts::parse_lines;
use optwasm_fleet::ssh::{Fleet, Stopped};
use optwasm_fleet::{HostError, Program, Secret, Ssh, WorkerSpec};

/// A fleet that reaches it.
fn fleet(server: &Server) -> Fleet {
    let mut fleet = Fleet::new("real").unwrap();
    fleet.ssh = Ssh {
        options: server.ssh_args(),
        ..Ssh::default()
    };
    fleet.settle = Duration::ZERO;
    fleet.limit = Duration::from_secs(60);
    fleet
}

/// A worker's whole life, with names that every shell would stumble over.
async fn life(server: &Server, what: &str) {
    let worker = server.dir.path().join("worker");
    // As large as real ones, so that it does not fit any buffer.
    write_program(
        &worker,
        &format!("{WORKER}exit\n{}", "# padding\n".repeat(2 << 20)),
    );
    let program = [Program::open(&worker).unwrap()];
    let secret = Secret::new(TOKEN).unwrap();
    let fleet = fleet(server);
    let hosts = parse_lines(&format!("127.0.0.1:{}\n127.0.0.1:1\n", server.port)).unwrap();
    let hostile = "it's \"$(touch owned)\" `touch owned` !x %s \\ ; ~ * ä";
    let spec = WorkerSpec {
        name: Some(hostile.into()),
        ..WorkerSpec::new("head:4710")
    };

    let begin = Instant::now();
    let mut reports = fleet.start(&hosts, &spec, &program, &secret).await;
    let took = begin.elapsed();
    let error = reports.pop().unwrap().result.unwrap_err();
    assert!(
        matches!(&error, HostError::Ssh { code, .. } if code == "255"),
        "{what}: {error}"
    );
    let started = reports.pop().unwrap().result;
    let started = started.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(started.copied && !started.already, "{what}");
    assert_eq!(started.running.version, "stand-in 1.0", "{what}");
    let pid = started.running.pid;
    assert!(alive(pid), "{what}: it lives after ssh has left");
    assert!(
        !seen_in_proc(TOKEN),
        "{what}: the token is in a list of processes"
    );
    announce(&format!(
        "ssh, {what}: 20 MiB copied and started in {} ms",
        took.as_millis()
    ));

    let hosts = &hosts[..1];
    let id = hosts[0].id();
    let folder = server
        .home()
        .join(".local/state/optwasm/fleet/real")
        .join(&id);
    let begin = Instant::now();
    let log = loop {
        let log = fleet
            .logs(hosts, 50)
            .await
            .remove(0)
            .result
            .unwrap()
            .unwrap();
        if log.contains("joined") || begin.elapsed() > Duration::from_secs(20) {
            break log;
        }
    };
    assert!(log.contains(&joined()), "{what}: {log}");
    let args = std::fs::read_to_string(folder.join(format!("args.{pid}"))).unwrap();
    assert!(
        args.contains(&format!("<--name={hostile}>\n")),
        "{what}: {args}"
    );
    assert_eq!(
        files_with(&server.home(), TOKEN),
        [folder.join("token")],
        "{what}"
    );

    let again = fleet
        .start(hosts, &spec, &program, &secret)
        .await
        .remove(0)
        .result
        .unwrap();
    assert!(again.already && again.running.pid == pid, "{what}");
    let running = fleet.status(hosts).await.remove(0).result.unwrap().unwrap();
    assert_eq!(running.pid, pid, "{what}");
    let stopped = fleet
        .stop(hosts, Duration::from_secs(20))
        .await
        .remove(0)
        .result
        .unwrap();
    assert_eq!(stopped, Stopped::Ended, "{what}");
    assert!(!alive(pid), "{what}");
    assert_eq!(
        fleet.status(hosts).await.remove(0).result.unwrap(),
        None,
        "{what}"
    );
    assert!(files_with(&server.home(), TOKEN).is_empty(), "{what}");
    assert!(
        files_with(server.dir.path(), "touch owned")
            .iter()
            .all(|p| *p != Path::new("owned"))
    );
    assert!(
        !server.home().join("owned").exists() && !folder.join("owned").exists(),
        "{what}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_lives_on_a_host_whatever_its_shell() {
    let debian = match unpack("ssh", &PACKAGES) {
        Ok(debian) => debian,
        Err(why) => return announce(&format!("not tested: no sshd: {why}")),
    };
    if !is_root() {
        life(&serve(&debian, None), "the user's own shell").await;
        return announce("not tested: other login shells, which takes root");
    }
    let shell = |name: &str| debian.path(name);
    let dash = shell("bin/dash");
    let pairs = [
        ("bash", shell("bin/bash"), "dash", &dash),
        ("dash", dash.clone(), "bash", &shell("bin/bash")),
        ("tcsh", shell("bin/tcsh"), "busybox", &shell("bin/busybox")),
        ("fish", shell("usr/bin/fish"), "mksh", &shell("bin/mksh")),
        ("zsh", shell("bin/zsh"), "dash", &dash),
    ];
    for (login, login_path, sh, sh_path) in pairs {
        let server = serve(&debian, Some((&login_path, sh_path)));
        life(&server, &format!("login shell {login}, /bin/sh {sh}")).await;
    }
}

#[tokio::test]
async fn an_unknown_host_key_is_refused() {
    let debian = match unpack("ssh", &PACKAGES) {
        Ok(debian) => debian,
        Err(why) => return announce(&format!("not tested: no sshd: {why}")),
    };
    let shells = (debian.path("bin/bash"), debian.path("bin/dash"));
    let server = serve(&debian, is_root().then_some((&shells.0, &shells.1)));
    std::fs::write(server.dir.path().join("known_hosts"), "").unwrap();
    let hosts = parse_lines(&format!("127.0.0.1:{}", server.port)).unwrap();
    let error = fleet(&server)
        .status(&hosts)
        .await
        .remove(0)
        .result
        .unwrap_err();
    assert!(
        error.to_string().contains("Host key verification failed"),
        "{error}"
    );
}
