//! The order of things in the loop: what is written is made durable before the position it came from is remembered.

mod again;
mod keeping;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use tidecast::config::Commit;
use tidecast_stream::driver::{Options, Progress, drive};
use tidecast_stream::memory::{Kept, MemorySink, MemorySource, Step};
use tidecast_stream::{Batch, Malformed, Origins, Output, Partition, Position, Positions, Record, Sink};
use tidecast_core::series::Refusal;
use tokio::sync::Semaphore;
use tokio::task::yield_now;

use crate::harness::{self, Case, Row, row};

fn partition() -> Partition {
    Partition { topic: "memory".into(), number: 0 }
}

/// Five batches of two rows, positions 0 to 9.
fn batches(case: &Case) -> Vec<Batch> {
    let rows: Vec<Row> = (0..10).map(|i| row("a", 10 * i, i as f64)).collect();
    let batch = |(i, rows): (usize, &[Row])| Batch {
        partition: partition(),
        rows: case.batch(2 * i as i64, rows),
        malformed: vec![],
        origins: Origins::default(),
        next: Position(2 * i as i64 + 2),
    };
    rows.chunks(2).enumerate().map(batch).collect()
}

fn options(case: &Case, rows: usize, finish: bool) -> Options {
    harness::options(case.setup(), Commit { every: Duration::from_secs(3600), rows }, finish)
}

/// Drives to the end.
async fn driven(steps: impl IntoIterator<Item = Step>, options: Options) -> (Progress, Kept) {
    let mut source = MemorySource::new(steps);
    let driven = drive(&mut source, MemorySink::default(), options, std::future::pending(), |_| ()).await;
    let (progress, sink) = driven.expect("it ends");
    (progress, sink.kept())
}

/// A sink that cannot make the n-th commit durable.
struct Failing {
    sink: MemorySink,
    commits_left: usize,
}

impl Sink for Failing {
    async fn write(&mut self, output: Output) -> Result<()> {
        self.sink.write(output).await
    }

    async fn commit(&mut self, reached: &Positions) -> Result<Positions> {
        let Some(left) = self.commits_left.checked_sub(1) else { bail!("the disk is full") };
        self.commits_left = left;
        self.sink.commit(reached).await
    }

    async fn forget(&mut self, partitions: &[Partition]) -> Result<()> {
        self.sink.forget(partitions).await
    }

    async fn finish(&mut self) -> Result<()> {
        bail!("what is not committed is not finished")
    }
}

#[tokio::test]
async fn no_position_is_committed_before_its_output_is_durable() {
    let case = Case::default();
    for commits in 0..5 {
        let mut source = MemorySource::new(batches(&case).into_iter().map(Step::Rows).chain([Step::End]));
        let sink = MemorySink::default();
        let failing = Failing { sink: sink.clone(), commits_left: commits };
        let driven =
            drive(&mut source, failing, options(&case, 2, true), std::future::pending(), |_| ()).await;
        assert_eq!(driven.err().expect("a commit fails").to_string(), "the disk is full");
        let kept = sink.kept();
        assert_eq!(kept.durable, commits);
        let committed = kept.committed.get(&partition()).map(|position| position.0);
        assert_eq!(committed, (commits > 0).then_some(2 * commits as i64));
    }
}

#[tokio::test]
async fn a_source_that_fails_leaves_what_was_not_committed() {
    let case = Case::default();
    let mut steps: Vec<Step> = batches(&case).into_iter().map(Step::Rows).collect();
    steps.insert(3, Step::Abort);
    let (mut source, sink) = (MemorySource::new(steps), MemorySink::default());
    let driven =
        drive(&mut source, sink.clone(), options(&case, 4, true), std::future::pending(), |_| ()).await;
    assert!(driven.is_err());
    // Two batches made a commit, which may be done by then; the third one will come again.
    let kept = sink.kept();
    assert_eq!(kept.outputs.len(), kept.durable, "what is not committed is dropped");
    let committed = kept.committed.get(&partition()).map_or(0, |position| position.0);
    assert!(committed <= 4 && committed == 2 * kept.durable as i64, "{kept:?}");
}

#[tokio::test]
async fn a_stop_commits_what_was_written() {
    let case = Case::default();
    let steps = batches(&case).into_iter().map(Step::Rows).chain([Step::End]);
    let mut source = MemorySource::new(steps);
    let stop = std::future::ready(());
    let driven = drive(&mut source, MemorySink::default(), options(&case, 1000, true), stop, |_| ()).await;
    let (progress, sink) = driven.expect("it stops");
    assert!(progress.stopped && sink.kept().durable == sink.kept().outputs.len());
    assert_eq!(progress.tally.forecasts, 0);
}

#[tokio::test]
async fn the_last_forecasts_are_committed_too() {
    let case = Case::default();
    let steps = batches(&case).into_iter().map(Step::Rows).chain([Step::End]);
    let (progress, kept) = driven(steps, options(&case, 1000, true)).await;
    // Steps 2 to 9; the last one closes because the input is over.
    assert_eq!(progress.tally.forecasts, 8);
    assert_eq!((kept.outputs.len(), kept.durable), (6, 6));
    assert_eq!(kept.committed[&partition()], Position(10));
}

#[test]
fn a_batch_in_pieces_is_the_batch() {
    let case = Case::default();
    let rows: Vec<Row> = (0..10).map(|i| row("a", 10 * i, i as f64)).collect();
    let record = |offset| Record { offset, ..Record::default() };
    // Offsets 0 to 12; every fifth message was no row.
    let bad = [4, 9, 12];
    let mut batch = Batch {
        partition: partition(),
        rows: case.batch(0, &rows),
        malformed: bad.map(|offset| Malformed { offset, detail: String::new() }).to_vec(),
        origins: Origins { records: (0..13).map(record).collect() },
        next: Position(13),
    };
    let good: Vec<i64> = (0..12).filter(|offset| !bad.contains(offset)).collect();
    let mut columns = batch.rows.columns().to_vec();
    columns[0] = std::sync::Arc::new(arrow::array::Int64Array::from(good));
    batch.rows = arrow::array::RecordBatch::try_new(batch.rows.schema(), columns).expect("the same columns");
    for size in 1..12 {
        let pieces: Vec<Batch> = batch.clone().pieces(size).collect();
        let of = |each: &dyn Fn(&Batch) -> Vec<i64>| pieces.iter().flat_map(each).collect::<Vec<_>>();
        assert_eq!(
            of(&|piece| piece.origins.records.iter().map(|r| r.offset).collect()),
            (0..13).collect::<Vec<_>>()
        );
        assert_eq!(of(&|piece| piece.malformed.iter().map(|m| m.offset).collect()), bad);
        assert!(pieces.iter().all(|piece| piece.rows.num_rows() <= size && piece.next == Position(13)));
        for piece in &pieces {
            let own = |offset: i64| piece.origins.at(offset).is_some();
            assert!(piece.malformed.iter().all(|message| own(message.offset)), "a message lies with its row");
            assert!(tidecast_core::table::positions(&piece.rows).iter().all(|offset| own(*offset)));
        }
        let rows: usize = pieces.iter().map(|piece| piece.rows.num_rows()).sum();
        assert_eq!(rows, batch.rows.num_rows());
    }
}

#[tokio::test]
async fn malformed_messages_are_counted_and_handed_on() {
    let case = Case::default();
    let mut batches = batches(&case);
    batches[1].malformed.push(Malformed { offset: 2, detail: "not JSON".into() });
    let (progress, kept) = driven(batches.into_iter().map(Step::Rows), options(&case, 1000, false)).await;
    assert_eq!(progress.tally.refused(Refusal::Malformed), 1);
    let rejects: Vec<_> = kept.outputs.iter().flat_map(|output| &output.rejects).collect();
    assert_eq!(
        rejects.iter().map(|reject| (reject.offset, reject.detail.as_str())).collect::<Vec<_>>(),
        [(2, "not JSON")]
    );
}

#[tokio::test]
async fn a_candidate_that_is_dropped_later_is_rejected_with_its_message() {
    let case = Case::default();
    let year_2099 = 4_070_908_800;
    let rows = [0, 10, year_2099, 20].map(|t| row("a", t, 1.0));
    let step = |(i, row): (usize, &Row)| {
        let payload = format!("message {i}").into();
        let record = Record { offset: i as i64, payload: Some(payload), ..Record::default() };
        Step::Rows(Batch {
            partition: partition(),
            rows: case.batch(i as i64, std::slice::from_ref(row)),
            malformed: vec![],
            origins: Origins { records: vec![record] },
            next: Position(i as i64 + 1),
        })
    };
    let (progress, kept) = driven(rows.iter().enumerate().map(step), options(&case, 1, false)).await;
    assert_eq!(progress.tally.refused(Refusal::TooFar), 1);
    let output = kept.outputs.iter().find(|output| !output.rejects.is_empty()).expect("a reject");
    assert_eq!((output.rejects[0].offset, output.rejects[0].reason), (2, Refusal::TooFar));
    let message = output.origins.at(2).expect("the message of the candidate");
    assert_eq!(message.payload.as_deref(), Some(&b"message 2"[..]));
}

/// A sink that takes nothing until it is let.
struct Slow(MemorySink, Arc<Semaphore>);

impl Sink for Slow {
    async fn write(&mut self, output: Output) -> Result<()> {
        self.1.acquire().await?.forget();
        self.0.write(output).await
    }

    async fn commit(&mut self, reached: &Positions) -> Result<Positions> {
        self.0.commit(reached).await
    }

    async fn forget(&mut self, partitions: &[Partition]) -> Result<()> {
        self.0.forget(partitions).await
    }

    async fn finish(&mut self) -> Result<()> {
        self.0.finish().await
    }
}

#[tokio::test]
async fn a_sink_that_takes_nothing_holds_the_intake_up() {
    let case = Case::default();
    let batch = |i: i64| {
        let rows: Vec<Row> = (0..100).map(|j| row("a", 10 * (100 * i + j), j as f64)).collect();
        let rows = case.batch(100 * i, &rows);
        let (malformed, origins) = (vec![], Origins::default());
        Step::Rows(Batch { partition: partition(), rows, malformed, origins, next: Position(100 * i + 100) })
    };
    let mut source = MemorySource::new((0..50).map(batch).chain([Step::End]));
    let (sink, gate) = (MemorySink::default(), Arc::new(Semaphore::new(0)));
    // Room for 1000 rows whose output waits; a commit would take twice 600 at once.
    let (slow, read) = (Slow(sink.clone(), gate.clone()), std::cell::Cell::new(0));
    let options = options(&case, 600, true);
    let report = |progress: &Progress| read.set(progress.tally.rows);
    let driven = drive(&mut source, slow, options, std::future::pending(), report);
    let watched = async {
        // On one thread, whoever can go on does so while we yield.
        for _ in 0..10_000 {
            yield_now().await;
        }
        assert_eq!(read.get(), 1000, "so many rows may wait, and no more");
        gate.add_permits(1_000_000);
    };
    let (driven, ()) = tokio::join!(driven, watched);
    assert_eq!(driven.expect("it ends").0.tally.rows, 5000);
    assert_eq!(sink.kept().committed[&partition()], Position(5000));
}

#[tokio::test]
async fn messages_that_wait_for_the_sink_hold_the_intake_up_by_their_bytes() {
    let case = Case::default();
    // All the same bytes: what waits is counted, not what it takes up here.
    let payload = Bytes::from(vec![0; 10 << 20]);
    let batch = |i: i64| {
        let record = Record { offset: i, payload: Some(payload.clone()), ..Record::default() };
        let (rows, malformed) = (case.batch(i, &[row("a", 10 * i, i as f64)]), vec![]);
        let origins = Origins { records: vec![record] };
        Step::Rows(Batch { partition: partition(), rows, malformed, origins, next: Position(i + 1) })
    };
    let mut source = MemorySource::new((0..40).map(batch).chain([Step::End]));
    let (sink, gate) = (MemorySink::default(), Arc::new(Semaphore::new(0)));
    let (slow, read) = (Slow(sink.clone(), gate.clone()), std::cell::Cell::new(0));
    let report = |progress: &Progress| read.set(progress.tally.rows);
    let driven = drive(&mut source, slow, options(&case, 1000, true), std::future::pending(), report);
    let watched = async {
        for _ in 0..10_000 {
            yield_now().await;
        }
        // The first message waits twice: it goes with the row that agrees with it, too.
        assert_eq!(read.get(), 12, "so many are 130 MiB, and no more may wait");
        gate.add_permits(1_000_000);
    };
    let (driven, ()) = tokio::join!(driven, watched);
    assert_eq!(driven.expect("it ends").0.tally.rows, 40);
    assert_eq!(sink.kept().committed[&partition()], Position(40));
}
