//! The edges: where bytes become batches of observations and forecasts become bytes. All waiting, all failure and
//! all that the outside world can do wrong live here; the forecaster sees none of it.
//!
//! - `kafka/`    the consumer, the producer, and a broker inside the process (the only place that knows rdkafka)
//! - `parquet/`  reading and writing files (with `dataset`, the only places that know polars)
//! - `codec/`    messages to rows and forecasts to messages
//! - `ndjson`    forecasts as lines on standard output
//! - `once`      what is written at least once, or not at all by one whose partition has left
//! - `beside`    scores beside forecasts
//! - `memory`    a source and a sink for tests
//!
//! A partition is the unit of order and of ownership: rows of one partition come in the order of their positions, and
//! a series never leaves its partition. A position always means *the next one to read*.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::RecordBatch;
use bytes::Bytes;
use tokio::sync::oneshot;

pub use beside::WithScores;
pub use once::AtLeastOnce;

use tidecast_core::series::Refusal;
use tidecast_core::table::positions;

mod beside;
pub mod codec;
pub mod kafka;
pub mod memory;
pub mod ndjson;
mod once;
pub mod parquet;

/// A partition of a topic; a Parquet input is one partition, number 0 of its path.
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

/// The next offset (or row) to read of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub i64);

impl Position {
    /// The position once the row at `offset` is done.
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

/// One message as it came, kept until what came of its row is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub offset: i64,
    /// Milliseconds since the epoch, as the broker or its producer stamped it.
    pub timestamp: Option<i64>,
    pub key: Option<Bytes>,
    pub payload: Option<Bytes>,
    /// How often it was refused and sent through again.
    pub replays: u8,
}

impl Record {
    /// The same by itself: what it shares with other messages of its batch need not stay for it.
    pub fn detached(&self) -> Self {
        let own = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
        Self { key: self.key.as_ref().map(own), payload: self.payload.as_ref().map(own), ..*self }
    }

    /// The same without its bytes, which lie in the source for as long as it keeps them.
    pub fn bare(&self) -> Self {
        Self { key: None, payload: None, ..*self }
    }

    /// Bytes of its key and its payload.
    pub fn bytes(&self) -> usize {
        let bytes = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
        bytes(&self.key) + bytes(&self.payload)
    }
}

/// The messages that a batch, or what came of it, was made from, ascending by offset. Empty for inputs that are not messages.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    pub records: Vec<Record>,
}

impl Batch {
    /// The batch in pieces of at most `rows` rows, in order, each with what belongs to its rows. Every piece carries the
    /// position of the whole: it counts only once the last one is done.
    pub fn pieces(self, rows: usize) -> impl Iterator<Item = Batch> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let batch = rest.take()?;
            let (piece, more) = batch.cut(rows.max(1));
            rest = more;
            Some(piece)
        })
    }

    fn cut(mut self, rows: usize) -> (Batch, Option<Batch>) {
        if self.rows.num_rows() <= rows {
            return (self, None);
        }
        let next = positions(&self.rows)[rows];
        let messages = self.origins.records.partition_point(|record| record.offset < next);
        let flawed = self.malformed.partition_point(|message| message.offset < next);
        let more = Batch {
            partition: self.partition.clone(),
            rows: self.rows.slice(rows, self.rows.num_rows() - rows),
            malformed: self.malformed.split_off(flawed),
            origins: Origins { records: self.origins.records.split_off(messages) },
            next: self.next,
        };
        self.rows = self.rows.slice(0, rows);
        (self, Some(more))
    }
}

impl Origins {
    pub fn at(&self, offset: i64) -> Option<&Record> {
        let index = self.records.binary_search_by_key(&offset, |record| record.offset).ok()?;
        Some(&self.records[index])
    }

    /// Those at `position` and beyond.
    pub fn from(mut self, position: Position) -> Self {
        match self.records.partition_point(|record| record.offset < position.0) {
            0 => self,
            // What is left takes no more room than it needs.
            before => Self { records: self.records.split_off(before) },
        }
    }
}

/// Rows of one partition, and the position its input reaches once they are done.
#[derive(Clone, Debug)]
pub struct Batch {
    pub partition: Partition,
    /// Observations by `table::Columns::schema`.
    pub rows: RecordBatch,
    /// What could not become a row.
    pub malformed: Vec<Malformed>,
    pub origins: Origins,
    pub next: Position,
}

/// A message that could not be read, at `offset`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    pub offset: i64,
    pub detail: String,
}

/// A refused row on its way to the rejects. Its message is among the output's origins, unless it was held as a candidate
/// that came from a history; without its bytes where a candidate was held so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    pub offset: i64,
    pub reason: Refusal,
    /// What exactly was wrong; empty where the reason says it all.
    pub detail: String,
}

/// What came of a batch.
#[derive(Clone, Debug)]
pub struct Output {
    pub partition: Partition,
    /// Forecasts by `table::forecast_schema`.
    pub forecasts: RecordBatch,
    /// Scores by `table::score_schema`; none where nothing is scored.
    pub scores: RecordBatch,
    pub rejects: Vec<Reject>,
    pub origins: Origins,
}

/// What a source has to say.
#[derive(Debug)]
pub enum Event {
    /// A partition is ours from now on. Nothing of it is read until `start` is answered with where to read from.
    Assigned(Assigned),
    /// A partition is read from where was said; from now on its positions can be committed.
    Reading {
        partition: Partition,
        from: Position,
    },
    Rows(Batch),
    /// These partitions are no longer ours once `done` is answered: commit what is in flight for them before.
    Revoked {
        partitions: Vec<Partition>,
        done: oneshot::Sender<()>,
    },
    /// The input is over (never said by a source that waits for more).
    End,
}

#[derive(Debug)]
pub struct Assigned {
    pub partition: Partition,
    /// Where the last commit says to go on; `None` when nothing was ever committed.
    pub committed: Option<Committed>,
    /// Without a commit: that it begins anew is declared, rows that it needs being lost.
    pub anew: bool,
    /// Where to start without a commit, by the source's declared policy.
    pub fallback: Position,
    /// First position that still exists.
    pub low: Position,
    /// The first position of what the source would read again after a change, where that is declared.
    pub rewound: Option<Position>,
    /// Answer: where to start reading.
    pub start: oneshot::Sender<From>,
}

/// A committed position, and the note that whoever committed it left there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub position: Position,
    pub note: String,
}

/// Where to start reading a partition, and the note to leave with every position that is committed for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From {
    pub position: Position,
    /// Below it all is done already: no position under it is committed any more.
    pub resume: Position,
    pub note: String,
}

/// The source has stopped, for a reason that it says itself.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the kafka source has stopped; its positions were not committed")]
pub struct Stopped;

/// An input of rows.
pub trait Source {
    /// The next event. Cancel-safe: dropping the future loses nothing.
    fn next(&mut self) -> impl Future<Output = Result<Event>> + Send;

    /// Leaves the input in good order (a consumer leaves its group).
    fn close(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// An output of forecasts and rejects, which keeps the positions they came from.
pub trait Sink {
    /// Takes what came of a batch. It may stay in memory until the next commit.
    fn write(&mut self, output: Output) -> impl Future<Output = Result<()>> + Send;

    /// Makes what was written durable together with the positions it came from. Returns the positions below which all is
    /// durable and remembered now: a partition that is no longer ours is left out, and one whose file is still growing
    /// may be behind.
    fn commit(&mut self, reached: &Positions) -> impl Future<Output = Result<Positions>> + Send;

    /// Drops what was written and not committed of partitions that are no longer ours: their next owner writes it.
    fn forget(&mut self, partitions: &[Partition]) -> impl Future<Output = Result<()>> + Send;

    /// The input is over and all is committed: a file that waited for this gets its final name.
    fn finish(&mut self) -> impl Future<Output = Result<()>> + Send;
}
