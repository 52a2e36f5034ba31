//! Scores of a stream's own forecasts, and the online calibration of its intervals, through the forecaster.

use std::collections::HashMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float32Type, Int32Type, Int64Type, TimestampMicrosecondType};
use tidecast_core::forecaster::{RestoreError, Scoring};

use crate::harness::{Case, Collected, Row, SECOND, row};

/// Seconds of a step.
const STEP: i64 = 10;
/// Steps of a scoring period.
const PERIOD: i64 = 50;

fn case() -> Case {
    Case {
        levels: vec![0.8, 0.95],
        scoring: Some(Scoring { horizons: vec![1, 2], every: PERIOD as u32 }),
        ..Case::default()
    }
}

/// A mean-reverting random walk whose volatility rises fivefold at half of its steps.
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
        rows.push(row("s", STEP * step, value));
    }
    rows
}

/// Value of each second.
fn actuals(rows: &[Row]) -> HashMap<i64, f64> {
    rows.iter().map(|row| (row.time / SECOND, row.targets[0])).collect()
}

/// Sums that a row of scores is derived from.
#[derive(Default)]
struct ExpectedSums {
    count: f64,
    signed: f64,
    absolute: f64,
    inside_80: f64,
    naive_absolute: f64,
}

/// Sums by horizon and period.
fn expected_sums(output: &Collected, actuals: &HashMap<i64, f64>) -> HashMap<(i64, i64), ExpectedSums> {
    let mut expected: HashMap<(i64, i64), ExpectedSums> = HashMap::new();
    for forecast in &output.forecasts {
        let at = |list: usize, step: usize| f64::from(f32::from_bits(forecast.bits[list][step]));
        for step in 0..2 {
            let horizon = step as i64 + 1;
            let time = forecast.origin + STEP * horizon;
            let Some(actual) = actuals.get(&time) else { continue };
            let sums = expected.entry((horizon, time / (STEP * PERIOD))).or_default();
            let error = actual - at(0, step);
            sums.count += 1.0;
            sums.signed += error;
            sums.absolute += error.abs();
            sums.inside_80 += f64::from(u8::from(at(1, step) <= *actual && *actual <= at(2, step)));
            // Without a season, the naive forecast is the value at the origin.
            sums.naive_absolute += (actual - actuals[&forecast.origin]).abs();
        }
    }
    expected
}

fn assert_scores(scores: &RecordBatch, i: usize, expected: &ExpectedSums) {
    let number = |name: &str| -> f64 {
        let column = scores.column_by_name(name).expect("the column exists");
        column.as_primitive::<Float32Type>().value(i).into()
    };
    let ExpectedSums { count, signed, absolute, inside_80, naive_absolute } = *expected;
    for (name, value) in [
        ("mae", absolute / count),
        ("bias", signed / count),
        ("naive_mae", naive_absolute / count),
        ("mase", absolute / naive_absolute),
        ("coverage_80", inside_80 / count),
        ("ties", 0.0),
    ] {
        assert!((number(name) - value).abs() < 1e-4, "{name}: {}, expected {value}", number(name));
    }
    let forecasts = scores.column_by_name("forecasts").expect("the column exists");
    assert_eq!(f64::from(forecasts.as_primitive::<Int32Type>().value(i)), count);
}

#[test]
fn scores_match_the_issued_forecasts() {
    let (case, rows) = (case(), walk(330));
    let mut forecaster = case.forecaster();
    let (mut output, mut scores) = (Collected::default(), Vec::new());
    for (i, row) in rows.iter().enumerate() {
        let pushed = forecaster.push(&case.batch(i as i64, std::slice::from_ref(row)));
        scores.push(pushed.scores.clone());
        output.add(pushed);
    }
    forecaster.finish(1).for_each(|pushed| scores.push(pushed.scores));
    let expected = expected_sums(&output, &actuals(&rows));
    let mut count = 0;
    for scores in &scores {
        let horizons =
            scores.column_by_name("horizon").expect("the column exists").as_primitive::<Int32Type>();
        let starts = scores.column(3).as_primitive::<TimestampMicrosecondType>();
        for i in 0..scores.num_rows() {
            let period = starts.value(i) / (STEP * PERIOD * SECOND);
            assert_scores(scores, i, &expected[&(horizons.value(i).into(), period)]);
            count += 1;
        }
    }
    assert_eq!(count, expected.len(), "every period is scored, the last one at the end of input");
    let running = &forecaster.scores(0)[0].horizons;
    assert_eq!(running.iter().map(|scores| scores.horizon).collect::<Vec<_>>(), [1, 2]);
    assert!(running.iter().all(|scores| scores.forecasts > 300.0 && scores.coverage[0] < scores.coverage[1]));
}

#[test]
fn drift_is_reported_once_errors_leave_their_history() {
    let case = case();
    let alternating = |step: i64| row("s", STEP * step, if step % 2 == 0 { 60.0 } else { -20.0 });
    // The first half of a walk is calm.
    let rows: Vec<Row> = walk(1200).into_iter().take(600).chain((600..900).map(alternating)).collect();
    let scores = case.forecaster().push(&case.batch(0, &rows)).scores;
    let drift = scores.column_by_name("drift").expect("the column exists").as_boolean();
    let starts = scores.column(3).as_primitive::<TimestampMicrosecondType>();
    let (mut calm, mut drifting) = (0, 0);
    for (i, start) in starts.values().iter().enumerate() {
        let step = start / (STEP * SECOND);
        match step {
            ..600 => {
                assert!(!drift.value(i), "step {step}");
                calm += 1;
            }
            650.. => {
                assert!(drift.value(i), "step {step}");
                drifting += 1;
            }
            _ => {}
        }
    }
    assert!(calm > 20 && drifting > 5, "{calm} {drifting}");
}

#[test]
fn scores_have_the_position_of_the_row_that_ends_their_period() {
    let (case, rows) = (case(), walk(120));
    let pushed = case.forecaster().push(&case.batch(0, &rows));
    let positions = pushed.scores.column(0).as_primitive::<Int64Type>();
    // Step 50 closes with the row of step 51.
    assert_eq!(positions.values(), &[51, 51, 101, 101]);
}

#[test]
fn intervals_reach_their_level_for_an_untrained_network() {
    let rows = walk(6000);
    let output = case().run(&rows, &[]);
    let actuals = actuals(&rows);
    for (level, [lower, upper]) in [(0.8, [1, 2]), (0.95, [3, 4])] {
        for step in 0..2 {
            let mut inside = Vec::new();
            for forecast in &output.forecasts {
                let bound = |list: usize| f64::from(f32::from_bits(forecast.bits[list][step]));
                let time = forecast.origin + STEP * (step as i64 + 1);
                let Some(actual) = actuals.get(&time) else { continue };
                inside.push(bound(lower) <= *actual && *actual <= bound(upper));
            }
            let coverage = |inside: &[bool]| {
                inside.iter().filter(|inside| **inside).count() as f64 / inside.len() as f64
            };
            let overall = coverage(&inside[1000..]);
            assert!((overall - level).abs() < 0.015, "{level}, {step}: {overall}");
            let worst = inside[1000..].windows(500).map(coverage).fold(1.0, f64::min);
            assert!(worst > level - 0.1, "{level}, {step}: {worst}");
        }
    }
}

#[test]
fn calibration_of_another_layout_is_not_restored() {
    let (case, rows) = (case(), walk(100));
    let mut forecaster = case.forecaster();
    forecaster.push(&case.batch(0, &rows));
    let snapshot = forecaster.snapshot();
    let unscored = Case { scoring: None, ..case };
    let error = unscored.forecaster().restore(&snapshot).unwrap_err();
    assert!(matches!(error, RestoreError::Inconsistent { section: "calibration", .. }), "{error}");
}

#[test]
fn without_levels_and_scoring_there_is_no_calibration_state() {
    let plain = Case { levels: vec![], scoring: None, ..case() };
    let mut forecaster = plain.forecaster();
    let pushed = forecaster.push(&plain.batch(0, &walk(100)));
    assert_eq!((pushed.scores.num_rows(), pushed.counters.forecasts > 0), (0, true));
    let snapshot = forecaster.snapshot();
    let values = snapshot.column_by_name("calibration_values").expect("the column exists");
    assert_eq!(values.as_list::<i64>().values().len(), 0);
    assert!(forecaster.scores(0).is_empty());
}
