//! The only loop: pull rows, push them through their partition's forecaster, hand over what comes out, commit, stop.
//!
//! The sink works beside it: while one commit is under way, the rows of the next are pulled and pushed already. State is
//! never rewound: what is not known to be durable is kept by the sink and said again.

mod age;
mod budget;
mod held;
mod keep;
mod lane;
mod lanes;
mod pace;
mod start;
mod warm;
mod weight;
mod writer;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::FutureExt;
use tokio::time::Instant;

use crate::config::{Commit, Deleted, Start};
use tidecast_core::forecaster::Setup;
use crate::{Batch, Event, Position, Positions, Sink, Source, Stopped};
use tidecast_core::series::Tally;
use crate::state::Store;
pub use budget::{Allowance, Budget, Counted, Overrun};
use lanes::Lanes;
use pace::Pace;
pub use start::Life;
pub use warm::History;
use weight::BYTES_MOST;
use writer::Writer;

/// How a pipeline is driven.
#[derive(Debug)]
pub struct Options {
    pub setup: Arc<Setup>,
    pub commit: Commit,
    pub state: Option<State>,
    /// Rows whose output may wait for the sink.
    pub queue_rows: usize,
    /// Where a partition starts that has a commit and no state to go with it.
    pub start: Start,
    /// What to do where rows that a partition needs are deleted.
    pub deleted: Deleted,
    /// Whether the end of the input closes what time alone held open.
    pub finish: bool,
    /// How many rows may be rejected; `None` is as many as come.
    pub rejects: Option<Allowance>,
}

/// Where states are kept.
#[derive(Debug)]
pub struct State {
    pub store: Arc<Store>,
    /// From one snapshot of a partition to the next.
    pub every: Duration,
    pub bytes_per_second: u64,
    /// After so long past the newest good snapshot of a partition the pipeline stops.
    pub age_most: Duration,
    pub on_change: OnChange,
}

/// What to do where the state is another pipeline's.
#[derive(Debug)]
pub enum OnChange {
    /// Stop and name what differs.
    Fail,
    /// Go on without any history.
    Cold,
    /// Read the topic again from where the source says.
    Replay,
    /// Learn the past of a topic with so many partitions from files.
    Warm { history: History, partitions: i32, turn: tokio::sync::Mutex<()> },
}

/// How far it has come.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    pub tally: Tally,
    /// Ids, and how many of them can forecast.
    pub series: usize,
    pub warm: usize,
    /// Positions whose rows are still to be read again, for states that are older than what is committed.
    pub again: u64,
    /// And those that were.
    pub reread: u64,
    /// Where the latest batch ended.
    pub reached: Option<Position>,
    /// Positions that are durable.
    pub committed: Positions,
    /// Whether it was told to stop before the input was over.
    pub stopped: bool,
}

/// How long a stop may take to commit what is in flight. What is not committed by then is done again by whoever goes on.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const TOO_LATE: &str =
    "stopped, but what was written last could not be committed within 30 s: it will be done again";

/// A source that has ended has its reason at hand.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Runs the line from `source` to `sink` until the input ends, `stop` is ready or something fails; what is written by
/// then is committed, except after a failure. `report` is called after every batch. Returns how far it came, and the sink.
///
/// # Errors
/// Whatever source, sink or state store report. The committed positions then stand where the last commit put them. And
/// when more rows are rejected than is allowed: then all that was read is committed first.
pub async fn drive<S: Sink + Send + 'static>(
    source: &mut impl Source,
    sink: S,
    options: Options,
    stop: impl Future<Output = ()>,
    mut report: impl FnMut(&Progress),
) -> Result<(Progress, S)> {
    let options = Arc::new(options);
    let pace = Pace::new(&options.commit);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (lanes, writer) = (Lanes::new(options.clone()), Writer::start(sink));
    let mut line = Line { lanes, writer, options, pace, cores };
    let stop = pin!(stop);
    let stopped = match line.run(source, stop, &mut report).await {
        Ok(stopped) => stopped,
        Err(error) => {
            let Line { lanes, writer, .. } = line;
            writer.abandon(&lanes.partitions()).await;
            // Where the sink only found out that the source is gone, the source knows why.
            return Err(if error.is::<Stopped>() {
                last_words(source).await.unwrap_or(error)
            } else {
                error
            });
        }
    };
    let Line { mut lanes, writer, .. } = line;
    // What was broken off is not the end: a file that needs one is not put in place.
    let sink = writer.end(!stopped).await?;
    if let Err(error) = source.close().await {
        // Everything is committed; the group will find out by itself.
        tracing::warn!("{error:#}");
    }
    lanes.count_warm();
    let mut progress = lanes.progress();
    progress.stopped = stopped;
    report(&progress);
    Ok((progress, sink))
}

/// The error that a source ended with.
async fn last_words(source: &mut impl Source) -> Option<anyhow::Error> {
    let words = async {
        loop {
            if let Err(error) = source.next().await {
                return error;
            }
        }
    };
    tokio::time::timeout(LAST_WORDS, words).await.ok()
}

struct Line<S> {
    options: Arc<Options>,
    lanes: Lanes,
    writer: Writer<S>,
    /// When the next commit is to begin.
    pace: Pace,
    cores: usize,
}

/// Rows whose way through a model takes longer than a thread takes to begin.
const WORTH_A_THREAD: usize = 500;

/// What is held, or the next event. Cancel-safe.
async fn next(source: &mut impl Source, held: &mut Option<Result<Event>>) -> Result<Event> {
    match held.take() {
        Some(event) => event,
        None => source.next().await,
    }
}

impl<S: Sink + Send + 'static> Line<S> {
    /// Until the input ends or it is told to stop, which it returns.
    async fn run(
        &mut self,
        source: &mut impl Source,
        mut stop: Pin<&mut impl Future<Output = ()>>,
        report: &mut impl FnMut(&Progress),
    ) -> Result<bool> {
        let backlog = self.writer.backlog();
        let (mut is_told, mut held) = (false, None);
        let stopped = loop {
            if is_told {
                break true;
            }
            self.begin_commit();
            self.lanes.keep().await?;
            let (has_room, deadline, keep) = (self.has_room(), self.pace.due(), self.lanes.keep_turn());
            tokio::select! {
                biased;
                () = &mut stop => break true,
                positions = self.writer.committed() => {
                    self.pace.ended(Instant::now());
                    self.lanes.committed(positions?);
                }
                started = self.lanes.started(), if self.lanes.is_starting() => started?,
                () = sleep_until(deadline), if deadline.is_some() && !self.writer.is_committing() => {}
                () = backlog.shrunk(), if !has_room => {}
                event = next(source, &mut held), if has_room => {
                    let event = event?;
                    let beside = self.gather(&event, source, &mut held);
                    let mut taken = pin!(self.take(event, beside, report));
                    let is_end = tokio::select! {
                        biased;
                        taken = &mut taken => taken?,
                        () = &mut stop => {
                            is_told = true;
                            tokio::time::timeout(STOP_TIMEOUT, taken).await.context(TOO_LATE)??
                        }
                    };
                    if is_end {
                        break false;
                    }
                }
                () = keep => {}
            }
        };
        if !stopped && self.options.finish {
            let rows_at_once = self.options.setup.rows_at_once();
            self.lanes.finish(&mut self.writer, rows_at_once).await?;
        }
        let last = self.writer.flush(self.lanes.take_uncommitted());
        let limit = if stopped { STOP_TIMEOUT } else { Duration::MAX };
        match tokio::time::timeout(limit, last).await {
            Ok(durable) => self.lanes.committed(durable?),
            Err(_) => bail!(TOO_LATE),
        }
        self.lanes.keep_all().await;
        Ok(stopped)
    }

    fn has_room(&self) -> bool {
        self.has_room_beside(0)
    }

    /// Whether there is room for more, beside so many rows. One commit under way and the next one filling: more would only be
    /// older when it is done.
    fn has_room_beside(&self, rows: usize) -> bool {
        let Options { commit, queue_rows, .. } = &*self.options;
        let (backlog, kept) = (self.writer.backlog(), self.writer.kept());
        let has_rows =
            backlog.rows() + rows < *queue_rows && kept.rows + rows < commit.rows.saturating_mul(2);
        has_rows && backlog.bytes() < BYTES_MOST && kept.bytes < 2 * BYTES_MOST
    }

    /// The batches of other partitions that are there already and go beside an event's own, one for each core. What comes first
    /// and is none of these is `held`: an error, too, has its turn after the rows before it.
    fn gather(
        &self,
        event: &Event,
        source: &mut impl Source,
        held: &mut Option<Result<Event>>,
    ) -> Vec<Batch> {
        let mut beside: Vec<Batch> = Vec::new();
        let Event::Rows(first) = event else { return beside };
        if !self.lanes.are_several() {
            return beside;
        }
        let mut rows = first.rows.num_rows();
        while rows >= WORTH_A_THREAD && beside.len() + 1 < self.cores && self.has_room_beside(rows) {
            let Some(event) = next(source, held).now_or_never() else { break };
            let is_other = |batch: &Batch| {
                first.partition != batch.partition
                    && beside.iter().all(|other| other.partition != batch.partition)
            };
            match event {
                Ok(Event::Rows(batch)) if is_other(&batch) => {
                    rows += batch.rows.num_rows();
                    beside.push(batch);
                }
                other => {
                    *held = Some(other);
                    break;
                }
            }
        }
        beside
    }

    /// Begins a commit, if it is time and none is under way.
    fn begin_commit(&mut self) {
        let uncommitted = self.writer.uncommitted();
        let is_full = uncommitted.rows >= self.options.commit.rows || uncommitted.bytes >= BYTES_MOST;
        let now = Instant::now();
        let is_due = self.pace.due().is_some_and(|due| due <= now);
        if (is_full || is_due) && !self.writer.is_committing() {
            self.pace.begun(now, uncommitted.rows);
            self.writer.begin_commit(self.lanes.take_uncommitted());
        }
    }

    /// Takes an event, and the batches that go beside its own; returns whether it was the end.
    async fn take(
        &mut self,
        event: Event,
        mut beside: Vec<Batch>,
        report: &mut impl FnMut(&Progress),
    ) -> Result<bool> {
        let Self { lanes, writer, pace, .. } = self;
        match event {
            Event::Assigned(assigned) => lanes.assign(assigned),
            Event::Reading { partition, .. } => {
                if lanes.reading(partition) {
                    pace.at_once(Instant::now());
                }
            }
            Event::Rows(batch) => {
                beside.insert(0, batch);
                lanes.push(beside, writer).await?;
                if let Some(overrun) = lanes.overrun() {
                    writer.flush(lanes.take_uncommitted()).await?;
                    lanes.keep_all().await;
                    bail!(overrun);
                }
                pace.rows(Instant::now());
                report(&lanes.progress());
            }
            Event::Revoked { partitions, done } => {
                pace.begun(Instant::now(), writer.uncommitted().rows);
                let durable = writer.flush(lanes.take_uncommitted()).await?;
                pace.ended(Instant::now());
                lanes.committed(durable);
                writer.forget(partitions.clone()).await?;
                // The source may have given up waiting; then the partitions are gone either way.
                let _ = done.send(());
                lanes.drop(&partitions);
                report(&lanes.progress());
            }
            Event::End => return Ok(true),
        }
        Ok(false)
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
