//! Incremental snapshots have the state at their begin, whatever is pushed in between.

use arrow::compute::concat_batches;
use proptest::collection::vec;
use proptest::prelude::*;
use tidecast_core::forecaster::{COPIED_BYTES_MAX, SNAPSHOT_BATCH_SERIES};

use super::*;
use crate::properties::{cases, rows};

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_incremental_snapshot_has_the_state_at_its_begin(
        case in cases(), rows in rows(), begin in 0usize..120, cuts in vec((0usize..3, 0usize..9), 1..40),
    ) {
        let begin = begin.min(rows.len());
        let mut forecaster = case.forecaster();
        forecaster.push(&case.batch(0, &rows[..begin]));
        let expected = forecaster.snapshot();
        forecaster.begin_snapshot(COPIED_BYTES_MAX);
        let (mut at, mut batches) = (begin, Vec::new());
        for (series, more_rows) in cuts {
            if let SnapshotProgress::Batch(batch) = forecaster.advance_snapshot(series) {
                batches.push(batch);
            }
            let end = rows.len().min(at + more_rows);
            forecaster.push(&case.batch(at as i64, &rows[at..end]));
            at = end;
        }
        forecaster.replay(&case.batch(at as i64, &rows[at..]));
        forecaster.finish(2).for_each(drop);
        batches.extend(std::iter::from_fn(|| next_batch(&mut forecaster, 1)));
        prop_assert_eq!(concat_batches(&expected.schema(), &batches).unwrap(), expected);
        prop_assert!(!forecaster.snapshot_in_progress());
    }
}

#[test]
fn batches_have_a_fixed_number_of_series() {
    let case = Case { series_max: 10_000, ..Case::default() };
    let mut forecaster = filled(&case, 5000, 3);
    let expected = forecaster.snapshot();
    let batches: Vec<_> = forecaster.snapshot_batches().collect();
    let sizes: Vec<_> = batches.iter().map(RecordBatch::num_rows).collect();
    assert_eq!(sizes, [SNAPSHOT_BATCH_SERIES, SNAPSHOT_BATCH_SERIES, 904]);
    assert_eq!(concat_batches(&expected.schema(), &batches).unwrap(), expected);
    forecaster.begin_snapshot(COPIED_BYTES_MAX);
    let mut incremental = vec![next_batch(&mut forecaster, 700).unwrap()];
    let rows: Vec<_> = (0..7000).map(|id| row(&format!("s{id}"), 30, 1.0)).collect();
    forecaster.push(&case.batch(15_000, &rows));
    incremental.extend(std::iter::from_fn(|| next_batch(&mut forecaster, 333)));
    assert_eq!(incremental, batches);
}

#[test]
fn copies_of_changed_series_are_bounded() {
    let case = Case { series_max: 10_000, ..Case::default() };
    let mut forecaster = filled(&case, 3000, 3);
    let rows: Vec<_> = (0..3000).rev().map(|id| row(&format!("s{id}"), 30, 1.0)).collect();
    forecaster.begin_snapshot(100_000);
    forecaster.push(&case.batch(9000, &rows[..10]));
    assert!(!forecaster.snapshot_over_budget());
    forecaster.push(&case.batch(9010, &rows[10..]));
    assert!(forecaster.snapshot_over_budget());
    // Two batches free enough copies; the push need not wait for the whole snapshot.
    next_batch(&mut forecaster, SNAPSHOT_BATCH_SERIES).unwrap();
    next_batch(&mut forecaster, SNAPSHOT_BATCH_SERIES).unwrap();
    assert!(!forecaster.snapshot_over_budget());
    forecaster.abort_snapshot();
    assert!(!forecaster.snapshot_in_progress());
}
