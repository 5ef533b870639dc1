//! The second-order cone relaxation, as PowerModels' `SOCWRPowerModel`.
//!
//! The voltages of the buses enter the power flow equations only through
//! their squared magnitudes w and, for each pair of connected buses i and j,
//! through c = |V_i||V_j| cos(θ_i − θ_j) and s, likewise with the sine. In
//! these the equations are linear. The relaxation (Jabr 2006) requires only
//! c² + s² ≤ w_i w_j, instead of equality and of angles that sum to zero
//! around each loop. Limits on the angle differences become linear, and
//! tighten the relaxation by the lifted nonlinear cuts of Coffrin, Hijazi and
//! Van Hentenryck, *Strengthening the SDP Relaxation of
//! AC Power Flows with Convex Envelopes, Bound Tightening, and Valid
//! Inequalities*, IEEE Trans. Power Systems 32 (2017).

use std::collections::HashMap;
use std::f64::consts::{FRAC_PI_2, SQRT_2};

use optwasm_model::Solution;
use optwasm_plugin_conic::program::Cone;

use crate::SolveError;
use crate::network::{Bounds, Flows, Network};
use crate::point::{Point, has_point};
use crate::program::{Builder, Terms, generation};

/// Two connected buses.
struct Pair {
    first: usize,
    second: usize,
    /// On θ_first − θ_second: the tightest of all branches between the two.
    angle: Bounds,
}

/// The pairs of a network, and for each branch its pair and whether the
/// branch runs from the pair's second bus to its first.
struct Pairs {
    all: Vec<Pair>,
    of_branches: Vec<(usize, bool)>,
}

/// Solves the relaxation of the optimal power flow to a relative tolerance.
///
/// # Errors
///
/// As [`Builder::costs`] and [`Builder::solve`].
pub(crate) fn solve(network: &Network, tolerance: f64) -> Result<Solution, SolveError> {
    let pairs = Pairs::of(network);
    let mut builder = Builder::default();
    let squares = builder.variables(network.buses.iter().map(|bus| Bounds {
        lower: bus.voltage.lower.max(0.0).powi(2),
        upper: bus.voltage.upper.powi(2),
    }));
    let cosines = builder.variables(pairs.all.iter().map(|_| Bounds::FREE));
    let sines = builder.variables(pairs.all.iter().map(|_| Bounds::FREE));
    let real = builder.variables(network.generators.iter().map(|g| g.real));
    let reactive = builder.variables(network.generators.iter().map(|g| g.reactive));
    builder.costs(network, real)?;

    for (index, pair) in pairs.all.iter().enumerate() {
        let (w1, w2) = (squares + pair.first, squares + pair.second);
        let (c, s) = (cosines + index, sines + index);
        // 2·w1·w2 ≥ (√2·c)² + (√2·s)²
        let rows = [(w1, 1.0), (w2, 1.0), (c, SQRT_2), (s, SQRT_2)];
        builder.cone(Cone::RotatedSecondOrder, rows.map(|term| (vec![term], 0.0)));
        pair.limit_angle(&mut builder, network, [w1, w2, c, s]);
    }

    // Powers at the ends of the branches: real and reactive at "from", then at
    // "to". As variables of their own they keep large admittances out of the
    // cones, whose rows the solver cannot scale one by one.
    let powers = builder.variables((0..4 * network.branches.len()).map(|_| Bounds::FREE));
    let mut real_balances = generation(network, real);
    let mut reactive_balances = generation(network, reactive);
    let branches = network.branches.iter().zip(&pairs.of_branches);
    for (index, (branch, &(pair, reversed))) in branches.enumerate() {
        let Flows {
            real_from,
            reactive_from,
            real_to,
            reactive_to,
        } = branch.flows();
        let first = powers + 4 * index;
        for (bus, flow, power) in [
            (branch.from, real_from, first),
            (branch.from, reactive_from, first + 1),
            (branch.to, real_to, first + 2),
            (branch.to, reactive_to, first + 3),
        ] {
            let sine = if reversed { -flow.sine } else { flow.sine };
            let terms = [
                (squares + bus, flow.own),
                (cosines + pair, flow.cosine),
                (sines + pair, sine),
                (power, -1.0),
            ];
            builder.between(&terms, 0.0, 0.0);
        }
        for (bus, power) in [(branch.from, first), (branch.to, first + 2)] {
            real_balances[bus].push((power, -1.0));
            reactive_balances[bus].push((power + 1, -1.0));
            if branch.rating < f64::INFINITY {
                let rows = [
                    (Terms::new(), branch.rating),
                    (vec![(power, 1.0)], 0.0),
                    (vec![(power + 1, 1.0)], 0.0),
                ];
                builder.cone(Cone::SecondOrder, rows);
            }
        }
    }
    for (index, (bus, mut terms)) in network.buses.iter().zip(real_balances).enumerate() {
        terms.push((squares + index, -bus.conductance));
        builder.balance(terms, bus.real_load);
    }
    for (index, (bus, mut terms)) in network.buses.iter().zip(reactive_balances).enumerate() {
        terms.push((squares + index, bus.susceptance));
        builder.balance(terms, bus.reactive_load);
    }

    let mut solution = builder.solve(tolerance)?;
    if has_point(solution.status) {
        let x = std::mem::take(&mut solution.values);
        let mut prices = std::mem::take(&mut solution.duals);
        let mut point = Point {
            magnitudes: x[squares..cosines]
                .iter()
                .map(|w| w.max(0.0).sqrt())
                .collect(),
            real: x[real..reactive].to_vec(),
            reactive: x[reactive..reactive + network.generators.len()].to_vec(),
            reactive_prices: prices.split_off(network.buses.len()),
            real_prices: prices,
            ..Point::default()
        };
        point.set_flows(&x[powers..]);
        point.into_solution(network, &mut solution);
    }
    Ok(solution)
}

impl Pairs {
    fn of(network: &Network) -> Self {
        let mut all: Vec<Pair> = Vec::new();
        let mut of_branches = Vec::new();
        let mut known: HashMap<(usize, usize), usize> = HashMap::new();
        for branch in &network.branches {
            let reversed = branch.from > branch.to;
            let Bounds { lower, upper } = branch.angle;
            let (first, second, lower, upper) = if reversed {
                (branch.to, branch.from, -upper, -lower)
            } else {
                (branch.from, branch.to, lower, upper)
            };
            let index = *known.entry((first, second)).or_insert_with(|| {
                all.push(Pair {
                    first,
                    second,
                    angle: Bounds { lower, upper },
                });
                all.len() - 1
            });
            let angle = &mut all[index].angle;
            angle.lower = angle.lower.max(lower);
            angle.upper = angle.upper.min(upper);
            of_branches.push((index, reversed));
        }
        Pairs { all, of_branches }
    }
}

impl Pair {
    /// The angle's bounds if they keep its cosine positive, so that the
    /// tangent of the angle is s / c.
    fn acute(&self) -> Option<Bounds> {
        let acute = |angle: f64| angle.abs() < FRAC_PI_2;
        (acute(self.angle.lower) && acute(self.angle.upper)).then_some(self.angle)
    }

    /// The voltage bounds of both buses.
    fn voltages(&self, network: &Network) -> [Bounds; 2] {
        [self.first, self.second].map(|bus| {
            let Bounds { lower, upper } = network.buses[bus].voltage;
            Bounds {
                lower: lower.max(0.0),
                upper,
            }
        })
    }

    /// Adds the limits of the angle difference, and the lifted nonlinear cuts
    /// (Coffrin et al. 2017, equations 19 and 20).
    fn limit_angle(&self, builder: &mut Builder, network: &Network, variables: [usize; 4]) {
        let Some(Bounds { lower, upper }) = self.acute() else {
            return;
        };
        let [w1, w2, c, s] = variables;
        builder.between(&[(c, upper.tan()), (s, -1.0)], 0.0, f64::INFINITY);
        builder.between(&[(c, -lower.tan()), (s, 1.0)], 0.0, f64::INFINITY);

        let [v1, v2] = self.voltages(network);
        if !(v1.upper * v2.upper).is_finite() {
            return;
        }
        let (middle, half) = ((upper + lower) / 2.0, (upper - lower) / 2.0);
        let (sum1, sum2) = (v1.lower + v1.upper, v2.lower + v2.upper);
        let difference = v1.lower * v2.lower - v1.upper * v2.upper;
        for (a, b, sign) in [(v1.upper, v2.upper, 1.0), (v1.lower, v2.lower, -1.0)] {
            let cut = [
                (c, sum1 * sum2 * middle.cos()),
                (s, sum1 * sum2 * middle.sin()),
                (w1, -b * half.cos() * sum2),
                (w2, -a * half.cos() * sum1),
            ];
            let right = sign * a * b * half.cos() * difference;
            builder.between(&cut, right, f64::INFINITY);
        }
    }
}
