//! Forecasts and rejects to topics. Delivery is at least once: a commit returns when all is acknowledged by the broker,
//! and what was written after the last commit is written again by whoever goes on from there.

use anyhow::{Context, Result};
use rdkafka::message::{Header, OwnedHeaders};

use super::producer::{Outgoing, Producer};
use super::{Cluster, ensure_topic};
use crate::config;
use crate::io::codec::RowWriter;
use crate::io::{Output, Partition, Positions, Reject, Sink};
use crate::series::Refusal;
use crate::table::Forecasts;

/// A forecast becomes a message of the series' key, as JSON, with the timestamp of the message that triggered it and a
/// header `source` = `topic/partition/offset` of it.
///
/// A refused message goes to the rejects, where there is such a topic and its reason is among those chosen: its bytes
/// as they were, and headers `reason`, `detail`, `topic`, `partition`, `offset`, and `replays` where it was
/// sent through again before. The bytes are missing where the row was
/// held since before a restart; the headers say where they are.
pub struct KafkaSink {
    producer: Producer,
    topic: String,
    rejects: Option<Rejects>,
    /// The value being written.
    value: Vec<u8>,
}

struct Rejects {
    topic: String,
    partitions: i32,
    reasons: Vec<Refusal>,
}

impl KafkaSink {
    /// Creates the topics that are missing, with `partitions` partitions: those of the input, so that series are spread
    /// as they were.
    ///
    /// # Errors
    /// When no broker answers, or a topic is missing and cannot be created.
    pub async fn open(cluster: &Cluster, config: &config::KafkaSink, partitions: i32) -> Result<Self> {
        ensure_topic(cluster, &config.topic, partitions).await.context("sink.kafka.topic")?;
        let rejects = match &config.rejects {
            None => None,
            Some(topic) => Some(Rejects {
                topic: topic.clone(),
                partitions: ensure_topic(cluster, topic, partitions).await.context("sink.kafka.rejects")?,
                reasons: config.rejected.clone(),
            }),
        };
        Ok(Self {
            producer: Producer::new(cluster)?,
            topic: config.topic.clone(),
            rejects,
            value: Vec::new(),
        })
    }

    async fn write_forecasts(&mut self, output: &Output) -> Result<()> {
        let forecasts = Forecasts::new(&output.forecasts);
        let writer = RowWriter::new(&output.forecasts)?;
        for row in 0..forecasts.len() {
            let (offset, series) = (forecasts.positions.value(row), forecasts.series.value(row));
            self.value.clear();
            writer
                .write(row, &mut self.value)
                .with_context(|| format!("the forecast of series `{series}`"))?;
            let source = format!("{}/{offset}", output.partition);
            let headers = OwnedHeaders::new_with_capacity(1).insert(header("source", &source));
            let message = Outgoing {
                topic: &self.topic,
                partition: None,
                key: Some(series.as_bytes()),
                payload: Some(&self.value),
                timestamp: output.origins.at(offset).and_then(|record| record.timestamp),
            };
            self.producer.send(message, headers).await?;
        }
        Ok(())
    }

    async fn write_rejects(&mut self, output: &Output) -> Result<()> {
        let Some(rejects) = &self.rejects else { return Ok(()) };
        for reject in output.rejects.iter().filter(|reject| rejects.reasons.contains(&reject.reason)) {
            let record = output.origins.at(reject.offset);
            let key = record.and_then(|record| record.key.as_deref());
            let message = Outgoing {
                topic: &rejects.topic,
                // Without a key the client would choose at random.
                partition: key.is_none().then_some(output.partition.number % rejects.partitions),
                key,
                payload: record.and_then(|record| record.payload.as_deref()),
                timestamp: record.and_then(|record| record.timestamp),
            };
            let headers =
                reject_headers(&output.partition, reject, record.map_or(0, |record| record.replays));
            self.producer.send(message, headers).await?;
        }
        Ok(())
    }
}

fn reject_headers(partition: &Partition, reject: &Reject, replays: u8) -> OwnedHeaders {
    let headers = OwnedHeaders::new_with_capacity(6)
        .insert(header("reason", reject.reason.name()))
        .insert(header("detail", &reject.detail))
        .insert(header("topic", &partition.topic))
        .insert(header("partition", &partition.number.to_string()))
        .insert(header("offset", &reject.offset.to_string()));
    if replays > 0 { headers.insert(header("replays", &replays.to_string())) } else { headers }
}

fn header<'a>(key: &'a str, value: &'a str) -> Header<'a, &'a str> {
    Header { key, value: Some(value) }
}

impl Sink for KafkaSink {
    async fn write(&mut self, output: &Output) -> Result<()> {
        self.write_forecasts(output).await?;
        self.write_rejects(output).await
    }

    async fn commit(&mut self, _reached: &Positions) -> Result<()> {
        self.producer.settle().await
    }

    async fn finish(&mut self) -> Result<()> {
        self.producer.settle().await
    }
}
