//! Conic programs of networks: what the formulations DC and SOC share.

use optwasm_model::{ReadError, Solution};
use optwasm_plugin_conic::program::{Affine, Cone, Program, Role};
use optwasm_plugin_conic::{Settings, solve_program};

use crate::SolveError;
use crate::network::{Bounds, Cost, Network};

/// A linear form: (variable, coefficient).
pub(crate) type Terms = Vec<(usize, f64)>;

/// A program under construction. Variables are numbered as they are added.
#[derive(Default)]
pub(crate) struct Builder {
    program: Program,
    equations: Vec<Affine>,
    inequalities: Vec<Affine>,
}

/// Of rows whose multipliers nobody asks for.
const UNNAMED: Role = Role::Variable(0, 0.0);

impl Builder {
    /// Adds variables with these bounds, and returns the first one's index.
    pub fn variables(&mut self, bounds: impl Iterator<Item = Bounds>) -> usize {
        let first = self.program.cost.len();
        for Bounds { lower, upper } in bounds {
            let variable = self.program.cost.len();
            self.program.cost.push(0.0);
            self.program.variables.push(String::new());
            self.between(&[(variable, 1.0)], lower, upper);
        }
        first
    }

    /// Adds `lower ≤ terms ≤ upper`; either side may be infinite.
    pub fn between(&mut self, terms: &[(usize, f64)], lower: f64, upper: f64) {
        let row = |sign: f64, constant: f64| Affine {
            terms: terms.iter().map(|&(j, a)| (j, sign * a)).collect(),
            constant,
            role: UNNAMED,
        };
        if lower == upper {
            self.equations.push(row(1.0, -lower));
            return;
        }
        if lower > f64::NEG_INFINITY {
            self.inequalities.push(row(1.0, -lower));
        }
        if upper < f64::INFINITY {
            self.inequalities.push(row(-1.0, upper));
        }
    }

    /// Adds the equation `terms = right`, whose dual counts.
    pub fn balance(&mut self, terms: Terms, right: f64) {
        let constraint = self.program.constraints.len();
        self.program.constraints.push(String::new());
        self.equations.push(Affine {
            terms,
            constant: -right,
            role: Role::Constraint(constraint, 1.0),
        });
    }

    /// Adds that the rows (terms, constant) lie in a cone.
    pub fn cone(&mut self, cone: Cone, rows: impl IntoIterator<Item = (Terms, f64)>) {
        let row = |(terms, constant)| Affine {
            terms,
            constant,
            role: UNNAMED,
        };
        let rows = rows.into_iter().map(row).collect();
        self.program.blocks.push((cone, rows));
    }

    /// Adds the generators' costs to the objective; the real power of the
    /// first generator is the variable `first`. A piecewise linear cost
    /// becomes a variable above all of its lines.
    ///
    /// # Errors
    ///
    /// [`SolveError::NotConvex`], and [`ReadError::Unsupported`] of polynomial
    /// costs beyond quadratic ones.
    pub fn costs(&mut self, network: &Network, first: usize) -> Result<(), SolveError> {
        for (index, generator) in network.generators.iter().enumerate() {
            let power = first + index;
            let line = generator.cost_line;
            if let Cost::Polynomial(coefficients) = &generator.cost
                && coefficients.len() > 3
            {
                let feature = format!(
                    "costs of degree {} are, except with formulation ac,",
                    coefficients.len() - 1
                );
                return Err(ReadError::Unsupported { line, feature }.into());
            }
            if !generator.cost.is_convex() {
                return Err(SolveError::NotConvex {
                    line,
                    generator: generator.number,
                });
            }
            match &generator.cost {
                Cost::Polynomial(coefficients) => {
                    let coefficient = |k: usize| coefficients.get(k).copied().unwrap_or(0.0);
                    self.program.constant += coefficient(0);
                    self.program.cost[power] += coefficient(1);
                    if coefficient(2) != 0.0 {
                        let quadratic = (power, power, 2.0 * coefficient(2));
                        self.program.quadratic.push(quadratic);
                    }
                }
                Cost::PiecewiseLinear(points) => {
                    let cost = self.variables(std::iter::once(Bounds::FREE));
                    self.program.cost[cost] = 1.0;
                    for (slope, offset) in Cost::lines(points) {
                        self.between(&[(cost, 1.0), (power, -slope)], offset, f64::INFINITY);
                    }
                }
            }
        }
        Ok(())
    }

    /// Solves the program to a relative tolerance.
    ///
    /// # Errors
    ///
    /// [`SolveError::Conic`].
    pub fn solve(mut self, tolerance: f64) -> Result<Solution, SolveError> {
        let linear = [
            (Cone::Zero, self.equations),
            (Cone::Nonnegative, self.inequalities),
        ];
        self.program.blocks.splice(0..0, linear);
        let settings = Settings {
            tol: tolerance,
            ..Settings::default()
        };
        Ok(solve_program(&self.program, &settings)?)
    }
}

/// For each bus the terms of its generators' powers, of which the first one
/// is the variable `first`, with coefficient 1.
pub(crate) fn generation(network: &Network, first: usize) -> Vec<Terms> {
    let mut terms = vec![Terms::new(); network.buses.len()];
    for (index, generator) in network.generators.iter().enumerate() {
        terms[generator.bus].push((first + index, 1.0));
    }
    terms
}
