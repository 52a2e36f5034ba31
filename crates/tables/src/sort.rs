//! The rows of a scan in the order of (time, position), in bounded memory: sorted runs, all but the last one in
//! files, and a merge of them. Which rows share a run shows nowhere in the result.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow, ensure};
use arrow::array::{Array, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use tempfile::TempDir;

use super::scan::{BATCH_ROWS, Plan, Scan};
use tidecast_stream::{Batch, Position};

/// Rows of a run. A million rows of one target are some 50 MB: an input of that size never touches the disk, and a
/// billion rows are a thousand runs.
pub(super) const RUN_ROWS: usize = 1 << 20;

/// Bytes of a run, for rows that are wider (lists of inputs known ahead).
const RUN_BYTES: usize = 256 << 20;

/// Runs that are merged into one longer run. Each run of a merge costs an open file and a block in memory; a thousand
/// of both at once would be too many, and merging fewer would copy the rows more often than twice for a billion.
const FAN_IN: usize = 32;

/// Rows of a run that are in memory while it is merged.
const BLOCK_ROWS: usize = 8_192;

/// The batches of a scan, sorted. What is malformed comes first, as it is found, in batches without rows.
pub(super) struct Sorted {
    scan: Scan,
    plan: Arc<Plan>,
    stop: Arc<AtomicBool>,
    run_rows: usize,
    run: Pending,
    spilled: Spilled,
    merge: Option<Merge>,
}

impl Sorted {
    pub fn new(scan: Scan, stop: Arc<AtomicBool>, run_rows: usize) -> Self {
        let plan = scan.plan().clone();
        Self { scan, plan, stop, run_rows, run: Pending::default(), spilled: Spilled::default(), merge: None }
    }

    pub fn next_batch(&mut self) -> Result<Option<Batch>> {
        while self.merge.is_none() {
            let Some(mut batch) = self.scan.next_batch()? else {
                let last = std::mem::take(&mut self.run).sorted(&self.plan)?;
                self.merge = Some(Merge::new(self.spilled.take(last)?, &self.plan, &self.stop)?);
                break;
            };
            if batch.rows.num_rows() > 0 {
                let empty = batch.rows.slice(0, 0);
                self.run.add(std::mem::replace(&mut batch.rows, empty))?;
            }
            if self.run.rows >= self.run_rows || self.run.bytes >= RUN_BYTES {
                let run = std::mem::take(&mut self.run).sorted(&self.plan)?;
                self.spilled.add(run, 0, &self.plan, &self.stop)?;
            }
            if !batch.malformed.is_empty() {
                batch.next = Position(0);
                return Ok(Some(batch));
            }
        }
        let merge = self.merge.as_mut().expect("the loop ends with a merge");
        let Some(rows) = merge.next_block(BATCH_ROWS)? else { return Ok(None) };
        let next = if merge.is_done() { Position(self.plan.rows) } else { Position(0) };
        Ok(Some(self.plan.batch(rows, Vec::new(), next)))
    }
}

/// Sorted rows, block by block.
type Run = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

/// Rows that are to become a run.
#[derive(Default)]
struct Pending {
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl Pending {
    fn add(&mut self, rows: RecordBatch) -> Result<()> {
        self.rows += rows.num_rows();
        for column in rows.columns() {
            self.bytes += column.to_data().get_slice_memory_size()?;
        }
        self.batches.push(rows);
        Ok(())
    }

    fn sorted(self, plan: &Plan) -> Result<Run> {
        let mut order = Vec::with_capacity(self.rows);
        for (index, batch) in self.batches.iter().enumerate() {
            let times = Keys::of(batch, plan).times;
            order.extend(
                times.values().iter().enumerate().map(|(row, time)| (*time, index as u32, row as u32)),
            );
        }
        // Batches and rows lie in the order of their positions, so this is the order by (time, position).
        order.sort_unstable();
        let mut at = 0;
        Ok(Box::new(std::iter::from_fn(move || {
            let block = &order[at..order.len().min(at + BLOCK_ROWS)];
            at += block.len();
            let picks: Vec<_> =
                block.iter().map(|(_, batch, row)| (*batch as usize, *row as usize)).collect();
            (!block.is_empty()).then(|| picked(&self.batches, &picks))
        })))
    }
}

fn picked(batches: &[RecordBatch], picks: &[(usize, usize)]) -> Result<RecordBatch> {
    Ok(interleave_record_batch(&batches.iter().collect::<Vec<_>>(), picks)?)
}

/// What rows are ordered by.
struct Keys<'a> {
    times: &'a TimestampMicrosecondArray,
    positions: &'a Int64Array,
}

impl<'a> Keys<'a> {
    fn of(rows: &'a RecordBatch, plan: &Plan) -> Self {
        let time = 1 + usize::from(plan.selection.columns.series.is_some());
        let times = rows.column(time).as_primitive::<TimestampMicrosecondType>();
        Self { times, positions: rows.column(0).as_primitive::<Int64Type>() }
    }
}

/// A merge of runs.
struct Merge {
    plan: Arc<Plan>,
    stop: Arc<AtomicBool>,
    cursors: Vec<Cursor>,
    /// (time, position, run) of the first row of each run that is left.
    heads: BinaryHeap<Reverse<(i64, i64, usize)>>,
}

struct Cursor {
    run: Run,
    block: RecordBatch,
    row: usize,
}

impl Merge {
    fn new(runs: Vec<Run>, plan: &Arc<Plan>, stop: &Arc<AtomicBool>) -> Result<Self> {
        let empty = RecordBatch::new_empty(plan.selection.columns.schema());
        let cursors = runs.into_iter().map(|run| Cursor { run, block: empty.clone(), row: 0 }).collect();
        let mut merge = Self { plan: plan.clone(), stop: stop.clone(), cursors, heads: BinaryHeap::new() };
        for run in 0..merge.cursors.len() {
            merge.load(run)?;
        }
        Ok(merge)
    }

    fn is_done(&self) -> bool {
        self.heads.is_empty()
    }

    /// Takes the next block of a run.
    fn load(&mut self, run: usize) -> Result<()> {
        let cursor = &mut self.cursors[run];
        if let Some(block) = cursor.run.next() {
            (cursor.block, cursor.row) = (block?, 0);
            self.push_head(run);
        }
        Ok(())
    }

    fn push_head(&mut self, run: usize) {
        let Cursor { block, row, .. } = &self.cursors[run];
        let keys = Keys::of(block, &self.plan);
        self.heads.push(Reverse((keys.times.value(*row), keys.positions.value(*row), run)));
    }

    /// At most `rows` more rows.
    fn next_block(&mut self, rows: usize) -> Result<Option<RecordBatch>> {
        ensure!(
            !self.stop.load(Ordering::Relaxed),
            "the sorting of {} was stopped",
            self.plan.partition.topic
        );
        let (mut blocks, mut picks) = (Vec::new(), Vec::with_capacity(rows));
        // Where in `blocks` the current block of each run is.
        let mut places = vec![None; self.cursors.len()];
        while picks.len() < rows {
            let Some(Reverse((_, _, run))) = self.heads.pop() else { break };
            let cursor = &mut self.cursors[run];
            let place = *places[run].get_or_insert_with(|| {
                blocks.push(cursor.block.clone());
                blocks.len() - 1
            });
            picks.push((place, cursor.row));
            cursor.row += 1;
            if cursor.row < cursor.block.num_rows() {
                self.push_head(run);
            } else {
                places[run] = None;
                self.load(run)?;
            }
        }
        if picks.is_empty() { Ok(None) } else { picked(&blocks, &picks).map(Some) }
    }
}

/// Runs in files.
#[derive(Default)]
struct Spilled {
    folder: Option<TempDir>,
    /// By level: a run of level l + 1 was merged from [`FAN_IN`] runs of level l.
    levels: Vec<Vec<PathBuf>>,
    files: usize,
}

impl Spilled {
    fn add(&mut self, run: Run, level: usize, plan: &Arc<Plan>, stop: &Arc<AtomicBool>) -> Result<()> {
        let path = self.write(run, plan)?;
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        self.levels[level].push(path);
        if self.levels[level].len() == FAN_IN {
            let merged = std::mem::take(&mut self.levels[level]);
            let runs = merged.iter().map(|path| read_run(path)).collect::<Result<_>>()?;
            let mut merge = Merge::new(runs, plan, stop)?;
            let run = std::iter::from_fn(move || merge.next_block(BLOCK_ROWS).transpose());
            self.add(Box::new(run), level + 1, plan, stop)?;
            for path in merged {
                std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// All runs, and the one that was not written.
    fn take(&mut self, last: Run) -> Result<Vec<Run>> {
        let files = std::mem::take(&mut self.levels).into_iter().flatten();
        files.map(|path| read_run(&path)).chain([Ok(last)]).collect()
    }

    fn write(&mut self, run: Run, plan: &Plan) -> Result<PathBuf> {
        let folder = match &self.folder {
            Some(folder) => folder,
            None => self.folder.insert(spill_folder()?),
        };
        let path = folder.path().join(format!("run-{}.arrows", self.files));
        self.files += 1;
        let write = || -> Result<()> {
            let file = BufWriter::new(File::create_new(&path)?);
            let mut writer = StreamWriter::try_new(file, &plan.selection.columns.schema())?;
            for block in run {
                writer.write(&block?)?;
            }
            Ok(writer.into_inner()?.flush()?)
        };
        let place =
            || format!("cannot write sorted rows to {}: TMPDIR chooses another folder", path.display());
        write().with_context(place)?;
        Ok(path)
    }
}

/// A folder of our own, readable by us alone, for files that nobody else needs; removed at the end.
fn spill_folder() -> Result<TempDir> {
    let made = tempfile::Builder::new().prefix(&format!("tidecast-sort-{}-", std::process::id())).tempdir();
    made.context("cannot make a folder for sorted rows: TMPDIR chooses another place")
}

fn read_run(path: &Path) -> Result<Run> {
    let place = format!("cannot read sorted rows from {}", path.display());
    let open = || -> Result<_> { Ok(StreamReader::try_new(BufReader::new(File::open(path)?), None)?) };
    let reader = open().with_context(|| place.clone())?;
    Ok(Box::new(reader.map(move |block| block.map_err(|error| anyhow!(error).context(place.clone())))))
}
