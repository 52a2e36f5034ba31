//! Limits: eviction of series, early closing of steps, and the reject limit that stops a pipeline.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use proptest::collection::vec;
use proptest::prelude::*;
use tidecast_core::series::{OnFull, Refusal};
use tidecast_stream::bootstrap::{BootstrapHistory, HistoryRows};
use tidecast_stream::driver::{
    CountedReject, DriverOptions, OnEndOfInput, Progress, RejectBudget, RejectLimit, drive,
};
use tidecast_stream::settings::{Commit, Ratio};
use tidecast_stream::{Batch, MalformedRecord, Partition, Position, Record, SourceRecords};
use tidecast_tables::settings::Order;
use tidecast_tables::{ParquetSource, ReadOptions, RowFilter, TimeRange};
use tokio_util::sync::CancellationToken;

use crate::harness::memory::{MemoryContents, MemorySink, MemorySource, Step};
use crate::harness::{Case, Collected, Row, SECOND, driver_options, row, write_parquet};

fn evicting(series_max: usize) -> Case {
    Case { series_max, on_full: OnFull::Evict, ..Case::default() }
}

/// A row of each series in `count` steps from `first` on.
fn steps(ids: &[&str], first: i64, count: i64) -> Vec<Row> {
    (first..first + count).flat_map(|i| ids.iter().map(move |id| row(id, 10 * i, i as f64))).collect()
}

#[test]
fn the_least_recently_updated_series_is_evicted() {
    let rows = [steps(&["a", "b"], 0, 4), steps(&["a"], 4, 2), steps(&["c", "a"], 6, 4)].concat();
    let output = evicting(2).run(&rows, &[]);
    assert_eq!((output.counters.evictions, output.counters.refused_total()), (1, 0), "{}", output.counters);
    assert_eq!(output.origins("a"), [20, 30, 40, 50, 60, 70, 80, 90]);
    assert_eq!(output.origins("c"), [80, 90]);
    // The row of the new series closes the last step of the evicted one.
    let last = output.forecasts.iter().rfind(|forecast| forecast.series == "b").expect("b was warm");
    assert_eq!((last.origin, last.position), (30, 10));
    assert!(output.counters.to_string().contains("1 evictions"));
}

#[test]
fn an_evicted_series_restarts_cold() {
    let rows = [steps(&["a"], 0, 5), steps(&["b"], 5, 5), steps(&["a"], 10, 5)].concat();
    for case in [evicting(1), Case { recurrence: true, embedding: 2, ..evicting(1) }] {
        let output = case.run(&rows, &[]);
        let standalone = case.run(&steps(&["a"], 10, 5), &[]);
        assert_eq!(output.counters.evictions, 2);
        assert_eq!(output.forecasts_of("a")[3..], standalone.forecasts_of("a"));
        assert_eq!(output.forecasts_of("b"), case.run(&steps(&["b"], 5, 5), &[]).forecasts_of("b"));
    }
}

#[test]
fn the_candidate_of_an_evicted_series_is_refused() {
    let rows = ["a", "b", "c"].map(|id| row(id, 0, 1.0));
    let output = evicting(2).run(&rows, &[]);
    assert_eq!(output.refused, [(0, Refusal::TooManySeries), (1, Refusal::TooFar), (2, Refusal::TooFar)]);
}

#[test]
fn an_open_step_beyond_the_limit_closes_the_oldest() {
    let mut case = Case { open_steps: 2, ..Case::default() };
    case.step_config.lateness = 50 * SECOND;
    let output = case.run(&[0, 10, 20, 30, 5, 15].map(|t| row("a", t, t as f64)), &[]);
    // Steps 0 and 1 close early, so their second rows are late; nothing else is lost.
    assert_eq!(output.refused, [(4, Refusal::Late), (5, Refusal::Late)]);
    assert_eq!((output.counters.forced_closes, output.origins("a")), (2, vec![20, 30]));
    let unlimited = Case { open_steps: 6, ..case };
    assert_eq!(
        unlimited.run(&[0, 10, 20, 30, 5, 15].map(|t| row("a", t, t as f64)), &[]).counters.forced_closes,
        0
    );
}

#[test]
fn eviction_after_a_bootstrap_survives_a_restart() {
    let (case, folder) = (evicting(3), tempfile::tempdir().unwrap());
    // The file has the latest rows first, and more series than the limit.
    let mut past: Vec<Row> =
        (0..).zip(["a", "b", "c", "d"]).flat_map(|(i, id)| steps(&[id], 2 * i, 2)).collect();
    past.reverse();
    let path = folder.path().join("past.parquet");
    write_parquet(&path, &case.batch(0, &past));
    let columns = case.columns.clone();
    let open = move || -> Result<HistoryRows> {
        let times = TimeRange { since: None, until: Some(75 * SECOND) };
        let filter = RowFilter { times, ids: None };
        let options = ReadOptions { order: Order::Time, filter, ..ReadOptions::default() };
        let source = ParquetSource::open(&path, &columns, options)?;
        let batches = Box::new(source.batches().map(|batch| Ok(batch?.rows)));
        Ok(HistoryRows { total: source.total_rows(), batches })
    };
    let history = BootstrapHistory { name: "past".to_owned(), open: Arc::new(open) };
    let next = Position(1000);
    let mut states = history.build_states(&case.setup(), 1, &[(0, next)].into(), |_, _| ()).unwrap();
    let mut live = states.remove(&0).unwrap();
    let mut restored = case.forecaster();
    restored.restore(&live.snapshot()).unwrap();
    // Each new series evicts another one.
    let rows = ["e", "f", "g"].map(|id| row(id, 80, 4.0));
    for (i, row) in (next.0..).zip(&rows) {
        let batch = case.batch(i, std::slice::from_ref(row));
        let [live, restored] = [&mut live, &mut restored].map(|forecaster| {
            let mut output = Collected::default();
            output.add(forecaster.push(&batch));
            (output.forecasts, output.refused, output.counters, forecaster.snapshot())
        });
        assert!(live == restored, "different evictions for {}", row.series);
    }
}

/// A limit of 1% over `window` rows.
fn budget(window: usize) -> RejectBudget {
    RejectBudget::new(&RejectLimit { rate: Ratio(10_000), window, reasons: vec![Refusal::Malformed] })
}

fn malformed(offset: i64) -> CountedReject {
    CountedReject { decided_at: offset, offset, reason: Refusal::Malformed, detail: format!("no {offset}") }
}

#[test]
fn the_reject_limit_is_exceeded_at_the_first_reject_beyond_it() {
    let mut budget = budget(200);
    assert_eq!(budget.add(0..5, [malformed(1), malformed(3)]), Ok(()));
    // Row 1 leaves the window at row 201.
    assert_eq!(budget.add(5..201, []), Ok(()));
    assert_eq!(budget.add(201..202, [malformed(201)]), Ok(()));
    let exceeded = budget.add(202..300, [malformed(202), malformed(203)]).unwrap_err();
    assert_eq!((exceeded.rejected, exceeded.rows), (3, 200));
    assert_eq!(exceeded.examples, [malformed(3), malformed(201), malformed(202)]);
    assert_eq!(exceeded.examples[0].to_string(), "offset 3 malformed (no 3)");
}

fn partition() -> Partition {
    Partition { topic: "memory".into(), number: 0 }
}

/// Drives rows as single-row batches with their messages; a row without a value is malformed.
async fn run(
    case: &Case,
    rows: &[Row],
    reject_limit: Option<RejectLimit>,
) -> (Result<Progress>, MemoryContents) {
    let step = |(offset, row): (i64, &Row)| {
        let is_valid = !row.targets[0].is_nan();
        let valid = if is_valid { std::slice::from_ref(row) } else { &[] };
        let malformed = MalformedRecord { offset, detail: "no value".into() };
        let record = Record { offset, payload: Some(vec![offset as u8].into()), ..Record::default() };
        Step::Batch(Batch {
            partition: partition(),
            rows: case.batch(offset, valid),
            malformed: if is_valid { vec![] } else { vec![malformed] },
            source: SourceRecords { records: vec![record] },
            next: Position(offset + 1),
        })
    };
    let mut source = MemorySource::new((0..).zip(rows).map(step));
    let sink = MemorySink::default();
    let commit = Commit { every: Duration::from_secs(3600), rows: 10_000 };
    let options = driver_options(case.setup(), commit, OnEndOfInput::LeaveOpen);
    let options = DriverOptions { reject_limit, ..options };
    let result = drive(&mut source, sink.clone(), options, &CancellationToken::new(), |_| ()).await;
    (result.map(|(progress, _)| progress), sink.contents())
}

#[tokio::test]
async fn the_candidate_of_an_evicted_series_is_rejected_with_its_message() {
    let rows = ["a", "b"].map(|id| row(id, 0, 1.0));
    let (progress, contents) = run(&evicting(1), &rows, None).await;
    assert_eq!(progress.unwrap().counters.evictions, 1);
    let output = contents.outputs.iter().find(|output| !output.rejects.is_empty()).expect("a reject");
    assert_eq!((output.rejects[0].offset, output.rejects[0].reason), (0, Refusal::TooManySeries));
    assert_eq!(output.source.get(0).expect("its message").payload.as_deref(), Some(&[0][..]));
}

#[tokio::test]
async fn an_exceeded_reject_limit_stops_the_driver_after_a_commit() {
    let mut rows = steps(&["a"], 0, 50);
    [10, 20, 30, 40].into_iter().for_each(|i| rows[i].targets[0] = f64::NAN);
    let limit =
        |reasons: &[Refusal]| RejectLimit { rate: Ratio(20_000), window: 100, reasons: reasons.to_vec() };
    let case = Case::default();
    let (progress, contents) = run(&case, &rows, Some(limit(&[Refusal::Malformed]))).await;
    let error = progress.unwrap_err().to_string();
    let expected = "memory/0: 3 of the last 31 rows were rejected, more than limits.reject_rate = \"2%\" of 100 rows \
                    allows; the latest: offset 10 malformed (no value), offset 20 malformed (no value), \
                    offset 30 malformed (no value); ";
    assert!(error.starts_with(expected), "{error}");
    assert_eq!((contents.committed[&partition()], contents.durable), (Position(31), contents.outputs.len()));
    // Other reasons do not count.
    let (progress, _) = run(&case, &rows, Some(limit(&[Refusal::Late]))).await;
    assert_eq!(progress.unwrap().counters.refused(Refusal::Malformed), 4);
}

proptest! {
    #[test]
    fn the_reject_limit_does_not_depend_on_batches(
        rejected in vec(prop::bool::weighted(0.012), 1..2000),
        sizes in vec(1usize..90, 1..40),
    ) {
        let exceeded_at = |sizes: &[usize]| {
            let (mut budget, mut first) = (budget(300), 0);
            for size in sizes.iter().cycle() {
                let end = rejected.len().min(first + size);
                let rejects = (first..end).filter(|i| rejected[*i]).map(|i| malformed(i as i64));
                if let Err(exceeded) = budget.add(first as i64..end as i64, rejects) {
                    return exceeded.examples.last().map(|last| last.offset);
                }
                if end == rejected.len() {
                    return None;
                }
                first = end;
            }
            None
        };
        let expected = (0..rejected.len()).find(|i| {
            rejected[*i] && rejected[i.saturating_sub(299)..=*i].iter().filter(|reject| **reject).count() > 3
        });
        prop_assert_eq!(exceeded_at(&sizes), expected.map(|i| i as i64));
        prop_assert_eq!(exceeded_at(&[1]), expected.map(|i| i as i64));
    }
}
