//! The DC approximation, as PowerModels' `DCPPowerModel`.
//!
//! All voltages are 1, reactive power does not exist, and a branch carries
//! −b·(θ_from − θ_to) without loss, b being its series susceptance
//! −x/(r² + x²). Transformers' ratios and phase shifts do not matter.

use optwasm_model::Solution;

use crate::SolveError;
use crate::network::{Bounds, Branch, Network};
use crate::point::{Point, has_point};
use crate::program::{Builder, Terms, generation};

/// Solves the optimal power flow to a relative tolerance.
///
/// # Errors
///
/// As [`Builder::costs`] and [`Builder::solve`].
pub(crate) fn solve(network: &Network, tolerance: f64) -> Result<Solution, SolveError> {
    let mut builder = Builder::default();
    let angles = builder.variables(network.buses.iter().map(|bus| match bus.angle {
        Some(angle) => Bounds::fixed(angle),
        None => Bounds::FREE,
    }));
    let powers = builder.variables(network.generators.iter().map(|g| g.real));
    builder.costs(network, powers)?;

    let mut balances = generation(network, powers);
    for branch in &network.branches {
        let (from, to) = (angles + branch.from, angles + branch.to);
        let flow = |sign: f64| -> Terms {
            let b = sign * -branch.susceptance;
            vec![(from, b), (to, -b)]
        };
        balances[branch.from].extend(flow(-1.0));
        balances[branch.to].extend(flow(1.0));
        builder.between(&flow(1.0), -branch.rating, branch.rating);
        let Bounds { lower, upper } = branch.angle;
        builder.between(&[(from, 1.0), (to, -1.0)], lower, upper);
    }
    for (bus, terms) in network.buses.iter().zip(balances) {
        builder.balance(terms, bus.real_load + bus.conductance);
    }

    let mut solution = builder.solve(tolerance)?;
    if has_point(solution.status) {
        let x = std::mem::take(&mut solution.values);
        let flow = |branch: &Branch| {
            let difference = x[angles + branch.from] - x[angles + branch.to];
            -branch.susceptance * difference
        };
        let point = Point {
            angles: x[angles..powers].to_vec(),
            real: x[powers..powers + network.generators.len()].to_vec(),
            real_flows: network
                .branches
                .iter()
                .map(|branch| (flow(branch), -flow(branch)))
                .collect(),
            real_prices: std::mem::take(&mut solution.duals),
            ..Point::default()
        };
        point.into_solution(network, &mut solution);
    }
    Ok(solution)
}
