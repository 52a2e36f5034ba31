//! The messages of held candidates, and how they lie beside the state in a snapshot: a candidate that is rejected by a later
//! row, after a restart, too, goes to the rejects as it came.
//!
//! Every new id's first row is a candidate, so that what they take is bounded: beyond that only place and time of a message
//! are held, and whoever reads the rejects fetches its bytes from the source. What is held is decided by what is held
//! already, row by row, so that it is the same however the rows are cut, and after a restart between any two of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, Int64Array, Int64Builder, RecordBatch,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use bytes::Bytes;

use crate::Record;

/// The columns: null where an id holds no candidate, or its message is not at hand.
const KEY: &str = "candidate_key";
const PAYLOAD: &str = "candidate_payload";
const TIMESTAMP: &str = "candidate_timestamp";
const REPLAYS: &str = "candidate_replays";

/// Bytes of keys and payloads that a partition holds: the first messages of a hundred thousand new ids. A batch of a
/// snapshot with all of them is far from what a frame of its file, or Arrow's offsets, can say.
const BYTES: usize = 32 << 20;

/// Messages by offset, at most one an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Messages {
    records: BTreeMap<i64, Record>,
    bytes: usize,
    most: usize,
}

impl Default for Messages {
    fn default() -> Self {
        Self::within(BYTES)
    }
}

impl Messages {
    fn within(most: usize) -> Self {
        Self { records: BTreeMap::new(), bytes: 0, most }
    }

    /// Holds a message; without its bytes, if they are too many.
    pub fn hold(&mut self, record: &Record) {
        let record = if self.fits(record) { record.detached() } else { record.bare() };
        self.insert(record);
    }

    /// Lets go of the message at `offset`, if it is held.
    pub fn release(&mut self, offset: i64) -> Option<Record> {
        let record = self.records.remove(&offset)?;
        self.bytes -= record.bytes();
        Some(record)
    }

    /// Takes up those that a batch of a snapshot has beside its candidates.
    pub fn restore(&mut self, batch: &RecordBatch) {
        for record in messages(batch) {
            // They all fit, unless the file is from before there was a bound.
            let record = if self.fits(&record) { record } else { record.bare() };
            self.insert(record);
        }
    }

    fn fits(&self, record: &Record) -> bool {
        self.bytes.saturating_add(record.bytes()) <= self.most
    }

    fn insert(&mut self, record: Record) {
        self.bytes += record.bytes();
        if let Some(before) = self.records.insert(record.offset, record) {
            self.bytes -= before.bytes();
        }
    }
}

/// A batch of a snapshot with the messages of its candidates.
pub fn beside(batch: &RecordBatch, messages: &Messages) -> Result<RecordBatch> {
    let (mut keys, mut payloads) = (BinaryBuilder::new(), BinaryBuilder::new());
    let (mut timestamps, mut replays) = (Int64Builder::new(), Int64Builder::new());
    let offsets = offsets(batch);
    for row in 0..batch.num_rows() {
        let message = offsets.get(row).copied().flatten().and_then(|offset| messages.records.get(&offset));
        keys.append_option(message.and_then(|message| message.key.as_deref()));
        payloads.append_option(message.and_then(|message| message.payload.as_deref()));
        timestamps.append_option(message.and_then(|message| message.timestamp));
        replays.append_option(message.map(|message| i64::from(message.replays)));
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

/// The messages that a batch has beside its candidates. What is not as it should be is as good as not there: the message
/// is missing then, and the headers of its reject say where it is.
fn messages(batch: &RecordBatch) -> Vec<Record> {
    let (Some(keys), Some(payloads)) = (binary(batch, KEY), binary(batch, PAYLOAD)) else {
        return Vec::new();
    };
    let (Some(timestamps), Some(replays)) = (whole(batch, TIMESTAMP), whole(batch, REPLAYS)) else {
        return Vec::new();
    };
    let offsets = offsets(batch);
    let bytes =
        |column: &BinaryArray, row| column.is_valid(row).then(|| Bytes::copy_from_slice(column.value(row)));
    let message = |(row, offset): (usize, &Option<i64>)| {
        let offset = offset.filter(|_| replays.is_valid(row))?;
        Some(Record {
            offset,
            timestamp: timestamps.is_valid(row).then(|| timestamps.value(row)),
            key: bytes(keys, row),
            payload: bytes(payloads, row),
            replays: u8::try_from(replays.value(row)).unwrap_or(u8::MAX),
        })
    };
    offsets.iter().enumerate().filter_map(message).collect()
}

/// The offset of each id's candidate.
fn offsets(batch: &RecordBatch) -> Vec<Option<i64>> {
    let lists = batch.column_by_name("candidate").and_then(|column| column.as_list_opt::<i64>());
    let Some(lists) = lists.filter(|lists| lists.value_type() == DataType::Int64) else { return Vec::new() };
    let first = |row| lists.value(row).as_primitive::<Int64Type>().values().first().copied();
    (0..lists.len()).map(first).collect()
}

fn binary<'a>(batch: &'a RecordBatch, name: &str) -> Option<&'a BinaryArray> {
    batch.column_by_name(name)?.as_binary_opt::<i32>()
}

fn whole<'a>(batch: &'a RecordBatch, name: &str) -> Option<&'a Int64Array> {
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

    /// Out of a snapshot of ids whose candidates these are.
    fn restored(held: &Messages) -> Messages {
        let mut lists = LargeListBuilder::new(Int64Builder::new());
        held.records.keys().rev().for_each(|offset| lists.append_value([Some(*offset), Some(0)]));
        lists.append(true);
        let batch =
            RecordBatch::try_from_iter([("candidate", Arc::new(lists.finish()) as ArrayRef)]).unwrap();
        let mut again = Messages::within(held.most);
        again.restore(&beside(&batch, held).unwrap());
        again
    }

    #[test]
    fn what_is_held_is_bounded_and_the_same_after_a_restart_at_any_row() {
        let mut through = Messages::within(100);
        let mut restarted = through.clone();
        let mut bare = 0;
        for offset in 0..200 {
            // Up to a dozen are held at once, of up to 40 bytes.
            for held in [&mut through, &mut restarted] {
                held.hold(&record(offset, (offset * offset % 41) as usize));
                (offset % 3 == 0).then(|| held.release(offset - 12));
                (offset % 3 != 0).then(|| held.release(offset - 5));
            }
            restarted = restored(&restarted);
            assert_eq!(restarted, through);
            let sum: usize = through.records.values().map(Record::bytes).sum();
            assert_eq!((sum, sum <= 100), (through.bytes, true));
            bare += usize::from(through.records[&offset].payload.is_none());
        }
        assert!((20..180).contains(&bare), "{bare} without their bytes");
        assert_eq!(
            through.records[&199],
            Record { payload: through.records[&199].payload.clone(), ..record(199, 0) }
        );
    }
}
