//! What a job is: a module, an input, and the rules under which the one runs on the other.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ContentId;

/// Which engine runs a job and what its guest can observe of the world.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Deterministic on one processor architecture: same job, same bytes, same fuel. The default.
    #[default]
    Strict,
    /// As `Strict`, with canonical NaNs, so that every architecture agrees on the bytes.
    Portable,
    /// As `Strict`, on an engine that also takes WebAssembly exceptions, tail calls and several
    /// memories, for guests that need them.
    Extended,
    /// The host's clock and randomness: results are not reproducible.
    Timed,
}

impl Profile {
    /// All profiles.
    pub const ALL: [Profile; 4] = [
        Profile::Strict,
        Profile::Portable,
        Profile::Extended,
        Profile::Timed,
    ];

    /// The name that people type.
    pub const fn name(self) -> &'static str {
        match self {
            Profile::Strict => "strict",
            Profile::Portable => "portable",
            Profile::Extended => "extended",
            Profile::Timed => "timed",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names no profile.
#[derive(Debug, thiserror::Error)]
#[error("no such profile (strict, portable, extended, timed)")]
pub struct ParseProfileError;

impl FromStr for Profile {
    type Err = ParseProfileError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Profile::ALL
            .into_iter()
            .find(|profile| profile.name() == text)
            .ok_or(ParseProfileError)
    }
}

/// What one job may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Limits {
    /// Fuel: WebAssembly operators executed, as `docs/guest-abi.md` section 6 counts them.
    pub fuel: u64,
    /// Bytes of all memories and tables of the job together.
    pub memory: u64,
    /// Wall-clock time of the run in milliseconds. It does not count waiting or compiling.
    pub deadline_ms: u64,
    /// Bytes of output.
    pub output: u64,
    /// Bytes of log; what is beyond is dropped and counted.
    pub log: u64,
}

impl Limits {
    /// The wall-clock limit in milliseconds, where somebody said so: the default is for accidents, and
    /// says nothing of the job.
    pub fn own_deadline_ms(&self) -> Option<u64> {
        (self.deadline_ms != Self::default().deadline_ms).then_some(self.deadline_ms)
    }
}

impl Default for Limits {
    /// Ten minutes or so of solving (10^13 fuel at 10 to 20 G fuel/s), at most an hour by the
    /// clock, 1 GiB of memory, 64 MiB of output, 64 KiB of log.
    fn default() -> Self {
        Self {
            fuel: 10_000_000_000_000,
            memory: 1 << 30,
            deadline_ms: 3_600_000,
            output: 64 << 20,
            log: 64 << 10,
        }
    }
}

/// The source of everything random in a job: 32 bytes, zero unless the submitter says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Seed(#[serde(with = "serde_bytes")] pub [u8; 32]);

impl From<u64> for Seed {
    fn from(number: u64) -> Self {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        Self(seed)
    }
}

/// All that the jobs of one batch have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// The module.
    pub module: ContentId,
    /// The engine and its rules.
    #[serde(default)]
    pub profile: Profile,
    /// What each job may use.
    #[serde(default)]
    pub limits: Limits,
    /// Arguments after `argv[0]`.
    #[serde(default)]
    pub args: Vec<String>,
    /// Environment variables.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// Shared data, by the names that the guest opens.
    #[serde(default)]
    pub blobs: Vec<(String, ContentId)>,
    /// The seed of every job.
    #[serde(default)]
    pub seed: Seed,
    /// What its jobs find in their sandboxes.
    #[serde(default, skip_serializing_if = "Instances::are_fresh")]
    pub instances: Instances,
}

/// What a job finds in its sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Instances {
    /// A new instance. Where the module exports `optwasm_init`, that is called before each job. The
    /// default.
    #[default]
    Fresh,
    /// The memory as `optwasm_init` left it, which each worker calls once. Every job begins from that
    /// state, and results and fuel are those of fresh instances.
    Resident,
    /// The instance of the job before, for up to so many jobs; it is made anew after any that fails.
    /// What a job leaves behind the next one finds, so that results depend on what ran before: they
    /// are neither reproducible nor remembered.
    Kept(NonZeroU32),
}

impl Instances {
    /// Whether each job has a new instance.
    pub fn are_fresh(&self) -> bool {
        *self == Instances::Fresh
    }
}

impl Template {
    /// A template with defaults for everything but the module.
    pub fn new(module: ContentId) -> Self {
        Self {
            module,
            profile: Profile::default(),
            limits: Limits::default(),
            args: Vec::new(),
            env: Vec::new(),
            blobs: Vec::new(),
            seed: Seed::default(),
            instances: Instances::default(),
        }
    }
}

/// Bytes that travel inside a message, or the name of a blob that holds them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// The bytes themselves, at most [`crate::INLINE_MAX`] of them.
    #[serde(rename = "i")]
    Inline(Bytes),
    /// Length and name of the blob that holds them.
    #[serde(rename = "b")]
    Blob(u64, ContentId),
}

impl Payload {
    /// Number of bytes.
    pub fn len(&self) -> u64 {
        match self {
            Payload::Inline(bytes) => bytes.len() as u64,
            Payload::Blob(len, _) => *len,
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name of the content, wherever it is.
    pub fn content_id(&self) -> ContentId {
        match self {
            Payload::Inline(bytes) => ContentId::of(bytes),
            Payload::Blob(_, id) => *id,
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Payload::Inline(bytes) => write!(f, "Inline({} B)", bytes.len()),
            Payload::Blob(len, id) => write!(f, "Blob({len} B, {id:?})"),
        }
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Payload::Inline(bytes)
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Payload::Inline(bytes.into())
    }
}
