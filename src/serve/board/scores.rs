//! How far off forecasts were, over a window of steps.

use serde::Serialize;

/// How the forecasts of a series at one horizon fared, over its last steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Scores {
    /// Forecasts that were held against what came.
    pub count: u64,
    /// Mean absolute error, in the unit of the series.
    pub error: Option<f64>,
    /// The same of the baseline, over the steps for which there is one; and ours over those.
    pub naive: Option<f64>,
    pub beside_naive: Option<f64>,
    /// Mean of actual less forecast, as in the scores of the stream.
    pub bias: Option<f64>,
    /// The share of values within each interval that is shown.
    pub coverage: Vec<f64>,
}

impl Scores {
    /// The error in units of the baseline's; not finite where the baseline was never off.
    pub fn ratio(&self) -> Option<f64> {
        self.beside_naive.zip(self.naive).map(|(ours, naive)| ours / naive)
    }
}

/// A forecast held against what came.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Miss {
    /// Actual less forecast.
    pub off: f64,
    /// The baseline's absolute error.
    pub naive: Option<f64>,
    pub inside: [bool; 2],
}

/// Sums over the misses of some steps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    pub count: u64,
    pub off: f64,
    pub absolute: f64,
    naive_count: u64,
    naive: f64,
    beside_naive: f64,
    inside: [u64; 2],
}

impl Sums {
    pub fn add(&mut self, miss: &Miss) {
        self.count += 1;
        self.off += miss.off;
        self.absolute += miss.off.abs();
        if let Some(naive) = miss.naive {
            self.naive_count += 1;
            self.naive += naive;
            self.beside_naive += miss.off.abs();
        }
        for (inside, is_inside) in self.inside.iter_mut().zip(miss.inside) {
            *inside += u64::from(is_inside);
        }
    }

    pub fn scores(&self, levels: usize) -> Scores {
        let count = self.count as f64;
        let some = self.count > 0;
        let beside = self.naive_count > 0;
        let naive_count = self.naive_count as f64;
        Scores {
            count: self.count,
            error: some.then(|| self.absolute / count),
            naive: beside.then(|| self.naive / naive_count),
            beside_naive: beside.then(|| self.beside_naive / naive_count),
            bias: some.then(|| self.off / count),
            coverage: self
                .inside
                .iter()
                .take(if some { levels } else { 0 })
                .map(|n| *n as f64 / count)
                .collect(),
        }
    }
}
