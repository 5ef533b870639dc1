//! What is shown of a run: a line for each iteration, and the result.

use std::io::{self, Write};

use optwasm_ph::{CandidateRule, Ph, Problem, Step, Stop};
use serde_json::{Map, Value as Json, json};

use crate::args::Format;
use crate::exit::Failure;
use crate::output::{print, table};

/// How a program was solved.
pub struct Summary {
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

impl Summary {
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
                    CandidateRule::Rounding => "the averages, integers rounded",
                    CandidateRule::Voting => "the averages, by vote",
                },
                &*incumbent.variables,
            ),
            None => ("the averages", ph.averages().unwrap_or_default()),
        };
        Summary {
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

/// Prints an iteration that ended so many seconds after the start.
pub fn print_step(format: Format, step: &Step, seconds: f64) -> io::Result<()> {
    let mut stdout = io::stdout();
    match format {
        Format::Table => {
            if step.iteration == 0 {
                writeln!(stdout, "{}", row(HEADING.map(str::to_owned)))?;
            }
            let none = || "-".to_owned();
            let small = |x: f64| match x.is_finite() {
                true => format!("{x:.4e}"),
                false => none(),
            };
            let large = |x: Option<f64>| x.map_or_else(none, |x| format!("{x:.4}"));
            let row = row([
                step.iteration.to_string(),
                small(step.metrics.normalized_term_diff),
                small(step.metrics.primal),
                small(step.metrics.dual),
                large(step.bounds.outer),
                large(step.bounds.incumbent),
                step.gap.map_or_else(none, small),
                format!("{seconds:.2}s"),
            ]);
            writeln!(stdout, "{row}")
        }
        Format::Jsonl => {
            let mut row = json!(step);
            row["schema"] = "optwasm.ph.step/1".into();
            row["seconds"] = json!(seconds);
            writeln!(stdout, "{row}")
        }
        Format::Json | Format::Quiet => Ok(()),
    }
}

/// Prints how it ended.
pub fn print_summary(format: Format, summary: &Summary) -> Result<(), Failure> {
    match format {
        Format::Table => {
            let mut line = summary.how.0.clone();
            if let Some(objective) = summary.objective {
                line.push_str(&format!(": objective {objective:.6}"));
            }
            if let Some(outer) = summary.outer {
                line.push_str(&format!(", outer bound {outer:.6}"));
            }
            if let Some(gap) = summary.gap {
                line.push_str(&format!(", gap {gap:.2e}"));
            }
            print(line)?;
            for remark in &summary.remarks {
                print(format_args!("note: {remark}"))?;
            }
            print(format_args!("first stage, from {}:", summary.from))?;
            let mut table = table(["VARIABLE", "VALUE"]);
            for (name, value) in &summary.first_stage {
                table.add_row([name.clone(), format!("{value:.6}")]);
            }
            print(table)
        }
        Format::Json | Format::Jsonl => {
            let first_stage = summary.first_stage.iter();
            let first_stage: Map<String, Json> = first_stage
                .map(|(name, value)| (name.clone(), json!(value)))
                .collect();
            print(json!({
                "schema": "optwasm.ph/1",
                "status": summary.how.1,
                "iterations": summary.iterations,
                "objective": summary.objective,
                "outer": summary.outer,
                "gap": summary.gap,
                "from": summary.from,
                "first_stage": first_stage,
                "remarks": summary.remarks,
            }))
        }
        Format::Quiet => Ok(()),
    }
}

/// What the columns of [`print_step`] are.
const HEADING: [&str; 8] = [
    "ITERATION",
    "DIFFERENCE",
    "PRIMAL",
    "DUAL",
    "OUTER",
    "INCUMBENT",
    "GAP",
    "TIME",
];

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
