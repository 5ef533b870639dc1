//! Returns its input.

/// The identity on bytes.
#[optwasm_guest::job]
fn compute(input: Vec<u8>) -> Vec<u8> {
    input
}
