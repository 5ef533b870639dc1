//! `optwasm worker`.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use optwasm_client::{Instance, Role, WorkerInfo};
use optwasm_sandbox::Sandbox;
use optwasm_worker::{BlobCache, Drain, Ended, Executor, Target, Worker};
use tokio::sync::watch;

use crate::args::WorkerArgs;
use crate::commands::coordinator::host_name;
use crate::exit::{Exit, Failure};
use crate::probe;
use crate::run_batch::Signals;
use crate::settings::{Settings, cores, sandbox_config};

pub async fn run(settings: &Settings, args: WorkerArgs) -> Result<Exit, Failure> {
    let begin = Instant::now();
    let mut signals = Signals::listen()?;
    let remote = settings.required_remote(Role::Worker)?;
    let slots = args.slots.unwrap_or_else(cores);
    let cache_dir = args.cache_dir.map(|dir| dir.join("modules"));
    let cache_dir = cache_dir.unwrap_or_else(|| settings.cache_dir.clone());
    let sandbox = Sandbox::new(sandbox_config(slots, Some(cache_dir)))
        .map_err(|error| Failure::new(Exit::Bug, error))?;
    let probe = probe::answers(&sandbox)?;
    let executor = Executor::new(Arc::new(sandbox), slots)
        .map_err(|error| Failure::new(Exit::Bug, format!("threads: {error}")))?;
    let mut instance = Instance::default();
    getrandom::fill(&mut instance.0)
        .map_err(|error| Failure::new(Exit::Bug, format!("randomness: {error}")))?;
    let info = WorkerInfo {
        name: args.name.unwrap_or_else(host_name),
        slots,
        memory: args.memory.unwrap_or_else(default_memory),
        labels: args.labels.into_iter().collect(),
        engine: probe::engine(),
        instance,
        probe,
    };
    let (drain, drained) = watch::channel(Drain::No);
    let mut worker = Worker::new(info, executor, BlobCache::new(args.blob_cache));
    if let Some(after) = args.leave_after {
        worker = worker.leave_after(after.saturating_sub(begin.elapsed()));
    }
    let worker = Rc::new(worker);
    let target = Target::Remote(remote);
    let say = |text: &str| eprintln!("optwasm: {text}");
    let working = optwasm_worker::run(worker, target, drained, args.idle_timeout, say);
    tokio::pin!(working);
    let mut asked = Exit::Success;
    loop {
        tokio::select! {
            ended = &mut working => return match ended? {
                Ended::Idle => {
                    eprintln!("optwasm: nothing to do, leaving");
                    Ok(Exit::Success)
                }
                Ended::Dismissed => {
                    eprintln!("optwasm: the coordinator ends, and its workers with it");
                    Ok(Exit::Success)
                }
                Ended::OutOfTime => {
                    eprintln!("optwasm: the time is up, leaving");
                    Ok(Exit::Success)
                }
                Ended::Drained | Ended::Closed => Ok(Exit::Success),
            },
            signal = signals.next() => {
                if asked != Exit::Success {
                    return Ok(signal);
                }
                asked = signal;
                eprintln!("optwasm: finishing what runs; once more to stop at once");
                drain.send_replace(Drain::Gently);
            }
        }
    }
}

/// Four fifths of this machine's memory: the rest is for the system and the worker itself.
fn default_memory() -> u64 {
    let info = rustix::system::sysinfo();
    let total = info.totalram as u64 * u64::from(info.mem_unit);
    total / 5 * 4
}
