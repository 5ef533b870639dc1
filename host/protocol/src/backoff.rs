//! How long to wait before connecting again.

use std::time::Duration;

/// First pause, and the longest: a coordinator that restarts is found again soon, and thousands
/// of workers cost one that is gone for the night nothing.
pub const FIRST: Duration = Duration::from_millis(100);
/// The longest pause.
pub const MAX: Duration = Duration::from_secs(5);

/// Pauses that grow from [`FIRST`] to [`MAX`], each between half and all of its length by chance, so
/// that many peers do not come back at the same moment.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// How long to wait now.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(MAX);
        let mut byte = [0];
        // Without randomness all come at once, which is bearable.
        let _ = getrandom::fill(&mut byte);
        pause / 2 + pause / 2 * u32::from(byte[0]) / 255
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest() {
        let mut backoff = Backoff::default();
        let mut most = FIRST;
        for _ in 0..12 {
            let pause = backoff.pause();
            assert!((most / 2..=most).contains(&pause), "{pause:?} of {most:?}");
            most = (most * 2).min(MAX);
        }
        assert_eq!(most, MAX);
    }
}
