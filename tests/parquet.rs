//! Parquet input and output.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{Field, Float32Type, Float64Type, Schema};
use tempfile::TempDir;
use tidecast_core::schema::{
    Columns, ForecastBuilder, Observations, OutputLabels, ScoreBuilder, forecast_schema,
};
use tidecast_core::time::TimeUnit;
use tidecast_stream::settings::Delivery;
use tidecast_stream::{
    Batch, ForecastAndScores, Output, Partition, Position, Positions, Sink, Source, SourceEvent,
};
use tidecast_tables::settings::{Layout, Order, ParquetSinkConfig};
use tidecast_tables::{
    ParquetSink, ParquetSource, ReadOptions, RollingParquetSink, RowFilter, RowGroupCounts, TableWriter,
    TimeRange, summarize,
};

mod input;
mod sink;
mod types;

type Named = (&'static str, ArrayRef);

fn columns() -> Columns {
    Columns {
        series: Some("sensor".into()),
        only_series: "all".into(),
        time: "time".into(),
        targets: vec!["value".into()],
        covariates: vec![],
        future_covariates: vec![],
    }
}

fn ids(ids: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(ids.to_vec()))
}

fn times(times: &[i64]) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(times.to_vec()).with_timezone("UTC"))
}

fn values(values: &[f64]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

fn table(named: &[Named]) -> RecordBatch {
    let fields: Vec<Field> =
        named.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let columns = named.iter().map(|(_, column)| column.clone()).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// Writes a table with row groups of `group` rows.
fn write(path: &Path, group: usize, named: &[Named]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let rows = table(named);
    let mut writer = TableWriter::create(path, &rows.schema()).unwrap();
    for start in (0..rows.num_rows()).step_by(group) {
        writer.write_group(&rows.slice(start, group.min(rows.num_rows() - start))).unwrap();
    }
    writer.finish().unwrap();
}

/// Writes a file with one row.
fn write_row(path: &Path, id: &str, time: i64) {
    write(path, 1, &[("sensor", ids(&[id])), ("time", times(&[time])), ("value", values(&[time as f64]))]);
}

/// An input to open.
struct Open<'a> {
    path: &'a Path,
    columns: Columns,
    unit: TimeUnit,
    order: Order,
    range: TimeRange,
    series: Option<&'a [&'a str]>,
}

/// An input with default options.
fn at(path: &Path) -> Open<'_> {
    let (unit, order, range) = (TimeUnit::default(), Order::File, TimeRange::default());
    Open { path, columns: columns(), unit, order, range, series: None }
}

impl Open<'_> {
    fn open(&self) -> anyhow::Result<ParquetSource> {
        let ids = self.series.map(|ids| ids.iter().map(|id| id.to_string()).collect::<BTreeSet<_>>());
        let filter = RowFilter { times: self.range, ids };
        let options = ReadOptions { time_unit: self.unit, order: self.order, filter, id_bytes: 20 };
        ParquetSource::open(self.path, &self.columns, options)
    }

    fn rows(&self) -> Vec<InputRow> {
        rows(&self.open().unwrap().batches().collect::<anyhow::Result<Vec<_>>>().unwrap(), &self.columns)
    }

    fn error(&self) -> String {
        match self.open() {
            Err(error) => format!("{error:#}"),
            Ok(input) => format!("{:#}", input.batches().find_map(|batch| batch.err()).expect("an error")),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
struct InputRow {
    position: i64,
    id: String,
    time: i64,
    /// The first target.
    value: Option<f64>,
}

fn row(position: i64, id: &str, time: i64, value: Option<f64>) -> InputRow {
    InputRow { position, id: id.to_owned(), time, value }
}

fn rows(batches: &[Batch], columns: &Columns) -> Vec<InputRow> {
    let mut rows = Vec::new();
    for batch in batches {
        assert_eq!(batch.rows.schema(), columns.schema());
        let view = Observations::new(&batch.rows, columns);
        for index in 0..view.len() {
            let id = view.series.map_or(columns.only_series.as_str(), |ids| ids.value(index));
            let target = view.targets[0];
            let value = target.is_valid(index).then(|| target.value(index));
            rows.push(row(view.positions.value(index), id, view.times.value(index), value));
        }
    }
    rows
}

fn malformed(open: &Open) -> Vec<(i64, String)> {
    let batches = open.open().unwrap().batches().collect::<anyhow::Result<Vec<_>>>().unwrap();
    let all = batches.into_iter().flat_map(|batch| batch.malformed);
    all.map(|malformed| (malformed.offset, malformed.detail)).collect()
}

#[track_caller]
fn assert_contains(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
}

/// Writes 40 rows in row groups of 10. Times decrease within a row group and increase between them; two ids alternate.
fn write_forty_rows(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("forty.parquet");
    let rows: Vec<i64> = (0..40).collect();
    let time = |row: &i64| row / 10 * 100 + 9 - row % 10;
    let id = |row: &i64| if row % 2 == 0 { "even" } else { "odd" };
    write(
        &path,
        10,
        &[
            ("sensor", ids(&rows.iter().map(id).collect::<Vec<_>>())),
            ("time", times(&rows.iter().map(time).collect::<Vec<_>>())),
            ("value", values(&rows.iter().map(|row| *row as f64).collect::<Vec<_>>())),
        ],
    );
    path
}
