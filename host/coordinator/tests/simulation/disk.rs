//! The disk that a coordinator of the simulation has, and what goes wrong with it.
//!
//! [`Model`] is a store that shows what is committed, and commits when the simulation says so: what
//! was appended and not committed is lost in a crash. [`Real`] is the product's own store on a
//! disk in memory, that tears and loses what was not synced.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use optwasm_protocol::message::{AttemptEnd, Order, ResultPage, WorkerInfo};
use optwasm_protocol::{BatchId, ContentId, JobId, Limits, Namespace, Payload, Report, WorkerId};
use optwasm_store::{
    Account, BatchSummary, Commit, Committed, Health, Held, MemoryStore, Record, Restored,
    RestoredBatch, RestoredWorker, SqliteOptions, SqliteStore, Store, StoreError, Witness,
};
use tokio::sync::oneshot;

use crate::Broken;
use crate::random::Random;
use crate::sectors;

/// How a commit came out.
type Outcome = Result<Committed, StoreError>;

/// Where the coordinator of a history keeps what it has acknowledged.
pub trait Disk {
    type Store: Store;

    /// Opens what has survived.
    fn open(&mut self) -> Result<Rc<Self::Store>, StoreError>;

    /// Some of what was appended is committed, at least one where there is one.
    fn sync(&mut self, random: &mut Random);

    /// Whether this commit has come out.
    fn poll(&self, commit: &mut oneshot::Receiver<Outcome>) -> Option<Outcome>;

    /// The process that has the store open is gone; so is all that was not committed, or parts of
    /// it.
    fn crash(&mut self, random: &mut Random);

    /// Whether new work finds no room.
    fn set_full(&mut self, full: bool);

    /// Fails by itself some time later, if it can.
    fn fail_later(&mut self, random: &mut Random);

    /// Whether identical jobs answer each other.
    fn has_memo(&self) -> bool;
}

/// The model of a store.
pub struct Model {
    state: Rc<RefCell<State>>,
    broken: Broken,
}

/// A model that is open.
pub struct ModelStore {
    state: Rc<RefCell<State>>,
    broken: Broken,
    /// Set when its process has ended.
    closed: Cell<bool>,
}

struct State {
    committed: MemoryStore,
    next_batch: u64,
    next_worker: u64,
    workers: BTreeMap<WorkerId, (WorkerInfo, Vec<Held>)>,
    unfinished: BTreeSet<BatchId>,
    pending: VecDeque<(Vec<Record>, Option<oneshot::Sender<Outcome>>)>,
    full: bool,
}

impl Model {
    pub fn new(broken: Broken) -> Self {
        let state = State {
            committed: MemoryStore::new(1 << 40),
            next_batch: 1,
            next_worker: 1,
            workers: BTreeMap::new(),
            unfinished: BTreeSet::new(),
            pending: VecDeque::new(),
            full: false,
        };
        Self {
            state: Rc::new(RefCell::new(state)),
            broken,
        }
    }
}

impl Disk for Model {
    type Store = ModelStore;

    fn open(&mut self) -> Result<Rc<ModelStore>, StoreError> {
        Ok(Rc::new(ModelStore {
            state: self.state.clone(),
            broken: self.broken,
            closed: Cell::new(false),
        }))
    }

    fn sync(&mut self, random: &mut Random) {
        let mut state = self.state.borrow_mut();
        let most = state.pending.len() as u64;
        if most == 0 {
            return;
        }
        for _ in 0..=random.below(most) {
            state.commit_one(self.broken);
        }
    }

    fn poll(&self, commit: &mut oneshot::Receiver<Outcome>) -> Option<Outcome> {
        commit.try_recv().ok()
    }

    fn crash(&mut self, random: &mut Random) {
        // What was written and not waited for may have reached the disk.
        let mut state = self.state.borrow_mut();
        let reached = random.below(state.pending.len() as u64 + 1);
        for _ in 0..reached {
            state.commit_one(self.broken);
        }
        state.pending.clear();
    }

    fn set_full(&mut self, full: bool) {
        self.state.borrow_mut().full = full;
    }

    fn fail_later(&mut self, _: &mut Random) {}

    fn has_memo(&self) -> bool {
        false
    }
}

impl State {
    fn commit_one(&mut self, broken: Broken) {
        let Some((mut records, sender)) = self.pending.pop_front() else {
            return;
        };
        if broken == Broken::LosesResults {
            records.retain(|r| !matches!(r, Record::Result(JobId(_, index), ..) if index % 3 == 2));
        }
        for record in &records {
            self.note(record);
        }
        // The model has room, and a submission comes alone.
        let _ = self.committed.append(records);
        if let Some(sender) = sender {
            // Whoever waited may be gone.
            let _ = sender.send(Ok(Committed::default()));
        }
    }

    /// What the store in memory does not keep.
    fn note(&mut self, record: &Record) {
        match record {
            Record::Submitted(new) => {
                self.next_batch = self.next_batch.max(new.batch.0 + 1);
                self.unfinished.insert(new.batch);
            }
            Record::Ended(batch, _) | Record::Removed(batch) => {
                self.unfinished.remove(batch);
            }
            Record::Reopened(batch, ..) => {
                self.unfinished.insert(*batch);
            }
            Record::Worker(id, info) => {
                self.next_worker = self.next_worker.max(id.0 + 1);
                let entry = self.workers.entry(*id);
                entry.or_insert_with(|| ((**info).clone(), Vec::new())).0 = (**info).clone();
            }
            Record::Holds(id, holds) => {
                if let Some(worker) = self.workers.get_mut(id) {
                    worker.1.clone_from(holds);
                }
            }
            Record::WorkerGone(id) => {
                self.workers.remove(id);
            }
            _ => {}
        }
    }
}

impl ModelStore {
    fn read<T>(&self, read: impl FnOnce(&MemoryStore) -> T) -> T {
        read(&self.state.borrow().committed)
    }
}

impl Store for ModelStore {
    fn append(&self, mut records: Vec<Record>) -> Result<Commit, StoreError> {
        if self.closed.get() {
            return Err(StoreError::Closed);
        }
        let mut state = self.state.borrow_mut();
        if state.full && matches!(records[..], [Record::Submitted(_)]) {
            return Err(StoreError::Full { used: 1, limit: 1 });
        }
        if self.broken == Broken::ForgetsWhoHolds {
            records.retain(|record| !matches!(record, Record::Holds(..)));
        }
        let (sender, receiver) = oneshot::channel();
        let mut sender = Some(sender);
        if self.broken == Broken::AcknowledgesEarly
            && let Some(sender) = sender.take()
        {
            let _ = sender.send(Ok(Committed::default()));
        }
        state.pending.push_back((records, sender));
        Ok(Commit::Pending(receiver))
    }

    fn restore(&self) -> Result<Restored, StoreError> {
        let state = self.state.borrow();
        let batches = state.unfinished.iter().filter_map(|id| {
            let summary = state.committed.batch(*id)?;
            let finished = state.committed.ended_jobs(*id, None);
            let ended = |index: &u32| finished.iter().any(|range| range.contains(index));
            let unfinished = (0..summary.jobs).filter(|index| !ended(index));
            let attempts = unfinished.flat_map(|index| {
                let ends = state.committed.attempts(JobId(*id, index));
                ends.into_iter().map(move |end| (index, end))
            });
            let attempts = attempts.collect();
            Some(RestoredBatch {
                batch: *id,
                namespace: summary.namespace,
                spec: summary.spec,
                jobs: summary.jobs,
                finished,
                parked: Vec::new(),
                attempts,
            })
        });
        let workers = state
            .workers
            .iter()
            .map(|(id, (info, holds))| RestoredWorker {
                worker: *id,
                info: info.clone(),
                holds: holds.clone(),
            });
        Ok(Restored {
            life: 1,
            next_batch: state.next_batch,
            next_worker: state.next_worker,
            batches: batches.collect(),
            workers: workers.collect(),
            damaged: Vec::new(),
        })
    }

    fn health(&self) -> Health {
        Health::default()
    }

    fn room(&self) -> u64 {
        match self.state.borrow().full {
            true => 0,
            false => 1 << 30,
        }
    }

    fn batches(&self, limit: usize) -> Vec<BatchId> {
        self.read(|store| store.batches(limit))
    }

    fn batch(&self, batch: BatchId) -> Option<BatchSummary> {
        self.read(|store| store.batch(batch))
    }

    fn batches_of(&self, namespace: &Namespace, limit: usize) -> Vec<BatchId> {
        self.read(|store| store.batches_of(namespace, limit))
    }

    fn batch_by_key(&self, namespace: &Namespace, key: &str) -> Option<(BatchId, [u8; 32])> {
        self.read(|store| store.batch_by_key(namespace, key))
    }

    fn accounts(&self) -> Vec<Account> {
        self.read(|store| store.accounts())
    }

    fn account(&self, namespace: &Namespace) -> Account {
        self.read(|store| store.account(namespace))
    }

    fn ended_before(&self, ms: u64, limit: usize) -> Vec<BatchId> {
        self.read(|store| store.ended_before(ms, limit))
    }

    fn input(&self, job: JobId) -> Result<Option<Payload>, StoreError> {
        self.read(|store| store.input(job))
    }

    fn limits(&self, job: JobId) -> Option<Limits> {
        self.read(|store| store.limits(job))
    }

    fn memory(&self, batch: BatchId) -> u64 {
        self.read(|store| store.memory(batch))
    }

    fn result(&self, job: JobId) -> Option<Report> {
        self.read(|store| store.result(job))
    }

    fn attempts(&self, job: JobId) -> Vec<AttemptEnd> {
        self.read(|store| store.attempts(job))
    }

    fn witnesses(&self, job: JobId) -> Vec<Witness> {
        self.read(|store| store.witnesses(job))
    }

    fn results(&self, id: BatchId, order: Order, cursor: u32, max: usize) -> Option<ResultPage> {
        self.read(|store| store.results(id, order, cursor, max))
    }

    fn ended_jobs(&self, batch: BatchId, outcomes: Option<&[String]>) -> Vec<Range<u32>> {
        self.read(|store| store.ended_jobs(batch, outcomes))
    }

    async fn put_blob(&self, _: ContentId, _: Bytes) -> Result<(), StoreError> {
        Ok(())
    }

    async fn get_blob(&self, _: ContentId) -> Result<Option<Bytes>, StoreError> {
        Ok(None)
    }

    fn has_blob(&self, _: &ContentId) -> bool {
        true
    }

    async fn collect(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn upload_blob(&self, _: &Namespace, _: ContentId, _: Bytes) -> Result<(), StoreError> {
        Ok(())
    }

    fn owns_blob(&self, _: &Namespace, _: &ContentId) -> bool {
        true
    }

    fn hold_blob(&self, _: &Namespace, _: ContentId) -> bool {
        true
    }

    async fn release_blob(&self, _: &Namespace, _: ContentId) -> Result<bool, StoreError> {
        Ok(false)
    }
}

impl Drop for ModelStore {
    fn drop(&mut self) {
        self.closed.set(true);
    }
}

/// The product's store on a simulated disk.
pub struct Real {
    disk: sectors::Disk,
    vfs: String,
    dir: PathBuf,
    full: bool,
    store: Weak<SqliteStore>,
}

impl Real {
    /// On a disk that is known by `vfs`; `dir` is for files that are not simulated.
    pub fn new(disk: sectors::Disk, vfs: &str, dir: PathBuf) -> Self {
        Self {
            disk,
            vfs: vfs.to_owned(),
            dir,
            full: false,
            store: Weak::new(),
        }
    }
}

/// A commit that takes longer is lost; on a full disk it waits for room.
const PATIENCE: Duration = Duration::from_secs(60);
const PATIENCE_FULL: Duration = Duration::from_millis(2);
/// Within which time a store that works finds that there is room again.
const PATIENCE_ROOM: Duration = Duration::from_secs(2);

impl Disk for Real {
    type Store = SqliteStore;

    fn open(&mut self) -> Result<Rc<SqliteStore>, StoreError> {
        let options = SqliteOptions {
            reserve: 0,
            vfs: Some(self.vfs.clone()),
            ..SqliteOptions::default()
        };
        let store = Rc::new(SqliteStore::open(&self.dir, options)?);
        self.store = Rc::downgrade(&store);
        Ok(store)
    }

    fn sync(&mut self, _: &mut Random) {}

    /// Waits, so that what follows does not depend on which thread was faster.
    fn poll(&self, commit: &mut oneshot::Receiver<Outcome>) -> Option<Outcome> {
        let begun = Instant::now();
        loop {
            match commit.try_recv() {
                Ok(outcome) => return Some(outcome),
                Err(oneshot::error::TryRecvError::Closed) => return Some(Err(StoreError::Closed)),
                Err(oneshot::error::TryRecvError::Empty) => {
                    if self.full && begun.elapsed() > PATIENCE_FULL {
                        return None;
                    }
                    assert!(begun.elapsed() < PATIENCE, "a commit hangs");
                    std::thread::sleep(Duration::from_micros(20));
                }
            }
        }
    }

    fn crash(&mut self, random: &mut Random) {
        self.full = false;
        self.disk.power_cycle(random);
    }

    fn set_full(&mut self, full: bool) {
        self.full = full;
        let fault = match full {
            true => sectors::Fault::Full(0, u64::MAX),
            false => sectors::Fault::None,
        };
        self.disk.set_fault(fault);
        // The store looks whether there is room again in its own time.
        let begun = Instant::now();
        while !full
            && begun.elapsed() < PATIENCE_ROOM
            && self.store.upgrade().is_some_and(|store| store.room() == 0)
        {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn fail_later(&mut self, random: &mut Random) {
        let at = random.below(60);
        let fault = match random.below(3) {
            0 => sectors::Fault::Sync(at / 4),
            1 => sectors::Fault::Write(at),
            _ => sectors::Fault::Crash(at),
        };
        self.disk.set_fault(fault);
    }

    fn has_memo(&self) -> bool {
        true
    }
}
