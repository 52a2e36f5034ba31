//! `run`: a long-running consumer, from the pipeline's topic to its sink.

use std::time::Duration;

use anyhow::{Result, bail};

use tidecast_core::forecaster::Setup;
use tidecast_kafka::{Cluster, KafkaSource, ReadUntil};
use tidecast_stream::Source;
use tidecast_stream::codec::Codec;
use tidecast_stream::driver::{
    DriverOptions, LineageMismatchPolicy, OnEndOfInput, Progress, StateOptions, drive,
};
use tidecast_stream::settings::{Commit, OnChange};
use tidecast_stream::state::UploadSchedule;

use super::connectors::AnySink;
use super::progress::ProgressLog;
use super::{connectors, dashboard, load};
use crate::cli::{Destination, Run};
use crate::config::Pipeline;
use crate::serve::Instrumented;
use crate::shutdown;

/// The commit interval of Parquet output. With at-least-once delivery every commit ends a file, so commits of a tenth of a
/// second would fill the folder with tiny files. With exactly-once delivery files end at fixed positions, and a shorter
/// interval would have no benefit.
const PARQUET_COMMIT: Commit = Commit { every: Duration::from_secs(60), rows: 1_000_000 };

pub async fn run(arguments: Run, quiet: bool) -> Result<()> {
    let stop = shutdown::on_signal("committing the output")?;
    let pipeline = Pipeline::open(&arguments.pipeline)?;
    let setup = load::setup(&pipeline)?;
    let config = load::kafka_source(&pipeline)?;
    let to = connectors::destination(&pipeline, arguments.to, Destination::Kafka)?;
    let observer = dashboard::start(&pipeline, &setup, &to).await?;
    let embedded = connectors::embedded_broker(&config.brokers, &config.topic)?;
    let cluster = Cluster::new(&config.brokers, embedded.as_ref(), &config.client)?;
    let codec = Codec::new(config.format, &pipeline.columns, pipeline.time_unit, &pipeline.limits);
    let until = if arguments.until_end { ReadUntil::End } else { ReadUntil::Closed };
    let source = KafkaSource::open(&cluster, config, codec, until).await?;
    let (partitions, group) = (source.partitions(), source.group());
    let state = state(&pipeline, &setup, partitions)?;
    if let Some(observer) = &observer {
        observer.set_lag_tracker(source.lag());
        state.iter().for_each(|state| observer.set_store(state.store.clone()));
    }
    // Opened before the source joins the group: if the sink fails, no other member waits for this one.
    let sink = match to {
        // May wait long for the transaction coordinator.
        Destination::Kafka => tokio::select! {
            sink = connectors::kafka_sink(&pipeline, embedded.as_ref(), partitions, Some(group)) => sink?,
            () = stop.cancelled() => bail!("stopped before the first row was read"),
        },
        Destination::Parquet => connectors::rolling_parquet_sink(&pipeline, group)?,
        Destination::Path(path) => bail!("cannot run to {}: set a path in [sink.parquet]", path.display()),
        Destination::Stdout => connectors::stdout_sink(&pipeline, Some(group)),
    };
    let commit = if matches!(sink, AnySink::RollingParquet(_)) { PARQUET_COMMIT } else { config.commit };
    let options = DriverOptions {
        setup,
        commit,
        state,
        start: config.start,
        on_data_loss: config.on_data_loss,
        queue_rows: pipeline.limits.queue_rows,
        on_end_of_input: OnEndOfInput::LeaveOpen,
        reject_limit: load::reject_limit(&pipeline),
    };
    let mut log = ProgressLog::new(quiet);
    let mut source = Instrumented::new(source, observer.clone());
    let sink = Instrumented::new(sink, observer.clone());
    let on_progress = |progress: &Progress| {
        log.update(progress);
        observer.iter().for_each(|observer| observer.on_progress(progress));
    };
    let result = drive(&mut source, sink, options, &stop, on_progress).await;
    if result.is_err() {
        // Leaves the group, so that the others do not wait for this session to time out. The first error is the one to report.
        let _ = source.close().await;
    }
    log.finish(&result?.0);
    Ok(())
}

/// The driver's options for the state, if the pipeline stores it.
fn state(pipeline: &Pipeline, setup: &Setup, partitions: i32) -> Result<Option<StateOptions>> {
    let (Some(config), Some(store)) = (&pipeline.state, load::state_store(pipeline, setup, partitions)?)
    else {
        return Ok(None);
    };
    let on_mismatch = match &config.on_change {
        OnChange::Fail => LineageMismatchPolicy::Fail,
        OnChange::Cold => LineageMismatchPolicy::Cold,
        OnChange::Replay(_) => LineageMismatchPolicy::Replay,
        OnChange::Bootstrap(path) => LineageMismatchPolicy::Bootstrap {
            history: load::bootstrap_history(pipeline, path, None),
            partitions,
            lock: Default::default(),
        },
    };
    Ok(Some(StateOptions {
        store,
        schedule: UploadSchedule { every: config.every, bytes_per_second: config.bytes_per_second },
        snapshot_age_max: pipeline.limits.snapshot_age,
        on_mismatch,
    }))
}
