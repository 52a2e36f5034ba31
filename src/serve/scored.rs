//! What the stream scored of its own forecasts, of all series together: counts for each step ahead that is scored, which are at
//! most eight. An addition each, and no lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arrow::array::RecordBatch;
use serde_json::{Value, json};

use super::histogram::{Histogram, RATIOS};
use tidecast_core::forecaster::Scoring;
use tidecast_core::table::ScoreRows;

/// A period in which the naive forecast was next to never wrong is not to make the histogram's sum one of itself alone: what is
/// above this counts as this much. Even so a mean of ratios says little; shares and quantiles do not mind.
const RATIO_MOST: f64 = 100.0;

#[derive(Debug)]
pub struct Scored {
    ahead: Box<[Ahead]>,
    /// Periods of series that were scored, and of them those at whose end errors had left their own history: that is found out
    /// once for a series, at the first step ahead, and not for each of them.
    periods: AtomicU64,
    drifts: AtomicU64,
}

/// Forecasts some steps ahead.
#[derive(Debug)]
pub struct Ahead {
    pub steps: usize,
    /// Forecasts that were held against their actuals, and of them those within each level.
    forecasts: AtomicU64,
    inside: Box<[AtomicU64]>,
    /// The mean absolute error of a period over that of the naive forecast, where that was ever wrong.
    pub ratio: Histogram,
}

impl Scored {
    /// Nothing yet, at so many levels.
    pub fn new(scoring: Option<&Scoring>, levels: usize) -> Self {
        let ahead = |steps: &usize| Ahead {
            steps: *steps,
            forecasts: AtomicU64::new(0),
            inside: (0..levels).map(|_| AtomicU64::new(0)).collect(),
            ratio: Histogram::new(RATIOS),
        };
        let ahead = scoring.map_or(Box::default(), |scoring| scoring.horizons.iter().map(ahead).collect());
        Self { ahead, periods: AtomicU64::new(0), drifts: AtomicU64::new(0) }
    }

    /// Adds a batch of scores.
    pub fn add(&self, rows: &RecordBatch) {
        let rows = ScoreRows::new(rows);
        for row in 0..rows.len() {
            if rows.begins(row) {
                self.periods.fetch_add(1, Relaxed);
                self.drifts.fetch_add(u64::from(rows.drift.value(row)), Relaxed);
            }
            let steps = rows.horizons.value(row);
            let Some(ahead) = self.ahead.iter().find(|ahead| i32::try_from(ahead.steps) == Ok(steps)) else {
                continue;
            };
            let forecasts = rows.forecasts.value(row).unsigned_abs();
            ahead.forecasts.fetch_add(u64::from(forecasts), Relaxed);
            for (inside, share) in ahead.inside.iter().zip(&rows.coverage) {
                // A share is written, of which the count is the nearest whole number.
                let count = f64::from(share.value(row)) * f64::from(forecasts);
                inside.fetch_add(count.round() as u64, Relaxed);
            }
            if let Some(ratio) = rows.mase(row) {
                ahead.ratio.observe(f64::from(ratio).min(RATIO_MOST));
            }
        }
    }

    pub fn all(&self) -> &[Ahead] {
        &self.ahead
    }

    pub fn periods(&self) -> u64 {
        self.periods.load(Relaxed)
    }

    pub fn drifts(&self) -> u64 {
        self.drifts.load(Relaxed)
    }

    /// As the page wants it.
    pub fn page(&self) -> Value {
        let of = |ahead: &Ahead| {
            let counts = ahead.ratio.counts();
            json!({
                "ahead": ahead.steps,
                "forecasts": ahead.forecasts(),
                "inside": (0..ahead.inside.len()).map(|level| ahead.inside(level)).collect::<Vec<_>>(),
                "ratios": counts.iter().sum::<u64>(),
                "no_worse": ahead.ratio.up_to(1.0),
                "median": ahead.ratio.quantile(&vec![0; counts.len()], &counts, 0.5),
            })
        };
        let ahead: Vec<Value> = self.ahead.iter().map(of).collect();
        json!({ "periods": self.periods(), "drifts": self.drifts(), "ahead": ahead })
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidecast_core::intervals::{HorizonScores, SeriesScores};
    use tidecast_core::table::{ForecastStamp, ScoreBuilder};

    fn of(horizon: usize, forecasts: f32, maes: [f32; 2], coverage: [f32; 2]) -> HorizonScores {
        let [mae, naive_mae] = maes;
        HorizonScores { horizon, forecasts, mae, naive_mae, bias: 0.0, ties: 0.0, coverage: coverage.into() }
    }

    #[test]
    fn a_batch_adds_to_each_step_ahead_what_it_scored() {
        let stamp = ForecastStamp { every: "1h".into(), model: "m".into() };
        let mut rows = ScoreBuilder::new(&[0.8, 0.95], stamp);
        // 17 of 24 and 23 of 24 are no whole percents; the naive forecast of b is never wrong, or next to never, or as wrong.
        let a = [of(1, 24.0, [0.6, 1.0], [17.0 / 24.0, 1.0]), of(6, 18.0, [2.0, 1.0], [0.5, 23.0 / 24.0])];
        let b = [of(1, 10.0, [1.0, 0.0], [0.9, 0.9]), of(6, 6.0, [1.0, 1e-30], [0.0, 1.0])];
        // Nothing came one step ahead: what the period says of drift is in its first row all the same.
        let late = vec![of(6, 2.0, [3.0, 3.0], [1.0, 1.0])];
        for (series, from, horizons, drifts) in
            [("a", 0, a.into(), true), ("b", 0, b.into(), false), ("b", 1, late, true)]
        {
            rows.push(7, series, "value", [from, from + 1], &SeriesScores { horizons, drifts });
        }
        let batch = rows.finish();
        let scored = Scored::new(Some(&Scoring { horizons: vec![1, 6], every: 24 }), 2);
        scored.add(&batch);
        scored.add(&batch);
        let [one, six] = scored.all() else { panic!("{scored:?}") };
        assert_eq!((one.forecasts(), one.inside(0), one.inside(1)), (2 * 34, 2 * 26, 2 * 33));
        assert_eq!((six.forecasts(), six.inside(0), six.inside(1)), (2 * 26, 2 * 11, 2 * 25));
        assert_eq!((scored.periods(), scored.drifts()), (2 * 3, 2 * 2), "once a series and period");
        // Up to 0.75; up to 1, up to 2, and above them all.
        let places = |ahead: &Ahead| -> Vec<usize> {
            let counts = ahead.ratio.counts();
            assert_eq!(counts.len(), RATIOS.len() + 1);
            (0..counts.len()).flat_map(|at| vec![at; counts[at] as usize]).collect()
        };
        assert_eq!((places(one), places(six)), (vec![2, 2], vec![4, 4, 8, 8, 10, 10]));
        let page = scored.page();
        assert_eq!(
            (&page["periods"], &page["drifts"], &page["ahead"][0]["forecasts"]),
            (&6.into(), &4.into(), &68.into())
        );
        let told =
            |ahead: usize| ["ratios", "no_worse", "median"].map(|name| page["ahead"][ahead][name].as_f64());
        // In the middle of the bucket from 0.5 to 0.75, and of that from 1.5 to 2: one that is far off does not move it.
        assert_eq!(told(0), [Some(2.0), Some(2.0), Some(0.625)]);
        assert_eq!(told(1), [Some(6.0), Some(2.0), Some(1.75)], "as wrong as the naive forecast is no worse");
        let none = Scored::new(None, 2).page();
        assert_eq!((&none["ahead"], &none["periods"]), (&json!([]), &0.into()));
    }
}
