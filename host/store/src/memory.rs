//! A store in memory, for jobs that run in the submitting process and for coordinators whose work
//! may be lost with them.

mod state;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use bytes::Bytes;
use optwasm_protocol::message::{AttemptEnd, Order, ResultPage};
use optwasm_protocol::{BatchId, ContentId, JobId, Limits, Namespace, Payload, Report};

use state::{Batch, State};

use crate::{
    Account, BatchSummary, Commit, Committed, Health, Record, Restored, Store, StoreError, Witness,
};

/// A store in memory.
#[derive(Debug)]
pub struct MemoryStore(RefCell<State>);

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
            accounts: BTreeMap::new(),
            clock: 0,
        }))
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
                Record::Spent(batch, fuel, slot_us) => state.spend(batch, fuel, slot_us),
                Record::Quota(namespace, quota) => state.account(&namespace).quota = quota,
                Record::Witness(JobId(batch, index), witness) => {
                    state.spend(batch, witness.report.fuel, witness.report.wall_us);
                    state.count_history(batch, witness.size());
                    if let Some(batch) = state.batches.get_mut(&batch) {
                        batch.witnesses.entry(index).or_default().push(*witness);
                    }
                }
                Record::Attempt(JobId(batch, index), end) => {
                    state.count_history(batch, end.size());
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
        let unused = state.blobs.values().filter(|blob| !blob.is_used());
        let unused: u64 = unused.map(|blob| blob.bytes.len() as u64).sum();
        state.limit.saturating_sub(state.used - unused)
    }

    fn batches(&self, limit: usize) -> Vec<BatchId> {
        let state = self.0.borrow();
        let mut latest: Vec<BatchId> = state.batches.keys().rev().take(limit).copied().collect();
        latest.reverse();
        latest
    }

    fn batches_of(&self, namespace: &Namespace, limit: usize) -> Vec<BatchId> {
        let state = self.0.borrow();
        let batches = state.batches.iter().rev();
        let own = batches.filter(|(_, batch)| batch.summary.namespace == *namespace);
        let mut latest: Vec<BatchId> = own.map(|(id, _)| *id).take(limit).collect();
        latest.reverse();
        latest
    }

    fn batch_by_key(&self, namespace: &Namespace, key: &str) -> Option<(BatchId, [u8; 32])> {
        let state = self.0.borrow();
        let mut batches = state.batches.iter();
        let found = batches.find(|(_, batch)| {
            batch.summary.spec.id.as_deref() == Some(key) && batch.summary.namespace == *namespace
        });
        found.map(|(id, batch)| (*id, batch.digest))
    }

    fn accounts(&self) -> Vec<Account> {
        self.0.borrow().accounts.values().cloned().collect()
    }

    fn account(&self, namespace: &Namespace) -> Account {
        let found = self.0.borrow().accounts.get(namespace).cloned();
        found.unwrap_or_else(|| Account::new(namespace.clone()))
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

    async fn upload_blob(
        &self,
        namespace: &Namespace,
        id: ContentId,
        bytes: Bytes,
    ) -> Result<(), StoreError> {
        let mut state = self.0.borrow_mut();
        state.put_blob(id, bytes)?;
        if let Some(owner) = state.owner(namespace, id) {
            owner.uploaded = true;
        }
        Ok(())
    }

    fn owns_blob(&self, namespace: &Namespace, id: &ContentId) -> bool {
        let mut state = self.0.borrow_mut();
        state.clock += 1;
        let now = state.clock;
        let blob = state.blobs.get_mut(id);
        let Some(blob) = blob.filter(|blob| blob.owners.contains_key(namespace)) else {
            return false;
        };
        blob.touched = now;
        // It stays when the batch is removed that it belongs to.
        if let Some(owner) = blob.owners.get_mut(namespace) {
            owner.uploaded = true;
        }
        true
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

    fn hold_blob(&self, namespace: &Namespace, id: ContentId) -> bool {
        if !self.owns_blob(namespace, &id) {
            return false;
        }
        let mut state = self.0.borrow_mut();
        let owner = state.owner(namespace, id);
        owner.map(|owner| owner.users += 1).is_some()
    }

    async fn release_blob(&self, namespace: &Namespace, id: ContentId) -> Result<bool, StoreError> {
        let mut state = self.0.borrow_mut();
        state.leave_blob(namespace, id, true);
        let is_unused = state.blobs.get(&id).is_some_and(|b| b.owners.is_empty());
        if is_unused {
            state.drop_blob(&id);
        }
        Ok(is_unused)
    }
}

#[cfg(test)]
mod tests {
    use optwasm_protocol::message::BatchSpec;
    use optwasm_protocol::{Outcome, Template};

    use super::*;
    use crate::NewBatch;

    fn new_batch(number: u64, inputs: &[&[u8]]) -> Record {
        let template = Template::new(ContentId::of(b"module"));
        Record::Submitted(Box::new(NewBatch {
            batch: BatchId(number),
            namespace: Namespace::default(),
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
