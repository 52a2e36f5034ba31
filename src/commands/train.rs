//! `train`: from Parquet history to a model file.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;

use tidecast_core::model::Model;
use tidecast_train::{BatchReport, Progress, TrainOptions, TrainingReport, train_with};
use tokio_util::sync::CancellationToken;

use super::{files, load};
use crate::cli::Train;
use crate::config::Pipeline;
use crate::dataset::{self, Dataset};
use crate::report::{model, training_page};
use crate::terminal::{print, progress_bar};
use crate::{shutdown, user_info};

pub async fn train(arguments: Train, quiet: bool) -> Result<()> {
    let mut pipeline = Pipeline::open(&arguments.pipeline)?;
    if let Some(epochs) = arguments.epochs {
        pipeline.train.epochs = epochs as usize;
    }
    pipeline.train.seed = arguments.seed.unwrap_or(pipeline.train.seed);
    let checkpoint = checkpoint_path(&arguments.out);
    files::check_not_overwritten(
        &[&arguments.data, &arguments.pipeline],
        &[&arguments.out, &checkpoint],
        "--out",
    )?;
    let stop = shutdown::on_signal("scoring and writing the best epoch")?;
    let dataset = read_history(&pipeline, &arguments.data, quiet)?;
    let mut monitor = TrainingMonitor::new(&pipeline, checkpoint, stop, quiet);
    let saved = load::tensor_file(&monitor.checkpoint).ok();
    let training = pipeline.training();
    let options = TrainOptions { checkpoint: saved.as_deref(), split: None };
    let mut on_progress = |progress: Progress<'_>| monitor.update(progress);
    let trained = train_with(&training, &dataset.history, dataset.summary, options, &mut on_progress);
    monitor.bar.finish_and_clear();
    let (model, report) = trained?;
    if report.epoch == Some(0) && !pipeline.train.recurrence {
        bail!("stopped in the first epoch: no model is written; the same command resumes");
    }
    let bytes = model.to_bytes();
    // An unreadable model must not replace a good one.
    Model::from_bytes(&bytes)
        .context("training diverged; lower train.learning_rate or train.gradient_clip")?;
    files::write_atomically(&arguments.out, &bytes)?;
    if let Some(path) = &arguments.html {
        let page = training_page::page(&pipeline, &model, &report, &monitor.epochs);
        files::write_atomically(path, page.as_bytes())?;
    }
    if report.is_complete {
        remove_checkpoint(&monitor.checkpoint)?;
    } else {
        user_info!("stopped early: the same command resumes from {}", monitor.checkpoint.display());
    }
    print_summary(&model, &report, &arguments.out, quiet)
}

fn print_summary(model: &Model, report: &TrainingReport, out: &Path, quiet: bool) -> Result<()> {
    note_missing_intervals(model);
    let best = match report.epoch {
        Some(epoch) => format!("best epoch of the cells: {epoch}"),
        None => "no cells".to_owned(),
    };
    user_info!(
        "windows: {} training, {} validation, {} test; {best}; wrote {} ({})",
        report.training_windows,
        report.validation_windows,
        report.test_windows,
        out.display(),
        model.hash
    );
    if quiet { Ok(()) } else { print(&model::scores_table(&model.manifest.scores)) }
}

/// Progress of a training: messages, a bar, the checkpoint, and the stop signal.
struct TrainingMonitor {
    bar: ProgressBar,
    /// Epochs of the recipe.
    epoch_limit: usize,
    /// The last report of each epoch.
    epochs: Vec<BatchReport>,
    checkpoint: PathBuf,
    checkpoint_failed: bool,
    stop: CancellationToken,
}

impl TrainingMonitor {
    fn new(pipeline: &Pipeline, checkpoint: PathBuf, stop: CancellationToken, quiet: bool) -> Self {
        let bar = progress_bar(0, "minibatches", quiet);
        let epoch_limit = pipeline.train.epochs;
        Self { bar, epoch_limit, epochs: Vec::new(), checkpoint, checkpoint_failed: false, stop }
    }

    /// Handles a progress report; breaks at the stop signal.
    fn update(&mut self, progress: Progress<'_>) -> ControlFlow<()> {
        match progress {
            Progress::Decided(decisions) => decisions.iter().for_each(|decision| {
                user_info!("{}: {}", decision.action, decision.reason);
            }),
            Progress::GatheringRows => self.bar.set_message("collecting the rows of the readout"),
            Progress::ReadoutFitted { rows } => {
                user_info!(rows = rows, "the readout was fitted to {rows} rows")
            }
            Progress::Resumed { epochs } => {
                user_info!("resuming from {} after epoch {epochs}", self.checkpoint.display());
            }
            Progress::CheckpointIgnored { reason } => {
                user_info!("note: checkpoint {} is ignored: {reason}", self.checkpoint.display());
            }
            Progress::Checkpoint(checkpoint) => {
                let written = files::write_atomically(&self.checkpoint, &checkpoint());
                // Reported once: only an interrupted training needs the checkpoint.
                if let (Err(error), false) = (written, self.checkpoint_failed) {
                    user_info!("note: an interrupted training could not be resumed: {error:#}");
                    self.checkpoint_failed = true;
                }
            }
            Progress::Batch(batch) => self.update_batch(batch),
        }
        if self.stop.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn update_batch(&mut self, batch: BatchReport) {
        self.bar.set_length((self.epoch_limit * batch.batches) as u64);
        self.bar.set_position(((batch.epoch - 1) * batch.batches + batch.batch) as u64);
        let Some(validation) = batch.validation_loss else { return };
        self.epochs.push(batch);
        self.bar.set_message(format!("epoch {}, validation loss {validation:.4}", batch.epoch));
        if self.bar.is_hidden() {
            user_info!("epoch {:>3}: loss {:.4}, validation loss {validation:.4}", batch.epoch, batch.loss);
        }
    }
}

/// Reads the history at a path, with a progress bar.
pub(super) fn read_history(pipeline: &Pipeline, path: &Path, quiet: bool) -> Result<Dataset> {
    let bar = progress_bar(0, "rows", quiet);
    let read = dataset::read(pipeline, path, |rows, total| {
        bar.set_length(total);
        bar.set_position(rows);
    });
    bar.finish_and_clear();
    let dataset = read?;
    user_info!("{} series, {}", dataset.history.ids.len(), dataset.counters);
    Ok(dataset)
}

/// Notes that a model has no intervals.
pub(super) fn note_missing_intervals(model: &Model) {
    if model.residuals.is_none() {
        user_info!(
            "note: the validation split has no scorable window, so the model has no intervals; set forecast.levels = []"
        );
    }
}

/// The checkpoint of a training that writes `out`.
fn checkpoint_path(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".checkpoint");
    name.into()
}

fn remove_checkpoint(checkpoint: &Path) -> Result<()> {
    match fs::remove_file(checkpoint) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", checkpoint.display()))
        }
        _ => Ok(()),
    }
}
