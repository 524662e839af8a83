//! Histograms of durations: atomics in fixed buckets, counted without a lock.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Upper bounds of the buckets of durations, in microseconds; what takes longer has one more.
pub const BUCKETS_US: [u64; 15] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000,
];
const BUCKETS: usize = BUCKETS_US.len() + 1;

/// Durations by bucket.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

/// A duration and its bucket, found once for all histograms that count it.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    us: u64,
    bucket: usize,
}

/// A reading of a histogram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramReading {
    /// Durations in each bucket of [`BUCKETS_US`], and beyond the last.
    pub buckets: Vec<u64>,
    pub sum: Duration,
}

impl Histogram {
    pub fn add(&self, sample: Sample) {
        if let Some(count) = self.buckets.get(sample.bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(sample.us, Ordering::Relaxed);
    }

    pub fn read(&self) -> HistogramReading {
        let buckets = self.buckets.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let sum = Duration::from_micros(self.sum_us.load(Ordering::Relaxed));
        HistogramReading { buckets, sum }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)), sum_us: AtomicU64::new(0) }
    }
}

impl From<Duration> for Sample {
    fn from(took: Duration) -> Self {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        Self { us, bucket: BUCKETS_US.partition_point(|bound| *bound < us) }
    }
}

impl HistogramReading {
    /// Returns how many durations were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Adds what another histogram counted.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *count += more;
        }
        self.sum += other.sum;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_duration_is_in_its_bucket(
            durations in prop::collection::vec(0_u64..60_000_000, 1..200),
        ) {
            let histogram = Histogram::default();
            for us in &durations {
                histogram.add(Duration::from_micros(*us).into());
            }
            let mut read = histogram.read();
            let sum = durations.iter().map(|us| u128::from(*us)).sum();
            prop_assert_eq!(read.sum.as_micros(), sum);
            // The buckets add up as in Prometheus: all that took no longer than the bound.
            let mut so_far = 0;
            for (bound, count) in BUCKETS_US.iter().zip(&read.buckets) {
                so_far += count;
                let want = durations.iter().filter(|us| *us <= bound).count() as u64;
                prop_assert_eq!(so_far, want, "{}", bound);
            }
            prop_assert_eq!(read.count(), durations.len() as u64);
            let once = read.clone();
            read.merge(&once);
            prop_assert_eq!((read.count(), read.sum), (2 * once.count(), 2 * once.sum));
        }
    }
}
