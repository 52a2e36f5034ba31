//! `replay`: Parquet observations into the pipeline's source topic, at their original pace or faster.

use std::time::Duration;

use anyhow::Result;
use arrow::array::RecordBatch;
use indicatif::ProgressBar;
use tokio::time::Instant;

use tidecast_core::schema::{Columns, Observations};
use tidecast_kafka::{Cluster, ObservationWriter};
use tidecast_tables::{ParquetSource, RowFilter};

use super::{connectors, load};
use crate::cli::{self, Speed};
use crate::config::Pipeline;
use crate::dataset;
use crate::terminal::progress_bar;
use crate::{shutdown, user_info};

/// Rows due within this time are sent together, which saves wake-ups.
const SEND_AHEAD: Duration = Duration::from_millis(10);

pub async fn replay(arguments: cli::Replay, quiet: bool) -> Result<()> {
    let stop = shutdown::on_signal("delivering the sent rows")?;
    let pipeline = Pipeline::open(&arguments.pipeline)?;
    let config = load::kafka_source(&pipeline)?;
    let cluster = Cluster::new(&config.brokers, None, &config.client)?;
    let columns = &pipeline.columns;
    let input = dataset::open_parquet(&pipeline, &arguments.from, RowFilter::default())?;
    let mut writer =
        ObservationWriter::open(&cluster, &config.topic, columns.clone(), connectors::DEFAULT_PARTITIONS)
            .await?;
    let bar = progress_bar(input.total_rows() as u64, "rows", quiet);
    tokio::select! {
        sent = send(&input, columns, arguments.speed, &mut writer, &bar) => sent?,
        () = stop.cancelled() => {}
    }
    writer.flush().await?;
    bar.finish_and_clear();
    if !quiet {
        user_info!(
            "{} of {} rows sent to {} at {}",
            bar.position(),
            input.total_rows(),
            config.topic,
            cluster.bootstrap_servers()
        );
    }
    Ok(())
}

/// Sends the rows at their pace.
pub async fn send(
    input: &ParquetSource,
    columns: &Columns,
    speed: Speed,
    writer: &mut ObservationWriter,
    bar: &ProgressBar,
) -> Result<()> {
    let mut pacer = Pacer { speed, first: None };
    for batch in input.batches() {
        let mut rows = batch?.rows;
        while rows.num_rows() > 0 {
            let due = pacer.wait(&rows, columns).await;
            writer.send(&rows.slice(0, due)).await?;
            bar.inc(due as u64);
            rows = rows.slice(due, rows.num_rows() - due);
        }
    }
    Ok(())
}

/// Delays rows by their distance in event time from the first one, divided by the speed.
struct Pacer {
    speed: Speed,
    first: Option<FirstRow>,
}

#[derive(Clone, Copy)]
struct FirstRow {
    sent_at: Instant,
    time: i64,
}

impl Pacer {
    /// Waits until the first of the rows is due; returns how many are due then, at least one.
    async fn wait(&mut self, rows: &RecordBatch, columns: &Columns) -> usize {
        let Speed::Factor(factor) = self.speed else { return rows.num_rows() };
        let times = Observations::new(rows, columns).times;
        let first =
            *self.first.get_or_insert_with(|| FirstRow { sent_at: Instant::now(), time: times.value(0) });
        let due = |i: usize| {
            // A row older than the first one is due at once.
            let seconds = times.value(i).saturating_sub(first.time).max(0) as f64 / 1e6 / factor;
            // A century: larger delays would overflow the clock.
            first.sent_at + Duration::from_secs_f64(seconds.min(3.2e9))
        };
        tokio::time::sleep_until(due(0)).await;
        let send_until = Instant::now() + SEND_AHEAD;
        (1..rows.num_rows()).find(|i| due(*i) > send_until).unwrap_or(rows.num_rows())
    }
}
