//! What of a worker outlives its connections.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use optwasm_protocol::Report;
use optwasm_protocol::message::WorkerInfo;

use crate::blobs::BlobCache;
use crate::executor::{Attempt, Executor};
use crate::leaving::Leaving;

/// What outlives a connection: slots, sandbox, blobs.
pub struct Worker {
    /// What the worker says of itself.
    pub info: WorkerInfo,
    /// Its slots.
    pub executor: Executor,
    /// Its blobs.
    pub blobs: BlobCache,
    /// Reports that the coordinator is not known to have stored.
    pub(crate) unstored: RefCell<HashMap<Attempt, Report>>,
    /// When it last had work.
    pub(crate) busy: Cell<Instant>,
    /// Tasks of the session that prepare, fetch and upload.
    pub(crate) tasks: Cell<usize>,
    /// Whether what runs is to be finished and the rest was given back.
    pub(crate) draining: Cell<bool>,
    /// Whether that is because it had nothing to do.
    pub(crate) was_idle: Cell<bool>,
    /// Its stay, where it leaves at a set time.
    pub(crate) leaving: Option<Leaving>,
    /// Of which life of its coordinator the numbers of its attempts are.
    life: Cell<Option<u64>>,
}

impl Worker {
    /// A worker that runs jobs in `executor`.
    pub fn new(info: WorkerInfo, executor: Executor, blobs: BlobCache) -> Self {
        Self {
            info,
            executor,
            blobs,
            unstored: RefCell::default(),
            busy: Instant::now().into(),
            tasks: Cell::new(0),
            draining: Cell::new(false),
            was_idle: Cell::new(false),
            leaving: None,
            life: Cell::new(None),
        }
    }

    /// Has it leave `after` now, and take no job before that cannot end in time: see the crate's module
    /// `leaving`. Where nothing is said it stays for ever.
    #[must_use]
    pub fn leave_after(mut self, after: Duration) -> Self {
        self.leaving = Some(Leaving::new(Instant::now(), after));
        self
    }

    /// It is connected to this life of its coordinator: what it holds of another is of no use.
    pub(crate) fn enter(&self, life: u64) {
        if self
            .life
            .replace(Some(life))
            .is_some_and(|before| before != life)
        {
            self.abandon();
        }
    }

    /// Whether it has been connected.
    pub(crate) fn has_begun(&self) -> bool {
        self.life.get().is_some()
    }

    /// Whether it takes no more jobs because its stay is nearly over.
    pub(crate) fn is_out_of_time(&self) -> bool {
        let now = Instant::now();
        self.leaving.is_some_and(|leaving| leaving.has_stopped(now))
    }

    /// Whether it has to be gone by now, or has nothing to wait for.
    pub(crate) fn is_over(&self) -> bool {
        let now = Instant::now();
        let is_over = self.leaving.is_some_and(|leaving| leaving.is_over(now));
        is_over || (self.is_out_of_time() && self.holds_nothing())
    }

    /// Whether it has no job and no report.
    pub(crate) fn holds_nothing(&self) -> bool {
        self.executor.is_at_rest() && self.unstored.borrow().is_empty()
    }

    /// Drops and cancels everything.
    pub(crate) fn abandon(&self) {
        self.executor.abandon();
        self.unstored.borrow_mut().clear();
    }
}

/// Counts a task for as long as it lives.
pub(crate) struct Counted(Rc<Worker>);

impl Counted {
    pub(crate) fn new(worker: &Rc<Worker>) -> Self {
        worker.tasks.set(worker.tasks.get() + 1);
        Self(worker.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.tasks.set(self.0.tasks.get() - 1);
    }
}
