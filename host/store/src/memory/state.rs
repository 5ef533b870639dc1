//! What a [`MemoryStore`](super::MemoryStore) holds: batches, blobs and who has them, accounts; and how
//! records change it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use bytes::Bytes;
use optwasm_protocol::message::{AttemptEnd, Order, ResultPage};
use optwasm_protocol::{BatchId, ContentId, JobId, Limits, Namespace, Outcome, Payload, Report};

use crate::{Account, BatchSummary, NewBatch, StoreError, Witness};

/// What a job is counted for beside its input: its places in the vectors below, and a small
/// report on the heap.
const JOB_OVERHEAD: u64 = 256;

#[derive(Debug)]
pub(super) struct State {
    pub(super) life: u64,
    pub(super) limit: u64,
    pub(super) used: u64,
    pub(super) batches: BTreeMap<BatchId, Batch>,
    pub(super) blobs: HashMap<ContentId, Blob>,
    pub(super) accounts: BTreeMap<Namespace, Account>,
    /// Counts uses of blobs, to find the one that has waited longest for a batch.
    pub(super) clock: u64,
}

#[derive(Debug)]
pub(super) struct Batch {
    pub(super) summary: BatchSummary,
    pub(super) inputs: Vec<Payload>,
    pub(super) results: Vec<Option<Box<Report>>>,
    /// Indices in the order in which jobs ended; a job that ran again is in it again.
    pub(super) order: Vec<u32>,
    pub(super) digest: [u8; 32],
    pub(super) limits: Vec<(Range<u32>, Limits)>,
    pub(super) attempts: BTreeMap<u32, Vec<AttemptEnd>>,
    pub(super) witnesses: BTreeMap<u32, Vec<Witness>>,
    pub(super) blobs: HashSet<ContentId>,
    pub(super) bytes: u64,
}

#[derive(Debug)]
pub(super) struct Blob {
    pub(super) bytes: Bytes,
    /// Those that have it: they have uploaded it, or their batches refer to it.
    pub(super) owners: BTreeMap<Namespace, Owner>,
    pub(super) touched: u64,
}

#[derive(Debug, Default)]
pub(super) struct Owner {
    /// Batches that refer to it, and how often it is held.
    pub(super) users: u32,
    pub(super) uploaded: bool,
}

impl Blob {
    pub(super) fn is_used(&self) -> bool {
        self.owners.values().any(|owner| owner.users > 0)
    }
}

impl State {
    /// Makes room for `bytes` by dropping blobs that no batch uses, longest unused first.
    pub(super) fn reserve(&mut self, bytes: u64) -> Result<(), StoreError> {
        while self.used.saturating_add(bytes) > self.limit {
            let unused = self.blobs.iter().filter(|(_, blob)| !blob.is_used());
            let Some((&id, _)) = unused.min_by_key(|(_, blob)| blob.touched) else {
                return Err(StoreError::Full {
                    used: self.used,
                    limit: self.limit,
                });
            };
            self.drop_blob(&id);
        }
        Ok(())
    }

    pub(super) fn drop_blob(&mut self, id: &ContentId) {
        if let Some(blob) = self.blobs.remove(id) {
            let bytes = blob.bytes.len() as u64;
            self.used -= bytes;
            for namespace in blob.owners.keys() {
                self.account(namespace).usage.bytes -= bytes;
            }
        }
    }

    pub(super) fn account(&mut self, namespace: &Namespace) -> &mut Account {
        let entry = self.accounts.entry(namespace.clone());
        entry.or_insert_with(|| Account::new(namespace.clone()))
    }

    /// How a namespace has a blob, from now on if it had not.
    pub(super) fn owner(&mut self, namespace: &Namespace, id: ContentId) -> Option<&mut Owner> {
        let blob = self.blobs.get_mut(&id)?;
        let bytes = blob.bytes.len() as u64;
        if !blob.owners.contains_key(namespace) {
            blob.owners.insert(namespace.clone(), Owner::default());
            self.account(namespace).usage.bytes += bytes;
        }
        self.blobs.get_mut(&id)?.owners.get_mut(namespace)
    }

    /// A namespace uses a blob once less; whether it does not have it any more.
    pub(super) fn leave_blob(&mut self, namespace: &Namespace, id: ContentId, held: bool) -> bool {
        let Some(blob) = self.blobs.get_mut(&id) else {
            return false;
        };
        let Some(owner) = blob.owners.get_mut(namespace).filter(|o| o.users > 0) else {
            return false;
        };
        owner.users -= 1;
        // What was held has been given up with that.
        owner.uploaded &= !(held && owner.users == 0);
        if owner.users > 0 || owner.uploaded {
            return false;
        }
        blob.owners.remove(namespace);
        let bytes = blob.bytes.len() as u64;
        self.account(namespace).usage.bytes -= bytes;
        true
    }

    pub(super) fn use_blob(&mut self, batch: BatchId, id: ContentId) {
        let Some(batch) = self.batches.get_mut(&batch) else {
            return;
        };
        if batch.blobs.insert(id) {
            let namespace = batch.summary.namespace.clone();
            if let Some(owner) = self.owner(&namespace, id) {
                owner.users += 1;
            }
        }
    }

    pub(super) fn submit(&mut self, new: NewBatch) -> Result<(), StoreError> {
        let inline = |payload: &Payload| match payload {
            Payload::Inline(bytes) => bytes.len() as u64,
            Payload::Blob(..) => 0,
        };
        let bytes = new.inputs.iter().map(|i| inline(i) + JOB_OVERHEAD).sum();
        self.reserve(bytes)?;
        self.used += bytes;
        self.account(&new.namespace).usage.bytes += bytes;
        let template = &new.spec.template;
        let mut blobs = vec![template.module];
        blobs.extend(template.blobs.iter().map(|(_, id)| *id));
        blobs.extend(new.inputs.iter().filter_map(|input| match input {
            Payload::Blob(_, id) => Some(*id),
            Payload::Inline(_) => None,
        }));
        let jobs = new.inputs.len() as u32;
        let mut results = Vec::new();
        results.resize_with(new.inputs.len(), || None);
        let batch = Batch {
            summary: BatchSummary {
                namespace: new.namespace,
                spec: new.spec,
                jobs,
                done: 0,
                outcomes: BTreeMap::new(),
                fuel: 0,
                memo: 0,
                confirmed: 0,
                contradicted: 0,
                cancelled: false,
                submitted_ms: new.submitted_ms,
                ended_ms: 0,
            },
            inputs: new.inputs,
            results,
            order: Vec::new(),
            digest: new.digest,
            limits: Vec::new(),
            attempts: BTreeMap::new(),
            witnesses: BTreeMap::new(),
            blobs: HashSet::new(),
            bytes,
        };
        self.batches.insert(new.batch, batch);
        for id in blobs {
            self.use_blob(new.batch, id);
        }
        Ok(())
    }

    pub(super) fn result(&mut self, JobId(id, index): JobId, report: Box<Report>) {
        let Some(batch) = self.batches.get_mut(&id) else {
            return;
        };
        let Some(place @ None) = batch.results.get_mut(index as usize) else {
            return;
        };
        let mut output = None;
        let size = report.size() as u64;
        if let Outcome::Ok(Payload::Blob(_, blob)) = &report.outcome {
            output = Some(*blob);
        }
        let summary = &mut batch.summary;
        summary.done += 1;
        if report.memo {
            summary.memo += 1;
        } else {
            summary.fuel = summary.fuel.saturating_add(report.fuel);
        }
        let name = report.outcome.name();
        match summary.outcomes.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(summary.outcomes.insert(name.to_owned(), 1)),
        }
        let witnesses = batch.witnesses.remove(&index).unwrap_or_default();
        let confirming: u64 = witnesses.iter().map(Witness::size).sum();
        let size = size as i64 - confirming as i64;
        batch.bytes = batch.bytes.saturating_add_signed(size);
        self.used = self.used.saturating_add_signed(size);
        batch.order.push(index);
        let namespace = batch.summary.namespace.clone();
        let account = self
            .accounts
            .entry(namespace)
            .or_insert_with_key(|namespace| Account::new(namespace.clone()));
        account.count(&report);
        account.usage.bytes = account.usage.bytes.saturating_add_signed(size);
        *place = Some(report);
        if let Some(blob) = output {
            self.use_blob(id, blob);
        }
    }

    pub(super) fn reopen(&mut self, id: BatchId, jobs: Vec<Range<u32>>, limits: Option<Limits>) {
        let Some(batch) = self.batches.get_mut(&id) else {
            return;
        };
        batch.summary.cancelled = false;
        batch.summary.ended_ms = 0;
        let mut dropped = 0;
        for range in jobs {
            for index in range.clone() {
                let place = batch.results.get_mut(index as usize);
                let Some(report) = place.and_then(Option::take) else {
                    continue;
                };
                let summary = &mut batch.summary;
                summary.done -= 1;
                if report.memo {
                    summary.memo -= 1;
                } else {
                    summary.fuel = summary.fuel.saturating_sub(report.fuel);
                }
                let name = report.outcome.name();
                if let Some(count) = summary.outcomes.get_mut(name) {
                    *count -= 1;
                    if *count == 0 {
                        summary.outcomes.remove(name);
                    }
                }
                batch.bytes -= report.size() as u64;
                self.used -= report.size() as u64;
                dropped += report.size() as u64;
            }
            if let Some(limits) = limits {
                batch.limits.push((range, limits));
            }
        }
        let namespace = batch.summary.namespace.clone();
        self.account(&namespace).usage.bytes -= dropped;
    }

    /// Counts what is kept of a job beside its result.
    pub(super) fn count_history(&mut self, id: BatchId, more: u64) {
        if let Some(batch) = self.batches.get_mut(&id) {
            batch.bytes += more;
            self.used += more;
            let namespace = batch.summary.namespace.clone();
            self.account(&namespace).usage.bytes += more;
        }
    }

    /// Bills a batch's namespace for an attempt.
    pub(super) fn spend(&mut self, batch: BatchId, fuel: u64, slot_us: u64) {
        if let Some(batch) = self.batches.get(&batch) {
            let namespace = batch.summary.namespace.clone();
            self.account(&namespace).usage.bill(fuel, slot_us);
        }
    }

    pub(super) fn remove(&mut self, id: BatchId) {
        let Some(batch) = self.batches.remove(&id) else {
            return;
        };
        self.used -= batch.bytes;
        let namespace = batch.summary.namespace;
        self.account(&namespace).usage.bytes -= batch.bytes;
        for id in batch.blobs {
            self.leave_blob(&namespace, id, false);
        }
    }

    pub(super) fn put_blob(&mut self, id: ContentId, bytes: Bytes) -> Result<(), StoreError> {
        self.clock += 1;
        if let Some(blob) = self.blobs.get_mut(&id) {
            blob.touched = self.clock;
            return Ok(());
        }
        if ContentId::of(&bytes) != id {
            return Err(StoreError::Hash(id));
        }
        self.reserve(bytes.len() as u64)?;
        self.used += bytes.len() as u64;
        // A result may name a blob before it arrives.
        let users = self.batches.values().filter(|b| b.blobs.contains(&id));
        let users: Vec<Namespace> = users.map(|b| b.summary.namespace.clone()).collect();
        let blob = Blob {
            bytes,
            owners: BTreeMap::new(),
            touched: self.clock,
        };
        self.blobs.insert(id, blob);
        for namespace in users {
            if let Some(owner) = self.owner(&namespace, id) {
                owner.users += 1;
            }
        }
        Ok(())
    }
}

impl Batch {
    pub(super) fn results(&self, order: Order, cursor: u32, max_bytes: usize) -> ResultPage {
        let mut page = ResultPage {
            cursor,
            ..ResultPage::default()
        };
        let mut bytes = 0;
        while bytes < max_bytes {
            let index = match order {
                Order::Input => page.cursor,
                Order::Completion => match self.order.get(page.cursor as usize) {
                    Some(index) => *index,
                    None => break,
                },
            };
            let report = self.results.get(index as usize).and_then(Option::as_ref);
            let comes_again = || {
                let later = self.order.get(page.cursor as usize + 1..);
                self.reopened() && later.is_some_and(|later| later.contains(&index))
            };
            match (order, report) {
                (Order::Completion, _) if comes_again() => {}
                (_, Some(report)) => {
                    bytes += report.size();
                    page.results.push((index, Report::clone(report)));
                }
                (Order::Completion, None) => {}
                (Order::Input, None) => break,
            }
            page.cursor += 1;
        }
        page.last = self.summary.done == self.summary.jobs
            && match order {
                Order::Input => page.cursor >= self.summary.jobs,
                Order::Completion => page.cursor as usize >= self.order.len(),
            };
        page
    }

    /// Whether a job has ended more than once.
    pub(super) fn reopened(&self) -> bool {
        self.order.len() > self.summary.done as usize
    }
}
