//! The tables, how a database is opened, and how an older one becomes a current one.
//!
//! | Table | A row is |
//! |---|---|
//! | `meta` | a number that outlives what it counts: the next batch's, the next worker's, the life's |
//! | `batches` | what is written once of a batch |
//! | `states` | what changes of it: counters, flags |
//! | `chunks` | inputs of neighbouring jobs, see [`codec::Chunk`](super::codec) |
//! | `keys` | memo keys of the jobs of one chunk |
//! | `results` | a job's result; `done` is its place in the order of completion |
//! | `attempts`, `witnesses`, `limits` | what else happened to jobs, in order of `nr` |
//! | `memo` | the job whose result answers jobs with this key |
//! | `followers` | a job that waits for another with its key |
//! | `workers`, `holds` | a worker, and what it holds |
//! | `blobs`, `blob_refs` | a blob, and a batch that needs it |
//! | `namespaces` | what a namespace may have, has and has used |
//! | `uploads` | a blob that a namespace has without a batch |
//! | `removing` | a batch that was removed, and whose rows are being deleted |
//! | `damaged` | what repair has put aside |
//!
//! A database is WAL with `synchronous=FULL`: a commit is one fsync of the log.

use std::path::Path;
use std::sync::OnceLock;

use rusqlite::{Connection, OpenFlags};

use super::codec::{self, Table};
use super::namespaces;
use super::rows::{self, LIFE, NEXT_BATCH, NEXT_WORKER};
use crate::StoreError;

/// The format that this version writes.
pub(super) const VERSION: u32 = 2;

/// Step `n` makes format `n + 1` out of format `n`; 0 is an empty file.
const MIGRATIONS: [&str; VERSION as usize] = [V1, V2];

/// Tables first, then indexes: the order in which `VACUUM` makes them, so that the first pages of all
/// files are alike ([`rebuild`](super::rebuild) relies on that).
const V1: &str = "
CREATE TABLE meta(key INTEGER PRIMARY KEY, value INTEGER NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE batches(batch INTEGER PRIMARY KEY, key TEXT, head BLOB NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE states(batch INTEGER PRIMARY KEY, ended INTEGER NOT NULL, body BLOB NOT NULL,
    sum INTEGER NOT NULL);
CREATE TABLE chunks(first INTEGER PRIMARY KEY, body BLOB NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE keys(first INTEGER PRIMARY KEY, body BLOB NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE results(job INTEGER PRIMARY KEY, done INTEGER NOT NULL, outcome INTEGER NOT NULL,
    attempt INTEGER NOT NULL, flags INTEGER NOT NULL, fuel INTEGER NOT NULL, body BLOB NOT NULL,
    sum INTEGER NOT NULL);
CREATE TABLE attempts(job INTEGER NOT NULL, nr INTEGER NOT NULL, body BLOB NOT NULL,
    sum INTEGER NOT NULL, PRIMARY KEY(job, nr)) WITHOUT ROWID;
CREATE TABLE witnesses(job INTEGER NOT NULL, nr INTEGER NOT NULL, body BLOB NOT NULL,
    sum INTEGER NOT NULL, PRIMARY KEY(job, nr)) WITHOUT ROWID;
CREATE TABLE limits(job INTEGER NOT NULL, nr INTEGER NOT NULL, body BLOB NOT NULL,
    sum INTEGER NOT NULL, PRIMARY KEY(job, nr)) WITHOUT ROWID;
CREATE TABLE memo(key BLOB PRIMARY KEY, job INTEGER NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE followers(job INTEGER PRIMARY KEY, key BLOB NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE workers(worker INTEGER PRIMARY KEY, body BLOB NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE holds(worker INTEGER PRIMARY KEY, body BLOB NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE blobs(id BLOB PRIMARY KEY, size INTEGER NOT NULL, used INTEGER NOT NULL,
    sum INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE blob_refs(batch INTEGER NOT NULL, id BLOB NOT NULL, sum INTEGER NOT NULL,
    PRIMARY KEY(batch, id)) WITHOUT ROWID;
CREATE TABLE removing(batch INTEGER PRIMARY KEY, sum INTEGER NOT NULL);
CREATE TABLE damaged(nr INTEGER PRIMARY KEY, what TEXT NOT NULL, body BLOB);
CREATE UNIQUE INDEX batches_by_key ON batches(key) WHERE key IS NOT NULL;
CREATE INDEX states_by_ended ON states(ended);
CREATE INDEX results_by_done ON results(done, outcome);
CREATE INDEX followers_by_key ON followers(key);
CREATE INDEX blob_refs_by_id ON blob_refs(id);
";

/// Namespaces: all there was belongs to the one with number 0. The indexes are made again, so that
/// they stay behind the tables.
const V2: &str = "
DROP INDEX batches_by_key;
DROP INDEX states_by_ended;
DROP INDEX results_by_done;
DROP INDEX followers_by_key;
DROP INDEX blob_refs_by_id;
ALTER TABLE batches ADD COLUMN namespace INTEGER NOT NULL DEFAULT 0;
ALTER TABLE blob_refs ADD COLUMN namespace INTEGER NOT NULL DEFAULT 0;
CREATE TABLE namespaces(nr INTEGER PRIMARY KEY, body BLOB NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE uploads(id BLOB NOT NULL, namespace INTEGER NOT NULL, used INTEGER NOT NULL,
    sum INTEGER NOT NULL, PRIMARY KEY(id, namespace)) WITHOUT ROWID;
CREATE UNIQUE INDEX batches_by_key ON batches(namespace, key) WHERE key IS NOT NULL;
CREATE INDEX batches_by_namespace ON batches(namespace, batch);
CREATE INDEX states_by_ended ON states(ended);
CREATE INDEX results_by_done ON results(done, outcome);
CREATE INDEX followers_by_key ON followers(key);
CREATE INDEX blob_refs_by_id ON blob_refs(id, namespace);
";

/// Pages that the writer keeps in memory (KiB). Submissions go through the memo index in one pass,
/// so that more of it in memory would not make them faster (measured with two million jobs), and
/// a coordinator is to stay below 64 MiB.
const WRITER_CACHE: i64 = 16 << 10;

/// Pages that readers keep in memory (KiB): what follows one another is read in order.
const READER_CACHE: i64 = 4 << 10;

/// The log is cut to this size once a large transaction has been copied to the database.
const WAL_KEPT: i64 = 64 << 20;

/// For how long a connection waits for another one's lock, which is only ever held for an instant.
const BUSY_MS: u64 = 5_000;

/// The database's file in a store's folder.
pub(super) const FILE: &str = "store.sqlite";

/// Marks a database as ours, beside its format: both are in the header, in different places, so
/// that a format that a damaged byte has made up is told from a newer one.
const APPLICATION: u32 = 0x6f77_0000;

/// Opens the database for writing, made or migrated as needed.
pub(super) fn open_writer(path: &Path, vfs: Option<&str>) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = connect(path, flags, vfs)?;
    let header = |name| number(&conn, name).map_err(opening);
    let (found, mark) = (
        header("user_version")? as u32,
        header("application_id")? as u32,
    );
    if mark != found | if found == 0 { 0 } else { APPLICATION } {
        return Err(StoreError::Damaged(format!("{FILE}: its header")));
    }
    if found > VERSION {
        let known = VERSION;
        return Err(StoreError::Newer { found, known });
    }
    let prepared = (|| {
        if found == 0 {
            // These are laid down with the first page.
            conn.pragma_update(None, "page_size", 4096)?;
            conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        }
        conn.pragma_update(None, "journal_mode", "WAL")?;
        conn.pragma_update(None, "synchronous", "FULL")?;
        conn.pragma_update(None, "cache_size", -WRITER_CACHE)?;
        conn.pragma_update(None, "journal_size_limit", WAL_KEPT)?;
        // The writer does it itself, and hears of its failures.
        conn.pragma_update(None, "wal_autocheckpoint", 0)?;
        migrate(&mut conn, found)
    })();
    prepared.map_err(opening)?;
    verify(&conn)?;
    Ok(conn)
}

/// Whether tables and indexes are declared as they were made.
pub(super) fn verify(conn: &Connection) -> Result<(), StoreError> {
    if objects(conn).map_err(opening)? != *expected().map_err(opening)? {
        return Err(StoreError::Damaged(format!("{FILE}: its schema")));
    }
    Ok(())
}

/// Tables and indexes, as they were declared.
fn objects(conn: &Connection) -> rusqlite::Result<Vec<(String, String, String)>> {
    let mut query = conn.prepare("SELECT name, tbl_name, sql FROM sqlite_schema ORDER BY name")?;
    let objects = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    objects.collect()
}

/// The same of a new database, which is made once.
fn expected() -> rusqlite::Result<&'static Vec<(String, String, String)>> {
    static EXPECTED: OnceLock<Vec<(String, String, String)>> = OnceLock::new();
    if let Some(expected) = EXPECTED.get() {
        return Ok(expected);
    }
    let conn = Connection::open_in_memory()?;
    MIGRATIONS
        .iter()
        .try_for_each(|step| conn.execute_batch(step))?;
    let made = objects(&conn)?;
    Ok(EXPECTED.get_or_init(|| made))
}

/// Makes numbers that are given out from now on others than those of a store with the same past.
pub(super) fn begin_life(conn: &Connection) -> rusqlite::Result<()> {
    let life: i64 = conn.query_row("SELECT random()", [], |row| row.get(0))?;
    let sum = codec::checksum(Table::Meta, &[LIFE, life], &[]);
    let sql = "INSERT OR REPLACE INTO meta VALUES (?1, ?2, ?3)";
    conn.execute(sql, [LIFE, life, sum]).map(drop)
}

fn migrate(conn: &mut Connection, found: u32) -> rusqlite::Result<()> {
    if found == VERSION {
        return Ok(());
    }
    let tx = conn.transaction()?;
    for step in &MIGRATIONS[found as usize..] {
        tx.execute_batch(step)?;
    }
    if found == 0 {
        for key in [NEXT_BATCH, NEXT_WORKER] {
            let sum = codec::checksum(Table::Meta, &[key, 1], &[]);
            tx.execute("INSERT INTO meta VALUES (?1, 1, ?2)", [key, sum])?;
        }
        begin_life(&tx)?;
    }
    if found < 2 {
        namespaces::begin(&tx)?;
    }
    tx.pragma_update(None, "user_version", VERSION)?;
    tx.pragma_update(None, "application_id", APPLICATION | VERSION)?;
    tx.commit()
}

/// Opens a database for reading that a writer keeps open or has left whole.
pub(super) fn open_reader(path: &Path, vfs: Option<&str>) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = connect(path, flags, vfs)?;
    conn.pragma_update(None, "cache_size", -READER_CACHE)
        .map_err(opening)?;
    Ok(conn)
}

fn connect(path: &Path, flags: OpenFlags, vfs: Option<&str>) -> Result<Connection, StoreError> {
    let conn = match vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs),
        None => Connection::open_with_flags(path, flags),
    };
    let conn = conn.map_err(opening)?;
    conn.set_prepared_statement_cache_capacity(128);
    let prepared = conn
        .busy_timeout(std::time::Duration::from_millis(BUSY_MS))
        // What the file says of its pages is not believed.
        .and_then(|()| conn.pragma_update(None, "cell_size_check", true))
        .and_then(|()| conn.pragma_update(None, "trusted_schema", false));
    prepared.map_err(opening)?;
    Ok(conn)
}

/// The value of a pragma.
pub(super) fn number(conn: &Connection, pragma: &str) -> rusqlite::Result<i64> {
    conn.pragma_query_value(None, pragma, |row| row.get(0))
}

/// Why a database cannot be opened.
pub(super) fn opening(error: rusqlite::Error) -> StoreError {
    // What is done to open a database is the same for all: an error without a code of its own is
    // the file's.
    let unknown = error.sqlite_error_code() == Some(rusqlite::ErrorCode::Unknown);
    match unknown || rows::is_damage(&error) {
        true => StoreError::Damaged(format!("{FILE}: {error}")),
        false => StoreError::Disk(format!("{FILE}: {error}")),
    }
}
