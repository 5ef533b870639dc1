//! The AC power flow equations in polar coordinates, as PowerModels'
//! `ACPPowerModel`.
//!
//! Variables are the voltages' magnitudes and angles, the powers of the
//! generators, and the powers at both ends of every branch. The problem is
//! not convex: the solution is a local optimum, from a flat start (all
//! voltages 1 at the angle of the reference). In practice it is mostly the
//! global one; formulation SOC tells how far from it the solution can be.

use optwasm_model::nl::{
    DefinedVariable, Expression, NlConstraint, NlModel, NlObjective, NlVariable, Operator, Terms,
};
use optwasm_model::{Options, Solution};

use crate::SolveError;
use crate::network::{Bounds, Cost, Flow, Flows, Network};
use crate::point::{Point, has_point};

/// Solves the optimal power flow to the relative tolerance `tolerance`.
///
/// # Errors
///
/// [`SolveError::NotConvex`] and [`SolveError::Nonlinear`].
pub(crate) fn solve(network: &Network, tolerance: f64) -> Result<Solution, SolveError> {
    let (model, first) = model(network)?;
    let options = Options::parse([format!("tol={tolerance}")])?;
    let mut solution = optwasm_plugin_nlp::solve_model(&model, options, |_| ())?;
    solution.variables.clear();
    solution.constraints.clear();
    let x = std::mem::take(&mut solution.values);
    let mut prices = std::mem::take(&mut solution.duals);
    solution.reduced_costs.clear();
    if has_point(solution.status) && x.len() == model.variables.len() {
        prices.truncate(2 * network.buses.len());
        let reactive_prices = prices.split_off(network.buses.len().min(prices.len()));
        let mut point = Point {
            angles: x[first.angles..first.magnitudes].to_vec(),
            magnitudes: x[first.magnitudes..first.real].to_vec(),
            real: x[first.real..first.reactive].to_vec(),
            reactive: x[first.reactive..first.flows].to_vec(),
            real_prices: prices,
            reactive_prices,
            ..Point::default()
        };
        let flows = &x[first.flows..first.flows + 4 * network.branches.len()];
        point.set_flows(flows);
        point.into_solution(network, &mut solution);
    }
    Ok(solution)
}

/// The index of the first variable of each kind, in this order.
struct First {
    angles: usize,
    magnitudes: usize,
    real: usize,
    reactive: usize,
    /// Four for each branch, in the order of [`Flows`].
    flows: usize,
}

/// The program. Its first constraints are the balances of real power, then
/// those of reactive power, of all buses.
fn model(network: &Network) -> Result<(NlModel, First), SolveError> {
    let buses = network.buses.len();
    let generators = network.generators.len();
    let first = First {
        angles: 0,
        magnitudes: buses,
        real: 2 * buses,
        reactive: 2 * buses + generators,
        flows: 2 * buses + 2 * generators,
    };
    let mut model = NlModel::default();
    let reference = network.buses.iter().find_map(|bus| bus.angle);
    for bus in &network.buses {
        let bounds = bus.angle.map_or(Bounds::FREE, Bounds::fixed);
        let start = bus.angle.or(reference).unwrap_or(0.0);
        model.variables.push(variable(bounds, start));
    }
    let voltages = network.buses.iter().map(|bus| variable(bus.voltage, 1.0));
    model.variables.extend(voltages);
    let real = network.generators.iter().map(|generator| generator.real);
    let reactive = network
        .generators
        .iter()
        .map(|generator| generator.reactive);
    model.variables.extend(
        real.chain(reactive)
            .map(|bounds| variable(bounds, middle(bounds))),
    );
    for branch in &network.branches {
        let bounds = Bounds {
            lower: -branch.rating,
            upper: branch.rating,
        };
        model.variables.extend([variable(bounds, 0.0); 4]);
    }

    add_balances(&mut model, network, &first);
    add_branches(&mut model, network, &first);
    add_costs(&mut model, network, &first)?;
    Ok((model, first))
}

/// What generators bring to a bus less what branches and shunts take is the
/// load.
fn add_balances(model: &mut NlModel, network: &Network, first: &First) {
    let mut real = vec![Terms::new(); network.buses.len()];
    let mut reactive = real.clone();
    for (index, generator) in network.generators.iter().enumerate() {
        real[generator.bus].push((first.real + index, 1.0));
        reactive[generator.bus].push((first.reactive + index, 1.0));
    }
    for (index, branch) in network.branches.iter().enumerate() {
        let power = first.flows + 4 * index;
        real[branch.from].push((power, -1.0));
        reactive[branch.from].push((power + 1, -1.0));
        real[branch.to].push((power + 2, -1.0));
        reactive[branch.to].push((power + 3, -1.0));
    }
    let shunt = |index: usize, factor: f64| {
        if factor == 0.0 {
            Expression::default()
        } else {
            times(factor, square(first.magnitudes + index))
        }
    };
    for (index, (bus, terms)) in network.buses.iter().zip(real).enumerate() {
        let drawn = shunt(index, -bus.conductance);
        model
            .constraints
            .push(between(terms, drawn, Bounds::fixed(bus.real_load)));
    }
    for (index, (bus, terms)) in network.buses.iter().zip(reactive).enumerate() {
        let injected = shunt(index, bus.susceptance);
        model
            .constraints
            .push(between(terms, injected, Bounds::fixed(bus.reactive_load)));
    }
}

/// The powers at the ends of the branches, and the branches' limits.
fn add_branches(model: &mut NlModel, network: &Network, first: &First) {
    for (index, branch) in network.branches.iter().enumerate() {
        let [v_from, v_to] = [branch.from, branch.to].map(|bus| first.magnitudes + bus);
        let [a_from, a_to] = [branch.from, branch.to].map(|bus| first.angles + bus);
        let product = || {
            let factors = [v_from, v_to].map(Expression::variable);
            Expression::operation(Operator::Multiply, factors)
        };
        let difference = || {
            let angles = [a_from, a_to].map(Expression::variable);
            Expression::operation(Operator::Subtract, angles)
        };
        let turned = |function| {
            let factors = [product(), Expression::operation(function, [difference()])];
            DefinedVariable {
                linear: Terms::new(),
                expression: Expression::operation(Operator::Multiply, factors),
            }
        };
        let cosine = model.defined.len();
        model.defined.push(turned(Operator::Cos));
        model.defined.push(turned(Operator::Sin));

        let power = first.flows + 4 * index;
        let Flows {
            real_from,
            reactive_from,
            real_to,
            reactive_to,
        } = branch.flows();
        let ends = [
            (v_from, real_from),
            (v_from, reactive_from),
            (v_to, real_to),
            (v_to, reactive_to),
        ];
        for (
            offset,
            (
                voltage,
                Flow {
                    own,
                    cosine: c,
                    sine: s,
                },
            ),
        ) in ends.into_iter().enumerate()
        {
            let terms = [
                times(own, square(voltage)),
                times(c, Expression::defined(cosine)),
                times(s, Expression::defined(cosine + 1)),
            ];
            let flow = Expression::operation(Operator::Sum, terms);
            let is = vec![(power + offset, -1.0)];
            model
                .constraints
                .push(between(is, flow, Bounds::fixed(0.0)));
        }
        if branch.rating < f64::INFINITY {
            for real in [power, power + 2] {
                let squares = [square(real), square(real + 1)];
                let apparent = Expression::operation(Operator::Add, squares);
                let limit = Bounds {
                    lower: f64::NEG_INFINITY,
                    upper: branch.rating * branch.rating,
                };
                model
                    .constraints
                    .push(between(Terms::new(), apparent, limit));
            }
        }
        if branch.angle != Bounds::FREE {
            let mut terms = vec![(a_from, 1.0), (a_to, -1.0)];
            terms.sort_unstable_by_key(|&(variable, _)| variable);
            model
                .constraints
                .push(between(terms, Expression::default(), branch.angle));
        }
    }
}

/// The costs; a piecewise linear one becomes a variable above all of its
/// lines.
fn add_costs(model: &mut NlModel, network: &Network, first: &First) -> Result<(), SolveError> {
    let mut objective = NlObjective::default();
    let mut nonlinear = Vec::new();
    for (index, generator) in network.generators.iter().enumerate() {
        let power = first.real + index;
        match &generator.cost {
            Cost::Polynomial(coefficients) => {
                for (exponent, &coefficient) in coefficients.iter().enumerate() {
                    match exponent {
                        0 => nonlinear.push(Expression::number(coefficient)),
                        1 => objective.linear.push((power, coefficient)),
                        2 => nonlinear.push(times(coefficient, square(power))),
                        _ => {
                            let arguments = [
                                Expression::variable(power),
                                Expression::number(exponent as f64),
                            ];
                            let raised =
                                Expression::operation(Operator::PowerOfConstant, arguments);
                            nonlinear.push(times(coefficient, raised));
                        }
                    }
                }
            }
            Cost::PiecewiseLinear(points) => {
                if !generator.cost.is_convex() {
                    return Err(SolveError::NotConvex {
                        line: generator.cost_line,
                        generator: generator.number,
                    });
                }
                let cost = model.variables.len();
                let start = generator.cost.at(model.variables[power].start);
                model.variables.push(variable(Bounds::FREE, start));
                objective.linear.push((cost, 1.0));
                for (slope, offset) in Cost::lines(points) {
                    let above = Bounds {
                        lower: offset,
                        upper: f64::INFINITY,
                    };
                    let terms = vec![(power, -slope), (cost, 1.0)];
                    model
                        .constraints
                        .push(between(terms, Expression::default(), above));
                }
            }
        }
    }
    objective
        .linear
        .sort_unstable_by_key(|&(variable, _)| variable);
    objective.expression = Expression::operation(Operator::Sum, nonlinear);
    model.objectives.push(objective);
    Ok(())
}

fn variable(bounds: Bounds, start: f64) -> NlVariable {
    NlVariable {
        lower: bounds.lower,
        upper: bounds.upper,
        integer: false,
        start: start.max(bounds.lower).min(bounds.upper),
    }
}

/// The middle of the bounds, or 0 where one of them is infinite.
fn middle(bounds: Bounds) -> f64 {
    let middle = (bounds.lower + bounds.upper) / 2.0;
    if middle.is_finite() { middle } else { 0.0 }
}

fn between(linear: Terms, expression: Expression, bounds: Bounds) -> NlConstraint {
    NlConstraint {
        linear,
        expression,
        lower: bounds.lower,
        upper: bounds.upper,
        dual_start: 0.0,
    }
}

fn square(variable: usize) -> Expression {
    Expression::operation(Operator::Square, [Expression::variable(variable)])
}

fn times(factor: f64, expression: Expression) -> Expression {
    Expression::operation(Operator::Multiply, [Expression::number(factor), expression])
}
