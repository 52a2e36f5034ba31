//! The last steps of one target of one id, gaps filled, contiguous in memory.
//!
//! A gap is filled only when the next observed step comes: nothing is forecast from a filled step, so nothing is lost by
//! waiting, and a straight line can be drawn. A gap longer than `max_gap` empties the window.

use super::{Gaps, Rules};
use crate::near;

/// Values that a reading looks back on, mostly.
const RECENT: usize = 8;

/// Room for some more than are kept, so that those stay contiguous and are moved once in a while only.
fn most(keep: usize) -> usize {
    keep.saturating_add((keep / 4).max(4))
}

/// Observed and filled values of consecutive steps, oldest first: the last `keep` of them, and some more.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    /// The step of the last value.
    pub last: i64,
    values: Vec<f64>,
    /// Whether the value at the same place was observed (rather than filled).
    observed: Vec<bool>,
}

impl Window {
    /// Adds the observed `value` of `step`, which lies after every step before it. `cold` forgets what was. Returns how
    /// many steps were added to what is kept; `None` if the window starts with this one.
    pub fn push(&mut self, rules: &Rules, keep: usize, step: i64, value: f64, cold: bool) -> Option<i64> {
        let missing = if self.values.is_empty() { 0 } else { step - self.last - 1 };
        if cold || missing > rules.grid.steps_in(rules.max_gap) {
            self.values.clear();
            self.observed.clear();
        } else {
            self.fill(rules.gaps, keep, missing, value);
        }
        let grown = (!self.values.is_empty()).then_some(missing + 1);
        self.add(keep, value, true);
        self.last = step;
        grown
    }

    fn fill(&mut self, gaps: Gaps, keep: usize, missing: i64, next: f64) {
        let Some(&before) = self.values.last() else { return };
        // Only the last `keep` filled steps can still be seen.
        let first = (missing - keep as i64).max(0);
        for i in first..missing {
            let value = match gaps {
                Gaps::Hold | Gaps::Missing => before,
                Gaps::Linear => before + (next - before) * ((i + 1) as f64 / (missing + 1) as f64),
            };
            self.add(keep, value, false);
        }
    }

    fn add(&mut self, keep: usize, value: f64, observed: bool) {
        if self.values.len() >= most(keep) {
            let surplus = self.values.len() + 1 - keep;
            self.values.drain(..surplus);
            self.observed.drain(..surplus);
        }
        if self.values.len() == self.values.capacity() {
            // By doubling, but no further than will ever be needed: there are millions of windows.
            let more = self.values.len().max(4).min(most(keep) - self.values.len());
            self.values.reserve_exact(more);
            self.observed.reserve_exact(more);
        }
        self.values.push(value);
        self.observed.push(observed);
    }

    /// Asks for the end, where the next value goes.
    pub fn bring(&self) {
        let last = self.values.len().saturating_sub(RECENT);
        near::bring(&self.values[last..]);
        near::bring(&self.observed[last..]);
    }

    /// Steps held, at most [`most`] of what it was told to keep.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub fn last_value(&self) -> Option<f64> {
        self.values.last().copied()
    }

    /// The last `count` values and whether each was observed; `None` while there are fewer.
    pub fn tail(&self, count: usize) -> Option<(&[f64], &[bool])> {
        let start = self.values.len().checked_sub(count)?;
        Some((&self.values[start..], &self.observed[start..]))
    }

    /// Puts back what a snapshot kept.
    pub fn restored(last: i64, values: Vec<f64>, observed: Vec<bool>) -> Self {
        assert_eq!(values.len(), observed.len(), "a value and its mark lie side by side");
        Self { last, values, observed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::{Aggregate, Grid};

    fn rules(gaps: Gaps) -> Rules {
        let grid = Grid { every: 10, offset: 0 };
        Rules { grid, aggregate: Aggregate::Mean, complete_after: None, lateness: 0, gaps, max_gap: 30 }
    }

    fn after(gaps: Gaps, steps: &[(i64, f64)]) -> Vec<f64> {
        let mut window = Window::default();
        for (step, value) in steps {
            window.push(&rules(gaps), 100, *step, *value, false);
        }
        window.values
    }

    #[test]
    fn gaps_are_held_drawn_or_marked() {
        let steps = [(1, 1.0), (2, 2.0), (5, 8.0)];
        assert_eq!(after(Gaps::Hold, &steps), [1.0, 2.0, 2.0, 2.0, 8.0]);
        assert_eq!(after(Gaps::Linear, &steps), [1.0, 2.0, 4.0, 6.0, 8.0]);
    }

    #[test]
    fn the_longest_gap_is_filled_and_one_more_starts_cold() {
        assert_eq!(after(Gaps::Hold, &[(1, 1.0), (5, 2.0)]), [1.0, 1.0, 1.0, 1.0, 2.0]);
        assert_eq!(after(Gaps::Hold, &[(1, 1.0), (6, 2.0)]), [2.0]);
    }

    #[test]
    fn the_tail_is_the_same_however_long_it_ran() {
        let mut window = Window::default();
        for step in 0..1000 {
            window.push(&rules(Gaps::Hold), 7, step, step as f64, false);
            assert!(window.len() <= 11);
            if step >= 6 {
                let expected: Vec<f64> = (step - 6..=step).map(|s| s as f64).collect();
                assert_eq!(window.tail(7).map(|tail| tail.0), Some(&expected[..]));
            }
        }
    }
}
