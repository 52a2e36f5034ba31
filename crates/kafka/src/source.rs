//! The Kafka source as the driver sees it. Behind it is one thread that owns the consumer, polls, decodes, and answers
//! the group's coordinator (`poll`); between them are an unbounded channel of events, whose rows are counted against a
//! bound, and a channel of commands.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc as blocking;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use rdkafka::consumer::BaseConsumer;
use tokio::sync::{mpsc, oneshot};

use super::Cluster;
use super::admin::is_compacted;
use super::ends::{self, Ends as PartitionEnds};
use super::group::Group;
use super::poll::{Ends, Poller};
use super::rebalance::Member;
use crate::config;
use tidecast_stream::codec::Codec;
use tidecast_stream::{Event, Positions, Source};

/// How far to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Until the source is closed; there is always more to come.
    Stopped,
    /// To the offsets that were each partition's end when it was assigned. [`Event::End`] comes once all partitions of
    /// this member are there; a member that gets none is there at once.
    End,
}

/// Leaving takes a round trip, and one more for a commit on its way. Longer means that the coordinator is gone, and it
/// will then drop the member by itself.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// A member of a consumer group.
///
/// Delivery is as the contract of [`Source`] has it: nothing of a partition before its `Assigned` is answered, its rows
/// ascending by offset without repetition, nothing of it after its `Revoked`. Only committed transactions are read.
pub struct KafkaSource {
    partitions: i32,
    group: Group,
    events: mpsc::UnboundedReceiver<Result<Event>>,
    commands: blocking::Sender<Command>,
    queue: Arc<Queue>,
    ends: PartitionEnds,
    has_joined: bool,
    left: Option<oneshot::Receiver<()>>,
}

/// What the driver asks of the thread.
pub(super) enum Command {
    Join,
    Commit { reached: Positions, done: oneshot::Sender<Result<Positions>> },
    Close,
}

impl KafkaSource {
    /// Makes a member that joins the group with the first event it is asked for. Partitions come as events.
    ///
    /// # Errors
    /// Within ten seconds, when no broker answers or the topic does not exist.
    pub async fn open(
        cluster: &Cluster,
        config: &config::KafkaSource,
        codec: Codec,
        until: Until,
    ) -> Result<Self> {
        let (asked, topic) = (cluster.clone(), config.topic.clone());
        let partitions = tokio::task::spawn_blocking(move || asked.require(&topic))
            .await
            .context("asking kafka for the topic")??;

        if !config.compacted && is_compacted(cluster, &config.topic).await == Some(true) {
            bail!(
                "topic `{}` is compacted: rows that a state was made of may be gone when they are read again, so that its \
                 forecasts are not what they were; set `compacted = true` in [source.kafka] to take that as it is",
                config.topic
            );
        }
        let (event_sender, events) = mpsc::unbounded_channel();
        let (commands, command_receiver) = blocking::channel();
        let (left_sender, left) = oneshot::channel();
        let queue = Arc::new(Queue::default());
        let ends = PartitionEnds::default();
        let (member, reach) = (Member::new(&config.topic, ends.clone()), ends.clone());
        let consumer: Arc<BaseConsumer<Member>> =
            Arc::new(cluster.client(&settings(cluster, config), member)?);
        let group = Group {
            name: config.group.clone(),
            topic: config.topic.as_str().into(),
            consumer: Arc::downgrade(&consumer),
            owned: Arc::default(),
            commands: commands.clone(),
            rewind: config.rewind,
        };
        let channels = Ends { events: event_sender, commands: command_receiver, queue: queue.clone() };
        let poller =
            Poller::new(consumer, group.clone(), config, partitions, (codec, until), channels, reach);
        std::thread::Builder::new().name("kafka-source".into()).spawn(move || {
            poller.run();
            // Nobody waits any more where the source was dropped.
            let _ = left_sender.send(());
        })?;
        Ok(Self { partitions, group, events, commands, queue, ends, has_joined: false, left: Some(left) })
    }

    /// The group, for those who commit its positions.
    pub fn group(&self) -> Group {
        self.group.clone()
    }

    /// How far the partitions reach, where the configuration asks for it.
    pub fn ends(&self) -> PartitionEnds {
        self.ends.clone()
    }

    /// The partition count of the topic, as it was at the start.
    pub fn partitions(&self) -> i32 {
        self.partitions
    }
}

fn settings<'a>(cluster: &Cluster, config: &'a config::KafkaSource) -> Vec<(&'a str, &'a str)> {
    let mut settings = vec![
        ("group.id", config.group.as_str()),
        // Positions are committed when what came of the rows is durable, never by themselves.
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("isolation.level", "read_committed"),
        // Where to start is our decision; a position that is gone is an error, never a silent jump.
        ("auto.offset.reset", "error"),
        ("enable.partition.eof", "true"),
        // Read ahead by 16 MiB at most: beyond what keeps the thread busy, more is only memory.
        ("queued.max.messages.kbytes", "16384"),
    ];
    // The embedded broker takes as long as a session for every change of a group; nobody is far away there.
    if cluster.embedded().is_some() {
        settings.extend([("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "1000")]);
    }
    if config.ends {
        settings.push(("statistics.interval.ms", ends::EVERY_MS));
    }
    if config.static_member {
        settings.push(("group.instance.id", config.instance.as_str()));
    }
    // With KIP-848 the broker assigns, incrementally anyway, and librdkafka refuses the property.
    if cluster.property("group.protocol") != Some("consumer") {
        settings.push(("partition.assignment.strategy", "cooperative-sticky"));
    }
    settings
}

impl Source for KafkaSource {
    async fn next(&mut self) -> Result<Event> {
        if !self.has_joined {
            self.has_joined = true;
            // A thread that has stopped says why with its last event.
            let _ = self.commands.send(Command::Join);
        }
        match self.events.recv().await {
            Some(Ok(event)) => {
                if let Event::Rows(batch) = &event {
                    self.queue.remove(Load::of(&batch.origins.records));
                }
                Ok(event)
            }
            Some(Err(error)) => Err(error),
            None => bail!("the kafka source has stopped"),
        }
    }

    async fn close(&mut self) -> Result<()> {
        let Some(left) = self.left.take() else { return Ok(()) };
        // A thread that has stopped by itself has left already.
        let _ = self.commands.send(Command::Close);
        match tokio::time::timeout(CLOSE_TIMEOUT, left).await {
            Ok(_) => Ok(()),
            Err(_) => bail!("the consumer could not leave its group within {} s", CLOSE_TIMEOUT.as_secs()),
        }
    }
}

impl Drop for KafkaSource {
    /// The thread leaves the group by itself.
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Close);
    }
}

/// Messages and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub messages: usize,
    pub bytes: usize,
}

impl Load {
    pub fn of(records: &[tidecast_stream::Record]) -> Self {
        let size = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
        let bytes = records.iter().map(|record| size(&record.payload) + size(&record.key)).sum();
        Self { messages: records.len(), bytes }
    }

    /// Decoded rows take about as much again; a process with its models should fit a small container.
    const MOST_BYTES: usize = 64 << 20;

    pub fn is_full(self, most: usize) -> bool {
        self.messages >= most || self.bytes >= Self::MOST_BYTES
    }

    /// Low enough that going on is worth it: a pause costs what was read ahead.
    pub fn is_half_empty(self, most: usize) -> bool {
        self.messages < most.div_ceil(2) && self.bytes < Self::MOST_BYTES / 2
    }
}

/// What has been read and not yet taken by the driver.
#[derive(Debug, Default)]
pub(super) struct Queue {
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

impl Queue {
    pub fn add(&self, load: Load) {
        self.messages.fetch_add(load.messages, Ordering::Relaxed);
        self.bytes.fetch_add(load.bytes, Ordering::Relaxed);
    }

    pub fn remove(&self, load: Load) {
        self.messages.fetch_sub(load.messages, Ordering::Relaxed);
        self.bytes.fetch_sub(load.bytes, Ordering::Relaxed);
    }

    pub fn load(&self) -> Load {
        Load { messages: self.messages.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}
