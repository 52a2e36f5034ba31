//! Forecasts that wait for the network: their inputs are copied when they are issued, the network runs over many at a
//! time, and its outputs are written in the order of issue. A column's bits do not depend on its neighbours, so neither
//! does a forecast on what waited beside it.

use std::sync::Arc;

use compact_str::CompactString;

use super::carried::Carried;
use super::predictor::{OriginView, Predictor};
use super::{Closing, Entry, Setup};
use crate::intervals::{Bounds, restlessness};
use crate::series::{Reading, Scale, WindowView};
use crate::table::ForecastBuilder;

/// Forecasts run at once. Matrix kernels are at full speed from about this width on; more would only cost memory.
const WIDTH: usize = 64;

/// A forecast without its values.
struct Job {
    position: i64,
    id: CompactString,
    target: usize,
    origin: i64,
    scale: Scale,
    /// Number of the series among those of the description.
    own: Option<usize>,
    /// How much the series has moved of late.
    restlessness: f32,
}

pub struct Jobs {
    setup: Arc<Setup>,
    /// Of each level, the bounds of a series without errors of its own.
    bounds: Vec<Bounds>,
    /// The same of each series of the description, made when it is first forecast.
    own_bounds: Vec<Option<Vec<Bounds>>>,
    jobs: Vec<Job>,
    predictor: Predictor,
    /// Of a model whose cells carry their state.
    carried: Option<Carried>,
    /// What its cells say, `[job][quantity][horizon]`.
    said: Vec<f32>,
    /// Of each id, by its number: the number of each target among the series of the description.
    own: Vec<Vec<Option<usize>>>,
    outputs: Vec<f32>,
    lists: Vec<Vec<f32>>,
}

impl Jobs {
    pub fn new(setup: Arc<Setup>) -> Self {
        let bounds = bounds_of(&setup, None);
        let lists = vec![Vec::new(); 1 + 2 * setup.levels.len()];
        let (jobs, own, outputs) = (Vec::new(), Vec::new(), Vec::new());
        let series = setup.model.description.series.len();
        let own_bounds = vec![None; if setup.levels.is_empty() { 0 } else { series }];
        let predictor = Predictor::default();
        let network = setup.model.cells.as_ref().filter(|_| setup.model.description.carries());
        let (carried, said) = (network.map(|network| Carried::new(network.shape())), Vec::new());
        Self { setup, bounds, own_bounds, jobs, predictor, carried, said, own, outputs, lists }
    }

    /// The states that are carried, if any are. What waits is not in them yet.
    pub fn carried(&self) -> Option<&Carried> {
        self.carried.as_ref()
    }

    pub fn carried_mut(&mut self) -> Option<&mut Carried> {
        self.carried.as_mut()
    }

    /// Issues a forecast for every target that is due at the closed step: it was observed, its number is a multiple of
    /// `forecast.every`, and the window is full.
    pub fn add(&mut self, closing: &Closing<'_>, out: &mut ForecastBuilder) {
        let due = closing.step.rem_euclid(i64::from(self.setup.every)) == 0;
        for target in 0..closing.targets.len() {
            if closing.entries[target] != Entry::Missing {
                self.follow(closing, target, out);
                if due {
                    self.add_target(closing, target);
                }
            }
            if self.jobs.len() == WIDTH {
                self.run(out);
            }
        }
    }

    /// A step closed whose forecasts are known already: only what is carried takes it.
    pub fn absorb(&mut self, closing: &Closing<'_>, out: &mut ForecastBuilder) {
        for target in 0..closing.targets.len() {
            if closing.entries[target] != Entry::Missing {
                self.follow(closing, target, out);
            }
        }
    }

    /// Forgets all that is kept beside the id of this number; what it still had to say is said first.
    pub fn forget(&mut self, index: usize, out: &mut ForecastBuilder) {
        if let Some(own) = self.own.get_mut(index) {
            own.clear();
        }
        let targets = self.setup.columns.targets.len();
        let columns = index * targets..(index + 1) * targets;
        let waits = |carried: &Carried| columns.clone().any(|column| carried.waits(column));
        if self.carried.as_ref().is_some_and(waits) {
            self.run(out);
        }
        if let Some(carried) = &mut self.carried {
            columns.for_each(|column| carried.clear(column));
        }
    }

    /// What is carried takes the steps that the window has just taken, the last of which may wait.
    fn follow(&mut self, closing: &Closing<'_>, target: usize, out: &mut ForecastBuilder) {
        if self.carried.is_none() {
            return;
        }
        let column = column(closing, target);
        let new = match closing.entries[target] {
            Entry::Missing => 0,
            Entry::Started => 1,
            Entry::Grew(steps) => steps as usize,
        };
        let own = own_of(&mut self.own, &self.setup, closing, target);
        let history = &closing.targets[target];
        let at_hand = history.window.len().min(new + 1);
        let (values, observed) = history.window.tail(at_hand).expect("no more than there are");
        for place in at_hand - new..at_hand {
            // What was issued of a column is said before its state goes on.
            if self.carried.as_ref().is_some_and(|all| all.waits(column) || all.len() == WIDTH) {
                self.run(out);
            }
            let Setup { model, rules, .. } = &*self.setup;
            let (Some(carried), Some(network)) = (&mut self.carried, &model.cells) else { return };
            if closing.entries[target] == Entry::Started {
                carried.clear(column);
            }
            let fixed = model.description.moments(target);
            // What fills a gap is read as it is when it becomes known: with the scale of the step that ended it.
            let scale = Scale::at_origin(model.description.scaling, &[], &history.running, fixed);
            let step = closing.step - (at_hand - 1 - place) as i64;
            let before = place.checked_sub(1).map(|before| values[before]);
            let reading = Reading::new(scale, before, values[place], observed[place]);
            carried.add(network.shape(), column, own, |out| {
                model.description.inputs.write_one(rules, step, reading, closing.covariates, out);
            });
        }
    }

    fn add_target(&mut self, closing: &Closing<'_>, target: usize) {
        let Setup { model, rules, .. } = &*self.setup;
        let description = &model.description;
        let history = &closing.targets[target];
        let Some((values, observed)) = history.window.tail(description.lookback) else { return };
        if history.running.count < description.warm {
            return;
        }
        let fixed = description.moments(target);
        let scale = Scale::at_origin(description.scaling, values, &history.running, fixed);
        let window =
            WindowView { values, observed, covariates: closing.covariates, origin: closing.step, scale };
        let own = own_of(&mut self.own, &self.setup, closing, target);
        let past = history.window.tail(history.window.len().min(description.past()));
        let (past, _) = past.expect("no more than there are");
        let (memory, running) = (&history.memory, &history.running);
        let view = OriginView { window, ahead: closing.ahead, memory, past, running, own };
        let scale = self.predictor.add(model, rules, &view);
        if let (Some(carried), Some(network)) = (&mut self.carried, &model.cells) {
            carried.issue(network.shape(), column(closing, target), |out| {
                description.inputs.write_known(closing.ahead, out);
            });
        }
        let origin = rules.grid.start_of(closing.step);
        self.jobs.push(Job {
            position: closing.position,
            id: closing.id.clone(),
            target,
            origin,
            scale,
            own,
            restlessness: restlessness(past, scale.spread),
        });
    }

    /// Runs the network over all that waits and writes the forecasts, in the order of issue.
    pub fn run(&mut self, out: &mut ForecastBuilder) {
        let Setup { model, columns, .. } = &*self.setup;
        if let (Some(carried), Some(network)) = (&mut self.carried, &model.cells) {
            carried.run(network, &mut self.said);
        }
        if self.jobs.is_empty() {
            return;
        }
        let horizon = model.description.horizon;
        self.predictor.run(model, &self.said, &mut self.outputs);
        let numbers = model.description.probabilities().len() * horizon;
        for (i, (job, said)) in self.jobs.iter().zip(self.outputs.chunks_exact(horizon)).enumerate() {
            let quantiles = &self.predictor.quantiles()[i * numbers..][..numbers];
            fill(&mut self.lists[0], horizon, |step| job.scale.invert(said[step]));
            let own = job.own.and_then(|own| self.own_bounds.get_mut(own).map(|bounds| (own, bounds)));
            let bounds = match own {
                Some((own, bounds)) => bounds.get_or_insert_with(|| bounds_of(&self.setup, Some(own))),
                None => &self.bounds,
            };
            for (bounds, lists) in bounds.iter().zip(self.lists[1..].chunks_exact_mut(2)) {
                let at = |step| bounds.at(said, quantiles, job.restlessness, step);
                fill(&mut lists[0], horizon, |step| job.scale.invert(at(step).0));
                fill(&mut lists[1], horizon, |step| job.scale.invert(at(step).1));
            }
            out.push(job.position, &job.id, &columns.targets[job.target], job.origin, &self.lists);
        }
        self.jobs.clear();
    }
}

/// The column of a target of an id among all that is carried.
fn column(closing: &Closing<'_>, target: usize) -> usize {
    closing.index * closing.targets.len() + target
}

/// The bounds of each level around the forecasts of a series.
fn bounds_of(setup: &Setup, own: Option<usize>) -> Vec<Bounds> {
    setup.levels.iter().map(|level| setup.model.bounds(*level, own)).collect()
}

/// The number of a target of an id among the series of the description, looked up once an id.
fn own_of(
    known: &mut Vec<Vec<Option<usize>>>,
    setup: &Setup,
    closing: &Closing<'_>,
    target: usize,
) -> Option<usize> {
    let series = &setup.model.description.series;
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
            let named = |(id, name): &(String, String)| **id == **closing.id && name == target;
            series.iter().position(named)
        };
        own.extend(setup.columns.targets.iter().map(place));
    }
    own[target]
}

fn fill(list: &mut Vec<f32>, horizon: usize, value: impl Fn(usize) -> f64) {
    list.clear();
    // Forecasts are f32; beyond its range stands its end.
    let bounded = |value: f64| value.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32;
    list.extend((0..horizon).map(|step| bounded(value(step))));
}
