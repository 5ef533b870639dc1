//! What namespaces may have, have and have used.
//!
//! An account changes in the transaction that changes what it counts, so that each result is billed
//! once, whatever becomes of the process. All accounts are in memory: there is one for each user.
//!
//! *A namespace has a blob* that it has uploaded, which it keeps for as long as one is kept without a
//! batch, and every blob that one of its batches names. Its bytes count once for each namespace that
//! has it.

use optwasm_protocol::{ContentId, Namespace, Quota, Report, Usage};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::apply::Applier;
use super::codec::{self, Table};
use super::rows::{self, Failure, Read};
use crate::Account;

/// An account, in the store's thread.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    account: Account,
    dirty: bool,
}

/// An account as a row holds it.
#[derive(Serialize, Deserialize)]
struct Body {
    namespace: Namespace,
    quota: Quota,
    usage: Usage,
}

/// All accounts. Those that are damaged are left out and logged: what they have used is lost.
pub(super) fn accounts(conn: &Connection) -> Read<Vec<Account>> {
    let mut query = conn.prepare_cached("SELECT nr, body, sum FROM namespaces ORDER BY nr")?;
    let mut rows = query.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let number: i64 = row.get(0)?;
        let body = rows::bytes(row, 1)?;
        let whole = codec::checksum(Table::Namespaces, &[number], body) == row.get::<_, i64>(2)?;
        match whole.then(|| codec::from_cbor::<Body>(body)).flatten() {
            Some(Body {
                namespace,
                quota,
                usage,
            }) => found.push(Account {
                namespace,
                quota,
                usage,
            }),
            None => tracing::error!(number, "the account of a namespace is damaged on disk"),
        }
    }
    Ok(found)
}

/// One account. `None` where there is none, or it is damaged.
pub(super) fn account(conn: &Connection, namespace: &Namespace) -> Read<Option<Account>> {
    let mut query = conn.prepare_cached("SELECT body, sum FROM namespaces WHERE nr = ?1")?;
    let number = namespace.number() as i64;
    let mut rows = query.query([number])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let body = rows::bytes(row, 0)?;
    if codec::checksum(Table::Namespaces, &[number], body) != row.get::<_, i64>(1)? {
        return Err(Failure::Damaged(format!("the account of {namespace}")));
    }
    let body: Option<Body> = codec::from_cbor(body);
    Ok(body.map(|body| Account {
        namespace: body.namespace,
        quota: body.quota,
        usage: body.usage,
    }))
}

fn write(conn: &Connection, account: &Account) -> rusqlite::Result<()> {
    let number = account.namespace.number() as i64;
    let body = codec::to_cbor(&Body {
        namespace: account.namespace.clone(),
        quota: account.quota,
        usage: account.usage,
    });
    let sum = codec::checksum(Table::Namespaces, &[number], &body);
    conn.prepare_cached("INSERT OR REPLACE INTO namespaces VALUES (?1, ?2, ?3)")?
        .execute(params![number, body, sum])
        .map(drop)
}

/// Makes the account of the namespace that all belongs to which there was before there were others:
/// its bytes are those of blobs.
pub(super) fn begin(conn: &Connection) -> rusqlite::Result<()> {
    let mut account = Account::new(Namespace::default());
    let sql = "SELECT coalesce(sum(size), 0) FROM blobs WHERE id IN (SELECT id FROM blob_refs)";
    let bytes: i64 = conn.query_row(sql, [], |row| row.get(0))?;
    account.usage.bytes = bytes as u64;
    write(conn, &account)
}

/// Whether a namespace has a blob, and when it last used it as an upload (0 for never), in
/// milliseconds since 1970.
pub(super) fn has(conn: &Connection, number: i64, id: &ContentId) -> Read<Option<i64>> {
    let mut query =
        conn.prepare_cached("SELECT used, sum FROM uploads WHERE id = ?1 AND namespace = ?2")?;
    let found: Option<(i64, i64)> = query
        .query_row(params![id.as_bytes(), number], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    if let Some((used, sum)) = found
        && codec::checksum(Table::Uploads, &[number, used], id.as_bytes()) == sum
    {
        return Ok(Some(used));
    }
    let named: bool = conn
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM blob_refs WHERE id = ?1 AND namespace = ?2)")?
        .query_row(params![id.as_bytes(), number], |row| row.get(0))?;
    Ok(named.then_some(0))
}

/// Uploads that nobody has used since `before`, at most so many.
pub(super) fn unused_uploads(
    conn: &Connection,
    before: i64,
    limit: i64,
) -> Read<Vec<(i64, ContentId)>> {
    let mut query =
        conn.prepare_cached("SELECT namespace, id FROM uploads WHERE used < ?1 LIMIT ?2")?;
    let mut rows = query.query([before, limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        if let Ok(id) = <[u8; 32]>::try_from(rows::bytes(row, 1)?) {
            found.push((row.get(0)?, ContentId::from_bytes(id)));
        }
    }
    Ok(found)
}

impl Applier {
    /// Reads all accounts, in place of what is in memory.
    pub(super) fn load_accounts(&mut self) -> Read<()> {
        let all = match accounts(&self.conn) {
            Err(failure) if failure.is_damage() => Vec::new(),
            all => all?,
        };
        let entries = all.into_iter().map(|account| {
            let number = account.namespace.number() as i64;
            let dirty = false;
            (number, Entry { account, dirty })
        });
        self.accounts = entries.collect();
        Ok(())
    }

    /// Writes the accounts that have changed.
    pub(super) fn flush_accounts(&mut self) -> Read<()> {
        for entry in self.accounts.values_mut() {
            if std::mem::take(&mut entry.dirty) {
                write(&self.conn, &entry.account)?;
            }
        }
        Ok(())
    }

    /// Changes an account, which is made where there is none.
    pub(super) fn change_account(
        &mut self,
        namespace: &Namespace,
        change: impl FnOnce(&mut Account),
    ) {
        let number = namespace.number() as i64;
        let entry = self.accounts.entry(number).or_insert_with(|| Entry {
            account: Account::new(namespace.clone()),
            dirty: true,
        });
        change(&mut entry.account);
        entry.dirty = true;
    }

    /// Counts bytes that a namespace has more, or less.
    pub(super) fn count_bytes(&mut self, number: i64, more: i64) {
        if let Some(entry) = self.accounts.get_mut(&number) {
            let bytes = &mut entry.account.usage.bytes;
            *bytes = bytes.saturating_add_signed(more);
            entry.dirty = true;
        }
    }

    /// Bills a namespace for an attempt.
    pub(super) fn bill(&mut self, namespace: &Namespace, fuel: u64, slot_us: u64) {
        self.change_account(namespace, |account| account.usage.bill(fuel, slot_us));
    }

    /// Bills a namespace for a job that has ended.
    pub(super) fn bill_result(&mut self, namespace: &Namespace, report: &Report) {
        self.change_account(namespace, |account| account.count(report));
    }

    fn blob_size(&self, id: &ContentId) -> i64 {
        let size = rows::blob(&self.conn, id).ok().flatten();
        size.map_or(0, |(size, _)| size as i64)
    }

    /// A namespace will have a blob when the caller has noted why.
    pub(super) fn gain_blob(&mut self, number: i64, id: &ContentId) -> Read<()> {
        if has(&self.conn, number, id)?.is_none() {
            let size = self.blob_size(id);
            self.count_bytes(number, size);
        }
        Ok(())
    }

    /// The caller has dropped a reason for which a namespace had a blob.
    pub(super) fn lose_blob(&mut self, number: i64, id: &ContentId) -> Read<()> {
        if has(&self.conn, number, id)?.is_none() {
            let size = self.blob_size(id);
            self.count_bytes(number, -size);
        }
        Ok(())
    }

    /// A namespace has uploaded a blob, or uses it.
    pub(super) fn upload(&mut self, namespace: &Namespace, id: &ContentId, now: i64) -> Read<()> {
        let number = namespace.number() as i64;
        self.change_account(namespace, |_| {});
        self.gain_blob(number, id)?;
        self.note_upload(number, id, now)
    }

    /// A namespace uses a blob that it has.
    pub(super) fn note_upload(&self, number: i64, id: &ContentId, now: i64) -> Read<()> {
        let sum = codec::checksum(Table::Uploads, &[number, now], id.as_bytes());
        self.execute(
            "INSERT OR REPLACE INTO uploads VALUES (?1, ?2, ?3, ?4)",
            params![id.as_bytes(), number, now, sum],
        )
    }

    /// Forgets those of these uploads that have not been used since `before`.
    pub(super) fn drop_uploads(&mut self, uploads: &[(i64, ContentId)], before: i64) -> Read<()> {
        for (number, id) in uploads {
            let mut delete = self.conn.prepare_cached(
                "DELETE FROM uploads WHERE id = ?1 AND namespace = ?2 AND used < ?3",
            )?;
            let deleted = delete.execute(params![id.as_bytes(), number, before])?;
            drop(delete);
            if deleted > 0 {
                self.lose_blob(*number, id)?;
            }
        }
        Ok(())
    }
}
