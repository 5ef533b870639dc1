//! `optwasm fleet local`: workers on this machine, as children or detached.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::ExitStatus;

use optwasm_fleet::Children;
use optwasm_fleet::ssh::Fleet;

use super::hosts::{here, show, started};
use super::{Reach, own_program, tell, until_signal, worker_secret, worker_spec};
use crate::args::LocalArgs;
use crate::exit::{Exit, Failure};
use crate::run_batch::Signals;
use crate::settings::Settings;

pub async fn run(settings: &Settings, args: LocalArgs) -> Result<Exit, Failure> {
    let fleet = Fleet::new(&args.name.fleet)?;
    let mut worker = worker_spec(settings, Reach::Here, &args.worker)?;
    let file = args.worker.worker_token_file.as_deref();
    let secret = worker_secret(settings, file, &mut worker).await?;
    let program = own_program()?;
    if args.detach {
        return until_signal(async {
            let started_all = fleet.start_here(args.workers, &worker, &program, &secret);
            let results = started_all.await;
            show(fleet.name(), args.output, here(results, started))
        })
        .await;
    }
    let mut signals = Signals::listen()?.with_hangup()?;
    let dir = settings.dir.join("fleet").join(fleet.name());
    let _lock = lock(&dir)?;
    let mut children = Children::start(&fleet, args.workers, &worker, &program, &secret, &dir)
        .map_err(|error| Failure::new(Exit::Storage, format!("{}: {error}", dir.display())))?;
    tell(&format!(
        "{} workers run, their logs are in {}",
        args.workers,
        dir.display()
    ));
    let ended = tokio::select! {
        ended = children.wait() => Some(ended),
        _ = signals.next() => None,
    };
    if let Some(ended) = ended {
        return finished(&ended, &dir);
    }
    tell("the workers finish what they run; once more to stop at once");
    tokio::select! {
        ended = children.stop(args.grace) => finished(&ended, &dir),
        // What is dropped is killed.
        signal = signals.next() => Ok(signal),
    }
}

/// How a fleet ended whose workers ended so.
fn finished(ended: &[io::Result<ExitStatus>], dir: &Path) -> Result<Exit, Failure> {
    let failed = |ended: &&io::Result<ExitStatus>| !ended.as_ref().is_ok_and(ExitStatus::success);
    match ended.iter().filter(failed).count() {
        0 => Ok(Exit::Success),
        count => Err(Failure::new(
            Exit::JobsFailed,
            format!("{count} of {} workers failed", ended.len()),
        )
        .next(format!("Their logs are in {}", dir.display()))),
    }
}

/// Makes the folder and takes it for this process: a second fleet of its name would end the first one.
fn lock(dir: &Path) -> Result<File, Failure> {
    let failed = |error| Failure::new(Exit::Storage, format!("{}: {error}", dir.display()));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(failed)?;
    let lock = File::create(dir.join("lock")).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Failure::usage(format!(
            "a fleet runs in {} already",
            dir.display()
        ))
        .next("Name another one with --fleet NAME")),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}
