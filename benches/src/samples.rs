//! Times of single operations, and their quantiles.

use std::time::{Duration, Instant};

use criterion::BenchmarkGroup;
use criterion::measurement::WallTime;

/// Times of one kind of operation, in seconds.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds one operation's time.
    pub fn add(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64());
    }

    /// Adds all of `others`.
    pub fn extend(&mut self, others: Samples) {
        self.0.extend(others.0);
    }

    /// The time, in seconds, below which `share` (0 to 1) of the operations lie.
    ///
    /// # Panics
    ///
    /// Where nothing was measured.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[((sorted.len() - 1) as f64 * share).round() as usize]
    }

    /// The median, in seconds.
    ///
    /// # Panics
    ///
    /// Where nothing was measured.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

/// Lets criterion measure `operation`, and keeps the time of every single call.
pub fn each(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    mut operation: impl FnMut(),
) -> Samples {
    timed(group, name, || {
        let begun = Instant::now();
        operation();
        begun.elapsed()
    })
}

/// As [`each`], for operations that say themselves how long the part took that counts.
pub fn timed(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    mut operation: impl FnMut() -> Duration,
) -> Samples {
    let mut samples = Samples::default();
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|count| {
            let mut sum = Duration::ZERO;
            for _ in 0..count {
                let time = operation();
                samples.add(time);
                sum += time;
            }
            sum
        });
    });
    samples
}

/// As [`each`], for operations too short to be timed one by one: a sample is the mean of a run of
/// criterion's.
pub fn means(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    mut operation: impl FnMut(),
) -> Samples {
    let mut samples = Samples::default();
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|count| {
            let begun = Instant::now();
            for _ in 0..count {
                operation();
            }
            let elapsed = begun.elapsed();
            samples.0.push(elapsed.as_secs_f64() / count as f64);
            elapsed
        });
    });
    samples
}
