//! `bootstrap`: a pipeline that goes live knowing its past.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::task::spawn_blocking;

use super::log::say;
use super::{ends, prepare, report, run};
use crate::cli::Bootstrap;
use crate::config::{Order, Pipeline};
use tidecast_stream::driver::{History, Life};
use tidecast_kafka::{Cluster, Founding};
use tidecast_stream::{From, Partition};

pub async fn bootstrap(arguments: Bootstrap, quiet: bool) -> Result<()> {
    let pipeline = Pipeline::open(&arguments.pipeline)?;
    let setup = prepare::setup(&pipeline)?;
    let config = ends::kafka_source(&pipeline)?.clone();
    let cluster = Cluster::new(&config.brokers, None, &config.client)?;
    let at = arguments.at.0;
    let (founding, starts) = spawn_blocking(move || {
        let founding = Founding::open(&cluster, &config)?;
        let starts = founding.starts(at)?;
        if let Some((key, number)) = founding.astray()? {
            tracing::warn!(
                topic = config.topic,
                partition = number,
                "key `{key}` is not where murmur2 places it: what is learned of its series from files is in another partition than                  its rows, which will find it cold; have its producer go by murmur2 (`partitioner=murmur2_random` in librdkafka)"
            );
        }
        Ok::<_, anyhow::Error>((founding, starts))
    })
    .await
    .context("asking kafka for the topic")??;

    let state = run::store(&pipeline, &setup, founding.partitions())?;
    let state = state.with_context(|| {
        format!(
            "{}: there is no [state] to keep what is learned from the history; add one with a store",
            pipeline.file.display()
        )
    })?;
    let history = history(&pipeline, &arguments.from, Some(at));
    let bar = report::bar(0, "rows", quiet);
    let (learning, shown, partitions) = (setup.clone(), bar.clone(), founding.partitions());
    let wanted = starts.clone();
    let learned = spawn_blocking(move || {
        history.push(&learning, partitions, &wanted, |done, total| {
            shown.set_length(total);
            shown.set_position(done);
        })
    });
    let mut learned = learned.await.context("reading the history panicked")??;
    bar.finish_and_clear();

    let topic: Arc<str> = ends::kafka_source(&pipeline)?.topic.as_str().into();
    let mut begun = BTreeMap::new();
    for (number, forecaster) in &mut learned {
        let (partition, start) = (Partition { topic: topic.clone(), number: *number }, starts[number]);
        // What is left of an attempt before this one.
        state.forget(&partition).await?;
        state.save(&partition, start, start, forecaster.snapshot_batches()).await?;
        let note = Life { lineage: state.lineage().to_owned(), start, warm: true }.note();
        begun.insert(*number, From { position: start, resume: start, note });
    }
    spawn_blocking(move || founding.commit(&begun)).await.context("committing where the group begins")??;
    if !quiet {
        for (number, forecaster) in &learned {
            say!(
                "{topic}/{number}: {} series, {} of them warm; begins at {}",
                forecaster.series(),
                forecaster.warm(),
                starts[number]
            );
        }
        say!("go live with: tidecast run {}", arguments.pipeline.display());
    }
    Ok(())
}

/// How the rows of a history are read.
pub fn history(pipeline: &Pipeline, path: &Path, until: Option<i64>) -> History {
    History {
        path: path.to_owned(),
        unit: pipeline.time_unit,
        order: pipeline.parquet_source.as_ref().map_or(Order::File, |source| source.order),
        limits: pipeline.limits.clone(),
        until,
    }
}
