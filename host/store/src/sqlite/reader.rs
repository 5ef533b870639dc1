//! Answers questions from what is committed.
//!
//! One connection that cannot write. It keeps the last few chunks of inputs, which are asked for
//! in about ascending order, and of the batches they are from their number of jobs and changed
//! limits; both are dropped when the writer says that they may have changed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use optwasm_protocol::message::{AttemptEnd, Order, ResultPage, WorkerInfo};
use optwasm_protocol::{
    BatchId, ContentId, JobId, Limits, Namespace, Outcome, Payload, Report, WorkerId,
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::codec::{self, Chunk, DAMAGED, Head, State, Table, job_key, keys_of};
use super::room::Room;
use super::rows::{self, Failure, LIFE, NEXT_BATCH, NEXT_WORKER, Read};
use crate::{BatchSummary, Restored, RestoredBatch, RestoredWorker, Witness};

/// Chunks that are kept: 4 MiB, and a batch for each of several workers.
const CHUNKS: usize = 16;

/// Batches of which the number of jobs and the changed limits are kept.
const BATCHES: usize = 256;

/// How far the numbers of a store whose own note of them is damaged are set beyond the largest that
/// is found: more than can have been used and removed since the last one that is left.
const GAP: u64 = 1 << 20;

pub(super) struct Reader {
    pub conn: Connection,
    room: Arc<Room>,
    generation: u64,
    chunks: VecDeque<(u64, Chunk)>,
    batches: HashMap<u64, Known>,
}

/// What is kept of a batch.
struct Known {
    jobs: u32,
    limits: Vec<(Vec<Range<u32>>, Limits)>,
}

/// A bit for each job of a batch.
struct Set(Vec<u64>);

impl Set {
    fn new(jobs: u32) -> Self {
        Self(vec![0; (jobs as usize).div_ceil(64)])
    }

    fn insert(&mut self, index: u32) {
        if let Some(word) = self.0.get_mut(index as usize / 64) {
            *word |= 1 << (index % 64);
        }
    }

    fn ranges(&self) -> Vec<Range<u32>> {
        let words = self.0.iter().zip((0u32..).step_by(64));
        rows::ranges(words.flat_map(|(word, first)| {
            let mut word = *word;
            std::iter::from_fn(move || {
                let bit = (word != 0).then(|| word.trailing_zeros())?;
                word &= word - 1;
                Some(first + bit)
            })
        }))
    }
}

fn holds(ranges: &[Range<u32>], index: u32) -> bool {
    let place = ranges.partition_point(|range| range.end <= index);
    ranges.get(place).is_some_and(|range| range.start <= index)
}

/// The report in place of one that cannot be read.
fn damaged_report(what: &str) -> Report {
    Report::not_run(Outcome::Damaged(what.to_owned()))
}

/// What could be read; what could not is logged, for methods that have no error.
pub(super) fn logged<T: Default>(read: Read<T>) -> T {
    read.unwrap_or_else(|failure| {
        tracing::error!("the store cannot be read: {failure}");
        T::default()
    })
}

impl Reader {
    pub fn new(conn: Connection, room: Arc<Room>) -> Self {
        Self {
            conn,
            room,
            generation: 0,
            chunks: VecDeque::new(),
            batches: HashMap::new(),
        }
    }

    fn refresh(&mut self) {
        let generation = self.room.generation.load(Ordering::Acquire);
        if self.generation != generation {
            self.generation = generation;
            self.chunks.clear();
            self.batches.clear();
        }
    }

    fn known(&mut self, batch: u64) -> Read<Option<&Known>> {
        self.refresh();
        if !self.batches.contains_key(&batch) {
            let Some(head) = rows::head(&self.conn, batch)? else {
                return Ok(None);
            };
            let (bodies, damaged) = rows::bodies(&self.conn, Table::Limits, keys_of(batch))?;
            if damaged > 0 {
                tracing::error!(batch, "changed limits are damaged on disk");
            }
            let limits = bodies.iter().filter_map(|(_, body)| codec::from_cbor(body));
            let known = Known {
                jobs: head.jobs,
                limits: limits.collect(),
            };
            if self.batches.len() >= BATCHES {
                self.batches.clear();
            }
            self.batches.insert(batch, known);
        }
        Ok(self.batches.get(&batch))
    }

    pub fn input(&mut self, job: JobId) -> Read<Option<Payload>> {
        let JobId(BatchId(batch), index) = job;
        match self.known(batch)? {
            Some(known) if index < known.jobs => {}
            _ => return Ok(None),
        }
        let missing = || Failure::Damaged(format!("input of job {job}"));
        let mut kept = self.chunks.iter();
        let found = kept.find(|(of, chunk)| *of == batch && chunk.holds(index));
        if let Some((_, chunk)) = found {
            return chunk.get(index).map(Some).ok_or_else(missing);
        }
        let chunk = chunk(&self.conn, job)?.filter(|chunk| chunk.holds(index));
        let chunk = chunk.ok_or_else(missing)?;
        let input = chunk.get(index).ok_or_else(missing)?;
        if self.chunks.len() >= CHUNKS {
            self.chunks.pop_front();
        }
        self.chunks.push_back((batch, chunk));
        Ok(Some(input))
    }

    pub fn limits(&mut self, JobId(BatchId(batch), index): JobId) -> Read<Option<Limits>> {
        let Some(known) = self.known(batch)? else {
            return Ok(None);
        };
        let mut latest = known.limits.iter().rev();
        let found = latest.find(|(ranges, _)| holds(ranges, index));
        Ok(found.map(|(_, limits)| *limits))
    }

    pub fn memory(&mut self, BatchId(batch): BatchId) -> Read<u64> {
        let Some(head) = rows::head(&self.conn, batch)? else {
            return Ok(0);
        };
        let template = head.spec.template.limits.memory;
        let Some(known) = self.known(batch)? else {
            return Ok(template);
        };
        let changed = known.limits.iter().map(|(_, limits)| limits.memory);
        Ok(changed.fold(template, u64::max))
    }

    fn both(&self, batch: u64) -> Read<Option<(Head, State)>> {
        let Some(head) = rows::head(&self.conn, batch)? else {
            return Ok(None);
        };
        match rows::state(&self.conn, batch)? {
            Some(state) => Ok(Some((head, state))),
            None => Err(Failure::Damaged(format!("batch {batch} has no counters"))),
        }
    }

    pub fn batch(&self, BatchId(batch): BatchId) -> Read<Option<BatchSummary>> {
        let Some((head, state)) = self.both(batch)? else {
            return Ok(None);
        };
        let outcomes = (0..).zip(&state.outcomes).filter(|(_, count)| **count > 0);
        let outcomes: BTreeMap<String, u32> = outcomes
            .map(|(number, count)| (codec::outcome_name(number).to_owned(), *count))
            .collect();
        Ok(Some(BatchSummary {
            namespace: head.namespace,
            spec: head.spec,
            jobs: head.jobs,
            done: state.done,
            outcomes,
            fuel: u64::try_from(state.fuel).unwrap_or(u64::MAX),
            memo: state.memo,
            confirmed: state.confirmed,
            contradicted: state.contradicted,
            cancelled: state.cancelled,
            submitted_ms: head.submitted_ms,
            ended_ms: state.ended_ms,
        }))
    }

    fn numbers(&self, sql: &str, params: impl rusqlite::Params) -> Read<Vec<BatchId>> {
        let mut query = self.conn.prepare_cached(sql)?;
        let found = query.query_map(params, |row| Ok(BatchId(row.get::<_, i64>(0)? as u64)))?;
        Ok(found.collect::<rusqlite::Result<_>>()?)
    }

    pub fn batches(&self, limit: usize) -> Read<Vec<BatchId>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut found = self.numbers(
            "SELECT batch FROM batches ORDER BY batch DESC LIMIT ?1",
            [limit],
        )?;
        found.reverse();
        Ok(found)
    }

    pub fn ended_before(&self, ms: u64, limit: usize) -> Read<Vec<BatchId>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let before = i64::try_from(ms).unwrap_or(i64::MAX);
        self.numbers(
            "SELECT batch FROM states WHERE ended >= 1 AND ended < ?1 ORDER BY ended LIMIT ?2",
            [before, limit],
        )
    }

    pub fn batches_of(&self, namespace: &Namespace, limit: usize) -> Read<Vec<BatchId>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut found = self.numbers(
            "SELECT batch FROM batches WHERE namespace = ?1 ORDER BY batch DESC LIMIT ?2",
            [namespace.number() as i64, limit],
        )?;
        found.reverse();
        Ok(found)
    }

    pub fn batch_by_key(
        &self,
        namespace: &Namespace,
        key: &str,
    ) -> Read<Option<(BatchId, [u8; 32])>> {
        let mut query = self
            .conn
            .prepare_cached("SELECT batch FROM batches WHERE namespace = ?1 AND key = ?2")?;
        let found: Option<i64> = query
            .query_row(params![namespace.number() as i64, key], |row| row.get(0))
            .optional()?;
        let Some(batch) = found.map(|batch| batch as u64) else {
            return Ok(None);
        };
        let head = rows::head(&self.conn, batch)?;
        Ok(head.map(|head| (BatchId(batch), head.digest)))
    }

    /// Whether a batch is not kept. Rows of a removed one may still be there; a damaged one has
    /// what is left of it.
    fn is_gone(&mut self, BatchId(batch): BatchId) -> bool {
        matches!(self.known(batch), Ok(None))
    }

    pub fn result(&mut self, job: JobId) -> Read<Option<Report>> {
        if self.is_gone(job.0) {
            return Ok(None);
        }
        match rows::result(&self.conn, job_key(job)) {
            Ok(None) => Ok(None),
            Ok(Some(row)) => Ok(Some(
                row.report().unwrap_or_else(|| damaged_report("result")),
            )),
            Err(failure) => Ok(Some(damaged_report(&failure.to_string()))),
        }
    }

    fn bodies(&self, table: Table, jobs: RangeInclusive<i64>) -> Read<Vec<(i64, Vec<u8>)>> {
        let (bodies, damaged) = rows::bodies(&self.conn, table, jobs)?;
        if damaged > 0 {
            tracing::error!(damaged, "attempts or witnesses are damaged on disk");
        }
        Ok(bodies)
    }

    fn bodies_of(&mut self, table: Table, job: JobId) -> Read<Vec<(i64, Vec<u8>)>> {
        match self.is_gone(job.0) {
            true => Ok(Vec::new()),
            false => self.bodies(table, job_key(job)..=job_key(job)),
        }
    }

    pub fn attempts(&mut self, job: JobId) -> Read<Vec<AttemptEnd>> {
        let bodies = self.bodies_of(Table::Attempts, job)?;
        let ends = bodies.iter().filter_map(|(_, body)| codec::from_cbor(body));
        Ok(ends.collect())
    }

    pub fn witnesses(&mut self, job: JobId) -> Read<Vec<Witness>> {
        let bodies = self.bodies_of(Table::Witnesses, job)?;
        let witnesses = bodies.iter().filter_map(|(_, body)| {
            let (worker, report): (WorkerId, Report) = codec::from_cbor(body)?;
            Some(Witness { worker, report })
        });
        Ok(witnesses.collect())
    }

    pub fn results(
        &self,
        BatchId(batch): BatchId,
        order: Order,
        cursor: u32,
        max_bytes: usize,
    ) -> Read<Option<ResultPage>> {
        let Some((head, state)) = self.both(batch)? else {
            return Ok(None);
        };
        let mut page = ResultPage {
            cursor,
            ..ResultPage::default()
        };
        let sql = match order {
            Order::Input => {
                "SELECT job, done, outcome, attempt, flags, fuel, body, sum
                 FROM results NOT INDEXED WHERE job BETWEEN ?1 AND ?2 ORDER BY job"
            }
            Order::Completion => {
                "SELECT job, done, outcome, attempt, flags, fuel, body, sum
                 FROM results INDEXED BY results_by_done WHERE done BETWEEN ?1 AND ?2
                 ORDER BY done"
            }
        };
        let mut query = self.conn.prepare_cached(sql)?;
        let from = job_key(JobId(BatchId(batch), cursor));
        let mut rows = query.query([from, *keys_of(batch).end()])?;
        let mut bytes = 0;
        while bytes < max_bytes {
            let Some(row) = rows.next()? else {
                if order == Order::Completion {
                    page.cursor = page.cursor.max(state.seq);
                }
                break;
            };
            let (job, done): (i64, i64) = (row.get(0)?, row.get(1)?);
            let index = codec::job_of(job).1;
            let cursor = match order {
                Order::Input if index != page.cursor => break,
                Order::Input => index,
                Order::Completion => codec::job_of(done).1,
            };
            if let Some(report) = self.page_report(row, done, order)? {
                bytes += report.size();
                page.results.push((index, report));
            }
            page.cursor = cursor.saturating_add(1);
        }
        let end = match order {
            Order::Input => head.jobs,
            Order::Completion => state.seq,
        };
        page.last = state.done == head.jobs && page.cursor >= end;
        Ok(Some(page))
    }

    /// The report of a row of a page. `None` where the index was wrong, and the result has another
    /// place.
    fn page_report(&self, row: &Row<'_>, done: i64, order: Order) -> Read<Option<Report>> {
        if let Some(result) = rows::result_row(row)? {
            let report = result.report();
            return Ok(Some(report.unwrap_or_else(|| damaged_report("result"))));
        }
        if order == Order::Completion
            && let Ok(Some(result)) = rows::result(&self.conn, row.get(0)?)
            && result.done != done
        {
            return Ok(None);
        }
        let job = codec::job_of(row.get(0)?);
        Ok(Some(damaged_report(&format!("result of job {job}"))))
    }

    pub fn ended_jobs(
        &self,
        BatchId(batch): BatchId,
        outcomes: Option<&[String]>,
    ) -> Read<Vec<Range<u32>>> {
        let Some((head, state)) = self.both(batch)? else {
            return Ok(Vec::new());
        };
        ended(&self.conn, batch, &head, &state, outcomes)
    }

    /// What a coordinator that starts has to know.
    pub fn restore(&self) -> Read<Restored> {
        let mut restored = Restored {
            // One that is damaged is as good as another life.
            life: rows::meta(&self.conn, LIFE).ok().flatten().unwrap_or(0) as u64,
            next_batch: self.next_number(NEXT_BATCH)?,
            next_worker: self.next_number(NEXT_WORKER)?,
            ..Restored::default()
        };
        let unended = self.numbers("SELECT batch FROM states WHERE ended = 0", [])?;
        // A batch whose counters are lost is in neither.
        let lost = self.numbers(
            "SELECT batch FROM batches WHERE batch NOT IN (SELECT batch FROM states)",
            [],
        )?;
        for batch in unended.into_iter().chain(lost) {
            match self.restore_batch(batch) {
                Ok(Some(batch)) => restored.batches.push(batch),
                Ok(None) => {}
                Err(Failure::Damaged(what)) => {
                    let what = format!("batch {batch} is left out: {what}");
                    restored.damaged.push(what);
                }
                Err(Failure::Sql(error)) if rows::is_damage(&error) => {
                    let what = format!("batch {batch} is left out: {error}");
                    restored.damaged.push(what);
                }
                Err(failure) => return Err(failure),
            }
        }
        restored.batches.sort_by_key(|batch| batch.batch);
        if let Err(failure) = self.restore_workers(&mut restored) {
            let what = format!("some workers are left out: {failure}");
            restored.damaged.push(what);
        }
        Ok(restored)
    }

    fn next_number(&self, key: i64) -> Read<u64> {
        match rows::meta(&self.conn, key) {
            Ok(Some(next)) => return Ok(next as u64),
            Ok(None) | Err(Failure::Damaged(_)) => {}
            Err(error) => return Err(error),
        }
        tracing::error!("the next number is damaged on disk: a gap is left");
        after_gap(&self.conn, key)
    }

    fn restore_batch(&self, id: BatchId) -> Read<Option<RestoredBatch>> {
        let BatchId(batch) = id;
        let head = rows::head(&self.conn, batch)?
            .ok_or_else(|| Failure::Damaged("what was submitted is missing".to_owned()))?;
        let state = rows::state(&self.conn, batch)?
            .ok_or_else(|| Failure::Damaged("its counters are missing".to_owned()))?;
        if state.ended_ms > 0 {
            return Ok(None);
        }
        let finished = ended(&self.conn, batch, &head, &state, None)?;
        let mut query = self
            .conn
            .prepare_cached("SELECT job, key, sum FROM followers WHERE job BETWEEN ?1 AND ?2")?;
        let keys = keys_of(batch);
        let mut rows = query.query([keys.start(), keys.end()])?;
        let mut parked = Vec::new();
        while let Some(row) = rows.next()? {
            let job: i64 = row.get(0)?;
            let sum = codec::checksum(Table::Followers, &[job], rows::bytes(row, 1)?);
            let index = codec::job_of(job).1;
            // Whether a damaged row says the truth is not known: the job runs.
            if sum == row.get::<_, i64>(2)? && !holds(&finished, index) {
                parked.push(index);
            }
        }
        let attempts = self.bodies(Table::Attempts, keys)?;
        let attempts = attempts.iter().filter_map(|(job, body)| {
            let index = codec::job_of(*job).1;
            let end = codec::from_cbor(body)?;
            (!holds(&finished, index)).then_some((index, end))
        });
        Ok(Some(RestoredBatch {
            batch: id,
            namespace: head.namespace,
            spec: head.spec,
            jobs: head.jobs,
            attempts: attempts.collect(),
            parked: rows::ranges(parked),
            finished,
        }))
    }

    fn restore_workers(&self, restored: &mut Restored) -> Read<()> {
        let mut query = self.conn.prepare_cached(
            "SELECT worker, workers.body, workers.sum, holds.body, holds.sum
             FROM workers LEFT JOIN holds USING (worker) ORDER BY worker",
        )?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let worker: i64 = row.get(0)?;
            let body = rows::bytes(row, 1)?;
            let whole = codec::checksum(Table::Workers, &[worker], body) == row.get::<_, i64>(2)?;
            let Some(info) = whole
                .then(|| codec::from_cbor::<WorkerInfo>(body))
                .flatten()
            else {
                restored
                    .damaged
                    .push(format!("worker {worker} is left out"));
                continue;
            };
            let holds = match row.get::<_, Option<i64>>(4)? {
                None => Some(Vec::new()),
                Some(sum) => {
                    let body = rows::bytes(row, 3)?;
                    let whole = codec::checksum(Table::Holds, &[worker], body) == sum;
                    whole.then(|| codec::decode_holds(body)).flatten()
                }
            };
            if holds.is_none() {
                let what = format!("what worker {worker} holds is not known");
                restored.damaged.push(what);
            }
            restored.workers.push(RestoredWorker {
                worker: WorkerId(worker as u64),
                info,
                holds: holds.unwrap_or_default(),
            });
        }
        Ok(())
    }

    pub fn blob(&self, id: &ContentId) -> Read<Option<(u64, i64)>> {
        rows::blob(&self.conn, id)
    }
}

/// A next number that has surely not been used, where the note of it is lost.
pub(super) fn after_gap(conn: &Connection, key: i64) -> Read<u64> {
    let sql = match key {
        NEXT_BATCH => {
            "SELECT max(ifnull((SELECT max(batch) FROM batches), 0),
                        ifnull((SELECT max(batch) FROM states), 0),
                        ifnull((SELECT max(batch) FROM removing), 0),
                        ifnull((SELECT max(first) >> 32 FROM chunks), 0),
                        ifnull((SELECT max(job) >> 32 FROM results), 0))"
        }
        _ => "SELECT ifnull(max(worker), 0) FROM workers",
    };
    let last: i64 = conn.query_row(sql, [], |row| row.get(0))?;
    Ok(last.max(0) as u64 + GAP)
}

/// The chunk that has a job's input, if it is whole. Its first job is at or before this one; whether
/// it reaches as far is not checked.
pub(super) fn chunk(conn: &Connection, job: JobId) -> Read<Option<Chunk>> {
    let mut query = conn.prepare_cached(
        "SELECT first, body, sum FROM chunks WHERE first BETWEEN ?1 AND ?2
         ORDER BY first DESC LIMIT 1",
    )?;
    let mut rows = query.query([*keys_of(job.0.0).start(), job_key(job)])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let first: i64 = row.get(0)?;
    let body = rows::bytes(row, 1)?;
    if codec::checksum(Table::Chunks, &[first], body) != row.get::<_, i64>(2)? {
        return Ok(None);
    }
    Ok(Some(Chunk::new(codec::job_of(first).1, body.to_vec())))
}

/// Jobs that have ended with one of these outcomes, or with any.
pub(super) fn ended(
    conn: &Connection,
    batch: u64,
    head: &Head,
    state: &State,
    outcomes: Option<&[String]>,
) -> Read<Vec<Range<u32>>> {
    let wanted = |number: i64| {
        let name = codec::outcome_name(number);
        outcomes.is_none_or(|names| names.iter().any(|wanted| wanted == name))
    };
    let keys = keys_of(batch);
    let mut found = Set::new(head.jobs);
    let (mut count, mut set) = (0, 0u64);
    let mut query = conn.prepare_cached(
        "SELECT job, done, outcome FROM results INDEXED BY results_by_done
         WHERE done BETWEEN ?1 AND ?2",
    )?;
    let mut rows = query.query([keys.start(), keys.end()])?;
    while let Some(row) = rows.next()? {
        let (job, outcome): (i64, i64) = (row.get(0)?, row.get(2)?);
        count += 1;
        set = set.wrapping_add(codec::mix(job, row.get(1)?, outcome));
        if wanted(outcome) {
            found.insert(codec::job_of(job).1);
        }
    }
    if count == state.done && set == state.set {
        return Ok(found.ranges());
    }
    // The index is damaged: the rows themselves have checksums.
    tracing::error!(batch, "the index of results is damaged on disk");
    let mut found = Set::new(head.jobs);
    let mut query = conn.prepare_cached(
        "SELECT job, done, outcome, attempt, flags, fuel, body, sum
         FROM results NOT INDEXED WHERE job BETWEEN ?1 AND ?2",
    )?;
    let mut rows = query.query([keys.start(), keys.end()])?;
    while let Some(row) = rows.next()? {
        let outcome = rows::result_row(row)?.map_or(DAMAGED, |result| result.outcome);
        if wanted(outcome) {
            found.insert(codec::job_of(row.get(0)?).1);
        }
    }
    Ok(found.ranges())
}
