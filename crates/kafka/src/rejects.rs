//! The rejects topic: reading refused messages, and replaying them into the source topic.
//!
//! A replay is exactly once. The replayed messages and the progress through the rejects (in a group of its own,
//! `GROUP-rejects`) form one transaction, and the producer's transactional id is the name of that group: a second
//! replay at the same time fences the first, and a replay that started from an outdated position cannot commit. All
//! methods block.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext, PurgeConfig};
use rdkafka::{ClientContext, Message, Offset, TopicPartitionList};
use tidecast_core::series::Refusal;
use tidecast_stream::Partition;

use crate::Cluster;
use crate::errors::{ClientLog, retry_transient};

/// Maximum number of replays of a message. One that is refused a fourth time never passes.
pub const REPLAYS_MAX: u8 = 3;

/// A running broker answers in milliseconds, one that restarts in seconds.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The header that counts how often a message was replayed.
const REPLAYS_HEADER: &str = "replays";

/// The number of replays of a message, from its header.
pub(crate) fn replay_count(message: &BorrowedMessage<'_>) -> u8 {
    header(message, REPLAYS_HEADER).and_then(|count| count.parse().ok()).unwrap_or(0)
}

fn header<'a>(message: &'a BorrowedMessage<'_>, key: &str) -> Option<&'a str> {
    let found = message.headers()?.iter().find(|header| header.key == key)?;
    std::str::from_utf8(found.value?).ok()
}

/// A refused message in the rejects topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedMessage {
    /// Its position in the rejects topic.
    pub partition: i32,
    pub offset: i64,
    pub reason: Refusal,
    pub detail: String,
    /// Its position in the source topic.
    pub source: Partition,
    pub source_offset: i64,
    /// The number of earlier replays.
    pub replays: u8,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

/// Which rejects to read.
#[derive(Clone, Copy, Debug)]
pub struct RejectsQuery<'a> {
    pub topic: &'a str,
    /// Rejects of other source topics are skipped.
    pub source_topic: &'a str,
    /// The group of the pipeline.
    pub group: &'a str,
    pub scope: RejectsScope<'a>,
}

#[derive(Clone, Copy, Debug)]
pub enum RejectsScope<'a> {
    /// From the first reject with one of these reasons that no replay has handled.
    Pending(&'a [Refusal]),
    /// Everything that retention has left.
    All,
}

/// Reads the rejects of one pipeline.
pub struct RejectsReader {
    /// The cluster of the source topic, if it is reachable.
    source_cluster: Option<Cluster>,
    consumer: BaseConsumer<ClientLog>,
    topic: String,
    source_topic: String,
    group: String,
    progress: BTreeMap<i32, ReplayProgress>,
    unread: BTreeMap<i32, UnreadRange>,
    /// The next offsets of all partitions.
    reached: BTreeMap<i32, i64>,
    source_consumer: Option<BaseConsumer<ClientLog>>,
}

#[derive(Clone, Copy)]
struct UnreadRange {
    next: i64,
    /// The end offset when the reader was opened.
    end: i64,
}

impl RejectsReader {
    /// # Errors
    /// If no broker answers, or the topic does not exist.
    pub fn open(cluster: &Cluster, source_cluster: Option<Cluster>, query: RejectsQuery<'_>) -> Result<Self> {
        let RejectsQuery { topic, source_topic, group, scope } = query;
        let group = format!("{group}-rejects");
        let partitions = cluster.require_topic(topic)?;
        let consumer = create_reader(cluster, &group)?;
        let mut list = TopicPartitionList::new();
        for number in 0..partitions {
            list.add_partition(topic, number);
        }
        // A coordinator that is still loading its groups rejects the first requests.
        let committed = retry_transient(|| {
            let committed = consumer.committed_offsets(list.clone(), TIMEOUT);
            committed.with_context(|| format!("reading the committed positions of group `{group}`"))
        })?;
        let (mut progress, mut unread, mut reached) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut assigned = TopicPartitionList::new();
        for element in committed.elements() {
            let number = element.partition();
            let (low, high) = consumer.fetch_watermarks(topic, number, TIMEOUT)?;
            let mut replayed = match element.offset() {
                Offset::Offset(offset) if offset <= high => ReplayProgress::parse(offset, element.metadata()),
                // Nothing was replayed yet, or the topic was recreated.
                _ => ReplayProgress::new(low),
            };
            // The rejects below `low` are deleted.
            replayed.advance(&Refusal::ALL, low);
            let next = match scope {
                RejectsScope::All => low,
                RejectsScope::Pending(reasons) => replayed.next_of(reasons),
            };
            reached.insert(number, next);
            if next < high {
                unread.insert(number, UnreadRange { next, end: high });
                assigned.add_partition_offset(topic, number, Offset::Offset(next))?;
            }
            progress.insert(number, replayed);
        }
        consumer.assign(&assigned)?;
        Ok(Self {
            source_cluster,
            consumer,
            topic: topic.to_string(),
            source_topic: source_topic.to_string(),
            group,
            progress,
            unread,
            reached,
            source_consumer: None,
        })
    }

    /// True if an earlier replay has replayed or skipped this message.
    pub fn is_done(&self, rejected: &RejectedMessage) -> bool {
        let progress = self.progress.get(&rejected.partition);
        progress.is_some_and(|progress| progress.is_done(rejected.reason, rejected.offset))
    }

    /// Number of unread messages, including those that will be skipped.
    pub fn unread_count(&self) -> u64 {
        self.unread.values().map(|unread| unread.end.saturating_sub(unread.next).max(0) as u64).sum()
    }

    /// The next reject, or `None` at the end offset of the time of opening. Skips messages that are not rejects of this
    /// pipeline.
    pub fn read(&mut self) -> Result<Option<RejectedMessage>> {
        while !self.unread.is_empty() {
            let (number, next, rejected) = match self.consumer.poll(TIMEOUT) {
                None => return Err(no_answer(&format!("topic `{}`", self.topic))),
                Some(Ok(message)) => (message.partition(), message.offset() + 1, self.parse(&message)),
                // Below the end are only transaction markers, or an open transaction, which is for the next time.
                Some(Err(KafkaError::PartitionEOF(number))) => {
                    self.unread.remove(&number);
                    continue;
                }
                Some(Err(error)) => {
                    ignore_recoverable(error).with_context(|| format!("reading topic `{}`", self.topic))?;
                    continue;
                }
            };
            let Some(UnreadRange { next: first, end }) = self.unread.get(&number).copied() else { continue };
            if next <= first {
                continue;
            }
            if next > end {
                // It arrived after the reader was opened, and is for the next time.
                self.unread.remove(&number);
                self.reached.insert(number, end);
                continue;
            }
            self.reached.insert(number, next);
            match next == end {
                true => self.unread.remove(&number),
                false => self.unread.insert(number, UnreadRange { next, end }),
            };
            if rejected.is_some() {
                return Ok(rejected);
            }
        }
        Ok(None)
    }

    fn parse(&self, message: &BorrowedMessage<'_>) -> Option<RejectedMessage> {
        let topic = header(message, "topic").filter(|topic| *topic == self.source_topic)?;
        let number = |key: &str| header(message, key)?.parse::<i64>().ok();
        Some(RejectedMessage {
            partition: message.partition(),
            offset: message.offset(),
            reason: Refusal::from_name(header(message, "reason")?)?,
            detail: header(message, "detail").unwrap_or_default().to_string(),
            source: Partition { topic: topic.into(), number: i32::try_from(number("partition")?).ok()? },
            source_offset: number("offset")?,
            replays: replay_count(message),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
        })
    }

    /// Fills in missing bytes from the source topic: a reject has none if its row was restored from a snapshot, or was
    /// too large for the rejects topic. Changes nothing if the source topic has deleted the message.
    pub fn complete(&mut self, rejected: &mut RejectedMessage) -> Result<()> {
        if rejected.value.is_some() {
            return Ok(());
        }
        let Some(cluster) = &self.source_cluster else { return Ok(()) };
        let consumer = match &mut self.source_consumer {
            Some(consumer) => consumer,
            none => none.insert(create_reader(cluster, &self.group)?),
        };
        let Partition { topic, number } = &rejected.source;
        let (low, high) = consumer.fetch_watermarks(topic, *number, TIMEOUT)?;
        if !(low..high).contains(&rejected.source_offset) {
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, *number, Offset::Offset(rejected.source_offset))?;
        consumer.assign(&list)?;
        loop {
            match consumer.poll(TIMEOUT) {
                None => return Err(no_answer(&rejected.source.to_string())),
                Some(Ok(message)) if message.partition() != *number => {}
                Some(Ok(message)) => {
                    if message.offset() == rejected.source_offset {
                        rejected.key = message.key().map(<[u8]>::to_vec);
                        rejected.value = message.payload().map(<[u8]>::to_vec);
                        rejected.replays = replay_count(&message);
                    }
                    return Ok(());
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
                Some(Err(error)) => {
                    ignore_recoverable(error).with_context(|| format!("reading {}", rejected.source))?;
                }
            }
        }
    }
}

/// A consumer that is assigned by hand and commits nothing by itself.
fn create_reader(cluster: &Cluster, group: &str) -> Result<BaseConsumer<ClientLog>> {
    let settings = [
        ("group.id", group),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("isolation.level", "read_committed"),
        ("auto.offset.reset", "error"),
        ("enable.partition.eof", "true"),
    ];
    cluster.create_client(&settings, ClientLog::default())
}

/// Logs an error from which the client recovers by itself.
fn ignore_recoverable(error: KafkaError) -> Result<()> {
    use RDKafkaErrorCode::*;
    match error.rdkafka_error_code() {
        Some(
            BrokerTransportFailure
            | AllBrokersDown
            | NotLeaderForPartition
            | LeaderNotAvailable
            | OperationTimedOut,
        ) => {
            tracing::warn!("kafka: {error}; continuing");
            Ok(())
        }
        _ => Err(anyhow!(error)),
    }
}

fn no_answer(location: &str) -> anyhow::Error {
    anyhow!(
        "{location}: no message arrived within {} s; check its brokers (`tidecast check --connect`), and start again",
        TIMEOUT.as_secs()
    )
}

/// The replay positions of the rejects of one partition, one per reason: malformed messages can be replayed before late
/// ones. The committed offset is the lowest of them; the committed metadata lists the reasons that are ahead of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ReplayProgress {
    /// The next offset, by reason.
    next: [i64; Refusal::ALL.len()],
}

impl ReplayProgress {
    fn new(next: i64) -> Self {
        Self { next: [next; Refusal::ALL.len()] }
    }

    /// Inverse of [`Self::offset`] and [`Self::metadata`]. Ignores unknown reasons.
    fn parse(offset: i64, metadata: &str) -> Self {
        let mut progress = Self::new(offset);
        for part in metadata.split(' ') {
            let Some((name, next)) = part.split_once('=') else { continue };
            if let (Some(reason), Ok(next)) = (Refusal::from_name(name), next.parse()) {
                progress.advance(&[reason], next);
            }
        }
        progress
    }

    fn is_done(&self, reason: Refusal, offset: i64) -> bool {
        offset < self.next[reason as usize]
    }

    /// Everything below `next` with these reasons is done.
    fn advance(&mut self, reasons: &[Refusal], next: i64) {
        for reason in reasons {
            let current = &mut self.next[*reason as usize];
            *current = next.max(*current);
        }
    }

    /// The first offset that may be unfinished.
    fn offset(&self) -> i64 {
        self.next.into_iter().min().unwrap_or(0)
    }

    /// The first offset that may be unfinished for one of these reasons.
    fn next_of(&self, reasons: &[Refusal]) -> i64 {
        reasons.iter().map(|reason| self.next[*reason as usize]).min().unwrap_or(self.offset())
    }

    fn metadata(&self) -> String {
        let ahead = Refusal::ALL.into_iter().zip(self.next).filter(|(_, next)| *next > self.offset());
        let parts: Vec<String> = ahead.map(|(reason, next)| format!("{reason}={next}")).collect();
        parts.join(" ")
    }
}

/// A message to send into the source topic.
#[derive(Clone, Debug)]
pub struct Replay {
    pub rejected: RejectedMessage,
    /// The value to send, which may be a corrected one.
    pub value: Vec<u8>,
}

/// Replays rejects: messages and progress in one transaction. Skips messages that are too large for the topic, which
/// would block all that follow forever.
pub struct RejectsReplayer {
    producer: BaseProducer<ReplayDeliveries>,
    group: String,
    reasons: Vec<Refusal>,
}

impl RejectsReplayer {
    /// Ends the transaction that an earlier replay left open. Open the [`RejectsReader`] afterwards.
    pub fn open(cluster: &Cluster, group: &str, reasons: &[Refusal]) -> Result<Self> {
        let group = format!("{group}-rejects");
        let settings = [
            ("transactional.id", group.as_str()),
            ("compression.type", "zstd"),
            // A dead replay blocks the readers of the topic for this time.
            ("transaction.timeout.ms", "30000"),
            // The original producer may have had a higher limit than this client's default: let the topic decide.
            ("message.max.bytes", "67108864"),
            // Otherwise a message is refused because of the size of its batch.
            ("batch.size", "65536"),
        ];
        let producer: BaseProducer<ReplayDeliveries> =
            cluster.create_client(&settings, ReplayDeliveries::default())?;
        producer.init_transactions(TIMEOUT).context("ending the transaction of an earlier replay")?;
        Ok(Self { producer, group, reasons: reasons.to_vec() })
    }

    /// Sends messages and commits that everything read so far is done, atomically. Returns how many messages were
    /// skipped because they are too large.
    ///
    /// # Errors
    /// If the brokers refuse. Then either nothing or everything of this call was sent; a new replay finds out.
    pub fn send(&mut self, reader: &mut RejectsReader, messages: &[Replay]) -> Result<usize> {
        for (number, next) in &reader.reached {
            if let Some(progress) = reader.progress.get_mut(number) {
                progress.advance(&self.reasons, *next);
            }
        }
        let mut too_large = BTreeSet::new();
        loop {
            let Err(error) = self.run_transaction(reader, messages, &mut too_large) else {
                return Ok(too_large.len());
            };
            self.abort();
            // A transaction with an undelivered message is not committed, so it can be repeated without that message.
            let refused = self.producer.context().take_too_large();
            if refused.is_empty() {
                return Err(error.context(format!(
                    "group `{}`: the replay was interrupted; start it again, it continues where it stopped",
                    self.group
                )));
            }
            for index in refused {
                skip_too_large(&messages[index].rejected, index, &mut too_large);
            }
        }
    }

    /// Aborts the transaction, so that the topic's readers need not wait for its timeout. Failures are ignored: the
    /// transaction has failed already.
    fn abort(&self) {
        self.producer.purge(PurgeConfig::default().queue());
        // The client aborts only after it has reported all deliveries.
        let _ = self.producer.flush(TIMEOUT);
        let _ = self.producer.abort_transaction(TIMEOUT);
    }

    fn run_transaction(
        &self,
        reader: &RejectsReader,
        messages: &[Replay],
        too_large: &mut BTreeSet<usize>,
    ) -> Result<()> {
        self.producer.begin_transaction()?;
        for (index, message) in messages.iter().enumerate() {
            if !too_large.contains(&index) && self.produce(reader, index, message)? == Produced::TooLarge {
                skip_too_large(&message.rejected, index, too_large);
            }
        }
        let mut list = TopicPartitionList::new();
        for (number, progress) in &reader.progress {
            let mut element = list.add_partition(&reader.topic, *number);
            element.set_offset(Offset::Offset(progress.offset()))?;
            element.set_metadata(progress.metadata());
        }
        let membership = reader.consumer.group_metadata().context("the client has no group")?;
        self.producer.send_offsets_to_transaction(&list, &membership, TIMEOUT)?;
        match self.producer.commit_transaction(TIMEOUT) {
            // One retry is enough after such a long timeout.
            Err(KafkaError::Transaction(error)) if error.is_retriable() => {
                Ok(self.producer.commit_transaction(TIMEOUT)?)
            }
            result => Ok(result?),
        }
    }

    fn produce(
        &self,
        reader: &RejectsReader,
        index: usize,
        Replay { rejected, value }: &Replay,
    ) -> Result<Produced> {
        let origin = format!("{}/{}/{}", reader.topic, rejected.partition, rejected.offset);
        let count = rejected.replays.saturating_add(1).to_string();
        let headers = OwnedHeaders::new_with_capacity(2)
            .insert(Header { key: "rejected", value: Some(&origin) })
            .insert(Header { key: REPLAYS_HEADER, value: Some(&count) });
        let mut record: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(&reader.source_topic, index);
        record.key = rejected.key.as_deref();
        // The partition of its series: the original producer may partition keys differently.
        record.partition = Some(rejected.source.number);
        record.payload = Some(value);
        record.headers = Some(headers);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(Produced::Queued),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), unsent)) => {
                    record = unsent;
                    self.producer.poll(Duration::from_millis(100));
                }
                Err((error, _)) if is_too_large(&error) => return Ok(Produced::TooLarge),
                Err((error, _)) => {
                    let context = format!("sending {origin} to topic `{}`", reader.source_topic);
                    return Err(anyhow!(error).context(context));
                }
            }
        }
    }
}

#[derive(PartialEq)]
enum Produced {
    Queued,
    TooLarge,
}

fn is_too_large(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge)
}

/// Excludes a message from the replay, with one warning.
fn skip_too_large(rejected: &RejectedMessage, index: usize, too_large: &mut BTreeSet<usize>) {
    if too_large.insert(index) {
        tracing::warn!(
            "{}/{}: too large to be replayed, skipped; the limits are the topic's `max.message.bytes` and \
             `message.max.bytes` in `client` of [sink.kafka]",
            rejected.source,
            rejected.source_offset
        );
    }
}

/// Collects the messages that a broker refused as too large. Any other failed delivery fails the transaction by itself.
#[derive(Default)]
struct ReplayDeliveries {
    log: ClientLog,
    too_large: Mutex<Vec<usize>>,
}

impl ReplayDeliveries {
    fn take_too_large(&self) -> Vec<usize> {
        std::mem::take(&mut self.too_large.lock().expect("no holder panics"))
    }
}

impl ClientContext for ReplayDeliveries {
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
}

impl ProducerContext for ReplayDeliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        if result.as_ref().is_err_and(|(error, _)| is_too_large(error)) {
            self.too_large.lock().expect("no holder panics").push(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replay_progress_is_kept_per_reason_and_restored_from_metadata() {
        let mut progress = ReplayProgress::new(3);
        progress.advance(&[Refusal::Malformed, Refusal::TooFar], 10);
        progress.advance(&[Refusal::TooFar], 7);
        assert_eq!((progress.offset(), progress.metadata().as_str()), (3, "malformed=10 too_far=10"));
        assert!(progress.is_done(Refusal::Malformed, 9) && !progress.is_done(Refusal::Late, 3));
        assert_eq!(ReplayProgress::parse(progress.offset(), &progress.metadata()), progress);
        assert_eq!((progress.next_of(&[Refusal::TooFar]), progress.next_of(&Refusal::ALL)), (10, 3));
        progress.advance(&Refusal::ALL, 12);
        assert_eq!((progress.offset(), progress.metadata().as_str()), (12, ""));
        assert_eq!(ReplayProgress::parse(12, "unknown=15 malformed=x"), progress);
    }
}
