//! Host files: which machines there are, and what runs there.
//!
//! Two forms. *Lines*, with ranges and comments:
//!
//! ```text
//! # the cluster
//! me@node[01-16,20]:2222 slots=4 label.rack=a
//! [2001:db8::7]          memory=8GiB
//! ```
//!
//! and *TOML*, by the file's ending `.toml`:
//!
//! ```toml
//! [defaults]
//! user = "me"
//! labels = { site = "north" }
//!
//! [[host]]
//! name = "node[01-16,20]"
//! port = 2222
//! slots = 4
//! labels = { rack = "a" }
//! ```
//!
//! A host's name may be an alias of the user's ssh configuration. Every [`Host`] that a file gives is
//! checked: its parts are plain words, and no two hosts have the same [`Host::id`].

mod lines;
mod ranges;
mod tables;

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::words::{WordError, plain, shell};

pub use ranges::RangeError;

/// Most hosts of one file. Ranges are short to write, and their hosts have to fit in memory; ten
/// thousand is more than the largest clusters have.
pub const HOSTS_MAX: usize = 10_000;

/// Largest host file: a kilobyte for each host.
const FILE_MAX: u64 = 10 << 20;

/// Most slots of one worker, as `optwasm worker` has it.
const SLOTS_MAX: u32 = 4096;

/// A machine that is reached by ssh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Host {
    /// Its name, address, or alias in ssh's configuration.
    pub name: String,
    /// The user to log in as. Default: what ssh takes.
    pub user: Option<String>,
    /// The port to connect to. Default: what ssh takes.
    pub port: Option<u16>,
    /// Jobs at once. Default: that of the fleet.
    pub slots: Option<u32>,
    /// Memory for all jobs together, as `optwasm worker --memory` takes it. Default: that of the fleet.
    pub memory: Option<String>,
    /// Labels of the worker, beside those of the fleet.
    pub labels: BTreeMap<String, String>,
}

/// Why a host file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HostsError {
    /// The file cannot be read.
    #[error("{0}: {1}")]
    Io(PathBuf, std::io::Error),
    /// A line is wrong; nothing of the file is used. Correct it.
    #[error("line {line}: {problem}")]
    Line {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong there.
        problem: HostProblem,
    },
}

/// What is wrong in a line of a host file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostProblem {
    /// A name has characters that names do not have.
    #[error(transparent)]
    Word(#[from] WordError),
    /// A range such as `[01-16]` is wrong.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// Not a number from 1 to 65535.
    #[error("`{0}` is not a port")]
    Port(String),
    /// More than one colon, and no brackets to tell an address from a port.
    #[error("an IPv6 address has to be in square brackets, as in [2001:db8::7]:22")]
    Address,
    /// Not a number from 1 to 4096.
    #[error("`{0}` is not a number of slots from 1 to 4096")]
    Slots(String),
    /// Not a size as in `8GiB`.
    #[error("`{0}` is not a size such as 8GiB")]
    Memory(String),
    /// A word that is no `KEY=VALUE`, or whose key nobody knows.
    #[error("`{0}` is none of slots=N, memory=SIZE, label.KEY=VALUE")]
    Option(String),
    /// The same setting twice.
    #[error("`{0}` is there twice")]
    Twice(String),
    /// The same host twice, which would start two workers with one folder.
    #[error("{id} is already in line {first}")]
    Duplicate {
        /// The host.
        id: String,
        /// The line in which it is first.
        first: usize,
    },
    /// More than [`HOSTS_MAX`] hosts.
    #[error("these are more than {HOSTS_MAX} hosts")]
    TooMany,
    /// Not TOML, or not of this form.
    #[error("{0}")]
    Toml(String),
}

impl Host {
    /// The host called `name`, with everything else by default.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// What tells it from other hosts: `[USER@]NAME[:PORT]`, also the name of its folder.
    #[must_use]
    pub fn id(&self) -> String {
        let user = self
            .user
            .as_ref()
            .map_or_else(String::new, |user| format!("{user}@"));
        let port = self
            .port
            .map_or_else(String::new, |port| format!(":{port}"));
        format!("{user}{}{port}", self.name)
    }

    /// Checks every part.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub fn check(&self) -> Result<(), HostProblem> {
        plain("host", &self.name, "-_.:%")?;
        if let Some(user) = &self.user {
            plain("user", user, "-_.@+")?;
        }
        if self.port == Some(0) {
            return Err(HostProblem::Port("0".to_owned()));
        }
        if let Some(slots) = self.slots
            && !(1..=SLOTS_MAX).contains(&slots)
        {
            return Err(HostProblem::Slots(slots.to_string()));
        }
        if let Some(memory) = &self.memory {
            let number = memory.trim_end_matches(|c: char| c.is_ascii_alphabetic());
            if !number.parse().is_ok_and(|n: f64| n.is_finite() && n > 0.0) {
                return Err(HostProblem::Memory(memory.clone()));
            }
            plain("size", memory, ".")?;
        }
        for (key, value) in &self.labels {
            plain("label", key, "-_./")?;
            shell(value)?;
        }
        Ok(())
    }
}

/// Reads a host file: TOML where its name ends in `.toml`, else lines.
///
/// # Errors
///
/// [`HostsError`], which names the line.
pub fn load(path: &Path) -> Result<Vec<Host>, HostsError> {
    let failed = |error| HostsError::Io(path.to_owned(), error);
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_MAX).read_to_string(&mut text))
        .map_err(failed)?;
    if path.extension().is_some_and(|ending| ending == "toml") {
        parse_toml(&text)
    } else {
        parse_lines(&text)
    }
}

/// Reads the form with a line for each host.
///
/// # Errors
///
/// [`HostsError::Line`].
pub fn parse_lines(text: &str) -> Result<Vec<Host>, HostsError> {
    let mut all = Hosts::default();
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        let found = lines::parse(line).map_err(|problem| at(line_number, problem))?;
        if let Some(pattern) = found {
            all.add(line_number, &pattern)?;
        }
    }
    Ok(all.hosts)
}

/// Reads the TOML form.
///
/// # Errors
///
/// [`HostsError::Line`].
pub fn parse_toml(text: &str) -> Result<Vec<Host>, HostsError> {
    let mut all = Hosts::default();
    for (line, pattern) in tables::parse(text)? {
        all.add(line, &pattern)?;
    }
    Ok(all.hosts)
}

fn at(line: usize, problem: HostProblem) -> HostsError {
    HostsError::Line { line, problem }
}

/// Hosts as they are found.
#[derive(Default)]
struct Hosts {
    hosts: Vec<Host>,
    lines: HashMap<String, usize>,
}

impl Hosts {
    /// Adds all hosts that a host with a range in its name stands for.
    fn add(&mut self, line: usize, pattern: &Host) -> Result<(), HostsError> {
        let room = HOSTS_MAX - self.hosts.len();
        let names = ranges::expand(&pattern.name, room).map_err(|error| match error {
            RangeError::TooMany => at(line, HostProblem::TooMany),
            error => at(line, error.into()),
        })?;
        for name in names {
            let host = Host {
                name,
                ..pattern.clone()
            };
            host.check().map_err(|problem| at(line, problem))?;
            let id = host.id();
            if let Some(&first) = self.lines.get(&id) {
                return Err(at(line, HostProblem::Duplicate { id, first }));
            }
            self.lines.insert(id, line);
            self.hosts.push(host);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn problem(text: &str) -> (usize, HostProblem) {
        match parse_lines(text) {
            Err(HostsError::Line { line, problem }) => (line, problem),
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn lines_give_hosts_with_their_options() {
        let text = "# all\n\n me@node[08-10,20]:2222 slots=4 label.rack=a=b label.gpu=no # here\r\n\
                    [2001:db8::7]:22 memory=1.5GiB\n[::1]\nlogin\n";
        let hosts = parse_lines(text).unwrap();
        let ids: Vec<String> = hosts.iter().map(Host::id).collect();
        assert_eq!(
            ids,
            [
                "me@node08:2222",
                "me@node09:2222",
                "me@node10:2222",
                "me@node20:2222",
                "2001:db8::7:22",
                "::1",
                "login"
            ]
        );
        assert_eq!(hosts[0].slots, Some(4));
        assert_eq!(hosts[0].labels["rack"], "a=b");
        assert_eq!(hosts[3].labels["gpu"], "no");
        assert_eq!(
            (hosts[4].port, hosts[4].memory.as_deref()),
            (Some(22), Some("1.5GiB"))
        );
        assert_eq!(hosts[6], Host::new("login"));
        assert!(parse_lines("").unwrap().is_empty());
    }

    #[test]
    fn toml_gives_the_same() {
        let text = "[defaults]\nuser = 'me'\nslots = 2\nlabels = { site = 'n', rack = 'x' }\n\
                    [[host]]\nname = 'node[1-2]'\nslots = 4\nlabels = { rack = 'a b' }\n\
                    [[host]]\nname = 'login'\nuser = 'root'\nport = 2222\nmemory = '8GiB'\n";
        let hosts = parse_toml(text).unwrap();
        assert_eq!(hosts.len(), 3);
        assert_eq!(hosts[1].id(), "me@node2");
        assert_eq!(hosts[1].slots, Some(4));
        assert_eq!(hosts[1].labels["rack"], "a b");
        assert_eq!(hosts[1].labels["site"], "n");
        assert_eq!(hosts[2].id(), "root@login:2222");
        assert_eq!(hosts[2].slots, Some(2));
        assert!(parse_toml("").unwrap().is_empty());
    }

    #[test]
    fn errors_name_the_line() {
        use HostProblem as P;
        assert!(matches!(problem("a\n-oProxyCommand=x\n"), (2, P::Word(_))));
        assert!(matches!(problem("x@-oA"), (1, P::Word(_))));
        assert!(matches!(problem("a;b"), (1, P::Word(_))));
        assert!(matches!(problem("..@a"), (1, P::Word(_))));
        assert_eq!(problem("a:0").1, P::Port("0".into()));
        assert_eq!(problem("a:ssh").1, P::Port("ssh".into()));
        assert_eq!(problem("fe80::1").1, P::Address);
        assert_eq!(problem("a slots=0").1, P::Slots("0".into()));
        assert_eq!(problem("a slots=9999").1, P::Slots("9999".into()));
        assert_eq!(problem("a memory=lots").1, P::Memory("lots".into()));
        assert_eq!(problem("a slot=1").1, P::Option("slot=1".into()));
        assert_eq!(problem("a label.=1").1, P::Option("label.=1".into()));
        assert_eq!(problem("a slots=1 slots=2").1, P::Twice("slots".into()));
        assert_eq!(
            problem("n[1-3]\n#\nn2"),
            (
                3,
                P::Duplicate {
                    id: "n2".into(),
                    first: 1
                }
            )
        );
        assert_eq!(problem("n[1-6000]\nm[1-6000]"), (2, P::TooMany));
        assert_eq!(problem("n[1-9][1-9][1-9][1-9][1-9][1-9]").1, P::TooMany);
        assert!(matches!(problem("n[3-1]").1, P::Range(_)));

        let toml = |text: &str| match parse_toml(text) {
            Err(HostsError::Line { line, problem }) => (line, problem),
            other => panic!("{text:?}: {other:?}"),
        };
        assert!(matches!(
            toml("[[host]]\nname = 'a'\nname = 'b'"),
            (3, P::Toml(_))
        ));
        assert!(matches!(
            toml("[[host]]\nname = 'a'\n[[host]]\nslot = 1\n"),
            (4, P::Toml(_))
        ));
        assert!(matches!(
            toml("[[host]]\nslots = 1\nname = 'a b'\n"),
            (3, P::Word(_))
        ));
        assert!(matches!(
            toml("[[host]]\nname = 'a'\n[[host]]\nname = 'a'"),
            (4, P::Duplicate { .. })
        ));
    }

    #[test]
    fn the_ending_tells_the_form() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("hosts.toml", "[[host]]\nname = 'a'"), ("hosts", "a")] {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            assert_eq!(load(&path).unwrap(), [Host::new("a")]);
        }
        std::fs::write(dir.path().join("binary"), b"\xff\xfe").unwrap();
        assert!(matches!(
            load(&dir.path().join("binary")),
            Err(HostsError::Io(..))
        ));
    }

    proptest! {
        #[test]
        fn arbitrary_text_is_no_harm(text in "([a-z@:\\[\\]0-9,=#. -]|\\PC|\n){0,80}") {
            let _ = parse_toml(&text);
            for host in parse_lines(&text).unwrap_or_default() {
                prop_assert!(host.check().is_ok());
                prop_assert!(!host.id().contains('/'));
            }
        }
    }
}
