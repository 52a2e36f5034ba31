//! Initial state from past observations: the rows are replayed without output, each series in the partition that Kafka's
//! partitioner assigns to its id.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{Array, Int64Array, RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;
use tidecast_core::forecaster::{Forecaster, Setup};
use tidecast_core::schema::{Columns, Observations};

use crate::Position;
use crate::partitioner::partition_for_key;

/// Past observations that can be read any number of times.
#[derive(Clone)]
pub struct BootstrapHistory {
    /// The origin of the rows, for messages.
    pub name: String,
    pub open: Arc<OpenHistory>,
}

pub type OpenHistory = dyn Fn() -> Result<HistoryRows> + Send + Sync;

/// The rows of a history in order.
pub struct HistoryRows {
    /// An upper bound of the number of rows.
    pub total: i64,
    /// Observations, with the schema `schema::Columns::schema`.
    pub batches: Box<dyn Iterator<Item = Result<RecordBatch>>>,
}

impl fmt::Debug for BootstrapHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BootstrapHistory({})", self.name)
    }
}

impl BootstrapHistory {
    /// Builds the state of some of a topic's `partitions`: those with a start position in `starts`.
    ///
    /// The rows get consecutive positions below the start of their partition, in reading order. Eviction orders series by
    /// position; positions from the files would give another order after a restart if the files are not sorted by time.
    /// `report` receives the number of rows read and the total.
    ///
    /// # Errors
    /// If the rows cannot be read.
    pub fn build_states(
        &self,
        setup: &Arc<Setup>,
        partitions: i32,
        starts: &BTreeMap<i32, Position>,
        mut report: impl FnMut(u64, u64),
    ) -> Result<BTreeMap<i32, Forecaster>> {
        let HistoryRows { total, batches } = (self.open)()?;
        let mut states: BTreeMap<i32, Forecaster> =
            starts.keys().map(|number| (*number, Forecaster::new(setup.clone()))).collect();
        let mut read = 0;
        for rows in batches {
            let rows = rows?;
            let first = read - total;
            read += rows.num_rows() as i64;
            for (number, indices) in rows_by_partition(&rows, &setup.columns, partitions) {
                if let (Some(state), Some(start)) = (states.get_mut(&number), starts.get(&number)) {
                    state.replay(&select_rows(&rows, indices, start.0 + first)?);
                }
            }
            report(read as u64, total as u64);
        }
        Ok(states)
    }
}

/// The row indices of each partition.
fn rows_by_partition(rows: &RecordBatch, columns: &Columns, partitions: i32) -> BTreeMap<i32, Vec<u64>> {
    let observations = Observations::new(rows, columns);
    let mut indices: BTreeMap<i32, Vec<u64>> = BTreeMap::new();
    for row in 0..observations.len() {
        let id = match observations.series {
            Some(series) if series.is_null(row) => continue,
            Some(series) => series.value(row),
            None => columns.only_series.as_str(),
        };
        indices.entry(partition_for_key(id.as_bytes(), partitions)).or_default().push(row as u64);
    }
    indices
}

/// The rows at `indices`. The row at index 0 of `rows` would have position `first`.
fn select_rows(rows: &RecordBatch, indices: Vec<u64>, first: i64) -> Result<RecordBatch> {
    let indices = UInt64Array::from(indices);
    let mut columns = take_record_batch(rows, &indices)?.columns().to_vec();
    let positions = indices.values().iter().map(|index| first + *index as i64);
    columns[0] = Arc::new(Int64Array::from_iter_values(positions));
    Ok(RecordBatch::try_new(rows.schema(), columns)?)
}
