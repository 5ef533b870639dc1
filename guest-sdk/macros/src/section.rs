//! The content of the custom section `optwasm:abi`: the CBOR map
//! `{"abi": 1, "sdk": text, "input": text, "output": text}`.

/// Version of the guest ABI.
const ABI: u8 = 1;

/// The section's bytes for a job of these types.
pub(crate) fn bytes(input: &str, output: &str) -> Vec<u8> {
    // RFC 8949: major type 5 is a map, here of four pairs; small integers stand for themselves.
    let mut bytes = vec![0xa4];
    text(&mut bytes, "abi");
    bytes.push(ABI);
    // The SDK and these macros are one product and share a version.
    let sdk = concat!("optwasm-guest ", env!("CARGO_PKG_VERSION"));
    for (key, value) in [("sdk", sdk), ("input", input), ("output", output)] {
        text(&mut bytes, key);
        text(&mut bytes, value);
    }
    bytes
}

/// Appends a text string: major type 3, its length in the shortest form, its UTF-8.
fn text(bytes: &mut Vec<u8>, value: &str) {
    match value.len() {
        short @ 0..=23 => bytes.push(0x60 | short as u8),
        short @ 24..=255 => bytes.extend([0x78, short as u8]),
        long => {
            bytes.push(0x7a);
            // A type of 4 GiB would not have compiled.
            bytes.extend((long as u32).to_be_bytes());
        }
    }
    bytes.extend(value.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_every_length_class() {
        for (length, head) in [
            (3, vec![0x63]),
            (24, vec![0x78, 24]),
            (300, vec![0x7a, 0, 0, 1, 44]),
        ] {
            let mut bytes = Vec::new();
            text(&mut bytes, &"x".repeat(length));
            assert_eq!(bytes[..head.len()], head);
            assert_eq!(bytes.len(), head.len() + length);
        }
    }

    #[test]
    fn the_map_starts_with_the_abi() {
        assert_eq!(bytes("u8", "u8")[..6], [0xa4, 0x63, b'a', b'b', b'i', 1]);
    }
}
