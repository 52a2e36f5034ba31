//! `bootstrap`: the state of a new pipeline from files, so that `run` starts warm.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::task::spawn_blocking;

use tidecast_kafka::{Cluster, GroupInitializer, MispartitionedKey};
use tidecast_stream::driver::CommitMetadata;
use tidecast_stream::{Partition, StartPosition};

use super::load;
use crate::cli::Bootstrap;
use crate::config::Pipeline;
use crate::terminal::progress_bar;
use crate::user_info;

pub async fn bootstrap(arguments: Bootstrap, quiet: bool) -> Result<()> {
    let pipeline = Pipeline::open(&arguments.pipeline)?;
    let setup = load::setup(&pipeline)?;
    let config = load::kafka_source(&pipeline)?.clone();
    let cluster = Cluster::new(&config.brokers, None, &config.client)?;
    let topic: Arc<str> = config.topic.as_str().into();
    let at = arguments.at;
    let (initializer, starts) = spawn_blocking(move || {
        let initializer = GroupInitializer::open(&cluster, &config)?;
        let starts = initializer.positions_at(at)?;
        if let Some(MispartitionedKey { key, partition }) = initializer.find_mispartitioned_key()? {
            tracing::warn!(
                topic = config.topic,
                partition,
                "key `{key}` is not in the partition that murmur2 gives it, so `run` will not find the bootstrapped state of \
                 its series; configure the producer to use murmur2 (`partitioner=murmur2_random` in librdkafka)"
            );
        }
        Ok::<_, anyhow::Error>((initializer, starts))
    })
    .await
    .context("cannot read the offsets of the topic")??;

    let store = load::state_store(&pipeline, &setup, initializer.partitions())?.with_context(|| {
        format!(
            "{}: there is no [state] to store the bootstrapped state in; add one",
            pipeline.file.display()
        )
    })?;
    let history = load::bootstrap_history(&pipeline, &arguments.from, Some(at));
    let bar = progress_bar(0, "rows", quiet);
    let (shared_bar, partitions, start_positions) = (bar.clone(), initializer.partitions(), starts.clone());
    let replay = spawn_blocking(move || {
        history.build_states(&setup, partitions, &start_positions, |rows, total| {
            shared_bar.set_length(total);
            shared_bar.set_position(rows);
        })
    });
    let mut forecasters = replay.await.context("reading the history panicked")??;
    bar.finish_and_clear();

    let mut commits = BTreeMap::new();
    for (number, forecaster) in &mut forecasters {
        let (partition, start) = (Partition { topic: topic.clone(), number: *number }, starts[number]);
        // Snapshots of an earlier, interrupted bootstrap.
        store.remove_all(&partition).await?;
        store.save(&partition, start, start, forecaster.snapshot_batches()).await?;
        let lineage = store.lineage_hash().to_owned();
        let metadata = CommitMetadata { lineage, start, bootstrapped: true }.format();
        commits.insert(*number, StartPosition { position: start, replay_until: start, metadata });
    }
    spawn_blocking(move || initializer.commit(&commits))
        .await
        .context("cannot commit the start offsets")??;
    if !quiet {
        for (number, forecaster) in &forecasters {
            user_info!(
                "{topic}/{number}: {} series, {} of them warm; starts at {}",
                forecaster.series_count(),
                forecaster.warm_series_count(),
                starts[number]
            );
        }
        user_info!("start it with: tidecast run {}", arguments.pipeline.display());
    }
    Ok(())
}
