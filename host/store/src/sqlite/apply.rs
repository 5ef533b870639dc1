//! What each record changes: everything here happens inside the writer's transaction.
//!
//! The writer is the only one that writes, so it may keep what it has read: of each batch in
//! use the counters and what decides about its memo. Counters go to the disk once per transaction.
//! After a transaction that failed, [`Applier::forget`] drops all of it.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use optwasm_protocol::message::Memo;
use optwasm_protocol::{
    BatchId, ContentId, Instances, JobId, Limits, Namespace, Outcome, Payload, Profile, Report,
    Template, WorkerId,
};
use rusqlite::{Connection, params};

use super::codec::{self, BATCH_MAX, Chunk, Head, ResultRow, State, Table, job_key, keys_of};
use super::namespaces::Entry;
use super::rows::{self, Failure, NEXT_BATCH, NEXT_WORKER, Read};
use crate::{Committed, NewBatch, Record};

/// Batches whose counters are kept; a few hundred bytes each.
const LIVE_MAX: usize = 1024;

/// The writing connection, and what is known of what is behind it.
pub(super) struct Applier {
    pub conn: Connection,
    live: HashMap<u64, Live>,
    /// By the numbers of their namespaces.
    pub(super) accounts: HashMap<i64, Entry>,
    /// Keys of the jobs of the chunk that was last asked for.
    pub(super) keys: Option<(i64, Vec<u8>)>,
    /// How many jobs wait for another's result.
    pub(super) followers: i64,
    /// Whether there are results that wait for others to come to the same.
    witnesses: bool,
    /// Batches that were removed and still have rows.
    pub(super) removing: BTreeSet<u64>,
    /// Number of the next attempt, witness or limits.
    nr: i64,
    /// Bytes of all blobs.
    pub(super) blob_bytes: i64,
    /// Whether something that readers keep has changed.
    pub(super) stale: bool,
}

/// A batch in use.
pub(super) struct Live {
    pub namespace: Namespace,
    pub jobs: u32,
    /// Whether its jobs have memo keys.
    pub shares: bool,
    pub engine: String,
    pub state: State,
    dirty: bool,
}

impl Live {
    fn new(head: &Head, state: State) -> Self {
        Self {
            namespace: head.namespace.clone(),
            jobs: head.jobs,
            shares: shares(&head.spec, &head.engine),
            engine: head.engine.clone(),
            state,
            dirty: false,
        }
    }
}

/// Whether a batch's jobs have memo keys.
pub(super) fn shares(spec: &optwasm_protocol::message::BatchSpec, engine: &str) -> bool {
    let Template {
        profile, instances, ..
    } = &spec.template;
    spec.memo != Memo::Off
        && *profile != Profile::Timed
        && !matches!(instances, Instances::Kept(_))
        && !engine.is_empty()
}

impl Applier {
    pub fn new(conn: Connection) -> Read<Self> {
        let mut applier = Self {
            conn,
            live: HashMap::new(),
            accounts: HashMap::new(),
            keys: None,
            followers: 0,
            witnesses: false,
            removing: BTreeSet::new(),
            nr: 0,
            blob_bytes: 0,
            stale: false,
        };
        applier.forget()?;
        Ok(applier)
    }

    /// Forgets what a failed transaction left in memory, and reads it anew. What cannot be read
    /// is taken as the case that costs time and no more.
    pub fn forget(&mut self) -> Read<()> {
        self.live.clear();
        self.keys = None;
        self.load_accounts()?;
        let number = |sql: &str| -> Read<Option<i64>> {
            match self.conn.query_row(sql, [], |row| row.get(0)) {
                Ok(number) => Ok(number),
                Err(error) if rows::is_damage(&error) => Ok(None),
                Err(error) => Err(error.into()),
            }
        };
        self.followers = number("SELECT count(*) FROM followers")?.unwrap_or(i64::MAX / 2);
        self.witnesses = number("SELECT count(*) FROM witnesses LIMIT 1")? != Some(0);
        self.blob_bytes = number("SELECT coalesce(sum(size), 0) FROM blobs")?.unwrap_or(0);
        let mut nr = 0;
        for table in ["attempts", "witnesses", "limits"] {
            let sql = format!("SELECT coalesce(max(nr), 0) FROM {table}");
            // Numbers that cannot be read are below this one, of which there is no end.
            nr = nr.max(number(&sql)?.unwrap_or(1 << 60));
        }
        self.nr = nr + 1;
        self.removing.clear();
        let mut query = self.conn.prepare_cached("SELECT batch FROM removing")?;
        let mut rows = query.query([])?;
        while let Ok(Some(row)) = rows.next() {
            self.removing.insert(row.get::<_, i64>(0)? as u64);
        }
        Ok(())
    }

    /// Writes the counters of the batches and namespaces that have changed.
    pub fn flush(&mut self) -> Read<()> {
        for (batch, live) in &mut self.live {
            if std::mem::take(&mut live.dirty) {
                let mut replace = self
                    .conn
                    .prepare_cached("INSERT OR REPLACE INTO states VALUES (?1, ?2, ?3, ?4)")?;
                let (batch, ended) = (*batch as i64, live.state.ended_ms as i64);
                let body = codec::to_cbor(&live.state);
                let sum = codec::checksum(Table::States, &[batch, ended], &body);
                replace.execute(params![batch, ended, body, sum])?;
            }
        }
        if self.live.len() > LIVE_MAX {
            self.live.clear();
        }
        self.flush_accounts()
    }

    /// Makes one change.
    pub fn apply(&mut self, record: &Record, out: &mut Committed) -> Read<()> {
        match record {
            Record::Submitted(new) => self.submit(new, out),
            Record::Result(job, report, engine) => self.result(*job, report, engine, out),
            Record::Witness(job, witness) => {
                self.witnesses = true;
                self.spend(job.0, witness.report.fuel, witness.report.wall_us)?;
                self.add_body(
                    Table::Witnesses,
                    *job,
                    &codec::to_cbor(&(witness.worker, &witness.report)),
                )
            }
            Record::Attempt(job, end) => self.add_body(Table::Attempts, *job, &codec::to_cbor(end)),
            Record::Spent(batch, fuel, slot_us) => self.spend(*batch, *fuel, *slot_us),
            Record::Quota(namespace, quota) => {
                self.change_account(namespace, |account| account.quota = *quota);
                Ok(())
            }
            Record::Compared(batch, same) => self.change(*batch, |state| match same {
                true => state.confirmed += 1,
                false => state.contradicted += 1,
            }),
            Record::Cancelled(batch) => {
                self.change(*batch, |state| state.cancelled = true)?;
                // They end with what the caller appends, or run if they are reopened.
                let keys = keys_of(batch.0);
                self.drop_followers(*keys.start(), *keys.end())
            }
            Record::Ended(batch, ms) => self.change(*batch, |state| state.ended_ms = *ms),
            Record::Reopened(batch, jobs, limits) => self.reopen(*batch, jobs, *limits),
            Record::Removed(batch) => self.remove(*batch, out),
            Record::Worker(WorkerId(worker), info) => {
                let (worker, body) = (*worker as i64, codec::to_cbor(info));
                let sum = codec::checksum(Table::Workers, &[worker], &body);
                self.execute(
                    "INSERT OR REPLACE INTO workers VALUES (?1, ?2, ?3)",
                    params![worker, body, sum],
                )?;
                self.raise(NEXT_WORKER, worker + 1)
            }
            Record::Holds(WorkerId(worker), holds) => {
                let (worker, body) = (*worker as i64, codec::encode_holds(holds));
                let sum = codec::checksum(Table::Holds, &[worker], &body);
                self.execute(
                    "INSERT OR REPLACE INTO holds SELECT ?1, ?2, ?3
                     WHERE EXISTS (SELECT 1 FROM workers WHERE worker = ?1)",
                    params![worker, body, sum],
                )
            }
            Record::WorkerGone(WorkerId(worker)) => {
                for table in ["workers", "holds"] {
                    let sql = format!("DELETE FROM {table} WHERE worker = ?1");
                    self.execute(&sql, [*worker as i64])?;
                }
                Ok(())
            }
        }
    }

    pub(super) fn execute(&self, sql: &str, params: impl rusqlite::Params) -> Read<()> {
        self.conn.prepare_cached(sql)?.execute(params)?;
        Ok(())
    }

    /// A batch in use. `None` where it is not kept, or so damaged that it cannot be used.
    pub(super) fn batch(&mut self, batch: u64) -> Read<Option<&mut Live>> {
        if !self.live.contains_key(&batch) {
            let found = rows::head(&self.conn, batch)
                .and_then(|head| Ok(head.zip(rows::state(&self.conn, batch)?)));
            match found {
                Ok(Some((head, state))) => {
                    self.live.insert(batch, Live::new(&head, state));
                }
                Ok(None) => return Ok(None),
                Err(Failure::Damaged(what)) => {
                    tracing::error!(batch, "damaged on disk: {what}");
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(self.live.get_mut(&batch))
    }

    fn change(&mut self, BatchId(batch): BatchId, change: impl FnOnce(&mut State)) -> Read<()> {
        if let Some(live) = self.batch(batch)? {
            change(&mut live.state);
            live.dirty = true;
        }
        Ok(())
    }

    /// Bills a batch's namespace for an attempt.
    fn spend(&mut self, BatchId(batch): BatchId, fuel: u64, slot_us: u64) -> Read<()> {
        if let Some(live) = self.batch(batch)? {
            let namespace = live.namespace.clone();
            self.bill(&namespace, fuel, slot_us);
        }
        Ok(())
    }

    /// Raises a number that outlives what it counts.
    fn raise(&self, key: i64, value: i64) -> Read<()> {
        if let Ok(Some(now)) = rows::meta(&self.conn, key)
            && now >= value
        {
            return Ok(());
        }
        let sum = codec::checksum(Table::Meta, &[key, value], &[]);
        self.execute(
            "INSERT OR REPLACE INTO meta VALUES (?1, ?2, ?3)",
            [key, value, sum],
        )
    }

    fn submit(&mut self, new: &NewBatch, out: &mut Committed) -> Read<()> {
        let BatchId(number) = new.batch;
        let jobs = u32::try_from(new.inputs.len());
        let (Ok(jobs), 1..=BATCH_MAX) = (jobs, number) else {
            let count = new.inputs.len();
            return Err(Failure::Invalid(format!("batch {number} of {count} jobs")));
        };
        let head = Head {
            namespace: new.namespace.clone(),
            spec: new.spec.clone(),
            jobs,
            digest: new.digest,
            engine: new.engine.clone(),
            submitted_ms: new.submitted_ms,
        };
        let batch = number as i64;
        let body = codec::to_cbor(&head);
        let sum = codec::checksum(Table::Batches, &[batch], &body);
        self.execute(
            "INSERT INTO batches VALUES (?1, ?2, ?3, ?4, ?5)",
            params![batch, new.spec.id, body, sum, new.namespace.number() as i64],
        )?;
        let mut first = 0;
        while first < new.inputs.len() {
            let (count, body) = Chunk::encode(&new.inputs[first..]);
            let key = job_key(JobId(new.batch, first as u32));
            let sum = codec::checksum(Table::Chunks, &[key], &body);
            self.execute(
                "INSERT INTO chunks VALUES (?1, ?2, ?3)",
                params![key, body, sum],
            )?;
            first += count;
        }
        let state = State {
            input_bytes: new.bytes(),
            ..State::default()
        };
        let bytes = state.bytes();
        let mut live = Live::new(&head, state);
        live.dirty = true;
        self.live.insert(number, live);
        self.change_account(&new.namespace, |_| {});
        self.count_bytes(new.namespace.number() as i64, bytes);
        let template = &new.spec.template;
        let mut blobs = BTreeSet::from([template.module]);
        blobs.extend(template.blobs.iter().map(|(_, id)| *id));
        blobs.extend(new.inputs.iter().filter_map(|input| match input {
            Payload::Blob(_, id) => Some(*id),
            Payload::Inline(_) => None,
        }));
        for id in &blobs {
            self.refer(number, id)?;
        }
        self.raise(NEXT_BATCH, batch + 1)?;
        if shares(&new.spec, &new.engine) {
            self.share(new, out)?;
        }
        Ok(())
    }

    /// Notes that a batch needs a blob.
    pub(super) fn refer(&mut self, batch: u64, id: &ContentId) -> Read<()> {
        let Some(live) = self.batch(batch)? else {
            return Ok(());
        };
        let namespace = live.namespace.number() as i64;
        self.gain_blob(namespace, id)?;
        let sum = codec::checksum_of_ref(batch as i64, namespace, id.as_bytes());
        self.execute(
            "INSERT OR IGNORE INTO blob_refs VALUES (?1, ?2, ?3, ?4)",
            params![batch as i64, id.as_bytes(), sum, namespace],
        )
    }

    fn result(
        &mut self,
        job: JobId,
        report: &Report,
        engine: &str,
        out: &mut Committed,
    ) -> Read<()> {
        let row = ResultRow::new(job_key(job), report);
        let Some((row, namespace)) = self.add_result(row)? else {
            return Ok(());
        };
        self.bill_result(&namespace, report);
        if let Outcome::Ok(Payload::Blob(_, id)) = &report.outcome {
            self.refer(job.0.0, id)?;
        }
        self.decided(&row, engine, out)
    }

    /// Adds a job's first result, and gives it its place; says whose it is. `None` where it has one or
    /// there is no such job.
    pub(super) fn add_result(
        &mut self,
        mut row: ResultRow,
    ) -> Read<Option<(ResultRow, Namespace)>> {
        let JobId(BatchId(batch), index) = codec::job_of(row.job);
        let Some(live) = self.batch(batch)? else {
            return Ok(None);
        };
        if index >= live.jobs {
            return Ok(None);
        }
        let namespace = live.namespace.clone();
        let seq = live.state.seq;
        let Some(next) = seq.checked_add(1) else {
            return Err(Failure::Invalid(format!(
                "batch {batch} has had 2^32 results"
            )));
        };
        row.done = job_key(JobId(BatchId(batch), seq));
        let mut insert = self.conn.prepare_cached(
            "INSERT OR IGNORE INTO results VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        let added = insert.execute(params![
            row.job,
            row.done,
            row.outcome,
            row.attempt,
            row.flags,
            row.fuel as i64,
            row.body,
            row.checksum(),
        ])?;
        drop(insert);
        if added == 0 {
            return Ok(None);
        }
        if let Some(live) = self.live.get_mut(&batch) {
            live.state.seq = next;
            live.state.add(&row);
            live.dirty = true;
        }
        self.count_bytes(namespace.number() as i64, row.body.len() as i64);
        if self.witnesses {
            let size = "SELECT coalesce(sum(length(body)), 0) FROM witnesses WHERE job = ?1";
            let size: i64 = {
                let mut query = self.conn.prepare_cached(size)?;
                query.query_row([row.job], |row| row.get(0))?
            };
            self.execute("DELETE FROM witnesses WHERE job = ?1", [row.job])?;
            self.count_history(batch, -size)?;
        }
        self.drop_followers(row.job, row.job)?;
        Ok(Some((row, namespace)))
    }

    /// Adds an attempt, a witness, or limits.
    fn add_body(&mut self, table: Table, job: JobId, body: &[u8]) -> Read<()> {
        match self.batch(job.0.0)? {
            Some(live) if job.1 < live.jobs => {}
            _ => return Ok(()),
        }
        let (batch, job, nr) = (job.0.0, job_key(job), self.nr);
        self.nr += 1;
        let sum = codec::checksum(table, &[job, nr], body);
        let sql = match table {
            Table::Attempts => "INSERT INTO attempts VALUES (?1, ?2, ?3, ?4)",
            Table::Witnesses => "INSERT INTO witnesses VALUES (?1, ?2, ?3, ?4)",
            _ => "INSERT INTO limits VALUES (?1, ?2, ?3, ?4)",
        };
        self.execute(sql, params![job, nr, body, sum])?;
        self.count_history(batch, body.len() as i64)
    }

    fn count_history(&mut self, batch: u64, more: i64) -> Read<()> {
        let Some(live) = self.batch(batch)? else {
            return Ok(());
        };
        let before = live.state.bytes();
        live.state.history_bytes = live.state.history_bytes.saturating_add_signed(more);
        live.dirty = true;
        let (more, namespace) = (live.state.bytes() - before, live.namespace.number());
        self.count_bytes(namespace as i64, more);
        Ok(())
    }

    fn reopen(&mut self, id: BatchId, jobs: &[Range<u32>], limits: Option<Limits>) -> Read<()> {
        let BatchId(batch) = id;
        let Some(live) = self.batch(batch)? else {
            return Ok(());
        };
        let (count, shares) = (live.jobs, live.shares);
        let mut damaged = false;
        for range in jobs {
            let end = range.end.min(count);
            if range.start >= end {
                continue;
            }
            let (first, last) = (job_key(JobId(id, range.start)), job_key(JobId(id, end - 1)));
            damaged |= self.take_results(batch, first, last)?;
            if shares {
                self.unshare(first, last)?;
            }
        }
        if damaged {
            self.recount(batch)?;
        }
        if let Some(limits) = limits
            && count > 0
        {
            self.add_body(
                Table::Limits,
                JobId(id, 0),
                &codec::to_cbor(&(jobs, limits)),
            )?;
        }
        self.stale = true;
        self.change(id, |state| {
            state.cancelled = false;
            state.ended_ms = 0;
        })
    }

    /// Drops results; tells whether some were damaged, so that counters are not right any more.
    fn take_results(&mut self, batch: u64, first: i64, last: i64) -> Read<bool> {
        let mut damaged = false;
        let (mut state, namespace) = match self.batch(batch)? {
            Some(live) => (std::mem::take(&mut live.state), live.namespace.number()),
            None => return Ok(false),
        };
        let before = state.bytes();
        let mut query = self.conn.prepare_cached(
            "SELECT job, done, outcome, attempt, flags, fuel, body, sum
             FROM results NOT INDEXED WHERE job BETWEEN ?1 AND ?2",
        )?;
        let mut rows = query.query([first, last])?;
        while let Some(row) = rows.next()? {
            match rows::result_row(row)? {
                Some(row) => state.take(&row),
                None => damaged = true,
            }
        }
        drop(rows);
        drop(query);
        self.execute(
            "DELETE FROM results WHERE job BETWEEN ?1 AND ?2",
            [first, last],
        )?;
        self.count_bytes(namespace as i64, state.bytes() - before);
        if let Some(live) = self.live.get_mut(&batch) {
            live.state = state;
            live.dirty = true;
        }
        Ok(damaged)
    }

    /// Counts a batch's results anew.
    pub(super) fn recount(&mut self, batch: u64) -> Read<()> {
        let Some(live) = self.batch(batch)? else {
            return Ok(());
        };
        let (state, namespace) = (live.state.clone(), live.namespace.number());
        let counted = recount(&self.conn, batch, &state)?;
        self.count_bytes(namespace as i64, counted.bytes() - state.bytes());
        self.change(BatchId(batch), |state| *state = counted)
    }

    /// Drops the notes that jobs wait for another's result.
    pub(super) fn drop_followers(&mut self, first: i64, last: i64) -> Read<()> {
        if self.followers > 0 {
            let mut delete = self
                .conn
                .prepare_cached("DELETE FROM followers WHERE job BETWEEN ?1 AND ?2")?;
            self.followers -= delete.execute([first, last])? as i64;
        }
        Ok(())
    }

    /// Forgets what it knows of a batch.
    pub(super) fn drop_live(&mut self, batch: u64) {
        self.live.remove(&batch);
    }
}

/// What a batch's counters are by its results; a damaged result counts as one that ended so.
pub(super) fn recount(conn: &Connection, batch: u64, state: &State) -> Read<State> {
    let mut counted = State {
        done: 0,
        outcomes: Vec::new(),
        fuel: 0,
        memo: 0,
        result_bytes: 0,
        set: 0,
        ..state.clone()
    };
    let mut query = conn.prepare_cached(
        "SELECT job, done, outcome, attempt, flags, fuel, body, sum
         FROM results NOT INDEXED WHERE job BETWEEN ?1 AND ?2",
    )?;
    let keys = keys_of(batch);
    let mut rows = query.query([keys.start(), keys.end()])?;
    while let Some(row) = rows.next()? {
        let result = match rows::result_row(row)? {
            Some(result) => result,
            None => ResultRow {
                job: row.get(0)?,
                done: row.get(1).unwrap_or(0),
                outcome: codec::DAMAGED,
                attempt: 0,
                flags: 0,
                fuel: 0,
                body: Vec::new(),
            },
        };
        let seq = codec::job_of(result.done).1;
        if keys.contains(&result.done) {
            counted.seq = counted.seq.max(seq.saturating_add(1));
        }
        counted.add(&result);
    }
    Ok(counted)
}
