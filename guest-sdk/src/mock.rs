//! A host inside the test, so that jobs run under plain `cargo test`.
//!
//! A [`Host`] is given what the job shall find: input, blobs, seed, checkpoint. [`Host::run`] runs
//! the job's `main`, so that decoding, encoding and errors are tested with it, and returns what
//! the job did. [`Host::run_in`] runs any closure with the same surroundings.
//!
//! ```
//! use optwasm_guest::mock::Host;
//!
//! #[optwasm_guest::job]
//! fn compute(numbers: Vec<f64>) -> Result<f64, String> {
//!     optwasm_guest::progress(1.0, 1.0);
//!     numbers.into_iter().reduce(f64::max).ok_or_else(|| "no numbers".to_owned())
//! }
//!
//! let run = Host::new().input(&vec![1.0, 3.0, 2.0]).run(main);
//! assert_eq!(run.output::<f64>(), 3.0);
//! assert_eq!(run.record.progress, [(1.0, 1.0)]);
//!
//! let run = Host::new().input(&Vec::<f64>::new()).run(main);
//! assert_eq!(run.failure().message, "no numbers");
//! ```
//!
//! The host belongs to the thread that runs the job. Outside of one, as when the program is
//! started natively, the input is stdin, the output goes to stdout, logs and errors to stderr, and
//! there are no blobs, no checkpoint, no end of fuel, and a seed of zeros.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec;

/// What a job shall find.
#[derive(Debug, Clone)]
pub struct Host {
    input: Vec<u8>,
    blobs: Vec<(String, Vec<u8>)>,
    seed: [u8; 32],
    resume: Option<Vec<u8>>,
    fuel: u64,
}

/// What a job did besides returning.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record {
    /// Bytes of output.
    pub output: Vec<u8>,
    /// Messages logged: level, target, text. Only where the test has installed no logger itself.
    pub logs: Vec<(log::Level, String, String)>,
    /// Reports of progress: done, total.
    pub progress: Vec<(f64, f64)>,
    /// Solutions published.
    pub incumbents: Vec<Incumbent>,
    /// Checkpoints written, as bytes; the last one is what a next attempt would find.
    pub checkpoints: Vec<Vec<u8>>,
}

/// A solution that a job published.
#[derive(Debug, Clone, PartialEq)]
pub struct Incumbent {
    /// Its objective.
    pub objective: f64,
    /// The bound on the optimum, if known.
    pub bound: Option<f64>,
    /// The solution as bytes.
    pub solution: Vec<u8>,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It succeeded.
    Ok,
    /// It returned `Err`, could not decode its input, or called [`fail`](crate::fail).
    Failed(Failure),
    /// It panicked with this message.
    Panicked(String),
}

/// A domain error, as the host gets to know it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Failure {
    /// 1 if the job returned it; the crate's documentation lists the others.
    #[serde(skip)]
    pub code: i32,
    /// The error.
    pub message: String,
    /// Its causes, from the nearest to the root.
    pub chain: Vec<String>,
}

/// A job that has run.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// How it ended.
    pub outcome: Outcome,
    /// What it did.
    pub record: Record,
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Host {
    /// No input, no blobs, a seed of zeros, no checkpoint, and more fuel than can be used.
    #[must_use]
    pub fn new() -> Self {
        Self {
            input: Vec::new(),
            blobs: Vec::new(),
            seed: [0; 32],
            resume: None,
            fuel: u64::MAX,
        }
    }

    /// The input as a value, which is encoded as CBOR.
    ///
    /// # Panics
    ///
    /// If it cannot be encoded.
    #[must_use]
    pub fn input<T: Serialize + ?Sized>(self, value: &T) -> Self {
        self.input_bytes(encoded(value))
    }

    /// The input as bytes.
    #[must_use]
    pub fn input_bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// A blob that the job names.
    #[must_use]
    pub fn blob(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.blobs.push((name.to_owned(), bytes.into()));
        self
    }

    /// The job's seed.
    #[must_use]
    pub fn seed(mut self, seed: [u8; 32]) -> Self {
        self.seed = seed;
        self
    }

    /// The checkpoint of an earlier attempt, as a value.
    ///
    /// # Panics
    ///
    /// If it cannot be encoded.
    #[must_use]
    pub fn resume<T: Serialize + ?Sized>(self, state: &T) -> Self {
        self.resume_bytes(encoded(state))
    }

    /// The checkpoint of an earlier attempt, as in [`Record::checkpoints`].
    #[must_use]
    pub fn resume_bytes(mut self, state: impl Into<Vec<u8>>) -> Self {
        self.resume = Some(state.into());
        self
    }

    /// What [`fuel_left`](crate::fuel_left) answers. Nothing is metered here.
    #[must_use]
    pub fn fuel(mut self, fuel: u64) -> Self {
        self.fuel = fuel;
        self
    }

    /// Runs a job: the `main` that `#[job]` made.
    pub fn run(self, main: impl FnOnce()) -> Run {
        let (result, record) = self.enter(main);
        let outcome = match result {
            Ok(()) => Outcome::Ok,
            Err(payload) => match payload.downcast::<Failure>() {
                Ok(failure) => Outcome::Failed(*failure),
                Err(payload) => Outcome::Panicked(text_of(&*payload)),
            },
        };
        Run { outcome, record }
    }

    /// Runs a closure with this host around it. A panic goes on; so does a call of
    /// [`fail`](crate::fail).
    pub fn run_in<T>(self, body: impl FnOnce() -> T) -> T {
        match self.enter(body).0 {
            Ok(value) => value,
            Err(payload) => resume_unwind(payload),
        }
    }

    fn enter<T>(self, body: impl FnOnce() -> T) -> (Result<T, Box<dyn Any + Send>>, Record) {
        let outer = CURRENT.replace(Some(State {
            host: self,
            record: Record::default(),
        }));
        let result = catch_unwind(AssertUnwindSafe(body));
        let state = CURRENT.replace(outer);
        (result, state.map(|state| state.record).unwrap_or_default())
    }
}

impl Run {
    /// The output of a job that succeeded, decoded: numbers in a `Vec` as typed arrays, anything
    /// as CBOR. Bytes are in [`Record::output`].
    ///
    /// # Panics
    ///
    /// If the job did not succeed, or its output is no `T`.
    #[must_use]
    #[track_caller]
    pub fn output<T: DeserializeOwned>(&self) -> T {
        assert_eq!(self.outcome, Outcome::Ok, "the job did not succeed");
        match codec::from_slice(&self.record.output) {
            Ok(value) => value,
            Err(error) => panic!("the output is no such value: {error}"),
        }
    }

    /// The domain error of a job that failed.
    ///
    /// # Panics
    ///
    /// If it did not fail so.
    #[must_use]
    #[track_caller]
    pub fn failure(&self) -> &Failure {
        match &self.outcome {
            Outcome::Failed(failure) => failure,
            other => panic!("the job did not fail: {other:?}"),
        }
    }
}

fn encoded<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    match codec::to_vec(value) {
        Ok(bytes) => bytes,
        Err(error) => panic!("the value cannot be encoded: {error}"),
    }
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic whose payload is no text".to_owned())
}

struct State {
    host: Host,
    record: Record,
}

thread_local! {
    static CURRENT: RefCell<Option<State>> = const { RefCell::new(None) };
}

/// The host's functions as the rest of the crate calls them; the wasm imports' native counterpart.
pub(crate) mod host {
    use std::io::{Read, Write};

    use super::{CURRENT, Failure, Incumbent, State, codec};

    /// Asks the thread's host, or answers `otherwise` where the program runs without one.
    fn ask<T>(question: impl FnOnce(&mut State) -> T, otherwise: impl FnOnce() -> T) -> T {
        CURRENT.with_borrow_mut(|current| match current {
            Some(state) => question(state),
            None => otherwise(),
        })
    }

    /// Ends a natively started program for a reason that is no job's error.
    fn exit(code: i32, message: &str) -> ! {
        eprintln!("error: {message}");
        std::process::exit(code)
    }

    pub(crate) fn input() -> Vec<u8> {
        ask(
            |state| state.host.input.clone(),
            || {
                let mut input = Vec::new();
                match std::io::stdin().read_to_end(&mut input) {
                    Ok(_) => input,
                    Err(error) => exit(1, &format!("stdin: {error}")),
                }
            },
        )
    }

    pub(crate) fn output(bytes: &[u8]) {
        ask(
            |state| state.record.output.extend_from_slice(bytes),
            || {
                if let Err(error) = std::io::stdout().write_all(bytes) {
                    exit(1, &format!("stdout: {error}"));
                }
            },
        );
    }

    pub(crate) fn fail(code: i32, bytes: &[u8]) -> ! {
        let mut failure: Failure = codec::from_slice(bytes).unwrap_or_else(|_| Failure {
            code,
            message: String::from_utf8_lossy(bytes).into_owned(),
            chain: Vec::new(),
        });
        failure.code = code;
        let mocked = CURRENT.with_borrow(Option::is_some);
        if mocked {
            // Unwinds to `Host::run` without the message that a panic prints.
            std::panic::resume_unwind(Box::new(failure));
        }
        let causes = failure
            .chain
            .iter()
            .map(|cause| format!("\n  caused by: {cause}"));
        exit(
            code,
            &(failure.message.clone() + &causes.collect::<String>()),
        )
    }

    pub(crate) fn log(level: log::Level, target: &str, message: &str) {
        ask(
            |state| {
                state
                    .record
                    .logs
                    .push((level, target.to_owned(), message.to_owned()))
            },
            || eprintln!("{level} {target}: {message}"),
        );
    }

    pub(crate) fn progress(done: f64, total: f64) {
        ask(|state| state.record.progress.push((done, total)), || ());
    }

    pub(crate) fn incumbent(objective: f64, bound: f64, solution: &[u8]) {
        let bound = (!bound.is_nan()).then_some(bound);
        ask(
            |state| {
                state.record.incumbents.push(Incumbent {
                    objective,
                    bound,
                    solution: solution.to_vec(),
                });
            },
            || (),
        );
    }

    pub(crate) fn checkpoint(bytes: &[u8]) {
        ask(|state| state.record.checkpoints.push(bytes.to_vec()), || ());
    }

    pub(crate) fn resume() -> Option<Vec<u8>> {
        ask(|state| state.host.resume.clone(), || None)
    }

    pub(crate) fn blob_open(name: &str) -> Option<i32> {
        ask(
            |state| {
                let index = state
                    .host
                    .blobs
                    .iter()
                    .position(|(known, _)| known == name)?;
                i32::try_from(index).ok()
            },
            || None,
        )
    }

    fn with_blob<T: Default>(handle: i32, use_it: impl FnOnce(&[u8]) -> T) -> T {
        ask(
            |state| {
                let blob = usize::try_from(handle)
                    .ok()
                    .and_then(|index| state.host.blobs.get(index));
                blob.map(|(_, bytes)| use_it(bytes)).unwrap_or_default()
            },
            T::default,
        )
    }

    pub(crate) fn blob_len(handle: i32) -> u64 {
        with_blob(handle, |bytes| bytes.len() as u64)
    }

    pub(crate) fn blob_read(handle: i32, offset: u64, to: &mut [u8]) -> usize {
        with_blob(handle, |bytes| {
            let rest = usize::try_from(offset)
                .ok()
                .and_then(|offset| bytes.get(offset..));
            let rest = rest.unwrap_or_default();
            let count = rest.len().min(to.len());
            to[..count].copy_from_slice(&rest[..count]);
            count
        })
    }

    pub(crate) fn fuel_left() -> u64 {
        ask(|state| state.host.fuel, || u64::MAX)
    }

    pub(crate) fn seed() -> [u8; 32] {
        ask(|state| state.host.seed, || [0; 32])
    }
}
