//! Event time cut into steps. Knows no rows: only times in microseconds and step numbers.

use serde::{Deserialize, Serialize};

/// Cells `[offset + k*every, offset + (k+1)*every)` counted from the epoch, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// Length of a step, microseconds, at least 1.
    pub every: i64,
    /// Start of step 0 relative to the epoch, microseconds, in `0..every`.
    pub offset: i64,
}

impl Grid {
    /// The step that holds `time`: floor((time - offset) / every).
    pub fn step_of(&self, time: i64) -> i64 {
        time.saturating_sub(self.offset).div_euclid(self.every)
    }

    /// The first microsecond of step `k`.
    pub fn start_of(&self, step: i64) -> i64 {
        step.saturating_mul(self.every).saturating_add(self.offset)
    }

    /// How many whole steps of gap `duration` spans.
    pub fn steps_in(&self, duration: i64) -> i64 {
        duration / self.every
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_half_open_and_floor_before_the_epoch() {
        let grid = Grid { every: 10, offset: 3 };
        assert_eq!([2, 3, 12, 13, -7, -8].map(|t| grid.step_of(t)), [-1, 0, 0, 1, -1, -2]);
        assert_eq!(grid.start_of(-1), -7);
    }
}
