//! An evaluation as an HTML page: tables, the error by step, and charts of the best, the median and the worst series.

use tidecast_core::series::Grid;
use tidecast_train::evaluate::{ChannelScores, EvaluationReport, LevelMeans, MethodReport, SeriesReport};

use super::evaluation_text::{
    error_ratio, level_name, number, optional_number, percentage, verdict_text, verdicts_text,
};
use super::{Axis, AxisKind, Band, BandPoint, Chart, Line, Page};

/// Maximum number of series in the table: a browser opens a page of this size at once.
const SERIES_MAX: usize = 500;

pub fn page(report: &EvaluationReport, channels: &[ChannelScores<'_>], grid: Grid) -> String {
    let mut page = Page::new(&format!("{}: evaluation", report.pipeline));
    let split = &report.split;
    page.text(&format!("Model {}, forecasts of {} steps of {}.", report.model, report.horizon, report.every));
    page.text(&format!(
        "Scored: origins from {} to {}: {}.",
        split.scored_from, split.scored_until, split.reason
    ));
    page.text(&format!(
        "Baselines at the same origins: fitted until {}, selected until {}.",
        split.baselines_fitted_until, split.baselines_selected_until
    ));
    report.notes.iter().for_each(|note| page.text(&format!("Note: {note}.")));
    overall(&mut page, report);
    by_step(&mut page, report);
    examples(&mut page, report, channels, grid);
    by_series(&mut page, report);
    page.html()
}

fn overall(page: &mut Page, report: &EvaluationReport) {
    let overall = &report.overall;
    page.heading("All series");
    page.text(&format!(
        "{} series, {} of them with a naive error; {} forecasts. MASE and sMAPE are means over series with equal weights; MAE, \
         MSE, RMSE and pinball loss are over all values, in the unit of the observations.",
        overall.series, overall.series_with_naive_mae, overall.forecasts
    ));
    let row = |method: &MethodReport| {
        let pooled = &method.pooled;
        let mut row = vec![method.method.clone(), optional_number(method.mase), number(method.smape)];
        row.extend([pooled.mae, pooled.mse, pooled.rmse].map(number));
        row.push(optional_number(pooled.pinball_loss));
        row
    };
    let rows: Vec<Vec<String>> = overall.methods.iter().map(row).collect();
    page.table(&["", "MASE", "sMAPE", "MAE", "MSE", "RMSE", "pinball"], &rows);
    page.text(&format!("{}.", verdicts_text(report)));
    let interval_rows = |method: &str, levels: &[LevelMeans]| -> Vec<Vec<String>> {
        let row = |means: &LevelMeans| {
            let score = optional_number(means.scaled_interval_score);
            vec![level_name(means.level), method.to_owned(), percentage(means.coverage), score]
        };
        levels.iter().map(row).collect()
    };
    let mut rows = interval_rows("model", overall.methods.first().map_or(&[][..], |model| &model.levels));
    if let Some(naive) = &overall.naive_intervals {
        if naive.series < overall.series {
            rows.extend(interval_rows(&format!("model, {} series", naive.series), &naive.model));
        }
        rows.extend(interval_rows(
            &format!("naive with its residuals, {} series", naive.series),
            &naive.naive,
        ));
    }
    if !rows.is_empty() {
        page.table(&["interval", "method", "coverage", "scaled interval score"], &rows);
    }
}

fn by_step(page: &mut Page, report: &EvaluationReport) {
    page.heading("By step ahead");
    let has_mase = report.by_step.iter().any(|step| step.mase[0].is_some());
    let value = |step: usize, method: usize| {
        let scores = &report.by_step[step];
        if has_mase { scores.mase[method].unwrap_or(f64::NAN) } else { scores.mae[method] }
    };
    let line = |(method, name): (usize, &String)| Line {
        name: name.clone(),
        points: (0..report.horizon).map(|step| ((step + 1) as f64, value(step, method))).collect(),
        dashed: method > 0,
    };
    let steps = Axis { label: format!("steps of {} ahead", report.every), kind: AxisKind::Linear };
    let error = Axis { label: if has_mase { "MASE" } else { "MAE" }.into(), kind: AxisKind::Linear };
    let lines = report.methods.iter().enumerate().map(line).collect();
    page.chart(&Chart { title: "Error".into(), x: steps.clone(), y: error, lines, bands: vec![] });
    if report.levels.is_empty() {
        return;
    }
    let mut lines = Vec::new();
    for (i, level) in report.levels.iter().enumerate() {
        let points = |fraction: &dyn Fn(usize) -> f64| {
            (0..report.horizon).map(|step| ((step + 1) as f64, 100.0 * fraction(step))).collect()
        };
        let name = level_name(*level);
        let coverage = points(&|step| report.by_step[step].coverage[i]);
        let measured = format!("coverage of the {name} interval");
        lines.push(Line { name: measured, points: coverage, dashed: false });
        lines.push(Line { name, points: points(&|_| *level), dashed: true });
    }
    let coverage = Axis { label: "% of the actuals".into(), kind: AxisKind::Linear };
    page.chart(&Chart { title: "Coverage".into(), x: steps, y: coverage, lines, bands: vec![] });
}

fn examples(page: &mut Page, report: &EvaluationReport, channels: &[ChannelScores<'_>], grid: Grid) {
    let has_examples = |series: &&SeriesReport| {
        error_ratio(series).is_finite() && !channels[series.channel].examples.is_empty()
    };
    let mut ranked: Vec<&SeriesReport> = report.series.iter().filter(has_examples).collect();
    ranked.sort_by(|a, b| error_ratio(a).total_cmp(&error_ratio(b)));
    let Some(last) = ranked.len().checked_sub(1) else { return };
    page.heading("Examples");
    page.text(
        "Series by their error relative to the best baseline; forecasts from the middle of the scored split.",
    );
    let mut ranks = vec![("Best", 0), ("Median", last / 2), ("Worst", last)];
    ranks.dedup_by_key(|(_, index)| *index);
    for (rank, index) in ranks {
        let series = ranked[index];
        page.chart(&example(rank, report, series, &channels[series.channel], grid));
    }
}

fn example(
    rank: &str,
    report: &EvaluationReport,
    series: &SeriesReport,
    channel: &ChannelScores<'_>,
    grid: Grid,
) -> Chart {
    let horizon = report.horizon as i64;
    let time = |step: i64| grid.start_of(step) as f64;
    let first = channel.examples.first().map_or(0, |example| example.origin) - 2 * horizon;
    let end = channel.examples.last().map_or(0, |example| example.origin) + horizon + 1;
    let actual = |step: i64| (time(step), channel.timeline().observed(step).unwrap_or(f64::NAN));
    let actuals = Line { name: "actual".into(), points: (first..end).map(actual).collect(), dashed: false };
    let forecasts = |method: usize| {
        let mut points = Vec::new();
        for example in &channel.examples {
            // NaN separates consecutive forecasts.
            points.push((time(example.origin), f64::NAN));
            let values = example.forecasts[method].iter().zip(1..);
            points.extend(values.map(|(value, ahead)| (time(example.origin + ahead), *value)));
        }
        points
    };
    let model = Line { name: "model".into(), points: forecasts(0), dashed: false };
    let baseline_name = &report.methods[series.best_baseline];
    let baseline =
        Line { name: baseline_name.clone(), points: forecasts(series.best_baseline), dashed: true };
    // A band has the color of the line with the same name.
    let band = |level: usize| {
        let mut points = Vec::new();
        for example in &channel.examples {
            points.push(BandPoint::BREAK);
            let bounds = example.bounds[level].iter().zip(1..);
            points.extend(bounds.map(|(&[lower, upper], ahead)| {
                let x = time(example.origin + ahead);
                BandPoint { x, lower, upper }
            }));
        }
        Band { name: "model".into(), points }
    };
    let levels: Vec<String> = report.levels.iter().map(|level| level_name(*level)).collect();
    let levels =
        if levels.is_empty() { String::new() } else { format!(", intervals of {}", levels.join(" and ")) };
    let SeriesReport { series: id, target, .. } = series;
    let ratio = number(error_ratio(series));
    Chart {
        title: format!("{rank}: {id} {target}, {ratio} times the error of {baseline_name}{levels}"),
        x: Axis { label: "time".into(), kind: AxisKind::Time },
        y: Axis { label: target.clone(), kind: AxisKind::Linear },
        lines: vec![model, baseline, actuals],
        bands: (0..report.levels.len()).rev().map(band).collect(),
    }
}

fn by_series(page: &mut Page, report: &EvaluationReport) {
    page.heading("By series");
    let mut listed: Vec<&SeriesReport> = report.series.iter().collect();
    let order = |series: &SeriesReport| {
        if error_ratio(series).is_finite() { error_ratio(series) } else { f64::INFINITY }
    };
    listed.sort_by(|a, b| order(a).total_cmp(&order(b)));
    if listed.len() > SERIES_MAX {
        page.text(&format!(
            "The best and the worst {} of {} series by their error relative to the best baseline; --json lists all.",
            SERIES_MAX / 2,
            listed.len()
        ));
        listed.drain(SERIES_MAX / 2..listed.len() - SERIES_MAX / 2);
    }
    page.text(
        "The baseline of a series is the one that was best on its validation split. A series without MASE was constant in the \
         training split.",
    );
    let mut header =
        vec!["series", "target", "forecasts", "MASE", "MAE", "baseline", "its MAE", "ratio", "verdict"];
    let levels: Vec<String> =
        report.levels.iter().map(|level| format!("within {}", level_name(*level))).collect();
    header.extend(levels.iter().map(String::as_str));
    let row = |series: &&SeriesReport| {
        let (model, baseline) = (&series.methods[0], &series.methods[series.best_baseline]);
        let mut row = vec![series.series.clone(), series.target.clone(), series.forecasts.to_string()];
        row.extend([optional_number(model.mase), number(model.mae)]);
        row.extend([report.methods[series.best_baseline].clone(), number(baseline.mae)]);
        row.extend([number(error_ratio(series)), verdict_text(&series.comparison)]);
        row.extend(model.levels.iter().map(|level| percentage(level.coverage)));
        row
    };
    page.table(&header, &listed.iter().map(row).collect::<Vec<_>>());
}
