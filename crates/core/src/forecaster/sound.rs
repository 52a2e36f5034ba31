//! Whether the state of an id could have come of rows. A snapshot is a file like any other: what it says is held against
//! what every state keeps to, so that no number in it can break the line later.

use super::{SeriesStore, SeriesState};
use crate::series::TIMES_PER_STEP_MAX;

/// No step lies farther from the epoch: times are microseconds in 64 bits, and a step has a thousand of them at the least; twice that, so that rounding does not matter.
/// Differences of steps fit 64 bits with room to spare.
pub(super) const STEP_MAX: i64 = i64::MAX / 500;

/// The part of the state that contradicts itself or another, if one does. `histories` are those that it is to join, and
/// `remembered` step and value of the latest reading that each target's memory has seen, where there `is_memory`.
pub fn contradiction(
    history: &SeriesState,
    histories: &SeriesStore,
    is_memory: bool,
    remembered: &[Option<(i64, f64)>],
) -> Option<&'static str> {
    let SeriesState { id, steps, targets, covariates, .. } = history;
    let is_step = |step: i64| (-STEP_MAX..=STEP_MAX).contains(&step);
    // Before the first accepted row nothing has closed.
    let has_begun = steps.latest_time.is_some();
    let has_closed = |step: i64| has_begun && is_step(step) && step < steps.frontier;
    let ahead = histories.ahead();
    let is_ahead = |values: &[f64]| values.is_empty() || values.len() == ahead;
    if histories.holds(id) {
        return Some("series");
    }
    if !is_step(steps.frontier) {
        return Some("frontier");
    }
    if steps.candidate().is_some_and(|candidate| !is_ahead(candidate.row().future)) {
        return Some("candidate");
    }
    let rises = steps.open_steps().zip(steps.open_steps().skip(1)).all(|(a, b)| a.step < b.step);
    let is_open = steps.open_steps().all(|open| {
        let is_step = is_step(open.step) && open.step >= steps.frontier;
        is_step && open.times.len() <= TIMES_PER_STEP_MAX && is_ahead(&open.future)
    });
    if !rises || !is_open || !(has_begun || steps.open_steps().next().is_none()) {
        return Some("open");
    }
    for (target, last) in targets.iter().zip(remembered) {
        let window = &target.window;
        let values = window.tail(window.len()).map_or(&[][..], |(values, _)| values);
        // As many readings as microseconds are more than there can be.
        let is_counted = target.running.count <= i64::MAX as u64;
        let is_window = values.is_empty() || has_closed(window.last_step);
        if !is_window || !is_counted || values.iter().any(|value| !value.is_finite()) {
            return Some("windows");
        }
        // A memory follows the window from its first value on, and outlives it.
        let follows = match *last {
            Some((step, _)) => has_closed(step) && (values.is_empty() || step == window.last_step),
            None => values.is_empty() || !is_memory,
        };
        if !follows {
            return Some("memory");
        }
    }
    let is_track = |last: i64, length: usize| length == 0 || has_closed(last);
    if !covariates.iter().all(|track| is_track(track.last_step, track.tail(usize::MAX).len())) {
        return Some("tracks");
    }
    None
}
