//! How partitions come and go. librdkafka hands over a change of the assignment and then waits, with all partitions of
//! this consumer paused, until the new assignment is acknowledged. That gives the driver its say: where to start a
//! partition, and the time to finish one that leaves. The thread goes on polling meanwhile, so that the group does not
//! take this member for dead.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tokio::sync::oneshot;

use super::client::Logged;
use super::commits::is_passing;
use super::poll::{Owned, Phase, Poller};
use crate::config::Start;
use crate::io::{Assigned, Event, Position};

/// The broker holds committed positions back while a transaction of the last owner is open, at most as long as that
/// owner's `transaction.timeout.ms`; then comes the answer or the abort.
const COMMITTED_TIMEOUT: Duration = Duration::from_secs(30);
const WATERMARK_TIMEOUT: Duration = Duration::from_secs(10);

/// A broker restarts within a minute; after this it is an outage that someone should hear of.
const ASKING_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a leaving partition may take to commit. The rest of the group stands still for it; what is not committed by
/// then, the next owner does again.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A change as the group's coordinator wants it.
#[derive(Clone)]
pub(super) enum Change {
    Assign(Vec<i32>),
    Revoke { partitions: Vec<i32>, lost: bool },
}

/// A change under way.
pub(super) enum Pending {
    /// The brokers are being asked where the partitions stand.
    Ask {
        partitions: Vec<i32>,
        deadline: Instant,
    },
    Assign(BTreeMap<i32, Arrival>),
    Revoke {
        partitions: Vec<i32>,
        done: oneshot::Receiver<()>,
        deadline: Instant,
    },
}

/// A partition whose start the driver has to say.
pub(super) struct Arrival {
    low: i64,
    high: i64,
    start: Option<oneshot::Receiver<Position>>,
    position: Option<i64>,
}

/// The consumer's context: collects changes for the thread, which acts on them between two polls.
#[derive(Default)]
pub(super) struct Member {
    log: Logged,
    changes: Mutex<VecDeque<Change>>,
    /// Nobody acts on changes any more: give up what is asked for, at once.
    leaving: AtomicBool,
}

impl Member {
    pub fn next_change(&self) -> Option<Change> {
        self.changes.lock().expect("no holder panics").pop_front()
    }

    pub fn has_changes(&self) -> bool {
        !self.changes.lock().expect("no holder panics").is_empty()
    }

    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
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
            let result = if assign { add(consumer, partitions) } else { remove(consumer, partitions) };
            if let Err(error) = result {
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

/// Acknowledges partitions that came, each to be read from its offset.
fn add(consumer: &BaseConsumer<Member>, partitions: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(partitions),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.assign(partitions),
    }
}

/// Acknowledges partitions that went.
fn remove(consumer: &BaseConsumer<Member>, partitions: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(partitions),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
    }
}

impl Poller {
    /// Takes the change under way a step further, or starts the next.
    pub(super) fn rebalance(&mut self) -> Result<()> {
        match self.pending.take() {
            Some(Pending::Ask { partitions, deadline }) => self.ask(partitions, deadline),
            Some(Pending::Assign(arrivals)) => self.arrive(arrivals),
            Some(Pending::Revoke { partitions, done, deadline }) => self.depart(partitions, done, deadline),
            None => {
                self.unacknowledged = self.consumer.context().next_change();
                match self.unacknowledged.clone() {
                    Some(Change::Assign(partitions)) => self.assigned(partitions),
                    Some(Change::Revoke { partitions, lost }) => self.revoked(partitions, lost),
                    None => Ok(()),
                }
            }
        }
    }

    /// Acknowledges the change under way: reads `partitions` from their offsets from now on, or no more.
    fn acknowledge(&mut self, partitions: impl IntoIterator<Item = (i32, Offset)>) -> Result<()> {
        let list = self.list(partitions)?;
        match self.unacknowledged.take() {
            Some(Change::Assign(_)) => add(&self.consumer, &list).context("taking partitions over"),
            Some(Change::Revoke { .. }) => remove(&self.consumer, &list).context("giving partitions up"),
            None => Ok(()),
        }
    }

    /// Asks the driver where to start each partition.
    fn assigned(&mut self, partitions: Vec<i32>) -> Result<()> {
        self.has_joined = true;
        if self.has_ended {
            // Another member left; its share is not ours to read any more, and it is at its end for those who count.
            return self.acknowledge(partitions.into_iter().map(|number| (number, Offset::End)));
        }
        self.ask(partitions, Instant::now() + ASKING_TIMEOUT)
    }

    /// Asks again while a broker that restarts, or a leader that moves, gives no answer.
    fn ask(&mut self, partitions: Vec<i32>, deadline: Instant) -> Result<()> {
        match self.find_starts(&partitions) {
            Err(error)
                if Instant::now() < deadline
                    && error.downcast_ref::<KafkaError>().is_some_and(is_passing) =>
            {
                tracing::warn!("{error:#}; asking again");
                self.pending = Some(Pending::Ask { partitions, deadline });
                Ok(())
            }
            found => found,
        }
    }

    /// Finds what there is to say of each partition, and asks the driver where to start.
    fn find_starts(&mut self, partitions: &[i32]) -> Result<()> {
        let committed = self.list(partitions.iter().map(|p| (*p, Offset::Invalid)))?;
        let committed = self.consumer.committed_offsets(committed, COMMITTED_TIMEOUT);
        let committed =
            committed.with_context(|| format!("reading the positions of group {}", self.group))?;
        let mut arrivals = BTreeMap::new();
        let mut events = Vec::new();
        for element in committed.elements() {
            let partition = self.partition(element.partition());
            element.error().with_context(|| format!("{partition}: reading the group's position"))?;
            let committed = match element.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            };
            let (low, high) = self
                .consumer
                .fetch_watermarks(&self.topic, partition.number, WATERMARK_TIMEOUT)
                .with_context(|| format!("{partition}: asking for the first and last offset"))?;
            if let Some(offset) = committed {
                self.still_there(partition.number, offset, low, high)?;
            }
            let fallback = match self.start {
                Start::Earliest => low,
                Start::Latest => high,
                Start::Fail if committed.is_some() => low,
                Start::Fail => bail!(
                    "{partition}: group `{}` has no committed position, and `start = \"fail\"`; say `start = \
                     \"earliest\"` or `\"latest\"` for the first run",
                    self.group
                ),
            };
            let (answer, start) = oneshot::channel();
            arrivals.insert(partition.number, Arrival { low, high, start: Some(start), position: None });
            events.push(Event::Assigned(Assigned {
                partition,
                committed: committed.map(Position),
                fallback: Position(fallback),
                low: Position(low),
                start: answer,
            }));
        }
        for event in events {
            self.tell(event);
        }
        self.pending = Some(Pending::Assign(arrivals));
        Ok(())
    }

    /// A committed position that retention has passed, or that a topic made anew has not reached, is never skipped over
    /// in silence.
    pub(super) fn still_there(&self, number: i32, position: i64, low: i64, high: i64) -> Result<()> {
        let partition = self.partition(number);
        if position < low {
            bail!(
                "{partition}: group `{}` is to go on at {position}, but the topic's retention has deleted all below \
                 {low}: {} messages are lost; reset the group's position to {low} to go on without them",
                self.group,
                low - position
            );
        }
        if position > high {
            bail!(
                "{partition}: group `{}` is to go on at {position}, but the partition ends at {high}: it was made \
                 anew or cut off; reset the group's position, or use another `group`",
                self.group
            );
        }
        Ok(())
    }

    /// Reads the partitions once the driver has said for each of them where to start.
    fn arrive(&mut self, mut arrivals: BTreeMap<i32, Arrival>) -> Result<()> {
        for (number, arrival) in &mut arrivals {
            let Some(mut start) = arrival.start.take() else { continue };
            match start.try_recv() {
                Ok(position) => {
                    self.still_there(*number, position.0, arrival.low, arrival.high.max(position.0))?;
                    arrival.position = Some(position.0);
                }
                Err(oneshot::error::TryRecvError::Empty) => arrival.start = Some(start),
                Err(oneshot::error::TryRecvError::Closed) => {
                    bail!("{}: nobody said where to start", self.partition(*number))
                }
            }
        }
        let starts: Vec<(i32, i64)> =
            arrivals.iter().filter_map(|(number, arrival)| Some((*number, arrival.position?))).collect();
        if starts.len() < arrivals.len() {
            self.pending = Some(Pending::Assign(arrivals));
            return Ok(());
        }
        self.acknowledge(starts.iter().map(|(number, position)| (*number, Offset::Offset(*position))))?;
        for (number, next) in starts {
            let end = arrivals[&number].high;
            self.owned.insert(number, Owned { next, end, phase: Phase::Reading });
        }
        Ok(())
    }

    /// Asks the driver to finish partitions that leave. Nothing more of them is read.
    fn revoked(&mut self, mut partitions: Vec<i32>, lost: bool) -> Result<()> {
        // Also those whose start was never acknowledged are ours to give back; they just need no farewell.
        let all = partitions.clone();
        partitions.retain(|number| self.owned.contains_key(number));
        for number in &partitions {
            // A pause outlives the assignment: undo it, or the partition comes back mute.
            self.hold(*number, Phase::Leaving)?;
        }
        if partitions.is_empty() {
            return self.acknowledge(all.into_iter().map(|number| (number, Offset::Invalid)));
        }
        let (answer, done) = oneshot::channel();
        let leaving = partitions.iter().map(|number| self.partition(*number)).collect();
        self.tell(Event::Revoked { partitions: leaving, done: answer });
        if lost {
            // Others have them already: a commit could only fail, so there is nothing to wait for.
            tracing::warn!(
                group = self.group,
                ?partitions,
                "lost partitions: the group has taken this member for dead"
            );
            return self.depart(all, done, Instant::now());
        }
        self.pending =
            Some(Pending::Revoke { partitions: all, done, deadline: Instant::now() + REVOKE_TIMEOUT });
        Ok(())
    }

    /// Gives the partitions up once the driver is done with them, or has taken too long.
    fn depart(
        &mut self,
        partitions: Vec<i32>,
        mut done: oneshot::Receiver<()>,
        deadline: Instant,
    ) -> Result<()> {
        let late = Instant::now() >= deadline;
        if done.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
            if !late {
                self.pending = Some(Pending::Revoke { partitions, done, deadline });
                return Ok(());
            }
            tracing::warn!(
                group = self.group,
                ?partitions,
                "gave up partitions before their last rows were committed"
            );
        }
        for number in &partitions {
            self.owned.remove(number);
        }
        self.acknowledge(partitions.into_iter().map(|number| (number, Offset::Invalid)))
    }

    /// Prepares for leaving the group: a change that is not acknowledged would hold that up for ever.
    pub(super) fn abandon(&mut self) {
        self.consumer.context().leave();
        if self.unacknowledged.is_none() {
            self.unacknowledged = self.consumer.context().next_change();
        }
        let partitions = match &self.unacknowledged {
            Some(Change::Assign(partitions) | Change::Revoke { partitions, .. }) => partitions.clone(),
            None => return,
        };
        if let Err(error) = self.acknowledge(partitions.into_iter().map(|number| (number, Offset::End))) {
            tracing::warn!(group = self.group, "leaving the consumer group: {error:#}");
        }
    }

    pub(super) fn list(
        &self,
        partitions: impl IntoIterator<Item = (i32, Offset)>,
    ) -> Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for (number, offset) in partitions {
            list.add_partition_offset(&self.topic, number, offset)?;
        }
        Ok(list)
    }
}
