//! The batch systems: their commands, and what these answer.
//!
//! | system | submit | list | cancel |
//! |---|---|---|---|
//! | Slurm | `sbatch --parsable [--array]` | `squeue --me --name` | `scancel --quiet` |
//! | PBS Pro, OpenPBS, Torque | `qsub` | `qselect -u -N` | `qdel` |
//! | Grid Engine | `qsub -terse` | `qstat -u -r` | `qdel` |
//! | LSF | `bsub` | `bjobs -J` | `bkill` |
//!
//! Lists are by user and the name of the fleet's jobs, so that they also show jobs whose submission was not
//! answered. Only
//! Slurm's are tested against the real system here; those of the others follow their manuals: qsub(1B)
//! and qselect(1B) of OpenPBS 23.06 and Torque 6.1, qsub(1) and qstat(1) of Grid Engine 8.1, and the
//! command reference of LSF 10.1.

use std::ffi::OsString;
use std::path::Path;

use serde::Serialize;

use crate::batch::scaler::{Id, State};

/// A batch system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum System {
    /// Slurm, from 20.02 on.
    Slurm,
    /// PBS Pro and OpenPBS.
    Pbs,
    /// Torque.
    Torque,
    /// Sun, Univa, Altair and Son of Grid Engine.
    GridEngine,
    /// IBM Spectrum LSF.
    Lsf,
}

/// A command, before it is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// The program's name.
    pub program: &'static str,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Whether the script is its standard input.
    pub script_as_input: bool,
}

impl CommandLine {
    fn new<T: Into<OsString>>(program: &'static str, args: impl IntoIterator<Item = T>) -> Self {
        let args = args.into_iter().map(Into::into).collect();
        Self {
            program,
            args,
            script_as_input: false,
        }
    }
}

/// Workers of one submission to Slurm: its `MaxArraySize` is 1001 by default (slurm.conf(5)), and
/// indices start with 0.
const SLURM_ARRAY_MAX: u32 = 1000;

impl System {
    /// The system that a word names, as `slurm`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "slurm" => Self::Slurm,
            "pbs" => Self::Pbs,
            "torque" => Self::Torque,
            "sge" => Self::GridEngine,
            "lsf" => Self::Lsf,
            _ => return None,
        })
    }

    /// Longest name of a job: of Torque 15 characters (qsub(1B), `-N`), of the others far more than is
    /// needed.
    pub(crate) fn name_max(self) -> usize {
        if self == Self::Torque { 15 } else { 200 }
    }

    /// Workers of one submission at most.
    #[must_use]
    pub fn per_submit(self) -> u32 {
        if self == Self::Slurm {
            SLURM_ARRAY_MAX
        } else {
            1
        }
    }

    /// What submits `count` jobs, of which there may be more than one only up to
    /// [`System::per_submit`].
    #[must_use]
    pub fn submit(self, script: &Path, count: u32) -> CommandLine {
        let script = script.as_os_str().to_owned();
        match self {
            Self::Slurm if count > 1 => {
                let array = format!("--array=0-{}", count - 1).into();
                CommandLine::new("sbatch", ["--parsable".into(), array, script])
            }
            Self::Slurm => CommandLine::new("sbatch", ["--parsable".into(), script]),
            Self::Pbs | Self::Torque => CommandLine::new("qsub", [script]),
            Self::GridEngine => CommandLine::new("qsub", ["-terse".into(), script]),
            Self::Lsf => CommandLine {
                script_as_input: true,
                ..CommandLine::new("bsub", Vec::<OsString>::new())
            },
        }
    }

    /// The jobs that a submission of `count` answers; none where it is not understood.
    #[must_use]
    pub fn submitted(self, answer: &str, count: u32) -> Option<Vec<Id>> {
        // Sites print notes before.
        let last = answer
            .lines()
            .map(str::trim)
            .rfind(|line| !line.is_empty())?;
        match self {
            Self::Slurm => {
                // `ID` or `ID;CLUSTER`.
                let id = last.split(';').next().filter(|id| is_number(id))?;
                Some(if count > 1 {
                    (0..count).map(|index| format!("{id}_{index}")).collect()
                } else {
                    vec![id.to_owned()]
                })
            }
            Self::Pbs | Self::Torque => {
                let number = last.split('.').next()?;
                (is_number(number) && is_id(last)).then(|| vec![last.to_owned()])
            }
            Self::GridEngine => is_number(last).then(|| vec![last.to_owned()]),
            Self::Lsf => {
                // `Job <ID> is submitted to queue <NAME>.`
                let line = answer
                    .lines()
                    .find(|line| line.contains("is submitted to"))?;
                let id = line.split('<').nth(1)?.split('>').next()?;
                is_number(id).then(|| vec![id.to_owned()])
            }
        }
    }

    /// What lists the jobs of `user`, who is this one, that are called `name`.
    #[must_use]
    pub fn list(self, name: &str, user: &str) -> CommandLine {
        match self {
            Self::Slurm => CommandLine::new(
                "squeue",
                [
                    "--noheader",
                    "--array",
                    "--me",
                    "--format=%i %T",
                    &format!("--name={name}"),
                ],
            ),
            Self::Pbs | Self::Torque => CommandLine::new("qselect", ["-u", user, "-N", name]),
            Self::GridEngine => CommandLine::new("qstat", ["-u", user, "-r"]),
            Self::Lsf => CommandLine::new("bjobs", ["-noheader", "-o", "jobid stat", "-J", name]),
        }
    }

    /// Whether a list failed only because there is nothing to list.
    #[must_use]
    pub fn nothing_listed(self, stderr: &str) -> bool {
        self == Self::Lsf && (stderr.contains("is not found") || stderr.contains("No unfinished"))
    }

    /// The jobs called `name` in a list, without those that have ended; nothing where it is not
    /// understood.
    #[must_use]
    pub fn listed(self, answer: &str, name: &str) -> Option<Vec<(Id, State)>> {
        let lines = answer
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty());
        match self {
            Self::GridEngine => Some(grid_engine_list(answer, name)),
            Self::Slurm | Self::Lsf => {
                let mut jobs = Vec::new();
                for line in lines {
                    let (id, word) = line.split_once(char::is_whitespace)?;
                    if !is_id(id) {
                        return None;
                    }
                    let word = word.trim();
                    let state = if self == Self::Slurm {
                        slurm_state(word)
                    } else {
                        lsf_state(word)
                    };
                    jobs.extend(state.map(|state| (id.to_owned(), state)));
                }
                Some(jobs)
            }
            Self::Pbs | Self::Torque => lines
                .map(|id| is_id(id).then(|| (id.to_owned(), State::Unknown)))
                .collect(),
        }
    }

    /// What cancels these.
    #[must_use]
    pub fn cancel(self, ids: &[Id]) -> CommandLine {
        match self {
            Self::Slurm => {
                let quiet = std::iter::once("--quiet".to_owned());
                CommandLine::new("scancel", quiet.chain(ids.iter().cloned()))
            }
            Self::Pbs | Self::Torque | Self::GridEngine => CommandLine::new("qdel", ids),
            Self::Lsf => CommandLine::new("bkill", ids),
        }
    }

    /// What the job's own shell expands to its identity.
    pub(crate) fn own_id(self) -> &'static str {
        match self {
            // An array's tasks have numbers of their own, too, which squeue does not show.
            Self::Slurm => {
                "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
            }
            Self::Pbs | Self::Torque => "$PBS_JOBID",
            Self::GridEngine => "$JOB_ID",
            Self::Lsf => "$LSB_JOBID",
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.len() < 20 && text.bytes().all(|b| b.is_ascii_digit())
}

/// What a command says whose question was perhaps heard, though its answer was not: of Slurm `Socket timed
/// out on send/recv operation` and `Zero Bytes were transmitted or received`, of PBS `Connection timed
/// out` and `End of File`, of LSF `Communication time out`.
const HEARD: [&str; 6] = [
    "timed out",
    "time out",
    "timeout",
    "zero bytes",
    "connection",
    "end of file",
];

/// Whether a submission that ended with these words may have taken place.
pub(crate) fn was_perhaps_heard(stderr: &str) -> bool {
    let said = stderr.to_ascii_lowercase();
    HEARD.iter().any(|words| said.contains(words))
}

/// Whether this is the identity of a job: `123`, `123_4`, `123.server.site`. It begins with a digit, so it
/// is no option.
#[must_use]
pub fn is_id(text: &str) -> bool {
    text.len() <= 255
        && text.starts_with(|c: char| c.is_ascii_digit())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-[]+".contains(c))
}

/// squeue(1), JOB STATE CODES.
fn slurm_state(word: &str) -> Option<State> {
    match word {
        "PENDING" | "CONFIGURING" | "REQUEUED" | "REQUEUE_HOLD" | "REQUEUE_FED"
        | "SPECIAL_EXIT" | "RESV_DEL_HOLD" => Some(State::Queued),
        "BOOT_FAIL" | "CANCELLED" | "COMPLETED" | "DEADLINE" | "FAILED" | "NODE_FAIL"
        | "OUT_OF_MEMORY" | "PREEMPTED" | "REVOKED" | "TIMEOUT" => None,
        // RUNNING, COMPLETING, SUSPENDED and the like.
        _ => Some(State::Running),
    }
}

/// bjobs(1), STAT.
fn lsf_state(word: &str) -> Option<State> {
    match word {
        "PEND" | "PSUSP" | "WAIT" | "PROV" => Some(State::Queued),
        "DONE" | "EXIT" | "ZOMBI" => None,
        _ => Some(State::Running),
    }
}

/// `qstat -r`: a line for each job, whose fifth word is the state, and below it its full name.
fn grid_engine_list(answer: &str, name: &str) -> Vec<(Id, State)> {
    let mut jobs = Vec::new();
    let mut current = None;
    for line in answer.lines() {
        if let Some((_, full)) = line.split_once("Full jobname:") {
            jobs.extend(current.take().filter(|_| full.trim() == name));
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [id, _, _, _, state, ..] = words[..]
            && is_number(id)
        {
            let state = if state.contains(['w', 'h', 'E']) {
                State::Queued
            } else {
                State::Running
            };
            current = Some((id.to_owned(), state));
        }
    }
    jobs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [System; 5] = [
        System::Slurm,
        System::Pbs,
        System::Torque,
        System::GridEngine,
        System::Lsf,
    ];

    #[test]
    fn answers_of_submissions_are_read() {
        let ids = |system: System, answer, count| system.submitted(answer, count);
        let some = |ids: &[&str]| Some(ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>());
        assert_eq!(ids(System::Slurm, "17\n", 1), some(&["17"]));
        assert_eq!(
            ids(System::Slurm, "note\n17;north\n\n", 2),
            some(&["17_0", "17_1"])
        );
        assert_eq!(
            ids(System::Pbs, "17.head.site\n", 1),
            some(&["17.head.site"])
        );
        assert_eq!(ids(System::GridEngine, "17\n", 1), some(&["17"]));
        let lsf = "Job <17> is submitted to default queue <normal>.\n";
        assert_eq!(ids(System::Lsf, lsf, 1), some(&["17"]));
        for system in ALL {
            for bad in ["", "error", "-1", "x.17", "$(reboot)", "17 18"] {
                assert_eq!(ids(system, bad, 1), None, "{system:?} {bad}");
            }
        }
    }

    #[test]
    fn lists_are_read() {
        use State::{Queued, Running, Unknown};
        let list = |system: System, answer| {
            let jobs = system.listed(answer, "fleet")?;
            Some(
                jobs.into_iter()
                    .map(|(id, state)| format!("{id} {state:?}"))
                    .collect::<Vec<_>>(),
            )
        };
        let some = |jobs: &[(&str, State)]| {
            Some(
                jobs.iter()
                    .map(|(id, state)| format!("{id} {state:?}"))
                    .collect::<Vec<_>>(),
            )
        };
        let slurm = "1 PENDING\n2_0 RUNNING\n 2_1   COMPLETING\n3 CANCELLED\n";
        let expected = [("1", Queued), ("2_0", Running), ("2_1", Running)];
        assert_eq!(list(System::Slurm, slurm), some(&expected));
        assert_eq!(
            list(System::Pbs, "1.head\n2.head\n"),
            some(&[("1.head", Unknown), ("2.head", Unknown)])
        );
        assert_eq!(
            list(System::Lsf, "1 PEND\n2 RUN\n3 EXIT\n"),
            some(&[("1", Queued), ("2", Running)])
        );
        let sge = "job-ID  prior   name       user   state submit/start at     queue  slots\n\
                   --------------------------------------------\n\
                   \x20   1 0.55500 fleet      me     r     11/22/2026 00:00:00 all.q@n1  1\n\
                   \x20      Full jobname:     fleet\n       Master Queue: all.q@n1\n\
                   \x20   2 0.55500 fleet-else me     qw    11/22/2026 00:00:00   1\n\
                   \x20      Full jobname:     fleet-elsewhere\n\
                   \x20   3 0.00000 fleet      me     Eqw   11/22/2026 00:00:00   1\n\
                   \x20      Full jobname:     fleet\n";
        assert_eq!(
            list(System::GridEngine, sge),
            some(&[("1", Running), ("3", Queued)])
        );
        for system in ALL {
            assert_eq!(list(system, ""), some(&[]));
        }
        assert_eq!(list(System::Slurm, "slurm_load_jobs error: timeout"), None);
        assert_eq!(list(System::Pbs, "qselect: cannot connect"), None);
        assert!(System::Lsf.nothing_listed("Job <fleet> is not found"));
        assert!(!System::Slurm.nothing_listed("Job <fleet> is not found"));
    }

    #[test]
    fn only_this_user_s_jobs_are_listed() {
        for system in [System::Pbs, System::Torque, System::GridEngine] {
            let args = system.list("fleet", "me").args;
            assert_eq!(args[..2], ["-u", "me"], "{system:?}");
        }
        assert!(
            System::Slurm
                .list("fleet", "me")
                .args
                .contains(&"--me".into())
        );
    }

    #[test]
    fn a_submission_that_timed_out_may_have_taken_place() {
        for words in [
            "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
            "qsub: End of File",
            "qsub: Connection timed out",
        ] {
            assert!(was_perhaps_heard(words), "{words}");
        }
        for words in ["", "sbatch: error: invalid account", "qsub: Unknown queue"] {
            assert!(!was_perhaps_heard(words), "{words}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_answers_are_no_harm(answer in "([0-9_. a-zA-Z<>;-]|\\PC|\n){0,60}", count in 1u32..4) {
            for system in ALL {
                let submitted = system.submitted(&answer, count).unwrap_or_default();
                let listed = system.listed(&answer, "fleet").unwrap_or_default();
                for id in submitted.iter().chain(listed.iter().map(|(id, _)| id)) {
                    prop_assert!(id.starts_with(|c: char| c.is_ascii_digit()));
                }
            }
        }
    }
}
