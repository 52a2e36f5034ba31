//! A group before its first member: where its partitions would start, and the first positions committed for it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};

use super::client::Logged;
use super::{Cluster, partition_of};
use crate::config::KafkaSource;
use tidecast_stream::{From, Position};

const TIMEOUT: Duration = Duration::from_secs(20);
/// Records of a partition that are looked at: of several series, and written lately.
const LATEST: i64 = 20;

/// Blocks with every call.
pub struct Founding {
    consumer: BaseConsumer<Logged>,
    topic: String,
    group: String,
    partitions: i32,
}

impl Founding {
    /// # Errors
    /// When no broker answers, the topic does not exist, or the group has committed a position already.
    pub fn open(cluster: &Cluster, config: &KafkaSource) -> Result<Self> {
        let partitions = cluster.require(&config.topic)?;
        let settings = [
            ("group.id", config.group.as_str()),
            ("enable.auto.commit", "false"),
            ("enable.partition.eof", "true"),
        ];
        let consumer = cluster.client(&settings, Logged::default())?;
        let founding =
            Self { consumer, topic: config.topic.clone(), group: config.group.clone(), partitions };
        let committed = founding.consumer.committed_offsets(founding.list(|_| Offset::Invalid)?, TIMEOUT);
        let committed =
            committed.with_context(|| format!("reading the positions of group {}", config.group))?;
        for element in committed.elements() {
            if let Offset::Offset(offset) = element.offset() {
                bail!(
                    "group `{}` has begun already: it stands at {offset} of {}/{}; a pipeline is bootstrapped before its first \
                     run, so use another `group`, or delete this one",
                    config.group,
                    config.topic,
                    element.partition()
                );
            }
        }
        Ok(founding)
    }

    pub fn partitions(&self) -> i32 {
        self.partitions
    }

    /// The first record of each partition whose timestamp is at this time (microseconds) or later, or the end.
    pub fn starts(&self, at: i64) -> Result<BTreeMap<i32, Position>> {
        let list = self.list(|_| Offset::Offset(at.div_euclid(1000)))?;
        let found = self.consumer.offsets_for_times(list, TIMEOUT);
        let found = found.with_context(|| format!("topic `{}`: asking for offsets by time", self.topic))?;
        let mut starts = BTreeMap::new();
        for element in found.elements() {
            let number = element.partition();
            let offset = match element.offset() {
                Offset::Offset(offset) => offset,
                _ => self.consumer.fetch_watermarks(&self.topic, number, TIMEOUT)?.1,
            };
            starts.insert(number, Position(offset));
        }
        Ok(starts)
    }

    /// A key among the latest records that lies elsewhere than [`partition_of`] places it, and where: its producer goes another
    /// way, so that what is learned of its series would not be where its rows are.
    ///
    /// # Errors
    /// When no broker answers.
    pub fn astray(&self) -> Result<Option<(String, i32)>> {
        let mut list = TopicPartitionList::new();
        for number in 0..self.partitions {
            let (low, high) = self.consumer.fetch_watermarks(&self.topic, number, TIMEOUT)?;
            if low < high {
                list.add_partition_offset(&self.topic, number, Offset::Offset(low.max(high - LATEST)))?;
            }
        }
        let mut left = list.count();
        self.consumer.assign(&list)?;
        let until = Instant::now() + TIMEOUT;
        while left > 0 && Instant::now() < until {
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(record)) => {
                    let (number, key) = (record.partition(), record.key().unwrap_or_default());
                    if !key.is_empty() && partition_of(key, self.partitions) != number {
                        return Ok(Some((String::from_utf8_lossy(key).into_owned(), number)));
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => left -= 1,
                // The client mends what it can; what it cannot, the calls that follow will say.
                Some(Err(_)) | None => {}
            }
        }
        Ok(None)
    }

    /// Commits where the group begins, all partitions at once.
    ///
    /// # Errors
    /// When the group has members by now, or the coordinator refuses.
    pub fn commit(&self, starts: &BTreeMap<i32, From>) -> Result<()> {
        let mut list = TopicPartitionList::new();
        for (number, From { position, note, .. }) in starts {
            let mut element = list.add_partition(&self.topic, *number);
            element.set_offset(Offset::Offset(position.0))?;
            element.set_metadata(note);
        }
        self.consumer.commit(&list, CommitMode::Sync).with_context(|| {
            format!(
                "group `{}`: where it begins cannot be committed (if it has members, stop them first)",
                self.group
            )
        })
    }

    fn list(&self, offset: impl Fn(i32) -> Offset) -> Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for number in 0..self.partitions {
            list.add_partition_offset(&self.topic, number, offset(number))?;
        }
        Ok(list)
    }
}
