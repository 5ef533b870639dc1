//! Copies a store, and gives the space of what was removed back.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use optwasm_protocol::ContentId;

use super::rows::{self, Failure};
use super::schema;
use super::{blobs, remote};
use crate::StoreError;

/// Copies the store in `dir` to the folder `dest`, which opens as a store. A coordinator may have
/// it open meanwhile: the copy is of one moment. Blobs that are in an object store stay there, and
/// the copy refers to them: once original and copy have both been used, neither can rely on them.
///
/// # Errors
///
/// [`StoreError::Disk`], also where `dest` holds something; [`StoreError::Damaged`] where the
/// database is so damaged that it cannot be copied.
pub fn backup(dir: &Path, dest: &Path) -> Result<(), StoreError> {
    let disk = |error: io::Error| StoreError::Disk(format!("{}: {error}", dest.display()));
    let refused = |why: String| Err(StoreError::Disk(why));
    if fs::read_dir(dest).is_ok_and(|mut entries| entries.next().is_some()) {
        return refused(format!("{} is not empty", dest.display()));
    }
    let source = dir.join(schema::FILE);
    if !source.exists() {
        return refused(format!("there is no {}", source.display()));
    }
    fs::create_dir_all(dest).map_err(disk)?;
    // Not read-only: a store that nobody has open may have a log that has to be opened first.
    let conn = schema::open_writer(&source, None)?;
    let copy = dest.join(schema::FILE);
    let copied = conn.execute("VACUUM INTO ?1", [copy.to_string_lossy()]);
    copied.map_err(Failure::from)?;
    drop(conn);
    let conn = schema::open_writer(&copy, None)?;
    schema::begin_life(&conn).map_err(Failure::from)?;
    drop(conn);
    let from = dir.join("blobs");
    if from.exists() {
        let to = dest.join("blobs");
        fs::create_dir_all(&to).map_err(disk)?;
        copy_blobs(&copy, &from, &to)?;
        File::open(&to).and_then(|to| to.sync_all()).map_err(disk)?;
    }
    if let Some(url) = remote::place(dir)? {
        remote::set_place(dest, &url)?;
    }
    for place in [copy.as_path(), dest] {
        let synced = File::open(place).and_then(|place| place.sync_all());
        synced.map_err(disk)?;
    }
    Ok(())
}

/// Copies the blobs of a copied database. They were all there when it was made, and none changes;
/// one that has been collected since belonged to no batch.
fn copy_blobs(copy: &Path, from: &Path, to: &Path) -> Result<(), StoreError> {
    let disk = |error: io::Error| StoreError::Disk(format!("{}: {error}", to.display()));
    let conn = schema::open_writer(copy, None)?;
    let ids = {
        let mut query = conn
            .prepare("SELECT id FROM blobs")
            .map_err(Failure::from)?;
        let ids = query.query_map([], |row| Ok(rows::bytes(row, 0)?.to_vec()));
        let ids = ids.and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>);
        ids.map_err(Failure::from)?
    };
    for id in ids {
        let Ok(id) = <[u8; 32]>::try_from(id) else {
            continue;
        };
        let id = ContentId::from_bytes(id);
        let (from, to) = (blobs::file(from, &id), blobs::file(to, &id));
        // A file is never changed, only replaced: both folders can have it.
        let linked = fs::hard_link(&from, &to);
        let copied = linked.or_else(|_| {
            fs::copy(&from, &to)?;
            File::open(&to)?.sync_all()
        });
        match copied {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let deleted = conn.execute(
                    "DELETE FROM blobs WHERE id = ?1 AND id NOT IN (SELECT id FROM blob_refs)",
                    [id.as_bytes()],
                );
                deleted.map_err(Failure::from)?;
            }
            other => other.map_err(disk)?,
        }
    }
    let closed = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    Ok(closed.map_err(Failure::from)?)
}

/// Gives the space of what was removed back to the file system. Nobody may have the store open.
///
/// # Errors
///
/// [`StoreError::Disk`], also where there is no room for the copy that this takes.
pub fn compact(dir: &Path) -> Result<(), StoreError> {
    let conn = schema::open_writer(&dir.join(schema::FILE), None)?;
    let compacted = conn
        .execute_batch("VACUUM")
        .and_then(|()| conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())));
    Ok(compacted.map_err(Failure::from)?)
}
