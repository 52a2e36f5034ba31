//! Embeddings of series: two series that look alike at every step and continue differently need one to be told apart.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use tidecast::config::Pipeline;
use tidecast_core::forecaster::Forecaster;
use tidecast_core::model::{DataSummary, Model, ScoredSplit};
use tidecast_core::network::Random;
use tidecast_train::train;

use crate::harness::{Case, Collected, Row, row};

const HOUR: i64 = 3600;

/// Windowed cells that read one value and no calendar; `keys` are added to `[train]`.
fn pipeline(keys: &str) -> Pipeline {
    let text = format!(
        "[columns]\nseries = \"sensor\"\ntime = \"time\"\ntargets = [\"value\"]\n\
         [grid]\nevery = \"1h\"\ncomplete_after = 1\n\
         [forecast]\nmodel = \"m\"\nlevels = [0.8]\n\
         [train]\nrecurrence = false\nscaling = \"fixed\"\ncalendar = []\nhorizon = 1\nlookback = 1\nhidden = 8\n\
         epochs = 30\nbatch_size = 64\nlearning_rate = 0.01\n{keys}"
    );
    Pipeline::from_text(Path::new("p.toml"), &text, &|_| None).expect("the pipeline is valid")
}

/// x(t + 1) = φ x(t) + ε, with a φ for each series. Opposite signs of φ give equal variances.
fn rows(series: &[(&str, f64)]) -> Vec<Row> {
    let mut random = Random::new(3);
    let mut last = vec![0.0; series.len()];
    let mut rows = Vec::new();
    for hour in 0..2000 {
        for ((id, factor), last) in series.iter().zip(&mut last) {
            *last = factor * *last + f64::from(random.uniform(1.0));
            rows.push(row(id, hour * HOUR, *last));
        }
    }
    rows
}

fn case(pipeline: &Pipeline) -> Case {
    let (columns, step_config) = (pipeline.columns.clone(), pipeline.step_config.clone());
    Case { columns, step_config, horizon: 1, ..Case::default() }
}

fn trained(pipeline: &Pipeline, rows: &[Row]) -> Model {
    let history = case(pipeline).history(rows);
    let trained =
        train(&pipeline.training(), &history, DataSummary::default(), |_| ControlFlow::Continue(()));
    trained.expect("training succeeds").0
}

fn test_mae(model: &Model) -> f64 {
    let score = model.manifest.scores.iter().find(|score| score.split == ScoredSplit::Test);
    score.expect("the history has a test split").mae
}

#[test]
fn an_embedding_distinguishes_series_with_equal_inputs() {
    let rows = rows(&[("holds", 0.9), ("turns", -0.9)]);
    let pipeline = pipeline("embedding = 2\n");
    let model = trained(&pipeline, &rows);
    let ids: Vec<_> = model.manifest.series.iter().map(|key| key.id.as_str()).collect();
    assert_eq!(ids, ["holds", "turns"]);
    let (with, without) = (test_mae(&model), test_mae(&trained(&self::pipeline(""), &rows)));
    assert!(with < 0.65 * without, "{with} with embedding, {without} without");

    let bytes = model.to_bytes();
    assert_eq!(Model::from_bytes(&bytes).unwrap().to_bytes(), bytes);

    // An unknown id gets a forecast between those of the known ones.
    let case = case(&pipeline);
    let mut forecaster = Forecaster::new(Arc::new(case.setup_with(model, &[0.8])));
    let ids = ["holds", "turns", "new"];
    // The first row of a series is a candidate.
    let equal: Vec<Row> = (0..3).flat_map(|hour| ids.map(|id| row(id, hour * HOUR, 1.0))).collect();
    let mut output = Collected::default();
    output.add(forecaster.push(&case.batch(0, &equal)));
    let [holds, turns, new] =
        ids.map(|id| f32::from_bits(output.forecasts_of(id).last().expect("the series is warm").bits[0][0]));
    assert!(holds > 0.5 && turns < -0.5 && new < holds && new > turns, "{holds} {turns} {new}");
}

#[test]
fn an_embedding_of_too_many_series_is_an_error() {
    let ids: Vec<String> = (0..257).map(|i| format!("s{i}")).collect();
    let rows: Vec<Row> =
        (0..20).flat_map(|hour| ids.iter().map(move |id| row(id, hour * HOUR, hour as f64))).collect();
    let pipeline = pipeline("embedding = 1\n");
    let history = case(&pipeline).history(&rows);
    let result = train(&pipeline.training(), &history, DataSummary::default(), |_| ControlFlow::Continue(()));
    let error = result.unwrap_err().to_string();
    assert!(error.starts_with("train.embedding is 1, but the history has 257 series"), "{error}");
}
