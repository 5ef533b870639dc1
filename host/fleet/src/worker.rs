//! What a worker is started with.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

/// The label that names the fleet a worker belongs to.
pub const LABEL_FLEET: &str = "fleet";
/// The label that names the job of a batch system in which a worker runs.
pub const LABEL_JOB: &str = "fleet-job";

/// The options of `optwasm worker`, but for its token, and which coordinator it is for.
///
/// Nothing here is secret: it is seen in the list of processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WorkerSpec {
    /// The coordinator, `HOST:PORT`, as the worker's machine reaches it.
    pub connect: String,
    /// What tells it from others that have or had this address, as its fingerprint. It is no option of
    /// the worker, whose token has it. Default: nothing does.
    pub coordinator: Option<String>,
    /// Jobs at once. Default: one for each core.
    pub slots: Option<u32>,
    /// Memory for all jobs together, as `--memory` takes it. Default: 80 % of the machine's.
    pub memory: Option<String>,
    /// The name, for people. Default: the machine's.
    pub name: Option<String>,
    /// Labels that batches may require. Default none.
    pub labels: BTreeMap<String, String>,
    /// Leave after so long without work. Default never.
    pub idle_timeout: Option<Duration>,
    /// Leave after so long, and take no job before that cannot end in time. Default never.
    pub leave_after: Option<Duration>,
    /// Further options. Default none.
    pub extra: Vec<String>,
}

impl WorkerSpec {
    /// A worker for the coordinator at `connect`, with everything else by default.
    #[must_use]
    pub fn new(connect: impl Into<String>) -> Self {
        Self {
            connect: connect.into(),
            ..Self::default()
        }
    }

    /// What tells its coordinator from others: the fingerprint where it is known, else the address.
    pub(crate) fn coordinator(&self) -> &str {
        self.coordinator.as_deref().unwrap_or(&self.connect)
    }

    /// The arguments, from `worker` on, without that for the token.
    #[must_use]
    pub fn args(&self) -> Vec<String> {
        let mut args = vec!["worker".to_owned(), format!("--connect={}", self.connect)];
        let mut option = |name: &str, value: Option<String>| {
            // One word each, so that a value that begins with `-` is no option.
            args.extend(value.map(|value| format!("--{name}={value}")));
        };
        option("slots", self.slots.map(|n| n.to_string()));
        option("memory", self.memory.clone());
        option("name", self.name.clone());
        for (key, value) in &self.labels {
            option("label", Some(format!("{key}={value}")));
        }
        option("idle-timeout", self.idle_timeout.map(seconds));
        option("leave-after", self.leave_after.map(seconds));
        args.extend(self.extra.iter().cloned());
        args
    }
}

/// A duration as options take it, in whole seconds and not less than it is.
pub(crate) fn seconds(duration: Duration) -> String {
    format!(
        "{}s",
        duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_one_word() {
        let spec = WorkerSpec {
            slots: Some(4),
            memory: Some("8GiB".into()),
            name: Some("-n x".into()),
            labels: [("rack".into(), "a b".into())].into(),
            idle_timeout: Some(Duration::from_millis(1500)),
            leave_after: Some(Duration::from_secs(3540)),
            extra: vec!["--blob-cache=1GiB".into()],
            ..WorkerSpec::new("head:4710")
        };
        assert_eq!(
            spec.args(),
            [
                "worker",
                "--connect=head:4710",
                "--slots=4",
                "--memory=8GiB",
                "--name=-n x",
                "--label=rack=a b",
                "--idle-timeout=2s",
                "--leave-after=3540s",
                "--blob-cache=1GiB",
            ]
        );
        assert_eq!(WorkerSpec::new("h:1").args(), ["worker", "--connect=h:1"]);
    }
}
