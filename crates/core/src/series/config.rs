//! Settings that turn the rows of a series into steps, and the limits of a partition.

use serde::{Deserialize, Serialize};

/// Fixed steps `[offset + k*every, offset + (k+1)*every)` from the epoch, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// Length of a step, microseconds, at least 1.
    pub every: i64,
    /// Start of step 0 relative to the epoch, microseconds, in `0..every`.
    pub offset: i64,
}

impl Grid {
    /// The step that contains `time`: floor((time - offset) / every).
    pub fn step_of(&self, time: i64) -> i64 {
        time.saturating_sub(self.offset).div_euclid(self.every)
    }

    /// The first microsecond of a step.
    pub fn start_of(&self, step: i64) -> i64 {
        step.saturating_mul(self.every).saturating_add(self.offset)
    }

    /// Number of whole steps in `duration` microseconds.
    pub fn steps_in(&self, duration: i64) -> i64 {
        duration / self.every
    }
}

/// Aggregation of the rows of a step into its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Aggregate {
    #[default]
    Mean,
    /// The value with the latest time.
    Last,
    Sum,
    Min,
    Max,
}

/// Values of the unobserved steps in a gap of at most `max_gap`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GapFill {
    /// The last observed value.
    #[default]
    Hold,
    /// Linear interpolation to the next observed value.
    Linear,
    /// The last observed value, with a mask input of 0 instead of 1.
    Missing,
}

/// Settings that turn the rows of a series into steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepConfig {
    pub grid: Grid,
    pub aggregate: Aggregate,
    /// Rows that complete a step; `None` closes a step by time only.
    pub complete_after: Option<u32>,
    /// Time after its end during which a step accepts late rows, microseconds.
    pub lateness: i64,
    pub gap_fill: GapFill,
    /// Longest gap that is filled, and largest lead of a row over its series' clock, microseconds.
    pub max_gap: i64,
}

/// Policy for a new series in a full partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFull {
    /// Refuses its rows: safe against a flood of meaningless ids.
    #[default]
    Refuse,
    /// Evicts the least recently updated series.
    Evict,
}

/// Default for the open steps of a series. Bounds `lateness`, because each open step stores the times of its rows.
pub const OPEN_STEPS_MAX: usize = 10_000;

/// Limits of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Series in the partition.
    pub series: usize,
    pub on_full: OnFull,
    /// Open steps of a series, at least 1. Another one closes the oldest early: only that step's later rows are lost.
    pub open_steps: usize,
}

impl From<usize> for Capacity {
    /// Capacity of `series` series; rows of further ones are refused.
    fn from(series: usize) -> Self {
        Self { series, on_full: OnFull::Refuse, open_steps: OPEN_STEPS_MAX }
    }
}

/// Number of steps that a window retains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Steps readable at any time.
    pub steps: usize,
    /// Further steps readable at the moment a gap closes, at most the steps that fill it.
    pub filled: usize,
}

impl Retention {
    /// Retains `steps` steps and no further filled ones.
    pub fn new(steps: usize) -> Self {
        Self { steps, filled: 0 }
    }

    /// Most steps ever readable, filled ones included.
    pub fn steps_max(self) -> usize {
        self.steps.saturating_add(self.filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_half_open_and_round_down_before_the_epoch() {
        let grid = Grid { every: 10, offset: 3 };
        assert_eq!([2, 3, 12, 13, -7, -8].map(|t| grid.step_of(t)), [-1, 0, 0, 1, -1, -2]);
        assert_eq!(grid.start_of(-1), -7);
    }
}
