//! Numbers an operator may want to change.

/// How much a worker holds beyond its slots.
///
/// A worker may be handed a job of expected service time `e` although all its slots are taken if
/// `e` is known and at most `long_job_us`, and the short jobs it holds expect less than
/// `ahead_us + e` of work per slot that is not taken by a long job. At least one job per such slot and
/// at most `max_ahead_per_slot` are held ahead, and never more than the waiting jobs of the class
/// divided by its workers, so that the end of a batch is shared and not hoarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Work to hold ahead per slot, in microseconds. Default 4000: hides a round trip on a local
    /// network many times over, and a lost worker costs little.
    pub ahead_us: u64,
    /// Jobs expected to run longer, in microseconds, are not handed ahead. Default 20 000: there a round
    /// trip of 0.2 ms costs 1 %.
    pub long_job_us: u64,
    /// Default 1024: bounds what a worker queues when jobs take next to no time.
    pub max_ahead_per_slot: u32,
}

impl Default for Window {
    fn default() -> Self {
        Window {
            ahead_us: 4_000,
            long_job_us: 20_000,
            max_ahead_per_slot: 1024,
        }
    }
}

/// All settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How much a worker holds beyond its slots.
    pub window: Window,
    /// Microseconds a job that needs more room than any worker has free may be overtaken before a
    /// worker is kept for it. Default 1 s: jobs much shorter than that leave room by themselves.
    pub patience_us: u64,
    /// Microseconds after which an unstarted job is called back from its worker if another one
    /// is idle. Default 20 000, five times the look-ahead: the worker is behind its estimate.
    pub recall_after_us: u64,
    /// Microseconds a worker whose connection is lost keeps what it holds. Default 30 s: enough for a
    /// restart of the caller or of a switch, and short beside the jobs that are worth keeping.
    pub lease_us: u64,
    /// A worker on which so many different jobs in a row ended by a fault of the host, with no success
    /// in between, is put aside. Default 5: more than the attempts one job may have by default, so that
    /// no single bad job does it, and few enough that a broken host spoils little.
    pub host_fault_limit: u32,
    /// A worker that was distrusted so often is put aside. Default 2: once may have been the fault of
    /// the others.
    pub distrust_limit: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            window: Window::default(),
            patience_us: 1_000_000,
            recall_after_us: 20_000,
            lease_us: 30_000_000,
            host_fault_limit: 5,
            distrust_limit: 2,
        }
    }
}
