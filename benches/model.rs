//! A model of any shape with random weights, and rows for it: every reading is a step of a minute and brings a forecast.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use serde_json::{Value, json};
use tidecast::config::Pipeline;
use tidecast_core::intervals::ErrorQuantiles;
use tidecast_core::model::{CellsPart, DataSummary, Description, Errors, MemoryPart, Model, Remembering, Share};
use tidecast_core::network::memory::{Memory, Own, Readout};
use tidecast_core::network::{CellKind, Network, Random, Shape, StateKind};
use tidecast_core::series::{InputSpec, Moments, Scaling};

use crate::readings::{MINUTE, PIPELINE, reading};
use crate::words::Words;

#[derive(Clone, Copy)]
pub struct Sizes {
    pub state: StateKind,
    /// `None` is the memory alone.
    pub cell: Option<CellKind>,
    pub hidden: usize,
    pub horizon: usize,
    /// Poles of the memory; none is without.
    pub poles: usize,
    /// Steps of a window.
    pub lookback: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        let (state, cell) = (StateKind::Carried, Some(CellKind::Lstm));
        Self { state, cell, hidden: 32, horizon: 12, poles: 0, lookback: 96 }
    }
}

/// The words that say sizes.
#[allow(dead_code, reason = "not every bench has them on its command line")]
pub const WORDS: [&str; 6] = ["--state", "--cell", "--hidden", "--horizon", "--poles", "--lookback"];

impl Sizes {
    #[allow(dead_code, reason = "not every bench has them on its command line")]
    pub fn of(words: &Words, default: Self) -> Self {
        let state = match words.after("--state").as_deref() {
            Some("window") => StateKind::Window,
            Some("carried") => StateKind::Carried,
            Some(other) => panic!("--state: carried or window, not {other}"),
            None => default.state,
        };
        let cell = match words.after("--cell").as_deref() {
            None => default.cell,
            Some("none") => None,
            Some(name) => Some(serde_json::from_value(json!(name)).expect("--cell: a kind of cell, or none")),
        };
        Self {
            state,
            cell,
            hidden: words.number("--hidden", default.hidden),
            horizon: words.number("--horizon", default.horizon),
            poles: words.number("--poles", default.poles),
            lookback: words.number("--lookback", default.lookback),
        }
    }

    /// Steps until a series forecasts.
    pub fn warm(self) -> usize {
        match self.state {
            StateKind::Window => self.lookback,
            StateKind::Carried => 3,
        }
    }

    pub fn model(self, pipeline: &Pipeline) -> Model {
        let carries = self.state == StateKind::Carried;
        let inputs = InputSpec { change: carries, ..InputSpec::default() };
        let mut random = Random::new(7);
        let poles = poles(self.poles);
        let part = MemoryPart { context: None, recent: 2, copied: vec![], mix: None, penalties: vec![] };
        let memory = Memory::new(&poles, None).expect("poles that decay");
        let features = part.features(memory.numbers(), &inputs, self.horizon);
        let weights = (0..self.horizon * features).map(|_| random.within(0.05)).collect();
        let own = Own::default();
        let mut tensors = Readout::tensors_of(self.horizon, features, &own, weights, vec![]);
        let readout = Readout::take(&mut tensors, self.horizon, features, own).expect("tensors as described");
        let shape = self.cell.map(|cell| Shape {
            cell,
            inputs: inputs.width(),
            hidden: self.hidden,
            layers: 1,
            horizon: self.horizon,
            known: 0,
            quantiles: 0,
            embedding: 0,
            series: 0,
            decoder: pipeline.train.decoder,
        });
        let description = Description {
            format: Description::FORMAT,
            horizon: self.horizon,
            warm: 0,
            series: vec![],
            memory: (self.poles > 0).then_some(part),
            cells: shape.map(|network| CellsPart {
                network,
                segment: 1,
                state: self.state,
                shares: vec![Share { until: self.horizon, share: 1.0 }],
                probabilities: vec![],
            }),
            lookback: self.warm(),
            rules: pipeline.rules.clone(),
            targets: pipeline.columns.targets.clone(),
            covariates: vec![],
            known_ahead: vec![],
            inputs,
            scaling: if carries { Scaling::Running } else { Scaling::WindowLast },
            moments: vec![Moments { mean: 0.0, sd: 1.0 }],
            recipe: Value::Null,
            data: DataSummary::default(),
            scores: vec![],
        };
        let memory = (self.poles > 0).then_some(Remembering { poles, memory, readout, mix: None });
        let cells = shape.map(|shape| Network::new(shape, 1).expect("the shape is small"));
        Model::new(description, memory, cells, Some(errors(self.horizon)))
    }
}

/// What bounds are made of: errors that grow with the horizon.
fn errors(horizon: usize) -> Errors {
    let of_step = |step: usize| (-500..=500).map(|i| 0.001 * i as f32 * (1 + step) as f32).collect();
    let all = ErrorQuantiles::of((0..horizon).map(of_step).collect()).expect("every step has errors");
    Errors { all, own: vec![], widening: vec![0.0], corrected: None }
}

/// A sixth of them decays, from hours to weeks; the others resonate with the day's harmonics.
fn poles(count: usize) -> Vec<[f32; 2]> {
    let real = count / 6;
    let decays = (0..real).map(|i| Memory::pole(60.0 * 2f64.powi(i as i32), 0.0));
    let day = std::f64::consts::TAU / 1440.0;
    let resonators = (1..=count - real).map(|i| Memory::pole(1440.0, day * i as f64));
    decays.chain(resonators).collect()
}

/// The pipeline of a bench, with `ends` for its source and sink.
pub fn pipeline(folder: &Path, ends: &str) -> Pipeline {
    let text = format!("{PIPELINE}{ends}");
    Pipeline::from_text(&folder.join("bench.toml"), &text, &|_| None).expect("the pipeline is sound")
}

/// Rows from `first` on: the series take turns, minute by minute.
#[allow(dead_code, reason = "not every bench pushes batches")]
pub fn batch(pipeline: &Pipeline, ids: &[String], first: usize, count: usize) -> RecordBatch {
    let rows = || (first..first + count).map(|row| (row % ids.len(), row / ids.len()));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values((first..first + count).map(|row| row as i64))),
        Arc::new(StringArray::from_iter_values(rows().map(|(id, _)| &ids[id]))),
        Arc::new(
            TimestampMicrosecondArray::from_iter_values(rows().map(|(_, step)| step as i64 * MINUTE))
                .with_timezone("UTC"),
        ),
        Arc::new(Float64Array::from_iter_values(rows().map(|(id, step)| reading(id, step)))),
    ];
    RecordBatch::try_new(pipeline.columns.schema(), columns).expect("columns by the schema")
}
