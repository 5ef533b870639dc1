//! Problems on their way to their answers: what `optwasm solve` and the callers that look like
//! other solvers share.
//!
//! Problems go out as one batch for each plugin. Options are checked before anything is sent. A
//! time limit becomes the jobs' deadline, and a job that meets it is answered by the last solution
//! that it published.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{SelectAll, unfold};
use optwasm_bundle::model::{Solution, Status};
use optwasm_bundle::{Plugin, Unsolved};
use optwasm_client::{Batch, Client, Memo, Order, Outcome, Report};

use crate::args::{JobArgs, ProgressArg, QueueArgs};
use crate::exit::{Exit, Failure};
use crate::inputs;
use crate::progress::Progress;
use crate::run_batch::Signals;

/// Largest problem file. Readers need several times its size, and a guest has at most 4 GiB.
pub const PROBLEM_MAX: u64 = 512 << 20;

/// What to type to learn about plugins.
const LIST: &str = "List plugins and what they read with: optwasm plugins";

/// A problem and who solves it.
pub struct Problem {
    pub name: String,
    pub plugin: &'static Plugin,
    pub bytes: Bytes,
}

/// Under which terms problems are solved.
pub struct Terms<'a> {
    /// Options of the plugins.
    pub options: Vec<(String, String)>,
    /// Wall-clock time for each, after which its best solution is the answer.
    pub time_limit: Option<Duration>,
    pub job: &'a JobArgs,
    pub queue: &'a QueueArgs,
    /// Whether the jobs are to end with this process, wherever they run.
    pub attached: bool,
}

/// How a problem was answered.
pub struct Answer {
    pub report: Report,
    /// What the plugin found, where it found anything.
    pub solution: Option<Solution>,
}

impl Answer {
    /// The exit code of a command that asked for this alone.
    pub fn exit(&self) -> Exit {
        match (&self.solution, Exit::of(&self.report.outcome)) {
            // A job that succeeded without a solution in its output.
            (None, Exit::Success) => Exit::JobsFailed,
            (Some(solution), Exit::Deadline) if !solution.values.is_empty() => Exit::Success,
            (_, exit) => exit,
        }
    }
}

/// Reads a problem file, `-` for stdin, and finds the plugin for it unless one is named.
pub fn read_problem(file: &Path, plugin: Option<&str>) -> Result<Problem, Failure> {
    let (name, bytes) = if file.as_os_str() == "-" {
        ("stdin".to_owned(), inputs::read_stdin(PROBLEM_MAX)?)
    } else {
        let bytes = inputs::read_file(file, PROBLEM_MAX)?;
        (file.display().to_string(), bytes)
    };
    let plugin = match plugin {
        Some(plugin) => find_plugin(plugin)?,
        None => optwasm_bundle::detect(&bytes, Some(&name))
            .map_err(|why: Unsolved| Failure::usage(format!("{name}: {why}")).next(LIST))?,
    };
    Ok(Problem {
        name,
        plugin,
        bytes,
    })
}

/// The plugin of that name.
pub fn find_plugin(name: &str) -> Result<&'static Plugin, Failure> {
    optwasm_bundle::find(name).ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("there is no plugin `{name}`")).next(LIST)
    })
}

/// Checks every option against the manifest of every plugin that gets it.
fn check_options(problems: &[Problem], options: &[(String, String)]) -> Result<(), Failure> {
    let mut checked: Vec<&str> = Vec::new();
    for problem in problems {
        let plugin = problem.plugin.name();
        if checked.contains(&plugin) {
            continue;
        }
        checked.push(plugin);
        for (name, value) in options {
            check_option(problem.plugin, name, value)?;
        }
    }
    Ok(())
}

/// Checks an option against the plugin's manifest.
pub fn check_option(plugin: &Plugin, name: &str, value: &str) -> Result<(), Failure> {
    plugin.manifest.check(name, value).map_err(|error| {
        let name = plugin.name();
        Failure::usage(error).next(format!("List its options with: optwasm plugins {name}"))
    })
}

/// A batch of problems for one plugin.
struct Part<'a> {
    batch: Batch<'a>,
    /// Places of its problems.
    places: Vec<usize>,
    progress: Progress,
}

/// Solves all problems and hands the answers, in the order in which they come, to `take`, each with
/// its place among the problems. Returns the signal that stopped it, if one did.
///
/// `local` says that the client runs jobs in this process.
pub async fn solve(
    client: &Client,
    local: bool,
    problems: &[Problem],
    terms: &Terms<'_>,
    wait_timeout: Option<Duration>,
    quiet: bool,
    mut take: impl FnMut(usize, Answer) -> Result<(), Failure>,
) -> Result<Option<Exit>, Failure> {
    check_options(problems, &terms.options)?;
    let mut signals = Signals::listen()?;
    let mut parts = submit(client, problems, terms, quiet).await?;
    let mut results = SelectAll::new();
    let mut watches = SelectAll::new();
    for (part, Part { batch, .. }) in parts.iter().enumerate() {
        let stream = batch.results(Order::Completion).await?;
        results.push(Box::pin(unfold(stream, move |mut stream| async move {
            let next = stream.next().await.transpose()?;
            Some(((part, next), stream))
        })));
        let stream = batch.watch().await?;
        watches.push(Box::pin(unfold(stream, move |mut stream| async move {
            let next = stream.next().await.transpose()?;
            Some(((part, next), stream))
        })));
    }
    loop {
        tokio::select! {
            biased;
            signal = signals.next() => {
                for Part { batch, progress, .. } in &parts {
                    progress.finish();
                    if terms.attached {
                        // Where that cannot be said, the coordinator will notice.
                        let _ = tokio::time::timeout(FAREWELL, batch.cancel()).await;
                    } else if local {
                        batch.cancel().await?;
                    } else {
                        eprintln!("optwasm: batch {0} goes on. Come back with: optwasm results {0}", batch.id());
                    }
                }
                return Ok(Some(signal));
            }
            result = results.next() => {
                let Some((part, result)) = result else { break };
                let (index, report) = result?;
                let place = parts[part].places[index as usize];
                let answer = answer(client, report, problems[place].plugin, terms).await?;
                parts[part].progress.suspend(|| take(place, answer))?;
            }
            Some((part, status)) = watches.next() => {
                let status = status?;
                let waited = parts[part].progress.update(&status);
                if let (Some(waited), Some(limit)) = (waited, wait_timeout)
                    && waited >= limit
                {
                    for Part { batch, progress, .. } in &parts {
                        progress.finish();
                        batch.cancel().await?;
                    }
                    let limit = humantime::format_duration(limit);
                    return Err(Failure::new(Exit::TimedOut, format!("no worker took a job for {limit}")));
                }
            }
        }
    }
    for part in &parts {
        part.progress.finish();
    }
    Ok(None)
}

/// Submits a batch for each plugin that is needed.
async fn submit<'a>(
    client: &'a Client,
    problems: &[Problem],
    terms: &Terms<'_>,
    quiet: bool,
) -> Result<Vec<Part<'a>>, Failure> {
    let mut parts: Vec<Part<'_>> = Vec::new();
    let mut groups: Vec<(&Plugin, Vec<usize>)> = Vec::new();
    for (place, problem) in problems.iter().enumerate() {
        match groups
            .iter_mut()
            .find(|(plugin, _)| plugin.name() == problem.plugin.name())
        {
            Some((_, places)) => places.push(place),
            None => groups.push((problem.plugin, vec![place])),
        }
    }
    let several = groups.len() > 1;
    for (plugin, places) in groups {
        let module = Bytes::from_static(plugin.wasm);
        let mut spec = inputs::batch_spec(client, module, terms.job, terms.queue).await?;
        let options = terms.options.iter();
        let options = options.map(|(name, value)| format!("{name}={value}"));
        spec.template.args.extend(options);
        if let Some(limit) = terms.time_limit {
            spec.template.limits.deadline_ms = millis(limit);
            // The default budget of fuel is some ten minutes' work.
            if terms.job.fuel.is_none() {
                spec.template.limits.fuel = u64::MAX;
            }
            // One job that waits for the same one of another caller would wait for all its time, and
            // then begin its own.
            if spec.memo == Memo::On {
                spec.memo = Memo::Refresh;
            }
            // What ran out of time once is answered, not tried again.
            if spec.retry_on.is_empty() {
                spec.retry_on = RETRIED.map(str::to_owned).to_vec();
            }
        }
        spec.attached = terms.attached;
        if let (Some(key), true) = (&mut spec.id, several) {
            // Each batch needs a key of its own.
            key.push('/');
            key.push_str(plugin.name());
        }
        let contents = places.iter().map(|place| problems[*place].bytes.clone());
        let batch = match client.submit(spec, contents).await {
            Ok(batch) => batch,
            Err(error) => {
                // All or nothing, as far as that can be said.
                for Part { batch, .. } in &parts {
                    let _ = tokio::time::timeout(FAREWELL, batch.cancel()).await;
                }
                return Err(error.into());
            }
        };
        // Two bars would write over each other.
        let how = match quiet || !parts.is_empty() {
            true => ProgressArg::None,
            false => ProgressArg::Auto,
        };
        let progress = Progress::new(places.len() as u32, how);
        parts.push(Part {
            batch,
            places,
            progress,
        });
    }
    Ok(parts)
}

/// How long an interrupted caller tries to tell the coordinator.
const FAREWELL: Duration = Duration::from_secs(2);

/// Outcomes after which a job with a time limit is tried again: those after which any job is, but
/// for the deadline.
const RETRIED: [&str; 3] = ["host-out-of-memory", "host-panic", "stack-overflow"];

/// A time in seconds, as solvers take it: `20`, `0.5`, `1e3`. Infinity is a thousand years.
pub fn seconds(text: &str) -> Option<Duration> {
    /// More than anybody waits, and little enough for every clock.
    const LONG: f64 = 3e10;
    let seconds: f64 = text.parse().ok()?;
    (seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(LONG)))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// What a report says about its problem.
async fn answer(
    client: &Client,
    report: Report,
    plugin: &Plugin,
    terms: &Terms<'_>,
) -> Result<Answer, Failure> {
    let solution = match &report.outcome {
        Outcome::Ok(output) => Solution::from_cbor(&client.fetch(output).await?).ok(),
        Outcome::Deadline if terms.time_limit.is_some() => {
            Some(best(&report, plugin, Status::TimeLimit))
        }
        Outcome::OutOfFuel => Some(best(&report, plugin, Status::FuelLimit)),
        _ => None,
    };
    Ok(Answer { report, solution })
}

/// The best solution that a job published before a limit ended it.
fn best(report: &Report, plugin: &Plugin, status: Status) -> Solution {
    let incumbent = report.incumbent.as_ref();
    let published = incumbent.and_then(|found| Solution::from_cbor(&found.solution).ok());
    let nothing = || Solution::without_values(status, plugin.manifest.solver.clone());
    let mut solution = published.unwrap_or_else(nothing);
    solution.status = status;
    solution
}
