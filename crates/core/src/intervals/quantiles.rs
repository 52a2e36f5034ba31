//! Quantiles of validation errors: the offsets that the bounds of a model start from.

use super::bounds::{Base, Bound, Bounds, level_probabilities, volatility_scale};
use crate::metrics::Interval;

/// Number of probabilities at which the pooled errors of all series are stored: 0.5 %, 1 %, ..., 99.5 %.
pub const POOLED_PROBABILITIES: usize = 199;

/// Probabilities at which the errors of a single series are stored: those of common levels, so that hundreds of series stay
/// small.
pub const SERIES_PROBABILITIES: [f64; 19] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.975, 0.99,
    0.995,
];

/// Errors per step of the horizon that a series needs for quantiles of its own: the tails of fewer are chance.
pub const SERIES_ERRORS_MIN: usize = 100;

/// Widest level that the stored probabilities can bound.
pub const LEVEL_MAX: f64 = 0.99;

/// Candidates for β. With the last, a series that moves by 1 % of its spread per step has bounds twice as wide as one at rest.
const VOLATILITY_GAINS: [f32; 5] = [0.0, 1.0, 5.0, 25.0, 100.0];
/// Levels at which a gain is judged.
const GAIN_LEVELS: [f64; 2] = [0.8, 0.95];
/// A gain must lower the interval score below this fraction of the score at β = 0: a smaller improvement is chance.
const MIN_IMPROVEMENT: f64 = 0.97;
/// Largest number of origins that a gain is judged on; more are thinned out evenly.
const GAIN_ERRORS_MAX: usize = 4096;
/// Smallest number: fewer do not reach into the tails.
const GAIN_ERRORS_MIN: usize = 100;

/// Quantiles of forecast errors, `[probability][horizon]`, ascending by probability.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorQuantiles {
    horizon: usize,
    values: Vec<f32>,
}

impl ErrorQuantiles {
    /// Quantiles at all [`POOLED_PROBABILITIES`] from errors `[horizon][n]`; none if a step has no errors.
    pub fn pooled(errors: Vec<Vec<f32>>) -> Option<Self> {
        Self::at_probabilities(errors, POOLED_PROBABILITIES)
    }

    /// Quantiles of one series at [`SERIES_PROBABILITIES`]; none if a step has fewer than [`SERIES_ERRORS_MIN`] errors.
    pub fn for_series(errors: Vec<Vec<f32>>) -> Option<Self> {
        let enough = errors.iter().all(|step| step.len() >= SERIES_ERRORS_MIN);
        enough.then(|| Self::at_probabilities(errors, SERIES_PROBABILITIES.len())).flatten()
    }

    /// Pooled quantiles reduced to [`SERIES_PROBABILITIES`], for a series with too few errors.
    pub fn to_series(&self) -> Self {
        let values =
            SERIES_PROBABILITIES.iter().flat_map(|p| (0..self.horizon).map(|step| self.at(*p, step)));
        Self { horizon: self.horizon, values: values.collect() }
    }

    fn at_probabilities(mut errors: Vec<Vec<f32>>, count: usize) -> Option<Self> {
        let horizon = errors.len();
        errors.iter_mut().for_each(|step| step.sort_unstable_by(f32::total_cmp));
        let mut values = Vec::with_capacity(count * horizon);
        for p in 0..count {
            for step in &errors {
                values.push(order_statistic(step, probability(count, p))?);
            }
        }
        Some(Self { horizon, values })
    }

    /// Restores [`Self::values`]; none if the length fits neither set of probabilities or the quantiles descend.
    pub fn from_values(horizon: usize, values: Vec<f32>) -> Option<Self> {
        let is_count = |count: usize| count.checked_mul(horizon) == Some(values.len());
        let size = horizon > 0 && (is_count(POOLED_PROBABILITIES) || is_count(SERIES_PROBABILITIES.len()));
        let ascends = || (horizon..values.len()).all(|i| values[i - horizon] <= values[i]);
        (size && ascends()).then_some(Self { horizon, values })
    }

    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Bounds of the central interval of a level around the forecast, widened by volatility.
    pub fn bounds(&self, level: f64, volatility_gain: f32) -> Bounds {
        let [lower, upper] = level_probabilities(level).map(|probability| Bound {
            base: Base::Forecast,
            volatility_gain,
            offsets: (0..self.horizon).map(|step| self.at(probability, step)).collect(),
        });
        Bounds { lower, upper }
    }

    /// Mean absolute error at a step: ∫ |Q_p| dp, with Q constant beyond the outermost probabilities.
    pub fn mean_abs(&self, step: usize) -> f32 {
        let count = self.values.len() / self.horizon;
        let size = |p: usize| f64::from(self.values[p * self.horizon + step].abs());
        let trapezoid = |p: usize| {
            let width = probability(count, p + 1) - probability(count, p);
            width * (size(p) + size(p + 1)) / 2.0
        };
        let tails = probability(count, 0) * size(0) + (1.0 - probability(count, count - 1)) * size(count - 1);
        ((0..count - 1).map(trapezoid).sum::<f64>() + tails) as f32
    }

    /// Quantile at any probability, linear between the stored ones.
    fn at(&self, probability: f64, step: usize) -> f32 {
        let count = self.values.len() / self.horizon;
        let at_most = (0..count).rposition(|p| self::probability(count, p) <= probability);
        let below = at_most.unwrap_or(0).min(count - 2);
        let [from, to] = [below, below + 1].map(|p| self::probability(count, p));
        let weight = ((probability - from) / (to - from)).clamp(0.0, 1.0) as f32;
        let value = |p: usize| self.values[p * self.horizon + step];
        value(below) + weight * (value(below + 1) - value(below))
    }
}

/// Probability of row `p` of `count`.
fn probability(count: usize, p: usize) -> f64 {
    if count == SERIES_PROBABILITIES.len() {
        SERIES_PROBABILITIES[p]
    } else {
        (p + 1) as f64 / (count + 1) as f64
    }
}

/// Conformal quantile of sorted values: the order statistic at ⌈p (n + 1)⌉ above the middle, its mirror image below.
///
/// A new value stays below an upper bound with probability at least p; both bounds err on the wide side.
fn order_statistic(sorted: &[f32], probability: f64) -> Option<f32> {
    let rank = |p: f64| ((p * (sorted.len() + 1) as f64).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    if probability < 0.5 {
        let mirrored = sorted.len().checked_sub(1 + rank(1.0 - probability))?;
        sorted.get(mirrored).copied()
    } else {
        sorted.get(rank(probability)).copied()
    }
}

/// Offsets that calibrate learned quantiles, scaled, `[probability][horizon]`.
///
/// The offset of q_p is the p-quantile of actual - q_p on validation data: on similar data the moved quantile is exact,
/// however good q_p is (Romano, Patterson and Candès, "Conformalized quantile regression", 2019; each tail separately, as in
/// their theorem 2).
#[derive(Clone, Debug, PartialEq)]
pub struct ConformalOffsets {
    horizon: usize,
    values: Vec<f32>,
}

impl ConformalOffsets {
    /// Offsets from errors actual - q_p, `[probability][horizon][n]`; none if a step has no errors or fewer than `errors_min`.
    pub fn new(errors: Vec<Vec<Vec<f32>>>, probabilities: &[f64], errors_min: usize) -> Option<Self> {
        let horizon = errors.first()?.len();
        let mut values = Vec::with_capacity(probabilities.len() * horizon);
        for (steps, p) in errors.into_iter().zip(probabilities) {
            for mut step in steps {
                step.sort_unstable_by(f32::total_cmp);
                values.push(order_statistic(&step, *p).filter(|_| step.len() >= errors_min)?);
            }
        }
        Some(Self { horizon, values })
    }

    /// Restores [`Self::values`]; none if the length does not fit.
    pub fn from_values(horizon: usize, probabilities: usize, values: Vec<f32>) -> Option<Self> {
        let size = horizon > 0 && horizon.checked_mul(probabilities) == Some(values.len());
        size.then_some(Self { horizon, values })
    }

    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Bounds at the probabilities with these indices.
    pub fn bounds(&self, indices: [usize; 2]) -> Bounds {
        let [lower, upper] = indices.map(|index| Bound {
            base: Base::Quantile(index),
            // Learned quantiles already depend on volatility.
            volatility_gain: 0.0,
            offsets: self.values[index * self.horizon..][..self.horizon].to_vec(),
        });
        Bounds { lower, upper }
    }
}

/// The volatility gain β with the lowest interval score in two-fold cross-validation; 0 unless the improvement is large enough.
///
/// `errors` are (error, volatility at the origin) of one step of the horizon: in time order, or series by series, so that
/// each half of the series bounds the other.
pub fn choose_volatility_gain(errors: &[(f32, f32)]) -> f32 {
    let stride = errors.len().div_ceil(GAIN_ERRORS_MAX).max(1);
    let errors: Vec<(f32, f32)> = errors.iter().step_by(stride).copied().collect();
    if errors.len() < GAIN_ERRORS_MIN {
        return 0.0;
    }
    let (early, late) = errors.split_at(errors.len() / 2);
    let scores = VOLATILITY_GAINS.map(|gain| score(gain, early, late) + score(gain, late, early));
    let best = (0..VOLATILITY_GAINS.len()).min_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap_or(0);
    if scores[best] < MIN_IMPROVEMENT * scores[0] { VOLATILITY_GAINS[best] } else { 0.0 }
}

/// Sum of the interval scores of `test` errors, bounded by the quantiles of `train` errors / (1 + β v), over [`GAIN_LEVELS`].
fn score(gain: f32, train: &[(f32, f32)], test: &[(f32, f32)]) -> f64 {
    let mut sorted: Vec<f32> = train.iter().map(|(error, v)| error / volatility_scale(gain, *v)).collect();
    sorted.sort_unstable_by(f32::total_cmp);
    let level_score = |level: f64| -> f64 {
        let tail = (1.0 - level) / 2.0;
        let quantiles = [tail, 1.0 - tail].map(|p| order_statistic(&sorted, p).unwrap_or(0.0));
        let scores = test.iter().map(|(error, v)| {
            let [lower, upper] = quantiles.map(|bound| f64::from(bound * volatility_scale(gain, *v)));
            Interval { level, lower, upper }.score(f64::from(*error))
        });
        scores.sum()
    };
    GAIN_LEVELS.into_iter().map(level_score).sum()
}

#[cfg(test)]
mod tests {
    use super::super::bounds::{ModelOutput, probabilities};
    use super::*;

    fn spread_evenly(count: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919) % count) as f32 / count as f32 - 0.5).collect()
    }

    #[test]
    fn a_level_contains_its_fraction_of_the_errors() {
        let errors = spread_evenly(10_000);
        let quantiles =
            ErrorQuantiles::pooled(vec![errors.clone(), errors.iter().map(|e| 2.0 * e).collect()]).unwrap();
        for level in [0.5, 0.8, 0.95, 0.99] {
            let Bounds { lower, upper } = quantiles.bounds(level, 0.0);
            let (lower, upper) = (lower.offsets, upper.offsets);
            let inside = errors.iter().filter(|e| (lower[0]..=upper[0]).contains(e)).count() as f64 / 1e4;
            assert!((inside - level).abs() < 0.002, "{level}: {inside}");
            assert!((upper[1] - 2.0 * upper[0]).abs() < 1e-6 && (lower[0] + upper[0]).abs() < 1e-3);
        }
    }

    #[test]
    fn per_series_and_pooled_quantiles_agree_at_common_levels() {
        let errors = spread_evenly(2000);
        let one = ErrorQuantiles::for_series(vec![errors.clone()]).unwrap();
        let pooled = ErrorQuantiles::pooled(vec![errors.clone()]).unwrap();
        for level in [0.8, 0.95, 0.99] {
            assert_eq!(one.bounds(level, 1.0), pooled.bounds(level, 1.0));
            assert_eq!(pooled.to_series().bounds(level, 1.0), pooled.bounds(level, 1.0));
        }
        assert_eq!(ErrorQuantiles::for_series(vec![errors[..50].to_vec()]), None);
    }

    #[test]
    fn few_errors_give_wide_bounds_and_no_errors_none() {
        let quantiles = ErrorQuantiles::pooled(vec![vec![1.0, -1.0, 0.0]]).unwrap();
        let [mut lower, mut upper] = [[0.0; 1]; 2];
        let output = ModelOutput { values: &[2.0], quantiles: &[], volatility: 2.0 };
        quantiles.bounds(0.8, 0.5).write(output, &mut lower, &mut upper);
        assert_eq!((lower, upper), ([0.0], [4.0]));
        assert_eq!(ErrorQuantiles::pooled(vec![vec![1.0], vec![]]), None);
    }

    #[test]
    fn descending_quantiles_are_not_restored() {
        let quantiles = ErrorQuantiles::pooled(vec![vec![1.0, 2.0, 3.0]]).unwrap();
        let values = quantiles.values().to_vec();
        assert_eq!(ErrorQuantiles::from_values(1, values.clone()), Some(quantiles));
        assert_eq!(ErrorQuantiles::from_values(1, values.into_iter().rev().collect()), None);
    }

    #[test]
    fn conformal_offsets_calibrate_quantiles_however_wrong() {
        let actuals: Vec<f32> = spread_evenly(10_000).into_iter().map(|y| y + 0.5).collect();
        let wrong = [0.4f32, 0.1];
        let errors = wrong.map(|q| vec![actuals.iter().map(|y| y - q).collect::<Vec<f32>>()]);
        let offsets = ConformalOffsets::new(errors.to_vec(), &probabilities(&[0.8]), 1).unwrap();
        let [mut lower, mut upper] = [[0.0; 1]; 2];
        let output = ModelOutput { values: &[0.0], quantiles: &wrong, volatility: 1.0 };
        offsets.bounds([0, 1]).write(output, &mut lower, &mut upper);
        let ([lower], [upper]) = (lower, upper);
        let inside = actuals.iter().filter(|y| (lower..=upper).contains(y)).count() as f64 / 1e4;
        assert!((inside - 0.8).abs() < 0.002 && (lower - 0.1).abs() < 1e-3, "{lower} {upper} {inside}");
    }

    #[test]
    fn conformal_offsets_need_enough_errors() {
        let errors = || vec![vec![vec![1.0; 99], vec![1.0; 100]]; 2];
        assert_eq!(ConformalOffsets::new(errors(), &[0.1, 0.9], 100), None);
        assert_eq!(ConformalOffsets::new(errors(), &[0.1, 0.9], 99).unwrap().values(), &[1.0; 4]);
        assert_eq!(ConformalOffsets::new(vec![vec![vec![]]], &[0.1], 0), None);
        assert_eq!(ConformalOffsets::from_values(2, 2, vec![0.0; 3]), None);
    }

    #[test]
    fn volatility_gain_is_positive_only_where_errors_grow_with_volatility() {
        let errors = |grows: bool| -> Vec<(f32, f32)> {
            let noise = |i: usize| ((i * 7919) % 2000) as f32 / 1000.0 - 1.0;
            let volatility = |i: usize| if (i / 50).is_multiple_of(4) { 0.4 } else { 0.01 };
            let size = |i: usize| if grows { 0.05 + volatility(i) } else { 1.0 };
            (0..2000).map(|i| (noise(i) * size(i), volatility(i))).collect()
        };
        assert_eq!(choose_volatility_gain(&errors(false)), 0.0);
        assert!(choose_volatility_gain(&errors(true)) >= 5.0);
    }
}
