//! What the stream scored of its own forecasts, of all series together: counts for each step ahead that is scored, which are at
//! most eight. An addition each, and no lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arrow::array::RecordBatch;
use serde_json::{Value, json};

use super::histogram::{Histogram, RATIOS};
use crate::forecaster::Scoring;
use crate::table::ScoreRows;

/// A period in which the naive forecast was next to never wrong is not to drown all others in a mean: what is above this counts
/// as this much.
const MASE_MOST: f64 = 100.0;

#[derive(Debug)]
pub struct Scored(Box<[Ahead]>);

/// Forecasts some steps ahead.
#[derive(Debug)]
pub struct Ahead {
    pub steps: usize,
    /// Periods of series that were scored.
    periods: AtomicU64,
    /// Forecasts that were held against their actuals, and of them those within each level.
    forecasts: AtomicU64,
    inside: Box<[AtomicU64]>,
    /// The mean absolute error of a period over that of the naive forecast.
    pub mase: Histogram,
    /// Periods whose errors had left their own history.
    drifts: AtomicU64,
}

impl Scored {
    /// Nothing yet, at so many levels.
    pub fn new(scoring: Option<&Scoring>, levels: usize) -> Self {
        let ahead = |steps: &usize| Ahead {
            steps: *steps,
            periods: AtomicU64::new(0),
            forecasts: AtomicU64::new(0),
            inside: (0..levels).map(|_| AtomicU64::new(0)).collect(),
            mase: Histogram::new(RATIOS),
            drifts: AtomicU64::new(0),
        };
        Self(scoring.map_or(Box::default(), |scoring| scoring.horizons.iter().map(ahead).collect()))
    }

    /// Adds a batch of scores.
    pub fn add(&self, rows: &RecordBatch) {
        let rows = ScoreRows::new(rows);
        for row in 0..rows.len() {
            let steps = rows.horizons.value(row);
            let Some(ahead) = self.0.iter().find(|ahead| i32::try_from(ahead.steps) == Ok(steps)) else {
                continue;
            };
            let forecasts = rows.forecasts.value(row).unsigned_abs();
            ahead.periods.fetch_add(1, Relaxed);
            ahead.forecasts.fetch_add(u64::from(forecasts), Relaxed);
            for (inside, share) in ahead.inside.iter().zip(&rows.coverage) {
                // A share is written, of which the count is the nearest whole number.
                let count = f64::from(share.value(row)) * f64::from(forecasts);
                inside.fetch_add(count.round() as u64, Relaxed);
            }
            if let Some(mase) = rows.mase(row) {
                ahead.mase.observe(f64::from(mase).min(MASE_MOST));
            }
            ahead.drifts.fetch_add(u64::from(rows.drift.value(row)), Relaxed);
        }
    }

    pub fn all(&self) -> &[Ahead] {
        &self.0
    }

    /// As the page wants it.
    pub fn page(&self) -> Value {
        let of = |ahead: &Ahead| {
            let periods: u64 = ahead.mase.counts().iter().sum();
            json!({
                "ahead": ahead.steps,
                "forecasts": ahead.forecasts(),
                "inside": (0..ahead.inside.len()).map(|level| ahead.inside(level)).collect::<Vec<_>>(),
                "mase": (periods > 0).then(|| ahead.mase.sum() / periods as f64),
                "periods": ahead.periods.load(Relaxed),
                "drifts": ahead.drifts(),
            })
        };
        self.0.iter().map(of).collect()
    }
}

impl Ahead {
    pub fn forecasts(&self) -> u64 {
        self.forecasts.load(Relaxed)
    }

    /// Forecasts whose actual was within a level.
    pub fn inside(&self, level: usize) -> u64 {
        self.inside[level].load(Relaxed)
    }

    pub fn drifts(&self) -> u64 {
        self.drifts.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intervals::{HorizonScores, SeriesScores};
    use crate::table::{ForecastStamp, ScoreBuilder};

    fn of(horizon: usize, forecasts: f32, maes: [f32; 2], coverage: [f32; 2]) -> HorizonScores {
        let [mae, naive_mae] = maes;
        HorizonScores { horizon, forecasts, mae, naive_mae, bias: 0.0, ties: 0.0, coverage: coverage.into() }
    }

    #[test]
    fn a_batch_adds_to_each_step_ahead_what_it_scored() {
        let stamp = ForecastStamp { every: "1h".into(), model: "m".into() };
        let mut rows = ScoreBuilder::new(&[0.8, 0.95], stamp);
        // 17 of 24 and 23 of 24 are no whole percents; the naive forecast of b is never wrong, that of c next to never.
        let a = [of(1, 24.0, [0.6, 1.0], [17.0 / 24.0, 1.0]), of(6, 18.0, [2.0, 1.0], [0.5, 23.0 / 24.0])];
        let b = [of(1, 10.0, [1.0, 0.0], [0.9, 0.9]), of(6, 6.0, [1.0, 1e-30], [0.0, 1.0])];
        for (series, horizons, drifts) in [("a", a, true), ("b", b, false)] {
            rows.push(7, series, "value", [0, 1], &SeriesScores { horizons: horizons.into(), drifts });
        }
        let batch = rows.finish();
        let scored = Scored::new(Some(&Scoring { horizons: vec![1, 6], every: 24 }), 2);
        scored.add(&batch);
        scored.add(&batch);
        let [one, six] = scored.all() else { panic!("{scored:?}") };
        assert_eq!((one.forecasts(), one.inside(0), one.inside(1)), (2 * 34, 2 * 26, 2 * 33));
        assert_eq!((six.forecasts(), six.inside(0), six.inside(1)), (2 * 24, 2 * 9, 2 * 23));
        assert_eq!((one.drifts(), six.drifts()), (2, 2));
        // Up to 0.75; up to 2, and above them all.
        let places = |ahead: &Ahead| -> Vec<usize> {
            let counts = ahead.mase.counts();
            assert_eq!(counts.len(), RATIOS.len() + 1);
            (0..counts.len()).flat_map(|at| vec![at; counts[at] as usize]).collect()
        };
        assert_eq!((places(one), places(six)), (vec![2, 2], vec![8, 8, 10, 10]));
        let page = scored.page();
        assert_eq!(
            (&page[0]["forecasts"], &page[0]["periods"], &page[1]["mase"]),
            (&68.into(), &4.into(), &51.0.into())
        );
        assert!((page[0]["mase"].as_f64().unwrap() - 0.6).abs() < 1e-6);
        assert_eq!(Scored::new(None, 2).page(), json!([]));
    }
}
