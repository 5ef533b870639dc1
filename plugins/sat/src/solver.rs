//! Gives a [`Formula`] to BatSat and translates its answer.

use batsat::{Callbacks, Lit, Solver, SolverInterface, SolverOpts, Var, clause, lbool};
use optwasm_model::{OptionError, Options, Solution, Status};

use crate::cnf::Formula;

/// As the solution names the solver.
const SOLVER: &str = "BatSat 0.6.0";

/// What a caller may choose.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Most conflicts to go through; `None`, the default, for any number.
    pub conflict_limit: Option<u64>,
    /// 0, the default, for BatSat's own order of the variables; any other
    /// number for a random order at the start.
    pub seed: u32,
}

/// Largest seed: BatSat's generator takes some nine digits, and this leaves
/// room to spread them.
const MAX_SEED: u32 = 1_000_000;

impl Settings {
    /// Takes the options of the manifest.
    ///
    /// # Errors
    ///
    /// An [`OptionError`] if there is any other option, or a wrong value.
    pub fn take(mut options: Options) -> Result<Self, OptionError> {
        let conflict_limit = options.number("conflict_limit", 0..=u64::MAX, 0)?;
        let seed = options.number("seed", 0..=MAX_SEED, 0)?;
        options.finish()?;
        Ok(Settings {
            conflict_limit: (conflict_limit > 0).then_some(conflict_limit),
            seed,
        })
    }

    fn batsat(&self) -> SolverOpts {
        let defaults = SolverOpts::default();
        if self.seed == 0 {
            return defaults;
        }
        SolverOpts {
            rnd_init_act: true,
            random_seed: defaults.random_seed + f64::from(self.seed),
            ..defaults
        }
    }
}

/// Counts conflicts and stops the search at the limit.
#[derive(Default)]
struct Limit {
    conflicts: u64,
    limit: Option<u64>,
}

impl Callbacks for Limit {
    /// Every conflict teaches one clause.
    fn on_new_clause(&mut self, _: &[Lit], _: clause::Kind) {
        self.conflicts += 1;
    }

    fn stop(&self) -> bool {
        self.limit.is_some_and(|limit| self.conflicts >= limit)
    }
}

/// Decides whether an assignment satisfies the formula.
pub fn solve_formula(formula: &Formula, settings: &Settings) -> Solution {
    let callbacks = Limit {
        conflicts: 0,
        limit: settings.conflict_limit,
    };
    let mut solver = Solver::new(settings.batsat(), callbacks);
    let answer = search(&mut solver, formula);

    let mut solution = Solution::without_values(Status::Unknown, SOLVER);
    solution.iterations = Some(solver.num_conflicts());
    if answer == lbool::TRUE {
        let model = solver.get_model();
        let values: Vec<bool> = (0..formula.variables())
            .map(|variable| model.get(variable) == Some(&lbool::TRUE))
            .collect();
        if formula.is_satisfied_by(&values) {
            solution.status = Status::Sat;
            solution.variables = (1..=values.len()).map(|v| v.to_string()).collect();
            solution.values = values.iter().map(|&v| f64::from(u8::from(v))).collect();
        } else {
            solution.status = Status::NumericalFailure;
            solution.message = Some("the solver's assignment does not satisfy the formula".into());
        }
    } else if answer == lbool::FALSE {
        solution.status = Status::Unsat;
    } else if solver.cb().stop() {
        solution.status = Status::IterationLimit;
        solution.message = Some("the limit on conflicts was reached".into());
    } else {
        solution.message = Some("the solver ended without an answer".into());
    }
    solution
}

fn search(solver: &mut Solver<Limit>, formula: &Formula) -> lbool {
    let variables: Vec<Var> = (0..formula.variables())
        .map(|_| solver.new_var_default())
        .collect();
    let mut literals = Vec::new();
    for clause in formula.clauses() {
        literals.clear();
        literals.extend(clause.iter().map(|literal| {
            let variable = variables[literal.unsigned_abs() as usize - 1];
            Lit::new(variable, *literal > 0)
        }));
        if !solver.add_clause_reuse(&mut literals) {
            return lbool::FALSE;
        }
    }
    solver.solve_limited(&[])
}
