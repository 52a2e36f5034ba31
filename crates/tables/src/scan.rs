//! All files of an input in order, as batches of observations: which files and row groups there are is found when
//! the input is opened, from the footers alone; then they are read one piece after the other.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail, ensure};
use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};

use super::cast::{Role, Selection, micros, shown};
use super::decode::{Chunk, ParquetFile};
use super::files;
use crate::config::TimeUnit;
use tidecast_stream::{Batch, Partition, Position};

/// Rows of a batch before rows are filtered. All forecasts of a batch are held at once, some 1 KB a row: 16 MB. Smaller
/// batches would pay the hand-over between threads more often than they need to.
pub(super) const BATCH_ROWS: usize = 16_384;

/// Bytes of decoded numbers that are held at once. Larger saves little; much smaller would decode the same row
/// group in many parts, each of which has to pass over what comes before it. A row group as arrow writes it by
/// default (1 Mi rows) is one part up to 8 columns.
const PART_BYTES: u64 = 64 << 20;

/// A span of time, microseconds since the epoch, half open; `None` is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    pub since: Option<i64>,
    pub until: Option<i64>,
}

impl Range {
    pub fn contains(&self, time: i64) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }

    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a time from `low` to `high` may lie in the range.
    fn meets(&self, low: i64, high: i64) -> bool {
        self.until.is_none_or(|until| low < until) && self.since.is_none_or(|since| high >= since)
    }
}

/// What is to be read.
pub(super) struct Plan {
    pub partition: Partition,
    pub selection: Selection,
    pub files: Vec<PlannedFile>,
    /// Rows of all files, wanted or not.
    pub rows: i64,
}

pub(super) struct PlannedFile {
    path: PathBuf,
    /// Position of its first row.
    first: i64,
    groups: Vec<Group>,
    /// The series id where the file's folders give it.
    hive: Option<Option<String>>,
}

struct Group {
    rows: usize,
    /// Passed over: by its statistics or its folder, no row of it is wanted.
    skipped: bool,
}

impl Plan {
    /// Reads the footers of all files below `path`.
    ///
    /// # Errors
    /// If there is no file, one cannot be read, or one lacks a column or has an unusable type in it.
    pub fn new(path: &Path, selection: Selection) -> Result<Self> {
        let mut plan = Self {
            partition: Partition { topic: path.to_string_lossy().into(), number: 0 },
            selection,
            files: Vec::new(),
            rows: 0,
        };
        for file in files::find(path)? {
            plan.add(ParquetFile::open(&file)?, file)?;
        }
        Ok(plan)
    }

    fn add(&mut self, file: ParquetFile, path: PathBuf) -> Result<()> {
        let hive = checked(&file, &path, &self.selection)?;
        let unwanted = match (&hive, &self.selection.columns.series) {
            (Some(Some(id)), _) => !self.selection.takes_id(id),
            (None, None) => !self.selection.takes_id(&self.selection.columns.only_series),
            _ => false,
        };
        let (mut groups, first) = (Vec::new(), self.rows);
        for (group, rows) in file.groups().enumerate() {
            let skipped = unwanted || !self.may_meet(&file, group);
            groups.push(Group { rows, skipped });
            let sum = i64::try_from(rows).ok().and_then(|rows| self.rows.checked_add(rows));
            self.rows = sum.with_context(|| format!("{}: more rows than positions", path.display()))?;
        }
        self.files.push(PlannedFile { path, first, groups, hive });
        Ok(())
    }

    fn may_meet(&self, file: &ParquetFile, group: usize) -> bool {
        if self.selection.range.is_all() {
            return true;
        }
        match time_bounds(file, group, &self.selection.columns.time, self.selection.unit) {
            Some((low, high)) => self.selection.range.meets(low, high),
            None => true,
        }
    }

    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }

    /// Row groups in all, and those that are passed over.
    pub fn groups(&self) -> (usize, usize) {
        let groups = || self.files.iter().flat_map(|file| &file.groups);
        (groups().count(), groups().filter(|group| group.skipped).count())
    }
}

/// First and last time of a row group by its statistics, if it has any.
pub(super) fn time_bounds(
    file: &ParquetFile,
    group: usize,
    time: &str,
    unit: TimeUnit,
) -> Option<(i64, i64)> {
    let (low, high) = file.bounds(group, time)?;
    let (low, high) = (micros(&low, unit).ok()?, micros(&high, unit).ok()?);
    (low.is_valid(0) && high.is_valid(0)).then(|| (low.value(0), high.value(0)))
}

/// Checks that a file has the columns, in types that can be used. Gives the series id where it is not a column of the
/// file but the name of a folder.
pub(super) fn checked(
    file: &ParquetFile,
    path: &Path,
    selection: &Selection,
) -> Result<Option<Option<String>>> {
    let mut hive = None;
    for (role, name) in Role::of(&selection.columns) {
        let there = || {
            let there = file.fields().into_iter().map(|(name, found)| format!("`{name}` ({found})"));
            format!("the file has {}", there.collect::<Vec<_>>().join(", "))
        };
        match (file.field(name), files::hive_value(path, name)) {
            (Some(field), _) => {
                let field = field?;
                let (found, wanted) = (shown(field.data_type()), role.wanted());
                ensure!(
                    role.takes(field.data_type()),
                    "{}: column `{name}` is {found}, but {wanted} is needed; {}",
                    path.display(),
                    there()
                );
            }
            (None, Some(value)) if role == Role::Series => hive = Some(value),
            (None, Some(_)) => {
                bail!("{}: a folder gives `{name}` as text, but {} is needed", path.display(), role.wanted())
            }
            (None, None) => bail!("{}: there is no column `{name}`; {}", path.display(), there()),
        }
    }
    Ok(hive)
}

/// Reads a plan from its first row to its last.
pub(super) struct Scan {
    plan: Arc<Plan>,
    stop: Arc<AtomicBool>,
    /// Index of the file, and of the row group in it, that comes next.
    file: usize,
    group: usize,
    open: Option<ParquetFile>,
    part: Option<Part>,
}

/// Decoded rows of a row group, from which batches are cut.
struct Part {
    chunks: Vec<Chunk>,
    columns: Vec<ArrayRef>,
    /// Rows of the group, and which of them are decoded.
    rows: usize,
    from: usize,
    to: usize,
    /// Next row to put into a batch.
    next: usize,
    /// Rows to decode at once.
    step: usize,
    /// Position of the group's first row.
    first: i64,
}

impl Scan {
    /// `stop` ends the reading early, with an error.
    pub fn new(plan: Arc<Plan>, stop: Arc<AtomicBool>) -> Self {
        Self { plan, stop, file: 0, group: 0, open: None, part: None }
    }

    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The next batch with anything in it. Its `next` is the position after the last row looked at for it.
    pub fn next_batch(&mut self) -> Result<Option<Batch>> {
        loop {
            ensure!(
                !self.stop.load(Ordering::Relaxed),
                "the reading of {} was stopped",
                self.plan.partition.topic
            );
            let Some(part) = self.part.as_mut().filter(|part| part.next < part.rows) else {
                if !self.next_group()? {
                    return Ok(None);
                }
                continue;
            };
            if part.next == part.to {
                let file = self.open.as_ref().expect("a part is decoded from an open file");
                part.decode(file, self.plan.files[self.file].hive.as_ref())?;
            }
            let rows = BATCH_ROWS.min(part.to - part.next);
            let columns = part.columns.iter().map(|column| column.slice(part.next - part.from, rows));
            let (columns, first) = (columns.collect::<Vec<_>>(), part.first + part.next as i64);
            part.next += rows;
            let place = || format!("rows {first} and on, in {}", self.plan.files[self.file].path.display());
            let (observations, malformed) = self.plan.selection.rows(&columns, first).with_context(place)?;
            if observations.num_rows() + malformed.len() > 0 {
                let next = Position(first + rows as i64);
                return Ok(Some(self.plan.batch(observations, malformed, next)));
            }
        }
    }

    /// Goes to the next wanted row group; false at the end of the input.
    fn next_group(&mut self) -> Result<bool> {
        let plan = self.plan.clone();
        self.part = None;
        while let Some(file) = plan.files.get(self.file) {
            let wanted = |group: &Group| !group.skipped && group.rows > 0;
            let Some(ahead) = file.groups[self.group..].iter().position(wanted) else {
                (self.file, self.group, self.open) = (self.file + 1, 0, None);
                continue;
            };
            let group = self.group + ahead;
            self.group = group + 1;
            let open = match &mut self.open {
                Some(open) => open,
                closed => closed.insert(file.reopen(&plan.selection)?),
            };
            let before: usize = file.groups[..group].iter().map(|group| group.rows).sum();
            let names = Role::of(&plan.selection.columns).into_iter().map(|(_, name)| name);
            let names: Vec<&str> = names.skip(usize::from(file.hive.is_some())).collect();
            let chunks = names.iter().map(|name| open.chunk(group, name)).collect::<Result<_>>()?;
            let step =
                (PART_BYTES / open.values_per_row(group, &names).saturating_mul(8)).max(BATCH_ROWS as u64);
            self.part = Some(Part {
                chunks,
                columns: Vec::new(),
                rows: file.groups[group].rows,
                from: 0,
                to: 0,
                next: 0,
                step: step as usize,
                first: file.first + before as i64,
            });
            return Ok(true);
        }
        Ok(false)
    }
}

impl Part {
    fn decode(&mut self, file: &ParquetFile, hive: Option<&Option<String>>) -> Result<()> {
        (self.from, self.to) = (self.to, self.rows.min(self.to + self.step));
        let rows = self.to - self.from;
        // The series is the first column where there is one.
        let folder = hive.map(|id| Ok(Arc::new(StringArray::from(vec![id.as_deref(); rows])) as ArrayRef));
        let columns = self.chunks.iter().map(|chunk| file.rows(chunk, self.from..self.to));
        self.columns = folder.into_iter().chain(columns).collect::<Result<_>>()?;
        Ok(())
    }
}

impl PlannedFile {
    /// Opens the file again, and checks that it is still what it was: positions depend on it.
    fn reopen(&self, selection: &Selection) -> Result<ParquetFile> {
        let file = ParquetFile::open(&self.path)?;
        let same = file.groups().eq(self.groups.iter().map(|group| group.rows));
        ensure!(same, "{} changed while the input was read: start again", self.path.display());
        checked(&file, &self.path, selection)?;
        Ok(file)
    }
}

impl Plan {
    pub fn batch(&self, rows: RecordBatch, malformed: Vec<tidecast_stream::Malformed>, next: Position) -> Batch {
        Batch { partition: self.partition.clone(), rows, malformed, origins: Default::default(), next }
    }
}
