//! An evaluation as text, for a terminal.

use std::fmt::Write;

use tidecast_core::schema::format_percent;
use tidecast_train::evaluate::{
    COVERAGE_WINDOW, Comparison, EvaluationReport, LevelMeans, OverallReport, SIGNIFICANCE_LEVEL,
    SeriesReport, Verdict,
};

/// Maximum number of series listed one by one: about a screen. The JSON report has all.
const SERIES_MAX: usize = 40;
/// Steps of the horizon that are listed.
const STEPS_MAX: usize = 8;

/// Appends a line. Writing to a string cannot fail.
macro_rules! line {
    ($out:expr, $($text:tt)*) => {
        let _ = writeln!($out, $($text)*);
    };
}

pub fn text(report: &EvaluationReport) -> String {
    let mut out = String::new();
    let split = &report.split;
    line!(
        out,
        "{}, model {}: forecasts of {} steps of {}",
        report.pipeline,
        report.model,
        report.horizon,
        report.every
    );
    line!(out, "scored: origins from {} to {}: {}", split.scored_from, split.scored_until, split.reason);
    let (fitted, selected) = (&split.baselines_fitted_until, &split.baselines_selected_until);
    line!(out, "baselines: fitted until {fitted}, selected until {selected}");
    for note in &report.notes {
        line!(out, "note: {note}");
    }
    overall(&mut out, "scored split", &report.overall, NaiveIntervals::Shown);
    if report.validation.forecasts > 0 {
        // The quantiles of the naive forecast are those of the validation split itself.
        overall(&mut out, "validation split", &report.validation, NaiveIntervals::Hidden);
    }
    by_step(&mut out, report);
    intervals_over_time(&mut out, report);
    by_series(&mut out, report);
    conclusion(&mut out, report);
    out
}

/// A number with four significant digits.
pub fn number(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "-".to_owned(),
        0.0 => "0".to_owned(),
        size if !(1e-3..1e6).contains(&size) => format!("{value:.2e}"),
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 100.0 => format!("{value:.1}"),
        size if size >= 10.0 => format!("{value:.2}"),
        size if size >= 1.0 => format!("{value:.3}"),
        _ => format!("{value:.4}"),
    }
}

pub fn optional_number(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), number)
}

pub fn percentage(fraction: f64) -> String {
    if fraction.is_finite() { format!("{:.1} %", 100.0 * fraction) } else { "-".to_owned() }
}

/// The interval of a level by its name, such as "80 %".
pub fn level_name(level: f64) -> String {
    format!("{} %", format_percent(level))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum NaiveIntervals {
    Shown,
    Hidden,
}

fn overall(out: &mut String, split: &str, overall: &OverallReport, naive_intervals: NaiveIntervals) {
    let OverallReport { series, series_with_naive_mae, forecasts, .. } = overall;
    let scaled = if series == series_with_naive_mae {
        String::new()
    } else {
        format!(", {series_with_naive_mae} of them with a naive error")
    };
    line!(out, "\n{split}: {series} series{scaled}, {forecasts} forecasts");
    let (mase, smape, mae, mse, rmse, pinball) = ("MASE", "sMAPE", "MAE", "MSE", "RMSE", "pinball");
    line!(out, "  {:<14}{mase:>9}{smape:>9}  |{mae:>9}{mse:>10}{rmse:>9}{pinball:>9}", "");
    line!(out, "  {:<14}{:>18}  |{:>37}", "", "mean over series", "over all values");
    for method in &overall.methods {
        let pooled = &method.pooled;
        let [mae, mse, rmse] = [pooled.mae, pooled.mse, pooled.rmse].map(number);
        let (mase, smape) = (optional_number(method.mase), number(method.smape));
        let (name, pinball) = (&method.method, optional_number(pooled.pinball_loss));
        line!(out, "  {name:<14}{mase:>9}{smape:>9}  |{mae:>9}{mse:>10}{rmse:>9}{pinball:>9}");
    }
    let model = overall.methods.first().map_or(&[][..], |method| &method.levels);
    intervals(out, "model", model);
    if let Some(naive) = &overall.naive_intervals {
        let subset =
            if naive.series == *series { String::new() } else { format!(", {} series", naive.series) };
        if !subset.is_empty() {
            intervals(out, &format!("model{subset}"), &naive.model);
        }
        if naive_intervals == NaiveIntervals::Shown {
            intervals(out, &format!("naive{subset}"), &naive.naive);
        }
    }
}

fn intervals(out: &mut String, method: &str, levels: &[LevelMeans]) {
    for LevelMeans { level, coverage, scaled_interval_score } in levels {
        let (level, coverage) = (level_name(*level), percentage(*coverage));
        let score = optional_number(*scaled_interval_score);
        line!(out, "  {method:<14} {level:>7} interval: coverage {coverage}, scaled interval score {score}");
    }
}

/// Steps that represent the horizon: the first, the last and some between.
fn representative_steps(horizon: usize) -> Vec<usize> {
    let count = STEPS_MAX.min(horizon);
    let mut steps: Vec<usize> = (1..=count).map(|i| (horizon * i).div_ceil(count)).collect();
    steps.insert(0, 1);
    steps.dedup();
    steps
}

fn by_step(out: &mut String, report: &EvaluationReport) {
    let has_mase = report.by_step.iter().any(|step| step.mase[0].is_some());
    line!(out, "\n{} by step ahead", if has_mase { "MASE" } else { "MAE" });
    let mut header = format!("  {:<6}", "step");
    let levels = report.levels.iter().map(|level| format!("within {}", level_name(*level)));
    for name in report.methods.iter().cloned().chain(levels) {
        let _ = write!(header, "{name:>13}");
    }
    line!(out, "{header}");
    for step in representative_steps(report.horizon) {
        let scores = &report.by_step[step - 1];
        let mut row = format!("  {step:<6}");
        for method in 0..report.methods.len() {
            let value = if has_mase { scores.mase[method] } else { Some(scores.mae[method]) };
            let _ = write!(row, "{:>13}", optional_number(value));
        }
        for coverage in &scores.coverage {
            let _ = write!(row, "{:>13}", percentage(*coverage));
        }
        line!(out, "{row}");
    }
}

/// Coverage of the calibrated intervals and of the reference calibrators.
fn intervals_over_time(out: &mut String, report: &EvaluationReport) {
    if report.intervals.is_empty() {
        return;
    }
    line!(out, "\nintervals over time, {} series", report.series.len());
    line!(
        out,
        "  {:<6}{:<8}{:<14}{:>9}{:>11}{:>15}{:>11}{:>9}",
        "step",
        "level",
        "",
        "coverage",
        "max error",
        format!("min of {COVERAGE_WINDOW}"),
        "rel. score",
        "ties"
    );
    for interval in &report.intervals {
        for method in &interval.methods {
            line!(
                out,
                "  {:<6}{:<8}{:<14}{:>9}{:>11}{:>15}{:>11}{:>9}",
                interval.step,
                level_name(interval.level),
                method.method,
                percentage(method.coverage),
                percentage(method.max_coverage_error),
                method.min_rolling_coverage.map_or("-".to_owned(), percentage),
                number(method.relative_interval_score),
                percentage(method.ties)
            );
        }
    }
}

/// The model's error as a multiple of that of the best baseline.
pub fn error_ratio(series: &SeriesReport) -> f64 {
    series.methods[0].mae / series.methods[series.best_baseline].mae
}

pub fn verdict_text(comparison: &Comparison) -> String {
    let p_value = match comparison.p_value {
        None => String::new(),
        Some(p) if p < 0.001 => " (p < 0.001)".to_owned(),
        Some(p) => format!(" (p = {p:.3})"),
    };
    match comparison.verdict {
        Verdict::Better => format!("better{p_value}"),
        Verdict::Worse => format!("worse{p_value}"),
        Verdict::Inconclusive => format!("inconclusive{p_value}"),
        Verdict::TooShort => {
            format!("too short: {} origins of {}", comparison.origins, comparison.origins_min)
        }
    }
}

fn by_series(out: &mut String, report: &EvaluationReport) {
    let (mut scaled, flat): (Vec<&SeriesReport>, Vec<&SeriesReport>) =
        report.series.iter().partition(|series| series.naive_mae.is_some());
    let subset = if scaled.len() > SERIES_MAX {
        scaled.sort_by(|a, b| error_ratio(b).total_cmp(&error_ratio(a)));
        format!(" (the worst {SERIES_MAX} of {}; --json lists all)", scaled.len())
    } else {
        String::new()
    };
    scaled.truncate(SERIES_MAX);
    if !scaled.is_empty() {
        line!(out, "\nMASE by series, with the baseline that was best on the validation split{subset}");
        series_rows(out, report, &scaled, |series, method| series.methods[method].mase);
    }
    if !flat.is_empty() {
        let listed = &flat[..flat.len().min(SERIES_MAX)];
        let subset = if listed.len() < flat.len() {
            format!(" ({} of {})", listed.len(), flat.len())
        } else {
            String::new()
        };
        line!(
            out,
            "\nMAE of series without a naive error: constant or unobserved in the training split{subset}"
        );
        series_rows(out, report, listed, |series, method| Some(series.methods[method].mae));
    }
}

fn series_rows(
    out: &mut String,
    report: &EvaluationReport,
    listed: &[&SeriesReport],
    error: impl Fn(&SeriesReport, usize) -> Option<f64>,
) {
    let several_targets = report.series.iter().any(|series| series.target != report.series[0].target);
    let name = |series: &SeriesReport| match several_targets {
        true => format!("{} {}", series.series, series.target),
        false => series.series.clone(),
    };
    let width = listed.iter().map(|series| name(series).chars().count()).max().unwrap_or(0).max(6);
    let (title, forecasts, model, baseline, ratio) = ("series", "forecasts", "model", "baseline", "ratio");
    line!(out, "  {title:<width$}{forecasts:>10}{model:>9}{baseline:>9}  {:<14}{ratio:>7}", "");
    for series in listed {
        line!(
            out,
            "  {:<width$}{:>10}{:>9}{:>9}  {:<14}{:>7}  {}",
            name(series),
            series.forecasts,
            optional_number(error(series, 0)),
            optional_number(error(series, series.best_baseline)),
            report.methods[series.best_baseline],
            number(error_ratio(series)),
            verdict_text(&series.comparison)
        );
    }
}

/// The verdicts of the significance tests, in one sentence.
pub fn verdicts_text(report: &EvaluationReport) -> String {
    let counts = &report.verdicts;
    format!(
        "model against the best baseline of each series (Diebold-Mariano, {}): better on {}, worse on {}, inconclusive on {}, too \
         short on {}",
        level_name(SIGNIFICANCE_LEVEL),
        counts.better,
        counts.worse,
        counts.inconclusive,
        counts.too_short
    )
}

fn conclusion(out: &mut String, report: &EvaluationReport) {
    line!(out, "\n{}", verdicts_text(report));
    let error = |name: &str| {
        let method = report.overall.methods.iter().find(|method| method.method == name);
        method.map_or(f64::NAN, |method| method.mase.unwrap_or(method.pooled.mae))
    };
    line!(
        out,
        "best baseline on the validation split: {}; on the scored split the model has {:.3} times its error",
        report.best_baseline,
        error("model") / error(&report.best_baseline)
    );
}
