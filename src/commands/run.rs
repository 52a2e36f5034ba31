//! `run`: the long-lived consumer, from the pipeline's topic to its sink.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};

use super::{bootstrap, ends, look, prepare, report, stop};
use crate::cli::{Destination, Run};
use crate::config::{self, Commit, Pipeline};
use tidecast_stream::driver::{Allowance, OnChange, Options, Progress, State, drive};
use tidecast_core::forecaster::Setup;
use tidecast_stream::Source;
use tidecast_stream::codec::Codec;
use tidecast_kafka::{Cluster, KafkaSource, Until};
use crate::serve::Watched;
use tidecast_stream::state::{Lineage, Store};

/// A Parquet file is whole only when it is closed, and a file for every tenth of a second helps nobody.
const PARQUET_COMMIT: Commit = Commit { every: Duration::from_secs(60), rows: 1_000_000 };

pub async fn run(arguments: Run, quiet: bool) -> Result<()> {
    let mut stop = pin!(stop::stop("what is written is being committed")?);
    let pipeline = Pipeline::open(&arguments.pipeline)?;
    let setup = prepare::setup(&pipeline)?;
    let config = ends::kafka_source(&pipeline)?;
    let to = ends::destination(&pipeline, arguments.to, Destination::Kafka)?;
    let observer = look::start(&pipeline, &setup, &to).await?;
    let embedded = ends::embedded(&config.brokers, &config.topic)?;
    let cluster = Cluster::new(&config.brokers, embedded.as_ref(), &config.client)?;
    let codec = Codec::new(config.format, &pipeline.columns, pipeline.time_unit, &pipeline.limits);
    let until = if arguments.until_end { Until::End } else { Until::Stopped };
    let source = KafkaSource::open(&cluster, config, codec, until).await?;
    // Before the group is joined: the sink may fail, and the group would wait for this member.
    let (partitions, group) = (source.partitions(), source.group());
    let state = state(&pipeline, &setup, partitions)?;
    if let Some(observer) = &observer {
        observer.ends(source.ends());
        state.iter().for_each(|state| observer.store(state.store.clone()));
    }
    let sink = match to {
        // It waits for brokers that elect their coordinators.
        Destination::Kafka => tokio::select! {
            sink = ends::kafka(&pipeline, embedded.as_ref(), partitions, Some(group)) => sink?,
            () = &mut stop => bail!("stopped before the first row was read"),
        },
        Destination::Parquet => ends::parts(&pipeline, group)?,
        Destination::Path(path) => {
            bail!("cannot run into {}: a path goes into [sink.parquet]", path.display())
        }
        Destination::Stdout => ends::lines(&pipeline, Some(group)),
    };
    let commit = if matches!(sink, ends::AnySink::Parts(_)) { PARQUET_COMMIT } else { config.commit };
    let options = Options {
        setup,
        commit,
        state,
        start: config.start,
        deleted: config.deleted,
        queue_rows: pipeline.limits.queue_rows,
        finish: false,
        rejects: Allowance::of(&pipeline),
    };
    let mut lines = report::Lines::new(quiet);
    let mut source = Watched::new(source, observer.clone());
    let sink = Watched::new(sink, observer.clone());
    let report = |progress: &Progress| {
        lines.tell(progress);
        observer.iter().for_each(|observer| observer.progress(progress));
    };
    let driven = drive(&mut source, sink, options, stop, report).await;
    if driven.is_err() {
        // Else whoever starts it again waits for this member's session to end. That leaving fails, too, is no news.
        let _ = source.close().await;
    }
    lines.end(&driven?.0);
    Ok(())
}

/// Where the pipeline's states are kept, of a topic with so many partitions.
pub fn store(pipeline: &Pipeline, setup: &Setup, partitions: i32) -> Result<Option<Arc<Store>>> {
    let Some(config) = &pipeline.state else { return Ok(None) };
    let keys = pipeline.state_keys().into_iter().map(|(key, value)| (key.to_owned(), value));
    // Two groups over one topic are two lives: they started at different positions.
    let group =
        pipeline.kafka_source.iter().map(|source| ("source.kafka.group".to_owned(), source.group.clone()));
    // Where there are more partitions, ids are in others than before.
    let layout = ("partitions of the topic".to_owned(), partitions.to_string());
    let keys = keys.chain(group).chain([layout]).collect();
    Ok(Some(Arc::new(Store::open(&config.place, Lineage::new(keys, &setup.model.hash))?)))
}

fn state(pipeline: &Pipeline, setup: &Setup, partitions: i32) -> Result<Option<State>> {
    let (Some(config), Some(store)) = (&pipeline.state, store(pipeline, setup, partitions)?) else {
        return Ok(None);
    };
    let on_change = match &config.on_change {
        config::OnChange::Fail => OnChange::Fail,
        config::OnChange::Cold => OnChange::Cold,
        config::OnChange::Replay(_) => OnChange::Replay,
        config::OnChange::Warm(path) => OnChange::Warm {
            history: bootstrap::history(pipeline, path, None),
            partitions,
            turn: Default::default(),
        },
    };
    Ok(Some(State {
        store,
        every: config.every,
        bytes_per_second: config.bytes_per_second,
        age_most: pipeline.limits.snapshot_age,
        on_change,
    }))
}
