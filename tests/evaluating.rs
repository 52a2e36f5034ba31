//! Evaluation: baselines where the answer is known, and scores against a count that shares nothing with them.

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Float32Type;
use tidecast_train::evaluate::{
    About, Along, Asked, Baselines, Evaluation, Kind, Parts, Past, Scorer, Smoothing, Task, Verdict, naive,
    results, seasonal,
};
use tidecast_core::forecaster::{Histories, Unused};
use tidecast_core::model::DataSummary;
use tidecast_core::series::{Grid, Keep, Tally};
use tidecast_core::table::{Forecasts, time_text};
use tidecast_train::{History, Lane, Recorder, lanes};

use crate::harness::{Case, Row, SECOND, row};

const HOUR: i64 = 3600;

/// Hourly steps; a gap of more than six hours is not filled.
fn hourly() -> Case {
    let mut case = Case { horizon: 5, levels: vec![0.5, 0.8], ..Case::default() };
    case.rules.grid = Grid { every: HOUR * SECOND, offset: 0 };
    case.rules.max_gap = 6 * HOUR * SECOND;
    case.rules.complete_after = Some(1);
    case
}

fn history(case: &Case, rows: &[Row]) -> History {
    let mut histories =
        Histories::new(case.columns.clone(), case.rules.clone(), Keep::new(100), case.horizon, 1000);
    let (mut recorder, mut tally, mut unused) = (Recorder::default(), Tally::default(), Unused::default());
    let add = |closing: &tidecast_core::forecaster::Closing<'_>| recorder.add(&case.rules, closing);
    histories.push(&case.batch(0, rows), &mut tally, &mut unused, add);
    histories
        .finish(&histories.by_id(), &mut tally, &mut unused, |closing| recorder.add(&case.rules, closing));
    recorder.history
}

/// A reading an hour of each id, but where `value` says NaN.
fn rows(ids: &[&str], hours: std::ops::Range<i64>, value: impl Fn(usize, i64) -> f64) -> Vec<Row> {
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

fn wave(hour: i64) -> f64 {
    (hour as f64 * std::f64::consts::TAU / 24.0).sin()
}

fn dates(trained: i64, validated: i64) -> DataSummary {
    let text = |hour: i64| time_text(hour * HOUR * SECOND);
    DataSummary { trained_until: text(trained), validated_until: text(validated), ..DataSummary::default() }
}

fn parts(case: &Case, history: &History, data: &DataSummary, asked: Asked) -> anyhow::Result<Parts> {
    Parts::of(history, data, case.rules.grid, case.horizon, (0.5, 0.25), asked)
}

/// Pushes rows through the line, `size` at a time, and evaluates what comes out.
fn evaluated(case: &Case, rows: &[Row], data: &DataSummary, size: usize) -> (Evaluation, Vec<RecordBatch>) {
    let history = history(case, rows);
    let lanes = lanes(&history);
    let parts = parts(case, &history, data, Asked::default()).unwrap();
    let every = case.rules.grid.every;
    let sizes = (case.lookback, case.horizon);
    let baselines = Baselines::fit(&history, &lanes, &parts, every, sizes, &case.levels);
    let task = Task {
        history: &history,
        lanes: &lanes,
        baselines: &baselines,
        parts: &parts,
        grid: case.rules.grid,
        targets: &case.columns.targets,
        horizon: case.horizon,
        levels: &case.levels,
        examples: true,
    };
    let (mut scorer, mut forecaster, mut came) = (Scorer::new(task), case.forecaster(), Vec::new());
    for (i, rows) in rows.chunks(size).enumerate() {
        came.push(forecaster.push(&case.batch((i * size) as i64, rows)).forecasts);
    }
    came.extend(forecaster.finish(1).map(|pushed| pushed.forecasts));
    came.iter().for_each(|forecasts| scorer.add(forecasts));
    let about = About {
        pipeline: "case".into(),
        model: "model".into(),
        every_text: "1h".into(),
        every: 1,
        notes: vec![],
    };
    (results(&task, &scorer.finish(), (vec![], vec![]), about), came)
}

fn near(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-9 * (1.0 + b.abs()), "{a} is not {b}");
}

fn only_lane(history: &History) -> (Vec<Lane>, Past<'_>) {
    let lanes = lanes(history);
    let past = Past::of(history, &lanes[0]);
    (lanes, past)
}

#[test]
fn a_season_is_repeated_from_where_it_is_known() {
    let case = hourly();
    // Hours 100 to 119 are missing: too long to be filled.
    let history = history(
        &case,
        &rows(&["a"], 0..200, |_, hour| if (100..120).contains(&hour) { f64::NAN } else { hour as f64 }),
    );
    let (_, past) = only_lane(&history);
    let mut out = [0.0; 30];
    seasonal(&past, 24, 60, &mut out);
    let twice = (37..=60).chain(37..43).map(f64::from);
    assert_eq!(out.to_vec(), twice.collect::<Vec<_>>());
    seasonal(&past, 24, 130, &mut out[..15]);
    // Of 107 to 119 nothing is known, 120 is there again.
    let mut expected = vec![130.0; 13];
    expected.extend([120.0, 121.0]);
    assert_eq!(out[..15], expected);
    naive(&past, None, 60, &mut out[..2]);
    assert_eq!(out[..2], [60.0, 60.0]);
    assert_eq!(
        (past.held(110), past.observed(99), past.held(-1), past.held(200)),
        (None, Some(99.0), None, None)
    );
    assert_eq!(past.window(121, 5), [120.0, 121.0]);
    assert_eq!(past.steps(98..122).map(|(step, _)| step).collect::<Vec<_>>(), [98, 99, 120, 121]);
    let whole: Vec<i64> = past.whole(90..200, 5).map(|(segment, place)| segment.step(place)).collect();
    assert_eq!((whole[0], whole[4], whole[5], *whole.last().unwrap()), (90, 94, 120, 194));
}

#[test]
fn smoothing_finds_what_is_there_to_smooth() {
    let case = hourly();
    let fit = |value: &dyn Fn(i64) -> f64| {
        let history = history(&case, &rows(&["a"], 0..600, |_, hour| value(hour)));
        let (_, past) = only_lane(&history);
        let smoothing = Smoothing::fit(&past, 480, Some(24));
        let mut state = smoothing.start();
        past.steps(0..540).for_each(|(step, value)| _ = smoothing.step(&mut state, step, value));
        let mut out = vec![0.0; 48];
        smoothing.forecast(&state, 539, &mut out);
        (smoothing, out)
    };
    // A day that recurs is said for any day to come.
    let (_, said) = fit(&|hour| 20.0 + 5.0 * wave(hour));
    for (said, hour) in said.iter().zip(540..) {
        assert!((said - 20.0 - 5.0 * wave(hour)).abs() < 1e-6, "{said}");
    }
    // Noise around a level is averaged away, a random walk is believed.
    let (of_noise, said) = fit(&|hour| 7.0 + noise(0, hour));
    assert!(of_noise.alpha <= 0.05 && said.iter().all(|said| (said - 7.0).abs() < 0.4), "{of_noise:?}");
    let walk: Vec<f64> = (0..600)
        .scan(0.0, |at, hour| {
            *at += noise(0, hour);
            Some(*at)
        })
        .collect();
    let (of_walk, _) = fit(&|hour| walk[hour as usize]);
    assert!(of_walk.alpha >= 0.85, "{of_walk:?}");
}

#[test]
fn the_ridge_learns_what_all_series_have_in_common() {
    let case = hourly();
    // Twice the mean less what was an hour ago, in two units.
    let value = |id: usize, hour: i64| {
        [10.0, 1000.0][id] * (1.0 + if hour % 2 == 0 { 0.5 } else { -0.5 } + 0.01 * noise(id, hour))
    };
    let history = history(&case, &rows(&["a", "b"], 0..400, value));
    let lanes = lanes(&history);
    let parts = parts(&case, &history, &dates(250, 320), Asked::default()).unwrap();
    let baselines = Baselines::fit(&history, &lanes, &parts, case.rules.grid.every, (3, 5), &[]);
    assert_eq!(
        baselines.kinds,
        [Kind::RepeatLast, Kind::SeasonalNaiveDay, Kind::Ridge, Kind::ExponentialSmoothing]
    );
    for (number, lane) in lanes.iter().enumerate() {
        let mut along = Along::new(&baselines, Past::of(&history, lane), number);
        let (mut out, unit) = ([0.0; 5], [10.0, 1000.0][number]);
        along.forecast(Kind::Ridge, 350, &mut out);
        for (said, hour) in out.iter().zip(351..) {
            assert!((said - value(number, hour)).abs() < 0.05 * unit, "{said} {}", value(number, hour));
        }
    }
}

#[test]
fn the_part_that_is_scored_is_told() {
    let case = hourly();
    let history = history(&case, &rows(&["a"], 1000..2000, |_, hour| noise(0, hour)));
    let scored = |data: &DataSummary, asked: Asked| {
        parts(&case, &history, data, asked).map(|parts| (parts.train_end, parts.validation_end, parts.scored))
    };
    let whole = |data: &DataSummary| scored(data, Asked::default()).unwrap();
    assert_eq!(whole(&dates(1500, 1600)), (1500, 1600, 1600..1995));
    // No dates, newer data, data that were all seen: parts of their own.
    for data in [DataSummary::default(), dates(10, 20), dates(3000, 4000), dates(1998, 1999)] {
        assert_eq!(whole(&data), (1500, 1750, 1750..1995));
    }
    // Data that begin within the validation part.
    assert_eq!(whole(&dates(900, 1900)), (1500, 1750, 1900..1995));
    let at = |hour: i64| Some(hour * HOUR * SECOND);
    let asked = |since, until| scored(&dates(1500, 1600), Asked { since, until });
    assert_eq!(asked(at(1700), at(1710)).unwrap().2, 1700..1710);
    assert_eq!(asked(at(1200), None).unwrap().2, 1200..1995);
    assert!(asked(at(1200), None).unwrap().0 == 1500);
    let error = asked(at(1996), None).unwrap_err().to_string();
    assert!(error.starts_with("nothing to score"), "{error}");
    let seen = parts(&case, &history, &dates(3000, 4000), Asked::default()).unwrap();
    assert!(seen.told.why.contains("NOT new"), "{}", seen.told.why);
}

/// What the forecasts of one series come to, counted from the rows alone.
#[derive(Default)]
struct Counted {
    forecasts: u64,
    sizes: f64,
    last: f64,
    values: f64,
    inside: [f64; 2],
}

fn counted(
    case: &Case,
    rows: &[Row],
    came: &[RecordBatch],
    origins: std::ops::Range<i64>,
) -> BTreeMap<String, Counted> {
    let actual: BTreeMap<(&str, i64), f64> =
        rows.iter().map(|row| ((row.series.as_str(), row.time / SECOND / HOUR), row.targets[0])).collect();
    let mut all: BTreeMap<String, Counted> = BTreeMap::new();
    for batch in came {
        let view = Forecasts::new(batch);
        for i in 0..view.len() {
            let (id, origin) = (view.series.value(i), view.origins.value(i) / SECOND / HOUR);
            let list = |list: usize| -> Vec<f64> {
                view.lists[list]
                    .value(i)
                    .as_primitive::<Float32Type>()
                    .values()
                    .iter()
                    .map(|v| f64::from(*v))
                    .collect()
            };
            let lists: Vec<Vec<f64>> = (0..1 + 2 * case.levels.len()).map(list).collect();
            let there: Vec<usize> =
                (0..case.horizon).filter(|j| actual.contains_key(&(id, origin + 1 + *j as i64))).collect();
            if !origins.contains(&origin) || there.is_empty() {
                continue;
            }
            let sums = all.entry(id.to_owned()).or_default();
            sums.forecasts += 1;
            for j in there {
                let came = actual[&(id, origin + 1 + j as i64)];
                sums.values += 1.0;
                sums.sizes += (came - lists[0][j]).abs();
                // As a forecast would be written.
                sums.last += (came - f64::from(actual[&(id, origin)] as f32)).abs();
                for level in 0..case.levels.len() {
                    sums.inside[level] += f64::from(u8::from(
                        lists[1 + 2 * level][j] <= came && came <= lists[2 + 2 * level][j],
                    ));
                }
            }
        }
    }
    all
}

/// Three ids: one with missing stretches, long and short, one that never varies, and one that begins after training.
fn troubled() -> Vec<Row> {
    rows(&["gaps", "flat", "new"], 0..900, |id, hour| match id {
        0 if hour % 97 < 3 || (600..640).contains(&hour) || (800..805).contains(&hour) => f64::NAN,
        0 => 20.0 + 4.0 * wave(hour) + noise(0, hour),
        1 => 3.5,
        2 if hour < 650 => f64::NAN,
        _ => 5.0 * wave(hour) + noise(2, hour),
    })
}

#[test]
fn scores_are_what_can_be_counted_by_hand() {
    let (case, rows) = (hourly(), troubled());
    let (found, came) = evaluated(&case, &rows, &dates(500, 600), 50);
    let counted = counted(&case, &rows, &came, 600..895);
    assert_eq!(
        found.series.iter().map(|series| series.series.as_str()).collect::<Vec<_>>(),
        ["flat", "gaps", "new"]
    );
    for series in &found.series {
        let (counted, ours) = (&counted[&series.series], &series.methods[0]);
        assert_eq!((series.forecasts, ours.values as f64), (counted.forecasts, counted.values));
        near(ours.mae, counted.sizes / counted.values);
        near(series.methods[1].mae, counted.last / counted.values);
        for (level, inside) in ours.levels.iter().zip(counted.inside) {
            near(level.coverage, inside / counted.values);
        }
    }
    let gaps = &found.series[1];
    let before = |hour: i64| rows.iter().find(|row| row.series == "gaps" && row.time == hour * HOUR * SECOND);
    let ways =
        (24..500).filter_map(|hour| Some((before(hour)?.targets[0] - before(hour - 24)?.targets[0]).abs()));
    let ways: Vec<f64> = ways.collect();
    near(gaps.scale.unwrap(), ways.iter().sum::<f64>() / ways.len() as f64);
    near(gaps.methods[0].mase.unwrap(), gaps.methods[0].mae / gaps.scale.unwrap());
    // What never varied and what was not there has no scale, and is left out of what is measured by it, and only of that.
    for other in [&found.series[0], &found.series[2]] {
        assert_eq!((other.scale, other.methods[0].mase), (None, None));
    }
    assert_eq!((found.overall.series, found.overall.series_with_scale), (3, 1));
    near(found.overall.methods[0].mase.unwrap(), gaps.methods[0].mase.unwrap());
    let sum = |value: fn(&Counted) -> f64| counted.values().map(value).sum::<f64>();
    near(found.overall.methods[0].pooled.mae, sum(|c| c.sizes) / sum(|c| c.values));
    assert_eq!(found.overall.forecasts, counted.values().map(|c| c.forecasts).sum::<u64>());
    // Repeating the last value of what never varies is right each time; random weights are not.
    let flat = &found.series[0];
    assert_eq!(flat.methods[1].mae, 0.0);
    assert!(flat.comparison.verdict != Verdict::Better, "{flat:?}");
    assert!(found.by_step.len() == case.horizon && found.validation.forecasts > 0);
}

#[test]
fn batches_of_any_size_give_the_same_document() {
    let (case, rows) = (hourly(), troubled());
    let document = |size: usize| {
        let (found, _) = evaluated(&case, &rows, &dates(500, 600), size);
        serde_json::to_string(&found).unwrap()
    };
    let whole = document(rows.len());
    assert_eq!(document(1), whole);
    assert_eq!(document(77), whole);
}

#[test]
fn without_levels_there_are_no_intervals_and_without_validation_no_choice() {
    let case = Case { levels: vec![], ..hourly() };
    // All of the time between the dates is shorter than a horizon.
    let (found, _) = evaluated(&case, &troubled(), &dates(500, 503), 100);
    assert!(found.overall.naive_intervals.is_none() && found.overall.methods[0].pooled.pinball.is_none());
    assert!(found.series.iter().all(|series| series.methods[0].levels.is_empty()));
    assert_eq!(found.validation.forecasts, 0);
    assert!(found.notes.iter().any(|note| note.contains("in its favour")), "{:?}", found.notes);
}
