//! `replay`: Parquet into the pipeline's source topic, at the pace at which it once came or faster.

use std::time::Duration;

use anyhow::Result;
use arrow::array::RecordBatch;
use indicatif::ProgressBar;
use tokio::time::Instant;

use super::log::say;
use super::{ends, report, stop};
use crate::cli::{self, Speed};
use crate::config::{Order, Pipeline};
use tidecast_kafka::{Cluster, Replay};
use tidecast_tables::{ParquetInput, Range};
use tidecast_core::table::{Columns, Observations};

/// Rows due within this time of each other are sent together: nobody sees the difference, and waking up costs.
const TOGETHER: Duration = Duration::from_millis(10);

pub async fn replay(arguments: cli::Replay, quiet: bool) -> Result<()> {
    let stop = stop::stop("what was sent is being delivered")?;
    let pipeline = Pipeline::open(&arguments.pipeline)?;
    let config = ends::kafka_source(&pipeline)?;
    let cluster = Cluster::new(&config.brokers, None, &config.client)?;
    let Pipeline { columns, time_unit, limits, .. } = &pipeline;
    let order = pipeline.parquet_source.as_ref().map_or(Order::File, |source| source.order);
    let input =
        ParquetInput::open(&arguments.from, columns, *time_unit, order, Range::default(), None, limits)?;
    let mut topic = Replay::open(&cluster, &config.topic, columns.clone(), ends::PARTITIONS).await?;
    let bar = report::bar(input.total_rows() as u64, "rows", quiet);
    let mut pace = Pace::new(arguments.speed);
    let sent = tokio::select! {
        sent = send(&input, columns, &mut pace, &mut topic, &bar) => sent,
        () = stop => Ok(()),
    };
    sent?;
    topic.flush().await?;
    bar.finish_and_clear();
    if !quiet {
        say!(
            "{} of {} rows sent to {} at {}",
            bar.position(),
            input.total_rows(),
            config.topic,
            cluster.bootstrap_servers()
        );
    }
    Ok(())
}

async fn send(
    input: &ParquetInput,
    columns: &Columns,
    pace: &mut Pace,
    topic: &mut Replay,
    bar: &ProgressBar,
) -> Result<()> {
    for batch in input.batches() {
        let mut rows = batch?.rows;
        while rows.num_rows() > 0 {
            let due = pace.wait(&rows, columns).await;
            topic.send(&rows.slice(0, due)).await?;
            bar.inc(due as u64);
            rows = rows.slice(due, rows.num_rows() - due);
        }
    }
    Ok(())
}

/// When a row is due: as long after the first one as it came then, divided by the speed.
pub struct Pace {
    speed: Speed,
    /// When the first row was sent, and its time.
    first: Option<(Instant, i64)>,
}

impl Pace {
    pub fn new(speed: Speed) -> Self {
        Self { speed, first: None }
    }

    /// Waits until the first of the rows is due; returns how many are due by then, at least one.
    pub async fn wait(&mut self, rows: &RecordBatch, columns: &Columns) -> usize {
        let Speed::Times(times) = self.speed else { return rows.num_rows() };
        let stamps = Observations::new(rows, columns).times;
        let (start, first) = *self.first.get_or_insert_with(|| (Instant::now(), stamps.value(0)));
        let due = |i: usize| {
            // A row from before the first one is due at once.
            let after = stamps.value(i).saturating_sub(first).max(0) as f64 / 1e6 / times;
            // Beyond a century nobody waits; the clock must not overflow.
            start + Duration::from_secs_f64(after.min(3.2e9))
        };
        tokio::time::sleep_until(due(0)).await;
        let now = Instant::now() + TOGETHER;
        (1..rows.num_rows()).find(|i| due(*i) > now).unwrap_or(rows.num_rows())
    }
}
