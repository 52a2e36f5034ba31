//! The thread that owns the consumer. Its loop: obey commands, take a change of the assignment a step further, poll what
//! is there, decode it by partition, hand it over. It never waits for the driver: a full queue first makes it rest, then
//! makes it pause the partitions and poll on, because a member that does not poll is taken for dead.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::{Bytes, BytesMut};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message, Offset};
use tokio::sync::mpsc::UnboundedSender;

use super::commits::Commit;
use super::ends::Ends as PartitionEnds;
use super::group::Group;
use super::passing::{is_passing, persist};
use super::rebalance::{Arrival, Leaving, Member};
use super::source::{Command, Load, Queue, Until};
use crate::config::{self, Deleted, Start};
use tidecast_stream::codec::Codec;
use tidecast_stream::{Event, Partition, Record};

/// How long a poll waits for the first message: the longest that a command lies unread.
const IDLE: Duration = Duration::from_millis(10);
/// Messages of a partition in a batch: enough for decoding and forecasting at full speed, and still a few milliseconds
/// of work, so that latency stays low behind a burst.
const BATCH_MESSAGES: usize = 1_000;
/// Messages between two looks at commands and rebalances.
const ROUND_MESSAGES: usize = 10_000;
/// How long to rest on a full queue before pausing: a pause throws away what was read ahead, so it should be rare; but a
/// rebalance must not wait long either.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the brokers may take to say which positions there are.
const ANSWER: Duration = Duration::from_secs(10);
/// From one time that is asked how far paused partitions reach to the next, and how long that may hold up all else.
const ASK_EVERY: Duration = Duration::from_secs(2);
const ASK_MOST: Duration = Duration::from_millis(200);

/// A partition that we read.
pub(super) struct Owned {
    /// The next offset to hand over. Below it everything is handed over already: after a pause librdkafka may repeat.
    pub next: i64,
    /// The end when it was assigned.
    pub end: i64,
    pub phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Reading,
    /// Paused until the queue has room.
    Held,
    /// Paused for good: at its end, and no more than that was asked for.
    AtEnd,
    /// Revoked, while the driver finishes with it.
    Leaving,
}

impl Phase {
    fn is_paused(self) -> bool {
        matches!(self, Phase::Held | Phase::AtEnd)
    }
}

/// The thread's ends of what connects it with the source.
pub(super) struct Ends {
    pub events: UnboundedSender<Result<Event>>,
    pub commands: Receiver<Command>,
    pub queue: Arc<Queue>,
}

pub(super) struct Poller {
    pub consumer: Arc<BaseConsumer<Member>>,
    pub group: Group,
    pub start: Start,
    pub deleted: Deleted,
    queue_rows: usize,
    /// The topic's partitions when this member started.
    pub known: i32,
    until: Until,
    codec: Codec,
    pub owned: BTreeMap<i32, Owned>,
    /// Partitions that are assigned and not read yet.
    pub arriving: BTreeMap<i32, Arrival>,
    /// Partitions that the coordinator wants back, while the driver finishes with them. librdkafka waits for the answer.
    pub leaving: Option<Leaving>,
    pub commits: VecDeque<Commit>,
    pub ends: Ends,
    /// How far the partitions reach, for those who watch.
    pub reach: PartitionEnds,
    /// When paused partitions were last asked for, and the last of these; `None` where nobody watches.
    asked: Option<(Instant, i32)>,
    /// Since when the queue has been full.
    full_since: Option<Instant>,
    /// Whether there was an assignment, if only of nothing.
    pub has_joined: bool,
    pub has_ended: bool,
    pub is_closing: bool,
}

impl Poller {
    pub fn new(
        consumer: Arc<BaseConsumer<Member>>,
        group: Group,
        config: &config::KafkaSource,
        known: i32,
        (codec, until): (Codec, Until),
        ends: Ends,
        reach: PartitionEnds,
    ) -> Self {
        Self {
            consumer,
            group,
            start: config.start,
            deleted: config.deleted,
            queue_rows: config.queue_rows,
            known,
            until,
            codec,
            owned: BTreeMap::new(),
            arriving: BTreeMap::new(),
            leaving: None,
            commits: VecDeque::new(),
            ends,
            reach,
            asked: config.ends.then(|| (Instant::now(), -1)),
            full_since: None,
            has_joined: false,
            has_ended: false,
            is_closing: false,
        }
    }

    /// Works until closed, then leaves the group. The first error ends it too, as the last event.
    pub fn run(mut self) {
        while !self.is_closing {
            if let Err(error) = self.turn() {
                // Nobody listens where the source was dropped.
                let _ = self.ends.events.send(Err(error));
                break;
            }
        }
        self.abandon();
    }

    fn turn(&mut self) -> Result<()> {
        self.obey()?;
        self.rebalance()?;
        self.end();
        match self.has_room()? {
            true => self.read(),
            false => self.rest(),
        }
    }

    /// Whether to poll. Pauses the partitions of a queue that stays full, and goes on with them when it has emptied.
    fn has_room(&mut self) -> Result<bool> {
        let load = self.ends.queue.load();
        if load.is_full(self.queue_rows) {
            let since = *self.full_since.get_or_insert_with(Instant::now);
            if since.elapsed() < PATIENCE {
                return Ok(false);
            }
            self.shift(Phase::Reading, Phase::Held)?;
            self.ask();
        } else if load.is_half_empty(self.queue_rows) {
            self.full_since = None;
            self.shift(Phase::Held, Phase::Reading)?;
        } else if !self.owned.values().any(|owned| owned.phase == Phase::Held) {
            self.full_since = None;
        }
        Ok(true)
    }

    /// What is paused is not fetched, so that no answer says how far it reaches: asks for it, as much as there is time for.
    fn ask(&mut self) {
        let Some((_, last)) = self.asked.filter(|(at, _)| at.elapsed() >= ASK_EVERY) else { return };
        let now = Instant::now();
        let held = |(number, owned): (&i32, &Owned)| (owned.phase == Phase::Held).then_some(*number);
        let behind = self.owned.range(last + 1..).chain(self.owned.range(..=last));
        let mut asked = last;
        for number in behind.filter_map(held) {
            let Some(time) = ASK_MOST.checked_sub(now.elapsed()) else { break };
            asked = number;
            // Whoever does not answer leaves what was known.
            if let Ok((_, high)) = self.consumer.fetch_watermarks(&self.group.topic, number, time) {
                self.reach.reaches(number, high);
            }
        }
        self.asked = Some((Instant::now(), asked));
    }

    /// Waits a little, for a command if there is one.
    fn rest(&mut self) -> Result<()> {
        match self.ends.commands.recv_timeout(IDLE) {
            Ok(command) => self.accept(command)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => self.is_closing = true,
        }
        Ok(())
    }

    /// Polls until there is nothing more, or enough, and hands over what came, a batch a partition.
    fn read(&mut self) -> Result<()> {
        // A message that is looked at holds the consumer that it came from.
        let consumer = self.consumer.clone();
        let mut batches: BTreeMap<i32, Gathered> = BTreeMap::new();
        let mut taken = Load::default();
        let mut through = BTreeSet::new();
        let mut timeout = IDLE;
        while taken.messages < ROUND_MESSAGES && !taken.is_full(self.queue_rows) {
            let message = match consumer.poll(timeout) {
                None => break,
                Some(Ok(message)) => message,
                Some(Err(KafkaError::PartitionEOF(number))) => {
                    through.insert(number);
                    // What is left below the end are marks of transactions and records that were never committed.
                    if let Some(owned) = self.owned.get_mut(&number) {
                        owned.next = owned.next.max(owned.end);
                    }
                    continue;
                }
                Some(Err(error)) => {
                    self.heed(error)?;
                    continue;
                }
            };
            timeout = Duration::ZERO;
            let number = message.partition();
            through.remove(&number);
            if !self.wants(number, message.offset()) {
                continue;
            }
            let batch = batches.entry(number).or_default();
            let load = batch.add(&message);
            taken.messages += load.messages;
            taken.bytes += load.bytes;
            if batch.records.len() >= BATCH_MESSAGES {
                let full = std::mem::take(&mut batch.records);
                self.hand_over(number, full);
            }
        }
        for (number, Gathered { records, .. }) in batches {
            if !records.is_empty() {
                self.hand_over(number, records);
            }
        }
        through.into_iter().for_each(|number| self.reach.through(number));
        self.stop_at_ends()
    }

    /// Takes note of a message, and says whether it is to be handed over.
    fn wants(&mut self, number: i32, offset: i64) -> bool {
        let Some(owned) = self.owned.get_mut(&number) else { return false };
        let is_new = offset >= owned.next && matches!(owned.phase, Phase::Reading | Phase::Held);
        let is_asked_for = self.until == Until::Stopped || offset < owned.end;
        if is_new {
            owned.next = offset + 1;
        }
        is_new && is_asked_for
    }

    fn hand_over(&mut self, number: i32, records: Vec<Record>) {
        let partition = self.partition(number);
        self.ends.queue.add(Load::of(&records));
        let batch = self.codec.batch(partition, records);
        self.reach.handed(number, batch.next.0);
        self.tell(Event::Rows(batch));
    }

    /// Pauses what has been read as far as was asked for.
    fn stop_at_ends(&mut self) -> Result<()> {
        if self.until == Until::Stopped {
            return Ok(());
        }
        let is_there = |owned: &Owned| owned.next >= owned.end && owned.phase != Phase::Leaving;
        let there: Vec<i32> =
            self.owned.iter().filter(|(_, owned)| is_there(owned)).map(|(number, _)| *number).collect();
        for number in there {
            self.hold(number, Phase::AtEnd)?;
        }
        Ok(())
    }

    /// Says that the input is over, once, when all of it has been handed over.
    fn end(&mut self) {
        let is_settled = self.has_joined && self.arriving.is_empty() && self.leaving.is_none();
        let is_settled = is_settled && !self.consumer.context().has_changes();
        let is_over = self.owned.values().all(|owned| owned.phase == Phase::AtEnd);
        if self.until == Until::End && is_settled && is_over && !self.has_ended {
            self.has_ended = true;
            self.tell(Event::End);
        }
    }

    /// Decides what an error of the consumer means.
    fn heed(&mut self, error: KafkaError) -> Result<()> {
        use RDKafkaErrorCode::*;
        let is_fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        // The client mends these by itself, however long it takes; the log says what they are.
        if is_passing(&error) && !is_fatal {
            tracing::warn!(group = self.group.name(), "kafka: {error}; going on");
            return Ok(());
        }
        match error.rdkafka_error_code() {
            // We were too slow for the group; the client joins again.
            Some(PollExceeded) if !is_fatal => {
                tracing::warn!(group = self.group.name(), "kafka: {error}; going on");
                Ok(())
            }
            // At the start these are wrong settings; later, a handshake that a restarting broker broke off.
            Some(SSL | Authentication) if self.has_joined => {
                tracing::warn!(group = self.group.name(), "kafka: {error}; going on");
                Ok(())
            }
            Some(AutoOffsetReset | OffsetOutOfRange) => self.explain_gap(),
            _ => {
                let reason = self.consumer.context().last_failure().unwrap_or_default();
                Err(anyhow!(error).context(format!("reading topic `{}`: {reason}", self.group.topic)))
            }
        }
    }

    /// A position that does not exist: names the partition.
    fn explain_gap(&self) -> Result<()> {
        for (number, owned) in &self.owned {
            let ends = || {
                let ends = self.consumer.fetch_watermarks(&self.group.topic, *number, ANSWER);
                ends.with_context(|| format!("{}: which positions there are", self.partition(*number)))
            };
            let (low, high) = persist(ends)?;
            self.still_there(*number, owned.next, low, high)?;
        }
        let reason = self.consumer.context().last_failure().unwrap_or_default();
        bail!(
            "topic `{}`: a position does not exist: {reason}; start again, and `deleted` in \
             [source.kafka] decides where retention was faster, or reset the positions of group `{}`; {}",
            self.group.topic,
            self.group.name(),
            super::rebalance::ANOTHER_GROUP
        )
    }

    fn shift(&mut self, from: Phase, to: Phase) -> Result<()> {
        let numbers: Vec<i32> =
            self.owned.iter().filter(|(_, owned)| owned.phase == from).map(|(number, _)| *number).collect();
        if !numbers.is_empty() {
            tracing::debug!(group = self.group.name(), partitions = ?numbers, "{from:?} -> {to:?}");
        }
        numbers.into_iter().try_for_each(|number| self.hold(number, to))
    }

    /// Moves a partition to a phase, pausing or resuming it where that differs: to resume what is not paused would make
    /// the client start over and repeat.
    pub fn hold(&mut self, number: i32, phase: Phase) -> Result<()> {
        let list = self.list([(number, Offset::Invalid)])?;
        let Some(owned) = self.owned.get_mut(&number) else { return Ok(()) };
        let was_paused = owned.phase.is_paused();
        owned.phase = phase;
        match (was_paused, phase.is_paused()) {
            (false, true) => {
                self.reach.paused(number);
                Ok(self.consumer.pause(&list)?)
            }
            (true, false) => Ok(self.consumer.resume(&list)?),
            _ => Ok(()),
        }
    }

    pub fn partition(&self, number: i32) -> Partition {
        Partition { topic: self.group.topic.clone(), number }
    }

    pub fn tell(&mut self, event: Event) {
        if self.ends.events.send(Ok(event)).is_err() {
            self.is_closing = true;
        }
    }
}

/// Bytes of messages that lie in one stretch of memory: the first of a batch has room for a few, since many a batch is of one
/// message and waits with it; each further one for twice as many, up to some hundreds of usual ones.
const STRETCH_FIRST: usize = 512;
const STRETCH_MOST: usize = 64 << 10;

/// Messages of one partition that are on their way into a batch.
#[derive(Default)]
struct Gathered {
    records: Vec<Record>,
    /// Where their keys and payloads lie, one behind the other, until the last of them is dropped.
    stretch: BytesMut,
    /// Room of the latest stretch when it was made.
    room: usize,
}

impl Gathered {
    fn add(&mut self, message: &BorrowedMessage<'_>) -> Load {
        let record = Record {
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            replays: super::rejects::replays(message),
            key: message.key().map(|key| self.keep(key)),
            payload: message.payload().map(|payload| self.keep(payload)),
        };
        let load = Load::of(std::slice::from_ref(&record));
        self.records.push(record);
        load
    }

    fn keep(&mut self, bytes: &[u8]) -> Bytes {
        if self.stretch.capacity() < bytes.len() {
            self.room = (2 * self.room).clamp(STRETCH_FIRST, STRETCH_MOST);
            self.stretch = BytesMut::with_capacity(bytes.len().max(self.room));
        }
        self.stretch.extend_from_slice(bytes);
        self.stretch.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_messages_keep_little_and_many_are_kept_as_they_came() {
        let mut gathered = Gathered::default();
        let first = gathered.keep(b"one");
        assert!(gathered.stretch.capacity() <= STRETCH_FIRST);
        let messages: Vec<Vec<u8>> = (0..3000).map(|i| vec![i as u8; i % 200]).collect();
        let kept: Vec<Bytes> = messages.iter().map(|message| gathered.keep(message)).collect();
        assert_eq!((&first[..], gathered.room), (&b"one"[..], STRETCH_MOST));
        assert!(kept.iter().zip(&messages).all(|(kept, message)| kept == message));
        assert_eq!(gathered.keep(&[7; 2 * STRETCH_MOST]).len(), 2 * STRETCH_MOST, "whatever its size");
    }
}
