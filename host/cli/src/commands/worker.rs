//! `optwasm worker`.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use optwasm_client::{Instance, Role, WorkerInfo};
use optwasm_sandbox::Sandbox;
use optwasm_worker::{BlobCache, Drain, Ended, Executor, Target, Worker};
use rustix::process::Signal;
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
    if let Some(parent) = args.parent
        && !follow(parent)?
    {
        eprintln!("optwasm: the process that started this worker has ended, leaving");
        return Ok(Exit::Success);
    }
    let remote = settings.required_remote(Role::Worker)?;
    let slots = args.slots.unwrap_or_else(cores);
    let sandbox = Sandbox::new(sandbox_config(slots, Some(settings.cache_dir.clone())))
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

/// Has the system send SIGTERM when the parent ends, and says whether it still lives.
fn follow(parent: u32) -> Result<bool, Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| Failure::new(Exit::Bug, format!("signals: {error}")))?;
    let own = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    Ok(own.is_some_and(|own| u32::try_from(own) == Ok(parent)))
}

/// Four fifths of the memory that there is: the rest is for the system and the worker itself.
fn default_memory() -> u64 {
    let info = rustix::system::sysinfo();
    let total = info.totalram as u64 * u64::from(info.mem_unit);
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = memory_limit(Path::new("/sys/fs/cgroup"), &own);
    total.min(limit.unwrap_or(u64::MAX)) / 5 * 4
}

/// The least `memory.max` of the control group that `own`, as proc_pid_cgroup(5) has it, names, and of
/// those above it; none where none of them has a limit. Only version 2 is looked at.
fn memory_limit(root: &Path, own: &str) -> Option<u64> {
    let group = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let own = root.join(group);
    let groups = own.ancestors().take_while(|group| group.starts_with(root));
    let limit = |group: &Path| {
        let text = std::fs::read_to_string(group.join("memory.max")).ok()?;
        // `max` where there is none.
        text.trim().parse::<u64>().ok()
    };
    groups.filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_limit_of_a_control_group_and_those_above_counts() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("slurm/job_7");
        std::fs::create_dir_all(&group).unwrap();
        let limit = |own: &str| memory_limit(root.path(), own);
        let own = "1:name=systemd:/\n0::/slurm/job_7\n";
        assert_eq!(limit(own), None);
        std::fs::write(group.join("memory.max"), "max\n").unwrap();
        assert_eq!(limit(own), None);
        std::fs::write(root.path().join("slurm/memory.max"), "4294967296\n").unwrap();
        assert_eq!(limit(own), Some(4 << 30));
        std::fs::write(group.join("memory.max"), "1073741824\n").unwrap();
        assert_eq!(limit(own), Some(1 << 30));
        // As in a namespace of its own, and as without version 2.
        std::fs::write(root.path().join("memory.max"), "2147483648\n").unwrap();
        assert_eq!(limit("0::/\n"), Some(2 << 30));
        assert_eq!(limit("4:memory:/slurm\n"), None);
        assert_eq!(limit(""), None);
    }
}
