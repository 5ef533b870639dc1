//! A power flow, and how a solution shows it.

use optwasm_model::{Solution, Status};

use crate::network::Network;

/// A power flow of a network, in per unit and radians. What a formulation
/// does not know is empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Point {
    /// Voltage angles of the buses.
    pub angles: Vec<f64>,
    /// Voltage magnitudes of the buses.
    pub magnitudes: Vec<f64>,
    /// Real powers of the generators.
    pub real: Vec<f64>,
    /// Reactive powers of the generators.
    pub reactive: Vec<f64>,
    /// Real powers that enter the branches at "from" and at "to".
    pub real_flows: Vec<(f64, f64)>,
    /// Reactive powers that enter the branches at "from" and at "to".
    pub reactive_flows: Vec<(f64, f64)>,
    /// What one more unit of real load costs at each bus, in $/h.
    pub real_prices: Vec<f64>,
    /// What one more unit of reactive load costs at each bus, in $/h.
    pub reactive_prices: Vec<f64>,
}

impl Point {
    /// Sets the flows of all branches, given as four numbers for each: real
    /// and reactive power at "from", then at "to".
    pub fn set_flows(&mut self, flows: &[f64]) {
        let (branches, _) = flows.as_chunks();
        (self.real_flows, self.reactive_flows) = branches
            .iter()
            .map(|&[p_from, q_from, p_to, q_to]| ((p_from, p_to), (q_from, q_to)))
            .unzip();
    }

    /// Puts the point into the solver's solution, in MW, MVAr, degrees and
    /// $/MWh, instead of the solver's own variables and constraints.
    pub fn into_solution(self, network: &Network, solution: &mut Solution) {
        let cost = network.generators.iter().zip(&self.real);
        solution.objective = Some(cost.map(|(generator, &p)| generator.cost.at(p)).sum());
        let base = network.base;
        let buses: Vec<u64> = network.buses.iter().map(|bus| bus.number).collect();
        let generators: Vec<u64> = network.generators.iter().map(|g| g.number as u64).collect();
        let branches: Vec<u64> = network.branches.iter().map(|b| b.number as u64).collect();
        let (real_from, real_to) = self.real_flows.into_iter().unzip();
        let (reactive_from, reactive_to) = self.reactive_flows.into_iter().unzip();

        let columns: [(&str, &[u64], Vec<f64>, f64); 8] = [
            ("va", &buses, self.angles, 1_f64.to_degrees()),
            ("vm", &buses, self.magnitudes, 1.0),
            ("pg", &generators, self.real, base),
            ("qg", &generators, self.reactive, base),
            ("pf", &branches, real_from, base),
            ("qf", &branches, reactive_from, base),
            ("pt", &branches, real_to, base),
            ("qt", &branches, reactive_to, base),
        ];
        (solution.variables, solution.values) = named(columns);
        let prices: [(&str, &[u64], Vec<f64>, f64); 2] = [
            ("p_balance", &buses, self.real_prices, 1.0 / base),
            ("q_balance", &buses, self.reactive_prices, 1.0 / base),
        ];
        (solution.constraints, solution.duals) = named(prices);
        solution.reduced_costs = Vec::new();
    }
}

/// The columns' names and values one after the other, each value times the
/// factor of its column.
fn named<const N: usize>(columns: [(&str, &[u64], Vec<f64>, f64); N]) -> (Vec<String>, Vec<f64>) {
    columns
        .into_iter()
        .flat_map(|(name, numbers, values, factor)| {
            let named = numbers.iter().zip(values);
            named.map(move |(number, value)| (format!("{name}[{number}]"), value * factor))
        })
        .unzip()
}

/// Whether a solution of this status has a point worth reporting.
pub(crate) fn has_point(status: Status) -> bool {
    matches!(
        status,
        Status::Optimal | Status::OptimalInaccurate | Status::Feasible | Status::IterationLimit
    )
}
