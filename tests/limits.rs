//! What happens where a limit strikes: which series gives way, which step closes early, how many rejects stop a pipeline.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tidecast::config::{Commit, Limits, Order, Share, TimeUnit};
use tidecast_stream::driver::{Allowance, Budget, Counted, History, Options, Progress, drive};
use tidecast_stream::memory::{Kept, MemorySink, MemorySource, Step};
use tidecast_stream::{Batch, Malformed, Origins, Partition, Position, Record};
use tidecast_core::series::{Full, Refusal};

use crate::harness::{self, Came, Case, Row, SECOND, row};

fn evicting(limit: usize) -> Case {
    Case { limit, full: Full::Evict, ..Case::default() }
}

/// A row of each of these series every ten seconds, from step `first` on.
fn steps(ids: &[&str], first: i64, count: i64) -> Vec<Row> {
    (first..first + count).flat_map(|i| ids.iter().map(move |id| row(id, 10 * i, i as f64))).collect()
}

#[test]
fn the_series_that_was_silent_longest_gives_way() {
    let rows = [steps(&["a", "b"], 0, 4), steps(&["a"], 4, 2), steps(&["c", "a"], 6, 4)].concat();
    let came = evicting(2).run(&rows, &[]);
    assert_eq!((came.tally.evictions, came.tally.refused_total()), (1, 0), "{}", came.tally);
    assert_eq!(came.origins("a"), [20, 30, 40, 50, 60, 70, 80, 90]);
    assert_eq!(came.origins("c"), [80, 90]);
    // The last step of the one that goes closes, at the row that took its place.
    let last = came.forecasts.iter().rfind(|forecast| forecast.series == "b").expect("it was warm");
    assert_eq!((last.origin, last.position), (30, 10));
    assert!(came.tally.to_string().contains("1 evictions"));
}

#[test]
fn whoever_comes_back_starts_anew_in_a_clean_place() {
    let rows = [steps(&["a"], 0, 5), steps(&["b"], 5, 5), steps(&["a"], 10, 5)].concat();
    for case in [evicting(1), Case { memory: true, embedding: 2, ..evicting(1) }] {
        let came = case.run(&rows, &[]);
        let alone = case.run(&steps(&["a"], 10, 5), &[]);
        assert_eq!(came.tally.evictions, 2);
        assert_eq!(came.of("a")[3..], alone.of("a"));
        assert_eq!(came.of("b"), case.run(&steps(&["b"], 5, 5), &[]).of("b"));
    }
}

#[test]
fn a_candidate_goes_with_its_series_and_is_counted() {
    let rows = ["a", "b", "c"].map(|id| row(id, 0, 1.0));
    let came = evicting(2).run(&rows, &[]);
    assert_eq!(came.refused, [(0, Refusal::TooManySeries), (1, Refusal::TooFar), (2, Refusal::TooFar)]);
}

#[test]
fn a_step_too_many_closes_the_oldest() {
    let mut case = Case { open_steps: 2, ..Case::default() };
    case.rules.lateness = 50 * SECOND;
    let came = case.run(&[0, 10, 20, 30, 5, 15].map(|t| row("a", t, t as f64)), &[]);
    // Steps 0 and 1 close for want of room, so that their second rows are late; nothing else is lost.
    assert_eq!(came.refused, [(4, Refusal::Late), (5, Refusal::Late)]);
    assert_eq!((came.tally.early, came.origins("a")), (2, vec![20, 30]));
    let roomy = Case { open_steps: 6, ..case };
    assert_eq!(roomy.run(&[0, 10, 20, 30, 5, 15].map(|t| row("a", t, t as f64)), &[]).tally.early, 0);
}

#[test]
fn after_a_history_by_time_a_restart_changes_nobodys_turn() {
    let (case, folder) = (evicting(3), tempfile::tempdir().unwrap());
    // In the file the latest rows stand first; the limit strikes before they are through.
    let mut past: Vec<Row> =
        (0..).zip(["a", "b", "c", "d"]).flat_map(|(i, id)| steps(&[id], 2 * i, 2)).collect();
    past.reverse();
    let path = folder.path().join("past.parquet");
    harness::write_parquet(&path, &case.batch(0, &past));
    let history = History {
        path,
        unit: TimeUnit::default(),
        order: Order::Time,
        limits: Limits::default(),
        until: Some(75 * SECOND),
    };
    let next = Position(1000);
    let mut states = history.push(&case.setup(), 1, &[(0, next)].into(), |_, _| ()).unwrap();
    let mut live = states.remove(&0).unwrap();
    let mut restored = case.forecaster();
    restored.restore(&live.snapshot()).unwrap();
    // Each sends somebody away.
    let rows = ["e", "f", "g"].map(|id| row(id, 80, 4.0));
    for (i, row) in (next.0..).zip(&rows) {
        let batch = case.batch(i, std::slice::from_ref(row));
        let pushed = [&mut live, &mut restored].map(|forecaster| {
            let mut came = Came::default();
            came.add(forecaster.push(&batch));
            (came.forecasts, came.refused, came.tally, forecaster.snapshot())
        });
        assert!(pushed[0] == pushed[1], "another gave way for {}", row.series);
    }
}

/// One in a hundred of the last `over` rows.
fn budget(over: usize) -> Budget {
    Budget::new(&Allowance { share: Share(10_000), over, reasons: vec![Refusal::Malformed] })
}

fn bad(offset: i64) -> Counted {
    Counted { decided: offset, offset, reason: Refusal::Malformed, detail: format!("no {offset}") }
}

#[test]
fn the_offender_is_the_first_beyond_what_is_allowed() {
    let mut budget = budget(200);
    assert_eq!(budget.add(0..5, [bad(1), bad(3)]), Ok(()));
    // Row 1 is the second of all and no longer counts at the 202nd.
    assert_eq!(budget.add(5..201, []), Ok(()));
    assert_eq!(budget.add(201..202, [bad(201)]), Ok(()));
    let overrun = budget.add(202..300, [bad(202), bad(203)]).unwrap_err();
    assert_eq!((overrun.rejected, overrun.rows), (3, 200));
    assert_eq!(overrun.last, [bad(3), bad(201), bad(202)]);
    assert_eq!(overrun.last[0].to_string(), "offset 3 malformed (no 3)");
}

fn partition() -> Partition {
    Partition { topic: "memory".into(), number: 0 }
}

/// Drives rows, each a batch of its own with its message, as `run --until-end` would; a row without a value is malformed.
async fn driven(case: &Case, rows: &[Row], rejects: Option<Allowance>) -> (anyhow::Result<Progress>, Kept) {
    let batch = |(i, row): (i64, &Row)| {
        let is_good = !row.targets[0].is_nan();
        let good = if is_good { std::slice::from_ref(row) } else { &[] };
        let malformed = Malformed { offset: i, detail: "no value".into() };
        Step::Rows(Batch {
            partition: partition(),
            rows: case.batch(i, good),
            malformed: if is_good { vec![] } else { vec![malformed] },
            origins: Origins {
                records: vec![Record { offset: i, payload: Some(vec![i as u8].into()), ..Record::default() }],
            },
            next: Position(i + 1),
        })
    };
    let mut source = MemorySource::new((0..).zip(rows).map(batch));
    let sink = MemorySink::default();
    let commit = Commit { every: Duration::from_secs(3600), rows: 10_000 };
    let options = Options { rejects, ..harness::options(case.setup(), commit, false) };
    let driven = drive(&mut source, sink.clone(), options, std::future::pending(), |_| ()).await;
    (driven.map(|(progress, _)| progress), sink.kept())
}

#[tokio::test]
async fn the_candidate_of_a_series_that_gave_way_is_rejected_with_its_message() {
    let rows = ["a", "b"].map(|id| row(id, 0, 1.0));
    let (progress, kept) = driven(&evicting(1), &rows, None).await;
    assert_eq!(progress.unwrap().tally.evictions, 1);
    let output = kept.outputs.iter().find(|output| !output.rejects.is_empty()).expect("a reject");
    assert_eq!((output.rejects[0].offset, output.rejects[0].reason), (0, Refusal::TooManySeries));
    assert_eq!(output.origins.at(0).expect("its message").payload.as_deref(), Some(&[0][..]));
}

#[tokio::test]
async fn a_budget_that_is_overrun_stops_the_loop_when_all_is_committed() {
    let mut rows = steps(&["a"], 0, 50);
    [10, 20, 30, 40].into_iter().for_each(|i| rows[i].targets[0] = f64::NAN);
    let allowance =
        |reasons: &[Refusal]| Allowance { share: Share(20_000), over: 100, reasons: reasons.to_vec() };
    let case = Case::default();
    let (progress, kept) = driven(&case, &rows, Some(allowance(&[Refusal::Malformed]))).await;
    let error = progress.unwrap_err().to_string();
    let said = "memory/0: 3 of the last 31 rows were rejected, more than limits.rejects = \"2%\" of 100 allows; the latest: \
                offset 10 malformed (no value), offset 20 malformed (no value), offset 30 malformed (no value); ";
    assert!(error.starts_with(said), "{error}");
    assert_eq!((kept.committed[&partition()], kept.durable), (Position(31), kept.outputs.len()));
    // Reasons that are only counted do not count here.
    let (progress, _) = driven(&case, &rows, Some(allowance(&[Refusal::Late]))).await;
    assert_eq!(progress.unwrap().tally.refused(Refusal::Malformed), 4);
}

proptest! {
    #[test]
    fn a_budget_counts_rows_however_they_are_cut(
        rejected in vec(prop::bool::weighted(0.012), 1..2000),
        sizes in vec(1usize..90, 1..40),
    ) {
        let offender = |sizes: &[usize]| {
            let (mut budget, mut first) = (budget(300), 0);
            for size in sizes.iter().cycle() {
                let end = rejected.len().min(first + size);
                let rejects = (first..end).filter(|i| rejected[*i]).map(|i| bad(i as i64));
                if let Err(overrun) = budget.add(first as i64..end as i64, rejects) {
                    return overrun.last.last().map(|last| last.offset);
                }
                if end == rejected.len() {
                    return None;
                }
                first = end;
            }
            None
        };
        let naive = (0..rejected.len()).find(|i| {
            rejected[*i] && rejected[i.saturating_sub(299)..=*i].iter().filter(|reject| **reject).count() > 3
        });
        prop_assert_eq!(offender(&sizes), naive.map(|i| i as i64));
        prop_assert_eq!(offender(&[1]), naive.map(|i| i as i64));
    }
}
