//! The second-order cone relaxation, as PowerModels' `SOCWRPowerModel`.
//!
//! The voltages of the buses enter the power flow equations only through
//! their squared magnitudes w and, for each pair of connected buses i and j,
//! through c = |V_i||V_j| cos(θ_i − θ_j) and s, likewise with the sine. In
//! these the equations are linear. The relaxation (Jabr 2006) requires only
//! c² + s² ≤ w_i w_j, instead of equality and of angles that sum to zero
//! around each loop. Limits on the angle differences become linear, and
//! tighten the relaxation by bounds on c and s and by the lifted nonlinear cuts
//! of Coffrin, Hijazi and Van Hentenryck, *Strengthening the SDP Relaxation of
//! AC Power Flows with Convex Envelopes, Bound Tightening, and Valid
//! Inequalities*, IEEE Trans. Power Systems 32 (2017).

use std::collections::HashMap;
use std::f64::consts::{FRAC_PI_2, SQRT_2};

use optwasm_model::Solution;
use optwasm_plugin_conic::program::Cone;

use crate::SolveError;
use crate::network::{Bounds, Branch, Flow, Flows, Network};
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

/// Solves the relaxation of the optimal power flow.
///
/// # Errors
///
/// As [`Builder::costs`] and [`Builder::solve`].
pub(crate) fn solve(network: &Network) -> Result<Solution, SolveError> {
    let pairs = Pairs::of(network);
    let mut builder = Builder::default();
    let squares = builder.variables(network.buses.iter().map(|bus| Bounds {
        lower: bus.voltage.lower.max(0.0).powi(2),
        upper: bus.voltage.upper.powi(2),
    }));
    let cosines = builder.variables(pairs.all.iter().map(|pair| pair.cosine_bounds(network)));
    let sines = builder.variables(pairs.all.iter().map(|pair| pair.sine_bounds(network)));
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

    let mut real_balances = generation(network, real);
    let mut reactive_balances = generation(network, reactive);
    for (branch, &(pair, reversed)) in network.branches.iter().zip(&pairs.of_branches) {
        let flows = branch.flows();
        let terms = |bus: usize, flow: Flow, sign: f64| -> Terms {
            let sine = if reversed { -flow.sine } else { flow.sine };
            vec![
                (squares + bus, sign * flow.own),
                (cosines + pair, sign * flow.cosine),
                (sines + pair, sign * sine),
            ]
        };
        for (bus, p, q) in [
            (branch.from, flows.real_from, flows.reactive_from),
            (branch.to, flows.real_to, flows.reactive_to),
        ] {
            real_balances[bus].extend(terms(bus, p, -1.0));
            reactive_balances[bus].extend(terms(bus, q, -1.0));
            if branch.rating < f64::INFINITY {
                let limit = (Terms::new(), branch.rating);
                let powers = [p, q].map(|flow| (terms(bus, flow, 1.0), 0.0));
                builder.cone(Cone::SecondOrder, std::iter::once(limit).chain(powers));
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

    let mut solution = builder.solve()?;
    if has_point(solution.status) {
        let x = std::mem::take(&mut solution.values);
        let branch_flows = |(branch, &(pair, reversed)): (&Branch, &(usize, bool))| {
            let sine = x[sines + pair];
            let (c, s) = (x[cosines + pair], if reversed { -sine } else { sine });
            let (from, to) = (x[squares + branch.from], x[squares + branch.to]);
            let flows = branch.flows();
            Flows {
                real_from: flows.real_from.at(from, c, s),
                reactive_from: flows.reactive_from.at(from, c, s),
                real_to: flows.real_to.at(to, c, s),
                reactive_to: flows.reactive_to.at(to, c, s),
            }
        };
        let mut prices = std::mem::take(&mut solution.duals);
        let mut point = Point {
            magnitudes: x[squares..cosines].iter().map(|w| w.sqrt()).collect(),
            real: x[real..reactive].to_vec(),
            reactive: x[reactive..reactive + network.generators.len()].to_vec(),
            reactive_prices: prices.split_off(network.buses.len()),
            real_prices: prices,
            ..Point::default()
        };
        let branches = network.branches.iter().zip(&pairs.of_branches);
        point.set_flows(branches.map(branch_flows));
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

    /// The bounds on |V_i||V_j|.
    fn product(&self, network: &Network) -> Bounds {
        let [v1, v2] = self.voltages(network);
        Bounds {
            lower: v1.lower * v2.lower,
            upper: v1.upper * v2.upper,
        }
    }

    fn cosine_bounds(&self, network: &Network) -> Bounds {
        let product = self.product(network);
        let Some(angle) = self.acute() else {
            return Bounds {
                lower: -product.upper,
                upper: product.upper,
            };
        };
        // The cosine is largest at the angle nearest to 0.
        let nearest = 0_f64.max(angle.lower).min(angle.upper);
        Bounds {
            lower: product.lower * angle.lower.cos().min(angle.upper.cos()),
            upper: product.upper * nearest.cos(),
        }
    }

    fn sine_bounds(&self, network: &Network) -> Bounds {
        let product = self.product(network);
        let Some(angle) = self.acute() else {
            return Bounds {
                lower: -product.upper,
                upper: product.upper,
            };
        };
        let (lower, upper) = (angle.lower.sin(), angle.upper.sin());
        let factor = |outward: bool| {
            if outward {
                product.upper
            } else {
                product.lower
            }
        };
        Bounds {
            lower: lower * factor(lower < 0.0),
            upper: upper * factor(upper > 0.0),
        }
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
