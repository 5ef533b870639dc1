//! Where a value lies in its domain, as the number that random draws and models work with.
//!
//! A float, an int and an ordinal lie in `[0, 1)`, on their logarithmic scale if they have one, each
//! whole number and each ordinal value in the middle of a cell of its own. A categorical value is
//! its index. A constant is nowhere: there is nothing to choose.

use crate::{Domain, Value};

/// The range of the coordinates of a domain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Axis {
    /// `[0, 1)`, and near coordinates mean similar values.
    Line,
    /// The indices below this number.
    Choice(usize),
    /// None.
    Nothing,
}

/// The greatest number below 1.
const BELOW_ONE: f64 = 1.0 - f64::EPSILON / 2.0;

impl Domain {
    pub(crate) fn axis(&self) -> Axis {
        match self {
            Domain::Float { .. } | Domain::Int { .. } | Domain::Ordinal { .. } => Axis::Line,
            Domain::Categorical { values } => Axis::Choice(values.len()),
            Domain::Constant { .. } => Axis::Nothing,
        }
    }

    /// The value at a coordinate on this domain's axis.
    pub(crate) fn at(&self, coordinate: f64) -> Value {
        match self {
            Domain::Float { low, high, log } => {
                let value = if *log {
                    (low.ln() + coordinate * (high.ln() - low.ln())).exp()
                } else {
                    low + coordinate * (high - low)
                };
                Value::Float(value.clamp(*low, *high))
            }
            Domain::Int { low, high, log } => {
                let value = if *log {
                    let (from, to) = log_cells(*low, *high);
                    (from + coordinate * (to - from)).exp().round() as i64
                } else {
                    // The sum cannot overflow for long: it is clamped to the domain right after.
                    low.saturating_add_unsigned((coordinate * count(*low, *high)) as u64)
                };
                Value::Int(value.clamp(*low, *high))
            }
            Domain::Ordinal { values } => pick(values, coordinate * values.len() as f64),
            Domain::Categorical { values } => pick(values, coordinate),
            Domain::Constant { value } => value.clone(),
        }
    }

    /// The coordinate of a value of this domain.
    pub(crate) fn coordinate(&self, value: &Value) -> f64 {
        let line = |position: f64| position.clamp(0.0, BELOW_ONE);
        match (self, value) {
            (Domain::Float { low, high, log }, Value::Float(value)) => line(if *log {
                (value.ln() - low.ln()) / (high.ln() - low.ln())
            } else {
                (value - low) / (high - low)
            }),
            (Domain::Int { low, high, log }, Value::Int(value)) => line(if *log {
                let (from, to) = log_cells(*low, *high);
                ((*value as f64).ln() - from) / (to - from)
            } else {
                (value.abs_diff(*low) as f64 + 0.5) / count(*low, *high)
            }),
            (Domain::Ordinal { values }, value) => {
                line((index(values, value) as f64 + 0.5) / values.len() as f64)
            }
            (Domain::Categorical { values }, value) => index(values, value) as f64,
            // Constants, and values of another kind, which `Space::accept` lets nowhere near.
            _ => 0.0,
        }
    }
}

/// How many whole numbers there are from `low` to `high`.
fn count(low: i64, high: i64) -> f64 {
    high.abs_diff(low) as f64 + 1.0
}

/// The logarithms between which every whole number from `low` (above 0) to `high` has its cell.
fn log_cells(low: i64, high: i64) -> (f64, f64) {
    ((low as f64 - 0.5).ln(), (high as f64 + 0.5).ln())
}

fn pick(values: &[Value], position: f64) -> Value {
    let index = (position as usize).min(values.len().saturating_sub(1));
    values.get(index).cloned().unwrap_or(Value::Bool(false))
}

fn index(values: &[Value], value: &Value) -> usize {
    let position = values.iter().position(|one| one == value);
    position.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn domains() -> impl Strategy<Value = Domain> {
        let values = |count| (0..count).map(Value::Int).collect();
        prop_oneof![
            (-1e9..1e9, 1e-3..1e9).prop_map(|(low, width)| Domain::Float {
                low,
                high: low + width,
                log: false
            }),
            (1e-9..1.0, 1.5..1e9).prop_map(|(low, factor)| Domain::Float {
                low,
                high: low * factor,
                log: true
            }),
            (any::<i32>(), 1..1_000_000_i64).prop_map(|(low, width)| Domain::Int {
                low: low.into(),
                high: i64::from(low) + width,
                log: false
            }),
            (1..1000_i64, 1..1_000_000_i64).prop_map(|(low, width)| Domain::Int {
                low,
                high: low + width,
                log: true
            }),
            (1..50_i64).prop_map(move |count| Domain::Ordinal {
                values: values(count)
            }),
            (1..50_i64).prop_map(move |count| Domain::Categorical {
                values: values(count)
            }),
            any::<i64>().prop_map(|value| Domain::Constant {
                value: value.into()
            }),
        ]
    }

    proptest! {
        #[test]
        fn a_value_is_found_again_at_its_coordinate(domain in domains(), unit in 0.0..1.0_f64) {
            let place = match domain.axis() {
                Axis::Line => unit,
                Axis::Choice(count) => (unit * count as f64).floor(),
                Axis::Nothing => 0.0,
            };
            let value = domain.at(place);
            prop_assert_eq!(domain.accept(&value), Ok(value.clone()));
            let coordinate = domain.coordinate(&value);
            match domain.axis() {
                Axis::Line => prop_assert!((0.0..1.0).contains(&coordinate)),
                Axis::Choice(_) | Axis::Nothing => prop_assert_eq!(coordinate, place),
            }
            match (&value, domain.at(coordinate)) {
                (Value::Float(one), Value::Float(other)) => {
                    prop_assert!((one - other).abs() <= 1e-6 * one.abs().max(1e-9));
                }
                (one, other) => prop_assert_eq!(one, &other),
            }
        }
    }

    #[test]
    fn the_widest_ints_neither_overflow_nor_leave_their_bounds() {
        for (low, high) in [
            (i64::MIN, i64::MAX),
            (i64::MAX - 1, i64::MAX),
            (i64::MIN, 0),
        ] {
            let domain = Domain::Int {
                low,
                high,
                log: false,
            };
            for place in [0.0, 0.5, BELOW_ONE] {
                let value = domain.at(place);
                assert_eq!(domain.accept(&value), Ok(value.clone()));
                assert!((0.0..1.0).contains(&domain.coordinate(&value)));
            }
        }
    }
}
