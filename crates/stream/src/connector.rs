//! The contracts between the driver and its two ends: [`Source`] and [`Sink`].

use anyhow::Result;
use tokio::sync::oneshot;

use crate::{Batch, Output, Partition, Position, Positions};

/// An input of rows.
///
/// A source emits nothing of a partition before the driver has answered its [`SourceEvent::Assigned`], then its rows in
/// ascending positions without repetition, and nothing after [`SourceEvent::Revoked`].
pub trait Source {
    /// The next event. Cancel-safe: dropping the future loses no event.
    fn next(&mut self) -> impl Future<Output = Result<SourceEvent>> + Send;

    /// Shuts the input down in order: a consumer leaves its group.
    fn close(&mut self) -> impl Future<Output = Result<()>> + Send;
}

#[derive(Debug)]
pub enum SourceEvent {
    /// A partition was assigned to this process. The source reads it once `reply` contains the start position.
    Assigned {
        assignment: Assignment,
        reply: oneshot::Sender<StartPosition>,
    },
    /// The source reads the partition from `position`; its positions can be committed from now on.
    ReadingStarted {
        partition: Partition,
        position: Position,
    },
    Batch(Batch),
    /// These partitions leave this process once `done` is answered; the driver commits their output before.
    Revoked {
        partitions: Vec<Partition>,
        done: oneshot::Sender<()>,
    },
    /// The input has ended. A source without an end never emits this.
    EndOfInput,
}

/// A partition assigned to this process, with the facts that determine its start position.
#[derive(Debug)]
pub struct Assignment {
    pub partition: Partition,
    /// The group's committed position, if there is one.
    pub committed: Option<CommittedPosition>,
    /// Without a committed position: the partition starts over by declared policy, because rows that it needs are lost.
    pub reset: bool,
    /// The start position without a committed one, by the source's policy.
    pub default_start: Position,
    /// The first position that still exists.
    pub log_start: Position,
    /// The position to replay from after a configuration change, if the source declares one.
    pub replay_from: Option<Position>,
}

/// A committed position and the metadata committed with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedPosition {
    pub position: Position,
    pub metadata: String,
}

/// The position at which to start reading a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartPosition {
    pub position: Position,
    /// Output below this position is already durable: rows below it are replayed for their state only, and no position below
    /// it is committed.
    pub replay_until: Position,
    /// Metadata to store with every committed position of the partition.
    pub metadata: String,
}

/// The source has closed. Its own error, if any, is the cause.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the source is closed; its positions were not committed")]
pub struct SourceClosed;

/// An output of forecasts, scores and rejects.
///
/// A transactional sink stores the input positions in the same transaction. Any other sink only makes its output durable, and
/// a wrapper commits the positions afterwards: at least once.
pub trait Sink {
    /// Accepts an output, which may stay in memory until the next commit.
    fn write(&mut self, output: Output) -> impl Future<Output = Result<()>> + Send;

    /// Makes the written outputs durable, and commits `reached`, the input positions after them.
    ///
    /// Returns the positions below which everything is durable. A partition that this process no longer owns is omitted. A
    /// position may be below its `reached` if the sink writes files: it is then the start of the current file, which is
    /// incomplete.
    fn commit(&mut self, reached: &Positions) -> impl Future<Output = Result<Positions>> + Send;

    /// Drops the uncommitted output of partitions that this process no longer owns. Their next owner writes it.
    fn discard(&mut self, partitions: &[Partition]) -> impl Future<Output = Result<()>> + Send;

    /// Completes the output after the end of the input and the last commit: an open file gets its final name.
    fn finish(&mut self) -> impl Future<Output = Result<()>> + Send;
}
