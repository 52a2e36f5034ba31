//! A training run as an HTML page: errors, decisions, regularization, loss curves and example forecasts.

use tidecast_core::model::{Model, Penalty, Score};
use tidecast_train::{BatchReport, EXAMPLE_LEVEL, ExampleSeries, TrainingReport};

use super::{Axis, AxisKind, Band, BandPoint, Chart, Line, Page};
use crate::config::Pipeline;

/// `epochs` are the reports at the end of each epoch, of all training runs of the cells.
pub fn page(pipeline: &Pipeline, model: &Model, report: &TrainingReport, epochs: &[BatchReport]) -> String {
    let mut page = Page::new(&format!("{}: training of {}", pipeline.name, model.hash));
    let data = &model.manifest.data;
    page.text(&format!(
        "{} rows of {} series, {} to {}; training split until {}, validation split until {}, test split after that. {} parameters.",
        data.rows,
        data.series,
        data.start,
        data.end,
        data.train_end,
        data.validation_end,
        model.parameters()
    ));
    page.heading("Errors");
    page.text("Mean absolute errors in standard deviations of each series, next to naive forecasts.");
    let header = ["split", "forecasts", "model", "naive", "seasonal naive"];
    page.table(&header, &model.manifest.scores.iter().map(score_row).collect::<Vec<_>>());
    if !report.decisions.is_empty() {
        page.heading("Decisions");
        let rows = report.decisions.iter();
        let rows = rows.map(|decision| vec![decision.action.clone(), decision.reason.clone()]);
        page.table(&["decision", "reason"], &rows.collect::<Vec<_>>());
    }
    if let Some(recurrence) = &model.manifest.recurrence {
        page.heading("Regularization of the readout");
        page.text(
            "Selected by cross-validation on blocks of the training split, and on the validation split.",
        );
        let rows = recurrence.penalties.iter().map(|penalty| {
            let Penalty { end, ridge, per_series } = penalty;
            vec![end.to_string(), ridge.to_string(), per_series.to_string()]
        });
        let header = ["until step", "ridge, relative to the rows", "scale of per-series features"];
        page.table(&header, &rows.collect::<Vec<_>>());
    }
    page.heading("Loss of the cells");
    if epochs.is_empty() {
        page.text("No cells were trained.");
    } else {
        page.chart(&loss_chart(epochs));
    }
    page.heading("Forecasts of the test split");
    for example in &report.examples {
        page.chart(&example_chart(example));
    }
    if report.examples.is_empty() {
        page.text("The history is too short for a test split.");
    }
    page.html()
}

fn score_row(score: &Score) -> Vec<String> {
    vec![
        score.split.name().to_owned(),
        score.forecasts.to_string(),
        format!("{:.4}", score.mae),
        format!("{:.4}", score.naive_mae),
        score.seasonal_naive_mae.map_or("-".into(), |naive| format!("{naive:.4}")),
    ]
}

/// The cells may be trained twice: a trial, which only decides whether they are used, and the final training.
fn loss_chart(epochs: &[BatchReport]) -> Chart {
    let mut lines = Vec::new();
    let runs = epochs.chunk_by(|a, b| a.epoch < b.epoch);
    let count = runs.clone().count();
    for (index, run) in runs.enumerate() {
        let run_name = if count > 1 && index == 0 { "trial" } else { "final" };
        let mut line = |name: &str, dashed: bool, loss: fn(&BatchReport) -> f64| {
            let points = run.iter().map(|report| (report.epoch as f64, loss(report))).collect();
            lines.push(Line { name: format!("{name}, {run_name}"), points, dashed });
        };
        line("training", true, |report| report.loss);
        line("validation", false, |report| report.validation_loss.unwrap_or(f64::NAN));
    }
    let axis = |label: &str| Axis { label: label.into(), kind: AxisKind::Linear };
    Chart { title: "loss by epoch".into(), x: axis("epoch"), y: axis("loss"), lines, bands: vec![] }
}

fn example_chart(example: &ExampleSeries) -> Chart {
    let (id, target) = (&example.series.id, &example.series.target);
    let observations = example.observations.iter().map(|(time, value)| (*time as f64, *value)).collect();
    let mut lines = vec![Line { name: "observations".into(), points: observations, dashed: false }];
    // One line for all forecasts: NaN separates consecutive ones.
    let (mut values, mut bounds) = (Vec::new(), Vec::new());
    for forecast in &example.forecasts {
        values.extend(forecast.values.iter().map(|(time, value)| (*time as f64, *value)));
        values.push((f64::NAN, f64::NAN));
        bounds.extend(forecast.bounds.iter().map(|&(time, lower, upper)| BandPoint {
            x: time as f64,
            lower,
            upper,
        }));
        bounds.push(BandPoint::BREAK);
    }
    lines.push(Line { name: "forecast".into(), points: values, dashed: false });
    let has_intervals = example.forecasts.iter().any(|forecast| !forecast.bounds.is_empty());
    let interval = Band { name: format!("{:.0} % interval", EXAMPLE_LEVEL * 100.0), points: bounds };
    Chart {
        title: format!("{} series: {id} {target}, error {:.3}", example.rank.name(), example.mae),
        x: Axis { label: "time (UTC)".into(), kind: AxisKind::Time },
        y: Axis { label: target.clone(), kind: AxisKind::Linear },
        lines,
        bands: if has_intervals { vec![interval] } else { vec![] },
    }
}
