//! Expected service times.

/// Longer reports are taken as this many microseconds (12 days), so that one wrong report cannot
/// spoil an average for ever.
const MAX_SERVICE_US: u64 = 1 << 40;

/// Each sample moves the mean by 1/8, as in the round-trip estimator of TCP (RFC 6298): some ten
/// jobs outweigh the past.
const SHIFT: u32 = 3;

/// Exponentially weighted moving average of service times; unknown until the first sample.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ewma {
    /// In nanoseconds, so that averages of a few microseconds do not stick at integers.
    mean_ns: Option<u64>,
}

impl Ewma {
    /// Takes one service time in.
    pub(crate) fn record(&mut self, service_us: u64) {
        let sample = clamp(service_us) * 1000;
        self.mean_ns = Some(match self.mean_ns {
            None => sample,
            Some(mean) => mean - (mean >> SHIFT) + (sample >> SHIFT),
        });
    }

    /// The mean in microseconds, at least 1.
    pub(crate) fn expected_us(&self) -> Option<u64> {
        self.mean_ns.map(|ns| (ns / 1000).max(1))
    }
}

/// A reported service time made sane.
pub(crate) fn clamp(service_us: u64) -> u64 {
    service_us.min(MAX_SERVICE_US)
}
