//! Why host code ends a guest. Travels through the guest's frames as a [`wasmtime::Error`].

/// Why host code ends a guest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("exit {0}")]
    Exit(i32),
    #[error("the job failed")]
    Fail {
        code: i32,
        message: String,
        chain: Vec<String>,
    },
    #[error("the guest panicked")]
    Panic {
        message: String,
        file: String,
        line: u32,
        column: u32,
    },
    #[error("host function given a range outside the memory")]
    BadPointer,
    #[error("host function given an unknown handle")]
    BadHandle,
    #[error("out of fuel")]
    OutOfFuel,
    #[error("output too large")]
    OutputTooLarge,
    #[error("deadline")]
    Deadline,
    #[error("cancelled")]
    Cancelled,
    #[error("worker out of memory: {0}")]
    HostOutOfMemory(String),
}
