//! All series of one partition: rows update their series, and every closed step goes to an observer.
//!
//! Training and serving share this half of the pipeline.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Float64Type;
use compact_str::CompactString;
use smallvec::{SmallVec, smallvec};

use super::index::{IdIndex, LruList};
use crate::prefetch;
use crate::schema::{Columns, Observations};
use crate::series::{
    Capacity, ClosedStep, CovariateWindow, OnFull, Refusal, Retention, Row, RowCounters, RowOutcome,
    RunningStats, StepBuffer, StepConfig, Verdict, Window, WindowUpdate,
};

/// Rows whose series are looked up together, so that the prefetched state arrives before it is read.
const LOOKUP_ROWS: usize = 32;

/// State of one target of one series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TargetState {
    pub window: Window,
    pub stats: RunningStats,
}

/// State of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesState {
    pub id: CompactString,
    pub steps: StepBuffer,
    pub targets: SmallVec<[TargetState; 1]>,
    pub covariates: Box<[CovariateWindow]>,
    /// Position of the latest accepted row; of the first row while none is accepted.
    pub position: i64,
}

impl SeriesState {
    /// Prefetches the memory that a row reads and writes besides the state itself.
    fn prefetch(&self) {
        self.steps.prefetch();
        for target in &self.targets {
            target.window.prefetch();
        }
    }
}

/// A closed step, after its values were added to the windows of its series.
pub struct StepContext<'a> {
    /// Index of the series in its partition. The slot of an evicted series is reused.
    pub slot: usize,
    pub id: &'a CompactString,
    /// Position of the row that closed the step.
    pub position: i64,
    pub step: i64,
    pub targets: &'a [TargetState],
    /// By target: the change to its window.
    pub updates: &'a [WindowUpdate],
    pub covariates: &'a [CovariateWindow],
    /// Covariates of this step alone, NaN where missing.
    pub covariate_values: &'a [f64],
    /// Future covariates, `[covariate x horizon]`; empty if the step's rows had none.
    pub future: &'a [f64],
    /// The series starts or restarts with this step.
    pub cold_start: bool,
}

/// Receives the effects of rows on the series of a partition, in the order of the rows.
///
/// A closure over [`StepContext`] is an observer of closed steps only.
pub trait SeriesObserver {
    /// Rows of the series in `slot` follow soon: its state may be prefetched.
    fn rows_ahead(&mut self, _slot: usize) {}

    /// The series in `slot` is about to change; `state` is its state before.
    fn before_update(&mut self, _slot: usize, _state: &SeriesState) {}

    fn step_closed(&mut self, step: &StepContext<'_>);

    /// The series in `slot` is removed, after its open steps closed; the slot goes to another series.
    fn evicted(&mut self, _slot: usize) {}
}

impl<F: FnMut(&StepContext<'_>)> SeriesObserver for F {
    #[inline]
    fn step_closed(&mut self, step: &StepContext<'_>) {
        self(step);
    }
}

/// Change to the candidate of a series: its position before and after a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CandidateChange {
    pub before: Option<i64>,
    pub after: Option<i64>,
}

/// A refused row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DroppedRow {
    /// The position of the row itself.
    pub position: i64,
    pub reason: Refusal,
    /// Position of the row that decided it: a later one for a candidate, else its own.
    pub decided_at: i64,
}

/// Counters of a batch, and the rows that were not accepted at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowDiagnostics {
    pub counters: RowCounters,
    pub dropped: Vec<DroppedRow>,
    /// In the order of the rows.
    pub candidate_changes: Vec<CandidateChange>,
}

impl RowDiagnostics {
    /// Adds the outcome of the row at `position`.
    fn record(&mut self, position: i64, outcome: &RowOutcome) {
        if let Some(candidate) = outcome.dropped_candidate {
            self.drop_row(DroppedRow { position: candidate, reason: Refusal::TooFar, decided_at: position });
        }
        if let Verdict::Refused(reason) = outcome.verdict {
            self.drop_row(DroppedRow { position, reason, decided_at: position });
        }
        self.counters.restarts += u64::from(outcome.restarted);
        self.counters.forced_closes += outcome.forced_closes;
    }

    /// A candidate is dropped together with its series or at the end of the input.
    fn drop_candidate(&mut self, row: DroppedRow) {
        self.drop_row(row);
        self.candidate_changes.push(CandidateChange { before: Some(row.position), after: None });
    }

    fn drop_row(&mut self, row: DroppedRow) {
        self.counters.refuse(row.reason);
        self.dropped.push(row);
    }
}

/// All series of one partition.
pub struct SeriesStore {
    columns: Arc<Columns>,
    config: StepConfig,
    retention: Retention,
    /// Values of a row for each future covariate.
    horizon: usize,
    capacity: Capacity,
    ids: IdIndex,
    /// The slot of the next row, while ids arrive in the order of their slots.
    next_slot: Option<usize>,
    series: Vec<SeriesState>,
    /// Built at the first eviction.
    lru: Option<LruList>,
    row: RowBuffers,
    updates: Vec<WindowUpdate>,
}

/// Values of one row; the buffers are reused for every row.
struct RowBuffers {
    targets: Vec<f64>,
    covariates: Vec<f64>,
    future: Vec<f64>,
}

impl SeriesStore {
    /// An empty store; `horizon` is the number of values of a future covariate.
    pub fn new(
        columns: Columns,
        config: StepConfig,
        retention: Retention,
        horizon: usize,
        capacity: impl Into<Capacity>,
    ) -> Self {
        Self {
            row: RowBuffers::new(&columns),
            columns: Arc::new(columns),
            config,
            retention,
            horizon,
            capacity: capacity.into(),
            ids: IdIndex::default(),
            next_slot: None,
            series: Vec::new(),
            lru: None,
            updates: Vec::new(),
        }
    }

    pub fn retention(&self) -> Retention {
        self.retention
    }

    /// Number of future covariate values in a row that has any.
    pub fn future_len(&self) -> usize {
        self.columns.future_covariates.len() * self.horizon
    }

    pub fn contains(&self, id: &str) -> bool {
        self.slot_of(id).is_some()
    }

    /// All series, by slot.
    pub fn series(&self) -> &[SeriesState] {
        &self.series
    }

    /// All slots, in the order of their ids.
    pub fn slots_by_id(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.series.len()).collect();
        order.sort_unstable_by(|a, b| self.series[*a].id.cmp(&self.series[*b].id));
        order
    }

    /// Adds a series in a new slot.
    pub fn insert(&mut self, state: SeriesState) {
        self.series.push(state);
        let series = &self.series;
        self.ids.insert(series.len() - 1, |slot| &series[slot].id);
    }

    /// Takes rows in order; `observer` receives their effects.
    pub fn push(
        &mut self,
        rows: &RecordBatch,
        diagnostics: &mut RowDiagnostics,
        observer: &mut impl SeriesObserver,
    ) {
        let columns = self.columns.clone();
        let observations = Observations::new(rows, &columns);
        let id =
            |i: usize| observations.series.map_or(columns.only_series.as_str(), |series| series.value(i));
        let (mut slots, mut evictions) = ([None; LOOKUP_ROWS], diagnostics.counters.evictions);
        for i in 0..observations.len() {
            if i % LOOKUP_ROWS == 0 {
                let next = i..observations.len().min(i + LOOKUP_ROWS);
                self.look_up(next.map(id), &mut slots);
                slots.iter().flatten().for_each(|slot| observer.rows_ahead(*slot));
                evictions = diagnostics.counters.evictions;
            }
            diagnostics.counters.rows += 1;
            let position = observations.positions.value(i);
            self.row.read(&observations, i, self.horizon);
            let slot = match slots[i % LOOKUP_ROWS] {
                // An eviction since the lookup may have given the slot to another series.
                Some(slot) if evictions == diagnostics.counters.evictions => Ok(slot),
                _ => self.slot_or_insert(id(i), position, diagnostics, observer),
            };
            let outcome = match slot {
                Ok(slot) => {
                    let before = self.candidate(slot);
                    observer.before_update(slot, &self.series[slot]);
                    let outcome = self.update(slot, position, observations.times.value(i), observer);
                    let after = self.candidate(slot);
                    if before != after {
                        diagnostics.candidate_changes.push(CandidateChange { before, after });
                    }
                    outcome
                }
                Err(reason) => RowOutcome::new(Verdict::Refused(reason)),
            };
            diagnostics.record(position, &outcome);
        }
    }

    /// Closes the open steps of the series in `slots` at the end of the input.
    pub fn finish(
        &mut self,
        slots: &[usize],
        diagnostics: &mut RowDiagnostics,
        observer: &mut impl SeriesObserver,
    ) {
        for &slot in slots {
            let decided_at = self.series[slot].position;
            if let Some(position) = self.close(slot, decided_at, observer) {
                diagnostics.drop_candidate(DroppedRow { position, reason: Refusal::TooFar, decided_at });
            }
        }
    }

    /// Looks up the series of the next rows and prefetches their states.
    ///
    /// Many sources cycle through their series in the order of the slots: then ids are compared, not hashed.
    fn look_up<'a>(
        &mut self,
        ids: impl Iterator<Item = &'a str> + Clone,
        slots: &mut [Option<usize>; LOOKUP_ROWS],
    ) {
        let after = |slot: usize| if slot + 1 < self.series.len() { slot + 1 } else { 0 };
        let mut next = self.next_slot;
        for (slot, id) in slots.iter_mut().zip(ids.clone()) {
            *slot = next.or_else(|| self.ids.guess(id));
            slot.iter().for_each(|slot| prefetch::value(&self.series[*slot]));
            next = next.map(after);
        }
        let (mut last, mut in_order) = (None, true);
        for (slot, id) in slots.iter_mut().zip(ids) {
            if slot.is_some_and(|slot| self.series[slot].id != id) {
                *slot = self.slot_of(id);
            }
            slot.iter().for_each(|slot| self.series[*slot].prefetch());
            in_order &= slot.is_some() && last.is_none_or(|last| *slot == Some(after(last)));
            last = *slot;
        }
        self.next_slot = last.filter(|_| in_order).map(after);
    }

    fn slot_of(&self, id: &str) -> Option<usize> {
        self.ids.get(id, |slot| &self.series[slot].id)
    }

    /// The slot of an id; a new id gets one with its first row, at `position`.
    fn slot_or_insert(
        &mut self,
        id: &str,
        position: i64,
        diagnostics: &mut RowDiagnostics,
        observer: &mut impl SeriesObserver,
    ) -> Result<usize, Refusal> {
        if let Some(slot) = self.slot_of(id) {
            return Ok(slot);
        }
        if !self.row.targets.iter().any(|value| value.is_finite()) {
            return Err(Refusal::NotFinite);
        }
        let is_full = self.series.len() >= self.capacity.series;
        if is_full && self.capacity.on_full == OnFull::Refuse {
            return Err(Refusal::TooManySeries);
        }
        let state = SeriesState {
            id: id.into(),
            steps: StepBuffer::default(),
            targets: smallvec![TargetState::default(); self.columns.targets.len()],
            covariates: vec![CovariateWindow::default(); self.columns.covariates.len()].into(),
            position,
        };
        if !is_full {
            self.insert(state);
            return Ok(self.series.len() - 1);
        }
        let slot = self.evict(position, diagnostics, observer);
        self.series[slot] = state;
        let series = &self.series;
        self.ids.insert(slot, |slot| &series[slot].id);
        self.touch(slot);
        Ok(slot)
    }

    /// Removes the least recently used series, after closing its open steps; returns its slot.
    fn evict(
        &mut self,
        position: i64,
        diagnostics: &mut RowDiagnostics,
        observer: &mut impl SeriesObserver,
    ) -> usize {
        let series = &self.series;
        let by_position = || LruList::new(series.iter().map(|series| series.position));
        let slot = self.lru.get_or_insert_with(by_position).oldest().expect("a full partition has series");
        if let Some(candidate) = self.close(slot, position, observer) {
            diagnostics.drop_candidate(DroppedRow {
                position: candidate,
                reason: Refusal::TooManySeries,
                decided_at: position,
            });
        }
        observer.evicted(slot);
        diagnostics.counters.evictions += 1;
        let series = &self.series;
        self.ids.remove(slot, |slot| &series[slot].id);
        slot
    }

    fn touch(&mut self, slot: usize) {
        if let Some(lru) = &mut self.lru {
            lru.touch(slot);
        }
    }

    /// Position of the candidate of a series.
    fn candidate(&self, slot: usize) -> Option<i64> {
        self.series[slot].steps.candidate().map(|candidate| candidate.position)
    }

    /// Adds the buffered row to a series.
    fn update(
        &mut self,
        slot: usize,
        position: i64,
        time: i64,
        observer: &mut impl SeriesObserver,
    ) -> RowOutcome {
        let (config, retention) = (&self.config, self.retention);
        let SeriesState { id, steps, targets, covariates, position: last_position } = &mut self.series[slot];
        let RowBuffers { targets: target_values, covariates: covariate_values, future } = &self.row;
        let row = Row { position, time, targets: target_values, covariates: covariate_values, future };
        let updates = &mut self.updates;
        let mut closer =
            StepCloser { config, retention, slot, id, position, targets, covariates, updates, observer };
        let latest = steps.latest_time;
        let outcome = steps.push(config, self.capacity.open_steps, row, |closed| closer.close(closed));
        // A refused row may have confirmed the candidate.
        if outcome.verdict == Verdict::Accepted || steps.latest_time != latest {
            *last_position = position;
            self.touch(slot);
        }
        outcome
    }

    /// Closes the open steps of a series because of the row at `position`; returns the position of the candidate, which
    /// is removed.
    fn close(&mut self, slot: usize, position: i64, observer: &mut impl SeriesObserver) -> Option<i64> {
        observer.before_update(slot, &self.series[slot]);
        let (config, retention) = (&self.config, self.retention);
        let SeriesState { id, steps, targets, covariates, .. } = &mut self.series[slot];
        let updates = &mut self.updates;
        let mut closer =
            StepCloser { config, retention, slot, id, position, targets, covariates, updates, observer };
        steps.finish(config, |closed| closer.close(closed))
    }
}

/// A series without its step buffer, to which closed steps are added.
struct StepCloser<'a, O> {
    config: &'a StepConfig,
    retention: Retention,
    slot: usize,
    id: &'a CompactString,
    position: i64,
    targets: &'a mut [TargetState],
    covariates: &'a mut [CovariateWindow],
    updates: &'a mut Vec<WindowUpdate>,
    observer: &'a mut O,
}

impl<O: SeriesObserver> StepCloser<'_, O> {
    /// Adds a closed step to the windows, then reports it.
    fn close(&mut self, closed: ClosedStep<'_>) {
        let Self { config, retention, .. } = *self;
        let ClosedStep { step, cold_start, .. } = closed;
        for (window, value) in self.covariates.iter_mut().zip(closed.covariates) {
            if cold_start {
                *window = CovariateWindow::default();
            }
            if value.is_finite() {
                window.push(config, retention.steps_max(), step, *value);
            }
        }
        self.updates.clear();
        for (target, value) in self.targets.iter_mut().zip(closed.targets) {
            if cold_start {
                target.window = Window::default();
            }
            self.updates.push(if value.is_finite() {
                target.stats.add(*value);
                target.window.push(config, retention, step, *value)
            } else {
                WindowUpdate::Missing
            });
        }
        self.observer.step_closed(&StepContext {
            slot: self.slot,
            id: self.id,
            position: self.position,
            step,
            targets: self.targets,
            updates: self.updates,
            covariates: self.covariates,
            covariate_values: closed.covariates,
            future: closed.future,
            cold_start,
        });
    }
}

impl RowBuffers {
    fn new(columns: &Columns) -> Self {
        let [targets, covariates] =
            [&columns.targets, &columns.covariates].map(|columns| vec![f64::NAN; columns.len()]);
        Self { targets, covariates, future: Vec::new() }
    }

    fn read(&mut self, observations: &Observations<'_>, i: usize, horizon: usize) {
        let targets = self.targets.iter_mut().zip(&observations.targets);
        let covariates = self.covariates.iter_mut().zip(&observations.covariates);
        for (out, column) in targets.chain(covariates) {
            let value = column.value(i);
            *out = if column.is_valid(i) && fits_f32(&value) { value } else { f64::NAN };
        }
        self.future.clear();
        if observations.future_covariates.iter().all(|lists| lists.is_null(i)) {
            return;
        }
        for lists in &observations.future_covariates {
            let values = lists.is_valid(i).then(|| lists.value(i));
            let values = values.as_ref().map(|values| values.as_primitive::<Float64Type>());
            let value = |step: usize| match values {
                Some(values) if step < values.len() && values.is_valid(step) => Some(values.value(step)),
                _ => None,
            };
            self.future.extend((0..horizon).map(|step| value(step).filter(fits_f32).unwrap_or(f64::NAN)));
        }
    }
}

/// Forecasts are f32, so a value beyond its range is treated as missing.
fn fits_f32(value: &f64) -> bool {
    value.abs() <= f64::from(f32::MAX)
}
