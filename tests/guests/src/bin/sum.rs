//! Adds numbers.

use optwasm_test_guests::Sum;

/// The sum of the numbers and their count.
#[optwasm_guest::job]
fn compute(numbers: &[f64]) -> Sum {
    Sum {
        sum: numbers.iter().sum(),
        count: numbers.len() as u64,
    }
}
