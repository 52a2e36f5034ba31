//! Forecasts that are scored as their actuals arrive, and intervals that learn from them, as they come out of the line.

use std::collections::HashMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float32Type, Int32Type, Int64Type, TimestampMicrosecondType};
use tidecast_core::forecaster::{RestoreError, Scoring};

use crate::harness::{Collected, Case, Row, row};

fn case() -> Case {
    Case {
        levels: vec![0.8, 0.95],
        scoring: Some(Scoring { horizons: vec![1, 2], every: 50 }),
        ..Case::default()
    }
}

/// A walk that grows restless half way.
fn walk(steps: i64) -> Vec<Row> {
    let mut state = 9u64;
    let mut uniform = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f64 / (1u64 << 24) as f64 - 0.5
    };
    let mut value = 20.0;
    let mut rows = Vec::new();
    for step in 0..steps {
        let size = if step < steps / 2 { 1.0 } else { 5.0 };
        value = 20.0 + 0.9 * (value - 20.0) + size * uniform();
        rows.push(row("s", 10 * step, value));
    }
    rows
}

fn numbers<'a>(rows: &'a RecordBatch, name: &str) -> &'a [f32] {
    rows.column_by_name(name).expect("a column of scores").as_primitive::<Float32Type>().values()
}

#[test]
fn scores_are_those_of_the_forecasts_that_came() {
    let (case, rows) = (case(), walk(330));
    let mut forecaster = case.forecaster();
    let (mut output, mut scores) = (Collected::default(), Vec::new());
    for (i, row) in rows.iter().enumerate() {
        let pushed = forecaster.push(&case.batch(i as i64, std::slice::from_ref(row)));
        scores.push(pushed.scores.clone());
        output.add(pushed);
    }
    forecaster.finish(1).for_each(|pushed| scores.push(pushed.scores));
    let actual_at: HashMap<i64, f64> =
        rows.iter().map(|row| (row.time / 1_000_000, row.targets[0])).collect();
    // By horizon and period: count, errors, sizes, within 80 %, what the value at the origin misses by.
    let mut expected: HashMap<(i64, i64), [f64; 5]> = HashMap::new();
    for forecast in &output.forecasts {
        let at = |list: usize, step: usize| f64::from(f32::from_bits(forecast.bits[list][step]));
        for step in 0..2 {
            let time = forecast.origin + 10 * (step as i64 + 1);
            let Some(actual) = actual_at.get(&time) else { continue };
            let sums = expected.entry((step as i64 + 1, time / 500)).or_default();
            let error = actual - at(0, step);
            let within = at(1, step) <= *actual && *actual <= at(2, step);
            let before = actual_at[&forecast.origin];
            let add = [1.0, error, error.abs(), f64::from(u8::from(within)), (actual - before).abs()];
            sums.iter_mut().zip(add).for_each(|(sum, add)| *sum += add);
        }
    }
    let mut seen = 0;
    for rows in &scores {
        for i in 0..rows.num_rows() {
            let whole = |name: &str| {
                rows.column_by_name(name).expect("a column").as_primitive::<Int32Type>().value(i)
            };
            let from = rows.column(3).as_primitive::<TimestampMicrosecondType>().value(i);
            let [count, errors, sizes, within, naive] =
                expected[&(i64::from(whole("horizon")), from / 500_000_000)];
            assert_eq!(f64::from(whole("forecasts")), count);
            let near = |name: &str, value: f64| (f64::from(numbers(rows, name)[i]) - value).abs() < 1e-4;
            assert!(near("mae", sizes / count) && near("bias", errors / count));
            assert!(near("coverage_80", within / count) && near("naive_mae", naive / count));
            assert!(near("mase", sizes / naive) && numbers(rows, "ties")[i] == 0.0);
            seen += 1;
        }
    }
    assert_eq!(seen, expected.len(), "every period is told, the last one at the end");
    let view = &forecaster.scores(0)[0];
    assert_eq!(view.horizons.iter().map(|scores| scores.horizon).collect::<Vec<_>>(), [1, 2]);
    assert!(
        view.horizons
            .iter()
            .all(|scores| scores.forecasts > 300.0 && scores.coverage[0] < scores.coverage[1])
    );
}

#[test]
fn a_series_drifts_once_its_errors_have_left_their_history() {
    let case = case();
    let leap = |step: i64| row("s", 10 * step, if step % 2 == 0 { 60.0 } else { -20.0 });
    // The first half of a walk is calm.
    let rows: Vec<Row> = walk(1200).into_iter().take(600).chain((600..900).map(leap)).collect();
    let scores = case.forecaster().push(&case.batch(0, &rows)).scores;
    let drifts = scores.column_by_name("drift").expect("a column of scores").as_boolean();
    let from = scores.column(3).as_primitive::<TimestampMicrosecondType>();
    let (mut calm, mut after) = (0, 0);
    for (i, from) in from.values().iter().enumerate() {
        match from / 10_000_000 {
            ..600 => {
                assert!(!drifts.value(i), "step {}", from / 10_000_000);
                calm += 1;
            }
            650.. => {
                assert!(drifts.value(i), "step {}", from / 10_000_000);
                after += 1;
            }
            _ => {}
        }
    }
    assert!(calm > 20 && after > 5, "{calm} {after}");
}

#[test]
fn a_row_of_scores_stands_at_the_row_that_ended_its_period() {
    let (case, rows) = (case(), walk(120));
    let pushed = case.forecaster().push(&case.batch(0, &rows));
    let positions = pushed.scores.column(0).as_primitive::<Int64Type>();
    // Step 50 closes with the row of step 51.
    assert_eq!(positions.values(), &[51, 51, 101, 101]);
}

#[test]
fn intervals_hold_what_they_say_whatever_the_network_says() {
    let rows = walk(6000);
    let output = case().run(&rows, &[]);
    let actual: HashMap<i64, f64> = rows.iter().map(|row| (row.time / 1_000_000, row.targets[0])).collect();
    for (level, lists) in [(0.8, [1, 2]), (0.95, [3, 4])] {
        for step in 0..2 {
            let mut inside = Vec::new();
            for forecast in &output.forecasts {
                let bound = |list: usize| f64::from(f32::from_bits(forecast.bits[list][step]));
                let time = forecast.origin + 10 * (step as i64 + 1);
                let Some(actual) = actual.get(&time) else { continue };
                inside.push(bound(lists[0]) <= *actual && *actual <= bound(lists[1]));
            }
            let share =
                |part: &[bool]| part.iter().filter(|inside| **inside).count() as f64 / part.len() as f64;
            let all = share(&inside[1000..]);
            assert!((all - level).abs() < 0.015, "{level}, {step}: {all}");
            let worst = inside[1000..].windows(500).map(share).fold(1.0, f64::min);
            assert!(worst > level - 0.1, "{level}, {step}: {worst}");
        }
    }
}

#[test]
fn a_state_of_a_format_before_begins_with_the_model() {
    let (case, rows) = (case(), walk(100));
    let mut before = case.forecaster();
    before.push(&case.batch(0, &rows));
    let snapshot = before.snapshot();
    // There were other numbers, under another name.
    for name in ["online", "followed"] {
        let schema = snapshot.schema();
        let columns = schema.fields().iter().zip(snapshot.columns());
        let former = columns.map(|(field, column)| (field.name().replace("live", name), column.clone()));
        let former = RecordBatch::try_from_iter(former).unwrap();
        assert!(former.column_by_name(&format!("{name}_values")).is_some());
        let mut after = case.forecaster();
        after.restore(&former).unwrap();
        let pushed = after.push(&case.batch(100, &[row("s", 1000, 20.0), row("s", 1010, 21.0)]));
        assert_eq!(pushed.counters.forecasts, 2);
        let known: f32 = after.scores(0)[0].horizons.iter().map(|scores| scores.forecasts).sum();
        assert_eq!(known, 1.0, "of what was forecast before, nothing is known any more");
    }
}

#[test]
fn numbers_that_could_never_be_are_no_state() {
    let (case, rows) = (case(), walk(100));
    let mut forecaster = case.forecaster();
    forecaster.push(&case.batch(0, &rows));
    let snapshot = forecaster.snapshot();
    let plain = Case { scoring: None, ..case };
    let error = plain.forecaster().restore(&snapshot).unwrap_err();
    assert!(matches!(error, RestoreError::Row { part: "live", .. }), "{error}");
}

#[test]
fn nothing_is_kept_where_nothing_is_asked_for() {
    let plain = Case { levels: vec![], scoring: None, ..case() };
    let mut forecaster = plain.forecaster();
    let pushed = forecaster.push(&plain.batch(0, &walk(100)));
    assert_eq!((pushed.scores.num_rows(), pushed.counters.forecasts > 0), (0, true));
    let snapshot = forecaster.snapshot();
    let live = snapshot.column_by_name("live_values").unwrap().as_list::<i64>();
    assert_eq!(live.values().len(), 0);
    assert!(forecaster.scores(0).is_empty());
}
