//! One case: a model of that shape with random weights, and rows of so many series.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use serde_json::{Value, json};
use tidecast::config::Pipeline;
use tidecast::forecaster::{Forecaster, Setup};
use tidecast::model::{CellsPart, DataSummary, Description, Errors, MemoryPart, Model, Remembering, Share};
use tidecast::network::memory::{Memory, Own, Readout};
use tidecast::network::{CellKind, Network, Random, Shape, StateKind};
use tidecast::series::{InputSpec, Moments, Scaling};

use crate::words::Words;

const MINUTE: i64 = 60_000_000;
/// Rows pushed at once: as many as a busy Kafka partition hands over.
const BATCH: usize = 10_000;
/// Rows that are timed, at least; as often as that, and the best counts: what else runs here only makes it slower.
const TIMED: usize = 200_000;
const REPEATS: usize = 5;

/// A grid of minutes: every reading is a step, every step a forecast.
const PIPELINE: &str = r#"
name = "bench"
[columns]
series = "sensor"
time = "time"
targets = ["value"]
[grid]
every = "1m"
complete_after = 1
[forecast]
model = "model.safetensors"
[source.parquet]
path = "readings.parquet"
[sink.parquet]
path = "forecasts.parquet"
"#;

#[derive(Clone, Copy)]
pub struct Case {
    series: usize,
    state: StateKind,
    /// `None` is the memory alone.
    cell: Option<CellKind>,
    hidden: usize,
    horizon: usize,
    /// Poles of the memory; none is without.
    poles: usize,
    levels: usize,
    lookback: usize,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            series: 10_000,
            state: StateKind::Carried,
            cell: Some(CellKind::Lstm),
            hidden: 32,
            horizon: 12,
            poles: 0,
            levels: 0,
            lookback: 96,
        }
    }
}

impl Case {
    pub fn all() -> Vec<Self> {
        let one = Self::default();
        let window = Self { state: StateKind::Window, series: 1000, hidden: 64, ..one };
        vec![
            Self { series: 1000, ..one },
            one,
            Self { series: 100_000, ..one },
            Self { series: 1_000_000, ..one },
            Self { levels: 2, ..one },
            Self { cell: None, poles: 54, ..one },
            Self { poles: 54, ..one },
            Self { state: StateKind::Carried, ..window },
            window,
        ]
    }

    pub fn of(words: &Words) -> Self {
        let default = Self::default();
        let number = |name, otherwise: usize| {
            words
                .after(name)
                .map_or(otherwise, |word| word.parse().unwrap_or_else(|_| panic!("{name}: a number")))
        };
        let state = match words.after("--state").as_deref() {
            Some("window") => StateKind::Window,
            Some("carried") | None => StateKind::Carried,
            Some(other) => panic!("--state: carried or window, not {other}"),
        };
        let cell = match words.after("--cell").as_deref() {
            None => default.cell,
            Some("none") => None,
            Some(name) => Some(serde_json::from_value(json!(name)).expect("--cell: a kind of cell, or none")),
        };
        Self {
            series: number("--series", default.series),
            state,
            cell,
            hidden: number("--hidden", default.hidden),
            horizon: number("--horizon", default.horizon),
            poles: number("--poles", default.poles),
            levels: number("--levels", default.levels),
            lookback: number("--lookback", default.lookback),
        }
    }

    pub fn run(self) -> Value {
        let pipeline =
            Pipeline::from_text(Path::new("bench.toml"), PIPELINE, &|_| None).expect("the pipeline is sound");
        let setup = Setup {
            columns: pipeline.columns.clone(),
            rules: pipeline.rules.clone(),
            every: 1,
            levels: [0.8, 0.95][..self.levels].to_vec(),
            model: Arc::new(self.model(&pipeline)),
            every_text: pipeline.every_text(),
            capacity: self.series.into(),
        };
        let mut forecaster = Forecaster::new(Arc::new(setup));
        let ids: Vec<String> = (0..self.series).map(|id| format!("sensor-{id:09}")).collect();
        let mut next = 0;
        // Until every series forecasts.
        let warm = match self.state {
            StateKind::Window => self.lookback,
            StateKind::Carried => 3,
        };
        let begin = (warm * self.series).next_multiple_of(BATCH);
        while next < begin {
            forecaster.push(&batch(&pipeline, &ids, next));
            next += BATCH;
        }
        let rows = match self.state {
            StateKind::Window => TIMED / 10,
            StateKind::Carried => TIMED,
        };
        let mut best = f64::INFINITY;
        for _ in 0..REPEATS {
            let batches: Vec<RecordBatch> =
                (0..rows).step_by(BATCH).map(|row| batch(&pipeline, &ids, next + row)).collect();
            next += rows;
            let started = Instant::now();
            let forecasts: u64 = batches.iter().map(|batch| forecaster.push(batch).tally.forecasts).sum();
            best = best.min(started.elapsed().as_secs_f64());
            assert_eq!(forecasts, rows as u64, "a forecast at every reading");
        }
        let state = match self.state {
            StateKind::Window => json!({ "window": self.lookback }),
            StateKind::Carried => json!("carried"),
        };
        json!({
            "bench": "push",
            "state": state,
            "cell": self.cell,
            "hidden": self.cell.map(|_| self.hidden),
            "poles": self.poles,
            "horizon": self.horizon,
            "levels": self.levels,
            "series": self.series,
            "readings_s": (rows as f64 / best).round(),
            "ns_per_reading": (best * 1e9 / rows as f64).round(),
        })
    }

    fn model(self, pipeline: &Pipeline) -> Model {
        let carries = self.state == StateKind::Carried;
        let inputs = InputSpec { change: carries, ..InputSpec::default() };
        let mut random = Random::new(7);
        let poles = poles(self.poles);
        let memory_part =
            MemoryPart { context: None, recent: 2, copied: vec![], mix: None, penalties: vec![] };
        let memory = Memory::new(&poles, None).expect("poles that decay");
        let features = memory_part.features(memory.numbers(), &inputs, self.horizon);
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
            memory: (self.poles > 0).then_some(memory_part),
            cells: shape.map(|network| CellsPart {
                network,
                segment: 1,
                state: self.state,
                shares: vec![Share { until: self.horizon, share: 1.0 }],
                probabilities: vec![],
            }),
            lookback: if carries { 3 } else { self.lookback },
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
        Model::new(description, memory, cells, None::<Errors>)
    }
}

/// A sixth of them decays, from hours to weeks; the others resonate with the day's harmonics.
fn poles(count: usize) -> Vec<[f32; 2]> {
    let real = count / 6;
    let decays = (0..real).map(|i| Memory::pole(60.0 * 2f64.powi(i as i32), 0.0));
    let day = std::f64::consts::TAU / 1440.0;
    let resonators = (1..=count - real).map(|i| Memory::pole(1440.0, day * i as f64));
    decays.chain(resonators).collect()
}

/// Rows from `first` on: the series take turns, minute by minute.
fn batch(pipeline: &Pipeline, ids: &[String], first: usize) -> RecordBatch {
    let rows = || (first..first + BATCH).map(|row| (row % ids.len(), row / ids.len()));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values((first..first + BATCH).map(|row| row as i64))),
        Arc::new(StringArray::from_iter_values(rows().map(|(id, _)| &ids[id]))),
        Arc::new(
            TimestampMicrosecondArray::from_iter_values(rows().map(|(_, step)| step as i64 * MINUTE))
                .with_timezone("UTC"),
        ),
        Arc::new(Float64Array::from_iter_values(rows().map(|(id, step)| reading(id, step)))),
    ];
    RecordBatch::try_new(pipeline.columns.schema(), columns).expect("columns by the schema")
}

/// A smooth day, a level of its own, and noise from a fixed generator.
fn reading(id: usize, step: usize) -> f64 {
    let noise = ((id * 31 + step * 17).wrapping_mul(2_654_435_761) >> 7 & 1023) as f64 / 1024.0;
    20.0 + id as f64 * 0.01 + 5.0 * (step as f64 * std::f64::consts::TAU / 1440.0).sin() + noise
}
