//! What is shown of a run: a line for each iteration, and the result.

use optwasm_ph::{CandidateRule, Ph, Problem, Step, Stop};
use serde_json::{Map, Value as Json, json};

use crate::args::Format;
use crate::exit::Failure;
use crate::output::{print, table};

/// Prints it, in the format that was asked for.
pub struct Printer {
    format: Format,
}

/// How a program was solved.
pub struct Result {
    /// In words, and in one word for programs.
    pub how: (String, String),
    /// Iterations after the first, of progressive hedging.
    pub iterations: Option<u32>,
    /// Expected objective of the best point found.
    pub objective: Option<f64>,
    /// The optimum is not better than this.
    pub outer: Option<f64>,
    /// Relative gap of the two.
    pub gap: Option<f64>,
    /// Which point the first stage is taken from.
    pub from: &'static str,
    /// Names and values of the variables of the first stage.
    pub first_stage: Vec<(String, f64)>,
    /// What else is to be said.
    pub remarks: Vec<String>,
}

impl Result {
    /// The result of progressive hedging whose last step was `last`.
    pub fn of(problem: &Problem, ph: &Ph<'_>, last: &Step) -> Self {
        let iterations = last.iteration;
        let how = match last.stop {
            Some(Stop::Converged) => ("converged", "converged"),
            _ => ("not converged", "iteration_limit"),
        };
        let (from, values) = match ph.incumbent() {
            Some(incumbent) => (
                match incumbent.rule {
                    CandidateRule::ClosestScenario => "the closest scenario",
                    CandidateRule::Rounding => "the averages, rounded",
                    CandidateRule::Voting => "the averages, by vote",
                },
                &*incumbent.variables,
            ),
            None => ("the averages", ph.averages().unwrap_or_default()),
        };
        Result {
            how: (
                format!("{} after {iterations} iterations", how.0),
                how.1.to_owned(),
            ),
            iterations: Some(iterations),
            objective: last.bounds.incumbent,
            outer: last.bounds.outer,
            gap: last.gap,
            from,
            first_stage: first_stage(problem, values),
            remarks: last.remarks.clone(),
        }
    }
}

/// Names and values of the variables of the root.
pub fn first_stage(problem: &Problem, values: &[f64]) -> Vec<(String, f64)> {
    let root = problem.nodes[0].variables.clone();
    let named = problem.variables.iter().zip(values);
    let named = named.map(|(variable, value)| (variable.name.clone(), *value));
    named.skip(root.start).take(root.len()).collect()
}

impl Printer {
    /// A printer, with the heading printed.
    pub fn new(format: Format) -> std::result::Result<Self, Failure> {
        Ok(Printer { format })
    }

    /// Prints an iteration that ended so many seconds after the start.
    pub fn step(&mut self, step: &Step, seconds: f64) -> std::result::Result<(), Failure> {
        match self.format {
            Format::Table => {
                if step.iteration == 0 {
                    print(row([
                        "ITERATION",
                        "DIFFERENCE",
                        "PRIMAL",
                        "DUAL",
                        "OUTER",
                        "INCUMBENT",
                        "GAP",
                        "TIME",
                    ]
                    .map(str::to_owned)))?;
                }
                let small = |x: f64| {
                    if x.is_finite() {
                        format!("{x:.4e}")
                    } else {
                        "-".to_owned()
                    }
                };
                let large =
                    |x: Option<f64>| x.map_or_else(|| "-".to_owned(), |x| format!("{x:.4}"));
                print(row([
                    step.iteration.to_string(),
                    small(step.metrics.normalized_term_diff),
                    small(step.metrics.primal),
                    small(step.metrics.dual),
                    large(step.bounds.outer),
                    large(step.bounds.incumbent),
                    step.gap.map_or_else(|| "-".to_owned(), small),
                    format!("{seconds:.2}s"),
                ]))
            }
            Format::Jsonl => {
                let mut row = json!(step);
                row["schema"] = "optwasm.ph.step/1".into();
                row["seconds"] = json!(seconds);
                print(row)
            }
            Format::Json | Format::Quiet => Ok(()),
        }
    }

    /// Prints the result.
    pub fn result(&self, result: &Result) -> std::result::Result<(), Failure> {
        match self.format {
            Format::Table => {
                let Result {
                    objective,
                    outer,
                    gap,
                    ..
                } = result;
                let mut line = result.how.0.clone();
                if let Some(objective) = objective {
                    line.push_str(&format!(": objective {objective:.6}"));
                }
                if let Some(outer) = outer {
                    line.push_str(&format!(", outer bound {outer:.6}"));
                }
                if let Some(gap) = gap {
                    line.push_str(&format!(", gap {gap:.2e}"));
                }
                print(line)?;
                for remark in &result.remarks {
                    print(format_args!("note: {remark}"))?;
                }
                print(format_args!("first stage, from {}:", result.from))?;
                let mut table = table(["VARIABLE", "VALUE"]);
                for (name, value) in &result.first_stage {
                    table.add_row([name.clone(), format!("{value:.6}")]);
                }
                print(table)
            }
            Format::Json | Format::Jsonl => {
                let first_stage = result.first_stage.iter();
                let first_stage: Map<String, Json> = first_stage
                    .map(|(name, value)| (name.clone(), json!(value)))
                    .collect();
                print(json!({
                    "schema": "optwasm.ph/1",
                    "status": result.how.1,
                    "iterations": result.iterations,
                    "objective": result.objective,
                    "outer": result.outer,
                    "gap": result.gap,
                    "from": result.from,
                    "first_stage": first_stage,
                    "remarks": result.remarks,
                }))
            }
            Format::Quiet => Ok(()),
        }
    }
}

/// A line of right-aligned columns.
fn row(cells: [String; 8]) -> String {
    let [
        iteration,
        difference,
        primal,
        dual,
        outer,
        incumbent,
        gap,
        time,
    ] = cells;
    format!(
        "{iteration:>9} {difference:>11} {primal:>11} {dual:>11} {outer:>16} {incumbent:>16} \
         {gap:>11} {time:>9}"
    )
}
