//! Snapshots: the state of every series as an Arrow table, one row per series.
//!
//! | column | content |
//! |---|---|
//! | `series`, `position`, `latest_time`, `frontier`, `cold_start` | id, position of the latest accepted row, clock, first step not closed, whether no step has closed since a start |
//! | `recent_times` | last accepted times |
//! | `candidate`, `candidate_values` | position and time; targets, covariates, future covariates |
//! | `open_steps`, `open_steps_values` | per step: step, rows, count of times, times, count and latest time of each accumulator, time and length of the future covariates; values of the accumulators, future covariates |
//! | `windows`, `windows_values` | per target: last step, length, observed flags in words of 64 bits, count of observations; mean, sum of squared deviations, minimum, maximum, values |
//! | `covariates`, `covariates_values` | per covariate: last step, length; values |
//! | `recurrence`, `recurrence_values` | per target: length of the state, last step; last value, state. Length 0 alone before the first observation |
//! | `cells_values` | per target: state of carried cells |
//! | `calibration`, `calibration_values` | per target: 1 and the last step, or 0; trackers, scores and stored forecasts |
//!
//! Rows are in the order of the slots. Equal states give equal tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Builder, Int64Array, Int64Builder, LargeListBuilder, RecordBatch,
    StringArray,
};
use arrow::datatypes::{Field, Schema};
use compact_str::CompactString;

use super::series_store::{SeriesState, SeriesStore, TargetState};
use super::states::AuxStates;
use crate::series::Retention;

/// Series in a batch of a snapshot. Constant, so that equal states give equal files; a batch is some megabytes, which is
/// what a writer or reader holds at a time.
pub const SNAPSHOT_BATCH_SERIES: usize = 2048;

/// Default limit for copied states, in bytes: as much as a busy tenth of a second changes, and small compared with the state of a
/// million series.
pub const COPIED_BYTES_MAX: usize = 16 << 20;

/// Sections of a series' state in the order of their columns; each is a list of integers and a list of floats.
pub(super) const SECTIONS: [&str; 8] = [
    "recent_times",
    "candidate",
    "open_steps",
    "windows",
    "covariates",
    "recurrence",
    "cells",
    "calibration",
];

/// Name of the column of a section's floats.
pub(super) fn values_column(section: &str) -> String {
    format!("{section}_values")
}

/// The state of one series in compact form.
#[derive(Clone, Debug, Default)]
struct SeriesRecord {
    id: CompactString,
    position: i64,
    latest_time: Option<i64>,
    frontier: i64,
    cold_start: bool,
    /// Numbers of all sections, one after the other.
    integers: Vec<i64>,
    floats: Vec<f64>,
    /// End of each section in `integers` and `floats`.
    ends: [(usize, usize); SECTIONS.len()],
    /// Number of sections so far.
    sections: usize,
}

impl SeriesRecord {
    /// Overwrites the record with the state of the series in `slot`.
    fn fill(&mut self, state: &SeriesState, retention: Retention, slot: usize, aux: AuxStates<'_>) {
        let SeriesState { id, steps, targets, covariates, position } = state;
        (self.id, self.position, self.latest_time) = (id.clone(), *position, steps.latest_time);
        (self.frontier, self.cold_start) = (steps.frontier, steps.cold_start);
        self.integers.clear();
        self.floats.clear();
        self.sections = 0;
        self.integers.extend(steps.recent_times.iter());
        self.end_section();
        if let Some(candidate) = steps.candidate() {
            self.integers.extend([candidate.position, candidate.time]);
            self.floats.extend(candidate.values());
        }
        self.end_section();
        for step in steps.open_steps() {
            self.integers.extend([step.step, i64::from(step.rows), step.times.len() as i64]);
            self.integers.extend(&step.times);
            self.integers.extend(step.accumulators.iter().flat_map(|a| [i64::from(a.count), a.latest]));
            self.integers.extend([step.future_time, step.future.len() as i64]);
            self.floats.extend(step.accumulators.iter().map(|accumulator| accumulator.value));
            self.floats.extend(&step.future);
        }
        self.end_section();
        for TargetState { window, stats } in targets {
            let (values, observed) = window.tail(window.len().min(retention.steps)).unwrap_or_default();
            self.integers.extend([window.last_step, values.len() as i64]);
            self.integers.extend(observed.chunks(64).map(packed));
            self.integers.push(stats.count as i64);
            self.floats.extend([stats.mean, stats.m2, stats.min, stats.max]);
            self.floats.extend(values);
        }
        self.end_section();
        for window in covariates {
            let values = window.tail(retention.steps_max());
            self.integers.extend([window.last_step, values.len() as i64]);
            self.floats.extend(values);
        }
        self.end_section();
        self.fill_aux(slot * targets.len()..(slot + 1) * targets.len(), aux);
    }

    /// Appends the carried states of a series, whose targets have these columns.
    fn fill_aux(&mut self, columns: std::ops::Range<usize>, aux: AuxStates<'_>) {
        for column in columns.clone() {
            let state = aux.recurrence.map_or(&[][..], |states| states.column(column));
            self.integers.push(state.len() as i64);
            if let Some(last) = aux.recurrence.and_then(|states| states.last(column)) {
                self.integers.push(last.step);
                self.floats.push(last.value);
                self.floats.extend(state.iter().copied().map(f64::from));
            }
        }
        self.end_section();
        if let Some(cells) = aux.cells {
            self.floats.extend(columns.clone().flat_map(|column| cells.column(column)).map(f64::from));
        }
        self.end_section();
        if let Some(calibrator) = aux.calibrator {
            for column in columns {
                let last = calibrator.last(column);
                self.integers.push(i64::from(last.is_some()));
                self.integers.extend(last);
                self.floats.extend(calibrator.state(column).iter().copied().map(f64::from));
            }
        }
        self.end_section();
    }

    fn end_section(&mut self) {
        self.ends[self.sections] = (self.integers.len(), self.floats.len());
        self.sections += 1;
    }

    /// Approximate size in bytes.
    fn bytes(&self) -> usize {
        size_of::<Self>() + 8 * (self.integers.len() + self.floats.len())
    }
}

/// Flags as the bits of a word, the first one lowest.
fn packed(flags: &[bool]) -> i64 {
    flags.iter().rev().fold(0, |bits, flag| bits << 1 | i64::from(*flag))
}

/// The two columns of a section, one list per series.
#[derive(Default)]
struct SectionBuilder {
    integers: LargeListBuilder<Int64Builder>,
    floats: LargeListBuilder<Float64Builder>,
}

/// Builder of a snapshot table.
#[derive(Default)]
struct SnapshotBuilder {
    ids: Vec<CompactString>,
    positions: Vec<i64>,
    latest_times: Vec<Option<i64>>,
    frontiers: Vec<i64>,
    cold_starts: Vec<bool>,
    sections: [SectionBuilder; SECTIONS.len()],
}

impl SnapshotBuilder {
    fn len(&self) -> usize {
        self.ids.len()
    }

    fn append(&mut self, record: &SeriesRecord) {
        self.ids.push(record.id.clone());
        self.positions.push(record.position);
        self.latest_times.push(record.latest_time);
        self.frontiers.push(record.frontier);
        self.cold_starts.push(record.cold_start);
        let mut start = (0, 0);
        for (section, end) in self.sections.iter_mut().zip(record.ends) {
            section.integers.values().append_slice(&record.integers[start.0..end.0]);
            section.floats.values().append_slice(&record.floats[start.1..end.1]);
            section.integers.append(true);
            section.floats.append(true);
            start = end;
        }
    }

    /// The table; the builder is empty again.
    fn finish(&mut self) -> RecordBatch {
        let Self { ids, positions, latest_times, frontiers, cold_starts, sections } = std::mem::take(self);
        let mut columns: Vec<(String, ArrayRef)> = vec![
            ("series".into(), Arc::new(StringArray::from_iter_values(ids))),
            ("position".into(), Arc::new(Int64Array::from(positions))),
            (LATEST_TIME.into(), Arc::new(Int64Array::from(latest_times))),
            ("frontier".into(), Arc::new(Int64Array::from(frontiers))),
            ("cold_start".into(), Arc::new(BooleanArray::from(cold_starts))),
        ];
        for (section, mut builder) in SECTIONS.into_iter().zip(sections) {
            columns.push((section.into(), Arc::new(builder.integers.finish())));
            columns.push((values_column(section), Arc::new(builder.floats.finish())));
        }
        let field = |(name, column): &(String, ArrayRef)| {
            Field::new(name, column.data_type().clone(), name == LATEST_TIME)
        };
        let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
        let columns = columns.into_iter().map(|(_, column)| column).collect();
        RecordBatch::try_new(Arc::new(schema), columns).expect("every column has one row per series")
    }
}

/// The only nullable column: null before the first accepted row.
pub(super) const LATEST_TIME: &str = "latest_time";

/// Result of [`super::Forecaster::advance_snapshot`].
#[derive(Debug)]
pub enum SnapshotProgress {
    /// The current batch is not full yet.
    Pending,
    /// The next [`SNAPSHOT_BATCH_SERIES`] series, or fewer in the last batch. A store without series gives one empty batch.
    Batch(RecordBatch),
    /// All series were returned.
    Done,
}

/// A snapshot taken piece by piece between pushes.
///
/// It has the state at its start: a series that a push is about to change is copied first, all others are read in place.
/// So a push waits only for the copies of its own series.
pub(super) struct IncrementalSnapshot {
    /// Series at the start, and how many of them were read.
    series_count: usize,
    next_slot: usize,
    /// Series changed since the start and not read yet, as they were.
    copies: BTreeMap<usize, SeriesRecord>,
    copied_bytes: usize,
    copied_bytes_max: usize,
    builder: SnapshotBuilder,
    has_batch: bool,
    scratch: SeriesRecord,
}

impl IncrementalSnapshot {
    /// Starts a snapshot of the current state; copies may take about `copied_bytes_max` bytes.
    pub fn new(store: &SeriesStore, copied_bytes_max: usize) -> Self {
        Self {
            series_count: store.series().len(),
            next_slot: 0,
            copies: BTreeMap::new(),
            copied_bytes: 0,
            copied_bytes_max,
            builder: SnapshotBuilder::default(),
            has_batch: false,
            scratch: SeriesRecord::default(),
        }
    }

    /// Copies a series that is about to change, unless it was read or copied already.
    pub fn copy_before_write(
        &mut self,
        slot: usize,
        state: &SeriesState,
        retention: Retention,
        aux: AuxStates<'_>,
    ) {
        if (self.next_slot..self.series_count).contains(&slot) && !self.copies.contains_key(&slot) {
            self.scratch.fill(state, retention, slot, aux);
            // Cloning drops the spare capacity.
            let copy = self.scratch.clone();
            self.copied_bytes += copy.bytes();
            self.copies.insert(slot, copy);
        }
    }

    /// True if the copies have reached their limit.
    pub fn is_over_budget(&self) -> bool {
        self.copied_bytes >= self.copied_bytes_max
    }

    /// Reads up to `count` more series.
    pub fn advance(&mut self, count: usize, store: &SeriesStore, aux: AuxStates<'_>) -> SnapshotProgress {
        for slot in self.next_slot..self.series_count.min(self.next_slot.saturating_add(count)) {
            match self.copies.remove(&slot) {
                Some(copy) => {
                    self.copied_bytes -= copy.bytes();
                    self.builder.append(&copy);
                }
                None => {
                    self.scratch.fill(&store.series()[slot], store.retention(), slot, aux);
                    self.builder.append(&self.scratch);
                }
            }
            self.next_slot += 1;
            if self.builder.len() == SNAPSHOT_BATCH_SERIES {
                return self.finish_batch();
            }
        }
        match self.next_slot < self.series_count {
            true => SnapshotProgress::Pending,
            false if self.builder.len() > 0 || !self.has_batch => self.finish_batch(),
            false => SnapshotProgress::Done,
        }
    }

    fn finish_batch(&mut self) -> SnapshotProgress {
        self.has_batch = true;
        SnapshotProgress::Batch(self.builder.finish())
    }
}

/// The state of all series in one table.
pub(super) fn snapshot(store: &SeriesStore, aux: AuxStates<'_>) -> RecordBatch {
    let (mut builder, mut record) = (SnapshotBuilder::default(), SeriesRecord::default());
    for (slot, state) in store.series().iter().enumerate() {
        record.fill(state, store.retention(), slot, aux);
        builder.append(&record);
    }
    builder.finish()
}
