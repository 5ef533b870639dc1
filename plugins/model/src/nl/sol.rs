//! AMPL's `.sol` files: what a solver answers to a `.nl` file.
//!
//! The text form is: the solver's message, an empty line, `Options` and the
//! numbers that the `.nl` file's first line gives, the numbers of constraints
//! and variables and of the values given for them, the duals, the values,
//! `objno 0` with a code, and suffixes. Duals and reduced costs have AMPL's
//! signs, which are those of [`Solution`]: the rate at which the objective,
//! in its own direction, changes with the right-hand side or the bound.

use super::writer::number_text;
use super::{NlModel, Suffix, SuffixTarget};
use crate::{Sense, Solution, Status};

/// The code that AMPL calls `solve_result_num`. AMPL and the readers made
/// after it, such as Pyomo's, go by the hundreds: from 0 solved, from 100
/// solved with a warning, from 200 infeasible, from 300 unbounded, from 400
/// stopped by a limit, from 500 failed.
///
/// [`Status::Feasible`] counts as stopped: for it nobody claims an optimum.
/// 299 for what is infeasible or unbounded is MP's choice.
pub fn solve_result_num(status: Status) -> u16 {
    match status {
        Status::Optimal | Status::Sat => 0,
        Status::OptimalInaccurate => 100,
        Status::Infeasible | Status::Unsat => 200,
        Status::InfeasibleOrUnbounded => 299,
        Status::Unbounded => 300,
        Status::IterationLimit => 400,
        Status::TimeLimit => 401,
        Status::FuelLimit => 402,
        Status::Feasible => 403,
        Status::NumericalFailure => 500,
        Status::Unknown => 501,
    }
}

/// Writes the `.sol` file that answers to `model`.
///
/// Reduced costs become the suffix `rc`, and `ipopt_zL_out` and
/// `ipopt_zU_out`, which Pyomo reads of Ipopt: the parts of them that belong
/// to lower and to upper bounds. Values or duals that are not as many as the
/// model's variables or constraints are left out.
pub fn write_sol(model: &NlModel, solution: &Solution, suffixes: &[Suffix]) -> Vec<u8> {
    let mut out = String::new();
    out.push_str(&format!("{}: {}\n", solution.solver, solution.status));
    // An empty line would end the message.
    let message = solution.message.as_deref().unwrap_or_default();
    for line in message.lines().filter(|line| !line.trim().is_empty()) {
        out.push_str(line.trim());
        out.push('\n');
    }
    out.push_str("\nOptions\n");
    options(&mut out, model, solution);
    let [m, n] = [model.constraints.len(), model.variables.len()];
    for values in [full(&solution.duals, m), full(&solution.values, n)] {
        for &value in values {
            out.push_str(&number_text(value));
            out.push('\n');
        }
    }
    let code = solve_result_num(solution.status);
    out.push_str(&format!("objno 0 {code}\n"));
    for suffix in bound_suffixes(model, solution).iter().chain(suffixes) {
        write_suffix(&mut out, suffix);
    }
    out.into_bytes()
}

/// The vector if it is as long as it should be.
fn full(values: &[f64], length: usize) -> &[f64] {
    if values.len() == length { values } else { &[] }
}

fn options(out: &mut String, model: &NlModel, solution: &Solution) {
    /// What AMPL writes if nothing is set; readers want three at least.
    const USUAL: [i64; 3] = [1, 1, 0];

    let options = match model.options.len() {
        0..=2 => &USUAL[..],
        _ => &model.options[..],
    };
    // With a tolerance the number of options is two more than there are.
    let tolerance = model.tolerance.filter(|_| options.get(1) == Some(&3));
    let count = options.len() + if tolerance.is_some() { 2 } else { 0 };
    let [m, n] = [model.constraints.len(), model.variables.len()];
    let duals = full(&solution.duals, m).len();
    let values = full(&solution.values, n).len();
    out.push_str(&format!("{count}\n"));
    for option in options {
        out.push_str(&format!("{option}\n"));
    }
    out.push_str(&format!("{m}\n{duals}\n{n}\n{values}\n"));
    if let Some(tolerance) = tolerance {
        out.push_str(&number_text(tolerance));
        out.push('\n');
    }
}

/// The reduced costs as suffixes of the variables.
fn bound_suffixes(model: &NlModel, solution: &Solution) -> Vec<Suffix> {
    let costs = full(&solution.reduced_costs, model.variables.len());
    if costs.is_empty() {
        return Vec::new();
    }
    // A lower bound that is raised makes a minimum greater, a maximum less.
    let at_lower = |cost: f64| match model.sense() {
        Sense::Minimize => cost > 0.0,
        Sense::Maximize => cost < 0.0,
    };
    let suffix = |name: &str, holds: &dyn Fn(f64) -> bool| Suffix {
        name: name.to_owned(),
        target: SuffixTarget::Variables,
        real: true,
        values: costs
            .iter()
            .map(|&cost| if holds(cost) { cost } else { 0.0 })
            .enumerate()
            .collect(),
    };
    vec![
        suffix("rc", &|_| true),
        suffix("ipopt_zL_out", &|cost| at_lower(cost)),
        suffix("ipopt_zU_out", &|cost| !at_lower(cost)),
    ]
}

/// `suffix kind values length-of-name length-of-table lines-of-table`, the
/// name, and the values; there are no tables here.
fn write_suffix(out: &mut String, suffix: &Suffix) {
    let target = match suffix.target {
        SuffixTarget::Variables => 0,
        SuffixTarget::Constraints => 1,
        SuffixTarget::Objectives => 2,
        SuffixTarget::Problem => 3,
    };
    let kind = target | if suffix.real { 4 } else { 0 };
    let values = suffix.values.len();
    // C counts the byte that ends the string.
    let length = suffix.name.len() + 1;
    out.push_str(&format!(
        "suffix {kind} {values} {length} 0 0\n{}\n",
        suffix.name
    ));
    for &(index, value) in &suffix.values {
        let value = if suffix.real {
            number_text(value)
        } else {
            format!("{}", value as i64)
        };
        out.push_str(&format!("{index} {value}\n"));
    }
}
