//! Prediction intervals around a forecast. Knows numbers only: no network, no table, no clock.
//!
//! The bound for probability p is b_p + Q_p(actual − b_p): its base b_p, and the p-quantile of how far what came lay from
//! that on data that was not learned from, in scaled units and for each step of the horizon. The base is a quantile that the
//! network learned to say ([`Corrections`]), or else the forecast, whose errors are kept for all levels
//! ([`ErrorQuantiles`]; an empirical error distribution, as in Hyndman and Athanasopoulos, "Forecasting: Principles and
//! Practice", 5.5).
//!
//! So much is known before the first reading, and it is where every series begins. From there [`Online`] corrects the bounds of
//! each series by what comes of its own forecasts, and scores them.

mod bounds;
mod corrections;
mod online;
mod widening;

pub use bounds::{Base, Bound, Bounds, places, probabilities, rearrange};
pub use corrections::Corrections;
pub use online::{
    Drift, Forecast, HORIZONS_MAX, HorizonScores, Issued, Online, Plan, RUNNING, Scaled, SeriesScores,
    bounded,
};
pub use widening::{RESTLESS_STEPS, choose_widening, restlessness, widening};

/// Probabilities at which the errors of all series together are kept: 0.5 %, 1 %, ..., 99.5 %.
pub const PROBABILITIES: usize = 199;

/// Probabilities at which the errors of a single series are kept: those that levels are made of, and few enough that
/// hundreds of series stay small.
pub const OWN_PROBABILITIES: [f64; 19] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.975, 0.99,
    0.995,
];

/// Errors that a series needs at each step of the horizon for quantiles of its own: with fewer, its tails are chance.
pub const OWN_LEAST: usize = 100;

/// The widest level that the kept probabilities can bound.
pub const WIDEST_LEVEL: f64 = 0.99;

/// Quantiles of the errors, `[probability x horizon]`, rising with the probability.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorQuantiles {
    horizon: usize,
    values: Vec<f32>,
}

impl ErrorQuantiles {
    /// From the errors of each step of the horizon, at all [`PROBABILITIES`]; `None` where a step has none.
    pub fn of(errors: Vec<Vec<f32>>) -> Option<Self> {
        Self::at_probabilities(errors, PROBABILITIES)
    }

    /// From the errors of a single series, at [`OWN_PROBABILITIES`]; `None` where a step has fewer than [`OWN_LEAST`].
    pub fn of_one(errors: Vec<Vec<f32>>) -> Option<Self> {
        let enough = errors.iter().all(|step| step.len() >= OWN_LEAST);
        enough.then(|| Self::at_probabilities(errors, OWN_PROBABILITIES.len())).flatten()
    }

    /// What stands for a series that has too few errors of its own: those of all.
    pub fn for_one(&self) -> Self {
        let values = OWN_PROBABILITIES.iter().flat_map(|p| (0..self.horizon).map(|step| self.at(*p, step)));
        Self { horizon: self.horizon, values: values.collect() }
    }

    fn at_probabilities(mut errors: Vec<Vec<f32>>, count: usize) -> Option<Self> {
        let horizon = errors.len();
        errors.iter_mut().for_each(|step| step.sort_unstable_by(f32::total_cmp));
        let mut values = Vec::with_capacity(count * horizon);
        for p in 0..count {
            for step in &errors {
                values.push(quantile(step, probability(count, p))?);
            }
        }
        Some(Self { horizon, values })
    }

    /// Puts back what a file kept, at [`PROBABILITIES`] or [`OWN_PROBABILITIES`]; `None` if that is not its size or it does
    /// not rise.
    pub fn from_values(horizon: usize, values: Vec<f32>) -> Option<Self> {
        let is = |count: usize| count.checked_mul(horizon) == Some(values.len());
        let size = horizon > 0 && (is(PROBABILITIES) || is(OWN_PROBABILITIES.len()));
        let rises = || (horizon..values.len()).all(|i| values[i - horizon] <= values[i]);
        (size && rises()).then_some(Self { horizon, values })
    }

    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The bounds of the central interval that holds a share `level` of the errors: the quantiles (1 − level)/2 and
    /// (1 + level)/2, which restlessness widens by `beta`.
    pub fn bounds(&self, level: f64, beta: f32) -> Bounds {
        let [lower, upper] = bounds::ends(level).map(|probability| Bound {
            base: Base::Forecast,
            beta,
            offsets: (0..self.horizon).map(|step| self.at(probability, step)).collect(),
        });
        Bounds { lower, upper }
    }

    /// The mean size of the errors at a step: the integral of |Q_p| over p, the quantiles being level beyond the outermost.
    pub fn mean_size(&self, step: usize) -> f32 {
        let count = self.values.len() / self.horizon;
        let size = |p: usize| f64::from(self.values[p * self.horizon + step].abs());
        let between = |p: usize| {
            let part = probability(count, p + 1) - probability(count, p);
            part * (size(p) + size(p + 1)) / 2.0
        };
        let tails = probability(count, 0) * size(0) + (1.0 - probability(count, count - 1)) * size(count - 1);
        ((0..count - 1).map(between).sum::<f64>() + tails) as f32
    }

    /// Linear between the kept probabilities.
    fn at(&self, probability: f64, step: usize) -> f32 {
        let count = self.values.len() / self.horizon;
        let at_most = (0..count).rposition(|p| self::probability(count, p) <= probability);
        let below = at_most.unwrap_or(0).min(count - 2);
        let [from, to] = [below, below + 1].map(|p| self::probability(count, p));
        let part = ((probability - from) / (to - from)).clamp(0.0, 1.0) as f32;
        let value = |p: usize| self.values[p * self.horizon + step];
        value(below) + part * (value(below + 1) - value(below))
    }
}

/// The probability of row `p` of `count`.
fn probability(count: usize, p: usize) -> f64 {
    if count == OWN_PROBABILITIES.len() { OWN_PROBABILITIES[p] } else { (p + 1) as f64 / (count + 1) as f64 }
}

/// The order statistic at ceil(p (n + 1)) of `n` sorted values, which a new value stays below with a chance of at least
/// p (for upper bounds); the mirror image below the middle, so that both bounds err on the wide side.
fn quantile(sorted: &[f32], probability: f64) -> Option<f32> {
    let rank = |p: f64| ((p * (sorted.len() + 1) as f64).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    if probability < 0.5 {
        let mirrored = sorted.len().checked_sub(1 + rank(1.0 - probability))?;
        sorted.get(mirrored).copied()
    } else {
        sorted.get(rank(probability)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_holds_its_share_of_the_errors() {
        let errors: Vec<f32> = (0..10_000).map(|i| ((i * 7919) % 10_000) as f32 / 10_000.0 - 0.5).collect();
        let quantiles =
            ErrorQuantiles::of(vec![errors.clone(), errors.iter().map(|e| 2.0 * e).collect()]).unwrap();
        for level in [0.5, 0.8, 0.95, 0.99] {
            let Bounds { lower, upper } = quantiles.bounds(level, 0.0);
            let (lower, upper) = (lower.offsets, upper.offsets);
            let inside = errors.iter().filter(|e| (lower[0]..=upper[0]).contains(e)).count() as f64 / 1e4;
            assert!((inside - level).abs() < 0.002, "{level}: {inside}");
            assert!((upper[1] - 2.0 * upper[0]).abs() < 1e-6 && (lower[0] + upper[0]).abs() < 1e-3);
        }
    }

    #[test]
    fn a_series_alone_has_the_same_levels_where_they_are_kept() {
        let errors: Vec<f32> = (0..2000).map(|i| ((i * 7919) % 2000) as f32 / 2000.0 - 0.5).collect();
        let (all, one) = (vec![errors.clone()], ErrorQuantiles::of_one(vec![errors.clone()]).unwrap());
        let all = ErrorQuantiles::of(all).unwrap();
        for level in [0.8, 0.95, 0.99] {
            assert_eq!(one.bounds(level, 1.0), all.bounds(level, 1.0));
            assert_eq!(all.for_one().bounds(level, 1.0), all.bounds(level, 1.0));
        }
        assert_eq!(ErrorQuantiles::of_one(vec![errors[..50].to_vec()]), None);
    }

    #[test]
    fn few_errors_bound_widely_and_none_not_at_all() {
        let quantiles = ErrorQuantiles::of(vec![vec![1.0, -1.0, 0.0]]).unwrap();
        let [mut lower, mut upper] = [[0.0; 1]; 2];
        quantiles.bounds(0.8, 0.5).write((&[2.0], &[]), 2.0, &mut lower, &mut upper);
        assert_eq!((lower, upper), ([0.0], [4.0]));
        assert_eq!(ErrorQuantiles::of(vec![vec![1.0], vec![]]), None);
    }

    #[test]
    fn what_does_not_rise_is_not_taken_back() {
        let quantiles = ErrorQuantiles::of(vec![vec![1.0, 2.0, 3.0]]).unwrap();
        let values = quantiles.values().to_vec();
        assert_eq!(ErrorQuantiles::from_values(1, values.clone()), Some(quantiles));
        assert_eq!(ErrorQuantiles::from_values(1, values.into_iter().rev().collect()), None);
    }
}
