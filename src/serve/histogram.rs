//! Durations, sizes and ratios, counted in buckets: an addition each, and no lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// Seconds: from what a commit on this machine takes to an outage. Steps of about 2, so that a quantile is good to a third.
pub const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
];
/// Rows: from a lone reading to the largest batch.
pub const ROWS: &[f64] =
    &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0];
/// Errors over those of a naive forecast: close where it is decided which is better, with a bound at 1.
pub const RATIOS: &[f64] = &[0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0];

#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One more than bounds: what is above them all.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    pub fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    pub fn observe(&self, value: f64) {
        self.observe_all(value, 1);
    }

    /// The same value so many times.
    pub fn observe_all(&self, value: f64, times: u64) {
        self.counts[self.bounds.partition_point(|bound| *bound < value)].fetch_add(times, Relaxed);
        let add = |sum: u64| Some((f64::from_bits(sum) + value * times as f64).to_bits());
        // It always says what to store.
        let _ = self.sum.fetch_update(Relaxed, Relaxed, add);
    }

    pub fn counts(&self) -> Vec<u64> {
        self.counts.iter().map(|count| count.load(Relaxed)).collect()
    }

    /// How many were at most one of the bounds.
    pub fn up_to(&self, bound: f64) -> u64 {
        let counts = self.bounds.iter().zip(&self.counts).take_while(|(upper, _)| **upper <= bound);
        counts.map(|(_, count)| count.load(Relaxed)).sum()
    }

    pub fn sum(&self) -> f64 {
        f64::from_bits(self.sum.load(Relaxed))
    }

    /// The value below which a share `p` of what was counted between two looks lies, by linear interpolation within its
    /// bucket; the last bound for what is above them all. `None` where nothing was.
    pub fn quantile(&self, before: &[u64], now: &[u64], p: f64) -> Option<f64> {
        let counts: Vec<u64> =
            now.iter().zip(before).map(|(now, before)| now.saturating_sub(*before)).collect();
        let total: u64 = counts.iter().sum();
        let rank = p * total as f64;
        let mut below = 0.0;
        for (i, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = *count as f64;
            if below + count >= rank {
                let low = if i == 0 { 0.0 } else { self.bounds[i - 1] };
                let high = self.bounds.get(i).copied().unwrap_or(low);
                return Some(low + (high - low) * (rank - below) / count);
            }
            below += count;
        }
        None
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        let counts = self.counts();
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
        encoder.encode_histogram::<NoLabelSet>(self.sum(), counts.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_what_came_between() {
        let histogram = Histogram::new(&[1.0, 2.0, 4.0]);
        histogram.observe_all(0.5, 100);
        let before = histogram.counts();
        histogram.observe_all(1.5, 10);
        histogram.observe_all(3.0, 10);
        let now = histogram.counts();
        let at = |p| histogram.quantile(&before, &now, p);
        assert_eq!((at(0.25), at(0.5), at(0.75)), (Some(1.5), Some(2.0), Some(3.0)));
        assert_eq!(histogram.quantile(&now, &now, 0.5), None);
        histogram.observe(100.0);
        assert_eq!(histogram.quantile(&now, &histogram.counts(), 0.5), Some(4.0));
        assert!((histogram.sum() - (50.0 + 15.0 + 30.0 + 100.0)).abs() < 1e-9);
    }
}
