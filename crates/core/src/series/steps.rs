//! The open steps of one id: which rows are used, which are refused, and when a step closes.
//!
//! - A step closes when `complete_after` of its rows have arrived, or when the id shows a row at or past the step's
//!   end plus `lateness`. Steps close strictly in order: a complete step waits for the ones before it. Where more are
//!   open than there is room for, the oldest closes before its time.
//! - A row that repeats the time of a row in an open step, or one of the last [`REMEMBERED_TIMES`](super::REMEMBERED_TIMES) accepted times, is a
//!   duplicate. Any other row for a closed step is late.
//! - A row more than `max_gap` ahead of its id, and an id's very first row, is held as the one candidate. The next row
//!   that is later than it by at most `max_gap` agrees: the id starts again at the candidate and both are used.
//!   An accepted row, or a candidate that disagrees, drops it. A row at the candidate's own time is its duplicate.
//! - A refused row changes nothing: it neither moves the clock nor drops a candidate.

use std::collections::VecDeque;

use super::cell::Cell;
use super::times::Times;
use super::{Candidate, Refusal, Rules};
use crate::prefetch;

/// Times kept of one open step for the recognition of duplicates. Bounds the memory of a step that thousands of rows
/// fall into (a reading each 100 ms on a grid of an hour stays below); rows past it are recognised as duplicates of the
/// last [`REMEMBERED_TIMES`](super::REMEMBERED_TIMES) only.
pub const TIMES_PER_STEP: usize = 65_536;

/// Columns of a row that a step closes with at once, at most: room on the stack.
const COLUMNS_AT_ONCE: usize = 16;

/// A row of one id.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Offset in its partition.
    pub offset: i64,
    /// Microseconds since the epoch.
    pub time: i64,
    /// Targets; missing ones are not finite.
    pub targets: &'a [f64],
    pub covariates: &'a [f64],
    /// Inputs known for the coming horizon, `[known x horizon]`, by column.
    pub ahead: &'a [f64],
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Used,
    /// Kept as the candidate; a later row decides.
    Held,
    Refused(Refusal),
}

/// What became of a row, and of the candidate before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: Verdict,
    /// Offset of the candidate that this row dropped: it is refused as too far.
    pub dropped: Option<i64>,
    /// The id, known before, started again.
    pub restarted: bool,
    /// Steps that closed before their time, for want of room.
    pub early: u64,
}

impl Outcome {
    pub fn of(verdict: Verdict) -> Self {
        Self { verdict, dropped: None, restarted: false, early: 0 }
    }
}

/// A step that has closed with at least one row in it.
#[derive(Clone, Copy, Debug)]
pub struct ClosedStep<'a> {
    pub step: i64,
    /// One value a target, NaN where none was observed.
    pub targets: &'a [f64],
    pub covariates: &'a [f64],
    /// Of the latest row that brought them; empty if none did.
    pub ahead: &'a [f64],
    /// The id starts (again) with this step: nothing before it counts.
    pub cold: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct OpenStep {
    pub step: i64,
    pub rows: u32,
    pub times: Vec<i64>,
    /// Targets, then covariates.
    pub cells: Vec<Cell>,
    /// How many of the cells are targets.
    pub targets: usize,
    pub ahead: Vec<f64>,
    pub ahead_time: i64,
    /// Room for the cells' values while the step closes.
    pub values: Vec<f64>,
}

impl OpenStep {
    /// An empty step in the buffers of an old one.
    fn reset(&mut self, step: i64, targets: usize, covariates: usize) {
        (self.step, self.rows, self.targets, self.ahead_time) = (step, 0, targets, 0);
        self.values.clear();
        self.times.clear();
        self.ahead.clear();
        self.cells.clear();
        self.cells.resize(targets + covariates, Cell::default());
    }

    fn add(&mut self, rules: &Rules, row: Row<'_>) {
        self.rows = self.rows.saturating_add(1);
        if self.times.len() < TIMES_PER_STEP {
            self.times.push(row.time);
        }
        let values = row.targets.iter().chain(row.covariates);
        for (cell, value) in self.cells.iter_mut().zip(values).filter(|(_, value)| value.is_finite()) {
            cell.add(rules.aggregate, row.time, *value);
        }
        if !row.ahead.is_empty() && (self.ahead.is_empty() || row.time > self.ahead_time) {
            self.ahead.clear();
            self.ahead.extend_from_slice(row.ahead);
            self.ahead_time = row.time;
        }
    }
}

/// The open steps and the clock of one id.
#[derive(Clone, Debug, Default)]
pub struct Steps {
    /// Latest accepted time.
    pub newest: Option<i64>,
    /// The first step that has not closed.
    pub frontier: i64,
    /// No step has closed since the id started (again).
    pub cold: bool,
    /// The last accepted times, oldest first.
    pub accepted: Times,
    candidate: Option<Box<Candidate>>,
    /// Where most steps close with their only row, none is open for most of the time.
    gathering: Option<Box<Gathering>>,
}

/// Steps that wait for more rows.
#[derive(Clone, Debug, Default)]
struct Gathering {
    /// Ascending by step, none below the frontier.
    open: VecDeque<Box<OpenStep>>,
    /// A closed step's buffers, used again for the next one.
    spare: Option<Box<OpenStep>>,
}

/// A spare has no meaning.
impl PartialEq for Steps {
    fn eq(&self, other: &Self) -> bool {
        let clock = |steps: &Self| (steps.newest, steps.frontier, steps.cold);
        clock(self) == clock(other)
            && self.accepted == other.accepted
            && self.open().eq(other.open())
            && self.candidate == other.candidate
    }
}

impl Steps {
    /// Takes the next row of the id and leaves at most `most` steps open; every step that it closes goes to `on_close`, in
    /// order.
    pub fn push(
        &mut self,
        rules: &Rules,
        most: usize,
        row: Row<'_>,
        mut on_close: impl FnMut(ClosedStep<'_>),
    ) -> Outcome {
        let step = rules.grid.step_of(row.time);
        if let Some(reason) = self.refusal(&row, step) {
            return Outcome::of(Verdict::Refused(reason));
        }
        let candidate = self.candidate.take();
        if !self.newest.is_some_and(|newest| within(newest, row.time, rules.max_gap)) {
            return match candidate {
                Some(first) if row.time > first.time && within(first.time, row.time, rules.max_gap) => {
                    let restarted = self.newest.is_some();
                    self.restart(rules, first.time, &mut on_close);
                    let before = rules.grid.step_of(first.time);
                    let mut early = self.accept(rules, most, first.row(), before, &mut on_close);
                    // The candidate alone may have completed the step that both lie in.
                    let verdict = match self.refusal(&row, step) {
                        Some(reason) => Verdict::Refused(reason),
                        None => {
                            early += self.accept(rules, most, row, step, &mut on_close);
                            Verdict::Used
                        }
                    };
                    Outcome { restarted, early, ..Outcome::of(verdict) }
                }
                other => {
                    self.set_candidate(Candidate::of(row));
                    Outcome { dropped: other.map(|candidate| candidate.offset), ..Outcome::of(Verdict::Held) }
                }
            };
        }
        let early = self.accept(rules, most, row, step, &mut on_close);
        let dropped = candidate.map(|candidate| candidate.offset);
        Outcome { dropped, early, ..Outcome::of(Verdict::Used) }
    }

    /// The input is over: closes what time alone held open. Returns the offset of a candidate that nobody agreed with.
    pub fn finish(&mut self, rules: &Rules, mut on_close: impl FnMut(ClosedStep<'_>)) -> Option<i64> {
        self.close_all(rules, &mut on_close);
        self.candidate.take().map(|candidate| candidate.offset)
    }

    /// Ascending by step, none below the frontier.
    pub fn open(&self) -> impl Iterator<Item = &OpenStep> {
        self.gathering.iter().flat_map(|gathering| &gathering.open).map(|open| &**open)
    }

    pub fn candidate(&self) -> Option<&Candidate> {
        self.candidate.as_deref()
    }

    pub fn set_candidate(&mut self, candidate: Candidate) {
        self.candidate = Some(Box::new(candidate));
    }

    /// Opens a step behind all others.
    pub fn set_open(&mut self, step: OpenStep) {
        self.gathering().open.push_back(Box::new(step));
    }

    fn gathering(&mut self) -> &mut Gathering {
        self.gathering.get_or_insert_default()
    }

    fn first_open(&self) -> Option<&OpenStep> {
        self.gathering.as_ref()?.open.front().map(|open| &**open)
    }

    /// Asks for what the next row reads beside the steps themselves.
    pub fn prefetch(&self) {
        self.gathering.as_deref().into_iter().for_each(prefetch::value);
    }

    fn refusal(&self, row: &Row<'_>, step: i64) -> Option<Refusal> {
        if !row.targets.iter().any(|value| value.is_finite()) {
            return Some(Refusal::NotFinite);
        }
        if let Some(newest) = self.newest {
            if row.time <= newest && self.holds(step, row.time) {
                return Some(Refusal::Duplicate);
            }
            if step < self.frontier {
                return Some(Refusal::Late);
            }
        }
        let repeats = self.candidate.as_ref().is_some_and(|candidate| candidate.time == row.time);
        repeats.then_some(Refusal::Duplicate)
    }

    /// Whether `time` is that of a row in an open step or one of the last accepted times.
    fn holds(&self, step: i64, time: i64) -> bool {
        let open = self.open().find(|open| open.step == step);
        open.is_some_and(|open| open.times.contains(&time)) || self.accepted.contains(time)
    }

    fn restart(&mut self, rules: &Rules, time: i64, on_close: &mut impl FnMut(ClosedStep<'_>)) {
        self.close_all(rules, on_close);
        self.frontier = match self.newest {
            Some(_) => self.frontier.max(first_open(rules, time)),
            None => first_open(rules, time),
        };
        self.cold = true;
    }

    /// Takes a row of this step.
    fn accept(
        &mut self,
        rules: &Rules,
        most: usize,
        row: Row<'_>,
        step: i64,
        on_close: &mut impl FnMut(ClosedStep<'_>),
    ) -> u64 {
        self.newest = Some(self.newest.map_or(row.time, |newest| newest.max(row.time)));
        self.accepted.push(row.time);
        if self.close_at_once(rules, row, step, on_close) {
            return 0;
        }
        self.gather(rules, row, step);
        self.close_due(rules, on_close);
        let mut early = 0;
        while self.gathering.as_ref().is_some_and(|gathering| gathering.open.len() > most) {
            early += 1;
            self.close_next(rules, on_close);
            // Complete steps waited for this one.
            self.close_due(rules, on_close);
        }
        early
    }

    /// A row that completes its step alone, and waits for no other, need not be gathered: this is the way of most rows.
    /// Returns whether it went that way.
    fn close_at_once(
        &mut self,
        rules: &Rules,
        row: Row<'_>,
        step: i64,
        on_close: &mut impl FnMut(ClosedStep<'_>),
    ) -> bool {
        let columns = row.targets.len() + row.covariates.len();
        let is_complete = rules.complete_after == Some(1) && self.first_open().is_none();
        let passed = match self.newest {
            // As most rows are; a division is slow.
            Some(newest) if newest == row.time && rules.lateness == 0 => step,
            Some(newest) => first_open(rules, newest),
            None => i64::MIN,
        };
        if !is_complete || step != self.frontier.max(passed) || columns > COLUMNS_AT_ONCE {
            return false;
        }
        let mut values = [f64::NAN; COLUMNS_AT_ONCE];
        for (to, value) in values.iter_mut().zip(row.targets.iter().chain(row.covariates)) {
            let mut cell = Cell::default();
            if value.is_finite() {
                cell.add(rules.aggregate, row.time, *value);
            }
            *to = cell.value(rules.aggregate);
        }
        self.frontier = step.saturating_add(1);
        self.gathering = None;
        let (targets, covariates) = values[..columns].split_at(row.targets.len());
        let cold = std::mem::take(&mut self.cold);
        on_close(ClosedStep { step, targets, covariates, ahead: row.ahead, cold });
        true
    }

    fn gather(&mut self, rules: &Rules, row: Row<'_>, step: i64) {
        let Gathering { open, spare } = self.gathering();
        let place = open.partition_point(|open| open.step < step);
        if open.get(place).is_none_or(|open| open.step != step) {
            let mut fresh = spare.take().unwrap_or_default();
            fresh.reset(step, row.targets.len(), row.covariates.len());
            open.insert(place, fresh);
        }
        open[place].add(rules, row);
    }

    /// Closes, strictly in order, every step that is complete or that time has passed.
    fn close_due(&mut self, rules: &Rules, on_close: &mut impl FnMut(ClosedStep<'_>)) {
        let Some(newest) = self.newest else { return };
        let passed = first_open(rules, newest);
        self.frontier = self.frontier.max(passed);
        while let Some(front) = self.first_open() {
            let complete = rules.complete_after.is_some_and(|rows| front.rows >= rows);
            if front.step < passed || (front.step == self.frontier && complete) {
                self.frontier = self.frontier.max(front.step + 1);
                self.close_front(rules, on_close);
            } else {
                break;
            }
        }
    }

    fn close_all(&mut self, rules: &Rules, on_close: &mut impl FnMut(ClosedStep<'_>)) {
        while self.first_open().is_some() {
            self.close_next(rules, on_close);
        }
    }

    /// Closes the first open step, due or not.
    fn close_next(&mut self, rules: &Rules, on_close: &mut impl FnMut(ClosedStep<'_>)) {
        let Some(front) = self.first_open() else { return };
        self.frontier = front.step + 1;
        self.close_front(rules, on_close);
    }

    fn close_front(&mut self, rules: &Rules, on_close: &mut impl FnMut(ClosedStep<'_>)) {
        let Some(mut closing) = self.gathering.as_mut().and_then(|all| all.open.pop_front()) else {
            return;
        };
        closing.values.clear();
        closing.values.extend(closing.cells.iter().map(|cell| cell.value(rules.aggregate)));
        let (targets, covariates) = closing.values.split_at(closing.targets);
        let cold = std::mem::take(&mut self.cold);
        on_close(ClosedStep { step: closing.step, targets, covariates, ahead: &closing.ahead, cold });
        // One spare serves the steady state of one step open at a time; more would be memory for every id.
        self.gathering().spare = Some(closing);
    }
}

/// The first step that the clock at `time` leaves open: the smallest k with end(k) + lateness > time.
fn first_open(rules: &Rules, time: i64) -> i64 {
    rules.grid.step_of(time.saturating_sub(rules.lateness))
}

/// Whether `time` is at most `gap` after `reference`.
fn within(reference: i64, time: i64, gap: i64) -> bool {
    time.saturating_sub(reference) <= gap
}
