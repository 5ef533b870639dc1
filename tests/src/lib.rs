//! What the end-to-end tests and benchmarks share: guests, and real processes to run them.
//!
//! The tests themselves are in `tests/end_to_end`; they belong to the package of the `optwasm`
//! command, so that Cargo builds the command before it runs them.

pub mod cluster;
pub mod guests;
pub mod namespaces;
pub mod random;
pub mod relay;
