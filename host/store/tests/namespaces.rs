//! Namespaces in both stores: whose batches, keys, answers and blobs are whose, and what each has used.

// A failed unwrap is a failed test, and a list of one range is meant.
#![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]

mod common;

use bytes::Bytes;
use common::{append, job, ok, open, result, spec, wait};
use optwasm_protocol::message::{AttemptEnd, BatchSpec, Ending};
use optwasm_protocol::{BatchId, ContentId, Namespace, Payload, Quota, Report, WorkerId};
use optwasm_store::{Commit, Committed, MemoryStore, NewBatch, Record, Store, Witness};
use tempfile::TempDir;

const ENGINE: &str = "engine/probe";

fn name(text: &str) -> Namespace {
    text.parse().unwrap()
}

fn submit(number: u64, of: &Namespace, spec: BatchSpec, inputs: Vec<Payload>) -> Record {
    Record::Submitted(Box::new(NewBatch {
        batch: BatchId(number),
        namespace: of.clone(),
        spec,
        inputs,
        submitted_ms: number,
        digest: [number as u8; 32],
        engine: ENGINE.to_owned(),
    }))
}

fn small(text: &'static str) -> Vec<Payload> {
    vec![Payload::Inline(Bytes::from_static(text.as_bytes()))]
}

fn commit(store: &impl Store, records: Vec<Record>) -> Committed {
    match store.append(records).unwrap() {
        Commit::Done(committed) => committed,
        pending => wait(pending.wait()).unwrap(),
    }
}

fn both(test: impl Fn(&dyn Fn(Vec<Record>) -> Committed, &dyn Reads)) {
    let dir = TempDir::new().unwrap();
    let disk = open(dir.path());
    test(&|records| commit(&disk, records), &disk);
    let memory = MemoryStore::new(1 << 30);
    test(&|records| commit(&memory, records), &memory);
}

/// What the tests ask of a store.
trait Reads {
    fn own(&self, of: &Namespace) -> Vec<BatchId>;
    fn key(&self, of: &Namespace, key: &str) -> Option<BatchId>;
    fn usage(&self, of: &Namespace) -> optwasm_protocol::Usage;
    fn upload(&self, of: &Namespace, bytes: &'static [u8]) -> ContentId;
    fn owns(&self, of: &Namespace, id: &ContentId) -> bool;
    fn hold(&self, of: &Namespace, id: ContentId) -> bool;
    fn release(&self, of: &Namespace, id: ContentId) -> bool;
    fn is_there(&self, id: &ContentId) -> bool;
}

impl<S: Store> Reads for S {
    fn own(&self, of: &Namespace) -> Vec<BatchId> {
        self.batches_of(of, 100)
    }

    fn key(&self, of: &Namespace, key: &str) -> Option<BatchId> {
        self.batch_by_key(of, key).map(|(batch, _)| batch)
    }

    fn usage(&self, of: &Namespace) -> optwasm_protocol::Usage {
        self.account(of).usage
    }

    fn upload(&self, of: &Namespace, bytes: &'static [u8]) -> ContentId {
        let id = ContentId::of(bytes);
        wait(self.upload_blob(of, id, Bytes::from_static(bytes))).unwrap();
        id
    }

    fn owns(&self, of: &Namespace, id: &ContentId) -> bool {
        self.owns_blob(of, id)
    }

    fn hold(&self, of: &Namespace, id: ContentId) -> bool {
        self.hold_blob(of, id)
    }

    fn release(&self, of: &Namespace, id: ContentId) -> bool {
        wait(self.release_blob(of, id)).unwrap()
    }

    fn is_there(&self, id: &ContentId) -> bool {
        self.has_blob(id)
    }
}

#[test]
fn batches_and_keys_are_each_ones_own() {
    let (a, b) = (name("a"), name("b"));
    both(|append, store| {
        let mut keyed = spec();
        keyed.id = Some("key".to_owned());
        append(vec![submit(1, &a, keyed.clone(), small("x"))]);
        append(vec![submit(2, &b, keyed, small("x"))]);
        append(vec![submit(3, &a, spec(), small("y"))]);
        assert_eq!(store.own(&a), [BatchId(1), BatchId(3)]);
        assert_eq!(store.own(&b), [BatchId(2)]);
        assert_eq!(store.own(&Namespace::default()), []);
        assert_eq!(store.key(&a, "key"), Some(BatchId(1)));
        assert_eq!(store.key(&b, "key"), Some(BatchId(2)));
        assert_eq!(store.key(&Namespace::default(), "key"), None);
        assert_eq!(store.usage(&b).ok, 0);
    });
}

#[test]
fn results_from_memory_do_not_cross() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let (a, b) = (name("a"), name("b"));
    append(&store, vec![submit(1, &a, spec(), small("x"))]).unwrap();
    append(&store, vec![result(job(1, 0), ok(b"answer"), ENGINE)]).unwrap();
    let other = append(&store, vec![submit(2, &b, spec(), small("x"))]).unwrap();
    assert_eq!(other, Committed::default());
    let none = append(
        &store,
        vec![submit(3, &Namespace::default(), spec(), small("x"))],
    );
    assert_eq!(none.unwrap(), Committed::default());
    let own = append(&store, vec![submit(4, &a, spec(), small("x"))]).unwrap();
    assert_eq!(own.answered, [0..1]);
    // Nor does one wait for another's.
    let waits = append(&store, vec![submit(5, &b, spec(), small("x"))]).unwrap();
    assert_eq!(waits.parked, [0..1]);
    let ended = append(&store, vec![result(job(3, 0), ok(b"answer"), ENGINE)]).unwrap();
    assert_eq!(ended, Committed::default());
    let usage = store.account(&a).usage;
    assert_eq!((usage.ok, usage.memo, usage.fuel), (2, 1, 100));
}

#[test]
fn every_attempt_is_billed_once_and_its_results_bytes_until_they_are_removed() {
    let a = name("a");
    both(|append, store| {
        let report = Report {
            fuel: 10,
            wall_us: 3,
            ..ok(b"result")
        };
        append(vec![submit(1, &a, spec(), small("x"))]);
        let submitted = store.usage(&a).bytes;
        assert!(submitted > 0);
        let result = || Record::Result(job(1, 0), Box::new(report.clone()), ENGINE.to_owned());
        append(vec![result()]);
        append(vec![result()]);
        let usage = store.usage(&a);
        assert_eq!((usage.ok, usage.fuel, usage.slot_us), (1, 10, 3));
        let kept = usage.bytes;
        assert!(kept > submitted);
        append(vec![Record::Reopened(BatchId(1), vec![0..1], None)]);
        assert_eq!(store.usage(&a).bytes, submitted);
        append(vec![result(), Record::Spent(BatchId(1), 100, 30)]);
        let witness = Witness {
            worker: WorkerId(1),
            report: report.clone(),
        };
        append(vec![submit(2, &a, spec(), small("y"))]);
        append(vec![Record::Witness(job(2, 0), Box::new(witness))]);
        let usage = store.usage(&a);
        assert_eq!((usage.ok, usage.fuel, usage.slot_us), (2, 130, 39));
        let end = AttemptEnd {
            attempt: 1,
            worker: WorkerId(1),
            worker_name: String::new(),
            ended_ms: 1,
            ending: Ending::Witness,
        };
        append(vec![Record::Attempt(job(2, 0), end)]);
        append(vec![
            Record::Removed(BatchId(1)),
            Record::Removed(BatchId(2)),
        ]);
        let usage = store.usage(&a);
        assert_eq!((usage.fuel, usage.bytes), (130, 0));
    });
}

#[test]
fn a_blob_is_of_those_who_have_uploaded_it_or_whose_batches_name_it() {
    let (a, b) = (name("a"), name("b"));
    both(|append, store| {
        let blob = store.upload(&a, b"a blob of ours");
        assert!(store.is_there(&blob));
        assert!(store.owns(&a, &blob));
        assert!(!store.owns(&b, &blob) && !store.hold(&b, blob));
        assert_eq!((store.usage(&a).bytes, store.usage(&b).bytes), (14, 0));
        store.upload(&a, b"a blob of ours");
        store.upload(&b, b"a blob of ours");
        assert_eq!((store.usage(&a).bytes, store.usage(&b).bytes), (14, 14));
        // What one gives up, the other still has.
        assert!(store.hold(&b, blob));
        assert!(!store.release(&b, blob));
        assert!(!store.owns(&b, &blob) && store.owns(&a, &blob));
        assert_eq!((store.usage(&a).bytes, store.usage(&b).bytes), (14, 0));
        // One that is named by a batch stays with it.
        let input = vec![Payload::Blob(14, blob)];
        append(vec![submit(1, &a, spec(), input)]);
        let with_batch = store.usage(&a).bytes;
        assert!(store.hold(&a, blob));
        assert!(!store.release(&a, blob));
        assert!(store.owns(&a, &blob));
        assert_eq!(store.usage(&a).bytes, with_batch);
    });
}

#[test]
fn accounts_and_quotas_outlive_the_process() {
    let dir = TempDir::new().unwrap();
    let a = name("a");
    let quota = Quota {
        weight: 7,
        max_fuel: Some(1000),
        ..Quota::default()
    };
    let store = open(dir.path());
    // What all batches here run.
    store.upload(&a, b"module");
    append(&store, vec![submit(1, &a, spec(), small("x"))]).unwrap();
    append(&store, vec![Record::Quota(a.clone(), quota)]).unwrap();
    append(&store, vec![result(job(1, 0), ok(b"answer"), ENGINE)]).unwrap();
    let before = store.account(&a);
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.account(&a), before);
    assert_eq!(before.quota, quota);
    assert_eq!((before.usage.ok, before.usage.fuel), (1, 100));
    let names: Vec<String> = store
        .accounts()
        .iter()
        .map(|a| a.namespace.to_string())
        .collect();
    assert!(names.contains(&"a".to_owned()), "{names:?}");
    assert_eq!(store.batch(BatchId(1)).unwrap().namespace, a);
    let unended = append(&store, vec![submit(2, &a, spec(), small("z"))]);
    unended.unwrap();
    drop(store);
    let restored = open(dir.path()).restore().unwrap();
    assert_eq!(restored.batches[1].namespace, a);
    let report = optwasm_store::sqlite::check(dir.path(), false).unwrap();
    assert!(report.damage.is_empty(), "{report:?}");
}
