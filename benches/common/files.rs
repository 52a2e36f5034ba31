//! Parquet files of rows, written and copied by polars.

use std::fs::File;
use std::path::Path;

use polars::prelude::{
    Column, DataFrame, DataType, Field, ParquetReader, ParquetWriter, Schema, SerReader as _, TimeUnit,
    TimeZone,
};

use super::rows::{ids, value};

const ROW_GROUP_ROWS: usize = 100_000;

/// Writes `steps` rows of each series, ordered by time.
pub fn write_rows(path: &Path, series: usize, steps: usize, every: i64) {
    let utc = DataType::Datetime(TimeUnit::Microseconds, Some(TimeZone::UTC));
    let schema = Schema::from_iter([
        Field::new("sensor".into(), DataType::String),
        Field::new("time".into(), utc.clone()),
        Field::new("value".into(), DataType::Float64),
    ]);
    let file = File::create(path).expect("the folder is writable");
    let mut writer = ParquetWriter::new(file).batched(&schema).expect("the schema is plain");
    let (names, group_steps) = (ids(series), (ROW_GROUP_ROWS / series).max(1));
    for first in (0..steps).step_by(group_steps) {
        let rows: Vec<(usize, usize)> = (first..steps.min(first + group_steps))
            .flat_map(|s| (0..series).map(move |id| (s, id)))
            .collect();
        let ids: Vec<&str> = rows.iter().map(|(_, id)| names[*id].as_str()).collect();
        let times: Vec<i64> = rows.iter().map(|(step, _)| *step as i64 * every).collect();
        let values: Vec<f64> = rows.iter().map(|(step, id)| value(*id, *step)).collect();
        let times = Column::new("time".into(), times).cast(&utc).expect("integers are times");
        let columns = vec![Column::new("sensor".into(), ids), times, Column::new("value".into(), values)];
        let frame = DataFrame::new(rows.len(), columns).expect("columns of equal length");
        writer.write_batch(&frame).expect("there is disk space");
    }
    writer.finish().expect("there is disk space");
}

/// Reads the input, and reads and writes the output: the cost of the files without forecasting.
pub fn copy(input: &Path, output: &Path, copy: &Path) {
    let frame = |path: &Path| {
        let file = File::open(path).expect("the file was just written");
        ParquetReader::new(file).finish().expect("the file is valid")
    };
    std::hint::black_box(frame(input));
    let file = File::create(copy).expect("the folder is writable");
    ParquetWriter::new(file).finish(&mut frame(output)).expect("there is disk space");
}
