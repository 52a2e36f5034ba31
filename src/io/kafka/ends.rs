//! How far the partitions reach, as the client hears with every answer of the brokers: what says how far behind we are. For
//! those who watch; nothing that is read or written depends on it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::Statistics;

/// From one report of the client to the next.
pub(super) const EVERY_MS: &str = "1000";

/// The position behind the last record that may be read, by partition.
#[derive(Clone, Debug, Default)]
pub struct Ends(Arc<Mutex<BTreeMap<i32, i64>>>);

impl Ends {
    pub fn all(&self) -> BTreeMap<i32, i64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn learn(&self, topic: &str, statistics: &Statistics) {
        let Some(topic) = statistics.topics.get(topic) else { return };
        let known = topic.partitions.values().filter_map(|partition| {
            // Committed records alone are read: the last stable offset is the end. Brokers without transactions know none.
            let end = if partition.ls_offset >= 0 { partition.ls_offset } else { partition.hi_offset };
            (end >= 0).then_some((partition.partition, end))
        });
        let known: BTreeMap<i32, i64> = known.collect();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(known);
    }
}
