//! Batches that end when nobody follows them any longer.
//!
//! An attached batch is that of a caller who waits for it: a modelling tool, which may be killed. It
//! lives while a stream follows it, be it of results or of its status, and for
//! [`ATTACHED_GRACE`] after the last has ended, in which a caller
//! whose connection broke comes back. That also holds from its submission, and from a restart of the
//! coordinator, until the first stream. A batch whose jobs somebody has run again is not attached any
//! more.

use std::collections::HashMap;

use optwasm_protocol::{ATTACHED_GRACE, BatchId};
use optwasm_store::Store;

use super::{Hub, Now};

/// The attached batches that are not done.
#[derive(Default)]
pub(super) struct Attached(HashMap<BatchId, Lifeline>);

struct Lifeline {
    followers: u32,
    /// Since when there are none, in microseconds of the coordinator's clock.
    alone_since: u64,
}

impl Attached {
    /// Begins with nobody who follows.
    pub(super) fn add(&mut self, now: Now, id: BatchId) {
        let lifeline = Lifeline {
            followers: 0,
            alone_since: now.us,
        };
        self.0.insert(id, lifeline);
    }

    pub(super) fn remove(&mut self, id: BatchId) {
        self.0.remove(&id);
    }

    fn forsaken(&self, now: Now) -> Vec<BatchId> {
        let grace = ATTACHED_GRACE.as_micros() as u64;
        let mut forsaken: Vec<BatchId> = self
            .0
            .iter()
            .filter(|(_, line)| {
                line.followers == 0 && now.us.saturating_sub(line.alone_since) >= grace
            })
            .map(|(id, _)| *id)
            .collect();
        // In the order of their numbers, so that the same history gives the same records.
        forsaken.sort();
        forsaken
    }
}

impl<S: Store> Hub<S> {
    /// A stream begins to follow the batch.
    pub fn followed(&mut self, id: BatchId) {
        if let Some(line) = self.attached.0.get_mut(&id) {
            line.followers += 1;
        }
    }

    /// A stream that followed the batch has ended.
    pub fn left(&mut self, now: Now, id: BatchId) {
        if let Some(line) = self.attached.0.get_mut(&id) {
            line.followers = line.followers.saturating_sub(1);
            line.alone_since = now.us;
        }
    }

    /// Cancels the batches that nobody has followed for too long.
    pub(super) fn cancel_forsaken(&mut self, now: Now) {
        for id in self.attached.forsaken(now) {
            // One whose submission is not committed yet is tried again at the next tick.
            if let Some(reply) = self.cancel(now, id) {
                tracing::info!("batch {id} is cancelled: its caller has gone");
                self.attached.remove(id);
                // Nobody waits for the answer.
                drop(reply);
            }
        }
    }
}
