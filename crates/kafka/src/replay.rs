//! Observations to a topic, for trying a pipeline out on history. When to send is the caller's decision; this is only
//! how.

use anyhow::{Context, Result};
use arrow::array::{Array, RecordBatch};

use super::producer::{Outgoing, Producer};
use super::{Cluster, ensure_topic};
use tidecast_stream::codec::RowWriter;
use tidecast_core::table::{Columns, Observations};

/// Writes rows as messages that the codec reads back to the same bits, keyed by series.
///
/// The record timestamp is the moment of sending, as for any live producer: the event time is in the message, and
/// history stamped with it would be deleted at once by a topic's retention.
pub struct Replay {
    producer: Producer,
    topic: String,
    columns: Columns,
    value: Vec<u8>,
}

impl Replay {
    /// Creates the topic with `partitions` partitions if it is missing.
    pub async fn open(cluster: &Cluster, topic: &str, columns: Columns, partitions: i32) -> Result<Self> {
        ensure_topic(cluster, topic, partitions).await?;
        Ok(Self { producer: Producer::new(cluster)?, topic: topic.to_string(), columns, value: Vec::new() })
    }

    /// Sends observations (by [`Columns::schema`]) in their order; waits while the queue is full.
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
            let message = Outgoing {
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

    /// Waits until all that was sent has arrived.
    pub async fn flush(&mut self) -> Result<()> {
        self.producer.settle().await
    }
}
