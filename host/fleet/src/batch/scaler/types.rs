//! What the scaler is told and what it answers.

use std::collections::BTreeMap;
use std::time::Duration;

/// The identity of a job, as the batch system's own commands and environment have it.
pub type Id = String;

/// How a fleet on a batch system is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Workers that are kept even where there is nothing to do. Default 0.
    pub min: u32,
    /// Workers at most. Default 1.
    pub max: u32,
    /// Waiting jobs of the coordinator that one more worker is asked for. Default 1.
    pub jobs_per_worker: u32,
    /// Workers of one submission at most; more than one where the system has arrays. Default 1.
    pub per_submit: u32,
    /// Time between submissions. Default 6 s: sites ask for no more than ten a minute.
    pub submit_every: Duration,
    /// Time between lists. Default 30 s, the time between Slurm's own backfill passes.
    pub poll: Duration,
    /// How long a worker must be idle, or a waiting job of no use, before it is given back. Default 5 min.
    pub idle_grace: Duration,
    /// How long a job must be missing from lists to be gone, and how long a submission that was not
    /// answered may still take effect. Default 60 s.
    pub vanish_grace: Duration,
    /// How long a job may run without its worker having joined. Default 5 min.
    pub join_grace: Duration,
    /// How long workers stay after they have joined. Default: nobody knows.
    pub stay: Option<Duration>,
    /// Failures in a row after which nothing is submitted any more, at least 1. Default 5.
    pub max_failures: u32,
    /// Unanswered lists and cancellations in a row after which the fleet ends, at least 1. Default 12,
    /// which with the pauses below is 35 minutes.
    pub max_retries: u32,
    /// Pause after a first failure, which doubles with each further one. Default 10 s.
    pub backoff: Duration,
    /// Longest pause. Default 5 min.
    pub backoff_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            min: 0,
            max: 1,
            jobs_per_worker: 1,
            per_submit: 1,
            submit_every: Duration::from_secs(6),
            poll: Duration::from_secs(30),
            idle_grace: Duration::from_secs(300),
            vanish_grace: Duration::from_secs(60),
            join_grace: Duration::from_secs(300),
            stay: None,
            max_failures: 5,
            max_retries: 12,
            backoff: Duration::from_secs(10),
            backoff_max: Duration::from_secs(300),
        }
    }
}

/// How long a worker stays at most before it is known to be able to: who is killed for its memory, or by
/// a node that is broken, is so within its first jobs.
const PROVEN_MAX: Duration = Duration::from_secs(300);

impl Config {
    /// How long a worker has to stay to be no loss: half of its time.
    pub(super) fn proven_after(&self) -> Duration {
        self.stay
            .map_or(PROVEN_MAX, |stay| (stay / 2).min(PROVEN_MAX))
    }
}

/// What the batch system says of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits.
    Queued,
    /// It runs, or is ending.
    Running,
    /// It is one or the other.
    Unknown,
}

/// What the coordinator says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// Jobs that wait for a worker.
    pub waiting: u64,
    /// The connected workers of this fleet by the batch job they run in, and whether they are idle.
    pub workers: BTreeMap<Id, bool>,
}

/// Why a submission gave no jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmitFailure {
    /// The reason, with what the command said last.
    pub why: String,
    /// Whether jobs may exist nevertheless, as where the command was not answered in time.
    pub unsure: bool,
}

/// What the scaler is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// The coordinator answered.
    Observed(Observation),
    /// The coordinator did not answer: nothing is submitted or given back until it does.
    Unobserved,
    /// [`Effect::Submit`] ended.
    Submitted(Result<Vec<Id>, SubmitFailure>),
    /// [`Effect::List`] ended.
    Listed(Result<Vec<(Id, State)>, String>),
    /// [`Effect::Cancel`] ended.
    Cancelled(Result<(), String>),
    /// [`Effect::Drain`] could not be done.
    NotDrained {
        /// Those that were to leave.
        ids: Vec<Id>,
        /// Whether the coordinator would refuse it again.
        refused: bool,
    },
    /// The fleet is to end.
    Stop,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Submit so many workers, at least 1.
    Submit(u32),
    /// List the fleet's jobs.
    List,
    /// Cancel these.
    Cancel(Vec<Id>),
    /// Have the coordinator let the workers of these finish and leave.
    Drain(Vec<Id>),
    /// Tell the user.
    Say(String),
    /// Nothing is to be done any more; no further effect follows.
    Ended(Result<(), Failure>),
}

/// Why a fleet ended, but for being asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Too many failures in a row. Look at the reason, and at the logs of the batch jobs.
    #[error("{failures} failures in a row, the last: {why}")]
    Broken {
        /// How many.
        failures: u32,
        /// The last one.
        why: String,
    },
    /// The batch system did not answer for too long.
    #[error("the batch system does not answer: {why}")]
    Unanswered {
        /// What its command said last.
        why: String,
    },
    /// Jobs could not be cancelled, or it is not known whether there are more. Look for them.
    #[error("these jobs may be left: {}: {why}", ids.join(" "))]
    Left {
        /// Those that are known.
        ids: Vec<Id>,
        /// What went wrong.
        why: String,
    },
}
