//! Blobs in an object store that speaks S3.
//!
//! An object is either there whole or not at all, so nothing has to be renamed. Its bytes are
//! checked against its name on every read, as those of files are.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use optwasm_protocol::ContentId;
use url::Url;

use crate::StoreError;

/// A place in an object store.
#[derive(Clone, Debug)]
pub(super) struct Remote {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

fn failed(error: object_store::Error) -> StoreError {
    StoreError::Disk(error.to_string())
}

impl Remote {
    /// Opens `s3://bucket/prefix`, or what else `object_store` knows; options come from the
    /// environment.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let wrong = |why: String| StoreError::Disk(format!("{url}: {why}"));
        let parsed = Url::parse(url).map_err(|error| wrong(error.to_string()))?;
        let options = std::env::vars().map(|(key, value)| (key.to_ascii_lowercase(), value));
        let opened = object_store::parse_url_opts(&parsed, options);
        let (store, prefix) = opened.map_err(|error| wrong(error.to_string()))?;
        Ok(Self {
            store: store.into(),
            prefix,
        })
    }

    fn path(&self, id: &ContentId) -> Path {
        self.prefix.clone().join(id.to_string())
    }

    pub async fn put(&self, id: ContentId, bytes: Bytes) -> Result<(), StoreError> {
        if ContentId::of(&bytes) != id {
            return Err(StoreError::Hash(id));
        }
        if self.get(id).await.is_ok() {
            return Ok(());
        }
        let put = self
            .store
            .put(&self.path(&id), PutPayload::from(bytes))
            .await;
        put.map(drop).map_err(failed)
    }

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
}
