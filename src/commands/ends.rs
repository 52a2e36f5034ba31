//! The ends a command can choose from, as one type each.

use std::io::{BufWriter, Stdout, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::log::say;
use crate::cli::Destination;
use crate::config::{Brokers, Delivery, KafkaSource, Layout, Pipeline, ScoreSink};
use tidecast_kafka::{Cluster, Embedded, Group, KafkaSink, KafkaTransactions};
use tidecast_stream::ndjson::NdjsonSink;
use tidecast_tables::{ParquetOutput, ParquetParts};
use tidecast_stream::{AtLeastOnce, Output, Partition, Positions, Sink, WithScores};

/// Where forecasts go.
pub enum AnySink {
    Transactions(KafkaTransactions),
    Kafka(AtLeastOnce<KafkaSink>),
    Parquet(Box<WithScores<ParquetOutput>>),
    Parts(AtLeastOnce<WithScores<ParquetParts>>),
    Lines(AtLeastOnce<NdjsonSink<BufWriter<Stdout>>>),
}

impl Sink for AnySink {
    async fn write(&mut self, output: Output) -> Result<()> {
        match self {
            Self::Transactions(sink) => sink.write(output).await,
            Self::Kafka(sink) => sink.write(output).await,
            Self::Parquet(sink) => sink.write(output).await,
            Self::Parts(sink) => sink.write(output).await,
            Self::Lines(sink) => sink.write(output).await,
        }
    }

    async fn commit(&mut self, reached: &Positions) -> Result<Positions> {
        match self {
            Self::Transactions(sink) => sink.commit(reached).await,
            Self::Kafka(sink) => sink.commit(reached).await,
            Self::Parquet(sink) => sink.commit(reached).await,
            Self::Parts(sink) => sink.commit(reached).await,
            Self::Lines(sink) => sink.commit(reached).await,
        }
    }

    async fn forget(&mut self, partitions: &[Partition]) -> Result<()> {
        match self {
            Self::Transactions(sink) => sink.forget(partitions).await,
            Self::Kafka(sink) => sink.forget(partitions).await,
            Self::Parquet(sink) => sink.forget(partitions).await,
            Self::Parts(sink) => sink.forget(partitions).await,
            Self::Lines(sink) => sink.forget(partitions).await,
        }
    }

    async fn finish(&mut self) -> Result<()> {
        match self {
            Self::Transactions(sink) => sink.finish().await,
            Self::Kafka(sink) => sink.finish().await,
            Self::Parquet(sink) => {
                sink.finish().await?;
                if let WithScores { forecasts, scores: Some(scores) } = &**sink {
                    say!(
                        "forecasts are in {}, scores in {}",
                        forecasts.path().display(),
                        scores.path().display()
                    );
                }
                Ok(())
            }
            Self::Parts(sink) => sink.finish().await,
            Self::Lines(sink) => sink.finish().await,
        }
    }
}

/// Says that scores go nowhere, where the pipeline has a place for them and it is not beside these forecasts.
fn miss_scores(pipeline: &Pipeline, to: &str, is_there: impl Fn(&ScoreSink) -> bool) {
    if pipeline.score_sink.as_ref().is_some_and(|sink| !is_there(sink)) {
        tracing::warn!("scores are not written: [sink.scores] says nothing of forecasts that go to {to}");
    }
}

/// Standard output, a line a forecast; a reader may see some again after a crash.
pub fn lines(pipeline: &Pipeline, group: Option<Group>) -> AnySink {
    // Whoever looks at forecasts in passing has asked for no scores.
    if pipeline.score_sink.is_some() {
        tracing::info!("scores are not written: standard output has forecasts alone");
    }
    AnySink::Lines(AtLeastOnce::new(NdjsonSink::new(BufWriter::new(stdout())), group))
}

/// The pipeline's Kafka sink; topics that are missing are made with `partitions` partitions. What comes of a `group` goes
/// out together with its positions, as is declared for its delivery.
pub async fn kafka(
    pipeline: &Pipeline,
    embedded: Option<&Embedded>,
    partitions: i32,
    group: Option<Group>,
) -> Result<AnySink> {
    let Some(config) = &pipeline.kafka_sink else {
        bail!("{}: there is no [sink.kafka] to write to; add one, or say --to -", pipeline.file.display());
    };
    miss_scores(pipeline, "a topic: name its `topic`", |sink| sink.topic.is_some());
    let cluster = Cluster::new(&config.brokers, embedded, &config.client).context("sink.kafka")?;
    if let (Some(group), Delivery::ExactlyOnce, None) = (&group, pipeline.delivery, embedded) {
        let instance = &kafka_source(pipeline)?.instance;
        let sink = KafkaTransactions::open(&cluster, config, partitions, group.clone(), instance);
        return Ok(AnySink::Transactions(sink.await.context("sink.kafka")?));
    }
    Ok(AnySink::Kafka(AtLeastOnce::new(KafkaSink::open(&cluster, config, partitions).await?, group)))
}

/// One Parquet file that is there once the input has ended, and one of its scores where the pipeline has a place for some.
pub fn parquet(pipeline: &Pipeline, path: &Path) -> Result<AnySink> {
    let layout = pipeline.parquet_sink.as_ref().map_or(Layout::default(), |sink| sink.layout);
    let (levels, every) = (&pipeline.forecast.levels, pipeline.rules.grid.every);
    let forecasts = ParquetOutput::create(path, layout, levels, every)?;
    let own = pipeline.parquet_sink.as_ref().is_some_and(|sink| sink.path == path);
    let place = if own {
        score_path(pipeline).map(Path::to_path_buf)
    } else {
        // The pipeline's own place has the scores of its own file: those of other forecasts would take their place.
        pipeline.score_sink.as_ref().map(|_| scores_beside(path, forecasts.path()))
    };
    let scores = place.map(|path| ParquetOutput::create_scores(&path, levels)).transpose()?;
    Ok(AnySink::Parquet(Box::new(WithScores { forecasts, scores })))
}

/// A folder of Parquet files that grows with the stream.
pub fn parts(pipeline: &Pipeline, group: Group) -> Result<AnySink> {
    let Some(config) = &pipeline.parquet_sink else {
        bail!("{}: there is no [sink.parquet] to write to; add one, or say --to -", pipeline.file.display());
    };
    let scores = score_path(pipeline);
    for (key, path) in [("sink.parquet.path", Some(config.path.as_path())), ("sink.scores.path", scores)] {
        if let Some(path) = path.filter(|path| path.extension().is_some_and(|ending| ending == "parquet")) {
            bail!(
                "{}: {key} is {}: a run writes file after file, name a folder",
                pipeline.file.display(),
                path.display()
            );
        }
    }
    let (levels, every) = (&pipeline.forecast.levels, pipeline.rules.grid.every);
    let instance = &kafka_source(pipeline)?.instance;
    let forecasts = ParquetParts::create(config, levels, every, pipeline.delivery, instance)?;
    let scores = scores.map(|path| ParquetParts::create_scores(path, &forecasts)).transpose()?;
    Ok(AnySink::Parts(AtLeastOnce::new(WithScores { forecasts, scores }, Some(group))))
}

/// Where scores go when forecasts go to Parquet.
fn score_path(pipeline: &Pipeline) -> Option<&Path> {
    miss_scores(pipeline, "files: name its `path`", |sink| sink.path.is_some());
    pipeline.score_sink.as_ref().and_then(|sink| sink.path.as_deref())
}

/// Where the scores of a file of forecasts go that was asked for by its `path`.
fn scores_beside(path: &Path, file: &Path) -> PathBuf {
    if file == path { file.with_extension("scores.parquet") } else { file.with_file_name("scores.parquet") }
}

/// What `--to` means where it is not said.
pub fn destination(
    pipeline: &Pipeline,
    said: Option<Destination>,
    first: Destination,
) -> Result<Destination> {
    let (kafka, parquet) = (pipeline.kafka_sink.is_some(), pipeline.parquet_sink.is_some());
    match said {
        Some(destination) => Ok(destination),
        None if kafka && (first == Destination::Kafka || !parquet) => Ok(Destination::Kafka),
        None if parquet => Ok(Destination::Parquet),
        None => bail!(
            "{}: there is neither [sink.kafka] nor [sink.parquet]; add one, or say --to -",
            pipeline.file.display()
        ),
    }
}

/// The pipeline's Kafka source.
pub fn kafka_source(pipeline: &Pipeline) -> Result<&KafkaSource> {
    let source = pipeline.kafka_source.as_ref();
    source.with_context(|| {
        format!("{}: there is no [source.kafka]; add one with brokers and a topic", pipeline.file.display())
    })
}

/// Partitions of a topic that we make ourselves: enough for a few instances to share.
pub const PARTITIONS: i32 = 4;

/// The broker inside this process, where the pipeline asks for it; its address is said aloud.
pub fn embedded(brokers: &Brokers, topic: &str) -> Result<Option<Embedded>> {
    if *brokers != Brokers::Embedded {
        return Ok(None);
    }
    let broker = Embedded::start(topic, PARTITIONS)?;
    say!(
        "broker inside this process: {} (it keeps nothing, and delivers at least once)",
        broker.bootstrap_servers()
    );
    Ok(Some(broker))
}
