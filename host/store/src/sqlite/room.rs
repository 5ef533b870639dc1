//! How much room there is, and what happens when there is none.
//!
//! Two things bound the store: its limit, and what the file system has left. *New work* (batches
//! and blobs) is refused where either would be exceeded, before anything is written. What belongs
//! to accepted work is always taken: for it there is the *reserve*, a file of allocated blocks
//! that is cut to nothing when the disk is full, and allocated again when there is space. While it
//! is not whole, new work is refused.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::StoreError;

/// For how long an answer of the file system is believed.
const FRESH: Duration = Duration::from_millis(100);

/// What the writer, the readers and the store's methods share.
#[derive(Debug)]
pub(super) struct Room {
    dir: PathBuf,
    limit: u64,
    /// Bytes of the database and of blobs.
    used: AtomicU64,
    /// Bytes of the database that removed batches have left and new ones will fill.
    reusable: AtomicU64,
    /// Bytes of new work that has been taken and is not written yet.
    pending: AtomicU64,
    trouble: Mutex<Trouble>,
    free: Mutex<Option<(Instant, u64)>>,
    /// Size of the reserve when it is whole.
    reserve: u64,
    /// Counts changes that readers must not miss in what they keep.
    pub generation: AtomicU64,
    pub closing: AtomicBool,
}

#[derive(Debug, Default)]
struct Trouble {
    /// Why new work is refused.
    refusing: Option<String>,
    /// Why nothing works any more.
    fatal: Option<String>,
}

impl Room {
    /// The reserve is at most a quarter of what the file system has left.
    pub fn new(dir: &Path, limit: u64, reserve: u64) -> Result<Self, StoreError> {
        let mut room = Self {
            dir: dir.to_owned(),
            limit,
            used: AtomicU64::new(0),
            reusable: AtomicU64::new(0),
            pending: AtomicU64::new(0),
            trouble: Mutex::default(),
            free: Mutex::default(),
            reserve: 0,
            generation: AtomicU64::new(0),
            closing: AtomicBool::new(false),
        };
        let there = std::fs::metadata(room.reserve_path()).map_or(0, |file| file.len());
        let free = ask_free(dir).map_err(|error| StoreError::Disk(error.to_string()))?;
        room.reserve = reserve.min((free + there) / 4);
        room.rebuild_reserve();
        Ok(room)
    }

    fn reserve_path(&self) -> PathBuf {
        self.dir.join("reserve")
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        // Nothing panics while it is held.
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that the log may hold before it is copied to the database: a quarter of the reserve, so
    /// that on a full disk the reserve has room for that copy and for results.
    pub fn log(&self) -> u64 {
        self.reserve / 4
    }

    /// Bytes that new work may take of what the file system has left, as of at most `age` ago.
    pub fn free(&self, age: Duration) -> u64 {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        match *free {
            Some((asked, bytes)) if asked.elapsed() < age => bytes,
            _ => {
                let bytes = ask_free(&self.dir).unwrap_or(0);
                let bytes = bytes.saturating_sub(self.log());
                *free = Some((Instant::now(), bytes));
                bytes
            }
        }
    }

    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed) + self.pending.load(Ordering::Relaxed)
    }

    /// Says how many bytes are in use, and how many more of the database may be used again.
    pub fn set_used(&self, bytes: u64, reusable: u64) {
        self.used.store(bytes, Ordering::Relaxed);
        self.reusable.store(reusable, Ordering::Relaxed);
    }

    /// Whether removed batches have left room in the database.
    pub fn has_reusable(&self) -> bool {
        self.reusable() > self.log()
    }

    fn reusable(&self) -> u64 {
        self.reusable.load(Ordering::Relaxed)
    }

    /// About how many bytes of new work there is room for.
    pub fn left(&self) -> u64 {
        if self.refusing().is_some() {
            return 0;
        }
        let disk = self
            .free(FRESH)
            .saturating_add(self.reusable())
            .saturating_sub(self.pending.load(Ordering::Relaxed));
        self.limit.saturating_sub(self.used()).min(disk)
    }

    /// Takes room for new work of so many bytes, which take `disk` bytes until they are where they
    /// stay. Of these, `outside` are not in the database: in its log, or in a file.
    pub fn take(&self, bytes: u64, disk: u64, outside: u64) -> Result<(), StoreError> {
        self.check()?;
        let pending = self.pending.load(Ordering::Relaxed);
        let full = self.used().saturating_add(bytes) > self.limit;
        let fits = |age| {
            let free = self.free(age).saturating_sub(pending);
            free >= outside && free.saturating_add(self.reusable()) >= disk
        };
        if full || self.refusing().is_some() || !(fits(FRESH) || fits(Duration::ZERO)) {
            return Err(self.full());
        }
        self.pending.fetch_add(bytes, Ordering::Relaxed);
        // Until it is asked again, it may have been written.
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = &mut *free {
            *bytes = bytes.saturating_sub(disk);
        }
        Ok(())
    }

    /// New work of so many bytes has been written, or has failed.
    pub fn give(&self, bytes: u64) {
        self.pending.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// What those are told whose new work is refused.
    pub fn full(&self) -> StoreError {
        let used = self.used();
        let limit = match self.refusing() {
            Some(_) => used,
            None => {
                let free = self.free(FRESH).saturating_add(self.reusable());
                self.limit.min(used.saturating_add(free))
            }
        };
        StoreError::Full { used, limit }
    }

    /// Why new work is refused, where it is.
    pub fn refusing(&self) -> Option<String> {
        let trouble = self.trouble();
        trouble
            .fatal
            .as_ref()
            .or(trouble.refusing.as_ref())
            .cloned()
    }

    /// Refuses new work from now on.
    pub fn refuse(&self, why: String) {
        let mut trouble = self.trouble();
        if trouble.refusing.as_ref() != Some(&why) {
            tracing::error!("no new work is taken: {why}");
            trouble.refusing = Some(why);
        }
    }

    /// Takes new work again.
    pub fn recover(&self) {
        if self.trouble().refusing.take().is_some() {
            tracing::info!("new work is taken again");
        }
    }

    /// Nothing works from now on.
    pub fn fail(&self, why: String) {
        tracing::error!("the store cannot go on: {why}");
        self.trouble().fatal = Some(why);
    }

    /// Whether the store still works.
    pub fn check(&self) -> Result<(), StoreError> {
        match &self.trouble().fatal {
            Some(why) => Err(StoreError::Fatal(why.clone())),
            None => Ok(()),
        }
    }

    /// Gives the reserve's blocks to the file system; tells whether there were any.
    pub fn release_reserve(&self) -> bool {
        let file = OpenOptions::new().write(true).open(self.reserve_path());
        let Ok(file) = file else { return false };
        let had = file.metadata().is_ok_and(|file| file.len() > 0);
        had && file.set_len(0).is_ok()
    }

    /// Allocates the reserve, where the file system and the database have as much again; tells whether
    /// it is whole.
    pub fn rebuild_reserve(&self) -> bool {
        let path = self.reserve_path();
        let there = std::fs::metadata(&path).map_or(0, |file| file.len());
        if there >= self.reserve {
            return true;
        }
        let free = ask_free(&self.dir).unwrap_or(0) + there;
        // The log needs room of its own.
        let least = self.reserve.saturating_add(self.log());
        let twice = self.reserve.saturating_mul(2);
        if free < least || free.saturating_add(self.reusable()) < twice {
            return false;
        }
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path);
        let whole = file.is_ok_and(|file| allocate(&file, self.reserve).is_ok());
        if !whole {
            self.release_reserve();
        }
        whole
    }
}

/// Makes a file this long, of blocks that are its own.
fn allocate(file: &File, bytes: u64) -> std::io::Result<()> {
    use std::io::Write;
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            let zeros = vec![0; 64 << 10];
            let mut left = bytes;
            let mut file = file;
            while left > 0 {
                let portion = left.min(zeros.len() as u64);
                file.write_all(&zeros[..portion as usize])?;
                left -= portion;
            }
            Ok(())
        }
        other => Ok(other?),
    }
}

fn ask_free(dir: &Path) -> std::io::Result<u64> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
