//! Counters and histograms of a pipeline. Each update is one or two atomic additions and takes no lock.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use arrow::array::RecordBatch;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use serde_json::{Value, json};

use super::info::PipelineInfo;
use tidecast_core::forecaster::Scoring;
use tidecast_core::schema::Scores;

/// Bucket bounds in seconds, from a fast commit to an outage. Ratios of about 2 keep a quantile accurate to a third.
const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
];
/// Bucket bounds in rows, from a single row to the largest batch.
const ROWS: &[f64] =
    &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0];
/// Bucket bounds of a MASE: fine around 1, where a forecast becomes worse than the naive forecast.
const MASE: &[f64] = &[0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0];

/// Largest MASE that is added to a histogram. Without the cap, one period with a nearly perfect naive forecast would
/// dominate the histogram's sum.
const MASE_MAX: f64 = 100.0;

pub struct Counters {
    pub batch_rows: Histogram,
    /// Seconds from a record's timestamp to the commit of its output.
    pub end_to_end_latency: Histogram,
    pub commit_duration: Histogram,
    pub commit_rows: Histogram,
    pub snapshot_duration: Histogram,
    pub snapshot_failures: AtomicU64,
    pub scores: ScoreCounters,
    /// Bytes queued for the view.
    pub queued_bytes: AtomicUsize,
    /// Updates that the view missed because its queue was full.
    pub dropped_updates: AtomicU64,
}

impl Counters {
    pub fn new(info: &PipelineInfo) -> Self {
        Self {
            batch_rows: Histogram::new(ROWS),
            end_to_end_latency: Histogram::new(SECONDS),
            commit_duration: Histogram::new(SECONDS),
            commit_rows: Histogram::new(ROWS),
            snapshot_duration: Histogram::new(SECONDS),
            snapshot_failures: AtomicU64::new(0),
            scores: ScoreCounters::new(info.scoring.as_ref(), info.levels.len()),
            queued_bytes: AtomicUsize::new(0),
            dropped_updates: AtomicU64::new(0),
        }
    }
}

#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One bucket per bound, and one above the last bound.
    counts: Box<[AtomicU64]>,
    /// Bits of an `f64`.
    sum: AtomicU64,
}

impl Histogram {
    pub fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    pub fn observe(&self, value: f64) {
        self.observe_many(value, 1);
    }

    /// Adds `count` equal values.
    pub fn observe_many(&self, value: f64, count: u64) {
        self.counts[self.bounds.partition_point(|bound| *bound < value)].fetch_add(count, Relaxed);
        let add = |sum: u64| Some((f64::from_bits(sum) + value * count as f64).to_bits());
        // The closure never returns `None`, so the update cannot fail.
        let _ = self.sum.fetch_update(Relaxed, Relaxed, add);
    }

    /// Count of each bucket.
    pub fn counts(&self) -> Vec<u64> {
        self.counts.iter().map(|count| count.load(Relaxed)).collect()
    }

    /// Count of the values up to one of the bounds.
    pub fn count_up_to(&self, bound: f64) -> u64 {
        let counts = self.bounds.iter().zip(&self.counts).take_while(|(upper, _)| **upper <= bound);
        counts.map(|(_, count)| count.load(Relaxed)).sum()
    }

    pub fn sum(&self) -> f64 {
        f64::from_bits(self.sum.load(Relaxed))
    }

    /// Quantile `p` of the values counted between two calls of [`counts`](Self::counts), interpolated linearly within
    /// its bucket; the last bound for values above it. `None` without values.
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

    /// Quantile `p` of all values.
    pub fn total_quantile(&self, p: f64) -> Option<f64> {
        let counts = self.counts();
        self.quantile(&vec![0; counts.len()], &counts, p)
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

/// Counts of the scores that the stream computes of its own forecasts, summed over all series.
#[derive(Debug)]
pub struct ScoreCounters {
    /// One entry per scored horizon, at most eight.
    pub horizons: Box<[HorizonCounters]>,
    /// Scored periods, counted once per series and period.
    pub periods: AtomicU64,
    /// Scored periods that ended in drift.
    pub drifting_periods: AtomicU64,
}

#[derive(Debug)]
pub struct HorizonCounters {
    /// Steps ahead.
    pub horizon: usize,
    forecasts: AtomicU64,
    /// Scored forecasts inside the interval of each level.
    covered: Box<[AtomicU64]>,
    /// MASE of each period whose naive forecast was wrong at least once.
    pub mase: Histogram,
}

impl ScoreCounters {
    fn new(scoring: Option<&Scoring>, levels: usize) -> Self {
        let horizons = scoring.map_or(&[][..], |scoring| &scoring.horizons);
        let counters = |horizon: &usize| HorizonCounters {
            horizon: *horizon,
            forecasts: AtomicU64::new(0),
            covered: (0..levels).map(|_| AtomicU64::new(0)).collect(),
            mase: Histogram::new(MASE),
        };
        Self {
            horizons: horizons.iter().map(counters).collect(),
            periods: AtomicU64::new(0),
            drifting_periods: AtomicU64::new(0),
        }
    }

    pub fn add(&self, batch: &RecordBatch) {
        let rows = Scores::new(batch);
        for row in 0..rows.len() {
            if rows.starts_period(row) {
                self.periods.fetch_add(1, Relaxed);
                self.drifting_periods.fetch_add(u64::from(rows.drift.value(row)), Relaxed);
            }
            let horizon = rows.horizons.value(row);
            let Some(counters) = self.horizons.iter().find(|of| i32::try_from(of.horizon) == Ok(horizon))
            else {
                continue;
            };
            let forecasts = rows.forecasts.value(row).unsigned_abs();
            counters.forecasts.fetch_add(u64::from(forecasts), Relaxed);
            for (covered, coverage) in counters.covered.iter().zip(&rows.coverage) {
                // The row holds a fraction of `forecasts` as f32; rounding restores the count.
                let count = f64::from(coverage.value(row)) * f64::from(forecasts);
                covered.fetch_add(count.round() as u64, Relaxed);
            }
            if let Some(mase) = rows.mase(row) {
                counters.mase.observe(f64::from(mase).min(MASE_MAX));
            }
        }
    }

    pub fn to_json(&self) -> Value {
        let horizons: Vec<Value> = (self.horizons.iter())
            .map(|of| {
                json!({
                    "horizon": of.horizon,
                    "forecasts": of.forecasts(),
                    "covered": (0..of.covered.len()).map(|level| of.covered(level)).collect::<Vec<_>>(),
                    "periods": of.mase.counts().iter().sum::<u64>(),
                    "periods_within_naive": of.mase.count_up_to(1.0),
                    "median_mase": of.mase.total_quantile(0.5),
                })
            })
            .collect();
        json!({
            "periods": self.periods.load(Relaxed),
            "drifting_periods": self.drifting_periods.load(Relaxed),
            "horizons": horizons,
        })
    }
}

impl HorizonCounters {
    pub fn forecasts(&self) -> u64 {
        self.forecasts.load(Relaxed)
    }

    /// Scored forecasts inside the interval of a level, by the level's index.
    pub fn covered(&self, level: usize) -> u64 {
        self.covered[level].load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidecast_core::intervals::{HorizonScores, SeriesScores};
    use tidecast_core::schema::{OutputLabels, ScoreBuilder};

    #[test]
    fn quantiles_cover_the_values_between_two_counts() {
        let histogram = Histogram::new(&[1.0, 2.0, 4.0]);
        histogram.observe_many(0.5, 100);
        let before = histogram.counts();
        histogram.observe_many(1.5, 10);
        histogram.observe_many(3.0, 10);
        let now = histogram.counts();
        let quantile = |p| histogram.quantile(&before, &now, p);
        assert_eq!((quantile(0.25), quantile(0.5), quantile(0.75)), (Some(1.5), Some(2.0), Some(3.0)));
        assert_eq!(histogram.quantile(&now, &now, 0.5), None);
        histogram.observe(100.0);
        assert_eq!(histogram.quantile(&now, &histogram.counts(), 0.5), Some(4.0));
        assert!((histogram.sum() - (50.0 + 15.0 + 30.0 + 100.0)).abs() < 1e-9);
    }

    fn scores(horizon: usize, forecasts: f32, maes: [f32; 2], coverage: [f32; 2]) -> HorizonScores {
        let [mae, naive_mae] = maes;
        HorizonScores { horizon, forecasts, mae, naive_mae, bias: 0.0, ties: 0.0, coverage: coverage.into() }
    }

    #[test]
    fn score_rows_are_counted_per_horizon() {
        let stamp = OutputLabels { every: "1h".into(), model: "m".into() };
        let mut rows = ScoreBuilder::new(&[0.8, 0.95], stamp);
        // 17/24 and 23/24 are not whole percentages. The naive MAE of b is zero, then nearly zero, then equal to the MAE.
        let a = [
            scores(1, 24.0, [0.6, 1.0], [17.0 / 24.0, 1.0]),
            scores(6, 18.0, [2.0, 1.0], [0.5, 23.0 / 24.0]),
        ];
        let b = [scores(1, 10.0, [1.0, 0.0], [0.9, 0.9]), scores(6, 6.0, [1.0, 1e-30], [0.0, 1.0])];
        // The first horizon has no row in this period: the drift of the period is in its first row, whichever it is.
        let b_next = vec![scores(6, 2.0, [3.0, 3.0], [1.0, 1.0])];
        for (series, from, horizons, is_drifting) in
            [("a", 0, a.into(), true), ("b", 0, b.into(), false), ("b", 1, b_next, true)]
        {
            rows.push(7, series, "value", [from, from + 1], &SeriesScores { horizons, is_drifting });
        }
        let batch = rows.finish();
        let counters = ScoreCounters::new(Some(&Scoring { horizons: vec![1, 6], every: 24 }), 2);
        counters.add(&batch);
        counters.add(&batch);
        let [one, six] = &*counters.horizons else { panic!("{counters:?}") };
        assert_eq!((one.forecasts(), one.covered(0), one.covered(1)), (2 * 34, 2 * 26, 2 * 33));
        assert_eq!((six.forecasts(), six.covered(0), six.covered(1)), (2 * 26, 2 * 11, 2 * 25));
        let periods = (counters.periods.load(Relaxed), counters.drifting_periods.load(Relaxed));
        assert_eq!(periods, (2 * 3, 2 * 2), "once per series and period");
        let buckets = |of: &HorizonCounters| -> Vec<usize> {
            let counts = of.mase.counts();
            assert_eq!(counts.len(), MASE.len() + 1);
            (0..counts.len()).flat_map(|bucket| vec![bucket; counts[bucket] as usize]).collect()
        };
        // Up to 0.75; up to 1, up to 2, above 4.
        assert_eq!((buckets(one), buckets(six)), (vec![2, 2], vec![4, 4, 8, 8, 10, 10]));
        let json = counters.to_json();
        assert_eq!(
            (&json["periods"], &json["drifting_periods"], &json["horizons"][0]["forecasts"]),
            (&6.into(), &4.into(), &68.into())
        );
        let summary = |horizon: usize| {
            let names = ["periods", "periods_within_naive", "median_mase"];
            names.map(|name| json["horizons"][horizon][name].as_f64())
        };
        // The middle of the bucket (0.5, 0.75], and of (1.5, 2]: an outlier does not move the median.
        assert_eq!(summary(0), [Some(2.0), Some(2.0), Some(0.625)]);
        assert_eq!(summary(1), [Some(6.0), Some(2.0), Some(1.75)], "a MASE of 1 counts as within");
        let empty = ScoreCounters::new(None, 2).to_json();
        assert_eq!((&empty["horizons"], &empty["periods"]), (&json!([]), &0.into()));
    }
}
