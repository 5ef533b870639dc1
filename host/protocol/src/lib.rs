//! What crosses a wire.
//!
//! Everything that two optwasm processes say to each other is defined here and nowhere else:
//!
//! - [`id`]: names of things ([`ContentId`], [`BatchId`], [`JobId`], [`WorkerId`]);
//! - [`job`]: what a job is ([`Template`], [`Limits`], [`Profile`], [`Payload`]);
//! - [`outcome`]: how it ended ([`Outcome`], [`Report`]);
//! - [`message`]: the messages of workers, clients and coordinator;
//! - [`frame`]: messages as length-delimited CBOR on a byte stream;
//! - [`namespace`]: users, and what each may have ([`Namespace`], [`Quota`], [`Usage`]);
//! - [`token`]: who may connect as what ([`Token`], [`Role`], [`Authority`]);
//! - [`link`]: a connection that opens and accepts byte streams, over QUIC or in memory;
//! - [`transfer`]: moving blobs over a link;
//! - [`endpoint`]: QUIC endpoints with pinned certificates;
//! - [`access`]: files that tell others how to reach a coordinator;
//! - [`locate`]: finding a coordinator, anew for each connection;
//! - [`handshake`]: the hello that opens every connection.
//!
//! Nothing in this crate decides anything about jobs; it only carries them.

pub mod access;
pub mod backoff;
pub mod endpoint;
pub mod frame;
pub mod handshake;
pub mod id;
pub mod job;
pub mod link;
pub mod locate;
pub mod message;
pub mod namespace;
pub mod outcome;
pub mod token;
pub mod transfer;

pub use endpoint::{Fingerprint, Identity};
pub use id::{BatchId, ContentId, JobId, WorkerId};
pub use job::{Instances, Limits, Payload, Profile, Seed, Template};
pub use link::{Link, Stream};
pub use locate::Locator;
pub use namespace::{Namespace, NamespaceStatus, Quota, QuotaChange, Usage};
pub use outcome::{Incumbent, LogRecord, Loss, Outcome, Report, TrapKind};
pub use token::{Authority, Role, Token};

/// Version of the wire protocol, carried by the ALPN name and by every hello.
pub const PROTOCOL_VERSION: u16 = 1;

/// Largest payload that travels inside a message; anything larger is a blob on a stream of its own.
///
/// 64 KiB keeps a full assignment of large inputs below [`frame::MAX_FRAME`] and is far above
/// the size at which a stream of its own (about 15 µs) costs more than the copy.
pub const INLINE_MAX: usize = 64 * 1024;

/// Largest blob that is accepted anywhere: 2 GiB, half of what a wasm32 guest can address.
pub const BLOB_MAX: u64 = 2 << 30;

/// How long an attached batch outlives the last stream that follows it, be it of results or of its
/// status: 15 seconds, in which a client whose connection broke has tried again several times.
pub const ATTACHED_GRACE: std::time::Duration = std::time::Duration::from_secs(15);

/// Most jobs that one batch may hold: indices are 32 bits and one value is kept free.
pub const JOBS_MAX: u32 = u32::MAX - 1;
