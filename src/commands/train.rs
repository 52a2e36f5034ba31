//! `train`: from history in Parquet to a model file.

use std::fs::{self, File};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;

use super::log::say;
use super::{inspect, prepare, report, stop, training_page};
use crate::cli::Train;
use crate::config::Pipeline;
use crate::dataset::{self, Dataset};
use tidecast_core::model::Model;
use tidecast_train::{Progress, Step, resume};

pub async fn train(arguments: Train, quiet: bool) -> Result<()> {
    let mut pipeline = Pipeline::open(&arguments.pipeline)?;
    if let Some(epochs) = arguments.epochs {
        pipeline.train.epochs = epochs as usize;
    }
    pipeline.train.seed = arguments.seed.unwrap_or(pipeline.train.seed);
    let kept = checkpoint_of(&arguments.out);
    not_over(&[&arguments.data, &arguments.pipeline], &[&arguments.out, &kept])?;
    let stopped = stop_flag()?;
    let read = history(&pipeline, &arguments.data, quiet)?;
    let bar = report::bar(0, "minibatches", quiet);
    let mut epochs = Vec::new();
    let checkpoint = prepare::bytes(&kept).ok();
    let mut unkept = false;
    let learned = resume(&pipeline, &read.history, read.summary, checkpoint.as_deref(), |progress| {
        match progress {
            Progress::Chose(choices) => choices.iter().for_each(|choice| {
                say!("{}: {}", choice.what, choice.why);
            }),
            Progress::Gathering => bar.set_message("gathering what the memory learns from"),
            Progress::Remembers { rows } => say!(rows = rows, "the memory was solved from {rows} rows"),
            Progress::Resumes { epochs } => {
                say!("going on from {}, after epoch {epochs} of the cells", kept.display());
            }
            Progress::Ignores { why } => say!("note: {} is not gone on from: {why}", kept.display()),
            Progress::Checkpoint(checkpoint) => {
                let written = write_whole(&kept, &checkpoint.bytes());
                // Said once: training can end well without.
                if let (Err(error), false) = (written, unkept) {
                    say!("note: a kill would lose what is learned: {error:#}");
                    unkept = true;
                }
            }
            Progress::Step(step) => {
                epochs.extend(step.validation.map(|_| step));
                tell(&bar, &pipeline, step);
            }
        }
        if stopped.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    let (model, outcome) = learned?;
    if outcome.epoch == Some(0) && !pipeline.train.memory {
        bail!(
            "stopped within the first epoch: nothing worth keeping was learned, and no model is written; the same command \
             goes on"
        );
    }
    let bytes = model.to_bytes();
    // What cannot be read again must not take the place of what can.
    Model::from_bytes(&bytes)
        .context("training diverged; a lower train.learning_rate or train.clip may help")?;
    write_whole(&arguments.out, &bytes)?;
    if let Some(path) = &arguments.html {
        write_whole(path, training_page::page(&pipeline, &model, &outcome, &epochs).as_bytes())?;
    }
    if outcome.complete {
        remove(&kept)?;
    } else {
        say!("stopped early: the same command goes on from {}", kept.display());
    }
    tell_of_intervals(&model);
    say!(
        "learned from {} windows, validated on {}, tested on {}; kept {}; wrote {} ({})",
        outcome.trained,
        outcome.validated,
        outcome.tested,
        outcome.epoch.map_or("the memory alone".into(), |epoch| format!("epoch {epoch} of the cells")),
        arguments.out.display(),
        model.hash
    );
    if !quiet {
        super::print(&inspect::scores(&model.description.scores))?;
    }
    Ok(())
}

/// Reads the history at a path, and says how it went.
pub(super) fn history(pipeline: &Pipeline, path: &Path, quiet: bool) -> Result<Dataset> {
    let bar = report::bar(0, "rows", quiet);
    let read = dataset::read(pipeline, path, |rows, of| {
        bar.set_length(of);
        bar.set_position(rows);
    });
    bar.finish_and_clear();
    let read = read?;
    say!("{} series, {}", read.history.ids.len(), read.tally);
    Ok(read)
}

/// Says so if a model gives no intervals.
pub(super) fn tell_of_intervals(model: &Model) {
    if model.errors.is_none() {
        say!(
            "no window of the validation part could be scored: the model gives no intervals, forecast.levels must be []"
        );
    }
}

/// Set at the first Ctrl-C: training then ends with what was best so far.
fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = stop::stop("the best of the finished epochs is being scored and written")?;
    let flag = Arc::new(AtomicBool::new(false));
    let set = flag.clone();
    tokio::spawn(async move {
        stop.await;
        set.store(true, Ordering::Relaxed);
    });
    Ok(flag)
}

fn tell(bar: &ProgressBar, pipeline: &Pipeline, step: Step) {
    bar.set_length((pipeline.train.epochs * step.batches) as u64);
    bar.set_position(((step.epoch - 1) * step.batches + step.batch) as u64);
    let Some(validation) = step.validation else { return };
    bar.set_message(format!("epoch {}, validation loss {validation:.4}", step.epoch));
    if bar.is_hidden() {
        say!("epoch {:>3}: loss {:.4}, validation loss {validation:.4}", step.epoch, step.loss);
    }
}

/// That nothing is written in the place of what is read.
pub(super) fn not_over(read: &[&PathBuf], written: &[&PathBuf]) -> Result<()> {
    match read.iter().find(|read| written.iter().any(|written| same(read, written))) {
        Some(read) => {
            bail!(
                "{} is read: a model in its place would be the end of it; say another --out",
                read.display()
            )
        }
        None => Ok(()),
    }
}

pub(super) fn same(read: &Path, written: &Path) -> bool {
    matches!((read.canonicalize(), written.canonicalize()), (Ok(read), Ok(written)) if read == written)
}

/// Where it is kept how far training has come, beside what it is to write.
fn checkpoint_of(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".checkpoint");
    name.into()
}

fn remove(checkpoint: &Path) -> Result<()> {
    match fs::remove_file(checkpoint) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", checkpoint.display()))
        }
        _ => Ok(()),
    }
}

/// Writes a file aside and renames it: under its name it is whole or not there.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = path.with_extension("partial");
    let write = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
