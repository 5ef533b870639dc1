//! What uncertainty costs: expected value problem, wait-and-see, recourse problem, and what follows
//! from them.
//!
//! Names as in Birge and Louveaux, "Introduction to Stochastic Programming", chapter 4:
//!
//! - EV, the *expected value problem*: one model with the averages of all data.
//! - WS, *wait and see*: the expected optimum of the scenarios, each by itself, as if the future
//!   were known.
//! - RP, the *recourse problem*: the stochastic program.
//! - EEV: the expected objective when the first stage does what is best in the expected value
//!   problem. Programs with more than two stages decide anew at every node after the first.
//! - EVPI = RP − WS, the value of perfect information, and VSS = EEV − RP, the value of the
//!   stochastic solution. Where the objective is maximized, both change their sign, so that neither
//!   is negative.
//!
//! [`Study`] hands out models and takes answers, as [`Ph`](crate::Ph) does.

use std::collections::HashMap;

use optwasm_model::{Model, Sense, Solution, Status};
use serde::Serialize;

use crate::{Extensive, Problem, Solved};

/// What a model of a study is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The expected value problem.
    ExpectedValue,
    /// A scenario by itself.
    WaitAndSee(usize),
    /// The extensive form.
    Recourse,
    /// A scenario with the first stage fixed, of a two-stage program.
    ExpectedResult(usize),
    /// The extensive form with the first stage fixed, of programs with more stages.
    ExpectedResultOfAll,
}

/// A model to be solved.
#[derive(Debug, Clone, PartialEq)]
pub struct StudyModel {
    /// Its answer comes under this number.
    pub id: u64,
    /// What it is.
    pub role: Role,
    /// The model; [`optwasm_model::mps::write`] makes a file of it.
    pub model: Model,
}

/// The results; a number is missing where a model was not solved to optimality.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Optimum of the expected value problem.
    pub ev: Option<f64>,
    /// Wait and see.
    pub ws: Option<f64>,
    /// Optimum of the recourse problem.
    pub rp: Option<f64>,
    /// Expected result of the expected value solution.
    pub eev: Option<f64>,
    /// Value of perfect information.
    pub evpi: Option<f64>,
    /// Value of the stochastic solution.
    pub vss: Option<f64>,
    /// Which models were not solved, and how they ended. A first stage that is not feasible in all
    /// scenarios is among them: then there is no EEV.
    pub remarks: Vec<String>,
}

/// Why the data has no average.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StudyError {
    /// A scenario has other columns or rows than the first one.
    #[error("scenario `{scenario}` has no {kind} `{name}`, or has others than the first scenario")]
    Structure {
        /// The scenario.
        scenario: String,
        /// "column" or "row".
        kind: &'static str,
        /// The first that differs.
        name: String,
    },
    /// A bound is finite in one scenario and infinite in another.
    #[error("a bound of `{0}` is finite in some scenarios only, and has no average")]
    Bound(String),
}

/// A study of one problem.
#[derive(Debug)]
pub struct Study<'p> {
    problem: &'p Problem,
    next_id: u64,
    roles: HashMap<u64, Role>,
    queue: Vec<StudyModel>,
    answers: HashMap<Role, f64>,
    remarks: Vec<String>,
}

impl<'p> Study<'p> {
    /// A study whose first models are ready. `recourse` says whether the extensive form is among
    /// them; where it is too large to be solved, RP is left to progressive hedging.
    ///
    /// # Errors
    ///
    /// A [`StudyError`].
    pub fn new(problem: &'p Problem, recourse: bool) -> Result<Self, StudyError> {
        let mut study = Study {
            problem,
            next_id: 0,
            roles: HashMap::new(),
            queue: Vec::new(),
            answers: HashMap::new(),
            remarks: Vec::new(),
        };
        study.push(Role::ExpectedValue, average(problem)?);
        for (index, scenario) in problem.scenarios.iter().enumerate() {
            study.push(Role::WaitAndSee(index), scenario.model.clone());
        }
        if recourse {
            study.push(Role::Recourse, Extensive::new(problem).model);
        }
        Ok(study)
    }

    /// What is to be solved now and was not handed out before.
    pub fn models(&mut self) -> Vec<StudyModel> {
        std::mem::take(&mut self.queue)
    }

    /// Whether nothing is left to be solved.
    pub fn is_done(&self) -> bool {
        self.roles.is_empty()
    }

    /// Takes answers; the one to the expected value problem makes new models.
    pub fn solved(&mut self, answers: impl IntoIterator<Item = Solved>) {
        for Solved { id, solution } in answers {
            let Some(role) = self.roles.remove(&id) else {
                continue;
            };
            let is_optimal = matches!(solution.status, Status::Optimal | Status::OptimalInaccurate);
            match solution.objective.filter(|_| is_optimal) {
                Some(objective) => {
                    self.answers.insert(role, objective);
                    if role == Role::ExpectedValue {
                        self.fix_first_stage(&solution);
                    }
                }
                None => {
                    let what = self.title(role);
                    self.remarks
                        .push(format!("{what} ended as {}", solution.status));
                }
            }
        }
    }

    /// What is known now.
    pub fn summary(&self) -> Summary {
        let get = |role| self.answers.get(&role).copied();
        let expected = |role: fn(usize) -> Role| -> Option<f64> {
            let scenarios = self.problem.scenarios.iter().enumerate();
            scenarios
                .map(|(index, scenario)| Some(scenario.probability * get(role(index))?))
                .sum()
        };
        let ws = expected(Role::WaitAndSee);
        let rp = get(Role::Recourse);
        let eev = get(Role::ExpectedResultOfAll).or_else(|| expected(Role::ExpectedResult));
        let sign = match self.problem.sense {
            Sense::Minimize => 1.0,
            Sense::Maximize => -1.0,
        };
        let difference = |a: Option<f64>, b: Option<f64>| Some(sign * (a? - b?));
        Summary {
            ev: get(Role::ExpectedValue),
            ws,
            rp,
            eev,
            evpi: difference(rp, ws),
            vss: difference(eev, rp),
            remarks: self.remarks.clone(),
        }
    }

    fn title(&self, role: Role) -> String {
        let name = |scenario: usize| &self.problem.scenarios[scenario].name;
        match role {
            Role::ExpectedValue => "the expected value problem".into(),
            Role::WaitAndSee(scenario) => format!("scenario `{}`", name(scenario)),
            Role::Recourse => "the extensive form".into(),
            Role::ExpectedResult(scenario) => {
                let name = name(scenario);
                format!("scenario `{name}` with the first stage of the expected value problem")
            }
            Role::ExpectedResultOfAll => {
                "the extensive form with the first stage of the expected value problem".into()
            }
        }
    }

    fn push(&mut self, role: Role, model: Model) {
        let id = self.next_id;
        self.next_id += 1;
        self.roles.insert(id, role);
        self.queue.push(StudyModel { id, role, model });
    }

    /// Makes the models in which the first stage is that of the expected value problem, whose
    /// columns are those of the first scenario.
    fn fix_first_stage(&mut self, solution: &Solution) {
        let first_stage = self.problem.nodes[0].variables.clone();
        let mut values: HashMap<usize, f64> = HashMap::new();
        for &(variable, column) in &self.problem.scenarios[0].columns {
            if first_stage.contains(&variable) {
                let Some(&value) = solution.values.get(column) else {
                    let what = self.title(Role::ExpectedValue);
                    self.remarks
                        .push(format!("{what} has a solution with too few values"));
                    return;
                };
                let shared = &self.problem.variables[variable];
                let value = match shared.integer {
                    true => value.round(),
                    false => value,
                };
                // Solvers miss bounds by their tolerance, and averages of bounds are not the bounds of
                // all scenarios.
                values.insert(variable, value.max(shared.lower).min(shared.upper));
            }
        }
        let fix = |model: &mut Model, columns: &[(usize, usize)]| {
            for &(variable, column) in columns {
                if let Some(value) = values.get(&variable) {
                    let column = &mut model.columns[column];
                    (column.lower, column.upper) = (*value, *value);
                }
            }
        };
        if self.problem.nodes.len() == 1 {
            for (index, scenario) in self.problem.scenarios.iter().enumerate() {
                let mut model = scenario.model.clone();
                fix(&mut model, &scenario.columns);
                self.push(Role::ExpectedResult(index), model);
            }
        } else {
            let mut form = Extensive::new(self.problem);
            fix(&mut form.model, &form.variables);
            self.push(Role::ExpectedResultOfAll, form.model);
        }
    }
}

/// The model with the averages of all data; rows and columns are those of the first scenario.
fn average(problem: &Problem) -> Result<Model, StudyError> {
    let first = &problem.scenarios[0].model;
    let columns: HashMap<&str, usize> = first
        .columns
        .iter()
        .enumerate()
        .map(|(index, column)| (column.name.as_str(), index))
        .collect();
    let rows: HashMap<&str, usize> = first
        .rows
        .iter()
        .enumerate()
        .map(|(index, row)| (row.name.as_str(), index))
        .collect();
    let mut average = first.clone();
    average.constant = 0.0;
    for column in &mut average.columns {
        (column.cost, column.lower, column.upper) = (0.0, 0.0, 0.0);
    }
    for row in &mut average.rows {
        (row.lower, row.upper) = (0.0, 0.0);
    }
    let mut entries: HashMap<(usize, usize), f64> = HashMap::new();
    let mut quadratic: HashMap<(usize, usize), f64> = HashMap::new();
    for scenario in &problem.scenarios {
        let (p, model) = (scenario.probability, &scenario.model);
        let differs = |kind, name: &str| StudyError::Structure {
            scenario: scenario.name.clone(),
            kind,
            name: name.to_owned(),
        };
        let mut column_of = Vec::new();
        for column in &model.columns {
            let place = columns.get(column.name.as_str());
            let &place = place.ok_or_else(|| differs("column", &column.name))?;
            let into = &mut average.columns[place];
            into.cost += p * column.cost;
            into.lower += p * column.lower;
            into.upper += p * column.upper;
            column_of.push(place);
        }
        let mut row_of = Vec::new();
        for row in &model.rows {
            let place = rows.get(row.name.as_str());
            let &place = place.ok_or_else(|| differs("row", &row.name))?;
            average.rows[place].lower += p * row.lower;
            average.rows[place].upper += p * row.upper;
            row_of.push(place);
        }
        if column_of.len() != columns.len() {
            return Err(differs("column", "of the first scenario"));
        }
        if row_of.len() != rows.len() {
            return Err(differs("row", "of the first scenario"));
        }
        average.constant += p * model.constant;
        for entry in &model.entries {
            let place = (row_of[entry.row], column_of[entry.column]);
            *entries.entry(place).or_insert(0.0) += p * entry.value;
        }
        for &(i, j, value) in &model.quadratic {
            let (i, j) = (column_of[i], column_of[j]);
            *quadratic.entry((i.min(j), i.max(j))).or_insert(0.0) += p * value;
        }
    }
    check_bounds(problem, &average)?;
    average.entries = entries
        .into_iter()
        .map(|((row, column), value)| optwasm_model::Entry { row, column, value })
        .collect();
    average
        .entries
        .sort_by_key(|entry| (entry.column, entry.row));
    average.quadratic = quadratic
        .into_iter()
        .map(|((i, j), value)| (i, j, value))
        .collect();
    average.quadratic.sort_by_key(|&(i, j, _)| (j, i));
    Ok(average)
}

/// The average of a bound that is finite in some scenarios only came out infinite.
fn check_bounds(problem: &Problem, average: &Model) -> Result<(), StudyError> {
    let columns = average.columns.iter().map(|c| (&c.name, c.lower, c.upper));
    let rows = average.rows.iter().map(|r| (&r.name, r.lower, r.upper));
    let averages: HashMap<(bool, &str), (f64, f64)> = columns
        .map(|(name, lower, upper)| ((true, name.as_str()), (lower, upper)))
        .chain(rows.map(|(name, lower, upper)| ((false, name.as_str()), (lower, upper))))
        .collect();
    for scenario in &problem.scenarios {
        let model = &scenario.model;
        let columns = model
            .columns
            .iter()
            .map(|c| (true, &c.name, c.lower, c.upper));
        let rows = model
            .rows
            .iter()
            .map(|r| (false, &r.name, r.lower, r.upper));
        for (is_column, name, lower, upper) in columns.chain(rows) {
            let (average_lower, average_upper) = averages[&(is_column, name.as_str())];
            if lower.is_finite() != average_lower.is_finite()
                || upper.is_finite() != average_upper.is_finite()
            {
                return Err(StudyError::Bound(name.clone()));
            }
        }
    }
    Ok(())
}
