//! Messages to rows and rows to messages: the seam where another format (Avro, Protobuf) would come in. Knows bytes,
//! columns and limits; no broker, no clock.
//!
//! A message either becomes exactly one row, under its own offset, or is [`Malformed`]; nothing it holds can touch the
//! row of another message. `json` says what is accepted.

mod field;
mod json;
mod time;
mod write;

#[cfg(test)]
mod tests;

use arrow::array::RecordBatch;

pub use write::RowWriter;

use crate::config::{Format, Limits, TimeUnit};
use crate::{Batch, Malformed, Origins, Partition, Position, Record};
use tidecast_core::table::Columns;

/// Reads the messages of one format.
pub enum Codec {
    Json(json::Json),
}

/// What came of some messages: every one of them is either a row or malformed, both ascending by offset.
pub struct Decoded {
    /// Observations by [`Columns::schema`].
    pub rows: RecordBatch,
    pub malformed: Vec<Malformed>,
}

impl Codec {
    pub fn new(format: Format, columns: &Columns, time_unit: TimeUnit, limits: &Limits) -> Self {
        match format {
            Format::Json => Codec::Json(json::Json::new(columns, time_unit, limits)),
        }
    }

    /// Reads messages of one partition, ascending by offset.
    pub fn decode(&self, messages: &[Record]) -> Decoded {
        match self {
            Codec::Json(json) => json.decode(messages),
        }
    }

    /// Reads messages of one partition into a batch.
    ///
    /// # Panics
    /// If there are no messages.
    pub fn batch(&self, partition: Partition, messages: Vec<Record>) -> Batch {
        let last = messages.last().expect("a batch is made of at least one message");
        let next = Position::after(last.offset);
        let Decoded { rows, malformed } = self.decode(&messages);
        Batch { partition, rows, malformed, origins: Origins { records: messages }, next }
    }
}
