//! Finds what the disk has damaged in a store that nobody has open, and puts it aside.
//!
//! Four things are looked at: what SQLite says of its file, the checksum of every record, whether
//! records agree with each other (counters with results, chunks with the number of jobs), and the
//! content of every blob. After a repair nothing of what was found is left, except blobs that are
//! missing: they can be sent again.

mod contents;
mod references;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use optwasm_protocol::{BatchId, ContentId, JobId, Outcome, Payload, Report};
use rusqlite::types::Value;
use rusqlite::{Connection, params};

use super::apply::{Applier, recount};
use super::codec::{self, Chunk, Head, ResultRow, Table, job_key, keys_of};
use super::reader::after_gap;
use super::rebuild::rebuild;
use super::rows::{self, Failure, NEXT_BATCH, NEXT_WORKER, Read};
use super::schema;
use crate::StoreError;

/// The folder where repair puts damaged blobs.
const ASIDE: &str = "damaged";

/// What a check has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Batches that were looked at.
    pub batches: u64,
    /// Results that were looked at.
    pub results: u64,
    /// Blobs that were looked at.
    pub blobs: u64,
    /// What is damaged. Empty where all is well.
    pub damage: Vec<Damage>,
}

/// Something that is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What it is.
    pub what: String,
    /// The batch that it belongs to, where it belongs to one.
    pub batch: Option<BatchId>,
    /// The jobs of that batch that are affected, as ascending disjoint ranges of indices.
    pub jobs: Vec<Range<u32>>,
}

impl fmt::Display for Damage {
    /// One line, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(batch) = self.batch {
            write!(f, "batch {batch}, ")?;
        }
        for (place, range) in self.jobs.iter().enumerate() {
            let word = if place == 0 { "jobs " } else { "" };
            match range.end - range.start {
                1 => write!(f, "{word}{}, ", range.start)?,
                _ => write!(f, "{word}{} to {}, ", range.start, range.end - 1)?,
            }
        }
        f.write_str(&self.what)
    }
}

/// Looks at every record and blob of the store in `dir`, which nobody may have open.
///
/// With `repair`, what is damaged is put aside, so that the store opens and serves the rest: a
/// damaged result becomes one that says so, and its job can be run again; a job whose input is
/// damaged has ended like that too; a batch of which it is not known any more what was submitted
/// is removed, and what is left of it kept in the table `damaged`; counters and references to
/// blobs are made anew; damaged blobs are moved to `damaged/`. Where the file itself is broken, all
/// that can be read of it is copied to a new one, and the old one kept as `store.sqlite.damaged`.
///
/// # Errors
///
/// [`StoreError::Newer`], [`StoreError::Disk`]; [`StoreError::Damaged`] where repair does not help.
pub fn check(dir: &Path, repair: bool) -> Result<CheckReport, StoreError> {
    let path = dir.join(schema::FILE);
    if !path.exists() {
        let what = format!("there is no {}", path.display());
        return Err(StoreError::Disk(what));
    }
    let mut report = CheckReport::default();
    let (conn, mut broken) = match schema::open_writer(&path, None) {
        Ok(conn) => {
            let broken = structure(&conn)?;
            (Some(conn), broken)
        }
        Err(StoreError::Damaged(what)) => (None, vec![what]),
        Err(error) => return Err(error),
    };
    let whole = broken.is_empty();
    for what in broken.drain(..) {
        report.add(what, None, Vec::new());
    }
    let conn = match conn {
        Some(conn) if whole || !repair => conn,
        None if !repair => return Ok(report),
        conn => {
            drop(conn);
            rebuild(dir)?;
            schema::open_writer(&path, None)?
        }
    };
    let mut check = Check {
        applier: Applier::new(conn)?,
        dir: dir.to_owned(),
        repair,
        report,
    };
    if repair {
        check.applier.execute("BEGIN IMMEDIATE", [])?;
    }
    check.all()?;
    if repair {
        check.applier.flush()?;
        check.applier.execute("COMMIT", [])?;
    }
    let conn = &check.applier.conn;
    let closed = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    match closed {
        Err(error) if repair => return Err(Failure::from(error).into()),
        _ => {}
    }
    Ok(check.report)
}

/// What SQLite itself says of its file, if it finds fault with it.
fn structure(conn: &Connection) -> Read<Vec<String>> {
    let complaints = || -> rusqlite::Result<Vec<String>> {
        let mut query = conn.prepare("PRAGMA integrity_check(100)")?;
        let lines = query.query_map([], |row| row.get::<_, String>(0))?;
        lines.collect()
    };
    let mut found = match complaints() {
        Ok(lines) => lines,
        Err(error) if rows::is_damage(&error) => vec![error.to_string()],
        Err(error) => return Err(error.into()),
    };
    found.retain(|line| line != "ok");
    if conn.is_readonly("main")? {
        found.push("it says that it must not be written".to_owned());
    }
    for line in &mut found {
        *line = format!("{}: {line}", schema::FILE);
    }
    Ok(found)
}

impl CheckReport {
    fn add(&mut self, what: impl Into<String>, batch: Option<u64>, jobs: Vec<Range<u32>>) {
        self.damage.push(Damage {
            what: what.into(),
            batch: batch.map(BatchId),
            jobs,
        });
    }
}

struct Check {
    applier: Applier,
    dir: PathBuf,
    repair: bool,
    report: CheckReport,
}

/// Tables of whose rows nothing is left when they are damaged: the columns that the checksum
/// covers, and what is lost with a row.
const SIMPLE: [(&str, Table, &str, &str, &str); 13] = [
    ("meta", Table::Meta, "key, value", "NULL", "a next number"),
    ("keys", Table::Keys, "first", "body", "memo keys"),
    ("attempts", Table::Attempts, "job, nr", "body", "an attempt"),
    (
        "witnesses",
        Table::Witnesses,
        "job, nr",
        "body",
        "a witness",
    ),
    ("limits", Table::Limits, "job, nr", "body", "changed limits"),
    ("memo", Table::Memo, "job", "key", "a memo entry"),
    ("workers", Table::Workers, "worker", "body", "a worker"),
    (
        "holds",
        Table::Holds,
        "worker",
        "body",
        "what a worker holds",
    ),
    (
        "blobs",
        Table::Blobs,
        "size, used",
        "id",
        "the record of a blob",
    ),
    (
        "blob_refs",
        Table::BlobRefs,
        "batch, namespace",
        "id",
        "a reference to a blob",
    ),
    (
        "namespaces",
        Table::Namespaces,
        "nr",
        "body",
        "what a namespace may have and has used",
    ),
    (
        "uploads",
        Table::Uploads,
        "namespace, used",
        "id",
        "a namespace's upload",
    ),
    (
        "removing",
        Table::Removing,
        "batch",
        "NULL",
        "a batch that was removed",
    ),
];

impl Check {
    /// Everything after the file itself. What cannot be read because that is broken has been
    /// reported with it.
    fn all(&mut self) -> Result<(), StoreError> {
        let broken = !self.report.damage.is_empty();
        let parts: [fn(&mut Self) -> Read<()>; 5] = [
            Self::simple_tables,
            Self::numbers,
            Self::batches,
            Self::orphans,
            Self::followers,
        ];
        for part in parts {
            match part(self) {
                Err(failure) if broken && failure.is_damage() && !self.repair => {}
                other => other?,
            }
        }
        if self.repair && !self.report.damage.is_empty() {
            self.references()?;
        }
        self.blobs()
    }

    fn conn(&self) -> &Connection {
        &self.applier.conn
    }

    fn simple_tables(&mut self) -> Read<()> {
        for (name, table, columns, body, what) in SIMPLE {
            let count = columns.split(',').count();
            let sql = format!("SELECT {columns}, {body}, sum FROM {name} NOT INDEXED");
            let mut query = self.applier.conn.prepare(&sql)?;
            let mut rows = query.query([])?;
            let mut bad: Vec<Vec<Value>> = Vec::new();
            while let Some(row) = rows.next()? {
                let numbers = (0..count).map(|column| row.get::<_, i64>(column));
                let numbers = numbers.collect::<rusqlite::Result<Vec<i64>>>();
                let whole = numbers.is_ok_and(|numbers| {
                    let body = rows::bytes(row, count).unwrap_or_default();
                    let sum = match (table, &numbers[..]) {
                        (Table::BlobRefs, [batch, namespace]) => {
                            codec::checksum_of_ref(*batch, *namespace, body)
                        }
                        _ => codec::checksum(table, &numbers, body),
                    };
                    row.get::<_, i64>(count + 1).is_ok_and(|found| found == sum)
                });
                if !whole {
                    let values = (0..count + 2).map(|column| row.get(column));
                    bad.push(values.collect::<rusqlite::Result<_>>()?);
                }
            }
            drop(rows);
            drop(query);
            for values in bad {
                self.simple(name, table, columns, body, what, &values)?;
            }
        }
        Ok(())
    }

    /// A damaged row of a simple table.
    fn simple(
        &mut self,
        name: &str,
        table: Table,
        columns: &str,
        body: &str,
        what: &str,
        values: &[Value],
    ) -> Read<()> {
        let first = match values.first() {
            Some(Value::Integer(number)) => Some(*number),
            _ => None,
        };
        let of_job = matches!(table, Table::Attempts | Table::Witnesses | Table::Memo);
        let of_batch = matches!(table, Table::Keys | Table::Limits);
        let (batch, jobs) = match first {
            Some(job) if of_job && job >= 0 => {
                let JobId(BatchId(batch), index) = codec::job_of(job);
                (Some(batch), rows::ranges([index]))
            }
            Some(job) if of_batch && job >= 0 => (Some(codec::job_of(job).0.0), Vec::new()),
            _ => (None, Vec::new()),
        };
        self.report
            .add(format!("{what} (table {name})"), batch, jobs);
        if !self.repair {
            return Ok(());
        }
        // By all of its columns: its keys may be another row's.
        let columns = columns.split(", ").chain([body, "sum"]);
        let conditions: Vec<String> = columns.map(|column| format!("{column} IS ?")).collect();
        let sql = format!("DELETE FROM {name} WHERE {}", conditions.join(" AND "));
        let values = rusqlite::params_from_iter(values);
        self.conn().prepare(&sql)?.execute(values)?;
        match (table, first) {
            // Entries of which it is not known what they stand for must not answer anybody.
            (Table::Keys, Some(first)) => {
                let last = first.saturating_add(codec::CHUNK_JOBS as i64 - 1);
                let sql = "DELETE FROM memo WHERE job BETWEEN ?1 AND ?2";
                self.applier.execute(sql, [first, last])
            }
            (Table::Removing, Some(batch)) => {
                let known = rows::head(self.conn(), batch as u64);
                match known {
                    Ok(None) => self.forget(batch),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// The next numbers of batches and workers, which every store has.
    fn numbers(&mut self) -> Read<()> {
        for key in [NEXT_BATCH, NEXT_WORKER] {
            if let Ok(Some(_)) = rows::meta(self.conn(), key) {
                continue;
            }
            if self.repair {
                let next = after_gap(self.conn(), key)? as i64;
                let sum = codec::checksum(Table::Meta, &[key, next], &[]);
                let sql = "INSERT OR REPLACE INTO meta VALUES (?1, ?2, ?3)";
                self.applier.execute(sql, [key, next, sum])?;
            } else if self.report.damage.is_empty() {
                self.report
                    .add("a next number is missing", None, Vec::new());
            }
        }
        Ok(())
    }

    fn list(&self, sql: &str) -> Read<Vec<i64>> {
        let mut query = self.conn().prepare(sql)?;
        let numbers = query.query_map([], |row| row.get(0))?;
        Ok(numbers.collect::<rusqlite::Result<_>>()?)
    }

    fn batches(&mut self) -> Read<()> {
        let sql = "SELECT batch FROM batches UNION SELECT batch FROM states ORDER BY 1";
        for batch in self.list(sql)? {
            self.report.batches += 1;
            match self.batch(batch as u64) {
                Err(failure) if failure.is_damage() => {
                    let what = format!("all of it: {failure}");
                    self.report.add(what, Some(batch as u64), Vec::new());
                    if self.repair {
                        self.put_aside(batch)?;
                    }
                }
                other => other?,
            }
        }
        Ok(())
    }

    /// Removes a batch of which it is not known what was submitted.
    fn put_aside(&mut self, batch: i64) -> Read<()> {
        self.applier.execute(
            "INSERT INTO damaged(what, body)
             SELECT 'batch ' || batch, head FROM batches WHERE batch = ?1",
            [batch],
        )?;
        for table in ["batches", "states"] {
            let sql = format!("DELETE FROM {table} WHERE batch = ?1");
            self.applier.execute(&sql, [batch])?;
        }
        self.forget(batch)
    }

    /// Has the rows of a batch deleted when the store is open again.
    fn forget(&mut self, batch: i64) -> Read<()> {
        self.applier.drop_live(batch as u64);
        let sum = codec::checksum(Table::Removing, &[batch], &[]);
        self.applier.execute(
            "INSERT OR REPLACE INTO removing VALUES (?1, ?2)",
            [batch, sum],
        )
    }

    fn batch(&mut self, batch: u64) -> Read<()> {
        let head = rows::head(self.conn(), batch)?
            .ok_or_else(|| Failure::Damaged("what was submitted is missing".to_owned()))?;
        let state = match rows::state(self.conn(), batch) {
            Ok(state) => state,
            Err(failure) if failure.is_damage() => None,
            Err(failure) => return Err(failure),
        };
        let lost = self.results(batch, head.jobs)?;
        if self.repair {
            for job in &lost {
                self.applier
                    .execute("DELETE FROM results WHERE job = ?1", [*job])?;
            }
        }
        let before = state.clone().unwrap_or_default();
        let counted = recount(self.conn(), batch, &before)?;
        let agree = state.as_ref().is_some_and(|state| state.agrees(&counted));
        if !agree && lost.is_empty() {
            self.report.add("its counters", Some(batch), Vec::new());
        }
        if !agree && self.repair {
            let (key, ended) = (batch as i64, counted.ended_ms as i64);
            let body = codec::to_cbor(&counted);
            let sum = codec::checksum(Table::States, &[key, ended], &body);
            self.applier.execute(
                "INSERT OR REPLACE INTO states VALUES (?1, ?2, ?3, ?4)",
                params![key, ended, body, sum],
            )?;
            self.applier.drop_live(batch);
        }
        let inputs = self.inputs(batch, &head)?;
        if self.repair {
            let lost = lost.into_iter().filter(|job| keys_of(batch).contains(job));
            let inputs = inputs.into_iter().flatten();
            let inputs = inputs.map(|index| job_key(JobId(BatchId(batch), index)));
            for job in lost.chain(inputs) {
                // A job that has a result keeps it.
                let what = format!("job {}", codec::job_of(job));
                let report = Report::not_run(Outcome::Damaged(what));
                self.applier.add_result(ResultRow::new(job, &report))?;
            }
        }
        Ok(())
    }

    /// Results that are damaged, or of jobs that there are not.
    fn results(&mut self, batch: u64, jobs: u32) -> Read<Vec<i64>> {
        let keys = keys_of(batch);
        let mut lost = Vec::new();
        let mut query = self.applier.conn.prepare_cached(
            "SELECT job, done, outcome, attempt, flags, fuel, body, sum
             FROM results NOT INDEXED WHERE job BETWEEN ?1 AND ?2",
        )?;
        let mut rows = query.query([keys.start(), keys.end()])?;
        while let Some(row) = rows.next()? {
            self.report.results += 1;
            let job: i64 = row.get(0)?;
            let whole = rows::result_row(row)?.is_some_and(|row| row.report().is_some());
            if !whole || codec::job_of(job).1 >= jobs {
                lost.push(job);
            }
        }
        drop(rows);
        drop(query);
        if !lost.is_empty() {
            let jobs = rows::ranges(lost.iter().map(|job| codec::job_of(*job).1));
            self.report.add("results", Some(batch), jobs);
        }
        Ok(lost)
    }

    /// Jobs whose inputs are damaged or missing. With repair, chunks that say so take their place.
    fn inputs(&mut self, batch: u64, head: &Head) -> Read<Vec<Range<u32>>> {
        let keys = keys_of(batch);
        let (mut whole, mut damaged) = (Vec::new(), Vec::new());
        let mut query = self.applier.conn.prepare_cached(
            "SELECT first, body, sum FROM chunks WHERE first BETWEEN ?1 AND ?2 ORDER BY first",
        )?;
        let mut rows = query.query([keys.start(), keys.end()])?;
        while let Some(row) = rows.next()? {
            let first: i64 = row.get(0)?;
            let body = rows::bytes(row, 1)?;
            let sum = codec::checksum(Table::Chunks, &[first], body);
            if row.get::<_, i64>(2).is_ok_and(|found| found == sum) {
                let index = codec::job_of(first).1;
                let chunk = Chunk::new(index, body.to_vec());
                whole.push((index, index.saturating_add(chunk.len())));
            } else {
                damaged.push(first);
            }
        }
        drop(rows);
        drop(query);
        let (mut lost, mut next) = (Vec::new(), 0);
        for (start, end) in whole.into_iter().chain([(head.jobs, head.jobs)]) {
            if start > next {
                lost.push(next..start);
            }
            next = next.max(end);
        }
        if !lost.is_empty() || !damaged.is_empty() {
            self.report.add("inputs", Some(batch), lost.clone());
        }
        if self.repair {
            for first in damaged {
                self.applier
                    .execute("DELETE FROM chunks WHERE first = ?1", [first])?;
            }
            for range in &lost {
                for first in range.clone().step_by(codec::CHUNK_JOBS) {
                    let count = ((range.end - first) as usize).min(codec::CHUNK_JOBS);
                    let key = job_key(JobId(BatchId(batch), first));
                    let body = Chunk::encode_lost(count);
                    let sum = codec::checksum(Table::Chunks, &[key], &body);
                    self.applier.execute(
                        "INSERT INTO chunks VALUES (?1, ?2, ?3)",
                        params![key, body, sum],
                    )?;
                }
            }
        }
        Ok(lost)
    }
}
