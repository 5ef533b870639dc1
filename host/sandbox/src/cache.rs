//! Native code of modules, and what the gate learned of them, kept on this machine's disk.
//!
//! Whoever can write such a file can run any code in the worker, so files are only read from a
//! directory that belongs to this user alone, and only where they carry a MAC by a key that lies
//! beside them: a file from elsewhere, a damaged one or one of another engine is as good as none.
//! Native code never comes from the network. The files that were used longest ago go when all
//! together are too large.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use optwasm_protocol::ContentId;

/// A directory of native code.
#[derive(Debug)]
pub struct DiskCache {
    dir: PathBuf,
    key: [u8; 32],
}

/// Why there is no cache. The worker goes on without one.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The directory cannot be made or read.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// Others than its owner may write to it, or somebody else owns it.
    #[error("{0} is not private: it must belong to you and be writable by nobody else")]
    NotPrivate(PathBuf),
}

const KEY_FILE: &str = "key";
const MAC: usize = 32;
/// Bytes that say how long the part before the code is.
const LENGTH: usize = 4;
/// Most bytes of all files together: some thousand solvers.
const CACHE_MAX: u64 = 4 << 30;

impl DiskCache {
    /// Opens the cache in `dir`, and makes it where there is none.
    ///
    /// # Errors
    ///
    /// [`CacheError`].
    pub fn open(dir: &Path) -> Result<Self, CacheError> {
        let failed = |error| CacheError::Io(dir.to_owned(), error);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(failed)?;
        let meta = fs::metadata(dir).map_err(failed)?;
        if meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o022 != 0 {
            return Err(CacheError::NotPrivate(dir.to_owned()));
        }
        let key = key(dir).map_err(failed)?;
        Ok(Self {
            dir: dir.to_owned(),
            key,
        })
    }

    fn path(&self, module: &ContentId, engine: &[u8; 32]) -> PathBuf {
        let name = blake3::Hasher::new()
            .update(engine)
            .update(module.as_bytes())
            .finalize();
        self.dir.join(format!("{}.native", name.to_hex()))
    }

    /// Of all that a file holds after it.
    fn mac(&self, module: &ContentId, engine: &[u8; 32], rest: [&[u8]; 3]) -> [u8; MAC] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(engine).update(module.as_bytes());
        for part in rest {
            hasher.update(part);
        }
        *hasher.finalize().as_bytes()
    }

    /// What was [put](Self::put) for `module` and the engine `engine`, where this cache made it:
    /// what is known of it, and its native code.
    pub fn get(&self, module: &ContentId, engine: &[u8; 32]) -> Option<(Vec<u8>, Vec<u8>)> {
        let path = self.path(module, engine);
        let mut about = fs::read(&path).ok()?;
        let (mac, rest) = about.split_first_chunk::<MAC>()?;
        let expected = blake3::Hash::from_bytes(self.mac(module, engine, [rest, &[], &[]]));
        if expected != blake3::Hash::from_bytes(*mac) {
            tracing::warn!("a cached module is damaged and will be compiled again");
            return None;
        }
        // What the MAC vouches for was written by `put`.
        let (length, rest) = rest.split_first_chunk::<LENGTH>()?;
        let length = u32::from_le_bytes(*length) as usize;
        let code = rest.get(length..)?.to_vec();
        about.truncate(MAC + LENGTH + length);
        about.drain(..MAC + LENGTH);
        // Says when it was used last; where it cannot be said, it goes a little early.
        let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        Some((about, code))
    }

    /// Keeps what is known of a module, and its native code. A file is complete or absent.
    ///
    /// # Errors
    ///
    /// Where the disk does not take it; nothing is left behind.
    pub fn put(
        &self,
        module: &ContentId,
        engine: &[u8; 32],
        about: &[u8],
        code: &[u8],
    ) -> io::Result<()> {
        let length = u32::try_from(about.len()).map_err(io::Error::other)?;
        let rest = [&length.to_le_bytes()[..], about, code];
        let path = self.path(module, engine);
        // Its own for each process and thread.
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let temporary = path.with_extension(format!("{}-{count}.tmp", std::process::id()));
        let written = create(&temporary).and_then(|mut file| {
            file.write_all(&self.mac(module, engine, rest))?;
            rest.iter().try_for_each(|part| file.write_all(part))
        });
        let result = written.and_then(|()| fs::rename(&temporary, &path));
        if result.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        prune(&self.dir, CACHE_MAX)?;
        result
    }
}

/// Removes what was used longest ago until at most `limit` bytes are left. Files that an
/// interrupted process left behind are among them.
fn prune(dir: &Path, limit: u64) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // Another process may remove it at the same time.
        if let Ok(meta) = entry.metadata()
            && entry.file_name() != KEY_FILE
        {
            files.push((meta.modified()?, meta.len(), entry.path()));
        }
    }
    files.sort();
    let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
    for (_, size, path) in files {
        if total <= limit {
            break;
        }
        let _ = fs::remove_file(path);
        total -= size;
    }
    Ok(())
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

/// The key of the cache in `dir`, made at its first use.
fn key(dir: &Path) -> io::Result<[u8; 32]> {
    let path = dir.join(KEY_FILE);
    let read = || -> io::Result<[u8; 32]> {
        let mut key = [0; 32];
        File::open(&path)?.read_exact(&mut key)?;
        Ok(key)
    };
    if let Ok(key) = read() {
        return Ok(key);
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    let temporary = dir.join(format!("{KEY_FILE}.{}.tmp", std::process::id()));
    create(&temporary)?.write_all(&key)?;
    // Linking, unlike renaming, does not replace the key of a process that was faster.
    let linked = fs::hard_link(&temporary, &path);
    fs::remove_file(&temporary)?;
    match linked {
        Ok(()) => Ok(key),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read().or_else(|_| {
            // What is there is no key: an interrupted or damaged file.
            create(&path)?.write_all(&key)?;
            Ok(key)
        }),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let cache = DiskCache::open(dir.path()).unwrap();
        let ids = [b"1", b"2", b"3"].map(|name| ContentId::of(name));
        let engine = [0; 32];
        for (age, id) in ids.iter().enumerate() {
            cache.put(id, &engine, b"about", &[7; 1000]).unwrap();
            let file = File::open(cache.path(id, &engine)).unwrap();
            let time = SystemTime::now() - Duration::from_secs(3600 - age as u64);
            file.set_modified(time).unwrap();
        }
        let present = || ids.map(|id| cache.path(&id, &engine).exists());
        prune(dir.path(), 3300).unwrap();
        assert_eq!(present(), [true; 3]);
        // Using the oldest makes it the youngest.
        assert!(cache.get(&ids[0], &engine).is_some());
        prune(dir.path(), 2500).unwrap();
        assert_eq!(present(), [true, false, true]);
        prune(dir.path(), 0).unwrap();
        assert_eq!(present(), [false; 3]);
        assert!(dir.path().join(KEY_FILE).exists());
    }
}
