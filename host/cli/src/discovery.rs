//! Which coordinator is meant, where several places say so.
//!
//! Whoever says it nearest to the command goes first:
//!
//! 1. flags: `--connect`, `--access-file`, `--token-file`;
//! 2. the profile that `--connect-profile` names;
//! 3. the environment: `OPTWASM_CONNECT`, `OPTWASM_ACCESS`, `OPTWASM_TOKEN_FILE`, `OPTWASM_TOKEN`;
//! 4. the profile that `OPTWASM_PROFILE` names;
//! 5. the configuration file, outside its profiles;
//! 6. nothing of these: the coordinator of this user on this machine.
//!
//! In one of them an address goes before an access file, and a token file before the token's text. Place and
//! token are looked for separately, with one exception: an access file brings its own token, so another
//! one counts only where it is said as near as the file, or nearer.

use std::path::PathBuf;

/// What one of those places says.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    /// `HOST:PORT`.
    pub connect: Option<String>,
    /// An access file.
    pub access_file: Option<PathBuf>,
    /// Where the token is.
    pub token: Option<TokenSource>,
}

/// Where a token is.
#[derive(Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// In this file.
    File(PathBuf),
    /// This is its text.
    Text(String),
}

impl std::fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TokenSource::File(path) => path.fmt(f),
            TokenSource::Text(_) => f.write_str("(secret)"),
        }
    }
}

/// Where the coordinator is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// At `HOST:PORT`.
    Name(String),
    /// Where this access file says.
    File(PathBuf),
    /// On this machine.
    Here,
}

/// The coordinator that is meant, and the token for it where one is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Where it is.
    pub place: Place,
    /// What admits.
    pub token: Option<TokenSource>,
}

/// Chooses from `layers`, of which the first goes before all others.
pub fn choose(layers: &[Layer]) -> Choice {
    let place = layers.iter().enumerate().find_map(|(index, layer)| {
        let name = layer.connect.clone().map(Place::Name);
        let place = name.or_else(|| layer.access_file.clone().map(Place::File));
        place.map(|place| (index, place))
    });
    let (asked, place) = match place {
        Some((index, place @ Place::File(_))) => (&layers[..=index], place),
        Some((_, place)) => (layers, place),
        None => (layers, Place::Here),
    };
    let token = asked.iter().find_map(|layer| layer.token.clone());
    Choice { place, token }
}

/// Whether `name` has the form `HOST:PORT`.
pub fn is_address(name: &str) -> bool {
    name.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|n| n > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> Layer {
        Layer {
            connect: Some(name.to_owned()),
            ..Layer::default()
        }
    }

    fn file(path: &str) -> Layer {
        Layer {
            access_file: Some(path.into()),
            ..Layer::default()
        }
    }

    fn token(text: &str) -> Layer {
        Layer {
            token: Some(TokenSource::Text(text.to_owned())),
            ..Layer::default()
        }
    }

    #[test]
    fn the_nearest_goes_first() {
        let place = |layers: &[Layer]| choose(layers).place;
        assert_eq!(place(&[]), Place::Here);
        assert_eq!(place(&[Layer::default(), token("t")]), Place::Here);
        assert_eq!(place(&[name("a:1"), file("f")]), Place::Name("a:1".into()));
        assert_eq!(place(&[file("f"), name("a:1")]), Place::File("f".into()));
        let both = Layer {
            access_file: Some("f".into()),
            ..name("a:1")
        };
        assert_eq!(place(&[both]), Place::Name("a:1".into()));
    }

    #[test]
    fn an_access_file_brings_its_token_unless_a_nearer_one_is_named() {
        let text = |text: &str| Some(TokenSource::Text(text.to_owned()));
        assert_eq!(choose(&[name("a:1"), token("far")]).token, text("far"));
        assert_eq!(choose(&[file("f"), token("far")]).token, None);
        assert_eq!(choose(&[token("near"), file("f")]).token, text("near"));
        let both = Layer {
            access_file: Some("f".into()),
            ..token("same")
        };
        assert_eq!(choose(&[both]).token, text("same"));
        assert_eq!(choose(&[token("near"), token("far")]).token, text("near"));
    }

    #[test]
    fn an_address_has_a_port() {
        for good in ["head:4710", "[::1]:4710", "10.0.0.1:1", "a.b-c:65535"] {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "head",
            "head:",
            ":4710",
            "head:0",
            "head:65536",
            "head:ssh",
            "",
        ] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
