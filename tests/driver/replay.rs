//! Replay: rows between the snapshot and the committed position rebuild state without output.

use std::collections::VecDeque;
use std::path::Path;

use tidecast_stream::driver::{LineageMismatchPolicy, StateOptions};
use tidecast_stream::settings::StateLocation;
use tidecast_stream::state::{Lineage, SnapshotStore, UploadSchedule};
use tidecast_stream::{Assignment, CommittedPosition, Source, SourceEvent, StartPosition};
use tokio::sync::oneshot;

use super::*;

/// A source whose group has a committed position.
struct ResumedSource {
    committed: Option<Position>,
    start: Option<oneshot::Receiver<StartPosition>>,
    expected_start: Position,
    batches: VecDeque<Batch>,
}

impl ResumedSource {
    fn new(committed: i64, expected_start: i64, batches: Vec<Batch>) -> Self {
        Self {
            committed: Some(Position(committed)),
            start: None,
            expected_start: Position(expected_start),
            batches: batches.into(),
        }
    }
}

impl Source for ResumedSource {
    async fn next(&mut self) -> Result<SourceEvent> {
        if let Some(position) = self.committed.take() {
            let (reply, start) = oneshot::channel();
            self.start = Some(start);
            let assignment = Assignment {
                partition: partition(),
                committed: Some(CommittedPosition { position, metadata: String::new() }),
                reset: false,
                default_start: Position(0),
                log_start: Position(0),
                replay_from: None,
            };
            return Ok(SourceEvent::Assigned { assignment, reply });
        }
        if let Some(start) = &mut self.start {
            let position = start.await?.position;
            assert_eq!(position, self.expected_start);
            self.start = None;
            return Ok(SourceEvent::ReadingStarted { partition: partition(), position });
        }
        Ok(self.batches.pop_front().map_or(SourceEvent::EndOfInput, SourceEvent::Batch))
    }

    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

fn options_with_state(case: &Case, folder: &Path) -> DriverOptions {
    let location = StateLocation::Folder(folder.into());
    let state = StateOptions {
        store: Arc::new(SnapshotStore::open(&location, Lineage::new(vec![], "m")).unwrap()),
        schedule: UploadSchedule { every: Duration::from_secs(3600), bytes_per_second: 1 << 30 },
        snapshot_age_max: Duration::from_secs(3600),
        on_mismatch: LineageMismatchPolicy::Fail,
    };
    DriverOptions { state: Some(state), ..options(case, 1000, OnEndOfInput::LeaveOpen) }
}

#[tokio::test]
async fn replayed_rows_are_counted_down_and_have_no_output() {
    let (case, folder) = (Case::default(), tempfile::tempdir().unwrap());
    let mut batches = batches(&case);
    for batch in &mut batches {
        let record = |offset| Record { offset, ..Record::default() };
        batch.source.records = (batch.next.0 - 2..batch.next.0).map(record).collect();
    }
    // The committed position is within the fourth batch, of positions 6 and 7.
    let (mut source, mut reports) = (ResumedSource::new(7, 0, batches), Vec::new());
    let report = |progress: &Progress| {
        reports.push((progress.replay_remaining, progress.replayed, progress.counters.rows));
    };
    let (sink, options) = (MemorySink::default(), options_with_state(&case, folder.path()));
    let run = drive(&mut source, sink.clone(), options, &CancellationToken::new(), report).await;
    let (progress, _) = run.expect("the run reaches the end of the input");
    assert_eq!(reports[..5], [(5, 2, 0), (3, 4, 0), (1, 6, 0), (0, 7, 1), (0, 7, 3)]);
    // The rows at 7, 8 and 9 close the steps 6, 7 and 8.
    assert_eq!((progress.counters.rows, progress.counters.forecasts), (3, 3));
    let contents = sink.contents();
    assert_eq!(contents.committed[&partition()], Position(10));
    let records = contents.outputs.iter().flat_map(|output| &output.source.records);
    let offsets: Vec<i64> = records.map(|record| record.offset).collect();
    assert_eq!(offsets, [7, 8, 9], "messages of replayed rows do not wait for the sink");
}

/// The message of a reject: its offset, timestamp and payload length.
#[derive(Debug, PartialEq)]
struct RejectedMessage {
    offset: i64,
    timestamp: Option<i64>,
    payload_bytes: Option<usize>,
}

fn rejected_messages(contents: &MemoryContents) -> Vec<RejectedMessage> {
    let mut messages = Vec::new();
    for output in &contents.outputs {
        for reject in &output.rejects {
            let record = output.source.get(reject.offset).expect("the metadata is always retained");
            messages.push(RejectedMessage {
                offset: reject.offset,
                timestamp: record.timestamp,
                payload_bytes: record.payload.as_ref().map(Bytes::len),
            });
        }
    }
    messages
}

#[tokio::test]
async fn retained_candidate_messages_do_not_depend_on_batches_or_restarts() {
    let case = Case::default();
    // The first rows of four ids, and one of each that drops it. At most two candidates of 12 MiB are retained at once.
    let rows: Vec<Row> = [("a", 0), ("b", 0), ("c", 0), ("a", 99), ("d", 0), ("b", 99), ("c", 99), ("d", 99)]
        .map(|(id, step)| row(id, 1000 * step, 1.0))
        .into();
    let payload = Bytes::from(vec![0; 12 << 20]);
    let record = |offset: i64| {
        let bytes = if [0, 1, 2, 4].contains(&offset) { payload.len() } else { 3 };
        let (timestamp, payload) = (Some(7 * offset), Some(payload.slice(..bytes)));
        Record { offset, timestamp, payload, ..Record::default() }
    };
    let cut = |from: usize, rows: &[Row], size: usize| -> Vec<Batch> {
        let batch = |(i, rows): (usize, &[Row])| {
            let batch = batch(&case, (from + i * size) as i64, rows);
            let offsets = batch.next.0 - rows.len() as i64..batch.next.0;
            Batch { source: SourceRecords { records: offsets.map(record).collect() }, ..batch }
        };
        rows.chunks(size).enumerate().map(batch).collect()
    };
    let options = || options(&case, 1000, OnEndOfInput::LeaveOpen);
    let (_, contents) = run(steps(cut(0, &rows, 1)), options()).await;
    let expected = rejected_messages(&contents);
    let without_payload = expected.iter().filter(|message| message.payload_bytes.is_none());
    let without_payload: Vec<i64> = without_payload.map(|message| message.offset).collect();
    assert_eq!((expected.len(), without_payload), (4, vec![2]), "{expected:?}");
    for size in [2, 8] {
        let (_, contents) = run(steps(cut(0, &rows, size)), options()).await;
        assert_eq!(rejected_messages(&contents), expected, "in batches of {size}");
    }
    for stop in 1..rows.len() {
        let (folder, sink) = (tempfile::tempdir().unwrap(), MemorySink::default());
        let mut first = ResumedSource::new(0, 0, cut(0, &rows[..stop], 8));
        let mut second = ResumedSource::new(stop as i64, stop as i64, cut(stop, &rows[stop..], 8));
        for source in [&mut first, &mut second] {
            let options = options_with_state(&case, folder.path());
            let run = drive(source, sink.clone(), options, &CancellationToken::new(), |_| ()).await;
            run.expect("the run reaches the end of the input");
        }
        assert_eq!(rejected_messages(&sink.contents()), expected, "restarted at {stop}");
    }
}
