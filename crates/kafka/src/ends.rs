//! How far the partitions reach, as the client hears with every answer of the brokers: what says how far behind we are. For
//! those who watch; nothing that is read or written depends on it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::Statistics;

/// From one report of the client to the next.
pub(super) const EVERY_MS: &str = "1000";

/// How far a partition reaches that is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// The position behind the last record that may be read.
    pub end: i64,
    /// The position behind the last row that was handed over.
    handed: i64,
    /// Whether a broker has said that no row follows that one: up to the end there are marks of transactions, or nothing.
    is_through: bool,
}

impl Reach {
    /// Rows that are there and not read, for a reader at a position.
    pub fn lag(&self, position: i64) -> u64 {
        if self.is_through && position >= self.handed {
            return 0;
        }
        u64::try_from(self.end - position).unwrap_or(0)
    }
}

/// All of them, by number.
#[derive(Clone, Debug, Default)]
pub struct Ends(Arc<Mutex<BTreeMap<i32, Reach>>>);

impl Ends {
    pub fn all(&self) -> BTreeMap<i32, Reach> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, Reach>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A partition that ends there is read from a position on.
    pub(super) fn begin(&self, number: i32, from: i64, end: i64) {
        self.lock().insert(number, Reach { end, handed: from, is_through: false });
    }

    /// It has been handed over up to a position.
    pub(super) fn handed(&self, number: i32, next: i64) {
        if let Some(reach) = self.lock().get_mut(&number) {
            (reach.handed, reach.is_through) = (next, false);
        }
    }

    /// A broker has said that there is nothing more, as of now.
    pub(super) fn through(&self, number: i32) {
        self.lock().get_mut(&number).into_iter().for_each(|reach| reach.is_through = true);
    }

    /// No broker is asked any more.
    pub(super) fn paused(&self, number: i32) {
        self.lock().get_mut(&number).into_iter().for_each(|reach| reach.is_through = false);
    }

    pub(super) fn reaches(&self, number: i32, end: i64) {
        self.lock().get_mut(&number).into_iter().for_each(|reach| reach.end = reach.end.max(end));
    }

    pub(super) fn learn(&self, topic: &str, statistics: &Statistics) {
        let Some(topic) = statistics.topics.get(topic) else { return };
        for partition in topic.partitions.values() {
            // Committed records alone are read: the last stable offset is the end. Brokers without transactions know none.
            let end = if partition.ls_offset >= 0 { partition.ls_offset } else { partition.hi_offset };
            self.reaches(partition.partition, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_transactions_are_no_rows_and_what_is_paused_may_have_more() {
        let ends = Ends::default();
        let lag = |position| ends.all()[&3].lag(position);
        ends.begin(3, 40, 50);
        assert_eq!((lag(40), lag(45)), (10, 5));
        ends.handed(3, 48);
        ends.through(3);
        assert_eq!((lag(48), lag(47)), (0, 3), "what is handed over and not pushed yet is behind");
        ends.reaches(3, 60);
        assert_eq!(lag(48), 0, "until a row of it comes");
        ends.paused(3);
        assert_eq!(lag(48), 12);
        ends.reaches(3, 55);
        assert_eq!(lag(48), 12, "a report from before");
        ends.reaches(4, 7);
        assert_eq!(ends.all().len(), 1, "who reads none of it is behind with none of it");
    }
}
