//! What is followed of every series: at which steps of the horizon, for which bounds, and where its numbers lie.

use std::ops::Range;

use super::drift;
use super::tally;
use super::tracker;
use crate::intervals::bounds::probabilities;

/// Steps of the horizon that are followed, at most: what waits for its actual grows with their sum.
pub const HORIZONS_MAX: usize = 8;

/// The same for all series. The numbers of a series lie one behind the other: for each followed step of the horizon a
/// tracker (where there are levels), two tallies (where it is scored) and the forecasts that wait; and its drift.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Steps after the origin, ascending; 1 is the first.
    horizons: Vec<usize>,
    /// Of the bounds, ascending.
    probabilities: Vec<f64>,
    /// Forecasts are issued at steps whose number is a multiple of this.
    every: i64,
    scored: bool,
    /// Of each followed step: forecasts that wait for it at once, at most, and where its numbers begin.
    rooms: Vec<usize>,
    places: Vec<usize>,
    numbers: usize,
    /// Of each step of the horizon, the two followed ones that it lies between, and how much each followed step weighs there,
    /// `[followed][horizon]`.
    beside: Vec<[usize; 2]>,
    weights: Vec<f32>,
}

impl Plan {
    /// Follows `horizons`, ascending steps of a horizon of so many, of forecasts with bounds of `levels`.
    ///
    /// # Panics
    /// If they do not rise from 1 to at most the horizon, or are more than [`HORIZONS_MAX`]: who chooses them has checked.
    pub fn new(horizon: usize, horizons: Vec<usize>, levels: &[f64], every: u32, scored: bool) -> Self {
        let rises = horizons.windows(2).all(|pair| pair[0] < pair[1]);
        let inside = horizons.first().is_some_and(|first| *first > 0) && horizons.last() <= Some(&horizon);
        let few = horizons.len() <= HORIZONS_MAX;
        assert!(rises && inside && few, "a few followed steps rise within the horizon");
        let beside: Vec<[usize; 2]> = (1..=horizon).map(|step| beside(&horizons, step)).collect();
        let mut weights = vec![0.0; horizons.len() * horizon];
        for (step, [before, after]) in beside.iter().enumerate() {
            let part = part(&horizons, step + 1, [*before, *after]);
            weights[before * horizon + step] += 1.0 - part;
            weights[after * horizon + step] += part;
        }
        let mut plan = Self {
            horizons,
            probabilities: probabilities(levels),
            every: i64::from(every.max(1)),
            scored,
            rooms: Vec::new(),
            places: Vec::new(),
            numbers: 0,
            beside,
            weights,
        };
        for followed in 0..plan.horizons.len() {
            plan.rooms.push(plan.horizons[followed].div_ceil(plan.every as usize));
            plan.places.push(plan.numbers);
            plan.numbers += plan.tracker() + 2 * plan.tally() + plan.room(followed) * plan.entry();
        }
        plan.numbers += if scored { drift::NUMBERS } else { 0 };
        plan
    }

    /// The steps that are followed where nobody says: the last one, half of it, a quarter and so on down to the first, of more
    /// than [`HORIZONS_MAX`] the longest and the first.
    pub fn horizons_for(horizon: usize) -> Vec<usize> {
        let halves = std::iter::successors(Some(horizon), |step| Some(step / 2).filter(|half| *half > 1));
        let mut steps: Vec<usize> = halves.take(HORIZONS_MAX - 1).chain([1]).collect();
        steps.sort_unstable();
        steps.dedup();
        steps
    }

    pub fn horizons(&self) -> &[usize] {
        &self.horizons
    }

    /// Of the bounds, ascending: the first and the last are of the widest level.
    pub fn probabilities(&self) -> &[f64] {
        &self.probabilities
    }

    pub fn is_scored(&self) -> bool {
        self.scored
    }

    pub fn every(&self) -> i64 {
        self.every
    }

    /// Numbers of a series.
    pub fn numbers(&self) -> usize {
        self.numbers
    }

    /// The followed steps that some steps of the horizon lie between.
    pub(super) fn around(&self, steps: &Range<usize>) -> Range<usize> {
        self.beside[steps.start][0]..self.beside[steps.end - 1][1] + 1
    }

    /// How much a followed step weighs at some steps: straight between two followed ones, level beyond the first and the last.
    pub(super) fn weights(&self, followed: usize, steps: &Range<usize>) -> &[f32] {
        &self.weights[followed * self.beside.len()..][steps.clone()]
    }

    /// Levels that the bounds are of.
    pub(super) fn levels(&self) -> usize {
        self.probabilities.len() / 2
    }

    /// Forecasts that wait for a followed step at once, at most.
    pub(super) fn room(&self, followed: usize) -> usize {
        self.rooms[followed]
    }

    /// Numbers of a forecast that waits: the value, its unit, its bounds, what the naive forecast said.
    pub(super) fn entry(&self) -> usize {
        2 + self.probabilities.len() + usize::from(self.scored)
    }

    pub(super) fn tracker(&self) -> usize {
        tracker::numbers(self.probabilities.len())
    }

    pub(super) fn tally(&self) -> usize {
        if self.scored { tally::numbers(self.levels()) } else { 0 }
    }

    /// Where the numbers of a followed step begin.
    pub(super) fn place(&self, followed: usize) -> usize {
        self.places[followed]
    }

    /// Where those of the drift begin; the end, where nothing is scored.
    pub(super) fn drift(&self) -> usize {
        self.numbers - if self.scored { drift::NUMBERS } else { 0 }
    }

    /// Where what waits for a followed step begins.
    pub(super) fn waiting(&self, followed: usize) -> usize {
        self.places[followed] + self.tracker() + 2 * self.tally()
    }

    /// Where the forecast of an origin waits for a followed step; `None` if none is issued there.
    pub(super) fn slot(&self, followed: usize, origin: i64) -> Option<usize> {
        let (number, off) = parted(origin, self.every);
        let (_, slot) = parted(number, self.room(followed) as i64);
        (off == 0).then(|| self.waiting(followed) + slot as usize * self.entry())
    }
}

/// Quotient and remainder. By one, as mostly, nothing needs to be divided.
pub(super) fn parted(number: i64, by: i64) -> (i64, i64) {
    if by == 1 { (number, 0) } else { (number.div_euclid(by), number.rem_euclid(by)) }
}

/// The followed steps before and after a step; one twice where it is followed itself, or where there is none on one side.
fn beside(horizons: &[usize], step: usize) -> [usize; 2] {
    let reached = horizons.partition_point(|followed| *followed <= step);
    let after = horizons.partition_point(|followed| *followed < step);
    [reached.saturating_sub(1), after.min(horizons.len() - 1)]
}

/// How much the second of two followed steps weighs at a step between them.
fn part(horizons: &[usize], step: usize, [before, after]: [usize; 2]) -> f32 {
    let (from, to) = (horizons[before], horizons[after]);
    if from == to { 0.0 } else { (step - from) as f32 / (to - from) as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_steps_stand_for_a_horizon() {
        assert_eq!(Plan::horizons_for(1), [1]);
        assert_eq!(Plan::horizons_for(24), [1, 3, 6, 12, 24]);
        assert_eq!(Plan::horizons_for(720), [1, 11, 22, 45, 90, 180, 360, 720]);
    }

    #[test]
    fn a_step_between_two_is_as_near_to_each_as_it_lies() {
        let plan = Plan::new(9, vec![2, 6], &[0.8], 1, false);
        let known = [1.0, 5.0];
        let of = |step: usize| -> f32 {
            let steps = step..step + 1;
            plan.around(&steps).map(|followed| known[followed] * plan.weights(followed, &steps)[0]).sum()
        };
        let all: Vec<f32> = (0..9).map(of).collect();
        assert_eq!(all, [1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 5.0, 5.0, 5.0]);
    }

    #[test]
    fn what_waits_has_room_for_the_forecasts_of_its_horizon() {
        let plan = Plan::new(7, vec![1, 7], &[0.8, 0.95], 3, true);
        assert_eq!((plan.room(0), plan.room(1)), (1, 3));
        let slots: Vec<_> = [0, 3, 6, 9, -3].map(|origin| plan.slot(1, origin)).to_vec();
        let at = |number: usize| Some(plan.waiting(1) + number * plan.entry());
        assert_eq!(slots, [at(0), at(1), at(2), at(0), at(2)]);
        assert_eq!(plan.slot(1, 4), None);
        assert_eq!(plan.drift(), plan.waiting(1) + 3 * plan.entry());
    }
}
