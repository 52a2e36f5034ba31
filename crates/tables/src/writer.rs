//! A Parquet file that appears under its name whole or not at all.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use polars_arrow::datatypes::ArrowSchema;
use polars_arrow::record_batch::RecordBatchT;
use polars_parquet::write::{
    CompressionOptions, Encoding, FileWriter, StatisticsOptions, Version, WriteOptions, get_dtype_encoding,
    row_group_iter,
};

use crate::ffi::{array_to_polars, field_to_polars};

/// Suffix of a staged file.
const STAGED_SUFFIX: &str = ".partial";

/// Writes a table, row group by row group, to a staged file next to its final name. [`TableWriter::finish`] makes it
/// durable and renames it, in one step. A writer dropped before that removes the staged file; a killed process leaves
/// it. No other process writes the staged file meanwhile. The bytes depend only on the rows and on the division into
/// row groups.
pub struct TableWriter {
    path: PathBuf,
    staged: StagedFile,
    /// `None` once the file is finished.
    writer: Option<FileWriter<BufWriter<File>>>,
    fields: Vec<Field>,
    schema: Arc<ArrowSchema>,
    encodings: Vec<Vec<Encoding>>,
    options: WriteOptions,
}

impl TableWriter {
    /// Creates a file that one process at a time may write, staged as `NAME.partial`.
    ///
    /// # Errors
    /// If the file cannot be created, another process is writing it, or the schema has a type that Parquet does not have.
    pub fn create(path: &Path, schema: &Schema) -> Result<Self> {
        Self::create_as(path, None, schema)
    }

    /// With the name of a writer, several processes may write the same file at once, each with a staged file of its
    /// own.
    pub(super) fn create_as(path: &Path, writer: Option<&str>, schema: &Schema) -> Result<Self> {
        let fields: Vec<Field> = schema.fields().iter().map(|field| with_wide_offsets(field)).collect();
        let polars = fields.iter().map(field_to_polars).collect::<Result<Vec<_>>>()?;
        let schema: ArrowSchema = polars.into_iter().map(|field| (field.name.clone(), field)).collect();
        let options = WriteOptions {
            statistics: StatisticsOptions::default(),
            version: Version::V1,
            compression: CompressionOptions::Zstd(None),
            data_page_size: None,
        };
        let staged = match writer {
            Some(writer) => StagedFile::shared(path, writer)?,
            None => StagedFile::exclusive(path)?,
        };
        let encodings = schema.iter_values().map(|field| get_dtype_encoding(&field.dtype)).collect();
        let writer = FileWriter::try_new(BufWriter::new(staged.open()?), schema.clone(), options)?;
        let (path, schema) = (path.to_path_buf(), Arc::new(schema));
        Ok(Self { path, staged, writer: Some(writer), fields, schema, encodings, options })
    }

    /// Writes rows as one row group. Writes nothing if there are none.
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
        written.with_context(|| format!("cannot write {}", self.staged.path.display()))
    }

    /// Makes the file durable and renames it, replacing a file with that name.
    ///
    /// # Errors
    /// If the disk is full or fails. Then the staged file is removed.
    pub fn finish(mut self) -> Result<()> {
        let writer = self.writer.take().expect("a table is finished once");
        let result = self.finish_writer(writer);
        if result.is_err() {
            self.staged.remove();
        }
        result
    }

    fn finish_writer(&self, mut writer: FileWriter<BufWriter<File>>) -> Result<()> {
        let context = || format!("cannot write {}", self.staged.path.display());
        // Without the Arrow schema: the Parquet types are sufficient.
        writer.end(Some(Vec::new())).with_context(context)?;
        let mut buffer = writer.into_inner();
        buffer.flush().with_context(context)?;
        buffer.get_ref().sync_all().with_context(context)?;
        self.staged.rename(&self.path)?;
        sync_folder(&self.path)
    }
}

impl Drop for TableWriter {
    fn drop(&mut self) {
        if self.writer.take().is_some() {
            self.staged.remove();
        }
    }
}

/// A rename is durable once its folder is.
fn sync_folder(path: &Path) -> Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.with_context(|| format!("cannot sync the folder {}", folder.display()))
}

/// Text and lists with 64-bit offsets, as polars' writer requires. The file does not depend on it.
fn with_wide_offsets(field: &Field) -> Field {
    field.clone().with_data_type(match field.data_type() {
        DataType::Utf8 => DataType::LargeUtf8,
        DataType::List(item) => DataType::LargeList(Arc::new(with_wide_offsets(item))),
        found => found.clone(),
    })
}

/// The unfinished file next to a final name, locked by its writer. The system releases the lock of a dead process, so a
/// file that it left does not block others.
pub(super) struct StagedFile {
    path: PathBuf,
    /// Holds the lock. Writers get duplicates of the handle.
    file: File,
}

impl StagedFile {
    /// `NAME.partial`.
    ///
    /// # Errors
    /// If it cannot be created, or another process is writing it.
    fn exclusive(path: &Path) -> Result<Self> {
        let staged = staged_path(path, "");
        match Self::lock(staged.clone())? {
            Some(staged) => Ok(staged),
            None => bail!(
                "{} is being written by another process, which has {} open; wait for it to end, or name another path",
                path.display(),
                staged.display()
            ),
        }
    }

    /// `NAME.WRITER.NUMBER.partial` with the first free number. A process that was considered dead but lives does not
    /// block its successor of the same name.
    ///
    /// # Errors
    /// If it cannot be created.
    fn shared(path: &Path, writer: &str) -> Result<Self> {
        for number in 0.. {
            if let Some(staged) = Self::lock(staged_path(path, &format!(".{writer}.{number}")))? {
                return Ok(staged);
            }
        }
        unreachable!("there are more numbers than processes")
    }

    /// Removes the staged files that killed processes of this writer have left in a folder.
    ///
    /// # Errors
    /// If the folder cannot be read, or a file cannot be removed.
    pub fn remove_stale(folder: &Path, writer: &str) -> Result<()> {
        let context = || format!("cannot read {}", folder.display());
        for entry in fs::read_dir(folder).with_context(context)? {
            let entry = entry.with_context(context)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let suffix = name.rsplit_once(".parquet.").and_then(|(_, suffix)| suffix.strip_prefix(writer));
            if suffix.is_some_and(|suffix| suffix.starts_with('.') && suffix.ends_with(STAGED_SUFFIX))
                && let Some(staged) = Self::lock(entry.path())?
            {
                let removed = fs::remove_file(&staged.path);
                removed.with_context(|| format!("cannot remove {}", staged.path.display()))?;
            }
        }
        Ok(())
    }

    /// Creates or truncates the file and locks it; `None` if another process has locked it.
    fn lock(path: PathBuf) -> Result<Option<Self>> {
        let context = || format!("cannot create {}", path.display());
        loop {
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
            let file = file.with_context(context)?;
            if !file.metadata().with_context(context)?.is_file() {
                // A pipe or a device is never replaced.
                return Ok(Some(Self { path, file }));
            }
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => {
                    tracing::warn!(
                        "{}: this file system has no locks ({error}): make sure that no other process writes the same file",
                        path.display()
                    );
                }
            }
            // Another process may have renamed the file after it was opened here.
            if is_same_file(&file, &path) {
                file.set_len(0).with_context(context)?;
                return Ok(Some(Self { path, file }));
            }
        }
    }

    /// A handle to write to.
    fn open(&self) -> Result<File> {
        self.file.try_clone().with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Moves the file to its final name, replacing a file with that name.
    ///
    /// # Errors
    /// If it was removed, or cannot be renamed.
    fn rename(&self, to: &Path) -> Result<()> {
        let context = || format!("cannot rename {} to {}", self.path.display(), to.display());
        ensure!(is_same_file(&self.file, &self.path), "{}: another process has removed it", context());
        fs::rename(&self.path, to).with_context(context)
    }

    fn remove(&self) {
        // Another file may have the name by now.
        if is_same_file(&self.file, &self.path)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

fn staged_path(path: &Path, writer: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(format!("{writer}{STAGED_SUFFIX}"));
    name.into()
}

/// True if the open file is the one at `path`.
#[cfg(unix)]
fn is_same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |found: std::io::Result<fs::Metadata>| found.map(|found| (found.dev(), found.ino())).ok();
    let open = id(file.metadata());
    open.is_some() && open == id(fs::metadata(path))
}

/// True if there is a file at `path`: on other systems files have no ids to compare.
#[cfg(not(unix))]
fn is_same_file(_file: &File, path: &Path) -> bool {
    path.exists()
}
