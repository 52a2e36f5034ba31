//! The last steps of a target or a covariate of one series, contiguous in memory.
//!
//! The gap in a target is filled only when its next observed step closes: no forecast is issued from a filled step, and
//! linear interpolation needs the next value. A gap longer than `max_gap` resets the window.

use super::{GapFill, Retention, StepConfig};
use crate::prefetch;

/// Values at the end of a window that a step usually reads.
const PREFETCHED_VALUES: usize = 8;

/// One flag per value: observed, not filled.
#[derive(Clone, Debug, Default)]
struct ObservedMask(Vec<bool>);

/// The mask of all windows without a gap, so that millions of them need none of their own.
static ALL_OBSERVED: [bool; 4096] = [true; 4096];

/// Values to hold before the oldest are dropped: some more than retained, so that values rarely move.
fn capacity_max(retained: usize) -> usize {
    retained.saturating_add((retained / 4).max(4))
}

/// Change to the window of a target when a step closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowUpdate {
    /// The target was not observed in the step.
    Missing,
    /// The window starts with the step.
    Reset,
    /// The window grew by this many steps, filled ones included.
    Extended(i64),
}

/// Observed and filled values of consecutive steps of one target, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// The step of the last value, which was observed.
    pub last_step: i64,
    values: Vec<f64>,
    /// `None` while all values were observed.
    mask: Option<Box<ObservedMask>>,
}

impl Window {
    /// Appends the observed `value` of `step`, which is later than all before it.
    pub fn push(&mut self, config: &StepConfig, retention: Retention, step: i64, value: f64) -> WindowUpdate {
        let missing = if self.values.is_empty() { 0 } else { step - self.last_step - 1 };
        if missing > 0 && missing > config.grid.steps_in(config.max_gap) {
            self.values.clear();
            self.mask = None;
        }
        let missing = if self.values.is_empty() { 0 } else { missing };
        let retained = retention.steps.saturating_add(retention.filled.min(missing as usize));
        self.fill(config.gap_fill, retained, missing, value);
        let update = match self.values.is_empty() {
            true => WindowUpdate::Reset,
            false => WindowUpdate::Extended(missing + 1),
        };
        self.append(retained, value, true);
        self.last_step = step;
        update
    }

    fn fill(&mut self, gap_fill: GapFill, retained: usize, missing: i64, next: f64) {
        let Some(&previous) = self.values.last() else { return };
        // Earlier filled steps would be dropped at once.
        let first = (missing - retained as i64).max(0);
        for i in first..missing {
            let value = match gap_fill {
                GapFill::Hold | GapFill::Missing => previous,
                GapFill::Linear => previous + (next - previous) * ((i + 1) as f64 / (missing + 1) as f64),
            };
            self.append(retained, value, false);
        }
    }

    fn append(&mut self, retained: usize, value: f64, observed: bool) {
        let capacity_max = capacity_max(retained);
        if self.values.len() >= capacity_max {
            self.drop_oldest(self.values.len() + 1 - retained, capacity_max);
        }
        if self.values.len() == self.values.capacity() {
            // Doubles, but never beyond the final size: there are millions of windows.
            let more = self.values.len().max(8).min(capacity_max - self.values.len());
            self.values.reserve_exact(more);
        }
        if self.mask.is_none() && !(observed && self.values.len() < ALL_OBSERVED.len()) {
            self.mask = Some(Box::new(ObservedMask(vec![true; self.values.len()])));
        }
        self.values.push(value);
        self.mask.iter_mut().for_each(|mask| mask.0.push(observed));
    }

    fn drop_oldest(&mut self, count: usize, capacity_max: usize) {
        self.values.drain(..count);
        // Capacity that a long gap needed.
        if self.values.capacity() > 2 * capacity_max {
            self.values.shrink_to(capacity_max);
        }
        let Some(mask) = &mut self.mask else { return };
        mask.0.drain(..count);
        if mask.0.len() < ALL_OBSERVED.len() && mask.0.iter().all(|observed| *observed) {
            self.mask = None;
        }
    }

    fn observed(&self) -> &[bool] {
        self.mask.as_ref().map_or_else(|| &ALL_OBSERVED[..self.values.len()], |mask| &mask.0)
    }

    /// Prefetches the end of the window, where the next value goes.
    pub fn prefetch(&self) {
        let start = self.values.len().saturating_sub(PREFETCHED_VALUES);
        prefetch::slice(&self.values[start..]);
    }

    /// Number of steps held: the retained ones, and at most a quarter more, or 4.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The last `count` values and their observed flags; `None` while there are fewer.
    pub fn tail(&self, count: usize) -> Option<(&[f64], &[bool])> {
        let start = self.values.len().checked_sub(count)?;
        Some((&self.values[start..], &self.observed()[start..]))
    }

    /// Restores a window from a snapshot.
    ///
    /// # Panics
    /// If there is not one flag per value.
    pub fn restored(last_step: i64, values: Vec<f64>, observed: Vec<bool>) -> Self {
        assert_eq!(values.len(), observed.len(), "one observed flag per value");
        let is_default = values.len() <= ALL_OBSERVED.len() && observed.iter().all(|observed| *observed);
        Self { last_step, values, mask: (!is_default).then(|| Box::new(ObservedMask(observed))) }
    }
}

/// Compares the flags, not their storage.
impl PartialEq for Window {
    fn eq(&self, other: &Self) -> bool {
        self.last_step == other.last_step
            && self.values == other.values
            && self.observed() == other.observed()
    }
}

/// Values of consecutive steps of one covariate, oldest first; NaN where unknown.
///
/// A missing value is held for at most `max_gap` and unknown after that, so that the value at a step depends only on the
/// rows up to that step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CovariateWindow {
    /// The step of the last value, which was observed.
    pub last_step: i64,
    /// At most twice the retained number.
    values: Vec<f64>,
}

impl CovariateWindow {
    /// Appends the observed `value` of `step`, which is later than all before it; retains `retained` steps.
    pub fn push(&mut self, config: &StepConfig, retained: usize, step: i64, value: f64) {
        if let Some(&previous) = self.values.last() {
            let missing = step - self.last_step - 1;
            let held = config.grid.steps_in(config.max_gap);
            // Earlier missing steps would be dropped at once.
            for i in (missing - retained as i64).max(0)..missing {
                self.append(retained, if i < held { previous } else { f64::NAN });
            }
        }
        self.append(retained, value);
        self.last_step = step;
    }

    fn append(&mut self, retained: usize, value: f64) {
        if self.values.len() >= retained.saturating_mul(2) {
            let surplus = self.values.len() + 1 - retained;
            self.values.drain(..surplus);
        }
        self.values.push(value);
    }

    /// The value at `step`, observed or held.
    pub fn at(&self, config: &StepConfig, step: i64) -> Option<f64> {
        let last = self.values.len().checked_sub(1)?;
        let value = match usize::try_from(self.last_step - step) {
            Ok(back) => self.values[last.checked_sub(back)?],
            Err(_) if step - self.last_step <= config.grid.steps_in(config.max_gap) => self.values[last],
            Err(_) => f64::NAN,
        };
        value.is_finite().then_some(value)
    }

    /// Steps and values that are known, in order.
    pub fn known(&self) -> impl Iterator<Item = (i64, f64)> {
        let first = self.last_step + 1 - self.values.len() as i64;
        let steps = self.values.iter().enumerate().map(move |(i, value)| (first + i as i64, *value));
        steps.filter(|(_, value)| value.is_finite())
    }

    /// The last values, at most `count`.
    pub fn tail(&self, count: usize) -> &[f64] {
        &self.values[self.values.len().saturating_sub(count)..]
    }

    /// Restores a window from a snapshot.
    pub fn restored(last_step: i64, values: Vec<f64>) -> Self {
        Self { last_step, values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::{Aggregate, Grid};

    fn config(gap_fill: GapFill, max_gap: i64) -> StepConfig {
        let grid = Grid { every: 10, offset: 0 };
        StepConfig { grid, aggregate: Aggregate::Mean, complete_after: None, lateness: 0, gap_fill, max_gap }
    }

    fn values_after(gap_fill: GapFill, steps: &[(i64, f64)]) -> Vec<f64> {
        let mut window = Window::default();
        for (step, value) in steps {
            window.push(&config(gap_fill, 30), Retention::new(100), *step, *value);
        }
        window.values
    }

    #[test]
    fn gaps_are_filled_by_policy() {
        let steps = [(1, 1.0), (2, 2.0), (5, 8.0)];
        assert_eq!(values_after(GapFill::Hold, &steps), [1.0, 2.0, 2.0, 2.0, 8.0]);
        assert_eq!(values_after(GapFill::Linear, &steps), [1.0, 2.0, 4.0, 6.0, 8.0]);
    }

    #[test]
    fn a_gap_longer_than_max_gap_resets_the_window() {
        assert_eq!(values_after(GapFill::Hold, &[(1, 1.0), (5, 2.0)]), [1.0, 1.0, 1.0, 1.0, 2.0]);
        assert_eq!(values_after(GapFill::Hold, &[(1, 1.0), (6, 2.0)]), [2.0]);
    }

    #[test]
    fn filled_steps_are_readable_when_their_gap_ends_and_dropped_at_the_next_step() {
        let (config, retention) = (config(GapFill::Hold, 1000), Retention { steps: 3, filled: 50 });
        let mut window = Window::default();
        for step in 0..5 {
            window.push(&config, retention, step, step as f64);
        }
        assert_eq!(window.push(&config, retention, 30, 30.0), WindowUpdate::Extended(26));
        let (values, observed) = window.tail(29).unwrap();
        let expected = (2..=30).map(|step| if step == 30 { 30.0 } else { f64::from(step.min(4)) });
        assert!(values.iter().copied().eq(expected), "{values:?}");
        let mask: Vec<bool> = (2..=30).map(|step| step < 5 || step == 30).collect();
        assert_eq!(observed, mask);
        window.push(&config, retention, 31, 31.0);
        assert_eq!((window.len(), window.values.capacity() < 20), (3, true));
        assert_eq!(window.tail(3), Some((&[4.0, 30.0, 31.0][..], &[false, true, true][..])));
        for step in 32..40 {
            window.push(&config, retention, step, 0.0);
        }
        assert_eq!((window.tail(3).unwrap().1, window.mask.is_none()), (&[true; 3][..], true));
    }

    #[test]
    fn the_tail_does_not_depend_on_the_length_of_the_history() {
        let mut window = Window::default();
        for step in 0..1000 {
            window.push(&config(GapFill::Hold, 30), Retention::new(7), step, step as f64);
            assert!(window.len() <= 11);
            if step >= 6 {
                let expected: Vec<f64> = (step - 6..=step).map(|s| s as f64).collect();
                assert_eq!(window.tail(7).map(|tail| tail.0), Some(&expected[..]));
            }
        }
    }

    #[test]
    fn a_covariate_is_held_for_max_gap_and_later_values_change_no_earlier_step() {
        let config = config(GapFill::Linear, 20);
        let mut covariate = CovariateWindow::default();
        covariate.push(&config, 9, 0, 5.0);
        let values = |window: &CovariateWindow| [-1, 0, 1, 2, 3].map(|step| window.at(&config, step));
        let before = values(&covariate);
        assert_eq!(before, [None, Some(5.0), Some(5.0), Some(5.0), None]);
        covariate.push(&config, 9, 5, 7.0);
        assert_eq!(values(&covariate), before);
        let mut restarted = CovariateWindow::default();
        restarted.push(&config, 9, 6, 8.0);
        assert_eq!([5, 6, 8, 9].map(|step| restarted.at(&config, step)), [None, Some(8.0), Some(8.0), None]);
    }
}
