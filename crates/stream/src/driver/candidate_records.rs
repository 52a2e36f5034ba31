//! The messages of candidate rows, and their columns in a snapshot: a candidate that a later row rejects, possibly after a
//! restart, is written to the rejects with its original message.
//!
//! The first row of every new id is a candidate, so the retained bytes are bounded. Beyond the bound only the metadata of a
//! message is retained, and readers of the rejects fetch the bytes from the source. The messages retained so far decide, row
//! by row, whether the next one is. The result is therefore independent of batch boundaries and restarts.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, Int64Array, Int64Builder, RecordBatch,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use bytes::Bytes;
use tidecast_core::forecaster::CandidateChange;

use crate::{Record, SourceRecords};

/// Columns of a snapshot; null if an id has no candidate or the candidate no message.
const KEY: &str = "candidate_key";
const PAYLOAD: &str = "candidate_payload";
const TIMESTAMP: &str = "candidate_timestamp";
const REPLAYS: &str = "candidate_replays";

/// Bytes of keys and payloads retained per partition: the first messages of a hundred thousand ids. Even all in one batch
/// of a snapshot they are far below the limits of a frame and of Arrow's offsets.
const BYTES_MAX: usize = 32 << 20;

/// Messages by offset, at most one per id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CandidateRecords {
    records: BTreeMap<i64, Record>,
    bytes: usize,
    bytes_max: usize,
}

impl Default for CandidateRecords {
    fn default() -> Self {
        Self::with_limit(BYTES_MAX)
    }
}

impl CandidateRecords {
    fn with_limit(bytes_max: usize) -> Self {
        Self { records: BTreeMap::new(), bytes: 0, bytes_max }
    }

    /// Follows the candidates of a push: retains the messages of new ones from `source`, and removes those of decided ones.
    /// Returns the latter.
    pub fn update(&mut self, changes: &[CandidateChange], source: &SourceRecords) -> Vec<Record> {
        let mut decided = Vec::new();
        for CandidateChange { before, after } in changes {
            decided.extend(before.and_then(|offset| self.release(offset)));
            if let Some(record) = after.and_then(|offset| source.get(offset)) {
                self.retain(record);
            }
        }
        decided
    }

    /// Retains a message, without its bytes if they exceed the bound.
    fn retain(&mut self, record: &Record) {
        let record = if self.fits(record) { record.detached() } else { record.without_bytes() };
        self.insert(record);
    }

    /// Removes the message at `offset`.
    fn release(&mut self, offset: i64) -> Option<Record> {
        let record = self.records.remove(&offset)?;
        self.bytes -= record.byte_len();
        Some(record)
    }

    /// Adds the messages in a batch of a snapshot.
    pub fn restore(&mut self, batch: &RecordBatch) {
        for record in read_columns(batch) {
            let record = if self.fits(&record) { record } else { record.without_bytes() };
            self.insert(record);
        }
    }

    /// A batch of a snapshot, with columns for the messages of its candidates.
    pub fn add_columns(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let (mut keys, mut payloads) = (BinaryBuilder::new(), BinaryBuilder::new());
        let (mut timestamps, mut replays) = (Int64Builder::new(), Int64Builder::new());
        let offsets = candidate_offsets(batch);
        for row in 0..batch.num_rows() {
            let offset = offsets.get(row).copied().flatten();
            let record = offset.and_then(|offset| self.records.get(&offset));
            keys.append_option(record.and_then(|record| record.key.as_deref()));
            payloads.append_option(record.and_then(|record| record.payload.as_deref()));
            timestamps.append_option(record.and_then(|record| record.timestamp));
            replays.append_option(record.map(|record| i64::from(record.replays)));
        }
        let added: [(&str, ArrayRef); 4] = [
            (KEY, Arc::new(keys.finish())),
            (PAYLOAD, Arc::new(payloads.finish())),
            (TIMESTAMP, Arc::new(timestamps.finish())),
            (REPLAYS, Arc::new(replays.finish())),
        ];
        let mut fields: Vec<_> = batch.schema().fields().iter().cloned().collect();
        let mut columns = batch.columns().to_vec();
        for (name, column) in added {
            fields.push(Arc::new(Field::new(name, column.data_type().clone(), true)));
            columns.push(column);
        }
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }

    fn fits(&self, record: &Record) -> bool {
        self.bytes.saturating_add(record.byte_len()) <= self.bytes_max
    }

    fn insert(&mut self, record: Record) {
        self.bytes += record.byte_len();
        if let Some(previous) = self.records.insert(record.offset, record) {
            self.bytes -= previous.byte_len();
        }
    }
}

/// The messages in a batch of a snapshot. Invalid columns count as missing: the reject then has no message, but its headers
/// still contain the coordinates.
fn read_columns(batch: &RecordBatch) -> Vec<Record> {
    let (Some(keys), Some(payloads)) = (binary_column(batch, KEY), binary_column(batch, PAYLOAD)) else {
        return Vec::new();
    };
    let (Some(timestamps), Some(replays)) = (int_column(batch, TIMESTAMP), int_column(batch, REPLAYS)) else {
        return Vec::new();
    };
    let bytes =
        |column: &BinaryArray, row| column.is_valid(row).then(|| Bytes::copy_from_slice(column.value(row)));
    let mut records = Vec::new();
    for (row, offset) in candidate_offsets(batch).into_iter().enumerate() {
        let Some(offset) = offset.filter(|_| replays.is_valid(row)) else { continue };
        records.push(Record {
            offset,
            timestamp: timestamps.is_valid(row).then(|| timestamps.value(row)),
            key: bytes(keys, row),
            payload: bytes(payloads, row),
            replays: u8::try_from(replays.value(row)).unwrap_or(u8::MAX),
        });
    }
    records
}

/// The offset of each id's candidate.
fn candidate_offsets(batch: &RecordBatch) -> Vec<Option<i64>> {
    let lists = batch.column_by_name("candidate").and_then(|column| column.as_list_opt::<i64>());
    let Some(lists) = lists.filter(|lists| lists.value_type() == DataType::Int64) else { return Vec::new() };
    let first = |row| lists.value(row).as_primitive::<Int64Type>().values().first().copied();
    (0..lists.len()).map(first).collect()
}

fn binary_column<'a>(batch: &'a RecordBatch, name: &str) -> Option<&'a BinaryArray> {
    batch.column_by_name(name)?.as_binary_opt::<i32>()
}

fn int_column<'a>(batch: &'a RecordBatch, name: &str) -> Option<&'a Int64Array> {
    batch.column_by_name(name)?.as_primitive_opt::<Int64Type>()
}

#[cfg(test)]
mod tests {
    use arrow::array::LargeListBuilder;

    use super::*;

    fn record(offset: i64, bytes: usize) -> Record {
        let payload = Some(vec![offset as u8; bytes].into());
        Record { offset, timestamp: Some(7 * offset), payload, replays: 1, ..Record::default() }
    }

    /// Writes the records into a snapshot batch and restores them.
    fn restored(candidates: &CandidateRecords) -> CandidateRecords {
        let mut lists = LargeListBuilder::new(Int64Builder::new());
        candidates.records.keys().rev().for_each(|offset| lists.append_value([Some(*offset), Some(0)]));
        lists.append(true);
        let batch =
            RecordBatch::try_from_iter([("candidate", Arc::new(lists.finish()) as ArrayRef)]).unwrap();
        let mut restored = CandidateRecords::with_limit(candidates.bytes_max);
        restored.restore(&candidates.add_columns(&batch).unwrap());
        restored
    }

    #[test]
    fn retained_bytes_are_bounded_and_survive_a_restart_at_any_row() {
        let mut continuous = CandidateRecords::with_limit(100);
        let mut restarted = continuous.clone();
        let mut without_bytes = 0;
        for offset in 0..200 {
            // Up to a dozen candidates at once, of up to 40 bytes.
            for candidates in [&mut continuous, &mut restarted] {
                candidates.retain(&record(offset, (offset * offset % 41) as usize));
                (offset % 3 == 0).then(|| candidates.release(offset - 12));
                (offset % 3 != 0).then(|| candidates.release(offset - 5));
            }
            restarted = restored(&restarted);
            assert_eq!(restarted, continuous);
            let sum: usize = continuous.records.values().map(Record::byte_len).sum();
            assert_eq!((sum, sum <= 100), (continuous.bytes, true));
            without_bytes += usize::from(continuous.records[&offset].payload.is_none());
        }
        assert!((20..180).contains(&without_bytes), "{without_bytes} without their bytes");
        assert_eq!(
            continuous.records[&199],
            Record { payload: continuous.records[&199].payload.clone(), ..record(199, 0) }
        );
    }
}
