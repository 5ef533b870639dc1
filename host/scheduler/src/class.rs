//! Classes: batches of a namespace that ask the same of a worker.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::{BatchId, NamespaceId, WorkerId, WorkerSpec};

/// Names a class while it exists.
pub(crate) type ClassId = u64;

/// Pass of stride scheduling: service received over weight. 128 bits never overflow: the largest
/// charge is below 2^73 (see `Batch::charge`).
pub(crate) type Pass = u128;

/// What a worker must offer, and to whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Requirements {
    /// Whose batches they are: no class is of two namespaces.
    pub(crate) namespace: NamespaceId,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) memory: u64,
    pub(crate) time_us: Option<u64>,
    /// The worker that has to be it, while [`Scheduler::is_home`](crate::Scheduler) says so.
    pub(crate) home: Option<WorkerId>,
}

impl Requirements {
    pub(crate) fn labels_match(&self, spec: &WorkerSpec) -> bool {
        self.labels
            .iter()
            .all(|(key, value)| spec.labels.get(key) == Some(value))
    }

    /// Whether a worker has what they ask for, its home aside.
    pub(crate) fn match_spec(&self, spec: &WorkerSpec) -> bool {
        spec.slots > 0
            && spec.memory >= self.memory
            && spec.stay.is_none_or(|stay| stay.admits(self.time_us))
            && self.labels_match(spec)
    }
}

/// Place of a ready batch in the order of service: the smallest is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Turn {
    pub(crate) priority: Reverse<i32>,
    pub(crate) pass: Pass,
    pub(crate) batch: BatchId,
}

impl Turn {
    /// Behind all others.
    pub(crate) const LAST: Self = Self {
        priority: Reverse(i32::MIN),
        pass: Pass::MAX,
        batch: BatchId(u64::MAX),
    };
}

/// The batches of one priority in a class.
#[derive(Clone, Debug, Default)]
struct Level {
    batches: usize,
    /// The highest pass a batch was served at: where newcomers start.
    served: Pass,
}

/// One class.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    pub(crate) requirements: Requirements,
    /// Workers that satisfy it and take jobs.
    pub(crate) workers: BTreeSet<WorkerId>,
    /// Batches with waiting jobs.
    pub(crate) ready: BTreeSet<Turn>,
    /// Waiting jobs of all its batches.
    pub(crate) waiting: u64,
    levels: BTreeMap<i32, Level>,
}

impl Class {
    pub(crate) fn new(requirements: Requirements) -> Self {
        Class {
            requirements,
            workers: BTreeSet::new(),
            ready: BTreeSet::new(),
            waiting: 0,
            levels: BTreeMap::new(),
        }
    }

    pub(crate) fn add_batch(&mut self, priority: i32) {
        self.levels.entry(priority).or_default().batches += 1;
    }

    pub(crate) fn remove_batch(&mut self, priority: i32) {
        if let Some(level) = self.levels.get_mut(&priority) {
            level.batches -= 1;
            if level.batches == 0 {
                self.levels.remove(&priority);
            }
        }
    }

    pub(crate) fn is_unused(&self) -> bool {
        self.levels.is_empty()
    }

    pub(crate) fn served(&self, priority: i32) -> Pass {
        self.levels.get(&priority).map_or(0, |level| level.served)
    }

    pub(crate) fn note_service(&mut self, priority: i32, pass: Pass) {
        if let Some(level) = self.levels.get_mut(&priority) {
            level.served = level.served.max(pass);
        }
    }

    /// A batch moved in the order, became ready or ran out of waiting jobs.
    pub(crate) fn move_turn(&mut self, from: Option<Turn>, to: Option<Turn>) {
        if from == to {
            return;
        }
        if let Some(turn) = from {
            self.ready.remove(&turn);
        }
        if let Some(turn) = to {
            self.ready.insert(turn);
        }
    }

    /// How many waiting jobs fall to each worker.
    pub(crate) fn share(&self) -> u64 {
        self.waiting / (self.workers.len() as u64).max(1)
    }
}
