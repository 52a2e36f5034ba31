//! A producer whose every delivery is accounted for: what was handed to it has either arrived, or its failure is
//! reported with the topic and the key. Waits for deliveries, never for a clock.

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

use super::Cluster;
use super::client::Logged;

/// Bounds what waits for the broker: beyond it writing waits. A few seconds of output at full speed.
const SETTINGS: [(&str, &str); 9] = [
    ("acks", "all"),
    ("enable.idempotence", "true"),
    ("partitioner", "murmur2_random"),
    ("compression.type", "zstd"),
    // A coordinator that still ends the last transaction puts the next one off: ask again soon, and ever less often.
    ("retry.backoff.ms", "10"),
    // Numbers as text become little smaller by more effort, which would be most of what a message costs.
    ("compression.level", "1"),
    // Long enough to fill a request under load, short beside the time between commits.
    ("linger.ms", "5"),
    ("queue.buffering.max.messages", "100000"),
    ("queue.buffering.max.kbytes", "65536"),
];

/// The client's name for its connection to who ends transactions.
const COORDINATOR: &str = "TxnCoordinator";

/// A message to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing<'a> {
    pub topic: &'a str,
    /// By the key where not given.
    pub partition: Option<i32>,
    pub key: Option<&'a [u8]>,
    pub payload: Option<&'a [u8]>,
    /// Milliseconds; the moment of sending where not given.
    pub timestamp: Option<i64>,
}

pub(super) struct Producer {
    /// Shared with the calls that block on it: one that hangs keeps it, and destroys it if it ever returns.
    inner: Arc<ThreadedProducer<Deliveries>>,
    sent: u64,
}

impl Producer {
    pub fn new(cluster: &Cluster) -> Result<Self> {
        Self::with(cluster, &[])
    }

    /// A producer with further settings.
    pub fn with(cluster: &Cluster, settings: &[(&str, &str)]) -> Result<Self> {
        let settings = [&SETTINGS, settings].concat();
        Ok(Self { inner: Arc::new(cluster.client(&settings, Deliveries::default())?), sent: 0 })
    }

    /// The client, for calls that block.
    pub fn client(&self) -> Arc<ThreadedProducer<Deliveries>> {
        self.inner.clone()
    }

    /// The first message that did not arrive, if any.
    pub fn failure(&self) -> Option<Failure> {
        self.deliveries().failed.lock().expect("no holder panics").clone()
    }

    /// Forgets what has failed so far: it is sent again.
    pub fn forgive(&self) {
        *self.deliveries().failed.lock().expect("no holder panics") = None;
    }

    /// Whether the connection to who ends transactions has broken: what was asked for then was asked again over a new one, and the
    /// first request may still lie with the broker, to be done later.
    pub fn has_broken(&self) -> bool {
        self.deliveries().broke.load(Ordering::Acquire)
    }

    /// What the client last complained about.
    pub fn last_complaint(&self) -> Option<String> {
        self.deliveries().log.last_failure()
    }

    /// Hands a message over; waits while the queue is full. An earlier message that failed fails this call.
    ///
    /// Not cancel-safe in one respect: a message is sent or not, but a dropped caller does not know which.
    pub async fn send(
        &mut self,
        message: Outgoing<'_>,
        headers: impl Into<Option<OwnedHeaders>>,
    ) -> Result<()> {
        self.deliveries().check()?;
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(message.topic);
        record.partition = message.partition;
        record.key = message.key;
        record.payload = message.payload;
        record.timestamp = message.timestamp;
        record.headers = headers.into();
        loop {
            match self.inner.send(record) {
                Ok(()) => {
                    self.sent += 1;
                    return Ok(());
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.deliveries().changed.notified().await;
                    self.deliveries().check()?;
                }
                Err((error, _)) => {
                    return Err(anyhow!(error.clone())
                        .context(Failure::of(message.topic, message.key, &error).reason));
                }
            }
        }
    }

    /// Waits until everything sent has arrived. Every message arrives or fails within `message.timeout.ms`.
    ///
    /// # Errors
    /// For the first that did not arrive; the producer is of no further use then. Cancel-safe.
    pub async fn settle(&self) -> Result<()> {
        let deliveries = self.deliveries();
        while deliveries.done.load(Ordering::Acquire) < self.sent {
            deliveries.check()?;
            deliveries.changed.notified().await;
        }
        deliveries.check()
    }

    fn deliveries(&self) -> &Deliveries {
        self.inner.client().context()
    }
}

/// What became of the messages; written by the producer's own thread.
#[derive(Default)]
pub(super) struct Deliveries {
    log: Logged,
    /// Messages that arrived or failed.
    done: AtomicU64,
    failed: Mutex<Option<Failure>>,
    /// Wakes the one who waits: there is one writer.
    changed: Notify,
    /// The connection to who ends transactions was said to have broken, or a request there to have had no answer.
    broke: AtomicBool,
}

impl Deliveries {
    fn check(&self) -> Result<()> {
        match &*self.failed.lock().expect("no holder panics") {
            None => Ok(()),
            Some(failure) => Err(anyhow!("{}", failure.reason)),
        }
    }
}

impl ClientContext for Deliveries {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.log.generate_oauth_token(config)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        // Said at once, before anybody is asked again.
        if matches!(facility, "FAIL" | "REQTMOUT") && line.contains(COORDINATOR) {
            self.broke.store(true, Ordering::Release);
        }
        self.log.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let failure = Failure::of(message.topic(), message.key(), error);
            let mut failed = self.failed.lock().expect("no holder panics");
            // One that cannot be mended says more than one that was swept away with it.
            if failed.as_ref().is_none_or(|earlier| failure.is_permanent && !earlier.is_permanent) {
                *failed = Some(failure);
            }
        }
        self.done.fetch_add(1, Ordering::Release);
        self.changed.notify_one();
    }
}

/// Why a message did not arrive.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// Names the topic and the series, and what to do about it.
    pub reason: String,
    /// Sending it again would fail again.
    pub is_permanent: bool,
}

impl Failure {
    pub fn of(topic: &str, key: Option<&[u8]>, error: &KafkaError) -> Self {
        use RDKafkaErrorCode::*;
        let key =
            key.map_or("no key".to_string(), |key| format!("series `{}`", String::from_utf8_lossy(key)));
        let code = error.rdkafka_error_code();
        let remedy = match code {
            Some(MessageSizeTooLarge | InvalidMessageSize) => {
                "; raise the topic's `max.message.bytes` and `message.max.bytes` in `client`"
            }
            Some(UnknownTopicOrPartition | UnknownTopic | UnknownPartition) => {
                "; the topic has gone since the start, create it again"
            }
            Some(TopicAuthorizationFailed | ClusterAuthorizationFailed) => {
                "; this user needs the right to write to the topic"
            }
            Some(InvalidTimestamp) => {
                "; the broker refuses the record's timestamp: see the topic's `message.timestamp.after.max.ms`"
            }
            Some(MessageTimedOut) => "; the broker did not take it within `message.timeout.ms`",
            _ => "",
        };
        let is_permanent = !remedy.is_empty() && code != Some(MessageTimedOut)
            || matches!(code, Some(InvalidRecord | InvalidMessage | PolicyViolation | InvalidTopic));
        let reason = format!("a message to topic `{topic}` ({key}) was not delivered: {error}{remedy}");
        Self { reason, is_permanent }
    }
}
