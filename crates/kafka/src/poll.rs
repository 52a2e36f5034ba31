//! The thread that owns the consumer. Its loop handles commands, advances the assignment, polls messages, decodes them
//! by partition, and passes the batches on.
//!
//! It never waits for the driver. When the queue is full it first stops polling for a moment, then pauses the
//! partitions and keeps polling, because the group considers a member that does not poll dead.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use bytes::{Bytes, BytesMut};
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use tidecast_stream::codec::Codec;
use tidecast_stream::{Record, SourceEvent};
use tokio::sync::mpsc::UnboundedSender;

use crate::assignment::{Assignments, OwnedPartition, Phase};
use crate::errors::is_transient;
use crate::group::{CommitQueue, CommitRetry, ConsumerCallbacks, ConsumerCommand, Group};
use crate::lag::LagTracker;
use crate::rejects::replay_count;
use crate::settings::KafkaSourceConfig;

/// Maximum time that a poll waits for the first message, and so the longest delay of a command.
const IDLE_TIMEOUT: Duration = Duration::from_millis(10);
/// Messages per batch of a partition: enough to decode and forecast at full speed, and only milliseconds of work, so
/// that the latency stays low behind a burst.
const BATCH_MESSAGES: usize = 1_000;
/// Messages between two checks of commands and rebalances.
const ROUND_MESSAGES: usize = 10_000;
/// Time without polling on a full queue after which the thread pauses the partitions. A pause discards what was fetched
/// ahead, so it should be rare; but a rebalance must not wait long either.
const PAUSE_DELAY: Duration = Duration::from_secs(1);

/// Interval of the requests for the end offsets of paused partitions, and the time that one round may take.
const WATERMARK_INTERVAL: Duration = Duration::from_secs(2);
const WATERMARK_BUDGET: Duration = Duration::from_millis(200);

/// The end of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadUntil {
    /// Until the source is closed.
    Closed,
    /// To the end offset that each partition had at its assignment. [`SourceEvent::EndOfInput`] follows once all
    /// partitions of this member are there, at once if it has none.
    End,
}

/// Number of messages and their size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueueSize {
    pub messages: usize,
    pub bytes: usize,
}

impl QueueSize {
    /// Decoded rows take about as much again; a process with its models should fit into a small container.
    const BYTES_MAX: usize = 64 << 20;

    pub fn new(records: &[Record]) -> Self {
        Self { messages: records.len(), bytes: records.iter().map(Record::byte_len).sum() }
    }

    fn is_full(self, messages_max: usize) -> bool {
        self.messages >= messages_max || self.bytes >= Self::BYTES_MAX
    }

    /// Low enough to resume: every pause costs what was fetched ahead.
    fn is_half_empty(self, messages_max: usize) -> bool {
        self.messages < messages_max.div_ceil(2) && self.bytes < Self::BYTES_MAX / 2
    }
}

/// Size of the batches that the driver has not taken yet.
#[derive(Debug, Default)]
pub(crate) struct QueueCounter {
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

impl QueueCounter {
    pub fn add(&self, size: QueueSize) {
        self.messages.fetch_add(size.messages, Ordering::Relaxed);
        self.bytes.fetch_add(size.bytes, Ordering::Relaxed);
    }

    pub fn remove(&self, size: QueueSize) {
        self.messages.fetch_sub(size.messages, Ordering::Relaxed);
        self.bytes.fetch_sub(size.bytes, Ordering::Relaxed);
    }

    fn size(&self) -> QueueSize {
        QueueSize {
            messages: self.messages.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

/// The thread's side of its connection with the source.
pub(crate) struct Channels {
    pub events: UnboundedSender<Result<SourceEvent>>,
    pub commands: Receiver<ConsumerCommand>,
    pub queue: Arc<QueueCounter>,
}

/// The last request for the end offset of a paused partition.
struct WatermarkRequest {
    at: Instant,
    partition: i32,
}

pub(crate) struct PollLoop {
    consumer: Arc<BaseConsumer<ConsumerCallbacks>>,
    group: Group,
    assignment: Assignments,
    commits: CommitQueue,
    channels: Channels,
    codec: Codec,
    until: ReadUntil,
    queue_rows: usize,
    lag: LagTracker,
    /// `None` if the lag is not tracked.
    last_watermark: Option<WatermarkRequest>,
    /// Since when the queue has been full.
    full_since: Option<Instant>,
    is_closing: bool,
}

impl PollLoop {
    pub fn new(
        assignment: Assignments,
        config: &KafkaSourceConfig,
        codec: Codec,
        until: ReadUntil,
        channels: Channels,
    ) -> Self {
        let Assignments { consumer, group, lag, .. } = &assignment;
        Self {
            consumer: consumer.clone(),
            group: group.clone(),
            lag: lag.clone(),
            assignment,
            commits: CommitQueue::default(),
            channels,
            codec,
            until,
            queue_rows: config.queue_rows,
            last_watermark: config.track_lag.then(|| WatermarkRequest { at: Instant::now(), partition: -1 }),
            full_since: None,
            is_closing: false,
        }
    }

    /// Runs until the source is closed or dropped, then leaves the group. The first error also ends the loop, as the
    /// last event.
    pub fn run(mut self) {
        while !self.is_closing {
            // A dropped source. The commits in its queue are still tried once.
            self.is_closing = self.channels.events.is_closed();
            if let Err(error) = self.run_once() {
                let _ = self.channels.events.send(Err(error));
                break;
            }
        }
        self.assignment.leave();
    }

    fn run_once(&mut self) -> Result<()> {
        self.handle_commands()?;
        self.assignment.advance()?;
        self.report_end();
        match self.has_room()? {
            true => self.read(),
            false => self.wait_for_command(),
        }
    }

    fn handle_commands(&mut self) -> Result<()> {
        loop {
            match self.channels.commands.try_recv() {
                Ok(command) => self.handle_command(command)?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.is_closing = true;
                    break;
                }
            }
        }
        let retry = if self.is_closing { CommitRetry::Never } else { CommitRetry::UntilTimeout };
        self.commits.advance(&self.group, &self.consumer, retry);
        Ok(())
    }

    fn handle_command(&mut self, command: ConsumerCommand) -> Result<()> {
        match command {
            ConsumerCommand::Commit { reached, done } => self.commits.push(reached, done),
            ConsumerCommand::Join => self.consumer.subscribe(&[&self.group.topic])?,
            ConsumerCommand::Close => self.is_closing = true,
        }
        Ok(())
    }

    fn wait_for_command(&mut self) -> Result<()> {
        match self.channels.commands.recv_timeout(IDLE_TIMEOUT) {
            Ok(command) => self.handle_command(command)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => self.is_closing = true,
        }
        Ok(())
    }

    /// True if the loop may poll. Pauses the partitions if the queue stays full, and resumes them once it is half empty.
    fn has_room(&mut self) -> Result<bool> {
        let size = self.channels.queue.size();
        if size.is_full(self.queue_rows) {
            let since = *self.full_since.get_or_insert_with(Instant::now);
            if since.elapsed() < PAUSE_DELAY {
                return Ok(false);
            }
            self.assignment.transition(Phase::Reading, Phase::Paused)?;
            self.request_watermarks();
        } else if size.is_half_empty(self.queue_rows) {
            self.full_since = None;
            self.assignment.transition(Phase::Paused, Phase::Reading)?;
        } else if !self.assignment.owned.values().any(|owned| owned.phase == Phase::Paused) {
            self.full_since = None;
        }
        Ok(true)
    }

    /// Requests the end offsets of paused partitions, in turns within the budget: they are not fetched, so no fetch
    /// response carries their end.
    fn request_watermarks(&mut self) {
        let Some(last) = &mut self.last_watermark else { return };
        if last.at.elapsed() < WATERMARK_INTERVAL {
            return;
        }
        let start = Instant::now();
        let owned = &self.assignment.owned;
        let in_turn = owned.range(last.partition + 1..).chain(owned.range(..=last.partition));
        for (number, _) in in_turn.filter(|(_, owned)| owned.phase == Phase::Paused) {
            let Some(timeout) = WATERMARK_BUDGET.checked_sub(start.elapsed()) else { break };
            last.partition = *number;
            // Without an answer the last known end stays.
            if let Ok((_, high)) = self.consumer.fetch_watermarks(&self.group.topic, *number, timeout) {
                self.lag.on_end_offset(*number, high);
            }
        }
        last.at = Instant::now();
    }

    /// Polls until there is nothing more, or enough, and passes on one batch per partition.
    fn read(&mut self) -> Result<()> {
        // Messages borrow the consumer.
        let consumer = self.consumer.clone();
        let mut batches: BTreeMap<i32, BatchArena> = BTreeMap::new();
        let mut total = QueueSize::default();
        let mut at_end = BTreeSet::new();
        let mut timeout = IDLE_TIMEOUT;
        while total.messages < ROUND_MESSAGES && !total.is_full(self.queue_rows) {
            let message = match consumer.poll(timeout) {
                None => break,
                Some(Ok(message)) => message,
                Some(Err(KafkaError::PartitionEOF(number))) => {
                    at_end.insert(number);
                    // Below the end offset only transaction markers and aborted records are left.
                    if let Some(owned) = self.assignment.owned.get_mut(&number) {
                        owned.next = owned.next.max(owned.end);
                    }
                    continue;
                }
                Some(Err(error)) => {
                    self.handle_error(error)?;
                    continue;
                }
            };
            timeout = Duration::ZERO;
            let number = message.partition();
            at_end.remove(&number);
            if !self.accept(number, message.offset()) {
                continue;
            }
            let batch = batches.entry(number).or_default();
            let size = batch.add(&message);
            total.messages += size.messages;
            total.bytes += size.bytes;
            if batch.records.len() >= BATCH_MESSAGES {
                let full = std::mem::take(&mut batch.records);
                self.emit_batch(number, full);
            }
        }
        for (number, BatchArena { records, .. }) in batches {
            if !records.is_empty() {
                self.emit_batch(number, records);
            }
        }
        at_end.into_iter().for_each(|number| self.lag.on_end(number));
        self.pause_at_end()
    }

    /// Advances the partition past the message. Returns whether the message is new and wanted.
    fn accept(&mut self, number: i32, offset: i64) -> bool {
        let Some(owned) = self.assignment.owned.get_mut(&number) else { return false };
        let is_new = offset >= owned.next && matches!(owned.phase, Phase::Reading | Phase::Paused);
        let is_wanted = self.until == ReadUntil::Closed || offset < owned.end;
        if is_new {
            owned.next = offset + 1;
        }
        is_new && is_wanted
    }

    fn emit_batch(&mut self, number: i32, records: Vec<Record>) {
        self.channels.queue.add(QueueSize::new(&records));
        let batch = self.codec.decode_into_batch(self.assignment.partition(number), records);
        self.lag.on_rows(number, batch.next.0);
        // The receiver is gone if the source was dropped, which ends the loop.
        let _ = self.channels.events.send(Ok(SourceEvent::Batch(batch)));
    }

    fn pause_at_end(&mut self) -> Result<()> {
        if self.until == ReadUntil::Closed {
            return Ok(());
        }
        let is_at_end = |owned: &OwnedPartition| owned.next >= owned.end && owned.phase != Phase::Revoked;
        let at_end = self.assignment.owned.iter().filter(|(_, owned)| is_at_end(owned));
        let at_end: Vec<i32> = at_end.map(|(number, _)| *number).collect();
        at_end.into_iter().try_for_each(|number| self.assignment.set_phase(number, Phase::AtEnd))
    }

    /// Emits [`SourceEvent::EndOfInput`] once, when all partitions are at their end.
    fn report_end(&mut self) {
        let is_at_end = self.assignment.owned.values().all(|owned| owned.phase == Phase::AtEnd);
        let is_end = self.until == ReadUntil::End && self.assignment.is_settled() && is_at_end;
        if is_end && !self.assignment.is_finished {
            self.assignment.is_finished = true;
            let _ = self.channels.events.send(Ok(SourceEvent::EndOfInput));
        }
    }

    fn handle_error(&self, error: KafkaError) -> Result<()> {
        use RDKafkaErrorCode::*;
        let is_fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        let is_recoverable = match error.rdkafka_error_code() {
            // At the start these are wrong settings; later, a handshake interrupted by a restarting broker.
            Some(SSL | Authentication) => self.assignment.has_joined,
            _ if is_fatal => false,
            // Polls were too far apart; the client joins the group again.
            Some(PollExceeded) => true,
            // The client recovers by itself, however long it takes.
            _ => is_transient(&error),
        };
        if is_recoverable {
            tracing::warn!(group = self.group.name(), "kafka: {error}; continuing");
            return Ok(());
        }
        match error.rdkafka_error_code() {
            Some(AutoOffsetReset | OffsetOutOfRange) => self.assignment.explain_missing_position(),
            _ => {
                let reason = self.consumer.context().last_failure().unwrap_or_default();
                Err(anyhow!(error).context(format!("reading topic `{}`: {reason}", self.group.topic)))
            }
        }
    }
}

/// Capacity of the chunks that hold the bytes of a batch. Many batches have a single message, so the first chunk is
/// small; each further one has twice the capacity, up to the size of some hundred messages.
const CHUNK_BYTES_MIN: usize = 512;
const CHUNK_BYTES_MAX: usize = 64 << 10;

/// The messages of one partition's next batch. Keys and payloads share chunks of memory.
#[derive(Default)]
struct BatchArena {
    records: Vec<Record>,
    chunk: BytesMut,
    /// Capacity that the chunk was created with.
    chunk_bytes: usize,
}

impl BatchArena {
    fn add(&mut self, message: &BorrowedMessage<'_>) -> QueueSize {
        let record = Record {
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            replays: replay_count(message),
            key: message.key().map(|key| self.copy(key)),
            payload: message.payload().map(|payload| self.copy(payload)),
        };
        let size = QueueSize::new(std::slice::from_ref(&record));
        self.records.push(record);
        size
    }

    fn copy(&mut self, bytes: &[u8]) -> Bytes {
        if self.chunk.capacity() < bytes.len() {
            self.chunk_bytes = (2 * self.chunk_bytes).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
            self.chunk = BytesMut::with_capacity(bytes.len().max(self.chunk_bytes));
        }
        self.chunk.extend_from_slice(bytes);
        self.chunk.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_arena_starts_small_grows_and_preserves_the_bytes() {
        let mut arena = BatchArena::default();
        let first = arena.copy(b"one");
        assert!(arena.chunk.capacity() <= CHUNK_BYTES_MIN);
        let messages: Vec<Vec<u8>> = (0..3000).map(|i| vec![i as u8; i % 200]).collect();
        let copies: Vec<Bytes> = messages.iter().map(|message| arena.copy(message)).collect();
        assert_eq!((&first[..], arena.chunk_bytes), (&b"one"[..], CHUNK_BYTES_MAX));
        assert!(copies.iter().zip(&messages).all(|(copy, message)| copy == message));
        assert_eq!(arena.copy(&[7; 2 * CHUNK_BYTES_MAX]).len(), 2 * CHUNK_BYTES_MAX, "messages of any size");
    }
}
