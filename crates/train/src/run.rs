//! A training run from history to model.

use std::ops::ControlFlow;

use anyhow::{Context, Result, ensure};

use super::cells::{CellResult, CellTraining, OUTPUT_VALUES_MAX, TrainedCells};
use super::ensemble::fit_ensemble;
use super::gram::{BLOCKS, GramBuilder};
use super::plan::{
    PER_SERIES_MAX, RecurrencePlan, initial_manifest, readout_decisions, series_keys, whole_segments,
};
use super::progress::{Decision, Progress, Report};
use super::readout_fit::{Coefficients, RECENT_MIN, ReadoutFit};
use super::scores::{ExampleSeries, ScoredOrigins, score_model};
use super::settings::{TrainConfig, TrainingSpec};
use super::trainer::run_identity;
use super::training_data::group_size;
use super::windows::{Origin, SampleLimit, Windows, sample_origins};
use super::{Channel, History, Split};
use tidecast_core::model::{DataSummary, Model, ModelManifest, RecurrenceModel, ScoredSplit};
use tidecast_core::network::recurrence::{LinearRecurrence, PerSeriesFeatures, Readout};
use tidecast_core::network::{Network, StateKind};
use tidecast_core::series::Scaling;

/// Limit of the windows for training: more windows of a history add little and take hours.
const TRAINING_WINDOWS_MAX: usize = 1_000_000;
/// Largest relative error at which standalone cells replace a recurrence: a smaller gain may be chance.
const MIN_IMPROVEMENT: f64 = 0.99;

/// Optional inputs of a training run.
#[derive(Clone, Copy, Debug, Default)]
pub struct TrainOptions<'a> {
    /// Split of the history; by default that of the configured fractions.
    pub split: Option<Split>,
    /// Checkpoint of an interrupted run. It is ignored unless configuration, data and build are the same; otherwise the result
    /// is bit-identical to that of an uninterrupted run.
    pub checkpoint: Option<&'a [u8]>,
}

/// Summary of a training run.
#[derive(Clone, Debug)]
pub struct TrainingReport {
    pub training_windows: usize,
    pub validation_windows: usize,
    pub test_windows: usize,
    /// Epoch of the cells' weights; none without cells.
    pub epoch: Option<usize>,
    pub decisions: Vec<Decision>,
    /// Forecasts of the test split.
    pub examples: Vec<ExampleSeries>,
    /// False after an interruption.
    pub is_complete: bool,
}

/// Trains a model. `data` describes the source of the history; its times are set here. `report` receives events and may stop
/// the run.
///
/// # Errors
/// If the history is too short or constant.
pub fn train(
    pipeline: &TrainingSpec,
    history: &History,
    data: DataSummary,
    mut report: impl FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<(Model, TrainingReport)> {
    train_with(pipeline, history, data, TrainOptions::default(), &mut report)
}

/// As [`train`], with options.
///
/// # Errors
/// As for [`train`].
pub fn train_with(
    pipeline: &TrainingSpec,
    history: &History,
    data: DataSummary,
    options: TrainOptions<'_>,
    report: &mut Report<'_>,
) -> Result<(Model, TrainingReport)> {
    let default_split = || Split::new(history, pipeline.train.split_fractions());
    let split = options.split.map_or_else(default_split, Ok)?;
    let run = Run { pipeline, history, channels: &history.channels(), split };
    let (model, mut summary) = run.train(data.clone(), options.checkpoint, report)?;
    let Some(standalone) = standalone_cells(pipeline, &model).filter(|_| summary.is_complete) else {
        return Ok((model, summary));
    };
    // The checkpoint file keeps the state of the first run: without a season histories are short, and the second run is
    // repeated at little cost.
    let mut report_progress = |progress: Progress<'_>| match progress {
        Progress::Checkpoint(_) => ControlFlow::Continue(()),
        other => report(other),
    };
    let candidate = Run { pipeline: &standalone, ..run }.train(data, None, &mut report_progress);
    let decided = summary.decisions.len();
    let (model, summary) = match candidate {
        Ok(candidate) => select_model(pipeline, (model, summary), candidate),
        // The longer window may not fit the history.
        Err(error) => {
            summary.decisions.push(Decision::new("skip standalone cells", error.to_string()));
            (model, summary)
        }
    };
    let _ = report(Progress::Decided(&summary.decisions[decided..]));
    Ok((model, summary))
}

/// The recipe for cells without a recurrence, to compare with `model`. Without a known season a recurrence has little to
/// remember, and cells that scale each window adapt better to bursts. None unless the cells read windows and the model has a
/// recurrence without a season.
fn standalone_cells(pipeline: &TrainingSpec, model: &Model) -> Option<TrainingSpec> {
    let ensemble = model.manifest.recurrence.as_ref().and_then(|spec| spec.ensemble.as_ref());
    let has_season = ensemble.is_none_or(|ensemble| ensemble.season.is_some());
    let reads_windows = pipeline.train.cell.is_some() && pipeline.train.state == StateKind::Window;
    (!has_season && reads_windows).then(|| {
        let mut standalone = pipeline.clone();
        standalone.train = TrainConfig {
            recurrence: false,
            scaling: Scaling::WindowLast,
            // Values without a season do not depend on the hour.
            calendar: Vec::new(),
            ..standalone.train
        };
        standalone
    })
}

/// Selects the model with the lower validation error, the first one where that is unknown.
fn select_model(
    pipeline: &TrainingSpec,
    (model, mut summary): (Model, TrainingReport),
    (standalone, standalone_summary): (Model, TrainingReport),
) -> (Model, TrainingReport) {
    let errors = relative_error(&model.manifest).zip(relative_error(&standalone.manifest));
    let Some((with, without)) = errors.filter(|_| standalone_summary.is_complete) else {
        summary.is_complete &= standalone_summary.is_complete;
        return (model, summary);
    };
    let reason = format!(
        "validation error relative to the naive forecast: {without:.3} without a recurrence, {with:.3} with a recurrence"
    );
    if without >= MIN_IMPROVEMENT * with {
        summary.decisions.push(Decision::new("keep the recurrence", reason));
        return (model, summary);
    }
    summary.decisions.push(Decision::new("forecast by the cells without a recurrence", reason));
    let training = serde_json::to_value(&pipeline.train).unwrap_or_default();
    let manifest = ModelManifest { training, ..standalone.manifest };
    let model = Model::new(manifest, None, standalone.cells, standalone.residuals);
    (model, TrainingReport { decisions: summary.decisions, ..standalone_summary })
}

/// Validation error relative to the naive forecast: two models are validated at nearly, but not exactly, the same origins.
fn relative_error(manifest: &ModelManifest) -> Option<f64> {
    let score = manifest.scores.iter().find(|score| score.split == ScoredSplit::Validation)?;
    (score.naive_mae > 0.0).then(|| score.mae / score.naive_mae)
}

/// One run with a fixed recipe.
#[derive(Clone, Copy)]
struct Run<'a> {
    pipeline: &'a TrainingSpec,
    history: &'a History,
    channels: &'a [Channel],
    split: Split,
}

impl Run<'_> {
    fn train(
        &self,
        data: DataSummary,
        checkpoint: Option<&[u8]>,
        report: &mut Report<'_>,
    ) -> Result<(Model, TrainingReport)> {
        let Self { pipeline, history, channels, split } = *self;
        let config = &pipeline.train;
        ensure!(
            config.embedding == 0 || channels.len() <= PER_SERIES_MAX,
            "train.embedding is {}, but the history has {} series and at most {PER_SERIES_MAX} can have an embedding; remove \
             the key",
            config.embedding,
            channels.len()
        );
        let series = series_keys(pipeline, history, channels);
        let mut manifest = initial_manifest(pipeline, history, series, split, data);
        let (mut folds, mut decisions) = match config.recurrence {
            true => self.fit_recurrence(&mut manifest, report)?,
            false => (Vec::new(), Vec::new()),
        };
        let group = group_size(config, manifest.horizon * (1 + manifest.probabilities().len()));
        let training = self.training_origins(&manifest, group)?;
        let origins = ScoredOrigins::sample(history, &manifest, split, group);
        let windows = Windows { history, manifest: &manifest, step_config: &pipeline.step_config };
        let CellResult { cells, decisions: cell_decisions, is_complete } = match &manifest.cells {
            Some(spec) => CellTraining {
                config,
                shape: spec.network,
                windows: &windows,
                channels,
                split,
                training: &training,
                validation: &origins.validation,
                folds: &folds,
                checkpoint,
                identity: run_identity(&manifest, &folds),
            }
            .run(report)?,
            None => CellResult { cells: None, decisions: Vec::new(), is_complete: true },
        };
        let _ = report(Progress::Decided(&cell_decisions));
        decisions.extend(cell_decisions);
        if manifest.cells.is_some() && cells.is_none() {
            decisions.push(Decision::new("drop the cells", "they did not improve held-out error"));
        }
        let epoch = cells.as_ref().map(|cells| cells.epoch);
        let cells = set_cells(&mut manifest, cells);
        let recurrence = folds.pop().and_then(|model| model.recurrence);
        let model = Model::new(manifest, recurrence, cells, None);
        let (model, examples) = score_model(model, pipeline, history, channels, split, &origins);
        let summary = TrainingReport {
            training_windows: training.len(),
            validation_windows: origins.validation.len(),
            test_windows: origins.test.len(),
            epoch,
            decisions,
            examples,
            is_complete,
        };
        Ok((model, summary))
    }

    fn training_origins(&self, manifest: &ModelManifest, group: usize) -> Result<Vec<Origin>> {
        let Split { first, train_end, .. } = self.split;
        let origins = TRAINING_WINDOWS_MAX.min(OUTPUT_VALUES_MAX / manifest.horizon).max(1);
        let limit = SampleLimit { origins, group };
        let origins = sample_origins(self.history, manifest, first..train_end, limit);
        ensure!(
            !origins.is_empty(),
            "nothing to train on: the training split has {} steps of {}, but a window needs {} steps before its origin (from \
             step {} of a series on) and {} after it, without a gap longer than max_gap; provide a longer history, or reduce \
             lookback or horizon",
            train_end - first,
            self.pipeline.every_text(),
            manifest.lookback,
            manifest.warmup,
            manifest.horizon
        );
        Ok(origins)
    }

    /// Plans and fits the recurrence, with a long window of recent values if that improves the readout. Returns its models
    /// without each block and last on all blocks, and the decisions.
    fn fit_recurrence(
        &self,
        manifest: &mut ModelManifest,
        report: &mut Report<'_>,
    ) -> Result<(Vec<Model>, Vec<Decision>)> {
        let config = &self.pipeline.train;
        let mut plan = RecurrencePlan::new(self.pipeline, self.history, self.channels, self.split);
        let mut decisions = std::mem::take(&mut plan.decisions);
        let _ = report(Progress::Decided(&decisions));
        let (warmup, lookback) = (manifest.warmup, manifest.lookback);
        let (folds, fit_decisions) = loop {
            manifest.warmup = warmup.max(plan.warmup);
            manifest.lookback = whole_segments(lookback.max(plan.spec.recent_values + 1), config);
            manifest.recurrence = Some(plan.spec.clone());
            match self.fit_readout(manifest, &plan, report)? {
                Some(fitted) => break fitted,
                None => plan.shorten(),
            }
        };
        let _ = report(Progress::Decided(&fit_decisions));
        decisions.extend(fit_decisions);
        Ok((folds, decisions))
    }

    /// Fits the readout and writes the selected penalties to the manifest. None where no bucket selects the long window of
    /// recent values: a shorter one needs less state and an earlier first forecast.
    fn fit_readout(
        &self,
        manifest: &mut ModelManifest,
        plan: &RecurrencePlan,
        report: &mut Report<'_>,
    ) -> Result<Option<(Vec<Model>, Vec<Decision>)>> {
        let Self { pipeline, history, channels, split } = *self;
        let RecurrencePlan { poles, spec, feature_sets, .. } = plan;
        let recurrence = LinearRecurrence::new(poles, spec.window)
            .context("a pole of the recurrence lies outside the unit circle")?;
        let per_series = manifest.per_series_features();
        let windows = Windows { history, manifest, step_config: &pipeline.step_config };
        let _ = report(Progress::GatheringRows);
        let row_stride = feature_sets.row_stride;
        let builder =
            GramBuilder { windows: &windows, spec, recurrence: &recurrence, channels, split, row_stride };
        let sums = builder.build();
        let rows = sums.training_rows();
        self.ensure_rows(rows, manifest)?;
        let selections = sums.select(feature_sets);
        let has_long_window = selections.iter().any(|selection| selection.features.has_long_window());
        if feature_sets.recent > RECENT_MIN && !has_long_window {
            return Ok(None);
        }
        let fit = sums.fit(&selections, feature_sets).context(
            "the observations of the training split are too similar to fit a readout; provide a history in which they vary",
        )?;
        drop(sums);
        let mut folds = readout_models(manifest, plan, &recurrence, &per_series, &fit)?;
        let ensemble =
            spec.ensemble.clone().map(|spec| fit_ensemble(&windows, channels, &folds, split, spec));
        for recurrence in folds.iter_mut().filter_map(|model| model.recurrence.as_mut()) {
            recurrence.ensemble.clone_from(&ensemble);
        }
        let decisions = readout_decisions(&selections, &fit.absolute_weights);
        let penalties = selections.into_iter().map(|selection| selection.penalty).collect();
        manifest.recurrence.as_mut().expect("the manifest has the planned recurrence").penalties = penalties;
        let _ = report(Progress::ReadoutFitted { rows });
        Ok(Some((folds, decisions)))
    }

    fn ensure_rows(&self, rows: u64, manifest: &ModelManifest) -> Result<()> {
        let Split { first, train_end, .. } = self.split;
        ensure!(
            rows > 0 || !self.history.is_constant_until(train_end),
            "nothing to train on: every series is constant in the training split, so its last value is the best forecast; \
             provide a history in which observations vary"
        );
        ensure!(
            rows > 0,
            "nothing to train on: no origin of the training split ({} steps of {}) has {} observed steps before it that vary \
             and {} steps after it; provide a longer history, or reduce the horizon",
            train_end - first,
            self.pipeline.every_text(),
            manifest.warmup,
            manifest.horizon
        );
        Ok(())
    }
}

/// Models of the recurrence without cells: without each block, and last on all blocks.
fn readout_models(
    manifest: &ModelManifest,
    plan: &RecurrencePlan,
    recurrence: &LinearRecurrence,
    per_series: &PerSeriesFeatures,
    fit: &ReadoutFit,
) -> Result<Vec<Model>> {
    let horizon = manifest.horizon;
    let features = plan.spec.features(recurrence.state_len(), &manifest.inputs, horizon);
    let manifest = ModelManifest { cells: None, ..manifest.clone() };
    let model = |without: Option<usize>| {
        let Coefficients { shared, per_series: coefficients } = fit.coefficients(without, per_series);
        let mut tensors = Readout::to_tensors(horizon, features, per_series, shared, coefficients);
        let readout = Readout::take(&mut tensors, horizon, features, per_series.clone())?;
        let recurrence = RecurrenceModel {
            poles: plan.poles.clone(),
            recurrence: recurrence.clone(),
            readout,
            ensemble: None,
        };
        Ok(Model::new(manifest.clone(), Some(recurrence), None, None))
    };
    (0..BLOCKS).map(Some).chain([None]).map(model).collect()
}

/// Writes the trained cells, or their absence, to the manifest; returns their network.
fn set_cells(manifest: &mut ModelManifest, cells: Option<TrainedCells>) -> Option<Network> {
    if let Some(TrainedCells { network, blend_weights, .. }) = cells {
        let spec = manifest.cells.as_mut().expect("the manifest has cells to train");
        (spec.blend_weights, spec.network) = (blend_weights, *network.shape());
        if spec.network.quantiles == 0 {
            spec.probabilities.clear();
        }
        return Some(network);
    }
    if let Some(recurrence) = &manifest.recurrence {
        manifest.cells = None;
        if matches!(manifest.scaling, Scaling::Fixed | Scaling::Running) {
            // Only the cells and a scale by window read a longer window.
            manifest.lookback = recurrence.recent_values + 1;
        }
    }
    None
}
