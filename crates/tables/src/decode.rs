//! One Parquet file: its footer, the statistics of its row groups, and columns of a row group as Arrow arrays.
//!
//! Types are those of Parquet itself. The copy of the writer's Arrow schema that some writers leave in the footer is
//! not used: what it adds (dictionaries, fixed list sizes, the name of a zone) changes no value, and where it
//! disagrees with the Parquet type it would only make two truths.

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

use super::bridge::{array_from_polars, field_from_polars};
use super::cast::shown;

/// Compressed bytes of one column in one row group. They are held while its rows are read; the format's own advice is
/// at most 1 GiB for all columns of a row group together.
const CHUNK_BYTES_MAX: u64 = 4 << 30;

/// An open file.
pub(super) struct ParquetFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    metadata: FileMetadata,
    schema: ArrowSchema,
}

/// Opens the pages of a leaf column, again for each range of rows. The bytes are shared, not copied.
type Pages = Box<dyn Fn(&ColumnChunkMetadata) -> PageReader + Send>;

/// The compressed bytes of one column in one row group.
pub(super) struct Chunk {
    group: usize,
    name: String,
    /// One for each leaf of a nested type.
    leaves: Vec<Pages>,
}

impl ParquetFile {
    /// # Errors
    /// If the file cannot be read or is not a whole Parquet file.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let mut file = File::open(path).with_context(|| format!("cannot open {shown}"))?;
        let bytes = file.metadata().with_context(|| format!("cannot read {shown}"))?.len();
        let (metadata, schema) = guarded(|| {
            let mut metadata = read_metadata(&mut file)?;
            metadata.key_value_metadata = None;
            let rows = metadata.row_groups.iter().map(|group| group.num_rows()).sum::<usize>();
            ensure!(
                rows == metadata.num_rows,
                "its row groups have {rows} rows, it has {}",
                metadata.num_rows
            );
            let schema = infer_schema(&metadata)?;
            Ok((metadata, schema))
        })
        .with_context(|| {
            format!("{shown} ({bytes} bytes) is not a whole Parquet file (write it anew, or take it away)")
        })?;
        Ok(Self { path: path.to_path_buf(), file, bytes, metadata, schema })
    }

    /// Rows of each row group.
    pub fn groups(&self) -> impl Iterator<Item = usize> + '_ {
        self.metadata.row_groups.iter().map(|group| group.num_rows())
    }

    /// The column of that name, `None` if there is none.
    ///
    /// # Errors
    /// If its type has no counterpart in Arrow.
    pub fn field(&self, name: &str) -> Option<Result<Field>> {
        self.schema.get(name).map(|field| self.converted(field))
    }

    /// All columns: name, and type for a human reader.
    pub fn fields(&self) -> Vec<(String, String)> {
        let found = |field: &PolarsField| match self.converted(field) {
            Ok(field) => shown(field.data_type()),
            Err(_) => "a type unknown here".to_string(),
        };
        self.schema.iter_values().map(|field| (field.name.to_string(), found(field))).collect()
    }

    /// Every column with its type, but those of a type unknown here.
    pub fn types(&self) -> Vec<(String, DataType)> {
        let found = |field: &PolarsField| {
            Some((field.name.to_string(), self.converted(field).ok()?.data_type().clone()))
        };
        self.schema.iter_values().filter_map(found).collect()
    }

    fn converted(&self, field: &PolarsField) -> Result<Field> {
        guarded(|| field_from_polars(field)).with_context(|| {
            format!("column `{}` of {} has an unknown type", field.name, self.path.display())
        })
    }

    /// Numbers that a row of these columns holds on average in a row group: 1 a column, more for lists.
    pub fn values_per_row(&self, group: usize, names: &[&str]) -> u64 {
        let metadata = &self.metadata.row_groups[group];
        let columns = metadata.parquet_columns().iter();
        let needed = columns.filter(|column| names.contains(&column.descriptor().path_in_schema[0].as_str()));
        let values = needed.map(|column| column.num_values().unsigned_abs()).fold(0, u64::saturating_add);
        values.div_ceil(metadata.num_rows().max(1) as u64).max(1)
    }

    /// Smallest and largest value of a column in a row group, each an array of one value of the column's type. `None`
    /// where the writer left none, or where their order is not defined.
    pub fn bounds(&self, group: usize, name: &str) -> Option<(ArrayRef, ArrayRef)> {
        let field = self.schema.get(name)?;
        let bounds = guarded(|| {
            let columns: Vec<_> = self.leaves(group, name)?;
            let [column] = columns[..] else { return Ok(None) };
            // The format never said how INT96, the old nanosecond timestamp, is ordered: what writers left is useless.
            if column.descriptor().descriptor.primitive_type.physical_type == PhysicalType::Int96 {
                return Ok(None);
            }
            let found = deserialize(field, &mut columns.into_iter(), &self.metadata.footer_buf)?;
            let Some(Statistics::Column(statistics)) = found else { return Ok(None) };
            let statistics = statistics.into_arrow()?;
            let (Some(low), Some(high)) = (statistics.min_value, statistics.max_value) else {
                return Ok(None);
            };
            Ok(Some((array_from_polars(low)?, array_from_polars(high)?)))
        });
        // Statistics only save work: damaged ones are as good as none.
        bounds.ok().flatten().filter(|(low, high)| low.null_count() + high.null_count() == 0)
    }

    /// Reads the bytes of a column in a row group.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn chunk(&mut self, group: usize, name: &str) -> Result<Chunk> {
        let place = self.place(group, name);
        let ranges =
            guarded(|| Ok(self.leaves(group, name)?.into_iter().map(|leaf| leaf.byte_range()).collect()));
        let ranges: Vec<Range<u64>> = ranges.with_context(|| place.clone())?;
        let leaves = ranges.into_iter().map(|range| self.pages(range)).collect::<Result<_>>();
        Ok(Chunk { group, name: name.to_string(), leaves: leaves.context(place)? })
    }

    /// Decodes some rows of a column.
    ///
    /// # Errors
    /// If the bytes are damaged.
    pub fn rows(&self, chunk: &Chunk, rows: Range<usize>) -> Result<ArrayRef> {
        let expected = rows.len();
        let decoded = guarded(|| {
            let field = self.schema.get(&chunk.name).context("no such column")?;
            let columns = self.leaves(chunk.group, &chunk.name)?;
            let types = columns.iter().map(|column| &column.descriptor().descriptor.primitive_type).collect();
            let leaves = columns.iter().zip(&chunk.leaves);
            let pages =
                leaves.map(|(column, pages)| BasicDecompressor::new(pages(column), Vec::new())).collect();
            let filter = Filter::new_ranged(rows.start, rows.end);
            let (arrays, _) = column_iter_to_arrays(pages, types, field.clone(), Some(filter))?;
            let arrays = arrays.into_iter().map(array_from_polars).collect::<Result<Vec<_>>>()?;
            match &arrays[..] {
                [array] => Ok(array.clone()),
                arrays => Ok(concat(&arrays.iter().map(|array| array.as_ref()).collect::<Vec<_>>())?),
            }
        });
        let decoded = decoded.with_context(|| self.place(chunk.group, &chunk.name))?;
        let found = decoded.len();
        ensure!(
            found == expected,
            "{}: {found} rows instead of {expected}",
            self.place(chunk.group, &chunk.name)
        );
        Ok(decoded)
    }

    fn leaves(&self, group: usize, name: &str) -> Result<Vec<&ColumnChunkMetadata>> {
        let columns = self.metadata.row_groups[group].columns_under_root_iter(name);
        Ok(columns.context("the row group lacks the column")?.collect())
    }

    fn pages(&mut self, range: Range<u64>) -> Result<Pages> {
        let length = range.end - range.start;
        ensure!(range.end <= self.bytes, "the footer points behind the end of the file");
        ensure!(
            length <= CHUNK_BYTES_MAX,
            "{length} bytes in one row group, more than {CHUNK_BYTES_MAX}: write the file with smaller row groups"
        );
        let mut bytes = vec![0; length as usize];
        self.file.seek(SeekFrom::Start(range.start))?;
        self.file.read_exact(&mut bytes)?;
        let bytes = bytes.into();
        let pages = move |column: &ColumnChunkMetadata| {
            PageReader::new(Cursor::new(Clone::clone(&bytes)), column, Vec::new(), usize::MAX)
        };
        Ok(Box::new(pages))
    }

    fn place(&self, group: usize, name: &str) -> String {
        format!("cannot read column `{name}` of row group {group} of {}", self.path.display())
    }
}

/// Runs the decoder. It asserts some of what a file claims about itself; a damaged file is no bug of ours, so that a
/// panic in there is an error here. Nothing it may have left half done is used again. What this cannot catch: a page
/// whose bits were changed so that it claims more values than memory holds, which ends the process.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            match text.or_else(|| panic.downcast_ref::<&str>().copied()) {
                Some(text) => Err(anyhow!("the data is damaged ({text}); write the file anew")),
                None => bail!("the data is damaged; write the file anew"),
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
    fn any_part_of_a_row_group_can_be_decoded() {
        let path = std::env::temp_dir().join(format!("tidecast-decode-{}.parquet", std::process::id()));
        let lists = (0..50).map(|row| (row % 7 > 0).then(|| vec![Some(row as f32); row % 5]));
        let lists = ListArray::from_iter_primitive::<Float32Type, _, _>(lists);
        let texts =
            StringArray::from_iter((0..50).map(|row| (row % 4 > 0).then(|| format!("text {}", row % 3))));
        let columns: [(&str, ArrayRef); 2] = [("lists", Arc::new(lists)), ("texts", Arc::new(texts))];
        let fields =
            columns.each_ref().map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
        let rows = RecordBatch::try_new(
            Arc::new(Schema::new(fields.to_vec())),
            columns.map(|column| column.1).into(),
        );
        let rows = rows.unwrap();
        let mut writer = TableWriter::create(&path, &rows.schema()).unwrap();
        writer.write_group(&rows).unwrap();
        writer.finish().unwrap();

        let mut file = ParquetFile::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(file.values_per_row(0, &["texts"]), 1);
        for name in ["lists", "texts"] {
            let chunk = file.chunk(0, name).unwrap();
            let all = file.rows(&chunk, 0..50).unwrap();
            for range in [0..1, 3..17, 17..18, 20..50, 49..50] {
                assert_eq!(&file.rows(&chunk, range.clone()).unwrap(), &all.slice(range.start, range.len()));
            }
        }
    }
}
