//! Learning from history, offline. The history goes through the same first half of the line as live rows do, so what is
//! learned from is what will be read while serving. Knows no file and no terminal; knows threads, but no result depends
//! on them.

mod fit;
mod history;
mod scores;
mod shards;
mod windows;

use std::ops::ControlFlow;

use anyhow::{Result, ensure};

pub use fit::Step;
pub use history::{History, Period, Recorder, Segment};
pub use windows::{Origin, Split, Windows, origins};

use crate::config::{Pipeline, Train};
use crate::model::{DataSummary, Description, Model};
use crate::network::{Network, Shape};
use crate::series::{Gaps, InputSpec, Moments, Running};
use crate::table::time_text;

/// Windows that training and validation have, and how the training went.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    pub trained: usize,
    pub validated: usize,
    pub tested: usize,
    /// The epoch whose weights were kept.
    pub epoch: usize,
}

/// Trains a model for `pipeline` by its recipe. `data` says where the history came from; its times are filled in here.
/// `report` is called after every minibatch and may break off.
///
/// # Errors
/// If the history is too short for the recipe; the error says by how much.
pub fn train(
    pipeline: &Pipeline,
    history: &History,
    data: DataSummary,
    report: impl FnMut(Step) -> ControlFlow<()>,
) -> Result<(Model, Outcome)> {
    let recipe = &pipeline.train;
    let rules = &pipeline.rules;
    let split = Split::of(history, recipe.train_part, recipe.validation_part);
    let Some(split) = split else { anyhow::bail!("the history is empty: no row of it was used") };
    let mut description = describe(pipeline, history, split, data);
    let part = |from, until| origins(history, &description, from, until);
    let trained = part(split.first, split.train_end);
    let validated = part(split.train_end, split.validation_end);
    let tested = part(split.validation_end, split.end);
    ensure!(
        !trained.is_empty(),
        "nothing to learn from: the training part is {} steps of {}, a window takes {} to read and {} to forecast \
         without a gap longer than max_gap; give more history, or a shorter lookback or horizon",
        split.train_end - split.first,
        pipeline.every_text(),
        description.lookback,
        recipe.horizon
    );
    let network = Network::new(description.network, recipe.seed)?;
    let windows = Windows { history, description: &description, rules };
    let fitted = fit::fit(recipe, &windows, network, &trained, &validated, report);
    let season = scores::season(rules.grid.every, split.train_end - split.first);
    let spreads = scores::spreads(&windows, split.train_end);
    let evaluate =
        |part: &[Origin], name| scores::evaluate(&windows, &fitted.network, part, &spreads, season, name);
    let (validation, test) = (evaluate(&validated, "validation"), evaluate(&tested, "test"));
    let outcome = Outcome {
        trained: trained.len(),
        validated: validated.len(),
        tested: tested.len(),
        epoch: fitted.epoch,
    };
    let scores =
        [&validation, &test].into_iter().flatten().map(|evaluation| evaluation.score.clone()).collect();
    description.scores = scores;
    let errors = validation.and_then(|evaluation| evaluation.errors);
    Ok((Model::new(description, fitted.network, errors), outcome))
}

fn describe(pipeline: &Pipeline, history: &History, split: Split, data: DataSummary) -> Description {
    let Train { cell, hidden, layers, lookback, horizon, decoder, scaling, .. } = pipeline.train;
    let (columns, rules) = (&pipeline.columns, &pipeline.rules);
    let inputs = InputSpec {
        mask: rules.gaps == Gaps::Missing,
        covariates: covariate_moments(pipeline, history, split),
        calendar: pipeline.train.calendar.clone(),
        known_ahead: known_moments(pipeline, history, split),
    };
    let time = |step: i64| time_text(rules.grid.start_of(step));
    Description {
        format: Description::FORMAT,
        network: Shape {
            cell,
            inputs: inputs.width(),
            hidden,
            layers,
            horizon,
            known: inputs.known_ahead.len(),
            decoder,
        },
        lookback,
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

/// Moments of all observed values of each target in the training part.
fn target_moments(pipeline: &Pipeline, history: &History, split: Split) -> Vec<Moments> {
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
fn covariate_moments(pipeline: &Pipeline, history: &History, split: Split) -> Vec<Moments> {
    let mut sums = vec![Running::default(); pipeline.columns.covariates.len()];
    for period in &history.periods {
        for (sum, track) in sums.iter_mut().zip(&period.covariates) {
            let trained = track.known().take_while(|(step, _)| *step < split.train_end);
            trained.for_each(|(_, value)| sum.add(value));
        }
    }
    sums.iter().map(Running::moments).collect()
}

fn known_moments(pipeline: &Pipeline, history: &History, split: Split) -> Vec<Moments> {
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
