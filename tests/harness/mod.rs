//! Shared fixtures of the tests: small pipelines, rows from literals, and output as comparable values.

pub mod memory;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, AsArray, Float64Array, Float64Builder, Int64Array, ListBuilder, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::Float32Type;
use tidecast_core::forecaster::{
    Forecaster, PushOutput, RowDiagnostics, Scoring, SeriesStore, Setup, StepContext,
};
use tidecast_core::intervals::{
    CalibrationMode, ConformalOffsets, ErrorQuantiles, HorizonScores, SeriesScores, probabilities,
};
use tidecast_core::model::{
    BlendWeight, CellsSpec, DataSummary, Ensemble, EnsembleSpec, Model, ModelManifest, QuantileOffsets,
    RecurrenceModel, RecurrenceSpec, ResidualQuantiles, SeriesKey,
};
use tidecast_core::network::recurrence::{LinearRecurrence, Readout};
use tidecast_core::network::{CellKind, Decoder, Network, Shape, StateKind};
use tidecast_core::schema::{Columns, Forecasts};
use tidecast_core::series::{
    Aggregate, Calendar, Capacity, GapFill, Grid, InputSpec, Moments, OPEN_STEPS_MAX, OnFull, Refusal,
    Retention, RowCounters, Scaling, StepConfig,
};
use tidecast_stream::codec::RowWriter;
use tidecast_stream::driver::{DriverOptions, OnEndOfInput, Progress, drive};
use tidecast_stream::settings::{Commit, OnDataLoss, StartOffset};
use tidecast_stream::{Output, Source};
use tidecast_tables::{ParquetSource, ReadOptions, TableWriter};
use tidecast_train::{History, HistoryRecorder};
use tokio_util::sync::CancellationToken;

use memory::MemorySink;

pub use tidecast_core::time::SECOND;

/// A small pipeline with a model of fixed weights: steps of ten seconds, a window of three, a horizon of two.
#[derive(Clone, Debug)]
pub struct Case {
    pub columns: Columns,
    pub step_config: StepConfig,
    /// `max_gap` in the model's manifest.
    pub trained_max_gap: i64,
    pub every: u32,
    pub cell: CellKind,
    pub decoder: Decoder,
    pub state: StateKind,
    pub scaling: Scaling,
    /// True if the model has a linear recurrence.
    pub recurrence: bool,
    pub recurrence_window: Option<usize>,
    pub warmup: u64,
    pub lookback: usize,
    pub segment: usize,
    /// Levels for which the cells have quantiles.
    pub quantile_levels: Vec<f64>,
    pub embedding: usize,
    pub horizon: usize,
    pub levels: Vec<f64>,
    pub volatility_gain: f32,
    pub scoring: Option<Scoring>,
    pub series_max: usize,
    pub on_full: OnFull,
    pub open_steps: usize,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            columns: Columns {
                series: Some("sensor".into()),
                only_series: "case".into(),
                time: "time".into(),
                targets: vec!["value".into()],
                covariates: vec![],
                future_covariates: vec![],
            },
            step_config: StepConfig {
                grid: Grid { every: 10 * SECOND, offset: 0 },
                aggregate: Aggregate::Mean,
                complete_after: None,
                lateness: 0,
                gap_fill: GapFill::Hold,
                max_gap: 60 * SECOND,
            },
            trained_max_gap: 60 * SECOND,
            every: 1,
            cell: CellKind::Gru,
            decoder: Decoder::Direct,
            state: StateKind::Window,
            scaling: Scaling::WindowStandard,
            recurrence: false,
            recurrence_window: None,
            warmup: 0,
            lookback: 3,
            segment: 1,
            quantile_levels: vec![],
            embedding: 0,
            horizon: 2,
            levels: vec![0.8],
            volatility_gain: 0.7,
            scoring: None,
            series_max: 1000,
            on_full: OnFull::Refuse,
            open_steps: OPEN_STEPS_MAX,
        }
    }
}

impl Case {
    pub fn model(&self) -> Model {
        let moments = Moments { mean: 20.0, sd: 5.0 };
        let inputs = InputSpec {
            change: self.state == StateKind::Carried,
            mask: self.step_config.gap_fill == GapFill::Missing,
            covariates: vec![moments; self.columns.covariates.len()],
            calendar: vec![Calendar::HourOfDay],
            future_covariates: vec![moments; self.columns.future_covariates.len()],
        };
        let shape = Shape {
            cell: self.cell,
            inputs: inputs.width() * self.segment,
            hidden: 9,
            layers: 2,
            horizon: self.horizon,
            future_covariates: inputs.future_covariates.len(),
            quantiles: 2 * self.quantile_levels.len(),
            embedding: self.embedding,
            series: if self.embedding > 0 { self.model_series().len() } else { 0 },
            decoder: self.decoder,
        };
        let manifest = ModelManifest {
            format: ModelManifest::FORMAT,
            horizon: self.horizon,
            lookback: if self.state == StateKind::Carried { 1 } else { self.lookback },
            warmup: self.warmup,
            series: self.model_series(),
            recurrence: self.recurrence.then(|| self.recurrence_spec()),
            cells: Some(CellsSpec {
                state: self.state,
                network: shape,
                segment: self.segment,
                blend_weights: vec![BlendWeight { end: self.horizon, weight: 0.5 }],
                probabilities: probabilities(&self.quantile_levels),
            }),
            step_config: StepConfig { max_gap: self.trained_max_gap, ..self.step_config.clone() },
            targets: self.columns.targets.clone(),
            covariates: self.columns.covariates.clone(),
            future_covariates: self.columns.future_covariates.clone(),
            inputs,
            scaling: self.scaling,
            moments: vec![moments; self.columns.targets.len()],
            training: serde_json::Value::Null,
            data: DataSummary::default(),
            scores: vec![],
        };
        let errors =
            (0..self.horizon).map(|i| (-50..=50).map(|e| e as f32 * (i + 1) as f32 / 50.0).collect());
        let residuals = ErrorQuantiles::pooled(errors.collect()).map(|pooled| ResidualQuantiles {
            pooled,
            per_series: vec![],
            volatility_gain: vec![self.volatility_gain],
            offsets: self.quantile_offsets(),
        });
        let recurrence = self.recurrence.then(|| self.recurrence_model(&manifest));
        Model::new(manifest, recurrence, Some(self.network(shape)), residuals)
    }

    fn quantile_offsets(&self) -> Option<QuantileOffsets> {
        let quantiles = 2 * self.quantile_levels.len();
        let offsets = |series: usize| {
            let value = |i: usize| ((i + series) * 29 % 17) as f32 / 17.0 - 0.5;
            let values = (0..quantiles * self.horizon).map(value).collect();
            ConformalOffsets::from_values(self.horizon, quantiles, values)
        };
        if quantiles == 0 {
            return None;
        }
        let per_series = (1..=self.model_series().len()).filter_map(offsets).collect();
        offsets(0).map(|pooled| QuantileOffsets { pooled, per_series })
    }

    /// The series with parameters of their own, if the model can have any.
    fn model_series(&self) -> Vec<SeriesKey> {
        let ids = if self.recurrence || self.embedding > 0 { &["a", "b", "s0", "s2"][..] } else { &[] };
        let key = |id: &&str| SeriesKey { id: id.to_string(), target: self.columns.targets[0].clone() };
        ids.iter().map(key).collect()
    }

    /// Cells with a different embedding for each series.
    fn network(&self, shape: Shape) -> Network {
        let mut tensors = Network::new(shape, 7).expect("the shape is small").tensors().clone();
        if let Some(embedding) = tensors.get_mut("embedding.weight") {
            let weights = embedding.data.iter_mut().enumerate();
            weights.for_each(|(i, weight)| *weight = 0.4 * (i % 7) as f32 - 1.0);
        }
        Network::from_tensors(shape, &tensors).expect("the tensors fit the shape")
    }

    fn recurrence_spec(&self) -> RecurrenceSpec {
        RecurrenceSpec {
            window: self.recurrence_window,
            recent_values: 2,
            per_series_features: vec![1],
            ensemble: Some(EnsembleSpec { bucket_ends: vec![1, 2], season: Some(5) }),
            penalties: vec![],
        }
    }

    /// A decay and a resonator.
    fn recurrence_model(&self, manifest: &ModelManifest) -> RecurrenceModel {
        let poles = vec![LinearRecurrence::pole(4.0, 0.0), LinearRecurrence::pole(30.0, 1.0)];
        let spec = self.recurrence_spec();
        let recurrence = LinearRecurrence::new(&poles, spec.window).expect("the poles decay");
        let features = spec.features(recurrence.state_len(), &manifest.inputs, self.horizon);
        let per_series = manifest.per_series_features();
        let numbers = |count: usize| (0..count).map(|i| ((i * 37) % 19) as f32 / 19.0 - 0.4).collect();
        let shared = numbers(self.horizon * features);
        let series = numbers(per_series.series * per_series.count() * self.horizon);
        let mut tensors = Readout::to_tensors(self.horizon, features, &per_series, shared, series);
        let readout =
            Readout::take(&mut tensors, self.horizon, features, per_series).expect("the tensors fit");
        let weights = (0..=manifest.series.len())
            .flat_map(|i| [[0.5, 0.1, 0.2, 0.1, 0.1], [0.3, 0.1 * i as f32, 0.0, 0.3, 0.4]]);
        let ensemble = spec.ensemble.map(|spec| Ensemble::new(spec, weights.flatten().collect()));
        RecurrenceModel { poles, recurrence, readout, ensemble }
    }

    pub fn setup(&self) -> Arc<Setup> {
        Arc::new(Setup {
            scoring: self.scoring.clone(),
            every: self.every,
            ..self.setup_with(self.model(), &self.levels)
        })
    }

    /// A setup without scores that forecasts at every step by another model.
    pub fn setup_with(&self, model: Model, levels: &[f64]) -> Setup {
        Setup {
            columns: self.columns.clone(),
            step_config: self.step_config.clone(),
            every: 1,
            levels: levels.to_vec(),
            calibration: CalibrationMode::Online,
            scoring: None,
            model: Arc::new(model),
            step_text: "10s".into(),
            capacity: self.capacity(),
        }
    }

    pub fn capacity(&self) -> Capacity {
        Capacity { series: self.series_max, on_full: self.on_full, open_steps: self.open_steps }
    }

    pub fn forecaster(&self) -> Forecaster {
        Forecaster::new(self.setup())
    }

    /// Observations at the positions from `first` on.
    pub fn batch(&self, first: i64, rows: &[Row]) -> RecordBatch {
        let numbers = |value: &dyn Fn(&Row) -> f64| -> ArrayRef {
            let value = |row: &Row| Some(value(row)).filter(|value| !value.is_nan());
            Arc::new(rows.iter().map(value).collect::<Float64Array>())
        };
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from_iter_values((0..rows.len()).map(|i| first + i as i64)))];
        if self.columns.series.is_some() {
            columns.push(Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.series))));
        }
        let times = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.time));
        columns.push(Arc::new(times.with_timezone("UTC")));
        for i in 0..self.columns.targets.len() {
            columns.push(numbers(&|row| row.targets[i]));
        }
        for i in 0..self.columns.covariates.len() {
            columns.push(numbers(&|row| row.covariates[i]));
        }
        for i in 0..self.columns.future_covariates.len() {
            let mut lists = ListBuilder::new(Float64Builder::new());
            for row in rows {
                lists.values().append_slice(row.future.get(i).map_or(&[], Vec::as_slice));
                lists.append(row.future.len() > i);
            }
            columns.push(Arc::new(lists.finish()));
        }
        RecordBatch::try_new(self.columns.schema(), columns).expect("the columns match the schema")
    }

    /// Pushes rows in batches of `sizes` rows, the last size repeated, and collects all output.
    pub fn run(&self, rows: &[Row], sizes: &[usize]) -> Collected {
        let mut forecaster = self.forecaster();
        let (mut output, mut first, mut sizes) = (Collected::default(), 0, sizes.iter().copied());
        let mut size = rows.len().max(1);
        while first < rows.len() {
            size = sizes.next().unwrap_or(size).max(1);
            let end = rows.len().min(first + size);
            output.add(forecaster.push(&self.batch(first as i64, &rows[first..end])));
            first = end;
        }
        forecaster.finish(1).for_each(|pushed| output.add(pushed));
        output
    }

    /// The history of rows, as training reads it.
    pub fn history(&self, rows: &[Row]) -> History {
        let config = &self.step_config;
        let retention = Retention { steps: 2, filled: config.grid.steps_in(config.max_gap) as usize };
        let mut store =
            SeriesStore::new(self.columns.clone(), config.clone(), retention, self.horizon, self.capacity());
        let (mut recorder, mut diagnostics) = (HistoryRecorder::default(), RowDiagnostics::default());
        let mut on_step = |step: &StepContext<'_>| recorder.record(config, step);
        store.push(&self.batch(0, rows), &mut diagnostics, &mut on_step);
        store.finish(&store.slots_by_id(), &mut diagnostics, &mut on_step);
        recorder.history
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub series: String,
    pub time: i64,
    pub targets: Vec<f64>,
    pub covariates: Vec<f64>,
    /// A list for each future covariate.
    pub future: Vec<Vec<f64>>,
}

/// A row with one target.
pub fn row(series: &str, seconds: i64, value: f64) -> Row {
    wide_row(series, seconds, &[value])
}

/// A row with several targets, NaN where missing.
pub fn wide_row(series: &str, seconds: i64, targets: &[f64]) -> Row {
    Row {
        series: series.into(),
        time: seconds * SECOND,
        targets: targets.to_vec(),
        covariates: vec![],
        future: vec![],
    }
}

/// A forecast; its numbers as bits, so that equality is exact.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Forecast {
    pub series: String,
    pub target: String,
    /// Seconds.
    pub origin: i64,
    pub position: i64,
    /// The forecast, then lower and upper bounds of each level.
    pub bits: Vec<Vec<u32>>,
}

/// The output of many pushes.
#[derive(Clone, Debug, Default)]
pub struct Collected {
    pub forecasts: Vec<Forecast>,
    /// As lines of JSON.
    pub scores: Vec<String>,
    /// Position and reason.
    pub refused: Vec<(i64, Refusal)>,
    pub counters: RowCounters,
}

impl Collected {
    pub fn add(&mut self, output: PushOutput) {
        self.forecasts.extend(forecasts(&output.forecasts));
        self.scores.extend(json_lines(&output.scores));
        self.refused.extend(output.dropped.iter().map(|row| (row.position, row.reason)));
        self.counters.add(&output.counters);
    }

    /// Origins of a series' forecasts in seconds, in the order of issue.
    pub fn origins(&self, series: &str) -> Vec<i64> {
        let forecasts = self.forecasts.iter().filter(|forecast| forecast.series == series);
        forecasts.map(|forecast| forecast.origin).collect()
    }

    pub fn scores_of(&self, series: &str) -> Vec<&String> {
        let start = format!("{{\"series\":\"{series}\",");
        self.scores.iter().filter(|line| line.starts_with(&start)).collect()
    }

    /// A series' forecasts without their positions.
    pub fn forecasts_of(&self, series: &str) -> Vec<Forecast> {
        let forecasts = self.forecasts.iter().filter(|forecast| forecast.series == series);
        forecasts.map(|forecast| Forecast { position: 0, ..forecast.clone() }).collect()
    }
}

/// The forecasts of a batch.
pub fn forecasts(rows: &RecordBatch) -> Vec<Forecast> {
    let view = Forecasts::new(rows);
    let bits =
        |list: &ArrayRef| list.as_primitive::<Float32Type>().values().iter().map(|v| v.to_bits()).collect();
    let forecast = |i: usize| Forecast {
        series: view.series.value(i).into(),
        target: view.targets.value(i).into(),
        origin: view.origins.value(i) / SECOND,
        position: view.positions.value(i),
        bits: view.lists.iter().map(|lists| bits(&lists.value(i))).collect(),
    };
    (0..view.len()).map(forecast).collect()
}

/// Scores at one horizon.
pub fn scores(horizon: usize) -> SeriesScores {
    let scores = HorizonScores {
        horizon,
        forecasts: 24.0,
        mae: 0.5,
        naive_mae: 2.0,
        bias: -0.25,
        ties: 0.0,
        coverage: vec![0.75],
    };
    SeriesScores { horizons: vec![scores], is_drifting: true }
}

/// Options for a driver without stored state.
pub fn driver_options(setup: Arc<Setup>, commit: Commit, on_end_of_input: OnEndOfInput) -> DriverOptions {
    DriverOptions {
        setup,
        commit,
        state: None,
        start: StartOffset::Earliest,
        on_data_loss: OnDataLoss::Fail,
        queue_rows: 1000,
        on_end_of_input,
        reject_limit: None,
    }
}

/// Drives a source into memory; all output is committed.
pub async fn drive_to_memory(
    source: &mut impl Source,
    setup: Arc<Setup>,
    on_end_of_input: OnEndOfInput,
) -> (Progress, Vec<Output>) {
    let commit = Commit { every: Duration::from_millis(20), rows: 100 };
    let options = driver_options(setup, commit, on_end_of_input);
    let run = drive(source, MemorySink::default(), options, &CancellationToken::new(), |_| ()).await;
    let (progress, sink) = run.expect("the run reaches the end of the input");
    let contents = sink.contents();
    assert_eq!(contents.durable, contents.outputs.len(), "all output is committed");
    (progress, contents.outputs)
}

/// Writes observations as a user's Parquet file, without positions.
pub fn write_parquet(path: &Path, rows: &RecordBatch) {
    let columns: Vec<usize> = (1..rows.num_columns()).collect();
    let rows = rows.project(&columns).expect("the columns exist");
    let mut table = TableWriter::create(path, &rows.schema()).expect("the folder is writable");
    table.write_group(&rows).expect("the file is writable");
    table.finish().expect("the file is writable");
}

/// A Parquet file as a source.
pub fn parquet(path: &Path, columns: &Columns) -> ParquetSource {
    ParquetSource::open(path, columns, ReadOptions::default()).expect("the file is valid")
}

/// The rows of a batch as lines of JSON.
pub fn json_lines(rows: &RecordBatch) -> Vec<String> {
    let writer = RowWriter::new(rows).expect("the schema is known");
    let line = |row: usize| {
        let mut line = Vec::new();
        writer.write(row, &mut line).expect("rows can be written");
        String::from_utf8(line).expect("JSON is UTF-8")
    };
    (0..rows.num_rows()).map(line).collect()
}

/// Forecasts as lines of JSON, by series, in the order of issue.
pub fn json_lines_by_series(outputs: &[Output]) -> BTreeMap<String, Vec<String>> {
    let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for output in outputs {
        let series = Forecasts::new(&output.forecasts).series;
        for (row, line) in json_lines(&output.forecasts).into_iter().enumerate() {
            lines.entry(series.value(row).to_owned()).or_default().push(line);
        }
    }
    lines
}
