//! One test for each rule by which rows become steps and steps become forecasts. Steps are ten seconds long.

use tidecast::config::{Format, Limits, TimeUnit};
use tidecast_stream::Record;
use tidecast_stream::codec::Codec;
use tidecast_core::series::{Gaps, Grid, Refusal, Rules, Scaling};

use crate::harness::{Case, SECOND, forecasts, row, wide};

fn with(change: impl FnOnce(&mut Rules)) -> Case {
    let mut case = Case::default();
    change(&mut case.rules);
    case
}

#[test]
fn a_forecast_is_issued_for_every_step_once_the_window_is_full() {
    let rows: Vec<_> = (0..6).map(|i| row("a", 10 * i, i as f64)).collect();
    let came = Case::default().run(&rows, &[]);
    assert_eq!(came.origins("a"), [20, 30, 40, 50]);
    // The step closes when the next one begins; the last one when the input ends.
    assert_eq!(came.forecasts.iter().map(|f| f.position).collect::<Vec<_>>(), [3, 4, 5, 5]);
}

#[test]
fn every_counts_steps_from_the_epoch_not_from_the_first_row() {
    let case = Case { every: 4, ..Case::default() };
    let rows: Vec<_> = (3..20).map(|i| row("a", 10 * i, 1.0)).collect();
    assert_eq!(case.run(&rows, &[]).origins("a"), [80, 120, 160]);
}

#[test]
fn a_step_closes_when_its_rows_have_come() {
    let case = with(|rules| rules.complete_after = Some(2));
    let rows = [0, 1, 10, 11, 20, 21].map(|t| row("a", t, t as f64));
    let came = case.run(&rows, &[]);
    assert_eq!(came.forecasts.iter().map(|f| (f.origin, f.position)).collect::<Vec<_>>(), [(20, 5)]);
}

#[test]
fn a_third_row_of_a_complete_step_is_late_even_if_it_is_the_newest() {
    let case = with(|rules| rules.complete_after = Some(2));
    let came = case.run(&[0, 1, 2, 10].map(|t| row("a", t, 1.0)), &[]);
    assert_eq!(came.refused, [(2, Refusal::Late)]);
}

#[test]
fn steps_close_strictly_in_order() {
    // Step 3 is complete at once, but step 2 may still get its second row for 15 s.
    let case = with(|rules| {
        rules.complete_after = Some(2);
        rules.lateness = 15 * SECOND;
    });
    let rows = [0, 1, 10, 11, 20, 30, 31, 21, 45].map(|t| row("a", t, t as f64));
    let came = case.run(&rows, &[]);
    let closed: Vec<_> = came.forecasts.iter().map(|f| (f.origin, f.position)).collect();
    assert_eq!(closed, [(20, 7), (30, 7), (40, 8)]);
    assert_eq!(came.refused, []);
}

#[test]
fn lateness_keeps_a_step_open_for_its_rows_and_no_longer() {
    let case = with(|rules| rules.lateness = 5 * SECOND);
    // 14 keeps [0, 10) open: its end plus five seconds is 15.
    let came = case.run(&[2, 14, 3, 15, 4].map(|t| row("a", t, 1.0)), &[]);
    assert_eq!(came.refused, [(4, Refusal::Late)]);
}

#[test]
fn a_late_row_within_lateness_gives_the_bits_of_order() {
    let case = with(|rules| rules.lateness = 20 * SECOND);
    let ordered = [0, 5, 10, 15, 20, 25, 30, 50, 60].map(|t| row("a", t, (t * t) as f64));
    let mut shuffled = ordered.clone();
    shuffled.swap(4, 5);
    shuffled.swap(2, 4);
    assert_eq!(case.run(&ordered, &[]).of("a"), case.run(&shuffled, &[]).of("a"));
}

#[test]
fn a_repeated_time_is_a_duplicate_and_the_first_value_wins() {
    let rows = |second: f64| {
        [row("a", 0, 1.0), row("a", 5, 2.0), row("a", 5, second), row("a", 10, 3.0), row("a", 20, 4.0)]
    };
    let case = Case::default();
    let (same, other) = (case.run(&rows(2.0), &[]), case.run(&rows(1e9), &[]));
    assert_eq!((same.refused.clone(), same.of("a")), (other.refused.clone(), other.of("a")));
    assert_eq!(same.refused, [(2, Refusal::Duplicate)]);
}

#[test]
fn a_repeated_time_of_a_closed_step_is_a_duplicate_any_other_row_is_late() {
    let came = Case::default().run(&[0, 10, 20, 10, 11].map(|t| row("a", t, 1.0)), &[]);
    assert_eq!(came.refused, [(3, Refusal::Duplicate), (4, Refusal::Late)]);
}

#[test]
fn a_duplicate_counts_for_nothing() {
    let case = with(|rules| rules.complete_after = Some(2));
    let came = case.run(&[0, 0, 1, 10].map(|t| row("a", t, 1.0)), &[]);
    assert_eq!(came.refused, [(1, Refusal::Duplicate)]);
}

#[test]
fn the_sixty_four_last_times_are_remembered() {
    let rows: Vec<_> = (0..70).chain([6, 5]).map(|i| row("a", 10 * i, 1.0)).collect();
    let came = Case::default().run(&rows, &[]);
    assert_eq!(came.refused, [(70, Refusal::Duplicate), (71, Refusal::Late)]);
}

#[test]
fn a_row_far_ahead_does_no_harm_even_if_it_is_the_first() {
    let year_2099 = 4_070_908_800;
    let case = Case::default();
    let clean: Vec<_> = (0..6).map(|i| row("a", 10 * i, i as f64)).collect();
    for place in [0, 2, 3, 4, 5] {
        let mut rows = clean.clone();
        rows.insert(place, row("a", year_2099, 1.0));
        let came = case.run(&rows, &[]);
        assert_eq!(came.of("a"), case.run(&clean, &[]).of("a"), "place {place}");
        assert_eq!(came.refused, [(place as i64, Refusal::TooFar)], "place {place}");
    }
    // Right after the very first row, which is itself still a candidate, both are in doubt and both go.
    let came = case.run(&[0, year_2099, 10, 20, 30, 40].map(|t| row("a", t, 1.0)), &[]);
    assert_eq!(came.refused, [(0, Refusal::TooFar), (1, Refusal::TooFar)]);
    assert_eq!(came.origins("a"), [30, 40]);
}

#[test]
fn a_candidate_that_a_later_row_agrees_with_restarts_the_series_cold() {
    let case = Case::default();
    let far = 10_000;
    let rows = [0, 10, 20, 30, far, far + 10, far + 20, far + 30].map(|t| row("a", t, t as f64));
    let came = case.run(&rows, &[]);
    assert_eq!(came.origins("a"), [20, 30, far + 20, far + 30]);
    assert_eq!((came.tally.restarts, came.tally.refused_total()), (1, 0));
}

#[test]
fn the_row_that_agrees_is_late_where_the_candidate_completed_their_step() {
    let case = with(|rules| rules.complete_after = Some(1));
    let came = case.run(&[0, 1, 10, 20].map(|t| row("a", t, t as f64)), &[]);
    assert_eq!(came.refused, [(1, Refusal::Late)]);
    assert_eq!(came.origins("a"), [20]);
}

#[test]
fn candidates_that_disagree_are_dropped_one_by_one() {
    let came = Case::default().run(&[0, 10, 5_000, 9_000, 20].map(|t| row("a", t, 1.0)), &[]);
    assert_eq!(came.refused, [(2, Refusal::TooFar), (3, Refusal::TooFar)]);
}

#[test]
fn a_candidate_closes_nothing() {
    let case = Case::default();
    let mut forecaster = case.forecaster();
    let rows = [0, 10, 20, 5_000].map(|t| row("a", t, t as f64));
    assert_eq!(forecaster.push(&case.batch(0, &rows)).tally.forecasts, 0);
}

#[test]
fn a_gap_is_filled_but_nothing_is_forecast_from_a_filled_step() {
    for gaps in [Gaps::Hold, Gaps::Linear, Gaps::Missing] {
        let came =
            with(|rules| rules.gaps = gaps).run(&[0, 10, 20, 50, 60].map(|t| row("a", t, t as f64)), &[]);
        assert_eq!(came.origins("a"), [20, 50, 60], "{gaps:?}");
    }
}

#[test]
fn a_gap_is_filled_as_if_the_filling_had_been_observed() {
    let gap = [(0, 1.0), (10, 2.0), (40, 8.0)];
    let cases = [(Gaps::Hold, [2.0, 2.0]), (Gaps::Linear, [4.0, 6.0])];
    for (gaps, [first, second]) in cases {
        // What is filled is no actual: intervals learn nothing of it.
        let case = Case { levels: vec![], ..with(|rules| rules.gaps = gaps) };
        let full = [(0, 1.0), (10, 2.0), (20, first), (30, second), (40, 8.0)];
        let last = |rows: &[(i64, f64)]| {
            let rows: Vec<_> = rows.iter().map(|(t, v)| row("a", *t, *v)).collect();
            case.run(&rows, &[]).of("a").pop().expect("a forecast from the last step")
        };
        assert_eq!(last(&gap), last(&full), "{gaps:?}");
    }
}

#[test]
fn the_mask_tells_a_filled_step_from_an_observed_one() {
    let case = with(|rules| rules.gaps = Gaps::Missing);
    let last = |rows: &[(i64, f64)]| {
        let rows: Vec<_> = rows.iter().map(|(t, value)| row("a", *t, *value)).collect();
        case.run(&rows, &[]).of("a").pop()
    };
    assert_ne!(last(&[(0, 1.0), (10, 2.0), (20, 2.0), (30, 5.0)]), last(&[(0, 1.0), (10, 2.0), (30, 5.0)]));
}

#[test]
fn a_wide_null_is_missing_in_its_target_and_nowhere_else() {
    let mut case = Case::default();
    case.columns.targets = vec!["t".into(), "h".into()];
    let nan = f64::NAN;
    let rows = [
        wide("a", 0, &[1.0, 5.0]),
        wide("a", 10, &[2.0, 6.0]),
        wide("a", 20, &[3.0, 5.0]),
        wide("a", 30, &[4.0, nan]),
        wide("a", 40, &[nan, nan]),
        wide("a", 50, &[6.0, 7.0]),
    ];
    let came = case.run(&rows, &[]);
    let issued: Vec<_> = came.forecasts.iter().map(|f| (f.target.as_str(), f.origin)).collect();
    assert_eq!(issued, [("t", 20), ("h", 20), ("t", 30), ("t", 50), ("h", 50)]);
    assert_eq!(came.refused, [(4, Refusal::NotFinite)]);
}

#[test]
fn null_nan_and_infinity_are_missing() {
    let rows = [0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(|value| row("a", 0, value));
    let came = Case::default().run(&rows, &[]);
    assert_eq!(
        came.refused,
        [1, 2, 3]
            .map(|position| (position, Refusal::NotFinite))
            .to_vec()
            .into_iter()
            .chain([(0, Refusal::TooFar)])
            .collect::<Vec<_>>()
    );
}

#[test]
fn the_grid_starts_at_its_offset() {
    let case = with(|rules| rules.grid = Grid { every: 10 * SECOND, offset: 3 * SECOND });
    let came = case.run(&[3, 12, 13, 23, 33].map(|t| row("a", t, 1.0)), &[]);
    assert_eq!(came.origins("a"), [23, 33]);
}

#[test]
fn times_before_the_epoch_lie_on_the_same_grid() {
    let came = Case::default().run(&[-31, -25, -15, -1, 5].map(|t| row("a", t, 1.0)), &[]);
    assert_eq!(came.origins("a"), [-20, -10, 0]);
}

#[test]
fn one_series_more_than_the_limit_is_refused_and_the_others_go_on() {
    let case = Case { limit: 2, ..Case::default() };
    let rows: Vec<_> = (0..5).flat_map(|i| ["a", "b", "c"].map(|id| row(id, 10 * i, i as f64))).collect();
    let came = case.run(&rows, &[]);
    assert_eq!((came.origins("a").len(), came.origins("b").len(), came.origins("c").len()), (3, 3, 0));
    assert_eq!(came.tally.refused(Refusal::TooManySeries), 5);
}

#[test]
fn a_refused_row_does_not_start_a_series() {
    let case = Case { limit: 1, ..Case::default() };
    let mut forecaster = case.forecaster();
    forecaster.push(&case.batch(0, &[row("a", 0, f64::NAN), row("b", 0, 1.0)]));
    assert_eq!(forecaster.series(), 1);
}

#[test]
fn without_a_series_column_all_rows_are_one_series() {
    let mut case = Case::default();
    case.columns.series = None;
    let rows: Vec<_> = (0..4).map(|i| row("ignored", 10 * i, i as f64)).collect();
    assert_eq!(case.run(&rows, &[]).origins("case"), [20, 30]);
}

#[test]
fn a_covariate_is_read_and_held_and_forgotten() {
    let mut case = Case::default();
    case.columns.covariates = vec!["load".into()];
    let run = |covariates: [f64; 5]| {
        let rows = [0, 1, 2, 3, 4].map(|i| {
            let mut row = row("a", 10 * i, i as f64);
            row.covariates = vec![covariates[i as usize]];
            row
        });
        case.run(&rows, &[]).of("a")
    };
    let nan = f64::NAN;
    assert_eq!(run([1.0, 1.0, 1.0, 1.0, 1.0]), run([1.0, nan, nan, nan, nan]));
    assert_ne!(run([1.0, 1.0, 1.0, 1.0, 1.0]), run([1.0, 1.0, 1.0, 1.0, 9.0]));
    // Unknown is the mean of training, which is 20.
    assert_eq!(run([nan; 5]), run([20.0; 5]));
}

#[test]
fn what_is_known_ahead_is_read_from_the_origins_row() {
    let mut case = Case::default();
    case.columns.known_ahead = vec!["plan".into()];
    let run = |last: Vec<Vec<f64>>| {
        let rows = [0, 1, 2, 3].map(|i| {
            let mut row = row("a", 10 * i, i as f64);
            row.ahead = if i == 3 { last.clone() } else { vec![vec![1.0, 2.0]] };
            row
        });
        case.run(&rows, &[]).of("a")
    };
    let (one, other) = (run(vec![vec![1.0, 2.0]]), run(vec![vec![1.0, 50.0]]));
    assert_eq!(one[0], other[0]);
    assert_ne!(one[1], other[1]);
    // Too short a list, or none: what is not known is at its mean.
    assert_eq!(run(vec![vec![1.0]]), run(vec![vec![1.0, 20.0]]));
    assert_eq!(run(vec![]), run(vec![vec![20.0, 20.0]]));
}

#[test]
fn what_does_not_vary_is_forecast_as_it_is() {
    for scaling in [Scaling::WindowLast, Scaling::WindowStandard, Scaling::Running] {
        let rows: Vec<_> = (0..4).map(|i| row("a", 10 * i, 0.1)).collect();
        let came = Case { scaling, ..Case::default() }.run(&rows, &[]);
        let values: Vec<u32> = came.forecasts.iter().flat_map(|f| f.bits.concat()).collect();
        assert!(values.iter().all(|bits| *bits == 0.1f32.to_bits()), "{scaling:?}");
    }
}

#[test]
fn every_scaling_moves_with_the_level_except_the_fixed_one() {
    for scaling in [Scaling::WindowLast, Scaling::WindowStandard, Scaling::Running, Scaling::Fixed] {
        let forecast = |level: f64| {
            let rows: Vec<_> = (0..3).map(|i| row("a", 10 * i, level + i as f64)).collect();
            let came = Case { scaling, ..Case::default() }.run(&rows, &[]);
            f32::from_bits(came.forecasts[0].bits[0][0])
        };
        let moved = (forecast(1000.0) - forecast(0.0) - 1000.0).abs() < 1e-3;
        assert_eq!(moved, scaling != Scaling::Fixed, "{scaling:?}");
    }
}

#[test]
fn a_million_spreads_away_the_forecast_is_still_a_number() {
    for widening in [0.0, 0.7, 100.0] {
        let case = Case { scaling: Scaling::Fixed, memory: true, widening, ..Case::default() };
        let values = [0.0, 3e38, -3e38, 1e300, 0.0, 1.0];
        let rows: Vec<_> = values.into_iter().enumerate().map(|(i, v)| row("a", 10 * i as i64, v)).collect();
        let came = case.run(&rows, &[]);
        let mut numbers = came.forecasts.iter().flat_map(|f| f.bits.concat());
        assert!(numbers.all(|bits| f32::from_bits(bits).is_finite()), "{widening}: {came:?}");
        assert_eq!(came.refused, [(3, Refusal::NotFinite)]);
        let mut forecaster = case.forecaster();
        forecaster.push(&case.batch(0, &rows));
        case.forecaster().restore(&forecaster.snapshot()).unwrap();
    }
}

#[test]
fn bounds_enclose_the_forecast_and_widen_with_the_level_and_the_horizon() {
    let case = Case { levels: vec![0.5, 0.9], ..Case::default() };
    let rows: Vec<_> = (0..3).map(|i| row("a", 10 * i, (i * i) as f64)).collect();
    let came = case.run(&rows, &[]);
    let value = |list: usize, i: usize| f32::from_bits(came.forecasts[0].bits[list][i]);
    for i in 0..2 {
        let five = [value(3, i), value(1, i), value(0, i), value(2, i), value(4, i)];
        assert!(five.is_sorted(), "lower 90, lower 50, forecast, upper 50, upper 90: {five:?}");
    }
    assert!(value(4, 1) - value(3, 1) > value(4, 0) - value(3, 0));
}

#[test]
fn daylight_saving_makes_and_loses_no_step() {
    let mut case = with(|rules| {
        rules.grid.every = 3600 * SECOND;
        rules.max_gap = 3600 * SECOND;
        rules.complete_after = Some(1);
    });
    case.lookback = 1;
    let codec = Codec::new(Format::Json, &case.columns, TimeUnit::default(), &Limits::default());
    let origins = |times: &[&str]| {
        let record = |(offset, time): (usize, &&str)| Record {
            offset: offset as i64,
            payload: Some(format!(r#"{{"sensor":"a","time":"{time}","value":{offset}}}"#).into()),
            ..Record::default()
        };
        let decoded = codec.decode(&times.iter().enumerate().map(record).collect::<Vec<_>>());
        assert_eq!(decoded.malformed, []);
        let pushed = case.forecaster().push(&decoded.rows);
        assert_eq!(pushed.tally.refused_total(), 0, "{}", pushed.tally);
        forecasts(&pushed.forecasts).iter().map(|forecast| forecast.origin / 3600).collect::<Vec<_>>()
    };
    // In spring local clocks skip the hour from 2 to 3, in autumn they show it twice.
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
