//! Sources, sinks, codecs, the driver and the snapshot store: everything between the forecaster and the outside world.
//!
//! - [`batch`]: the data that moves through a pipeline, with the positions it belongs to
//! - [`connector`]: the contracts of a [`Source`] and a [`Sink`]
//! - [`codec`]: messages to rows, rows to JSON
//! - [`driver`]: the loop that pulls rows, forecasts, writes and commits
//! - [`state`]: snapshots of forecaster state in a folder or a bucket
//! - [`bootstrap`]: initial state from past observations
//! - [`partitioner`]: Kafka's partition of a key
//! - [`ndjson`], [`tee`]: sinks for standard output, and for forecasts with scores
//!
//! The partition is the unit of order and of ownership: its rows arrive in ascending positions, and a series never leaves
//! its partition. A position is always the *next* offset to read.

pub mod batch;
pub mod bootstrap;
pub mod codec;
pub mod connector;
pub mod driver;
pub mod ndjson;
pub mod partitioner;
pub mod read_error;
pub mod settings;
pub mod state;
pub mod tee;

pub use batch::{
    Batch, MalformedRecord, Output, Partition, Position, Positions, Record, Reject, SourceRecords,
};
pub use connector::{Assignment, CommittedPosition, Sink, Source, SourceClosed, SourceEvent, StartPosition};
pub use tee::ForecastAndScores;
