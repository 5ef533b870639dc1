//! Burns as many million iterations as its input says: never ends for a large number.

/// Returns the state of the mixing function.
#[optwasm_guest::job]
fn compute(millions: u64) -> u64 {
    optwasm_test_guests::burn(millions, 1)
}
