//! Damaged real data: series of the Numenta Anomaly Benchmark, with row counters compared to counts by polars.

use std::path::{Path, PathBuf};

use polars::prelude::{
    ChunkCompareEq, ChunkCompareIneq, Column, DataFrame, DataType, ParquetWriter, TimeUnit, TimeZone,
    cum_max, diff,
};
use polars::series::ops::NullBehavior;
use tidecast_core::series::Refusal;
use tidecast_core::time::MINUTE;
use tidecast_stream::driver::OnEndOfInput;

use crate::harness::{Case, drive_to_memory, parquet};

#[derive(Debug, PartialEq)]
struct Counts {
    duplicates: u64,
    late: u64,
    /// Gaps longer than `max_gap`.
    restarts: u64,
}

/// A benchmark file, the grid and the counts it leads to.
struct Check {
    file: &'static str,
    every: i64,
    max_gap: i64,
    counts: Counts,
}

/// Folder of real data, if the environment names one.
fn data_folder(test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("TIDECAST_DATA").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("SKIPPED {test}: TIDECAST_DATA names no folder with real data");
    }
    folder
}

/// The file as a data frame of `time` (microseconds) and `value`.
fn read(path: &Path) -> DataFrame {
    let text = std::fs::read_to_string(path).expect("TIDECAST_DATA/nab holds the files of the benchmark");
    let (mut times, mut values) = (Vec::new(), Vec::new());
    for line in text.lines().skip(1) {
        let (time, value) = line.split_once(',').expect("a line is timestamp,value");
        let time = chrono::NaiveDateTime::parse_from_str(time, "%Y-%m-%d %H:%M:%S").expect("a timestamp");
        times.push(time.and_utc().timestamp_micros());
        values.push(value.parse::<f64>().expect("a number"));
    }
    DataFrame::new(times.len(), vec![Column::new("time".into(), times), Column::new("value".into(), values)])
        .expect("both columns have the same length")
}

/// Counts over whole columns.
fn count_with_polars(frame: &DataFrame, max_gap: i64) -> Counts {
    let times = frame.column("time").expect("the column exists").as_materialized_series();
    let previous_max = cum_max(times, false).expect("times are numbers").shift(1);
    let duplicates = (times.len() - times.n_unique().expect("times are numbers")) as u64;
    let count = |mask: polars::prelude::BooleanChunked| u64::from(mask.sum().unwrap_or(0));
    let earlier = count(times.lt(&previous_max).expect("both have the same length"));
    let equal = count(times.equal(&previous_max).expect("both have the same length"));
    let sorted =
        times.unique().expect("times are numbers").sort(Default::default()).expect("times are numbers");
    let gaps = diff(&sorted, 1, NullBehavior::Drop).expect("times are numbers");
    let restarts = count(gaps.gt(max_gap).expect("gaps are numbers"));
    Counts { duplicates, late: earlier + equal - duplicates, restarts }
}

async fn check(Check { file, every, max_gap, counts }: Check) {
    let Some(folder) = data_folder(file) else { return };
    let mut frame = read(&folder.join("nab").join(file));
    assert_eq!(count_with_polars(&frame, max_gap), counts, "counts of polars in {file}");

    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("readings.parquet");
    let utc = DataType::Datetime(TimeUnit::Microseconds, Some(TimeZone::UTC));
    let times = frame.column("time").expect("the column exists").cast(&utc).expect("numbers are times");
    frame.replace("time", times).expect("the column exists");
    let file = std::fs::File::create(&path).expect("the folder is writable");
    ParquetWriter::new(file).finish(&mut frame).expect("the folder is writable");

    let mut case = Case::default();
    case.columns.series = None;
    case.step_config.grid.every = every;
    case.step_config.max_gap = max_gap;
    let mut source = parquet(&path, &case.columns);
    let (progress, _) = drive_to_memory(&mut source, case.setup(), OnEndOfInput::CloseSteps).await;
    let counters = &progress.counters;
    assert_eq!(counters.rows, frame.height() as u64);
    let found = Counts {
        duplicates: counters.refused(Refusal::Duplicate),
        late: counters.refused(Refusal::Late),
        restarts: counters.restarts,
    };
    assert_eq!(found, counts, "{counters}");
    assert_eq!(counters.refused_total(), counts.duplicates + counts.late);
}

#[tokio::test]
async fn machine_temperature_goes_back_by_an_hour_once() {
    check(Check {
        file: "machine_temperature_system_failure.csv",
        every: 5 * MINUTE,
        max_gap: 60 * MINUTE,
        counts: Counts { duplicates: 12, late: 0, restarts: 0 },
    })
    .await;
}

#[tokio::test]
async fn ambient_temperature_has_gaps_of_up_to_a_week() {
    for (max_gap, restarts) in [(60 * MINUTE, 10), (360 * MINUTE, 8)] {
        check(Check {
            file: "ambient_temperature_system_failure.csv",
            every: 60 * MINUTE,
            max_gap,
            counts: Counts { duplicates: 0, late: 0, restarts },
        })
        .await;
    }
}

#[tokio::test]
async fn request_latency_repeats_one_hour_and_lacks_another() {
    check(Check {
        file: "ec2_request_latency_system_failure.csv",
        every: 5 * MINUTE,
        max_gap: 60 * MINUTE,
        counts: Counts { duplicates: 11, late: 0, restarts: 1 },
    })
    .await;
}
