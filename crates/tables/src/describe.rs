//! What an input holds, for a look at it before it is used.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use arrow::array::Array;
use arrow::datatypes::DataType;

use super::cast::{Selection, micros};
use super::decode::ParquetFile;
use super::files;
use super::scan::{Range, checked, time_bounds};
use crate::config::TimeUnit;
use tidecast_core::table::Columns;

/// Files, rows, columns and times of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    pub files: usize,
    pub row_groups: usize,
    pub rows: u64,
    /// The columns of the first file: name and type as found. Others may have more.
    pub fields: Vec<(String, String)>,
    /// First and last time, microseconds since the epoch; `None` where no row has one.
    pub times: Option<(i64, i64)>,
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.fields.iter().map(|(name, found)| format!("{name}: {found}")).collect::<Vec<_>>();
        write!(f, "{} files, {} row groups, {} rows", self.files, self.row_groups, self.rows)?;
        write!(f, " ({})", fields.join(", "))
    }
}

/// Describes a file, folder, pattern or hive-partitioned folder, by its footers and statistics; only where a row group
/// has no statistics of the time are its times read.
///
/// # Errors
/// Those of `ParquetInput::open`: no file, a damaged file, a missing column or one of an unusable type.
pub fn describe(path: &Path, columns: &Columns, unit: TimeUnit) -> Result<Description> {
    let selection = Selection {
        columns: columns.clone(),
        unit,
        range: Range::default(),
        series: None,
        id_bytes: usize::MAX,
    };
    let mut description = Description { files: 0, row_groups: 0, rows: 0, fields: Vec::new(), times: None };
    for path in files::find(path)? {
        let mut file = ParquetFile::open(&path)?;
        checked(&file, &path, &selection)?;
        if description.files == 0 {
            description.fields = file.fields();
        }
        description.files += 1;
        let groups: Vec<usize> = file.groups().collect();
        for (group, rows) in groups.into_iter().enumerate() {
            description.row_groups += 1;
            description.rows += rows as u64;
            let bounds = match time_bounds(&file, group, &columns.time, unit) {
                Some(bounds) => Some(bounds),
                None if rows == 0 => None,
                None => read_bounds(&mut file, group, rows, &selection)?,
            };
            description.times = match (description.times, bounds) {
                (Some((low, high)), Some((lower, higher))) => Some((low.min(lower), high.max(higher))),
                (known, new) => known.or(new),
            };
        }
    }
    Ok(description)
}

/// The columns of the first file of an input, those that its folders give last: name and type as found.
///
/// # Errors
/// If there is no file, or it is damaged.
pub fn fields(path: &Path) -> Result<Vec<(String, DataType)>> {
    let files = files::find(path)?;
    let first = files.first().with_context(|| format!("there is no file at {}", path.display()))?;
    let mut fields = ParquetFile::open(first)?.types();
    for name in files::hive_names(first) {
        if !fields.iter().any(|(field, _)| *field == name) {
            fields.push((name, DataType::Utf8));
        }
    }
    Ok(fields)
}

fn read_bounds(
    file: &mut ParquetFile,
    group: usize,
    rows: usize,
    selection: &Selection,
) -> Result<Option<(i64, i64)>> {
    let chunk = file.chunk(group, &selection.columns.time)?;
    let times = micros(&file.rows(&chunk, 0..rows)?, selection.unit)?;
    let times = || (0..times.len()).filter(|row| times.is_valid(*row)).map(|row| times.value(row));
    Ok(times().min().zip(times().max()))
}
