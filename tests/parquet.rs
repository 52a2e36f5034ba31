//! Parquet in and out: files as real programs leave them, and files of our own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{Field, Float32Type, Float64Type, Schema};
use tempfile::TempDir;
use tidecast::config::{Delivery, Layout, Limits, Order, ParquetSink, TimeUnit};
use tidecast_tables::{ParquetInput, ParquetOutput, ParquetParts, Range, TableWriter, describe};
use tidecast_stream::{Batch, Event, Output, Partition, Position, Positions, Sink, Source, WithScores};
use tidecast_core::table::{Columns, ForecastBuilder, ForecastStamp, Observations, ScoreBuilder, forecast_schema};

mod damage;
mod files;
mod order;
mod rows;
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
        known_ahead: vec![],
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

/// Writes a table in row groups of `group` rows.
fn write(path: &Path, group: usize, named: &[Named]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let rows = table(named);
    let mut writer = TableWriter::create(path, &rows.schema()).unwrap();
    for start in (0..rows.num_rows()).step_by(group) {
        writer.write_group(&rows.slice(start, group.min(rows.num_rows() - start))).unwrap();
    }
    writer.finish().unwrap();
}

/// One row of a file.
fn write_row(path: &Path, id: &str, time: i64) {
    write(path, 1, &[("sensor", ids(&[id])), ("time", times(&[time])), ("value", values(&[time as f64]))]);
}

/// What to open, with everything that a test does not care about left at its default.
struct Open<'a> {
    path: &'a Path,
    columns: Columns,
    unit: TimeUnit,
    order: Order,
    range: Range,
    series: Option<&'a [&'a str]>,
}

fn at(path: &Path) -> Open<'_> {
    let (unit, order, range) = (TimeUnit::default(), Order::File, Range::default());
    Open { path, columns: columns(), unit, order, range, series: None }
}

impl Open<'_> {
    fn open(&self) -> anyhow::Result<ParquetInput> {
        let series = self.series.map(|ids| ids.iter().map(|id| id.to_string()).collect::<BTreeSet<_>>());
        let limits = Limits { series: 10, message_bytes: 1000, id_bytes: 20, ..Limits::default() };
        ParquetInput::open(self.path, &self.columns, self.unit, self.order, self.range, series, &limits)
    }

    /// Position, id, time and first target of each row.
    fn rows(&self) -> Vec<(i64, String, i64, Option<f64>)> {
        rows(&self.open().unwrap().batches().collect::<anyhow::Result<Vec<_>>>().unwrap(), &self.columns)
    }

    fn error(&self) -> String {
        match self.open() {
            Err(error) => format!("{error:#}"),
            Ok(input) => format!("{:#}", input.batches().find_map(|batch| batch.err()).expect("an error")),
        }
    }
}

fn rows(batches: &[Batch], columns: &Columns) -> Vec<(i64, String, i64, Option<f64>)> {
    let mut rows = Vec::new();
    for batch in batches {
        assert_eq!(batch.rows.schema(), columns.schema());
        let view = Observations::new(&batch.rows, columns);
        for row in 0..view.len() {
            let id = view.series.map_or(columns.only_series.as_str(), |ids| ids.value(row)).to_string();
            let target = view.targets[0];
            let value = target.is_valid(row).then(|| target.value(row));
            rows.push((view.positions.value(row), id, view.times.value(row), value));
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
fn says(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
}

/// 40 rows in row groups of 10; times fall within a row group and rise from one to the next, two ids in turn.
fn forty(folder: &TempDir) -> PathBuf {
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
