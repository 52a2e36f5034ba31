//! `backfill`: the forecasts that a live run would have made, from Parquet history.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use tidecast_stream::driver::{DriverOptions, OnEndOfInput, drive};
use tidecast_stream::settings::{Commit, OnDataLoss, StartOffset};
use tidecast_tables::{ParquetSink, ParquetSource, RowFilter, TimeRange};

use super::connectors::{self, AnySink};
use super::load;
use super::progress::ProgressLog;
use crate::cli::{Backfill, Destination};
use crate::config::Pipeline;
use crate::dataset;
use crate::terminal::progress_bar;
use crate::{shutdown, user_info};

/// A stopped backfill starts over, so commits only bound the rows that a sink buffers.
const COMMIT: Commit = Commit { every: Duration::from_secs(1), rows: 1_000_000 };

pub async fn backfill(arguments: Backfill, quiet: bool) -> Result<()> {
    let stop = shutdown::on_signal("committing the output")?;
    let pipeline = Pipeline::open(&arguments.pipeline)?;
    let setup = load::setup(&pipeline)?;
    let path = load::input_path(&pipeline, arguments.from, "--from")?;
    let times = TimeRange { since: arguments.since, until: arguments.until };
    let ids: BTreeSet<String> = arguments.series.into_iter().collect();
    let requested: Vec<String> = ids.iter().map(|id| format!("`{id}`")).collect();
    let filter = RowFilter { times, ids: (!ids.is_empty()).then_some(ids) };
    let mut source = dataset::open_parquet(&pipeline, &path, filter)?;
    let sink = match connectors::destination(&pipeline, arguments.to, Destination::Parquet)? {
        Destination::Kafka => {
            connectors::kafka_sink(&pipeline, None, connectors::DEFAULT_PARTITIONS, None).await?
        }
        Destination::Parquet => match &pipeline.parquet_sink {
            Some(config) => file_sink(&pipeline, &source, &config.path)?,
            None => {
                bail!("{}: there is no [sink.parquet]; add one, or use --to PATH", pipeline.file.display())
            }
        },
        Destination::Path(path) => file_sink(&pipeline, &source, &path)?,
        Destination::Stdout => connectors::stdout_sink(&pipeline, None),
    };
    if source.total_rows() == 0 {
        user_info!("{} has no rows", path.display());
    }
    let bar = progress_bar(source.total_rows() as u64, "rows", quiet);
    let on_end_of_input =
        if arguments.leave_open { OnEndOfInput::LeaveOpen } else { OnEndOfInput::CloseSteps };
    let options = DriverOptions {
        setup,
        commit: COMMIT,
        state: None,
        start: StartOffset::Earliest,
        on_data_loss: OnDataLoss::Fail,
        queue_rows: pipeline.limits.queue_rows,
        on_end_of_input,
        reject_limit: load::reject_limit(&pipeline),
    };
    let log = ProgressLog::new(quiet);
    let driven = drive(&mut source, sink, options, &stop, |progress| {
        let position = progress.position.map_or(0, |position| position.0.max(0) as u64);
        bar.set_position(position.max(progress.counters.rows));
    });
    let (progress, _) = driven.await?;
    bar.finish_and_clear();
    log.finish(&progress);
    if progress.stopped {
        bail!("stopped before the end of the input; an unfinished output file is discarded");
    }
    if progress.counters.rows == 0 && !requested.is_empty() {
        let (path, ids) = (path.display(), requested.join(" or "));
        tracing::warn!(
            "{path} has no row of {ids} in the requested time range; check --series, --since and --until"
        );
    }
    Ok(())
}

/// A Parquet file that is not part of the input.
fn file_sink(pipeline: &Pipeline, source: &ParquetSource, path: &Path) -> Result<AnySink> {
    if source.contains_file(&ParquetSink::forecasts_path(path)) {
        bail!("{} is an input and would be overwritten; choose another --to", path.display());
    }
    connectors::parquet_sink(pipeline, path)
}
