//! The program that proposes parameters: started, and ended.

use std::io::BufReader;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use optwasm_tune::{ExternalSampler, Sampler, Search};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::exit::{Exit, Failure};

/// How long the program may take to read its last results and to end when its input has: it may have
/// something to write down.
const GRACE: Duration = Duration::from_secs(5);
/// How often is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(20);

/// A running program. Dropping it kills it, and all that it has started.
pub struct Optimizer(Child);

impl Optimizer {
    /// Starts `command`, as a shell does. It has a process group of its own, so that Ctrl-C, which is
    /// for this command, does not end it before it has heard everything.
    pub fn start(command: &str) -> Result<(Box<dyn Sampler + Send>, Self), Failure> {
        let failed = |error| Failure::usage(format!("{command}: {error}"));
        let mut child = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let pipes = (child.stdout.take(), child.stdin.take());
        let optimizer = Self(child);
        let (Some(answers), Some(questions)) = pipes else {
            return Err(Failure::new(Exit::Bug, "the optimizer has no pipes"));
        };
        let sampler = ExternalSampler::new(command, BufReader::new(answers), questions);
        Ok((Box::new(sampler), optimizer))
    }

    /// Tells it the last results of a search that it is asked for no longer, and gives it the time to
    /// end by itself.
    pub async fn end(mut self, search: Option<Search>) {
        let ending = async {
            if let Some(search) = search {
                // One that reads no more has heard what it wanted to.
                let _ = spawn_blocking(|| search.end()).await;
            }
            while let Ok(None) = self.0.try_wait() {
                sleep(LOOK).await;
            }
        };
        // It is killed if it does not.
        let _ = timeout(GRACE, ending).await;
    }
}

impl Drop for Optimizer {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            let group = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
            // It may have ended at this very moment.
            let _ = group.map(|group| kill_process_group(group, Signal::KILL));
            let _ = self.0.wait();
        }
    }
}
