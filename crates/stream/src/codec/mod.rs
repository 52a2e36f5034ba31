//! Codecs: messages to rows in the format of the source, and rows to JSON messages.
//!
//! The input format is a setting, the output is always JSON ([`RowWriter`]). Another input format (Avro, Protobuf) is added to
//! [`Codec`]. It also needs a writer of observations for `replay` and `demo` (`ObservationWriter` in the Kafka crate), and a
//! text form of rejected messages.
//!
//! A message becomes exactly one row, at its own offset, or a [`MalformedRecord`]. No message affects the row of another.
//! The codecs know bytes, columns and limits; no broker and no clock. [`json`] documents the accepted input.

mod json;
mod row_writer;
mod timestamp;

use arrow::array::RecordBatch;
use tidecast_core::schema::Columns;
use tidecast_core::time::TimeUnit;

pub use row_writer::RowWriter;

use crate::settings::{Limits, MessageFormat};
use crate::{Batch, MalformedRecord, Partition, Position, Record, SourceRecords};

/// A decoder for one message format.
pub enum Codec {
    Json(json::JsonDecoder),
}

/// The decoded messages, each a row or malformed; both are ascending by offset.
pub struct Decoded {
    /// Observations, with the schema [`Columns::schema`].
    pub rows: RecordBatch,
    pub malformed: Vec<MalformedRecord>,
}

impl Codec {
    pub fn new(format: MessageFormat, columns: &Columns, time_unit: TimeUnit, limits: &Limits) -> Self {
        match format {
            MessageFormat::Json => Codec::Json(json::JsonDecoder::new(columns, time_unit, limits)),
        }
    }

    /// Decodes messages of one partition, ascending by offset.
    pub fn decode(&self, messages: &[Record]) -> Decoded {
        match self {
            Codec::Json(json) => json.decode(messages),
        }
    }

    /// Decodes messages of one partition into a batch that retains them.
    ///
    /// # Panics
    /// If `messages` is empty.
    pub fn decode_into_batch(&self, partition: Partition, messages: Vec<Record>) -> Batch {
        let last = messages.last().expect("a batch has at least one message");
        let next = Position::after(last.offset);
        let Decoded { rows, malformed } = self.decode(&messages);
        Batch { partition, rows, malformed, source: SourceRecords { records: messages }, next }
    }
}
