//! The threads on which jobs run.
//!
//! Tasks wait in one queue, in the order in which they came; each slot is a thread that takes the
//! first, runs it, and leaves the report in a common tray. Whoever empties the tray is woken once,
//! however many reports lie in it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::num::NonZeroU32;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use optwasm_protocol::message::JobEvent;
use optwasm_protocol::{BatchId, JobId, Report};
use optwasm_sandbox::{Control, Job, Prepared, Sandbox};
use tokio::sync::Notify;

/// One attempt at a job.
pub(crate) type Attempt = (JobId, u32);

/// An attempt that is ready to run.
pub(crate) struct Task {
    pub(crate) attempt: Attempt,
    pub(crate) prepared: Prepared,
    pub(crate) job: Job,
    /// How many jobs of its setup one instance may run.
    pub(crate) kept: Option<NonZeroU32>,
}

/// Runs jobs on threads of its own, which end when it is dropped.
pub struct Executor {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    sandbox: Arc<Sandbox>,
    state: Mutex<State>,
    /// There is a task, or nothing more to come.
    work: Condvar,
    /// There is something in the tray.
    news: Notify,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Task>,
    running: HashMap<Attempt, Control>,
    finished: Vec<(JobId, u32, Report)>,
    events: HashMap<Attempt, Events>,
    /// The batch for whose next job a slot keeps an instance.
    kept: HashMap<u32, BatchId>,
    /// Raised when everything so far was abandoned; what began before is not reported.
    generation: u64,
    closed: bool,
}

/// The latest event of each kind.
#[derive(Default)]
struct Events {
    progress: Option<JobEvent>,
    incumbent: Option<JobEvent>,
    checkpoint: Option<JobEvent>,
}

impl Shared {
    /// No code that holds the lock can panic half-way.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Executor {
    /// Starts `slots` threads that run jobs in `sandbox`.
    ///
    /// # Errors
    ///
    /// Where the operating system does not start a thread.
    pub fn new(sandbox: Arc<Sandbox>, slots: u32) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            sandbox,
            state: Mutex::default(),
            work: Condvar::new(),
            news: Notify::new(),
        });
        let mut executor = Self {
            shared,
            threads: Vec::new(),
        };
        for slot in 0..slots {
            let shared = executor.shared.clone();
            let thread = std::thread::Builder::new()
                .name(format!("optwasm-slot-{slot}"))
                .spawn(move || slot_loop(&shared, slot))?;
            executor.threads.push(thread);
        }
        Ok(executor)
    }

    /// The sandbox in which jobs run.
    pub fn sandbox(&self) -> &Arc<Sandbox> {
        &self.shared.sandbox
    }

    pub(crate) fn submit(&self, tasks: impl IntoIterator<Item = Task>) {
        let mut state = self.shared.lock();
        let before = state.queue.len();
        state.queue.extend(tasks);
        let added = state.queue.len() - before;
        drop(state);
        for _ in 0..added.min(self.threads.len()) {
            self.shared.work.notify_one();
        }
    }

    /// Takes tasks that have not begun out of the queue; returns which.
    pub(crate) fn take_back(&self, attempts: &[Attempt]) -> Vec<Attempt> {
        let attempts: HashSet<Attempt> = attempts.iter().copied().collect();
        let mut taken = Vec::new();
        self.shared.lock().queue.retain(|task| {
            let wanted = attempts.contains(&task.attempt);
            if wanted {
                taken.push(task.attempt);
            }
            !wanted
        });
        taken
    }

    /// Takes all tasks that have not begun out of the queue.
    pub(crate) fn take_back_all(&self) -> Vec<Attempt> {
        let queue = std::mem::take(&mut self.shared.lock().queue);
        queue.into_iter().map(|task| task.attempt).collect()
    }

    /// Drops attempts that have not begun and cancels those that run.
    pub(crate) fn cancel(&self, attempts: &[Attempt]) {
        self.take_back(attempts);
        let state = self.shared.lock();
        for attempt in attempts {
            if let Some(control) = state.running.get(attempt) {
                control.cancel();
            }
        }
    }

    /// Drops and cancels everything; nothing of it will be reported.
    pub(crate) fn abandon(&self) {
        let mut state = self.shared.lock();
        state.generation += 1;
        state.queue.clear();
        state.finished.clear();
        state.events.clear();
        state.kept.clear();
        for (_, control) in state.running.drain() {
            control.cancel();
        }
        drop(state);
        self.shared.work.notify_all();
    }

    /// Drops attempts that have not begun and cancels those that run, none of which will be reported;
    /// returns which.
    pub(crate) fn stop_all(&self) -> Vec<Attempt> {
        let mut state = self.shared.lock();
        // What has ended stays in the tray.
        state.generation += 1;
        state.events.clear();
        let mut stopped: Vec<Attempt> = Vec::new();
        stopped.extend(
            std::mem::take(&mut state.queue)
                .into_iter()
                .map(|task| task.attempt),
        );
        for (attempt, control) in state.running.drain() {
            control.cancel();
            stopped.push(attempt);
        }
        stopped
    }

    /// Drops instances that wait for another job of a batch, which has none.
    pub(crate) fn forget(&self, batch: BatchId) {
        self.shared.lock().kept.retain(|_, kept| *kept != batch);
        self.shared.work.notify_all();
    }

    /// The attempts that have ended since they were last taken, and those that wait or run.
    pub(crate) fn take_stock(&self) -> (Vec<(JobId, u32, Report)>, Vec<Attempt>) {
        let mut state = self.shared.lock();
        let finished = std::mem::take(&mut state.finished);
        let waiting = state.queue.iter().map(|task| task.attempt);
        let held = waiting.chain(state.running.keys().copied()).collect();
        (finished, held)
    }

    /// Whether a job runs or waits.
    pub(crate) fn is_busy(&self) -> bool {
        let state = self.shared.lock();
        !(state.queue.is_empty() && state.running.is_empty())
    }

    /// Waits until there is something to report.
    pub(crate) async fn news(&self) {
        self.shared.news.notified().await;
    }

    /// The attempts that have ended since the last call.
    pub(crate) fn take_finished(&self) -> Vec<(JobId, u32, Report)> {
        std::mem::take(&mut self.shared.lock().finished)
    }

    /// Whether nothing waits, runs, or is still to be reported.
    pub(crate) fn is_at_rest(&self) -> bool {
        let state = self.shared.lock();
        state.queue.is_empty() && state.running.is_empty() && state.finished.is_empty()
    }

    /// What running jobs have reported since the last call.
    pub(crate) fn take_events(&self) -> Vec<(JobId, u32, JobEvent)> {
        let events = std::mem::take(&mut self.shared.lock().events);
        let of_job = |((id, attempt), events): (Attempt, Events)| {
            let kinds = [events.progress, events.incumbent, events.checkpoint];
            kinds
                .into_iter()
                .flatten()
                .map(move |event| (id, attempt, event))
        };
        events.into_iter().flat_map(of_job).collect()
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.abandon();
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // A slot that panicked has nothing left to say.
            let _ = thread.join();
        }
    }
}

fn slot_loop(shared: &Arc<Shared>, slot: u32) {
    // An instance that waits for another job of its setup.
    let mut kept = None;
    loop {
        let mut state = shared.lock();
        let task = loop {
            if state.closed {
                return;
            }
            match state.queue.pop_front() {
                Some(task) => break task,
                None if kept.is_some() && !state.kept.contains_key(&slot) => {
                    // Giving its memory back takes a while.
                    drop(state);
                    kept = None;
                    state = shared.lock();
                }
                None => {
                    state = shared
                        .work
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        };
        let attempt = task.attempt;
        let generation = state.generation;
        let control = observed(shared, attempt, generation);
        state.running.insert(attempt, control.clone());
        drop(state);

        let Task { prepared, job, .. } = task;
        let sandbox = &shared.sandbox;
        let report = match task.kept {
            Some(most) => sandbox.run_kept(&mut kept, most, &prepared, job, &control),
            None => {
                kept = None;
                sandbox.run(&prepared, job, &control)
            }
        };

        let mut state = shared.lock();
        match kept {
            Some(_) => state.kept.insert(slot, attempt.0.0),
            None => state.kept.remove(&slot),
        };
        // What was abandoned is not held any more, and another run may have its number.
        if state.generation == generation {
            state.running.remove(&attempt);
            state.finished.push((attempt.0, attempt.1, report));
        }
        drop(state);
        shared.news.notify_one();
    }
}

/// A control whose observer keeps the latest event of each kind for the session to send.
fn observed(shared: &Arc<Shared>, attempt: Attempt, generation: u64) -> Control {
    let shared = Arc::downgrade(shared);
    Control::observed(move |event| {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let mut state = shared.lock();
        if state.generation != generation {
            return;
        }
        let events = state.events.entry(attempt).or_default();
        let place = match &event {
            JobEvent::Progress(..) => &mut events.progress,
            JobEvent::Incumbent(_) => &mut events.incumbent,
            JobEvent::Checkpoint(_) => &mut events.checkpoint,
        };
        *place = Some(event);
    })
}
