//! A partition that is ours: its forecaster, where it stands, and what is still owed for it.

use std::sync::Arc;

use arrow::array::RecordBatch;

use super::age::Age;
use super::held::Messages;
use tidecast_core::forecaster::{Forecaster, Held, Pushed, Refused, Setup};
use crate::{Batch, Malformed, Origins, Output, Partition, Position, Record, Reject};
use tidecast_core::series::{Refusal, Tally};
use tidecast_core::table::positions;

pub struct Lane {
    pub forecaster: Forecaster,
    /// The next row to push.
    pub next: Position,
    /// Rows below were written before: they are pushed to rebuild the state, and nothing of them is written or counted.
    pub silent_until: Position,
    /// Where the life of this state began.
    pub start: Position,
    /// It began with what a history had told it.
    pub warm: bool,
    /// Up to where all is durable.
    pub committed: Option<Position>,
    /// Of the snapshot that it came from.
    pub saved: Option<Position>,
    /// How long ago it was where a restart would put it.
    pub age: Age,
    /// Messages of rows that are held as candidates.
    pub held: Messages,
}

/// What came of a batch.
pub struct Done {
    pub output: Output,
    pub tally: Tally,
    /// The rows that it came of, and what was refused of them.
    pub rows: RecordBatch,
    pub refused: Vec<Refused>,
    pub next: Position,
    /// Positions whose rows were pushed for the state alone.
    pub reread: u64,
}

/// Below every position: nothing is silent.
const UNASSIGNED: Position = Position(i64::MIN);

impl Lane {
    /// One that knows nothing, and is to be read from `start`.
    pub fn new(setup: Arc<Setup>, start: Position) -> Self {
        Self {
            forecaster: Forecaster::new(setup),
            next: start,
            silent_until: start,
            start,
            warm: false,
            committed: None,
            saved: None,
            age: Age::default(),
            held: Messages::default(),
        }
    }

    /// That of an input that is not assigned: it starts where it starts.
    pub fn unassigned(setup: Arc<Setup>) -> Self {
        Self::new(setup, UNASSIGNED)
    }

    /// Positions whose rows are still to be pushed for the state alone.
    pub fn again(&self) -> u64 {
        match self.silent_until {
            UNASSIGNED => 0,
            until => until.0.saturating_sub(self.next.0).max(0) as u64,
        }
    }

    /// Pushes a batch. What came of rows whose output was written before is left out, and not counted.
    pub fn push(&mut self, batch: Batch) -> Done {
        let Batch { partition, rows, malformed, origins, next } = batch;
        let again = self.again();
        let (silent, live) = self.parted(rows);
        if silent.num_rows() > 0 {
            let held = self.forecaster.absorb(&silent);
            resolve(&mut self.held, &held, &origins);
        }
        // Nothing is written of what was written before: what it came from need not wait for the sink.
        let origins = origins.from(self.silent_until);
        let Pushed { forecasts, scores, refused, held, mut tally } = self.forecaster.push(&live);
        let decided = resolve(&mut self.held, &held, &origins);
        let malformed = malformed.into_iter().filter(|message| message.offset >= self.silent_until.0);
        let mut rejects: Vec<Reject> = malformed
            .map(|Malformed { offset, detail }| Reject { offset, reason: Refusal::Malformed, detail })
            .collect();
        for reject in &rejects {
            tally.rows += 1;
            tally.refuse(Refusal::Malformed);
            tracing::debug!(topic = %partition.topic, partition = partition.number, offset = reject.offset, detail = reject.detail, "malformed");
        }
        for Refused { position, reason, .. } in &refused {
            // Looked up only where somebody reads it.
            let key = || origins.at(*position).and_then(|record| record.key.as_deref()).unwrap_or_default();
            let (topic, number) = (&partition.topic, partition.number);
            tracing::debug!(
                %topic,
                partition = number,
                offset = position,
                series = %String::from_utf8_lossy(key()),
                "{reason}"
            );
        }
        rejects.extend(refused.iter().map(reject));
        rejects.sort_by_key(|reject| reject.offset);
        self.next = next;
        let output = Output { partition, forecasts, scores, rejects, origins: merged(decided, origins) };
        Done { output, tally, rows: live, refused, next, reread: again - self.again() }
    }

    /// Rows whose output was written before, and the others.
    fn parted(&self, rows: RecordBatch) -> (RecordBatch, RecordBatch) {
        let silent = match self.silent_until {
            UNASSIGNED => 0,
            until => positions(&rows).partition_point(|position| *position < until.0),
        };
        (rows.slice(0, silent), rows.slice(silent, rows.num_rows() - silent))
    }

    /// The input is over: writes what the partition still had to say, some ids at a time.
    pub fn finish(
        &mut self,
        partition: &Partition,
        ids_at_once: usize,
    ) -> impl Iterator<Item = (Output, Tally)> {
        let Self { forecaster, held: messages, .. } = self;
        let partition = partition.clone();
        forecaster.finish(ids_at_once).map(move |Pushed { forecasts, scores, refused, held, tally }| {
            let rejects = refused.iter().map(reject).collect();
            let records = resolve(messages, &held, &Origins::default());
            let (partition, origins) = (partition.clone(), Origins { records });
            (Output { partition, forecasts, scores, rejects, origins }, tally)
        })
    }
}

/// Follows the candidates through a push: `messages` are those that are held. Returns those of candidates that were decided
/// on in this one, as they were held.
fn resolve(messages: &mut Messages, held: &[Held], origins: &Origins) -> Vec<Record> {
    let mut records = Vec::new();
    for Held { before, after } in held {
        records.extend(before.and_then(|offset| messages.release(offset)));
        if let Some(record) = after.and_then(|offset| origins.at(offset)) {
            messages.hold(record);
        }
    }
    records
}

/// Candidates beside the messages of a batch, and in place of those that came with it: what is written of one is the same
/// wherever the batches are cut.
fn merged(decided: Vec<Record>, mut origins: Origins) -> Origins {
    let mut earlier = Vec::new();
    for record in decided {
        match origins.records.binary_search_by_key(&record.offset, |record| record.offset) {
            Ok(place) => origins.records[place] = record,
            Err(_) => earlier.push(record),
        }
    }
    if !earlier.is_empty() {
        earlier.extend(origins.records);
        earlier.sort_by_key(|record| record.offset);
        origins.records = earlier;
    }
    origins
}

fn reject(refused: &Refused) -> Reject {
    Reject { offset: refused.position, reason: refused.reason, detail: String::new() }
}
