//! Forecast scores of one series at one step of the horizon, accumulated as f32 in the state of the series.

use crate::metrics;
use crate::simd::{Kernel, Simd, Vector};

// Sums of an accumulator: forecasts, |error|, |naive error|, error, ties with a bound, hits of each level.
const COUNT: usize = 0;
const ABSOLUTE: usize = 1;
const NAIVE_ABSOLUTE: usize = 2;
const SIGNED: usize = 3;
const TIES: usize = 4;
const COVERED: usize = 5;

/// Forecasts that a running accumulator remembers; coverage is judged over the same number.
pub const SCORE_WINDOW: f32 = 500.0;

/// Length of an accumulator.
pub(super) fn state_len(levels: usize) -> usize {
    COVERED + levels
}

/// Outcome of one forecast.
pub(super) struct Outcome<'a> {
    /// Actual minus forecast, and actual minus naive forecast.
    pub error: f32,
    pub naive_error: f32,
    pub actual: f64,
    /// Two per level, ascending.
    pub bounds: &'a [f32],
}

impl Outcome<'_> {
    /// Writes the addend of each sum of an accumulator.
    pub fn write(&self, out: &mut [f32]) {
        let Self { error, naive_error, actual, bounds } = *self;
        let indicator = |holds: bool| f32::from(u8::from(holds));
        out[COUNT] = 1.0;
        out[ABSOLUTE] = error.abs();
        out[NAIVE_ABSOLUTE] = naive_error.abs();
        out[SIGNED] = error;
        // Comparing all bounds is faster than stopping at the first tie.
        let ties = bounds.iter().fold(false, |tie, bound| tie | (f64::from(*bound) == actual));
        out[TIES] = indicator(ties);
        let levels = bounds.len() / 2;
        for (level, covered) in out[COVERED..].iter_mut().enumerate() {
            // The bounds of the narrowest level are the two in the middle.
            let (lower, upper) = (bounds[levels - 1 - level], bounds[levels + level]);
            *covered = indicator((f64::from(lower) <= actual) & (actual <= f64::from(upper)));
        }
    }
}

/// True if finite numbers are sums that an accumulator can reach.
pub(super) fn is_valid(sums: &[f32]) -> bool {
    let is_count = |number: &f32| (0.0..=sums[COUNT]).contains(number);
    sums.is_empty()
        || sums[COUNT] >= 0.0
            && sums[ABSOLUTE] >= 0.0
            && sums[NAIVE_ABSOLUTE] >= 0.0
            && sums[TIES..].iter().all(is_count)
}

/// Adds an [`Outcome`] to the running accumulator, which decays, and to that of the current period.
pub(super) struct AddOutcome<'a> {
    pub running: &'a mut [f32],
    pub period: &'a mut [f32],
    pub outcome: &'a [f32],
}

impl Kernel for AddOutcome<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (min, max) = (simd.splat(f32::MIN), simd.splat(f32::MAX));
        let decay = if self.running[COUNT] >= SCORE_WINDOW { 1.0 - 1.0 / SCORE_WINDOW } else { 1.0 };
        for (sums, decay) in [(self.running, decay), (self.period, 1.0)] {
            let decay = simd.splat(decay);
            for (sums, addends) in sums.chunks_mut(S::LANES).zip(self.outcome.chunks(S::LANES)) {
                let sum = simd.load_partial(sums) * decay + simd.load_partial(addends);
                simd.store_partial(sum.clamp(min, max), sums);
            }
        }
    }
}

/// Scores of the forecasts of a series at one step of the horizon, in the unit of the series.
#[derive(Clone, Debug, PartialEq)]
pub struct HorizonScores {
    /// Steps after the origin.
    pub horizon: usize,
    /// Number of forecasts; decayed ones count as a fraction.
    pub forecasts: f32,
    pub mae: f32,
    /// Mean absolute error of the naive forecast at the same origins.
    pub naive_mae: f32,
    /// Mean of actual minus forecast.
    pub bias: f32,
    /// Fraction of actual values exactly on a bound.
    pub ties: f32,
    /// Fraction of actual values inside each level, ascending by level.
    pub coverage: Vec<f32>,
}

impl HorizonScores {
    pub(super) fn new(horizon: usize, sums: &[f32]) -> Self {
        let mean = |sum: f32| sum / sums[COUNT];
        Self {
            horizon,
            forecasts: sums[COUNT],
            mae: mean(sums[ABSOLUTE]),
            naive_mae: mean(sums[NAIVE_ABSOLUTE]),
            bias: mean(sums[SIGNED]),
            ties: mean(sums[TIES]),
            coverage: sums[COVERED..].iter().map(|covered| mean(*covered)).collect(),
        }
    }

    /// Mean absolute scaled error; none where the naive forecast was never wrong.
    pub fn mase(&self) -> Option<f32> {
        metrics::mase(self.mae.into(), self.naive_mae.into()).map(|mase| mase as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Isa;

    fn add(running: &mut [f32], period: &mut [f32], outcome: &Outcome<'_>) {
        let mut addends = vec![0.0; running.len()];
        outcome.write(&mut addends);
        Isa::widest().run(AddOutcome { running, period, outcome: &addends });
    }

    #[test]
    fn scores_match_hand_computation() {
        let [mut running, mut period] = [(); 2].map(|()| vec![0.0; state_len(2)]);
        for (actual, forecast) in [(10.0, 8.0), (12.0, 12.0), (8.0, 9.0), (5.0, 8.0)] {
            let bounds = [-3.0, -1.0, 2.0, 4.0].map(|offset| forecast + offset);
            let error = (actual - f64::from(forecast)) as f32;
            add(&mut running, &mut period, &Outcome { error, naive_error: 4.0, actual, bounds: &bounds });
        }
        let scores = HorizonScores::new(3, &period);
        let expected = HorizonScores {
            horizon: 3,
            forecasts: 4.0,
            mae: 1.5,
            naive_mae: 4.0,
            bias: -0.5,
            // 10 is 8 + 2, 8 is 9 - 1, 5 is 8 - 3.
            ties: 0.75,
            coverage: vec![0.75, 1.0],
        };
        assert_eq!((scores.mase(), scores), (Some(0.375), expected));
    }

    #[test]
    fn a_running_accumulator_forgets() {
        let [mut running, mut period] = [(); 2].map(|()| vec![0.0; state_len(1)]);
        for i in 0..5000 {
            let error = if i < 2000 { 9.0 } else { 1.0 };
            let outcome = Outcome { error, naive_error: 1.0, actual: 0.0, bounds: &[-1.0, 1.0] };
            add(&mut running, &mut period, &outcome);
        }
        let scores = HorizonScores::new(1, &running);
        assert!(
            (scores.mae - 1.0).abs() < 0.03 && (scores.forecasts - SCORE_WINDOW).abs() < 2.0,
            "{scores:?}"
        );
    }
}
