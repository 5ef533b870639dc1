//! A store with its blobs in an object store: the one in memory that `object_store` has, which
//! fails when it is told to.

// A failed unwrap is a failed test.
#![allow(clippy::unwrap_used)]

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    PutMultipartOptions, PutOptions, PutResult, Result,
};
use tempfile::TempDir;

use super::super::blobs::Blobs;
use super::*;
use crate::{BlobPlace, SqliteOptions, SqliteStore, Store};

/// An object store that can be out of order.
#[derive(Debug, Default)]
struct Faulty {
    inner: InMemory,
    broken: AtomicBool,
}

impl Faulty {
    fn check(&self) -> Result<()> {
        match self.broken.load(Ordering::Relaxed) {
            true => Err(object_store::Error::Generic {
                store: "faulty",
                source: "out of order".into(),
            }),
            false => Ok(()),
        }
    }
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.check()?;
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.check()?;
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.check()?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        match self.check() {
            Ok(()) => self.inner.delete_stream(locations),
            Err(error) => futures_util::stream::iter([Err(error)]).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A store whose blobs nobody needs for longer than they are used.
struct Open(SqliteStore);

impl Deref for Open {
    type Target = SqliteStore;

    fn deref(&self) -> &SqliteStore {
        &self.0
    }
}

fn remote(objects: &Arc<Faulty>) -> Remote {
    Remote::new(objects.clone(), Path::from("some/prefix"))
}

fn open(dir: &TempDir, objects: &Arc<Faulty>) -> Open {
    let options = SqliteOptions {
        reserve: 1 << 20,
        blob_grace: Duration::ZERO,
        ..SqliteOptions::default()
    };
    let blobs = Blobs::Remote(remote(objects));
    Open(SqliteStore::open_with(dir.path(), options, blobs).unwrap())
}

fn path(id: &ContentId) -> Path {
    Path::from(format!("some/prefix/{id}"))
}

fn blob() -> (ContentId, Bytes) {
    let bytes = Bytes::from_static(b"bytes of a blob");
    (ContentId::of(&bytes), bytes)
}

#[tokio::test]
async fn blobs_outlive_the_process() {
    let (dir, objects) = (TempDir::new().unwrap(), Arc::default());
    let (id, bytes) = blob();
    let store = open(&dir, &objects);
    store.put_blob(id, bytes.clone()).await.unwrap();
    let other = ContentId::of(b"something else");
    let refused = store.put_blob(other, bytes.clone()).await;
    assert_eq!(refused, Err(StoreError::Hash(other)));
    assert!(!store.has_blob(&other));
    drop(store);
    let store = open(&dir, &objects);
    assert!(store.has_blob(&id));
    assert_eq!(store.get_blob(id).await.unwrap(), Some(bytes));
    assert_eq!(store.get_blob(other).await.unwrap(), None);
}

#[tokio::test]
async fn damage_is_found_on_reading() {
    let (dir, objects) = (TempDir::new().unwrap(), Arc::<Faulty>::default());
    let (id, bytes) = blob();
    let store = open(&dir, &objects);
    store.put_blob(id, bytes.clone()).await.unwrap();
    let other = PutPayload::from_static(b"bytes of a blot");
    objects.put(&path(&id), other).await.unwrap();
    let damaged = store.get_blob(id).await;
    assert!(
        matches!(damaged, Err(StoreError::Damaged(_))),
        "{damaged:?}"
    );
    objects.delete(&path(&id)).await.unwrap();
    let missing = store.get_blob(id).await;
    assert!(
        matches!(missing, Err(StoreError::Damaged(_))),
        "{missing:?}"
    );
    // Sent again it is whole again.
    store.put_blob(id, bytes.clone()).await.unwrap();
    assert_eq!(store.get_blob(id).await.unwrap(), Some(bytes));
}

/// A row means that the object is there: it comes after the object, and goes before it.
#[tokio::test]
async fn no_row_is_without_its_object() {
    let (dir, objects) = (TempDir::new().unwrap(), Arc::<Faulty>::default());
    let (id, bytes) = blob();
    let store = open(&dir, &objects);
    objects.broken.store(true, Ordering::Relaxed);
    let refused = store.put_blob(id, bytes.clone()).await;
    assert!(matches!(refused, Err(StoreError::Disk(_))), "{refused:?}");
    assert!(!store.has_blob(&id));
    objects.broken.store(false, Ordering::Relaxed);
    store.put_blob(id, bytes.clone()).await.unwrap();

    objects.broken.store(true, Ordering::Relaxed);
    let failed = store.collect().await;
    assert!(matches!(failed, Err(StoreError::Disk(_))), "{failed:?}");
    assert!(!store.has_blob(&id));
    objects.broken.store(false, Ordering::Relaxed);
    assert!(objects.head(&path(&id)).await.is_ok(), "it was not deleted");
    drop(store);
    // The next process deletes what no row knows of, and nothing else.
    let foreign = [path(&id).join("part"), Path::from("some/prefix/notes")];
    for foreign in &foreign {
        let notes = PutPayload::from_static(b"notes");
        objects.put(foreign, notes).await.unwrap();
    }
    open(&dir, &objects).collect().await.unwrap();
    assert!(objects.head(&path(&id)).await.is_err());
    for foreign in &foreign {
        assert!(objects.head(foreign).await.is_ok());
    }
}

fn place_of(dir: &TempDir, url: &str) -> std::result::Result<Blobs, StoreError> {
    Blobs::open(dir.path(), &BlobPlace::Url(url.to_owned()))
}

#[test]
fn the_place_stays_the_same() {
    let dir = TempDir::new().unwrap();
    assert!(matches!(
        place_of(&dir, "s3://bucket/a"),
        Ok(Blobs::Remote(_))
    ));
    assert!(place_of(&dir, "s3://bucket/a").is_ok());
    let other = place_of(&dir, "s3://bucket/b").unwrap_err().to_string();
    assert!(other.contains("s3://bucket/a"), "{other}");
    let local = Blobs::open(dir.path(), &BlobPlace::LocalDir).unwrap_err();
    assert!(local.to_string().contains("s3://bucket/a"), "{local}");

    let dir = TempDir::new().unwrap();
    Blobs::open(dir.path(), &BlobPlace::LocalDir).unwrap();
    assert!(place_of(&dir, "s3://bucket/a").is_err());
}

#[test]
fn wrong_places_are_refused() {
    let dir = TempDir::new().unwrap();
    for url in [
        "",
        "bucket",
        "gs://bucket/a",
        "file:///etc",
        "memory:///",
        "http://host/a",
    ] {
        let refused = place_of(&dir, url);
        assert!(matches!(refused, Err(StoreError::Disk(_))), "{url}");
    }
    let secret = place_of(&dir, "s3://key:hunter2@bucket/a").unwrap_err();
    assert!(!secret.to_string().contains("hunter2"), "{secret}");
    assert!(place(dir.path()).unwrap().is_none());
}
