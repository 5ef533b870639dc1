//! A coordinator's directory: who it is, whom it admits, and how those on its machine reach it.
//!
//! | file | content |
//! |---|---|
//! | `lock` | locked for as long as a coordinator runs here |
//! | `identity` | certificate, private key and token authority; secret |
//! | `revoked` | names of revoked tokens, one a line |
//! | `worker.token` | a token for workers, to copy to other machines; secret |
//! | `client.token` | a token for clients, where an access file was to admit them; secret |
//! | `access.json` | address and administrator token of the running coordinator; secret |
//!
//! The directory belongs to its user alone (0700), its files too (0600).

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use optwasm_protocol::Identity;
use optwasm_protocol::endpoint::EndpointError;
use optwasm_protocol::token::{Authority, Role, Token};
use serde::{Deserialize, Serialize};

/// Why a coordinator's directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// The directory or a file in it cannot be read or written.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// Another coordinator runs there. Stop it, or choose another directory.
    #[error("another coordinator is running in {0}")]
    InUse(PathBuf),
    /// A file is damaged. Restore it from a backup, or remove it: tokens must then be issued anew.
    #[error("{0} is damaged")]
    Damaged(PathBuf),
    /// No certificate could be made.
    #[error(transparent)]
    Identity(#[from] EndpointError),
}

/// A coordinator's directory, locked.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

/// What a coordinator is known by.
#[derive(Debug)]
pub struct Credentials {
    /// Its certificate and key.
    pub identity: Identity,
    /// What it issues tokens with.
    pub authority: Authority,
}

#[derive(Serialize, Deserialize)]
struct IdentityFile {
    #[serde(with = "serde_bytes")]
    certificate: Vec<u8>,
    #[serde(with = "serde_bytes")]
    key: Vec<u8>,
    #[serde(with = "serde_bytes")]
    authority: [u8; 32],
}

/// How those on the same machine reach a running coordinator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Access {
    /// Where it listens, as this machine reaches it.
    pub address: SocketAddr,
    /// `HOST:PORT`, as other machines reach it.
    #[serde(default)]
    pub advertised: String,
    /// A token for the role `admin`, as text. It is secret.
    pub token: String,
    /// Its process.
    pub pid: u32,
}

const IDENTITY: &str = "identity";
const REVOKED: &str = "revoked";
const WORKER_TOKEN: &str = "worker.token";
const CLIENT_TOKEN: &str = "client.token";
const ACCESS: &str = "access.json";

impl StateDir {
    /// Opens and locks the directory, and makes it where there is none.
    ///
    /// # Errors
    ///
    /// [`DirError::Io`] and [`DirError::InUse`].
    pub fn open(path: &Path) -> Result<Self, DirError> {
        let failed = |error| DirError::Io(path.to_owned(), error);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(fs::TryLockError::WouldBlock) => Err(DirError::InUse(path.to_owned())),
            Err(fs::TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Copies what a coordinator in `from` is known by into `to`, for a backup.
    ///
    /// # Errors
    ///
    /// [`DirError::Io`].
    pub fn copy_identity(from: &Path, to: &Path) -> Result<(), DirError> {
        for name in [IDENTITY, REVOKED, WORKER_TOKEN, CLIENT_TOKEN] {
            let source = from.join(name);
            match fs::read(&source) {
                Ok(bytes) => write_private(&to.join(name), &bytes)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(DirError::Io(source, error)),
            }
        }
        Ok(())
    }

    /// The coordinator's credentials, made at the first start.
    ///
    /// # Errors
    ///
    /// [`DirError`].
    pub fn credentials(&self) -> Result<Credentials, DirError> {
        let path = self.path.join(IDENTITY);
        match fs::read(&path) {
            Ok(bytes) => {
                let file: IdentityFile = ciborium::from_reader(&bytes[..])
                    .map_err(|_| DirError::Damaged(path.clone()))?;
                Ok(Credentials {
                    identity: Identity::from_der(file.certificate, file.key),
                    authority: Authority::from_key(file.authority),
                })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let credentials = Credentials::generate()?;
                let mut bytes = Vec::new();
                let file = IdentityFile {
                    certificate: credentials.identity.certificate_der().to_vec(),
                    key: credentials.identity.key_der().to_vec(),
                    authority: credentials.authority.key(),
                };
                ciborium::into_writer(&file, &mut bytes)
                    .map_err(|_| DirError::Damaged(path.clone()))?;
                write_private(&path, &bytes)?;
                Ok(credentials)
            }
            Err(error) => Err(DirError::Io(path, error)),
        }
    }

    /// The tokens that were revoked.
    ///
    /// # Errors
    ///
    /// [`DirError::Io`].
    pub fn revocations(&self) -> Result<Revocations, DirError> {
        let path = self.path.join(REVOKED);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(DirError::Io(path, error)),
        };
        Ok(Revocations {
            names: text.lines().map(str::to_owned).collect(),
            path: Some(path),
        })
    }

    /// Lets those on this machine know how to reach the coordinator at `address`, and how others do.
    ///
    /// # Errors
    ///
    /// [`DirError::Io`].
    pub fn publish(
        &self,
        address: SocketAddr,
        advertised: &str,
        credentials: &Credentials,
    ) -> Result<(), DirError> {
        let path = self.path.join(ACCESS);
        let issued = credentials
            .authority
            .issue(credentials.identity.fingerprint(), Role::Admin, 0)
            .map_err(|error| DirError::Io(path.clone(), error))?;
        let access = Access {
            address,
            advertised: advertised.to_owned(),
            token: issued.expose(),
            pid: std::process::id(),
        };
        let bytes = serde_json::to_vec_pretty(&access)
            .map_err(|error| DirError::Io(path.clone(), error.into()))?;
        match write_private(&path, &bytes) {
            // Where one that was killed has left its file, there is room for another.
            Err(DirError::Io(_, error)) if error.kind() == io::ErrorKind::StorageFull => {
                overwrite(&path, &bytes).map_err(|error| DirError::Io(path, error))
            }
            written => written,
        }
    }

    /// The token for a role that is kept here for handing on, made where there is none yet, and the file
    /// that holds it, `ROLE.token`.
    ///
    /// # Errors
    ///
    /// [`DirError::Io`], and [`DirError::Damaged`] where the file holds something else.
    pub fn publish_token(
        &self,
        role: Role,
        credentials: &Credentials,
    ) -> Result<(PathBuf, Token), DirError> {
        let path = token_file(&self.path, role);
        let fingerprint = credentials.identity.fingerprint();
        match fs::read_to_string(&path) {
            Ok(text) => {
                let token = text.parse::<Token>();
                let token = token.map_err(|_| DirError::Damaged(path.clone()))?;
                // One of credentials that were here before admits nobody.
                if token.claims.role == role && token.fingerprint == fingerprint {
                    return Ok((path, token));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(DirError::Io(path, error)),
        }
        let issued = credentials
            .authority
            .issue(fingerprint, role, 0)
            .map_err(|error| DirError::Io(path.clone(), error))?;
        write_private(&path, format!("{}\n", issued.expose()).as_bytes())?;
        Ok((path, issued))
    }

    /// Takes back what [`publish`](Self::publish) left.
    pub fn withdraw(&self) {
        // A file that stays behind names a process that is gone, which readers notice.
        let _ = fs::remove_file(self.path.join(ACCESS));
    }
}

impl Credentials {
    /// New ones.
    ///
    /// # Errors
    ///
    /// Where the operating system has no randomness.
    pub fn generate() -> Result<Self, DirError> {
        Ok(Self {
            identity: Identity::generate()?,
            authority: Authority::generate().map_err(|e| DirError::Io(IDENTITY.into(), e))?,
        })
    }
}

/// The file in the directory `path` with a token for a role.
pub fn token_file(path: &Path, role: Role) -> PathBuf {
    path.join(format!("{role}.token"))
}

/// How to reach the coordinator whose directory is `path`; `None` where none is running there.
///
/// # Errors
///
/// [`DirError::Io`] and [`DirError::Damaged`].
pub fn access(path: &Path) -> Result<Option<Access>, DirError> {
    let path = path.join(ACCESS);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DirError::Io(path, error)),
    };
    let access: Access =
        serde_json::from_slice(&bytes).map_err(|_| DirError::Damaged(path.clone()))?;
    let pid = i32::try_from(access.pid).ok();
    let process = pid.and_then(rustix::process::Pid::from_raw);
    let alive = process.is_some_and(|pid| {
        !matches!(
            rustix::process::test_kill_process(pid),
            Err(rustix::io::Errno::SRCH)
        )
    });
    Ok(alive.then_some(access))
}

/// The tokens that a coordinator no longer accepts.
#[derive(Debug, Default)]
pub struct Revocations {
    names: BTreeSet<String>,
    path: Option<PathBuf>,
}

impl Revocations {
    /// Whether the token `id` was revoked.
    pub fn contains(&self, id: &[u8; 8]) -> bool {
        !self.names.is_empty() && self.names.contains(&data_encoding::HEXLOWER.encode(id))
    }

    /// Revokes the token `name`, for good.
    ///
    /// # Errors
    ///
    /// [`DirError::Io`]; the token is then still accepted.
    pub fn revoke(&mut self, name: &str) -> Result<(), DirError> {
        let mut names = self.names.clone();
        names.insert(name.to_owned());
        if let Some(path) = &self.path {
            let lines: String = names.iter().map(|name| format!("{name}\n")).collect();
            write_private(path, lines.as_bytes())?;
        }
        self.names = names;
        Ok(())
    }
}

/// Replaces a file by one that only its owner may read, in one step, durably.
/// Writes over a file, in the place that it has on the disk.
fn overwrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<(), DirError> {
    let temporary = path.with_extension("tmp");
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(|error| DirError::Io(path.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn one_coordinator_at_a_time_and_the_same_one_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let dir = StateDir::open(&path).unwrap();
        assert!(matches!(StateDir::open(&path), Err(DirError::InUse(_))));
        let first = dir.credentials().unwrap().identity.fingerprint();
        drop(dir);
        let dir = StateDir::open(&path).unwrap();
        assert_eq!(dir.credentials().unwrap().identity.fingerprint(), first);
        for file in [&path, &path.join(IDENTITY)] {
            assert_eq!(fs::metadata(file).unwrap().mode() & 0o077, 0);
        }
        fs::write(path.join(IDENTITY), b"nonsense").unwrap();
        assert!(matches!(dir.credentials(), Err(DirError::Damaged(_))));
    }

    #[test]
    fn access_is_published_withdrawn_and_stale_after_a_crash() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        let credentials = dir.credentials().unwrap();
        assert!(access(folder.path()).unwrap().is_none());
        let address = "127.0.0.1:4242".parse().unwrap();
        dir.publish(address, "head:4242", &credentials).unwrap();
        let found = access(folder.path()).unwrap().unwrap();
        assert_eq!(found.address, address);
        let mut stale = found;
        stale.pid = i32::MAX as u32;
        fs::write(
            folder.path().join(ACCESS),
            serde_json::to_vec(&stale).unwrap(),
        )
        .unwrap();
        assert!(access(folder.path()).unwrap().is_none());
        dir.withdraw();
        assert!(access(folder.path()).unwrap().is_none());
    }

    #[test]
    fn a_token_is_kept_for_as_long_as_it_admits() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        let credentials = dir.credentials().unwrap();
        let (path, token) = dir.publish_token(Role::Worker, &credentials).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o077, 0);
        let (_, again) = dir.publish_token(Role::Worker, &credentials).unwrap();
        assert!(again == token && token.claims.role == Role::Worker);
        fs::remove_file(folder.path().join(IDENTITY)).unwrap();
        let others = dir.credentials().unwrap();
        let (_, new) = dir.publish_token(Role::Worker, &others).unwrap();
        assert_eq!(new.fingerprint, others.identity.fingerprint());
        fs::write(&path, "nonsense").unwrap();
        let damaged = dir.publish_token(Role::Worker, &others);
        assert!(matches!(damaged, Err(DirError::Damaged(_))));
    }

    #[test]
    fn revocations_last() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        dir.revocations()
            .unwrap()
            .revoke("0102030405060708")
            .unwrap();
        let again = dir.revocations().unwrap();
        assert!(again.contains(&[1, 2, 3, 4, 5, 6, 7, 8]));
        assert!(!again.contains(&[0; 8]));
    }
}
