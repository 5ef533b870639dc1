//! One conversation with a host's shell.
//!
//! The command line that ssh sends is always the same text, [`BOOTSTRAP`]: nothing of the user is in
//! it, so there is nothing to quote for the host's login shell, which may be any. It has `/bin/sh` read a
//! script from its standard input, up to a line with a single dot, and run it. Everything else follows
//! on that input: values as quoted assignments at the head of the script, then the token, then the
//! program. So one login does it all, and the token is in no list of processes.
//!
//! The script answers with lines that begin with [`MARK`]; other lines, such as greetings of login
//! scripts, are passed over. [`Said`] is such a line, [`start`] decides what to
//! answer.

pub(crate) mod script;
pub(crate) mod start;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use crate::command::{Group, last_lines};
use crate::hosts::Host;

/// How every answer of a script begins.
const MARK: &str = "@optwasm-fleet ";

/// What a script's answer may amount to, all lines together; logs are cut by their reader before.
const ANSWER_MAX: u64 = 4 << 20;

/// How long what an ssh that has ended said is waited for; it is in the pipe already.
const STDERR_WAIT: Duration = Duration::from_secs(5);

/// How often ssh asks whether a host that is silent is still there; it gives up after three times
/// (ssh_config(5), ServerAliveCountMax).
const ALIVE_SECONDS: u32 = 15;

/// What is kept of ssh's standard error.
const STDERR_MAX: u64 = 64 << 10;

/// What the host's login shell is given: without line breaks and `!`, which csh would not take between
/// single quotes, and without backslashes before quotes, which fish would not.
pub(crate) const BOOTSTRAP: &str = concat!(
    "exec /bin/sh -c '",
    r#"n=$(printf "\nx"); n=${n%x}; s=; "#,
    r#"while IFS= read -r l; do case "$l" in .) break;; esac; s=$s$l$n; done; eval "$s"#,
    r#""'"#
);

/// How a host's shell is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssh {
    /// The program. Default `ssh`.
    pub program: PathBuf,
    /// Further options, before all others: ssh takes the first value of each. Default none.
    pub options: Vec<String>,
    /// How long to try to connect, in whole seconds of at least one. Default 10 s.
    pub connect_timeout: Duration,
}

impl Default for Ssh {
    fn default() -> Self {
        Self {
            program: "ssh".into(),
            options: Vec::new(),
            connect_timeout: Duration::from_secs(10),
        }
    }
}

/// Where a script runs.
#[derive(Clone, Debug)]
pub(crate) enum Place<'a> {
    Host(&'a Ssh, &'a Host),
    /// This machine.
    Here,
}

/// Why nothing became of a host.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The ssh program cannot be started. Is it installed?
    #[error("cannot run {}: {error}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// It took too long; what was begun there may go on. Ask for its status, or try again.
    #[error("no end within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// ssh failed, or the host's shell did, before the script could answer.
    #[error("ssh ended with {code}: {stderr}")]
    Ssh {
        /// The exit code, or `a signal`.
        code: String,
        /// The last lines of its standard error.
        stderr: String,
    },
    /// The host's system or machine is another than those of all programs. Name one for it.
    #[error("there is no program for {0}")]
    NoProgram(String),
    /// The program that was to be copied cannot be read.
    #[error("{}: {error}", program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The host cannot do it, and says why.
    #[error("{0}")]
    Refused(String),
    /// The worker ended at once. Its last words say why.
    #[error("the worker ended at once: {0}")]
    Died(String),
    /// The answer ended early or made no sense; the connection was lost, perhaps.
    #[error("the answer broke off{}", if .0.is_empty() { String::new() } else { format!(": {}", .0) })]
    Garbled(String),
    /// A name cannot be used on a host.
    #[error(transparent)]
    Word(#[from] crate::words::WordError),
}

/// A line of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Machine {
        system: String,
        machine: String,
    },
    Have,
    Want,
    Running(Running),
    Started(Running),
    Stopped,
    Ended(String),
    Failed(String),
    /// The worker ended at once; its log follows.
    Died,
    /// The log follows.
    Log,
    NoLog,
}

/// A worker that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Running {
    /// Its process on the host.
    pub pid: u32,
    /// For how long it runs, by the host's clock.
    pub age: Duration,
    /// What keeps it: `systemd`, where the user's service manager does, else `setsid`.
    pub via: String,
    /// What its program says its version is.
    pub version: String,
}

impl Said {
    /// The line of an answer; none for other lines.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let line = line.trim_end_matches(['\n', '\r']);
        // A greeting without a line break may stand before it.
        let (_, text) = line.split_once(MARK)?;
        let text = printable(text);
        let (word, rest) = text.split_once(' ').unwrap_or((&text, ""));
        Some(match word {
            "machine" => {
                let (system, machine) = rest.split_once(' ')?;
                Said::Machine {
                    system: system.to_owned(),
                    machine: machine.to_owned(),
                }
            }
            "have" => Said::Have,
            "want" => Said::Want,
            "running" => Said::Running(Running::parse(rest)?),
            "started" => Said::Started(Running::parse(rest)?),
            "stopped" => Said::Stopped,
            "ended" => Said::Ended(rest.to_owned()),
            "failed" => Said::Failed(rest.to_owned()),
            "died" => Said::Died,
            "log" => Said::Log,
            "nolog" => Said::NoLog,
            _ => return None,
        })
    }
}

impl Running {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.splitn(4, ' ');
        let pid = words.next()?.parse().ok()?;
        // A clock that was set back meanwhile gives a negative age.
        let age: i64 = words.next()?.parse().ok()?;
        Some(Self {
            pid,
            age: Duration::from_secs(age.max(0) as u64),
            via: words.next()?.to_owned(),
            version: words.next().unwrap_or_default().to_owned(),
        })
    }
}

/// Text of a host, made harmless for a terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// The same of several lines.
fn printable_lines(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if c.is_control() => ' ',
            c => c,
        })
        .collect()
}

/// What one more part of the conversation is.
pub(crate) enum Reply {
    /// Nothing is to be said; listen on.
    Listen,
    /// Say this.
    Say(String),
    /// Say this, then the content of the file, if any; that is the end of what is said.
    Last(String, Option<PathBuf>),
}

/// Runs `script` there. `hear` is told each line that is said, and says what to reply.
///
/// Returns what was printed after a line that announces a log, or nothing.
pub(crate) async fn converse(
    place: &Place<'_>,
    script: &str,
    limit: Duration,
    hear: impl FnMut(Said) -> Result<Reply, HostError>,
) -> Result<Option<String>, HostError> {
    match tokio::time::timeout(limit, converse_on(place, script, hear)).await {
        Ok(result) => result,
        Err(_) => Err(HostError::TimedOut(limit)),
    }
}

async fn converse_on(
    place: &Place<'_>,
    script: &str,
    mut hear: impl FnMut(Said) -> Result<Reply, HostError>,
) -> Result<Option<String>, HostError> {
    let mut command = command(place);
    let program = PathBuf::from(command.as_std().get_program());
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut group =
        Group::spawn(&mut command).map_err(|error| HostError::Spawn { program, error })?;
    let broken = || HostError::Garbled(String::new());
    let (input, output, errors) = group.take_pipes().ok_or_else(broken)?;
    let errors = tokio::spawn(keep_end(errors));

    let mut input = Some(input);
    say(&mut input, script.as_bytes()).await;
    let mut output = BufReader::new(output.take(ANSWER_MAX));
    let mut log = None;
    let mut heard = false;
    while let Some(line) = next_line(&mut output).await {
        let Some(said) = Said::parse(&line) else {
            continue;
        };
        heard = true;
        let is_log = matches!(said, Said::Log | Said::Died);
        match hear(said)? {
            Reply::Listen => {}
            Reply::Say(text) => say(&mut input, text.as_bytes()).await,
            Reply::Last(text, file) => {
                say(&mut input, text.as_bytes()).await;
                if let Some(path) = file {
                    let failed = |error| HostError::Program {
                        program: path.clone(),
                        error,
                    };
                    let mut file = tokio::fs::File::open(&path).await.map_err(failed)?;
                    if let Some(input) = &mut input {
                        // Where the host stops to listen, its answer or ssh's end says why.
                        let _ = tokio::io::copy(&mut file, input).await;
                    }
                }
                input = None;
            }
        }
        if is_log {
            let mut bytes = Vec::new();
            let _ = output.read_to_end(&mut bytes).await;
            log = Some(printable_lines(&String::from_utf8_lossy(&bytes)));
        }
    }
    drop(input);
    let status = group.wait().await.map_err(|_| broken())?;
    // Whoever outlives it, as the master of shared connections does, may keep its standard error open.
    if heard && status.success() {
        errors.abort();
        return Ok(log);
    }
    let stderr = match tokio::time::timeout(STDERR_WAIT, errors).await {
        Ok(read) => read.unwrap_or_default(),
        Err(_) => String::new(),
    };
    let code = status
        .code()
        .map_or_else(|| "a signal".to_owned(), |code| code.to_string());
    let stderr = printable(&last_lines(&stderr, 3).replace('\n', "; "));
    if status.success() {
        Err(HostError::Garbled(stderr))
    } else {
        Err(HostError::Ssh { code, stderr })
    }
}

fn command(place: &Place<'_>) -> Command {
    let mut command = match place {
        Place::Here => {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", BOOTSTRAP]);
            command
        }
        Place::Host(ssh, host) => {
            let mut command = Command::new(&ssh.program);
            command
                .args(&ssh.options)
                .args(["-T", "-o", "BatchMode=yes"]);
            let seconds = ssh.connect_timeout.as_secs().max(1);
            command.arg("-o").arg(format!("ConnectTimeout={seconds}"));
            command
                .arg("-o")
                .arg(format!("ServerAliveInterval={ALIVE_SECONDS}"));
            if let Some(port) = host.port {
                command.arg("-p").arg(port.to_string());
            }
            let user = host
                .user
                .as_ref()
                .map_or_else(String::new, |user| format!("{user}@"));
            command.arg(format!("{user}{}", host.name)).arg(BOOTSTRAP);
            command
        }
    };
    // ssh may be configured to send variables along.
    command.env_remove("OPTWASM_TOKEN");
    command
}

/// Says something; where nobody listens any more, the answer or ssh's end says why.
async fn say(input: &mut Option<tokio::process::ChildStdin>, bytes: &[u8]) {
    if let Some(input) = input {
        let _ = input.write_all(bytes).await;
        let _ = input.flush().await;
    }
}

async fn next_line(output: &mut (impl AsyncBufRead + Unpin)) -> Option<String> {
    let mut bytes = Vec::new();
    match output.read_until(b'\n', &mut bytes).await {
        Ok(n) if n > 0 => Some(String::from_utf8_lossy(&bytes).into_owned()),
        _ => None,
    }
}

/// Reads to the end, and keeps the end.
async fn keep_end(mut from: impl AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..n]);
        if kept.len() as u64 > 2 * STDERR_MAX {
            kept.drain(..kept.len() - STDERR_MAX as usize);
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_marked_lines_are_answers() {
        assert_eq!(Said::parse("Welcome to node7\n"), None);
        assert_eq!(Said::parse("@optwasm-fleet have\r\n"), Some(Said::Have));
        assert_eq!(Said::parse("> @optwasm-fleet want"), Some(Said::Want));
        assert_eq!(Said::parse("@optwasm-fleet something else"), None);
        assert_eq!(Said::parse("@optwasm-fleet running x 1 setsid v"), None);
        assert_eq!(
            Said::parse("@optwasm-fleet failed no \x1b[31mroom"),
            Some(Said::Failed("no  [31mroom".into()))
        );
        let running = Running {
            pid: 7,
            age: Duration::ZERO,
            via: "setsid".into(),
            version: "optwasm 0.1.0".into(),
        };
        let line = "@optwasm-fleet running 7 -3 setsid optwasm 0.1.0";
        assert_eq!(Said::parse(line), Some(Said::Running(running)));
    }

    #[test]
    fn logs_cannot_command_a_terminal() {
        assert_eq!(
            printable_lines("a\x1b[2J\n\tb\r\u{9b}c\n"),
            "a [2J\n\tb  c\n"
        );
    }

    #[test]
    fn the_command_line_holds_nothing_but_the_host() {
        let ssh = Ssh {
            options: vec!["-F".into(), "file".into()],
            ..Ssh::default()
        };
        let host = Host {
            user: Some("me".into()),
            port: Some(22),
            ..Host::new("n1")
        };
        let command = command(&Place::Host(&ssh, &host));
        let args: Vec<_> = command
            .as_std()
            .get_args()
            .map(|arg| arg.to_str().unwrap())
            .collect();
        assert_eq!(
            args,
            [
                "-F",
                "file",
                "-T",
                "-o",
                "BatchMode=yes",
                "-o",
                "ConnectTimeout=10",
                "-o",
                "ServerAliveInterval=15",
                "-p",
                "22",
                "me@n1",
                BOOTSTRAP
            ]
        );
        assert!(!BOOTSTRAP.contains(['\n', '!']));
    }
}
