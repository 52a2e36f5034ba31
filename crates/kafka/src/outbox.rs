//! What goes out: outputs as messages, side by side in one buffer, until nobody can ask for them again.

use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use rdkafka::message::{Header, OwnedHeaders};

use super::producer::Outgoing;
use crate::config;
use tidecast_stream::codec::RowWriter;
use tidecast_stream::{Output, Partition, Reject};
use tidecast_core::series::Refusal;
use tidecast_core::table::{positions, series};

/// Where outputs go.
///
/// A forecast becomes a message of the series' key, as JSON, with the timestamp of the message that triggered it and a
/// header `source` = `topic/partition/offset` of it.
///
/// So does a row of scores, where there is a topic for them.
///
/// A refused message goes to the rejects, where there is such a topic and its reason is among those chosen: its bytes
/// as they were, and headers `reason`, `detail`, `topic`, `partition`, `offset`, and `replays` where it was sent through
/// again before. The bytes are missing where a candidate was held without them, and where they are too many for one message:
/// then a header `left_out` says so. Who reads the rejects finds them in the source.
#[derive(Debug)]
pub(super) struct Topics {
    pub forecasts: Arc<str>,
    pub scores: Option<Arc<str>>,
    pub rejects: Option<Rejects>,
}

#[derive(Debug)]
pub(super) struct Rejects {
    pub topic: Arc<str>,
    pub partitions: i32,
    pub reasons: Vec<Refusal>,
    /// Bytes that a message may have.
    pub most: usize,
}

/// Bytes that the client sends in one message unless `client` says otherwise, which a broker takes unless told otherwise.
const MESSAGE_BYTES: usize = 1_000_000;
/// Bytes of a reject beside its key, its payload and its detail: what frames a message and a batch of one, and the other
/// headers, of which the name of a topic is the longest (249).
const AROUND: usize = 1_000;

impl Topics {
    /// `reject_bytes` is what the topic of the rejects takes at most, where that is known.
    pub fn new(config: &config::KafkaSink, reject_partitions: i32, reject_bytes: Option<usize>) -> Self {
        let client_bytes = config.client.get("message.max.bytes").and_then(|bytes| bytes.parse().ok());
        let rejects = config.rejects.as_deref().map(|topic| Rejects {
            topic: topic.into(),
            partitions: reject_partitions,
            reasons: config.rejected.clone(),
            most: client_bytes.unwrap_or(MESSAGE_BYTES).min(reject_bytes.unwrap_or(usize::MAX)),
        });
        let scores = config.scores.as_deref().map(Arc::from);
        Self { forecasts: config.topic.as_str().into(), scores, rejects }
    }
}

/// A stretch of the buffer.
type Bytes = std::ops::Range<usize>;

#[derive(Clone, Debug)]
struct Message {
    /// Whose row it came of.
    from: Partition,
    topic: Arc<str>,
    partition: Option<i32>,
    key: Option<Bytes>,
    payload: Option<Bytes>,
    timestamp: Option<i64>,
    offset: i64,
    /// Of a reject: few are.
    reject: Option<Box<Why>>,
}

#[derive(Clone, Debug)]
struct Why {
    reason: Refusal,
    /// What exactly was wrong.
    detail: String,
    /// How often it was sent through again before.
    replays: u8,
    /// What of the message is not in it, and how many bytes that was.
    left_out: Option<(&'static str, usize)>,
}

/// Messages in the order of their outputs.
#[derive(Debug, Default)]
pub(super) struct Outbox {
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

    /// Takes out what came of rows of these partitions. (Their bytes stay until all is cleared.)
    pub fn retain(&mut self, keep: impl Fn(&Partition) -> bool) {
        self.messages.retain(|message| keep(&message.from));
    }

    pub fn add(&mut self, output: &Output, topics: &Topics) -> Result<()> {
        self.add_rows(output, &output.forecasts, "forecast", &topics.forecasts)?;
        if let Some(topic) = &topics.scores {
            self.add_rows(output, &output.scores, "score", topic)?;
        }
        if let Some(rejects) = &topics.rejects {
            let chosen = output.rejects.iter().filter(|reject| rejects.reasons.contains(&reject.reason));
            chosen.for_each(|reject| self.add_reject(output, reject, rejects));
        }
        Ok(())
    }

    fn add_rows(&mut self, output: &Output, rows: &RecordBatch, what: &str, topic: &Arc<str>) -> Result<()> {
        let (offsets, names) = (positions(rows), series(rows));
        let writer = RowWriter::new(rows)?;
        for (row, offset) in offsets.iter().copied().enumerate() {
            let series = names.value(row);
            let key = self.keep(series.as_bytes());
            let start = self.bytes.len();
            writer.write(row, &mut self.bytes).with_context(|| format!("the {what} of series `{series}`"))?;
            self.messages.push(Message {
                from: output.partition.clone(),
                topic: topic.clone(),
                partition: None,
                key: Some(key),
                payload: Some(start..self.bytes.len()),
                timestamp: output.origins.at(offset).and_then(|record| record.timestamp),
                offset,
                reject: None,
            });
        }
        Ok(())
    }

    fn add_reject(&mut self, output: &Output, reject: &Reject, rejects: &Rejects) {
        let record = output.origins.at(reject.offset);
        let key = record.and_then(|record| record.key.as_deref());
        let payload = record.and_then(|record| record.payload.as_deref());
        let bytes = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        let room = rejects.most.saturating_sub(AROUND + reject.detail.len());
        // One that is too large is refused however often it is sent, and the stream would end with it.
        let (key, payload, left_out) = match bytes(key) + bytes(payload) {
            all if all <= room => (key, payload, None),
            _ if bytes(key) <= room => (key, None, Some(("payload", bytes(payload)))),
            all => (None, None, Some(("key and payload", all))),
        };
        let key = key.map(|key| self.keep(key));
        let payload = payload.map(|payload| self.keep(payload));
        self.messages.push(Message {
            from: output.partition.clone(),
            topic: rejects.topic.clone(),
            // Without a key the client would choose at random.
            partition: key.is_none().then_some(output.partition.number % rejects.partitions),
            key,
            payload,
            timestamp: record.and_then(|record| record.timestamp),
            offset: reject.offset,
            reject: Some(Box::new(Why {
                reason: reject.reason,
                detail: reject.detail.clone(),
                replays: record.map_or(0, |record| record.replays),
                left_out,
            })),
        });
    }

    fn keep(&mut self, bytes: &[u8]) -> Bytes {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    /// A message, and its headers.
    pub fn get(&self, index: usize) -> (Outgoing<'_>, OwnedHeaders) {
        let message = &self.messages[index];
        let bytes = |range: &Option<Bytes>| range.clone().map(|range| &self.bytes[range]);
        let outgoing = Outgoing {
            topic: &message.topic,
            partition: message.partition,
            key: bytes(&message.key),
            payload: bytes(&message.payload),
            timestamp: message.timestamp,
        };
        (outgoing, headers(message))
    }
}

fn headers(Message { from, offset, reject, .. }: &Message) -> OwnedHeaders {
    let Some(Why { reason, detail, replays, left_out }) = reject.as_deref() else {
        let source = format!("{from}/{offset}");
        return OwnedHeaders::new_with_capacity(1).insert(Header { key: "source", value: Some(&source) });
    };
    let mut all = vec![
        ("reason", reason.name().to_owned()),
        ("detail", detail.clone()),
        ("topic", from.topic.to_string()),
        ("partition", from.number.to_string()),
        ("offset", offset.to_string()),
    ];
    if *replays > 0 {
        all.push(("replays", replays.to_string()));
    }
    if let Some((what, bytes)) = left_out {
        all.push(("left_out", format!("{what} of {bytes} bytes")));
    }
    let headers = OwnedHeaders::new_with_capacity(all.len());
    all.iter().fold(headers, |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
}
