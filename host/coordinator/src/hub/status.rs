//! What the hub knows, for people.

use std::rc::Rc;

use bytes::Bytes;
use optwasm_protocol::message::{
    AttemptEnd, BatchStatus, CoordinatorStatus, Explanation, Instance, Offer, Phase, WorkerInfo,
    WorkerStatus,
};
use optwasm_protocol::{BatchId, JobId, Limits, Namespace, Payload, WorkerId};
use optwasm_scheduler as sched;
use optwasm_store::{Store, StoreError};
use tokio::sync::Notify;

use super::{Hub, Now, batch, job, worker};

/// Entries of [`BatchStatus::progress`] and [`BatchStatus::incumbents`].
const REPORTS_MAX: usize = 16;

/// What a worker needs to run a job, beside its template.
pub struct JobData {
    /// Its input.
    pub input: Payload,
    /// The last checkpoint of an earlier attempt.
    pub checkpoint: Option<Bytes>,
    /// Its limits, where they are not those of its batch.
    pub limits: Option<Limits>,
}

/// How many entries the hub keeps in memory: for what is alive, and for nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Batches that are not done, as the hub and the scheduler know them.
    pub batches: (usize, usize),
    /// Submissions with a key that are not stored yet.
    pub keys: usize,
    /// Workers that are connected, or away within their lease.
    pub workers: usize,
    /// What waits for commits.
    pub pending: usize,
}

impl<S: Store> Hub<S> {
    /// How much it keeps in memory.
    pub fn footprint(&self) -> Footprint {
        Footprint {
            batches: (self.live.len(), self.scheduler.batch_ids().count()),
            keys: self.keys.len(),
            workers: self.workers.len(),
            pending: self.pending.len(),
        }
    }

    /// What a worker needs to run a job; `None` where there is no such job.
    ///
    /// # Errors
    ///
    /// Where the input was damaged: see [`damaged`](Self::damaged).
    pub fn assignment(&self, id: JobId) -> Result<Option<JobData>, StoreError> {
        let Some(input) = self.store.input(id)? else {
            return Ok(None);
        };
        Ok(Some(JobData {
            input,
            checkpoint: self.checkpoints.get(id),
            limits: self.store.limits(id),
        }))
    }

    /// Rings when there are new results of a batch to read; `None` when it is done.
    pub fn bell(&self, batch: BatchId) -> Option<Rc<Notify>> {
        self.live.get(&batch).map(|live| live.bell.clone())
    }

    /// Rings when something else about a batch is new: progress, workers.
    pub fn news(&self, batch: BatchId) -> Option<Rc<Notify>> {
        self.live.get(&batch).map(|live| live.news.clone())
    }

    /// What is known of a batch.
    pub fn status(&self, id: BatchId) -> Option<BatchStatus> {
        let summary = self.store.batch(id)?;
        let scheduled = self.scheduler.batch(batch(id));
        let live = self.live.get(&id);
        let running = scheduled.map_or(0, |s| s.held);
        Some(BatchStatus {
            batch: id,
            namespace: summary.namespace,
            name: summary.spec.name,
            module: summary.spec.template.module,
            jobs: summary.jobs,
            running,
            done: summary.done,
            outcomes: summary.outcomes,
            retries: live.map_or(0, |live| live.retried),
            memo: summary.memo,
            confirmed: summary.confirmed,
            contradicted: summary.contradicted,
            cancelled: summary.cancelled,
            fuel: summary.fuel,
            submitted_ms: summary.submitted_ms,
            ended_ms: summary.ended_ms,
            waiting_for: if running == 0 && summary.done < summary.jobs {
                self.why_waiting(id)
            } else {
                None
            },
            progress: live.map_or_else(Vec::new, |live| {
                let entries = live.progress.iter().take(REPORTS_MAX);
                entries
                    .map(|(index, (done, total))| (*index, *done, *total))
                    .collect()
            }),
            incumbents: live.map_or_else(Vec::new, |live| {
                let entries = live.incumbents.iter().take(REPORTS_MAX);
                entries
                    .map(|(index, (objective, bound))| (*index, *objective, *bound))
                    .collect()
            }),
        })
    }

    /// Why nothing of a batch runs: what its last waiting job says.
    fn why_waiting(&self, id: BatchId) -> Option<String> {
        let last = self.scheduler.last_waiting(batch(id))?;
        self.why_job_waits(super::job_id(last))
    }

    /// Why a job waits, in words.
    fn why_job_waits(&self, id: JobId) -> Option<String> {
        let reason = match self.scheduler.job(job(id)) {
            Some(sched::JobState::Waiting(reason)) => reason,
            Some(sched::JobState::Parked) => {
                return Some("an identical job is on its way, whose result will be its own".into());
            }
            _ => return None,
        };
        if self.draining {
            return Some("the coordinator is draining".to_owned());
        }
        Some(match reason {
            sched::WaitReason::NoWorker => "no worker is connected".to_owned(),
            sched::WaitReason::OnlyAway => {
                "the workers that could take it have lost their connection".to_owned()
            }
            sched::WaitReason::NoMatchingLabels => {
                "no connected worker has the required labels".to_owned()
            }
            sched::WaitReason::NotEnoughMemory { largest } => format!(
                "no connected worker has the memory that a job may use; the largest offers {} MiB",
                largest >> 20
            ),
            sched::WaitReason::NotEnoughTime => {
                "no connected worker stays for as long as a job may run".to_owned()
            }
            sched::WaitReason::NeedsEmptyWorker => {
                "its workers were lost before, so it waits for a worker of its own".to_owned()
            }
            sched::WaitReason::NeedsAnotherWorker => {
                "another worker has to come to the same result, and no other one is connected"
                    .to_owned()
            }
            sched::WaitReason::Behind { jobs } => format!("{jobs} jobs go before"),
        })
    }

    /// All workers that are connected or within their lease. Those who see only what is of `scope` are
    /// told what the workers do and have done for them, and no addresses.
    pub fn worker_statuses(&self, now: Now, scope: Option<&Namespace>) -> Vec<WorkerStatus> {
        let mut all: Vec<WorkerStatus> = self
            .workers
            .iter()
            .map(|(id, peer)| {
                let status = self.scheduler.worker(worker(*id));
                let held = self.scheduler.held_by(worker(*id));
                let own = held.filter(|job| self.sees_job(scope, super::job_id(*job)));
                WorkerStatus {
                    worker: *id,
                    info: WorkerInfo {
                        // Whoever knows it can pass for the worker.
                        instance: Instance::default(),
                        ..peer.info.clone()
                    },
                    peer: match scope {
                        None => peer.address.clone(),
                        Some(_) => String::new(),
                    },
                    held: own.count() as u32,
                    done: match scope {
                        None => status.map_or(0, |s| s.done),
                        Some(namespace) => peer.done.get(namespace).copied().unwrap_or(0),
                    },
                    draining: status.is_some_and(|s| s.draining),
                    away_ms: self.away_ms(now, *id),
                    aside: self.why_aside(*id),
                }
            })
            .collect();
        all.sort_by_key(|status| status.worker);
        all
    }

    pub(super) fn why_aside(&self, id: WorkerId) -> Option<String> {
        let status = self.scheduler.worker(worker(id)).filter(|s| s.aside)?;
        let why = match status.distrusted {
            Some(_) => "its results differ from those that other workers agree on",
            None => "many different jobs in a row failed by fault of its machine",
        };
        Some(why.to_owned())
    }

    fn away_ms(&self, now: Now, id: WorkerId) -> Option<u64> {
        let since = self.scheduler.worker(worker(id))?.away_since?;
        Some(now.us.saturating_sub(since.0) / 1000)
    }

    /// All about a job; `None` where there is none.
    pub fn explain(&self, now: Now, id: JobId) -> Option<Explanation> {
        let summary = self.store.batch(id.0).filter(|batch| id.1 < batch.jobs)?;
        let template = summary.spec.template;
        let report = self.store.result(id);
        let phase = match self.scheduler.job(job(id)) {
            _ if report.is_some() => Phase::Ended,
            Some(sched::JobState::Held {
                worker,
                attempt,
                since,
            }) => Phase::Held {
                worker: WorkerId(worker.0),
                worker_name: self.name(WorkerId(worker.0)),
                attempt,
                for_ms: now.us.saturating_sub(since.0) / 1000,
                away_ms: self.away_ms(now, WorkerId(worker.0)),
            },
            Some(sched::JobState::Waiting(_) | sched::JobState::Parked) => {
                Phase::Waiting(self.why_job_waits(id).unwrap_or_default())
            }
            // Its result is on its way to the disk.
            _ => Phase::Waiting("its result is being stored".to_owned()),
        };
        Some(Explanation {
            job: id,
            phase,
            limits: self.store.limits(id).unwrap_or(template.limits),
            template,
            input: self.store.input(id).ok().flatten(),
            history: latest(self.store.attempts(id)),
            report,
            engine: self.group(),
        })
    }

    /// How the coordinator is for those who see only what is of one namespace: as it would be if there
    /// were no other. `software` and `started_ms` are the caller's to fill in.
    pub fn status_of(&self, namespace: &Namespace) -> CoordinatorStatus {
        let of = self.namespace(namespace);
        let live = self.live.values();
        let live = live.filter(|live| live.namespace == *namespace);
        let all = self.coordinator_status();
        // What others have taken is not told.
        let capacity = all.used.saturating_add(all.room);
        let most = of.quota.max_bytes.unwrap_or(u64::MAX).min(capacity);
        let refusing = all.refusing.is_some();
        CoordinatorStatus {
            live_batches: live.count() as u32,
            waiting: of.queued,
            held: of.running,
            used: of.usage.bytes,
            room: most.saturating_sub(of.usage.bytes),
            refusing: refusing.then(|| "there is no room".to_owned()),
            store: String::new(),
            ..all
        }
    }

    /// Jobs that wait and that a worker with these labels, this memory and this long to stay could
    /// take; those of one namespace where `of` says so.
    pub fn demand(&self, offer: &Offer, of: Option<&Namespace>) -> u64 {
        let offer = sched::WorkerSpec {
            slots: 1,
            memory: offer.memory,
            labels: offer.labels.clone(),
            stay: offer.stay.map(super::scheduled_stay),
        };
        let of = of.map(super::namespaces::number);
        self.scheduler.waiting_for(&offer, of)
    }

    /// How the coordinator is; `software` and `started_ms` are the caller's to fill in.
    pub fn coordinator_status(&self) -> CoordinatorStatus {
        let health = self.store.health();
        let connected = self.connected();
        CoordinatorStatus {
            software: String::new(),
            started_ms: 0,
            workers: connected as u32,
            away: (self.workers.len() - connected) as u32,
            live_batches: self.live.len() as u32,
            waiting: self.scheduler.waiting(),
            held: self.scheduler.held(),
            used: health.used,
            room: health.room,
            refusing: health.refusing,
            draining: self.draining,
            store: health.description,
        }
    }
}

/// Lines of a job's history that are told, the latest: they fit one message.
const HISTORY_MAX: usize = 1000;

fn latest(mut history: Vec<AttemptEnd>) -> Vec<AttemptEnd> {
    history.drain(..history.len().saturating_sub(HISTORY_MAX));
    history
}
