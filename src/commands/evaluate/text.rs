//! An evaluation for a reader at a terminal.

use std::fmt::Write;

use tidecast_train::evaluate::{Comparison, Evaluation, LevelMeans, Overall, RECENT, SIGNIFICANT, Series, Verdict};
use tidecast_core::table::percent;

/// Series that are listed one by one, at most: a screenful. All are in the JSON document.
const SERIES_MAX: usize = 40;
/// Steps of the horizon that are printed, at most.
const STEPS_MAX: usize = 8;

pub fn text(found: &Evaluation) -> String {
    let mut out = String::new();
    let part = &found.part;
    line(
        &mut out,
        &format!(
            "{}, model {}: forecasts of {} steps of {}",
            found.pipeline, found.model, found.horizon, found.every
        ),
    );
    line(
        &mut out,
        &format!("scored: origins from {} to {}: {}", part.scored_from, part.scored_until, part.why),
    );
    let (fitted, chosen) = (&part.baselines_fitted_until, &part.baselines_chosen_until);
    line(&mut out, &format!("baselines: fitted until {fitted}, chosen until {chosen}"));
    found.notes.iter().for_each(|note| line(&mut out, &format!("note: {note}")));
    overall(&mut out, "scored part", &found.overall);
    if found.validation.forecasts > 0 {
        overall(&mut out, "validation part", &found.validation);
    }
    steps(&mut out, found);
    bands(&mut out, found);
    series(&mut out, found);
    verdicts(&mut out, found);
    out
}

fn line(out: &mut String, text: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{text}");
}

/// A number in few characters: of readings of any size, four digits.
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

pub fn maybe(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), number)
}

pub fn share(value: f64) -> String {
    if value.is_finite() { format!("{:.1} %", 100.0 * value) } else { "-".to_owned() }
}

/// Intervals along time: how often they held, at the worst of times too, and what they cost.
fn bands(out: &mut String, found: &Evaluation) {
    if found.intervals.is_empty() {
        return;
    }
    line(out, &format!("\nintervals as actuals arrive, over {} series", found.series.len()));
    let (recent, score) = (format!("worst {RECENT}"), "score/own");
    line(
        out,
        &format!(
            "  {:<6}{:<8}{:<14}{:>9}{:>10}{:>11}{:>11}{:>9}",
            "step", "level", "", "within", "farthest", recent, score, "ties"
        ),
    );
    for band in &found.intervals {
        for method in &band.methods {
            line(
                out,
                &format!(
                    "  {:<6}{:<8}{:<14}{:>9}{:>10}{:>11}{:>11}{:>9}",
                    band.step,
                    format!("{} %", percent(band.level)),
                    method.method,
                    share(method.coverage),
                    share(method.farthest),
                    method.worst_recent.map_or("-".to_owned(), share),
                    number(method.score_ratio),
                    share(method.ties),
                ),
            );
        }
    }
}

fn overall(out: &mut String, part: &str, overall: &Overall) {
    let Overall { series, series_with_scale, forecasts, methods, naive_intervals } = overall;
    let scaled = if series == series_with_scale {
        String::new()
    } else {
        format!(", {series_with_scale} with a scale")
    };
    line(out, &format!("\n{part}: {series} series{scaled}, {forecasts} forecasts"));
    line(
        out,
        &format!(
            "  {:<14}{:>9}{:>9}  |{:>9}{:>10}{:>9}{:>9}",
            "", "MASE", "sMAPE", "MAE", "MSE", "RMSE", "pinball"
        ),
    );
    line(out, &format!("  {:<14}{:>18}  |{:>37}", "", "mean over series", "over all values"));
    for of in methods {
        let pooled = &of.pooled;
        line(
            out,
            &format!(
                "  {:<14}{:>9}{:>9}  |{:>9}{:>10}{:>9}{:>9}",
                of.method,
                maybe(of.mase),
                number(of.smape),
                number(pooled.mae),
                number(pooled.mse),
                number(pooled.rmse),
                maybe(pooled.pinball)
            ),
        );
    }
    let ours = methods.first().map_or(&[][..], |of| &of.levels);
    intervals(out, "ours", ours);
    if let Some(beside) = naive_intervals {
        let which =
            if beside.series == *series { String::new() } else { format!(", {} series", beside.series) };
        if !which.is_empty() {
            intervals(out, &format!("ours{which}"), &beside.ours);
        }
        // Of the validation part itself, the quantiles would be those of its own residuals.
        if part == "scored part" {
            intervals(out, &format!("naive{which}"), &beside.naive);
        }
    }
}

fn intervals(out: &mut String, of: &str, levels: &[LevelMeans]) {
    for LevelMeans { level, coverage, scaled_interval_score } in levels {
        line(
            out,
            &format!(
                "  {:<14} {:>5} %: {} within, interval score {} scales",
                of,
                percent(*level),
                share(*coverage),
                maybe(*scaled_interval_score)
            ),
        );
    }
}

/// Steps of a horizon that stand for all of it: the first, the last, and some between.
pub fn some_steps(horizon: usize) -> Vec<usize> {
    let most = STEPS_MAX.min(horizon);
    let mut steps: Vec<usize> = (1..=most).map(|i| (horizon * i).div_ceil(most)).collect();
    steps.insert(0, 1);
    steps.dedup();
    steps
}

fn steps(out: &mut String, found: &Evaluation) {
    let scaled = found.by_step.iter().any(|step| step.mase[0].is_some());
    line(out, &format!("\n{} by step ahead", if scaled { "MASE" } else { "MAE" }));
    let mut head = format!("  {:<6}", "step");
    found.methods.iter().for_each(|method| write!(head, "{method:>13}").unwrap_or_default());
    found.levels.iter().for_each(|level| {
        write!(head, "{:>13}", format!("within {} %", percent(*level))).unwrap_or_default()
    });
    line(out, &head);
    for step in some_steps(found.horizon) {
        let at = &found.by_step[step - 1];
        let mut row = format!("  {step:<6}");
        for method in 0..found.methods.len() {
            let value = if scaled { at.mase[method] } else { Some(at.mae[method]) };
            let _ = write!(row, "{:>13}", maybe(value));
        }
        at.coverage.iter().for_each(|coverage| write!(row, "{:>13}", share(*coverage)).unwrap_or_default());
        line(out, &row);
    }
}

/// Error of ours as a multiple of the best baseline's.
pub fn ratio(series: &Series) -> f64 {
    series.methods[0].mae / series.methods[series.best].mae
}

pub fn verdict(comparison: &Comparison) -> String {
    let p = comparison
        .p
        .map_or(String::new(), |p| if p < 0.001 { " (p < 0.001)".into() } else { format!(" (p = {p:.3})") });
    match comparison.verdict {
        Verdict::Better => format!("better{p}"),
        Verdict::Worse => format!("worse{p}"),
        Verdict::CannotTell => format!("cannot tell{p}"),
        Verdict::TooShort => {
            format!("too short to tell: {} origins of {}", comparison.origins, comparison.origins_least)
        }
    }
}

fn series(out: &mut String, found: &Evaluation) {
    let (mut scaled, flat): (Vec<&Series>, Vec<&Series>) =
        found.series.iter().partition(|series| series.scale.is_some());
    let most = if scaled.len() > SERIES_MAX {
        scaled.sort_by(|a, b| ratio(b).total_cmp(&ratio(a)));
        format!(
            ", the {SERIES_MAX} of {} that are worst beside their best baseline; --json has all",
            scaled.len()
        )
    } else {
        String::new()
    };
    scaled.truncate(SERIES_MAX);
    if !scaled.is_empty() {
        line(
            out,
            &format!(
                "\nMASE by series, beside the baseline that was best for it on the validation part{most}"
            ),
        );
        rows(out, found, &scaled, |series, method| series.methods[method].mase);
    }
    if !flat.is_empty() {
        let listed = &flat[..flat.len().min(SERIES_MAX)];
        let more = if listed.len() < flat.len() {
            format!(", {} of {}", listed.len(), flat.len())
        } else {
            String::new()
        };
        line(
            out,
            &format!(
                "\nMAE of series without a scale (nothing varied or was observed in the training part){more}"
            ),
        );
        rows(out, found, listed, |series, method| Some(series.methods[method].mae));
    }
}

fn rows(
    out: &mut String,
    found: &Evaluation,
    listed: &[&Series],
    value: impl Fn(&Series, usize) -> Option<f64>,
) {
    let targets = found.series.iter().any(|series| series.target != found.series[0].target);
    let name = |series: &Series| match targets {
        true => format!("{} {}", series.series, series.target),
        false => series.series.clone(),
    };
    let width = listed.iter().map(|series| name(series).chars().count()).max().unwrap_or(0).max(6);
    line(
        out,
        &format!(
            "  {:<width$}{:>10}{:>9}{:>9}  {:<14}{:>7}",
            "series", "forecasts", "ours", "beside", "", "ratio"
        ),
    );
    for series in listed {
        line(
            out,
            &format!(
                "  {:<width$}{:>10}{:>9}{:>9}  {:<14}{:>7}  {}",
                name(series),
                series.forecasts,
                maybe(value(series, 0)),
                maybe(value(series, series.best)),
                found.methods[series.best],
                number(ratio(series)),
                verdict(&series.comparison)
            ),
        );
    }
}

fn verdicts(out: &mut String, found: &Evaluation) {
    let of = &found.verdicts;
    let short =
        if of.too_short > 0 { format!(", on {} too short to tell", of.too_short) } else { String::new() };
    line(
        out,
        &format!(
            "\nours against the best baseline of each series (Diebold-Mariano, {} %): better on {}, worse on {}, cannot tell on {}{short}",
            percent(SIGNIFICANT),
            of.better,
            of.worse,
            of.cannot_tell
        ),
    );
    let mase = |name: &str| {
        let means = found.overall.methods.iter().find(|means| means.method == name);
        means.map(|means| means.mase.unwrap_or(means.pooled.mae)).unwrap_or(f64::NAN)
    };
    line(
        out,
        &format!(
            "best baseline over all series on the validation part: {}; on the scored part ours has {:.3} times its error",
            found.best,
            mase("ours") / mase(&found.best)
        ),
    );
}
