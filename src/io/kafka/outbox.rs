//! What goes out: outputs as messages, side by side in one buffer, until nobody can ask for them again.

use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use rdkafka::message::{Header, OwnedHeaders};

use super::producer::Outgoing;
use crate::config;
use crate::io::codec::RowWriter;
use crate::io::{Output, Partition, Reject};
use crate::series::Refusal;
use crate::table::{positions, series};

/// Where outputs go.
///
/// A forecast becomes a message of the series' key, as JSON, with the timestamp of the message that triggered it and a
/// header `source` = `topic/partition/offset` of it.
///
/// So does a row of scores, where there is a topic for them.
///
/// A refused message goes to the rejects, where there is such a topic and its reason is among those chosen: its bytes
/// as they were, and headers `reason`, `detail`, `topic`, `partition`, `offset`, and `replays` where it was sent through
/// again before. The bytes are missing where a candidate came from a history and not from a message.
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
}

impl Topics {
    pub fn new(config: &config::KafkaSink, reject_partitions: i32) -> Self {
        let rejects = config.rejects.as_deref().map(|topic| Rejects {
            topic: topic.into(),
            partitions: reject_partitions,
            reasons: config.rejected.clone(),
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
    /// Of a reject.
    reject: Option<Why>,
}

#[derive(Clone, Debug)]
struct Why {
    reason: Refusal,
    /// What exactly was wrong.
    detail: String,
    /// How often it was sent through again before.
    replays: u8,
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
        let key = record.and_then(|record| record.key.as_deref()).map(|key| self.keep(key));
        let payload = record.and_then(|record| record.payload.as_deref()).map(|payload| self.keep(payload));
        self.messages.push(Message {
            from: output.partition.clone(),
            topic: rejects.topic.clone(),
            // Without a key the client would choose at random.
            partition: key.is_none().then_some(output.partition.number % rejects.partitions),
            key,
            payload,
            timestamp: record.and_then(|record| record.timestamp),
            offset: reject.offset,
            reject: Some(Why {
                reason: reject.reason,
                detail: reject.detail.clone(),
                replays: record.map_or(0, |record| record.replays),
            }),
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
    let mut all = match reject {
        None => vec![("source", format!("{from}/{offset}"))],
        Some(Why { reason, detail, .. }) => vec![
            ("reason", reason.name().to_owned()),
            ("detail", detail.clone()),
            ("topic", from.topic.to_string()),
            ("partition", from.number.to_string()),
            ("offset", offset.to_string()),
        ],
    };
    if let Some(Why { replays: replays @ 1.., .. }) = reject {
        all.push(("replays", replays.to_string()));
    }
    let headers = OwnedHeaders::new_with_capacity(all.len());
    all.iter().fold(headers, |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
}
