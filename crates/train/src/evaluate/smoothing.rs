//! Exponential smoothing with an additive season, ETS(A,N,A) in the form of errors (Hyndman, Koehler, Ord & Snyder,
//! "Forecasting with Exponential Smoothing", 2008, table 2.1):
//!
//! ```text
//! e(t) = y(t) - l(t-1) - s(slot of t)
//! l(t) = l(t-1) + α e(t)      s(slot of t) += γ e(t)      ŷ(t + h) = l(t) + s(slot of t + h)
//! ```
//!
//! A step costs the same whatever the history; where nothing was observed, nothing is learned.

use super::past::Past;

/// Slots of a season, at most: minutes of a day. Finer ones would cost every series a larger state, and each is seen too
/// seldom to be known.
const SLOTS_MAX: usize = 1440;
/// Steps of the training part on which the constants are chosen, at most: the latest of them, half a year of quarters of
/// an hour. More cost time and move the choice little.
const STEPS_MAX: usize = 17_520;

const ALPHAS: [f64; 9] = [0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.0];
/// All lie in the admissible region γ < 2 - α.
const GAMMAS: [f64; 5] = [0.0, 0.02, 0.05, 0.1, 0.3];

/// The constants of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Smoothing {
    pub alpha: f64,
    pub gamma: f64,
    /// Steps of a season.
    season: Option<usize>,
    /// The season at the start, a value a slot.
    profile: Vec<f64>,
}

/// What is carried from step to step.
#[derive(Clone, Debug, PartialEq)]
pub struct Smoothed {
    level: Option<f64>,
    profile: Vec<f64>,
}

impl Default for Smoothing {
    /// For a series of which nothing is known.
    fn default() -> Self {
        Self { alpha: 0.5, gamma: 0.0, season: None, profile: Vec::new() }
    }
}

impl Smoothing {
    /// Chooses the constants, and whether there is a season, by the squares of the errors one step ahead on the steps
    /// before `until`.
    pub fn fit(past: &Past<'_>, until: i64, season: Option<usize>) -> Self {
        let values: Vec<(i64, f64)> = past.steps(i64::MIN / 2..until).collect();
        if values.is_empty() {
            return Self::default();
        }
        let latest = &values[values.len().saturating_sub(STEPS_MAX)..];
        let none = Self::default();
        let seasonal = season.map(|season| none.with_profile(season, latest));
        let plain = ALPHAS.iter().map(|alpha| Self { alpha: *alpha, ..none.clone() });
        let seasonal = seasonal.iter().flat_map(|with| {
            let pairs = ALPHAS.iter().flat_map(|alpha| GAMMAS.iter().map(|gamma| (*alpha, *gamma)));
            pairs.map(|(alpha, gamma)| Self { alpha, gamma, ..with.clone() })
        });
        let scored = plain.chain(seasonal).map(|tried| (tried.errors(latest), tried));
        let best = scored.min_by(|(a, _), (b, _)| a.total_cmp(b));
        best.map_or(none, |(_, best)| best)
    }

    /// The mean of each slot less the mean of all.
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

    fn errors(&self, values: &[(i64, f64)]) -> f64 {
        let mut state = self.start();
        values.iter().map(|(step, value)| self.step(&mut state, *step, *value).powi(2)).sum()
    }

    /// The state before the first step.
    pub fn start(&self) -> Smoothed {
        Smoothed { level: None, profile: self.profile.clone() }
    }

    /// Takes an observed value and returns by how much it was not expected.
    pub fn step(&self, state: &mut Smoothed, step: i64, value: f64) -> f64 {
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

    pub fn forecast(&self, state: &Smoothed, origin: i64, out: &mut [f64]) {
        let level = state.level.unwrap_or(0.0);
        for (i, out) in out.iter_mut().enumerate() {
            let season = state.profile.get(self.slot(origin + 1 + i as i64));
            *out = level + season.copied().unwrap_or(0.0);
        }
    }
}
