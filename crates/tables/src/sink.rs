//! Forecasts or scores as Parquet: one file for an input that ends, or a folder that grows with a stream.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow::array::{Array, ArrayRef, Int32Array, RecordBatch, TimestampMicrosecondArray, UInt64Array};
use arrow::compute::{concat_batches, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tidecast_core::schema::{Forecasts, forecast_schema, positions, score_schema, timestamp};
use tidecast_stream::settings::Delivery;
use tidecast_stream::{Output, Partition, Position, Positions, Sink};
use tokio::task::spawn_blocking;

use crate::settings::{Layout, ParquetSinkConfig};
use crate::writer::{StagedFile, TableWriter};

/// Values per row group. 4 MB are few enough to be in memory and encoded at once, and enough to compress well.
const GROUP_VALUES: usize = 1 << 20;

/// Maximum number of rows per row group.
const GROUP_ROWS: usize = 16_384;

const FORECASTS_FILE: &str = "forecasts.parquet";
const SCORES_FILE: &str = "scores.parquet";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contents {
    Forecasts(Layout),
    Scores,
}

impl Contents {
    fn rows(self, output: Output) -> RecordBatch {
        match self {
            Self::Forecasts(_) => output.forecasts,
            Self::Scores => output.scores,
        }
    }
}

/// The table of a sink.
#[derive(Clone, Debug)]
struct TableSpec {
    contents: Contents,
    /// Interval levels.
    levels: Vec<f64>,
    /// Microseconds from one step of a forecast to the next.
    every: i64,
}

impl TableSpec {
    fn schema(&self) -> SchemaRef {
        match self.contents {
            Contents::Forecasts(Layout::Lists) => lists_schema(&self.levels),
            Contents::Forecasts(Layout::Long) => long_schema(&self.levels),
            Contents::Scores => without_position(&score_schema(&self.levels)),
        }
    }

    /// Converts rows of an output to the schema of the table.
    fn convert(&self, rows: &RecordBatch, schema: SchemaRef) -> Result<RecordBatch> {
        match self.contents {
            Contents::Forecasts(Layout::Long) => to_long(rows, self.every, schema),
            Contents::Forecasts(Layout::Lists) | Contents::Scores => {
                Ok(RecordBatch::try_new(schema, rows.columns()[1..].to_vec())?)
            }
        }
    }
}

/// Writes forecasts or scores to one file, for inputs that end. The file gets its name with [`Sink::finish`] and
/// replaces an existing one; before, it is staged next to it as `NAME.partial`, which is removed when the sink is
/// dropped unfinished.
///
/// The bytes depend on the rows and their order, not on the batches: row groups have fixed numbers of rows.
///
/// Nothing is durable before [`Sink::finish`], since a Parquet file cannot be read without its footer; so
/// [`Sink::commit`] does nothing. Rejects are not written.
pub struct ParquetSink {
    path: PathBuf,
    table: TableSpec,
    schema: SchemaRef,
    /// `None` while a row group is being written, after a failure, and once the file is finished.
    writer: Option<TableWriter>,
    pending: Vec<RecordBatch>,
    pending_rows: usize,
}

impl ParquetSink {
    /// Creates the file at `path`, or `forecasts.parquet` in it if it is a folder or does not end in `.parquet`. The
    /// steps of a forecast are `every` microseconds apart.
    ///
    /// # Errors
    /// If the folder or the file cannot be created, or another process is writing the file.
    pub fn create(path: &Path, layout: Layout, levels: &[f64], every: i64) -> Result<Self> {
        let contents = Contents::Forecasts(layout);
        Self::open(Self::forecasts_path(path), None, TableSpec { contents, levels: levels.to_vec(), every })
    }

    /// Creates the file for scores at `path`, or `scores.parquet` in it.
    ///
    /// # Errors
    /// If the folder or the file cannot be created, or another process is writing the file.
    pub fn create_scores(path: &Path, levels: &[f64]) -> Result<Self> {
        let table = TableSpec { contents: Contents::Scores, levels: levels.to_vec(), every: 0 };
        Self::open(path_in(path, SCORES_FILE), None, table)
    }

    /// With the name of a writer, several processes may write the same file at once.
    fn open(path: PathBuf, writer: Option<&str>, table: TableSpec) -> Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let schema = table.schema();
        let writer = Some(TableWriter::create_as(&path, writer, &schema)?);
        Ok(Self { path, table, schema, writer, pending: Vec::new(), pending_rows: 0 })
    }

    /// The file that [`ParquetSink::create`] writes for this path.
    pub fn forecasts_path(path: &Path) -> PathBuf {
        path_in(path, FORECASTS_FILE)
    }

    /// The file that exists after [`Sink::finish`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    async fn write_rows(&mut self, rows: RecordBatch) -> Result<()> {
        if rows.num_rows() > 0 {
            self.pending_rows += rows.num_rows();
            self.pending.push(rows);
        }
        loop {
            let group = self.group_rows();
            if self.pending_rows < group {
                return Ok(());
            }
            self.write_group(group).await?;
        }
    }

    /// Number of rows per row group: with forecasts, as many as have [`GROUP_VALUES`] values, by the length of the
    /// first one.
    fn group_rows(&self) -> usize {
        let Some(first) = self.pending.first() else { return GROUP_ROWS };
        if self.table.contents == Contents::Scores {
            return GROUP_ROWS;
        }
        let lists = Forecasts::new(first).lists;
        let values: usize = lists.iter().map(|list| list.value_length(0) as usize).sum();
        (GROUP_VALUES / values.max(1)).clamp(1, GROUP_ROWS)
    }

    /// Writes the first `rows` pending rows as a row group, on a thread that may block.
    async fn write_group(&mut self, rows: usize) -> Result<()> {
        let group = self.take_pending(rows)?;
        let mut writer = self.writer.take().with_context(|| self.unusable())?;
        let (table, schema) = (self.table.clone(), self.schema.clone());
        let written = spawn_blocking(move || {
            writer.write_group(&table.convert(&group, schema)?)?;
            Ok::<_, anyhow::Error>(writer)
        });
        self.writer = Some(written.await.context("writing a row group panicked")??);
        Ok(())
    }

    fn take_pending(&mut self, rows: usize) -> Result<RecordBatch> {
        let (mut taken, mut missing) = (Vec::new(), rows);
        while missing > 0 {
            let first = self.pending.first().expect("pending batches hold the pending rows");
            let count = missing.min(first.num_rows());
            taken.push(first.slice(0, count));
            let rest = first.slice(count, first.num_rows() - count);
            if rest.num_rows() == 0 {
                drop(self.pending.remove(0))
            } else {
                self.pending[0] = rest
            }
            missing -= count;
        }
        self.pending_rows -= rows;
        Ok(concat_batches(&taken[0].schema(), &taken)?)
    }

    fn unusable(&self) -> String {
        format!("writing {} was interrupted or is finished", self.path.display())
    }
}

impl Sink for ParquetSink {
    async fn write(&mut self, output: Output) -> Result<()> {
        self.write_rows(self.table.contents.rows(output)).await
    }

    /// Does nothing, see [`ParquetSink`].
    async fn commit(&mut self, reached: &Positions) -> Result<Positions> {
        Ok(reached.clone())
    }

    /// Does nothing: files are one partition, which is never revoked.
    async fn discard(&mut self, _partitions: &[Partition]) -> Result<()> {
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        if self.pending_rows > 0 {
            self.write_group(self.pending_rows).await?;
        }
        let writer = self.writer.take().with_context(|| self.unusable())?;
        spawn_blocking(move || writer.finish()).await.context("finishing a file panicked")?
    }
}

/// Writes forecasts or scores to a growing folder of files `TOPIC-PARTITION-POSITION-…`, each with the rows that the
/// messages from that position on have triggered. A file is staged, then renamed when it is complete; only then are its
/// positions committed.
///
/// Exactly once: files end at fixed multiples of positions, so that one name has one content, independent of its
/// writer. An incomplete file is written again after a restart. If the number of positions per file changes, the
/// first new file starts within its range; names contain the end as well, so it does not replace a committed file.
///
/// At least once: every commit closes the files. A crash between the two leaves forecasts that the next run writes
/// again. Names contain the writer's `instance`, so no process replaces the file of another.
pub struct RollingParquetSink {
    folder: PathBuf,
    instance: String,
    table: TableSpec,
    /// Positions per file; `None` if every commit closes the files.
    file_positions: Option<i64>,
    open: BTreeMap<Partition, OpenFile>,
}

struct OpenFile {
    /// The first position after the file's range.
    end: i64,
    sink: ParquetSink,
}

impl RollingParquetSink {
    /// # Errors
    /// If the folder cannot be created.
    pub fn create(
        config: &ParquetSinkConfig,
        levels: &[f64],
        every: i64,
        delivery: Delivery,
        instance: &str,
    ) -> Result<Self> {
        let instance = instance.replace(['/', '\\', '.'], "_");
        let contents = Contents::Forecasts(config.layout);
        let file_positions = match delivery {
            Delivery::ExactlyOnce => Some(config.positions_per_file as i64),
            Delivery::AtLeastOnce => None,
        };
        let table = TableSpec { contents, levels: levels.to_vec(), every };
        Self::open(&config.path, instance, table, file_positions)
    }

    /// Creates a folder for the scores of `forecasts`, with files of the same ranges.
    ///
    /// # Errors
    /// If the folder cannot be created.
    pub fn create_scores(path: &Path, forecasts: &Self) -> Result<Self> {
        let table = TableSpec { contents: Contents::Scores, ..forecasts.table.clone() };
        Self::open(path, forecasts.instance.clone(), table, forecasts.file_positions)
    }

    fn open(folder: &Path, instance: String, table: TableSpec, file_positions: Option<i64>) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        StagedFile::remove_stale(folder, &instance)?;
        Ok(Self { folder: folder.to_path_buf(), instance, table, file_positions, open: BTreeMap::new() })
    }

    /// Opens the file that contains the position `first`. Not every message triggers a row, so `first` may be anywhere
    /// in the range of the file; the caller ensures that nothing before it is missing.
    fn open_file(&self, partition: &Partition, first: i64) -> Result<OpenFile> {
        let (start, end) = match self.file_positions {
            None => (first, i64::MAX),
            Some(count) => (first - first.rem_euclid(count), first - first.rem_euclid(count) + count),
        };
        let topic = partition.topic.replace(['/', '\\'], "_");
        let suffix = if self.file_positions.is_some() { format!("{end:020}") } else { self.instance.clone() };
        let path = self.folder.join(format!("{topic}-{}-{start:020}-{suffix}.parquet", partition.number));
        Ok(OpenFile { end, sink: ParquetSink::open(path, Some(&self.instance), self.table.clone())? })
    }

    async fn close_file(&mut self, partition: &Partition) -> Result<()> {
        match self.open.remove(partition) {
            Some(mut open) => open.sink.finish().await,
            None => Ok(()),
        }
    }
}

impl Sink for RollingParquetSink {
    async fn write(&mut self, output: Output) -> Result<()> {
        let partition = output.partition.clone();
        let mut rows = self.table.contents.rows(output);
        while let Some(first) = positions(&rows).first().copied() {
            if self.open.get(&partition).is_some_and(|open| open.end <= first) {
                self.close_file(&partition).await?;
            }
            let mut open = match self.open.remove(&partition) {
                Some(open) => open,
                None => self.open_file(&partition, first)?,
            };
            let count = positions(&rows).partition_point(|position| *position < open.end);
            open.sink.write_rows(rows.slice(0, count)).await?;
            self.open.insert(partition.clone(), open);
            rows = rows.slice(count, rows.num_rows() - count);
        }
        Ok(())
    }

    async fn commit(&mut self, reached: &Positions) -> Result<Positions> {
        let mut durable = Positions::new();
        for (partition, position) in reached {
            let end =
                self.file_positions.map_or(position.0, |count| position.0 - position.0.rem_euclid(count));
            let is_complete = |open: &OpenFile| self.file_positions.is_none() || open.end <= end;
            if self.open.get(partition).is_some_and(is_complete) {
                self.close_file(partition).await?;
            }
            durable.insert(partition.clone(), Position(end));
        }
        Ok(durable)
    }

    async fn discard(&mut self, partitions: &[Partition]) -> Result<()> {
        self.open.retain(|partition, _| !partitions.contains(partition));
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// `path` itself if it names a Parquet file, otherwise the file `name` in the folder `path`.
fn path_in(path: &Path, name: &str) -> PathBuf {
    let is_file = path.extension().is_some_and(|extension| extension == "parquet") && !path.is_dir();
    if is_file { path.to_path_buf() } else { path.join(name) }
}

fn lists_schema(levels: &[f64]) -> SchemaRef {
    without_position(&forecast_schema(levels))
}

/// Without the position of the triggering row, which means nothing outside the stream.
fn without_position(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields()[1..].to_vec()))
}

/// One row per step: series, target, origin, every, step (Int32, from 1), time of the step (Timestamp us UTC), forecast
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

/// Unnests the lists: value i of a forecast is step i + 1, at origin + (i + 1) * every.
fn to_long(forecasts: &RecordBatch, every: i64, schema: SchemaRef) -> Result<RecordBatch> {
    let view = Forecasts::new(forecasts);
    let (mut forecast_rows, mut steps, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for row in 0..view.len() {
        let horizon = view.lists[0].value_length(row);
        let series = view.series.value(row);
        let is_consistent = view.lists.iter().all(|list| list.value_length(row) == horizon);
        ensure!(is_consistent, "series `{series}`: the bounds and the forecast differ in length");
        for step in 1..=horizon {
            let ahead = every.checked_mul(i64::from(step));
            let time = ahead.and_then(|ahead| view.origins.value(row).checked_add(ahead));
            times.push(time.with_context(|| {
                format!(
                    "series `{series}`: the time of step {step} does not fit into 64 bits of microseconds"
                )
            })?);
            forecast_rows.push(row as u64);
            steps.push(step);
        }
    }
    let forecast_rows = UInt64Array::from(forecast_rows);
    let repeat = |column: &dyn Array| take(column, &forecast_rows, None);
    let mut columns: Vec<ArrayRef> = vec![
        repeat(view.series)?,
        repeat(view.targets)?,
        repeat(view.origins)?,
        repeat(view.every)?,
        Arc::new(Int32Array::from(steps)),
        Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
    ];
    for list in &view.lists {
        // The offsets may start anywhere in the values.
        let (start, end) = (list.value_offsets()[0] as usize, list.value_offsets()[list.len()] as usize);
        columns.push(list.values().slice(start, end - start));
    }
    columns.push(repeat(view.models)?);
    Ok(RecordBatch::try_new(schema, columns)?)
}
