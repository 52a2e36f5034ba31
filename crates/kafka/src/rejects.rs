//! The rejects topic from the other side: read once, and sent through again (`replayer`).
//!
//! A replay is exactly once. What is sent and how far the rejects are done (`marks`, in a group of its own, `GROUP-rejects`)
//! are one transaction, and the producer's transactional id is the group: a second replay at the same time fences
//! the first, and one that went on from a position that another has moved cannot commit. All of it blocks.

mod replayer;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::{Message, Offset, TopicPartitionList};

use super::Cluster;
use super::client::Logged;
use super::marks::Marks;
use tidecast_stream::Partition;
use tidecast_core::series::Refusal;

pub use replayer::Replayer;

/// How often a message may be refused and sent through again. What is refused a fourth time will be for ever.
pub const REPLAYS_MOST: u8 = 3;

/// A broker that is there answers in milliseconds; one that restarts in seconds.
const ANSWER: Duration = Duration::from_secs(30);

/// The header that counts how often a message was sent through again.
const REPLAYS: &str = "replays";

/// A refused message as it lies in the rejects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its own place.
    pub partition: i32,
    pub offset: i64,
    pub reason: Refusal,
    pub detail: String,
    /// Where it was read, and refused.
    pub source: Partition,
    pub source_offset: i64,
    /// How often it was sent through again.
    pub replays: u8,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

/// The rejects of one pipeline.
pub struct Rejects {
    /// Where the topic of the source is, if it can be read from here.
    origin: Option<Cluster>,
    consumer: BaseConsumer<Logged>,
    topic: String,
    /// Those of other topics are somebody else's.
    source: String,
    group: String,
    marks: BTreeMap<i32, Marks>,
    /// What is left to read: the next offset of each partition, and its end when it was opened.
    unread: BTreeMap<i32, (i64, i64)>,
    /// The next offsets of all partitions.
    reached: BTreeMap<i32, i64>,
    originals: Option<BaseConsumer<Logged>>,
}

impl Rejects {
    /// Reads `topic` for the readers of topic `source` in `group`: what waits of `reasons`, or all that is there. `origin` is
    /// where the source is.
    ///
    /// # Errors
    /// When no broker answers, or there is no such topic.
    pub fn open(
        cluster: &Cluster,
        origin: Option<Cluster>,
        [topic, source, group]: [&str; 3],
        reasons: &[Refusal],
        all: bool,
    ) -> Result<Self> {
        let group = format!("{group}-rejects");
        let partitions = cluster.require(topic)?;
        let consumer = reader(cluster, &group)?;
        let mut list = TopicPartitionList::new();
        for number in 0..partitions {
            list.add_partition(topic, number);
        }
        let committed = consumer.committed_offsets(list, ANSWER);
        let committed = committed.with_context(|| format!("reading the positions of group {group}"))?;
        let (mut marks, mut unread, mut reached) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut assigned = TopicPartitionList::new();
        for element in committed.elements() {
            let number = element.partition();
            let (low, high) = consumer.fetch_watermarks(topic, number, ANSWER)?;
            let mut mark = match element.offset() {
                Offset::Offset(offset) if offset <= high => Marks::read(offset, element.metadata()),
                // Nothing was sent yet; or the topic was made anew, and nothing of what lies in it now.
                _ => Marks::new(low),
            };
            // What retention has deleted is done, one way or the other.
            mark.raise(&Refusal::ALL, low);
            let first = if all { low } else { mark.offset_of(reasons) };
            reached.insert(number, first);
            if first < high {
                unread.insert(number, (first, high));
                assigned.add_partition_offset(topic, number, Offset::Offset(first))?;
            }
            marks.insert(number, mark);
        }
        consumer.assign(&assigned)?;
        let (topic, source) = (topic.to_string(), source.to_string());
        Ok(Self { origin, consumer, topic, source, group, marks, unread, reached, originals: None })
    }

    /// Whether a reject has been sent through, or left out, by an earlier replay.
    pub fn is_done(&self, rejected: &Rejected) -> bool {
        let marks = self.marks.get(&rejected.partition);
        marks.is_some_and(|marks| marks.is_done(rejected.reason, rejected.offset))
    }

    /// Messages that are still to be read, those that are passed over among them.
    pub fn left(&self) -> u64 {
        self.unread.values().map(|(next, end)| end.saturating_sub(*next).max(0) as u64).sum()
    }

    /// The next reject; `None` at what was the end when it was opened. Messages that are none of this pipeline's rejects are
    /// passed over.
    pub fn read(&mut self) -> Result<Option<Rejected>> {
        while !self.unread.is_empty() {
            let (number, next, rejected) = match self.consumer.poll(ANSWER) {
                None => return Err(silent(&format!("topic `{}`", self.topic))),
                Some(Ok(message)) => (message.partition(), message.offset() + 1, self.rejected(&message)),
                // What is left below the end are marks of transactions, or one that is still open: for another time.
                Some(Err(KafkaError::PartitionEOF(number))) => {
                    self.unread.remove(&number);
                    continue;
                }
                Some(Err(error)) => {
                    heed(error).with_context(|| format!("reading topic `{}`", self.topic))?;
                    continue;
                }
            };
            let Some((first, end)) = self.unread.get(&number).copied() else { continue };
            if next <= first {
                continue;
            }
            if next > end {
                // It came after we had begun: for another time.
                self.unread.remove(&number);
                self.reached.insert(number, end);
                continue;
            }
            self.reached.insert(number, next);
            match next == end {
                true => self.unread.remove(&number),
                false => self.unread.insert(number, (next, end)),
            };
            if rejected.is_some() {
                return Ok(rejected);
            }
        }
        Ok(None)
    }

    fn rejected(&self, message: &BorrowedMessage<'_>) -> Option<Rejected> {
        let topic = header(message, "topic").filter(|topic| *topic == self.source)?;
        let number = |key: &str| header(message, key)?.parse::<i64>().ok();
        Some(Rejected {
            partition: message.partition(),
            offset: message.offset(),
            reason: Refusal::named(header(message, "reason")?)?,
            detail: header(message, "detail").unwrap_or_default().to_string(),
            source: Partition { topic: topic.into(), number: i32::try_from(number("partition")?).ok()? },
            source_offset: number("offset")?,
            replays: replays(message),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
        })
    }

    /// Puts the message's own bytes back where the rejects are without them, as they are where a row was held since before a
    /// restart, or where it was too large for them. Leaves it as it is where the source has deleted it.
    pub fn complete(&mut self, rejected: &mut Rejected) -> Result<()> {
        if rejected.value.is_some() {
            return Ok(());
        }
        let Some(origin) = &self.origin else { return Ok(()) };
        let consumer = match &mut self.originals {
            Some(consumer) => consumer,
            none => none.insert(reader(origin, &self.group)?),
        };
        let Partition { topic, number } = &rejected.source;
        let (low, high) = consumer.fetch_watermarks(topic, *number, ANSWER)?;
        if !(low..high).contains(&rejected.source_offset) {
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, *number, Offset::Offset(rejected.source_offset))?;
        consumer.assign(&list)?;
        loop {
            match consumer.poll(ANSWER) {
                None => return Err(silent(&rejected.source.to_string())),
                Some(Ok(message)) if message.partition() != *number => {}
                Some(Ok(message)) => {
                    if message.offset() == rejected.source_offset {
                        rejected.key = message.key().map(<[u8]>::to_vec);
                        rejected.value = message.payload().map(<[u8]>::to_vec);
                        rejected.replays = replays(&message);
                    }
                    return Ok(());
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
                Some(Err(error)) => {
                    heed(error).with_context(|| format!("reading {} again", rejected.source))?;
                }
            }
        }
    }
}

/// A consumer that reads what it is told to and commits nothing by itself.
fn reader(cluster: &Cluster, group: &str) -> Result<BaseConsumer<Logged>> {
    let settings = [
        ("group.id", group),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("isolation.level", "read_committed"),
        ("auto.offset.reset", "error"),
        ("enable.partition.eof", "true"),
    ];
    cluster.client(&settings, Logged::default())
}

/// Goes on after what the client mends by itself.
fn heed(error: KafkaError) -> Result<()> {
    use RDKafkaErrorCode::*;
    match error.rdkafka_error_code() {
        Some(
            BrokerTransportFailure
            | AllBrokersDown
            | NotLeaderForPartition
            | LeaderNotAvailable
            | OperationTimedOut,
        ) => {
            tracing::warn!("kafka: {error}; going on");
            Ok(())
        }
        _ => Err(anyhow!(error)),
    }
}

/// What is there does not come.
fn silent(place: &str) -> anyhow::Error {
    anyhow!(
        "{place}: nothing came within {} s; see to its brokers (`tidecast check --connect`), and start again",
        ANSWER.as_secs()
    )
}

fn header<'a>(message: &'a BorrowedMessage<'_>, key: &str) -> Option<&'a str> {
    let found = message.headers()?.iter().find(|header| header.key == key)?;
    std::str::from_utf8(found.value?).ok()
}

/// How often a message was sent through again, by its own account.
pub(super) fn replays(message: &BorrowedMessage<'_>) -> u8 {
    header(message, REPLAYS).and_then(|count| count.parse().ok()).unwrap_or(0)
}
