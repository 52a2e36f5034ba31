//! How partitions come and go. What the coordinator assigns is acknowledged at once, with nothing in it, so that what this
//! member reads already flows on; each new partition is added when it is known where it was committed and the driver has
//! made up its state. What the coordinator wants back is given up when the driver is done with it, or has taken too long:
//! the group waits for that, and so do all partitions of this member. The thread goes on polling meanwhile, so that the
//! group does not take this member for dead.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow, bail};
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, Statistics, TopicPartitionList};
use tokio::sync::oneshot;

use super::client::Logged;
use super::ends::Ends;
use super::group::Group;
use super::passing::persist;
use super::poll::{Owned, Phase, Poller};
use crate::config::{Deleted, Start};
use tidecast_stream::{Assigned, Committed, Event, From, Position, Stopped};

/// What the other way out of a lost position costs.
pub(super) const ANOTHER_GROUP: &str = "another `group` would begin at `start` and say again, in the same topics, what this one has said already";

const WATERMARK_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a leaving partition may take to commit. The rest of the group stands still for it; what is not committed by
/// then, the next owner does again.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A change as the group's coordinator wants it.
#[derive(Clone)]
enum Change {
    Assign(Vec<i32>),
    Revoke { partitions: Vec<i32>, lost: bool },
}

/// A partition on its way to being read.
pub(super) enum Arrival {
    /// The brokers are asked where it stands.
    Asked(Receiver<Result<Standing>>),
    /// The driver is asked where to start.
    Told { standing: Standing, start: oneshot::Receiver<From> },
}

/// Where a partition stands.
#[derive(Clone)]
pub(super) struct Standing {
    committed: Option<Committed>,
    low: i64,
    high: i64,
    /// The first record of the time that is read again after a change.
    rewound: Option<i64>,
}

/// Partitions that are to be given up.
pub(super) struct Leaving {
    partitions: Vec<i32>,
    done: oneshot::Receiver<()>,
    deadline: Instant,
}

/// The consumer's context: collects changes for the thread, which acts on them between two polls.
#[derive(Default)]
pub(super) struct Member {
    log: Logged,
    changes: Mutex<VecDeque<Change>>,
    /// Nobody acts on changes any more: give up what is asked for, at once.
    leaving: AtomicBool,
    topic: String,
    ends: Ends,
}

impl Member {
    pub fn new(topic: &str, ends: Ends) -> Self {
        Self { topic: topic.to_owned(), ends, ..Self::default() }
    }

    fn next_change(&self) -> Option<Change> {
        self.changes.lock().expect("no holder panics").pop_front()
    }

    pub fn has_changes(&self) -> bool {
        !self.changes.lock().expect("no holder panics").is_empty()
    }

    pub fn last_failure(&self) -> Option<String> {
        self.log.last_failure()
    }
}

impl ClientContext for Member {
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
        self.ends.learn(&self.topic, &statistics);
    }
}

impl ConsumerContext for Member {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        kind: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let assign = kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.leaving.load(Ordering::Relaxed) {
            // librdkafka takes any answer for an unassignment once it is closing.
            if let Err(error) = give_up_all(consumer) {
                tracing::warn!("leaving the consumer group: {error}");
            }
            return;
        }
        let numbers = partitions.elements().iter().map(|element| element.partition()).collect();
        let change = match assign {
            true => Change::Assign(numbers),
            false => Change::Revoke { partitions: numbers, lost: consumer.assignment_lost() },
        };
        self.changes.lock().expect("no holder panics").push_back(change);
    }
}

fn give_up_all(consumer: &BaseConsumer<Member>) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(&consumer.assignment()?),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
    }
}

impl Poller {
    /// Takes the changes under way a step further.
    pub(super) fn rebalance(&mut self) -> Result<()> {
        self.depart()?;
        if self.leaving.is_none() {
            match self.consumer.context().next_change() {
                Some(Change::Assign(partitions)) => self.assigned(partitions)?,
                Some(Change::Revoke { partitions, lost }) => self.revoked(partitions, lost)?,
                None => {}
            }
        }
        // While librdkafka waits for partitions to be given up, none is added.
        if self.leaving.is_none() { self.arrive() } else { Ok(()) }
    }

    /// Takes note of new partitions, and has the brokers asked about them.
    fn assigned(&mut self, partitions: Vec<i32>) -> Result<()> {
        self.has_joined = true;
        self.consumer.incremental_assign(&TopicPartitionList::new()).context("taking partitions over")?;
        if self.has_ended {
            // Another member left; its share is not ours to read any more, and it is at its end for those who count.
            return Ok(());
        }
        let mut answers = BTreeMap::new();
        for number in partitions {
            let (answer, asked) = sync_channel(1);
            self.arriving.insert(number, Arrival::Asked(asked));
            answers.insert(number, answer);
        }
        let group = self.group.clone();
        let ask = move || {
            let numbers: Vec<i32> = answers.keys().copied().collect();
            match persist(|| standings(&group, &numbers)) {
                Ok(standings) => answers.into_iter().for_each(|(number, answer)| {
                    // The partition may have been taken away meanwhile; then nobody listens.
                    let _ = answer.send(Ok(standings[&number].clone()));
                }),
                Err(error) => answers.into_iter().for_each(|(_, answer)| {
                    let _ = answer.send(Err(anyhow!("{error:#}")));
                }),
            }
        };
        std::thread::Builder::new().name("kafka-standing".into()).spawn(ask)?;
        Ok(())
    }

    /// Takes what arrives a step further: asks the driver where to start what the brokers have answered about, and reads
    /// what the driver has answered about.
    fn arrive(&mut self) -> Result<()> {
        let numbers: Vec<i32> = self.arriving.keys().copied().collect();
        for number in numbers {
            let Some(arrival) = self.arriving.remove(&number) else { continue };
            match arrival {
                Arrival::Asked(asked) => match asked.try_recv() {
                    Ok(standing) => self.ask_driver(number, standing?)?,
                    Err(TryRecvError::Empty) => drop(self.arriving.insert(number, Arrival::Asked(asked))),
                    Err(TryRecvError::Disconnected) => {
                        bail!("{}: asking where it stands came to nothing", self.partition(number))
                    }
                },
                Arrival::Told { standing, mut start } => match start.try_recv() {
                    Ok(from) => self.read_from(number, &standing, from)?,
                    Err(oneshot::error::TryRecvError::Empty) => {
                        self.arriving.insert(number, Arrival::Told { standing, start });
                    }
                    Err(oneshot::error::TryRecvError::Closed) => {
                        bail!("{}: nobody said where to start", self.partition(number))
                    }
                },
            }
        }
        Ok(())
    }

    fn ask_driver(&mut self, number: i32, mut standing: Standing) -> Result<()> {
        let partition = self.partition(number);
        let mut has_lost = false;
        if let Some(Committed { position, .. }) = standing.committed {
            match self.still_there(number, position.0, standing.low, standing.high) {
                Ok(()) => {}
                Err(error) if self.deleted == Deleted::Cold && position.0 < standing.low => {
                    tracing::warn!("{error:#}; series start cold there, as `deleted = \"cold\"` says");
                    standing.committed = None;
                    has_lost = true;
                }
                Err(error) => return Err(error),
            }
        }
        let fallback = match self.start {
            // From what is left.
            _ if has_lost => standing.low,
            _ if number >= self.known => {
                tracing::warn!(
                    topic = %partition.topic,
                    partition = partition.number,
                    "the topic has more partitions than at the start: series move, and those that do begin cold; the next start \
                     will ask what to do (state.on_change)"
                );
                // All of it came while we were running.
                standing.low
            }
            Start::Earliest => standing.low,
            Start::Latest => standing.high,
            Start::Fail if standing.committed.is_some() => standing.low,
            Start::Fail => bail!(
                "{partition}: group `{}` has no committed position, and `start = \"fail\"`; say `start = \
                 \"earliest\"` or `\"latest\"` for the first run",
                self.group.name()
            ),
        };
        let (answer, start) = oneshot::channel();
        let event = Event::Assigned(Assigned {
            partition,
            committed: standing.committed.clone(),
            anew: has_lost,
            fallback: Position(fallback),
            low: Position(standing.low),
            rewound: standing.rewound.map(Position),
            start: answer,
        });
        self.arriving.insert(number, Arrival::Told { standing, start });
        self.tell(event);
        Ok(())
    }

    fn read_from(&mut self, number: i32, standing: &Standing, from: From) -> Result<()> {
        let From { position: Position(next), resume, note } = from;
        self.still_there(number, next, standing.low, standing.high.max(next))?;
        let list = self.list([(number, Offset::Offset(next))])?;
        self.consumer.incremental_assign(&list).context("taking partitions over")?;
        self.owned.insert(number, Owned { next, end: standing.high, phase: Phase::Reading });
        self.group.owned.insert(number, resume, note);
        self.reach.begin(number, next, standing.high);
        self.tell(Event::Reading { partition: self.partition(number), from: Position(next) });
        Ok(())
    }

    /// A committed position that retention has passed, or that a topic made anew has not reached, is never skipped over
    /// in silence.
    pub(super) fn still_there(&self, number: i32, position: i64, low: i64, high: i64) -> Result<()> {
        let (partition, group) = (self.partition(number), self.group.name());
        if position < low {
            bail!(
                "{partition}: group `{group}` is to go on at {position}, but the topic's retention has deleted all below \
                 {low}: {} messages are lost; set `deleted = \"cold\"` to start without them, with series that know \
                 nothing, or reset the group's position",
                low - position
            );
        }
        if position > high {
            bail!(
                "{partition}: group `{group}` is to go on at {position}, but the partition ends at {high}: it was made \
                 anew or cut off; reset the group's position; {ANOTHER_GROUP}"
            );
        }
        Ok(())
    }

    /// Asks the driver to finish partitions that leave. Nothing more of them is read.
    fn revoked(&mut self, partitions: Vec<i32>, lost: bool) -> Result<()> {
        let mut known = Vec::new();
        for number in &partitions {
            // One that the driver has not heard of needs no farewell.
            let is_told = matches!(self.arriving.remove(number), Some(Arrival::Told { .. }));
            if is_told || self.owned.contains_key(number) {
                known.push(self.partition(*number));
            }
            // A pause outlives the assignment: undo it, or the partition comes back mute.
            self.hold(*number, Phase::Leaving)?;
        }
        let (answer, done) = oneshot::channel();
        if known.is_empty() {
            // Nobody to wait for.
            let _ = answer.send(());
        } else {
            self.tell(Event::Revoked { partitions: known, done: answer });
        }
        let mut deadline = Instant::now() + REVOKE_TIMEOUT;
        if lost {
            // Others have them already: a commit could only fail, so there is nothing to wait for.
            tracing::warn!(
                group = self.group.name(),
                ?partitions,
                "lost partitions: the group has taken this member for dead"
            );
            deadline = Instant::now();
        }
        self.leaving = Some(Leaving { partitions, done, deadline });
        self.depart()
    }

    /// Gives partitions up once the driver is done with them, or has taken too long.
    fn depart(&mut self) -> Result<()> {
        let Some(mut leaving) = self.leaving.take() else { return Ok(()) };
        if leaving.done.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
            if Instant::now() < leaving.deadline {
                self.leaving = Some(leaving);
                return Ok(());
            }
            tracing::warn!(
                group = self.group.name(),
                partitions = ?leaving.partitions,
                "gave up partitions before their last rows were committed"
            );
        }
        let mut list = TopicPartitionList::new();
        for number in leaving.partitions {
            // Before it is acknowledged: whoever commits sees that it is not ours, or is refused for its old generation.
            self.group.owned.remove(number);
            if self.owned.remove(&number).is_some() {
                list.add_partition(&self.group.topic, number);
            }
        }
        self.consumer.incremental_unassign(&list).context("giving partitions up")
    }

    /// Prepares for leaving the group: a change that is not acknowledged would hold that up for ever.
    pub(super) fn abandon(&mut self) {
        let member = self.consumer.context();
        member.leaving.store(true, Ordering::Relaxed);
        let is_unanswered = self.leaving.take().is_some() || member.has_changes();
        self.owned.keys().for_each(|number| self.group.owned.remove(*number));
        if is_unanswered && let Err(error) = give_up_all(&self.consumer) {
            tracing::warn!(group = self.group.name(), "leaving the consumer group: {error}");
        }
    }

    pub(super) fn list(
        &self,
        partitions: impl IntoIterator<Item = (i32, Offset)>,
    ) -> Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for (number, offset) in partitions {
            list.add_partition_offset(&self.group.topic, number, offset)?;
        }
        Ok(list)
    }
}

/// Where partitions stand.
fn standings(group: &Group, partitions: &[i32]) -> Result<BTreeMap<i32, Standing>> {
    let committed = group.committed(partitions)?;
    let consumer = group.consumer.upgrade().ok_or(Stopped)?;
    let rewound = match group.rewind {
        Some(time) => rewound(group, &consumer, partitions, time)?,
        None => BTreeMap::new(),
    };
    let standing = |number: &i32| {
        let (low, high) = consumer
            .fetch_watermarks(&group.topic, *number, WATERMARK_TIMEOUT)
            .with_context(|| format!("{}/{number}: asking for the first and last offset", group.topic))?;
        let committed = committed.get(number).cloned().flatten();
        let rewound = rewound.get(number).copied().flatten();
        Ok((*number, Standing { committed, low, high, rewound }))
    };
    partitions.iter().map(standing).collect()
}

/// The first record of each partition that is no older than this; `None` where all are.
fn rewound(
    group: &Group,
    consumer: &BaseConsumer<Member>,
    partitions: &[i32],
    time: Duration,
) -> Result<BTreeMap<i32, Option<i64>>> {
    let since = (SystemTime::now() - time).duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut list = TopicPartitionList::new();
    for number in partitions {
        list.add_partition_offset(&group.topic, *number, Offset::Offset(since.as_millis() as i64))?;
    }
    let found = consumer.offsets_for_times(list, WATERMARK_TIMEOUT);
    let found = found.with_context(|| format!("topic `{}`: asking for offsets by time", group.topic))?;
    let offset = |offset| if let Offset::Offset(offset) = offset { Some(offset) } else { None };
    Ok(found.elements().iter().map(|element| (element.partition(), offset(element.offset()))).collect())
}
