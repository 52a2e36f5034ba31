//! The membership of a consumer group, as those see it who commit positions: what is ours now, with which note, and under
//! which generation. The thread that owns the consumer keeps it; sinks hold clones.
//!
//! Positions go out through here and nowhere else: as commits of their own, or with a transaction.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rdkafka::bindings::{
    rd_kafka_consumer_group_metadata, rd_kafka_consumer_group_metadata_destroy,
    rd_kafka_consumer_group_metadata_generation_id, rd_kafka_consumer_group_metadata_member_id,
};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::oneshot;

use super::rebalance::Member;
use super::source::Command;
use tidecast_stream::{Committed, Partition, Position, Positions, Stopped};

/// The broker holds committed positions back while a transaction of the last owner is open, at most as long as that
/// owner's `transaction.timeout.ms`; then comes the answer or the abort.
const COMMITTED_TIMEOUT: Duration = Duration::from_secs(30);

/// Partitions that are ours, each with where we took it over and the note that goes with its positions.
#[derive(Debug, Default)]
pub(super) struct Owned(Mutex<BTreeMap<i32, (Position, String)>>);

impl Owned {
    pub fn insert(&self, number: i32, resume: Position, note: String) {
        self.0.lock().expect("no holder panics").insert(number, (resume, note));
    }

    pub fn remove(&self, number: i32) {
        self.0.lock().expect("no holder panics").remove(&number);
    }

    fn get(&self, number: i32) -> Option<(Position, String)> {
        self.0.lock().expect("no holder panics").get(&number).cloned()
    }
}

#[derive(Clone)]
pub struct Group {
    pub(super) name: String,
    pub(super) topic: Arc<str>,
    pub(super) consumer: Weak<BaseConsumer<Member>>,
    pub(super) owned: Arc<Owned>,
    pub(super) commands: Sender<Command>,
    /// How far back to look for where to read again after a change.
    pub(super) rewind: Option<Duration>,
}

impl Group {
    /// The group's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Remembers that everything below these positions is done and durable. Returns which of them it took: a partition
    /// that is no longer ours is left out.
    ///
    /// # Errors
    /// When the coordinator does not take them in half a minute, or the source has stopped.
    pub async fn commit(&self, reached: &Positions) -> Result<Positions> {
        let (done, result) = oneshot::channel();
        if self.commands.send(Command::Commit { reached: reached.clone(), done }).is_err() {
            bail!(Stopped);
        }
        result.await.map_err(|_| Stopped)?
    }

    /// What of these positions is ours, as a list for the coordinator, and the same as positions.
    pub(super) fn ours(&self, reached: &Positions) -> Result<(TopicPartitionList, Positions), KafkaError> {
        let (mut list, mut ours) = (TopicPartitionList::new(), Positions::new());
        for (partition, position) in reached {
            let owned = if partition.topic == self.topic { self.owned.get(partition.number) } else { None };
            let Some((resume, note)) = owned else {
                tracing::info!(group = self.name, topic = %partition.topic, partition = partition.number, %position, "not committed: no longer ours");
                continue;
            };
            // A file may have begun before us: what lies below is done.
            let position = (*position).max(resume);
            let mut element = list.add_partition(&self.topic, partition.number);
            element.set_offset(Offset::Offset(position.0))?;
            element.set_metadata(note);
            ours.insert(partition.clone(), position);
        }
        Ok((list, ours))
    }

    /// What of these positions is ours.
    pub fn owned(&self, reached: &Positions) -> Positions {
        let is_ours = |partition: &Partition| {
            partition.topic == self.topic && self.owned.get(partition.number).is_some()
        };
        reached.iter().filter(|(partition, _)| is_ours(partition)).map(|(p, at)| (p.clone(), *at)).collect()
    }

    /// Under which generation we are a member: to be taken before [`Group::ours`] is asked. A partition that leaves in
    /// between has made it stale, and the coordinator refuses it.
    /// `None` where we are none at this moment: a broker would take positions of such a one unchecked, as from a client
    /// that knows no groups.
    ///
    /// # Errors
    /// When the source has stopped.
    pub(super) fn membership(&self) -> Result<Option<ConsumerGroupMetadata>> {
        let consumer = self.consumer.upgrade().ok_or(Stopped)?;
        // SAFETY: the handle is that of a client that is borrowed here; what is asked of it is ours, looked at while it
        // lives, and destroyed once.
        let is_member = unsafe {
            let metadata = rd_kafka_consumer_group_metadata(consumer.client().native_ptr());
            if metadata.is_null() {
                false
            } else {
                let generation = rd_kafka_consumer_group_metadata_generation_id(metadata);
                let member = CStr::from_ptr(rd_kafka_consumer_group_metadata_member_id(metadata)).is_empty();
                rd_kafka_consumer_group_metadata_destroy(metadata);
                generation >= 0 && !member
            }
        };
        Ok(if is_member { consumer.group_metadata() } else { None })
    }

    /// The committed positions of partitions, those of transactions under way awaited. Blocks.
    pub(super) fn committed(&self, partitions: &[i32]) -> Result<BTreeMap<i32, Option<Committed>>> {
        let consumer = self.consumer.upgrade().ok_or(Stopped)?;
        let mut list = TopicPartitionList::new();
        for number in partitions {
            list.add_partition(&self.topic, *number);
        }
        let committed = consumer.committed_offsets(list, COMMITTED_TIMEOUT);
        let committed = committed.with_context(|| format!("reading the positions of group {}", self.name))?;
        let mut found = BTreeMap::new();
        for element in committed.elements() {
            let partition = Partition { topic: self.topic.clone(), number: element.partition() };
            element.error().map_err(|error| {
                anyhow!(error).context(format!("{partition}: reading the group's position"))
            })?;
            let committed = match element.offset() {
                Offset::Offset(offset) => {
                    Some(Committed { position: Position(offset), note: element.metadata().to_owned() })
                }
                _ => None,
            };
            found.insert(partition.number, committed);
        }
        Ok(found)
    }
}

/// For tests of those who commit: a group without brokers, whose coordinator takes every position.
#[cfg(test)]
impl Group {
    pub fn without_brokers(topic: &str) -> Self {
        let (commands, asked) = std::sync::mpsc::channel();
        let answer = |command| match command {
            // Nobody listens where the test has failed.
            Command::Commit { reached, done } => drop(done.send(Ok(reached))),
            Command::Join | Command::Close => {}
        };
        std::thread::spawn(move || asked.into_iter().for_each(answer));
        let (consumer, owned) = (Weak::new(), Arc::default());
        Self { name: "group".into(), topic: topic.into(), consumer, owned, commands, rewind: None }
    }

    pub fn take(&self, number: i32) {
        self.owned.insert(number, Position(0), String::new());
    }

    pub fn lose(&self, number: i32) {
        self.owned.remove(number);
    }
}
