//! What the tests of the store share.

#![allow(dead_code, reason = "each test uses some of it")]

use std::path::Path;

use bytes::Bytes;
use optwasm_protocol::message::BatchSpec;
use optwasm_protocol::{BatchId, ContentId, JobId, Namespace, Outcome, Payload, Report, Template};
use optwasm_store::{
    Commit, Committed, NewBatch, Record, SqliteOptions, SqliteStore, Store, StoreError,
};

/// A generator of numbers that look random: SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Options with a small reserve, so that opening is quick.
pub fn options() -> SqliteOptions {
    SqliteOptions {
        reserve: 1 << 20,
        ..SqliteOptions::default()
    }
}

pub fn open(dir: &Path) -> SqliteStore {
    SqliteStore::open(dir, options()).unwrap()
}

/// Waits on a runtime of its own.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

/// Appends, and waits until that is safe.
pub fn append(store: &impl Store, records: Vec<Record>) -> Result<Committed, StoreError> {
    match store.append(records)? {
        Commit::Done(committed) => Ok(committed),
        pending => wait(pending.wait()),
    }
}

pub fn spec() -> BatchSpec {
    BatchSpec::new(Template::new(ContentId::of(b"module")))
}

/// A batch whose results may answer others with the same engine.
pub fn batch(number: u64, spec: BatchSpec, inputs: &[&[u8]], engine: &str) -> Record {
    let inputs = inputs
        .iter()
        .map(|input| Bytes::copy_from_slice(input).into());
    new_batch(number, spec, inputs.collect(), engine)
}

pub fn new_batch(number: u64, spec: BatchSpec, inputs: Vec<Payload>, engine: &str) -> Record {
    Record::Submitted(Box::new(NewBatch {
        namespace: Namespace::default(),
        batch: BatchId(number),
        spec,
        inputs,
        submitted_ms: 1000 + number,
        digest: [number as u8; 32],
        engine: engine.to_owned(),
    }))
}

pub fn job(batch: u64, index: u32) -> JobId {
    JobId(BatchId(batch), index)
}

pub fn ok(output: &[u8]) -> Report {
    Report {
        fuel: 100,
        wall_us: 5,
        worker: "w".to_owned(),
        attempt: 1,
        ..Report::not_run(Outcome::Ok(output.to_vec().into()))
    }
}

pub fn result(job: JobId, report: Report, engine: &str) -> Record {
    Record::Result(job, Box::new(report), engine.to_owned())
}
