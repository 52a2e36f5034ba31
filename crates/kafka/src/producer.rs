//! A producer that accounts for every delivery: each message has either arrived, or its failure is reported with the
//! topic and the key.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Result, anyhow};
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Message};
use tokio::sync::Notify;

use crate::Cluster;
use crate::errors::{ClientLog, is_coordinator_failure};

const SETTINGS: [(&str, &str); 9] = [
    ("acks", "all"),
    ("enable.idempotence", "true"),
    ("partitioner", "murmur2_random"),
    ("compression.type", "zstd"),
    // A coordinator that is still ending the last transaction defers the next one: retry soon, then less often.
    ("retry.backoff.ms", "10"),
    // Numbers as text hardly shrink with more effort, which would be most of the cost of a message.
    ("compression.level", "1"),
    // Long enough to fill a request under load, and short compared to the commit interval.
    ("linger.ms", "5"),
    // The bound on unacknowledged messages, a few seconds of output at full speed. Beyond it, writing waits.
    ("queue.buffering.max.messages", "100000"),
    ("queue.buffering.max.kbytes", "65536"),
];

#[derive(Clone, Copy, Debug)]
pub(crate) struct OutgoingMessage<'a> {
    pub topic: &'a str,
    /// `None` partitions by the key.
    pub partition: Option<i32>,
    pub key: Option<&'a [u8]>,
    pub payload: Option<&'a [u8]>,
    /// Milliseconds since the epoch; `None` is the time of sending.
    pub timestamp: Option<i64>,
}

pub(crate) struct Producer {
    /// Shared with blocking calls: a call that hangs keeps the client, and destroys it if it ever returns.
    client: Arc<ThreadedProducer<DeliveryTracker>>,
    sent: u64,
}

impl Producer {
    pub fn new(cluster: &Cluster) -> Result<Self> {
        Self::with_settings(cluster, &[])
    }

    pub fn with_settings(cluster: &Cluster, settings: &[(&str, &str)]) -> Result<Self> {
        let settings = [&SETTINGS, settings].concat();
        Ok(Self { client: Arc::new(cluster.create_client(&settings, DeliveryTracker::default())?), sent: 0 })
    }

    /// The client, for blocking calls.
    pub fn client(&self) -> Arc<ThreadedProducer<DeliveryTracker>> {
        self.client.clone()
    }

    /// The first failed delivery, or a permanent one if there is any.
    pub fn failure(&self) -> Option<DeliveryFailure> {
        self.tracker().failure.lock().expect("no holder panics").clone()
    }

    /// Forgets the failure, because its message is sent again.
    pub fn clear_failure(&self) {
        *self.tracker().failure.lock().expect("no holder panics") = None;
    }

    /// True if the connection to the transaction coordinator ever broke. The client has repeated its last request over
    /// a new connection, and the broker may still execute the first one later.
    pub fn has_lost_coordinator(&self) -> bool {
        self.tracker().has_lost_coordinator.load(Ordering::Acquire)
    }

    pub fn last_client_failure(&self) -> Option<String> {
        self.tracker().log.last_failure()
    }

    /// Queues a message; waits while the queue is full. Fails if an earlier message has failed.
    ///
    /// If the caller is cancelled, the message may or may not be sent.
    pub async fn send(
        &mut self,
        message: OutgoingMessage<'_>,
        headers: impl Into<Option<OwnedHeaders>>,
    ) -> Result<()> {
        self.tracker().check()?;
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(message.topic);
        record.partition = message.partition;
        record.key = message.key;
        record.payload = message.payload;
        record.timestamp = message.timestamp;
        record.headers = headers.into();
        loop {
            match self.client.send(record) {
                Ok(()) => {
                    self.sent += 1;
                    return Ok(());
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), unsent)) => {
                    record = unsent;
                    self.tracker().changed.notified().await;
                    self.tracker().check()?;
                }
                Err((error, _)) => {
                    let failure = DeliveryFailure::new(message.topic, message.key, &error);
                    return Err(anyhow!(error).context(failure.reason));
                }
            }
        }
    }

    /// Waits until every message has arrived. Each one arrives or fails within `message.timeout.ms`. Cancel-safe.
    ///
    /// # Errors
    /// If a message has failed. The producer cannot be used any more.
    pub async fn flush(&self) -> Result<()> {
        let tracker = self.tracker();
        while tracker.completed.load(Ordering::Acquire) < self.sent {
            tracker.check()?;
            tracker.changed.notified().await;
        }
        tracker.check()
    }

    fn tracker(&self) -> &DeliveryTracker {
        self.client.client().context()
    }
}

/// Counts deliveries. The client's own thread writes it.
#[derive(Default)]
pub(crate) struct DeliveryTracker {
    log: ClientLog,
    /// Number of messages that arrived or failed.
    completed: AtomicU64,
    failure: Mutex<Option<DeliveryFailure>>,
    /// Wakes the only writer.
    changed: Notify,
    has_lost_coordinator: AtomicBool,
}

impl DeliveryTracker {
    fn check(&self) -> Result<()> {
        match &*self.failure.lock().expect("no holder panics") {
            None => Ok(()),
            Some(failure) => Err(anyhow!("{}", failure.reason)),
        }
    }
}

impl ClientContext for DeliveryTracker {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.log.generate_oauth_token(config)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        if is_coordinator_failure(facility, line) {
            self.has_lost_coordinator.store(true, Ordering::Release);
        }
        self.log.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(error, reason);
    }
}

impl ProducerContext for DeliveryTracker {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let failure = DeliveryFailure::new(message.topic(), message.key(), error);
            let mut first = self.failure.lock().expect("no holder panics");
            // A permanent failure explains more than the ones that it caused.
            if first.as_ref().is_none_or(|first| failure.is_permanent && !first.is_permanent) {
                *first = Some(failure);
            }
        }
        self.completed.fetch_add(1, Ordering::Release);
        self.changed.notify_one();
    }
}

/// A message that did not arrive.
#[derive(Clone, Debug)]
pub(crate) struct DeliveryFailure {
    /// The topic, the series and some advice.
    pub reason: String,
    /// Another attempt would fail again.
    pub is_permanent: bool,
}

impl DeliveryFailure {
    pub fn new(topic: &str, key: Option<&[u8]>, error: &KafkaError) -> Self {
        use RDKafkaErrorCode::*;
        let key =
            key.map_or("no key".to_string(), |key| format!("series `{}`", String::from_utf8_lossy(key)));
        let code = error.rdkafka_error_code();
        let advice = match code {
            Some(MessageSizeTooLarge | InvalidMessageSize) => {
                "; raise the topic's `max.message.bytes` and `message.max.bytes` in `client`"
            }
            Some(UnknownTopicOrPartition | UnknownTopic | UnknownPartition) => {
                "; the topic was deleted after the start, create it again"
            }
            Some(TopicAuthorizationFailed | ClusterAuthorizationFailed) => {
                "; grant this user WRITE on the topic"
            }
            Some(InvalidTimestamp) => {
                "; the broker rejects the record's timestamp: check the topic's `message.timestamp.after.max.ms`"
            }
            Some(MessageTimedOut) => "; the broker did not accept it within `message.timeout.ms`",
            _ => "",
        };
        let is_permanent = !advice.is_empty() && code != Some(MessageTimedOut)
            || matches!(code, Some(InvalidRecord | InvalidMessage | PolicyViolation | InvalidTopic));
        let reason = format!("a message to topic `{topic}` ({key}) was not delivered: {error}{advice}");
        Self { reason, is_permanent }
    }
}
