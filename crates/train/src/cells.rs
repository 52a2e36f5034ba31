//! Teaching the cells: alone, or on what the memory leaves over, and as far as that is of use.

use std::ops::ControlFlow;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::fit::{self, Fit, Learning};
use super::material::{self, Material};
use super::regression::{self, BLOCKS};
use super::targets::Examples;
use super::walk::Lane;
use super::windows::{Origin, Split, Windows};
use super::{Choice, NUMBERS, Progress, checkpoint, quantiles, shares};
use crate::settings::Train;
use tidecast_core::model::{Model, Share};
use tidecast_core::network::{Network, Shape};

/// Most windows looked at after each epoch.
const MOST_VALIDATED: usize = 20_000;

/// Cells and how much they are believed.
pub struct Learned {
    pub network: Network,
    pub shares: Vec<Share>,
    pub epoch: usize,
}

/// What a trial found: how much of the cells' forecast is believed, and the losses of their quantiles beside constant ones.
#[derive(Serialize, Deserialize)]
struct Believed {
    shares: Vec<Share>,
    quantiles: Vec<f64>,
}

impl Believed {
    fn nothing(&self) -> bool {
        self.shares.iter().all(|share| share.share == 0.0) && !quantiles::worth(&self.quantiles)
    }

    /// The cells as far as they are believed.
    fn learned(self, fitted: fit::Fitted) -> Learned {
        let worth = quantiles::worth(&self.quantiles);
        let network = if worth { fitted.network } else { fitted.network.without_quantiles() };
        Learned { network, shares: self.shares, epoch: fitted.epoch }
    }
}

/// What came of teaching cells: nothing where they are of no use.
pub struct Taught {
    pub learned: Option<Learned>,
    pub choices: Vec<Choice>,
    /// Whether all that the recipe asks for was done.
    pub complete: bool,
}

/// What the cells learn from.
pub struct Stage<'a> {
    pub recipe: &'a Train,
    pub windows: &'a Windows<'a>,
    pub lanes: &'a [Lane],
    pub split: Split,
    /// The memory's models: without one block each, and on all.
    pub folds: &'a [Model],
    /// Where learning was broken off, if it was.
    pub checkpoint: Option<&'a [u8]>,
    /// Tells this training's checkpoints apart from others.
    pub identity: String,
}

impl Stage<'_> {
    /// Cells that forecast everything.
    pub fn alone(
        &self,
        shape: Shape,
        trained: &[Origin],
        validated: &[Origin],
        report: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<Taught> {
        let train = Examples::new(self.windows, self.lanes, trained.to_vec());
        let check = Examples::new(self.windows, self.lanes, validated.to_vec());
        let shares = vec![Share { until: shape.horizon, share: 1.0 }];
        let fitted = self.fit(shape, (&train, &check), (&self.identity, self.checkpoint), report)?;
        let learned = Learned { network: fitted.network, shares, epoch: fitted.epoch };
        Ok(Taught { learned: Some(learned), choices: Vec::new(), complete: fitted.complete })
    }

    /// Cells that learn what the memory leaves over. How much of what they say is believed is found by a trial: cells that
    /// have not seen the last block are judged on it and on both halves of the validation part. Where nothing is believed,
    /// neither of their forecast nor of their quantiles, there are no cells.
    pub fn on_top(
        &self,
        shape: Shape,
        trained: &[Origin],
        validated: &[Origin],
        report: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<Taught> {
        let block = |step: i64| regression::block(self.split, step);
        let left = |which: &(dyn Fn(i64) -> usize + Sync), origins: &[Origin]| {
            Examples::left_over(self.windows, self.lanes, self.folds, which, origins)
        };
        let (train, check) = (left(&block, trained), left(&|_| BLOCKS, validated));
        // The checkpoints of what is kept tell what the trial found.
        let of_kept = format!("{} kept ", self.identity);
        let found = self.checkpoint.and_then(checkpoint::of);
        let found = found.as_deref().and_then(|of| serde_json::from_str(of.strip_prefix(&of_kept)?).ok());
        let choices = |believed: &Believed| {
            let quantiles = quantiles::choice(&believed.quantiles, shape.quantiles);
            if shape.quantiles > 0 { vec![quantiles] } else { Vec::new() }
        };
        let (believed, checkpoint): (Believed, _) = match found {
            Some(believed) => (believed, self.checkpoint),
            None => {
                let (trial, believed) = self.trial(shape, &train, &check, report)?;
                let nothing = trial.epoch == 0 || believed.nothing();
                if nothing || !trial.complete {
                    let (choices, complete) = (choices(&believed), trial.complete);
                    let learned = (!nothing).then(|| believed.learned(trial));
                    return Ok(Taught { learned, choices, complete });
                }
                (believed, None)
            }
        };
        let of = of_kept + &serde_json::to_string(&believed)?;
        let fitted = self.fit(shape, (&train, &check), (&of, checkpoint), report)?;
        let (choices, complete) = (choices(&believed), fitted.complete);
        Ok(Taught { learned: Some(believed.learned(fitted)), choices, complete })
    }

    /// Cells that do not know the last block, and how much of what they say is believed on what they do not know.
    fn trial(
        &self,
        shape: Shape,
        train: &Examples,
        check: &Examples,
        report: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<(fit::Fitted, Believed)> {
        let history = self.windows.history;
        let step = |origin: &Origin| history.segments[origin.segment as usize].step(origin.place as usize);
        let is_last = |origin: &Origin| regression::block(self.split, step(origin)) == BLOCKS - 1;
        let first = train.only(|origin| !is_last(origin));
        let together = material::together(self.recipe, shape.outputs());
        // What is said of them is held for all quantities at once.
        let most = MOST_VALIDATED.min(NUMBERS / shape.outputs()).max(1);
        let last = train.only(is_last).thinned(most, together);
        let halfway = (self.split.train_end + self.split.validation_end) / 2;
        let early = check.only(|origin| step(origin) < halfway);
        let late = check.only(|origin| step(origin) >= halfway);
        let of = format!("{} trial", self.identity);
        let judged = last.clone().and(check);
        let trial = self.fit(shape, (&first, &judged), (&of, self.checkpoint), report)?;
        let shortest = ((self.split.train_end - self.split.first) / BLOCKS as i64)
            .min((self.split.validation_end - self.split.train_end) / 2);
        let held = [last, early, late].map(|held| Material::new(self.recipe, self.windows, held));
        let shares = shares::choose(self.recipe, &trial.network, &held, shortest);
        let quantiles = quantiles::ratios(self.windows, &trial.network, &shares, &held, shortest);
        Ok((trial, Believed { shares, quantiles }))
    }

    fn fit(
        &self,
        shape: Shape,
        (train, check): (&Examples, &Examples),
        (identity, checkpoint): (&str, Option<&[u8]>),
        report: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<fit::Fitted> {
        let network = Network::new(shape, self.recipe.seed)?;
        // Where the last value or a memory speaks already, nothing is the better beginning.
        let speaks = self.windows.description.memory.is_some() || self.windows.description.carries();
        let network = if speaks { network.silent() } else { network };
        let begun = Learning::new(self.recipe, network);
        let begun = take_up(begun, checkpoint, identity, report);
        let Self { recipe, windows, .. } = *self;
        let train = &Material::new(recipe, windows, train.clone());
        let check = check.thinned(MOST_VALIDATED, material::together(recipe, shape.outputs()));
        let validation = &Material::new(recipe, windows, check);
        Ok(Fit { recipe, train, validation, identity }.run(begun, report))
    }
}

/// Where a checkpoint left learning, or its beginning without one.
fn take_up(
    begun: Learning,
    checkpoint: Option<&[u8]>,
    identity: &str,
    report: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Learning {
    let Some(bytes) = checkpoint else { return begun };
    match checkpoint::read(bytes, identity, &begun) {
        Ok(learning) => {
            let _ = report(Progress::Resumes { epochs: learning.epochs });
            learning
        }
        Err(why) => {
            let _ = report(Progress::Ignores { why: why.to_string() });
            begun
        }
    }
}
