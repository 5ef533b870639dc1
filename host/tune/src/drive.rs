//! Drives a search: evaluations become jobs on a coordinator's workers, or in this process.
//!
//! The objective is a module. The input of its job is a CBOR map: `config`, a map of the active
//! parameters; `budget`, a number; `id`, the array `[iteration, stage, index]`; `seed`, an integer
//! below 2^53. Its output is a map with `loss`, a number, and `info`, which may be anything or be
//! left out, or the loss alone; as CBOR, or as JSON.
//!
//! Evaluations are asked for as many at once as keep all slots busy, and what is asked for at one
//! time travels as one batch. Each line of the journal is written before what it stands for is sent or
//! shown, so that a search whose process was killed goes on where it was; its jobs end with it
//! ([attached](optwasm_client::BatchSpec::attached) batches), and are asked for again.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::stream::{SelectAll, Stream, StreamExt, unfold};
use optwasm_client::{Batch, BatchSpec, Client, ClientError, Order, Outcome as JobOutcome};
use serde::Serialize;
use serde_json::Value as Json;
use thiserror::Error;

use crate::{Ask, Config, Outcome, Report, SamplerError, Search, TellError, Told, Trial, TrialId};

/// What one slot is kept busy with at least, beside what it runs: as long as a round trip to a
/// coordinator in another town and a journal's write may take.
const AHEAD: Duration = Duration::from_millis(20);
/// Evaluations for one slot at once, at most: more would be decided on without knowing the results
/// of those before.
const AHEAD_MAX: usize = 256;
/// How often the number of slots is looked up.
const LOOK: Duration = Duration::from_secs(1);
/// How often an evaluation is asked for again whose worker was lost, or whose host failed, beyond the
/// coordinator's own attempts. An objective that brings every host down is a crash.
const LOST_MAX: u32 = 3;

/// How a search is driven.
#[derive(Clone, Debug)]
pub struct Drive {
    /// Module, limits, blobs and the rest of the jobs.
    pub spec: BatchSpec,
    /// Evaluations at once. Default: as many as keep all slots busy.
    pub parallel: Option<usize>,
    /// When to stop asking, and to give up what is being evaluated. Default never.
    pub until: Option<Instant>,
}

/// Why a search was not driven to its end. Its journal holds what was known by then.
#[derive(Debug, Error)]
pub enum DriveError {
    /// The coordinator, or the way to it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The sampler, an external program for instance, gives no configuration.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// The journal cannot be written. Make room, and resume.
    #[error("the journal: {0}")]
    Journal(#[from] io::Error),
}

/// The input of an evaluation's job.
#[derive(Serialize)]
struct Input<'a> {
    config: &'a Config,
    budget: f64,
    id: TrialId,
    seed: u64,
}

/// One result of a batch of evaluations.
type Arrival = (Trial, Result<optwasm_client::Report, ClientError>);

impl Drive {
    /// Drives `search` until nothing is left to be evaluated. Lines go to `journal`; `heard` is
    /// called with every result, after it was written.
    ///
    /// Dropped before its end, it leaves the search as it was, with evaluations in flight.
    ///
    /// # Errors
    ///
    /// [`DriveError`].
    pub async fn run(
        &self,
        client: &Client,
        search: &mut Search,
        journal: &mut (dyn Write + Send),
        mut heard: impl FnMut(&Told),
    ) -> Result<(), DriveError> {
        let begun = Instant::now();
        let now = || begun.elapsed().as_secs_f64();
        let mut window = Window::new(self.parallel);
        let mut arrivals = SelectAll::new();
        let mut lost: BTreeMap<(TrialId, u64), u32> = BTreeMap::new();
        let mut in_flight = 0;
        loop {
            window.look(client).await?;
            let mut trials = Vec::new();
            while in_flight + trials.len() < window.size() {
                match search.ask(now())? {
                    Ask::Evaluate(trial) => trials.push(trial),
                    Ask::Wait | Ask::Done => break,
                }
            }
            write(search, journal)?;
            if !trials.is_empty() {
                in_flight += trials.len();
                arrivals.push(Box::pin(self.submit(client, trials).await?));
            }
            if in_flight == 0 {
                return Ok(());
            }
            // All that have come, so that what follows from them travels together.
            let mut next = self.before_end(arrivals.next()).await;
            loop {
                let Some((trial, report)) = next.flatten() else {
                    break;
                };
                in_flight -= 1;
                let report = report?;
                window.note(Duration::from_micros(report.wall_us));
                let times = lost.entry((trial.id, trial.budget.to_bits())).or_default();
                let told = match judge(client, report, *times).await? {
                    Some(report) => {
                        let finished = now();
                        search.tell(trial.id, trial.budget, Report { finished, ..report })
                    }
                    None => {
                        *times += 1;
                        // It is in flight, since it was asked for and is not told.
                        let _: Result<(), TellError> = search.lost(trial.id, trial.budget);
                        next = arrivals.next().now_or_never();
                        continue;
                    }
                };
                write(search, journal)?;
                if let Ok(told) = told {
                    heard(&told);
                }
                next = arrivals.next().now_or_never();
            }
            if self.until.is_some_and(|until| Instant::now() >= until) {
                search.stop();
                // What is in flight ends with the batches' streams.
                return Ok(());
            }
        }
    }

    /// What comes before the time is over.
    async fn before_end<T>(&self, what: impl Future<Output = T>) -> Option<T> {
        match self.until {
            Some(until) => tokio::time::timeout_at(until.into(), what).await.ok(),
            None => Some(what.await),
        }
    }

    async fn submit<'c>(
        &self,
        client: &'c Client,
        trials: Vec<Trial>,
    ) -> Result<impl Stream<Item = Arrival> + use<'c>, ClientError> {
        let mut inputs: Vec<Bytes> = Vec::with_capacity(trials.len());
        for Trial {
            id,
            config,
            budget,
            seed,
            ..
        } in &trials
        {
            let input = Input {
                config,
                budget: *budget,
                id: *id,
                seed: *seed,
            };
            let mut bytes = Vec::new();
            ciborium::into_writer(&input, &mut bytes)
                .map_err(|error| ClientError::Codec(format!("input: {error}")))?;
            inputs.push(bytes.into());
        }
        let spec = BatchSpec {
            attached: true,
            id: None,
            ..self.spec.clone()
        };
        let batch = client.submit(spec, inputs).await?;
        let results = batch.results(Order::Completion).await?;
        Ok(arrivals(batch, results, trials))
    }
}

/// The results of a batch, which is removed after the last.
fn arrivals<'c>(
    batch: Batch<'c>,
    results: optwasm_client::Results<'c>,
    trials: Vec<Trial>,
) -> impl Stream<Item = Arrival> + use<'c> {
    unfold(
        (results, trials, false),
        move |(mut results, trials, failed)| async move {
            if failed {
                return None;
            }
            match results.next().await {
                Ok(Some((index, report))) => {
                    let trial = trials.get(index as usize)?.clone();
                    Some(((trial, Ok(report)), (results, trials, false)))
                }
                Ok(None) => {
                    // If it is not, its results stay with the coordinator for as long as others do.
                    let _: Result<(), ClientError> = batch.remove().await;
                    None
                }
                Err(error) => {
                    let trial = trials.first()?.clone();
                    Some(((trial, Err(error)), (results, trials, true)))
                }
            }
        },
    )
}

fn write(search: &mut Search, journal: &mut (dyn Write + Send)) -> io::Result<()> {
    let entries = search.take_entries();
    if entries.is_empty() {
        return Ok(());
    }
    let mut lines = String::new();
    for entry in entries {
        lines.push_str(&entry.to_line());
        lines.push('\n');
    }
    journal.write_all(lines.as_bytes())?;
    journal.flush()
}

/// What a job's end says of its evaluation; `None` where it says nothing and is to be run again.
async fn judge(
    client: &Client,
    report: optwasm_client::Report,
    times_lost: u32,
) -> Result<Option<Report>, ClientError> {
    let crashed = |message: String| (Outcome::Crashed(message), Json::Null);
    let (outcome, info) = match &report.outcome {
        JobOutcome::Ok(output) => match read(&client.fetch(output).await?) {
            Ok((loss, info)) => (Outcome::Loss(loss), info),
            Err(why) => crashed(why),
        },
        JobOutcome::HostOutOfMemory(_)
        | JobOutcome::HostPanic(_)
        | JobOutcome::WorkerLost(_)
        | JobOutcome::Cancelled
        | JobOutcome::Damaged(_)
            if times_lost < LOST_MAX =>
        {
            return Ok(None);
        }
        other => crashed(other.to_string()),
    };
    Ok(Some(Report {
        outcome,
        info,
        finished: 0.0,
        worker: Some(report.worker),
        fuel: Some(report.fuel),
    }))
}

/// Loss and info of an output.
fn read(output: &[u8]) -> Result<(f64, Json), String> {
    // No CBOR map or number begins as JSON does, which also has texts in front of nothing else.
    let value: Json = match output.first() {
        Some(b'{' | b'-' | b'0'..=b'9' | b' ' | b'\t' | b'\n' | b'\r') => {
            serde_json::from_slice(output).map_err(|error| format!("the output: {error}"))?
        }
        _ => {
            let value: ciborium::Value = ciborium::from_reader(output)
                .map_err(|error| format!("the output is neither CBOR nor JSON: {error}"))?;
            // JSON has no number for these, and null would hide which it was.
            if let Some(loss) = loss_of(&value).filter(|loss| !loss.is_finite()) {
                return Ok((loss, Json::Null));
            }
            serde_json::to_value(value).map_err(|error| format!("the output: {error}"))?
        }
    };
    match value {
        Json::Number(loss) => loss.as_f64().map(|loss| (loss, Json::Null)),
        Json::Object(mut map) => {
            let info = map.remove("info").unwrap_or_default();
            map.get("loss")
                .and_then(Json::as_f64)
                .map(|loss| (loss, info))
        }
        _ => None,
    }
    .ok_or_else(|| "the output has no number `loss`".to_owned())
}

fn loss_of(value: &ciborium::Value) -> Option<f64> {
    match value {
        ciborium::Value::Float(loss) => Some(*loss),
        ciborium::Value::Map(entries) => entries
            .iter()
            .find(|(key, _)| key.as_text() == Some("loss"))
            .and_then(|(_, loss)| loss.as_float()),
        _ => None,
    }
}

/// How many evaluations are in flight.
struct Window {
    fixed: Option<usize>,
    slots: usize,
    looked: Option<Instant>,
    /// How long evaluations take: a mean that forgets.
    mean: Option<Duration>,
}

impl Window {
    fn new(fixed: Option<usize>) -> Self {
        Self {
            fixed,
            slots: 0,
            looked: None,
            mean: None,
        }
    }

    async fn look(&mut self, client: &Client) -> Result<(), ClientError> {
        if self.fixed.is_some() || self.looked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return Ok(());
        }
        let workers = client.workers().await?.into_iter();
        let able = workers.filter(|worker| !worker.draining && worker.aside.is_none());
        self.slots = able.map(|worker| worker.info.slots as usize).sum();
        self.looked = Some(Instant::now());
        Ok(())
    }

    fn note(&mut self, time: Duration) {
        self.mean = Some(match self.mean {
            Some(mean) => (mean * 7 + time) / 8,
            None => time,
        });
    }

    /// Without workers a first evaluation waits for one. Where evaluations are short, more of them
    /// are in flight than there are slots.
    fn size(&self) -> usize {
        let ahead = match self.mean {
            Some(mean) => (AHEAD.as_nanos() / mean.as_nanos().max(1)) as usize,
            None => 0,
        };
        let each = 1 + ahead.min(AHEAD_MAX);
        self.fixed.unwrap_or(self.slots * each).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read_in_both_forms() {
        let cbor = |value: &Json| {
            let mut bytes = Vec::new();
            ciborium::into_writer(value, &mut bytes).unwrap_or_default();
            bytes
        };
        let full = serde_json::json!({"loss": 0.5, "info": {"epochs": [1, 2]}});
        let info = serde_json::json!({"epochs": [1, 2]});
        assert_eq!(read(&cbor(&full)), Ok((0.5, info.clone())));
        assert_eq!(read(full.to_string().as_bytes()), Ok((0.5, info)));
        assert_eq!(read(&cbor(&Json::from(2))), Ok((2.0, Json::Null)));
        assert_eq!(read(b"-1.5\n"), Ok((-1.5, Json::Null)));
        let infinite = read(&[0xf9, 0x7c, 0x00]);
        assert_eq!(infinite, Ok((f64::INFINITY, Json::Null)));
        assert!(read(&cbor(&serde_json::json!({"los": 1}))).is_err());
        assert!(read(b"").is_err());
    }

    #[test]
    fn short_evaluations_are_asked_for_ahead() {
        let mut window = Window::new(None);
        window.slots = 4;
        assert_eq!(window.size(), 4);
        window.note(Duration::from_secs(1));
        assert_eq!(window.size(), 4);
        for _ in 0..100 {
            window.note(Duration::from_micros(10));
        }
        assert_eq!(window.size(), 4 * (1 + AHEAD_MAX));
    }
}
