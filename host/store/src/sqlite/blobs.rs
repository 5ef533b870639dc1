//! Blobs: files or objects named by their content, and rows that say which there are.
//!
//! A blob is written under another name, synced, renamed, its folder synced, and only then entered
//! in the database: a row means that the file is whole. An object of an object store ([`Remote`]) is
//! whole as soon as it is there. When it is collected the row goes first;
//! a file without a row is garbage that the first [`collect`](crate::Store::collect) of a process removes.
//!
//! *The gate*: whoever keeps a blob holds it shared from before the file is written until the row
//! is committed, whoever deletes one holds it alone. So a blob that is sent again while it is
//! collected is not lost.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use optwasm_protocol::ContentId;
use rusqlite::{Connection, params};

use super::apply::Applier;
use super::codec::{self, Table};
use super::remote::{self, Remote};
use super::rows::{self, Failure, Read};
use crate::StoreError;

/// Where the bytes of blobs are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BlobPlace {
    /// In the store's folder.
    #[default]
    LocalDir,
    /// In an object store that speaks S3: `s3://bucket/prefix`. Everything below the prefix belongs
    /// to this store alone. Credentials, region and endpoint come from the environment
    /// (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT`, …).
    Url(String),
}

/// Rows that one collection looks at.
const PORTION: i64 = 4096;

/// Where the bytes of blobs are, opened.
#[derive(Clone, Debug)]
pub(super) enum Blobs {
    Dir(PathBuf),
    Remote(Remote),
}

/// Begins the names of files that are not whole.
const PARTIAL: &str = ".partial-";

/// Tells apart what one process writes at once.
static PARTIALS: AtomicU64 = AtomicU64::new(0);

fn disk(error: io::Error) -> StoreError {
    StoreError::Disk(error.to_string())
}

impl Blobs {
    /// Opens the place where the blobs of the store in `dir` are, and notes which that is.
    pub fn open(dir: &Path, place: &BlobPlace) -> Result<Self, StoreError> {
        let own = dir.join("blobs");
        let elsewhere = |place: &str| {
            Err(StoreError::Disk(format!(
                "the blobs of the store in {} are kept in {place}, and only there",
                dir.display()
            )))
        };
        match (place, remote::place(dir)?) {
            (BlobPlace::LocalDir, Some(known)) => elsewhere(&known),
            (BlobPlace::LocalDir, None) => {
                fs::create_dir_all(&own).map_err(disk)?;
                Ok(Blobs::Dir(own))
            }
            (BlobPlace::Url(url), Some(known)) if *url != known => elsewhere(&known),
            (BlobPlace::Url(_), None) if own.exists() => elsewhere("that folder"),
            (BlobPlace::Url(url), known) => {
                let remote = Remote::open(url)?;
                if known.is_none() {
                    remote::set_place(dir, url)?;
                }
                Ok(Blobs::Remote(remote))
            }
        }
    }

    /// Whether they are on the disk of the database.
    pub fn is_local(&self) -> bool {
        matches!(self, Blobs::Dir(_))
    }

    /// Keeps a blob, whose hash is checked. Where one is there already it is replaced only if it
    /// is damaged.
    pub async fn put(&self, id: ContentId, bytes: Bytes) -> Result<(), StoreError> {
        match self {
            Blobs::Dir(dir) => {
                let dir = dir.clone();
                blocking(move || put_file(&dir, id, &bytes)).await
            }
            Blobs::Remote(remote) => remote.put(id, bytes).await,
        }
    }

    /// A blob's bytes, checked.
    pub async fn get(&self, id: ContentId) -> Result<Bytes, StoreError> {
        match self {
            Blobs::Dir(dir) => {
                let path = file(dir, &id);
                blocking(move || read_file(&path, id)).await
            }
            Blobs::Remote(remote) => remote.get(id).await,
        }
    }

    pub async fn delete(&self, id: ContentId) -> Result<(), StoreError> {
        match self {
            Blobs::Dir(dir) => match fs::remove_file(file(dir, &id)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk(error)),
                _ => Ok(()),
            },
            Blobs::Remote(remote) => remote.delete(id).await,
        }
    }

    /// Names of files here that no row knows of, and which nobody is writing.
    pub async fn strays(&self, known: Connection) -> Result<Vec<ContentId>, StoreError> {
        match self {
            Blobs::Dir(dir) => {
                let dir = dir.clone();
                blocking(move || strays(&dir, &known)).await
            }
            Blobs::Remote(remote) => {
                let mut ids = remote.list().await?;
                ids.retain(|id| matches!(rows::blob(&known, id), Ok(None)));
                Ok(ids)
            }
        }
    }
}

/// The file of a blob.
pub(super) fn file(dir: &Path, id: &ContentId) -> PathBuf {
    dir.join(id.to_string())
}

/// Runs on a thread that may wait for the disk.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(StoreError::Disk(error.to_string())))
}

fn put_file(dir: &Path, id: ContentId, bytes: &[u8]) -> Result<(), StoreError> {
    if ContentId::of(bytes) != id {
        return Err(StoreError::Hash(id));
    }
    let path = file(dir, &id);
    if read_file(&path, id).is_ok() {
        return Ok(());
    }
    let number = PARTIALS.fetch_add(1, Ordering::Relaxed);
    let partial = dir.join(format!("{PARTIAL}{}-{number}", std::process::id()));
    let written = (|| {
        let mut file = File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, &path)?;
        File::open(dir)?.sync_all()
    })();
    written.map_err(|error| {
        // It is of no use to anybody; if it stays, the next process deletes it.
        let _ = fs::remove_file(&partial);
        disk(error)
    })
}

/// A blob's bytes, where they are those that its name says.
pub(super) fn read_file(path: &Path, id: ContentId) -> Result<Bytes, StoreError> {
    match fs::read(path) {
        Ok(bytes) if ContentId::of(&bytes) == id => Ok(bytes.into()),
        Ok(_) => Err(StoreError::Damaged(format!("blob {id}"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(StoreError::Damaged(format!("blob {id} is missing")))
        }
        Err(error) => Err(disk(error)),
    }
}

fn strays(dir: &Path, known: &Connection) -> Result<Vec<ContentId>, StoreError> {
    let mut found = Vec::new();
    let own = format!("{PARTIAL}{}-", std::process::id());
    for entry in fs::read_dir(dir).map_err(disk)? {
        let entry = entry.map_err(disk)?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.starts_with(PARTIAL) && !name.starts_with(&own) {
            fs::remove_file(entry.path()).map_err(disk)?;
        }
        if let Ok(id) = name.parse()
            && let Ok(None) = rows::blob(known, &id)
        {
            found.push(id);
        }
    }
    Ok(found)
}

/// Blobs after `from` that nobody has used since `before` and no namespace has, in the first few
/// rows from there on; and where to go on, if there are more.
pub(super) fn unused(
    conn: &Connection,
    from: &ContentId,
    before: i64,
) -> Read<(Vec<ContentId>, Option<ContentId>)> {
    let mut query = conn.prepare_cached(
        "SELECT id, used, EXISTS (SELECT 1 FROM blob_refs WHERE blob_refs.id = blobs.id)
             OR EXISTS (SELECT 1 FROM uploads WHERE uploads.id = blobs.id)
         FROM blobs WHERE id > ?1 ORDER BY id LIMIT ?2",
    )?;
    let mut rows = query.query(params![from.as_bytes(), PORTION])?;
    let (mut found, mut last, mut count) = (HashSet::new(), None, 0);
    while let Some(row) = rows.next()? {
        let Ok(id) = <[u8; 32]>::try_from(rows::bytes(row, 0)?) else {
            continue;
        };
        let id = ContentId::from_bytes(id);
        last = Some(id);
        count += 1;
        if row.get::<_, i64>(1)? < before && !row.get::<_, bool>(2)? {
            found.insert(id);
        }
    }
    if !found.is_empty() {
        // The index says that nobody needs them. Its entries have no checksums, so it is believed
        // only if the table says the same.
        keep_needed(conn, &mut found)?;
    }
    let more = last.filter(|_| count == PORTION);
    Ok((found.into_iter().collect(), more))
}

fn keep_needed(conn: &Connection, unused: &mut HashSet<ContentId>) -> Read<()> {
    let mut query = conn.prepare_cached("SELECT batch, id, sum, namespace FROM blob_refs")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let (batch, id): (i64, _) = (row.get(0)?, rows::bytes(row, 1)?);
        if codec::checksum_of_ref(batch, row.get(3)?, id) != row.get::<_, i64>(2)? {
            return Err(Failure::Damaged(
                "which blobs batches need; none is removed".to_owned(),
            ));
        }
        if let Ok(id) = <[u8; 32]>::try_from(id) {
            unused.remove(&ContentId::from_bytes(id));
        }
    }
    Ok(())
}

impl Applier {
    /// A blob is there.
    pub(super) fn add_blob(&mut self, id: &ContentId, size: u64, now: i64) -> Read<()> {
        let known = matches!(rows::blob(&self.conn, id), Ok(Some(_)));
        let sum = codec::checksum(Table::Blobs, &[size as i64, now], id.as_bytes());
        self.execute(
            "INSERT OR REPLACE INTO blobs VALUES (?1, ?2, ?3, ?4)",
            params![id.as_bytes(), size as i64, now, sum],
        )?;
        if !known {
            self.blob_bytes += size as i64;
        }
        Ok(())
    }

    /// A blob is used.
    pub(super) fn touch_blob(&mut self, id: &ContentId, now: i64) -> Read<()> {
        match rows::blob(&self.conn, id) {
            Ok(Some((size, _))) => self.add_blob(id, size, now),
            Ok(None) | Err(Failure::Damaged(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Forgets those of these blobs that are still unused, and says how large they were.
    pub(super) fn drop_blobs(
        &mut self,
        ids: &[ContentId],
        before: i64,
    ) -> Read<Vec<(ContentId, u64)>> {
        let mut dropped = Vec::new();
        for id in ids {
            let Ok(Some((size, used))) = rows::blob(&self.conn, id) else {
                continue;
            };
            let needed: bool = self
                .conn
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM blob_refs WHERE id = ?1)
                     OR EXISTS (SELECT 1 FROM uploads WHERE id = ?1)",
                )?
                .query_row([id.as_bytes()], |row| row.get(0))?;
            if used < before && !needed {
                self.execute("DELETE FROM blobs WHERE id = ?1", [id.as_bytes()])?;
                self.blob_bytes -= size as i64;
                dropped.push((*id, size));
            }
        }
        Ok(dropped)
    }
}
