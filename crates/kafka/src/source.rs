//! The Kafka source as the driver sees it: a handle to the consumer thread (`poll`). An unbounded channel carries
//! events, with a bound on the rows in it; another channel carries commands.

use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rdkafka::consumer::BaseConsumer;
use tidecast_stream::codec::Codec;
use tidecast_stream::{Source, SourceEvent};
use tokio::sync::{mpsc, oneshot};

use crate::Cluster;
use crate::assignment::Assignments;
use crate::cluster::is_compacted;
use crate::group::{ConsumerCallbacks, ConsumerCommand, Group};
use crate::lag::{LagTracker, STATISTICS_INTERVAL_MS};
use crate::poll::{Channels, PollLoop, QueueCounter, QueueSize, ReadUntil};
use crate::settings::KafkaSourceConfig;

/// Leaving takes a round trip, and one more for a commit in progress. Otherwise the coordinator is gone, and it will
/// drop the member by itself.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// A member of a consumer group, which reads committed records.
///
/// A partition is read after its `Assigned` event is answered and until its `Revoked` event. Its rows arrive in the
/// order of their offsets, without repetition.
pub struct KafkaSource {
    partitions: i32,
    group: Group,
    events: mpsc::UnboundedReceiver<Result<SourceEvent>>,
    commands: blocking::Sender<ConsumerCommand>,
    queue: Arc<QueueCounter>,
    lag: LagTracker,
    has_joined: bool,
    left: Option<oneshot::Receiver<()>>,
}

impl KafkaSource {
    /// Creates the member. It joins the group with the first call of [`Source::next`].
    ///
    /// # Errors
    /// Within ten seconds, if no broker answers, or the topic does not exist or is compacted.
    pub async fn open(
        cluster: &Cluster,
        config: &KafkaSourceConfig,
        codec: Codec,
        until: ReadUntil,
    ) -> Result<Self> {
        let (metadata, topic) = (cluster.clone(), config.topic.clone());
        let partitions = tokio::task::spawn_blocking(move || metadata.require_topic(&topic))
            .await
            .context("reading the topic's metadata")??;
        if !config.allow_compacted && is_compacted(cluster, &config.topic).await == Some(true) {
            bail!(
                "topic `{}` is compacted: rows that shaped a state may be missing when they are replayed, which changes its \
                 forecasts; set `allow_compacted = true` in [source.kafka] to accept that",
                config.topic
            );
        }
        let (event_sender, events) = mpsc::unbounded_channel();
        let (commands, command_receiver) = blocking::channel();
        let (left_sender, left) = oneshot::channel();
        let (queue, lag) = (Arc::new(QueueCounter::default()), LagTracker::default());
        let callbacks = ConsumerCallbacks::new(&config.topic, lag.clone());
        let consumer: Arc<BaseConsumer<ConsumerCallbacks>> =
            Arc::new(cluster.create_client(&client_settings(cluster, config), callbacks)?);
        let group = Group {
            name: config.group.clone(),
            topic: config.topic.as_str().into(),
            consumer: Arc::downgrade(&consumer),
            owned: Arc::default(),
            commands: commands.clone(),
        };
        let assignment =
            Assignments::new(consumer, group.clone(), config, partitions, event_sender.clone(), lag.clone());
        let channels = Channels { events: event_sender, commands: command_receiver, queue: queue.clone() };
        let poll_loop = PollLoop::new(assignment, config, codec, until, channels);
        std::thread::Builder::new().name("kafka-source".into()).spawn(move || {
            poll_loop.run();
            // The receiver is gone if the source was dropped.
            let _ = left_sender.send(());
        })?;
        Ok(Self { partitions, group, events, commands, queue, lag, has_joined: false, left: Some(left) })
    }

    /// The group, for the sink that commits its positions.
    pub fn group(&self) -> Group {
        self.group.clone()
    }

    /// The lag of the owned partitions, updated if the configuration asks for it.
    pub fn lag(&self) -> LagTracker {
        self.lag.clone()
    }

    /// The partition count of the topic at the start.
    pub fn partitions(&self) -> i32 {
        self.partitions
    }
}

fn client_settings<'a>(cluster: &Cluster, config: &'a KafkaSourceConfig) -> Vec<(&'a str, &'a str)> {
    let mut settings = vec![
        ("group.id", config.group.as_str()),
        // Positions are committed when the output of their rows is durable.
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("isolation.level", "read_committed"),
        // A missing position is an error, never a silent jump.
        ("auto.offset.reset", "error"),
        ("enable.partition.eof", "true"),
        // Fetched ahead: 16 MiB keep the thread busy, more would only cost memory.
        ("queued.max.messages.kbytes", "16384"),
    ];
    // Every rebalance on the embedded broker takes a whole session timeout, and its members are in this process.
    if cluster.embedded().is_some() {
        settings.extend([("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "1000")]);
    }
    if config.track_lag {
        settings.push(("statistics.interval.ms", STATISTICS_INTERVAL_MS));
    }
    if config.static_membership {
        settings.push(("group.instance.id", config.instance.as_str()));
    }
    // With KIP-848 the broker assigns incrementally, and librdkafka rejects the property.
    if cluster.property("group.protocol") != Some("consumer") {
        settings.push(("partition.assignment.strategy", "cooperative-sticky"));
    }
    settings
}

impl Source for KafkaSource {
    async fn next(&mut self) -> Result<SourceEvent> {
        if !self.has_joined {
            self.has_joined = true;
            // A thread that has stopped reports the reason in its last event.
            let _ = self.commands.send(ConsumerCommand::Join);
        }
        match self.events.recv().await {
            Some(Ok(event)) => {
                if let SourceEvent::Batch(batch) = &event {
                    self.queue.remove(QueueSize::new(&batch.source.records));
                }
                Ok(event)
            }
            Some(Err(error)) => Err(error),
            None => bail!("the kafka source is closed"),
        }
    }

    async fn close(&mut self) -> Result<()> {
        let Some(left) = self.left.take() else { return Ok(()) };
        // A thread that has stopped has left the group already.
        let _ = self.commands.send(ConsumerCommand::Close);
        match tokio::time::timeout(CLOSE_TIMEOUT, left).await {
            Ok(_) => Ok(()),
            Err(_) => bail!("the consumer could not leave its group within {} s", CLOSE_TIMEOUT.as_secs()),
        }
    }
}

impl Drop for KafkaSource {
    /// The thread leaves the group.
    fn drop(&mut self) {
        let _ = self.commands.send(ConsumerCommand::Close);
    }
}
