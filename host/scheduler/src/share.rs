//! Namespaces, and what each has had of the workers' time.
//!
//! Namespaces share by start-time fair queueing (Goyal, Vin and Cheng, "Start-time fair queueing",
//! SIGCOMM 1996). Each has a *pass*, the time that its jobs have taken over its weight; the one with
//! the smallest is served next. The pass that was served last is the *virtual time*: who is behind
//! it, because it was idle or had nothing that workers could run, is served as if it were there, so
//! nobody saves time up.
//!
//! Passes are counted for each *kind* of worker, those with the same labels and about the same
//! memory: what a namespace takes of workers that others cannot use is not held against it where
//! they meet.
//!
//! A hand-out is charged what the job is expected to take, or, where nothing is known of its batch,
//! what jobs have taken on such workers lately. The report corrects it, and a job that runs for longer
//! is charged for that while it runs ([`TOP_UP_US`]): a namespace whose jobs are long and unknown
//! would else get every slot before the first of them is paid for.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::batch::UNKNOWN_SERVICE_US;
use crate::class::Pass;
use crate::estimate::Ewma;
use crate::{NamespaceId, WorkerSpec};

/// How often jobs are charged for running longer than expected, in microseconds: once a second costs
/// less than 1 % of a processor with ten thousand slots.
pub(crate) const TOP_UP_US: u64 = 1_000_000;

/// Passes count in 2^-32 microseconds, so that even the largest weight divides one microsecond.
pub(crate) const PASS_SHIFT: u32 = 32;

/// Names a kind of worker while there is one.
pub(crate) type KindId = u64;

/// What workers of one kind have in common: labels, and the memory's power of two, since machines that
/// are alike report sizes that are a little different.
type KindKey = (BTreeMap<String, String>, u32);

/// The place of a namespace in the order of service: the smallest is next.
pub(crate) type Place = (Pass, NamespaceId);

/// How far `us` moves a pass.
pub(crate) fn charge(us: u64, weight: u32) -> Pass {
    (Pass::from(us) << PASS_SHIFT) / Pass::from(weight.max(1))
}

#[derive(Clone, Debug)]
struct Kind {
    key: KindKey,
    workers: usize,
    /// The virtual time.
    served: Pass,
    passes: BTreeMap<NamespaceId, Pass>,
    /// What namespaces got back since they were last served, because jobs took less than they were
    /// charged for: by so much they may be behind the virtual time.
    refunds: BTreeMap<NamespaceId, Pass>,
    /// Namespaces with waiting jobs.
    order: BTreeSet<Place>,
    /// What jobs have taken lately.
    service: Ewma,
}

impl Kind {
    fn pass(&self, namespace: NamespaceId) -> Pass {
        self.passes.get(&namespace).copied().unwrap_or(0)
    }

    fn set_pass(&mut self, namespace: NamespaceId, pass: Pass) {
        let before = self.passes.insert(namespace, pass).unwrap_or(0);
        if before != pass && self.order.remove(&(before, namespace)) {
            self.order.insert((pass, namespace));
        }
    }
}

/// What a namespace has in the scheduler.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    batches: usize,
    waiting: u64,
    parked: u64,
}

/// All namespaces.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shares {
    /// Of those that have another one than 1.
    weights: BTreeMap<NamespaceId, u32>,
    /// Of those that have batches.
    counts: BTreeMap<NamespaceId, Count>,
    kinds: BTreeMap<KindId, Kind>,
    kind_ids: BTreeMap<KindKey, KindId>,
    next_kind: KindId,
}

impl Shares {
    pub(crate) fn set_weight(&mut self, namespace: NamespaceId, weight: u32) {
        match weight.max(1) {
            1 => self.weights.remove(&namespace),
            weight => self.weights.insert(namespace, weight),
        };
    }

    fn weight(&self, namespace: NamespaceId) -> u32 {
        self.weights.get(&namespace).copied().unwrap_or(1)
    }

    /// A worker is there; returns its kind.
    pub(crate) fn add_worker(&mut self, spec: &WorkerSpec) -> KindId {
        let key = (
            spec.labels.clone(),
            spec.memory.checked_ilog2().unwrap_or(0),
        );
        let id = *self.kind_ids.entry(key.clone()).or_insert(self.next_kind);
        if id == self.next_kind {
            self.next_kind += 1;
            let waiting = self.counts.iter().filter(|(_, count)| count.waiting > 0);
            let kind = Kind {
                key,
                workers: 0,
                served: 0,
                passes: BTreeMap::new(),
                refunds: BTreeMap::new(),
                order: waiting.map(|(&namespace, _)| (0, namespace)).collect(),
                service: Ewma::default(),
            };
            self.kinds.insert(id, kind);
        }
        if let Some(kind) = self.kinds.get_mut(&id) {
            kind.workers += 1;
        }
        id
    }

    /// A worker is gone. With the last of a kind goes what was known of it.
    pub(crate) fn remove_worker(&mut self, id: KindId) {
        let Some(kind) = self.kinds.get_mut(&id) else {
            return;
        };
        kind.workers -= 1;
        if kind.workers == 0 {
            self.kind_ids.remove(&kind.key);
            self.kinds.remove(&id);
        }
    }

    pub(crate) fn add_batch(&mut self, namespace: NamespaceId) {
        self.counts.entry(namespace).or_default().batches += 1;
    }

    /// A batch, which has no waiting jobs any more, is forgotten.
    pub(crate) fn remove_batch(&mut self, namespace: NamespaceId) {
        if let Some(count) = self.counts.get_mut(&namespace) {
            count.batches -= 1;
            if count.batches == 0 {
                self.counts.remove(&namespace);
            }
        }
    }

    /// The jobs of a batch that wait, and that are parked, were so many and are so many.
    pub(crate) fn recount(
        &mut self,
        namespace: NamespaceId,
        waiting: (u32, u32),
        parked: (u32, u32),
    ) {
        if waiting.0 == waiting.1 && parked.0 == parked.1 {
            return;
        }
        let Some(count) = self.counts.get_mut(&namespace) else {
            return;
        };
        count.parked = count.parked + u64::from(parked.1) - u64::from(parked.0);
        let before = count.waiting;
        count.waiting = before + u64::from(waiting.1) - u64::from(waiting.0);
        let (was, is) = (before > 0, count.waiting > 0);
        if was == is {
            return;
        }
        for kind in self.kinds.values_mut() {
            let place = (kind.pass(namespace), namespace);
            if is {
                kind.order.insert(place);
            } else {
                kind.order.remove(&place);
            }
        }
    }

    /// Jobs of a namespace that have not been handed out: waiting and parked.
    pub(crate) fn queued(&self, namespace: NamespaceId) -> (u64, u64) {
        let count = self.counts.get(&namespace).copied().unwrap_or_default();
        (count.waiting, count.parked)
    }

    /// The namespace that is served after the one at `after`, or first.
    pub(crate) fn next(&self, kind: KindId, after: Option<Place>) -> Option<Place> {
        let order = &self.kinds.get(&kind)?.order;
        match after {
            None => order.first().copied(),
            Some(place) => order
                .range((Bound::Excluded(place), Bound::Unbounded))
                .next()
                .copied(),
        }
    }

    /// What a job is charged for of which nothing is known, in microseconds.
    pub(crate) fn unknown_us(&self, kind: KindId) -> u64 {
        let kind = self.kinds.get(&kind);
        let typical = kind.and_then(|kind| kind.service.expected_us());
        typical.unwrap_or(UNKNOWN_SERVICE_US)
    }

    /// A job has taken so long on a worker of this kind.
    pub(crate) fn record(&mut self, kind: KindId, service_us: u64) {
        if let Some(kind) = self.kinds.get_mut(&kind) {
            kind.service.record(service_us);
        }
    }

    /// A job is handed to a worker of this kind, and expected to take so long.
    pub(crate) fn serve(&mut self, kind: KindId, namespace: NamespaceId, us: u64) {
        let cost = charge(us, self.weight(namespace));
        if let Some(kind) = self.kinds.get_mut(&kind) {
            let refund = kind.refunds.remove(&namespace).unwrap_or(0);
            let pass = kind.pass(namespace);
            let begin = pass.max(kind.served.saturating_sub(refund));
            kind.served = kind.served.max(pass);
            kind.set_pass(namespace, begin + cost);
        }
    }

    /// What was charged `charged_us` turned out to take `cost_us`.
    pub(crate) fn settle(
        &mut self,
        kind: KindId,
        namespace: NamespaceId,
        charged_us: u64,
        cost_us: u64,
    ) {
        let weight = self.weight(namespace);
        if let Some(kind) = self.kinds.get_mut(&kind) {
            let (charged, cost) = (charge(charged_us, weight), charge(cost_us, weight));
            let pass = kind.pass(namespace) + cost;
            kind.set_pass(namespace, pass.saturating_sub(charged));
            if charged > cost {
                *kind.refunds.entry(namespace).or_default() += charged - cost;
            }
        }
    }

    /// Running jobs were charged for the time since the last such moment, as
    /// [`settle`](Self::settle) does. The virtual time follows whoever is served next, or, where
    /// nobody waits, whoever has come furthest: who comes now begins beside them.
    pub(crate) fn topped_up(&mut self) {
        for kind in self.kinds.values_mut() {
            let next = kind.order.first().map(|place| place.0);
            let furthest = || kind.passes.values().copied().max();
            let reached = next.or_else(furthest).unwrap_or(0);
            kind.served = kind.served.max(reached);
            let served = kind.served;
            kind.passes
                .retain(|namespace, pass| *pass > served || self.counts.contains_key(namespace));
            kind.refunds
                .retain(|namespace, _| self.counts.contains_key(namespace));
        }
    }

    /// Checks that namespaces are in the order of service exactly while they have waiting jobs.
    pub(crate) fn check(&self, waiting: &BTreeMap<NamespaceId, (usize, u64, u64)>) -> bool {
        let counts = self.counts.iter();
        let counts: BTreeMap<NamespaceId, (usize, u64, u64)> = counts
            .map(|(&id, count)| (id, (count.batches, count.waiting, count.parked)))
            .collect();
        counts == *waiting
            && self.kinds.values().all(|kind| {
                let ready = waiting.iter().filter(|(_, count)| count.1 > 0);
                let ready: BTreeSet<Place> = ready.map(|(&id, _)| (kind.pass(id), id)).collect();
                ready == kind.order
            })
    }
}
