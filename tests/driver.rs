//! The driver: output becomes durable before its position is committed, and every buffer is bounded.

mod checkpoints;
mod replay;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use tidecast_core::schema::positions;
use tidecast_core::series::Refusal;
use tidecast_stream::driver::{DriverOptions, OnEndOfInput, Progress, drive};
use tidecast_stream::settings::Commit;
use tidecast_stream::{
    Batch, MalformedRecord, Output, Partition, Position, Positions, Record, Sink, SourceRecords,
};
use tokio::sync::Semaphore;
use tokio::task::yield_now;
use tokio_util::sync::CancellationToken;

use crate::harness::memory::{MemoryContents, MemorySink, MemorySource, Step};
use crate::harness::{Case, Row, driver_options, row};

fn partition() -> Partition {
    Partition { topic: "memory".into(), number: 0 }
}

/// A batch of rows at consecutive positions from `first` on.
fn batch(case: &Case, first: i64, rows: &[Row]) -> Batch {
    Batch {
        partition: partition(),
        rows: case.batch(first, rows),
        malformed: vec![],
        source: SourceRecords::default(),
        next: Position(first + rows.len() as i64),
    }
}

/// Five batches of two rows, at positions 0 to 9.
fn batches(case: &Case) -> Vec<Batch> {
    let rows: Vec<Row> = (0..10).map(|i| row("a", 10 * i, i as f64)).collect();
    rows.chunks(2).enumerate().map(|(i, rows)| batch(case, 2 * i as i64, rows)).collect()
}

fn steps(batches: Vec<Batch>) -> impl Iterator<Item = Step> {
    batches.into_iter().map(Step::Batch).chain([Step::EndOfInput])
}

/// Options that commit after `rows` rows.
fn options(case: &Case, rows: usize, on_end_of_input: OnEndOfInput) -> DriverOptions {
    driver_options(case.setup(), Commit { every: Duration::from_secs(3600), rows }, on_end_of_input)
}

/// Drives the steps to their end.
async fn run(steps: impl IntoIterator<Item = Step>, options: DriverOptions) -> (Progress, MemoryContents) {
    let mut source = MemorySource::new(steps);
    let stop = CancellationToken::new();
    let run = drive(&mut source, MemorySink::default(), options, &stop, |_| ()).await;
    let (progress, sink) = run.expect("the run reaches the end of the input");
    (progress, sink.contents())
}

/// A sink whose commits fail after the first `commits_left`.
struct FailingSink {
    sink: MemorySink,
    commits_left: usize,
}

impl Sink for FailingSink {
    async fn write(&mut self, output: Output) -> Result<()> {
        self.sink.write(output).await
    }

    async fn commit(&mut self, reached: &Positions) -> Result<Positions> {
        let Some(left) = self.commits_left.checked_sub(1) else { bail!("the disk is full") };
        self.commits_left = left;
        self.sink.commit(reached).await
    }

    async fn discard(&mut self, partitions: &[Partition]) -> Result<()> {
        self.sink.discard(partitions).await
    }

    async fn finish(&mut self) -> Result<()> {
        bail!("a sink with uncommitted output must not be finished")
    }
}

#[tokio::test]
async fn no_position_is_committed_before_its_output_is_durable() {
    let case = Case::default();
    for commits in 0..5 {
        let mut source = MemorySource::new(steps(batches(&case)));
        let sink = MemorySink::default();
        let failing = FailingSink { sink: sink.clone(), commits_left: commits };
        let (options, stop) = (options(&case, 2, OnEndOfInput::CloseSteps), CancellationToken::new());
        let run = drive(&mut source, failing, options, &stop, |_| ()).await;
        assert_eq!(run.err().expect("a commit fails").to_string(), "the disk is full");
        let contents = sink.contents();
        assert_eq!(contents.durable, commits);
        let committed = contents.committed.get(&partition()).map(|position| position.0);
        assert_eq!(committed, (commits > 0).then_some(2 * commits as i64));
    }
}

#[tokio::test]
async fn a_failing_source_leaves_no_uncommitted_output() {
    let case = Case::default();
    let mut steps: Vec<Step> = batches(&case).into_iter().map(Step::Batch).collect();
    steps.insert(3, Step::Fail);
    let (mut source, sink) = (MemorySource::new(steps), MemorySink::default());
    let (options, stop) = (options(&case, 4, OnEndOfInput::CloseSteps), CancellationToken::new());
    assert!(drive(&mut source, sink.clone(), options, &stop, |_| ()).await.is_err());
    // Two batches are one commit, which may have finished; the third batch is read again.
    let contents = sink.contents();
    assert_eq!(contents.outputs.len(), contents.durable, "uncommitted output is discarded");
    let committed = contents.committed.get(&partition()).map_or(0, |position| position.0);
    assert!(committed <= 4 && committed == 2 * contents.durable as i64, "{contents:?}");
}

#[tokio::test]
async fn a_stop_commits_the_written_output() {
    let case = Case::default();
    let mut source = MemorySource::new(steps(batches(&case)));
    let (options, stop) = (options(&case, 1000, OnEndOfInput::CloseSteps), CancellationToken::new());
    stop.cancel();
    let run = drive(&mut source, MemorySink::default(), options, &stop, |_| ()).await;
    let (progress, sink) = run.expect("the run stops without an error");
    let contents = sink.contents();
    assert!(progress.stopped && contents.durable == contents.outputs.len());
    assert_eq!(progress.counters.forecasts, 0);
}

#[tokio::test]
async fn forecasts_of_steps_closed_by_the_end_of_the_input_are_committed() {
    let case = Case::default();
    let options = options(&case, 1000, OnEndOfInput::CloseSteps);
    let (progress, contents) = run(steps(batches(&case)), options).await;
    // From steps 2 to 9; the end of the input closes the last one.
    assert_eq!(progress.counters.forecasts, 8);
    assert_eq!((contents.outputs.len(), contents.durable), (6, 6));
    assert_eq!(contents.committed[&partition()], Position(10));
}

#[test]
fn a_split_batch_has_the_rows_and_messages_of_the_whole() {
    let case = Case::default();
    let rows: Vec<Row> = (0..10).map(|i| row("a", 10 * i, i as f64)).collect();
    let record = |offset| Record { offset, ..Record::default() };
    // Offsets 0 to 12; every fifth message is malformed.
    let malformed = [4, 9, 12];
    let valid: Vec<i64> = (0..12).filter(|offset| !malformed.contains(offset)).collect();
    let rows = case.batch(0, &rows);
    let mut columns = rows.columns().to_vec();
    columns[0] = Arc::new(arrow::array::Int64Array::from(valid));
    let batch = Batch {
        partition: partition(),
        rows: arrow::array::RecordBatch::try_new(rows.schema(), columns).expect("the same columns"),
        malformed: malformed.map(|offset| MalformedRecord { offset, detail: String::new() }).to_vec(),
        source: SourceRecords { records: (0..13).map(record).collect() },
        next: Position(13),
    };
    for size in 1..12 {
        let slices: Vec<Batch> = batch.clone().split(size).collect();
        let records = slices.iter().flat_map(|slice| &slice.source.records);
        assert!(records.map(|record| record.offset).eq(0..13));
        let records = slices.iter().flat_map(|slice| &slice.malformed);
        assert!(records.map(|record| record.offset).eq(malformed));
        assert!(slices.iter().all(|slice| slice.rows.num_rows() <= size && slice.next == Position(13)));
        for slice in &slices {
            let has_record = |offset: i64| slice.source.get(offset).is_some();
            assert!(slice.malformed.iter().all(|record| has_record(record.offset)));
            assert!(positions(&slice.rows).iter().all(|offset| has_record(*offset)));
        }
        let rows: usize = slices.iter().map(|slice| slice.rows.num_rows()).sum();
        assert_eq!(rows, batch.rows.num_rows());
    }
}

#[tokio::test]
async fn malformed_messages_are_counted_and_rejected() {
    let case = Case::default();
    let mut batches = batches(&case);
    batches[1].malformed.push(MalformedRecord { offset: 2, detail: "not JSON".into() });
    let (progress, contents) = run(steps(batches), options(&case, 1000, OnEndOfInput::LeaveOpen)).await;
    assert_eq!(progress.counters.refused(Refusal::Malformed), 1);
    let rejects: Vec<_> = contents.outputs.iter().flat_map(|output| &output.rejects).collect();
    let [reject] = rejects[..] else { panic!("{rejects:?}") };
    assert_eq!((reject.offset, reject.detail.as_str()), (2, "not JSON"));
}

#[tokio::test]
async fn a_candidate_dropped_later_is_rejected_with_its_message() {
    let case = Case::default();
    let year_2099 = 4_070_908_800;
    let rows = [0, 10, year_2099, 20].map(|t| row("a", t, 1.0));
    let step = |(i, row): (i64, &Row)| {
        let record = Record { offset: i, payload: Some(format!("message {i}").into()), ..Record::default() };
        let source = SourceRecords { records: vec![record] };
        Step::Batch(Batch { source, ..batch(&case, i, std::slice::from_ref(row)) })
    };
    let options = options(&case, 1, OnEndOfInput::LeaveOpen);
    let (progress, contents) = run((0..).zip(&rows).map(step), options).await;
    assert_eq!(progress.counters.refused(Refusal::TooFar), 1);
    let output = contents.outputs.iter().find(|output| !output.rejects.is_empty()).expect("a reject");
    assert_eq!((output.rejects[0].offset, output.rejects[0].reason), (2, Refusal::TooFar));
    let message = output.source.get(2).expect("the message of the candidate");
    assert_eq!(message.payload.as_deref(), Some(&b"message 2"[..]));
}

/// A sink that accepts one output per permit.
struct GatedSink {
    sink: MemorySink,
    gate: Arc<Semaphore>,
}

impl Sink for GatedSink {
    async fn write(&mut self, output: Output) -> Result<()> {
        self.gate.acquire().await?.forget();
        self.sink.write(output).await
    }

    async fn commit(&mut self, reached: &Positions) -> Result<Positions> {
        self.sink.commit(reached).await
    }

    async fn discard(&mut self, partitions: &[Partition]) -> Result<()> {
        self.sink.discard(partitions).await
    }

    async fn finish(&mut self) -> Result<()> {
        self.sink.finish().await
    }
}

/// Drives the batches into a sink that is blocked at first. Returns the rows read until the driver stops reading, and the
/// final progress.
async fn run_with_blocked_sink(batches: Vec<Batch>, options: DriverOptions) -> (u64, Progress) {
    let mut source = MemorySource::new(steps(batches));
    let gate = Arc::new(Semaphore::new(0));
    let sink = GatedSink { sink: MemorySink::default(), gate: gate.clone() };
    let (rows_read, stop) = (Cell::new(0), CancellationToken::new());
    let report = |progress: &Progress| rows_read.set(progress.counters.rows);
    let run = drive(&mut source, sink, options, &stop, report);
    let open_gate = async {
        // On a single thread, every task that can continue does so during these yields.
        for _ in 0..10_000 {
            yield_now().await;
        }
        gate.add_permits(1_000_000);
        rows_read.get()
    };
    let (run, rows_read) = tokio::join!(run, open_gate);
    (rows_read, run.expect("the run reaches the end of the input").0)
}

#[tokio::test]
async fn a_blocked_sink_stops_reading_at_the_row_limit() {
    let case = Case::default();
    let batch = |i: i64| {
        let rows: Vec<Row> = (0..100).map(|j| row("a", 10 * (100 * i + j), j as f64)).collect();
        batch(&case, 100 * i, &rows)
    };
    // 1000 rows may wait for the sink; two commits of 600 rows would be more.
    let options = options(&case, 600, OnEndOfInput::CloseSteps);
    let (rows_read, progress) = run_with_blocked_sink((0..50).map(batch).collect(), options).await;
    assert_eq!(rows_read, 1000);
    assert_eq!(progress.counters.rows, 5000);
    assert_eq!(progress.committed[&partition()], Position(5000));
}

#[tokio::test]
async fn a_blocked_sink_stops_reading_at_the_byte_limit() {
    let case = Case::default();
    // All messages share one allocation; the limit counts their lengths.
    let payload = Bytes::from(vec![0; 10 << 20]);
    let batch = |i: i64| {
        let record = Record { offset: i, payload: Some(payload.clone()), ..Record::default() };
        let source = SourceRecords { records: vec![record] };
        Batch { source, ..batch(&case, i, &[row("a", 10 * i, i as f64)]) }
    };
    let options = options(&case, 1000, OnEndOfInput::CloseSteps);
    let (rows_read, progress) = run_with_blocked_sink((0..40).map(batch).collect(), options).await;
    // 130 MiB: the first message is counted twice, also with the row that confirms its candidate.
    assert_eq!(rows_read, 12);
    assert_eq!(progress.counters.rows, 40);
    assert_eq!(progress.committed[&partition()], Position(40));
}
