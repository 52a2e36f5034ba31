//! Evaluation: baselines with a known answer, and scores against an independent computation.

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Float32Type;
use tidecast_core::model::DataSummary;
use tidecast_core::schema::{Forecasts, format_time};
use tidecast_core::series::Grid;
use tidecast_train::evaluate::{
    Baseline, BaselineOptions, BaselineRunner, Baselines, EvaluationReport, EvaluationSplit, EvaluationTask,
    ExponentialSmoothing, IntervalResults, RunInfo, Scorer, SeriesTimeline, TimeFilter, Verdict, report,
};
use tidecast_train::{History, SplitFractions};

use crate::harness::{Case, Row, SECOND, row};

const HOUR: i64 = 3600;

/// Hourly steps; gaps of more than six hours are not filled.
fn hourly() -> Case {
    let mut case = Case { horizon: 5, levels: vec![0.5, 0.8], ..Case::default() };
    case.step_config.grid = Grid { every: HOUR * SECOND, offset: 0 };
    case.step_config.max_gap = 6 * HOUR * SECOND;
    case.step_config.complete_after = Some(1);
    case
}

/// An observation per hour and id, except where `value` is NaN.
fn rows(ids: &[&str], hours: Range<i64>, value: impl Fn(usize, i64) -> f64) -> Vec<Row> {
    let all = hours.flat_map(|hour| ids.iter().enumerate().map(move |(i, id)| (i, *id, hour)));
    all.map(|(i, id, hour)| row(id, hour * HOUR, value(i, hour)))
        .filter(|row| !row.targets[0].is_nan())
        .collect()
}

/// Noise between -1 and 1.
fn noise(id: usize, hour: i64) -> f64 {
    let mixed = (hour * 2_654_435_761 + id as i64 * 40_503).rem_euclid(1_000_003);
    (mixed * mixed % 1_000_003) as f64 / 500_001.5 - 1.0
}

fn daily_wave(hour: i64) -> f64 {
    (hour as f64 * std::f64::consts::TAU / 24.0).sin()
}

/// Training data that end at an hour, and validation data that end at another.
fn trained_until(train_end: i64, validation_end: i64) -> DataSummary {
    let text = |hour: i64| format_time(hour * HOUR * SECOND);
    DataSummary { train_end: text(train_end), validation_end: text(validation_end), ..DataSummary::default() }
}

fn split(
    case: &Case,
    history: &History,
    data: &DataSummary,
    filter: TimeFilter,
) -> anyhow::Result<EvaluationSplit> {
    let fractions = SplitFractions { train: 0.5, validation: 0.25 };
    EvaluationSplit::new(history, data, case.step_config.grid, case.horizon, fractions, filter)
}

/// Forecasts rows in batches of `size`, and evaluates the forecasts.
fn evaluate(
    case: &Case,
    rows: &[Row],
    data: &DataSummary,
    size: usize,
) -> (EvaluationReport, Vec<RecordBatch>) {
    let history = case.history(rows);
    let channels = history.channels();
    let split = split(case, &history, data, TimeFilter::default()).unwrap();
    let grid = case.step_config.grid;
    let (lookback, horizon, levels) = (case.lookback, case.horizon, &case.levels[..]);
    let options = BaselineOptions { every: grid.every, lookback, horizon, levels };
    let task = EvaluationTask {
        history: &history,
        channels: &channels,
        baselines: &Baselines::fit(&history, &channels, &split, options),
        split: &split,
        grid,
        targets: &case.columns.targets,
        horizon,
        levels,
        keep_examples: true,
    };
    let (mut scorer, mut forecaster, mut forecasts) = (Scorer::new(task), case.forecaster(), Vec::new());
    for (i, rows) in rows.chunks(size).enumerate() {
        forecasts.push(forecaster.push(&case.batch((i * size) as i64, rows)).forecasts);
    }
    forecasts.extend(forecaster.finish(1).map(|output| output.forecasts));
    forecasts.iter().for_each(|forecasts| scorer.add(forecasts));
    let info = RunInfo {
        pipeline: "case".into(),
        model: "model".into(),
        every: "1h".into(),
        origin_stride: 1,
        notes: vec![],
    };
    (report(&task, &scorer.finish(), IntervalResults::default(), info), forecasts)
}

fn assert_close(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-9 * (1.0 + b.abs()), "{a} is not {b}");
}

#[test]
fn naive_forecasts_repeat_the_last_season_and_fall_back_to_the_last_value() {
    // Hours 100 to 119 are missing: too long a gap to be filled.
    let value = |_, hour| if (100..120).contains(&hour) { f64::NAN } else { hour as f64 };
    let history = hourly().history(&rows(&["a"], 0..200, value));
    let timeline = SeriesTimeline::new(&history, &history.channels()[0]);
    let mut out = [0.0; 30];
    timeline.naive_forecast(Some(24), 60, &mut out);
    let twice = (37..=60).chain(37..43).map(f64::from);
    assert_eq!(out.to_vec(), twice.collect::<Vec<_>>());
    timeline.naive_forecast(Some(24), 130, &mut out[..15]);
    // Hours 107 to 119 have no value, 120 has one.
    let mut expected = vec![130.0; 13];
    expected.extend([120.0, 121.0]);
    assert_eq!(out[..15], expected);
    timeline.naive_forecast(None, 60, &mut out[..2]);
    assert_eq!(out[..2], [60.0, 60.0]);
}

#[test]
fn a_timeline_finds_values_across_gaps() {
    let value = |_, hour| if (100..120).contains(&hour) { f64::NAN } else { hour as f64 };
    let history = hourly().history(&rows(&["a"], 0..200, value));
    let timeline = SeriesTimeline::new(&history, &history.channels()[0]);
    assert_eq!((timeline.value(110), timeline.observed(99)), (None, Some(99.0)));
    assert_eq!((timeline.value(-1), timeline.value(200)), (None, None));
    assert_eq!(timeline.window(121, 5), [120.0, 121.0]);
    let steps: Vec<i64> = timeline.observations(98..122).map(|(step, _)| step).collect();
    assert_eq!(steps, [98, 99, 120, 121]);
    let origins = timeline.complete_origins(90..200, 5).map(|(segment, index)| segment.step(index));
    let origins: Vec<i64> = origins.collect();
    assert_eq!((origins[0], origins[4], origins[5], *origins.last().unwrap()), (90, 94, 120, 194));
}

#[test]
fn exponential_smoothing_learns_season_level_and_noise() {
    let case = hourly();
    let fit = |value: &dyn Fn(i64) -> f64| {
        let history = case.history(&rows(&["a"], 0..600, |_, hour| value(hour)));
        let timeline = SeriesTimeline::new(&history, &history.channels()[0]);
        let smoothing = ExponentialSmoothing::fit(&timeline, 480, Some(24));
        let mut state = smoothing.initial_state();
        for (step, value) in timeline.observations(0..540) {
            smoothing.update(&mut state, step, value);
        }
        let mut out = vec![0.0; 48];
        smoothing.forecast(&state, 539, &mut out);
        (smoothing, out)
    };
    let (_, forecast) = fit(&|hour| 20.0 + 5.0 * daily_wave(hour));
    for (value, hour) in forecast.iter().zip(540..) {
        assert!((value - 20.0 - 5.0 * daily_wave(hour)).abs() < 1e-6, "{value}");
    }
    // Noise around a level is averaged, a random walk is followed.
    let (of_noise, forecast) = fit(&|hour| 7.0 + noise(0, hour));
    assert!(of_noise.alpha <= 0.05 && forecast.iter().all(|value| (value - 7.0).abs() < 0.4), "{of_noise:?}");
    let walk: Vec<f64> = (0..600)
        .scan(0.0, |value, hour| {
            *value += noise(0, hour);
            Some(*value)
        })
        .collect();
    let (of_walk, _) = fit(&|hour| walk[hour as usize]);
    assert!(of_walk.alpha >= 0.85, "{of_walk:?}");
}

#[test]
fn the_ridge_learns_dynamics_that_series_of_different_units_share() {
    let case = hourly();
    let value = |id: usize, hour: i64| {
        [10.0, 1000.0][id] * (1.0 + if hour % 2 == 0 { 0.5 } else { -0.5 } + 0.01 * noise(id, hour))
    };
    let history = case.history(&rows(&["a", "b"], 0..400, value));
    let channels = history.channels();
    let split = split(&case, &history, &trained_until(250, 320), TimeFilter::default()).unwrap();
    let every = case.step_config.grid.every;
    let options = BaselineOptions { every, lookback: 3, horizon: 5, levels: &[] };
    let baselines = Baselines::fit(&history, &channels, &split, options);
    use Baseline::{DailyNaive, ExponentialSmoothing, Naive, Ridge};
    assert_eq!(baselines.kinds, [Naive, DailyNaive, Ridge, ExponentialSmoothing]);
    for (index, channel) in channels.iter().enumerate() {
        let timeline = SeriesTimeline::new(&history, channel);
        let mut runner = BaselineRunner::new(&baselines, timeline, index);
        let (mut out, unit) = ([0.0; 5], [10.0, 1000.0][index]);
        runner.forecast(Ridge, 350, &mut out);
        for (forecast, hour) in out.iter().zip(351..) {
            let actual = value(index, hour);
            assert!((forecast - actual).abs() < 0.05 * unit, "{forecast} {actual}");
        }
    }
}

#[test]
fn the_scored_range_is_new_to_the_model_where_possible() {
    let case = hourly();
    let history = case.history(&rows(&["a"], 1000..2000, |_, hour| noise(0, hour)));
    let ranges = |data: &DataSummary, filter: TimeFilter| {
        split(&case, &history, data, filter)
            .map(|split| (split.train_end, split.validation_end, split.scored))
    };
    let unfiltered = |data: &DataSummary| ranges(data, TimeFilter::default()).unwrap();
    assert_eq!(unfiltered(&trained_until(1500, 1600)), (1500, 1600, 1600..1995));
    // Without dates, with newer data only, and with data that were all used, the ranges follow the fractions.
    for data in
        [DataSummary::default(), trained_until(10, 20), trained_until(3000, 4000), trained_until(1998, 1999)]
    {
        assert_eq!(unfiltered(&data), (1500, 1750, 1750..1995));
    }
    // The data begin within the validation data.
    assert_eq!(unfiltered(&trained_until(900, 1900)), (1500, 1750, 1900..1995));
    let at = |hour: i64| Some(hour * HOUR * SECOND);
    let filtered = |since, until| ranges(&trained_until(1500, 1600), TimeFilter { since, until });
    assert_eq!(filtered(at(1700), at(1710)).unwrap().2, 1700..1710);
    assert_eq!(filtered(at(1200), None).unwrap().2, 1200..1995);
    assert!(filtered(at(1200), None).unwrap().0 == 1500);
    let error = filtered(at(1996), None).unwrap_err().to_string();
    assert!(error.starts_with("nothing to score"), "{error}");
    let seen = split(&case, &history, &trained_until(3000, 4000), TimeFilter::default()).unwrap();
    assert!(seen.report.reason.contains("NOT new"), "{}", seen.report.reason);
}

/// Sums of one series that are computed from the rows alone.
#[derive(Default)]
struct ExpectedSums {
    forecasts: u64,
    values: f64,
    model_error: f64,
    naive_error: f64,
    covered: [f64; 2],
}

fn expected_sums(
    case: &Case,
    rows: &[Row],
    forecasts: &[RecordBatch],
    origins: Range<i64>,
) -> BTreeMap<String, ExpectedSums> {
    let actuals: BTreeMap<(&str, i64), f64> =
        rows.iter().map(|row| ((row.series.as_str(), row.time / SECOND / HOUR), row.targets[0])).collect();
    let mut all: BTreeMap<String, ExpectedSums> = BTreeMap::new();
    for batch in forecasts {
        let view = Forecasts::new(batch);
        for i in 0..view.len() {
            let (id, origin) = (view.series.value(i), view.origins.value(i) / SECOND / HOUR);
            let list = |list: usize| -> Vec<f64> {
                let values = view.lists[list].value(i);
                values.as_primitive::<Float32Type>().values().iter().map(|v| f64::from(*v)).collect()
            };
            let lists: Vec<Vec<f64>> = (0..1 + 2 * case.levels.len()).map(list).collect();
            let actual = |step: usize| actuals.get(&(id, origin + 1 + step as i64)).copied();
            let observed: Vec<(usize, f64)> =
                (0..case.horizon).filter_map(|step| Some((step, actual(step)?))).collect();
            if !origins.contains(&origin) || observed.is_empty() {
                continue;
            }
            let sums = all.entry(id.to_owned()).or_default();
            sums.forecasts += 1;
            for (step, actual) in observed {
                sums.values += 1.0;
                sums.model_error += (actual - lists[0][step]).abs();
                // Forecasts are f32.
                sums.naive_error += (actual - f64::from(actuals[&(id, origin)] as f32)).abs();
                for (level, covered) in sums.covered.iter_mut().enumerate() {
                    let bounds = lists[1 + 2 * level][step]..=lists[2 + 2 * level][step];
                    *covered += f64::from(u8::from(bounds.contains(&actual)));
                }
            }
        }
    }
    all
}

/// Three ids: one with short and long gaps, one that is constant, and one that starts after the training range.
fn irregular_rows() -> Vec<Row> {
    rows(&["gaps", "constant", "new"], 0..900, |id, hour| match id {
        0 if hour % 97 < 3 || (600..640).contains(&hour) || (800..805).contains(&hour) => f64::NAN,
        0 => 20.0 + 4.0 * daily_wave(hour) + noise(0, hour),
        1 => 3.5,
        2 if hour < 650 => f64::NAN,
        _ => 5.0 * daily_wave(hour) + noise(2, hour),
    })
}

#[test]
fn scores_match_an_independent_computation() {
    let (case, rows) = (hourly(), irregular_rows());
    let (report, forecasts) = evaluate(&case, &rows, &trained_until(500, 600), 50);
    let expected = expected_sums(&case, &rows, &forecasts, 600..895);
    let [constant, gaps, new] = &report.series[..] else { panic!("three series: {report:?}") };
    assert_eq!([&constant.series, &gaps.series, &new.series], ["constant", "gaps", "new"]);
    for series in &report.series {
        let (expected, model) = (&expected[&series.series], &series.methods[0]);
        assert_eq!((series.forecasts, model.values as f64), (expected.forecasts, expected.values));
        assert_close(model.mae, expected.model_error / expected.values);
        assert_close(series.methods[1].mae, expected.naive_error / expected.values);
        for (level, covered) in model.levels.iter().zip(expected.covered) {
            assert_close(level.coverage, covered / expected.values);
        }
    }
    let value = |hour: i64| {
        let mut rows = rows.iter();
        rows.find(|row| row.series == "gaps" && row.time == hour * HOUR * SECOND).map(|row| row.targets[0])
    };
    let errors: Vec<f64> =
        (24..500).filter_map(|hour| Some((value(hour)? - value(hour - 24)?).abs())).collect();
    assert_close(gaps.naive_mae.unwrap(), errors.iter().sum::<f64>() / errors.len() as f64);
    assert_close(gaps.methods[0].mase.unwrap(), gaps.methods[0].mae / gaps.naive_mae.unwrap());
    // A series without a naive error is left out of scaled means only.
    for series in [constant, new] {
        assert_eq!((series.naive_mae, series.methods[0].mase), (None, None));
    }
    assert_eq!((report.overall.series, report.overall.series_with_naive_mae), (3, 1));
    assert_close(report.overall.methods[0].mase.unwrap(), gaps.methods[0].mase.unwrap());
    let sum = |value: fn(&ExpectedSums) -> f64| expected.values().map(value).sum::<f64>();
    let mae = sum(|sums| sums.model_error) / sum(|sums| sums.values);
    assert_close(report.overall.methods[0].pooled.mae, mae);
    assert_eq!(report.overall.forecasts, expected.values().map(|sums| sums.forecasts).sum::<u64>());
    // The last value of a constant series is always right, an untrained model is not.
    assert_eq!(constant.methods[1].mae, 0.0);
    assert!(constant.comparison.verdict != Verdict::Better, "{constant:?}");
    assert!(report.by_step.len() == case.horizon && report.validation.forecasts > 0);
}

#[test]
fn the_report_does_not_depend_on_batch_sizes() {
    let (case, rows) = (hourly(), irregular_rows());
    let report = |size: usize| {
        let (report, _) = evaluate(&case, &rows, &trained_until(500, 600), size);
        serde_json::to_string(&report).unwrap()
    };
    let whole = report(rows.len());
    assert_eq!(report(1), whole);
    assert_eq!(report(77), whole);
}

#[test]
fn a_report_without_levels_or_validation_range_says_so() {
    let case = Case { levels: vec![], ..hourly() };
    // The validation range is shorter than a horizon.
    let (report, _) = evaluate(&case, &irregular_rows(), &trained_until(500, 503), 100);
    assert!(report.overall.naive_intervals.is_none());
    assert!(report.overall.methods[0].pooled.pinball_loss.is_none());
    assert!(report.series.iter().all(|series| series.methods[0].levels.is_empty()));
    assert_eq!(report.validation.forecasts, 0);
    assert!(report.notes.iter().any(|note| note.contains("no validation range")), "{:?}", report.notes);
}
