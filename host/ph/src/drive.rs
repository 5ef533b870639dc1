//! Drives a problem: what is to be solved becomes jobs on a coordinator's workers, or in this process.
//!
//! The file of each unit's model is pushed once, as a blob, and held until the end. What is handed out at
//! one time travels as one batch, or as several at once where it is much or needs several solvers: a
//! round trip takes it to the coordinator, and results come as a stream. Batches are
//! [attached](BatchSpec::attached): what is under way ends with this process. Those that have ended
//! are removed several at once, while others are being solved: each removal is a write to the
//! coordinator's disk, as each submission is, and one by one they would make every iteration wait.
//!
//! Jobs of a batch share its blobs, which are the files of their own units and no others. A worker
//! fetches them all, each once, whichever of the jobs it runs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::stream::{
    FuturesUnordered, LocalBoxStream, SelectAll, StreamExt, TryStreamExt, iter, unfold,
};
use optwasm_client::{
    Batch, BatchId, BatchSpec, Client, ClientError, ContentId, Order, Outcome, Report, Results,
};
use optwasm_model::mps::{self, WriteError};
use optwasm_model::{Model, Solution, Status};

use crate::{Class, Ph, PhError, Solved, Step, Study};

/// Files that are pushed at once: enough to fill a connection with small ones.
const UPLOADS: usize = 16;
/// How often a job is asked for again whose worker was lost, or whose host failed, beyond the
/// coordinator's own attempts. A model that brings every host down has failed.
const LOST_MAX: u32 = 3;
/// Batches under way, at most; what else is to be solved waits until one has ended. Each holds a
/// stream, of which a connection has 32; this, [`ASKED_AT_ONCE`], [`REMOVED_AT_ONCE`] and the stream of
/// held blobs are no more than that.
const OPEN_MAX: usize = 12;
/// Outputs that are fetched at once, or, at another time, batches that are cancelled.
const ASKED_AT_ONCE: usize = 8;
/// Jobs of a batch, at most, and so blobs, of which a coordinator takes 1024 with the caller's own
/// arguments. A worker fetches all of them before it begins, so that fewer are better; times
/// [`OPEN_MAX`], they keep some thousand slots busy.
const BATCH_MAX: usize = 256;
/// Batches that are removed at once; the coordinator writes them to its disk together.
const REMOVED_AT_ONCE: usize = 8;
/// Batches that have ended and are not removed yet, at most: so the cost of removing them is a few
/// percent of that of submitting them.
const ENDED_MAX: usize = 32;
/// How long is waited for a coordinator to take note of what nobody wants any more. Batches are
/// attached: one that does not hear of it cancels them all the same.
const FAREWELL: Duration = Duration::from_secs(2);

/// A solver.
#[derive(Clone, Debug)]
pub struct Solver {
    /// What it takes.
    pub takes: Vec<Class>,
    /// Its module, and what its jobs run under.
    pub spec: BatchSpec,
}

/// Why a problem was not driven to its end.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The coordinator, or the way to it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Progressive hedging cannot go on: a scenario has no solution, for instance.
    #[error(transparent)]
    Ph(#[from] PhError),
    /// A model has no MPS form.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// None of the solvers takes programs of this class; name one that does.
    #[error("none of the solvers takes {0} programs")]
    NoSolver(Class),
}

/// Has models solved.
pub struct Driver<'c> {
    client: &'c Client,
    solvers: Vec<Solver>,
    arrivals: SelectAll<LocalBoxStream<'c, Result<Arrival, ClientError>>>,
    /// Batches, and their jobs that have not ended.
    open: BTreeMap<BatchId, (Batch<'c>, BTreeSet<u64>)>,
    /// Of each solver, the jobs that wait until there is room for another batch.
    waiting: Vec<VecDeque<Job>>,
    /// Batches that have ended.
    ended: Vec<Batch<'c>>,
    /// How often jobs were asked for again.
    lost: BTreeMap<u64, u32>,
}

/// What is to be solved.
#[derive(Clone)]
struct Job {
    id: u64,
    class: Class,
    input: Bytes,
    /// The blob that the input names, if it does.
    base: Option<Blob>,
}

/// A job that has ended.
struct Arrival {
    batch: BatchId,
    job: Job,
    report: Report,
}

/// The name of a blob, and what it is.
type Blob = (String, ContentId);

impl<'c> Driver<'c> {
    /// A driver of these solvers. Each model goes to the first that takes programs of its class.
    pub fn new(client: &'c Client, solvers: Vec<Solver>) -> Self {
        Driver {
            client,
            waiting: vec![VecDeque::new(); solvers.len()],
            solvers,
            arrivals: SelectAll::new(),
            open: BTreeMap::new(),
            ended: Vec::new(),
            lost: BTreeMap::new(),
        }
    }

    /// Drives progressive hedging to its end; `heard` is called with each step, and may end it there.
    ///
    /// Dropped before its end, it leaves jobs under way: [`cancel`](Self::cancel) ends them.
    ///
    /// # Errors
    ///
    /// [`DriveError`]; what is under way is cancelled then.
    pub async fn hedge(
        &mut self,
        ph: &mut Ph<'_>,
        heard: impl FnMut(&Ph<'_>, &Step) -> ControlFlow<()>,
    ) -> Result<(), DriveError> {
        let pool = self.client.pool().await?;
        let bases = ph.bases().into_iter();
        let bases: Vec<(String, Bytes)> = bases
            .map(|base| (base.name, Bytes::copy_from_slice(base.bytes)))
            .collect();
        let data = pool.data();
        let pushed = iter(bases).map(|(name, bytes)| async move {
            let pushed = data.push(bytes).await?;
            Ok::<_, ClientError>((name, pushed.id()?, pushed))
        });
        let held: Vec<_> = pushed.buffered(UPLOADS).try_collect().await?;
        let blobs = held.iter().map(|(name, id, _)| (name.clone(), *id));
        let blobs: Vec<Blob> = blobs.collect();
        let driven = self.iterate(ph, &blobs, heard).await;
        self.cancel().await;
        // Where the coordinator does not hear of it, it notices that this client has gone.
        let _ = tokio::time::timeout(FAREWELL, pool.close()).await;
        driven
    }

    async fn iterate(
        &mut self,
        ph: &mut Ph<'_>,
        blobs: &[Blob],
        mut heard: impl FnMut(&Ph<'_>, &Step) -> ControlFlow<()>,
    ) -> Result<(), DriveError> {
        loop {
            let jobs = ph.subproblems().into_iter().map(|subproblem| Job {
                id: subproblem.id,
                class: subproblem.class,
                input: subproblem.patch.to_cbor().into(),
                base: blobs.get(subproblem.unit).cloned(),
            });
            self.submit(jobs.collect()).await?;
            if self.ended.len() >= ENDED_MAX {
                self.remove_ended();
            }
            let answers = self.answers(|id| ph.is_wanted(id)).await?;
            if let Some(step) = ph.solved(answers)?
                && heard(ph, &step).is_break()
            {
                return Ok(());
            }
            if ph.is_done() {
                return Ok(());
            }
            self.cancel_unwanted(|id| ph.is_wanted(id)).await;
        }
    }

    /// Drives a study to its end.
    ///
    /// # Errors
    ///
    /// [`DriveError`]; what is under way is cancelled then.
    pub async fn study(&mut self, study: &mut Study<'_>) -> Result<(), DriveError> {
        let driven = self.inquire(study).await;
        self.cancel().await;
        driven
    }

    async fn inquire(&mut self, study: &mut Study<'_>) -> Result<(), DriveError> {
        loop {
            let jobs = study.models().into_iter();
            let jobs = jobs.map(|asked| job(asked.id, &asked.model));
            self.submit(jobs.collect::<Result<_, _>>()?).await?;
            if study.is_done() {
                return Ok(());
            }
            let answers = self.answers(|_| true).await?;
            study.solved(answers);
        }
    }

    /// Solves one model. Of a job that failed, the solution says how.
    ///
    /// # Errors
    ///
    /// [`DriveError`].
    pub async fn solve(&mut self, model: &Model) -> Result<Solution, DriveError> {
        self.submit(vec![job(0, model)?]).await?;
        loop {
            if let Some(Solved { mut solution, .. }) = self.answers(|_| true).await?.pop() {
                self.cancel().await;
                // What a solver publishes while it runs may leave out zeros.
                if solution.values.len() < model.columns.len() {
                    solution.expand(model.columns.iter().map(|column| &*column.name));
                }
                return Ok(solution);
            }
        }
    }

    /// Ends all jobs that are under way.
    pub async fn cancel(&mut self) {
        self.cancel_unwanted(|_| false).await;
        self.remove_ended();
        let rest = async { while self.arrivals.next().await.is_some() {} };
        // What is not removed then stays with the coordinator for as long as others' batches do.
        let _ = tokio::time::timeout(FAREWELL, rest).await;
        self.arrivals.clear();
        self.lost.clear();
    }

    /// Ends batches of which no job is wanted any more.
    async fn cancel_unwanted(&mut self, is_wanted: impl Fn(u64) -> bool) {
        for waiting in &mut self.waiting {
            waiting.retain(|job| is_wanted(job.id));
        }
        let is_over = |jobs: &BTreeSet<u64>| !jobs.iter().any(|id| is_wanted(*id));
        let over = self.open.extract_if(.., |_, (_, jobs)| is_over(jobs));
        let over: Vec<Batch<'_>> = over.map(|(_, (batch, _))| batch).collect();
        iter(&over)
            .for_each_concurrent(ASKED_AT_ONCE, async |batch| {
                // One that does not hear of it is cancelled when nobody reads its results.
                let _ = tokio::time::timeout(FAREWELL, batch.cancel()).await;
            })
            .await;
        self.ended.extend(over);
    }

    /// Removes what has ended, while results of other batches are waited for.
    fn remove_ended(&mut self) {
        let ended = std::mem::take(&mut self.ended);
        let removed = iter(ended).map(async |batch| {
            // What is not removed stays with the coordinator for as long as others' batches do.
            let _: Result<(), ClientError> = batch.remove().await;
        });
        let removed = removed.buffer_unordered(REMOVED_AT_ONCE);
        let nothing = removed.filter_map(async |()| None);
        self.arrivals.push(nothing.boxed_local());
    }

    /// Submits these jobs and those that wait, as many as there is room for.
    async fn submit(&mut self, jobs: Vec<Job>) -> Result<(), DriveError> {
        for job in jobs {
            let mut solvers = self.solvers.iter();
            let solver = solvers
                .position(|solver| solver.takes.contains(&job.class))
                .ok_or(DriveError::NoSolver(job.class))?;
            self.waiting[solver].push_back(job);
        }
        let mut room = OPEN_MAX.saturating_sub(self.open.len());
        let mut submissions = FuturesUnordered::new();
        for (solver, waiting) in self.solvers.iter().zip(&mut self.waiting) {
            while room > 0 && !waiting.is_empty() {
                room -= 1;
                let jobs = waiting.drain(..waiting.len().min(BATCH_MAX)).collect();
                submissions.push(submission(self.client, solver.spec.clone(), jobs));
            }
        }
        while let Some((batch, results, jobs)) = submissions.try_next().await? {
            let ids = jobs.iter().map(|job| job.id).collect();
            self.open.insert(batch.id(), (batch, ids));
            self.arrivals
                .push(arrivals(batch, results, jobs).boxed_local());
        }
        Ok(())
    }

    /// What has been answered: waits for one answer, and takes all others that are there by then.
    /// Jobs that were lost and are wanted are submitted again.
    async fn answers(
        &mut self,
        is_wanted: impl Fn(u64) -> bool,
    ) -> Result<Vec<Solved>, DriveError> {
        let mut arrived = Vec::new();
        let mut next = self.arrivals.next().await;
        if next.is_none() {
            // Somebody waits for an answer that is not on its way.
            return Err(ClientError::Unexpected.into());
        }
        while let Some(arrival) = next {
            let Arrival { batch, job, report } = arrival?;
            if let Some((_, jobs)) = self.open.get_mut(&batch) {
                jobs.remove(&job.id);
            }
            if is_wanted(job.id) {
                let times = self.lost.get(&job.id).copied().unwrap_or(0);
                arrived.push((job, report, times));
            }
            next = self.arrivals.next().now_or_never().flatten();
        }
        let client = self.client;
        let read = iter(arrived).map(async |(job, report, times)| {
            Ok::<_, ClientError>((job, solution(client, report, times).await?, times))
        });
        let read: Vec<_> = read.buffered(ASKED_AT_ONCE).try_collect().await?;
        let mut answers = Vec::new();
        let mut again = Vec::new();
        for (job, solution, times) in read {
            match solution {
                Some(solution) => answers.push(Solved {
                    id: job.id,
                    solution,
                }),
                None => {
                    self.lost.insert(job.id, times + 1);
                    again.push(job);
                }
            }
        }
        let ended = self.open.extract_if(.., |_, (_, jobs)| jobs.is_empty());
        self.ended.extend(ended.map(|(_, (batch, _))| batch));
        self.submit(again).await?;
        Ok(answers)
    }
}

/// Submits jobs as one batch, and asks for its results.
async fn submission<'c>(
    client: &'c Client,
    mut spec: BatchSpec,
    jobs: Vec<Job>,
) -> Result<(Batch<'c>, Results<'c>, Vec<Job>), ClientError> {
    spec.attached = true;
    // A key is of one batch, and these are many.
    spec.id = None;
    let bases: BTreeSet<&Blob> = jobs.iter().filter_map(|job| job.base.as_ref()).collect();
    spec.template.blobs.extend(bases.into_iter().cloned());
    let inputs: Vec<Bytes> = jobs.iter().map(|job| job.input.clone()).collect();
    let batch = client.submit(spec, inputs).await?;
    let results = batch.results(Order::Completion).await?;
    Ok((batch, results, jobs))
}

/// The job that solves a whole model.
fn job(id: u64, model: &Model) -> Result<Job, WriteError> {
    Ok(Job {
        id,
        class: Class::of(model),
        input: mps::write(model)?.into(),
        base: None,
    })
}

/// The results of a batch.
fn arrivals<'c>(
    batch: Batch<'c>,
    results: Results<'c>,
    jobs: Vec<Job>,
) -> impl futures_util::Stream<Item = Result<Arrival, ClientError>> + use<'c> {
    unfold(Some((results, jobs)), move |state| async move {
        let (mut results, jobs) = state?;
        match results.next().await {
            Ok(Some((index, report))) => {
                let job = jobs.get(index as usize)?.clone();
                let batch = batch.id();
                Some((Ok(Arrival { batch, job, report }), Some((results, jobs))))
            }
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
}

/// What a job's end says of its model; `None` where it says nothing and is to be run again.
async fn solution(
    client: &Client,
    report: Report,
    times_lost: u32,
) -> Result<Option<Solution>, ClientError> {
    let failed = |why: String| Solution {
        message: Some(why),
        ..Solution::without_values(Status::Unknown, "")
    };
    // The best solution that the job had published before a limit ended it, with its bound.
    let published = |status| {
        let solution = Solution::from_cbor(&report.incumbent.as_ref()?.solution).ok()?;
        Some(Solution { status, ..solution })
    };
    let limited = |status| published(status).unwrap_or_else(|| failed(report.outcome.to_string()));
    Ok(Some(match &report.outcome {
        Outcome::Ok(output) => Solution::from_cbor(&client.fetch(output).await?)
            .unwrap_or_else(|error| failed(format!("the answer: {error}"))),
        Outcome::Deadline => limited(Status::TimeLimit),
        Outcome::OutOfFuel => limited(Status::FuelLimit),
        Outcome::HostOutOfMemory(_)
        | Outcome::HostPanic(_)
        | Outcome::WorkerLost(_)
        | Outcome::Cancelled
        | Outcome::Damaged(_)
            if times_lost < LOST_MAX =>
        {
            return Ok(None);
        }
        other => failed(other.to_string()),
    }))
}
