//! One series along time: what was observed at a step, and what a window held there, whatever gaps lie between.

use std::ops::Range;

use crate::{History, Lane, Segment};

/// The segments of one lane, in the order of time.
#[derive(Clone, Debug)]
pub struct Past<'a> {
    segments: Vec<&'a Segment>,
}

impl<'a> Past<'a> {
    pub fn of(history: &'a History, lane: &Lane) -> Self {
        Self { segments: lane.segments.iter().map(|number| &history.segments[*number as usize]).collect() }
    }

    /// The segment in which a step lies, and its place there.
    pub fn find(&self, step: i64) -> Option<(&'a Segment, usize)> {
        let after = self.segments.partition_point(|segment| segment.start <= step);
        let segment = self.segments[after.checked_sub(1)?];
        let place = (step - segment.start) as usize;
        (place < segment.values.len()).then_some((segment, place))
    }

    /// What a window holds at a step, observed or filled.
    pub fn held(&self, step: i64) -> Option<f64> {
        self.find(step).map(|(segment, place)| segment.values[place])
    }

    /// What was truly observed at a step.
    pub fn observed(&self, step: i64) -> Option<f64> {
        self.find(step).filter(|(segment, place)| segment.observed[*place]).map(|(s, place)| s.values[place])
    }

    /// At most `most` values up to a step, the latest last; they do not reach over a gap that was not filled.
    pub fn window(&self, step: i64, most: usize) -> &'a [f64] {
        self.find(step)
            .map_or(&[][..], |(segment, place)| &segment.values[(place + 1).saturating_sub(most)..=place])
    }

    /// The observed steps of a range with their values, in order.
    pub fn steps(&self, range: Range<i64>) -> impl Iterator<Item = (i64, f64)> + '_ {
        self.segments.iter().flat_map(move |segment| {
            let place = |step: i64| (step - segment.start).clamp(0, segment.values.len() as i64) as usize;
            let places = place(range.start)..place(range.end).max(place(range.start));
            places
                .filter(|place| segment.observed[*place])
                .map(|place| (segment.step(place), segment.values[place]))
        })
    }

    /// The places of a range that were observed and have all of the next `horizon` steps, filled or not, before its end
    /// and before the next gap.
    pub fn whole(
        &self,
        range: Range<i64>,
        horizon: usize,
    ) -> impl Iterator<Item = (&'a Segment, usize)> + '_ {
        self.segments.iter().flat_map(move |segment| {
            let (start, end, range) = (segment.start, segment.values.len(), range.clone());
            let first = (range.start - start).clamp(0, end as i64) as usize;
            let last = (range.end - start).clamp(0, end as i64) as usize;
            let places = first..last.saturating_sub(horizon);
            places.filter(|place| segment.observed[*place]).map(|place| (*segment, place))
        })
    }
}
