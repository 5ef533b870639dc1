//! A store on disk.
//!
//! A folder holds `store.sqlite` (batches, results, workers), `blobs/` (a file for each) and
//! `reserve` (see [`room`]). One thread writes ([`writer`]); everybody else reads what is
//! committed through another connection ([`reader`]), and waits neither for the writer nor for the
//! disk's caches to be flushed.
//!
//! - [`codec`]: how records become bytes, and their checksums;
//! - [`schema`]: the tables, and how older ones become current;
//! - [`rows`]: single records, read and verified;
//! - [`apply`], [`memo`], [`namespaces`], [`remove`]: what records change;
//! - [`blobs`] and [`remote`]: where the bytes of blobs are;
//! - [`check()`], [`rebuild`], [`backup()`]: tools for a store that nobody has open.

mod apply;
mod backup;
mod blobs;
mod check;
mod codec;
mod memo;
mod namespaces;
mod reader;
mod rebuild;
mod remote;
mod remove;
mod room;
mod rows;
mod schema;
mod writer;

use std::collections::HashMap;
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use optwasm_protocol::message::{AttemptEnd, Order, ResultPage};
use optwasm_protocol::{BatchId, ContentId, JobId, Limits, Namespace, Payload, Report};
use tokio::sync::{RwLock, oneshot};

pub use backup::{backup, compact};
pub use blobs::BlobPlace;
pub use check::{CheckReport, Damage, check};

use crate::{
    Account, BatchSummary, Commit, Committed, Health, Record, Restored, Store, StoreError, Witness,
};
use apply::Applier;
use blobs::{Blobs, blocking};
use reader::{Reader, logged};
use room::Room;
use writer::{Work, Writer, now_ms};

/// How a [`SqliteStore`] is opened.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// Bytes that database and blobs may take before new work is refused; no limit unless set.
    pub limit: u64,
    /// Bytes of disk that are kept for the results of accepted work; 64 MiB unless set, and at
    /// most a quarter of what the file system has left.
    pub reserve: u64,
    /// For how long a blob stays that no batch refers to; an hour unless set, in which a client
    /// can send many large ones before it submits.
    pub blob_grace: Duration,
    /// Where blobs are; in the store's folder unless set.
    pub blobs: BlobPlace,
    /// The name of the SQLite VFS through which the database is read and written; the system's
    /// unless set. For tests that simulate disks.
    pub vfs: Option<String>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            limit: u64::MAX,
            reserve: 64 << 20,
            blob_grace: Duration::from_secs(3600),
            blobs: BlobPlace::default(),
            vfs: None,
        }
    }
}

/// A store on disk.
///
/// Whoever opens one makes sure that nobody else has it open. Its asynchronous methods need a Tokio
/// runtime. Dropping it waits for what was appended to be written, unless the disk refuses that.
pub struct SqliteStore {
    dir: PathBuf,
    options: SqliteOptions,
    room: Arc<Room>,
    /// `None` only while the store is being dropped.
    reader: Mutex<Option<Reader>>,
    blobs: Blobs,
    gate: RwLock<()>,
    /// Where the next collection of blobs goes on.
    collected: Mutex<ContentId>,
    /// Blobs that namespaces keep although no batch of theirs names them.
    held: Mutex<HashMap<(i64, ContentId), Held>>,
    /// Whether files that no row knows of have been looked for.
    swept: AtomicBool,
    inbox: mpsc::Sender<Work>,
    thread: Option<JoinHandle<()>>,
}

/// How often a blob is held.
#[derive(Debug)]
struct Held {
    count: u32,
    /// Nobody holds it any more, and it is being removed: it cannot be held again until it is there
    /// again.
    going: bool,
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

/// Uploads that one collection looks at.
const UPLOADS: i64 = 4096;

impl SqliteStore {
    /// Drops those of these uploads that nobody holds and that were not used since `before`, and then
    /// those of these blobs that no namespace has and that were not used since; returns the blobs with
    /// their sizes.
    async fn drop_blobs(
        &self,
        mut uploads: Vec<(i64, ContentId)>,
        ids: Vec<ContentId>,
        before: i64,
    ) -> Result<Vec<(ContentId, u64)>, StoreError> {
        let _alone = self.gate.write().await;
        uploads.retain(|upload| lock(&self.held).get(upload).is_none_or(|held| held.going));
        let (reply, done) = oneshot::channel();
        self.send(Work::Collect {
            uploads,
            ids,
            before,
            reply,
        })?;
        let dropped = done.await.unwrap_or(Err(StoreError::Closed))?;
        for (id, _) in &dropped {
            self.blobs.delete(*id).await?;
        }
        Ok(dropped)
    }

    /// Opens the store in a folder, which is made where it is missing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Disk`], [`StoreError::Newer`], and [`StoreError::Damaged`] where SQLite cannot
    /// open the file at all: then [`check()`] with `repair` makes it so that it can.
    pub fn open(dir: &Path, options: SqliteOptions) -> Result<Self, StoreError> {
        let made = fs::create_dir_all(dir);
        made.map_err(|error| StoreError::Disk(format!("{}: {error}", dir.display())))?;
        let blobs = Blobs::open(dir, &options.blobs)?;
        Self::open_with(dir, options, blobs)
    }

    fn open_with(dir: &Path, options: SqliteOptions, blobs: Blobs) -> Result<Self, StoreError> {
        let disk = |error: std::io::Error| StoreError::Disk(format!("{}: {error}", dir.display()));
        let room = Arc::new(Room::new(dir, options.limit, options.reserve)?);
        let path = dir.join(schema::FILE);
        let vfs = options.vfs.as_deref();
        let applier = Applier::new(schema::open_writer(&path, vfs)?)?;
        let (inbox, work) = mpsc::channel();
        // Writes, so that the log exists before somebody opens the database for reading.
        let writer = Writer::new(applier, room.clone(), work)?;
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(disk)?;
        let reader = Reader::new(schema::open_reader(&path, vfs)?, room.clone());
        let thread = std::thread::Builder::new().name("store".to_owned());
        let thread = thread.spawn(move || writer.run()).map_err(disk)?;
        Ok(Self {
            dir: dir.to_owned(),
            options,
            room,
            reader: Mutex::new(Some(reader)),
            blobs,
            gate: RwLock::new(()),
            collected: Mutex::new(ContentId::from_bytes([0; 32])),
            held: Mutex::default(),
            swept: AtomicBool::new(false),
            inbox,
            thread: Some(thread),
        })
    }

    fn read<T>(&self, read: impl FnOnce(&mut Reader) -> rows::Read<T>) -> rows::Read<T> {
        let mut reader = lock(&self.reader);
        match reader.as_mut() {
            Some(reader) => read(reader),
            None => Err(rows::Failure::Invalid("the store is closed".to_owned())),
        }
    }

    fn send(&self, work: Work) -> Result<(), StoreError> {
        self.inbox.send(work).map_err(|_| StoreError::Closed)
    }

    /// A connection for long reads on another thread.
    fn connect(&self) -> Result<rusqlite::Connection, StoreError> {
        schema::open_reader(&self.dir.join(schema::FILE), self.options.vfs.as_deref())
    }

    /// Notes that a blob is used; rarely enough that asking costs no writing.
    fn touch(&self, id: &ContentId, owner: Option<&Namespace>, used: i64) {
        let grace = self.options.blob_grace.as_millis() as i64;
        if now_ms() - used > grace / 4 {
            // Whoever closes the store does not need it any more.
            let _ = self.send(Work::Touch(*id, owner.cloned()));
        }
    }

    async fn put_in_room(
        &self,
        owner: Option<&Namespace>,
        id: ContentId,
        bytes: Bytes,
    ) -> Result<(), StoreError> {
        let size = bytes.len() as u64;
        let disk = if self.blobs.is_local() { size } else { 0 };
        self.room.take(size, disk, disk)?;
        // Given back also where whoever waits for this goes away.
        let _taken = Taken(&self.room, size);
        self.put(owner, id, bytes).await
    }

    async fn put(
        &self,
        owner: Option<&Namespace>,
        id: ContentId,
        bytes: Bytes,
    ) -> Result<(), StoreError> {
        let size = bytes.len() as u64;
        let _shared = self.gate.read().await;
        self.blobs.put(id, bytes).await?;
        let (reply, done) = oneshot::channel();
        let owner = owner.cloned();
        self.send(Work::Blob {
            id,
            size,
            owner,
            reply,
        })?;
        done.await.unwrap_or(Err(StoreError::Closed)).map(drop)
    }

    /// Removes files that no row knows of: a process ended between writing one and saying so.
    async fn sweep(&self) -> Result<(), StoreError> {
        for id in self.blobs.strays(self.connect()?).await? {
            let _alone = self.gate.write().await;
            let known = self.read(|reader| reader.blob(&id));
            if matches!(known, Ok(None)) {
                self.blobs.delete(id).await?;
            }
        }
        Ok(())
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.room.closing.store(true, Ordering::Relaxed);
        // The writer closes last, and copies the log to the database.
        lock(&self.reader).take();
        let _ = self.send(Work::Close);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in it is never left half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Room that a blob takes until it is stored.
struct Taken<'a>(&'a Room, u64);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.give(self.1);
    }
}

impl Store for SqliteStore {
    fn restore(&self) -> Result<Restored, StoreError> {
        Ok(self.read(|reader| reader.restore())?)
    }

    fn append(&self, records: Vec<Record>) -> Result<Commit, StoreError> {
        self.room.check()?;
        // First in the log, then in the database.
        let (mut bytes, mut disk) = (0, 0);
        for record in &records {
            if let Record::Submitted(new) = record {
                bytes += new.bytes();
                disk += new.bytes() + new.input_bytes();
            }
        }
        if bytes > 0 {
            self.room.take(bytes, disk, bytes)?;
        }
        if records.is_empty() {
            return Ok(Commit::Done(Committed::default()));
        }
        let (reply, done) = oneshot::channel();
        self.send(Work::Append {
            records,
            bytes,
            reply,
        })?;
        Ok(Commit::Pending(done))
    }

    fn health(&self) -> Health {
        let room = self.room();
        let refusing = self.room.refusing();
        Health {
            used: self.room.used(),
            room,
            refusing: refusing.or_else(|| (room == 0).then(|| self.room.full().to_string())),
            description: format!("{} (SQLite)", self.dir.display()),
        }
    }

    fn room(&self) -> u64 {
        self.room.left()
    }

    fn batches(&self, limit: usize) -> Vec<BatchId> {
        logged(self.read(|reader| reader.batches(limit)))
    }

    fn batch(&self, batch: BatchId) -> Option<BatchSummary> {
        logged(self.read(|reader| reader.batch(batch)))
    }

    fn batches_of(&self, namespace: &Namespace, limit: usize) -> Vec<BatchId> {
        logged(self.read(|reader| reader.batches_of(namespace, limit)))
    }

    fn batch_by_key(&self, namespace: &Namespace, key: &str) -> Option<(BatchId, [u8; 32])> {
        logged(self.read(|reader| reader.batch_by_key(namespace, key)))
    }

    fn accounts(&self) -> Vec<Account> {
        logged(self.read(|reader| namespaces::accounts(&reader.conn)))
    }

    fn account(&self, namespace: &Namespace) -> Account {
        let found = logged(self.read(|reader| namespaces::account(&reader.conn, namespace)));
        found.unwrap_or_else(|| Account::new(namespace.clone()))
    }

    fn ended_before(&self, ms: u64, limit: usize) -> Vec<BatchId> {
        logged(self.read(|reader| reader.ended_before(ms, limit)))
    }

    fn input(&self, job: JobId) -> Result<Option<Payload>, StoreError> {
        Ok(self.read(|reader| reader.input(job))?)
    }

    fn limits(&self, job: JobId) -> Option<Limits> {
        logged(self.read(|reader| reader.limits(job)))
    }

    fn memory(&self, batch: BatchId) -> u64 {
        logged(self.read(|reader| reader.memory(batch)))
    }

    fn result(&self, job: JobId) -> Option<Report> {
        logged(self.read(|reader| reader.result(job)))
    }

    fn attempts(&self, job: JobId) -> Vec<AttemptEnd> {
        logged(self.read(|reader| reader.attempts(job)))
    }

    fn witnesses(&self, job: JobId) -> Vec<Witness> {
        logged(self.read(|reader| reader.witnesses(job)))
    }

    fn results(
        &self,
        batch: BatchId,
        order: Order,
        cursor: u32,
        max_bytes: usize,
    ) -> Option<ResultPage> {
        logged(self.read(|reader| reader.results(batch, order, cursor, max_bytes)))
    }

    fn ended_jobs(&self, batch: BatchId, outcomes: Option<&[String]>) -> Vec<Range<u32>> {
        logged(self.read(|reader| reader.ended_jobs(batch, outcomes)))
    }

    async fn put_blob(&self, id: ContentId, bytes: Bytes) -> Result<(), StoreError> {
        self.put_in_room(None, id, bytes).await
    }

    async fn upload_blob(
        &self,
        namespace: &Namespace,
        id: ContentId,
        bytes: Bytes,
    ) -> Result<(), StoreError> {
        self.put_in_room(Some(namespace), id, bytes).await
    }

    fn owns_blob(&self, namespace: &Namespace, id: &ContentId) -> bool {
        let number = namespace.number() as i64;
        let used = logged(self.read(|reader| {
            // One that is lost can be sent again.
            match reader.blob(id)? {
                Some(_) => namespaces::has(&reader.conn, number, id),
                None => Ok(None),
            }
        }));
        if let Some(used) = used {
            self.touch(id, Some(namespace), used);
        }
        used.is_some()
    }

    async fn get_blob(&self, id: ContentId) -> Result<Option<Bytes>, StoreError> {
        let Some((_, used)) = self.read(|reader| reader.blob(&id))? else {
            return Ok(None);
        };
        self.touch(&id, None, used);
        self.blobs.get(id).await.map(Some)
    }

    fn has_blob(&self, id: &ContentId) -> bool {
        match logged(self.read(|reader| reader.blob(id))) {
            Some((_, used)) => {
                self.touch(id, None, used);
                true
            }
            None => false,
        }
    }

    async fn collect(&self) -> Result<u64, StoreError> {
        if !self.swept.swap(true, Ordering::Relaxed) {
            self.sweep().await?;
        }
        let grace = self.options.blob_grace.as_millis() as i64;
        // Nothing was used later than now, so that a grace of nothing spares nothing.
        let before = now_ms() - grace + 1;
        let from = *lock(&self.collected);
        let conn = self.connect()?;
        let found = blocking(move || {
            let uploads = namespaces::unused_uploads(&conn, before, UPLOADS)?;
            Ok((uploads, blobs::unused(&conn, &from, before)?))
        });
        let (mut uploads, (ids, next)) = found.await?;
        // Those that are held are in use.
        let held: Vec<(i64, ContentId)> = {
            let held = lock(&self.held);
            uploads
                .extract_if(.., |upload| held.contains_key(upload))
                .collect()
        };
        for upload in held {
            self.send(Work::Keep(upload))?;
        }
        *lock(&self.collected) = next.unwrap_or(ContentId::from_bytes([0; 32]));
        if ids.is_empty() && uploads.is_empty() {
            return Ok(0);
        }
        let dropped = self.drop_blobs(uploads, ids, before).await?;
        Ok(dropped.iter().map(|(_, size)| size).sum())
    }

    fn hold_blob(&self, namespace: &Namespace, id: ContentId) -> bool {
        if !self.owns_blob(namespace, &id) {
            return false;
        }
        let mut held = lock(&self.held);
        let upload = (namespace.number() as i64, id);
        let count = held.entry(upload).or_insert(Held {
            count: 0,
            going: false,
        });
        count.count += u32::from(!count.going);
        !count.going
    }

    async fn release_blob(&self, namespace: &Namespace, id: ContentId) -> Result<bool, StoreError> {
        let upload = (namespace.number() as i64, id);
        {
            let mut held = lock(&self.held);
            let Some(blob) = held.get_mut(&upload).filter(|blob| !blob.going) else {
                return Ok(false);
            };
            blob.count -= 1;
            if blob.count > 0 {
                return Ok(false);
            }
            blob.going = true;
        }
        let dropped = self.drop_blobs(vec![upload], vec![id], i64::MAX).await;
        lock(&self.held).remove(&upload);
        Ok(!dropped?.is_empty())
    }
}
