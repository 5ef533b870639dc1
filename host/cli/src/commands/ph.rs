//! `optwasm ph`: stochastic programs, by progressive hedging or as one program.

mod extensive;
mod files;
mod report;
mod show;
mod solvers;

use std::fs::File;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use optwasm_ph::{
    Class, Combine, DriveError, Driver, Ph, PhError, Problem, Proximal, Rho, RhoRule,
    Settings as PhSettings, Step, StopRule, WarmStart,
};

use crate::args::ph::{PhAction, PhArgs, PhRunArgs, ProgramArgs, RhoRuleArg};
use crate::commands::run::{check_min_workers, client, wait_for_workers};
use crate::exit::{Exit, Failure};
use crate::inputs;
use crate::output::{self, write_file};
use crate::run_batch::Signals;
use crate::settings::Settings;

/// Largest file with weights, averages or exceptions of rho: those of some ten million variables.
const TABLE_MAX: u64 = 1 << 30;

/// rho of a variable without cost, where the others' follow from their costs: PySP's default of all.
const RHO_WITHOUT_COST: f64 = 1.0;

pub async fn run(settings: &Settings, args: PhArgs) -> Result<Exit, Failure> {
    match args.action {
        PhAction::Run(args) if args.extensive => extensive::run(settings, &args).await,
        PhAction::Run(args) => hedge(settings, &args).await,
        PhAction::Report(args) => report::run(settings, &args).await,
    }
}

/// Has `work` done by a driver whose solvers take programs of `classes`. The inner error is the
/// signal that ended it.
async fn with_driver<T>(
    settings: &Settings,
    program: &ProgramArgs,
    classes: &[Class],
    work: impl AsyncFnOnce(&mut Driver<'_>) -> Result<T, DriveError>,
) -> Result<Result<T, Exit>, Failure> {
    let chosen = solvers::choose(&program.solver, classes)?;
    let (client, local) = client(settings, &program.place).await?;
    check_min_workers(local, program.min_workers)?;
    let mut signals = Signals::listen()?;
    let mut driver = Driver::new(&client, solvers::prepare(&client, chosen, program).await?);
    let working = async {
        wait_for_workers(&client, program.min_workers, program.place.wait_timeout).await?;
        work(&mut driver).await.map_err(explain)
    };
    let done = tokio::select! {
        done = working => Ok(done?),
        signal = signals.next() => Err(signal),
    };
    if done.is_err() {
        driver.cancel().await;
    }
    drop(driver);
    client.close().await;
    Ok(done)
}

fn explain(error: DriveError) -> Failure {
    match error {
        DriveError::Client(error) => error.into(),
        DriveError::Ph(error) => {
            let failure = Failure::new(Exit::JobsFailed, &error);
            match error {
                PhError::Infeasible(_) => failure.next(
                    "So the whole program is infeasible. Look at that model alone: optwasm solve",
                ),
                PhError::Unbounded(_) => failure
                    .next("Each scenario must be bounded by itself: add bounds to its variables"),
                PhError::Failed { .. } => failure.next(
                    "Try another solver or other options: --solver, -o. List them with: optwasm \
                     plugins",
                ),
                _ => failure,
            }
        }
        DriveError::Write(error) => Failure::usage(error),
        DriveError::NoSolver(_) => Failure::new(Exit::Bug, error),
    }
}

async fn hedge(settings: &Settings, args: &PhRunArgs) -> Result<Exit, Failure> {
    let mut problem = files::read_problem(&args.program.files)?;
    if let Some(count) = args.bundles {
        problem.bundle_evenly(count);
    }
    let ph_settings = ph_settings(args, &problem)?;
    let mut ph = Ph::new(&problem, ph_settings).map_err(Failure::usage)?;
    let classes = classes(&ph, args.linearize.is_some());
    let mut log = args.log.as_deref().map(Log::create).transpose()?;
    let begun = Instant::now();
    // What could not be written of the steps; there is no use in further ones then.
    let (mut unprinted, mut unlogged) = (None::<io::Error>, None::<Failure>);
    let mut last = None;
    let heard = |_: &Ph<'_>, step: &Step| {
        let seconds = begun.elapsed().as_secs_f64();
        last = Some(step.clone());
        unprinted = show::print_step(args.output, step, seconds).err();
        unlogged = log.as_mut().and_then(|log| log.step(step, seconds).err());
        match (&unprinted, &unlogged) {
            (None, None) => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    };
    let done = with_driver(settings, &args.program, &classes, async |driver| {
        driver.hedge(&mut ph, heard).await
    })
    .await;
    // However it ended: the next run may go on from there.
    let written = match last {
        Some(_) => write_results(args, &ph),
        None => Ok(()),
    };
    if let Some(error) = unprinted {
        return Err(output::closed(error));
    }
    if let Some(failure) = unlogged {
        return Err(failure);
    }
    let done = done?;
    written?;
    if let Err(signal) = done {
        eprintln!("optwasm: stopped");
        return Ok(signal);
    }
    let last = last.ok_or_else(|| Failure::new(Exit::Bug, "it ended without a step"))?;
    show::print_summary(args.output, &show::Summary::of(&problem, &ph, &last))?;
    Ok(match ph.incumbent() {
        None if !args.no_bounds => Exit::JobsFailed,
        _ => Exit::Success,
    })
}

/// Writes the files that are asked for, all that can be written.
fn write_results(args: &PhRunArgs, ph: &Ph<'_>) -> Result<(), Failure> {
    let mut written = Ok(());
    if let Some(path) = &args.write_w {
        written = written.and(write_file(path, ph.weights_csv()));
    }
    if let Some(path) = &args.write_x {
        written = written.and(write_file(path, ph.averages_csv()));
    }
    if let (Some(path), Some(incumbent)) = (&args.solution, ph.incumbent()) {
        written = written.and(write_file(path, incumbent.values_csv(ph.units())));
    }
    written
}

/// The classes of all subproblems that can occur.
fn classes(ph: &Ph<'_>, linearized: bool) -> Vec<Class> {
    let mut classes = Vec::new();
    for unit in ph.units() {
        let class = Class::of(&unit.model);
        classes.push(class);
        if class == Class::Linear && !linearized {
            classes.push(Class::Quadratic);
        }
    }
    classes
}

/// What the arguments ask for.
fn ph_settings(args: &PhRunArgs, problem: &Problem) -> Result<PhSettings, Failure> {
    let rule = match args.rho_rule {
        RhoRuleArg::Fixed => RhoRule::Fixed(args.rho),
        RhoRuleArg::Cost => RhoRule::Cost {
            factor: args.rho,
            otherwise: RHO_WITHOUT_COST,
        },
        RhoRuleArg::Sep => RhoRule::Spread {
            factor: args.rho,
            otherwise: RHO_WITHOUT_COST,
        },
    };
    let overrides = match &args.rho_file {
        Some(path) => in_file(path, Rho::read_overrides)?,
        None => Vec::new(),
    };
    let weights = match &args.warm_start_w {
        Some(path) => in_file(path, |csv| WarmStart::read(problem, Some(csv), None))?.weights,
        None => None,
    };
    let averages = match &args.warm_start_x {
        Some(path) => in_file(path, |csv| WarmStart::read(problem, None, Some(csv)))?.averages,
        None => None,
    };
    Ok(PhSettings {
        rho: Rho { rule, overrides },
        proximal: match args.linearize {
            Some(pieces) => Proximal::Linearized {
                pieces,
                breakpoints: args.breakpoints.into(),
            },
            None => Proximal::Auto,
        },
        stop: StopRule {
            criteria: args.stop.iter().filter_map(|rule| rule.0).collect(),
            combine: match args.stop_any {
                true => Combine::Any,
                false => Combine::All,
            },
            max_iterations: args.max_iterations,
        },
        asynchronous: args.asynchronous,
        outer_bound: !args.no_bounds,
        candidates: match args.no_bounds {
            true => Vec::new(),
            false => args.candidates.iter().map(|rule| (*rule).into()).collect(),
        },
        warm_start: WarmStart { weights, averages },
    })
}

/// Reads a table; what is wrong with it is said with its name.
fn in_file<T, E: std::fmt::Display>(
    path: &Path,
    read: impl FnOnce(&[u8]) -> Result<T, E>,
) -> Result<T, Failure> {
    read(&inputs::read_file(path, TABLE_MAX)?)
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// A CSV file with a row for each iteration.
struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    fn create(path: &Path) -> Result<Self, Failure> {
        let failed = |error| Failure::new(Exit::Storage, format!("{}: {error}", path.display()));
        let mut log = Log {
            path: path.to_owned(),
            file: File::create(path).map_err(failed)?,
        };
        log.line(&Step::COLUMNS.join(","), "seconds")?;
        Ok(log)
    }

    fn step(&mut self, step: &Step, seconds: f64) -> Result<(), Failure> {
        self.line(&step.row().join(","), &format!("{seconds:.6}"))
    }

    fn line(&mut self, fields: &str, last: &str) -> Result<(), Failure> {
        writeln!(self.file, "{fields},{last}").map_err(|error| {
            Failure::new(Exit::Storage, format!("{}: {error}", self.path.display()))
        })
    }
}
