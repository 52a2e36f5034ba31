//! Baselines by the same protocol: the last value, the day before, and ridge regressions on the differences to the last value,
//! one per horizon, fitted on every window of the training split.

use std::ops::Range;

use rayon::prelude::*;
use serde_json::{Map, Value};
use tidecast_core::metrics::naive_lag;
use tidecast_core::model::ModelManifest;
use tidecast_train::evaluate::{Ridge, RidgeSums};
use tidecast_train::{History, Segment, Split};

use super::{ErrorSums, HORIZONS};

/// Windows of the ridges with published errors.
const LOOKBACKS: [usize; 2] = [336, 720];
/// Penalty on standardised features.
const PENALTY: f64 = 1.0;

/// Errors of one baseline by horizon.
type Errors = [ErrorSums; 4];

/// Baselines of one set.
pub struct Baselines {
    names: Vec<String>,
    errors: Vec<Errors>,
}

impl Baselines {
    /// Fits on the training split and scores on the test split.
    pub fn new(history: &History, manifest: &ModelManifest, split: Split, day: usize) -> Self {
        let context = Context { history, manifest, split };
        let mut names = vec!["naive".to_owned(), "seasonal_naive".to_owned()];
        let mut errors = vec![context.score_naive(None), context.score_naive(Some(day))];
        for lookback in LOOKBACKS {
            names.push(format!("ridge_{lookback}"));
            errors.push(HORIZONS.map(|horizon| {
                let ridge = context.fit_ridge(lookback, horizon);
                context.score_ridge(&ridge, horizon)
            }));
        }
        Self { names, errors }
    }

    /// Errors of all baselines at a horizon, by its index.
    pub fn json(&self, horizon: usize) -> Value {
        let all = self.names.iter().zip(&self.errors);
        Value::Object(all.map(|(name, errors)| (name.clone(), errors[horizon].json())).collect::<Map<_, _>>())
    }
}

#[derive(Clone, Copy)]
struct Context<'a> {
    history: &'a History,
    manifest: &'a ModelManifest,
    split: Split,
}

impl Context<'_> {
    /// Standard deviation in the training split.
    fn unit(&self, segment: &Segment) -> f64 {
        self.manifest.moments(segment.target).sd
    }

    /// Indices of the test origins with the horizon after them. The first is the last step before the test split.
    fn test_indices(&self, segment: &Segment, horizon: usize) -> Range<usize> {
        let Split { validation_end, end, .. } = self.split;
        (validation_end - 1 - segment.start) as usize..(end - segment.start) as usize - horizon
    }

    fn score_naive(&self, season: Option<usize>) -> Errors {
        let mut errors = Errors::default();
        for segment in &self.history.segments {
            let unit = self.unit(segment);
            for (errors, horizon) in errors.iter_mut().zip(HORIZONS) {
                for index in self.test_indices(segment, horizon) {
                    for ahead in 1..=horizon {
                        let forecast = segment.values[index + ahead - naive_lag(season, ahead)];
                        errors.add((segment.values[index + ahead] - forecast) / unit);
                    }
                }
            }
        }
        errors
    }

    fn fit_ridge(&self, lookback: usize, horizon: usize) -> Ridge {
        let sums = |segment: &Segment| {
            let mut sums = RidgeSums::new(lookback, horizon);
            let end = (self.split.train_end - segment.start) as usize;
            for index in lookback - 1..end - horizon {
                let window = &segment.values[index + 1 - lookback..=index];
                sums.add(window, &segment.values[index + 1..=index + horizon], self.unit(segment));
            }
            sums
        };
        let sums: Vec<RidgeSums> = self.history.segments.par_iter().map(sums).collect();
        let sum = sums.into_iter().reduce(|mut sum, other| {
            sum.merge(other);
            sum
        });
        sum.expect("a set has columns").fit(PENALTY).expect("the columns vary")
    }

    fn score_ridge(&self, ridge: &Ridge, horizon: usize) -> ErrorSums {
        let score = |segment: &Segment| {
            let (unit, mut sums, mut forecast) = (self.unit(segment), Vec::new(), vec![0.0; horizon]);
            let mut errors = ErrorSums::default();
            for index in self.test_indices(segment, horizon) {
                let window = &segment.values[index + 1 - ridge.lookback()..=index];
                ridge.forecast(window, unit, &mut sums, &mut forecast);
                for (forecast, actual) in forecast.iter().zip(&segment.values[index + 1..]) {
                    errors.add((actual - forecast) / unit);
                }
            }
            errors
        };
        let errors: Vec<ErrorSums> = self.history.segments.par_iter().map(score).collect();
        errors.into_iter().reduce(ErrorSums::merge).unwrap_or_default()
    }
}
