//! The forecasts of a backfill, or their scores, in one Parquet file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow::array::{Array, ArrayRef, Int32Array, RecordBatch, TimestampMicrosecondArray, UInt64Array};
use arrow::compute::{concat_batches, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tokio::task::spawn_blocking;

use super::table::TableWriter;
use crate::config::Layout;
use tidecast_stream::{Output, Partition, Positions, Sink};
use tidecast_core::table::{Forecasts, forecast_schema, score_schema, timestamp};

/// Values of a row group. 4 MB are few enough to be held and encoded at once, and enough to compress well.
const GROUP_VALUES: usize = 1 << 20;

/// Forecasts of a row group, where they have few values.
const GROUP_FORECASTS: usize = 16_384;

/// Name of the file where a folder is given.
const NAME: &str = "forecasts.parquet";
const SCORES: &str = "scores.parquet";

/// What of an output a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Forecasts(Layout),
    Scores,
}

/// Writes forecasts, or scores, to one file, which has its name only after [`Sink::finish`]; before, it grows beside it as
/// `NAME.partial` (removed when the sink is dropped unfinished, left there when the process is killed). A file that
/// has the name already is replaced then.
///
/// Its bytes depend on the forecasts and their order, not on how they came in batches: row groups are cut at fixed
/// numbers of forecasts.
///
/// It is for inputs that end. A Parquet file cannot be read before its footer is written, so that nothing is durable
/// before [`Sink::finish`], and [`Sink::commit`] does nothing. Rejects are not written: they are counted by who makes
/// them.
pub struct ParquetOutput {
    path: PathBuf,
    what: What,
    /// Microseconds from one step of a forecast to the next.
    every: i64,
    schema: SchemaRef,
    /// `None` while a row group is being written, after a failure, and once the file is finished.
    table: Option<TableWriter>,
    pending: Vec<RecordBatch>,
    pending_rows: usize,
}

impl ParquetOutput {
    /// Creates the file at `path`, or `forecasts.parquet` in it where it is a folder or does not end in `.parquet`.
    /// The steps of a forecast are `every` microseconds apart, and `levels` are those of its intervals.
    ///
    /// # Errors
    /// If the folder or the file cannot be created, or another process is writing the file.
    pub fn create(path: &Path, layout: Layout, levels: &[f64], every: i64) -> Result<Self> {
        Self::create_by(path, None, Some(layout), levels, every)
    }

    /// The same for scores, as `scores.parquet` where a folder is given.
    ///
    /// # Errors
    /// If the folder or the file cannot be created, or another process is writing the file.
    pub fn create_scores(path: &Path, levels: &[f64]) -> Result<Self> {
        Self::create_by(path, None, None, levels, 0)
    }

    /// The same where several may write the same file, each as a `writer` of a name; without a layout it is of scores.
    pub(super) fn create_by(
        path: &Path,
        writer: Option<&str>,
        layout: Option<Layout>,
        levels: &[f64],
        every: i64,
    ) -> Result<Self> {
        let what = layout.map_or(What::Scores, What::Forecasts);
        let path = named(path, if what == What::Scores { SCORES } else { NAME });
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let schema = match what {
            What::Forecasts(Layout::Lists) => lists_schema(levels),
            What::Forecasts(Layout::Long) => long_schema(levels),
            What::Scores => without_position(&score_schema(levels)),
        };
        let table = Some(TableWriter::create_by(&path, writer, &schema)?);
        Ok(Self { path, what, every, schema, table, pending: Vec::new(), pending_rows: 0 })
    }

    /// The file that an output at `path` is written to.
    pub fn file(path: &Path) -> PathBuf {
        named(path, NAME)
    }

    /// The file that will be there after [`Sink::finish`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Forecasts in a row group: as many as hold [`GROUP_VALUES`] values, by the length of the first one.
    fn group_forecasts(&self) -> usize {
        let Some(first) = self.pending.first() else { return GROUP_FORECASTS };
        if self.what == What::Scores {
            return GROUP_FORECASTS;
        }
        let lists = Forecasts::new(first).lists;
        let values: usize = lists.iter().map(|list| list.value_length(0) as usize).sum();
        (GROUP_VALUES / values.max(1)).clamp(1, GROUP_FORECASTS)
    }

    /// Writes the first `rows` pending forecasts as a row group, on a thread that may block.
    async fn write_group(&mut self, rows: usize) -> Result<()> {
        let group = self.take_pending(rows)?;
        let mut table = self.table.take().with_context(|| self.interrupted())?;
        let (what, every, schema) = (self.what, self.every, self.schema.clone());
        let write = move || {
            let group = match what {
                What::Forecasts(Layout::Long) => long(&group, every, schema)?,
                What::Forecasts(Layout::Lists) | What::Scores => {
                    RecordBatch::try_new(schema, group.columns()[1..].to_vec())?
                }
            };
            table.write_group(&group)?;
            Ok::<_, anyhow::Error>(table)
        };
        self.table = Some(spawn_blocking(write).await.context("the writing of a row group panicked")??);
        Ok(())
    }

    fn take_pending(&mut self, rows: usize) -> Result<RecordBatch> {
        let (mut taken, mut missing) = (Vec::new(), rows);
        while missing > 0 {
            let first = self.pending.first().expect("pending batches hold the pending rows");
            let part = missing.min(first.num_rows());
            taken.push(first.slice(0, part));
            let rest = first.slice(part, first.num_rows() - part);
            if rest.num_rows() == 0 {
                drop(self.pending.remove(0))
            } else {
                self.pending[0] = rest
            }
            missing -= part;
        }
        self.pending_rows -= rows;
        Ok(concat_batches(&taken[0].schema(), &taken)?)
    }

    fn interrupted(&self) -> String {
        format!("the writing of {} was interrupted or is finished", self.path.display())
    }
}

impl Sink for ParquetOutput {
    async fn write(&mut self, output: Output) -> Result<()> {
        let of = match self.what {
            What::Forecasts(_) => output.forecasts,
            What::Scores => output.scores,
        };
        let rows = of.num_rows();
        if rows > 0 {
            self.pending.push(of);
            self.pending_rows += rows;
        }
        loop {
            let group = self.group_forecasts();
            if self.pending_rows < group {
                return Ok(());
            }
            self.write_group(group).await?;
        }
    }

    /// Nothing: see [`ParquetOutput`].
    async fn commit(&mut self, reached: &Positions) -> Result<Positions> {
        Ok(reached.clone())
    }

    /// Nothing: files have one partition, which is never taken away.
    async fn forget(&mut self, _partitions: &[Partition]) -> Result<()> {
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        if self.pending_rows > 0 {
            self.write_group(self.pending_rows).await?;
        }
        let table = self.table.take().with_context(|| self.interrupted())?;
        spawn_blocking(move || table.finish()).await.context("the finishing of a file panicked")?
    }
}

/// A path of a file, or that of a file of this name in a folder.
fn named(path: &Path, name: &str) -> PathBuf {
    let is_file = path.extension().is_some_and(|ending| ending == "parquet") && !path.is_dir();
    if is_file { path.to_path_buf() } else { path.join(name) }
}

fn lists_schema(levels: &[f64]) -> SchemaRef {
    without_position(&forecast_schema(levels))
}

/// Without the position of the row that triggered them: it says nothing to whoever reads the file.
fn without_position(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields()[1..].to_vec()))
}

/// One row a step: series, target, origin, every, step (Int32, from 1), time of the step (Timestamp us UTC), forecast
/// (Float32), lower_NN and upper_NN (Float32), model.
fn long_schema(levels: &[f64]) -> SchemaRef {
    let mut fields = Vec::new();
    for field in lists_schema(levels).fields() {
        match field.data_type() {
            DataType::List(item) => {
                let value = Field::new(field.name(), item.data_type().clone(), false);
                if field.name() == "forecast" {
                    fields.push(Field::new("step", DataType::Int32, false));
                    fields.push(Field::new("time", timestamp(), false));
                }
                fields.push(value);
            }
            _ => fields.push(field.as_ref().clone()),
        }
    }
    Arc::new(Schema::new(fields))
}

/// Lists as rows: row i of forecast n is its step i + 1, at origin + (i + 1) * every.
fn long(forecasts: &RecordBatch, every: i64, schema: SchemaRef) -> Result<RecordBatch> {
    let view = Forecasts::new(forecasts);
    let (mut owners, mut steps, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for row in 0..view.len() {
        let horizon = view.lists[0].value_length(row);
        let same = view.lists.iter().all(|list| list.value_length(row) == horizon);
        ensure!(same, "series `{}`: bounds of another length than their forecast", view.series.value(row));
        for step in 1..=horizon {
            let ahead = every.checked_mul(i64::from(step));
            let time = ahead.and_then(|ahead| view.origins.value(row).checked_add(ahead));
            times.push(time.with_context(|| {
                format!(
                    "series `{}`: step {step} has no time in 64 bits of microseconds",
                    view.series.value(row)
                )
            })?);
            owners.push(row as u64);
            steps.push(step);
        }
    }
    let owners = UInt64Array::from(owners);
    let repeated = |column: &dyn Array| take(column, &owners, None);
    let mut columns: Vec<ArrayRef> = vec![
        repeated(view.series)?,
        repeated(view.targets)?,
        repeated(view.origins)?,
        repeated(view.every)?,
        Arc::new(Int32Array::from(steps)),
        Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
    ];
    for list in &view.lists {
        // The offsets may start anywhere in the values.
        let (start, end) = (list.value_offsets()[0] as usize, list.value_offsets()[list.len()] as usize);
        columns.push(list.values().slice(start, end - start));
    }
    columns.push(repeated(view.models)?);
    Ok(RecordBatch::try_new(schema, columns)?)
}
