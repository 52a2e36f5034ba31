//! Training on the samples: it learns, and the same seed gives the same file.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use tidecast::config::Pipeline;
use tidecast::dataset;
use tidecast::model::{Model, Score};
use tidecast::train::train;

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
