//! What a job can tell its host and ask it while it runs.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec;
use crate::host;

/// Code that [`fail`] should not go below: the SDK's own codes are smaller.
pub const FIRST_JOB_CODE: i32 = 16;

/// Reports how far the job is: `done` of `total`, in any unit.
///
/// Shown to people while the job runs. Calls cost about a hundred units of fuel.
pub fn progress(done: f64, total: f64) {
    host::progress(done, total);
}

/// Publishes the best solution so far, as CBOR: its objective, the bound on the optimum where one
/// is known, and the solution itself.
///
/// The last one is reported with the outcome, whatever that is: also if the job runs out of fuel
/// or time. [`crate::array::of`] sends numbers compactly.
///
/// ```
/// # let best = vec![1.0, 2.0];
/// # optwasm_guest::mock::Host::new().run_in(|| {
/// optwasm_guest::incumbent(12.5, Some(11.0), &best);
/// optwasm_guest::incumbent(12.5, None, &optwasm_guest::array::of(&best));
/// # });
/// ```
///
/// # Panics
///
/// If the solution cannot be encoded, as a map with unusual keys may not.
pub fn incumbent<T: Serialize + ?Sized>(objective: f64, bound: Option<f64>, solution: &T) {
    incumbent_bytes(objective, bound, &encoded(solution, "incumbent"));
}

/// Publishes the best solution so far as bytes of the job's own format; see [`incumbent`].
pub fn incumbent_bytes(objective: f64, bound: Option<f64>, solution: &[u8]) {
    host::incumbent(objective, bound.unwrap_or(f64::NAN), solution);
}

/// Saves the state of the computation, replacing what was saved before.
///
/// If the worker is lost, the next attempt gets the state from [`resume`]. The job must reach the
/// same output from there as from its start.
///
/// # Panics
///
/// If the state cannot be encoded as CBOR.
pub fn checkpoint<T: Serialize + ?Sized>(state: &T) {
    host::checkpoint(&encoded(state, "checkpoint"));
}

/// The state that an earlier attempt saved last, if there was one.
///
/// A state that is no `T` is logged as a warning and answered by `None`: the job starts afresh.
#[must_use]
pub fn resume<T: DeserializeOwned>() -> Option<T> {
    match codec::from_slice(&host::resume()?) {
        Ok(state) => Some(state),
        Err(error) => {
            log::warn!("the checkpoint is ignored: {error}");
            None
        }
    }
}

/// Fuel that the job may still use; the unit is about one WebAssembly instruction.
#[must_use]
pub fn fuel_left() -> u64 {
    host::fuel_left()
}

/// The seed of the job, for random numbers that are the same in every run of it.
///
/// Crates that use `getrandom` get random bytes made from this seed by themselves.
#[must_use]
pub fn seed() -> [u8; 32] {
    host::seed()
}

/// Ends the job with an error of a code of its own, [`FIRST_JOB_CODE`] or above. A job that just
/// returns `Err` ends with code 1.
///
/// Nothing is dropped: destructors do not run.
pub fn fail(code: i32, message: &str) -> ! {
    crate::failure::fail(code, message, &[])
}

fn encoded<T: Serialize + ?Sized>(value: &T, what: &str) -> Vec<u8> {
    match codec::to_vec(value) {
        Ok(bytes) => bytes,
        Err(error) => panic!("the {what} cannot be encoded: {error}"),
    }
}
