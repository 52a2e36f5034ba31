//! Learning from history, offline. The history goes through the same first half of the line as live rows do, so what is
//! learned from is what will be read while serving. Knows no file and no terminal; knows threads, but no result depends
//! on them.
//!
//! The memory's readout is solved first, in closed form; the cells learn what it leaves over, and how much of what they
//! say is believed is chosen on the validation part.

pub mod adopt;
mod alone;
mod cells;
mod checkpoint;
mod choices;
mod describe;
mod dropout;
pub mod evaluate;
mod examples;
mod fit;
mod history;
mod material;
mod mix;
mod quantiles;
mod readings;
mod regression;
mod replay;
mod schedule;
mod scores;
mod sequences;
pub mod settings;
pub mod shards;
mod shares;
mod solutions;
mod targets;
mod walk;
mod windows;

use std::ops::ControlFlow;

use anyhow::{Context, Result, ensure};

pub use checkpoint::Checkpoint;
pub use choices::Choice;
pub use examples::{Example, LEVEL, Shown};
pub use fit::Step;
pub use history::{History, Period, Recorder, Segment};
pub use replay::Along;
pub use settings::{Train, TrainingSpec};
pub use walk::{Lane, lanes, walk};
pub use windows::{Origin, Split, Windows, origins};

use crate::settings::TrainingSpec;
use tidecast_core::model::{DataSummary, Description, Model, Remembering};
use tidecast_core::network::memory::{Memory, Readout};
use tidecast_core::series::Scaling;
use cells::{Learned, Stage, Taught};
use describe::{describe, whole};
use readings::RECENT;
use regression::{BLOCKS, Regression};
use solutions::Coefficients;

/// Most windows that the cells learn from: more of a history teach little that is new, and these take hours already.
const MOST_TRAINED: usize = 1_000_000;
/// Most windows of a part that are scored: at this number the standard error of the mean is far below a percent, and a
/// history of years costs seconds.
const MOST_SCORED: usize = 50_000;
/// Numbers of targets that are held at once, at most: 256 MiB.
const NUMBERS: usize = 64 << 20;

/// Windows that training and validation have, and how the training went.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub trained: usize,
    pub validated: usize,
    pub tested: usize,
    /// The epoch whose weights were kept; `None` without cells.
    pub epoch: Option<usize>,
    pub choices: Vec<Choice>,
    /// Forecasts of the part that is only scored.
    pub examples: Vec<Example>,
    /// Whether the cells, if there are any, learned all that the recipe asks for.
    pub complete: bool,
}

/// What training tells while it goes on.
#[derive(Clone, Debug)]
pub enum Progress<'a> {
    /// Chosen, from the grid and the history or by what was learned.
    Chose(&'a [Choice]),
    /// The sums of the memory's regression are gathered.
    Gathering,
    /// The memory's readout is there, solved from so many rows.
    Remembers { rows: u64 },
    /// Learning goes on where a checkpoint left it, after so many epochs.
    Resumes { epochs: usize },
    /// The checkpoint that was given is not one to go on from, and why: learning begins anew.
    Ignores { why: String },
    /// A minibatch of the cells is done.
    Step(Step),
    /// An epoch is over, or learning was broken off: this is what it could go on from.
    Checkpoint(Checkpoint<'a>),
}

/// Trains a model for `pipeline` by its recipe. `data` says where the history came from; its times are filled in here.
/// `report` is called now and then and may break off.
///
/// # Errors
/// If the history is too short for the recipe; the error says by how much.
pub fn train(
    pipeline: &TrainingSpec,
    history: &History,
    data: DataSummary,
    report: impl FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<(Model, Outcome)> {
    resume(pipeline, history, data, None, report)
}

/// As [`train`], going on from the bytes of a checkpoint if it is one of the same recipe and history: what comes of it is,
/// bit for bit, what would have come without the break.
///
/// # Errors
/// As those of [`train`].
pub fn resume(
    pipeline: &TrainingSpec,
    history: &History,
    data: DataSummary,
    checkpoint: Option<&[u8]>,
    mut report: impl FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<(Model, Outcome)> {
    learn(pipeline, history, data, parts(pipeline, history)?, checkpoint, &mut report)
}

/// The parts of a history by the recipe.
fn parts(pipeline: &TrainingSpec, history: &History) -> Result<Split> {
    let crate::settings::Train { train_part, validation_part, .. } = pipeline.train;
    Split::of(history, train_part, validation_part)
}

/// As [`train`], with the parts of the history given.
///
/// # Errors
/// As those of [`train`].
pub fn train_parts(
    pipeline: &TrainingSpec,
    history: &History,
    data: DataSummary,
    split: Split,
    report: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<(Model, Outcome)> {
    learn(pipeline, history, data, split, None, report)
}

/// Trains by the recipe, and where that may be better by one without a memory.
fn learn(
    pipeline: &TrainingSpec,
    history: &History,
    data: DataSummary,
    split: Split,
    checkpoint: Option<&[u8]>,
    report: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<(Model, Outcome)> {
    let first = learn_one(pipeline, history, data.clone(), split, checkpoint, report)?;
    let Some(other) = alone::pipeline(pipeline, &first.0).filter(|_| first.1.complete) else {
        return Ok(first);
    };
    let second = learn_one(&other, history, data, split, None, &mut alone::quietly(report));
    match second {
        Ok(second) => {
            let said = first.1.choices.len();
            let better = alone::better(pipeline, first, second);
            let _ = report(Progress::Chose(&better.1.choices[said..]));
            Ok(better)
        }
        // A longer window may not fit into the history.
        Err(why) => {
            let (model, mut outcome) = first;
            outcome.choices.push(Choice { what: "cells alone are not tried".into(), why: why.to_string() });
            let _ = report(Progress::Chose(&outcome.choices[outcome.choices.len() - 1..]));
            Ok((model, outcome))
        }
    }
}

fn learn_one(
    pipeline: &TrainingSpec,
    history: &History,
    data: DataSummary,
    split: Split,
    checkpoint: Option<&[u8]>,
    report: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<(Model, Outcome)> {
    let (recipe, rules) = (&pipeline.train, &pipeline.rules);
    let lanes = walk::lanes(history);
    let embedding = recipe.embedding;
    ensure!(
        embedding == 0 || lanes.len() <= choices::OWN_MOST,
        "train.embedding is {embedding}, but the history has {} series: at most {} may have numbers of their own; leave it out",
        lanes.len(),
        choices::OWN_MOST
    );
    let series = choices::series(pipeline, history, &lanes);
    let mut description = describe(pipeline, history, series, split, data);
    let mut folds = Vec::new();
    let mut choices = Vec::new();
    if recipe.memory {
        let mut chosen = choices::memory(pipeline, history, &lanes, split);
        choices.append(&mut chosen.choices);
        let _ = report(Progress::Chose(&choices));
        let (warm, window) = (description.warm, description.lookback);
        let found = loop {
            (description.warm, description.lookback) =
                (warm.max(chosen.warm), whole(window.max(chosen.part.recent + 1), recipe));
            description.memory = Some(chosen.part.clone());
            match remember(&mut description, pipeline, history, &lanes, split, &chosen, report)? {
                Some(found) => break found,
                None => chosen.shorten(),
            }
        };
        let _ = report(Progress::Chose(&found.1));
        choices.extend(found.1);
        folds = found.0;
    }
    let horizon = description.horizon;
    let together = material::together(recipe, horizon * (1 + description.probabilities().len()));
    let trained = drawn(history, &description, (split.first, split.train_end), MOST_TRAINED, together);
    let [validated, tested] = scorable(history, &description, split, together);
    ensure!(
        !trained.is_empty(),
        "nothing to learn from: the training part is {} steps of {}, a window takes {} to read (the first after {} steps) \
         and {} to forecast without a gap longer than max_gap; give more history, or a shorter lookback or horizon",
        split.train_end - split.first,
        pipeline.every_text(),
        description.lookback,
        description.warm,
        horizon
    );
    let windows = Windows { history, description: &description, rules };
    let identity = checkpoint::identity(&description, &folds);
    let stage =
        Stage { recipe, windows: &windows, lanes: &lanes, split, folds: &folds, checkpoint, identity };
    let Taught { learned, choices: believed, complete } = match &description.cells {
        Some(part) if folds.is_empty() => stage.alone(part.network, &trained, &validated, report)?,
        Some(part) => stage.on_top(part.network, &trained, &validated, report)?,
        None => Taught { learned: None, choices: Vec::new(), complete: true },
    };
    let _ = report(Progress::Chose(&believed));
    choices.extend(believed);
    if description.cells.is_some() && learned.is_none() {
        choices.push(Choice {
            what: "the cells are left out".into(),
            why: "on times that were not learned from, nothing of what they said was of use".into(),
        });
    }
    let epoch = learned.as_ref().map(|learned| learned.epoch);
    let cells = learned.map(|Learned { network, shares, .. }| {
        let part = description.cells.as_mut().expect("they were described");
        (part.shares, part.network) = (shares, *network.shape());
        if part.network.quantiles == 0 {
            part.probabilities.clear();
        }
        network
    });
    if let (None, Some(memory)) = (&cells, &description.memory) {
        description.cells = None;
        if matches!(description.scaling, Scaling::Fixed | Scaling::Running) {
            // Nothing reads more.
            description.lookback = memory.recent + 1;
        }
    }
    let memory = folds.pop().and_then(|model| model.memory);
    let model = Model::new(description, memory, cells, None);
    let (model, examples) = scored(model, pipeline, history, &lanes, split, [&validated, &tested]);
    let (trained, validated, tested) = (trained.len(), validated.len(), tested.len());
    let outcome = Outcome { trained, validated, tested, epoch, choices, examples, complete };
    Ok((model, outcome))
}

/// At most `most` windows of the steps from one to another, and no more than may be held at once; `together` that follow one
/// another are drawn as one.
fn drawn(
    history: &History,
    description: &Description,
    part: (i64, i64),
    most: usize,
    together: usize,
) -> Vec<Origin> {
    origins(history, description, part, most.min(NUMBERS / description.horizon).max(1), together)
}

/// Windows of the validation part and of the test part.
fn scorable(history: &History, description: &Description, split: Split, together: usize) -> [Vec<Origin>; 2] {
    let parts = [(split.train_end, split.validation_end), (split.validation_end, split.end)];
    // An error is kept for the forecast and each quantile.
    let most = MOST_SCORED.min(NUMBERS / (description.horizon * (1 + description.probabilities().len())));
    parts.map(|part| drawn(history, description, part, most, together))
}

/// A model with its scores on the validation part and on the test part and with its errors on the former, and examples of
/// the latter. What `model` has of these is replaced.
fn scored(
    model: Model,
    pipeline: &TrainingSpec,
    history: &History,
    lanes: &[Lane],
    split: Split,
    [validated, tested]: [&[Origin]; 2],
) -> (Model, Vec<Example>) {
    let rules = &pipeline.rules;
    let scoring = scores::Scoring::new(history, lanes, rules, &model, split);
    let (validation, test) = (scoring.score(validated, "validation"), scoring.score(tested, "test"));
    let mut description = model.description.clone();
    description.scores = [&validation, &test].into_iter().flatten().map(|part| part.score.clone()).collect();
    let model = Model::new(description, model.memory, model.cells, validation.and_then(|part| part.errors));
    let scoring = scores::Scoring::new(history, lanes, rules, &model, split);
    let examples = examples::examples(&scoring, &pipeline.columns.targets, tested);
    (model, examples)
}

/// Models of the memory alone: first those fitted without one of the blocks each, last the one that serves. Writes what
/// was chosen into the description. None where not all of the recent values are read: then none of the longer window has to
/// be kept, and a series forecasts the sooner.
fn remember(
    description: &mut Description,
    pipeline: &TrainingSpec,
    history: &History,
    lanes: &[Lane],
    split: Split,
    chosen: &choices::Chosen,
    report: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Option<(Vec<Model>, Vec<Choice>)>> {
    let (poles, readings) = (&chosen.poles, &chosen.readings);
    let part = description.memory.clone().expect("the memory was described");
    let memory = Memory::new(poles, part.context).context("the memory's poles do not decay")?;
    let own = description.own();
    let features = part.features(memory.numbers(), &description.inputs, description.horizon);
    let windows = Windows { history, description, rules: &pipeline.rules };
    let _ = report(Progress::Gathering);
    let sums = Regression { windows: &windows, part: &part, memory: &memory, lanes, split, readings }.sums();
    let (rows, _) = sums.counts();
    ensure!(
        rows > 0 || !history.stands_still(split.train_end),
        "nothing to learn from: all readings of each series in the training part are equal, and the last one forecasts the \
         next without a model; give a history in which they change"
    );
    ensure!(
        rows > 0,
        "nothing to learn from: no step of the training part ({} steps of {}) has {} observed ones before it that are not \
         all alike and the {} of the horizon after it; give more history, or a shorter horizon",
        split.train_end - split.first,
        pipeline.every_text(),
        description.warm,
        description.horizon
    );
    let held = sums.choose(&own, readings);
    if readings.recent > RECENT && !held.iter().any(|held| held.reading.is_long()) {
        return Ok(None);
    }
    let solutions = sums.fit(&own, &held, readings);
    let solutions = solutions.context(
        "the readings of the training part are too alike to learn from; give more history, with times in which they change",
    )?;
    drop(sums);
    let fits = (0..BLOCKS).map(Some).chain([None]).map(|without| {
        let Coefficients { shared, own: series } = solutions.coefficients(without, &own);
        let horizon = description.horizon;
        let mut tensors = Readout::tensors_of(horizon, features, &own, shared, series);
        let readout = Readout::take(&mut tensors, horizon, features, own.clone())?;
        Ok(Remembering { poles: poles.clone(), memory: memory.clone(), readout, mix: None })
    });
    let fits = fits.collect::<Result<Vec<_>>>()?;
    let alone = Description { cells: None, ..description.clone() };
    let fold = |memory| Model::new(alone.clone(), Some(memory), None, None);
    let mut folds: Vec<Model> = fits.into_iter().map(fold).collect();
    let mix = part.mix.map(|part| mix::fit(&windows, lanes, &folds, split, part));
    for memory in folds.iter_mut().filter_map(|model| model.memory.as_mut()) {
        memory.mix.clone_from(&mix);
    }
    let choices = choices::readouts(&held, &solutions.absolute);
    let penalties = held.into_iter().map(|held| held.penalty).collect();
    description.memory.as_mut().expect("the memory was described").penalties = penalties;
    let _ = report(Progress::Remembers { rows });
    Ok(Some((folds, choices)))
}
