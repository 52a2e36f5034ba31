//! The input of a pipeline from Parquet files: opened and checked at once, then read either as a plain iterator
//! (training, replay) or as a [`Source`] with a thread that reads ahead (backfill).

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use tokio::sync::mpsc;

use super::cast::Selection;
use super::scan::{Plan, Range, Scan};
use super::sort::{RUN_ROWS, Sorted};
use crate::config::{Limits, Order, TimeUnit};
use tidecast_stream::{Batch, Event, Partition, Source};
use tidecast_core::table::Columns;

/// Batches that are read ahead: one to be taken at any time, one being made. More would only hold more memory.
const AHEAD: usize = 2;

/// Rows of Parquet files.
///
/// The input is one partition: its topic is the path as given, its number 0. The position of a row is its number over
/// all files in order, counting every row, wanted or not: a row has the same position whatever is filtered.
///
/// `Batch::next` is, with [`Order::File`], the position after the last row looked at. With [`Order::Time`] rows keep
/// their positions but come in another order, so that all rows below some position may be done only at the end:
/// `next` is 0 until the last batch with rows, and there the number of all rows.
///
/// Batches never hold nothing, and are the same at every reading. With [`Order::Time`] what is malformed comes before
/// all rows.
pub struct ParquetInput {
    plan: Arc<Plan>,
    order: Order,
    run_rows: usize,
    reader: Option<Reader>,
    ended: bool,
}

impl ParquetInput {
    /// Opens a file, folder, pattern or hive-partitioned folder: finds its files, reads their footers and checks their
    /// columns. Of the rows, those in `range` whose id is in `series` are read; row groups that lie outside `range` by
    /// their statistics are passed over unread.
    ///
    /// # Errors
    /// If there is no file, one is not a whole Parquet file, or one lacks a column or has a type that cannot be used.
    pub fn open(
        path: &Path,
        columns: &Columns,
        unit: TimeUnit,
        order: Order,
        range: Range,
        series: Option<BTreeSet<String>>,
        limits: &Limits,
    ) -> Result<Self> {
        let selection =
            Selection { columns: columns.clone(), unit, range, series, id_bytes: limits.id_bytes };
        let plan = Arc::new(Plan::new(path, selection)?);
        Ok(Self { plan, order, run_rows: RUN_ROWS, reader: None, ended: false })
    }

    /// Rows that [`Order::Time`] sorts in memory before it goes to temporary files. The result does not depend on it.
    pub fn with_run_rows(mut self, rows: usize) -> Self {
        self.run_rows = rows.max(1);
        self
    }

    pub fn partition(&self) -> &Partition {
        &self.plan.partition
    }

    /// Rows of all files, wanted or not: where positions end.
    pub fn total_rows(&self) -> i64 {
        self.plan.rows
    }

    /// Whether the file at `path` is one of those that are read.
    pub fn reads(&self, path: &Path) -> bool {
        let Ok(path) = path.canonicalize() else { return false };
        self.plan.paths().any(|file| file.canonicalize().is_ok_and(|file| file == path))
    }

    /// Row groups in all files, and how many of them are passed over unread.
    pub fn row_groups(&self) -> (usize, usize) {
        self.plan.groups()
    }

    /// Reads from the start, in this thread. Ends after the first error.
    pub fn batches(&self) -> Batches {
        self.stoppable(Arc::default())
    }

    fn stoppable(&self, stop: Arc<AtomicBool>) -> Batches {
        let scan = Scan::new(self.plan.clone(), stop.clone());
        Batches(match self.order {
            Order::File => Reading::InOrder(Box::new(scan)),
            Order::Time => Reading::Sorted(Box::new(Sorted::new(scan, stop, self.run_rows))),
        })
    }
}

/// The batches of an input, see [`ParquetInput::batches`].
pub struct Batches(Reading);

enum Reading {
    InOrder(Box<Scan>),
    Sorted(Box<Sorted>),
    Ended,
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = match &mut self.0 {
            Reading::InOrder(scan) => scan.next_batch(),
            Reading::Sorted(sorted) => sorted.next_batch(),
            Reading::Ended => Ok(None),
        };
        if !matches!(next, Ok(Some(_))) {
            self.0 = Reading::Ended;
        }
        next.transpose()
    }
}

impl Source for ParquetInput {
    /// Rows, then the end. The first call starts the reading.
    async fn next(&mut self) -> Result<Event> {
        if self.ended {
            return Ok(Event::End);
        }
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => {
                let stop = Arc::new(AtomicBool::new(false));
                let batches = self.stoppable(stop.clone());
                self.reader.insert(Reader::start(batches, stop)?)
            }
        };
        match reader.batches.recv().await {
            Some(Ok(Some(batch))) => Ok(Event::Rows(batch)),
            Some(Ok(None)) => {
                self.ended = true;
                Ok(Event::End)
            }
            Some(Err(error)) => Err(error),
            None => Err(anyhow!("the reading of {} has stopped", self.plan.partition.topic)),
        }
    }

    async fn close(&mut self) -> Result<()> {
        self.ended = true;
        self.reader = None;
        Ok(())
    }
}

/// The thread that reads ahead.
struct Reader {
    batches: mpsc::Receiver<Result<Option<Batch>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    fn start(batches: Batches, stop: Arc<AtomicBool>) -> Result<Self> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let read = move || {
            for batch in batches {
                let failed = batch.is_err();
                let unheard = sender.blocking_send(batch.map(Some)).is_err();
                // A failure is no end. And where nobody listens any more, the input was closed.
                if failed || unheard {
                    return;
                }
            }
            // An end that nobody waits for needs no telling.
            let _ = sender.blocking_send(Ok(None));
        };
        let thread = std::thread::Builder::new().name("parquet".into()).spawn(read);
        let thread = Some(thread.context("cannot start the thread that reads Parquet files")?);
        Ok(Self { batches: receiver, stop, thread })
    }
}

impl Drop for Reader {
    /// Waits for the thread, which stops within a batch, or a run of a sort: its temporary files are gone when the
    /// input is.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.batches.close();
        while self.batches.try_recv().is_ok() {}
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that reads Parquet files has panicked");
        }
    }
}
