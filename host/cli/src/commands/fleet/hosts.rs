//! `optwasm fleet ssh`, `status`, `stop` and `logs`: workers on the hosts of a file, and detached ones on
//! this machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use optwasm_fleet::hosts::{Host, HostsError, load};
use optwasm_fleet::ssh::{Fleet, Report, Started, Stopped, programs};
use optwasm_fleet::{HostError, Running, Ssh};
use serde_json::{Value as Json, json};

use super::{Reach, one_line, own_program, worker_secret, worker_spec};
use crate::args::{Format, LogsArgs, ReachArgs, SshArgs, StatusArgs, StopArgs};
use crate::exit::{Exit, Failure};
use crate::output::{print, table};
use crate::settings::Settings;

/// What became of one worker.
pub(super) struct Line {
    /// Its host, or its name on this machine.
    pub host: String,
    /// What is the case, or why nothing was done.
    pub result: Result<(String, Option<Running>), HostError>,
}

pub async fn start(settings: &Settings, args: SshArgs) -> Result<Exit, Failure> {
    let hosts = read_hosts(&args.hosts)?;
    let fleet = reached(&args.name.fleet, &args.reach)?;
    let mut worker = worker_spec(settings, Reach::Elsewhere, &args.worker)?;
    let own: Vec<PathBuf> = if args.programs.is_empty() {
        vec![own_program()?]
    } else {
        args.programs
    };
    let programs = programs(own.iter().map(PathBuf::as_path)).map_err(|(path, error)| {
        Failure::new(Exit::NotFound, format!("{}: {error}", path.display()))
    })?;
    let file = args.worker.worker_token_file.as_deref();
    let secret = worker_secret(settings, file, &mut worker).await?;
    let reports = fleet.start(&hosts, &worker, &programs, &secret).await;
    show(fleet.name(), args.reach.output, lines(reports, started))
}

pub async fn status(args: StatusArgs) -> Result<Exit, Failure> {
    let fleet = reached(&args.name.fleet, &args.reach)?;
    let lines = match (&args.which.hosts, args.which.local) {
        (Some(path), _) => lines(fleet.status(&read_hosts(path)?).await, status_of),
        (None, count) => here(fleet.status_here(count.unwrap_or(0)).await, status_of),
    };
    show(fleet.name(), args.reach.output, lines)
}

pub async fn stop(args: StopArgs) -> Result<Exit, Failure> {
    let fleet = reached(&args.name.fleet, &args.reach)?;
    let how = |stopped| {
        let text = match stopped {
            Stopped::NotRunning => "was not running",
            Stopped::Ended => "stopped",
            Stopped::Killed => "killed: it did not end in time",
        };
        (text.to_owned(), None)
    };
    let grace: Duration = args.grace;
    let lines = match (&args.which.hosts, args.which.local) {
        (Some(path), _) => lines(fleet.stop(&read_hosts(path)?, grace).await, how),
        (None, count) => here(fleet.stop_here(count.unwrap_or(0), grace).await, how),
    };
    show(fleet.name(), args.reach.output, lines)
}

pub async fn logs(args: LogsArgs) -> Result<Exit, Failure> {
    let fleet = reached(&args.name.fleet, &args.reach)?;
    let mut all = Vec::new();
    match (&args.which.hosts, args.which.local) {
        (Some(path), _) => {
            for report in fleet.logs(&read_hosts(path)?, args.lines).await {
                all.push((report.host.id(), report.result));
            }
        }
        (None, count) => {
            for n in 1..=count.unwrap_or(0) {
                all.push((local_name(n), fleet.logs_here(n, args.lines).await));
            }
        }
    }
    let mut failed = false;
    for (host, result) in all {
        match result {
            Ok(Some(log)) => {
                print(format_args!("==> {host} <=="))?;
                print(log.trim_end())?;
            }
            Ok(None) => print(format_args!("==> {host}: no log <=="))?,
            Err(error) => {
                failed = true;
                eprintln!("optwasm: {host}: {}", one_line(&error));
            }
        }
    }
    Ok(exit(failed))
}

/// The hosts of a file.
fn read_hosts(path: &Path) -> Result<Vec<Host>, Failure> {
    let hosts = load(path).map_err(|error| match error {
        HostsError::Io(..) => Failure::new(Exit::NotFound, error),
        HostsError::Line { .. } => Failure::usage(format!("{}: {error}", path.display())),
    })?;
    if hosts.is_empty() {
        return Err(Failure::usage(format!("{}: no hosts", path.display())));
    }
    Ok(hosts)
}

fn reached(name: &str, reach: &ReachArgs) -> Result<Fleet, Failure> {
    let mut fleet = Fleet::new(name)?;
    fleet.ssh = Ssh {
        program: reach.ssh.clone(),
        options: reach.ssh_args.clone(),
        ..Ssh::default()
    };
    fleet.parallel = reach.parallel as usize;
    fleet.limit = reach.limit;
    fleet.root.clone_from(&reach.root);
    Ok(fleet)
}

/// The name of a detached worker of this machine.
fn local_name(n: u32) -> String {
    format!("local-{n}")
}

pub(super) fn started(started: Started) -> (String, Option<Running>) {
    let text = match (started.already, started.copied) {
        (true, _) => "was running",
        (false, true) => "started, program copied",
        (false, false) => "started",
    };
    (text.to_owned(), Some(started.running))
}

fn status_of(running: Option<Running>) -> (String, Option<Running>) {
    let text = if running.is_some() {
        "running"
    } else {
        "not running"
    };
    (text.to_owned(), running)
}

fn lines<T>(reports: Vec<Report<T>>, text: impl Fn(T) -> (String, Option<Running>)) -> Vec<Line> {
    let line = |report: Report<T>| Line {
        host: report.host.id(),
        result: report.result.map(&text),
    };
    reports.into_iter().map(line).collect()
}

pub(super) fn here<T>(
    results: Vec<Result<T, HostError>>,
    text: impl Fn(T) -> (String, Option<Running>),
) -> Vec<Line> {
    let line = |(n, result): (u32, Result<T, HostError>)| Line {
        host: local_name(n),
        result: result.map(&text),
    };
    (1..).zip(results).map(line).collect()
}

/// Prints what became of each; some failure is the command's.
pub(super) fn show(fleet: &str, output: Format, lines: Vec<Line>) -> Result<Exit, Failure> {
    let failed = lines.iter().any(|line| line.result.is_err());
    let json = |line: &Line| match &line.result {
        Ok((state, running)) => json!({
            "schema": "optwasm.fleet-worker/1",
            "host": line.host,
            "state": state,
            "pid": running.as_ref().map(|running| running.pid),
            "age_s": running.as_ref().map(|running| running.age.as_secs()),
            "kept_by": running.as_ref().map(|running| &running.via),
            "version": running.as_ref().map(|running| &running.version),
        }),
        Err(error) => json!({
            "schema": "optwasm.fleet-worker/1",
            "host": line.host,
            "state": "failed",
            "error": one_line(error),
        }),
    };
    match output {
        Format::Quiet => {}
        Format::Json => {
            let all: Json = lines.iter().map(json).collect();
            print(json!({ "schema": "optwasm.fleet/1", "fleet": fleet, "workers": all }))?;
        }
        Format::Jsonl => lines.iter().try_for_each(|line| print(json(line)))?,
        Format::Table => {
            let mut table = table(["HOST", "STATE", "PID", "AGE", "VERSION"]);
            for line in &lines {
                let row = match &line.result {
                    Ok((state, Some(running))) => [
                        state.clone(),
                        running.pid.to_string(),
                        humantime::format_duration(running.age).to_string(),
                        running.version.clone(),
                    ],
                    Ok((state, None)) => {
                        [state.clone(), String::new(), String::new(), String::new()]
                    }
                    Err(error) => [
                        format!("failed: {}", one_line(error)),
                        String::new(),
                        String::new(),
                        String::new(),
                    ],
                };
                table.add_row(std::iter::once(line.host.clone()).chain(row));
            }
            print(table)?;
        }
    }
    Ok(exit(failed))
}

fn exit(failed: bool) -> Exit {
    if failed {
        Exit::JobsFailed
    } else {
        Exit::Success
    }
}
