//! A partition with its forecaster: batches in, outputs out.

use std::sync::Arc;

use arrow::array::RecordBatch;
use tidecast_core::forecaster::{DroppedRow, Forecaster, PushOutput, Setup};
use tidecast_core::schema::positions;
use tidecast_core::series::{Refusal, RowCounters};

use super::candidate_records::CandidateRecords;
use crate::{Batch, MalformedRecord, Output, Partition, Position, Record, Reject, SourceRecords};

/// A partition with its forecaster and positions.
pub struct PartitionTask {
    pub forecaster: Forecaster,
    /// The next row to push.
    pub next: Position,
    /// Rows below are replayed: they update the state, but their output is neither written nor counted.
    pub replay_until: Position,
    /// The first row in the state.
    pub start: Position,
    /// The state began with a bootstrap history.
    pub bootstrapped: bool,
    /// All output below is durable.
    pub committed: Option<Position>,
    /// The newest snapshot when the task starts: the restored one, or the one written after a bootstrap.
    pub saved: Option<Position>,
    /// Messages of the candidate rows.
    pub candidates: CandidateRecords,
}

/// The result of pushing one batch.
pub struct BatchResult {
    pub output: Output,
    pub counters: RowCounters,
    /// The rows from `replay_until` on, which the reject budget counts.
    pub rows: RecordBatch,
    /// The refused ones among `rows`, and the earlier candidates that `rows` refused.
    pub dropped: Vec<DroppedRow>,
    pub next: Position,
    /// Positions that were replayed.
    pub replayed: u64,
    /// The replay goes on: `next` must not be committed yet.
    pub is_replay: bool,
}

/// Below every position: nothing is replayed.
const UNASSIGNED: Position = Position(i64::MIN);

impl PartitionTask {
    /// A task without state that reads from `start`.
    pub fn new(setup: Arc<Setup>, start: Position) -> Self {
        Self {
            forecaster: Forecaster::new(setup),
            next: start,
            replay_until: start,
            start,
            bootstrapped: false,
            committed: None,
            saved: None,
            candidates: CandidateRecords::default(),
        }
    }

    /// The task of an input without assignments, which determines its own start.
    pub fn unassigned(setup: Arc<Setup>) -> Self {
        Self::new(setup, UNASSIGNED)
    }

    /// Positions still to be replayed.
    pub fn replay_remaining(&self) -> u64 {
        match self.replay_until {
            UNASSIGNED => 0,
            until => until.0.saturating_sub(self.next.0).max(0) as u64,
        }
    }

    pub fn is_replaying(&self) -> bool {
        self.next < self.replay_until
    }

    /// Pushes a batch. Output below `replay_until` is omitted and not counted.
    pub fn push(&mut self, batch: Batch) -> BatchResult {
        let span = tracing::trace_span!(
            target: "spans",
            "batch",
            topic = %batch.partition.topic,
            partition = batch.partition.number,
            next = batch.next.0,
            rows = batch.rows.num_rows()
        );
        let _entered = span.enter();
        let Batch { partition, rows, malformed, source, next } = batch;
        let replay_remaining = self.replay_remaining();
        let (replayed, live) = self.split_replayed(rows);
        if replayed.num_rows() > 0 {
            let changes = self.forecaster.replay(&replayed);
            self.candidates.update(&changes, &source);
        }
        // Replayed rows have no output, so their messages need not wait for the sink.
        let source = source.starting_at(self.replay_until);
        let PushOutput { forecasts, scores, dropped, candidate_changes, mut counters } =
            self.forecaster.push(&live);
        let decided = self.candidates.update(&candidate_changes, &source);
        let mut rejects = Vec::new();
        for MalformedRecord { offset, detail } in malformed {
            if offset >= self.replay_until.0 {
                counters.rows += 1;
                counters.refuse(Refusal::Malformed);
                rejects.push(Reject { offset, reason: Refusal::Malformed, detail });
            }
        }
        rejects.extend(dropped.iter().map(reject));
        rejects.sort_by_key(|reject| reject.offset);
        log_rejects(&partition, &rejects, &source);
        self.next = next;
        let source = merge_decided(decided, source);
        BatchResult {
            output: Output { partition, forecasts, scores, rejects, source },
            counters,
            rows: live,
            dropped,
            next,
            replayed: replay_remaining - self.replay_remaining(),
            is_replay: self.is_replaying(),
        }
    }

    /// Splits rows at `replay_until`.
    fn split_replayed(&self, rows: RecordBatch) -> (RecordBatch, RecordBatch) {
        let replayed = match self.replay_until {
            UNASSIGNED => 0,
            until => positions(&rows).partition_point(|position| *position < until.0),
        };
        (rows.slice(0, replayed), rows.slice(replayed, rows.num_rows() - replayed))
    }

    /// Closes the open steps at the end of the input. Every output is of at most `series_max` series.
    pub fn close_steps(
        &mut self,
        partition: &Partition,
        series_max: usize,
    ) -> impl Iterator<Item = (Output, RowCounters)> {
        let Self { forecaster, candidates, .. } = self;
        forecaster.finish(series_max).map(
            move |PushOutput { forecasts, scores, dropped, candidate_changes, counters }| {
                let rejects = dropped.iter().map(reject).collect();
                let records = candidates.update(&candidate_changes, &SourceRecords::default());
                let (partition, source) = (partition.clone(), SourceRecords { records });
                (Output { partition, forecasts, scores, rejects, source }, counters)
            },
        )
    }
}

fn log_rejects(partition: &Partition, rejects: &[Reject], source: &SourceRecords) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    for Reject { offset, reason, detail } in rejects {
        let key = source.get(*offset).and_then(|record| record.key.as_deref()).unwrap_or_default();
        let series = String::from_utf8_lossy(key);
        tracing::debug!(topic = %partition.topic, partition = partition.number, offset, %series, detail, "{reason}");
    }
}

/// Adds the messages of decided candidates to those of a batch. A retained message replaces the batch's own, so that the
/// output is independent of batch boundaries.
fn merge_decided(decided: Vec<Record>, mut source: SourceRecords) -> SourceRecords {
    let mut earlier = Vec::new();
    for record in decided {
        match source.records.binary_search_by_key(&record.offset, |record| record.offset) {
            Ok(index) => source.records[index] = record,
            Err(_) => earlier.push(record),
        }
    }
    if !earlier.is_empty() {
        earlier.append(&mut source.records);
        earlier.sort_by_key(|record| record.offset);
        source.records = earlier;
    }
    source
}

fn reject(dropped: &DroppedRow) -> Reject {
    Reject { offset: dropped.position, reason: dropped.reason, detail: String::new() }
}
