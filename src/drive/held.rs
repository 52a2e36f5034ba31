//! The messages of held candidates beside the state in a snapshot: a candidate that is rejected after a restart goes to the
//! rejects as it came, like any other.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, Int64Array, Int64Builder, RecordBatch,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use bytes::Bytes;

use crate::io::Record;

/// The columns: null where an id holds no candidate, or its message is not at hand.
const KEY: &str = "candidate_key";
const PAYLOAD: &str = "candidate_payload";
const TIMESTAMP: &str = "candidate_timestamp";
const REPLAYS: &str = "candidate_replays";

/// Messages by offset.
pub type Messages = BTreeMap<i64, Record>;

/// A batch of a snapshot with the messages of its candidates.
pub fn beside(batch: &RecordBatch, messages: &Messages) -> Result<RecordBatch> {
    let (mut keys, mut payloads) = (BinaryBuilder::new(), BinaryBuilder::new());
    let (mut timestamps, mut replays) = (Int64Builder::new(), Int64Builder::new());
    let offsets = offsets(batch);
    for row in 0..batch.num_rows() {
        let message = offsets.get(row).copied().flatten().and_then(|offset| messages.get(&offset));
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
pub fn messages(batch: &RecordBatch) -> Messages {
    let (Some(keys), Some(payloads)) = (binary(batch, KEY), binary(batch, PAYLOAD)) else {
        return Messages::new();
    };
    let (Some(timestamps), Some(replays)) = (whole(batch, TIMESTAMP), whole(batch, REPLAYS)) else {
        return Messages::new();
    };
    let offsets = offsets(batch);
    let bytes =
        |column: &BinaryArray, row| column.is_valid(row).then(|| Bytes::copy_from_slice(column.value(row)));
    let message = |(row, offset): (usize, &Option<i64>)| {
        let offset = offset.filter(|_| replays.is_valid(row))?;
        let record = Record {
            offset,
            timestamp: timestamps.is_valid(row).then(|| timestamps.value(row)),
            key: bytes(keys, row),
            payload: bytes(payloads, row),
            replays: u8::try_from(replays.value(row)).unwrap_or(u8::MAX),
        };
        Some((offset, record))
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
