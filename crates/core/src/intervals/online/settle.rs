//! What is learned when a step of a series is observed: every forecast that waited for it is scored, and corrects its tracker.

use super::gains::{Dues, Rates};
use super::plan::Plan;
use super::tally::{Add, Outcome};
use super::tracker::Update;
use super::{bounded, drift};
use crate::simd::{Kernel, Simd};

/// Units beyond which all errors look alike: keeps every product finite.
const FARTHEST: f32 = 1e6;

pub(super) struct Settle<'a> {
    pub plan: &'a Plan,
    /// Of each followed step.
    pub rates: &'a [Rates],
    pub dues: &'a Dues,
    /// All of the series.
    pub numbers: &'a mut [f32],
    pub step: i64,
    pub actual: f64,
    /// Mean sizes of errors that the model knows, in units, of each followed step.
    pub means: &'a [f32],
    /// Room for the bounds of one forecast in order, and for what its outcome adds to a tally.
    pub sorted: &'a mut Vec<f32>,
    pub outcome: &'a mut [f32],
}

impl Kernel for Settle<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { plan, rates, dues, numbers, step, actual, means, sorted, outcome } = self;
        let bounds = plan.probabilities().len();
        // The oldest first.
        for followed in (0..plan.horizons().len()).rev() {
            let horizon = plan.horizons()[followed];
            let Some(slot) = plan.slot(followed, step - horizon as i64) else { continue };
            // The state lies before what waits.
            let (states, waiting) = numbers.split_at_mut(slot);
            let entry = &mut waiting[..plan.entry()];
            let value = entry[0];
            if value.is_nan() {
                continue;
            }
            entry[0] = f32::NAN;
            let (unit, entry) = (entry[1], &entry[2..]);
            let mut issued = &entry[..bounds];
            let error = bounded(actual - f64::from(value));
            let states = &mut states[plan.place(followed)..];
            let (tracked, tallies) = states.split_at_mut(plan.tracker());
            if bounds > 0 && unit > 0.0 {
                let (rates, mean) = (&rates[followed], means[followed]);
                let error = (error / unit).clamp(-FARTHEST, FARTHEST);
                Update { numbers: tracked, rates, dues, error, mean, actual, issued }.run(simd);
            }
            if plan.is_scored() {
                let naive = bounded(actual - f64::from(entry[bounds]));
                // Those that have crossed are issued in order.
                if !issued.is_sorted() {
                    sorted.clear();
                    sorted.extend_from_slice(issued);
                    sorted.sort_unstable_by(f32::total_cmp);
                    issued = sorted;
                }
                Outcome { error, naive, actual, bounds: issued }.write(outcome);
                let (running, period) = tallies[..2 * plan.tally()].split_at_mut(plan.tally());
                Add { tallies: [running, period], outcome }.run(simd);
                if followed == 0 {
                    drift::update(&mut numbers[plan.drift()..], error.abs());
                }
            }
        }
    }
}
