//! `optwasm solve`: problem files, each solved by the plugin that its content asks for.

use std::io::Write;
use std::path::Path;

use optwasm_bundle::model::Solution;
use serde_json::{Value as Json, json};

use crate::args::{Format, SolveArgs};
use crate::commands::run::client;
use crate::exit::{Exit, Failure};
use crate::output::{print, table, write_file};
use crate::settings::Settings;
use crate::solving::{self, Answer, Problem, Terms};
use crate::units::{show_count, show_micros};
use crate::values;

pub async fn run(settings: &Settings, args: SolveArgs) -> Result<Exit, Failure> {
    let mut problems = Vec::with_capacity(args.files.len());
    for file in &args.files {
        problems.push(solving::read_problem(file, args.plugin.as_deref())?);
    }
    if args.solution.is_some() && problems.len() > 1 {
        return Err(Failure::usage("--solution takes the solution of one file"));
    }
    let terms = terms(&args)?;
    let (client, local) = client(settings, &args.place).await?;
    let mut answers: Vec<Option<Answer>> = problems.iter().map(|_| None).collect();
    let quiet = args.output == Format::Quiet;
    let wait = args.place.wait_timeout;
    let stopped = solving::solve(
        &client,
        local,
        &problems,
        &terms,
        wait,
        quiet,
        |place, answer| {
            // One line for each file, for both: what reads one answer then reads many.
            if matches!(args.output, Format::Json | Format::Jsonl) {
                print(json_of(&problems[place], &answer))?;
            }
            answers[place] = Some(answer);
            Ok(())
        },
    )
    .await?;
    client.close().await;
    if let Some(signal) = stopped {
        return Ok(signal);
    }
    let answers: Vec<Answer> = answers.into_iter().flatten().collect();
    if args.output == Format::Table {
        print_table(&problems, &answers)?;
    }
    print_messages(&problems, &answers);
    if let (Some(path), [answer]) = (&args.solution, &answers[..])
        && let Some(solution) = &answer.solution
    {
        write_solution(path, solution)?;
    }
    Ok(match &answers[..] {
        [answer] => answer.exit(),
        _ if answers.iter().all(|answer| answer.exit() == Exit::Success) => Exit::Success,
        _ => Exit::JobsFailed,
    })
}

/// What the arguments ask for.
fn terms(args: &SolveArgs) -> Result<Terms<'_>, Failure> {
    let mut terms = Terms {
        options: args.options.option.clone(),
        time_limit: args.time_limit,
        job: &args.job,
        queue: &args.queue,
        attached: false,
    };
    // The clock in the sandbox is no clock, so a limit on time is nothing for a plugin.
    for (name, value) in &args.options.option {
        if name != "time_limit" {
            continue;
        }
        if args.time_limit.is_some() || args.job.deadline.is_some() {
            let twice = "option time_limit beside --time-limit or --deadline";
            return Err(Failure::usage(twice));
        }
        terms.time_limit = Some(solving::seconds(value).ok_or_else(|| {
            Failure::usage(format!("option time_limit={value}: expected seconds"))
        })?);
    }
    terms.options.retain(|(name, _)| name != "time_limit");
    if let Some(fuel) = args.fuel_for_best {
        let option = ("fuel_for_best".to_owned(), fuel.to_string());
        terms.options.push(option);
    }
    Ok(terms)
}

fn print_table(problems: &[Problem], answers: &[Answer]) -> Result<(), Failure> {
    let mut table = table([
        "FILE",
        "STATUS",
        "OBJECTIVE",
        "BOUND",
        "FUEL",
        "TIME",
        "SOLVER",
        "WORKER",
    ]);
    let number = |number: Option<f64>| number.map_or_else(String::new, |n| format!("{n:.10}"));
    for (problem, answer) in problems.iter().zip(answers) {
        let (status, objective, bound, solver) = match &answer.solution {
            Some(solution) => (
                solution.status.as_str().to_owned(),
                number(solution.objective),
                number(solution.bound),
                solution.solver.clone(),
            ),
            None => (
                answer.report.outcome.to_string(),
                String::new(),
                String::new(),
                problem.plugin.name().to_owned(),
            ),
        };
        table.add_row([
            problem.name.clone(),
            status,
            objective,
            bound,
            show_count(answer.report.fuel),
            show_micros(answer.report.wall_us),
            solver,
            answer.report.worker.clone(),
        ]);
    }
    print(table)
}

/// What solvers have to say, on stderr.
fn print_messages(problems: &[Problem], answers: &[Answer]) {
    for (problem, answer) in problems.iter().zip(answers) {
        let message = match &answer.solution {
            Some(solution) => solution.message.clone(),
            None => Some(answer.report.outcome.to_string()),
        };
        if let Some(message) = message {
            // A message that cannot be written has nowhere to go.
            let _ = writeln!(std::io::stderr(), "optwasm: {}: {message}", problem.name);
        }
    }
}

fn json_of(problem: &Problem, Answer { report, solution }: &Answer) -> Json {
    let mut row = json!({
        "schema": "optwasm.answer/1",
        "file": problem.name,
        "plugin": problem.plugin.name(),
        "outcome": report.outcome.name(),
        "fuel": report.fuel,
        "wall_us": report.wall_us,
        "worker": report.worker,
    });
    match solution {
        Some(solution) => {
            row["status"] = solution.status.as_str().into();
            row["objective"] = json!(solution.objective);
            row["bound"] = json!(solution.bound);
            row["gap"] = json!(solution.gap);
            row["iterations"] = json!(solution.iterations);
            row["nodes"] = json!(solution.nodes);
            row["solver"] = solution.solver.clone().into();
            row["message"] = json!(solution.message);
        }
        None => {
            row["status"] = "failed".into();
            row["error"] = report.outcome.to_string().into();
        }
    }
    row
}

fn write_solution(path: &Path, solution: &Solution) -> Result<(), Failure> {
    let text = if path
        .extension()
        .is_some_and(|extension| extension == "json")
    {
        format!("{}\n", values::json_of_output(&solution.to_cbor(), true))
    } else {
        let objective = solution
            .objective
            .map_or_else(|| "-".to_owned(), |o| o.to_string());
        let mut text = format!(
            "status {}\nobjective {objective}\n",
            solution.status.as_str()
        );
        for (name, value) in solution.variables.iter().zip(&solution.values) {
            text.push_str(&format!("{name} {value}\n"));
        }
        text
    };
    write_file(path, &text)
}
