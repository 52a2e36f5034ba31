//! Data that no choice of the recipe was made on: a year of 21 made-up weather sensors at a step of ten minutes. Trains with
//! no option but the horizon and evaluates beside the baselines, both with the program itself; prints one line of JSON.
//!
//! `cargo bench --bench unseen -- run`: some minutes on two cores. `-- write FILE` writes the readings as Parquet and nothing
//! else.

mod weather;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use polars::prelude::{Column, DataFrame, DataType, ParquetWriter, TimeUnit, TimeZone};
use serde_json::{Value, json};
use weather::SENSORS;

const SEED: u64 = 20;
/// Steps to forecast: a day.
const HORIZON: usize = weather::DAY;
const MINUTE: i64 = 60_000_000;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["run"] => run(),
        ["write", path] => write(Path::new(path)),
        // A plain `cargo bench` runs all benches, and promises to be over soon.
        _ => eprintln!("skipped: say cargo bench --bench unseen -- run"),
    }
}

fn run() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    write(&at("readings.parquet"));
    std::fs::write(at("weather.toml"), pipeline()).expect("the folder takes files");
    let started = Instant::now();
    tidecast(folder.path(), "train weather.toml --data readings.parquet --out model.safetensors");
    let trained = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let found = tidecast(folder.path(), "evaluate weather.toml --json");
    let found: Value = serde_json::from_str(&found).expect("the evaluation is JSON");
    println!("{}", told(&found, trained, started.elapsed().as_secs_f64()));
}

/// What is asked of an evaluation: the mean over series of MASE, by method, and on how many series ours is better than ridge.
fn told(found: &Value, train_seconds: f64, evaluate_seconds: f64) -> Value {
    let methods = found["overall"]["methods"].as_array().expect("an evaluation has methods");
    let mase = methods.iter().map(|method| {
        let name = method["method"].as_str().expect("a method has a name");
        (name.to_owned(), method["mase"].clone())
    });
    let mase: serde_json::Map<String, Value> = mase.collect();
    json!({
        "data": "weather",
        "series": SENSORS.len(),
        "steps": 365 * weather::DAY,
        "horizon": HORIZON,
        "forecasts": found["overall"]["forecasts"],
        "mase": mase,
        "against_the_best_baseline_of_each_series": found["verdicts"],
        "train_seconds": train_seconds.round(),
        "evaluate_seconds": evaluate_seconds.round(),
    })
}

fn pipeline() -> String {
    format!(
        r#"
        name = "weather"
        [columns]
        time = "time"
        targets = {SENSORS:?}
        [grid]
        every = "10m"
        complete_after = 1
        [forecast]
        model = "model.safetensors"
        [source.parquet]
        path = "readings.parquet"
        [sink.parquet]
        path = "forecasts"
        [train]
        horizon = {HORIZON}
        "#
    )
}

/// What the program says on standard output.
fn tidecast(folder: &Path, line: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tidecast"))
        .args(line.split_whitespace())
        .current_dir(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "tidecast {line} succeeds");
    String::from_utf8(output.stdout).expect("it prints text")
}

fn write(path: &Path) {
    let year = weather::year(SEED);
    let utc = DataType::Datetime(TimeUnit::Microseconds, Some(TimeZone::UTC));
    // From the first of January 2025 on.
    let first = 1_735_689_600_000_000;
    let times: Vec<i64> = (0..year.len() as i64).map(|step| first + 10 * MINUTE * step).collect();
    let mut columns = vec![Column::new("time".into(), times).cast(&utc).expect("a number is a time")];
    for (i, name) in SENSORS.iter().enumerate() {
        let values: Vec<f64> = year.iter().map(|readings| readings[i]).collect();
        columns.push(Column::new((*name).into(), values));
    }
    let mut frame = DataFrame::new(year.len(), columns).expect("columns of one length");
    let file = std::fs::File::create(PathBuf::from(path)).expect("the folder takes files");
    ParquetWriter::new(file).finish(&mut frame).expect("the disk has room");
}
