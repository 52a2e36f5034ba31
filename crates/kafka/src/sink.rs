//! Outputs as messages, and the at-least-once sink.
//!
//! - A forecast is a JSON message with the key of its series, the timestamp of the message that triggered it, and a
//!   header `source` = `topic/partition/offset` of that message. A score is the same kind of message in the topic for
//!   scores, if there is one.
//! - A refused message is copied to the rejects topic, if there is one and its reason is selected: the original bytes
//!   with the headers `reason`, `detail`, `topic`, `partition`, `offset`, and `replays` if it was replayed before. The
//!   bytes are missing if a candidate was restored without them, or if they exceed the maximum message size; then a
//!   header `omitted` names them. A reader of the rejects finds them in the source topic.

use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{Array, RecordBatch};
use rdkafka::message::{Header, OwnedHeaders};
use tidecast_core::schema::{Columns, Observations, positions, series};
use tidecast_core::series::Refusal;
use tidecast_stream::codec::RowWriter;
use tidecast_stream::{Output, Partition, Positions, Reject, Sink};

use crate::cluster::message_bytes_max;
use crate::producer::{OutgoingMessage, Producer};
use crate::settings::KafkaSinkConfig;
use crate::{Cluster, ensure_topic};

/// Maximum message size of the client and of brokers by default.
const MESSAGE_BYTES: usize = 1_000_000;
/// Size of a reject without its key, payload and detail: the framing of a batch of one message, and the other headers,
/// of which the topic name is the longest (249).
const REJECT_OVERHEAD_BYTES: usize = 1_000;

/// The topics of a sink.
#[derive(Debug)]
pub(crate) struct SinkTopics {
    forecasts: Arc<str>,
    scores: Option<Arc<str>>,
    rejects: Option<RejectsTopic>,
}

#[derive(Debug)]
struct RejectsTopic {
    name: Arc<str>,
    partitions: i32,
    reasons: Vec<Refusal>,
    /// Maximum size of a message.
    message_bytes: usize,
}

impl SinkTopics {
    /// Creates missing topics with `partitions` partitions, those of the input, so that series are spread alike.
    ///
    /// # Errors
    /// If no broker answers, or a missing topic cannot be created.
    pub async fn ensure(cluster: &Cluster, config: &KafkaSinkConfig, partitions: i32) -> Result<Self> {
        ensure_topic(cluster, &config.topic, partitions).await.context("sink.kafka.topic")?;
        if let Some(topic) = &config.scores_topic {
            ensure_topic(cluster, topic, partitions).await.context("sink.scores.topic")?;
        }
        let rejects = match &config.rejects_topic {
            Some(topic) => {
                let partitions =
                    ensure_topic(cluster, topic, partitions).await.context("sink.kafka.rejects_topic")?;
                let client_bytes =
                    config.client.get("message.max.bytes").and_then(|bytes| bytes.parse().ok());
                let topic_bytes = message_bytes_max(cluster, topic).await;
                Some(RejectsTopic {
                    name: topic.as_str().into(),
                    partitions,
                    reasons: config.reject_reasons.clone(),
                    message_bytes: client_bytes
                        .unwrap_or(MESSAGE_BYTES)
                        .min(topic_bytes.unwrap_or(usize::MAX)),
                })
            }
            None => None,
        };
        let scores = config.scores_topic.as_deref().map(Arc::from);
        Ok(Self { forecasts: config.topic.as_str().into(), scores, rejects })
    }
}

#[derive(Clone, Debug)]
struct Message {
    /// Partition of the row that the message was made from.
    source: Partition,
    offset: i64,
    topic: Arc<str>,
    partition: Option<i32>,
    /// Ranges of the outbox's buffer.
    key: Option<Range<usize>>,
    payload: Option<Range<usize>>,
    timestamp: Option<i64>,
    reject: Option<Box<RejectHeaders>>,
}

#[derive(Clone, Debug)]
struct RejectHeaders {
    reason: Refusal,
    detail: String,
    /// The number of earlier replays of the message.
    replays: u8,
    omitted: Option<String>,
}

/// Messages in the order of their outputs, until their commit is known. Their bytes share one buffer.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    messages: Vec<Message>,
}

impl Outbox {
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.messages.clear();
    }

    /// Removes the messages of all other source partitions. Their bytes stay until [`Outbox::clear`].
    pub fn retain(&mut self, is_retained: impl Fn(&Partition) -> bool) {
        self.messages.retain(|message| is_retained(&message.source));
    }

    pub fn add(&mut self, output: &Output, topics: &SinkTopics) -> Result<()> {
        self.add_rows(output, &output.forecasts, &topics.forecasts).context("encoding a forecast")?;
        if let Some(topic) = &topics.scores {
            self.add_rows(output, &output.scores, topic).context("encoding a score")?;
        }
        if let Some(rejects) = &topics.rejects {
            let selected = output.rejects.iter().filter(|reject| rejects.reasons.contains(&reject.reason));
            selected.for_each(|reject| self.add_reject(output, reject, rejects));
        }
        Ok(())
    }

    fn add_rows(&mut self, output: &Output, rows: &RecordBatch, topic: &Arc<str>) -> Result<()> {
        let (offsets, names) = (positions(rows), series(rows));
        let writer = RowWriter::new(rows)?;
        for (row, offset) in offsets.iter().copied().enumerate() {
            let series = names.value(row);
            let key = self.copy(series.as_bytes());
            let start = self.bytes.len();
            writer.write(row, &mut self.bytes).with_context(|| format!("series `{series}`"))?;
            self.messages.push(Message {
                source: output.partition.clone(),
                offset,
                topic: topic.clone(),
                partition: None,
                key: Some(key),
                payload: Some(start..self.bytes.len()),
                timestamp: output.source.get(offset).and_then(|record| record.timestamp),
                reject: None,
            });
        }
        Ok(())
    }

    fn add_reject(&mut self, output: &Output, reject: &Reject, rejects: &RejectsTopic) {
        let record = output.source.get(reject.offset);
        let key = record.and_then(|record| record.key.as_deref());
        let payload = record.and_then(|record| record.payload.as_deref());
        let (key_bytes, payload_bytes) = (key.map_or(0, <[u8]>::len), payload.map_or(0, <[u8]>::len));
        let room = rejects.message_bytes.saturating_sub(REJECT_OVERHEAD_BYTES + reject.detail.len());
        // A message that is too large is refused with every attempt, which would end the stream.
        let (key, payload, omitted) = if key_bytes + payload_bytes <= room {
            (key, payload, None)
        } else if key_bytes <= room {
            (key, None, Some(format!("payload of {payload_bytes} bytes")))
        } else {
            (None, None, Some(format!("key and payload of {} bytes", key_bytes + payload_bytes)))
        };
        let key = key.map(|key| self.copy(key));
        let payload = payload.map(|payload| self.copy(payload));
        self.messages.push(Message {
            source: output.partition.clone(),
            offset: reject.offset,
            topic: rejects.name.clone(),
            // Without a key the client would choose a random partition.
            partition: key.is_none().then_some(output.partition.number % rejects.partitions),
            key,
            payload,
            timestamp: record.and_then(|record| record.timestamp),
            reject: Some(Box::new(RejectHeaders {
                reason: reject.reason,
                detail: reject.detail.clone(),
                replays: record.map_or(0, |record| record.replays),
                omitted,
            })),
        });
    }

    fn copy(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    pub fn get(&self, index: usize) -> (OutgoingMessage<'_>, OwnedHeaders) {
        let message = &self.messages[index];
        let bytes = |range: &Option<Range<usize>>| range.clone().map(|range| &self.bytes[range]);
        let outgoing = OutgoingMessage {
            topic: &message.topic,
            partition: message.partition,
            key: bytes(&message.key),
            payload: bytes(&message.payload),
            timestamp: message.timestamp,
        };
        (outgoing, headers(message))
    }
}

fn headers(Message { source, offset, reject, .. }: &Message) -> OwnedHeaders {
    let Some(RejectHeaders { reason, detail, replays, omitted }) = reject.as_deref() else {
        let source = format!("{source}/{offset}");
        return OwnedHeaders::new_with_capacity(1).insert(Header { key: "source", value: Some(&source) });
    };
    let mut all = vec![
        ("reason", reason.name().to_owned()),
        ("detail", detail.clone()),
        ("topic", source.topic.to_string()),
        ("partition", source.number.to_string()),
        ("offset", offset.to_string()),
    ];
    if *replays > 0 {
        all.push(("replays", replays.to_string()));
    }
    if let Some(omitted) = omitted {
        all.push(("omitted", omitted.clone()));
    }
    let headers = OwnedHeaders::new_with_capacity(all.len());
    all.iter().fold(headers, |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
}

/// Writes outputs without transactions. A commit returns when the brokers have acknowledged everything; output after
/// the last commit is written again after a restart.
pub struct KafkaSink {
    producer: Producer,
    topics: SinkTopics,
    /// The output that is being written.
    outbox: Outbox,
}

impl KafkaSink {
    /// Creates missing topics with `partitions` partitions.
    ///
    /// # Errors
    /// If no broker answers, or a missing topic cannot be created.
    pub async fn open(cluster: &Cluster, config: &KafkaSinkConfig, partitions: i32) -> Result<Self> {
        let topics = SinkTopics::ensure(cluster, config, partitions).await?;
        Ok(Self { producer: Producer::new(cluster)?, topics, outbox: Outbox::default() })
    }
}

impl Sink for KafkaSink {
    async fn write(&mut self, output: Output) -> Result<()> {
        self.outbox.clear();
        self.outbox.add(&output, &self.topics)?;
        for index in 0..self.outbox.len() {
            let (message, headers) = self.outbox.get(index);
            self.producer.send(message, headers).await?;
        }
        Ok(())
    }

    async fn commit(&mut self, reached: &Positions) -> Result<Positions> {
        self.producer.flush().await?;
        Ok(reached.clone())
    }

    /// Does nothing: the output is sent already, and its next owner writes it again.
    async fn discard(&mut self, _partitions: &[Partition]) -> Result<()> {
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        self.producer.flush().await
    }
}

/// Writes observations as messages that the codec decodes to the same bits, keyed by series. The caller decides when to
/// send.
///
/// The record timestamp is the time of sending, as with a live producer; the event time is in the message. Retention
/// would delete records stamped with their event time at once.
pub struct ObservationWriter {
    producer: Producer,
    topic: String,
    columns: Columns,
    value: Vec<u8>,
}

impl ObservationWriter {
    /// Creates a missing topic with `partitions` partitions.
    pub async fn open(cluster: &Cluster, topic: &str, columns: Columns, partitions: i32) -> Result<Self> {
        ensure_topic(cluster, topic, partitions).await?;
        Ok(Self { producer: Producer::new(cluster)?, topic: topic.to_string(), columns, value: Vec::new() })
    }

    /// Sends observations (by [`Columns::schema`]) in order; waits while the queue is full.
    pub async fn send(&mut self, rows: &RecordBatch) -> Result<()> {
        let observations = Observations::new(rows, &self.columns);
        let writer = RowWriter::new(rows)?;
        for row in 0..observations.len() {
            let series = match observations.series {
                Some(series) if series.is_valid(row) => Some(series.value(row)),
                Some(_) => None,
                None => Some(self.columns.only_series.as_str()),
            };
            self.value.clear();
            let position = observations.positions.value(row);
            writer.write(row, &mut self.value).with_context(|| format!("row {position}"))?;
            let message = OutgoingMessage {
                topic: &self.topic,
                partition: None,
                key: series.map(str::as_bytes),
                payload: Some(&self.value),
                timestamp: None,
            };
            self.producer.send(message, None).await?;
        }
        Ok(())
    }

    /// Waits until everything has arrived.
    pub async fn flush(&mut self) -> Result<()> {
        self.producer.flush().await
    }
}
