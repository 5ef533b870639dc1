//! Forgets batches: at once for everybody who asks, and row by row when there is time.
//!
//! A removed batch is a row of `removing`. Its other rows are deleted in portions, each in a
//! transaction of its own, when the writer has nothing else to do, so that no commit waits for
//! millions of rows; the file then shrinks in portions too.

use optwasm_protocol::{BatchId, ContentId};
use rusqlite::params;

use super::apply::Applier;
use super::codec::{self, Table};
use super::rows::{self, Read};
use super::schema;
use crate::Committed;

/// Rows that one portion deletes: about 10 ms.
const PORTION: i64 = 2000;

/// Chunks that one portion deletes: 4 MiB.
const CHUNKS: i64 = 16;

/// Pages that one portion gives back, and free pages that are kept for what comes next (4 MiB).
const VACUUM: i64 = 1024;
const FREE_KEPT: i64 = 1024;

impl Applier {
    pub(super) fn remove(&mut self, BatchId(batch): BatchId, out: &mut Committed) -> Read<()> {
        let exists: bool = self
            .conn
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM batches WHERE batch = ?1)
                 OR EXISTS (SELECT 1 FROM states WHERE batch = ?1)",
            )?
            .query_row([batch as i64], |row| row.get(0))?;
        if !exists {
            return Ok(());
        }
        let keys = codec::keys_of(batch);
        self.drop_followers(*keys.start(), *keys.end())?;
        if let Some(live) = self.batch(batch)?
            && live.shares
            && live.state.done < live.jobs
        {
            let jobs = live.jobs;
            self.let_go_all(batch, jobs, out)?;
        }
        if let Some(live) = self.batch(batch)? {
            let (namespace, bytes) = (live.namespace.number(), live.state.bytes());
            self.count_bytes(namespace as i64, -bytes);
        }
        for table in ["batches", "states"] {
            let sql = format!("DELETE FROM {table} WHERE batch = ?1");
            self.execute(&sql, [batch as i64])?;
        }
        let sum = codec::checksum(Table::Removing, &[batch as i64], &[]);
        self.execute(
            "INSERT OR REPLACE INTO removing VALUES (?1, ?2)",
            params![batch as i64, sum],
        )?;
        self.drop_live(batch);
        self.removing.insert(batch);
        self.stale = true;
        Ok(())
    }

    /// Whether there is something to delete or to give back; where space is short that is every
    /// free page.
    pub(super) fn has_garbage(&self, short: bool) -> bool {
        let kept = if short { 0 } else { FREE_KEPT };
        !self.removing.is_empty()
            || schema::number(&self.conn, "freelist_count").is_ok_and(|free| free > kept)
    }

    /// Deletes some references of a removed batch to blobs; tells whether there were any.
    fn sweep_refs(&mut self, batch: i64) -> Read<bool> {
        let sql = format!(
            "DELETE FROM blob_refs WHERE (batch, id) IN
             (SELECT batch, id FROM blob_refs WHERE batch = ?1 LIMIT {PORTION})
             RETURNING id, namespace"
        );
        let mut dropped = Vec::new();
        let mut delete = self.conn.prepare_cached(&sql)?;
        let mut rows = delete.query([batch])?;
        while let Some(row) = rows.next()? {
            let id = <[u8; 32]>::try_from(rows::bytes(row, 0)?).map(ContentId::from_bytes);
            dropped.push((id, row.get(1)?));
        }
        drop(rows);
        drop(delete);
        for (id, namespace) in &dropped {
            if let Ok(id) = id {
                self.lose_blob(*namespace, id)?;
            }
        }
        Ok(!dropped.is_empty())
    }

    /// Deletes some rows of a removed batch, or gives some free pages back to the file system.
    pub(super) fn sweep(&mut self) -> Read<()> {
        let Some(batch) = self.removing.first().copied() else {
            // It returns a row per page, all of which have to be taken.
            let mut vacuum = self
                .conn
                .prepare_cached(&format!("PRAGMA incremental_vacuum({VACUUM})"))?;
            let mut rows = vacuum.query([])?;
            while rows.next()?.is_some() {}
            return Ok(());
        };
        if self.remove_keys(batch)? {
            return Ok(());
        }
        let keys = codec::keys_of(batch);
        let portions = [
            ("chunks", "first", CHUNKS),
            ("results", "job", PORTION),
            ("attempts", "job, nr", PORTION),
            ("witnesses", "job, nr", PORTION),
            ("limits", "job, nr", PORTION),
        ];
        for (table, key, count) in portions {
            let column = key.split(',').next().unwrap_or(key);
            let sql = format!(
                "DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table}
                 WHERE {column} BETWEEN ?1 AND ?2 LIMIT {count})"
            );
            let mut delete = self.conn.prepare_cached(&sql)?;
            if delete.execute([keys.start(), keys.end()])? > 0 {
                return Ok(());
            }
        }
        if self.sweep_refs(batch as i64)? {
            return Ok(());
        }
        self.execute("DELETE FROM removing WHERE batch = ?1", [batch as i64])?;
        self.removing.remove(&batch);
        Ok(())
    }
}
