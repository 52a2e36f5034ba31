//! From a pipeline file to what the forecaster needs: the model it names, read and held against it.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};

use crate::config::{Pipeline, unread};
use tidecast_core::forecaster::{Scoring, Setup};
use tidecast_core::intervals::{Plan, WIDEST_LEVEL};
use tidecast_core::model::Model;
use tidecast_core::series::Scaling;

/// Bytes of a model file: its largest network, and its description, fit twice.
const MODEL_MAX: u64 = 4 << 30;

/// Reads a model file.
pub fn model(path: &Path) -> Result<Model> {
    let bytes = bytes(path)
        .map_err(|error| anyhow!("cannot read the model {}: {}", path.display(), unread(path, &error, "")))?;
    Model::from_bytes(&bytes).with_context(|| {
        format!("{} is not a model of tidecast (`train` and `adopt` write them)", path.display())
    })
}

/// The bytes of a file of tensors.
pub fn bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MODEL_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The model of a pipeline, with the way to one if there is none.
pub fn model_of(pipeline: &Pipeline) -> Result<Model> {
    let path = &pipeline.forecast.model;
    if !path.exists() {
        bail!(
            "there is no model {}; train one: tidecast train {} --data HISTORY --out {}",
            path.display(),
            pipeline.file.display(),
            path.display()
        );
    }
    model(path)
}

/// Everything the pipeline's partitions share.
///
/// # Errors
/// If the model cannot be read, or it and the pipeline disagree: all disagreements are named.
pub fn setup(pipeline: &Pipeline) -> Result<Arc<Setup>> {
    let model = model_of(pipeline).with_context(|| pipeline.file.display().to_string())?;
    let wrong: Vec<String> = disagreements(pipeline, &model).into_iter().map(|(_, text)| text).collect();
    let horizon = model.description.horizon;
    if !wrong.is_empty() {
        bail!(
            "{} and its model {} disagree: {}; make the pipeline as its model is, or train one for it",
            pipeline.file.display(),
            pipeline.forecast.model.display(),
            wrong.join("; ")
        );
    }
    Ok(Arc::new(Setup {
        columns: pipeline.columns.clone(),
        rules: pipeline.rules.clone(),
        every: pipeline.forecast.every,
        levels: pipeline.forecast.levels.clone(),
        corrects: true,
        scoring: pipeline.scores.as_ref().map(|scores| Scoring {
            horizons: scores.horizons.clone().unwrap_or_else(|| Plan::horizons_for(horizon)),
            every: scores.every.unwrap_or(horizon as u32),
        }),
        model: Arc::new(model),
        every_text: pipeline.every_text(),
        capacity: pipeline.limits.capacity(),
    }))
}

/// In what a model and a pipeline contradict each other: the keys of the pipeline, and how.
pub fn disagreements(pipeline: &Pipeline, model: &Model) -> Vec<(&'static str, String)> {
    let (ours, theirs) = (&pipeline.rules, &model.description.rules);
    let description = &model.description;
    let mut wrong = Vec::new();
    let mut differ = |key: &'static str, ours: String, theirs: String| {
        if ours != theirs {
            wrong.push((key, format!("{key} is {ours} here, the model was trained with {theirs}")));
        }
    };
    let duration = crate::config::duration_text;
    differ("grid.every", duration(ours.grid.every), duration(theirs.grid.every));
    differ("grid.aggregate", format!("{:?}", ours.aggregate), format!("{:?}", theirs.aggregate));
    differ("grid.gaps", format!("{:?}", ours.gaps), format!("{:?}", theirs.gaps));
    let list = |names: &[String]| format!("{names:?}");
    differ("columns.covariates", list(&pipeline.columns.covariates), list(&description.covariates));
    differ("columns.known_ahead", list(&pipeline.columns.known_ahead), list(&description.known_ahead));
    if description.scaling == Scaling::Fixed {
        // Each target has moments of its own.
        differ("columns.targets", list(&pipeline.columns.targets), list(&description.targets));
    }
    let levels = &pipeline.forecast.levels;
    if model.errors.is_none() && !levels.is_empty() {
        let text = "forecast.levels asks for intervals, but the model could not be validated on its history and has none: say []";
        wrong.push(("forecast.levels", text.to_owned()));
    }
    if let Some(level) = levels.iter().find(|level| **level > WIDEST_LEVEL) {
        let text = format!("forecast.levels has {level}, the model knows its errors up to {WIDEST_LEVEL}");
        wrong.push(("forecast.levels", text));
    }
    let beyond = |ahead: &&usize| **ahead > description.horizon;
    let scored = pipeline.scores.as_ref().and_then(|scores| scores.horizons.as_ref());
    if let Some(ahead) = scored.and_then(|horizons| horizons.iter().find(beyond)) {
        let text = format!("scores.horizons has {ahead}, the model forecasts {} steps", description.horizon);
        wrong.push(("scores.horizons", text));
    }
    wrong
}
