//! Jobs that are answered by results of identical ones.

// A failed unwrap is a failed test.
#![allow(clippy::unwrap_used)]
// Ranges of indices, of which there may be one.
#![allow(clippy::single_range_in_vec_init)]

mod common;

use common::{append, batch, job, ok, open, result, spec};
use optwasm_protocol::message::{BatchSpec, Memo};
use optwasm_protocol::{BatchId, ContentId, Limits, Outcome, Payload, Profile, Report};
use optwasm_store::{Committed, Record, SqliteStore, Store};
use tempfile::TempDir;

const ENGINE: &str = "engine";

fn store() -> (TempDir, SqliteStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    (dir, store)
}

fn submit(store: &SqliteStore, number: u64, spec: BatchSpec, inputs: &[&[u8]]) -> Committed {
    append(store, vec![batch(number, spec, inputs, ENGINE)]).unwrap()
}

fn end(store: &SqliteStore, number: u64, index: u32, report: Report) -> Committed {
    append(store, vec![result(job(number, index), report, ENGINE)]).unwrap()
}

fn nothing() -> Committed {
    Committed::default()
}

#[test]
fn a_finished_job_answers_later_ones() {
    let (dir, store) = store();
    assert_eq!(submit(&store, 1, spec(), &[b"a", b"b"]), nothing());
    assert_eq!(end(&store, 1, 0, ok(b"A")), nothing());
    drop(store);
    let store = open(dir.path());
    let committed = submit(&store, 2, spec(), &[b"x", b"a", b"y", b"a"]);
    assert_eq!(committed.answered, [1..2, 3..4]);
    assert!(committed.parked.is_empty());
    let report = store.result(job(2, 1)).unwrap();
    let expected = Report {
        memo: true,
        attempt: 0,
        ..ok(b"A")
    };
    assert_eq!(report, expected);
    let summary = store.batch(BatchId(2)).unwrap();
    assert_eq!((summary.done, summary.memo, summary.fuel), (2, 2, 0));
    assert_eq!(summary.outcomes["ok"], 2);
}

#[test]
fn only_the_same_job_is_answered() {
    let (_dir, store) = store();
    submit(&store, 1, spec(), &[b"a"]);
    end(&store, 1, 0, ok(b"A"));
    type Change = fn(&mut BatchSpec);
    let changes: [Change; 9] = [
        |spec| spec.template.module = ContentId::of(b"other"),
        |spec| spec.template.profile = Profile::Portable,
        |spec| spec.template.limits.fuel -= 1,
        |spec| spec.template.args = vec!["x".to_owned()],
        |spec| spec.template.env = vec![("x".to_owned(), String::new())],
        |spec| spec.template.blobs = vec![("x".to_owned(), ContentId::of(b"x"))],
        |spec| spec.template.seed = 1.into(),
        |spec| spec.memo = Memo::Off,
        |spec| spec.memo = Memo::Refresh,
    ];
    for (number, change) in (2..).zip(changes) {
        let mut other = spec();
        change(&mut other);
        assert_eq!(submit(&store, number, other, &[b"a"]), nothing());
    }
    let other_engine = append(&store, vec![batch(20, spec(), &[b"a"], "other")]).unwrap();
    assert_eq!(other_engine, nothing());
    let no_engine = append(&store, vec![batch(21, spec(), &[b"a"], "")]).unwrap();
    assert_eq!(no_engine, nothing());
    // Names, priorities and the like decide no result.
    let mut same = spec();
    same.name = "other".to_owned();
    same.priority = 3;
    same.retries = 9;
    // The refreshing batch holds the key now, and has no result yet.
    assert_eq!(submit(&store, 22, same, &[b"a"]).parked, [0..1]);
}

#[test]
fn times_are_never_shared() {
    let (_dir, store) = store();
    let mut timed = spec();
    timed.template.profile = Profile::Timed;
    submit(&store, 1, timed.clone(), &[b"a", b"a"]);
    end(&store, 1, 0, ok(b"A"));
    assert_eq!(submit(&store, 2, timed, &[b"a"]), nothing());
}

#[test]
fn identical_jobs_run_once() {
    let (dir, store) = store();
    let committed = submit(&store, 1, spec(), &[b"a", b"b", b"a", b"a"]);
    assert_eq!(committed.parked, [2..4]);
    assert_eq!(submit(&store, 2, spec(), &[b"c", b"a"]).parked, [1..2]);
    drop(store);
    let store = open(dir.path());
    let restored = store.restore().unwrap();
    assert_eq!(restored.batches[0].parked, [2..4]);
    assert_eq!(restored.batches[1].parked, [1..2]);
    let committed = end(&store, 1, 0, ok(b"A"));
    assert_eq!(committed.followed, [job(1, 2), job(1, 3), job(2, 1)]);
    assert!(committed.released.is_empty());
    assert!(store.result(job(2, 1)).unwrap().memo);
    assert_eq!(store.batch(BatchId(1)).unwrap().done, 3);
    assert!(store.restore().unwrap().batches[0].parked.is_empty());
    // The holder answers later ones too.
    assert_eq!(submit(&store, 3, spec(), &[b"a"]).answered, [0..1]);
}

#[test]
fn a_failed_holder_makes_way() {
    let (_dir, store) = store();
    submit(&store, 1, spec(), &[b"a"]);
    assert_eq!(
        submit(&store, 2, spec(), &[b"a", b"a", b"a"]).parked,
        [0..3]
    );
    let committed = end(&store, 1, 0, Report::not_run(Outcome::Deadline));
    assert_eq!(committed.released, [job(2, 0)]);
    assert!(committed.followed.is_empty());
    // The next one holds it now.
    assert_eq!(submit(&store, 3, spec(), &[b"a"]).parked, [0..1]);
    let committed = end(&store, 2, 0, ok(b"A"));
    assert_eq!(committed.followed, [job(2, 1), job(2, 2), job(3, 0)]);
    assert_eq!(submit(&store, 4, spec(), &[b"a"]).answered, [0..1]);
}

#[test]
fn errors_of_guests_are_shared() {
    let (_dir, store) = store();
    submit(&store, 1, spec(), &[b"a"]);
    end(&store, 1, 0, Report::not_run(Outcome::OutOfFuel));
    assert_eq!(submit(&store, 2, spec(), &[b"a"]).answered, [0..1]);
}

#[test]
fn results_of_another_engine_answer_nobody() {
    let (_dir, store) = store();
    submit(&store, 1, spec(), &[b"a", b"a"]);
    let records = vec![result(job(1, 0), ok(b"A"), "another")];
    let committed = append(&store, records).unwrap();
    assert_eq!(committed.released, [job(1, 1)]);
    assert_eq!(submit(&store, 2, spec(), &[b"a"]).parked, [0..1]);
    let committed = end(&store, 1, 1, ok(b"A"));
    assert_eq!(committed.followed, [job(2, 0)]);
}

#[test]
fn followers_of_a_cancelled_batch_are_dropped() {
    let (_dir, store) = store();
    submit(&store, 1, spec(), &[b"a"]);
    submit(&store, 2, spec(), &[b"a", b"a"]);
    submit(&store, 3, spec(), &[b"a"]);
    let cancelled = || Report::not_run(Outcome::Cancelled);
    let committed = append(
        &store,
        vec![
            Record::Cancelled(BatchId(2)),
            result(job(2, 0), cancelled(), ""),
            result(job(2, 1), cancelled(), ""),
        ],
    );
    assert_eq!(committed.unwrap(), nothing());
    assert_eq!(end(&store, 1, 0, ok(b"A")).followed, [job(3, 0)]);
    assert_eq!(store.result(job(2, 0)).unwrap().outcome, Outcome::Cancelled);
}

#[test]
fn a_cancelled_batch_lets_go_of_what_others_wait_for() {
    let (_dir, store) = store();
    submit(&store, 1, spec(), &[b"a", b"a"]);
    submit(&store, 2, spec(), &[b"a", b"a"]);
    let records = vec![
        Record::Cancelled(BatchId(1)),
        result(job(1, 0), Report::not_run(Outcome::Cancelled), ""),
        result(job(1, 1), Report::not_run(Outcome::Cancelled), ""),
    ];
    assert_eq!(append(&store, records).unwrap().released, [job(2, 0)]);
    assert_eq!(end(&store, 2, 0, ok(b"A")).followed, [job(2, 1)]);
}

#[test]
fn a_removed_batch_answers_nobody() {
    let (_dir, store) = store();
    submit(&store, 1, spec(), &[b"a"]);
    end(&store, 1, 0, ok(b"A"));
    append(&store, vec![Record::Removed(BatchId(1))]).unwrap();
    assert_eq!(submit(&store, 2, spec(), &[b"a"]), nothing());
    // And one that has not ended makes way.
    submit(&store, 3, spec(), &[b"a"]);
    let committed = append(&store, vec![Record::Removed(BatchId(2))]).unwrap();
    assert_eq!(committed.released, [job(3, 0)]);
    end(&store, 3, 0, ok(b"A"));
    assert_eq!(submit(&store, 4, spec(), &[b"a"]).answered, [0..1]);
}

#[test]
fn a_job_that_runs_again_shares_nothing() {
    let (_dir, store) = store();
    submit(&store, 1, spec(), &[b"a", b"b"]);
    end(&store, 1, 0, ok(b"A"));
    end(&store, 1, 1, ok(b"B"));
    let more = Some(Limits {
        fuel: 7,
        ..Limits::default()
    });
    append(&store, vec![Record::Reopened(BatchId(1), vec![0..1], more)]).unwrap();
    let committed = submit(&store, 2, spec(), &[b"a", b"b", b"a"]);
    assert_eq!(
        (committed.answered, committed.parked),
        (vec![1..2], vec![2..3])
    );
    // What it comes to under other limits is not what the others would.
    assert_eq!(end(&store, 1, 0, ok(b"other")), nothing());
    assert_eq!(end(&store, 2, 0, ok(b"A")).followed, [job(2, 2)]);
    assert_eq!(submit(&store, 3, spec(), &[b"a"]).answered, [0..1]);
    assert_eq!(store.result(job(3, 0)).unwrap().outcome, ok(b"A").outcome);
}

#[test]
fn a_refreshed_result_answers_later_jobs() {
    let (_dir, store) = store();
    submit(&store, 1, spec(), &[b"a"]);
    end(&store, 1, 0, ok(b"old"));
    let mut refresh = spec();
    refresh.memo = Memo::Refresh;
    assert_eq!(submit(&store, 2, refresh, &[b"a", b"a"]), nothing());
    end(&store, 2, 0, ok(b"new"));
    end(&store, 2, 1, ok(b"new"));
    submit(&store, 3, spec(), &[b"a"]);
    assert_eq!(store.result(job(3, 0)).unwrap().outcome, ok(b"new").outcome);
}

#[test]
fn verified_batches_take_verified_results_only() {
    let (_dir, store) = store();
    let mut verified = spec();
    verified.verify = 2;
    submit(&store, 1, spec(), &[b"a"]);
    assert_eq!(submit(&store, 2, verified.clone(), &[b"a"]), nothing());
    end(&store, 1, 0, ok(b"A"));
    assert_eq!(submit(&store, 3, verified.clone(), &[b"a"]), nothing());
    let confirmed = Report {
        witnesses: vec!["v".to_owned(), "w".to_owned()],
        ..ok(b"A")
    };
    end(&store, 3, 0, confirmed);
    assert_eq!(
        submit(&store, 4, verified.clone(), &[b"a"]).answered,
        [0..1]
    );
    verified.verify = 3;
    assert_eq!(submit(&store, 5, verified, &[b"a"]), nothing());
}

#[test]
fn blobs_of_shared_results_are_kept_for_all() {
    let (_dir, store) = store();
    let output = ContentId::of(b"output");
    let report = || Report::not_run(Outcome::Ok(Payload::Blob(6, output)));
    let grace = optwasm_store::SqliteOptions {
        blob_grace: std::time::Duration::ZERO,
        ..common::options()
    };
    drop(store);
    let store = SqliteStore::open(_dir.path(), grace).unwrap();
    submit(&store, 1, spec(), &[b"a"]);
    common::wait(store.put_blob(output, b"output"[..].into())).unwrap();
    end(&store, 1, 0, report());
    assert_eq!(submit(&store, 2, spec(), &[b"a"]).answered, [0..1]);
    append(&store, vec![Record::Removed(BatchId(1))]).unwrap();
    common::wait(store.collect()).unwrap();
    assert!(store.has_blob(&output));
}

#[test]
fn many_inputs_meet_across_chunks() {
    let (_dir, store) = store();
    let inputs: Vec<Vec<u8>> = (0..20_000u32)
        .map(|i| (i % 15_000).to_le_bytes().to_vec())
        .collect();
    let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
    assert_eq!(submit(&store, 1, spec(), &inputs).parked, [15_000..20_000]);
    let records = (0..15_000)
        .map(|i| result(job(1, i), ok(b"A"), ENGINE))
        .collect();
    let followed = append(&store, records).unwrap().followed;
    assert_eq!(followed.len(), 5_000);
    let committed = submit(&store, 2, spec(), &inputs);
    assert_eq!(committed.answered, [0..20_000]);
    assert_eq!(store.batch(BatchId(2)).unwrap().memo, 20_000);
    append(&store, vec![Record::Removed(BatchId(1))]).unwrap();
    append(&store, vec![Record::Removed(BatchId(2))]).unwrap();
    assert_eq!(submit(&store, 3, spec(), &inputs).parked, [15_000..20_000]);
}
