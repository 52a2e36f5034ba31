//! The reader's distance from the end of each partition, for dashboards and metrics. Nothing that is read or written
//! depends on it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::Statistics;

/// Interval of the client's statistics.
pub(crate) const STATISTICS_INTERVAL_MS: &str = "1000";

/// End offset and progress of a partition that is being read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionLag {
    /// The position after the last readable record.
    pub end: i64,
    /// The position after the last row that was passed on.
    next: i64,
    /// A broker has reported that no row follows `next`: only transaction markers are left, or nothing.
    is_at_end: bool,
}

impl PartitionLag {
    /// Number of unread rows for a reader at `position`.
    pub fn lag(&self, position: i64) -> u64 {
        if self.is_at_end && position >= self.next {
            return 0;
        }
        u64::try_from(self.end - position).unwrap_or(0)
    }
}

/// The lag of all assigned partitions by number. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct LagTracker(Arc<Mutex<BTreeMap<i32, PartitionLag>>>);

impl LagTracker {
    pub fn snapshot(&self) -> BTreeMap<i32, PartitionLag> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, PartitionLag>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, partition: i32, update: impl FnOnce(&mut PartitionLag)) {
        if let Some(lag) = self.lock().get_mut(&partition) {
            update(lag);
        }
    }

    /// The partition is read from `position` on.
    pub(crate) fn on_start(&self, partition: i32, position: i64, end: i64) {
        self.lock().insert(partition, PartitionLag { end, next: position, is_at_end: false });
    }

    /// All rows below `next` were passed on.
    pub(crate) fn on_rows(&self, partition: i32, next: i64) {
        self.update(partition, |lag| (lag.next, lag.is_at_end) = (next, false));
    }

    /// A broker has reported the end of the partition.
    pub(crate) fn on_end(&self, partition: i32) {
        self.update(partition, |lag| lag.is_at_end = true);
    }

    /// The partition is not fetched any more, so that its end is unknown.
    pub(crate) fn on_pause(&self, partition: i32) {
        self.update(partition, |lag| lag.is_at_end = false);
    }

    /// The partition has at least this end. Reports may arrive out of order.
    pub(crate) fn on_end_offset(&self, partition: i32, end: i64) {
        self.update(partition, |lag| lag.end = lag.end.max(end));
    }

    pub(crate) fn on_statistics(&self, topic: &str, statistics: &Statistics) {
        let Some(topic) = statistics.topics.get(topic) else { return };
        for partition in topic.partitions.values() {
            // Only committed records are read, so the last stable offset is the end. Brokers without transactions have
            // none.
            let end = if partition.ls_offset >= 0 { partition.ls_offset } else { partition.hi_offset };
            self.on_end_offset(partition.partition, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transaction_markers_are_no_lag_and_paused_partitions_are() {
        let tracker = LagTracker::default();
        let lag = |position| tracker.snapshot()[&3].lag(position);
        tracker.on_start(3, 40, 50);
        assert_eq!((lag(40), lag(45)), (10, 5));
        tracker.on_rows(3, 48);
        tracker.on_end(3);
        assert_eq!((lag(48), lag(47)), (0, 3), "rows that were passed on but not processed are lag");
        tracker.on_end_offset(3, 60);
        assert_eq!(lag(48), 0, "until a row arrives");
        tracker.on_pause(3);
        assert_eq!(lag(48), 12);
        tracker.on_end_offset(3, 55);
        assert_eq!(lag(48), 12, "an outdated report");
        tracker.on_end_offset(4, 7);
        assert_eq!(tracker.snapshot().len(), 1, "a partition that is not read has no lag");
    }
}
