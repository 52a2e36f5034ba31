//! The published protocol of long-term forecasting on the ETT sets. Trains with default settings, once with the whole past and
//! once with the last 720 steps; prints a line of JSON per set and horizon, then the averages.
//!
//! `cargo bench --bench ltsf -- --data DIR [--sets h1,h2,m1,m2] [--seeds N] [--cell KIND]`, where DIR contains ETTh1.parquet and
//! so on.
//!
//! The protocol is that of Zhou et al., "Informer" (2021), with every test window scored: 12 months of training, 4 of
//! validation, 4 of test; each column standardised by its training split; errors averaged over windows, columns and the
//! horizon.

mod baselines;
#[path = "../common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use baselines::Baselines;
use common::options::Options;
use serde_json::{Value, json};
use tidecast::config::Pipeline;
use tidecast::dataset;
use tidecast_core::forecaster::{OriginView, Predictor};
use tidecast_core::model::{Model, SeriesKey};
use tidecast_core::series::Scale;
use tidecast_train::{Channel, History, Origin, Split, TrainOptions, Windows, scan_states, train_with};

/// Horizons of the published tables. One model forecasts the longest.
const HORIZONS: [usize; 4] = [96, 192, 336, 720];
const HORIZON_MAX: usize = 720;
/// Window of the published models.
const WINDOW: usize = 720;
/// Days of a month in the protocol.
const MONTH: i64 = 30;
/// Origins per batch.
const BATCH: usize = 64;

struct Arguments {
    data: PathBuf,
    sets: Vec<String>,
    seeds: u64,
    /// Cell instead of the default.
    cell: Option<String>,
}

/// Sums of squared and absolute errors.
#[derive(Clone, Copy, Default)]
struct ErrorSums {
    squared: f64,
    absolute: f64,
    count: f64,
}

impl ErrorSums {
    fn add(&mut self, error: f64) {
        self.squared += error * error;
        self.absolute += error.abs();
        self.count += 1.0;
    }

    fn merge(self, other: Self) -> Self {
        Self {
            squared: self.squared + other.squared,
            absolute: self.absolute + other.absolute,
            count: self.count + other.count,
        }
    }

    fn mse(&self) -> f64 {
        self.squared / self.count
    }

    fn mae(&self) -> f64 {
        self.absolute / self.count
    }

    fn json(&self) -> Value {
        json!({"mse": self.mse(), "mae": self.mae()})
    }
}

/// A training run of a set.
struct Run<'a> {
    arguments: &'a Arguments,
    set: &'a str,
    /// Steps that the recurrence sees; none is the whole past.
    window: Option<usize>,
    seed: u64,
}

fn main() {
    let arguments = Arguments::parse();
    let (mut averages, mut baselines) = (Vec::new(), BTreeMap::new());
    for window in [None, Some(WINDOW)] {
        let mut all = Vec::new();
        for set in &arguments.sets {
            for seed in 1..=arguments.seeds {
                let run = Run { arguments: &arguments, set, window, seed };
                all.extend(run.execute(&mut baselines));
            }
        }
        let mean = |value: fn(&ErrorSums) -> f64| all.iter().map(value).sum::<f64>() / all.len() as f64;
        averages.push(json!({
            "average_over": all.len(),
            "window": window_json(window),
            "mse": mean(ErrorSums::mse),
            "mae": mean(ErrorSums::mae),
        }));
    }
    averages.iter().for_each(|average| println!("{average}"));
}

fn window_json(window: Option<usize>) -> Value {
    window.map_or(json!("all"), |steps| json!(steps))
}

impl Arguments {
    fn parse() -> Self {
        let options = Options::from_args();
        let sets = options.value("--sets").unwrap_or("h1,h2,m1,m2".into());
        Self {
            data: options.data_folder("ltsf"),
            sets: sets.split(',').map(str::to_owned).collect(),
            seeds: options.number("--seeds", 1),
            cell: options.value("--cell"),
        }
    }
}

impl Run<'_> {
    /// Steps per hour.
    fn hour(&self) -> i64 {
        if self.set.starts_with('m') { 4 } else { 1 }
    }

    fn pipeline(&self, path: &Path) -> Pipeline {
        let every = if self.hour() == 4 { "15m" } else { "1h" };
        let key = |name: &str, value: Option<String>| {
            value.map_or(String::new(), |value| format!("{name} = {value}"))
        };
        let cell = key("cell", self.arguments.cell.as_ref().map(|cell| format!("{cell:?}")));
        let window = key("recurrence_window", self.window.map(|steps| steps.to_string()));
        let text = format!(
            r#"
            name = "ltsf"
            [columns]
            time = "date"
            targets = ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]
            [grid]
            every = "{every}"
            complete_after = 1
            [forecast]
            model = "unused"
            levels = []
            [source.parquet]
            path = "{}"
            [sink.parquet]
            path = "unused"
            [train]
            horizon = {HORIZON_MAX}
            seed = {}
            {window}
            {cell}
            "#,
            path.display(),
            self.seed
        );
        Pipeline::from_text(Path::new("ltsf.toml"), &text, &|_| None).expect("the pipeline is valid")
    }

    /// Trains and scores a model; prints a line per horizon.
    fn execute(&self, baselines: &mut BTreeMap<String, Baselines>) -> [ErrorSums; 4] {
        let path = self.arguments.data.join(format!("ETT{}.parquet", self.set));
        let pipeline = self.pipeline(&path);
        let dataset = dataset::read(&pipeline, &path, |_, _| ())
            .unwrap_or_else(|error| panic!("{}: {error:#}", path.display()));
        let history = &dataset.history;
        let first = history.segments.iter().map(|segment| segment.start).min().expect("rows");
        let month = MONTH * 24 * self.hour();
        let split = Split {
            first,
            train_end: first + 12 * month,
            validation_end: first + 16 * month,
            end: first + 20 * month,
        };
        let started = Instant::now();
        let options = TrainOptions { split: Some(split), checkpoint: None };
        let result = train_with(&pipeline.training(), history, dataset.summary, options, &mut |_| {
            ControlFlow::Continue(())
        });
        let (model, report) = result.expect("training succeeds");
        let seconds = started.elapsed().as_secs_f64();
        for decision in &report.decisions {
            eprintln!("{}: {}: {}", self.set, decision.action, decision.reason);
        }
        let scorer = Scorer { pipeline: &pipeline, model: &model, history, split };
        let started = Instant::now();
        scorer.forecast(&mut |_, _, _| ());
        let forecasts = (split.end - split.validation_end) as f64 * history.segments.len() as f64;
        let nanos = started.elapsed().as_nanos() as f64 / forecasts;
        let errors = scorer.score();
        // Baselines do not depend on window and seed.
        let day = (24 * self.hour()) as usize;
        let baselines = baselines
            .entry(self.set.to_owned())
            .or_insert_with(|| Baselines::new(history, &model.manifest, split, day));
        for (i, (horizon, errors)) in HORIZONS.iter().zip(&errors).enumerate() {
            let line = json!({
                "set": self.set,
                "horizon": horizon,
                "window": window_json(self.window),
                "seed": self.seed,
                "seconds": seconds,
                "parameters": model.parameters(),
                "state_bytes": state_bytes(&model),
                "ns_per_forecast": nanos,
                "baselines": baselines.json(i),
                "mse": errors.mse(),
                "mae": errors.mae(),
            });
            println!("{line}");
        }
        errors
    }
}

/// Bytes of the state of a series: the recurrence and the retained values.
fn state_bytes(model: &Model) -> usize {
    let states = model.recurrence.as_ref().map_or(0, |of| of.recurrence.state_len());
    (states + model.manifest.retention(&model.manifest.step_config, false).steps) * size_of::<f64>()
}

/// Forecasts the test split.
struct Scorer<'a> {
    pipeline: &'a Pipeline,
    model: &'a Model,
    history: &'a History,
    split: Split,
}

impl Scorer<'_> {
    /// Errors by horizon.
    fn score(&self) -> [ErrorSums; 4] {
        let mut errors = [ErrorSums::default(); 4];
        self.forecast(&mut |origin, scale, outputs| {
            let segment = &self.history.segments[origin.segment as usize];
            let unit = self.model.manifest.moments(segment.target).sd;
            let index = origin.index as usize;
            let steps = (self.split.end - 1 - segment.step(index)) as usize;
            for (errors, horizon) in errors.iter_mut().zip(HORIZONS).filter(|(_, horizon)| *horizon <= steps)
            {
                for (output, actual) in outputs[..horizon].iter().zip(&segment.values[index + 1..]) {
                    errors.add((actual - scale.invert(*output)) / unit);
                }
            }
        });
        errors
    }

    /// Calls `visit` with each origin of the test split, the scale and the scaled forecast.
    fn forecast(&self, visit: &mut dyn FnMut(Origin, Scale, &[f32])) {
        let Self { pipeline, model, history, split } = *self;
        let step_config = &pipeline.step_config;
        let windows = Windows { history, manifest: &model.manifest, step_config };
        for channel in history.channels() {
            let origins = test_origins(history, &channel, split);
            let (id, target) = (&history.ids[channel.series], &pipeline.columns.targets[channel.target]);
            let key = SeriesKey { id: id.clone(), target: target.clone() };
            let series_idx = model.manifest.series.iter().position(|series| *series == key);
            let recurrence = model.recurrence.as_ref().map(|of| &of.recurrence);
            let (mut predictor, mut pending) = (Predictor::default(), Vec::new());
            scan_states(history, &channel, recurrence, &origins, |origin, state| {
                let window = windows.view(origin).expect("the test split has a past");
                let stats = history.segments[origin.segment as usize].stats_at(origin.index as usize);
                let (future, history) = (windows.future(origin), windows.past(origin));
                let view =
                    OriginView { window, future, recurrence: state, history, stats: &stats, series_idx };
                pending.push((origin, predictor.add(model, step_config, &view)));
                if pending.len() == BATCH {
                    flush(model, &mut predictor, &mut pending, visit);
                }
            });
            flush(model, &mut predictor, &mut pending, visit);
        }
    }
}

fn flush(
    model: &Model,
    predictor: &mut Predictor,
    pending: &mut Vec<(Origin, Scale)>,
    visit: &mut dyn FnMut(Origin, Scale, &[f32]),
) {
    let mut outputs = Vec::new();
    predictor.run(model, &[], &mut outputs);
    for ((origin, scale), outputs) in pending.drain(..).zip(outputs.chunks_exact(HORIZON_MAX)) {
        visit(origin, scale, outputs);
    }
}

/// Origins from the last step before the test split on that have the shortest horizon after them.
fn test_origins(history: &History, channel: &Channel, split: Split) -> Vec<Origin> {
    let mut origins = Vec::new();
    for number in &channel.segments {
        let segment = &history.segments[*number as usize];
        for index in 0..segment.values.len() {
            let step = segment.step(index);
            if step >= split.validation_end - 1 && step + (HORIZONS[0] as i64) < split.end {
                origins.push(Origin { segment: *number, index: index as u32 });
            }
        }
    }
    origins
}
