//! The histories: two samples of the repository and the five-minute series of the Numenta Anomaly Benchmark, a model each.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use polars::prelude::{
    ChunkCompareIneq, Column, DataFrame, DataType, ParquetReader, ParquetWriter, SerReader, TimeUnit,
    TimeZone,
};

/// The part of a history that a development run sees: all but what the others are scored on.
const INNER: f64 = 0.8;

const MINUTE: i64 = 60_000_000;

/// What one model learns from.
pub struct Case {
    pub set: &'static str,
    pub name: String,
    /// Column of the ids, the targets, a step, the longest gap that is filled, and the horizon.
    series: Option<&'static str>,
    targets: &'static str,
    grid: &'static str,
    horizon: usize,
    rows: DataFrame,
}

/// The cases of a set, in the order of their names.
pub fn cases(set: &str, data: &Path) -> Vec<Case> {
    let sample = |name: &str| {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines").join(name).join("readings.parquet");
        let file = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        ParquetReader::new(file).finish().expect("a sample is a table")
    };
    match set {
        "sensors" => vec![Case {
            set: "sensors",
            name: "sensors".into(),
            series: Some("sensor"),
            targets: r#"["value"]"#,
            grid: "every = \"1h\"\ncomplete_after = 1\nmax_gap = \"6h\"",
            horizon: 24,
            rows: sample("sensors"),
        }],
        "motes" => vec![Case {
            set: "motes",
            name: "motes".into(),
            series: Some("mote"),
            targets: r#"["humidity", "temperature"]"#,
            grid: "every = \"5s\"\ncomplete_after = 1\nmax_gap = \"1m\"",
            horizon: 12,
            rows: sample("motes"),
        }],
        "nab" => nab(&data.join("nab")),
        _ => panic!("no set is named {set}: sensors, motes or nab"),
    }
}

/// The files whose readings are mostly five minutes apart.
fn nab(folder: &Path) -> Vec<Case> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "csv"));
    paths.sort();
    let cases = paths.into_iter().filter_map(|path| {
        let (times, values) = readings(&path);
        let mut ways: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        ways.sort_unstable();
        if ways.get(ways.len() / 2) != Some(&(5 * MINUTE)) {
            return None;
        }
        let times = Column::new("time".into(), times);
        let utc = DataType::Datetime(TimeUnit::Microseconds, Some(TimeZone::UTC));
        let times = times.cast(&utc).expect("numbers are times");
        let rows = DataFrame::new(values.len(), vec![times, Column::new("value".into(), values)]);
        Some(Case {
            set: "nab",
            name: path.file_stem().expect("a file has a name").to_string_lossy().into_owned(),
            series: None,
            targets: r#"["value"]"#,
            grid: "every = \"5m\"\nmax_gap = \"1h\"",
            horizon: 12,
            rows: rows.expect("two columns of one length"),
        })
    });
    cases.collect()
}

/// Times (microseconds) and values of a file.
fn readings(path: &Path) -> (Vec<i64>, Vec<f64>) {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let reading = |line: &str| {
        let (time, value) = line.split_once(',').expect("timestamp,value");
        let time = chrono::NaiveDateTime::parse_from_str(time, "%Y-%m-%d %H:%M:%S").expect("a time");
        (time.and_utc().timestamp_micros(), value.parse::<f64>().expect("a number"))
    };
    text.lines().skip(1).map(reading).unzip()
}

impl Case {
    /// Leaves out the latest fifth of the readings.
    pub fn inner(mut self) -> Self {
        let times = self
            .rows
            .column("time")
            .expect("it has times")
            .cast(&DataType::Int64)
            .expect("times are numbers");
        let times = times.as_materialized_series().i64().expect("cast").clone();
        let mut sorted: Vec<i64> = times.iter().flatten().collect();
        sorted.sort_unstable();
        let end = sorted[(sorted.len() as f64 * INNER) as usize];
        self.rows = self.rows.filter(&times.lt(end)).expect("a mask of its length");
        self
    }

    /// Writes history and pipeline into a folder; returns their paths.
    pub fn write(&mut self, folder: &Path, cells: bool) -> (PathBuf, PathBuf) {
        let (readings, file) = (folder.join("readings.parquet"), folder.join("pipeline.toml"));
        let written = File::create(&readings).expect("a file");
        ParquetWriter::new(written).finish(&mut self.rows).expect("a table is written");
        let series = self.series.map_or(String::new(), |series| format!("series = \"{series}\""));
        let cell = if cells { "" } else { "cell = \"none\"" };
        let Self { name, targets, grid, horizon, .. } = self;
        let text = format!(
            r#"
            name = "{name}"
            [columns]
            {series}
            time = "time"
            targets = {targets}
            [grid]
            {grid}
            [forecast]
            model = "model.safetensors"
            levels = [0.8, 0.95]
            [source.parquet]
            path = "readings.parquet"
            [sink.parquet]
            path = "out"
            [train]
            horizon = {horizon}
            train_part = 0.6
            validation_part = 0.2
            {cell}
            "#
        );
        fs::write(&file, text).expect("a file");
        (readings, file)
    }
}
