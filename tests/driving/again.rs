//! What a state that is older than the commit costs: the rows between are read again, in silence, and counted down.

use std::collections::VecDeque;
use std::path::Path;

use anyhow::Result;
use tidecast::config::Place;
use tidecast_stream::driver::{OnChange, State};
use tidecast_stream::{Assigned, Committed, Event, From, Source};
use tidecast_stream::state::{Lineage, Store};
use tokio::sync::oneshot;

use super::*;

/// A source whose group has committed a position before it begins.
struct Resumed {
    assigned: Option<Assigned>,
    start: Option<oneshot::Receiver<From>>,
    /// Where it is to go on reading.
    begins: Position,
    batches: VecDeque<Batch>,
}

impl Resumed {
    /// Of a state that was kept at a position, if it is not the first.
    fn at(committed: i64, begins: i64, batches: Vec<Batch>) -> Self {
        let (start, told) = oneshot::channel();
        let assigned = Assigned {
            partition: partition(),
            committed: Some(Committed { position: Position(committed), note: String::new() }),
            anew: false,
            fallback: Position(0),
            low: Position(0),
            rewound: None,
            start,
        };
        let begins = Position(begins);
        Self { assigned: Some(assigned), start: Some(told), begins, batches: batches.into() }
    }
}

impl Source for Resumed {
    async fn next(&mut self) -> Result<Event> {
        if let Some(assigned) = self.assigned.take() {
            return Ok(Event::Assigned(assigned));
        }
        if let Some(start) = &mut self.start {
            let from = start.await?;
            assert_eq!(from.position, self.begins);
            self.start = None;
            return Ok(Event::Reading { partition: partition(), from: from.position });
        }
        Ok(self.batches.pop_front().map_or(Event::End, Event::Rows))
    }

    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

fn keeping(case: &Case, folder: &Path) -> Options {
    let store = Store::open(&Place::Folder(folder.into()), Lineage::new(vec![], "m")).unwrap();
    let state = State {
        store: Arc::new(store),
        every: Duration::from_secs(3600),
        bytes_per_second: 1 << 30,
        age_most: Duration::from_secs(3600),
        on_change: OnChange::Fail,
    };
    Options { state: Some(state), ..options(case, 1000, false) }
}

#[tokio::test]
async fn rows_that_are_read_again_are_counted_down_and_no_forecast_is_said_twice() {
    let (case, folder) = (Case::default(), tempfile::tempdir().unwrap());
    let mut batches = batches(&case);
    for batch in &mut batches {
        let record = |offset| Record { offset, ..Record::default() };
        batch.origins.records = (batch.next.0 - 2..batch.next.0).map(record).collect();
    }
    // The commit lies within the fourth batch of positions 6 and 7.
    let (mut source, mut told) = (Resumed::at(7, 0, batches), Vec::new());
    let report = |progress: &Progress| told.push((progress.again, progress.reread, progress.tally.rows));
    let (sink, options) = (MemorySink::default(), keeping(&case, folder.path()));
    let driven = drive(&mut source, sink.clone(), options, std::future::pending(), report);
    let (progress, _) = driven.await.expect("it ends");
    assert_eq!(told[..5], [(5, 2, 0), (3, 4, 0), (1, 6, 0), (0, 7, 1), (0, 7, 3)]);
    // Steps close with the row that comes after: those at 7, 8 and 9 close the steps 6, 7 and 8.
    assert_eq!((progress.tally.rows, progress.tally.forecasts), (3, 3));
    let kept = sink.kept();
    assert_eq!(kept.committed[&partition()], Position(10));
    let records = kept.outputs.iter().flat_map(|output| &output.origins.records);
    let offsets: Vec<i64> = records.map(|record| record.offset).collect();
    assert_eq!(offsets, [7, 8, 9], "nobody waits with what was written before");
}

/// What became of the rejects: offset, time, and how many bytes of its message there are.
fn rejects(kept: &Kept) -> Vec<(i64, Option<i64>, Option<usize>)> {
    let of = |output: &Output| -> Vec<_> {
        let record = |offset| output.origins.at(offset).expect("its place and time are always there");
        let of = |offset| (offset, record(offset).timestamp, record(offset).payload.as_ref().map(Bytes::len));
        output.rejects.iter().map(|reject| of(reject.offset)).collect()
    };
    kept.outputs.iter().flat_map(of).collect()
}

#[tokio::test]
async fn candidates_are_held_with_so_many_bytes_however_rows_are_cut_and_after_a_restart() {
    let case = Case::default();
    // The first rows of four ids, and one of each that drops it: at most two of 12 MiB are held at once.
    let rows: Vec<Row> = [("a", 0), ("b", 0), ("c", 0), ("a", 99), ("d", 0), ("b", 99), ("c", 99), ("d", 99)]
        .map(|(id, step)| row(id, 1000 * step, 1.0))
        .into();
    let payload = Bytes::from(vec![0; 12 << 20]);
    let large = [0, 1, 2, 4];
    let record = |offset: i64| {
        let bytes = if large.contains(&offset) { payload.len() } else { 3 };
        let (timestamp, payload) = (Some(7 * offset), Some(payload.slice(..bytes)));
        Record { offset, timestamp, payload, ..Record::default() }
    };
    let cut = |from: usize, rows: &[Row], size: usize| -> Vec<Batch> {
        let batch = |(i, rows): (usize, &[Row])| {
            let first = (from + i * size) as i64;
            let next = first + rows.len() as i64;
            Batch {
                partition: partition(),
                rows: case.batch(first, rows),
                malformed: vec![],
                origins: Origins { records: (first..next).map(record).collect() },
                next: Position(next),
            }
        };
        rows.chunks(size).enumerate().map(batch).collect()
    };
    let steps = |batches: Vec<Batch>| batches.into_iter().map(Step::Rows);
    let (_, through) = driven(steps(cut(0, &rows, 1)), options(&case, 1000, false)).await;
    let through = rejects(&through);
    let lost: Vec<i64> = through.iter().filter(|reject| reject.2.is_none()).map(|reject| reject.0).collect();
    assert_eq!((through.len(), lost), (4, vec![2]), "{through:?}");
    for size in [2, 8] {
        let (_, kept) = driven(steps(cut(0, &rows, size)), options(&case, 1000, false)).await;
        assert_eq!(rejects(&kept), through, "in batches of {size}");
    }
    for stop in 1..rows.len() {
        let (folder, sink) = (tempfile::tempdir().unwrap(), MemorySink::default());
        let mut first = Resumed::at(0, 0, cut(0, &rows[..stop], 8));
        let mut second = Resumed::at(stop as i64, stop as i64, cut(stop, &rows[stop..], 8));
        for source in [&mut first, &mut second] {
            let (sink, options) = (sink.clone(), keeping(&case, folder.path()));
            drive(source, sink, options, std::future::pending(), |_| ()).await.expect("it ends");
        }
        assert_eq!(rejects(&sink.kept()), through, "stopped at {stop}");
    }
}
