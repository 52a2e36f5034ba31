//! How good the forecasts of one step of the horizon of one series were: sums, and what they say.

use super::plan::Plan;
use crate::simd::{Kernel, Simd, Vector};

/// Numbers of a tally: forecasts, sizes of errors, those of the naive forecast, errors, exact ties with a bound, and what lay
/// within each level.
const COUNT: usize = 0;
const SIZES: usize = 1;
const NAIVE: usize = 2;
const ERRORS: usize = 3;
const TIES: usize = 4;
const INSIDE: usize = 5;

/// A running tally fades so that it is of about so many forecasts: those over which coverage is looked at.
pub const RUNNING: f32 = 500.0;

pub(super) fn numbers(levels: usize) -> usize {
    INSIDE + levels
}

/// What came of one forecast.
pub(super) struct Outcome<'a> {
    /// Actual less forecast, and actual less naive forecast.
    pub error: f32,
    pub naive: f32,
    pub actual: f64,
    /// Ascending, two of each level.
    pub bounds: &'a [f32],
}

impl Outcome<'_> {
    /// Writes what it adds to each number of a tally.
    pub fn write(&self, out: &mut [f32]) {
        let Self { error, naive, actual, bounds } = *self;
        let one_if = |holds: bool| f32::from(u8::from(holds));
        out[COUNT] = 1.0;
        out[SIZES] = error.abs();
        out[NAIVE] = naive.abs();
        out[ERRORS] = error;
        // Each is looked at: that is sooner done than asked.
        let ties = bounds.iter().fold(false, |tie, bound| tie | (f64::from(*bound) == actual));
        out[TIES] = one_if(ties);
        let levels = bounds.len() / 2;
        for (level, inside) in out[INSIDE..].iter_mut().enumerate() {
            // The narrowest level has the two bounds in the middle.
            let (lower, upper) = (bounds[levels - 1 - level], bounds[levels + level]);
            *inside = one_if((f64::from(lower) <= actual) & (actual <= f64::from(upper)));
        }
    }
}

/// Whether a tally could have these numbers, all of them finite.
pub(super) fn is_sound(numbers: &[f32]) -> bool {
    let counted = |number: &f32| (0.0..=numbers[COUNT]).contains(number);
    numbers.is_empty()
        || numbers[COUNT] >= 0.0
            && numbers[SIZES] >= 0.0
            && numbers[NAIVE] >= 0.0
            && numbers[TIES..].iter().all(counted)
}

/// Adds what [`Outcome::write`] wrote to a tally of the last [`RUNNING`] or so, which fades, and to one of a period.
pub(super) struct Add<'a> {
    pub tallies: [&'a mut [f32]; 2],
    pub outcome: &'a [f32],
}

impl Kernel for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (least, most) = (simd.splat(f32::MIN), simd.splat(f32::MAX));
        let fades = if self.tallies[0][COUNT] >= RUNNING { 1.0 - 1.0 / RUNNING } else { 1.0 };
        for (tally, stays) in self.tallies.into_iter().zip([fades, 1.0]) {
            let stays = simd.splat(stays);
            for (numbers, more) in tally.chunks_mut(S::LANES).zip(self.outcome.chunks(S::LANES)) {
                let sum = simd.load_part(numbers) * stays + simd.load_part(more);
                simd.store_part(sum.clamp(least, most), numbers);
            }
        }
    }
}

/// What a tally says of forecasts some steps ahead, in the readings' units.
#[derive(Clone, Debug, PartialEq)]
pub struct HorizonScores {
    /// Steps after the origin.
    pub horizon: usize,
    /// Forecasts that it is of; those that have faded count for a part.
    pub forecasts: f32,
    /// Mean absolute error, and that of the seasonal naive forecast at the same origins.
    pub mae: f32,
    pub naive_mae: f32,
    /// Mean of actual less forecast.
    pub bias: f32,
    /// Share of actuals that are exactly a bound.
    pub ties: f32,
    /// Share within each level, ascending by level.
    pub coverage: Vec<f32>,
}

impl HorizonScores {
    pub(super) fn of(plan: &Plan, followed: usize, numbers: &[f32]) -> Self {
        let mean = |number: usize| numbers[number] / numbers[COUNT];
        Self {
            horizon: plan.horizons()[followed],
            forecasts: numbers[COUNT],
            mae: mean(SIZES),
            naive_mae: mean(NAIVE),
            bias: mean(ERRORS),
            ties: mean(TIES),
            coverage: (0..plan.levels()).map(|level| mean(INSIDE + level)).collect(),
        }
    }

    /// Mean absolute error over that of the naive forecast; none where that was never wrong.
    pub fn mase(&self) -> Option<f32> {
        (self.naive_mae > 0.0).then(|| self.mae / self.naive_mae)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Isa;

    fn add(tallies: [&mut [f32]; 2], outcome: &[f32]) {
        Isa::widest().run(Add { tallies, outcome });
    }

    #[test]
    fn a_tally_by_hand() {
        let plan = Plan::new(3, vec![3], &[0.5, 0.8], 1, true);
        let mut all = vec![0.0; numbers(2)];
        for (actual, forecast) in [(10.0, 8.0), (12.0, 12.0), (8.0, 9.0), (5.0, 8.0)] {
            let bounds = [-3.0, -1.0, 2.0, 4.0].map(|way| forecast + way);
            let error = (actual - f64::from(forecast)) as f32;
            let mut added = all.clone();
            Outcome { error, naive: 4.0, actual, bounds: &bounds }.write(&mut added);
            add([&mut vec![0.0; added.len()], &mut all], &added);
        }
        let scores = HorizonScores::of(&plan, 0, &all);
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
    fn a_running_tally_forgets() {
        let plan = Plan::new(1, vec![1], &[0.8], 1, true);
        let mut all = vec![0.0; numbers(1)];
        for i in 0..5000 {
            let error = if i < 2000 { 9.0 } else { 1.0 };
            let mut added = all.clone();
            Outcome { error, naive: 1.0, actual: 0.0, bounds: &[-1.0, 1.0] }.write(&mut added);
            add([&mut all, &mut vec![0.0; added.len()]], &added);
        }
        let scores = HorizonScores::of(&plan, 0, &all);
        assert!((scores.mae - 1.0).abs() < 0.03 && (scores.forecasts - RUNNING).abs() < 2.0, "{scores:?}");
    }
}
