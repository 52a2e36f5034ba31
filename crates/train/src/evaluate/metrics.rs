//! Measures of error: what each adds up, and what comes of the sums.

use serde::Serialize;

/// 200 |y - ŷ| / (|y| + |ŷ|), in percent (Makridakis, "Accuracy measures", 1993, as the M4 competition defines it); 0
/// where both are 0.
pub fn smape(actual: f64, forecast: f64) -> f64 {
    let size = actual.abs() + forecast.abs();
    if size > 0.0 { 200.0 * (actual - forecast).abs() / size } else { 0.0 }
}

/// The loss whose expectation the `quantile` minimises: max(q (y - ŷ), (q - 1)(y - ŷ)) (Koenker & Bassett 1978).
pub fn pinball(quantile: f64, actual: f64, forecast: f64) -> f64 {
    let way = actual - forecast;
    (quantile * way).max((quantile - 1.0) * way)
}

/// (u - l) + 2/α (l - y)⁺ + 2/α (y - u)⁺ with α = 1 - level (Winkler 1972; Gneiting & Raftery, "Strictly proper scoring
/// rules", 2007, equation 43).
pub fn interval_score(level: f64, actual: f64, lower: f64, upper: f64) -> f64 {
    let missed = (lower - actual).max(0.0) + (actual - upper).max(0.0);
    (upper - lower) + 2.0 / (1.0 - level) * missed
}

/// Sums of errors.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Errors {
    pub count: u64,
    pub sizes: f64,
    pub squares: f64,
    pub smape: f64,
}

/// Sums over intervals of one level.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bounds {
    pub count: u64,
    pub score: f64,
    pub width: f64,
    pub inside: u64,
    /// Of both bounds, as the quantiles they stand for.
    pub pinball: f64,
}

impl Errors {
    pub fn add(&mut self, actual: f64, forecast: f64) {
        let error = actual - forecast;
        self.count += 1;
        self.sizes += error.abs();
        self.squares += error * error;
        self.smape += smape(actual, forecast);
    }

    pub fn plus(&mut self, other: &Self) {
        self.count += other.count;
        self.sizes += other.sizes;
        self.squares += other.squares;
        self.smape += other.smape;
    }

    /// Mean absolute error; NaN of nothing.
    pub fn mae(&self) -> f64 {
        self.sizes / self.count as f64
    }
}

impl Bounds {
    pub fn add(&mut self, level: f64, actual: f64, lower: f64, upper: f64) {
        let tail = (1.0 - level) / 2.0;
        self.count += 1;
        self.score += interval_score(level, actual, lower, upper);
        self.width += upper - lower;
        self.inside += u64::from(lower <= actual && actual <= upper);
        self.pinball += pinball(tail, actual, lower) + pinball(1.0 - tail, actual, upper);
    }

    pub fn plus(&mut self, other: &Self) {
        self.count += other.count;
        self.score += other.score;
        self.width += other.width;
        self.inside += other.inside;
        self.pinball += other.pinball;
    }
}

/// Measures of one method. Those of another unit than percent or share are in the readings' unit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Metrics {
    /// Values that were compared.
    pub values: u64,
    pub mae: f64,
    pub mse: f64,
    pub rmse: f64,
    pub smape: f64,
    /// MAE / scale (Hyndman & Koehler, "Another look at measures of forecast accuracy", 2006); none without a scale.
    pub mase: Option<f64>,
    /// Mean over the median, taken to be the forecast, and both bounds of each level; none without levels.
    pub pinball: Option<f64>,
    pub levels: Vec<LevelMetrics>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LevelMetrics {
    pub level: f64,
    /// Share of the values that lay within.
    pub coverage: f64,
    pub width: f64,
    pub interval_score: f64,
    /// Interval score / scale; none without a scale.
    pub scaled_interval_score: Option<f64>,
}

impl Metrics {
    /// From the sums of errors, and those of each level where there are intervals.
    pub fn of(errors: &Errors, levels: &[f64], bounds: &[Bounds], scale: Option<f64>) -> Self {
        let count = errors.count as f64;
        let (mae, mse) = (errors.mae(), errors.squares / count);
        let of_level = |(level, bounds): (&f64, &Bounds)| {
            let count = bounds.count as f64;
            LevelMetrics {
                level: *level,
                coverage: bounds.inside as f64 / count,
                width: bounds.width / count,
                interval_score: bounds.score / count,
                scaled_interval_score: scale.map(|scale| bounds.score / count / scale),
            }
        };
        let quantiles: f64 = bounds.iter().map(|bounds| bounds.pinball / bounds.count as f64).sum();
        let median = 0.5 * mae;
        Self {
            values: errors.count,
            mae,
            mse,
            rmse: mse.sqrt(),
            smape: errors.smape / count,
            mase: scale.map(|scale| mae / scale),
            pinball: (!bounds.is_empty()).then(|| (median + quantiles) / (1 + 2 * bounds.len()) as f64),
            levels: levels.iter().zip(bounds).map(of_level).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    }

    #[test]
    fn single_values_by_hand() {
        near(smape(10.0, 8.0), 200.0 * 2.0 / 18.0);
        near(smape(0.0, 0.0), 0.0);
        near(smape(0.0, 3.0), 200.0);
        near(pinball(0.9, 10.0, 8.0), 1.8);
        near(pinball(0.9, 8.0, 10.0), 0.2);
        near(interval_score(0.8, 5.0, 4.0, 7.0), 3.0);
        near(interval_score(0.8, 3.5, 4.0, 7.0), 3.0 + 10.0 * 0.5);
        near(interval_score(0.8, 7.25, 4.0, 7.0), 3.0 + 10.0 * 0.25);
    }

    #[test]
    fn a_table_by_hand() {
        // y 10 12 8 0, ŷ 8 12 9 1: errors 2 0 1 1
        let (mut errors, mut bounds) = (Errors::default(), Bounds::default());
        for (actual, forecast) in [(10.0, 8.0), (12.0, 12.0), (8.0, 9.0), (0.0, 1.0)] {
            errors.add(actual, forecast);
            bounds.add(0.5, actual, forecast - 1.0, forecast + 1.0);
        }
        let metrics = Metrics::of(&errors, &[0.5], &[bounds], Some(4.0));
        near(metrics.mae, 1.0);
        near(metrics.mse, 1.5);
        near(metrics.rmse, 1.5f64.sqrt());
        near(metrics.smape, (200.0 * 2.0 / 18.0 + 200.0 / 17.0 + 200.0) / 4.0);
        near(metrics.mase.unwrap(), 0.25);
        // Only 10 lies outside of [7, 9], by 1.
        let level = &metrics.levels[0];
        near(level.coverage, 0.75);
        near(level.width, 2.0);
        near(level.interval_score, (4.0 * 2.0 + 4.0) / 4.0);
        near(level.scaled_interval_score.unwrap(), 0.75);
        // Median: 0.5 |e|, together 2. Lower, q = .25, y - l = 3 1 0 0: 1. Upper, q = .75, y - u = 1 -1 -2 -2:
        // .75 + .25 + .5 + .5 = 2.
        near(metrics.pinball.unwrap(), (2.0 + 1.0 + 2.0) / 4.0 / 3.0);
    }

    #[test]
    fn no_levels_and_no_scale_are_no_numbers() {
        let mut errors = Errors::default();
        errors.add(1.0, 2.0);
        let metrics = Metrics::of(&errors, &[], &[], None);
        assert_eq!((metrics.pinball, metrics.mase, metrics.levels.len()), (None, None, 0));
    }
}
