//! What is shown while a batch runs: a bar on stderr, where that is a terminal, and a word when
//! nothing can run.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use optwasm_client::BatchStatus;
use serde_json::json;

use crate::args::ProgressArg;

/// How long a batch may wait before a word is said: most wait for the blink that handing out takes.
const TELL_AFTER: Duration = Duration::from_millis(500);

/// What is shown while a batch runs.
pub struct Progress {
    bar: Option<ProgressBar>,
    is_json: bool,
    /// Jobs that had ended when that was last printed.
    printed: Option<u32>,
    waiting_since: Option<Instant>,
    told: bool,
}

impl Progress {
    /// Progress of `jobs` jobs.
    pub fn new(jobs: u32, how: ProgressArg) -> Self {
        let shows_bar = how == ProgressArg::Auto && std::io::stderr().is_terminal();
        let bar = shows_bar.then(|| {
            let target = ProgressDrawTarget::stderr_with_hz(10);
            let bar = ProgressBar::with_draw_target(Some(u64::from(jobs)), target);
            let template = "{bar:30} {pos}/{len} {per_sec} {eta} left {msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        });
        Self {
            bar,
            is_json: how == ProgressArg::Json,
            printed: None,
            waiting_since: None,
            told: false,
        }
    }

    /// Takes the state of the batch in; returns for how long nothing could run.
    pub fn update(&mut self, status: &BatchStatus) -> Option<Duration> {
        if let Some(bar) = &self.bar {
            bar.set_position(u64::from(status.done));
            let failed = status.failed();
            let mut message = match failed {
                0 => String::new(),
                failed => format!("{failed} failed "),
            };
            if let Some((_, objective, _)) = status.incumbents.first() {
                message.push_str(&format!("incumbent {objective:.6e} "));
            } else if let Some((_, done, total)) = status.progress.first()
                && *total > 0.0
            {
                message.push_str(&format!("{:.0} % of a job ", 100.0 * done / total));
            }
            bar.set_message(message);
        }
        if self.is_json && self.printed < Some(status.done) {
            self.printed = Some(status.done);
            say(json!({
                "batch": status.batch.0,
                "jobs": status.jobs,
                "done": status.done,
                "failed": status.failed(),
                "running": status.running,
            }));
        }
        let Some(reason) = &status.waiting_for else {
            self.waiting_since = None;
            self.told = false;
            return None;
        };
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        if !self.told && since.elapsed() >= TELL_AFTER {
            self.told = true;
            let text = format!("optwasm: batch {} waits: {reason}", status.batch);
            match &self.bar {
                Some(bar) => bar.println(text),
                None => say(text),
            }
        }
        Some(since.elapsed())
    }

    /// Says how a batch went that is done, by these workers.
    pub fn sum_up(&mut self, status: &BatchStatus, workers: &BTreeSet<String>) {
        self.update(status);
        say(json!({
            "batch": status.batch.0,
            "outcomes": status.outcomes,
            "retries": status.retries,
            "from_memory": status.memo,
            "fuel": status.fuel,
            "wall_ms": status.ended_ms.saturating_sub(status.submitted_ms),
            "workers": workers,
        }));
    }

    /// Takes the bar away, so that other things can be printed.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Runs `print` with the bar out of the way.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

/// Prints a line to stderr; one that cannot be written has nowhere to go.
fn say(line: impl std::fmt::Display) {
    drop(writeln!(std::io::stderr(), "{line}"));
}
