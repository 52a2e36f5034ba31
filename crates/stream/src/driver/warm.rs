//! Series that know their past before their first message: the history in Parquet is pushed silently, each id in the
//! partition where the topic's producer places it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt64Array};
use arrow::compute::take;

use crate::config::{Limits, Order, TimeUnit};
use tidecast_core::forecaster::{Forecaster, Setup};
use crate::Position;
use tidecast_kafka::partition_of;
use tidecast_tables::{ParquetInput, Range};
use tidecast_core::table::{Columns, Observations};

/// A history, and how its rows are read.
#[derive(Clone, Debug)]
pub struct History {
    pub path: PathBuf,
    pub unit: TimeUnit,
    pub order: Order,
    pub limits: Limits,
    /// Rows at or after this time, in microseconds, are left out.
    pub until: Option<i64>,
}

impl History {
    /// The state of `wanted` partitions of so many after the history, where their rows go on at the positions given. A row
    /// of the history lies below all of them, at a position that is its number in the order in which it comes: nobody reads it
    /// there, but who has been silent longest is told by positions, and sorted by time those of the files would say it
    /// otherwise after a restart than before. `report` hears how many rows of how many are done.
    ///
    /// # Errors
    /// If the files cannot be read.
    pub fn push(
        &self,
        setup: &Arc<Setup>,
        partitions: i32,
        wanted: &BTreeMap<i32, Position>,
        mut report: impl FnMut(u64, u64),
    ) -> Result<BTreeMap<i32, Forecaster>> {
        let range = Range { since: None, until: self.until };
        let input =
            ParquetInput::open(&self.path, &setup.columns, self.unit, self.order, range, None, &self.limits)?;
        let total = input.total_rows();
        let mut states: BTreeMap<i32, Forecaster> =
            wanted.keys().map(|number| (*number, Forecaster::new(setup.clone()))).collect();
        let (mut places, mut done) = (Places::new(partitions), 0);
        for batch in input.batches() {
            let rows = batch?.rows;
            let first = done - total;
            done += rows.num_rows() as i64;
            for (number, own) in places.part(&rows, &setup.columns) {
                if let (Some(state), Some(next)) = (states.get_mut(&number), wanted.get(&number)) {
                    state.absorb(&chosen(&rows, &own, next.0 + first)?);
                }
            }
            report(done as u64, total as u64);
        }
        Ok(states)
    }
}

/// Where ids are.
struct Places {
    partitions: i32,
    rows: BTreeMap<i32, Vec<u64>>,
}

impl Places {
    fn new(partitions: i32) -> Self {
        Self { partitions, rows: BTreeMap::new() }
    }

    /// The rows of each partition.
    fn part(&mut self, rows: &RecordBatch, columns: &Columns) -> BTreeMap<i32, Vec<u64>> {
        let observations = Observations::new(rows, columns);
        for row in 0..observations.len() {
            let id = match observations.series {
                Some(series) if series.is_null(row) => continue,
                Some(series) => series.value(row),
                None => columns.only_series.as_str(),
            };
            let number = partition_of(id.as_bytes(), self.partitions);
            self.rows.entry(number).or_default().push(row as u64);
        }
        std::mem::take(&mut self.rows)
    }
}

/// Some rows, at positions by their places behind the first of all.
fn chosen(rows: &RecordBatch, own: &[u64], first: i64) -> Result<RecordBatch> {
    let own = UInt64Array::from(own.to_vec());
    let mut columns: Vec<ArrayRef> = rows
        .columns()
        .iter()
        .map(|column| take(column, &own, None))
        .collect::<std::result::Result<_, _>>()?;
    let places = own.values().iter().map(|row| first + *row as i64);
    columns[0] = Arc::new(Int64Array::from_iter_values(places));
    Ok(RecordBatch::try_new(rows.schema(), columns)?)
}
