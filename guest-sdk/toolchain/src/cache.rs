//! The per-user cache of toolchains: `<cache>/guest-toolchain/<key>/`, one folder per toolchain.
//!
//! The key starts with `rust-` or `c-` and carries the compiler's version. A folder appears by a
//! rename when it is complete, so one that exists may be used without further checks, and an
//! interrupted run leaves only a `.tmp-*` folder, which the next installation removes. Installing
//! holds the lock file beside them; finding does not.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::ToolchainError;

/// The folder that holds the toolchains of this user.
pub(crate) fn root() -> Result<PathBuf, ToolchainError> {
    root_from(|name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    })
    .ok_or(ToolchainError::NoCacheDir)
}

fn root_from(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let cache = variable("OPTWASM_CACHE_DIR")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("optwasm")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/optwasm")))?;
    Some(std::path::absolute(cache).ok()?.join("guest-toolchain"))
}

/// The most recently completed toolchain whose key starts with `kind`.
pub(crate) fn newest(root: &Path, kind: &str) -> Option<PathBuf> {
    fs::read_dir(root)
        .ok()?
        .flatten()
        .filter(|entry| {
            entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.starts_with(kind))
        })
        .max_by_key(|entry| {
            entry
                .metadata()
                .and_then(|data| data.modified())
                .unwrap_or(SystemTime::UNIX_EPOCH)
        })
        .map(|entry| entry.path())
}

/// The right to change the cache, held until dropped; a second process waits for it.
pub(crate) struct Lock(#[expect(dead_code, reason = "closing the file releases the lock")] File);

impl Lock {
    /// Waits for the right to change the cache at `root` and removes what interrupted runs left.
    pub(crate) fn take(root: &Path) -> Result<Self, ToolchainError> {
        fs::create_dir_all(root).map_err(ToolchainError::io(root))?;
        let path = root.join(".lock");
        let file = File::create(&path).map_err(ToolchainError::io(&path))?;
        file.lock().map_err(ToolchainError::io(&path))?;
        for entry in fs::read_dir(root)
            .map_err(ToolchainError::io(root))?
            .flatten()
        {
            if entry.file_name().to_string_lossy().starts_with(".tmp-") {
                fs::remove_dir_all(entry.path()).map_err(ToolchainError::io(entry.path()))?;
            }
        }
        Ok(Self(file))
    }
}

/// A folder under construction. It becomes `<root>/<key>` by [`Draft::finish`] or is removed.
pub(crate) struct Draft {
    root: PathBuf,
    path: PathBuf,
}

impl Draft {
    /// An empty folder in `root`; the caller holds the [`Lock`].
    pub(crate) fn new(root: &Path, kind: &str) -> Result<Self, ToolchainError> {
        let path = root.join(format!(".tmp-{kind}"));
        fs::create_dir(&path).map_err(ToolchainError::io(&path))?;
        Ok(Self {
            root: root.to_owned(),
            path,
        })
    }

    /// Where it is being built.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves the folder `done` inside this draft to its final place and returns that.
    pub(crate) fn finish(self, done: &Path, key: &str) -> Result<PathBuf, ToolchainError> {
        let place = self.root.join(key);
        if place.exists() {
            fs::remove_dir_all(&place).map_err(ToolchainError::io(&place))?;
        }
        fs::rename(done, &place).map_err(ToolchainError::io(&place))?;
        Ok(place)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next installation.
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_follows_the_environment() {
        let only = |wanted: &'static str| {
            move |name: &str| (name == wanted).then(|| PathBuf::from("/somewhere"))
        };
        let at = |wanted| root_from(only(wanted)).unwrap();
        assert_eq!(
            at("OPTWASM_CACHE_DIR"),
            Path::new("/somewhere/guest-toolchain")
        );
        assert_eq!(
            at("XDG_CACHE_HOME"),
            Path::new("/somewhere/optwasm/guest-toolchain")
        );
        assert_eq!(
            at("HOME"),
            Path::new("/somewhere/.cache/optwasm/guest-toolchain")
        );
        assert!(root_from(|_| None).is_none());
    }

    #[test]
    fn only_finished_folders_are_found() {
        let root = tempfile::tempdir().unwrap();
        let _lock = Lock::take(root.path()).unwrap();
        let draft = Draft::new(root.path(), "rust").unwrap();
        let inner = draft.path().join("usr");
        fs::create_dir(&inner).unwrap();
        assert_eq!(newest(root.path(), "rust-"), None);
        let place = draft.finish(&inner, "rust-1").unwrap();
        assert_eq!(newest(root.path(), "rust-"), Some(place));
        assert_eq!(newest(root.path(), "c-"), None);
        assert!(!root.path().join(".tmp-rust").exists());
    }

    #[test]
    fn the_lock_is_exclusive_and_clears_interrupted_runs() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join(".tmp-rust/usr")).unwrap();
        let lock = Lock::take(root.path()).unwrap();
        assert!(!root.path().join(".tmp-rust").exists());
        let second = File::open(root.path().join(".lock")).unwrap();
        assert!(second.try_lock().is_err());
        drop(lock);
        // Waits, because a process that another test is just starting holds the file for a moment.
        second.lock().unwrap();
    }
}
