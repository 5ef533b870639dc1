//! Who may connect, and as what.
//!
//! A [`Token`] is what a person hands to a worker or a client. It carries the fingerprint of the
//! coordinator's certificate, so its holder knows the coordinator before it says anything, and a
//! secret, which never crosses the wire: the holder proves it with a MAC over keying material of
//! the TLS session, so that a proof is of no use in any other session.
//!
//! The secret is itself a MAC, by the coordinator's [`Authority`] key, over what the token allows.
//! A coordinator therefore checks any token that it ever issued without remembering it.
//!
//! Tokens of clients and readers belong to a [`Namespace`], which the MAC covers too. One that names
//! none, as all did once, has the default one.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde::{Deserialize, Serialize};

use crate::endpoint::Fingerprint;
use crate::namespace::Namespace;

/// What the holder of a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything, including issuing tokens and stopping the coordinator.
    Admin,
    /// Submit batches, read and cancel them.
    Client,
    /// Take jobs and deliver results.
    Worker,
    /// Read the state of batches and workers.
    Read,
}

impl Role {
    const ALL: [Role; 4] = [Role::Admin, Role::Client, Role::Worker, Role::Read];

    /// The name that people type.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Client => "client",
            Role::Worker => "worker",
            Role::Read => "read",
        }
    }

    const fn code(self) -> u8 {
        match self {
            Role::Admin => 0,
            Role::Client => 1,
            Role::Worker => 2,
            Role::Read => 3,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Role::ALL
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or(TokenError::Role)
    }
}

/// Why a token's text is not a token.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It does not look like one. Copy it whole.
    #[error("this is not an optwasm token (they begin with `optwasm1_`)")]
    Format,
    /// It looks like one, with characters lost or changed. Copy it again.
    #[error("the token is damaged: copy it again, whole")]
    Checksum,
    /// No such role.
    #[error("no such role (admin, client, worker, read)")]
    Role,
}

/// What a token allows. It is not secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// A random name, by which the token is listed and revoked.
    #[serde(with = "serde_bytes")]
    pub id: [u8; 8],
    /// What its holder may do.
    pub role: Role,
    /// When it ends, in seconds since 1970; 0 for never.
    pub expires: u64,
    /// Whose batches a client or reader sees; has no meaning for admins, who see all, and workers.
    #[serde(default, skip_serializing_if = "Namespace::is_default")]
    pub namespace: Namespace,
}

impl Claims {
    /// The token's name as text.
    pub fn name(&self) -> String {
        HEXLOWER.encode(&self.id)
    }

    /// Whether it has ended at `now`, in seconds since 1970.
    pub fn is_expired(&self, now: u64) -> bool {
        self.expires != 0 && self.expires <= now
    }

    /// 17 bytes, and the namespace's name where it is not the default one: no two claims have the
    /// same bytes.
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(17 + self.namespace.as_str().len());
        bytes.extend_from_slice(&self.id);
        bytes.push(self.role.code());
        bytes.extend_from_slice(&self.expires.to_le_bytes());
        if !self.namespace.is_default() {
            bytes.extend_from_slice(self.namespace.as_str().as_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (id, rest) = bytes.split_first_chunk::<8>()?;
        let (role, rest) = rest.split_first()?;
        let (expires, name) = rest.split_first_chunk::<8>()?;
        let namespace = match name {
            [] => Namespace::default(),
            name => std::str::from_utf8(name).ok()?.parse().ok()?,
        };
        Some(Self {
            id: *id,
            role: Role::ALL.into_iter().find(|r| r.code() == *role)?,
            expires: u64::from_le_bytes(*expires),
            namespace,
        })
    }
}

/// A secret of 32 bytes that no log or panic shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    /// The proof of this secret in the TLS session with the keying material `exported`.
    pub fn prove(&self, exported: &[u8; 32]) -> [u8; 32] {
        *blake3::keyed_hash(&self.0, exported).as_bytes()
    }

    /// Whether `proof` is that proof, in constant time.
    pub fn verify(&self, exported: &[u8; 32], proof: &[u8; 32]) -> bool {
        // Comparing `blake3::Hash`es takes constant time.
        blake3::keyed_hash(&self.0, exported) == blake3::Hash::from_bytes(*proof)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Coordinator, claims and secret: all that its holder needs beside an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The coordinator's certificate.
    pub fingerprint: Fingerprint,
    /// What the token allows.
    pub claims: Claims,
    /// What proves it.
    pub secret: Secret,
}

const PREFIX: &str = "optwasm1_";

impl Token {
    /// The text that a person copies: [`Token::from_str`] reads it. It holds the secret.
    pub fn expose(&self) -> String {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(self.fingerprint.as_bytes());
        bytes.extend_from_slice(&self.claims.to_bytes());
        bytes.extend_from_slice(&self.secret.0);
        let checksum = blake3::hash(&bytes);
        bytes.extend_from_slice(&checksum.as_bytes()[..4]);
        format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&bytes))
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(TokenError::Format)?;
        let bytes = BASE64URL_NOPAD
            .decode(encoded.as_bytes())
            .map_err(|_| TokenError::Checksum)?;
        let (body, checksum) = bytes.split_last_chunk::<4>().ok_or(TokenError::Checksum)?;
        if blake3::hash(body).as_bytes()[..4] != checksum[..] {
            return Err(TokenError::Checksum);
        }
        let (fingerprint, rest) = body.split_first_chunk::<32>().ok_or(TokenError::Checksum)?;
        let (claims, secret) = rest.split_last_chunk::<32>().ok_or(TokenError::Checksum)?;
        Ok(Self {
            fingerprint: Fingerprint::from_bytes(*fingerprint),
            claims: Claims::from_bytes(claims).ok_or(TokenError::Role)?,
            secret: Secret(*secret),
        })
    }
}

/// The key with which a coordinator issues and checks tokens.
#[derive(Clone)]
pub struct Authority([u8; 32]);

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority(..)")
    }
}

impl Authority {
    /// The authority with this key, which must be random and kept secret.
    pub fn from_key(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// A new one.
    ///
    /// # Errors
    ///
    /// Where the operating system has no randomness.
    pub fn generate() -> Result<Self, std::io::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(std::io::Error::other)?;
        Ok(Self(key))
    }

    /// The key. It is secret.
    pub fn key(&self) -> [u8; 32] {
        self.0
    }

    /// The secret that belongs to `claims`.
    pub fn secret(&self, claims: &Claims) -> Secret {
        Secret(*blake3::keyed_hash(&self.0, &claims.to_bytes()).as_bytes())
    }

    /// Issues a token for the coordinator with certificate `fingerprint`, in the default namespace.
    ///
    /// # Errors
    ///
    /// Where the operating system has no randomness.
    pub fn issue(
        &self,
        fingerprint: Fingerprint,
        role: Role,
        expires: u64,
    ) -> Result<Token, std::io::Error> {
        self.issue_in(fingerprint, role, expires, Namespace::default())
    }

    /// Issues a token for the coordinator with certificate `fingerprint`, in a namespace.
    ///
    /// # Errors
    ///
    /// Where the operating system has no randomness.
    pub fn issue_in(
        &self,
        fingerprint: Fingerprint,
        role: Role,
        expires: u64,
        namespace: Namespace,
    ) -> Result<Token, std::io::Error> {
        let mut id = [0; 8];
        getrandom::fill(&mut id).map_err(std::io::Error::other)?;
        let claims = Claims {
            id,
            role,
            expires,
            namespace,
        };
        Ok(Token {
            fingerprint,
            secret: self.secret(&claims),
            claims,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Authority::from_key([7; 32])
            .issue(Fingerprint::from_bytes([1; 32]), Role::Worker, 1234)
            .unwrap()
    }

    #[test]
    fn text_round_trips_and_damage_is_noticed() {
        let token = token();
        let text = token.expose();
        assert_eq!(text.parse::<Token>().unwrap(), token);
        assert_eq!(format!(" {text}\n").parse::<Token>().unwrap(), token);
        assert_eq!("hello".parse::<Token>(), Err(TokenError::Format));
        for place in PREFIX.len()..text.len() {
            let mut damaged = text.clone().into_bytes();
            damaged[place] = if damaged[place] == b'A' { b'B' } else { b'A' };
            let damaged = String::from_utf8(damaged).unwrap();
            assert_eq!(damaged.parse::<Token>(), Err(TokenError::Checksum));
        }
        assert_eq!(
            text[..text.len() - 1].parse::<Token>(),
            Err(TokenError::Checksum)
        );
    }

    #[test]
    fn a_proof_holds_for_one_secret_and_one_session() {
        let authority = Authority::from_key([7; 32]);
        let token = token();
        let proof = token.secret.prove(&[9; 32]);
        assert!(authority.secret(&token.claims).verify(&[9; 32], &proof));
        assert!(!authority.secret(&token.claims).verify(&[8; 32], &proof));
        let promoted = Claims {
            role: Role::Admin,
            ..token.claims.clone()
        };
        assert!(!authority.secret(&promoted).verify(&[9; 32], &proof));
        let longer = Claims {
            expires: 0,
            ..token.claims.clone()
        };
        assert!(!authority.secret(&longer).verify(&[9; 32], &proof));
        let elsewhere = Claims {
            namespace: "other".parse().unwrap(),
            ..token.claims.clone()
        };
        assert!(!authority.secret(&elsewhere).verify(&[9; 32], &proof));
    }

    #[test]
    fn a_namespace_travels_in_the_token_and_the_default_one_takes_no_room() {
        let authority = Authority::from_key([7; 32]);
        let issue = |name: &str| {
            let namespace = name.parse().unwrap();
            let fingerprint = Fingerprint::from_bytes([1; 32]);
            authority
                .issue_in(fingerprint, Role::Client, 0, namespace)
                .unwrap()
        };
        let named = issue("team-a");
        let read: Token = named.expose().parse().unwrap();
        assert_eq!(read, named);
        assert_eq!(read.claims.namespace.as_str(), "team-a");
        // As long as tokens were before there were namespaces.
        let plain = issue("default");
        assert_eq!(plain.expose().len(), PREFIX.len() + 114);
        assert_eq!(plain.expose().parse::<Token>().unwrap(), plain);
        assert_eq!(plain.claims.to_bytes().len(), 17);
        let longest = issue(&"z".repeat(64));
        assert_eq!(longest.expose().parse::<Token>().unwrap(), longest);
    }

    #[test]
    fn secrets_are_not_printed() {
        let token = token();
        assert_eq!(format!("{:?}", token.secret), "Secret(..)");
        assert_eq!(
            format!("{:?}", Authority::from_key([7; 32])),
            "Authority(..)"
        );
        let bytes = format!("{:?}", token.secret.0);
        assert!(!format!("{token:?}").contains(bytes.trim_matches(['[', ']'])));
    }
}
