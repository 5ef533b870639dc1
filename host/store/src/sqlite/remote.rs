//! Blobs in an object store that speaks S3.
//!
//! An object is either there whole or not at all, so nothing has to be renamed. Its bytes are
//! checked against its name on every read, as those of files are. Everything below the URL belongs to
//! one store: another that kept its blobs there would lose them when this one collects.
//!
//! Which place a store's blobs are in stands in a file of its folder, so that it is not opened with
//! another one by mistake.

#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path as Folder;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{
    ClientConfigKey, ObjectStore, ObjectStoreExt, ObjectStoreScheme, PutPayload, RetryConfig, aws,
};
use optwasm_protocol::ContentId;
use url::Url;

use crate::StoreError;

/// The file that says in which object store a store's blobs are.
const PLACE: &str = "blobs.url";

/// How long connecting may take, and a whole request: the largest blob at 4 MB/s.
const CONNECT: &str = "5s";
const REQUEST: &str = "600s";

/// How often, and for how long, a failed request is tried again before its caller hears of it: a
/// client is waiting.
const RETRIES: usize = 5;
const RETRY_FOR: Duration = Duration::from_secs(20);

/// A place in an object store.
#[derive(Clone, Debug)]
pub(super) struct Remote {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

fn failed(error: object_store::Error) -> StoreError {
    StoreError::Disk(format!("blobs: {error}"))
}

/// The object store that keeps the blobs of the store in a folder, where one does.
pub(super) fn place(dir: &Folder) -> Result<Option<String>, StoreError> {
    match fs::read_to_string(dir.join(PLACE)) {
        Ok(url) => Ok(Some(url.trim_end().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::Disk(format!("{PLACE}: {error}"))),
    }
}

/// Notes that the blobs of the store in a folder are in this object store.
pub(super) fn set_place(dir: &Folder, url: &str) -> Result<(), StoreError> {
    let written = (|| {
        let mut file = File::create(dir.join(PLACE))?;
        writeln!(file, "{url}")?;
        file.sync_all()?;
        File::open(dir)?.sync_all()
    })();
    written.map_err(|error| StoreError::Disk(format!("{PLACE}: {error}")))
}

impl Remote {
    /// Opens `s3://bucket/prefix`. Credentials, region and endpoint come from the environment, by
    /// the names that `AmazonS3ConfigKey` lists.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let wrong = |why: String| StoreError::Disk(format!("blobs cannot be kept at {url}: {why}"));
        let parsed = Url::parse(url).map_err(|error| wrong(error.to_string()))?;
        if !parsed.username().is_empty() || parsed.password().is_some() {
            let why = "credentials belong into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
            // Without the URL, which holds them.
            return Err(StoreError::Disk(format!("--blobs: {why}")));
        }
        let (scheme, prefix) =
            ObjectStoreScheme::parse(&parsed).map_err(|error| wrong(error.to_string()))?;
        if scheme != ObjectStoreScheme::AmazonS3 {
            return Err(wrong("only s3://bucket/prefix is supported".to_owned()));
        }
        // Where the program has chosen one already, that one is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = |key| aws::AmazonS3ConfigKey::Client(key);
        let retry = RetryConfig {
            max_retries: RETRIES,
            retry_timeout: RETRY_FOR,
            ..RetryConfig::default()
        };
        let store = aws::AmazonS3Builder::from_env()
            .with_config(client(ClientConfigKey::ConnectTimeout), CONNECT)
            .with_config(client(ClientConfigKey::Timeout), REQUEST)
            .with_retry(retry)
            .with_url(url)
            .build();
        let store = store.map_err(|error| wrong(error.to_string()))?;
        Ok(Self::new(Arc::new(store), prefix))
    }

    /// A place below `prefix`.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        Self { store, prefix }
    }

    fn path(&self, id: &ContentId) -> Path {
        self.prefix.clone().join(id.to_string())
    }

    /// Keeps a blob, whose hash is checked; whole or not at all, in place of what may be there.
    pub async fn put(&self, id: ContentId, bytes: Bytes) -> Result<(), StoreError> {
        if ContentId::of(&bytes) != id {
            return Err(StoreError::Hash(id));
        }
        let payload = PutPayload::from(bytes);
        let put = self.store.put(&self.path(&id), payload).await;
        put.map(drop).map_err(failed)
    }

    /// A blob's bytes, checked.
    pub async fn get(&self, id: ContentId) -> Result<Bytes, StoreError> {
        let found = match self.store.get(&self.path(&id)).await {
            Ok(found) => found.bytes().await.map_err(failed)?,
            Err(object_store::Error::NotFound { .. }) => {
                return Err(StoreError::Damaged(format!("blob {id} is missing")));
            }
            Err(error) => return Err(failed(error)),
        };
        if ContentId::of(&found) != id {
            return Err(StoreError::Damaged(format!("blob {id}")));
        }
        Ok(found)
    }

    pub async fn delete(&self, id: ContentId) -> Result<(), StoreError> {
        match self.store.delete(&self.path(&id)).await {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            other => other.map_err(failed),
        }
    }

    /// Names of all blobs that are there.
    pub async fn list(&self) -> Result<Vec<ContentId>, StoreError> {
        let mut objects = self.store.list(Some(&self.prefix));
        let mut found = Vec::new();
        while let Some(object) = objects.try_next().await.map_err(failed)? {
            let name = object
                .location
                .filename()
                .and_then(|name| name.parse().ok());
            // Other objects below the prefix are not ours.
            found.extend(name.filter(|id| self.path(id) == object.location));
        }
        Ok(found)
    }
}
