//! Prediction intervals around a forecast. Knows numbers only: no network, no table, no clock.
//!
//! The bounds are quantiles of the errors that the network made on data it had not learned from, in scaled units and
//! for each step of the horizon: y + q_α(e_i), with e_i = actual − forecast (an empirical error distribution, as in
//! Hyndman and Athanasopoulos, "Forecasting: Principles and Practice", 5.5).

/// Probabilities at which the errors are kept: 0.5 %, 1 %, ..., 99.5 %.
pub const PROBABILITIES: usize = 199;

/// The widest level that the kept probabilities can bound.
pub const WIDEST_LEVEL: f64 = 0.99;

/// Quantiles of the errors, `[PROBABILITIES x horizon]`, rising with the probability.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorQuantiles {
    horizon: usize,
    values: Vec<f32>,
}

/// How far the bounds of one level lie from the forecast, scaled, for each step of the horizon.
#[derive(Clone, Debug, PartialEq)]
pub struct Offsets {
    pub lower: Vec<f32>,
    pub upper: Vec<f32>,
}

impl ErrorQuantiles {
    /// From the errors of each step of the horizon; `None` where a step has none.
    pub fn of(mut errors: Vec<Vec<f32>>) -> Option<Self> {
        let horizon = errors.len();
        errors.iter_mut().for_each(|step| step.sort_unstable_by(f32::total_cmp));
        let mut values = Vec::with_capacity(PROBABILITIES * horizon);
        for p in 0..PROBABILITIES {
            for step in &errors {
                values.push(quantile(step, probability(p))?);
            }
        }
        Some(Self { horizon, values })
    }

    /// Puts back what a file kept, `[PROBABILITIES x horizon]`; `None` if that is not its size or it does not rise.
    pub fn from_values(horizon: usize, values: Vec<f32>) -> Option<Self> {
        let size = PROBABILITIES.checked_mul(horizon) == Some(values.len()) && horizon > 0;
        let rises = || (horizon..values.len()).all(|i| values[i - horizon] <= values[i]);
        (size && rises()).then_some(Self { horizon, values })
    }

    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The bounds of the central interval that holds a share `level` of the errors: the quantiles (1 − level)/2 and
    /// (1 + level)/2.
    pub fn offsets(&self, level: f64) -> Offsets {
        let bound = |probability: f64| (0..self.horizon).map(|step| self.at(probability, step)).collect();
        Offsets { lower: bound((1.0 - level) / 2.0), upper: bound((1.0 + level) / 2.0) }
    }

    /// Linear between the kept probabilities.
    fn at(&self, probability: f64, step: usize) -> f32 {
        let place = (probability * (PROBABILITIES + 1) as f64 - 1.0).clamp(0.0, (PROBABILITIES - 1) as f64);
        let (below, part) = (place.floor() as usize, place.fract() as f32);
        let value = |p: usize| self.values[p.min(PROBABILITIES - 1) * self.horizon + step];
        value(below) + part * (value(below + 1) - value(below))
    }
}

fn probability(p: usize) -> f64 {
    (p + 1) as f64 / (PROBABILITIES + 1) as f64
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
            let Offsets { lower, upper } = quantiles.offsets(level);
            let inside = errors.iter().filter(|e| (lower[0]..=upper[0]).contains(e)).count() as f64 / 1e4;
            assert!((inside - level).abs() < 0.002, "{level}: {inside}");
            assert!((upper[1] - 2.0 * upper[0]).abs() < 1e-6 && (lower[0] + upper[0]).abs() < 1e-3);
        }
    }

    #[test]
    fn few_errors_bound_widely_and_none_not_at_all() {
        let quantiles = ErrorQuantiles::of(vec![vec![1.0, -1.0, 0.0]]).unwrap();
        assert_eq!(quantiles.offsets(0.8), Offsets { lower: vec![-1.0], upper: vec![1.0] });
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
