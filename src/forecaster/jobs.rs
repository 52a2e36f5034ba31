//! Forecasts that wait for the network: their inputs are copied when they are issued, the network runs over many at a
//! time, and its outputs are written in the order of issue. A column's bits do not depend on its neighbours, so neither
//! does a forecast on what waited beside it.

use std::sync::Arc;

use super::predictor::{OriginView, Predictor};
use super::{Closing, Entry, Setup};
use crate::intervals::{Offsets, restlessness, widening};
use crate::model::MemoryPart;
use crate::series::{Scale, WindowView};
use crate::table::ForecastBuilder;

/// Forecasts run at once. Matrix kernels are at full speed from about this width on; more would only cost memory.
const WIDTH: usize = 64;

/// A forecast without its values.
struct Job {
    position: i64,
    id: Arc<str>,
    target: usize,
    origin: i64,
    scale: Scale,
    /// Number of the series among those that have coefficients of their own.
    own: Option<usize>,
    /// How much the series has moved of late.
    restlessness: f32,
}

pub struct Jobs {
    setup: Arc<Setup>,
    /// For each level, how far the bounds lie from the forecast of a series without errors of its own.
    offsets: Vec<Offsets>,
    /// The same of each series that has some, made when it is first forecast.
    own_offsets: Vec<Option<Vec<Offsets>>>,
    jobs: Vec<Job>,
    predictor: Predictor,
    /// Of each id, by its number: the number of each target among the series that have coefficients of their own.
    own: Vec<Vec<Option<usize>>>,
    outputs: Vec<f32>,
    lists: Vec<Vec<f32>>,
}

impl Jobs {
    pub fn new(setup: Arc<Setup>) -> Self {
        let offsets = offsets_of(&setup, None);
        let lists = vec![Vec::new(); 1 + 2 * setup.levels.len()];
        let (jobs, own, outputs) = (Vec::new(), Vec::new(), Vec::new());
        let own_series = setup.model.errors.as_ref().map_or(0, |errors| errors.own.len());
        let own_offsets = vec![None; if setup.levels.is_empty() { 0 } else { own_series }];
        let predictor = Predictor::default();
        Self { setup, offsets, own_offsets, jobs, predictor, own, outputs, lists }
    }

    /// Issues a forecast for every target that is due at the closed step: it was observed, its number is a multiple of
    /// `forecast.every`, and the window is full.
    pub fn add(&mut self, closing: &Closing<'_>, out: &mut ForecastBuilder) {
        if closing.step.rem_euclid(i64::from(self.setup.every)) != 0 {
            return;
        }
        for target in 0..closing.targets.len() {
            if closing.entries[target] != Entry::Missing {
                self.add_target(closing, target);
            }
            if self.jobs.len() == WIDTH {
                self.run(out);
            }
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
        let own = own_of(&mut self.own, &self.setup, closing)[target];
        let season = description.memory.as_ref().map_or(0, MemoryPart::season);
        let past = history.window.tail(history.window.len().min(season.max(description.lookback)));
        let (past, _) = past.expect("no more than there are");
        let (memory, running) = (&history.memory, &history.running);
        let view = OriginView { window, ahead: closing.ahead, memory, past, running, own };
        let scale = self.predictor.add(model, rules, &view);
        let origin = rules.grid.start_of(closing.step);
        self.jobs.push(Job {
            position: closing.position,
            id: closing.id.clone(),
            target,
            origin,
            scale,
            own,
            restlessness: restlessness(values, scale.spread),
        });
    }

    /// Runs the network over all that waits and writes the forecasts, in the order of issue.
    pub fn run(&mut self, out: &mut ForecastBuilder) {
        if self.jobs.is_empty() {
            return;
        }
        let Setup { model, columns, .. } = &*self.setup;
        let horizon = model.description.horizon;
        self.predictor.run(model, &mut self.outputs);
        for (job, outputs) in self.jobs.iter().zip(self.outputs.chunks_exact(horizon)) {
            fill(&mut self.lists[0], outputs, |output, _| job.scale.invert(output));
            let own = job.own.and_then(|own| self.own_offsets.get_mut(own).map(|offsets| (own, offsets)));
            let offsets = match own {
                Some((own, offsets)) => offsets.get_or_insert_with(|| offsets_of(&self.setup, Some(own))),
                None => &self.offsets,
            };
            let wide = widening(model.widening(job.own), job.restlessness);
            for (offsets, bounds) in offsets.iter().zip(self.lists[1..].chunks_exact_mut(2)) {
                fill(&mut bounds[0], outputs, |output, i| job.scale.invert(output + wide * offsets.lower[i]));
                fill(&mut bounds[1], outputs, |output, i| job.scale.invert(output + wide * offsets.upper[i]));
            }
            out.push(job.position, &job.id, &columns.targets[job.target], job.origin, &self.lists);
        }
        self.jobs.clear();
    }
}

/// How far the bounds of each level lie from the forecasts of a series.
fn offsets_of(setup: &Setup, own: Option<usize>) -> Vec<Offsets> {
    setup.levels.iter().map(|level| setup.model.offsets(*level, own)).collect()
}

/// The numbers of an id's targets among the series that have coefficients of their own, looked up once an id.
fn own_of<'a>(
    known: &'a mut Vec<Vec<Option<usize>>>,
    setup: &Setup,
    closing: &Closing<'_>,
) -> &'a [Option<usize>] {
    if known.len() <= closing.index {
        known.resize(closing.index + 1, Vec::new());
    }
    let own = &mut known[closing.index];
    if own.is_empty() {
        let part = setup.model.description.memory.as_ref();
        let place = |target: &String| {
            let named = |(id, name): &(String, String)| **id == **closing.id && name == target;
            part.and_then(|part| part.own.iter().position(named))
        };
        own.extend(setup.columns.targets.iter().map(place));
    }
    own
}

fn fill(list: &mut Vec<f32>, outputs: &[f32], value: impl Fn(f32, usize) -> f64) {
    list.clear();
    // Forecasts are f32; beyond its range stands its end.
    let bounded = |value: f64| value.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32;
    list.extend(outputs.iter().enumerate().map(|(i, output)| bounded(value(*output, i))));
}
