//! A store in memory, for jobs that run in the submitting process and for coordinators whose work
//! may be lost with them.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use optwasm_protocol::message::{Order, ResultPage};
use optwasm_protocol::{BatchId, ContentId, JobId, Outcome, Payload, Report};

use crate::{BatchSummary, Commit, NewBatch, Record, Store, StoreError};

/// What a job is counted for beside its input: its places in the vectors below, and a small
/// report on the heap.
const JOB_OVERHEAD: u64 = 256;

/// A store in memory.
#[derive(Debug)]
pub struct MemoryStore(RefCell<State>);

#[derive(Debug)]
struct State {
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
    /// Indices in the order in which jobs ended.
    order: Vec<u32>,
    blobs: HashSet<ContentId>,
    bytes: u64,
}

#[derive(Debug)]
struct Blob {
    bytes: Bytes,
    /// Batches that refer to it.
    users: u32,
    touched: u64,
}

impl MemoryStore {
    /// A store that takes new work while it holds less than `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self(RefCell::new(State {
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
                cancelled: false,
                submitted_ms: new.submitted_ms,
                ended_ms: 0,
            },
            inputs: new.inputs,
            results,
            order: Vec::new(),
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
        summary.fuel = summary.fuel.saturating_add(report.fuel);
        let name = report.outcome.name();
        match summary.outcomes.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(summary.outcomes.insert(name.to_owned(), 1)),
        }
        batch.bytes += size;
        self.used += size;
        batch.order.push(index);
        *place = Some(report);
        if let Some(blob) = output {
            self.use_blob(id, blob);
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
                Order::Input => Some(page.cursor),
                Order::Completion => self.order.get(page.cursor as usize).copied(),
            };
            let result = index.and_then(|i| Some((i, self.results.get(i as usize)?.as_ref()?)));
            let Some((index, report)) = result else {
                break;
            };
            bytes += report.size();
            page.results.push((index, Report::clone(report)));
            page.cursor += 1;
        }
        page.last = page.cursor >= self.summary.jobs;
        page
    }
}

impl Store for MemoryStore {
    fn append(&self, records: Vec<Record>) -> Result<Commit, StoreError> {
        let mut state = self.0.borrow_mut();
        for record in records {
            match record {
                // Submissions come alone, so that a full store leaves nothing half done.
                Record::Submitted(new) => state.submit(*new)?,
                Record::Result(job, report) => state.result(job, report),
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
                Record::Removed(batch) => state.remove(batch),
            }
        }
        Ok(Commit::Done)
    }

    fn room(&self) -> u64 {
        let state = self.0.borrow();
        let unused = state.blobs.values().filter(|blob| blob.users == 0);
        let unused: u64 = unused.map(|blob| blob.bytes.len() as u64).sum();
        state.limit.saturating_sub(state.used - unused)
    }

    fn batches(&self) -> Vec<BatchId> {
        self.0.borrow().batches.keys().copied().collect()
    }

    fn batch(&self, batch: BatchId) -> Option<BatchSummary> {
        let state = self.0.borrow();
        state.batches.get(&batch).map(|batch| batch.summary.clone())
    }

    fn input(&self, JobId(batch, index): JobId) -> Option<Payload> {
        let state = self.0.borrow();
        state
            .batches
            .get(&batch)?
            .inputs
            .get(index as usize)
            .cloned()
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
        }))
    }

    fn ok(output: &'static [u8]) -> Box<Report> {
        Box::new(Report::not_run(Outcome::Ok(
            Bytes::from_static(output).into(),
        )))
    }

    fn append(store: &MemoryStore, record: Record) {
        assert!(matches!(store.append(vec![record]), Ok(Commit::Done)));
    }

    #[test]
    fn results_come_in_either_order_and_the_first_counts() {
        let store = MemoryStore::new(1 << 20);
        let batch = BatchId(1);
        append(&store, new_batch(1, &[b"a", b"b", b"c"]));
        append(&store, Record::Result(JobId(batch, 2), ok(b"C")));
        append(&store, Record::Result(JobId(batch, 0), ok(b"A")));
        append(&store, Record::Result(JobId(batch, 0), ok(b"other")));
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
        append(&store, Record::Result(JobId(batch, 1), ok(b"B")));
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
        append(&store, Record::Result(JobId(BatchId(1), 0), ok(&[7; 5000])));
        append(&store, Record::Removed(BatchId(1)));
        let used = store.0.borrow().used;
        assert!(used < 8000, "{used}");
        let wrong = store.put_blob(ContentId::of(b"x"), Bytes::from_static(b"y"));
        assert!(matches!(wrong.await, Err(StoreError::Hash(_))));
    }
}
