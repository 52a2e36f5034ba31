//! Values of one channel by step, across gaps.

use std::ops::Range;

use tidecast_core::metrics::naive_lag;

use crate::{Channel, History, Segment};

/// Segments of one channel, in time order.
#[derive(Clone, Debug)]
pub struct SeriesTimeline<'a> {
    segments: Vec<&'a Segment>,
}

impl<'a> SeriesTimeline<'a> {
    pub fn new(history: &'a History, channel: &Channel) -> Self {
        Self { segments: channel.segments.iter().map(|index| &history.segments[*index as usize]).collect() }
    }

    /// The segment that contains a step, and the step's index in it.
    pub fn locate(&self, step: i64) -> Option<(&'a Segment, usize)> {
        let after = self.segments.partition_point(|segment| segment.start <= step);
        let segment = self.segments[after.checked_sub(1)?];
        let index = (step - segment.start) as usize;
        (index < segment.values.len()).then_some((segment, index))
    }

    /// The value at a step, observed or filled.
    pub fn value(&self, step: i64) -> Option<f64> {
        self.locate(step).map(|(segment, index)| segment.values[index])
    }

    /// The value at a step that was observed; none where it was filled or is missing.
    pub fn observed(&self, step: i64) -> Option<f64> {
        self.locate(step)
            .filter(|(segment, index)| segment.observed[*index])
            .map(|(s, index)| s.values[index])
    }

    /// Up to `len` values that end at a step, without crossing an unfilled gap.
    pub fn window(&self, step: i64, len: usize) -> &'a [f64] {
        self.locate(step)
            .map_or(&[][..], |(segment, index)| &segment.values[(index + 1).saturating_sub(len)..=index])
    }

    /// Observed steps of a range with their values, in order.
    pub fn observations(&self, range: Range<i64>) -> impl Iterator<Item = (i64, f64)> + '_ {
        self.segments.iter().flat_map(move |segment| segment.observations(range.clone()))
    }

    /// Observed origins of a range whose next `horizon` steps, observed or filled, lie in the range and in the segment.
    pub fn complete_origins(
        &self,
        range: Range<i64>,
        horizon: usize,
    ) -> impl Iterator<Item = (&'a Segment, usize)> + '_ {
        self.segments.iter().flat_map(move |segment| {
            let (start, end, range) = (segment.start, segment.values.len(), range.clone());
            let first = (range.start - start).clamp(0, end as i64) as usize;
            let last = (range.end - start).clamp(0, end as i64) as usize;
            let indices = first..last.saturating_sub(horizon);
            indices.filter(|index| segment.observed[*index]).map(|index| (*segment, index))
        })
    }

    /// Naive forecast: the value of one season before, or the last value without a season or where that step has no value.
    pub fn naive_forecast(&self, season: Option<usize>, origin: i64, out: &mut [f64]) {
        let last = self.value(origin).unwrap_or(0.0);
        for (i, out) in out.iter_mut().enumerate() {
            let ahead = i + 1;
            let source = origin + ahead as i64 - naive_lag(season, ahead) as i64;
            *out = self.value(source).unwrap_or(last);
        }
    }
}
