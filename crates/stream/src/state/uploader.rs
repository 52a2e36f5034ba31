//! Snapshots written in the background: the driver hands over the batches of a capture, and a task uploads them at a
//! limited rate.
//!
//! One partition is uploaded at a time, and the partitions are spread over `every`, so that neither the disk nor the stream
//! handles them all at once. A failing store is logged and retried at the partition's next turn. The uploader never stops the
//! stream; the driver stops it once the newest snapshot is older than `limits.snapshot_age`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Error;
use arrow::array::RecordBatch;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::{SnapshotEvent, SnapshotStore, SnapshotWriter};
use crate::{Partition, Position};

/// One batch is uploaded while the next is captured. More would only use memory.
const QUEUE_LEN: usize = 2;

/// Frequency and rate of snapshots.
#[derive(Clone, Copy, Debug)]
pub struct UploadSchedule {
    /// The interval between two snapshots of a partition.
    pub every: Duration,
    pub bytes_per_second: u64,
}

/// Rate limit of the batches under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Throttle {
    Limited,
    /// Rows, or the end of the run, wait for the upload.
    Unlimited,
}

/// The state shared by a [`SnapshotUploader`] and its task.
#[derive(Debug, Default)]
struct Shared {
    /// The newest complete snapshot of each tracked partition.
    newest: Mutex<BTreeMap<Partition, Option<Position>>>,
    /// An upload is in progress, from its begin until the store has it or it has ended otherwise.
    busy: AtomicBool,
    /// Notified when `busy` ends: on a quiet stream nothing else would start the next snapshot.
    idle: Notify,
    /// The store failed during the current upload.
    failed: AtomicBool,
    /// The current upload is to be dropped.
    aborted: AtomicBool,
    unthrottled: AtomicBool,
    throttle_changed: Notify,
}

impl Shared {
    fn set_throttle(&self, throttle: Throttle) {
        self.unthrottled.store(throttle == Throttle::Unlimited, Ordering::Release);
        self.throttle_changed.notify_one();
    }

    fn set_idle(&self) {
        self.busy.store(false, Ordering::Release);
        self.idle.notify_one();
    }
}

enum UploadCommand {
    Begin { partition: Partition, start: Position, position: Position },
    Batch(RecordBatch),
    Finish { committed: Option<Position> },
    Abort,
}

/// Schedules the snapshots of all partitions and passes their batches to the upload task.
#[derive(Debug)]
pub struct SnapshotUploader {
    schedule: UploadSchedule,
    commands: mpsc::Sender<UploadCommand>,
    shared: Arc<Shared>,
    /// The due time of each partition's next snapshot.
    due: BTreeMap<Partition, Instant>,
    last_begin: Option<Instant>,
    current: Option<Partition>,
    task: JoinHandle<()>,
}

impl SnapshotUploader {
    /// Spawns the task in the current runtime.
    pub fn spawn(store: Arc<SnapshotStore>, schedule: UploadSchedule) -> Self {
        let (commands, queue) = mpsc::channel(QUEUE_LEN);
        let shared = Arc::new(Shared::default());
        let bytes_per_second = schedule.bytes_per_second;
        let task = UploadTask { store, shared: shared.clone(), bytes_per_second, current: None };
        let task = tokio::spawn(task.run(queue));
        Self { schedule, commands, shared, due: BTreeMap::new(), last_begin: None, current: None, task }
    }

    /// Starts to track a partition, whose newest snapshot is at `saved`.
    pub fn add(&mut self, partition: &Partition, saved: Option<Position>) {
        self.defer(partition);
        self.shared.newest.lock().insert(partition.clone(), saved);
    }

    /// Stops tracking a partition and drops its upload.
    pub fn remove(&mut self, partition: &Partition) {
        if self.current.as_ref() == Some(partition) {
            self.abort();
        }
        self.due.remove(partition);
        self.shared.newest.lock().remove(partition);
    }

    /// The next partition to snapshot, the longest overdue first, and its time, which keeps the partitions spread over
    /// `every`. `None` while an upload is in progress: see [`SnapshotUploader::idle`].
    pub fn next(&self) -> Option<(&Partition, Instant)> {
        if self.current.is_some() || self.shared.busy.load(Ordering::Acquire) {
            return None;
        }
        let (partition, due) = self.due.iter().min_by_key(|(_, due)| **due)?;
        let spacing = self.schedule.every / u32::try_from(self.due.len()).unwrap_or(u32::MAX);
        Some((partition, self.last_begin.map_or(*due, |begin| (*due).max(begin + spacing))))
    }

    /// Waits until an upload has ended, successfully or not. Cancel-safe.
    pub fn idle(&self) -> impl Future<Output = ()> + use<> {
        let shared = self.shared.clone();
        async move { shared.idle.notified().await }
    }

    /// The partition whose capture is due now.
    pub fn due(&self) -> Option<Partition> {
        self.next().filter(|(_, at)| *at <= Instant::now()).map(|(partition, _)| partition.clone())
    }

    /// The partition being captured: from `begin` to `finish` or `abort`.
    pub fn current(&self) -> Option<&Partition> {
        self.current.as_ref()
    }

    /// Begins the snapshot of a partition at `position`. Its batches follow, then `finish`.
    pub async fn begin(&mut self, partition: &Partition, start: Position, position: Position) {
        let now = Instant::now();
        self.last_begin = Some(now);
        self.due.insert(partition.clone(), now + self.schedule.every);
        self.current = Some(partition.clone());
        self.shared.set_throttle(Throttle::Limited);
        self.shared.failed.store(false, Ordering::Release);
        self.shared.busy.store(true, Ordering::Release);
        self.send(UploadCommand::Begin { partition: partition.clone(), start, position }).await;
    }

    /// True if the task accepts a batch without waiting.
    pub fn has_capacity(&self) -> bool {
        self.commands.capacity() > 0
    }

    /// True if the store failed during the current upload, which should be aborted.
    pub fn has_failed(&self) -> bool {
        self.current.is_some() && self.shared.failed.load(Ordering::Acquire)
    }

    /// Passes on the next batch, and waits for capacity.
    pub async fn write(&mut self, batch: RecordBatch, throttle: Throttle) {
        self.shared.set_throttle(throttle);
        self.send(UploadCommand::Batch(batch)).await;
    }

    /// Ends the capture. Once the snapshot is complete, the older ones that `committed` makes obsolete are removed.
    pub async fn finish(&mut self, committed: Option<Position>) {
        self.current = None;
        self.send(UploadCommand::Finish { committed }).await;
    }

    /// Drops the current upload. Does not wait.
    pub fn abort(&mut self) {
        if self.current.take().is_some() {
            self.shared.aborted.store(true, Ordering::Release);
            self.shared.set_throttle(Throttle::Unlimited);
            // If the queue is full, the task sees the flag at the next command in it.
            let _ = self.commands.try_send(UploadCommand::Abort);
        }
    }

    /// Postpones a partition's next snapshot by `every`.
    pub fn defer(&mut self, partition: &Partition) {
        self.due.insert(partition.clone(), Instant::now() + self.schedule.every);
    }

    pub fn is_tracking(&self, partition: &Partition) -> bool {
        self.due.contains_key(partition)
    }

    /// The position of the newest complete snapshot.
    pub fn saved(&self, partition: &Partition) -> Option<Position> {
        self.shared.newest.lock().get(partition).copied().flatten()
    }

    /// Waits for the current upload. A snapshot without its `finish` is dropped.
    pub async fn close(self) {
        self.shared.set_throttle(Throttle::Unlimited);
        drop(self.commands);
        // A panicked task has nothing left to wait for.
        let _ = self.task.await;
    }

    async fn send(&self, command: UploadCommand) {
        // The task lives as long as this sender.
        let _ = self.commands.send(command).await;
    }
}

/// The background task.
struct UploadTask {
    store: Arc<SnapshotStore>,
    shared: Arc<Shared>,
    bytes_per_second: u64,
    current: Option<Upload>,
}

/// A snapshot being uploaded.
struct Upload {
    partition: Partition,
    start: Position,
    position: Position,
    began: Instant,
    writer: SnapshotWriter,
    /// Covers the upload; ends when dropped.
    _span: tracing::Span,
    /// The rate limit applies to the bytes written since then.
    throttled_since: Instant,
    throttled_bytes: u64,
}

impl UploadTask {
    async fn run(mut self, mut queue: mpsc::Receiver<UploadCommand>) {
        while let Some(command) = queue.recv().await {
            if self.shared.aborted.swap(false, Ordering::AcqRel) {
                // The queued commands belong to the aborted upload: none begins while this one is busy.
                while queue.try_recv().is_ok() {}
                self.drop_current().await;
                self.shared.set_idle();
                continue;
            }
            match command {
                UploadCommand::Begin { partition, start, position } => {
                    self.drop_current().await;
                    self.current = Some(Upload::new(&self.store, partition, start, position));
                }
                UploadCommand::Batch(batch) => self.write(&batch).await,
                UploadCommand::Finish { committed } => {
                    self.finish(committed).await;
                    self.shared.set_idle();
                }
                UploadCommand::Abort => {
                    self.drop_current().await;
                    self.shared.set_idle();
                }
            }
        }
        self.drop_current().await;
    }

    async fn write(&mut self, batch: &RecordBatch) {
        let Some(upload) = &mut self.current else { return };
        match upload.writer.write(batch).await {
            Ok(bytes) => upload.throttle(bytes, self.bytes_per_second, &self.shared).await,
            Err(error) => {
                report(&self.store, &upload.partition, upload.position, upload.began, Some(&error));
                self.shared.failed.store(true, Ordering::Release);
                self.drop_current().await;
            }
        }
    }

    async fn finish(&mut self, committed: Option<Position>) {
        let Some(upload) = self.current.take() else { return };
        let Upload { partition, start, position, began, writer, _span, .. } = upload;
        let finished = writer.finish().await;
        report(&self.store, &partition, position, began, finished.as_ref().err());
        if finished.is_err() {
            return;
        }
        // The partition may have been removed meanwhile.
        self.shared.newest.lock().entry(partition.clone()).and_modify(|saved| *saved = Some(position));
        if let Some(committed) = committed
            && let Err(error) = self.store.prune(&partition, start, committed).await
        {
            tracing::warn!(topic = %partition.topic, partition = partition.number, "{error:#}; retrying at the next snapshot");
        }
    }

    async fn drop_current(&mut self) {
        if let Some(upload) = self.current.take() {
            upload.writer.abort().await;
        }
    }
}

impl Upload {
    fn new(store: &SnapshotStore, partition: Partition, start: Position, position: Position) -> Self {
        let writer = store.writer(&partition, start, position);
        let began = Instant::now();
        let _span = tracing::trace_span!(
            target: "spans",
            "snapshot",
            topic = %partition.topic,
            partition = partition.number,
            position = position.0
        );
        Self { partition, start, position, began, writer, _span, throttled_since: began, throttled_bytes: 0 }
    }

    /// Waits until the bytes written are within the rate limit, or the limit is lifted.
    async fn throttle(&mut self, bytes: u64, bytes_per_second: u64, shared: &Shared) {
        self.throttled_bytes += bytes;
        let duration = Duration::from_secs_f64(self.throttled_bytes as f64 / bytes_per_second as f64);
        let until = self.throttled_since + duration;
        while Instant::now() < until {
            if shared.unthrottled.load(Ordering::Acquire) {
                // Bytes written without the limit do not delay later ones.
                (self.throttled_since, self.throttled_bytes) = (Instant::now(), 0);
                return;
            }
            tokio::select! {
                () = sleep_until(until) => {}
                () = shared.throttle_changed.notified() => {}
            }
        }
    }
}

/// Records and logs the end of an upload.
fn report(
    store: &SnapshotStore,
    partition: &Partition,
    position: Position,
    began: Instant,
    error: Option<&Error>,
) {
    store.events().record(SnapshotEvent {
        partition: partition.clone(),
        position,
        duration: began.elapsed(),
        saved: error.is_none(),
    });
    match error {
        None => {
            tracing::debug!(topic = %partition.topic, partition = partition.number, position = position.0, "snapshot saved");
        }
        Some(error) => {
            tracing::warn!(topic = %partition.topic, partition = partition.number, position = position.0, "{error:#}; retrying at the next snapshot");
        }
    }
}
