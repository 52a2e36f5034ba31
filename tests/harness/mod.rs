//! What the tests stand on: small pipelines, tables of rows from literals, and forecasts as values to compare.

mod scores;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, AsArray, Float64Array, Float64Builder, Int64Array, ListBuilder, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::Float32Type;
use tidecast::config::{Commit, Deleted, Limits, Order, Start, TimeUnit};
use tidecast_stream::driver::{Options, Progress, drive};
use tidecast_core::forecaster::{Forecaster, Pushed, Scoring, Setup};
use tidecast_core::intervals::{Corrections, ErrorQuantiles, probabilities};
use tidecast_stream::codec::RowWriter;
use tidecast_stream::memory::MemorySink;
use tidecast_tables::{ParquetInput, Range, TableWriter};
use tidecast_stream::{Output, Source};
use tidecast_core::model::{
    CellsPart, Corrected, DataSummary, Description, Errors, MemoryPart, Mix, MixPart, Model, Remembering,
    Share,
};
use tidecast_core::network::memory::{Memory, Readout};
use tidecast_core::network::{CellKind, Decoder, Network, Shape, StateKind};
use tidecast_core::series::{
    Aggregate, Calendar, Capacity, Full, Gaps, Grid, InputSpec, Moments, OPEN_STEPS, Refusal, Rules, Scaling,
    Tally,
};
use tidecast_core::table::{Columns, Forecasts};

pub use scores::scores;

pub const SECOND: i64 = 1_000_000;

/// A pipeline in miniature: a step is ten seconds, the network reads three of them and forecasts two.
#[derive(Clone, Debug)]
pub struct Case {
    pub columns: Columns,
    pub rules: Rules,
    /// The `max_gap` of the history that the model learned from.
    pub learned_gap: i64,
    pub every: u32,
    pub cell: CellKind,
    pub decoder: Decoder,
    pub state: StateKind,
    pub scaling: Scaling,
    pub memory: bool,
    pub context: Option<usize>,
    pub warm: u64,
    pub lookback: usize,
    pub segment: usize,
    /// Levels whose quantiles the cells say.
    pub learned: Vec<f64>,
    pub embedding: usize,
    pub horizon: usize,
    pub levels: Vec<f64>,
    /// How much restlessness widens intervals.
    pub widening: f32,
    pub scoring: Option<Scoring>,
    pub limit: usize,
    pub full: Full,
    pub open_steps: usize,
}

impl Default for Case {
    fn default() -> Self {
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        Self {
            columns: Columns {
                series: Some("sensor".into()),
                only_series: "case".into(),
                time: "time".into(),
                targets: names(&["value"]),
                covariates: vec![],
                known_ahead: vec![],
            },
            rules: Rules {
                grid: Grid { every: 10 * SECOND, offset: 0 },
                aggregate: Aggregate::Mean,
                complete_after: None,
                lateness: 0,
                gaps: Gaps::Hold,
                max_gap: 60 * SECOND,
            },
            learned_gap: 60 * SECOND,
            every: 1,
            cell: CellKind::Gru,
            decoder: Decoder::Direct,
            state: StateKind::Window,
            scaling: Scaling::WindowStandard,
            memory: false,
            context: None,
            warm: 0,
            lookback: 3,
            segment: 1,
            learned: vec![],
            embedding: 0,
            horizon: 2,
            levels: vec![0.8],
            widening: 0.7,
            scoring: None,
            limit: 1000,
            full: Full::Refuse,
            open_steps: OPEN_STEPS,
        }
    }
}

impl Case {
    pub fn model(&self) -> Model {
        let unit = Moments { mean: 20.0, sd: 5.0 };
        let inputs = InputSpec {
            change: self.state == StateKind::Carried,
            mask: self.rules.gaps == Gaps::Missing,
            covariates: vec![unit; self.columns.covariates.len()],
            calendar: vec![Calendar::HourOfDay],
            known_ahead: vec![unit; self.columns.known_ahead.len()],
        };
        let shape = Shape {
            cell: self.cell,
            inputs: inputs.width() * self.segment,
            hidden: 9,
            layers: 2,
            horizon: self.horizon,
            known: inputs.known_ahead.len(),
            quantiles: 2 * self.learned.len(),
            embedding: self.embedding,
            series: if self.embedding > 0 { self.series().len() } else { 0 },
            decoder: self.decoder,
        };
        let description = Description {
            format: Description::FORMAT,
            horizon: self.horizon,
            lookback: if self.state == StateKind::Carried { 1 } else { self.lookback },
            warm: self.warm,
            series: self.series(),
            memory: self.memory.then(|| self.memory_part()),
            cells: Some(CellsPart {
                state: self.state,
                network: shape,
                segment: self.segment,
                shares: vec![Share { until: self.horizon, share: 0.5 }],
                probabilities: probabilities(&self.learned),
            }),
            rules: Rules { max_gap: self.learned_gap, ..self.rules.clone() },
            targets: self.columns.targets.clone(),
            covariates: self.columns.covariates.clone(),
            known_ahead: self.columns.known_ahead.clone(),
            inputs,
            scaling: self.scaling,
            moments: vec![unit; self.columns.targets.len()],
            recipe: serde_json::Value::Null,
            data: DataSummary::default(),
            scores: vec![],
        };
        let errors =
            (0..self.horizon).map(|i| (-50..=50).map(|e| e as f32 * (i + 1) as f32 / 50.0).collect());
        let memory = self.memory.then(|| self.remembering(&description));
        let cells = self.cells(shape);
        let errors = ErrorQuantiles::of(errors.collect()).map(|all| Errors {
            all,
            own: vec![],
            widening: vec![self.widening],
            corrected: self.corrected(),
        });
        Model::new(description, memory, Some(cells), errors)
    }

    /// Of all series, and of those with something of their own.
    fn corrected(&self) -> Option<Corrected> {
        let quantiles = 2 * self.learned.len();
        let of = |series: usize| {
            let value = |i: usize| ((i + series) * 29 % 17) as f32 / 17.0 - 0.5;
            Corrections::from_values(
                self.horizon,
                quantiles,
                (0..quantiles * self.horizon).map(value).collect(),
            )
        };
        let own = (1..=self.series().len()).filter_map(of).collect();
        if quantiles == 0 { None } else { of(0).map(|all| Corrected { all, own }) }
    }

    /// Those with something of their own, where anything can be.
    fn series(&self) -> Vec<(String, String)> {
        let ids = if self.memory || self.embedding > 0 { &["a", "b", "s0", "s2"][..] } else { &[] };
        ids.iter().map(|id| (id.to_string(), self.columns.targets[0].clone())).collect()
    }

    /// Cells that have learned something of each series they know.
    fn cells(&self, shape: Shape) -> Network {
        let mut tensors = Network::new(shape, 7).expect("the shape is small").tensors().clone();
        if let Some(embedding) = tensors.get_mut("embedding.weight") {
            embedding
                .data
                .iter_mut()
                .enumerate()
                .for_each(|(i, number)| *number = 0.4 * (i % 7) as f32 - 1.0);
        }
        Network::from_tensors(shape, &tensors).expect("they fit the shape")
    }

    /// A plain decay and a resonator.
    fn memory_part(&self) -> MemoryPart {
        MemoryPart {
            context: self.context,
            recent: 2,
            copied: vec![1],
            mix: Some(MixPart { ends: vec![1, 2], season: Some(5) }),
            penalties: vec![],
        }
    }

    fn remembering(&self, description: &Description) -> Remembering {
        let poles = vec![Memory::pole(4.0, 0.0), Memory::pole(30.0, 1.0)];
        let part = self.memory_part();
        let memory = Memory::new(&poles, part.context).expect("the poles decay");
        let features = part.features(memory.numbers(), &description.inputs, self.horizon);
        let own = description.own();
        let numbers = |count: usize| (0..count).map(|i| ((i * 37) % 19) as f32 / 19.0 - 0.4).collect();
        let (shared, series) =
            (numbers(self.horizon * features), numbers(own.series * own.features() * self.horizon));
        let mut tensors = Readout::tensors_of(self.horizon, features, &own, shared, series);
        let readout = Readout::take(&mut tensors, self.horizon, features, own).expect("they fit");
        let weights = (0..=description.series.len())
            .flat_map(|i| [[0.5, 0.1, 0.2, 0.1, 0.1], [0.3, 0.1 * i as f32, 0.0, 0.3, 0.4]]);
        let mix = part.mix.map(|part| Mix::new(part, weights.flatten().collect()));
        Remembering { poles, memory, readout, mix }
    }

    pub fn setup(&self) -> Arc<Setup> {
        Arc::new(Setup {
            columns: self.columns.clone(),
            rules: self.rules.clone(),
            every: self.every,
            levels: self.levels.clone(),
            corrects: true,
            scoring: self.scoring.clone(),
            model: Arc::new(self.model()),
            every_text: "10s".into(),
            capacity: self.capacity(),
        })
    }

    pub fn capacity(&self) -> Capacity {
        Capacity { series: self.limit, full: self.full, open_steps: self.open_steps }
    }

    pub fn forecaster(&self) -> Forecaster {
        Forecaster::new(self.setup())
    }

    /// Observations in positions from `first` on.
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
        for j in 0..self.columns.targets.len() {
            columns.push(numbers(&|row| row.targets[j]));
        }
        for j in 0..self.columns.covariates.len() {
            columns.push(numbers(&|row| row.covariates[j]));
        }
        for j in 0..self.columns.known_ahead.len() {
            let mut lists = ListBuilder::new(Float64Builder::new());
            for row in rows {
                lists.values().append_slice(row.ahead.get(j).map_or(&[], Vec::as_slice));
                lists.append(row.ahead.len() > j);
            }
            columns.push(Arc::new(lists.finish()));
        }
        RecordBatch::try_new(self.columns.schema(), columns).expect("columns by the schema")
    }

    /// What comes of rows pushed one batch at a time, `sizes` rows each (the last size for all that are left).
    pub fn run(&self, rows: &[Row], sizes: &[usize]) -> Came {
        let mut forecaster = self.forecaster();
        let (mut came, mut first, mut sizes) = (Came::default(), 0, sizes.iter().copied());
        let mut size = rows.len().max(1);
        while first < rows.len() {
            size = sizes.next().unwrap_or(size).max(1);
            let end = rows.len().min(first + size);
            came.add(forecaster.push(&self.batch(first as i64, &rows[first..end])));
            first = end;
        }
        forecaster.finish(1).for_each(|pushed| came.add(pushed));
        came
    }
}

/// One row of a test's table.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub series: String,
    pub time: i64,
    pub targets: Vec<f64>,
    pub covariates: Vec<f64>,
    pub ahead: Vec<Vec<f64>>,
}

/// A reading of one target at a second.
pub fn row(series: &str, seconds: i64, value: f64) -> Row {
    wide(series, seconds, &[value])
}

/// A reading of several targets at a second, NaN for those that are missing.
pub fn wide(series: &str, seconds: i64, targets: &[f64]) -> Row {
    Row {
        series: series.into(),
        time: seconds * SECOND,
        targets: targets.to_vec(),
        covariates: vec![],
        ahead: vec![],
    }
}

/// One forecast; numbers as bits, so that equal means equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Forecast {
    pub series: String,
    pub target: String,
    /// Seconds.
    pub origin: i64,
    pub position: i64,
    pub bits: Vec<Vec<u32>>,
}

/// All that came of some rows.
#[derive(Clone, Debug, Default)]
pub struct Came {
    pub forecasts: Vec<Forecast>,
    /// As lines of JSON.
    pub scores: Vec<String>,
    /// Position and reason.
    pub refused: Vec<(i64, Refusal)>,
    pub tally: Tally,
}

impl Came {
    pub fn add(&mut self, pushed: Pushed) {
        self.forecasts.extend(forecasts(&pushed.forecasts));
        self.scores.extend(json_lines(&pushed.scores));
        self.refused.extend(pushed.refused.iter().map(|refused| (refused.position, refused.reason)));
        self.tally.add(&pushed.tally);
    }

    /// Origins of a series' forecasts, in seconds, in the order in which they were issued.
    pub fn origins(&self, series: &str) -> Vec<i64> {
        self.forecasts
            .iter()
            .filter(|forecast| forecast.series == series)
            .map(|forecast| forecast.origin)
            .collect()
    }

    /// A series' scores.
    pub fn scores_of(&self, series: &str) -> Vec<&String> {
        let start = format!("{{\"series\":\"{series}\",");
        self.scores.iter().filter(|line| line.starts_with(&start)).collect()
    }

    /// A series' forecasts without the positions that triggered them.
    pub fn of(&self, series: &str) -> Vec<Forecast> {
        let own = self.forecasts.iter().filter(|forecast| forecast.series == series);
        own.map(|forecast| Forecast { position: 0, ..forecast.clone() }).collect()
    }
}

/// The forecasts of a batch.
pub fn forecasts(rows: &RecordBatch) -> Vec<Forecast> {
    let view = Forecasts::new(rows);
    let bits =
        |list: &ArrayRef| list.as_primitive::<Float32Type>().values().iter().map(|v| v.to_bits()).collect();
    let one = |i: usize| Forecast {
        series: view.series.value(i).into(),
        target: view.targets.value(i).into(),
        origin: view.origins.value(i) / SECOND,
        position: view.positions.value(i),
        bits: view.lists.iter().map(|lists| bits(&lists.value(i))).collect(),
    };
    (0..view.len()).map(one).collect()
}

/// To drive without a state.
pub fn options(setup: Arc<Setup>, commit: Commit, finish: bool) -> Options {
    let (start, deleted) = (Start::Earliest, Deleted::Fail);
    Options { setup, commit, state: None, start, deleted, queue_rows: 1000, finish, rejects: None }
}

/// Drives a source into memory, as `run --until-end` would, or with `finish` as `backfill`.
pub async fn driven(source: &mut impl Source, setup: Arc<Setup>, finish: bool) -> (Progress, Vec<Output>) {
    let commit = Commit { every: Duration::from_millis(20), rows: 100 };
    let driven =
        drive(source, MemorySink::default(), options(setup, commit, finish), std::future::pending(), |_| ());
    let (progress, sink) = driven.await.expect("it runs to the end");
    let kept = sink.kept();
    assert_eq!(kept.durable, kept.outputs.len(), "all that was written is committed");
    (progress, kept.outputs)
}

/// Writes observations as a user's Parquet file.
pub fn write_parquet(path: &Path, rows: &RecordBatch) {
    let columns: Vec<usize> = (1..rows.num_columns()).collect();
    let rows = rows.project(&columns).expect("all columns but the position");
    let mut table = TableWriter::create(path, &rows.schema()).expect("the folder takes files");
    table.write_group(&rows).expect("the disk has room");
    table.finish().expect("the disk has room");
}

/// The rows of a Parquet file, as an input.
pub fn parquet(path: &Path, columns: &Columns) -> ParquetInput {
    let (unit, range) = (TimeUnit::default(), Range::default());
    ParquetInput::open(path, columns, unit, Order::File, range, None, &Limits::default())
        .expect("the file is sound")
}

/// The rows of a batch as lines of JSON.
pub fn json_lines(rows: &RecordBatch) -> Vec<String> {
    let writer = RowWriter::new(rows).expect("rows can be written");
    let line = |row: usize| {
        let mut line = Vec::new();
        writer.write(row, &mut line).expect("a row can be written");
        String::from_utf8(line).expect("JSON is UTF-8")
    };
    (0..rows.num_rows()).map(line).collect()
}

/// The forecasts as lines of JSON, by series, in the order in which they were issued.
pub fn lines(outputs: &[Output]) -> BTreeMap<String, Vec<String>> {
    let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for output in outputs {
        let series = Forecasts::new(&output.forecasts).series;
        for (row, line) in json_lines(&output.forecasts).into_iter().enumerate() {
            lines.entry(series.value(row).to_owned()).or_default().push(line);
        }
    }
    lines
}
