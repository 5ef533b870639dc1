//! The network whose power flow is optimized.
//!
//! A [`Network`] holds what is in service, in per unit of its base power and
//! in radians. Buses are referred to by their index in [`Network::buses`].
//! Names in solutions and errors use the numbers of the case file.

/// A network. All indices are valid, and all numbers but the bounds finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// Base power, in MVA.
    pub base: f64,
    /// The buses.
    pub buses: Vec<Bus>,
    /// The generators.
    pub generators: Vec<Generator>,
    /// The branches: lines and transformers.
    pub branches: Vec<Branch>,
}

/// A bus.
#[derive(Debug, Clone, PartialEq)]
pub struct Bus {
    /// Its number in the file.
    pub number: u64,
    /// Real power demand.
    pub real_load: f64,
    /// Reactive power demand.
    pub reactive_load: f64,
    /// Conductance of the shunt: real power drawn at a voltage of 1.
    pub conductance: f64,
    /// Susceptance of the shunt: reactive power injected at a voltage of 1.
    pub susceptance: f64,
    /// Bounds on the voltage magnitude.
    pub voltage: Bounds,
    /// The voltage angle, at reference buses only.
    pub angle: Option<f64>,
}

/// A generator, or a dispatchable load, whose real power is negative.
#[derive(Debug, Clone, PartialEq)]
pub struct Generator {
    /// Its row in the file, from 1.
    pub number: usize,
    /// Where it is.
    pub bus: usize,
    /// Bounds on the real power.
    pub real: Bounds,
    /// Bounds on the reactive power.
    pub reactive: Bounds,
    /// What the real power costs.
    pub cost: Cost,
    /// Where the cost is in the file.
    pub cost_line: usize,
}

/// What real power costs in $/h, of the power in per unit.
#[derive(Debug, Clone, PartialEq)]
pub enum Cost {
    /// The sum of coefficient k times power to the k; the last one is not 0.
    Polynomial(Vec<f64>),
    /// Straight lines through these points (power, cost), at least two, in
    /// ascending order of power; the first and last go on outside of them.
    PiecewiseLinear(Vec<(f64, f64)>),
}

/// A branch: a transformer, ideal and at the "from" end, and a line.
///
/// Its sides follow MATPOWER's branch model (MATPOWER User's Manual, section
/// 3.2).
#[derive(Debug, Clone, PartialEq)]
pub struct Branch {
    /// Its row in the file, from 1.
    pub number: usize,
    /// The "from" bus.
    pub from: usize,
    /// The "to" bus.
    pub to: usize,
    /// Series conductance, r/(r² + x²).
    pub conductance: f64,
    /// Series susceptance, −x/(r² + x²).
    pub susceptance: f64,
    /// Total charging susceptance.
    pub charging: f64,
    /// Ratio of the transformer: voltage at "from" over voltage at the line.
    pub tap: f64,
    /// Phase shift of the transformer.
    pub shift: f64,
    /// Most apparent power at either end; infinite if there is no limit.
    pub rating: f64,
    /// Bounds on the difference of the voltage angles, "from" less "to".
    pub angle: Bounds,
}

/// A lower and an upper bound; infinite where there is none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
}

/// A power at one end of a branch as a function of voltages:
/// `own · |V|² + cosine · c + sine · s`, where V is the voltage at that end,
/// c = |V_from| |V_to| cos(θ_from − θ_to), and s likewise with the sine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Flow {
    /// Coefficient of the squared voltage.
    pub own: f64,
    /// Coefficient of c.
    pub cosine: f64,
    /// Coefficient of s.
    pub sine: f64,
}

/// The powers that enter a branch at its ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Flows<T> {
    /// Real power at "from".
    pub real_from: T,
    /// Reactive power at "from".
    pub reactive_from: T,
    /// Real power at "to".
    pub real_to: T,
    /// Reactive power at "to".
    pub reactive_to: T,
}

impl Bounds {
    /// No bounds.
    pub const FREE: Bounds = Bounds {
        lower: f64::NEG_INFINITY,
        upper: f64::INFINITY,
    };

    /// Both bounds at a value.
    pub fn fixed(value: f64) -> Self {
        Bounds {
            lower: value,
            upper: value,
        }
    }
}

impl Branch {
    /// The powers that enter the branch.
    pub fn flows(&self) -> Flows<Flow> {
        let (g, b, tap) = (self.conductance, self.susceptance, self.tap);
        let own = b + self.charging / 2.0;
        let (sin, cos) = self.shift.sin_cos();
        // Of the voltage behind the transformer, whose angle is θ_from − shift,
        // `x·cos(θ_from − shift − θ_to) + y·sin(…)`, in terms of c and s.
        let turned = |own, x: f64, y: f64| Flow {
            own,
            cosine: (x * cos - y * sin) / tap,
            sine: (x * sin + y * cos) / tap,
        };
        Flows {
            real_from: turned(g / (tap * tap), -g, -b),
            reactive_from: turned(-own / (tap * tap), b, -g),
            real_to: turned(g, -g, b),
            reactive_to: turned(-own, b, g),
        }
    }
}

impl Cost {
    /// The cost in $/h of a power in per unit.
    pub fn at(&self, power: f64) -> f64 {
        match self {
            Cost::Polynomial(coefficients) => {
                let horner = |sum, coefficient| sum * power + coefficient;
                coefficients.iter().rev().copied().fold(0.0, horner)
            }
            Cost::PiecewiseLinear(points) => {
                let lines = Self::lines(points).map(|(slope, offset)| slope * power + offset);
                lines.fold(f64::NEG_INFINITY, f64::max)
            }
        }
    }

    /// The lines (slope, value at 0) through pairs of points. The largest of
    /// them is the cost, if it [is convex](Cost::is_convex).
    pub fn lines(points: &[(f64, f64)]) -> impl Iterator<Item = (f64, f64)> {
        points.windows(2).map(|pair| {
            let slope = (pair[1].1 - pair[0].1) / (pair[1].0 - pair[0].0);
            (slope, pair[0].1 - slope * pair[0].0)
        })
    }

    /// Whether a piecewise linear or quadratic cost is convex.
    pub fn is_convex(&self) -> bool {
        // Files give points with some six digits, so that pieces of one line
        // differ in slope.
        const TOLERANCE: f64 = 1e-6;
        match self {
            Cost::Polynomial(coefficients) => coefficients.get(2).is_none_or(|&c| c >= 0.0),
            Cost::PiecewiseLinear(points) => {
                let slopes: Vec<f64> = Self::lines(points).map(|(slope, _)| slope).collect();
                slopes
                    .windows(2)
                    .all(|pair| pair[1] >= pair[0] - TOLERANCE * pair[0].abs().max(1.0))
            }
        }
    }
}

impl Network {
    /// Multiplies all loads. Dispatchable loads, which are generators, stay.
    pub fn scale_loads(&mut self, factor: f64) {
        for bus in &mut self.buses {
            bus.real_load *= factor;
            bus.reactive_load *= factor;
        }
    }

    /// Says which bounds contradict each other, if any do.
    pub fn contradiction(&self) -> Option<String> {
        let voltages = self
            .buses
            .iter()
            .map(|bus| (format!("voltage of bus {}", bus.number), bus.voltage));
        let powers = self.generators.iter().flat_map(|generator| {
            let of = |power| format!("{power} power of generator {}", generator.number);
            [
                (of("real"), generator.real),
                (of("reactive"), generator.reactive),
            ]
        });
        let angles = self
            .branches
            .iter()
            .map(|branch| (format!("angle of branch {}", branch.number), branch.angle));
        voltages
            .chain(powers)
            .chain(angles)
            .find(|(_, bounds)| bounds.lower > bounds.upper)
            .map(|(what, _)| format!("{what}: the lower bound is above the upper bound"))
    }
}
