//! Snapshots of the assigned partitions: captured between pushes, a few hundred series at a time, one
//! partition after another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use tidecast_core::forecaster::{COPIED_BYTES_MAX, SnapshotProgress};
use tokio::time::{Instant, timeout};

use super::StateOptions;
use super::candidate_records::CandidateRecords;
use super::partition_task::PartitionTask;
use crate::state::{SnapshotStore, SnapshotUploader, Throttle};
use crate::{Partition, Position};

/// Series captured between two pushes: less than a millisecond of work.
const SERIES_PER_STEP: usize = 512;
/// Polling interval of a full upload queue.
const QUEUE_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Maximum time that rows wait for a stalled upload; its snapshot is then aborted.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time for the snapshots at the end of a run: a gigabyte over a slow network.
const FINAL_TIMEOUT: Duration = Duration::from_secs(60);

pub struct Checkpointer {
    store: Arc<SnapshotStore>,
    uploader: SnapshotUploader,
    /// The candidates' messages of the running capture, as they were when it began.
    candidates: CandidateRecords,
    clock: StalenessClock,
    staleness: BTreeMap<Partition, SnapshotStaleness>,
    /// Some partition may be past its snapshot.
    any_stale: bool,
}

type Tasks = BTreeMap<Partition, PartitionTask>;

impl Checkpointer {
    pub fn new(options: &StateOptions) -> Self {
        Self {
            store: options.store.clone(),
            uploader: SnapshotUploader::spawn(options.store.clone(), options.schedule),
            candidates: CandidateRecords::default(),
            clock: StalenessClock::new(options.snapshot_age_max, Instant::now()),
            staleness: BTreeMap::new(),
            any_stale: false,
        }
    }

    /// Starts to snapshot a partition, whose newest snapshot is at `saved`.
    pub fn add(&mut self, partition: &Partition, saved: Option<Position>) {
        self.uploader.add(partition, saved);
        self.staleness.insert(partition.clone(), SnapshotStaleness::default());
    }

    pub fn remove(&mut self, partition: &Partition) {
        self.uploader.remove(partition);
        self.staleness.remove(partition);
    }

    /// Waits until [`Checkpointer::advance`] has work. Cancel-safe.
    pub fn next_due(&self) -> impl Future<Output = ()> + use<> {
        let (due, idle) = (self.due(), self.uploader.idle());
        async move {
            tokio::select! {
                () = super::sleep_until(due) => {}
                () = idle => {}
            }
        }
    }

    fn due(&self) -> Option<Instant> {
        let snapshot = if self.uploader.current().is_some() {
            let now = Instant::now();
            Some(if self.uploader.has_capacity() { now } else { now + QUEUE_POLL_INTERVAL })
        } else {
            self.uploader.next().map(|(_, at)| at)
        };
        let staleness = self.any_stale.then(|| self.clock.due());
        snapshot.into_iter().chain(staleness).min()
    }

    /// Advances the running capture by one step, or begins the next one that is due.
    ///
    /// # Errors
    /// If the newest snapshot of a partition is too old: a restart would have to replay too much.
    pub async fn advance(&mut self, tasks: &mut Tasks) -> Result<()> {
        if let Some(elapsed) = self.clock.tick(Instant::now()) {
            self.any_stale = false;
            tasks.iter().try_for_each(|(partition, task)| self.check_staleness(partition, task, elapsed))?;
        }
        match self.uploader.current().cloned() {
            Some(partition) => {
                let Some(task) = tasks.get_mut(&partition) else { return Ok(()) };
                if self.uploader.has_failed() {
                    self.uploader.abort();
                    task.forecaster.abort_snapshot();
                } else if self.uploader.has_capacity() {
                    self.capture_step(task, Throttle::Limited).await?;
                }
            }
            None => {
                let Some(partition) = self.uploader.due() else { return Ok(()) };
                if let Some(task) = tasks.get_mut(&partition) {
                    self.begin(&partition, task).await;
                }
            }
        }
        Ok(())
    }

    fn check_staleness(
        &mut self,
        partition: &Partition,
        task: &PartitionTask,
        elapsed: Duration,
    ) -> Result<()> {
        let Some(staleness) = self.staleness.get_mut(partition).filter(|_| !task.is_replaying()) else {
            return Ok(());
        };
        let saved = self.uploader.saved(partition).unwrap_or(task.start);
        let Some(age) = staleness.update(elapsed, task.next, saved) else { return Ok(()) };
        self.any_stale = true;
        if self.clock.is_exceeded_by(age) {
            bail!(
                "{partition}: no snapshot could be saved for {} s, more than limits.snapshot_age allows: a restart would replay \
                 all rows since then; check the state store",
                age.as_secs()
            );
        }
        Ok(())
    }

    async fn begin(&mut self, partition: &Partition, task: &mut PartitionTask) {
        if task.is_replaying() || self.uploader.saved(partition) == Some(task.next) {
            return self.uploader.defer(partition);
        }
        task.forecaster.begin_snapshot(COPIED_BYTES_MAX);
        self.candidates.clone_from(&task.candidates);
        if let Some(staleness) = self.staleness.get_mut(partition) {
            staleness.on_snapshot_begin(task.next);
        }
        self.uploader.begin(partition, task.start, task.next).await;
    }

    /// Before a push: advances the capture of the partition until its copies are below their bound.
    pub async fn free_copy_space(&mut self, task: &mut PartitionTask) -> Result<()> {
        self.any_stale = true;
        while task.forecaster.snapshot_over_budget() && !self.uploader.has_failed() {
            match timeout(UPLOAD_TIMEOUT, self.capture_step(task, Throttle::Unlimited)).await {
                Ok(captured) => captured?,
                Err(_) => {
                    tracing::warn!(
                        "the state store has accepted nothing for {} s: aborting this snapshot",
                        UPLOAD_TIMEOUT.as_secs()
                    );
                    self.uploader.abort();
                    task.forecaster.abort_snapshot();
                }
            }
        }
        Ok(())
    }

    async fn capture_step(&mut self, task: &mut PartitionTask, throttle: Throttle) -> Result<()> {
        match task.forecaster.advance_snapshot(SERIES_PER_STEP) {
            SnapshotProgress::Pending => {}
            SnapshotProgress::Batch(batch) => {
                self.uploader.write(self.candidates.add_columns(&batch)?, throttle).await;
            }
            SnapshotProgress::Done => self.uploader.finish(Some(task.committed.unwrap_or(task.start))).await,
        }
        Ok(())
    }

    /// Saves the current state of all partitions. A failure loses nothing: the next start replays more rows.
    pub async fn checkpoint_all(self, tasks: &mut Tasks) {
        match timeout(FINAL_TIMEOUT, self.save_each(tasks)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!("{error:#}; the next start replays the rows since the previous snapshot");
            }
            Err(_) => tracing::warn!(
                "the state could not be saved within {} s; the next start replays the rows since the previous snapshot",
                FINAL_TIMEOUT.as_secs()
            ),
        }
    }

    async fn save_each(mut self, tasks: &mut Tasks) -> Result<()> {
        self.uploader.abort();
        for (partition, task) in tasks.iter_mut() {
            if task.is_replaying() || self.uploader.saved(partition) == Some(task.next) {
                continue;
            }
            let mut writer = self.store.writer(partition, task.start, task.next);
            for batch in task.forecaster.snapshot_batches() {
                writer.write(&task.candidates.add_columns(&batch)?).await?;
            }
            writer.finish().await?;
            self.store.prune(partition, task.start, task.committed.unwrap_or(task.start)).await?;
        }
        self.uploader.close().await;
        Ok(())
    }
}

/// The longest interval between two staleness checks.
const CHECK_INTERVAL_MAX: Duration = Duration::from_secs(1);
/// Checks within a limit shorter than ten such intervals.
const CHECKS_MIN: u32 = 10;
/// Longer than the driver ever waits for a store or a commit between two checks: a longer gap means a suspended process.
const STALL_MAX: Duration = Duration::from_secs(60);
/// One stall counts as at most 1/4 of the limit, so that a resumed process can still save a snapshot.
const STALL_LIMIT_DIVISOR: u32 = 4;

/// The schedule of staleness checks, and the time that each check counts.
///
/// Only time in which the driver runs counts: a suspended process reads no rows, and cannot save a snapshot either.
#[derive(Debug)]
struct StalenessClock {
    limit: Duration,
    checked: Instant,
}

impl StalenessClock {
    fn new(limit: Duration, now: Instant) -> Self {
        Self { limit, checked: now }
    }

    /// The time of the next check.
    fn due(&self) -> Instant {
        self.checked + CHECK_INTERVAL_MAX.min(self.limit / CHECKS_MIN)
    }

    /// If a check is due, the time to count since the previous one.
    fn tick(&mut self, now: Instant) -> Option<Duration> {
        let elapsed = (self.due() <= now).then(|| now - self.checked)?;
        self.checked = now;
        Some(elapsed.min(STALL_MAX).min(self.limit / STALL_LIMIT_DIVISOR))
    }

    fn is_exceeded_by(&self, age: Duration) -> bool {
        age > self.limit
    }
}

/// The time a partition has been past its newest snapshot, i.e. the age of the rows that a restart would replay.
#[derive(Debug, Default)]
struct SnapshotStaleness {
    /// The newest snapshot at the last check.
    saved: Option<Position>,
    /// The time the partition has been past it; `None` if it is not.
    age: Option<Duration>,
    /// The snapshot that began last, and the time the partition has been past it.
    begun: Option<(Position, Option<Duration>)>,
}

impl SnapshotStaleness {
    fn on_snapshot_begin(&mut self, position: Position) {
        self.begun = Some((position, None));
    }

    /// Counts `elapsed` time: the partition is at `next`, and the newest snapshot at `saved`. Returns the time the partition
    /// has been past it.
    fn update(&mut self, elapsed: Duration, next: Position, saved: Position) -> Option<Duration> {
        if self.saved != Some(saved) {
            self.saved = Some(saved);
            // Rows pushed during the upload have aged since it began.
            let begun = self.begun.take_if(|(position, _)| *position == saved);
            self.age = begun.and_then(|(_, age)| age);
        }
        // The age starts at the first check that finds the partition past it: it may have been idle before.
        let longer = |age: Option<Duration>| Some(age.map_or(Duration::ZERO, |age| age + elapsed));
        self.age = if next == saved { None } else { longer(self.age) };
        if let Some((position, age)) = &mut self.begun
            && *position != next
        {
            *age = longer(*age);
        }
        self.age
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn only_a_partition_past_its_snapshot_becomes_stale() {
        let (mut staleness, at) = (SnapshotStaleness::default(), Position);
        let mut update = |elapsed, next, saved| staleness.update(seconds(elapsed), at(next), at(saved));
        assert_eq!([update(50, 7, 7), update(50, 7, 7)], [None, None]);
        assert_eq!(update(5000, 8, 7), Some(seconds(0)), "the partition was idle until now");
        assert_eq!([update(1, 8, 7), update(2, 9, 7)], [Some(seconds(1)), Some(seconds(3))]);
        assert_eq!([update(1, 9, 9), update(5000, 10, 9)], [None, Some(seconds(0))]);
    }

    #[test]
    fn rows_pushed_during_an_upload_age_from_its_begin() {
        let (mut staleness, at) = (SnapshotStaleness::default(), Position);
        staleness.update(seconds(1), at(5), at(0));
        staleness.update(seconds(9), at(5), at(0));
        staleness.on_snapshot_begin(at(5));
        assert_eq!(staleness.update(seconds(1), at(5), at(0)), Some(seconds(10)));
        assert_eq!(staleness.update(seconds(1), at(6), at(0)), Some(seconds(11)));
        assert_eq!(staleness.update(seconds(3), at(6), at(0)), Some(seconds(14)));
        assert_eq!(staleness.update(seconds(1), at(6), at(5)), Some(seconds(4)));
    }

    #[test]
    fn a_suspended_process_has_time_left_to_save_a_snapshot() {
        let start = Instant::now();
        let mut clock = StalenessClock::new(seconds(3600), start);
        assert_eq!(clock.tick(start), None);
        assert_eq!(clock.tick(start + seconds(2)), Some(seconds(2)));
        assert_eq!(clock.tick(start + seconds(9000)), Some(STALL_MAX));
        assert_eq!(clock.due(), start + seconds(9001));
        let mut short = StalenessClock::new(seconds(4), start);
        assert_eq!(short.tick(start + seconds(9000)), Some(seconds(1)));
        assert!(short.is_exceeded_by(seconds(5)) && !short.is_exceeded_by(seconds(4)));
    }
}
