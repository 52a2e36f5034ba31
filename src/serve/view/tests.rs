//! Tests of the view.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::entry::{PeriodScores, natural_order};
use super::*;
use crate::config::Units;
use crate::serve::info::PageInfo;
use tidecast_core::forecaster::Scoring;
use tidecast_core::intervals::{HorizonScores, SeriesScores};
use tidecast_core::schema::{Columns, OutputLabels, ScoreBuilder};
use tidecast_core::series::{Aggregate, Grid};
use tidecast_core::time::HOUR;

/// An hourly grid, forecasts of 4 steps, a season of 3 steps.
fn info() -> PipelineInfo {
    let columns = Columns {
        series: Some("sensor".into()),
        only_series: String::new(),
        time: "time".into(),
        targets: vec!["value".into()],
        covariates: vec![],
        future_covariates: vec![],
    };
    PipelineInfo {
        columns,
        grid: Grid { every: HOUR, offset: 0 },
        aggregate: Aggregate::Mean,
        complete_after: Some(1),
        max_gap: 6,
        horizon: 4,
        view_horizons: [1, 4],
        levels: vec![0.8],
        view_levels: vec![0],
        scoring: None,
        season: Some(3),
        warmup_steps: 5,
        ready_lag: 0,
        reject_reasons: vec![],
        units: Units::default(),
        page: PageInfo::default(),
    }
}

fn entry() -> SeriesEntry {
    SeriesEntry::new("a".into(), 0, None)
}

const NEW_SERIES: RowSource = RowSource { partition: 0, is_resumed: false };

const BUDGET: SeriesBudget = SeriesBudget { steps: 104, forecast_steps: 4 };

/// Rises by one per hour, so that the seasonal naive forecast is off by the season.
fn value(hour: i64) -> f64 {
    hour as f64
}

/// Adds an observation and a forecast per hour. Each forecast is off by `error`, in an interval of `width` to either side.
fn feed(entry: &mut SeriesEntry, hours: Range<i64>, error: f32, width: f32) {
    let info = info();
    for hour in hours {
        entry.observe(&info, hour * HOUR, value(hour), BUDGET);
        let values: Vec<f32> = (1..=4).map(|ahead| value(hour + ahead) as f32 + error).collect();
        let [lower, upper] =
            [-width, width].map(|by| values.iter().map(|value| value + by).collect::<Vec<f32>>());
        entry.set_forecast(&info, hour * HOUR, &[&values, &lower, &upper], BUDGET);
    }
}

fn names(view: &SeriesView, query: &ViewQuery) -> Vec<String> {
    view.query(query).iter().map(|index| view.entries[*index].id.to_string()).collect()
}

#[test]
fn forecasts_are_scored_against_actuals_and_the_seasonal_naive() {
    let mut entry = entry();
    feed(&mut entry, 0..50, 0.5, 1.0);
    entry.update_status(&info(), None);
    let [first, last] = &entry.scores;
    // The first forecasts are of hour 1 at horizon 1, and of hour 4 at horizon 4; the last actual value is of hour 49.
    assert_eq!((first.count, last.count), (49, 46));
    assert_eq!((first.mae, first.bias, first.coverage.as_slice()), (Some(0.5), Some(-0.5), &[1.0][..]));
    assert_eq!((first.naive_mae, last.naive_mae), (Some(3.0), Some(6.0)), "horizon 4 needs two seasons back");
    assert_eq!(first.mase, Some(0.5 / 3.0));
    assert_eq!(entry.status, SeriesStatus::Ok);
    // Drift needs a history of errors first.
    for (hours, error, status) in [
        (50..120, 0.5, SeriesStatus::Ok),
        (120..190, 0.5, SeriesStatus::Ok),
        (190..230, -3.0, SeriesStatus::Drifting),
    ] {
        feed(&mut entry, hours, error, 1.0);
        entry.update_status(&info(), None);
        assert_eq!(entry.status, status);
    }
    assert!(entry.scores[0].coverage[0] < 0.8);
}

#[test]
fn steps_without_an_observation_are_not_scored() {
    let mut entry = entry();
    feed(&mut entry, 0..20, 0.0, 1.0);
    feed(&mut entry, 23..30, 0.0, 1.0);
    entry.update_status(&info(), None);
    assert_eq!((entry.scores[0].mae, entry.scores[0].count), (Some(0.0), 19 + 6));
    assert_eq!(entry.value(21), None);
}

#[test]
fn an_observation_far_ahead_is_accepted_once_a_second_one_agrees() {
    let (info, mut entry) = (info(), entry());
    feed(&mut entry, 0..20, 0.0, 1.0);
    entry.observe(&info, 999_999 * HOUR, 1.0, BUDGET);
    entry.observe(&info, 20 * HOUR, value(20), BUDGET);
    assert_eq!(entry.last.unwrap().step, 20);
    entry.observe(&info, 40 * HOUR, 1.0, BUDGET);
    entry.observe(&info, 41 * HOUR, 2.0, BUDGET);
    assert_eq!((entry.last.unwrap().step, entry.observed_steps), (41, Some(2)), "the series starts again");
    assert_eq!((entry.value(20), entry.value(30), entry.value(40)), (Some(20.0), None, Some(1.0)));
    entry.update_status(&info, None);
    assert_eq!(entry.status, SeriesStatus::Warming);
}

#[test]
fn late_and_duplicate_observations_change_nothing() {
    let (info, mut entry) = (info(), entry());
    feed(&mut entry, 0..20, 0.0, 1.0);
    for hour in [19, 18, 3] {
        entry.observe(&info, hour * HOUR, 77.0, BUDGET);
    }
    entry.observe(&info, 20 * HOUR, 20.0, BUDGET);
    entry.observe(&info, 20 * HOUR, 77.0, BUDGET);
    assert_eq!((17..21).map(|step| entry.value(step).unwrap()).collect::<Vec<_>>(), [17.0, 18.0, 19.0, 20.0]);
}

#[test]
fn observations_of_a_step_are_aggregated_as_on_the_grid() {
    let observations = [1.0, 5.0, 3.0];
    let expected = [
        (Aggregate::Mean, 3.0),
        (Aggregate::Last, 3.0),
        (Aggregate::Sum, 9.0),
        (Aggregate::Min, 1.0),
        (Aggregate::Max, 5.0),
    ];
    for (aggregate, value) in expected {
        let info = PipelineInfo { aggregate, complete_after: None, ..info() };
        let mut entry = entry();
        for (i, observation) in observations.iter().enumerate() {
            entry.observe(&info, 5 * HOUR + i as i64, *observation, BUDGET);
        }
        assert_eq!(entry.value(5), Some(value), "{aggregate:?}");
    }
}

#[test]
fn retained_steps_are_bounded_and_only_they_are_scored() {
    let (info, mut entry) = (info(), entry());
    feed(&mut entry, 0..500, 0.0, 1.0);
    assert_eq!(entry.steps.len(), BUDGET.steps);
    let smaller = SeriesBudget { steps: 24, forecast_steps: 4 };
    for hour in 500..520 {
        entry.observe(&info, hour * HOUR, value(hour), smaller);
        entry.set_forecast(&info, hour * HOUR, &[&[0.0; 4]], smaller);
    }
    assert_eq!((entry.steps.len(), entry.first_step), (24, 500));
    entry.update_status(&info, None);
    assert_eq!(entry.scores[0].count, 20);
}

#[test]
fn a_series_that_stops_is_late_and_then_silent() {
    let (info, mut entry) = (info(), entry());
    feed(&mut entry, 0..20, 0.0, 1.0);
    let mut status_at = |hour: i64| {
        entry.update_status(&info, Some(hour * HOUR));
        entry.status
    };
    let statuses = [19, 23, 23].map(&mut status_at);
    assert_eq!(statuses, [SeriesStatus::Ok, SeriesStatus::Ok, SeriesStatus::Late], "one refresh is not late");
    assert_eq!([26, 40].map(&mut status_at), [SeriesStatus::Silent, SeriesStatus::Silent]);
    feed(&mut entry, 20..21, 0.0, 1.0);
    entry.update_status(&info, Some(40 * HOUR));
    assert_eq!(entry.status, SeriesStatus::Ok, "the series is catching up");
}

#[test]
fn names_are_sorted_by_their_numbers() {
    let mut names = ["mote-10", "mote-2", "mote-02b", "a", "mote", "Ä/3", ""];
    names.sort_by(|a, b| natural_order(a, b));
    assert_eq!(names, ["", "a", "mote", "mote-2", "mote-02b", "mote-10", "Ä/3"]);
}

#[test]
fn ten_thousand_series_refresh_within_half_a_second() {
    let mut view = SeriesView::new(Arc::new(info()));
    for number in 0..10_000 {
        let index = view.find_or_insert(&format!("plant-{number}/flow"), NEW_SERIES).unwrap();
        feed(&mut view.entries[index], 0..40, 0.5, 1.0);
    }
    let started = Instant::now();
    view.refresh(10_000);
    let query = ViewQuery { search: "flow".into(), sort: SortKey::Mase, ..ViewQuery::default() };
    let matches = view.query(&query);
    let rows: Vec<_> = matches.iter().take(60).map(|index| view.row_json(*index, 0)).collect();
    let elapsed = started.elapsed();
    assert_eq!((view.status_counts.ok, matches.len(), rows.len()), (10_000, 10_000, 60));
    // Runs once a second and takes a few hundredths of one.
    assert!(elapsed < Duration::from_millis(500), "{elapsed:?}");
}

#[test]
fn search_matches_words_and_missing_values_sort_last() {
    let mut view = SeriesView::new(Arc::new(info()));
    for (id, count) in [("b/wind", 9), ("a/wind", 30), ("a/rain", 2), ("c/wind", 0)] {
        let index = view.find_or_insert(id, NEW_SERIES).unwrap();
        feed(&mut view.entries[index], 0..count, 0.0, 1.0);
    }
    view.refresh(4);
    let query = ViewQuery::default;
    assert_eq!(names(&view, &query()), ["a/rain", "a/wind", "b/wind", "c/wind"]);
    assert_eq!(names(&view, &ViewQuery { search: "WIND a".into(), ..query() }), ["a/wind"]);
    let by_value = |descending| names(&view, &ViewQuery { sort: SortKey::Value, descending, ..query() });
    assert_eq!(by_value(false), ["a/rain", "b/wind", "a/wind", "c/wind"]);
    assert_eq!(by_value(true), ["a/wind", "b/wind", "a/rain", "c/wind"]);
    assert_eq!(names(&view, &ViewQuery { status: Some(SeriesStatus::Warming), ..query() }), ["c/wind"]);
    // The next step follows the latest observation; the latest forecast is of the hour before.
    let wind = view.find_or_insert("b/wind", NEW_SERIES).unwrap();
    view.entries[wind].observe(&info(), 9 * HOUR, value(9), BUDGET);
    assert_eq!((view.entries[wind].next(0), view.entries[wind].next(2)), (Some(10.0), Some(11.0)));
}

/// Feeds a series of a partition. Returns whether the view has room for it.
fn feed_series(view: &mut SeriesView, id: &str, partition: i32, hours: Range<i64>) -> bool {
    let index = view.find_or_insert(id, RowSource { partition, ..NEW_SERIES });
    index.into_iter().for_each(|index| feed(&mut view.entries[index], hours.clone(), 0.0, 1.0));
    index.is_some()
}

#[test]
fn series_are_removed_with_their_partition() {
    let mut view = SeriesView::new(Arc::new(info()));
    for (id, partition, end) in [("a", 0, 11), ("d", 1, 12), ("c", 0, 13), ("b", 1, 14)] {
        assert!(feed_series(&mut view, id, partition, 0..end));
    }
    view.refresh(4);
    view.remove_partitions(&[0, 7]);
    assert_eq!((names(&view, &ViewQuery::default()), view.generation), (vec!["b".into(), "d".into()], 1));
    let last_step = |id: &str| view.find(id, 0).map(|entry| entry.last.unwrap().step);
    assert_eq!((last_step("a"), last_step("b"), last_step("d")), (None, Some(13), Some(11)));
    let index = view.find_or_insert("g", RowSource { partition: 4, is_resumed: true }).unwrap();
    feed(&mut view.entries[index], 0..2, 0.0, 1.0);
    assert_eq!(view.entries[index].observed_steps, None, "earlier steps are in the resumed state");
}

#[test]
fn silent_series_give_way_to_new_ones() {
    let mut view = SeriesView::new(Arc::new(info()));
    view.series_max = 3;
    assert!(feed_series(&mut view, "d", 1, 0..12) && feed_series(&mut view, "b", 1, 0..14));
    assert!(feed_series(&mut view, "e", 2, 0..60) && !feed_series(&mut view, "f", 2, 0..60));
    view.refresh(4);
    let all = ViewQuery::default();
    assert_eq!((names(&view, &all).len(), view.omitted), (3, 1), "no series is known to be silent yet");
    feed_series(&mut view, "b", 1, 14..60);
    (0..3).for_each(|_| view.refresh(4));
    assert_eq!(view.find("d", 0).unwrap().status, SeriesStatus::Silent);
    assert!(!feed_series(&mut view, "f", 2, 0..60), "there is no room before the next refresh");
    view.refresh(4);
    assert!(feed_series(&mut view, "f", 2, 0..60));
    view.refresh(3);
    assert_eq!((names(&view, &all), view.omitted), (["b", "e", "f"].map(String::from).to_vec(), 0));
}

/// Score rows of one series and day, at horizons 1 and 4.
fn score_rows(series: &str, target: &str, day: i64, mae: f32) -> RecordBatch {
    let scores = |horizon: usize| HorizonScores {
        horizon,
        forecasts: 24.0,
        mae: mae * horizon as f32,
        naive_mae: if horizon == 1 { 2.0 } else { 0.0 },
        bias: 0.25,
        ties: 0.0,
        coverage: vec![0.75],
    };
    let stamp = OutputLabels { every: "1h".into(), model: "m".into() };
    let mut rows = ScoreBuilder::new(&[0.8], stamp);
    let scores = SeriesScores { horizons: vec![scores(1), scores(4)], is_drifting: day == 1 };
    rows.push(0, series, target, [day, day + 1].map(|day| 24 * day * HOUR), &scores);
    rows.finish()
}

#[test]
fn the_latest_period_of_each_horizon_is_retained() {
    let scoring = Some(Scoring { horizons: vec![1, 4], every: 24 });
    let mut view = SeriesView::new(Arc::new(PipelineInfo { scoring, ..info() }));
    let index = view.find_or_insert("a", NEW_SERIES).unwrap();
    view.add_scores(&score_rows("a", "value", 0, 0.5));
    view.add_scores(&score_rows("a", "value", 1, 1.0));
    // An unknown series and an unknown target are ignored.
    view.add_scores(&score_rows("b", "value", 1, 9.0));
    view.add_scores(&score_rows("a", "other", 2, 9.0));
    assert_eq!((view.entries.len(), view.omitted), (1, 0));
    let periods = &view.entries[index].periods;
    let [first, last] = &periods.latest[..] else { panic!("{periods:?}") };
    let day = 86_400_000.0;
    assert_eq!((first.horizon, first.from_ms, first.until_ms), (1, day, 2.0 * day));
    assert_eq!((first.mae, first.mase, first.forecasts), (1.0, Some(0.5), 24));
    assert_eq!((first.bias, &*first.coverage), (0.25, &[0.75][..]));
    assert_eq!((last.horizon, last.mae, last.mase), (4, 4.0, None));
    let detail = view.entries[index].detail_json(&view.info);
    assert_eq!((&detail["periods"][1]["horizon"], &detail["drift"]), (&4.into(), &true.into()));
    view.add_scores(&score_rows("a", "value", 2, 1.0));
    assert_eq!(view.entries[index].periods.drift, Some(false));
}

/// A view with one series more than it can hold, of which `early` are full before the others arrive; and the bytes it uses.
fn full_view(info: PipelineInfo, early: usize) -> (SeriesView, usize) {
    let mut view = SeriesView::new(Arc::new(info));
    let fill = |view: &mut SeriesView, start: usize| {
        let (info, budget) = (view.info.clone(), view.budget);
        let list = vec![0.0; info.horizon];
        let lists = vec![&list[..]; 1 + 2 * info.view_levels.len()];
        for entry in &mut view.entries[start..] {
            for step in 0..budget.steps as i64 + 9 {
                entry.observe(&info, step * HOUR, 1.0, budget);
            }
            entry.set_forecast(&info, (budget.steps as i64 + 8) * HOUR, &lists, budget);
        }
    };
    for number in 0..=SERIES_MAX {
        view.find_or_insert(&number.to_string(), NEW_SERIES);
        if number + 1 == early {
            fill(&mut view, 0);
        }
    }
    let periods = PeriodScores::bytes(view.info.scoring.as_ref(), view.info.levels.len());
    let before: usize = view.entries.iter().map(SeriesEntry::bytes).sum();
    fill(&mut view, early);
    let after: usize = view.entries.iter().map(SeriesEntry::bytes).sum();
    assert!(before > 0 && before < after, "{before} {after}");
    let bytes = after + view.entries.len() * periods;
    view.refresh(SERIES_MAX + 1);
    (view, bytes)
}

#[test]
fn the_view_stays_within_its_bytes() {
    let day = PipelineInfo {
        horizon: 24,
        view_horizons: [1, 24],
        levels: vec![0.8, 0.95],
        view_levels: vec![0, 1],
        ..info()
    };
    let scoring = Some(Scoring { horizons: vec![1, 3, 6, 12, 24], every: 24 });
    let (view, bytes) = full_view(PipelineInfo { scoring, ..day.clone() }, 500);
    assert_eq!((view.entries.len(), view.omitted), (SERIES_MAX, 1));
    assert!((BUDGET_BYTES / 10 * 9..=BUDGET_BYTES).contains(&bytes), "{bytes}");

    // A long horizon leaves room for fewer series.
    let (view, bytes) = full_view(PipelineInfo { horizon: 168, view_horizons: [1, 168], ..day }, 500);
    assert!((5_000..SERIES_MAX).contains(&view.entries.len()), "{}", view.entries.len());
    assert_eq!(view.entries.len() + view.omitted, SERIES_MAX + 1);
    assert!((BUDGET_BYTES / 10 * 9..=BUDGET_BYTES).contains(&bytes), "{bytes}");
}

#[test]
fn a_series_grows_in_small_steps_and_shrinks_to_a_smaller_budget() {
    let (info, mut entry) = (info(), entry());
    for hour in 0..40 {
        entry.observe(&info, hour * HOUR, value(hour), BUDGET);
    }
    assert!((40..=50).contains(&entry.steps.capacity()), "{}", entry.steps.capacity());
    feed(&mut entry, 40..300, 0.0, 1.0);
    assert_eq!((entry.steps.len(), entry.steps.capacity(), entry.first_step), (104, 104, 200));
    entry.shrink(SeriesBudget { steps: 20, forecast_steps: 2 });
    assert_eq!((entry.steps.len(), entry.steps.capacity(), entry.first_step), (20, 20, 284));
    assert_eq!((entry.value(299), entry.value(283)), (Some(299.0), None));
    assert_eq!(entry.forecast.as_ref().map(|forecast| forecast.lists[0].len()), Some(2));
}
