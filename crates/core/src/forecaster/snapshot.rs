//! Every series' state as an Arrow table, a row an id, and back. Plain columns and lists of numbers, so that any Arrow
//! tool can read them:
//!
//! | column | of an id |
//! |---|---|
//! | `series`, `position`, `newest`, `frontier`, `cold` | its name, its latest used row, its clock, its first open step |
//! | `accepted` | its last accepted times |
//! | `candidate`, `candidate_values` | offset and time; targets, covariates, known ahead |
//! | `open`, `open_values` | each step: number, rows, times (counted), count and latest time of each cell, time of what is known ahead and its length; the cells' values, what is known ahead |
//! | `windows`, `windows_values` | each target: last step, length, 64 marks a number, readings so far; mean, squares, least, greatest, a value a step |
//! | `tracks`, `tracks_values` | each covariate: last step, length; a value a step |
//! | `memory`, `memory_values` | each target: count of its numbers, last step; last value, the numbers; a count of 0 alone before the first reading |
//! | `carried`, `carried_values` | nothing; each target: the cells' state, if the model carries one |
//! | `live`, `live_values` | each target, where intervals are corrected or forecasts scored: whether it was observed, and at which step last; its trackers, tallies and waiting forecasts |
//!
//! Rows stand in the order in which their ids first came; one that came for another that gave way has its place. A state is first brought into a compact form, an id at a time,
//! since a capture may have to put it aside.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Builder, Int64Array, Int64Builder, LargeListBuilder, RecordBatch,
    StringArray,
};
use arrow::datatypes::{Field, Schema};
use compact_str::CompactString;

use super::{Beside, SeriesState, TargetState};
use crate::series::Retention;

/// The parts of a state that are lists of numbers.
pub(super) const PARTS: [&str; 8] =
    ["accepted", "candidate", "open", "windows", "tracks", "memory", "carried", LIVE];

/// The part that snapshots before format 6 have with other numbers, under another name.
pub(super) const LIVE: &str = "live";

/// The name of the column of a part's floating point numbers.
pub(super) fn values_of(part: &str) -> String {
    format!("{part}_values")
}

/// The state of one id, in compact form.
#[derive(Clone, Debug, Default)]
pub struct IdState {
    id: CompactString,
    position: i64,
    newest: Option<i64>,
    frontier: i64,
    cold: bool,
    /// The numbers of all parts, one after the other, and where each part ends.
    whole: Vec<i64>,
    real: Vec<f64>,
    ends: [(usize, usize); PARTS.len()],
}

impl IdState {
    /// Takes the form of the id of this number. `keep` steps of a window can still be asked for.
    pub fn fill(&mut self, history: &SeriesState, keep: Retention, index: usize, beside: Beside<'_>) {
        let SeriesState { id, steps, targets, covariates, position } = history;
        (self.id, self.position, self.newest) = (id.clone(), *position, steps.latest_time);
        (self.frontier, self.cold) = (steps.frontier, steps.cold_start);
        self.whole.clear();
        self.real.clear();
        let [accepted, candidate, open, windows, tracks, memory, cells, live] = [0, 1, 2, 3, 4, 5, 6, 7];
        self.whole.extend(steps.recent_times.iter());
        self.end(accepted);
        if let Some(held) = steps.candidate() {
            self.whole.extend([held.position, held.time]);
            self.real.extend(held.values());
        }
        self.end(candidate);
        for step in steps.open_steps() {
            self.whole.extend([step.step, i64::from(step.rows), step.times.len() as i64]);
            self.whole.extend(&step.times);
            self.whole.extend(step.accumulators.iter().flat_map(|cell| [i64::from(cell.count), cell.latest]));
            self.whole.extend([step.future_time, step.future.len() as i64]);
            self.real.extend(step.accumulators.iter().map(|cell| cell.value));
            self.real.extend(&step.future);
        }
        self.end(open);
        for TargetState { window, running } in targets {
            let (values, observed) = window.tail(window.len().min(keep.steps)).unwrap_or_default();
            self.whole.extend([window.last_step, values.len() as i64]);
            self.whole.extend(observed.chunks(64).map(packed));
            self.whole.push(running.count as i64);
            self.real.extend([running.mean, running.m2, running.min, running.max]);
            self.real.extend(values);
        }
        self.end(windows);
        for track in covariates {
            let values = track.tail(keep.steps_max());
            self.whole.extend([track.last_step, values.len() as i64]);
            self.real.extend(values);
        }
        self.end(tracks);
        let columns = index * targets.len()..(index + 1) * targets.len();
        for column in columns.clone() {
            let numbers = beside.remembered.map_or(&[][..], |all| all.numbers(column));
            self.whole.push(numbers.len() as i64);
            if let Some((step, value)) = beside.remembered.and_then(|all| all.last(column)) {
                self.whole.push(step);
                self.real.push(value);
                self.real.extend(numbers.iter().copied().map(f64::from));
            }
        }
        self.end(memory);
        for column in columns.clone() {
            self.real.extend(beside.carried.into_iter().flat_map(|all| all.column(column)).map(f64::from));
        }
        self.end(cells);
        for (all, column) in beside.online.into_iter().flat_map(|all| columns.clone().map(move |c| (all, c)))
        {
            let last = all.last(column);
            self.whole.push(i64::from(last.is_some()));
            self.whole.extend(last);
            self.real.extend(all.state(column).iter().copied().map(f64::from));
        }
        self.end(live);
    }

    fn end(&mut self, part: usize) {
        self.ends[part] = (self.whole.len(), self.real.len());
    }

    /// Bytes that it holds, about.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + 8 * (self.whole.len() + self.real.len())
    }
}

/// ObservedMask as the bits of a number, the first one lowest.
fn packed(marks: &[bool]) -> i64 {
    marks.iter().rev().fold(0, |bits, mark| bits << 1 | i64::from(*mark))
}

/// One part of the state of many ids: whole numbers and floating point numbers, a list of each an id.
#[derive(Default)]
struct Part {
    whole: LargeListBuilder<Int64Builder>,
    real: LargeListBuilder<Float64Builder>,
}

/// A table of states in the making.
#[derive(Default)]
pub struct Rows {
    ids: Vec<CompactString>,
    positions: Vec<i64>,
    newest: Vec<Option<i64>>,
    frontiers: Vec<i64>,
    cold: Vec<bool>,
    parts: [Part; PARTS.len()],
}

impl Rows {
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn add(&mut self, state: &IdState) {
        self.ids.push(state.id.clone());
        self.positions.push(state.position);
        self.newest.push(state.newest);
        self.frontiers.push(state.frontier);
        self.cold.push(state.cold);
        let mut start = (0, 0);
        for (part, end) in self.parts.iter_mut().zip(state.ends) {
            part.whole.values().append_slice(&state.whole[start.0..end.0]);
            part.real.values().append_slice(&state.real[start.1..end.1]);
            part.whole.append(true);
            part.real.append(true);
            start = end;
        }
    }

    /// The table; the next one starts empty.
    pub fn finish(&mut self) -> RecordBatch {
        let Self { ids, positions, newest, frontiers, cold, parts } = std::mem::take(self);
        let mut columns: Vec<(String, ArrayRef)> = vec![
            ("series".into(), Arc::new(StringArray::from_iter_values(ids))),
            ("position".into(), Arc::new(Int64Array::from(positions))),
            ("newest".into(), Arc::new(Int64Array::from(newest))),
            ("frontier".into(), Arc::new(Int64Array::from(frontiers))),
            ("cold".into(), Arc::new(BooleanArray::from(cold))),
        ];
        for (name, mut part) in PARTS.into_iter().zip(parts) {
            columns.push((name.into(), Arc::new(part.whole.finish())));
            columns.push((values_of(name), Arc::new(part.real.finish())));
        }
        let field = |(name, column): &(String, ArrayRef)| {
            Field::new(name, column.data_type().clone(), name == "newest")
        };
        let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
        let columns = columns.into_iter().map(|(_, column)| column).collect();
        RecordBatch::try_new(Arc::new(schema), columns).expect("every column has a row an id")
    }
}
