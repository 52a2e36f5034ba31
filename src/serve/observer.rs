//! Instrumentation of the source and the sink. Per batch it costs a short lock, a few additions and a reference to the batch.
//! The counters are exact. The view may miss batches: its queue is bounded, and a full queue drops updates instead of
//! blocking the driver.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::sync::mpsc;

use super::dashboard::Dashboard;
use super::status::now_ms;
use super::view::{RowSource, ViewUpdate};
use tidecast_kafka::LagTracker;
use tidecast_stream::driver::Progress;
use tidecast_stream::state::SnapshotStore;
use tidecast_stream::{Batch, Output, Partition, Positions, Record, Sink, Source, SourceEvent};

/// Bytes queued for the view: about a second at fifty thousand forecasts of 24 steps. A longer queue would only hold stale data.
const QUEUED_BYTES_MAX: usize = 32 << 20;

/// Timestamp runs retained per partition: a Parquet file may take long to fill. Later records join the last run.
const RUNS_MAX: usize = 100_000;

/// Reports the events of a pipeline to its dashboard.
#[derive(Clone)]
pub struct Observer {
    dashboard: Arc<Dashboard>,
    updates: mpsc::UnboundedSender<ViewUpdate>,
}

impl Observer {
    pub(super) fn new(dashboard: Arc<Dashboard>, updates: mpsc::UnboundedSender<ViewUpdate>) -> Self {
        Self { dashboard, updates }
    }

    pub fn dashboard(&self) -> &Arc<Dashboard> {
        &self.dashboard
    }

    /// Sets the source of the partitions' lag. A second call is ignored.
    pub fn set_lag_tracker(&self, tracker: LagTracker) {
        let _ = self.dashboard.lag_tracker.set(tracker);
    }

    /// Sets the store whose snapshots are reported. A second call is ignored.
    pub fn set_store(&self, store: Arc<SnapshotStore>) {
        let _ = self.dashboard.store.set(store);
    }

    pub fn on_progress(&self, progress: &Progress) {
        self.dashboard.status.lock().on_progress(progress);
    }

    fn on_event(&self, event: &SourceEvent) {
        match event {
            SourceEvent::Assigned { assignment, .. } => {
                let committed = assignment.committed.as_ref().map(|committed| committed.position.0);
                self.dashboard.status.lock().on_assigned(&assignment.partition, committed);
            }
            SourceEvent::ReadingStarted { partition, position } => {
                self.dashboard.status.lock().on_reading_started(partition, position.0);
            }
            SourceEvent::Batch(batch) => self.on_batch(batch),
            // The partition stays assigned until its output is committed: see `Instrumented::discard`.
            SourceEvent::Revoked { .. } | SourceEvent::EndOfInput => {}
        }
    }

    fn on_revoked(&self, partitions: &[Partition]) {
        self.dashboard.status.lock().on_revoked(partitions);
        self.queue(ViewUpdate::Revoked(partitions.iter().map(|partition| partition.number).collect()));
    }

    fn on_batch(&self, batch: &Batch) {
        let rows = batch.rows.num_rows() + batch.malformed.len();
        let resumed_from = self.dashboard.status.lock().on_batch(&batch.partition, batch.next.0);
        // Replayed rows only rebuild state.
        if resumed_from.is_none_or(|resumed| batch.next.0 > resumed) {
            self.dashboard.counters.batch_rows.observe(rows as f64);
        }
        let source = RowSource { partition: batch.partition.number, is_resumed: resumed_from.is_some() };
        self.queue(ViewUpdate::Rows(source, batch.rows.clone()));
    }

    fn on_output(&self, output: &Output) {
        let dashboard = &self.dashboard;
        if !output.rejects.is_empty() {
            dashboard.status.lock().on_rejects(output, &dashboard.info.reject_reasons);
        }
        if output.forecasts.num_rows() > 0 {
            self.queue(ViewUpdate::Forecasts(output.forecasts.clone()));
        }
        if output.scores.num_rows() > 0 {
            dashboard.counters.scores.add(&output.scores);
            self.queue(ViewUpdate::Scores(output.scores.clone()));
        }
    }

    fn on_committed(&self, positions: &Positions, duration: Duration, runs: &[Run]) {
        let counters = &self.dashboard.counters;
        counters.commit_duration.observe(duration.as_secs_f64());
        counters.commit_rows.observe(runs.iter().map(|run| run.rows).sum::<u64>() as f64);
        let now = now_ms() as i64;
        for run in runs {
            if let Some(timestamp) = run.timestamp_ms {
                let seconds = (now - timestamp).max(0) as f64 / 1e3;
                counters.end_to_end_latency.observe_many(seconds, run.rows);
            }
        }
        self.dashboard.status.lock().on_committed(positions);
    }

    fn queue(&self, update: ViewUpdate) {
        let (counters, bytes) = (&self.dashboard.counters, update.bytes(&self.dashboard.info));
        // Updates without rows are never dropped: a revocation must reach the view.
        if bytes > 0 && counters.queued_bytes.load(Relaxed) >= QUEUED_BYTES_MAX {
            counters.dropped_updates.fetch_add(1, Relaxed);
            return;
        }
        counters.queued_bytes.fetch_add(bytes, Relaxed);
        // The receiver is closed only when the runtime shuts down.
        let _ = self.updates.send(update);
    }

    /// The records of an output that were not committed at assignment. Earlier records only rebuild state.
    fn new_records<'a>(&self, output: &'a Output) -> &'a [Record] {
        let records = &output.source.records;
        let status = self.dashboard.status.lock();
        let resumed_from = status.partitions.get(&output.partition).and_then(|status| status.resumed_from);
        let start =
            resumed_from.map_or(0, |position| records.partition_point(|record| record.offset < position));
        &records[start..]
    }
}

/// A source or sink that reports to an observer, if there is one.
pub struct Instrumented<T> {
    inner: T,
    observer: Option<Observer>,
    latency: LatencyTracker,
}

impl<T> Instrumented<T> {
    pub fn new(inner: T, observer: Option<Observer>) -> Self {
        Self { inner, observer, latency: LatencyTracker::default() }
    }
}

impl<S: Source + Send> Source for Instrumented<S> {
    async fn next(&mut self) -> Result<SourceEvent> {
        let event = self.inner.next().await?;
        if let Some(observer) = &self.observer {
            observer.on_event(&event);
        }
        Ok(event)
    }

    async fn close(&mut self) -> Result<()> {
        self.inner.close().await
    }
}

impl<S: Sink + Send> Sink for Instrumented<S> {
    async fn write(&mut self, output: Output) -> Result<()> {
        if let Some(observer) = &self.observer {
            observer.on_output(&output);
            self.latency.on_written(&output.partition, observer.new_records(&output));
        }
        self.inner.write(output).await
    }

    async fn commit(&mut self, positions: &Positions) -> Result<Positions> {
        let Some(observer) = &self.observer else { return self.inner.commit(positions).await };
        let started = Instant::now();
        let durable = self.inner.commit(positions).await?;
        observer.on_committed(&durable, started.elapsed(), &self.latency.take_committed(&durable));
        Ok(durable)
    }

    async fn discard(&mut self, partitions: &[Partition]) -> Result<()> {
        if let Some(observer) = &self.observer {
            observer.on_revoked(partitions);
            self.latency.discard(partitions);
        }
        self.inner.discard(partitions).await
    }

    async fn finish(&mut self) -> Result<()> {
        self.inner.finish().await
    }
}

/// Timestamps of written records that are not durable yet, to measure their latency at the commit. Stored as runs of equal
/// milliseconds, which are few even at high rates.
#[derive(Debug, Default)]
struct LatencyTracker(BTreeMap<Partition, PendingRuns>);

#[derive(Debug, Default)]
struct PendingRuns {
    /// Position after the last record. The message of a confirmed candidate is written a second time and must not count twice.
    next: i64,
    runs: VecDeque<Run>,
}

/// Records with the same timestamp.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    /// Position after the last record.
    next: i64,
    /// Milliseconds since the epoch.
    timestamp_ms: Option<i64>,
    rows: u64,
}

impl LatencyTracker {
    /// Adds written records, ascending by offset.
    fn on_written(&mut self, partition: &Partition, records: &[Record]) {
        if records.is_empty() {
            return;
        }
        let pending = self.0.entry(partition.clone()).or_default();
        let start = records.partition_point(|record| record.offset < pending.next);
        for record in &records[start..] {
            pending.next = record.offset + 1;
            let is_full = pending.runs.len() == RUNS_MAX;
            match pending.runs.back_mut() {
                Some(run) if run.timestamp_ms == record.timestamp || is_full => {
                    (run.next, run.rows) = (pending.next, run.rows + 1);
                }
                _ => {
                    let run = Run { next: pending.next, timestamp_ms: record.timestamp, rows: 1 };
                    pending.runs.push_back(run);
                }
            }
        }
    }

    /// Removes and returns the runs below the durable positions.
    fn take_committed(&mut self, durable: &Positions) -> Vec<Run> {
        let mut committed = Vec::new();
        for (partition, position) in durable {
            let Some(pending) = self.0.get_mut(partition) else { continue };
            let end = pending.runs.partition_point(|run| run.next <= position.0);
            committed.extend(pending.runs.drain(..end));
        }
        committed
    }

    /// Drops the records of revoked partitions: the next owner writes them.
    fn discard(&mut self, partitions: &[Partition]) {
        self.0.retain(|partition, _| !partitions.contains(partition));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidecast_stream::Position;

    #[test]
    fn latency_is_measured_once_per_record_when_its_run_is_durable() {
        let partition = Partition { topic: "t".into(), number: 0 };
        let record = |offset, timestamp| Record { offset, timestamp, ..Record::default() };
        let at = |position| Positions::from([(partition.clone(), Position(position))]);
        let run = |next, timestamp_ms, rows| Run { next, timestamp_ms, rows };
        let mut tracker = LatencyTracker::default();
        tracker.on_written(&partition, &[record(5, Some(70)), record(6, Some(70)), record(7, None)]);
        // Offset 6 is the message of a confirmed candidate.
        tracker.on_written(&partition, &[record(6, Some(70)), record(8, Some(90))]);
        assert_eq!(tracker.take_committed(&at(6)), [], "the run is not complete");
        assert_eq!(tracker.take_committed(&at(8)), [run(7, Some(70), 2), run(8, None, 1)]);
        assert_eq!(tracker.take_committed(&at(9)), [run(9, Some(90), 1)]);
        tracker.discard(std::slice::from_ref(&partition));
        tracker.on_written(&partition, &[record(5, Some(70))]);
        assert_eq!(
            tracker.take_committed(&at(9)),
            [run(6, Some(70), 1)],
            "a partition that returns is read again"
        );
    }
}
