//! A Parquet file that appears under its name whole or not at all.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use polars_arrow::datatypes::ArrowSchema;
use polars_arrow::record_batch::RecordBatchT;
use polars_parquet::write::{
    CompressionOptions, Encoding, FileWriter, StatisticsOptions, Version, WriteOptions, get_dtype_encoding,
    row_group_iter,
};

use super::bridge::{array_to_polars, field_to_polars};
use super::partial::Partial;

/// Writes a table, row group by row group, to `NAME.partial` beside its final name. [`TableWriter::finish`] makes it
/// durable and gives it the name, in one step; a writer dropped before that removes the partial file, and a killed
/// process leaves it under its partial name. Nobody else writes the partial file meanwhile. The bytes depend on the rows and on
/// where row groups are cut, on nothing else.
pub struct TableWriter {
    path: PathBuf,
    partial: Partial,
    /// `None` once the file has its name.
    writer: Option<FileWriter<BufWriter<File>>>,
    fields: Vec<Field>,
    schema: Arc<ArrowSchema>,
    encodings: Vec<Vec<Encoding>>,
    options: WriteOptions,
}

impl TableWriter {
    /// # Errors
    /// If the file cannot be created, another process is writing it, or the schema has a type that Parquet has not.
    pub fn create(path: &Path, schema: &Schema) -> Result<Self> {
        Self::create_by(path, None, schema)
    }

    /// The same; with a `writer`, several may write the same file, each beside it on its own.
    pub(super) fn create_by(path: &Path, writer: Option<&str>, schema: &Schema) -> Result<Self> {
        let fields: Vec<Field> = schema.fields().iter().map(|field| written(field)).collect();
        let polars = fields.iter().map(field_to_polars).collect::<Result<Vec<_>>>()?;
        let schema: ArrowSchema = polars.into_iter().map(|field| (field.name.clone(), field)).collect();
        let options = WriteOptions {
            statistics: StatisticsOptions::default(),
            version: Version::V1,
            compression: CompressionOptions::Zstd(None),
            data_page_size: None,
        };
        let partial = match writer {
            Some(writer) => Partial::of(path, writer)?,
            None => Partial::only(path)?,
        };
        let encodings = schema.iter_values().map(|field| get_dtype_encoding(&field.dtype)).collect();
        let writer = FileWriter::try_new(BufWriter::new(partial.file()?), schema.clone(), options)?;
        let (path, schema) = (path.to_path_buf(), Arc::new(schema));
        Ok(Self { path, partial, writer: Some(writer), fields, schema, encodings, options })
    }

    /// Writes rows as one row group; no rows are no row group.
    ///
    /// # Errors
    /// If the disk is full or fails.
    ///
    /// # Panics
    /// If the rows do not have the schema of the table.
    pub fn write_group(&mut self, rows: &RecordBatch) -> Result<()> {
        assert_eq!(rows.num_columns(), self.fields.len(), "rows have the columns of their table");
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let columns = rows.columns().iter().zip(&self.fields);
        let columns =
            columns.map(|(column, field)| array_to_polars(&cast(column, field.data_type())?, field));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let group = RecordBatchT::try_new(rows.num_rows(), self.schema.clone(), columns)?;
        let writer = self.writer.as_mut().expect("a table is written before it is finished");
        let types = writer.parquet_schema().fields().to_vec();
        let group = row_group_iter(group, self.encodings.clone().into(), types, self.options);
        let written = writer.write(rows.num_rows() as u64, group);
        written.with_context(|| format!("cannot write {}", self.partial.path().display()))
    }

    /// Makes the file durable and gives it its name; a file that had it is replaced.
    ///
    /// # Errors
    /// If the disk is full or fails; the partial file is removed then.
    pub fn finish(mut self) -> Result<()> {
        let mut writer = self.writer.take().expect("a table is finished once");
        let place = || format!("cannot write {}", self.partial.path().display());
        let result = (|| -> Result<()> {
            // Without the Arrow schema, which only readers of Arrow know: the Parquet types say it all.
            writer.end(Some(Vec::new())).with_context(place)?;
            let mut buffer = writer.into_inner();
            buffer.flush().with_context(place)?;
            buffer.get_ref().sync_all().with_context(place)?;
            self.partial.rename(&self.path)?;
            sync_folder(&self.path)
        })();
        if result.is_err() {
            self.partial.remove();
        }
        result
    }
}

impl Drop for TableWriter {
    fn drop(&mut self) {
        if self.writer.take().is_some() {
            self.partial.remove();
        }
    }
}

/// A rename is durable once its folder is.
fn sync_folder(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let sync = || File::open(folder)?.sync_all();
    if cfg!(unix) {
        sync().with_context(|| format!("cannot sync the folder {}", folder.display()))
    } else {
        Ok(())
    }
}

/// The field as polars' writer takes it: text and lists with 64-bit offsets. The file is the same.
fn written(field: &Field) -> Field {
    field.clone().with_data_type(match field.data_type() {
        DataType::Utf8 => DataType::LargeUtf8,
        DataType::List(item) => DataType::LargeList(Arc::new(written(item))),
        found => found.clone(),
    })
}
