//! A store on real file systems that fill up or can no longer be written.
//!
//! They are mounted for the tests, which needs root; elsewhere the tests say so and are skipped.

// A failed unwrap is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{append, job, new_batch, ok, open, options, result, spec, wait};
use optwasm_protocol::message::Order;
use optwasm_protocol::{BatchId, ContentId, Payload};
use optwasm_store::{Commit, Record, SqliteStore, Store, StoreError};
use tempfile::TempDir;

/// Jobs that are accepted before the disk is full, and whose results must be taken after.
const JOBS: u32 = 2000;

/// How long the store may take to notice that the disk works again; it looks every half a second.
const SOON: Duration = Duration::from_secs(10);

/// How long the store may take to notice that somebody else has taken the room that there was; it
/// asks ten times a second.
const ASKED: Duration = Duration::from_millis(200);

/// Runs a command; tells whether it succeeded.
fn run(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    let status = command.args(args).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// A mounted file system; unmounted when it is dropped.
struct Disk {
    dir: TempDir,
}

impl Disk {
    fn mount(args: &[&str]) -> Option<Self> {
        let dir = TempDir::new().unwrap();
        let mounted = run("mount", &[args, &[dir.path().to_str().unwrap()]].concat());
        if !mounted {
            println!("skipped: nothing can be mounted here");
        }
        mounted.then_some(Self { dir })
    }

    /// In memory.
    fn small(size: &str) -> Option<Self> {
        Self::mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "none"])
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn remount(&self, option: &str) -> bool {
        let option = format!("remount,{option}");
        run("mount", &["-o", &option, self.path().to_str().unwrap()])
    }

    /// Takes all that is left; returns the file that has it.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("filler");
        let mut file = File::create(&path).unwrap();
        for size in [64 << 10, 4096, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Also where something still has it open, so that nothing is left behind.
        run("umount", &["-l", self.path().to_str().unwrap()]);
    }
}

/// A batch of `jobs` jobs with inputs of `len` bytes.
fn jobs(number: u64, jobs: u32, len: usize) -> Record {
    let input = |index: u32| {
        let mut bytes = vec![number as u8; len.max(4)];
        bytes[..4].copy_from_slice(&index.to_le_bytes());
        Payload::Inline(bytes.into())
    };
    new_batch(number, spec(), (0..jobs).map(input).collect(), "")
}

/// Whether new work is refused as it should be where there is no room.
fn is_refused<T: std::fmt::Debug>(result: Result<T, StoreError>) -> bool {
    match result {
        Err(StoreError::Full { .. } | StoreError::Disk(_)) => true,
        Ok(_) => false,
        other => panic!("{other:?}"),
    }
}

/// Submits until that works again.
fn works_again(store: &SqliteStore, number: u64) {
    let begun = Instant::now();
    while is_refused(append(store, vec![jobs(number, 10, 100)])) {
        assert!(begun.elapsed() < SOON, "{:?}", store.health());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(store.health().refusing, None);
}

/// What was accepted is there, whole.
fn is_whole(store: &SqliteStore, batches: u64, results: u32) {
    let mut last = 0;
    for number in 1..=batches {
        let summary = store.batch(BatchId(number)).unwrap();
        last = summary.jobs - 1;
        let Some(Payload::Inline(input)) = store.input(job(number, last)).unwrap() else {
            panic!("the input of a job of batch {number} is not there");
        };
        assert_eq!(input[..4], last.to_le_bytes());
    }
    assert!(store.input(job(batches, last + 1)).unwrap().is_none());
    assert_eq!(store.batch(BatchId(1)).unwrap().done, results);
    let (mut cursor, mut seen) = (0, 0);
    while seen < results {
        let page = store.results(BatchId(1), Order::Input, cursor, 1 << 16);
        let page = page.unwrap();
        assert!(
            page.results
                .iter()
                .all(|(_, report)| report.outcome.is_ok())
        );
        seen += page.results.len() as u32;
        cursor = page.cursor;
    }
}

#[test]
fn a_disk_that_is_full() {
    let Some(disk) = Disk::small("16m") else {
        return;
    };
    let dir = disk.path().join("store");
    let store = open(&dir);
    let module = Bytes::from_static(b"module");
    wait(store.put_blob(ContentId::of(&module), module.clone())).unwrap();
    append(&store, vec![jobs(1, JOBS, 10)]).unwrap();

    // Many batches: it is refused before the disk is full, and all that was accepted is whole.
    let mut accepted = 1;
    while !is_refused(append(&store, vec![jobs(accepted + 1, 100, 1000)])) {
        accepted += 1;
        assert!(accepted < 200, "a disk of 16 MiB has taken 20 MB");
    }
    assert!(accepted > 10, "refused after {accepted}");
    is_whole(&store, accepted, 0);
    let reserve = || fs::metadata(dir.join("reserve")).unwrap().len();
    assert_eq!(reserve(), options().reserve);

    // Somebody else takes the rest. Results go on, from the reserve.
    let filler = disk.fill();
    std::thread::sleep(ASKED);
    assert!(is_refused(append(&store, vec![jobs(accepted + 1, 1, 1)])));
    let blob = Bytes::from(vec![7; 100_000]);
    let put = wait(store.put_blob(ContentId::of(&blob), blob.clone()));
    assert!(is_refused(put));
    for first in (0..JOBS).step_by(100) {
        let results = (first..first + 100).map(|index| result(job(1, index), ok(b"output"), ""));
        append(&store, results.collect()).unwrap();
    }
    is_whole(&store, accepted, JOBS);
    assert!(is_refused(append(&store, vec![jobs(accepted + 1, 1, 1)])));
    let health = store.health();
    assert_eq!(health.room, 0);
    assert!(health.refusing.is_some());
    assert!(!store.has_blob(&ContentId::of(&blob)));
    assert_eq!(
        wait(store.get_blob(ContentId::of(&module))).unwrap(),
        Some(module)
    );

    fs::remove_file(filler).unwrap();
    // As many as make room for work and for the reserve.
    let kept = accepted / 2;
    for number in kept + 1..=accepted {
        append(&store, vec![Record::Removed(BatchId(number))]).unwrap();
    }
    works_again(&store, accepted + 1);
    wait(store.put_blob(ContentId::of(&blob), blob.clone())).unwrap();
    assert_eq!(reserve(), options().reserve);
    drop(store);
    let store = open(&dir);
    is_whole(&store, kept, JOBS);
    assert_eq!(store.batches(1), [BatchId(accepted + 1)]);
    assert!(store.batch(BatchId(accepted)).is_none());
    assert!(store.has_blob(&ContentId::of(&blob)));
}

/// A disk that grows is used, and nothing but waiting is needed for it.
#[test]
fn a_disk_that_grows() {
    let Some(disk) = Disk::small("8m") else {
        return;
    };
    let store = open(&disk.path().join("store"));
    append(&store, vec![jobs(1, JOBS, 10)]).unwrap();
    disk.fill();
    std::thread::sleep(ASKED);
    assert!(is_refused(append(&store, vec![jobs(2, 10, 100)])));
    assert!(disk.remount("size=32m"));
    works_again(&store, 2);
    is_whole(&store, 2, 0);
}

#[test]
fn a_folder_that_cannot_be_written() {
    let Some(disk) = Disk::small("16m") else {
        return;
    };
    let dir = disk.path().join("store");
    let store = open(&dir);
    append(&store, vec![jobs(1, JOBS, 10)]).unwrap();
    drop(store);
    assert!(disk.remount("ro"));
    let refused = SqliteStore::open(&dir, options()).unwrap_err();
    assert!(matches!(refused, StoreError::Disk(_)), "{refused:?}");
    assert!(disk.remount("rw"));
    let store = open(&dir);
    is_whole(&store, 1, 0);
    works_again(&store, 2);
}

/// A file system that finds an error in itself lets nobody write any more: no work is taken then,
/// what was kept can be read, and is there when the file system has been repaired.
#[test]
fn a_file_system_that_gives_up() {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(32 << 20).unwrap();
    let image = image.path().to_str().unwrap();
    let mount = ["-t", "ext4", "-o", "loop,errors=remount-ro", image];
    if !run("mkfs.ext4", &["-q", image]) {
        return println!("skipped: there is no mkfs.ext4");
    }
    let Some(disk) = Disk::mount(&mount) else {
        return;
    };
    let dir = disk.path().join("store");
    let store = open(&dir);
    append(&store, vec![jobs(1, JOBS, 10)]).unwrap();
    append(&store, vec![result(job(1, 0), ok(b"output"), "")]).unwrap();

    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let here = disk.path().to_str().unwrap();
    let mut lines = mounts.lines().map(|line| line.split(' '));
    let device = lines.find_map(|mut words| {
        let device = words.next()?.strip_prefix("/dev/")?;
        (words.next()? == here).then_some(device)
    });
    let trigger = format!("/sys/fs/ext4/{}/trigger_fs_error", device.unwrap());
    if fs::write(trigger, "1").is_err() {
        return println!("skipped: this kernel does not pretend errors");
    }
    assert!(File::create(disk.path().join("any")).is_err());

    assert!(is_unwritable(append(&store, vec![jobs(2, 10, 100)])));
    assert!(store.health().refusing.is_some());
    assert!(is_unwritable(append(&store, vec![jobs(2, 10, 100)])));
    let blob = Bytes::from_static(b"blob");
    assert!(is_unwritable(wait(
        store.put_blob(ContentId::of(&blob), blob)
    )));
    is_whole(&store, 1, 1);
    // A result waits, or is refused where nothing can be written ever again.
    let waiting = store.append(vec![result(job(1, 1), ok(b"output"), "")]);
    drop(store);
    if let Ok(Commit::Pending(mut waiting)) = waiting {
        assert!(matches!(waiting.try_recv(), Ok(Err(_))));
    }

    let here = disk.path().to_str().unwrap();
    assert!(run("umount", &[here]));
    // It ends with 1 where something was repaired.
    run("e2fsck", &["-p", image]);
    assert!(run("mount", &["-t", "ext4", "-o", "loop", image, here]));
    let store = open(&dir);
    is_whole(&store, 1, 1);
    works_again(&store, 2);
}

fn is_unwritable<T: std::fmt::Debug>(result: Result<T, StoreError>) -> bool {
    match result {
        Err(StoreError::Fatal(_)) => true,
        other => is_refused(other),
    }
}
