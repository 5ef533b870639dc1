//! Workers on this machine: detached, as a [`Fleet`] on hosts, or attached, as children.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use tokio::process::Command;

use crate::command::Group;
use crate::remote::start::Source;
use crate::remote::{HostError, Place, Running};
use crate::secret::Secret;
use crate::ssh::{Fleet, Started, Stopped};
use crate::words::WordError;
use crate::worker::{LABEL_FLEET, WorkerSpec};

/// The identity of the n-th worker of this machine, from 1.
fn id(n: u32) -> String {
    format!("local-{n}")
}

impl Fleet {
    /// Starts `count` workers on this machine that outlive this process, called `local-1` and so on,
    /// where they do not run yet. `program` is an absolute path.
    pub async fn start_here(
        &self,
        count: u32,
        worker: &WorkerSpec,
        program: &Path,
        secret: &Secret,
    ) -> Vec<Result<Started, HostError>> {
        let mut results = Vec::new();
        for n in 1..=count {
            let mut worker = worker.clone();
            let own = worker.name.map(|name| format!("{name}-{n}"));
            worker.name = own.or_else(|| Some(id(n)));
            let result = match program.to_str() {
                Some(path) => {
                    let source = Source::At(path);
                    self.start_one(&Place::Here, &id(n), worker, source, secret)
                        .await
                }
                None => {
                    let lossy = program.to_string_lossy().into_owned();
                    Err(WordError::Control(lossy).into())
                }
            };
            results.push(result);
        }
        results
    }

    /// Which of the first `count` workers of this machine run.
    pub async fn status_here(&self, count: u32) -> Vec<Result<Option<Running>, HostError>> {
        let mut results = Vec::new();
        for n in 1..=count {
            results.push(self.status_of(&Place::Here, &id(n)).await);
        }
        results
    }

    /// Stops the first `count` workers of this machine, several at a time, as [`Fleet::stop`] does.
    pub async fn stop_here(&self, count: u32, grace: Duration) -> Vec<Result<Stopped, HostError>> {
        let all = (1..=count).map(|n| {
            let fleet = self.clone();
            async move { fleet.stop_one(&Place::Here, &id(n), grace).await }
        });
        self.few_at_a_time(all).await
    }

    /// The last lines of the log of a worker of this machine, from 1.
    ///
    /// # Errors
    ///
    /// [`HostError`].
    pub async fn logs_here(&self, n: u32, lines: u32) -> Result<Option<String>, HostError> {
        self.logs_of(&Place::Here, &id(n), lines).await
    }
}

/// Workers that are children of this process, and end with it: they are told its number by
/// `--parent`, and have the system tell them when it has ended, however that came.
#[derive(Debug)]
pub struct Children {
    children: Vec<(u32, Group)>,
    dir: PathBuf,
}

impl Children {
    /// Starts `count` workers with their files in `dir`: the token, and `local-1.pid`, `local-1.log`
    /// and so on. They are in process groups of their own, so that a Ctrl-C at the terminal reaches
    /// this process only, which passes it on as it sees fit.
    ///
    /// Must be called by a thread that lives as long as the process: to the system, a parent is a
    /// thread.
    ///
    /// # Errors
    ///
    /// What the system says of the folder or the program. Workers started before are killed.
    pub fn start(
        fleet: &Fleet,
        count: u32,
        worker: &WorkerSpec,
        program: &Path,
        secret: &Secret,
        dir: &Path,
    ) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let token = dir.join("token");
        secret.write_to(&token)?;
        let mut all = Self {
            children: Vec::new(),
            dir: dir.to_owned(),
        };
        for n in 1..=count {
            let mut worker = worker.clone();
            worker
                .labels
                .insert(LABEL_FLEET.to_owned(), fleet.name().to_owned());
            let own = worker.name.map(|name| format!("{name}-{n}"));
            worker.name = own.or_else(|| Some(id(n)));
            let log = File::options()
                .create(true)
                .append(true)
                .open(all.file(n, "log"))?;
            let mut command = Command::new(program);
            command
                .args(worker.args())
                .arg("--token-file")
                .arg(&token)
                .arg(format!("--parent={}", std::process::id()))
                .env_remove("OPTWASM_TOKEN")
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log);
            let group = Group::spawn(&mut command)?;
            let pid = group.id().map_or_else(String::new, |id| id.to_string());
            let since = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            std::fs::write(all.file(n, "pid"), format!("{pid} {}\n", since.as_secs()))?;
            all.children.push((n, group));
        }
        Ok(all)
    }

    fn file(&self, n: u32, ending: &str) -> PathBuf {
        self.dir.join(format!("{}.{ending}", id(n)))
    }

    /// Waits until all have ended, and tells how, in their order.
    pub async fn wait(&mut self) -> Vec<io::Result<ExitStatus>> {
        let mut results = Vec::new();
        for (n, group) in &mut self.children {
            results.push(group.wait().await);
            let _ = std::fs::remove_file(self.dir.join(format!("{}.pid", id(*n))));
        }
        results
    }

    /// Asks all to finish what they run, and kills those that have not ended after `grace`.
    pub async fn stop(mut self, grace: Duration) -> Vec<io::Result<ExitStatus>> {
        for (_, group) in &self.children {
            group.signal(Signal::TERM);
        }
        if tokio::time::timeout(grace, self.wait()).await.is_err() {
            for (_, group) in &self.children {
                group.kill();
            }
        }
        self.wait().await
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for (n, _) in &self.children {
            let _ = std::fs::remove_file(self.file(*n, "pid"));
        }
        let _ = std::fs::remove_file(self.dir.join("token"));
    }
}
