//! Layout of the calibration state of one series: tracked steps of the horizon, bounds, and offsets of every part.

use std::ops::Range;

use super::bounds::probabilities;
use super::{drift, score_accumulator, tracker};

/// Largest number of tracked steps of the horizon: pending forecasts grow with their sum.
pub const TRACKED_HORIZONS_MAX: usize = 8;

/// Scoring of forecasts against their actual values, besides calibration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoreMode {
    Scored,
    Unscored,
}

/// Layout shared by all series.
///
/// The state of a series is one slice of f32: per tracked step a tracker (with levels), a running and a period accumulator (if
/// scored) and a ring of pending forecasts; then the drift detector (if scored).
#[derive(Clone, Debug, PartialEq)]
pub struct CalibrationLayout {
    /// Tracked steps after the origin, ascending from 1.
    horizons: Vec<usize>,
    /// Probabilities of the bounds, ascending.
    probabilities: Vec<f64>,
    /// Forecasts are issued at steps that are multiples of this.
    every: i64,
    is_scored: bool,
    /// Per tracked step: number of forecasts that can be pending, and offset of its part.
    pending_capacity: Vec<usize>,
    offsets: Vec<usize>,
    state_len: usize,
    /// Indices of the tracked steps on both sides of each step of the horizon.
    neighbors: Vec<[usize; 2]>,
    /// Interpolation weights, `[tracked][horizon]`.
    weights: Vec<f32>,
}

impl CalibrationLayout {
    /// Tracks `horizons` for forecasts with bounds of `levels`, issued every `every` steps.
    ///
    /// # Panics
    /// If `horizons` do not ascend within 1 to `horizon`, or are more than [`TRACKED_HORIZONS_MAX`].
    pub fn new(horizon: usize, horizons: Vec<usize>, levels: &[f64], every: u32, mode: ScoreMode) -> Self {
        let ascend = horizons.windows(2).all(|pair| pair[0] < pair[1]);
        let inside = horizons.first().is_some_and(|first| *first > 0) && horizons.last() <= Some(&horizon);
        assert!(ascend && inside, "tracked steps ascend within the horizon");
        assert!(horizons.len() <= TRACKED_HORIZONS_MAX, "tracked steps are few");
        let neighbors: Vec<[usize; 2]> = (1..=horizon).map(|step| neighbors(&horizons, step)).collect();
        let mut weights = vec![0.0; horizons.len() * horizon];
        for (step, [before, after]) in neighbors.iter().enumerate() {
            let weight = weight(&horizons, step + 1, [*before, *after]);
            weights[before * horizon + step] += 1.0 - weight;
            weights[after * horizon + step] += weight;
        }
        let mut layout = Self {
            horizons,
            probabilities: probabilities(levels),
            every: i64::from(every.max(1)),
            is_scored: mode == ScoreMode::Scored,
            pending_capacity: Vec::new(),
            offsets: Vec::new(),
            state_len: 0,
            neighbors,
            weights,
        };
        for tracked in 0..layout.horizons.len() {
            layout.pending_capacity.push(layout.horizons[tracked].div_ceil(layout.every as usize));
            layout.offsets.push(layout.state_len);
            layout.state_len += layout.tracker_len()
                + 2 * layout.accumulator_len()
                + layout.pending_capacity(tracked) * layout.entry_len();
        }
        layout.state_len += layout.drift_len();
        layout
    }

    /// Default tracked steps: the horizon, half of it, a quarter, ..., 1; with more than [`TRACKED_HORIZONS_MAX`], the longest
    /// and 1.
    pub fn default_horizons(horizon: usize) -> Vec<usize> {
        let halves = std::iter::successors(Some(horizon), |step| Some(step / 2).filter(|half| *half > 1));
        let mut steps: Vec<usize> = halves.take(TRACKED_HORIZONS_MAX - 1).chain([1]).collect();
        steps.sort_unstable();
        steps.dedup();
        steps
    }

    pub fn horizons(&self) -> &[usize] {
        &self.horizons
    }

    /// Probabilities of the bounds, ascending: the first and last belong to the widest level.
    pub fn probabilities(&self) -> &[f64] {
        &self.probabilities
    }

    pub fn is_scored(&self) -> bool {
        self.is_scored
    }

    pub fn every(&self) -> i64 {
        self.every
    }

    /// Length of the state of a series.
    pub fn state_len(&self) -> usize {
        self.state_len
    }

    /// Tracked steps that a range of steps of the horizon interpolates between.
    pub(super) fn neighbors_of(&self, steps: &Range<usize>) -> Range<usize> {
        self.neighbors[steps.start][0]..self.neighbors[steps.end - 1][1] + 1
    }

    /// Weights of a tracked step at some steps: linear between tracked steps, constant beyond the first and last.
    pub(super) fn weights(&self, tracked: usize, steps: &Range<usize>) -> &[f32] {
        &self.weights[tracked * self.neighbors.len()..][steps.clone()]
    }

    pub(super) fn tracker_len(&self) -> usize {
        tracker::state_len(self.probabilities.len())
    }

    pub(super) fn accumulator_len(&self) -> usize {
        if self.is_scored { score_accumulator::state_len(self.probabilities.len() / 2) } else { 0 }
    }

    fn drift_len(&self) -> usize {
        if self.is_scored { drift::STATE_LEN } else { 0 }
    }

    /// Number of forecasts that can be pending for a tracked step.
    pub(super) fn pending_capacity(&self, tracked: usize) -> usize {
        self.pending_capacity[tracked]
    }

    /// Length of a pending forecast: value, unit, bounds, naive forecast (if scored).
    pub(super) fn entry_len(&self) -> usize {
        2 + self.probabilities.len() + usize::from(self.is_scored)
    }

    pub(super) fn tracker_offset(&self, tracked: usize) -> usize {
        self.offsets[tracked]
    }

    pub(super) fn running_offset(&self, tracked: usize) -> usize {
        self.offsets[tracked] + self.tracker_len()
    }

    pub(super) fn period_offset(&self, tracked: usize) -> usize {
        self.running_offset(tracked) + self.accumulator_len()
    }

    pub(super) fn pending_offset(&self, tracked: usize) -> usize {
        self.offsets[tracked] + self.tracker_len() + 2 * self.accumulator_len()
    }

    /// Offset of the drift detector; the end of the state unless scored.
    pub(super) fn drift_offset(&self) -> usize {
        self.state_len - self.drift_len()
    }

    /// Offset of the pending forecast of an origin; none at an origin that issues no forecast.
    pub(super) fn entry_offset(&self, tracked: usize, origin: i64) -> Option<usize> {
        let (number, off) = div_rem(origin, self.every);
        let (_, slot) = div_rem(number, self.pending_capacity(tracked) as i64);
        (off == 0).then(|| self.pending_offset(tracked) + slot as usize * self.entry_len())
    }
}

/// Quotient and remainder, Euclidean. The usual divisor 1 skips the division.
pub(super) fn div_rem(number: i64, by: i64) -> (i64, i64) {
    if by == 1 { (number, 0) } else { (number.div_euclid(by), number.rem_euclid(by)) }
}

/// Tracked steps at or before and at or after a step; the nearest one twice beyond the ends.
fn neighbors(horizons: &[usize], step: usize) -> [usize; 2] {
    let reached = horizons.partition_point(|tracked| *tracked <= step);
    let after = horizons.partition_point(|tracked| *tracked < step);
    [reached.saturating_sub(1), after.min(horizons.len() - 1)]
}

/// Weight of the second of two tracked steps at a step between them.
fn weight(horizons: &[usize], step: usize, [before, after]: [usize; 2]) -> f32 {
    let (from, to) = (horizons[before], horizons[after]);
    if from == to { 0.0 } else { (step - from) as f32 / (to - from) as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_horizons_halve_down_to_one() {
        assert_eq!(CalibrationLayout::default_horizons(1), [1]);
        assert_eq!(CalibrationLayout::default_horizons(24), [1, 3, 6, 12, 24]);
        assert_eq!(CalibrationLayout::default_horizons(720), [1, 11, 22, 45, 90, 180, 360, 720]);
    }

    #[test]
    fn steps_between_tracked_ones_are_interpolated() {
        let layout = CalibrationLayout::new(9, vec![2, 6], &[0.8], 1, ScoreMode::Unscored);
        let known = [1.0, 5.0];
        let at = |step: usize| -> f32 {
            let steps = step..step + 1;
            layout.neighbors_of(&steps).map(|i| known[i] * layout.weights(i, &steps)[0]).sum()
        };
        let all: Vec<f32> = (0..9).map(at).collect();
        assert_eq!(all, [1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 5.0, 5.0, 5.0]);
    }

    #[test]
    fn pending_forecasts_fill_a_ring_as_long_as_their_horizon() {
        let layout = CalibrationLayout::new(7, vec![1, 7], &[0.8, 0.95], 3, ScoreMode::Scored);
        assert_eq!((layout.pending_capacity(0), layout.pending_capacity(1)), (1, 3));
        let offsets: Vec<_> = [0, 3, 6, 9, -3].map(|origin| layout.entry_offset(1, origin)).to_vec();
        let at = |slot: usize| Some(layout.pending_offset(1) + slot * layout.entry_len());
        assert_eq!(offsets, [at(0), at(1), at(2), at(0), at(2)]);
        assert_eq!(layout.entry_offset(1, 4), None);
        assert_eq!(layout.drift_offset(), layout.pending_offset(1) + 3 * layout.entry_len());
    }
}
