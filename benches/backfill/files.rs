//! Files of readings, and polars on its own with them.

use std::fs::File;
use std::path::Path;

use polars::prelude::{
    Column, DataFrame, DataType, Field, ParquetReader, ParquetWriter, Schema, SerReader as _, TimeUnit,
    TimeZone,
};

use crate::readings::{ids, reading};

/// Steps of all series, in row groups of about a hundred thousand rows.
pub fn write_readings(path: &Path, series: usize, steps: usize, every: i64) {
    let utc = DataType::Datetime(TimeUnit::Microseconds, Some(TimeZone::UTC));
    let schema = Schema::from_iter([
        Field::new("sensor".into(), DataType::String),
        Field::new("time".into(), utc.clone()),
        Field::new("value".into(), DataType::Float64),
    ]);
    let file = File::create(path).expect("the folder takes files");
    let mut writer = ParquetWriter::new(file).batched(&schema).expect("the schema is plain");
    let (names, at_once) = (ids(series), (100_000 / series).max(1));
    for first in (0..steps).step_by(at_once) {
        let rows: Vec<(usize, usize)> =
            (first..steps.min(first + at_once)).flat_map(|s| (0..series).map(move |id| (s, id))).collect();
        let ids: Vec<&str> = rows.iter().map(|(_, id)| names[*id].as_str()).collect();
        let times: Vec<i64> = rows.iter().map(|(step, _)| *step as i64 * every).collect();
        let values: Vec<f64> = rows.iter().map(|(step, id)| reading(*id, *step)).collect();
        let times = Column::new("time".into(), times).cast(&utc).expect("a number is a time");
        let columns = vec![Column::new("sensor".into(), ids), times, Column::new("value".into(), values)];
        let frame = DataFrame::new(rows.len(), columns).expect("columns of one length");
        writer.write_batch(&frame).expect("the disk has room");
    }
    writer.finish().expect("the disk has room");
}

#[allow(dead_code, reason = "not every bench compares with polars")]
/// Reads the readings, and reads and writes the forecasts.
pub fn copied(readings: &Path, forecasts: &Path, to: &Path) {
    let frame = |path: &Path| {
        let file = File::open(path).expect("it was just written");
        ParquetReader::new(file).finish().expect("a file of ours")
    };
    std::hint::black_box(frame(readings));
    let file = File::create(to).expect("the folder takes files");
    ParquetWriter::new(file).finish(&mut frame(forecasts)).expect("the disk has room");
}
