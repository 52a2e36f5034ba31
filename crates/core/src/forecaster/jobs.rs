//! Forecasts that wait for the network: their inputs are copied when they are issued, the network runs over many at a
//! time, and its outputs are written in the order of issue. A column's bits do not depend on its neighbours, so neither
//! does a forecast on what waited beside it.

use std::sync::Arc;

use compact_str::CompactString;

use super::carried::CellStates;
use super::live::{Live, Said};
use super::predictor::{OriginView, Predictor};
use super::{Beside, BesideMut, StepContext, WindowUpdate, MemoryStates, Setup, Written};
use crate::intervals::{Bounds, restlessness};
use crate::model::SeriesKey;
use crate::series::{StepInput, Scale, WindowView};

/// Forecasts run at once: kernels are at full speed from here on, and what they read is still near.
const WIDTH: usize = 64;
/// The same of cells that carry their state: that of several times as many can be asked for while others are computed.
const CARRIED: usize = 256;

/// A forecast without its values.
struct Job {
    /// Number of its series among all that is kept beside the ids.
    column: usize,
    /// Step of the origin.
    step: i64,
    scale: Scale,
    /// Number of the series among those of the manifest.
    own: Option<usize>,
    /// How much the series has moved of late.
    restlessness: f32,
    /// It is known already, and only needed for what comes of it.
    silent: bool,
}

pub struct Jobs {
    setup: Arc<Setup>,
    /// Of each level, the bounds of a series without errors of its own.
    bounds: Vec<Bounds>,
    /// The same of each series of the manifest, made when it is first forecast.
    own_bounds: Vec<Option<Vec<Bounds>>>,
    jobs: Vec<Job>,
    predictor: Predictor,
    /// Of a model with a memory.
    remembered: Option<MemoryStates>,
    /// Of a model whose cells carry their state.
    carried: Option<CellStates>,
    /// Where intervals are corrected or forecasts scored.
    live: Option<Live>,
    /// What its cells say, `[job][quantity][horizon]`.
    said: Vec<f32>,
    /// Of each id, by its number: the number of each target among the series of the manifest.
    own: Vec<Vec<Option<usize>>>,
    outputs: Vec<f32>,
    /// Forecasts run at once.
    width: usize,
    /// Values of a series that are looked back on at an origin.
    past: usize,
    /// How much series move is of consequence.
    widens: bool,
}

impl Jobs {
    pub fn new(setup: Arc<Setup>) -> Self {
        let bounds = bounds_of(&setup, None);
        let (jobs, own, outputs) = (Vec::new(), Vec::new(), Vec::new());
        let series = setup.model.manifest.series.len();
        let own_bounds = vec![None; if setup.levels.is_empty() { 0 } else { series }];
        let predictor = Predictor::default();
        let network = setup.model.cells.as_ref().filter(|_| setup.model.manifest.carries_state());
        let (carried, said) = (network.map(|network| CellStates::new(network.shape())), Vec::new());
        let live = Live::new(&setup);
        let remembered = setup.model.recurrence.as_ref().map(|part| MemoryStates::new(part.recurrence.clone()));
        let (past, widens) = (setup.past(), live.is_some() && setup.model.uses_volatility());
        let width = if setup.model.manifest.carries_state() { CARRIED } else { WIDTH };
        Self {
            setup,
            bounds,
            own_bounds,
            jobs,
            predictor,
            remembered,
            carried,
            live,
            said,
            own,
            outputs,
            width,
            past,
            widens,
        }
    }

    /// What is kept beside the ids. What waits is not in it yet.
    pub fn beside(&self) -> Beside<'_> {
        let Self { remembered, carried, live, .. } = self;
        let online = live.as_ref().map(Live::online);
        Beside { remembered: remembered.as_ref(), carried: carried.as_ref(), online }
    }

    pub fn beside_mut(&mut self) -> BesideMut<'_> {
        let Self { remembered, carried, live, .. } = self;
        let online = live.as_mut().map(Live::online_mut);
        BesideMut { remembered: remembered.as_mut(), carried: carried.as_mut(), online }
    }

    /// Asks for what a row of the id of this number reads at once, one of which comes soon.
    pub fn prefetch(&self, index: usize) {
        let targets = self.setup.columns.targets.len();
        for column in index * targets..(index + 1) * targets {
            self.remembered.iter().for_each(|all| all.prefetch(column));
        }
    }

    /// Issues a forecast for every target that is due at the closed step: it was observed, its number is a multiple of
    /// `forecast.every`, and the window is full.
    pub fn add(&mut self, closing: &StepContext<'_>, out: &mut Written) {
        self.take(closing, false, out);
    }

    /// A step closed whose forecasts are known already: what is carried takes it, and where later intervals come of earlier
    /// forecasts, they are made again.
    pub fn absorb(&mut self, closing: &StepContext<'_>, out: &mut Written) {
        self.take(closing, true, out);
    }

    fn take(&mut self, closing: &StepContext<'_>, silent: bool, out: &mut Written) {
        // Mostly every step is, and a division is slow.
        let every = i64::from(self.setup.every);
        let due = every == 1 || closing.step.rem_euclid(every) == 0;
        let needed = !silent || self.live.is_some();
        for target in 0..closing.targets.len() {
            if closing.entries[target] != WindowUpdate::Missing {
                let own = own_of(&mut self.own, &self.setup, closing, target);
                if let Some(live) = &mut self.live {
                    live.came(closing, target, own, silent);
                }
                if let Some(remembered) = &mut self.remembered {
                    let (entry, window) = (closing.entries[target], &closing.targets[target].window);
                    remembered.follow(column(closing, target), entry, window, closing.step);
                }
                let scale = self.follow(closing, target, own, out);
                if due && needed {
                    self.add_target(closing, (target, own), scale, silent, out);
                }
            }
            if self.jobs.len() >= self.width || self.live.as_ref().is_some_and(Live::is_full) {
                self.run(out);
            }
        }
    }

    /// The input of an id is over, and its last steps have closed.
    pub fn end(&mut self, index: usize, id: &CompactString, position: i64) {
        if let Some(live) = &mut self.live {
            live.end(index, id, position, self.setup.columns.targets.len());
        }
    }

    /// Forgets all that is kept beside the id of this number; what it still had to say is said first.
    pub fn forget(&mut self, index: usize, out: &mut Written) {
        if let Some(own) = self.own.get_mut(index) {
            own.clear();
        }
        let targets = self.setup.columns.targets.len();
        let columns = index * targets..(index + 1) * targets;
        let waits = |carried: &CellStates| columns.clone().any(|column| carried.waits(column));
        let lives = self.live.as_ref().is_some_and(|live| live.waits(&columns));
        if lives || self.carried.as_ref().is_some_and(waits) {
            self.run(out);
        }
        for column in columns {
            self.remembered.iter_mut().for_each(|remembered| remembered.clear(column));
            self.carried.iter_mut().for_each(|carried| carried.clear(column));
            self.live.iter_mut().for_each(|live| live.clear(column));
        }
    }

    /// What is carried takes the steps that the window has just taken, the last of which may wait. Returns the scale that they
    /// were read in.
    fn follow(
        &mut self,
        closing: &StepContext<'_>,
        target: usize,
        own: Option<usize>,
        out: &mut Written,
    ) -> Option<Scale> {
        self.carried.as_ref()?;
        let column = column(closing, target);
        let new = match closing.entries[target] {
            WindowUpdate::Missing => 0,
            WindowUpdate::Reset => 1,
            WindowUpdate::Extended(steps) => steps as usize,
        };
        let history = &closing.targets[target];
        let manifest = &self.setup.model.manifest;
        // What fills a gap is read as it is when it becomes known: with the scale of the step that ended it.
        let scale = Scale::at_origin(manifest.scaling, &[], &history.running, manifest.moments(target));
        let at_hand = history.window.len().min(new + 1);
        let (values, observed) = history.window.tail(at_hand).expect("no more than there are");
        for place in at_hand - new..at_hand {
            // What was issued of a column is said before its state goes on.
            if self.carried.as_ref().is_some_and(|all| all.waits(column) || all.len() == self.width) {
                self.run(out);
            }
            let Setup { model, rules, .. } = &*self.setup;
            let (Some(carried), Some(network)) = (&mut self.carried, &model.cells) else { return None };
            if closing.entries[target] == WindowUpdate::Reset {
                carried.clear(column);
            }
            let step = closing.step - (at_hand - 1 - place) as i64;
            let before = place.checked_sub(1).map(|before| values[before]);
            let reading = StepInput::new(scale, before, values[place], observed[place]);
            carried.add(network.shape(), column, own, |out| {
                model.manifest.inputs.write_one(rules, step, reading, closing.covariates, out);
            });
        }
        Some(scale)
    }

    /// Issues a forecast of a target, whose number among the series of the manifest is `own`; `carried` is the scale of what is
    /// carried, if something is.
    fn add_target(
        &mut self,
        closing: &StepContext<'_>,
        (target, own): (usize, Option<usize>),
        carried: Option<Scale>,
        silent: bool,
        out: &mut Written,
    ) {
        let Setup { model, rules, columns, .. } = &*self.setup;
        let manifest = &model.manifest;
        let history = &closing.targets[target];
        let Some((values, observed)) = history.window.tail(manifest.lookback) else { return };
        if history.running.count < manifest.warmup {
            return;
        }
        let scale = carried.unwrap_or_else(|| {
            let fixed = manifest.moments(target);
            Scale::at_origin(manifest.scaling, values, &history.running, fixed)
        });
        let window =
            WindowView { values, observed, covariates: closing.covariates, origin: closing.step, scale };
        let past = history.window.tail(history.window.len().min(self.past));
        let (past, _) = past.expect("no more than there are");
        let memory = self.remembered.as_ref().map_or(&[][..], |all| all.numbers(column(closing, target)));
        let running = &history.running;
        let view = OriginView { window, ahead: closing.ahead, memory, past, running, own };
        let scale = self.predictor.add(model, rules, &view);
        if let (Some(carried), Some(network)) = (&mut self.carried, &model.cells) {
            carried.issue(network.shape(), column(closing, target), |out| {
                manifest.inputs.write_known(closing.ahead, out);
            });
        }
        if let Some(live) = &mut self.live {
            live.issued(past);
        }
        if !silent {
            let origin = rules.grid.start_of(closing.step);
            out.forecasts.issue(closing.position, closing.id, &columns.targets[target], origin);
        }
        self.jobs.push(Job {
            column: column(closing, target),
            step: closing.step,
            scale,
            own,
            restlessness: if self.widens { restlessness(past, scale.spread) } else { 0.0 },
            silent,
        });
    }

    /// Runs the network over all that waits and writes the forecasts, in the order of issue.
    pub fn run(&mut self, out: &mut Written) {
        let model = &self.setup.model;
        if let (Some(carried), Some(network)) = (&mut self.carried, &model.cells) {
            carried.run(network, &mut self.said);
        }
        let horizon = model.manifest.horizon;
        if !self.jobs.is_empty() {
            self.predictor.run(model, &self.said, &mut self.outputs);
        }
        let numbers = model.manifest.probabilities().len() * horizon;
        for own in self.jobs.iter().filter_map(|job| job.own) {
            if let Some(bounds) = self.own_bounds.get_mut(own) {
                bounds.get_or_insert_with(|| bounds_of(&self.setup, Some(own)));
            }
        }
        let known = |own: Option<usize>| own.and_then(|own| self.own_bounds.get(own)?.as_deref());
        let (quantiles, outputs) = (self.predictor.quantiles(), &self.outputs);
        let said = |(number, job): (usize, &Job)| Said {
            column: job.column,
            own: job.own,
            step: job.step,
            scale: job.scale,
            restlessness: job.restlessness,
            values: &outputs[number * horizon..][..horizon],
            quantiles: &quantiles[number * numbers..][..numbers],
            bounds: known(job.own).unwrap_or(&self.bounds),
        };
        let (mut jobs, mut said) = (self.jobs.iter(), self.jobs.iter().enumerate().map(said));
        let Written { forecasts, scores } = out;
        match &mut self.live {
            Some(live) => {
                let levels = self.setup.levels.len();
                let next = || said.next().expect("a forecast that was issued waited");
                let write = |values: &[f32], bounds: &[f32]| {
                    let job = jobs.next().expect("a forecast that was issued waited");
                    if !job.silent {
                        forecasts.say((0..1 + 2 * levels).map(|list| list_of(list, levels, values, bounds)));
                    }
                };
                live.run(&self.setup, next, write, scores);
            }
            // Without intervals there is nothing to correct.
            None => {
                Scale::invert_all(self.jobs.iter().map(|job| job.scale), horizon, &mut self.outputs);
                let all = self.jobs.iter().zip(self.outputs.chunks_exact(horizon));
                all.filter(|(job, _)| !job.silent).for_each(|(_, values)| forecasts.say([values]));
            }
        }
        self.jobs.clear();
    }
}

/// The column of a target of an id among all that is carried.
fn column(closing: &StepContext<'_>, target: usize) -> usize {
    closing.index * closing.targets.len() + target
}

/// The bounds of each level around the forecasts of a series.
fn bounds_of(setup: &Setup, own: Option<usize>) -> Vec<Bounds> {
    setup.levels.iter().map(|level| setup.model.bounds(*level, own)).collect()
}

/// The number of a target of an id among the series of the manifest, looked up once an id.
#[inline]
fn own_of(
    known: &mut Vec<Vec<Option<usize>>>,
    setup: &Setup,
    closing: &StepContext<'_>,
    target: usize,
) -> Option<usize> {
    let series = &setup.model.manifest.series;
    if series.is_empty() {
        // Nothing was learned of any: nothing is kept for it.
        return None;
    }
    if known.len() <= closing.index {
        known.resize(closing.index + 1, Vec::new());
    }
    let own = &mut known[closing.index];
    if own.is_empty() {
        let place = |target: &String| {
            let named = |key: &SeriesKey| *key.id == **closing.id && key.target == *target;
            series.iter().position(named)
        };
        own.extend(setup.columns.targets.iter().map(place));
    }
    own[target]
}

/// A forecast and its bounds, `[probability][horizon]`, in the order in which they are written: the forecast, then lower and
/// upper of each level from the narrowest on.
fn list_of<'a>(list: usize, levels: usize, values: &'a [f32], bounds: &'a [f32]) -> &'a [f32] {
    let Some(bound) = list.checked_sub(1) else { return values };
    let level = bound / 2;
    let place = if bound % 2 == 0 { levels - 1 - level } else { levels + level };
    &bounds[place * values.len()..][..values.len()]
}
