//! Native code of modules, kept on this machine's disk.
//!
//! Whoever can write such a file can run any code in the worker, so files are only read from a
//! directory that belongs to this user alone, and only where they carry a MAC by a key that lies
//! beside them: a file from elsewhere, a damaged one or one of another engine is as good as none.
//! Native code never comes from the network.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

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

    fn mac(&self, module: &ContentId, engine: &[u8; 32], code: &[u8]) -> [u8; MAC] {
        *blake3::Hasher::new_keyed(&self.key)
            .update(engine)
            .update(module.as_bytes())
            .update(code)
            .finalize()
            .as_bytes()
    }

    /// The native code of `module` for the engine `engine`, where this cache made it.
    pub fn get(&self, module: &ContentId, engine: &[u8; 32]) -> Option<Vec<u8>> {
        let mut bytes = fs::read(self.path(module, engine)).ok()?;
        let (mac, code) = bytes.split_first_chunk::<MAC>()?;
        let expected = blake3::Hash::from_bytes(self.mac(module, engine, code));
        if expected != blake3::Hash::from_bytes(*mac) {
            tracing::warn!("a cached module is damaged and will be compiled again");
            return None;
        }
        bytes.drain(..MAC);
        Some(bytes)
    }

    /// Keeps native code. A file is complete or absent.
    ///
    /// # Errors
    ///
    /// Where the disk does not take it; nothing is left behind.
    pub fn put(&self, module: &ContentId, engine: &[u8; 32], code: &[u8]) -> io::Result<()> {
        let path = self.path(module, engine);
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        let written = create(&temporary).and_then(|mut file| {
            file.write_all(&self.mac(module, engine, code))?;
            file.write_all(code)
        });
        let result = written.and_then(|()| fs::rename(&temporary, &path));
        if result.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        result
    }
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
