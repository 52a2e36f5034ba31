//! Weights of the ensemble: per series and bucket of the horizon those with the least absolute error on out-of-sample
//! forecasts. Each block of the training split is forecast by the fit without it, the validation split by the fit on all
//! blocks.

use rayon::prelude::*;

use super::backtest::{BacktestModels, backtest};
use super::gram::{BLOCKS, VALIDATION, block_of, end_of_split};
use super::windows::{Origin, Windows};
use super::{Channel, Split};
use tidecast_core::forecaster::ExpertForecasts;
use tidecast_core::model::{EXPERT_COUNT, Ensemble, EnsembleSpec, Expert, Model};

/// Approximate number of errors per series, block and bucket; more are subsampled.
const ERRORS_PER_BLOCK: usize = 4000;
/// Approximate number of errors of all series, for the weights of series without weights of their own.
const POOLED_ERRORS: usize = 100_000;
/// Weight of an error in the validation split, the most recent data.
const VALIDATION_WEIGHT: f64 = 3.0;
/// Largest error relative to the best single expert at which a blend is used: a smaller gain may be chance.
const MIN_IMPROVEMENT: f64 = 0.99;
/// Mean errors below this fraction of a spread do not discriminate between experts.
const ERROR_MIN: f64 = 1e-4;
/// Iterations of the descent.
const ITERATIONS: usize = 150;

/// Weights of the experts.
type Weights = [f64; EXPERT_COUNT];

/// Forecasts of all experts and the actual value.
#[derive(Clone, Copy)]
struct ExpertError {
    forecasts: [f32; EXPERT_COUNT],
    actual: f32,
    /// Weight of the error in the loss.
    weight: f32,
}

impl ExpertError {
    /// Error of a blend.
    fn of_blend(&self, weights: &Weights) -> f64 {
        let pairs = weights.iter().zip(&self.forecasts);
        pairs.map(|(weight, forecast)| weight * f64::from(*forecast)).sum::<f64>() - f64::from(self.actual)
    }
}

/// Errors of a bucket of the horizon.
#[derive(Clone, Default)]
struct ExpertErrors(Vec<ExpertError>);

impl ExpertErrors {
    /// Every n-th error, so that at most `max` remain.
    fn thin(&self, max: usize) -> Self {
        Self(self.0.iter().step_by(self.0.len().div_ceil(max).max(1)).copied().collect())
    }

    /// Scales the weights so that the best single expert has a mean loss of `weight`: a volatile block has no more influence
    /// than a calm one.
    fn normalize(mut self, weight: f64) -> Self {
        let least = (0..EXPERT_COUNT).map(|expert| self.loss(&single(expert))).fold(f64::INFINITY, f64::min);
        let count = self.0.len() as f64;
        let factor = (weight * count / least.max(ERROR_MIN * count)) as f32;
        self.0.iter_mut().for_each(|error| error.weight *= factor);
        self
    }

    fn loss(&self, weights: &Weights) -> f64 {
        self.0.iter().map(|error| f64::from(error.weight) * error.of_blend(weights).abs()).sum()
    }

    /// Weights of the least absolute error by exponentiated gradient descent (Kivinen and Warmuth 1997):
    /// w ← w exp(-η g) / Σ w exp(-η g), with the gradient g in units of the best single expert's error.
    fn fit(&self) -> Weights {
        let losses: [f64; EXPERT_COUNT] = std::array::from_fn(|expert| self.loss(&single(expert)));
        let best =
            (0..EXPERT_COUNT).min_by(|a, b| losses[*a].total_cmp(&losses[*b])).expect("there are experts");
        if losses[best] <= 0.0 {
            return single(best);
        }
        let mut weights = [1.0 / EXPERT_COUNT as f64; EXPERT_COUNT];
        let (mut best_loss, mut best_weights) = (f64::INFINITY, weights);
        for iteration in 0..ITERATIONS {
            let (loss, gradient) = self.loss_and_gradient(&weights);
            if loss < best_loss {
                (best_loss, best_weights) = (loss, weights);
            }
            let rate = 1.0 / (1.0 + iteration as f64 / 10.0).sqrt();
            let least = gradient.iter().copied().fold(f64::INFINITY, f64::min);
            for (weight, gradient) in weights.iter_mut().zip(gradient) {
                *weight *= (-rate * (gradient - least) / losses[best]).exp();
            }
            let sum: f64 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
        if best_loss <= MIN_IMPROVEMENT * losses[best] { best_weights } else { single(best) }
    }

    fn loss_and_gradient(&self, weights: &Weights) -> (f64, Weights) {
        let (mut loss, mut gradient) = (0.0, [0.0; EXPERT_COUNT]);
        for expert_error in &self.0 {
            let (error, weight) = (expert_error.of_blend(weights), f64::from(expert_error.weight));
            loss += weight * error.abs();
            let sign = if error == 0.0 { 0.0 } else { weight * error.signum() };
            for (sum, forecast) in gradient.iter_mut().zip(expert_error.forecasts) {
                *sum += sign * f64::from(forecast);
            }
        }
        (loss, gradient)
    }
}

/// All weight on one expert.
fn single(expert: usize) -> Weights {
    std::array::from_fn(|other| f64::from(u8::from(other == expert)))
}

/// Buckets of an ensemble: two over at most a day of the horizon, since the next steps need other weights than later ones.
/// Further ahead the recurrence forecasts without experts.
pub fn ensemble_spec(horizon: usize, day: Option<usize>) -> EnsembleSpec {
    let end = horizon.min(day.unwrap_or(horizon));
    let bucket_ends = [end / 4, end].into_iter().filter(|end| *end > 0).collect();
    EnsembleSpec { bucket_ends, season: day }
}

/// Fits the ensemble of `folds`: models without each block, and last the one on all blocks, all without an ensemble.
pub fn fit_ensemble(
    windows: &Windows<'_>,
    channels: &[Channel],
    folds: &[Model],
    split: Split,
    spec: EnsembleSpec,
) -> Ensemble {
    let per_series = folds[BLOCKS].manifest.series.len();
    let buckets = spec.bucket_ends.len();
    let empty = Ensemble::new(spec.clone(), vec![0.0; buckets * EXPERT_COUNT]);
    let pooled_max = (POOLED_ERRORS / channels.len().max(1)).max(1);
    let of_channel = |channel: usize| {
        let errors = collect_errors(windows, channels, channel, folds, split, &empty);
        let weights: Vec<f64> = match channel < per_series {
            true => errors.iter().flat_map(ExpertErrors::fit).collect(),
            false => Vec::new(),
        };
        let thinned: Vec<ExpertErrors> = errors.iter().map(|errors| errors.thin(pooled_max)).collect();
        (weights, thinned)
    };
    let fits: Vec<_> = (0..channels.len()).into_par_iter().map(of_channel).collect();
    let mut pooled = vec![ExpertErrors::default(); buckets];
    let mut weights = Vec::new();
    for (of_series, errors) in &fits {
        weights.extend(of_series.iter().map(|weight| *weight as f32));
        pooled.iter_mut().zip(errors).for_each(|(pooled, errors)| pooled.0.extend(&errors.0));
    }
    weights.extend(pooled.iter().flat_map(ExpertErrors::fit).map(|weight| weight as f32));
    Ensemble::new(spec, weights)
}

/// Errors of a channel by bucket of the horizon.
fn collect_errors(
    windows: &Windows<'_>,
    channels: &[Channel],
    channel: usize,
    folds: &[Model],
    split: Split,
    ensemble: &Ensemble,
) -> Vec<ExpertErrors> {
    let ends = &ensemble.spec.bucket_ends;
    let origins = block_origins(windows, &channels[channel], split, *ends.last().expect("there are buckets"));
    let mut errors = vec![vec![ExpertErrors::default(); BLOCKS + 1]; ends.len()];
    let models = BacktestModels { models: folds, select: &|step| block_of(split, step) };
    backtest(windows, channels, channel, models, &origins, |forecast| {
        let segment = &windows.history.segments[forecast.origin.segment as usize];
        let index = forecast.origin.index as usize;
        if forecast.scale.spread == 0.0 {
            return;
        }
        let past = windows.past(forecast.origin);
        let experts = ExpertForecasts::new(past, &segment.stats_at(index), forecast.scale, Some(ensemble));
        let block = block_of(split, segment.step(index));
        let mut first = 0;
        for (errors, end) in errors.iter_mut().zip(ends) {
            for i in first..*end {
                if segment.observed[index + 1 + i] {
                    let forecasts = Expert::ALL.map(|expert| experts.value(expert, i, forecast.values[i]));
                    let actual = forecast.scale.apply(segment.values[index + 1 + i]);
                    errors[block].0.push(ExpertError { forecasts, actual, weight: 1.0 });
                }
            }
            first = *end;
        }
    });
    let concat = |blocks: Vec<ExpertErrors>| {
        let mut all = ExpertErrors::default();
        for (block, errors) in blocks.into_iter().enumerate() {
            let weight = if block == VALIDATION { VALIDATION_WEIGHT } else { 1.0 };
            all.0.extend(errors.thin(ERRORS_PER_BLOCK).normalize(weight).0);
        }
        all
    };
    errors.into_iter().map(concat).collect()
}

/// Origins of a channel spread evenly over each block, whose next `steps` steps lie in the same segment and split.
fn block_origins(windows: &Windows<'_>, channel: &Channel, split: Split, steps: usize) -> Vec<Origin> {
    let mut by_block = vec![Vec::new(); BLOCKS + 1];
    for number in &channel.segments {
        let segment = &windows.history.segments[*number as usize];
        for index in 0..segment.values.len().saturating_sub(steps) {
            let step = segment.step(index);
            let block = block_of(split, step);
            let end = end_of_split(split, block);
            let origin = Origin { segment: *number, index: index as u32 };
            if segment.observed[index] && step + (steps as i64) < end && windows.is_complete(origin) {
                by_block[block].push(origin);
            }
        }
    }
    let max = (2 * ERRORS_PER_BLOCK / steps).max(50);
    let thinned = by_block.into_iter().flat_map(|origins| {
        let stride = origins.len().div_ceil(max).max(1);
        // Odd: an even stride could select the same hours of every day.
        origins.into_iter().step_by(stride | usize::from(stride > 1)).collect::<Vec<_>>()
    });
    thinned.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidecast_core::network::Random;

    /// Errors of two experts close to the actual value and of three that are far off.
    fn errors(noise: f32) -> ExpertErrors {
        let mut random = Random::new(5);
        let mut errors = ExpertErrors::default();
        for _ in 0..2000 {
            let actual = random.uniform(3.0);
            let forecasts =
                [actual + noise * random.uniform(1.0), actual + random.uniform(1.0), 0.0, 9.0, -9.0];
            errors.0.push(ExpertError { forecasts, actual, weight: 1.0 });
        }
        errors
    }

    #[test]
    fn two_equally_good_forecasts_are_averaged() {
        let weights = errors(1.0).fit();
        assert!((weights[0] - 0.5).abs() < 0.1 && (weights[1] - 0.5).abs() < 0.1, "{weights:?}");
        assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn without_a_gain_the_recurrence_has_all_weight() {
        assert_eq!(errors(0.01).fit(), [1.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(ExpertErrors::default().fit(), [1.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn the_weight_of_a_block_does_not_depend_on_the_size_of_its_errors() {
        let loss = |factor: f32| {
            let mut errors = errors(1.0);
            for error in &mut errors.0 {
                error.forecasts.iter_mut().chain([&mut error.actual]).for_each(|value| *value *= factor);
            }
            let normalized = errors.normalize(3.0);
            (0..EXPERT_COUNT).map(|expert| normalized.loss(&single(expert))).fold(f64::INFINITY, f64::min)
        };
        assert!((loss(1.0) - 6000.0).abs() < 1.0 && (loss(50.0) - 6000.0).abs() < 1.0);
    }

    #[test]
    fn an_ensemble_covers_a_day_at_most() {
        assert_eq!(ensemble_spec(720, Some(24)).bucket_ends, [6, 24]);
        assert_eq!(ensemble_spec(12, Some(288)).bucket_ends, [3, 12]);
        assert_eq!(ensemble_spec(60, None).bucket_ends, [15, 60]);
        assert_eq!(ensemble_spec(1, Some(24)).bucket_ends, [1]);
    }
}
