//! How many evaluations are in flight, and when it is worth while to ask for more.

use std::time::Duration;

use super::evaluate::FOLLOWED;

/// What one slot is kept busy with at least, beside what it runs: as long as a round trip to a
/// coordinator in another town and a journal's write may take.
const AHEAD: Duration = Duration::from_millis(20);
/// Evaluations for one slot at once, at most: more would be decided on without knowing the results
/// of those before.
const AHEAD_MAX: usize = 256;

/// How many evaluations are in flight.
pub(super) struct Window {
    fixed: Option<usize>,
    /// Of all workers; `None` until they were looked up.
    pub(super) slots: Option<usize>,
    /// How long evaluations take: a mean that forgets.
    mean: Option<Duration>,
}

impl Window {
    pub(super) fn new(fixed: Option<usize>) -> Self {
        Self {
            fixed,
            slots: None,
            mean: None,
        }
    }

    pub(super) fn note(&mut self, time: Duration) {
        self.mean = Some(match self.mean {
            Some(mean) => (mean * 7 + time) / 8,
            None => time,
        });
    }

    /// How many evaluations to ask for now. None where the few that are free are better asked for
    /// together with those that are free soon: a batch costs several round trips, and only
    /// [`FOLLOWED`] are followed at once.
    pub(super) fn room(&self, in_flight: usize) -> usize {
        let Some(running) = self.fixed.or(self.slots) else {
            return 0;
        };
        let size = self.size(running);
        // No slot is idle while a quarter of what is ahead of them is missing, and else at most one
        // in so many as are followed.
        let least = ((size - running.min(size)) / 4).max(size / FOLLOWED).max(1);
        match size.saturating_sub(in_flight) {
            free if free < least => 0,
            free => free,
        }
    }

    /// Without workers a first evaluation waits for one. Where evaluations are short, more of them
    /// are in flight than there are slots.
    fn size(&self, running: usize) -> usize {
        let ahead = match self.mean {
            Some(mean) if self.fixed.is_none() => {
                (AHEAD.as_nanos() / mean.as_nanos().max(1)) as usize
            }
            _ => 0,
        };
        running.saturating_mul(1 + ahead.min(AHEAD_MAX)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(slots: usize, mean: Duration) -> Window {
        let mut window = Window::new(None);
        window.slots = Some(slots);
        window.note(mean);
        window
    }

    #[test]
    fn short_evaluations_are_asked_for_ahead_and_many_at_once() {
        assert_eq!(Window::new(None).room(0), 0);
        let mut short = window(4, Duration::from_secs(1));
        assert_eq!((short.room(0), short.room(3)), (4, 1));
        for _ in 0..100 {
            short.note(Duration::from_micros(10));
        }
        let all = 4 * (1 + AHEAD_MAX);
        assert_eq!(
            (short.room(0), short.room(all - AHEAD_MAX)),
            (all, AHEAD_MAX)
        );
        assert_eq!(short.room(all - AHEAD_MAX + 1), 0);
    }

    #[test]
    fn slots_are_filled_at_once_as_long_as_every_batch_can_be_followed() {
        let few = window(FOLLOWED, Duration::from_secs(60));
        assert_eq!(few.room(FOLLOWED - 1), 1);
        let many = window(10 * FOLLOWED, Duration::from_secs(60));
        assert_eq!(
            (many.room(10 * FOLLOWED - 9), many.room(10 * FOLLOWED - 10)),
            (0, 10)
        );
        let none = window(0, Duration::from_secs(60));
        assert_eq!((none.room(0), none.room(1)), (1, 0));
        let mut fixed = Window::new(Some(5));
        fixed.note(Duration::from_micros(1));
        assert_eq!((fixed.room(0), fixed.room(4), fixed.room(5)), (5, 1, 0));
    }
}
