//! The consumer group: callbacks of its client, the partitions owned by this process, and their committed positions.
//!
//! Invariants:
//! - The positions of a member leave through [`Group::committable`] and nowhere else, as a commit of their own or within
//!   a transaction.
//! - A transaction takes the membership before it asks which partitions are owned. A partition that is revoked in
//!   between makes the membership stale, and the coordinator refuses it.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rdkafka::bindings::{
    rd_kafka_consumer_group_metadata, rd_kafka_consumer_group_metadata_destroy,
    rd_kafka_consumer_group_metadata_generation_id, rd_kafka_consumer_group_metadata_member_id,
};
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{
    BaseConsumer, CommitMode, Consumer, ConsumerContext, ConsumerGroupMetadata, RebalanceProtocol,
};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Message, Offset, Statistics, TopicPartitionList};
use tidecast_stream::partitioner::partition_for_key;
use tidecast_stream::{CommittedPosition, Partition, Position, Positions, SourceClosed, StartPosition};
use tokio::sync::oneshot;

use crate::Cluster;
use crate::errors::{ClientLog, is_transient, retry_transient};
use crate::lag::LagTracker;
use crate::settings::KafkaSourceConfig;

/// A broker withholds committed positions while the previous owner's transaction is open, for at most that owner's
/// `transaction.timeout.ms`.
const COMMITTED_TIMEOUT: Duration = Duration::from_secs(30);

/// A coordinator that moves, or a rebalance, refuses commits for seconds. A longer outage is reported to the driver.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);
const COMMIT_RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// A request from the driver to the consumer thread.
pub(crate) enum ConsumerCommand {
    Join,
    Commit { reached: Positions, done: oneshot::Sender<Result<Positions>> },
    Close,
}

/// The consumer group as seen by the sinks that commit its positions. The consumer thread updates it; clones share it.
#[derive(Clone)]
pub struct Group {
    pub(crate) name: String,
    pub(crate) topic: Arc<str>,
    pub(crate) consumer: Weak<BaseConsumer<ConsumerCallbacks>>,
    pub(crate) owned: Arc<OwnedPartitions>,
    pub(crate) commands: Sender<ConsumerCommand>,
}

/// The owned partitions by number.
#[derive(Debug, Default)]
pub(crate) struct OwnedPartitions(Mutex<BTreeMap<i32, CommitInfo>>);

#[derive(Clone, Debug)]
struct CommitInfo {
    /// The position where this process took the partition over.
    replay_until: Position,
    /// Metadata of every committed position.
    metadata: String,
}

impl OwnedPartitions {
    pub fn insert(&self, partition: i32, replay_until: Position, metadata: String) {
        self.0.lock().expect("no holder panics").insert(partition, CommitInfo { replay_until, metadata });
    }

    pub fn remove(&self, partition: i32) {
        self.0.lock().expect("no holder panics").remove(&partition);
    }

    fn get(&self, partition: i32) -> Option<CommitInfo> {
        self.0.lock().expect("no holder panics").get(&partition).cloned()
    }
}

/// Positions of owned partitions.
pub(crate) struct Committable {
    /// With offsets and metadata, as the coordinator takes them.
    pub list: TopicPartitionList,
    pub positions: Positions,
}

impl Group {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Commits positions below which all output is durable. Returns the committed ones, without the partitions that are
    /// no longer owned.
    ///
    /// # Errors
    /// If the coordinator does not accept them within half a minute, or the source is closed.
    pub async fn commit(&self, reached: &Positions) -> Result<Positions> {
        let (done, result) = oneshot::channel();
        if self.commands.send(ConsumerCommand::Commit { reached: reached.clone(), done }).is_err() {
            bail!(SourceClosed);
        }
        result.await.map_err(|_| SourceClosed)?
    }

    /// The subset of `reached` that this process may commit.
    pub(crate) fn committable(&self, reached: &Positions) -> Result<Committable, KafkaError> {
        let mut committable = Committable { list: TopicPartitionList::new(), positions: Positions::new() };
        for (partition, position) in reached {
            let Some(CommitInfo { replay_until, metadata }) = self.commit_info(partition) else {
                tracing::info!(
                    group = self.name,
                    topic = %partition.topic,
                    partition = partition.number,
                    %position,
                    "not committed: the partition is no longer owned"
                );
                continue;
            };
            // An output file may start before this process took over. Everything below `replay_until` is committed
            // already.
            let position = (*position).max(replay_until);
            let mut element = committable.list.add_partition(&self.topic, partition.number);
            element.set_offset(Offset::Offset(position.0))?;
            element.set_metadata(metadata);
            committable.positions.insert(partition.clone(), position);
        }
        Ok(committable)
    }

    /// The subset of `reached` that belongs to owned partitions.
    pub fn owned(&self, reached: &Positions) -> Positions {
        let owned = reached.iter().filter(|(partition, _)| self.commit_info(partition).is_some());
        owned.map(|(partition, position)| (partition.clone(), *position)).collect()
    }

    fn commit_info(&self, partition: &Partition) -> Option<CommitInfo> {
        if partition.topic == self.topic { self.owned.get(partition.number) } else { None }
    }

    /// The current generation and member id, to be taken before [`Group::committable`]. `None` while this process is
    /// not a member: a broker accepts positions without a member id unchecked.
    ///
    /// # Errors
    /// If the source is closed.
    pub(crate) fn membership(&self) -> Result<Option<ConsumerGroupMetadata>> {
        let consumer = self.consumer.upgrade().ok_or(SourceClosed)?;
        // SAFETY: the handle belongs to a client that is borrowed here. The metadata is a copy of ours: it is read
        // while it is alive and destroyed once.
        let is_member = unsafe {
            let metadata = rd_kafka_consumer_group_metadata(consumer.client().native_ptr());
            if metadata.is_null() {
                false
            } else {
                let generation = rd_kafka_consumer_group_metadata_generation_id(metadata);
                let has_id = !CStr::from_ptr(rd_kafka_consumer_group_metadata_member_id(metadata)).is_empty();
                rd_kafka_consumer_group_metadata_destroy(metadata);
                generation >= 0 && has_id
            }
        };
        Ok(if is_member { consumer.group_metadata() } else { None })
    }

    /// The committed positions of partitions. Waits until open transactions on them end. Blocks.
    pub(crate) fn committed(&self, partitions: &[i32]) -> Result<BTreeMap<i32, Option<CommittedPosition>>> {
        let consumer = self.consumer.upgrade().ok_or(SourceClosed)?;
        let mut list = TopicPartitionList::new();
        for number in partitions {
            list.add_partition(&self.topic, *number);
        }
        let committed = consumer.committed_offsets(list, COMMITTED_TIMEOUT);
        let committed =
            committed.with_context(|| format!("reading the committed positions of group `{}`", self.name))?;
        let mut found = BTreeMap::new();
        for element in committed.elements() {
            let partition = Partition { topic: self.topic.clone(), number: element.partition() };
            element.error().map_err(|error| {
                anyhow!(error).context(format!("{partition}: reading the committed position"))
            })?;
            let committed = match element.offset() {
                Offset::Offset(offset) => Some(CommittedPosition {
                    position: Position(offset),
                    metadata: element.metadata().to_owned(),
                }),
                _ => None,
            };
            found.insert(partition.number, committed);
        }
        Ok(found)
    }
}

/// A group without brokers, whose commits always succeed.
#[cfg(test)]
impl Group {
    pub fn without_brokers(topic: &str) -> Self {
        let (commands, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for command in receiver {
                if let ConsumerCommand::Commit { reached, done } = command {
                    let _ = done.send(Ok(reached));
                }
            }
        });
        let (consumer, owned) = (Weak::new(), Arc::default());
        Self { name: "group".into(), topic: topic.into(), consumer, owned, commands }
    }

    pub fn gain(&self, partition: i32) {
        self.owned.insert(partition, Position(0), String::new());
    }

    pub fn lose(&self, partition: i32) {
        self.owned.remove(partition);
    }
}

/// A rebalance step requested by the group's coordinator.
#[derive(Clone)]
pub(crate) enum RebalanceEvent {
    Assign(Vec<i32>),
    /// With `is_lost` the partitions have other owners already.
    Revoke {
        partitions: Vec<i32>,
        is_lost: bool,
    },
}

/// Context of the consumer. Queues rebalance events, which the consumer thread handles between two polls.
#[derive(Default)]
pub(crate) struct ConsumerCallbacks {
    log: ClientLog,
    rebalances: Mutex<VecDeque<RebalanceEvent>>,
    /// No thread handles the queue any more: revocations are acknowledged at once.
    is_leaving: AtomicBool,
    topic: String,
    lag: LagTracker,
}

impl ConsumerCallbacks {
    pub fn new(topic: &str, lag: LagTracker) -> Self {
        Self { topic: topic.to_owned(), lag, ..Self::default() }
    }

    pub fn next_rebalance(&self) -> Option<RebalanceEvent> {
        self.rebalances.lock().expect("no holder panics").pop_front()
    }

    pub fn has_rebalances(&self) -> bool {
        !self.rebalances.lock().expect("no holder panics").is_empty()
    }

    pub fn start_leaving(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    pub fn last_failure(&self) -> Option<String> {
        self.log.last_failure()
    }
}

impl ClientContext for ConsumerCallbacks {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.log.generate_oauth_token(config)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.log.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        self.lag.on_statistics(&self.topic, &statistics);
    }
}

impl ConsumerContext for ConsumerCallbacks {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        kind: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        if self.is_leaving.load(Ordering::Relaxed) {
            // A closing client accepts any answer as an unassignment.
            if let Err(error) = unassign_all(consumer) {
                tracing::warn!("leaving the consumer group: {error}");
            }
            return;
        }
        let numbers = partitions.elements().iter().map(|element| element.partition()).collect();
        let event = match kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            true => RebalanceEvent::Assign(numbers),
            false => RebalanceEvent::Revoke { partitions: numbers, is_lost: consumer.assignment_lost() },
        };
        self.rebalances.lock().expect("no holder panics").push_back(event);
    }
}

pub(crate) fn unassign_all(consumer: &BaseConsumer<ConsumerCallbacks>) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(&consumer.assignment()?),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
    }
}

/// Commits that the coordinator has not accepted yet, in order: one that has to wait blocks those behind it, so that no
/// position moves back.
#[derive(Default)]
pub(crate) struct CommitQueue(VecDeque<PendingCommit>);

struct PendingCommit {
    reached: Positions,
    done: oneshot::Sender<Result<Positions>>,
    deadline: Instant,
    next_attempt: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommitRetry {
    UntilTimeout,
    /// The source is closing.
    Never,
}

impl CommitQueue {
    pub fn push(&mut self, reached: Positions, done: oneshot::Sender<Result<Positions>>) {
        let now = Instant::now();
        self.0.push_back(PendingCommit { reached, done, deadline: now + COMMIT_TIMEOUT, next_attempt: now });
    }

    /// Commits what is due.
    pub fn advance(&mut self, group: &Group, consumer: &BaseConsumer<ConsumerCallbacks>, retry: CommitRetry) {
        while let Some(mut commit) = self.0.pop_front() {
            let now = Instant::now();
            if now < commit.next_attempt {
                return self.0.push_front(commit);
            }
            match commit_sync(group, consumer, &commit.reached) {
                Err(error)
                    if is_transient(&error)
                        && now < commit.deadline
                        && retry == CommitRetry::UntilTimeout =>
                {
                    tracing::debug!(group = group.name(), "retrying a commit: {error}");
                    commit.next_attempt = now + COMMIT_RETRY_INTERVAL;
                    return self.0.push_front(commit);
                }
                Err(error) => {
                    let context = format!("the positions could not be committed ({})", commit_advice(&error));
                    let positions = format!("group `{}` at {}", group.name(), describe(&commit.reached));
                    // The driver may have dropped its side of the call.
                    let _ = commit.done.send(Err(anyhow!(error).context(positions).context(context)));
                }
                Ok(committed) => {
                    let _ = commit.done.send(Ok(committed));
                }
            }
        }
    }
}

fn commit_sync(
    group: &Group,
    consumer: &BaseConsumer<ConsumerCallbacks>,
    reached: &Positions,
) -> Result<Positions, KafkaError> {
    let Committable { list, positions } = group.committable(reached)?;
    if !positions.is_empty() {
        consumer.commit(&list, CommitMode::Sync)?;
    }
    Ok(positions)
}

fn describe(positions: &Positions) -> String {
    let parts: Vec<String> =
        positions.iter().map(|(partition, position)| format!("{partition}:{position}")).collect();
    parts.join(" ")
}

fn commit_advice(error: &KafkaError) -> &'static str {
    match is_transient(error) {
        true => "start again: everything since the last commit is processed again",
        false => permanent_commit_advice(error.rdkafka_error_code()),
    }
}

/// Advice for a commit that the coordinator will never accept.
pub(crate) fn permanent_commit_advice(code: Option<RDKafkaErrorCode>) -> &'static str {
    use RDKafkaErrorCode::*;
    match code {
        Some(GroupAuthorizationFailed) => {
            "grant this user READ on the group, or use another user in `client` of [source.kafka]"
        }
        Some(TopicAuthorizationFailed) => {
            "grant this user READ on the topic, or use another user in `client` of [source.kafka]"
        }
        Some(TransactionalIdAuthorizationFailed) => {
            "grant this user WRITE on the transactional id, or set delivery = \"at_least_once\""
        }
        Some(FencedInstanceId) => {
            "another process has the same `instance`: give every process of the group its own in [source.kafka]"
        }
        Some(OffsetMetadataTooLarge) => {
            "raise `offset.metadata.max.bytes` of the brokers to their default of 4096"
        }
        _ => "a retry cannot help: check the brokers' logs",
    }
}

const INITIALIZER_TIMEOUT: Duration = Duration::from_secs(20);
/// Records per partition that are checked for their key: recent ones of several series.
const CHECKED_RECORDS: i64 = 20;

/// Commits the first positions of a group without members. All methods block.
pub struct GroupInitializer {
    consumer: BaseConsumer<ClientLog>,
    topic: String,
    group: String,
    partitions: i32,
}

/// A record outside the partition that [`partition_for_key`] computes for its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MispartitionedKey {
    pub key: String,
    pub partition: i32,
}

impl GroupInitializer {
    /// # Errors
    /// If no broker answers, the topic does not exist, or the group has a committed position.
    pub fn open(cluster: &Cluster, config: &KafkaSourceConfig) -> Result<Self> {
        let partitions = cluster.require_topic(&config.topic)?;
        let settings = [
            ("group.id", config.group.as_str()),
            ("enable.auto.commit", "false"),
            ("enable.partition.eof", "true"),
        ];
        let consumer = cluster.create_client(&settings, ClientLog::default())?;
        let initializer =
            Self { consumer, topic: config.topic.clone(), group: config.group.clone(), partitions };
        let partitions = initializer.all_partitions(Offset::Invalid)?;
        // A coordinator that is still loading its groups rejects the first requests.
        let committed = retry_transient(|| {
            let committed = initializer.consumer.committed_offsets(partitions.clone(), INITIALIZER_TIMEOUT);
            committed.with_context(|| format!("reading the committed positions of group `{}`", config.group))
        })?;
        for element in committed.elements() {
            if let Offset::Offset(offset) = element.offset() {
                bail!(
                    "group `{}` is already in use: it has committed {offset} of {}/{}; bootstrap comes before the first run, \
                     so use another `group`, or delete this one",
                    config.group,
                    config.topic,
                    element.partition()
                );
            }
        }
        Ok(initializer)
    }

    pub fn partitions(&self) -> i32 {
        self.partitions
    }

    /// The position of each partition's first record with a timestamp (microseconds) of `time` or later, or its end.
    pub fn positions_at(&self, time: i64) -> Result<BTreeMap<i32, Position>> {
        let list = self.all_partitions(Offset::Offset(time.div_euclid(1000)))?;
        let found = self.consumer.offsets_for_times(list, INITIALIZER_TIMEOUT);
        let found = found.with_context(|| format!("topic `{}`: looking up offsets by time", self.topic))?;
        let mut positions = BTreeMap::new();
        for element in found.elements() {
            let number = element.partition();
            let offset = match element.offset() {
                Offset::Offset(offset) => offset,
                _ => self.consumer.fetch_watermarks(&self.topic, number, INITIALIZER_TIMEOUT)?.1,
            };
            positions.insert(number, Position(offset));
        }
        Ok(positions)
    }

    /// Checks recent records for a producer with another partitioner: the state learned for its series would be in
    /// another partition than its rows.
    ///
    /// # Errors
    /// If no broker answers.
    pub fn find_mispartitioned_key(&self) -> Result<Option<MispartitionedKey>> {
        let mut list = TopicPartitionList::new();
        for number in 0..self.partitions {
            let (low, high) = self.consumer.fetch_watermarks(&self.topic, number, INITIALIZER_TIMEOUT)?;
            if low < high {
                let start = Offset::Offset(low.max(high - CHECKED_RECORDS));
                list.add_partition_offset(&self.topic, number, start)?;
            }
        }
        let mut unread = list.count();
        self.consumer.assign(&list)?;
        let deadline = Instant::now() + INITIALIZER_TIMEOUT;
        while unread > 0 && Instant::now() < deadline {
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(record)) => {
                    let (partition, key) = (record.partition(), record.key().unwrap_or_default());
                    if !key.is_empty() && partition_for_key(key, self.partitions) != partition {
                        let key = String::from_utf8_lossy(key).into_owned();
                        return Ok(Some(MispartitionedKey { key, partition }));
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => unread -= 1,
                // The client recovers by itself, or the calls that follow fail.
                Some(Err(_)) | None => {}
            }
        }
        Ok(None)
    }

    /// Commits the first positions of all partitions at once.
    ///
    /// # Errors
    /// If the group has members, or the coordinator refuses.
    pub fn commit(&self, starts: &BTreeMap<i32, StartPosition>) -> Result<()> {
        let mut list = TopicPartitionList::new();
        for (number, StartPosition { position, metadata, .. }) in starts {
            let mut element = list.add_partition(&self.topic, *number);
            element.set_offset(Offset::Offset(position.0))?;
            element.set_metadata(metadata);
        }
        self.consumer.commit(&list, CommitMode::Sync).with_context(|| {
            format!(
                "group `{}`: its first positions cannot be committed (if it has members, stop them first)",
                self.group
            )
        })
    }

    fn all_partitions(&self, offset: Offset) -> Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for number in 0..self.partitions {
            list.add_partition_offset(&self.topic, number, offset)?;
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_transient_commit_errors_advise_a_restart() {
        let advice = |code| commit_advice(&KafkaError::ConsumerCommit(code));
        for code in [RDKafkaErrorCode::NotCoordinator, RDKafkaErrorCode::RequestTimedOut] {
            assert!(advice(code).contains("start again"), "{code}");
        }
        for (code, expected) in [
            (RDKafkaErrorCode::GroupAuthorizationFailed, "READ on the group"),
            (RDKafkaErrorCode::TopicAuthorizationFailed, "READ on the topic"),
            (RDKafkaErrorCode::FencedInstanceId, "`instance`"),
            (RDKafkaErrorCode::InvalidCommitOffsetSize, "logs"),
        ] {
            assert!(advice(code).contains(expected) && !advice(code).contains("start again"), "{code}");
        }
    }
}
