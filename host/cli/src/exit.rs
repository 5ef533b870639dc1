//! How the command ends: one line, what to type next, and an exit code.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use optwasm_client::{ClientError, ErrorCode, Outcome};
use optwasm_coordinator::dir::DirError;
use optwasm_protocol::access::AccessError;
use optwasm_protocol::endpoint::EndpointError;
use optwasm_protocol::handshake::{HandshakeError, RefusalCode};
use optwasm_protocol::locate::LocateError;
use optwasm_store::StoreError;
use optwasm_worker::WorkerError;

/// Exit codes; `optwasm --help` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Success = 0,
    JobsFailed = 1,
    Usage = 2,
    NotFound = 3,
    Unreachable = 4,
    Unauthorized = 5,
    TimedOut = 6,
    Cancelled = 7,
    Unverified = 8,
    Incompatible = 9,
    Storage = 10,
    GuestError = 20,
    Trap = 21,
    OutOfFuel = 22,
    Memory = 23,
    Deadline = 24,
    OutputTooLarge = 25,
    Rejected = 26,
    Bug = 70,
    Interrupted = 130,
    Terminated = 143,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

impl Exit {
    /// The exit code of a single job.
    pub fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Ok(_) => Exit::Success,
            Outcome::GuestError { .. } => Exit::GuestError,
            Outcome::Panic { .. } | Outcome::Trap { .. } | Outcome::StackOverflow => Exit::Trap,
            Outcome::OutOfFuel => Exit::OutOfFuel,
            Outcome::MemoryLimit | Outcome::HostOutOfMemory(_) => Exit::Memory,
            Outcome::Deadline => Exit::Deadline,
            Outcome::OutputTooLarge => Exit::OutputTooLarge,
            Outcome::Rejected(_) => Exit::Rejected,
            Outcome::Cancelled => Exit::Cancelled,
            Outcome::Disputed(_) => Exit::Unverified,
            Outcome::Damaged(_) => Exit::Storage,
            Outcome::WorkerLost(_) | Outcome::HostPanic(_) => Exit::JobsFailed,
        }
    }
}

/// Why the command could not do what it was asked for.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    message: String,
    next: Option<String>,
}

impl Failure {
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self {
            exit,
            message: message.to_string(),
            next: None,
        }
    }

    /// Adds what to type next.
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Bad input of the user's.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub fn print(&self) {
        let mut stderr = std::io::stderr();
        // A message that cannot be written has nowhere to go.
        let _ = writeln!(stderr, "optwasm: {}", self.message);
        if let Some(next) = &self.next {
            let _ = writeln!(stderr, "{next}");
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Locate(error) => error.into(),
            ClientError::Connect(error) => error.into(),
            ClientError::Handshake(error) => error.into(),
            ClientError::Lost(_) => Self::new(Exit::Unreachable, error)
                .next("What was acknowledged goes on. List it with: optwasm jobs"),
            ClientError::Unexpected | ClientError::Damaged(_) => {
                Self::new(Exit::Incompatible, error)
            }
            ClientError::TooLarge(_)
            | ClientError::Codec(_)
            | ClientError::Removed(_)
            | ClientError::Lengths(..) => Self::usage(error),
            ClientError::NoSuchWorker { .. } => {
                Self::new(Exit::NotFound, error).next("List workers with: optwasm workers")
            }
            ClientError::TooFewWorkers { .. } => Self::new(Exit::TimedOut, error),
            ClientError::Job(_) => Self::new(Exit::JobsFailed, error),
            ClientError::Io(_) => Self::new(Exit::Storage, error),
            ClientError::Request(error) => {
                let exit = match error.code {
                    ErrorCode::NotFound => Exit::NotFound,
                    ErrorCode::Unauthorized => Exit::Unauthorized,
                    ErrorCode::Invalid => Exit::Usage,
                    ErrorCode::Storage | ErrorCode::Quota => Exit::Storage,
                    ErrorCode::Shutdown | ErrorCode::Busy => Exit::Unreachable,
                };
                let over_quota = error.code == ErrorCode::Quota;
                let failure = Self::new(exit, error);
                match exit {
                    _ if over_quota => failure.next("See what is used with: optwasm usage"),
                    Exit::NotFound => failure.next("List batches with: optwasm jobs"),
                    Exit::Storage => failure.next("Make room with: optwasm rm BATCH"),
                    _ => failure,
                }
            }
        }
    }
}

impl From<LocateError> for Failure {
    fn from(error: LocateError) -> Self {
        match error {
            LocateError::Name(..) => Self::new(Exit::Unreachable, error)
                .next("Name it otherwise with --connect HOST:PORT"),
            LocateError::File(error) => error.into(),
        }
    }
}

impl From<AccessError> for Failure {
    fn from(error: AccessError) -> Self {
        let (exit, next) = match &error {
            AccessError::Missing(path) => (
                Exit::Unreachable,
                format!(
                    "Start a coordinator with: optwasm coordinator --access-file {}",
                    path.display()
                ),
            ),
            AccessError::Io(..) => (Exit::Storage, String::new()),
            AccessError::Malformed(_) => (Exit::Usage, String::new()),
            AccessError::WorkersOnly(_) => (
                Exit::Unauthorized,
                "Start its coordinator with --access-clients, or name a token with --token-file"
                    .to_owned(),
            ),
        };
        let failure = Self::new(exit, error);
        if next.is_empty() {
            failure
        } else {
            failure.next(next)
        }
    }
}

impl From<EndpointError> for Failure {
    fn from(error: EndpointError) -> Self {
        let exit = match error {
            EndpointError::Bind(..) => Exit::Usage,
            EndpointError::Identity(_) => Exit::Storage,
            EndpointError::Unreachable(..) => Exit::Unreachable,
            EndpointError::Impostor(_) => Exit::Unauthorized,
            EndpointError::Version(_) => Exit::Incompatible,
        };
        let failure = Self::new(exit, &error);
        match error {
            EndpointError::Bind(..) => {
                failure.next("Choose another address with: --listen HOST:PORT")
            }
            EndpointError::Unreachable(..) => failure
                .next("Start one with `optwasm coordinator`, or name it with --connect HOST:PORT"),
            EndpointError::Impostor(_) => {
                failure.next("Take a token of that coordinator: optwasm token create ROLE")
            }
            _ => failure,
        }
    }
}

impl From<HandshakeError> for Failure {
    fn from(error: HandshakeError) -> Self {
        let exit = match &error {
            HandshakeError::Refused(refusal) => match refusal.code {
                RefusalCode::Token | RefusalCode::Role => Exit::Unauthorized,
                RefusalCode::Version => Exit::Incompatible,
                RefusalCode::Busy => Exit::Unreachable,
            },
            HandshakeError::Foreign => Exit::Incompatible,
            HandshakeError::Link(_) | HandshakeError::Frame(_) => Exit::Unreachable,
            HandshakeError::Exporter => Exit::Bug,
        };
        let failure = Self::new(exit, error);
        match exit {
            Exit::Unauthorized => failure
                .next("On the coordinator's machine, issue one with: optwasm token create ROLE"),
            _ => failure,
        }
    }
}

impl From<WorkerError> for Failure {
    fn from(error: WorkerError) -> Self {
        match error {
            WorkerError::Refused(error) => error.into(),
            WorkerError::Endpoint(error) => error.into(),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Newer { .. } => Self::new(Exit::Incompatible, error)
                .next("Use the version of optwasm that wrote it, or a newer one"),
            StoreError::Damaged(_) => Self::new(Exit::Storage, error)
                .next("See what is damaged with: optwasm coordinator check"),
            _ => Self::new(Exit::Storage, error),
        }
    }
}

impl From<DirError> for Failure {
    fn from(error: DirError) -> Self {
        let failure = Self::new(Exit::Storage, &error);
        match error {
            DirError::InUse(_) => failure
                .next("Stop it with `optwasm shutdown`, or choose another directory with --dir"),
            _ => failure,
        }
    }
}
