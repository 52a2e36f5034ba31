//! A capture takes the state of its beginning, however it is cut and whatever is pushed in between.

use arrow::compute::concat_batches;
use proptest::collection::vec;
use proptest::prelude::*;
use tidecast_core::forecaster::{ASIDE_BYTES, BATCH_IDS, Captured};

use super::*;
use crate::properties::{cases, rows};

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_capture_is_the_state_at_its_beginning(
        case in cases(), rows in rows(), begin in 0usize..120, cuts in vec((0usize..3, 0usize..9), 1..40),
    ) {
        let begin = begin.min(rows.len());
        let mut forecaster = case.forecaster();
        forecaster.push(&case.batch(0, &rows[..begin]));
        let expected = forecaster.snapshot();
        forecaster.begin_capture(ASIDE_BYTES);
        let (mut at, mut batches) = (begin, Vec::new());
        for (ids, more) in cuts {
            if let Captured::Batch(batch) = forecaster.capture(ids) {
                batches.push(batch);
            }
            let end = rows.len().min(at + more);
            forecaster.push(&case.batch(at as i64, &rows[at..end]));
            at = end;
        }
        forecaster.absorb(&case.batch(at as i64, &rows[at..]));
        forecaster.finish(2).for_each(drop);
        batches.extend(std::iter::from_fn(|| next(&mut forecaster, 1)));
        prop_assert_eq!(concat_batches(&expected.schema(), &batches).unwrap(), expected);
        prop_assert!(!forecaster.captures());
    }
}

#[test]
fn many_ids_come_in_batches_of_one_size() {
    let case = Case { limit: 10_000, ..Case::default() };
    let mut forecaster = filled(&case, 5000, 3);
    let expected = forecaster.snapshot();
    let whole: Vec<_> = forecaster.snapshot_batches().collect();
    assert_eq!(whole.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [BATCH_IDS, BATCH_IDS, 904]);
    assert_eq!(concat_batches(&expected.schema(), &whole).unwrap(), expected);
    forecaster.begin_capture(ASIDE_BYTES);
    let mut pieces = vec![next(&mut forecaster, 700).unwrap()];
    let rows: Vec<_> = (0..7000).map(|id| row(&format!("s{id}"), 30, 1.0)).collect();
    forecaster.push(&case.batch(15_000, &rows));
    pieces.extend(std::iter::from_fn(|| next(&mut forecaster, 333)));
    assert_eq!(pieces, whole);
}

#[test]
fn copies_aside_are_bounded() {
    let case = Case { limit: 10_000, ..Case::default() };
    let mut forecaster = filled(&case, 3000, 3);
    let rows: Vec<_> = (0..3000).rev().map(|id| row(&format!("s{id}"), 30, 1.0)).collect();
    forecaster.begin_capture(100_000);
    forecaster.push(&case.batch(9000, &rows[..10]));
    assert!(!forecaster.must_capture());
    forecaster.push(&case.batch(9010, &rows[10..]));
    assert!(forecaster.must_capture(), "{:?}", rows.len());
    // Going on makes room, before rows wait for all of it.
    next(&mut forecaster, BATCH_IDS).unwrap();
    next(&mut forecaster, BATCH_IDS).unwrap();
    assert!(!forecaster.must_capture());
    forecaster.end_capture();
    assert!(!forecaster.captures());
}
