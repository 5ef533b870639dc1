//! Inputs and outputs of the guests in `src/bin`, for the tests that submit them.
//!
//! Each guest does one thing that a host must cope with; its own file says what.

use serde::{Deserialize, Serialize};

/// Output of `sum`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sum {
    /// The sum.
    pub sum: f64,
    /// How many numbers there were.
    pub count: u64,
}

/// Input of `chatty`: how often to say what.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Chatty {
    /// Messages logged at level info: `message 0`, `message 1`, …
    pub logs: u32,
    /// Reports of progress: 1 of n to n of n.
    pub progress: u32,
    /// Incumbents: objective n down to 1, bound 0 (none for the first), solution `[objective]`.
    pub incumbents: u32,
    /// Checkpoints: the CBOR integers 1 to n.
    pub checkpoints: u32,
    /// Bytes written to stdout and as many to stderr.
    pub print: u32,
    /// Whether to panic at the end instead of returning.
    pub panic: bool,
}

/// Output of `blobs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobSummary {
    /// Length in bytes.
    pub len: u64,
    /// CRC-32 (IEEE) of all bytes.
    pub crc32: u32,
}

/// Output of `random`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Randomness {
    /// 32 bytes of `getrandom`.
    pub bytes: [u8; 32],
    /// The job's seed.
    pub seed: [u8; 32],
    /// The wall clock, in nanoseconds since 1970.
    pub wall_ns: u64,
    /// What the monotonic clock advanced between two readings, in nanoseconds.
    pub elapsed_ns: u64,
}

/// Input of `resume`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steps {
    /// How many steps the whole computation has.
    pub total: u64,
    /// Iterations of busy work in each step, in millions.
    pub work_millions: u64,
}

/// Output of `resume`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepsDone {
    /// The result, which is the same however often the job was resumed.
    pub checksum: u64,
    /// How many steps this attempt did itself.
    pub own_steps: u64,
}

/// `millions` million rounds of a mixing function that no compiler shortens. Returns its state.
#[must_use]
pub fn burn(millions: u64, seed: u64) -> u64 {
    // The multiplier and increment of Knuth's MMIX generator.
    (0..millions.saturating_mul(1_000_000)).fold(seed, |state, round| {
        (state ^ round)
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407)
    })
}

/// Input of `objective`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The parameters.
    pub config: Parameters,
    /// The budget.
    pub budget: f64,
    /// Iteration, stage and index of the configuration.
    pub id: [u32; 3],
    /// A seed.
    pub seed: u64,
}

/// Parameters of `objective`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// The one that is searched for.
    pub x: f64,
    /// Below this it panics.
    #[serde(default)]
    pub crash: f64,
    /// Milliseconds that it takes.
    #[serde(default)]
    pub sleep: u64,
}

/// Output of `objective`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Loss {
    /// Lower is better.
    pub loss: f64,
    /// The identity that it was given.
    pub info: [u32; 3],
}

/// Output of `counter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Jobs of this instance so far, this one included.
    pub jobs: u64,
    /// How often its blob was loaded.
    pub loads: u64,
    /// The sum of the blob's bytes and the input.
    pub sum: u64,
}

/// Input of `realization`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Realization {
    /// Where it is evaluated.
    pub point: Vec<f64>,
    /// Where it is least.
    pub target: Vec<f64>,
    /// Whether it fails.
    pub broken: bool,
}

/// A sparse matrix: its entries one by one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sparse {
    /// Rows of the entries.
    pub rows: Vec<usize>,
    /// Columns of the entries.
    pub cols: Vec<usize>,
    /// The entries.
    pub vals: Vec<f64>,
}

/// The blob `problem` of `reduced_basis`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThermalBlock {
    /// Number of unknowns.
    pub dofs: usize,
    /// One that is always there, and one for each parameter.
    pub operators: Vec<Sparse>,
    /// The right-hand side.
    pub rhs: Vec<f64>,
    /// The product in which errors are measured.
    pub h1_0_semi: Sparse,
}

/// Input of `reduced_basis`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum BasisTask {
    /// Estimate the errors of this basis at the parameters of the blob `parameters`.
    Errors {
        /// Orthonormal vectors.
        basis: Vec<Vec<f64>>,
    },
    /// Solve at this parameter, for another vector of the basis.
    Extend {
        /// The parameter.
        parameter: Vec<f64>,
        /// Orthonormal vectors.
        basis: Vec<Vec<f64>>,
    },
}

/// Output of `reduced_basis`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BasisValues {
    /// The errors, or the vector.
    pub values: Vec<f64>,
}
