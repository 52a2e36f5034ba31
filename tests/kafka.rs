//! The Kafka source and sinks against a broker: groups, restarts, retention and other hazards. Tests that need more
//! than the embedded broker are skipped without a real one.

mod group;
mod sinks;
mod source;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use anyhow::Result;
use tidecast_core::schema::{Columns, Observations};
use tidecast_core::time::TimeUnit;
use tidecast_kafka::settings::{Brokers, ClientProperties, KafkaSourceConfig};
use tidecast_kafka::{Cluster, KafkaSource, ReadUntil};
use tidecast_stream::codec::Codec;
use tidecast_stream::settings::{Commit, Limits, MessageFormat, OnDataLoss, StartOffset};
use tidecast_stream::{Partition, Position, Positions, Source, SourceEvent, StartPosition};

use crate::broker;

fn columns() -> Columns {
    Columns {
        series: Some("id".into()),
        only_series: "all".into(),
        time: "t".into(),
        targets: vec!["v".into()],
        covariates: Vec::new(),
        future_covariates: Vec::new(),
    }
}

fn codec() -> Codec {
    let limits = Limits { series: 1000, message_bytes: 10_000, id_bytes: 100, ..Limits::default() };
    Codec::new(MessageFormat::Json, &columns(), TimeUnit::Seconds, &limits)
}

/// A source of `topic` with a group of its own.
fn source_config(topic: &str) -> KafkaSourceConfig {
    KafkaSourceConfig {
        brokers: Brokers::Addresses(broker::any()),
        topic: topic.to_string(),
        group: broker::unique("group"),
        format: MessageFormat::Json,
        start: StartOffset::Earliest,
        on_data_loss: OnDataLoss::Fail,
        allow_compacted: false,
        instance: "one".into(),
        static_membership: false,
        replay_window: None,
        queue_rows: 50_000,
        track_lag: false,
        // Members learn of each other with a heartbeat, and the embedded broker takes a session timeout per rebalance.
        client: properties([("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "300")]),
        commit: Commit { every: Duration::from_millis(100), rows: 1000 },
    }
}

fn properties<const N: usize>(properties: [(&str, &str); N]) -> ClientProperties {
    BTreeMap::from(properties.map(|(name, value)| (name.to_string(), value.to_string()))).into()
}

/// Writes a valid message for each value to a partition.
fn produce_values(topic: &str, partition: i32, values: Range<i32>) {
    let payloads: Vec<String> =
        values.map(|v| format!(r#"{{"id":"p{partition}","t":{v},"v":{v}}}"#)).collect();
    broker::produce(topic, Some(partition), payloads.iter().map(|payload| ("key", payload.as_str())));
}

/// Fails a test that waits forever.
async fn within_a_minute<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("done within a minute")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ReadRow {
    partition: i32,
    offset: i64,
    value: i32,
}

/// A minimal driver: starts at the committed positions, collects the rows, commits on demand or when partitions are
/// revoked.
struct Reader {
    source: KafkaSource,
    /// In order of arrival.
    rows: Vec<ReadRow>,
    reached: Positions,
    owned: Vec<i32>,
    has_ended: bool,
}

impl Reader {
    async fn open(config: &KafkaSourceConfig, until: ReadUntil) -> Result<Self> {
        let cluster = Cluster::new(&config.brokers, None, &config.client)?;
        let source = KafkaSource::open(&cluster, config, codec(), until).await?;
        Ok(Self { source, rows: Vec::new(), reached: Positions::new(), owned: Vec::new(), has_ended: false })
    }

    async fn step(&mut self) -> Result<()> {
        let event = self.source.next().await?;
        self.handle(event).await
    }

    async fn handle(&mut self, event: SourceEvent) -> Result<()> {
        match event {
            SourceEvent::Assigned { assignment, reply } => {
                self.owned.push(assignment.partition.number);
                let position =
                    assignment.committed.map_or(assignment.default_start, |committed| committed.position);
                let metadata = "metadata".into();
                reply.send(StartPosition { position, replay_until: position, metadata }).unwrap();
            }
            SourceEvent::ReadingStarted { .. } => {}
            SourceEvent::Batch(batch) => {
                let columns = columns();
                let rows = Observations::new(&batch.rows, &columns);
                for row in 0..rows.len() {
                    self.rows.push(ReadRow {
                        partition: batch.partition.number,
                        offset: rows.positions.value(row),
                        value: rows.targets[0].value(row) as i32,
                    });
                }
                self.reached.insert(batch.partition, batch.next);
            }
            SourceEvent::Revoked { partitions, done } => {
                self.commit().await?;
                self.owned.retain(|number| !partitions.iter().any(|revoked| revoked.number == *number));
                self.reached.retain(|partition, _| !partitions.contains(partition));
                // The receiver is gone if the partitions were lost, or after the timeout.
                let _ = done.send(());
            }
            SourceEvent::EndOfInput => self.has_ended = true,
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<()> {
        self.source.group().commit(&self.reached).await.map(drop)
    }

    async fn read_to_end(&mut self) -> Result<()> {
        while !self.has_ended {
            self.step().await?;
        }
        Ok(())
    }

    async fn read_rows(&mut self, count: usize) -> Result<()> {
        while self.rows.len() < count {
            self.step().await?;
        }
        Ok(())
    }

    /// The values of a partition in order of arrival.
    fn values(&self, partition: i32) -> Vec<i32> {
        self.rows.iter().filter(|row| row.partition == partition).map(|row| row.value).collect()
    }
}

fn positions(topic: &str, partition: i32, position: i64) -> Positions {
    Positions::from([(Partition { topic: topic.into(), number: partition }, Position(position))])
}
