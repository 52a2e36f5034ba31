//! Snapshots written beside the stream: who pushes rows hands over batches of a capture when there is room, and a task of its own
//! brings them to the store at a bounded pace. One partition at a time, the partitions spread over `every`, so that neither
//! the disk nor the stream sees them all at once.
//!
//! A store that fails is warned about and tried again at the partition's next turn; it never stops the stream.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::{Kept, Store, Writer};
use crate::{Partition, Position};

/// Batches on their way: one is written while the next is made. More would be memory for nothing.
const QUEUE: usize = 2;

/// How often and how fast.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// From one snapshot of a partition to the next.
    pub every: Duration,
    pub bytes_per_second: u64,
}

#[derive(Debug, Default)]
struct Shared {
    /// The newest snapshot of each partition that is safe.
    good: Mutex<BTreeMap<Partition, Option<Position>>>,
    /// A snapshot is under way, until the store has it.
    busy: AtomicBool,
    /// It is no more: on a quiet stream nothing else says that the next one can begin.
    freed: Notify,
    /// The store failed under the one that is under way.
    broken: AtomicBool,
    /// What is under way is not wanted any more.
    abandoned: AtomicBool,
    /// Rows or the end wait for what is under way: no pace now.
    hurry: AtomicBool,
    hurried: Notify,
}

impl Shared {
    fn good<T>(&self, see: impl FnOnce(&mut BTreeMap<Partition, Option<Position>>) -> T) -> T {
        // What is in there is whole after every statement.
        see(&mut self.good.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn hurry(&self, hurry: bool) {
        self.hurry.store(hurry, Ordering::Release);
        self.hurried.notify_one();
    }

    fn free(&self) {
        self.busy.store(false, Ordering::Release);
        self.freed.notify_one();
    }
}

enum Work {
    Begin { partition: Partition, start: Position, position: Position },
    Batch(RecordBatch),
    End { committed: Option<Position> },
    Abandon,
}

/// The near end of the task.
#[derive(Debug)]
pub struct Saver {
    pace: Pace,
    work: mpsc::Sender<Work>,
    shared: Arc<Shared>,
    /// When each partition's next snapshot should begin.
    due: BTreeMap<Partition, Instant>,
    begun: Option<Instant>,
    saving: Option<Partition>,
    task: JoinHandle<()>,
}

impl Saver {
    /// Starts the task, in the runtime of who calls.
    pub fn new(store: Arc<Store>, pace: Pace) -> Self {
        let (work, queue) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(run(store, queue, shared.clone(), pace.bytes_per_second));
        Self { pace, work, shared, due: BTreeMap::new(), begun: None, saving: None, task }
    }

    /// A partition is ours from now on; its state is safe at `saved`, if there is a snapshot.
    pub fn add(&mut self, partition: &Partition, saved: Option<Position>) {
        self.put_off(partition);
        self.shared.good(|good| good.insert(partition.clone(), saved));
    }

    /// A partition is ours no more: what is under way of it is dropped.
    pub fn remove(&mut self, partition: &Partition) {
        if self.saving.as_ref() == Some(partition) {
            self.abandon();
        }
        self.due.remove(partition);
        self.shared.good(|good| good.remove(partition));
    }

    /// The next snapshot to begin, and when: the longest overdue one first, spread over `every`. `None` while one is under
    /// way: [`Saver::freed`] says when it is not.
    pub fn next(&self) -> Option<(&Partition, Instant)> {
        if self.saving.is_some() || self.shared.busy.load(Ordering::Acquire) {
            return None;
        }
        let (partition, due) = self.due.iter().min_by_key(|(_, due)| **due)?;
        let apart = self.pace.every / u32::try_from(self.due.len()).unwrap_or(u32::MAX);
        Some((partition, self.begun.map_or(*due, |begun| (*due).max(begun + apart))))
    }

    /// Waits until what was under way is not any more, for good or not. Cancel-safe.
    pub fn freed(&self) -> impl Future<Output = ()> + use<> {
        let shared = self.shared.clone();
        async move { shared.freed.notified().await }
    }

    /// The partition whose capture should begin now.
    pub fn due(&self) -> Option<Partition> {
        self.next().filter(|(_, at)| *at <= Instant::now()).map(|(partition, _)| partition.clone())
    }

    /// The partition whose snapshot is under way, until its end is handed over.
    pub fn saving(&self) -> Option<&Partition> {
        self.saving.as_ref()
    }

    /// A capture of `partition` begins: its batches follow, and then its end.
    pub async fn begin(&mut self, partition: &Partition, start: Position, position: Position) {
        let now = Instant::now();
        self.begun = Some(now);
        self.due.insert(partition.clone(), now + self.pace.every);
        self.saving = Some(partition.clone());
        self.shared.hurry(false);
        self.shared.broken.store(false, Ordering::Release);
        self.shared.busy.store(true, Ordering::Release);
        self.send(Work::Begin { partition: partition.clone(), start, position }).await;
    }

    /// Whether what is handed over next is taken at once.
    pub fn has_room(&self) -> bool {
        self.work.capacity() > 0
    }

    /// Whether the store failed under the snapshot: the rest of its capture is of no use, abandon it.
    pub fn is_broken(&self) -> bool {
        self.saving.is_some() && self.shared.broken.load(Ordering::Acquire)
    }

    /// The next batch, at once if there is room. Where rows wait for it, `hurry`: then it waits for the store alone.
    pub async fn put(&mut self, batch: RecordBatch, hurry: bool) {
        self.shared.hurry(hurry);
        self.send(Work::Batch(batch)).await;
    }

    /// The capture is done. Once it is safe, older ones that the committed position does not need are removed.
    pub async fn end(&mut self, committed: Option<Position>) {
        self.saving = None;
        self.send(Work::End { committed }).await;
    }

    /// Drops the snapshot that is under way. Waits for nothing.
    pub fn abandon(&mut self) {
        if self.saving.take().is_some() {
            self.shared.abandoned.store(true, Ordering::Release);
            self.shared.hurry(true);
            // Full, it holds something at which the task will notice.
            let _ = self.work.try_send(Work::Abandon);
        }
    }

    /// A partition needs no snapshot now: it has its turn again after `every`.
    pub fn put_off(&mut self, partition: &Partition) {
        self.due.insert(partition.clone(), Instant::now() + self.pace.every);
    }

    /// Whether it is to keep this partition's state.
    pub fn keeps(&self, partition: &Partition) -> bool {
        self.due.contains_key(partition)
    }

    /// The position of the newest good snapshot.
    pub fn saved(&self, partition: &Partition) -> Option<Position> {
        self.shared.good(|good| good.get(partition).copied().flatten())
    }

    /// Waits for the end of what is under way; a snapshot without its end is dropped.
    pub async fn close(self) {
        self.shared.hurry(true);
        drop(self.work);
        // It does not panic; if it did, there would be nothing to wait for.
        let _ = self.task.await;
    }

    async fn send(&self, work: Work) {
        // The task lives as long as this end.
        let _ = self.work.send(work).await;
    }
}

/// A snapshot under way.
struct Current {
    partition: Partition,
    start: Position,
    position: Position,
    began: Instant,
    writer: Writer,
    /// Ends with it.
    _span: tracing::Span,
    /// Bytes written since.
    paced: (Instant, u64),
}

async fn run(store: Arc<Store>, mut queue: mpsc::Receiver<Work>, shared: Arc<Shared>, bytes_per_second: u64) {
    let mut current: Option<Current> = None;
    while let Some(work) = queue.recv().await {
        if shared.abandoned.swap(false, Ordering::AcqRel) {
            // What waits is of the same snapshot: the next is not begun while this one is busy.
            while queue.try_recv().is_ok() {}
            drop_unfinished(current.take()).await;
            shared.free();
            continue;
        }
        match work {
            Work::Begin { partition, start, position } => {
                let writer = store.writer(&partition, start, position);
                let began = Instant::now();
                let _span = tracing::trace_span!(
                    target: "spans",
                    "snapshot",
                    topic = %partition.topic,
                    partition = partition.number,
                    position = position.0
                );
                let fresh = Current { partition, start, position, began, writer, _span, paced: (began, 0) };
                drop_unfinished(current.replace(fresh)).await;
            }
            Work::Batch(batch) => {
                let Some(under_way) = &mut current else { continue };
                match under_way.writer.batch(&batch).await {
                    Ok(bytes) => pace(under_way, bytes, bytes_per_second, &shared).await,
                    Err(error) => {
                        failed(&store, under_way, &error);
                        shared.broken.store(true, Ordering::Release);
                        drop_unfinished(current.take()).await;
                    }
                }
            }
            Work::End { committed } => {
                if let Some(current) = current.take() {
                    end(&store, current, committed, &shared).await;
                }
                shared.free();
            }
            Work::Abandon => {
                drop_unfinished(current.take()).await;
                shared.free();
            }
        }
    }
    drop_unfinished(current).await;
}

/// Waits until the bytes written are no more than the pace allows, or until somebody is in a hurry.
async fn pace(current: &mut Current, bytes: u64, bytes_per_second: u64, shared: &Shared) {
    let (since, before) = current.paced;
    let written = before + bytes;
    current.paced = (since, written);
    let until = since + Duration::from_secs_f64(written as f64 / bytes_per_second as f64);
    while Instant::now() < until {
        if shared.hurry.load(Ordering::Acquire) {
            // What was written in a hurry is not waited for later.
            current.paced = (Instant::now(), 0);
            return;
        }
        tokio::select! {
            () = sleep_until(until) => {}
            () = shared.hurried.notified() => {}
        }
    }
}

async fn end(store: &Store, current: Current, committed: Option<Position>, shared: &Shared) {
    let Current { partition, start, position, began, writer, .. } = current;
    let kept = |safe| Kept { partition: partition.clone(), position, took: began.elapsed(), safe };
    if let Err(error) = writer.finish().await {
        store.keeping().note(kept(false));
        tracing::warn!(topic = %partition.topic, partition = partition.number, position = position.0, "{error:#}: it is tried again at the next turn");
        return;
    }
    store.keeping().note(kept(true));
    tracing::debug!(topic = %partition.topic, partition = partition.number, position = position.0, "the state is safe");
    shared.good(|good| {
        // It may have been given up meanwhile.
        good.entry(partition.clone()).and_modify(|good| *good = Some(position));
    });
    if let Some(committed) = committed
        && let Err(error) = store.prune(&partition, start, committed).await
    {
        tracing::warn!(topic = %partition.topic, partition = partition.number, "{error:#}: it is tried again at the next turn");
    }
}

fn failed(store: &Store, current: &Current, error: &anyhow::Error) {
    let Current { partition, position, began, .. } = current;
    let (partition, position) = (partition.clone(), *position);
    store.keeping().note(Kept { partition: partition.clone(), position, took: began.elapsed(), safe: false });
    tracing::warn!(topic = %partition.topic, partition = partition.number, position = position.0, "{error:#}: it is tried again at the next turn");
}

async fn drop_unfinished(current: Option<Current>) {
    if let Some(Current { writer, .. }) = current {
        writer.abort().await;
    }
}
