//! The partitions that are ours, and those that are on their way to be.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::budget::Budgets;
use super::keep::Keeper;
use super::lane::{Done, Lane};
use super::start::{self, Facts, Life};
use super::weight::BYTES_MOST;
use super::writer::Writer;
use super::{Options, Progress};
use crate::{Assigned, Batch, From, Partition, Positions, Sink};

pub struct Lanes {
    options: Arc<Options>,
    lanes: BTreeMap<Partition, Lane>,
    /// Lanes whose state is being made up.
    starting: JoinSet<(Partition, u64, Result<Lane>)>,
    expected: BTreeMap<Partition, Expected>,
    starts: u64,
    uncommitted: Positions,
    keeper: Option<Keeper>,
    progress: Progress,
    budgets: Budgets,
}

/// A lane whose state is being made up.
struct Expected {
    /// Which of several starts of the partition counts.
    number: u64,
    began: Instant,
    /// Who is told where to read from.
    start: oneshot::Sender<From>,
    task: AbortHandle,
}

impl Lanes {
    pub fn new(options: Arc<Options>) -> Self {
        Self {
            budgets: Budgets::new(options.rejects.clone()),
            keeper: options.state.as_ref().map(Keeper::new),
            options,
            lanes: BTreeMap::new(),
            starting: JoinSet::new(),
            expected: BTreeMap::new(),
            starts: 0,
            uncommitted: Positions::new(),
            progress: Progress::default(),
        }
    }

    pub fn progress(&self) -> Progress {
        let lanes = self.lanes.values();
        let series = lanes.clone().map(|lane| lane.forecaster.series()).sum();
        let again = lanes.map(Lane::again).sum();
        Progress { series, again, ..self.progress.clone() }
    }

    /// Whether there is more than one that is ours.
    pub fn are_several(&self) -> bool {
        self.lanes.len() > 1
    }

    /// Those that are ours.
    pub fn partitions(&self) -> Vec<Partition> {
        self.lanes.keys().cloned().collect()
    }

    /// Begins to make up the state of a partition.
    pub fn assign(&mut self, assigned: Assigned) {
        let Assigned { partition, committed, anew, fallback, low, rewound, start } = assigned;
        self.starts += 1;
        let number = self.starts;
        let facts = Facts { partition: partition.clone(), committed, anew, fallback, low, rewound };
        let lane = start::lane(self.options.clone(), facts);
        let name = partition.clone();
        let task = self.starting.spawn(async move { (name, number, lane.await) });
        let expected = Expected { number, began: Instant::now(), start, task };
        if let Some(before) = self.expected.insert(partition, expected) {
            before.task.abort();
        }
    }

    pub fn is_starting(&self) -> bool {
        !self.starting.is_empty()
    }

    /// Waits for the next lane whose state is made up, and has it read. Cancel-safe.
    pub async fn started(&mut self) -> Result<()> {
        let Some(joined) = self.starting.join_next().await else { return Ok(()) };
        let (partition, number, lane) = match joined {
            Err(error) if error.is_cancelled() => return Ok(()),
            joined => joined.context("the start of a partition panicked")?,
        };
        if self.expected.get(&partition).is_none_or(|expected| expected.number != number) {
            // It was taken away meanwhile.
            return Ok(());
        }
        let Some(Expected { began, start, .. }) = self.expected.remove(&partition) else { return Ok(()) };
        let lane = lane?;
        let lineage = self.options.state.as_ref().map(|state| state.store.lineage().to_owned());
        let note = lineage.map_or(String::new(), |lineage| {
            let (start, warm) = (lane.start, lane.warm);
            Life { lineage, start, warm }.note()
        });
        if let Some(keeper) = &mut self.keeper {
            keeper.add(&partition, lane.saved);
        }
        let (first, resume, millis) = (lane.next.0, lane.silent_until.0, began.elapsed().as_millis() as u64);
        tracing::info!(topic = %partition.topic, partition = partition.number, first, resume, millis, "partition assigned");
        let from = From { position: lane.next, resume: lane.silent_until, note };
        self.lanes.insert(partition, lane);
        // The source may be gone already; then nobody reads the partition.
        let _ = start.send(from);
        Ok(())
    }

    /// A partition is read now. Where it begins is remembered before anything comes of it: it is not to be chosen again.
    /// Returns whether there is something to commit.
    pub fn reading(&mut self, partition: Partition) -> bool {
        let new = self.lanes.get(&partition).filter(|lane| lane.committed.is_none());
        let start = new.map(|lane| lane.next);
        self.uncommitted.extend(start.map(|start| (partition, start)));
        start.is_some()
    }

    /// Pushes batches of different partitions through their forecasters, side by side, and hands what comes of them to the
    /// writer in their order: as if they had been pushed one after the other.
    pub async fn push<S: Sink + Send + 'static>(
        &mut self,
        batches: Vec<Batch>,
        writer: &mut Writer<S>,
    ) -> Result<()> {
        let rows_at_once = self.options.setup.rows_at_once();
        let mut rest: Vec<_> = batches.into_iter().map(|batch| batch.pieces(rows_at_once)).collect();
        loop {
            // What comes of some rows is handed over before more are pushed: it can be large.
            let pieces: Vec<Batch> = rest.iter_mut().filter_map(Iterator::next).collect();
            if pieces.is_empty() {
                return Ok(());
            }
            writer.room().await?;
            self.push_pieces(pieces, writer).await?;
        }
    }

    async fn push_pieces<S: Sink + Send + 'static>(
        &mut self,
        batches: Vec<Batch>,
        writer: &mut Writer<S>,
    ) -> Result<()> {
        let setup = &self.options.setup;
        for Batch { partition, .. } in &batches {
            let lane = self.lanes.entry(partition.clone());
            let lane = lane.or_insert_with(|| Lane::unassigned(setup.clone()));
            if let Some(keeper) = &mut self.keeper {
                keeper.make_room(lane).await?;
            }
        }
        let mut lanes: BTreeMap<&Partition, &mut Lane> = self.lanes.iter_mut().collect();
        let work = batches.into_iter().map(|batch| {
            let lane = lanes.remove(&batch.partition).expect("one batch a partition, each with its lane");
            (lane, batch)
        });
        let work: Vec<(&mut Lane, Batch)> = work.collect();
        for (done, silent_until) in
            side_by_side(work, |(lane, batch)| (pushed(lane, batch), lane.silent_until))
        {
            self.budgets.count(&done);
            let Done { output, tally, next, reread, .. } = done;
            self.progress.reread += reread;
            self.progress.tally.add(&tally);
            self.progress.reached = Some(next);
            if next >= silent_until {
                self.uncommitted.insert(output.partition.clone(), next);
            }
            // A batch of nothing but skipped positions still moves on.
            writer.write(output, (tally.rows as usize).max(1));
        }
        Ok(())
    }

    /// The input is over: hands over what each partition still had to say, some ids at a time.
    pub async fn finish<S: Sink + Send + 'static>(
        &mut self,
        writer: &mut Writer<S>,
        ids_at_once: usize,
    ) -> Result<()> {
        for (partition, lane) in &mut self.lanes {
            for (output, tally) in lane.finish(partition, ids_at_once) {
                self.progress.tally.add(&tally);
                let rows = output.forecasts.num_rows().max(1);
                writer.write(output, rows);
                let kept = writer.kept();
                if kept.rows >= self.options.queue_rows || kept.bytes >= BYTES_MOST {
                    let durable = writer.flush(std::mem::take(&mut self.uncommitted)).await?;
                    self.progress.committed.extend(durable);
                }
            }
        }
        Ok(())
    }

    /// What is to stop the pipeline, once all that was pushed is committed.
    pub fn overrun(&mut self) -> Option<String> {
        self.budgets.overrun()
    }

    /// The positions that were reached since they were last taken.
    pub fn take_uncommitted(&mut self) -> Positions {
        std::mem::take(&mut self.uncommitted)
    }

    /// Takes note of positions that are durable.
    pub fn committed(&mut self, positions: Positions) {
        for (partition, position) in positions {
            if let Some(lane) = self.lanes.get_mut(&partition) {
                lane.committed = Some(position);
            }
            self.progress.committed.insert(partition, position);
        }
    }

    /// Until there is something to keep. Cancel-safe.
    pub fn keep_turn(&self) -> impl Future<Output = ()> + use<> {
        let turn = self.keeper.as_ref().map(Keeper::turn);
        async move {
            match turn {
                Some(turn) => turn.await,
                None => std::future::pending().await,
            }
        }
    }

    /// Keeps states, as far as it is time.
    pub async fn keep(&mut self) -> Result<()> {
        match &mut self.keeper {
            Some(keeper) => keeper.go_on(&mut self.lanes).await,
            None => Ok(()),
        }
    }

    /// Keeps the state of every partition, at the end.
    pub async fn keep_all(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.keep_all(&mut self.lanes).await;
        }
    }

    /// Gives partitions up. Who has them next starts from their newest snapshot.
    pub fn drop(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            self.budgets.forget(partition);
            if let Some(expected) = self.expected.remove(partition) {
                expected.task.abort();
            }
            self.uncommitted.remove(partition);
            if let Some(keeper) = &mut self.keeper {
                keeper.remove(partition);
            }
            if let Some(lane) = self.lanes.remove(partition) {
                tracing::info!(topic = %partition.topic, partition = partition.number, position = lane.next.0, "partition given up");
            }
        }
    }

    /// Counts which series can forecast; walks over all of them.
    pub fn count_warm(&mut self) {
        self.progress.warm = self.lanes.values().map(|lane| lane.forecaster.warm()).sum();
    }
}

fn pushed(lane: &mut Lane, batch: Batch) -> Done {
    let span = tracing::trace_span!(
        target: "spans",
        "batch",
        topic = %batch.partition.topic,
        partition = batch.partition.number,
        next = batch.next.0,
        rows = batch.rows.num_rows()
    );
    span.in_scope(|| lane.push(batch))
}

/// Does all of `work`, each in a thread of its own where there is one to be had; what comes of it is in the order of the work.
fn side_by_side<T: Send, R: Send>(work: Vec<T>, each: impl Fn(T) -> R + Sync) -> Vec<R> {
    let work: Vec<Mutex<Option<T>>> = work.into_iter().map(|part| Mutex::new(Some(part))).collect();
    let do_part = &|place: usize| {
        let part = work[place].lock().unwrap_or_else(PoisonError::into_inner).take();
        each(part.expect("each part is done once"))
    };
    thread::scope(|scope| {
        // Work that finds no thread stays where it is, and is done here.
        let spawn = |place| thread::Builder::new().spawn_scoped(scope, move || do_part(place)).ok();
        let others: Vec<_> = (1..work.len()).map(|place| (place, spawn(place))).collect();
        let first = (!work.is_empty()).then(|| do_part(0));
        let others = others.into_iter().map(|(place, thread)| match thread {
            Some(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            None => do_part(place),
        });
        first.into_iter().chain(others).collect()
    })
}
