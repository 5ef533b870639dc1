//! What the scaler knows of one job, and of the command that is under way.

use std::time::Duration;

use super::types::{Id, State};

#[derive(Debug)]
pub(super) struct Job {
    pub(super) state: State,
    pub(super) running_since: Option<Duration>,
    pub(super) missing_since: Option<Duration>,
    /// When its worker was first seen.
    pub(super) joined: Option<Duration>,
    pub(super) connected: bool,
    pub(super) idle_since: Option<Duration>,
    /// Observations in a row in which it idled although jobs waited.
    pub(super) idle_seen: u32,
    /// Whether its worker idled when it was last seen.
    was_idle: bool,
    /// When it was missed first.
    left: Option<Duration>,
    pub(super) draining_since: Option<Duration>,
    pub(super) cancel: Cancel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cancel {
    No,
    Wanted,
    /// It was tried, and perhaps some of those that were tried together are gone.
    Tried,
    Done,
}

impl Job {
    pub(super) fn new() -> Self {
        Self {
            state: State::Unknown,
            running_since: None,
            missing_since: None,
            joined: None,
            connected: false,
            idle_since: None,
            idle_seen: 0,
            was_idle: false,
            left: None,
            draining_since: None,
            cancel: Cancel::No,
        }
    }

    /// Its worker is connected.
    pub(super) fn seen(&mut self, now: Duration, idle: bool, jobs_wait: bool) {
        self.connected = true;
        self.missing_since = None;
        self.was_idle = idle;
        self.left = None;
        self.idle_since = if idle {
            self.idle_since.or(Some(now))
        } else {
            None
        };
        self.idle_seen = if idle && jobs_wait {
            self.idle_seen.saturating_add(1)
        } else {
            0
        };
    }

    /// Its worker is not connected.
    pub(super) fn disconnected(&mut self, now: Duration) {
        if self.connected {
            self.left = Some(now);
        }
        self.connected = false;
        self.idle_since = None;
        self.idle_seen = 0;
    }

    /// Whether it is, or may become, a worker.
    pub(super) fn counts(&self) -> bool {
        self.draining_since.is_none() && self.cancel == Cancel::No && self.missing_since.is_none()
    }

    /// Whether its worker left earlier than `proven` after it had joined, while it worked, and nobody had
    /// asked it to.
    pub(super) fn was_lost_within(&self, proven: Duration) -> bool {
        let (Some(joined), Some(left)) = (self.joined, self.left) else {
            return false;
        };
        self.draining_since.is_none() && !self.was_idle && left < joined + proven
    }
}

/// The command that is under way.
#[derive(Debug)]
pub(super) enum Busy {
    Submit(u32),
    List { since: Duration },
    Cancel(Vec<Id>),
}

/// Jobs that may exist, without our knowing.
#[derive(Debug)]
pub(super) struct Unsure {
    pub(super) count: u32,
    /// A list that is asked for from then on tells, if it is not empty.
    pub(super) settled: Duration,
    /// Since when such lists are empty; one may be so for no reason, but not for a whole grace.
    pub(super) empty_since: Option<Duration>,
}

impl Unsure {
    pub(super) fn new(count: u32, settled: Duration) -> Self {
        Self {
            count,
            settled,
            empty_since: None,
        }
    }
}
