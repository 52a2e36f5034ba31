//! Accuracy on a synthetic data set that no setting was tuned on: a year of 21 weather sensors with steps of ten minutes. Trains
//! with default settings except for the horizon, evaluates next to the baselines, and prints a line of JSON.
//!
//! `cargo bench --bench weather -- --run` takes some minutes on two cores. `-- --write FILE` only writes the data as Parquet.

#[path = "../common/mod.rs"]
mod common;
mod station;

use std::path::Path;
use std::time::Instant;

use common::options::Options;
use common::program::output;
use common::rows::MINUTE;
use polars::prelude::{Column, DataFrame, DataType, ParquetWriter, TimeUnit, TimeZone};
use serde_json::{Value, json};
use station::{DAY, SENSORS};

const SEED: u64 = 20;
/// Steps of a forecast: a day.
const HORIZON: usize = DAY;

fn main() {
    let options = Options::from_args();
    match options.value("--write") {
        Some(path) => write(Path::new(&path)),
        None if options.has("--run") => run(),
        // A plain `cargo bench` runs every bench.
        None => eprintln!("skipped: use cargo bench --bench weather -- --run"),
    }
}

fn run() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(&folder.path().join("rows.parquet"));
    std::fs::write(folder.path().join("weather.toml"), pipeline()).expect("the folder is writable");
    let started = Instant::now();
    let train = ["train", "weather.toml", "--data", "rows.parquet", "--out", "model.safetensors"];
    output(folder.path(), &train);
    let train_seconds = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let report = output(folder.path(), &["evaluate", "weather.toml", "--json"]);
    let report: Value = serde_json::from_slice(&report).expect("evaluate prints JSON");
    println!("{}", summary(&report, train_seconds, started.elapsed().as_secs_f64()));
}

/// Mean MASE over the sensors by method, and the verdicts against the best baseline of each sensor.
fn summary(report: &Value, train_seconds: f64, evaluate_seconds: f64) -> Value {
    let methods = report["overall"]["methods"].as_array().expect("methods");
    let mase = methods.iter().map(|method| {
        let name = method["method"].as_str().expect("a method has a name");
        (name.to_owned(), method["mase"].clone())
    });
    let mase: serde_json::Map<String, Value> = mase.collect();
    json!({
        "bench": "weather",
        "series": SENSORS.len(),
        "steps": 365 * DAY,
        "horizon": HORIZON,
        "forecasts": report["overall"]["forecasts"],
        "mase": mase,
        "verdicts": report["verdicts"],
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
        path = "rows.parquet"
        [sink.parquet]
        path = "forecasts"
        [train]
        horizon = {HORIZON}
        "#
    )
}

fn write(path: &Path) {
    let year = station::year(SEED);
    let utc = DataType::Datetime(TimeUnit::Microseconds, Some(TimeZone::UTC));
    // 2025-01-01T00:00:00Z
    let first = 1_735_689_600_000_000;
    let times: Vec<i64> = (0..year.len() as i64).map(|step| first + 10 * MINUTE * step).collect();
    let mut columns = vec![Column::new("time".into(), times).cast(&utc).expect("integers are times")];
    for (i, name) in SENSORS.iter().enumerate() {
        let values: Vec<f64> = year.iter().map(|observation| observation[i]).collect();
        columns.push(Column::new((*name).into(), values));
    }
    let mut frame = DataFrame::new(year.len(), columns).expect("columns of equal length");
    let file = std::fs::File::create(path).expect("the folder is writable");
    ParquetWriter::new(file).finish(&mut frame).expect("there is disk space");
}
