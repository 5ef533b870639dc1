//! Finding a coordinator, anew for each connection.
//!
//! A coordinator may move: its name comes to stand for another address, or it is started elsewhere and
//! writes its access file anew. Whoever connects again therefore does not go where it was, but looks.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::access::{AccessError, AccessFile};
use crate::token::{Role, Token};

/// How a coordinator is found.
#[derive(Clone)]
pub enum Locator {
    /// It is at this address.
    Address(SocketAddr, Token),
    /// It is at `HOST:PORT`, whatever that stands for at the time.
    Name(String, Token),
    /// An access file says where it is.
    File {
        /// The file.
        path: PathBuf,
        /// As what to be admitted, by the file's own token for it.
        role: Role,
        /// A token to be admitted by instead.
        token: Option<Token>,
    },
}

/// Why a coordinator was not found.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// Its name stands for nothing, or cannot be asked for now.
    #[error("{0}: {1}")]
    Name(String, io::Error),
    /// The access file is of no use.
    #[error(transparent)]
    File(#[from] AccessError),
}

impl Locator {
    /// Where it is now, and what admits.
    ///
    /// # Errors
    ///
    /// [`LocateError`]; all but a malformed name may be over a little later.
    pub async fn locate(&self) -> Result<(SocketAddr, Token), LocateError> {
        match self {
            Locator::Address(address, token) => Ok((*address, token.clone())),
            Locator::Name(name, token) => Ok((resolve(name).await?, token.clone())),
            Locator::File { path, role, token } => {
                // A few hundred bytes, once for each connection.
                let access = AccessFile::read(path)?;
                let token = match token {
                    Some(token) => token.clone(),
                    None => access.token(*role, path)?,
                };
                Ok((resolve(&access.address).await?, token))
            }
        }
    }

    /// Whether a refusal may be over without anybody starting this process anew: another coordinator may
    /// write the file.
    pub fn may_change(&self) -> bool {
        matches!(self, Locator::File { .. })
    }
}

/// The address that `HOST:PORT` stands for; IPv4 first, which listens by default.
async fn resolve(name: &str) -> Result<SocketAddr, LocateError> {
    let failed = |error| LocateError::Name(name.to_owned(), error);
    let found = tokio::net::lookup_host(name).await.map_err(failed)?;
    let mut all: Vec<SocketAddr> = found.collect();
    all.sort_by_key(|address| !address.is_ipv4());
    let none = || failed(io::Error::new(io::ErrorKind::NotFound, "it has no address"));
    all.first().copied().ok_or_else(none)
}
