//! Partitions, positions, and the batches and outputs that carry them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use tidecast_core::schema::positions;
use tidecast_core::series::Refusal;

/// A partition of a topic. A Parquet input is partition 0 of its path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    pub topic: Arc<str>,
    pub number: i32,
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.number)
    }
}

/// The next offset (or row number) to read of a partition. The core calls the offset of a row itself its position;
/// [`Position::after`] converts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub i64);

impl Position {
    /// The position after the row at `offset`.
    pub fn after(offset: i64) -> Self {
        Self(offset + 1)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

pub type Positions = BTreeMap<Partition, Position>;

/// A source message. It is retained until the output of its row is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub offset: i64,
    /// Milliseconds since the epoch, set by the broker or the producer.
    pub timestamp: Option<i64>,
    pub key: Option<Bytes>,
    pub payload: Option<Bytes>,
    /// The number of times this message was rejected and sent again.
    pub replays: u8,
}

impl Record {
    /// A deep copy, which does not retain the shared buffer of the other messages.
    pub fn detached(&self) -> Self {
        let copy = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
        Self { key: self.key.as_ref().map(copy), payload: self.payload.as_ref().map(copy), ..*self }
    }

    /// A copy without key and payload, which can still be fetched from the source.
    pub fn without_bytes(&self) -> Self {
        Self { key: None, payload: None, ..*self }
    }

    /// Bytes of key and payload.
    pub fn byte_len(&self) -> usize {
        let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        len(&self.key) + len(&self.payload)
    }
}

/// The messages behind a batch or an output, ascending by offset. Empty for inputs that are not messages.
#[derive(Clone, Debug, Default)]
pub struct SourceRecords {
    pub records: Vec<Record>,
}

impl SourceRecords {
    pub fn get(&self, offset: i64) -> Option<&Record> {
        let index = self.records.binary_search_by_key(&offset, |record| record.offset).ok()?;
        Some(&self.records[index])
    }

    /// The records at or after `position`.
    pub fn starting_at(mut self, position: Position) -> Self {
        match self.records.partition_point(|record| record.offset < position.0) {
            0 => self,
            // `split_off` allocates only what remains.
            earlier => Self { records: self.records.split_off(earlier) },
        }
    }
}

/// Rows of one partition, and the position of the input after them.
#[derive(Clone, Debug)]
pub struct Batch {
    pub partition: Partition,
    /// Observations, with the schema `schema::Columns::schema`.
    pub rows: RecordBatch,
    pub malformed: Vec<MalformedRecord>,
    pub source: SourceRecords,
    pub next: Position,
}

impl Batch {
    /// Splits the batch into batches of at most `max_rows` rows, in order. Each carries the position of the whole batch,
    /// which is reached only when the last one is processed.
    pub fn split(self, max_rows: usize) -> impl Iterator<Item = Batch> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let (batch, remainder) = rest.take()?.split_at(max_rows.max(1));
            rest = remainder;
            Some(batch)
        })
    }

    fn split_at(mut self, rows: usize) -> (Batch, Option<Batch>) {
        if self.rows.num_rows() <= rows {
            return (self, None);
        }
        let first = positions(&self.rows)[rows];
        let records = self.source.records.partition_point(|record| record.offset < first);
        let malformed = self.malformed.partition_point(|record| record.offset < first);
        let remainder = Batch {
            partition: self.partition.clone(),
            rows: self.rows.slice(rows, self.rows.num_rows() - rows),
            malformed: self.malformed.split_off(malformed),
            source: SourceRecords { records: self.source.records.split_off(records) },
            next: self.next,
        };
        self.rows = self.rows.slice(0, rows);
        (self, Some(remainder))
    }
}

/// A message that could not be decoded into a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MalformedRecord {
    pub offset: i64,
    pub detail: String,
}

/// A refused row, to be written to the rejects.
///
/// [`Output::source`] contains its message, with two exceptions: there is no message if the row comes from a bootstrap
/// history, and only its metadata if the message was too large to retain with its candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    pub offset: i64,
    pub reason: Refusal,
    /// Details of the fault; empty if `reason` is sufficient.
    pub detail: String,
}

/// The forecaster's output for one batch.
#[derive(Clone, Debug)]
pub struct Output {
    pub partition: Partition,
    /// Forecasts, with the schema `schema::forecast_schema`.
    pub forecasts: RecordBatch,
    /// Scores, with the schema `schema::score_schema`; empty if scoring is off.
    pub scores: RecordBatch,
    pub rejects: Vec<Reject>,
    pub source: SourceRecords,
}
