//! Programs that are run: each in a process group of its own, which is killed when nobody waits for it
//! any more, and each with a time limit.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

/// What is read of an answer: sixteen thousand jobs of a batch system at 256 bytes a line.
const OUTPUT_MAX: u64 = 4 << 20;

/// Why a program gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It cannot be started. Is it installed?
    #[error("cannot run {program}: {why}")]
    Spawn {
        /// The program.
        program: String,
        /// What the system says.
        why: String,
    },
    /// It did not end in time, and was killed. What it was asked for may be done or not.
    #[error("{program} did not answer within {} s", limit.as_secs_f32())]
    TimedOut {
        /// The program.
        program: String,
        /// The time limit.
        limit: Duration,
    },
    /// It ended with another exit code than 0.
    #[error("{program} ended with {code}: {stderr}")]
    Failed {
        /// The program.
        program: String,
        /// The exit code, or `a signal`.
        code: String,
        /// The last lines of its standard error.
        stderr: String,
    },
    /// It answered something that is not understood.
    #[error("{program} answered `{}`, which is not understood", answer.escape_debug())]
    Answer {
        /// The program.
        program: String,
        /// The beginning of its answer.
        answer: String,
    },
}

/// A child process and its process group, killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Group {
    child: Child,
    leader: Option<Pid>,
}

impl Group {
    pub(crate) fn spawn(command: &mut Command) -> io::Result<Self> {
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        let leader = child.id().and_then(|id| Pid::from_raw(id as i32));
        Ok(Self { child, leader })
    }

    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    pub(crate) fn take_pipes(&mut self) -> Option<(ChildStdin, ChildStdout, ChildStderr)> {
        let child = &mut self.child;
        Some((
            child.stdin.take()?,
            child.stdout.take()?,
            child.stderr.take()?,
        ))
    }

    /// Waits for the child; what it left behind in its group lives on.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        self.leader = None;
        Ok(status)
    }

    /// Sends the leader a signal; it may have ended.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(leader) = self.leader {
            let _ = rustix::process::kill_process(leader, signal);
        }
    }

    pub(crate) fn kill(&self) {
        if let Some(leader) = self.leader {
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a program to its end and returns its standard output.
///
/// # Errors
///
/// [`CallError`], but not [`CallError::Answer`].
pub(crate) async fn call(
    command: &mut Command,
    input: &[u8],
    limit: Duration,
) -> Result<String, CallError> {
    let program = command
        .as_std()
        .get_program()
        .to_string_lossy()
        .into_owned();
    let failed = |error: io::Error| CallError::Spawn {
        program: program.clone(),
        why: error.to_string(),
    };
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut group = Group::spawn(command).map_err(failed)?;
    let Some((mut stdin, stdout, stderr)) = group.take_pipes() else {
        return Err(failed(io::ErrorKind::BrokenPipe.into()));
    };
    let work = async {
        let write = async move {
            // A program that does not read its input may well succeed.
            let _ = stdin.write_all(input).await;
        };
        let (_, output, errors) = tokio::join!(write, read(stdout), read(stderr));
        group.wait().await.map(|status| (status, output, errors))
    };
    match tokio::time::timeout(limit, work).await {
        Err(_) => Err(CallError::TimedOut { program, limit }),
        Ok(Err(error)) => Err(failed(error)),
        Ok(Ok((status, output, _))) if status.success() => Ok(output),
        Ok(Ok((status, output, errors))) => {
            let said = if errors.trim().is_empty() {
                output
            } else {
                errors
            };
            Err(CallError::Failed {
                program,
                code: status
                    .code()
                    .map_or_else(|| "a signal".to_owned(), |c| c.to_string()),
                stderr: last_lines(&said, 3).replace('\n', "; "),
            })
        }
    }
}

/// The first bytes; the rest is read and dropped, so that the program does not wait.
async fn read(mut from: impl AsyncRead + Unpin) -> String {
    let mut bytes = Vec::new();
    let _ = (&mut from).take(OUTPUT_MAX).read_to_end(&mut bytes).await;
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The last lines that are not empty, at most `count`.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_program_answers_or_says_why_not() {
        let echo = call(&mut shell("cat; echo b"), b"a", LONG).await;
        assert_eq!(echo.unwrap(), "ab\n");
        let failed = call(&mut shell("echo one >&2; echo two >&2; exit 3"), b"", LONG).await;
        let failed = failed.unwrap_err().to_string();
        assert_eq!(failed, "sh ended with 3: one; two");
        let error = call(&mut Command::new("no such program"), b"", LONG).await;
        assert!(matches!(error, Err(CallError::Spawn { .. })));
        // Neither unread input nor a long answer stops it.
        let input = vec![b'x'; 1 << 20];
        assert_eq!(
            call(&mut shell("echo y"), &input, LONG).await.unwrap(),
            "y\n"
        );
        let long = call(&mut shell("head -c 9000000 /dev/zero"), b"", LONG)
            .await
            .unwrap();
        assert_eq!(long.len() as u64, OUTPUT_MAX);
    }

    #[tokio::test]
    async fn one_that_hangs_is_killed_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let script = format!(
            "trap '' TERM; sleep 600 & echo $! > {}; wait",
            file.display()
        );
        let begin = Instant::now();
        let limit = Duration::from_millis(300);
        let error = call(&mut shell(&script), b"", limit).await.unwrap_err();
        assert!(matches!(error, CallError::TimedOut { .. }), "{error}");
        assert!(begin.elapsed() < LONG);
        let pid = std::fs::read_to_string(&file).unwrap();
        let stat = format!("/proc/{}/stat", pid.trim());
        // Gone, or a zombie that nobody has collected.
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(begin.elapsed() < LONG, "the child lives on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
