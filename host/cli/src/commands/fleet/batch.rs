//! `optwasm fleet slurm`, `pbs`, `torque`, `sge` and `lsf`: as many workers as the queue needs.

use std::time::Duration;

use optwasm_client::Offer;
use optwasm_fleet::LABEL_FLEET;
use optwasm_fleet::batch::scaler::{Config, Failure as ScalerFailure};
use optwasm_fleet::batch::script::{JobSpec, ScriptError};
use optwasm_fleet::batch::system::System;
use optwasm_fleet::batch::{BatchError, Settings as BatchSettings};
use tokio::sync::watch;

use super::observer::Observer;
use super::{Reach, own_program, tell, worker_secret, worker_spec};
use crate::args::{BatchSystemArgs, PaceArgs};
use crate::exit::{Exit, Failure};
use crate::output::print;
use crate::run_batch::Signals;
use crate::settings::Settings;

pub async fn run(
    settings: &Settings,
    system: System,
    args: BatchSystemArgs,
) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?.with_hangup()?;
    let mut job = job(settings, system, &args)?;
    let file = args.worker.worker_token_file.as_deref();
    if args.dry_run {
        // Without a coordinator there is a script, too.
        if let Ok(Some(token)) = settings.worker_token(file) {
            job.worker.coordinator = Some(token.fingerprint.to_string());
        }
        print(job.render().map_err(Failure::usage)?.trim_end())?;
        return Ok(Exit::Success);
    }
    let secret = worker_secret(settings, file, &mut job.worker).await?;
    let offer = offer(&job);
    let observer = Observer::connect(settings, &job.name, offer).await?;
    let fleet = paced(BatchSettings::new(job, args.max), args.min, &args.pace);
    let (stop, stopped) = watch::channel(false);
    tell(&format!(
        "the fleet {} asks for up to {} workers as jobs wait; Ctrl-C gives them back",
        fleet.job.name, args.max
    ));
    let keeping = optwasm_fleet::batch::run(fleet, &secret, observer, stopped, tell);
    tokio::pin!(keeping);
    let mut asked = false;
    loop {
        tokio::select! {
            ended = &mut keeping => return ended.map(|()| Exit::Success).map_err(failure),
            signal = signals.next() => {
                if asked {
                    return Ok(signal);
                }
                asked = true;
                tell("giving its jobs back; once more to leave at once, and them behind");
                stop.send_replace(true);
            }
        }
    }
}

fn job(settings: &Settings, system: System, args: &BatchSystemArgs) -> Result<JobSpec, Failure> {
    let mut worker = worker_spec(settings, Reach::Elsewhere, &args.worker)?;
    // A node may be shared with others' jobs, so what it has says little.
    worker.slots = worker.slots.or(args.cpus);
    let memory = args.job_memory.map(|bytes| (bytes / 5 * 4).to_string());
    worker.memory = worker.memory.or(memory);
    if args.min == 0 {
        // Of use only where this command does not live to give it back.
        let idle = (args.pace.idle_grace * 2).max(IDLE_MIN);
        worker.idle_timeout = worker.idle_timeout.or(Some(idle));
    }
    let program = match &args.program {
        Some(program) => program.clone(),
        None => own_program()?,
    };
    let template = match &args.template {
        Some(path) => Some(std::fs::read_to_string(path).map_err(|error| {
            Failure::new(Exit::NotFound, format!("{}: {error}", path.display()))
        })?),
        None => None,
    };
    let shared = &args.shared;
    let mut job = JobSpec::new(system, &args.name.fleet, shared, &program, worker);
    job.queue.clone_from(&args.queue);
    job.account.clone_from(&args.account);
    job.time = args.time;
    job.memory_mib = args.job_memory.map(|bytes| bytes.div_ceil(1 << 20));
    job.cpus = args.cpus;
    job.directives.clone_from(&args.directives);
    job.modules.clone_from(&args.modules);
    job.prologue.clone_from(&args.prologue);
    job.scratch.clone_from(&args.scratch);
    job.template = template;
    Ok(job)
}

/// Least time without work after which a worker leaves by itself: the first job has come by then.
const IDLE_MIN: Duration = Duration::from_secs(60);

/// What a worker of these batch jobs offers when it joins.
fn offer(job: &JobSpec) -> Offer {
    let worker = &job.worker;
    let mut labels = worker.labels.clone();
    labels.insert(LABEL_FLEET.to_owned(), job.name.clone());
    Offer {
        // Where nobody says, the node decides, of which nothing is known here.
        memory: worker
            .memory
            .as_deref()
            .and_then(|text| text.parse().ok())
            .unwrap_or(u64::MAX),
        labels,
        stay: job.stay().map(optwasm_worker::whole_stay),
    }
}

fn paced(settings: BatchSettings, min: u32, pace: &PaceArgs) -> BatchSettings {
    let slots = settings.job.worker.slots.unwrap_or(1);
    BatchSettings {
        config: Config {
            min,
            jobs_per_worker: pace.jobs_per_worker.unwrap_or(slots),
            submit_every: pace.submit_every,
            poll: pace.poll,
            idle_grace: pace.idle_grace,
            vanish_grace: pace.vanish_grace,
            join_grace: pace.join_grace,
            max_failures: pace.max_failures,
            max_retries: pace.max_retries,
            backoff: pace.backoff,
            ..settings.config
        },
        programs: pace.programs.clone(),
        limit: pace.command_limit,
        observe_every: pace.observe_every,
        ..settings
    }
}

fn failure(error: BatchError) -> Failure {
    let exit = match &error {
        BatchError::Script(ScriptError::InUse(_)) => {
            return Failure::usage(error).next("Name another one with --fleet NAME");
        }
        BatchError::Script(ScriptError::NotOwn(_)) => {
            return Failure::usage(error)
                .next("Type `chmod go-w` on it, or name another folder with --shared DIR");
        }
        BatchError::User(_) => Exit::Bug,
        BatchError::Script(_) => Exit::Usage,
        BatchError::Failed(ScalerFailure::Broken { .. } | ScalerFailure::Left { .. }) => {
            Exit::JobsFailed
        }
        BatchError::Failed(ScalerFailure::Unanswered { .. }) | BatchError::Coordinator(_) => {
            Exit::Unreachable
        }
    };
    Failure::new(exit, error)
}
