//! Users of one coordinator: whose batches are whose, and what each may have.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest name of a namespace, in bytes.
const NAME_MAX: usize = 64;

/// The namespace of whoever has no other.
const DEFAULT: &str = "default";

/// The name of a namespace: whose batches, results and blobs something is. 1 to 64 characters, each
/// one of `a` to `z`, `0` to `9`, `.`, `_` and `-`.
///
/// Tokens and batches that name none belong to `default`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Namespace(Arc<str>);

/// The text is not the name of a namespace. Choose another one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a namespace has a name of 1 to 64 characters: a to z, 0 to 9, `.`, `_` and `-`")]
pub struct NamespaceError;

impl Namespace {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the one of those who name none.
    pub fn is_default(&self) -> bool {
        &*self.0 == DEFAULT
    }

    /// A number that stands for it where a name is too long: 0 for the default one, for any other 63
    /// bits of its name's hash. No two of a million names have the same by chance (10^-7).
    pub fn number(&self) -> u64 {
        if self.is_default() {
            return 0;
        }
        let hash = blake3::hash(self.0.as_bytes());
        let mut number = [0; 8];
        number.copy_from_slice(&hash.as_bytes()[..8]);
        (u64::from_le_bytes(number) >> 1).max(1)
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self(DEFAULT.into())
    }
}

impl FromStr for Namespace {
    type Err = NamespaceError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let is_allowed = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        match (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(is_allowed) {
            true => Ok(Self(name.into())),
            false => Err(NamespaceError),
        }
    }
}

impl TryFrom<String> for Namespace {
    type Error = NamespaceError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        name.parse()
    }
}

impl From<Namespace> for String {
    fn from(namespace: Namespace) -> Self {
        namespace.0.as_ref().to_owned()
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// What a namespace may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Its share of the workers' time among all namespaces; at least 1. Default 1.
    pub weight: u32,
    /// Jobs that may wait. Default: any number.
    pub max_queued: Option<u64>,
    /// Bytes that its inputs, results and blobs may take; results of accepted jobs are kept beyond
    /// it. Default: any number.
    pub max_bytes: Option<u64>,
    /// Fuel that its jobs may use in all; when it is used up, jobs that were accepted still run, and
    /// no more are. Default: any amount.
    pub max_fuel: Option<u64>,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            weight: 1,
            max_queued: None,
            max_bytes: None,
            max_fuel: None,
        }
    }
}

/// How a quota changes: what is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaChange {
    /// The share, at least 1.
    pub weight: Option<u32>,
    /// Jobs that may wait; [`Limit::None`] for any number.
    pub max_queued: Option<Limit>,
    /// Bytes; [`Limit::None`] for any number.
    pub max_bytes: Option<Limit>,
    /// Fuel; [`Limit::None`] for any amount.
    pub max_fuel: Option<Limit>,
}

/// A limit, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// As much as there is.
    None,
    /// So much.
    At(u64),
}

impl From<Limit> for Option<u64> {
    fn from(limit: Limit) -> Self {
        match limit {
            Limit::None => None,
            Limit::At(most) => Some(most),
        }
    }
}

impl QuotaChange {
    /// `quota`, changed.
    pub fn apply(&self, quota: Quota) -> Quota {
        let limit = |change: Option<Limit>, now| change.map_or(now, Option::from);
        Quota {
            weight: self.weight.unwrap_or(quota.weight).max(1),
            max_queued: limit(self.max_queued, quota.max_queued),
            max_bytes: limit(self.max_bytes, quota.max_bytes),
            max_fuel: limit(self.max_fuel, quota.max_fuel),
        }
    }
}

/// What a namespace has used since it is known, and has now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Jobs that ended with an output; one that is run again counts again.
    pub ok: u64,
    /// Jobs that ended otherwise, and were not cancelled.
    pub failed: u64,
    /// Jobs that were cancelled.
    pub cancelled: u64,
    /// How many of all these were answered by the result of an identical job, and took nothing.
    pub memo: u64,
    /// Fuel that its jobs have used: of every attempt whose report counted.
    pub fuel: u64,
    /// For how long these attempts have occupied a slot, in microseconds.
    pub slot_us: u64,
    /// Bytes of its inputs, results and blobs that are kept now.
    pub bytes: u64,
}

impl Usage {
    /// Counts an attempt that used so much fuel, and a slot for so many microseconds.
    pub fn bill(&mut self, fuel: u64, slot_us: u64) {
        self.fuel = self.fuel.saturating_add(fuel);
        self.slot_us = self.slot_us.saturating_add(slot_us);
    }
}

/// A namespace in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceStatus {
    /// Which.
    pub namespace: Namespace,
    /// What it may have.
    pub quota: Quota,
    /// What it has used.
    pub usage: Usage,
    /// Jobs that wait.
    pub queued: u64,
    /// Jobs in the hands of workers.
    pub running: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        for good in ["a", "default", "team-1.x_y", &"z".repeat(64)] {
            assert_eq!(good.parse::<Namespace>().unwrap().as_str(), good);
        }
        for bad in ["", "A", "a b", "a/b", "\0", "é", &"z".repeat(65)] {
            assert_eq!(bad.parse::<Namespace>(), Err(NamespaceError));
        }
        assert_eq!(Namespace::default().number(), 0);
        let number = |name: &str| name.parse::<Namespace>().unwrap().number();
        assert_ne!(number("a"), number("b"));
        assert!(number("a") <= i64::MAX as u64);
    }

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let quota = Quota {
            max_fuel: Some(7),
            ..Quota::default()
        };
        let change = QuotaChange {
            weight: Some(0),
            max_queued: Some(Limit::At(3)),
            ..QuotaChange::default()
        };
        let changed = change.apply(quota);
        assert_eq!((changed.weight, changed.max_queued), (1, Some(3)));
        assert_eq!(changed.max_fuel, Some(7));
        let change = QuotaChange {
            max_fuel: Some(Limit::None),
            ..QuotaChange::default()
        };
        assert_eq!(change.apply(changed).max_fuel, None);
    }
}
