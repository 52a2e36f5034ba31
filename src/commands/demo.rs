//! `demo`: the whole line in one process, on real data. An embedded broker, a year of weather sensors replayed into it in
//! accelerated time, the consumer of `run`, and a live table.

mod sample;
mod screen;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use tokio_util::sync::CancellationToken;

use super::replay::send;
use super::{connectors, dashboard, load};
use crate::cli::{Demo, Speed};
use crate::config::Pipeline;
use crate::dataset;
use crate::serve::{Instrumented, Observer};
use crate::shutdown;
use crate::terminal::print;
use tidecast_core::forecaster::Setup;
use tidecast_kafka::{Cluster, EmbeddedBroker, KafkaSource, ObservationWriter, ReadUntil};
use tidecast_stream::codec::Codec;
use tidecast_stream::driver::{DriverOptions, OnEndOfInput, Progress, drive};
use tidecast_tables::RowFilter;

/// Time for the last forecasts to be written after the last row is sent.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

pub async fn demo(arguments: Demo, quiet: bool) -> Result<()> {
    let stop = shutdown::on_signal("the embedded broker stops, too")?;
    let sample = sample::unpack()?;
    let pipeline = &sample.pipeline;
    let setup = load::setup(pipeline)?;
    let config = load::kafka_source(pipeline)?;
    let (observer, page) = dashboard::start_demo(pipeline, &setup, arguments.address).await?;
    let broker = EmbeddedBroker::start(&config.topic, connectors::DEFAULT_PARTITIONS)?;
    let cluster = Cluster::new(&config.brokers, Some(&broker), &config.client)?;
    if !quiet {
        print(&screen::header(pipeline, page, &broker.bootstrap_servers(), arguments.speed))?;
    }
    let dashboard = observer.dashboard().clone();
    let screen = (!quiet).then(|| tokio::spawn(screen::draw(dashboard.clone())));
    let consumer = async {
        let progress = consume(pipeline, setup, &broker, &cluster, observer, &stop).await;
        stop.cancel();
        progress
    };
    let producer = async {
        let sent = tokio::select! {
            sent = feed(pipeline, &cluster, arguments.speed) => sent,
            () = tokio::time::sleep(arguments.duration.unwrap_or(Duration::MAX)) => Ok(()),
            () = stop.cancelled() => Ok(()),
        };
        stop.cancel();
        sent
    };
    let (consumed, sent) = tokio::join!(consumer, producer);
    if let Some(screen) = screen {
        screen.abort();
        // The only error is the cancellation itself.
        let _ = screen.await;
    }
    let progress = consumed?;
    sent?;
    dashboard.refresh();
    print(&screen::summary(&dashboard, &progress))
}

/// Sends the rows of the sample to the broker at their pace, and waits for their forecasts.
async fn feed(pipeline: &Pipeline, cluster: &Cluster, speed: Speed) -> Result<()> {
    let (config, columns) = (load::kafka_source(pipeline)?, &pipeline.columns);
    let history = pipeline.parquet_source.as_ref().context("the sample has no Parquet source")?;
    let input = dataset::open_parquet(pipeline, &history.path, RowFilter::default())?;
    let mut topic =
        ObservationWriter::open(cluster, &config.topic, columns.clone(), connectors::DEFAULT_PARTITIONS)
            .await?;
    send(&input, columns, speed, &mut topic, &ProgressBar::hidden()).await?;
    topic.flush().await?;
    tokio::time::sleep(DRAIN_TIMEOUT).await;
    Ok(())
}

/// Runs the consumer until `stop` is cancelled.
async fn consume(
    pipeline: &Pipeline,
    setup: Arc<Setup>,
    broker: &EmbeddedBroker,
    cluster: &Cluster,
    observer: Observer,
    stop: &CancellationToken,
) -> Result<Progress> {
    let config = load::kafka_source(pipeline)?;
    let codec = Codec::new(config.format, &pipeline.columns, pipeline.time_unit, &pipeline.limits);
    let source = KafkaSource::open(cluster, config, codec, ReadUntil::Closed).await?;
    observer.set_lag_tracker(source.lag());
    let sink =
        connectors::kafka_sink(pipeline, Some(broker), source.partitions(), Some(source.group())).await?;
    let sink = Instrumented::new(sink, Some(observer.clone()));
    let mut source = Instrumented::new(source, Some(observer.clone()));
    let options = DriverOptions {
        setup,
        commit: config.commit,
        state: None,
        start: config.start,
        on_data_loss: config.on_data_loss,
        queue_rows: pipeline.limits.queue_rows,
        on_end_of_input: OnEndOfInput::LeaveOpen,
        reject_limit: None,
    };
    let report = |progress: &Progress| observer.on_progress(progress);
    let (progress, _) = drive(&mut source, sink, options, stop, report).await?;
    Ok(progress)
}
