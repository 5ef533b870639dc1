//! The line between a running job and whoever waits for it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use optwasm_protocol::message::JobEvent;

/// Cancels a running job and hears what it reports. Clones are handles to the same job.
#[derive(Clone)]
pub struct Control {
    shared: Arc<Shared>,
    is_muted: bool,
}

type Observer = Box<dyn Fn(JobEvent) + Send + Sync>;

struct Shared {
    cancelled: AtomicBool,
    observer: Option<Observer>,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}

impl Default for Control {
    fn default() -> Self {
        Self::new()
    }
}

impl Control {
    /// A control without an observer.
    pub fn new() -> Self {
        Self::with(None)
    }

    /// A control whose `observer` is called, on the job's own thread, with everything that the
    /// job reports. It must be quick: the job waits for it.
    pub fn observed(observer: impl Fn(JobEvent) + Send + Sync + 'static) -> Self {
        Self::with(Some(Box::new(observer)))
    }

    fn with(observer: Option<Observer>) -> Self {
        Self {
            shared: Arc::new(Shared {
                cancelled: AtomicBool::new(false),
                observer,
            }),
            is_muted: false,
        }
    }

    /// Ends the job at its next check, after at most a slice of its fuel, well within a tenth of a second.
    pub fn cancel(&self) {
        self.shared.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.shared.cancelled.load(Ordering::Relaxed)
    }

    /// Whether what goes through this handle is heard by nobody.
    pub(crate) fn mute(&mut self, is_muted: bool) {
        self.is_muted = is_muted;
    }

    pub(crate) fn is_observed(&self) -> bool {
        self.observer().is_some()
    }

    pub(crate) fn observe(&self, event: JobEvent) {
        if let Some(observer) = self.observer() {
            observer(event);
        }
    }

    fn observer(&self) -> Option<&Observer> {
        self.shared.observer.as_ref().filter(|_| !self.is_muted)
    }
}
