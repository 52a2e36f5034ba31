//! The partitions of this member, from their assignment to their revocation.
//!
//! An assignment is acknowledged at once, as empty, so that the partitions that are already read keep flowing. Each new
//! partition is added when its committed position is known and the driver has restored its state. A revoked partition
//! is given up when the driver has finished it, or after a timeout: the whole group waits for it. The consumer thread
//! keeps polling meanwhile, otherwise the group would consider this member dead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use tidecast_stream::settings::{OnDataLoss, StartOffset};
use tidecast_stream::{
    Assignment, CommittedPosition, Partition, Position, SourceClosed, SourceEvent, StartPosition,
};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use crate::errors::retry_transient;
use crate::group::{ConsumerCallbacks, Group, RebalanceEvent, unassign_all};
use crate::lag::LagTracker;
use crate::settings::KafkaSourceConfig;

const OFFSETS_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum time for the driver to commit a revoked partition. The rest of the group waits for it; the next owner
/// processes again what is not committed by then.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Advice for a committed position that does not exist.
const ANOTHER_GROUP: &str =
    "another `group` would begin at `start` and write the same forecasts to the same topics a second time";

/// A partition that is being read.
pub(crate) struct OwnedPartition {
    /// The next offset to pass on. After a pause librdkafka may repeat records below it.
    pub next: i64,
    /// The end offset when the partition was assigned.
    pub end: i64,
    pub phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Reading,
    /// Paused until the queue has room.
    Paused,
    /// Paused for good: at the end offset, with [`ReadUntil::End`](crate::ReadUntil::End).
    AtEnd,
    /// Revoked; the driver is finishing it.
    Revoked,
}

impl Phase {
    fn is_paused(self) -> bool {
        matches!(self, Phase::Paused | Phase::AtEnd)
    }
}

/// A partition that is assigned and not read yet.
enum PendingAssignment {
    /// Waits for the brokers to return its offsets.
    Offsets(Receiver<Result<PartitionOffsets>>),
    /// Waits for the driver to choose the start position.
    Start { offsets: PartitionOffsets, start: oneshot::Receiver<StartPosition> },
}

#[derive(Clone)]
struct PartitionOffsets {
    committed: Option<CommittedPosition>,
    low: i64,
    high: i64,
    /// The first record within the replay window.
    replay_from: Option<i64>,
}

/// Partitions to be given up. librdkafka waits for the answer.
struct PendingRevocation {
    partitions: Vec<i32>,
    done: oneshot::Receiver<()>,
    deadline: Instant,
}

pub(crate) struct Assignments {
    pub consumer: Arc<BaseConsumer<ConsumerCallbacks>>,
    pub group: Group,
    start: StartOffset,
    on_data_loss: OnDataLoss,
    replay_window: Option<Duration>,
    /// Partition count of the topic when this member started.
    initial_partitions: i32,
    pub owned: BTreeMap<i32, OwnedPartition>,
    pending: BTreeMap<i32, PendingAssignment>,
    revocation: Option<PendingRevocation>,
    /// This member has had an assignment, which may have been empty.
    pub has_joined: bool,
    /// The end of the input was reported: new partitions are ignored.
    pub is_finished: bool,
    events: UnboundedSender<Result<SourceEvent>>,
    pub lag: LagTracker,
}

impl Assignments {
    pub fn new(
        consumer: Arc<BaseConsumer<ConsumerCallbacks>>,
        group: Group,
        config: &KafkaSourceConfig,
        initial_partitions: i32,
        events: UnboundedSender<Result<SourceEvent>>,
        lag: LagTracker,
    ) -> Self {
        Self {
            consumer,
            group,
            start: config.start,
            on_data_loss: config.on_data_loss,
            replay_window: config.replay_window,
            initial_partitions,
            owned: BTreeMap::new(),
            pending: BTreeMap::new(),
            revocation: None,
            has_joined: false,
            is_finished: false,
            events,
            lag,
        }
    }

    pub fn partition(&self, number: i32) -> Partition {
        Partition { topic: self.group.topic.clone(), number }
    }

    /// Advances the revocation and the assignments in progress by one step.
    pub fn advance(&mut self) -> Result<()> {
        self.finish_revocation()?;
        if self.revocation.is_none() {
            match self.consumer.context().next_rebalance() {
                Some(RebalanceEvent::Assign(partitions)) => self.assign(partitions)?,
                Some(RebalanceEvent::Revoke { partitions, is_lost }) => self.revoke(partitions, is_lost)?,
                None => {}
            }
        }
        // While librdkafka waits for a revocation, no partition is added.
        if self.revocation.is_none() { self.advance_assignments() } else { Ok(()) }
    }

    /// True if no rebalance is in progress.
    pub fn is_settled(&self) -> bool {
        self.has_joined
            && self.pending.is_empty()
            && self.revocation.is_none()
            && !self.consumer.context().has_rebalances()
    }

    /// Acknowledges an assignment, and requests the offsets of the new partitions in a thread of its own.
    fn assign(&mut self, partitions: Vec<i32>) -> Result<()> {
        self.has_joined = true;
        self.consumer
            .incremental_assign(&TopicPartitionList::new())
            .context("acknowledging an assignment")?;
        if self.is_finished {
            // Another member has left. Its partitions are not read any more, and count as being at their end.
            return Ok(());
        }
        let mut senders = BTreeMap::new();
        for number in partitions {
            let (sender, receiver) = sync_channel(1);
            self.pending.insert(number, PendingAssignment::Offsets(receiver));
            senders.insert(number, sender);
        }
        let (group, window) = (self.group.clone(), self.replay_window);
        let request = move || {
            let numbers: Vec<i32> = senders.keys().copied().collect();
            let offsets = retry_transient(|| partition_offsets(&group, &numbers, window));
            for (number, sender) in senders {
                let offsets = match &offsets {
                    Ok(offsets) => Ok(offsets[&number].clone()),
                    Err(error) => Err(anyhow!("{error:#}")),
                };
                // The receiver is gone if the partition was revoked meanwhile.
                let _ = sender.send(offsets);
            }
        };
        std::thread::Builder::new().name("kafka-offsets".into()).spawn(request)?;
        Ok(())
    }

    fn advance_assignments(&mut self) -> Result<()> {
        let numbers: Vec<i32> = self.pending.keys().copied().collect();
        for number in numbers {
            let Some(pending) = self.pending.remove(&number) else { continue };
            match pending {
                PendingAssignment::Offsets(receiver) => match receiver.try_recv() {
                    Ok(offsets) => self.request_start(number, offsets?)?,
                    Err(TryRecvError::Empty) => {
                        self.pending.insert(number, PendingAssignment::Offsets(receiver));
                    }
                    Err(TryRecvError::Disconnected) => {
                        bail!("{}: the request for its offsets was aborted", self.partition(number))
                    }
                },
                PendingAssignment::Start { offsets, mut start } => match start.try_recv() {
                    Ok(start) => self.start_reading(number, &offsets, start)?,
                    Err(oneshot::error::TryRecvError::Empty) => {
                        self.pending.insert(number, PendingAssignment::Start { offsets, start });
                    }
                    Err(oneshot::error::TryRecvError::Closed) => {
                        bail!("{}: the driver did not choose a start position", self.partition(number))
                    }
                },
            }
        }
        Ok(())
    }

    /// Lets the driver choose the start position.
    fn request_start(&mut self, number: i32, mut offsets: PartitionOffsets) -> Result<()> {
        let partition = self.partition(number);
        let mut reset = false;
        if let Some(CommittedPosition { position, .. }) = offsets.committed {
            match self.check_available(number, position.0, offsets.low, offsets.high) {
                Ok(()) => {}
                Err(error) if self.on_data_loss == OnDataLoss::Cold && position.0 < offsets.low => {
                    tracing::warn!("{error:#}; its series start cold, because of `on_data_loss = \"cold\"`");
                    offsets.committed = None;
                    reset = true;
                }
                Err(error) => return Err(error),
            }
        }
        let fallback = if reset { offsets.low } else { self.fallback(&partition, &offsets)? };
        let (reply, start) = oneshot::channel();
        let assignment = Assignment {
            partition,
            committed: offsets.committed.clone(),
            reset,
            default_start: Position(fallback),
            log_start: Position(offsets.low),
            replay_from: offsets.replay_from.map(Position),
        };
        self.pending.insert(number, PendingAssignment::Start { offsets, start });
        self.emit(SourceEvent::Assigned { assignment, reply });
        Ok(())
    }

    /// The start offset of a partition without a committed position.
    fn fallback(&self, partition: &Partition, offsets: &PartitionOffsets) -> Result<i64> {
        if partition.number >= self.initial_partitions {
            tracing::warn!(
                topic = %partition.topic,
                partition = partition.number,
                "the topic has more partitions than at the start: series that move to another partition begin cold; the \
                 next start applies state.on_change"
            );
            // All of its records arrived after the start.
            return Ok(offsets.low);
        }
        match self.start {
            StartOffset::Earliest => Ok(offsets.low),
            StartOffset::Latest => Ok(offsets.high),
            StartOffset::Fail if offsets.committed.is_some() => Ok(offsets.low),
            StartOffset::Fail => bail!(
                "{partition}: group `{}` has no committed position, and `start = \"fail\"`; set `start = \"earliest\"` or \
                 `\"latest\"` for the first run",
                self.group.name()
            ),
        }
    }

    fn start_reading(&mut self, number: i32, offsets: &PartitionOffsets, start: StartPosition) -> Result<()> {
        let StartPosition { position: Position(next), replay_until, metadata } = start;
        self.check_available(number, next, offsets.low, offsets.high.max(next))?;
        let list = self.list([(number, Offset::Offset(next))])?;
        self.consumer.incremental_assign(&list).context("adding a partition")?;
        self.owned.insert(number, OwnedPartition { next, end: offsets.high, phase: Phase::Reading });
        self.group.owned.insert(number, replay_until, metadata);
        self.lag.on_start(number, next, offsets.high);
        self.emit(SourceEvent::ReadingStarted {
            partition: self.partition(number),
            position: Position(next),
        });
        Ok(())
    }

    /// # Errors
    /// If the position is below the log start, because of retention, or above the end, because the topic was recreated or
    /// truncated. Both would lose data silently.
    fn check_available(&self, number: i32, position: i64, low: i64, high: i64) -> Result<()> {
        let (partition, group) = (self.partition(number), self.group.name());
        if position < low {
            bail!(
                "{partition}: group `{group}` continues at {position}, but retention has deleted everything below {low}: {} \
                 messages are lost; set `on_data_loss = \"cold\"` to start without them, with cold series, or reset the \
                 group's position",
                low - position
            );
        }
        if position > high {
            bail!(
                "{partition}: group `{group}` continues at {position}, but the partition ends at {high}: it was recreated or \
                 truncated; reset the group's position; {ANOTHER_GROUP}"
            );
        }
        Ok(())
    }

    /// Turns the client's error about a missing position into one that names the partition.
    pub fn explain_missing_position(&self) -> Result<()> {
        for (number, owned) in &self.owned {
            let (low, high) = retry_transient(|| {
                let watermarks = self.consumer.fetch_watermarks(&self.group.topic, *number, OFFSETS_TIMEOUT);
                watermarks.with_context(|| {
                    format!("{}: reading the first and last offset", self.partition(*number))
                })
            })?;
            self.check_available(*number, owned.next, low, high)?;
        }
        bail!(
            "topic `{}`: a position does not exist: {}; start again, so that `on_data_loss` in [source.kafka] applies if \
             retention deleted it, or reset the positions of group `{}`; {ANOTHER_GROUP}",
            self.group.topic,
            self.consumer.context().last_failure().unwrap_or_default(),
            self.group.name(),
        )
    }

    /// Stops reading revoked partitions and lets the driver finish them.
    fn revoke(&mut self, partitions: Vec<i32>, is_lost: bool) -> Result<()> {
        let mut known = Vec::new();
        for number in &partitions {
            // The driver does not know partitions that still wait for their offsets.
            let was_announced = matches!(self.pending.remove(number), Some(PendingAssignment::Start { .. }));
            if was_announced || self.owned.contains_key(number) {
                known.push(self.partition(*number));
            }
            // A pause survives the assignment: without a resume, the partition would return paused.
            self.set_phase(*number, Phase::Revoked)?;
        }
        let (answer, done) = oneshot::channel();
        if known.is_empty() {
            let _ = answer.send(());
        } else {
            self.emit(SourceEvent::Revoked { partitions: known, done: answer });
        }
        let mut deadline = Instant::now() + REVOKE_TIMEOUT;
        if is_lost {
            // The partitions have other owners already, and every commit would fail: do not wait.
            tracing::warn!(
                group = self.group.name(),
                ?partitions,
                "lost partitions: the group has considered this member dead"
            );
            deadline = Instant::now();
        }
        self.revocation = Some(PendingRevocation { partitions, done, deadline });
        self.finish_revocation()
    }

    /// Gives up the revoked partitions once the driver has finished them, or the deadline has passed.
    fn finish_revocation(&mut self) -> Result<()> {
        let Some(mut revocation) = self.revocation.take() else { return Ok(()) };
        if revocation.done.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
            if Instant::now() < revocation.deadline {
                self.revocation = Some(revocation);
                return Ok(());
            }
            tracing::warn!(
                group = self.group.name(),
                partitions = ?revocation.partitions,
                "gave up partitions before their last rows were committed"
            );
        }
        let mut list = TopicPartitionList::new();
        for number in revocation.partitions {
            // Before the acknowledgement: a concurrent commit either misses the partition or has a stale generation.
            self.group.owned.remove(number);
            if self.owned.remove(&number).is_some() {
                list.add_partition(&self.group.topic, number);
            }
        }
        self.consumer.incremental_unassign(&list).context("giving up partitions")
    }

    /// Prepares for leaving the group, which an unacknowledged rebalance would block for ever.
    pub fn leave(&mut self) {
        let callbacks = self.consumer.context();
        callbacks.start_leaving();
        let has_unacknowledged = self.revocation.take().is_some() || callbacks.has_rebalances();
        self.owned.keys().for_each(|number| self.group.owned.remove(*number));
        if has_unacknowledged && let Err(error) = unassign_all(&self.consumer) {
            tracing::warn!(group = self.group.name(), "leaving the consumer group: {error}");
        }
    }

    /// Moves all partitions in phase `from` to phase `to`.
    pub fn transition(&mut self, from: Phase, to: Phase) -> Result<()> {
        let in_phase = self.owned.iter().filter(|(_, owned)| owned.phase == from);
        let numbers: Vec<i32> = in_phase.map(|(number, _)| *number).collect();
        if !numbers.is_empty() {
            tracing::debug!(group = self.group.name(), partitions = ?numbers, "{from:?} -> {to:?}");
        }
        numbers.into_iter().try_for_each(|number| self.set_phase(number, to))
    }

    /// Moves a partition to a phase. Pauses or resumes it only on a change: resuming a partition that is not paused
    /// makes the client refetch and repeat records.
    pub fn set_phase(&mut self, number: i32, phase: Phase) -> Result<()> {
        let list = self.list([(number, Offset::Invalid)])?;
        let Some(owned) = self.owned.get_mut(&number) else { return Ok(()) };
        let was_paused = owned.phase.is_paused();
        owned.phase = phase;
        match (was_paused, phase.is_paused()) {
            (false, true) => {
                self.lag.on_pause(number);
                Ok(self.consumer.pause(&list)?)
            }
            (true, false) => Ok(self.consumer.resume(&list)?),
            _ => Ok(()),
        }
    }

    /// The receiver is gone if the source was dropped, which also closes it.
    fn emit(&self, event: SourceEvent) {
        let _ = self.events.send(Ok(event));
    }

    fn list(&self, partitions: impl IntoIterator<Item = (i32, Offset)>) -> Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for (number, offset) in partitions {
            list.add_partition_offset(&self.group.topic, number, offset)?;
        }
        Ok(list)
    }
}

/// Reads the offsets of partitions from the brokers. Blocks.
fn partition_offsets(
    group: &Group,
    partitions: &[i32],
    replay_window: Option<Duration>,
) -> Result<BTreeMap<i32, PartitionOffsets>> {
    let committed = group.committed(partitions)?;
    let consumer = group.consumer.upgrade().ok_or(SourceClosed)?;
    let replay_from = match replay_window {
        Some(window) => offsets_within(&consumer, group, partitions, window)?,
        None => BTreeMap::new(),
    };
    let mut offsets = BTreeMap::new();
    for number in partitions {
        let (low, high) = consumer
            .fetch_watermarks(&group.topic, *number, OFFSETS_TIMEOUT)
            .with_context(|| format!("{}/{number}: reading the first and last offset", group.topic))?;
        let committed = committed.get(number).cloned().flatten();
        let replay_from = replay_from.get(number).copied().flatten();
        offsets.insert(*number, PartitionOffsets { committed, low, high, replay_from });
    }
    Ok(offsets)
}

/// The first offset of each partition within the last `window`; `None` if all records are older.
fn offsets_within(
    consumer: &BaseConsumer<ConsumerCallbacks>,
    group: &Group,
    partitions: &[i32],
    window: Duration,
) -> Result<BTreeMap<i32, Option<i64>>> {
    let since = (SystemTime::now() - window).duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut list = TopicPartitionList::new();
    for number in partitions {
        list.add_partition_offset(&group.topic, *number, Offset::Offset(since.as_millis() as i64))?;
    }
    let found = consumer.offsets_for_times(list, OFFSETS_TIMEOUT);
    let found = found.with_context(|| format!("topic `{}`: looking up offsets by time", group.topic))?;
    let offset = |offset| if let Offset::Offset(offset) = offset { Some(offset) } else { None };
    Ok(found.elements().iter().map(|element| (element.partition(), offset(element.offset()))).collect())
}
