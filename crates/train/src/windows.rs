//! Windows of a history: which there are in a part of it, and what the network reads and should say at each.

use std::ops::Range;

use anyhow::{Context, Result};

use super::{History, Segment};
use tidecast_core::forecaster::Inputs;
use tidecast_core::model::Description;
use tidecast_core::network::Random;
use tidecast_core::series::{Reading, Rules, Scale, WindowView};

/// A window by its last step: a place in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    pub segment: u32,
    pub place: u32,
}

/// Where the training part and the validation part end, as step numbers; the test part is the rest. All ends are
/// exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    pub first: i64,
    pub train_end: i64,
    pub validation_end: i64,
    pub end: i64,
}

impl Split {
    /// Cuts the time where the given parts of all observed steps are past. Not parts of the time between the first and
    /// the last step: one clock that was wrong for two rows would move those.
    ///
    /// # Errors
    /// If no step was observed.
    pub fn of(history: &History, train_part: f64, validation_part: f64) -> Result<Self> {
        let mut steps: Vec<i64> = history.segments.iter().flat_map(Segment::observed_steps).collect();
        steps.sort_unstable();
        let ends = steps.first().copied().zip(steps.last().copied());
        let (first, last) = ends.context(
            "the history is empty: no row of it was used; give one with readings, or correct [columns] or [grid] where \
             its rows were refused",
        )?;
        let at = |part: f64| steps.get((steps.len() as f64 * part) as usize).copied().unwrap_or(last + 1);
        let (train_end, validation_end) = (at(train_part), at(train_part + validation_part));
        Ok(Self { first, train_end, validation_end, end: last + 1 })
    }
}

/// At most `most` of the windows whose whole horizon lies in `steps` and whose origin lies at or after `from`; each can be
/// read whole, was observed at its origin, and has something observed to compare with. Of more, one of every n is drawn: a
/// fixed one, and the hours of the day that recur every n windows would be all there is. `together` of them that follow one
/// another are drawn or left as one.
pub fn origins(
    history: &History,
    description: &Description,
    (from, until): (i64, i64),
    most: usize,
    together: usize,
) -> Vec<Origin> {
    let mut count = 0usize;
    each_origin(history, description, from, until, |_| count += 1);
    let groups = count.div_ceil(together);
    let every = groups.div_ceil((most / together).max(1)).max(1);
    let mut random = Random::new(every as u64);
    let mut draw = |of: usize| (random.next_u64() % of as u64) as usize;
    let mut origins = Vec::with_capacity(count.div_ceil(every));
    let (mut number, mut drawn) = (0, 0);
    each_origin(history, description, from, until, |origin| {
        let group = number / together;
        if number % (every * together) == 0 {
            drawn = group + draw(every.min(groups - group));
        }
        if group == drawn {
            origins.push(origin);
        }
        number += 1;
    });
    origins
}

fn each_origin(
    history: &History,
    description: &Description,
    from: i64,
    until: i64,
    mut visit: impl FnMut(Origin),
) {
    let Description { lookback, horizon, warm, .. } = *description;
    for (number, segment) in history.segments.iter().enumerate() {
        let seen = |place: usize| usize::from(segment.observed.get(place) == Some(&true));
        // Observed steps of the horizon, and of the series so far.
        let mut ahead: usize = (0..horizon).map(|i| seen(i + 1)).sum();
        let mut so_far = segment.running(0).count;
        for place in 0..segment.values.len() {
            if place > 0 {
                ahead = ahead + seen(place + horizon) - seen(place);
                so_far += seen(place) as u64;
            }
            let step = segment.step(place);
            let inside = step >= from && step + (horizon as i64) < until;
            let whole = place + 1 >= lookback && so_far >= warm;
            if inside && whole && ahead > 0 && seen(place) == 1 {
                visit(Origin { segment: number as u32, place: place as u32 });
            }
        }
    }
}

/// Reads windows of a history.
#[derive(Clone, Copy)]
pub struct Windows<'a> {
    pub history: &'a History,
    pub description: &'a Description,
    pub rules: &'a Rules,
}

impl<'a> Windows<'a> {
    /// The window at an origin and its scale; `None` if it is not whole.
    pub fn view(&self, origin: Origin) -> Option<WindowView<'a>> {
        let segment = &self.history.segments[origin.segment as usize];
        let (place, lookback) = (origin.place as usize, self.description.lookback);
        let running = segment.running(place);
        let first = (place + 1).checked_sub(lookback).filter(|_| running.count >= self.description.warm)?;
        let (values, observed) = (&segment.values[first..=place], &segment.observed[first..=place]);
        let fixed = self.description.moments(segment.target);
        let scale = Scale::at_origin(self.description.scaling, values, &running, fixed);
        let covariates = &self.history.periods[segment.period].covariates;
        Some(WindowView { values, observed, covariates, origin: segment.step(place), scale })
    }

    /// Whether an origin can be forecast from: its window is whole and the series warm.
    pub fn is_whole(&self, origin: Origin) -> bool {
        let segment = &self.history.segments[origin.segment as usize];
        let place = origin.place as usize;
        place + 1 >= self.description.lookback && segment.running(place).count >= self.description.warm
    }

    /// The last values at an origin, [`Description::past`] of them, with intervals, if there are.
    pub fn past(&self, origin: Origin) -> &'a [f64] {
        let segment = &self.history.segments[origin.segment as usize];
        let (end, reach) = (origin.place as usize + 1, self.description.past(true));
        &segment.values[end.saturating_sub(reach)..end]
    }

    /// What was known ahead at an origin, `[known x horizon]`.
    pub fn ahead(&self, origin: Origin) -> &'a [f64] {
        let segment = &self.history.segments[origin.segment as usize];
        let period = &self.history.periods[segment.period];
        period.ahead.get(&segment.step(origin.place as usize)).map_or(&[][..], Vec::as_slice)
    }

    /// Writes the inputs of the steps at `places` of a segment as a carried state takes them, `[step][input]`: each is scaled as
    /// when it became known, which is at the next observed step.
    pub fn steps(&self, segment: u32, places: Range<usize>, out: &mut [f32]) {
        let of = &self.history.segments[segment as usize];
        let Description { inputs, scaling, .. } = self.description;
        let covariates = &self.history.periods[of.period].covariates;
        let fixed = self.description.moments(of.target);
        let mut known_at = None;
        let mut scale = Scale::from(fixed);
        for (place, out) in places.zip(out.chunks_exact_mut(inputs.width())) {
            if known_at.is_none_or(|known_at| known_at < place) {
                let next = (place..of.values.len()).find(|place| of.observed[*place]);
                let next = next.expect("a segment ends with what was observed");
                scale = Scale::at_origin(*scaling, &[], &of.running(next), fixed);
                known_at = Some(next);
            }
            let before = place.checked_sub(1).map(|before| of.values[before]);
            let reading = Reading::new(scale, before, of.values[place], of.observed[place]);
            inputs.write_one(self.rules, of.step(place), reading, covariates, out);
        }
    }

    /// The number of a lane among the series of the description: they are listed in the same order, or there are none.
    pub fn own(&self, lane: usize) -> Option<usize> {
        (lane < self.description.series.len()).then_some(lane)
    }

    /// Adds the window, of a lane, to `inputs`.
    pub fn read(&self, origin: Origin, lane: usize, inputs: &mut Inputs) {
        let view = self.view(origin).expect("origins are where windows are whole");
        inputs.add(self.description, self.rules, &view, self.ahead(origin), self.own(lane));
    }

    /// What came in the horizon, NaN where nothing was observed.
    pub fn actuals(&self, origin: Origin) -> impl Iterator<Item = f64> + 'a {
        let segment = &self.history.segments[origin.segment as usize];
        let place = origin.place as usize;
        (place + 1..=place + self.description.horizon).map(move |at| match segment.observed.get(at) {
            Some(true) => segment.values[at],
            _ => f64::NAN,
        })
    }
}
