//! A store in memory, for jobs that run in the submitting process and for coordinators whose work
//! may be lost with them.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;
use std::ops::Range;

use optwasm_protocol::message::{AttemptEnd, Order, ResultPage};
use optwasm_protocol::{BatchId, ContentId, JobId, Limits, Outcome, Payload, Report};

use crate::{
    BatchSummary, Commit, Committed, Health, NewBatch, Record, Restored, Store, StoreError, Witness,
};

/// What a job is counted for beside its input: its places in the vectors below, and a small
/// report on the heap.
const JOB_OVERHEAD: u64 = 256;

/// A store in memory.
#[derive(Debug)]
pub struct MemoryStore(RefCell<State>);

#[derive(Debug)]
struct State {
    life: u64,
    limit: u64,
    used: u64,
    batches: BTreeMap<BatchId, Batch>,
    blobs: HashMap<ContentId, Blob>,
    /// Counts uses of blobs, to find the one that has waited longest for a batch.
    clock: u64,
}

#[derive(Debug)]
struct Batch {
    summary: BatchSummary,
    inputs: Vec<Payload>,
    results: Vec<Option<Box<Report>>>,
    /// Indices in the order in which jobs ended; a job that ran again is in it again.
    order: Vec<u32>,
    digest: [u8; 32],
    limits: Vec<(Range<u32>, Limits)>,
    attempts: BTreeMap<u32, Vec<AttemptEnd>>,
    witnesses: BTreeMap<u32, Vec<Witness>>,
    blobs: HashSet<ContentId>,
    bytes: u64,
}

#[derive(Debug)]
struct Blob {
    bytes: Bytes,
    /// Batches that refer to it, and how often it is held.
    users: u32,
    touched: u64,
}

impl MemoryStore {
    /// A store that takes new work while it holds less than `limit` bytes.
    pub fn new(limit: u64) -> Self {
        let random = RandomState::new();
        Self(RefCell::new(State {
            life: random.hash_one(limit),
            limit,
            used: 0,
            batches: BTreeMap::new(),
            blobs: HashMap::new(),
            clock: 0,
        }))
    }
}

impl State {
    /// Makes room for `bytes` by dropping blobs that no batch uses, longest unused first.
    fn reserve(&mut self, bytes: u64) -> Result<(), StoreError> {
        while self.used.saturating_add(bytes) > self.limit {
            let unused = self.blobs.iter().filter(|(_, blob)| blob.users == 0);
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

    fn drop_blob(&mut self, id: &ContentId) {
        if let Some(blob) = self.blobs.remove(id) {
            self.used -= blob.bytes.len() as u64;
        }
    }

    fn use_blob(&mut self, batch: BatchId, id: ContentId) {
        let Some(batch) = self.batches.get_mut(&batch) else {
            return;
        };
        if batch.blobs.insert(id)
            && let Some(blob) = self.blobs.get_mut(&id)
        {
            blob.users += 1;
        }
    }

    fn submit(&mut self, new: NewBatch) -> Result<(), StoreError> {
        let inline = |payload: &Payload| match payload {
            Payload::Inline(bytes) => bytes.len() as u64,
            Payload::Blob(..) => 0,
        };
        let bytes = new.inputs.iter().map(|i| inline(i) + JOB_OVERHEAD).sum();
        self.reserve(bytes)?;
        self.used += bytes;
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

    fn result(&mut self, JobId(id, index): JobId, report: Box<Report>) {
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
        batch.bytes += size;
        self.used += size;
        batch.order.push(index);
        *place = Some(report);
        batch.witnesses.remove(&index);
        if let Some(blob) = output {
            self.use_blob(id, blob);
        }
    }

    fn reopen(&mut self, id: BatchId, jobs: Vec<Range<u32>>, limits: Option<Limits>) {
        let Some(batch) = self.batches.get_mut(&id) else {
            return;
        };
        batch.summary.cancelled = false;
        batch.summary.ended_ms = 0;
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
            }
            if let Some(limits) = limits {
                batch.limits.push((range, limits));
            }
        }
    }

    fn remove(&mut self, id: BatchId) {
        let Some(batch) = self.batches.remove(&id) else {
            return;
        };
        self.used -= batch.bytes;
        for id in batch.blobs {
            if let Some(blob) = self.blobs.get_mut(&id) {
                blob.users -= 1;
            }
        }
    }

    fn put_blob(&mut self, id: ContentId, bytes: Bytes) -> Result<(), StoreError> {
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
        let blob = Blob {
            bytes,
            users: users.count() as u32,
            touched: self.clock,
        };
        self.blobs.insert(id, blob);
        Ok(())
    }
}

impl Batch {
    fn results(&self, order: Order, cursor: u32, max_bytes: usize) -> ResultPage {
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
    fn reopened(&self) -> bool {
        self.order.len() > self.summary.done as usize
    }
}

impl Store for MemoryStore {
    fn append(&self, records: Vec<Record>) -> Result<Commit, StoreError> {
        let mut state = self.0.borrow_mut();
        for record in records {
            match record {
                // Submissions come alone, so that a full store leaves nothing half done.
                Record::Submitted(new) => state.submit(*new)?,
                Record::Result(job, report, _) => state.result(job, report),
                Record::Cancelled(batch) => {
                    if let Some(batch) = state.batches.get_mut(&batch) {
                        batch.summary.cancelled = true;
                    }
                }
                Record::Ended(batch, time) => {
                    if let Some(batch) = state.batches.get_mut(&batch) {
                        batch.summary.ended_ms = time;
                    }
                }
                Record::Reopened(batch, jobs, limits) => state.reopen(batch, jobs, limits),
                Record::Witness(JobId(batch, index), witness) => {
                    if let Some(batch) = state.batches.get_mut(&batch) {
                        batch.witnesses.entry(index).or_default().push(*witness);
                    }
                }
                Record::Attempt(JobId(batch, index), end) => {
                    if let Some(batch) = state.batches.get_mut(&batch) {
                        batch.attempts.entry(index).or_default().push(end);
                    }
                }
                Record::Compared(batch, same) => {
                    if let Some(batch) = state.batches.get_mut(&batch) {
                        match same {
                            true => batch.summary.confirmed += 1,
                            false => batch.summary.contradicted += 1,
                        }
                    }
                }
                Record::Removed(batch) => state.remove(batch),
                // Whoever holds something ends with this process, or finds another one.
                Record::Worker(..) | Record::Holds(..) | Record::WorkerGone(_) => {}
            }
        }
        Ok(Commit::Done(Committed::default()))
    }

    fn is_durable(&self) -> bool {
        false
    }

    fn restore(&self) -> Result<Restored, StoreError> {
        Ok(Restored {
            life: self.0.borrow().life,
            next_batch: 1,
            next_worker: 1,
            ..Restored::default()
        })
    }

    fn health(&self) -> Health {
        Health {
            used: self.0.borrow().used,
            room: self.room(),
            refusing: None,
            description: "memory".to_owned(),
        }
    }

    fn room(&self) -> u64 {
        let state = self.0.borrow();
        let unused = state.blobs.values().filter(|blob| blob.users == 0);
        let unused: u64 = unused.map(|blob| blob.bytes.len() as u64).sum();
        state.limit.saturating_sub(state.used - unused)
    }

    fn batches(&self, limit: usize) -> Vec<BatchId> {
        let state = self.0.borrow();
        let mut latest: Vec<BatchId> = state.batches.keys().rev().take(limit).copied().collect();
        latest.reverse();
        latest
    }

    fn batch_by_key(&self, key: &str) -> Option<(BatchId, [u8; 32])> {
        let state = self.0.borrow();
        let mut batches = state.batches.iter();
        let found = batches.find(|(_, batch)| batch.summary.spec.id.as_deref() == Some(key));
        found.map(|(id, batch)| (*id, batch.digest))
    }

    fn ended_before(&self, ms: u64, limit: usize) -> Vec<BatchId> {
        let state = self.0.borrow();
        let ended = |batch: &Batch| (1..ms).contains(&batch.summary.ended_ms);
        let batches = state.batches.iter().filter(|(_, batch)| ended(batch));
        batches.map(|(id, _)| *id).take(limit).collect()
    }

    fn batch(&self, batch: BatchId) -> Option<BatchSummary> {
        let state = self.0.borrow();
        state.batches.get(&batch).map(|batch| batch.summary.clone())
    }

    fn input(&self, JobId(batch, index): JobId) -> Result<Option<Payload>, StoreError> {
        let state = self.0.borrow();
        let batch = state.batches.get(&batch);
        Ok(batch.and_then(|batch| batch.inputs.get(index as usize).cloned()))
    }

    fn limits(&self, JobId(batch, index): JobId) -> Option<Limits> {
        let state = self.0.borrow();
        let mut latest = state.batches.get(&batch)?.limits.iter().rev();
        latest
            .find(|(range, _)| range.contains(&index))
            .map(|(_, limits)| *limits)
    }

    fn memory(&self, batch: BatchId) -> u64 {
        let state = self.0.borrow();
        let Some(batch) = state.batches.get(&batch) else {
            return 0;
        };
        let changed = batch.limits.iter().map(|(_, limits)| limits.memory);
        let template = batch.summary.spec.template.limits.memory;
        changed.fold(template, u64::max)
    }

    fn result(&self, JobId(batch, index): JobId) -> Option<Report> {
        let state = self.0.borrow();
        let report = state.batches.get(&batch)?.results.get(index as usize)?;
        report.as_deref().cloned()
    }

    fn attempts(&self, JobId(batch, index): JobId) -> Vec<AttemptEnd> {
        let state = self.0.borrow();
        let batch = state.batches.get(&batch);
        batch
            .and_then(|batch| batch.attempts.get(&index).cloned())
            .unwrap_or_default()
    }

    fn witnesses(&self, JobId(batch, index): JobId) -> Vec<Witness> {
        let state = self.0.borrow();
        let batch = state.batches.get(&batch);
        batch
            .and_then(|batch| batch.witnesses.get(&index).cloned())
            .unwrap_or_default()
    }

    fn ended_jobs(&self, batch: BatchId, outcomes: Option<&[String]>) -> Vec<Range<u32>> {
        let state = self.0.borrow();
        let mut ranges: Vec<Range<u32>> = Vec::new();
        let results = state.batches.get(&batch).into_iter();
        let results = results.flat_map(|batch| batch.results.iter().zip(0u32..));
        for (report, index) in results {
            let Some(report) = report else { continue };
            let name = report.outcome.name();
            if outcomes.is_some_and(|names| names.iter().all(|wanted| wanted != name)) {
                continue;
            }
            match ranges.last_mut() {
                Some(last) if last.end == index => last.end += 1,
                _ => ranges.push(index..index + 1),
            }
        }
        ranges
    }

    fn results(
        &self,
        batch: BatchId,
        order: Order,
        cursor: u32,
        max_bytes: usize,
    ) -> Option<ResultPage> {
        let state = self.0.borrow();
        Some(state.batches.get(&batch)?.results(order, cursor, max_bytes))
    }

    async fn put_blob(&self, id: ContentId, bytes: Bytes) -> Result<(), StoreError> {
        self.0.borrow_mut().put_blob(id, bytes)
    }

    async fn get_blob(&self, id: ContentId) -> Result<Option<Bytes>, StoreError> {
        let state = self.0.borrow();
        Ok(state.blobs.get(&id).map(|blob| blob.bytes.clone()))
    }

    fn has_blob(&self, id: &ContentId) -> bool {
        let mut state = self.0.borrow_mut();
        state.clock += 1;
        let now = state.clock;
        let blob = state.blobs.get_mut(id);
        blob.map(|blob| blob.touched = now).is_some()
    }

    /// Room is made when it is needed.
    async fn collect(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn hold_blob(&self, id: ContentId) -> bool {
        let mut state = self.0.borrow_mut();
        let blob = state.blobs.get_mut(&id);
        blob.map(|blob| blob.users += 1).is_some()
    }

    async fn release_blob(&self, id: ContentId) -> Result<bool, StoreError> {
        let mut state = self.0.borrow_mut();
        let Some(blob) = state.blobs.get_mut(&id).filter(|blob| blob.users > 0) else {
            return Ok(false);
        };
        blob.users -= 1;
        let is_unused = blob.users == 0;
        if is_unused {
            state.drop_blob(&id);
        }
        Ok(is_unused)
    }
}

#[cfg(test)]
mod tests {
    use optwasm_protocol::Template;
    use optwasm_protocol::message::BatchSpec;

    use super::*;

    fn new_batch(number: u64, inputs: &[&[u8]]) -> Record {
        let template = Template::new(ContentId::of(b"module"));
        Record::Submitted(Box::new(NewBatch {
            batch: BatchId(number),
            spec: BatchSpec::new(template),
            inputs: inputs.iter().map(|i| i.to_vec().into()).collect(),
            submitted_ms: 0,
            digest: [0; 32],
            engine: String::new(),
        }))
    }

    fn ok(output: &'static [u8]) -> Box<Report> {
        Box::new(Report::not_run(Outcome::Ok(
            Bytes::from_static(output).into(),
        )))
    }

    fn append(store: &MemoryStore, record: Record) {
        assert!(matches!(store.append(vec![record]), Ok(Commit::Done(_))));
    }

    #[test]
    fn results_come_in_either_order_and_the_first_counts() {
        let store = MemoryStore::new(1 << 20);
        let batch = BatchId(1);
        append(&store, new_batch(1, &[b"a", b"b", b"c"]));
        append(
            &store,
            Record::Result(JobId(batch, 2), ok(b"C"), String::new()),
        );
        append(
            &store,
            Record::Result(JobId(batch, 0), ok(b"A"), String::new()),
        );
        append(
            &store,
            Record::Result(JobId(batch, 0), ok(b"other"), String::new()),
        );
        let indices = |order, cursor| {
            let page = store.results(batch, order, cursor, 1 << 20).unwrap();
            let indices: Vec<u32> = page.results.iter().map(|(index, _)| *index).collect();
            (indices, page.cursor, page.last)
        };
        assert_eq!(indices(Order::Input, 0), (vec![0], 1, false));
        assert_eq!(indices(Order::Completion, 0), (vec![2, 0], 2, false));
        assert_eq!(store.batch(batch).unwrap().done, 2);
        let page = store.results(batch, Order::Input, 0, 1).unwrap();
        assert_eq!(page.results[0].1, *ok(b"A"));
        append(
            &store,
            Record::Result(JobId(batch, 1), ok(b"B"), String::new()),
        );
        assert!(store.results(batch, Order::Input, 1, 1 << 20).unwrap().last);
        assert!(store.results(BatchId(9), Order::Input, 0, 1).is_none());
    }

    #[tokio::test]
    async fn a_full_store_refuses_new_work_and_drops_unused_blobs_only() {
        let store = MemoryStore::new(10_000);
        let module = ContentId::of(b"module");
        store
            .put_blob(module, Bytes::from_static(b"module"))
            .await
            .unwrap();
        append(&store, new_batch(1, &[b"a"]));
        let large = Bytes::from(vec![1; 6000]);
        store
            .put_blob(ContentId::of(&large), large.clone())
            .await
            .unwrap();
        let larger = Bytes::from(vec![2; 7000]);
        store
            .put_blob(ContentId::of(&larger), larger.clone())
            .await
            .unwrap();
        assert!(!store.has_blob(&ContentId::of(&large)));
        assert!(store.has_blob(&module));
        let big = vec![0; 9_900];
        let refused = store.append(vec![new_batch(2, &[&big])]);
        assert!(matches!(refused, Err(StoreError::Full { .. })));
        // Results find room in a full store.
        append(
            &store,
            Record::Result(JobId(BatchId(1), 0), ok(&[7; 5000]), String::new()),
        );
        append(&store, Record::Removed(BatchId(1)));
        let used = store.0.borrow().used;
        assert!(used < 8000, "{used}");
        let wrong = store.put_blob(ContentId::of(b"x"), Bytes::from_static(b"y"));
        assert!(matches!(wrong.await, Err(StoreError::Hash(_))));
    }
}
