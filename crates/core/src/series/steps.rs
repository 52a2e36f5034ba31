//! Assignment of a series' rows to steps, refusal of rows, and closing of steps.
//!
//! - A step closes when it has `complete_after` rows, or when the series shows a row at or past the step's end plus
//!   `lateness`. Steps close strictly in order: a complete step waits for the ones before it. Above the limit of open
//!   steps, the oldest closes early.
//! - A row with the time of a row in an open step, or with one of the last [`RECENT_TIMES_MAX`] accepted times, is a
//!   duplicate. Any other row for a closed step is late.
//! - A row more than `max_gap` ahead of its series, or the first row of a series, becomes the candidate. If the next
//!   row is at most `max_gap` later than the candidate, the series restarts at the candidate, and both rows are accepted. An accepted row
//!   or another candidate drops it. A row with the candidate's time is its duplicate.
//! - A refused row changes nothing: it neither moves the clock nor drops a candidate.
//!
//! [`RECENT_TIMES_MAX`]: super::RECENT_TIMES_MAX

use std::collections::VecDeque;

use super::{Aggregate, RecentTimes, Refusal, StepConfig};
use crate::prefetch;

/// Times retained per open step for the detection of duplicates.
///
/// Bounds the memory of a step with very many rows (an hour of rows every 100 ms stays below). Rows beyond it are
/// recognised as duplicates of the last [`RECENT_TIMES_MAX`](super::RECENT_TIMES_MAX) accepted times only.
pub const TIMES_PER_STEP_MAX: usize = 65_536;

/// Most columns of a row that takes the direct path: their values lie on the stack.
const DIRECT_COLUMNS_MAX: usize = 16;

/// A row of one series.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Position in its partition: the offset of its own message, not that of the next one.
    pub position: i64,
    /// Microseconds since the epoch.
    pub time: i64,
    /// One value per target; missing ones are not finite.
    pub targets: &'a [f64],
    pub covariates: &'a [f64],
    /// Values of the future covariates, `[covariate][horizon]`; empty if the row has none.
    pub future: &'a [f64],
}

/// Result of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    /// Became the candidate; a later row decides.
    Pending,
    Refused(Refusal),
}

/// Result of a row, and its effects on the series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowOutcome {
    pub verdict: Verdict,
    /// Position of the candidate that this row dropped; that row is refused as too far ahead.
    pub dropped_candidate: Option<i64>,
    /// A series with earlier rows restarted cold.
    pub restarted: bool,
    /// Steps closed early because too many were open.
    pub forced_closes: u64,
}

impl RowOutcome {
    /// A verdict without further effects.
    pub fn new(verdict: Verdict) -> Self {
        Self { verdict, dropped_candidate: None, restarted: false, forced_closes: 0 }
    }
}

/// A closed step; it had at least one row.
#[derive(Clone, Copy, Debug)]
pub struct ClosedStep<'a> {
    pub step: i64,
    /// One value per target, NaN where none was observed.
    pub targets: &'a [f64],
    pub covariates: &'a [f64],
    /// Future covariates of the latest row that had them; empty if none did.
    pub future: &'a [f64],
    /// The series starts or restarts with this step: earlier steps are discarded.
    pub cold_start: bool,
}

/// A row that waits for a later row to confirm it, compact because after an outage every series may have one.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub position: i64,
    pub time: i64,
    target_count: u32,
    covariate_count: u32,
    /// Targets, covariates, then future covariates.
    values: Box<[f64]>,
}

impl Candidate {
    pub fn new(row: Row<'_>) -> Self {
        let Row { position, time, targets, covariates, future } = row;
        let values = [targets, covariates, future].concat().into();
        let (target_count, covariate_count) = (targets.len() as u32, covariates.len() as u32);
        Self { position, time, target_count, covariate_count, values }
    }

    pub fn row(&self) -> Row<'_> {
        let Self { position, time, .. } = *self;
        let (targets, rest) = self.values.split_at(self.target_count as usize);
        let (covariates, future) = rest.split_at(self.covariate_count as usize);
        Row { position, time, targets, covariates, future }
    }

    /// Targets, covariates, then future covariates.
    pub fn values(&self) -> &[f64] {
        &self.values
    }
}

/// Running aggregate of one column in one open step. Missing values are never added.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepAccumulator {
    pub count: u32,
    /// Sum, extreme or latest value, by the aggregate.
    pub value: f64,
    /// Time of the latest value, microseconds.
    pub latest: i64,
}

impl StepAccumulator {
    pub fn add(&mut self, aggregate: Aggregate, time: i64, value: f64) {
        let first = self.count == 0;
        match aggregate {
            Aggregate::Mean | Aggregate::Sum => self.value += value,
            Aggregate::Min if first || value < self.value => self.value = value,
            Aggregate::Max if first || value > self.value => self.value = value,
            Aggregate::Last if first || time > self.latest => self.value = value,
            Aggregate::Min | Aggregate::Max | Aggregate::Last => {}
        }
        self.latest = if first { time } else { self.latest.max(time) };
        self.count = self.count.saturating_add(1);
    }

    /// The step's value; NaN without observations.
    pub fn value(&self, aggregate: Aggregate) -> f64 {
        match aggregate {
            _ if self.count == 0 => f64::NAN,
            Aggregate::Mean => self.value / f64::from(self.count),
            Aggregate::Sum | Aggregate::Min | Aggregate::Max | Aggregate::Last => self.value,
        }
    }
}

/// A step that still accepts rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OpenStep {
    pub step: i64,
    pub rows: u32,
    /// Times of its rows, at most [`TIMES_PER_STEP_MAX`].
    pub times: Vec<i64>,
    /// One per target, then one per covariate.
    pub accumulators: Vec<StepAccumulator>,
    pub target_count: usize,
    pub future: Vec<f64>,
    /// Time of the row that `future` is from.
    pub future_time: i64,
    /// Scratch for the accumulators' values when the step closes.
    pub values: Vec<f64>,
}

impl OpenStep {
    /// Empties the step for reuse of its buffers.
    fn reset(&mut self, step: i64, target_count: usize, covariate_count: usize) {
        (self.step, self.rows, self.target_count, self.future_time) = (step, 0, target_count, 0);
        self.values.clear();
        self.times.clear();
        self.future.clear();
        self.accumulators.clear();
        self.accumulators.resize(target_count + covariate_count, StepAccumulator::default());
    }

    fn add(&mut self, config: &StepConfig, row: Row<'_>) {
        self.rows = self.rows.saturating_add(1);
        if self.times.len() < TIMES_PER_STEP_MAX {
            self.times.push(row.time);
        }
        let values = row.targets.iter().chain(row.covariates);
        for (accumulator, value) in self.accumulators.iter_mut().zip(values).filter(|(_, v)| v.is_finite()) {
            accumulator.add(config.aggregate, row.time, *value);
        }
        if !row.future.is_empty() && (self.future.is_empty() || row.time > self.future_time) {
            self.future.clear();
            self.future.extend_from_slice(row.future);
            self.future_time = row.time;
        }
    }
}

/// Clock, candidate and open steps of one series.
#[derive(Clone, Debug, Default)]
pub struct StepBuffer {
    /// Latest accepted time.
    pub latest_time: Option<i64>,
    /// The first step that has not closed.
    pub frontier: i64,
    /// No step has closed since the series started or restarted.
    pub cold_start: bool,
    pub recent_times: RecentTimes,
    candidate: Option<Box<Candidate>>,
    /// `None` most of the time where a single row completes a step.
    open_steps: Option<Box<OpenSteps>>,
}

/// Open steps of a series.
#[derive(Clone, Debug, Default)]
struct OpenSteps {
    /// Ascending by step, none below the frontier.
    queue: VecDeque<Box<OpenStep>>,
    /// Buffers of a closed step, reused for the next one.
    spare: Option<Box<OpenStep>>,
}

/// Ignores the spare buffers, which have no meaning.
impl PartialEq for StepBuffer {
    fn eq(&self, other: &Self) -> bool {
        let clock = |steps: &Self| (steps.latest_time, steps.frontier, steps.cold_start);
        clock(self) == clock(other)
            && self.recent_times == other.recent_times
            && self.open_steps().eq(other.open_steps())
            && self.candidate == other.candidate
    }
}

impl StepBuffer {
    /// Takes the next row of the series; calls `on_close` for every step that it closes, in order.
    ///
    /// At most `open_max` steps stay open.
    pub fn push(
        &mut self,
        config: &StepConfig,
        open_max: usize,
        row: Row<'_>,
        mut on_close: impl FnMut(ClosedStep<'_>),
    ) -> RowOutcome {
        let step = config.grid.step_of(row.time);
        if let Some(reason) = self.refusal(&row, step) {
            return RowOutcome::new(Verdict::Refused(reason));
        }
        let candidate = self.candidate.take();
        if !self.latest_time.is_some_and(|latest| is_within(latest, row.time, config.max_gap)) {
            return match candidate {
                Some(first) if row.time > first.time && is_within(first.time, row.time, config.max_gap) => {
                    let restarted = self.latest_time.is_some();
                    self.restart(config, first.time, &mut on_close);
                    let first_step = config.grid.step_of(first.time);
                    let mut forced_closes =
                        self.accept(config, open_max, first.row(), first_step, &mut on_close);
                    // The candidate may have completed the step that both rows belong to.
                    let verdict = match self.refusal(&row, step) {
                        Some(reason) => Verdict::Refused(reason),
                        None => {
                            forced_closes += self.accept(config, open_max, row, step, &mut on_close);
                            Verdict::Accepted
                        }
                    };
                    RowOutcome { restarted, forced_closes, ..RowOutcome::new(verdict) }
                }
                other => {
                    self.set_candidate(Candidate::new(row));
                    let dropped_candidate = other.map(|candidate| candidate.position);
                    RowOutcome { dropped_candidate, ..RowOutcome::new(Verdict::Pending) }
                }
            };
        }
        let forced_closes = self.accept(config, open_max, row, step, &mut on_close);
        let dropped_candidate = candidate.map(|candidate| candidate.position);
        RowOutcome { dropped_candidate, forced_closes, ..RowOutcome::new(Verdict::Accepted) }
    }

    /// Closes all open steps at the end of the input; returns the position of an unconfirmed candidate.
    pub fn finish(&mut self, config: &StepConfig, mut on_close: impl FnMut(ClosedStep<'_>)) -> Option<i64> {
        self.close_all(config, &mut on_close);
        self.candidate.take().map(|candidate| candidate.position)
    }

    /// Ascending by step, none below the frontier.
    pub fn open_steps(&self) -> impl Iterator<Item = &OpenStep> {
        self.open_steps.iter().flat_map(|open| &open.queue).map(|open| &**open)
    }

    pub fn candidate(&self) -> Option<&Candidate> {
        self.candidate.as_deref()
    }

    pub fn set_candidate(&mut self, candidate: Candidate) {
        self.candidate = Some(Box::new(candidate));
    }

    /// Appends an open step from a snapshot.
    pub fn push_open_step(&mut self, step: OpenStep) {
        self.open_steps_mut().queue.push_back(Box::new(step));
    }

    fn open_steps_mut(&mut self) -> &mut OpenSteps {
        self.open_steps.get_or_insert_default()
    }

    fn front(&self) -> Option<&OpenStep> {
        self.open_steps.as_ref()?.queue.front().map(|open| &**open)
    }

    /// Prefetches the memory that the next row reads besides the buffer itself.
    pub fn prefetch(&self) {
        self.open_steps.as_deref().into_iter().for_each(prefetch::value);
    }

    fn refusal(&self, row: &Row<'_>, step: i64) -> Option<Refusal> {
        if !row.targets.iter().any(|value| value.is_finite()) {
            return Some(Refusal::NotFinite);
        }
        if let Some(latest) = self.latest_time {
            if row.time <= latest && self.has_time(step, row.time) {
                return Some(Refusal::Duplicate);
            }
            if step < self.frontier {
                return Some(Refusal::Late);
            }
        }
        let repeats_candidate = self.candidate.as_ref().is_some_and(|candidate| candidate.time == row.time);
        repeats_candidate.then_some(Refusal::Duplicate)
    }

    /// True if a row at `time` was accepted into the open step or recently.
    fn has_time(&self, step: i64, time: i64) -> bool {
        let open = self.open_steps().find(|open| open.step == step);
        open.is_some_and(|open| open.times.contains(&time)) || self.recent_times.contains(time)
    }

    fn restart(&mut self, config: &StepConfig, time: i64, on_close: &mut impl FnMut(ClosedStep<'_>)) {
        self.close_all(config, on_close);
        self.frontier = match self.latest_time {
            Some(_) => self.frontier.max(first_open_step(config, time)),
            None => first_open_step(config, time),
        };
        self.cold_start = true;
    }

    /// Adds a row to its step; returns the number of steps closed early.
    fn accept(
        &mut self,
        config: &StepConfig,
        open_max: usize,
        row: Row<'_>,
        step: i64,
        on_close: &mut impl FnMut(ClosedStep<'_>),
    ) -> u64 {
        self.latest_time = Some(self.latest_time.map_or(row.time, |latest| latest.max(row.time)));
        self.recent_times.push(row.time);
        if self.close_directly(config, row, step, on_close) {
            return 0;
        }
        self.add_to_open_step(config, row, step);
        self.close_due(config, on_close);
        let mut forced_closes = 0;
        while self.open_steps.as_ref().is_some_and(|open| open.queue.len() > open_max) {
            forced_closes += 1;
            self.close_next(config, on_close);
            // Complete steps may have waited for this one.
            self.close_due(config, on_close);
        }
        forced_closes
    }

    /// Closes the step of a row that completes it, without opening it first; returns whether it did.
    ///
    /// The path of most rows: one row per step, no step open.
    fn close_directly(
        &mut self,
        config: &StepConfig,
        row: Row<'_>,
        step: i64,
        on_close: &mut impl FnMut(ClosedStep<'_>),
    ) -> bool {
        let columns = row.targets.len() + row.covariates.len();
        let is_complete = config.complete_after == Some(1) && self.front().is_none();
        let first_open = match self.latest_time {
            // True of most rows, and saves a division.
            Some(latest) if latest == row.time && config.lateness == 0 => step,
            Some(latest) => first_open_step(config, latest),
            None => i64::MIN,
        };
        if !is_complete || step != self.frontier.max(first_open) || columns > DIRECT_COLUMNS_MAX {
            return false;
        }
        let mut values = [f64::NAN; DIRECT_COLUMNS_MAX];
        for (out, value) in values.iter_mut().zip(row.targets.iter().chain(row.covariates)) {
            let mut accumulator = StepAccumulator::default();
            if value.is_finite() {
                accumulator.add(config.aggregate, row.time, *value);
            }
            *out = accumulator.value(config.aggregate);
        }
        self.frontier = step.saturating_add(1);
        self.open_steps = None;
        let (targets, covariates) = values[..columns].split_at(row.targets.len());
        let cold_start = std::mem::take(&mut self.cold_start);
        on_close(ClosedStep { step, targets, covariates, future: row.future, cold_start });
        true
    }

    fn add_to_open_step(&mut self, config: &StepConfig, row: Row<'_>, step: i64) {
        let OpenSteps { queue, spare } = self.open_steps_mut();
        let index = queue.partition_point(|open| open.step < step);
        if queue.get(index).is_none_or(|open| open.step != step) {
            let mut opened = spare.take().unwrap_or_default();
            opened.reset(step, row.targets.len(), row.covariates.len());
            queue.insert(index, opened);
        }
        queue[index].add(config, row);
    }

    /// Closes, strictly in order, every step that is complete or past its lateness.
    fn close_due(&mut self, config: &StepConfig, on_close: &mut impl FnMut(ClosedStep<'_>)) {
        let Some(latest) = self.latest_time else { return };
        let first_open = first_open_step(config, latest);
        self.frontier = self.frontier.max(first_open);
        while let Some(front) = self.front() {
            let is_complete = config.complete_after.is_some_and(|rows| front.rows >= rows);
            if front.step < first_open || (front.step == self.frontier && is_complete) {
                self.frontier = self.frontier.max(front.step + 1);
                self.close_front(config, on_close);
            } else {
                break;
            }
        }
    }

    fn close_all(&mut self, config: &StepConfig, on_close: &mut impl FnMut(ClosedStep<'_>)) {
        while self.front().is_some() {
            self.close_next(config, on_close);
        }
    }

    /// Closes the first open step, due or not.
    fn close_next(&mut self, config: &StepConfig, on_close: &mut impl FnMut(ClosedStep<'_>)) {
        let Some(front) = self.front() else { return };
        self.frontier = front.step + 1;
        self.close_front(config, on_close);
    }

    fn close_front(&mut self, config: &StepConfig, on_close: &mut impl FnMut(ClosedStep<'_>)) {
        let Some(mut closing) = self.open_steps.as_mut().and_then(|open| open.queue.pop_front()) else {
            return;
        };
        closing.values.clear();
        closing.values.extend(closing.accumulators.iter().map(|column| column.value(config.aggregate)));
        let (targets, covariates) = closing.values.split_at(closing.target_count);
        let cold_start = std::mem::take(&mut self.cold_start);
        on_close(ClosedStep { step: closing.step, targets, covariates, future: &closing.future, cold_start });
        // One spare serves one open step at a time; more would cost every series its memory.
        self.open_steps_mut().spare = Some(closing);
    }
}

/// The first step open at `time`: the smallest k with end(k) + lateness > time.
fn first_open_step(config: &StepConfig, time: i64) -> i64 {
    config.grid.step_of(time.saturating_sub(config.lateness))
}

/// True if `time` is at most `gap` after `reference`.
fn is_within(reference: i64, time: i64, gap: i64) -> bool {
    time.saturating_sub(reference) <= gap
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aggregates_are_independent_of_row_order() {
        let aggregated = |aggregate| {
            let mut accumulator = StepAccumulator::default();
            [(20, -3.0), (30, 5.0), (10, 4.0)]
                .iter()
                .for_each(|(time, value)| accumulator.add(aggregate, *time, *value));
            accumulator.value(aggregate)
        };
        let all = [Aggregate::Mean, Aggregate::Last, Aggregate::Sum, Aggregate::Min, Aggregate::Max];
        assert_eq!(all.map(aggregated), [2.0, 5.0, 6.0, -3.0, 5.0]);
        assert!(StepAccumulator::default().value(Aggregate::Sum).is_nan());
    }
}
