//! Against a real sshd on loopback, from Debian's packages, with its own keys and its own port, and
//! with several login shells and several `/bin/sh`.
//!
//! sshd runs as the user of the test. As root it gets a mount namespace of its own, in which root has
//! another home directory and login shell, and `/bin/sh` is another shell; nothing outside changes.

#![allow(clippy::unwrap_used)]

mod common;

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::debian::{Unpacked, unpack};
use common::{
    TOKEN, WORKER, alive, announce, files_with, is_root, joined, seen_in_proc, write_program,
};
use optwasm_fleet::hosts::parse_lines;
use optwasm_fleet::ssh::{Fleet, Stopped};
use optwasm_fleet::{HostError, Program, Secret, Ssh, WorkerSpec};

const PACKAGES: [&str; 10] = [
    "openssh-server",
    "libwrap0",
    "bash",
    "dash",
    "mksh",
    "tcsh",
    "zsh",
    "fish",
    "busybox-static",
    "libpcre2-32-0",
];

struct Server {
    sshd: Child,
    dir: tempfile::TempDir,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
    }
}

fn keygen(path: &Path) {
    let mut command = Command::new("ssh-keygen");
    command
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(path);
    assert!(command.status().unwrap().success());
}

/// As root, the shells of the session: the login shell and `/bin/sh`.
fn serve(debian: &Unpacked, shells: Option<(&Path, &Path)>) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    keygen(&path("host_key"));
    keygen(&path("user_key"));
    std::fs::rename(path("user_key.pub"), path("authorized_keys")).unwrap();
    std::fs::create_dir(path("home")).unwrap();
    // Free a moment ago, and nobody else is given it so soon.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let here = dir.path().display();
    let config = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {here}/host_key\nPidFile none\n\
         AuthorizedKeysFile {here}/authorized_keys\nStrictModes no\nUsePAM no\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n\
         SetEnv HOME={here}/home LD_LIBRARY_PATH={libraries}\n",
        libraries = debian.libraries()
    );
    std::fs::write(path("config"), config).unwrap();
    let key = std::fs::read_to_string(path("host_key.pub")).unwrap();
    std::fs::write(path("known_hosts"), format!("[127.0.0.1]:{port} {key}")).unwrap();

    let sshd = debian.path("usr/sbin/sshd").display().to_string();
    let mut command = if let Some((login, sh)) = shells {
        let passwd = format!(
            "root:x:0:0:root:{here}/home:{login}\nsshd:x:65533:65534::/run/sshd:/bin/false\n",
            login = login.display()
        );
        std::fs::write(path("passwd"), passwd).unwrap();
        let script = format!(
            "set -e; mount --bind '{here}/passwd' /etc/passwd; mount -t tmpfs tmpfs /run; \
             mkdir /run/sshd; mount --bind '{sh}' /bin/sh; exec '{sshd}' -D -e -f '{here}/config'",
            sh = sh.display()
        );
        let mut command = Command::new("unshare");
        command.args(["-m", "bash", "-c", &script]);
        command
    } else {
        let mut command = Command::new(&sshd);
        command.args(["-D", "-e", "-f"]).arg(path("config"));
        command
    };
    let log = std::fs::File::create(path("sshd.log")).unwrap();
    let mut child = command
        .env("LD_LIBRARY_PATH", debian.libraries())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let begin = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let log = std::fs::read_to_string(path("sshd.log")).unwrap();
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "sshd does not listen: {log}"
        );
        assert!(child.try_wait().unwrap().is_none(), "sshd ended: {log}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Server {
        sshd: child,
        dir,
        port,
    }
}

impl Server {
    fn fleet(&self) -> Fleet {
        let here = self.dir.path().display();
        let mut fleet = Fleet::new("real").unwrap();
        let options = [
            "-F",
            "none",
            "-i",
            &format!("{here}/user_key"),
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            &format!("UserKnownHostsFile={here}/known_hosts"),
            "-o",
            "StrictHostKeyChecking=yes",
        ];
        fleet.ssh = Ssh {
            options: options.map(str::to_owned).to_vec(),
            ..Ssh::default()
        };
        fleet.settle = Duration::ZERO;
        fleet.limit = Duration::from_secs(60);
        fleet
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }
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
    let fleet = server.fleet();
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
    let error = server
        .fleet()
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
