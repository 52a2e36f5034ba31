//! The partitions that are ours, each with its forecaster: where they start, what comes out of them, and how far they
//! are durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, bail};
use arrow::array::RecordBatch;
use tokio::time::Instant;

use super::{Options, Progress, State};
use crate::config::{OnChange, Start};
use crate::forecaster::{Forecaster, Held, Pushed, Refused, Setup};
use crate::io::{
    Assigned, Batch, Malformed, Origins, Output, Partition, Position, Positions, Record, Reject, Sink, Source,
};
use crate::series::Refusal;
use crate::state::Found;
use crate::table::positions;

struct Lane {
    forecaster: Forecaster,
    /// The next row to push.
    next: Position,
    /// Rows below were written before: they are pushed to rebuild the state, and nothing of them is written or counted.
    silent_until: Position,
    /// Up to where the source took a commit.
    committed: Option<Position>,
    saved: Option<Position>,
    /// Where the life began whose state this is.
    start: Position,
    /// Messages of rows that are held as candidates, by offset: at most one an id. After a restart those from before it
    /// are missing.
    held: BTreeMap<i64, Record>,
}

/// Below every position: nothing is silent.
const UNASSIGNED: Position = Position(i64::MIN);

impl Lane {
    fn new(setup: Arc<Setup>, start: Position) -> Self {
        Self {
            forecaster: Forecaster::new(setup),
            next: start,
            silent_until: start,
            committed: None,
            saved: None,
            start,
            held: BTreeMap::new(),
        }
    }

    /// Pushes the rows whose output was written before; returns the others.
    fn pass_silently(&mut self, rows: RecordBatch) -> RecordBatch {
        let silent = match self.silent_until {
            UNASSIGNED => 0,
            until => positions(&rows).partition_point(|position| *position < until.0),
        };
        if silent > 0 {
            self.forecaster.absorb(&rows.slice(0, silent));
        }
        rows.slice(silent, rows.num_rows() - silent)
    }

    /// Keeps the state, unless it is not that of the committed position or is kept already.
    async fn save(&mut self, state: Option<&State>, partition: &Partition) -> Result<()> {
        let Some(State { store, .. }) = state else { return Ok(()) };
        if self.committed != Some(self.next) || self.saved == Some(self.next) {
            return Ok(());
        }
        store.save(partition, self.start, self.next, self.forecaster.snapshot_batches()).await?;
        store.prune(partition, self.start, self.next).await?;
        self.saved = Some(self.next);
        Ok(())
    }
}

pub struct Lanes {
    options: Options,
    lanes: BTreeMap<Partition, Lane>,
    uncommitted: Positions,
    uncommitted_rows: usize,
    /// Something came out since the last commit.
    undurable: bool,
    saved_at: Instant,
    progress: Progress,
}

impl Lanes {
    pub fn new(options: Options) -> Self {
        Self {
            options,
            lanes: BTreeMap::new(),
            uncommitted: Positions::new(),
            uncommitted_rows: 0,
            undurable: false,
            saved_at: Instant::now(),
            progress: Progress::default(),
        }
    }

    pub fn uncommitted_rows(&self) -> usize {
        self.uncommitted_rows
    }

    pub fn progress(&self) -> Progress {
        let series = self.lanes.values().map(|lane| lane.forecaster.series()).sum();
        Progress { series, ..self.progress.clone() }
    }

    /// Finds where a partition goes on, restores its state, and answers.
    pub async fn assign(&mut self, assigned: Assigned) -> Result<()> {
        let Assigned { partition, committed, fallback, low, start } = assigned;
        let (lane, first) = match committed {
            None => {
                // A life before this one: its states are of other rows.
                if let Some(state) = &self.options.state {
                    state.store.forget(&partition).await?;
                }
                (Lane::new(self.options.setup.clone(), fallback), fallback)
            }
            Some(committed) => self.resume(&partition, committed, low).await?,
        };
        tracing::info!(%partition, first = first.0, resume = lane.silent_until.0, "partition assigned");
        self.lanes.insert(partition, lane);
        // The source may be gone already; then nobody reads the partition.
        let _ = start.send(first);
        Ok(())
    }

    /// The lane of a partition with a commit, and where to read from.
    async fn resume(
        &self,
        partition: &Partition,
        committed: Position,
        low: Position,
    ) -> Result<(Lane, Position)> {
        let mut lane = Lane::new(self.options.setup.clone(), committed);
        let Some(State { store, on_change, .. }) = &self.options.state else {
            tracing::warn!(%partition, position = committed.0, "no [state] is kept: series warm up anew");
            return Ok((lane, committed));
        };
        let fresh = || Forecaster::new(self.options.setup.clone());
        let add = |forecaster: &mut Forecaster, batch: &RecordBatch| Ok(forecaster.restore_more(batch)?);
        let first = match store.newest(partition, None, committed, fresh, add).await? {
            Found::Snapshot { position, .. } if position < low => {
                bail!(
                    "{partition}: the snapshot at {position} lies below {low}, the first position the broker still has: the \
                     rows between them are lost; remove the partition's snapshots to start from what is left"
                );
            }
            Found::Snapshot { position, start, state } => {
                lane.forecaster = state;
                lane.saved = Some(position);
                lane.start = start;
                position
            }
            Found::Foreign(differences) if *on_change == OnChange::Fail => bail!(
                "{partition}: the kept state does not fit this pipeline: {}; go back, or set state.on_change = \"cold\"",
                differences.join(", ")
            ),
            Found::Foreign(differences) => {
                tracing::warn!(%partition, differences = differences.join(", "), "series start cold");
                committed
            }
            Found::Nothing => match self.options.start {
                Start::Earliest => low.min(committed),
                Start::Latest => {
                    tracing::warn!(%partition, position = committed.0, "there is no snapshot: series start cold");
                    committed
                }
                Start::Fail => bail!(
                    "{partition}: committed at {committed}, but there is no snapshot to go on from; \
                     set start = \"earliest\" to rebuild it, or \"latest\" to go on cold"
                ),
            },
        };
        lane.next = first;
        if lane.saved.is_none() {
            lane.start = first;
        }
        Ok((lane, first))
    }

    /// Pushes a batch through its partition's forecaster.
    pub fn push(&mut self, batch: Batch) -> Output {
        let Batch { partition, rows, malformed, origins, next } = batch;
        let setup = &self.options.setup;
        // Inputs that are not assigned (files) start where they start.
        let lane =
            self.lanes.entry(partition.clone()).or_insert_with(|| Lane::new(setup.clone(), UNASSIGNED));
        let live = lane.pass_silently(rows);
        let Pushed { forecasts, refused, held, mut tally } = lane.forecaster.push(&live);
        let origins = resolve(&mut lane.held, &held, origins);
        let malformed = malformed.into_iter().filter(|message| message.offset >= lane.silent_until.0);
        let mut rejects: Vec<Reject> = malformed
            .map(|Malformed { offset, detail }| Reject { offset, reason: Refusal::Malformed, detail })
            .collect();
        for reject in &rejects {
            tally.rows += 1;
            tally.refuse(Refusal::Malformed);
            tracing::debug!(%partition, offset = reject.offset, detail = reject.detail, "malformed");
        }
        rejects.extend(refused.iter().map(reject));
        rejects.sort_by_key(|reject| reject.offset);
        lane.next = next;
        self.undurable = true;
        self.progress.tally.add(&tally);
        self.progress.reached = Some(next);
        // A batch of nothing but skipped positions still moves on.
        self.uncommitted_rows += live.num_rows().max(1);
        if next >= lane.silent_until {
            self.uncommitted.insert(partition.clone(), next);
        }
        Output { partition, forecasts, rejects, origins }
    }

    /// The input is over: writes what each partition still had to say, some ids at a time.
    pub async fn finish(&mut self, sink: &mut impl Sink, ids_at_once: usize) -> Result<()> {
        for (partition, lane) in &mut self.lanes {
            let Lane { forecaster, held: messages, .. } = lane;
            for Pushed { forecasts, refused, held, tally } in forecaster.finish(ids_at_once) {
                self.progress.tally.add(&tally);
                self.undurable = true;
                let rejects = refused.iter().map(reject).collect();
                let origins = resolve(messages, &held, Origins::default());
                sink.write(&Output { partition: partition.clone(), forecasts, rejects, origins }).await?;
            }
        }
        Ok(())
    }

    /// Makes everything written durable, then the positions it came from; then states are kept, if it is time.
    pub async fn commit(&mut self, source: &mut impl Source, sink: &mut impl Sink) -> Result<()> {
        if self.undurable {
            sink.commit(&self.uncommitted).await?;
            self.undurable = false;
        }
        if !self.uncommitted.is_empty() {
            for (partition, position) in source.commit(&self.uncommitted).await? {
                if let Some(lane) = self.lanes.get_mut(&partition) {
                    lane.committed = Some(position);
                }
                self.progress.committed.insert(partition, position);
            }
            self.uncommitted.clear();
            self.uncommitted_rows = 0;
        }
        let every = self.options.state.as_ref().map(|state| state.every);
        if every.is_some_and(|every| self.saved_at.elapsed() >= every) {
            self.save_all().await?;
        }
        Ok(())
    }

    /// Keeps the state of every partition. Call it only when all that was pushed is committed.
    pub async fn save_all(&mut self) -> Result<()> {
        for (partition, lane) in &mut self.lanes {
            lane.save(self.options.state.as_ref(), partition).await?;
        }
        self.saved_at = Instant::now();
        Ok(())
    }

    /// Gives partitions up, their state kept for when they come back. Call it only when all that was pushed is committed.
    pub async fn drop(&mut self, partitions: &[Partition]) -> Result<()> {
        for partition in partitions {
            if let Some(mut lane) = self.lanes.remove(partition) {
                tracing::info!(%partition, position = lane.next.0, "partition given up");
                lane.save(self.options.state.as_ref(), partition).await?;
            }
        }
        Ok(())
    }

    /// Counts which series can forecast; walks over all of them.
    pub fn count_warm(&mut self) {
        self.progress.warm = self.lanes.values().map(|lane| lane.forecaster.warm()).sum();
    }
}

/// Follows the candidates through a push: `messages` are those that are held. Returns the origins with the messages of
/// candidates from earlier batches that were decided on in this one.
fn resolve(messages: &mut BTreeMap<i64, Record>, held: &[Held], origins: Origins) -> Origins {
    let mut records = Vec::new();
    for Held { before, after } in held {
        let decided = before.and_then(|offset| messages.remove(&offset));
        records.extend(decided.filter(|record| origins.at(record.offset).is_none()));
        if let Some(record) = after.and_then(|offset| origins.at(offset)) {
            messages.insert(record.offset, record.clone());
        }
    }
    records.extend(origins.records);
    records.sort_by_key(|record| record.offset);
    Origins { records }
}

fn reject(refused: &Refused) -> Reject {
    Reject { offset: refused.position, reason: refused.reason, detail: String::new() }
}
