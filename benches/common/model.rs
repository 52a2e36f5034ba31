//! Models of any size with random weights, and rows for them. Every row is a step of a minute and triggers a forecast.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use serde_json::{Value, json};
use tidecast::config::Pipeline;
use tidecast_core::forecaster::Setup;
use tidecast_core::intervals::{CalibrationMode, ErrorQuantiles};
use tidecast_core::model::{
    BlendWeight, CellsSpec, DataSummary, Model, ModelManifest, RecurrenceModel, RecurrenceSpec,
    ResidualQuantiles,
};
use tidecast_core::network::recurrence::{LinearRecurrence, PerSeriesFeatures, Readout};
use tidecast_core::network::{CellKind, Network, Random, Shape, StateKind};
use tidecast_core::series::{InputSpec, Moments, Scaling};
use tidecast_core::time::duration_text;

use super::options::Options;
use super::rows::{MINUTE, PIPELINE, value};

#[derive(Clone, Copy)]
pub struct ModelSize {
    pub state: StateKind,
    /// `None` is the recurrence alone.
    pub cell: Option<CellKind>,
    pub hidden: usize,
    pub horizon: usize,
    /// Poles of the recurrence; 0 is no recurrence.
    pub poles: usize,
    /// Steps of a window.
    pub lookback: usize,
}

impl Default for ModelSize {
    fn default() -> Self {
        let (state, cell) = (StateKind::Carried, Some(CellKind::Lstm));
        Self { state, cell, hidden: 32, horizon: 12, poles: 0, lookback: 96 }
    }
}

impl ModelSize {
    pub const OPTIONS: [&str; 6] = ["--state", "--cell", "--hidden", "--horizon", "--poles", "--lookback"];

    pub fn from_options(options: &Options, default: Self) -> Self {
        let state = match options.value("--state").as_deref() {
            Some("window") => StateKind::Window,
            Some("carried") => StateKind::Carried,
            Some(other) => panic!("--state must be carried or window, not {other}"),
            None => default.state,
        };
        let cell = match options.value("--cell").as_deref() {
            None => default.cell,
            Some("none") => None,
            Some(name) => {
                Some(serde_json::from_value(json!(name)).expect("--cell must be a kind of cell or none"))
            }
        };
        Self {
            state,
            cell,
            hidden: options.number("--hidden", default.hidden),
            horizon: options.number("--horizon", default.horizon),
            poles: options.number("--poles", default.poles),
            lookback: options.number("--lookback", default.lookback),
        }
    }

    /// Steps before the first forecast of a series.
    pub fn warmup(self) -> usize {
        match self.state {
            StateKind::Window => self.lookback,
            StateKind::Carried => 3,
        }
    }

    pub fn model(self, pipeline: &Pipeline) -> Model {
        let is_carried = self.state == StateKind::Carried;
        let inputs = InputSpec { change: is_carried, ..InputSpec::default() };
        let has_recurrence = self.poles > 0;
        let spec = RecurrenceSpec {
            window: None,
            recent_values: 2,
            per_series_features: vec![],
            ensemble: None,
            penalties: vec![],
        };
        let recurrence = has_recurrence.then(|| self.recurrence(&spec, &inputs));
        let shape = self.cell.map(|cell| Shape {
            cell,
            inputs: inputs.width(),
            hidden: self.hidden,
            layers: 1,
            horizon: self.horizon,
            future_covariates: 0,
            quantiles: 0,
            embedding: 0,
            series: 0,
            decoder: pipeline.train.decoder,
        });
        let manifest = ModelManifest {
            format: ModelManifest::FORMAT,
            horizon: self.horizon,
            warmup: 0,
            series: vec![],
            recurrence: has_recurrence.then_some(spec),
            cells: shape.map(|network| CellsSpec {
                network,
                segment: 1,
                state: self.state,
                blend_weights: vec![BlendWeight { end: self.horizon, weight: 1.0 }],
                probabilities: vec![],
            }),
            lookback: self.warmup(),
            step_config: pipeline.step_config.clone(),
            targets: pipeline.columns.targets.clone(),
            covariates: vec![],
            future_covariates: vec![],
            inputs,
            scaling: if is_carried { Scaling::Running } else { Scaling::WindowLast },
            moments: vec![Moments { mean: 0.0, sd: 1.0 }],
            training: Value::Null,
            data: DataSummary::default(),
            scores: vec![],
        };
        let cells = shape.map(|shape| Network::new(shape, 1).expect("the shape is small"));
        Model::new(manifest, recurrence, cells, Some(residuals(self.horizon)))
    }

    fn recurrence(self, spec: &RecurrenceSpec, inputs: &InputSpec) -> RecurrenceModel {
        let poles = poles(self.poles);
        let recurrence = LinearRecurrence::new(&poles, None).expect("the poles decay");
        let mut random = Random::new(7);
        let features = spec.features(recurrence.state_len(), inputs, self.horizon);
        let weights = (0..self.horizon * features).map(|_| random.uniform(0.05)).collect();
        let per_series = PerSeriesFeatures::default();
        let mut tensors = Readout::to_tensors(self.horizon, features, &per_series, weights, vec![]);
        let readout = Readout::take(&mut tensors, self.horizon, features, per_series);
        let readout = readout.expect("the tensors have the described shapes");
        RecurrenceModel { poles, recurrence, readout, ensemble: None }
    }
}

/// Residuals that grow with the horizon.
fn residuals(horizon: usize) -> ResidualQuantiles {
    let of_step = |step: usize| (-500..=500).map(|i| 0.001 * i as f32 * (1 + step) as f32).collect();
    let pooled =
        ErrorQuantiles::pooled((0..horizon).map(of_step).collect()).expect("every step has residuals");
    ResidualQuantiles { pooled, per_series: vec![], volatility_gain: vec![0.0], offsets: None }
}

/// A sixth of the poles are plain decays from hours to weeks; the others resonate with harmonics of the day.
fn poles(count: usize) -> Vec<[f32; 2]> {
    let plain = count / 6;
    let decays = (0..plain).map(|i| LinearRecurrence::pole(60.0 * 2f64.powi(i as i32), 0.0));
    let day = std::f64::consts::TAU / 1440.0;
    let resonators = (1..=count - plain).map(|i| LinearRecurrence::pole(1440.0, day * i as f64));
    decays.chain(resonators).collect()
}

/// The pipeline of a bench with a source and a sink.
pub fn pipeline(folder: &Path, connectors: &str) -> Pipeline {
    let text = format!("{PIPELINE}{connectors}");
    Pipeline::from_text(&folder.join("bench.toml"), &text, &|_| None).expect("the pipeline is valid")
}

/// A setup for up to `series` series, without intervals and scores.
pub fn setup(pipeline: &Pipeline, size: ModelSize, series: usize) -> Setup {
    Setup {
        columns: pipeline.columns.clone(),
        step_config: pipeline.step_config.clone(),
        every: 1,
        levels: vec![],
        calibration: CalibrationMode::Online,
        scoring: None,
        model: Arc::new(size.model(pipeline)),
        step_text: duration_text(pipeline.step_config.grid.every),
        capacity: series.into(),
    }
}

/// Rows from index `first` on. Series alternate within each minute.
pub fn batch(pipeline: &Pipeline, ids: &[String], first: usize, count: usize) -> RecordBatch {
    let rows = || (first..first + count).map(|row| (row % ids.len(), row / ids.len()));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values((first..first + count).map(|row| row as i64))),
        Arc::new(StringArray::from_iter_values(rows().map(|(id, _)| &ids[id]))),
        Arc::new(
            TimestampMicrosecondArray::from_iter_values(rows().map(|(_, step)| step as i64 * MINUTE))
                .with_timezone("UTC"),
        ),
        Arc::new(Float64Array::from_iter_values(rows().map(|(id, step)| value(id, step)))),
    ];
    RecordBatch::try_new(pipeline.columns.schema(), columns).expect("the columns match the schema")
}
