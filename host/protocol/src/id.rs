//! Names of things.
//!
//! Blobs are named by their content, batches and workers by numbers that one coordinator hands
//! out and never reuses, jobs by their batch and their place in it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The BLAKE3 hash of some bytes: the name of a module, an input, an output or shared data.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentId([u8; 32]);

impl ContentId {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The id with this hash.
    pub const fn from_bytes(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Twelve digits tell any two blobs of one coordinator apart when a person reads them.
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0[..6]))
    }
}

/// The text is not the 64 hexadecimal digits of a content id.
#[derive(Debug, thiserror::Error)]
#[error("a content id has 64 hexadecimal digits")]
pub struct ParseContentIdError;

impl FromStr for ContentId {
    type Err = ParseContentIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = data_encoding::HEXLOWER_PERMISSIVE
            .decode(text.as_bytes())
            .map_err(|_| ParseContentIdError)?;
        Ok(Self(bytes.try_into().map_err(|_| ParseContentIdError)?))
    }
}

impl Serialize for ContentId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for ContentId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            let bytes = serde_bytes::ByteArray::<32>::deserialize(deserializer)?;
            Ok(Self(bytes.into_array()))
        }
    }
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

number_id!(
    /// Jobs that were submitted together. One coordinator never uses a number twice.
    BatchId
);
number_id!(
    /// One connection of one worker. One coordinator never uses a number twice.
    WorkerId
);

/// One job: its batch and its place among the inputs, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(
    /// The batch.
    pub BatchId,
    /// The place in it.
    pub u32,
);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// The text names no job.
#[derive(Debug, thiserror::Error)]
#[error("a job is named by its batch and its place in it, as in 7.0")]
pub struct ParseJobIdError;

impl FromStr for JobId {
    type Err = ParseJobIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (batch, index) = text.split_once('.').ok_or(ParseJobIdError)?;
        match (batch.parse(), index.parse()) {
            (Ok(batch), Ok(index)) => Ok(Self(BatchId(batch), index)),
            _ => Err(ParseJobIdError),
        }
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_id_text_round_trips() {
        let id = ContentId::of(b"abc");
        assert_eq!(id.to_string().parse::<ContentId>().unwrap(), id);
        assert!("xyz".parse::<ContentId>().is_err());
        assert!("00".parse::<ContentId>().is_err());
    }

    #[test]
    fn job_ids_round_trip_as_text() {
        let id = JobId(BatchId(7), 12);
        assert_eq!(id.to_string().parse::<JobId>().unwrap(), id);
        for bad in ["7", "7.", ".1", "7.1.2", "7.-1", "a.b"] {
            assert!(bad.parse::<JobId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn content_id_is_one_byte_string_in_cbor() {
        let mut bytes = Vec::new();
        ciborium::into_writer(&ContentId::of(b"abc"), &mut bytes).unwrap();
        assert_eq!(bytes.len(), 34);
        let back: ContentId = ciborium::from_reader(&bytes[..]).unwrap();
        assert_eq!(back, ContentId::of(b"abc"));
    }
}
