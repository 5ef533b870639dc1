//! Stores that released versions have written are read, and those of newer versions refused.
//!
//! `fixtures/v1` is what [`write`] wrote with the first release. With `OPTWASM_WRITE_FIXTURE=FOLDER`
//! the test leaves there what it writes today: the fixture of the next format.

// A failed unwrap is a failed test, and a list of one range is meant.
#![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]

mod common;

use std::fs;
use std::path::Path;

use bytes::Bytes;
use common::{append, batch, job, new_batch, ok, open, options, result, spec, wait};
use optwasm_protocol::message::{AttemptEnd, BatchSpec, Ending, Instance, Memo, Order, WorkerInfo};
use optwasm_protocol::{
    BatchId, ContentId, Limits, Namespace, Outcome, Payload, Report, TrapKind, WorkerId,
};
use optwasm_store::sqlite::check;
use optwasm_store::{Record, SqliteStore, Store, StoreError, Witness};
use tempfile::TempDir;

const ENGINE: &str = "engine/probe";

fn blob(text: &'static str) -> (ContentId, Bytes) {
    let bytes = Bytes::from_static(text.as_bytes());
    (ContentId::of(&bytes), bytes)
}

fn named(text: &'static str) -> Payload {
    let (id, bytes) = blob(text);
    Payload::Blob(bytes.len() as u64, id)
}

/// What the first batch has in common; identical jobs are answered from memory in any version
/// whose engine is the same.
fn shared() -> BatchSpec {
    let mut spec = spec();
    spec.name = "answered".to_owned();
    spec.template.module = blob("module").0;
    spec.template.args = vec!["argument".to_owned()];
    spec.template.env = vec![("NAME".to_owned(), "value".to_owned())];
    spec
}

fn inputs() -> Vec<Payload> {
    let small = Payload::Inline(Bytes::from_static(b"small"));
    vec![small, named("input"), Payload::Inline(Bytes::new())]
}

fn limits() -> Limits {
    Limits {
        fuel: 12_345,
        ..spec().template.limits
    }
}

fn worker() -> WorkerInfo {
    WorkerInfo {
        name: "worker".to_owned(),
        slots: 4,
        memory: 1 << 30,
        labels: [("zone".to_owned(), "a".to_owned())].into(),
        engine: "engine".to_owned(),
        instance: Instance([7; 16]),
        probe: "probe".to_owned(),
    }
}

fn lost() -> AttemptEnd {
    AttemptEnd {
        attempt: 1,
        worker: WorkerId(1),
        worker_name: "worker".to_owned(),
        ended_ms: 1234,
        ending: Ending::Lost { blamed: true },
    }
}

fn trap() -> Report {
    Report {
        attempt: 2,
        fuel: 77,
        log_dropped: 3,
        ..Report::not_run(Outcome::Trap {
            kind: TrapKind::NullReference,
            frames: vec!["compute".to_owned()],
        })
    }
}

/// Writes some of everything that a store keeps.
fn write(dir: &Path) {
    let store = open(dir);
    for text in ["module", "input", "output"] {
        let (id, bytes) = blob(text);
        wait(store.put_blob(id, bytes)).unwrap();
    }
    let with_blob = Report {
        worker: "worker".to_owned(),
        ..Report::not_run(Outcome::Ok(named("output")))
    };
    let mut keyed = shared();
    keyed.id = Some("key".to_owned());
    let mut unfinished = spec();
    (unfinished.memo, unfinished.priority, unfinished.verify) = (Memo::Off, -3, 2);
    let turns = [
        vec![Record::Worker(WorkerId(1), Box::new(worker()))],
        vec![new_batch(1, keyed, inputs(), ENGINE)],
        vec![
            result(job(1, 0), ok(b"answer"), ENGINE),
            result(job(1, 2), trap(), ENGINE),
            result(job(1, 1), with_blob, ENGINE),
            Record::Compared(BatchId(1), true),
            Record::Ended(BatchId(1), 5000),
        ],
        vec![batch(2, unfinished, &[b"a", b"b", b"c", b"d"], "")],
        vec![
            Record::Attempt(job(2, 1), lost()),
            result(job(2, 3), ok(b"late"), ""),
            Record::Witness(
                job(2, 0),
                Box::new(Witness {
                    worker: WorkerId(1),
                    report: ok(b"seen once"),
                }),
            ),
            Record::Reopened(BatchId(2), vec![2..3], Some(limits())),
            Record::Holds(WorkerId(1), vec![(job(2, 0), 1), (job(2, 1), 2)]),
        ],
        // The second job waits for the first.
        vec![batch(3, spec(), &[b"same", b"same"], ENGINE)],
        vec![batch(4, spec(), &[b"removed"], "")],
        vec![Record::Cancelled(BatchId(4)), Record::Ended(BatchId(4), 9)],
        vec![Record::Removed(BatchId(4))],
    ];
    for records in turns {
        append(&store, records).unwrap();
    }
}

/// Whether a store holds what [`write`] wrote.
fn verify(dir: &Path) {
    let store = open(dir);
    for text in ["module", "input", "output"] {
        let (id, bytes) = blob(text);
        assert_eq!(wait(store.get_blob(id)).unwrap(), Some(bytes));
    }
    assert_eq!(store.batches(10), [1, 2, 3].map(BatchId));
    assert_eq!(
        store.batch_by_key(&Namespace::default(), "key"),
        Some((BatchId(1), [1; 32]))
    );
    assert_eq!(store.ended_before(6000, 10), [BatchId(1)]);

    let first = store.batch(BatchId(1)).unwrap();
    let mut keyed = shared();
    keyed.id = Some("key".to_owned());
    assert_eq!(first.spec, keyed);
    assert_eq!((first.jobs, first.done), (3, 3));
    assert_eq!((first.submitted_ms, first.ended_ms), (1001, 5000));
    assert_eq!((first.confirmed, first.contradicted), (1, 0));
    assert_eq!((first.fuel, first.cancelled), (177, false));
    let outcomes = [("ok".to_owned(), 2), ("trap".to_owned(), 1)];
    assert_eq!(first.outcomes, outcomes.into());
    for (index, input) in inputs().into_iter().enumerate() {
        assert_eq!(store.input(job(1, index as u32)).unwrap(), Some(input));
    }
    let page = store.results(BatchId(1), Order::Completion, 0, 1 << 20);
    let page = page.unwrap();
    let order: Vec<u32> = page.results.iter().map(|(index, _)| *index).collect();
    assert_eq!((order, page.last), (vec![0, 2, 1], true));
    assert_eq!(page.results[0].1, ok(b"answer"));
    assert_eq!(page.results[1].1, trap());
    assert_eq!(page.results[2].1.outcome, Outcome::Ok(named("output")));

    assert_eq!(store.attempts(job(2, 1)), [lost()]);
    let witness = Witness {
        worker: WorkerId(1),
        report: ok(b"seen once"),
    };
    assert_eq!(store.witnesses(job(2, 0)), [witness]);
    assert_eq!(store.limits(job(2, 2)), Some(limits()));
    assert_eq!(store.limits(job(2, 1)), None);

    let restored = store.restore().unwrap();
    assert_eq!((restored.next_batch, restored.next_worker), (5, 2));
    assert_eq!(restored.damaged, [""; 0]);
    let [second, third] = &restored.batches[..] else {
        panic!("{:?}", restored.batches);
    };
    assert_eq!((second.batch, second.jobs), (BatchId(2), 4));
    assert_eq!((second.spec.priority, second.spec.verify), (-3, 2));
    assert_eq!(second.finished, [3..4]);
    assert_eq!(second.attempts, [(1, lost())]);
    assert_eq!((third.batch, &third.parked), (BatchId(3), &vec![1..2]));
    let [known] = &restored.workers[..] else {
        panic!("{:?}", restored.workers);
    };
    assert_eq!((known.worker, &known.info), (WorkerId(1), &worker()));
    assert_eq!(known.holds, [(job(2, 0), 1), (job(2, 1), 2)]);

    // Identical jobs have the keys that they had.
    let answered = append(&store, vec![new_batch(5, shared(), inputs(), ENGINE)]).unwrap();
    assert_eq!(answered.answered, [0..3]);
    let followed = append(&store, vec![result(job(3, 0), ok(b"both"), ENGINE)]);
    assert_eq!(followed.unwrap().followed, [job(3, 1)]);
    drop(store);
    let report = check(dir, false).unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
}

#[test]
fn what_is_written_today_is_read() {
    let dir = TempDir::new().unwrap();
    write(dir.path());
    if let Some(to) = std::env::var_os("OPTWASM_WRITE_FIXTURE") {
        copy(dir.path(), Path::new(&to));
    }
    verify(dir.path());
}

#[test]
fn the_first_format_is_read() {
    let dir = TempDir::new().unwrap();
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/v1");
    copy(Path::new(fixture), dir.path());
    verify(dir.path());
}

/// Copies database and blobs.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("blobs")).unwrap();
    fs::copy(from.join("store.sqlite"), to.join("store.sqlite")).unwrap();
    for blob in fs::read_dir(from.join("blobs")).unwrap() {
        let blob = blob.unwrap();
        fs::copy(blob.path(), to.join("blobs").join(blob.file_name())).unwrap();
    }
}

/// Says in its header that a store has another format.
fn set_format(dir: &Path, format: u32) {
    let conn = rusqlite::Connection::open(dir.join("store.sqlite")).unwrap();
    let mark: u32 = conn
        .pragma_query_value(None, "application_id", |row| row.get(0))
        .unwrap();
    let (mark, known) = (mark & 0xffff_0000, mark & 0xffff);
    assert_eq!(known, 2);
    conn.pragma_update(None, "user_version", format).unwrap();
    conn.pragma_update(None, "application_id", mark | format)
        .unwrap();
}

#[test]
fn a_newer_format_is_refused() {
    let dir = TempDir::new().unwrap();
    write(dir.path());
    set_format(dir.path(), 3);
    let before = fs::read(dir.path().join("store.sqlite")).unwrap();
    let newer = StoreError::Newer { found: 3, known: 2 };
    let refused = SqliteStore::open(dir.path(), options()).unwrap_err();
    assert_eq!(refused, newer);
    assert!(refused.to_string().contains("format 3"), "{refused}");
    // Nor is it repaired into something that its own version could not read.
    assert_eq!(check(dir.path(), true).unwrap_err(), newer);
    assert_eq!(fs::read(dir.path().join("store.sqlite")).unwrap(), before);
}

#[test]
fn a_store_of_the_first_format_is_of_the_default_namespace() {
    let dir = TempDir::new().unwrap();
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/v1");
    copy(Path::new(fixture), dir.path());
    let store = open(dir.path());
    let all = Namespace::default();
    assert_eq!(store.batches_of(&all, 10), [1, 2, 3].map(BatchId));
    for text in ["module", "input", "output"] {
        assert!(store.owns_blob(&all, &blob(text).0), "{text}");
    }
    let other = "other".parse().unwrap();
    assert!(!store.owns_blob(&other, &blob("module").0));
    assert_eq!(store.batches_of(&other, 10), []);
    // The blobs that its batches name.
    let account = store.account(&all);
    assert_eq!(account.usage.bytes, "moduleinputoutput".len() as u64);
    assert_eq!(account.usage.ok, 0);
}

#[test]
fn the_second_format_is_read() {
    let dir = TempDir::new().unwrap();
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/v2");
    copy(Path::new(fixture), dir.path());
    verify(dir.path());
}
