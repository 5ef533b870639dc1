//! Whether blobs are there, and are what their names say.

use super::*;
use crate::sqlite::blobs;

impl Check {
    /// Blobs against their names. Those in an object store are not looked at.
    pub(super) fn blobs(&mut self) -> Result<(), StoreError> {
        let folder = self.dir.join("blobs");
        if !folder.exists() {
            return Ok(());
        }
        for id in self.blob_names(&folder)? {
            self.report.blobs += 1;
            let path = blobs::file(&folder, &id);
            let known = rows::blob(self.conn(), &id).ok().flatten();
            match blobs::read_file(&path, id) {
                Ok(bytes) => {
                    // Found without a record, which repair has lost or a crash prevented.
                    if known.is_none() && self.repair {
                        let size = bytes.len() as u64;
                        self.applier
                            .add_blob(&id, size, crate::sqlite::writer::now_ms())?;
                    }
                }
                Err(StoreError::Damaged(what)) => {
                    let users = self.users(&id)?;
                    self.report
                        .add(format!("{what}; needed by {users}"), None, Vec::new());
                    if self.repair {
                        self.move_aside(&path, &id)?;
                        let sql = "DELETE FROM blobs WHERE id = ?1";
                        self.applier.execute(sql, [id.as_bytes()])?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// All blobs of which there is a record, a reference or a file.
    pub(super) fn blob_names(&self, folder: &Path) -> Result<BTreeSet<ContentId>, StoreError> {
        let mut names = BTreeSet::new();
        let read = || -> Read<Vec<Vec<u8>>> {
            let sql = "SELECT id FROM blobs UNION SELECT id FROM blob_refs";
            let mut query = self.conn().prepare(sql)?;
            let ids = query.query_map([], |row| Ok(rows::bytes(row, 0)?.to_vec()))?;
            Ok(ids.collect::<rusqlite::Result<_>>()?)
        };
        match read() {
            Ok(ids) => {
                let ids = ids
                    .into_iter()
                    .filter_map(|id| <[u8; 32]>::try_from(id).ok());
                names.extend(ids.map(ContentId::from_bytes));
            }
            // The file is broken, and that has been reported.
            Err(failure) if failure.is_damage() && !self.report.damage.is_empty() => {}
            Err(failure) => return Err(failure.into()),
        }
        let disk = |error: io::Error| StoreError::Disk(error.to_string());
        for entry in fs::read_dir(folder).map_err(disk)? {
            let name = entry.map_err(disk)?.file_name();
            names.extend(
                name.to_str()
                    .and_then(|name| name.parse::<ContentId>().ok()),
            );
        }
        Ok(names)
    }

    pub(super) fn move_aside(&self, path: &Path, id: &ContentId) -> Result<(), StoreError> {
        let aside = self.dir.join(ASIDE);
        let moved =
            fs::create_dir_all(&aside).and_then(|()| fs::rename(path, aside.join(id.to_string())));
        match moved {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::Disk(error.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Batches that need a blob, in words.
    pub(super) fn users(&self, id: &ContentId) -> Read<String> {
        let mut query = self.conn().prepare_cached(
            "SELECT batch FROM blob_refs NOT INDEXED WHERE id = ?1 ORDER BY batch",
        )?;
        let batches = query.query_map([id.as_bytes()], |row| row.get::<_, i64>(0))?;
        let batches = batches.map(|batch| batch.map(|batch| batch.to_string()));
        let batches = batches.collect::<rusqlite::Result<Vec<String>>>()?;
        Ok(match batches.len() {
            0 => "no batch".to_owned(),
            1 => format!("batch {}", batches[0]),
            _ => format!("batches {}", batches.join(", ")),
        })
    }
}
