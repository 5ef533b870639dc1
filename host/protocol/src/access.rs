//! Access files: how to reach a coordinator, for those who share a folder with it.
//!
//! A coordinator that is asked to writes one when it listens, and removes it at a clean end. The file is
//! JSON, of mode 0600, and is replaced in one step, so that nobody reads half of it:
//!
//! ```json
//! {
//!   "schema": "optwasm.access/1",
//!   "address": "head.example.org:4710",
//!   "fingerprint": "1f5c...",
//!   "worker_token": "optwasm1_...",
//!   "client_token": "optwasm1_..."
//! }
//! ```
//!
//! The client's token is there only where it was asked for, and there is never an administrator's.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::token::{Role, Token};

/// What the file says it is.
const SCHEMA: &str = "optwasm.access/1";

/// Largest access file that is read: two tokens and a name are less than 1 KiB.
const FILE_MAX: u64 = 16 << 10;

/// How to reach a coordinator, and as what. It holds secrets, and is not printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessFile {
    schema: String,
    /// Where it listens, `HOST:PORT`, as others reach it.
    pub address: String,
    /// Fingerprint of its certificate, as text; that of the tokens.
    pub fingerprint: String,
    /// A token for workers, as text.
    pub worker_token: String,
    /// A token for clients, as text, where clients are admitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
}

/// Why an access file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// There is none: its coordinator has not been started yet, or has ended. Wait, or start it.
    #[error("there is no access file {0}")]
    Missing(PathBuf),
    /// It cannot be read or written.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// It is no access file, or its parts do not belong together. Have the coordinator write it again.
    #[error("{0} is not an access file of optwasm")]
    Malformed(PathBuf),
    /// It holds no token for this role. Start the coordinator with `--access-clients`.
    #[error("the access file {0} admits workers only")]
    WorkersOnly(PathBuf),
}

impl AccessFile {
    /// What is written for a coordinator that others reach at `address`.
    pub fn new(address: String, worker: &Token, client: Option<&Token>) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            address,
            fingerprint: worker.fingerprint.to_string(),
            worker_token: worker.expose(),
            client_token: client.map(Token::expose),
        }
    }

    /// Reads and checks one.
    ///
    /// # Errors
    ///
    /// [`AccessError`].
    pub fn read(path: &Path) -> Result<Self, AccessError> {
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(FILE_MAX).read_to_string(&mut text));
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(AccessError::Missing(path.to_owned()));
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(AccessError::Malformed(path.to_owned()));
            }
            Err(error) => return Err(AccessError::Io(path.to_owned(), error)),
        }
        let malformed = || AccessError::Malformed(path.to_owned());
        let access: Self = serde_json::from_str(&text).map_err(|_| malformed())?;
        let belongs = |text: &str, role| {
            let token = text.parse::<Token>();
            token.is_ok_and(|token| {
                token.claims.role == role && token.fingerprint.to_string() == access.fingerprint
            })
        };
        let client = access.client_token.as_deref();
        let is_whole = access.schema == SCHEMA
            && belongs(&access.worker_token, Role::Worker)
            && client.is_none_or(|text| belongs(text, Role::Client));
        is_whole.then_some(access).ok_or_else(malformed)
    }

    /// The token for a role: workers get the workers', all others the clients'.
    ///
    /// # Errors
    ///
    /// [`AccessError::WorkersOnly`]; `path` is where it was read.
    pub fn token(&self, role: Role, path: &Path) -> Result<Token, AccessError> {
        let text = match role {
            Role::Worker => Some(&self.worker_token),
            Role::Admin | Role::Client | Role::Read => self.client_token.as_ref(),
        };
        let text = text.ok_or_else(|| AccessError::WorkersOnly(path.to_owned()))?;
        text.parse()
            .map_err(|_| AccessError::Malformed(path.to_owned()))
    }

    /// Writes it, in place of whatever is there.
    ///
    /// # Errors
    ///
    /// [`AccessError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), AccessError> {
        // Two coordinators that are told the same file by mistake do not write the same draft.
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}.tmp", std::process::id()));
        let draft = PathBuf::from(draft);
        let write = || -> io::Result<()> {
            // One that is there may have another mode.
            match fs::remove_file(&draft) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&draft)?;
            let mut text = serde_json::to_vec_pretty(self)?;
            text.push(b'\n');
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&draft, path)
        };
        write().map_err(|error| AccessError::Io(path.to_owned(), error))
    }

    /// Removes the file where it still is this one: another coordinator may have written it since.
    pub fn withdraw(&self, path: &Path) {
        if Self::read(path).is_ok_and(|there| there == *self) {
            // A file that stays behind leads to nobody, which its readers notice.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::{Authority, Fingerprint};

    fn tokens(fingerprint: u8) -> [Token; 3] {
        let authority = Authority::generate().unwrap();
        let fingerprint = Fingerprint::from_bytes([fingerprint; 32]);
        [Role::Worker, Role::Client, Role::Admin]
            .map(|role| authority.issue(fingerprint, role, 0).unwrap())
    }

    #[test]
    fn what_was_written_is_read_and_is_private() {
        let dir = std::env::temp_dir().join(format!("optwasm-access-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("lab.access");
        assert!(matches!(
            AccessFile::read(&path),
            Err(AccessError::Missing(_))
        ));
        fs::write(&path, "an older one, which everybody could read").unwrap();
        let malformed = |access: &AccessFile| {
            access.write(&path).unwrap();
            matches!(AccessFile::read(&path), Err(AccessError::Malformed(_)))
        };
        assert!(matches!(
            AccessFile::read(&path),
            Err(AccessError::Malformed(_))
        ));
        let [worker, client, admin] = tokens(1);
        let access = AccessFile::new("head:4710".into(), &worker, None);
        access.write(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        assert!(AccessFile::read(&path).unwrap() == access);
        assert!(access.token(Role::Worker, &path).unwrap() == worker);
        assert!(matches!(
            access.token(Role::Client, &path),
            Err(AccessError::WorkersOnly(_))
        ));

        let both = AccessFile::new("head:4710".into(), &worker, Some(&client));
        access.withdraw(&path);
        assert!(!path.exists());
        both.write(&path).unwrap();
        access.withdraw(&path);
        assert!(path.exists(), "it is another's");
        assert!(both.token(Role::Admin, &path).unwrap() == client);

        // Parts that do not belong together, and more than should be shared.
        let [_, stranger, _] = tokens(2);
        assert!(malformed(&AccessFile::new(
            "a:1".into(),
            &worker,
            Some(&stranger)
        )));
        assert!(malformed(&AccessFile::new(
            "a:1".into(),
            &worker,
            Some(&admin)
        )));
        assert!(malformed(&AccessFile::new("a:1".into(), &admin, None)));
        let newer = AccessFile {
            schema: "optwasm.access/2".into(),
            ..access
        };
        assert!(malformed(&newer));
        fs::remove_dir_all(&dir).unwrap();
    }
}
