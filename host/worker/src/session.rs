//! One connection of a worker to its coordinator.
//!
//! The session's own task reads messages and changes its state; a second one sends. What takes
//! time happens in tasks of its own: making a batch ready (fetch its module and blobs, check and
//! compile), fetching a large input, uploading a large output. An assignment therefore passes
//! through up to three places: its batch, until that is ready; the blob cache, for a large input;
//! the executor. It can be given back or revoked from each.
//!
//! What has reached the executor outlives the connection: it runs on, and its report is kept until
//! the coordinator has said that it is stored. The next session begins with all attempts that are
//! held in this way; the coordinator revokes those that it has given to others meanwhile.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use optwasm_protocol::frame::{FrameError, SOFT_FRAME};
use optwasm_protocol::link::{Reader, Writer};
use optwasm_protocol::message::{Assignment, ErrorCode, FromWorker, JobEvent, ToWorker};
use optwasm_protocol::transfer::{TransferError, upload};
use optwasm_protocol::{
    BatchId, ContentId, INLINE_MAX, Instances, JobId, Limits, Link, Outcome, Payload, Report,
    Stream, Template,
};
use optwasm_sandbox::{Control, Job};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::executor::{Attempt, Task};
use crate::ready::{CancelOnDrop, Ready, make_ready};
use crate::worker::{Counted, Worker};

/// How often what running jobs report is sent.
const EVENTS_INTERVAL: Duration = Duration::from_millis(100);

/// What one held attempt takes in a message, generously.
const HELD_SIZE: usize = 24;

/// How long a finished output waits before it is offered again to a coordinator without room.
const FULL_STORE_PAUSE: Duration = Duration::from_secs(1);

/// How a session ended in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// The worker was drained.
    Drained,
    /// The coordinator told it to leave.
    Dismissed,
    /// Its stay is over.
    OutOfTime,
}

/// Whether a worker is to leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drain {
    /// It is to go on.
    #[default]
    No,
    /// It is to finish what runs, give back the rest, and leave.
    Gently,
    /// It is to leave at once.
    Now,
}

/// A session's state, shared by its tasks.
struct Session {
    worker: Rc<Worker>,
    link: Link,
    batches: RefCell<HashMap<BatchId, Batch>>,
    /// Attempts whose large input is on its way; one that is taken out will not run.
    fetching: RefCell<HashSet<Attempt>>,
    /// Attempts whose large output is on its way.
    uploading: RefCell<HashSet<Attempt>>,
    /// Messages to send before reports.
    outbox: RefCell<Vec<FromWorker>>,
    /// Attempts whose report is ready to be sent.
    reports: RefCell<Vec<Attempt>>,
    /// Attempts whose report was sent on this connection and is not stored yet, in that order.
    sent: RefCell<VecDeque<Attempt>>,
    /// How many reports of this connection are stored.
    stored: Cell<u64>,
    wake: Notify,
    /// Ended with the session, so that nothing of it reaches the executor later.
    tasks: RefCell<JoinSet<()>>,
}

enum Batch {
    /// Its module and blobs are being made ready; these jobs wait for them.
    Preparing(
        Vec<Assignment>,
        #[expect(dead_code, reason = "it is there to be dropped")] CancelOnDrop,
    ),
    Ready(Rc<Ready>),
    /// It could not be made ready: for good, where the outcome is deterministic.
    Failed(Outcome, Box<Template>),
}

/// Runs one session on `link`, after the handshake whose stream is `stream`, until the connection
/// ends or the worker has drained.
///
/// # Errors
///
/// Where the connection was lost; what has reached the executor goes on.
pub(crate) async fn run(
    worker: &Rc<Worker>,
    link: Link,
    stream: Stream,
    drain: watch::Receiver<Drain>,
    idle_timeout: Option<Duration>,
) -> Result<Left, FrameError> {
    let session = Rc::new(Session {
        worker: worker.clone(),
        link,
        batches: RefCell::default(),
        fetching: RefCell::default(),
        uploading: RefCell::default(),
        outbox: RefCell::default(),
        reports: RefCell::default(),
        sent: RefCell::default(),
        stored: Cell::new(0),
        wake: Notify::new(),
        tasks: RefCell::default(),
    });
    let Stream { reader, mut writer } = stream;
    session.say_what_is_held(&mut writer).await?;
    if worker.draining.get() {
        session.say(FromWorker::Draining);
    }
    let result = tokio::select! {
        result = receive(&session, reader) => result,
        result = send(&session, writer) => result.map(|()| Left::Drained),
        () = watch_drain(&session, drain) => {
            worker.abandon();
            Ok(Left::Drained)
        }
        () = watch_idle(&session, idle_timeout) => Ok(Left::Drained),
        () = watch_stay(&session) => {
            worker.abandon();
            Ok(Left::OutOfTime)
        }
    };
    let mut tasks = std::mem::take(&mut *session.tasks.borrow_mut());
    tasks.shutdown().await;
    if let Ok(Left::Dismissed) = result {
        worker.abandon();
    }
    result
}

async fn receive(session: &Rc<Session>, mut reader: Reader) -> Result<Left, FrameError> {
    loop {
        let message = reader.next::<ToWorker>().await?.ok_or(FrameError::Ended)?;
        session.worker.busy.set(Instant::now());
        match message {
            ToWorker::Template(batch, template) => session.prepare(batch, template),
            ToWorker::Assign(jobs) => session.assign(jobs),
            ToWorker::Revoke(attempts) => {
                session.withdraw(&attempts);
                session.worker.executor.cancel(&attempts);
            }
            ToWorker::Recall(attempts) => {
                let mut taken = session.withdraw(&attempts);
                taken.extend(session.worker.executor.take_back(&attempts));
                session.give_back(taken);
            }
            ToWorker::Forget(batch) => {
                session.batches.borrow_mut().remove(&batch);
                session.worker.executor.forget(batch);
            }
            ToWorker::Discard(ids) => session.worker.blobs.discard(&ids),
            ToWorker::Stored(count) => session.stored(count),
            ToWorker::Drain => session.drain(),
            ToWorker::Leave => return Ok(Left::Dismissed),
        }
    }
}

/// Sends what there is to send, many reports in one message. Ends when the session has drained.
async fn send(session: &Rc<Session>, mut writer: Writer) -> Result<(), FrameError> {
    let executor = &session.worker.executor;
    let mut events_due = tokio::time::interval(EVENTS_INTERVAL);
    events_due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = executor.news() => {}
            () = session.wake.notified() => {}
            _ = events_due.tick() => {
                let events = executor.take_events();
                for chunk in chunks(events, |(_, _, event)| event_size(event)) {
                    writer.push(&FromWorker::Events(chunk))?;
                    writer.flush().await?;
                }
            }
        }
        let finished = executor.take_finished();
        if !finished.is_empty() {
            session.worker.busy.set(Instant::now());
        }
        session.report(finished);
        for message in session.outbox.take() {
            writer.push(&message)?;
        }
        for chunk in chunks(session.ready_reports(), |(_, _, report)| report.size()) {
            writer.push(&FromWorker::Finished(chunk))?;
            if writer.pending() >= SOFT_FRAME {
                writer.flush().await?;
            }
        }
        if writer.pending() > 0 {
            writer.flush().await?;
        }
        let nothing_moves = session.fetching.borrow().is_empty()
            && session.uploading.borrow().is_empty()
            && session.reports.borrow().is_empty()
            && session.outbox.borrow().is_empty();
        if session.worker.draining.get() && nothing_moves && session.worker.holds_nothing() {
            // The coordinator reads to the end before it takes the worker as gone.
            return writer.finish().await;
        }
    }
}

/// Splits items into messages of about [`SOFT_FRAME`] bytes.
fn chunks<T>(items: Vec<T>, size: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut chunks = Vec::new();
    let mut chunk = Vec::new();
    let mut bytes = 0;
    for item in items {
        bytes += size(&item);
        chunk.push(item);
        if bytes >= SOFT_FRAME {
            chunks.push(std::mem::take(&mut chunk));
            bytes = 0;
        }
    }
    if !chunk.is_empty() {
        chunks.push(chunk);
    }
    chunks
}

fn event_size(event: &JobEvent) -> usize {
    match event {
        JobEvent::Progress(..) => 32,
        JobEvent::Incumbent(incumbent) => incumbent.solution.len() + 64,
        JobEvent::Checkpoint(bytes) => bytes.len() + 32,
    }
}

async fn watch_drain(session: &Session, mut drain: watch::Receiver<Drain>) {
    // The sender lives as long as the worker.
    if drain
        .wait_for(|drain| *drain >= Drain::Gently)
        .await
        .is_ok()
    {
        session.drain();
    }
    if drain.wait_for(|drain| *drain == Drain::Now).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Has the worker leave in good order when it has had nothing to do for `timeout`, counted from
/// connecting. Never resolves: the session ends when it has drained.
async fn watch_idle(session: &Session, timeout: Option<Duration>) {
    let worker = &session.worker;
    let Some(timeout) = timeout else {
        return std::future::pending().await;
    };
    loop {
        if worker.executor.is_busy() || worker.tasks.get() > 0 || !worker.holds_nothing() {
            worker.busy.set(Instant::now());
        }
        let left = timeout.saturating_sub(worker.busy.get().elapsed());
        if left.is_zero() {
            worker.was_idle.set(true);
            session.drain();
            return std::future::pending().await;
        }
        tokio::time::sleep(left.min(Duration::from_secs(1))).await;
    }
}

/// Gives everything back when the worker's stay is nearly over; resolves when it is.
async fn watch_stay(session: &Session) {
    let Some(leaving) = session.worker.leaving else {
        return std::future::pending().await;
    };
    leaving.stop().await;
    session.drain();
    let events = session.worker.executor.take_events();
    // The last checkpoints, from which others go on.
    for chunk in chunks(events, |(_, _, event)| event_size(event)) {
        session.say(FromWorker::Events(chunk));
    }
    session.give_back(session.worker.executor.stop_all());
    leaving.end().await;
}

impl Session {
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let mut tasks = self.tasks.borrow_mut();
        while tasks.try_join_next().is_some() {}
        let counted = Counted::new(&self.worker);
        tasks.spawn_local(async move {
            let _counted = counted;
            task.await;
        });
    }

    fn say(&self, message: FromWorker) {
        self.outbox.borrow_mut().push(message);
        self.wake.notify_one();
    }

    /// Says what is held from earlier connections, and has the reports among it sent again.
    async fn say_what_is_held(self: &Rc<Self>, writer: &mut Writer) -> Result<(), FrameError> {
        let (finished, mut held) = self.worker.executor.take_stock();
        let reports: Vec<Attempt> = {
            let mut unstored = self.worker.unstored.borrow_mut();
            for (id, attempt, report) in finished {
                unstored.insert((id, attempt), report);
            }
            unstored.keys().copied().collect()
        };
        held.extend(&reports);
        for chunk in chunks(held, |_| HELD_SIZE) {
            writer.push(&FromWorker::Holds(chunk))?;
            writer.flush().await?;
        }
        if let Some(leaving) = &self.worker.leaving {
            writer.push(&FromWorker::Stays(leaving.stay(Instant::now())))?;
        }
        writer.push(&FromWorker::Ready)?;
        writer.flush().await?;
        for attempt in reports {
            self.report_one(attempt);
        }
        Ok(())
    }

    /// The coordinator has stored so many reports of this connection.
    fn stored(&self, count: u64) {
        let mut sent = self.sent.borrow_mut();
        let mut unstored = self.worker.unstored.borrow_mut();
        while self.stored.get() < count {
            let Some(attempt) = sent.pop_front() else {
                break;
            };
            unstored.remove(&attempt);
            self.stored.set(self.stored.get() + 1);
        }
        if self.worker.draining.get() {
            self.wake.notify_one();
        }
    }

    /// Reports to send now.
    fn ready_reports(&self) -> Vec<(JobId, u32, Report)> {
        let ready = self.reports.take();
        let unstored = self.worker.unstored.borrow();
        let mut reports = Vec::with_capacity(ready.len());
        let mut sent = self.sent.borrow_mut();
        for attempt in ready {
            if let Some(report) = unstored.get(&attempt) {
                sent.push_back(attempt);
                reports.push((attempt.0, attempt.1, report.clone()));
            }
        }
        reports
    }

    fn give_back(&self, attempts: Vec<Attempt>) {
        if !attempts.is_empty() {
            self.say(FromWorker::GiveBack(attempts));
        }
    }

    /// Takes attempts that have not reached the executor out of this session; returns which.
    fn withdraw(&self, attempts: &[Attempt]) -> Vec<Attempt> {
        let wanted: HashSet<Attempt> = attempts.iter().copied().collect();
        let mut taken = Vec::new();
        for batch in self.batches.borrow_mut().values_mut() {
            if let Batch::Preparing(waiting, _) = batch {
                waiting.retain(|job| {
                    let is_wanted = wanted.contains(&(job.0, job.1));
                    if is_wanted {
                        taken.push((job.0, job.1));
                    }
                    !is_wanted
                });
            }
        }
        let mut fetching = self.fetching.borrow_mut();
        taken.extend(attempts.iter().filter(|attempt| fetching.remove(attempt)));
        taken
    }

    fn drain(&self) {
        if self.worker.draining.replace(true) {
            return;
        }
        self.say(FromWorker::Draining);
        let mut rest = self.worker.executor.take_back_all();
        rest.extend(self.fetching.borrow_mut().drain());
        for batch in self.batches.borrow_mut().values_mut() {
            if let Batch::Preparing(waiting, _) = batch {
                rest.extend(waiting.drain(..).map(|job| (job.0, job.1)));
            }
        }
        self.give_back(rest);
    }

    /// Begins to make a batch ready.
    fn prepare(self: &Rc<Self>, batch: BatchId, template: Template) {
        self.prepare_for(batch, template, Vec::new());
    }

    /// Begins to make a batch ready for the jobs that wait for it.
    fn prepare_for(self: &Rc<Self>, batch: BatchId, template: Template, waiting: Vec<Assignment>) {
        let control = Control::new();
        let preparing = Batch::Preparing(waiting, CancelOnDrop(control.clone()));
        self.batches.borrow_mut().insert(batch, preparing);
        let session = self.clone();
        self.spawn(async move {
            let ready =
                match make_ready(&session.worker, &session.link, template.clone(), control).await {
                    Ok(ready) => Batch::Ready(Rc::new(ready)),
                    Err(outcome) => Batch::Failed(outcome, Box::new(template)),
                };
            let mut batches = session.batches.borrow_mut();
            let Some(place @ Batch::Preparing(..)) = batches.get_mut(&batch) else {
                return;
            };
            let Batch::Preparing(waiting, _) = std::mem::replace(place, ready) else {
                return;
            };
            let failed = match place {
                Batch::Failed(outcome, _) => Some(outcome.clone()),
                _ => None,
            };
            drop(batches);
            match failed {
                Some(outcome) => {
                    for job in waiting {
                        session.not_run(job, outcome.clone());
                    }
                }
                None => session.assign(waiting),
            }
        });
    }

    fn assign(self: &Rc<Self>, jobs: Vec<Assignment>) {
        if self.worker.draining.get() {
            return self.give_back(jobs.into_iter().map(|job| (job.0, job.1)).collect());
        }
        let mut tasks = Vec::with_capacity(jobs.len());
        let mut again = Vec::new();
        let mut batches = self.batches.borrow_mut();
        for job in jobs {
            match batches.get_mut(&job.0.0) {
                Some(Batch::Preparing(waiting, _)) => waiting.push(job),
                Some(Batch::Ready(ready)) if !self.admits(&job.4.unwrap_or(ready.limits)) => {
                    self.give_back(vec![(job.0, job.1)]);
                }
                Some(Batch::Ready(ready)) => tasks.extend(self.task(ready, job)),
                Some(Batch::Failed(outcome, _)) if outcome.is_deterministic() => {
                    self.not_run(job, outcome.clone());
                }
                // This machine failed, which may be over: the next job finds out.
                Some(Batch::Failed(_, template)) => {
                    again.push((job.0.0, Template::clone(template)));
                    let control = CancelOnDrop(Control::new());
                    batches.insert(job.0.0, Batch::Preparing(vec![job], control));
                }
                // Templates precede assignments, so this coordinator is confused.
                None => self.give_back(vec![(job.0, job.1)]),
            }
        }
        drop(batches);
        self.worker.executor.submit(tasks);
        for (batch, template) in again {
            let waiting = match self.batches.borrow_mut().remove(&batch) {
                Some(Batch::Preparing(waiting, _)) => waiting,
                _ => continue,
            };
            self.prepare_for(batch, template, waiting);
        }
    }

    /// Whether a job can still end before this worker leaves.
    fn admits(&self, limits: &Limits) -> bool {
        let leaving = self.worker.leaving.as_ref();
        leaving.is_none_or(|leaving| leaving.admits(Instant::now(), limits))
    }

    /// The task that runs `job`; none yet where its input has to be fetched first.
    fn task(self: &Rc<Self>, ready: &Rc<Ready>, job: Assignment) -> Option<Task> {
        let Assignment(id, attempt, input, resume, limits) = job;
        let task = move |ready: &Ready, input| Task {
            attempt: (id, attempt),
            prepared: ready.prepared.clone(),
            job: Job {
                setup: ready.setup.clone(),
                limits: limits.unwrap_or(ready.limits),
                input,
                resume,
            },
            kept: match ready.instances {
                Instances::Kept(jobs) => Some(jobs),
                _ => None,
            },
        };
        let blob = match input {
            Payload::Inline(bytes) => return Some(task(ready, bytes)),
            Payload::Blob(_, blob) => blob,
        };
        self.fetching.borrow_mut().insert((id, attempt));
        let (session, ready) = (self.clone(), ready.clone());
        self.spawn(async move {
            let input = session.worker.blobs.get(&session.link, blob).await;
            if !session.fetching.borrow_mut().remove(&(id, attempt)) {
                // Given back or revoked meanwhile.
                return;
            }
            match input {
                Ok(bytes) => session.worker.executor.submit([task(&ready, bytes)]),
                Err(error) => {
                    let outcome = Outcome::HostOutOfMemory(error.to_string());
                    session.keep((id, attempt), Report::not_run(outcome));
                }
            }
        });
        None
    }

    fn not_run(&self, job: Assignment, outcome: Outcome) {
        self.keep((job.0, job.1), Report::not_run(outcome));
    }

    /// Keeps a report and has it sent.
    fn keep(&self, attempt: Attempt, report: Report) {
        let mut unstored = self.worker.unstored.borrow_mut();
        unstored.insert(attempt, report);
        self.reports.borrow_mut().push(attempt);
        self.wake.notify_one();
    }

    /// Takes finished attempts in.
    fn report(self: &Rc<Self>, finished: Vec<(JobId, u32, Report)>) {
        for (id, attempt, report) in finished {
            let mut unstored = self.worker.unstored.borrow_mut();
            unstored.insert((id, attempt), report);
            drop(unstored);
            self.report_one((id, attempt));
        }
    }

    /// Has a report sent; one with a large output when that has arrived.
    fn report_one(self: &Rc<Self>, attempt: Attempt) {
        let output = match self.worker.unstored.borrow().get(&attempt) {
            Some(Report {
                outcome: Outcome::Ok(Payload::Inline(bytes)),
                ..
            }) if bytes.len() > INLINE_MAX => bytes.clone(),
            _ => return self.reports.borrow_mut().push(attempt),
        };
        self.uploading.borrow_mut().insert(attempt);
        let session = self.clone();
        self.spawn(async move {
            let blob = ContentId::of(&output);
            let uploaded = upload_patiently(&session.link, blob, &output).await;
            session.uploading.borrow_mut().remove(&attempt);
            let outcome = match uploaded {
                Ok(()) => Outcome::Ok(Payload::Blob(output.len() as u64, blob)),
                // The connection is lost, and the next one tries again.
                Err(TransferError::Link(_) | TransferError::Frame(_)) => return,
                Err(error) => Outcome::HostOutOfMemory(error.to_string()),
            };
            if let Some(report) = session.worker.unstored.borrow_mut().get_mut(&attempt) {
                report.outcome = outcome;
            }
            session.reports.borrow_mut().push(attempt);
            session.wake.notify_one();
        });
    }
}

/// Uploads an output; where the coordinator has no room for it, waits until it has.
async fn upload_patiently(link: &Link, id: ContentId, output: &[u8]) -> Result<(), TransferError> {
    loop {
        match upload(link, id, output).await {
            Err(TransferError::Request(error)) if error.code == ErrorCode::Storage => {
                tracing::warn!("an output waits: {error}");
                tokio::time::sleep(FULL_STORE_PAUSE).await;
            }
            result => return result,
        }
    }
}
