//! Cells without a memory beside it: where no season is known there is little to remember, and cells that see each window
//! in its own scale may say more of what is mostly calm and sometimes restless.

use std::ops::ControlFlow;

use super::{Choice, Outcome, Progress};
use crate::settings::{Train, TrainingSpec};
use tidecast_core::model::{Description, Model};
use tidecast_core::network::StateKind;
use tidecast_core::series::Scaling;

/// Cells alone are only taken where they leave less than this part of the error: less is chance.
const WORTH: f64 = 0.99;

/// The pipeline of cells alone; none where the recipe has no cells that read windows or no memory, or the memory of `model`
/// knows a season.
pub fn pipeline(pipeline: &TrainingSpec, model: &Model) -> Option<TrainingSpec> {
    let mix = model.description.memory.as_ref().and_then(|memory| memory.mix.as_ref());
    let has_season = mix.is_none_or(|mix| mix.season.is_some());
    let reads = pipeline.train.cell.is_some() && pipeline.train.state == StateKind::Window;
    (!has_season && reads).then(|| {
        let mut alone = pipeline.clone();
        alone.train = Train {
            memory: false,
            scaling: Scaling::WindowLast,
            // What has no season in its values has none in the hour.
            calendar: Vec::new(),
            ..alone.train
        };
        alone
    })
}

/// The error on the validation part over that of the last value. Both have forecasts at nearly the same times, not at quite
/// the same.
fn error(description: &Description) -> Option<f64> {
    let score = description.scores.iter().find(|score| score.part == "validation")?;
    (score.repeat_last > 0.0).then(|| score.mae / score.repeat_last)
}

/// The better one on the validation part; the first if that does not tell.
pub fn better(
    pipeline: &TrainingSpec,
    (first, mut outcome): (Model, Outcome),
    (alone, of_alone): (Model, Outcome),
) -> (Model, Outcome) {
    let errors = error(&first.description).zip(error(&alone.description));
    let Some((with, without)) = errors.filter(|_| of_alone.complete) else {
        outcome.complete &= of_alone.complete;
        return (first, outcome);
    };
    let why = format!(
        "on the validation part they err {without:.3} times as much as the last value alone, {with:.3} times with a memory"
    );
    let takes = without < WORTH * with;
    let what = if takes {
        "the cells forecast everything, without a memory"
    } else {
        "the memory is kept: the cells do not forecast alone"
    };
    outcome.choices.push(Choice { what: what.into(), why });
    if !takes {
        return (first, outcome);
    }
    let recipe = serde_json::to_value(&pipeline.train).unwrap_or_default();
    let description = Description { recipe, ..alone.description };
    let model = Model::new(description, None, alone.cells, alone.errors);
    (model, Outcome { choices: outcome.choices, ..of_alone })
}

/// What is said while cells alone are trained. What is kept to go on from stays that of the others, which are complete: where
/// there is no season histories are short, and learning from them anew is soon done.
pub fn quietly(
    report: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> impl FnMut(Progress<'_>) -> ControlFlow<()> + '_ {
    move |progress| match progress {
        Progress::Checkpoint(_) => ControlFlow::Continue(()),
        other => report(other),
    }
}
