//! All files of an input in order, as batches of observations. Opening the input reads only the footers, and chooses
//! the row groups to read.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use tidecast_core::schema::Columns;
use tidecast_core::time::TimeUnit;
use tidecast_stream::{Batch, MalformedRecord, Partition, Position};
use tokio_util::sync::CancellationToken;

use crate::columns::{ColumnRole, RowSelection, SelectedRows, TimeBounds, to_micros, type_name};
use crate::files::{self, HiveValue};
use crate::parquet_file::{ColumnBounds, ColumnChunk, ParquetFile};

/// Rows per batch, before filtering. All forecasts of a batch are in memory at once, about 1 KB a row: 16 MB. Smaller
/// batches would cost more hand-overs between threads than necessary.
pub(super) const BATCH_ROWS: usize = 16_384;

/// Size of the decoded values in memory. More saves little; much less would decode a row group in many sections, each
/// of which has to skip everything before it. A row group with arrow's default size (1 Mi rows) is one section up to 8
/// columns.
const SECTION_BYTES: u64 = 64 << 20;

/// The files and row groups to read.
pub(super) struct ScanPlan {
    pub partition: Partition,
    pub selection: RowSelection,
    files: Vec<PlannedFile>,
    /// Number of rows of all files, selected or not.
    pub total_rows: i64,
}

struct PlannedFile {
    path: PathBuf,
    /// Position of its first row.
    first: i64,
    groups: Vec<PlannedGroup>,
    /// The series id, if it is the name of a folder instead of a column.
    folder_series: Option<HiveValue>,
}

struct PlannedGroup {
    rows: usize,
    /// No row is selected, according to the statistics or the folder.
    is_skipped: bool,
}

/// Number of row groups of an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowGroupCounts {
    pub total: usize,
    /// Skipped without being read.
    pub skipped: usize,
}

impl ScanPlan {
    /// Reads the footers of all files of `path`.
    ///
    /// # Errors
    /// If there is no file, one cannot be read, or one lacks a column or has an unusable type in it.
    pub fn new(path: &Path, selection: RowSelection) -> Result<Self> {
        let partition = Partition { topic: path.to_string_lossy().into(), number: 0 };
        let mut plan = Self { partition, selection, files: Vec::new(), total_rows: 0 };
        for path in files::find(path)? {
            plan.add(ParquetFile::open(&path)?, path)?;
        }
        Ok(plan)
    }

    fn add(&mut self, file: ParquetFile, path: PathBuf) -> Result<()> {
        let folder_series = check_columns(&file, &path, &self.selection.columns)?;
        let is_wanted = match (&folder_series, &self.selection.columns.series) {
            (Some(HiveValue::Text(id)), _) => self.selection.wants_series(id),
            (None, None) => self.selection.wants_series(&self.selection.columns.only_series),
            _ => true,
        };
        let (mut groups, first) = (Vec::new(), self.total_rows);
        for (group, rows) in file.row_counts().enumerate() {
            let is_skipped = !is_wanted || !self.may_contain_selected(&file, group);
            groups.push(PlannedGroup { rows, is_skipped });
            let total = i64::try_from(rows).ok().and_then(|rows| self.total_rows.checked_add(rows));
            self.total_rows =
                total.with_context(|| format!("{}: more rows than positions", path.display()))?;
        }
        self.files.push(PlannedFile { path, first, groups, folder_series });
        Ok(())
    }

    fn may_contain_selected(&self, file: &ParquetFile, group: usize) -> bool {
        let RowSelection { filter, columns, time_unit, .. } = &self.selection;
        filter.times.is_unbounded()
            || time_bounds(file, group, &columns.time, *time_unit)
                .is_none_or(|bounds| filter.times.overlaps(bounds))
    }

    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }

    pub fn row_groups(&self) -> RowGroupCounts {
        let groups = || self.files.iter().flat_map(|file| &file.groups);
        RowGroupCounts { total: groups().count(), skipped: groups().filter(|group| group.is_skipped).count() }
    }

    pub fn batch(&self, rows: RecordBatch, malformed: Vec<MalformedRecord>, next: Position) -> Batch {
        Batch { partition: self.partition.clone(), rows, malformed, source: Default::default(), next }
    }
}

/// The times of a row group from its statistics, if there are any.
fn time_bounds(file: &ParquetFile, group: usize, time: &str, unit: TimeUnit) -> Option<TimeBounds> {
    let ColumnBounds { min, max } = file.bounds(group, time)?;
    let (min, max) = (to_micros(&min, unit).ok()?, to_micros(&max, unit).ok()?);
    (min.is_valid(0) && max.is_valid(0)).then(|| TimeBounds { min: min.value(0), max: max.value(0) })
}

/// Checks that a file has all columns, with accepted types. Returns the series id if a folder gives it.
fn check_columns(file: &ParquetFile, path: &Path, columns: &Columns) -> Result<Option<HiveValue>> {
    let available = || {
        let names = file.field_names().into_iter().map(|(name, found)| format!("`{name}` ({found})"));
        format!("the file has {}", names.collect::<Vec<_>>().join(", "))
    };
    let (shown, mut folder_series) = (path.display(), None);
    for (role, name) in ColumnRole::all(columns) {
        let expected = role.expected();
        match (file.field(name), files::hive_value(path, name)) {
            (Some(field), _) => {
                let field = field?;
                ensure!(
                    role.accepts(field.data_type()),
                    "{shown}: column `{name}` is {}, but {expected} is needed; {}",
                    type_name(field.data_type()),
                    available()
                );
            }
            (None, Some(value)) if role == ColumnRole::Series => folder_series = Some(value),
            (None, Some(_)) => bail!("{shown}: a folder gives `{name}` as text, but {expected} is needed"),
            (None, None) => bail!("{shown}: there is no column `{name}`; {}", available()),
        }
    }
    Ok(folder_series)
}

/// Reads a plan from its first row to its last.
pub(super) struct Scan {
    plan: Arc<ScanPlan>,
    stop: CancellationToken,
    /// Index of the next file, and of the next row group in it.
    file: usize,
    group: usize,
    open: Option<ParquetFile>,
    current: Option<GroupReader>,
}

/// A row group that is being read, section by section. Batches are slices of the decoded section.
struct GroupReader {
    chunks: Vec<ColumnChunk>,
    /// Number of rows of the group.
    rows: usize,
    /// Position of the group's first row.
    first: i64,
    /// The decoded section, and its rows.
    columns: Vec<ArrayRef>,
    start: usize,
    end: usize,
    section_rows: usize,
    /// Next row for a batch.
    next: usize,
}

impl Scan {
    /// `stop` ends the scan early, with an error.
    pub fn new(plan: Arc<ScanPlan>, stop: CancellationToken) -> Self {
        Self { plan, stop, file: 0, group: 0, open: None, current: None }
    }

    pub fn plan(&self) -> &Arc<ScanPlan> {
        &self.plan
    }

    /// The next batch that is not empty. Its `next` is the position after the last row examined for it.
    pub fn next_batch(&mut self) -> Result<Option<Batch>> {
        loop {
            ensure!(!self.stop.is_cancelled(), "reading {} was cancelled", self.plan.partition.topic);
            let Some(group) = self.current.as_mut().filter(|group| group.next < group.rows) else {
                if !self.open_next_group()? {
                    return Ok(None);
                }
                continue;
            };
            let planned = &self.plan.files[self.file];
            if group.next == group.end {
                let file = self.open.as_ref().expect("the file of the current group is open");
                group.decode_section(file, planned.folder_series.as_ref())?;
            }
            let rows = BATCH_ROWS.min(group.end - group.next);
            let arrays: Vec<ArrayRef> =
                group.columns.iter().map(|column| column.slice(group.next - group.start, rows)).collect();
            let first = group.first + group.next as i64;
            group.next += rows;
            let selected = self.plan.selection.select(&arrays, first);
            let SelectedRows { observations, malformed } =
                selected.with_context(|| format!("{}, from row {first} on", planned.path.display()))?;
            if observations.num_rows() + malformed.len() > 0 {
                let next = Position(first + rows as i64);
                return Ok(Some(self.plan.batch(observations, malformed, next)));
            }
        }
    }

    /// Moves to the next row group that is not skipped; false at the end of the input.
    fn open_next_group(&mut self) -> Result<bool> {
        let plan = self.plan.clone();
        self.current = None;
        while let Some(file) = plan.files.get(self.file) {
            let is_wanted = |group: &PlannedGroup| !group.is_skipped && group.rows > 0;
            let Some(ahead) = file.groups[self.group..].iter().position(is_wanted) else {
                (self.file, self.group, self.open) = (self.file + 1, 0, None);
                continue;
            };
            let group = self.group + ahead;
            self.group = group + 1;
            let open = match &mut self.open {
                Some(open) => open,
                closed => closed.insert(file.reopen(&plan.selection.columns)?),
            };
            let rows_before: usize = file.groups[..group].iter().map(|group| group.rows).sum();
            let names = ColumnRole::all(&plan.selection.columns).into_iter().map(|(_, name)| name);
            // The series is the first column, if there is one.
            let names: Vec<&str> = names.skip(usize::from(file.folder_series.is_some())).collect();
            let chunks = names.iter().map(|name| open.read_chunk(group, name)).collect::<Result<_>>()?;
            let row_bytes = open.values_per_row(group, &names).saturating_mul(8);
            self.current = Some(GroupReader {
                chunks,
                rows: file.groups[group].rows,
                first: file.first + rows_before as i64,
                columns: Vec::new(),
                start: 0,
                end: 0,
                section_rows: (SECTION_BYTES / row_bytes).max(BATCH_ROWS as u64) as usize,
                next: 0,
            });
            return Ok(true);
        }
        Ok(false)
    }
}

impl GroupReader {
    fn decode_section(&mut self, file: &ParquetFile, folder_series: Option<&HiveValue>) -> Result<()> {
        (self.start, self.end) = (self.end, self.rows.min(self.end + self.section_rows));
        let rows = self.end - self.start;
        let series =
            folder_series.map(|id| Ok(Arc::new(StringArray::from(vec![id.as_deref(); rows])) as ArrayRef));
        let columns = self.chunks.iter().map(|chunk| file.decode(chunk, self.start..self.end));
        self.columns = series.into_iter().chain(columns).collect::<Result<_>>()?;
        Ok(())
    }
}

impl PlannedFile {
    /// Opens the file again, and checks that it is unchanged: positions depend on it.
    fn reopen(&self, columns: &Columns) -> Result<ParquetFile> {
        let file = ParquetFile::open(&self.path)?;
        let is_unchanged = file.row_counts().eq(self.groups.iter().map(|group| group.rows));
        ensure!(is_unchanged, "{} changed while the input was read: start again", self.path.display());
        check_columns(&file, &self.path, columns)?;
        Ok(file)
    }
}

/// Files, rows, columns and times of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputSummary {
    pub files: usize,
    pub row_groups: usize,
    pub rows: u64,
    /// Name and type of the columns of the first file. Other files may have more.
    pub fields: Vec<(String, String)>,
    /// First and last time, microseconds since the epoch; `None` if no row has a time.
    pub times: Option<(i64, i64)>,
}

impl fmt::Display for InputSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.fields.iter().map(|(name, found)| format!("{name}: {found}")).collect::<Vec<_>>();
        write!(f, "{} files, {} row groups, {} rows", self.files, self.row_groups, self.rows)?;
        write!(f, " ({})", fields.join(", "))
    }
}

/// Summarizes an input from its footers and statistics. Reads the times of row groups without statistics.
///
/// # Errors
/// Those of [`ParquetSource::open`](crate::ParquetSource::open).
pub fn summarize(path: &Path, columns: &Columns, unit: TimeUnit) -> Result<InputSummary> {
    let mut summary = InputSummary { files: 0, row_groups: 0, rows: 0, fields: Vec::new(), times: None };
    for path in files::find(path)? {
        let mut file = ParquetFile::open(&path)?;
        check_columns(&file, &path, columns)?;
        if summary.files == 0 {
            summary.fields = file.field_names();
        }
        summary.files += 1;
        let row_counts: Vec<usize> = file.row_counts().collect();
        for (group, rows) in row_counts.into_iter().enumerate() {
            summary.row_groups += 1;
            summary.rows += rows as u64;
            let bounds = match time_bounds(&file, group, &columns.time, unit) {
                Some(bounds) => Some(bounds),
                None if rows == 0 => None,
                None => {
                    let chunk = file.read_chunk(group, &columns.time)?;
                    let times = to_micros(&file.decode(&chunk, 0..rows)?, unit)?;
                    let times = || times.iter().flatten();
                    times().min().zip(times().max()).map(|(min, max)| TimeBounds { min, max })
                }
            };
            if let Some(TimeBounds { min, max }) = bounds {
                let (first, last) = summary.times.unwrap_or((min, max));
                summary.times = Some((first.min(min), last.max(max)));
            }
        }
    }
    Ok(summary)
}

/// Name and type of the columns of the first file of an input; those given by its folders last.
///
/// # Errors
/// If there is no file, or it is damaged.
pub fn fields(path: &Path) -> Result<Vec<(String, DataType)>> {
    let files = files::find(path)?;
    let first = files.first().with_context(|| format!("there is no file at {}", path.display()))?;
    let mut fields = ParquetFile::open(first)?.field_types();
    for name in files::hive_columns(first) {
        if !fields.iter().any(|(field, _)| *field == name) {
            fields.push((name, DataType::Utf8));
        }
    }
    Ok(fields)
}
