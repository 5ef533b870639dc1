//! Write optwasm jobs in Rust.
//!
//! A job is a binary crate with one function that computes an output from an input:
//!
//! ```
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Input {
//!     start: f64,
//! }
//!
//! #[derive(Serialize)]
//! struct Output {
//!     root: f64,
//!     steps: u32,
//! }
//!
//! /// Newton's method for x² = 2.
//! #[optwasm_guest::job]
//! fn compute(input: Input) -> Result<Output, String> {
//!     let mut root = input.start;
//!     for steps in 0..100 {
//!         if (root * root - 2.0).abs() < 1e-12 {
//!             return Ok(Output { root, steps });
//!         }
//!         root = (root + 2.0 / root) / 2.0;
//!     }
//!     Err(format!("no root found from {}", input.start))
//! }
//! ```
//!
//! [`job`](macro@job) adds `main`. Built for `wasm32-wasip1` this is a module that any optwasm
//! worker runs; built natively it is a program that reads its input from stdin and writes its
//! output to stdout, and [`mock`] runs it inside a test.
//!
//! # Input and output
//!
//! | type | travels as |
//! |---|---|
//! | `&[u8]`, `Vec<u8>` | the bytes themselves |
//! | `&[f64]`, `Vec<f64>`, other numbers | a typed array; see [`mod@array`] |
//! | any other serde type, by value or by reference | one CBOR value |
//!
//! Fields that are large arrays of numbers should carry `#[serde(with = "optwasm_guest::array")]`,
//! and float fields that may come from JSON, where 1.0 is often written 1,
//! `#[serde(with = "optwasm_guest::float")]`. A job may also take no argument, or return a plain
//! value instead of a `Result`.
//!
//! # Errors and panics
//!
//! The error type can be a `String`, a `&str`, any [`std::error::Error`], a box of one, the error of
//! anyhow or eyre, or anything that can be displayed. Its whole chain of causes reaches whoever
//! submitted the job. A panic reaches them too, with its message, its place and the function names
//! on the stack.
//!
//! | code | meaning |
//! |---|---|
//! | 1 | the job returned `Err` |
//! | 2 | the input is not of the type that the job takes |
//! | 3 | the output cannot be encoded |
//! | 16 and above | the job called [`fail`] with a code of its own |
//!
//! # What jobs have in common
//!
//! Work that does not depend on the input, such as reading a blob of matrices, belongs in a function
//! of its own:
//!
//! ```
//! struct Data {
//!     weights: Vec<f64>,
//! }
//!
//! fn load() -> Result<Data, String> {
//!     let weights = optwasm_guest::blob("weights").ok_or("no weights")?;
//!     let numbers = weights.to_vec();
//!     let numbers = numbers.as_chunks().0.iter();
//!     let weights = numbers.map(|bytes| f64::from_le_bytes(*bytes)).collect();
//!     Ok(Data { weights })
//! }
//!
//! #[optwasm_guest::job(init = load)]
//! fn compute(data: &Data, scale: f64) -> f64 {
//!     scale * data.weights.iter().sum::<f64>()
//! }
//! ```
//!
//! It runs before the job, sees arguments, environment, blobs and seed but no input, and returns what
//! the job takes as its first argument. A worker that is asked for resident instances (`optwasm run
//! --resident`) runs it once, and begins every job from what it left in memory. Results are the same.
//!
//! # While it runs
//!
//! [`progress`] and [`incumbent`] tell how far the job is and what it has found; [`checkpoint`] and
//! [`resume`] let it survive its worker; [`blob()`] reads shared data; [`seed`] makes random numbers
//! reproducible, and crates that use `getrandom` need not even know of it; [`fuel_left`] lets a
//! solver stop in time. The macros of [`log`] write to the job's log, from level `info` on unless
//! the job's environment says otherwise (`RUST_LOG=debug`) or the job calls
//! [`log::set_max_level`]. What is printed goes to the log too.
//!
//! # Features
//!
//! `pthread-stubs`: for crates that may start threads, such as rayon, where the linker complains of
//! `pthread_create`. They then run on one thread.

// The attribute's code says `::optwasm_guest`; so do this crate's own tests.
#[cfg(test)]
extern crate self as optwasm_guest;

pub mod array;
mod blob;
mod codec;
mod context;
mod failure;
pub mod float;
#[cfg(target_arch = "wasm32")]
mod imports;
mod logger;
#[cfg(not(target_arch = "wasm32"))]
pub mod mock;
#[cfg(all(target_arch = "wasm32", feature = "pthread-stubs"))]
mod pthread_stubs;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

#[cfg(target_arch = "wasm32")]
use imports as host;
#[cfg(not(target_arch = "wasm32"))]
use mock::host;

pub use blob::{Blob, blob};
pub use context::{
    FIRST_JOB_CODE, checkpoint, fail, fuel_left, incumbent, incumbent_bytes, progress, resume, seed,
};
pub use log;

/// Makes a function the job of a binary crate: adds `main`, and the custom section that tells the
/// types of input and output.
///
/// The function is free, not generic and not async; it takes at most one argument, by value or by
/// shared reference, and returns a value or a `Result`. It stays callable as it is. The crate's
/// documentation says how types travel.
pub use optwasm_guest_macros::job;
