//! Series driven by an exogenous input, as a covariate or as a future covariate: the readout of the recurrence learns to use
//! it, and a backfill has the error that training reports.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use tidecast::config::Pipeline;
use tidecast::dataset;
use tidecast_core::model::{Model, ScoredSplit};
use tidecast_core::schema::format_time;
use tidecast_stream::driver::OnEndOfInput;
use tidecast_train::train;

use crate::harness::{Case, Forecast, Row, SECOND, drive_to_memory, forecasts, parquet, row, write_parquet};

const HOUR: i64 = 3600;
const STEPS: i64 = 1200;
const SERIES: [&str; 2] = ["a", "b"];

/// Role of the input.
#[derive(Clone, Copy)]
enum Input {
    /// Its value determines the target of the next step.
    Covariate,
    /// Its values for the horizon determine the targets of those steps.
    FutureCovariate,
}

impl Input {
    fn horizon(self) -> usize {
        match self {
            Self::Covariate => 1,
            Self::FutureCovariate => 4,
        }
    }

    fn key(self) -> &'static str {
        match self {
            Self::Covariate => "covariates = [\"driver\"]",
            Self::FutureCovariate => "future_covariates = [\"driver\"]",
        }
    }

    /// An hourly pipeline with one more key in `[columns]`.
    fn pipeline(self, key: &str) -> Pipeline {
        let text = format!(
            r#"
            [columns]
            series = "sensor"
            time = "time"
            targets = ["value"]
            {key}
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
        Pipeline::from_text(&folder.path().join("p.toml"), &text, &|_| None).expect("the pipeline is valid")
    }

    /// The target is the input of its step plus a little noise, unpredictable from past targets.
    fn row(self, series: usize, step: i64) -> Row {
        let input = |step: i64| 3.0 * noise(series, step, 1);
        let mut row = row(SERIES[series], HOUR * step, 20.0 + input(step) + 0.1 * noise(series, step, 2));
        match self {
            Self::Covariate => row.covariates = vec![input(step + 1)],
            Self::FutureCovariate => {
                row.future = vec![(1..=self.horizon() as i64).map(|i| input(step + i)).collect()];
            }
        }
        row
    }
}

/// A hash in [-1, 1), without a season or autocorrelation.
fn noise(series: usize, step: i64, stream: u64) -> f64 {
    let mut bits = (step as u64) << 8 | (series as u64) << 4 | stream;
    for _ in 0..3 {
        bits = (bits ^ bits >> 31).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
    (bits >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// Errors of one model on the test split.
struct Errors {
    model: Arc<Model>,
    /// As training reports it.
    trained: f64,
    /// Of a backfill's output.
    backfilled: f64,
}

/// Trains and backfills with one more key in `[columns]`.
async fn errors(input: Input, key: &str) -> Errors {
    let pipeline = input.pipeline(key);
    let case = Case {
        columns: pipeline.columns.clone(),
        step_config: pipeline.step_config.clone(),
        ..Case::default()
    };
    let rows: Vec<Row> =
        (0..STEPS).flat_map(|step| (0..SERIES.len()).map(move |series| input.row(series, step))).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("readings.parquet");
    write_parquet(&path, &case.batch(0, &rows));
    let data = dataset::read(&pipeline, &path, |_, _| ()).expect("the file is readable");
    let (model, _) = train(&pipeline.training(), &data.history, data.summary, |_| ControlFlow::Continue(()))
        .expect("training succeeds");
    let score = model.manifest.scores.iter().find(|score| score.split == ScoredSplit::Test);
    let trained = score.expect("the history has a test split").mae;

    let setup = Arc::new(case.setup_with(model, &[]));
    let mut source = parquet(&path, &pipeline.columns);
    let (_, outputs) = drive_to_memory(&mut source, setup.clone(), OnEndOfInput::CloseSteps).await;
    let forecasts: Vec<_> = outputs.iter().flat_map(|output| forecasts(&output.forecasts)).collect();
    let model = setup.model.clone();
    Errors { trained, backfilled: mean_absolute_error(&rows, &forecasts, &model), model }
}

/// Mean absolute error of the forecasts in the test split, in standard deviations of each series in the training split.
fn mean_absolute_error(rows: &[Row], forecasts: &[Forecast], model: &Model) -> f64 {
    let actuals: BTreeMap<(&str, i64), f64> =
        rows.iter().map(|row| ((row.series.as_str(), row.time / SECOND), row.targets[0])).collect();
    let data = &model.manifest.data;
    let spread = |series: &str| {
        let values = rows.iter().filter(|row| row.series == series && format_time(row.time) < data.train_end);
        let values: Vec<f64> = values.map(|row| row.targets[0]).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
    };
    let spreads: BTreeMap<&str, f64> = SERIES.map(|series| (series, spread(series))).into();
    let (mut sum, mut count) = (0.0, 0.0);
    for forecast in
        forecasts.iter().filter(|forecast| format_time(forecast.origin * SECOND) >= data.validation_end)
    {
        let series = forecast.series.as_str();
        let times = (1..).map(|i| forecast.origin + i * HOUR);
        let values = forecast.bits[0].iter().map(|bits| f64::from(f32::from_bits(*bits)));
        let pairs: Option<Vec<_>> =
            times.zip(values).map(|(time, value)| Some((actuals.get(&(series, time))?, value))).collect();
        // Only horizons that lie in the rows.
        for (actual, value) in pairs.into_iter().flatten() {
            sum += (actual - value).abs() / spreads[series];
            count += 1.0;
        }
    }
    assert!(count > 100.0, "{count} values");
    sum / count
}

async fn assert_used(input: Input) {
    let with = errors(input, input.key()).await;
    assert!(with.model.cells.is_none() && with.model.recurrence.is_some());
    let without = errors(input, "").await;
    assert!(
        without.trained > 0.5 && without.backfilled > 0.5,
        "the targets are unpredictable without the input: {} {}",
        without.trained,
        without.backfilled
    );
    assert!(with.trained < 0.2 * without.trained, "{} with, {} without", with.trained, without.trained);
    for Errors { trained, backfilled, .. } in [with, without] {
        assert!(
            (trained - backfilled).abs() < 1e-3 * trained,
            "{trained} in training, {backfilled} in backfill"
        );
    }
}

#[tokio::test]
async fn a_covariate_that_determines_the_next_step_is_used() {
    assert_used(Input::Covariate).await;
}

#[tokio::test]
async fn future_covariates_are_used_over_the_whole_horizon() {
    assert_used(Input::FutureCovariate).await;
}
