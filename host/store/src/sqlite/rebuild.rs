//! Makes a new database of all that can still be read of a broken one.
//!
//! Where only a page of a table is lost, SQLite finds the rows of the other pages from either end,
//! and in between by their keys. Where the first page is lost, which says what else there is, the
//! first page of a new database stands in for it: the tables of all databases of one format begin
//! on the same pages.
//!
//! Rows are copied as they are. Whether they are whole is for [`check`](super::check()) to say.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::rows::{Failure, Read};
use super::schema;
use crate::StoreError;

/// What is copied: tables, how many columns they have, and whether their first column is a number.
/// The memo is not: it only saves work, and an entry that is wrong would cost more.
const TABLES: [(&str, usize, bool); 17] = [
    ("meta", 3, true),
    ("batches", 5, true),
    ("states", 4, true),
    ("chunks", 3, true),
    ("keys", 3, true),
    ("results", 8, true),
    ("attempts", 4, true),
    ("witnesses", 4, true),
    ("limits", 4, true),
    ("followers", 3, true),
    ("workers", 3, true),
    ("holds", 3, true),
    ("blobs", 4, false),
    ("blob_refs", 4, true),
    ("removing", 2, true),
    ("namespaces", 3, true),
    ("uploads", 4, false),
];

/// Bytes of a page, as `schema` sets it.
const PAGE: usize = 4096;

fn disk(error: io::Error) -> StoreError {
    StoreError::Disk(error.to_string())
}

/// A file beside the database: its name with something appended.
fn beside(dir: &Path, suffix: &str) -> PathBuf {
    dir.join(format!("{}{suffix}", schema::FILE))
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk(error)),
        _ => Ok(()),
    }
}

/// Replaces the database in a folder by what can be read of it; the old one is kept beside it, as
/// `store.sqlite.damaged`.
pub(super) fn rebuild(dir: &Path) -> Result<(), StoreError> {
    let (old, salvage, new) = (
        beside(dir, ""),
        beside(dir, ".salvage"),
        beside(dir, ".new"),
    );
    for file in ["", "-wal", "-shm"] {
        remove(&beside(dir, &format!(".new{file}")))?;
        remove(&beside(dir, &format!(".salvage{file}")))?;
    }
    // On a copy, so that nothing gets worse. What the log holds comes with it.
    fs::copy(&old, &salvage).map_err(disk)?;
    if beside(dir, "-wal").exists() {
        fs::copy(beside(dir, "-wal"), beside(dir, ".salvage-wal")).map_err(disk)?;
    }
    let source = match open_source(&salvage) {
        Ok(source) => source,
        Err(_) => {
            replace_first_pages(&salvage)?;
            open_source(&salvage)?
        }
    };
    let target = schema::open_writer(&new, None)?;
    copy(&source, &target)?;
    drop(source);
    drop(target);
    for file in ["-wal", "-shm"] {
        remove(&beside(dir, &format!(".salvage{file}")))?;
        remove(&beside(dir, &format!(".damaged{file}")))?;
        if beside(dir, file).exists() {
            fs::rename(beside(dir, file), beside(dir, &format!(".damaged{file}"))).map_err(disk)?;
        }
    }
    remove(&salvage)?;
    fs::rename(&old, beside(dir, ".damaged")).map_err(disk)?;
    fs::rename(&new, &old).map_err(disk)?;
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(disk)
}

/// Opens a damaged database, where it still says what its tables are.
fn open_source(path: &Path) -> Result<Connection, StoreError> {
    let conn = Connection::open(path).map_err(schema::opening)?;
    schema::verify(&conn)?;
    Ok(conn)
}

/// Gives a file the pages of a new database that say what tables there are.
fn replace_first_pages(path: &Path) -> Result<(), StoreError> {
    let sample = path.with_extension("sample");
    remove(&sample)?;
    let conn = schema::open_writer(&sample, None)?;
    let checkpointed = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    checkpointed.map_err(schema::opening)?;
    drop(conn);
    let mut pages = fs::read(&sample).map_err(disk)?;
    remove(&sample)?;
    let mut file = OpenOptions::new().write(true).open(path).map_err(disk)?;
    let size = file.metadata().map_err(disk)?.len() / PAGE as u64;
    // The header: how many pages there are; no free ones, those being of no interest.
    pages[28..32].copy_from_slice(&(size as u32).to_be_bytes());
    pages[32..40].fill(0);
    let mut write = |number: u32| -> io::Result<()> {
        let start = (number as usize - 1) * PAGE;
        file.seek(SeekFrom::Start(start as u64))?;
        file.write_all(&pages[start..start + PAGE])
    };
    let first = &pages[..PAGE];
    for page in children(&first[100..], first) {
        write(page).map_err(disk)?;
    }
    write(1).map_err(disk)?;
    // A log would bring the old first page back, and belongs to another header.
    remove(&PathBuf::from(format!("{}-wal", path.display())))
}

/// The pages below an interior page of a table (SQLite file format, section 1.6): `header` is where
/// its b-tree header begins, in `page`.
fn children(header: &[u8], page: &[u8]) -> Vec<u32> {
    const INTERIOR: u8 = 5;
    let number = |bytes: &[u8], at: usize, len: usize| {
        let bytes = bytes.get(at..at + len).unwrap_or_default();
        bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u32::from(*byte))
    };
    if header.first() != Some(&INTERIOR) {
        return Vec::new();
    }
    let cells = number(header, 3, 2) as usize;
    let cells = (0..cells).map(|cell| number(page, number(header, 12 + 2 * cell, 2) as usize, 4));
    cells.chain([number(header, 8, 4)]).collect()
}

/// Copies every row that can be read.
fn copy(from: &Connection, to: &Connection) -> Result<(), StoreError> {
    let sql = |sql: &str| to.execute_batch(sql).map_err(Failure::from);
    // Its own numbers are replaced by those that are copied.
    sql("BEGIN; DELETE FROM meta")?;
    for (table, columns, numbered) in TABLES {
        copy_table(from, to, table, columns, numbered)?;
    }
    sql("COMMIT")?;
    let checkpointed = to.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    Ok(checkpointed.map_err(Failure::from)?)
}

fn copy_table(
    from: &Connection,
    to: &Connection,
    table: &str,
    columns: usize,
    numbered: bool,
) -> Read<()> {
    let places: Vec<String> = (1..=columns).map(|place| format!("?{place}")).collect();
    let insert = format!(
        "INSERT OR IGNORE INTO {table} VALUES ({})",
        places.join(", ")
    );
    let mut insert = to.prepare(&insert)?;
    let first = from.prepare(&format!("SELECT * FROM {table}"))?;
    let key = first.column_name(0)?.to_owned();
    drop(first);
    // Copies rows until the end, or until one cannot be read; gives the last one's key, and whether
    // that was the end.
    let mut scan = |sql: &str, from_key: i64| -> Read<(Option<i64>, bool)> {
        let mut last = None;
        let mut query = from.prepare(sql)?;
        let mut rows = match numbered {
            true => query.query([from_key])?,
            false => query.query([])?,
        };
        loop {
            match rows.next() {
                Ok(Some(row)) => {
                    let values: rusqlite::Result<Vec<Value>> =
                        (0..columns).map(|column| row.get(column)).collect();
                    let Ok(values) = values else { continue };
                    if let Some(Value::Integer(key)) = values.first() {
                        last = Some(*key);
                    }
                    match insert.execute(params_from_iter(values)) {
                        // A row that does not even fit its table.
                        Err(error) if !is_disk(&error) => {}
                        other => drop(other?),
                    }
                }
                Ok(None) => return Ok((last, true)),
                Err(_) => return Ok((last, false)),
            }
        }
    };
    let range = |sign| match numbered {
        true => format!("WHERE {key} {sign} ?1"),
        false => String::new(),
    };
    let forward = format!(
        "SELECT * FROM {table} NOT INDEXED {} ORDER BY {key}",
        range(">=")
    );
    let backward = format!(
        "SELECT * FROM {table} NOT INDEXED {} ORDER BY {key} DESC",
        range("<=")
    );
    let (mut last, mut end) = scan(&forward, i64::MIN)?;
    if end {
        return Ok(());
    }
    let (top, _) = scan(&backward, i64::MAX)?;
    let top = top.unwrap_or(i64::MAX);
    // In between: on from where it failed, further and further.
    let mut step = 1i64;
    let mut at = last.unwrap_or(i64::MIN);
    while numbered && !end && at.saturating_add(step) < top {
        at = at.saturating_add(step);
        (last, end) = scan(&forward, at)?;
        match last {
            Some(last) => (at, step) = (last, 1),
            None => step = step.saturating_mul(2),
        }
    }
    Ok(())
}

/// Whether an error has to do with the disk that is written.
fn is_disk(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DiskFull, ReadOnly, SystemIoFailure};
    matches!(
        error.sqlite_error_code(),
        Some(DiskFull | ReadOnly | SystemIoFailure)
    )
}
