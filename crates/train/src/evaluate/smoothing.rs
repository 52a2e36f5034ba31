//! Exponential smoothing with an additive season, ETS(A,N,A) in error correction form (Hyndman, Koehler, Ord and Snyder,
//! "Forecasting with Exponential Smoothing", 2008, table 2.1):
//!
//! ```text
//! e(t) = y(t) - l(t-1) - s(slot of t)
//! l(t) = l(t-1) + α e(t)      s(slot of t) += γ e(t)      ŷ(t + h) = l(t) + s(slot of t + h)
//! ```
//!
//! A step has constant cost. Missing steps update nothing.

use super::timeline::SeriesTimeline;

/// Largest number of seasonal slots, the minutes of a day: finer slots are observed too rarely to be estimated.
const SLOTS_MAX: usize = 1440;
/// Largest number of latest training steps on which the constants are selected, half a year of quarters of an hour: more
/// steps take time and hardly change the selection.
const STEPS_MAX: usize = 17_520;

const ALPHAS: [f64; 9] = [0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.0];
/// All lie in the admissible region γ < 2 - α.
const GAMMAS: [f64; 5] = [0.0, 0.02, 0.05, 0.1, 0.3];

/// Smoothing constants and initial season of one channel.
#[derive(Clone, Debug, PartialEq)]
pub struct ExponentialSmoothing {
    pub alpha: f64,
    pub gamma: f64,
    /// Steps of a season.
    season: Option<usize>,
    /// Initial season, a value per slot.
    profile: Vec<f64>,
}

/// Level and season after a step.
#[derive(Clone, Debug, PartialEq)]
pub struct SmoothingState {
    level: Option<f64>,
    profile: Vec<f64>,
}

impl Default for ExponentialSmoothing {
    /// For a channel without training data.
    fn default() -> Self {
        Self { alpha: 0.5, gamma: 0.0, season: None, profile: Vec::new() }
    }
}

impl ExponentialSmoothing {
    /// Selects the constants, and whether there is a season, by the squared one-step errors before step `until`.
    pub fn fit(timeline: &SeriesTimeline<'_>, until: i64, season: Option<usize>) -> Self {
        let values: Vec<(i64, f64)> = timeline.observations(i64::MIN / 2..until).collect();
        if values.is_empty() {
            return Self::default();
        }
        let latest = &values[values.len().saturating_sub(STEPS_MAX)..];
        let plain = ALPHAS.iter().map(|alpha| Self { alpha: *alpha, ..Self::default() });
        let seasonal = season.map(|season| Self::default().with_profile(season, latest));
        let seasonal = seasonal.iter().flat_map(|with| {
            let pairs = ALPHAS.iter().flat_map(|alpha| GAMMAS.iter().map(|gamma| (*alpha, *gamma)));
            pairs.map(|(alpha, gamma)| Self { alpha, gamma, ..with.clone() })
        });
        let scored = plain.chain(seasonal).map(|candidate| (candidate.squared_error(latest), candidate));
        let best = scored.min_by(|(a, _), (b, _)| a.total_cmp(b));
        best.map_or_else(Self::default, |(_, best)| best)
    }

    /// Sets the season to the mean of each slot less the mean of all values.
    fn with_profile(&self, season: usize, values: &[(i64, f64)]) -> Self {
        let mut with =
            Self { season: Some(season), profile: vec![0.0; season.min(SLOTS_MAX)], ..self.clone() };
        let mean = values.iter().map(|(_, value)| value).sum::<f64>() / values.len() as f64;
        let mut counts = vec![0u64; with.profile.len()];
        for (step, value) in values {
            let slot = with.slot(*step);
            counts[slot] += 1;
            with.profile[slot] += value - mean;
        }
        with.profile.iter_mut().zip(counts).for_each(|(sum, count)| *sum /= count.max(1) as f64);
        with
    }

    fn slot(&self, step: i64) -> usize {
        let Some(season) = self.season else { return 0 };
        let passed = step.rem_euclid(season as i64) as u128;
        (passed * self.profile.len() as u128 / season as u128) as usize
    }

    fn squared_error(&self, values: &[(i64, f64)]) -> f64 {
        let mut state = self.initial_state();
        values.iter().map(|(step, value)| self.update(&mut state, *step, *value).powi(2)).sum()
    }

    pub fn initial_state(&self) -> SmoothingState {
        SmoothingState { level: None, profile: self.profile.clone() }
    }

    /// Updates the state with an observed value; returns the one-step error.
    pub fn update(&self, state: &mut SmoothingState, step: i64, value: f64) -> f64 {
        let slot = self.slot(step);
        let season = state.profile.get(slot).copied().unwrap_or(0.0);
        let Some(level) = state.level.as_mut() else {
            state.level = Some(value - season);
            return 0.0;
        };
        let error = value - *level - season;
        *level += self.alpha * error;
        if let Some(season) = state.profile.get_mut(slot) {
            *season += self.gamma * error;
        }
        error
    }

    pub fn forecast(&self, state: &SmoothingState, origin: i64, out: &mut [f64]) {
        let level = state.level.unwrap_or(0.0);
        for (i, out) in out.iter_mut().enumerate() {
            let season = state.profile.get(self.slot(origin + 1 + i as i64));
            *out = level + season.copied().unwrap_or(0.0);
        }
    }
}
