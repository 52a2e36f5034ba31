//! Forecast error metrics: the one implementation behind training, evaluation, stream scores and the dashboard.
//!
//! An error is always `actual - forecast`. Accumulators add in the order of their calls, so equal inputs give equal bits.

/// Symmetric absolute percentage error of one value, 200 |y - ŷ| / (|y| + |ŷ|); 0 where both are 0.
///
/// Makridakis, "Accuracy measures", 1993, as defined by the M4 competition.
fn smape(actual: f64, forecast: f64) -> f64 {
    let size = actual.abs() + forecast.abs();
    if size > 0.0 { 200.0 * (actual - forecast).abs() / size } else { 0.0 }
}

/// Pinball (quantile) loss of an error at a probability: max(p e, (p - 1) e), e = y - ŷ.
///
/// Koenker and Bassett, "Regression quantiles", 1978.
pub fn pinball_loss(probability: f64, error: f64) -> f64 {
    (probability * error).max((probability - 1.0) * error)
}

/// Mean absolute scaled error, `mae / naive_mae`; none where the naive forecast was never wrong.
///
/// Hyndman and Koehler, "Another look at measures of forecast accuracy", 2006.
pub fn mase(mae: f64, naive_mae: f64) -> Option<f64> {
    (naive_mae > 0.0).then(|| mae / naive_mae)
}

/// Lag, in steps before the forecast step, of the value that the naive forecast repeats `ahead` steps after the origin.
///
/// ŷ(t + h) = y(t + h - lag(h)) with lag(h) = s ⌈h / s⌉ for season s. Without a season lag(h) = h: the last value.
pub fn naive_lag(season: Option<usize>, ahead: usize) -> usize {
    season.map_or(ahead, |season| season * ahead.div_ceil(season))
}

/// Prediction interval of one level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Nominal coverage, between 0 and 1.
    pub level: f64,
    pub lower: f64,
    pub upper: f64,
}

impl Interval {
    /// True if the interval, bounds included, contains a value.
    pub fn contains(&self, actual: f64) -> bool {
        self.lower <= actual && actual <= self.upper
    }

    /// Interval (Winkler) score: (u - l) + 2/α (l - y)⁺ + 2/α (y - u)⁺ with α = 1 - level.
    ///
    /// Winkler 1972; Gneiting and Raftery, "Strictly proper scoring rules", 2007, equation 43.
    pub fn score(&self, actual: f64) -> f64 {
        let missed = (self.lower - actual).max(0.0) + (actual - self.upper).max(0.0);
        (self.upper - self.lower) + 2.0 / (1.0 - self.level) * missed
    }

    /// Pinball loss of both bounds, as the quantiles (1 - level) / 2 and (1 + level) / 2.
    pub fn pinball_loss(&self, actual: f64) -> f64 {
        let tail = (1.0 - self.level) / 2.0;
        pinball_loss(tail, actual - self.lower) + pinball_loss(1.0 - tail, actual - self.upper)
    }
}

/// Arithmetic mean, accumulated value by value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mean {
    pub count: u64,
    pub sum: f64,
}

impl Mean {
    pub fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
    }

    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
    }

    /// None without values.
    pub fn value(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

impl FromIterator<f64> for Mean {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut mean = Self::default();
        values.into_iter().for_each(|value| mean.add(value));
        mean
    }
}

/// Accumulated errors of point forecasts. Means are NaN without values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ErrorSums {
    pub count: u64,
    signed: f64,
    absolute: f64,
    squared: f64,
    smape: f64,
}

impl ErrorSums {
    pub fn add(&mut self, actual: f64, forecast: f64) {
        let error = actual - forecast;
        self.count += 1;
        self.signed += error;
        self.absolute += error.abs();
        self.squared += error * error;
        self.smape += smape(actual, forecast);
    }

    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.signed += other.signed;
        self.absolute += other.absolute;
        self.squared += other.squared;
        self.smape += other.smape;
    }

    /// Mean absolute error.
    pub fn mae(&self) -> f64 {
        self.absolute / self.count as f64
    }

    /// Mean squared error.
    pub fn mse(&self) -> f64 {
        self.squared / self.count as f64
    }

    /// Mean error; positive where forecasts are too low.
    pub fn bias(&self) -> f64 {
        self.signed / self.count as f64
    }

    /// Symmetric mean absolute percentage error.
    pub fn smape(&self) -> f64 {
        self.smape / self.count as f64
    }
}

/// Accumulated results of the intervals of one level. Means are NaN without values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct IntervalSums {
    pub count: u64,
    covered: u64,
    ties: u64,
    width: f64,
    score: f64,
    pinball_loss: f64,
}

impl IntervalSums {
    pub fn add(&mut self, interval: &Interval, actual: f64) {
        self.count += 1;
        self.covered += u64::from(interval.contains(actual));
        self.ties += u64::from(actual == interval.lower || actual == interval.upper);
        self.width += interval.upper - interval.lower;
        self.score += interval.score(actual);
        self.pinball_loss += interval.pinball_loss(actual);
    }

    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.covered += other.covered;
        self.ties += other.ties;
        self.width += other.width;
        self.score += other.score;
        self.pinball_loss += other.pinball_loss;
    }

    /// Fraction of actual values inside the interval.
    pub fn coverage(&self) -> f64 {
        self.covered as f64 / self.count as f64
    }

    /// Fraction of actual values exactly on a bound.
    pub fn ties(&self) -> f64 {
        self.ties as f64 / self.count as f64
    }

    /// Mean width.
    pub fn width(&self) -> f64 {
        self.width / self.count as f64
    }

    /// Mean interval (Winkler) score.
    pub fn score(&self) -> f64 {
        self.score / self.count as f64
    }

    /// Mean pinball loss of both bounds together.
    pub fn pinball_loss(&self) -> f64 {
        self.pinball_loss / self.count as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    }

    #[test]
    fn single_values_match_hand_computation() {
        assert_close(smape(10.0, 8.0), 200.0 * 2.0 / 18.0);
        assert_close(smape(0.0, 0.0), 0.0);
        assert_close(smape(0.0, 3.0), 200.0);
        assert_close(pinball_loss(0.9, 10.0 - 8.0), 1.8);
        assert_close(pinball_loss(0.9, 8.0 - 10.0), 0.2);
        let interval = Interval { level: 0.8, lower: 4.0, upper: 7.0 };
        assert_close(interval.score(5.0), 3.0);
        assert_close(interval.score(3.5), 3.0 + 10.0 * 0.5);
        assert_close(interval.score(7.25), 3.0 + 10.0 * 0.25);
        assert_eq!((mase(1.0, 2.0), mase(1.0, 0.0)), (Some(0.5), None));
        assert_eq!([1, 24, 25].map(|ahead| naive_lag(Some(24), ahead)), [24, 24, 48]);
        assert_eq!(naive_lag(None, 5), 5);
    }

    #[test]
    fn accumulated_values_match_hand_computation() {
        // y 10 12 8 0, ŷ 8 12 9 1: errors 2 0 -1 -1
        let (mut errors, mut intervals) = (ErrorSums::default(), IntervalSums::default());
        for (actual, forecast) in [(10.0, 8.0), (12.0, 12.0), (8.0, 9.0), (0.0, 1.0)] {
            errors.add(actual, forecast);
            intervals.add(&Interval { level: 0.5, lower: forecast - 1.0, upper: forecast + 1.0 }, actual);
        }
        assert_close(errors.mae(), 1.0);
        assert_close(errors.mse(), 1.5);
        assert_close(errors.bias(), 0.0);
        assert_close(errors.smape(), (200.0 * 2.0 / 18.0 + 200.0 / 17.0 + 200.0) / 4.0);
        // 10 lies 1 above [7, 9]; 8 and 0 are lower bounds.
        assert_close(intervals.coverage(), 0.75);
        assert_close(intervals.ties(), 0.5);
        assert_close(intervals.width(), 2.0);
        assert_close(intervals.score(), (4.0 * 2.0 + 4.0) / 4.0);
        // Lower bound, p = .25, y - l = 3 1 0 0: 1. Upper bound, p = .75, y - u = 1 -1 -2 -2: .75 + .25 + .5 + .5 = 2.
        assert_close(intervals.pinball_loss(), (1.0 + 2.0) / 4.0);
        let mut twice = errors;
        twice.merge(&errors);
        assert_eq!((twice.count, twice.mae()), (8, errors.mae()));
        let mean: Mean = [1.0, 4.0].into_iter().collect();
        assert_eq!((mean.value(), Mean::default().value()), (Some(2.5), None));
    }
}
