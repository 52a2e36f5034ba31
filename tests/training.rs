//! Training on the samples: accuracy, reproducibility and checkpoints.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use tidecast::config::Pipeline;
use tidecast::dataset::{self, Dataset};
use tidecast_core::model::{Model, Score, ScoredSplit};
use tidecast_core::network::{Loss, StateKind, tensors};
use tidecast_core::series::Scaling;
use tidecast_train::{BatchReport, Progress, TrainConfig, TrainOptions, train, train_with};

use crate::harness::{Case, Row, row, write_parquet};

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines")
}

fn sample(name: &str, configure: impl FnOnce(&mut TrainConfig)) -> Pipeline {
    let mut pipeline = Pipeline::open(&samples().join(name)).expect("the sample is valid");
    configure(&mut pipeline.train);
    pipeline
}

fn history(pipeline: &Pipeline) -> Dataset {
    let path = &pipeline.parquet_source.as_ref().expect("the sample has a history").path;
    dataset::read(pipeline, path, |_, _| ()).expect("the sample is readable")
}

fn trained(pipeline: &Pipeline, data: Dataset) -> Model {
    let progress = |_: Progress<'_>| ControlFlow::Continue(());
    train(&pipeline.training(), &data.history, data.summary, progress).expect("training succeeds").0
}

fn trained_sample(pipeline: &Pipeline) -> Model {
    trained(pipeline, history(pipeline))
}

fn test_score(model: &Model) -> &Score {
    let mut scores = model.manifest.scores.iter();
    scores.find(|score| score.split == ScoredSplit::Test).expect("there is a test split")
}

#[test]
fn two_epochs_on_the_sensors_beat_both_naive_forecasts() {
    let pipeline = sample("sensors.toml", |train| {
        (train.lookback, train.hidden, train.epochs) = (48, 16, 2);
    });
    let model = trained_sample(&pipeline);
    let score = test_score(&model);
    let seasonal = score.seasonal_naive_mae.expect("a year has a daily season");
    assert!(score.forecasts > 10_000, "{score:?}");
    assert!(score.mae < 0.95 * seasonal && score.mae < 0.95 * score.naive_mae, "{score:?}");
}

#[test]
fn four_epochs_on_the_motes_beat_the_last_value() {
    let pipeline = sample("motes.toml", |train| (train.lookback, train.epochs) = (60, 4));
    let model = trained_sample(&pipeline);
    let score = test_score(&model);
    assert!(score.mae < score.naive_mae, "{score:?}");
}

#[test]
fn standalone_cells_are_compared_where_no_season_is_known() {
    let pipeline = sample("motes.toml", |train| {
        (train.recurrence, train.scaling) = (true, Scaling::Running);
        (train.lookback, train.horizon, train.hidden, train.epochs) = (12, 4, 8, 1);
    });
    let data = history(&pipeline);
    let mut reported = Vec::new();
    let result = train(&pipeline.training(), &data.history, data.summary, |progress| {
        if let Progress::Decided(decisions) = progress {
            reported.extend(decisions.to_vec());
        }
        ControlFlow::Continue(())
    });
    let (model, report) = result.expect("training succeeds");
    let decision = report.decisions.last().expect("there are decisions");
    assert!(decision.reason.contains("with a recurrence"), "{decision:?}");
    assert_eq!(model.recurrence.is_none(), decision.action.contains("without a recurrence"));
    assert_eq!(reported.last(), Some(decision));
    let training = serde_json::to_value(&pipeline.train).expect("plain values");
    assert_eq!(model.manifest.training, training);
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_gives_others() {
    let bytes = |seed: u64| {
        let pipeline = sample("motes.toml", |train| {
            (train.lookback, train.horizon, train.hidden, train.epochs, train.seed) = (12, 4, 8, 1, seed);
        });
        trained_sample(&pipeline).to_bytes()
    };
    let first = bytes(1);
    assert_eq!(first, bytes(1));
    assert_ne!(first, bytes(2));
}

/// A model of a pulse train with a phase shift in the middle. A window of the last four steps does not determine the phase.
fn pulse_model(state: StateKind) -> Model {
    let pipeline = sample("sensors.toml", |train| {
        (train.recurrence, train.calendar, train.state) = (false, vec![], state);
        (train.segment, train.horizon, train.hidden, train.epochs) = (1, 3, 16, 30);
        (train.scaling, train.learning_rate, train.batch_size) = (Scaling::Fixed, 0.01, 64);
        train.lookback = if state == StateKind::Carried { 40 } else { 4 };
        // With an absolute loss the constant 0 is a good forecast, since pulses are rare.
        train.loss = Loss::Mse;
    });
    let pulse = |step: i64| f64::from(u8::from((step + step / 3000) % 10 == 0));
    let rows: Vec<Row> = (0..6000).map(|step| row("pulses", step * 3600, pulse(step))).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pulses.parquet");
    write_parquet(&path, &Case::default().batch(0, &rows));
    let data = dataset::read(&pipeline, &path, |_, _| ()).expect("the file is readable");
    trained(&pipeline, data)
}

#[test]
fn a_carried_state_learns_what_a_short_window_cannot() {
    let mae = |state| test_score(&pulse_model(state)).mae;
    let (carried, window) = (mae(StateKind::Carried), mae(StateKind::Window));
    assert!(carried < 0.2 * window, "{carried} {window}");
}

/// Result of a training run that may have been stopped or resumed.
struct RunResult {
    model: Vec<u8>,
    is_complete: bool,
    checkpoint: Vec<u8>,
    /// Epochs of a resumed checkpoint, or the reason why it was ignored.
    messages: Vec<String>,
}

fn run(pipeline: &Pipeline, checkpoint: Option<&[u8]>, stop: impl Fn(BatchReport) -> bool) -> RunResult {
    let data = history(pipeline);
    let (mut last_checkpoint, mut messages) = (Vec::new(), Vec::new());
    let options = TrainOptions { split: None, checkpoint };
    let mut on_progress = |progress: Progress<'_>| {
        match progress {
            Progress::Checkpoint(checkpoint) => last_checkpoint = checkpoint(),
            Progress::Resumed { epochs } => messages.push(format!("after {epochs}")),
            Progress::CheckpointIgnored { reason } => messages.push(reason),
            Progress::Batch(batch) if stop(batch) => return ControlFlow::Break(()),
            _ => {}
        }
        ControlFlow::Continue(())
    };
    let result = train_with(&pipeline.training(), &data.history, data.summary, options, &mut on_progress);
    let (model, report) = result.expect("training succeeds");
    let (model, is_complete) = (model.to_bytes(), report.is_complete);
    RunResult { model, is_complete, checkpoint: last_checkpoint, messages }
}

fn short_training(seed: u64) -> Pipeline {
    sample("motes.toml", |train| {
        (train.lookback, train.horizon, train.hidden, train.epochs, train.seed) = (12, 4, 8, 3, seed);
        train.batch_size = 1024;
    })
}

#[test]
fn an_interrupted_run_resumes_to_the_same_bytes() {
    let pipeline = short_training(1);
    let whole = run(&pipeline, None, |_| false);
    assert!(whole.is_complete && whole.messages.is_empty());
    let first = run(&pipeline, None, |batch| batch.validation_loss.is_some());
    assert!(!first.is_complete && first.model != whole.model);
    let second = run(&pipeline, Some(&first.checkpoint), |batch| {
        assert!(batch.epoch > 1 && batch.batches > 3, "{batch:?}");
        (batch.epoch, batch.batch) == (2, 3)
    });
    assert_eq!((second.is_complete, second.messages), (false, vec!["after 1".to_owned()]));
    let third = run(&pipeline, Some(&second.checkpoint), |batch| {
        assert!(batch.epoch > 2 || batch.batch > 3, "{batch:?}");
        false
    });
    assert_eq!((third.is_complete, third.messages), (true, vec!["after 1".to_owned()]));
    assert_eq!(third.model, whole.model);
    assert_eq!(third.checkpoint, whole.checkpoint);
    let finished = run(&pipeline, Some(&third.checkpoint), |_| unreachable!("no epoch is left"));
    assert_eq!(finished.model, whole.model);
}

#[test]
fn an_unusable_checkpoint_is_ignored_with_its_reason() {
    const KEY: &str = "tidecast-checkpoint";
    let mut pipeline = short_training(1);
    pipeline.train.epochs = 1;
    let whole = run(&pipeline, None, |_| false);
    let reason = |checkpoint: &[u8]| {
        let result = run(&pipeline, Some(checkpoint), |_| false);
        assert_eq!(result.model, whole.model);
        result.messages.join(", ")
    };
    let other = run(&short_training(2), None, |batch| batch.batch == 1).checkpoint;
    assert_eq!(
        reason(&other),
        "the checkpoint belongs to another configuration, other data or another build"
    );
    assert!(reason(&whole.checkpoint[..whole.checkpoint.len() / 2]).starts_with("truncated"));
    assert!(reason(&whole.model).contains(KEY));
    let (mut all, text) = tensors::read(&whole.checkpoint, KEY).unwrap();
    let damaged = |text: &str, all: &tensors::Tensors| tensors::write(all, KEY, text);
    let swapped = text.replace("\"epochs\":1", "\"epochs\":0");
    assert_eq!(reason(&damaged(&swapped, &all)), "the counters in the checkpoint are inconsistent");
    all.remove("second_moments.head.bias");
    let reason = reason(&damaged(&text, &all));
    assert!(reason.starts_with("tensor `head.bias` of shape [4] is missing"), "{reason}");
}

#[test]
fn committed_models_match_their_pipelines_and_beat_naive_forecasts() {
    for name in ["sensors", "motes"] {
        let bytes =
            std::fs::read(samples().join(name).join("model.safetensors")).expect("the sample has a model");
        let model = Model::from_bytes(&bytes).expect("the model is valid");
        let pipeline = sample(&format!("{name}.toml"), |_| ());
        let training = serde_json::to_value(&pipeline.train).expect("plain values");
        assert_eq!(model.manifest.training, training, "{name}");
        let score = test_score(&model);
        let baseline = score.seasonal_naive_mae.unwrap_or(score.naive_mae);
        assert!(score.mae < baseline, "{name}: {score:?}");
    }
}
