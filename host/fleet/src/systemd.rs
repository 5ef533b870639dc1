//! A unit file for workers that a machine's systemd starts at boot.
//!
//! The unit is hardened as far as a worker can be: it compiles modules to machine code, so it needs
//! memory that is made executable (`MemoryDenyWriteExecute` would end it), and it opens UDP sockets. The
//! token is a credential of systemd (`LoadCredential`, systemd 247), which only the service can read.

use std::time::Duration;

use crate::words::{WordError, plain, plain_path};
use crate::worker::{WorkerSpec, seconds};

/// A worker as a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// What the worker is started with.
    pub worker: WorkerSpec,
    /// The `optwasm` program, absolute.
    pub program: String,
    /// The file with the token, absolute; root's, 0600.
    pub token_file: String,
    /// Memory that the service may use, as `MemoryMax=` takes it. Default `80%`.
    pub memory_max: String,
    /// How long it may finish what it runs when it is stopped. Default 10 minutes.
    pub stop_after: Duration,
}

impl Unit {
    /// A worker with everything else by default.
    #[must_use]
    pub fn new(worker: WorkerSpec, program: &str, token_file: &str) -> Self {
        Self {
            worker,
            program: program.to_owned(),
            token_file: token_file.to_owned(),
            memory_max: "80%".to_owned(),
            stop_after: Duration::from_secs(600),
        }
    }

    /// The text of `optwasm-worker.service`.
    ///
    /// # Errors
    ///
    /// [`WordError`], where a word has control characters, or a path is not absolute and plain.
    pub fn render(&self) -> Result<String, WordError> {
        plain_path("program", &self.program)?;
        plain_path("token file", &self.token_file)?;
        plain("memory", &self.memory_max, ".%")?;
        let mut command = self.program.clone();
        for arg in self.worker.args() {
            command.push(' ');
            command.push_str(&quote(&arg)?);
        }
        // Expanded by systemd itself: the folder that holds this service's credentials.
        command.push_str(" \"--token-file=${CREDENTIALS_DIRECTORY}/token\"");
        Ok(format!(
            "[Unit]\n\
             Description=optwasm worker\n\
             Wants=network-online.target\n\
             After=network-online.target\n\
             StartLimitIntervalSec=0\n\
             \n\
             [Service]\n\
             ExecStart={command}\n\
             LoadCredential=token:{token}\n\
             Restart=on-failure\n\
             RestartSec=5\n\
             # A refused token, another coordinator, another version: trying again cannot help.\n\
             RestartPreventExitStatus=2 5 9\n\
             # The first SIGTERM has it finish what it runs.\n\
             KillMode=mixed\n\
             TimeoutStopSec={stop}\n\
             DynamicUser=yes\n\
             CacheDirectory=optwasm\n\
             Environment=OPTWASM_CACHE_DIR=%C/optwasm\n\
             MemoryMax={memory}\n\
             MemorySwapMax=0\n\
             OOMPolicy=stop\n\
             ProtectSystem=strict\n\
             ProtectHome=yes\n\
             PrivateTmp=yes\n\
             PrivateDevices=yes\n\
             ProtectClock=yes\n\
             ProtectControlGroups=yes\n\
             ProtectHostname=yes\n\
             ProtectKernelLogs=yes\n\
             ProtectKernelModules=yes\n\
             ProtectKernelTunables=yes\n\
             ProtectProc=invisible\n\
             NoNewPrivileges=yes\n\
             CapabilityBoundingSet=\n\
             AmbientCapabilities=\n\
             RestrictAddressFamilies=AF_INET AF_INET6\n\
             RestrictNamespaces=yes\n\
             RestrictRealtime=yes\n\
             RestrictSUIDSGID=yes\n\
             LockPersonality=yes\n\
             RemoveIPC=yes\n\
             SystemCallArchitectures=native\n\
             SystemCallFilter=@system-service\n\
             SystemCallFilter=~@privileged\n\
             SystemCallErrorNumber=EPERM\n\
             UMask=0077\n\
             LimitNOFILE=65536\n\
             \n\
             [Install]\n\
             WantedBy=multi-user.target\n",
            token = self.token_file,
            stop = seconds(self.stop_after),
            memory = self.memory_max,
        ))
    }
}

/// A word of `ExecStart`: quoted, with systemd's own `%` and `$` doubled (systemd.service(5), COMMAND
/// LINES).
fn quote(word: &str) -> Result<String, WordError> {
    if word.chars().any(char::is_control) {
        return Err(WordError::Control(word.to_owned()));
    }
    let mut quoted = String::from('"');
    for c in word.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '%' | '$' => quoted.extend([c, c]),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    Ok(quoted)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Write;
    use std::process::Command;

    use super::*;

    fn unit() -> Unit {
        let worker = WorkerSpec {
            slots: Some(4),
            name: Some("50% \"of\" $HOME \\ 'x';".into()),
            ..WorkerSpec::new("head:4710")
        };
        Unit::new(worker, "/bin/true", "/etc/optwasm/worker.token")
    }

    /// The settings of each section.
    fn parse(text: &str) -> BTreeMap<String, Vec<(String, String)>> {
        let mut sections: BTreeMap<String, Vec<_>> = BTreeMap::new();
        let mut section = String::new();
        for line in text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            if let Some(name) = line
                .strip_prefix('[')
                .and_then(|line| line.strip_suffix(']'))
            {
                name.clone_into(&mut section);
            } else {
                let (key, value) = line.split_once('=').unwrap();
                let settings = sections.entry(section.clone()).or_default();
                settings.push((key.to_owned(), value.to_owned()));
            }
        }
        sections
    }

    #[test]
    fn the_unit_is_hardened_and_its_token_is_a_credential() {
        let sections = parse(&unit().render().unwrap());
        assert_eq!(
            sections.keys().collect::<Vec<_>>(),
            ["Install", "Service", "Unit"]
        );
        let service: BTreeMap<_, _> = sections["Service"].iter().cloned().collect();
        for (key, value) in [
            ("DynamicUser", "yes"),
            ("ProtectSystem", "strict"),
            ("NoNewPrivileges", "yes"),
            ("MemoryMax", "80%"),
            ("LoadCredential", "token:/etc/optwasm/worker.token"),
            ("CapabilityBoundingSet", ""),
            ("TimeoutStopSec", "600s"),
        ] {
            assert_eq!(service[key], value, "{key}");
        }
        assert!(
            !service.contains_key("MemoryDenyWriteExecute"),
            "workers compile"
        );
        assert_eq!(
            service["ExecStart"],
            "/bin/true \"worker\" \"--connect=head:4710\" \"--slots=4\" \
             \"--name=50%% \\\"of\\\" $$HOME \\\\ 'x';\" \
             \"--token-file=${CREDENTIALS_DIRECTORY}/token\""
        );
    }

    #[test]
    fn systemd_itself_takes_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("optwasm-worker.service");
        std::fs::write(&path, unit().render().unwrap()).unwrap();
        let verify = Command::new("systemd-analyze")
            .arg("verify")
            .arg(&path)
            .output();
        match verify {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                let own: Vec<_> = said
                    .lines()
                    .filter(|line| line.contains("optwasm-worker"))
                    .collect();
                assert!(own.is_empty(), "{own:#?}");
            }
            Err(error) => {
                let text = format!("not tested: the unit, by systemd-analyze: {error}\n");
                std::io::stderr().write_all(text.as_bytes()).unwrap();
            }
        }
    }

    #[test]
    fn what_cannot_be_quoted_is_refused() {
        let refused = |change: &dyn Fn(&mut Unit)| {
            let mut unit = unit();
            change(&mut unit);
            assert!(unit.render().is_err());
        };
        refused(&|unit| unit.program = "optwasm".into());
        refused(&|unit| unit.program = "/opt/my programs/optwasm".into());
        refused(&|unit| unit.token_file = "/a\nExecStartPre=/bin/sh".into());
        refused(&|unit| unit.memory_max = "1G\nUser=root".into());
        refused(&|unit| unit.worker.name = Some("a\nb".into()));
    }
}
