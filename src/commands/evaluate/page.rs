//! An evaluation as a page: the tables, the error by step, and pictures of the best, the middle and the worst series.

use super::text::{maybe, number, ratio, share, verdict};
use tidecast_train::evaluate::{Evaluation, LaneScores, Means, SIGNIFICANT, Series};
use crate::report::{Axis, AxisKind, Band, Chart, Line, Page};
use tidecast_core::series::Grid;
use tidecast_core::table::percent;

/// Series in the table, at most: a page that a browser opens at once.
const SERIES_MAX: usize = 500;

pub fn page(found: &Evaluation, lanes: &[LaneScores<'_>], grid: Grid) -> String {
    let mut page = Page::new(&format!("{}: forecasts and what came", found.pipeline));
    let part = &found.part;
    page.text(&format!("Model {}, forecasts of {} steps of {}.", found.model, found.horizon, found.every));
    page.text(&format!("Scored: origins from {} to {}: {}.", part.scored_from, part.scored_until, part.why));
    page.text(&format!(
        "Baselines at the same origins: fitted until {}, chosen until {}.",
        part.baselines_fitted_until, part.baselines_chosen_until
    ));
    found.notes.iter().for_each(|note| page.text(&format!("Note: {note}.")));
    overall(&mut page, found);
    by_step(&mut page, found);
    pictures(&mut page, found, lanes, grid);
    series(&mut page, found);
    page.html()
}

fn overall(page: &mut Page, found: &Evaluation) {
    let overall = &found.overall;
    page.heading("Over all series");
    page.text(&format!(
        "{} series, of which {} have a scale; {} forecasts. MASE and sMAPE are means over series, each counting the same; MAE, \
         MSE, RMSE and pinball loss are over all values, in the readings' units.",
        overall.series, overall.series_with_scale, overall.forecasts
    ));
    let row = |means: &Means| {
        let pooled = &means.pooled;
        let mut row = vec![means.method.clone(), maybe(means.mase), number(means.smape)];
        row.extend([pooled.mae, pooled.mse, pooled.rmse].map(number));
        row.push(maybe(pooled.pinball));
        row
    };
    let rows: Vec<Vec<String>> = overall.methods.iter().map(row).collect();
    page.table(&["", "MASE", "sMAPE", "MAE", "MSE", "RMSE", "pinball"], &rows);
    let of = &found.verdicts;
    page.text(&format!(
        "Ours against the best baseline of each series, chosen on the validation part (Diebold-Mariano, {} %): better on {}, \
         worse on {}, cannot tell on {}, too short to tell on {}.",
        percent(SIGNIFICANT),
        of.better,
        of.worse,
        of.cannot_tell,
        of.too_short
    ));
    let mut rows = Vec::new();
    let of_levels = |whose: &str, levels: &[tidecast_train::evaluate::LevelMeans], rows: &mut Vec<Vec<String>>| {
        for means in levels {
            let level = format!("{} %", percent(means.level));
            rows.push(vec![
                level,
                whose.to_owned(),
                share(means.coverage),
                maybe(means.scaled_interval_score),
            ]);
        }
    };
    of_levels("ours", overall.methods.first().map_or(&[][..], |ours| &ours.levels), &mut rows);
    if let Some(beside) = &overall.naive_intervals {
        if beside.series < overall.series {
            of_levels(&format!("ours, {} series", beside.series), &beside.ours, &mut rows);
        }
        of_levels(&format!("naive and its residuals, {} series", beside.series), &beside.naive, &mut rows);
    }
    if !rows.is_empty() {
        page.table(&["interval", "of", "within", "interval score, scales"], &rows);
    }
}

fn by_step(page: &mut Page, found: &Evaluation) {
    page.heading("By step ahead");
    let scaled = found.by_step.iter().any(|step| step.mase[0].is_some());
    let value = |step: usize, method: usize| {
        let at = &found.by_step[step];
        if scaled { at.mase[method].unwrap_or(f64::NAN) } else { at.mae[method] }
    };
    let line = |(method, name): (usize, &String)| Line {
        name: name.clone(),
        points: (0..found.horizon).map(|step| ((step + 1) as f64, value(step, method))).collect(),
        dashed: method > 0,
    };
    let steps = Axis { label: format!("steps of {} ahead", found.every), kind: AxisKind::Linear };
    let error = Axis { label: if scaled { "MASE" } else { "MAE" }.into(), kind: AxisKind::Linear };
    let lines = found.methods.iter().enumerate().map(line).collect();
    page.chart(&Chart { title: "Error".into(), x: steps.clone(), y: error, lines, bands: vec![] });
    if found.levels.is_empty() {
        return;
    }
    let mut lines = Vec::new();
    for (place, level) in found.levels.iter().enumerate() {
        let points = |value: &dyn Fn(usize) -> f64| {
            (0..found.horizon).map(|step| ((step + 1) as f64, 100.0 * value(step))).collect()
        };
        let within = points(&|step| found.by_step[step].coverage[place]);
        lines.push(Line {
            name: format!("within the {} % interval", percent(*level)),
            points: within,
            dashed: false,
        });
        lines.push(Line {
            name: format!("{} %", percent(*level)),
            points: points(&|_| *level),
            dashed: true,
        });
    }
    let within = Axis { label: "% of what came".into(), kind: AxisKind::Linear };
    page.chart(&Chart { title: "Coverage".into(), x: steps, y: within, lines, bands: vec![] });
}

fn pictures(page: &mut Page, found: &Evaluation, lanes: &[LaneScores<'_>], grid: Grid) {
    let mut drawn: Vec<&Series> =
        found.series.iter().filter(|s| ratio(s).is_finite() && !lanes[s.lane].examples.is_empty()).collect();
    drawn.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)));
    let Some(last) = drawn.len().checked_sub(1) else { return };
    page.heading("Pictures");
    page.text("Series by their error beside that of their best baseline; forecasts from the middle of the scored part.");
    let mut places = vec![("Best", 0), ("Middle", last / 2), ("Worst", last)];
    places.dedup_by_key(|(_, place)| *place);
    for (which, place) in places {
        let series = drawn[place];
        page.chart(&picture(which, found, series, &lanes[series.lane], grid));
    }
}

fn picture(which: &str, found: &Evaluation, series: &Series, lane: &LaneScores<'_>, grid: Grid) -> Chart {
    let horizon = found.horizon as i64;
    let time = |step: i64| grid.start_of(step) as f64;
    let first = lane.examples.first().map_or(0, |example| example.origin) - 2 * horizon;
    let until = lane.examples.last().map_or(0, |example| example.origin) + horizon + 1;
    let actual = |step: i64| (time(step), lane.past().observed(step).unwrap_or(f64::NAN));
    let came = Line { name: "came".into(), points: (first..until).map(actual).collect(), dashed: false };
    // A forecast and the one after it are not joined.
    let gap = |origin: i64| (time(origin), f64::NAN);
    let forecast = |method: usize| {
        let mut points = Vec::new();
        for example in &lane.examples {
            points.push(gap(example.origin));
            let said = example.forecasts[method].iter().zip(1..);
            points.extend(said.map(|(value, ahead)| (time(example.origin + ahead), *value)));
        }
        points
    };
    let ours = Line { name: "ours".into(), points: forecast(0), dashed: false };
    let beside = &found.methods[series.best];
    let beside = Line { name: beside.clone(), points: forecast(series.best), dashed: true };
    // Of the name of the line, so that they have its colour.
    let band = |level: usize| {
        let mut points = Vec::new();
        for example in &lane.examples {
            points.push((time(example.origin), f64::NAN, f64::NAN));
            let bounds = example.bounds[level].iter().zip(1..);
            points
                .extend(bounds.map(|([lower, upper], ahead)| (time(example.origin + ahead), *lower, *upper)));
        }
        Band { name: "ours".into(), points }
    };
    let name = format!("{} {}", series.series, series.target);
    let levels: Vec<String> = found.levels.iter().map(|level| format!("{} %", percent(*level))).collect();
    let levels =
        if levels.is_empty() { String::new() } else { format!(", intervals of {}", levels.join(" and ")) };
    Chart {
        title: format!(
            "{which}: {name}, {} times the error of {}{levels}",
            number(ratio(series)),
            found.methods[series.best]
        ),
        x: Axis { label: "time".into(), kind: AxisKind::Time },
        y: Axis { label: series.target.clone(), kind: AxisKind::Linear },
        lines: vec![ours, beside, came],
        bands: (0..found.levels.len()).rev().map(band).collect(),
    }
}

fn series(page: &mut Page, found: &Evaluation) {
    page.heading("By series");
    let mut listed: Vec<&Series> = found.series.iter().collect();
    let order = |series: &Series| if ratio(series).is_finite() { ratio(series) } else { f64::INFINITY };
    listed.sort_by(|a, b| order(a).total_cmp(&order(b)));
    if listed.len() > SERIES_MAX {
        page.text(&format!(
            "The first and the last {} of {} series by their error beside the best baseline; --json has all.",
            SERIES_MAX / 2,
            listed.len()
        ));
        listed.drain(SERIES_MAX / 2..listed.len() - SERIES_MAX / 2);
    }
    page.text("Beside each stands the baseline that was best for it on the validation part. A series without MASE did not vary in the training part.");
    let mut header =
        vec!["series", "target", "forecasts", "MASE", "MAE", "beside", "its MAE", "ratio", "verdict"];
    let levels: Vec<String> =
        found.levels.iter().map(|level| format!("within {} %", percent(*level))).collect();
    header.extend(levels.iter().map(String::as_str));
    let row = |series: &&Series| {
        let (ours, beside) = (&series.methods[0], &series.methods[series.best]);
        let mut row = vec![series.series.clone(), series.target.clone(), series.forecasts.to_string()];
        row.extend([
            maybe(ours.mase),
            number(ours.mae),
            found.methods[series.best].clone(),
            number(beside.mae),
        ]);
        row.extend([number(ratio(series)), verdict(&series.comparison)]);
        row.extend(ours.levels.iter().map(|level| share(level.coverage)));
        row
    };
    page.table(&header, &listed.iter().map(row).collect::<Vec<_>>());
}
