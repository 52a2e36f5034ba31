//! Semantics of grid, steps, gaps and forecasts, one test per rule. Steps are ten seconds long.

use tidecast_core::series::{GapFill, Grid, Refusal, Scaling, StepConfig};
use tidecast_core::time::TimeUnit;
use tidecast_stream::Record;
use tidecast_stream::codec::Codec;
use tidecast_stream::settings::{Limits, MessageFormat};

use crate::harness::{Case, SECOND, forecasts, row, wide_row};

fn case_with(change: impl FnOnce(&mut StepConfig)) -> Case {
    let mut case = Case::default();
    change(&mut case.step_config);
    case
}

#[test]
fn every_step_issues_a_forecast_once_the_window_is_full() {
    let rows: Vec<_> = (0..6).map(|i| row("a", 10 * i, i as f64)).collect();
    let output = Case::default().run(&rows, &[]);
    assert_eq!(output.origins("a"), [20, 30, 40, 50]);
    // Each step closes with the first row of the next one; the last at the end of the input.
    assert_eq!(output.forecasts.iter().map(|f| f.position).collect::<Vec<_>>(), [3, 4, 5, 5]);
}

#[test]
fn forecast_every_counts_steps_from_the_epoch() {
    let case = Case { every: 4, ..Case::default() };
    let rows: Vec<_> = (3..20).map(|i| row("a", 10 * i, 1.0)).collect();
    assert_eq!(case.run(&rows, &[]).origins("a"), [80, 120, 160]);
}

#[test]
fn a_step_closes_when_its_rows_are_complete() {
    let case = case_with(|config| config.complete_after = Some(2));
    let rows = [0, 1, 10, 11, 20, 21].map(|t| row("a", t, t as f64));
    let output = case.run(&rows, &[]);
    assert_eq!(output.forecasts.iter().map(|f| (f.origin, f.position)).collect::<Vec<_>>(), [(20, 5)]);
}

#[test]
fn a_further_row_of_a_complete_step_is_late_even_if_it_is_the_latest() {
    let case = case_with(|config| config.complete_after = Some(2));
    let output = case.run(&[0, 1, 2, 10].map(|t| row("a", t, 1.0)), &[]);
    assert_eq!(output.refused, [(2, Refusal::Late)]);
}

#[test]
fn steps_close_strictly_in_order() {
    // Step 3 is complete first, but waits for the second row of step 2, due within 15 s.
    let case = case_with(|config| {
        config.complete_after = Some(2);
        config.lateness = 15 * SECOND;
    });
    let rows = [0, 1, 10, 11, 20, 30, 31, 21, 45].map(|t| row("a", t, t as f64));
    let output = case.run(&rows, &[]);
    let closed: Vec<_> = output.forecasts.iter().map(|f| (f.origin, f.position)).collect();
    assert_eq!(closed, [(20, 7), (30, 7), (40, 8)]);
    assert_eq!(output.refused, []);
}

#[test]
fn a_step_accepts_rows_until_its_end_plus_lateness() {
    let case = case_with(|config| config.lateness = 5 * SECOND);
    // The step [0, 10) accepts rows until 15.
    let output = case.run(&[2, 14, 3, 15, 4].map(|t| row("a", t, 1.0)), &[]);
    assert_eq!(output.refused, [(4, Refusal::Late)]);
}

#[test]
fn rows_reordered_within_lateness_give_the_same_bits() {
    let case = case_with(|config| config.lateness = 20 * SECOND);
    let ordered = [0, 5, 10, 15, 20, 25, 30, 50, 60].map(|t| row("a", t, (t * t) as f64));
    let mut shuffled = ordered.clone();
    shuffled.swap(4, 5);
    shuffled.swap(2, 4);
    assert_eq!(case.run(&ordered, &[]).forecasts_of("a"), case.run(&shuffled, &[]).forecasts_of("a"));
}

#[test]
fn a_repeated_time_is_a_duplicate_and_the_first_value_is_used() {
    let rows = |second: f64| {
        [row("a", 0, 1.0), row("a", 5, 2.0), row("a", 5, second), row("a", 10, 3.0), row("a", 20, 4.0)]
    };
    let case = Case::default();
    let (equal, different) = (case.run(&rows(2.0), &[]), case.run(&rows(1e9), &[]));
    assert_eq!(
        (equal.refused.clone(), equal.forecasts_of("a")),
        (different.refused.clone(), different.forecasts_of("a"))
    );
    assert_eq!(equal.refused, [(2, Refusal::Duplicate)]);
}

#[test]
fn a_repeated_time_of_a_closed_step_is_a_duplicate_any_other_row_is_late() {
    let output = Case::default().run(&[0, 10, 20, 10, 11].map(|t| row("a", t, 1.0)), &[]);
    assert_eq!(output.refused, [(3, Refusal::Duplicate), (4, Refusal::Late)]);
}

#[test]
fn a_duplicate_does_not_count_towards_a_complete_step() {
    let case = case_with(|config| config.complete_after = Some(2));
    let output = case.run(&[0, 0, 1, 10].map(|t| row("a", t, 1.0)), &[]);
    assert_eq!(output.refused, [(1, Refusal::Duplicate)]);
}

#[test]
fn duplicates_are_detected_among_the_last_sixty_four_times() {
    let rows: Vec<_> = (0..70).chain([6, 5]).map(|i| row("a", 10 * i, 1.0)).collect();
    let output = Case::default().run(&rows, &[]);
    assert_eq!(output.refused, [(70, Refusal::Duplicate), (71, Refusal::Late)]);
}

#[test]
fn a_row_far_ahead_changes_nothing_even_if_it_is_the_first() {
    let year_2099 = 4_070_908_800;
    let case = Case::default();
    let clean: Vec<_> = (0..6).map(|i| row("a", 10 * i, i as f64)).collect();
    for index in [0, 2, 3, 4, 5] {
        let mut rows = clean.clone();
        rows.insert(index, row("a", year_2099, 1.0));
        let output = case.run(&rows, &[]);
        assert_eq!(output.forecasts_of("a"), case.run(&clean, &[]).forecasts_of("a"), "index {index}");
        assert_eq!(output.refused, [(index as i64, Refusal::TooFar)], "index {index}");
    }
    // Right after the first row, which is a candidate itself, neither is confirmed.
    let output = case.run(&[0, year_2099, 10, 20, 30, 40].map(|t| row("a", t, 1.0)), &[]);
    assert_eq!(output.refused, [(0, Refusal::TooFar), (1, Refusal::TooFar)]);
    assert_eq!(output.origins("a"), [30, 40]);
}

#[test]
fn a_confirmed_candidate_restarts_the_series_cold() {
    let case = Case::default();
    let far = 10_000;
    let rows = [0, 10, 20, 30, far, far + 10, far + 20, far + 30].map(|t| row("a", t, t as f64));
    let output = case.run(&rows, &[]);
    assert_eq!(output.origins("a"), [20, 30, far + 20, far + 30]);
    assert_eq!((output.counters.restarts, output.counters.refused_total()), (1, 0));
}

#[test]
fn the_confirming_row_is_late_if_the_candidate_completed_their_step() {
    let case = case_with(|config| config.complete_after = Some(1));
    let output = case.run(&[0, 1, 10, 20].map(|t| row("a", t, t as f64)), &[]);
    assert_eq!(output.refused, [(1, Refusal::Late)]);
    assert_eq!(output.origins("a"), [20]);
}

#[test]
fn each_candidate_drops_the_previous_one() {
    let output = Case::default().run(&[0, 10, 5_000, 9_000, 20].map(|t| row("a", t, 1.0)), &[]);
    assert_eq!(output.refused, [(2, Refusal::TooFar), (3, Refusal::TooFar)]);
}

#[test]
fn a_candidate_closes_no_step() {
    let case = Case::default();
    let mut forecaster = case.forecaster();
    let rows = [0, 10, 20, 5_000].map(|t| row("a", t, t as f64));
    assert_eq!(forecaster.push(&case.batch(0, &rows)).counters.forecasts, 0);
}

#[test]
fn a_filled_step_issues_no_forecast() {
    for gap_fill in [GapFill::Hold, GapFill::Linear, GapFill::Missing] {
        let output = case_with(|config| config.gap_fill = gap_fill)
            .run(&[0, 10, 20, 50, 60].map(|t| row("a", t, t as f64)), &[]);
        assert_eq!(output.origins("a"), [20, 50, 60], "{gap_fill:?}");
    }
}

#[test]
fn filled_steps_are_read_like_observed_ones() {
    let gap = [(0, 1.0), (10, 2.0), (40, 8.0)];
    let cases = [(GapFill::Hold, [2.0, 2.0]), (GapFill::Linear, [4.0, 6.0])];
    for (gap_fill, [first, second]) in cases {
        // Without levels, because filled steps do not calibrate intervals.
        let case = Case { levels: vec![], ..case_with(|config| config.gap_fill = gap_fill) };
        let full = [(0, 1.0), (10, 2.0), (20, first), (30, second), (40, 8.0)];
        let last = |rows: &[(i64, f64)]| {
            let rows: Vec<_> = rows.iter().map(|(t, v)| row("a", *t, *v)).collect();
            case.run(&rows, &[]).forecasts_of("a").pop().expect("a forecast from the last step")
        };
        assert_eq!(last(&gap), last(&full), "{gap_fill:?}");
    }
}

#[test]
fn the_mask_distinguishes_filled_from_observed_steps() {
    let case = case_with(|config| config.gap_fill = GapFill::Missing);
    let last = |rows: &[(i64, f64)]| {
        let rows: Vec<_> = rows.iter().map(|(t, value)| row("a", *t, *value)).collect();
        case.run(&rows, &[]).forecasts_of("a").pop()
    };
    assert_ne!(last(&[(0, 1.0), (10, 2.0), (20, 2.0), (30, 5.0)]), last(&[(0, 1.0), (10, 2.0), (30, 5.0)]));
}

#[test]
fn a_null_in_a_wide_table_is_missing_in_its_target_only() {
    let mut case = Case::default();
    case.columns.targets = vec!["t".into(), "h".into()];
    let nan = f64::NAN;
    let rows = [
        wide_row("a", 0, &[1.0, 5.0]),
        wide_row("a", 10, &[2.0, 6.0]),
        wide_row("a", 20, &[3.0, 5.0]),
        wide_row("a", 30, &[4.0, nan]),
        wide_row("a", 40, &[nan, nan]),
        wide_row("a", 50, &[6.0, 7.0]),
    ];
    let output = case.run(&rows, &[]);
    let origins: Vec<_> = output.forecasts.iter().map(|f| (f.target.as_str(), f.origin)).collect();
    assert_eq!(origins, [("t", 20), ("h", 20), ("t", 30), ("t", 50), ("h", 50)]);
    assert_eq!(output.refused, [(4, Refusal::NotFinite)]);
}

#[test]
fn null_nan_and_infinity_are_missing() {
    let rows = [0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(|value| row("a", 0, value));
    let output = Case::default().run(&rows, &[]);
    assert_eq!(
        output.refused,
        [1, 2, 3]
            .map(|position| (position, Refusal::NotFinite))
            .to_vec()
            .into_iter()
            .chain([(0, Refusal::TooFar)])
            .collect::<Vec<_>>()
    );
}

#[test]
fn steps_start_at_the_grid_offset() {
    let case = case_with(|config| config.grid = Grid { every: 10 * SECOND, offset: 3 * SECOND });
    let output = case.run(&[3, 12, 13, 23, 33].map(|t| row("a", t, 1.0)), &[]);
    assert_eq!(output.origins("a"), [23, 33]);
}

#[test]
fn times_before_the_epoch_are_on_the_same_grid() {
    let output = Case::default().run(&[-31, -25, -15, -1, 5].map(|t| row("a", t, 1.0)), &[]);
    assert_eq!(output.origins("a"), [-20, -10, 0]);
}

#[test]
fn a_series_beyond_the_limit_is_refused_and_the_others_continue() {
    let case = Case { series_max: 2, ..Case::default() };
    let rows: Vec<_> = (0..5).flat_map(|i| ["a", "b", "c"].map(|id| row(id, 10 * i, i as f64))).collect();
    let output = case.run(&rows, &[]);
    assert_eq!((output.origins("a").len(), output.origins("b").len(), output.origins("c").len()), (3, 3, 0));
    assert_eq!(output.counters.refused(Refusal::TooManySeries), 5);
}

#[test]
fn a_refused_row_does_not_start_a_series() {
    let case = Case { series_max: 1, ..Case::default() };
    let mut forecaster = case.forecaster();
    forecaster.push(&case.batch(0, &[row("a", 0, f64::NAN), row("b", 0, 1.0)]));
    assert_eq!(forecaster.series_count(), 1);
}

#[test]
fn without_a_series_column_all_rows_belong_to_one_series() {
    let mut case = Case::default();
    case.columns.series = None;
    let rows: Vec<_> = (0..4).map(|i| row("ignored", 10 * i, i as f64)).collect();
    assert_eq!(case.run(&rows, &[]).origins("case"), [20, 30]);
}

#[test]
fn a_covariate_is_held_and_falls_back_to_its_mean() {
    let mut case = Case::default();
    case.columns.covariates = vec!["load".into()];
    let run = |covariates: [f64; 5]| {
        let rows = [0, 1, 2, 3, 4].map(|i| {
            let mut row = row("a", 10 * i, i as f64);
            row.covariates = vec![covariates[i as usize]];
            row
        });
        case.run(&rows, &[]).forecasts_of("a")
    };
    let nan = f64::NAN;
    assert_eq!(run([1.0, 1.0, 1.0, 1.0, 1.0]), run([1.0, nan, nan, nan, nan]));
    assert_ne!(run([1.0, 1.0, 1.0, 1.0, 1.0]), run([1.0, 1.0, 1.0, 1.0, 9.0]));
    // An unknown value is at the training mean, 20.
    assert_eq!(run([nan; 5]), run([20.0; 5]));
}

#[test]
fn future_covariates_are_read_from_the_row_of_the_origin() {
    let mut case = Case::default();
    case.columns.future_covariates = vec!["plan".into()];
    let run = |last: Vec<Vec<f64>>| {
        let rows = [0, 1, 2, 3].map(|i| {
            let mut row = row("a", 10 * i, i as f64);
            row.future = if i == 3 { last.clone() } else { vec![vec![1.0, 2.0]] };
            row
        });
        case.run(&rows, &[]).forecasts_of("a")
    };
    let (base, changed) = (run(vec![vec![1.0, 2.0]]), run(vec![vec![1.0, 50.0]]));
    assert_eq!(base[0], changed[0]);
    assert_ne!(base[1], changed[1]);
    // Values missing from a short list or a null are at their mean.
    assert_eq!(run(vec![vec![1.0]]), run(vec![vec![1.0, 20.0]]));
    assert_eq!(run(vec![]), run(vec![vec![20.0, 20.0]]));
}

#[test]
fn a_constant_series_is_forecast_at_its_value() {
    for scaling in [Scaling::WindowLast, Scaling::WindowStandard, Scaling::Running] {
        let rows: Vec<_> = (0..4).map(|i| row("a", 10 * i, 0.1)).collect();
        let output = Case { scaling, ..Case::default() }.run(&rows, &[]);
        let values: Vec<u32> = output.forecasts.iter().flat_map(|f| f.bits.concat()).collect();
        assert!(values.iter().all(|bits| *bits == 0.1f32.to_bits()), "{scaling:?}");
    }
}

#[test]
fn every_scaling_but_the_fixed_one_is_invariant_to_the_level() {
    for scaling in [Scaling::WindowLast, Scaling::WindowStandard, Scaling::Running, Scaling::Fixed] {
        let forecast = |level: f64| {
            let rows: Vec<_> = (0..3).map(|i| row("a", 10 * i, level + i as f64)).collect();
            let output = Case { scaling, ..Case::default() }.run(&rows, &[]);
            f32::from_bits(output.forecasts[0].bits[0][0])
        };
        let is_invariant = (forecast(1000.0) - forecast(0.0) - 1000.0).abs() < 1e-3;
        assert_eq!(is_invariant, scaling != Scaling::Fixed, "{scaling:?}");
    }
}

#[test]
fn extreme_values_give_finite_forecasts() {
    for volatility_gain in [0.0, 0.7, 100.0] {
        let case = Case { scaling: Scaling::Fixed, recurrence: true, volatility_gain, ..Case::default() };
        let values = [0.0, 3e38, -3e38, 1e300, 0.0, 1.0];
        let rows: Vec<_> = values.into_iter().enumerate().map(|(i, v)| row("a", 10 * i as i64, v)).collect();
        let output = case.run(&rows, &[]);
        let mut numbers = output.forecasts.iter().flat_map(|f| f.bits.concat());
        assert!(numbers.all(|bits| f32::from_bits(bits).is_finite()), "{volatility_gain}: {output:?}");
        assert_eq!(output.refused, [(3, Refusal::NotFinite)]);
        let mut forecaster = case.forecaster();
        forecaster.push(&case.batch(0, &rows));
        case.forecaster().restore(&forecaster.snapshot()).unwrap();
    }
}

#[test]
fn bounds_contain_the_forecast_and_widen_with_level_and_horizon() {
    let case = Case { levels: vec![0.5, 0.9], ..Case::default() };
    let rows: Vec<_> = (0..3).map(|i| row("a", 10 * i, (i * i) as f64)).collect();
    let output = case.run(&rows, &[]);
    let value = |list: usize, i: usize| f32::from_bits(output.forecasts[0].bits[list][i]);
    for i in 0..2 {
        let five = [value(3, i), value(1, i), value(0, i), value(2, i), value(4, i)];
        assert!(five.is_sorted(), "lower 90, lower 50, forecast, upper 50, upper 90: {five:?}");
    }
    assert!(value(4, 1) - value(3, 1) > value(4, 0) - value(3, 0));
}

#[test]
fn daylight_saving_neither_adds_nor_removes_a_step() {
    let mut case = case_with(|config| {
        config.grid.every = 3600 * SECOND;
        config.max_gap = 3600 * SECOND;
        config.complete_after = Some(1);
    });
    case.lookback = 1;
    let codec = Codec::new(MessageFormat::Json, &case.columns, TimeUnit::default(), &Limits::default());
    let origins = |times: &[&str]| {
        let record = |(offset, time): (usize, &&str)| Record {
            offset: offset as i64,
            payload: Some(format!(r#"{{"sensor":"a","time":"{time}","value":{offset}}}"#).into()),
            ..Record::default()
        };
        let decoded = codec.decode(&times.iter().enumerate().map(record).collect::<Vec<_>>());
        assert_eq!(decoded.malformed, []);
        let output = case.forecaster().push(&decoded.rows);
        assert_eq!(output.counters.refused_total(), 0, "{}", output.counters);
        forecasts(&output.forecasts).iter().map(|forecast| forecast.origin / 3600).collect::<Vec<_>>()
    };
    // In spring local clocks skip the hour from 2 to 3; in autumn they repeat it.
    let spring = [
        "2024-03-31T00:00:00+01:00",
        "2024-03-31T01:00:00+01:00",
        "2024-03-31T03:00:00+02:00",
        "2024-03-31 02:00:00Z",
    ];
    let autumn = [
        "2024-10-27T01:00:00+02:00",
        "2024-10-27T02:00:00+02:00",
        "2024-10-27T02:00:00+01:00",
        "2024-10-27T02:00:00",
    ];
    for times in [spring, autumn] {
        let origins = origins(&times);
        assert_eq!(origins.len(), 4, "{times:?}");
        assert!(origins.windows(2).all(|pair| pair[1] == pair[0] + 1), "{origins:?}");
    }
}
