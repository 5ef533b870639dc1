//! The proximal terms ½ρ(x − x̄)² of a subproblem.
//!
//! - Of a binary variable they are linear, exactly, because x² = x.
//! - *Quadratic*: the subproblem becomes a quadratic program, which needs a model without integer
//!   variables.
//! - *Linearized*: a new column y takes the place of (x − x̄)², and rows y ≥ slope·x + intercept,
//!   one for each piece, are the chords of the parabola between breakpoints. So the term is exact at
//!   breakpoints and too large between them; x̄ itself is one. That is what PySP does.

use optwasm_model::Patch;
use optwasm_model::patch::{NewColumn, NewRow};

use crate::PhError;
use crate::problem::Variable;

/// The form of the proximal terms.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Proximal {
    /// Quadratic where no model has integer variables, otherwise linearized by
    /// [`Proximal::DEFAULT_PIECES`] pieces and [`Breakpoints::Uniform`].
    #[default]
    Auto,
    /// Quadratic.
    Quadratic,
    /// Piecewise linear.
    Linearized {
        /// How many pieces; [`Breakpoints`] says where. At least 1.
        pieces: u32,
        /// Where they meet.
        breakpoints: Breakpoints,
    },
    /// None: weights alone are to make the scenarios agree.
    None,
}

impl Proximal {
    /// Pieces on each side where nothing is said; what PySP's own tests use.
    pub const DEFAULT_PIECES: u32 = 10;
}

/// Where the pieces of a linearized term meet, besides in the bounds and in x̄. The first three are
/// those of PySP, with its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Breakpoints {
    /// 0: pieces of equal length from each bound to x̄, `pieces` of them on each side.
    #[default]
    Uniform,
    /// 1: `pieces` of equal length between the least and the greatest value of the scenarios.
    Observed,
    /// 2: `pieces` of equal length around x̄: on each side as far as three times the distance to the
    /// extreme value of the scenarios, or half-way to the bound, whichever is nearer.
    Near,
}

/// What is known of a variable when its term is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    pub rho: f64,
    pub average: f64,
    /// Least and greatest value of the scenarios.
    pub least: f64,
    pub greatest: f64,
}

/// Distance below which breakpoints are one; PySP's.
const SAME: f64 = 1e-5;

/// Adds the term of one variable to a patch. `factor` multiplies it: the variable's share in the
/// objective, negative where that is maximized.
pub(crate) fn add(
    patch: &mut Patch,
    proximal: Proximal,
    column: usize,
    variable: &Variable,
    (lower, upper): (f64, f64),
    point: Point,
    factor: f64,
) -> Result<(), PhError> {
    let Point { rho, average, .. } = point;
    let index = column as u32;
    let rho = factor * rho;
    if proximal != Proximal::None && variable.is_binary() {
        patch.add_costs.push((index, rho * (0.5 - average)));
        patch.add_constant += 0.5 * rho * average * average;
        return Ok(());
    }
    match proximal {
        Proximal::None => {}
        Proximal::Auto | Proximal::Quadratic => {
            patch.add_costs.push((index, -rho * average));
            patch.add_quadratic.push((index, rho));
            patch.add_constant += 0.5 * rho * average * average;
        }
        Proximal::Linearized {
            pieces,
            breakpoints,
        } => {
            if !lower.is_finite() || !upper.is_finite() {
                return Err(PhError::Bounds(variable.name.clone()));
            }
            let y = patch.columns as u32 + patch.new_columns.len() as u32;
            patch.new_columns.push(NewColumn {
                name: format!("ph.square.{column}"),
                cost: 0.5 * rho,
                lower: 0.0,
                upper: f64::INFINITY,
                integer: false,
            });
            let points = breakpoints.points(pieces, lower, upper, point);
            for (piece, ends) in points.windows(2).enumerate() {
                let (left, right) = (ends[0] - average, ends[1] - average);
                // The chord of the parabola through both ends.
                let slope = left + right;
                let intercept = -left * right - slope * average;
                patch.new_rows.push(NewRow {
                    name: format!("ph.chord.{column}.{piece}"),
                    lower: intercept,
                    upper: f64::INFINITY,
                    terms: vec![(y, 1.0), (index, -slope)],
                });
            }
        }
    }
    Ok(())
}

impl Breakpoints {
    /// The breakpoints in ascending order, with both bounds.
    fn points(self, pieces: u32, lower: f64, upper: f64, point: Point) -> Vec<f64> {
        let average = point.average.clamp(lower, upper);
        let mut points = vec![lower, average, upper];
        let mut divide = |from: f64, to: f64| {
            let step = (to - from) / f64::from(pieces);
            points.extend((0..=pieces).map(|i| from + f64::from(i) * step));
        };
        match self {
            Breakpoints::Uniform => {
                divide(lower, average);
                divide(average, upper);
            }
            Breakpoints::Observed => divide(point.least, point.greatest),
            Breakpoints::Near => {
                let left = (average - 3.0 * (average - point.least)).max((average + lower) / 2.0);
                let right =
                    (average + 3.0 * (point.greatest - average)).min((average + upper) / 2.0);
                divide(left, right);
            }
        }
        for point in &mut points {
            *point = point.clamp(lower, upper);
        }
        points.sort_by(f64::total_cmp);
        // Of points so near the first does for all; the term changes by less than the square.
        points.dedup_by(|next, kept| *next - *kept <= SAME);
        points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINT: Point = Point {
        rho: 2.0,
        average: 4.0,
        least: 3.0,
        greatest: 6.0,
    };

    #[test]
    fn breakpoints_are_where_the_strategy_says() {
        let points = |strategy: Breakpoints, pieces| strategy.points(pieces, 0.0, 10.0, POINT);
        assert_eq!(points(Breakpoints::Uniform, 2), [0.0, 2.0, 4.0, 7.0, 10.0]);
        assert_eq!(
            points(Breakpoints::Observed, 2),
            [0.0, 3.0, 4.0, 4.5, 6.0, 10.0]
        );
        // Left: 4 − 3 = 1, nearer is half-way, 2. Right: 4 + 6 = 10, nearer is half-way, 7.
        assert_eq!(points(Breakpoints::Near, 1), [0.0, 2.0, 4.0, 7.0, 10.0]);
        let at_bound = Point {
            average: 0.0,
            least: 0.0,
            greatest: 0.0,
            ..POINT
        };
        assert_eq!(
            Breakpoints::Uniform.points(2, 0.0, 10.0, at_bound),
            [0.0, 5.0, 10.0]
        );
        assert_eq!(
            Breakpoints::Observed.points(2, 0.0, 10.0, at_bound),
            [0.0, 10.0]
        );
    }

    #[test]
    fn chords_are_exact_at_breakpoints_and_above_between() {
        let variable = Variable {
            node: 0,
            name: "x".into(),
            integer: false,
            lower: 0.0,
            upper: 10.0,
        };
        let mut patch = Patch {
            columns: 1,
            ..Patch::default()
        };
        let form = Proximal::Linearized {
            pieces: 3,
            breakpoints: Breakpoints::Uniform,
        };
        add(&mut patch, form, 0, &variable, (0.0, 10.0), POINT, 1.0).unwrap();
        assert_eq!(patch.new_columns[0].cost, 1.0);
        let chords = |x: f64| {
            let rows = patch.new_rows.iter();
            rows.map(|row| row.lower - row.terms[1].1 * x)
                .fold(0.0, f64::max)
        };
        for x in [0.0, 4.0 / 3.0, 4.0, 6.0, 10.0] {
            assert!((chords(x) - (x - 4.0) * (x - 4.0)).abs() < 1e-9, "{x}");
        }
        assert!(chords(5.0) > 1.0 + 1e-6);
        let unbounded = (0.0, f64::INFINITY);
        let error = add(&mut patch, form, 0, &variable, unbounded, POINT, 1.0);
        assert_eq!(error, Err(PhError::Bounds("x".into())));
    }

    #[test]
    fn the_term_of_a_binary_is_exact_and_linear() {
        let variable = Variable {
            node: 0,
            name: "b".into(),
            integer: true,
            lower: 0.0,
            upper: 1.0,
        };
        let mut patch = Patch {
            columns: 1,
            ..Patch::default()
        };
        let point = Point {
            average: 0.25,
            ..POINT
        };
        add(
            &mut patch,
            Proximal::Quadratic,
            0,
            &variable,
            (0.0, 1.0),
            point,
            1.0,
        )
        .unwrap();
        assert!(patch.add_quadratic.is_empty());
        for x in [0.0, 1.0] {
            let value = patch.add_constant + patch.add_costs[0].1 * x;
            assert!((value - (x - 0.25) * (x - 0.25)).abs() < 1e-12);
        }
    }
}
