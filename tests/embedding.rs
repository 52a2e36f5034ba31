//! What is learned of each series: two that look alike at every moment and go on differently are told apart by nothing else.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use tidecast::config::Pipeline;
use tidecast_core::forecaster::{Forecaster, SeriesStore, Setup, RowDiagnostics};
use tidecast_core::intervals::CalibrationMode;
use tidecast_core::model::{DataSummary, Model, ScoredSplit};
use tidecast_core::network::Random;
use tidecast_core::series::{Retention, RowCounters};
use tidecast_train::{History, Recorder, train};

use crate::harness::{Came, Case, Row, row};

const HOUR: i64 = 3600;

/// Cells alone that read one value and nothing of the time.
fn pipeline(more: &str) -> Pipeline {
    let text = format!(
        "[columns]\nseries = \"sensor\"\ntime = \"time\"\ntargets = [\"value\"]\n\
         [grid]\nevery = \"1h\"\ncomplete_after = 1\n\
         [forecast]\nmodel = \"m\"\nlevels = [0.8]\n\
         [train]\nmemory = false\nscaling = \"fixed\"\ncalendar = []\nhorizon = 1\nlookback = 1\nhidden = 8\n\
         epochs = 30\nbatch = 64\nlearning_rate = 0.01\n{more}"
    );
    Pipeline::from_text(Path::new("p.toml"), &text, &|_| None).expect("the pipeline is sound")
}

/// x(t + 1) = φ x(t) + ε: one series holds on to what was, the other turns it over. Both are of one spread.
fn rows(ids: &[(&str, f64)]) -> Vec<Row> {
    let mut random = Random::new(3);
    let mut last = vec![0.0; ids.len()];
    let mut rows = Vec::new();
    for hour in 0..2000 {
        for ((id, factor), last) in ids.iter().zip(&mut last) {
            *last = factor * *last + f64::from(random.within(1.0));
            rows.push(row(id, hour * HOUR, *last));
        }
    }
    rows
}

fn case(pipeline: &Pipeline) -> Case {
    Case { columns: pipeline.columns.clone(), rules: pipeline.rules.clone(), horizon: 1, ..Case::default() }
}

fn history(pipeline: &Pipeline, rows: &[Row]) -> History {
    let case = case(pipeline);
    let mut histories = SeriesStore::new(case.columns.clone(), case.rules.clone(), Retention::new(10), 1, 1000);
    let (mut recorder, mut tally, mut unused) = (Recorder::default(), RowCounters::default(), RowDiagnostics::default());
    histories
        .push(&case.batch(0, rows), &mut tally, &mut unused, |closing| recorder.add(&case.rules, closing));
    recorder.history
}

fn learned(pipeline: &Pipeline, rows: &[Row]) -> Model {
    let history = history(pipeline, rows);
    let learned = train(pipeline, &history, DataSummary::default(), |_| ControlFlow::Continue(()));
    learned.expect("it trains").0
}

fn test_error(model: &Model) -> f64 {
    model.manifest.scores.iter().find(|score| score.split == ScoredSplit::Test).expect("a part is left").mae
}

#[test]
fn two_series_that_only_their_numbers_tell_apart_are_told_apart() {
    let rows = rows(&[("holds", 0.9), ("turns", -0.9)]);
    let with = learned(&pipeline("embedding = 2\n"), &rows);
    let without = learned(&pipeline(""), &rows);
    assert_eq!(
        with.manifest.series.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(),
        ["holds", "turns"]
    );
    let (found, alike) = (test_error(&with), test_error(&without));
    assert!(found < 0.65 * alike, "{found}, alike {alike}");

    // The file reads back, and an id that it does not know is forecast, as neither of them.
    let bytes = with.to_bytes();
    assert_eq!(Model::from_bytes(&bytes).unwrap().to_bytes(), bytes);
    let pipeline = pipeline("embedding = 2\n");
    let case = case(&pipeline);
    let setup = Setup {
        columns: case.columns.clone(),
        rules: case.rules.clone(),
        every: 1,
        levels: vec![0.8],
        calibration: CalibrationMode::Online,
        scoring: None,
        model: Arc::new(with),
        every_text: pipeline.every_text(),
        capacity: 10.into(),
    };
    let mut came = Came::default();
    // The first row of an id waits for a second one.
    let alike: Vec<Row> =
        (0..3).flat_map(|hour| ["holds", "turns", "new"].map(|id| row(id, hour * HOUR, 1.0))).collect();
    came.add(Forecaster::new(Arc::new(setup)).push(&case.batch(0, &alike)));
    let said = ["holds", "turns", "new"]
        .map(|id| f32::from_bits(came.of(id).last().expect("it is forecast").bits[0][0]));
    assert!(said[0] > 0.5 && said[1] < -0.5 && said[2] < said[0] && said[2] > said[1], "{said:?}");
}

#[test]
fn too_many_series_for_numbers_of_their_own_are_an_error() {
    let names: Vec<String> = (0..257).map(|i| format!("s{i}")).collect();
    let rows: Vec<Row> =
        (0..20).flat_map(|hour| names.iter().map(move |id| row(id, hour * HOUR, hour as f64))).collect();
    let pipeline = pipeline("embedding = 1\n");
    let history = history(&pipeline, &rows);
    let error = train(&pipeline, &history, DataSummary::default(), |_| ControlFlow::Continue(()));
    let error = error.unwrap_err().to_string();
    let why =
        "train.embedding is 1, but the history has 257 series: at most 256 may have numbers of their own";
    assert!(error.starts_with(why), "{error}");
}
