//! Windows of a history: their origins, and the inputs and actual values of each.

use std::ops::Range;

use super::History;
use tidecast_core::forecaster::InputBatch;
use tidecast_core::model::ModelManifest;
use tidecast_core::network::Random;
use tidecast_core::series::{Scale, StepConfig, StepInput, WindowView};

/// Last step of a window, as an index into a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    pub segment: u32,
    pub index: u32,
}

/// Limit of a sample of origins.
#[derive(Clone, Copy, Debug)]
pub struct SampleLimit {
    pub origins: usize,
    /// Consecutive origins that are sampled as a unit.
    pub group: usize,
}

/// Samples origins whose horizon lies in `steps`. Each window is complete, its last step and at least one step of its horizon
/// were observed.
///
/// Above the limit, one of every n groups is drawn at random: a fixed stride could select the same hours of every day.
pub fn sample_origins(
    history: &History,
    manifest: &ModelManifest,
    steps: Range<i64>,
    limit: SampleLimit,
) -> Vec<Origin> {
    let group = limit.group;
    let mut count = 0usize;
    for_each_origin(history, manifest, &steps, |_| count += 1);
    let groups = count.div_ceil(group);
    let stride = groups.div_ceil((limit.origins / group).max(1)).max(1);
    let mut random = Random::new(stride as u64);
    let mut draw = |count: usize| (random.next_u64() % count as u64) as usize;
    let mut origins = Vec::with_capacity(count.div_ceil(stride));
    let (mut index, mut drawn) = (0, 0);
    for_each_origin(history, manifest, &steps, |origin| {
        let current = index / group;
        if index % (stride * group) == 0 {
            drawn = current + draw(stride.min(groups - current));
        }
        if current == drawn {
            origins.push(origin);
        }
        index += 1;
    });
    origins
}

fn for_each_origin(
    history: &History,
    manifest: &ModelManifest,
    steps: &Range<i64>,
    mut visit: impl FnMut(Origin),
) {
    let ModelManifest { lookback, horizon, warmup, .. } = *manifest;
    for (number, segment) in history.segments.iter().enumerate() {
        let observed = |index: usize| usize::from(segment.observed.get(index) == Some(&true));
        let mut observed_ahead: usize = (0..horizon).map(|i| observed(i + 1)).sum();
        let mut observed_so_far = segment.stats_at(0).count;
        for index in 0..segment.values.len() {
            if index > 0 {
                observed_ahead = observed_ahead + observed(index + horizon) - observed(index);
                observed_so_far += observed(index) as u64;
            }
            let step = segment.step(index);
            let is_inside = step >= steps.start && step + (horizon as i64) < steps.end;
            let is_complete = index + 1 >= lookback && observed_so_far >= warmup;
            if is_inside && is_complete && observed_ahead > 0 && observed(index) == 1 {
                visit(Origin { segment: number as u32, index: index as u32 });
            }
        }
    }
}

/// Reads windows of a history as a model would have seen them.
#[derive(Clone, Copy)]
pub struct Windows<'a> {
    pub history: &'a History,
    pub manifest: &'a ModelManifest,
    pub step_config: &'a StepConfig,
}

impl<'a> Windows<'a> {
    /// The window at an origin and its scale; none if it is incomplete.
    pub fn view(&self, origin: Origin) -> Option<WindowView<'a>> {
        let segment = &self.history.segments[origin.segment as usize];
        let (index, lookback) = (origin.index as usize, self.manifest.lookback);
        let stats = segment.stats_at(index);
        let first = (index + 1).checked_sub(lookback).filter(|_| stats.count >= self.manifest.warmup)?;
        let (values, observed) = (&segment.values[first..=index], &segment.observed[first..=index]);
        let fixed = self.manifest.moments(segment.target);
        let scale = Scale::at_origin(self.manifest.scaling, values, &stats, fixed);
        let covariates = &self.history.spans[segment.span].covariates;
        Some(WindowView { values, observed, covariates, origin: segment.step(index), scale })
    }

    /// True if the window is complete and the series warmed up.
    pub fn is_complete(&self, origin: Origin) -> bool {
        let segment = &self.history.segments[origin.segment as usize];
        let index = origin.index as usize;
        index + 1 >= self.manifest.lookback && segment.stats_at(index).count >= self.manifest.warmup
    }

    /// Up to [`ModelManifest::history_steps`] values that end at an origin.
    pub fn past(&self, origin: Origin) -> &'a [f64] {
        let segment = &self.history.segments[origin.segment as usize];
        let (end, steps) = (origin.index as usize + 1, self.manifest.history_steps(true));
        &segment.values[end.saturating_sub(steps)..end]
    }

    /// Future covariates that were known at an origin, `[covariate x horizon]`.
    pub fn future(&self, origin: Origin) -> &'a [f64] {
        let segment = &self.history.segments[origin.segment as usize];
        let span = &self.history.spans[segment.span];
        span.future.get(&segment.step(origin.index as usize)).map_or(&[][..], Vec::as_slice)
    }

    /// Writes the inputs of the steps at `indices` of a segment for cells that carry their state, `[step][input]`. A step is
    /// scaled by the statistics of the next observed step, the one at which it became known.
    pub fn write_steps(&self, segment: u32, indices: Range<usize>, out: &mut [f32]) {
        let segment = &self.history.segments[segment as usize];
        let ModelManifest { inputs, scaling, .. } = self.manifest;
        let covariates = &self.history.spans[segment.span].covariates;
        let fixed = self.manifest.moments(segment.target);
        let mut known_at = None;
        let mut scale = Scale::from(fixed);
        for (index, out) in indices.zip(out.chunks_exact_mut(inputs.width())) {
            if known_at.is_none_or(|known_at| known_at < index) {
                let next = (index..segment.values.len()).find(|index| segment.observed[*index]);
                let next = next.expect("the last step of a segment was observed");
                scale = Scale::at_origin(*scaling, &[], &segment.stats_at(next), fixed);
                known_at = Some(next);
            }
            let before = index.checked_sub(1).map(|before| segment.values[before]);
            let input = StepInput::new(scale, before, segment.values[index], segment.observed[index]);
            inputs.write_step(self.step_config, segment.step(index), input, covariates, out);
        }
    }

    /// Index of a channel among the series of the manifest, which are listed in the order of channels or not at all.
    pub fn series_index(&self, channel: usize) -> Option<usize> {
        (channel < self.manifest.series.len()).then_some(channel)
    }

    /// Appends a window of a channel to `inputs`.
    pub fn write_window(&self, origin: Origin, channel: usize, inputs: &mut InputBatch) {
        let view = self.view(origin).expect("windows at sampled origins are complete");
        let series = self.series_index(channel);
        inputs.add(self.manifest, self.step_config, &view, self.future(origin), series);
    }

    /// Observed values of the horizon; NaN where nothing was observed.
    pub fn actuals(&self, origin: Origin) -> impl Iterator<Item = f64> + 'a {
        let segment = &self.history.segments[origin.segment as usize];
        let index = origin.index as usize;
        (index + 1..=index + self.manifest.horizon).map(move |at| match segment.observed.get(at) {
            Some(true) => segment.values[at],
            _ => f64::NAN,
        })
    }
}
