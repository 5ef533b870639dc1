//! Reads single records, for the writer as for readers; every checksum is verified here.

use std::ops::Range;

use optwasm_protocol::ContentId;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row};

use super::codec::{self, Head, ResultRow, State, Table};
use crate::StoreError;

/// Why a record could not be read or written.
#[derive(Debug)]
pub(super) enum Failure {
    /// SQLite says no.
    Sql(rusqlite::Error),
    /// It is not what was written.
    Damaged(String),
    /// What was to be written makes no sense.
    Invalid(String),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Failure::Sql(error)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Sql(error) if is_damage(&error) => StoreError::Damaged(error.to_string()),
            Failure::Sql(error) => StoreError::Disk(error.to_string()),
            Failure::Damaged(what) => StoreError::Damaged(what),
            Failure::Invalid(what) => StoreError::Fatal(what),
        }
    }
}

/// Whether the file is not what SQLite has written; a column of another type is that too.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match error {
        rusqlite::Error::SqliteFailure(error, _) => {
            matches!(error.code, DatabaseCorrupt | NotADatabase)
                || error.extended_code == rusqlite::ffi::SQLITE_IOERR_DATA
        }
        rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::Utf8Error(..)
        | rusqlite::Error::IntegralValueOutOfRange(..) => true,
        _ => false,
    }
}

impl Failure {
    /// Whether something is not what was written.
    pub fn is_damage(&self) -> bool {
        match self {
            Failure::Sql(error) => is_damage(error),
            Failure::Damaged(_) => true,
            Failure::Invalid(_) => false,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Sql(error) => error.fmt(f),
            Failure::Damaged(what) | Failure::Invalid(what) => f.write_str(what),
        }
    }
}

pub(super) type Read<T> = Result<T, Failure>;

/// Names of numbers in `meta`.
pub(super) const NEXT_BATCH: i64 = 1;
pub(super) const NEXT_WORKER: i64 = 2;
/// Not a next number, but which life of the store this is.
pub(super) const LIFE: i64 = 3;

/// A column's bytes. A text passes for its bytes, so that a damaged type shows in the checksum.
pub(super) fn bytes<'a>(row: &'a Row<'_>, column: usize) -> rusqlite::Result<&'a [u8]> {
    match row.get_ref(column)? {
        ValueRef::Blob(bytes) | ValueRef::Text(bytes) => Ok(bytes),
        other => Err(rusqlite::Error::InvalidColumnType(
            column,
            String::new(),
            other.data_type(),
        )),
    }
}

fn damaged<T>(what: impl Into<String>) -> Read<T> {
    Err(Failure::Damaged(what.into()))
}

/// A number that outlives what it counts.
pub(super) fn meta(conn: &Connection, key: i64) -> Read<Option<i64>> {
    let mut query = conn.prepare_cached("SELECT value, sum FROM meta WHERE key = ?1")?;
    let found: Option<(i64, i64)> = query
        .query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match found {
        Some((value, sum)) if codec::checksum(Table::Meta, &[key, value], &[]) == sum => {
            Ok(Some(value))
        }
        Some(_) => damaged(format!("number {key}")),
        None => Ok(None),
    }
}

/// What was written once of a batch.
pub(super) fn head(conn: &Connection, batch: u64) -> Read<Option<Head>> {
    let mut query =
        conn.prepare_cached("SELECT head, sum, key, namespace FROM batches WHERE batch = ?1")?;
    let mut rows = query.query([batch as i64])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let body = bytes(row, 0)?;
    let whole = codec::checksum(Table::Batches, &[batch as i64], body) == row.get::<_, i64>(1)?;
    let head = whole.then(|| codec::from_cbor::<Head>(body)).flatten();
    match head {
        // Key and namespace are in the head as well, for which the checksum vouches.
        Some(head)
            if head.spec.id == row.get::<_, Option<String>>(2)?
                && head.namespace.number() as i64 == row.get::<_, i64>(3)? =>
        {
            Ok(Some(head))
        }
        _ => damaged(format!("batch {batch}")),
    }
}

/// What changes of a batch.
pub(super) fn state(conn: &Connection, batch: u64) -> Read<Option<State>> {
    let mut query = conn.prepare_cached("SELECT ended, body, sum FROM states WHERE batch = ?1")?;
    let mut rows = query.query([batch as i64])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let (ended, body) = (row.get(0)?, bytes(row, 1)?);
    let sum = codec::checksum(Table::States, &[batch as i64, ended], body);
    let whole = sum == row.get::<_, i64>(2)?;
    match whole.then(|| codec::from_cbor(body)).flatten() {
        Some(state) => Ok(Some(state)),
        None => damaged(format!("counters of batch {batch}")),
    }
}

/// A result from a row of `job, done, outcome, attempt, flags, fuel, body, sum`; `None` where it is
/// damaged.
pub(super) fn result_row(row: &Row<'_>) -> rusqlite::Result<Option<ResultRow>> {
    let read = || {
        let result = ResultRow {
            job: row.get(0)?,
            done: row.get(1)?,
            outcome: row.get(2)?,
            attempt: row.get(3)?,
            flags: row.get(4)?,
            fuel: row.get::<_, i64>(5)? as u64,
            body: bytes(row, 6)?.to_vec(),
        };
        let sum: i64 = row.get(7)?;
        Ok((result.checksum() == sum).then_some(result))
    };
    match read() {
        Err(error) if is_damage(&error) => Ok(None),
        other => other,
    }
}

/// A job's result.
pub(super) fn result(conn: &Connection, job: i64) -> Read<Option<ResultRow>> {
    let mut query = conn.prepare_cached(
        "SELECT job, done, outcome, attempt, flags, fuel, body, sum FROM results WHERE job = ?1",
    )?;
    let mut rows = query.query([job])?;
    match rows.next()?.map(result_row).transpose()? {
        None => Ok(None),
        Some(Some(row)) => Ok(Some(row)),
        Some(None) => damaged(format!("result of job {}", codec::job_of(job))),
    }
}

/// A job's key, and what one of its records holds.
type Body = (i64, Vec<u8>);

/// The records of one table that have a job and a number (`attempts`, `witnesses`, `limits`), of
/// jobs whose keys are in a range; those that are damaged are left out and counted.
pub(super) fn bodies(
    conn: &Connection,
    table: Table,
    jobs: std::ops::RangeInclusive<i64>,
) -> Read<(Vec<Body>, u64)> {
    let name = match table {
        Table::Attempts => "attempts",
        Table::Witnesses => "witnesses",
        _ => "limits",
    };
    let sql = format!(
        "SELECT job, nr, body, sum FROM {name} WHERE job BETWEEN ?1 AND ?2 ORDER BY job, nr"
    );
    let mut query = conn.prepare_cached(&sql)?;
    let mut rows = query.query([jobs.start(), jobs.end()])?;
    let (mut found, mut damaged) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let body = bytes(row, 2)?;
        let job = row.get(0)?;
        if codec::checksum(table, &[job, row.get(1)?], body) == row.get::<_, i64>(3)? {
            found.push((job, body.to_vec()));
        } else {
            damaged += 1;
        }
    }
    Ok((found, damaged))
}

/// A blob's size, and when it was last used, in milliseconds since 1970.
pub(super) fn blob(conn: &Connection, id: &ContentId) -> Read<Option<(u64, i64)>> {
    let mut query = conn.prepare_cached("SELECT size, used, sum FROM blobs WHERE id = ?1")?;
    let found: Option<(i64, i64, i64)> = query
        .query_row([id.as_bytes()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    match found {
        Some((size, used, sum))
            if codec::checksum(Table::Blobs, &[size, used], id.as_bytes()) == sum =>
        {
            Ok(Some((size as u64, used)))
        }
        Some(_) => damaged(format!("record of blob {id}")),
        None => Ok(None),
    }
}

/// Ascending disjoint ranges of ascending numbers.
pub(super) fn ranges(numbers: impl IntoIterator<Item = u32>) -> Vec<Range<u32>> {
    let mut ranges: Vec<Range<u32>> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some(last) if last.end == number => last.end += 1,
            _ => ranges.push(number..number + 1),
        }
    }
    ranges
}
