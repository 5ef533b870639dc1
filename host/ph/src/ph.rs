//! Progressive hedging as a state machine.
//!
//! # The method
//!
//! Rockafellar and Wets, "Scenarios and policy aggregation in optimization under uncertainty",
//! Mathematics of Operations Research 16 (1991). Iteration 0 solves every scenario by itself. Every
//! iteration then takes the average x̄ of each variable over the scenarios below its node, raises each
//! scenario's weight w by ρ(x − x̄), and solves min f(x) + w·x + ½ρ(x − x̄)² in each scenario. Where
//! the objective is maximized, both terms are subtracted.
//!
//! # The machine
//!
//! [`Ph::subproblems`] hands out what is to be solved, each once. [`Ph::solved`] takes answers, in any
//! order and any portions. When enough of them are there, it makes one [`Step`]: averages,
//! weights, metrics, bounds. There is no I/O, clock or randomness; the same answers give the same steps.
//!
//! *Synchronous*: a step waits for all that was handed out. *Asynchronous*: a step is made when at
//! least n scenarios are back; averages come from the latest values known of each scenario, and only
//! those that are back get new weights and are solved again.
//!
//! # Bounds
//!
//! With each iteration two more kinds of subproblems go out, for the weights and values that the
//! step before ended with: those of the Lagrangian outer bound Σ p·min(f(x) + w·x), which is valid
//! because the weights are made to satisfy Σ p·w = 0 at each node (Gade et al., "Obtaining lower
//! bounds from the progressive hedging algorithm for stochastic mixed-integer programs",
//! Mathematical Programming 157 (2016)), and those of candidates. Iteration 0 is an outer bound itself. So the
//! bounds of a step lag one iteration behind its metrics, except at the end: when the step that
//! stops is made, its own weights and values are tried too before it is returned.
//!
//! # Invariants
//!
//! - `tasks` holds exactly the subproblems that were made and not answered; an answer to any other is
//!   late, and ignored.
//! - `values`, `weights` and a unit's slots have one order.
//! - Σ p·w = 0 for each variable after each step, up to rounding, in asynchronous mode too: otherwise the
//!   scenarios could agree on a point that is no optimum.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use optwasm_model::{Patch, Sense};

use crate::candidate::{CandidateRule, candidate};
use crate::metrics::{Metrics, State};
use crate::problem::Problem;
use crate::proximal::Proximal;
use crate::settings::{Settings, check};
use crate::step::{Base, Incumbent, Step};
use crate::stop::{Bounds, Stop};
use crate::subproblem::{Kind, Solved, Subproblem, Terms, class, completion, fix, point, proved};
use crate::sweep::{Purpose, Sweep};
use crate::unit::{Unit, units};
use crate::{PhError, warm};

/// Remark of a converged last step where the theory of convex programs does not hold.
const HEURISTIC: &str = "with integer variables or without quadratic terms, agreement of the scenarios is a point from which progressive hedging cannot go on, but not always an optimum: the gap says how good it is";

/// A subproblem that is not answered.
#[derive(Debug)]
struct Task {
    kind: Kind,
    unit: usize,
    /// The sweep that its answer counts in.
    sweep: Option<u64>,
    /// The averages that it was made with.
    averages: Option<Arc<[f64]>>,
}

#[derive(Debug)]
enum Phase {
    Iterating,
    /// The last step, which waits for its bounds.
    Finishing(Box<Step>),
    Done,
}

/// The state machine; see the module's documentation.
#[derive(Debug)]
pub struct Ph<'p> {
    problem: &'p Problem,
    settings: Settings,
    units: Vec<Unit<'p>>,
    rho: Vec<f64>,
    /// Of each unit, the values of its slots when it was last solved.
    values: Vec<Vec<f64>>,
    /// Of each unit, the averages that it was last solved with.
    solved_with: Vec<Option<Arc<[f64]>>>,
    weights: Vec<Vec<f64>>,
    /// None until the first step, unless they were given.
    averages: Option<Arc<[f64]>>,
    least: Vec<f64>,
    greatest: Vec<f64>,
    iteration: u32,
    phase: Phase,
    next_id: u64,
    tasks: HashMap<u64, Task>,
    queue: Vec<Subproblem>,
    /// Units that were solved since the last step.
    back: BTreeSet<usize>,
    sweeps: BTreeMap<u64, Sweep>,
    /// The last candidate of each rule.
    tried: HashMap<CandidateRule, Vec<f64>>,
    bounds: Bounds,
    latest_outer: Option<f64>,
    incumbent: Option<Incumbent>,
    remarks: Vec<String>,
}

impl<'p> Ph<'p> {
    /// A machine whose first subproblems are ready.
    ///
    /// # Errors
    ///
    /// A [`PhError`] if the settings do not fit the problem.
    pub fn new(problem: &'p Problem, mut settings: Settings) -> Result<Self, PhError> {
        let units = units(problem)?;
        settings.proximal = check(problem, &units, &settings)?;
        let rho = settings.rho.values(problem, None)?;
        let zeros: Vec<Vec<f64>> = units
            .iter()
            .map(|unit| vec![0.0; unit.slots.len()])
            .collect();
        let warm = std::mem::take(&mut settings.warm_start);
        let averages = warm.averages;
        let extremes = averages
            .clone()
            .unwrap_or_else(|| vec![0.0; problem.variables.len()]);
        let mut ph = Ph {
            problem,
            settings,
            rho,
            values: zeros.clone(),
            solved_with: vec![None; zeros.len()],
            weights: warm.weights.unwrap_or(zeros),
            averages: averages.map(Arc::from),
            least: extremes.clone(),
            greatest: extremes,
            units,
            iteration: 0,
            phase: Phase::Iterating,
            next_id: 0,
            tasks: HashMap::new(),
            queue: Vec::new(),
            back: BTreeSet::new(),
            sweeps: BTreeMap::new(),
            tried: HashMap::new(),
            bounds: Bounds::default(),
            latest_outer: None,
            incumbent: None,
            remarks: Vec::new(),
        };
        ph.weights = ph.centered_weights();
        ph.begin()?;
        Ok(ph)
    }

    /// The scenarios, or bundles of them.
    pub fn units(&self) -> &[Unit<'p>] {
        &self.units
    }

    /// The file of each unit's model, in the order of [`Ph::units`].
    pub fn bases(&self) -> Vec<Base<'_>> {
        let bases = self.units.iter().enumerate().map(|(index, unit)| Base {
            name: base_name(index),
            bytes: &unit.file,
        });
        bases.collect()
    }

    /// What is to be solved now and was not handed out before.
    pub fn subproblems(&mut self) -> Vec<Subproblem> {
        std::mem::take(&mut self.queue)
    }

    /// Whether an answer to the subproblem `id` would still count. In asynchronous mode some do not
    /// after the last step, and can be cancelled.
    pub fn is_wanted(&self, id: u64) -> bool {
        self.tasks.contains_key(&id)
    }

    /// Whether the last step has been made.
    pub fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }

    /// Takes answers, and makes a step if there are enough.
    ///
    /// # Errors
    ///
    /// A [`PhError`] that names the scenario if one cannot be solved; the machine is then of no more
    /// use. A Lagrangian subproblem or a candidate that cannot be solved is no error.
    pub fn solved(
        &mut self,
        answers: impl IntoIterator<Item = Solved>,
    ) -> Result<Option<Step>, PhError> {
        for Solved { id, solution } in answers {
            let Some(task) = self.tasks.remove(&id) else {
                continue;
            };
            let Task {
                kind, unit, sweep, ..
            } = task;
            if kind == Kind::Iterate {
                let values = point(&self.units[unit], &solution)?;
                let slots = self.units[unit].slots.iter().map(|slot| {
                    let x = values[slot.column];
                    // Solvers return integers up to their tolerance.
                    if self.problem.variables[slot.variable].integer {
                        x.round()
                    } else {
                        x
                    }
                });
                self.values[unit] = slots.collect();
                self.solved_with[unit] = task.averages;
                self.back.insert(unit);
            }
            if let Some(id) = sweep {
                self.count(id, unit, &solution);
            }
        }
        match self.phase {
            Phase::Finishing(_) if self.tasks.is_empty() => Ok(self.finish()),
            Phase::Iterating if self.is_ready() => self.step(),
            _ => Ok(None),
        }
    }

    /// The averages; before the first step those that were given, or none.
    pub fn averages(&self) -> Option<&[f64]> {
        self.averages.as_deref()
    }

    /// The weights of each unit's slots, with the sign of minimization.
    pub fn weights(&self) -> &[Vec<f64>] {
        &self.weights
    }

    /// The values of each unit's slots when it was last solved.
    pub fn values(&self) -> &[Vec<f64>] {
        &self.values
    }

    /// rho of each variable.
    pub fn rho(&self) -> &[f64] {
        &self.rho
    }

    /// The best bounds so far.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// The best feasible point so far.
    pub fn incumbent(&self) -> Option<&Incumbent> {
        self.incumbent.as_ref()
    }

    /// The weights as a CSV file, for [`WarmStart::read`](crate::WarmStart::read).
    pub fn weights_csv(&self) -> String {
        warm::write_weights(self.problem, &self.units, &self.weights)
    }

    /// The averages as a CSV file, for [`WarmStart::read`](crate::WarmStart::read); only a heading before the first step.
    pub fn averages_csv(&self) -> String {
        warm::write_averages(self.problem, self.averages.as_deref().unwrap_or_default())
    }

    /// Makes the subproblems of iteration 0.
    fn begin(&mut self) -> Result<(), PhError> {
        // Without proximal terms they are those of the outer bound, too.
        let sweep = match &self.averages {
            None => Some(self.new_sweep(Purpose::Bound)),
            Some(_) => None,
        };
        for unit in 0..self.units.len() {
            self.iterate(unit, sweep)?;
        }
        if self.averages.is_some() && self.settings.outer_bound {
            self.sweep_bound();
        }
        Ok(())
    }

    /// Whether enough units are back for a step.
    fn is_ready(&self) -> bool {
        match self.settings.asynchronous {
            Some(buffer) if self.iteration > 0 => self.back.len() >= buffer.min(self.units.len()),
            // Averages need a value of everybody.
            _ => self.tasks.is_empty(),
        }
    }

    fn step(&mut self) -> Result<Option<Step>, PhError> {
        let averages = self.average();
        if self.iteration == 0 {
            let spread = self.spread(&averages);
            self.rho = self.settings.rho.values(self.problem, Some(&spread))?;
        }
        for &unit in &self.back {
            let slots = self.units[unit].slots.iter().zip(&self.values[unit]);
            for ((slot, x), weight) in slots.zip(&mut self.weights[unit]) {
                *weight += self.rho[slot.variable] * (x - averages[slot.variable]);
            }
        }
        // Where only some have new weights, these do not cancel by themselves.
        self.weights = self.centered_weights();
        let metrics = Metrics::of(&State {
            units: &self.units,
            values: &self.values,
            weights: &self.weights,
            averages: &averages,
            solved_with: &self.solved_with,
            rho: &self.rho,
        });
        self.averages = Some(averages.into());
        let gap = self.bounds.gap(self.problem.sense);
        let stop = self.settings.stop.check(self.iteration, &metrics, gap);
        let mut step = Step {
            iteration: self.iteration,
            metrics,
            bounds: self.bounds,
            outer: self.latest_outer,
            gap,
            stop,
            remarks: Vec::new(),
        };
        let back = std::mem::take(&mut self.back);
        if stop.is_some() {
            if stop == Some(Stop::Converged) && self.is_heuristic() {
                self.remarks.push(HEURISTIC.to_owned());
            }
            // What is still on its way is of iterations that nobody wants any more.
            self.tasks.clear();
            self.queue.clear();
            if !self.sweeps.is_empty() {
                // Candidates among them were not tried to the end.
                self.sweeps.clear();
                self.tried.clear();
            }
            self.start_sweeps();
            self.phase = Phase::Finishing(Box::new(step));
            return Ok(if self.tasks.is_empty() {
                self.finish()
            } else {
                None
            });
        }
        step.remarks = std::mem::take(&mut self.remarks);
        self.iteration += 1;
        for unit in back {
            self.iterate(unit, None)?;
        }
        if self.sweeps.is_empty() {
            self.start_sweeps();
        }
        Ok(Some(step))
    }

    /// Whether agreement proves nothing.
    fn is_heuristic(&self) -> bool {
        let has_integers = |unit: &Unit<'_>| unit.model.is_mixed_integer();
        self.settings.proximal != Proximal::Quadratic || self.units.iter().any(has_integers)
    }

    fn finish(&mut self) -> Option<Step> {
        let Phase::Finishing(mut step) = std::mem::replace(&mut self.phase, Phase::Done) else {
            return None;
        };
        step.bounds = self.bounds;
        step.gap = self.bounds.gap(self.problem.sense);
        step.remarks = std::mem::take(&mut self.remarks);
        Some(*step)
    }

    /// The averages of the latest values; also finds the extremes.
    fn average(&mut self) -> Vec<f64> {
        let count = self.problem.variables.len();
        let (mut sums, mut weights) = (vec![0.0; count], vec![0.0; count]);
        self.least = vec![f64::INFINITY; count];
        self.greatest = vec![f64::NEG_INFINITY; count];
        for (unit, values) in self.units.iter().zip(&self.values) {
            for (slot, x) in unit.slots.iter().zip(values) {
                let v = slot.variable;
                sums[v] += slot.weight * x;
                weights[v] += slot.weight;
                self.least[v] = self.least[v].min(*x);
                self.greatest[v] = self.greatest[v].max(*x);
            }
        }
        sums.iter()
            .zip(&weights)
            .map(|(sum, weight)| sum / weight)
            .collect()
    }

    /// Of each variable the range of its values, and the expected distance to the average.
    fn spread(&self, averages: &[f64]) -> Vec<(f64, f64)> {
        let mut deviations = vec![(0.0, 0.0); averages.len()];
        for (unit, values) in self.units.iter().zip(&self.values) {
            for (slot, x) in unit.slots.iter().zip(values) {
                let (sum, weight) = &mut deviations[slot.variable];
                *sum += slot.weight * (x - averages[slot.variable]).abs();
                *weight += slot.weight;
            }
        }
        let ranges = self.least.iter().zip(&self.greatest);
        ranges
            .zip(deviations)
            .map(|((least, greatest), (sum, weight))| (greatest - least, sum / weight))
            .collect()
    }

    /// The weights less their averages, so that Σ p·w = 0 at each node.
    fn centered_weights(&self) -> Vec<Vec<f64>> {
        let mut sums = vec![(0.0, 0.0); self.problem.variables.len()];
        for (unit, weights) in self.units.iter().zip(&self.weights) {
            for (slot, w) in unit.slots.iter().zip(weights) {
                sums[slot.variable].0 += slot.weight * w;
                sums[slot.variable].1 += slot.weight;
            }
        }
        let mut centered = self.weights.clone();
        for (unit, weights) in self.units.iter().zip(&mut centered) {
            for (slot, w) in unit.slots.iter().zip(weights) {
                let (sum, weight) = sums[slot.variable];
                *w -= sum / weight;
            }
        }
        centered
    }

    fn patch(&self, unit: usize) -> Patch {
        Patch::of(base_name(unit), &self.units[unit].model)
    }

    fn push(&mut self, kind: Kind, unit: usize, sweep: Option<u64>, patch: Patch) {
        let id = self.next_id;
        self.next_id += 1;
        let task = Task {
            kind,
            unit,
            sweep,
            averages: self.averages.clone(),
        };
        self.tasks.insert(id, task);
        self.queue.push(Subproblem {
            id,
            kind,
            unit,
            class: class(&self.units[unit], &patch),
            patch,
        });
    }

    fn iterate(&mut self, index: usize, sweep: Option<u64>) -> Result<(), PhError> {
        let mut patch = self.patch(index);
        let unit = &self.units[index];
        let averages = self.averages.as_deref();
        let terms = self.terms(averages.unwrap_or_default());
        terms.add_weights(&mut patch, unit, &self.weights[index]);
        if averages.is_some() {
            terms.add_proximal(&mut patch, unit)?;
        }
        self.push(Kind::Iterate, index, sweep, patch);
        Ok(())
    }

    fn terms<'a>(&'a self, averages: &'a [f64]) -> Terms<'a> {
        Terms {
            problem: self.problem,
            proximal: self.settings.proximal,
            rho: &self.rho,
            averages,
            least: &self.least,
            greatest: &self.greatest,
            sign: match self.problem.sense {
                Sense::Minimize => 1.0,
                Sense::Maximize => -1.0,
            },
        }
    }

    fn new_sweep(&mut self, purpose: Purpose) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.sweeps
            .insert(id, Sweep::new(purpose, self.units.len()));
        id
    }

    /// Makes the subproblems of the outer bound and of candidates.
    fn start_sweeps(&mut self) {
        if self.settings.outer_bound {
            self.sweep_bound();
        }
        let Some(averages) = self.averages.clone() else {
            return;
        };
        for rule in self.settings.candidates.clone() {
            let point = candidate(rule, self.problem, &self.units, &self.values, &averages);
            if self.tried.values().any(|tried| *tried == point) {
                continue;
            }
            self.tried.insert(rule, point.clone());
            let sweep = self.new_sweep(Purpose::Candidate(rule, point.clone()));
            for unit in 0..self.units.len() {
                let mut patch = self.patch(unit);
                fix(&mut patch, &self.units[unit], &point);
                self.push(Kind::Candidate, unit, Some(sweep), patch);
            }
        }
    }

    fn sweep_bound(&mut self) {
        let weights = self.centered_weights();
        let sweep = self.new_sweep(Purpose::Bound);
        for (unit, weights) in weights.iter().enumerate() {
            let mut patch = self.patch(unit);
            self.terms(&[])
                .add_weights(&mut patch, &self.units[unit], weights);
            self.push(Kind::Bound, unit, Some(sweep), patch);
        }
    }

    /// Counts an answer in its sweep, and takes the sum if it is complete.
    fn count(&mut self, id: u64, unit: usize, solution: &optwasm_model::Solution) {
        let Some(sweep) = self.sweeps.get_mut(&id) else {
            return;
        };
        let answering = &self.units[unit];
        let answer = match &sweep.purpose {
            Purpose::Bound => proved(answering, solution)
                .map(|bound| (bound, Vec::new()))
                .ok_or_else(|| {
                    format!(
                        "no outer bound: {} ended as {}",
                        answering.title(),
                        solution.status
                    )
                }),
            Purpose::Candidate(rule, fixed) => completion(answering, solution, fixed)
                .map_err(|error| format!("no incumbent by {rule:?}: {error}")),
        };
        sweep.take(unit, answer);
        if !sweep.is_complete() {
            return;
        }
        let Some(sweep) = self.sweeps.remove(&id) else {
            return;
        };
        let total = match sweep.total(&self.units) {
            Ok(total) => total,
            Err(why) => return self.remarks.push(why.to_owned()),
        };
        let is_less = |a: f64, b: Option<f64>| b.is_none_or(|b| a < b);
        let is_more = |a: f64, b: Option<f64>| b.is_none_or(|b| a > b);
        let minimize = self.problem.sense == Sense::Minimize;
        match sweep.purpose {
            Purpose::Bound => {
                self.latest_outer = Some(total);
                let better = if minimize { is_more } else { is_less };
                if better(total, self.bounds.outer) {
                    self.bounds.outer = Some(total);
                }
            }
            Purpose::Candidate(rule, variables) => {
                let better = if minimize { is_less } else { is_more };
                if better(total, self.bounds.incumbent) {
                    self.bounds.incumbent = Some(total);
                    self.incumbent = Some(Incumbent {
                        rule,
                        objective: total,
                        variables,
                        objectives: sweep.objectives,
                        values: sweep.values,
                    });
                }
            }
        }
    }
}

/// Name of the blob with a unit's file.
fn base_name(unit: usize) -> String {
    format!("unit{unit}")
}
