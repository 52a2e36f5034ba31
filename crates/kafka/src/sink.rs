//! Forecasts and rejects to topics, without transactions: a commit returns when all is acknowledged by the broker, and what
//! was written after the last commit is written again by whoever goes on from there.

use anyhow::{Context, Result};

use super::admin::message_bytes;
use super::outbox::{Outbox, Topics};
use super::producer::Producer;
use super::{Cluster, ensure_topic};
use crate::config;
use tidecast_stream::{Output, Partition, Positions, Sink};

pub struct KafkaSink {
    producer: Producer,
    topics: Topics,
    /// What is being written.
    outbox: Outbox,
}

impl KafkaSink {
    /// Creates the topics that are missing, with `partitions` partitions: those of the input, so that series are spread
    /// as they were.
    ///
    /// # Errors
    /// When no broker answers, or a topic is missing and cannot be created.
    pub async fn open(cluster: &Cluster, config: &config::KafkaSink, partitions: i32) -> Result<Self> {
        let topics = ensure_topics(cluster, config, partitions).await?;
        Ok(Self { producer: Producer::new(cluster)?, topics, outbox: Outbox::default() })
    }
}

/// The topics of a sink, made where they are missing.
pub(super) async fn ensure_topics(
    cluster: &Cluster,
    config: &config::KafkaSink,
    partitions: i32,
) -> Result<Topics> {
    ensure_topic(cluster, &config.topic, partitions).await.context("sink.kafka.topic")?;
    if let Some(topic) = &config.scores {
        ensure_topic(cluster, topic, partitions).await.context("sink.scores.topic")?;
    }
    let (rejects, reject_bytes) = match &config.rejects {
        Some(topic) => {
            let partitions = ensure_topic(cluster, topic, partitions).await.context("sink.kafka.rejects")?;
            (partitions, message_bytes(cluster, topic).await)
        }
        None => (partitions, None),
    };
    Ok(Topics::new(config, rejects, reject_bytes))
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
        self.producer.settle().await?;
        Ok(reached.clone())
    }

    /// Nothing: it is on its way. Its next owner writes it once more.
    async fn forget(&mut self, _partitions: &[Partition]) -> Result<()> {
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        self.producer.settle().await
    }
}
