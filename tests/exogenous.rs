//! Series that something else drives: a covariate known up to the origin, or an input known ahead. The memory's readout
//! learns to use either, and its forecasts are as good in a backfill as training says that they are.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use tidecast::config::Pipeline;
use tidecast::dataset;
use tidecast_core::forecaster::Setup;
use tidecast_core::intervals::CalibrationMode;
use tidecast_core::model::{Model, Score, ScoredSplit};
use tidecast_core::schema::format_time;
use tidecast_train::train;

use crate::harness::{Came, Case, Row, SECOND, driven, forecasts, parquet, row, write_parquet};

const HOUR: i64 = 3600;
const STEPS: i64 = 1200;
const SERIES: [&str; 2] = ["a", "b"];

/// What drives the series, and how far ahead it tells of them.
#[derive(Clone, Copy)]
enum Driver {
    /// Its value at a step is what comes at the next one.
    Covariate,
    /// Its values of the horizon are those that come.
    KnownAhead,
}

impl Driver {
    fn horizon(self) -> usize {
        match self {
            Self::Covariate => 1,
            Self::KnownAhead => 4,
        }
    }

    /// An hourly pipeline that names the driver, or one that does not.
    fn pipeline(self, named: bool) -> Pipeline {
        let input = match self {
            Self::Covariate if named => "covariates = [\"driver\"]",
            Self::KnownAhead if named => "future_covariates = [\"driver\"]",
            _ => "",
        };
        let text = format!(
            r#"
            [columns]
            series = "sensor"
            time = "time"
            targets = ["value"]
            {input}
            [grid]
            every = "1h"
            complete_after = 1
            [forecast]
            model = "unused.safetensors"
            [source.parquet]
            path = "readings.parquet"
            [sink.parquet]
            path = "unused"
            [train]
            cell = "none"
            horizon = {}
            "#,
            self.horizon()
        );
        let folder = tempfile::tempdir().expect("a folder");
        Pipeline::from_text(&folder.path().join("p.toml"), &text, &|_| None).expect("the pipeline is sound")
    }

    /// The reading of a step is what drives it there and a little noise: without the driver nothing tells it.
    fn row(self, id: usize, step: i64) -> Row {
        let drives = |step: i64| 3.0 * noise(id, step, 1);
        let mut row = row(SERIES[id], HOUR * step, 20.0 + drives(step) + 0.1 * noise(id, step, 2));
        match self {
            Self::Covariate => row.covariates = vec![drives(step + 1)],
            Self::KnownAhead => {
                row.ahead = vec![(1..=self.horizon() as i64).map(|i| drives(step + i)).collect()]
            }
        }
        row
    }
}

/// In [-1, 1), without a pattern that a season or a decay could follow.
fn noise(id: usize, step: i64, which: u64) -> f64 {
    let mut bits = (step as u64) << 8 | (id as u64) << 4 | which;
    for _ in 0..3 {
        bits = (bits ^ bits >> 31).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
    (bits >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// Trains on the rows, then forecasts them as a backfill does: the model, training's own score of the test part, and the
/// score of the same forecasts as they came out.
async fn scores(driver: Driver, named: bool) -> (Arc<Model>, Score, f64) {
    let pipeline = driver.pipeline(named);
    let case = Case { columns: pipeline.columns.clone(), ..Case::default() };
    let rows: Vec<Row> =
        (0..STEPS).flat_map(|step| (0..SERIES.len()).map(move |id| driver.row(id, step))).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("readings.parquet");
    write_parquet(&path, &case.batch(0, &rows));
    let data = dataset::read(&pipeline, &path, |_, _| ()).expect("the rows can be read");
    let trained = train(&pipeline, &data.history, data.summary, |_| ControlFlow::Continue(()));
    let model = Arc::new(trained.expect("it trains").0);
    let score =
        model.manifest.scores.iter().find(|score| score.split == ScoredSplit::Test).expect("a test part").clone();

    let setup = Setup {
        columns: pipeline.columns.clone(),
        rules: pipeline.rules.clone(),
        every: 1,
        levels: vec![],
        calibration: CalibrationMode::Online,
        scoring: None,
        model: Arc::clone(&model),
        every_text: pipeline.every_text(),
        capacity: 10.into(),
    };
    let (_, outputs) = driven(&mut parquet(&path, &pipeline.columns), Arc::new(setup), true).await;
    let forecasts = outputs.iter().flat_map(|output| forecasts(&output.forecasts)).collect();
    let came = Came { forecasts, ..Came::default() };
    let backfilled = error(&rows, &came, &model);
    (model, score, backfilled)
}

/// Mean absolute error of the forecasts whose whole horizon lies in the test part, in standard deviations that each series
/// has in the training part.
fn error(rows: &[Row], came: &Came, model: &Model) -> f64 {
    let actual: BTreeMap<(&str, i64), f64> =
        rows.iter().map(|row| ((row.series.as_str(), row.time / SECOND), row.targets[0])).collect();
    let (trained, validated) =
        (&model.manifest.data.train_end, &model.manifest.data.validation_end);
    let spread = |series: &str| {
        let values = rows.iter().filter(|row| row.series == series && format_time(row.time) < *trained);
        let values: Vec<f64> = values.map(|row| row.targets[0]).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
    };
    let spreads: BTreeMap<&str, f64> = SERIES.map(|series| (series, spread(series))).into();
    let (mut sum, mut count) = (0.0, 0.0);
    for forecast in &came.forecasts {
        let series = forecast.series.as_str();
        let values = forecast.bits[0].iter().map(|bits| f64::from(f32::from_bits(*bits)));
        let pairs =
            (1..).zip(values).map(|(i, value)| (actual.get(&(series, forecast.origin + i * HOUR)), value));
        let pairs: Vec<_> = pairs.collect();
        let whole = pairs.iter().all(|(actual, _)| actual.is_some());
        if whole && format_time(forecast.origin * SECOND) >= *validated {
            for (actual, value) in pairs {
                sum += (actual.expect("it is whole") - value).abs() / spreads[series];
                count += 1.0;
            }
        }
    }
    assert!(count > 100.0, "{count} values");
    sum / count
}

async fn assert_used(driver: Driver) {
    let (model, with, backfilled) = scores(driver, true).await;
    assert!(model.cells.is_none() && model.recurrence.is_some());
    let (_, without, blind) = scores(driver, false).await;
    assert!(without.mae > 0.5 && blind > 0.5, "nothing else tells what comes: {without:?}, {blind}");
    assert!(with.mae < 0.2 * without.mae, "{} with it, {} without", with.mae, without.mae);
    for (trained, backfilled) in [(with.mae, backfilled), (without.mae, blind)] {
        assert!(
            (trained - backfilled).abs() < 1e-3 * trained,
            "training says {trained}, the backfill {backfilled}"
        );
    }
}

#[tokio::test]
async fn a_covariate_that_drives_the_next_step_is_used() {
    assert_used(Driver::Covariate).await;
}

#[tokio::test]
async fn inputs_known_ahead_are_used_for_the_whole_horizon() {
    assert_used(Driver::KnownAhead).await;
}
