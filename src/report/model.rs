//! The content of a model: as text, as JSON, and as a summary for the dashboard.

use std::fmt::Write;

use serde::Serialize;

use tidecast_core::model::{BlendWeight, CellsSpec, DataSummary, Model, Score};
use tidecast_core::network::{CellKind, Decoder, StateKind};
use tidecast_core::series::{Aggregate, Calendar, GapFill, Scaling};
use tidecast_core::time::duration_text;

/// The model for a reader: one line per property.
pub fn text(model: &Model) -> String {
    let manifest = &model.manifest;
    let (step, data) = (&manifest.step_config, &manifest.data);
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{name:<20}{value}");
    };
    let names = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    line("model", model.hash.clone());
    line("parameters", model.parameters().to_string());
    if let (Some(spec), Some(recurrence)) = (&manifest.recurrence, &model.recurrence) {
        let window = spec.window.map_or(String::new(), |window| format!(" within {window} steps"));
        let (poles, recent, series) = (recurrence.poles.len(), spec.recent_values, manifest.series.len());
        let text = format!(
            "{poles} poles{window}, {recent} recent values, {series} series with coefficients of their own"
        );
        line("recurrence", text);
    }
    if let Some(cells) = &manifest.cells {
        line("cells", cells_text(cells, manifest.lookback));
        let weights = cells.blend_weights.iter();
        let weights: Vec<String> =
            weights.map(|bucket| format!("{} until step {}", bucket.weight, bucket.end)).collect();
        line("", format!("blend weights {}", weights.join(", ")));
    }
    line("horizon", format!("{} steps of {}", manifest.horizon, duration_text(step.grid.every)));
    line("warm-up", format!("{} observed steps of a series", manifest.warmup.max(manifest.lookback as u64)));
    line("targets", names(&manifest.targets));
    line("covariates", names(&manifest.covariates));
    line("future covariates", names(&manifest.future_covariates));
    line("calendar", format!("{:?}", manifest.inputs.calendar));
    line("scaling", format!("{:?}", manifest.scaling));
    let max_gap = duration_text(step.max_gap);
    line("steps", format!("{:?} of their rows, gaps up to {max_gap}: {:?}", step.aggregate, step.gap_fill));
    line("intervals", intervals_text(model));
    line("trained on", format!("{} rows, {} series, {} to {}", data.rows, data.series, data.start, data.end));
    line("", format!("training until {}, validation until {}", data.train_end, data.validation_end));
    line("data", format!("sha256 {}", data.fingerprint));
    line("training", manifest.training.to_string());
    out.push_str(&scores_table(&manifest.scores));
    out
}

fn cells_text(cells: &CellsSpec, lookback: usize) -> String {
    let CellsSpec { network, segment, state, .. } = cells;
    let state = match state {
        StateKind::Window => format!("window of {lookback} steps in segments of {segment}"),
        StateKind::Carried => "carried state".to_owned(),
    };
    let embedding = match (network.embedding, network.series) {
        (0, _) => String::new(),
        (numbers, series) => format!(", {numbers} embedding values for each of {series} series"),
    };
    format!(
        "{} x {}, {} layer(s), {} decoder, {state}{embedding}",
        network.cell, network.hidden, network.layers, network.decoder
    )
}

fn intervals_text(model: &Model) -> String {
    let from_validation = "from the errors on the validation split";
    match &model.residuals {
        None => "none".to_owned(),
        Some(residuals) if residuals.offsets.is_some() => {
            let probabilities = model.manifest.probabilities().iter();
            let probabilities: Vec<String> =
                probabilities.map(|p| ((p * 1e4).round() / 1e4).to_string()).collect();
            format!("{from_validation}, around the learned quantiles {}", probabilities.join(", "))
        }
        Some(_) => from_validation.to_owned(),
    }
}

/// The errors of a model and of the naive baselines, as a table.
pub fn scores_table(scores: &[Score]) -> String {
    if scores.is_empty() {
        return "scores              none: the history was too short for a split to score\n".to_owned();
    }
    let mut out = "mean absolute error, in standard deviations of each series:\n".to_owned();
    let (split, forecasts, model, naive, seasonal) =
        ("split", "forecasts", "model", "naive", "seasonal naive");
    let _ = writeln!(out, "  {split:<12}{forecasts:>10}{model:>12}{naive:>14}{seasonal:>16}");
    for Score { split, forecasts, mae, naive_mae, seasonal_naive_mae, season } in scores {
        let seasonal = match (seasonal_naive_mae, season) {
            (Some(error), Some(season)) => format!("{error:.4} ({season})"),
            _ => "-".to_owned(),
        };
        let split = split.name();
        let _ = writeln!(out, "  {split:<12}{forecasts:>10}{mae:>12.4}{naive_mae:>14.4}{seasonal:>16}");
    }
    out
}

/// The main properties of a model, by name; the hash first.
pub fn summary(model: &Model) -> Vec<(String, String)> {
    let manifest = &model.manifest;
    let (step, data) = (&manifest.step_config, &manifest.data);
    let mut lines = vec![
        ("hash".to_owned(), model.hash.clone()),
        ("parameters".to_owned(), with_separators(model.parameters())),
    ];
    let mut line = |name: &str, value: String| lines.push((name.to_owned(), value));
    if let Some(recurrence) = &model.recurrence {
        line("recurrence", format!("{} poles", recurrence.poles.len()));
    }
    if let Some(CellsSpec { network, state, .. }) = &manifest.cells {
        let state = match state {
            StateKind::Window => format!("window of {} steps", manifest.lookback),
            StateKind::Carried => "carried state".to_owned(),
        };
        line("cells", format!("{} x {}, {} layer(s), {state}", network.cell, network.hidden, network.layers));
    }
    line("horizon", format!("{} steps of {}", manifest.horizon, duration_text(step.grid.every)));
    line("trained on", format!("{} rows of {} series", with_separators(data.rows), data.series));
    line("history", format!("{} to {}", data.start, data.end));
    line("training until", data.train_end.clone());
    for score in &manifest.scores {
        let seasonal =
            score.seasonal_naive_mae.map_or(String::new(), |error| format!(", seasonal naive {error:.3}"));
        let text = format!("{:.3}, naive {:.3}{seasonal}", score.mae, score.naive_mae);
        line(&format!("{} error", score.split.name()), text);
    }
    lines
}

/// A count with thousands separators.
fn with_separators(count: u64) -> String {
    let digits = count.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group));
    groups.collect::<Vec<_>>().join(",")
}

/// The model as JSON.
#[derive(Serialize)]
pub struct ModelJson<'a> {
    kind: &'static str,
    hash: &'a str,
    parameters: u64,
    recurrence: Option<RecurrenceJson>,
    cells: Option<CellsJson<'a>>,
    horizon: usize,
    every: String,
    /// Observed steps of a series before its first forecast.
    warmup: u64,
    lookback: usize,
    targets: &'a [String],
    covariates: &'a [String],
    future_covariates: &'a [String],
    calendar: &'a [Calendar],
    scaling: Scaling,
    aggregate: Aggregate,
    gap_fill: GapFill,
    max_gap: String,
    intervals: Option<IntervalsJson<'a>>,
    data: &'a DataSummary,
    training: &'a serde_json::Value,
    scores: &'a [Score],
}

#[derive(Serialize)]
struct RecurrenceJson {
    poles: usize,
    window: Option<usize>,
    recent_values: usize,
    /// Series with coefficients of their own.
    series: usize,
}

#[derive(Serialize)]
struct CellsJson<'a> {
    cell: CellKind,
    hidden: usize,
    layers: usize,
    decoder: Decoder,
    state: StateKind,
    segment: usize,
    /// Values of the embedding of a series, and the number of series.
    embedding: usize,
    series: usize,
    blend_weights: &'a [BlendWeight],
}

#[derive(Serialize)]
struct IntervalsJson<'a> {
    /// Probabilities of the learned quantiles; empty if the intervals depend on the validation errors alone.
    quantiles: &'a [f64],
}

impl<'a> ModelJson<'a> {
    pub fn new(model: &'a Model) -> Self {
        let manifest = &model.manifest;
        let recurrence = manifest.recurrence.as_ref().zip(model.recurrence.as_ref());
        let recurrence = recurrence.map(|(spec, recurrence)| RecurrenceJson {
            poles: recurrence.poles.len(),
            window: spec.window,
            recent_values: spec.recent_values,
            series: manifest.series.len(),
        });
        let cells = manifest.cells.as_ref();
        let cells = cells.map(|CellsSpec { network, segment, state, blend_weights, .. }| CellsJson {
            cell: network.cell,
            hidden: network.hidden,
            layers: network.layers,
            decoder: network.decoder,
            state: *state,
            segment: *segment,
            embedding: network.embedding,
            series: network.series,
            blend_weights,
        });
        let intervals = model.residuals.as_ref().map(|residuals| IntervalsJson {
            quantiles: if residuals.offsets.is_some() { manifest.probabilities() } else { &[] },
        });
        Self {
            kind: "model",
            hash: &model.hash,
            parameters: model.parameters(),
            recurrence,
            cells,
            horizon: manifest.horizon,
            every: duration_text(manifest.step_config.grid.every),
            warmup: manifest.warmup.max(manifest.lookback as u64),
            lookback: manifest.lookback,
            targets: &manifest.targets,
            covariates: &manifest.covariates,
            future_covariates: &manifest.future_covariates,
            calendar: &manifest.inputs.calendar,
            scaling: manifest.scaling,
            aggregate: manifest.step_config.aggregate,
            gap_fill: manifest.step_config.gap_fill,
            max_gap: duration_text(manifest.step_config.max_gap),
            intervals,
            data: &manifest.data,
            training: &manifest.training,
            scores: &manifest.scores,
        }
    }
}
