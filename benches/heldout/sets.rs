//! Histories: two samples of the repository, and the five-minute series of the Numenta Anomaly Benchmark with a model each.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use polars::prelude::{
    ChunkCompareIneq, Column, DataFrame, DataType, ParquetReader, ParquetWriter, SerReader, TimeUnit,
    TimeZone,
};

use crate::common::rows::MINUTE;

/// A history and its model.
pub struct Case {
    pub set: &'static str,
    pub name: String,
    /// Keys of `[columns]` besides the time.
    columns: &'static str,
    /// Keys of `[grid]`.
    grid: &'static str,
    horizon: usize,
    rows: DataFrame,
}

/// The cases of a set, ordered by name.
pub fn cases(set: &str, data: &Path) -> Vec<Case> {
    let sample = |name: &str| {
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
        let path = samples.join(name).join("readings.parquet");
        let file = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        ParquetReader::new(file).finish().expect("a sample is a valid file")
    };
    match set {
        "sensors" => vec![Case {
            set: "sensors",
            name: "sensors".into(),
            columns: "series = \"sensor\"\ntargets = [\"value\"]",
            grid: "every = \"1h\"\ncomplete_after = 1\nmax_gap = \"6h\"",
            horizon: 24,
            rows: sample("sensors"),
        }],
        "motes" => vec![Case {
            set: "motes",
            name: "motes".into(),
            columns: "series = \"mote\"\ntargets = [\"humidity\", \"temperature\"]",
            grid: "every = \"5s\"\ncomplete_after = 1\nmax_gap = \"1m\"",
            horizon: 12,
            rows: sample("motes"),
        }],
        "nab" => nab(&data.join("nab")),
        _ => panic!("unknown set {set}: use sensors, motes or nab"),
    }
}

/// The files with a median interval of five minutes.
fn nab(folder: &Path) -> Vec<Case> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "csv"));
    paths.sort();
    let cases = paths.into_iter().filter_map(|path| {
        let (times, values) = read_csv(&path);
        let mut intervals: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        intervals.sort_unstable();
        if intervals.get(intervals.len() / 2) != Some(&(5 * MINUTE)) {
            return None;
        }
        let times = Column::new("time".into(), times);
        let utc = DataType::Datetime(TimeUnit::Microseconds, Some(TimeZone::UTC));
        let times = times.cast(&utc).expect("integers are times");
        let rows = DataFrame::new(values.len(), vec![times, Column::new("value".into(), values)]);
        Some(Case {
            set: "nab",
            name: path.file_stem().expect("a file name").to_string_lossy().into_owned(),
            columns: "targets = [\"value\"]",
            grid: "every = \"5m\"\nmax_gap = \"1h\"",
            horizon: 12,
            rows: rows.expect("columns of equal length"),
        })
    });
    cases.collect()
}

/// Times in microseconds and values of a file.
fn read_csv(path: &Path) -> (Vec<i64>, Vec<f64>) {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let parse = |line: &str| {
        let (time, value) = line.split_once(',').expect("timestamp,value");
        let time = chrono::NaiveDateTime::parse_from_str(time, "%Y-%m-%d %H:%M:%S").expect("a time");
        (time.and_utc().timestamp_micros(), value.parse::<f64>().expect("a number"))
    };
    text.lines().skip(1).map(parse).unzip()
}

impl Case {
    /// Removes the latest fifth of the rows.
    pub fn without_last_fifth(mut self) -> Self {
        let times = self.rows.column("time").expect("a time column");
        let times = times.cast(&DataType::Int64).expect("times are integers");
        let times = times.as_materialized_series().i64().expect("the column was cast").clone();
        let mut sorted: Vec<i64> = times.iter().flatten().collect();
        sorted.sort_unstable();
        let end = sorted[(sorted.len() as f64 * 0.8) as usize];
        self.rows = self.rows.filter(&times.lt(end)).expect("a mask of equal length");
        self
    }

    /// Writes `rows.parquet` and `pipeline.toml` into a folder.
    pub fn write(&mut self, folder: &Path, has_cells: bool) {
        let file = File::create(folder.join("rows.parquet")).expect("the folder is writable");
        ParquetWriter::new(file).finish(&mut self.rows).expect("there is disk space");
        let cell = if has_cells { "" } else { "cell = \"none\"" };
        let Self { name, columns, grid, horizon, .. } = self;
        let text = format!(
            r#"
            name = "{name}"
            [columns]
            time = "time"
            {columns}
            [grid]
            {grid}
            [forecast]
            model = "model.safetensors"
            levels = [0.8, 0.95]
            [source.parquet]
            path = "rows.parquet"
            [sink.parquet]
            path = "out"
            [train]
            horizon = {horizon}
            train_fraction = 0.6
            validation_fraction = 0.2
            {cell}
            "#
        );
        fs::write(folder.join("pipeline.toml"), text).expect("the folder is writable");
    }
}
