//! What the `#[job]` attribute's `main` calls. Not for use by hand, and not stable.
//!
//! How an input is decoded, an output encoded and an error described depends on its type, and the
//! general case (anything that serde knows) covers the special ones (bytes, numbers), which stable
//! Rust's traits cannot tell apart. Method lookup can: for a *concrete* type it prefers an inherent
//! method, whose bounds must hold, to a trait's method, and a method of `T` to one of `&T`. So each
//! choice below is a wrapper with inherent methods for the special cases and a trait for the rest.
//! That works because the attribute's code names concrete types only.

use std::convert::Infallible;
use std::error::Error;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::array::{self, Element};
use crate::codec::{self, CodecError};
use crate::failure::{self, Chain};
use crate::{host, logger};

/// Whether [`start`] has run in this instance.
static STARTED: AtomicBool = AtomicBool::new(false);

/// At the beginning of `main`.
pub fn start() {
    if !STARTED.swap(true, Ordering::Relaxed) {
        report_to_host();
    }
}

/// At the beginning of each function that the host calls instead of `main`.
#[cfg(target_arch = "wasm32")]
pub fn enter() {
    if !STARTED.swap(true, Ordering::Relaxed) {
        crate::imports::construct();
        report_to_host();
    }
}

/// At the end of each function that the host calls instead of `main`.
#[cfg(target_arch = "wasm32")]
pub fn leave() {
    // Nothing is lost but a line of the log.
    let _ = std::io::Write::flush(&mut std::io::stdout());
}

/// Panics and logs go to the host.
fn report_to_host() {
    #[cfg(target_arch = "wasm32")]
    std::panic::set_hook(Box::new(|panic| {
        let message = panic
            .payload_as_str()
            .unwrap_or("a panic whose payload is no text");
        let (file, line, column) = panic.location().map_or(("", 0, 0), |place| {
            (place.file(), place.line(), place.column())
        });
        host::panic(message, file, line, column)
    }));
    logger::install();
}

/// The job's input.
pub fn input() -> Vec<u8> {
    host::input()
}

/// Delivers the job's output.
pub fn finish(output: Vec<u8>) {
    host::output(&output);
}

/// Ends a job whose input is not what it takes.
pub fn bad_input(error: CodecError) -> ! {
    failure::fail(
        failure::BAD_INPUT,
        &format!("the input cannot be decoded: {error}"),
        &[],
    )
}

/// Ends a job whose output cannot be encoded.
pub fn bad_output(error: CodecError) -> ! {
    failure::fail(
        failure::BAD_OUTPUT,
        &format!("the output cannot be encoded: {error}"),
        &[],
    )
}

/// Ends a job that returned an error.
pub fn fail(chain: Chain) -> ! {
    failure::fail(failure::JOB_ERROR, &chain.message, &chain.causes)
}

/// Decodes an input of type `T`.
pub struct Decode<T>(PhantomData<T>);

impl<T> Decode<T> {
    /// A decoder.
    #[expect(
        clippy::new_without_default,
        reason = "only the attribute's code makes one"
    )]
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: Element> Decode<Vec<T>> {
    /// Numbers: typed arrays, and bytes as they are.
    pub fn decode(self, bytes: Vec<u8>) -> Result<Vec<T>, CodecError> {
        array::decode_message(bytes)
    }
}

/// Decoding anything else: CBOR.
pub trait AnyInput<T> {
    /// Decodes.
    fn decode(self, bytes: Vec<u8>) -> Result<T, CodecError>;
}

impl<T: DeserializeOwned> AnyInput<T> for Decode<T> {
    fn decode(self, bytes: Vec<u8>) -> Result<T, CodecError> {
        codec::from_slice(&bytes)
    }
}

/// Encodes an output.
pub struct Encode<T>(pub T);

impl<T: Element> Encode<Vec<T>> {
    /// Numbers: typed arrays, and bytes as they are.
    pub fn encode(self) -> Result<Vec<u8>, CodecError> {
        array::encode_message(self.0)
    }
}

/// Encoding anything else: CBOR.
pub trait AnyOutput {
    /// Encodes.
    fn encode(self) -> Result<Vec<u8>, CodecError>;
}

impl<T: Serialize> AnyOutput for Encode<T> {
    fn encode(self) -> Result<Vec<u8>, CodecError> {
        codec::to_vec(&self.0)
    }
}

/// What a job returned.
pub struct Returned<T>(pub T);

impl<T, E> Returned<Result<T, E>> {
    /// A result already.
    pub fn into_result(self) -> Result<T, E> {
        self.0
    }
}

/// A job that returns something else always succeeds.
pub trait AnyReturn<T> {
    /// Wraps the value.
    fn into_result(self) -> Result<T, Infallible>;
}

impl<T> AnyReturn<T> for Returned<T> {
    fn into_result(self) -> Result<T, Infallible> {
        Ok(self.0)
    }
}

/// Describes the error of a job.
pub struct Failure<E>(pub E);

impl Failure<Box<dyn Error + Send + Sync>> {
    /// The one box that does not turn into a `Box<dyn Error>` by itself.
    pub fn chain(self) -> Chain {
        Chain::of(&*self.0)
    }
}

/// Anything that turns into `Box<dyn Error>`: every `std::error::Error`, `Box<dyn Error>`, text,
/// and the error types of crates such as anyhow and eyre, which are no `std::error::Error`.
pub trait AnyError {
    /// The error and its causes.
    fn chain(self) -> Chain;
}

impl<E: Into<Box<dyn Error>>> AnyError for Failure<E> {
    fn chain(self) -> Chain {
        Chain::of(&*self.0.into())
    }
}

/// Anything else that can be shown; it has no causes.
pub trait DisplayError {
    /// The error.
    fn chain(&self) -> Chain;
}

impl<E: std::fmt::Display> DisplayError for &Failure<E> {
    fn chain(&self) -> Chain {
        Chain {
            message: self.0.to_string(),
            causes: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl fmt::Display for Layer {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|layer| layer as _)
        }
    }

    struct OnlyShown;

    impl fmt::Display for OnlyShown {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("shown")
        }
    }

    fn layers() -> Layer {
        Layer(
            "top",
            Some(Box::new(Layer(
                "middle",
                Some(Box::new(Layer("root", None))),
            ))),
        )
    }

    #[test]
    fn every_kind_of_error_brings_its_causes() {
        let whole = Chain {
            message: "top".into(),
            causes: vec!["middle".into(), "root".into()],
        };
        assert_eq!(Failure(layers()).chain(), whole);
        assert_eq!(Failure(Box::<dyn Error>::from(layers())).chain(), whole);
        assert_eq!(
            Failure(Box::<dyn Error + Send + Sync>::from(layers())).chain(),
            whole
        );
        assert_eq!(Failure(anyhow::Error::from(layers())).chain(), whole);
        let context = anyhow::Error::from(layers()).context("context");
        assert_eq!(Failure(context).chain().causes, ["top", "middle", "root"]);
        for text in [Failure("text").chain(), Failure("text".to_owned()).chain()] {
            assert_eq!(
                text,
                Chain {
                    message: "text".into(),
                    causes: vec![]
                }
            );
        }
        assert_eq!((&Failure(OnlyShown)).chain().message, "shown");
    }

    #[test]
    fn numbers_are_told_from_other_lists() {
        assert_eq!(Encode(vec![7u8]).encode().unwrap(), [7]);
        assert_eq!(Encode(vec![1.0f64]).encode().unwrap()[..2], [0xd8, 86]);
        assert_eq!(Encode(vec!["a"]).encode().unwrap(), [0x81, 0x61, b'a']);
        assert_eq!(Encode(7u8).encode().unwrap(), [7]);
        assert_eq!(Decode::<Vec<u8>>::new().decode(vec![9, 9]).unwrap(), [9, 9]);
        assert_eq!(
            Decode::<Vec<bool>>::new().decode(vec![0x81, 0xf5]).unwrap(),
            [true]
        );
        assert_eq!(
            Decode::<(u8, String)>::new()
                .decode(vec![0x82, 1, 0x60])
                .unwrap(),
            (1, String::new())
        );
    }

    #[test]
    fn results_are_told_from_values() {
        assert_eq!(Returned(Err::<u8, _>("no")).into_result(), Err("no"));
        assert_eq!(Returned(5).into_result(), Ok(5));
    }
}
