//! The forecaster of one partition: rows in, forecasts and scores out.
//!
//! Pure and synchronous. It knows no clock, file or thread and never fails on data. Its output is a function of the rows and
//! their order, however they are cut into batches:
//!
//! ```text
//! Forecaster::push
//!   SeriesStore::push             rows to the step buffers of their series
//!     StepBuffer::push            refuses rows, closes steps
//!       StepCloser::close         closed steps to the windows of their series
//!         RowProcessor::step_closed
//!           InferenceBatcher::step_closed    carried states advance, forecasts become pending
//!             InferenceBatcher::run          the network over many pending forecasts
//!               CalibrationQueue::run        scores and calibration in row order, outputs
//! ```
//!
//! The state of an id has a *slot* in the partition. Carried states and calibrations are stored per slot and target, which is
//! a *column*: `slot * targets + target`.

mod calibration_queue;
mod index;
mod inference;
mod inputs;
mod predictor;
mod restore;
mod series_store;
mod setup;
mod snapshot;
mod states;

use std::sync::Arc;

use arrow::array::RecordBatch;

pub use inputs::{InputBatch, ReadoutView, write_readout_features};
pub use predictor::{ExpertForecasts, OriginView, Predictor};
pub use restore::RestoreError;
pub use series_store::{
    CandidateChange, DroppedRow, RowDiagnostics, SeriesObserver, SeriesState, SeriesStore, StepContext,
    TargetState,
};
pub use setup::{Scoring, Setup};
pub use snapshot::{COPIED_BYTES_MAX, SNAPSHOT_BATCH_SERIES, SnapshotProgress};
pub use states::{CellStates, RecurrenceStates};

use crate::intervals::SeriesScores;
use crate::schema::{ForecastBuilder, OutputLabels, ScoreBuilder};
use crate::series::{Retention, RowCounters};
use calibration_queue::{OutputBuilders, OutputMode};
use inference::InferenceBatcher;
use snapshot::IncrementalSnapshot;

/// Result of a push.
#[derive(Debug)]
pub struct PushOutput {
    /// Forecasts by `schema::forecast_schema`, in the order of the rows that triggered them.
    pub forecasts: RecordBatch,
    /// Scores by `schema::score_schema`, in the order of the rows that ended their periods.
    pub scores: RecordBatch,
    pub dropped: Vec<DroppedRow>,
    /// In the order of the rows.
    pub candidate_changes: Vec<CandidateChange>,
    /// Counters of this push alone.
    pub counters: RowCounters,
}

/// The series of one partition, the model over them, and their forecasts.
pub struct Forecaster {
    setup: Arc<Setup>,
    store: SeriesStore,
    batcher: InferenceBatcher,
    outputs: OutputBuilders,
    snapshot: Option<IncrementalSnapshot>,
}

/// Observer of a push: closed steps go to the batcher, and changing series to a running snapshot.
struct RowProcessor<'a> {
    batcher: &'a mut InferenceBatcher,
    outputs: &'a mut OutputBuilders,
    snapshot: &'a mut Option<IncrementalSnapshot>,
    retention: Retention,
    mode: OutputMode,
}

impl SeriesObserver for RowProcessor<'_> {
    #[inline(always)]
    fn rows_ahead(&mut self, slot: usize) {
        self.batcher.prefetch(slot);
    }

    #[inline(always)]
    fn before_update(&mut self, slot: usize, state: &SeriesState) {
        if self.snapshot.is_some() {
            self.copy_before_write(slot, state);
        }
    }

    #[inline(always)]
    fn step_closed(&mut self, step: &StepContext<'_>) {
        self.batcher.step_closed(step, self.mode, self.outputs);
    }

    #[inline(always)]
    fn evicted(&mut self, slot: usize) {
        self.batcher.evict(slot, self.outputs);
    }
}

impl RowProcessor<'_> {
    #[cold]
    fn copy_before_write(&mut self, slot: usize, state: &SeriesState) {
        if let Some(snapshot) = self.snapshot {
            // Series with pending operations were copied before those, or changed before the snapshot began.
            snapshot.copy_before_write(slot, state, self.retention, self.batcher.states());
        }
    }
}

impl Forecaster {
    pub fn new(setup: Arc<Setup>) -> Self {
        let store = SeriesStore::new(
            setup.columns.clone(),
            setup.step_config.clone(),
            setup.retention(),
            setup.model.manifest.horizon,
            setup.capacity,
        );
        let labels = OutputLabels { every: setup.step_text.clone(), model: setup.model.hash.clone() };
        let forecasts = ForecastBuilder::new(&setup.levels, labels.clone());
        let outputs = OutputBuilders { forecasts, scores: ScoreBuilder::new(&setup.levels, labels) };
        Self { batcher: InferenceBatcher::new(setup.clone()), setup, store, outputs, snapshot: None }
    }

    /// Takes rows by `schema::Columns::schema`, in order.
    pub fn push(&mut self, rows: &RecordBatch) -> PushOutput {
        let mut diagnostics = RowDiagnostics::default();
        let (store, mut processor) = self.split(OutputMode::Emit);
        store.push(rows, &mut diagnostics, &mut processor);
        self.finish_push(diagnostics)
    }

    /// Takes rows whose output is known already: the state afterwards is that after a push.
    ///
    /// Returns the changes to candidates, in the order of the rows.
    pub fn replay(&mut self, rows: &RecordBatch) -> Vec<CandidateChange> {
        let mut diagnostics = RowDiagnostics::default();
        let (store, mut processor) = self.split(OutputMode::Replay);
        store.push(rows, &mut diagnostics, &mut processor);
        self.batcher.run(&mut self.outputs);
        diagnostics.candidate_changes
    }

    /// Closes all open steps at the end of the input, series by series in the order of their ids, `series_count` at a time.
    pub fn finish(&mut self, series_count: usize) -> impl Iterator<Item = PushOutput> {
        let mut remaining = self.store.slots_by_id().into_iter();
        std::iter::from_fn(move || {
            let slots: Vec<usize> = remaining.by_ref().take(series_count.max(1)).collect();
            if slots.is_empty() { None } else { Some(self.finish_series(&slots)) }
        })
    }

    /// Series by series, so that the output of each is contiguous for any `series_count`.
    fn finish_series(&mut self, slots: &[usize]) -> PushOutput {
        let mut diagnostics = RowDiagnostics::default();
        let (store, mut processor) = self.split(OutputMode::Emit);
        for &slot in slots {
            store.finish(&[slot], &mut diagnostics, &mut processor);
            let SeriesState { id, position, .. } = &store.series()[slot];
            processor.batcher.series_ended(slot, id, *position);
        }
        self.finish_push(diagnostics)
    }

    fn split(&mut self, mode: OutputMode) -> (&mut SeriesStore, RowProcessor<'_>) {
        let Self { store, batcher, outputs, snapshot, .. } = self;
        let retention = store.retention();
        (store, RowProcessor { batcher, outputs, snapshot, retention, mode })
    }

    fn finish_push(&mut self, diagnostics: RowDiagnostics) -> PushOutput {
        self.batcher.run(&mut self.outputs);
        let OutputBuilders { forecasts, scores } = &mut self.outputs;
        let RowDiagnostics { mut counters, dropped, candidate_changes } = diagnostics;
        counters.forecasts = forecasts.len() as u64;
        PushOutput {
            forecasts: forecasts.finish(),
            scores: scores.finish(),
            dropped,
            candidate_changes,
            counters,
        }
    }

    pub fn series_count(&self) -> usize {
        self.store.series().len()
    }

    /// Recent scores of each target of the series in `slot`, in the order of the first rows; empty without scoring.
    pub fn scores(&self, slot: usize) -> Vec<SeriesScores> {
        let targets = self.setup.columns.targets.len();
        let calibrator = self.batcher.states().calibrator;
        let columns = slot * targets..(slot + 1) * targets;
        calibrator.map_or(Vec::new(), |online| columns.map(|column| online.scores(column)).collect())
    }

    /// Number of series that can forecast all their targets. Visits every series.
    pub fn warm_series_count(&self) -> usize {
        let manifest = &self.setup.model.manifest;
        let is_warm = |target: &TargetState| {
            target.window.len() >= manifest.lookback && target.stats.count >= manifest.warmup
        };
        self.store.series().iter().filter(|series| series.targets.iter().all(is_warm)).count()
    }

    /// The state of every series, one row each in the order of the slots. Equal states give equal batches.
    pub fn snapshot(&self) -> RecordBatch {
        snapshot::snapshot(&self.store, self.batcher.states())
    }

    /// The same in batches of [`SNAPSHOT_BATCH_SERIES`] series, each built on demand.
    pub fn snapshot_batches(&mut self) -> impl Iterator<Item = RecordBatch> {
        self.begin_snapshot(COPIED_BYTES_MAX);
        std::iter::from_fn(move || {
            loop {
                match self.advance_snapshot(SNAPSHOT_BATCH_SERIES) {
                    SnapshotProgress::Pending => {}
                    SnapshotProgress::Batch(batch) => return Some(batch),
                    SnapshotProgress::Done => return None,
                }
            }
        })
    }

    /// Starts an incremental snapshot of the current state; a running one is aborted.
    ///
    /// Rows may be pushed before it is complete: series that change before they are read are copied, in about
    /// `copied_bytes_max` bytes ([`COPIED_BYTES_MAX`]) and the series of one more push.
    pub fn begin_snapshot(&mut self, copied_bytes_max: usize) {
        self.snapshot = Some(IncrementalSnapshot::new(&self.store, copied_bytes_max));
    }

    /// Reads up to `series_count` more series of the running snapshot. Without one it is done.
    pub fn advance_snapshot(&mut self, series_count: usize) -> SnapshotProgress {
        let Some(snapshot) = &mut self.snapshot else { return SnapshotProgress::Done };
        let progress = snapshot.advance(series_count, &self.store, self.batcher.states());
        if matches!(progress, SnapshotProgress::Done) {
            self.snapshot = None;
        }
        progress
    }

    pub fn snapshot_in_progress(&self) -> bool {
        self.snapshot.is_some()
    }

    /// True if the copies of a running snapshot reached their limit: it must advance before more rows are pushed.
    pub fn snapshot_over_budget(&self) -> bool {
        self.snapshot.as_ref().is_some_and(IncrementalSnapshot::is_over_budget)
    }

    pub fn abort_snapshot(&mut self) {
        self.snapshot = None;
    }

    /// Replaces all state by that of a snapshot.
    ///
    /// # Errors
    /// If the columns are not those of a snapshot of this pipeline, or a row is inconsistent.
    pub fn restore(&mut self, snapshot: &RecordBatch) -> Result<(), RestoreError> {
        let mut restored = Self::new(self.setup.clone());
        restored.restore_batch(snapshot)?;
        *self = restored;
        Ok(())
    }

    /// Adds the next batch of a snapshot to a forecaster that has its earlier batches and no other state.
    ///
    /// # Errors
    /// As [`Forecaster::restore`], and if a series is there already or the limit is exceeded. After an error the state is
    /// incomplete: discard the forecaster.
    pub fn restore_batch(&mut self, batch: &RecordBatch) -> Result<(), RestoreError> {
        let Self { setup, store, batcher, .. } = self;
        restore::restore_batch(batch, &setup.columns, setup.capacity.series, store, batcher.states_mut())
    }
}
