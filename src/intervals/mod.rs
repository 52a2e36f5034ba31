//! Prediction intervals around a forecast. Knows numbers only: no network, no table, no clock.
//!
//! The bounds are quantiles of the errors that the network made on data it had not learned from, in scaled units and
//! for each step of the horizon: y + q_α(e_i), with e_i = actual − forecast (an empirical error distribution, as in
//! Hyndman and Athanasopoulos, "Forecasting: Principles and Practice", 5.5).

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

/// Differences of which a restlessness is the mean.
const RESTLESS_STEPS: usize = 24;
/// How much restlessness may widen that is tried: at the last, a series that moves by a hundredth of its spread a step has
/// bounds twice as wide as one that stands still.
const WIDENINGS: [f32; 5] = [0.0, 1.0, 5.0, 25.0, 100.0];
/// The levels by whose bounds a widening is judged.
const JUDGED: [f64; 2] = [0.8, 0.95];
/// A widening is only taken where its interval score is below this part of that without: less is chance.
const WORTH: f64 = 0.97;
/// Origins that a widening is judged on, at most; more are thinned out evenly.
const JUDGED_MOST: usize = 4096;
/// And at least: fewer do not reach into the tails.
const JUDGED_LEAST: usize = 100;

/// How much a series has moved of late: the mean way from one value to the next, in spreads.
pub fn restlessness(values: &[f64], spread: f64) -> f32 {
    let values = &values[values.len().saturating_sub(RESTLESS_STEPS + 1)..];
    let ways: f64 = values.windows(2).map(|pair| (pair[1] - pair[0]).abs()).sum();
    let mean = ways / values.len().saturating_sub(1).max(1) as f64;
    if spread > 0.0 { (mean / spread) as f32 } else { 0.0 }
}

/// By how much bounds are wider where a series is restless: 1 + β r.
pub fn widening(beta: f32, restlessness: f32) -> f32 {
    1.0 + beta * restlessness
}

/// The β with the least interval score (Gneiting & Raftery 2007) when the quantiles of one half of the errors, each over its
/// widening, bound the other half. `errors` are those of one step of the horizon with the restlessness at their origins, in
/// the order of time. 0 unless it is worth it.
pub fn choose_widening(errors: &[(f32, f32)]) -> f32 {
    let every = errors.len().div_ceil(JUDGED_MOST).max(1);
    let errors: Vec<(f32, f32)> = errors.iter().step_by(every).copied().collect();
    if errors.len() < JUDGED_LEAST {
        return 0.0;
    }
    let (early, late) = errors.split_at(errors.len() / 2);
    let score = |beta: f32| -> f64 {
        let halves = [(early, late), (late, early)];
        let of_half = |(known, held): (&[(f32, f32)], &[(f32, f32)])| -> f64 {
            let mut sorted: Vec<f32> = known.iter().map(|(error, r)| error / widening(beta, *r)).collect();
            sorted.sort_unstable_by(f32::total_cmp);
            let of_level = |level: f64| -> f64 {
                let tail = (1.0 - level) / 2.0;
                let bound = |p: f64| quantile(&sorted, p).unwrap_or(0.0);
                let (lower, upper) = (bound(tail), bound(1.0 - tail));
                let score = |(error, r): &(f32, f32)| {
                    let [lower, upper] = [lower, upper].map(|bound| f64::from(bound * widening(beta, *r)));
                    let beyond = (lower - f64::from(*error)).max(f64::from(*error) - upper).max(0.0);
                    upper - lower + 2.0 / (1.0 - level) * beyond
                };
                held.iter().map(score).sum()
            };
            JUDGED.into_iter().map(of_level).sum()
        };
        halves.into_iter().map(of_half).sum()
    };
    let scores = WIDENINGS.map(score);
    let best = (0..WIDENINGS.len()).min_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap_or(0);
    if scores[best] < WORTH * scores[0] { WIDENINGS[best] } else { 0.0 }
}

/// The widest level that the kept probabilities can bound.
pub const WIDEST_LEVEL: f64 = 0.99;

/// Quantiles of the errors, `[probability x horizon]`, rising with the probability.
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
    /// (1 + level)/2.
    pub fn offsets(&self, level: f64) -> Offsets {
        let bound = |probability: f64| (0..self.horizon).map(|step| self.at(probability, step)).collect();
        Offsets { lower: bound((1.0 - level) / 2.0), upper: bound((1.0 + level) / 2.0) }
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
            let Offsets { lower, upper } = quantiles.offsets(level);
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
            assert_eq!(one.offsets(level), all.offsets(level));
            assert_eq!(all.for_one().offsets(level), all.offsets(level));
        }
        assert_eq!(ErrorQuantiles::of_one(vec![errors[..50].to_vec()]), None);
    }

    #[test]
    fn what_errs_more_where_it_is_restless_is_bounded_wider_there() {
        let errors = |grows: bool| -> Vec<(f32, f32)> {
            let noise = |i: usize| ((i * 7919) % 2000) as f32 / 1000.0 - 1.0;
            let restless = |i: usize| if (i / 50).is_multiple_of(4) { 0.4 } else { 0.01 };
            let size = |i: usize| if grows { 0.05 + restless(i) } else { 1.0 };
            (0..2000).map(|i| (noise(i) * size(i), restless(i))).collect()
        };
        assert_eq!(choose_widening(&errors(false)), 0.0);
        assert!(choose_widening(&errors(true)) >= 5.0);
        assert_eq!(restlessness(&[5.0, 1.0, 3.0, 3.0], 2.0), 1.0);
        assert_eq!(restlessness(&[5.0], 2.0), 0.0);
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
