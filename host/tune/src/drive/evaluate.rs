//! Evaluations as jobs: a batch is submitted, followed to its end, and removed.
//!
//! A connection has few streams, and a batch may be open for as long as its longest evaluation takes.
//! So batches take turns: each holds a stream while something comes on it, and where others wait gives
//! it back after a while and goes on later where it was. All that is waited for here is polled
//! together, so that none keeps a stream that another needs to go on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use optwasm_client::{Batch, BatchSpec, Client, ClientError, Order, Outcome as JobOutcome};
use serde::Serialize;
use serde_json::Value as Json;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep, timeout_at};

use super::output::read;
use crate::{Config, Outcome, Report, Trial, TrialId};

/// Batches that are followed at once: three quarters of the 32 streams of a connection. The others are
/// for what is short: submitting, fetching large outputs, removing.
pub(super) const FOLLOWED: usize = 24;
/// How long a batch on which nothing comes is followed while others wait. With a thousand of them
/// each has its turn every 4 seconds, and the coordinator gives up an attached batch that nobody has
/// followed for 15.
const TURN: Duration = Duration::from_millis(100);
/// How often the number of slots is looked up.
const LOOK: Duration = Duration::from_secs(1);

/// What has become known.
pub(super) enum Event {
    /// How many slots there are.
    Slots(usize),
    /// An evaluation has ended.
    Ended(Ended),
}

/// An evaluation that has ended.
pub(super) struct Ended {
    pub(super) trial: Trial,
    /// How, as far as the objective is to blame.
    pub(super) report: Report,
    /// Whether its worker was lost or its host failed, so that it may be run again.
    pub(super) interrupted: bool,
    /// How long it took.
    pub(super) time: Duration,
}

/// The input of an evaluation's job.
#[derive(Serialize)]
struct Input<'a> {
    config: &'a Config,
    budget: f64,
    id: TrialId,
    seed: u64,
}

/// Evaluates on behalf of one search.
pub(super) struct Evaluator<'a> {
    client: &'a Client,
    spec: BatchSpec,
    /// Events in it are at most as many as evaluations in flight, and one a second.
    events: UnboundedSender<Event>,
    turns: Semaphore,
    /// Batches that wait for a turn.
    waiting: AtomicUsize,
}

impl<'a> Evaluator<'a> {
    pub(super) fn new(
        client: &'a Client,
        spec: &BatchSpec,
        events: UnboundedSender<Event>,
    ) -> Self {
        Self {
            client,
            spec: BatchSpec {
                attached: true,
                id: None,
                ..spec.clone()
            },
            events,
            turns: Semaphore::new(FOLLOWED),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Tells again and again how many slots there are; returns when it cannot.
    pub(super) async fn look(&self) -> ClientError {
        loop {
            let workers = match self.client.workers().await {
                Ok(workers) => workers.into_iter(),
                Err(error) => return error,
            };
            let able = workers.filter(|worker| !worker.draining && worker.aside.is_none());
            // As many jobs run there as have room in memory.
            let memory = self.spec.template.limits.memory.max(1);
            let slots = able.map(|worker| {
                let fitting = worker.info.memory / memory;
                fitting.min(u64::from(worker.info.slots)) as usize
            });
            self.tell(Event::Slots(slots.sum()));
            sleep(LOOK).await;
        }
    }

    /// Evaluates all of these, as one batch.
    pub(super) async fn evaluate(&self, trials: Vec<Trial>) -> Result<(), ClientError> {
        let inputs: Vec<Bytes> = trials.iter().map(input).collect::<Result<_, _>>()?;
        let batch = self.client.submit(self.spec.clone(), inputs).await?;
        self.follow(batch, &trials).await?;
        // If it is not, its results stay with the coordinator for as long as others do.
        let _: Result<(), ClientError> = batch.remove().await;
        Ok(())
    }

    /// Tells every result of the batch.
    async fn follow(&self, batch: Batch<'_>, trials: &[Trial]) -> Result<(), ClientError> {
        let mut open = None;
        let mut left = trials.len();
        loop {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            // An error says that it was closed, which it never is.
            let _turn = self.turns.acquire().await;
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            let results = match &mut open {
                Some(results) => results,
                none => none.insert(batch.results(Order::Completion).await?),
            };
            let mut turn_ends = Instant::now() + TURN;
            loop {
                match timeout_at(turn_ends, results.next()).await {
                    Ok(result) => {
                        let Some((index, report)) = result? else {
                            // Without all of them the search would wait for ever.
                            return if left == 0 {
                                Ok(())
                            } else {
                                Err(ClientError::Unexpected)
                            };
                        };
                        left = left.saturating_sub(1);
                        let trial = trials.get(index as usize);
                        let trial = trial.ok_or(ClientError::Unexpected)?.clone();
                        let ended = judge(self.client, trial, report).await?;
                        self.tell(Event::Ended(ended));
                    }
                    Err(_) if self.waiting.load(Ordering::Relaxed) > 0 => break,
                    Err(_) => turn_ends = Instant::now() + TURN,
                }
            }
            results.pause();
        }
    }

    fn tell(&self, event: Event) {
        // Nobody listens any more when this is about to be dropped.
        let _ = self.events.send(event);
    }
}

fn input(trial: &Trial) -> Result<Bytes, ClientError> {
    let input = Input {
        config: &trial.config,
        budget: trial.budget,
        id: trial.id,
        seed: trial.seed,
    };
    let mut bytes = Vec::new();
    ciborium::into_writer(&input, &mut bytes)
        .map_err(|error| ClientError::Codec(format!("input: {error}")))?;
    Ok(bytes.into())
}

/// What a job's end says of its evaluation.
async fn judge(
    client: &Client,
    trial: Trial,
    report: optwasm_client::Report,
) -> Result<Ended, ClientError> {
    let interrupted = matches!(
        report.outcome,
        JobOutcome::HostOutOfMemory(_)
            | JobOutcome::HostPanic(_)
            | JobOutcome::WorkerLost(_)
            | JobOutcome::Cancelled
            | JobOutcome::Damaged(_)
    );
    let read = match &report.outcome {
        JobOutcome::Ok(output) => read(&client.fetch(output).await?),
        other => Err(other.to_string()),
    };
    let (outcome, info) = match read {
        Ok((loss, info)) => (Outcome::Loss(loss), info),
        Err(why) => (Outcome::Crashed(why), Json::Null),
    };
    Ok(Ended {
        trial,
        report: Report {
            outcome,
            info,
            finished: 0.0,
            worker: Some(report.worker),
            fuel: Some(report.fuel),
        },
        interrupted,
        time: Duration::from_micros(report.wall_us),
    })
}
