//! The sinks and the embedded broker of a pipeline.

use std::io::{BufWriter, Stdout, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use tidecast_kafka::settings::Brokers;
use tidecast_kafka::{AtLeastOnce, Cluster, EmbeddedBroker, Group, KafkaSink, TransactionalKafkaSink};
use tidecast_stream::ndjson::NdjsonSink;
use tidecast_stream::settings::Delivery;
use tidecast_stream::{ForecastAndScores, Output, Partition, Positions, Sink};
use tidecast_tables::settings::Layout;
use tidecast_tables::{ParquetSink, RollingParquetSink};

use super::load;
use crate::cli::Destination;
use crate::config::{Pipeline, ScoreSinkConfig};
use crate::user_info;

/// Partitions of a topic that tidecast creates: enough to share among a few instances.
pub const DEFAULT_PARTITIONS: i32 = 4;

pub enum AnySink {
    TransactionalKafka(TransactionalKafkaSink),
    Kafka(AtLeastOnce<KafkaSink>),
    Parquet(Box<ForecastAndScores<ParquetSink>>),
    RollingParquet(AtLeastOnce<ForecastAndScores<RollingParquetSink>>),
    Stdout(AtLeastOnce<NdjsonSink<BufWriter<Stdout>>>),
}

/// Evaluates `$call` for the sink of any kind in `$any`.
macro_rules! for_any_sink {
    ($any:expr, $sink:ident => $call:expr) => {
        match $any {
            AnySink::TransactionalKafka($sink) => $call,
            AnySink::Kafka($sink) => $call,
            AnySink::Parquet($sink) => $call,
            AnySink::RollingParquet($sink) => $call,
            AnySink::Stdout($sink) => $call,
        }
    };
}

impl Sink for AnySink {
    async fn write(&mut self, output: Output) -> Result<()> {
        for_any_sink!(self, sink => sink.write(output).await)
    }

    async fn commit(&mut self, reached: &Positions) -> Result<Positions> {
        for_any_sink!(self, sink => sink.commit(reached).await)
    }

    async fn discard(&mut self, partitions: &[Partition]) -> Result<()> {
        for_any_sink!(self, sink => sink.discard(partitions).await)
    }

    async fn finish(&mut self) -> Result<()> {
        for_any_sink!(self, sink => sink.finish().await)?;
        if let Self::Parquet(sink) = self
            && let ForecastAndScores { forecasts, scores: Some(scores) } = &**sink
        {
            let (forecasts, scores) = (forecasts.path().display(), scores.path().display());
            user_info!("forecasts are in {forecasts}, scores in {scores}");
        }
        Ok(())
    }
}

/// The pipeline's own sink, `preferred` if it has both, unless the command line names a destination.
pub fn destination(
    pipeline: &Pipeline,
    requested: Option<Destination>,
    preferred: Destination,
) -> Result<Destination> {
    let (has_kafka, has_parquet) = (pipeline.kafka_sink.is_some(), pipeline.parquet_sink.is_some());
    match requested {
        Some(destination) => Ok(destination),
        None if has_kafka && (preferred == Destination::Kafka || !has_parquet) => Ok(Destination::Kafka),
        None if has_parquet => Ok(Destination::Parquet),
        None => bail!(
            "{}: there is neither [sink.kafka] nor [sink.parquet]; add one, or use --to -",
            pipeline.file.display()
        ),
    }
}

/// Standard output, one line per forecast.
pub fn stdout_sink(pipeline: &Pipeline, group: Option<Group>) -> AnySink {
    if pipeline.score_sink.is_some() {
        tracing::info!("scores are not written: standard output receives only forecasts");
    }
    AnySink::Stdout(AtLeastOnce::new(NdjsonSink::new(BufWriter::new(stdout())), group))
}

/// The pipeline's Kafka sink. Missing topics are created with `partitions` partitions. With a `group`, its offsets are
/// committed with the output, in transactions unless the pipeline or an embedded broker forbids them.
pub async fn kafka_sink(
    pipeline: &Pipeline,
    embedded: Option<&EmbeddedBroker>,
    partitions: i32,
    group: Option<Group>,
) -> Result<AnySink> {
    let Some(config) = &pipeline.kafka_sink else {
        bail!("{}: there is no [sink.kafka] to write to; add one, or use --to -", pipeline.file.display());
    };
    warn_if_scores_are_dropped(pipeline, "`topic`", "Kafka", |sink| sink.topic.is_some());
    let cluster = Cluster::new(&config.brokers, embedded, &config.client).context("sink.kafka")?;
    if let (Some(group), Delivery::ExactlyOnce, None) = (&group, pipeline.delivery, embedded) {
        let instance = &load::kafka_source(pipeline)?.instance;
        let sink = TransactionalKafkaSink::open(&cluster, config, partitions, group.clone(), instance);
        return Ok(AnySink::TransactionalKafka(sink.await.context("sink.kafka")?));
    }
    Ok(AnySink::Kafka(AtLeastOnce::new(KafkaSink::open(&cluster, config, partitions).await?, group)))
}

/// One Parquet file, and one of the scores if the pipeline has a sink for them. Both appear when the input ends.
pub fn parquet_sink(pipeline: &Pipeline, path: &Path) -> Result<AnySink> {
    let layout = pipeline.parquet_sink.as_ref().map_or(Layout::default(), |sink| sink.layout);
    let (levels, every) = (&pipeline.forecast.levels, pipeline.step_config.grid.every);
    let forecasts = ParquetSink::create(path, layout, levels, every)?;
    let is_own_path = pipeline.parquet_sink.as_ref().is_some_and(|sink| sink.path == path);
    let scores_path = if is_own_path {
        score_path(pipeline).map(Path::to_path_buf)
    } else {
        // [sink.scores] belongs to the pipeline's own forecasts, whose scores must not be replaced.
        pipeline.score_sink.as_ref().map(|_| sibling_for_scores(path, forecasts.path()))
    };
    let scores = scores_path.map(|path| ParquetSink::create_scores(&path, levels)).transpose()?;
    Ok(AnySink::Parquet(Box::new(ForecastAndScores { forecasts, scores })))
}

/// The path of the scores for forecasts that `--to` sent to `path`, which is `file` or its folder.
fn sibling_for_scores(path: &Path, file: &Path) -> PathBuf {
    if file == path { file.with_extension("scores.parquet") } else { file.with_file_name("scores.parquet") }
}

/// A folder to which `run` adds Parquet files, and one for the scores if the pipeline has a sink for them.
pub fn rolling_parquet_sink(pipeline: &Pipeline, group: Group) -> Result<AnySink> {
    let Some(config) = &pipeline.parquet_sink else {
        bail!("{}: there is no [sink.parquet] to write to; add one, or use --to -", pipeline.file.display());
    };
    let scores = score_path(pipeline);
    for (key, path) in [("sink.parquet.path", Some(config.path.as_path())), ("sink.scores.path", scores)] {
        if let Some(path) = path.filter(|path| path.extension().is_some_and(|ending| ending == "parquet")) {
            bail!(
                "{}: {key} is the file {}, but `run` writes many files; set a folder",
                pipeline.file.display(),
                path.display()
            );
        }
    }
    let (levels, every) = (&pipeline.forecast.levels, pipeline.step_config.grid.every);
    let instance = &load::kafka_source(pipeline)?.instance;
    let forecasts = RollingParquetSink::create(config, levels, every, pipeline.delivery, instance)?;
    let scores = scores.map(|path| RollingParquetSink::create_scores(path, &forecasts)).transpose()?;
    Ok(AnySink::RollingParquet(AtLeastOnce::new(ForecastAndScores { forecasts, scores }, Some(group))))
}

/// The path of the scores of forecasts that go to the pipeline's Parquet sink.
fn score_path(pipeline: &Pipeline) -> Option<&Path> {
    warn_if_scores_are_dropped(pipeline, "`path`", "Parquet", |sink| sink.path.is_some());
    pipeline.score_sink.as_ref().and_then(|sink| sink.path.as_deref())
}

/// Warns if [sink.scores] has no destination in the connector of the forecasts.
fn warn_if_scores_are_dropped(
    pipeline: &Pipeline,
    key: &str,
    connector: &str,
    has_destination: impl Fn(&ScoreSinkConfig) -> bool,
) {
    if pipeline.score_sink.as_ref().is_some_and(|sink| !has_destination(sink)) {
        tracing::warn!(
            "scores are not written: [sink.scores] needs {key} when the forecasts go to {connector}"
        );
    }
}

/// Starts the embedded broker and prints its address, if the pipeline uses one.
pub fn embedded_broker(brokers: &Brokers, topic: &str) -> Result<Option<EmbeddedBroker>> {
    if *brokers != Brokers::Embedded {
        return Ok(None);
    }
    let broker = EmbeddedBroker::start(topic, DEFAULT_PARTITIONS)?;
    user_info!("embedded broker: {} (stores nothing, delivers at least once)", broker.bootstrap_servers());
    Ok(Some(broker))
}
