//! Arrays of numbers as one byte string: the typed arrays of RFC 8746.
//!
//! A million `f64` in ordinary CBOR are a million separately tagged items of 9 bytes; as a typed
//! array they are one byte string of 8 000 000 bytes (little-endian, tag 86) that is copied instead
//! of parsed. NumPy arrays are these very bytes.
//!
//! Use it for fields of a struct; a bare `Vec<f64>` as the input or output of a job travels so by
//! itself:
//!
//! ```
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Problem {
//!     #[serde(with = "optwasm_guest::array")]
//!     costs: Vec<f64>,
//! }
//! ```
//!
//! Reading also accepts an ordinary CBOR array of numbers, and integers where floats are wanted.
//! A typed array of another element type is an error. In formats for people, such as JSON, it is
//! an ordinary array.

use std::fmt;
use std::marker::PhantomData;

use ciborium::tag::Captured;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::codec::{self, CodecError};

/// Most elements reserved on the word of a length prefix, which may lie: 1 MiB of `f64`.
const TRUSTED_LENGTH: usize = 1 << 17;

/// Numbers that typed arrays are made of: `u8` to `u64`, `i8` to `i64`, `f32` and `f64`.
pub trait Element: sealed::Element {}

impl<T: sealed::Element> Element for T {}

/// Serializes numbers as a typed array; for `#[serde(with = "optwasm_guest::array")]`.
///
/// # Errors
///
/// Those of the serializer.
pub fn serialize<T: Element, S: Serializer>(
    values: &[T],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        return serializer.collect_seq(values);
    }
    let mut bytes = Vec::with_capacity(size_of_val(values));
    for value in values {
        value.append_to(&mut bytes);
    }
    Captured(Some(T::TAG), Bytes(bytes)).serialize(serializer)
}

/// Deserializes a typed array, or an ordinary sequence of numbers; for
/// `#[serde(with = "optwasm_guest::array")]`.
///
/// # Errors
///
/// Those of the deserializer; an array of other elements; a length that does not fit the elements.
pub fn deserialize<'de, T: Element, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    if deserializer.is_human_readable() {
        let numbers: Vec<Number<T>> = Vec::deserialize(deserializer)?;
        return Ok(numbers.into_iter().map(|number| number.0).collect());
    }
    let Captured(tag, content) = Captured::<Content<T>>::deserialize(deserializer)?;
    match (tag, content) {
        (_, Content::Numbers(numbers)) => Ok(numbers),
        (Some(tag), Content::Bytes(bytes)) if tag == T::TAG => {
            T::from_bytes(&bytes).ok_or_else(|| {
                de::Error::custom(format_args!(
                    "a typed array of {} bytes does not divide into {}",
                    bytes.len(),
                    T::NAME
                ))
            })
        }
        // A byte string is a list of bytes with or without the tag.
        (None, Content::Bytes(bytes)) if T::PLAIN_BYTES => {
            Ok(T::from_bytes(&bytes).unwrap_or_default())
        }
        (tag, Content::Bytes(_)) => Err(de::Error::custom(format_args!(
            "expected a typed array of {} (tag {}), found a byte string with {}",
            T::NAME,
            T::TAG,
            tag.map_or_else(|| "no tag".to_owned(), |tag| format!("tag {tag}")),
        ))),
    }
}

/// Numbers as a value that serializes as a typed array, where no field can carry the attribute.
///
/// ```
/// # optwasm_guest::mock::Host::new().run_in(|| {
/// optwasm_guest::checkpoint(&("phase 2", optwasm_guest::array::of(&[1.0, 2.0])));
/// # });
/// ```
pub fn of<T: Element>(values: &[T]) -> impl Serialize + '_ {
    Array(values)
}

struct Array<'a, T>(&'a [T]);

impl<T: Element> Serialize for Array<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(self.0, serializer)
    }
}

/// A list of numbers that is a whole message.
pub(crate) struct Owned<T>(pub(crate) Vec<T>);

impl<'de, T: Element> Deserialize<'de> for Owned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer).map(Self)
    }
}

/// Bytes that serialize as a byte string.
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

/// What stands behind the tag.
enum Content<T> {
    Bytes(Vec<u8>),
    Numbers(Vec<T>),
}

impl<'de, T: Element> Deserialize<'de> for Content<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_byte_buf(ContentVisitor(PhantomData))
    }
}

struct ContentVisitor<T>(PhantomData<T>);

impl<'de, T: Element> Visitor<'de> for ContentVisitor<T> {
    type Value = Content<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "an array of {}", T::NAME)
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(Content::Bytes(bytes.to_vec()))
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Self::Value, E> {
        Ok(Content::Bytes(bytes))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut numbers = Vec::with_capacity(items.size_hint().unwrap_or(0).min(TRUSTED_LENGTH));
        while let Some(Number(number)) = items.next_element()? {
            numbers.push(number);
        }
        Ok(Content::Numbers(numbers))
    }
}

/// One number of an ordinary sequence; integers are welcome where floats are wanted.
pub(crate) struct Number<T>(pub(crate) T);

impl<'de, T: Element> Deserialize<'de> for Number<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(NumberVisitor(PhantomData))
            .map(Self)
    }
}

struct NumberVisitor<T>(PhantomData<T>);

impl<T: Element> NumberVisitor<T> {
    fn checked<E: de::Error>(&self, value: Option<T>, found: de::Unexpected<'_>) -> Result<T, E> {
        value.ok_or_else(|| E::invalid_value(found, self))
    }
}

impl<T: Element> Visitor<'_> for NumberVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a number that is {}", T::NAME)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
        self.checked(
            T::from_integer(value.into()),
            de::Unexpected::Unsigned(value),
        )
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
        self.checked(T::from_integer(value.into()), de::Unexpected::Signed(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<T, E> {
        self.checked(T::from_float(value), de::Unexpected::Float(value))
    }
}

/// How a list of `T` is a job's whole input or output: bytes as they are, other numbers as CBOR.
pub(crate) fn decode_message<T: Element>(bytes: Vec<u8>) -> Result<Vec<T>, CodecError> {
    match T::from_raw_message(bytes) {
        Ok(numbers) => Ok(numbers),
        Err(bytes) => codec::from_slice::<Owned<T>>(&bytes).map(|owned| owned.0),
    }
}

/// See [`decode_message`].
pub(crate) fn encode_message<T: Element>(values: Vec<T>) -> Result<Vec<u8>, CodecError> {
    match T::into_raw_message(values) {
        Ok(bytes) => Ok(bytes),
        Err(values) => codec::to_vec(&Array(&values)),
    }
}

mod sealed {
    pub trait Element: serde::Serialize + Sized {
        /// Tag of RFC 8746 for the little-endian array.
        const TAG: u64;
        /// Whether a byte string without a tag is such an array too.
        const PLAIN_BYTES: bool = false;
        /// What to call one in an error.
        const NAME: &'static str;
        fn append_to(&self, bytes: &mut Vec<u8>);
        fn from_bytes(bytes: &[u8]) -> Option<Vec<Self>>;
        fn from_integer(value: i128) -> Option<Self>;
        fn from_float(value: f64) -> Option<Self>;
        /// A message that needs no decoding; gives the bytes back where it does.
        fn from_raw_message(bytes: Vec<u8>) -> Result<Vec<Self>, Vec<u8>> {
            Err(bytes)
        }
        /// A message that needs no encoding; gives the values back where it does.
        fn into_raw_message(values: Vec<Self>) -> Result<Vec<u8>, Vec<Self>> {
            Err(values)
        }
    }

    macro_rules! element {
        ($type:ty, $tag:literal, $name:literal, $from_integer:expr, $from_float:expr $(, $raw:item)*) => {
            impl Element for $type {
                const TAG: u64 = $tag;
                const NAME: &'static str = $name;
                fn append_to(&self, bytes: &mut Vec<u8>) {
                    bytes.extend_from_slice(&self.to_le_bytes());
                }
                fn from_bytes(bytes: &[u8]) -> Option<Vec<Self>> {
                    let (chunks, rest) = bytes.as_chunks();
                    rest.is_empty()
                        .then(|| chunks.iter().map(|chunk| Self::from_le_bytes(*chunk)).collect())
                }
                fn from_integer(value: i128) -> Option<Self> {
                    $from_integer(value)
                }
                fn from_float(value: f64) -> Option<Self> {
                    $from_float(value)
                }
                $($raw)*
            }
        };
    }

    fn float64(value: i128) -> Option<f64> {
        Some(value as f64)
    }

    fn float32(value: i128) -> Option<f32> {
        Some(value as f32)
    }

    fn exact<T: TryFrom<i128>>(value: i128) -> Option<T> {
        value.try_into().ok()
    }

    fn none<T>(_: f64) -> Option<T> {
        None
    }

    // Tags: RFC 8746, section 2.1, "little endian" where there are two.
    element!(
        u8,
        64,
        "u8",
        exact,
        none,
        const PLAIN_BYTES: bool = true;,
        fn from_raw_message(bytes: Vec<u8>) -> Result<Vec<u8>, Vec<u8>> {
            Ok(bytes)
        },
        fn into_raw_message(bytes: Vec<u8>) -> Result<Vec<u8>, Vec<u8>> {
            Ok(bytes)
        }
    );
    element!(u16, 69, "u16", exact, none);
    element!(u32, 70, "u32", exact, none);
    element!(u64, 71, "u64", exact, none);
    element!(i8, 72, "i8", exact, none);
    element!(i16, 77, "i16", exact, none);
    element!(i32, 78, "i32", exact, none);
    element!(i64, 79, "i64", exact, none);
    element!(f32, 85, "f32", float32, |value| Some(value as f32));
    element!(f64, 86, "f64", float64, Some);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
    struct Field {
        #[serde(with = "crate::array")]
        x: Vec<f64>,
    }

    #[test]
    fn f64_arrays_have_the_bytes_of_the_rfc() {
        let bytes = encode_message(vec![1.0f64, -2.0]).unwrap();
        // Tag 86 in two bytes, a byte string of 16 bytes, then little-endian numbers.
        let mut expected = vec![0xd8, 86, 0x50];
        expected.extend(1f64.to_le_bytes());
        expected.extend((-2f64).to_le_bytes());
        assert_eq!(bytes, expected);
        assert_eq!(decode_message::<f64>(bytes).unwrap(), [1.0, -2.0]);
    }

    #[test]
    fn long_arrays_survive() {
        let values: Vec<f64> = (0..100_000).map(|i| f64::from(i) / 7.0).collect();
        let field = Field { x: values };
        let bytes = codec::to_vec(&field).unwrap();
        assert!(bytes.len() < 800_020, "{}", bytes.len());
        assert_eq!(codec::from_slice::<Field>(&bytes).unwrap(), field);
    }

    #[test]
    fn every_element_type_round_trips() {
        fn check<T: Element + Clone + PartialEq + fmt::Debug>(values: Vec<T>) {
            let bytes = codec::to_vec(&of(&values)).unwrap();
            let back = codec::from_slice::<Owned<T>>(&bytes).unwrap().0;
            assert_eq!(back, values);
        }
        check(vec![u8::MAX, 0]);
        check(vec![u16::MAX, 1]);
        check(vec![u32::MAX, 1]);
        check(vec![u64::MAX, 1]);
        check(vec![i8::MIN, 1]);
        check(vec![i16::MIN, 1]);
        check(vec![i32::MIN, 1]);
        check(vec![i64::MIN, 1]);
        check(vec![f32::MIN, 0.5]);
        check(vec![f64::MIN, f64::INFINITY]);
        check(Vec::<f64>::new());
    }

    #[test]
    fn ordinary_sequences_are_read() {
        let mixed = ciborium::Value::Array(vec![1.into(), 2.5.into(), (-3).into()]);
        let bytes = codec::to_vec(&mixed).unwrap();
        assert_eq!(
            decode_message::<f64>(bytes.clone()).unwrap(),
            [1.0, 2.5, -3.0]
        );
        let error = decode_message::<i32>(bytes).unwrap_err().to_string();
        assert!(error.contains("2.5") && error.contains("i32"), "{error}");
        let large = codec::to_vec(&vec![300]).unwrap();
        assert!(codec::from_slice::<Owned<u8>>(&large).is_err());
    }

    #[test]
    fn other_element_types_and_odd_lengths_are_errors() {
        let floats = codec::to_vec(&of(&[1f32, 2.0])).unwrap();
        let error = decode_message::<f64>(floats).unwrap_err().to_string();
        assert!(
            error.contains("f64 (tag 86)") && error.contains("tag 85"),
            "{error}"
        );
        let odd = decode_message::<f64>(vec![0xd8, 86, 0x43, 1, 2, 3])
            .unwrap_err()
            .to_string();
        assert!(odd.contains("3 bytes"), "{odd}");
        let untagged = decode_message::<f64>(vec![0x41, 1])
            .unwrap_err()
            .to_string();
        assert!(untagged.contains("no tag"), "{untagged}");
    }

    #[test]
    fn bytes_travel_raw() {
        assert_eq!(
            decode_message::<u8>(b"\xff\x00".to_vec()).unwrap(),
            b"\xff\x00"
        );
        assert_eq!(encode_message(b"\xff\x00".to_vec()).unwrap(), b"\xff\x00");
    }
}
