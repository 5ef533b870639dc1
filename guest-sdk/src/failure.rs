//! Ending a job by an error.

use serde::Serialize;

use crate::{codec, host};

/// Code of a job that returned `Err`.
pub const JOB_ERROR: i32 = 1;
/// Code of a job whose input is not of the type that it takes.
pub const BAD_INPUT: i32 = 2;
/// Code of a job whose output cannot be encoded.
pub const BAD_OUTPUT: i32 = 3;

/// An error and its causes, as text: what the host gets to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The error itself.
    pub message: String,
    /// Its causes, from the nearest to the root.
    pub causes: Vec<String>,
}

impl Chain {
    /// Follows an error's sources to the root.
    pub(crate) fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let causes = std::iter::successors(error.source(), |cause| cause.source());
        Self {
            message: error.to_string(),
            causes: causes.map(ToString::to_string).collect(),
        }
    }
}

/// Ends the job with a domain error.
pub(crate) fn fail(code: i32, message: &str, chain: &[String]) -> ! {
    #[derive(Serialize)]
    struct Failure<'a> {
        message: &'a str,
        chain: &'a [String],
    }
    // Text always encodes; the ABI takes bare text as well.
    let bytes =
        codec::to_vec(&Failure { message, chain }).unwrap_or_else(|_| message.as_bytes().to_vec());
    host::fail(code, &bytes)
}
