//! What a model file says of itself.

use std::fmt::Write;

use crate::config::duration_text;
use tidecast_core::model::{CellsPart, Model, Score};
use tidecast_core::network::StateKind;

/// The model for a reader.
pub fn text(model: &Model) -> String {
    let description = &model.description;
    let (rules, data) = (&description.rules, &description.data);
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{name:<14}{value}");
    };
    let names = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    line("model", model.hash.clone());
    line("parameters", model.parameters().to_string());
    if let (Some(part), Some(memory)) = (&description.memory, &model.memory) {
        let context = part.context.map_or(String::new(), |context| format!(" within {context} steps"));
        line(
            "memory",
            format!(
                "{} poles{context}, {} recent values, {} series with coefficients of their own",
                memory.poles.len(),
                part.recent,
                description.series.len()
            ),
        );
    }
    if let Some(CellsPart { network, segment, state, shares, .. }) = &description.cells {
        let reading = match state {
            StateKind::Window => format!("reading {} steps, {segment} at a time", description.lookback),
            StateKind::Carried => "with their state carried from step to step".to_owned(),
        };
        let embedding = match (network.embedding, network.series) {
            (0, _) => String::new(),
            (numbers, series) => format!(", and {numbers} numbers of each of {series} series"),
        };
        line(
            "cells",
            format!(
                "{} x {}, {} layer(s), {} decoder, {reading}{embedding}",
                network.cell, network.hidden, network.layers, network.decoder
            ),
        );
        let shares: Vec<String> =
            shares.iter().map(|share| format!("{} until step {}", share.share, share.until)).collect();
        line("", format!("believed {}", shares.join(", ")));
    }
    line("forecasts", format!("{} steps of {}", description.horizon, duration_text(rules.grid.every)));
    line(
        "warm",
        format!("after {} observed steps of a series", description.warm.max(description.lookback as u64)),
    );
    line("targets", names(&description.targets));
    line("covariates", names(&description.covariates));
    line("known ahead", names(&description.known_ahead));
    line("calendar", format!("{:?}", description.inputs.calendar));
    line("scaling", format!("{:?}", description.scaling));
    line(
        "steps",
        format!(
            "{:?} of their rows, gaps {:?} up to {}",
            rules.aggregate,
            rules.gaps,
            duration_text(rules.max_gap)
        ),
    );
    let from = "from the errors on the validation part";
    let learned: Vec<String> =
        description.probabilities().iter().map(|p| ((p * 1e4).round() / 1e4).to_string()).collect();
    let intervals = match &model.errors {
        None => "none".to_owned(),
        Some(errors) if errors.corrected.is_some() => {
            format!("{from}, of the cells' quantiles {} or else of the forecast", learned.join(", "))
        }
        Some(_) => from.to_owned(),
    };
    line("intervals", intervals);
    line(
        "trained on",
        format!("{} rows, {} series, {} to {}", data.rows, data.series, data.from, data.until),
    );
    line("", format!("learned until {}, validated until {}", data.trained_until, data.validated_until));
    line("data", format!("sha256 {}", data.fingerprint));
    line("recipe", description.recipe.to_string());
    out.push_str(&scores(&description.scores));
    out
}

/// Scores as a table.
pub fn scores(scores: &[Score]) -> String {
    let mut out = String::new();
    if scores.is_empty() {
        return "scores        none: the history left no part to score on\n".to_owned();
    }
    out.push_str("mean absolute error, in standard deviations of each series:\n");
    let _ = writeln!(
        out,
        "  {:<12}{:>10}{:>12}{:>14}{:>16}",
        "part", "forecasts", "this model", "repeat last", "seasonal naive"
    );
    for score in scores {
        let seasonal = match (score.seasonal_naive, score.season) {
            (Some(error), Some(season)) => format!("{error:.4} ({season})"),
            _ => "-".to_owned(),
        };
        let Score { part, forecasts, mae, repeat_last, .. } = score;
        let _ = writeln!(out, "  {part:<12}{forecasts:>10}{mae:>12.4}{repeat_last:>14.4}{seasonal:>16}");
    }
    out
}
