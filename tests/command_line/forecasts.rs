//! Forecasts as values, from printed lines, and from Parquet files as polars reads them.

use std::fs::File;
use std::path::Path;

use polars::prelude::{ParquetReader, SerReader};
use serde::Deserialize;

use crate::harness::{Forecast, SECOND};

/// A printed line with the interval level of the tests.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    series: String,
    target: String,
    origin: String,
    every: String,
    forecast: Vec<f32>,
    lower_80: Vec<f32>,
    upper_80: Vec<f32>,
    model: String,
}

const LISTS: [&str; 3] = ["forecast", "lower_80", "upper_80"];

fn bits(list: &[f32]) -> Vec<u32> {
    list.iter().map(|value| value.to_bits()).collect()
}

/// Forecasts from lines of JSON.
pub fn parse_lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<Forecast> {
    let one = |line: &str| {
        let Line { series, target, origin, every, forecast, lower_80, upper_80, model } =
            serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert_eq!((every.as_str(), model.len()), ("10s", 12));
        let origin = chrono::DateTime::parse_from_rfc3339(&origin).expect("RFC 3339");
        let bits = [forecast, lower_80, upper_80].iter().map(|list| bits(list)).collect();
        Forecast { series, target, origin: origin.timestamp(), position: 0, bits }
    };
    lines.into_iter().map(one).collect()
}

/// Forecasts from a Parquet file with one row per forecast.
pub fn read_parquet(path: &Path) -> Vec<Forecast> {
    let file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let frame = ParquetReader::new(file).finish().expect("a whole file");
    let names: Vec<_> = frame.get_column_names().into_iter().map(|name| name.as_str()).collect();
    assert_eq!(names, ["series", "target", "origin", "every", LISTS[0], LISTS[1], LISTS[2], "model"]);
    let text =
        |name: &str, row: usize| frame.column(name).unwrap().str().unwrap().get(row).unwrap().to_string();
    let list = |name: &str, row: usize| {
        let values = frame.column(name).unwrap().list().unwrap().get_as_series(row).unwrap();
        bits(&values.f32().unwrap().into_no_null_iter().collect::<Vec<_>>())
    };
    let origins = frame.column("origin").unwrap().datetime().unwrap().physical().clone();
    let one = |row: usize| Forecast {
        series: text("series", row),
        target: text("target", row),
        origin: origins.get(row).unwrap() / SECOND,
        position: 0,
        bits: LISTS.iter().map(|name| list(name, row)).collect(),
    };
    (0..frame.height()).map(one).collect()
}
