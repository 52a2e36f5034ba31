//! The last steps of one target of one id, gaps filled, contiguous in memory.
//!
//! A gap is filled only when the next observed step comes: nothing is forecast from a filled step, so nothing is lost by
//! waiting, and a straight line can be drawn. A gap longer than `max_gap` empties the window.

use super::{Gaps, Keep, Rules};
use crate::prefetch;

/// Values that a reading looks back on, mostly.
const RECENT: usize = 8;

/// As many marks as there are values.
#[derive(Clone, Debug, Default)]
struct Marks(Vec<bool>);

/// The marks of windows without a gap: most series have none for long, and there are millions of them.
static OBSERVED: [bool; 4096] = [true; 4096];

/// Room for some more than are kept, so that those stay contiguous and are moved once in a while only.
fn most(keep: usize) -> usize {
    keep.saturating_add((keep / 4).max(4))
}

/// Observed and filled values of consecutive steps, oldest first: the last `keep` of them, and some more.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// The step of the last value.
    pub last: i64,
    values: Vec<f64>,
    /// Whether the value at the same place was observed (rather than filled); nothing while all were.
    marks: Option<Box<Marks>>,
}

impl Window {
    /// Adds the observed `value` of `step`, which lies after every step before it. `cold` forgets what was. Returns how
    /// many steps were added to what is kept; `None` if the window starts with this one.
    pub fn push(&mut self, rules: &Rules, keep: Keep, step: i64, value: f64, cold: bool) -> Option<i64> {
        let missing = if self.values.is_empty() { 0 } else { step - self.last - 1 };
        if cold || missing > 0 && missing > rules.grid.steps_in(rules.max_gap) {
            self.values.clear();
            self.marks = None;
        }
        let missing = if self.values.is_empty() { 0 } else { missing };
        let keep = keep.steps.saturating_add(keep.filled.min(missing as usize));
        self.fill(rules.gaps, keep, missing, value);
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
            self.forget(self.values.len() + 1 - keep, most(keep));
        }
        if self.values.len() == self.values.capacity() {
            // By doubling, but no further than will ever be needed: there are millions of windows.
            let more = self.values.len().max(8).min(most(keep) - self.values.len());
            self.values.reserve_exact(more);
        }
        if self.marks.is_none() && !(observed && self.values.len() < OBSERVED.len()) {
            self.marks = Some(Box::new(Marks(vec![true; self.values.len()])));
        }
        self.values.push(value);
        self.marks.iter_mut().for_each(|marks| marks.0.push(observed));
    }

    /// The oldest go; there is to be room for `most`.
    fn forget(&mut self, surplus: usize, most: usize) {
        self.values.drain(..surplus);
        // What filled a long gap is gone.
        if self.values.capacity() > 2 * most {
            self.values.shrink_to(most);
        }
        let Some(marks) = &mut self.marks else { return };
        marks.0.drain(..surplus);
        if marks.0.len() < OBSERVED.len() && marks.0.iter().all(|observed| *observed) {
            self.marks = None;
        }
    }

    fn observed(&self) -> &[bool] {
        self.marks.as_ref().map_or_else(|| &OBSERVED[..self.values.len()], |marks| &marks.0)
    }

    /// Asks for the end, where the next value goes.
    pub fn prefetch(&self) {
        let last = self.values.len().saturating_sub(RECENT);
        prefetch::slice(&self.values[last..]);
    }

    /// Steps held: those it was told to keep, and at most a quarter more, or 4.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The last `count` values and whether each was observed; `None` while there are fewer.
    pub fn tail(&self, count: usize) -> Option<(&[f64], &[bool])> {
        let start = self.values.len().checked_sub(count)?;
        Some((&self.values[start..], &self.observed()[start..]))
    }

    /// Puts back what a snapshot kept.
    pub fn restored(last: i64, values: Vec<f64>, observed: Vec<bool>) -> Self {
        assert_eq!(values.len(), observed.len(), "a value and its mark lie side by side");
        let all = values.len() <= OBSERVED.len() && observed.iter().all(|observed| *observed);
        Self { last, values, marks: (!all).then(|| Box::new(Marks(observed))) }
    }
}

/// Whichever way the marks are kept.
impl PartialEq for Window {
    fn eq(&self, other: &Self) -> bool {
        self.last == other.last && self.values == other.values && self.observed() == other.observed()
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
            window.push(&rules(gaps), Keep::new(100), *step, *value, false);
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
    fn what_fills_a_gap_is_at_hand_when_it_ends_and_goes_with_the_next_step() {
        let (rules, keep) = (Rules { max_gap: 1000, ..rules(Gaps::Hold) }, Keep { steps: 3, filled: 50 });
        let mut window = Window::default();
        for step in 0..5 {
            window.push(&rules, keep, step, step as f64, false);
        }
        assert_eq!(window.push(&rules, keep, 30, 30.0, false), Some(26));
        let (values, observed) = window.tail(29).unwrap();
        let held = (2..=30).map(|step| if step == 30 { 30.0 } else { f64::from(step.min(4)) });
        assert!(values.iter().copied().eq(held), "{values:?}");
        let marks: Vec<bool> = (2..=30).map(|step| step < 5 || step == 30).collect();
        assert_eq!(observed, marks);
        window.push(&rules, keep, 31, 31.0, false);
        assert_eq!((window.len(), window.values.capacity() < 20), (3, true));
        assert_eq!(window.tail(3), Some((&[4.0, 30.0, 31.0][..], &[false, true, true][..])));
        for step in 32..40 {
            window.push(&rules, keep, step, 0.0, false);
        }
        assert_eq!((window.tail(3).unwrap().1, window.marks.is_none()), (&[true; 3][..], true));
    }

    #[test]
    fn the_tail_is_the_same_however_long_it_ran() {
        let mut window = Window::default();
        for step in 0..1000 {
            window.push(&rules(Gaps::Hold), Keep::new(7), step, step as f64, false);
            assert!(window.len() <= 11);
            if step >= 6 {
                let expected: Vec<f64> = (step - 6..=step).map(|s| s as f64).collect();
                assert_eq!(window.tail(7).map(|tail| tail.0), Some(&expected[..]));
            }
        }
    }
}
