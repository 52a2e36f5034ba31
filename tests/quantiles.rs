//! Learned quantiles: where the noise depends on the hour, bounds that know the hour are narrower and as often right.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use tidecast::config::Pipeline;
use tidecast_core::forecaster::{Forecaster, SeriesStore, Setup, RowDiagnostics};
use tidecast_core::intervals::CalibrationMode;
use tidecast_core::model::{DataSummary, Model};
use tidecast_core::network::Random;
use tidecast_core::series::{Retention, RowCounters};
use tidecast_train::{History, Outcome, Recorder, train};

use crate::harness::{Came, Case, Row, row};

const HOUR: i64 = 3600;
const HOURS: i64 = 2400;
const IDS: [&str; 3] = ["a", "b", "c"];
const HORIZON: usize = 4;
const LEVEL: f64 = 0.8;

/// A recipe over hourly rows, with `more` keys.
fn pipeline(more: &str) -> Pipeline {
    let text = format!(
        "[columns]\nseries = \"sensor\"\ntime = \"time\"\ntargets = [\"value\"]\n\
         [grid]\nevery = \"1h\"\ncomplete_after = 1\n\
         [forecast]\nmodel = \"m\"\nlevels = [{LEVEL}]\n\
         [train]\nhorizon = {HORIZON}\nlookback = 12\nhidden = 12\nepochs = 12\nbatch = 64\n{more}"
    );
    Pipeline::from_text(Path::new("p.toml"), &text, &|_| None).expect("the pipeline is sound")
}

/// A reading an hour of each id: a day's wave, and what `noise` makes of the hour and of a number that is about normal.
fn rows(noise: impl Fn(i64, f64) -> f64) -> Vec<Row> {
    let mut random = Random::new(5);
    let mut normal = || (0..12).map(|_| f64::from(random.unit())).sum::<f64>() - 6.0;
    let mut rows = Vec::new();
    for hour in 0..HOURS {
        let wave = (hour as f64 * std::f64::consts::TAU / 24.0).sin();
        rows.extend(IDS.map(|id| row(id, hour * HOUR, 20.0 + 3.0 * wave + noise(hour, normal()))));
    }
    rows
}

/// The nights are calm.
fn calm_nights() -> Vec<Row> {
    rows(|hour, normal| if hour % 24 < 12 { 0.1 * normal } else { 2.0 * normal })
}

fn case(pipeline: &Pipeline) -> Case {
    let (columns, rules) = (pipeline.columns.clone(), pipeline.rules.clone());
    Case { columns, rules, horizon: HORIZON, ..Case::default() }
}

fn history(pipeline: &Pipeline, rows: &[Row]) -> History {
    let case = case(pipeline);
    let mut histories =
        SeriesStore::new(case.columns.clone(), case.rules.clone(), Retention::new(100), HORIZON, 1000);
    let (mut recorder, mut tally, mut unused) = (Recorder::default(), RowCounters::default(), RowDiagnostics::default());
    histories
        .push(&case.batch(0, rows), &mut tally, &mut unused, |closing| recorder.add(&case.rules, closing));
    recorder.history
}

fn learned(pipeline: &Pipeline, rows: &[Row]) -> (Model, Outcome) {
    let history = history(pipeline, rows);
    train(pipeline, &history, DataSummary::default(), |_| ControlFlow::Continue(())).expect("it trains")
}

/// The mean interval score, and the share of what came that lay within, of forecasts of the test part: the last fifth.
fn scored(pipeline: &Pipeline, model: Model, rows: &[Row]) -> (f64, f64) {
    let case = case(pipeline);
    let setup = Setup {
        columns: case.columns.clone(),
        rules: case.rules.clone(),
        every: 1,
        levels: pipeline.forecast.levels.clone(),
        // What is learned is looked at, not what is made of it later.
        calibration: CalibrationMode::Fixed,
        scoring: None,
        model: Arc::new(model),
        every_text: pipeline.every_text(),
        capacity: 10.into(),
    };
    let mut came = Came::default();
    came.add(Forecaster::new(Arc::new(setup)).push(&case.batch(0, rows)));
    let (mut score, mut inside, mut count) = (0.0, 0.0, 0.0);
    for forecast in came.forecasts.iter().filter(|forecast| forecast.origin >= HOURS / 5 * 4 * HOUR) {
        let id = IDS.iter().position(|id| *id == forecast.series).expect("a series of ours");
        for step in 0..HORIZON {
            let hour = forecast.origin / HOUR + 1 + step as i64;
            let Some(actual) = rows.get(hour as usize * IDS.len() + id) else { continue };
            let [actual, lower, upper] = [
                actual.targets[0],
                f64::from(f32::from_bits(forecast.bits[1][step])),
                f64::from(f32::from_bits(forecast.bits[2][step])),
            ];
            // (u - l) + 2/α (l - y)+ + 2/α (y - u)+
            score +=
                upper - lower + 2.0 / (1.0 - LEVEL) * ((lower - actual).max(0.0) + (actual - upper).max(0.0));
            inside += f64::from((lower..=upper).contains(&actual));
            count += 1.0;
        }
    }
    (score / count, inside / count)
}

#[test]
fn where_noise_depends_on_the_hour_learned_quantiles_score_better_and_cover_as_much() {
    let rows = calm_nights();
    for memory in ["", "memory = false\n"] {
        let plain = pipeline(memory);
        let quantiles = pipeline(&format!("{memory}quantiles = true\n"));
        let (model, outcome) = learned(&quantiles, &rows);
        assert_eq!(model.manifest.probabilities().len(), 2, "{:?}", outcome.choices);
        let (with, coverage) = scored(&quantiles, model, &rows);
        let (without, _) = scored(&plain, learned(&plain, &rows).0, &rows);
        assert!(with < 0.85 * without, "{memory}: {with}, without {without}");
        assert!((coverage - LEVEL).abs() < 0.04, "{memory}: {coverage}");
    }
}

#[test]
fn where_noise_is_always_the_same_nothing_is_kept() {
    let pipeline = pipeline("quantiles = true\n");
    let (model, outcome) = learned(&pipeline, &rows(|_, normal| normal));
    assert!(model.manifest.probabilities().is_empty());
    let told = |what: &str| outcome.choices.iter().find(|choice| choice.what.contains(what));
    let choice = told("the cells' 2 quantiles are left out").expect("it is told");
    assert!(choice.why.contains("of that of constant ones; 0.99 is worth it"), "{}", choice.why);
}

#[test]
fn the_same_seed_gives_the_same_quantiles_in_a_file_that_reads_back() {
    let pipeline = pipeline("quantiles = true\n");
    let rows = calm_nights();
    let bytes = learned(&pipeline, &rows).0.to_bytes();
    assert_eq!(learned(&pipeline, &rows).0.to_bytes(), bytes);
    let read = Model::from_bytes(&bytes).unwrap();
    assert_eq!(read.to_bytes(), bytes);
    let corrected = read.residuals.unwrap().offsets.unwrap();
    assert_eq!((corrected.own.len(), corrected.all.values().len()), (IDS.len(), 2 * HORIZON));
    assert!(corrected.own.iter().any(|own| *own != corrected.all));
}
