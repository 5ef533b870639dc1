//! Workers by number, and what runs on each of them.
//!
//! A [`Pool`] numbers the workers that it has seen, from 0 on. A worker keeps its number for as long
//! as it lives; the number of one that was lost goes to the next that comes.
//!
//! [`apply`](Pool::apply) runs a job on every worker, [`apply_only`](Pool::apply_only) on one, and
//! [`scatter`](Pool::scatter) deals items out, so that each worker has a part of its own. Such a job
//! goes to its worker and waits for it, also while that worker is busy or its connection is lost. If
//! the worker itself is lost, drains or is put aside, the job, and with it the part, moves to another
//! one, which fetches the part once: no result is missing, and a part is worked on exactly once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use optwasm_protocol::message::{BatchSpec, Memo, Order, WorkerStatus};
use optwasm_protocol::{Outcome, Payload, Report, WorkerId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::map::{decode, encode};
use crate::{Batch, Client, ClientError, Holds, JobFailed, Pushed};

/// How often is looked for workers that are waited for.
const LOOK: Duration = Duration::from_millis(50);

/// A worker with a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The coordinator's number of it, which no other worker ever gets.
    pub worker: WorkerId,
    /// Its name.
    pub name: String,
    /// Jobs that it runs at once.
    pub slots: u32,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// Workers by number.
pub struct Pool<'a> {
    client: &'a Client,
    holds: Holds<'a>,
    seats: Vec<Option<Seat>>,
}

/// Items that were dealt out: a part for each worker.
#[derive(Debug)]
pub struct Scattered {
    parts: Vec<(WorkerId, Pushed)>,
}

impl Scattered {
    /// Number of parts.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}

impl Client {
    /// The workers that take jobs now, by number, and a place for data that they share.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn pool(&self) -> Result<Pool<'_>, ClientError> {
        let mut pool = Pool {
            client: self,
            holds: Holds::new(self),
            seats: Vec::new(),
        };
        pool.refresh().await?;
        Ok(pool)
    }
}

impl<'a> Pool<'a> {
    /// Looks which workers there are.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn refresh(&mut self) -> Result<(), ClientError> {
        seat(&mut self.seats, self.client.workers().await?);
        Ok(())
    }

    /// Waits until there are so many workers.
    ///
    /// # Errors
    ///
    /// [`ClientError::TooFewWorkers`] where there are not after `patience`.
    pub async fn wait_for(
        &mut self,
        workers: usize,
        patience: Duration,
    ) -> Result<(), ClientError> {
        let begun = Instant::now();
        loop {
            self.refresh().await?;
            if self.len() >= workers {
                return Ok(());
            }
            if begun.elapsed() >= patience {
                let there = self.len();
                return Err(ClientError::TooFewWorkers { workers, there });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Number of workers.
    pub fn len(&self) -> usize {
        self.workers().count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The workers with their numbers, ascending.
    pub fn workers(&self) -> impl Iterator<Item = (usize, &Seat)> {
        let seats = self.seats.iter().enumerate();
        seats.filter_map(|(number, seat)| Some((number, seat.as_ref()?)))
    }

    /// Data that jobs share; see [`Holds::push`].
    pub fn data(&self) -> &Holds<'a> {
        &self.holds
    }

    /// Runs a job on every worker; outputs in the order of their numbers.
    ///
    /// # Errors
    ///
    /// [`ClientError`], [`ClientError::TooFewWorkers`] where there is none.
    pub async fn apply<In, Out>(
        &self,
        spec: &BatchSpec,
        input: &In,
    ) -> Result<Vec<Result<Out, JobFailed>>, ClientError>
    where
        In: Serialize,
        Out: DeserializeOwned,
    {
        let reports = self.apply_raw(spec, encode(input)?).await?;
        decode_all(self.client, reports).await
    }

    /// As [`apply`](Self::apply), with an input of the module's own format; answers whole reports.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply).
    pub async fn apply_raw(
        &self,
        spec: &BatchSpec,
        input: Bytes,
    ) -> Result<Vec<Report>, ClientError> {
        let input = self.client.payload(input).await?;
        let jobs = self.workers().map(|(_, seat)| (seat.worker, input.clone()));
        self.run(spec, jobs.collect()).await
    }

    /// Runs a job on the worker with this number.
    ///
    /// # Errors
    ///
    /// [`ClientError::NoSuchWorker`] before anything is sent, and as [`apply`](Self::apply).
    pub async fn apply_only<In, Out>(
        &self,
        worker: usize,
        spec: &BatchSpec,
        input: &In,
    ) -> Result<Result<Out, JobFailed>, ClientError>
    where
        In: Serialize,
        Out: DeserializeOwned,
    {
        let seat = self.seats.get(worker).and_then(Option::as_ref);
        let Some(seat) = seat else {
            let numbers = self.workers().map(|(number, _)| number).collect();
            return Err(ClientError::NoSuchWorker { worker, numbers });
        };
        let job = (seat.worker, self.client.payload(encode(input)?).await?);
        let reports = self.run(spec, vec![job]).await?;
        let mut outputs = decode_all(self.client, reports).await?;
        outputs.pop().ok_or(ClientError::Unexpected)
    }

    /// Deals items out to the workers: parts of neighbouring items, whose sizes differ by at most
    /// one, the larger ones first. 10 items over 4 workers are 3, 3, 2, 2.
    ///
    /// # Errors
    ///
    /// [`ClientError`], [`ClientError::TooFewWorkers`] where there is none.
    pub async fn scatter<T: Serialize>(&self, items: &[T]) -> Result<Scattered, ClientError> {
        let workers: Vec<WorkerId> = self.workers().map(|(_, seat)| seat.worker).collect();
        if workers.is_empty() {
            return Err(ClientError::TooFewWorkers {
                workers: 1,
                there: 0,
            });
        }
        let mut parts = Vec::new();
        let mut rest = items;
        for (worker, size) in workers.iter().zip(shares(items.len(), workers.len())) {
            let (part, others) = rest.split_at(size);
            rest = others;
            parts.push((*worker, self.holds.push(encode(&part)?).await?));
        }
        Ok(Scattered { parts })
    }

    /// Runs a job on every part, each on the worker that has it; outputs in the order of the parts.
    /// The input of a job is its part: an array of items.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply), and [`ClientError::Removed`].
    pub async fn apply_scattered<Out: DeserializeOwned>(
        &self,
        spec: &BatchSpec,
        scattered: &Scattered,
    ) -> Result<Vec<Result<Out, JobFailed>>, ClientError> {
        let jobs = scattered
            .parts
            .iter()
            .map(|(worker, part)| Ok((*worker, Payload::Blob(part.len(), part.id()?))));
        let jobs = jobs.collect::<Result<_, ClientError>>()?;
        decode_all(self.client, self.run(spec, jobs).await?).await
    }

    /// Runs a job for every part, each on the worker that has it, with the same input; outputs in the
    /// order of the parts. The guest finds its part, an array of items, as the blob `name`.
    ///
    /// # Errors
    ///
    /// As [`apply_scattered`](Self::apply_scattered).
    pub async fn apply_beside<In, Out>(
        &self,
        spec: &BatchSpec,
        (name, scattered): (&str, &Scattered),
        input: &In,
    ) -> Result<Vec<Result<Out, JobFailed>>, ClientError>
    where
        In: Serialize,
        Out: DeserializeOwned,
    {
        let input = self.client.payload(encode(input)?).await?;
        let mut jobs = Vec::new();
        for (worker, part) in &scattered.parts {
            let mut spec = spec.clone();
            spec.template.blobs.push((name.to_owned(), part.id()?));
            spec.home = Some(*worker);
            jobs.push((spec, input.clone()));
        }
        decode_all(self.client, self.run_batches(jobs).await?).await
    }

    /// Removes the parts. Doing so twice does no harm.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn remove(&self, scattered: &mut Scattered) -> Result<(), ClientError> {
        for (_, part) in &mut scattered.parts {
            self.holds.remove(part).await?;
        }
        Ok(())
    }

    /// Removes all that was pushed.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn close(self) -> Result<(), ClientError> {
        self.holds.close().await
    }

    /// Runs jobs at home with these workers.
    async fn run(
        &self,
        spec: &BatchSpec,
        jobs: Vec<(WorkerId, Payload)>,
    ) -> Result<Vec<Report>, ClientError> {
        let at_home = |(worker, payload)| {
            let home = Some(worker);
            (
                BatchSpec {
                    home,
                    ..spec.clone()
                },
                payload,
            )
        };
        self.run_batches(jobs.into_iter().map(at_home).collect())
            .await
    }

    /// Runs jobs, each in a batch of its own, which is removed when its result is known.
    async fn run_batches(
        &self,
        jobs: Vec<(BatchSpec, Payload)>,
    ) -> Result<Vec<Report>, ClientError> {
        if jobs.is_empty() {
            return Err(ClientError::TooFewWorkers {
                workers: 1,
                there: 0,
            });
        }
        let mut batches: Vec<Batch<'_>> = Vec::new();
        for (mut spec, payload) in jobs {
            // A key names one batch.
            spec.id = None;
            // What was run elsewhere does not stand for what is to run here.
            spec.memo = Memo::Off;
            batches.push(self.client.submit_payloads(spec, vec![payload]).await?);
        }
        let mut reports = Vec::new();
        for batch in batches {
            let mut results = batch.results(Order::Input).await?;
            let (_, report) = results.next().await?.ok_or(ClientError::Unexpected)?;
            reports.push(inlined(self.client, report).await?);
            batch.remove().await?;
        }
        Ok(reports)
    }
}

/// A report whose output is at hand when its batch is gone.
async fn inlined(client: &Client, mut report: Report) -> Result<Report, ClientError> {
    if let Outcome::Ok(payload @ Payload::Blob(..)) = &report.outcome {
        report.outcome = Outcome::Ok(client.fetch(payload).await?.into());
    }
    Ok(report)
}

async fn decode_all<Out: DeserializeOwned>(
    client: &Client,
    reports: Vec<Report>,
) -> Result<Vec<Result<Out, JobFailed>>, ClientError> {
    let mut outputs = Vec::new();
    for (number, report) in (0..).zip(reports) {
        outputs.push(decode(client, number, report).await?);
    }
    Ok(outputs)
}

/// Gives each worker a number: those that are there keep theirs, the others take the lowest free
/// ones.
fn seat(seats: &mut Vec<Option<Seat>>, mut workers: Vec<WorkerStatus>) {
    workers.retain(|worker| !worker.draining && worker.aside.is_none());
    workers.sort_by_key(|worker| worker.worker);
    for seat in seats.iter_mut() {
        let at = |seat: &Seat| workers.iter().position(|other| other.worker == seat.worker);
        match seat.as_ref().and_then(at) {
            Some(place) => drop(workers.remove(place)),
            None => *seat = None,
        }
    }
    for WorkerStatus { worker, info, .. } in workers {
        let seat = Seat {
            worker,
            name: info.name,
            slots: info.slots,
            labels: info.labels,
        };
        match seats.iter_mut().find(|seat| seat.is_none()) {
            Some(free) => *free = Some(seat),
            None => seats.push(Some(seat)),
        }
    }
    while seats.last().is_some_and(Option::is_none) {
        seats.pop();
    }
}

/// Sizes of `parts` parts of `items` that differ by at most one, the larger ones first.
fn shares(items: usize, parts: usize) -> impl Iterator<Item = usize> {
    (0..parts).map(move |part| items / parts + usize::from(part < items % parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_balanced() {
        let of = |items, parts| shares(items, parts).collect::<Vec<_>>();
        assert_eq!(of(10, 4), [3, 3, 2, 2]);
        assert_eq!(of(3, 4), [1, 1, 1, 0]);
        assert_eq!(of(0, 2), [0, 0]);
        assert_eq!(of(5, 1), [5]);
    }
}
