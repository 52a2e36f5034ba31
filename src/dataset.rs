//! History from Parquet: read through the first half of the line into what training learns from.

use std::path::Path;

use anyhow::Result;
use arrow::array::{Array, Float64Array, ListArray, RecordBatch};
use sha2::{Digest, Sha256};

use crate::config::{Order, Pipeline};
use tidecast_core::forecaster::{Histories, Unused};
use tidecast_tables::{ParquetInput, Range};
use tidecast_core::model::DataSummary;
use tidecast_core::series::{Capacity, Full, Keep, Refusal, Tally};
use tidecast_core::table::{Columns, Observations};
use tidecast_train::{History, Recorder};

/// A history and where it came from.
pub struct Dataset {
    pub history: History,
    pub summary: DataSummary,
    pub tally: Tally,
}

/// Reads the rows at `path` (a file, a folder or a pattern) as the pipeline would see them. `report` is told how many of
/// how many rows are read.
///
/// # Errors
/// If the files cannot be read or lack a column; they name the file.
pub fn read(pipeline: &Pipeline, path: &Path, mut report: impl FnMut(u64, u64)) -> Result<Dataset> {
    let order = pipeline.parquet_source.as_ref().map_or(Order::File, |source| source.order);
    let Pipeline { columns, rules, limits, train, .. } = pipeline;
    let input = ParquetInput::open(path, columns, pipeline.time_unit, order, Range::default(), None, limits)?;
    // A place that is given to another id would mix their histories: what training has no room for it leaves out.
    let capacity = Capacity { full: Full::Refuse, ..limits.capacity() };
    // Between two observed steps lies at most the longest gap.
    let keep = Keep { steps: 2, filled: rules.grid.steps_in(rules.max_gap) as usize };
    let mut histories = Histories::new(columns.clone(), rules.clone(), keep, train.horizon, capacity);
    let (mut recorder, mut tally, mut unused) = (Recorder::default(), Tally::default(), Unused::default());
    let mut fingerprint = Fingerprint::default();
    for batch in input.batches() {
        let batch = batch?;
        fingerprint.add(&batch.rows, columns);
        for _ in &batch.malformed {
            tally.rows += 1;
            tally.refuse(Refusal::Malformed);
        }
        histories.push(&batch.rows, &mut tally, &mut unused, |closing| recorder.add(rules, closing));
        // Only counted.
        unused = Unused::default();
        report(tally.rows, input.total_rows() as u64);
    }
    histories.finish(&histories.by_id(), &mut tally, &mut unused, |closing| recorder.add(rules, closing));
    let summary =
        DataSummary { fingerprint: fingerprint.finish(), rows: tally.rows, ..DataSummary::default() };
    Ok(Dataset { history: recorder.history, summary, tally })
}

/// A hash of rows in their order that depends on their values alone, not on files, types or batches.
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
            numbers.for_each(|column| self.number(column, i));
            observations.known_ahead.iter().for_each(|column| self.list(column, i));
        }
    }

    fn number(&mut self, column: &Float64Array, i: usize) {
        let bits = if column.is_valid(i) { column.value(i).to_bits() } else { u64::MAX };
        self.0.update(bits.to_le_bytes());
    }

    fn list(&mut self, column: &ListArray, i: usize) {
        self.0.update([u8::from(column.is_valid(i))]);
        if column.is_null(i) {
            return;
        }
        let values = column.value(i);
        self.0.update((values.len() as u64).to_le_bytes());
        if let Some(values) = values.as_any().downcast_ref::<Float64Array>() {
            (0..values.len()).for_each(|j| self.number(values, j));
        }
    }

    fn finish(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
