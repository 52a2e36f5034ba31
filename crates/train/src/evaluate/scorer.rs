//! Scores forecasts, and every baseline at the same origins, against the same observed values.
//!
//! Memory: per channel the sums of every method and step of the horizon, and one loss per method and scored origin. Forecast
//! batches are buffered so that channels are scored in parallel; they are dropped once scored.

use std::collections::HashMap;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Float32Type;
use rayon::prelude::*;

use super::baselines::{BaselineRunner, Baselines};
use super::split::EvaluationSplit;
use super::timeline::SeriesTimeline;
use crate::{Channel, History};
use tidecast_core::metrics::{ErrorSums, Interval, IntervalSums, Mean};
use tidecast_core::schema::Forecasts;
use tidecast_core::series::Grid;

/// Limit of the buffered forecast values, give or take a batch: 64 MiB.
const BUFFERED_VALUES_MAX: usize = 16 << 20;
/// Example forecasts per channel.
const EXAMPLES: usize = 3;

/// History, baselines and ranges of an evaluation.
#[derive(Clone, Copy, Debug)]
pub struct EvaluationTask<'a> {
    pub history: &'a History,
    pub channels: &'a [Channel],
    pub baselines: &'a Baselines,
    pub split: &'a EvaluationSplit,
    pub grid: Grid,
    /// Names of the targets, by index.
    pub targets: &'a [String],
    pub horizon: usize,
    pub levels: &'a [f64],
    /// Retains some forecasts for charts.
    pub keep_examples: bool,
}

/// Errors of all methods on one range of one channel: the model first, then the baselines.
#[derive(Clone, Debug, Default)]
pub struct SplitSums {
    pub forecasts: u64,
    /// `[method][step]`
    pub errors: Vec<Vec<ErrorSums>>,
    /// Intervals of the model, `[level][step]`.
    pub intervals: Vec<Vec<IntervalSums>>,
    /// Intervals of the naive forecast, `[level][step]`.
    pub naive_intervals: Vec<Vec<IntervalSums>>,
}

/// A forecast of every method at one origin.
#[derive(Clone, Debug, PartialEq)]
pub struct ComparedForecast {
    pub origin: i64,
    /// `[method][step]`
    pub forecasts: Vec<Vec<f64>>,
    /// Lower and upper bounds of the model, `[level][step]`.
    pub bounds: Vec<Vec<[f64; 2]>>,
}

/// Scores of one channel.
#[derive(Debug)]
pub struct ChannelScores<'a> {
    runner: BaselineRunner<'a>,
    pub validation: SplitSums,
    pub scored: SplitSums,
    /// Mean absolute error over the horizon at each scored origin, `[method][origin]`.
    pub losses: Vec<Vec<f64>>,
    pub examples: Vec<ComparedForecast>,
}

/// A row of a buffered batch.
#[derive(Clone, Copy)]
struct BufferedRow {
    batch: usize,
    row: usize,
    origin: i64,
}

/// Index of channels by series and target.
pub(super) struct ChannelIndex<'a> {
    /// Lookup only: iteration order is never used.
    ids: HashMap<&'a str, usize>,
    targets: &'a [String],
    /// `[series][target]`
    channels: Vec<Vec<Option<usize>>>,
}

impl<'a> ChannelIndex<'a> {
    pub fn new(task: &EvaluationTask<'a>) -> Self {
        let EvaluationTask { history, channels, targets, .. } = *task;
        let ids = history.ids.iter().enumerate().map(|(index, id)| (id.as_str(), index)).collect();
        let mut indices = vec![vec![None; targets.len()]; history.ids.len()];
        for (index, channel) in channels.iter().enumerate() {
            indices[channel.series][channel.target] = Some(index);
        }
        Self { ids, targets, channels: indices }
    }

    pub fn find(&self, series: &str, target: &str) -> Option<usize> {
        let target = self.targets.iter().position(|name| name == target)?;
        self.channels[*self.ids.get(series)?][target]
    }
}

pub struct Scorer<'a> {
    task: EvaluationTask<'a>,
    index: ChannelIndex<'a>,
    channels: Vec<ChannelScores<'a>>,
    batches: Vec<RecordBatch>,
    /// Buffered rows, by channel.
    rows: Vec<Vec<BufferedRow>>,
    buffered_values: usize,
}

impl<'a> Scorer<'a> {
    pub fn new(task: EvaluationTask<'a>) -> Self {
        let EvaluationTask { history, channels, baselines, .. } = task;
        let scores = |(index, channel)| {
            let timeline = SeriesTimeline::new(history, channel);
            ChannelScores::new(&task, BaselineRunner::new(baselines, timeline, index))
        };
        Self {
            task,
            index: ChannelIndex::new(&task),
            channels: channels.iter().enumerate().map(scores).collect(),
            batches: Vec::new(),
            rows: vec![Vec::new(); channels.len()],
            buffered_values: 0,
        }
    }

    /// Adds forecasts by `schema::forecast_schema`. Origins of a series must ascend.
    pub fn add(&mut self, forecasts: &RecordBatch) {
        let EvaluationTask { split, grid, horizon, levels, .. } = self.task;
        let view = Forecasts::new(forecasts);
        let (batch, mut is_needed) = (self.batches.len(), false);
        for row in 0..view.origins.len() {
            let origin = grid.step_of(view.origins.value(row));
            if !split.scored.contains(&origin) && !split.validation_origins(horizon).contains(&origin) {
                continue;
            }
            let channel = self.index.find(view.series.value(row), view.targets.value(row));
            let Some(channel) = channel else { continue };
            self.rows[channel].push(BufferedRow { batch, row, origin });
            is_needed = true;
        }
        if is_needed {
            // Rows refer to the whole batch.
            self.buffered_values += forecasts.num_rows() * horizon * (1 + 2 * levels.len());
            self.batches.push(forecasts.clone());
        }
        if self.buffered_values >= BUFFERED_VALUES_MAX {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let views: Vec<Forecasts<'_>> = self.batches.iter().map(Forecasts::new).collect();
        let task = &self.task;
        self.channels.par_iter_mut().zip(&self.rows).for_each_init(ForecastRow::default, |forecast, work| {
            let (scores, rows) = work;
            for row in rows {
                forecast.read(&views[row.batch], row.row);
                scores.add(task, row.origin, forecast);
            }
        });
        self.rows.iter_mut().for_each(Vec::clear);
        self.batches.clear();
        self.buffered_values = 0;
    }

    /// Scores of each channel, once all forecasts were added.
    pub fn finish(mut self) -> Vec<ChannelScores<'a>> {
        self.flush();
        self.channels
    }
}

/// One forecast and its actual values.
#[derive(Default)]
struct ForecastRow {
    /// The point forecast, then lower and upper bounds of each level.
    lists: Vec<Vec<f64>>,
    actuals: Vec<Option<f64>>,
    /// The forecast of the current method.
    values: Vec<f64>,
}

impl ForecastRow {
    fn read(&mut self, forecasts: &Forecasts<'_>, row: usize) {
        self.lists.resize(forecasts.lists.len(), Vec::new());
        for (into, list) in self.lists.iter_mut().zip(&forecasts.lists) {
            let values = list.value(row);
            into.clear();
            into.extend(values.as_primitive::<Float32Type>().values().iter().map(|value| f64::from(*value)));
        }
    }

    fn bounds(&self, level: usize) -> Vec<[f64; 2]> {
        let (lower, upper) = (&self.lists[1 + 2 * level], &self.lists[2 + 2 * level]);
        lower.iter().zip(upper).map(|(lower, upper)| [*lower, *upper]).collect()
    }
}

impl SplitSums {
    fn new(task: &EvaluationTask<'_>) -> Self {
        let intervals = vec![vec![IntervalSums::default(); task.horizon]; task.levels.len()];
        let errors = vec![vec![ErrorSums::default(); task.horizon]; 1 + task.baselines.kinds.len()];
        Self { forecasts: 0, errors, intervals: intervals.clone(), naive_intervals: intervals }
    }
}

impl<'a> ChannelScores<'a> {
    fn new(task: &EvaluationTask<'_>, runner: BaselineRunner<'a>) -> Self {
        let losses = vec![Vec::new(); 1 + task.baselines.kinds.len()];
        let (validation, scored) = (SplitSums::new(task), SplitSums::new(task));
        Self { runner, validation, scored, losses, examples: Vec::new() }
    }

    pub fn timeline(&self) -> &SeriesTimeline<'a> {
        &self.runner.timeline
    }

    fn add(&mut self, task: &EvaluationTask<'a>, origin: i64, row: &mut ForecastRow) {
        let EvaluationTask { split, horizon, levels, baselines, .. } = *task;
        row.actuals.clear();
        row.actuals.extend((1..=horizon as i64).map(|ahead| self.timeline().observed(origin + ahead)));
        if row.actuals.iter().all(Option::is_none) {
            return;
        }
        let is_scored = split.scored.contains(&origin);
        let is_example = is_scored && self.is_example(task, origin);
        let Self { runner, validation, scored, losses, examples } = self;
        // A requested range may overlap the validation range: such an origin counts in both.
        let mut sums: Vec<&mut SplitSums> = Vec::with_capacity(2);
        sums.extend(is_scored.then_some(scored));
        sums.extend(split.validation_origins(horizon).contains(&origin).then_some(validation));
        sums.iter_mut().for_each(|sums| sums.forecasts += 1);
        let mut example = ComparedForecast { origin, forecasts: Vec::new(), bounds: Vec::new() };
        row.values.resize(horizon, 0.0);
        for (method, losses) in losses.iter_mut().enumerate() {
            match method.checked_sub(1) {
                None => row.values.copy_from_slice(&row.lists[0]),
                Some(baseline) => {
                    runner.forecast(baselines.kinds[baseline], origin, &mut row.values);
                    // The model's output is f32. Without this a baseline equal to the model would win by rounding.
                    row.values.iter_mut().for_each(|value| *value = f64::from(*value as f32));
                }
            }
            sums.iter_mut().for_each(|sums| add_errors(&mut sums.errors[method], &row.actuals, &row.values));
            if is_scored {
                losses.push(mean_absolute_error(&row.actuals, &row.values));
            }
            if is_example {
                example.forecasts.push(row.values.clone());
            }
        }
        for (i, level) in levels.iter().enumerate() {
            let bounds = row.bounds(i);
            sums.iter_mut().for_each(|sums| {
                add_intervals(&mut sums.intervals[i], *level, &row.actuals, bounds.iter().copied());
            });
            example.bounds.push(bounds);
        }
        if let Some(residuals) = runner.naive_intervals(origin, &mut row.values) {
            for ((i, level), residuals) in levels.iter().enumerate().zip(residuals) {
                let bounds = row.values.iter().zip(residuals).map(|(value, [l, u])| [value + l, value + u]);
                sums.iter_mut().for_each(|sums| {
                    add_intervals(&mut sums.naive_intervals[i], *level, &row.actuals, bounds.clone());
                });
            }
        }
        if is_example {
            examples.push(example);
        }
    }

    /// Examples are the first forecast after the middle of the scored range and the next ones that do not overlap with the
    /// previous example.
    fn is_example(&self, task: &EvaluationTask<'_>, origin: i64) -> bool {
        let (scored, horizon) = (&task.split.scored, task.horizon as i64);
        let spare = (scored.end - scored.start - EXAMPLES as i64 * horizon).max(0);
        let from = self.examples.last().map_or(scored.start + spare / 2, |example| example.origin + horizon);
        task.keep_examples && self.examples.len() < EXAMPLES && origin >= from
    }
}

fn add_errors(steps: &mut [ErrorSums], actuals: &[Option<f64>], forecast: &[f64]) {
    for ((step, actual), forecast) in steps.iter_mut().zip(actuals).zip(forecast) {
        actual.iter().for_each(|actual| step.add(*actual, *forecast));
    }
}

fn add_intervals(
    steps: &mut [IntervalSums],
    level: f64,
    actuals: &[Option<f64>],
    bounds: impl Iterator<Item = [f64; 2]>,
) {
    for ((step, actual), [lower, upper]) in steps.iter_mut().zip(actuals).zip(bounds) {
        actual.iter().for_each(|actual| step.add(&Interval { level, lower, upper }, *actual));
    }
}

/// Mean absolute error over the observed steps of a horizon, of which there is at least one.
fn mean_absolute_error(actuals: &[Option<f64>], forecast: &[f64]) -> f64 {
    let errors =
        actuals.iter().zip(forecast).filter_map(|(actual, forecast)| Some(((*actual)? - forecast).abs()));
    errors.collect::<Mean>().value().unwrap_or(f64::NAN)
}
