//! A worker and how much it may hold.

use std::collections::{BTreeMap, BTreeSet};

use crate::class::ClassId;
use crate::config::Window;
use crate::estimate::Ewma;
use crate::share::KindId;
use crate::{Distrust, JobId, NamespaceId, Time, WorkerSpec};

/// One worker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Worker {
    /// What it offers; where it leaves at a set time, what it offered at the last tick.
    pub(crate) spec: WorkerSpec,
    /// When it leaves.
    pub(crate) leaves: Option<Time>,
    pub(crate) draining: bool,
    /// Since when its connection is lost.
    pub(crate) away_since: Option<Time>,
    /// It failed too often by its own fault.
    pub(crate) aside: bool,
    /// Jobs that ended by a fault of its host since the last success; no more than it takes to be
    /// put aside.
    pub(crate) host_faults: BTreeSet<JobId>,
    pub(crate) distrusts: u32,
    pub(crate) distrusted: Option<Distrust>,
    /// Those that are like it: `None` only until it has said what it is.
    pub(crate) kind: Option<KindId>,
    /// Classes it satisfies, by namespace; empty unless it takes jobs. No entry is empty.
    pub(crate) classes: BTreeMap<NamespaceId, Vec<ClassId>>,
    /// What it holds, in the order of hand-out, which is the order it starts jobs in.
    pub(crate) held: BTreeMap<u64, JobId>,
    /// The one job it holds, if that job has to be alone.
    pub(crate) lone: Option<JobId>,
    pub(crate) done: u64,
    pub(crate) service: Ewma,
    /// Jobs held by their memory.
    memory: BTreeMap<u64, u32>,
    /// Jobs held that are long or of unknown length.
    long: usize,
    /// Expected work of the other jobs held.
    short_us: u64,
}

impl Worker {
    /// Whether it is connected and has not asked to be left alone.
    pub(crate) fn is_present(&self) -> bool {
        !self.draining && self.away_since.is_none()
    }

    pub(crate) fn takes_jobs(&self) -> bool {
        self.is_present() && !self.aside
    }

    /// The classes of a namespace that it satisfies.
    pub(crate) fn classes_of(&self, namespace: NamespaceId) -> &[ClassId] {
        self.classes.get(&namespace).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn leave(&mut self, namespace: NamespaceId, class: ClassId) {
        if let Some(classes) = self.classes.get_mut(&namespace) {
            classes.retain(|&member| member != class);
            if classes.is_empty() {
                self.classes.remove(&namespace);
            }
        }
    }

    pub(crate) fn slots(&self) -> usize {
        self.spec.slots as usize
    }

    /// The jobs in its slots; it holds the others ahead.
    pub(crate) fn running(&self) -> impl Iterator<Item = JobId> {
        self.held.values().take(self.slots()).copied()
    }

    pub(crate) fn runs(&self, job: JobId) -> bool {
        self.running().any(|running| running == job)
    }

    pub(crate) fn has_free_slot(&self) -> bool {
        self.held.len() < self.slots()
    }

    /// Jobs held per slot, in 1/1024: comparable between workers of different size.
    pub(crate) fn load(&self) -> u64 {
        (self.held.len() as u64) * 1024 / u64::from(self.spec.slots).max(1)
    }

    /// Whether the `slots` largest of the held jobs and one more of `memory` bytes fit together.
    pub(crate) fn fits(&self, memory: u64) -> bool {
        let mut slots = u64::from(self.spec.slots);
        let mut sum: u64 = 0;
        let mut extra = Some(memory);
        for (&size, &count) in self.memory.iter().rev() {
            if let Some(memory) = extra.take_if(|memory| *memory >= size && slots > 0) {
                sum = sum.saturating_add(memory);
                slots -= 1;
            }
            let running = slots.min(u64::from(count));
            sum = sum.saturating_add(size.saturating_mul(running));
            slots -= running;
        }
        if let Some(memory) = extra.filter(|_| slots > 0) {
            sum = sum.saturating_add(memory);
        }
        sum <= self.spec.memory
    }

    /// Whether a job may be handed ahead, with all slots taken. `share` bounds how many jobs it may
    /// hold ahead. The rule is that of [`Window`].
    pub(crate) fn may_hold_ahead(
        &self,
        expected_us: Option<u64>,
        share: u64,
        window: &Window,
    ) -> bool {
        let Some(expected) = expected_us.filter(|&us| us <= window.long_job_us) else {
            return false;
        };
        let ahead = self.held.len().saturating_sub(self.slots()) as u64;
        let free_of_long = self.slots().saturating_sub(self.long) as u64;
        let short = (self.held.len() - self.long) as u64;
        let at_least = free_of_long * 2;
        let at_most = free_of_long * (1 + u64::from(window.max_ahead_per_slot));
        let work = free_of_long.saturating_mul(window.ahead_us.saturating_add(expected));
        ahead < share && (short < at_least || (short < at_most && self.short_us < work))
    }

    pub(crate) fn add(
        &mut self,
        order: u64,
        job: JobId,
        memory: u64,
        expected_us: Option<u64>,
        window: &Window,
    ) {
        self.held.insert(order, job);
        *self.memory.entry(memory).or_default() += 1;
        match expected_us.filter(|&us| us <= window.long_job_us) {
            Some(us) => self.short_us += us,
            None => self.long += 1,
        }
    }

    /// Takes back what [`Worker::add`] put in with the same arguments.
    pub(crate) fn remove(
        &mut self,
        order: u64,
        memory: u64,
        expected_us: Option<u64>,
        window: &Window,
    ) {
        self.held.remove(&order);
        if let Some(count) = self.memory.get_mut(&memory) {
            *count -= 1;
            if *count == 0 {
                self.memory.remove(&memory);
            }
        }
        match expected_us.filter(|&us| us <= window.long_job_us) {
            Some(us) => self.short_us -= us,
            None => self.long -= 1,
        }
        // A job that has to be alone was the only one.
        self.lone = None;
    }

    /// What the bookkeeping beside `held` says: jobs counted, long ones, work of the short ones.
    pub(crate) fn tallies(&self) -> (usize, usize, u64) {
        (
            self.memory.values().map(|&n| n as usize).sum(),
            self.long,
            self.short_us,
        )
    }
}
