//! The scripts, with their values at the head.

use crate::words::{WordError, shell, shell_all};

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
    pub(crate) fn start(&self, args: &[String], settle: u64) -> Result<String, WordError> {
        let args = shell_all(args.iter().map(String::as_str))?;
        self.script(&format!("settle={settle}\nset -- {args}\n"), START)
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
        let args = ["--name=.".to_owned(), ".".to_owned()];
        let script = SUBJECT.start(&args, 1).unwrap();
        let dots = script.lines().filter(|line| *line == ".").count();
        assert_eq!(dots, 1);
        assert!(script.ends_with("\n.\n"));
        assert!(SUBJECT.start(&["a\n.\nb".to_owned()], 1).is_err());
    }

    #[test]
    fn every_shell_parses_the_scripts() {
        let all = [
            SUBJECT.start(&[], 1),
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
