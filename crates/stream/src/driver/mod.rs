//! The driver: the loop that pulls rows, pushes them through their partition's forecaster, writes the output and commits.
//!
//! - `partition_tasks`: the assigned partitions
//! - `partition_task`: one partition with its forecaster
//! - `recovery`: the initial state of a partition
//! - `candidate_records`: the messages of candidate rows
//! - `reject_limit`: the limit on rejected rows
//! - `sink_task`: the sink in its own task
//! - `commit_scheduler`: the schedule of commits
//! - `checkpointer`: snapshots between pushes
//!
//! While one commit runs, the driver already pulls and forecasts the rows of the next. State is never rewound: the sink
//! retains output until it is known to be durable, and writes it again if necessary.

mod candidate_records;
mod checkpointer;
mod commit_scheduler;
mod partition_task;
mod partition_tasks;
mod recovery;
mod reject_limit;
mod sink_task;

use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::FutureExt;
use tidecast_core::forecaster::Setup;
use tidecast_core::series::RowCounters;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::bootstrap::BootstrapHistory;
use crate::settings::{Commit, OnDataLoss, StartOffset};
use crate::state::{SnapshotStore, UploadSchedule};
use crate::{Batch, Position, Positions, Sink, Source, SourceClosed, SourceEvent};
use commit_scheduler::CommitScheduler;
use partition_tasks::PartitionTasks;
pub use recovery::CommitMetadata;
pub use reject_limit::{BudgetExceeded, CountedReject, RejectBudget, RejectLimit};
use sink_task::{BUFFERED_BYTES_MAX, SinkTask};

#[derive(Debug)]
pub struct DriverOptions {
    pub setup: Arc<Setup>,
    pub commit: Commit,
    pub state: Option<StateOptions>,
    /// Rows whose output may wait for the sink.
    pub queue_rows: usize,
    /// Applied to partitions with a committed position; the source applies it to those without.
    pub start: StartOffset,
    pub on_data_loss: OnDataLoss,
    pub on_end_of_input: OnEndOfInput,
    /// `None` is no limit.
    pub reject_limit: Option<RejectLimit>,
}

/// The treatment of open steps at the end of the input. A stop always leaves them open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnEndOfInput {
    /// Close the steps that only wait for time, and forecast from them.
    CloseSteps,
    LeaveOpen,
}

/// Snapshots of the state.
#[derive(Debug)]
pub struct StateOptions {
    pub store: Arc<SnapshotStore>,
    pub schedule: UploadSchedule,
    /// The pipeline stops if a partition runs for longer than this without a newer snapshot.
    pub snapshot_age_max: Duration,
    pub on_mismatch: LineageMismatchPolicy,
}

/// The policy for a stored state of another lineage.
#[derive(Debug)]
pub enum LineageMismatchPolicy {
    /// Stop with an error that names the differences.
    Fail,
    /// Continue with cold series.
    Cold,
    /// Rebuild the state from earlier rows of the topic; the source decides from which.
    Replay,
    /// Build the state from a history, for a topic with `partitions` partitions.
    Bootstrap {
        history: BootstrapHistory,
        partitions: i32,
        /// Each partition reads all of the history, so they take turns.
        lock: tokio::sync::Mutex<()>,
    },
}

/// The progress of a run.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    pub counters: RowCounters,
    pub series: usize,
    /// Series that can forecast; counted at the end of the run only.
    pub warm_series: usize,
    /// Positions still to be replayed to rebuild state.
    pub replay_remaining: u64,
    /// Positions replayed so far.
    pub replayed: u64,
    /// The end of the latest batch.
    pub position: Option<Position>,
    /// The durable positions.
    pub committed: Positions,
    /// True if the run was stopped before the end of the input.
    pub stopped: bool,
}

/// Maximum time that a stop waits for the last commit. The next run writes uncommitted output again.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMED_OUT: &str =
    "stopped, but the last output could not be committed within 30 s; the next run writes it again";

/// Maximum time to wait for the source's own error after the sink reports it closed.
const SOURCE_ERROR_TIMEOUT: Duration = Duration::from_secs(2);

/// Rows that take longer to forecast than to hand over to another thread.
const PARALLEL_ROWS_MIN: usize = 500;

/// Drives rows from `source` to `sink` until the input ends, `stop` is cancelled or an error occurs.
///
/// Output written so far is committed, except after an error. `report` is called after every batch. Returns the final
/// progress, and the sink.
///
/// # Errors
/// Any error of source, sink or snapshot store; the committed positions are those of the last commit. Also if the reject
/// limit is exceeded; all rows read so far are then committed first.
pub async fn drive<S: Sink + Send + 'static>(
    source: &mut impl Source,
    sink: S,
    options: DriverOptions,
    stop: &CancellationToken,
    mut report: impl FnMut(&Progress),
) -> Result<(Progress, S)> {
    let options = Arc::new(options);
    let mut driver = Driver {
        tasks: PartitionTasks::new(options.clone()),
        sink: SinkTask::spawn(sink),
        commits: CommitScheduler::new(&options.commit),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        options,
    };
    let end = match driver.run(source, stop, &mut report).await {
        Ok(end) => end,
        Err(error) => {
            driver.sink.abort(&driver.tasks.partitions()).await;
            // The sink only knows that the source is closed; the source knows the cause.
            let cause = if error.is::<SourceClosed>() { source_error(source).await } else { None };
            return Err(cause.unwrap_or(error));
        }
    };
    let Driver { mut tasks, mut sink, .. } = driver;
    // After a stop the output is incomplete: a file of the whole input does not get its final name.
    if end == RunEnd::EndOfInput {
        sink.finish();
    }
    let sink = sink.close().await?;
    if let Err(error) = source.close().await {
        // Everything is committed, and the group detects the missing member by itself.
        tracing::warn!("cannot close the source: {error:#}");
    }
    tasks.count_warm_series();
    let progress = Progress { stopped: end == RunEnd::Stopped, ..tasks.progress() };
    report(&progress);
    Ok((progress, sink))
}

/// The error that a closed source ended with.
async fn source_error(source: &mut impl Source) -> Option<anyhow::Error> {
    let error = async {
        loop {
            if let Err(error) = source.next().await {
                return error;
            }
        }
    };
    timeout(SOURCE_ERROR_TIMEOUT, error).await.ok()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RunEnd {
    EndOfInput,
    Stopped,
}

struct Driver<S> {
    options: Arc<DriverOptions>,
    tasks: PartitionTasks,
    sink: SinkTask<S>,
    commits: CommitScheduler,
    cores: usize,
}

/// The event read ahead, or the source's next one. Cancel-safe.
async fn next_event(
    source: &mut impl Source,
    read_ahead: &mut Option<Result<SourceEvent>>,
) -> Result<SourceEvent> {
    match read_ahead.take() {
        Some(event) => event,
        None => source.next().await,
    }
}

impl<S: Sink + Send + 'static> Driver<S> {
    /// Processes all events, then commits the rest and saves the state.
    async fn run(
        &mut self,
        source: &mut impl Source,
        stop: &CancellationToken,
        report: &mut impl FnMut(&Progress),
    ) -> Result<RunEnd> {
        let end = self.process_events(source, stop, report).await?;
        if end == RunEnd::EndOfInput && self.options.on_end_of_input == OnEndOfInput::CloseSteps {
            self.tasks.close_steps(&mut self.sink).await?;
        }
        let last_commit = self.sink.flush(self.tasks.take_uncommitted());
        let limit = if end == RunEnd::Stopped { STOP_TIMEOUT } else { Duration::MAX };
        match timeout(limit, last_commit).await {
            Ok(durable) => self.tasks.on_committed(durable?),
            Err(_) => bail!(STOP_TIMED_OUT),
        }
        self.tasks.checkpoint_all().await;
        Ok(end)
    }

    /// Processes events until the input ends or the run is stopped.
    async fn process_events(
        &mut self,
        source: &mut impl Source,
        stop: &CancellationToken,
        report: &mut impl FnMut(&Progress),
    ) -> Result<RunEnd> {
        let backlog = self.sink.backlog();
        let mut read_ahead = None;
        while !stop.is_cancelled() {
            self.start_commit_if_due();
            self.tasks.advance_checkpoint().await?;
            let (has_capacity, commit_due) = (self.has_capacity(0), self.commits.due());
            let checkpoint_due = self.tasks.next_checkpoint();
            tokio::select! {
                // A stop comes first; rows come after the events that free capacity for them.
                biased;
                () = stop.cancelled() => break,
                positions = self.sink.commit_end() => {
                    self.commits.on_commit_end(Instant::now());
                    self.tasks.on_committed(positions?);
                }
                recovered = self.tasks.finish_recovery(), if self.tasks.is_recovering() => recovered?,
                () = sleep_until(commit_due), if commit_due.is_some() && !self.sink.is_committing() => {}
                () = backlog.shrunk(), if !has_capacity => {}
                event = next_event(source, &mut read_ahead), if has_capacity => {
                    let event = event?;
                    let others = self.collect_ready_batches(&event, source, &mut read_ahead);
                    if self.handle_or_time_out(event, others, stop, report).await?.is_break() {
                        return Ok(RunEnd::EndOfInput);
                    }
                }
                () = checkpoint_due => {}
            }
        }
        Ok(RunEnd::Stopped)
    }

    /// Handles an event. After a stop it may take no longer than [`STOP_TIMEOUT`].
    async fn handle_or_time_out(
        &mut self,
        event: SourceEvent,
        others: Vec<Batch>,
        stop: &CancellationToken,
        report: &mut impl FnMut(&Progress),
    ) -> Result<ControlFlow<()>> {
        let mut handled = pin!(self.handle_event(event, others, report));
        tokio::select! {
            biased;
            handled = &mut handled => handled,
            () = stop.cancelled() => timeout(STOP_TIMEOUT, handled).await.context(STOP_TIMED_OUT)?,
        }
    }

    /// True if the sink can take the output of more rows than `rows`. One commit may run while the next one fills; a longer
    /// queue would only make the output older when it is committed.
    fn has_capacity(&self, rows: usize) -> bool {
        let DriverOptions { commit, queue_rows, .. } = &*self.options;
        let (backlog, in_flight) = (self.sink.backlog().size(), self.sink.in_flight());
        backlog.rows + rows < *queue_rows
            && in_flight.rows + rows < commit.rows.saturating_mul(2)
            && backlog.bytes < BUFFERED_BYTES_MAX
            && in_flight.bytes < 2 * BUFFERED_BYTES_MAX
    }

    /// The batches of other partitions that the source has ready, to be processed in parallel with `event`, at most one per
    /// core. The first other event, or an error, stays in `read_ahead` until these batches are processed.
    fn collect_ready_batches(
        &self,
        event: &SourceEvent,
        source: &mut impl Source,
        read_ahead: &mut Option<Result<SourceEvent>>,
    ) -> Vec<Batch> {
        let mut others: Vec<Batch> = Vec::new();
        let SourceEvent::Batch(first) = event else { return others };
        if self.tasks.partition_count() < 2 {
            return others;
        }
        let mut rows = first.rows.num_rows();
        while rows >= PARALLEL_ROWS_MIN && others.len() + 1 < self.cores && self.has_capacity(rows) {
            let Some(event) = next_event(source, read_ahead).now_or_never() else { break };
            match event {
                Ok(SourceEvent::Batch(batch))
                    if first.partition != batch.partition
                        && others.iter().all(|other| other.partition != batch.partition) =>
                {
                    rows += batch.rows.num_rows();
                    others.push(batch);
                }
                event => {
                    *read_ahead = Some(event);
                    break;
                }
            }
        }
        others
    }

    /// Starts a commit if one is due or the buffers are full, and none is running.
    fn start_commit_if_due(&mut self) {
        let uncommitted = self.sink.uncommitted();
        let is_full = uncommitted.rows >= self.options.commit.rows || uncommitted.bytes >= BUFFERED_BYTES_MAX;
        let now = Instant::now();
        let is_due = self.commits.due().is_some_and(|due| due <= now);
        if (is_full || is_due) && !self.sink.is_committing() {
            self.commits.on_commit_start(now, uncommitted.rows);
            self.sink.start_commit(self.tasks.take_uncommitted());
        }
    }

    /// Handles an event, together with the ready batches of other partitions. Breaks at the end of the input.
    async fn handle_event(
        &mut self,
        event: SourceEvent,
        mut others: Vec<Batch>,
        report: &mut impl FnMut(&Progress),
    ) -> Result<ControlFlow<()>> {
        let Self { tasks, sink, commits, .. } = self;
        match event {
            SourceEvent::Assigned { assignment, reply } => tasks.assign(assignment, reply),
            SourceEvent::ReadingStarted { partition, .. } => {
                if tasks.on_reading_started(partition) {
                    commits.schedule_now(Instant::now());
                }
            }
            SourceEvent::Batch(batch) => {
                others.insert(0, batch);
                tasks.push(others, sink).await?;
                if let Some(error) = tasks.take_reject_error() {
                    sink.flush(tasks.take_uncommitted()).await?;
                    tasks.checkpoint_all().await;
                    bail!(error);
                }
                commits.on_rows(Instant::now());
                report(&tasks.progress());
            }
            SourceEvent::Revoked { partitions, done } => {
                commits.on_commit_start(Instant::now(), sink.uncommitted().rows);
                let durable = sink.flush(tasks.take_uncommitted()).await?;
                commits.on_commit_end(Instant::now());
                tasks.on_committed(durable);
                sink.discard(partitions.clone()).await?;
                // The source may have timed out; the partitions are revoked in any case.
                let _ = done.send(());
                tasks.revoke(&partitions);
                report(&tasks.progress());
            }
            SourceEvent::EndOfInput => return Ok(ControlFlow::Break(())),
        }
        Ok(ControlFlow::Continue(()))
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
