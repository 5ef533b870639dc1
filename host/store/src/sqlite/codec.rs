//! How records become bytes, and how it is noticed when they change on the disk.
//!
//! Every row ends with a checksum over its table, its keys, its other columns and its body, so that
//! neither a changed byte nor a row in the wrong place passes for what was written.
//!
//! A job's *key* is one integer: the batch's number in the upper 32 bits, the index in the lower.
//! All jobs of a batch are one range of keys.

use std::ops::RangeInclusive;

use bytes::Bytes;
use optwasm_protocol::message::BatchSpec;
use optwasm_protocol::{BatchId, ContentId, JobId, Namespace, Outcome, Payload, Report};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::record::Held;

/// The tables whose rows carry a checksum; the number goes into it.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Table {
    Meta = 1,
    Batches,
    States,
    Chunks,
    Keys,
    Results,
    Attempts,
    Witnesses,
    Limits,
    Memo,
    Followers,
    Workers,
    Holds,
    Blobs,
    BlobRefs,
    Removing,
    Namespaces,
    Uploads,
}

/// The checksum of a reference to a blob. References from before there were namespaces have none in
/// it.
pub(super) fn checksum_of_ref(batch: i64, namespace: i64, id: &[u8]) -> i64 {
    match namespace {
        0 => checksum(Table::BlobRefs, &[batch], id),
        _ => checksum(Table::BlobRefs, &[batch, namespace], id),
    }
}

/// The checksum of a row: the first 8 bytes of BLAKE3, which 64 KiB of input pass in about 15 µs.
pub(super) fn checksum(table: Table, columns: &[i64], body: &[u8]) -> i64 {
    // Most rows fit a buffer, which is hashed several times faster than in pieces.
    const SMALL: usize = 512;
    let head = 1 + 8 * columns.len();
    let hash = if head + body.len() <= SMALL {
        let mut buffer = [0; SMALL];
        buffer[0] = table as u8;
        for (place, column) in buffer[1..].chunks_exact_mut(8).zip(columns) {
            place.copy_from_slice(&column.to_le_bytes());
        }
        buffer[head..head + body.len()].copy_from_slice(body);
        blake3::hash(&buffer[..head + body.len()])
    } else {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[table as u8]);
        for column in columns {
            hasher.update(&column.to_le_bytes());
        }
        hasher.update(body);
        hasher.finalize()
    };
    let mut sum = [0; 8];
    sum.copy_from_slice(&hash.as_bytes()[..8]);
    i64::from_le_bytes(sum)
}

/// The largest number of a batch whose jobs have keys.
pub(super) const BATCH_MAX: u64 = i32::MAX as u64;

/// The key of a job.
pub(super) fn job_key(JobId(BatchId(batch), index): JobId) -> i64 {
    ((batch as i64) << 32) | i64::from(index)
}

/// The job with a key.
pub(super) fn job_of(key: i64) -> JobId {
    JobId(BatchId((key >> 32) as u64), key as u32)
}

/// The keys of a batch's jobs, and all numbers that are made like them.
pub(super) fn keys_of(batch: u64) -> RangeInclusive<i64> {
    let first = (batch as i64) << 32;
    first..=first | 0xffff_ffff
}

/// Names of outcomes by the number that rows hold. Only ever appended to.
const OUTCOMES: [&str; 16] = [
    "ok",
    "guest-error",
    "panic",
    "trap",
    "out-of-fuel",
    "memory-limit",
    "output-too-large",
    "rejected",
    "stack-overflow",
    "deadline",
    "host-out-of-memory",
    "host-panic",
    "worker-lost",
    "cancelled",
    "damaged",
    "disputed",
];

/// The first so many outcomes are those that another run would come to as well.
const DETERMINISTIC: i64 = 8;

/// The number of the outcome of damaged results.
pub(super) const DAMAGED: i64 = 14;

/// The number of an outcome's name. An outcome that this version's table lacks cannot be: a test
/// goes through all.
pub(super) fn outcome_number(name: &str) -> i64 {
    let place = OUTCOMES.iter().position(|known| *known == name);
    place.map_or(DAMAGED, |place| place as i64)
}

/// The name of an outcome with this number.
pub(super) fn outcome_name(number: i64) -> &'static str {
    let place = usize::try_from(number).ok();
    let name = place.and_then(|place| OUTCOMES.get(place));
    name.copied().unwrap_or(OUTCOMES[DAMAGED as usize])
}

/// Whether results with this outcome answer other jobs.
pub(super) fn is_deterministic(outcome: i64) -> bool {
    (0..DETERMINISTIC).contains(&outcome)
}

/// What is written once of a batch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Head {
    #[serde(default, skip_serializing_if = "Namespace::is_default")]
    pub namespace: Namespace,
    pub spec: BatchSpec,
    pub jobs: u32,
    pub digest: [u8; 32],
    pub engine: String,
    pub submitted_ms: u64,
}

/// What changes of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub done: u32,
    /// Results so far, replaced ones included: the next one's place in the order of completion.
    pub seq: u32,
    /// How many ended how, by the outcome's number.
    pub outcomes: Vec<u32>,
    /// Wider than a job's, so that it never overflows and can be counted backwards.
    pub fuel: u128,
    pub memo: u32,
    pub confirmed: u64,
    pub contradicted: u64,
    pub cancelled: bool,
    pub ended_ms: u64,
    /// Bytes that its inputs count for; 0 where it was submitted before they were counted.
    #[serde(default)]
    pub input_bytes: u64,
    /// Bytes of its results; those from before they were counted are not in it.
    #[serde(default)]
    pub result_bytes: u64,
    /// Bytes of its jobs' histories: attempts, limits, and results that wait to be confirmed.
    #[serde(default)]
    pub history_bytes: u64,
    /// Sum of [`mix`] over all results: shows whether the index over them is whole, whose entries
    /// have no checksums.
    pub set: u64,
}

/// Flag of a result row: it is the result of an identical job.
pub(super) const MEMO: i64 = 1;
/// Flag of a result row: its output is a blob.
pub(super) const BLOB: i64 = 2;

/// A result as a row. What the store itself computes with is in columns; the body is the CBOR of
/// the report without it.
#[derive(Clone, Debug)]
pub(super) struct ResultRow {
    pub job: i64,
    /// The batch's number and the place in the order of completion, like a job's key.
    pub done: i64,
    pub outcome: i64,
    pub attempt: u32,
    pub flags: i64,
    pub fuel: u64,
    pub body: Vec<u8>,
}

impl ResultRow {
    /// The row of a job's result; `done` is not known yet.
    pub fn new(job: i64, report: &Report) -> Self {
        let mut flags = 0;
        if report.memo {
            flags |= MEMO;
        }
        if let Outcome::Ok(Payload::Blob(..)) = report.outcome {
            flags |= BLOB;
        }
        let body = Report {
            attempt: 0,
            fuel: 0,
            memo: false,
            ..report.clone()
        };
        Self {
            job,
            done: 0,
            outcome: outcome_number(report.outcome.name()),
            attempt: report.attempt,
            flags,
            fuel: report.fuel,
            body: to_cbor(&body),
        }
    }

    pub fn checksum(&self) -> i64 {
        let columns = [
            self.job,
            self.done,
            self.outcome,
            i64::from(self.attempt),
            self.flags,
            self.fuel as i64,
        ];
        checksum(Table::Results, &columns, &self.body)
    }

    /// The report. `None` where the body is none.
    pub fn report(&self) -> Option<Report> {
        let report: Report = from_cbor(&self.body)?;
        Some(Report {
            attempt: self.attempt,
            fuel: self.fuel,
            memo: self.flags & MEMO != 0,
            ..report
        })
    }
}

impl State {
    /// Whether two say the same.
    pub fn agrees(&self, other: &Self) -> bool {
        // Outcomes that no job has any more may be written as none or as no entry.
        let plain = |state: &Self| {
            let mut state = state.clone();
            let used = state.outcomes.iter().rposition(|count| *count > 0);
            state.outcomes.truncate(used.map_or(0, |place| place + 1));
            // Not all are counted where an older version has written some.
            state.result_bytes = 0;
            state.history_bytes = 0;
            state
        };
        plain(self) == plain(other)
    }

    /// Bytes that it counts for.
    pub fn bytes(&self) -> i64 {
        let bytes = [self.input_bytes, self.result_bytes, self.history_bytes];
        bytes.into_iter().fold(0, u64::saturating_add) as i64
    }

    /// Counts a result.
    pub fn add(&mut self, row: &ResultRow) {
        let place = row.outcome.clamp(0, OUTCOMES.len() as i64 - 1) as usize;
        if self.outcomes.len() <= place {
            self.outcomes.resize(place + 1, 0);
        }
        self.outcomes[place] = self.outcomes[place].saturating_add(1);
        self.done = self.done.saturating_add(1);
        if row.flags & MEMO != 0 {
            self.memo = self.memo.saturating_add(1);
        } else {
            self.fuel = self.fuel.saturating_add(u128::from(row.fuel));
        }
        self.result_bytes = self.result_bytes.saturating_add(row.body.len() as u64);
        self.set = self.set.wrapping_add(mix(row.job, row.done, row.outcome));
    }

    /// No longer counts a result.
    pub fn take(&mut self, row: &ResultRow) {
        let place = row.outcome.clamp(0, OUTCOMES.len() as i64 - 1) as usize;
        if let Some(count) = self.outcomes.get_mut(place) {
            *count = count.saturating_sub(1);
        }
        self.done = self.done.saturating_sub(1);
        if row.flags & MEMO != 0 {
            self.memo = self.memo.saturating_sub(1);
        } else {
            self.fuel = self.fuel.saturating_sub(u128::from(row.fuel));
        }
        self.result_bytes = self.result_bytes.saturating_sub(row.body.len() as u64);
        self.set = self.set.wrapping_sub(mix(row.job, row.done, row.outcome));
    }
}

/// A hash of an entry of the index over results. SplitMix64's finalizer (Steele, Lea and Flood,
/// "Fast splittable pseudorandom number generators", 2014), once per number.
pub(super) fn mix(job: i64, done: i64, outcome: i64) -> u64 {
    [job, done, outcome].iter().fold(0, |hash, number| {
        let mut z = (hash ^ *number as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// A value as CBOR.
pub(super) fn to_cbor<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing to a vector does not fail, and none of our types refuses to be written.
    if ciborium::into_writer(value, &mut bytes).is_err() {
        bytes.clear();
    }
    bytes
}

/// The value that some CBOR holds. `None` where it holds no such value.
pub(super) fn from_cbor<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    ciborium::from_reader(bytes).ok()
}

/// Inputs of neighbouring jobs, as one row holds them: their number, the offsets of all and of the
/// end, then for each a tag and the bytes, or a tag and the length and name of a blob. Numbers are
/// little-endian; those of the head have 32 bits.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    /// Index of the first job.
    pub first: u32,
    bytes: Bytes,
}

const INLINE: u8 = 0;
const NAMED: u8 = 1;
/// In place of an input that the disk has lost, once that is known.
const LOST: u8 = 2;

/// About how many bytes a chunk has, large enough that a row costs nothing beside them, and how
/// many jobs at most, so that reading one of a few bytes does not read a million.
const CHUNK_BYTES: usize = 256 << 10;
pub(super) const CHUNK_JOBS: usize = 4096;

impl Chunk {
    /// How many of these inputs make the next chunk, and its bytes.
    pub fn encode(inputs: &[Payload]) -> (usize, Vec<u8>) {
        let mut data = Vec::new();
        let mut offsets = vec![0];
        for input in inputs.iter().take(CHUNK_JOBS) {
            match input {
                Payload::Inline(bytes) => {
                    data.push(INLINE);
                    data.extend_from_slice(bytes);
                }
                Payload::Blob(len, id) => {
                    data.push(NAMED);
                    data.extend_from_slice(&len.to_le_bytes());
                    data.extend_from_slice(id.as_bytes());
                }
            }
            offsets.push(data.len() as u32);
            if data.len() >= CHUNK_BYTES {
                break;
            }
        }
        let count = offsets.len() - 1;
        let mut bytes = Vec::with_capacity(4 + 4 * offsets.len() + data.len());
        bytes.extend_from_slice(&(count as u32).to_le_bytes());
        for offset in offsets {
            bytes.extend_from_slice(&offset.to_le_bytes());
        }
        bytes.extend_from_slice(&data);
        (count, bytes)
    }

    /// The bytes of a chunk of so many inputs that are lost.
    pub fn encode_lost(count: usize) -> Vec<u8> {
        let mut bytes = (count as u32).to_le_bytes().to_vec();
        for offset in 0..=count as u32 {
            bytes.extend_from_slice(&offset.to_le_bytes());
        }
        bytes.extend(std::iter::repeat_n(LOST, count));
        bytes
    }

    /// A chunk from a row whose checksum was right.
    pub fn new(first: u32, bytes: Vec<u8>) -> Self {
        let bytes = bytes.into();
        Self { first, bytes }
    }

    fn number(&self, at: usize) -> Option<usize> {
        let bytes = self.bytes.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
    }

    /// Number of jobs.
    pub fn len(&self) -> u32 {
        self.number(0).unwrap_or(0) as u32
    }

    /// Whether a job of this index is in it.
    pub fn holds(&self, index: u32) -> bool {
        index >= self.first && index - self.first < self.len()
    }

    /// The input of the job with this index. It shares the chunk's bytes.
    pub fn get(&self, index: u32) -> Option<Payload> {
        let place = index.checked_sub(self.first)? as usize;
        let count = self.number(0)?;
        if place >= count {
            return None;
        }
        let data = 4 + 4 * (count + 1);
        let start = data.checked_add(self.number(4 + 4 * place)?)?;
        let end = data.checked_add(self.number(8 + 4 * place)?)?;
        let tag = *self.bytes.get(start..end)?.first()?;
        let body = self.bytes.slice(start + 1..end);
        match tag {
            INLINE => Some(Payload::Inline(body)),
            NAMED => {
                let (len, id) = body.split_at_checked(8)?;
                let len = u64::from_le_bytes(len.try_into().ok()?);
                Some(Payload::Blob(
                    len,
                    ContentId::from_bytes(id.try_into().ok()?),
                ))
            }
            _ => None,
        }
    }
}

fn push_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// What a worker holds: for each attempt, how far its job's key is from the one before (as a zigzag
/// varint), and its number.
pub(super) fn encode_holds(holds: &[Held]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 * holds.len());
    let mut last = 0i64;
    for (job, attempt) in holds {
        let key = job_key(*job);
        let step = key.wrapping_sub(last);
        push_varint(&mut bytes, ((step << 1) ^ (step >> 63)) as u64);
        push_varint(&mut bytes, u64::from(*attempt));
        last = key;
    }
    bytes
}

/// The inverse of [`encode_holds`].
pub(super) fn decode_holds(mut bytes: &[u8]) -> Option<Vec<Held>> {
    let mut holds = Vec::new();
    let mut last = 0i64;
    while !bytes.is_empty() {
        let zigzag = take_varint(&mut bytes)?;
        let step = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        last = last.wrapping_add(step);
        let attempt = u32::try_from(take_varint(&mut bytes)?).ok()?;
        holds.push((job_of(last), attempt));
    }
    Some(holds)
}

#[cfg(test)]
mod tests {
    use optwasm_protocol::TrapKind;

    use super::*;

    #[test]
    fn every_outcome_has_its_number() {
        for name in Outcome::NAMES {
            assert_eq!(outcome_name(outcome_number(name)), name);
        }
        let trap = Outcome::Trap {
            kind: TrapKind::Other,
            frames: Vec::new(),
        };
        let samples = [
            Outcome::Ok(Vec::new().into()),
            Outcome::OutOfFuel,
            Outcome::MemoryLimit,
            Outcome::OutputTooLarge,
            Outcome::Rejected(String::new()),
            Outcome::StackOverflow,
            Outcome::Deadline,
            Outcome::HostOutOfMemory(String::new()),
            Outcome::HostPanic(String::new()),
            Outcome::WorkerLost(Vec::new()),
            Outcome::Cancelled,
            Outcome::Damaged(String::new()),
            Outcome::Disputed(Vec::new()),
            trap,
        ];
        for outcome in samples {
            let number = outcome_number(outcome.name());
            assert_eq!(is_deterministic(number), outcome.is_deterministic());
        }
    }

    #[test]
    fn chunks_give_back_their_inputs() {
        let mut inputs: Vec<Payload> = (0..9000u32)
            .map(|i| i.to_le_bytes()[..i as usize % 5].to_vec().into())
            .collect();
        inputs[7] = Payload::Blob(1 << 40, ContentId::of(b"x"));
        inputs[8] = vec![5; 300 << 10].into();
        let mut first = 0;
        let mut chunks = 0;
        while first < inputs.len() {
            let (count, bytes) = Chunk::encode(&inputs[first..]);
            let chunk = Chunk::new(first as u32, bytes);
            assert_eq!(chunk.len() as usize, count);
            for (index, input) in inputs.iter().enumerate().skip(first).take(count) {
                assert!(chunk.holds(index as u32));
                assert_eq!(chunk.get(index as u32).unwrap(), *input);
            }
            assert!(!chunk.holds((first + count) as u32));
            assert!(chunk.get((first + count) as u32).is_none());
            first += count;
            chunks += 1;
        }
        assert_eq!(chunks, 4);
    }

    #[test]
    fn holds_are_compact() {
        let holds: Vec<Held> = (0..1000)
            .map(|i| (JobId(BatchId(1 << 20), 5000 - i), 1 + i % 3))
            .collect();
        let bytes = encode_holds(&holds);
        assert!(bytes.len() < 2010, "{}", bytes.len());
        assert_eq!(decode_holds(&bytes).unwrap(), holds);
        assert!(decode_holds(&bytes[..bytes.len() - 1]).is_none());
    }

    #[test]
    fn keys_are_ranges() {
        let job = JobId(BatchId(BATCH_MAX), u32::MAX);
        assert_eq!(job_of(job_key(job)), job);
        assert_eq!(*keys_of(BATCH_MAX).end(), i64::MAX);
        assert!(keys_of(7).contains(&job_key(JobId(BatchId(7), 0))));
        assert!(!keys_of(7).contains(&job_key(JobId(BatchId(8), 0))));
    }
}
