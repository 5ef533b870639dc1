//! The folder of a fleet on a batch system: this user's alone to write, and one fleet's at a time.
//!
//! Nodes run the script and read the token that are there, so nobody else may write them. The folder may
//! be where others can write, as on a scratch disk, and may have been there before.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::batch::script::ScriptError;

/// Permission of the group and of others to write.
const OTHERS_WRITE: u32 = 0o022;

/// Makes the folder where it is not there, and checks that nobody else can write into it.
pub(crate) fn prepare(folder: &Path) -> Result<(), ScriptError> {
    let failed = |error| io_error(folder, error);
    let mut builder = DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed)?;
    let there = folder.symlink_metadata().map_err(failed)?;
    let own = there.uid() == rustix::process::geteuid().as_raw();
    if there.is_dir() && own && there.mode() & OTHERS_WRITE == 0 {
        Ok(())
    } else {
        Err(ScriptError::NotOwn(folder.to_owned()))
    }
}

/// Prepares the folder and takes it for this process, for as long as the answer is kept: a second fleet
/// would overwrite the token of the first. File systems that have no locks are let be.
pub(crate) fn claim(folder: &Path) -> Result<File, ScriptError> {
    prepare(folder)?;
    let path = folder.join("lock");
    let failed = |error| io_error(&path, error);
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).mode(0o600);
    let lock = options.open(&path).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(ScriptError::InUse(folder.to_owned())),
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(lock),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

fn io_error(path: &Path, error: io::Error) -> ScriptError {
    ScriptError::Io {
        path: path.to_owned(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_folder_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        prepare(&folder).unwrap();
        assert_eq!(folder.metadata().unwrap().mode() & 0o777, 0o700);
        for (mode, fits) in [(0o755, true), (0o775, false), (0o702, false), (0o700, true)] {
            std::fs::set_permissions(&folder, Permissions::from_mode(mode)).unwrap();
            let result = prepare(&folder);
            assert_eq!(result.is_ok(), fits, "{mode:o}: {result:?}");
        }
        let link = dir.path().join("link");
        symlink(&folder, &link).unwrap();
        assert!(matches!(prepare(&link), Err(ScriptError::NotOwn(_))));
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&folder, Some(1), None).unwrap();
            assert!(matches!(prepare(&folder), Err(ScriptError::NotOwn(_))));
        }
    }

    #[test]
    fn a_folder_is_one_fleet_s_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("fleet");
        let claimed = claim(&folder).unwrap();
        assert!(matches!(claim(&folder), Err(ScriptError::InUse(_))));
        drop(claimed);
        claim(&folder).unwrap();
    }
}
