//! One Parquet file: its footer, the statistics of its row groups, and columns of a row group as Arrow arrays.
//!
//! Types are those of Parquet itself. The Arrow schema that some writers add to the footer is ignored: its additions
//! (dictionaries, fixed list sizes, the name of a zone) change no value, and it may contradict the Parquet type.

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use arrow::array::{Array, ArrayRef};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field};
use polars_arrow::datatypes::{ArrowSchema, Field as PolarsField};
use polars_parquet::read::statistics::{Statistics, deserialize};
use polars_parquet::read::{
    BasicDecompressor, ColumnChunkMetadata, FileMetadata, Filter, PageReader, PhysicalType,
    column_iter_to_arrays, infer_schema, read_metadata,
};

use crate::columns::type_name;
use crate::ffi::{array_from_polars, field_from_polars};

/// Maximum compressed size of a column in a row group, which is in memory while its rows are read. The format
/// recommends at most 1 GiB for all columns of a row group together.
const CHUNK_BYTES_MAX: u64 = 4 << 30;

/// An open file.
pub(super) struct ParquetFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    metadata: FileMetadata,
    schema: ArrowSchema,
}

/// Opens the pages of a leaf column, for each range of rows anew. The bytes are shared, not copied.
type PageOpener = Box<dyn Fn(&ColumnChunkMetadata) -> PageReader + Send>;

/// The compressed bytes of one column in one row group.
pub(super) struct ColumnChunk {
    group: usize,
    name: String,
    /// One per leaf of a nested type.
    leaves: Vec<PageOpener>,
}

/// The smallest and largest value of a column, each an array of one value with the column's type.
pub(super) struct ColumnBounds {
    pub min: ArrayRef,
    pub max: ArrayRef,
}

impl ParquetFile {
    /// # Errors
    /// If the file cannot be read, or is not a complete Parquet file.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display();
        let mut file = File::open(path).with_context(|| format!("cannot open {name}"))?;
        let bytes = file.metadata().with_context(|| format!("cannot read {name}"))?.len();
        let (metadata, schema) = catch_panic(|| {
            let mut metadata = read_metadata(&mut file)?;
            metadata.key_value_metadata = None;
            let rows = metadata.row_groups.iter().map(|group| group.num_rows()).sum::<usize>();
            ensure!(
                rows == metadata.num_rows,
                "its row groups have {rows} rows, its footer says {}",
                metadata.num_rows
            );
            let schema = infer_schema(&metadata)?;
            Ok((metadata, schema))
        })
        .with_context(|| {
            format!("{name} ({bytes} bytes) is not a complete Parquet file (rewrite it, or remove it)")
        })?;
        Ok(Self { path: path.to_path_buf(), file, bytes, metadata, schema })
    }

    /// Number of rows of each row group.
    pub fn row_counts(&self) -> impl Iterator<Item = usize> + '_ {
        self.metadata.row_groups.iter().map(|group| group.num_rows())
    }

    /// The column of that name, if it exists.
    ///
    /// # Errors
    /// If Arrow does not have its type.
    pub fn field(&self, name: &str) -> Option<Result<Field>> {
        self.schema.get(name).map(|field| self.convert(field))
    }

    /// Name and type of all columns, for messages.
    pub fn field_names(&self) -> Vec<(String, String)> {
        let type_of = |field: &PolarsField| match self.convert(field) {
            Ok(field) => type_name(field.data_type()),
            Err(_) => "unknown type".to_string(),
        };
        self.schema.iter_values().map(|field| (field.name.to_string(), type_of(field))).collect()
    }

    /// Name and type of all columns with a known type.
    pub fn field_types(&self) -> Vec<(String, DataType)> {
        let with_type = |field: &PolarsField| {
            Some((field.name.to_string(), self.convert(field).ok()?.data_type().clone()))
        };
        self.schema.iter_values().filter_map(with_type).collect()
    }

    fn convert(&self, field: &PolarsField) -> Result<Field> {
        catch_panic(|| field_from_polars(field)).with_context(|| {
            format!("column `{}` of {} has an unknown type", field.name, self.path.display())
        })
    }

    /// Average number of values per row of these columns in a row group: one per column, more for lists.
    pub fn values_per_row(&self, group: usize, names: &[&str]) -> u64 {
        let metadata = &self.metadata.row_groups[group];
        let columns = metadata.parquet_columns().iter();
        let needed = columns.filter(|column| names.contains(&column.descriptor().path_in_schema[0].as_str()));
        let values = needed.map(|column| column.num_values().unsigned_abs()).fold(0, u64::saturating_add);
        values.div_ceil(metadata.num_rows().max(1) as u64).max(1)
    }

    /// The bounds of a column in a row group, from its statistics. `None` without statistics, or if their order is
    /// undefined.
    pub fn bounds(&self, group: usize, name: &str) -> Option<ColumnBounds> {
        let field = self.schema.get(name)?;
        let bounds = catch_panic(|| {
            let columns: Vec<_> = self.leaves(group, name)?;
            let [column] = columns[..] else { return Ok(None) };
            // The format does not define an order for INT96, the old nanosecond timestamp, so its statistics are
            // useless.
            if column.descriptor().descriptor.primitive_type.physical_type == PhysicalType::Int96 {
                return Ok(None);
            }
            let found = deserialize(field, &mut columns.into_iter(), &self.metadata.footer_buf)?;
            let Some(Statistics::Column(statistics)) = found else { return Ok(None) };
            let statistics = statistics.into_arrow()?;
            let (Some(min), Some(max)) = (statistics.min_value, statistics.max_value) else {
                return Ok(None);
            };
            Ok(Some(ColumnBounds { min: array_from_polars(min)?, max: array_from_polars(max)? }))
        });
        // Statistics only save work: damaged ones are treated as missing.
        bounds.ok().flatten().filter(|bounds| bounds.min.null_count() + bounds.max.null_count() == 0)
    }

    /// Reads the bytes of a column in a row group.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn read_chunk(&mut self, group: usize, name: &str) -> Result<ColumnChunk> {
        let context = self.read_error(group, name);
        let ranges =
            catch_panic(|| Ok(self.leaves(group, name)?.into_iter().map(|leaf| leaf.byte_range()).collect()));
        let ranges: Vec<Range<u64>> = ranges.with_context(|| context.clone())?;
        let leaves = ranges.into_iter().map(|range| self.read_pages(range)).collect::<Result<_>>();
        Ok(ColumnChunk { group, name: name.to_string(), leaves: leaves.context(context)? })
    }

    /// Decodes a range of rows of a column.
    ///
    /// # Errors
    /// If the bytes are damaged.
    pub fn decode(&self, chunk: &ColumnChunk, rows: Range<usize>) -> Result<ArrayRef> {
        let expected = rows.len();
        let decoded = catch_panic(|| {
            let field = self.schema.get(&chunk.name).context("no such column")?;
            let columns = self.leaves(chunk.group, &chunk.name)?;
            let types = columns.iter().map(|column| &column.descriptor().descriptor.primitive_type).collect();
            let leaves = columns.iter().zip(&chunk.leaves);
            let pages =
                leaves.map(|(column, open)| BasicDecompressor::new(open(column), Vec::new())).collect();
            let filter = Filter::new_ranged(rows.start, rows.end);
            let (arrays, _) = column_iter_to_arrays(pages, types, field.clone(), Some(filter))?;
            let arrays = arrays.into_iter().map(array_from_polars).collect::<Result<Vec<_>>>()?;
            match &arrays[..] {
                [array] => Ok(array.clone()),
                arrays => Ok(concat(&arrays.iter().map(|array| array.as_ref()).collect::<Vec<_>>())?),
            }
        });
        let context = || self.read_error(chunk.group, &chunk.name);
        let decoded = decoded.with_context(context)?;
        let found = decoded.len();
        ensure!(found == expected, "{}: {found} rows instead of {expected}", context());
        Ok(decoded)
    }

    fn leaves(&self, group: usize, name: &str) -> Result<Vec<&ColumnChunkMetadata>> {
        let columns = self.metadata.row_groups[group].columns_under_root_iter(name);
        Ok(columns.context("the row group lacks the column")?.collect())
    }

    fn read_pages(&mut self, range: Range<u64>) -> Result<PageOpener> {
        let length = range.end - range.start;
        ensure!(range.end <= self.bytes, "the footer points beyond the end of the file");
        ensure!(
            length <= CHUNK_BYTES_MAX,
            "{length} bytes in one row group, more than {CHUNK_BYTES_MAX}: write the file with smaller row groups"
        );
        let mut bytes = vec![0; length as usize];
        self.file.seek(SeekFrom::Start(range.start))?;
        self.file.read_exact(&mut bytes)?;
        let bytes = bytes.into();
        let open = move |column: &ColumnChunkMetadata| {
            PageReader::new(Cursor::new(Clone::clone(&bytes)), column, Vec::new(), usize::MAX)
        };
        Ok(Box::new(open))
    }

    fn read_error(&self, group: usize, name: &str) -> String {
        format!("cannot read column `{name}` of row group {group} of {}", self.path.display())
    }
}

/// Runs the decoder, which asserts some of what a file claims about itself, and turns a panic into an error: a damaged
/// file is not a bug. Nothing that a panic left half done is used again. Not caught: a damaged page that claims more
/// values than fit into memory, which ends the process.
fn catch_panic<T>(decode: impl FnOnce() -> Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(result) => result,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            match text.or_else(|| panic.downcast_ref::<&str>().copied()) {
                Some(text) => Err(anyhow!("the data is damaged ({text}); rewrite the file")),
                None => bail!("the data is damaged; rewrite the file"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ListArray, RecordBatch, StringArray};
    use arrow::datatypes::{Float32Type, Schema};

    use super::*;
    use crate::TableWriter;

    #[test]
    fn any_range_of_a_row_group_can_be_decoded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("decode.parquet");
        let lists = (0..50).map(|row| (row % 7 > 0).then(|| vec![Some(row as f32); row % 5]));
        let lists = ListArray::from_iter_primitive::<Float32Type, _, _>(lists);
        let texts =
            StringArray::from_iter((0..50).map(|row| (row % 4 > 0).then(|| format!("text {}", row % 3))));
        let columns: [(&str, ArrayRef); 2] = [("lists", Arc::new(lists)), ("texts", Arc::new(texts))];
        let fields =
            columns.each_ref().map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
        let arrays = columns.map(|column| column.1).into();
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields.to_vec())), arrays).unwrap();
        let mut writer = TableWriter::create(&path, &rows.schema()).unwrap();
        writer.write_group(&rows).unwrap();
        writer.finish().unwrap();

        let mut file = ParquetFile::open(&path).unwrap();
        assert_eq!(file.values_per_row(0, &["texts"]), 1);
        for name in ["lists", "texts"] {
            let chunk = file.read_chunk(0, name).unwrap();
            let all = file.decode(&chunk, 0..50).unwrap();
            for range in [0..1, 3..17, 17..18, 20..50, 49..50] {
                let decoded = file.decode(&chunk, range.clone()).unwrap();
                assert_eq!(&decoded, &all.slice(range.start, range.len()));
            }
        }
    }
}
