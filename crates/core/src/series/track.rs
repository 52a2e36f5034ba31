//! A covariate's last steps. What is not observed is held for at most `max_gap` and then unknown, so that the value at a
//! step is a function of the rows up to that step, whoever asks and whenever.

use super::Rules;

/// Values of consecutive steps, oldest first, at most twice `keep` of them; NaN where nothing is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Track {
    /// The step of the last value, which was observed.
    pub last: i64,
    values: Vec<f64>,
}

impl Track {
    /// Adds the observed `value` of `step`, which lies after every step before it. `cold` forgets what was.
    pub fn push(&mut self, rules: &Rules, keep: usize, step: i64, value: f64, cold: bool) {
        if cold {
            self.values.clear();
        }
        if let Some(&before) = self.values.last() {
            let missing = step - self.last - 1;
            let held = rules.grid.steps_in(rules.max_gap);
            // Only the last `keep` missing steps can still be seen.
            for i in (missing - keep as i64).max(0)..missing {
                self.add(keep, if i < held { before } else { f64::NAN });
            }
        }
        self.add(keep, value);
        self.last = step;
    }

    fn add(&mut self, keep: usize, value: f64) {
        if self.values.len() >= keep.saturating_mul(2) {
            let surplus = self.values.len() + 1 - keep;
            self.values.drain(..surplus);
        }
        self.values.push(value);
    }

    /// The value at `step`, observed or held.
    pub fn at(&self, rules: &Rules, step: i64) -> Option<f64> {
        let last = self.values.len().checked_sub(1)?;
        let value = match usize::try_from(self.last - step) {
            Ok(back) => self.values[last.checked_sub(back)?],
            Err(_) if step - self.last <= rules.grid.steps_in(rules.max_gap) => self.values[last],
            Err(_) => f64::NAN,
        };
        value.is_finite().then_some(value)
    }

    /// The values that are known, in the order of their steps.
    pub fn known(&self) -> impl Iterator<Item = (i64, f64)> {
        let first = self.last + 1 - self.values.len() as i64;
        let steps = self.values.iter().enumerate().map(move |(i, value)| (first + i as i64, *value));
        steps.filter(|(_, value)| value.is_finite())
    }

    /// The last values, at most `keep`.
    pub fn tail(&self, keep: usize) -> &[f64] {
        &self.values[self.values.len().saturating_sub(keep)..]
    }

    /// Puts back what a snapshot kept.
    pub fn restored(last: i64, values: Vec<f64>) -> Self {
        Self { last, values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::{Aggregate, Gaps, Grid};

    #[test]
    fn a_value_is_held_for_max_gap_and_a_later_one_changes_nothing_before() {
        let grid = Grid { every: 10, offset: 0 };
        let rules = Rules {
            grid,
            aggregate: Aggregate::Mean,
            complete_after: None,
            lateness: 0,
            gaps: Gaps::Linear,
            max_gap: 20,
        };
        let mut track = Track::default();
        track.push(&rules, 9, 0, 5.0, false);
        let seen = |track: &Track| [-1, 0, 1, 2, 3].map(|step| track.at(&rules, step));
        let before = seen(&track);
        assert_eq!(before, [None, Some(5.0), Some(5.0), Some(5.0), None]);
        track.push(&rules, 9, 5, 7.0, false);
        assert_eq!(seen(&track), before);
        track.push(&rules, 9, 6, 8.0, true);
        assert_eq!([5, 6, 8, 9].map(|step| track.at(&rules, step)), [None, Some(8.0), Some(8.0), None]);
    }
}
