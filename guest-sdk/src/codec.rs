//! Values to CBOR and back, with errors a person can act upon.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why bytes are no value of the wanted type, or a value cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodecError(String);

impl std::fmt::Display for CodecError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for CodecError {}

/// Decodes one CBOR value that fills `bytes`.
pub(crate) fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.is_empty() {
        return Err(CodecError(
            "it is empty; one CBOR value was expected".to_owned(),
        ));
    }
    let mut rest = bytes;
    let value = ciborium::from_reader(&mut rest).map_err(|error| CodecError(explain(error)))?;
    match rest.len() {
        0 => Ok(value),
        more => Err(CodecError(format!("{more} bytes follow the CBOR value"))),
    }
}

/// Encodes a value as CBOR.
pub(crate) fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).map_err(|error| match error {
        ciborium::ser::Error::Io(error) => CodecError(error.to_string()),
        ciborium::ser::Error::Value(message) => CodecError(message),
    })?;
    Ok(bytes)
}

fn explain(error: ciborium::de::Error<std::io::Error>) -> String {
    use ciborium::de::Error;
    match error {
        Error::Io(_) => "the CBOR value is cut off".to_owned(),
        Error::Syntax(offset) => format!("it is not CBOR (at byte {offset})"),
        Error::Semantic(Some(offset), message) => format!("{message} (at byte {offset})"),
        Error::Semantic(None, message) => message,
        Error::RecursionLimitExceeded => "its values are nested too deeply".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_is_wrong() {
        let error = |bytes: &[u8]| from_slice::<Vec<u32>>(bytes).unwrap_err().to_string();
        assert_eq!(error(b""), "it is empty; one CBOR value was expected");
        assert_eq!(error(&[0x82, 1]), "the CBOR value is cut off");
        assert_eq!(error(&[0x80, 0, 0]), "2 bytes follow the CBOR value");
        assert_eq!(error(&[0x1c]), "it is not CBOR (at byte 0)");
        assert!(
            error(&[0x61, b'x']).contains("expected array"),
            "{}",
            error(&[0x61, b'x'])
        );
    }

    #[test]
    fn hostile_lengths_and_nesting_are_errors() {
        // An array that claims 2^60 elements; a nest of 100000 arrays.
        assert!(from_slice::<Vec<u64>>(&[0x9b, 0x10, 0, 0, 0, 0, 0, 0, 0]).is_err());
        let deep = from_slice::<ciborium::Value>(&vec![0x81; 100_000]).unwrap_err();
        assert_eq!(deep.to_string(), "its values are nested too deeply");
    }
}
