//! The Kafka source and sink against a broker: what a group, a restart, retention and the other hazards of a real one do
//! to the rows. Those that a broker inside the process cannot show are skipped without a real one.

mod ends;
mod group;
mod outputs;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use tidecast::config::{self, Brokers, Commit, Deleted, Format, Limits, Start, TimeUnit};
use tidecast_stream::codec::Codec;
use tidecast_kafka::{Cluster, KafkaSource, Until};
use tidecast_stream::{Assigned, Event, From, Partition, Position, Positions, Source};
use tidecast_core::table::{Columns, Observations};

use crate::broker;

fn columns() -> Columns {
    Columns {
        series: Some("id".into()),
        only_series: "all".into(),
        time: "t".into(),
        targets: vec!["v".into()],
        covariates: Vec::new(),
        known_ahead: Vec::new(),
    }
}

fn codec() -> Codec {
    let limits = Limits { series: 1000, message_bytes: 10_000, id_bytes: 100, ..Limits::default() };
    Codec::new(Format::Json, &columns(), TimeUnit::Seconds, &limits)
}

/// A source of `topic`, for a group of its own.
fn reading(topic: &str) -> config::KafkaSource {
    config::KafkaSource {
        brokers: Brokers::At(broker::any()),
        topic: topic.to_string(),
        group: broker::unique("group"),
        format: Format::Json,
        start: Start::Earliest,
        deleted: Deleted::Fail,
        compacted: false,
        instance: "one".into(),
        static_member: false,
        rewind: None,
        queue_rows: 50_000,
        ends: false,
        // Members hear of each other with their heartbeats; and the broker inside the process takes as long as a session
        // for every change of a group.
        client: client([("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "300")]),
        commit: Commit { every: Duration::from_millis(100), rows: 1000 },
    }
}

fn client<const N: usize>(properties: [(&str, &str); N]) -> BTreeMap<String, String> {
    properties.map(|(name, value)| (name.to_string(), value.to_string())).into()
}

/// Writes one good message for each of `values` to a partition.
fn produce_values(topic: &str, partition: i32, values: std::ops::Range<i32>) {
    let payloads: Vec<String> =
        values.map(|v| format!(r#"{{"id":"p{partition}","t":{v},"v":{v}}}"#)).collect();
    broker::produce(topic, Some(partition), payloads.iter().map(|payload| ("key", payload.as_str())));
}

/// Fails a test that waits for what never comes.
async fn within_a_minute<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("done within a minute")
}

/// A driver in small: starts where the group stands, keeps the values it gets, commits when asked or when revoked.
struct Reader {
    source: KafkaSource,
    /// (partition, offset, value) in the order they came.
    rows: Vec<(i32, i64, i32)>,
    reached: Positions,
    owned: Vec<i32>,
    has_ended: bool,
}

impl Reader {
    async fn open(config: &config::KafkaSource, until: Until) -> Result<Self> {
        let cluster = Cluster::new(&config.brokers, None, &config.client)?;
        let source = KafkaSource::open(&cluster, config, codec(), until).await?;
        Ok(Self { source, rows: Vec::new(), reached: Positions::new(), owned: Vec::new(), has_ended: false })
    }

    async fn step(&mut self) -> Result<()> {
        let event = self.source.next().await?;
        self.handle(event).await
    }

    async fn handle(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Assigned(Assigned { partition, committed, fallback, start, .. }) => {
                self.owned.push(partition.number);
                let position = committed.map_or(fallback, |committed| committed.position);
                start.send(From { position, resume: position, note: "a note".into() }).unwrap();
            }
            Event::Reading { .. } => {}
            Event::Rows(batch) => {
                let columns = columns();
                let rows = Observations::new(&batch.rows, &columns);
                for row in 0..rows.len() {
                    let value = rows.targets[0].value(row) as i32;
                    self.rows.push((batch.partition.number, rows.positions.value(row), value));
                }
                self.reached.insert(batch.partition, batch.next);
            }
            Event::Revoked { partitions, done } => {
                self.commit().await?;
                self.owned.retain(|number| !partitions.iter().any(|gone| gone.number == *number));
                self.reached.retain(|partition, _| !partitions.contains(partition));
                // Nobody waits where the partitions were lost, or it took too long.
                let _ = done.send(());
            }
            Event::End => self.has_ended = true,
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

    /// The values of a partition, in the order they came.
    fn values(&self, partition: i32) -> Vec<i32> {
        self.rows.iter().filter(|row| row.0 == partition).map(|row| row.2).collect()
    }
}

fn at(topic: &str, number: i32, position: i64) -> Positions {
    Positions::from([(Partition { topic: topic.into(), number }, Position(position))])
}
