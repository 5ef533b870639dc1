//! Follows a batch to its end: results to the printer, progress to stderr, signals to where they
//! belong.

use std::time::Duration;

use optwasm_client::{Batch, Client, Order};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::ProgressArg;
use crate::exit::{Exit, Failure};
use crate::output::ResultPrinter;
use crate::progress::Progress;

/// How to follow a batch.
pub struct Follow {
    /// Whether it runs in this process, and so ends with it.
    pub local: bool,
    /// Give up when nothing could run for so long.
    pub wait_timeout: Option<Duration>,
    /// The order of the results.
    pub order: Order,
    /// How progress is shown.
    pub progress: ProgressArg,
}

/// SIGINT and SIGTERM, and SIGHUP for those who ask for it.
pub struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: Option<tokio::signal::unix::Signal>,
}

/// Bit of SIGHUP, which is signal 1, in the masks of signals of proc_pid_status(5).
const HANGUP_BIT: u64 = 1;

impl Signals {
    /// Listens from now on.
    pub fn listen() -> Result<Self, Failure> {
        let failed = |error| Failure::new(Exit::Bug, format!("signals: {error}"));
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            hangup: None,
        })
    }

    /// Listens for the end of the terminal, too; not where it was started so that this is ignored, as
    /// nohup(1) does.
    pub fn with_hangup(mut self) -> Result<Self, Failure> {
        let failed = |error| Failure::new(Exit::Bug, format!("signals: {error}"));
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        if ignored.unwrap_or(0) & HANGUP_BIT == 0 {
            self.hangup = Some(signal(SignalKind::hangup()).map_err(failed)?);
        }
        Ok(self)
    }

    /// The next signal, as the exit code that it asks for.
    pub async fn next(&mut self) -> Exit {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            _ = self.terminate.recv() => Exit::Terminated,
            _ = hangup => Exit::Terminated,
        }
    }
}

/// Prints the results of `batch` as they come, until it is done.
pub async fn follow(
    client: &Client,
    batch: Batch<'_>,
    printer: &mut ResultPrinter,
    jobs: u32,
    follow: Follow,
) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let mut results = batch.results(follow.order).await?;
    let mut watch = batch.watch().await?;
    let mut watching = true;
    let mut progress = Progress::new(jobs, follow.progress);
    let id = batch.id();
    loop {
        tokio::select! {
            biased;
            signal = signals.next() => {
                progress.finish();
                printer.flush()?;
                if follow.local {
                    batch.cancel().await?;
                    eprintln!("optwasm: stopped");
                } else {
                    eprintln!("optwasm: batch {id} goes on. Come back with: optwasm watch {id}, \
                        optwasm results {id}");
                }
                return Ok(signal);
            }
            result = results.next() => match result.map_err(|error| lost(error, id))? {
                Some((index, report)) => printer.result(client, index, report).await?,
                None => break,
            },
            status = watch.next(), if watching => match status.map_err(|error| lost(error, id))? {
                Some(status) => {
                    let waited = progress.suspend(|| printer.flush()).map(|()| progress.update(&status))?;
                    if let (Some(waited), Some(limit)) = (waited, follow.wait_timeout)
                        && waited >= limit
                    {
                        progress.finish();
                        batch.cancel().await?;
                        return Err(Failure::new(Exit::TimedOut, format!(
                            "no worker took a job for {}; batch {id} was cancelled",
                            humantime::format_duration(limit)
                        )));
                    }
                }
                None => watching = false,
            },
        }
    }
    progress.finish();
    if follow.progress == ProgressArg::Json {
        progress.sum_up(&batch.status().await?, printer.workers());
    }
    printer.finish()?;
    Ok(match (&printer.last, printer.failed) {
        (_, 0) => Exit::Success,
        (Some(outcome), _) if jobs == 1 => Exit::of(outcome),
        _ => Exit::JobsFailed,
    })
}

fn lost(error: optwasm_client::ClientError, id: optwasm_client::BatchId) -> Failure {
    let failure = Failure::from(error);
    match failure.exit {
        Exit::Unreachable => failure.next(format!("Come back to it with: optwasm watch {id}")),
        _ => failure,
    }
}
