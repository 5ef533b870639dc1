//! The core of a coordinator: what happens becomes events of the scheduler, what the scheduler
//! decides becomes messages and records.
//!
//! The hub never waits. For each worker it keeps an outbox, which the worker's task empties; for
//! each batch that is not done, what its running jobs have reported, and a bell that rings when
//! there is something new to read from the store.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use optwasm_protocol::message::{BatchSpec, BatchStatus, JobEvent, WorkerInfo, WorkerStatus};
use optwasm_protocol::{BatchId, INLINE_MAX, JobId, Loss, Outcome, Payload, Report, WorkerId};
use optwasm_scheduler as sched;
use optwasm_store::{Commit, NewBatch, Record, Store, StoreError};
use tokio::sync::Notify;

use crate::now_ms;

/// Names of workers that have left, kept so that a lost job's evidence can name them.
const NAMES_MAX: usize = 10_000;
/// Largest checkpoint; the sandbox takes none that is larger.
const CHECKPOINT_MAX: usize = 1 << 20;
/// Entries of [`BatchStatus::progress`] and [`BatchStatus::incumbents`].
const REPORTS_MAX: usize = 16;

pub(crate) struct Hub<S> {
    scheduler: sched::Scheduler,
    store: Rc<S>,
    started: Instant,
    next_batch: u64,
    next_worker: u64,
    workers: HashMap<WorkerId, Peer>,
    names: BTreeMap<WorkerId, String>,
    live: HashMap<BatchId, Live>,
    effects: Vec<sched::Effect>,
}

/// A connected worker.
struct Peer {
    info: WorkerInfo,
    address: String,
    outbox: Vec<Out>,
    wake: Rc<Notify>,
}

/// Something to tell a worker.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Out {
    Assign(JobId, u32),
    Revoke(JobId, u32),
    Recall(JobId, u32),
    Forget(BatchId),
}

/// What is known of a batch that is not done, beside what the store keeps.
#[derive(Default)]
struct Live {
    bell: Rc<Notify>,
    progress: BTreeMap<u32, (f64, f64)>,
    incumbents: BTreeMap<u32, (f64, Option<f64>)>,
    checkpoints: HashMap<u32, Bytes>,
    workers: HashSet<WorkerId>,
}

fn job(id: JobId) -> sched::JobId {
    sched::JobId {
        batch: sched::BatchId(id.0.0),
        index: id.1,
    }
}

fn job_id(job: sched::JobId) -> JobId {
    JobId(BatchId(job.batch.0), job.index)
}

fn class(outcome: &Outcome) -> sched::OutcomeClass {
    match outcome {
        Outcome::Ok(_) => sched::OutcomeClass::Ok,
        Outcome::Deadline => sched::OutcomeClass::Deadline,
        Outcome::HostOutOfMemory(_) => sched::OutcomeClass::HostOutOfMemory,
        Outcome::HostPanic(_) => sched::OutcomeClass::HostPanic,
        Outcome::StackOverflow => sched::OutcomeClass::StackOverflow,
        Outcome::GuestError { .. }
        | Outcome::Panic { .. }
        | Outcome::Trap { .. }
        | Outcome::OutOfFuel
        | Outcome::MemoryLimit
        | Outcome::OutputTooLarge
        | Outcome::Rejected(_)
        | Outcome::WorkerLost(_)
        | Outcome::Cancelled => sched::OutcomeClass::Failed,
    }
}

impl<S: Store> Hub<S> {
    pub(crate) fn new(store: Rc<S>) -> Self {
        let next_batch = store.batches().last().map_or(1, |last| last.0 + 1);
        Self {
            scheduler: sched::Scheduler::new(sched::Config::default()),
            store,
            started: Instant::now(),
            next_batch,
            next_worker: 1,
            workers: HashMap::new(),
            names: BTreeMap::new(),
            live: HashMap::new(),
            effects: Vec::new(),
        }
    }

    fn step(&mut self, event: sched::Event) {
        let now = sched::Time(self.started.elapsed().as_micros() as u64);
        self.scheduler.step(now, event, &mut self.effects);
    }

    pub(crate) fn tick(&mut self) {
        self.step(sched::Event::Tick);
        self.settle();
    }

    // Workers.

    pub(crate) fn join(&mut self, info: WorkerInfo, address: String) -> (WorkerId, Rc<Notify>) {
        let worker = WorkerId(self.next_worker);
        self.next_worker += 1;
        tracing::info!(
            "worker {worker} ({}, {} slots) joined from {address}",
            info.name,
            info.slots
        );
        let spec = sched::WorkerSpec {
            slots: info.slots,
            memory: info.memory,
            labels: info.labels.clone(),
        };
        let wake = Rc::new(Notify::new());
        self.names.insert(worker, info.name.clone());
        if self.names.len() > NAMES_MAX {
            self.names.pop_first();
        }
        let peer = Peer {
            info,
            address,
            outbox: Vec::new(),
            wake: wake.clone(),
        };
        self.workers.insert(worker, peer);
        self.step(sched::Event::WorkerJoined {
            worker: sched::WorkerId(worker.0),
            spec,
            holds: Vec::new(),
        });
        self.settle();
        self.ring_all();
        (worker, wake)
    }

    pub(crate) fn leave(&mut self, worker: WorkerId, why: &str) {
        if let Some(peer) = self.workers.remove(&worker) {
            tracing::info!("worker {worker} ({}) left: {why}", peer.info.name);
        }
        for live in self.live.values_mut() {
            live.workers.remove(&worker);
        }
        self.step(sched::Event::WorkerLost {
            worker: sched::WorkerId(worker.0),
        });
        self.settle();
        self.ring_all();
    }

    pub(crate) fn draining(&mut self, worker: WorkerId) {
        self.step(sched::Event::WorkerDraining {
            worker: sched::WorkerId(worker.0),
        });
        self.settle();
    }

    pub(crate) fn give_back(&mut self, worker: WorkerId, jobs: Vec<(JobId, u32)>) {
        let jobs = jobs.into_iter().map(|(id, attempt)| sched::Claim {
            job: job(id),
            attempt,
        });
        self.step(sched::Event::GivenBack {
            worker: sched::WorkerId(worker.0),
            jobs: jobs.collect(),
        });
        self.settle();
    }

    /// Takes reports of a worker in: those that decide a job become its result.
    pub(crate) fn finished(&mut self, worker: WorkerId, reports: Vec<(JobId, u32, Report)>) {
        let name = match self.workers.get(&worker) {
            Some(peer) => peer.info.name.clone(),
            None => return,
        };
        let mut records = Vec::with_capacity(reports.len());
        for (id, attempt, mut report) in reports {
            self.check_output(&mut report);
            self.step(sched::Event::Finished {
                worker: sched::WorkerId(worker.0),
                job: job(id),
                attempt,
                class: class(&report.outcome),
                service_time_us: report.wall_us,
            });
            let decided = self.effects.iter().any(|effect| {
                matches!(effect, sched::Effect::Done { job, verdict: sched::Verdict::Reported(_), .. }
                    if job_id(*job) == id)
            });
            if decided {
                report.worker.clone_from(&name);
                report.attempt = attempt;
                records.push(Record::Result(id, Box::new(report)));
            }
            self.carry_out(&mut records);
        }
        // A worker forgets what it has reported; whether it is safe matters to readers.
        let _ = self.publish(records);
    }

    /// A result whose output is not here is none; the job is tried again.
    fn check_output(&self, report: &mut Report) {
        let missing = match &report.outcome {
            Outcome::Ok(Payload::Blob(_, id)) => !self.store.has_blob(id),
            Outcome::Ok(Payload::Inline(bytes)) => bytes.len() > INLINE_MAX,
            _ => false,
        };
        if missing {
            report.outcome = Outcome::HostOutOfMemory("the output did not arrive".to_owned());
        }
    }

    pub(crate) fn events(&mut self, worker: WorkerId, events: Vec<(JobId, u32, JobEvent)>) {
        for (id, attempt, event) in events {
            let holds = matches!(
                self.scheduler.job(job(id)),
                Some(sched::JobState::Held { worker: holder, attempt: held, .. })
                    if holder.0 == worker.0 && held == attempt
            );
            let Some(live) = self.live.get_mut(&id.0).filter(|_| holds) else {
                continue;
            };
            match event {
                JobEvent::Progress(done, total) => {
                    live.progress.insert(id.1, (done, total));
                }
                JobEvent::Incumbent(incumbent) => {
                    let summary = (incumbent.objective, incumbent.bound);
                    live.incumbents.insert(id.1, summary);
                }
                // Larger ones would not fit into an assignment beside an input.
                JobEvent::Checkpoint(bytes) if bytes.len() <= CHECKPOINT_MAX => {
                    live.checkpoints.insert(id.1, bytes);
                }
                JobEvent::Checkpoint(_) => {}
            }
            live.bell.notify_waiters();
        }
    }

    /// What the worker's task is to send now.
    pub(crate) fn take_outbox(&mut self, worker: WorkerId) -> Vec<Out> {
        let peer = self.workers.get_mut(&worker);
        peer.map(|peer| std::mem::take(&mut peer.outbox))
            .unwrap_or_default()
    }

    /// What a worker needs to run a job: its input and checkpoint.
    pub(crate) fn assignment(&self, id: JobId) -> Option<(Payload, Option<Bytes>)> {
        let input = self.store.input(id)?;
        let live = self.live.get(&id.0);
        let checkpoint = live.and_then(|live| live.checkpoints.get(&id.1).cloned());
        Some((input, checkpoint))
    }

    // Clients.

    pub(crate) fn submit(
        &mut self,
        spec: BatchSpec,
        inputs: Vec<Payload>,
    ) -> Result<(BatchId, Commit), StoreError> {
        let batch = BatchId(self.next_batch);
        let scheduled = sched::BatchSpec {
            count: inputs.len() as u32,
            weight: spec.weight,
            priority: spec.priority,
            memory: spec.template.limits.memory,
            labels: spec.require.clone(),
            retries: spec.retries,
            ..sched::BatchSpec::default()
        };
        let record = NewBatch {
            batch,
            spec,
            inputs,
            submitted_ms: now_ms(),
        };
        let commit = self
            .store
            .append(vec![Record::Submitted(Box::new(record))])?;
        self.next_batch += 1;
        self.live.insert(batch, Live::default());
        self.step(sched::Event::Submit {
            batch: sched::BatchId(batch.0),
            spec: scheduled,
            finished: Vec::new(),
        });
        self.settle();
        Ok((batch, commit))
    }

    pub(crate) fn cancel(&mut self, batch: BatchId) -> Option<Commit> {
        self.store.batch(batch)?;
        if !self.live.contains_key(&batch) {
            return Some(Commit::Done);
        }
        let mut records = vec![Record::Cancelled(batch)];
        self.step(sched::Event::Cancel {
            batch: sched::BatchId(batch.0),
        });
        self.carry_out(&mut records);
        Some(self.publish(records))
    }

    /// Forgets a batch; `false` where it is not done.
    pub(crate) fn remove(&mut self, batch: BatchId) -> Option<bool> {
        self.store.batch(batch)?;
        if self.live.contains_key(&batch) {
            return Some(false);
        }
        // Removing needs no room and is repeated safely, so nobody has to wait for its commit.
        let _ = self.store.append(vec![Record::Removed(batch)]);
        Some(true)
    }

    /// Rings when there is something new to read of a batch; `None` when it is done.
    pub(crate) fn bell(&self, batch: BatchId) -> Option<Rc<Notify>> {
        self.live.get(&batch).map(|live| live.bell.clone())
    }

    pub(crate) fn status(&self, batch: BatchId) -> Option<BatchStatus> {
        let summary = self.store.batch(batch)?;
        let scheduled = self.scheduler.batch(sched::BatchId(batch.0));
        let live = self.live.get(&batch);
        let running = scheduled.map_or(0, |s| s.held);
        Some(BatchStatus {
            batch,
            name: summary.spec.name,
            module: summary.spec.template.module,
            jobs: summary.jobs,
            running,
            done: summary.done,
            outcomes: summary.outcomes,
            retries: scheduled.map_or(0, |s| s.retried),
            cancelled: summary.cancelled,
            fuel: summary.fuel,
            submitted_ms: summary.submitted_ms,
            ended_ms: summary.ended_ms,
            waiting_for: if running == 0 && summary.done < summary.jobs {
                self.why_waiting(JobId(batch, summary.jobs - 1))
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

    /// Why a job waits, in words.
    fn why_waiting(&self, id: JobId) -> Option<String> {
        let Some(sched::JobState::Waiting(reason)) = self.scheduler.job(job(id)) else {
            return None;
        };
        Some(match reason {
            sched::WaitReason::NoWorker => "no worker is connected".to_owned(),
            sched::WaitReason::NoMatchingLabels => {
                "no connected worker has the required labels".to_owned()
            }
            sched::WaitReason::NotEnoughMemory { largest } => format!(
                "no connected worker has the memory that a job may use; the largest offers {} MiB",
                largest >> 20
            ),
            sched::WaitReason::NeedsEmptyWorker => {
                "its workers were lost before, so it waits for a worker of its own".to_owned()
            }
            sched::WaitReason::Behind { jobs } => format!("{jobs} jobs go before"),
        })
    }

    pub(crate) fn worker_statuses(&self) -> Vec<WorkerStatus> {
        let mut all: Vec<WorkerStatus> = self
            .workers
            .iter()
            .map(|(id, peer)| {
                let status = self.scheduler.worker(sched::WorkerId(id.0));
                WorkerStatus {
                    worker: *id,
                    info: peer.info.clone(),
                    peer: peer.address.clone(),
                    held: status.map_or(0, |s| s.held),
                    done: status.map_or(0, |s| s.done),
                    draining: status.is_some_and(|s| s.draining),
                }
            })
            .collect();
        all.sort_by_key(|status| status.worker);
        all
    }

    // What the scheduler decides.

    /// Carries out what the scheduler has decided, and makes it known.
    fn settle(&mut self) {
        let mut records = Vec::new();
        self.carry_out(&mut records);
        // Nobody waits for these; readers are told when they are safe.
        let _ = self.publish(records);
    }

    /// Carries out what the scheduler has decided. Results that follow go to `records`; those of
    /// reports are the caller's.
    fn carry_out(&mut self, records: &mut Vec<Record>) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                sched::Effect::Assign {
                    worker,
                    job,
                    attempt,
                } => {
                    let id = job_id(job);
                    if let Some(live) = self.live.get_mut(&id.0) {
                        live.workers.insert(WorkerId(worker.0));
                    }
                    self.tell(worker, Out::Assign(id, attempt));
                }
                sched::Effect::Revoke {
                    worker,
                    job,
                    attempt,
                } => self.tell(worker, Out::Revoke(job_id(job), attempt)),
                sched::Effect::Recall {
                    worker,
                    job,
                    attempt,
                } => self.tell(worker, Out::Recall(job_id(job), attempt)),
                sched::Effect::Done {
                    job,
                    verdict: sched::Verdict::LostTooOften { losses },
                    attempt,
                    ..
                } => {
                    let losses = losses.into_iter().map(|(worker, attempt)| Loss {
                        worker: WorkerId(worker.0),
                        worker_name: self
                            .names
                            .get(&WorkerId(worker.0))
                            .cloned()
                            .unwrap_or_default(),
                        attempt,
                    });
                    let mut report = Report::not_run(Outcome::WorkerLost(losses.collect()));
                    report.attempt = attempt;
                    records.push(Record::Result(job_id(job), Box::new(report)));
                }
                sched::Effect::Cancelled { batch, jobs } => {
                    records.extend(jobs.map(|index| {
                        let report = Report::not_run(Outcome::Cancelled);
                        Record::Result(JobId(BatchId(batch.0), index), Box::new(report))
                    }));
                }
                sched::Effect::BatchDone { batch } => {
                    records.push(Record::Ended(BatchId(batch.0), now_ms()));
                }
                sched::Effect::Retried {
                    job,
                    attempt,
                    worker,
                    reason,
                } => tracing::debug!("{job}: attempt {attempt} on {worker} failed: {reason:?}"),
                sched::Effect::Done { .. } | sched::Effect::Superseded { .. } => {}
                sched::Effect::Ignored { reason } => tracing::debug!("ignored: {reason:?}"),
            }
        }
        self.effects = effects;
    }

    fn tell(&mut self, worker: sched::WorkerId, out: Out) {
        if let Some(peer) = self.workers.get_mut(&WorkerId(worker.0)) {
            peer.outbox.push(out);
            peer.wake.notify_one();
        }
    }

    /// Appends records, and rings for whoever waits for them.
    fn publish(&mut self, records: Vec<Record>) -> Commit {
        if records.is_empty() {
            return Commit::Done;
        }
        let mut rings: Vec<Rc<Notify>> = Vec::new();
        let mut ended = Vec::new();
        for record in &records {
            let batch = match record {
                Record::Result(JobId(batch, index), _) => {
                    if let Some(live) = self.live.get_mut(batch) {
                        live.progress.remove(index);
                        live.incumbents.remove(index);
                        live.checkpoints.remove(index);
                    }
                    batch
                }
                Record::Ended(batch, _) => {
                    ended.push(*batch);
                    batch
                }
                _ => continue,
            };
            if let Some(live) = self.live.get(batch)
                && !rings.iter().any(|bell| Rc::ptr_eq(bell, &live.bell))
            {
                rings.push(live.bell.clone());
            }
        }
        let commit = match self.store.append(records) {
            Ok(commit) => commit,
            Err(error) => {
                // The store promises room for results; without it nothing can be acknowledged.
                tracing::error!("results could not be stored: {error}");
                return Commit::Done;
            }
        };
        for batch in ended {
            if let Some(live) = self.live.remove(&batch) {
                for worker in live.workers {
                    self.tell(sched::WorkerId(worker.0), Out::Forget(batch));
                }
            }
            self.step(sched::Event::Forget {
                batch: sched::BatchId(batch.0),
            });
        }
        match commit {
            Commit::Done => {
                for bell in rings {
                    bell.notify_waiters();
                }
                Commit::Done
            }
            Commit::Pending(receiver) => {
                let (done, again) = tokio::sync::oneshot::channel();
                tokio::task::spawn_local(async move {
                    let result = Commit::Pending(receiver).wait().await;
                    for bell in rings {
                        bell.notify_waiters();
                    }
                    // Nobody may be waiting for this commit in particular.
                    let _ = done.send(result);
                });
                Commit::Pending(again)
            }
        }
    }

    fn ring_all(&self) {
        for live in self.live.values() {
            live.bell.notify_waiters();
        }
    }
}
