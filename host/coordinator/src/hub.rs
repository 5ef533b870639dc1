//! The core of a coordinator: what happens becomes events of the scheduler, what the scheduler
//! decides becomes messages and records.
//!
//! The hub never waits and has no clock: every call says what time it is. What it wants to keep it
//! appends to the store; what follows from that is done when the store has committed it, in the
//! order of the appends ([`Hub::committed`]). So nothing is acknowledged that a crash could undo,
//! and no job is handed out before a restarted coordinator would know who has it:
//!
//! | what | is followed, once it is safe, by |
//! |---|---|
//! | a submission | its jobs are scheduled, and the client has its number |
//! | a result | readers see it, and the worker may forget it |
//! | what a worker holds | the assignments are sent |
//! | the end of a batch | what was kept of it in memory is dropped |
//!
//! For each worker the hub keeps an outbox, which the worker's task empties; for each batch that is
//! not done, what its running jobs have reported, and a bell that rings when there is something new
//! to read from the store.
//!
//! A worker whose connection is lost is *away*: it keeps what it holds until its lease ends, and
//! takes up where it left when it connects again. After a restart every worker that was known is
//! away. Each connection of a worker has an epoch; what belongs to an earlier one is dropped.

mod attached;
mod checkpoints;
mod clients;
mod commit;
mod namespaces;
mod results;
mod status;
mod workers;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::rc::Rc;

use optwasm_protocol::message::{AttemptEnd, BatchSpec, Ending, Instance, Stay, WorkerInfo};
use optwasm_protocol::{
    BatchId, ContentId, JobId, Loss, Namespace, Outcome, Quota, Report, WorkerId,
};
use optwasm_scheduler as sched;
use optwasm_store::{Record, RestoredBatch, Store, StoreError};
use tokio::sync::Notify;

use attached::Attached;
use checkpoints::Checkpoints;
pub use clients::{NotDone, RetryError, SubmitError};
pub use commit::Waiter;
use commit::{After, Pending};
use namespaces::Opening;
pub use namespaces::QuotaError;
pub use status::{Footprint, JobData};

/// Names of workers that have left, kept so that a lost job's evidence can name them.
const NAMES_MAX: usize = 10_000;

/// What time it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Microseconds since the coordinator was started; never goes back.
    pub us: u64,
    /// Milliseconds since 1970.
    pub ms: u64,
}

/// How a coordinator works.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// How long a worker whose connection is lost keeps what it holds, in microseconds.
    pub lease_us: u64,
    /// Jobs of one namespace that may wait; submissions beyond it wait or are refused.
    pub max_queued: u64,
    /// Engine whose results answer jobs from memory while no worker is connected that has one.
    pub engine: String,
}

impl Default for HubConfig {
    /// Leases of 30 seconds, no bound on the queue.
    fn default() -> Self {
        Self {
            lease_us: sched::Config::default().lease_us,
            max_queued: u64::MAX,
            engine: String::new(),
        }
    }
}

/// The core of a coordinator.
pub struct Hub<S> {
    config: HubConfig,
    scheduler: sched::Scheduler,
    store: Rc<S>,
    life: u64,
    next_batch: u64,
    next_worker: u64,
    next_epoch: u64,
    workers: HashMap<WorkerId, Peer>,
    instances: HashMap<Instance, WorkerId>,
    names: BTreeMap<WorkerId, String>,
    live: HashMap<BatchId, Live>,
    checkpoints: Checkpoints,
    attached: Attached,
    /// Submissions with a key that are not committed yet.
    keys: HashMap<(Namespace, String), (BatchId, [u8; 32])>,
    /// What namespaces may have, where that was ever said.
    quotas: HashMap<Namespace, Quota>,
    /// Submissions of namespaces that are not committed yet.
    opening: HashMap<Namespace, Opening>,
    effects: Vec<sched::Effect>,
    /// What this call has decided to keep, and what follows.
    turn: Turn,
    /// What waits for commits, in order.
    pending: VecDeque<Pending>,
    /// Rings when there is a commit to wait for, or the hub has failed.
    pub(crate) news: Rc<Notify>,
    failed: Option<StoreError>,
    draining: bool,
}

/// What one call leads to.
#[derive(Default)]
struct Turn {
    records: Vec<Record>,
    afters: Vec<After>,
    assigned: Vec<(WorkerId, JobId, u32)>,
    /// Why the attempt ended that is being reported, in words.
    why: Option<String>,
    /// The last attempts at jobs of the batch that is being cancelled: should a job run again, its
    /// attempts are numbered above them, so that no report can be taken for another.
    attempted: HashMap<u32, u32>,
}

/// A worker that is connected, or away within its lease.
struct Peer {
    info: WorkerInfo,
    address: String,
    connection: Option<Connection>,
    /// Reports of it that counted, by the namespaces of their jobs.
    done: HashMap<Namespace, u64>,
}

/// A worker's connection.
struct Connection {
    epoch: u64,
    outbox: Vec<Out>,
    wake: Rc<Notify>,
    /// Reports that came on it.
    reports: u64,
}

/// A worker's connection, as its task names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The worker.
    pub worker: WorkerId,
    /// Which of its connections.
    pub epoch: u64,
}

/// Something to tell a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Out {
    /// Run this attempt.
    Assign(JobId, u32),
    /// Stop or drop it.
    Revoke(JobId, u32),
    /// Give it back if it has not begun.
    Recall(JobId, u32),
    /// No job of this batch will follow.
    Forget(BatchId),
    /// Nobody needs this blob any more.
    Discard(ContentId),
    /// So many reports of this connection are safe.
    Stored(u64),
    /// Finish what runs and leave.
    Drain,
    /// Leave at once.
    Leave,
}

/// What is known of a batch that is not done, beside what the store keeps.
struct Live {
    namespace: Namespace,
    /// Rings when there are new results, or the end.
    bell: Rc<Notify>,
    /// Rings when something else about it is new.
    news: Rc<Notify>,
    retry_on: Vec<String>,
    verify: u32,
    progress: BTreeMap<u32, (f64, f64)>,
    incumbents: BTreeMap<u32, (f64, Option<f64>)>,
    /// Results that wait for others to confirm them.
    witnesses: HashMap<u32, Vec<Vote>>,
    /// Results that came after their attempt was over, and before the job was decided.
    late: HashMap<u32, Vec<AttemptEnd>>,
    late_digests: HashMap<(u32, u32), ContentId>,
    workers: HashSet<WorkerId>,
    retried: u64,
}

/// A result that waits for others to confirm it.
struct Vote {
    worker: WorkerId,
    /// Only workers of one group have to agree; empty where that is not known any more.
    group: String,
    digest: ContentId,
}

impl Live {
    fn new(namespace: Namespace, spec: &BatchSpec) -> Self {
        Self {
            namespace,
            bell: Rc::default(),
            news: Rc::default(),
            retry_on: spec.retry_on.clone(),
            verify: spec.verify.max(1),
            progress: BTreeMap::new(),
            incumbents: BTreeMap::new(),
            witnesses: HashMap::new(),
            late: HashMap::new(),
            late_digests: HashMap::new(),
            workers: HashSet::new(),
            retried: 0,
        }
    }
}

fn job(id: JobId) -> sched::JobId {
    sched::JobId {
        batch: batch(id.0),
        index: id.1,
    }
}

fn batch(id: BatchId) -> sched::BatchId {
    sched::BatchId(id.0)
}

fn worker(id: WorkerId) -> sched::WorkerId {
    sched::WorkerId(id.0)
}

fn job_id(job: sched::JobId) -> JobId {
    JobId(BatchId(job.batch.0), job.index)
}

/// Workers of one group agree on every byte and on fuel: same engine, same answers to the probe.
fn group(info: &WorkerInfo) -> String {
    match info.probe.as_str() {
        "" => info.engine.clone(),
        probe => format!("{}/{probe}", info.engine),
    }
}

fn worker_spec(info: &WorkerInfo, stay: Option<Stay>) -> sched::WorkerSpec {
    sched::WorkerSpec {
        slots: info.slots,
        memory: info.memory,
        labels: info.labels.clone(),
        stay: stay.map(scheduled_stay),
    }
}

fn scheduled_stay(stay: Stay) -> sched::Stay {
    sched::Stay {
        left_us: stay.left_ms.saturating_mul(1000),
        reserve_us: stay.reserve_ms.saturating_mul(1000),
    }
}

impl<S: Store> Hub<S> {
    /// A hub on what `store` holds.
    ///
    /// # Errors
    ///
    /// Where that cannot be read.
    pub fn new(store: Rc<S>, config: HubConfig, now: Now) -> Result<Self, StoreError> {
        let restored = store.restore()?;
        let scheduler = sched::Scheduler::new(sched::Config {
            lease_us: config.lease_us,
            ..sched::Config::default()
        });
        let mut hub = Self {
            config,
            scheduler,
            store,
            life: restored.life,
            next_batch: restored.next_batch,
            next_worker: restored.next_worker,
            next_epoch: 1,
            workers: HashMap::new(),
            instances: HashMap::new(),
            names: BTreeMap::new(),
            live: HashMap::new(),
            checkpoints: Checkpoints::default(),
            attached: Attached::default(),
            keys: HashMap::new(),
            quotas: HashMap::new(),
            opening: HashMap::new(),
            effects: Vec::new(),
            turn: Turn::default(),
            pending: VecDeque::new(),
            news: Rc::default(),
            failed: None,
            draining: false,
        };
        for damage in &restored.damaged {
            tracing::error!("damaged, and left out: {damage}");
        }
        hub.restore_quotas(now);
        let mut witnessed = Vec::new();
        for batch in restored.batches {
            hub.restore_batch(now, batch, &mut witnessed);
        }
        // A job that was given back and handed out again is still among what its first worker held
        // when that was last written: the latest attempt is the one that has it.
        let mut latest: HashMap<JobId, u32> = HashMap::new();
        for (id, attempt) in restored.workers.iter().flat_map(|known| &known.holds) {
            let last = latest.entry(*id).or_default();
            *last = (*last).max(*attempt);
        }
        for mut known in restored.workers {
            known
                .holds
                .retain(|(id, attempt)| latest.get(id) == Some(attempt));
            hub.restore_worker(now, known);
        }
        for job in witnessed {
            hub.restore_witnesses(job);
        }
        hub.settle(now);
        Ok(hub)
    }

    /// Adds jobs of which some results wait to be confirmed to `witnessed`.
    fn restore_batch(&mut self, now: Now, restored: RestoredBatch, witnessed: &mut Vec<JobId>) {
        let memory = self.store.memory(restored.batch);
        let spec = scheduled(&restored.namespace, &restored.spec, restored.jobs, memory);
        let live = Live::new(restored.namespace, &restored.spec);
        self.live.insert(restored.batch, live);
        // Whoever had it run again did not mean the caller who had left.
        let reopened = |(_, end): &(u32, AttemptEnd)| matches!(end.ending, Ending::Reopened(_));
        if restored.spec.attached && !restored.attempts.iter().any(reopened) {
            self.attached.add(now, restored.batch);
        }
        let mut known: BTreeMap<u32, sched::Known> = BTreeMap::new();
        for (index, end) in restored.attempts {
            let job = known.entry(index).or_insert_with(|| sched::Known {
                index,
                ..sched::Known::default()
            });
            job.last_attempt = job.last_attempt.max(end.attempt);
            match end.ending {
                Ending::Retried(_) => {
                    job.failures += 1;
                    job.reported = true;
                }
                Ending::Lost { blamed: true } => {
                    job.losses.push((worker(end.worker), end.attempt));
                    job.reported = false;
                }
                Ending::Witness => {
                    job.avoid.push(worker(end.worker));
                    job.reported = true;
                    witnessed.push(JobId(restored.batch, index));
                }
                Ending::Reopened(_) => {
                    job.failures = 0;
                    job.losses.clear();
                    job.avoid.clear();
                    job.reported = true;
                }
                Ending::Lost { blamed: false } => job.reported = false,
                Ending::Differs | Ending::Confirms => {}
            }
            self.names.insert(end.worker, end.worker_name);
        }
        self.step(
            now,
            sched::Event::Submit {
                batch: batch(restored.batch),
                spec,
                finished: restored.finished,
                parked: restored.parked,
                known: known.into_values().collect(),
            },
        );
    }

    fn restore_worker(&mut self, now: Now, known: optwasm_store::RestoredWorker) {
        let claims = known.holds.into_iter().map(claim);
        self.step(
            now,
            sched::Event::WorkerRestored {
                worker: worker(known.worker),
                // It is away, and says anew how long it stays when it is back.
                spec: worker_spec(&known.info, None),
                holds: claims.collect(),
            },
        );
        self.instances.insert(known.info.instance, known.worker);
        self.remember_name(known.worker, known.info.name.clone());
        let peer = Peer {
            info: known.info,
            address: String::new(),
            connection: None,
            done: HashMap::new(),
        };
        self.workers.insert(known.worker, peer);
    }

    fn remember_name(&mut self, worker: WorkerId, name: String) {
        self.names.insert(worker, name);
        if self.names.len() > NAMES_MAX {
            self.names.pop_first();
        }
    }

    fn name(&self, worker: WorkerId) -> String {
        self.names.get(&worker).cloned().unwrap_or_default()
    }

    fn step(&mut self, now: Now, event: sched::Event) {
        self.scheduler
            .step(sched::Time(now.us), event, &mut self.effects);
    }

    /// Of which life of the store the numbers of batches and workers are.
    pub fn life(&self) -> u64 {
        self.life
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Now) {
        self.step(now, sched::Event::Tick);
        self.settle(now);
        self.cancel_forsaken(now);
    }

    /// Why the coordinator must end, where it must.
    pub fn failure(&self) -> Option<&StoreError> {
        self.failed.as_ref()
    }

    // What the scheduler decides.

    /// Carries out what the scheduler has decided, and appends what is to be kept.
    fn settle(&mut self, now: Now) {
        self.carry_out(now);
        self.flush(now);
    }

    fn carry_out(&mut self, now: Now) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            self.carry_out_one(now, effect);
        }
        self.effects = effects;
    }

    fn carry_out_one(&mut self, now: Now, effect: sched::Effect) {
        match effect {
            sched::Effect::Assign {
                worker,
                job,
                attempt,
            } => {
                let assigned = (WorkerId(worker.0), job_id(job), attempt);
                self.turn.assigned.push(assigned);
            }
            sched::Effect::Revoke {
                worker,
                job,
                attempt,
            } => self.tell(WorkerId(worker.0), Out::Revoke(job_id(job), attempt)),
            sched::Effect::Recall {
                worker,
                job,
                attempt,
            } => self.tell(WorkerId(worker.0), Out::Recall(job_id(job), attempt)),
            sched::Effect::Done {
                job,
                verdict: sched::Verdict::LostTooOften { losses },
                attempt,
                ..
            } => {
                let losses = losses.into_iter().map(|(worker, attempt)| Loss {
                    worker: WorkerId(worker.0),
                    worker_name: self.name(WorkerId(worker.0)),
                    attempt,
                });
                let mut report = Report::not_run(Outcome::WorkerLost(losses.collect()));
                report.attempt = attempt;
                self.record_result(job_id(job), report, String::new());
            }
            sched::Effect::Cancelled { batch, jobs } => {
                for index in jobs {
                    let mut report = Report::not_run(Outcome::Cancelled);
                    report.attempt = self.turn.attempted.remove(&index).unwrap_or_default();
                    self.record_result(JobId(BatchId(batch.0), index), report, String::new());
                }
            }
            sched::Effect::BatchDone { batch } => {
                let batch = BatchId(batch.0);
                self.turn.records.push(Record::Ended(batch, now.ms));
                self.turn.afters.push(After::Close(batch));
            }
            sched::Effect::Retried {
                job,
                attempt,
                worker,
                reason,
            } => {
                tracing::debug!("{job}: attempt {attempt} on {worker} failed: {reason:?}");
                let ending = match reason {
                    sched::RetryReason::Outcome(_) => {
                        Ending::Retried(self.turn.why.clone().unwrap_or_default())
                    }
                    sched::RetryReason::WorkerLost { blamed } => Ending::Lost { blamed },
                };
                if let Some(live) = self.live.get_mut(&BatchId(job.batch.0)) {
                    live.retried += 1;
                }
                self.record_attempt(now, job_id(job), attempt, WorkerId(worker.0), ending);
            }
            sched::Effect::Unconfirmed {
                job,
                attempt,
                worker,
            } => {
                let worker = WorkerId(worker.0);
                self.record_attempt(now, job_id(job), attempt, worker, Ending::Witness);
            }
            sched::Effect::LeaseEnded { worker } => self.lease_ended(WorkerId(worker.0)),
            sched::Effect::PutAside { worker } => {
                let worker = WorkerId(worker.0);
                let why = self.why_aside(worker).unwrap_or_default();
                tracing::warn!(
                    "worker {worker} ({}) is put aside: {why}",
                    self.name(worker)
                );
            }
            sched::Effect::Done { .. } | sched::Effect::Superseded { .. } => {}
            sched::Effect::Ignored { reason } => tracing::debug!("ignored: {reason:?}"),
        }
    }

    fn record_attempt(
        &mut self,
        now: Now,
        id: JobId,
        attempt: u32,
        worker: WorkerId,
        ending: Ending,
    ) {
        let end = AttemptEnd {
            attempt,
            worker,
            worker_name: self.name(worker),
            ended_ms: now.ms,
            ending,
        };
        self.turn.records.push(Record::Attempt(id, end));
    }

    fn tell(&mut self, worker: WorkerId, out: Out) {
        let peer = self.workers.get_mut(&worker);
        if let Some(connection) = peer.and_then(|peer| peer.connection.as_mut()) {
            match (connection.outbox.last_mut(), out) {
                // So that a worker that reads nothing does not make this grow.
                (Some(Out::Stored(count)), Out::Stored(more)) => *count = more,
                (_, out) => connection.outbox.push(out),
            }
            connection.wake.notify_one();
        }
    }

    /// Lets those who watch a batch know that the workers have changed.
    fn ring_all(&self) {
        for live in self.live.values() {
            live.news.notify_waiters();
        }
    }

    /// The group of workers whose results answer and confirm each other now: the largest of those
    /// connected.
    fn group(&self) -> String {
        let mut slots: BTreeMap<String, u64> = BTreeMap::new();
        for peer in self.workers.values() {
            *slots.entry(group(&peer.info)).or_default() += u64::from(peer.info.slots);
        }
        let largest = slots.into_iter().max_by_key(|(_, slots)| *slots);
        largest.map_or_else(|| self.config.engine.clone(), |(group, _)| group)
    }
}

/// An outcome in words, for a job's history, of which a thousand lines are kept.
fn brief(outcome: &Outcome) -> String {
    const MOST: usize = 1024;
    let mut text = outcome.to_string();
    if text.len() > MOST {
        text.truncate(text.floor_char_boundary(MOST));
        text.push('…');
    }
    text
}

fn claim((id, attempt): (JobId, u32)) -> sched::Claim {
    sched::Claim {
        job: job(id),
        attempt,
    }
}

/// A batch as the scheduler knows it; `memory` is the most that one of its jobs may use.
fn scheduled(namespace: &Namespace, spec: &BatchSpec, jobs: u32, memory: u64) -> sched::BatchSpec {
    let deadline = spec.template.limits.own_deadline_ms();
    sched::BatchSpec {
        namespace: namespaces::number(namespace),
        count: jobs,
        weight: spec.weight,
        priority: spec.priority,
        memory,
        time_us: deadline.map(|ms| ms.saturating_mul(1000)),
        labels: spec.require.clone(),
        home: spec.home.map(worker),
        retries: spec.retries,
        ..sched::BatchSpec::default()
    }
}

/// All of `0..count` that is not in `ranges`, which are ascending and disjoint.
fn complement(ranges: &[Range<u32>], count: u32) -> Vec<Range<u32>> {
    let mut rest = Vec::new();
    let mut next = 0;
    for range in ranges {
        if range.start > next {
            rest.push(next..range.start);
        }
        next = range.end;
    }
    if next < count {
        rest.push(next..count);
    }
    rest
}
