//! A disk that changes single bits: nothing wrong is served, a check finds it, and a repair saves
//! the rest.

// A failed unwrap is a failed test.
#![allow(clippy::unwrap_used)]
// Ranges of indices, of which there may be one.
#![allow(clippy::single_range_in_vec_init)]

mod common;

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Random, append, job, ok, result, spec, wait};
use optwasm_protocol::message::{AttemptEnd, Ending, Instance, Memo, Order, WorkerInfo};
use optwasm_protocol::{BatchId, ContentId, JobId, Namespace, Outcome, Payload, Report, WorkerId};
use optwasm_store::sqlite::{CheckReport, backup, check, compact};
use optwasm_store::{Record, Restored, SqliteOptions, SqliteStore, Store, StoreError, Witness};
use tempfile::TempDir;

/// Batches in the sample, and jobs in each.
const BATCHES: u64 = 4;
const JOBS: u32 = 200;

const ENGINE: &str = "engine";

fn open(dir: &Path) -> Result<SqliteStore, StoreError> {
    let options = SqliteOptions {
        reserve: 0,
        // Nothing is written only because something is read.
        blob_grace: Duration::from_secs(1 << 30),
        ..SqliteOptions::default()
    };
    SqliteStore::open(dir, options)
}

fn blob_bytes(number: u8) -> Vec<u8> {
    vec![number; 3000]
}

/// A store with something in every table.
fn sample(dir: &Path) {
    let store = open(dir).unwrap();
    let mut random = Random(7);
    for number in 0..3 {
        let bytes = blob_bytes(number);
        wait(store.put_blob(ContentId::of(&bytes), bytes.into())).unwrap();
    }
    for batch in 1..=BATCHES {
        let mut spec = spec();
        spec.template.module = ContentId::of(&blob_bytes(0));
        spec.id = Some(format!("key {batch}"));
        spec.memo = if batch == 4 { Memo::Off } else { Memo::On };
        let inputs = (0..JOBS).map(|index| match index % 50 {
            7 => Payload::Blob(3000, ContentId::of(&blob_bytes(1))),
            _ => {
                let same = u64::from(index) + 130 * batch;
                let mut random = Random(same);
                let len = 100 + random.below(200) as usize;
                let bytes: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
                bytes.into()
            }
        });
        append(
            &store,
            vec![common::new_batch(batch, spec, inputs.collect(), ENGINE)],
        )
        .unwrap();
        for _ in 0..4 {
            let records = (0..60).map(|_| {
                let index = random.below(u64::from(JOBS)) as u32;
                let report = match index % 9 {
                    3 => Report::not_run(Outcome::Deadline),
                    5 => Report::not_run(Outcome::Ok(Payload::Blob(
                        3000,
                        ContentId::of(&blob_bytes(2)),
                    ))),
                    _ => ok(&vec![index as u8; 50 + index as usize]),
                };
                result(job(batch, index), report, ENGINE)
            });
            append(&store, records.collect()).unwrap();
        }
    }
    let attempt = |index| {
        Record::Attempt(
            job(2, index),
            AttemptEnd {
                attempt: 1,
                worker: WorkerId(1),
                worker_name: "w".to_owned(),
                ended_ms: 5,
                ending: Ending::Lost { blamed: false },
            },
        )
    };
    append(&store, (0..20).map(attempt).collect()).unwrap();
    let witness = Witness {
        worker: WorkerId(1),
        report: ok(b"w"),
    };
    let info = WorkerInfo {
        name: "w".to_owned(),
        slots: 1,
        memory: 1,
        labels: Default::default(),
        engine: ENGINE.to_owned(),
        instance: Instance([1; 16]),
        probe: String::new(),
    };
    append(
        &store,
        vec![
            Record::Witness(job(4, 199), Box::new(witness)),
            Record::Worker(WorkerId(1), Box::new(info)),
            Record::Holds(WorkerId(1), vec![(job(2, 0), 1), (job(2, 1), 2)]),
            Record::Ended(BatchId(1), 77),
            Record::Reopened(BatchId(2), vec![0..30], Some(Default::default())),
            Record::Cancelled(BatchId(3)),
        ],
    )
    .unwrap();
    drop(store);
}

/// Everything that a store answers.
struct Answers {
    batches: Vec<String>,
    keys: Vec<Option<(BatchId, [u8; 32])>>,
    inputs: Vec<Result<Option<Payload>, StoreError>>,
    results: Vec<Option<Report>>,
    pages: Vec<Vec<(JobId, Report)>>,
    ended: Vec<Vec<std::ops::Range<u32>>>,
    attempts: Vec<Vec<AttemptEnd>>,
    restored: Restored,
    blobs: Vec<Result<Option<bytes::Bytes>, StoreError>>,
}

fn jobs() -> impl Iterator<Item = JobId> {
    (1..=BATCHES).flat_map(|batch| (0..JOBS).map(move |index| job(batch, index)))
}

fn ask(store: &SqliteStore) -> Answers {
    let ids = || (1..=BATCHES).map(BatchId);
    let pages = ids().flat_map(|batch| {
        [Order::Input, Order::Completion].map(|order| {
            let page = store.results(batch, order, 0, usize::MAX);
            let results = page.into_iter().flat_map(|page| page.results);
            results
                .map(|(index, report)| (JobId(batch, index), report))
                .collect()
        })
    });
    Answers {
        batches: ids()
            .map(|batch| format!("{:?}", store.batch(batch)))
            .collect(),
        keys: ids()
            .map(|batch| store.batch_by_key(&Namespace::default(), &format!("key {batch}")))
            .collect(),
        inputs: jobs().map(|job| store.input(job)).collect(),
        results: jobs().map(|job| store.result(job)).collect(),
        pages: pages.collect(),
        ended: ids().map(|batch| store.ended_jobs(batch, None)).collect(),
        attempts: jobs().map(|job| store.attempts(job)).collect(),
        restored: store.restore().unwrap(),
        blobs: (0..3)
            .map(|number| wait(store.get_blob(ContentId::of(&blob_bytes(number)))))
            .collect(),
    }
}

/// How answers differ from the truth.
#[derive(Default)]
struct Difference {
    /// How many differ, all of which say that something is lost.
    lost: usize,
    /// How many are the truth, of results and inputs.
    whole: usize,
}

fn is_lost(report: &Report) -> bool {
    matches!(report.outcome, Outcome::Damaged(_))
}

impl Difference {
    /// An answer must be the truth or say that it is lost.
    fn add<T: PartialEq + Debug>(&mut self, found: &T, truth: &T, lost: bool, place: &str) {
        if found == truth {
            self.whole += 1;
        } else {
            assert!(lost, "{place}: {found:?} instead of {truth:?}");
            self.lost += 1;
        }
    }

    fn of(found: &Answers, truth: &Answers, place: &str) -> Self {
        let mut all = Self::default();
        let results = |job: JobId| {
            let index = (job.0.0 - 1) * u64::from(JOBS) + u64::from(job.1);
            truth.results.get(index as usize)?.as_ref()
        };
        for (found, truth) in found.batches.iter().zip(&truth.batches) {
            all.add(
                found,
                truth,
                found == "None" || place.ends_with("repaired"),
                place,
            );
        }
        for (found, truth) in found.keys.iter().zip(&truth.keys) {
            all.add(found, truth, found.is_none(), place);
        }
        for (found, truth) in found.inputs.iter().zip(&truth.inputs) {
            let lost = matches!(found, Ok(None) | Err(StoreError::Damaged(_)));
            all.add(found, truth, lost, place);
        }
        for (found, truth) in found.results.iter().zip(&truth.results) {
            let lost = found.as_ref().is_none_or(is_lost);
            all.add(found, truth, lost, place);
        }
        for (found, truth) in found.pages.iter().zip(&truth.pages) {
            all.lost += usize::from(found.len() != truth.len());
            for (job, report) in found {
                let known = results(*job).is_some_and(|truth| truth == report);
                assert!(known || is_lost(report), "{place}: {job} {report:?}");
                all.lost += usize::from(!known);
            }
        }
        all.lost += usize::from(found.ended != truth.ended);
        all.lost += usize::from(found.attempts != truth.attempts);
        let restored = |answers: &Answers| format!("{:?}", answers.restored);
        all.lost += usize::from(restored(found) != restored(truth));
        let unused = found.restored.next_batch > BATCHES && found.restored.next_worker > 1;
        assert!(unused, "{place}: numbers are used again");
        for (found, truth) in found.blobs.iter().zip(&truth.blobs) {
            let lost = matches!(found, Ok(None) | Err(StoreError::Damaged(_)));
            all.add(found, truth, lost, place);
        }
        all
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// A folder in memory where there is one, so that syncing thousands of copies costs nothing.
fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let dir = tempfile::tempdir_in(memory);
    dir.unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files = vec![dir.join("store.sqlite")];
    let blobs = fs::read_dir(dir.join("blobs")).unwrap();
    files.extend(blobs.map(|entry| entry.unwrap().path()));
    files.sort();
    files
}

/// Blobs that are gone cannot be repaired; all else can.
fn repaired(report: &CheckReport) -> bool {
    report
        .damage
        .iter()
        .all(|damage| damage.what.contains("is missing; needed by"))
}

/// Changes one bit after the other, each in a fresh copy.
fn flip_bits(seed: u64, count: usize) {
    let home = scratch();
    let pristine = home.path().join("pristine");
    sample(&pristine);
    let truth = ask(&open(&pristine).unwrap());
    assert!(check(&pristine, false).unwrap().damage.is_empty());
    assert!(!pristine.join("store.sqlite-wal").exists());
    let sizes: Vec<(PathBuf, u64)> = files(&pristine)
        .into_iter()
        .map(|file| (file.clone(), fs::metadata(&file).unwrap().len()))
        .collect();
    let total: u64 = sizes.iter().map(|(_, size)| size).sum();
    let mut random = Random(seed);
    let (mut hits, mut refusals, mut served) = (0, 0, 0);
    for number in 0..count {
        // One in eight hits the first page, on which everything depends.
        let (mut at, bit) = match number % 8 {
            0 => (random.below(4096), random.below(8)),
            _ => (random.below(total), random.below(8)),
        };
        let mut file = &sizes[0].0;
        if number % 8 == 0 {
            file = &sizes
                .iter()
                .find(|(file, _)| file.ends_with("store.sqlite"))
                .unwrap()
                .0;
        } else {
            for (candidate, size) in &sizes {
                file = candidate;
                if at < *size {
                    break;
                }
                at -= size;
            }
        }
        let dir = home.path().join("copy");
        let _ = fs::remove_dir_all(&dir);
        copy(&pristine, &dir);
        let name = file.strip_prefix(&pristine).unwrap();
        let mut bytes = fs::read(file).unwrap();
        bytes[at as usize] ^= 1 << bit;
        fs::write(dir.join(name), bytes).unwrap();
        let place = format!("seed {seed}, flip {number}: bit {bit} of byte {at} of {name:?}");

        let other = home.path().join("other");
        let _ = fs::remove_dir_all(&other);
        copy(&dir, &other);
        let found = check(&other, false).unwrap_or_else(|error| panic!("{place}: {error}"));
        match open(&dir) {
            Ok(store) => {
                let difference = Difference::of(&ask(&store), &truth, &place);
                assert!(
                    difference.lost == 0 || !found.damage.is_empty(),
                    "{place}: {} answers differ, and the check finds nothing",
                    difference.lost
                );
                hits += usize::from(!found.damage.is_empty());
                served += difference.whole;
            }
            Err(error) => {
                refusals += 1;
                assert!(matches!(error, StoreError::Damaged(_)), "{place}: {error}");
                assert!(!found.damage.is_empty(), "{place}");
            }
        }
        // Whatever it was, repair saves the rest.
        if found.damage.is_empty() {
            continue;
        }
        check(&other, true).unwrap_or_else(|error| panic!("{place}, repair: {error}"));
        let again = check(&other, false).unwrap();
        assert!(repaired(&again), "{place}: still {:?}", again.damage);
        let store = open(&other).unwrap_or_else(|error| panic!("{place}, repaired: {error}"));
        let difference = Difference::of(&ask(&store), &truth, &format!("{place}, repaired"));
        // One batch of four may be lost, or as much as hangs on one page.
        let all = difference.whole + difference.lost;
        assert!(
            difference.whole * 10 >= all * 6,
            "{place}: {} of {all}",
            difference.whole
        );
        append(
            &store,
            vec![common::batch(1 << 30, spec(), &[b"a"], ENGINE)],
        )
        .unwrap();
    }
    println!(
        "{count} flips: {hits} found while the store served, {refusals} refused to open, {served} right answers"
    );
    assert!(hits > count / 4 && refusals > 0);
}

#[test]
fn no_flipped_bit_is_served() {
    flip_bits(1, 1000);
}

#[test]
fn no_other_flipped_bit_is_served() {
    flip_bits(2, 1000);
}

#[test]
fn lost_pages_cost_only_what_was_on_them() {
    let home = scratch();
    let pristine = home.path().join("pristine");
    sample(&pristine);
    let truth = ask(&open(&pristine).unwrap());
    let bytes = fs::read(pristine.join("store.sqlite")).unwrap();
    for page in 0..bytes.len() / 4096 {
        let dir = home.path().join("copy");
        let _ = fs::remove_dir_all(&dir);
        copy(&pristine, &dir);
        let mut damaged = bytes.clone();
        damaged[page * 4096..(page + 1) * 4096].fill(0);
        fs::write(dir.join("store.sqlite"), damaged).unwrap();
        check(&dir, true).unwrap_or_else(|error| panic!("page {page}: {error}"));
        assert!(repaired(&check(&dir, false).unwrap()), "page {page}");
        let store = open(&dir).unwrap_or_else(|error| panic!("page {page}: {error}"));
        let place = format!("page {page}, repaired");
        let difference = Difference::of(&ask(&store), &truth, &place);
        let all = difference.whole + difference.lost;
        // The page may be the one with all batches.
        println!("{place}: {} of {all}", difference.whole);
    }
}

#[test]
fn a_check_names_the_jobs() {
    let home = scratch();
    let dir = home.path().join("store");
    sample(&dir);
    let store = open(&dir).unwrap();
    let report = store.result(job(4, 190)).or(store.result(job(4, 191)));
    let index = if store.result(job(4, 190)).is_some() {
        190
    } else {
        191
    };
    assert!(report.is_some());
    drop(store);
    // A byte of one result's output.
    let path = dir.join("store.sqlite");
    let mut bytes = fs::read(&path).unwrap();
    let output = vec![index as u8; 50 + index as usize];
    let places = bytes
        .windows(output.len())
        .enumerate()
        .filter(|(_, window)| *window == output);
    let places: Vec<usize> = places.map(|(at, _)| at).collect();
    for at in places {
        bytes[at + 1] ^= 1;
    }
    fs::write(&path, bytes).unwrap();
    let found = check(&dir, false).unwrap();
    let results = found
        .damage
        .iter()
        .filter(|damage| damage.what == "results");
    let results: Vec<String> = results.map(ToString::to_string).collect();
    assert!(
        results.contains(&format!("batch 4, jobs {index}, results")),
        "{results:?}"
    );
    let store = open(&dir).unwrap();
    assert!(is_lost(&store.result(job(4, index)).unwrap()));
    let known = store.batch(BatchId(4)).unwrap();
    drop(store);
    check(&dir, true).unwrap();
    let store = open(&dir).unwrap();
    let summary = store.batch(BatchId(4)).unwrap();
    assert_eq!(summary.done, known.done);
    assert_eq!(summary.outcomes["damaged"], 1);
    assert_eq!(
        store.ended_jobs(BatchId(4), Some(&["damaged".to_owned()])),
        [index..index + 1]
    );
    // It can be run again.
    append(
        &store,
        vec![
            Record::Reopened(BatchId(4), vec![index..index + 1], None),
            result(job(4, index), ok(b"again"), ENGINE),
        ],
    )
    .unwrap();
    assert_eq!(store.result(job(4, index)).unwrap(), ok(b"again"));
    assert!(
        !store
            .batch(BatchId(4))
            .unwrap()
            .outcomes
            .contains_key("damaged")
    );
    drop(store);
    assert!(check(&dir, false).unwrap().damage.is_empty());
}

#[test]
fn a_damaged_blob_is_not_served_and_can_be_sent_again() {
    let home = scratch();
    let dir = home.path().join("store");
    sample(&dir);
    let bytes = blob_bytes(0);
    let id = ContentId::of(&bytes);
    fs::write(dir.join("blobs").join(id.to_string()), b"other").unwrap();
    let store = open(&dir).unwrap();
    let read = wait(store.get_blob(id));
    assert!(matches!(read, Err(StoreError::Damaged(_))));
    drop(store);
    let found = check(&dir, true).unwrap();
    let blobs: Vec<&str> = found
        .damage
        .iter()
        .map(|damage| damage.what.as_str())
        .collect();
    assert_eq!(blobs, [format!("blob {id}; needed by batches 1, 2, 3, 4")]);
    assert!(dir.join("damaged").join(id.to_string()).exists());
    let store = open(&dir).unwrap();
    assert!(!store.has_blob(&id));
    wait(store.put_blob(id, bytes.clone().into())).unwrap();
    assert_eq!(wait(store.get_blob(id)).unwrap().unwrap(), bytes);
    drop(store);
    assert!(check(&dir, false).unwrap().damage.is_empty());
}

#[test]
fn a_copy_is_a_store_and_a_compacted_one_is_the_same() {
    let home = scratch();
    let dir = home.path().join("store");
    sample(&dir);
    let store = open(&dir).unwrap();
    let truth = ask(&store);
    let dest = home.path().join("copy");
    backup(&dir, &dest).unwrap();
    // What comes later is not in the copy.
    append(&store, vec![common::batch(9, spec(), &[b"a"], "")]).unwrap();
    assert!(matches!(backup(&dir, &dest), Err(StoreError::Disk(_))));
    drop(store);
    let copied = open(&dest).unwrap();
    let mut answers = ask(&copied);
    // It goes on otherwise than the store that it is a copy of, and workers can tell.
    assert_ne!(answers.restored.life, truth.restored.life);
    answers.restored.life = truth.restored.life;
    assert_eq!(Difference::of(&answers, &truth, "copy").lost, 0);
    drop(copied);
    assert!(check(&dest, false).unwrap().damage.is_empty());
    // Of a copy, too, the first page can be made anew.
    for dir in [&dest, &dir] {
        let store = open(dir).unwrap();
        append(
            &store,
            vec![Record::Removed(BatchId(9)), Record::Removed(BatchId(1))],
        )
        .unwrap();
        drop(store);
        compact(dir).unwrap();
        let path = dir.join("store.sqlite");
        let mut bytes = fs::read(&path).unwrap();
        bytes[..4096].fill(0);
        fs::write(&path, bytes).unwrap();
        assert!(!check(dir, true).unwrap().damage.is_empty());
        let store = open(dir).unwrap();
        for batch in 2..=BATCHES {
            let known = &truth.batches[batch as usize - 1];
            assert_eq!(format!("{:?}", store.batch(BatchId(batch))), *known);
        }
    }
}
