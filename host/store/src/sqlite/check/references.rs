//! Whether records point at others that are there: jobs at their batches, followers at those they
//! wait for, batches at blobs.

use super::*;

impl Check {
    /// Rows of batches that there are not.
    pub(super) fn orphans(&mut self) -> Read<()> {
        let known = self.list(
            "SELECT batch FROM batches UNION SELECT batch FROM states
             UNION SELECT batch FROM removing",
        )?;
        let known: BTreeSet<i64> = known.into_iter().collect();
        let mut found = BTreeSet::new();
        for (table, column) in [("chunks", "first"), ("keys", "first"), ("results", "job")] {
            let sql = format!("SELECT min({column}) FROM {table} WHERE {column} >= ?1");
            let mut next = i64::MIN;
            loop {
                let first: Option<i64> = self
                    .conn()
                    .prepare_cached(&sql)?
                    .query_row([next], |row| row.get(0))?;
                let Some(batch) = first.map(|first| first >> 32) else {
                    break;
                };
                if !known.contains(&batch) {
                    found.insert(batch);
                }
                let Some(after) = batch
                    .checked_add(1)
                    .filter(|batch| *batch <= i64::MAX >> 32)
                else {
                    break;
                };
                next = after << 32;
            }
        }
        for batch in found {
            self.report.add(
                "what was submitted is missing",
                Some(batch as u64),
                Vec::new(),
            );
            if self.repair {
                self.forget(batch)?;
            }
        }
        Ok(())
    }

    /// Jobs that wait for the result of another, which must be one that will come.
    pub(super) fn followers(&mut self) -> Read<()> {
        let mut query = self.applier.conn.prepare(
            "SELECT f.job, f.key, f.sum, m.job, m.sum,
                    EXISTS (SELECT 1 FROM results r WHERE r.job = m.job),
                    EXISTS (SELECT 1 FROM states s WHERE s.batch = m.job >> 32)
             FROM followers f NOT INDEXED LEFT JOIN memo m USING (key)",
        )?;
        let mut rows = query.query([])?;
        let mut bad = Vec::new();
        while let Some(row) = rows.next()? {
            let (job, key): (i64, _) = (row.get(0)?, rows::bytes(row, 1)?);
            let sum = codec::checksum(Table::Followers, &[job], key);
            let whole = row.get::<_, i64>(2).is_ok_and(|found| found == sum);
            let (ended, lives): (bool, bool) = (row.get(5)?, row.get(6)?);
            let awaited = match (row.get::<_, Option<i64>>(3)?, row.get::<_, Option<i64>>(4)?) {
                (Some(holder), Some(sum)) => codec::checksum(Table::Memo, &[holder], key) == sum,
                _ => false,
            };
            if !whole || !awaited || ended || !lives {
                bad.push(job);
            }
        }
        drop(rows);
        drop(query);
        for job in bad {
            let JobId(BatchId(batch), index) = codec::job_of(job);
            let what = "waits for a result that will not come";
            self.report.add(what, Some(batch), rows::ranges([index]));
            if self.repair {
                self.applier
                    .execute("DELETE FROM followers WHERE job = ?1", [job])?;
            }
        }
        Ok(())
    }

    /// Notes anew which blobs batches need.
    pub(super) fn references(&mut self) -> Read<()> {
        for batch in self.list("SELECT batch FROM batches")? {
            let batch = batch as u64;
            for id in self.needed(batch)? {
                self.applier.refer(batch, &id)?;
            }
        }
        Ok(())
    }

    /// The blobs that a batch names.
    fn needed(&self, batch: u64) -> Read<BTreeSet<ContentId>> {
        let Some(head) = rows::head(self.conn(), batch)? else {
            return Ok(BTreeSet::new());
        };
        let template = &head.spec.template;
        let mut needed = BTreeSet::from([template.module]);
        needed.extend(template.blobs.iter().map(|(_, id)| *id));
        let keys = keys_of(batch);
        let sql = "SELECT first, body FROM chunks WHERE first BETWEEN ?1 AND ?2";
        let mut query = self.conn().prepare(sql)?;
        let mut rows = query.query([keys.start(), keys.end()])?;
        while let Some(row) = rows.next()? {
            let first = codec::job_of(row.get(0)?).1;
            let chunk = Chunk::new(first, rows::bytes(row, 1)?.to_vec());
            let inputs = (first..first.saturating_add(chunk.len())).map(|i| chunk.get(i));
            needed.extend(inputs.filter_map(|input| match input {
                Some(Payload::Blob(_, id)) => Some(id),
                _ => None,
            }));
        }
        let sql = "SELECT job, done, outcome, attempt, flags, fuel, body, sum FROM results
                       WHERE job BETWEEN ?1 AND ?2 AND flags & 2";
        let mut query = self.conn().prepare(sql)?;
        let mut rows = query.query([keys.start(), keys.end()])?;
        while let Some(row) = rows.next()? {
            let report = rows::result_row(row)?.and_then(|row| row.report());
            if let Some(Outcome::Ok(Payload::Blob(_, id))) = report.map(|r| r.outcome) {
                needed.insert(id);
            }
        }
        Ok(needed)
    }
}
