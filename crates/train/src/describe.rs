//! What a recipe makes of a pipeline and a history, before anything is learned: the description of a model without what is
//! chosen and fitted.

use super::History;
use super::windows::Split;
use crate::settings::{Train, TrainingSpec};
use tidecast_core::model::{CellsPart, DataSummary, Description};
use tidecast_core::network::{Shape, StateKind};
use tidecast_core::series::{Gaps, InputSpec, Moments, Running};
use tidecast_core::table::time_text;

/// The description of a model that knows so many `series` by name, if it is to know any.
pub(super) fn describe(
    pipeline: &TrainingSpec,
    history: &History,
    series: Vec<(String, String)>,
    split: Split,
    data: DataSummary,
) -> Description {
    let Train { memory, embedding, state, .. } = pipeline.train;
    let Train { cell, hidden, layers, segment, lookback, horizon, decoder, scaling, .. } = pipeline.train;
    let (columns, rules) = (&pipeline.columns, &pipeline.rules);
    let (carries, reads) = match (cell, state) {
        (Some(_), StateKind::Carried) => (true, false),
        (Some(_), StateKind::Window) => (false, true),
        (None, _) => (false, false),
    };
    let inputs = InputSpec {
        change: carries,
        mask: rules.gaps == Gaps::Missing,
        covariates: covariate_moments(pipeline, history, split),
        calendar: pipeline.train.calendar.clone(),
        known_ahead: known_moments(pipeline, history, split),
    };
    let time = |step: i64| time_text(rules.grid.start_of(step));
    let (width, known) = (inputs.width() * segment, inputs.known_ahead.len());
    let levels = if pipeline.train.quantiles { &pipeline.levels[..] } else { &[] };
    let probabilities = tidecast_core::intervals::probabilities(levels);
    let quantiles = probabilities.len();
    let embedded = if embedding > 0 { series.len() } else { 0 };
    let network = |cell| Shape {
        cell,
        inputs: width,
        hidden,
        layers,
        horizon,
        known,
        quantiles,
        embedding,
        series: embedded,
        decoder,
    };
    let cells =
        |cell| CellsPart { network: network(cell), segment, state, shares: Vec::new(), probabilities };
    Description {
        format: Description::FORMAT,
        horizon,
        // A carried state reads one step at a time, but needs as many as it was warmed by.
        lookback: if reads { whole(lookback, &pipeline.train) } else { 1 },
        warm: if carries { lookback as u64 } else { 0 },
        // Without a memory and an embedding nothing of a series is its own.
        series: if memory || embedded > 0 { series } else { Vec::new() },
        memory: None,
        cells: cell.map(cells),
        rules: rules.clone(),
        targets: columns.targets.clone(),
        covariates: columns.covariates.clone(),
        known_ahead: columns.known_ahead.clone(),
        inputs,
        scaling,
        moments: target_moments(pipeline, history, split),
        recipe: serde_json::to_value(&pipeline.train).unwrap_or_default(),
        data: DataSummary {
            series: history.ids.len(),
            from: time(split.first),
            until: time(split.end),
            trained_until: time(split.train_end),
            validated_until: time(split.validation_end),
            ..data
        },
        scores: Vec::new(),
    }
}

/// So many steps and what fills up the last segment of them.
pub(super) fn whole(steps: usize, recipe: &Train) -> usize {
    if recipe.cell.is_some() { steps.next_multiple_of(recipe.segment) } else { steps }
}

/// Moments of all observed values of each target in the training part.
fn target_moments(pipeline: &TrainingSpec, history: &History, split: Split) -> Vec<Moments> {
    let mut sums = vec![Running::default(); pipeline.columns.targets.len()];
    for segment in &history.segments {
        for (place, value) in segment.values.iter().enumerate() {
            if segment.observed[place] && segment.step(place) < split.train_end {
                sums[segment.target].add(*value);
            }
        }
    }
    sums.iter().map(Running::moments).collect()
}

/// Moments of each covariate at all steps of the training part where it was known.
fn covariate_moments(pipeline: &TrainingSpec, history: &History, split: Split) -> Vec<Moments> {
    let mut sums = vec![Running::default(); pipeline.columns.covariates.len()];
    for period in &history.periods {
        for (sum, track) in sums.iter_mut().zip(&period.covariates) {
            let trained = track.known().take_while(|(step, _)| *step < split.train_end);
            trained.for_each(|(_, value)| sum.add(value));
        }
    }
    sums.iter().map(Running::moments).collect()
}

fn known_moments(pipeline: &TrainingSpec, history: &History, split: Split) -> Vec<Moments> {
    let (known, horizon) = (pipeline.columns.known_ahead.len(), pipeline.train.horizon);
    let mut sums = vec![Running::default(); known];
    let steps = history.periods.iter().flat_map(|period| period.ahead.range(..split.train_end));
    for (_, ahead) in steps {
        for (sum, values) in sums.iter_mut().zip(ahead.chunks(horizon)) {
            values.iter().filter(|value| value.is_finite()).for_each(|value| sum.add(*value));
        }
    }
    sums.iter().map(Running::moments).collect()
}
