//! The input of a pipeline from Parquet files: opened and checked at once, then read either as an iterator (training,
//! replay) or as a [`Source`] with a thread that reads ahead (backfill).

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use tidecast_core::schema::Columns;
use tidecast_core::time::TimeUnit;
use tidecast_stream::settings::Limits;
use tidecast_stream::{Batch, Partition, Source, SourceEvent};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::columns::{RowFilter, RowSelection};
use crate::scan::{RowGroupCounts, Scan, ScanPlan};
use crate::settings::Order;
use crate::sort::{RUN_ROWS, SortedScan};

/// Batches that are read ahead: one ready, one in progress. More would only cost memory.
const READ_AHEAD_BATCHES: usize = 2;

/// Options of a [`ParquetSource`].
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// Unit of integer times.
    pub time_unit: TimeUnit,
    pub order: Order,
    pub filter: RowFilter,
    /// Maximum length of an id. A row with a longer one is malformed.
    pub id_bytes: usize,
}

impl Default for ReadOptions {
    fn default() -> Self {
        let (time_unit, order, filter) = Default::default();
        Self { time_unit, order, filter, id_bytes: Limits::default().id_bytes }
    }
}

/// Rows of Parquet files.
///
/// The input is one partition: its topic is the path as given, its number 0. The position of a row is its index over
/// all files in order, independent of any filter.
///
/// `Batch::next` is, with [`Order::File`], the position after the last row examined. With [`Order::Time`] rows keep
/// their positions but come in another order, so that all rows below some position may be done only at the end: `next`
/// is 0 until the last batch with rows, and the number of all rows there.
///
/// Batches are never empty, and are the same with every reading. With [`Order::Time`] malformed rows come before all
/// others.
pub struct ParquetSource {
    plan: Arc<ScanPlan>,
    order: Order,
    run_rows: usize,
    reader: Option<ReadAhead>,
    has_ended: bool,
}

impl ParquetSource {
    /// Opens a file, folder, pattern or hive-partitioned folder: finds its files, reads their footers and checks their
    /// columns. Row groups without rows to read, according to their statistics, are skipped.
    ///
    /// # Errors
    /// If there is no file, one is not a complete Parquet file, or one lacks a column or has an unusable type in it.
    pub fn open(path: &Path, columns: &Columns, options: ReadOptions) -> Result<Self> {
        let ReadOptions { time_unit, order, filter, id_bytes } = options;
        let selection = RowSelection { columns: columns.clone(), time_unit, filter, id_bytes };
        let plan = Arc::new(ScanPlan::new(path, selection)?);
        Ok(Self { plan, order, run_rows: RUN_ROWS, reader: None, has_ended: false })
    }

    /// Sets how many rows [`Order::Time`] sorts in memory before it uses temporary files. Does not change the result.
    pub fn with_run_rows(mut self, rows: usize) -> Self {
        self.run_rows = rows.max(1);
        self
    }

    pub fn partition(&self) -> &Partition {
        &self.plan.partition
    }

    /// Number of rows of all files, selected or not, which is the last position.
    pub fn total_rows(&self) -> i64 {
        self.plan.total_rows
    }

    /// True if `path` is one of the files.
    pub fn contains_file(&self, path: &Path) -> bool {
        let Ok(path) = path.canonicalize() else { return false };
        self.plan.paths().any(|file| file.canonicalize().is_ok_and(|file| file == path))
    }

    pub fn row_groups(&self) -> RowGroupCounts {
        self.plan.row_groups()
    }

    /// Reads from the start, in this thread. Ends after the first error.
    pub fn batches(&self) -> Batches {
        self.cancellable_batches(CancellationToken::new())
    }

    fn cancellable_batches(&self, stop: CancellationToken) -> Batches {
        let scan = Scan::new(self.plan.clone(), stop.clone());
        Batches(match self.order {
            Order::File => BatchReader::InFileOrder(Box::new(scan)),
            Order::Time => BatchReader::InTimeOrder(Box::new(SortedScan::new(scan, stop, self.run_rows))),
        })
    }
}

/// The batches of a source, see [`ParquetSource::batches`].
pub struct Batches(BatchReader);

enum BatchReader {
    InFileOrder(Box<Scan>),
    InTimeOrder(Box<SortedScan>),
    Ended,
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = match &mut self.0 {
            BatchReader::InFileOrder(scan) => scan.next_batch(),
            BatchReader::InTimeOrder(scan) => scan.next_batch(),
            BatchReader::Ended => Ok(None),
        };
        if !matches!(next, Ok(Some(_))) {
            self.0 = BatchReader::Ended;
        }
        next.transpose()
    }
}

impl Source for ParquetSource {
    /// The first call starts the reading.
    async fn next(&mut self) -> Result<SourceEvent> {
        if self.has_ended {
            return Ok(SourceEvent::EndOfInput);
        }
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => {
                let stop = CancellationToken::new();
                let batches = self.cancellable_batches(stop.clone());
                self.reader.insert(ReadAhead::start(batches, stop)?)
            }
        };
        match reader.batches.recv().await {
            Some(Ok(Some(batch))) => Ok(SourceEvent::Batch(batch)),
            Some(Ok(None)) => {
                self.has_ended = true;
                Ok(SourceEvent::EndOfInput)
            }
            Some(Err(error)) => Err(error),
            None => Err(anyhow!("reading {} has stopped", self.plan.partition.topic)),
        }
    }

    async fn close(&mut self) -> Result<()> {
        self.has_ended = true;
        self.reader = None;
        Ok(())
    }
}

/// The thread that reads ahead.
struct ReadAhead {
    /// `None` is the end of the input.
    batches: mpsc::Receiver<Result<Option<Batch>>>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl ReadAhead {
    fn start(batches: Batches, stop: CancellationToken) -> Result<Self> {
        let (sender, receiver) = mpsc::channel(READ_AHEAD_BATCHES);
        let read = move || {
            for batch in batches {
                let is_error = batch.is_err();
                // The receiver is gone if the source was closed. An error is not the end of the input.
                if sender.blocking_send(batch.map(Some)).is_err() || is_error {
                    return;
                }
            }
            let _ = sender.blocking_send(Ok(None));
        };
        let thread = std::thread::Builder::new().name("parquet".into()).spawn(read);
        let thread = Some(thread.context("cannot start the thread that reads Parquet files")?);
        Ok(Self { batches: receiver, stop, thread })
    }
}

impl Drop for ReadAhead {
    /// Waits for the thread, which stops within a batch or a run of a sort, so that its temporary files are removed.
    fn drop(&mut self) {
        self.stop.cancel();
        self.batches.close();
        while self.batches.try_recv().is_ok() {}
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that reads Parquet files has panicked");
        }
    }
}
