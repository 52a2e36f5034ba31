//! The rows of a scan in the order of (time, position), in bounded memory: an external merge sort. The division into
//! runs does not show in the result.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use arrow::array::{Array, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use tempfile::TempDir;
use tidecast_stream::{Batch, Position};
use tokio_util::sync::CancellationToken;

use crate::scan::{BATCH_ROWS, Scan, ScanPlan};

/// Rows of a run. A million rows of one target take about 50 MB, so an input of that size never touches the disk, and a
/// billion rows are a thousand runs.
pub(super) const RUN_ROWS: usize = 1 << 20;

/// Size of a run, for wider rows (lists of future covariates).
const RUN_BYTES: usize = 256 << 20;

/// Number of runs merged into a longer one. Each costs an open file and a block in memory: a thousand would be too
/// many, and with fewer a billion rows would be copied more than twice.
const FAN_IN: usize = 32;

/// Rows of a run that are in memory during a merge.
const BLOCK_ROWS: usize = 8_192;

/// The batches of a scan, sorted. Malformed rows come first, as they are found, in batches without observations.
pub(super) struct SortedScan {
    scan: Scan,
    plan: Arc<ScanPlan>,
    stop: CancellationToken,
    run_rows: usize,
    buffer: RunBuffer,
    spilled: SpilledRuns,
    merge: Option<Merge>,
}

impl SortedScan {
    pub fn new(scan: Scan, stop: CancellationToken, run_rows: usize) -> Self {
        let plan = scan.plan().clone();
        let spilled = SpilledRuns {
            plan: plan.clone(),
            stop: stop.clone(),
            folder: None,
            levels: Vec::new(),
            files: 0,
        };
        Self { scan, plan, stop, run_rows, buffer: RunBuffer::default(), spilled, merge: None }
    }

    pub fn next_batch(&mut self) -> Result<Option<Batch>> {
        while self.merge.is_none() {
            let Some(mut batch) = self.scan.next_batch()? else {
                let last = std::mem::take(&mut self.buffer).sort(&self.plan);
                self.merge = Some(Merge::new(self.spilled.take(last)?, &self.plan, &self.stop)?);
                break;
            };
            if batch.rows.num_rows() > 0 {
                let empty = batch.rows.slice(0, 0);
                self.buffer.add(std::mem::replace(&mut batch.rows, empty))?;
            }
            if self.buffer.rows >= self.run_rows || self.buffer.bytes >= RUN_BYTES {
                let run = std::mem::take(&mut self.buffer).sort(&self.plan);
                self.spilled.add(run, 0)?;
            }
            if !batch.malformed.is_empty() {
                batch.next = Position(0);
                return Ok(Some(batch));
            }
        }
        let merge = self.merge.as_mut().expect("the loop ends with a merge");
        let Some(rows) = merge.next_block(BATCH_ROWS)? else { return Ok(None) };
        let next = if merge.is_done() { Position(self.plan.total_rows) } else { Position(0) };
        Ok(Some(self.plan.batch(rows, Vec::new(), next)))
    }
}

/// Sorted rows, block by block.
type Run = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

/// Rows of the next run, in file order.
#[derive(Default)]
struct RunBuffer {
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl RunBuffer {
    fn add(&mut self, rows: RecordBatch) -> Result<()> {
        self.rows += rows.num_rows();
        for column in rows.columns() {
            self.bytes += column.to_data().get_slice_memory_size()?;
        }
        self.batches.push(rows);
        Ok(())
    }

    fn sort(self, plan: &ScanPlan) -> Run {
        let mut order = Vec::with_capacity(self.rows);
        for (index, batch) in self.batches.iter().enumerate() {
            let times = SortKeys::new(batch, plan).times.values();
            order.extend(times.iter().enumerate().map(|(row, time)| (*time, index as u32, row as u32)));
        }
        // Batches and rows are in the order of their positions, so this is the order by (time, position).
        order.sort_unstable();
        let mut start = 0;
        Box::new(std::iter::from_fn(move || {
            let block = &order[start..order.len().min(start + BLOCK_ROWS)];
            start += block.len();
            let picks: Vec<_> =
                block.iter().map(|(_, batch, row)| (*batch as usize, *row as usize)).collect();
            (!block.is_empty()).then(|| pick_rows(&self.batches, &picks))
        }))
    }
}

fn pick_rows(batches: &[RecordBatch], picks: &[(usize, usize)]) -> Result<RecordBatch> {
    Ok(interleave_record_batch(&batches.iter().collect::<Vec<_>>(), picks)?)
}

struct SortKeys<'a> {
    times: &'a TimestampMicrosecondArray,
    positions: &'a Int64Array,
}

impl<'a> SortKeys<'a> {
    fn new(rows: &'a RecordBatch, plan: &ScanPlan) -> Self {
        let time = 1 + usize::from(plan.selection.columns.series.is_some());
        let times = rows.column(time).as_primitive::<TimestampMicrosecondType>();
        Self { times, positions: rows.column(0).as_primitive::<Int64Type>() }
    }
}

/// A merge of runs.
struct Merge {
    plan: Arc<ScanPlan>,
    stop: CancellationToken,
    cursors: Vec<RunCursor>,
    /// (time, position, run) of the next row of each unfinished run.
    heads: BinaryHeap<Reverse<(i64, i64, usize)>>,
}

struct RunCursor {
    run: Run,
    block: RecordBatch,
    row: usize,
}

impl Merge {
    fn new(runs: Vec<Run>, plan: &Arc<ScanPlan>, stop: &CancellationToken) -> Result<Self> {
        let empty = RecordBatch::new_empty(plan.selection.columns.schema());
        let cursors = runs.into_iter().map(|run| RunCursor { run, block: empty.clone(), row: 0 }).collect();
        let mut merge = Self { plan: plan.clone(), stop: stop.clone(), cursors, heads: BinaryHeap::new() };
        for run in 0..merge.cursors.len() {
            merge.load_block(run)?;
        }
        Ok(merge)
    }

    fn is_done(&self) -> bool {
        self.heads.is_empty()
    }

    fn load_block(&mut self, run: usize) -> Result<()> {
        let cursor = &mut self.cursors[run];
        if let Some(block) = cursor.run.next() {
            (cursor.block, cursor.row) = (block?, 0);
            self.push_head(run);
        }
        Ok(())
    }

    fn push_head(&mut self, run: usize) {
        let RunCursor { block, row, .. } = &self.cursors[run];
        let keys = SortKeys::new(block, &self.plan);
        self.heads.push(Reverse((keys.times.value(*row), keys.positions.value(*row), run)));
    }

    /// Up to `rows` more rows, `None` at the end.
    fn next_block(&mut self, rows: usize) -> Result<Option<RecordBatch>> {
        ensure!(!self.stop.is_cancelled(), "sorting {} was cancelled", self.plan.partition.topic);
        let (mut blocks, mut picks) = (Vec::new(), Vec::with_capacity(rows));
        // Index in `blocks` of each run's current block.
        let mut indices = vec![None; self.cursors.len()];
        while picks.len() < rows {
            let Some(Reverse((_, _, run))) = self.heads.pop() else { break };
            let cursor = &mut self.cursors[run];
            let index = *indices[run].get_or_insert_with(|| {
                blocks.push(cursor.block.clone());
                blocks.len() - 1
            });
            picks.push((index, cursor.row));
            cursor.row += 1;
            if cursor.row < cursor.block.num_rows() {
                self.push_head(run);
            } else {
                indices[run] = None;
                self.load_block(run)?;
            }
        }
        if picks.is_empty() { Ok(None) } else { pick_rows(&blocks, &picks).map(Some) }
    }
}

/// Runs in temporary files.
struct SpilledRuns {
    plan: Arc<ScanPlan>,
    stop: CancellationToken,
    folder: Option<TempDir>,
    /// By level: a run of level l + 1 was merged from [`FAN_IN`] runs of level l.
    levels: Vec<Vec<PathBuf>>,
    /// Number of files written.
    files: usize,
}

impl SpilledRuns {
    fn add(&mut self, run: Run, level: usize) -> Result<()> {
        let path = self.write(run)?;
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        self.levels[level].push(path);
        if self.levels[level].len() == FAN_IN {
            let merged = std::mem::take(&mut self.levels[level]);
            let runs = merged.iter().map(|path| read_run(path)).collect::<Result<_>>()?;
            let mut merge = Merge::new(runs, &self.plan, &self.stop)?;
            let run = std::iter::from_fn(move || merge.next_block(BLOCK_ROWS).transpose());
            self.add(Box::new(run), level + 1)?;
            for path in merged {
                std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// All runs, followed by the one in memory.
    fn take(&mut self, last: Run) -> Result<Vec<Run>> {
        let files = std::mem::take(&mut self.levels).into_iter().flatten();
        files.map(|path| read_run(&path)).chain([Ok(last)]).collect()
    }

    fn write(&mut self, run: Run) -> Result<PathBuf> {
        let folder = match &self.folder {
            Some(folder) => folder,
            None => self.folder.insert(create_temp_folder()?),
        };
        let path = folder.path().join(format!("run-{}.arrows", self.files));
        self.files += 1;
        write_run(run, &path, &self.plan).with_context(|| {
            format!("cannot write sorted rows to {}: TMPDIR selects the folder", path.display())
        })?;
        Ok(path)
    }
}

/// A private folder, removed at the end.
fn create_temp_folder() -> Result<TempDir> {
    let folder = tempfile::Builder::new().prefix(&format!("tidecast-sort-{}-", std::process::id())).tempdir();
    folder.context("cannot create a folder for sorted rows: TMPDIR selects its parent")
}

fn write_run(run: Run, path: &Path, plan: &ScanPlan) -> Result<()> {
    let file = BufWriter::new(File::create_new(path)?);
    let mut writer = StreamWriter::try_new(file, &plan.selection.columns.schema())?;
    for block in run {
        writer.write(&block?)?;
    }
    Ok(writer.into_inner()?.flush()?)
}

fn read_run(path: &Path) -> Result<Run> {
    let context = format!("cannot read sorted rows from {}", path.display());
    let file = File::open(path).with_context(|| context.clone())?;
    let reader = StreamReader::try_new(BufReader::new(file), None).with_context(|| context.clone())?;
    Ok(Box::new(reader.map(move |block| block.map_err(|error| anyhow!(error).context(context.clone())))))
}
