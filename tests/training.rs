//! Training on the samples: it learns, and the same seed gives the same file.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use tidecast::config::Pipeline;
use tidecast::dataset;
use tidecast_core::model::{Model, Score};
use tidecast_core::network::{Loss, StateKind, tensors};
use tidecast_core::series::Scaling;
use tidecast_train::{Progress, Step, resume, train};

use crate::harness::{Case, Row, SECOND, write_parquet};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines")
}

fn sample(name: &str, change: impl FnOnce(&mut Pipeline)) -> Pipeline {
    let mut pipeline = Pipeline::open(&folder().join(name)).expect("the sample is sound");
    change(&mut pipeline);
    pipeline
}

fn trained(pipeline: &Pipeline) -> Model {
    let path = &pipeline.parquet_source.as_ref().expect("the sample has history").path;
    let data = dataset::read(pipeline, path, |_, _| ()).expect("the sample can be read");
    let (model, _) =
        train(pipeline, &data.history, data.summary, |_| ControlFlow::Continue(())).expect("it trains");
    model
}

fn test_score(model: &Model) -> &Score {
    model.description.scores.iter().find(|score| score.part == "test").expect("a part is left to test on")
}

#[test]
fn a_few_epochs_on_the_sensors_beat_yesterday_and_the_last_value() {
    let pipeline = sample("sensors.toml", |pipeline| {
        (pipeline.train.lookback, pipeline.train.hidden, pipeline.train.epochs) = (48, 16, 2);
    });
    let model = trained(&pipeline);
    let score = test_score(&model);
    let seasonal = score.seasonal_naive.expect("a year has days");
    assert!(score.forecasts > 10_000, "{score:?}");
    assert!(score.mae < 0.95 * seasonal && score.mae < 0.95 * score.repeat_last, "{score:?}");
}

#[test]
fn a_few_epochs_on_the_motes_beat_the_last_value() {
    let pipeline = sample("motes.toml", |pipeline| {
        (pipeline.train.lookback, pipeline.train.epochs) = (60, 4);
    });
    let model = trained(&pipeline);
    let score = test_score(&model);
    assert!(score.mae < score.repeat_last, "{score:?}");
}

#[test]
fn where_no_season_is_known_cells_alone_are_tried_too() {
    let pipeline = sample("motes.toml", |pipeline| {
        let train = &mut pipeline.train;
        (train.memory, train.scaling) = (true, Scaling::Running);
        (train.lookback, train.horizon, train.hidden, train.epochs) = (12, 4, 8, 1);
    });
    let path = &pipeline.parquet_source.as_ref().expect("the sample has history").path;
    let data = dataset::read(&pipeline, path, |_, _| ()).expect("the sample can be read");
    let mut said = Vec::new();
    let learned = train(&pipeline, &data.history, data.summary, |progress| {
        if let Progress::Chose(choices) = progress {
            said.extend(choices.to_vec());
        }
        ControlFlow::Continue(())
    });
    let (model, outcome) = learned.expect("it trains");
    let choice = outcome.choices.last().expect("something is chosen");
    assert!(choice.why.contains("times with a memory"), "{choice:?}");
    assert_eq!(model.memory.is_none(), choice.what.contains("without a memory"));
    assert_eq!(said.last(), Some(choice));
    let recipe = serde_json::to_value(&pipeline.train).expect("plain values");
    assert_eq!(model.description.recipe, recipe);
}

#[test]
fn the_same_seed_gives_the_same_file_and_another_seed_another() {
    let bytes = |seed: u64| {
        let pipeline = sample("motes.toml", |pipeline| {
            let train = &mut pipeline.train;
            (train.lookback, train.horizon, train.hidden, train.epochs, train.seed) = (12, 4, 8, 1, seed);
        });
        trained(&pipeline).to_bytes()
    };
    let first = bytes(1);
    assert_eq!(first, bytes(1));
    assert_ne!(first, bytes(2));
}

/// A pulse train of two phases: which one it is, a window of the last four steps does not tell.
fn pulses(state: StateKind) -> Model {
    let period = 10;
    let values = (0..6000i64).map(|step| f64::from(u8::from((step + step / 3000) % period == 0)));
    let mut pipeline = sample("sensors.toml", |pipeline| {
        let train = &mut pipeline.train;
        (train.memory, train.calendar, train.state) = (false, vec![], state);
        (train.lookback, train.segment, train.horizon, train.hidden, train.epochs) = (4, 1, 3, 16, 30);
        (train.scaling, train.learning_rate, train.batch) = (Scaling::Fixed, 0.01, 64);
        // Against absolute errors it is hard to learn more than that pulses are rare.
        train.loss = Loss::Mse;
    });
    if state == StateKind::Carried {
        pipeline.train.lookback = 40;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pulses.parquet");
    let row = |(step, value): (i64, f64)| Row {
        series: "pulses".into(),
        time: step * 3600 * SECOND,
        targets: vec![value],
        covariates: vec![],
        ahead: vec![],
    };
    let rows: Vec<Row> = (0..).zip(values).map(row).collect();
    write_parquet(&path, &Case::default().batch(0, &rows));
    let data = dataset::read(&pipeline, &path, |_, _| ()).expect("it was written");
    let (model, _) =
        train(&pipeline, &data.history, data.summary, |_| ControlFlow::Continue(())).expect("it trains");
    model
}

#[test]
fn a_carried_state_knows_what_no_short_window_shows() {
    let mae = |state| test_score(&pulses(state)).mae;
    let (carried, window) = (mae(StateKind::Carried), mae(StateKind::Window));
    assert!(carried < 0.2 * window, "{carried} {window}");
}

/// What came of learning from `checkpoint` until `stop`: the model, the last checkpoint, and what was said of the first.
struct Went {
    model: Vec<u8>,
    complete: bool,
    checkpoint: Vec<u8>,
    notes: Vec<String>,
}

fn went(pipeline: &Pipeline, checkpoint: Option<&[u8]>, stop: impl Fn(Step) -> bool) -> Went {
    let path = &pipeline.parquet_source.as_ref().expect("the sample has history").path;
    let data = dataset::read(pipeline, path, |_, _| ()).expect("the sample can be read");
    let (mut kept, mut notes) = (Vec::new(), Vec::new());
    let learned = resume(pipeline, &data.history, data.summary, checkpoint, |progress| {
        match progress {
            Progress::Checkpoint(checkpoint) => kept = checkpoint.bytes(),
            Progress::Resumes { epochs } => notes.push(format!("after {epochs}")),
            Progress::Ignores { why } => notes.push(why),
            Progress::Step(step) if stop(step) => return ControlFlow::Break(()),
            _ => {}
        }
        ControlFlow::Continue(())
    });
    let (model, outcome) = learned.expect("it trains");
    Went { model: model.to_bytes(), complete: outcome.complete, checkpoint: kept, notes }
}

fn short(seed: u64) -> Pipeline {
    sample("motes.toml", |pipeline| {
        let train = &mut pipeline.train;
        (train.lookback, train.horizon, train.hidden, train.epochs, train.seed) = (12, 4, 8, 3, seed);
        train.batch = 1024;
    })
}

#[test]
fn learning_that_was_broken_off_ends_where_it_would_have_ended() {
    let pipeline = short(1);
    let whole = went(&pipeline, None, |_| false);
    assert!(whole.complete && whole.notes.is_empty());
    let first = went(&pipeline, None, |step| step.validation.is_some());
    assert!(!first.complete && first.model != whole.model);
    let second = went(&pipeline, Some(&first.checkpoint), |step| {
        assert!(step.epoch > 1 && step.batches > 3, "{step:?}");
        (step.epoch, step.batch) == (2, 3)
    });
    assert_eq!((second.complete, second.notes), (false, vec!["after 1".to_owned()]));
    let third = went(&pipeline, Some(&second.checkpoint), |step| {
        assert!(step.epoch > 2 || step.batch > 3, "{step:?}");
        false
    });
    assert_eq!((third.complete, third.notes), (true, vec!["after 1".to_owned()]));
    assert_eq!(third.model, whole.model);
    assert_eq!(third.checkpoint, whole.checkpoint);
    let again = went(&pipeline, Some(&third.checkpoint), |_| unreachable!("all epochs are over"));
    assert_eq!(again.model, whole.model);
}

#[test]
fn a_checkpoint_of_anything_else_is_ignored_with_a_note() {
    let mut pipeline = short(1);
    pipeline.train.epochs = 1;
    let whole = went(&pipeline, None, |_| false);
    let ignored = |checkpoint: &[u8]| {
        let went = went(&pipeline, Some(checkpoint), |_| false);
        assert_eq!(went.model, whole.model);
        went.notes.join(", ")
    };
    let other = went(&short(2), None, |step| step.batch == 1).checkpoint;
    assert_eq!(ignored(&other), "it is of another recipe, other data or another build");
    assert!(ignored(&whole.checkpoint[..whole.checkpoint.len() / 2]).starts_with("cut short"));
    assert!(ignored(&whole.model).contains("no `tidecast-checkpoint`"));
    let (mut all, text) = tensors::read(&whole.checkpoint, "tidecast-checkpoint").unwrap();
    let damaged = |text: &str, all: &tensors::Tensors| tensors::write(all, "tidecast-checkpoint", text);
    let swapped = text.replace("\"epochs\":1", "\"epochs\":0");
    assert_eq!(ignored(&damaged(&swapped, &all)), "its counts contradict each other");
    all.remove("squares.head.bias");
    assert!(ignored(&damaged(&text, &all)).starts_with("tensor `head.bias` of shape [4] is missing"));
}

#[test]
fn the_committed_models_fit_their_pipelines_and_beat_what_costs_nothing() {
    for (name, seasonal) in [("sensors", true), ("motes", false)] {
        let bytes =
            std::fs::read(folder().join(name).join("model.safetensors")).expect("the sample has a model");
        let model = Model::from_bytes(&bytes).expect("the sample's model is sound");
        let pipeline = sample(&format!("{name}.toml"), |_| ());
        assert_eq!(
            model.description.recipe,
            serde_json::to_value(&pipeline.train).expect("plain values"),
            "{name}"
        );
        let score = test_score(&model);
        let baseline =
            if seasonal { score.seasonal_naive.expect("a year has days") } else { score.repeat_last };
        assert!(score.mae < baseline, "{name}: {score:?}");
    }
}
