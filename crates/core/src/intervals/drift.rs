//! Drift detection on forecast errors: the Page-Hinkley test.
//!
//! Let x be |error| over the mean |error| so far. The test (Page, "Continuous inspection schemes", 1954; Hinkley, "Inference
//! about the change-point from cumulative sum tests", 1971) accumulates the excess of x,
//!
//! ```text
//! g ← max(0, g + min(x, X) - 1 - δ)
//! ```
//!
//! and reports drift while g > λ; once reported, until g ≤ λ/2, so that the report does not flicker. δ is the tolerated growth
//! of errors, X limits a single outlier, and g stops at 2 λ so that a drift that ends is cleared soon. The mean keeps adapting:
//! after some hundred forecasts the new error level is normal, after one or two thousand where errors grew a hundredfold.
//! Errors of exactly 0 are no history: the first other error starts it.

/// δ: errors 1.5 times as large are no drift; errors twice as large are one after λ / (1 - δ) forecasts or more, since the mean
/// adapts meanwhile, or not at all if it adapts first.
const TOLERANCE: f32 = 0.5;
/// λ, in mean errors. Independent normal errors exceed it about once in 10^20 forecasts; the margin is for errors in clusters,
/// such as storms of a day or two on an hourly grid.
const THRESHOLD: f32 = 50.0;
/// X: one error adds at most a tenth of λ.
const EXCESS_MAX: f32 = 5.0;
/// Forecasts that the mean remembers: a month of hours.
const HISTORY: f32 = 720.0;
/// Forecasts before the first report: the mean of fewer is chance.
const HISTORY_MIN: f32 = 100.0;

const MEAN: usize = 0;
const SUM: usize = 1;
const COUNT: usize = 2;
const DRIFTING: usize = 3;
pub(super) const STATE_LEN: usize = 4;

/// Drift detector of one series.
#[derive(Clone, Copy, Debug, Default)]
pub struct DriftDetector([f32; STATE_LEN]);

impl DriftDetector {
    /// Adds the absolute value of the next error.
    pub fn add(&mut self, size: f32) {
        update(&mut self.0, size);
    }

    pub fn is_drifting(&self) -> bool {
        is_drifting(&self.0)
    }
}

/// Adds the absolute value of an error to a state.
pub(super) fn update(state: &mut [f32], size: f32) {
    let mean = state[MEAN];
    if state[COUNT] >= HISTORY_MIN && mean > 0.0 {
        // g ← max(0, g + min(x, X) - 1 - δ)
        let excess = (size / mean).min(EXCESS_MAX) - 1.0 - TOLERANCE;
        state[SUM] = (state[SUM] + excess).clamp(0.0, 2.0 * THRESHOLD);
        let threshold = if is_drifting(state) { THRESHOLD / 2.0 } else { THRESHOLD };
        state[DRIFTING] = f32::from(u8::from(state[SUM] > threshold));
    }
    state[COUNT] = if mean > 0.0 { (state[COUNT] + 1.0).min(HISTORY) } else { 1.0 };
    // The limit X holds for the mean as well.
    let size = if state[COUNT] > HISTORY_MIN { size.min(EXCESS_MAX * mean) } else { size };
    state[MEAN] += (size - mean) / state[COUNT];
}

/// True if finite numbers are a state that the test can reach.
pub(super) fn is_valid(state: &[f32]) -> bool {
    state.is_empty()
        || state[MEAN] >= 0.0
            && (0.0..=2.0 * THRESHOLD).contains(&state[SUM])
            && (0.0..=HISTORY).contains(&state[COUNT])
            && [0.0, 1.0].contains(&state[DRIFTING])
}

pub(super) fn is_drifting(state: &[f32]) -> bool {
    state[DRIFTING] > 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Absolute values of approximately normal errors, with mean 0.8.
    fn sizes(count: usize) -> impl Iterator<Item = f32> {
        let mut state = 1u64;
        let mut uniform = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        (0..count).map(move |_| ((0..12).map(|_| uniform()).sum::<f32>() - 6.0).abs())
    }

    fn first_drift(sizes: impl Iterator<Item = f32>) -> Option<usize> {
        let mut detector = DriftDetector::default();
        sizes.into_iter().position(|size| {
            detector.add(size);
            detector.is_drifting()
        })
    }

    #[test]
    fn stationary_errors_are_no_drift() {
        assert_eq!(first_drift(sizes(100_000)), None);
        let daily = sizes(50_000).enumerate().map(|(i, size)| if i % 24 < 12 { 0.2 * size } else { size });
        assert_eq!(first_drift(daily), None);
        let outliers = sizes(10_000).enumerate().map(|(i, size)| if i % 97 == 0 { 1e6 } else { size });
        assert_eq!(first_drift(outliers), None);
    }

    #[test]
    fn errors_of_zero_are_no_history() {
        assert_eq!(first_drift(std::iter::repeat_n(0.0, 500).chain(sizes(2000))), None);
    }

    #[test]
    fn doubled_errors_are_detected_soon() {
        let doubled = |from: usize| {
            let grown = move |(i, size)| if i < from { size } else { 2.0 * size };
            first_drift(sizes(from + 1000).enumerate().map(grown)).map(|at| at - from)
        };
        assert!(doubled(2000).is_some_and(|delay| (30..250).contains(&delay)), "{:?}", doubled(2000));
        let tenfold = |(i, size): (usize, f32)| if i < 500 { size } else { 10.0 * size };
        let delay = first_drift(sizes(600).enumerate().map(tenfold)).map(|at| at - 500);
        assert!(delay.is_some_and(|delay| delay < 30), "{delay:?}");
    }

    #[test]
    fn a_new_error_level_becomes_normal() {
        let mut state = [0.0; STATE_LEN];
        let all = sizes(6000).enumerate().map(|(i, size)| if i < 2000 { size } else { 3.0 * size });
        let mut reported = Vec::new();
        for size in all {
            update(&mut state, size);
            reported.push(is_drifting(&state));
        }
        assert!(reported[2200] && !reported[5999]);
        assert!(reported.windows(2).filter(|pair| pair[0] != pair[1]).count() <= 2, "it flickers");
    }
}
