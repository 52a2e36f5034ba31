//! The page of a training: what was chosen and why, how the loss fell, the scores, and forecasts to look at.

use crate::config::Pipeline;
use tidecast_core::model::{Model, Penalty, Score};
use crate::report::{Axis, AxisKind, Band, Chart, Line, Page};
use tidecast_train::{Example, LEVEL, Outcome, Step};

/// The epochs of the cells as they went.
pub fn page(pipeline: &Pipeline, model: &Model, outcome: &Outcome, epochs: &[Step]) -> String {
    let mut page = Page::new(&format!("{}: training of {}", pipeline.name, model.hash));
    let data = &model.description.data;
    page.text(&format!(
        "{} rows of {} series, {} to {}; learned from what came until {}, validated until {}, the rest only scored. {} \
         numbers were fitted.",
        data.rows,
        data.series,
        data.from,
        data.until,
        data.trained_until,
        data.validated_until,
        model.parameters()
    ));
    page.heading("Scores");
    page.text(
        "Mean absolute error in standard deviations of each series, beside forecasts that cost nothing.",
    );
    let header = ["part", "forecasts", "this model", "repeat last", "seasonal naive"];
    page.table(&header, &model.description.scores.iter().map(score).collect::<Vec<_>>());
    if !outcome.choices.is_empty() {
        page.heading("What was chosen, and why");
        let rows = outcome.choices.iter().map(|choice| vec![choice.what.clone(), choice.why.clone()]);
        page.table(&["choice", "reason"], &rows.collect::<Vec<_>>());
    }
    if let Some(memory) = &model.description.memory {
        page.heading("How the memory was held small");
        page.text("Chosen on blocks of the training part left out in turn and on the validation part.");
        let rows = memory.penalties.iter().map(|penalty| {
            let Penalty { until, ridge, copied } = penalty;
            vec![until.to_string(), ridge.to_string(), copied.to_string()]
        });
        let header = ["until step", "ridge, in parts of the rows", "weight of own coefficients"];
        page.table(&header, &rows.collect::<Vec<_>>());
    }
    page.heading("Loss of the cells");
    if epochs.is_empty() {
        page.text("There were no cells to train.");
    } else {
        page.chart(&losses(epochs));
    }
    page.heading("Forecasts of the part that was only scored");
    for example in &outcome.examples {
        page.chart(&chart(example));
    }
    if outcome.examples.is_empty() {
        page.text("The history left no such part.");
    }
    page.html()
}

fn score(score: &Score) -> Vec<String> {
    vec![
        score.part.clone(),
        score.forecasts.to_string(),
        format!("{:.4}", score.mae),
        format!("{:.4}", score.repeat_last),
        score.seasonal_naive.map_or("-".into(), |naive| format!("{naive:.4}")),
    ]
}

/// Training may fit twice: a trial, whose cells are only judged, and the one that is kept.
fn losses(epochs: &[Step]) -> Chart {
    let mut lines = Vec::new();
    let fits = epochs.chunk_by(|a, b| a.epoch < b.epoch);
    let count = fits.clone().count();
    for (number, fit) in fits.enumerate() {
        let of = if count > 1 && number == 0 { "trial" } else { "kept" };
        let mut line = |name: &str, dashed: bool, value: fn(&Step) -> f64| {
            let points = fit.iter().map(|step| (step.epoch as f64, value(step))).collect();
            lines.push(Line { name: format!("{name}, {of}"), points, dashed });
        };
        line("training", true, |step| step.loss);
        line("validation", false, |step| step.validation.unwrap_or(f64::NAN));
    }
    let axis = |label: &str| Axis { label: label.into(), kind: AxisKind::Linear };
    Chart { title: "loss by epoch".into(), x: axis("epoch"), y: axis("loss"), lines, bands: vec![] }
}

fn chart(example: &Example) -> Chart {
    let points = |values: &[(i64, f64)]| values.iter().map(|(time, value)| (*time as f64, *value)).collect();
    let (id, target) = &example.series;
    let mut lines = vec![Line { name: "readings".into(), points: points(&example.readings), dashed: false }];
    // Forecasts follow one another: one line, broken between them.
    let (mut said, mut bounds) = (Vec::new(), Vec::new());
    for forecast in &example.forecasts {
        said.extend(forecast.values.iter().map(|(time, value)| (*time as f64, *value)));
        said.push((f64::NAN, f64::NAN));
        bounds.extend(forecast.bounds.iter().map(|(time, low, high)| (*time as f64, *low, *high)));
        bounds.push((f64::NAN, f64::NAN, f64::NAN));
    }
    lines.push(Line { name: "forecast".into(), points: said, dashed: false });
    let bands = match example.forecasts.iter().any(|forecast| !forecast.bounds.is_empty()) {
        true => vec![Band { name: format!("{:.0} % interval", LEVEL * 100.0), points: bounds }],
        false => vec![],
    };
    Chart {
        title: format!("{} of all series: {id} {target}, error {:.3}", example.rank, example.mae),
        x: Axis { label: "time (UTC)".into(), kind: AxisKind::Time },
        y: Axis { label: target.clone(), kind: AxisKind::Linear },
        lines,
        bands,
    }
}
