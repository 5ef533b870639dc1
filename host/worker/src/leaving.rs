//! When a worker that leaves at a set time leaves, and which jobs it takes before.
//!
//! A worker of a batch system has so many minutes, and is killed when it overstays. So it stops a little
//! before: what still runs then is given back, without blame, and other workers begin it again from its
//! last checkpoint. The moments of a stay, from its begin to its end:
//!
//! ```text
//! begin ......................... reserve ............. stop ... end
//!   jobs with a time limit of their own that fits |  give back |
//!   other jobs              |
//! ```
//!
//! The rule:
//!
//! - A job whose wall-clock limit (`--deadline`) is its own, not the default, is taken only while that
//!   limit still fits before *stop*.
//! - Of other jobs nobody knows how long they run. They are taken while at least the *reserve* is left:
//!   a tenth of the stay, at most five minutes. So at most a tenth of the stay is not used, and who runs
//!   into *stop* with such a job has given it that long.
//! - At *stop* nothing new is taken, all that has not ended is given back, and the worker leaves, at the
//!   latest at *end*.
//!
//! It is the scheduler that applies the rule, which it is told when the worker joins ([`Stay`]): so other
//! workers get what this one cannot take. The worker itself only looks again where a job has waited for
//! its module to be compiled.

use std::time::{Duration, Instant};

use optwasm_protocol::Limits;
use optwasm_protocol::message::Stay;

/// Share of a stay that is kept free of jobs that may last for any time.
const RESERVE_SHARE: u32 = 10;

/// And at most: who needs more than five minutes longer is given a time limit by users who care.
const RESERVE_MAX: Duration = Duration::from_secs(300);

/// Share of a stay that is for giving back and delivering.
const FAREWELL_SHARE: u32 = 10;

/// And at most: reports are stored within milliseconds, an output of 1 GB passes 1 Gbit/s within 8 s.
const FAREWELL_MAX: Duration = Duration::from_secs(10);

/// What the clocks and messages between scheduler and worker may differ by: without it, a job could come
/// and go until both agree.
const SLACK: Duration = Duration::from_secs(1);

/// The stay of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaving {
    stop: Instant,
    end: Instant,
    reserve: Duration,
}

impl Leaving {
    /// One that began at `begin` and has ended `after` that.
    pub(crate) fn new(begin: Instant, after: Duration) -> Self {
        let farewell = (after / FAREWELL_SHARE).min(FAREWELL_MAX);
        Self {
            stop: begin + (after - farewell),
            end: begin + after,
            reserve: (after / RESERVE_SHARE).min(RESERVE_MAX),
        }
    }

    /// What the scheduler is told at `now`.
    pub(crate) fn stay(&self, now: Instant) -> Stay {
        let left = self.stop.saturating_duration_since(now);
        Stay {
            left_ms: millis(left),
            reserve_ms: millis(self.reserve),
        }
    }

    /// Whether a job that was handed out a moment ago may still begin at `now`.
    pub(crate) fn admits(&self, now: Instant, limits: &Limits) -> bool {
        let left = self.stop.saturating_duration_since(now) + SLACK;
        let stay = Stay {
            left_ms: millis(left),
            reserve_ms: millis(self.reserve),
        };
        stay.admits(limits)
    }

    /// Whether what runs has been given back at `now`.
    pub(crate) fn has_stopped(&self, now: Instant) -> bool {
        now >= self.stop
    }

    /// Whether the worker has to be gone at `now`.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now >= self.end
    }

    /// Waits until what runs has to be given back.
    pub(crate) async fn stop(&self) {
        tokio::time::sleep_until(self.stop.into()).await;
    }

    /// Waits until the worker has to be gone.
    pub(crate) async fn end(&self) {
        tokio::time::sleep_until(self.end.into()).await;
    }
}

/// What a worker that leaves `after` its begin says of its stay when it begins.
pub fn whole_stay(after: Duration) -> Stay {
    let begin = Instant::now();
    Leaving::new(begin, after).stay(begin)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(seconds: u64) -> Limits {
        Limits {
            deadline_ms: seconds * 1000,
            ..Limits::default()
        }
    }

    #[test]
    fn jobs_are_taken_while_they_can_end() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        // An hour: 10 s to say good-bye, 5 min of reserve.
        let leaving = Leaving::new(begin, Duration::from_secs(3600));
        assert_eq!(leaving.stop, at(3590));
        let stay = leaving.stay(at(3000));
        assert_eq!((stay.left_ms, stay.reserve_ms), (590_000, 300_000));
        assert!(stay.admits(&limits(590)));
        assert!(!stay.admits(&limits(591)));
        assert!(
            stay.admits(&Limits::default()),
            "590 s are enough for a job without a limit"
        );
        assert!(leaving.stay(at(3290)).admits(&Limits::default()));
        assert!(!leaving.stay(at(3291)).admits(&Limits::default()));
        assert!(
            leaving.stay(at(3580)).admits(&limits(10)),
            "short ones go on"
        );
        assert!(!leaving.stay(at(3590)).admits(&limits(1)));
        assert_eq!(leaving.stay(at(5000)).left_ms, 0);
        // The worker's own look forgives a second, so that it does not quarrel with the scheduler.
        assert!(leaving.admits(at(3001), &limits(590)));
        assert!(!leaving.admits(at(3002), &limits(590)));
    }

    #[test]
    fn short_stays_have_small_shares() {
        let begin = Instant::now();
        let leaving = Leaving::new(begin, Duration::from_secs(10));
        assert_eq!(leaving.stop, begin + Duration::from_secs(9));
        assert_eq!(leaving.reserve, Duration::from_secs(1));
        let nothing = Leaving::new(begin, Duration::ZERO);
        assert!(!nothing.stay(begin).admits(&limits(1)));
        assert!(nothing.stay(begin).admits(&Limits {
            deadline_ms: 0,
            ..limits(1)
        }));
    }
}
