//! `backfill`: the past from Parquet, as a live run would have forecast it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};

use super::log::say;
use super::{ends, prepare, report, stop};
use crate::cli::{Backfill, Destination};
use crate::config::{Commit, Deleted, Order, Pipeline, Start};
use tidecast_stream::driver::{Allowance, Options, drive};
use tidecast_tables::{ParquetInput, ParquetOutput, Range};

/// Nothing is read again after a stop, so commits only bound what a sink holds back.
const COMMIT: Commit = Commit { every: Duration::from_secs(1), rows: 1_000_000 };

pub async fn backfill(arguments: Backfill, quiet: bool) -> Result<()> {
    let stop = stop::stop("what is written is being committed")?;
    let pipeline = Pipeline::open(&arguments.pipeline)?;
    let setup = prepare::setup(&pipeline)?;
    let (path, order) = input(&pipeline, arguments.from)?;
    let range =
        Range { since: arguments.since.map(|time| time.0), until: arguments.until.map(|time| time.0) };
    let ids: BTreeSet<String> = arguments.series.into_iter().collect();
    let asked: Vec<String> = ids.iter().map(|id| format!("`{id}`")).collect();
    let ids = (!ids.is_empty()).then_some(ids);
    let Pipeline { columns, time_unit, limits, .. } = &pipeline;
    let mut source = ParquetInput::open(&path, columns, *time_unit, order, range, ids, limits)?;
    let sink = match ends::destination(&pipeline, arguments.to, Destination::Parquet)? {
        Destination::Kafka => ends::kafka(&pipeline, None, ends::PARTITIONS, None).await?,
        Destination::Parquet => match &pipeline.parquet_sink {
            Some(config) => to_file(&pipeline, &source, &config.path)?,
            None => {
                bail!("{}: there is no [sink.parquet]; add one, or say --to PATH", pipeline.file.display())
            }
        },
        Destination::Path(path) => to_file(&pipeline, &source, &path)?,
        Destination::Stdout => ends::lines(&pipeline, None),
    };
    if source.total_rows() == 0 {
        say!("{} has no rows", path.display());
    }
    let bar = report::bar(source.total_rows() as u64, "rows", quiet);
    let options = Options {
        setup,
        commit: COMMIT,
        state: None,
        start: Start::Earliest,
        deleted: Deleted::Fail,
        queue_rows: limits.queue_rows,
        finish: !arguments.leave_open,
        rejects: Allowance::of(&pipeline),
    };
    let lines = report::Lines::new(quiet);
    let driven = drive(&mut source, sink, options, stop, |progress| {
        let reached = progress.reached.map_or(0, |position| position.0.max(0) as u64);
        bar.set_position(reached.max(progress.tally.rows));
    });
    let (progress, _) = driven.await?;
    bar.finish_and_clear();
    lines.end(&progress);
    if progress.stopped {
        bail!("stopped before the input was over; a file that was being written is not put in place");
    }
    if progress.tally.rows == 0 && !asked.is_empty() {
        tracing::warn!(
            "no row of {} is of {}: correct --series, or --since and --until",
            path.display(),
            asked.join(" or ")
        );
    }
    Ok(())
}

/// An output file that is none of the input's.
fn to_file(pipeline: &Pipeline, source: &ParquetInput, path: &Path) -> Result<ends::AnySink> {
    if source.reads(&ParquetOutput::file(path)) {
        bail!("{} is read: forecasts in its place would be the end of it; say another --to", path.display());
    }
    ends::parquet(pipeline, path)
}

fn input(pipeline: &Pipeline, from: Option<PathBuf>) -> Result<(PathBuf, Order)> {
    let order = pipeline.parquet_source.as_ref().map_or(Order::File, |source| source.order);
    match (from, &pipeline.parquet_source) {
        (Some(path), _) => Ok((path, order)),
        (None, Some(source)) => Ok((source.path.clone(), order)),
        (None, None) => {
            bail!("{}: there is no [source.parquet]; add one, or say --from PATH", pipeline.file.display())
        }
    }
}
