//! `optwasm solve`: problem files, each solved by the plugin that its content asks for.

use std::io::Write;
use std::path::Path;

use bytes::Bytes;
use optwasm_bundle::Plugin;
use optwasm_bundle::solution::Solution;
use optwasm_client::{Client, Order, Outcome, Report};
use serde_json::{Value as Json, json};

use crate::args::{Format, SolveArgs};
use crate::commands::run::client;
use crate::exit::{Exit, Failure};
use crate::inputs;
use crate::output::{print, table};
use crate::progress::Progress;
use crate::run_batch::Signals;
use crate::settings::Settings;
use crate::units::{show_count, show_micros};
use crate::values;

/// A problem on its way to its answer.
struct Problem {
    name: String,
    plugin: &'static Plugin,
    bytes: Bytes,
    answer: Option<Answer>,
}

/// How a problem was answered.
struct Answer {
    report: Report,
    /// What the plugin returned, and what that says, where the job succeeded.
    solution: Option<(Bytes, Solution)>,
}

pub async fn run(settings: &Settings, args: SolveArgs) -> Result<Exit, Failure> {
    let mut problems = Vec::with_capacity(args.files.len());
    for file in &args.files {
        problems.push(read_problem(file, args.plugin.as_deref())?);
    }
    if args.solution.is_some() && problems.len() > 1 {
        return Err(Failure::usage("--solution takes the solution of one file"));
    }
    let (client, local) = client(settings, &args.place).await?;
    let stopped = solve(&client, local, &args, &mut problems).await?;
    client.close().await;
    if let Some(signal) = stopped {
        return Ok(signal);
    }
    print_answers(&args, &problems)?;
    if let (Some(path), [problem]) = (&args.solution, &problems[..])
        && let Some(Answer {
            solution: Some(solution),
            ..
        }) = &problem.answer
    {
        write_solution(path, solution)?;
    }
    let answers = problems
        .iter()
        .filter_map(|problem| problem.answer.as_ref());
    let mut failed = answers.filter(|answer| answer.solution.is_none());
    Ok(match (failed.next(), problems.len()) {
        (None, _) => Exit::Success,
        (Some(answer), 1) => match Exit::of(&answer.report.outcome) {
            // A job that succeeded without a solution in its output.
            Exit::Success => Exit::JobsFailed,
            exit => exit,
        },
        _ => Exit::JobsFailed,
    })
}

fn read_problem(file: &Path, plugin: Option<&str>) -> Result<Problem, Failure> {
    let (name, bytes) = if file.as_os_str() == "-" {
        ("stdin".to_owned(), inputs::read_stdin()?)
    } else {
        (file.display().to_string(), inputs::read_file(file)?)
    };
    let list = "List plugins and what they read with: optwasm plugins";
    let plugin = match plugin {
        Some(plugin) => optwasm_bundle::find(plugin).ok_or_else(|| {
            Failure::new(Exit::NotFound, format!("there is no plugin `{plugin}`")).next(list)
        })?,
        None => optwasm_bundle::detect(&bytes, Some(&name)).ok_or_else(|| {
            Failure::usage(format!("{name}: no plugin reads what is in it")).next(list)
        })?,
    };
    Ok(Problem {
        name,
        plugin,
        bytes,
        answer: None,
    })
}

/// Solves all problems, a batch for each plugin. Returns the signal that stopped it, if one did.
async fn solve(
    client: &Client,
    local: bool,
    args: &SolveArgs,
    problems: &mut [Problem],
) -> Result<Option<Exit>, Failure> {
    let mut signals = Signals::listen()?;
    let mut batches = Vec::new();
    for plugin in optwasm_bundle::plugins() {
        let wanted = problems.iter().enumerate();
        let wanted: Vec<usize> = wanted
            .filter(|(_, problem)| problem.plugin.name == plugin.name)
            .map(|(place, _)| place)
            .collect();
        if wanted.is_empty() {
            continue;
        }
        let module = Bytes::from_static(plugin.wasm);
        let spec = inputs::batch_spec(client, module, &args.job, &args.queue).await?;
        let contents = wanted.iter().map(|place| problems[*place].bytes.clone());
        batches.push((client.submit(spec, contents).await?, wanted));
    }
    for (batch, places) in &batches {
        let quiet = args.output == Format::Quiet;
        let mut progress = Progress::new(places.len() as u32, quiet);
        let mut results = batch.results(Order::Input).await?;
        let mut watch = batch.watch().await?;
        let mut watching = true;
        loop {
            tokio::select! {
                biased;
                signal = signals.next() => {
                    progress.finish();
                    for (batch, _) in &batches {
                        if local {
                            batch.cancel().await?;
                        } else {
                            eprintln!("optwasm: batch {0} goes on. Come back with: optwasm results {0}", batch.id());
                        }
                    }
                    return Ok(Some(signal));
                }
                result = results.next() => match result? {
                    Some((index, report)) => {
                        let problem = &mut problems[places[index as usize]];
                        problem.answer = Some(answer(client, report).await?);
                    }
                    None => break,
                },
                status = watch.next(), if watching => match status? {
                    Some(status) => {
                        let waited = progress.update(&status);
                        if let (Some(waited), Some(limit)) = (waited, args.place.wait_timeout)
                            && waited >= limit
                        {
                            progress.finish();
                            for (batch, _) in &batches {
                                batch.cancel().await?;
                            }
                            return Err(Failure::new(Exit::TimedOut, format!(
                                "no worker took a job for {}", humantime::format_duration(limit)
                            )));
                        }
                    }
                    None => watching = false,
                },
            }
        }
        progress.finish();
    }
    Ok(None)
}

async fn answer(client: &Client, report: Report) -> Result<Answer, Failure> {
    let solution = match &report.outcome {
        Outcome::Ok(output) => {
            let bytes = client.fetch(output).await?;
            Solution::from_cbor(&bytes)
                .ok()
                .map(|solution| (bytes, solution))
        }
        _ => None,
    };
    Ok(Answer { report, solution })
}

fn print_answers(args: &SolveArgs, problems: &[Problem]) -> Result<(), Failure> {
    match args.output {
        Format::Quiet => {}
        // One line for each file, for both: what reads one answer then reads many.
        Format::Json | Format::Jsonl => {
            for problem in problems {
                print(json_of(problem))?;
            }
        }
        Format::Table => {
            let mut table = table([
                "FILE",
                "STATUS",
                "OBJECTIVE",
                "FUEL",
                "TIME",
                "SOLVER",
                "WORKER",
            ]);
            for problem in problems {
                let Some(answer) = &problem.answer else {
                    continue;
                };
                let (status, objective, solver) = match &answer.solution {
                    Some((_, solution)) => (
                        solution.status.as_str().to_owned(),
                        solution
                            .objective
                            .map_or_else(String::new, |o| format!("{o:.10}")),
                        solution.solver.clone(),
                    ),
                    None => (
                        answer.report.outcome.to_string(),
                        String::new(),
                        problem.plugin.name.to_owned(),
                    ),
                };
                table.add_row([
                    problem.name.clone(),
                    status,
                    objective,
                    show_count(answer.report.fuel),
                    show_micros(answer.report.wall_us),
                    solver,
                    answer.report.worker.clone(),
                ]);
            }
            print(table)?;
        }
    }
    for problem in problems {
        let message = match &problem.answer {
            Some(Answer {
                solution: Some((_, solution)),
                ..
            }) => solution.message.clone(),
            Some(Answer { report, .. }) => Some(report.outcome.to_string()),
            None => None,
        };
        if let Some(message) = message {
            // A message that cannot be written has nowhere to go.
            let _ = writeln!(std::io::stderr(), "optwasm: {}: {message}", problem.name);
        }
    }
    Ok(())
}

fn json_of(problem: &Problem) -> Json {
    let mut row = json!({
        "schema": "optwasm.answer/1",
        "file": problem.name,
        "plugin": problem.plugin.name,
    });
    let Some(Answer { report, solution }) = &problem.answer else {
        return row;
    };
    row["outcome"] = report.outcome.name().into();
    row["fuel"] = report.fuel.into();
    row["wall_us"] = report.wall_us.into();
    row["worker"] = report.worker.clone().into();
    match solution {
        Some((_, solution)) => {
            row["status"] = solution.status.as_str().into();
            row["objective"] = json!(solution.objective);
            row["bound"] = json!(solution.bound);
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

fn write_solution(path: &Path, (bytes, solution): &(Bytes, Solution)) -> Result<(), Failure> {
    let text = if path
        .extension()
        .is_some_and(|extension| extension == "json")
    {
        format!("{}\n", values::json_of_output(bytes, true))
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
    std::fs::write(path, text)
        .map_err(|error| Failure::new(Exit::Storage, format!("{}: {error}", path.display())))
}
