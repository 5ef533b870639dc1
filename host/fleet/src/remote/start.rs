//! What to answer a host that starts a worker: a pure state machine.

use std::path::PathBuf;

use crate::program::Program;
use crate::remote::{HostError, Reply, Running, Said};
use crate::secret::Secret;

/// Which program the worker runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    /// One of these, copied to the host where it lacks it.
    Copy(&'a [Program]),
    /// The one that is at this path there.
    At(&'a str),
}

/// What became of a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Started { running: Running, copied: bool },
    Already(Running),
}

/// The conversation so far.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    source: Source<'a>,
    secret: &'a Secret,
    chosen: Option<&'a Program>,
    copied: bool,
    /// The worker ended at once.
    pub(crate) died: bool,
    pub(crate) outcome: Option<Outcome>,
}

impl<'a> Start<'a> {
    pub(crate) fn new(source: Source<'a>, secret: &'a Secret) -> Self {
        Self {
            source,
            secret,
            chosen: None,
            copied: false,
            died: false,
            outcome: None,
        }
    }

    /// What to reply to a line.
    pub(crate) fn hear(&mut self, said: Said) -> Result<Reply, HostError> {
        match said {
            Said::Machine { system, machine } => self.choose(&system, &machine),
            Said::Have => Ok(self.hand_over(None)),
            Said::Want => {
                self.copied = true;
                Ok(self.hand_over(self.chosen.map(|program| program.path.clone())))
            }
            Said::Running(running) => {
                self.outcome = Some(Outcome::Already(running));
                Ok(Reply::Last(String::new(), None))
            }
            Said::Started(running) => {
                let copied = self.copied;
                self.outcome = Some(Outcome::Started { running, copied });
                Ok(Reply::Listen)
            }
            Said::Failed(why) => Err(HostError::Refused(why)),
            Said::Died => {
                self.died = true;
                Ok(Reply::Listen)
            }
            other => Err(HostError::Garbled(format!("{other:?}"))),
        }
    }

    fn choose(&mut self, system: &str, machine: &str) -> Result<Reply, HostError> {
        let none = || HostError::NoProgram(format!("{system} on {machine}"));
        if system != "Linux" {
            return Err(none());
        }
        match self.source {
            Source::At(path) => Ok(Reply::Say(format!("at {path}\n"))),
            Source::Copy(programs) => {
                let fits = programs.iter().find(|program| program.runs_on(machine));
                let program = fits.ok_or_else(none)?;
                self.chosen = Some(program);
                Ok(Reply::Say(format!("copy {}\n", program.sha256)))
            }
        }
    }

    fn hand_over(&self, program: Option<PathBuf>) -> Reply {
        Reply::Last(format!("{}\n", self.secret.expose()), program)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn program(machine: Option<&'static str>, sha256: &str) -> Program {
        Program {
            path: sha256.into(),
            sha256: sha256.into(),
            machine,
        }
    }

    fn machine(machine: &str) -> Said {
        Said::Machine {
            system: "Linux".into(),
            machine: machine.into(),
        }
    }

    #[test]
    fn the_token_goes_to_hosts_that_can_use_it_only() {
        let programs = [
            program(Some("x86_64"), "intel"),
            program(Some("aarch64"), "arm"),
        ];
        let secret = Secret::new("secret").unwrap();
        let mut start = Start::new(Source::Copy(&programs), &secret);
        let Ok(Reply::Say(choice)) = start.hear(machine("aarch64")) else {
            panic!()
        };
        assert_eq!(choice, "copy arm\n");
        let Ok(Reply::Last(token, file)) = start.hear(Said::Want) else {
            panic!()
        };
        assert_eq!((token.as_str(), file), ("secret\n", Some("arm".into())));

        let mut start = Start::new(Source::Copy(&programs), &secret);
        assert!(matches!(
            start.hear(machine("riscv64")),
            Err(HostError::NoProgram(_))
        ));
        let darwin = Said::Machine {
            system: "Darwin".into(),
            machine: "x86_64".into(),
        };
        assert!(matches!(start.hear(darwin), Err(HostError::NoProgram(_))));
    }

    #[test]
    fn what_is_there_is_not_copied_and_what_runs_is_not_started() {
        let programs = [program(None, "any")];
        let secret = Secret::new("secret").unwrap();
        let running = Running {
            pid: 7,
            age: Duration::ZERO,
            via: String::new(),
            version: String::new(),
        };

        let mut start = Start::new(Source::Copy(&programs), &secret);
        start.hear(machine("x86_64")).unwrap();
        let Ok(Reply::Last(_, None)) = start.hear(Said::Have) else {
            panic!()
        };
        start.hear(Said::Started(running.clone())).unwrap();
        let started = Outcome::Started {
            running: running.clone(),
            copied: false,
        };
        assert_eq!(start.outcome, Some(started));

        let mut start = Start::new(Source::At("/bin/x"), &secret);
        let Ok(Reply::Say(at)) = start.hear(machine("riscv64")) else {
            panic!()
        };
        assert_eq!(at, "at /bin/x\n");
        let Ok(Reply::Last(nothing, None)) = start.hear(Said::Running(running.clone())) else {
            panic!()
        };
        assert_eq!(nothing, "");
        assert_eq!(start.outcome, Some(Outcome::Already(running)));
        assert!(matches!(
            start.hear(Said::Failed("full".into())),
            Err(HostError::Refused(_))
        ));
    }
}
