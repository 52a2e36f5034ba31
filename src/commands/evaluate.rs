//! `evaluate`: the forecasts of a history scored against its actuals, next to baselines.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use arrow::array::RecordBatch;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use tidecast_core::forecaster::Setup;
use tidecast_core::intervals::{CalibrationLayout, CalibrationMode};
use tidecast_core::model::DataSummary;
use tidecast_stream::driver::{DriverOptions, OnEndOfInput, Progress, drive};
use tidecast_stream::settings::{Commit, OnDataLoss, StartOffset};
use tidecast_stream::{Output, Partition, Positions, Sink};
use tidecast_tables::{RowFilter, TimeRange};
use tidecast_train::evaluate::{
    BaselineOptions, Baselines, EvaluationSplit, EvaluationTask, IntervalReport, RunInfo, Scorer, TimeFilter,
    report,
};

use super::{files, load, train};
use crate::cli::Evaluate;
use crate::config::Pipeline;
use crate::dataset::{self, Dataset};
use crate::report::{evaluation_page, evaluation_text};
use crate::shutdown;
use crate::terminal::{json_line, print, progress_bar};

/// Nothing is written, so no commit is due before the end.
const COMMIT: Commit = Commit { every: Duration::from_secs(3600), rows: usize::MAX };

pub async fn evaluate(arguments: Evaluate, quiet: bool) -> Result<()> {
    let stop = shutdown::on_signal("finishing the current step")?;
    let mut pipeline = Pipeline::open(&arguments.pipeline)?;
    if let Some(model) = &arguments.model {
        pipeline.forecast.model.clone_from(model);
    }
    let setup = load::setup(&pipeline)?;
    // Future covariates are read up to the horizon of the model.
    pipeline.train.horizon = setup.model.manifest.horizon;
    let path = load::input_path(&pipeline, arguments.data.clone(), "--data")?;
    if let Some(html) = &arguments.html {
        let inputs: [&Path; 3] = [&path, &arguments.pipeline, &pipeline.forecast.model];
        files::check_not_overwritten(&inputs, &[html], "--html")?;
    }
    let dataset = train::read_history(&pipeline, &path, quiet)?;
    check_stop(&stop)?;
    check_ids(&arguments.series, &dataset.history.ids, &path)?;
    let ids: BTreeSet<String> = arguments.series.iter().cloned().collect();
    let backtest =
        Backtest { pipeline: &pipeline, path: &path, ids: (!ids.is_empty()).then_some(ids), stop, quiet };
    score(&arguments, &dataset, &setup, &backtest).await
}

/// Fits the baselines, scores all forecasts, and prints the report.
async fn score(
    arguments: &Evaluate,
    dataset: &Dataset,
    setup: &Arc<Setup>,
    backtest: &Backtest<'_>,
) -> Result<()> {
    let (pipeline, history, manifest) = (backtest.pipeline, &dataset.history, &setup.model.manifest);
    let (grid, horizon) = (pipeline.step_config.grid, manifest.horizon);
    let times = TimeFilter { since: arguments.since, until: arguments.until };
    let fractions = pipeline.train.split_fractions();
    let split = EvaluationSplit::new(history, &manifest.data, grid, horizon, fractions, times)?;
    let channels = history.channels();
    let bar = progress_bar(0, "", backtest.quiet);
    bar.set_message("fitting the baselines");
    let options =
        BaselineOptions { every: grid.every, lookback: manifest.lookback, horizon, levels: &setup.levels };
    let baselines = Baselines::fit(history, &channels, &split, options);
    bar.finish_and_clear();
    check_stop(&backtest.stop)?;

    let task = EvaluationTask {
        history,
        channels: &channels,
        baselines: &baselines,
        split: &split,
        grid,
        targets: &pipeline.columns.targets,
        horizon,
        levels: &setup.levels,
        keep_examples: arguments.html.is_some(),
    };
    let horizons = setup.scoring.as_ref().map(|scoring| scoring.horizons.clone());
    let horizons = horizons.unwrap_or_else(|| CalibrationLayout::default_horizons(horizon));
    let (mut scorer, mut intervals) = (Scorer::new(task), IntervalReport::new(task, horizons));
    let on_forecasts = |forecasts: &RecordBatch| {
        scorer.add(forecasts);
        intervals.add_calibrated(forecasts);
    };
    backtest.run(setup.clone(), "rows forecast", on_forecasts).await?;
    if !setup.levels.is_empty() {
        // A second pass with uncalibrated intervals: the reference calibrators start from these.
        let uncalibrated = Setup { calibration: CalibrationMode::Fixed, scoring: None, ..(**setup).clone() };
        let on_forecasts = |forecasts: &RecordBatch| intervals.add_uncorrected(forecasts);
        backtest.run(Arc::new(uncalibrated), "rows forecast without calibration", on_forecasts).await?;
    }

    let scored = scorer.finish();
    let info = run_info(pipeline, setup, &baselines, &dataset.summary);
    let report = report(&task, &scored, intervals.finish(), info);
    ensure!(
        !report.series.is_empty(),
        "no forecast could be scored between {} and {}: a series forecasts after its warm-up, and its horizon needs an \
         actual; give more history, or change --since or --until",
        report.split.scored_from,
        report.split.scored_until
    );
    if let Some(path) = &arguments.html {
        files::write_atomically(path, evaluation_page::page(&report, &scored, grid).as_bytes())?;
    }
    let text = if arguments.json { json_line(&report)? } else { evaluation_text::text(&report) };
    print(&text)
}

fn check_stop(stop: &CancellationToken) -> Result<()> {
    ensure!(!stop.is_cancelled(), STOPPED);
    Ok(())
}

const STOPPED: &str = "stopped before the whole history was scored; no partial result is printed";

/// Checks that the requested ids exist, and suggests the nearest one.
fn check_ids(requested: &[String], ids: &[String], path: &Path) -> Result<()> {
    let Some(missing) = requested.iter().find(|id| !ids.contains(id)) else { return Ok(()) };
    // An id without a closed step has an empty name.
    let named = ids.iter().filter(|id| !id.is_empty());
    let similarity = |id: &&String| strsim::jaro_winkler(id, missing);
    let nearest = named.clone().max_by(|a, b| similarity(a).total_cmp(&similarity(b)).then(b.cmp(a)));
    let hint = match nearest {
        Some(nearest) => format!("the most similar of {} ids is `{nearest}`", named.count()),
        None => "no series has one; check [columns] and [grid]".to_owned(),
    };
    bail!("{} has no series `{missing}` with a closed step; {hint}", path.display())
}

/// A run of the pipeline over a history, which hands out the forecasts.
struct Backtest<'a> {
    pipeline: &'a Pipeline,
    path: &'a Path,
    /// The ids to read; `None` is all.
    ids: Option<BTreeSet<String>>,
    stop: CancellationToken,
    quiet: bool,
}

impl Backtest<'_> {
    async fn run(
        &self,
        setup: Arc<Setup>,
        unit: &'static str,
        mut on_forecasts: impl FnMut(&RecordBatch),
    ) -> Result<()> {
        let filter = RowFilter { times: TimeRange::default(), ids: self.ids.clone() };
        let mut source = dataset::open_parquet(self.pipeline, self.path, filter)?;
        let bar = progress_bar(source.total_rows() as u64, unit, self.quiet);
        let options = DriverOptions {
            setup,
            commit: COMMIT,
            state: None,
            start: StartOffset::Earliest,
            on_data_loss: OnDataLoss::Fail,
            queue_rows: self.pipeline.limits.queue_rows,
            on_end_of_input: OnEndOfInput::CloseSteps,
            reject_limit: None,
        };
        let (sender, mut receiver) = mpsc::channel(2);
        let on_progress = |progress: &Progress| {
            let position = progress.position.map_or(0, |position| position.0.max(0) as u64);
            bar.set_position(position.max(progress.counters.rows));
        };
        let driven = drive(&mut source, ChannelSink(sender), options, &self.stop, on_progress);
        let received = async {
            while let Some(forecasts) = receiver.recv().await {
                on_forecasts(&forecasts);
            }
        };
        // The driver drops the sink, which closes the channel.
        let (progress, ()) = tokio::join!(async { driven.await.map(|(progress, _)| progress) }, received);
        bar.finish_and_clear();
        ensure!(!progress?.stopped, STOPPED);
        Ok(())
    }
}

fn run_info(pipeline: &Pipeline, setup: &Setup, baselines: &Baselines, data: &DataSummary) -> RunInfo {
    let is_training_data = setup.model.manifest.data.fingerprint == data.fingerprint;
    let history_note = if is_training_data {
        "the history is the one that the model was trained on; the splits are those of the training"
    } else {
        "the history is not the one that the model was trained on; it is split at the dates of the training"
    };
    let ridge_note = match &baselines.ridge {
        Some(ridge) => {
            let (lookback, penalty) = (ridge.lookback(), ridge.penalty);
            format!("the ridge regression reads {lookback} steps and has a penalty of {penalty:.3}")
        }
        None => "the training split is too short for a ridge regression".to_owned(),
    };
    let mut notes = vec![history_note.to_owned(), ridge_note];
    if baselines.seasons.day.is_none() {
        let note = "there is no daily baseline: the training split has less than two days, or a day is not a multiple of the step";
        notes.push(note.to_owned());
    }
    RunInfo {
        pipeline: pipeline.name.clone(),
        model: setup.model.hash.clone(),
        every: setup.step_text.clone(),
        origin_stride: setup.every,
        notes,
    }
}

/// A sink that sends the forecasts to a channel.
struct ChannelSink(mpsc::Sender<RecordBatch>);

impl Sink for ChannelSink {
    async fn write(&mut self, output: Output) -> Result<()> {
        self.0.send(output.forecasts).await.context("the scorer has stopped")
    }

    async fn commit(&mut self, reached: &Positions) -> Result<Positions> {
        Ok(reached.clone())
    }

    async fn discard(&mut self, _partitions: &[Partition]) -> Result<()> {
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}
