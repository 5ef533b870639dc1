//! The thread that writes.
//!
//! It takes everything that has arrived while it wrote the last transaction, makes one transaction
//! of it, and then answers in the order of arrival: a group is as large as the disk is slow. When
//! nothing arrives it deletes what was removed.
//!
//! When a transaction fails, what follows depends on why ([`Cause`]):
//!
//! - *No space*: the reserve is given up and the same transaction tried again at once, then every
//!   half a second until it succeeds. New work that is in it is refused first.
//! - *The disk cannot be written* for another reason (read-only, an error of a device): the same,
//!   without the reserve.
//! - *Something that has to do with its records*: each is tried alone, and those that fail are
//!   refused.
//! - *A failed fsync*, or another failure after which nobody knows what is on the disk: nothing is
//!   written any more. What the kernel reported once it does not report again, so trying again
//!   would only hide the loss (Rebello et al., "Can applications recover from fsync failures?",
//!   USENIX ATC 2020).

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use optwasm_protocol::{ContentId, Namespace};
use rusqlite::ffi;
use tokio::sync::oneshot;

use super::apply::Applier;
use super::room::Room;
use super::rows::{Failure, Read};
use super::schema;
use crate::{Committed, Record, StoreError};

/// How long to wait before a transaction that the disk refused is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// Pages in the log (16 MiB) after which it is copied to the database, at most: with fewer, pages
/// that change often would be copied more often than need be.
const CHECKPOINT: u64 = 4096;

/// Bytes of a page, as `schema` sets it.
const PAGE: u64 = 4096;

/// Records in one transaction: more make it no faster, and those who wait for the first wait longer.
const GROUP: usize = 16 << 10;

/// Bytes of new work after which the memory that it occupied is given back to the system.
const TRIM: u64 = 16 << 20;

/// What the thread is asked to do.
pub(super) enum Work {
    /// Append these records, of which the new work takes so many bytes.
    Append {
        records: Vec<Record>,
        bytes: u64,
        reply: oneshot::Sender<Result<Committed, StoreError>>,
    },
    /// A blob of so many bytes is there, which this namespace has uploaded, if one has.
    Blob {
        id: ContentId,
        size: u64,
        owner: Option<Namespace>,
        reply: oneshot::Sender<Result<Committed, StoreError>>,
    },
    /// A blob is used, by this namespace where one is named.
    Touch(ContentId, Option<Namespace>),
    /// A namespace, by its number, still uses an upload.
    Keep((i64, ContentId)),
    /// Forget those of these uploads, and then of these blobs, that nobody has used since a time; and
    /// of these blobs those that no namespace has.
    Collect {
        uploads: Vec<(i64, ContentId)>,
        ids: Vec<ContentId>,
        before: i64,
        reply: oneshot::Sender<Result<Vec<(ContentId, u64)>, StoreError>>,
    },
    /// End.
    Close,
}

/// What came of one piece of work.
enum Done {
    Committed(Committed),
    Collected(Vec<(ContentId, u64)>),
}

impl Work {
    fn is_new(&self) -> bool {
        match self {
            Work::Blob { .. } => true,
            work => work.bytes() > 0,
        }
    }

    /// Bytes of its new work.
    fn bytes(&self) -> u64 {
        match self {
            Work::Append { bytes, .. } => *bytes,
            _ => 0,
        }
    }

    fn size(&self) -> usize {
        match self {
            Work::Append { records, .. } => records.len(),
            Work::Collect { uploads, ids, .. } => uploads.len() + ids.len(),
            _ => 1,
        }
    }

    fn answer(self, room: &Room, result: Result<Done, StoreError>) {
        // Whoever asked may have gone.
        match self {
            Work::Append { bytes, reply, .. } => {
                room.give(bytes);
                let _ = reply.send(committed(result));
            }
            Work::Blob { reply, .. } => {
                let _ = reply.send(committed(result));
            }
            Work::Collect { reply, .. } => {
                let _ = reply.send(result.map(|done| match done {
                    Done::Collected(blobs) => blobs,
                    Done::Committed(_) => Vec::new(),
                }));
            }
            Work::Touch(..) | Work::Keep(_) | Work::Close => {}
        }
    }
}

fn committed(result: Result<Done, StoreError>) -> Result<Committed, StoreError> {
    result.map(|done| match done {
        Done::Committed(committed) => committed,
        Done::Collected(_) => Committed::default(),
    })
}

/// Why a transaction failed.
enum Cause {
    Space(String),
    Disk(String),
    Record(StoreError),
    Fatal(String),
}

impl Cause {
    fn of(failure: Failure) -> Self {
        let (error, text) = match &failure {
            Failure::Sql(rusqlite::Error::SqliteFailure(error, _)) => (*error, failure.to_string()),
            _ => return Cause::Record(failure.into()),
        };
        match error.extended_code {
            ffi::SQLITE_IOERR_FSYNC
            | ffi::SQLITE_IOERR_DIR_FSYNC
            | ffi::SQLITE_READONLY_DBMOVED => {
                return Cause::Fatal(text);
            }
            // The log's index lives in a file that has to grow too.
            ffi::SQLITE_IOERR_SHMSIZE => return Cause::Space(text),
            ffi::SQLITE_IOERR_DATA => return Cause::Record(failure.into()),
            _ => {}
        }
        use rusqlite::ErrorCode::*;
        match error.code {
            DiskFull => Cause::Space(text),
            SystemIoFailure
            | ReadOnly
            | CannotOpen
            | PermissionDenied
            | DatabaseBusy
            | DatabaseLocked
            | FileLockingProtocolFailed
            | OutOfMemory => Cause::Disk(text),
            _ => Cause::Record(failure.into()),
        }
    }
}

/// Gives the memory that a large submission has occupied back to the system. glibc would keep it: a
/// million small inputs leave 170 MiB of it behind, wherever something in use lies after them.
fn give_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: any thread may call it at any time (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as i64)
}

pub(super) struct Writer {
    applier: Applier,
    room: Arc<Room>,
    inbox: Receiver<Work>,
    /// Pages in the log.
    log: Arc<AtomicI32>,
    /// How many there may be before it is copied to the database.
    log_max: i32,
    /// Work that did not fit the last group.
    next: Option<Work>,
    /// Whether something failed, and new work is refused until it works again.
    trouble: bool,
    /// When that was last tried.
    tried: Option<Instant>,
    /// Whether deleting what was removed has failed since.
    stumbled: bool,
}

impl Writer {
    pub fn new(mut applier: Applier, room: Arc<Room>, inbox: Receiver<Work>) -> Read<Self> {
        let log = Arc::new(AtomicI32::new(0));
        let pages = log.clone();
        applier.conn.wal_hook(Some(move |_: &mut _, count| {
            pages.store(count, Ordering::Relaxed);
            Ok(())
        }))?;
        let log_max = (room.log() / PAGE).min(CHECKPOINT) as i32;
        let mut writer = Self {
            applier,
            room,
            inbox,
            log,
            log_max,
            next: None,
            trouble: true,
            tried: None,
            stumbled: false,
        };
        writer.count_room();
        writer.recover();
        Ok(writer)
    }

    pub fn run(mut self) {
        while let Some(first) = self.wait() {
            let mut group = vec![first];
            let mut size = group[0].size();
            let mut closing = false;
            while let Ok(work) = self.inbox.try_recv() {
                if let Work::Close = work {
                    closing = true;
                    break;
                }
                if size + work.size() > GROUP {
                    self.next = Some(work);
                    break;
                }
                size += work.size();
                group.push(work);
            }
            self.commit(group);
            if closing {
                break;
            }
            self.checkpoint();
            self.recover_in_time();
        }
        // The last connection that closes copies the log to the database.
    }

    /// The next work. Cleans up while there is none. `None` when it is time to end.
    fn wait(&mut self) -> Option<Work> {
        loop {
            if let Some(work) = self.next.take() {
                return Some(work);
            }
            let sweeps = !self.stumbled && self.room.check().is_ok();
            let idle = if sweeps && self.applier.has_garbage(self.trouble) {
                self.inbox.try_recv().map_err(|error| match error {
                    TryRecvError::Empty => RecvTimeoutError::Timeout,
                    TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
                })
            } else if self.trouble {
                self.inbox.recv_timeout(AGAIN)
            } else {
                let work = self.inbox.recv();
                work.map_err(|_| RecvTimeoutError::Disconnected)
            };
            match idle {
                Ok(Work::Close) | Err(RecvTimeoutError::Disconnected) => return None,
                Ok(work) => return Some(work),
                Err(RecvTimeoutError::Timeout) => {
                    if sweeps {
                        let swept = self.transaction(|applier| match applier.has_garbage(true) {
                            true => applier.sweep(),
                            false => Ok(()),
                        });
                        if let Err(failure) = swept {
                            self.stumble(failure);
                        }
                        self.checkpoint();
                        self.count_room();
                    }
                    self.recover_in_time();
                }
            }
        }
    }

    /// Tries whether the store works again, now and then.
    fn recover_in_time(&mut self) {
        let due = self.tried.is_none_or(|tried| tried.elapsed() >= AGAIN);
        if self.trouble && due {
            self.tried = Some(Instant::now());
            self.stumbled = false;
            self.recover();
        }
    }

    /// Runs a transaction.
    fn transaction<T>(&mut self, body: impl FnOnce(&mut Applier) -> Read<T>) -> Read<T> {
        let run = |applier: &mut Applier| {
            applier.execute("BEGIN IMMEDIATE", [])?;
            let value = body(applier)?;
            applier.flush()?;
            applier.execute("COMMIT", [])?;
            Ok(value)
        };
        let result = run(&mut self.applier);
        if result.is_err() {
            if !self.applier.conn.is_autocommit() {
                let _ = self.applier.execute("ROLLBACK", []);
            }
            // What cannot be read now is read when it is needed.
            let _ = self.applier.forget();
            self.applier.stale = true;
        }
        if std::mem::take(&mut self.applier.stale) {
            self.room.generation.fetch_add(1, Ordering::Release);
        }
        result
    }

    fn attempt(&mut self, group: &[Work]) -> Read<Vec<Done>> {
        self.transaction(|applier| group.iter().map(|work| apply(applier, work)).collect())
    }

    /// Makes one transaction of a group, and answers all.
    fn commit(&mut self, mut group: Vec<Work>) {
        let mut tried = false;
        while !group.is_empty() {
            if let Err(error) = self.room.check() {
                return self.refuse(group, |_| error.clone());
            }
            let failure = match self.attempt(&group) {
                Ok(done) => {
                    self.count_room();
                    let new: u64 = group.iter().map(Work::bytes).sum();
                    for (work, done) in group.into_iter().zip(done) {
                        work.answer(&self.room, Ok(done));
                    }
                    if new >= TRIM {
                        give_memory_back();
                    }
                    return;
                }
                Err(failure) => failure,
            };
            let (why, space) = match Cause::of(failure) {
                Cause::Fatal(why) => {
                    self.room.fail(why);
                    continue;
                }
                Cause::Record(error) if group.len() == 1 => {
                    return self.refuse(group, |_| error.clone());
                }
                Cause::Record(_) => {
                    return group.into_iter().for_each(|work| self.commit(vec![work]));
                }
                Cause::Space(why) => (why, true),
                Cause::Disk(why) => (why, false),
            };
            self.begin_trouble(why.clone());
            let (new, old) = group.into_iter().partition(Work::is_new);
            group = old;
            self.refuse(new, |room| match space {
                true => room.full(),
                false => StoreError::Disk(why.clone()),
            });
            if !std::mem::replace(&mut tried, true) {
                if space {
                    self.room.release_reserve();
                    // What the log holds already need not stay in it.
                    self.checkpoint();
                }
                continue;
            }
            if self.room.closing.load(Ordering::Relaxed) {
                return self.refuse(group, |_| StoreError::Closed);
            }
            if !group.is_empty() {
                std::thread::sleep(AGAIN);
            }
        }
    }

    fn refuse(&self, group: Vec<Work>, error: impl Fn(&Room) -> StoreError) {
        for work in group {
            work.answer(&self.room, Err(error(&self.room)));
        }
    }

    /// New work is refused until the disk works again, which is tried as soon as something else has
    /// been written, and then every half a second.
    fn begin_trouble(&mut self, why: String) {
        if !std::mem::replace(&mut self.trouble, true) {
            self.tried = None;
        }
        self.room.refuse(why);
    }

    /// Something failed that nobody waits for.
    fn stumble(&mut self, failure: Failure) {
        match Cause::of(failure) {
            Cause::Fatal(why) => self.room.fail(why),
            Cause::Space(why) | Cause::Disk(why) => {
                self.stumbled = true;
                self.begin_trouble(why);
            }
            Cause::Record(error) => {
                tracing::error!("removed batches cannot be deleted: {error}");
                // Until the store is opened again.
                self.applier.removing.clear();
            }
        }
    }

    /// Takes new work again, where the disk can be written and has room.
    fn recover(&mut self) {
        if self.room.check().is_err() {
            self.trouble = false;
            return;
        }
        if self.room.has_reusable() {
            // What is in the log takes space twice, and could do with that of removed batches.
            self.checkpoint();
            if self.stumbled {
                return;
            }
        }
        let written = self.transaction(|applier| {
            // Changes a page, so that it is really written.
            applier.execute(
                "INSERT INTO damaged VALUES (0, 'nothing: a trial', NULL)",
                [],
            )?;
            applier.execute("DELETE FROM damaged WHERE nr = 0", [])
        });
        if let Err(failure) = written {
            return match Cause::of(failure) {
                Cause::Fatal(why) => self.room.fail(why),
                Cause::Space(why) | Cause::Disk(why) => self.room.refuse(why),
                Cause::Record(error) => self.room.refuse(error.to_string()),
            };
        }
        if self.room.rebuild_reserve() {
            self.trouble = false;
            self.room.recover();
        } else {
            self.room.refuse("the disk is full".to_owned());
        }
    }

    /// Copies the log to the database, when it has grown.
    fn checkpoint(&mut self) {
        let due = self.trouble || self.log.load(Ordering::Relaxed) >= self.log_max;
        if !due || self.room.check().is_err() {
            return;
        }
        // Where space is short the log is cut as well.
        let sql = match self.trouble {
            true => "PRAGMA wal_checkpoint(TRUNCATE)",
            false => "PRAGMA wal_checkpoint(PASSIVE)",
        };
        let conn = &self.applier.conn;
        let copy = || conn.query_row(sql, [], |row| row.get::<_, i64>(0));
        let result = match copy() {
            // With what removed batches have left, the reserve can be whole again afterwards.
            Err(error)
                if self.room.has_reusable()
                    && error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
                    && self.room.release_reserve() =>
            {
                copy()
            }
            result => result,
        };
        match result {
            Ok(_) => {
                self.log.store(0, Ordering::Relaxed);
                self.count_room();
            }
            // The log stays; the next checkpoint writes all of it again.
            Err(error) => self.stumble(Failure::Sql(error)),
        }
    }

    fn count_room(&self) {
        let conn = &self.applier.conn;
        let pages = |name| schema::number(conn, name).unwrap_or(0);
        let (unused, size) = (pages("freelist_count"), pages("page_size"));
        let used = (pages("page_count") - unused) * size;
        self.room.set_used(
            (used + self.applier.blob_bytes).max(0) as u64,
            (unused * size).max(0) as u64,
        );
    }
}

fn apply(applier: &mut Applier, work: &Work) -> Read<Done> {
    let mut out = Committed::default();
    match work {
        Work::Append { records, .. } => {
            for record in records {
                applier.apply(record, &mut out)?;
            }
        }
        Work::Blob {
            id, size, owner, ..
        } => {
            applier.add_blob(id, *size, now_ms())?;
            if let Some(owner) = owner {
                applier.upload(owner, id, now_ms())?;
            }
        }
        Work::Touch(id, None) => applier.touch_blob(id, now_ms())?,
        Work::Touch(id, Some(owner)) => {
            // It may have been dropped since.
            if super::namespaces::has(&applier.conn, owner.number() as i64, id)?.is_some() {
                applier.upload(owner, id, now_ms())?;
            }
        }
        Work::Keep((owner, id)) => applier.note_upload(*owner, id, now_ms())?,
        Work::Collect {
            uploads,
            ids,
            before,
            ..
        } => {
            applier.drop_uploads(uploads, *before)?;
            return Ok(Done::Collected(applier.drop_blobs(ids, *before)?));
        }
        Work::Close => {}
    }
    Ok(Done::Committed(out))
}
