//! The forecasts that any other has to beat, by the same protocol: the last value, the day before, and a ridge regression on
//! the last values less the last one, one for each horizon, on every window of the training part that fits.

use serde_json::{Map, Value};
use tidecast_train::evaluate::{Ridge, RidgeSums};
use tidecast_core::model::Description;
use tidecast_train::{History, Split, shards};

use super::{HORIZONS, Sums};

/// Windows of the ridges whose errors are published.
const LOOKBACKS: [usize; 2] = [336, 720];
/// The penalty of their features, standardised as they are.
const PENALTY: f64 = 1.0;

/// Errors of one baseline for each horizon.
type Errors = [Sums; 4];

/// What is computed once a set.
pub struct Baselines {
    names: Vec<String>,
    errors: Vec<Errors>,
}

impl Baselines {
    /// Fits on the training part and scores on the test part.
    pub fn of(history: &History, description: &Description, split: Split, day: usize) -> Self {
        let mut names = vec!["repeat_last".to_owned(), "seasonal_naive".to_owned()];
        let mut errors = vec![
            score(history, description, split, |values, place, _| values[place]),
            score(history, description, split, |values, place, step| {
                values[place + step - day * step.div_ceil(day)]
            }),
        ];
        for lookback in LOOKBACKS {
            names.push(format!("ridge_{lookback}"));
            errors.push(HORIZONS.map(|horizon| {
                let ridge = fit(history, description, split, lookback, horizon);
                score_ridge(history, description, split, &ridge, horizon)
            }));
        }
        Self { names, errors }
    }

    /// All of them at a horizon.
    pub fn json(&self, which: usize) -> Value {
        let all = self.names.iter().zip(&self.errors);
        Value::Object(all.map(|(name, errors)| (name.clone(), errors[which].json())).collect::<Map<_, _>>())
    }
}

/// Places of the test part that have the horizon ahead of them, the first being the last one before it.
fn places(history: &History, split: Split, number: usize, horizon: usize) -> std::ops::Range<usize> {
    let start = history.segments[number].start;
    (split.validation_end - 1 - start) as usize..(split.end - start) as usize - horizon
}

fn score(
    history: &History,
    description: &Description,
    split: Split,
    says: impl Fn(&[f64], usize, usize) -> f64,
) -> Errors {
    let mut errors = Errors::default();
    for (number, segment) in history.segments.iter().enumerate() {
        let unit = description.moments(segment.target).sd;
        for (errors, horizon) in errors.iter_mut().zip(HORIZONS) {
            for place in places(history, split, number, horizon) {
                for step in 1..=horizon {
                    errors.add((segment.values[place + step] - says(&segment.values, place, step)) / unit);
                }
            }
        }
    }
    errors
}

fn fit(history: &History, description: &Description, split: Split, lookback: usize, horizon: usize) -> Ridge {
    let sums = shards::each(
        history.segments.len(),
        || (),
        |(), number| {
            let segment = &history.segments[number];
            let mut sums = RidgeSums::new(lookback, horizon);
            let end = (split.train_end - segment.start) as usize;
            for place in lookback - 1..end - horizon {
                let window = &segment.values[place + 1 - lookback..=place];
                let ahead = &segment.values[place + 1..=place + horizon];
                sums.add(window, ahead, description.moments(segment.target).sd);
            }
            sums
        },
    );
    let mut sums = sums.into_iter();
    let mut all = sums.next().expect("a set has columns");
    sums.for_each(|sums| all.plus(sums));
    all.fit(PENALTY).expect("the columns vary")
}

fn score_ridge(
    history: &History,
    description: &Description,
    split: Split,
    ridge: &Ridge,
    horizon: usize,
) -> Sums {
    let sums = shards::each(
        history.segments.len(),
        || (Vec::new(), vec![0.0; horizon]),
        |(sums, said), number| {
            let segment = &history.segments[number];
            let unit = description.moments(segment.target).sd;
            let mut errors = Sums::default();
            for place in places(history, split, number, horizon) {
                let window = &segment.values[place + 1 - ridge.lookback()..=place];
                ridge.forecast(window, unit, sums, said);
                for (said, came) in said.iter().zip(&segment.values[place + 1..]) {
                    errors.add((came - said) / unit);
                }
            }
            errors
        },
    );
    sums.into_iter().reduce(Sums::plus).unwrap_or_default()
}
