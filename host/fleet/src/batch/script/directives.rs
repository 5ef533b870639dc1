//! The lines of a script that the batch system itself reads, for each system in its own words.

use std::path::Path;
use std::time::Duration;

use super::{JobSpec, ScriptError, utf8};
use crate::batch::system::System;
use crate::words::{WordError, plain};

/// What is in words of directives beside letters and digits. Slurm would expand `%` in paths.
pub(super) const WORD: &str = "-_.,:+=@/";

impl JobSpec {
    /// The lines, without a line break at the end.
    pub(super) fn directives(&self, folder: &Path) -> Result<String, ScriptError> {
        let folder = utf8(folder)?;
        let word = |what, word: &Option<String>| match word {
            Some(text) => plain(what, text, WORD).map(|()| Some(text.clone())),
            None => Ok(None),
        };
        let queue = word("queue", &self.queue)?;
        let account = word("account", &self.account)?;
        let (name, cpus, mib) = (self.job_name(), self.cpus, self.memory_mib);
        let clock = self.time.map(clock);
        let minutes = self.time.map(|time| time.as_secs().div_ceil(60).max(1));
        let secs = self.time.map(|time| time.as_secs());
        let (prefix, lines) = match self.system {
            System::Slurm => (
                "#SBATCH",
                vec![
                    Some(format!("--job-name={name}")),
                    Some(format!("--output={folder}/%j.log")),
                    Some("--no-requeue".to_owned()),
                    Some("--nodes=1 --ntasks=1".to_owned()),
                    queue.map(|queue| format!("--partition={queue}")),
                    account.map(|account| format!("--account={account}")),
                    clock.map(|clock| format!("--time={clock}")),
                    mib.map(|mib| format!("--mem={mib}M")),
                    cpus.map(|cpus| format!("--cpus-per-task={cpus}")),
                ],
            ),
            System::Pbs | System::Torque => {
                let resources = if self.system == System::Pbs {
                    let cpus = cpus.map_or_else(String::new, |cpus| format!(":ncpus={cpus}"));
                    let mib = mib.map_or_else(String::new, |mib| format!(":mem={mib}mb"));
                    format!("-l select=1{cpus}{mib}")
                } else {
                    let cpus = cpus.map_or_else(String::new, |cpus| format!(":ppn={cpus}"));
                    let mib = mib.map_or_else(String::new, |mib| format!(",mem={mib}mb"));
                    format!("-l nodes=1{cpus}{mib}")
                };
                (
                    "#PBS",
                    vec![
                        Some(format!("-N {name}")),
                        Some(format!("-o {folder}/")),
                        Some("-j oe".to_owned()),
                        Some("-r n".to_owned()),
                        Some(resources),
                        queue.map(|queue| format!("-q {queue}")),
                        account.map(|account| format!("-A {account}")),
                        clock.map(|clock| format!("-l walltime={clock}")),
                    ],
                )
            }
            System::GridEngine => (
                "#$",
                vec![
                    Some(format!("-N {name}")),
                    Some(format!("-o {folder}/")),
                    Some("-j y".to_owned()),
                    Some("-r n".to_owned()),
                    // `module` is a function of bash.
                    Some(match self.modules.is_empty() {
                        true => "-S /bin/sh".to_owned(),
                        false => "-S /bin/bash".to_owned(),
                    }),
                    queue.map(|queue| format!("-q {queue}")),
                    account.map(|account| format!("-P {account}")),
                    secs.map(|secs| format!("-l h_rt={secs}")),
                    // For each slot, and not `h_vmem`: that limits addresses, of which the sandbox
                    // reserves 4 GiB for each memory and uses few.
                    mib.map(|mib| {
                        format!(
                            "-l mem_free={}M",
                            mib.div_ceil(u64::from(cpus.unwrap_or(1).max(1)))
                        )
                    }),
                    // The name of the parallel environment is the site's; `smp` is the usual one.
                    cpus.map(|cpus| format!("-pe smp {cpus}")),
                ],
            ),
            System::Lsf => (
                "#BSUB",
                vec![
                    Some(format!("-J {name}")),
                    Some(format!("-o {folder}/%J.log")),
                    queue.map(|queue| format!("-q {queue}")),
                    account.map(|account| format!("-P {account}")),
                    minutes.map(|minutes| format!("-W {minutes}")),
                    mib.map(|mib| format!("-M {mib}MB")),
                    cpus.map(|cpus| format!("-n {cpus} -R span[hosts=1]")),
                ],
            ),
        };
        let mut all: Vec<String> = lines.into_iter().flatten().collect();
        for line in &self.directives {
            if line.chars().any(char::is_control) {
                return Err(WordError::Control(line.clone()).into());
            }
            all.push(line.clone());
        }
        let lines: Vec<String> = all.iter().map(|line| format!("{prefix} {line}")).collect();
        Ok(lines.join("\n"))
    }
}

/// `HH:MM:SS`, as all batch systems take it.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs().max(1);
    format!(
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}
