//! The `optwasm` command as its users meet it: real processes, real QUIC, real modules.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod callers;
mod cases;
mod chaos;
mod discovery;
mod disk;
mod durability;
mod exit_codes;
mod fleet;
mod fleet_batch;
mod guests;
mod inputs_and_outputs;
mod network;
mod new_project;
mod ph;
mod plugins;
mod programs;
mod real;
mod trouble;
mod tune;
mod users;
mod workers;

use std::path::PathBuf;

use optwasm_tests::cluster::Place;

/// A place where the command under test runs.
fn place() -> Place {
    Place::new(env!("CARGO_BIN_EXE_optwasm"))
}

/// A place that shares compiled modules with the others of its kind: compiling a solver takes seconds.
fn place_with_solvers() -> Place {
    place().with_cache(concat!(env!("CARGO_TARGET_TMPDIR"), "/solvers"))
}

/// The file `tests/data/NAME`.
fn data(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/data");
    path.join(name).display().to_string()
}

/// The test guest `name`.
fn guest(name: &str) -> String {
    optwasm_tests::guests::path(name).display().to_string()
}
