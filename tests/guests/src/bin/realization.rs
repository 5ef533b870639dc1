//! One realization of an ensemble: how far a point is from where this realization would have it.

use optwasm_test_guests::Realization;

/// The squared distance.
#[optwasm_guest::job]
fn compute(input: Realization) -> Result<f64, String> {
    if input.broken {
        return Err("this realization is broken".to_owned());
    }
    let squares = input.point.iter().zip(&input.target);
    Ok(squares.map(|(x, t)| (x - t) * (x - t)).sum())
}
