//! Workers on many hosts by ssh, and on this machine by the same scripts.
//!
//! [`Fleet`] is a name and how things are done; its methods take the hosts. All hosts are worked at in
//! parallel, with a bound, each with a time limit, and each has a [`Report`] of its own: what fails on
//! one stops no other. On a host there is one worker of a fleet, with a folder of its own:
//!
//! | in `~/.local/state/optwasm/fleet/FLEET/HOST/` | content |
//! |---|---|
//! | `pid` | process, its start, boot, time, and what keeps it |
//! | `token` | the token, 0600; removed when the worker is stopped |
//! | `log` | what the worker says |
//! | `version` | what its program says its version is |
//! | `for` | its coordinator: address and fingerprint |
//! | `lock` | locked while the worker is being started |
//!
//! Programs lie in `~/.cache/optwasm/bin/`, named by their hash, so that hosts that share a home
//! directory, and fleets of several versions, do not disturb each other. `$XDG_STATE_HOME` and
//! `$XDG_CACHE_HOME` are obeyed. Nothing removes old programs.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::hosts::Host;
use crate::program::Program;
use crate::remote::script::Subject;
use crate::remote::start::{Outcome, Source, Start};
use crate::remote::{HostError, Place, Reply, Running, Said, Ssh, converse};
use crate::secret::Secret;
use crate::words::{WordError, plain, shell};
use crate::worker::{LABEL_FLEET, WorkerSpec};

/// A fleet of workers on hosts, and how they are reached.
#[derive(Clone, Debug)]
pub struct Fleet {
    name: String,
    /// How hosts are reached.
    pub ssh: Ssh,
    /// Hosts worked at at the same time, at least 1. Default 32, as pdsh has it: each is a process.
    pub parallel: usize,
    /// Time for each host. Default 5 minutes, in which 60 MB pass a link of 2 Mbit/s.
    pub limit: Duration,
    /// How long a worker must live to count as started. Default 1 s, in which one whose token is
    /// refused has ended. Whole seconds.
    pub settle: Duration,
    /// Folder on the hosts for everything, absolute. Default: those named above.
    pub root: Option<String>,
}

/// What became of one host.
#[derive(Debug)]
pub struct Report<T> {
    /// The host.
    pub host: Host,
    /// How long it took.
    pub took: Duration,
    /// What was done, or why not.
    pub result: Result<T, HostError>,
}

/// A worker after [`Fleet::start`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Started {
    /// The worker.
    pub running: Running,
    /// Whether it ran before, and nothing was done.
    pub already: bool,
    /// Whether the program was copied; it was there if not.
    pub copied: bool,
}

/// How a worker was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stopped {
    /// None was running.
    NotRunning,
    /// It ended when it was asked to.
    Ended,
    /// It did not end in time, and was killed: what it ran is handed out again.
    Killed,
}

impl Fleet {
    /// A fleet called `name`, with everything else by default.
    ///
    /// # Errors
    ///
    /// A name that is no folder's: only letters, digits, `-`, `_` and `.` may be in it.
    pub fn new(name: &str) -> Result<Self, WordError> {
        plain("fleet", name, "-_.")?;
        Ok(Self {
            name: name.to_owned(),
            ssh: Ssh::default(),
            parallel: 32,
            limit: Duration::from_secs(300),
            settle: Duration::from_secs(1),
            root: None,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts a worker on each host where none runs; where one runs for another coordinator, that is an
    /// error. Which of the programs is copied is chosen by the
    /// host's machine. A host's own slots, memory and labels go before those of `worker`, and a label
    /// `fleet` is added.
    pub async fn start(
        &self,
        hosts: &[Host],
        worker: &WorkerSpec,
        programs: &[Program],
        secret: &Secret,
    ) -> Vec<Report<Started>> {
        self.each(hosts, |fleet, host| {
            let (worker, programs) = (worker.clone(), programs.to_vec());
            let secret = secret.clone();
            async move {
                let place = Place::Host(&fleet.ssh, &host);
                let worker = for_host(&worker, &host);
                fleet
                    .start_one(&place, &host.id(), worker, Source::Copy(&programs), &secret)
                    .await
            }
        })
        .await
    }

    /// Which workers run.
    pub async fn status(&self, hosts: &[Host]) -> Vec<Report<Option<Running>>> {
        self.each(hosts, |fleet, host| async move {
            fleet
                .status_of(&Place::Host(&fleet.ssh, &host), &host.id())
                .await
        })
        .await
    }

    /// Stops the workers: each is asked to finish what it runs, and killed after `grace`.
    pub async fn stop(&self, hosts: &[Host], grace: Duration) -> Vec<Report<Stopped>> {
        self.each(hosts, |fleet, host| async move {
            fleet
                .stop_one(&Place::Host(&fleet.ssh, &host), &host.id(), grace)
                .await
        })
        .await
    }

    /// The last lines of the workers' logs; none where there is no log.
    pub async fn logs(&self, hosts: &[Host], lines: u32) -> Vec<Report<Option<String>>> {
        self.each(hosts, |fleet, host| async move {
            fleet
                .logs_of(&Place::Host(&fleet.ssh, &host), &host.id(), lines)
                .await
        })
        .await
    }

    pub(crate) async fn start_one(
        &self,
        place: &Place<'_>,
        id: &str,
        mut worker: WorkerSpec,
        source: Source<'_>,
        secret: &Secret,
    ) -> Result<Started, HostError> {
        worker
            .labels
            .insert(LABEL_FLEET.to_owned(), self.name.clone());
        if let Source::At(path) = source {
            shell(path)?;
        }
        let script = self.subject(id).start(&worker, self.settle.as_secs())?;
        let mut start = Start::new(source, secret);
        let log = converse(place, &script, self.limit, |said| start.hear(said)).await?;
        if start.died {
            return Err(HostError::Died(log.unwrap_or_default().trim().to_owned()));
        }
        match start.outcome {
            Some(Outcome::Already(running)) => Ok(Started {
                running,
                already: true,
                copied: false,
            }),
            Some(Outcome::Started { running, copied }) => Ok(Started {
                running,
                already: false,
                copied,
            }),
            None => Err(HostError::Garbled(String::new())),
        }
    }

    pub(crate) async fn status_of(
        &self,
        place: &Place<'_>,
        id: &str,
    ) -> Result<Option<Running>, HostError> {
        let script = self.subject(id).status()?;
        match self.ask(place, &script, self.limit).await? {
            (Said::Running(running), _) => Ok(Some(running)),
            (Said::Stopped, _) => Ok(None),
            (other, _) => Err(HostError::Garbled(format!("{other:?}"))),
        }
    }

    pub(crate) async fn stop_one(
        &self,
        place: &Place<'_>,
        id: &str,
        grace: Duration,
    ) -> Result<Stopped, HostError> {
        let script = self.subject(id).stop(grace.as_secs())?;
        match self.ask(place, &script, self.limit + grace).await? {
            (Said::Ended(how), _) if how == "none" => Ok(Stopped::NotRunning),
            (Said::Ended(how), _) if how == "ended" => Ok(Stopped::Ended),
            (Said::Ended(how), _) if how == "killed" => Ok(Stopped::Killed),
            (other, _) => Err(HostError::Garbled(format!("{other:?}"))),
        }
    }

    pub(crate) async fn logs_of(
        &self,
        place: &Place<'_>,
        id: &str,
        lines: u32,
    ) -> Result<Option<String>, HostError> {
        let script = self.subject(id).logs(lines)?;
        let (_, log) = self.ask(place, &script, self.limit).await?;
        Ok(log)
    }

    /// Runs a script that gives one answer.
    async fn ask(
        &self,
        place: &Place<'_>,
        script: &str,
        limit: Duration,
    ) -> Result<(Said, Option<String>), HostError> {
        let mut answer = None;
        let log = converse(place, script, limit, |said| match said {
            Said::Failed(why) => Err(HostError::Refused(why)),
            said => {
                answer = Some(said);
                Ok(Reply::Last(String::new(), None))
            }
        });
        let log = log.await?;
        let answer = answer.ok_or_else(|| HostError::Garbled(String::new()))?;
        Ok((answer, log))
    }

    fn subject<'a>(&'a self, id: &'a str) -> Subject<'a> {
        Subject {
            fleet: &self.name,
            id,
            root: self.root.as_deref().unwrap_or_default(),
        }
    }

    /// Does something for each host, and reports in the hosts' order.
    async fn each<T, F>(
        &self,
        hosts: &[Host],
        work: impl Fn(Arc<Self>, Host) -> F,
    ) -> Vec<Report<T>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, HostError>> + Send + 'static,
    {
        let fleet = Arc::new(self.clone());
        let all = hosts.iter().map(|host| {
            let work = work(fleet.clone(), host.clone());
            let host = host.clone();
            async move {
                let begin = Instant::now();
                let result = match host.check() {
                    Ok(()) => work.await,
                    Err(problem) => Err(HostError::Refused(problem.to_string())),
                };
                Report {
                    host,
                    took: begin.elapsed(),
                    result,
                }
            }
        });
        self.few_at_a_time(all).await
    }

    /// Does all of this, at most [`Fleet::parallel`] at the same time, and answers in its order. What has
    /// not ended when nobody waits any more is ended.
    pub(crate) async fn few_at_a_time<T, F>(&self, all: impl Iterator<Item = F>) -> Vec<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let places = Arc::new(Semaphore::new(self.parallel.max(1)));
        let mut running = JoinSet::new();
        for (index, work) in all.enumerate() {
            let places = places.clone();
            running.spawn(async move {
                let _place = places.acquire().await;
                (index, work.await)
            });
        }
        let mut done = Vec::new();
        while let Some(one) = running.join_next().await {
            match one {
                Ok(one) => done.push(one),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        done.sort_by_key(|(index, _)| *index);
        done.into_iter().map(|(_, one)| one).collect()
    }
}

/// The worker of a host.
fn for_host(worker: &WorkerSpec, host: &Host) -> WorkerSpec {
    let mut worker = worker.clone();
    worker.slots = host.slots.or(worker.slots);
    worker.memory = host.memory.clone().or(worker.memory);
    worker.labels.extend(host.labels.clone());
    worker
}

/// The programs of these files.
///
/// # Errors
///
/// The file that cannot be read, and why.
pub fn programs<'a>(
    paths: impl IntoIterator<Item = &'a Path>,
) -> Result<Vec<Program>, (&'a Path, std::io::Error)> {
    let open = |path| Program::open(path).map_err(|error| (path, error));
    paths.into_iter().map(open).collect()
}
