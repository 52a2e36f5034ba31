//! The published protocol of long-horizon forecasting on the ETT sets: splits, standardisation by the training part, every
//! window of the test part. Trains and scores with the choices that `tidecast train` makes by itself, once with all of the
//! past and once with the last 720 steps; one line of JSON a set and horizon, then the averages.
//!
//! `cargo bench --bench ltsf -- --data DIR [--sets h1,h2,m1,m2] [--seeds N]`, where DIR holds ETTh1.parquet and so on.
//!
//! The protocol is that of Zhou et al., "Informer" (2021), with every test window scored: 12 months to learn from, 4 to
//! validate on, 4 to test on; each column standardised by its training part; errors averaged over windows, columns and the
//! horizon.

mod baselines;
#[path = "../words.rs"]
mod words;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use baselines::Baselines;
use serde_json::{Value, json};
use tidecast::config::Pipeline;
use tidecast::dataset;
use tidecast_core::forecaster::{OriginView, Predictor};
use tidecast_core::model::Model;
use tidecast_train::{History, Lane, Origin, Split, Windows, lanes, train_parts, walk};
use words::Words;

/// Horizons of the published tables; one model of the longest says them all.
const HORIZONS: [usize; 4] = [96, 192, 336, 720];
/// Steps that the published models read.
const CONTEXT: usize = 720;
/// Days of a month in the protocol.
const MONTH: i64 = 30;
/// Origins forecast at once.
const WIDTH: usize = 64;

struct Arguments {
    data: PathBuf,
    sets: Vec<String>,
    seeds: u64,
    /// Another cell than what is chosen by itself.
    cell: Option<String>,
}

/// Sums of squared and absolute errors, and their number.
#[derive(Clone, Copy, Default)]
struct Sums {
    squares: f64,
    sizes: f64,
    count: f64,
}

impl Sums {
    fn add(&mut self, error: f64) {
        self.squares += error * error;
        self.sizes += error.abs();
        self.count += 1.0;
    }

    fn plus(self, other: Self) -> Self {
        Self {
            squares: self.squares + other.squares,
            sizes: self.sizes + other.sizes,
            count: self.count + other.count,
        }
    }

    fn json(&self) -> Value {
        json!({"mse": self.squares / self.count, "mae": self.sizes / self.count})
    }
}

fn main() {
    let arguments = arguments();
    let (mut averages, mut baselines) = (Vec::new(), BTreeMap::new());
    for context in [None, Some(CONTEXT)] {
        let mut all = Vec::new();
        for set in &arguments.sets {
            let found: Vec<[Sums; 4]> = (1..=arguments.seeds)
                .map(|seed| bench(&arguments, set, context, seed, &mut baselines))
                .collect();
            all.extend(found.into_iter().flatten());
        }
        let mean = |value: fn(&Sums) -> f64| all.iter().map(value).sum::<f64>() / all.len() as f64;
        averages.push(json!({
            "average": context.map_or(json!("all"), |steps| json!(steps)),
            "cells": all.len(),
            "mse": mean(|sums| sums.squares / sums.count),
            "mae": mean(|sums| sums.sizes / sums.count),
        }));
    }
    averages.iter().for_each(|average| println!("{average}"));
}

fn arguments() -> Arguments {
    let words = Words::new();
    let sets = words.after("--sets").unwrap_or("h1,h2,m1,m2".into());
    Arguments {
        data: words.data("ltsf"),
        sets: sets.split(',').map(str::to_owned).collect(),
        seeds: words.after("--seeds").and_then(|seeds| seeds.parse().ok()).unwrap_or(1),
        cell: words.after("--cell"),
    }
}

fn pipeline(path: &Path, every: &str, context: Option<usize>, seed: u64, cell: Option<&str>) -> Pipeline {
    let cell = cell.map_or(String::new(), |cell| format!("cell = \"{cell}\""));
    let context = context.map_or(String::new(), |context| format!("context = {context}"));
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
        horizon = 720
        seed = {seed}
        {context}
        {cell}
        "#,
        path.display()
    );
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ltsf.toml");
    std::fs::write(&file, text).expect("a file");
    Pipeline::open(&file).expect("the pipeline is sound")
}

fn bench(
    arguments: &Arguments,
    set: &str,
    context: Option<usize>,
    seed: u64,
    baselines: &mut BTreeMap<String, Baselines>,
) -> [Sums; 4] {
    let path = arguments.data.join(format!("ETT{set}.parquet"));
    let (every, hour) = if set.starts_with('m') { ("15m", 4) } else { ("1h", 1) };
    let pipeline = pipeline(&path, every, context, seed, arguments.cell.as_deref());
    let read = dataset::read(&pipeline, &path, |_, _| ())
        .unwrap_or_else(|error| panic!("{}: {error:#}", path.display()));
    let history = &read.history;
    let first = history.segments.iter().map(|segment| segment.start).min().expect("rows");
    let month = MONTH * 24 * hour;
    let split = Split {
        first,
        train_end: first + 12 * month,
        validation_end: first + 16 * month,
        end: first + 20 * month,
    };
    let started = Instant::now();
    let (model, outcome) =
        train_parts(&pipeline, history, read.summary, split, &mut |_| ControlFlow::Continue(()))
            .expect("it trains");
    let seconds = started.elapsed().as_secs_f64();
    for choice in &outcome.choices {
        eprintln!("{set}: {}: {}", choice.what, choice.why);
    }
    let started = Instant::now();
    score(&pipeline, &model, history, split, false);
    let forecasts = (split.end - split.validation_end) as f64 * history.segments.len() as f64;
    let nanos = started.elapsed().as_nanos() as f64 / forecasts;
    let ours = score(&pipeline, &model, history, split, true);
    // They see what they see, whatever our context and seed.
    let baselines = baselines
        .entry(set.to_owned())
        .or_insert_with(|| Baselines::of(history, &model.description, split, (24 * hour) as usize));
    for (which, (horizon, ours)) in HORIZONS.iter().zip(&ours).enumerate() {
        let mut line = json!({
            "set": set,
            "horizon": horizon,
            "context": context.map_or(json!("all"), |steps| json!(steps)),
            "seed": seed,
            "seconds": seconds,
            "params": model.parameters(),
            "state_bytes": state_bytes(&model),
            "ns_per_reading": nanos,
            "baselines": baselines.json(which),
        });
        line.as_object_mut().expect("an object").extend(ours.json().as_object().expect("an object").clone());
        println!("{line}");
    }
    ours
}

/// Bytes that are carried for one series: the memory's numbers and the values that are kept.
fn state_bytes(model: &Model) -> usize {
    let numbers = model.memory.as_ref().map_or(0, |part| part.memory.numbers());
    (numbers + model.description.keep(&model.description.rules, false).steps) * size_of::<f64>()
}

/// Errors of ours for each horizon; without `judged` everything is forecast and nothing summed.
fn score(pipeline: &Pipeline, model: &Model, history: &History, split: Split, judged: bool) -> [Sums; 4] {
    let windows = Windows { history, description: &model.description, rules: &pipeline.rules };
    let mut ours = [Sums::default(); 4];
    for lane in lanes(history) {
        let origins = test_origins(history, &lane, split);
        let (id, target) = (&history.ids[lane.series], &pipeline.columns.targets[lane.target]);
        let own = model.description.series.iter().position(|own| (&own.0, &own.1) == (id, target));
        let unit = model.description.moments(lane.target).sd;
        let (mut predictor, mut waiting, mut outputs) = (Predictor::default(), Vec::new(), Vec::new());
        let mut flush = |predictor: &mut Predictor, waiting: &mut Vec<(Origin, tidecast_core::series::Scale)>| {
            predictor.run(model, &[], &mut outputs);
            for ((origin, scale), outputs) in
                waiting.drain(..).zip(outputs.chunks_exact(720)).filter(|_| judged)
            {
                let segment = &history.segments[origin.segment as usize];
                let place = origin.place as usize;
                let left = (split.end - 1 - segment.step(place)) as usize;
                for (which, horizon) in
                    HORIZONS.into_iter().enumerate().filter(|(_, horizon)| *horizon <= left)
                {
                    for (output, actual) in outputs[..horizon].iter().zip(&segment.values[place + 1..]) {
                        ours[which].add((actual - scale.invert(*output)) / unit);
                    }
                }
            }
        };
        let memory = model.memory.as_ref().map(|part| &part.memory);
        walk(history, &lane, memory, &origins, |origin, memory| {
            let window = windows.view(origin).expect("the test part has a past");
            let running = history.segments[origin.segment as usize].running(origin.place as usize);
            let (ahead, past) = (windows.ahead(origin), windows.past(origin));
            let view = OriginView { window, ahead, memory, past, running: &running, own };
            waiting.push((origin, predictor.add(model, &pipeline.rules, &view)));
            if waiting.len() == WIDTH {
                flush(&mut predictor, &mut waiting);
            }
        });
        flush(&mut predictor, &mut waiting);
    }
    ours
}

/// Every step from the last one before the test part on that has the shortest horizon ahead of it.
fn test_origins(history: &History, lane: &Lane, split: Split) -> Vec<Origin> {
    let mut origins = Vec::new();
    for number in &lane.segments {
        let segment = &history.segments[*number as usize];
        for place in 0..segment.values.len() {
            let step = segment.step(place);
            if step >= split.validation_end - 1 && step + (HORIZONS[0] as i64) < split.end {
                origins.push(Origin { segment: *number, place: place as u32 });
            }
        }
    }
    origins
}
