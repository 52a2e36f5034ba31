//! The sink in its own task: it encodes, sends and commits earlier outputs while the driver pulls and forecasts the next
//! rows. The outputs in flight are bounded in rows and in bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use arrow::array::{Array, AsArray, RecordBatch};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::{Output, Partition, Positions, Record, Sink};

/// Bytes of outputs that may wait for the sink before the driver stops reading: twice the largest output of one push
/// (`Setup::rows_per_push`), so that one push need not wait for the previous one.
pub const BUFFERED_BYTES_MAX: usize = 128 << 20;

/// Maximum time that a failed run waits for the sink to discard its uncommitted output.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);

/// The size of outputs that wait for the sink.
///
/// Rows alone are no bound: many targets and a long horizon make a hundred kilobytes per row, and a batch of replayed rows
/// counts as one row whatever its messages contain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BufferSize {
    pub rows: usize,
    pub bytes: usize,
}

impl BufferSize {
    /// Bytes of an empty output.
    const OVERHEAD: usize = 4 << 10;

    /// The size of an output from `rows` rows.
    pub fn new(output: &Output, rows: usize) -> Self {
        let records = output.source.records.iter().map(|record| size_of::<Record>() + record.byte_len());
        let tables = table_bytes(&output.forecasts) + table_bytes(&output.scores);
        Self { rows, bytes: Self::OVERHEAD + records.sum::<usize>() + tables }
    }

    fn plus(self, other: Self) -> Self {
        Self { rows: self.rows + other.rows, bytes: self.bytes + other.bytes }
    }

    fn minus(self, other: Self) -> Self {
        Self { rows: self.rows - other.rows, bytes: self.bytes - other.bytes }
    }
}

fn table_bytes(rows: &RecordBatch) -> usize {
    rows.columns().iter().map(|column| column_bytes(column)).sum()
}

/// Bytes of a column's values, in constant time because every output is measured.
fn column_bytes(column: &dyn Array) -> usize {
    const OFFSET: usize = size_of::<i32>();
    let value_bytes = |offsets: &[i32]| match offsets {
        [first, .., last] => (last - first) as usize,
        _ => 0,
    };
    if let Some(width) = column.data_type().primitive_width() {
        return width * column.len();
    }
    if let Some(lists) = column.as_list_opt::<i32>() {
        let width = lists.value_type().primitive_width().unwrap_or(size_of::<u64>());
        return OFFSET * lists.len() + width * value_bytes(lists.value_offsets());
    }
    match column.as_string_opt::<i32>() {
        Some(text) => OFFSET * text.len() + value_bytes(text.value_offsets()),
        None => column.get_array_memory_size(),
    }
}

enum SinkCommand {
    Write(Output, BufferSize),
    Commit(Positions),
    Discard(Vec<Partition>, oneshot::Sender<()>),
    Finish,
}

/// The driver's handle to the sink in its task.
pub struct SinkTask<S> {
    commands: mpsc::UnboundedSender<SinkCommand>,
    commits: mpsc::UnboundedReceiver<Positions>,
    task: Option<JoinHandle<Result<S>>>,
    backlog: Arc<Backlog>,
    /// Outputs not known to be durable.
    in_flight: BufferSize,
    /// Those of the running commit.
    committing: Option<BufferSize>,
}

/// Outputs that the sink has not accepted yet.
#[derive(Default)]
pub struct Backlog {
    size: Mutex<BufferSize>,
    shrunk: Notify,
    /// The sink is to ignore the rest of its commands.
    aborted: AtomicBool,
}

impl Backlog {
    pub fn size(&self) -> BufferSize {
        *self.size.lock()
    }

    /// Waits until the backlog has shrunk since the last wait. Cancel-safe.
    pub async fn shrunk(&self) {
        self.shrunk.notified().await;
    }

    fn add(&self, size: BufferSize) {
        let mut total = self.size.lock();
        *total = total.plus(size);
    }

    fn remove(&self, size: BufferSize) {
        let mut total = self.size.lock();
        *total = total.minus(size);
        drop(total);
        self.shrunk.notify_one();
    }
}

impl<S: Sink + Send + 'static> SinkTask<S> {
    pub fn spawn(sink: S) -> Self {
        let (commands, incoming) = mpsc::unbounded_channel();
        let (committed, commits) = mpsc::unbounded_channel();
        let backlog = Arc::<Backlog>::default();
        let task = tokio::spawn(run(sink, incoming, committed, backlog.clone()));
        let (in_flight, committing) = (BufferSize::default(), None);
        Self { commands, commits, task: Some(task), backlog, in_flight, committing }
    }

    /// Outputs written since the last commit began.
    pub fn uncommitted(&self) -> BufferSize {
        self.in_flight.minus(self.committing.unwrap_or_default())
    }

    /// Outputs not known to be durable. They may still be in memory.
    pub fn in_flight(&self) -> BufferSize {
        self.in_flight
    }

    pub fn backlog(&self) -> Arc<Backlog> {
        self.backlog.clone()
    }

    pub fn is_committing(&self) -> bool {
        self.committing.is_some()
    }

    /// Queues an output from `rows` rows.
    pub fn write(&mut self, output: Output, rows: usize) {
        let size = BufferSize::new(&output, rows);
        self.in_flight = self.in_flight.plus(size);
        self.backlog.add(size);
        self.send(SinkCommand::Write(output, size));
    }

    /// Waits until the backlog is below its bound in bytes.
    ///
    /// # Errors
    /// The sink's error. It accepts nothing more then.
    pub async fn wait_capacity(&mut self) -> Result<()> {
        while self.backlog.size().bytes >= BUFFERED_BYTES_MAX {
            tokio::select! {
                () = self.backlog.shrunk() => {}
                () = self.commands.closed() => return Err(self.task_error().await),
            }
        }
        Ok(())
    }

    /// Commits everything written, after the running commit if there is one. Returns the durable positions.
    pub async fn flush(&mut self, reached: Positions) -> Result<Positions> {
        let mut durable = Positions::new();
        if self.is_committing() {
            durable = self.commit_end().await?;
        }
        if self.in_flight.rows > 0 || !reached.is_empty() {
            self.start_commit(reached);
            durable.extend(self.commit_end().await?);
        }
        Ok(durable)
    }

    /// Starts to commit everything written.
    pub fn start_commit(&mut self, reached: Positions) {
        assert!(self.committing.is_none(), "one commit at a time");
        self.committing = Some(self.in_flight);
        self.send(SinkCommand::Commit(reached));
    }

    /// Waits for the end of the running commit and returns the durable positions. Without a running commit it waits until the
    /// sink fails. Cancel-safe.
    ///
    /// # Errors
    /// The sink's error. It accepts nothing more then.
    pub async fn commit_end(&mut self) -> Result<Positions> {
        match self.commits.recv().await {
            Some(positions) => {
                self.in_flight = self.in_flight.minus(self.committing.take().unwrap_or_default());
                Ok(positions)
            }
            None => Err(self.task_error().await),
        }
    }

    /// Drops the uncommitted output of partitions that this process no longer owns.
    pub async fn discard(&mut self, partitions: Vec<Partition>) -> Result<()> {
        let (done, discarded) = oneshot::channel();
        self.send(SinkCommand::Discard(partitions, done));
        match discarded.await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.task_error().await),
        }
    }

    /// Completes the output after the end of the input.
    pub fn finish(&mut self) {
        self.send(SinkCommand::Finish);
    }

    /// Ends the task and returns the sink.
    pub async fn close(mut self) -> Result<S> {
        let task = self.task.take().context("the sink has failed before")?;
        drop(self);
        task.await.context("the sink panicked")?
    }

    /// Ends the task after a failure and discards the uncommitted output of all `partitions`.
    pub async fn abort(mut self, partitions: &[Partition]) {
        self.backlog.aborted.store(true, Ordering::Relaxed);
        let Some(task) = self.task.take() else { return };
        drop(self);
        let ended = async {
            if let Ok(Ok(mut sink)) = task.await
                && let Err(error) = sink.discard(partitions).await
            {
                tracing::warn!("cannot discard the uncommitted output: {error:#}");
            }
        };
        if tokio::time::timeout(ABORT_TIMEOUT, ended).await.is_err() {
            tracing::warn!("the sink did not end within {} s", ABORT_TIMEOUT.as_secs());
        }
    }

    fn send(&mut self, command: SinkCommand) {
        // If the task has failed, the caller gets its error where it awaits the reply.
        let _ = self.commands.send(command);
    }

    async fn task_error(&mut self) -> anyhow::Error {
        let Some(task) = &mut self.task else { return anyhow!("the sink has failed before") };
        // Awaited by reference, so that a cancelled caller can ask again.
        let ended = task.await;
        self.task = None;
        match ended {
            Ok(Err(error)) => error,
            Ok(Ok(_)) => anyhow!("the sink ended unexpectedly"),
            Err(error) => anyhow!(error).context("the sink panicked"),
        }
    }
}

async fn run<S: Sink>(
    mut sink: S,
    mut commands: mpsc::UnboundedReceiver<SinkCommand>,
    committed: mpsc::UnboundedSender<Positions>,
    backlog: Arc<Backlog>,
) -> Result<S> {
    while let Some(command) = commands.recv().await {
        if backlog.aborted.load(Ordering::Relaxed) {
            continue;
        }
        match command {
            SinkCommand::Write(output, size) => {
                sink.write(output).await?;
                backlog.remove(size);
            }
            SinkCommand::Commit(reached) => {
                let span = tracing::trace_span!(target: "spans", "commit", partitions = reached.len());
                let positions = sink.commit(&reached).instrument(span).await?;
                // A failed driver no longer listens.
                let _ = committed.send(positions);
            }
            SinkCommand::Discard(partitions, done) => {
                sink.discard(&partitions).await?;
                let _ = done.send(());
            }
            SinkCommand::Finish => sink.finish().await?,
        }
    }
    Ok(sink)
}

#[cfg(test)]
mod tests {
    use anyhow::Error;
    use tidecast_core::schema::{ForecastBuilder, OutputLabels, ScoreBuilder};
    use tokio::sync::Semaphore;

    use super::*;
    use crate::SourceRecords;

    fn output_with(forecasts: RecordBatch, records: Vec<Record>) -> Output {
        let labels = OutputLabels { every: "1h".into(), model: "abc".into() };
        Output {
            partition: Partition { topic: "memory".into(), number: 0 },
            forecasts,
            scores: ScoreBuilder::new(&[], labels).finish(),
            rejects: vec![],
            source: SourceRecords { records },
        }
    }

    #[test]
    fn an_output_is_measured_by_its_forecasts_and_messages() {
        let labels = OutputLabels { every: "1h".into(), model: "abc".into() };
        let mut forecasts = ForecastBuilder::new(&[0.8, 0.95], labels);
        let values = [0.5f32; 96];
        (0..50).for_each(|i| forecasts.push(i, "a series", "a target", 0, [&values[..]; 5]));
        let mut record = Record { payload: Some(vec![0; 10_000].into()), ..Record::default() };
        record.key = Some(vec![0; 500].into());
        let output = output_with(forecasts.finish(), vec![record; 3]);
        let BufferSize { rows, bytes } = BufferSize::new(&output, 7);
        let (values, messages) = (50 * 5 * 96 * 4, 3 * 10_500);
        assert_eq!(rows, 7);
        assert!((values + messages..values + messages + 20_000).contains(&bytes), "{bytes}");
        // A slice of the forecasts is smaller by the omitted values.
        let sliced = Output { forecasts: output.forecasts.slice(20, 10), ..output };
        let omitted = bytes - BufferSize::new(&sliced, 7).bytes;
        assert!((values / 5 * 4..values / 5 * 4 + 10_000).contains(&omitted), "{omitted}");
    }

    /// A sink that accepts one output per permit and fails once the semaphore is closed.
    struct GatedSink(Arc<Semaphore>);

    impl Sink for GatedSink {
        async fn write(&mut self, _: Output) -> Result<()> {
            self.0.acquire().await.map(|permit| permit.forget()).map_err(Error::from)
        }

        async fn commit(&mut self, reached: &Positions) -> Result<Positions> {
            Ok(reached.clone())
        }

        async fn discard(&mut self, _: &[Partition]) -> Result<()> {
            Ok(())
        }

        async fn finish(&mut self) -> Result<()> {
            Ok(())
        }
    }

    fn output_of_bytes(bytes: usize) -> Output {
        let labels = OutputLabels { every: String::new(), model: String::new() };
        let record = Record { payload: Some(vec![0; bytes].into()), ..Record::default() };
        output_with(ForecastBuilder::new(&[], labels).finish(), vec![record])
    }

    #[tokio::test]
    async fn capacity_is_awaited_until_the_sink_accepts_an_output_or_fails() {
        let gate = Arc::new(Semaphore::new(0));
        let mut sink = SinkTask::spawn(GatedSink(gate.clone()));
        sink.write(output_of_bytes(BUFFERED_BYTES_MAX / 2), 1);
        sink.wait_capacity().await.expect("half of it is free");
        sink.write(output_of_bytes(BUFFERED_BYTES_MAX / 2), 1);
        tokio::select! {
            biased;
            _ = sink.wait_capacity() => panic!("there is no capacity"),
            () = tokio::task::yield_now() => gate.add_permits(1),
        }
        sink.wait_capacity().await.expect("one output is accepted");
        sink.write(output_of_bytes(BUFFERED_BYTES_MAX / 2), 1);
        gate.close();
        sink.wait_capacity().await.expect_err("the sink has failed");
    }
}
