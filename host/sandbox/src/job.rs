//! What is to be run.

use std::sync::Arc;

use bytes::Bytes;
use optwasm_protocol::{Limits, Profile, Seed};

/// What jobs of one batch have in common, with the blobs at hand.
#[derive(Debug)]
pub struct Setup {
    /// The engine and its rules.
    pub profile: Profile,
    /// Arguments after `argv[0]`.
    pub args: Vec<String>,
    /// Environment variables.
    pub env: Vec<(String, String)>,
    /// Shared data by name.
    pub blobs: Vec<(String, Bytes)>,
    /// The seed.
    pub seed: Seed,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            profile: Profile::Strict,
            args: Vec::new(),
            env: Vec::new(),
            blobs: Vec::new(),
            seed: Seed::default(),
        }
    }
}

/// One job.
#[derive(Clone, Debug)]
pub struct Job {
    /// What it has in common with others.
    pub setup: Arc<Setup>,
    /// What it may use.
    pub limits: Limits,
    /// Its input.
    pub input: Bytes,
    /// The last checkpoint of an earlier attempt.
    pub resume: Option<Bytes>,
}

impl Job {
    /// A job with defaults for everything but the input.
    pub fn new(input: impl Into<Bytes>) -> Self {
        Self {
            setup: Arc::default(),
            limits: Limits::default(),
            input: input.into(),
            resume: None,
        }
    }
}
