//! Holds forecasts, as they come out of the line, against what came, and every baseline at the same origins against the
//! same values.
//!
//! Memory: for each series the sums of every method and step of the horizon, a loss for each method and scored origin, and
//! what waits to be scored. The forecasts themselves are not kept.

use std::sync::{Mutex, PoisonError};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Float32Type;

use super::baselines::{Along, Baselines};
use super::metrics::{Bounds, Errors};
use super::parts::Parts;
use super::past::Past;
use super::places::Places;
use tidecast_core::series::Grid;
use tidecast_core::table::Forecasts;
use crate::{History, Lane, shards};

/// Numbers of forecasts that wait to be scored, at most, give or take a batch: 64 MiB. They wait so that many series can
/// be scored at once, on all cores.
const NUMBERS: usize = 16 << 20;
/// Forecasts of a series that are kept to be looked at.
const EXAMPLES: usize = 3;

/// What forecasts are held against.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    pub history: &'a History,
    pub lanes: &'a [Lane],
    pub baselines: &'a Baselines,
    pub parts: &'a Parts,
    pub grid: Grid,
    /// Names of the targets, in the order of their numbers.
    pub targets: &'a [String],
    pub horizon: usize,
    pub levels: &'a [f64],
    /// Whether some forecasts are kept to be looked at.
    pub examples: bool,
}

/// Errors of all methods on one part of one series: ours first, then the baselines.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    pub forecasts: u64,
    /// `[method][step]`
    pub errors: Vec<Vec<Errors>>,
    /// Of our intervals, `[level][step]`.
    pub ours: Vec<Vec<Bounds>>,
    /// Of those around the naive forecast.
    pub naive: Vec<Vec<Bounds>>,
}

/// A forecast to be looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    pub origin: i64,
    /// Of ours, then of the baselines.
    pub forecasts: Vec<Vec<f64>>,
    /// Of ours: lower and upper, `[level][step]`.
    pub bounds: Vec<Vec<[f64; 2]>>,
}

/// All that is known of one series in the end.
#[derive(Debug)]
pub struct LaneScores<'a> {
    along: Along<'a>,
    pub validation: Sums,
    pub scored: Sums,
    /// Mean absolute error over the horizon at each scored origin, `[method]`.
    pub losses: Vec<Vec<f64>>,
    pub examples: Vec<Example>,
}

/// A row of a batch that waits.
#[derive(Clone, Copy)]
struct Waiting {
    batch: usize,
    row: usize,
    origin: i64,
}

pub struct Scorer<'a> {
    task: Task<'a>,
    places: Places<'a>,
    lanes: Vec<Mutex<LaneScores<'a>>>,
    batches: Vec<RecordBatch>,
    /// Of each lane.
    waiting: Vec<Vec<Waiting>>,
    waiting_numbers: usize,
}

impl<'a> Scorer<'a> {
    pub fn new(task: Task<'a>) -> Self {
        let Task { history, lanes, baselines, .. } = task;
        let scores = |(number, lane)| {
            Mutex::new(LaneScores::new(&task, Along::new(baselines, Past::of(history, lane), number)))
        };
        Self {
            task,
            places: Places::new(&task),
            lanes: lanes.iter().enumerate().map(scores).collect(),
            batches: Vec::new(),
            waiting: vec![Vec::new(); lanes.len()],
            waiting_numbers: 0,
        }
    }

    /// Takes forecasts by `table::forecast_schema`; those of a series come in the order of their origins.
    pub fn add(&mut self, forecasts: &RecordBatch) {
        let Task { parts, grid, horizon, levels, .. } = self.task;
        let view = Forecasts::new(forecasts);
        let (batch, mut some) = (self.batches.len(), false);
        for row in 0..view.origins.len() {
            let origin = grid.step_of(view.origins.value(row));
            if !parts.scored.contains(&origin) && !parts.validation(horizon).contains(&origin) {
                continue;
            }
            let lane = self.places.lane(view.series.value(row), view.targets.value(row));
            let Some(lane) = lane else { continue };
            self.waiting[lane].push(Waiting { batch, row, origin });
            some = true;
        }
        if some {
            // The batch is kept whole, whatever it holds besides.
            self.waiting_numbers += forecasts.num_rows() * horizon * (1 + 2 * levels.len());
            self.batches.push(forecasts.clone());
        }
        if self.waiting_numbers >= NUMBERS {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let views: Vec<Forecasts<'_>> = self.batches.iter().map(Forecasts::new).collect();
        let busy: Vec<usize> = (0..self.lanes.len()).filter(|lane| !self.waiting[*lane].is_empty()).collect();
        let (task, lanes, waiting) = (&self.task, &self.lanes, &self.waiting);
        shards::each(busy.len(), Workspace::default, |own, number| {
            let lane = busy[number];
            // No one else has this lane: the lock only tells the compiler.
            let mut scores = lanes[lane].lock().unwrap_or_else(PoisonError::into_inner);
            for row in &waiting[lane] {
                own.read(&views[row.batch], row.row);
                scores.add(task, row.origin, own);
            }
        });
        self.waiting.iter_mut().for_each(Vec::clear);
        self.batches.clear();
        self.waiting_numbers = 0;
    }

    /// The scores of each lane, once all forecasts were added.
    pub fn finish(mut self) -> Vec<LaneScores<'a>> {
        self.flush();
        let inner = |lane: Mutex<LaneScores<'a>>| lane.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.lanes.into_iter().map(inner).collect()
    }
}

/// One forecast and what it is held against.
#[derive(Default)]
struct Workspace {
    /// The forecast, then lower and upper of each level.
    lists: Vec<Vec<f64>>,
    said: Vec<f64>,
    actuals: Vec<Option<f64>>,
}

impl Workspace {
    fn read(&mut self, forecasts: &Forecasts<'_>, row: usize) {
        self.lists.resize(forecasts.lists.len(), Vec::new());
        for (into, list) in self.lists.iter_mut().zip(&forecasts.lists) {
            let values = list.value(row);
            into.clear();
            into.extend(values.as_primitive::<Float32Type>().values().iter().map(|value| f64::from(*value)));
        }
    }

    /// Lower and upper of level `level`.
    fn bounds(&self, level: usize) -> (&[f64], &[f64]) {
        (&self.lists[1 + 2 * level], &self.lists[2 + 2 * level])
    }
}

impl Sums {
    fn new(task: &Task<'_>) -> Self {
        let bounds = vec![vec![Bounds::default(); task.horizon]; task.levels.len()];
        let errors = vec![vec![Errors::default(); task.horizon]; 1 + task.baselines.kinds.len()];
        Self { forecasts: 0, errors, ours: bounds.clone(), naive: bounds }
    }
}

impl<'a> LaneScores<'a> {
    fn new(task: &Task<'_>, along: Along<'a>) -> Self {
        let losses = vec![Vec::new(); 1 + task.baselines.kinds.len()];
        let (validation, scored) = (Sums::new(task), Sums::new(task));
        Self { along, validation, scored, losses, examples: Vec::new() }
    }

    pub fn past(&self) -> &Past<'a> {
        &self.along.past
    }

    fn add(&mut self, task: &Task<'a>, origin: i64, own: &mut Workspace) {
        let Task { parts, horizon, levels, baselines, .. } = *task;
        own.actuals.clear();
        own.actuals.extend((1..=horizon as i64).map(|ahead| self.past().observed(origin + ahead)));
        if own.actuals.iter().all(Option::is_none) {
            return;
        }
        let is_scored = parts.scored.contains(&origin);
        let keep = is_scored && self.keeps(task, origin);
        let Self { along, validation, scored, losses, examples } = self;
        // What was asked for may lie in the validation part: then it is both.
        let in_validation = parts.validation(horizon).contains(&origin);
        let mut of_parts: Vec<&mut Sums> = Vec::with_capacity(2);
        of_parts.extend(is_scored.then_some(scored));
        of_parts.extend(in_validation.then_some(validation));
        of_parts.iter_mut().for_each(|sums| sums.forecasts += 1);
        let mut example = Example { origin, forecasts: Vec::new(), bounds: Vec::new() };
        own.said.resize(horizon, 0.0);
        for (method, losses) in losses.iter_mut().enumerate() {
            match method.checked_sub(1) {
                None => own.said.copy_from_slice(&own.lists[0]),
                Some(baseline) => {
                    along.forecast(baselines.kinds[baseline], origin, &mut own.said);
                    // As it would be written: else one that says the same as ours is better by ours' rounding.
                    own.said.iter_mut().for_each(|said| *said = f64::from(*said as f32));
                }
            }
            of_parts
                .iter_mut()
                .for_each(|sums| add_errors(&mut sums.errors[method], &own.actuals, &own.said));
            if is_scored {
                losses.push(loss(&own.actuals, &own.said));
            }
            if keep {
                example.forecasts.push(own.said.clone());
            }
        }
        for (place, level) in levels.iter().enumerate() {
            let (lower, upper) = own.bounds(place);
            let ours: Vec<[f64; 2]> = lower.iter().zip(upper).map(|(l, u)| [*l, *u]).collect();
            of_parts.iter_mut().for_each(|sums| {
                add_bounds(&mut sums.ours[place], *level, &own.actuals, ours.iter().copied())
            });
            example.bounds.push(ours);
        }
        if let Some(around) = along.naive(origin, &mut own.said) {
            for ((place, level), around) in levels.iter().enumerate().zip(around) {
                let naive = own.said.iter().zip(around).map(|(said, [l, u])| [said + l, said + u]);
                of_parts
                    .iter_mut()
                    .for_each(|sums| add_bounds(&mut sums.naive[place], *level, &own.actuals, naive.clone()));
            }
        }
        if keep {
            examples.push(example);
        }
    }

    /// Whether a forecast is kept to be looked at: the first after the middle of the scored part, and the next ones that
    /// do not overlap with the one before.
    fn keeps(&self, task: &Task<'_>, origin: i64) -> bool {
        let (scored, horizon) = (&task.parts.scored, task.horizon as i64);
        let room = (scored.end - scored.start - EXAMPLES as i64 * horizon).max(0);
        let from = self.examples.last().map_or(scored.start + room / 2, |example| example.origin + horizon);
        task.examples && self.examples.len() < EXAMPLES && origin >= from
    }
}

fn add_errors(steps: &mut [Errors], actuals: &[Option<f64>], said: &[f64]) {
    for ((step, actual), said) in steps.iter_mut().zip(actuals).zip(said) {
        actual.iter().for_each(|actual| step.add(*actual, *said));
    }
}

fn add_bounds(
    steps: &mut [Bounds],
    level: f64,
    actuals: &[Option<f64>],
    bounds: impl Iterator<Item = [f64; 2]>,
) {
    for ((step, actual), [lower, upper]) in steps.iter_mut().zip(actuals).zip(bounds) {
        actual.iter().for_each(|actual| step.add(level, *actual, lower, upper));
    }
}

/// Mean absolute error over what was observed of the horizon.
fn loss(actuals: &[Option<f64>], said: &[f64]) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for (actual, said) in actuals.iter().zip(said) {
        if let Some(actual) = actual {
            sum += (actual - said).abs();
            count += 1.0;
        }
    }
    sum / count
}
