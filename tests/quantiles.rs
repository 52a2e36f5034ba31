//! Quantiles of the cells: if the noise depends on the hour, bounds that know the hour are narrower at equal coverage.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use tidecast::config::Pipeline;
use tidecast_core::forecaster::{Forecaster, Setup};
use tidecast_core::intervals::CalibrationMode;
use tidecast_core::metrics::Interval;
use tidecast_core::model::{DataSummary, Model};
use tidecast_core::network::Random;
use tidecast_train::{TrainingReport, train};

use crate::harness::{Case, Collected, Row, row};

const HOUR: i64 = 3600;
const HOURS: i64 = 2400;
const IDS: [&str; 3] = ["a", "b", "c"];
const HORIZON: usize = 4;
const LEVEL: f64 = 0.8;

/// An hourly pipeline; `keys` are added to `[train]`.
fn pipeline(keys: &str) -> Pipeline {
    let text = format!(
        "[columns]\nseries = \"sensor\"\ntime = \"time\"\ntargets = [\"value\"]\n\
         [grid]\nevery = \"1h\"\ncomplete_after = 1\n\
         [forecast]\nmodel = \"m\"\nlevels = [{LEVEL}]\n\
         [train]\nhorizon = {HORIZON}\nlookback = 12\nhidden = 12\nepochs = 12\nbatch_size = 64\n{keys}"
    );
    Pipeline::from_text(Path::new("p.toml"), &text, &|_| None).expect("the pipeline is valid")
}

/// A daily wave plus `noise` of the hour and a nearly normal number.
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

fn calm_nights() -> Vec<Row> {
    rows(|hour, normal| if hour % 24 < 12 { 0.1 * normal } else { 2.0 * normal })
}

fn case(pipeline: &Pipeline) -> Case {
    let (columns, step_config) = (pipeline.columns.clone(), pipeline.step_config.clone());
    Case { columns, step_config, horizon: HORIZON, ..Case::default() }
}

fn trained(pipeline: &Pipeline, rows: &[Row]) -> (Model, TrainingReport) {
    let history = case(pipeline).history(rows);
    train(&pipeline.training(), &history, DataSummary::default(), |_| ControlFlow::Continue(()))
        .expect("training succeeds")
}

/// Mean interval score and coverage on the last fifth of the hours, without online calibration.
fn interval_score(pipeline: &Pipeline, model: Model, rows: &[Row]) -> (f64, f64) {
    let case = case(pipeline);
    let setup =
        Setup { calibration: CalibrationMode::Fixed, ..case.setup_with(model, &pipeline.forecast.levels) };
    let mut output = Collected::default();
    output.add(Forecaster::new(Arc::new(setup)).push(&case.batch(0, rows)));
    let (mut score, mut covered, mut count) = (0.0, 0.0, 0.0);
    for forecast in output.forecasts.iter().filter(|forecast| forecast.origin >= HOURS / 5 * 4 * HOUR) {
        let series = IDS.iter().position(|id| *id == forecast.series).expect("a known series");
        for step in 0..HORIZON {
            let hour = forecast.origin / HOUR + 1 + step as i64;
            let Some(row) = rows.get(hour as usize * IDS.len() + series) else { continue };
            let [lower, upper] = [1, 2].map(|list| f64::from(f32::from_bits(forecast.bits[list][step])));
            let interval = Interval { level: LEVEL, lower, upper };
            score += interval.score(row.targets[0]);
            covered += f64::from(interval.contains(row.targets[0]));
            count += 1.0;
        }
    }
    (score / count, covered / count)
}

#[test]
fn quantiles_score_better_at_equal_coverage_if_the_noise_depends_on_the_hour() {
    let rows = calm_nights();
    for recurrence in ["", "recurrence = false\n"] {
        let plain = pipeline(recurrence);
        let quantiles = pipeline(&format!("{recurrence}quantiles = true\n"));
        let (model, report) = trained(&quantiles, &rows);
        assert_eq!(model.manifest.probabilities().len(), 2, "{:?}", report.decisions);
        let (with, coverage) = interval_score(&quantiles, model, &rows);
        let (without, _) = interval_score(&plain, trained(&plain, &rows).0, &rows);
        assert!(with < 0.85 * without, "{recurrence}: {with} with quantiles, {without} without");
        assert!((coverage - LEVEL).abs() < 0.04, "{recurrence}: {coverage}");
    }
}

#[test]
fn quantiles_are_dropped_if_the_noise_is_constant() {
    let pipeline = pipeline("quantiles = true\n");
    let (model, report) = trained(&pipeline, &rows(|_, normal| normal));
    assert!(model.manifest.probabilities().is_empty());
    let decision =
        report.decisions.iter().find(|decision| decision.action == "drop the 2 quantiles of the cells");
    let reason = &decision.expect("the decision is reported").reason;
    assert!(reason.contains("relative to constant quantiles"), "{reason}");
    assert!(reason.contains("the limit is 0.99"), "{reason}");
}

#[test]
fn a_model_with_quantiles_is_reproducible_and_can_be_read_back() {
    let pipeline = pipeline("quantiles = true\n");
    let rows = calm_nights();
    let bytes = trained(&pipeline, &rows).0.to_bytes();
    assert_eq!(trained(&pipeline, &rows).0.to_bytes(), bytes);
    let model = Model::from_bytes(&bytes).unwrap();
    assert_eq!(model.to_bytes(), bytes);
    let offsets = model.residuals.unwrap().offsets.unwrap();
    assert_eq!((offsets.per_series.len(), offsets.pooled.values().len()), (IDS.len(), 2 * HORIZON));
    assert!(offsets.per_series.iter().any(|series| *series != offsets.pooled));
}
