//! pounce's problem with someone watching its solution.
//!
//! pounce calls back after every iteration. [`Watched`] hands everything else
//! to pounce's own evaluator of the problem, and uses the call to report
//! progress and feasible points and to stop in time.

use optwasm_model::{Sense, Solution, Status};
use pounce_common::types::{Index, Number};
use pounce_nl::nl_reader::NlTnlp;
use pounce_nlp::constant_derivatives::DerivativeProofs;
use pounce_nlp::live_iterate::with_current_user_iterate;
use pounce_nlp::tnlp::{
    BoundsInfo, IpoptCq, IpoptData, IterStats, Linearity, MetaData, NlpInfo, ScalingRequest,
    Solution as PounceSolution, SparsityRequest, StartingPoint, TNLP,
};

use crate::Event;
use crate::solver::SOLVER;

/// A problem, and what is to happen while it is solved.
pub(crate) struct Watched {
    pub inner: NlTnlp,
    pub report: Box<dyn FnMut(Event<'_>)>,
    pub sense: Sense,
    pub names: Vec<String>,
    /// What a point may break constraints by and still be reported.
    pub tolerance: f64,
    pub iteration_limit: u64,
    /// Stop when less fuel is left.
    pub fuel_floor: u64,
    /// The best point reported: feasible, with its objective.
    pub best: Option<Solution>,
    /// Whether the fuel ran out.
    pub out_of_fuel: bool,
}

impl Watched {
    /// The current point if it is feasible and better than all before.
    fn incumbent(&mut self) -> Option<Solution> {
        let values = with_current_user_iterate(|point| point.x.clone())?;
        // The point comes with constraint values, but pounce 0.14.0 leaves the
        // right-hand sides out of those of equations.
        let mut rows = vec![0.0; self.inner.problem().m];
        if !self.inner.eval_g(&values, true, &mut rows) {
            return None;
        }
        let problem = self.inner.problem();
        let broken = violation(&rows, &problem.g_l, &problem.g_u).max(violation(
            &values,
            &problem.x_l,
            &problem.x_u,
        ));
        let finite = values.iter().chain(&rows).all(|value| value.is_finite());
        if !finite || broken > self.tolerance {
            return None;
        }
        let sign = if problem.minimize { 1.0 } else { -1.0 };
        let objective = sign * self.inner.eval_f(&values, true)?;
        let best = self.best.as_ref().and_then(|best| best.objective);
        let better = best.is_none_or(|best| match self.sense {
            Sense::Minimize => objective < best,
            Sense::Maximize => objective > best,
        });
        if !better || !objective.is_finite() {
            return None;
        }
        let mut found = Solution::without_values(Status::Feasible, SOLVER);
        found.objective = Some(objective);
        found.variables = self.names.clone();
        found.values = values;
        self.best = Some(found.clone());
        Some(found)
    }
}

/// The most that a value is beyond its bounds.
fn violation(values: &[f64], lower: &[f64], upper: &[f64]) -> f64 {
    let sides = values.iter().zip(lower.iter().zip(upper));
    let each = sides.map(|(value, (lower, upper))| (lower - value).max(value - upper));
    each.fold(0.0, f64::max)
}

impl TNLP for Watched {
    fn wants_intermediate_callback(&self) -> bool {
        true
    }

    fn wants_current_iterate(&self) -> bool {
        true
    }

    fn intermediate_callback(&mut self, stats: IterStats, _: &IpoptData, _: &IpoptCq) -> bool {
        let number = u64::try_from(stats.iter).unwrap_or(0);
        (self.report)(Event::Iteration {
            number,
            limit: self.iteration_limit,
        });
        if let Some(found) = self.incumbent() {
            (self.report)(Event::Incumbent(&found));
        }
        if optwasm_guest::fuel_left() < self.fuel_floor {
            self.out_of_fuel = true;
        }
        !self.out_of_fuel
    }

    fn get_nlp_info(&mut self) -> Option<NlpInfo> {
        self.inner.get_nlp_info()
    }

    fn get_bounds_info(&mut self, bounds: BoundsInfo<'_>) -> bool {
        self.inner.get_bounds_info(bounds)
    }

    fn get_starting_point(&mut self, point: StartingPoint<'_>) -> bool {
        self.inner.get_starting_point(point)
    }

    fn get_scaling_parameters(&mut self, request: ScalingRequest<'_>) -> bool {
        self.inner.get_scaling_parameters(request)
    }

    fn eval_f(&mut self, x: &[Number], new_x: bool) -> Option<Number> {
        self.inner.eval_f(x, new_x)
    }

    fn eval_grad_f(&mut self, x: &[Number], new_x: bool, gradient: &mut [Number]) -> bool {
        self.inner.eval_grad_f(x, new_x, gradient)
    }

    fn eval_g(&mut self, x: &[Number], new_x: bool, g: &mut [Number]) -> bool {
        self.inner.eval_g(x, new_x, g)
    }

    fn eval_jac_g(
        &mut self,
        x: Option<&[Number]>,
        new_x: bool,
        request: SparsityRequest<'_>,
    ) -> bool {
        self.inner.eval_jac_g(x, new_x, request)
    }

    fn eval_h(
        &mut self,
        x: Option<&[Number]>,
        new_x: bool,
        objective_factor: Number,
        lambda: Option<&[Number]>,
        new_lambda: bool,
        request: SparsityRequest<'_>,
    ) -> bool {
        self.inner
            .eval_h(x, new_x, objective_factor, lambda, new_lambda, request)
    }

    fn finalize_solution(&mut self, solution: PounceSolution<'_>, data: &IpoptData, cq: &IpoptCq) {
        self.inner.finalize_solution(solution, data, cq);
    }

    fn get_var_con_metadata(&mut self, variables: &mut MetaData, rows: &mut MetaData) -> bool {
        self.inner.get_var_con_metadata(variables, rows)
    }

    fn get_variables_linearity(&mut self, types: &mut [Linearity]) -> bool {
        self.inner.get_variables_linearity(types)
    }

    fn get_objective_variables_linearity(&mut self, types: &mut [Linearity]) -> bool {
        self.inner.get_objective_variables_linearity(types)
    }

    fn get_constraints_linearity(&mut self, types: &mut [Linearity]) -> bool {
        self.inner.get_constraints_linearity(types)
    }

    fn get_number_of_nonlinear_variables(&mut self) -> Index {
        self.inner.get_number_of_nonlinear_variables()
    }

    fn get_list_of_nonlinear_variables(&mut self, list: &mut [Index]) -> bool {
        self.inner.get_list_of_nonlinear_variables(list)
    }

    fn derivative_proofs(&mut self) -> DerivativeProofs {
        self.inner.derivative_proofs()
    }
}
