//! Answers jobs by results of identical ones.
//!
//! A job's *memo key* is a hash of all that decides its result: the module, the input, everything
//! else of the template, and the engine; and of its namespace, since an answer that comes at once
//! would tell one user what another has run. Jobs of batches that allow it have keys, which `keys`
//! holds in order of their index; `memo` says which job *holds* a key: the one whose result
//! answers the others.
//!
//! - When a batch is submitted, each of its jobs looks for the holder of its key. One that has
//!   ended with a deterministic result answers it at once. One that has not makes it a *follower*,
//!   which is not run. Where there is none, or one that cannot answer, the job becomes the holder;
//!   jobs of one batch with one key find each other like this too.
//! - A deterministic result by the engine of the key answers all followers of the key in the same
//!   transaction.
//! - Any other result of a holder makes the first follower the holder, and it runs. So does the
//!   removal of the holder's batch.
//! - A job that is run again shares nothing from then on, since its limits may differ.
//! - `Memo::Refresh`: a job does not look, and becomes the holder.
//! - Batches with `verify` above 1 are answered only by results that as many workers have confirmed,
//!   wait for nobody, and become the holder where they are not answered.

use optwasm_protocol::message::Memo;
use optwasm_protocol::{
    BatchId, ContentId, Instances, JobId, Namespace, Outcome, Payload, Template,
};
use rusqlite::{Connection, OptionalExtension, params};

use super::apply::Applier;
use super::codec::{self, MEMO, ResultRow, Table, job_key};
use super::rows::{self, Failure, Read};
use crate::{Committed, NewBatch};

/// Version of the guest ABI (`docs/guest-abi.md`): another one would run jobs otherwise.
const ABI: u32 = 1;

/// Bytes of a key. Half a BLAKE3 hash: no two of 2^40 keys are the same by chance (2^-48).
pub(super) const KEY: usize = 16;

pub(super) type Key = [u8; KEY];

/// In place of the key of a job that shares nothing any more.
const NO_KEY: Key = [0; KEY];

/// What all keys of a batch have in common.
struct Prefix([u8; 32]);

impl Prefix {
    fn new(namespace: &Namespace, template: &Template, engine: &str) -> Self {
        // Snapshots make jobs faster and change nothing else.
        let template = Template {
            instances: Instances::Fresh,
            ..template.clone()
        };
        // In CBOR everything has its length before it, and fields have their order.
        let bytes = match namespace.is_default() {
            // As it was before there were others.
            true => codec::to_cbor(&(ABI, engine, &template)),
            false => codec::to_cbor(&(ABI, engine, &template, namespace)),
        };
        Self(*ContentId::of(&bytes).as_bytes())
    }

    fn key(&self, input: &Payload) -> Key {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&self.0);
        bytes[32..].copy_from_slice(input.content_id().as_bytes());
        let mut key = [0; KEY];
        key.copy_from_slice(&ContentId::of(&bytes).as_bytes()[..KEY]);
        key
    }
}

/// What becomes of a new job.
enum Fate {
    /// It may be answered by this job.
    Ask(i64),
    /// It waits for another of its batch.
    Follow,
}

impl Applier {
    /// Finds out which jobs of a new batch need not run.
    pub(super) fn share(&mut self, new: &NewBatch, out: &mut Committed) -> Read<()> {
        let prefix = Prefix::new(&new.namespace, &new.spec.template, &new.engine);
        let keys: Vec<Key> = new.inputs.iter().map(|input| prefix.key(input)).collect();
        self.write_keys(new, &keys)?;
        // In order of the keys, so that the table is gone through once.
        let mut order: Vec<u32> = (0..keys.len() as u32).collect();
        order.sort_unstable_by_key(|index| (keys[*index as usize], *index));
        let looks = new.spec.memo == Memo::On;
        let waits = looks && new.spec.verify <= 1;
        let mut fates = Vec::new();
        let mut before: Option<(Key, Option<i64>)> = None;
        let mut found = false;
        for index in order {
            let key = keys[index as usize];
            let job = job_key(JobId(new.batch, index));
            let holder = match before {
                // The one before has looked already.
                Some((same, holder)) if same == key => match holder {
                    None if waits => {
                        fates.push((index, Fate::Follow));
                        continue;
                    }
                    None => continue,
                    holder => holder,
                },
                _ if looks => {
                    let holder = self.holder_or_become(&key, job, found)?;
                    found = holder.is_some();
                    holder
                }
                _ => {
                    self.hold(&key, job)?;
                    None
                }
            };
            before = Some((key, holder));
            if let Some(holder) = holder {
                fates.push((index, Fate::Ask(holder)));
            }
        }
        fates.sort_unstable_by_key(|(index, _)| *index);
        self.settle(new, &keys, fates, out)
    }

    fn write_keys(&self, new: &NewBatch, keys: &[Key]) -> Read<()> {
        for (place, keys) in keys.chunks(codec::CHUNK_JOBS).enumerate() {
            let index = place * codec::CHUNK_JOBS;
            let first = job_key(JobId(new.batch, index as u32));
            self.write_key_row(first, keys.as_flattened())?;
        }
        Ok(())
    }

    fn write_key_row(&self, first: i64, keys: &[u8]) -> Read<()> {
        let sum = codec::checksum(Table::Keys, &[first], keys);
        self.execute(
            "INSERT OR REPLACE INTO keys VALUES (?1, ?2, ?3)",
            params![first, keys, sum],
        )
    }

    /// Carries out what was found, in order of the index.
    fn settle(
        &mut self,
        new: &NewBatch,
        keys: &[Key],
        fates: Vec<(u32, Fate)>,
        out: &mut Committed,
    ) -> Read<()> {
        let waits = new.spec.verify <= 1;
        let (mut answered, mut parked) = (Vec::new(), Vec::new());
        for (index, fate) in fates {
            let key = &keys[index as usize];
            let job = job_key(JobId(new.batch, index));
            if let Fate::Ask(holder) = fate {
                match self.answer(holder, job, new.spec.verify)? {
                    Answer::Given => {
                        answered.push(index);
                        continue;
                    }
                    Answer::Later if waits => {}
                    // An equal job of this batch has become the holder meanwhile.
                    _ if waits && holder_of(&self.conn, key)? != Some(holder) => {}
                    _ => {
                        self.hold(key, job)?;
                        continue;
                    }
                }
            }
            self.park(job, key)?;
            parked.push(index);
        }
        out.answered = rows::ranges(answered);
        out.parked = rows::ranges(parked);
        Ok(())
    }

    fn park(&mut self, job: i64, key: &Key) -> Read<()> {
        let sum = codec::checksum(Table::Followers, &[job], key);
        self.execute(
            "INSERT OR REPLACE INTO followers VALUES (?1, ?2, ?3)",
            params![job, key, sum],
        )?;
        self.followers += 1;
        Ok(())
    }

    /// Answers a job by another's result, where that has one to share.
    fn answer(&mut self, holder: i64, job: i64, verify: u32) -> Read<Answer> {
        let batch = codec::job_of(holder).0.0;
        if self.batch(batch)?.is_none() {
            return Ok(Answer::Never);
        }
        let row = match rows::result(&self.conn, holder) {
            Ok(Some(row)) => row,
            Ok(None) => return Ok(Answer::Later),
            Err(Failure::Damaged(_)) => return Ok(Answer::Never),
            Err(error) => return Err(error),
        };
        if !codec::is_deterministic(row.outcome) {
            return Ok(Answer::Never);
        }
        if verify > 1 {
            let report = row.report();
            let witnesses = report.map_or(0, |report| report.witnesses.len());
            if witnesses < verify as usize {
                return Ok(Answer::Never);
            }
        }
        self.copy(&row, job)?;
        Ok(Answer::Given)
    }

    /// Makes a job's result that of another; tells whether that had none.
    fn copy(&mut self, row: &ResultRow, job: i64) -> Read<bool> {
        let copy = ResultRow {
            job,
            attempt: 0,
            flags: row.flags | MEMO,
            ..row.clone()
        };
        let Some((copy, namespace)) = self.add_result(copy)? else {
            return Ok(false);
        };
        if let Some(report) = copy.report() {
            self.bill_result(&namespace, &report);
        }
        if copy.flags & codec::BLOB != 0
            && let Some(report) = copy.report()
            && let Outcome::Ok(Payload::Blob(_, id)) = &report.outcome
        {
            self.refer(codec::job_of(job).0.0, id)?;
        }
        Ok(true)
    }

    /// What a job's result means for others with its key.
    pub(super) fn decided(
        &mut self,
        row: &ResultRow,
        engine: &str,
        out: &mut Committed,
    ) -> Read<()> {
        let batch = codec::job_of(row.job).0.0;
        let Some(live) = self.batch(batch)? else {
            return Ok(());
        };
        if !live.shares {
            return Ok(());
        }
        let good = codec::is_deterministic(row.outcome) && engine == live.engine;
        if good && self.followers == 0 {
            return Ok(());
        }
        match self.key_of(row.job)? {
            Some(key) if good => self.follow(&key, row, out),
            Some(key) => self.let_go(&key, row.job, out),
            None => Ok(()),
        }
    }

    /// Answers all followers of a key.
    fn follow(&mut self, key: &Key, row: &ResultRow, out: &mut Committed) -> Read<()> {
        for (job, whole) in self.followers_of(key, i64::MAX)? {
            self.drop_followers(job, job)?;
            let id = codec::job_of(job);
            // A note that is damaged may be another key's: the job runs instead.
            if !whole {
                out.released.push(id);
            } else if self.copy(row, job)? {
                out.followed.push(id);
            }
        }
        Ok(())
    }

    /// A job has no result to share: the next one holds its key, if it has held it.
    pub(super) fn let_go(&mut self, key: &Key, job: i64, out: &mut Committed) -> Read<()> {
        if holder_of(&self.conn, key)?.is_some_and(|holder| holder != job) {
            return Ok(());
        }
        self.execute("DELETE FROM memo WHERE key = ?1", [key])?;
        if self.followers > 0
            && let Some((next, _)) = self.followers_of(key, 1)?.first().copied()
        {
            self.drop_followers(next, next)?;
            self.hold(key, next)?;
            out.released.push(codec::job_of(next));
        }
        Ok(())
    }

    /// Jobs that wait for the result of a key's holder, ascending, and whether their rows are whole.
    fn followers_of(&self, key: &Key, limit: i64) -> Read<Vec<(i64, bool)>> {
        let mut query = self.conn.prepare_cached(
            "SELECT job, sum FROM followers WHERE key = ?1 ORDER BY job LIMIT ?2",
        )?;
        let mut rows = query.query(params![key, limit])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let job = row.get(0)?;
            let whole = codec::checksum(Table::Followers, &[job], key) == row.get::<_, i64>(1)?;
            found.push((job, whole));
        }
        Ok(found)
    }

    /// Makes a job the holder of a key.
    fn hold(&self, key: &Key, job: i64) -> Read<()> {
        let sum = codec::checksum(Table::Memo, &[job], key);
        self.execute(
            "INSERT OR REPLACE INTO memo VALUES (?1, ?2, ?3)",
            params![key, job, sum],
        )
    }

    /// The holder of a key; where there is none, this job becomes it. One that is `expected`, since
    /// most batches are either new or not, is found with one statement in place of two.
    fn holder_or_become(&self, key: &Key, job: i64, expected: bool) -> Read<Option<i64>> {
        if expected && let Some(holder) = holder_of(&self.conn, key)? {
            return Ok(Some(holder));
        }
        let sum = codec::checksum(Table::Memo, &[job], key);
        let mut insert = self
            .conn
            .prepare_cached("INSERT OR IGNORE INTO memo VALUES (?1, ?2, ?3)")?;
        if insert.execute(params![key, job, sum])? == 1 {
            return Ok(None);
        }
        drop(insert);
        let holder = holder_of(&self.conn, key)?;
        if holder.is_none() {
            // The entry is damaged.
            self.hold(key, job)?;
        }
        Ok(holder)
    }

    /// A job's key. `None` where it shares nothing any more.
    fn key_of(&mut self, job: i64) -> Read<Option<Key>> {
        let (first, place) = key_place(job);
        if self.keys.as_ref().is_none_or(|keys| keys.0 != first) {
            self.keys = Some((first, self.key_row(first)?));
        }
        let keys = self.keys.as_ref().map(|keys| keys.1.as_slice());
        let key = keys.and_then(|keys| keys.as_chunks::<KEY>().0.get(place).copied());
        Ok(key.filter(|key| *key != NO_KEY))
    }

    /// The keys of one row. Where it is damaged its jobs share nothing from now on: entries of which
    /// it is not known what they stand for must not answer anybody.
    fn key_row(&self, first: i64) -> Read<Vec<u8>> {
        let mut query = self
            .conn
            .prepare_cached("SELECT body, sum FROM keys WHERE first = ?1")?;
        let mut rows = query.query([first])?;
        if let Some(row) = rows.next()? {
            let body = rows::bytes(row, 0)?;
            if codec::checksum(Table::Keys, &[first], body) == row.get::<_, i64>(1)? {
                return Ok(body.to_vec());
            }
        }
        tracing::error!(job = %codec::job_of(first), "memo keys are damaged on disk");
        self.execute(
            "DELETE FROM memo WHERE job BETWEEN ?1 AND ?2",
            [first, first + codec::CHUNK_JOBS as i64 - 1],
        )?;
        let keys = vec![0; codec::CHUNK_JOBS * KEY];
        self.write_key_row(first, &keys)?;
        Ok(keys)
    }

    /// Jobs in a range that are run again share nothing from now on.
    pub(super) fn unshare(&mut self, start: i64, last: i64) -> Read<()> {
        let mut job = start;
        while job <= last {
            let (first, place) = key_place(job);
            let mut keys = self.key_row(first)?;
            let count = (last - job + 1).min((codec::CHUNK_JOBS - place) as i64) as usize;
            let here = keys.as_chunks_mut::<KEY>().0.iter_mut().skip(place);
            for (key, job) in here.take(count).zip(job..) {
                self.execute(
                    "DELETE FROM memo WHERE key = ?1 AND job = ?2",
                    params![&*key, job],
                )?;
                *key = NO_KEY;
            }
            self.write_key_row(first, &keys)?;
            job = first + codec::CHUNK_JOBS as i64;
        }
        self.keys = None;
        Ok(())
    }

    /// The holders in a batch let go of their keys, where others wait for them.
    pub(super) fn let_go_all(&mut self, batch: u64, jobs: u32, out: &mut Committed) -> Read<()> {
        for index in 0..jobs {
            if self.followers == 0 {
                break;
            }
            let job = job_key(JobId(BatchId(batch), index));
            if let Some(key) = self.key_of(job)?
                && !self.followers_of(&key, 1)?.is_empty()
            {
                self.let_go(&key, job, out)?;
            }
        }
        Ok(())
    }

    /// Deletes the memo entries and keys of one row of a removed batch; tells whether there was one.
    pub(super) fn remove_keys(&mut self, batch: u64) -> Read<bool> {
        let range = codec::keys_of(batch);
        let first: Option<i64> = self
            .conn
            .prepare_cached("SELECT min(first) FROM keys WHERE first BETWEEN ?1 AND ?2")?
            .query_row([range.start(), range.end()], |row| row.get(0))?;
        let Some(first) = first else {
            return Ok(false);
        };
        let keys = self.key_row(first)?;
        let mut held: Vec<(&Key, i64)> = keys.as_chunks::<KEY>().0.iter().zip(first..).collect();
        held.sort_unstable();
        let mut delete = self
            .conn
            .prepare_cached("DELETE FROM memo WHERE key = ?1 AND job = ?2")?;
        for (key, job) in held {
            delete.execute(params![key, job])?;
        }
        drop(delete);
        self.execute("DELETE FROM keys WHERE first = ?1", [first])?;
        self.keys = None;
        Ok(true)
    }
}

/// The row in which a job's key is, and the place in it.
fn key_place(job: i64) -> (i64, usize) {
    let place = codec::job_of(job).1 as usize % codec::CHUNK_JOBS;
    (job - place as i64, place)
}

enum Answer {
    Given,
    Later,
    Never,
}

/// The holder of a key.
fn holder_of(conn: &Connection, key: &Key) -> Read<Option<i64>> {
    let mut query = conn.prepare_cached("SELECT job, sum FROM memo WHERE key = ?1")?;
    let found: Option<(i64, i64)> = query
        .query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let whole = |(job, sum): &(i64, i64)| codec::checksum(Table::Memo, &[*job], key) == *sum;
    Ok(found.filter(whole).map(|(job, _)| job))
}
