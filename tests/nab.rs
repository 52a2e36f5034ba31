//! Real damage in real data: two series of the Numenta Anomaly Benchmark as they are, with what the line counted in them
//! held against what polars counts.

use std::path::{Path, PathBuf};

use polars::prelude::{
    ChunkCompareEq, ChunkCompareIneq, Column, DataFrame, DataType, ParquetWriter, TimeUnit, TimeZone,
    cum_max, diff,
};
use polars::series::ops::NullBehavior;
use tidecast_core::series::Refusal;
use tidecast_stream::driver::EndOfInput;

use crate::harness::{Case, SECOND, drive_to_memory, parquet};

const MINUTE: i64 = 60 * SECOND;

/// The folder that `TIDECAST_DATA` names.
fn data(test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("TIDECAST_DATA").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("SKIPPED {test}: TIDECAST_DATA names no folder with real data");
    }
    folder
}

/// The file as a data frame: `time` (microseconds) and `value`.
fn read(path: &Path) -> DataFrame {
    let text = std::fs::read_to_string(path).expect("TIDECAST_DATA/nab holds the benchmark's files");
    let (mut times, mut values) = (Vec::new(), Vec::new());
    for line in text.lines().skip(1) {
        let (time, value) = line.split_once(',').expect("timestamp,value");
        let time = chrono::NaiveDateTime::parse_from_str(time, "%Y-%m-%d %H:%M:%S").expect("a time");
        times.push(time.and_utc().timestamp_micros());
        values.push(value.parse::<f64>().expect("a number"));
    }
    DataFrame::new(times.len(), vec![Column::new("time".into(), times), Column::new("value".into(), values)])
        .expect("two columns of one length")
}

/// Duplicates, late rows and restarts, counted over whole columns.
fn counts(frame: &DataFrame, max_gap: i64) -> (u64, u64, u64) {
    let times = frame.column("time").expect("it has times").as_materialized_series();
    let highest = cum_max(times, false).expect("numbers").shift(1);
    let repeated = times.len() - times.n_unique().expect("numbers can be counted");
    let count = |mask: polars::prelude::BooleanChunked| mask.sum().unwrap_or(0) as usize;
    let below = count(times.lt(&highest).expect("columns of one length"));
    let level = count(times.equal(&highest).expect("columns of one length"));
    let sorted = times.unique().expect("numbers").sort(Default::default()).expect("numbers");
    let steps = diff(&sorted, 1, NullBehavior::Drop).expect("numbers");
    let gaps = count(steps.gt(max_gap).expect("numbers"));
    (repeated as u64, (below + level - repeated) as u64, gaps as u64)
}

async fn assert_counted(name: &str, every: i64, max_gap: i64, expected: (u64, u64, u64)) {
    let Some(folder) = data(name) else { return };
    let frame = read(&folder.join("nab").join(name));
    assert_eq!(counts(&frame, max_gap), expected, "what polars counts in {name}");

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("readings.parquet");
    let utc = DataType::Datetime(TimeUnit::Microseconds, Some(TimeZone::UTC));
    let mut frame = frame;
    let times = frame.column("time").expect("it has times").cast(&utc).expect("numbers are times");
    frame.replace("time", times).expect("it has times");
    ParquetWriter::new(std::fs::File::create(&path).expect("a file")).finish(&mut frame).expect("a file");

    let mut case = Case::default();
    case.columns.series = None;
    case.step_config.grid.every = every;
    case.step_config.max_gap = max_gap;
    let (progress, _) = drive_to_memory(&mut parquet(&path, &case.columns), case.setup(), EndOfInput::CloseSteps).await;
    let tally = &progress.tally;
    assert_eq!(tally.rows, frame.height() as u64);
    assert_eq!(
        (tally.refused(Refusal::Duplicate), tally.refused(Refusal::Late), tally.restarts),
        expected,
        "{tally}"
    );
    assert_eq!(tally.refused_total(), expected.0 + expected.1);
}

#[tokio::test]
async fn machine_temperature_goes_back_by_an_hour_once() {
    assert_counted("machine_temperature_system_failure.csv", 5 * MINUTE, 60 * MINUTE, (12, 0, 0)).await;
}

#[tokio::test]
async fn ambient_temperature_has_gaps_of_up_to_a_week() {
    assert_counted("ambient_temperature_system_failure.csv", 60 * MINUTE, 60 * MINUTE, (0, 0, 10)).await;
    assert_counted("ambient_temperature_system_failure.csv", 60 * MINUTE, 360 * MINUTE, (0, 0, 8)).await;
}

#[tokio::test]
async fn request_latency_repeats_an_hour_and_misses_one() {
    assert_counted("ec2_request_latency_system_failure.csv", 5 * MINUTE, 60 * MINUTE, (11, 0, 1)).await;
}
