//! What is noted of the line while it works. All of it together is a lock that nobody holds for long, a few additions, and
//! a batch handed on by reference, once a batch; a board that is behind misses some.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use parking_lot::{FairMutex, FairMutexGuard};
use tokio::sync::{Semaphore, mpsc};

use super::board::{Board, Origin};
use super::facts::Facts;
use super::histogram::{Histogram, ROWS, SECONDS};
use super::line::{self, Line};
use super::pulse::Pulse;
use super::scored::Scored;
use super::stamps::Done;
use tidecast_stream::driver::Progress;
use tidecast_kafka::{Ends, Reach};
use tidecast_stream::{Assigned, Batch, Output, Partition, Position, Positions, Record};
use tidecast_stream::state::Store;

/// Bytes on their way to the board: a second of fifty thousand forecasts of a day of hours. More would only be memory for what is
/// old.
const WAITING: usize = 32 << 20;
/// Pages that may be open at once: each costs a message of some kilobytes four times a second.
const VIEWERS: usize = 64;

/// What the board is to see.
pub enum Seen {
    Rows(Origin, RecordBatch),
    Forecasts(RecordBatch),
    Scores(RecordBatch),
    /// These have left.
    Gone(Vec<Partition>),
}

impl Seen {
    /// About so many bytes: what its rows hold, not what they share with the rest of their batch.
    fn bytes(&self, facts: &Facts) -> usize {
        // An id, times, positions.
        let rows = |rows: &RecordBatch, numbers: usize| rows.num_rows() * (64 + numbers);
        let columns = &facts.columns;
        let inputs =
            columns.targets.len() + columns.covariates.len() + columns.known_ahead.len() * facts.horizon;
        match self {
            Self::Rows(_, observed) => rows(observed, inputs * size_of::<f64>()),
            Self::Forecasts(said) => {
                rows(said, facts.horizon * (1 + 2 * facts.levels.len()) * size_of::<f32>())
            }
            Self::Scores(scores) => rows(scores, (8 + facts.levels.len()) * size_of::<f64>()),
            Self::Gone(_) => 0,
        }
    }
}

/// What the routes answer from.
pub struct Shared {
    pub facts: Arc<Facts>,
    pub counts: Counts,
    line: Mutex<Line>,
    /// In turns: a stream that never pauses would leave none to the pages.
    board: FairMutex<Board>,
    pulse: Mutex<Pulse>,
    ends: OnceLock<Ends>,
    store: OnceLock<Arc<Store>>,
    pub viewers: Arc<Semaphore>,
}

/// What is counted rather than kept.
pub struct Counts {
    pub batch_rows: Histogram,
    /// From a record's timestamp to the commit of what came of it.
    pub latency: Histogram,
    pub commits: Histogram,
    pub commit_rows: Histogram,
    pub snapshots: Histogram,
    pub snapshots_failed: AtomicU64,
    pub scored: Scored,
    /// Bytes on their way to the board.
    waiting: AtomicUsize,
    /// Batches that the board did not see.
    pub unseen: AtomicU64,
}

#[derive(Clone)]
pub struct Observer {
    shared: Arc<Shared>,
    feed: mpsc::UnboundedSender<Seen>,
}

impl Observer {
    pub fn new(facts: Arc<Facts>) -> (Self, mpsc::UnboundedReceiver<Seen>) {
        let (feed, seen) = mpsc::unbounded_channel();
        let counts = Counts {
            batch_rows: Histogram::new(ROWS),
            latency: Histogram::new(SECONDS),
            commits: Histogram::new(SECONDS),
            commit_rows: Histogram::new(ROWS),
            snapshots: Histogram::new(SECONDS),
            snapshots_failed: AtomicU64::new(0),
            scored: Scored::new(facts.scoring.as_ref(), facts.levels.len()),
            waiting: AtomicUsize::new(0),
            unseen: AtomicU64::new(0),
        };
        let shared = Shared {
            board: FairMutex::new(Board::new(facts.clone())),
            pulse: Mutex::new(Pulse::new(&counts)),
            facts,
            counts,
            line: Mutex::default(),
            ends: OnceLock::new(),
            store: OnceLock::new(),
            viewers: Arc::new(Semaphore::new(VIEWERS)),
        };
        (Self { shared: Arc::new(shared), feed }, seen)
    }

    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Where to ask how far the partitions reach.
    pub fn ends(&self, ends: Ends) {
        // It is said once.
        let _ = self.shared.ends.set(ends);
    }

    /// Where to ask which snapshots were kept.
    pub fn store(&self, store: Arc<Store>) {
        let _ = self.shared.store.set(store);
    }

    pub fn progress(&self, progress: &Progress) {
        self.shared.line().progress(progress);
    }

    pub(super) fn assigned(&self, assigned: &Assigned) {
        let committed = assigned.committed.as_ref().map(|committed| committed.position.0);
        self.shared.line().assigned(&assigned.partition, committed);
    }

    pub(super) fn reading(&self, partition: &Partition, from: Position) {
        self.shared.line().reading(partition, from.0);
    }

    pub(super) fn revoked(&self, partitions: &[Partition]) {
        self.shared.line().revoked(partitions);
        self.feed(Seen::Gone(partitions.to_vec()));
    }

    pub(super) fn rows(&self, batch: &Batch) {
        let rows = batch.rows.num_rows() + batch.malformed.len();
        let resumed = self.shared.line().rows(&batch.partition, batch.next.0);
        // What is read again only makes up a state.
        if resumed.is_none_or(|resumed| batch.next.0 > resumed) {
            self.shared.counts.batch_rows.observe(rows as f64);
        }
        let origin = Origin { partition: batch.partition.number, goes_on: resumed.is_some() };
        self.feed(Seen::Rows(origin, batch.rows.clone()));
    }

    pub(super) fn output(&self, output: &Output) {
        if !output.rejects.is_empty() {
            self.shared.line().output(output, &self.shared.facts.rejected);
        }
        if output.forecasts.num_rows() > 0 {
            self.feed(Seen::Forecasts(output.forecasts.clone()));
        }
        if output.scores.num_rows() > 0 {
            self.shared.counts.scored.add(&output.scores);
            self.feed(Seen::Scores(output.scores.clone()));
        }
    }

    fn feed(&self, seen: Seen) {
        let (counts, bytes) = (&self.shared.counts, seen.bytes(&self.shared.facts));
        // That a partition has left is always said.
        if bytes > 0 && counts.waiting.load(Relaxed) >= WAITING {
            counts.unseen.fetch_add(1, Relaxed);
            return;
        }
        counts.waiting.fetch_add(bytes, Relaxed);
        // Where the board has ended, the program is about to.
        let _ = self.feed.send(seen);
    }

    /// The records of an output that had not been committed before: the others only make up a state again.
    pub(super) fn fresh<'a>(&self, output: &'a Output) -> &'a [Record] {
        let records = &output.origins.records;
        let from = self.shared.line().partitions.get(&output.partition).and_then(|stand| stand.resumed);
        &records[from.map_or(0, |from| records.partition_point(|record| record.offset < from))..]
    }

    pub(super) fn committed(&self, positions: &Positions, took: Duration, done: &Done) {
        let counts = &self.shared.counts;
        counts.commits.observe(took.as_secs_f64());
        counts.commit_rows.observe(done.rows as f64);
        let now = line::now_ms() as i64;
        for (stamp, rows) in &done.stamps {
            counts.latency.observe_all((now - stamp).max(0) as f64 / 1e3, *rows);
        }
        self.shared.line().committed(positions);
    }
}

impl Shared {
    // What is behind a lock is whole after every statement; who panicked with it has been reported.
    pub fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn board(&self) -> FairMutexGuard<'_, Board> {
        self.board.lock()
    }

    /// Shows the board what has come.
    pub fn show(&self, seen: &Seen) {
        match seen {
            Seen::Rows(origin, rows) => self.board().rows(*origin, rows),
            Seen::Forecasts(rows) => self.board().forecasts(rows),
            Seen::Scores(rows) => self.board().scores(rows),
            Seen::Gone(partitions) => {
                let numbers: Vec<i32> = partitions.iter().map(|partition| partition.number).collect();
                self.board().gone(&numbers);
            }
        }
        self.counts.waiting.fetch_sub(seen.bytes(&self.facts), Relaxed);
    }

    pub fn pulse(&self) -> MutexGuard<'_, Pulse> {
        self.pulse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn ends(&self) -> BTreeMap<i32, Reach> {
        self.ends.get().map(Ends::all).unwrap_or_default()
    }

    /// Once a second.
    pub fn tick(&self) {
        let series = self.line().series;
        self.board().tick(series);
        for kept in self.store.get().map(|store| store.keeping().take()).unwrap_or_default() {
            self.counts.snapshots.observe(kept.took.as_secs_f64());
            if !kept.safe {
                self.counts.snapshots_failed.fetch_add(1, Relaxed);
                let detail = format!("the snapshot at {} failed", kept.position);
                self.line().happen("not kept", &kept.partition, detail);
            }
        }
        let ends = self.ends();
        let (tally, lag, is_stale) = {
            let line = self.line();
            (line.tally.clone(), line.lag(&ends), line.last_rows.map(|at| at.elapsed()))
        };
        self.pulse().sample(&self.counts, &tally, lag, is_stale);
    }

    /// Why it is not ready, if it is not.
    pub fn unready(&self) -> Option<String> {
        let ends = self.ends();
        let line = self.line();
        if line.partitions.is_empty() {
            return Some("no partition is assigned".to_owned());
        }
        if let Some((partition, _)) = line.partitions.iter().find(|(_, stand)| !stand.is_reading) {
            return Some(format!("the state of {partition} is being made up"));
        }
        match line.lag(&ends) {
            None => Some("the ends of the partitions are not known yet".to_owned()),
            Some(lag) if lag > self.facts.ready_lag => {
                Some(format!("{lag} rows behind, more than serve.ready_lag = {}", self.facts.ready_lag))
            }
            Some(_) => None,
        }
    }
}
