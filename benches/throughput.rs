//! Readings per second: of the forecaster from batch to batch, of a whole backfill from file to file, and of training on a
//! long history. Prints; asserts only that memory does not grow with the number of readings.
//!
//! `cargo bench` runs the first two in about two minutes; `cargo bench -- forecaster` or `-- backfill` one of them.
//! `cargo bench --bench throughput -- training` trains on a hundred million readings with nothing chosen but the horizon,
//! which takes many minutes and a gigabyte of temporary files, and prints a line of JSON; `training 5000000 none` on so
//! many readings, without cells.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use polars::prelude::{Column, DataFrame, DataType, Field, ParquetWriter, Schema, TimeUnit, TimeZone};
use tidecast::config::Pipeline;
use tidecast::forecaster::{Forecaster, Scoring, Setup};
use tidecast::intervals::{ErrorQuantiles, Plan};
use tidecast::model::{CellsPart, DataSummary, Description, Errors, Model, Share};
use tidecast::network::{CellKind, Network, Shape};
use tidecast::series::{InputSpec, Moments};

const SERIES: usize = 1000;
const MINUTE: i64 = 60_000_000;

/// The sizes of the sample's network, on a grid of minutes: every reading is a step, every step a forecast.
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
levels = []
[source.parquet]
path = "readings.parquet"
[sink.parquet]
path = "forecasts.parquet"
[train]
hidden = 32
lookback = 24
horizon = 12
calendar = []
"#;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    if let Some((first, rest)) = words.split_first()
        && first == "training"
    {
        let readings = rest.first().map_or(100_000_000, |count| count.parse().expect("a number of readings"));
        return training(readings, rest.get(1).map(String::as_str));
    }
    let wanted = |part: &str| words.is_empty() || words.iter().any(|word| word == part);
    if wanted("forecaster") {
        for cell in [CellKind::Gru, CellKind::Lstm] {
            forecaster(cell, false);
        }
        forecaster(CellKind::Gru, true);
    }
    if wanted("backfill") {
        backfill();
    }
}

/// A smooth day, a trend of its own, and noise from a fixed generator: reading `step` of series `id`.
fn reading(id: usize, step: usize) -> f64 {
    let noise = ((id * 31 + step * 17).wrapping_mul(2_654_435_761) >> 7 & 1023) as f64 / 1024.0;
    20.0 + id as f64 * 0.01 + 5.0 * (step as f64 * std::f64::consts::TAU / 1440.0).sin() + noise
}

fn model(pipeline: &Pipeline, cell: CellKind) -> Model {
    let train = &pipeline.train;
    let inputs = InputSpec::default();
    let shape = Shape {
        cell,
        inputs: inputs.width(),
        hidden: train.hidden,
        layers: train.layers,
        horizon: train.horizon,
        known: 0,
        quantiles: 0,
        embedding: 0,
        series: 0,
        decoder: train.decoder,
    };
    let description = Description {
        format: Description::FORMAT,
        horizon: shape.horizon,
        warm: 0,
        series: vec![],
        memory: None,
        cells: Some(CellsPart {
            network: shape,
            segment: 1,
            state: train.state,
            shares: vec![Share { until: shape.horizon, share: 1.0 }],
            probabilities: vec![],
        }),
        lookback: train.lookback,
        rules: pipeline.rules.clone(),
        targets: pipeline.columns.targets.clone(),
        covariates: vec![],
        known_ahead: vec![],
        inputs,
        scaling: train.scaling,
        moments: vec![Moments { mean: 0.0, sd: 1.0 }],
        recipe: serde_json::Value::Null,
        data: DataSummary::default(),
        scores: vec![],
    };
    let errors = vec![(-50..=50).map(|error| error as f32 / 25.0).collect(); shape.horizon];
    let errors = ErrorQuantiles::of(errors).map(|all| Errors {
        all,
        own: vec![],
        widening: vec![0.0],
        corrected: None,
    });
    Model::new(description, None, Some(Network::new(shape, 1).expect("the shape is small")), errors)
}

fn pipeline(folder: &Path) -> Pipeline {
    Pipeline::from_text(&folder.join("bench.toml"), PIPELINE, &|_| None).expect("the pipeline is sound")
}

/// Batches of 10 000 readings through one partition's forecaster; `follows` with intervals of two levels that learn, and scores.
fn forecaster(cell: CellKind, follows: bool) {
    const STEPS: usize = 200;
    let pipeline = pipeline(Path::new("."));
    let setup = Setup {
        columns: pipeline.columns.clone(),
        rules: pipeline.rules.clone(),
        every: 1,
        levels: if follows { vec![0.8, 0.95] } else { vec![] },
        corrects: true,
        scoring: follows.then(|| Scoring { horizons: Plan::horizons_for(pipeline.train.horizon), every: 12 }),
        model: Arc::new(model(&pipeline, cell)),
        every_text: pipeline.every_text(),
        capacity: SERIES.into(),
    };
    let mut forecaster = Forecaster::new(Arc::new(setup));
    let batches: Vec<RecordBatch> = (0..STEPS).step_by(10).map(|step| batch(&pipeline, step)).collect();
    // The first steps fill the windows.
    let (warming, timed) = batches.split_at(3);
    warming.iter().for_each(|batch| drop(forecaster.push(batch)));
    let started = Instant::now();
    let (mut readings, mut forecasts) = (0, 0);
    for batch in timed {
        let tally = forecaster.push(batch).tally;
        readings += tally.rows;
        forecasts += tally.forecasts;
    }
    let seconds = started.elapsed().as_secs_f64();
    let steps = forecasts as f64 * pipeline.train.lookback as f64;
    let intervals = if follows { " with intervals and scores" } else { "" };
    println!(
        "forecaster {cell:>5} {}x{}: {:>9.0} readings/s, each with a forecast of {}{intervals} ({:.1} M cell steps/s, one thread)",
        pipeline.train.hidden,
        pipeline.train.lookback,
        readings as f64 / seconds,
        pipeline.train.horizon,
        steps / seconds / 1e6
    );
}

/// Ten steps of all series.
fn batch(pipeline: &Pipeline, first: usize) -> RecordBatch {
    let rows: Vec<(usize, usize)> =
        (first..first + 10).flat_map(|step| (0..SERIES).map(move |id| (step, id))).collect();
    let position = (first * SERIES) as i64;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values((0..rows.len()).map(|i| position + i as i64))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, id)| format!("sensor-{id:04}")))),
        Arc::new(
            TimestampMicrosecondArray::from_iter_values(rows.iter().map(|(step, _)| *step as i64 * MINUTE))
                .with_timezone("UTC"),
        ),
        Arc::new(Float64Array::from_iter_values(rows.iter().map(|(step, id)| reading(*id, *step)))),
    ];
    RecordBatch::try_new(pipeline.columns.schema(), columns).expect("columns by the schema")
}

/// The program itself, from a Parquet file of a million and of five million readings.
fn backfill() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("bench.toml"), PIPELINE).expect("the folder takes files");
    let model = model(&pipeline(folder.path()), CellKind::Gru).to_bytes();
    std::fs::write(folder.path().join("model.safetensors"), model).expect("the folder takes files");
    let peaks: Vec<u64> =
        [1_000_000, 5_000_000].map(|readings| backfill_of(folder.path(), readings)).to_vec();
    if let [small, large] = peaks[..] {
        println!("backfill peak memory: {small} MiB for a million readings, {large} MiB for five million");
        assert!(large <= small + small / 4 + 16, "memory grows with the number of readings");
    }
}

/// Returns the peak resident memory, MiB.
fn backfill_of(folder: &Path, readings: usize) -> u64 {
    write_readings(&folder.join("readings.parquet"), readings / SERIES, MINUTE);
    let (seconds, peak) = tidecast(folder, "--quiet backfill bench.toml");
    println!(
        "backfill of {readings} readings over {SERIES} series: {:.0} readings/s, {seconds:.1} s, {peak} MiB at most",
        readings as f64 / seconds
    );
    peak
}

/// Trains on a history of five-minute steps with the recipe as it is chosen from the data; `cell` if it is to be another.
fn training(readings: usize, cell: Option<&str>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let recipe = cell.map_or(String::new(), |cell| format!("cell = \"{cell}\"\n"));
    let (before, _) = PIPELINE.split_once("[train]").expect("the pipeline has a recipe");
    let pipeline = before.replace("every = \"1m\"", "every = \"5m\"") + "[train]\nhorizon = 24\n" + &recipe;
    std::fs::write(folder.path().join("bench.toml"), pipeline).expect("the folder takes files");
    write_readings(&folder.path().join("readings.parquet"), readings / SERIES, 5 * MINUTE);
    let (seconds, peak) =
        tidecast(folder.path(), "train bench.toml --data readings.parquet --out trained.safetensors");
    let cell = cell.unwrap_or("as chosen");
    println!(
        "{}",
        serde_json::json!({
            "training": {"readings": readings, "series": SERIES, "cell": cell, "seconds": seconds.round(), "peak_mib": peak}
        })
    );
}

/// Runs the program to its end: seconds, and its peak resident memory, MiB.
fn tidecast(folder: &Path, line: &str) -> (f64, u64) {
    let started = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidecast"))
        .args(line.split_whitespace())
        .current_dir(folder)
        .stdin(Stdio::null())
        .spawn()
        .expect("the program starts");
    let (succeeded, peak) = watch(&mut child);
    assert!(succeeded, "tidecast {line} succeeds");
    (started.elapsed().as_secs_f64(), peak)
}

/// Whether the child succeeded, and its peak memory.
fn watch(child: &mut Child) -> (bool, u64) {
    let file = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        let status = std::fs::read_to_string(&file).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        peak = peak.max(kilobytes.unwrap_or(0) / 1024);
        if let Some(status) = child.try_wait().expect("the child is ours") {
            return (status.success(), peak);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Steps of all series, in row groups of a hundred steps.
fn write_readings(path: &Path, steps: usize, every: i64) {
    let utc = DataType::Datetime(TimeUnit::Microseconds, Some(TimeZone::UTC));
    let schema = Schema::from_iter([
        Field::new("sensor".into(), DataType::String),
        Field::new("time".into(), utc.clone()),
        Field::new("value".into(), DataType::Float64),
    ]);
    let file = std::fs::File::create(path).expect("the folder takes files");
    let mut writer = ParquetWriter::new(file).batched(&schema).expect("the schema is plain");
    for first in (0..steps).step_by(100) {
        let rows: Vec<(usize, usize)> =
            (first..steps.min(first + 100)).flat_map(|s| (0..SERIES).map(move |id| (s, id))).collect();
        let ids: Vec<String> = rows.iter().map(|(_, id)| format!("sensor-{id:04}")).collect();
        let times: Vec<i64> = rows.iter().map(|(step, _)| *step as i64 * every).collect();
        let values: Vec<f64> = rows.iter().map(|(step, id)| reading(*id, *step)).collect();
        let times = Column::new("time".into(), times).cast(&utc).expect("a number is a time");
        let columns = vec![Column::new("sensor".into(), ids), times, Column::new("value".into(), values)];
        let frame = DataFrame::new(rows.len(), columns).expect("columns of one length");
        writer.write_batch(&frame).expect("the disk has room");
    }
    writer.finish().expect("the disk has room");
}
