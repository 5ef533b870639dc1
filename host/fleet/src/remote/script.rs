//! The scripts, with their values at the head.

use crate::words::{WordError, shell, shell_all};
use crate::worker::WorkerSpec;

const PRELUDE: &str = include_str!("prelude.sh");
const START: &str = include_str!("start.sh");
const STATUS: &str = include_str!("status.sh");
const STOP: &str = include_str!("stop.sh");
const LOGS: &str = include_str!("logs.sh");

/// Whose worker a script is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    /// The fleet's name, plain.
    pub fleet: &'a str,
    /// The host's identity, plain.
    pub id: &'a str,
    /// Folder on the host for programs and workers; empty for the user's own.
    pub root: &'a str,
}

impl Subject<'_> {
    pub(crate) fn start(&self, worker: &WorkerSpec, settle: u64) -> Result<String, WordError> {
        let args = worker.args();
        let args = shell_all(args.iter().map(String::as_str))?;
        let (address, own) = (&worker.connect, worker.coordinator());
        let coordinator = shell(&format!("{address} {own}"))?;
        let values = format!("settle={settle}\ncoordinator={coordinator}\nset -- {args}\n");
        self.script(&values, START)
    }

    pub(crate) fn status(&self) -> Result<String, WordError> {
        self.script("", STATUS)
    }

    pub(crate) fn stop(&self, grace: u64) -> Result<String, WordError> {
        self.script(&format!("grace={grace}\n"), STOP)
    }

    pub(crate) fn logs(&self, lines: u32) -> Result<String, WordError> {
        self.script(&format!("lines={lines}\n"), LOGS)
    }

    fn script(&self, values: &str, action: &str) -> Result<String, WordError> {
        // The script changes the current directory.
        if !self.root.is_empty() && !self.root.starts_with('/') {
            return Err(WordError::NotAbsolute {
                what: "root",
                word: self.root.to_owned(),
            });
        }
        let (fleet, id, root) = (shell(self.fleet)?, shell(self.id)?, shell(self.root)?);
        Ok(format!(
            "fleet={fleet}\nid={id}\nroot={root}\n{values}{PRELUDE}{action}.\n"
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const SUBJECT: Subject = Subject {
        fleet: "f",
        id: "a@b:1",
        root: "/a b/'c'",
    };

    #[test]
    fn only_the_last_line_is_a_dot() {
        let worker = |extra: &str| WorkerSpec {
            extra: vec![extra.to_owned(), ".".to_owned()],
            ..WorkerSpec::new("head:4710")
        };
        let script = SUBJECT.start(&worker("--name=."), 1).unwrap();
        let dots = script.lines().filter(|line| *line == ".").count();
        assert_eq!(dots, 1);
        assert!(script.ends_with("\n.\n"));
        assert!(SUBJECT.start(&worker("a\n.\nb"), 1).is_err());
        let relative = Subject {
            root: "here",
            ..SUBJECT
        };
        assert!(matches!(
            relative.status(),
            Err(WordError::NotAbsolute { .. })
        ));
    }

    #[test]
    fn every_shell_parses_the_scripts() {
        let all = [
            SUBJECT.start(&WorkerSpec::new("head:4710"), 1),
            SUBJECT.status(),
            SUBJECT.stop(1),
            SUBJECT.logs(1),
        ];
        for script in all {
            let script = script.unwrap();
            for shell in ["sh", "bash"] {
                let output = Command::new(shell)
                    .args(["-n", "-c", &script])
                    .output()
                    .unwrap();
                assert!(output.status.success(), "{output:?}");
            }
        }
    }
}
