//! Floats that may arrive as integers.
//!
//! CBOR tells 1 from 1.0, and most encoders write a number without a fraction as the integer; a
//! plain `f64` field refuses that. This attribute takes both:
//!
//! ```
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Start {
//!     #[serde(with = "optwasm_guest::float")]
//!     x: f64,
//! }
//! ```

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use crate::array::{Element, Number};

/// Serializes the number as it is.
///
/// # Errors
///
/// Those of the serializer.
pub fn serialize<T: Element + Serialize, S: Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    value.serialize(serializer)
}

/// Deserializes a float or an integer.
///
/// # Errors
///
/// Those of the deserializer; something else than a number.
pub fn deserialize<'de, T: Element, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Number::deserialize(deserializer).map(|number| number.0)
}

#[cfg(test)]
mod tests {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Start {
        #[serde(with = "crate::float")]
        x: f64,
    }

    #[test]
    fn integers_are_welcome() {
        for (text, wanted) in [
            (&b"\xa1\x61x\x01"[..], 1.0),
            (b"\xa1\x61x\x20", -1.0),
            (b"\xa1\x61x\xf9\x3e\x00", 1.5),
        ] {
            assert_eq!(crate::codec::from_slice::<Start>(text).unwrap().x, wanted);
        }
        assert!(crate::codec::from_slice::<Start>(b"\xa1\x61x\x61y").is_err());
    }
}
