//! A batch: its waiting and held jobs and its place in the order of service.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;

use crate::class::{Class, ClassId, Pass, Turn};
use crate::estimate::{self, Ewma};
use crate::ranges::RangeSet;
use crate::returned::{Place, Returned, ReturnedJobs, Trouble};
use crate::share::{self, KindId, Shares};
use crate::status::DoneCounts;
use crate::worker::Worker;
use crate::{BatchId, BatchSpec, Known, NamespaceId, Time, WorkerId};

/// What a job of unknown service time is charged until its report corrects it, in microseconds:
/// the default look-ahead, between a job that does nothing and one that is long.
pub(crate) const UNKNOWN_SERVICE_US: u64 = 4_000;

/// A job in the hands of a worker.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) worker: WorkerId,
    pub(crate) attempt: u32,
    pub(crate) since: Time,
    /// Key in the worker's `held`.
    pub(crate) order: u64,
    /// What it was charged for.
    pub(crate) expected_us: Option<u64>,
    /// The kind of worker that its namespace was charged for, and how much.
    pub(crate) kind: KindId,
    pub(crate) charged_us: u64,
    pub(crate) recalled: bool,
    pub(crate) trouble: Option<Box<Trouble>>,
}

/// A batch that found no room on a worker it matches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blocked {
    pub(crate) since: Time,
    /// The worker that is kept for it.
    pub(crate) reserved: Option<WorkerId>,
}

/// What a batch could do with a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The job to hand out if there is room.
    pub(crate) index: Option<u32>,
    /// A job waits for a free slot.
    pub(crate) needs_slot: bool,
    /// A job waits for the worker to be empty.
    pub(crate) needs_empty: bool,
}

/// One batch. Its waiting jobs are `fresh` and `returned`; with `parked` and the keys of `held` these
/// are disjoint, and all other indices below `count` have finished.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) id: BatchId,
    pub(crate) namespace: NamespaceId,
    pub(crate) class: ClassId,
    pub(crate) priority: i32,
    pub(crate) retries: u32,
    pub(crate) loss_limit: u32,
    pub(crate) count: u32,
    /// Jobs without a history, marked with their last attempt number, which is that of an earlier
    /// life where they were reopened.
    pub(crate) fresh: RangeSet,
    pub(crate) returned: ReturnedJobs,
    /// Jobs that wait for no worker. Their marks mean nothing.
    pub(crate) parked: RangeSet,
    /// The history of those parked jobs that have one.
    pub(crate) parked_history: BTreeMap<u32, Returned>,
    pub(crate) held: BTreeMap<u32, Held>,
    pub(crate) pass: Pass,
    pub(crate) service: Ewma,
    pub(crate) blocked: Option<Blocked>,
    pub(crate) cancelled: bool,
    pub(crate) done: DoneCounts,
    pub(crate) retried: u64,
    pub(crate) superseded: u64,
    weight: u32,
}

impl Batch {
    /// Charges its namespace for a held job that has run for longer than it was charged for.
    pub(crate) fn charge_for_time(&mut self, now: Time, index: u32, shares: &mut Shares) {
        let Some(held) = self.held.get_mut(&index) else {
            return;
        };
        let taken_us = estimate::clamp(now.micros_since(held.since));
        if taken_us > held.charged_us {
            let charged_us = std::mem::replace(&mut held.charged_us, taken_us);
            shares.settle(held.kind, self.namespace, charged_us, taken_us);
        }
    }

    /// A batch without jobs.
    pub(crate) fn new(id: BatchId, class: ClassId, spec: &BatchSpec) -> Self {
        Batch {
            id,
            namespace: spec.namespace,
            class,
            priority: spec.priority,
            retries: spec.retries,
            loss_limit: spec.loss_limit.max(1),
            count: 0,
            fresh: RangeSet::default(),
            returned: ReturnedJobs::default(),
            parked: RangeSet::default(),
            parked_history: BTreeMap::new(),
            held: BTreeMap::new(),
            pass: 0,
            service: Ewma::default(),
            blocked: None,
            cancelled: false,
            done: DoneCounts::default(),
            retried: 0,
            superseded: 0,
            weight: spec.weight.max(1),
        }
    }

    /// Adds jobs at the end, up to `count` in all.
    pub(crate) fn grow_to(&mut self, count: u32) {
        self.fresh.insert(self.count..count, 0);
        self.count = count;
    }

    /// Brings a batch that was just made to where it was in an earlier life of the caller.
    pub(crate) fn restore(
        &mut self,
        finished: &[Range<u32>],
        parked: &[Range<u32>],
        known: Vec<Known>,
    ) {
        let before = self.fresh.len();
        for range in finished {
            self.fresh.take_range(range.clone());
        }
        self.done.restored += u64::from(before - self.fresh.len());
        for range in parked {
            for range in self.fresh.take_range(range.clone()) {
                self.parked.insert(range, 0);
            }
        }
        for known in known {
            let index = known.index;
            if self.fresh.take(index).is_some() {
                let job = Returned::known(known);
                self.returned.insert(index, job, self.loss_limit);
            } else if self.parked.contains(index) {
                self.parked_history
                    .entry(index)
                    .or_insert_with(|| Returned::known(known));
            }
        }
    }

    /// Lets a parked job wait for a worker; whether it was parked.
    pub(crate) fn release(&mut self, index: u32) -> bool {
        if self.parked.take(index).is_none() {
            return false;
        }
        match self.parked_history.remove(&index) {
            Some(job) => self.returned.insert(index, job, self.loss_limit),
            None => self.fresh.insert(index..index + 1, 0),
        }
        true
    }

    /// Takes out a job that is with no worker; whether there was one.
    pub(crate) fn drop_unheld(&mut self, index: u32) -> bool {
        self.parked_history.remove(&index);
        self.parked.take(index).is_some() || self.take_waiting(index).is_some()
    }

    /// Lets finished jobs wait again, with attempts numbered above `first_attempt`.
    pub(crate) fn reopen(&mut self, jobs: &[Range<u32>], first_attempt: u32) {
        let mut finished = RangeSet::default();
        for range in jobs {
            finished.insert(range.start..range.end.min(self.count), 0);
        }
        for range in self.unfinished() {
            finished.take_range(range);
        }
        for range in finished.iter() {
            self.fresh.insert(range, first_attempt);
        }
        self.done.reopened += u64::from(finished.len());
        self.cancelled = false;
    }

    pub(crate) fn waiting(&self) -> u32 {
        self.fresh.len() + self.returned.len()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.waiting() == 0 && self.held.is_empty() && self.parked.len() == 0
    }

    /// Its place in the order, if it has waiting jobs.
    pub(crate) fn turn(&self) -> Option<Turn> {
        (self.waiting() > 0).then_some(Turn {
            priority: Reverse(self.priority),
            pass: self.pass,
            batch: self.id,
        })
    }

    /// How far `service_us` moves the pass.
    pub(crate) fn charge(&self, service_us: Option<u64>) -> Pass {
        let us = service_us.unwrap_or(UNKNOWN_SERVICE_US).max(1);
        share::charge(us, self.weight)
    }

    /// Replaces what a hand-out was charged by what it turned out to cost; `None`: nothing.
    pub(crate) fn settle(&mut self, charged_us: Option<u64>, cost_us: Option<u64>) {
        let cost = cost_us.map_or(0, |us| self.charge(Some(us)));
        self.pass = (self.pass + cost).saturating_sub(self.charge(charged_us));
    }

    /// The waiting job that `worker`, one of the workers of `class`, should take: the lowest index,
    /// but a job that has to be alone before others, since empty workers are rare.
    pub(crate) fn choose(&self, id: WorkerId, worker: &Worker, class: &Class) -> Choice {
        let mut choice = Choice {
            index: self.fresh.first(),
            ..Choice::default()
        };
        for (demand, index) in self.returned.heads() {
            if demand.avoids(id, &class.workers) {
                continue;
            }
            match demand.place {
                Place::Alone if worker.held.is_empty() => {
                    return Choice {
                        index: Some(index),
                        ..Choice::default()
                    };
                }
                Place::Alone => choice.needs_empty = true,
                Place::FreeSlot if !worker.has_free_slot() => choice.needs_slot = true,
                Place::FreeSlot | Place::Anywhere => {
                    choice.index = Some(choice.index.map_or(index, |lowest| lowest.min(index)));
                }
            }
        }
        choice
    }

    /// Takes a waiting job out, with what it needs and went through.
    pub(crate) fn take_waiting(&mut self, index: u32) -> Option<(Place, Returned)> {
        if let Some(last_attempt) = self.fresh.take(index) {
            let job = Returned {
                last_attempt,
                reported: true,
                trouble: None,
            };
            return Some((Place::Anywhere, job));
        }
        self.returned.take(index)
    }

    /// Whether `worker` may keep a job that it says it holds: the job waits and was not handed out
    /// again since, and the worker is not one whose result others are to confirm.
    pub(crate) fn may_adopt(&self, worker: WorkerId, index: u32, attempt: u32) -> bool {
        // An attempt that ended before the job was reopened has its outcome, and one whose report
        // was taken in must not be judged again.
        if let Some(last_attempt) = self.fresh.get(index) {
            return attempt > last_attempt;
        }
        self.returned.get(index).is_some_and(|(demand, job)| {
            let least = job.last_attempt + u32::from(job.reported);
            attempt >= least.max(1) && !demand.forbids(worker)
        })
    }

    /// The last attempt number of an unfinished job.
    pub(crate) fn last_attempt(&self, index: u32) -> Option<u32> {
        if let Some(held) = self.held.get(&index) {
            return Some(held.attempt);
        }
        if self.parked.contains(index) {
            let history = self.parked_history.get(&index);
            return Some(history.map_or(0, |job| job.last_attempt));
        }
        self.fresh
            .get(index)
            .or_else(|| self.returned.get(index).map(|(_, job)| job.last_attempt))
    }

    /// Puts a job that was held among the waiting ones.
    pub(crate) fn put_back(&mut self, index: u32, job: Returned) {
        self.returned.insert(index, job, self.loss_limit);
    }

    /// All unfinished jobs as ascending disjoint ranges.
    pub(crate) fn unfinished(&self) -> Vec<Range<u32>> {
        let single = |index: u32| index..index + 1;
        let mut all: Vec<Range<u32>> = self.fresh.iter().chain(self.parked.iter()).collect();
        all.extend(self.returned.indices().map(single));
        all.extend(self.held.keys().copied().map(single));
        all.sort_unstable_by_key(|range| range.start);
        let mut merged: Vec<Range<u32>> = Vec::new();
        for range in all {
            match merged.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => merged.push(range),
            }
        }
        merged
    }
}
