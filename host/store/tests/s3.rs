//! Blobs in a real object store that speaks S3.
//!
//! Runs where `OPTWASM_TEST_S3` names a bucket that may be written, such as `s3://bucket/prefix`; endpoint
//! and credentials are in the variables that the coordinator reads too (`AWS_ENDPOINT`,
//! `AWS_ALLOW_HTTP`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`). `cargo xtask s3` does that with a
//! server of its own.

// A failed unwrap is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Random, options};
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use optwasm_protocol::ContentId;
use optwasm_store::{BlobPlace, SqliteOptions, SqliteStore, Store, StoreError};

#[tokio::test]
async fn blobs_in_a_bucket() {
    let Ok(bucket) = std::env::var("OPTWASM_TEST_S3") else {
        println!("skipped: OPTWASM_TEST_S3 names no bucket");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    // Another place for each run, so that a bucket can be used again.
    let prefix = format!("run-{}", std::process::id());
    let url = format!("{bucket}/{prefix}");
    let open = || {
        let options = SqliteOptions {
            blobs: BlobPlace::Url(url.clone()),
            blob_grace: Duration::ZERO,
            ..options()
        };
        SqliteStore::open(dir.path(), options).unwrap()
    };
    let store = open();
    let mut random = Random(1);
    let mut blobs = Vec::new();
    for len in [0, 1, 1000, 20 << 20] {
        let bytes: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        blobs.push((ContentId::of(&bytes), Bytes::from(bytes)));
    }
    for (id, bytes) in &blobs {
        store.put_blob(*id, bytes.clone()).await.unwrap();
        // A second time it changes nothing.
        store.put_blob(*id, bytes.clone()).await.unwrap();
    }
    drop(store);
    let store = open();
    for (id, bytes) in &blobs {
        assert!(store.has_blob(id));
        assert_eq!(store.get_blob(*id).await.unwrap().as_ref(), Some(bytes));
    }

    // Through another client of the same bucket.
    let objects = AmazonS3Builder::from_env().with_url(&bucket).build();
    let objects = objects.unwrap();
    let base = url.splitn(4, '/').nth(3).unwrap();
    let object = |id: &ContentId| Path::from(format!("{base}/{id}"));
    let (damaged, missing) = (blobs[2].0, blobs[1].0);
    let other = PutPayload::from_static(b"other bytes");
    objects.put(&object(&damaged), other).await.unwrap();
    objects.delete(&object(&missing)).await.unwrap();
    for id in [damaged, missing] {
        let read = store.get_blob(id).await;
        assert!(matches!(read, Err(StoreError::Damaged(_))), "{read:?}");
    }

    let freed = store.collect().await.unwrap();
    assert_eq!(freed, (20 << 20) + 1001);
    for (id, _) in &blobs {
        assert!(!store.has_blob(id));
        assert!(objects.head(&object(id)).await.is_err());
    }
}
