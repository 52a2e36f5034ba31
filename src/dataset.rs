//! Parquet history of a pipeline: as a source of rows, and as training data.

use std::path::Path;

use anyhow::Result;
use arrow::array::{Array, Float64Array, ListArray, RecordBatch};
use sha2::{Digest, Sha256};

use tidecast_core::forecaster::{RowDiagnostics, SeriesStore, StepContext};
use tidecast_core::model::DataSummary;
use tidecast_core::schema::{Columns, Observations};
use tidecast_core::series::{Capacity, OnFull, Refusal, Retention, RowCounters};
use tidecast_tables::{ParquetSource, ReadOptions, RowFilter};
use tidecast_train::{History, HistoryRecorder};

use crate::config::Pipeline;

/// Opens the Parquet files at `path` (a file, a folder or a pattern) with the columns and the order of the pipeline.
///
/// # Errors
/// If a file cannot be read or lacks a column; the error names the file.
pub fn open_parquet(pipeline: &Pipeline, path: &Path, filter: RowFilter) -> Result<ParquetSource> {
    let (time_unit, order, id_bytes) =
        (pipeline.time_unit, pipeline.parquet_order(), pipeline.limits.id_bytes);
    ParquetSource::open(path, &pipeline.columns, ReadOptions { time_unit, order, filter, id_bytes })
}

/// A history for training, and its provenance.
pub struct Dataset {
    pub history: History,
    pub summary: DataSummary,
    pub counters: RowCounters,
}

/// Reads the rows at `path` (a file, a folder or a pattern) into series as the forecaster would. `on_progress` receives the
/// number of rows read and in total.
///
/// # Errors
/// If a file cannot be read or lacks a column; the error names the file.
pub fn read(pipeline: &Pipeline, path: &Path, mut on_progress: impl FnMut(u64, u64)) -> Result<Dataset> {
    let input = open_parquet(pipeline, path, RowFilter::default())?;
    let Pipeline { columns, step_config, limits, train, .. } = pipeline;
    // With eviction, the slot of a series would pass to another one and mix their histories.
    let capacity = Capacity { on_full: OnFull::Refuse, ..limits.capacity() };
    // Between two observed steps are at most the filled steps of the longest gap.
    let retention = Retention { steps: 2, filled: step_config.grid.steps_in(step_config.max_gap) as usize };
    let mut store =
        SeriesStore::new(columns.clone(), step_config.clone(), retention, train.horizon, capacity);
    let mut recorder = HistoryRecorder::default();
    let mut on_step = |step: &StepContext<'_>| recorder.record(step_config, step);
    let mut counters = RowCounters::default();
    let mut fingerprint = Fingerprint::default();
    for batch in input.batches() {
        let batch = batch?;
        fingerprint.add(&batch.rows, columns);
        for _ in &batch.malformed {
            counters.rows += 1;
            counters.refuse(Refusal::Malformed);
        }
        let mut diagnostics = RowDiagnostics::default();
        store.push(&batch.rows, &mut diagnostics, &mut on_step);
        counters.add(&diagnostics.counters);
        on_progress(counters.rows, input.total_rows() as u64);
    }
    let mut diagnostics = RowDiagnostics::default();
    store.finish(&store.slots_by_id(), &mut diagnostics, &mut on_step);
    counters.add(&diagnostics.counters);
    let summary =
        DataSummary { fingerprint: fingerprint.finish(), rows: counters.rows, ..DataSummary::default() };
    Ok(Dataset { history: recorder.history, summary, counters })
}

/// A hash of rows in order that depends only on their values, not on files, types or batches.
#[derive(Default)]
struct Fingerprint(Sha256);

impl Fingerprint {
    fn add(&mut self, rows: &RecordBatch, columns: &Columns) {
        let observations = Observations::new(rows, columns);
        for i in 0..observations.len() {
            if let Some(series) = observations.series {
                let id = series.value(i).as_bytes();
                self.0.update((id.len() as u64).to_le_bytes());
                self.0.update(id);
            }
            self.0.update(observations.times.value(i).to_le_bytes());
            let numbers = observations.targets.iter().chain(&observations.covariates);
            numbers.for_each(|column| self.add_number(column, i));
            observations.future_covariates.iter().for_each(|column| self.add_list(column, i));
        }
    }

    fn add_number(&mut self, column: &Float64Array, i: usize) {
        let bits = if column.is_valid(i) { column.value(i).to_bits() } else { u64::MAX };
        self.0.update(bits.to_le_bytes());
    }

    fn add_list(&mut self, column: &ListArray, i: usize) {
        self.0.update([u8::from(column.is_valid(i))]);
        if column.is_null(i) {
            return;
        }
        let values = column.value(i);
        self.0.update((values.len() as u64).to_le_bytes());
        if let Some(values) = values.as_any().downcast_ref::<Float64Array>() {
            (0..values.len()).for_each(|j| self.add_number(values, j));
        }
    }

    fn finish(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
