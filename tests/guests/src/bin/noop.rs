//! Does nothing: what a job costs at least.

/// Ignores its input.
#[optwasm_guest::job]
fn compute(_input: &[u8]) -> Vec<u8> {
    Vec::new()
}
