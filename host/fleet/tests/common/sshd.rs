//! A real sshd on loopback, from Debian's packages, with its own keys and its own port.
//!
//! sshd runs as the user of the test. As root it gets a mount namespace of its own, in which root has
//! another home directory and login shell, and `/bin/sh` is another shell; nothing outside changes.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::debian::Unpacked;

/// What it takes, and shells.
pub const PACKAGES: [&str; 10] = [
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

/// It ends when this is dropped.
pub struct Server {
    sshd: Child,
    pub dir: tempfile::TempDir,
    pub port: u16,
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

/// Starts it. As root, `shells` are those of the session: the login shell and `/bin/sh`.
pub fn serve(debian: &Unpacked, shells: Option<(&Path, &Path)>) -> Server {
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
    /// Arguments by which ssh reaches it, and nothing else.
    pub fn ssh_args(&self) -> Vec<String> {
        let here = self.dir.path().display();
        [
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
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// The home directory of its users.
    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }
}
